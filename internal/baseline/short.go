package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// What the short tier was simulated for (docs/statistics.md, "Short history"). Outside, it
// makes no statement.
const (
	MinShortBefore    = 6  // steps before the upgrade; fewer give no scale at all
	LongShortBefore   = 20 // from here on they tell enough: compared
	MaxShortBefore    = 31 // the newest ones are used: older ones know less about now
	MinShortAfter     = 2  // a single step cannot agree with another one
	MaxShortAfter     = 11
	MinShortEndpoints = 2 // the scales of several are needed to say which of them is luck
	MaxShortEndpoints = 40
)

// A ShortSeries is one signal of one endpoint around an upgrade. Element i is step First+i of
// the upgrade's grid; a missing step is NaN in all slices alike.
type ShortSeries struct {
	Endpoint telemetry.Endpoint `json:"endpoint"`
	Signal   int                `json:"signal"` // index of the rule's signal
	First    int                `json:"first"`
	Events   telemetry.Values   `json:"events,omitempty"` // of a ratio; the level of a gauge
	Trials   telemetry.Values   `json:"trials,omitempty"` // of a ratio
	New      bool               `json:"new,omitempty"`    // as of the track: its counter first appeared with the upgrade
	// Bounds are the finite ones of a histogram, seconds, ascending, shape (B); Buckets the
	// requests at most that slow, step by step, shape (B+1), the last being all requests.
	Bounds  []float64          `json:"bounds,omitempty"`
	Buckets []telemetry.Values `json:"buckets,omitempty"`
}

// ShortWindows are the steps [from, to) of the baseline and [start, end) of the post window
// that the short tier compares: the last 31 before the rollout, the first 11 after the guard.
func (g Geometry) ShortWindows() (from, to, start, end int) {
	return -g.Gap - min(g.Before, MaxShortBefore), -g.Gap, g.Guard, min(g.Horizon, g.Guard+MaxShortAfter)
}

// NewShortSeries puts together what was read of signal s around an upgrade, as Tracks does;
// of a histogram every bucket that all steps have. Steps outside ShortWindows, or from through
// on, are left out.
func NewShortSeries(signal int, s rule.Signal, g Geometry, through int, of, per []*telemetry.Counts) []ShortSeries {
	first, _, _, end := g.ShortWindows()
	end = max(first, min(end, through))
	var out []ShortSeries
	if s.Kind != rule.Histogram {
		tracks, _ := Tracks(signal, s, nil, of, per, g.RolloutStep())
		for _, t := range tracks {
			t = t.Slice(first, end)
			out = append(out, ShortSeries{Endpoint: t.Endpoint, Signal: signal, First: first, Events: t.Events, Trials: t.Trials, New: t.New})
		}
		return out
	}
	for _, c := range of {
		for i := range c.Rows {
			r := &c.Rows[i]
			if len(r.Bounds) == 0 || len(r.Steps) != len(r.Bounds) {
				continue
			}
			series := ShortSeries{Endpoint: r.Endpoint, Signal: signal, First: first, Bounds: slices.Clone(r.Bounds[:len(r.Bounds)-1])}
			for _, steps := range r.Steps {
				whole := telemetry.Track{First: c.Grid.First, Events: steps}
				series.Buckets = append(series.Buckets, whole.Slice(first, end).Events)
			}
			out = append(out, series)
		}
	}
	return out
}

// Before returns s without the steps from through on: they are missing.
func (s ShortSeries) Before(through int) ShortSeries {
	cut := func(v telemetry.Values) telemetry.Values {
		if v == nil {
			return nil
		}
		v = slices.Clone(v)
		for i := max(0, through-s.First); i < len(v); i++ {
			v[i] = math.NaN()
		}
		return v
	}
	s.Events, s.Trials = cut(s.Events), cut(s.Trials)
	buckets := make([]telemetry.Values, len(s.Buckets))
	for i := range buckets {
		buckets[i] = cut(s.Buckets[i])
	}
	s.Buckets = buckets
	return s
}

// values are what tells whether a step has data.
func (s ShortSeries) values() telemetry.Values {
	if n := len(s.Buckets); n > 0 {
		return s.Buckets[n-1]
	}
	return s.Events
}

