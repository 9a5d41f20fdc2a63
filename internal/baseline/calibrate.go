package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// effectivePlacebos is how many independent placebos the coefficients are taken to rest on.
// Hundreds of overlapping windows of one week are worth some 40 to 160 independent ones;
// the smaller number widens the scale where load or controls are unusual.
const effectivePlacebos = 40

// minLoadSD keeps the leverage finite where history's load never moved at all.
const minLoadSD = 1e-9

// Calibrate measures how t moves without an upgrade. t must reach back to g.First() for all
// placebos to be had; it may end anywhere after the baseline begins, because later steps are
// not looked at. exclude are ranges of steps [from, to) that no placebo may touch: known
// upgrades and incidents.
//
// Placebos are the steps -j*Stride back to -History whose windows lie in the track, end before
// the baseline begins, and have at most a fifth of their steps missing at the horizon. Each
// is looked at exactly as the upgrade is (Compare); a look that cannot be made at a placebo,
// because too much is missing there or nothing was requested, is left out of that placebo's
// maximum and of that look's regression. (docs/statistics.md, "Calibration")
func Calibrate(t telemetry.Track, g Geometry, exclude [][2]int) Calibration {
	return (*Controls)(nil).Calibrate(t, g, exclude)
}

// Calibrate is Calibrate, and besides it the calibration against the controls: with their mean
// difference as a second covariate. Where t is one of them, the mean is that of the others. A
// nil c, or one that leaves fewer than 60 placebos, gives no Against.
func (c *Controls) Calibrate(t telemetry.Track, g Geometry, exclude [][2]int) Calibration {
	m := c.begin(t, g, exclude)
	out, p := m.description, m.paths
	if out.Placebos = p.valid; p.valid == 0 {
		return out
	}
	n := newNull(p, g)
	n.calibrate(nil)
	out.Looks, out.Maxima, out.Minima, out.Scale, out.Days = n.looks, n.maxima, n.minima, n.scale, n.days
	if mean, ok := c.without(t, p); ok {
		n = newNull(p, g)
		n.calibrate(mean)
		if len(n.maxima) >= fewPlacebos {
			out.Against = &Against{Looks: n.looks, Maxima: n.maxima, Minima: n.minima, Scale: n.scale}
		}
	}
	out.Control = c != nil && c.members[t.Endpoint]
	return out
}

// describe fills in what a calibration says of the track itself.
func (l *ledger) describe(t telemetry.Track, g Geometry) Calibration {
	c := Calibration{Endpoint: t.Endpoint, Signal: t.Signal, Metric: t.Metric, Bound: t.Bound, Block: 1}
	if !l.level {
		c.EventsPerStep = l.eventsPerStep(g)
		c.Block = blockOf(c.EventsPerStep)
		c.Class = classOf(c.EventsPerStep)
	}
	return c
}

// slots are the steps at which the geometry has room for a placebo, oldest first: its windows,
// the last of which ends at step + end, lie before the baseline.
func (g Geometry) slots(end int) []int {
	var at []int
	for p := -g.Stride(); p >= -g.History; p -= g.Stride() {
		if p+end <= g.BaselineStart() {
			at = append(at, p)
		}
	}
	slices.Reverse(at)
	return at
}

// placebos are the slots of g whose windows can be laid over l.
func placebos(l *ledger, g Geometry, end int, exclude [][2]int) []int {
	return slices.DeleteFunc(g.slots(end), func(p int) bool {
		from, to := p+g.BaselineStart(), p+end
		return !l.holds(from, to) || touches(exclude, from, to)
	})
}

func touches(ranges [][2]int, from, to int) bool {
	for _, r := range ranges {
		if r[0] < to && from < r[1] {
			return true
		}
	}
	return false
}

// Paths are the differences of one track at every slot of the geometry and every look. Element
// look*len(slots) + slot; d is NaN where there is none.
type paths struct {
	slots      []int
	d, load, v []float64
	valid      int // slots that are placebos: those with a difference at the horizon
}

