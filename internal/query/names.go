package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Scalar evaluates expr at an instant. ok is false when no series answers or the one that
// does is NaN; more than one series is an ErrBadQuery. Warnings are Prometheus' own.
func (c *Client) Scalar(ctx context.Context, expr string, at time.Time) (value float64, ok bool, warnings []string, err error) {
	release, err := c.acquire(ctx)
	if err != nil {
		return 0, false, nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errRequestTimeout)
	defer cancel()
	v, warn, _, err := c.api.Query(ctx, expr, at)
	if err != nil {
		return 0, false, warn, describe(apiError(ctx, err), "query", expr)
	}
	switch v := v.(type) {
	case *model.Scalar:
		value, ok = float64(v.Value), true
	case model.Vector:
		if len(v) > 1 {
			return 0, false, warn, &Error{
				Name: "query", Expr: expr, Err: ErrBadQuery,
				Detail: fmt.Sprintf("%d series where one number is wanted; sum over them", len(v)),
			}
		}
		if len(v) == 1 {
			value, ok = float64(v[0].Value), true
		}
	default:
		return 0, false, warn, &Error{
			Name: "query", Expr: expr, Err: ErrBadQuery,
			Detail: fmt.Sprintf("a %v where one number is wanted", v.Type()),
		}
	}
	if value != value {
		return 0, false, warn, nil
	}
	return value, ok, warn, nil
}

// Clock is what the server takes the present to be.
func (c *Client) Clock(ctx context.Context) (time.Time, error) {
	release, err := c.acquire(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errRequestTimeout)
	defer cancel()
	// Without a time of its own the query is evaluated at the server's present.
	v, _, _, err := c.api.Query(ctx, "time()", time.Time{})
	if err != nil {
		return time.Time{}, describe(apiError(ctx, err), "clock", "time()")
	}
	s, isScalar := v.(*model.Scalar)
	if !isScalar {
		return time.Time{}, &Error{Name: "clock", Expr: "time()", Err: ErrUnsupported, Detail: "no scalar"}
	}
	return time.UnixMilli(int64(float64(s.Value)*1000 + 0.5)).UTC(), nil
}

// maxSeriesCounted is where SeriesCount stops: it serves a message.
const maxSeriesCounted = 10_000

// SeriesCount is how many series of a metric have samples in w; 10,000 stands for any more.
// An answer with warnings is an ErrIncomplete, here and in the questions for names.
func (c *Client) SeriesCount(ctx context.Context, metric string, ms []*labels.Matcher, w telemetry.Window) (int, error) {
	// The index answers this; an instant count over a range of days would read every sample.
	release, err := c.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errRequestTimeout)
	defer cancel()
	expr := selector(metric, ms)
	series, warnings, _, err := c.api.Series(ctx, []string{expr}, w.Start, w.End, v1.WithLimit(maxSeriesCounted))
	if err != nil {
		return 0, describe(apiError(ctx, err), "series of "+metric, expr)
	}
	if len(series) >= maxSeriesCounted {
		return maxSeriesCounted, nil // the warning that more were left out is no news
	}
	if err := incomplete(warnings, "series of "+metric, expr); err != nil {
		return 0, err
	}
	return len(series), nil
}

// MetricNames are the metric names that have series with these matchers in w, sorted. No
// matcher means all names of the server.
func (c *Client) MetricNames(ctx context.Context, ms []*labels.Matcher, w telemetry.Window) ([]string, error) {
	var match []string
	if len(ms) > 0 {
		match = []string{selector("", ms)}
	}
	return c.labelValues(ctx, model.MetricNameLabel, match, w)
}

// LabelNames are the labels that series of a metric have in w, sorted, without __name__.
func (c *Client) LabelNames(ctx context.Context, metric string, ms []*labels.Matcher, w telemetry.Window) ([]string, error) {
	release, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errRequestTimeout)
	defer cancel()
	expr := selector(metric, ms)
	names, warnings, _, err := c.api.LabelNames(ctx, []string{expr}, w.Start, w.End)
	if err != nil {
		return nil, describe(apiError(ctx, err), "labels of "+metric, expr)
	}
	if err := incomplete(warnings, "labels of "+metric, expr); err != nil {
		return nil, err
	}
	out := make([]string, 0, len(names))
	for _, n := range names {
		if n != model.MetricNameLabel {
			out = append(out, string(n))
		}
	}
	slices.Sort(out)
	return out, nil
}

func (c *Client) labelValues(ctx context.Context, label string, match []string, w telemetry.Window) ([]string, error) {
	release, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errRequestTimeout)
	defer cancel()
	values, warnings, _, err := c.api.LabelValues(ctx, label, match, w.Start, w.End)
	if err != nil {
		return nil, describe(apiError(ctx, err), "values of "+label, "")
	}
	if err := incomplete(warnings, "values of "+label, strings.Join(match, " or ")); err != nil {
		return nil, err
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	slices.Sort(out)
	return out, nil
}

// incomplete is the error for an answer that came with warnings: what it leaves out must not
// read as absent. Nil if there are none.
func incomplete(warnings v1.Warnings, name, expr string) error {
	if len(warnings) == 0 {
		return nil
	}
	return &Error{Name: name, Expr: expr, Err: ErrIncomplete, Detail: strings.Join(warnings, "; ")}
}

// apiError turns an error of client_golang into ours.
func apiError(ctx context.Context, err error) error {
	e, ok := errors.AsType[*v1.Error](err)
	if !ok {
		return classify(ctx, err)
	}
	out := &Error{Detail: e.Msg, Err: ErrUnavailable}
	switch e.Type {
	case v1.ErrBadData:
		out.Err, out.Status = ErrBadQuery, 400
	case v1.ErrExec:
		out.Err, out.Status = ErrTooExpensive, 422
	case v1.ErrBadResponse:
		out.Err = ErrTruncated
	case v1.ErrClient:
		// "client error: 401" is all that the library keeps of it.
		var status int
		if _, scanErr := fmt.Sscanf(e.Msg, "client error: %d", &status); scanErr == nil {
			out.Status, out.Err = status, reasonOf(status)
		}
	}
	return out
}
