package query

import (
	"cmp"
	"context"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Fetch reads all of reads and returns their results in the same order. The first failure
// ends the others. The error is an *Error, or the context's own.
func (c *Client) Fetch(ctx context.Context, reads ...Read) ([]Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make([]Result, len(reads))
	var wg sync.WaitGroup
	// One worker per slot, so that what is folded at once stays bounded, too.
	next := make(chan int)
	for range min(cap(c.slots), len(reads)) {
		wg.Go(func() {
			for i := range next {
				if ctx.Err() != nil {
					continue
				}
				r, err := c.fetch(ctx, reads[i])
				if err != nil {
					cancel(err)
					continue
				}
				results[i] = r
			}
		})
	}
	for i := range reads {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return results, nil
}

func (c *Client) fetch(ctx context.Context, r Read) (Result, error) {
	var res Result
	var err error
	streamed := c.streams()
	if streamed {
		res, err = c.fetchStream(ctx, r)
		if errors.Is(err, errNotStreamed) {
			if err = c.notStreamed(ctx, err); err == nil {
				streamed = false
			}
		}
	}
	if !streamed {
		res, err = c.fetchPromQL(ctx, r)
	}
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Name == "" {
			e.Name, e.Expr, e.Window = r.Name, r.Selector(), r.window()
		}
		return Result{}, err
	}
	return res, nil
}

// streams reports whether remote read is to be used, as far as is known.
func (c *Client) streams() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode != PromQL && !c.noStream
}

// notStreamed decides what to do about a server that did not stream: remember it and use
// PromQL (nil), or fail.
func (c *Client) notStreamed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	refusal, refused := errors.AsType[*Error](err)
	if c.mode == RemoteRead {
		if refused {
			return refusal
		}
		return &Error{Err: ErrUnsupported, Detail: err.Error() + "; set read: query"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noStream = true
	return nil
}

func (c *Client) fetchStream(ctx context.Context, r Read) (Result, error) {
	f := newFold(r)
	bytes, err := c.stream(ctx, r.Metric, r.matchers(), f.from, f.to, f)
	if err != nil {
		return Result{}, err
	}
	u := upFold{fold: f, scraped: make([]bool, f.steps)}
	if born := f.bornTargets(); len(born) > 0 {
		n, err := c.stream(ctx, "up", targetMatchers(born), f.from, f.to, &u)
		bytes += n
		if err != nil {
			return Result{}, err
		}
	}
	f.settle()
	f.markCovered(u.scraped)
	counts, notes := f.counts(u.scraped)
	complete, interval := f.completeTo()
	if r.Until.IsZero() {
		complete = time.Time{}
	}
	return Result{
		Read: r, Counts: counts, Series: f.seriesSeen, Samples: f.samplesSeen + u.samplesSeen, Bytes: bytes,
		Notes: notes, Dispersion: 1, Path: "remote-read",
		CompleteTo: complete, ScrapeInterval: interval, Labels: f.labelNames(),
	}, nil
}

// targetMatchers select the series of these targets, and few others.
func targetMatchers(ts []*target) []*labels.Matcher {
	var jobs, instances []string
	for _, t := range ts {
		jobs = append(jobs, regexp.QuoteMeta(t.job))
		instances = append(instances, regexp.QuoteMeta(t.instance))
	}
	one := func(name string, values []string) *labels.Matcher {
		slices.Sort(values)
		return labels.MustNewMatcher(labels.MatchRegexp, name, strings.Join(slices.Compact(values), "|"))
	}
	return []*labels.Matcher{one("job", jobs), one("instance", instances)}
}

// An upFold reads up and tells the births of a fold whether their targets had been scraped.
type upFold struct {
	fold        *fold
	scraped     []bool // per step: some target answered a scrape
	samplesSeen int64

	target   *target
	next     int // index into target.births
	count    int // scrapes answered in a row
	runStart int64
	last     int64 // last answered scrape
	lastT    int64
	interval int64
}

func (u *upFold) series(ls []label) (bool, error) {
	var job, instance []byte
	for _, l := range ls {
		switch string(l.name) {
		case "job":
			job = l.value
		case "instance":
			instance = l.value
		}
	}
	t := u.fold.targets[string(job)+"\xff"+string(instance)]
	u.target, u.next, u.count, u.last, u.lastT, u.interval = t, 0, 0, 0, math.MinInt64, 0
	return t != nil, nil
}

func (u *upFold) samples(ts []int64, vs []float64) {
	u.samplesSeen += int64(len(ts))
	u.interval = interval(ts, u.interval)
	f := u.fold
	for i, t := range ts {
		if t < f.from || t <= u.lastT || t > f.to {
			continue
		}
		u.lastT = t
		u.target.upKnown = true
		u.tell(t)
		if vs[i] != 1 {
			u.count = 0
			if vs[i] == vs[i] { // a stale marker is no scrape
				u.mark(t, scrapesFailed)
			}
			continue
		}
		if u.count == 0 || float64(t-u.last) > maxGap*float64(u.interval) {
			u.count, u.runStart = 0, t
		}
		u.count++
		u.last = t
		u.mark(t, scrapesAnswered)
	}
}

// mark books what became of the scrape of t, ms.
func (u *upFold) mark(t int64, s outcome) {
	f := u.fold
	if f.step == 0 {
		return
	}
	k := f.stepOf2(2*t) - f.first
	if k < 0 || k >= f.steps {
		return
	}
	if s == scrapesAnswered {
		u.scraped[k] = true
	}
	if f.read.AbsentIsZero {
		if u.target.scrapes == nil {
			u.target.scrapes = make([]outcome, f.steps)
		}
		u.target.scrapes[k] = max(u.target.scrapes[k], s)
	}
}

// tell fills in the births up to t, which must not be counted as scraped yet.
func (u *upFold) tell(t int64) {
	births := u.target.births
	for ; u.next < len(births) && u.fold.births[births[u.next]].t <= t; u.next++ {
		b := &u.fold.births[births[u.next]]
		// A couple of scrapes: the one at which a target appears is not enough.
		if u.count >= 2 && float64(b.t-u.last) <= maxGap*float64(max(u.interval, b.interval)) {
			b.prev, b.runStart = u.last, u.runStart
		}
	}
}

func (u *upFold) end() {
	if u.target != nil {
		u.tell(math.MaxInt64)
	}
}

// Spans is the answer of Versions.
type Spans struct {
	Spans    []telemetry.VersionSpan // sorted by target, then first sample
	Series   int
	Samples  int64
	Bytes    int64
	Warnings []string
}

// Versions reads which target showed which version in w. metric has the value 1 as long as a
// target lives, and the version in one of its labels (build_info). A span ends where the
// series has no sample for five minutes or a stale marker. A series without the label has
// the version "".
func (c *Client) Versions(ctx context.Context, metric string, ms []*labels.Matcher, versionLabel string, w telemetry.Window) (Spans, error) {
	var out Spans
	var err error
	streamed := c.streams()
	if streamed {
		s := spanFold{label: versionLabel, from: w.Start.UnixMilli(), to: w.End.UnixMilli()}
		out.Bytes, err = c.stream(ctx, metric, ms, s.from, s.to, &s)
		if errors.Is(err, errNotStreamed) {
			if err = c.notStreamed(ctx, err); err == nil {
				streamed = false
			}
		}
		out.Spans, out.Series, out.Samples = s.spans, s.seriesSeen, s.samplesSeen
	}
	if !streamed {
		out, err = c.versionsPromQL(ctx, metric, ms, versionLabel, w)
	}
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Name == "" {
			e.Name, e.Expr, e.Window = "versions", selector(metric, ms), w
		}
		return Spans{}, err
	}
	slices.SortFunc(out.Spans, func(a, b telemetry.VersionSpan) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), a.First.Compare(b.First), strings.Compare(a.Version, b.Version))
	})
	return out, nil
}

