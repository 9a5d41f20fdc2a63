package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A fakeKube answers as a Kubernetes API does about one object, as far as driftwatch asks: GET,
// and JSON patches of mappings with a resourceVersion, dry or not. tools/kubernetes has the tests
// against the real one; here is what a real one cannot be made to do.
type fakeKube struct {
	*httptest.Server
	token string

	mu       sync.Mutex
	object   map[string]any
	version  int
	requests []string                                          // method and query of each
	before   func(w http.ResponseWriter, r *http.Request) bool // answers in place of the API where it returns true
	stored   func(object map[string]any)                       // changes what a patch has stored
}

const kubeSecret = "geheim-0815"

func newFakeKube(t *testing.T, object string) *fakeKube {
	t.Helper()
	k := &fakeKube{token: kubeSecret, version: 200}
	if err := json.Unmarshal([]byte(object), &k.object); err != nil {
		t.Fatal(err)
	}
	k.Server = httptest.NewTLSServer(k)
	t.Cleanup(k.Close)
	return k
}

func (k *fakeKube) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests = append(k.requests, r.Method+" "+r.URL.RawQuery)
	if r.Header.Get("Authorization") != "Bearer "+k.token {
		deny(w, 401, "Unauthorized", "Unauthorized: "+r.Header.Get("Authorization"))
		return
	}
	if k.before != nil && k.before(w, r) {
		return
	}
	object := k.object
	if r.Method == http.MethodPatch {
		var ops []struct {
			Op, Path string
			Value    any
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &ops)
		}
		if err != nil || r.Header.Get("Content-Type") != "application/json-patch+json" {
			deny(w, 400, "BadRequest", fmt.Sprint(err))
			return
		}
		object = clone(k.object)
		for _, op := range ops {
			if op.Path == "/metadata/resourceVersion" && op.Value != strconv.Itoa(k.version) {
				deny(w, 409, "Conflict", `Operation cannot be fulfilled on featureflags.core.openfeature.dev "checkout": the object has been modified; please apply your changes to the latest version and try again`)
				return
			}
			at := object
			steps := strings.Split(strings.TrimPrefix(op.Path, "/"), "/")
			for _, s := range steps[:len(steps)-1] {
				at = at[strings.ReplaceAll(s, "~1", "/")].(map[string]any)
			}
			last := strings.ReplaceAll(steps[len(steps)-1], "~1", "/")
			if op.Op == "remove" {
				delete(at, last)
			} else {
				at[last] = op.Value
			}
		}
		if k.stored != nil {
			k.stored(object)
		}
		if r.URL.Query().Get("dryRun") == "" {
			k.set(object)
		}
	}
	object["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(k.version)
	_ = json.NewEncoder(w).Encode(object)
}

func (k *fakeKube) set(object map[string]any) {
	k.object = object
	k.version++
}

// edit changes the object as somebody else does.
func (k *fakeKube) edit(change func(object map[string]any)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	object := clone(k.object)
	change(object)
	k.set(object)
}

func clone(m map[string]any) map[string]any {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

func deny(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "reason": reason, "message": message, "details": map[string]any{"name": "checkout"}})
}

