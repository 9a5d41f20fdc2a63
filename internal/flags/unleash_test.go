package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// tokenFile is a Secret with the text of a token.
func tokenFile(t *testing.T, token string) Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Secret{File: path}
}

// An unleashTest is one flag of a real server.
type unleashTest struct {
	server *livetest.Unleash
	key    string
	source *Unleash
}

// Strategies as Unleash's own pages make them.
const (
	halfOfThem = `{"name": "flexibleRollout", "parameters": {"rollout": "50", "stickiness": "default", "groupId": "g"}}`
	allOfThem  = `{"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default", "groupId": "g"}}`
	noneOfThem = `{"name": "flexibleRollout", "parameters": {"rollout": "0", "stickiness": "default", "groupId": "g"}}`
	onlyVIPs   = `{"name": "userWithId", "parameters": {"userIds": "vip,vip2"}}`
	goldTier   = `{"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default", "groupId": "g"}, "constraints": [{"contextName": "tier", "operator": "IN", "values": ["gold"]}]}`
)

func newUnleashTest(t *testing.T, server *livetest.Unleash, strategies ...string) unleashTest {
	t.Helper()
	u := unleashTest{server: server, key: fmt.Sprintf("flag-%08x", rand.Uint32())}
	server.Flag(t, u.key, strategies...)
	u.source = u.through(t, server.URL, server.Admin)
	return u
}

// through is the source at another address, or with another token.
func (u unleashTest) through(t *testing.T, address, token string) *Unleash {
	t.Helper()
	return NewUnleash(address, "default", "production", tokenFile(t, token), http.DefaultClient)
}

func (u unleashTest) ref() Ref { return Ref{"production", u.key} }

func (u unleashTest) read(t *testing.T) State {
	t.Helper()
	s, err := u.source.Read(t.Context(), u.ref())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (u unleashTest) plan(t *testing.T) Change {
	t.Helper()
	c, err := u.source.Plan(u.read(t), OffVariant, Want{Variant: "disabled"})
	if err != nil {
		t.Fatal(err)
	}
	c.Case = "case-1"
	return c
}

func (u unleashTest) turnOff(t *testing.T) Receipt {
	t.Helper()
	rc, err := u.source.TurnOff(t.Context(), u.plan(t))
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

// somebody edits the flag as another user.
func (u unleashTest) somebody(t *testing.T, what string) {
	t.Helper()
	u.server.Do(t, http.MethodPost, "/projects/default/features/"+u.key+"/environments/production/"+what, map[bool]string{true: allOfThem}[what == "strategies"])
}

// enabled is what the server says, without the code under test.
func (u unleashTest) enabled(t *testing.T) bool {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.server.URL+"/api/admin/projects/default/features/"+u.key+"/environments/production", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", u.server.Other)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var e struct{ Enabled *bool }
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Enabled == nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return *e.Enabled
}

func (u unleashTest) prover(t *testing.T, token string) *OpenFeatureProver {
	t.Helper()
	return NewUnleashProver(u.source, u.server.URL, tokenFile(t, token), http.DefaultClient)
}

func (u unleashTest) question(t *testing.T) Question {
	t.Helper()
	s := u.read(t)
	f := rule.Flag{Probes: []map[string]any{{"targetingKey": "vip"}, {"targetingKey": "u1", "tier": "gold", "age": 7.0}}}
	return NewQuestion(s, Want{"disabled", false}, f, 12, rand.New(rand.NewPCG(1, 2)))
}

// between stands in front of a server, and does something to the writes that pass.
func between(t *testing.T, address string, write func(w http.ResponseWriter, r *http.Request, forward http.Handler)) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorLog = log.New(io.Discard, "", 0)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			forward.ServeHTTP(w, r)
			return
		}
		write(w, r, forward)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// hangUp closes the connection without an answer.
func hangUp(t *testing.T, w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_ = c.Close()
}

// endless is an answer that is longer than anybody reads.
func endless(w http.ResponseWriter) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+1)) }

// swallow carries out a request without telling the answer.
func swallow(r *http.Request, forward http.Handler) { forward.ServeHTTP(httptest.NewRecorder(), r) }

