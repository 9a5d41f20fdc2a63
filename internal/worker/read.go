package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A history is what is read once: the steps before the baseline, and what follows from them.
type history struct {
	results      []query.Result                                 // the steps before the baseline
	bounds       map[int]map[telemetry.Endpoint]baseline.Bounds // by signal
	union        map[int][]float64                              // all of them, ascending
	native       map[int]bool                                   // whether a histogram is, by signal
	controls     map[key]*baseline.Controls                     // by signal and metric; nil before the first look
	calibrations []baseline.Calibration
	excluded     [][2]int       // steps of earlier upgrades, and of incidents that people marked as real
	kept         []int          // those upgrades that were not taken back
	unread       map[int]string // why, by signal
	scrape       time.Duration
}

// plan returns the reads of steps on a grid and, for histograms, of bucket totals over past.
func (s *session) plan(grid telemetry.Grid, past telemetry.Window, until time.Time) (query.Plan, error) {
	plan, err := query.NewPlan(s.Rule, grid, past, telemetry.Window{}, until)
	if err != nil {
		return query.Plan{}, usage("%s: %v", s.Rule.Path, err)
	}
	for signal, native := range s.history.native {
		if native {
			plan.SetNative(signal)
		}
	}
	for signal, bounds := range s.history.union {
		plan.KeepBounds(signal, bounds)
	}
	return plan, nil
}

// askHistograms finds out which histograms Prometheus holds as native ones over history and
// watch.
func (s *session) askHistograms(ctx context.Context, g baseline.Geometry) error {
	begun := s.Clock()
	whole := s.grid(g.First(), g.Horizon).Window()
	if s.now.Before(whole.End) {
		whole.End = s.now
	}
	native, notes, err := s.Query.NativeHistograms(ctx, s.Rule, whole)
	s.in.Stats.QueryS += s.Clock().Sub(begun).Seconds()
	s.in.Stats.Queries++
	if err != nil {
		return s.unreadable(err)
	}
	s.history.native = native
	for _, note := range notes {
		s.warn(note)
	}
	return nil
}

func (s *session) grid(from, to int) telemetry.Grid {
	return telemetry.Grid{Origin: s.upgrade.At, Step: s.Rule.Windows.Step, First: from, Len: max(0, to-from)}
}

// fetch reads, counts what it cost, and turns warnings into unread signals.
func (s *session) fetch(ctx context.Context, reads []query.Read) ([]query.Result, error) {
	begun := s.Clock()
	results, err := s.Query.Fetch(ctx, reads...)
	s.in.Stats.QueryS += s.Clock().Sub(begun).Seconds()
	s.in.Stats.Queries += len(reads)
	if err != nil {
		return nil, s.unreadable(err)
	}
	for i, r := range results {
		s.in.Stats.Samples += r.Samples
		s.in.Stats.Bytes += r.Bytes
		s.in.Stats.ReadPath = report.Word(r.Path)
		s.query(reads[i].Selector())
		if len(r.Warnings) > 0 {
			s.unread(reads[i].Signal, strings.Join(r.Warnings, "; "))
		}
		for _, note := range r.Notes {
			s.warn(note)
		}
		if r.ScrapeInterval > s.history.scrape {
			s.history.scrape = r.ScrapeInterval
		}
	}
	return results, nil
}

func (s *session) query(q string) {
	if !slices.Contains(s.in.Queries, q) {
		s.in.Queries = append(s.in.Queries, q)
	}
}

func (s *session) warn(text string) {
	if !slices.Contains(s.in.Warnings, text) {
		s.in.Warnings = append(s.in.Warnings, text)
	}
}

func (s *session) unread(signal int, why string) {
	if s.in.Unread == nil {
		s.in.Unread = map[int]string{}
	}
	s.in.Unread[signal] = why
}

