package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/report"
)

// newYoungWorld is a real Prometheus that has known its services for 45 minutes before they
// were upgraded, 20 minutes ago.
func newYoungWorld(t *testing.T) *upgradeWorld {
	t.Helper()
	w := &upgradeWorld{server: livetest.Prometheus(t, "--enable-feature=promql-extended-range-selectors")}
	now := time.Now().Truncate(time.Second)
	w.at = now.Add(-20 * time.Minute)
	var series []livetest.Series
	for i, service := range []string{"slow-tail", "no-change"} {
		s := livetest.NewShop(uint64(i+1), 10, 6.7)
		s.Service, s.Instance, s.Interval = service, service+":8080", 30*time.Second
		for i := range s.Endpoints {
			s.Endpoints[i].Median = 0.04
		}
		s.Upgrade = &livetest.ShopUpgrade{At: w.at, Version: "1.1"}
		if service == "slow-tail" {
			s.Changes = append(s.Changes, livetest.Change{From: w.at, Routes: []string{suspect}, Tail: 6, Latency: 2})
		}
		series = append(series, s.Series(w.at.Add(-45*time.Minute), now.Add(time.Second))...)
	}
	w.server.Write(t, series)
	return w
}

// TestCheckWithoutHistory is the mission for a service that is too young for placebo deploys.
func TestCheckWithoutHistory(t *testing.T) {
	w := newYoungWorld(t)
	allow := func(t *testing.T, dir string) {
		t.Helper()
		rule := filepath.Join(dir, "rule.yaml")
		if err := os.WriteFile(rule, []byte(readFile(t, rule)+"act_on_short_history: true\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a slow tail is confirmed, and the flag stays on unless the rule allows otherwise", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 4, report.Regressed)
		r.onlySuspect(t)
		if r.report.Calibration.Tier != "short" || !slices.Contains(r.report.Warnings, "short_history") {
			t.Errorf("tier %s, warnings %q", r.report.Calibration.Tier, r.report.Warnings)
		}
		if a := r.report.Actions; len(a) != 1 || a[0].Outcome != report.Refused || a[0].Reason != "short_history" {
			t.Errorf("actions %+v, want one refusal for short_history", a)
		}
		if readFile(t, filepath.Join(dir, "flags.json")) != flagFile {
			t.Error("the flag file changed")
		}
		replayed := run(t, dir, "check", "--replay", r.report.ID, "-o", "json")
		if replayed.code != 4 || replayed.stdout != r.stdout {
			t.Errorf("replay: exit %d, same bytes: %v\n%s", replayed.code, replayed.stdout == r.stdout, replayed.stderr)
		}
		// The rule allows it now, but what was judged once is not acted on at the second try.
		allow(t, dir)
		again := run(t, dir, "check", "--act", "--rules", "rule.yaml", "-o", "json")
		again.want(t, 4, report.Regressed)
		if a := again.report.Actions; len(a) != 1 || a[0].Reason != "short_history" || !strings.Contains(string(a[0].Detail), "before") {
			t.Errorf("second judgement: actions %+v, want a refusal because there was a first one", a)
		}
	})

	t.Run("the flag goes off where the rule allows it", func(t *testing.T) {
		dir := w.folder(t, "slow-tail")
		allow(t, dir)
		r := run(t, dir, "check", "--act", "-o", "json")
		r.want(t, 3, report.Regressed)
		if a := r.report.Actions; len(a) != 1 || a[0].Outcome != report.Verified {
			t.Errorf("actions %+v, want one, verified", a)
		}
		text := run(t, dir, "report", "show", r.report.ID, "-o", "text")
		if text.code != 0 || !strings.Contains(text.stdout, "no history to calibrate on") {
			t.Errorf("report in text:\n%s%s", text.stdout, text.stderr)
		}
	})

	t.Run("waiting is over when the one judgement is made", func(t *testing.T) {
		r := run(t, w.folder(t, "no-change"), "check", "--wait", "-o", "json")
		if r.code != 0 || r.report == nil || r.report.Verdict == report.Regressed || r.report.Looks.Made != 1 {
			t.Errorf("exit %d\n%s\n%s", r.code, r.stdout, r.stderr)
		}
	})

	t.Run("a counter of events that nobody had is no mistake without history", func(t *testing.T) {
		dir := w.folder(t, "no-change")
		rule := filepath.Join(dir, "rule.yaml")
		text := strings.Replace(readFile(t, rule), "http_client_request_retries_total", "http_client_request_refusals_total", 1)
		if r := run(t, dir, "check", "-o", "json"); r.code != 0 {
			t.Fatalf("exit %d\n%s", r.code, r.stderr)
		}
		for _, c := range []struct {
			history string
			code    int
		}{{"7d", 2}, {"0s", 0}} {
			if err := os.WriteFile(rule, []byte(text+fmt.Sprintf("windows: {history: %s}\n", c.history)), 0o644); err != nil {
				t.Fatal(err)
			}
			if r := run(t, dir, "check", "-o", "json"); r.code != c.code || c.code == 0 && !strings.Contains(r.stdout, "signal retries is not judged") {
				t.Errorf("history %s: exit %d, want %d\n%s\n%s", c.history, r.code, c.code, r.stdout, r.stderr)
			}
		}
	})
}
