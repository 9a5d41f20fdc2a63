package detect

import (
	"math"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// Points of the normal distribution, as docs/statistics.md rounds them.
const (
	z99 = 2.5758 // two-sided 99 %
	z90 = 1.2816 // two-sided 80 %
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
	return Change{Ratio: nan, Low80: nan, High80: nan, Low99: nan, High99: nan, Bound95: nan, MinimumEffect: nan, Detectable: nan}
}

// finite is x, or NaN where x has run out of range: a change that cannot be written down
// cannot be compared either.
func finite(x float64) float64 {
	if math.IsInf(x, 0) {
		return math.NaN()
	}
	return x
}

// change is the difference adj with standard deviation s as a change in a unit; detectable is
// the difference that could be found.
func change(d rule.Direction, adj, s float64, u baseline.Unit, detectable float64) Change {
	c := Change{
		Ratio:         finite(u.Change(adj).Value),
		Low80:         finite(u.Change(adj - z90*s).Low),
		High80:        finite(u.Change(adj + z90*s).High),
		Low99:         finite(u.Change(adj - z99*s).Low),
		High99:        finite(u.Change(adj + z99*s).High),
		MinimumEffect: math.NaN(),
	}
	upper, lower := finite(u.Change(adj+z95*s).High), finite(u.Change(adj-z95*s).Low)
	switch {
	case d == rule.Down:
		c.Bound95, c.Detectable = lower, -finite(u.Near(-detectable))
	case d == rule.Both && -lower > upper:
		c.Bound95, c.Detectable = lower, finite(u.Near(detectable))
	default:
		c.Bound95, c.Detectable = upper, finite(u.Near(detectable))
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
