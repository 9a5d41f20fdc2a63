// Package plot draws numbers as SVG. It is pure: the same numbers give the same bytes, with
// one decimal of a thousandth of the plot's side and no more.
//
// Geometry is drawn in a stretched viewBox and keeps the width of its strokes; text is placed
// in per cent beside and above it and keeps its size, so that one plot serves a phone, a wide
// screen and paper. No style attribute is written, so that a strict content security policy
// holds; classes and custom properties of the page colour everything. All text is escaped here.
// It knows no endpoint, no unit and no verdict.
package plot

import (
	"html"
	"math"
	"strconv"
	"strings"
)

// A Scale maps values to 0 (low) up to 1 (high).
type Scale struct {
	low, high float64
	warp      func(float64) float64
}

// Linear is a scale from low to high; if both are the same, one around them.
func Linear(low, high float64) Scale {
	return newScale(low, high, func(x float64) float64 { return x })
}

// Log is a logarithmic scale; low is above 0.
func Log(low, high float64) Scale { return newScale(low, high, math.Log) }

// changeUnit is where the scale of changes turns from linear to logarithmic: what matters is
// decided around 10 %.
const changeUnit = 0.1

// Change is the scale of relative changes: asinh(change / 10 %), from low to high.
func Change(low, high float64) Scale {
	return newScale(low, high, func(x float64) float64 { return math.Asinh(x / changeUnit) })
}

func newScale(low, high float64, warp func(float64) float64) Scale {
	if !(high > low) {
		high = low + 1
	}
	return Scale{warp(low), warp(high), warp}
}

// At is the place of x, NaN for what is no number. It may lie outside of 0 to 1.
func (s Scale) At(x float64) float64 { return (s.warp(x) - s.low) / (s.high - s.low) }

// Inside is At, cut to 0 to 1.
func (s Scale) Inside(x float64) float64 { return min(max(s.At(x), 0), 1) }

// side is the side of the stretched viewBox.
const side = 1000

// number is x with at most one decimal, without a trailing ".0" and without "-0".
func number(x float64) string {
	s := strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64)
	if s == "-0" {
		return "0"
	}
	return s
}

// percent is a place as a percentage for an attribute.
func percent(x float64) string { return number(x*100) + "%" }

func coordinate(x float64) string { return number(x * side) }

// A Shape is geometry in the unit square, y upwards. Its zero value is empty.
type Shape struct{ b strings.Builder }

// Path adds lines from point to point; one that is NaN is left out and nothing is drawn across
// it. A point between two of those is a dot.
func (s *Shape) Path(class string, x, y []float64) {
	var d strings.Builder
	n := 0
	for i := range x {
		if math.IsNaN(x[i]) || math.IsNaN(y[i]) {
			if n == 1 {
				d.WriteString("h.1")
			}
			n = 0
			continue
		}
		command := "L"
		if n == 0 {
			command = "M"
		}
		d.WriteString(command + coordinate(x[i]) + " " + coordinate(1-y[i]))
		n++
	}
	if n == 1 {
		d.WriteString("h.1")
	}
	s.raw(class, d.String())
}

// Area fills between the lines low and high over x. NaN breaks it.
func (s *Shape) Area(class string, x, low, high []float64) {
	var d strings.Builder
	for from := 0; from < len(x); {
		if math.IsNaN(low[from]) || math.IsNaN(high[from]) {
			from++
			continue
		}
		to := from
		for to < len(x) && !math.IsNaN(low[to]) && !math.IsNaN(high[to]) {
			to++
		}
		for i := from; i < to; i++ {
			command := "L"
			if i == from {
				command = "M"
			}
			d.WriteString(command + coordinate(x[i]) + " " + coordinate(1-high[i]))
		}
		for i := to - 1; i >= from; i-- {
			d.WriteString("L" + coordinate(x[i]) + " " + coordinate(1-low[i]))
		}
		d.WriteString("Z")
		from = to
	}
	s.raw(class, d.String())
}

// Rect fills a rectangle.
func (s *Shape) Rect(class string, x0, y0, x1, y1 float64) {
	s.raw(class, rect(x0, y0, x1, y1))
}

func rect(x0, y0, x1, y1 float64) string {
	return "M" + coordinate(x0) + " " + coordinate(1-y1) + "H" + coordinate(x1) + "V" + coordinate(1-y0) + "H" + coordinate(x0) + "Z"
}

// Vertical draws lines from the bottom to the top.
func (s *Shape) Vertical(class string, x ...float64) {
	var d strings.Builder
	for _, x := range x {
		d.WriteString("M" + coordinate(x) + " 0V" + strconv.Itoa(side))
	}
	s.raw(class, d.String())
}

// Horizontal draws lines from the left to the right.
func (s *Shape) Horizontal(class string, y ...float64) {
	var d strings.Builder
	for _, y := range y {
		d.WriteString("M0 " + coordinate(1-y) + "H" + strconv.Itoa(side))
	}
	s.raw(class, d.String())
}

