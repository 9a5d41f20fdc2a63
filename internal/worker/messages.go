package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/suggest"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// unreadable turns a failed read into the message for it.
func (s *session) unreadable(err error) error {
	e, ok := errors.AsType[*query.Error](err)
	if !ok {
		return err
	}
	switch {
	case errors.Is(err, query.ErrUnauthorized):
		return report.NotAuthorised(e.Status, e.Detail)
	case errors.Is(err, query.ErrTooExpensive):
		return report.TooLarge(e.Status, e.Detail, e.Name, 0, 0)
	case errors.Is(err, query.ErrUnavailable):
		return report.Unreachable(s.Query.Address(), e.Detail)
	}
	return report.Untrusted(s.Query.Address(), e.Error())
}

// unknownMetric tells a metric that exists nowhere from one that the selector leaves nothing
// of, and names the nearest one there is.
func (s *session) unknownMetric(ctx context.Context, read query.Read) error {
	window := s.grid(s.in.Geometry.First(), max(1, s.in.Complete)).Window()
	series, err := s.Query.SeriesCount(ctx, read.Metric, nil, window)
	if err != nil {
		return s.unreadable(err)
	}
	sig := s.Rule.Signals[read.Signal]
	where := fmt.Sprintf("%s:%d:%d", s.Rule.Path, sig.Line, sig.Column)
	if series > 0 && read.Part == query.Of {
		return nil // others have it: this service never had an event
	}
	if series > 0 {
		return usage("%s: %s has %d series, but none that matches %s; check select", where, read.Metric, series, read.Selector())
	}
	if read.Part == query.Of && s.in.Geometry.History == 0 {
		// A counter comes into being with its first event, and minutes without one are common.
		s.warn(fmt.Sprintf("no series of %s in the last %v, and without history that may be a quiet counter or a misspelt one; signal %s is not judged",
			read.Metric, window.Duration().Round(time.Minute), sig.Name))
		return nil
	}
	names, err := s.Query.MetricNames(ctx, nil, window)
	if err != nil {
		return s.unreadable(err)
	}
	near, n := "", 0
	if found, ok := suggest.Closest(read.Metric, names); ok {
		near = found
		if n, err = s.Query.SeriesCount(ctx, near, nil, window); err != nil {
			return s.unreadable(err)
		}
	}
	return report.NoSuchMetric(read.Metric, where, window.Duration().Round(time.Minute), near, n)
}

// unknownLabel asks for the labels that a metric has, and refuses an endpoint label that is
// none of them.
func (s *session) unknownLabel(ctx context.Context, read query.Read, label string) error {
	window := s.grid(s.in.Geometry.First(), max(1, s.in.Complete)).Window()
	names, err := s.Query.LabelNames(ctx, read.Metric, read.Matchers, window)
	if err != nil {
		return s.unreadable(err)
	}
	if slices.Contains(names, label) {
		return nil
	}
	text := fmt.Sprintf("%s: no series of %s has the endpoint label %q; it has %s", s.Rule.Path, read.Metric, label, strings.Join(names, ", "))
	if near, ok := suggest.Closest(label, names); ok {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return usage("%s", text)
}

// sayRead tells, once, what is compared and what it took to read it.
func (s *session) sayRead() {
	if s.told {
		return
	}
	s.told = true
	endpoints := map[telemetry.Endpoint]bool{}
	for _, r := range s.judged.Rows {
		endpoints[r.Endpoint] = true
	}
	s.Say(s.Progress.Header(s.Tool, s.Rule.Path, len(endpoints), len(s.Rule.Signals)))
	s.Say(s.Progress.Queries(s.in.Stats.Queries, s.in.Stats.Queries, time.Duration(s.in.Stats.QueryS*float64(time.Second)), s.in.Stats.Samples))
}

// sayLook tells how the last look came out.
func (s *session) sayLook() {
	confirmed, suspected := 0, 0
	for _, r := range s.judged.Rows {
		switch {
		case r.Verdict == detect.Regressed:
			confirmed++
		case r.Suspected:
			suspected++
		}
	}
	s.Say(s.Progress.Look(s.judged.Looks, s.stepTime(s.in.Complete), confirmed, suspected, len(s.judged.Rows)))
}
