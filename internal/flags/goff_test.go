package flags

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

const goffJSON = `{
  "plain": {"variations": {"on": true, "off": false}, "defaultRule": {"variation": "on"}},
  "share": {
    "variations": { "on": true, "off": false },
    "targeting": [ {"name": "vip", "query": "targetingKey eq \"vip\"", "variation": "on"} ],
    "defaultRule": { "percentage": { "on": 50, "off": 50 } },
    "metadata": {"owner": "payments", "big": 12345678901234567890}
  },
  "größe": {"variations": {"on": 1, "off": 0.5}, "defaultRule": {"name": "d", "variation": "on"}, "version": "1.50"}
}
`

const goffYAML = `# flags of the shop
plain:   # one line
  variations: {on: true, off: false}
  defaultRule: { variation: on } # the usual
share:
  variations:
    on:  true    # aligned
    off: false
  targeting: # who gets it
  # the important people
  - name: vip
    query: targetingKey eq "vip"
    variation: on
  - query: tier in ["gold", "silver"] and beta eq true
    percentage:
      on: 20
      off: 80

  # for all others
  defaultRule:
    percentage: # a ramp
      on: 50
      off: 50
  metadata: {owner: payments}
ramp:
  variations: {on: a, off: b}
  defaultRule:
    progressiveRollout:
      initial: {variation: off, percentage: 0, date: 2026-01-01T00:00:00Z}
      end: {variation: on, percentage: 100, date: 2026-12-01T00:00:00Z}
# the end
last:
  variations: {on: {deep: [1]}, off: {}}
  disable: false
  targeting: [{query: 'plan sw "p"', variation: on, disable: true}]
  defaultRule:
    variation: 'on'
`

// goffSource is a GO Feature Flag file with this text.
func goffSource(t *testing.T, name, text string) *GoffFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	write(t, path, text)
	return NewGoffFile(path, "", Secret{}, http.DefaultClient)
}

