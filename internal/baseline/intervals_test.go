package baseline

import (
	"math"
	"testing"

	"github.com/driftwatch/driftwatch/internal/stat"
)

// The interval of a quantile is that of independent requests, widened by how much more than
// they the history moves: at the last look, and for histograms only.
func TestIntervalsOfQuantiles(t *testing.T) {
	track := fixture()
	c := Calibrate(track, hourly, nil)
	b := &Buckets{Bounds: []float64{0.5, 1, 2}, Before: []float64{70000, 84000, 85000, 85500}, After: []float64{60000, 78000, 80500, 81000}}
	r := Compare(track, &c, hourly, b, 0.99, 60)
	l := r.Looks[len(r.Looks)-1]
	effect := 1 + c.Looks[55].Tau2/l.V
	if effect < 5 {
		t.Fatalf("design effect %v", effect)
	}
	for _, w := range []struct {
		got   *Interval
		value float64
		cum   []float64
	}{{r.Before95, r.Before, b.Before}, {r.After95, r.After, b.After}} {
		low, high := stat.WoodruffInterval(0.99, effect, 1.96, b.Bounds, w.cum, stat.PowerLaw)
		if w.got == nil || w.got.Low != low.Value || w.got.High != high.Value && !(math.IsNaN(w.got.High) && high.AtLeast == 2) {
			t.Errorf("interval %+v, want %+v to %+v", w.got, low, high)
		}
		if !(w.got.Low < w.value && !(w.got.High < w.value)) {
			t.Errorf("interval %+v of %v", w.got, w.value)
		}
	}
	for name, r := range map[string]Comparison{
		"no buckets":     Compare(track, &c, hourly, nil, 0.99, 60),
		"no calibration": Compare(track, nil, hourly, b, 0.99, 60),
		"no look yet":    Compare(track, &c, hourly, b, 0.99, 4),
		"empty buckets":  Compare(track, &c, hourly, &Buckets{Bounds: []float64{1}, Before: []float64{0, 0}, After: []float64{0, 0}}, 0.99, 60),
	} {
		if r.Before95 != nil || r.After95 != nil {
			t.Errorf("%s: intervals %+v and %+v", name, r.Before95, r.After95)
		}
	}
}