// A ShortTest is the consensus test of one metric of one endpoint: every step of the post
// window (every third of it, for counts) must stand out from the baseline, and p is that of
// the least of them. NaN is "cannot be had".
type ShortTest struct {
	Endpoint telemetry.Endpoint
	Signal   int
	Metric   telemetry.Metric
	Quantile float64 // of a histogram's metric: 0.95 for tail, 0.8 for body; else NaN
	Bound    float64 // seconds; the bucket bound of tail and body, else 0

	Z      float64 // of the least step or third, in standard deviations
	P      float64
	Effect bool // the rise is above the floors, those of the tier and those of the rule

	Ratio float64 // post / baseline - 1, in the signal's own unit
	// Of a gauge: its 80 % and its 99 % interval, as wide as that of a single step.
	Low80, High80 float64
	Low99, High99 float64
	Bound95       float64 // of a gauge: its one-sided upper bound, likewise
	// Attainable is the smallest p above the floors that this test could have come to: every
	// request after the upgrade an event, a gauge or a retry rate a hundred times as high. 1 if
	// not even that is above the floors: Capped.
	Attainable float64
	Capped     bool

	BeforeValue, AfterValue     float64 // raw, in the signal's own unit
	BeforeAtLeast, AfterAtLeast float64 // the last bound that the quantile lies beyond; else 0
	BeforeEvents, AfterEvents   float64
	BeforeTrials, AfterTrials   float64

	counts *countTest
}

// Lacks says what keeps the signal of s from being tested in f, and how much of it there is and
// is needed: "steps", "requests", "buckets"; "" if nothing does. Signals that may only not fall
// take a "history".
func (f ShortFamily) Lacks(s ShortSeries, signal rule.Signal) (of string, have, need float64) {
	before, after := f.before, f.after
	if signal.Direction == rule.Down {
		return "history", 0, 1
	}
	if signal.Kind == rule.Gauge {
		pre, post := present(logsOf(s.pick(s.Events, before))), present(logsOf(s.pick(s.Events, after)))
		if n := float64(len(pre)); n < minGaugeBefore {
			return "steps", n, minGaugeBefore
		}
		if n := float64(len(post)); n < MinShortAfter {
			return "steps", n, MinShortAfter
		}
		return "", 0, 0
	}
	n, bucket := s.Trials, -1
	if signal.Kind == rule.Histogram {
		n = s.values()
		bucket = shortBound(s.Bounds, s.sums(before), shortLevels[0].level, -1)
	}
	r := newCountRow(s.pick(n, before), s.pick(n, before), s.pick(n, after), s.pick(n, after))
	switch {
	case r.n0 < minCountBefore:
		return "requests", r.n0, minCountBefore
	case r.n1 < minCountAfter:
		return "requests", r.n1, minCountAfter
	case signal.Kind == rule.Histogram && bucket < 0:
		return "buckets", 0, 1
	}
	if told := r.usableGroups(); len(told) < MinShortAfter {
		return "steps", float64(len(told)), MinShortAfter
	}
	return "", 0, 0
}

// A ShortFamily is all tests of one upgrade, judged together.
type ShortFamily struct {
	Before, After int // steps: from the first one with data to the upgrade; of the post window
	Tests         []ShortTest
	P             float64 // of the family: the least p of those with Effect, Adjusted
	Guard         ShortGuard

	before, after []int // the steps that are compared
}

// A ShortGuard is what the same tests say at every position inside the baseline, where no
// upgrade was.
type ShortGuard struct {
	Run      bool    // it is run only where something stands out
	Places   int     // positions at which something could be tested
	Least    float64 // smallest family p of any of them
	Step     int     // first step of that position
	Endpoint telemetry.Endpoint
}

// guardFactor is by how much a family p must beat the best one of the baseline. On worlds with
// bursts of 1 to 4 steps, at 0.05, 18.8 % of the upgrades that changed nothing are called
// regressed without the guard, and 3.3 % with it. (docs/statistics.md, "Short history")
const guardFactor = 0.2

// Holds reports whether a family p passes the guard. Where nothing could be tested inside the
// baseline, none does.
func (g ShortGuard) Holds(p float64) bool {
	return g.Run && g.Places > 0 && p < guardFactor*g.Least
}

// CompareShort tests every signal that may not rise, of all endpoints at once. series may hold
// each endpoint and signal once. The guard is run where the family p is at most alpha. What is
// not testable has no test: fewer than 4 steps of a gauge before or 2 after, fewer than 8
// requests before or 3 after, a histogram without a bound near its level.
func CompareShort(series []ShortSeries, signals []rule.Signal, g Geometry, through int, alpha float64) ShortFamily {
	from, to, start, end := g.ShortWindows()
	for from < to && !told(series, from) {
		from++
	}
	before, after := steps(from, to), steps(start, min(end, through))
	f := ShortFamily{Before: len(before), After: len(after), P: 1, before: compared(before), after: after}
	if len(before) == 0 || len(after) == 0 {
		return f
	}
	c := shortComparison{series: series, signals: signals}
	f.Tests = c.tests(f.before, f.after, true)
	f.P = f.familyP()
	if f.P <= alpha {
		f.Guard = c.guard(f.before, len(f.after))
	}
	return f
}