// want fails unless err is of a kind and says words.
func wantError(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v, want %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// TestUnleash runs against the server that tools/unleash pins, on a PostgreSQL of its own.
func TestUnleash(t *testing.T) {
	t.Parallel()
	postgres := &livetest.Postgres{}
	t.Cleanup(postgres.Stop)
	server := livetest.StartUnleash(t, postgres)
	// The strategy of older Unleash servers, which SDKs still know.
	server.Do(t, http.MethodPost, "/strategies", `{"name": "userWithId", "parameters": [{"name": "userIds", "type": "list", "required": false}]}`)

	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *livetest.Unleash){
			"a 50 % rollout is off for everybody":               func(t *testing.T, s *livetest.Unleash) { unleashOffAndBack(t, s, halfOfThem) },
			"userIds and constraints are off for everybody":     func(t *testing.T, s *livetest.Unleash) { unleashOffAndBack(t, s, noneOfThem, onlyVIPs, goldTier) },
			"on for everybody":                                  func(t *testing.T, s *livetest.Unleash) { unleashOffAndBack(t, s, allOfThem) },
			"what cannot be planned":                            unleashPlans,
			"unknown flag, environment and project":             unleashUnknown,
			"wrong token":                                       unleashWrongToken,
			"a foreign event in between":                        unleashForeign,
			"restore is refused after a foreign edit":           unleashRestoreRefused,
			"edits of another environment do not matter":        unleashOtherEnvironment,
			"crash: settled by the log of events":               unleashSettle,
			"no answer to the write":                            unleashNoAnswer,
			"a source that lies (200 but unchanged)":            unleashLies,
			"change requests":                                   unleashChangeRequests,
			"a flag missing from the list is not off by itself": unleashAbsent,
			"read-after-write lag":                              unleashReadAfterWrite,
			"more events than one page":                         unleashManyEvents,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, server)
			})
		}
	})
	// The last one: it kills the server.
	t.Run("server killed in the middle", func(t *testing.T) { unleashKilled(t, server) })
}

func unleashOffAndBack(t *testing.T, server *livetest.Unleash, strategies ...string) {
	u := newUnleashTest(t, server, strategies...)
	before := u.read(t)
	wantWord := "on for some"
	if len(strategies) == 1 && strategies[0] == allOfThem {
		wantWord = "on"
	}
	if before.Word("disabled") != wantWord || before.Changed.IsZero() || before.Revision == "" {
		t.Errorf("state %+v is %q, want %q", before, before.Word("disabled"), wantWord)
	}
	prover, q := u.prover(t, server.Frontend), u.question(t)
	waitServed(t, prover, q)
	if e, err := prover.Prove(t.Context(), q, 500*time.Millisecond); !errors.Is(err, ErrUnproven) || e.Proved || len(e.Answers) == 0 {
		t.Fatalf("proved while on: %+v, %v", e, err)
	}

	c := u.plan(t)
	if c.Base != before.Revision || c.After != "" || !strings.Contains(c.Diff, "-enabled: true\n+enabled: false") {
		t.Errorf("change %+v", c)
	}
	start := time.Now()
	rc, err := u.source.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	e, err := prover.Prove(t.Context(), q, 30*time.Second)
	if err != nil {
		t.Fatalf("%v: %+v", err, e)
	}
	t.Logf("flip to proved in %s: %d contexts, %d rounds", time.Since(start).Round(time.Millisecond), e.Contexts, e.Rounds)
	if e.Viewpoint != (Viewpoint{UnleashFrontend, server.URL}) || e.Rounds < 3 || e.Took < prover.Settle {
		t.Errorf("evidence %+v", e)
	}
	after := u.read(t)
	if u.enabled(t) || !after.Off("disabled") || rc.Before != c.Base || rc.After != after.Revision || rc.Already || rc.Written.IsZero() {
		t.Errorf("receipt %+v, state %+v", rc, after)
	}
	if _, err := u.source.Plan(after, OffVariant, Want{Variant: "disabled"}); !errors.Is(err, ErrAlreadyOff) {
		t.Errorf("plan of an off flag: %v", err)
	}

	again, err := u.source.TurnOff(t.Context(), c)
	if err != nil || !again.Already || again.After != rc.After || u.read(t).Revision != rc.After {
		t.Errorf("again: %+v, %v", again, err)
	}

	back, err := u.source.Restore(t.Context(), rc)
	if err != nil {
		t.Fatal(err)
	}
	restored := u.read(t)
	if before.Metadata["type"] != "operational" || before.Definition == after.Definition || before.Definition != restored.Definition {
		t.Errorf("metadata %v, definitions %s, %s, %s", before.Metadata, before.Definition, after.Definition, restored.Definition)
	}
	if !u.enabled(t) || restored.Word("disabled") != wantWord || back.Before != rc.After || back.After != restored.Revision || !back.Restore {
		t.Errorf("restored %+v, state %+v", back, restored)
	}
	if twice, err := u.source.Restore(t.Context(), rc); err != nil || !twice.Already {
		t.Errorf("restored again: %+v, %v", twice, err)
	}
	if waitServed(t, prover, q).Suspect == 0 {
		t.Error("nobody is served after the restore")
	}
	noSecrets(t, []string{server.Admin, server.Frontend}, before, c, rc, again, back, e, prover.Viewpoint())
}

