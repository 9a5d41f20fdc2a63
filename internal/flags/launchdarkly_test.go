package flags

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fakeLaunchDarkly answers as LaunchDarkly's REST API is documented to: contract from
// documentation, never compared with the real one.
type fakeLaunchDarkly struct {
	mu       sync.Mutex
	on       bool
	version  int // of the environment
	off      *int
	rules    string
	audit    []map[string]any // newest first
	requests []string         // approval requests
	refuse   int              // status with which they are refused, 0 = they are not

	// write answers a semantic patch in place of carrying it out, if it returns true.
	write func(w http.ResponseWriter, carryOut func()) bool
}

const launchDarklyToken = "api-1f5c-this-is-the-token"

func (f *fakeLaunchDarkly) change(on bool, comment, who string) {
	f.on = on
	f.version++
	f.audit = append([]map[string]any{{
		"_id": fmt.Sprintf("entry-%d", f.version), "date": time.Now().UnixMilli() + int64(f.version), "kind": "flag", "comment": comment,
		"titleVerb": map[bool]string{true: "turned on the flag", false: "turned off the flag"}[on], "member": map[string]any{"email": who},
	}}, f.audit...)
}

func (f *fakeLaunchDarkly) flag() map[string]any {
	environment := map[string]any{
		"on": f.on, "version": f.version, "lastModified": 1790000000000 + f.version, "fallthrough": map[string]any{"variation": 0},
		"rules": json.RawMessage(f.rules), "targets": []any{}, "contextTargets": []any{}, "prerequisites": []any{},
	}
	if f.off != nil {
		environment["offVariation"] = *f.off
	}
	return map[string]any{
		"key": "new-retry", "_version": 3, "archived": false, "temporary": false, "tags": []string{"payments"},
		"variations":   []any{map[string]any{"_id": "a", "value": true, "name": "new"}, map[string]any{"_id": "b", "value": false, "name": "old"}, map[string]any{"_id": "c", "value": false}},
		"environments": map[string]any{"production": environment},
	}
}

