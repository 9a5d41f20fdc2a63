package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// The PromQL path. Where remote read puts an increment into the step of its interval's
// midpoint, increase(x[step] anchored) cuts at the last sample before each edge: an increment
// is in the step that its second sample lies in. So neighbouring steps may differ by up to one
// scrape's worth between the paths, sums over several steps agree, and the interval that
// contains the upgrade counts after it instead of nowhere. A step that was scraped less than
// half as often as its neighbours is missing, as is the one after it, which holds what the gap
// hid. A bucket whose le changes its spelling loses one interval. Only counters, not buckets, are followed to their birth at 0, and only when they had
// been absent for an hour. Native histograms are refused: their JSON is eight times what remote
// read sends and costs the server 8 GiB at 10,000 endpoints, and histogram_fraction rounds.

// increase is what a server's increase() yields, as tried.
type increase int

const (
	increaseUntried  increase = iota
	increaseAnchored          // exact, with the anchored modifier
	increaseExact             // exact as it is (VictoriaMetrics)
	increasePlain             // extrapolated from the samples inside the window
)

// maxPoints is how many points per series Prometheus returns at most.
const maxPoints = 11_000

// maxShards is how far a read is split before its refusal is final.
const maxShards = 256

// An evaluation is where query_range evaluates: at start, start + step, up to end.
type evaluation struct {
	start, end time.Time
	step       time.Duration
}

func at(t time.Time) evaluation { return evaluation{t, t, time.Second} }

// points is the number of evaluations.
func (e evaluation) points() int { return int(e.end.Sub(e.start)/e.step) + 1 }

// queryRange runs expr over e, in pieces of at most maxPoints, into dst.
func (c *Client) queryRange(ctx context.Context, expr string, e evaluation, dst matrixSink, res *Result) error {
	for !e.start.After(e.end) {
		part := e
		if part.points() > maxPoints {
			part.end = part.start.Add((maxPoints - 1) * e.step)
		}
		if err := c.queryPart(ctx, expr, part, dst, res); err != nil {
			return err
		}
		e.start = part.end.Add(e.step)
	}
	return nil
}

func (c *Client) queryPart(ctx context.Context, expr string, e evaluation, dst matrixSink, res *Result) error {
	release, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errRequestTimeout)
	defer cancel()
	form := url.Values{
		"query": {expr},
		"start": {seconds(e.start)},
		"end":   {seconds(e.end)},
		"step":  {strconv.FormatFloat(e.step.Seconds(), 'f', -1, 64)},
		// Thanos: an answer without one of the stores is an error, and replicas count once.
		"partial_response": {"false"},
		"dedup":            {"true"},
	}
	resp, err := c.post(ctx, "/api/v1/query_range", http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		// VictoriaMetrics answers a repeated query from a cache that rounds times.
		"Cache-Control": {"no-cache"},
	}, []byte(form.Encode()))
	if err != nil {
		return describe(err, res.Read.Name, expr)
	}
	defer resp.Body.Close()
	answer, n, err := scanMatrix(resp.Body, dst)
	res.Bytes += n
	res.Samples += answer.points
	for _, w := range answer.warnings {
		if !slices.Contains(res.Warnings, w) {
			res.Warnings = append(res.Warnings, w)
		}
	}
	if err != nil {
		if caller.Err() != nil {
			return caller.Err()
		}
		if errors.Is(context.Cause(ctx), errRequestTimeout) {
			err = &Error{Err: ErrUnavailable, Detail: fmt.Sprintf("no complete answer in %v", c.timeout)}
		}
		return describe(err, res.Read.Name, expr)
	}
	return nil
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

