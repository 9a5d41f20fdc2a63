package detect

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Warnings of rows and judgements.
const (
	// LoadOutsideHistory: the traffic is so far from what it ever was that the adjustment for
	// load is a guess; nothing is confirmed while it lasts.
	LoadOutsideHistory = "load_outside_history"
	// CannotBeConfirmedAlone: there are too few placebos for this row to be confirmed unless
	// other endpoints rise with it.
	CannotBeConfirmedAlone = "cannot_be_confirmed_alone"
	// EffectUnknown: the statistic rose, but how much the signal itself did cannot be told.
	EffectUnknown = "effect_unknown"
	// OriginUnknown: the statistic rose, but the steps that would show whether it began before
	// the upgrade, or is still there, are missing.
	OriginUnknown = "origin_unknown"
	// CounterIsNew: no endpoint had this counter before the upgrade. What looks like the first
	// events ever may be new instrumentation, so the row is judged but never acted on.
	CounterIsNew = "counter_is_new"
	// LastLookMissing: the row was confirmed before, but at the last look it could not be seen.
	LastLookMissing = "last_look_missing"
	// NoRestartInCalibration: placebos were not restarted and the upgrade was, and there are
	// no controls that show what a restart alone does.
	NoRestartInCalibration = "no_restart_in_calibration"
)

// loadLimit is how far, in standard deviations of history, the load may be from its mean.
// Within it a traffic jump of 2.5 times raised false alarms at 0.001; saturation, which is
// not linear in load, was never simulated beyond it. (docs/statistics.md, "Adjustment".)
const loadLimit = 4

// restartControls is how many controls it takes to believe that the restart itself raised
// nothing (DESIGN: "placebos lack the restart").
const restartControls = 3

// Judge returns the verdict on an upgrade. It depends on nothing but in, and not on the
// order of anything in it. (docs/statistics.md, "p-process" to "Insufficient data"; the
// order of the verdicts of a row is the decision table of docs/design.md.)
func Judge(in Input) Judgement {
	f := assemble(in)
	if f.isShort() {
		return f.judgeShort()
	}
	f.rank()
	f.watchControls()
	for look := range f.looks {
		f.look(look)
	}
	f.conclude()
	return f.judgement()
}

// A family is the endpoints of one upgrade that are judged together.
type family struct {
	in        Input
	looks     int // that can have been made: look i is FirstLook+i steps after the upgrade
	rows      []*row
	endpoints []*endpoint
	m         int // endpoints with something testable

	// What the controls did up to each look, by themselves: one of them was rejected upwards, or
	// either way. Neither is taken back.
	risen, moved []bool
}

// An endpoint is the rows of one endpoint.
type endpoint struct {
	name    telemetry.Endpoint
	rows    []*row
	control bool
	k       int // testable metrics
}

// A row is one signal of one endpoint.
type row struct {
	Row
	home    *endpoint
	signal  rule.Signal
	tests   []*test // in the order of metricOrder
	lacking []Lacking
	unread  string // why, if void
	void    bool
	end     int  // the last look made, -1 = none
	fresh   bool // of a counter that first appeared with the upgrade
}

// A test is one metric of a row.
type test struct {
	*baseline.Comparison
	signal rule.Signal
	home   *endpoint
	needs  *Needs // why it cannot be tested
	looks  []*baseline.Look
	last   *baseline.Look // the last one that is valid

	own, against *ranking // own is nil if it cannot be tested, against if there are too few controls
	siblings     []bool   // by look: against is used
}

// ranking is the one that stands for t at a look.
func (t *test) ranking(look int) *ranking {
	if t.against != nil && look >= 0 && t.siblings[look] {
		return t.against
	}
	return t.own
}

// p is that of t at a look.
func (t *test) p(look int) float64 { return t.ranking(look).p[look] }

// adjusted is what t stands at, at a look or the last valid one before it; nil if there is none.
func (t *test) adjusted(look int) *baseline.Adjusted {
	return t.ranking(look).adjustedAt(look)
}

// tests is the number of tests that the endpoint of t pays for: its testable metrics, twice
// if this one looks both ways.
func (t *test) tests() float64 {
	if t.signal.Direction == rule.Both {
		return 2 * float64(t.home.k)
	}
	return float64(t.home.k)
}