func planGoff(t *testing.T, g *GoffFile, key string) (State, Change) {
	t.Helper()
	s, err := g.Read(t.Context(), Ref{"production", key})
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.Plan(s, OffVariant, Want{Variant: "off"})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// Every flag becomes what is written here by hand, everything else in the file stays, and the
// undo brings back the bytes.
func TestGoffTurnsOffAndBack(t *testing.T) {
	tests := []struct{ name, text, key, diff string }{
		{"f.json", goffJSON, "plain", `
-  "plain": {"variations": {"on": true, "off": false}, "defaultRule": {"variation": "on"}},
+  "plain": {"variations": {"on": true, "off": false}, "defaultRule": {"variation": "off"}},`},
		{"f.json", goffJSON, "share", `
-    "targeting": [ {"name": "vip", "query": "targetingKey eq \"vip\"", "variation": "on"} ],
-    "defaultRule": { "percentage": { "on": 50, "off": 50 } },
+    "targeting": [],
+    "defaultRule": {"variation": "off"},`},
		{"f.json", goffJSON, "größe", `
-  "größe": {"variations": {"on": 1, "off": 0.5}, "defaultRule": {"name": "d", "variation": "on"}, "version": "1.50"}
+  "größe": {"variations": {"on": 1, "off": 0.5}, "defaultRule": {"name": "d", "variation": "off"}, "version": "1.50"}`},
		{"f.yaml", goffYAML, "plain", `
-  defaultRule: { variation: on } # the usual
+  defaultRule: { variation: "off" } # the usual`},
		{"f.yaml", goffYAML, "share", `
-  targeting: # who gets it
+  targeting: [] # who gets it
   # the important people
-  - name: vip
-    query: targetingKey eq "vip"
-    variation: on
-  - query: tier in ["gold", "silver"] and beta eq true
-    percentage:
-      on: 20
-      off: 80
 
   # for all others
-  defaultRule:
-    percentage: # a ramp
-      on: 50
-      off: 50
+  defaultRule: {variation: "off"}`},
		{"f.yml", goffYAML, "ramp", `
-  defaultRule:
-    progressiveRollout:
-      initial: {variation: off, percentage: 0, date: 2026-01-01T00:00:00Z}
-      end: {variation: on, percentage: 100, date: 2026-12-01T00:00:00Z}
+  defaultRule: {variation: "off"}`},
		{"f.yaml", goffYAML, "last", `
-    variation: 'on'
+    variation: 'off'`}, // the only rule is disabled and stays
		{"f.yaml", strings.ReplaceAll(goffYAML, "\n", "\r\n"), "plain", "\n-  defaultRule: { variation: on } # the usual\r\n+  defaultRule: { variation: \"off\" } # the usual\r"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.key, func(t *testing.T) {
			g := goffSource(t, tt.name, tt.text)
			s, c := planGoff(t, g, tt.key)
			if s.Off("off") || s.Word("off") == "off" || !s.Enabled || s.ReadOnly != "" {
				t.Errorf("state before %+v", s)
			}
			removed, added := lines(c.Diff)
			wantRemoved, wantAdded := lines("@@" + tt.diff)
			if !strings.Contains(c.Diff, tt.diff) || removed != wantRemoved || added != wantAdded {
				t.Errorf("diff\n%s\nwant\n%s", c.Diff, tt.diff)
			}
			rc, err := g.TurnOff(t.Context(), c)
			if err != nil || rc.Already {
				t.Fatalf("%+v, %v", rc, err)
			}
			checkGoffOnlyPlanned(t, tt.name, tt.key, tt.text, content(t, g.path))
			if s, err = g.Read(t.Context(), c.Ref); err != nil || !s.Off("off") || s.Revision != rc.After || s.Word("off") != "off" {
				t.Errorf("state after %+v, %v", s, err)
			}
			if _, err := g.Plan(s, OffVariant, Want{Variant: "off"}); !errors.Is(err, ErrAlreadyOff) {
				t.Errorf("planned again: %v", err)
			}
			if again, err := g.TurnOff(t.Context(), c); err != nil || !again.Already {
				t.Errorf("turned off again: %+v, %v", again, err)
			}
			if got, err := g.Settle(t.Context(), c, false); err != nil || got.Fate != Written {
				t.Errorf("settled as %v, %v", got.Fate, err)
			}
			if _, err := g.Restore(t.Context(), rc); err != nil {
				t.Fatal(err)
			}
			if got := content(t, g.path); got != tt.text {
				t.Errorf("restored to\n%s", got)
			}
			if got, err := g.Settle(t.Context(), c, false); err != nil || got.Fate != Untouched {
				t.Errorf("settled as %v, %v", got.Fate, err)
			}
			if got, err := g.Settle(t.Context(), c, true); err != nil || got.Fate != Written {
				t.Errorf("the undo settled as %v, %v", got.Fate, err)
			}
		})
	}
}

// checkGoffOnlyPlanned decodes two texts with the libraries that GO Feature Flag uses and takes
// the two members out of both; nothing of the code under test has a part in it.
func checkGoffOnlyPlanned(t *testing.T, name, key, before, after string) {
	t.Helper()
	var rest [2]any
	for i, text := range []string{before, after} {
		var doc map[string]map[string]any
		err := yaml.Unmarshal([]byte(text), &doc)
		if name == "f.json" {
			err = json.Unmarshal([]byte(text), &doc)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if i == 1 {
			if def := doc[key]["defaultRule"].(map[string]any); def["variation"] != "off" || def["percentage"] != nil || def["progressiveRollout"] != nil {
				t.Fatalf("the default rule is %v\n%s", def, text)
			}
			rules, _ := doc[key]["targeting"].([]any)
			for _, r := range rules {
				if r.(map[string]any)["disable"] != true {
					t.Fatalf("rule %v stays\n%s", r, text)
				}
			}
		}
		delete(doc[key], "defaultRule")
		delete(doc[key], "targeting")
		rest[i] = doc
	}
	if !reflect.DeepEqual(rest[0], rest[1]) {
		t.Fatalf("more than the plan changed:\n%s\nto\n%s", before, after)
	}
}

func TestGoffState(t *testing.T) {
	g := goffSource(t, "f.yaml", goffYAML)
	s, err := g.Read(t.Context(), Ref{"production", "share"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Probe{
		{"targetingKey": "vip"},
		{"tier": "gold", "beta": true, "targetingKey": "driftwatch-rule-2"},
	}
	if !reflect.DeepEqual(s.Probes, want) {
		t.Errorf("contexts %v, want %v", s.Probes, want)
	}
	if s.Metadata["owner"] != "payments" || !s.Targeting || s.DefaultVariant != "" || s.Word("off") != "on for some" {
		t.Errorf("state %+v", s)
	}
	if s, err := g.Read(t.Context(), Ref{"production", "last"}); err != nil || s.Targeting || s.DefaultVariant != "on" || !reflect.DeepEqual(s.Variants["on"], map[string]any{"deep": []any{1.0}}) {
		t.Errorf("rules that are disabled serve nobody: %+v, %v", s, err)
	}
	if _, err := g.Read(t.Context(), Ref{"production", "plian"}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `did you mean "plain"?`) {
		t.Errorf("missing: %v", err)
	}
}

// What everybody gets is told where the rules say it, and only there.
func TestGoffOnly(t *testing.T) {
	const vars = `"variations": {"on": true, "off": false}, `
	tests := []struct {
		flag string
		off  bool
	}{
		{`"targeting": [{"query": "a eq 1", "variation": "off"}], "defaultRule": {"variation": "off"}`, true},
		{`"targeting": [{"query": "a eq 1", "variation": "on", "disable": true}], "defaultRule": {"variation": "off"}`, true},
		{`"targeting": [{"query": "a eq 1", "variation": "on"}], "defaultRule": {"variation": "off"}`, false},
		// A context without a key cannot be in a percentage and gets the code's default.
		{`"defaultRule": {"percentage": {"on": 0, "off": 100}}`, false},
		{`"defaultRule": {"variation": "off", "percentage": {"on": 100}}`, false}, // the percentage wins
		{`"defaultRule": {"variation": "off"}, "bucketingKey": "team"`, false},
		{`"defaultRule": {"variation": "off"}, "bucketingKey": ""`, true},
		{`"defaultRule": {"variation": "off"}, "scheduledRollout": [{"date": "2027-01-01T00:00:00Z", "defaultRule": {"variation": "on"}}]`, false},
		{`"defaultRule": {"variation": "off"}, "experimentation": {"end": "2027-01-01T00:00:00Z"}`, false},
		{`"defaultRule": {"variation": "off"}, "disable": true`, false},
	}
	for _, tt := range tests {
		g := goffSource(t, "f.json", `{"x": {`+vars+tt.flag+`}}`)
		s, err := g.Read(t.Context(), Ref{"production", "x"})
		if err != nil || s.Off("off") != tt.off {
			t.Errorf("%s: off is %v, %v", tt.flag, s.Off("off"), err)
		}
	}
}

func TestGoffRefuses(t *testing.T) {
	const vars = `variations: {on: true, off: false}`
	flag := func(members ...string) string { return "x: {" + vars + ", " + strings.Join(members, ", ") + "}\n" }
	const on = "defaultRule: {variation: on}"
	tests := []struct {
		name, file, text string
		kind             error
		words            string
	}{
		{"scheduled rollout", "f.yaml", flag(on, "scheduledRollout: [{date: 2027-01-01T00:00:00Z, disable: true}]"), ErrAmbiguousEdit, "scheduledRollout changes it by itself"},
		{"experimentation", "f.yaml", flag(on, "experimentation: {start: 2026-01-01T00:00:00Z}"), ErrAmbiguousEdit, "experimentation leaves everybody"},
		{"bucketing key", "f.yaml", flag(on, "bucketingKey: team"), ErrAmbiguousEdit, `bucketingKey "team"`},
		{"disabled", "f.yaml", flag(on, "disable: true"), ErrInvalid, "default in the application's code"},
		{"no default rule", "f.yaml", flag("disable: false"), ErrInvalid, "no defaultRule"},
		{"unknown variation", "f.yaml", "x: {variations: {on: true, of: false}, " + on + "}\n", ErrInvalid, `no variant "off", only "of", "on"`},
		{"types differ", "f.yaml", "x: {variations: {on: true, off: 0}, " + on + "}\n", ErrInvalid, "not of one type"},
		{"null", "f.yaml", "x: {variations: {on: true, off: }, " + on + "}\n", ErrInvalid, `"off" is null`},
		{"list", "f.yaml", "x: {variations: {on: [1], off: []}, " + on + "}\n", ErrInvalid, `"off" is a list`},
		{"rules of one name", "f.yaml", flag(on, "targeting: [{name: a, query: 'a eq 1', variation: on}, {name: a, query: 'a eq 2', variation: on}]"), ErrInvalid, `two rules are called "a"`},
		{"alias", "f.yaml", "y: &a {variation: on}\nx: {" + vars + ", defaultRule: *a}\n", ErrAmbiguousEdit, "alias *a"},
		{"anchor", "f.yaml", "x: {" + vars + ", defaultRule: &a {variation: on}}\n", ErrAmbiguousEdit, "anchor &a"},
		{"merge key", "f.yaml", "y: &a {" + on + "}\nx: {<<: *a, " + vars + "}\n", ErrAmbiguousEdit, "merge key"},
		{"several documents", "f.yaml", flag(on) + "---\n" + flag(on), ErrAmbiguousEdit, "more than one document"},
		{"another flag of the wrong kind", "f.yaml", flag(on) + "y: {disable: often}\n", ErrInvalid, "GO Feature Flag refuses the file f.yaml"},
		{"truncated", "f.json", goffJSON[:len(goffJSON)/2], ErrInvalid, "GO Feature Flag refuses the file f.json"},
		{"twice", "f.json", `{"x": {"variations": {"on": true, "off": false}, "defaultRule": {"variation": "on"}}, "x": {"variations": {"on": true, "off": false}, "defaultRule": {"variation": "on"}}}`, ErrAmbiguousEdit, "twice"},
		{"member twice", "f.json", `{"x": {"variations": {"on": true, "off": false}, "defaultRule": {"variation": "on"}, "defaultRule": {"variation": "on"}}}`, ErrAmbiguousEdit, `"defaultRule" is there twice`},
		{"member in other case", "f.json", `{"x": {"variations": {"on": true, "off": false}, "defaultrule": {"variation": "on"}}}`, ErrAmbiguousEdit, `"defaultrule" may be read as "defaultRule"`},
		{"variation in other case", "f.json", `{"x": {"variations": {"on": true, "off": false}, "defaultRule": {"Variation": "on"}}}`, ErrAmbiguousEdit, `"Variation" may be read as "variation"`},
		{"toml", "f.toml", "[x]\n", ErrInvalid, ".json, .yaml and .yml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := goffSource(t, tt.file, tt.text)
			r := Ref{"production", "x"}
			s, err := g.Read(t.Context(), r)
			if err == nil {
				_, err = g.Plan(s, OffVariant, Want{Variant: "off"})
			}
			wantError(t, err, tt.kind, tt.words)
			if got := content(t, g.path); got != tt.text {
				t.Errorf("the file is now\n%s", got)
			}
		})
	}
	g := goffSource(t, "f.yaml", goffYAML)
	s, _ := planGoff(t, g, "plain")
	for _, m := range []Mode{RampZero, Disable} {
		_, err := g.Plan(s, m, Want{Variant: "off"})
		wantError(t, err, ErrInvalid, "mode "+string(m))
	}
}

// A change that somebody forged or that came from another text is not written.
func TestGoffWritesOnlyThePlan(t *testing.T) {
	tests := []struct {
		name     string
		old, new string
		kind     error
		words    string
	}{
		{"another flag", "owner: payments", "owner: me", ErrAmbiguousEdit, "would change /share/metadata/owner too"},
		{"another member", "{on: true, off: false}\n  defaultRule: { variation", "{on: 1, off: 0}\n  defaultRule: { variation", ErrAmbiguousEdit, "would change /plain/variations/o"},
		{"not off", "variation: on } # the usual", "variation: on }", ErrAmbiguousEdit, "would not turn it off"},
		{"not readable", "last:", "last", ErrInvalid, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := goffSource(t, "f.yaml", goffYAML)
			_, c := planGoff(t, g, "plain")
			p := Patch{{Offset: strings.Index(goffYAML, tt.old), Old: tt.old, New: tt.new}}
			after, err := p.Apply([]byte(goffYAML))
			if err != nil {
				t.Fatal(err)
			}
			c.Forward, c.After = p.raw(), revisionOf(after)
			_, err = g.TurnOff(t.Context(), c)
			wantError(t, err, tt.kind, tt.words)
			if got := content(t, g.path); got != goffYAML {
				t.Errorf("the file is now\n%s", got)
			}
		})
	}
	t.Run("conflict", func(t *testing.T) {
		g := goffSource(t, "f.yaml", goffYAML)
		_, c := planGoff(t, g, "plain")
		write(t, g.path, goffYAML+"# edited\n")
		_, err := g.TurnOff(t.Context(), c)
		wantError(t, err, ErrConflict)
		if got, err := g.Settle(t.Context(), c, false); err != nil || got.Fate != Foreign {
			t.Errorf("settled as %v, %v", got.Fate, err)
		}
	})
	t.Run("restore over an edit", func(t *testing.T) {
		g := goffSource(t, "f.yaml", goffYAML)
		_, c := planGoff(t, g, "plain")
		rc, err := g.TurnOff(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		edited := content(t, g.path) + "# edited\n"
		write(t, g.path, edited)
		_, err = g.Restore(t.Context(), rc)
		wantError(t, err, ErrConflict)
		if got := content(t, g.path); got != edited {
			t.Errorf("the file is now\n%s", got)
		}
		if got, err := g.Settle(t.Context(), c, false); err != nil || got.Fate != WrittenOver {
			t.Errorf("settled as %v, %v", got.Fate, err)
		}
	})
}

// A write stands whatever the relay proxy says to its refresh call, and what it says is told.
// Answers as its documentation has them, /admin/v1/retriever/refresh.
func TestGoffRefresh(t *testing.T) {
	const key = "s3cret-admin-key"
	tests := []struct {
		name   string
		status int
		body   string
		words  string // "" = all is well
	}{
		{"200", 200, `{"refreshed":true}`, ""},
		{"200 but not refreshed", 200, `{"refreshed":false}`, `without "refreshed": true`},
		{"200 of something else", 200, `<html>`, "is the address right?"},
		{"401 an evaluation key", 401, `{"message":"Unauthorized: ` + key + `"}`, "the credential is not accepted"},
		{"403", 403, `{"message":"Forbidden"}`, "the credential does not allow it"},
		{"404", 404, `{"message":"Not Found"}`, "HTTP 404"},
		{"429", 429, ``, "try again in a minute"},
		{"500", 500, `{"message":"retriever failed"}`, "HTTP 500: retriever failed"},
		{"302", 302, ``, "redirects"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls++
				if r.Method != http.MethodPost || r.URL.Path != "/admin/v1/retriever/refresh" || r.Header.Get("X-API-Key") != key || r.Header.Get("Authorization") != "" {
					t.Errorf("%s %s with %v", r.Method, r.URL, r.Header)
				}
				w.Header().Set("Location", "http://elsewhere.example.com/")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer server.Close()
			g := goffSource(t, "f.yaml", goffYAML)
			g = NewGoffFile(g.path, server.URL+"/", tokenFile(t, key), http.DefaultClient)
			_, c := planGoff(t, g, "share")
			if calls != 0 {
				t.Error("it was called before the write")
			}
			check := func(what string, rc Receipt, err error) {
				t.Helper()
				noSecrets(t, []string{key}, c, rc, err)
				switch {
				case tt.words == "" && err != nil:
					t.Errorf("%s: %v", what, err)
				case tt.words != "":
					wantError(t, err, ErrWrittenUnsure, tt.words, "next poll")
				}
				if rc.Change.Ref.Key != "share" || rc.Written.IsZero() {
					t.Errorf("%s: no receipt: %+v", what, rc)
				}
			}
			rc, err := g.TurnOff(t.Context(), c)
			check("off", rc, err)
			if s, err := g.Read(t.Context(), c.Ref); err != nil || !s.Off("off") {
				t.Errorf("the write does not stand: %+v, %v", s, err)
			}
			back, err := g.Restore(t.Context(), rc)
			check("restore", back, err)
			if got := content(t, g.path); got != goffYAML || calls != 2 {
				t.Errorf("%d calls, the file is now\n%s", calls, got)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		server.Close()
		g := goffSource(t, "f.yaml", goffYAML)
		g = NewGoffFile(g.path, server.URL, tokenFile(t, key), http.DefaultClient)
		_, c := planGoff(t, g, "share")
		_, err := g.TurnOff(t.Context(), c)
		wantError(t, err, ErrWrittenUnsure, "not reachable")
	})
	t.Run("no answer", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		defer server.Close()
		g := goffSource(t, "f.yaml", goffYAML)
		g = NewGoffFile(g.path, server.URL, tokenFile(t, key), &http.Client{Timeout: 50 * time.Millisecond})
		_, c := planGoff(t, g, "share")
		_, err := g.TurnOff(t.Context(), c)
		wantError(t, err, ErrWrittenUnsure, "no answer came")
	})
	t.Run("nothing written, nothing called", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called") }))
		defer server.Close()
		g := goffSource(t, "f.yaml", goffYAML)
		g = NewGoffFile(g.path, server.URL, tokenFile(t, key), http.DefaultClient)
		_, c := planGoff(t, g, "share")
		write(t, g.path, goffYAML+"# edited\n")
		_, err := g.TurnOff(t.Context(), c)
		wantError(t, err, ErrConflict)
	})
}

// goffMembersOf writes the members of one flag, in any order and in many styles.
func (w *writer) goffMembersOf(yaml bool) [][2]string {
	m := [][2]string{{"variations", `{"on": true, "off": false}`}}
	rule := func() string {
		return w.pick(`"variation": `+w.quoted(w.pick("on", "off"), yaml), `"percentage": {"on": 1.50, "off": 98.5}`, `"variation" :"on", "name": "it's }: # {"`,
			`"progressiveRollout": {"initial": {"variation": "off", "date": "2026-01-01T00:00:00Z"}, "end": {"variation": "on", "percentage": 100, "date": "2027-01-01T00:00:00Z"}}`)
	}
	m = append(m, [2]string{"defaultRule", "{" + w.pick("", " ") + rule() + "}"})
	if w.IntN(3) > 0 {
		var rules []string
		for range w.IntN(3) {
			rules = append(rules, `{"query": `+w.pick(`"targetingKey eq \"vip\""`, `"tier in [\"a\", \"]\"]"`, `"{\"==\": [{\"var\": \"a\"}, 1]}"`)+w.pick("", `, "disable": true`)+", "+rule()+"}")
		}
		m = append(m, [2]string{"targeting", w.pick("[", "[ ") + strings.Join(rules, ", ") + "]"})
	}
	if w.IntN(3) == 0 {
		m = append(m, [2]string{"metadata", `{"owner": "päyments # 1", "n": 1.50}`})
	}
	w.Shuffle(len(m), func(i, j int) { m[i], m[j] = m[j], m[i] })
	return m
}

func (w *writer) goffJSON(keys []string) string {
	w.WriteString(w.gap() + "{")
	w.jsonFlags(keys, w.goffMembersOf)
	w.WriteString(w.gap() + "}" + w.gap())
	return w.String()
}

func (w *writer) goffYAML(keys []string) string {
	comment := func() string { return w.pick("", "", "  # a: {word", "\t# 'über") }
	w.WriteString(w.pick("", "---\n", "# head\n"))
	for _, k := range keys {
		w.WriteString(w.pick("", "# about\n", "\n") + w.quoted(k, true) + ":" + comment() + "\n")
		indent := strings.Repeat(" ", 1+w.IntN(4))
		for _, m := range w.goffMembersOf(true) {
			w.WriteString(w.pick("", "\n", indent+"# between\n", "# at the left\n") + indent + w.quoted(m[0], true) + ":")
			var value any
			if (m[0] == "targeting" || m[0] == "defaultRule") && w.IntN(2) == 0 && yaml.Unmarshal([]byte(m[1]), &value) == nil && !reflect.ValueOf(value).IsZero() && reflect.ValueOf(value).Len() > 0 {
				block, _ := yaml.Marshal(value)
				w.WriteString(comment() + "\n")
				deeper := indent + w.pick(" ", "   ")
				for l := range strings.Lines(string(block)) {
					w.WriteString(deeper + l)
				}
				continue
			}
			w.WriteString(w.pick(" ", "   ") + m[1] + comment() + "\n")
		}
	}
	w.WriteString(w.pick("", "# end", "...\n", "\n\n"))
	return w.String()
}

// What is planned on random files changes only the two members of the flag.
func TestGoffRandomFiles(t *testing.T) {
	const n = 300
	randomFiles{
		seed: 20261127, n: n, least: n * 2 / 3, most: n / 20, splices: 4,
		write: map[string]func(*writer, []string) string{".json": (*writer).goffJSON, ".yaml": (*writer).goffYAML},
		plan: func(name string, s State) (Change, error) {
			return NewGoffFile(name, "", Secret{}, http.DefaultClient).Plan(s, OffVariant, Want{Variant: "off"})
		},
		refused: func(error) bool { return true },
		check:   checkGoffOnlyPlanned,
		words:   []string{"# head", "# about", "# end"},
	}.run(t)
}
