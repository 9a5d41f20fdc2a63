package detect

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// What a comparison needs to be worth a verdict (docs/statistics.md, "Insufficient data").
const (
	minBaselineTrials = 100
	minExpectedEvents = 4 // by the horizon; a retry rate that quintuples is then found with power 0.84
	maxMissing        = 0.2
)

// after is the time that many steps after the upgrade.
func (f *family) after(steps float64) time.Time {
	at := math.Ceil(steps) * float64(f.in.Rule.Windows.Step)
	if !(at < math.MaxInt64/4) { // 70 years are no forecast
		return time.Time{}
	}
	return f.in.Upgrade.At.Add(time.Duration(at))
}

// untestable says what keeps c from being tested, as far as that is settled before the first
// look; nil if nothing does.
func (f *family) untestable(c *baseline.Comparison) *Needs {
	g := f.in.Geometry
	have := 0
	if c.Calibration != nil {
		have = min(c.Calibration.Placebos, len(c.Calibration.Maxima), len(c.Calibration.Minima))
	}
	switch {
	case have < minPlacebos && holds(g) < minPlacebos:
		return &Needs{Of: "history", Have: float64(g.History), Need: float64(historyFor(g, minPlacebos))}
	case have < minPlacebos:
		// One more for every stride that an upgrade comes later.
		return &Needs{Of: "placebos", Have: float64(have), Need: minPlacebos, When: f.after(float64((minPlacebos - have) * g.Stride()))}
	case c.Metric != telemetry.Level && c.BaselineTrials < minBaselineTrials:
		return &Needs{Of: "requests", Have: c.BaselineTrials, Need: minBaselineTrials}
	case c.BaselineMissing > maxMissing:
		return &Needs{Of: "steps", Have: math.Round((1 - c.BaselineMissing) * float64(g.Before)), Need: math.Ceil((1 - maxMissing) * float64(g.Before))}
	}
	return nil
}

// firstPlacebo is how many strides before the upgrade the newest placebo is: it ends before
// the baseline begins.
func firstPlacebo(g baseline.Geometry) int {
	return (g.Horizon + g.Gap + g.Before + g.Stride() - 1) / g.Stride()
}

// holds is how many placebos the history of g has room for.
func holds(g baseline.Geometry) int { return max(0, g.History/g.Stride()-firstPlacebo(g)+1) }

// historyFor is how many steps of history n placebos take.
func historyFor(g baseline.Geometry, n int) int { return (firstPlacebo(g) + n - 1) * g.Stride() }

// lacks says what r lacks for its verdict to mean anything, nil if nothing; t is its winner.
// rejected says that q is small enough to be reported.
func (f *family) lacks(r *row, t *test, rejected bool) *Needs {
	g := f.in.Geometry
	if r.end < 0 {
		have, when := f.in.Complete, f.after(float64(g.FirstLook))
		if at, ok := f.in.WrittenAt[r.Flag]; ok && r.Flag >= 0 {
			have, when = min(have, at), time.Time{} // the flag was turned off before the first look
		}
		return &Needs{Of: "steps", Have: float64(max(0, have)), Need: float64(g.FirstLook), When: when}
	}
	if needs := f.missing(r, t); needs != nil {
		return needs
	}
	if t.Metric != telemetry.Level {
		if rejected && !t.enoughEvents(t.last, t.adjusted(r.end).Adj) {
			return f.events(t, t.adjusted(r.end).Adj)
		}
		perStep := t.Calibration.EventsPerStep
		if expected := perStep * float64(g.Horizon-g.Guard); expected < minExpectedEvents {
			needs := &Needs{Of: "events", Have: expected, Need: minExpectedEvents}
			if perStep > 0 {
				needs.When = f.after(float64(g.Guard) + minExpectedEvents/perStep)
			}
			return needs
		}
	}
	if !rejected && r.AttainableQ > f.in.Rule.Alpha.Report {
		need := math.Ceil(t.tests()*float64(f.m)/f.in.Rule.Alpha.Report-1e-9) - 1
		pool := t.ranking(r.end).pool
		needs := &Needs{Of: "placebos", Have: float64(pool.n), Need: need}
		if strides, ok := pool.reaches(int(need), holds(g)); ok {
			needs.When = f.after(float64(strides * g.Stride()))
		} else {
			r.Note = f.longer("windows.history", historyFor(g, int(math.Ceil(need/float64(len(pool.own))))))
		}
		return needs
	}
	return nil
}