// metricOrder is the order of the metrics of a row. The first of a kind of signal is the one
// that the rule names.
var metricOrder = []telemetry.Metric{telemetry.Tail, telemetry.Body, telemetry.Retry, telemetry.Level}

func compareMetrics(a, b telemetry.Metric) int {
	return cmp.Compare(slices.Index(metricOrder, a), slices.Index(metricOrder, b))
}

func firstMetric(k rule.Kind) telemetry.Metric {
	switch k {
	case rule.Ratio:
		return telemetry.Retry
	case rule.Gauge:
		return telemetry.Level
	}
	return telemetry.Tail
}

// assemble sorts the comparisons into rows and endpoints.
func assemble(in Input) *family {
	g := in.Geometry
	f := &family{in: in, looks: max(0, min(in.Complete, g.Horizon)-g.FirstLook+1)}
	endpoints := make(map[telemetry.Endpoint]*endpoint)
	type rowKey struct {
		endpoint telemetry.Endpoint
		signal   int
	}
	rows := make(map[rowKey]*row)
	at := func(name telemetry.Endpoint, signal int) *row {
		e := endpoints[name]
		if e == nil {
			e = &endpoint{name: name, control: f.isControl(name)}
			endpoints[name] = e
		}
		r := rows[rowKey{name, signal}]
		if r == nil {
			r = f.newRow(e, signal)
			rows[rowKey{name, signal}] = r
		}
		return r
	}
	for i := range in.Comparisons {
		c := &in.Comparisons[i]
		r := at(c.Endpoint, c.Signal)
		r.tests = append(r.tests, f.newTest(r, c))
		r.fresh = r.fresh || c.New
	}
	for _, l := range in.Lacking {
		r := at(l.Endpoint, l.Signal)
		l.Needs = f.ofNew(l.Needs)
		r.lacking = append(r.lacking, l)
	}
	for _, s := range in.Short {
		r := at(s.Endpoint, s.Signal)
		r.fresh = r.fresh || s.New
	}
	// A signal that could not be read may be one that any endpoint has.
	for signal := range in.Unread {
		if signal < 0 {
			continue
		}
		for name := range maps.Clone(endpoints) {
			at(name, signal)
		}
	}

	f.rows = slices.SortedFunc(maps.Values(rows), func(a, b *row) int {
		return cmp.Or(strings.Compare(string(a.Endpoint), string(b.Endpoint)), cmp.Compare(a.Signal, b.Signal))
	})
	for _, r := range f.rows {
		slices.SortFunc(r.tests, func(a, b *test) int { return compareMetrics(a.Metric, b.Metric) })
		slices.SortFunc(r.lacking, func(a, b Lacking) int { return compareMetrics(a.Metric, b.Metric) })
		if n := len(f.endpoints); n == 0 || f.endpoints[n-1] != r.home {
			f.endpoints = append(f.endpoints, r.home)
		}
		r.home.rows = append(r.home.rows, r)
		for _, t := range r.tests {
			if t.needs == nil {
				r.home.k++
			}
		}
	}
	for _, e := range f.endpoints {
		if e.k > 0 {
			f.m++
		}
	}
	return f
}

// IsControl reports whether the rule has flags and none of them is behind any signal of the
// endpoint.
func IsControl(r *rule.Rule, e telemetry.Endpoint) bool {
	if len(r.Flags) == 0 {
		return false
	}
	values := e.Values()
	return !slices.ContainsFunc(r.Signals, func(s rule.Signal) bool { return r.FlagOf(values, s.Name) >= 0 })
}

func (f *family) isControl(e telemetry.Endpoint) bool { return IsControl(f.in.Rule, e) }