// Whiskers draws vertical lines from low to high; NaN is left out.
func (s *Shape) Whiskers(class string, x, low, high []float64) {
	var d strings.Builder
	for i := range x {
		if !math.IsNaN(low[i]) && !math.IsNaN(high[i]) {
			d.WriteString("M" + coordinate(x[i]) + " " + coordinate(1-low[i]) + "V" + coordinate(1-high[i]))
		}
	}
	s.raw(class, d.String())
}

// Dots draws points: lines of no length, which round caps make into dots of the stroke's width.
func (s *Shape) Dots(class string, x, y []float64) {
	var d strings.Builder
	for i := range x {
		if !math.IsNaN(x[i]) && !math.IsNaN(y[i]) {
			d.WriteString("M" + coordinate(x[i]) + " " + coordinate(1-y[i]) + "h.1")
		}
	}
	s.raw(class, d.String())
}

// Cells fills cells of one class.
func (s *Shape) Cells(class string, cells [][4]float64) {
	var d strings.Builder
	for _, c := range cells {
		d.WriteString(rect(c[0], c[1], c[2], c[3]))
	}
	s.raw(class, d.String())
}

func (s *Shape) raw(class, d string) {
	if d != "" {
		s.b.WriteString(`<path class="` + html.EscapeString(class) + `" d="` + d + `"/>`)
	}
}

// A Tick is text at a place of an axis, 0 to 1.
type Tick struct {
	At   float64
	Text string
}

// A Mark is a vertical line that is named above the plot. Three tiers keep names of events that
// are seconds apart from colliding, on a phone, too.
type Mark struct {
	At    float64
	Text  string
	Class string
	Tier  int  // 0 is the lowest, 2 the highest
	Left  bool // the name ends at the line
}

// A Note is text inside a plot.
type Note struct {
	X, Y   float64
	Text   string
	Class  string
	Anchor string // start | middle | end
}

// A Frame is a plot with its axes.
type Frame struct {
	Label  string // what it shows, for those who cannot see it
	Words  string // the same as its picture tells, in words
	Height int    // px, of the geometry
	X, Y   []Tick
	Right  []Tick
	Marks  []Mark
	Notes  []Note
	Shape  *Shape
}

// Shapes are what the frame shows, without axes and words, as a picture of one class.
func (f Frame) Shapes(class string) string {
	if f.Shape == nil {
		return ""
	}
	return `<svg class="` + html.EscapeString(class) + `" viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">` + f.Shape.b.String() + `</svg>`
}

// HTML is the frame. What it is given as text is escaped.
func (f Frame) HTML() string {
	var b strings.Builder
	height := strconv.Itoa(f.Height)
	b.WriteString(`<div class="plot">`)
	if len(f.Marks) > 0 {
		tiers := 0
		for _, m := range f.Marks {
			tiers = max(tiers, m.Tier)
		}
		height := 18 + 14*tiers
		b.WriteString(`<svg class="pm" height="` + strconv.Itoa(height) + `" aria-hidden="true">`)
		for _, m := range f.Marks {
			y, anchor, dx := strconv.Itoa(height-4-14*m.Tier), "start", "4"
			if m.Left {
				anchor, dx = "end", "-4"
			}
			b.WriteString(`<text class="` + html.EscapeString(m.Class) + `" x="` + percent(m.At) + `" y="` + y + `" dx="` + dx + `" text-anchor="` + anchor + `">` + html.EscapeString(m.Text) + `</text>`)
		}
		b.WriteString(`</svg>`)
	}
	b.WriteString(`<svg class="py" height="` + height + `" aria-hidden="true">`)
	for _, t := range f.Y {
		b.WriteString(`<text x="100%" dx="-8" y="` + percent(1-t.At) + `" dy=".35em" text-anchor="end">` + html.EscapeString(t.Text) + `</text>`)
	}
	b.WriteString(`</svg><div class="pa"><svg class="pg" viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="` + height + `" role="img" aria-label="` + html.EscapeString(f.Label) + `">`)
	if f.Words != "" {
		b.WriteString(`<desc>` + html.EscapeString(f.Words) + `</desc>`)
	}
	if f.Shape != nil {
		b.WriteString(f.Shape.b.String())
	}
	b.WriteString(`</svg>`)
	if len(f.Notes) > 0 {
		b.WriteString(`<svg class="pn" width="100%" height="` + height + `" aria-hidden="true">`)
		for _, n := range f.Notes {
			anchor := n.Anchor
			if anchor != "middle" && anchor != "end" {
				anchor = "start"
			}
			b.WriteString(`<text class="` + html.EscapeString(n.Class) + `" x="` + percent(n.X) + `" y="` + percent(1-n.Y) + `" dy=".35em" text-anchor="` + anchor + `">` + html.EscapeString(n.Text) + `</text>`)
		}
		b.WriteString(`</svg>`)
	}
	b.WriteString(`</div><svg class="pr" height="` + height + `" aria-hidden="true">`)
	for _, t := range f.Right {
		b.WriteString(`<text x="6" y="` + percent(1-t.At) + `" dy=".35em">` + html.EscapeString(t.Text) + `</text>`)
	}
	b.WriteString(`</svg><svg class="px" height="20" aria-hidden="true">`)
	for i, t := range f.X {
		anchor := "middle"
		switch {
		case t.At < 0.02:
			anchor = "start"
		case t.At > 0.98:
			anchor = "end"
		}
		class := ""
		if i%2 == 1 {
			class = ` class="odd"` // narrow screens leave every second one out
		}
		b.WriteString(`<text` + class + ` x="` + percent(t.At) + `" y="15" text-anchor="` + anchor + `">` + html.EscapeString(t.Text) + `</text>`)
	}
	b.WriteString(`</svg></div>`)
	return b.String()
}

