package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// effectivePlacebos is how many independent placebos the load's slope is taken to rest on.
// Hundreds of overlapping windows of one week are worth some 40 to 160 independent ones;
// the smaller number widens the scale where the load is unusual.
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
	c := Calibration{Endpoint: t.Endpoint, Signal: t.Signal, Metric: t.Metric, Bound: t.Bound, Block: 1}
	l := newLedger(t)
	if !l.level {
		c.EventsPerStep = l.eventsPerStep(g)
		c.Block = blockOf(c.EventsPerStep)
		c.Class = classOf(c.EventsPerStep)
	}
	l.setBlock(c.Block)

	p := pair{ledger: l}
	looks := g.Looks()
	at := placebos(l, g, g.Horizon, exclude)
	points := make([]point, 0, len(at)*looks) // shape (placebos, looks)
	for _, step := range at {
		row := points[len(points) : len(points)+looks]
		p.refer(step+g.BaselineStart(), step-g.Gap)
		p.points(step+g.Guard, step+g.FirstLook, row)
		if looks > 0 && !math.IsNaN(row[looks-1].d) {
			points = points[:len(points)+looks]
			c.Placebos++
		}
	}
	if c.Placebos == 0 {
		return c
	}

	c.Looks = make([]LookCalibration, looks)
	c.Maxima = make([]float64, c.Placebos)
	c.Minima = make([]float64, c.Placebos)
	for i := range c.Maxima {
		c.Maxima[i], c.Minima[i] = math.Inf(-1), math.Inf(-1)
	}
	column := make([]point, c.Placebos)
	scales := make([]float64, c.Placebos)
	for j := range c.Looks {
		for i := range column {
			column[i] = points[i*looks+j]
		}
		c.Looks[j] = regress(column)
		weight := g.Weight(g.FirstLook + j)
		for i, x := range column {
			if math.IsNaN(x.d) {
				continue
			}
			scales[i] = scale(x.v + c.Looks[j].Tau2)
			z := weight * (x.d - c.Looks[j].Slope*x.load) / scales[i]
			c.Maxima[i] = max(c.Maxima[i], z)
			c.Minima[i] = max(c.Minima[i], -z)
		}
	}
	slices.Sort(c.Maxima)
	slices.Sort(c.Minima)
	slices.Sort(scales) // those of the last look, which every placebo has
	c.Scale = stat.Quantile(scales, 0.5)
	return c
}

// placebos are the steps at which the windows of g, the last ending at step + end, can be laid
// over l, oldest first.
func placebos(l *ledger, g Geometry, end int, exclude [][2]int) []int {
	var at []int
	for p := -g.Stride(); p >= -g.History; p -= g.Stride() {
		from, to := p+g.BaselineStart(), p+end
		if to > g.BaselineStart() || !l.holds(from, to) || touches(exclude, from, to) {
			continue
		}
		at = append(at, p)
	}
	slices.Reverse(at)
	return at
}

func touches(ranges [][2]int, from, to int) bool {
	for _, r := range ranges {
		if r[0] < to && from < r[1] {
			return true
		}
	}
	return false
}

// regress fits D = a + slope L over the placebos of one look and takes what is left of D,
// the intercept included, as the variance that history has beyond counting noise.
func regress(x []point) LookCalibration {
	var c LookCalibration
	var meanD float64
	for _, p := range x {
		if !math.IsNaN(p.d) {
			c.Placebos++
			meanD += p.d
			c.LoadMean += p.load
		}
	}
	if c.Placebos == 0 {
		return c
	}
	n := float64(c.Placebos)
	meanD /= n
	c.LoadMean /= n
	var sld float64
	for _, p := range x {
		if !math.IsNaN(p.d) {
			c.LoadVar += (p.load - c.LoadMean) * (p.load - c.LoadMean)
			sld += (p.load - c.LoadMean) * (p.d - meanD)
		}
	}
	if c.LoadVar > n*minLoadSD*minLoadSD {
		c.Slope = sld / c.LoadVar
	}
	c.LoadVar /= n
	for _, p := range x {
		if !math.IsNaN(p.d) {
			e := p.d - c.Slope*p.load
			c.Tau2 += e*e - p.v
		}
	}
	c.Tau2 = max(0, c.Tau2/n)
	return c
}

// scale is the standard deviation of a variance, never 0.
func scale(variance float64) float64 { return max(math.Sqrt(variance), minScale) }

// loadSD is how far load lies from the placebos' mean, in their standard deviations.
func (c LookCalibration) loadSD(load float64) float64 {
	return math.Abs(load-c.LoadMean) / max(math.Sqrt(c.LoadVar), minLoadSD)
}

// adjust takes from x, the real upgrade's difference, for its load, and returns what is left and
// its standard deviation, widened by the leverage of an unusual load.
func (c LookCalibration) adjust(x point) (adj, s float64) {
	sd := c.loadSD(x.load)
	return x.d - c.Slope*x.load, scale(x.v + c.Tau2*(1+sd*sd/effectivePlacebos))
}