// compared are the steps before an upgrade that the steps after it are compared with: all but
// the last one. An upgrade is seen by the scrape that follows it, so that step may hold some of
// it, and one bad step in a baseline hides what comes after. Where there are few steps, it is
// kept: with 8 of them, whose autocorrelation is 0.6, leaving one out takes false alarms from
// 5 to 10 %, because the guard has one place less. (docs/statistics.md, "Short history")
func compared(before []int) []int {
	if len(before) < LongShortBefore {
		return before
	}
	return before[:len(before)-1]
}

func steps(from, to int) []int {
	out := make([]int, 0, max(0, to-from))
	for k := from; k < to; k++ {
		out = append(out, k)
	}
	return out
}

// told reports whether any series has data in a step.
func told(series []ShortSeries, step int) bool {
	return slices.ContainsFunc(series, func(s ShortSeries) bool {
		v, i := s.values(), step-s.First
		return i >= 0 && i < len(v) && !math.IsNaN(v[i])
	})
}

// Adjusted is p times the number of tests, at most 1. in chooses the family; nil means every
// test. Leaving out tests that could not come to p (Tarone 1990) was measured and left: it is
// worth 0 to 3 points of power, none of them beyond its interval, and raises false alarms a
// little in every world. (docs/statistics.md, "Short history")
func (f ShortFamily) Adjusted(p float64, in func(ShortTest) bool) float64 {
	n := 0.0
	for _, t := range f.Tests {
		if in == nil || in(t) {
			n++
		}
	}
	return min(1, n*p)
}

// familyP is that of the least p above its floor.
func (f ShortFamily) familyP() float64 {
	least := 1.0
	for _, t := range f.Tests {
		if t.Effect {
			least = min(least, t.P)
		}
	}
	return f.Adjusted(least, nil)
}

type shortComparison struct {
	series  []ShortSeries
	signals []rule.Signal
}

// guard makes the same comparison at the positions inside the baseline.
func (c shortComparison) guard(before []int, m int) ShortGuard {
	n := len(before)
	histograms := slices.ContainsFunc(c.series, func(s ShortSeries) bool { return len(s.Buckets) > 0 })
	stride := max(1, m/3)
	if n <= 24 && !histograms {
		stride = 1
	}
	g := ShortGuard{Run: true, Least: 1}
	for s := 0; s+m <= n; s += stride {
		rest := slices.Concat(before[:s], before[s+m:])
		tests := c.tests(rest, before[s:s+m], false)
		if len(tests) == 0 {
			continue
		}
		g.Places++
		p := ShortFamily{Tests: tests}.familyP()
		if g.Places > 1 && p >= g.Least {
			continue
		}
		g.Least, g.Step = p, before[s]
		best := 1.0
		for _, t := range tests {
			if t.Effect && t.P < best {
				best, g.Endpoint = t.P, t.Endpoint
			}
		}
	}
	return g
}

// tests are the usable ones, in the order of signals and series. Without all, only what a
// family p takes is filled in.
func (c shortComparison) tests(before, after []int, all bool) []ShortTest {
	var out []ShortTest
	for i, s := range c.signals {
		if s.Direction == rule.Down {
			continue
		}
		var own []ShortSeries
		for _, x := range c.series {
			if x.Signal == i {
				own = append(own, x)
			}
		}
		switch s.Kind {
		case rule.Gauge:
			out = append(out, gaugeFamily(own, s, before, after, all)...)
		case rule.Ratio:
			rows := make([]countRow, len(own))
			for j, x := range own {
				rows[j] = newCountRow(x.pick(x.Events, before), x.pick(x.Trials, before), x.pick(x.Events, after), x.pick(x.Trials, after))
			}
			for j, t := range countTests(rows) {
				if t.usable {
					out = append(out, ratioTest(own[j], s, rows[j], t))
				}
			}
		case rule.Histogram:
			out = append(out, histogramFamily(own, s, before, after)...)
		}
	}
	return out
}

// pick are the values of some steps; those that v does not reach are missing.
func (s ShortSeries) pick(v telemetry.Values, at []int) []float64 {
	out := make([]float64, len(at))
	for i, k := range at {
		if j := k - s.First; j >= 0 && j < len(v) {
			out[i] = v[j]
		} else {
			out[i] = math.NaN()
		}
	}
	return out
}

