package report

import (
	"math"
	"testing"
	"time"
)

func TestSplit(t *testing.T) {
	// By hand, after the table of words: three digits for latencies, two decimals for ratios in %.
	tests := []struct {
		x    float64
		unit string
		want string
	}{
		{0.784, "s", "784 ms"},
		{0.0961, "s", "96.1 ms"},
		{0.00961, "s", "9.61 ms"},
		{0.0005, "s", "0.500 ms"},
		{0.0996, "s", "99.6 ms"},
		{0.09996, "s", "100 ms"},
		{0.9994, "s", "999 ms"},
		{0.9996, "s", "1.00 s"},
		{1.234, "s", "1.23 s"},
		{99.96, "s", "100 s"},
		{12345, "s", "12 345 s"},
		{0, "s", "0 ms"},
		{0.0086, "1", "0.86 %"},
		{2.5, "1", "250.00 %"},
		{0.00002, "1", "0.002 %"},
		{0, "1", "0 %"},
		{12, "jobs", "12.0 jobs"},
		{-3.456, "jobs", "-3.46 jobs"},
		{1.5e7, "jobs", "1.5e+07 jobs"},
	}
	for _, tt := range tests {
		digits, suffix := split(tt.x, tt.unit)
		if got := digits + suffix; got != tt.want {
			t.Errorf("split(%v, %q) = %q, want %q", tt.x, tt.unit, got, tt.want)
		}
	}
}

func TestBetween(t *testing.T) {
	at := func(x float64) Level { return Level{Value: Number(x), AtLeast: None()} }
	over := Level{Value: None(), AtLeast: 10}
	tests := []struct {
		before, after Level
		unit, want    string
	}{
		{at(0.390), at(0.784), "s", "390 → 784 ms"},
		{at(0.390), at(1.25), "s", "390 ms → 1.25 s"},
		{at(0), at(0.2), "1", "0 → 20.00 %"},
		{at(0), at(1.5), "s", "0 → 1.50 s"},
		{at(2), over, "s", "2.00 → >10.0 s"},
		{at(math.NaN()), at(0.2), "s", "? → 200 ms"},
		{at(0.2), at(math.NaN()), "s", "200 ms → ?"},
	}
	for _, tt := range tests {
		if got := between(tt.before, tt.after, tt.unit, " → "); got != tt.want {
			t.Errorf("between(%v, %v, %q) = %q, want %q", tt.before, tt.after, tt.unit, got, tt.want)
		}
	}
}

func TestChange(t *testing.T) {
	for x, want := range map[float64]string{
		1.01: "+101 %", 0.2994: "+29.9 %", 0.2996: "+30 %", -0.094: "-9.4 %", 0.0004: "0.0 %", -0.0004: "0.0 %", 99: "+9900 %", -0.42: "-42 %",
	} {
		if got := change(Number(x)); got != want {
			t.Errorf("change(%v) = %q, want %q", x, got, want)
		}
	}
	if got := interval([2]Number{-0.016, None()}, " to "); got != "at least -1.6 %" {
		t.Errorf("an interval with an open end is %q", got)
	}
}

