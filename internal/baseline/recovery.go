package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Watch is where the windows of a recovery lie, in steps of the upgrade's grid. The
// regressed window is [Guard, Written), the recovery R is [Proof + Guard, Through).
type Watch struct {
	Written int  // the flag was written in this step: the regressed window ends
	Proof   int  // the first step that begins after the flag was proved off
	Through int  // steps before it are complete: R ends
	Fell    bool // the regression was a fall, so that a rise is what recovers it
}

// A Recovery says whether R lies below the regressed window and back at the baseline. For a
// regression that was a fall, read above for below.
type Recovery struct {
	Placebos int // of these very windows; fewer than 60 tell nothing

	// Fallen is the p value of R lying below the regressed window: the rank, downwards, of the
	// standardised load-adjusted difference among its placebos. 1 where it cannot be had.
	Fallen float64
	// Above is the p value of R lying above the baseline. At most 0.05 means that R is above
	// the 0.95 point of its placebos. 0, never back, where it cannot be had.
	Above float64
}

// backAtBaseline is the share of placebos above R that says R is no higher than history goes
// without an upgrade.
const backAtBaseline = 0.05

// Back reports whether R is below the 0.95 point of its placebos. Ties are below: an endpoint
// that never had an event, and has none now, is back.
func (r Recovery) Back() bool { return r.Above > backAtBaseline }

// Recover compares R with the regressed window and with the baseline, both adjusted for load,
// and ranks both differences among placebos of the very same lengths and distances over the
// history of t. t must hold history and recovery in one; exclude is as in Calibrate. Where R
// is still empty, or more than a fifth of one of the three windows is missing, nothing is
// known. (docs/statistics.md, "Recovery")
func Recover(t telemetry.Track, g Geometry, w Watch, exclude [][2]int) Recovery {
	l := newLedger(t)
	block := 1
	if !l.level {
		block = blockOf(l.eventsPerStep(g))
	}
	l.setBlock(block)
	p := newPair(l)
	start := w.Proof + g.Guard
	// at returns the two differences with the upgrade at step s.
	at := func(s int) (fallen, above point) {
		var x [1]point
		p.refer(s+g.Guard, s+w.Written)
		p.points(s+start, s+w.Through, x[:])
		fallen = x[0]
		p.refer(s+g.BaselineStart(), s-g.Gap)
		p.points(s+start, s+w.Through, x[:])
		return fallen, x[0]
	}

	var fallen, above []point
	for _, s := range placebos(l, g, w.Through, exclude) {
		a, b := at(s)
		if math.IsNaN(a.d) || math.IsNaN(b.d) {
			continue
		}
		fallen, above = append(fallen, a), append(above, b)
	}
	out := Recovery{Placebos: len(fallen), Fallen: 1}
	realFallen, realAbove := at(0)
	if len(fallen) == 0 || math.IsNaN(realFallen.d) || math.IsNaN(realAbove.d) {
		return out
	}
	sign := 1.0
	if w.Fell {
		sign = -1
	}
	out.Fallen = rank(fallen, realFallen, -sign)
	out.Above = rank(above, realAbove, sign)
	return out
}

// rank is the share of placebos whose standardised adjusted difference, times sign, is at
// least that of x.
func rank(null []point, x point, sign float64) float64 {
	at := column{d: make([]float64, len(null)), load: make([]float64, len(null)), v: make([]float64, len(null))}
	for i, p := range null {
		at.d[i], at.load[i], at.v[i] = p.d, p.load, p.v
	}
	z := make([]float64, len(null))
	c := at.regress(z)
	c.Tau2 = at.excess(z)
	for i := range z {
		z[i] *= sign / scale(at.v[i]+c.Tau2)
	}
	slices.Sort(z)
	adj, s := c.adjust(x, 0)
	return stat.RankP(z, sign*adj/s)
}
