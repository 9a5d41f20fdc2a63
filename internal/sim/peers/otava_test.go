package peers

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The split's q against its definition (Matteson and James 2014, equation 5; Otava's
// calculator): twice the mean distance across less the mean distances within, times mn/(m+n).
func TestSplitIsTheEnergyDistance(t *testing.T) {
	x := []float64{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}
	d := newDistances(x)
	wantAt, wantQ := -1, math.Inf(-1)
	from, to := 2, 10
	for tau := from + 1; tau < to; tau++ {
		for kappa := tau + 1; kappa <= to; kappa++ {
			a, b := x[from:tau], x[tau:kappa]
			n, m := float64(len(a)), float64(len(b))
			across, within := 0.0, 0.0
			for _, u := range a {
				for _, v := range b {
					across += math.Abs(u-v) / (m * n)
				}
			}
			for _, s := range [][]float64{a, b} {
				pairs := float64(len(s) * (len(s) - 1) / 2)
				for i := range s {
					for j := range i {
						within += math.Abs(s[i]-s[j]) / pairs
					}
				}
			}
			if q := m * n / (m + n) * (2*across - within); q > wantQ+1e-12 {
				wantAt, wantQ = tau, q
			}
		}
	}
	at, q := d.split(from, to)
	if at != wantAt || math.Abs(q-wantQ) > 1e-9 {
		t.Errorf("split = %d, %v, want %d, %v", at, q, wantAt, wantQ)
	}
}

func TestOtavaFindsAStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := make([]float64, 117)
	for i := range x {
		x[i] = 1 + 0.1*rng.NormFloat64()
		if i >= 60 {
			x[i] += 0.5
		}
	}
	points := OtavaChangePoints(x)
	if len(points) != 1 || points[0].Index != 60 || !(points[0].P < 1e-20) || !(points[0].Right > points[0].Left) {
		t.Errorf("OtavaChangePoints = %+v, want one rise at 60", points)
	}
	flat := make([]float64, 117)
	if points := OtavaChangePoints(flat); len(points) != 0 {
		t.Errorf("change points of a constant: %+v", points)
	}
}

// Expected shares: 40 runs of Otava's own algorithm in research/peers.md, 2.9: 120 healthy
// points of autocorrelation 0, 0.5 and 0.8 have a change point in 5, 60 and 100 %.
func TestOtavaOnHealthySeries(t *testing.T) {
	for _, tt := range []struct{ phi, low, high float64 }{{0, 0, 0.15}, {0.5, 0.4, 0.8}, {0.8, 0.95, 1}} {
		rng := rand.New(rand.NewPCG(5, uint64(10*tt.phi)))
		found := 0
		for range 200 {
			if len(OtavaChangePoints(ar1(rng, 120, tt.phi))) > 0 {
				found++
			}
		}
		if share := float64(found) / 200; share < tt.low || share > tt.high {
			t.Errorf("autocorrelation %v: change points in %v of healthy series, want %v to %v", tt.phi, share, tt.low, tt.high)
		}
	}
}

// ar1 are n values around 1 with a standard deviation of 0.2 and autocorrelation phi.
func ar1(rng *rand.Rand, n int, phi float64) []float64 {
	x := make([]float64, n)
	at := rng.NormFloat64()
	for i := range x {
		at = phi*at + math.Sqrt(1-phi*phi)*rng.NormFloat64()
		x[i] = 1 + 0.2*at
	}
	return x
}
