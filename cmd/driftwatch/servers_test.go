package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/livetest"
)

// flagRule is a rule with one flag of the source "production".
const flagRule = `service: checkout-api
endpoint: [route]
signals:
  - {name: latency, histogram: http_server_request_duration_seconds}
flags:
  - {key: new-retry, source: production, off: {variant: "%s"}, probes: [{targetingKey: user-1}, {targetingKey: vip, tier: gold}]}
`

// write puts files into dir, by name.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A ledger keeps all that runs of the program printed.
type ledger struct {
	dir  string
	text strings.Builder
}

// run executes the program and fails unless it exits with code and prints every word.
func (l *ledger) run(t *testing.T, code int, command string, words ...string) result {
	t.Helper()
	r := l.try(t, command)
	if r.code != code {
		t.Fatalf("driftwatch %s: exit %d, want %d\n%s%s", command, r.code, code, r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stdout+r.stderr, w) {
			t.Errorf("driftwatch %s does not say %q:\n%s%s", command, w, r.stdout, r.stderr)
		}
	}
	return r
}

// try executes the program.
func (l *ledger) try(t *testing.T, command string) result {
	t.Helper()
	r := run(t, l.dir, strings.Fields(command)...)
	fmt.Fprintf(&l.text, "%s%s", r.stdout, r.stderr)
	return r
}

// leaks returns where a secret is: in what was printed, or in a file beside those that hold it.
func (l *ledger) leaks(t *testing.T, secret string, holders ...string) []string {
	t.Helper()
	var out []string
	if strings.Contains(l.text.String(), secret) {
		out = append(out, "what was printed")
	}
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		for _, h := range holders {
			if filepath.Base(path) == h {
				return nil
			}
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), secret) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A person turns a flag of a real Unleash off, sees it proved, and takes it back.
func TestUnleashWholeRun(t *testing.T) {
	postgres := &livetest.Postgres{}
	t.Cleanup(postgres.Stop)
	u := livetest.StartUnleash(t, postgres)
	u.Flag(t, "new-retry", `{"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default", "groupId": "g"}}`)
	l := &ledger{dir: t.TempDir()}
	config := func(token string) string {
		return fmt.Sprintf(`flag_sources: {production: {unleash: {url: %q, token_file: %s}}}
verify: {production: {unleash: {url: %q, token_env: DRIFTWATCH_TEST_FRONTEND}}}
`, u.URL, token, u.URL)
	}
	wrong := "*:*.wrong-" + rand.Text()
	write(t, l.dir, map[string]string{
		"rule.yaml": fmt.Sprintf(flagRule, "disabled"), "off.yaml": fmt.Sprintf(flagRule, "off"),
		"driftwatch.yaml": config("token"), "wrong.yaml": config("wrong"), "token": u.Admin + "\n", "wrong": wrong,
	})
	t.Setenv("DRIFTWATCH_TEST_FRONTEND", u.Frontend)
	flip := func() {
		t.Helper()
		start := time.Now()
		r := l.try(t, "flags off new-retry --rules rule.yaml --reason test")
		// On a machine that is out of breath one evaluation takes more than its 2 s, and the proof
		// is not done in 30 s; then it is looked at again.
		for until := start.Add(5 * time.Minute); r.code == 5 && strings.Contains(r.stderr, "deadline exceeded") && time.Now().Before(until); {
			r = l.try(t, "flags verify new-retry --rules rule.yaml")
		}
		took := regexp.MustCompile(`verified off in (\S+):`).FindStringSubmatch(r.stdout)
		if r.code != 0 || took == nil {
			t.Fatalf("flags off: exit %d\n%s", r.code, l.text.String())
		}
		t.Logf("proof %s, the whole command %s", took[1], time.Since(start).Round(time.Millisecond))
	}

	l.run(t, 0, "flags list --rules rule.yaml", "on", "never")
	time.Sleep(2 * time.Second) // the lag of the frontend API, after which it says "on" for sure
	l.run(t, 5, "flags verify new-retry --rules rule.yaml", "not proved off", `variant "enabled"`)
	l.run(t, 2, "flags off new-retry --rules off.yaml", `off: {variant: "disabled"}`)
	l.run(t, 4, "flags off new-retry --rules rule.yaml --config wrong.yaml", "not permitted", "HTTP 401")
	flip()
	if r := l.try(t, "flags off new-retry --rules rule.yaml"); !strings.Contains(r.stdout, "is off already") {
		t.Errorf("off again: %s%s", r.stdout, r.stderr)
	}
	l.run(t, 0, "flags restore new-retry --rules rule.yaml", "restored")
	l.run(t, 4, "flags restore new-retry --rules rule.yaml", "no write that could be taken back")
	flip()
	u.Do(t, http.MethodPost, "/projects/default/features/new-retry/environments/production/on", "")
	l.run(t, 5, "flags restore new-retry --rules rule.yaml", "changed by somebody else", "feature-environment-enabled by somebody-else")
	u.Stop()
	l.run(t, 7, "flags off new-retry --rules rule.yaml", "not reachable")

	for name, secret := range map[string]string{"admin token": u.Admin, "frontend token": u.Frontend, "wrong token": wrong} {
		if found := l.leaks(t, secret, "token", "wrong"); len(found) > 0 {
			t.Errorf("the %s is in %v", name, found)
		}
	}
	if len(l.leaks(t, "new-retry", "rule.yaml", "off.yaml")) < 2 {
		t.Error("the search finds the flag's name neither in what was printed nor in the journal")
	}
}

// A server that repeats the credential in every answer does not get it printed or journaled.
func TestServerRepeatsTheCredential(t *testing.T) {
	secret := "credential-" + rand.Text()
	status := http.StatusForbidden
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Location", "http://127.0.0.1:1/"+secret)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"message": "%s %s %s %s"}`, r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), body, secret)
	}))
	defer s.Close()
	for name, source := range map[string]string{
		"unleash":      fmt.Sprintf(`flag_sources: {production: {unleash: {url: %q, token_file: secret}}}`, s.URL),
		"launchdarkly": fmt.Sprintf(`flag_sources: {production: {launchdarkly: {url: %q, project: p, environment: e, token_env: DRIFTWATCH_TEST_SECRET}}}`, s.URL),
		"webhook": fmt.Sprintf(`flag_sources: {production: {webhook: {url: %q, secret_file: secret}}}
verify: {production: {ofrep: {url: %q, token_file: secret, header: X-API-Key}}}`, s.URL, s.URL),
		"webhook with a state": fmt.Sprintf(`flag_sources: {production: {webhook: {url: %q, state_url: %q, secret_file: secret}}}
verify: {production: {ofrep: {url: %q, token_file: secret}}}`, s.URL, s.URL, s.URL),
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DRIFTWATCH_TEST_SECRET", secret)
			l := &ledger{dir: t.TempDir()}
			write(t, l.dir, map[string]string{"rule.yaml": fmt.Sprintf(flagRule, "off"), "driftwatch.yaml": source, "secret": secret})
			for _, status = range []int{200, 302, 401, 404, 429, 500} {
				for _, command := range []string{"list", "off new-retry"} {
					r := l.try(t, "flags "+command+" --rules rule.yaml")
					if r.code == 0 || r.code == 1 {
						t.Errorf("%d, flags %s: exit %d\n%s%s", status, command, r.code, r.stdout, r.stderr)
					}
				}
			}
			if found := l.leaks(t, secret, "secret"); len(found) > 0 {
				t.Errorf("the credential is in %v:\n%s", found, l.text.String())
			}
		})
	}
}
