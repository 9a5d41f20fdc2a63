package kubernetes

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/driftwatch/driftwatch/internal/flags"
)

// flagFile is what the ConfigMap holds: comments, an order of its own, and a last line without
// an end.
const flagFile = `# reviewed by payments, ü
flags:
  other: {state: ENABLED, variants: {a: 1.50, b: 2}, defaultVariant: a}
  pay/new~backoff:
    variants: {"on": true, "off": false}
    state: ENABLED
    defaultVariant: "on" # since March
    # nobody else
    targeting: {"if": [{"==": [{"var": "plan"}, "free"]}, "off", null]}`

func newConfigMap(t *testing.T, name, more string) {
	t.Helper()
	o := "apiVersion: test.driftwatch.dev/v1\nkind: TextMap\nmetadata: {name: " + name + ", namespace: shop}\ndata:\n  notes.txt: kept\n  flags.yaml: |-\n    " +
		strings.ReplaceAll(flagFile, "\n", "\n    ") + "\n" + more
	if got := data(t, create(t, textResource, o)); got != flagFile {
		t.Fatalf("stored %q", got)
	}
}

func data(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	text, _, err := unstructured.NestedString(o.Object, "data", "flags.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func configMap(t *testing.T, p *proxy, name, key string) *flags.Kubernetes {
	t.Helper()
	s, err := flags.NewConfigMap(flags.KubernetesObject{Server: p.server(t), Namespace: "shop", Name: name}, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConfigMapOffAndRestoredExactly(t *testing.T) {
	newConfigMap(t, "exact", "")
	before := read(t, textResource, "exact")
	s := configMap(t, newProxy(t), "exact", "flags.yaml")
	c := plan(t, s, backoff, "off")
	rc, err := s.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(`"on" # since`, `"off" # since`, `{"if": [{"==": [{"var": "plan"}, "free"]}, "off", null]}`, "{}").Replace(flagFile)
	if got := data(t, read(t, textResource, "exact")); got != want {
		t.Errorf("stored\n%s\nwant\n%s", got, want)
	}
	if _, err := flags.NewObjectProver(s).Prove(t.Context(), question(c), 20*time.Second); err != nil {
		t.Error(err)
	}
	if settled, err := s.Settle(t.Context(), c, false); err != nil || settled.Fate != flags.Written {
		t.Errorf("settled %v, %v", settled.Fate, err)
	}
	if again, err := s.TurnOff(t.Context(), c); err != nil || !again.Already {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	if _, err := s.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	after := read(t, textResource, "exact")
	if got, want := withoutCounters(after), withoutCounters(before); !reflect.DeepEqual(got, want) {
		t.Errorf("restored\n%v\nwant\n%v", got, want)
	}
}

func TestConfigMapConflict(t *testing.T) {
	newConfigMap(t, "conflict", "")
	p := newProxy(t)
	s := configMap(t, p, "conflict", "flags.yaml")
	c := plan(t, s, backoff, "off")
	notes := func(o map[string]any) { o["data"].(map[string]any)["notes.txt"] = "changed" }
	text := func(o map[string]any) { o["data"].(map[string]any)["flags.yaml"] = flagFile + " # ok\n" }
	moved := false
	p.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && !moved {
			moved = true
			edit(t, textResource, "conflict", notes)
		}
		return false
	}
	rc, err := s.TurnOff(t.Context(), c)
	if err != nil || !moved {
		t.Errorf("another key changed under the write: %v", err)
	}
	edit(t, textResource, "conflict", text)
	if _, err := s.Restore(t.Context(), rc); !errors.Is(err, flags.ErrConflict) {
		t.Errorf("restore over an edit: %v, want a conflict", err)
	}
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, flags.ErrConflict) {
		t.Errorf("off over an edit: %v, want a conflict", err)
	}
	if got := data(t, read(t, textResource, "conflict")); got != flagFile+" # ok\n" {
		t.Errorf("stored %q", got)
	}
}

func TestConfigMapsThatCannotBeEdited(t *testing.T) {
	newConfigMap(t, "immutable", "immutable: true\n")
	s := configMap(t, newProxy(t), "immutable", "flags.yaml")
	state, err := s.Read(t.Context(), backoff)
	if err != nil || !strings.Contains(state.ReadOnly, "immutable") {
		t.Errorf("immutable: read-only %q, %v", state.ReadOnly, err)
	}
	if _, err := s.TurnOff(t.Context(), plan(t, s, backoff, "off")); !errors.Is(err, flags.ErrReadOnly) {
		t.Errorf("immutable: %v", err)
	}
	newConfigMap(t, "keys", "binaryData: {flags.json: e30=}\n")
	for key, want := range map[string]error{"flags.json": flags.ErrInvalid, "flags.yml": flags.ErrNotFound} {
		if _, err := configMap(t, newProxy(t), "keys", key).Read(t.Context(), backoff); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", key, err, want)
		}
	}
}

// A map that becomes immutable between the look and the write is not written.
func TestConfigMapFrozenUnderTheWrite(t *testing.T) {
	newConfigMap(t, "refused", "")
	p := newProxy(t)
	s := configMap(t, p, "refused", "flags.yaml")
	c := plan(t, s, backoff, "off")
	frozen := false
	p.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && !frozen {
			frozen = true
			edit(t, textResource, "refused", func(o map[string]any) { o["immutable"] = true })
		}
		return false
	}
	if _, err := s.TurnOff(t.Context(), c); !errors.Is(err, flags.ErrReadOnly) {
		t.Errorf("%v, want it read-only at the second look", err)
	}
	if got := data(t, read(t, textResource, "refused")); got != flagFile {
		t.Errorf("stored %q", got)
	}
}
