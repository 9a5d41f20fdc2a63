package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/driftwatch/driftwatch/internal/flags"
)

// flag is a FeatureFlag resource with two flags. The rule of the first has what is easily lost:
// a null, members in an order of their own, a key to escape.
const flag = `
apiVersion: core.openfeature.dev/v1beta1
kind: FeatureFlag
metadata: {name: NAME, namespace: shop, annotations: {team: payments}}
spec:
  flagSpec:
    flags:
      pay/new~backoff:
        state: ENABLED
        variants: {"on": true, "off": false}
        defaultVariant: "on"
        targeting: {"if": [{"==": [{"var": "plan"}, null]}, "on", {"fractional": [["on", 50], ["off", 50]]}]}
      other:
        state: ENABLED
        variants: {a: 1.5, b: 2}
        defaultVariant: a
`

var backoff = flags.Ref{Source: "production", Key: "pay/new~backoff"}

// newFlag stores the resource under a name of the test.
func newFlag(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	return create(t, flagResource, strings.Replace(flag, "NAME", name, 1))
}

func source(t *testing.T, server flags.KubernetesServer, name string, overwrite bool) *flags.Kubernetes {
	t.Helper()
	s, err := flags.NewFeatureFlag(flags.KubernetesObject{Server: server, Namespace: "shop", Name: name, OverwriteManaged: overwrite})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plan reads the flag and plans to turn it off.
func plan(t *testing.T, s flags.Switch, ref flags.Ref, off string) flags.Change {
	t.Helper()
	state, err := s.Read(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Plan(state, flags.OffVariant, flags.Want{Variant: off})
	if err != nil {
		t.Fatal(err)
	}
	c.Case = "2026-11-02T10:00:00Z-checkout-1a2b/" + ref.Key
	return c
}

func question(c flags.Change) flags.Question {
	return flags.Question{
		Key: c.Ref.Key, Want: c.Want, Variants: map[string]any{"on": true, "off": false},
		Probes: []flags.Probe{{"targetingKey": "u1"}, {"targetingKey": "u2"}, {"targetingKey": "u3", "plan": "free"}},
	}
}

// flagOf is one flag of a resource as it is stored.
func flagOf(t *testing.T, o map[string]any, key string) map[string]any {
	t.Helper()
	all, ok, err := unstructured.NestedMap(o, "spec", "flagSpec", "flags")
	if err != nil || !ok {
		t.Fatalf("no flags in %v: %v", o, err)
	}
	f, _ := all[key].(map[string]any)
	return f
}

// change sets fields of one flag of an object, in place.
func change(o map[string]any, key string, fields map[string]any) {
	all := o["spec"].(map[string]any)["flagSpec"].(map[string]any)["flags"].(map[string]any)
	maps.Copy(all[key].(map[string]any), fields)
}

func TestOffAndRestoredExactly(t *testing.T) {
	before := newFlag(t, "exact")
	s := source(t, api.server, "exact", false)
	c := plan(t, s, backoff, "off")
	rc, err := s.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	off := read(t, flagResource, "exact")
	f := flagOf(t, off.Object, backoff.Key)
	if _, targeted := f["targeting"]; targeted || f["defaultVariant"] != "off" {
		t.Errorf("stored %v", f)
	}
	if got := off.GetGeneration() - before.GetGeneration(); got != 1 {
		t.Errorf("%d generations, want one write", got)
	}
	if got := off.GetAnnotations()["driftwatch.dev/case"]; got != c.Case {
		t.Errorf("annotation %q, want %q", got, c.Case)
	}
	managers := map[string]bool{}
	for _, m := range off.GetManagedFields() {
		managers[m.Manager] = true
	}
	if !managers["driftwatch"] || rc.Written.IsZero() {
		t.Errorf("managers %v, written at %s; want driftwatch among them, and its time", managers, rc.Written)
	}

	// Repeated after a crash, nothing is written.
	again, err := s.TurnOff(t.Context(), c)
	if err != nil || !again.Already || read(t, flagResource, "exact").GetResourceVersion() != off.GetResourceVersion() {
		t.Errorf("repeated: %+v, %v; want that it was written already", again, err)
	}
	if state, err := s.Read(t.Context(), backoff); err != nil || state.Revision != rc.After || !state.Off("off") {
		t.Errorf("state %+v, %v", state, err)
	}

	if _, err := s.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	back := read(t, flagResource, "exact")
	if got, want := withoutCounters(back), withoutCounters(before); !reflect.DeepEqual(got, want) {
		t.Errorf("restored\n%v\nwant\n%v", got, want)
	}
	again, err = s.Restore(t.Context(), rc)
	if err != nil || !again.Already || read(t, flagResource, "exact").GetResourceVersion() != back.GetResourceVersion() {
		t.Errorf("restored again: %+v, %v; want that it was restored already", again, err)
	}
}

// The server refuses a write on a resourceVersion that is not the newest, and driftwatch looks
// again: an edit of the flag is a conflict, one of anything else is not.
func TestStaleResourceVersion(t *testing.T) {
	tests := []struct {
		name   string
		times  int
		change func(o map[string]any)
		want   error
	}{
		{"another-flag-is-edited", 2, func(o map[string]any) { change(o, "other", map[string]any{"defaultVariant": "b"}) }, nil},
		{"the-status-is-written-for-ever", 1000, nil, flags.ErrConflict},
		{"the-flag-is-edited", 1, func(o map[string]any) { change(o, backoff.Key, map[string]any{"defaultVariant": "off"}) }, flags.ErrConflict},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newFlag(t, tt.name)
			p := newProxy(t)
			s := source(t, p.server(t), tt.name, false)
			c := plan(t, s, backoff, "off")
			moved := 0
			p.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPatch || moved == tt.times {
					return false
				}
				moved++
				if tt.change != nil {
					edit(t, flagResource, tt.name, tt.change)
					return false
				}
				o := read(t, flagResource, tt.name)
				o.Object["status"] = map[string]any{"seen": fmt.Sprint(moved)}
				if _, err := objects(flagResource).UpdateStatus(t.Context(), o, metav1.UpdateOptions{}); err != nil {
					t.Error(err)
				}
				return false
			}
			_, err := s.TurnOff(t.Context(), c)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if f := flagOf(t, read(t, flagResource, tt.name).Object, backoff.Key); (f["targeting"] == nil) != (tt.want == nil) {
				t.Errorf("stored %v", f)
			}
			if moved == 0 {
				t.Error("nothing moved: the test saw no patch")
			}
		})
	}
}

