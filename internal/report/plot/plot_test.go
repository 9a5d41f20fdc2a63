package plot

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nand not\n%s\n(go test -update rewrites it)", name, got, want)
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9 {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func TestScales(t *testing.T) {
	near(t, "linear middle", Linear(100, 300).At(200), 0.5)                                   // by hand
	near(t, "log middle", Log(0.01, 1).At(0.1), 0.5)                                          // by hand: 10^-1 lies halfway between 10^-2 and 10^0
	near(t, "change of 0 in symmetry", Change(-0.5, 0.5).At(0), 0.5)                          // asinh is odd
	near(t, "beyond the end", Linear(0, 1).At(1.5), 1.5)                                      // At does not cut
	near(t, "cut", Linear(0, 1).Inside(1.5), 1)                                               // Inside does
	near(t, "a scale without length", Linear(3, 3).At(3), 0)                                  // it is one of length 1
	near(t, "the zero of the changes", math.Round(1000*Change(-0.27, 5.2).At(0))/1000, 0.270) // asinh(2.7) / (asinh(2.7) + asinh(52)) = 1.7191 / 6.3636
	if !math.IsNaN(Linear(0, 1).Inside(math.NaN())) {
		t.Error("no number has a place")
	}
}

func TestShapes(t *testing.T) {
	nan := math.NaN()
	var s Shape
	s.Path("line", []float64{0, 0.25, 0.5, 0.75, 1}, []float64{0, 0.5, nan, 1, nan})
	s.Area("area", []float64{0, 0.5, 1}, []float64{0, 0, nan}, []float64{0.25, 0.5, 1})
	s.Rect("rect", 0, 0, 0.5, 1)
	s.Vertical("v", 0.123456)
	s.Horizontal("h", 0.5, 1)
	s.Whiskers("w", []float64{0.5, 1}, []float64{0.1, nan}, []float64{0.9, 1})
	s.Dots("d", []float64{0.5, nan}, []float64{0.5, 0.5})
	s.Cells("c", [][4]float64{{0, 0, 0.1, 0.1}, {0.1, 0.9, 0.2, 1}})
	s.Dots("empty", nil, nil)
	// By hand: y upwards becomes 1000 (1 - y); NaN breaks a line; a lone point is a dot.
	want := `<path class="line" d="M0 1000L250 500M750 0h.1"/>` +
		`<path class="area" d="M0 750L500 500L500 1000L0 1000Z"/>` +
		`<path class="rect" d="M0 0H500V1000H0Z"/>` +
		`<path class="v" d="M123.5 0V1000"/>` +
		`<path class="h" d="M0 500H1000M0 0H1000"/>` +
		`<path class="w" d="M500 900V100"/>` +
		`<path class="d" d="M500 500h.1"/>` +
		`<path class="c" d="M0 900H100V1000H0ZM100 0H200V100H100Z"/>`
	if got := s.b.String(); got != want {
		t.Errorf("shapes are\n%s\nand not\n%s", got, want)
	}
}

func frame() Frame {
	var s Shape
	s.Horizontal("grid", 0, 0.5, 1)
	s.Path("ln", []float64{0, 1. / 3, 2. / 3, 1}, []float64{0.1, 0.2, 0.3, 1. / 7})
	return Frame{
		Label: `p99 of GET /<b>"x"`, Words: "It rose & fell.", Height: 120, Shape: &s,
		X: []Tick{{0, "13:00"}, {0.5, "13:30"}, {1, "14:00"}}, Y: []Tick{{0, "0"}, {1, "1 s"}}, Right: []Tick{{1. / 7, "p99"}},
		Marks: []Mark{{0.5, "upgrade", "", 0, true}, {0.51, "onset", "m-ons", 1, false}},
		Notes: []Note{{0.25, 0.5, "<i>", "n", "middle"}},
	}
}

func TestFrame(t *testing.T) {
	got := frame().HTML()
	golden(t, "frame.html", got+"\n")
	if again := frame().HTML(); again != got {
		t.Error("the same numbers give another picture")
	}
	if strings.Contains(got, "<b>") || strings.Contains(got, "<i>") || strings.Contains(got, "style=") {
		t.Error("text is not escaped, or something is styled in place")
	}
	if m := regexp.MustCompile(`\d+\.\d\d+`).FindString(strings.ReplaceAll(got, ".35em", "")); m != "" {
		t.Errorf("%s has more digits than anybody sees", m)
	}
}

func TestForest(t *testing.T) {
	s := Change(-0.27, 5.2)
	for name, f := range map[string]Forest{
		"whole":      {Class: "c-reg", Change: 1.01, Low: 0.92, High: 1.09, Low80: 0.97, High80: 1.05, Minimum: 0.1, Label: "a <b>", Scale: s},
		"open-above": {Class: "c-und", Change: 0.05, Low: -0.02, High: math.NaN(), Low80: math.NaN(), High80: math.NaN(), Minimum: 0.1, Label: "b", Scale: s, OpenOver: true},
		"open-below": {Class: "c-und", Change: 0.05, Low: math.NaN(), High: 0.2, Low80: math.NaN(), High80: math.NaN(), Minimum: math.NaN(), Label: "c", Scale: s, OpenBelow: true},
		"nothing":    {Class: "c-ins", Change: math.NaN(), Low: math.NaN(), High: math.NaN(), Low80: math.NaN(), High80: math.NaN(), Minimum: 0.1, Label: "d", Scale: s},
		"beyond":     {Class: "c-reg", Change: 40, Low: 12, High: 99, Low80: 25, High80: 60, Minimum: 0.1, Label: "e", Scale: s},
	} {
		golden(t, "forest-"+name+".svg", f.SVG()+"\n"+f.Short()+"\n")
	}
}
