package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/report/plot"
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Card is one endpoint that regressed or may have, in pictures.
type Card struct {
	ID       string
	Endpoint string
	Key      string // of its worst verdict
	Word     string
	Rows     []Row
	Time     []Figure // over time, one below the other
	Share    []Figure // beside them
	Head     []string // of Table
	Table    [][]string
	Note     string // why there are no pictures, or fewer; "" = nothing to say
	Queries  []Fact // PromQL by signal

	span [2]float64 // where the rows of Table lie in the plots, 0 to 1
}

// A Figure is a plot with its caption.
type Figure struct {
	Title, Words string
	Plot         plot.Frame
	Ramp         bool // the colours of a heat map belong into the caption
}

// Cards are the endpoints that regressed, or may have, worst first.
func (v *View) Cards() []Card {
	var out []Card
	index := map[string]int{}
	for _, g := range v.Groups {
		for _, row := range g.Rows {
			if row.Verdict != Regressed && !row.c.Suspected {
				continue
			}
			key := fmt.Sprint(row.c.Labels)
			if i, ok := index[key]; ok {
				out[i].Rows = append(out[i].Rows, row)
				continue
			}
			if len(out) == MaxPictureEndpoints {
				continue
			}
			index[key] = len(out)
			out = append(out, Card{ID: "card-" + strconv.Itoa(len(out)+1), Endpoint: row.Endpoint, Key: row.Key, Word: row.Word, Rows: []Row{row}})
		}
	}
	for i := range out {
		v.draw(&out[i])
	}
	return out
}

// A timeline is the columns of a card and the events on them.
type timeline struct {
	r        *Report
	p        *Pictures
	from, to time.Time
	deploy   time.Time // the upgrade was complete
	started  time.Time
	guard    time.Time
	postEnd  time.Time // of the window that was judged
	off      time.Time // the flag went off; zero: it did not
	proved   time.Time
	onset    time.Time
}

func (r *Report) timeline(rows []Row) timeline {
	t := timeline{r: r, p: r.Pictures, deploy: r.Deploy.At.Time, started: r.Deploy.Started.Time}
	if t.started.IsZero() {
		t.started = t.deploy
	}
	t.from, t.to = t.p.Start.Time, t.p.end(t.p.Columns-1)
	if w := r.Windows; w != nil {
		t.guard = t.deploy.Add(seconds(w.GuardS))
		if w.Post != nil {
			t.postEnd = w.Post[1].Time
		}
	}
	for _, row := range rows {
		if o := row.c.Onset; o != nil && t.onset.IsZero() {
			t.onset = o.Time.Time
		}
		for _, a := range r.actionsLast() {
			if a.Flag != row.c.Flag || a.At.IsZero() {
				continue
			}
			t.off, t.proved = a.At.Time, a.At.Time
			if a.VerifiedAfterS != nil {
				t.proved = a.At.Add(seconds(*a.VerifiedAfterS))
			}
		}
	}
	if !t.off.IsZero() && (t.postEnd.IsZero() || t.off.Before(t.postEnd)) {
		t.postEnd = t.off
	}
	return t
}

// at is the place of an instant, 0 to 1.
func (t timeline) at(x time.Time) float64 { return float64(x.Sub(t.from)) / float64(t.to.Sub(t.from)) }

// axis are clock times on round instants.
func (t timeline) axis() []plot.Tick { return clockTicks(t.from, t.to) }

func clockTicks(from, to time.Time) []plot.Tick {
	every := 24 * time.Hour
	for _, d := range []time.Duration{
		10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if to.Sub(from) <= 8*d {
			every = d
			break
		}
	}
	layout := "15:04"
	if every < time.Minute {
		layout = "15:04:05"
	}
	var out []plot.Tick
	for x := from.Truncate(every); !x.After(to); x = x.Add(every) {
		if !x.Before(from) {
			out = append(out, plot.Tick{At: float64(x.Sub(from)) / float64(to.Sub(from)), Text: x.UTC().Format(layout)})
		}
	}
	return out
}

// events draws the lines of the case into a shape.
func (t timeline) events(s *plot.Shape) {
	inside := func(x time.Time) bool { return !x.IsZero() && !x.Before(t.from) && !x.After(t.to) }
	if inside(t.deploy) {
		s.Vertical("k-dep", t.at(t.deploy))
	}
	if inside(t.onset) {
		s.Vertical("k-ons", t.at(t.onset))
	}
	if inside(t.off) {
		s.Vertical("k-off", t.at(t.off))
	}
}

// marks name the lines, each in a tier of its own: they may be seconds apart.
func (t timeline) marks() []plot.Mark {
	ref := t.deploy
	out := []plot.Mark{{At: t.at(t.deploy), Text: "upgrade " + clock(t.deploy, ref), Left: t.at(t.deploy) > 0.25}}
	add := func(x time.Time, name, class string, tier int) {
		if !x.IsZero() && !x.Before(t.from) && !x.After(t.to) {
			out = append(out, plot.Mark{At: t.at(x), Text: name + " " + clock(x.Truncate(time.Second), ref), Class: class, Tier: tier, Left: t.at(x) > 0.7})
		}
	}
	add(t.onset, "onset", "m-ons", 1)
	add(t.off, "flag off", "m-off", 2)
	return out
}

// phases are the spans of before, after and, where a flag went off, since then.
func (t timeline) phases() []phase {
	out := []phase{{"before", t.from, t.started}, {"after", t.started, t.to}}
	if !t.off.IsZero() {
		out[1].to = t.off
		out = append(out, phase{"healed", t.off, t.to})
	}
	return out
}