// noSecrets looks for credentials in what is journaled, reported and printed.
func noSecrets(t *testing.T, secrets []string, values ...any) {
	t.Helper()
	for _, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if s := fmt.Sprintf("%s %+v", b, v); strings.Contains(s, secret) {
				t.Errorf("a credential is in %T: %s", v, s)
			}
		}
	}
}

// noSecrets has seen one.
func TestNoSecrets(t *testing.T) {
	t.Parallel()
	inner := &testing.T{}
	noSecrets(inner, []string{"geheim"}, Receipt{Change: Change{Path: "https://geheim@host"}})
	if !inner.Failed() {
		t.Error("a secret in a path was not found")
	}
}

// waitServed waits until somebody gets the flag: the frontend API lags by a second.
func waitServed(t *testing.T, p *OpenFeatureProver, q Question) Serving {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		s, err := p.Served(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if s.Suspect > 0 {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is served: %+v", s)
		}
	}
}

func unleashPlans(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	s := u.read(t)
	_, err := u.source.Plan(s, OffVariant, Want{Variant: "off"})
	wantError(t, err, ErrInvalid, `no variant "off"`, `off: {variant: "disabled"}`)
	_, err = u.source.Plan(s, Disable, Want{Variant: "disabled"})
	wantError(t, err, ErrInvalid, "mode disable")
	c := u.plan(t)
	elsewhere := NewUnleash(server.URL, "default", "development", tokenFile(t, server.Admin), http.DefaultClient)
	_, err = elsewhere.TurnOff(t.Context(), c)
	wantError(t, err, ErrInvalid, "environment production", "was the configuration edited?")
}

func unleashUnknown(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	c := u.plan(t)
	s, err := u.source.Read(t.Context(), Ref{"production", "no-such-flag"})
	wantError(t, err, ErrNotFound, "no-such-flag", server.URL)
	if s.Present {
		t.Errorf("state %+v", s)
	}
	for _, source := range []*Unleash{
		NewUnleash(server.URL, "default", "staging", tokenFile(t, server.Admin), http.DefaultClient),
		NewUnleash(server.URL, "shop", "production", tokenFile(t, server.Admin), http.DefaultClient),
	} {
		_, err := source.Read(t.Context(), u.ref())
		wantError(t, err, ErrNotFound)
	}
	c.Ref.Key = "no-such-flag"
	_, err = u.source.TurnOff(t.Context(), c)
	wantError(t, err, ErrNotFound)

	server.Do(t, http.MethodDelete, "/projects/default/features/"+u.key, "")
	_, err = u.source.Read(t.Context(), u.ref())
	wantError(t, err, ErrNotFound)
}

func unleashWrongToken(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	c := u.plan(t)
	for name, token := range map[string]string{"unknown, 401": "*:*.this-token-is-unknown", "a frontend token, 403": server.Frontend} {
		source := u.through(t, server.URL, token)
		_, err := source.Read(t.Context(), u.ref())
		wantError(t, err, ErrForbidden, "HTTP "+name[len(name)-3:])
		_, turnErr := source.TurnOff(t.Context(), c)
		wantError(t, turnErr, ErrForbidden)
		if s := err.Error() + turnErr.Error(); strings.Contains(s, token) {
			t.Errorf("the token is in %s", s)
		}
	}
	if !u.enabled(t) {
		t.Error("it was turned off")
	}
	missing := NewUnleash(server.URL, "default", "production", Secret{File: "/no/such/token"}, http.DefaultClient)
	_, err := missing.Read(t.Context(), u.ref())
	wantError(t, err, ErrForbidden, "/no/such/token")
}

