package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Unit turns a difference of log rates, which is what is tested, into a change in the signal's
// own unit. Of the zero value nothing is known, and every change in it is NaN.
type Unit struct {
	bound   float64  // of the histogram, seconds
	buckets *Buckets // nil: what is counted is the signal itself, or nothing is known

	// slope is |d ln survival / d ln bound| around bound, both windows together; 1 where what is
	// counted is the signal itself. 0 and NaN: unknown.
	slope float64
}

// Counted is the unit of a signal that is counted itself: a ratio, a level, an exceedance.
func Counted() Unit { return Unit{slope: 1} }

// UnitOf is the unit of a metric. That of tail and body is the latency, read from the buckets at
// the metric's bound; without buckets nothing is known.
func UnitOf(m telemetry.Metric, bound float64, b *Buckets) Unit {
	switch {
	case m != telemetry.Tail && m != telemetry.Body:
		return Counted()
	case b == nil:
		return Unit{}
	}
	return Unit{bound, b, slopeOf(bound, b)}
}

// Change is what the log difference of a rate is as a change, after over before, minus 1.
//
// Of a histogram it is how much slower the requests are that were at the bound before: their
// share after the upgrade divided by exp(log) is the share that exceeded the bound
// before, and the distribution after it says which latency that share exceeds now. That is right
// for every way in which a distribution can change as long as the order of requests is what is
// compared, and never runs out where it rises: the distribution before is not asked what lies
// where it had no requests. (docs/statistics.md, "Intervals".)
func (u Unit) Change(log float64) stat.Shift {
	switch {
	case u.buckets != nil:
		return stat.ShiftFrom(u.bound, log, u.buckets.Bounds, u.buckets.After)
	case u.slope > 0:
		x := math.Expm1(log)
		return stat.Shift{Value: x, Low: x, High: x}
	}
	return stat.Shift{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
}

// Near is the same for a change that did not happen, such as the smallest that could be found:
// there is no distribution after it, so the slope at the bound is taken for the whole way. NaN where
// the buckets do not tell one.
func (u Unit) Near(log float64) float64 {
	if !(u.slope > 0) {
		return math.NaN()
	}
	return math.Expm1(log / u.slope)
}

// slopeSpan is how far, as a ratio, the slope at a bound of exponential buckets looks to
// either side: together a factor 2, the least that neighbours of the default classic bounds are
// apart. Between direct neighbours of schema 3, 9 % apart, twelve requests in the tail tell
// nothing; much further, and the mode is mistaken for the tail.
const slopeSpan = math.Sqrt2

// slopeOf is how steeply log survival falls with log bound at a bound: between the
// bounds on either side of it, both windows summed, half a request standing for none. At the
// first positive bound, and at the last finite one, that bound itself takes the place of the
// side that is 0 or +Inf. Of exponential buckets, which hold a few requests each, it is
// between the bounds that are at least slopeSpan away. NaN where there are no requests between
// the two, the bound is not in b, or it stands alone.
func slopeOf(bound float64, b *Buckets) float64 {
	at, ok := slices.BinarySearch(b.Bounds, bound)
	if !ok {
		return math.NaN()
	}
	low, high := at, at
	if at > 0 && b.Bounds[at-1] > 0 {
		low = at - 1
	}
	if at+1 < len(b.Bounds) {
		high = at + 1
	}
	if b.Exponential {
		const near = 1 - 1e-9 // the bounds are powers of 2^(1/8) or so, not quite exact
		for low > 0 && near*b.Bounds[low] > bound/slopeSpan {
			low--
		}
		for high+1 < len(b.Bounds) && b.Bounds[high] < near*bound*slopeSpan {
			high++
		}
	}
	n := b.Before[len(b.Bounds)] + b.After[len(b.Bounds)]
	survivors := func(i int) float64 { return max(n-b.Before[i]-b.After[i], 0.5) }
	slope := math.Log(survivors(low)/survivors(high)) / math.Log(b.Bounds[high]/b.Bounds[low])
	if !(slope > 0) { // 0, or 0/0 of a bound that stands alone
		return math.NaN()
	}
	return slope
}