type phase struct {
	class    string
	from, to time.Time
}

// A series is the columns of a picture, merged.
type series struct {
	merge  int
	mid    []float64 // places of the columns' middles, 0 to 1
	end    []time.Time
	values [][]float64 // summed; NaN where a column is missing
}

// merged sums merge columns at a time, so that the upgrade lies between two of them.
func (t timeline) merged(values []telemetry.Values, merge int) series {
	s := series{merge: merge, values: make([][]float64, len(values))}
	column := seconds(t.p.StepS)
	before := int(math.Round(float64(t.deploy.Sub(t.from)) / float64(column))) // columns before the upgrade
	for from := ((before % merge) + merge) % merge; from+merge <= t.p.Columns; from += merge {
		start, end := t.from.Add(time.Duration(from)*column), t.p.end(from+merge-1)
		s.mid = append(s.mid, (t.at(start)+t.at(end))/2)
		s.end = append(s.end, end)
		for i, v := range values {
			sum := 0.0
			for j := from; j < from+merge; j++ {
				sum += v[j]
			}
			s.values[i] = append(s.values[i], sum)
		}
	}
	return s
}

// enough is the least merge of which half the columns hold at least need of the values.
func (t timeline) enough(v telemetry.Values, need float64) int {
	for _, m := range Merges {
		if t.p.Columns/m < 12 {
			break
		}
		x := slices.DeleteFunc(t.merged([]telemetry.Values{v}, m).values[0], math.IsNaN)
		slices.Sort(x)
		if len(x) > 0 && x[len(x)/2] >= need {
			return m
		}
	}
	m := 1
	for _, n := range Merges {
		if t.p.Columns/n >= 12 {
			m = n
		}
	}
	return m
}

// width is how long a merged column is, in words: "per 3 s".
func (t timeline) width(merge int) string {
	d := seconds(t.p.StepS * float64(merge))
	switch d {
	case time.Minute:
		return "per minute"
	case time.Second:
		return "per second"
	case time.Hour:
		return "per hour"
	}
	return "per " + span(d)
}

// line draws y in the colour of each phase. The phases share no column, so that a line never
// runs across the upgrade.
func (t timeline) line(s *plot.Shape, class string, x series, y []float64) {
	for _, ph := range t.phases() {
		part := make([]float64, len(y))
		for i := range y {
			part[i] = math.NaN()
			if mid := x.mid[i]; mid >= t.at(ph.from) && mid < t.at(ph.to) {
				part[i] = y[i]
			}
		}
		s.Path("ln s-"+ph.class+" "+class, x.mid, part)
	}
}

// settle shades the time that is left out of the comparison, and gaps without data.
func (t timeline) settle(s *plot.Shape) {
	if t.guard.After(t.started) {
		s.Rect("settle", t.at(t.started), 0, min(1, t.at(t.guard)), 1)
	}
}

// gaps hatches columns in which something is missing.
func gaps(s *plot.Shape, x series, values []float64) {
	if len(x.mid) < 2 {
		return
	}
	half := (x.mid[1] - x.mid[0]) / 2
	for i, v := range values {
		if math.IsNaN(v) {
			s.Rect("gap", x.mid[i]-half, 0, x.mid[i]+half, 1)
		}
	}
}

func anyMissing(values []float64) bool { return slices.ContainsFunc(values, math.IsNaN) }

// draw fills in the pictures of a card.
func (v *View) draw(c *Card) {
	r := v.r
	labels := c.Rows[0].c.Labels
	if r.Pictures == nil || r.Deploy == nil || r.Deploy.At.IsZero() {
		c.Note = "This record holds no pictures."
		return
	}
	if len(r.Pictures.Notes) > 0 {
		c.Note = "Not read: " + cut(printable(strings.Join(r.Pictures.Notes, "; ")), 300) + "."
	}
	if r.Pictures.Columns == 0 {
		return
	}
	t := r.timeline(c.Rows)
	var table *series
	var columns []column
	seen := false
	for i := range r.Pictures.Rows {
		p := &r.Pictures.Rows[i]
		if r.Pictures.of(labels, p.Signal) != p {
			continue
		}
		seen = true
		switch p.Kind {
		case "histogram":
			s, cols := t.histogram(c, p)
			if table == nil {
				table, columns = &s, append(cols, columns...)
			}
		case "ratio":
			t.ratio(c, p)
		case "gauge":
			t.gauge(c, p)
		}
		if p.Expr != "" {
			c.Queries = append(c.Queries, Fact{cut(printable(p.Signal), 30), printable(p.Expr)})
		}
	}
	if !seen && c.Note == "" {
		c.Note = "Of this endpoint no pictures were kept."
	}
	for _, x := range r.Pictures.Exposure {
		if slices.ContainsFunc(c.Rows, func(row Row) bool { return string(row.c.Flag) == x.Flag }) {
			t.exposure(c, x)
			c.Queries = append(c.Queries, Fact{"exposure of " + cut(printable(x.Flag), 60), printable(x.Expr)})
		}
	}
	t.table(c, table, columns)
}

// interpolation is how quantile q is read from the buckets of p.
func (p *Picture) interpolation(q float64) stat.Interpolation {
	if p.Exponential {
		return stat.Exponential
	}
	return stat.InterpolationFor(q)
}

