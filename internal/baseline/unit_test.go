package baseline

import (
	"math"
	"testing"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func TestUnit(t *testing.T) {
	twice := math.Log(2)
	for _, m := range []telemetry.Metric{telemetry.Retry, telemetry.Level} {
		u := UnitOf(m, 0, nil)
		if got := u.Change(twice); got.Value != 1 || got.Low != 1 || got.High != 1 || u.Near(twice) != 1 {
			t.Errorf("%s: twice as many reads as %+v, and %v", m, got, u.Near(twice))
		}
	}
	empty := &Buckets{Bounds: []float64{1, 2}, Before: []float64{5, 9, 10}, After: []float64{0, 0, 0}}
	for name, u := range map[string]Unit{
		"the zero value": {}, "no buckets": UnitOf(telemetry.Tail, 1, nil), "another layout": UnitOf(telemetry.Tail, 1.5, empty),
		"no request after the upgrade": UnitOf(telemetry.Body, 1, empty),
	} {
		if got := u.Change(twice); !math.IsNaN(got.Value) || !math.IsNaN(got.Low) || !math.IsNaN(got.High) {
			t.Errorf("%s: %+v, want nothing", name, got)
		}
	}
}

// The body of a native histogram that doubles: nearly all of its requests exceed the bound then. The slope
// there, 1.27, taken for the whole way would be exp(1.416/1.27) = x3.1.
func TestUnitOfABodyThatDoubles(t *testing.T) {
	// Log latencies are normal with a standard deviation of 0.3 around those of 0.1 s: the 0.8-quantile is 0.1287 s.
	survival := func(x, median float64) float64 { return 0.5 * math.Erfc(math.Log(x/median)/0.3/math.Sqrt2) }
	b := Buckets{Exponential: true}
	const n = 1e6
	for i := -48; i <= 16; i++ {
		x := math.Exp2(float64(i) / 8)
		b.Bounds = append(b.Bounds, x)
		b.Before = append(b.Before, n*(1-survival(x, 0.1)))
		b.After = append(b.After, n*(1-survival(x, 0.2)))
	}
	b.Before, b.After = append(b.Before, n), append(b.After, n)
	u := math.Exp2(-24. / 8) // 0.125 s: 23 % before, 94 % after
	got := UnitOf(telemetry.Body, u, &b).Change(math.Log(survival(u, 0.2) / survival(u, 0.1)))
	if math.Abs(got.Value-1) > 0.005 || !(got.Low <= got.Value && got.Value <= got.High) {
		t.Errorf("twice as slow reads as %+v", got)
	}
	// And a tail that has become slow alone: 2 % take ten times as long.
	for i, x := range b.Bounds {
		b.After[i] = n * (1 - 0.98*survival(x, 0.1) - 0.02*survival(x, 1))
	}
	u = math.Exp2(-18. / 8) // 0.210 s: 0.66 % before, 2.65 % after
	after := 0.98*survival(u, 0.1) + 0.02*survival(u, 1)
	got = UnitOf(telemetry.Tail, u, &b).Change(math.Log(after / survival(u, 0.1)))
	// 0.66 % exceed 1.14 s then: of the 2 %, a third (0.435 standard deviations above 1 s, tables).
	if want := math.Exp(0.3*0.435)/u - 1; math.Abs(got.Value/want-1) > 0.02 {
		t.Errorf("a tail alone reads as %+v, want %v", got, want)
	}
}

// The slope of exponential buckets looks a factor of the root of 2 to either side.
func TestSlopeOfExponentialBuckets(t *testing.T) {
	// Survival x^-3 of 1000 requests over the edges 2^(i/8): the slope is 3 whatever the span.
	b := Buckets{Exponential: true, After: make([]float64, 26)}
	for i := range 25 {
		bound := math.Exp2(float64(i) / 8)
		b.Bounds = append(b.Bounds, bound)
		b.Before = append(b.Before, 1000-1000*math.Pow(bound, -3))
	}
	b.Before = append(b.Before, 1000)
	if got := slopeOf(2, &b); math.Abs(got-3) > 1e-9 {
		t.Errorf("slope %v, want 3", got)
	}
	// Five requests in (1.68, 1.83], twenty in (2.6, 2.83] and none between: direct neighbours of 2 have
	// nothing in between. From 2^(4/8) to 2^(12/8) there are 25, 80 remain.
	for i := range b.Bounds {
		b.Before[i] = 895
		if i >= 7 {
			b.Before[i] = 900
		}
		if i >= 12 {
			b.Before[i] = 920
		}
	}
	if got, want := slopeOf(2, &b), math.Log(105.0/80)/math.Ln2; math.Abs(got-want) > 1e-9 { // by hand
		t.Errorf("slope %v, want %v", got, want)
	}
	b.Exponential = false
	if got := slopeOf(2, &b); !math.IsNaN(got) {
		t.Errorf("slope %v between direct neighbours, want NaN", got)
	}
}