func (f *family) newRow(e *endpoint, signal int) *row {
	s := f.in.Rule.Signals[signal]
	nan := math.NaN()
	r := &row{home: e, signal: s, Row: Row{
		Endpoint: e.name, Signal: signal, Control: e.control,
		Flag: f.in.Rule.FlagOf(e.name.Values(), s.Name), Metric: firstMetric(s.Kind), Quantile: nan,
		Before: Level{Value: nan, Requests: nan, Events: nan}, After: Level{Value: nan, Requests: nan, Events: nan},
		Change: unknownChange(), Exceedance: unknownChange(),
		Z: nan, P: nan, Q: nan, QAct: nan, AttainableQ: nan, Own: Ranked{nan, nan}, Against: Ranked{nan, nan},
	}}
	r.end = f.looks - 1
	if at, ok := f.in.WrittenAt[r.Flag]; ok && r.Flag >= 0 {
		r.end = max(-1, min(r.end, at-f.in.Geometry.FirstLook))
	}
	if r.unread, r.void = f.in.Unread[signal]; !r.void {
		r.unread, r.void = f.in.Unread[-1]
	}
	return r
}

func (f *family) newTest(r *row, c *baseline.Comparison) *test {
	t := &test{Comparison: c, signal: r.signal, home: r.home, needs: f.untestable(c)}
	t.looks = make([]*baseline.Look, f.looks)
	for i := range c.Looks {
		l := &c.Looks[i]
		if at := l.T - f.in.Geometry.FirstLook; at >= 0 && at <= r.end {
			t.looks[at] = l
			if l.Valid && (t.last == nil || l.T > t.last.T) {
				t.last = l
			}
		}
	}
	return t
}

// testable are the tests of r that a verdict can rest on.
func (r *row) testable() []*test {
	if r.void {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.tests), func(t *test) bool { return t.needs != nil })
}

// rank fills in the p of every test at every look. What could not be read keeps its place in
// the family with a p of 1: the family is fixed before the first look.
func (f *family) rank() {
	var tests []*test
	for _, r := range f.rows {
		tests = append(tests, r.testable()...)
	}
	f.rankings(tests)
}

// watchControls finds out, look by look, what the controls did by themselves, and with that
// which tests are judged against them: those behind a flag, at looks at which 3 controls could
// be compared, until one at which they cannot or a control has moved. A control that rose speaks for a cause that all
// share; one that fell is no measure of what would have been without the upgrade.
func (f *family) watchControls() {
	f.risen, f.moved = make([]bool, f.looks), make([]bool, f.looks)
	control := func(r *row) bool { return r.Control }
	alpha := f.in.Rule.Alpha.Report
	for look := range f.looks {
		up := f.adjustOver(control, func(r *row) float64 { return r.pBy(func(t *test) float64 { return t.own.p[look] }) })
		down := f.adjustOver(control, func(r *row) float64 { return r.pBy(func(t *test) float64 { return t.own.better[look] }) })
		before := look > 0 && f.risen[look-1]
		f.risen[look] = before || up.rejects(alpha)
		f.moved[look] = f.risen[look] || look > 0 && f.moved[look-1] || down.rejects(alpha)
	}
	for _, r := range f.rows {
		for _, t := range r.testable() {
			t.siblings = make([]bool, f.looks)
			compared, left := false, false
			for look, l := range t.looks {
				if l != nil && l.Valid {
					left = left || compared && l.Against == nil
					compared = l.Against != nil
				}
				t.siblings[look] = r.Flag >= 0 && t.against != nil && compared && !left && !f.moved[look]
			}
		}
	}
}

func outside(l *baseline.Look) bool { return math.Abs(l.LoadSD) > loadLimit }

// p is the p of a row at a look.
func (r *row) p(look int) float64 { return r.pBy(func(t *test) float64 { return t.p(look) }) }

// pBy is the p of a row by that of its tests.
func (r *row) pBy(p func(*test) float64) float64 {
	least := 1.0
	for _, t := range r.testable() {
		least = min(least, p(t))
	}
	return min(1, float64(r.home.k)*least)
}

// winner is the test with the smallest p at a look, nil where nothing is testable. Where
// several have the same, mostly 1, it is the one that could still hide the largest change.
func (r *row) winner(look int) *test {
	tests := r.testable()
	if len(tests) == 0 {
		return nil
	}
	p := func(t *test) float64 {
		if look < 0 {
			return 1
		}
		return t.p(look)
	}
	return slices.MinFunc(tests, func(a, b *test) int {
		return cmp.Or(cmp.Compare(p(a), p(b)), cmp.Compare(b.hidden(look), a.hidden(look)))
	})
}

