package baseline

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestLogOf(t *testing.T) {
	check := func(x float64) {
		if got, want := logOf(x), math.Log(x); !(math.Abs(got-want) <= 1e-15*max(1, math.Abs(want))) {
			t.Errorf("logOf(%v) = %v, want %v", x, got, want)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		check(math.Exp(20 * rng.NormFloat64()))
		check(1 + rng.NormFloat64()*1e-3)
	}
	for i := range 1 << logBits { // both ends of every row of the table
		edge := 1 + float64(i)/(1<<logBits)
		check(edge)
		check(math.Nextafter(edge, 2))
		check(math.Nextafter(edge, 0))
	}
	for _, x := range []float64{1, math.MaxFloat64, leastPlain, math.SmallestNonzeroFloat64} {
		check(x)
	}
	for _, x := range []float64{0, -1, math.Inf(1), math.NaN()} {
		if got, want := logOf(x), math.Log(x); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("logOf(%v) = %v, want %v", x, got, want)
		}
	}
}