// versions reads which version ran where.
func (s *session) versions(ctx context.Context, w telemetry.Window) ([]telemetry.VersionSpan, error) {
	matchers, err := query.ParseMatchers(s.Rule.Select)
	if err != nil {
		return nil, usage("%s: select: %v", s.Rule.Path, err)
	}
	u := s.Rule.Upgrade
	begun := s.Clock()
	answer, err := s.Query.Versions(ctx, u.Metric, matchers, u.VersionLabel, w)
	s.in.Stats.QueryS += s.Clock().Sub(begun).Seconds()
	s.in.Stats.Queries++
	if err != nil {
		return nil, s.unreadable(err)
	}
	s.in.Stats.Samples += answer.Samples
	s.in.Stats.Bytes += answer.Bytes
	s.query(query.Read{Metric: u.Metric, Matchers: matchers}.Selector())
	if len(answer.Warnings) > 0 {
		return nil, report.Untrusted(u.Metric, answer.Warnings...)
	}
	return answer.Spans, nil
}

// readHistory chooses the bucket bounds from the whole history and reads the steps before the
// baseline.
func (s *session) readHistory(ctx context.Context) error {
	g := s.in.Geometry
	whole := s.grid(g.First(), g.BaselineStart())
	past := telemetry.Window{Start: whole.Start(g.First()), End: s.upgrade.Started}
	if err := s.askHistograms(ctx, g); err != nil {
		return err
	}
	plan, err := s.plan(whole, past, s.upgrade.Started)
	if err != nil {
		return err
	}
	if err := s.chooseBounds(ctx, plan); err != nil {
		return err
	}
	if s.history.results, err = s.fetch(ctx, plan.Steps); err != nil {
		return err
	}
	s.history.unread = s.in.Unread
	if s.history.excluded, s.history.kept, err = s.knownUpgrades(ctx, whole.Window()); err != nil {
		return err
	}
	if whole.Len > 0 {
		s.leaveOut(ctx)
	}
	return nil
}

// chooseBounds reads the bucket totals of the history, picks every endpoint's bounds, and
// narrows the plan's steps to those that any endpoint needs.
func (s *session) chooseBounds(ctx context.Context, plan query.Plan) error {
	results, err := s.fetch(ctx, plan.Shapes)
	if err != nil {
		return err
	}
	s.history.bounds, s.history.union = map[int]map[telemetry.Endpoint]baseline.Bounds{}, map[int][]float64{}
	for _, r := range results {
		signal := r.Read.Signal
		union := []float64{}
		chosen := make(map[telemetry.Endpoint]baseline.Bounds, len(r.Counts.Rows))
		for _, row := range r.Counts.Rows {
			tail, body := baseline.ChooseBounds(row, s.Rule.Signals[signal].Quantile)
			chosen[row.Endpoint] = baseline.Bounds{Tail: tail, Body: body}
			for _, bound := range []float64{tail, body} {
				if bound > 0 {
					union = append(union, bound)
				}
			}
		}
		slices.Sort(union)
		s.history.bounds[signal] = chosen
		s.history.union[signal] = slices.Compact(union)
		plan.SetBounds(signal, s.history.union[signal])
	}
	return nil
}

// calibrate calibrates the tracks that have no calibration yet, on every core. A label set
// that came into being with the upgrade is one: its history is that it never had an event.
func (s *session) calibrate(tracks []telemetry.Track) {
	have := map[key]bool{}
	for _, c := range s.history.calibrations {
		have[key{c.Endpoint, c.Signal, c.Metric}] = true
	}
	fresh := slices.DeleteFunc(slices.Clone(tracks), func(t telemetry.Track) bool {
		return have[key{t.Endpoint, t.Signal, t.Metric}]
	})
	s.gatherControls(tracks)
	out := make([]baseline.Calibration, len(fresh))
	onEveryCore(len(fresh), func(i int) {
		t := fresh[i]
		out[i] = s.history.controls[key{signal: t.Signal, metric: t.Metric}].Calibrate(t, s.in.Geometry, s.history.excluded)
		out[i].AddRestarts(t, s.in.Geometry, s.history.kept, s.history.excluded)
	})
	for _, c := range s.history.controls {
		c.Forget()
	}
	s.history.calibrations = append(s.history.calibrations, out...)
}