// hidden is the size of the largest change that t does not exclude up to a look, +Inf if it
// excludes none. Against controls a change that all share cannot be seen, so what t says by
// itself must exclude it, too.
func (t *test) hidden(look int) float64 {
	return max(t.hiddenBy(t.own, look), t.hiddenBy(t.ranking(look), look))
}

func (t *test) hiddenBy(k *ranking, look int) float64 {
	l := k.adjustedAt(look)
	if l == nil {
		return math.Inf(1)
	}
	bound := size(t.signal.Direction, change(t.signal.Direction, l.Adj, l.S, t.Unit, 0).Bound95)
	if math.IsNaN(bound) {
		return math.Inf(1)
	}
	return bound
}

// An adjusted family holds its p and their Benjamini–Hochberg adjusted values, ascending.
type adjusted struct {
	p, q []float64
}

// adjust sorts p and adjusts it.
func adjust(p []float64) adjusted {
	slices.Sort(p)
	return adjusted{p, stat.AdjustBH(p)}
}

// rejects reports whether any member is rejected at level q.
func (a adjusted) rejects(q float64) bool { return len(a.q) > 0 && a.q[0] <= q }

// at is the adjusted value of a member when p stands for it. The p that is in the family for
// it may be smaller, but not larger.
func (a adjusted) at(p float64) float64 {
	rank := sort.Search(len(a.p), func(i int) bool { return a.p[i] > p })
	if rank == 0 {
		panic("detect: the family holds a larger p for this member")
	}
	if a.p[rank-1] == p {
		return a.q[rank-1]
	}
	q := min(1, p*float64(len(a.p))/float64(rank))
	if rank < len(a.p) {
		q = min(q, a.q[rank])
	}
	return q
}

// adjustOver adjusts over the endpoints in which some row is in: an endpoint's p is the
// least of those rows'.
func (f *family) adjustOver(in func(*row) bool, p func(*row) float64) adjusted {
	least := make([]float64, 0, f.m)
	for _, e := range f.endpoints {
		if e.k == 0 {
			continue
		}
		best := math.Inf(1)
		for _, r := range e.rows {
			if in(r) && r.counts() {
				best = min(best, p(r))
			}
		}
		if !math.IsInf(best, 1) {
			least = append(least, best)
		}
	}
	return adjust(least)
}

// counts reports whether r has a place in the family: something of it is testable, whether
// or not it could be read this time.
func (r *row) counts() bool {
	return slices.ContainsFunc(r.tests, func(t *test) bool { return t.needs == nil })
}

func everyRow(*row) bool { return true }

// look adjusts the p of one look and confirms what is to be confirmed at it.
func (f *family) look(look int) {
	at := func(r *row) float64 { return r.p(look) }
	acting := func(r *row) float64 { // a small p of what cannot be acted on must not lift others
		if r.fresh {
			return 1
		}
		return at(r)
	}
	all := f.adjustOver(everyRow, at)
	flags := make([]adjusted, len(f.in.Rule.Flags))
	for i := range flags {
		flags[i] = f.adjustOver(func(r *row) bool { return r.Flag == i }, acting)
	}
	for _, r := range f.rows {
		if r.void || look > r.end || !r.counts() {
			continue
		}
		r.P = at(r)
		r.Q = all.at(r.P)
		if r.Flag >= 0 {
			r.QAct = flags[r.Flag].at(acting(r))
		}
		if r.RegressedAt == 0 && r.Q <= f.in.Rule.Alpha.Act {
			if t := r.winner(look); t.confirms(look) {
				r.RegressedAt = t.looks[look].T
			}
		}
	}
}

// confirms reports whether t says at a look what a regression takes besides a small q.
func (t *test) confirms(look int) bool {
	l := t.looks[look]
	return l != nil && l.Valid && !outside(l) && t.enoughEvents(l, t.adjusted(look).Adj) && t.ranking(look).agrees(look) &&
		t.effect(t.adjusted(look).Adj) == yes && origin(l) == yes && gate(l.Jp) == yes
}

// seen reports whether t was made at a look, at a load that history knows.
func (t *test) seen(look int) bool {
	return look >= 0 && t.last != nil && t.looks[look] == t.last && !outside(t.last)
}

