package sim

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// matches compares n draws with a distribution: the largest difference of the two distribution
// functions is beyond 1.95/sqrt(n) once in a thousand times (Kolmogorov), and rarer still for a
// discrete one.
func matches(t *testing.T, n int, draw func() float64, cdf func(float64) float64) {
	t.Helper()
	seen := map[float64]int{}
	lo, hi := math.Inf(1), math.Inf(-1)
	for range n {
		x := draw()
		seen[x]++
		lo, hi = min(lo, x), max(hi, x)
	}
	below, worst, at := 0, 0.0, 0.0
	for x := lo; x <= hi; x++ {
		below += seen[x]
		if d := math.Abs(float64(below)/float64(n) - cdf(x)); d > worst {
			worst, at = d, x
		}
	}
	if below != n {
		t.Fatalf("%d of %d draws are whole numbers", below, n)
	}
	if limit := 1.95 / math.Sqrt(float64(n)); worst > limit {
		t.Errorf("distribution functions differ by %.4f at %v, want at most %.4f", worst, at, limit)
	}
}

func TestPoisson(t *testing.T) {
	r := stream(1)
	for _, mean := range []float64{0.002, 0.4, 3, 9.99, 10, 14.5, 60, 3000} {
		matches(t, 40000, func() float64 { return float64(r.poisson(mean)) }, distuv.Poisson{Lambda: mean}.CDF)
	}
	if k := r.poisson(-1e-12); k != 0 {
		t.Errorf("poisson of a rounding error = %d, want 0", k)
	}
}

func TestBinomial(t *testing.T) {
	r := stream(2)
	for _, tt := range []struct {
		n int
		p float64
	}{{1, 0.3}, {30, 0.2}, {30, 0.9}, {1500, 0.005}, {1500, 0.01}, {3000, 0.5}, {40, 0.6}} {
		matches(t, 40000, func() float64 { return float64(r.binomial(tt.n, tt.p)) },
			distuv.Binomial{N: float64(tt.n), P: tt.p}.CDF)
	}
	for _, tt := range []struct {
		n    int
		p    float64
		want int
	}{{0, 0.5, 0}, {7, 0, 0}, {7, 1, 7}} {
		if got := r.binomial(tt.n, tt.p); got != tt.want {
			t.Errorf("binomial(%d, %v) = %d, want %d", tt.n, tt.p, got, tt.want)
		}
	}
}

// A beta is binned into whole numbers by its own distribution function, which makes it uniform.
func TestBeta(t *testing.T) {
	r := stream(3)
	for _, tt := range []struct{ a, b float64 }{{20, 1979}, {0.3, 5}, {2, 3}} {
		d := distuv.Beta{Alpha: tt.a, Beta: tt.b}
		matches(t, 40000, func() float64 { return math.Floor(1000 * d.CDF(r.beta(tt.a, tt.b))) },
			func(x float64) float64 { return min((x+1)/1000, 1) })
	}
}

// The correlation of an autoregression falls to exp(-1) within its time; 600 s are 20 steps.
func TestAR1(t *testing.T) {
	const n = 400000
	r := stream(4)
	p := r.ar1(0.15, 600)
	x := make([]float64, n)
	for i := range x {
		x[i] = p.next(r)
	}
	moment := func(lag int) float64 {
		sum := 0.0
		for i := range n - lag {
			sum += x[i] * x[i+lag]
		}
		return sum / float64(n-lag)
	}
	variance := moment(0)
	if sd := math.Sqrt(variance); math.Abs(sd/0.15-1) > 0.03 {
		t.Errorf("sd = %.4f, want 0.15", sd)
	}
	for _, tt := range []struct {
		lag  int
		want float64
	}{{1, 0.9512}, {20, 0.3679}, {60, 0.0498}} { // exp(-30 lag / 600)
		if got := moment(tt.lag) / variance; math.Abs(got-tt.want) > 0.03 {
			t.Errorf("correlation at lag %d = %.4f, want %.4f", tt.lag, got, tt.want)
		}
	}

	first := 0.0 // stationary from the start
	for range 20000 {
		q := r.ar1(0.15, 600)
		first += q.x * q.x
	}
	if sd := math.Sqrt(first / 20000); math.Abs(sd/0.15-1) > 0.03 {
		t.Errorf("sd of the first value = %.4f, want 0.15", sd)
	}
}