func newPaths(l *ledger, g Geometry, exclude [][2]int) *paths {
	p := &paths{slots: g.slots(g.Horizon)}
	n, looks := len(p.slots), g.Looks()
	all := make([]float64, 3*n*looks)
	p.d, p.load, p.v = all[:n*looks], all[n*looks:2*n*looks], all[2*n*looks:]
	pair := newPair(l)
	row := make([]point, looks)
	for i, step := range p.slots {
		from, to := step+g.BaselineStart(), step+g.Horizon
		ok := looks > 0 && l.holds(from, to) && !touches(exclude, from, to)
		if ok {
			pair.refer(from, step-g.Gap)
			pair.points(step+g.Guard, step+g.FirstLook, row)
			ok = !math.IsNaN(row[looks-1].d)
		}
		if !ok {
			for j := range looks {
				p.d[j*n+i] = math.NaN()
			}
			continue
		}
		p.valid++
		for j, x := range row {
			p.d[j*n+i], p.load[j*n+i], p.v[j*n+i] = x.d, x.load, x.v
		}
	}
	return p
}

// A null is the null distribution of one track, as it is made.
type null struct {
	*paths
	g Geometry

	looks          []LookCalibration
	maxima, minima []float64
	scale          float64
	days           int

	season season
	adj    []float64 // of the look at hand, by slot
}

func newNull(p *paths, g Geometry) *null {
	return &null{paths: p, g: g, season: newSeason(g, p.slots), adj: make([]float64, len(p.slots))}
}

// calibrate fills n in. control is the mean difference of the controls, of the shape of
// paths.d; nil: they are not adjusted for.
func (n *null) calibrate(control []float64) {
	slots, looks := len(n.slots), n.g.Looks()
	n.looks = make([]LookCalibration, looks)
	all := make([]float64, 2*slots)
	n.maxima, n.minima = all[:slots], all[slots:]
	for i := range n.maxima {
		n.maxima[i], n.minima[i] = math.Inf(-1), math.Inf(-1)
	}
	for j := range looks {
		at := column{d: n.d[j*slots:][:slots], load: n.load[j*slots:][:slots], v: n.v[j*slots:][:slots]}
		if control != nil {
			at.control = control[j*slots:][:slots]
		}
		c := at.regress(n.adj)
		c.Season = n.season.adjust(n.adj)
		c.Tau2 = at.excess(n.adj)
		n.looks[j] = c
		weight := n.g.Weight(n.g.FirstLook + j)
		for i, adj := range n.adj {
			if adj != adj {
				continue
			}
			z := weight * adj / scale(at.v[i]+c.Tau2)
			n.maxima[i] = max(n.maxima[i], z)
			n.minima[i] = max(n.minima[i], -z)
		}
		if j == looks-1 {
			n.finish(at, c.Tau2)
		}
	}
}

// finish keeps the placebos that could be looked at at the horizon, the look at hand.
func (n *null) finish(at column, tau2 float64) {
	kept := 0
	scales := make([]float64, 0, len(n.slots))
	for i, adj := range n.adj {
		if adj != adj {
			continue
		}
		n.maxima[kept], n.minima[kept] = n.maxima[i], n.minima[i]
		kept++
		scales = append(scales, scale(at.v[i]+tau2))
	}
	n.maxima, n.minima = n.maxima[:kept:kept], n.minima[:kept:kept]
	slices.Sort(n.maxima)
	slices.Sort(n.minima)
	slices.Sort(scales)
	n.scale = stat.Quantile(scales, 0.5)
	n.days = n.season.days
}

// A column is the placebos of one look. d is NaN where there is none.
type column struct {
	d, load, v []float64
	control    []float64 // mean difference of the controls, NaN where there is none; nil: not adjusted for
}

