package query

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// TestRealPrometheus reads the counter cases, and what else needs a real server, from one
// Prometheus. The numbers of the PromQL path differ from those of remote read only as
// promql.go says: an increment is in the step of its second sample, and the interval that
// contains the upgrade counts after it.
func TestRealPrometheus(t *testing.T) {
	// The anchored modifier is behind this flag before Prometheus 3.16.
	server := livetest.Prometheus(t, "--enable-feature=promql-extended-range-selectors")
	var data []livetest.Series
	job := func(name string, ss ...livetest.Series) {
		for _, s := range ss {
			s.Labels = maps.Clone(s.Labels)
			s.Labels["job"] = name
			data = append(data, s)
		}
	}
	cases := counterCases()
	for i, c := range cases {
		job(fmt.Sprint("case-", i), c.data...)
	}
	from, until := -20*minute+5*second, 10*minute
	job("offsets", series("m_total", every(from, until, 15*second, seven(1000))...))
	var shards []livetest.Series
	for i := range 12 {
		shards = append(shards, series(fmt.Sprint("m_total route=/", i), every(from, until, 15*second, seven(float64(i)))...))
	}
	job("shards", shards...)
	job("slow",
		series("up", every(from, until, 150*second, one)...),
		series("m_total", every(155*second, until, 150*second, seven(3))...),
	)
	job("half-down",
		series("up", append(append(ups(from, -minute-10*second),
			every(-minute+5*second, 50*second, 15*second, func(int) float64 { return 0 })...), ups(65*second, until)...)...),
		series("up instance=shop-2:80", ups(from, until)...),
		series("m_total route=/one", every(95*second, until, 15*second, one)...),
		series("m_total route=/two instance=shop-2:80", every(from, until, 15*second, seven(2))...),
	)
	job("versions",
		series("build_info version=1", append(every(from, 20*second, 15*second, one), stale(35*second))...),
		series("build_info version=2", every(35*second, until, 15*second, one)...),
		series("build_info version=1 instance=shop-2:80", append(every(from, 65*second, 15*second, one), stale(80*second))...),
		series("build_info version=2 instance=shop-3:80", every(50*second, until, 15*second, one)...),
	)
	server.Write(t, data)
	client := func(t *testing.T, o Options) *Client {
		t.Helper()
		o.Address = server.URL
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	of := func(r Read, job string) Read {
		r.Matchers = append(slices.Clone(r.Matchers), labels.MustNewMatcher(labels.MatchEqual, "job", job))
		return r
	}

	for i, c := range cases {
		t.Run("remote read/"+c.name, func(t *testing.T) {
			got, err := client(t, Options{}).Fetch(t.Context(), of(c.complete(), fmt.Sprint("case-", i)))
			if err != nil {
				t.Fatal(err)
			}
			if got[0].Path != "remote-read" {
				t.Errorf("path %s", got[0].Path)
			}
			c.check(t, got[0], c.want, c.totals)
		})
		t.Run("query/"+c.name, func(t *testing.T) {
			got, err := client(t, Options{Mode: PromQL}).Fetch(t.Context(), of(c.complete(), fmt.Sprint("case-", i)))
			if err != nil {
				t.Fatal(err)
			}
			if got[0].Path != "query" || len(got[0].Warnings) > 0 {
				t.Errorf("path %s, warnings %v", got[0].Path, got[0].Warnings)
			}
			c.check(t, got[0], c.query, nil)
		})
	}

	// 80 intervals lie in 20 minutes, whatever the offset of the upgrade to the scrapes; the one
	// that contains it is left out unless the upgrade falls on a scrape.
	for _, offset := range []time.Duration{0, 1, 4500, 5000, 7499, 12345, 14999} {
		t.Run(fmt.Sprintf("offset %d ms", offset), func(t *testing.T) {
			r := Read{
				Name: "offset", Kind: Counter, Metric: "m_total",
				Grid: telemetry.Grid{Origin: t0.Add(offset * time.Millisecond), Step: minute, First: -10, Len: 20},
			}
			got, err := client(t, Options{}).Fetch(t.Context(), of(r, "offsets"))
			if err != nil {
				t.Fatal(err)
			}
			want := 79 * 7.0
			if offset == 5000 {
				want = 80 * 7
			}
			sum := 0.0
			for _, v := range got[0].Counts.Rows[0].Steps[0][:19] {
				sum += v
			}
			// The last minute is left out: its samples end at 10:00 after the upgrade.
			if want -= 4 * 7; sum != want {
				t.Errorf("sum of 19 steps %v, want %v", sum, want)
			}
		})
	}

	t.Run("shards", func(t *testing.T) {
		r := of(Read{
			Name: "shards", Kind: Counter, Metric: "m_total", By: []string{"route"},
			Grid: telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6},
		}, "shards")
		whole, err := client(t, Options{Mode: PromQL}).Fetch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		cut, err := client(t, Options{Mode: PromQL, MaxSamples: 20}).Fetch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(whole[0].Counts.Rows) != 12 || whole[0].Series != 12 {
			t.Errorf("%d rows, %d series, want 12", len(whole[0].Counts.Rows), whole[0].Series)
		}
		for i, row := range whole[0].Counts.Rows {
			if got := cut[0].Counts.Rows[i]; got.Endpoint != row.Endpoint || !sameMatrix(got.Steps, row.Steps) {
				t.Errorf("%s: %v in shards, %v whole", row.Endpoint, got.Steps, row.Steps)
			}
		}
	})

	t.Run("born while scraped every 150 s", func(t *testing.T) {
		r := of(Read{
			Name: "slow", Kind: Counter, Metric: "m_total", AbsentIsZero: true, Until: t0.Add(10 * minute),
			Grid: telemetry.Grid{Origin: t0, Step: 5 * minute, First: -2, Len: 4},
		}, "slow")
		got, err := client(t, Options{Mode: PromQL}).Fetch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		// It appears with 3 at 155 s and gains 7 by 305 s and by 455 s.
		if row := got[0].Counts.Rows[0]; !sameMatrix(row.Steps, [][]float64{{0, 0, 3, 14}}) {
			t.Errorf("steps %v, want 0, 0, 3, 14", row.Steps)
		}
	})

	t.Run("a target is down while another answers", func(t *testing.T) {
		r := of(Read{
			Name: "half down", Kind: Counter, Metric: "m_total", By: []string{"route"}, AbsentIsZero: true,
			Grid: telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6},
		}, "half-down")
		for _, mode := range []Mode{RemoteRead, PromQL} {
			got, err := client(t, Options{Mode: mode}).Fetch(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			row := got[0].Counts.Rows[0]
			if row.Endpoint != "/one" || !sameMatrix([][]float64{row.Steps[0][:4]}, [][]float64{{0, 0, nan, nan}}) {
				t.Errorf("%s: %s %v, want /one: 0, 0 and nothing known", mode, row.Endpoint, row.Steps)
			}
		}
	})

	t.Run("complete to", func(t *testing.T) {
		r := of(Read{
			Name: "complete", Kind: Counter, Metric: "m_total", Until: t0.Add(3*minute + 14*second),
			Grid: telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6},
		}, "offsets")
		for _, mode := range []Mode{RemoteRead, PromQL} {
			got, err := client(t, Options{Mode: mode}).Fetch(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if want := t0.Add(3*minute + 5*second); !got[0].CompleteTo.Equal(want) {
				t.Errorf("%s: complete to %v, want %v", mode, got[0].CompleteTo, want)
			}
			if got[0].ScrapeInterval != 15*second {
				t.Errorf("%s: scrape interval %v", mode, got[0].ScrapeInterval)
			}
		}
	})

	t.Run("complete to, with nothing new", func(t *testing.T) {
		// The last sample is that of 9:50.
		for _, tt := range []struct {
			name        string
			first       int
			until, want time.Duration
		}{
			{"one interval behind", 5, 10*minute + 10*second, 9*minute + 50*second},
			{"40 s behind: a lag, or all targets gone", 5, 10*minute + 30*second, 10 * minute},
			{"and a second earlier", 5, 10*minute + 29*second, 10*minute - second},
			{"an hour on, where the read ends before", 5, 70 * minute, 15 * minute},
		} {
			for _, mode := range []Mode{RemoteRead, PromQL} {
				r := of(Read{
					Name: "complete", Kind: Counter, Metric: "m_total", Until: t0.Add(tt.until),
					Grid: telemetry.Grid{Origin: t0, Step: minute, First: tt.first, Len: 5},
				}, "offsets")
				got, err := client(t, Options{Mode: mode}).Fetch(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				// PromQL knows the interval by the scrapes of the last ten minutes.
				slack := 2 * (got[0].ScrapeInterval - 15*second)
				if mode == RemoteRead && slack != 0 {
					t.Errorf("%s, %s: scrape interval %v", tt.name, mode, got[0].ScrapeInterval)
				}
				if want := t0.Add(tt.want); got[0].CompleteTo.After(want) || got[0].CompleteTo.Before(want.Add(-slack)) {
					t.Errorf("%s, %s: complete to %v, want %v", tt.name, mode, got[0].CompleteTo, want)
				}
			}
		}
	})

	t.Run("versions", func(t *testing.T) {
		ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "versions")}
		w := telemetry.Window{Start: t0.Add(-30 * minute), End: t0.Add(4 * minute)}
		for _, mode := range []Mode{RemoteRead, PromQL} {
			got, err := client(t, Options{Mode: mode}).Versions(t.Context(), "build_info", ms, "version", w)
			if err != nil {
				t.Fatal(err)
			}
			u, state := FindUpgrade(got.Spans, w.End, "shop", "build_info", "")
			want := telemetry.Upgrade{
				Service: "shop", Started: t0.Add(35 * second), At: t0.Add(65 * second), From: "1", To: "2", FoundBy: "build_info",
			}
			if state != Complete || u != want {
				t.Errorf("%s: %v %+v from %+v, want %+v", mode, state, u, got.Spans, want)
			}
		}
	})

	t.Run("versions do not depend on when they are asked for", func(t *testing.T) {
		ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "versions")}
		want := telemetry.Upgrade{
			Service: "shop", Started: t0.Add(35 * second), At: t0.Add(65 * second), From: "1", To: "2", FoundBy: "build_info",
		}
		for i := range 5 {
			end := t0.Add(4*minute + time.Duration(i)*4*second)
			// Seven days are asked for in steps of a minute.
			w := telemetry.Window{Start: end.Add(-7 * 24 * time.Hour), End: end}
			got, err := client(t, Options{Mode: PromQL}).Versions(t.Context(), "build_info", ms, "version", w)
			if err != nil {
				t.Fatal(err)
			}
			if u, state := FindUpgrade(got.Spans, w.End, "shop", "build_info", ""); state != Complete || u != want {
				t.Errorf("at %v: %v %+v from %+v, want %+v", end, state, u, got.Spans, want)
			}
			exact, err := client(t, Options{}).Versions(t.Context(), "build_info", ms, "version", w)
			if err != nil {
				t.Fatal(err)
			}
			for j, s := range exact.Spans {
				if j >= len(got.Spans) || got.Spans[j].Target != s.Target || got.Spans[j].Version != s.Version ||
					got.Spans[j].Gone != s.Gone || !got.Spans[j].First.Equal(s.First) || !got.Spans[j].Last.Equal(s.Last) {
					t.Errorf("at %v: %+v, by remote read %+v", end, got.Spans, exact.Spans)
					break
				}
			}
		}
	})

	t.Run("small questions", func(t *testing.T) {
		c := client(t, Options{})
		now, err := c.Clock(t.Context())
		if d := time.Since(now); err != nil || d > 5*second || d < -5*second {
			t.Errorf("clock %v, %v", now, err)
		}
		v, ok, warn, err := c.Scalar(t.Context(), `sum(m_total{job="offsets"})`, t0.Add(5*second))
		if v != 1560 || !ok || len(warn) > 0 || err != nil { // 1000 + 7 * 80
			t.Errorf("scalar %v %v %v %v", v, ok, warn, err)
		}
		_, ok, _, err = c.Scalar(t.Context(), "no_such_metric", t0)
		if ok || err != nil {
			t.Errorf("scalar of nothing: %v %v", ok, err)
		}
		w := telemetry.Window{Start: t0.Add(-minute), End: t0}
		ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "shards")}
		if n, err := c.SeriesCount(t.Context(), "m_total", ms, w); n != 12 || err != nil {
			t.Errorf("series count %d, %v", n, err)
		}
		names, err := c.MetricNames(t.Context(), ms, w)
		if !slices.Equal(names, []string{"m_total"}) || err != nil {
			t.Errorf("metric names %v, %v", names, err)
		}
		ls, err := c.LabelNames(t.Context(), "m_total", ms, w)
		if !slices.Equal(ls, []string{"instance", "job", "route"}) || err != nil {
			t.Errorf("label names %v, %v", ls, err)
		}
	})

	t.Run("plain increase", func(t *testing.T) {
		c := client(t, Options{Mode: PromQL})
		c.increase = increasePlain
		r := of(Read{
			Name: "plain", Kind: Counter, Metric: "m_total",
			Grid: telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6},
		}, "offsets")
		got, err := c.Fetch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		// 60 s / (60 s - 15 s); research: 1.33 measured.
		if d := got[0].Dispersion; math.Abs(d-4.0/3) > 1e-9 || got[0].Path != "query-plain" || len(got[0].Notes) != 1 {
			t.Errorf("dispersion %v, path %s, notes %v", d, got[0].Path, got[0].Notes)
		}
		if steps := got[0].Counts.Rows[0].Steps[0]; math.Abs(steps[1]-28) > 1e-9 {
			t.Errorf("steps %v, want 28 each", steps)
		}
	})
}