func unleashForeign(t *testing.T, server *livetest.Unleash) {
	t.Run("before the write", func(t *testing.T) {
		u := newUnleashTest(t, server, halfOfThem)
		c := u.plan(t)
		u.somebody(t, "strategies")
		_, err := u.source.TurnOff(t.Context(), c)
		wantError(t, err, ErrConflict, "feature-strategy-add by somebody-else", "nothing was written")
		if !u.enabled(t) {
			t.Error("it was turned off")
		}
	})
	// What a person does while the write is on its way.
	during := func(t *testing.T, write func(u unleashTest, w http.ResponseWriter, r *http.Request, forward http.Handler)) (unleashTest, Receipt, error) {
		u := newUnleashTest(t, server, halfOfThem)
		c := u.plan(t)
		u.source = u.through(t, between(t, server.URL, func(w http.ResponseWriter, r *http.Request, forward http.Handler) { write(u, w, r, forward) }), server.Admin)
		rc, err := u.source.TurnOff(t.Context(), c)
		return u, rc, err
	}
	t.Run("right before the write", func(t *testing.T) {
		u, rc, err := during(t, func(u unleashTest, w http.ResponseWriter, r *http.Request, forward http.Handler) {
			u.somebody(t, "strategies")
			forward.ServeHTTP(w, r)
		})
		wantError(t, err, ErrWrittenUnsure, "feature-strategy-add by somebody-else")
		if u.enabled(t) || rc.After != u.read(t).Revision {
			t.Errorf("receipt %+v", rc)
		}
	})
	t.Run("right after the write", func(t *testing.T) {
		u, rc, err := during(t, func(u unleashTest, w http.ResponseWriter, r *http.Request, forward http.Handler) {
			forward.ServeHTTP(w, r)
			u.somebody(t, "on")
		})
		wantError(t, err, ErrWrittenUnsure, "feature-environment-enabled by somebody-else")
		if !u.enabled(t) || rc.After == "" || rc.After == u.read(t).Revision {
			t.Errorf("receipt %+v", rc)
		}
		_, err = u.source.Restore(t.Context(), rc)
		wantError(t, err, ErrConflict)
	})
	t.Run("somebody else turns it off at the same moment", func(t *testing.T) {
		u, rc, err := during(t, func(u unleashTest, w http.ResponseWriter, r *http.Request, forward http.Handler) {
			u.somebody(t, "off")
			forward.ServeHTTP(w, r)
		})
		wantError(t, err, ErrConflict, "feature-environment-disabled by somebody-else", "nothing was written")
		if rc.After != "" || u.enabled(t) {
			t.Errorf("receipt %+v", rc)
		}
	})
}

func unleashRestoreRefused(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	rc := u.turnOff(t)
	u.somebody(t, "strategies")
	_, err := u.source.Restore(t.Context(), rc)
	wantError(t, err, ErrConflict, "feature-strategy-add by somebody-else")
	if u.enabled(t) {
		t.Error("it was turned on")
	}
}

func unleashOtherEnvironment(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	c := u.plan(t)
	edit := func(what string) {
		server.Do(t, http.MethodPost, "/projects/default/features/"+u.key+"/environments/development/"+what, "")
	}
	edit("on")
	rc, err := u.source.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	edit("off")
	if _, err := u.source.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
}

