package stat

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A window that grows has the mean of a window that is given at once, at every length.
func TestTrimmedGrows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, trim := range []float64{0, 0.05, 0.2, 0.49} {
		w := NewTrimmed(trim)
		for range 2 { // Reset leaves nothing behind
			w.Reset()
			if !math.IsNaN(w.Mean()) {
				t.Errorf("trim %v: the mean of nothing is %v", trim, w.Mean())
			}
			var x []float64
			for range 80 {
				v := math.Round(10*rng.NormFloat64()) / 4 // ties, too
				x = append(x, v)
				w.Add(v)
				if want := TrimmedMean(x, trim); math.Abs(w.Mean()-want) > 1e-12 || w.Len() != len(x) {
					t.Fatalf("trim %v, %d values: %v, want %v", trim, len(x), w.Mean(), want)
				}
			}
		}
	}
}

func TestNewTrimmedRefuses(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a trim of 0.5 passes")
		}
	}()
	NewTrimmed(0.5)
}