// conclude gives every row its numbers and its verdict.
func (f *family) conclude() {
	better := f.adjustOver(everyRow, (*row).better)
	for _, r := range f.rows {
		f.describe(r)
		f.decide(r, r.counts() && !r.void && r.end >= 0 && better.at(r.better()) <= f.in.Rule.Alpha.Report)
		f.date(r)
	}
}

// date says when what was found in r began.
func (f *family) date(r *row) {
	switch {
	case r.Verdict == Regressed, r.Verdict == PreExisting, r.Verdict == Transient, r.Suspected:
	default:
		return
	}
	t := r.winner(r.end)
	if t == nil || t.last == nil {
		return
	}
	if o, ok := t.Onset(f.in.Geometry, t.last.T); ok {
		r.Onset = &o
	}
}

// better is the p of r on the way that is welcome, at the last look.
func (r *row) better() float64 {
	if r.end < 0 {
		return 1
	}
	return r.pBy(func(t *test) float64 { return t.ranking(r.end).better[r.end] })
}

// describe fills in the numbers of r. They are those of its winner at the last look.
func (f *family) describe(r *row) {
	for _, t := range r.tests {
		m := MetricResult{Metric: t.Metric, Testable: t.needs == nil && !r.void, Z: math.NaN(), P: math.NaN()}
		if m.Testable && t.last != nil {
			m.Z, m.P = t.adjusted(r.end).Z, t.p(r.end)
		}
		r.Metrics = append(r.Metrics, m)
	}
	for _, l := range r.lacking {
		r.Metrics = append(r.Metrics, MetricResult{Metric: l.Metric, Z: math.NaN(), P: math.NaN()})
	}
	slices.SortFunc(r.Metrics, func(a, b MetricResult) int { return compareMetrics(a.Metric, b.Metric) })

	for _, t := range r.testable() {
		made := 0
		for _, l := range t.looks {
			if l != nil && l.Valid {
				made++
			}
		}
		r.Looks = max(r.Looks, made)
	}
	switch t := r.winner(r.end); {
	case t != nil:
		f.show(r, t)
	case len(r.tests) > 0:
		f.show(r, r.tests[0])
	case len(r.lacking) > 0:
		r.Metric = r.lacking[0].Metric
		r.Quantile = r.quantile()
	default:
		r.Quantile = r.quantile()
	}
}

func (r *row) quantile() float64 {
	switch r.Metric {
	case telemetry.Tail:
		return r.signal.Quantile
	case telemetry.Body:
		return 0.8
	}
	return math.NaN()
}

// show makes t the metric of r.
func (f *family) show(r *row, t *test) {
	r.Metric = t.Metric
	r.Quantile = r.quantile()
	counted := t.Metric != telemetry.Level
	r.Before.Value, r.Before.AtLeast = t.Before, t.BeforeAtLeast
	r.After.Value, r.After.AtLeast = t.After, t.AfterAtLeast
	r.Before.CI95, r.After.CI95 = t.Before95, t.After95
	if counted {
		r.Before.Requests, r.Before.Events = t.BaselineTrials, t.BaselineEvents
	}
	if t.last != nil && counted {
		r.After.Requests, r.After.Events = t.last.Trials, t.last.Events
	}
	if t.needs != nil || r.void {
		return
	}
	k := t.ranking(r.end)
	r.AttainableQ = k.attainableQ(f.m)
	r.Change, r.Exceedance = unknownChange(), unknownChange()
	if t.last == nil {
		r.P, r.Q, r.QAct = math.NaN(), math.NaN(), math.NaN()
		return
	}
	l := t.adjusted(r.end)
	r.Z = l.Z
	r.Own = Ranked{t.own.adjustedAt(r.end).Z, r.pBy(func(t *test) float64 { return t.own.p[r.end] })}
	if k != t.own {
		r.Against = Ranked{l.Z, r.P}
	}
	r.StillThere = t.seen(r.end) && gate(t.last.Jp) == yes
	d := t.signal.Direction
	detectable := k.detectable(d, f.in.Rule.Alpha.Act)
	r.Change = change(d, l.Adj, l.S, t.Unit, detectable)
	if own := t.own.adjustedAt(r.end); k != t.own {
		r.Change.Bound95 = farther(d, r.Change.Bound95, change(d, own.Adj, own.S, t.Unit, 0).Bound95)
	}
	r.Change.MinimumEffect = t.signal.MinimumEffect
	if t.signal.MinimumEffectAuto {
		r.Change.MinimumEffect = autoEffect
	}
	if t.Metric == telemetry.Tail || t.Metric == telemetry.Body {
		r.Exceedance = change(d, l.Adj, l.S, baseline.Counted(), detectable)
	}
}