// A Forest is one change on a scale: its interval, the estimate, and the smallest change that
// matters. NaN is left out; an interval with one open end reaches the edge of the plot.
type Forest struct {
	Class               string
	Change, Low, High   float64
	Low80, High80       float64 // a narrower interval, drawn thick in a row, not in a short one
	Minimum             float64
	Label               string
	Scale               Scale
	OpenBelow, OpenOver bool // the interval has no such end
}

// SVG is the forest row.
func (f Forest) SVG() string {
	var b strings.Builder
	b.WriteString(`<svg class="fps" viewBox="0 0 1000 30" preserveAspectRatio="none" role="img" aria-label="` + html.EscapeString(f.Label) + `">`)
	at := func(x float64) string { return coordinate(f.Scale.Inside(x)) }
	b.WriteString(`<path class="zero" d="M` + at(0) + ` 0V30"/>`)
	if !math.IsNaN(f.Minimum) {
		b.WriteString(`<path class="me" d="M` + at(f.Minimum) + ` 0V30"/>`)
	}
	if d := f.line(15); d != "" {
		b.WriteString(`<path class="ci ` + html.EscapeString(f.Class) + `" d="` + d + `"/>`)
	}
	if !math.IsNaN(f.Low80) && !math.IsNaN(f.High80) {
		b.WriteString(`<path class="ci80 ` + html.EscapeString(f.Class) + `" d="M` + at(f.Low80) + ` 15H` + at(f.High80) + `"/>`)
	}
	if !math.IsNaN(f.Change) {
		b.WriteString(`<path class="pt ` + html.EscapeString(f.Class) + `" d="M` + at(f.Change) + ` 15h.1"/>`)
	}
	b.WriteString(`</svg>`)
	return b.String()
}

// Short is the row for long tables, in a tenth of the bytes: the interval and a stroke at the
// estimate. Its numbers stand beside it as text, so it is hidden from those who cannot see it.
func (f Forest) Short() string {
	d := f.line(10)
	if !math.IsNaN(f.Change) {
		d += "M" + number(f.Scale.Inside(f.Change)*side) + " 4V16"
	}
	if d == "" {
		return ""
	}
	return `<svg viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true"><path d="` + d + `"/></svg>`
}

func (f Forest) line(y int) string {
	low, high := f.Scale.Inside(f.Low), f.Scale.Inside(f.High)
	if f.OpenBelow {
		low = 0
	}
	if f.OpenOver {
		high = 1
	}
	if math.IsNaN(low) || math.IsNaN(high) || f.OpenBelow && f.OpenOver {
		return ""
	}
	return "M" + coordinate(low) + " " + strconv.Itoa(y) + "H" + coordinate(high)
}

// A Strip is one change among others on a scale.
type Strip struct {
	Others []float64 // NaN is left out
	Here   float64
	Label  string
	Words  string // below it; "" = nothing
	Scale  Scale
	Ticks  []Tick
}

// HTML is the strip with its axis.
func (s Strip) HTML() string {
	shape := &Shape{}
	shape.Horizontal("axis", 0)
	shape.Vertical("axis", s.Scale.Inside(0))
	var x, y []float64
	for _, v := range s.Others {
		x, y = append(x, s.Scale.Inside(v)), append(y, 0.45)
	}
	shape.Dots("dot dot6 s-before others", x, y)
	shape.Dots("dot dot8 s-after", []float64{s.Scale.Inside(s.Here)}, []float64{0.45})
	words := ""
	if s.Words != "" {
		words = `<p>` + html.EscapeString(s.Words) + `</p>`
	}
	return `<div class="strip bare">` + Frame{Label: s.Label, Height: 22, X: s.Ticks, Shape: shape}.HTML() + words + `</div>`
}