// server is how a source reaches the fake.
func (k *fakeKube) server(t *testing.T) KubernetesServer {
	t.Helper()
	dir := t.TempDir()
	s := KubernetesServer{Address: k.URL, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt")}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw})
	for path, text := range map[string][]byte{s.TokenFile: []byte(k.token + "\n"), s.CAFile: authority} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

const flagResource = `{
  "apiVersion": "core.openfeature.dev/v1beta1", "kind": "FeatureFlag",
  "metadata": {"name": "checkout", "namespace": "shop", "generation": 1, "managedFields": [{"manager": "kubectl", "time": "2026-11-01T08:00:00Z"}]},
  "spec": {"flagSpec": {"flags": {
    "newBackoff": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on",
      "targeting": {"if": [{"==": [{"var": "plan"}, null]}, "on", {"fractional": [["on", 50], ["off", 50]]}]}},
    "other": {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a"}
  }}}
}`

func (k *fakeKube) source(t *testing.T) *Kubernetes {
	t.Helper()
	s, err := NewFeatureFlag(KubernetesObject{Server: k.server(t), Namespace: "shop", Name: "checkout"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (k *fakeKube) configMap(t *testing.T, key string) *Kubernetes {
	t.Helper()
	s, err := NewConfigMap(KubernetesObject{Server: k.server(t), Namespace: "shop", Name: "flags"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var backoff = Ref{"production", "newBackoff"}

func kubePlan(t *testing.T, s Switch) Change {
	t.Helper()
	return plannedBy(t, s, backoff, OffVariant, "off")
}

func kubeQuestion(c Change) Question {
	return Question{Key: c.Ref.Key, Want: c.Want, Variants: map[string]any{"on": true, "off": false}, Probes: []Probe{{targetingKey: "u1"}, {targetingKey: "u2", "plan": "free"}}}
}

// withoutSecret fails where a text of driftwatch holds the token.
func withoutSecret(t *testing.T, texts ...any) {
	t.Helper()
	for _, v := range texts {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if s := fmt.Sprintf("%+v %s", v, b); strings.Contains(s, kubeSecret) {
			t.Errorf("it holds the token: %s", s)
		}
	}
}

func TestFeatureFlagOffAndBack(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	was := clone(k.object)
	c := kubePlan(t, s)
	rc, err := s.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	flag := k.object["spec"].(map[string]any)["flagSpec"].(map[string]any)["flags"].(map[string]any)["newBackoff"].(map[string]any)
	if _, targeted := flag["targeting"]; targeted || flag["defaultVariant"] != "off" {
		t.Errorf("stored %v", flag)
	}
	if got := k.object["metadata"].(map[string]any)["annotations"].(map[string]any)[caseAnnotation]; got != c.Case {
		t.Errorf("annotation %v, want %s", got, c.Case)
	}
	if want := []string{"GET ", "GET ", "PATCH fieldManager=driftwatch&fieldValidation=Strict&dryRun=All", "PATCH fieldManager=driftwatch&fieldValidation=Strict", "GET "}; strings.Join(k.requests, "\n") != strings.Join(want, "\n") {
		t.Errorf("requests %q, want %q", k.requests, want)
	}
	evidence, err := NewObjectProver(s).Prove(t.Context(), kubeQuestion(c), 20*time.Second)
	if err != nil || !evidence.Proved || evidence.Rounds < 3 || evidence.Viewpoint != (Viewpoint{Object, s.Address()}) {
		t.Errorf("evidence %+v, %v", evidence, err)
	}
	again, err := s.TurnOff(t.Context(), c)
	if err != nil || !again.Already {
		t.Errorf("once more: %+v, %v; want that it was written already", again, err)
	}
	back, err := s.Restore(t.Context(), rc)
	if err != nil || back.After != c.Base {
		t.Fatalf("%+v, %v", back, err)
	}
	delete(k.object["metadata"].(map[string]any), "resourceVersion")
	delete(was["metadata"].(map[string]any), "resourceVersion")
	now := k.object["metadata"].(map[string]any)
	if len(now["annotations"].(map[string]any)) == 0 {
		delete(now, "annotations") // a real API leaves an empty mapping out
	}
	if text(k.object) != text(was) {
		t.Errorf("restored\n%s\nwant\n%s", text(k.object), text(was))
	}
	withoutSecret(t, c, rc, back, evidence)
}

// The other ways to turn a flag off are those of a file.
func TestOtherModesInAnObject(t *testing.T) {
	const ramp = `{"fractional": [["on", 50], ["off", 50]]}`
	resource := strings.Replace(flagResource, `{"if": [{"==": [{"var": "plan"}, null]}, "on", `+ramp+`]}`, ramp, 1)
	resource = strings.Replace(resource, `"defaultVariant": "on"`, `"defaultVariant": "off"`, 1)
	var held map[string]any
	if err := json.Unmarshal([]byte(configMapObject), &held); err != nil {
		t.Fatal(err)
	}
	file := "flags:\n  newBackoff:\n    state: ENABLED\n    variants: {\"on\": true, \"off\": false}\n    defaultVariant: \"off\"\n    targeting: " + ramp + " # since March\n"
	held["data"] = map[string]any{"flags.yaml": file}

	// set is flag with one field changed, as a resource has it.
	set := func(flag map[string]any, field string, value any) string {
		flag = clone(flag)
		flag[field] = value
		return text(flag)
	}
	var asRead map[string]any
	if err := json.Unmarshal([]byte(resource), &asRead); err != nil {
		t.Fatal(err)
	}
	zero := map[string]any{"fractional": []any{[]any{"on", 0}, []any{"off", 100}}}
	tests := []struct {
		name    string
		object  string
		source  func(k *fakeKube) *Kubernetes
		flag    func(k *fakeKube) string
		mode    Mode
		variant string
		after   string
	}{
		{"a ramp in a resource", resource, func(k *fakeKube) *Kubernetes { return k.source(t) }, storedFlag, RampZero, "off", set(flagIn(asRead), "targeting", zero)},
		{"disabled in a resource", resource, func(k *fakeKube) *Kubernetes { return k.source(t) }, storedFlag, Disable, "", set(flagIn(asRead), "state", "DISABLED")},
		{"a ramp in a ConfigMap", text(held), func(k *fakeKube) *Kubernetes { return k.configMap(t, "flags.yaml") }, storedFile, RampZero, "off", strings.Replace(file, `[["on", 50], ["off", 50]]`, `[["on",0],["off",100]]`, 1)},
		{"disabled in a ConfigMap", text(held), func(k *fakeKube) *Kubernetes { return k.configMap(t, "flags.yaml") }, storedFile, Disable, "", strings.Replace(file, "state: ENABLED", `state: "DISABLED"`, 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKube(t, tt.object)
			s := tt.source(k)
			was := tt.flag(k)
			c := plannedBy(t, s, backoff, tt.mode, tt.variant)
			rc, err := s.TurnOff(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.flag(k); got != tt.after {
				t.Errorf("stored %s, want %s", got, tt.after)
			}
			if _, err := NewObjectProver(s).Prove(t.Context(), kubeQuestion(c), 20*time.Second); err != nil {
				t.Error(err)
			}
			if _, err := s.Plan(must(s.Read(t.Context(), backoff)), tt.mode, Want{Variant: tt.variant}); !errors.Is(err, ErrAlreadyOff) {
				t.Errorf("planned again: %v, want that it is off", err)
			}
			if _, err := s.Restore(t.Context(), rc); err != nil || tt.flag(k) != was {
				t.Errorf("%v, restored %s, want %s", err, tt.flag(k), was)
			}
		})
	}
}

func storedFlag(k *fakeKube) string { return text(flagIn(k.object)) }

func storedFile(k *fakeKube) string { return k.object["data"].(map[string]any)["flags.yaml"].(string) }

// The annotation names every flag of the object that is off, and each is taken back for itself.
func TestTwoFlagsOfOneResourceAreTakenBackInAnyOrder(t *testing.T) {
	k := newFakeKube(t, strings.Replace(flagResource, `"namespace"`, `"annotations": {"team": "payments"}, "namespace"`, 1))
	s := k.source(t)
	first := kubePlan(t, s)
	rc, err := s.TurnOff(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	rc2, err := s.TurnOff(t.Context(), plannedBy(t, s, Ref{"production", "other"}, OffVariant, "b"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Receipt{rc, rc2} {
		if settled, err := s.Settle(t.Context(), r.Change, false); err != nil || settled.Fate != Written {
			t.Errorf("settled %v, %v, want written", settled.Fate, err)
		}
		if _, err := s.Restore(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	if got := text(k.object["metadata"].(map[string]any)["annotations"]); got != `{"team":"payments"}` {
		t.Errorf("annotations %s", got)
	}
}

func TestStaleResourceVersion(t *testing.T) {
	t.Run("the flag is the same: it is looked at again", func(t *testing.T) {
		k := newFakeKube(t, flagResource)
		s := k.source(t)
		c := kubePlan(t, s)
		moved := 0
		k.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch && moved < 2 {
				moved++
				k.version++ // an operator writes the status between our look and our write
			}
			return false
		}
		if _, err := s.TurnOff(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
	t.Run("for ever: conflict", func(t *testing.T) {
		k := newFakeKube(t, flagResource)
		s := k.source(t)
		c := kubePlan(t, s)
		k.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch {
				k.version++
			}
			return false
		}
		if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, ErrConflict) {
			t.Errorf("%v, want a conflict", err)
		}
	})
	t.Run("the flag changed: conflict", func(t *testing.T) {
		k := newFakeKube(t, flagResource)
		s := k.source(t)
		c := kubePlan(t, s)
		k.edit(func(o map[string]any) { flagIn(o)["variants"] = map[string]any{"on": true, "off": false, "new": true} })
		_, err := s.TurnOff(t.Context(), c)
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "last written by kubectl at 2026-11-01 08:00:00 UTC") {
			t.Errorf("%v, want a conflict that names the writer", err)
		}
	})
}

func flagIn(object map[string]any) map[string]any {
	return object["spec"].(map[string]any)["flagSpec"].(map[string]any)["flags"].(map[string]any)["newBackoff"].(map[string]any)
}

// Somebody else's edit is not undone, and a label is none.
func TestRestoreOfAForeignEditIsRefused(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	rc, err := s.TurnOff(t.Context(), kubePlan(t, s))
	if err != nil {
		t.Fatal(err)
	}
	mine := clone(k.object)
	for name, change := range map[string]func(map[string]any){
		"the flag":       func(o map[string]any) { flagIn(o)["defaultVariant"] = "on" },
		"the annotation": func(o map[string]any) { delete(o["metadata"].(map[string]any), "annotations") },
	} {
		k.edit(func(o map[string]any) { clear(o); merge(o, mine); change(o) })
		if _, err := s.Restore(t.Context(), rc); !errors.Is(err, ErrConflict) {
			t.Errorf("%s changed: %v, want a conflict", name, err)
		}
		if settled, err := s.Settle(t.Context(), rc.Change, true); err != nil || settled.Fate != Foreign {
			t.Errorf("%s changed: settled %v, %v, want foreign", name, settled.Fate, err)
		}
	}
	k.edit(func(o map[string]any) {
		clear(o)
		merge(o, mine)
		o["metadata"].(map[string]any)["labels"] = map[string]any{"team": "payments"}
		o["status"] = map[string]any{"seen": true}
	})
	if _, err := s.Restore(t.Context(), rc); err != nil {
		t.Errorf("with another label and status: %v", err)
	}
}

func merge(to, from map[string]any) { maps.Copy(to, clone(from)) }

// A proxy, a broken admission chain or a read-only replica may say 200 and store nothing.
func TestASourceThatLies(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	s.api.pause = noPause
	c := kubePlan(t, s)
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || r.URL.Query().Has("dryRun") {
			return false
		}
		k.object["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(k.version)
		_ = json.NewEncoder(w).Encode(k.object)
		return true
	}
	rc, err := s.TurnOff(t.Context(), c)
	if !errors.Is(err, ErrWrittenUnsure) || !strings.Contains(err.Error(), "said yes, and the object is unchanged") || rc.After != c.After {
		t.Errorf("%+v, %v", rc, err)
	}
	evidence, err := NewObjectProver(s).Prove(t.Context(), kubeQuestion(c), time.Second)
	if !errors.Is(err, ErrUnproven) || evidence.Proved {
		t.Errorf("proved %v, %v", evidence.Proved, err)
	}
	withoutSecret(t, rc, err.Error(), evidence)
}

func noPause(context.Context, time.Duration) error { return nil }

// What a webhook makes of the write is not what was planned.
func TestAdmissionWebhookChangesTheWrite(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	c := kubePlan(t, s)
	was := text(k.object)
	k.stored = func(o map[string]any) { flagIn(o)["defaultVariant"] = "on" }
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "webhook") {
		t.Errorf("%v, want it refused at the dry run", err)
	}
	if text(k.object) != was {
		t.Errorf("the object changed: %s", text(k.object))
	}
}

// The tool that keeps the object puts it back between the write and the look behind it, or later.
func TestCRPatchedBackByGitOps(t *testing.T) {
	putBack := func(o map[string]any) {
		flagIn(o)["defaultVariant"] = "on"
		o["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{"manager": "argocd-controller", "time": "2026-11-02T10:00:05Z"}}
	}
	t.Run("at once", func(t *testing.T) {
		k := newFakeKube(t, flagResource)
		s := k.source(t)
		s.api.pause = noPause
		c := kubePlan(t, s)
		k.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet && strings.HasSuffix(k.requests[len(k.requests)-2], "Strict") {
				o := clone(k.object)
				putBack(o)
				k.set(o)
			}
			return false
		}
		rc, err := s.TurnOff(t.Context(), c)
		if !errors.Is(err, ErrWrittenUnsure) || !strings.Contains(err.Error(), "overwritten right after the write by argocd-controller at 2026-11-02 10:00:05 UTC") || rc.After != c.After {
			t.Errorf("%+v, %v", rc, err)
		}
	})
	t.Run("before the proof", func(t *testing.T) {
		k := newFakeKube(t, flagResource)
		s := k.source(t)
		c := kubePlan(t, s)
		if _, err := s.TurnOff(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		k.edit(putBack)
		_, err := NewObjectProver(s).Prove(t.Context(), kubeQuestion(c), time.Second)
		if !errors.Is(err, ErrUnproven) || !strings.Contains(err.Error(), "last written by argocd-controller at 2026-11-02 10:00:05 UTC") {
			t.Errorf("%v, want it unproved, naming who wrote last", err)
		}
	})
}

// An answer that is lost leaves two worlds; reading tells which one this is.
func TestLostAnswer(t *testing.T) {
	answers := map[string]func(t *testing.T, w http.ResponseWriter){
		"timeout": func(_ *testing.T, w http.ResponseWriter) {
			deny(w, 504, "Timeout", "request did not complete within the allotted timeout")
		},
		"hung up":           hangUp,
		"a sign-in page":    func(_ *testing.T, w http.ResponseWriter) { fmt.Fprint(w, "<html>sign in</html>") },
		"longer than bound": func(_ *testing.T, w http.ResponseWriter) { endless(w) },
	}
	for name, answer := range answers {
		for _, carriedOut := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, carried out %t", name, carriedOut), func(t *testing.T) {
				k := newFakeKube(t, flagResource)
				s := k.source(t)
				s.api.pause = noPause
				c := kubePlan(t, s)
				k.before = func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method != http.MethodPatch || r.URL.Query().Has("dryRun") {
						return false
					}
					if carriedOut {
						k.before = nil
						k.mu.Unlock()
						k.ServeHTTP(httptest.NewRecorder(), r)
						k.mu.Lock()
					}
					answer(t, w)
					return true
				}
				rc, err := s.TurnOff(t.Context(), c)
				if carriedOut && err != nil {
					t.Errorf("it was carried out: %v", err)
				}
				if !carriedOut && (!errors.Is(err, ErrWrittenUnsure) || rc.After != c.After) {
					t.Errorf("it was not carried out: %+v, %v, want it unsure", rc, err)
				}
			})
		}
		t.Run(name+", to the dry run", func(t *testing.T) {
			k := newFakeKube(t, flagResource)
			s := k.source(t)
			c := kubePlan(t, s)
			was := text(k.object)
			k.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPatch {
					answer(t, w)
				}
				return r.Method == http.MethodPatch
			}
			_, err := s.TurnOff(t.Context(), c)
			if !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrWrittenUnsure) || text(k.object) != was {
				t.Errorf("%v, want that nothing was written", err)
			}
		})
	}
}

// A redirect is no answer, and the token does not go along with it.
func TestKubernetesRedirect(t *testing.T) {
	var arrived atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	defer elsewhere.Close()
	for _, method := range []string{http.MethodGet, http.MethodPatch} {
		k := newFakeKube(t, flagResource)
		s := k.source(t)
		c := kubePlan(t, s)
		k.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == method {
				http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			}
			return r.Method == method
		}
		_, err := s.TurnOff(t.Context(), c)
		if !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrWrittenUnsure) || !strings.Contains(err.Error(), strings.TrimPrefix(elsewhere.URL, "http://")) {
			t.Errorf("%s: %v, want the redirect told", method, err)
		}
		withoutSecret(t, err.Error())
	}
	if n := arrived.Load(); n > 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

func TestCrashSettle(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	c := kubePlan(t, s)
	fate := func(restore bool, want Fate) Settlement {
		t.Helper()
		got, err := s.Settle(t.Context(), c, restore)
		if err != nil || got.Fate != want {
			t.Errorf("fate %q, %v, want %q", got.Fate, err, want)
		}
		return got
	}
	fate(false, Untouched)
	// Somebody else does the very same: it is not ours.
	on := clone(k.object)
	k.edit(func(o map[string]any) { delete(flagIn(o), "targeting"); flagIn(o)["defaultVariant"] = "off" })
	fate(false, Foreign)
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, ErrConflict) {
		t.Errorf("over somebody else's: %v, want a conflict", err)
	}
	k.edit(func(o map[string]any) { clear(o); merge(o, on) })

	if _, err := s.TurnOff(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	rc := fate(false, Written).Receipt
	fate(true, Untouched)
	if _, err := s.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	fate(true, Written)
	fate(false, Untouched)
}

func TestRateLimit(t *testing.T) {
	tests := []struct {
		name, after string
		times       int
		want        error
		waited      time.Duration
		says        string
	}{
		{"a second of patience", "1", 1, nil, time.Second, ""},
		{"for ever", "1", 1000, ErrRateLimited, 3 * time.Second, "1s"},
		{"too long to wait for", "60", 1, ErrRateLimited, 0, "1m0s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKube(t, flagResource)
			s := k.source(t)
			c := kubePlan(t, s)
			left := tt.times
			k.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPatch || left == 0 {
					return false
				}
				left--
				w.Header().Set("Retry-After", tt.after)
				deny(w, 429, "TooManyRequests", "too many requests, please try again later")
				return true
			}
			var waited time.Duration
			s.api.pause = func(_ context.Context, d time.Duration) error { waited += d; return nil }
			_, err := s.TurnOff(t.Context(), c)
			if !errors.Is(err, tt.want) || waited != tt.waited {
				t.Errorf("%v after %s of waiting, want %v after %s", err, waited, tt.want, tt.waited)
			}
			if err != nil && !strings.Contains(err.Error(), "try again after "+tt.says) {
				t.Errorf("the message does not say when: %v", err)
			}
		})
	}
}

func TestTokenRotation(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	c := kubePlan(t, s)
	k.mu.Lock()
	k.token = kubeSecret + "-2"
	k.mu.Unlock()
	_, err := s.TurnOff(t.Context(), c)
	if !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "server.token_file") {
		t.Errorf("the old token: %v", err)
	}
	withoutSecret(t, err.Error())
	if err := os.WriteFile(s.object.Server.TokenFile, []byte(k.token), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TurnOff(t.Context(), c); err != nil {
		t.Errorf("the new token: %v", err)
	}
}

// Answers of a kube-apiserver 1.34.4, as they were recorded; RBAC is not in the server that
// tools/kubernetes starts.
func TestRefusalsOfTheAPI(t *testing.T) {
	tests := []struct {
		name    string
		code    int
		message string
		on      string // method
		want    error
		says    string
	}{
		{"no role to read", 403, `featureflags.core.openfeature.dev "checkout" is forbidden: User "system:serviceaccount:driftwatch:driftwatch" cannot get resource "featureflags" in API group "core.openfeature.dev" in the namespace "shop"`, "GET", ErrForbidden, `it needs a Role in namespace shop with {apiGroups: ["core.openfeature.dev"], resources: [featureflags], resourceNames: [checkout], verbs: [get, patch]}`},
		{"no role to write", 403, `featureflags.core.openfeature.dev "checkout" is forbidden: User "u" cannot patch resource "featureflags" in API group "core.openfeature.dev" in the namespace "shop"`, "PATCH", ErrForbidden, "verbs: [get, patch]"},
		{"an admission policy", 403, `admission webhook "freeze.example.com" denied the request: change freeze`, "PATCH", ErrForbidden, "change freeze"},
		{"no such resource", 404, `featureflags.core.openfeature.dev "checkout" not found`, "GET", ErrNotFound, "not found"},
		{"schema", 422, `FeatureFlag.core.openfeature.dev "checkout" is invalid: spec.flagSpec.flags.newBackoff.state: Unsupported value: "OFF": supported values: "ENABLED", "DISABLED"`, "PATCH", ErrInvalid, `Unsupported value: "OFF"`},
		{"unknown field", 400, `strict decoding error: unknown field "spec.x"`, "PATCH", ErrInvalid, "unknown field"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKube(t, flagResource)
			s := k.source(t)
			c := kubePlan(t, s)
			k.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == tt.on {
					deny(w, tt.code, "", tt.message)
				}
				return r.Method == tt.on
			}
			_, err := s.TurnOff(t.Context(), c)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %v that says %s", err, tt.want, tt.says)
			}
			withoutSecret(t, err.Error())
		})
	}
}

func TestUnreachableKubernetes(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	c := kubePlan(t, s)
	k.Close()
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrWrittenUnsure) {
		t.Errorf("no server: %v", err)
	}
	if _, err := NewObjectProver(s).Served(t.Context(), kubeQuestion(c)); err == nil {
		t.Error("no server, and what it serves is known")
	}
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>sign in</html>") }))
	defer login.Close()
	elsewhere := httptest.NewServer(http.RedirectHandler(login.URL, http.StatusFound))
	defer elsewhere.Close()
	for _, address := range []string{login.URL, elsewhere.URL} {
		s, err := NewFeatureFlag(KubernetesObject{Server: KubernetesServer{Address: address}, Namespace: "shop", Name: "checkout"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context(), backoff); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v, want it unreachable", address, err)
		}
	}
}