// A spanFold turns the series of a version metric into spans.
type spanFold struct {
	label       string
	from, to    int64
	spans       []telemetry.VersionSpan
	seriesSeen  int
	samplesSeen int64

	span  telemetry.VersionSpan
	open  bool
	lastT int64
}

func (s *spanFold) series(ls []label) (bool, error) {
	s.seriesSeen++
	var job, instance, version string
	for _, l := range ls {
		switch string(l.name) {
		case "job":
			job = string(l.value)
		case "instance":
			instance = string(l.value)
		}
		if string(l.name) == s.label {
			version = string(l.value)
		}
	}
	s.span = telemetry.VersionSpan{Target: job + "/" + instance, Version: version}
	s.open, s.lastT = false, math.MinInt64
	return true, nil
}

func (s *spanFold) samples(ts []int64, vs []float64) {
	s.samplesSeen += int64(len(ts))
	for i, t := range ts {
		if t < s.from || t > s.to || t <= s.lastT {
			continue
		}
		stale := math.Float64bits(vs[i]) == staleBits
		if s.open && (stale || t-s.lastT > presenceGap.Milliseconds()) {
			s.finish(stale)
		}
		if stale || vs[i] != vs[i] {
			continue
		}
		at := time.UnixMilli(t).UTC()
		if !s.open {
			s.open, s.span.First = true, at
		}
		s.span.Last, s.lastT = at, t
	}
}

func (s *spanFold) finish(gone bool) {
	s.span.Gone = gone
	s.spans = append(s.spans, s.span)
	s.open = false
}

func (s *spanFold) end() {
	if s.open {
		s.finish(false)
	}
}
