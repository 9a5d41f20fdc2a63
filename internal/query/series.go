package query

import (
	"context"
	"math"
	"time"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Series evaluates expr at n instants, start and then every step. A value is NaN where no
// series answers; more than one series is an ErrBadQuery. Warnings are Prometheus' own, and
// the Result counts what the answer cost.
func (c *Client) Series(ctx context.Context, expr string, start time.Time, step time.Duration, n int) (telemetry.Values, Result, error) {
	res := Result{Read: Read{Name: "expression"}, Path: "query"}
	line := seriesSink{start: start.UnixMilli(), step: step.Milliseconds(), values: make(telemetry.Values, n)}
	for i := range line.values {
		line.values[i] = math.NaN()
	}
	if n == 0 {
		return line.values, res, nil
	}
	err := c.queryRange(ctx, expr, evaluation{start, start.Add(time.Duration(n-1) * step), step}, &line, &res)
	if err != nil {
		return nil, res, err
	}
	return line.values, res, nil
}

// A seriesSink puts the points of the only series into their places.
type seriesSink struct {
	start, step int64 // ms
	values      telemetry.Values
	seen        bool
}

func (s *seriesSink) series([]label) error {
	if s.seen {
		return &Error{Err: ErrBadQuery, Detail: "several series where one number is wanted; sum over them"}
	}
	s.seen = true
	return nil
}

func (s *seriesSink) point(t int64, v float64) {
	i := (t - s.start + s.step/2) / s.step
	if i >= 0 && i < int64(len(s.values)) {
		s.values[i] = v
	}
}
