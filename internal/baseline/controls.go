package baseline

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

const (
	// fewControls is how many controls there must be for their mean to be adjusted for. The
	// noise of one control is as large as that of the endpoint itself; the mean of three has a
	// third of its variance.
	fewControls = 3
	// mostControls is how many go into the mean. What they have in common is known by then: the
	// noise of 32 adds 3 % to the variance of one. More would only cost calibration.
	mostControls = 32
	// fewPlacebos is how many placebos a calibration needs to be ranked in.
	fewPlacebos = 60
)

// Controls are the endpoints that no flag of the rule touches, in one metric of one signal:
// the mean of their differences at every placebo and look. They saw the same rollout, the same
// neighbours and the same minute as the endpoints behind a flag, so what they have in common
// is not the flag's doing. (docs/statistics.md, "Controls")
type Controls struct {
	members map[telemetry.Endpoint]bool
	sum     []float64 // of the shape of paths.d
	count   []int32

	mu   sync.Mutex
	made map[telemetry.Endpoint]*made // until the member is calibrated
}

// made is what calibrating a track begins with.
type made struct {
	track   telemetry.Track
	g       Geometry
	exclude [][2]int

	description Calibration
	paths       *paths
}

func newMade(t telemetry.Track, g Geometry, exclude [][2]int) *made {
	l := newLedger(t)
	d := l.describe(t, g)
	l.setBlock(d.Block)
	return &made{t, g, exclude, d, newPaths(l, g, exclude)}
}

// of reports whether m was made of just these.
func (m *made) of(t telemetry.Track, g Geometry, exclude [][2]int) bool {
	same := func(a, b telemetry.Values) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }
	return m.g == g && slices.Equal(m.exclude, exclude) && m.track.First == t.First && m.track.Signal == t.Signal &&
		m.track.Metric == t.Metric && m.track.Bound == t.Bound && same(m.track.Events, t.Events) && same(m.track.Trials, t.Trials)
}

// begin makes what calibrating t begins with, or takes what making the controls left of it.
func (c *Controls) begin(t telemetry.Track, g Geometry, exclude [][2]int) *made {
	if c != nil {
		c.mu.Lock()
		m := c.made[t.Endpoint]
		delete(c.made, t.Endpoint)
		c.mu.Unlock()
		if m != nil && m.of(t, g, exclude) {
			return m
		}
	}
	return newMade(t, g, exclude)
}

// NewControls returns the controls among tracks, which are of one metric of one signal: of
// those with at least 60 placebos, the 32 with the most events, because they say most. It is
// nil if there are fewer than 3. The order of tracks does not matter. What was computed of a
// member is kept until Calibrate or Forget is called: 0.7 MB for a week of minutes.
func NewControls(tracks []telemetry.Track, g Geometry, exclude [][2]int) *Controls {
	type candidate struct {
		telemetry.Track
		events float64
	}
	candidates := make([]candidate, len(tracks))
	for i, t := range tracks {
		candidates[i] = candidate{t, sum(t.Events, 0, g.BaselineStart()-t.First)}
		if t.Metric == telemetry.Level {
			candidates[i].events = 0
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.events, a.events), strings.Compare(string(a.Endpoint), string(b.Endpoint)))
	})
	c := &Controls{members: map[telemetry.Endpoint]bool{}, made: map[telemetry.Endpoint]*made{}}
	for _, t := range candidates {
		if len(c.members) == mostControls {
			break
		}
		if m := newMade(t.Track, g, exclude); m.paths.valid >= fewPlacebos {
			c.made[t.Endpoint] = m
			c.add(t.Endpoint, m.paths)
		}
	}
	if len(c.members) < fewControls {
		return nil
	}
	return c
}

// Forget drops what NewControls computed of members that are not to be calibrated.
func (c *Controls) Forget() {
	if c != nil {
		c.mu.Lock()
		clear(c.made)
		c.mu.Unlock()
	}
}

func (c *Controls) add(e telemetry.Endpoint, p *paths) {
	c.members[e] = true
	if c.sum == nil {
		c.sum, c.count = make([]float64, len(p.d)), make([]int32, len(p.d))
	}
	for i, d := range p.d {
		if d == d {
			c.sum[i] += d
			c.count[i]++
		}
	}
}

// without returns the mean difference of the controls but t, whose paths are p: NaN where there
// are fewer than 3. ok is false where there are not so many at all.
func (c *Controls) without(t telemetry.Track, p *paths) (mean []float64, ok bool) {
	if c == nil {
		return nil, false
	}
	member := c.members[t.Endpoint]
	if member && len(c.members) <= fewControls {
		return nil, false
	}
	mean = make([]float64, len(c.sum))
	for i, sum := range c.sum {
		n := c.count[i]
		if d := p.d[i]; member && d == d {
			sum, n = sum-d, n-1
		}
		if n < fewControls {
			mean[i] = math.NaN()
			continue
		}
		mean[i] = sum / float64(n)
	}
	return mean, true
}

// AgainstControls fills in what the looks of comparisons, the whole family of an upgrade, are
// against the controls among them: those that the calibrations name. At a look at which fewer
// than 3 of them are valid, there is nothing to compare with. g is that of the calibrations.
func AgainstControls(comparisons []Comparison, g Geometry) {
	type key struct {
		signal int
		metric telemetry.Metric
	}
	type total struct {
		sum   []float64 // by look
		count []int
	}
	totals := map[key]*total{}
	order := make([]int, len(comparisons)) // sums must not depend on the order of the family
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return strings.Compare(string(comparisons[a].Endpoint), string(comparisons[b].Endpoint))
	})
	for _, i := range order {
		c := &comparisons[i]
		if c.Calibration == nil || !c.Calibration.Control {
			continue
		}
		k := key{c.Signal, c.Metric}
		if totals[k] == nil {
			totals[k] = &total{make([]float64, g.Looks()), make([]int, g.Looks())}
		}
		for _, l := range c.Looks {
			if j := l.T - g.FirstLook; l.Valid && j >= 0 && j < g.Looks() {
				totals[k].sum[j] += l.D
				totals[k].count[j]++
			}
		}
	}
	for i := range comparisons {
		c := &comparisons[i]
		t := totals[key{c.Signal, c.Metric}]
		if t == nil || c.Calibration == nil || c.Calibration.Against == nil || c.Calibration.Control {
			continue
		}
		against := c.Calibration.Against
		adjusted := make([]Adjusted, len(c.Looks))
		highest, lowest := math.Inf(-1), math.Inf(-1)
		for i := range c.Looks {
			l := &c.Looks[i]
			j := l.T - g.FirstLook
			if j < 0 || j >= len(against.Looks) || !l.Valid || t.count[j] < fewControls ||
				float64(against.Looks[j].Placebos) < looksOfPlacebos*float64(len(against.Maxima)) {
				continue
			}
			a := &adjusted[i]
			a.Adj, a.S = against.Looks[j].adjust(point{d: l.D, load: l.Load, v: l.V}, t.sum[j]/float64(t.count[j]))
			a.Z = a.Adj / a.S
			highest = max(highest, g.Weight(l.T)*a.Z)
			lowest = max(lowest, -g.Weight(l.T)*a.Z)
			a.Max, a.Min = highest, lowest
			l.Against = a
		}
	}
}