func unleashSettle(t *testing.T, server *livetest.Unleash) {
	settled := func(t *testing.T, u unleashTest, c Change, restore bool, want Fate) Settlement {
		t.Helper()
		s, err := u.source.Settle(t.Context(), c, restore)
		if err != nil || s.Fate != want || s.Receipt.Restore != restore {
			t.Fatalf("settled %+v, %v, want %s", s, err, want)
		}
		return s
	}
	t.Run("off", func(t *testing.T) {
		u := newUnleashTest(t, server, halfOfThem)
		c := u.plan(t)
		settled(t, u, c, false, Untouched)
		rc, err := u.source.TurnOff(t.Context(), c) // and nobody journaled the receipt
		if err != nil {
			t.Fatal(err)
		}
		if s := settled(t, u, c, false, Written); s.Receipt.Before != rc.Before || s.Receipt.After != rc.After || !s.Receipt.Written.Equal(rc.Written) {
			t.Errorf("settled %+v, written %+v", s.Receipt, rc)
		}
		settled(t, u, c, true, Untouched)
		back, err := u.source.Restore(t.Context(), rc)
		if err != nil {
			t.Fatal(err)
		}
		if s := settled(t, u, c, true, Written); s.Receipt.Before != back.Before || s.Receipt.After != back.After {
			t.Errorf("settled %+v, restored %+v", s.Receipt, back)
		}
		u.somebody(t, "off")
		settled(t, u, c, true, WrittenOver)
	})
	t.Run("a person turned it on again", func(t *testing.T) {
		u := newUnleashTest(t, server, halfOfThem)
		c := u.plan(t)
		if _, err := u.source.TurnOff(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		u.somebody(t, "on")
		settled(t, u, c, false, WrittenOver)
	})
	t.Run("a person turned it off", func(t *testing.T) {
		u := newUnleashTest(t, server, halfOfThem)
		c := u.plan(t)
		u.somebody(t, "off")
		settled(t, u, c, false, Foreign)
	})
}

func unleashNoAnswer(t *testing.T, server *livetest.Unleash) {
	for name, write := range map[string]func(t *testing.T, w http.ResponseWriter, r *http.Request, forward http.Handler){
		"hung up": func(t *testing.T, w http.ResponseWriter, r *http.Request, forward http.Handler) {
			swallow(r, forward)
			hangUp(t, w)
		},
		"502": func(_ *testing.T, w http.ResponseWriter, r *http.Request, forward http.Handler) {
			swallow(r, forward)
			w.WriteHeader(http.StatusBadGateway)
		},
	} {
		t.Run("written, "+name, func(t *testing.T) {
			u := newUnleashTest(t, server, halfOfThem)
			c := u.plan(t)
			u.source = u.through(t, between(t, server.URL, func(w http.ResponseWriter, r *http.Request, forward http.Handler) { write(t, w, r, forward) }), server.Admin)
			rc, err := u.source.TurnOff(t.Context(), c)
			if err != nil || u.enabled(t) || rc.After != u.read(t).Revision {
				t.Errorf("%+v, %v", rc, err) // the log shows our write
			}
		})
		t.Run("not written, "+name, func(t *testing.T) {
			u := newUnleashTest(t, server, halfOfThem)
			c := u.plan(t)
			nobody := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			u.source = u.through(t, between(t, server.URL, func(w http.ResponseWriter, r *http.Request, _ http.Handler) { write(t, w, r, nobody) }), server.Admin)
			rc, err := u.source.TurnOff(t.Context(), c)
			wantError(t, err, ErrWrittenUnsure, "no event of ours")
			if !u.enabled(t) || rc.After != "" || rc.Change.Ref != u.ref() {
				t.Errorf("receipt %+v", rc)
			}
		})
	}
}

func unleashLies(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	c := u.plan(t)
	u.source = u.through(t, between(t, server.URL, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusOK) }), server.Admin)
	rc, err := u.source.TurnOff(t.Context(), c)
	wantError(t, err, ErrWrittenUnsure, "no event of ours", "enabled: true")
	if rc.After != "" {
		t.Errorf("receipt %+v", rc)
	}
	_, err = u.source.Restore(t.Context(), rc)
	wantError(t, err, ErrConflict)
}

