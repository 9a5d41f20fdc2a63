package flags

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	flagd "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	"github.com/driftwatch/driftwatch/internal/rule"
)

// question asks whether a boolean flag gives false to three users and a vip.
func question(key string) Question {
	return Question{
		Key: key, Want: Want{"off", false}, Variants: map[string]any{"on": true, "off": false},
		Probes: []Probe{{"targetingKey": "u1"}, {"targetingKey": "u2"}, {"targetingKey": "u3"}, {"targetingKey": "vip", "tier": "gold"}},
	}
}

func flagFile(flags string) string { return `{"flags": {` + flags + `}}` }

const onOff = `"state": "ENABLED", "variants": {"on": true, "off": false}`

// The states and what applications get in them were recorded with flagd 0.16.1 for all five
// ways to evaluate (docs/flags.md).
func TestProveInFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, flags string
		proved      bool
		clean       int // of the 8 answers in the last round
		suspect     int // of 4 contexts
		words       string
	}{
		{"off", `"x": {` + onOff + `, "defaultVariant": "off"}`, true, 8, 0, ""},
		{"off, empty targeting", `"x": {` + onOff + `, "defaultVariant": "off", "targeting": {}}`, true, 8, 0, ""},
		{"off, null targeting: reason DEFAULT with a variant", `"x": {` + onOff + `, "defaultVariant": "off", "targeting": null}`, true, 8, 0, ""},
		{"off by a constant rule", `"x": {` + onOff + `, "defaultVariant": "on", "targeting": {"if": [true, "off"]}}`, true, 8, 0, ""},
		{"on", `"x": {` + onOff + `, "defaultVariant": "on"}`, false, 0, 4, `got true variant "on" reason STATIC`},
		{"default off does nothing beside a full ramp", `"x": {` + onOff + `, "defaultVariant": "off", "targeting": {"fractional": [["on", 100], ["off", 0]]}}`, false, 0, 4, "TARGETING_MATCH"},
		{"ramp to 0 leaves the vip rule", `"x": {` + onOff + `, "defaultVariant": "off", "targeting": {"if": [{"==": [{"var": "targetingKey"}, "vip"]}, "on", {"fractional": [["on", 0], ["off", 100]]}]}}`, false, 6, 1, `"targetingKey":"vip"`},
		{"disabled is not off", `"x": {"state": "DISABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}`, false, 0, 0, "reason DISABLED"},
		{"no default is the code's", `"x": {` + onOff + `, "defaultVariant": null}`, false, 0, 0, "reason DEFAULT"},
		{"missing is not off", `"y": {` + onOff + `, "defaultVariant": "off"}`, false, 0, 0, "FLAG_NOT_FOUND"},
		{"off value under another variant", `"x": {"state": "ENABLED", "variants": {"on": true, "off": false, "other": false}, "defaultVariant": "other"}`, false, 0, 4, `variant "other"`},
		{"another type", `"x": {"state": "ENABLED", "variants": {"on": "a", "off": "b"}, "defaultVariant": "off"}`, false, 0, -1, "TYPE_MISMATCH"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, path := source(t, "f.json", flagFile(tt.flags))
			p := NewFileProver(path)
			within := time.Minute
			if !tt.proved {
				within = time.Millisecond // for the one round that there is always
			}
			e, err := p.Prove(t.Context(), question("x"), within)
			if e.Proved != tt.proved || (err == nil) != tt.proved {
				t.Fatalf("proved %v, error %v, want proved %v", e.Proved, err, tt.proved)
			}
			if err != nil && (!errors.Is(err, ErrUnproven) || !strings.Contains(err.Error(), tt.words)) {
				t.Errorf("error %v, want ErrUnproven with %q", err, tt.words)
			}
			clean, all := 0, 0
			for _, a := range e.Answers {
				all += a.Count
				if a.Clean {
					clean += a.Count
				}
			}
			if clean != tt.clean || all != 8 { // 4 contexts with 2 code defaults
				t.Errorf("%d of %d answers are clean, want %d of 8: %v", clean, all, tt.clean, e.Answers)
			}
			if tt.proved && e.Rounds < 3 || !tt.proved && e.Rounds != 0 || e.Contexts != 4 || e.At.IsZero() || e.Took <= 0 {
				t.Errorf("evidence %+v", e)
			}
			if e.Viewpoint != (Viewpoint{File, path}) {
				t.Errorf("viewpoint %+v", e.Viewpoint)
			}
			s, err := p.Served(t.Context(), question("x"))
			if tt.suspect < 0 {
				if err == nil {
					t.Errorf("served %+v, want an error: nothing could be evaluated", s)
				}
				return
			}
			if err != nil || s.Suspect != tt.suspect || s.Suspect+s.Off+s.Unknown != 4 {
				t.Errorf("served %+v, %v; want %d suspect contexts of 4", s, err, tt.suspect)
			}
		})
	}
}

