package detect

import (
	"math"

	"github.com/driftwatch/driftwatch/internal/rule"
)

// Points of the normal distribution, as docs/statistics.md rounds them.
const (
	z99 = 2.5758 // two-sided 99 %
	z95 = 1.645  // one-sided 95 %
	z80 = 0.8416 // power 0.8
)

// autoEffect is what "minimum_effect: auto" calls meaningful at the least, the smallest
// whole shift of latency that the design can find in an hour (power 0.55 at alpha 0.01 with
// controls, docs/statistics.md). Below it a rejection would be about changes that nobody
// asked about; above it a real one of that size would be called meaningless.
const autoEffect = 0.10

func unknownChange() Change {
	nan := math.NaN()
	return Change{nan, nan, nan, nan, nan, nan}
}

// finite is x, or NaN where x has run out of range: a change that cannot be written down
// cannot be compared either.
func finite(x float64) float64 {
	if math.IsInf(x, 0) {
		return math.NaN()
	}
	return x
}

// ratio is the change that a difference of logs stands for. A slope that is not above 0
// gives NaN: the buckets do not tell how far the quantile moved.
func ratio(log, slope float64) float64 {
	if !(slope > 0) {
		return math.NaN()
	}
	return finite(math.Expm1(log / slope))
}

// change is the difference adj with standard deviation s as a change; detectable is the
// difference that could be found.
func change(d rule.Direction, adj, s, slope, detectable float64) Change {
	c := Change{
		Ratio:         ratio(adj, slope),
		Low99:         ratio(adj-z99*s, slope),
		High99:        ratio(adj+z99*s, slope),
		MinimumEffect: math.NaN(),
	}
	upper, lower := ratio(adj+z95*s, slope), ratio(adj-z95*s, slope)
	switch {
	case d == rule.Down:
		c.Bound95, c.Detectable = lower, -ratio(-detectable, slope)
	case d == rule.Both && -lower > upper:
		c.Bound95, c.Detectable = lower, ratio(detectable, slope)
	default:
		c.Bound95, c.Detectable = upper, ratio(detectable, slope)
	}
	return c
}

// size is how far change goes on the way that the signal may not go; below 0 if it goes the
// other way.
func size(d rule.Direction, change float64) float64 {
	switch d {
	case rule.Down:
		return -change
	case rule.Both:
		return math.Abs(change)
	}
	return change
}

// farther is the bound that excludes less. NaN excludes nothing.
func farther(d rule.Direction, a, b float64) float64 {
	if math.IsNaN(a) || size(d, a) > size(d, b) {
		return a
	}
	return b
}
