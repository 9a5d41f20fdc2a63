// Package goff tests flag files of GO Feature Flag against its own library, in a module of its
// own so that the library does not reach the detector.
package goff

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ffclient "github.com/thomaspoignant/go-feature-flag"
	"github.com/thomaspoignant/go-feature-flag/modules/core/ffcontext"
	"github.com/thomaspoignant/go-feature-flag/retriever/fileretriever"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/rule"
)

const yamlFile = `# flags of the shop
new-retry:
  variations: {on: true, off: false}
  targeting: # before all others
    - name: vip
      query: targetingKey eq "vip"
      variation: on
    - name: gold
      query: tier in ["gold", "silver"]
      percentage: {on: 99, off: 1}
  defaultRule:
    percentage: # a ramp
      on: 50
      off: 50
other:
  variations: {on: 1, off: 0}
  defaultRule: {variation: on} # stays
steps:
  variations: {on: a, off: b}
  defaultRule:
    progressiveRollout:
      initial: {variation: off, percentage: 0, date: 2020-01-01T00:00:00Z}
      end: {variation: on, percentage: 100, date: 2020-02-01T00:00:00Z}
`

const jsonFile = `{
  "new-retry": {
    "variations": {"on": true, "off": false},
    "targeting": [{"query": "{\"==\": [{\"var\": \"targetingKey\"}, \"vip\"]}", "variation": "on"}],
    "defaultRule": {"percentage": {"on": 50, "off": 50}}
  },
  "other": {"variations": {"on": 1, "off": 0}, "defaultRule": {"variation": "on"}},
  "steps": {"variations": {"on": "a", "off": "b"}, "defaultRule": {"variation": "on"}}
}
`

const key = "admin-key"

// An application has the library in process, which reads the file only when it is told to, and
// answers as the relay proxy does: OFREP, and the refresh call.
type application struct {
	*ffclient.GoFeatureFlag
	url       string
	refreshes atomic.Int64
}

