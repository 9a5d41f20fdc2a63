package stat

import (
	"math"
	"testing"
)

var defaultBounds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// The histogram of statistics.md section 7.
var goldenCum = []float64{0, 2, 30, 220, 610, 902, 968, 989, 998, 1000, 1000, 1000}

// nativeGolden is the native histogram of schema 3 of statistics.md section 7: bounds
// 2^(-8/8) to 2^(8/8), nothing below the first.
func nativeGolden() (bounds, cum []float64) {
	n := 0.0
	for i, c := range []float64{0, 5, 9, 20, 40, 80, 120, 160, 180, 150, 100, 60, 40, 20, 10, 4, 2} {
		n += c
		bounds, cum = append(bounds, math.Exp2(float64(i-8)/8)), append(cum, n)
	}
	return bounds, append(cum, n)
}

func TestHistogramQuantile(t *testing.T) {
	nan := math.NaN()
	overflow := append(append([]float64{}, goldenCum[:11]...), 1010)
	native, nativeCum := nativeGolden()
	tests := []struct {
		name        string
		q           float64
		bounds, cum []float64
		how         Interpolation
		want        Reading
	}{ // golden values of statistics.md section 7 unless said otherwise
		{"linear", .5, defaultBounds, goldenCum, Linear, Reading{Value: .0858974358974359}},
		{"linear", .9, defaultBounds, goldenCum, Linear, Reading{Value: .24897260273972605}},
		{"linear", .95, defaultBounds, goldenCum, Linear, Reading{Value: .4318181818181818}},
		{"linear", .99, defaultBounds, goldenCum, Linear, Reading{Value: 1.1666666666666667}},
		{"linear", .999, defaultBounds, goldenCum, Linear, Reading{Value: 3.75}},
		{"power law", .5, defaultBounds, goldenCum, PowerLaw, Reading{Value: .078}},
		{"power law", .9, defaultBounds, goldenCum, PowerLaw, Reading{Value: .24667167510142707}},
		{"power law", .95, defaultBounds, goldenCum, PowerLaw, Reading{Value: .3792591249252657}},
		{"power law", .99, defaultBounds, goldenCum, PowerLaw, Reading{Value: 1.0525634671554984}},
		{"power law in the last bucket with requests", .9995, defaultBounds, goldenCum, PowerLaw, Reading{Value: 5}},
		{"exponential", .5, native, nativeCum, Exponential, Reading{Value: .94660426890647}},
		{"exponential", .9, native, nativeCum, Exponential, Reading{Value: 1.2526644386241277}},
		{"exponential", .99, native, nativeCum, Exponential, Reading{Value: 1.6245047927124707}},
		{"exponential bucket from 0 is linear", .95, []float64{1, 2}, []float64{100, 100, 100}, Exponential, Reading{Value: .95}}, // by hand
		{"exponential, half of a bucket", .5, []float64{1, 4}, []float64{0, 10, 10}, Exponential, Reading{Value: 2}},              // by hand
		{"beyond the last bound there is no number", .995, defaultBounds, overflow, PowerLaw, Reading{Value: nan, AtLeast: 10}},
		{"beyond the last bound, linear", .995, defaultBounds, overflow, Linear, Reading{Value: nan, AtLeast: 10}},
		{"a bucket from 0 is linear", .95, []float64{1, 2}, []float64{100, 100, 100}, PowerLaw, Reading{Value: .95}}, // by hand
		{"no requests", .99, []float64{1, 2}, []float64{0, 0, 0}, PowerLaw, Reading{Value: nan}},
		{"only +Inf", .99, nil, []float64{7}, PowerLaw, Reading{Value: nan}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := HistogramQuantile(tt.q, tt.bounds, tt.cum, tt.how)
			if !near(got.Value, tt.want.Value) || got.AtLeast != tt.want.AtLeast {
				t.Errorf("HistogramQuantile(%v) = %+v, want %+v", tt.q, got, tt.want)
			}
		})
	}
}

func TestInterpolationFor(t *testing.T) {
	if InterpolationFor(0.99) != PowerLaw || InterpolationFor(0.9) != PowerLaw || InterpolationFor(0.8) != Linear {
		t.Error("power law from 0.9 on, linear below")
	}
}

// More requests slower than a quantile never lower it.
func TestHistogramQuantileIsMonotone(t *testing.T) {
	for _, how := range []Interpolation{Linear, PowerLaw, Exponential} {
		for _, q := range []float64{.5, .9, .95, .99, .999} {
			last := HistogramQuantile(q, defaultBounds, goldenCum, how).Value
			for slow := 1; slow < 400; slow++ {
				cum := append([]float64{}, goldenCum...)
				cum[len(cum)-1] += float64(slow) // slower than the last bound
				got := HistogramQuantile(q, defaultBounds, cum, how)
				if got.AtLeast != 0 {
					break
				}
				if !(got.Value >= last-1e-12) {
					t.Fatalf("q %v: %d slow requests more read %v, one fewer %v", q, slow, got.Value, last)
				}
				last = got.Value
			}
		}
	}
}

func TestWoodruff(t *testing.T) {
	const z = 1.959963984540054 // scipy norm.ppf(.975)
	low, high := WoodruffLevels(.99, 1000, 4, z)
	if !near(low, .9776662345855174) || high != 1 { // statistics.md section 7
		t.Errorf("levels [%v, %v], want [.9776662345855174, 1]", low, high)
	}
	from, to := WoodruffInterval(.99, 4, z, defaultBounds, goldenCum, PowerLaw)
	// research results/golden_fixture.txt
	if !near(from.Value, 0.6314709604520858) || !near(to.Value, 5) {
		t.Errorf("interval [%v, %v], want [0.6314709604520858, 5]", from.Value, to.Value)
	}

	overflow := append(append([]float64{}, goldenCum[:11]...), 1010)
	if _, to = WoodruffInterval(.99, 4, z, defaultBounds, overflow, PowerLaw); !math.IsNaN(to.Value) || to.AtLeast != 10 {
		t.Errorf("an end beyond the last bound is %+v, want at least 10", to)
	}
	if from, to = WoodruffInterval(.99, 4, z, []float64{1}, []float64{0, 0}, PowerLaw); !math.IsNaN(from.Value) || !math.IsNaN(to.Value) {
		t.Errorf("no requests give [%v, %v]", from, to)
	}
}

// Doubling every count gives no wider interval.
func TestWoodruffNarrowsWithTraffic(t *testing.T) {
	double := make([]float64, len(goldenCum))
	for i, c := range goldenCum {
		double[i] = 2 * c
	}
	low1, high1 := WoodruffInterval(.95, 2, 1.96, defaultBounds, goldenCum, PowerLaw)
	low2, high2 := WoodruffInterval(.95, 2, 1.96, defaultBounds, double, PowerLaw)
	if low2.Value < low1.Value || high2.Value > high1.Value {
		t.Errorf("[%v, %v] of twice the requests is wider than [%v, %v]", low2.Value, high2.Value, low1.Value, high1.Value)
	}
}
