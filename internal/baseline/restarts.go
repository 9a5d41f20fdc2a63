package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// AddRestarts adds to c, which is the calibration of t, what t did at past upgrades that were kept: the
// placebos lack the restart that comes with a rollout, and these have it. upgrades are the steps
// in which the new version was first seen; exclude is as in Calibrate, and the ranges that hold the
// upgrade itself do not count. An upgrade whose windows do not lie before the baseline and in the track,
// or of which too much is missing, adds nothing. They are adjusted for load as the placebos are,
// but not for the time of day, because it was another. (docs/statistics.md, "Restarts")
func (c *Calibration) AddRestarts(t telemetry.Track, g Geometry, upgrades []int, exclude [][2]int) {
	if c.Placebos == 0 || len(upgrades) == 0 {
		return
	}
	l := newLedger(t)
	l.setBlock(c.Block)
	p := newPair(l)
	row := make([]point, g.Looks())
	for _, at := range upgrades {
		from, to := at+g.BaselineStart(), at+g.Horizon
		others := slices.DeleteFunc(slices.Clone(exclude), func(r [2]int) bool { return r[0] <= at && at < r[1] })
		if to > g.BaselineStart() || !l.holds(from, to) || touches(others, from, to) {
			continue
		}
		p.refer(from, at-g.Gap)
		p.points(at+g.Guard, at+g.FirstLook, row)
		if math.IsNaN(row[len(row)-1].d) {
			continue
		}
		highest, lowest := math.Inf(-1), math.Inf(-1)
		for j, x := range row {
			if math.IsNaN(x.d) {
				continue
			}
			z := g.Weight(g.FirstLook+j) * (x.d - c.Looks[j].Slope*x.load) / scale(x.v+c.Looks[j].Tau2)
			highest, lowest = max(highest, z), max(lowest, -z)
		}
		c.Restarts.Maxima = append(c.Restarts.Maxima, highest)
		c.Restarts.Minima = append(c.Restarts.Minima, lowest)
	}
	slices.Sort(c.Restarts.Maxima)
	slices.Sort(c.Restarts.Minima)
}
