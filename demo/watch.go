package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/prometheus/common/model"

	"github.com/driftwatch/driftwatch/demo/internal/prom"
	"github.com/driftwatch/driftwatch/demo/internal/shop"
)

// A watch says what anyone could see in Prometheus and in the flag file, as soon as it is there.
// It judges nothing: driftwatch does.
type watch struct {
	teller     *teller
	prometheus *prom.Server
	flags      string // path
}

// seconds is a latency; NaN where there was no request.
type seconds float64

func (s seconds) String() string {
	if s < 1 {
		return fmt.Sprintf("%.0f ms", float64(s)*1000)
	}
	return fmt.Sprintf("%.1f s", float64(s))
}

// level is how the shop was over a while: requests per second to all endpoints, the p99 and
// the retries per request of the slow one.
type level struct {
	requests float64
	p99      seconds
	retries  float64
}

// usual returns the level over the last while.
func (w watch) usual(ctx context.Context, over time.Duration) (l level, err error) {
	span := model.Duration(over.Truncate(time.Second)).String()
	endpoint := fmt.Sprintf(`method=%q, route=%q`, slow().Method, slow().Route)
	for _, q := range []struct {
		into *float64
		expr string
	}{
		{&l.requests, fmt.Sprintf(`sum(rate(http_server_request_duration_seconds_count[%s]))`, span)},
		{(*float64)(&l.p99), fmt.Sprintf(`histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket{%s}[%s])))`, endpoint, span)},
		{&l.retries, fmt.Sprintf(`sum(rate(http_client_request_retries_total{%[1]s}[%[2]s])) / sum(rate(http_client_requests_total{%[1]s}[%[2]s]))`, endpoint, span)},
	} {
		*q.into = math.NaN()
		v, err := w.prometheus.Query(ctx, q.expr, time.Now())
		if err != nil {
			return l, err
		}
		if len(v) == 1 {
			*q.into = v[0].F
		}
	}
	return l, nil
}

// upgrade waits until Prometheus shows the new version and nothing else.
func (w watch) upgrade(ctx context.Context) error {
	for wait(ctx, 100*time.Millisecond) {
		v, err := w.prometheus.Query(ctx, `build_info`, time.Now())
		if err != nil {
			return err
		}
		if len(v) == 1 && v[0].Metric.Get("version") == shop.NewVersion {
			return nil
		}
	}
	return ctx.Err()
}

// run looks twice a second and tells each of four things once: the retries of the slow endpoint at
// twice what they were, its p99 above by half, the flag file saying off, and both numbers below
// one and a half again. It looks at the last ten seconds, and at no time before the upgrade or
// before the flag went off. Five seconds of 62 requests have three above the p99, so by itself
// that would cry wolf; it is told only after the retries.
func (w watch) run(ctx context.Context, upgraded time.Time, before level) {
	const least, most = 5 * time.Second, 10 * time.Second
	var retries, p99, off, back bool
	since := upgraded
	for wait(ctx, 500*time.Millisecond) {
		if text, err := os.ReadFile(w.flags); err == nil && !off {
			if off, err = isOff(text); err == nil && off {
				since = time.Now()
				w.teller.say("flag file: %s is off", shop.Flag)
			}
		}
		if time.Since(since) < least {
			continue
		}
		now, err := w.usual(ctx, min(most, time.Since(since)))
		if err != nil {
			continue // the story is over, or driftwatch will say that Prometheus is down
		}
		if !off && !retries && now.retries > 2*before.retries {
			retries = true
			w.teller.say("prometheus: %s retries %.1f → %.1f %% of requests", name(slow()), 100*before.retries, 100*now.retries)
		}
		if !off && retries && !p99 && now.p99 > 1.5*before.p99 {
			p99 = true
			w.teller.say("prometheus: %s p99 %s → %s", name(slow()), before.p99, now.p99)
		}
		if off && !back && now.retries < 1.5*before.retries && now.p99 < 1.5*before.p99 {
			back = true
			w.teller.say("prometheus: %s is back at p99 %s, retries %.1f %% of requests", name(slow()), now.p99, 100*now.retries)
		}
	}
}