func TestManagedElsewhere(t *testing.T) {
	marks := map[string]func(metadata map[string]any){
		"Argo CD": func(m map[string]any) { m["annotations"] = map[string]any{"argocd.argoproj.io/tracking-id": "shop:x"} },
		"Flux":    func(m map[string]any) { m["labels"] = map[string]any{"kustomize.toolkit.fluxcd.io/name": "shop"} },
		"Helm":    func(m map[string]any) { m["labels"] = map[string]any{"app.kubernetes.io/managed-by": "Helm"} },
		"Rollout": func(m map[string]any) {
			m["ownerReferences"] = []any{map[string]any{"kind": "Rollout", "name": "x", "controller": true}}
		},
		"helm-controller": func(m map[string]any) { m["managedFields"] = []any{map[string]any{"manager": "helm-controller"}} },
	}
	for by, mark := range marks {
		k := newFakeKube(t, flagResource)
		s := k.source(t)
		mark(k.object["metadata"].(map[string]any))
		was := text(flagIn(k.object))
		state, err := s.Read(t.Context(), backoff)
		if err != nil || !strings.Contains(state.ReadOnly, by) {
			t.Errorf("%s: read-only %q, %v", by, state.ReadOnly, err)
		}
		c := kubePlan(t, s)
		if !strings.Contains(c.Diff, by) {
			t.Errorf("%s: the plan does not say it:\n%s", by, c.Diff)
		}
		if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, ErrManagedElsewhere) || !strings.Contains(err.Error(), "managed: allow") || text(flagIn(k.object)) != was {
			t.Errorf("%s: %v, want it refused", by, err)
		}
		s.object.OverwriteManaged = true
		rc, err := s.TurnOff(t.Context(), c)
		if err != nil {
			t.Errorf("%s, allowed: %v", by, err)
		}
		s.object.OverwriteManaged = false
		if _, err := s.Restore(t.Context(), rc); err != nil {
			t.Errorf("%s, restore: %v", by, err)
		}
	}
}

