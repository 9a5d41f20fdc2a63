package report

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/report/plot"
	"github.com/driftwatch/driftwatch/internal/stat"
)

// A Summary is a report as one line of a list; its words and numbers are those of the report.
type Summary struct {
	Change string // "2.41.3 → 2.42.0"; "" where no upgrade was found
	Badges []Badge
	Lead   string // of the worst row: "+101 %", or "" where nothing can be said
	About  string // the endpoint and signal of that row, or what was lacking
	Sure   string // its interval
	Forest template.HTML
	Spark  template.HTML // the worst row over time; "" without pictures
	Drawn  string        // what Spark shows, in words
	Lost   string        // why stored pictures are not drawn
	Done   []Badge       // what was done, or why nothing was
	Next   time.Time     // of the next look; zero after the last
	Last   time.Time     // of the last one
	Search string        // versions, endpoints and words in lower case
}

// Summarize returns the line on r.
func Summarize(r *Report) Summary {
	v := NewView(r)
	s := Summary{Change: cut(v.Change, 100), Badges: v.Badges, Done: v.done()}
	if r.Looks != nil && r.Verdict == Undecided {
		s.Next, s.Last = r.Looks.Next.Time, r.Looks.Last.Time
	}
	find := []string{v.Service, v.Change, r.ID}
	for _, row := range v.Rows {
		if len(find) < maxFound {
			find = append(find, row.Endpoint)
		}
	}
	for _, b := range v.Badges {
		find = append(find, b.Text)
	}
	s.Search = strings.ToLower(strings.Join(find, "\n"))
	if len(v.Rows) == 0 {
		s.About = "no windows could be compared"
		if r.Failure != nil {
			s.About = "no windows could be read"
		}
		return s
	}
	row := v.Rows[0]
	s.About = middle(row.Endpoint, maxName) + " " + row.Signal
	if row.Verdict == NotEnoughData || row.Verdict == CouldNotCheck {
		s.About += ": " + cut(orElse(row.Note, row.Word), 80)
		return s
	}
	s.Lead, s.Sure = minus(row.Change), minus(row.Interval)
	f := row.forest()
	f.Label = cut(f.Label, 200)
	s.Forest = template.HTML(f.SVG()) //nolint:gosec // plot escapes
	s.draw(v, row)
	return s
}

// draw fills in the picture of a row over time.
func (s *Summary) draw(v *View, row Row) {
	p := v.r.Pictures
	if p == nil || v.r.Deploy == nil || v.r.Deploy.At.IsZero() {
		return
	}
	if len(p.Notes) > 0 && p.Columns == 0 {
		s.Lost = cut(printable(strings.Join(p.Notes, "; ")), 120)
		return
	}
	picture := p.of(row.c.Labels, row.c.Signal)
	if picture == nil || p.Columns == 0 {
		return
	}
	t := v.r.timeline([]Row{row})
	s.Spark = template.HTML(plot.Frame{Shape: t.spark(picture)}.Shapes("spark")) //nolint:gosec // plot escapes
	s.Drawn = cut(row.Signal, 40) + " from " + clock(t.from, t.deploy) + " to " + clock(t.to, t.deploy)
}

// spark is a picture as one line, from zero, in the colours of the phases.
func (t timeline) spark(p *Picture) *plot.Shape {
	var x series
	var y []float64
	switch all := p.Values[len(p.Values)-1]; p.Kind {
	case "histogram":
		q, how := float64(p.Quantile), stat.Exponential
		if !p.Quantile.Known() || q <= 0 || q >= 1 {
			q = 0.99
		}
		if !p.Exponential {
			how = stat.InterpolationFor(q)
		}
		x = t.merged(p.Values, t.enough(all, 2/(1-q)))
		cumulative := make([]float64, len(p.Values))
		for i := range x.mid {
			for b := range cumulative {
				cumulative[b] = x.values[b][i]
			}
			value := math.NaN()
			if !math.IsNaN(cumulative[len(cumulative)-1]) {
				r := stat.HistogramQuantile(q, p.Bounds, cumulative, how)
				if value = r.Value; r.AtLeast > 0 {
					value = r.AtLeast
				}
			}
			y = append(y, value)
		}
	case "ratio":
		x = t.merged(p.Values, t.enough(p.Values[0], 8))
		for i := range x.mid {
			y = append(y, x.values[0][i]/x.values[1][i])
		}
	default:
		x = t.merged(p.Values, 1)
		y = slices.Clone(x.values[0])
	}
	top, bottom := 0.0, 0.0
	for i, v := range y {
		if math.IsInf(v, 0) {
			y[i] = math.NaN()
		} else if !math.IsNaN(v) {
			top, bottom = max(top, v), min(bottom, v)
		}
	}
	scale := plot.Linear(bottom, top*1.05)
	for i, v := range y {
		y[i] = scale.At(v)
	}
	shape := &plot.Shape{}
	shape.Vertical("axis", t.at(t.deploy))
	t.line(shape, "w14", x, y)
	return shape
}

// done are the badges behind that of the verdict, with the times that a list has room for, or
// why nothing was done.
func (v *View) done() []Badge {
	r := v.r
	var acted []time.Time
	for _, a := range r.actionsLast() {
		if !a.At.IsZero() {
			acted = append(acted, a.At.Time)
		}
	}
	var out []Badge
	for _, b := range v.Badges[1:] {
		if rest, ok := strings.CutPrefix(b.Text, "Flag off,"); ok && len(acted) == 1 {
			b.Text = "Flag off " + acted[0].UTC().Format("15:04") + "," + rest
		}
		out = append(out, b)
	}
	switch looks := r.Looks; {
	case r.Failure != nil:
		out = append(out, Badge{Text: cut(printable(r.Failure.Title), 120)})
	case r.Verdict == Undecided && looks != nil && looks.Next.IsZero() && r.Deploy != nil && looks.Last.After(r.Deploy.At.Time):
		out = append(out, Badge{Text: "None, watched for " + span(looks.Last.Sub(r.Deploy.At.Time))})
	}
	return out
}

// maxFound is how many endpoints of a report a search looks at.
const maxFound = 1000

// Glyph is the shape of a key of badges and verdicts, as the reports draw it.
func Glyph(key string) template.HTML {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, "glyph", key); err != nil {
		panic(fmt.Sprintf("report: glyph: %v", err)) // the template takes every string
	}
	return template.HTML(b.String()) //nolint:gosec // escaped by its template
}

// KeyOf is the key of the shape and colour that a verdict has, and its words.
func KeyOf(v Verdict) (key, words string) {
	return keyOf(v), capital(strings.ReplaceAll(string(v), "_", " "))
}
