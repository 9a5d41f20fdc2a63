package flags

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const webhookSecret = "key-77-that-signs"

// exampleReceiver starts the receiver of docs/flags.md and returns its address.
func exampleReceiver(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```js\n(.*?)```").FindSubmatch(doc)
	if code == nil {
		t.Fatal("docs/flags.md shows no receiver")
	}
	path := filepath.Join(t.TempDir(), "receiver.mjs")
	if err := os.WriteFile(path, code[1], 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(address, ":")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", path)
	cmd.Env = append(os.Environ(), "PORT="+port, "SECRET="+webhookSecret)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("the example receiver needs node: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(exited)
	}()
	t.Cleanup(func() {
		cancel()
		<-exited
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", address); err == nil {
			_ = c.Close()
			return "http://" + address + "/driftwatch"
		}
		select {
		case <-exited:
			t.Fatalf("the example receiver exited: %s", log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the example receiver does not listen")
		}
	}
}

func webhookPlanned(t *testing.T, w *Webhook) Change {
	t.Helper()
	return plannedBy(t, w, newRetry, OffVariant, "off")
}

// The receiver that docs/flags.md shows does what the contract says.
func TestWebhookExampleReceiver(t *testing.T) {
	t.Parallel()
	address := exampleReceiver(t)
	secret := tokenFile(t, webhookSecret)
	w := NewWebhook(address, address, secret, Blind{}, nil, http.DefaultClient)
	s := must(w.Read(t.Context(), newRetry))
	if s.Revision != "41" || s.Word("off") != "on" || s.Variants["off"] != false || s.Path != address {
		t.Errorf("state %+v", s)
	}
	c := webhookPlanned(t, w)
	if s := must(w.Settle(t.Context(), c, false)); s.Fate != Untouched {
		t.Errorf("settled %+v", s)
	}
	rc, err := w.TurnOff(t.Context(), c)
	if err != nil || rc.Before != "41" || rc.After != "42" || rc.Already {
		t.Fatalf("%+v, %v", rc, err)
	}
	if s := must(w.Read(t.Context(), newRetry)); !s.Off("off") {
		t.Errorf("state %+v", s)
	}
	if again, err := w.TurnOff(t.Context(), c); err != nil || !again.Already || again.After != "42" {
		t.Errorf("again %+v, %v", again, err)
	}
	if s := must(w.Settle(t.Context(), c, false)); s.Fate != Written || s.Receipt.After != "42" {
		t.Errorf("settled %+v", s)
	}
	if s := must(w.Settle(t.Context(), c, true)); s.Fate != Untouched {
		t.Errorf("settled %+v", s)
	}
	unsure := rc
	unsure.After = "" // a receipt that never saw the end
	back, err := w.Restore(t.Context(), unsure)
	if err != nil || back.Before != "42" || back.After != "43" {
		t.Fatalf("%+v, %v", back, err)
	}
	if s := must(w.Read(t.Context(), newRetry)); s.Word("off") != "on" {
		t.Errorf("state %+v", s)
	}
	if s := must(w.Settle(t.Context(), c, true)); s.Fate != Written || s.Receipt.After != "43" {
		t.Errorf("settled %+v", s)
	}
	_, err = w.TurnOff(t.Context(), c)
	wantError(t, err, ErrConflict, "expected revision 41, found 43")
	if s := must(w.Settle(t.Context(), c, false)); s.Fate != Foreign {
		t.Errorf("settled %+v", s)
	}

	_, err = w.Read(t.Context(), Ref{"production", "no-such-flag"})
	wantError(t, err, ErrNotFound, "no such flag")
	stranger := NewWebhook(address, address, tokenFile(t, "another key"), Blind{}, nil, http.DefaultClient)
	_, err = stranger.Read(t.Context(), newRetry)
	wantError(t, err, ErrForbidden, "the signature does not fit")
	noSecrets(t, []string{webhookSecret}, c, rc, back, must(w.Settle(t.Context(), c, true)))
	late := NewWebhook(address, address, secret, Blind{}, nil, http.DefaultClient)
	late.clock = func() time.Time { return time.Now().Add(-6 * time.Minute) }
	_, err = late.Read(t.Context(), newRetry)
	wantError(t, err, ErrForbidden) // a replay
}

// A receiver whose flag is what a viewpoint sees, and whose answers a test chooses.
type fakeReceiver struct {
	mu      sync.Mutex
	variant string
	posts   []*http.Request
	bodies  [][]byte
	answer  func(w http.ResponseWriter, carryOut func())
}

func (f *fakeReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/ofrep/v1/evaluate/flags/") {
		if !strings.HasSuffix(r.URL.Path, "/new-retry") {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errorCode": "FLAG_NOT_FOUND"}`)
			return
		}
		fmt.Fprintf(w, `{"key": "new-retry", "reason": "STATIC", "variant": %q, "value": %t}`, f.variant, f.variant == "on")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.posts, f.bodies = append(f.posts, r), append(f.bodies, body)
	f.answer(w, func() {
		f.variant = map[bool]string{true: "on", false: "off"}[strings.Contains(string(body), `"action":"restore"`)]
	})
}

func newFakeReceiver(t *testing.T) (*fakeReceiver, *Webhook) {
	t.Helper()
	f := &fakeReceiver{variant: "on", answer: func(_ http.ResponseWriter, carryOut func()) { carryOut() }}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	view := NewOFREPProver(s.URL, Secret{}, "", s.Client())
	return f, NewWebhook(s.URL+"/hook", "", tokenFile(t, webhookSecret), view, map[string]any{"on": true, "off": false}, s.Client())
}

// Without an address of the state, the viewpoint tells it.
func TestWebhookThroughTheViewpoint(t *testing.T) {
	t.Parallel()
	f, w := newFakeReceiver(t)
	s := must(w.Read(t.Context(), newRetry))
	if s.Word("off") != "on" || s.DefaultVariant != "on" || s.Variants["off"] != false {
		t.Errorf("state %+v", s)
	}
	c := webhookPlanned(t, w)
	rc, err := w.TurnOff(t.Context(), c)
	if err != nil || f.variant != "off" || rc.After != must(w.Read(t.Context(), newRetry)).Revision {
		t.Fatalf("%+v, %v", rc, err)
	}
	if again, err := w.TurnOff(t.Context(), c); err != nil || !again.Already || len(f.posts) != 1 {
		t.Errorf("again %+v, %v", again, err)
	}
	if s := must(w.Settle(t.Context(), c, false)); s.Fate != Written {
		t.Errorf("settled %+v", s)
	}
	back, err := w.Restore(t.Context(), rc)
	if err != nil || f.variant != "on" || back.After != c.Base {
		t.Fatalf("%+v, %v", back, err)
	}
	f.variant = "third"
	_, err = w.Restore(t.Context(), rc)
	wantError(t, err, ErrConflict)
	_, err = w.Read(t.Context(), Ref{"production", "no-such-flag"})
	wantError(t, err, ErrNotFound)

	// The signature, computed here by the words of docs/flags.md.
	r, body := f.posts[0], f.bodies[0]
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	fmt.Fprintf(mac, "%s.%s", r.Header.Get("Driftwatch-Timestamp"), body)
	if got, want := r.Header.Get("Driftwatch-Signature"), "sha256="+hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if at, err := strconv.ParseInt(r.Header.Get("Driftwatch-Timestamp"), 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %q", r.Header.Get("Driftwatch-Timestamp"))
	}
	if r.Header.Get("Idempotency-Key") != c.Case || f.posts[1].Header.Get("Idempotency-Key") != c.Case+"/restore" {
		t.Errorf("keys %q and %q", r.Header.Get("Idempotency-Key"), f.posts[1].Header.Get("Idempotency-Key"))
	}
	var sent map[string]any
	if err := json.Unmarshal(body, &sent); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"schema": "driftwatch.webhook/v1", "action": "off", "case": c.Case, "source": "production", "flag": "new-retry", "variant": "off", "value": false, "revision": string(c.Base)} {
		if sent[name] != want {
			t.Errorf("%s is %v, want %v", name, sent[name], want)
		}
	}
}

func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	only := func(code int, body string) func(w http.ResponseWriter, carryOut func()) {
		return func(w http.ResponseWriter, _ func()) { status(code, body)(w, nil) }
	}
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter, carryOut func())
		kind   error
		words  string
	}{
		{"204", func(w http.ResponseWriter, carryOut func()) { carryOut(); w.WriteHeader(204) }, nil, ""},
		{"202", only(202, ""), ErrWrittenUnsure, "will do it later"},
		{"500", only(500, `{"message": "database is down"}`), ErrWrittenUnsure, "database is down"},
		{"hung up", func(w http.ResponseWriter, carryOut func()) { carryOut(); hangUp(t, w) }, ErrWrittenUnsure, "no answer came"},
		{"longer than the bound", func(w http.ResponseWriter, carryOut func()) { carryOut(); endless(w) }, ErrWrittenUnsure, "no answer came but one of more than 8 MiB"},
		{"409", only(409, ""), ErrConflict, "HTTP 409"},
		{"412", only(412, ""), ErrConflict, "HTTP 412"},
		{"401 that repeats the secret", only(401, "who is "+webhookSecret+"?"), ErrForbidden, "who is ***?"},
		{"404", only(404, ""), ErrNotFound, ""},
		{"428", only(428, `{"message": "ask ann"}`), ErrApprovalRequired, "ask ann"},
		{"429", only(429, ""), ErrRateLimited, "try again in a minute"},
		{"422", only(422, "<html>\n\tno\x1b[31m such thing</html>"), ErrInvalid, "HTTP 422: <html> no [31m such thing</html>"},
		{"redirect", func(w http.ResponseWriter, _ func()) {
			w.Header().Set("Location", "http://elsewhere.example.com/")
			w.WriteHeader(307)
		}, ErrUnreachable, "elsewhere.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, w := newFakeReceiver(t)
			f.answer = tt.answer
			c := webhookPlanned(t, w)
			rc, err := w.TurnOff(t.Context(), c)
			if tt.kind == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.kind, tt.words)
			if strings.Contains(err.Error(), webhookSecret) {
				t.Errorf("the secret is in %s", err)
			}
			if written := rc.After != ""; written != errors.Is(err, ErrWrittenUnsure) {
				t.Errorf("receipt %+v with %v", rc, err)
			}
			if len(f.posts) != 1 {
				t.Errorf("%d requests were sent", len(f.posts))
			}
		})
	}
	t.Run("no connection", func(t *testing.T) {
		t.Parallel()
		_, w := newFakeReceiver(t)
		c := webhookPlanned(t, w)
		w.hook.base = "http://127.0.0.1:1/hook"
		_, err := w.TurnOff(t.Context(), c)
		wantError(t, err, ErrUnreachable, "connection refused")
	})
}

// With an address of the state, what a receiver says is compared with what is there.
func TestWebhookLies(t *testing.T) {
	t.Parallel()
	state := `{"flag": "new-retry", "revision": "1", "variant": null, "variants": {"on": true, "off": false}, "read_only": ""}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, state)
		}
	}))
	defer s.Close()
	w := NewWebhook(s.URL, s.URL, tokenFile(t, webhookSecret), Blind{}, nil, s.Client())
	c := webhookPlanned(t, w)
	if got := must(w.Read(t.Context(), newRetry)).Word("off"); got != "on for some" {
		t.Errorf("it is %q", got)
	}
	_, err := w.TurnOff(t.Context(), c)
	wantError(t, err, ErrWrittenUnsure, "the state does not show it: revision 1")
	for _, bad := range []string{`{}`, `[]`, `{"flag": "other", "revision": "1", "variants": {"on": true}}`, `{"flag": "new-retry", "revision": "1", "variants": {"on": [1]}}`} {
		state = bad
		_, err := w.Read(t.Context(), newRetry)
		wantError(t, err, ErrInvalid)
	}
}
