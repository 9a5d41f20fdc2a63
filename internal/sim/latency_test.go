package sim

import (
	"math"
	"testing"
)

// 6.1507 and the factors are those that the research states for its own generator (scipy).
func TestLatencyAtMeanLoad(t *testing.T) {
	if got := math.Exp(quantileAt(0.99, 0, 0)); math.Abs(got-6.1507) > 5e-5 {
		t.Errorf("p99 over the median of the bulk = %.5f, want 6.1507", got)
	}
}

func TestTailFactor(t *testing.T) {
	for _, tt := range []struct{ rise, want float64 }{
		{0.05, 2.8447}, {0.10, 3.6072}, {0.25, 5.2417}, {0.50, 7.5018}, {1, 11.3942},
	} {
		by := TailFactor(tt.rise)
		if math.Abs(by-tt.want) > 5e-5 {
			t.Errorf("TailFactor(%v) = %.5f, want %v", tt.rise, by, tt.want)
		}
		if got := (Effect{Tail: tt.rise}).quantile(0.99); math.Abs(got-tt.rise) > 1e-9 {
			t.Errorf("slowed by TailFactor(%v), p99 rises by %v", tt.rise, got)
		}
	}
}

func TestNormalTable(t *testing.T) {
	table := newNormalTable()
	worst, last := 0.0, 1.0
	for x := -10.0; x < 10; x += 0.00037 {
		q := table.upper(x)
		worst = max(worst, math.Abs(q-upper(x)))
		if q > last {
			t.Fatalf("upper(%v) rises", x)
		}
		last = q
	}
	if worst > 5e-7 {
		t.Errorf("the table is wrong by up to %v, want at most 5e-7", worst)
	}
}

// By hand: half used is twice the time, and 0.98 is the most, which is fifty times.
func TestWaiting(t *testing.T) {
	w := World{Capacity: 4}
	for _, tt := range []struct{ load, want float64 }{{0, 0}, {2, math.Ln2}, {3, 2 * math.Ln2}, {4, math.Log(50)}, {40, math.Log(50)}} {
		if got := w.waiting(tt.load); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("waiting(%v) = %v, want %v", tt.load, got, tt.want)
		}
	}
	if got := (World{}).waiting(40); got != 0 {
		t.Errorf("without a capacity waiting = %v, want 0", got)
	}
}
