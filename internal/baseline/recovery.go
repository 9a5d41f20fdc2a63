package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Watch is where the windows of a recovery lie, in steps of the upgrade's grid. The
// regressed window is [Guard, Written); the recovery R at look t is [Proof + Guard, Proof + t),
// t = FirstLook..Horizon.
type Watch struct {
	Written int  // the flag was written in this step: the regressed window ends
	Proof   int  // the first step that begins after the flag was proved off
	Fell    bool // the regression was a fall, so that a rise is what recovers it
}

// A Recovery says whether R lies below the regressed window, and back at the baseline. For a
// regression that was a fall, read above for below.
type Recovery struct {
	Placebos int  // of these very windows; fewer than 60 tell nothing
	Known    bool // R and what it is compared with could be had at this look; if not, nothing below is

	// Fallen is the p value of R lying below the regressed window: the rank of w(t) times the
	// standardised load-adjusted difference, downwards, among what the placebos reach at any
	// look. 1 where it cannot be had.
	Fallen float64
	// Stays is the p value of R being as high as the regressed window surely was, by the
	// difference to the baseline and ranked in the same way. 1 where it cannot be had.
	Stays float64
	// Above is the share of placebos whose difference to the baseline is at least that of R, at
	// this look. At most 0.05 means that R is above the 0.95 point. 0, never back, where it
	// cannot be had.
	Above float64
}

// backAtBaseline is the share of placebos above R that says R is no higher than history goes
// without an upgrade.
const backAtBaseline = 0.05

// Back reports whether R is below the 0.95 point of its placebos. Ties are below: an endpoint
// that never had an event, and has none now, is back.
func (r Recovery) Back() bool { return r.Known && r.Above > backAtBaseline }

// Recovered reports whether R shows, at level alpha over all looks together, that the
// regression is gone: enough placebos, back at the baseline, fallen, and the rise excluded.
// Several rows that must all have recovered need no smaller alpha: to call all of them
// recovered is wrong only where it is wrong of one that did not (intersection-union, Berger
// 1982).
func (r Recovery) Recovered(alpha float64) bool {
	return r.Placebos >= fewPlacebos && r.Back() && r.Fallen <= alpha && r.Stays <= alpha
}

// surely is how many standard deviations below its estimate the regressed rise is taken to be.
// A regression is confirmed at the look at which it happens to be high, and falls back from there
// by itself. At 0.5 up to 0.115 of rises that stayed were called recovered, at 1 up to 0.038; a
// doubling that went away is seen in 0.95 and 0.89, at 1.645 in 0.68. (docs/statistics.md, "Recovery")
const surely = 1

// A Recovering is what history says about the windows of a recovery: made once, asked at
// every look.
type Recovering struct {
	g     Geometry
	w     Watch
	level bool
	block int

	placebos      int
	fallen, above []LookCalibration // by look
	aboves        [][]float64       // by look: sign*z of the placebos' R against the baseline, ascending
	mostFallen    []float64         // the placebos' largest -w(t) sign*z against the regressed window, ascending
	mostBelow     []float64         // and against the baseline
	rise          LookCalibration   // of the regressed window against the baseline
}

// NewRecovering calibrates on the history of t, which must reach back as for Calibrate; what
// came after the baseline is not looked at. Placebos are those whose windows have the very
// same lengths and distances, up to the last look; exclude is as in Calibrate.
// (docs/statistics.md, "Recovery")
func NewRecovering(t telemetry.Track, g Geometry, w Watch, exclude [][2]int) *Recovering {
	l := newLedger(t)
	r := &Recovering{g: g, w: w, level: l.level, block: 1}
	if !l.level {
		r.block = blockOf(l.eventsPerStep(g))
	}
	l.setBlock(r.block)
	p := newPair(l)
	looks := g.Looks()
	if looks == 0 {
		return r
	}
	var fallen, above [][]point
	var rises []point
	for _, s := range placebos(l, g, w.Proof+g.Horizon, exclude) {
		f, a, rise := r.points(p, s, looks)
		if math.IsNaN(f[looks-1].d) || math.IsNaN(a[looks-1].d) || math.IsNaN(rise.d) {
			continue
		}
		fallen, above, rises = append(fallen, f), append(above, a), append(rises, rise)
	}
	r.placebos = len(fallen)
	if r.placebos == 0 {
		return r
	}
	r.fallen, _, r.mostFallen = r.calibrate(fallen)
	r.above, r.aboves, r.mostBelow = r.calibrate(above)
	r.rise, _ = fit(rises)
	return r
}

