package query

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func TestNewPlan(t *testing.T) {
	r := &rule.Rule{
		Select: `{service="pay"}`, Endpoint: []string{"method", "route"},
		Signals: []rule.Signal{
			{Name: "latency", Kind: rule.Histogram, Metric: "d_seconds", Select: `{side="server"}`},
			{Name: "retries", Kind: rule.Ratio, Metric: "r_total", Per: "q_total"},
			{Name: "p99", Kind: rule.Gauge, Metric: "p99_seconds"},
		},
	}
	grid := telemetry.Grid{Origin: t0, Step: minute, First: -120, Len: 150}
	before := telemetry.Window{Start: t0.Add(-time.Hour), End: t0}
	after := telemetry.Window{Start: t0.Add(3 * minute), End: t0.Add(30 * minute)}
	p, err := NewPlan(r, grid, before, after, t0.Add(30*minute))
	if err != nil {
		t.Fatal(err)
	}
	p.SetBounds(0, []float64{0.5, 1})
	want := `latency buckets before: d_seconds_bucket{service="pay",side="server"} by (method, route), totals 2026-03-11 13:00:00 to 2026-03-11 14:00:00
latency buckets after: d_seconds_bucket{service="pay",side="server"} by (method, route), totals 2026-03-11 14:03:00 to 2026-03-11 14:30:00
latency buckets: d_seconds_bucket{service="pay",side="server",le=~"\\+Inf|0\\.5|1|1\\.0"} by (method, route), 150 steps of 1m0s, 2026-03-11 12:00:00 to 2026-03-11 14:30:00
retries events: r_total{service="pay"} by (method, route), 150 steps of 1m0s, 2026-03-11 12:00:00 to 2026-03-11 14:30:00
retries requests: q_total{service="pay"} by (method, route), 150 steps of 1m0s, 2026-03-11 12:00:00 to 2026-03-11 14:30:00
p99: p99_seconds{service="pay"} by (method, route), 150 steps of 1m0s, 2026-03-11 12:00:00 to 2026-03-11 14:30:00
`
	if got := p.String(); got != want {
		t.Errorf("plan\n%s\nwant\n%s", got, want)
	}
	if of, per := p.Steps[1], p.Steps[2]; !of.AbsentIsZero || per.AbsentIsZero || of.Part != Of || per.Part != Per {
		t.Errorf("ratio: of %+v, per %+v", of, per)
	}
	p.SetNative(0)
	for _, native := range []Read{p.Shapes[0], p.Shapes[1], p.Steps[0]} {
		if want := `d_seconds{service="pay",side="server"}`; native.Selector() != want || !native.Native {
			t.Errorf("native read %v, want %s", native, want)
		}
	}
	if p.Steps[1].Native || p.Steps[1].Metric != "r_total" {
		t.Errorf("a counter became native: %v", p.Steps[1])
	}
	p, err = NewPlan(r, grid, before, telemetry.Window{}, t0)
	if err != nil || len(p.Shapes) != 1 {
		t.Errorf("without a post window: %d shapes, %v, want 1", len(p.Shapes), err)
	}
	r.Select = `{service=}`
	if _, err := NewPlan(r, grid, before, after, t0); err == nil || !strings.Contains(err.Error(), `signal "latency"`) {
		t.Errorf("broken matchers: %v", err)
	}
}

func TestParseMatchers(t *testing.T) {
	ms, err := ParseMatchers("", "{}", ` { } `, `{a="b c", d=~"e|f"}`)
	if err != nil || len(ms) != 2 || selector("m", ms) != `m{a="b c",d=~"e|f"}` {
		t.Errorf("%v, %v", ms, err)
	}
}