// The server's own words for a project with change requests, which only its paid editions have
// (unleash-server 7.5.1, stopWhenChangeRequestsEnabled and PermissionError).
func unleashChangeRequests(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	c := u.plan(t)
	u.source = u.through(t, between(t, server.URL, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"name":"PermissionError","message":"You don't have the required permissions to perform this operation. To perform this action, you need the \"SKIP_CHANGE_REQUEST\" permission.","permissions":["SKIP_CHANGE_REQUEST"]}`)
	}), server.Admin)
	_, err := u.source.TurnOff(t.Context(), c)
	wantError(t, err, ErrApprovalRequired, "/projects/default/features/"+u.key)
	if !u.enabled(t) {
		t.Error("it was turned off")
	}
}

func unleashAbsent(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, noneOfThem)
	unproved := func(t *testing.T, p *OpenFeatureProver, q Question, words string) {
		t.Helper()
		e, err := p.Prove(t.Context(), q, 700*time.Millisecond)
		wantError(t, err, ErrUnproven, words)
		if e.Proved {
			t.Errorf("evidence %+v", e)
		}
	}
	q := u.question(t)
	t.Run("on, with a rollout to nobody", func(t *testing.T) { unproved(t, u.prover(t, server.Frontend), q, "reason SPLIT") })
	u.turnOff(t)
	t.Run("a token of another environment", func(t *testing.T) {
		unproved(t, u.prover(t, server.Development), q, `for the environment "development"`)
	})
	t.Run("a token of another project", func(t *testing.T) { unproved(t, u.prover(t, "shop:production.x"), q, `for the project "shop"`) })
	t.Run("a token that says nothing", func(t *testing.T) { unproved(t, u.prover(t, "b3f5e1"), q, "proves nothing") })
	t.Run("an unknown token", func(t *testing.T) { unproved(t, u.prover(t, "*:production.unknown"), q, "HTTP 401") })
	t.Run("a missing flag", func(t *testing.T) {
		q := q
		q.Key = "no-such-flag"
		unproved(t, u.prover(t, server.Frontend), q, "FLAG_NOT_FOUND")
	})
	t.Run("not the frontend API", func(t *testing.T) {
		elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ok": true}`) }))
		defer elsewhere.Close()
		unproved(t, NewUnleashProver(u.source, elsewhere.URL, tokenFile(t, server.Frontend), http.DefaultClient), q, "lists no toggles")
	})
	t.Run("strings are not evaluated", func(t *testing.T) {
		q := q
		q.Want, q.Variants = Want{"disabled", "a"}, map[string]any{"disabled": "a"}
		unproved(t, u.prover(t, server.Frontend), q, "TYPE_MISMATCH")
	})
}

// The frontend API goes on with the old answer for up to a second, here for a longer one; what
// was proved was not seen before it ended.
func unleashReadAfterWrite(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, allOfThem)
	prover, q := u.prover(t, server.Frontend), u.question(t)
	waitServed(t, prover, q)
	var stale atomic.Int64
	stale.Store(70)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stale.Add(-1) >= 0 {
			fmt.Fprintf(w, `{"toggles": [{"name": %q, "enabled": true, "variant": {"name": "disabled", "enabled": false}}]}`, u.key)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer late.Close()
	u.turnOff(t)
	e, err := NewUnleashProver(u.source, late.URL, tokenFile(t, server.Frontend), http.DefaultClient).Prove(t.Context(), q, time.Minute)
	if err != nil || !e.Proved || stale.Load() >= 0 {
		t.Fatalf("%+v, %v, %d stale answers left", e, err, stale.Load())
	}
}

// 101 changes by somebody are more than a page of events.
func unleashManyEvents(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	c := u.plan(t)
	if _, err := u.source.TurnOff(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for range eventPage/2 + 1 {
		u.somebody(t, "on")
		u.somebody(t, "off")
	}
	if s, err := u.source.Settle(t.Context(), c, false); err != nil || s.Fate != WrittenOver {
		t.Errorf("settled %+v, %v", s, err)
	}
	_, err := u.source.TurnOff(t.Context(), c)
	wantError(t, err, ErrConflict, "100 more")
}

func unleashKilled(t *testing.T, server *livetest.Unleash) {
	u := newUnleashTest(t, server, halfOfThem)
	c := u.plan(t)
	u.source = u.through(t, between(t, server.URL, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		swallow(r, forward)
		server.Stop()
		hangUp(t, w)
	}), server.Admin)
	rc, err := u.source.TurnOff(t.Context(), c)
	wantError(t, err, ErrWrittenUnsure, "its end cannot be read")
	if rc.After != "" || rc.Before != c.Base {
		t.Errorf("receipt %+v", rc)
	}
	u.source = u.through(t, server.URL, server.Admin)
	_, err = u.source.Read(t.Context(), u.ref())
	wantError(t, err, ErrUnreachable)
	_, err = u.source.TurnOff(t.Context(), c)
	wantError(t, err, ErrUnreachable)
	if _, err := u.source.Settle(t.Context(), c, false); !errors.Is(err, ErrUnreachable) {
		t.Errorf("settled without a server: %v", err)
	}

	server.Restart(t)
	s, err := u.source.Settle(t.Context(), c, false)
	if err != nil || s.Fate != Written || u.enabled(t) {
		t.Fatalf("settled %+v, %v", s, err)
	}
	back, err := u.source.Restore(t.Context(), rc) // the receipt that never saw the end
	if err != nil || !u.enabled(t) || back.Before != s.Receipt.After {
		t.Errorf("restored %+v, %v", back, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.source.Read(ended, u.ref()); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
