package detect

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Warnings of judgements without history.
const (
	// ShortHistory: there is no history to tell how the service moves by itself, so the windows
	// around the upgrade have to tell that, too.
	ShortHistory = "short_history"
	// VeryShortBaseline: they are shorter than what the own-baseline guard can do much with.
	VeryShortBaseline = "very_short_baseline"
)

const (
	// veryShort is below how many steps before the upgrade a report says so.
	veryShort = 12
	// ActShortBefore, ActShortLevel: from how many steps before the upgrade, and up to which
	// family p, a judgement without history may be acted on, if the rule allows it at all. At
	// 0.01, with the guard, 2.0 % of upgrades that changed nothing are called regressed, and
	// 10 % in the worst of the simulated worlds. (docs/statistics.md, "Short history")
	ActShortBefore = baseline.LongShortBefore
	ActShortLevel  = 0.01
)

// A Short is what a judgement without history rests on.
type Short struct {
	Before, After int     // steps of the two windows
	Tests         int     // in the family
	P             float64 // of the family
	Guard         baseline.ShortGuard
	Again         bool // the upgrade was judged without history before
}

// MayAct reports whether a row's q is small enough to act on: the rule's consent is not asked
// here.
func (s *Short) MayAct(q float64) bool {
	return s.Before >= ActShortBefore && q <= ActShortLevel && s.Guard.Holds(q) && !s.Again
}

// ShortApplies reports whether an upgrade with this many endpoints is one for the short tier:
// none has placebos enough, and the windows are among those that it was simulated for.
func ShortApplies(calibrations []*baseline.Calibration, g baseline.Geometry, endpoints int) bool {
	from, to, start, end := g.ShortWindows()
	return to-from >= baseline.MinShortBefore && end-start >= baseline.MinShortAfter &&
		endpoints >= baseline.MinShortEndpoints && endpoints <= baseline.MaxShortEndpoints &&
		!slices.ContainsFunc(calibrations, func(c *baseline.Calibration) bool { return ownPlacebos(c) >= minPlacebos })
}

// ownPlacebos is how many placebos c can rank in.
func ownPlacebos(c *baseline.Calibration) int {
	if c == nil {
		return 0
	}
	return min(c.Placebos, len(c.Maxima), len(c.Minima))
}

// isShort reports whether f is judged without history.
func (f *family) isShort() bool {
	endpoints := map[telemetry.Endpoint]bool{}
	for _, s := range f.in.Short {
		endpoints[s.Endpoint] = true
	}
	calibrations := make([]*baseline.Calibration, len(f.in.Comparisons))
	for i := range calibrations {
		calibrations[i] = f.in.Comparisons[i].Calibration
	}
	return ShortApplies(calibrations, f.in.Geometry, len(endpoints))
}

// judgeShort is the verdict without history: one judgement at the end of the short post
// window, or at what is complete when nobody waits for more.
func (f *family) judgeShort() Judgement {
	g := f.in.Geometry
	_, _, start, end := g.ShortWindows()
	through := min(f.in.Complete, end)
	first := max(min(g.FirstLook, end), start+baseline.MinShortAfter)
	if f.in.Waiting {
		first = end
	}
	s := f.compareShort(through)
	for _, r := range f.rows {
		switch {
		case r.void:
			r.Verdict, r.Note = CouldNotCheck, r.unread
		case s.Before < baseline.MinShortBefore:
			r.Verdict, r.Needs = NotEnoughData, &Needs{Of: "steps", Have: float64(s.Before), Need: baseline.MinShortBefore}
		case through < first:
			r.Verdict = NotEnoughData
			r.Needs = &Needs{Of: "steps", Have: float64(max(0, through-start)), Need: float64(first - start), When: f.after(float64(first))}
		default:
			f.decideShort(r, s, through)
		}
	}
	j := f.judgement()
	if s.Before < baseline.MinShortBefore || through < first || len(s.Tests) == 0 {
		return j
	}
	f.describeShort(&j, s)
	return j
}

// compareShort tests the family. What could not be read keeps its place in it, but nothing
// of it is found; steps of a flag that was turned off end at the write.
func (f *family) compareShort(through int) baseline.ShortFamily {
	signals := slices.Clone(f.in.Rule.Signals)
	for i := range signals {
		_, void := f.in.Unread[i]
		if _, all := f.in.Unread[-1]; void || all {
			signals[i].MinimumEffect, signals[i].MinimumEffectAuto = math.Inf(1), false
		}
	}
	series := slices.SortedFunc(slices.Values(f.in.Short), func(a, b baseline.ShortSeries) int {
		return cmp.Or(strings.Compare(string(a.Endpoint), string(b.Endpoint)), cmp.Compare(a.Signal, b.Signal))
	})
	for i, s := range series {
		series[i] = f.untilWrite(s)
	}
	alpha := f.in.Rule.Alpha
	return baseline.CompareShort(series, signals, f.in.Geometry, through, max(alpha.Report, alpha.Act))
}