// ofNew completes what is lacking of something that history did not know: an upgrade can be
// judged when there are placebos enough.
func (f *family) ofNew(n Needs) Needs {
	if n.Of != "history" || n.Need > 0 {
		return n
	}
	g := f.in.Geometry
	steps := historyFor(g, minPlacebos)
	n.Need = float64(steps)
	if steps <= g.History {
		n.When = f.after(float64(steps + g.Gap + g.Before))
	}
	return n
}

// remedy says what to change where waiting alone does not bring n about, "" where it does or
// nothing can: a baseline that was not scraped is over, and a bucket layout stays what it is.
func (f *family) remedy(n *Needs) string {
	g := f.in.Geometry
	switch {
	case n == nil:
	case n.Of == "history" && n.When.IsZero() && n.Need > n.Have:
		return f.longer("windows.history", int(n.Need))
	case n.Of == "requests" && n.Have > 0 && n.Have < n.Need:
		return f.longer("windows.before", int(math.Ceil(float64(g.Before)*n.Need/n.Have-1e-9)))
	case n.Of == "events" && n.When.After(f.after(float64(g.Horizon))):
		return f.longer("windows.horizon", int(n.When.Sub(f.in.Upgrade.At)/f.in.Rule.Windows.Step))
	}
	return ""
}

// longer says how long a window must be.
func (f *family) longer(window string, steps int) string {
	if steps > rule.MaxSteps {
		return fmt.Sprintf("no %s of up to %d steps is long enough", window, rule.MaxSteps)
	}
	d := (time.Duration(steps) * f.in.Rule.Windows.Step).String()
	if rest, ok := strings.CutSuffix(d, "m0s"); ok {
		d = rest + "m"
	}
	if rest, ok := strings.CutSuffix(d, "h0m"); ok {
		d = rest + "h"
	}
	return fmt.Sprintf("%s must be %s or longer", window, d)
}

// missing says what the last look of r lacks to be one.
func (f *family) missing(r *row, t *test) *Needs {
	g := f.in.Geometry
	last := t.looks[r.end]
	if last != nil && last.Valid {
		return nil
	}
	at := float64(g.FirstLook + r.end)
	span := at - float64(g.Guard)
	switch {
	case last == nil:
		return &Needs{Of: "steps", Have: 0, Need: math.Ceil((1 - maxMissing) * span)}
	case last.Missing > maxMissing:
		lost := math.Round(last.Missing * span)
		needs := &Needs{Of: "steps", Have: span - lost, Need: math.Ceil((1 - maxMissing) * span)}
		// If no more steps are lost, those that are lost are few enough by then.
		if enough := float64(g.Guard) + math.Ceil(lost/maxMissing-1e-9); enough <= float64(g.Horizon) {
			needs.When = f.after(enough)
		}
		return needs
	case t.Metric != telemetry.Level && last.Trials == 0:
		return &Needs{Of: "requests", Have: 0, Need: 1}
	case t.last == nil:
		// Too few placebos could be looked at so early; all of them can at the horizon.
		return &Needs{Of: "steps", Have: span, Need: float64(g.Horizon - g.Guard), When: f.after(float64(g.Horizon))}
	}
	return nil
}

// events says what t, which moved by adj, lacks to be a detection.
func (f *family) events(t *test, adj float64) *Needs {
	g := f.in.Geometry
	l := t.last
	switch {
	case t.falls(adj):
		return &Needs{Of: "events", Have: t.BaselineEvents, Need: minEvents}
	case l.Events < minEvents:
		needs := &Needs{Of: "events", Have: l.Events, Need: minEvents}
		if perStep := l.Events / float64(l.T-g.Guard); perStep > 0 {
			needs.When = f.after(float64(g.Guard) + minEvents/perStep)
		}
		return needs
	}
	return &Needs{Of: "steps", Have: float64(l.EventSteps), Need: minEventSteps}
}

// explain says why nothing of r can be tested: its named metric's reason first.
func (f *family) explain(r *row) {
	r.Needs = f.namedMissing(r)
	if r.Needs == nil && len(r.tests) > 0 {
		r.Needs = r.tests[0].needs
	}
	if len(r.lacking) > 0 {
		if r.Needs == nil {
			needs := r.lacking[0].Needs
			r.Needs = &needs
		}
		r.Note = r.lacking[0].Note
	}
	if r.Note == "" {
		r.Note = f.remedy(r.Needs)
	}
}

// namedMissing is what the metric that the rule names lacks to be tested, nil if nothing.
func (f *family) namedMissing(r *row) *Needs {
	named := firstMetric(r.signal.Kind)
	for _, t := range r.tests {
		if t.Metric == named {
			return t.needs
		}
	}
	for _, l := range r.lacking {
		if l.Metric == named {
			needs := l.Needs
			return &needs
		}
	}
	return nil
}