// judgement collects the rows, worst first.
func (f *family) judgement() Judgement {
	j := Judgement{Verdict: NotEnoughData, ControlsRisen: f.looks > 0 && len(f.risen) > 0 && f.risen[f.looks-1], Tier: "none"}
	worst := func(v Verdict) {
		if v = v.forReport(); v.severity() < j.Verdict.severity() {
			j.Verdict = v
		}
	}
	if len(f.rows) > 0 {
		j.Verdict = f.rows[0].Verdict.forReport()
	}
	for _, r := range f.rows {
		worst(r.Verdict)
		j.Looks = max(j.Looks, r.Looks)
		j.Rows = append(j.Rows, r.Row)
	}
	slices.SortStableFunc(j.Rows, compareRows) // rows are in the order of endpoint and signal

	// A signal that could not be read is no less unread for having no endpoint.
	for _, signal := range slices.Sorted(maps.Keys(f.in.Unread)) {
		if !slices.ContainsFunc(f.rows, func(r *row) bool { return signal < 0 || r.Signal == signal }) {
			worst(CouldNotCheck)
			j.Warnings = append(j.Warnings, fmt.Sprintf("could not check %s: %s", f.signalName(signal), f.in.Unread[signal]))
		}
	}

	for _, r := range f.rows {
		for _, t := range r.testable() {
			if j.Tier == "none" {
				j.Days = t.Calibration.Days
				j.Tier, j.Placebos, j.Pooled = "full", t.Calibration.Placebos, t.ranking(r.end).pool.n
			}
			if t.ranking(r.end).attainableQ(f.m) > f.in.Rule.Alpha.Act {
				j.Tier = "limited"
			}
			j.Placebos = min(j.Placebos, t.Calibration.Placebos)
			j.Days = min(j.Days, t.Calibration.Days)
			j.Pooled = min(j.Pooled, t.ranking(r.end).pool.n)
		}
	}

	able := 0
	for _, e := range f.endpoints {
		if !e.control {
			continue
		}
		judged, least := false, 1.0
		for _, r := range e.rows {
			for _, t := range r.testable() {
				if t.seen(r.end) {
					judged, least = true, min(least, t.own.attainableQ(f.m))
				}
			}
		}
		if judged {
			j.Controls++
			if least <= f.in.Rule.Alpha.Report {
				able++
			}
		}
	}
	j.RestartCovered = able >= restartControls && !j.ControlsRisen || f.restarted()
	if !j.RestartCovered && j.Tier != "none" {
		j.Warnings = append(j.Warnings, NoRestartInCalibration)
	}
	return j
}

// restarted reports whether every test has past upgrades of its own to be compared with.
func (f *family) restarted() bool {
	n := 0
	for _, r := range f.rows {
		for _, t := range r.testable() {
			if len(t.own.restarts.Maxima) < restartUpgrades {
				return false
			}
			n++
		}
	}
	return n > 0
}

func (f *family) signalName(signal int) string {
	if signal < 0 {
		return "the rule"
	}
	return f.in.Rule.Signals[signal].Name
}

// compareRows puts the worst first: by verdict, then by how sure it is.
func compareRows(a, b Row) int {
	shade := func(r Row) int {
		switch {
		case r.Suspected:
			return 0
		case r.Verdict == PreExisting:
			return 1
		case r.Verdict == Transient:
			return 2
		}
		return 3
	}
	known := func(x float64) float64 {
		if math.IsNaN(x) {
			return math.Inf(1)
		}
		return x
	}
	return cmp.Or(cmp.Compare(a.Verdict.severity(), b.Verdict.severity()), cmp.Compare(shade(a), shade(b)),
		cmp.Compare(known(a.Q), known(b.Q)), cmp.Compare(known(a.P), known(b.P)))
}