// band is that of columns drawn merge at a time.
func (p *Picture) band(merge int) (Band, bool) {
	i := slices.IndexFunc(p.Bands, func(b Band) bool { return b.Columns == merge })
	if i < 0 {
		return Band{}, false
	}
	return p.Bands[i], true
}

// draw draws b and says what it is.
func (b Band) draw(s *plot.Shape, y plot.Scale) string {
	s.Rect("band", 0, y.Inside(b.Low), 1, y.Inside(b.High))
	return fmt.Sprintf("The band holds 95 %% of %s stretches of the same length before the baseline.", count(Number(b.Stretches)))
}

// A column of the table of a card, in the columns of a series.
type column struct {
	head string
	cell func(i int) string
}

// histogram draws quantiles over time, the heat map and the exceedance of a latency.
func (t timeline) histogram(c *Card, p *Picture) (series, []column) {
	q := float64(p.Quantile)
	if !p.Quantile.Known() || q <= 0 || q >= 1 {
		q = 0.99
	}
	all := p.Values[len(p.Values)-1]
	s := t.merged(p.Values, t.enough(all, 2/(1-q)))
	name := cut(printable(p.Signal), 30)
	n := len(s.mid)
	cumulative := func(i int) []float64 {
		cum := make([]float64, len(p.Values))
		for b := range cum {
			cum[b] = s.values[b][i]
		}
		return cum
	}
	quantiles := []float64{0.5, 0.95, q}
	if q <= 0.95 {
		quantiles = []float64{0.5, q}
	}
	lines := make([][]float64, len(quantiles))
	over := false
	top := 0.0
	for j, q := range quantiles {
		how := p.interpolation(q)
		for i := range n {
			x := math.NaN()
			if cum := cumulative(i); !math.IsNaN(cum[len(cum)-1]) {
				reading := stat.HistogramQuantile(q, p.Bounds, cum, how)
				if x = reading.Value; reading.AtLeast > 0 {
					x, over = reading.AtLeast, true
				}
			}
			lines[j] = append(lines[j], x)
			if x > top {
				top = x
			}
		}
	}
	before := t.sum(p, t.from, t.started)
	after := t.sum(p, t.guardEnd(), t.postEnd)
	healed := []float64(nil)
	if !t.off.IsZero() {
		healed = t.sum(p, t.proved, t.to)
	}
	band, stretches := t.latencyBand(p, q, s.merge, before, after)
	if band[1] < 3*top { // a band far above all lines would only flatten them
		top = max(top, band[1])
	}
	scaleTop, ticks := roundTicks(top, "s")
	y := plot.Linear(0, scaleTop)
	shape := &plot.Shape{}
	t.settle(shape)
	shape.Horizontal("grid", places(ticks)...)
	words := ""
	if stretches > 0 {
		shape.Rect("band", 0, y.Inside(band[0]), 1, y.Inside(band[1]))
		words = fmt.Sprintf("The band is where %s lay in 95 %% of %s stretches of the same length before the baseline.", quantileName(Number(q)), count(Number(stretches)))
	}
	gaps(shape, s, s.values[len(s.values)-1])
	var right []plot.Tick
	for j := range quantiles {
		weight := []string{"w50", "w95", "w99"}[min(j+3-len(quantiles), 2)]
		if len(quantiles) == 2 && j == 0 {
			weight = "w50"
		}
		scaled := make([]float64, n)
		for i, x := range lines[j] {
			scaled[i] = y.At(x)
		}
		t.line(shape, weight, s, scaled)
		for i := n - 1; i >= 0; i-- {
			if !math.IsNaN(lines[j][i]) {
				right = append(right, plot.Tick{At: y.Inside(lines[j][i]), Text: quantileName(Number(quantiles[j]))})
				break
			}
		}
	}
	t.events(shape)
	title := capital(name) + " " + t.width(s.merge) + "."
	if over {
		words += " Lines at the top of the buckets lie at or beyond the last bound."
	}
	if anyMissing(s.values[len(s.values)-1]) {
		words += " Hatched: samples are missing, and nothing is drawn across."
	}
	c.Time = append(c.Time, Figure{title, strings.TrimSpace(words), plot.Frame{
		Label: fmt.Sprintf("%s of %s over time, %s", list(names(quantiles)), c.Endpoint, t.width(s.merge)), Words: t.told(p, q, before, after, healed),
		Height: 250, X: t.axis(), Y: ticks, Right: apart(right, 0.055), Marks: t.marks(), Shape: shape,
	}, false})
	t.heat(c, p, name)
	t.exceedance(c, p, q, name, before, after, healed)

	cols := []column{{"Requests", func(i int) string { return count(Number(s.values[len(s.values)-1][i])) }}}
	for j, q := range quantiles {
		cols = append(cols, column{quantileName(Number(q)), func(i int) string {
			digits, unit := level(Level{Value: Number(lines[j][i]), AtLeast: None()}, "s")
			return digits + unit
		}})
	}
	if k := slices.Index(p.Bounds, p.Tail); k >= 0 {
		digits, unit := split(p.Tail, "s")
		cols = append(cols, column{"slower than " + digits + unit, func(i int) string {
			all := s.values[len(s.values)-1][i]
			if x := (all - s.values[k][i]) / all; !math.IsNaN(x) {
				return share(x)
			}
			return unknown
		}})
	}
	return s, cols
}

func names(quantiles []float64) []string {
	var out []string
	for _, q := range quantiles {
		out = append(out, quantileName(Number(q)))
	}
	return out
}