func TestUnknownVariantIsRefusedByUs(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	state, err := s.Read(t.Context(), backoff)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(state, OffVariant, Want{Variant: "nope"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	// The other flag names an unknown variant, which the schema takes: flagd would not follow the
	// resource any more, whatever we write.
	k.edit(func(o map[string]any) {
		o["spec"].(map[string]any)["flagSpec"].(map[string]any)["flags"].(map[string]any)["other"].(map[string]any)["defaultVariant"] = "nope"
	})
	if state, err = s.Read(t.Context(), backoff); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(state, OffVariant, Want{Variant: "off"}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "nope") {
		t.Errorf("%v", err)
	}
}

const configMapObject = `{
  "apiVersion": "v1", "kind": "ConfigMap",
  "metadata": {"name": "flags", "namespace": "shop"},
  "data": {"notes.txt": "kept", "flags.yaml": "# reviewed by payments\nflags:\n  newBackoff:\n    state: ENABLED\n    variants: {\"on\": true, \"off\": false}\n    defaultVariant: \"on\" # since March\n"}
}`

func TestConfigMapOffAndBack(t *testing.T) {
	k := newFakeKube(t, configMapObject)
	s := k.configMap(t, "flags.yaml")
	was := text(k.object["data"])
	c := kubePlan(t, s)
	rc, err := s.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(k.object["data"]), strings.Replace(was, `\"on\" # since`, `\"off\" # since`, 1); got != want {
		t.Errorf("data %s, want one word changed: %s", got, want)
	}
	if _, err := NewObjectProver(s).Prove(t.Context(), kubeQuestion(c), 20*time.Second); err != nil {
		t.Error(err)
	}
	if _, err := s.Restore(t.Context(), rc); err != nil || text(k.object["data"]) != was {
		t.Errorf("%v, data %s, want %s", err, text(k.object["data"]), was)
	}
}

func TestConfigMapsThatCannotBeEdited(t *testing.T) {
	tests := []struct {
		name, key string
		change    func(o map[string]any)
		read      error
		off       error
		says      string
	}{
		{"immutable", "flags.yaml", func(o map[string]any) { o["immutable"] = true }, nil, ErrReadOnly, "immutable"},
		{"being deleted", "flags.yaml", func(o map[string]any) { o["metadata"].(map[string]any)["deletionTimestamp"] = "2026-11-02T10:00:00Z" }, nil, ErrReadOnly, "deleted"},
		{"in binaryData", "flags.json", func(o map[string]any) { o["binaryData"] = map[string]any{"flags.json": "e30="} }, ErrInvalid, nil, "binaryData"},
		{"without the key", "flagz.yaml", func(map[string]any) {}, ErrNotFound, nil, "flags.yaml, notes.txt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKube(t, configMapObject)
			tt.change(k.object)
			s := k.configMap(t, tt.key)
			state, err := s.Read(t.Context(), backoff)
			if !errors.Is(err, tt.read) {
				t.Fatalf("%v, want %v", err, tt.read)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want it to say %s", err, tt.says)
				}
				return
			}
			if !strings.Contains(state.ReadOnly, tt.says) {
				t.Errorf("read-only %q, want it to say %s", state.ReadOnly, tt.says)
			}
			if _, err := s.TurnOff(t.Context(), kubePlan(t, s)); !errors.Is(err, tt.off) {
				t.Errorf("%v, want %v", err, tt.off)
			}
		})
	}
}