// The least rises that count, whatever a rule asks for beyond them: lower ones were not
// simulated. (docs/statistics.md, "Short history")
const (
	shortGaugeFloor    = 1.2   // a level, relative
	shortGaugeSeconds  = 0.001 // a level in seconds, absolute
	shortRatioFloor    = 1.2   // a ratio, relative, and
	shortRatioChange   = 0.01  // absolute
	shortQuantileFloor = 1.1   // the quantile of a histogram, relative
	shortShareChange   = 0.02  // the share of its requests beyond the bound, absolute
)

// least is the larger of a floor and what the rule calls meaningful.
func least(floor float64, s rule.Signal) float64 {
	if s.MinimumEffectAuto {
		return floor
	}
	return max(floor, 1+s.MinimumEffect)
}

// attainableRise is the rise of a gauge, or of retries per request, that Attainable is told
// for. What answers at all does not get slower than that.
const attainableRise = 100

// cap notes whether the most that could have happened is above the floors.
func (t *ShortTest) cap(above bool) {
	if !above {
		t.Capped, t.Attainable = true, 1
	}
}

func gaugeFamily(own []ShortSeries, s rule.Signal, before, after []int, all bool) []ShortTest {
	pre, post := make([][]float64, len(own)), make([][]float64, len(own))
	for j, x := range own {
		pre[j], post[j] = x.pick(x.Events, before), x.pick(x.Events, after)
	}
	var out []ShortTest
	for j, g := range gaugeTests(pre, post) {
		if !g.usable {
			continue
		}
		rise := math.Expm1(g.shift)
		least := math.Log(least(shortGaugeFloor, s))
		change := s.MinimumChange
		if s.Unit == "s" {
			change = max(change, shortGaugeSeconds)
		}
		t := newShortTest(own[j], telemetry.Level)
		t.Z, t.P, t.Ratio = g.t, g.p, rise
		t.Effect = g.shift >= least && g.median*rise >= change
		if all {
			t.Attainable = g.pAt(math.Log(attainableRise) / g.sd)
			t.cap(math.Log(attainableRise) >= least && g.median*(attainableRise-1) >= change)
			t.BeforeValue, t.AfterValue = meanOf(pre[j]), meanOf(post[j])
			t.Bound95 = math.Expm1(g.shift + g.sd*studentQuantile(0.95, g.df))
			interval := func(p float64) (low, high float64) {
				half := g.sd * studentQuantile(p, g.df)
				return math.Expm1(g.shift - half), math.Expm1(g.shift + half)
			}
			t.Low80, t.High80 = interval(0.9)
			t.Low99, t.High99 = interval(0.995)
		}
		out = append(out, t)
	}
	return out
}

func newShortTest(s ShortSeries, m telemetry.Metric) ShortTest {
	nan := math.NaN()
	return ShortTest{
		Endpoint: s.Endpoint, Signal: s.Signal, Metric: m, Quantile: nan, Low80: nan, High80: nan, Low99: nan, High99: nan, Bound95: nan,
		Attainable: nan, BeforeValue: nan, AfterValue: nan,
	}
}

// meanOf is the mean of the positive values of x, as they are.
func meanOf(x []float64) float64 {
	sum, n := 0.0, 0
	for _, v := range x {
		if v > 0 {
			sum += v
			n++
		}
	}
	return sum / float64(n)
}

// counted fills in what tests of counts have in common.
func (t *ShortTest) counted(r countRow, c countTest) {
	t.Z, t.P, t.Attainable, t.counts = c.z, c.p, c.attainable, &c
	t.BeforeEvents, t.BeforeTrials, t.AfterEvents, t.AfterTrials = r.k0, r.n0, r.k1, r.n1
}

func ratioTest(x ShortSeries, s rule.Signal, r countRow, c countTest) ShortTest {
	t := newShortTest(x, telemetry.Retry)
	t.counted(r, c)
	t.BeforeValue, t.AfterValue = r.k0/r.n0, r.k1/r.n1
	// Half an event stands for none, so that a rise from 0 is finite.
	rise := func(k1 float64) float64 { return (k1 + 0.5) / (r.n1 + 1) / ((r.k0 + 0.5) / (r.n0 + 1)) }
	above := func(k1 float64) bool {
		return rise(k1) >= least(shortRatioFloor, s) && k1/r.n1-t.BeforeValue >= max(shortRatioChange, s.MinimumChange)
	}
	t.Ratio, t.Effect = rise(r.k1)-1, above(r.k1)
	t.cap(above(r.most(r.n1)))
	return t
}