func (f *fakeLaunchDarkly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := func(status int, body any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	if r.Header.Get("Authorization") != launchDarklyToken || r.Header.Get("LD-API-Version") == "" {
		answer(401, map[string]string{"code": "unauthorized", "message": "invalid access token " + r.Header.Get("Authorization")})
		return
	}
	switch path := r.URL.Path; {
	case path == "/api/v2/auditlog" && r.URL.Query().Get("spec") == "proj/shop:env/production:flag/new-retry":
		answer(200, map[string]any{"items": f.audit})
	case path == "/api/v2/projects/shop/flags/new-retry/environments/production/approval-requests" && r.Method == http.MethodPost:
		body, _ := io.ReadAll(r.Body)
		f.requests = append(f.requests, string(body))
		if f.refuse != 0 {
			answer(f.refuse, map[string]string{"message": "no such luck"})
			return
		}
		answer(201, map[string]any{"_id": "request-7", "status": "pending"})
	case path != "/api/v2/flags/shop/new-retry":
		answer(404, map[string]string{"code": "not_found", "message": "Unknown flag key"})
	case r.Method == http.MethodGet && r.URL.Query().Get("env") == "production":
		answer(200, f.flag())
	case r.Method == http.MethodPatch && strings.Contains(r.Header.Get("Content-Type"), "domain-model=launchdarkly.semanticpatch"):
		var p struct {
			EnvironmentKey, Comment string
			Instructions            []struct{ Kind string }
		}
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil || p.EnvironmentKey != "production" || len(p.Instructions) != 1 {
			answer(400, map[string]string{"message": "invalid patch"})
			return
		}
		carryOut := func() { f.change(p.Instructions[0].Kind == "turnFlagOn", p.Comment, "driftwatch@example.com") }
		if f.write != nil && f.write(w, carryOut) {
			return
		}
		carryOut()
		answer(200, f.flag())
	default:
		answer(405, map[string]string{"message": "method not allowed"})
	}
}

func newLaunchDarklyTest(t *testing.T) (*fakeLaunchDarkly, *LaunchDarkly) {
	t.Helper()
	off := 1
	f := &fakeLaunchDarkly{on: true, version: 5, off: &off, rules: "[]"}
	f.change(true, "", "ann@example.com")
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return f, NewLaunchDarkly(s.URL, "shop", "production", tokenFile(t, launchDarklyToken), false, s.Client())
}

var newRetry = Ref{"production", "new-retry"}

func launchDarklyPlan(t *testing.T, l *LaunchDarkly) Change {
	t.Helper()
	return plannedBy(t, l, newRetry, OffVariant, "old")
}

func TestLaunchDarklyOffAndBack(t *testing.T) {
	t.Parallel()
	f, l := newLaunchDarklyTest(t)
	f.rules = `[{"clauses": []}]`
	if s := must(l.Read(t.Context(), newRetry)); s.Word("old") != "on for some" || s.Revision != "3.6" || s.Variants["old"] != false || s.Variants["false"] != false {
		t.Errorf("state %+v", s)
	}
	first := must(l.Read(t.Context(), newRetry))
	if first.Metadata["permanent"] != true || first.Metadata["payments"] != true {
		t.Errorf("metadata %v", first.Metadata)
	}
	c := launchDarklyPlan(t, l)
	if c.Base != "3.6" || c.After != "" || c.Want.Value != false || !strings.Contains(c.Diff, "-on: true\n+on: false") {
		t.Errorf("change %+v", c)
	}
	if s := must(l.Settle(t.Context(), c, false)); s.Fate != Untouched {
		t.Errorf("settled %+v", s)
	}
	rc, err := l.TurnOff(t.Context(), c)
	if err != nil || f.on || rc.After != "3.7" || rc.Written.IsZero() || f.audit[0]["comment"] != "driftwatch "+c.Case {
		t.Fatalf("%+v, %v, %v", rc, err, f.audit[0])
	}
	if again, err := l.TurnOff(t.Context(), c); err != nil || !again.Already || again.After != rc.After || f.version != 7 {
		t.Errorf("again %+v, %v", again, err)
	}
	if s := must(l.Settle(t.Context(), c, false)); s.Fate != Written || s.Receipt.After != "3.7" {
		t.Errorf("settled %+v", s)
	}
	if _, err := l.Plan(must(l.Read(t.Context(), newRetry)), OffVariant, Want{Variant: "old"}); err == nil {
		t.Error("planned twice")
	}
	if s := must(l.Settle(t.Context(), c, true)); s.Fate != Untouched {
		t.Errorf("settled %+v", s)
	}
	back, err := l.Restore(t.Context(), rc)
	if err != nil || !f.on || back.Before != "3.7" || back.After != "3.8" {
		t.Fatalf("%+v, %v", back, err)
	}
	if s := must(l.Read(t.Context(), newRetry)); s.Definition == "" || s.Definition != first.Definition {
		t.Errorf("restored %+v, before %+v", s, first)
	}
	if again, err := l.Restore(t.Context(), rc); err != nil || !again.Already {
		t.Errorf("restored again %+v, %v", again, err)
	}
	s := must(l.Settle(t.Context(), c, true))
	if s.Fate != Written {
		t.Errorf("settled %+v", s)
	}
	noSecrets(t, []string{launchDarklyToken}, c, rc, back, s)
}

func TestLaunchDarklyPlans(t *testing.T) {
	t.Parallel()
	f, l := newLaunchDarklyTest(t)
	refused := func(want Want, m Mode, kind error, words ...string) {
		t.Helper()
		_, err := l.Plan(must(l.Read(t.Context(), newRetry)), m, want)
		wantError(t, err, kind, words...)
	}
	refused(Want{Variant: "off"}, OffVariant, ErrInvalid, `no variation "off"`, `"new", "old"`)
	refused(Want{Variant: "old"}, Disable, ErrInvalid)
	third := 2
	f.off = &third // without a name, so it is called by its value
	refused(Want{Variant: "old"}, OffVariant, ErrInvalid, `its off variation is "false", not "old"`)
	if _, err := l.Plan(must(l.Read(t.Context(), newRetry)), OffVariant, Want{Variant: "false"}); err != nil {
		t.Error(err)
	}
	f.off = nil
	refused(Want{Variant: "old"}, OffVariant, ErrInvalid, "no off variation", "default in the application's code")
	f.change(false, "", "ann@example.com")
	refused(Want{Variant: "old"}, OffVariant, ErrInvalid, "targeting is off")
	first := 1
	f.off = &first
	refused(Want{Variant: "old"}, OffVariant, ErrAlreadyOff)
	s, err := l.Read(t.Context(), Ref{"production", "no-such-flag"})
	wantError(t, err, ErrNotFound, "Unknown flag key")
	if s.Present {
		t.Errorf("state %+v", s)
	}
}

// The documented answers to a patch, and what each means.
func TestLaunchDarklyAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		write  func(w http.ResponseWriter, carryOut func()) bool
		kind   error
		words  []string
		change bool // it was carried out
	}{
		{"approval required, 405", status(405, `{"message": "approval is required"}`), ErrApprovalRequired, []string{"/shop/production/features/new-retry", "approvals: request"}, false},
		{"status conflict, 409", status(409, `{"code": "optimistic_locking_error", "message": "Conflict"}`), ErrConflict, []string{"HTTP 409: Conflict"}, false},
		{"a scheduled change would break, 400", status(400, `{"message": "would break a scheduled change"}`), ErrInvalid, []string{"would break a scheduled change"}, false},
		{"rate limited, 429", func(w http.ResponseWriter, _ func()) bool {
			w.Header().Set("Retry-After", "17")
			return status(429, `{"message": "Too many requests"}`)(w, nil)
		}, ErrRateLimited, []string{"try again after 17s"}, false},
		{"rate limited until a time, 429", func(w http.ResponseWriter, _ func()) bool {
			w.Header().Set("X-Ratelimit-Reset", "1790000000000") // 2026-09-21T14:13:20Z, by date -u -d @1790000000
			return status(429, "")(w, nil)
		}, ErrRateLimited, []string{"try again after 2026-09-21T14:13:20Z"}, false},
		{"forbidden, 403", status(403, `{"message": "Access to the requested resource was denied"}`), ErrForbidden, []string{"HTTP 403"}, false},
		{"moved, 301", func(w http.ResponseWriter, _ func()) bool {
			w.Header().Set("Location", "https://elsewhere.example.com/")
			return status(301, "")(w, nil)
		}, ErrUnreachable, []string{"elsewhere.example.com", "not followed"}, false},
		{"500, and it was not carried out", status(500, ""), ErrWrittenUnsure, []string{"HTTP 500", "reads on: true"}, false},
		{"500, and it was carried out", func(w http.ResponseWriter, carryOut func()) bool {
			carryOut()
			return status(500, "")(w, nil)
		}, nil, nil, true},
		{"a source that lies (200 but unchanged)", status(200, `{}`), ErrWrittenUnsure, []string{"reads on: true"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, l := newLaunchDarklyTest(t)
			f.write = tt.write
			c := launchDarklyPlan(t, l)
			rc, err := l.TurnOff(t.Context(), c)
			if tt.kind == nil {
				if err != nil || rc.After != "3.7" {
					t.Errorf("%+v, %v", rc, err)
				}
			} else {
				wantError(t, err, tt.kind, tt.words...)
				if strings.Contains(err.Error(), launchDarklyToken) {
					t.Errorf("the token is in %s", err)
				}
			}
			if f.on == tt.change {
				t.Errorf("on: %t", f.on)
			}
		})
	}
}