func TestLargestRange(t *testing.T) {
	tests := []struct {
		expr string
		want time.Duration
	}{
		{"up", 0},
		{"sum(rate(a[1m])) / sum(rate(b[5m]))", 5 * minute},
		{"a offset 2m", 2 * minute},
		{"rate(a[5m] offset 10m)", 15 * minute},
		{"max_over_time(rate(a[5m])[1h:1m])", 65 * minute},
	}
	for _, tt := range tests {
		if got, err := LargestRange(tt.expr); got != tt.want || err != nil {
			t.Errorf("LargestRange(%q) = %v, %v, want %v", tt.expr, got, err, tt.want)
		}
	}
	if _, err := LargestRange("sum("); err == nil {
		t.Error("a broken expression has no error")
	}
}

func TestLeMatcher(t *testing.T) {
	re := regexp.MustCompile("^(?:" + leMatcher([]float64{0.005, 1, 1e-5, 1e7, math.Inf(1)}).Value + ")$")
	for _, s := range []string{"0.005", "1", "1.0", "1e-05", "0.00001", "1e+07", "10000000", "10000000.0", "+Inf"} {
		if !re.MatchString(s) {
			t.Errorf("%s does not match %s", re, s)
		}
	}
	for _, s := range []string{"0x005", "10", "1x0", "Inf", ""} {
		if re.MatchString(s) {
			t.Errorf("%s matches %s", re, s)
		}
	}
}