func one(int) float64 { return 1 }

// TestNativeHistogramsOfRealPrometheus reads the native cases from a server that took them by
// remote write, and asks it which histograms are native.
func TestNativeHistogramsOfRealPrometheus(t *testing.T) {
	server := livetest.Prometheus(t)
	var data []livetest.Series
	job := func(name string, ss ...livetest.Series) {
		for _, s := range ss {
			s.Labels = maps.Clone(s.Labels)
			s.Labels["job"] = name
			data = append(data, s)
		}
	}
	cases := nativeCases()
	for i, c := range cases {
		job(fmt.Sprint("native-", i), c.data...)
	}
	from, until := -2*time.Hour, 10*minute
	exponential := layout{schema: 3, first: -20, rise: []int64{3, 1}}
	classic := func(from time.Duration) livetest.Series {
		return series("m_seconds_bucket le=+Inf", every(from, until, 15*second, seven(1))...)
	}
	job("both", nativeSeries("m_seconds", exponential.grow(from, until, 1)), classic(from))
	job("lately", nativeSeries("m_seconds", exponential.grow(-minute, until, 1)), classic(from))
	job("until-lately", nativeSeries("m_seconds", exponential.grow(from, -minute, 1)), classic(from))
	job("classic", classic(from))
	job("summary", series("m_seconds quantile=0.9", every(from, until, 15*second, seven(1))...), classic(from))
	job("new", nativeSeries("m_seconds", exponential.grow(0, until, 1)))
	server.Write(t, data)
	client := func(t *testing.T, mode Mode) *Client {
		t.Helper()
		c, err := New(Options{Address: server.URL, Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := c.complete()
			r.Matchers = []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", fmt.Sprint("native-", i))}
			got, err := client(t, Auto).Fetch(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if c.liveSteps != nil {
				c.steps, c.total = c.liveSteps, c.liveTotal
			}
			c.check(t, got[0])
		})
	}
	whole := telemetry.Window{Start: t0.Add(from), End: t0.Add(until)}
	// The 24 times are 325 s apart: three of them are in the last 11 minutes.
	for _, tt := range []struct {
		job    string
		mode   Mode
		w      telemetry.Window
		native bool
		note   string
	}{
		{"native-0", Auto, whole, true, ""},
		{"native-1", RemoteRead, whole, true, ""}, // custom buckets
		{"native-0", PromQL, whole, true, ""},     // nothing else is there: the read will say so
		{"both", Auto, whole, true, ""},
		{"both", PromQL, whole, false, ""},
		{"lately", Auto, whole, false, "m_seconds has native histograms for 3 of 24 parts of the history; its classic buckets are read"},
		{"until-lately", Auto, whole, false, "of the history; its classic buckets are read"},
		{"classic", Auto, whole, false, ""},
		{"summary", Auto, whole, false, ""},
		{"new", Auto, telemetry.Window{Start: t0.Add(-7 * 24 * time.Hour), End: t0.Add(until + 8*minute)}, true, ""},
	} {
		t.Run(fmt.Sprintf("ask %s by %s", tt.job, tt.mode), func(t *testing.T) {
			r := &rule.Rule{Select: `{job="` + tt.job + `"}`, Signals: []rule.Signal{
				{Name: "requests", Kind: rule.Ratio, Metric: "m_total", Per: "n_total"},
				{Name: "latency", Kind: rule.Histogram, Metric: "m_seconds"},
			}}
			native, notes, err := client(t, tt.mode).NativeHistograms(t.Context(), r, tt.w)
			if err != nil {
				t.Fatal(err)
			}
			if native[1] != tt.native || native[0] || !strings.Contains(strings.Join(notes, "\n"), tt.note) || tt.note == "" && len(notes) > 0 {
				t.Errorf("native %v, notes %q, want %v, %q", native, notes, tt.native, tt.note)
			}
		})
	}
}
