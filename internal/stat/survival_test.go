package stat

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// cumulated are the cumulative counts of n requests of whom a share survival(x) is slower than x.
func cumulated(n float64, bounds []float64, survival func(x float64) float64) []float64 {
	var cum []float64
	for _, b := range bounds {
		cum = append(cum, n*(1-survival(b)))
	}
	return append(cum, n)
}

func TestShiftFrom(t *testing.T) {
	nan := math.NaN()
	none := Shift{nan, nan, nan}
	bounds := []float64{1, 2, 4, 8}
	// Of 1000 requests 800, 200, 20 and 20 are slower than the bounds.
	cum := []float64{200, 800, 980, 980, 1000}
	// None is slower than 4: half a request stands for none.
	short := []float64{200, 800, 1000, 1000, 1000}
	slow := []float64{0, 0, 500, 900, 1000} // all are slower than 2
	tests := []struct {
		name        string
		u, log      float64
		bounds, cum []float64
		want        Shift
	}{
		{"nothing moved", 2, 0, bounds, cum, Shift{0, 0, 0}},
		{"to a bound", 1, math.Log(4), bounds, cum, Shift{1, 1, 1}},         // 200 is at 2
		{"back to one", 2, -math.Log(4), bounds, cum, Shift{-.5, -.5, -.5}}, // 800 is at 1
		{
			// 80 lies log(2.5)/log(10) = .39794 of the way in log survival. The probits of .2, .08 and .02
			// are .841621, 1.405072 and 2.053749 (tables): .464844 of the way.
			"within a bucket", 2, math.Log(2.5), bounds, cum,
			Shift{math.Exp2((.3979400087+.464844)/2) - 1, math.Exp2(.3979400087) - 1, math.Exp2(.464844) - 1},
		},
		{"no request between two bounds", 4, math.Log(1 + 1e-12), bounds, cum, Shift{math.Pow(1+1e-12, math.Ln2/math.Log(10)*2)*2 - 1, 1, nan}},
		{"from the first of them", 4, -math.Log(10), bounds, cum, Shift{-.5, -.5, -.5}},
		{"from the second of them", 8, -math.Log(10), bounds, cum, Shift{-.75, -.75, -.75}},
		// From 2 to 8 survival falls by 10: by 2 it falls on the way to 8 * 4^(log 2 / log 10).
		{"beyond the last bound", 2, math.Log(20), bounds, cum, Shift{4*math.Pow(4, math.Log10(2)) - 1, 3, nan}},
		{"at the last bound", 8, math.Log(2), bounds, cum, Shift{math.Pow(4, math.Log10(2)) - 1, 0, nan}},
		// Half a request is 1/400 of 200, from 2 to 4.
		{"beyond the slowest request", 2, math.Log(800), bounds, short, Shift{2*math.Pow(2, math.Log(2)/math.Log(400)) - 1, 1, nan}},
		{"without an event", 8, math.Log(2), bounds, short, Shift{math.Pow(4, math.Log(2)/math.Log(400)) - 1, 0, nan}},
		{"in the first bucket", 1, -math.Log(1.125), bounds, cum, Shift{-.5, -1, 0}}, // 900: half of 200
		{"all requests", 2, -math.Log(5), bounds, cum, Shift{-1, -1, -1}},
		{"more than all", 2, -9, bounds, cum, Shift{-1, -1, -1}},
		{"more than all, none of them fast", 8, -9, bounds, slow, Shift{-.75, -1, -.75}},
		{"more than all at a bound that all exceed", 1, -1, bounds, slow, Shift{0, -1, 0}},
		{"a single bound", 2, -math.Log(1.5), []float64{2}, []float64{800, 1000}, Shift{-.125, -1, 0}}, // 700/800
		{"beyond a single bound", 2, .1, []float64{2}, []float64{800, 1000}, none},
		{"beyond a bound above 0", 2, .1, []float64{0, 2}, []float64{0, 800, 1000}, none},
		{"below a bound above 0", 2, -math.Log(2.5), []float64{0, 2}, []float64{0, 800, 1000}, Shift{-.375, -1, 0}}, // 500/800
		{"no bound", 3, .1, bounds, cum, none},
		{"a bound of 0", 0, .1, []float64{0, 2}, []float64{0, 800, 1000}, none},
		{"no requests", 2, .1, bounds, make([]float64, 5), none},
		{"no bounds", 2, .1, nil, []float64{3}, none},
		{"no difference", 2, nan, bounds, cum, none},
	} // by hand
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ShiftFrom(tt.u, tt.log, tt.bounds, tt.cum)
			near := func(a, b float64) bool { return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-6 }
			if !near(got.Value, tt.want.Value) || !near(got.Low, tt.want.Low) || !near(got.High, tt.want.High) {
				t.Errorf("ShiftFrom(%v, %v) = %+v, want %+v", tt.u, tt.log, got, tt.want)
			}
		})
	}
}