// regress fits D = a + slope L (+ controlSlope C) over the placebos and puts what is left of D,
// the intercept included, into adj; NaN where there is no D, or no C to adjust for.
func (x column) regress(adj []float64) LookCalibration {
	var c LookCalibration
	var meanD float64
	for i, d := range x.d {
		if d != d || x.control != nil && x.control[i] != x.control[i] {
			adj[i] = math.NaN()
			continue
		}
		adj[i] = d
		c.Placebos++
		meanD += d
		c.LoadMean += x.load[i]
		if x.control != nil {
			c.ControlMean += x.control[i]
		}
	}
	if c.Placebos == 0 {
		return c
	}
	n := float64(c.Placebos)
	meanD /= n
	c.LoadMean /= n
	c.ControlMean /= n
	var ll, ld, cc, cl, cd float64 // sums of products of deviations
	loads, controls := x.load[:len(adj)], x.control
	if controls == nil {
		controls = loads // and no branch in the loop
	}
	controls = controls[:len(adj)]
	for i, d := range adj {
		if d != d {
			continue
		}
		load, control := loads[i]-c.LoadMean, controls[i]-c.ControlMean
		d -= meanD
		ll += load * load
		ld += load * d
		cc += control * control
		cl += control * load
		cd += control * d
	}
	if x.control == nil {
		cc, cl, cd = 0, 0, 0
	}
	moves := n * minLoadSD * minLoadSD
	if ll > moves {
		c.Slope = ld / ll
	}
	switch det := ll*cc - cl*cl; {
	case cc <= moves: // the controls never moved
	case ll <= moves:
		c.ControlSlope = cd / cc
	case det > 1e-9*ll*cc:
		c.Slope = (ld*cc - cd*cl) / det
		c.ControlSlope = (cd*ll - ld*cl) / det
	}
	c.LoadVar, c.ControlVar, c.Covariance = ll/n, cc/n, cl/n
	for i := range adj {
		adj[i] -= c.Slope * x.load[i]
	}
	if x.control != nil {
		for i := range adj {
			adj[i] -= c.ControlSlope * x.control[i]
		}
	}
	return c
}

// excess is the variance that adj has beyond counting noise.
func (x column) excess(adj []float64) float64 {
	sum, n := 0.0, 0
	for i, e := range adj {
		if e == e {
			sum += e*e - x.v[i]
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return max(0, sum/float64(n))
}

// scale is the standard deviation of a variance, never 0.
func scale(variance float64) float64 { return max(math.Sqrt(variance), minScale) }

// loadSD is how far load lies from the placebos' mean, in their standard deviations.
func (c LookCalibration) loadSD(load float64) float64 {
	return math.Abs(load-c.LoadMean) / max(math.Sqrt(c.LoadVar), minLoadSD)
}

// adjust takes from x, the real upgrade's difference, what its load, the mean difference of
// the controls (0 where they are not adjusted for) and the time of day explain, and returns
// what is left and its standard deviation, widened by the leverage of unusual covariates.
func (c LookCalibration) adjust(x point, control float64) (adj, s float64) {
	adj = x.d - c.Slope*x.load - c.ControlSlope*control - c.Season
	return adj, scale(x.v + c.Tau2*(1+c.leverage(x.load, control)/effectivePlacebos))
}

// leverage is the squared distance of the covariates from the placebos' mean in units of the
// placebos' covariance (Mahalanobis 1936). A covariate that never moved in history and moves
// now counts in units of minLoadSD, unless it was left out of the fit.
func (c LookCalibration) leverage(load, control float64) float64 {
	x, y := load-c.LoadMean, control-c.ControlMean
	loadVar, controlVar := max(c.LoadVar, minLoadSD*minLoadSD), c.ControlVar
	if c.ControlSlope == 0 {
		return x * x / loadVar
	}
	det := loadVar*controlVar - c.Covariance*c.Covariance
	return (x*x*controlVar - 2*x*y*c.Covariance + y*y*loadVar) / det
}