// untilWrite is s without the steps after its flag was turned off.
func (f *family) untilWrite(s baseline.ShortSeries) baseline.ShortSeries {
	flag := f.in.Rule.FlagOf(s.Endpoint.Values(), f.in.Rule.Signals[s.Signal].Name)
	if at, ok := f.in.WrittenAt[flag]; ok && flag >= 0 {
		return s.Before(at)
	}
	return s
}

// decideShort gives r its numbers and its verdict (docs/design.md, decision table, row 9).
func (f *family) decideShort(r *row, s baseline.ShortFamily, through int) {
	var own []baseline.ShortTest
	for _, t := range s.Tests {
		if t.Endpoint == r.Endpoint && t.Signal == r.Signal {
			own = append(own, t)
		}
	}
	if len(own) == 0 {
		r.Verdict, r.Needs = NotEnoughData, f.lacksShort(r, s)
		return
	}
	slices.SortFunc(own, func(a, b baseline.ShortTest) int { return compareMetrics(a.Metric, b.Metric) })
	attainable, bounded := 1.0, true
	for _, t := range own {
		r.Metrics = append(r.Metrics, MetricResult{Metric: t.Metric, Testable: true, Z: t.Z, P: t.P})
		attainable = min(attainable, t.Attainable)
		bounded = bounded && t.Bound95 < r.signal.MinimumEffect
	}
	t := bestShort(own)
	r.showShort(t)
	r.P = s.Adjusted(t.P, func(t baseline.ShortTest) bool { return t.Endpoint == r.Endpoint })
	r.Q = s.Adjusted(t.P, nil)
	if r.Flag >= 0 {
		r.QAct = s.Adjusted(t.P, func(t baseline.ShortTest) bool {
			return f.in.Rule.FlagOf(t.Endpoint.Values(), f.in.Rule.Signals[t.Signal].Name) == r.Flag
		})
	}
	r.AttainableQ = s.Adjusted(attainable, nil)
	r.Own = Ranked{t.Z, r.P}
	r.Looks = 1

	if r.fresh {
		r.Warnings = append(r.Warnings, CounterIsNew)
	}
	alpha := f.in.Rule.Alpha
	sure := s.Before >= ActShortBefore || s.Guard.Holds(r.Q)
	switch {
	case t.Effect && r.Q <= alpha.Act && sure:
		r.Verdict, r.RegressedAt, r.StillThere = Regressed, through, true
		return
	case t.Effect && r.Q <= max(alpha.Act, alpha.Report):
		r.Verdict, r.Suspected = Undecided, true
		if r.Q <= alpha.Act {
			r.Warnings = append(r.Warnings, f.veto(s.Guard))
		}
		return
	case r.AttainableQ > alpha.Report:
		r.Verdict, r.Needs = NotEnoughData, f.reachShort(own, alpha.Report/float64(len(s.Tests)))
		return
	case r.AttainableQ > alpha.Act:
		r.Warnings = append(r.Warnings, CannotBeConfirmedAlone)
	}
	_, _, _, end := f.in.Geometry.ShortWindows()
	r.Verdict = Undecided
	if bounded && through == end && !r.signal.MinimumEffectAuto && r.signal.Direction != rule.Both {
		r.Verdict = NoMeaningfulRise
	}
}

// bestShort is the test with the smallest p, those above their floors first.
func bestShort(tests []baseline.ShortTest) baseline.ShortTest {
	return slices.MinFunc(tests, func(a, b baseline.ShortTest) int {
		switch {
		case a.Effect != b.Effect && a.Effect, a.Effect == b.Effect && a.P < b.P:
			return -1
		case a.Effect != b.Effect, a.P > b.P:
			return 1
		}
		return 0
	})
}

