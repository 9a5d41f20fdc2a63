package web

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/crypto/bcrypt"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// now is when every test looks: the evening of the upgrade in the golden reports.
var now = time.Date(2026, 3, 11, 20, 0, 0, 0, time.UTC)

// A site is a server on a real journal.
type site struct {
	*Server
	t    *testing.T
	j    *journal.Journal
	path string
}

func newSite(t *testing.T, change ...func(*Options)) *site {
	t.Helper()
	path := filepath.Join(t.TempDir(), "driftwatch.db")
	j, err := journal.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	o := Options{
		Journal: j, Loopback: true, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Stored: func(_ context.Context, r journal.Record) (*report.Report, error) { return report.Parse(r.Report) },
		Rules:  []*rule.Rule{{Path: "rules/checkout.yaml", Service: "checkout-api", Text: []byte("service: checkout-api\n"), Alpha: rule.Alpha{Report: 0.05, Act: 0.01}}},
		Flags: func(context.Context) []Flag {
			return []Flag{
				{Key: "new-backoff", Source: "production", Service: "checkout-api", Rule: "rules/checkout.yaml:6", State: "on for some", Revision: "0123abcd", Act: true},
				{Key: "gone", Source: "production", Service: "checkout-api", Rule: "rules/checkout.yaml:9", Err: "flags.json: no such file"},
			}
		},
	}
	o.Shadow = func(_ context.Context, service, key string) (report.Shadow, error) {
		if key == "gone" {
			return report.Shadow{}, errors.New("read report 17: no JSON")
		}
		return report.Shadow{Times: 2, Days: 30, MarkedFalse: 1}, nil
	}
	for _, f := range change {
		f(&o)
	}
	return &site{New(o), t, j, path}
}

