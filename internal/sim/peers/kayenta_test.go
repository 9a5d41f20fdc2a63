package peers

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Expected classes and numbers: what users of Kayenta reported of it, by issue.
func TestKayentaVectors(t *testing.T) {
	repeat := func(v float64, n int, w float64, m int) []float64 {
		var x []float64
		for range n {
			x = append(x, v)
		}
		for range m {
			x = append(x, w)
		}
		return x
	}
	zeros := func(n int) []float64 { return make([]float64, n) }
	tests := []struct {
		name                string
		control, experiment []float64
		want                Class
	}{
		{"spinnaker#6278: seven of ten at a hundredfold", repeat(1, 10, 0, 0), repeat(100, 7, 1, 3), Pass},
		{"spinnaker#6278: eight of ten", repeat(1, 10, 0, 0), repeat(100, 8, 1, 2), High},
		{"kayenta#426: sparse errors", zeros(6), []float64{0, 1, 2, 1, 0, 0}, Pass},
		{"kayenta#510: from none to 55", zeros(5), []float64{54.9, 54.5, 55.1, 55.6, 57.4}, High},
		{"kayenta#799: from none to a few", zeros(5), []float64{1, 4, 2, 3, 1}, High},
		{
			"kayenta#780: another variance",
			[]float64{1, 100, 4, 101, 5, 102, 6, 103, 7, 104, 8, 105, 9, 106, 17},
			[]float64{10, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 17, 17.1, 17.2, 17.3, 17.4, 17.5, 17.6, 17.7},
			Pass,
		},
		{"the same values in another order", []float64{1, 2, 3}, []float64{3, 1, 2}, Pass},
		{"two constants", repeat(5, 4, 0, 0), repeat(6, 4, 0, 0), High},
		{"two constants, down", repeat(6, 4, 0, 0), repeat(5, 4, 0, 0), Low},
		{"nothing on one side", nil, []float64{1}, NoData},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Kayenta(tt.control, tt.experiment); got.Class != tt.want {
				t.Errorf("Kayenta = %+v, want %s", got, tt.want)
			}
		})
	}

	// The numbers that the reporter of spinnaker#6278 printed.
	r := Kayenta(repeat(1, 10, 0, 0), repeat(100, 7, 1, 3))
	near(t, "lower end", r.Lower, 6.825022991538781e-5)
	near(t, "upper end", r.Upper, 99)
	near(t, "estimate", r.Estimate, 98.99992904170193)
	near(t, "effect", r.MeanRatio, 70.3)
	if r := Kayenta(zeros(5), []float64{54.9, 54.5, 55.1, 55.6, 57.4}); !math.IsNaN(r.MeanRatio) {
		t.Errorf("effect against a mean of 0 is %v, want NaN", r.MeanRatio)
	}
}

// The strength that the knob turns says High at the default exactly where the interval does.
func TestKayentaStrengthIsTheInterval(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	limit := KayentaOnce().Limit
	high := 0
	for i := range 2000 {
		x, y := make([]float64, 3+i%40), make([]float64, 3+i%37)
		for k := range x {
			x[k] = math.Exp(0.3*rng.NormFloat64() + 0.1*float64(i%4))
		}
		for k := range y {
			y[k] = math.Exp(0.3 * rng.NormFloat64())
		}
		r := Kayenta(y, x)
		strong := r.Excess >= limit && r.Estimate > 0 && !(r.MeanRatio < 1)
		if strong != (r.Class == High) {
			t.Fatalf("sample %d: strength %v of %v, but class %+v", i, r.Excess, limit, r)
		}
		if strong {
			high++
		}
	}
	if high < 100 || high > 1900 {
		t.Fatalf("%d of 2000 samples High: the test shows nothing", high)
	}
}
