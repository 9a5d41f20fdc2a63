//go:build unix

package livetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An Unleash is an Unleash server of its own on loopback, with a database of its own. It has the
// project "default" with the environments "development" and "production", and no flags.
type Unleash struct {
	URL string // http://127.0.0.1:port

	// Tokens. Of the admin tokens, Admin makes events as "driftwatch" and Other as
	// "somebody-else"; the frontend tokens are for what their names say.
	Admin, Other          string
	Frontend, Development string

	dir      string
	dsn      string
	process  *process
	frontend []unleashToken
}

type unleashToken struct {
	Environment string   `json:"environment"`
	Projects    []string `json:"projects"`
	Secret      string   `json:"secret"`
}

// StartUnleash starts the Unleash that tools/unleash pins, waits until it is ready and stops it
// when the test ends. The first start of a database makes its tables, which takes some
// seconds. The test fails if the server is not installed; the error says by what it is.
func StartUnleash(t testing.TB, postgres *Postgres) *Unleash {
	t.Helper()
	secret := rand.Text()
	u := &Unleash{
		dir: t.TempDir(), dsn: postgres.Database(t),
		Admin: "*:*.admin-" + secret, Other: "*:*.other-" + secret,
		Frontend: "*:production.frontend-" + secret, Development: "*:development.frontend-" + secret,
	}
	u.frontend = []unleashToken{{"production", []string{"*"}, u.Frontend}, {"development", []string{"*"}, u.Development}}
	t.Cleanup(func() {
		u.Stop()
		if t.Failed() {
			t.Logf("end of Unleash's log:\n%s", u.logTail())
		}
	})
	u.Restart(t)
	return u
}

// Restart starts the server again, with its data and at its address.
func (u *Unleash) Restart(t testing.TB) {
	t.Helper()
	root, err := repositoryRoot()
	if err != nil {
		t.Fatalf("livetest: %v", err)
	}
	tool := filepath.Join(root, "tools", "unleash")
	if _, err := os.Stat(filepath.Join(tool, "node_modules", "unleash-server", "package.json")); err != nil {
		t.Fatalf("livetest: Unleash is not installed: make unleash")
	}
	for n := 1; ; n++ {
		if err = u.start(t.Context(), tool); err == nil {
			return
		}
		if n == starts || !strings.Contains(u.logTail(), "EADDRINUSE") {
			t.Fatalf("livetest: start unleash: %v; its log ends:\n%s", err, u.logTail())
		}
	}
}

// start runs the server and returns when it is ready, or why it is not.
func (u *Unleash) start(ctx context.Context, tool string) error {
	address := strings.TrimPrefix(u.URL, "http://")
	if address == "" {
		var err error
		if address, err = freeAddress(ctx); err != nil {
			return err
		}
	}
	tokens, err := json.Marshal(u.frontend)
	if err != nil {
		return err
	}
	log, err := os.Create(u.logPath())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("node", "start.mjs") //nolint:noctx // ended by kill
	cmd.Dir = tool
	_, port, _ := strings.Cut(address, ":")
	cmd.Env = append(os.Environ(), "NODE_ENV=production", "PORT="+port, "DATABASE_URL="+u.dsn,
		"ADMIN_TOKEN="+u.Admin, "OTHER_ADMIN_TOKEN="+u.Other, "FRONTEND_TOKENS="+string(tokens))
	p, err := startProcess(log, cmd)
	if err != nil {
		return err
	}
	if err := u.waitReady(ctx, "http://"+address, p); err != nil {
		p.kill()
		return err
	}
	u.URL, u.process = "http://"+address, p
	return nil
}

// waitReady polls until the server takes our token: another one may hold the port.
func (u *Unleash) waitReady(ctx context.Context, url string, p *process) error {
	const within = 8 * time.Minute // seconds, unless the machine has 20 other things to do: it makes its tables
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(5 * readyPoll)
	defer tick.Stop()
	for {
		select {
		case <-p.exited:
			return fmt.Errorf("it exited (%v)", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v", within)
		case <-tick.C:
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/frontend", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", u.Frontend)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// Stop kills the server at once, as a crash would. It may be called again.
func (u *Unleash) Stop() {
	if u.process != nil {
		u.process.kill()
		u.process = nil
	}
}

// Do is what a person does on the admin API, as "somebody-else". The test fails unless the answer
// is 2xx.
func (u *Unleash) Do(t testing.TB, method, path, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, u.URL+"/api/admin"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", u.Other)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// Flag makes a flag in the project "default" that is on in production by the given strategies,
// each a JSON object.
func (u *Unleash) Flag(t testing.TB, name string, strategies ...string) {
	t.Helper()
	u.Do(t, http.MethodPost, "/projects/default/features", `{"name": "`+name+`", "type": "operational"}`)
	for _, s := range strategies {
		u.Do(t, http.MethodPost, "/projects/default/features/"+name+"/environments/production/strategies", s)
	}
	u.Do(t, http.MethodPost, "/projects/default/features/"+name+"/environments/production/on", "")
}

func (u *Unleash) logPath() string { return filepath.Join(u.dir, "unleash.log") }

// logTail is the last 4 KiB of the server's log.
func (u *Unleash) logTail() string {
	log, err := os.ReadFile(u.logPath())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4096):])
}
