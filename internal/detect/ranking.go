package detect

import (
	"math"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/stat"
)

// A ranking is how one metric of one endpoint stands among placebos, look by look: by itself,
// or against the controls.
type ranking struct {
	maxima, minima []float64 // its own placebos, ascending
	scale          float64   // median of theirs at the horizon
	restarts       baseline.Restarts
	pool           *pool
	tests          float64 // that the endpoint pays for

	looks  []*baseline.Adjusted // nil: there is nothing to rank
	p      []float64            // never rises, and stays what it was after the last look
	better []float64            // p of the other way, 1 if there is none
	falls  []bool               // where both ways are looked: p is that of the fall; else nil
}

func (k *ranking) history(down bool) []float64 {
	if down {
		return k.minima
	}
	return k.maxima
}

// adjustedAt is the difference at a look, or at the last valid one before it; nil if there is
// none.
func (k *ranking) adjustedAt(look int) *baseline.Adjusted {
	for ; look >= 0; look-- {
		if k.looks[look] != nil {
			return k.looks[look]
		}
	}
	return nil
}

func (k *ranking) attainableQ(m int) float64 { return attainable(k.tests, m, k.pool.n) }

// rank fills in p and better. skip are the looks that may not count, because of their load.
func (k *ranking) rank(g baseline.Geometry, d rule.Direction, skip []bool) {
	up, down := k.process(g, +1, skip), k.process(g, -1, skip)
	switch d {
	case rule.Down:
		k.p, k.better = down, up
	case rule.Both:
		k.p, k.better, k.falls = up, make([]float64, len(up)), make([]bool, len(up))
		for i, p := range down {
			k.falls[i] = p < k.p[i]
			k.p[i] = min(1, 2*min(k.p[i], p))
			k.better[i] = 1
		}
	default:
		k.p, k.better = up, down
	}
}

// agrees reports whether the difference at a look goes the way that p speaks of: p never rises
// again, and may stem from a look at which the difference went the other way.
func (k *ranking) agrees(look int) bool {
	return k.falls == nil || k.falls[look] == (k.adjustedAt(look).Adj < 0)
}

// process returns p at each look on the way of sign, up or down: the rank of the running
// maximum of w(t) z in the pool, where it passes the guards of its own history and of its past
// upgrades. A look at a load
// that history does not know adds nothing to the maximum.
func (k *ranking) process(g baseline.Geometry, sign float64, skip []bool) []float64 {
	own, pooled, restarts := k.maxima, k.pool.up, k.restarts.Maxima
	if sign < 0 {
		own, pooled, restarts = k.minima, k.pool.down, k.restarts.Minima
	}
	p := make([]float64, len(k.looks))
	best, now, skipped := math.Inf(-1), 1.0, false
	for i, l := range k.looks {
		switch {
		case l == nil:
		case skip[i]:
			skipped = true
		default:
			// The running maximum of the comparison holds the skipped looks, too.
			m := l.Max
			if sign < 0 {
				m = l.Min
			}
			if skipped {
				m = g.Weight(g.FirstLook+i) * sign * l.Z
			}
			if m > best {
				best = m
				if stat.RankP(own, m) <= ownGuard && (len(restarts) < restartUpgrades || stat.RankP(restarts, m) <= restartGuard) {
					now = min(now, pooled.rankP(m))
				}
			}
		}
		p[i] = now
	}
	return p
}

// detectable is the difference of logs that is found at the horizon with power 0.8.
func (k *ranking) detectable(d rule.Direction, alpha float64) float64 {
	alpha /= k.tests
	var critical float64
	switch d {
	case rule.Down:
		critical = k.pool.down.critical(alpha)
	case rule.Both:
		critical = max(k.pool.up.critical(alpha), k.pool.down.critical(alpha))
	default:
		critical = k.pool.up.critical(alpha)
	}
	return k.scale * (critical + z80)
}

// rankings gives every testable test its own ranking, and one against controls where it has
// been calibrated for that.
func (f *family) rankings(tests []*test) {
	var own, against []*test
	for _, t := range tests {
		c := t.Calibration
		t.own = &ranking{maxima: c.Maxima, minima: c.Minima, scale: c.Scale, restarts: c.Restarts, tests: t.tests(), looks: make([]*baseline.Adjusted, len(t.looks))}
		own = append(own, t)
		for i, l := range t.looks {
			if l != nil && l.Valid {
				t.own.looks[i] = &baseline.Adjusted{Adj: l.Adj, S: l.S, Z: l.Z, Max: l.Max, Min: l.Min}
			}
		}
		if a := c.Against; a != nil && min(len(a.Maxima), len(a.Minima)) >= minPlacebos {
			t.against = &ranking{maxima: a.Maxima, minima: a.Minima, scale: a.Scale, tests: t.tests(), looks: make([]*baseline.Adjusted, len(t.looks))}
			against = append(against, t)
			for i, l := range t.looks {
				if l != nil && l.Valid {
					t.against.looks[i] = l.Against
				}
			}
		}
	}
	alpha := f.in.Rule.Alpha
	pools(own, func(t *test) *ranking { return t.own }, f.m, alpha)
	pools(against, func(t *test) *ranking { return t.against }, f.m, alpha)
	for _, t := range tests {
		skip := make([]bool, len(t.looks))
		for i, l := range t.looks {
			skip[i] = l != nil && outside(l)
		}
		t.own.rank(f.in.Geometry, t.signal.Direction, skip)
		if t.against == nil {
			continue
		}
		t.against.rank(f.in.Geometry, t.signal.Direction, skip)
		// A pool too small to confirm anything in must not take the place of one that can.
		if q := t.against.attainableQ(f.m); q > alpha.Act && q > t.own.attainableQ(f.m) {
			t.against = nil
		}
	}
}
