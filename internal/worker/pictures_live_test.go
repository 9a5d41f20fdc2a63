package worker

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Pictures are what a real Prometheus holds of the endpoint that regressed, and of no other:
// 60 requests a minute, of which 48 took at most 100 ms before the upgrade and 24 after it, 6
// retries in 60, and a flag that is on for everybody from the upgrade on.
func TestPicturesOfARealPrometheus(t *testing.T) {
	server := livetest.Prometheus(t)
	const scrape = 15 * time.Second
	upgraded := time.Now().Add(-30 * time.Minute).Truncate(time.Minute)
	first, last := upgraded.Add(-30*time.Minute), upgraded.Add(20*time.Minute)
	line := func(labels map[string]string, before, after float64) livetest.Series {
		labels["job"], labels["instance"] = "shop", "shop:1"
		s, v := livetest.Series{Labels: labels}, 100.0
		for at := first; !at.After(last); at = at.Add(scrape) {
			s.Samples = append(s.Samples, livetest.Sample{T: at, V: v})
			if v += before; !at.Before(upgraded) {
				v += after - before
			}
		}
		return s
	}
	up := livetest.Series{Labels: map[string]string{"__name__": "up", "job": "shop", "instance": "shop:1"}}
	on := livetest.Series{Labels: map[string]string{"__name__": "flag_on", "job": "shop", "instance": "shop:1"}}
	for at := first; !at.After(last); at = at.Add(scrape) {
		up.Samples = append(up.Samples, livetest.Sample{T: at, V: 1})
		if at.After(upgraded) {
			on.Samples = append(on.Samples, livetest.Sample{T: at, V: 1})
		}
	}
	series := []livetest.Series{up, on}
	for _, route := range []string{"/slow", "/other"} {
		series = append(series,
			line(map[string]string{"__name__": "latency_seconds_bucket", "route": route, "le": "0.1"}, 12, 6),
			line(map[string]string{"__name__": "latency_seconds_bucket", "route": route, "le": "1"}, 15, 15),
			line(map[string]string{"__name__": "latency_seconds_bucket", "route": route, "le": "+Inf"}, 15, 15),
			line(map[string]string{"__name__": "retries_total", "route": route}, 1.5, 1.5),
			line(map[string]string{"__name__": "requests_total", "route": route}, 15, 15))
	}
	server.Write(t, series)

	for _, mode := range []query.Mode{query.RemoteRead, query.PromQL} {
		client, err := query.New(query.Options{Address: server.URL, Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		r := &rule.Rule{
			Path: "rule.yaml", Service: "shop", Select: `{job="shop"}`, Endpoint: []string{"route"},
			Windows: rule.Windows{Step: time.Minute, Before: 20 * time.Minute, Guard: time.Minute, FirstLook: 5 * time.Minute, Horizon: 20 * time.Minute},
			Signals: []rule.Signal{
				{Name: "latency", Kind: rule.Histogram, Metric: "latency_seconds", Quantile: 0.99, Unit: "s"},
				{Name: "retries", Kind: rule.Ratio, Metric: "retries_total", Per: "requests_total", Unit: "1"},
			},
			Flags: []rule.Flag{{Key: "f", Exposure: `max(flag_on)`}},
		}
		u := telemetry.Upgrade{Service: "shop", At: upgraded, Started: upgraded}
		s := &session{Checker: &Checker{Rule: r, Query: client, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Say: func(string) {}}, upgrade: &u, now: last}
		s.in.Geometry, s.in.Complete, s.history.scrape = baseline.NewGeometry(r.Windows, u), 18, scrape
		slow := telemetry.NewEndpoint("/slow")
		s.history.bounds = map[int]map[telemetry.Endpoint]baseline.Bounds{0: {slow: {Tail: 0.1}}}
		s.judged.Rows = []detect.Row{{Endpoint: slow, Verdict: detect.Regressed}, {Endpoint: telemetry.NewEndpoint("/other"), Verdict: detect.NoMeaningfulRise}}

		p := s.pictures(t.Context())
		if len(p.Notes) > 0 || p.Left != 0 || p.Columns != 38 || !p.Start.Equal(upgraded.Add(-20*time.Minute)) {
			t.Fatalf("%s: %d columns from %v, notes %q", mode, p.Columns, p.Start, p.Notes)
		}
		if len(p.Rows) != 2 || p.Rows[0].Endpoint[0] != "/slow" || p.Rows[1].Endpoint[0] != "/slow" {
			t.Fatalf("%s: rows %+v", mode, p.Rows)
		}
		near := func(what string, got, want float64) {
			t.Helper()
			// increase() of PromQL extrapolates; remote read counts.
			if !(math.Abs(got-want) <= 0.02*want+1e-9) {
				t.Errorf("%s: %s is %v, want %v", mode, what, got, want)
			}
		}
		h, ratio := p.Rows[0], p.Rows[1]
		for what, at := range map[string]struct {
			column int
			quick  float64
		}{"before": {10, 48}, "after": {30, 24}} {
			near("requests up to 100 ms "+what, h.Values[0][at.column], at.quick)
			near("requests up to 1 s "+what, h.Values[1][at.column], 60)
			near("requests "+what, h.Values[2][at.column], 60)
			near("retries "+what, ratio.Values[0][at.column], 6)
			near("trials "+what, ratio.Values[1][at.column], 60)
		}
		if x := p.Exposure; len(x) != 1 || x[0].Flag != "f" || !math.IsNaN(x[0].Values[10]) || x[0].Values[30] != 1 {
			t.Errorf("%s: exposure %+v", mode, x)
		}
		if !strings.Contains(h.Expr, `route="/slow"`) || !strings.Contains(h.Expr, "latency_seconds_bucket") {
			t.Errorf("%s: expression %s", mode, h.Expr)
		}
		if _, ok, _, err := client.Scalar(t.Context(), h.Expr, last); err != nil || !ok {
			t.Errorf("%s: the expression of the picture gives %v, %v", mode, ok, err)
		}
		body, err := p.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := report.ParsePictures(body)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := again.JSON(); err != nil || !bytes.Equal(b, body) {
			t.Errorf("%s: stored pictures are other pictures, %v", mode, err)
		}
		if s.in.Unread != nil || len(s.in.Warnings) > 0 {
			t.Errorf("%s: reading pictures touched the judgement: %v, %q", mode, s.in.Unread, s.in.Warnings)
		}
	}
}
