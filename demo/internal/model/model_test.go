package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// share counts the requests of an endpoint under the old backoff: how many of n lie above each
// bound, and how many retries they make. Weather is its mean: what a placebo pool sees on average.
func share(e Endpoint, n int, r *rand.Rand) (above []float64, retries float64) {
	c := Conditions{Rate: e.Rate, Median: e.Median, Slow: e.Slow, Fail: e.Fail}
	above = make([]float64, len(Bounds))
	for range n {
		took := c.Work(r)
		for range Attempts - 1 {
			if !c.Fails(r) {
				break
			}
			took += FixedBackoff
			retries++
		}
		for b, bound := range Bounds {
			if took.Seconds() > bound {
				above[b]++
			}
		}
	}
	for b := range above {
		above[b] /= float64(n)
	}
	return above, retries / float64(n)
}

// nearest returns the share that is nearest to want in the logarithm, and how much farther away
// the next one is.
func nearest(above []float64, want float64) (share, margin float64) {
	distances := make([]float64, len(above))
	for i, a := range above {
		distances[i] = math.Abs(math.Log(a / want))
	}
	first := slices.Index(distances, slices.Min(distances))
	second := math.Inf(1)
	for i, d := range distances {
		if i != first {
			second = min(second, d)
		}
	}
	return above[first], second - distances[first]
}

// classes are the bounds between the count classes of calibration, events per step.
var classes = []float64{0.5, 2, 8}

// TestOneCountClass is the condition of the story: placebos are pooled per metric and count class,
// so all ten endpoints must be in the same one, and not near its edge, or the pool of a metric
// falls apart and nothing can be confirmed. A step is a second. "Not near": a quarter away, which
// is seven standard deviations of the noise that a whole stretch of an hour leaves.
func TestOneCountClass(t *testing.T) {
	const edge = 1.25
	r := rand.New(rand.NewPCG(7, 7))
	class := map[string]int{}
	for _, e := range Endpoints {
		above, retries := share(e, 200_000, r)
		tail, tailMargin := nearest(above, 0.01)
		body, bodyMargin := nearest(above, 0.2)
		if tailMargin < 0.1 || bodyMargin < 0.1 {
			t.Errorf("%s %s: two bounds are about as near to 1 %% (%.2f) or to 20 %% (%.2f)", e.Method, e.Route, tailMargin, bodyMargin)
		}
		for metric, events := range map[string]float64{"tail": tail * e.Rate, "body": body * e.Rate, "retry": retries * e.Rate} {
			k, _ := slices.BinarySearch(classes, events)
			if k > 0 && events < classes[k-1]*edge || k < len(classes) && events > classes[k]/edge {
				t.Errorf("%s %s: %.2f %s events in a step are near the edge of a class (%v)", e.Method, e.Route, events, metric, classes)
			}
			if other, seen := class[metric]; seen && other != k {
				t.Errorf("%s %s: %.2f %s events in a step are in class %d, those of others in %d", e.Method, e.Route, events, metric, k, other)
			}
			class[metric] = k
		}
	}
}

// TestPoolSuffices is k m <= alpha (N + 1): 9,900 steps of history hold a placebo every 20 steps
// from the 120th on, so that its windows end before the baseline of 60 begins.
func TestPoolSuffices(t *testing.T) {
	const metrics, alpha = 3, 0.01
	own := 0
	for p := 20; p <= 9900; p += 20 {
		if p >= 120 {
			own++
		}
	}
	if own != 490 {
		t.Fatalf("%d placebos per endpoint, want 490", own)
	}
	pooled := own * len(Endpoints)
	if float64(metrics*len(Endpoints)) > alpha*float64(pooled+1) {
		t.Errorf("%d pooled placebos cannot confirm %d tests at %g", pooled, metrics*len(Endpoints), alpha)
	}
}

func TestEndpoints(t *testing.T) {
	behind, locks := 0, 0
	for _, e := range Endpoints {
		if e.Rate < 60 || e.Rate > 100 {
			t.Errorf("%s %s: %g requests per second, want 60 to 100", e.Method, e.Route, e.Rate)
		}
		if e.Behind {
			behind++
		}
		if e.Locks {
			locks++
			if !e.Behind {
				t.Errorf("%s %s locks and is not behind the flag", e.Method, e.Route)
			}
		}
	}
	if len(Endpoints) != 10 || behind != 4 || locks != 1 {
		t.Errorf("%d endpoints, %d behind the flag, %d locking; want 10, 4, 1", len(Endpoints), behind, locks)
	}
}

// TestWeather wants the same weather from the same seed, other weather from another, and a mean that
// is the endpoint's own: the stationary logarithms have mean 0 and a variance of 0.0032 (rate).
func TestWeather(t *testing.T) {
	a, b, other := NewWeather(1), NewWeather(1), NewWeather(2)
	const ticks = 200_000
	sum := 0.0
	for range ticks {
		a.Step()
		b.Step()
		other.Step()
		if a.Of(3) != b.Of(3) {
			t.Fatal("one seed gave two kinds of weather")
		}
		sum += math.Log(a.Of(3).Rate / Endpoints[3].Rate)
	}
	if a.Of(3) == other.Of(3) {
		t.Error("two seeds gave the same weather")
	}
	// 200,000 ticks of correlation time 240 are worth about 400: 5 * sqrt(0.0032 / 400) = 0.014.
	if mean := sum / ticks; math.Abs(mean) > 0.014 {
		t.Errorf("the mean log rate is off by %.4f", mean)
	}
}

func TestPoisson(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	const n, mean = 100_000, 20.0
	var sum, squares float64
	for range n {
		x := float64(Poisson(r, mean))
		sum += x
		squares += x * x
	}
	m := sum / n
	v := squares/n - m*m
	// Standard errors: sqrt(20/n) = 0.014 of the mean, 20 sqrt(2/n) = 0.09 of the variance.
	if math.Abs(m-mean) > 0.07 || math.Abs(v-mean) > 0.45 {
		t.Errorf("Poisson(20) has mean %.3f and variance %.3f, want 20 and 20", m, v)
	}
}

func TestWorkIsBounded(t *testing.T) {
	c := Conditions{Median: 0.1, Slow: 1}
	r := rand.New(rand.NewPCG(5, 5))
	for range 10_000 {
		if w := c.Work(r); w <= 0 || w > 4*time.Second {
			t.Fatalf("work of %v, want more than 0 and at most 4 s", w)
		}
	}
}