// The dry run is checked by the server and stores nothing.
func TestDryRunChangesNothing(t *testing.T) {
	before := newFlag(t, "dry-run")
	p := newProxy(t)
	s := source(t, p.server(t), "dry-run", false)
	c := plan(t, s, backoff, "off")
	dry := 0
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && !writes(r) {
			dry++
		}
		if writes(r) { // as a kube-apiserver 1.34.4 says it
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"featureflags.core.openfeature.dev \"dry-run\" is forbidden: User \"driftwatch\" cannot patch resource \"featureflags\" in API group \"core.openfeature.dev\" in the namespace \"shop\"","reason":"Forbidden","details":{"name":"dry-run","group":"core.openfeature.dev","kind":"featureflags"},"code":403}`)
		}
		return writes(r)
	}
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, flags.ErrForbidden) || !strings.Contains(err.Error(), "resourceNames: [dry-run]") {
		t.Errorf("%v, want it forbidden, with the role", err)
	}
	if dry != 1 || !reflect.DeepEqual(read(t, flagResource, "dry-run").Object, before.Object) {
		t.Errorf("after %d dry runs the object is\n%v\nwant\n%v", dry, read(t, flagResource, "dry-run").Object, before.Object)
	}
}

// What the schema refuses is refused at the dry run, in the server's words.
func TestSchemaRefusals(t *testing.T) {
	newFlag(t, "schema")
	s := source(t, api.server, "schema", false)
	rc, err := s.TurnOff(t.Context(), plan(t, s, backoff, "off"))
	if err != nil {
		t.Fatal(err)
	}
	off := read(t, flagResource, "schema")
	// flagd takes a constant for targeting, the resource does not.
	rc.Change.Inverse = json.RawMessage(`{"state": "ENABLED", "defaultVariant": "on", "targeting": "on"}`)
	_, err = s.Restore(t.Context(), rc)
	if !errors.Is(err, flags.ErrInvalid) || !strings.Contains(err.Error(), "targeting") || !strings.Contains(err.Error(), "object") {
		t.Errorf("%v, want the schema's refusal", err)
	}
	if got := read(t, flagResource, "schema").GetResourceVersion(); got != off.GetResourceVersion() {
		t.Errorf("resourceVersion %s, want %s", got, off.GetResourceVersion())
	}
}

// The server takes a default that is no variant; flagd then silently stops following the
// resource. So driftwatch checks it.
func TestUnknownVariant(t *testing.T) {
	create(t, flagResource, strings.NewReplacer("NAME", "unknown-variant", "defaultVariant: a", "defaultVariant: nope").Replace(flag))
	s := source(t, api.server, "unknown-variant", false)
	state, err := s.Read(t.Context(), backoff)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(state, flags.OffVariant, flags.Want{Variant: "off"}); !errors.Is(err, flags.ErrInvalid) || !strings.Contains(err.Error(), "nope") {
		t.Errorf("beside a flag with an unknown variant: %v", err)
	}
	if _, err := s.Plan(state, flags.OffVariant, flags.Want{Variant: "nope"}); !errors.Is(err, flags.ErrInvalid) {
		t.Errorf("to an unknown variant: %v", err)
	}
}

func TestNoSuchResource(t *testing.T) {
	if _, err := source(t, api.server, "nobody", false).Read(t.Context(), backoff); !errors.Is(err, flags.ErrNotFound) || !strings.Contains(err.Error(), `"nobody" not found`) {
		t.Errorf("%v", err)
	}
}

// GitOps owns what it applied. driftwatch says so and keeps away, unless it is allowed; then the
// other takes the flag back, which the proof sees.
func TestCRPatchedBackByGitOps(t *testing.T) {
	applied := &unstructured.Unstructured{}
	o := newFlag(t, "gitops").DeepCopy()
	applied.Object = map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": map[string]any{"name": "gitops", "namespace": "shop"}, "spec": o.Object["spec"]}
	apply := func(force bool) error {
		_, err := objects(flagResource).Apply(t.Context(), "gitops", applied, metav1.ApplyOptions{FieldManager: "argocd-controller", Force: force})
		return err
	}
	if err := apply(true); err != nil {
		t.Fatal(err)
	}
	s := source(t, api.server, "gitops", false)
	state, err := s.Read(t.Context(), backoff)
	if err != nil || !strings.Contains(state.ReadOnly, "argocd-controller") {
		t.Errorf("read-only %q, %v; want it to name the manager", state.ReadOnly, err)
	}
	was := read(t, flagResource, "gitops").GetResourceVersion()
	c := plan(t, s, backoff, "off")
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, flags.ErrManagedElsewhere) || read(t, flagResource, "gitops").GetResourceVersion() != was {
		t.Errorf("%v, want it refused", err)
	}

	s = source(t, api.server, "gitops", true)
	rc, err := s.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := apply(false); err == nil || !strings.Contains(err.Error(), `conflict with "driftwatch"`) {
		t.Errorf("without force it gets %v, want a conflict that names driftwatch", err)
	}
	time.Sleep(1100 * time.Millisecond) // who wrote when is counted in seconds
	if err := apply(true); err != nil {
		t.Fatal(err)
	}
	_, err = flags.NewObjectProver(s).Prove(t.Context(), question(c), time.Second)
	if !errors.Is(err, flags.ErrUnproven) || !strings.Contains(err.Error(), "last written by argocd-controller") {
		t.Errorf("%v, want it unproved, naming who wrote last", err)
	}
	if settled, err := s.Settle(t.Context(), c, false); err != nil || settled.Fate != flags.Foreign {
		t.Errorf("settled %v, %v, want foreign", settled.Fate, err)
	}
	if back, err := s.Restore(t.Context(), rc); err != nil || !back.Already {
		t.Errorf("restore: %+v, %v; want that there is nothing to do", back, err)
	}
}

// An interrupted write is told apart by reading.
func TestCrashSettle(t *testing.T) {
	newFlag(t, "settle")
	s := source(t, api.server, "settle", false)
	c := plan(t, s, backoff, "off")
	fate := func(restore bool, want flags.Fate) flags.Receipt {
		t.Helper()
		got, err := s.Settle(t.Context(), c, restore)
		if err != nil || got.Fate != want {
			t.Errorf("fate %q, %v, want %q", got.Fate, err, want)
		}
		return got.Receipt
	}
	fate(false, flags.Untouched)
	if _, err := s.TurnOff(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	rc := fate(false, flags.Written)
	fate(true, flags.Untouched)
	if _, err := s.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	fate(true, flags.Written)
	edit(t, flagResource, "settle", func(o map[string]any) { change(o, backoff.Key, map[string]any{"state": "DISABLED"}) })
	fate(false, flags.Foreign)
	fate(true, flags.Foreign)
}

func TestForeignEditBetween(t *testing.T) {
	newFlag(t, "foreign")
	s := source(t, api.server, "foreign", false)
	rc, err := s.TurnOff(t.Context(), plan(t, s, backoff, "off"))
	if err != nil {
		t.Fatal(err)
	}
	// Labels, the status and another flag are none of ours.
	edit(t, flagResource, "foreign", func(o map[string]any) {
		o["metadata"].(map[string]any)["labels"] = map[string]any{"tier": "1"}
		change(o, "other", map[string]any{"defaultVariant": "b"})
	})
	edit(t, flagResource, "foreign", func(o map[string]any) { change(o, backoff.Key, map[string]any{"defaultVariant": "on"}) })
	_, err = s.Restore(t.Context(), rc)
	if !errors.Is(err, flags.ErrConflict) || !strings.Contains(err.Error(), "last written by kubectl-edit") {
		t.Errorf("%v, want a conflict that names the writer", err)
	}
	edit(t, flagResource, "foreign", func(o map[string]any) { change(o, backoff.Key, map[string]any{"defaultVariant": "off"}) })
	if _, err := s.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	o := read(t, flagResource, "foreign")
	if f := flagOf(t, o.Object, "other"); f["defaultVariant"] != "b" || o.GetLabels()["tier"] != "1" {
		t.Errorf("the restore took back somebody else's edit: %v, labels %v", f, o.GetLabels())
	}
}

// kubelet renews the token of a pod; the file is read for every request.
func TestTokenRotation(t *testing.T) {
	newFlag(t, "token")
	server := api.server
	server.TokenFile = filepath.Join(t.TempDir(), "token")
	const old = "geheim-0815"
	if err := os.WriteFile(server.TokenFile, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	s := source(t, server, "token", false)
	_, err := s.Read(t.Context(), backoff)
	if !errors.Is(err, flags.ErrForbidden) || strings.Contains(err.Error(), old) {
		t.Errorf("an old token: %v", err)
	}
	token, err := os.ReadFile(api.server.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server.TokenFile, token, 0o600); err != nil {
		t.Fatal(err)
	}
	c := plan(t, s, backoff, "off")
	rc, err := s.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := flags.NewObjectProver(s).Prove(t.Context(), question(c), 20*time.Second)
	if err != nil {
		t.Error(err)
	}
	for _, v := range []any{c, rc, evidence} {
		b, err := json.Marshal(v)
		if err != nil || strings.Contains(string(b), strings.TrimSpace(string(token))) {
			t.Errorf("%s holds the token (%v)", b, err)
		}
	}
}

func TestASourceThatLies(t *testing.T) {
	before := newFlag(t, "lies")
	p := newProxy(t)
	s := source(t, p.server(t), "lies", false)
	c := plan(t, s, backoff, "off")
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if writes(r) {
			b, err := before.MarshalJSON()
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(b)
		}
		return writes(r)
	}
	rc, err := s.TurnOff(t.Context(), c)
	if !errors.Is(err, flags.ErrWrittenUnsure) || rc.After != c.After {
		t.Errorf("%+v, %v, want it unsure, with the receipt", rc, err)
	}
	if _, err := flags.NewObjectProver(s).Prove(t.Context(), question(c), time.Second); !errors.Is(err, flags.ErrUnproven) {
		t.Errorf("%v, want it unproved", err)
	}
}

func TestRateLimit(t *testing.T) {
	newFlag(t, "rate-limit")
	p := newProxy(t)
	s := source(t, p.server(t), "rate-limit", false)
	c := plan(t, s, backoff, "off")
	after, left := "1", 1
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if !writes(r) || left == 0 {
			return false
		}
		left--
		w.Header().Set("Retry-After", after)
		http.Error(w, "too many requests, please try again later", http.StatusTooManyRequests)
		return true
	}
	if _, err := s.TurnOff(t.Context(), c); err != nil {
		t.Errorf("a second of patience: %v", err)
	}
	c = plan(t, s, flags.Ref{Source: "production", Key: "other"}, "b")
	after, left = "30", 1
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, flags.ErrRateLimited) || !strings.Contains(err.Error(), "30s") {
		t.Errorf("%v, want it told when to come again", err)
	}
}

// How long it takes is printed; the bar of two seconds and two polls (there is none between the
// object and its proof) is that of an idle machine.
func TestFlipToProved(t *testing.T) {
	newFlag(t, "flip")
	s := source(t, api.server, "flip", false)
	for range 5 {
		c := plan(t, s, backoff, "off")
		start := time.Now()
		rc, err := s.TurnOff(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		wrote := time.Since(start)
		evidence, err := flags.NewObjectProver(s).Prove(t.Context(), question(c), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("written after %s, proved off in the object after %s, %d rounds", wrote.Round(time.Millisecond), time.Since(start).Round(time.Millisecond), evidence.Rounds)
		if _, err := s.Restore(t.Context(), rc); err != nil {
			t.Fatal(err)
		}
	}
}
