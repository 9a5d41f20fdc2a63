package report

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"
)

// A Summary is a report as one line of a list; its words and numbers are those of the report.
type Summary struct {
	Change string // "2.41.3 → 2.42.0"; "" where no upgrade was found
	Badges []Badge
	Lead   string // of the worst row: "+101 %", or "" where nothing can be said
	About  string // the endpoint and signal of that row, or what was lacking
	Sure   string // its interval
	Forest template.HTML
	Spark  template.HTML // the worst endpoint over time; "" without pictures
	Search string        // versions, endpoints and words in lower case
}

// Summarize returns the line on r.
func Summarize(r *Report) Summary {
	v := NewView(r)
	s := Summary{Change: cut(v.Change, 100), Badges: v.Badges}
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
			s.About = cut(printable(r.Failure.Title), 120)
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
	if r.Pictures == nil {
		return s
	}
	if cards := v.Cards(); len(cards) > 0 && len(cards[0].Time) > 0 {
		s.Spark = template.HTML(cards[0].Time[0].Plot.Shapes("spark")) //nolint:gosec // plot escapes
	}
	return s
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
