package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/report"
)

// flagFile is the flag file of every scenario.
const flagFile = `{
  "flags": {
    "payments.new-backoff": {
      "state": "ENABLED",
      "variants": {"on": true, "off": false},
      "defaultVariant": "on"
    }
  }
}
`

// An upgradeWorld is a real Prometheus with a week of several services, each upgraded an hour
// ago: 10 endpoints, /v1/payments behind the flag, /v1/catalog not.
type upgradeWorld struct {
	server *livetest.Server
	at     time.Time // of every upgrade
}

// The slow endpoint of the scenarios that have one.
const suspect = "/v1/payments/1"

// newUpgradeWorld makes the history. Every endpoint has the same median, so that all lie in
// one count class: at 6.7 requests a second, 400 a minute, about 4 of them beyond 250 ms and 4
// retries. A week of minutes gives 499 placebos each.
func newUpgradeWorld(t *testing.T) *upgradeWorld {
	t.Helper()
	w := &upgradeWorld{server: livetest.Prometheus(t, "--enable-feature=promql-extended-range-selectors")}
	now := time.Now().Truncate(time.Second)
	w.at = now.Add(-61 * time.Minute)
	from := w.at.Add(-7*24*time.Hour - 70*time.Minute)
	var series []livetest.Series
	add := func(seed uint64, service string, rate float64, change func(*livetest.Shop)) {
		s := livetest.NewShop(seed, 10, rate)
		s.Service, s.Instance, s.Interval = service, service+":8080", time.Minute
		for i := range s.Endpoints {
			s.Endpoints[i].Median = 0.04
		}
		s.Upgrade = &livetest.ShopUpgrade{At: w.at, Version: "1.1"}
		if change != nil {
			change(&s)
		}
		series = append(series, s.Series(from, now.Add(time.Second))...)
	}
	// The requests of the service before as native histograms alone.
	again := func(service string, custom bool) {
		for _, one := range native(t, series, custom) {
			one.Labels["service"], one.Labels["job"], one.Labels["instance"] = service, service, service+":8080"
			series = append(series, one)
		}
	}
	after := func(c livetest.Change) func(*livetest.Shop) {
		return func(s *livetest.Shop) { c.From = w.at; s.Changes = append(s.Changes, c) }
	}
	add(1, "slow-tail", 6.7, after(livetest.Change{Routes: []string{suspect}, Tail: 4, Latency: 1.6}))
	again("native", false)
	again("custom", true)
	add(2, "retry-storm", 6.7, after(livetest.Change{Routes: []string{suspect}, Retries: 5}))
	add(3, "began-earlier", 6.7, func(s *livetest.Shop) {
		s.Changes = []livetest.Change{{From: w.at.Add(-10 * time.Minute), Routes: []string{suspect}, Retries: 5, Latency: 2}}
	})
	add(4, "everything-slower", 6.7, after(livetest.Change{Latency: 1.8}))
	add(5, "no-change", 6.7, nil)
	add(6, "quiet", 0.002, nil)
	add(7, "first-retries", 6.7, func(s *livetest.Shop) {
		for i := range s.Endpoints {
			s.Endpoints[i].Retries = 0
		}
		s.Changes = []livetest.Change{{From: w.at, Routes: []string{suspect}, MoreRetries: 0.2}}
	})
	w.server.Write(t, series)
	return w
}

