package stat

import (
	"math"
	"testing"
)

func TestBinomialInterval(t *testing.T) {
	tests := []struct {
		k, n      int
		low, high float64
	}{
		{0, 0, 0, 1},
		{0, 20, 0, 1 - math.Pow(0.025, 1.0/20)}, // by hand: (1-p)^20 = 0.025
		{20, 20, math.Pow(0.025, 1.0/20), 1},
		{1, 1, 0.025, 1},
		{5, 10, 0.1870860, 0.8129140}, // Clopper and Pearson's charts, as in R: binom.test(5, 10)
	}
	for _, tt := range tests {
		low, high := BinomialInterval(tt.k, tt.n, 0.95)
		if math.Abs(low-tt.low) > 1e-6 || math.Abs(high-tt.high) > 1e-6 {
			t.Errorf("BinomialInterval(%d, %d) = %v, %v, want %v, %v", tt.k, tt.n, low, high, tt.low, tt.high)
		}
	}
}