// status answers a patch with a status and a body, and does nothing.
func status(code int, body string) func(w http.ResponseWriter, carryOut func()) bool {
	return func(w http.ResponseWriter, _ func()) bool {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
		return true
	}
}

func TestLaunchDarklyApprovalRequested(t *testing.T) {
	t.Parallel()
	f, l := newLaunchDarklyTest(t)
	l.requestApproval = true
	f.write = status(405, "")
	c := launchDarklyPlan(t, l)
	_, err := l.TurnOff(t.Context(), c)
	wantError(t, err, ErrApprovalRequired, "request request-7 was made", "/shop/production/features/new-retry")
	if len(f.requests) != 1 || !strings.Contains(f.requests[0], `"kind":"turnFlagOff"`) || !strings.Contains(f.requests[0], c.Case) {
		t.Errorf("requests %v", f.requests)
	}
	// That the request is refused is told, and that an approval is needed stays the kind.
	for _, f.refuse = range []int{403, 404, 409, 503} {
		_, err := l.TurnOff(t.Context(), c)
		wantError(t, err, ErrApprovalRequired, "making it failed", fmt.Sprintf("HTTP %d: no such luck", f.refuse))
	}
}

func TestLaunchDarklyForeign(t *testing.T) {
	t.Parallel()
	t.Run("before the write", func(t *testing.T) {
		t.Parallel()
		f, l := newLaunchDarklyTest(t)
		c := launchDarklyPlan(t, l)
		f.change(true, "raised the rollout", "ann@example.com")
		_, err := l.TurnOff(t.Context(), c)
		wantError(t, err, ErrConflict, "3.6", "3.7", "raised the rollout")
		if s := must(l.Settle(t.Context(), c, false)); s.Fate != Foreign {
			t.Errorf("settled %+v", s)
		}
	})
	t.Run("right before the write, which has no condition", func(t *testing.T) {
		t.Parallel()
		f, l := newLaunchDarklyTest(t)
		f.write = func(http.ResponseWriter, func()) bool {
			f.change(true, "raised the rollout", "ann@example.com")
			return false
		}
		c := launchDarklyPlan(t, l)
		rc, err := l.TurnOff(t.Context(), c)
		wantError(t, err, ErrWrittenUnsure, "raised the rollout")
		if f.on || rc.Written.IsZero() {
			t.Errorf("receipt %+v", rc)
		}
	})
	t.Run("restore is refused after a foreign edit", func(t *testing.T) {
		t.Parallel()
		f, l := newLaunchDarklyTest(t)
		c := launchDarklyPlan(t, l)
		rc, err := l.TurnOff(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		f.change(false, "", "ann@example.com")
		_, err = l.Restore(t.Context(), rc)
		wantError(t, err, ErrConflict, "turned off the flag by ann@example.com", "nothing was written")
		if s := must(l.Settle(t.Context(), c, false)); s.Fate != WrittenOver {
			t.Errorf("settled %+v", s)
		}
	})
	t.Run("wrong token", func(t *testing.T) {
		t.Parallel()
		_, l := newLaunchDarklyTest(t)
		l.api.secret = tokenFile(t, "api-wrong-token")
		_, err := l.Read(t.Context(), newRetry)
		wantError(t, err, ErrForbidden, "HTTP 401", "***") // the server repeats the token
		if strings.Contains(err.Error(), "api-wrong-token") {
			t.Errorf("the token is in %s", err)
		}
	})
}

func TestBlind(t *testing.T) {
	t.Parallel()
	e, err := Blind{}.Prove(t.Context(), question("x"), time.Second)
	wantError(t, err, ErrUnproven, "add the source under verify")
	if e.Proved || e.Viewpoint.Kind != NoViewpoint {
		t.Errorf("evidence %+v", e)
	}
	if _, err := (Blind{}).Served(t.Context(), question("x")); err == nil {
		t.Error("something was seen")
	}
}
