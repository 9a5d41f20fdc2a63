package baseline

import (
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func (b *Buckets) interpolation(q float64) stat.Interpolation {
	if b.Exponential {
		return stat.Exponential
	}
	return stat.InterpolationFor(q)
}

// normal95 is the two-sided 95 % point of the normal distribution.
const normal95 = 1.96

// intervals are the 95 % intervals of a histogram's quantiles in both windows; nil where there
// is none. They are those of independent requests, widened by the design effect: what history
// moves beyond counting noise, in units of that noise, at this look. (Woodruff 1952.)
func (r reading) intervals(l Look, c *Calibration, g Geometry) (before, after *Interval) {
	q := r.quantile
	if r.metric == telemetry.Body {
		q = bodyQuantile
	}
	j := l.T - g.FirstLook
	if r.buckets == nil || r.metric != telemetry.Tail && r.metric != telemetry.Body || c == nil || !l.Valid || j >= len(c.Looks) || !(l.V > 0) {
		return nil, nil
	}
	effect := 1 + c.Looks[j].Tau2/l.V
	interval := func(cum []float64) *Interval {
		if !(cum[len(cum)-1] > 0) {
			return nil
		}
		low, high := stat.WoodruffInterval(q, effect, normal95, r.buckets.Bounds, cum, r.buckets.interpolation(q))
		return &Interval{low.Value, high.Value}
	}
	return interval(r.buckets.Before), interval(r.buckets.After)
}