// native returns series of the slow-tail service with native histograms in place of the classic
// ones: with the same buckets as custom ones, or with exponential ones of schema 3, every request
// in the middle of the bucket that it was in.
func native(t *testing.T, series []livetest.Series, custom bool) []livetest.Series {
	t.Helper()
	const metric = "http_server_request_duration_seconds"
	type bucket struct {
		le      float64
		samples []livetest.Sample
	}
	var out []livetest.Series
	groups := map[string][]bucket{}
	groupLabels := map[string]map[string]string{}
	for _, s := range series {
		name := s.Labels["__name__"]
		if s.Labels["service"] != "slow-tail" || name == metric+"_count" || name == metric+"_sum" {
			continue
		}
		ls := maps.Clone(s.Labels)
		if name != metric+"_bucket" {
			out = append(out, livetest.Series{Labels: ls, Samples: s.Samples})
			continue
		}
		le, err := strconv.ParseFloat(ls["le"], 64)
		if err != nil {
			t.Fatal(err)
		}
		delete(ls, "le")
		ls["__name__"] = metric
		key := ls["method"] + " " + ls["route"]
		groups[key], groupLabels[key] = append(groups[key], bucket{le, s.Samples}), ls
	}
	for key, buckets := range groups {
		slices.SortFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.le, b.le) })
		layout := histogram.Histogram{Schema: 3, ZeroThreshold: 1e-9}
		last, low := int32(0), buckets[0].le/4
		for i, b := range buckets {
			index := int32(math.Ceil(8 * math.Log2(math.Sqrt(low*min(b.le, 100)))))
			if low = b.le; custom {
				index = int32(i)
				if !math.IsInf(b.le, 1) {
					layout.CustomValues = append(layout.CustomValues, b.le)
				}
			}
			layout.PositiveSpans = append(layout.PositiveSpans, histogram.Span{Offset: index - last, Length: 1})
			last = index + 1
		}
		if custom {
			layout.Schema, layout.ZeroThreshold = histogram.CustomBucketsSchema, 0
		}
		one := livetest.Series{Labels: groupLabels[key]}
		for k, sample := range buckets[0].samples {
			h := layout
			below, count := 0.0, int64(0)
			for _, b := range buckets {
				n := int64(b.samples[k].V - below)
				h.PositiveBuckets = append(h.PositiveBuckets, n-count)
				below, count = b.samples[k].V, n
			}
			h.Count = uint64(below)
			one.Histograms = append(one.Histograms, livetest.HistogramSample{T: sample.T, H: &h})
		}
		out = append(out, one)
	}
	return out
}

// folder makes a working folder with rule, configuration and flag file for a service.
func (w *upgradeWorld) folder(t *testing.T, service string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("flags.json", flagFile)
	write("driftwatch.yaml", fmt.Sprintf(`prometheus: {url: %q}
rules: [rule.yaml]
flag_sources:
  production: {flagd_file: {path: flags.json, mode: edit}}
`, w.server.URL))
	write("rule.yaml", fmt.Sprintf(`service: %[1]s
select: '{service="%[1]s"}'
endpoint: [method, route]
upgrade: {metric: build_info, version_label: version}
signals:
  - {name: latency, histogram: http_server_request_duration_seconds, quantile: 0.99, minimum_effect: 10%%}
  - {name: retries, ratio: {of: http_client_request_retries_total, per: http_client_requests_total}, minimum_effect: 20%%}
flags:
  - key: payments.new-backoff
    source: production
    behind: {route: '/v1/payments/.*'}
    off: {variant: "off"}
    act: true
`, service))
	return dir
}