// guardEnd is where the window that was judged begins.
func (t timeline) guardEnd() time.Time {
	if t.guard.IsZero() {
		return t.deploy
	}
	return t.guard
}

// sum adds up the columns that lie within a span; missing ones are left out. Nil: none did.
func (t timeline) sum(p *Picture, from, to time.Time) []float64 {
	out := make([]float64, len(p.Values))
	n := 0
	for i := range t.p.Columns {
		end := t.p.end(i)
		if start := end.Add(-seconds(t.p.StepS)); start.Before(from) || end.After(to) || math.IsNaN(p.Values[len(p.Values)-1][i]) {
			continue
		}
		n++
		for b := range out {
			out[b] += p.Values[b][i]
		}
	}
	if n == 0 || !(out[len(out)-1] > 0) {
		return nil
	}
	return out
}

// told is the latency picture in words.
func (t timeline) told(p *Picture, q float64, before, after, healed []float64) string {
	how := p.interpolation(q)
	say := func(cum []float64) string {
		if cum == nil {
			return unknown
		}
		r := stat.HistogramQuantile(q, p.Bounds, cum, how)
		l := Level{Value: Number(r.Value), AtLeast: None()}
		if r.AtLeast > 0 {
			l.AtLeast = Number(r.AtLeast)
		}
		digits, unit := level(l, "s")
		return digits + unit
	}
	s := fmt.Sprintf("Over the whole span %s is %s before the upgrade at %s and %s after it", quantileName(Number(q)), say(before), clock(t.deploy, t.deploy), say(after))
	if healed != nil {
		s += ", and " + say(healed) + " since the flag went off at " + clock(t.off, t.deploy)
	}
	return s + "."
}

// latencyBand turns the history's share beyond the tail's bound into latencies of quantile q,
// by the power law that the report's change is computed with: bound (share / (1 - q))^(1/slope),
// slope the steepness of the survival between the bounds on either side.
func (t timeline) latencyBand(p *Picture, q float64, merge int, before, after []float64) (band [2]float64, stretches int) {
	k := slices.Index(p.Bounds, p.Tail)
	b, ok := p.band(merge)
	if !ok || k <= 0 || k+1 >= len(p.Bounds) || before == nil {
		return band, 0
	}
	survival := func(b int) float64 {
		x, n := before[len(before)-1]-before[b], before[len(before)-1]
		if after != nil {
			x, n = x+after[len(after)-1]-after[b], n+after[len(after)-1]
		}
		return max(x, 0.5) / n
	}
	slope := math.Log(survival(k-1)/survival(k+1)) / math.Log(p.Bounds[k+1]/p.Bounds[k-1])
	if !(slope > 0.1) {
		return band, 0
	}
	of := func(share float64) float64 { return p.Tail * math.Pow(share/(1-q), 1/slope) }
	band = [2]float64{of(b.Low), of(b.High)}
	if !(band[1] > 0) {
		return band, 0
	}
	return band, b.Stretches
}

// heatSteps are the shares of a column's requests at which a cell becomes one step darker.
var heatSteps = []float64{0.0008, 0.003, 0.01, 0.03, 0.06, 0.10}

// maxHeatRows is how many rows a heat map has at most: native histograms have hundreds.
const maxHeatRows = 32

// heat draws where the requests are.
func (t timeline) heat(c *Card, p *Picture, name string) {
	all := p.Values[len(p.Values)-1]
	merge := 1
	if t.p.Columns > 70 {
		merge = 2
	}
	merge = max(merge, t.enough(all, 60))
	s := t.merged(p.Values, merge)
	n, last := len(s.mid), len(p.Values)-1
	if n < 2 {
		return
	}
	// The rows that hold something, a few buckets each where there are many.
	low, high := len(p.Bounds), -1
	for b := range p.Values {
		total := 0.0
		for i := range n {
			x := s.values[b][i]
			if b > 0 {
				x -= s.values[b-1][i]
			}
			if !math.IsNaN(x) {
				total += x
			}
		}
		if total > 0.5 {
			low, high = min(low, b), max(high, b)
		}
	}
	if high < 0 {
		return
	}
	edge := func(b int) float64 { // lower edge of bucket b
		switch {
		case b <= 0:
			if p.Bounds[0] <= 0 {
				return math.NaN()
			}
			return p.Bounds[0] / 2
		case b > len(p.Bounds):
			return p.Bounds[len(p.Bounds)-1] * 2
		}
		return p.Bounds[b-1]
	}
	if math.IsNaN(edge(low)) || edge(low) <= 0 {
		return
	}
	y := plot.Log(edge(low), edge(high+1))
	rows := (high - low + maxHeatRows) / maxHeatRows
	half := (s.mid[1] - s.mid[0]) / 2
	cells := make([][][4]float64, len(heatSteps)+1)
	for i := range n {
		for b := low; b <= high; b += rows {
			to := min(b+rows-1, high)
			x := s.values[to][i]
			if b > 0 {
				x -= s.values[b-1][i]
			}
			part := x / s.values[last][i]
			if !(part > 0) {
				continue
			}
			k := 0
			for k < len(heatSteps) && part >= heatSteps[k] {
				k++
			}
			cells[k] = append(cells[k], [4]float64{s.mid[i] - half, y.At(edge(b)), s.mid[i] + half, y.At(edge(to + 1))})
		}
	}
	shape := &plot.Shape{}
	gaps(shape, s, s.values[last])
	for k := range cells {
		shape.Cells("hm"+strconv.Itoa(k+1), cells[k])
	}
	t.events(shape)
	ticks := logTicks(edge(low), edge(high+1), y, secondsTick)
	words := "Share of the requests " + t.width(merge) + " in each bucket"
	if high == len(p.Bounds) {
		words += "; the top row is everything beyond the last bound"
	}
	c.Time = append(c.Time, Figure{"Where the requests are.", words + ".", plot.Frame{
		Label:  fmt.Sprintf("Heat map of %s of %s: how the requests are distributed over the buckets, %s", name, c.Endpoint, t.width(merge)),
		Words:  "The cells are darker where more of the requests of that time lie.",
		Height: 230, X: t.axis(), Y: ticks, Shape: shape,
	}, true})
}