// gatherControls finds the controls of every metric, once: those that the first look knows.
func (s *session) gatherControls(tracks []telemetry.Track) {
	if s.history.controls != nil {
		return
	}
	s.history.controls = map[key]*baseline.Controls{}
	groups := map[key][]telemetry.Track{}
	var keys []key
	for _, t := range tracks {
		if !detect.IsControl(s.Rule, t.Endpoint) {
			continue
		}
		k := key{signal: t.Signal, metric: t.Metric}
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], t)
	}
	out := make([]*baseline.Controls, len(keys))
	onEveryCore(len(keys), func(i int) {
		out[i] = baseline.NewControls(groups[keys[i]], s.in.Geometry, s.history.excluded)
	})
	for i, k := range keys {
		s.history.controls[k] = out[i]
	}
}

// onEveryCore calls do for 0 to n-1, on every core, and returns when all are done.
func onEveryCore(n int, do func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// knownUpgrades are the steps around the version changes in a window: placebos that overlap
// one would not be placebos. Without an upgrade metric none are known.
func (s *session) knownUpgrades(ctx context.Context, whole telemetry.Window) (excluded [][2]int, kept []int, err error) {
	if s.Rule.Upgrade == nil || whole.Duration() == 0 {
		return nil, nil, nil
	}
	spans, err := s.versions(ctx, whole)
	if err != nil {
		return nil, nil, err
	}
	excluded, kept = s.pastUpgrades(spans)
	return excluded, kept, nil
}

// pastUpgrades are the steps around the version changes in spans, and the steps of those that
// nothing else followed within the horizon: neither another version nor the old one again.
func (s *session) pastUpgrades(spans []telemetry.VersionSpan) (excluded [][2]int, kept []int) {
	slices.SortFunc(spans, func(a, b telemetry.VersionSpan) int { return a.First.Compare(b.First) })
	known := map[string]bool{}
	for i, span := range spans {
		fresh := !known[span.Version] && len(known) > 0
		known[span.Version] = true
		if !fresh {
			continue
		}
		k := s.stepOf(span.First)
		excluded = append(excluded, [2]int{k, k + s.in.Geometry.Guard + 1})
		until := s.stepTime(k + s.in.Geometry.Horizon)
		if !slices.ContainsFunc(spans[i:], func(next telemetry.VersionSpan) bool {
			return next.Version != span.Version && next.First.Before(until)
		}) {
			kept = append(kept, k)
		}
	}
	return excluded, kept
}

// keepCalibrations stores the calibrations under their hash, once.
func (s *session) keepCalibrations(ctx context.Context) error {
	if s.Journal == nil {
		return nil
	}
	body, err := json.Marshal(s.history.calibrations)
	if err != nil {
		return fmt.Errorf("write calibrations: %w", err)
	}
	hash, err := s.Journal.PutBlob(ctx, body)
	if err != nil {
		return fmt.Errorf("keep calibrations: %w", err)
	}
	s.in.Calibrations = hash
	return nil
}

// look reads baseline and post window as of now and has them judged.
func (s *session) look(ctx context.Context) error {
	g := s.in.Geometry
	if s.Now.IsZero() {
		s.now = s.present()
	}
	if err := s.superseded(ctx); err != nil {
		return err
	}
	if err := s.loadActions(ctx); err != nil {
		return err
	}
	s.in.Unread = maps.Clone(s.history.unread)
	end := max(0, min(s.stepOf(s.now), s.lastStep()))
	plan, err := s.plan(s.grid(g.BaselineStart(), end), telemetry.Window{}, s.now)
	if err != nil {
		return err
	}
	results, err := s.fetch(ctx, plan.Steps)
	if err != nil {
		return err
	}
	s.in.Now = s.now
	s.in.Complete = s.complete(results, end)
	tracks, lacks := s.tracks(slices.Concat(s.history.results, results))
	s.whole = tracks
	s.calibrate(tracks)
	s.in.Tracks = make([]telemetry.Track, len(tracks))
	for i, t := range tracks {
		s.in.Tracks[i] = t.Slice(g.BaselineStart(), min(s.in.Complete, g.Horizon))
	}
	s.in.Buckets = s.buckets(results)
	s.in.Lacking = lacking(lacks)
	if err := s.knownMetrics(ctx, results); err != nil {
		return err
	}
	if err := s.short(ctx, results); err != nil {
		return err
	}
	s.judged = s.in.judge(s.Rule, s.history.calibrations)
	return nil
}

// buckets are the bucket sums of every histogram row, each up to the end of its own post
// window: rows of a flag that was turned off end at the write.
func (s *session) buckets(results []query.Result) []baseline.Buckets {
	var out []baseline.Buckets
	for _, r := range results {
		if r.Read.Kind != query.Buckets {
			continue
		}
		sums := map[int][]baseline.Buckets{} // by the end of the post window
		for i, row := range r.Counts.Rows {
			through := s.in.through(s.Rule, row.Endpoint, r.Read.Signal)
			if sums[through] == nil {
				sums[through] = baseline.SumBuckets(r.Read.Signal, &r.Counts, s.in.Geometry, through)
			}
			out = append(out, sums[through][i])
		}
	}
	return out
}

// lacking are the metrics that have series but cannot be counted.
func lacking(lacks []baseline.Lack) []detect.Lacking {
	out := make([]detect.Lacking, len(lacks))
	for i, l := range lacks {
		out[i] = detect.Lacking{Endpoint: l.Endpoint, Signal: l.Signal, Metric: l.Metric, Needs: detect.Needs{Of: l.Of}}
	}
	return out
}

// lastStep is the last step that matters: the horizon, or that of the recovery.
func (s *session) lastStep() int {
	last := s.in.Geometry.Horizon
	for _, a := range s.actions {
		if !a.proved.IsZero() {
			last = max(last, s.stepOf(a.proved)+s.in.Geometry.Horizon+1)
		}
	}
	if !s.replaced.IsZero() {
		last = min(last, s.stepOf(s.replaced))
	}
	return last
}

// stepOf is the step that holds an instant.
func (s *session) stepOf(t time.Time) int {
	return int(math.Floor(float64(t.Sub(s.upgrade.At)) / float64(s.Rule.Windows.Step)))
}

// complete is the number of steps since the upgrade that every live target has reported.
func (s *session) complete(results []query.Result, end int) int {
	for _, r := range results {
		if !r.CompleteTo.IsZero() {
			end = min(end, int(r.CompleteTo.Sub(s.upgrade.At)/s.Rule.Windows.Step))
		}
	}
	return max(0, end)
}

// tracks puts together what was read of every signal; later results tell the steps that
// several cover.
func (s *session) tracks(results []query.Result) ([]telemetry.Track, []baseline.Lack) {
	var tracks []telemetry.Track
	var lacks []baseline.Lack
	for signal, sig := range s.Rule.Signals {
		of, per := countsOf(results, signal)
		t, l := baseline.Tracks(signal, sig, s.history.bounds[signal], of, per, s.in.Geometry.RolloutStep())
		tracks, lacks = append(tracks, t...), append(lacks, l...)
	}
	return tracks, lacks
}

// knownMetrics refuses a metric that no series had over the whole history, and an endpoint
// label that no series of a signal has: a typo must not read as a quiet service.
func (s *session) knownMetrics(ctx context.Context, recent []query.Result) error {
	for i, r := range recent {
		past := s.history.results[i]
		if r.Series+past.Series == 0 {
			if err := s.unknownMetric(ctx, r.Read); err != nil {
				return err
			}
			continue
		}
		for _, l := range s.Rule.Endpoint {
			if !slices.Contains(r.Labels, l) && !slices.Contains(past.Labels, l) {
				if err := s.unknownLabel(ctx, r.Read, l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