func (r result) want(t *testing.T, code int, verdict report.Verdict) {
	t.Helper()
	if r.report == nil {
		t.Fatalf("no report; exit %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
	if r.code != code || r.report.ExitCode != code || r.report.Verdict != verdict {
		t.Errorf("exit %d (report: %d), verdict %s, want %d and %s\n%s\nstderr: %s", r.code, r.report.ExitCode, r.report.Verdict, code, verdict,
			report.Text(r.report, report.TextOptions{}), r.stderr)
	}
}

// row is the comparison of one signal of the suspect endpoint.
func (r result) row(t *testing.T, signal string) report.Comparison {
	t.Helper()
	for _, c := range r.report.Comparisons {
		if c.Endpoint == "POST "+suspect && c.Signal == signal {
			return c
		}
	}
	t.Fatalf("no comparison of %s of %s", signal, suspect)
	return report.Comparison{}
}

// onlySuspect fails if anything but the suspect endpoint is regressed.
func (r result) onlySuspect(t *testing.T) {
	t.Helper()
	for _, c := range r.report.Comparisons {
		if c.Verdict == report.Regressed && c.Endpoint != "POST "+suspect {
			t.Errorf("%s %s is regressed, too (q %v); nothing changed there", c.Endpoint, c.Signal, c.Q)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestCheckOnARealPrometheus is the whole mission on real servers: what is planted is found,
// what is not planted is not, and the flag goes off when and only when it may.
func TestCheckOnARealPrometheus(t *testing.T) {
	w := newUpgradeWorld(t)
	at := fmt.Sprint(w.at.Unix())

	t.Run("a slow tail is confirmed and nothing is written without consent", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		r := run(t, dir, "check", "-o", "json")
		r.want(t, 4, report.Regressed)
		r.onlySuspect(t)
		if c := r.row(t, "latency"); c.Verdict != report.Regressed || !(c.Change.CI99[0] > 0) {
			t.Errorf("latency of the suspect: %s, interval %v", c.Verdict, c.Change.CI99)
		}
		if a := r.report.Actions; len(a) != 1 || a[0].Outcome != report.DryRun {
			t.Errorf("actions %+v, want one dry run", a)
		} else if a[0].Shadow == nil || *a[0].Shadow != (report.Shadow{Times: 1, Days: 30}) {
			t.Errorf("shadow record %+v, want once in 30 days", a[0].Shadow)
		}
		// A second look at the same upgrade is no second time, and the record keeps what was told.
		again := run(t, dir, "check", "-o", "json")
		again.want(t, 4, report.Regressed)
		if a := again.report.Actions; len(a) != 1 || a[0].Shadow == nil || a[0].Shadow.Times != 1 {
			t.Errorf("actions %+v of the second look, want one that counts one upgrade", a)
		}
		if replayed := run(t, dir, "check", "--replay", r.report.ID, "-o", "json"); replayed.code != 4 || replayed.stdout != r.stdout {
			t.Errorf("replay: exit %d, same bytes: %v\n%s", replayed.code, replayed.stdout == r.stdout, replayed.stderr)
		}
		if list := run(t, dir, "flags", "list"); !regexp.MustCompile(`payments.new-backoff +on .* yes +1, 0 marked false +rule.yaml`).MatchString(list.stdout) {
			t.Errorf("flags list:\n%s", list.stdout)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed without --act")
		}
		if d := r.report.Deploy; d == nil || d.To != "1.1" || d.From != "1.0" || d.FoundBy != "build_info" {
			t.Errorf("deploy %+v, want 1.0 to 1.1 from build_info", d)
		}
	})

	t.Run("the flag goes off with consent, and a second check does nothing new", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 3, report.Regressed)
		if a := r.report.Actions; len(a) != 1 || a[0].Outcome != report.Verified || a[0].Viewpoint != "file" {
			t.Fatalf("actions %+v, want one, verified in the file", a)
		}
		off := readFile(t, filepath.Join(dir, "flags.json"))
		if want := strings.Replace(flagFile, `"defaultVariant": "on"`, `"defaultVariant": "off"`, 1); off != want {
			t.Errorf("flag file is\n%s\nwant one changed value:\n%s", off, want)
		}
		before, err := os.Stat(filepath.Join(dir, "flags.json"))
		if err != nil {
			t.Fatal(err)
		}
		again := run(t, dir, "check", "--act", "-o", "json")
		again.want(t, 3, report.Regressed)
		after, err := os.Stat(filepath.Join(dir, "flags.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !after.ModTime().Equal(before.ModTime()) || readFile(t, filepath.Join(dir, "flags.json")) != off {
			t.Error("the second check wrote the flag file")
		}

		replayed := run(t, dir, "check", "--replay", r.report.ID, "-o", "json")
		if replayed.code != 3 || replayed.stdout != r.stdout {
			t.Errorf("replay: exit %d, same bytes: %v\n%s", replayed.code, replayed.stdout == r.stdout, replayed.stderr)
		}
		if shown := run(t, dir, "report", "show", r.report.ID, "-o", "json"); shown.stdout != r.stdout {
			t.Error("report show prints other bytes than check did")
		}
		if list := run(t, dir, "report", "list"); strings.Count(list.stdout, "slow-tail") < 2 {
			t.Errorf("report list:\n%s", list.stdout)
		}

		restored := run(t, dir, "flags", "restore", "payments.new-backoff")
		if restored.code != 0 || readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Errorf("restore: exit %d, %s%s", restored.code, restored.stdout, restored.stderr)
		}
		third := run(t, dir, "check", "--act", "-o", "json")
		third.want(t, 4, report.Regressed)
		if a := third.report.Actions; len(a) != 1 || a[0].Outcome != report.Refused || a[0].Reason != "person_restored" {
			t.Errorf("after a person restored it: %+v, want refused, person_restored", a)
		}
	})

	t.Run("with approval the flag goes off when a person applies the plan", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		config, flagPath := filepath.Join(dir, "driftwatch.yaml"), filepath.Join(dir, "flags.json")
		if err := os.WriteFile(config, []byte(readFile(t, config)+"approval: {required: true, plans: plans}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 4, report.Regressed)
		a := r.report.Actions
		if len(a) != 1 || a[0].Outcome != report.DryRun || a[0].Reason != report.ReasonApproval || a[0].Plan == "" || a[0].Shadow == nil {
			t.Fatalf("actions %+v, want one that waits for approval", a)
		}
		plan := string(a[0].Plan)
		planned := readFile(t, filepath.Join(dir, plan))
		again := run(t, dir, "check", "--act", "-o", "json")
		again.want(t, 4, report.Regressed)
		if b := again.report.Actions; len(b) != 1 || string(b[0].Plan) != plan || readFile(t, filepath.Join(dir, plan)) != planned {
			t.Errorf("the second check: %+v, want the same plan, untouched", b)
		}
		if readFile(t, flagPath) != flagFile {
			t.Error("the flag file changed without approval")
		}

		applied := run(t, dir, "flags", "apply", plan)
		off := readFile(t, flagPath)
		if want := strings.Replace(flagFile, `"defaultVariant": "on"`, `"defaultVariant": "off"`, 1); applied.code != 0 || off != want {
			t.Fatalf("apply: exit %d, %s%s; the flag file is\n%s", applied.code, applied.stdout, applied.stderr, off)
		}
		before, err := os.Stat(flagPath)
		if err != nil {
			t.Fatal(err)
		}
		proved := run(t, dir, "check", "--act", "-o", "json")
		proved.want(t, 3, report.Regressed)
		if a := proved.report.Actions; len(a) != 1 || a[0].Outcome != report.Verified {
			t.Errorf("actions %+v, want one, verified", a)
		}
		if after, err := os.Stat(flagPath); err != nil || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("the check after it wrote the flag file: %v", err)
		}
		if again := run(t, dir, "flags", "apply", plan); again.code != 0 || !strings.Contains(again.stdout, "nothing was written") {
			t.Errorf("applied twice: exit %d, %s%s", again.code, again.stdout, again.stderr)
		}
	})

	t.Run("a flag that its owners marked as critical is left alone", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		critical := strings.Replace(flagFile, `"state"`, `"metadata": {"critical": true}, "state"`, 1)
		if err := os.WriteFile(filepath.Join(dir, "flags.json"), []byte(critical), 0o644); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 4, report.Regressed)
		if a := r.report.Actions; len(a) != 1 || a[0].Outcome != report.Refused || a[0].Reason != report.ReasonCritical {
			t.Errorf("actions %+v, want one refused as critical", a)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != critical {
			t.Error("the flag file changed")
		}
	})

	t.Run("PromQL finds what remote read finds", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		config := filepath.Join(dir, "driftwatch.yaml")
		text := strings.Replace(readFile(t, config), "prometheus: {", "prometheus: {read: query, ", 1)
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "-o", "json")
		r.want(t, 4, report.Regressed)
		r.onlySuspect(t)
		if r.report.Stats.ReadPath != "query" {
			t.Errorf("read path %q, want query", r.report.Stats.ReadPath)
		}
	})

	t.Run("native histograms show what the classic ones show", func(t *testing.T) {
		classic := run(t, w.folder(t, "slow-tail"), "check", "-o", "json").row(t, "latency")
		for _, service := range []string{"custom", "native"} {
			r := run(t, w.folder(t, service), "check", "-o", "json")
			r.want(t, 4, report.Regressed)
			r.onlySuspect(t)
			c := r.row(t, "latency")
			if c.Verdict != report.Regressed || !(c.Change.CI99[0] > 0) {
				t.Errorf("%s: latency of the suspect: %s, interval %v", service, c.Verdict, c.Change.CI99)
			}
			// The counts beyond the chosen bounds are the same: exponential buckets put the requests
			// elsewhere in the classic ones, which moves none over a bound.
			if c.P != classic.P || c.Baseline.Requests != classic.Baseline.Requests || c.Post.Requests != classic.Post.Requests {
				t.Errorf("%s: p %v of %v and %v requests, classic %v of %v and %v", service, c.P, c.Baseline.Requests, c.Post.Requests,
					classic.P, classic.Baseline.Requests, classic.Post.Requests)
			}
			if service == "custom" && (c.Baseline.Value != classic.Baseline.Value || c.Post.Value != classic.Post.Value) {
				t.Errorf("custom: %v s to %v s, classic %v to %v", c.Baseline.Value, c.Post.Value, classic.Baseline.Value, classic.Post.Value)
			}
			want := fmt.Sprintf("http_server_request_duration_seconds{service=%q}", service)
			if queries := r.report.Provenance.Queries; !slices.Contains(queries, want) || strings.Contains(fmt.Sprint(queries), "_bucket") {
				t.Errorf("%s: queries %q, want %s", service, queries, want)
			}
		}
	})

	t.Run("a retry storm is confirmed", func(t *testing.T) {
		r := run(t, w.folder(t, "retry-storm"), "check", "-o", "json")
		r.want(t, 4, report.Regressed)
		r.onlySuspect(t)
		if c := r.row(t, "retries"); c.Verdict != report.Regressed {
			t.Errorf("retries of the suspect: %s", c.Verdict)
		}
	})

	t.Run("what began ten minutes earlier is never blamed", func(t *testing.T) {
		dir := w.folder(t, "began-earlier")
		r := run(t, dir, "check", "--act", "-o", "json")
		if r.code != 0 || r.report.Verdict == report.Regressed {
			t.Errorf("exit %d, verdict %s", r.code, r.report.Verdict)
		}
		if c := r.row(t, "retries"); c.Verdict != report.PreExisting {
			t.Errorf("retries of the suspect: %s, want pre_existing", c.Verdict)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
	})

	t.Run("everything slower at once is never acted on and never called harmless", func(t *testing.T) {
		dir := w.folder(t, "everything-slower")
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 4, report.Regressed)
		for _, c := range r.report.Comparisons {
			if c.Signal == "latency" && c.Verdict == report.NoMeaningfulRise {
				t.Errorf("%s latency rose by 80 %% and is called no_meaningful_rise", c.Endpoint)
			}
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
		if !slices.ContainsFunc(r.report.Actions, func(a report.Action) bool { return a.Outcome == report.Refused && a.Reason == "service_wide" }) {
			t.Errorf("actions %+v, want one refused as service_wide", r.report.Actions)
		}
	})

	t.Run("no change", func(t *testing.T) {
		dir := w.folder(t, "no-change")
		r := run(t, dir, "check", "--act", "-o", "json", "--at", at, "--started", at)
		if r.code != 0 || r.report == nil || r.report.Verdict == report.Regressed {
			t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
	})

	t.Run("too little traffic is said, and is not fine", func(t *testing.T) {
		dir := w.folder(t, "quiet")
		r := run(t, dir, "check", "-o", "json")
		r.want(t, 0, report.NotEnoughData)
		for _, c := range r.report.Comparisons {
			if c.Verdict != report.NotEnoughData || c.Needs == nil {
				t.Errorf("%s %s: %s, needs %+v", c.Endpoint, c.Signal, c.Verdict, c.Needs)
			}
		}
		required := run(t, dir, "check", "--require-data", "-o", "json")
		required.want(t, 6, report.NotEnoughData)
		if !strings.Contains(required.stderr, "note  DW104 [0, 6 with --require-data]: too few ") {
			t.Errorf("stderr:\n%s", required.stderr)
		}
	})

	t.Run("the first retries ever are found within ten steps", func(t *testing.T) {
		dir := w.folder(t, "first-retries")
		r := run(t, dir, "check", "--act", "-o", "json", "--now", fmt.Sprint(w.at.Add(12*time.Minute).Unix()))
		r.want(t, 4, report.Regressed)
		r.onlySuspect(t)
		c := r.row(t, "retries")
		// No endpoint had the counter before: it may be new instrumentation.
		if !slices.Contains(c.Warnings, detect.CounterIsNew) {
			t.Errorf("warnings %v, want %s", c.Warnings, detect.CounterIsNew)
		}
		if a := r.report.Actions; len(a) != 1 || a[0].Reason != "could_not_check" {
			t.Errorf("actions %+v, want one refused as could_not_check", a)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
		if c.Verdict != report.Regressed || c.RegressedAt.Sub(w.at) > 10*time.Minute {
			t.Errorf("retries of the suspect: %s at %v", c.Verdict, c.RegressedAt)
		}
	})

	t.Run("an old judgement is never acted on", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		r := run(t, dir, "check", "--act", "-o", "json", "--now", fmt.Sprint(w.at.Add(40*time.Minute).Unix()))
		r.want(t, 4, report.Regressed)
		if a := r.report.Actions; len(a) != 1 || a[0].Reason != "stale" {
			t.Errorf("actions %+v, want one refused as stale", a)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
	})

	t.Run("the plan is printed and nothing is judged", func(t *testing.T) {
		r := run(t, w.folder(t, "slow-tail"), "check", "--explain")
		if r.code != 0 || !strings.Contains(r.stdout, "http_server_request_duration_seconds_bucket") {
			t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})

	t.Run("an unknown metric is a mistake with a suggestion", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		name := filepath.Join(dir, "rule.yaml")
		text := strings.Replace(readFile(t, name), "histogram: http_server_request_duration_seconds", "histogram: http_server_request_duration_second", 1)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "-o", "json")
		if r.code != 2 || !strings.Contains(r.stderr, "error DW102 [2]") || !strings.Contains(r.stderr, "did you mean http_server_request_duration_seconds") {
			t.Errorf("exit %d, stderr:\n%s", r.code, r.stderr)
		}
	})

	t.Run("a flag that cannot be written is left on and told", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		if err := os.Chmod(filepath.Join(dir, "flags.json"), 0o444); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 4, report.Regressed)
		if a := r.report.Actions; len(a) != 1 || a[0].Outcome != report.Refused || a[0].Reason != "read_only" {
			t.Errorf("actions %+v, want one refused as read_only", a)
		}
		if !strings.Contains(r.stderr, "error DW108 [4]") || readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Errorf("stderr:\n%s", r.stderr)
		}
	})

	t.Run("a flag that is off already is proved off and not written", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		off := strings.Replace(flagFile, `"defaultVariant": "on"`, `"defaultVariant": "off"`, 1)
		if err := os.WriteFile(filepath.Join(dir, "flags.json"), []byte(off), 0o644); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 4, report.Regressed)
		if a := r.report.Actions; len(a) != 1 || a[0].Outcome != report.AlreadyOff || a[0].Evaluations == nil || a[0].Evaluations.Off != a[0].Evaluations.Total {
			t.Errorf("actions %+v, want one already_off, seen by every evaluation", a)
		}
		if !strings.Contains(r.stderr, "note  DW107 [4]") || readFile(t, filepath.Join(dir, "flags.json")) != off {
			t.Errorf("stderr:\n%s", r.stderr)
		}
	})

	t.Run("a flag that its source does not have is a mistake", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		other := strings.Replace(flagFile, "payments.new-backoff", "payments.new-backof", 1)
		if err := os.WriteFile(filepath.Join(dir, "flags.json"), []byte(other), 0o644); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "--act")
		if r.code != 2 || !strings.Contains(r.stderr, "error DW106 [2]") || !strings.Contains(r.stderr, `did you mean "payments.new-backof"?`) {
			t.Errorf("exit %d, stderr:\n%s", r.code, r.stderr)
		}
	})

	t.Run("a journal that cannot be opened stops only who named it or wants to act", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		missing := filepath.Join(dir, "nowhere", "journal.db")
		if r := run(t, dir, "check", "--journal", missing); r.code != 2 {
			t.Errorf("a named journal that is missing: exit %d", r.code)
		}
		if err := os.Mkdir(filepath.Join(dir, "driftwatch.db"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "driftwatch.yaml"), filepath.Join(dir, "other.yaml")); err != nil {
			t.Fatal(err)
		}
		r := run(t, dir, "check", "--rules", "rule.yaml", "--prometheus", w.server.URL, "-o", "json")
		r.want(t, 4, report.Regressed)
		if !strings.Contains(r.stderr, "warning: nothing is kept of this check") {
			t.Errorf("stderr:\n%s", r.stderr)
		}
		if r := run(t, dir, "check", "--rules", "rule.yaml", "--prometheus", w.server.URL, "--act"); r.code != 2 {
			t.Errorf("--act without a journal: exit %d", r.code)
		}
	})

	t.Run("an interrupt leaves nothing half-written", func(t *testing.T) {
		dir := w.folder(t, "no-change")
		soon := fmt.Sprint(w.at.Add(51 * time.Minute).Unix()) // ten minutes before the data end
		cmd, stderr := started(t, dir, "check", "--wait", "--act", "--at", soon)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() && !strings.Contains(lines.Text(), "look ") {
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		last := ""
		for lines.Scan() {
			last = lines.Text()
		}
		exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
		if !ok || exit.ExitCode() != 130 || !strings.Contains(last, "nothing is half-written") {
			t.Errorf("exit %v, last line %q", exit, last)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
	})

	t.Run("Prometheus is gone", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		w.server.Stop()
		r := run(t, dir, "check", "--act", "--at", at, "-o", "json")
		r.want(t, 7, report.CouldNotCheck)
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
	})
}