func secondsTick(x float64) string {
	if x < 1 {
		return strconv.FormatFloat(math.Round(x*1e6)/1e3, 'f', -1, 64) + " ms"
	}
	return strconv.FormatFloat(x, 'f', -1, 64) + " s"
}

// logTicks are 1, 2 and 5 times the powers of ten, or the powers alone where that is too many.
func logTicks(low, high float64, y plot.Scale, text func(float64) string) []plot.Tick {
	steps := []float64{1, 2, 5}
	if high/low > 3000 {
		steps = []float64{1}
	}
	var out []plot.Tick
	for e := int(math.Floor(math.Log10(low))); e <= int(math.Ceil(math.Log10(high))); e++ {
		for _, m := range steps {
			x, _ := strconv.ParseFloat(fmt.Sprintf("%ge%d", m, e), 64) // 5e-3 as it is written, not 0.005000000000000001
			if at := y.At(x); at >= 0 && at <= 1 {
				out = append(out, plot.Tick{At: at, Text: text(x)})
			}
		}
	}
	return out
}

// exceedance draws the share of requests slower than any latency, before and after.
func (t timeline) exceedance(c *Card, p *Picture, q float64, name string, before, after, healed []float64) {
	type curve struct {
		class string
		cum   []float64
	}
	curves := []curve{{"before", before}, {"after", after}, {"healed", healed}}
	low, high, least := math.Inf(1), 0.0, 1.0
	for _, k := range curves {
		if k.cum == nil {
			continue
		}
		for b, s := range survival(k.cum) {
			if bound := p.Bounds[b]; bound > 0 {
				if s < 0.995 {
					low = min(low, bound)
				}
				high, least = max(high, bound), min(least, s)
			}
		}
	}
	if before == nil || !(high > low) || !(least < 1) {
		return
	}
	bottom := math.Pow(10, math.Floor(math.Log10(least)))
	bottom = max(bottom, 1e-5)
	x, y := plot.Log(low, high), plot.Log(bottom, 1)
	shape := &plot.Shape{}
	var yt []plot.Tick
	for d := 1.0; d >= bottom*0.99; d /= 10 {
		yt = append(yt, plot.Tick{At: y.At(d), Text: share(math.Round(d*1e7) / 1e7)})
	}
	xt := logTicks(low, high, x, secondsTick)
	for len(xt) > 9 {
		xt = everySecond(xt)
	}
	shape.Horizontal("grid", places(yt)...)
	shape.Vertical("grid", places(xt)...)
	var notes []plot.Note
	var dots [2]float64
	how := p.interpolation(q)
	for k, curve := range curves {
		if curve.cum == nil {
			continue
		}
		var xs, ys []float64
		for b, s := range survival(curve.cum) {
			if p.Bounds[b] >= low {
				xs, ys = append(xs, x.At(p.Bounds[b])), append(ys, y.At(s))
			}
		}
		shape.Path("ln s-"+curve.class+" x-"+curve.class, xs, ys)
		reading := stat.HistogramQuantile(q, p.Bounds, curve.cum, how)
		if k < 2 && !math.IsNaN(reading.Value) && reading.Value >= low {
			at := x.Inside(reading.Value)
			dots[k] = at
			shape.Dots("dot dot8 s-"+curve.class, []float64{at}, []float64{y.Inside(1 - q)})
			digits, unit := split(reading.Value, "s")
			note := plot.Note{X: at - 0.02, Y: y.Inside(1-q) - 0.05, Text: quantileName(Number(q)) + " " + digits + unit, Class: "n-before", Anchor: "end"}
			if k == 1 {
				note = plot.Note{X: at + 0.02, Y: y.Inside(1-q) + 0.05, Text: digits + unit, Class: "n-after"}
				switch {
				case at > 0.8 && at-dots[0] > 0.22: // below the shift, where neither curve passes
					note.X, note.Y, note.Anchor = at-0.02, y.Inside(1-q)-0.05, "end"
				case at > 0.8:
					note.X, note.Anchor = at-0.02, "end"
				}
			}
			notes = append(notes, note)
		}
	}
	if dots[0] > 0 && dots[1] > 0 {
		shape.Path("shift", dots[:], []float64{y.Inside(1 - q), y.Inside(1 - q)})
	}
	words := "Both axes are logarithmic, so that the tail is visible. Over the baseline and the post-upgrade window."
	if healed != nil {
		words += " Dashed: since the flag went off."
	}
	c.Share = append(c.Share, Figure{"Share of requests slower than …", words, plot.Frame{
		Label: fmt.Sprintf("Share of requests of %s slower than a given %s, before and after, both axes logarithmic", c.Endpoint, name), Words: t.told(p, q, before, after, healed),
		Height: 290, X: sparse(xt, 0.2), Y: yt, Notes: notes, Shape: shape,
	}, false})
}