func TestProveOtherKinds(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, variants string }{
		{"string", `{"on": "new", "off": "old"}`},
		{"number", `{"on": 1.5, "off": 0}`},
		{"object", `{"on": {"backoff": {"ms": 5}}, "off": {"backoff": {"ms": [1, 2]}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, path := source(t, "f.json", flagFile(`"x": {"state": "ENABLED", "variants": `+tt.variants+`, "defaultVariant": "on"}`))
			c := planned(t, f, "x")
			q := NewQuestion(read(t, f, "x"), c.Want, rule.Flag{}, 3, rand.New(rand.NewPCG(1, 2)))
			if e, err := NewFileProver(path).Prove(t.Context(), q, time.Millisecond); !errors.Is(err, ErrUnproven) {
				t.Errorf("proved while on: %+v", e)
			}
			mustTurnOff(t, f, c)
			if e, err := NewFileProver(path).Prove(t.Context(), q, time.Minute); err != nil {
				t.Errorf("%v: %+v", err, e)
			}
		})
	}
}

// An application is one with flagd's provider in file mode, open all the time.
type application struct {
	client *openfeature.Client
}

func newApplication(t *testing.T, path string) application {
	t.Helper()
	provider, err := flagd.NewProvider(flagd.WithFileResolver(), flagd.WithOfflineFilePath(path), flagd.WithDeadline(60_000))
	if err != nil {
		t.Fatal(err)
	}
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.Background()) })
	if err := api.SetProviderAndWait(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	return application{api.NewClient()}
}

// An application that has the provider open from before sees the flip and the undo, in JSON
// and in YAML: the rename does not cost it its watch.
func TestApplicationSeesTheFlip(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"f.json": jsonFile, "f.yaml": yamlFile} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, path := source(t, name, text)
			app := newApplication(t, path).client
			vip := openfeature.NewEvaluationContext("vip", nil)
			wait := func(want bool) {
				t.Helper()
				for range 12_000 { // a minute, for a machine out of breath
					// The code default is the other value, so a fallback is no answer.
					if got, err := app.BooleanValue(t.Context(), "frac", !want, vip); err == nil && got == want {
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
				t.Fatalf("the application does not get %v", want)
			}
			wait(true)
			for range 3 {
				rc := mustTurnOff(t, f, planned(t, f, "frac"))
				wait(false)
				if _, err := f.Restore(t.Context(), rc); err != nil {
					t.Fatal(err)
				}
				wait(true)
			}
		})
	}
}

// A proof that begins before the write ends after it.
func TestProveWaitsForTheFlip(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	s := read(t, f, "frac")
	c := planned(t, f, "frac")
	q := NewQuestion(s, c.Want, rule.Flag{Probes: []map[string]any{{"targetingKey": "user-1"}}}, 4, rand.New(rand.NewPCG(1, 2)))
	if len(q.Probes) != 6 { // the rule's, the vip of the targeting, 4 random ones
		t.Errorf("contexts %v", q.Probes)
	}
	type result struct {
		e   Evidence
		err error
	}
	proved := make(chan result)
	go func() {
		e, err := NewFileProver(path).Prove(t.Context(), q, time.Minute)
		proved <- result{e, err}
	}()
	select {
	case r := <-proved:
		t.Fatalf("ended before the write: %+v, %v", r.e, r.err)
	case <-time.After(150 * time.Millisecond):
	}
	mustTurnOff(t, f, c)
	if r := <-proved; r.err != nil || !r.e.Proved || r.e.Took < 150*time.Millisecond {
		t.Errorf("%+v, %v", r.e, r.err)
	}
}

func TestProveTellsWhatIsWrongWithTheFile(t *testing.T) {
	_, path := source(t, "f.json", flagFile(`"x": {`+onOff+`, "defaultVariant": "nope"}`))
	e, err := NewFileProver(path).Prove(t.Context(), question("x"), time.Second)
	if !errors.Is(err, ErrUnproven) || !strings.Contains(err.Error(), "'nope' isn't a valid variant") || len(e.Notes) != 1 {
		t.Errorf("error %v, notes %q", err, e.Notes)
	}
	if _, err := NewFileProver(path).Served(t.Context(), question("x")); err == nil {
		t.Error("a file that flagd refuses has no answer to who is served")
	}
	if _, err := NewFileProver(path+".json").Prove(t.Context(), question("x"), time.Second); !errors.Is(err, ErrUnproven) {
		t.Errorf("no file: %v", err)
	}
	q := question("x")
	q.Probes = nil
	if _, err := NewFileProver(path).Prove(t.Context(), q, time.Second); !errors.Is(err, ErrUnproven) {
		t.Errorf("no contexts: %v; nothing asked is nothing proved", err)
	}
}

func TestProveInterrupted(t *testing.T) {
	_, path := source(t, "f.json", jsonFile)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err := NewFileProver(path).Prove(ctx, question("frac"), time.Minute)
	if !errors.Is(err, ErrUnproven) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want ErrUnproven and context.Canceled", err)
	}
}

func TestProofsLeaveNothingBehind(t *testing.T) {
	_, path := source(t, "f.json", flagFile(`"x": {`+onOff+`, "defaultVariant": "off"}`))
	log, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = log
	defer func() { os.Stderr = stderr }()

	before := runtime.NumGoroutine()
	files := openFiles(t)
	for range 5 {
		if _, err := NewFileProver(path).Prove(t.Context(), question("x"), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if os.Stderr != log {
		t.Error("os.Stderr was not put back")
	}
	if info, _ := log.Stat(); info.Size() != 0 {
		b, _ := os.ReadFile(log.Name())
		t.Errorf("written to stderr:\n%s", b)
	}
	for range 6000 {
		if runtime.NumGoroutine() <= before && openFiles(t) <= files {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	t.Errorf("%d goroutines, were %d; %d open files, were %d\n%s", runtime.NumGoroutine(), before, openFiles(t), files, stacks[:runtime.Stack(stacks, true)])
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// ofrepAnswers are answers of flagd 0.16.1, recorded over its OFREP port.
var ofrepAnswers = map[string]struct {
	status int
	body   string
}{
	"plain":    {200, `{"value":true,"key":"plain","reason":"STATIC","variant":"on","metadata":{"flagSetId":"checkout","owner":"payments","version":"v1"}}`},
	"off":      {200, `{"value":false,"key":"off","reason":"STATIC","variant":"off","metadata":{"flagSetId":"checkout"}}`},
	"nodef":    {200, `{"key":"nodef","reason":"DEFAULT","metadata":{}}`},
	"disabled": {200, `{"key":"disabled","reason":"DISABLED","metadata":{}}`},
	"default":  {200, `{"value":null,"reason":"DISABLED","variant":"SdkDefault","key":"default"}`}, // of GO Feature Flag 1.55.1
	"missing":  {404, `{"key":"missing","errorCode":"FLAG_NOT_FOUND","errorDetails":"flag missing not found"}`},
	"error":    {500, `{"errorDetails":"out of order"}`},
	"denied":   {401, ``},
}

func ofrepServer(t *testing.T) (*httptest.Server, *atomic.Int64, *atomic.Value) {
	var asked atomic.Int64
	var swap atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		key := strings.TrimPrefix(r.URL.Path, "/ofrep/v1/evaluate/flags/")
		var body struct {
			Context map[string]any `json:"context"`
		}
		if b, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(b, &body) != nil || body.Context["targetingKey"] == nil {
			t.Errorf("request %s: %v", b, err)
		}
		if key == "swap" {
			key = swap.Load().(string)
		}
		if key == "vip" {
			key = "off"
			if body.Context["tier"] == "gold" {
				key = "plain"
			}
		}
		a := ofrepAnswers[key]
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		if _, err := io.WriteString(w, a.body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s, &asked, &swap
}

func TestProveOverOFREP(t *testing.T) {
	t.Parallel()
	s, asked, swap := ofrepServer(t)
	prover := func() *OpenFeatureProver {
		p := NewOFREPProver(s.URL, Secret{}, "", s.Client())
		p.Every, p.Settle = 10*time.Millisecond, 60*time.Millisecond
		return p
	}
	tests := []struct {
		key     string
		proved  bool
		suspect int // -1: nothing could be evaluated
		words   string
	}{
		{"off", true, 0, ""},
		{"plain", false, 4, `variant "on"`},
		{"vip", false, 1, "gold"},
		{"nodef", false, -1, "TYPE_MISMATCH"}, // the provider's answer to a success without a value
		{"disabled", false, 0, "DISABLED"},
		{"default", false, 0, "SdkDefault"},
		{"missing", false, 0, "FLAG_NOT_FOUND"},
		{"error", false, -1, "GENERAL"},
		{"denied", false, -1, "GENERAL"},
	}
	for _, tt := range tests {
		t.Run(tt.key, func(t *testing.T) {
			asked.Store(0)
			within := time.Minute
			if !tt.proved {
				within = time.Millisecond
			}
			e, err := prover().Prove(t.Context(), question(tt.key), within)
			if e.Proved != tt.proved || (err == nil) != tt.proved || err != nil && !strings.Contains(err.Error(), tt.words) {
				t.Errorf("proved %v, %v; want %v with %q", e.Proved, err, tt.proved, tt.words)
			}
			if tt.proved && asked.Load() < 3*8 {
				t.Errorf("asked %d times, want 3 rounds of 4 contexts with 2 code defaults at least", asked.Load())
			}
			if tt.proved && e.Took < 60*time.Millisecond {
				t.Errorf("proved in %v, although a poll may take longer", e.Took)
			}
			served, err := prover().Served(t.Context(), question(tt.key))
			if (err != nil) != (tt.suspect < 0) || err == nil && served.Suspect != tt.suspect {
				t.Errorf("served %+v, %v; want %d suspects", served, err, tt.suspect)
			}
		})
	}
	t.Run("a late flip", func(t *testing.T) {
		swap.Store("plain")
		time.AfterFunc(100*time.Millisecond, func() { swap.Store("off") })
		e, err := prover().Prove(t.Context(), question("swap"), time.Minute)
		if err != nil || e.Took < 160*time.Millisecond { // the flip and 60 ms of nothing but off
			t.Errorf("%+v, %v", e, err)
		}
	})
	t.Run("server gone", func(t *testing.T) {
		gone := NewOFREPProver("http://user:secret@127.0.0.1:1", Secret{}, "", http.DefaultClient)
		e, err := gone.Prove(t.Context(), question("off"), 100*time.Millisecond)
		if !errors.Is(err, ErrUnproven) || strings.Contains(err.Error(), "secret") || strings.Contains(e.Viewpoint.Address, "secret") {
			t.Errorf("%v, viewpoint %v", err, e.Viewpoint)
		}
	})
}

func TestContextsOfTargeting(t *testing.T) {
	tests := []struct{ name, targeting, want string }{
		{"equal", `{"if": [{"==": [{"var": "tier"}, "gold"]}, "on"]}`, `[{"targetingKey":"driftwatch-rule-1","tier":"gold"}]`},
		{"the key itself", `{"if": [{"===": ["vip", {"var": ["targetingKey"]}]}, "on"]}`, `[{"targetingKey":"vip"}]`},
		{"and", `{"if": [{"and": [{"==": [{"var": "a"}, 1]}, {"in": [{"var": "b"}, ["x", "y"]]}]}, "on"]}`, `[{"a":1,"b":"x","targetingKey":"driftwatch-rule-1"}]`},
		{"or, and in a text", `{"if": [{"or": [{"in": ["@x", {"var": "mail"}]}, {"starts_with": [{"var": "id"}, "t"]}]}, "on"]}`, `[{"mail":"@x","targetingKey":"driftwatch-rule-1"},{"id":"t","targetingKey":"driftwatch-rule-2"}]`},
		{"nothing to see", `{"fractional": [["on", 50], ["off", 50]]}`, `null`},
		{"too deep for us", `{"if": [{"==": [{"var": "a.b"}, 1]}, "on"]}`, `null`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rule any
			if err := json.Unmarshal([]byte(tt.targeting), &rule); err != nil {
				t.Fatal(err)
			}
			if got, _ := json.Marshal(contextsOf(rule)); string(got) != tt.want {
				t.Errorf("contexts %s, want %s", got, tt.want)
			}
		})
	}
}

// A server for remote evaluation may want a credential in a header of its choice.
func TestOFREPCredential(t *testing.T) {
	t.Parallel()
	const token = "ofrep-token-5521"
	for header, want := range map[string]string{"": "Bearer " + token, "X-API-Key": token} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if name := map[bool]string{true: "Authorization", false: header}[header == ""]; r.Header.Get(name) != want {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				_, _ = io.WriteString(w, `{"key": "x", "reason": "STATIC", "variant": "off", "value": false}`)
			}))
			defer s.Close()
			p := NewOFREPProver(s.URL, tokenFile(t, token), header, s.Client())
			if e, err := p.Prove(t.Context(), question("x"), 20*time.Second); err != nil {
				t.Errorf("%v: %+v", err, e)
			}
			for _, wrong := range []Secret{tokenFile(t, "wrong"), {}, {File: "/no/such/file"}, {Env: "DRIFTWATCH_TEST_NO_SUCH_VARIABLE"}} {
				e, err := NewOFREPProver(s.URL, wrong, header, s.Client()).Prove(t.Context(), question("x"), 300*time.Millisecond)
				if !errors.Is(err, ErrUnproven) || e.Proved {
					t.Errorf("proved with %s: %+v", wrong, e)
				}
			}
		})
	}
}