func TestLastWriter(t *testing.T) {
	at := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		all  []fieldManager
		want string
	}{
		{"nobody", nil, "somebody"},
		{"the newest", []fieldManager{{"b", at.Add(time.Second)}, {"a", at}}, "b at 2026-11-02 10:00:01 UTC"},
		{"not driftwatch, in one second", []fieldManager{{"argocd-controller", at}, {"driftwatch", at}}, "argocd-controller at 2026-11-02 10:00:00 UTC"},
		{"driftwatch, by itself", []fieldManager{{"a", at}, {"driftwatch", at.Add(time.Second)}}, "driftwatch at 2026-11-02 10:00:01 UTC"},
	}
	for _, tt := range tests {
		var o kubeObject
		o.Metadata.ManagedFields = tt.all
		if got := o.lastWriter().String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestInCluster(t *testing.T) {
	if _, err := InCluster(func(string) string { return "" }); err == nil {
		t.Error("a cluster out of nothing")
	}
	env := map[string]string{"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
	s, err := InCluster(func(k string) string { return env[k] })
	want := KubernetesServer{"https://[fd00::1]:443", "/var/run/secrets/kubernetes.io/serviceaccount/token", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"}
	if err != nil || s != want {
		t.Errorf("%+v, %v, want %+v", s, err, want)
	}
}

// A change is pure data: what the journal keeps of it takes it back, too.
func TestRestoreFromTheJournal(t *testing.T) {
	k := newFakeKube(t, flagResource)
	s := k.source(t)
	was := text(flagIn(k.object))
	rc, err := s.TurnOff(t.Context(), kubePlan(t, s))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(rc)
	if err != nil {
		t.Fatal(err)
	}
	var read Receipt
	if err := json.NewDecoder(bytes.NewReader(kept)).Decode(&read); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Restore(t.Context(), read); err != nil || text(flagIn(k.object)) != was {
		t.Errorf("%v, flag %s, want %s", err, text(flagIn(k.object)), was)
	}
}