func TestFindUpgrade(t *testing.T) {
	span := func(target, version string, first, last time.Duration, gone bool) telemetry.VersionSpan {
		return telemetry.VersionSpan{Target: target, Version: version, First: t0.Add(first), Last: t0.Add(last), Gone: gone}
	}
	now := 60 * minute
	day := -24 * time.Hour
	tests := []struct {
		name        string
		spans       []telemetry.VersionSpan
		to          string
		state       Rollout
		started, at time.Duration
		from, new   string
	}{
		{"nothing", nil, "", NoUpgrade, 0, 0, "", ""},
		{"one version", []telemetry.VersionSpan{span("a", "1", day, now, false)}, "", NoUpgrade, 0, 0, "", ""},
		{
			"two versions from the beginning",
			[]telemetry.VersionSpan{span("a", "1", day, now, false), span("b", "2", day+8*second, now, false)},
			"", NoUpgrade, 0, 0, "", "",
		},
		{"in place", []telemetry.VersionSpan{
			span("a", "1", day, -30*second, true), span("b", "1", day, 90*second, true),
			span("a", "2", 0, now, false), span("b", "2", 2*minute, now, false),
		}, "", Complete, 0, 2 * minute, "1", "2"},
		{"new pods beside old ones", []telemetry.VersionSpan{
			span("a", "1", day, minute, true), span("b", "1", day, 3*minute, true),
			span("c", "2", 0, now, false), span("d", "2", 2*minute, now, false),
		}, "", Complete, 0, 3 * minute, "1", "2"},
		{"pods that left no stale marker", []telemetry.VersionSpan{
			span("a", "1", day, minute, false), span("c", "2", 0, now, false),
		}, "", Complete, 0, minute, "1", "2"},
		{"scaled out later", []telemetry.VersionSpan{
			span("a", "1", day, minute, true), span("c", "2", 0, now, false), span("d", "2", 40*minute, now, false),
		}, "", Complete, 0, minute, "1", "2"},
		{"half way", []telemetry.VersionSpan{
			span("a", "1", day, now, false), span("b", "1", day, minute, true), span("b", "2", 2*minute, now, false),
		}, "", InProgress, 2 * minute, 0, "1", "2"},
		{"rolled back", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, 20*minute, true), span("a", "1", 20*minute+15*second, now, false),
		}, "", Complete, 20*minute + 15*second, 20*minute + 15*second, "2", "1"},
		{"rolled back in place after two minutes", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, 2*minute, true), span("a", "1", 2*minute+15*second, now, false),
		}, "", Complete, 2*minute + 15*second, 2*minute + 15*second, "2", "1"},
		{"rolled back by new pods after two minutes", []telemetry.VersionSpan{
			span("a", "1", day, 15*second, true), span("b", "2", 0, 150*second, true), span("c", "1", 135*second, now, false),
		}, "", Complete, 135 * second, 150 * second, "2", "1"},
		{"the change that was rolled back after two minutes", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, 2*minute, true), span("a", "1", 2*minute+15*second, now, false),
		}, "2", Complete, 0, 0, "1", "2"},
		{"rolled back after two minutes and tried again", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, 2*minute, true),
			span("a", "1", 2*minute+15*second, 4*minute, true), span("a", "2", 4*minute+15*second, now, false),
		}, "", Complete, 4*minute + 15*second, 4*minute + 15*second, "1", "2"},
		{"given up half way", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, 2*minute, true), span("a", "1", 2*minute+15*second, now, false),
			span("b", "1", day, now, false),
		}, "", NoUpgrade, 0, 0, "", ""},
		{"given up half way, the upgrade before", []telemetry.VersionSpan{
			span("a", "0", day, -20*minute, true), span("b", "0", day, -19*minute, true),
			span("a", "1", -20*minute+15*second, -15*second, true), span("b", "1", -19*minute+15*second, now, false),
			span("a", "2", 0, 2*minute, true), span("a", "1", 2*minute+15*second, now, false),
		}, "", Complete, -20*minute + 15*second, -19*minute + 15*second, "0", "1"},
		{"the new version fails a scrape half way", []telemetry.VersionSpan{
			span("a", "1", day, 50*minute, true), span("a", "2", 50*minute+15*second, 58*minute, true), span("b", "1", day, now, false),
		}, "", InProgress, 50*minute + 15*second, 0, "1", "2"},
		{"all are gone", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, 20*minute, true),
		}, "", Complete, 0, 0, "1", "2"},
		{"the last old target fails a scrape while the first has changed", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, now, false),
			span("b", "1", day, -15*second, true), span("b", "1", 15*second, minute, true), span("b", "2", 75*second, now, false),
		}, "", Complete, 0, 75 * second, "1", "2"},
		{"a target of a permanent canary's peer is moved", []telemetry.VersionSpan{
			span("a", "1", day, 0, true), span("c", "1", minute, now, false), span("b", "2", day, now, false),
		}, "", NoUpgrade, 0, 0, "", ""},
		{"every target fails a scrape", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "1", 15*second, now, false),
		}, "", NoUpgrade, 0, 0, "", ""},
		{"the change to a version that was replaced since", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, 20*minute, true), span("a", "3", 20*minute+15*second, now, false),
		}, "2", Complete, 0, 0, "1", "2"},
		{"no change to that version", []telemetry.VersionSpan{
			span("a", "1", day, -15*second, true), span("a", "2", 0, now, false),
		}, "9", NoUpgrade, 0, 0, "", ""},
		{"a scrape gap is no change", []telemetry.VersionSpan{
			span("a", "1", day, -3*minute, false), span("a", "1", 0, now, false), span("b", "2", day, now, false),
		}, "", NoUpgrade, 0, 0, "", ""},
		{"what comes after now is not known", []telemetry.VersionSpan{
			span("a", "1", day, now, false), span("a", "2", now+minute, now+2*minute, false),
		}, "", NoUpgrade, 0, 0, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, state := FindUpgrade(tt.spans, t0.Add(now), "shop", "build_info", tt.to)
			want := telemetry.Upgrade{}
			if tt.state != NoUpgrade {
				want = telemetry.Upgrade{Service: "shop", Started: t0.Add(tt.started), From: tt.from, To: tt.new, FoundBy: "build_info"}
			}
			if tt.state == Complete {
				want.At = t0.Add(tt.at)
			}
			if state != tt.state || u != want {
				t.Errorf("got %v %+v\nwant %v %+v", state, u, tt.state, want)
			}
		})
	}
}