// increaseOf finds out what the server's increase is, once. It tries; versions lie.
func (c *Client) increaseOf(ctx context.Context) (increase, error) {
	c.mu.Lock()
	known := c.increase
	c.mu.Unlock()
	if known != increaseUntried {
		return known, nil
	}
	found := increasePlain
	for _, try := range []struct {
		expr string
		is   increase
	}{
		{`increase(driftwatch_no_such_series[1m] anchored)`, increaseAnchored},
		{`running_sum(vector(1))`, increaseExact}, // a function that only MetricsQL has
	} {
		err := c.queryRange(ctx, try.expr, at(time.Unix(1, 0)), discard{}, &Result{Read: Read{Name: "capabilities"}})
		if err == nil {
			found = try.is
			break
		}
		if !errors.Is(err, ErrBadQuery) && !errors.Is(err, ErrTooExpensive) {
			return 0, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.increase = found
	return found, nil
}

type discard struct{}

func (discard) series([]label) error { return nil }
func (discard) point(int64, float64) {}

// A number takes the last point of the only series.
type number struct {
	v  float64
	ok bool
}

func (n *number) series([]label) error { return nil }
func (n *number) point(_ int64, v float64) {
	n.v, n.ok = v, v == v
}

// instant evaluates expr, which yields at most one series, at one time.
func (c *Client) instant(ctx context.Context, expr string, t time.Time, res *Result) (float64, bool, error) {
	var n number
	err := c.queryRange(ctx, expr, at(t), &n, res)
	return n.v, n.ok, err
}

func (c *Client) fetchPromQL(ctx context.Context, r Read) (Result, error) {
	if r.Native {
		return Result{}, &Error{Name: r.Name, Expr: r.Selector(), Err: ErrUnsupported, Detail: "native histograms are read by remote read only; " +
			"allow /api/v1/read and set read: auto"}
	}
	res := Result{Read: r, Dispersion: 1, Path: "query"}
	inc, err := c.increaseOf(ctx)
	if err != nil {
		return Result{}, err
	}
	p := promRead{c: c, r: r, f: newFold(r), res: &res, increase: inc}
	if err := p.measure(ctx); err != nil {
		return Result{}, err
	}
	if inc == increasePlain && r.Kind != Gauge {
		if r.Grid.Len > 0 && r.Grid.Step < 2*res.ScrapeInterval {
			return Result{}, &Error{Name: r.Name, Expr: r.Selector(), Err: ErrUnsupported, Detail: fmt.Sprintf(
				"this server only has increase(), which needs two samples in a step of %v, and is scraped every %v; use remote read, or a longer step",
				r.Grid.Step, res.ScrapeInterval)}
		}
		res.Path = "query-plain"
		window := r.Grid.Step
		if r.Grid.Len == 0 {
			window = r.Totals.Duration()
		}
		if lost := window - res.ScrapeInterval; lost > 0 {
			res.Dispersion = float64(window) / float64(lost)
		}
		res.Notes = append(res.Notes, fmt.Sprintf(
			"approximate: this server only has increase(), which extrapolates; counts vary %.2f times as much", res.Dispersion))
	}
	if err := p.read(ctx); err != nil {
		return Result{}, err
	}
	counts, notes := p.f.counts(p.scraped)
	res.Counts, res.Notes = counts, append(res.Notes, notes...)
	if res.Series == 0 {
		res.Series = len(p.f.rows)
	}
	return res, nil
}

// A promRead is one Read by PromQL on its way.
type promRead struct {
	c        *Client
	r        Read
	f        *fold
	res      *Result
	increase increase
	scraped  []bool
}

// main selects one series per counter or histogram.
func (p *promRead) main() string {
	ms := p.r.Matchers
	if p.r.Kind == Buckets {
		ms = append(slices.Clone(ms), labels.MustNewMatcher(labels.MatchEqual, "le", "+Inf"))
	}
	return selector(p.r.Metric, ms)
}

// until is the last instant that may be looked at.
func (p *promRead) until() time.Time { return p.r.window().End }

// measure finds the scrape interval and how far the data reaches.
func (p *promRead) measure(ctx context.Context) error {
	until := p.until()
	n, ok, err := p.c.instant(ctx, "quantile(0.5, count_over_time("+p.main()+"[10m]))", until, p.res)
	if err != nil {
		return err
	}
	if ok && n > 0 {
		p.res.ScrapeInterval = (time.Duration(600/n*1000) * time.Millisecond).Round(100 * time.Millisecond)
	}
	if p.r.Until.IsZero() {
		return nil
	}
	// As fold.completeTo: a target that was silent for two intervals is not waited for.
	since := p.r.Until.Add(-2 * p.res.ScrapeInterval)
	p.res.CompleteTo = since
	last, ok, err := p.c.instant(ctx, fmt.Sprintf("min(timestamp(%s) >= %s)", p.main(), seconds(since)), until, p.res)
	if err != nil {
		return err
	}
	if t := time.UnixMilli(int64(math.Round(last * 1000))).UTC(); ok && t.After(since) {
		p.res.CompleteTo = t
	}
	if p.res.CompleteTo.After(until) {
		p.res.CompleteTo = until
	}
	return nil
}

func (p *promRead) read(ctx context.Context) error {
	r := p.r
	if w := r.Totals; w != (telemetry.Window{}) {
		if w.End.After(p.until()) {
			w.End = p.until()
		}
		if w.Duration() > 0 {
			dst := &promSink{f: p.f, add: func(c *column, _ int, v float64) { c.total += v; c.time = 1 }}
			if err := p.sharded(ctx, at(w.End), w.Duration(), func(sel string) string {
				return p.sum(p.rise(sel, w.Duration()))
			}, dst); err != nil {
				return err
			}
		}
	}
	if r.Grid.Len == 0 {
		return nil
	}
	e := evaluation{r.Grid.Start(r.Grid.First + 1), r.Grid.Start(r.Grid.End()), r.Grid.Step}
	for e.end.After(p.until()) {
		e.end = e.end.Add(-e.step)
	}
	if e.end.Before(e.start) {
		return nil
	}
	values := &promSink{f: p.f, add: func(c *column, i int, v float64) {
		if i >= 0 && i < len(c.sums) && v == v {
			c.sums[i] += v
			c.covered[i] = 1
			c.time++
		}
	}}
	if r.Kind == Gauge {
		return p.sharded(ctx, e, r.Grid.Step, func(sel string) string {
			// The comparisons leave out NaN and infinities.
			return "avg " + p.by() + " (last_over_time(" + sel + rangeOf(r.Grid.Step) + ") > -Inf < Inf)"
		}, values)
	}
	if err := p.sharded(ctx, e, r.Grid.Step, func(sel string) string {
		return p.sum(p.rise(sel, r.Grid.Step))
	}, values); err != nil {
		return err
	}
	if r.Kind == Counter {
		if err := p.sharded(ctx, e, r.Grid.Step, func(sel string) string {
			return p.sum(birthsOf(sel, r.Grid.Step, p.res.ScrapeInterval))
		}, values); err != nil {
			return err
		}
	}
	return p.coverage(ctx, e)
}

// rise is the increase of each series of sel over d.
func (p *promRead) rise(sel string, d time.Duration) string {
	if p.increase == increaseAnchored {
		return "increase(" + sel + strings.TrimSuffix(rangeOf(d), "]") + "] anchored)"
	}
	return "increase(" + sel + rangeOf(d) + ")"
}

// birthsOf is the first value of each counter that was not there before the step while its
// target was scraped: at the last two scrapes before the step. What was there within the hour
// before may only have been hidden.
func birthsOf(sel string, step, interval time.Duration) string {
	if interval == 0 {
		interval = time.Minute // not known; the default of Prometheus
	}
	d, ups := durationText(step), "up"+rangeOf(time.Duration(maxGap*float64(interval)))+" offset "+durationText(step)
	return "(min_over_time(" + sel + rangeOf(step) + ") unless last_over_time(" + sel + rangeOf(bornLookback) + " offset " + d +
		")) and on (job, instance) (min_over_time(" + ups + ") == 1 and count_over_time(" + ups + ") >= 2)"
}

func (p *promRead) by() string {
	by := slices.Clone(p.r.By)
	if p.r.Kind == Buckets {
		by = append(by, "le")
	}
	return "by (" + strings.Join(by, ", ") + ")"
}

func (p *promRead) sum(expr string) string { return "sum " + p.by() + " (" + expr + ")" }

func rangeOf(d time.Duration) string { return "[" + durationText(d) + "]" }

// durationText is d as PromQL writes it.
func durationText(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// coverage finds the steps that were not scraped as they should be.
func (p *promRead) coverage(ctx context.Context, e evaluation) error {
	scrapes := map[*row][]float64{}
	dst := &promSink{f: p.f, rowOnly: true, addRow: func(r *row, i int, v float64) {
		if scrapes[r] == nil {
			scrapes[r] = make([]float64, p.f.steps)
		}
		if i >= 0 && i < p.f.steps {
			scrapes[r][i] += v
		}
	}}
	expr := "sum by (" + strings.Join(p.r.By, ", ") + ") (count_over_time(" + p.main() + rangeOf(p.r.Grid.Step) + "))"
	if err := p.c.queryRange(ctx, expr, e, dst, p.res); err != nil {
		return err
	}
	if p.r.AbsentIsZero {
		if err := p.targetsScraped(ctx, e); err != nil {
			return err
		}
	}
	for _, r := range p.f.rows {
		n := scrapes[r]
		if n == nil {
			n = make([]float64, p.f.steps)
		}
		p.dropHoles(r, n)
	}
	return nil
}

// dropHoles marks the steps of r with too few scrapes, n, and those that follow on one.
func (p *promRead) dropHoles(r *row, n []float64) {
	r.gapped = make([]float32, p.f.steps)
	before, hole := false, false
	for i := range n {
		if n[i] == 0 {
			for _, c := range r.columns {
				c.covered[i] = 0
			}
			// Not there yet, or gone while its target was scraped: no gap.
			if !before || p.scraped != nil && p.scraped[i] {
				hole = false
				continue
			}
		}
		thin := n[i] == 0 || i > 0 && n[i] < n[i-1]/2
		if thin || hole {
			r.gapped[i] = 2 // more than the 1 that points cover
		}
		before, hole = true, thin
	}
	// A bound that appears later than +Inf has lost its first value in its first step.
	for _, c := range r.columns {
		for i := len(n) - 1; i > 0; i-- {
			if c.covered[i] > 0 && c.covered[i-1] == 0 && n[i-1] > 0 {
				c.covered[i] = 0
			}
		}
	}
}

// targetsScraped finds the steps in which every target of the metric that was there answered
// a scrape. Which of them had which endpoint is not known here, as it is to remote read.
func (p *promRead) targetsScraped(ctx context.Context, e evaluation) error {
	w := p.r.window()
	var ts []*target
	for _, label := range []string{"job", "instance"} {
		values, err := p.c.labelValues(ctx, label, []string{p.r.Selector()}, w)
		if err != nil {
			return err
		}
		for i, v := range values {
			if i >= len(ts) {
				ts = append(ts, &target{})
			}
			if label == "job" {
				ts[i].job = v
			} else {
				ts[i].instance = v
			}
		}
	}
	if len(ts) == 0 {
		return nil
	}
	p.scraped = make([]bool, p.f.steps)
	expr := "min(max_over_time(" + selector("up", targetMatchers(ts)) + rangeOf(p.r.Grid.Step) + "))"
	return p.c.queryRange(ctx, expr, e, scrapedSink{p}, p.res)
}

type scrapedSink struct{ p *promRead }

func (s scrapedSink) series([]label) error { return nil }
func (s scrapedSink) point(t int64, v float64) {
	if i := s.p.f.stepOf2(2*t) - s.p.f.first; i >= 0 && i < len(s.p.scraped) && v == 1 {
		s.p.scraped[i] = true
	}
}

// A promSink adds points to the rows and columns of a fold.
type promSink struct {
	f       *fold
	rowOnly bool
	addRow  func(r *row, step int, v float64)
	add     func(c *column, step int, v float64)
	row     *row
	col     *column
}

func (s *promSink) series(ls []label) error {
	s.col = nil
	for _, l := range ls {
		s.f.names[string(l.name)] = true
	}
	if s.rowOnly {
		s.row = s.f.rowOf(ls)
		return nil
	}
	le := 0.0
	if s.f.read.Kind == Buckets {
		le = math.NaN()
		for _, l := range ls {
			if string(l.name) == "le" {
				if v, err := strconv.ParseFloat(string(l.value), 64); err == nil {
					le = v
				}
			}
		}
		if le != le {
			s.f.skippedLe++
			return nil
		}
		if s.f.wanted != nil && !s.f.wanted[le] {
			return nil
		}
	}
	s.row = s.f.rowOf(ls)
	s.col = s.f.columnOf(s.row, le)
	return nil
}

func (s *promSink) point(t int64, v float64) {
	i := 0
	if s.f.step > 0 {
		i = s.f.stepOf2(2*t) - s.f.first
	}
	if s.rowOnly {
		s.addRow(s.row, i, v)
	} else if s.col != nil {
		s.add(s.col, i, v)
	}
}

// sharded runs exprOf over selectors that each match few enough series.
func (p *promRead) sharded(ctx context.Context, e evaluation, d time.Duration, exprOf func(sel string) string, dst matrixSink) error {
	n, _, err := p.c.instant(ctx, "count("+p.r.Selector()+")", e.end, p.res)
	if err != nil {
		return err
	}
	p.res.Series = max(p.res.Series, int(n))
	perSeries := float64(max(e.points(), 1))
	if p.res.ScrapeInterval > 0 {
		perSeries = max(perSeries, float64(d/p.res.ScrapeInterval))
	}
	shards := int(math.Ceil(n * perSeries / float64(p.c.maxSamples)))
	selectors, err := p.split(ctx, shards)
	if err != nil {
		return err
	}
	for _, sel := range selectors {
		if err := p.c.queryRange(ctx, exprOf(sel), e, dst, p.res); err != nil {
			return err
		}
	}
	return nil
}

// split cuts the selector of the read into n by the values of the label that has most.
func (p *promRead) split(ctx context.Context, n int) ([]string, error) {
	if n <= 1 {
		return []string{p.r.Selector()}, nil
	}
	if n > maxShards {
		return nil, &Error{
			Err: ErrTooExpensive, Detail: fmt.Sprintf("%d requests of %d samples; add a recording rule", n, p.c.maxSamples),
		}
	}
	var name string
	var values []string
	for _, l := range append(slices.Clone(p.r.By), "instance") {
		vs, err := p.c.labelValues(ctx, l, []string{p.r.Selector()}, p.r.window())
		if err != nil {
			return nil, err
		}
		if len(vs) > len(values) {
			name, values = l, vs
		}
	}
	n = min(n, len(values))
	var out []string
	for i := range n {
		var texts []string
		if i == 0 {
			texts = append(texts, "") // series without the label
		}
		for _, v := range values[i*len(values)/n : (i+1)*len(values)/n] {
			texts = append(texts, regexp.QuoteMeta(v))
		}
		m := labels.MustNewMatcher(labels.MatchRegexp, name, strings.Join(texts, "|"))
		out = append(out, selector(p.r.Metric, append(slices.Clone(p.r.matchers()), m)))
	}
	if n == 0 {
		out = []string{p.r.Selector()}
	}
	return out, nil
}

// maxEdges is how many steps with a change of versions are looked into, the newest first. A
// rollout has one or a few; a fleet that crashes for days has thousands.
const maxEdges = 30

func (c *Client) versionsPromQL(ctx context.Context, metric string, ms []*labels.Matcher, versionLabel string, w telemetry.Window) (Spans, error) {
	// As fine as the usual scrape, unless that would be more points than a server gives; and at
	// the same instants whenever it is asked.
	step := max(15*time.Second, (w.Duration() / (maxPoints - 1000)).Round(time.Second))
	expr := fmt.Sprintf("max by (job, instance, %s) (timestamp(%s))", versionLabel, selector(metric, ms))
	res := Result{Read: Read{Name: "versions"}}
	s := versionSink{
		spanFold: spanFold{label: versionLabel, from: w.Start.UnixMilli(), to: w.End.UnixMilli()}, step: step.Milliseconds(),
		edges: map[int64][]edge{},
	}
	first, last := s.from/s.step*s.step, (s.to+s.step-1)/s.step*s.step
	if err := c.queryRange(ctx, expr, evaluation{time.UnixMilli(first), time.UnixMilli(last), step}, &s, &res); err != nil {
		return Spans{}, err
	}
	s.stop(last)
	newest := slices.Sorted(maps.Keys(s.edges))
	for _, t := range newest[max(0, len(newest)-maxEdges):] {
		// A step shows the last of its samples; the first, and the last before an end, are within.
		near := nearSink{spanFold: spanFold{label: versionLabel, from: s.from}, seen: map[versionOf]seenAt{}}
		e := evaluation{time.UnixMilli(t - s.step + 1000), time.UnixMilli(min(t, s.to)), time.Second}
		if err := c.queryRange(ctx, expr, e, &near, &res); err != nil {
			return Spans{}, err
		}
		end := e.start.Add(time.Duration(max(0, e.points()-1)) * e.step).UnixMilli()
		for _, edge := range s.edges[t] {
			edge.refine(&s.spans[edge.span], near.seen, end)
		}
	}
	return Spans{Spans: s.spans, Series: s.seriesSeen, Samples: res.Samples, Bytes: res.Bytes, Warnings: res.Warnings}, nil
}

// An edge is the beginning or the end of a span within a step.
type edge struct {
	span int // index
	ends bool
}

// refine takes the time of an edge from what was seen second by second, up to end (ms).
func (e edge) refine(span *telemetry.VersionSpan, seen map[versionOf]seenAt, end int64) {
	near, ok := seen[versionOf{span.Target, span.Version}]
	if !ok {
		return
	}
	if !e.ends {
		if t := time.UnixMilli(near.first).UTC(); t.Before(span.First) {
			span.First = t
		}
		return
	}
	if t := time.UnixMilli(near.last).UTC(); t.After(span.Last) {
		span.Last = t
	}
	if near.shown == end {
		span.Gone = false // the read ends before the span
	}
}

type versionOf struct{ target, version string }

// seenAt is the times (ms) of the first and the last sample, and the last evaluation that
// showed one.
type seenAt struct{ first, last, shown int64 }

// A nearSink notes what a few evaluations show of each target and version.
type nearSink struct {
	spanFold
	seen map[versionOf]seenAt
}

func (n *nearSink) series(ls []label) error {
	_, err := n.spanFold.series(ls)
	return err
}

func (n *nearSink) point(t int64, v float64) {
	key, at := versionOf{n.span.Target, n.span.Version}, int64(math.Round(v*1000))
	if at < n.from {
		return
	}
	s, ok := n.seen[key]
	if !ok {
		s = seenAt{at, at, t}
	}
	n.seen[key] = seenAt{min(s.first, at), max(s.last, at), max(s.shown, t)}
}

// A versionSink turns times of last samples, as evaluated every step, into spans. A series that
// is not to be seen while its last sample is younger than the look-back has a stale marker.
type versionSink struct {
	spanFold
	step  int64
	seen  int64 // last evaluation that showed the series, ms
	any   bool
	edges map[int64][]edge // by the evaluation that ends their step, ms
}

func (s *versionSink) series(ls []label) error {
	if s.any {
		s.stop(s.to)
	}
	s.any = true
	_, err := s.spanFold.series(ls)
	return err
}

func (s *versionSink) point(t int64, v float64) {
	if s.open && t-s.seen > s.step {
		s.finish(s.vanished())
	}
	sample := int64(math.Round(v * 1000))
	if sample > s.to {
		return // the last evaluation may lie after the window; what it hides is looked for within
	}
	opened := !s.open
	s.seen = t
	s.samples([]int64{sample}, []float64{1})
	if opened && s.open {
		s.edges[t] = append(s.edges[t], edge{span: len(s.spans)})
	}
}

func (s *versionSink) vanished() bool {
	return s.seen+s.step-s.lastT < presenceGap.Milliseconds()
}

// finish closes the span, which ends within the step after the evaluation that showed it last.
func (s *versionSink) finish(gone bool) {
	s.edges[s.seen+s.step] = append(s.edges[s.seen+s.step], edge{span: len(s.spans), ends: true})
	s.spanFold.finish(gone)
}

// stop ends the series whose evaluation ended at end.
func (s *versionSink) stop(end int64) {
	if s.open {
		s.finish(end-s.seen >= s.step && s.vanished())
	}
}
