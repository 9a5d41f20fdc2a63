package history_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/demo/internal/history"
	"github.com/driftwatch/driftwatch/demo/internal/model"
	"github.com/driftwatch/driftwatch/demo/internal/prom"
	"github.com/driftwatch/driftwatch/demo/internal/shop"
)

var target = history.Target{Job: prom.Job, Instance: prom.Instance, Version: shop.OldVersion}

func one(ctx context.Context, t *testing.T, p *prom.Server, at time.Time, format string, args ...any) float64 {
	t.Helper()
	expr := fmt.Sprintf(format, args...)
	v, err := p.Query(ctx, expr, at)
	if err != nil {
		t.Fatal(err)
	}
	if len(v) != 1 {
		t.Fatalf("%s: %d series, want 1", expr, len(v))
	}
	return v[0].F
}

// TestSeam lets the real shop go on where the generated history ends, and wants one series and the
// same numbers on both sides: generated and live traffic must not differ by anything that a
// detector could see.
func TestSeam(t *testing.T) {
	ctx := t.Context()
	flags := filepath.Join(t.TempDir(), "flags.json")
	if err := os.WriteFile(flags, []byte(`{"flags": {}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	weather := model.NewWeather(3)
	s, err := shop.Start(flags, shop.Decorrelated, weather, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	p, err := prom.Start(model.Tick)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	time.Sleep(2 * time.Second) // the shop measures its overhead

	w, err := history.NewWriter(model.NewWeather(4), 3, s.Overhead(), target)
	if err != nil {
		t.Fatal(err)
	}
	seam, samples, err := w.Append(ctx, p.Appender, time.Now().Add(-20*time.Minute), func() time.Time { return time.Now().Add(-time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	const series = 14*10 + 2 // per endpoint: 10 buckets, count, sum, 2 counters; build_info and up
	if got := p.Series(); got != series || samples%series != 0 {
		t.Errorf("%d series, %d samples; want %d series, all of the same length", got, samples, series)
	}
	p.Scrape(s.Address)
	const live = 12 * time.Second
	time.Sleep(live + time.Second)
	now := time.Now()

	if got := p.Series(); got != series+4 { // what the scraper says about itself
		t.Errorf("%d series after %v of scrapes, want %d: the live ones do not go on where the generated ones end", got, live, series+4)
	}
	if up := one(ctx, t, p, now, `min_over_time(up[20m])`); up != 1 {
		t.Errorf("up was %g, want 1 all the time", up)
	}
	for name, expr := range map[string]string{
		"above the body's bound": `sum(rate(http_server_request_duration_seconds_bucket{le="0.2"}[%[1]s])) / sum(rate(http_server_request_duration_seconds_count[%[1]s]))`,
		"retries":                `sum(rate(http_client_request_retries_total[%[1]s])) / sum(rate(http_client_requests_total[%[1]s]))`,
		"requests":               `sum(rate(http_client_requests_total[%s]))`,
		"median":                 `histogram_quantile(0.5, sum by (le) (rate(http_server_request_duration_seconds_bucket[%s])))`,
	} {
		generated := one(ctx, t, p, seam, expr, "15m")
		real := one(ctx, t, p, now, expr, "11s")
		// 11 s hold about 8,600 requests, 1,400 above the bound and 450 retries; with the weather of
		// all endpoints the ratio has a standard deviation of 6 % at most (requests, retries).
		if math.Abs(math.Log(real/generated)) > 0.25 {
			t.Errorf("%s: %.4f generated, %.4f live", name, generated, real)
		}
	}
}

// TestAppend wants counters that never fall, cumulative buckets that add up, and the model's means.
func TestAppend(t *testing.T) {
	ctx := t.Context()
	p, err := prom.Start(model.Tick)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	w, err := history.NewWriter(model.NewWeather(1), 1, []time.Duration{time.Millisecond}, target)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	end, _, err := w.Append(ctx, p.Appender, start, func() time.Time { return start.Add(30 * time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	if want := start.Add(30 * time.Minute); !end.Equal(want) {
		t.Errorf("the last scrape is at %v, want %v", end, want)
	}
	if got := one(ctx, t, p, end, `count(count_over_time(build_info[31m]) == 7200)`); got != 1 { // 30 min / 250 ms
		t.Errorf("a series does not have a sample every %v", model.Tick)
	}
	for _, metric := range []string{
		"http_server_request_duration_seconds_bucket", "http_server_request_duration_seconds_count",
		"http_server_request_duration_seconds_sum", "http_client_requests_total", "http_client_request_retries_total",
	} {
		if n := one(ctx, t, p, end, `sum(resets(%s[31m]))`, metric); n != 0 {
			t.Errorf("%s fell %g times", metric, n)
		}
	}
	bounds := append([]float64(nil), model.Bounds...)
	for i := 1; i < len(bounds); i++ {
		below := one(ctx, t, p, end, `sum(http_server_request_duration_seconds_bucket{le=~"%g(\\.0)?"})`, bounds[i-1])
		above := one(ctx, t, p, end, `sum(http_server_request_duration_seconds_bucket{le=~"%g(\\.0)?"})`, bounds[i])
		if below > above {
			t.Errorf("%g requests took at most %g s, and %g at most %g s", below, bounds[i-1], above, bounds[i])
		}
	}
	if d := one(ctx, t, p, end, `sum(http_server_request_duration_seconds_bucket{le="+Inf"}) - sum(http_server_request_duration_seconds_count)`); d != 0 {
		t.Errorf("the last bucket and the count differ by %g", d)
	}
	for _, e := range model.Endpoints {
		rate := one(ctx, t, p, end, `sum(increase(http_client_requests_total{method=%q,route=%q}[29m])) / 1740`, e.Method, e.Route)
		// 30 min are some 30 correlation times of the rate: 0.057 / sqrt(15) = 1.5 %.
		if math.Abs(rate/e.Rate-1) > 0.08 {
			t.Errorf("%s %s: %.2f requests per second, want %g", e.Method, e.Route, rate, e.Rate)
		}
	}
}

func TestNewWriterNeedsOverhead(t *testing.T) {
	if _, err := history.NewWriter(model.NewWeather(1), 1, nil, target); err == nil {
		t.Error("history was generated without a measured overhead")
	}
}