// survival is the share of requests slower than each bound, up to the first bound that none
// exceeds: there it is half a request, as stat.HistogramQuantile reads it, so that the line runs
// through the quantiles that are told.
func survival(cum []float64) []float64 {
	n := cum[len(cum)-1]
	var out []float64
	for _, c := range cum[:len(cum)-1] {
		if n-c < 0.5 {
			return append(out, 0.5/n)
		}
		out = append(out, (n-c)/n)
	}
	return out
}

// sparse leaves out what is nearer than gap to the tick before: names of a narrow plot would touch.
func sparse(ticks []plot.Tick, gap float64) []plot.Tick {
	var out []plot.Tick
	for _, t := range ticks {
		if len(out) == 0 || t.At-out[len(out)-1].At >= gap {
			out = append(out, t)
		}
	}
	return out
}

func everySecond(ticks []plot.Tick) []plot.Tick {
	var out []plot.Tick
	for i := 0; i < len(ticks); i += 2 {
		out = append(out, ticks[i])
	}
	return out
}

// ratio draws events per request with the interval that counting alone gives.
func (t timeline) ratio(c *Card, p *Picture) {
	name := cut(printable(p.Signal), 30)
	merge := t.enough(p.Values[0], 8)
	for _, m := range Merges {
		if m >= merge && t.p.Columns/m <= 40 {
			merge = m
			break
		}
	}
	s := t.merged(p.Values, merge)
	n := len(s.mid)
	rate, low, high := make([]float64, n), make([]float64, n), make([]float64, n)
	top := 0.0
	for i := range n {
		events, requests := s.values[0][i], s.values[1][i]
		rate[i] = events / requests
		if math.IsInf(rate[i], 0) {
			rate[i] = math.NaN()
		}
		a, b := poisson99(events)
		low[i], high[i] = a/requests, b/requests
		if math.IsNaN(rate[i]) {
			low[i], high[i] = math.NaN(), math.NaN()
			continue
		}
		top = max(top, rate[i]*1.1, min(high[i], 2*rate[i]+1e-9))
	}
	band, banded := p.band(merge)
	if banded {
		top = max(top, band.High)
	}
	scaleTop, ticks := roundTicks(top, "1")
	y := plot.Linear(0, scaleTop)
	shape := &plot.Shape{}
	t.settle(shape)
	shape.Horizontal("grid", places(ticks)...)
	words := "With the 99 % interval that counting alone gives."
	if banded {
		words += " " + band.draw(shape, y)
	}
	gaps(shape, s, s.values[1])
	for _, ph := range t.phases() {
		var x, r, l, h []float64
		for i := range n {
			if s.mid[i] >= t.at(ph.from) && s.mid[i] < t.at(ph.to) {
				x, r, l, h = append(x, s.mid[i]), append(r, y.At(rate[i])), append(l, y.Inside(low[i])), append(h, y.Inside(high[i]))
			}
		}
		shape.Whiskers("ln w14 s-"+ph.class, x, l, h)
		shape.Dots("dot dot6 s-"+ph.class, x, r)
	}
	t.events(shape)
	before, after := t.sum(p, t.from, t.started), t.sum(p, t.guardEnd(), t.postEnd)
	told := ""
	if before != nil && after != nil {
		told = fmt.Sprintf("%s of requests before the upgrade, %s after it", share(before[0]/before[1]), share(after[0]/after[1]))
		if healed := t.sum(p, t.proved, t.to); !t.off.IsZero() && healed != nil {
			told += ", " + share(healed[0]/healed[1]) + " since the flag went off"
		}
		told += "."
	}
	c.Time = append(c.Time, Figure{capital(name) + ", share of requests, " + t.width(merge) + ".", words, plot.Frame{
		Label: fmt.Sprintf("%s per request of %s over time with 99 %% intervals, %s", capital(name), c.Endpoint, t.width(merge)), Words: told,
		Height: 150, X: t.axis(), Y: ticks, Marks: onlyIf(len(c.Time) == 0, t.marks()), Shape: shape,
	}, false})
}

func onlyIf(yes bool, marks []plot.Mark) []plot.Mark {
	if yes {
		return marks
	}
	return nil
}

// poisson99 is the 99 % interval of a count (Byar's approximation, Breslow and Day 1987).
func poisson99(n float64) (low, high float64) {
	const z = 2.5758
	if n > 0 {
		low = n * math.Pow(1-1/(9*n)-z/(3*math.Sqrt(n)), 3)
	}
	m := n + 1
	return max(low, 0), m * math.Pow(1-1/(9*m)+z/(3*math.Sqrt(m)), 3)
}

