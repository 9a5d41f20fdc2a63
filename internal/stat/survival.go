package stat

import (
	"math"
	"sort"
)

// A Shift is a change of latency, after over before, minus 1: Value as it is read, and Low and
// High, which Value lies between, as far as the buckets leave it open. NaN in all three: nothing
// can be read.
type Shift struct {
	Value float64
	Low   float64 // -1 below the first bound
	High  float64 // NaN beyond the last bound: there is no end
}

// ShiftFrom is how far it is from a bound u to the latency whose survival is that of u times
// exp(-log): S⁻¹(S(u) exp(-log))/u - 1. Of the counts after an upgrade, with log the
// difference of the log exceedance of u, that is where the requests went that were at u before.
// It never falls as log grows, and is 0 at 0.
//
// bounds and cum are those of HistogramQuantile, and so is the floor of survival. Between two bounds
// Low and High are the lesser and the greater of two readings, and Value is their geometric mean:
// the logarithm of survival (PowerLaw) and its probit, each linear in log latency. One is right for a
// Pareto distribution, the other for a lognormal one. In the first bucket Value is
// linear, and Low and High are its ends; where survival would have to be 1 or more, Value is the
// latency that all requests exceed, and Low is -1. Beyond the last bound, or the first that no
// request exceeds, Value goes on with the power law of the last two bounds that requests lie
// between, and Low is that bound; without two of them nothing can be read. Nor can it where u is
// no bound above 0, or there are no requests. It panics if the shapes do not fit.
func ShiftFrom(u, log float64, bounds, cum []float64) Shift {
	if len(cum) != len(bounds)+1 {
		panic("stat: cum must be one longer than bounds")
	}
	s := survival{bounds, cum}
	at := sort.SearchFloat64s(bounds, u)
	if at == len(bounds) || bounds[at] != u || !(u > 0) || !(s.n() > 0) || math.IsNaN(log) {
		return Shift{math.NaN(), math.NaN(), math.NaN()}
	}
	x := s.inverse(at, s.share(at)*math.Exp(-log))
	return Shift{x.Value/u - 1, x.Low/u - 1, x.High/u - 1}
}

// survival is the share of the requests of a histogram that are slower than each of its bounds.
type survival struct {
	bounds, cum []float64
}

func (s survival) n() float64 { return s.cum[len(s.bounds)] }

// floor is half a request, which stands for none: no share is less.
func (s survival) floor() float64 { return 0.5 / s.n() }

// share is that of the requests slower than bound i.
func (s survival) share(i int) float64 { return max((s.n()-s.cum[i])/s.n(), s.floor()) }

// probit is the point that a standard normal exceeds with survival p.
func (s survival) probit(p float64) float64 {
	return math.Sqrt2 * math.Erfcinv(2*min(max(p, s.floor()), 1-s.floor()))
}

// inverse is the latency, seconds, that a share p of the requests exceeds. Where survival is the
// same at several bounds it is that of them which is nearest to bound at.
func (s survival) inverse(at int, p float64) Shift {
	u := s.bounds[at]
	switch {
	case p == s.share(at):
		return Shift{u, u, u}
	case p >= 1:
		all := 0.0 // the last bound up to u that all requests exceed
		if high := sort.Search(at+1, func(i int) bool { return s.share(i) < 1 }); high > 0 {
			all = max(s.bounds[high-1], 0)
		}
		return Shift{all, 0, all}
	case p > s.share(at):
		return s.bucket(sort.Search(at, func(i int) bool { return s.share(i) < p }), p)
	}
	high := at + 1 + sort.Search(len(s.bounds)-at-1, func(i int) bool { return s.share(at+1+i) <= p })
	if high == len(s.bounds) {
		return s.beyond(at, p)
	}
	return s.bucket(high, p)
}

// bucket is inverse in the bucket that ends at bound high: survival is at least p where it
// begins, and at most p where it ends.
func (s survival) bucket(high int, p float64) Shift {
	to := s.bounds[high]
	if high == 0 || s.bounds[high-1] <= 0 {
		all := 1.0
		if high > 0 {
			all = s.share(high - 1)
		}
		to = max(to, 0)
		return Shift{to * (all - p) / (all - s.share(high)), 0, to}
	}
	from := s.bounds[high-1]
	between := func(scale func(float64) float64) float64 {
		a, b := scale(s.share(high-1)), scale(s.share(high))
		if a == b { // half a request or less, by probit
			return to
		}
		return from * math.Pow(to/from, (scale(p)-a)/(b-a))
	}
	power, probit := between(math.Log), between(s.probit)
	least, most := min(power, probit), max(power, probit)
	return Shift{min(max(math.Sqrt(least*most), least), most), least, most} // rounding keeps between them, too
}

// beyond is inverse where fewer requests than at the last bound exceed the latency.
func (s survival) beyond(at int, p float64) Shift {
	last := len(s.bounds) - 1
	for last > at && s.share(last-1) == s.floor() {
		last-- // nor is it known how far beyond the first of these the slowest would have been
	}
	low := last - 1
	for low >= 0 && s.share(low) == s.share(last) {
		low--
	}
	if low < 0 || s.bounds[low] <= 0 {
		return Shift{math.NaN(), math.NaN(), math.NaN()}
	}
	end := s.bounds[last]
	slope := math.Log(s.share(low)/s.share(last)) / math.Log(end/s.bounds[low])
	return Shift{end * math.Pow(s.share(last)/p, 1/slope), end, math.NaN()}
}
