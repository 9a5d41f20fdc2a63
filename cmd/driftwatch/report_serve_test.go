package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/driftwatch/driftwatch/internal/journal"
)

// servingReports starts report serve in dir and returns its address, and a function that ends it with a
// signal and wants exit code 0.
func servingReports(t *testing.T, dir string, args ...string) (address string, end func(os.Signal)) {
	t.Helper()
	cmd, stderr := started(t, dir, append([]string{"report", "serve", "--listen", "127.0.0.1:0"}, args...)...)
	said := bufio.NewReader(stderr)
	for address == "" {
		line, err := said.ReadString('\n')
		if m := regexp.MustCompile(`^listening on (\S+)`).FindStringSubmatch(line); m != nil {
			address = "http://" + m[1]
		} else if err != nil {
			t.Fatalf("it ended: %q, %v", line, cmd.Wait())
		}
	}
	rest := make(chan string, 1)
	go func() { b, _ := io.ReadAll(said); rest <- string(b) }()
	return address, func(s os.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		text := <-rest
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v\n%s", s, err, text)
		}
	}
}

// ask sends a request as m.okafor and returns status and body.
func ask(t *testing.T, method, address string, form url.Values) (int, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	q.SetBasicAuth("m.okafor", "secret")
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(b)
}

func TestServeEndsAtSignals(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		address, end := servingReports(t, t.TempDir())
		for _, at := range []string{"/", "/-/ready", "/flags", "/rules", "/metrics"} {
			if code, body := ask(t, "GET", address+at, nil); code != 200 {
				t.Errorf("%s: %d %s", at, code, body)
			}
		}
		end(s)
	}
}

// oneFlag are the files of a folder with one rule and its flag, which is on.
var oneFlag = map[string]string{
	"driftwatch.yaml": "rules: [rule.yaml]\nflag_sources:\n  production: {flagd_file: {path: flags.json, mode: edit}}\n",
	"rule.yaml": "service: checkout-api\nendpoint: [route]\nsignals:\n  - {name: latency, histogram: http_server_request_duration_seconds}\n" +
		"flags:\n  - {key: new-backoff, source: production, off: {variant: \"off\"}, act: true}\n",
	"flags.json": "{\n  \"flags\": {\n    \"new-backoff\": {\n      \"state\": \"ENABLED\",\n      \"variants\": {\"on\": true, \"off\": false},\n      \"defaultVariant\": \"on\"\n    }\n  }\n}\n",
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A report that cannot be read takes the count of dry runs from the list of flags, and nothing else.
func TestFlagsListWithADamagedReport(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, oneFlag)
	j, err := journal.Open(t.Context(), filepath.Join(dir, "driftwatch.db"))
	if err != nil {
		t.Fatal(err)
	}
	err = j.PutRecord(t.Context(), journal.Record{
		ID: "broken", UpgradeID: "u", Service: "checkout-api", RulePath: "rule.yaml", Now: time.Now().Add(-time.Hour),
		Verdict: "regressed", ExitCode: 4, Body: []byte("{}"), Report: []byte("{"),
	})
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	got := run(t, dir, "flags", "list")
	if !regexp.MustCompile(`(?m)^new-backoff +on +[0-9a-f]{8} +yes +unknown +rule.yaml:6 +never$`).MatchString(got.stdout) {
		t.Errorf("lists\n%s", got.stdout)
	}
	if got.code != flagsUnreachable || !strings.Contains(got.stderr, "count the dry runs of new-backoff: read report broken") {
		t.Errorf("exit code %d, says %q", got.code, got.stderr)
	}
}

// A user by name turns a flag off from the web, restores it, and approves a plan; the file and the
// journal hold it.
func TestActingFromTheWeb(t *testing.T) {
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	flagFile := filepath.Join(dir, "flags.json")
	writeFiles(t, dir, map[string]string{"web.yaml": fmt.Sprintf("basic_auth_users: {m.okafor: '%s'}\n", hash)})
	writeFiles(t, dir, oneFlag)
	before, err := os.ReadFile(flagFile)
	if err != nil {
		t.Fatal(err)
	}
	address, end := servingReports(t, dir, "--web.config.file", "web.yaml", "--enable-actions")
	field := func(page, name string) string {
		m := regexp.MustCompile(`name="` + name + `" value="([^"]+)"`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no %s in\n%s", name, page)
		}
		return m[1]
	}
	confirm := func(at, query string) {
		t.Helper()
		code, page := ask(t, "GET", address+at+query, nil)
		if code != 200 || !strings.Contains(page, "defaultVariant") {
			t.Fatalf("%s: %d\n%s", at, code, page)
		}
		form := url.Values{"token": {field(page, "token")}, "revision": {field(page, "revision")}, "reason": {"too many retries"}}
		if query != "" {
			form.Set("source", "production")
			form.Set("key", "new-backoff")
		}
		if code, body := ask(t, "POST", address+at, form); code != 303 {
			t.Fatalf("%s: %d\n%s", at, code, body)
		}
		// The same form again finds another flag than it has shown, and writes nothing.
		if code, body := ask(t, "POST", address+at, form); code != 409 && code != 404 {
			t.Errorf("%s once more: %d\n%s", at, code, body)
		}
	}
	holds := func(text string) {
		t.Helper()
		if b, err := os.ReadFile(flagFile); err != nil || !strings.Contains(string(b), text) {
			t.Errorf("the file holds\n%s%v", b, err)
		}
	}
	const query = "?source=production&key=new-backoff"
	confirm("/flags/off", query)
	holds(`"defaultVariant": "off"`)
	confirm("/flags/restore", query)
	if b, _ := os.ReadFile(flagFile); !bytes.Equal(b, before) {
		t.Errorf("restored to\n%s", b)
	}
	if r := run(t, dir, "flags", "plan", "new-backoff", "--out", "plans/p.json"); r.code != 0 {
		t.Fatalf("plan: %d %s", r.code, r.stderr)
	}
	confirm("/plans/p", "")
	holds(`"defaultVariant": "off"`)
	_, page := ask(t, "GET", address+"/flags", nil)
	for _, want := range []string{"m.okafor: too many retries", "m.okafor, by plan of a person", "verified", "Restore…", "none in 30 days"} {
		if !strings.Contains(page, want) {
			t.Errorf("the flags do not say %q", want)
		}
	}
	end(syscall.SIGTERM)
	if r := run(t, dir, "flags", "list", "--off-by-driftwatch"); !strings.Contains(r.stdout, "m.okafor, by plan of a person") {
		t.Errorf("the journal says %s %s", r.stdout, r.stderr)
	}
}