// gauge draws a level over time.
func (t timeline) gauge(c *Card, p *Picture) {
	name := cut(printable(p.Signal), 30)
	s := t.merged(p.Values, 1)
	top, bottom := 0.0, 0.0
	for _, v := range s.values[0] {
		if !math.IsNaN(v) {
			top, bottom = max(top, v), min(bottom, v)
		}
	}
	unit := ""
	for _, row := range c.Rows {
		if row.c.Signal == p.Signal {
			unit = row.c.Unit
		}
	}
	scaleTop, ticks := roundTicks(top, unit)
	if bottom < 0 {
		ticks = nil
	}
	y := plot.Linear(bottom, scaleTop)
	shape := &plot.Shape{}
	t.settle(shape)
	shape.Horizontal("grid", places(ticks)...)
	words := ""
	if b, ok := p.band(1); ok {
		words = b.draw(shape, y)
	}
	gaps(shape, s, s.values[0])
	scaled := make([]float64, len(s.mid))
	for i, v := range s.values[0] {
		scaled[i] = y.At(v)
	}
	t.line(shape, "w99", s, scaled)
	t.events(shape)
	c.Time = append(c.Time, Figure{capital(name) + " " + t.width(1) + ".", words, plot.Frame{
		Label: fmt.Sprintf("%s of %s over time", capital(name), c.Endpoint), Height: 150, X: t.axis(), Y: ticks, Marks: onlyIf(len(c.Time) == 0, t.marks()), Shape: shape,
	}, false})
}

// exposure draws the share of requests that met the flag's suspect variant.
func (t timeline) exposure(c *Card, x ExposurePicture) {
	flag := cut(printable(x.Flag), maxName)
	shape := &plot.Shape{}
	var px, low, high []float64
	for i, v := range x.Values {
		v = min(max(v, 0), 1)
		end := t.at(t.p.end(i))
		px, low, high = append(px, end-1/float64(t.p.Columns), end), append(low, 0*v, 0*v), append(high, v, v)
	}
	shape.Area("expo", px, low, high)
	shape.Horizontal("axis", 0)
	t.events(shape)
	c.Time = append(c.Time, Figure{"Flag exposure.", "Share of requests that met " + flag + ". Nothing is drawn where nobody asked for it.", plot.Frame{
		Label: fmt.Sprintf("Share of requests that met the suspect variant of %s over time", flag), Height: 44,
		X: t.axis(), Y: []plot.Tick{{At: 1, Text: "100 %"}, {At: 0, Text: "0"}}, Shape: shape,
	}, false})
}

// table is the numbers of a card's time pictures, which is also what the crosshair reads out.
func (t timeline) table(c *Card, s *series, columns []column) {
	var ratios []*Picture
	for i := range t.p.Rows {
		if p := &t.p.Rows[i]; p.Kind == "ratio" && t.p.of(c.Rows[0].c.Labels, p.Signal) == p {
			ratios = append(ratios, p)
		}
	}
	if s == nil {
		if len(ratios) == 0 {
			return
		}
		x := t.merged(ratios[0].Values, t.enough(ratios[0].Values[0], 8))
		s = &x
		columns = []column{{"Requests", func(i int) string { return count(Number(x.values[1][i])) }}}
	}
	for _, p := range ratios {
		x := t.merged(p.Values, s.merge)
		columns = append(columns, column{capital(cut(printable(p.Signal), 30)), func(i int) string {
			if rate := x.values[0][i] / x.values[1][i]; !math.IsNaN(rate) && !math.IsInf(rate, 0) {
				digits, unit := split(rate, "1")
				return digits + unit
			}
			return unknown
		}})
	}
	for _, x := range t.p.Exposure {
		if !slices.ContainsFunc(c.Rows, func(row Row) bool { return string(row.c.Flag) == x.Flag }) {
			continue
		}
		columns = append(columns, column{"Exposure", func(i int) string {
			at := int(math.Round(float64(s.end[i].Sub(t.from))/float64(seconds(t.p.StepS)))) - 1
			if at < 0 || at >= len(x.Values) || math.IsNaN(x.Values[at]) {
				return unknown
			}
			return share(x.Values[at])
		}})
	}
	if n := len(s.mid); n > 1 {
		half := (s.mid[1] - s.mid[0]) / 2
		c.span = [2]float64{s.mid[0] - half, s.mid[n-1] + half}
	}
	c.Head = []string{"Until, UTC"}
	for _, col := range columns {
		c.Head = append(c.Head, col.head)
	}
	for i := range s.mid {
		row := []string{clock(s.end[i], t.deploy)}
		for _, col := range columns {
			row = append(row, col.cell(i))
		}
		c.Table = append(c.Table, row)
	}
}

func places(ticks []plot.Tick) []float64 {
	var out []float64
	for _, t := range ticks {
		out = append(out, t.At)
	}
	return out
}

// roundTicks is a round top of a linear axis from 0 that holds x, and its ticks in unit.
func roundTicks(x float64, unit string) (top float64, ticks []plot.Tick) {
	if !(x > 0) {
		x = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(x/3)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if x/(m*step) <= 4.2 {
			step *= m
			break
		}
	}
	n := int(math.Ceil(x/step - 0.2))
	n = max(n, 1)
	top = max(float64(n)*step, x)
	for i := 0; i <= n; i++ {
		digits, suffix := split(math.Round(float64(i)*step*1e9)/1e9, unit)
		ticks = append(ticks, plot.Tick{At: float64(i) * step / top, Text: trimZeros(digits) + suffix})
		if i == 0 {
			ticks[0].Text = "0"
		}
	}
	return top, ticks
}