// Whatever the counts: nothing at 0, never falling, the value between its ends, and
// twice the requests say the same.
func TestShiftFromKeepsOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(4, seed))
		n, bounds, cum := 0.0, []float64{}, []float64{}
		for i := range 1 + r.IntN(12) {
			if r.IntN(3) > 0 {
				n += float64(r.IntN(40))
			}
			bounds, cum = append(bounds, math.Exp2(float64(i)/2)-float64(r.IntN(2))), append(cum, n)
		}
		sort.Float64s(bounds)
		bounds = slices.Compact(bounds)
		cum = append(cum[:len(bounds)], cum[len(bounds)-1]+float64(1+r.IntN(9)))
		twice := make([]float64, len(cum))
		for i := range cum {
			twice[i] = 2 * cum[i]
		}
		u := bounds[r.IntN(len(bounds))]
		if u <= 0 {
			continue
		}
		if got := ShiftFrom(u, 0, bounds, cum); got != (Shift{}) {
			t.Fatalf("seed %d: %+v without a difference", seed, got)
		}
		last := Shift{-1, -1, -1}
		for log := -6.0; log < 6; log += 1. / 64 {
			got := ShiftFrom(u, log, bounds, cum)
			const rounding = 1e-12
			if got.Value < last.Value-rounding || got.Low < last.Low-rounding || got.High < last.High-rounding {
				t.Fatalf("seed %d: at %v %+v, after %+v", seed, log, got, last)
			}
			if got.Low > got.Value || got.Value > got.High || got.Low < -1 {
				t.Fatalf("seed %d: at %v %+v", seed, log, got)
			}
			// Where survival is neither 0 nor 1, which half a request stands for.
			if cum[0] > 0 {
				if same := ShiftFrom(u, log, bounds, twice); math.Abs(same.Value-got.Value) > 1e-9 {
					t.Fatalf("seed %d: at %v %+v, and %+v of twice the requests", seed, log, got, same)
				}
			}
			last = got
		}
	}
}

// A shape is a distribution of latencies around 1.
type shape struct {
	name     string
	survival func(x float64) float64
}

// shapes are lighter and heavier than the lognormal that the probit is right for, and the power law
// that the power law is: the Lomax tail is one far out only.
var shapes = []shape{
	{"lognormal", distuv.LogNormal{Mu: 0, Sigma: 0.6}.Survival},
	{"Lomax", func(x float64) float64 { return math.Pow(1+x/2, -3) }},
	{"gamma", distuv.Gamma{Alpha: 2, Beta: 2}.Survival},
	{"exponential", func(x float64) float64 { return math.Exp(-x) }},
	{"Weibull", distuv.Weibull{K: 0.6, Lambda: 1}.Survival},
	bimodal,
}

// bimodal are hits of a cache, and 15 % misses that take eight times as long.
var bimodal = shape{"bimodal", func(x float64) float64 {
	hit, miss := distuv.LogNormal{Mu: 0, Sigma: 0.3}, distuv.LogNormal{Mu: math.Log(8), Sigma: 0.3}
	return 0.85*hit.Survival(x) + 0.15*miss.Survival(x)
}}

// inverse is the x that a share p exceeds.
func (s shape) inverse(p float64) float64 {
	low, high := 1e-9, 1e9
	for range 200 {
		if mid := math.Sqrt(low * high); s.survival(mid) > p {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// slower is s with every request slower by whole, and then a share of them three times as slow.
func (s shape) slower(whole, share float64) shape {
	return shape{s.name, func(x float64) float64 {
		return (1-share)*s.survival(x/whole) + share*s.survival(x/whole/3)
	}}
}

// What is read of distributions that neither interpolation is made for, without any noise: how
// far the level is from the truth, and how far the truth lies outside of Low and High, over 40
// places among the bounds. (The table of docs/statistics.md, "Intervals"; the truth is the inverse of
// the shape itself.)
func TestShiftFromOfShapes(t *testing.T) {
	var native []float64
	for i := -80; i <= 56; i++ {
		native = append(native, math.Exp2(float64(i)/8))
	}
	changes := []struct {
		name         string
		whole, share float64
	}{{"-40 %", 0.6, 0}, {"+25 %", 1.25, 0}, {"+70 %", 1.7, 0}, {"5 % of them x3", 1, 0.05}}
	for _, layout := range []struct {
		name          string
		bounds        []float64
		level, beyond float64 // at most, for the unimodal shapes
	}{{"classic", defaultBounds, 0.12, 0.06}, {"native", native, 0.004, 0.001}} {
		for _, s := range shapes {
			for _, share := range []float64{0.2, 0.01} {
				for _, change := range changes {
					var errs []float64
					beyond := 0.0
					for i := range 40 {
						scale := 0.03 * math.Pow(10, float64(i)/40)
						before := shape{s.name, func(x float64) float64 { return s.survival(x / scale) }}
						after := before.slower(change.whole, change.share)
						u := slices.MinFunc(layout.bounds, func(a, b float64) int {
							far := func(x float64) float64 { return math.Abs(math.Log(before.survival(x) / share)) }
							return cmp.Compare(far(a), far(b))
						})
						truth := after.inverse(before.survival(u)) / u
						got := ShiftFrom(u, math.Log(after.survival(u)/before.survival(u)), layout.bounds, cumulated(1e7, layout.bounds, after.survival))
						errs = append(errs, (1+got.Value)/truth-1)
						beyond = max(beyond, (1+got.Low)/truth-1, 1-(1+got.High)/truth)
					}
					slices.Sort(errs)
					t.Logf("%s %s, %v %% beyond, %s: level off by %.1f to %.1f %%, median %.1f %%; truth outside by at most %.1f %%", layout.name, s.name, share*100,
						change.name, 100*errs[0], 100*errs[39], 50*(errs[19]+errs[20]), 100*beyond)
					level, limit := layout.level, layout.beyond
					if s.name == bimodal.name {
						level, limit = 0.65, 0.65 // between two modes nothing in the counts tells where requests are
						if layout.name == "native" {
							level, limit = 0.01, 0.01
						}
					}
					if -errs[0] > level || errs[39] > level || beyond > limit {
						t.Errorf("%s %s, %v beyond, %s: level off by %v to %v, want at most %v; truth outside by %v, want at most %v",
							layout.name, s.name, share, change.name, errs[0], errs[39], level, beyond, limit)
					}
				}
			}
		}
	}
}
