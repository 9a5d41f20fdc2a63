package stat

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// near reports whether got is want to 1e-9 relative; NaN is NaN.
func near(got, want float64) bool {
	if math.IsNaN(want) || math.IsInf(want, 0) {
		return math.IsNaN(got) == math.IsNaN(want) && (math.IsNaN(want) || got == want)
	}
	return math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))
}

func TestNearCanFail(t *testing.T) {
	if near(1, 1+1e-8) || near(math.NaN(), 1) || near(1, math.NaN()) || near(1, math.Inf(1)) {
		t.Error("near accepts different numbers")
	}
}

func TestTrimmedMean(t *testing.T) {
	tests := []struct {
		name string
		x    []float64
		trim float64
		want float64
	}{
		{"two outliers at each end", []float64{5, 1, 2, 3, 100, 4, 6, 7, 8, -50}, 0.2, 4.5}, // statistics.md section 7
		{"short windows lose one value at each end", []float64{1, 2, 9}, 0.2, 2},            // by hand
		{"two values are only averaged", []float64{1, 3}, 0.2, 2},
		{"no trim is the mean", []float64{1, 2, 9}, 0, 4},
		{"empty", nil, 0.2, math.NaN()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := slices.Clone(tt.x)
			if got := TrimmedMean(x, tt.trim); !near(got, tt.want) {
				t.Errorf("TrimmedMean(%v, %v) = %v, want %v", tt.x, tt.trim, got, tt.want)
			}
			if !slices.Equal(x, tt.x) {
				t.Errorf("TrimmedMean changed its argument to %v", x)
			}
		})
	}
}

func TestTrimmedMeanPanicsOnTrim(t *testing.T) {
	for _, trim := range []float64{-0.1, 0.5, math.NaN()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("trim %v did not panic", trim)
				}
			}()
			TrimmedMean([]float64{1, 2, 3}, trim)
		}()
	}
}

// A sample that grew is the same as one that was sorted at once.
func TestSampleGrows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s Sample
	var x []float64
	for i := range 80 {
		v := math.Round(rng.NormFloat64() * 3) // with ties
		x = append(x, v)
		s.Add(v)
		if got, want := s.TrimmedMean(0.2), TrimmedMean(x, 0.2); got != want {
			t.Fatalf("seed 1,2, value %d: grown %v, sorted %v", i, got, want)
		}
	}
	s.Reset()
	s.Add(4)
	if got := s.TrimmedMean(0.2); got != 4 || s.Len() != 1 || s.Quantile(0.5) != 4 {
		t.Errorf("after Reset and one 4: mean %v, median %v of %d values", got, s.Quantile(0.5), s.Len())
	}
}

// A window that moves on holds what a new one would: by hand, with ties and both ends.
func TestSampleReplace(t *testing.T) {
	sample := func(x ...float64) (s Sample) {
		for _, v := range x {
			s.Add(v)
		}
		return s
	}
	s := sample(3, 1, 2, 2, 5)
	for _, tt := range []struct{ out, in, want Sample }{
		{sample(2, 5), sample(2, 0), sample(0, 1, 2, 2, 3)},
		{sample(0, 2, 2), sample(9, 7, 1), sample(1, 1, 3, 7, 9)},
		{sample(), sample(4), sample(1, 1, 3, 4, 7, 9)},
		{sample(1, 1, 3, 4, 7, 9), sample(), sample()},
		{sample(), sample(2, 1), sample(1, 2)},
	} {
		if s.Replace(tt.out, tt.in); !slices.Equal(s.sorted, tt.want.sorted) {
			t.Errorf("without %v and with %v: %v, want %v", tt.out.sorted, tt.in.sorted, s.sorted, tt.want.sorted)
		}
	}
}

func TestQuantile(t *testing.T) {
	tests := []struct {
		x    []float64
		q    float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, 0.5, 2.5}, // NumPy's documentation of method "linear"
		{[]float64{10}, 0.95, 10},
		{[]float64{0, 10}, 0.95, 9.5},
		{[]float64{1, 2, 3}, 0, 1},
		{[]float64{1, 2, 3}, 1, 3},
		{nil, 0.5, math.NaN()},
	}
	for _, tt := range tests {
		if got := Quantile(tt.x, tt.q); !near(got, tt.want) {
			t.Errorf("Quantile(%v, %v) = %v, want %v", tt.x, tt.q, got, tt.want)
		}
	}
}

func TestRankP(t *testing.T) {
	null := []float64{-1, 0, 0, 2, 3}
	tests := []struct {
		name string
		x    float64
		want float64
	}{ // by counting
		{"above all", 4, 1.0 / 6},
		{"equal to the largest", 3, 2.0 / 6},
		{"equal but for rounding counts as equal", 3 + 1e-12, 2.0 / 6},
		{"a little above is above", 3 + 1e-6, 1.0 / 6},
		{"ties", 0, 5.0 / 6},
		{"below all", -2, 1},
		{"no look yet", math.Inf(-1), 1},
		{"no number", math.NaN(), 1},
		{"infinitely far", math.Inf(1), 1.0 / 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := RankP(null, tt.x); !near(got, tt.want) {
				t.Errorf("RankP(%v, %v) = %v, want %v", null, tt.x, got, tt.want)
			}
		})
	}
	if got := RankP(nil, 5); got != 1 {
		t.Errorf("an empty null distribution gives p = %v, want 1", got)
	}
}

func TestAdjustBH(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		name    string
		p, want []float64
	}{
		{
			"the example of Benjamini and Hochberg's kind with 15 tests", // statistics.md section 7
			[]float64{.001, .008, .039, .041, .042, .06, .074, .205, .212, .216, .222, .251, .269, .275, .34},
			[]float64{
				.015, .06, .126, .126, .126, .15, 0.15857142857142856, 0.29464285714285715, 0.29464285714285715,
				0.29464285714285715, 0.29464285714285715, 0.29464285714285715, 0.29464285714285715, 0.29464285714285715, .34,
			},
		},
		{
			"order does not matter, and a missing test is in no family", // by hand: m = 3
			[]float64{0.9, nan, 0.01, 0.02}, []float64{0.9, nan, 0.03, 0.03},
		},
		{"one test", []float64{0.2}, []float64{0.2}},
		{"none", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := AdjustBH(tt.p)
			for i := range tt.want {
				if !near(got[i], tt.want[i]) {
					t.Errorf("AdjustBH(%v)[%d] = %v, want %v", tt.p, i, got[i], tt.want[i])
				}
			}
			if len(got) != len(tt.p) {
				t.Errorf("%d adjusted values of %d", len(got), len(tt.p))
			}
		})
	}
}

// The rejections of statistics.md section 7.
func TestAdjustBHRejects(t *testing.T) {
	p := []float64{.0004, .0011, .2, .03, .004, .9}
	for q, want := range map[float64][]bool{
		.05: {true, true, false, true, true, false},
		.01: {true, true, false, false, true, false},
	} {
		for i, a := range AdjustBH(p) {
			if (a <= q) != want[i] {
				t.Errorf("q %v, test %d: adjusted %v, want rejected %v", q, i, a, want[i])
			}
		}
	}
}