// trimZeros is a number without the zeros that three digits bring: "2.00" is "2".
func trimZeros(s string) string {
	if strings.Contains(s, ".") && !strings.Contains(s, "e") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// apart moves labels of one axis at least gap from each other.
func apart(ticks []plot.Tick, gap float64) []plot.Tick {
	slices.SortFunc(ticks, func(a, b plot.Tick) int { return int(math.Copysign(1, a.At-b.At)) })
	for i := 1; i < len(ticks); i++ {
		ticks[i].At = max(ticks[i].At, ticks[i-1].At+gap)
	}
	return ticks
}

// ribbon is the windows of the case on one axis.
func (v *View) ribbon() (plot.Frame, bool) {
	r := v.r
	w := r.Windows
	if w == nil || r.Deploy == nil || r.Deploy.At.IsZero() {
		return plot.Frame{}, false
	}
	t := timeline{r: r, p: r.Pictures, deploy: r.Deploy.At.Time, started: r.Deploy.Started.Time, from: w.Baseline[0].Time, to: r.Now.Time}
	if t.started.IsZero() {
		t.started = t.deploy
	}
	t.guard = t.deploy.Add(seconds(w.GuardS))
	post := t.deploy
	if w.Post != nil {
		post = w.Post[1].Time
	}
	for _, a := range r.actionsLast() {
		if !a.At.IsZero() && (a.Outcome == Verified || a.Outcome == WrittenNotVerified) {
			t.off = a.At.Time
		}
	}
	if !t.off.IsZero() && t.off.Before(post) {
		post = t.off
	}
	for _, x := range []time.Time{post, r.Recovery.Confirmed.Time} {
		if x.After(t.to) {
			t.to = x
		}
	}
	if looks := r.Looks; looks != nil && !looks.Next.IsZero() && looks.Last.After(t.to) {
		t.to = looks.Last.Time
	}
	if rows := r.of(Regressed); len(rows) > 0 && rows[0].Onset != nil {
		t.onset = rows[0].Onset.Time.Time
	}
	shape := &plot.Shape{}
	shape.Horizontal("axis", 0)
	shape.Rect("f-before o28", t.at(w.Baseline[0].Time), 0.12, t.at(w.Baseline[1].Time), 0.88)
	words := "Baseline " + clock(w.Baseline[0].Time, t.deploy) + " to " + clock(w.Baseline[1].Time, t.deploy)
	notes := []plot.Note{{X: (t.at(w.Baseline[0].Time) + t.at(w.Baseline[1].Time)) / 2, Y: 0.5, Text: "baseline, " + span(w.Baseline[1].Sub(w.Baseline[0].Time)), Class: "n-in", Anchor: "middle"}}
	if t.guard.After(t.started) {
		shape.Rect("settle", t.at(t.started), 0.12, min(1, t.at(t.guard)), 0.88)
		words += ", settle time until " + clock(t.guard, t.deploy)
	}
	if w.Post != nil && post.After(t.guard) {
		shape.Rect("f-after o42", t.at(t.guard), 0.12, t.at(post), 0.88)
		words += ", post-upgrade window until " + clock(post, t.deploy)
		if wide := t.at(post) - t.at(t.guard); wide > 0.16 {
			notes = append(notes, plot.Note{X: t.at(t.guard) + wide/2, Y: 0.5, Text: "post-upgrade, " + span(post.Sub(t.guard)), Class: "n-in", Anchor: "middle"})
		}
	}
	if !t.off.IsZero() && r.Recovery.State != RecoveryNone {
		end := r.Recovery.Confirmed.Time
		if end.IsZero() {
			end = r.Now.Time
		}
		shape.Rect("f-healed o36", t.at(t.off), 0.12, min(1, t.at(end)), 0.88)
		words += ", recovery watched until " + clock(end.Truncate(time.Second), t.deploy)
		if wide := min(1, t.at(end)) - t.at(t.off); wide > 0.12 {
			notes = append(notes, plot.Note{X: t.at(t.off) + wide/2, Y: 0.5, Text: "recovery watch", Class: "n-in", Anchor: "middle"})
		}
	}
	t.events(shape)
	return plot.Frame{Label: "The windows that are compared", Words: words + ".", Height: 40, X: t.axis(), Marks: t.marks(), Notes: notes, Shape: shape}, true
}

// changeScale is the scale of all changes, in every format: -27 to +520 %.
func changeScale() plot.Scale { return plot.Change(axisLow, axisHigh) }

// forest is a row on the scale of changes.
func (row Row) forest() plot.Forest {
	c := row.c
	minimum := float64(c.Change.MinimumEffect)
	if c.Direction == "down" {
		minimum = -minimum
	}
	known := c.Change.CI99[0].Known() || c.Change.CI99[1].Known()
	f := plot.Forest{
		Class: "c-" + row.Key, Change: float64(c.Change.Ratio), Low: float64(c.Change.CI99[0]), High: float64(c.Change.CI99[1]),
		Low80: math.NaN(), High80: math.NaN(), Minimum: minimum, Scale: changeScale(), OpenBelow: known && !c.Change.CI99[0].Known(), OpenOver: known && !c.Change.CI99[1].Known(),
	}
	if ci := c.Change.CI80; ci != nil {
		f.Low80, f.High80 = float64(ci[0]), float64(ci[1])
	}
	f.Label = row.Endpoint + " " + row.Signal + ": change " + row.Change
	if row.Interval != "" {
		f.Label += ", 99 % interval " + row.Interval
	}
	return f
}

// changeTicks is the axis of changes, as far as there is room in the narrowest table.
func changeTicks() []plot.Tick {
	var out []plot.Tick
	s := changeScale()
	for _, x := range []float64{-0.2, 0, 0.1, 1, 4} {
		text := "0"
		if x != 0 {
			text = fmt.Sprintf("%+.0f", x*100)
		}
		out = append(out, plot.Tick{At: s.At(x), Text: text})
	}
	return out
}