func TestBound(t *testing.T) {
	open := [2]Number{0.12, None()}
	for _, tt := range []struct {
		c    Comparison
		want string
	}{
		{Comparison{Change: Change{Bound95: 0.38, MinimumEffect: 0.1}}, "at most +38 % (at 95 %); 10 % cannot be excluded with this traffic"},
		{Comparison{Change: Change{Bound95: 0.046, MinimumEffect: 0.1}}, "at most +4.6 % (at 95 %)"},
		{Comparison{Kind: "histogram", Change: Change{Bound95: None(), CI99: open}}, "no bound can be given: it lies beyond the last bucket of the histogram"},
		{Comparison{Kind: "histogram", Change: Change{Bound95: None(), CI99: [2]Number{None(), None()}}}, "no bound can be given with this traffic"},
		{Comparison{Kind: "ratio", Change: Change{Bound95: None(), CI99: open}}, "no bound can be given with this traffic"},
	} {
		if got := bound(tt.c); got != tt.want {
			t.Errorf("bound of %+v is %q, want %q", tt.c.Change, got, tt.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1200 * time.Millisecond: "1.2 s", 100 * time.Millisecond: "0.1 s", 0: "0 s", 12 * time.Second: "12 s", 15*time.Minute + 20*time.Second: "15 min 20 s",
		8 * time.Minute: "8 min", 15 * 24 * time.Hour: "15 d", 25*time.Hour + 2*time.Minute: "1 d 1 h", -94 * time.Second: "-1 min 34 s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"GET /v1/orders/{id}": "GET /v1/orders/{id}",
		"a\x1b[2Jb":           `a\x1b[2Jb`,
		"a\nb\tc\r":           `a\x0ab\x09c\x0d`,
		"x\u202ey":            `x\u202ey`,
		"\u0085\u2028":        `\u0085\u2028`,
		"bad \xff utf8":       `bad \xff utf8`,
		"straße/検索":           "straße/検索",
		"\U000e0001":          `\U000e0001`,
	} {
		if got := printable(s); got != want {
			t.Errorf("printable(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestCutAndMiddle(t *testing.T) {
	tests := []struct {
		s           string
		n           int
		cut, middle string
	}{
		{"/v1/payments", 12, "/v1/payments", "/v1/payments"},
		{"/v1/payments", 7, "/v1/pa…", "/v1…nts"},
		{"検索検索検索", 7, "検索検…", "検索…索"},
	}
	for _, tt := range tests {
		if got := cut(tt.s, tt.n); got != tt.cut || columns(got) > tt.n {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.cut)
		}
		if got := middle(tt.s, tt.n); got != tt.middle || columns(got) > tt.n {
			t.Errorf("middle(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.middle)
		}
	}
}

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{
		"payments.backoff-v2": "payments.backoff-v2",
		"rules/my shop.yaml":  "'rules/my shop.yaml'",
		"a;rm -rf $HOME":      "'a;rm -rf $HOME'",
		"it's":                `'it'\''s'`,
		"":                    "''",
		"a\nb":                `'a\x0ab'`,
	} {
		if got := Quote(s); got != want {
			t.Errorf("Quote(%q) = %s, want %s", s, got, want)
		}
	}
}

// A bar left of the mark for the smallest change that matters excludes a rise, one right of it
// confirms one: the order of the cells is that of the numbers.
func TestAxisKeepsOrder(t *testing.T) {
	for _, cells := range []int{12, 18, 24} {
		a := newAxis(cells)
		last := -1
		for _, x := range []float64{-5, -0.27, -0.1, 0, 0.1, 0.3, 1, 4, 5.2, 100} {
			if at := a.at(x); at < last || at >= cells {
				t.Errorf("%d cells: %v is at %d, what is less at %d", cells, x, at, last)
			} else {
				last = at
			}
		}
		if a.at(0) == a.at(0.1) {
			t.Errorf("%d cells: 10 %% cannot be told from 0", cells)
		}
	}
}

func TestAxisDraw(t *testing.T) {
	// By hand on 24 cells: asinh(-2.7) = -1.717 is cell 0, asinh(52) = 4.644 cell 23, so that
	// zero is cell 6, +10 % cell 9, +100 % cell 17, +400 % cell 22.
	c := Comparison{Direction: "up", Change: Change{Ratio: 1, CI99: [2]Number{0, 4}, Bound95: None(), MinimumEffect: 0.1}}
	if got, want := newAxis(24).draw(c), "      ├──┊───────●────┤ "; got != want {
		t.Errorf("draw = %q, want %q", got, want)
	}
	c.Change.CI99 = [2]Number{-0.9, 60}
	if got, want := newAxis(24).draw(c), "──────┼──┊───────●──────"; got != want {
		t.Errorf("an interval beyond the axis is %q, want %q", got, want)
	}
	c.Change = Change{Ratio: None(), CI99: [2]Number{None(), None()}, MinimumEffect: None()}
	if got, want := newAxis(24).draw(c), "      │                 "; got != want {
		t.Errorf("nothing known is %q, want %q", got, want)
	}
}
