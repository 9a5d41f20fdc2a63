//go:build browser

package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
)

// Writes what tools/browser/web.test.mjs serves into the directory PAGES: full has a journal of
// 30 days, empty has none, acting has users and a flag file. verified.pictures is there already,
// from the test of this name in internal/report.
func TestWritePages(t *testing.T) {
	dir := os.Getenv("PAGES")
	if dir == "" {
		t.Fatal("PAGES names no directory; start this by make browser")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	const config = "rules: [rule.yaml]\nflag_sources:\n  production: {flagd_file: {path: flags.json, mode: edit}}\n"
	const aRule = "service: checkout-api\nendpoint: [route]\nsignals:\n  - {name: latency, histogram: http_server_request_duration_seconds}\n" +
		"flags:\n  - {key: new-backoff, source: production, off: {variant: \"off\"}, act: true}\n"
	const flagFile = "{\n  \"flags\": {\n    \"new-backoff\": {\n      \"state\": \"ENABLED\",\n      \"variants\": {\"on\": true, \"off\": false},\n      \"defaultVariant\": \"on\"\n    }\n  }\n}\n"
	for name, text := range map[string]string{
		"full/driftwatch.yaml": config, "full/rule.yaml": aRule, "full/flags.json": flagFile,
		"acting/driftwatch.yaml": config, "acting/rule.yaml": aRule, "acting/flags.json": flagFile,
		"acting/web.yaml": fmt.Sprintf("basic_auth_users: {m.okafor: '%s'}\n", hash), "empty/driftwatch.yaml": "",
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil { //nolint:gosec // pages to look at
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pictures, err := os.ReadFile(filepath.Join(dir, "verified.pictures"))
	if err != nil {
		t.Fatal(err)
	}
	today := time.Now().UTC().Truncate(time.Minute)

	w := &past{t: t, pictures: pictures, j: openJournal(t, filepath.Join(dir, "full", "driftwatch.db"))}
	services := []string{"catalog-api", "checkout-api", "orders-worker", "payments-gw", "search-api", "web-bff"}
	kinds := []string{ // most deploys change nothing
		"no-regression", "no-regression", "verified", "no-regression", "improved", "no-regression", "undecided", "no-regression", "not-enough-data", "no-regression",
		"could-not-check", "no-regression", "dry-run", "no-regression", "no-deploy", "no-regression", "not-verified", "no-regression", "overruled", "watching",
	}
	for i := range 84 { // 28 days: what is asked for at midnight still has all of them
		w.deploy(kinds[i%len(kinds)], services[i%len(services)], fmt.Sprintf("2.%d.0", i), today.Add(-time.Hour-time.Duration(i)*8*time.Hour), "")
	}
	w.deploy("verified", "<script>alert(1)</script> \u202epets", "<b>\u2066"+strings.Repeat("long", 2500), today.Add(-3*time.Hour), "<script>alert(2)</script>/\u202e"+strings.Repeat("long", 2500))

	w = &past{t: t, pictures: pictures, j: openJournal(t, filepath.Join(dir, "acting", "driftwatch.db"))}
	w.deploy("dry-run", "checkout-api", "2.42.0", today.Add(-2*time.Hour), "")
}

func openJournal(t *testing.T, path string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// A past is a journal that is being filled.
type past struct {
	t        *testing.T
	j        *journal.Journal
	pictures []byte
	alarms   int
}

var instant = regexp.MustCompile(`2026-03-1\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z`)

// moved is a text whose instants are those of another upgrade than that of the golden reports.
func moved(text []byte, at time.Time) []byte {
	by := at.Sub(time.Date(2026, 3, 11, 14, 2, 10, 0, time.UTC))
	return instant.ReplaceAllFunc(text, func(b []byte) []byte {
		was, err := time.Parse(time.RFC3339Nano, strings.Replace(string(b), " ", "T", 1))
		if err != nil {
			return b
		}
		return []byte(was.Add(by).Format(time.RFC3339Nano))
	})
}

// deploy keeps a golden report as that of a service's upgrade, with its pictures, what was done
// about it, and for some alarms what people said. Given an endpoint, all rows are of that one.
func (w *past) deploy(golden, service, version string, at time.Time, endpoint string) {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join("..", "report", "testdata", golden+".json"))
	must(err)
	r, err := report.Parse(moved(b, at))
	must(err)
	r.Service, r.ID = service, fmt.Sprintf("%s-s-3fa2-%08x", at.Format("20060102-150405"), len(version))
	if r.Deploy != nil {
		r.Deploy.To = report.Word(version)
	}
	if r.UpgradeID != "" {
		r.UpgradeID = report.Word(r.ID[:len(r.ID)-9])
	}
	if golden == "no-regression" { // what improved there has a page of its own here
		r.Verdict = report.NoMeaningfulRise
		r.Comparisons = slices.DeleteFunc(r.Comparisons, func(c report.Comparison) bool { return c.Verdict == report.Improved })
	}
	for i := range r.Comparisons {
		if endpoint != "" {
			r.Comparisons[i].Endpoint = endpoint
			for j := range r.Comparisons[i].Labels {
				r.Comparisons[i].Labels[j].Value = endpoint
			}
		}
	}
	inputs := map[string]string{}
	if r.Verdict == report.Regressed && endpoint == "" {
		inputs["pictures"], err = w.j.PutBlob(w.t.Context(), bytes.TrimSpace(moved(w.pictures, at)))
		must(err)
	}
	body, err := json.Marshal(inputs)
	must(err)
	must(w.j.PutRecord(w.t.Context(), journal.Record{
		ID: r.ID, UpgradeID: string(r.UpgradeID), Service: service, RulePath: "rule.yaml", Now: r.Now.Time, Verdict: string(r.Verdict), ExitCode: r.ExitCode, Body: body, Report: r.JSON(),
	}))
	for i, a := range r.Actions {
		if a.At.IsZero() {
			continue
		}
		in, err := w.j.AppendIntent(w.t.Context(), journal.Intent{
			Key: journal.Key{Rule: "rule.yaml", UpgradeID: string(r.UpgradeID), Source: "staging", Flag: cmp.Or(endpoint, fmt.Sprintf("%s-%d", a.Flag, i))}, Kind: journal.FlagOff, At: a.At.Time, By: "driftwatch",
		}, nil)
		must(err)
		must(w.j.AppendOutcome(w.t.Context(), in.ID, journal.Outcome{At: a.At.Time, Outcome: string(a.Outcome), Reason: string(a.Detail)}))
	}
	if r.Verdict != report.Regressed {
		return
	}
	if w.alarms++; w.alarms%3 > 0 { // every third alarm waits for a judgement
		said := journal.Feedback{ReportID: r.ID, UpgradeID: string(r.UpgradeID), Service: service, Kind: journal.Real, By: "m.okafor", At: at.Add(time.Hour)}
		if w.alarms%6 == 1 {
			said.Kind, said.Text = journal.FalseAlarm, cmp.Or(endpoint, "the index was rebuilt")
		}
		must(w.j.AppendFeedback(w.t.Context(), said))
	}
}