func newApplication(t *testing.T, path string) *application {
	t.Helper()
	client, err := ffclient.New(ffclient.Config{
		PollingInterval: time.Hour, Retriever: &fileretriever.Retriever{Path: path}, FileFormat: strings.TrimPrefix(filepath.Ext(path), "."),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	a := &application{GoFeatureFlag: client}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("POST /admin/v1/retriever/refresh", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != key {
			answer(w, http.StatusUnauthorized, map[string]any{"message": "Unauthorized"})
			return
		}
		a.refreshes.Add(1)
		answer(w, http.StatusOK, map[string]any{"refreshed": a.ForceRefresh()})
	})
	mux.HandleFunc("POST /ofrep/v1/evaluate/flags/{flag}", func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Context map[string]any }
		if r.Header.Get("X-API-Key") != key || json.NewDecoder(r.Body).Decode(&q) != nil {
			answer(w, http.StatusUnauthorized, map[string]any{"message": "Unauthorized"})
			return
		}
		got := a.get(r.PathValue("flag"), q.Context, nil)
		if got.failed != "" {
			answer(w, http.StatusBadRequest, map[string]any{"key": r.PathValue("flag"), "errorCode": got.failed})
			return
		}
		answer(w, http.StatusOK, map[string]any{"key": r.PathValue("flag"), "value": got.value, "variant": got.variation, "reason": got.reason})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

type evaluation struct {
	value                     any
	variation, reason, failed string
}

func (a *application) get(flag string, attributes map[string]any, fallback any) evaluation {
	user, _ := attributes["targetingKey"].(string)
	b := ffcontext.NewEvaluationContextBuilder(user)
	for name, v := range attributes {
		if name != "targetingKey" {
			b = b.AddCustom(name, v)
		}
	}
	d, _ := a.RawVariation(flag, b.Build(), fallback) // its error is told by the result, too
	return evaluation{d.Value, d.VariationType, string(d.Reason), string(d.ErrorCode)}
}

// variations counts what 200 users, the VIP, a gold one and one without a key get.
func (a *application) variations(flag string) map[string]int {
	out := map[string]int{}
	contexts := []map[string]any{{"targetingKey": "vip"}, {"targetingKey": "u", "tier": "gold"}, {}}
	for i := range 200 {
		contexts = append(contexts, map[string]any{"targetingKey": fmt.Sprintf("user-%d", i)})
	}
	for _, c := range contexts {
		out[a.get(flag, c, nil).variation]++
	}
	return out
}

func keyFile(t *testing.T) flags.Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return flags.Secret{File: path}
}

func source(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The library serves on before, off to every context after, and on again after the undo.
func TestOffAndBack(t *testing.T) {
	for _, file := range []struct{ name, text string }{{"flags.yaml", yamlFile}, {"flags.json", jsonFile}} {
		for _, flag := range []string{"new-retry", "steps"} {
			t.Run(file.name+" "+flag, func(t *testing.T) {
				path := source(t, file.name, file.text)
				app := newApplication(t, path)
				g := flags.NewGoffFile(path, app.url, keyFile(t), http.DefaultClient)
				view := flags.NewOFREPProver(app.url, keyFile(t), "X-API-Key", http.DefaultClient)
				before := app.variations(flag)
				if before["on"] < 50 {
					t.Fatalf("before: %v", before)
				}
				s, err := g.Read(t.Context(), flags.Ref{Source: "production", Key: flag})
				if err != nil {
					t.Fatal(err)
				}
				c, err := g.Plan(s, flags.OffVariant, flags.Want{Variant: "off"})
				if err != nil {
					t.Fatal(err)
				}
				q := flags.NewQuestion(s, c.Want, rule.Flag{}, 20, rand.New(rand.NewPCG(1, 2)))
				if served, err := view.Served(t.Context(), q); err != nil || served.Suspect == 0 {
					t.Errorf("served before: %+v, %v", served, err)
				}
				rc, err := g.TurnOff(t.Context(), c)
				if err != nil || app.refreshes.Load() != 1 {
					t.Fatalf("%v; %d refresh calls", err, app.refreshes.Load())
				}
				if got := app.variations(flag); got["off"] != 203 {
					t.Errorf("after: %v", got)
				}
				if e, err := view.Prove(t.Context(), q, 20*time.Second); err != nil || !e.Proved {
					t.Errorf("%+v, %v", e, err)
				}
				if got := app.get("other", map[string]any{"targetingKey": "u"}, nil); got.variation != "on" {
					t.Errorf("another flag is now %+v", got)
				}
				if _, err := g.Restore(t.Context(), rc); err != nil || app.refreshes.Load() != 2 {
					t.Fatalf("%v; %d refresh calls", err, app.refreshes.Load())
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != file.text {
					t.Errorf("restored to\n%s\n%v", got, err)
				}
				if got := app.variations(flag); fmt.Sprint(got) != fmt.Sprint(before) {
					t.Errorf("restored: %v, before %v", got, before)
				}
			})
		}
	}
}

// What is refused would not be off, or not for long: the library, given the text that an edit
// would have made, serves the default in the code.
func TestRefusedForAReason(t *testing.T) {
	tests := []struct{ name, member string }{
		{"bucketingKey", "bucketingKey: team"},
		{"experimentation", "experimentation: {end: 2020-01-01T00:00:00Z}"},
		{"scheduledRollout", "scheduledRollout: [{date: 2020-01-01T00:00:00Z, defaultRule: {variation: on}}]"},
		{"default in the application's code", "disable: true"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := "x:\n  variations: {on: true, off: false}\n  defaultRule: {variation: off}\n  " + tt.member + "\n"
			got := newApplication(t, source(t, "flags.yaml", text)).get("x", map[string]any{"targetingKey": "u"}, true)
			if got.value != true {
				t.Errorf("the library serves %+v, so there is no reason", got)
			}
			g := flags.NewGoffFile(source(t, "flags.yaml", strings.Replace(text, "{variation: off}", "{variation: on}", 1)), "", flags.Secret{}, http.DefaultClient)
			s, err := g.Read(t.Context(), flags.Ref{Source: "production", Key: "x"})
			if err == nil {
				_, err = g.Plan(s, flags.OffVariant, flags.Want{Variant: "off"})
			}
			if err == nil || !strings.Contains(err.Error(), tt.name) {
				t.Errorf("error %v, want one about %s", err, tt.name)
			}
		})
	}
}

// A text that the library refuses as a whole, or a flag that it drops, is not edited.
func TestInvalidLikeTheLibrary(t *testing.T) {
	tests := []struct{ name, file, text string }{
		{"truncated", "flags.json", jsonFile[:len(jsonFile)-10]},
		{"another flag of the wrong kind", "flags.yaml", yamlFile + "y: {disable: often}\n"},
		{"variations of two types", "flags.yaml", "new-retry: {variations: {on: true, off: 0}, defaultRule: {variation: on}}\n"},
		{"no default rule", "flags.yaml", "new-retry: {variations: {on: true, off: false}}\n"},
		{"null", "flags.yaml", "new-retry: {variations: {on: true, off: null}, defaultRule: {variation: on}}\n"},
		{"rules of one name", "flags.yaml", "new-retry: {variations: {on: true, off: false}, defaultRule: {variation: on}, targeting: [{name: a, disable: true}, {name: a, disable: true}]}\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := source(t, tt.file, tt.text)
			client, err := ffclient.New(ffclient.Config{
				PollingInterval: time.Hour, Retriever: &fileretriever.Retriever{Path: path}, FileFormat: strings.TrimPrefix(filepath.Ext(path), "."),
			})
			if err == nil {
				defer client.Close()
				if got := (&application{GoFeatureFlag: client}).get("new-retry", map[string]any{"targetingKey": "u"}, nil); got.failed == "" {
					t.Errorf("the library serves %+v", got)
				}
			}
			g := flags.NewGoffFile(path, "", flags.Secret{}, http.DefaultClient)
			s, err := g.Read(t.Context(), flags.Ref{Source: "production", Key: "new-retry"})
			if err == nil {
				_, err = g.Plan(s, flags.OffVariant, flags.Want{Variant: "off"})
			}
			if !errors.Is(err, flags.ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
		})
	}
}