// points are the differences with the upgrade at step s, of the first n looks: R against the
// regressed window and against the baseline, and the one of these against the other.
func (r *Recovering) points(p *pair, s, n int) (fallen, above []point, rise point) {
	fallen, above = make([]point, n), make([]point, n)
	from, to := s+r.w.Proof+r.g.Guard, s+r.w.Proof+r.g.FirstLook
	p.refer(s+r.g.Guard, s+r.w.Written)
	p.points(from, to, fallen)
	p.refer(s+r.g.BaselineStart(), s-r.g.Gap)
	p.points(from, to, above)
	var x [1]point
	p.points(s+r.g.Guard, s+r.w.Written, x[:])
	return fallen, above, x[0]
}

// fit calibrates on points, and returns what is left of each in its standard deviations; NaN
// where there is none.
func fit(points []point) (LookCalibration, []float64) {
	at := column{d: make([]float64, len(points)), load: make([]float64, len(points)), v: make([]float64, len(points))}
	for i, p := range points {
		at.d[i], at.load[i], at.v[i] = p.d, p.load, p.v
	}
	z := make([]float64, len(points))
	c := at.regress(z)
	c.Tau2 = at.excess(z)
	for i := range z {
		z[i] /= scale(at.v[i] + c.Tau2)
	}
	return c, z
}

// calibrate fits every look of the placebos null, and ranks their sign*z at each look and
// their largest -w(t) sign*z over all looks.
func (r *Recovering) calibrate(null [][]point) (looks []LookCalibration, z [][]float64, most []float64) {
	n := r.g.Looks()
	looks, z, most = make([]LookCalibration, n), make([][]float64, n), make([]float64, len(null))
	for i := range most {
		most[i] = math.Inf(-1)
	}
	one := make([]point, len(null))
	for j := range n {
		for i := range null {
			one[i] = null[i][j]
		}
		c, left := fit(one)
		looks[j] = c
		weight := r.g.Weight(r.g.FirstLook + j)
		for i, x := range left {
			if x == x {
				z[j] = append(z[j], r.sign()*x)
				most[i] = max(most[i], -weight*r.sign()*x)
			}
		}
		slices.Sort(z[j])
	}
	slices.Sort(most)
	return looks, z, most
}

func (r *Recovering) sign() float64 {
	if r.w.Fell {
		return -1
	}
	return 1
}

// At returns what look at, at steps after the proof, says; t is the track as it is known by
// then, from the baseline on, with the steps before Proof + at complete. Where R is still
// empty, or more than a fifth of one of the windows is missing, nothing is known.
func (r *Recovering) At(t telemetry.Track, at int) Recovery {
	out := Recovery{Placebos: r.placebos, Fallen: 1, Stays: 1}
	n := at - r.g.FirstLook + 1
	if r.placebos == 0 || n < 1 || n > r.g.Looks() {
		return out
	}
	l := newLedger(t.Slice(r.g.BaselineStart(), r.w.Proof+at))
	l.setBlock(r.block)
	fallen, above, rise := r.points(newPair(l), 0, n)
	f, a := fallen[n-1], above[n-1]
	if math.IsNaN(f.d) || math.IsNaN(a.d) || math.IsNaN(rise.d) {
		return out
	}
	out.Known = true
	weight, sign := r.g.Weight(at), r.sign()
	adj, s := r.fallen[n-1].adjust(f, 0)
	out.Fallen = stat.RankP(r.mostFallen, -weight*sign*adj/s)
	adj, s = r.above[n-1].adjust(a, 0)
	out.Above = stat.RankP(r.aboves[n-1], sign*adj/s)
	had, sd := r.rise.adjust(rise, 0)
	least := max(0, sign*had-surely*sd)
	out.Stays = stat.RankP(r.mostBelow, weight*(least-sign*adj)/s)
	return out
}