// The levels of a histogram that the short tier counts at. At one request a second over 32
// endpoints nothing is ever seen at 1 %; at 50 % and 2 % there is nothing that these two miss.
var shortLevels = []struct {
	metric   telemetry.Metric
	level    float64 // share of requests beyond the bound
	quantile float64
}{{telemetry.Body, 0.2, 0.8}, {telemetry.Tail, 0.05, 0.95}}

// shortBoundFactor is how far, as a ratio, the share beyond a bound may lie from its level.
const shortBoundFactor = 3

func histogramFamily(own []ShortSeries, s rule.Signal, before, after []int) []ShortTest {
	var out []ShortTest
	pre, post := make([][]float64, len(own)), make([][]float64, len(own))
	taken := make([]int, len(own)) // the bucket of the first level
	for j, x := range own {
		pre[j], post[j] = x.sums(before), x.sums(after)
		taken[j] = -1
	}
	for _, level := range shortLevels {
		rows, at := make([]countRow, len(own)), make([]int, len(own))
		for j, x := range own {
			b := shortBound(x.Bounds, pre[j], level.level, taken[j])
			at[j], taken[j] = b, b
			if b >= 0 {
				rows[j] = newCountRow(x.beyond(b, before), x.pick(x.values(), before), x.beyond(b, after), x.pick(x.values(), after))
			}
		}
		for j, c := range countTests(rows) {
			if !c.usable {
				continue
			}
			t := newShortTest(own[j], level.metric)
			t.counted(rows[j], c)
			t.Quantile, t.Bound = level.quantile, own[j].Bounds[at[j]]
			was := stat.HistogramQuantile(level.quantile, own[j].Bounds, pre[j], stat.Linear)
			is := stat.HistogramQuantile(level.quantile, own[j].Bounds, post[j], stat.Linear)
			t.BeforeValue, t.AfterValue, t.BeforeAtLeast, t.AfterAtLeast = was.Value, is.Value, was.AtLeast, is.AtLeast
			t.Ratio = is.Value/was.Value - 1
			// Beyond the last bound it is at least that bound.
			reached := is.Value
			if is.AtLeast > 0 {
				reached = is.AtLeast
			}
			above := func(reached, share float64) bool {
				return reached >= least(shortQuantileFloor, s)*was.Value && reached-was.Value >= s.MinimumChange &&
					share-rows[j].k0/rows[j].n0 >= shortShareChange
			}
			t.Effect = above(reached, rows[j].k1/rows[j].n1)
			t.cap(above(own[j].Bounds[len(own[j].Bounds)-1], 1))
			out = append(out, t)
		}
	}
	return out
}

// sums are the buckets of some steps together.
func (s ShortSeries) sums(at []int) []float64 {
	out := make([]float64, len(s.Buckets))
	for b, v := range s.Buckets {
		for _, x := range s.pick(v, at) {
			if !math.IsNaN(x) {
				out[b] += x
			}
		}
	}
	return out
}

// beyond are the requests beyond bucket b of some steps.
func (s ShortSeries) beyond(b int, at []int) []float64 {
	k, n := s.pick(s.Buckets[b], at), s.pick(s.values(), at)
	for i := range k {
		k[i] = max(n[i]-k[i], 0)
	}
	return k
}

// shortBound is the bucket whose share of slower requests is nearest to level, in log
// distance: finite and positive, within a factor 3, and not the one that is taken. -1 is none;
// of two equally near, the lower is taken.
func shortBound(bounds, cum []float64, level float64, taken int) int {
	best, distance := -1, math.Log(shortBoundFactor)+1e-9
	if len(cum) == 0 {
		return best
	}
	n := cum[len(cum)-1]
	for b, bound := range bounds {
		share := (n - cum[b]) / n
		if b == taken || bound <= 0 || !(share > 0) {
			continue
		}
		if d := math.Abs(math.Log(share / level)); d <= distance && (best < 0 || d < distance) {
			best, distance = b, d
		}
	}
	return best
}

// NeedTrials is how many requests after the upgrade, with as many more before it, it takes for
// a test of counts to be able to come to a p of level; NaN where no traffic is enough, and for
// gauges.
func (t ShortTest) NeedTrials(level float64) float64 {
	if t.counts == nil || t.Capped {
		return math.NaN()
	}
	for factor := 1.0; factor < 1e4; factor *= 1.1 {
		if t.counts.attainableWith(factor) <= level {
			return math.Ceil(factor * t.AfterTrials)
		}
	}
	return math.NaN()
}