func (r *row) showShort(t baseline.ShortTest) {
	r.Metric, r.Quantile, r.Z = t.Metric, t.Quantile, t.Z
	r.Before = Level{Value: t.BeforeValue, AtLeast: t.BeforeAtLeast, Requests: t.BeforeTrials, Events: t.BeforeEvents}
	r.After = Level{Value: t.AfterValue, AtLeast: t.AfterAtLeast, Requests: t.AfterTrials, Events: t.AfterEvents}
	if t.Metric == telemetry.Level {
		nan := math.NaN()
		r.Before.Requests, r.Before.Events, r.After.Requests, r.After.Events = nan, nan, nan, nan
	}
	r.Change = unknownChange()
	r.Change.Ratio, r.Change.Bound95 = finite(t.Ratio), finite(t.Bound95)
	r.Change.Low80, r.Change.High80, r.Change.Low99, r.Change.High99 = finite(t.Low80), finite(t.High80), finite(t.Low99), finite(t.High99)
	r.Change.MinimumEffect = r.signal.MinimumEffect
	if r.signal.MinimumEffectAuto {
		r.Change.MinimumEffect = autoEffect
	}
}

// lacksShort says why nothing of r can be tested.
func (f *family) lacksShort(r *row, family baseline.ShortFamily) *Needs {
	for _, s := range f.in.Short {
		if s.Endpoint != r.Endpoint || s.Signal != r.Signal {
			continue
		}
		switch of, have, need := family.Lacks(f.untilWrite(s), r.signal); of {
		case "":
		case "history":
			return f.needsHistory()
		default:
			return &Needs{Of: of, Have: have, Need: need}
		}
	}
	f.explain(r)
	if r.Needs != nil {
		return r.Needs
	}
	return f.needsHistory()
}

// reachShort says what the tests of a row lack for one of them to be able to come to a p of
// level: traffic; or, of histograms, bounds that are far enough beyond the baseline.
func (f *family) reachShort(own []baseline.ShortTest, level float64) *Needs {
	requests, bounds := (*Needs)(nil), false
	for _, t := range own {
		if need := t.NeedTrials(level); !math.IsNaN(need) && (requests == nil || need < requests.Need) {
			requests = &Needs{Of: "requests", Have: t.AfterTrials, Need: need}
		}
		bounds = bounds || t.Capped && t.Bound > 0
	}
	switch {
	case requests != nil:
		return requests
	case bounds:
		return &Needs{Of: "buckets", Have: 0, Need: 1}
	}
	return f.needsHistory()
}

func (f *family) needsHistory() *Needs {
	g := f.in.Geometry
	return &Needs{Of: "history", Have: float64(g.History), Need: float64(historyFor(g, minPlacebos))}
}

// veto says what in the baseline keeps a rise from being confirmed.
func (f *family) veto(g baseline.ShortGuard) string {
	if g.Places == 0 {
		return "the baseline is too short to look for moves as large as this one in it"
	}
	at := f.after(float64(g.Step)).UTC().Format("15:04:05")
	if g.Endpoint == "" {
		return fmt.Sprintf("a move nearly as large as this one happened at %s UTC, before the upgrade", at)
	}
	return fmt.Sprintf("a move nearly as large as this one happened at %s UTC on %s, before the upgrade", at, g.Endpoint)
}

// describeShort fills in what j says of the family.
func (f *family) describeShort(j *Judgement, s baseline.ShortFamily) {
	j.Tier, j.Looks = "short", 1
	j.Short = &Short{Before: s.Before, After: s.After, Tests: len(s.Tests), P: s.P, Guard: s.Guard, Again: f.in.JudgedBefore}
	j.Warnings = append(j.Warnings, ShortHistory)
	if s.Before < veryShort {
		j.Warnings = append(j.Warnings, VeryShortBaseline)
	}

	// Whether a control rose is asked without floors, and among the controls alone.
	able, least := 0, 1.0
	for _, e := range f.endpoints {
		if !e.control {
			continue
		}
		attainable, judged := 1.0, false
		for _, t := range s.Tests {
			if _, void := f.in.Unread[t.Signal]; t.Endpoint == e.name && !void {
				judged = true
				least, attainable = min(least, t.P), min(attainable, t.Attainable)
			}
		}
		if judged {
			j.Controls++
		}
		if judged && s.Adjusted(attainable, nil) <= f.in.Rule.Alpha.Report {
			able++
		}
	}
	isControl := func(t baseline.ShortTest) bool { return f.isControl(t.Endpoint) }
	j.ControlsRisen = j.Controls > 0 && s.Adjusted(least, isControl) <= f.in.Rule.Alpha.Report
	j.RestartCovered = able >= restartControls && !j.ControlsRisen
	if !j.RestartCovered {
		j.Warnings = append(j.Warnings, NoRestartInCalibration)
	}
}
