package detect

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// An answer is what the data say to a question.
type answer int

const (
	unknown answer = iota
	no
	yes
)

// gateLimit is the share of a move that must be new, or still there. At 0.6 a shift that
// began 10 minutes before the upgrade is blamed on it half as often (0.022 instead of 0.040
// of retry rates that doubled), and 7 points of true regressions are lost.
// (docs/statistics.md, "Gates".)
const gateLimit = 0.5

// A detection needs this many events in this many steps of the post window; where a signal
// may not fall, this many events in the baseline. It is a safety rule, not a statistical one:
// nobody should lose a flag over seven retries. (docs/statistics.md, "Insufficient data".)
const (
	minEvents     = 8
	minEventSteps = 3
)

// gate is what a share of the move says.
func gate(share float64) answer {
	switch {
	case math.IsNaN(share) || math.IsInf(share, 0):
		return unknown
	case share >= gateLimit:
		return yes
	}
	return no
}

// origin says whether the move came with the upgrade: no if it was there before.
func origin(l *baseline.Look) answer { return both(gate(l.J10), gate(l.J5)) }

// both is no if either is, else unknown if either is.
func both(a, b answer) answer {
	switch {
	case a == no || b == no:
		return no
	case a == unknown || b == unknown:
		return unknown
	}
	return yes
}

// enoughEvents reports whether a detection of the difference adj at l rests on enough events
// to be one.
func (t *test) enoughEvents(l *baseline.Look, adj float64) bool {
	switch {
	case t.Metric == telemetry.Level:
		return true
	case t.falls(adj):
		return t.BaselineEvents >= minEvents
	}
	return l.Events >= minEvents && l.EventSteps >= minEventSteps
}

// falls reports whether the difference adj is a fall that the signal may not make.
func (t *test) falls(adj float64) bool {
	return t.signal.Direction == rule.Down || t.signal.Direction == rule.Both && adj < 0
}

// effect says whether the difference adj is a change as large as the rule asks for, relative
// and absolute.
func (t *test) effect(adj float64) answer {
	d := t.signal.Direction
	least := t.signal.MinimumEffect
	if t.signal.MinimumEffectAuto {
		least = autoEffect
	}
	relative := finite(t.Unit.Change(adj).Value)
	return both(atLeast(size(d, relative), least), t.absoluteEffect(relative))
}

// absoluteEffect compares the change in the signal's own unit with minimum_change. Before a
// histogram's last bound it is only known to be at least so large; where there was nothing
// before, raw numbers are compared.
func (t *test) absoluteEffect(relative float64) answer {
	least := t.signal.MinimumChange
	if least <= 0 {
		return yes
	}
	before := t.Before
	if math.IsNaN(before) && t.BeforeAtLeast > 0 {
		before = t.BeforeAtLeast
	}
	if before > 0 {
		return atLeast(size(t.signal.Direction, before*relative), least)
	}
	return atLeast(size(t.signal.Direction, t.After-before), least)
}

func atLeast(x, least float64) answer {
	switch {
	case math.IsNaN(x) || math.IsNaN(least):
		return unknown
	case x >= least:
		return yes
	}
	return no
}

// decide gives r its verdict, by the decision table of docs/design.md from the top. improved
// says that the row is rejected in the family of improvements.
func (f *family) decide(r *row, improved bool) {
	alpha := f.in.Rule.Alpha
	if r.void {
		r.Verdict, r.Note = CouldNotCheck, r.unread
		return
	}
	t := r.winner(r.end)
	if t == nil {
		r.Verdict = NotEnoughData
		f.explain(r)
		return
	}
	if r.fresh {
		r.Warnings = append(r.Warnings, CounterIsNew)
	}
	if r.RegressedAt > 0 {
		r.Verdict = Regressed
		switch {
		case t.looks[r.end] == nil || !t.looks[r.end].Valid:
			r.Warnings = append(r.Warnings, LastLookMissing)
		case outside(t.last):
			r.Warnings = append(r.Warnings, LoadOutsideHistory)
		}
		return
	}
	if q := r.AttainableQ; q > alpha.Act && q <= alpha.Report {
		r.Warnings = append(r.Warnings, CannotBeConfirmedAlone)
	}
	if t.last != nil && outside(t.last) {
		r.Verdict = Undecided
		r.Warnings = append(r.Warnings, LoadOutsideHistory)
		return
	}
	rejected := r.Q <= alpha.Report && t.last != nil
	if rejected && t.enoughEvents(t.last, t.adjusted(r.end).Adj) {
		came, still, effect := origin(t.last), gate(t.last.Jp), t.effect(t.adjusted(r.end).Adj)
		switch {
		case came == no:
			r.Verdict = PreExisting
			return
		case still == no:
			r.Verdict = Transient
			return
		case effect != no:
			// Confirmed, were it not for q or for what is unknown.
			r.Verdict, r.Suspected = Undecided, true
			if effect == unknown {
				r.Warnings = append(r.Warnings, EffectUnknown)
			}
			if both(came, still) == unknown {
				r.Warnings = append(r.Warnings, OriginUnknown)
			}
			return
		}
	}
	if r.Needs = f.lacks(r, t, rejected); r.Needs != nil {
		r.Verdict = NotEnoughData
		if r.Note == "" {
			r.Note = f.remedy(r.Needs)
		}
		return
	}
	if improved {
		if i := r.improvement(); i != nil {
			f.show(r, i)
			r.Verdict = Improved
			return
		}
	}
	if f.in.Geometry.FirstLook+r.end < f.in.Geometry.Horizon {
		r.Verdict = Undecided
		return
	}
	f.exclude(r, t)
}