// keep stores a golden report of internal/report as that of a service, at a time.
func (s *site) keep(golden, service string, at time.Time, change ...func(*report.Report)) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "report", "testdata", golden+".json"))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := report.Parse(b)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Service, r.Now = service, report.At(at.Add(40*time.Minute))
	upgrade := at.Format("20060102-150405") + "-" + "s-3fa2"
	r.UpgradeID, r.ID = report.Word(upgrade), fmt.Sprintf("%s-%08x", upgrade, len(golden)+len(service)*100)
	if r.Deploy != nil {
		r.Deploy.Started, r.Deploy.At = report.At(at), report.At(at)
	}
	for _, f := range change {
		f(r)
	}
	err = s.j.PutRecord(s.t.Context(), journal.Record{
		ID: r.ID, UpgradeID: string(r.UpgradeID), Service: service, RulePath: "rules/checkout.yaml", Now: r.Now.Time, Verdict: string(r.Verdict), ExitCode: r.ExitCode, Body: []byte("{}"), Report: r.JSON(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.ID
}

// turnOff stores that driftwatch turned a flag off because of an upgrade, and proved it.
func (s *site) turnOff(upgrade, flag, source string) {
	s.t.Helper()
	in, err := s.j.AppendIntent(s.t.Context(), journal.Intent{
		Key: journal.Key{Rule: "rules/checkout.yaml", UpgradeID: upgrade, Source: source, Flag: flag}, Kind: journal.FlagOff, At: now.Add(-5 * time.Hour), By: "driftwatch",
	}, nil)
	if err == nil {
		err = s.j.AppendOutcome(s.t.Context(), in.ID, journal.Outcome{
			At: now.Add(-5 * time.Hour), Outcome: string(report.Verified), RevisionBefore: "0123abcd4567", RevisionAfter: "89abcdef0123", Receipt: []byte("{}"),
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

type request struct {
	method, url, user, password, host string
	form                              url.Values
	header                            map[string]string
}

func (s *site) do(q request) *httptest.ResponseRecorder {
	s.t.Helper()
	var body io.Reader
	if q.form != nil {
		body = strings.NewReader(q.form.Encode())
	}
	r := httptest.NewRequestWithContext(s.t.Context(), q.method, q.url, body)
	r.Host = "localhost:9465"
	if q.host != "" {
		r.Host = q.host
	}
	if q.form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if q.user != "" {
		r.SetBasicAuth(q.user, q.password)
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func (s *site) get(url string) *httptest.ResponseRecorder {
	s.t.Helper()
	return s.do(request{method: "GET", url: url})
}

var tokenInForm = regexp.MustCompile(`name="token" value="([^"]+)"`)

// tokenOf is the token of the first form of a page.
func (s *site) tokenOf(page string) string {
	s.t.Helper()
	m := tokenInForm.FindStringSubmatch(page)
	if m == nil {
		s.t.Fatalf("no form in\n%s", page)
	}
	return m[1]
}

func (s *site) wants(w *httptest.ResponseRecorder, code int, texts ...string) {
	s.t.Helper()
	if w.Code != code {
		s.t.Errorf("status %d, want %d\n%.600s", w.Code, code, w.Body)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			s.t.Errorf("%q is not in\n%.3000s", text, w.Body)
		}
	}
}

// withUsers is a web configuration with one user, and a Hand.
func withUsers(t *testing.T, hand Hand) func(*Options) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "basic_auth_users:\n  m.okafor: %s\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Users, o.Hand, o.Loopback = Users{path}, hand, false }
}

func TestHistory(t *testing.T) {
	s := newSite(t)
	s.wants(s.get("/"), 200, "<h1>0 deploys in 30 days.</h1>", "No deploy seen in 30 days. driftwatch looks for changes of <code>build_info</code>; try <code>make demo</code>.")
	at := now.Add(-6 * time.Hour)
	bad := s.keep("verified", "checkout-api", at)
	s.keep("no-regression", "checkout-api", at.Add(-24*time.Hour))
	s.keep("undecided", "payments-gw", at.Add(-48*time.Hour))
	s.keep("could-not-check", "search-api", at.Add(-49*time.Hour))
	s.keep("not-enough-data", "search-api", at.Add(-50*time.Hour))
	s.keep("improved", "catalog-api", at.Add(-400*24*time.Hour))                                      // long ago
	for _, upgrade := range []string{bad[:len("20260311-140000-s-3fa2")], "20250101-000000-s-3fa2"} { // the second one is not listed
		s.turnOff(upgrade, "new-backoff", "production")
	}

	page := s.get("/")
	// 40 minutes after each upgrade every golden report is judged (keep); 2 of 3 deploys that could be judged have no alarm.
	s.wants(page, 200, "5 deploys in 30 days. 1 regression confirmed, 1 flag turned off, 0 false alarms.", "Last checked 40 min after each deploy.",
		"Of <b>3 deploys</b> that could be judged, <b>1 alarmed</b>", "The rules promise at most 1 %.", "5 of 5 shown", "Wed 11 March<", reportURL(bad),
		"0 real, 0 false, 1 not marked")
	s.wants(s.get("/?service=search-api"), 200, "2 of 2 shown")
	s.wants(s.get("/?verdict=undecided"), 200, "1 of 1 shown")
	s.wants(s.get("/?q=AUTHORIZE&verdict=regressed"), 200, "1 shown")
	s.wants(s.get("/?q=nowhere"), 200, "No deploy is like that")
	s.wants(s.get("/?since=2025-02-01&until=2025-02-28"), 200, "1 of 1 shown")

	// An older report of an upgrade does not show beside its newest one, whatever is asked for.
	s.keep("watching", "checkout-api", at, func(r *report.Report) { r.ID += "-early"; r.Now = report.At(at.Add(8 * time.Minute)) })
	s.wants(s.get("/?verdict=undecided"), 200, "1 of 1 shown")

	// What people call false counts, with the exact interval: by R, binom.test(1, 3) is 0.8 to 91 %.
	token := s.tokenOf(page.Body.String())
	w := s.do(request{method: "POST", url: reportURL(bad) + "/feedback", form: url.Values{"kind": {"false_alarm"}, "text": {"index rebuild"}, "token": {token}}})
	if s.wants(w, 303); w.Header().Get("Location") != reportURL(bad)+"#said" {
		t.Errorf("leads to %q", w.Header().Get("Location"))
	}
	s.wants(s.get("/"), 200, "called <b>1 of them false</b>: 33 % of deploys, 95 % interval 0.8 to 91 %", "false alarm, anonymous on loopback: index rebuild", "1 false alarm.", "0 real, 1 false, 0 not marked")
	s.wants(s.get(reportURL(bad)), 200, "false alarm, anonymous on loopback", "index rebuild")
	said, err := s.j.Feedbacks(t.Context(), journal.FeedbackFilter{})
	if err != nil || len(said) != 1 || said[0].ReportID != bad || said[0].Kind != journal.FalseAlarm || said[0].UpgradeID != bad[:len(said[0].UpgradeID)] {
		t.Errorf("the journal holds %+v, %v", said, err)
	}
}

// Hostile names, one of a script and one of 10 kB, are text wherever they stand.
func TestHostileStrings(t *testing.T) {
	s := newSite(t, func(o *Options) {
		o.Rules[0].Text, o.Rules[0].Service = []byte("</pre><script>alert(3)</script>"), "<script>alert(4)</script>"
		o.Flags = func(context.Context) []Flag {
			return []Flag{{Key: `"><script>alert(5)</script>`, Source: "a&b", State: "on"}}
		}
	})
	const evil = "<script>alert(1)</script>"
	long := strings.Repeat("é/<b>", 2000)
	id := s.keep("verified", evil, now.Add(-5*time.Hour), func(r *report.Report) {
		r.Deploy.From, r.Deploy.To = "\"><img src=x onerror=alert(2)>", report.Word(evil)
		for i := range r.Comparisons {
			r.Comparisons[i].Endpoint = evil + long
			for j := range r.Comparisons[i].Labels {
				r.Comparisons[i].Labels[j].Value = evil + long
			}
		}
	})
	for _, kind := range []journal.FeedbackKind{journal.Real, journal.Comment} {
		err := s.j.AppendFeedback(t.Context(), journal.Feedback{ReportID: id, UpgradeID: "20260311-150000-s-3fa2", Service: evil, Kind: kind, Text: evil, By: evil, At: now})
		if err != nil {
			t.Fatal(err)
		}
	}
	key := journal.Key{Rule: evil, UpgradeID: evil, Source: evil, Flag: evil}
	if _, err := s.j.AppendIntent(t.Context(), journal.Intent{Key: key, Kind: journal.FlagOff, At: now, By: evil}, nil); err != nil {
		t.Fatal(err)
	}
	pages := []string{"/", "/?q=" + url.QueryEscape(evil), "/?service=" + url.QueryEscape(evil), "/?verdict=" + url.QueryEscape(evil), "/?x=" + url.QueryEscape(evil), reportURL(id), "/flags", "/rules", "/" + url.PathEscape(evil), "/reports/" + url.PathEscape(evil)}
	for _, at := range pages {
		w := s.get(at)
		body := strings.ReplaceAll(w.Body.String(), "<script>/*", "")
		if ours := strings.Count(body, "<script>") - strings.Count(body, `data-print`); strings.Contains(body, "<script>alert") || strings.Contains(body, "<img") || ours > 1 {
			t.Errorf("%s holds a script or an image of the data", at)
		}
		if strings.Contains(at, "reports/2") && !strings.Contains(body, "&lt;script&gt;alert(1)") {
			t.Errorf("%s does not show the name", at)
		}
		if len(body) > 2<<20 {
			t.Errorf("%s has %d bytes", at, len(body))
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	id := s.keep("verified", "checkout-api", now.Add(-5*time.Hour))
	for _, at := range []string{"/", "/nowhere", reportURL(id), "/flags", "/rules", "/api/v1/reports", "/api/v1/flags", "/metrics", "/-/ready"} {
		h := s.get(at).Header()
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "form-action 'self'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", at, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", at, h)
		}
	}
	page := s.get("/").Body.String()
	if strings.Contains(page, "<script") || strings.Contains(page, "style=") || strings.Contains(page, "<style") {
		t.Error("the history holds a script or a style, which its policy forbids")
	}
	style := regexp.MustCompile(`href="(/style.css[^"]+)"`).FindStringSubmatch(page)[1]
	if c := s.get(style).Header().Get("Cache-Control"); !strings.Contains(c, "immutable") {
		t.Errorf("the style sheet is kept %q", c)
	}
}

func TestRefusals(t *testing.T) {
	s := newSite(t)
	id := s.keep("verified", "checkout-api", now.Add(-5*time.Hour))
	tests := []struct {
		name string
		q    request
		code int
		text string
	}{
		{"no such page", request{method: "GET", url: "/nowhere"}, 404, "there is no page"},
		{"no such report", request{method: "GET", url: "/reports/1999"}, 404, "no report &#34;1999&#34;; the nearest are " + id},
		{"a method", request{method: "DELETE", url: reportURL(id)}, 405, "takes GET and HEAD, not DELETE"},
		{"a form by GET", request{method: "GET", url: reportURL(id) + "/feedback"}, 405, "takes POST, not GET"},
		{"a parameter", request{method: "GET", url: "/?servise-name=a"}, 400, "unknown parameter &#34;servise-name&#34;; known: service"},
		{"twice", request{method: "GET", url: "/?service=a&service=b"}, 400, "given 2 times"},
		{"a day", request{method: "GET", url: "/?since=yesterday"}, 400, "write it like 2026-03-11"},
		{"turned around", request{method: "GET", url: "/?since=2026-03-11&until=2026-03-01"}, 400, "since is after until"},
		{"too long", request{method: "GET", url: "/?since=0001-01-01"}, 400, "narrow since and until"},
		{"a place", request{method: "GET", url: "/?after=1.2"}, 400, "is no place in the history"},
		{"a verdict", request{method: "GET", url: "/?verdict=bad"}, 400, "is not one of regressed"},
		{"a limit", request{method: "GET", url: "/api/v1/reports?limit=0"}, 400, `limit \"0\" is not between 1 and 1000`},
		{"a cursor", request{method: "GET", url: "/api/v1/reports?cursor=x"}, 400, "take it from next"},
		{"no token", request{method: "POST", url: reportURL(id) + "/feedback", form: url.Values{"kind": {"real"}}}, 403, "the form is not of this server"},
		{"from another site", request{method: "POST", url: reportURL(id) + "/feedback", form: url.Values{}, header: map[string]string{"Sec-Fetch-Site": "cross-site"}}, 403, "a page of another site"},
		{"a large form", request{method: "POST", url: reportURL(id) + "/feedback", form: url.Values{"text": {strings.Repeat("x", maxBody)}}}, 413, "holds more than 65536 bytes"},
		{"another name of this machine", request{method: "GET", url: "/", host: "evil.example:9465"}, 403, "call it localhost"},
		{"read-only", request{method: "GET", url: "/flags/off?source=production&key=new-backoff"}, 403, "the pages are read-only"},
		{"read-only, by form", request{method: "POST", url: "/flags/off", form: url.Values{}}, 403, "the pages are read-only"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			w := s.do(tt.q)
			s.wants(w, tt.code, tt.text)
			if tt.code == 405 && w.Header().Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
	s.t = t
	if w := s.get("//evil.example/%2e%2e"); strings.Contains(w.Header().Get("Location"), "evil.example") && strings.HasPrefix(w.Header().Get("Location"), "//") {
		t.Errorf("leads to %q", w.Header().Get("Location"))
	}
	if w := s.do(request{method: "HEAD", url: "/"}); w.Code != 200 {
		t.Errorf("HEAD gives %d", w.Code)
	}
	for name, form := range map[string]url.Values{
		"a kind": {"kind": {"maybe"}}, "an empty comment": {"kind": {"comment"}, "text": {" \r\n"}}, "not UTF-8": {"kind": {"real"}, "text": {"\xff"}}, "too long": {"kind": {"real"}, "text": {strings.Repeat("x", maxText+1)}},
	} {
		form.Set("token", s.tokenOf(s.get(reportURL(id)).Body.String()))
		if w := s.do(request{method: "POST", url: reportURL(id) + "/feedback", form: form}); w.Code != 400 {
			t.Errorf("%s gives %d", name, w.Code)
		}
	}
}

// A token is for one purpose, one user and half a day.
func TestTokens(t *testing.T) {
	clock := now
	s := newSite(t, func(o *Options) { o.Clock = func() time.Time { return clock } })
	a := s.keep("verified", "checkout-api", now.Add(-5*time.Hour))
	b := s.keep("undecided", "checkout-api", now.Add(-9*time.Hour))
	token := s.tokenOf(s.get(reportURL(a)).Body.String())
	post := func(id string, q request) int {
		q.method, q.url, q.form = "POST", reportURL(id)+"/feedback", url.Values{"kind": {"real"}, "token": {token}}
		return s.do(q).Code
	}
	if code := post(b, request{}); code != 403 {
		t.Errorf("on another report: %d", code)
	}
	if code := post(a, request{user: "x", password: "y"}); code != 403 {
		t.Errorf("by another user: %d", code)
	}
	clock = now.Add(tokenLife + time.Second)
	if code := post(a, request{}); code != 403 {
		t.Errorf("too late: %d", code)
	}
	clock = now.Add(tokenLife)
	if code := post(a, request{}); code != 303 {
		t.Errorf("in time: %d", code)
	}
}

// A damaged journal is a fault that every page names, and not an empty history.
func TestDamagedJournal(t *testing.T) {
	s := newSite(t)
	s.keep("verified", "checkout-api", now.Add(-5*time.Hour))
	if err := s.j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"/", "/reports/2026", "/flags", "/api/v1/reports", "/api/v1/flags"} {
		if w := s.get(at); w.Code != 500 || strings.Contains(w.Body.String(), "No report") {
			t.Errorf("%s gives %d", at, w.Code)
		}
	}
	s.wants(s.get("/-/ready"), 503, "error: ")
	s.wants(s.get("/-/healthy"), 200)
	s.wants(s.get("/metrics"), 200, "driftwatch_journal_errors_total 6", `driftwatch_http_requests_total{code="500",method="GET",route="/flags"} 1`)
}

// One record that cannot be read is listed with the reason, and hides no other.
func TestDamagedRecords(t *testing.T) {
	s := newSite(t, func(o *Options) {
		o.Stored = func(_ context.Context, r journal.Record) (*report.Report, error) {
			out, err := report.Parse(r.Report)
			if err == nil && r.Service == "search-api" {
				out.Pictures = &report.Pictures{Notes: []string{"parse pictures: <broken>"}}
			}
			return out, err
		}
	})
	at := now.Add(-6 * time.Hour)
	whole := s.keep("no-regression", "checkout-api", at)
	s.keep("verified", "search-api", at.Add(-time.Hour))
	put := func(id, verdict, text string) {
		t.Helper()
		err := s.j.PutRecord(t.Context(), journal.Record{ID: id + "-1", UpgradeID: id, Service: "web-bff", Now: at, Verdict: verdict, Report: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("20260311-110000-cut-3fa2", "undecided", `{"schema": "driftwatch.report/v1", "id": `)
	put("20260311-100000-rowless-3fa2", "regressed", `{"schema": "driftwatch.report/v1", "verdict": "regressed", "deploy": {"at": "2026-03-11T10:00:00Z"}}`)
	put("20260311-090000-word-3fa2", "of a newer driftwatch", `{"schema": "driftwatch.report/v2"}`)
	changed := s.keep("improved", "catalog-api", at.Add(-5*time.Hour))
	s.damage(t, "DROP TRIGGER record_stays", "UPDATE record SET verdict = 'no_meaningful_rise' WHERE id = '"+changed+"'")

	page := s.get("/")
	s.wants(page, 200, "6 of 6 shown", reportURL(whole), "4 reports of this page cannot be read; the others are whole.",
		"parse report: unexpected EOF", "the report does not hold together", "schema is &#34;driftwatch.report/v2&#34;", "record "+changed+" is not what was stored",
		"pictures not read: parse pictures: &lt;broken&gt;")
	if n := strings.Count(page.Body.String(), "This report cannot be read"); n != 4 {
		t.Errorf("%d rows say that their report cannot be read, want 4", n)
	}
	// A verdict that is no word of ours is counted as the cautious one.
	s.wants(s.get("/?verdict=could_not_check"), 200, "20260311-090000-word-3fa2-1", "1 of 1 shown")
	s.wants(s.get("/?q=nothing-is-named-so"), 200, "4 reports of those searched cannot be read")

	s.wants(s.get("/reports/20260311-110000-cut-3fa2-1"), 500, "the report 20260311-110000-cut-3fa2-1 cannot be read: parse report", "the journal says of it: undecided", "Other reports are not touched")
	s.wants(s.get("/reports/20260311-100000-rowless-3fa2-1"), 500, "fault in driftwatch", "may be damaged in the journal")
	s.wants(s.get(reportURL(changed)), 500, "is not what was stored", "restore a copy")
	s.wants(s.get("/api/v1/reports/20260311-110000-cut-3fa2-1"), 500, "what is stored is not JSON")
	s.wants(s.get("/api/v1"+reportURL(whole)), 200, `"verdict": "improved"`)
}

// damage changes the file of the journal behind its back.
func (s *site) damage(t *testing.T, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, text := range statements {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
}

// What people said, and what was done, may be damaged while the reports are whole.
func TestDamagedFeedbackAndActions(t *testing.T) {
	s := newSite(t)
	at := now.Add(-6 * time.Hour)
	for i, service := range []string{"checkout-api", "search-api", "web-bff"} {
		id := s.keep("verified", service, at.Add(-time.Duration(i)*time.Hour))
		if service == "web-bff" {
			continue
		}
		err := s.j.AppendFeedback(t.Context(), journal.Feedback{ReportID: id, UpgradeID: id[:len("20260311-140000-s-3fa2")], Service: service, Kind: journal.FalseAlarm, Text: "said of " + service, By: "m.okafor", At: now})
		if err != nil {
			t.Fatal(err)
		}
		s.turnOff(id[:len("20260311-140000-s-3fa2")], "new-backoff", "production")
	}
	s.damage(t, "DROP TRIGGER feedback_stays", "UPDATE feedback SET kind = 'real' WHERE service = 'search-api'", "DROP TRIGGER intent_stays", "UPDATE intent SET by = 'nobody' WHERE id = 1")
	page := s.get("/")
	s.wants(page, 200, "What people said cannot be read in full", "feedback 2 is not what was stored", "said of checkout-api", "at least 1 false alarm.",
		"Which flags were turned off cannot be read", "flags turned off not known", "3 of 3 shown")
	if strings.Contains(page.Body.String(), `name="kind"`) {
		t.Error("people are asked for what may be in the journal")
	}
	s.wants(s.get("/flags"), 500, "What driftwatch did to the flags cannot be read", "intent 1 is not what was stored", "on for some", "unknown, without the journal", "Not known.")
	s.wants(s.get(reportURL("20260311-130000-s-3fa2")), 200, "What people said cannot be read in full", "What is readable says nothing.")
	s.wants(s.get("/api/v1/flags"), 500, "intent 1 is not what was stored")
}

// A file that is cut while it is served: pages say that and what to do, and never that there is nothing.
func TestCutJournal(t *testing.T) {
	s := newSite(t)
	for i := range 300 {
		s.keep("no-regression", "checkout-api", now.Add(-time.Duration(i+1)*time.Hour))
	}
	s.damage(t, "PRAGMA wal_checkpoint(TRUNCATE)")
	info, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.path, info.Size()/3/4096*4096); err != nil {
		t.Fatal(err)
	}
	s.wants(s.get("/"), 500, "error: ", s.path, "restore a copy, or move it away")
	s.wants(s.get("/-/ready"), 503, "restore a copy, or move it away")
}

// Where a page cannot hold all, older deploys without a change wait behind a link, and those with
// one do not.
func TestOlderDeploysWithoutAChange(t *testing.T) {
	s := newSite(t)
	nothing := func(r *report.Report) { r.Verdict = report.NoMeaningfulRise }
	for i := range 30 {
		s.keep("no-regression", "checkout-api", now.Add(-time.Duration(i+1)*20*time.Hour), nothing) // over 25 days
	}
	s.wants(s.get("/"), 200, "30 of 30 shown")
	for i := range 11 {
		s.keep("undecided", "payments-gw", now.Add(-time.Duration(i+1)*60*time.Hour-7*time.Minute))
	}
	page := s.get("/")
	// Until is midnight after now, 20:00; 10 days before it lie 236 h back: 11 of the 30 are younger.
	s.wants(page, 200, "22 of 41 shown", "Show 19 older deploys without a change")
	link := regexp.MustCompile(`<a href="([^"]*all=1[^"]*)"`).FindStringSubmatch(page.Body.String())
	if link == nil {
		t.Fatal("no link to them")
	}
	s.wants(s.get(strings.ReplaceAll(link[1], "&amp;", "&")), 200, "40 of 41 shown", "Older deploys")
	s.wants(s.get("/?verdict=no_meaningful_rise"), 200, "30 of 30 shown")
	s.wants(s.get("/?all=yes"), 400, "is not 1")
}

// Days without a deploy say so, and where there are some.
func TestNoDeploySeen(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Rules[0].Upgrade = &rule.UpgradeMetric{Metric: "shop_build_info"} })
	id := s.keep("improved", "catalog-api", now.Add(-400*24*time.Hour))
	page := s.get("/")
	s.wants(page, 200, "No deploy seen in 30 days. driftwatch looks for changes of <code>shop_build_info</code>", "The newest report in the journal is of 2025-02-04 20:40:00 UTC")
	link := regexp.MustCompile(`<a href="([^"]+)">Show the days before it`).FindStringSubmatch(page.Body.String())
	if link == nil {
		t.Fatal("no link to the older days")
	}
	s.wants(s.get(strings.ReplaceAll(link[1], "&amp;", "&")), 200, reportURL(id), "1 of 1 shown")
}

// Pages do not move while reports are added: every deploy is shown once, none is left out.
func TestPaging(t *testing.T) {
	s := newSite(t)
	var want []string
	for i := range 3*pageLength + 5 {
		want = append(want, s.keep("no-regression", "checkout-api", now.Add(-time.Duration(i+1)*time.Hour)))
	}
	link := regexp.MustCompile(`rel="next" href="([^"]+)"`)
	shown := regexp.MustCompile(`<a class="go" href="/reports/([^"]+)"`)
	var got []string
	for at, page := "/", 0; at != ""; page++ {
		body := s.get(at).Body.String()
		for _, m := range shown.FindAllStringSubmatch(body, -1) {
			got = append(got, m[1])
		}
		if at = ""; link.MatchString(body) {
			at = strings.ReplaceAll(link.FindStringSubmatch(body)[1], "&amp;", "&")
		}
		// Meanwhile: a new deploy, an old one that is stored late, a new report of one already listed.
		s.keep("undecided", "new", now.Add(-time.Duration(page+1)*time.Minute))
		s.keep("undecided", "late", now.Add(-100*time.Hour-time.Duration(page+1)*time.Minute))
		s.keep("improved", "checkout-api", now.Add(-time.Duration(page+1)*time.Hour))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d deploys in all pages, want %d", len(got), len(want))
	}

	// The same by the API.
	total := map[string]int{}
	for cursor, page := "", 0; ; page++ {
		var out apiRecords
		if err := json.Unmarshal(s.get("/api/v1/reports?limit=30&cursor="+cursor).Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Reports {
			total[r.ID]++
		}
		s.keep("undecided", "newest", now.Add(time.Duration(page+1)*time.Hour))
		if cursor = string(out.Next); cursor == "" {
			break
		}
	}
	for _, id := range want {
		if total[id] != 1 {
			t.Errorf("%s is listed %d times", id, total[id])
		}
	}
}

func TestTenThousandRecords(t *testing.T) {
	s := newSite(t)
	for i := range 10_000 {
		at := now.Add(-time.Duration(i+1) * 4 * time.Minute)
		id := at.Format("20060102-150405") + "-s-3fa2"
		err := s.j.PutRecord(t.Context(), journal.Record{ID: id + "-1", UpgradeID: id, Service: fmt.Sprintf("svc-%d", i%40), Now: at, Verdict: "no_meaningful_rise", Report: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
	}
	w := s.get("/")
	// Reports that cannot be read are listed, too. 27.8 days of 4 minutes lie in the 30 that are shown.
	s.wants(w, 200, "10000 deploys in 30 days", "40 of 10000 shown", "28 more services are in the list below", "9740 older deploys are not drawn")
	if w.Body.Len() > 3<<20 {
		t.Errorf("the page has %d bytes", w.Body.Len())
	}
	s.wants(s.get("/?q=svc-39"), 200, "Search older deploys")
}

// A fakeHand remembers what it was asked.
type fakeHand struct{ done []string }

func (h *fakeHand) proposal(key string) (Proposal, error) {
	if key == "gone" {
		return Proposal{}, &Refusal{Status: 404, Err: errors.New("no such flag")}
	}
	if key == "conflict" {
		return Proposal{}, &Refusal{Status: 409, Err: errors.New("already off")}
	}
	return Proposal{Key: key, Source: "production", Revision: "r1", Diff: "-  \"on\"\n+  \"off\"", Words: "Everybody would get off."}, nil
}

func (h *fakeHand) act(what, key, revision, by string) (string, error) {
	if _, err := h.proposal(key); err != nil {
		return "", err
	}
	if revision != "r1" {
		return "", &Refusal{Status: 409, Err: errors.New("changed by somebody else")}
	}
	h.done = append(h.done, what+" "+key+" by "+by)
	return "done", nil
}

func (h *fakeHand) Off(_ context.Context, _, key string) (Proposal, error) {
	return h.proposal(key)
}

func (h *fakeHand) TurnOff(_ context.Context, _, key, revision, by, reason string) (string, error) {
	return h.act("off", key, revision, by+": "+reason)
}

func (h *fakeHand) Restorable(_ context.Context, _, key string) (Proposal, error) {
	return h.proposal(key)
}

func (h *fakeHand) Restore(_ context.Context, _, key, revision, by string) (string, error) {
	return h.act("restore", key, revision, by)
}

func (h *fakeHand) Plans(context.Context) ([]string, error) { return []string{"p"}, nil }

func (h *fakeHand) Plan(_ context.Context, name string) (Proposal, error) { return h.proposal(name) }

func (h *fakeHand) Apply(_ context.Context, name, revision, by string) (string, error) {
	return h.act("apply", name, revision, by)
}

func TestActing(t *testing.T) {
	hand := &fakeHand{}
	s := newSite(t, withUsers(t, hand))
	user := func(q request) *httptest.ResponseRecorder { q.user, q.password = "m.okafor", "secret"; return s.do(q) }
	s.wants(user(request{method: "GET", url: "/flags"}), 200, `href="/flags/off?source=production&amp;key=new-backoff"`, `href="/plans/p"`)
	page := user(request{method: "GET", url: "/flags/off?source=production&key=new-backoff"})
	s.wants(page, 200, "Turn off <code>new-backoff</code>?", "&#34;off&#34;", `name="revision" value="r1"`)
	token := s.tokenOf(page.Body.String())
	form := func(change ...string) url.Values {
		v := url.Values{"source": {"production"}, "key": {"new-backoff"}, "revision": {"r1"}, "token": {token}, "reason": {"too many retries"}}
		for i := 0; i < len(change); i += 2 {
			v.Set(change[i], change[i+1])
		}
		return v
	}
	for name, q := range map[string]request{
		"nobody":             {form: form()},
		"a wrong password":   {form: form(), user: "m.okafor", password: "guess"},
		"an unknown user":    {form: form(), user: "t.lind", password: "secret"},
		"another flag":       {form: form("key", "other"), user: "m.okafor", password: "secret"},
		"another revision":   {form: form("revision", "r2"), user: "m.okafor", password: "secret"},
		"from another site":  {form: form(), user: "m.okafor", password: "secret", header: map[string]string{"Origin": "https://evil.example"}},
		"no token":           {form: form("token", ""), user: "m.okafor", password: "secret"},
		"a token cut in two": {form: form("token", token[:20]), user: "m.okafor", password: "secret"},
	} {
		q.method, q.url = "POST", "/flags/off"
		if w := s.do(q); w.Code != 403 || len(hand.done) > 0 {
			t.Fatalf("%s: status %d, done %q", name, w.Code, hand.done)
		}
	}
	s.wants(user(request{method: "POST", url: "/flags/off", form: form()}), 303)
	page = user(request{method: "GET", url: "/flags/restore?source=production&key=new-backoff"})
	token = s.tokenOf(page.Body.String())
	s.wants(user(request{method: "POST", url: "/flags/restore", form: form()}), 303)
	page = user(request{method: "GET", url: "/plans/p"})
	token = s.tokenOf(page.Body.String())
	s.wants(user(request{method: "POST", url: "/plans/p", form: form()}), 303)
	want := []string{"off new-backoff by m.okafor: too many retries", "restore new-backoff by m.okafor", "apply p by m.okafor"}
	if !slices.Equal(hand.done, want) {
		t.Errorf("done %q, want %q", hand.done, want)
	}
}

// The page of flags says who changed what, why, between which revisions, what the flag is now and
// how to take it back; and what driftwatch would have done.
func TestFlags(t *testing.T) {
	s := newSite(t)
	id := s.keep("verified", "checkout-api", now.Add(-6*time.Hour))
	upgrade := id[:len("20260311-140000-s-3fa2")]
	s.turnOff(upgrade, "new-backoff", "production")
	s.turnOff("20260311-150000-s-3fa2", "it's old", "production") // no rule names it
	s.wants(s.get("/flags"), 200, "since <time", "by driftwatch", "driftwatch flags restore new-backoff", "<code>0123abcd4567</code> → <code>89abcdef0123</code>",
		`because of <a href="`+reportURL(id)+`">a confirmed regression</a>`, "verified off", "on for some", "no rule names the flag any more", "because of upgrade 20260311-150000-s-3fa2",
		"would have turned it off 2 times in 30 days, 1 marked false", "unknown</span><span class=\"fb\">read report 17: no JSON", "flags.json: no such file")
	if page := s.get("/flags").Body.String(); strings.Contains(page, `href="/flags/`) {
		t.Error("a read-only page offers to act")
	}

	// A person takes it back: what is undone is said at the old change, and how at the new one.
	in, err := s.j.AppendIntent(t.Context(), journal.Intent{Key: journal.Key{Rule: "rules/checkout.yaml", UpgradeID: upgrade, Source: "production", Flag: "new-backoff"}, Kind: journal.Restore, At: now.Add(-time.Hour), By: "m.okafor: it was the index"}, nil)
	if err == nil {
		err = s.j.AppendOutcome(t.Context(), in.ID, journal.Outcome{At: now.Add(-time.Hour), Outcome: string(report.Verified), RevisionBefore: "89abcdef0123", RevisionAfter: "0123abcd4567", Receipt: []byte("{}")})
	}
	if err != nil {
		t.Fatal(err)
	}
	page := s.get("/flags")
	s.wants(page, 200, "restored by m.okafor: it was the index", "takes back what was done because of", "restored 11 March 19:00 by m.okafor", "driftwatch flags off new-backoff")
	if strings.Contains(page.Body.String(), "driftwatch flags restore new-backoff") {
		t.Error("what was taken back is offered to be taken back")
	}

	hand := &fakeHand{}
	acting := newSite(t, withUsers(t, hand))
	acting.turnOff("20260311-140000-s-3fa2", "new-backoff", "production")
	w := acting.do(request{method: "GET", url: "/flags", user: "m.okafor", password: "secret"})
	acting.wants(w, 200, "driftwatch flags restore new-backoff")
	if n := strings.Count(w.Body.String(), `href="/flags/restore?source=production&amp;key=new-backoff"`); n != 2 { // of the flag, and of the change
		t.Errorf("%d buttons restore it, want 2", n)
	}

	var out struct {
		Flags []struct {
			Key     string
			DryRuns *report.Shadow `json:"dry_runs"`
		}
	}
	if err := json.Unmarshal(s.get("/api/v1/flags").Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Flags) != 2 || out.Flags[0].DryRuns == nil || *out.Flags[0].DryRuns != (report.Shadow{Times: 2, Days: 30, MarkedFalse: 1}) || out.Flags[1].DryRuns != nil {
		t.Errorf("the API says %+v", out.Flags)
	}
}

// A rule is said in words, which are those of its file.
func TestRules(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "rules", "checkout.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := rule.Parse("rules/checkout.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(o *Options) { o.Rules = parsed })
	s.wants(s.get("/rules"), 200, "Compared, for each method and route", "latency, quantile 0.99: changes of at least 10 % and 5 ms", "retries: changes of at least 20 % and 0.1 percentage points",
		"baseline 60 min, settle time 3 min", "looks from 5 min to 60 min after the upgrade", "ranked among placebos of 7 days", "upgrades are changes of version in build_info",
		"payments.backoff-decorrelated-jitter in production, off by variant off; driftwatch may turn it off", "confirmed at 1 %, suspected at 5 %", "exposure: sum(rate(")
	parsed[0].Flags, parsed[0].Upgrade, parsed[0].Windows.History, parsed[0].Windows.Step = nil, nil, 0, 15*time.Second
	parsed[0].Signals[0].MinimumEffectAuto, parsed[0].Windows.Guard = true, 90*time.Second
	s.wants(s.get("/rules"), 200, "nothing is turned off", "upgrades are told with --at", "no history", "latency, quantile 0.99: changes of at least 10 %, or what history can tell apart if that is more, and 5 ms", "settle time 90 s")
}

// Where other machines can connect, feedback has a name, and the name is proved.
func TestFeedbackByName(t *testing.T) {
	s := newSite(t, withUsers(t, nil))
	id := s.keep("verified", "checkout-api", now.Add(-5*time.Hour))
	token := s.tokenOf(s.do(request{method: "GET", url: reportURL(id), user: "m.okafor", password: "secret"}).Body.String())
	q := request{method: "POST", url: reportURL(id) + "/feedback", form: url.Values{"kind": {"real"}, "token": {token}}, user: "m.okafor", password: "guess"}
	s.wants(s.do(q), 403, ErrUnknownUser.Error())
	q.password = "secret"
	s.wants(s.do(q), 303)
	said, err := s.j.Feedbacks(t.Context(), journal.FeedbackFilter{})
	if err != nil || len(said) != 1 || said[0].By != "m.okafor" {
		t.Errorf("%+v, %v", said, err)
	}
	open := newSite(t, func(o *Options) { o.Loopback = false })
	id = open.keep("verified", "checkout-api", now.Add(-5*time.Hour))
	if strings.Contains(open.get(reportURL(id)).Body.String(), "<form") {
		t.Error("a form is offered to nobody in particular")
	}
}

// Every address is described, and every answer that the description promises fits it.
func TestDescription(t *testing.T) {
	hand := &fakeHand{}
	s := newSite(t, withUsers(t, hand))
	id := s.keep("verified", "checkout-api", now.Add(-5*time.Hour))
	s.keep("no-deploy", "checkout-api", now.Add(-9*time.Hour), func(r *report.Report) { r.UpgradeID = "" })
	user := func(method, at string, form url.Values) request {
		return request{method: method, url: at, form: form, user: "m.okafor", password: "secret"}
	}
	formAt := func(get string, more ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		v.Set("token", s.tokenOf(s.do(user("GET", get, nil)).Body.String()))
		return v
	}
	purpose := func(p string) string {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", nil)
		r.SetBasicAuth("m.okafor", "secret")
		return s.token(r, p)
	}
	large := url.Values{"text": {strings.Repeat("x", maxBody)}}
	flag := "?source=production&key="
	asked := map[string]request{
		"get /api/v1/reports 200": user("GET", "/api/v1/reports?limit=1", nil), "get /api/v1/reports 400": user("GET", "/api/v1/reports?x=1", nil),
		"get /api/v1/reports/{id} 200": user("GET", "/api/v1"+reportURL(id), nil), "get /api/v1/reports/{id} 404": user("GET", "/api/v1/reports/2", nil),
		"get /api/v1/flags 200": user("GET", "/api/v1/flags", nil), "get /api/v1/openapi.json 200": user("GET", "/api/v1/openapi.json", nil),
		"get /api/v1/report.schema.json 200": user("GET", "/api/v1/report.schema.json", nil),
		"get / 200":                          user("GET", "/", nil), "get / 400": user("GET", "/?x=1", nil),
		"get /reports/{id} 200": user("GET", reportURL(id), nil), "get /reports/{id} 404": user("GET", "/reports/1", nil),
		"post /reports/{id}/feedback 303": user("POST", reportURL(id)+"/feedback", formAt(reportURL(id), "kind", "real")),
		"post /reports/{id}/feedback 400": user("POST", reportURL(id)+"/feedback", formAt(reportURL(id), "kind", "x")),
		"post /reports/{id}/feedback 403": user("POST", reportURL(id)+"/feedback", url.Values{}),
		"post /reports/{id}/feedback 404": user("POST", "/reports/none/feedback", url.Values{"kind": {"real"}, "token": {purpose("feedback none")}}),
		"post /reports/{id}/feedback 413": user("POST", reportURL(id)+"/feedback", large),
		"get /flags 200":                  user("GET", "/flags", nil), "get /rules 200": user("GET", "/rules", nil), "get /style.css 200": user("GET", "/style.css", nil), "get /favicon.ico 200": user("GET", "/favicon.ico", nil),
		"get /metrics 200": user("GET", "/metrics", nil), "get /-/healthy 200": user("GET", "/-/healthy", nil), "get /-/ready 200": user("GET", "/-/ready", nil),
	}
	for at, kind := range map[string]string{"/flags/off": "off production ", "/flags/restore": "restore production ", "/plans/{name}": "apply "} {
		address := func(key string) string {
			if at == "/plans/{name}" {
				return "/plans/" + key
			}
			return at + flag + key
		}
		post := func(key, revision string) request {
			to, _, _ := strings.Cut(address(key), "?")
			return user("POST", to, url.Values{"source": {"production"}, "key": {key}, "revision": {revision}, "token": {purpose(kind + key + " " + revision)}})
		}
		to, _, _ := strings.Cut(address("a"), "?")
		asked["get "+at+" 200"], asked["get "+at+" 404"], asked["get "+at+" 409"] = user("GET", address("a"), nil), user("GET", address("gone"), nil), user("GET", address("conflict"), nil)
		asked["get "+at+" 403"], asked["post "+at+" 403"] = request{method: "GET", url: address("a")}, user("POST", to, url.Values{})
		asked["post "+at+" 303"], asked["post "+at+" 404"], asked["post "+at+" 409"] = post("a", "r1"), post("gone", "r1"), post("a", "r2")
		asked["post "+at+" 413"] = user("POST", to, large)
	}

	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]any `json:"content"`
			} `json:"responses"`
		} `json:"paths"`
	}
	text := s.do(user("GET", "/api/v1/openapi.json", nil)).Body.Bytes()
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	const base = "http://d/api/v1/openapi.json"
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for at, b := range map[string][]byte{base: text, "http://d/api/v1/report.schema.json": report.Schema()} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(at, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, rt := range s.routes() {
		for method := range rt.methods {
			if _, ok := doc.Paths[strings.TrimSuffix(rt.pattern, "{$}")][strings.ToLower(method)]; !ok {
				t.Errorf("%s %s is not described", method, rt.pattern)
			}
		}
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	described := 0
	for at, methods := range doc.Paths {
		for method, op := range methods {
			for code, answer := range op.Responses {
				name := method + " " + at + " " + code
				if at == "/-/ready" && code == "503" {
					continue // TestDamagedJournal
				}
				described++
				q, ok := asked[name]
				if !ok {
					t.Errorf("%s is described, and not tested", name)
					continue
				}
				w := s.do(q)
				if fmt.Sprint(w.Code) != code {
					t.Errorf("%s answers %d\n%.400s", name, w.Code, w.Body)
					continue
				}
				media, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
				if _, ok := answer.Content[media]; !ok && len(answer.Content) > 0 {
					t.Errorf("%s is %q, described are %v", name, media, answer.Content)
					continue
				}
				if !strings.HasSuffix(media, "json") {
					continue
				}
				schema, err := c.Compile(base + "#/paths/" + escape.Replace(at) + "/" + method + "/responses/" + code + "/content/" + escape.Replace(media) + "/schema")
				if err != nil {
					t.Fatal(err)
				}
				v, err := jsonschema.UnmarshalJSON(w.Body)
				if err == nil {
					err = schema.Validate(v)
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	if described != len(asked) {
		t.Errorf("%d answers are described, %d tested", described, len(asked))
	}
}

func TestListenerChecks(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := file("none.yaml", "")
	for address, want := range map[string]bool{
		"127.0.0.1:0": true, "[::1]:9465": true, "localhost:9465": true, "127.8.8.8:1": true,
		":9465": false, "0.0.0.0:9465": false, "[::]:9465": false, "192.0.2.7:9465": false, "build-host:9465": false,
	} {
		err := Listener{Address: address}.Check()
		if errors.Is(err, ErrOpen) == want || want && err != nil || !want && !strings.Contains(err.Error(), "--web.config.file") {
			t.Errorf("%s: %v", address, err)
		}
		if err := (Listener{Address: address, Config: none}).Check(); err != nil {
			t.Errorf("%s with a configuration: %v", address, err)
		}
	}
	for name, l := range map[string]Listener{
		"no port": {Address: "localhost"}, "no file": {Address: "localhost:1", Config: filepath.Join(dir, "gone")},
		"an unknown field": {Address: "localhost:1", Config: file("typo.yaml", "basic_auth_user: {}\n")},
	} {
		if err := l.Check(); err == nil || errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The end waits for a request in flight, and takes no new one.
func TestGracefulEnd(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begun, finish := make(chan bool), make(chan bool)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-finish
		if r.Context().Err() != nil {
			t.Error("the request in flight was cancelled")
		}
		_, _ = io.WriteString(w, "whole")
	})
	at, ended := make(chan net.Addr, 1), make(chan error, 1)
	l := Listener{Address: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Drain: time.Minute}
	go func() { ended <- l.Serve(ctx, handler, func(a net.Addr) { at <- a }) }()
	address := "http://" + (<-at).String()
	got := make(chan string, 1)
	go func() {
		q, _ := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		w, err := http.DefaultClient.Do(q)
		if err != nil {
			got <- err.Error()
			return
		}
		defer w.Body.Close()
		b, _ := io.ReadAll(w.Body)
		got <- string(b)
	}()
	<-begun
	stop()
	for { // until the listener is closed
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "http://"))
		if err != nil {
			break
		}
		c.Close()
	}
	close(finish)
	if s := <-got; s != "whole" {
		t.Errorf("the request in flight got %q", s)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// A request that does not end is cut off after the drain.
func TestCutOff(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	begun, finish := make(chan bool), make(chan bool)
	defer close(finish)
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(begun); <-finish })
	at, ended := make(chan net.Addr, 1), make(chan error, 1)
	l := Listener{Address: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Drain: time.Millisecond}
	go func() { ended <- l.Serve(ctx, handler, func(a net.Addr) { at <- a }) }()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", (<-at).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "were cut off") {
		t.Errorf("Serve = %v", err)
	}
}