// improvement is the test of r that improved most, nil if none still shows it. What fell only
// against the controls did not improve: they rose.
func (r *row) improvement() *test {
	var best *test
	better := func(t *test) float64 { return t.ranking(r.end).better[r.end] }
	for _, t := range r.testable() {
		d := t.signal.Direction
		if t.last == nil || !(size(d, t.adjusted(r.end).Adj) < 0 && size(d, t.own.adjustedAt(r.end).Adj) < 0) {
			continue
		}
		if best == nil || better(t) < better(best) {
			best = t
		}
	}
	return best
}

// exclude gives r its verdict after the last look, when nothing was found: whether what the
// rule calls meaningful can be excluded, for every metric of the row. A histogram whose tail
// cannot be tested is not cleared by its body.
func (f *family) exclude(r *row, t *test) {
	if missing := f.namedMissing(r); missing != nil {
		r.Verdict, r.Needs = NotEnoughData, missing
		return
	}
	alpha := f.in.Rule.Alpha.Act
	if least := t.meaningful(alpha, r.end); !math.IsNaN(least) {
		r.Change.MinimumEffect = least
	}
	r.Verdict = NoMeaningfulRise
	for _, other := range r.testable() {
		if !(other.hidden(r.end) < other.meaningful(alpha, r.end)) || other.signal.MinimumEffectAuto && other.tellsLittle(r.end) {
			r.Verdict = Undecided
		}
	}
	if r.Verdict == Undecided && t.tellsLittle(r.end) {
		r.Note = littleTold
	}
}

// tellsLittle reports whether t cannot exclude muchMore at a look. What history moves by
// itself is then no measure of what is meaningful: beside an endpoint that saturates every day,
// a 0.99-quantile that rose eightfold is not found, and a rise by a factor 60,000 excluded.
func (t *test) tellsLittle(look int) bool {
	if t.Metric == telemetry.Level {
		return false
	}
	return slices.ContainsFunc([]*ranking{t.own, t.ranking(look)}, func(k *ranking) bool {
		l := k.adjustedAt(look)
		return l != nil && cannotExclude(t.signal.Direction, l)
	})
}

// muchMore is a change of the counted rate that no healthy service makes, and littleTold is
// said where not even that can be excluded after the last look: the answer is not "healthy".
// (docs/statistics.md, "Insufficient data".)
const (
	muchMore   = 3
	littleTold = "not even three times as many can be excluded"
)

// cannotExclude reports whether the one-sided 95 % bound of l lies beyond muchMore.
func cannotExclude(d rule.Direction, l *baseline.Adjusted) bool {
	bound := change(d, l.Adj, l.S, baseline.Counted(), 0).Bound95
	if d == rule.Down {
		return bound < 1.0/muchMore-1
	}
	return bound > muchMore-1
}

// meaningful is the smallest effect that t claims to exclude after the last look; NaN where
// that is left to history, and history is too short to tell.
func (t *test) meaningful(alpha float64, look int) float64 {
	if !t.signal.MinimumEffectAuto {
		return t.signal.MinimumEffect
	}
	return max(autoEffect, change(t.signal.Direction, 0, 0, t.Unit, t.ranking(look).detectable(t.signal.Direction, alpha)).Detectable)
}
