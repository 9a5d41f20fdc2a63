package flags

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
)

func TestServed(t *testing.T) {
	tests := []struct {
		name, targeting string
		want            string // sorted; "?" = cannot be read
	}{
		{"none", `{}`, "def"},
		{"a constant", `"a"`, "a"},
		{"branches without an else", `{"if": [{"var": "x"}, "a"]}`, "a def"},
		{"branches with one", `{"if": [{"var": "x"}, "a", {"var": "y"}, "b", "c"]}`, "a b c"},
		{"a ramp, and who has no key", `{"fractional": [["a", 1], ["b", 0]]}`, "a def"},
		{"a ramp by an attribute, without weights", `{"fractional": [{"var": "mail"}, ["a"], ["b"]]}`, "a b def"},
		{"nested", `{"if": [{"var": "x"}, {"if": [{"var": "y"}, "a", null]}, {"fractional": [["b", 3]]}]}`, "a b def"},
		{"a ref", `{"$ref": "r"}`, "?"},
		{"a computed result", `{"if": [{"var": "x"}, {"cat": ["a", "b"]}, "c"]}`, "?"},
		{"a boolean", `true`, "?"},
		{"a computed weight", `{"fractional": [["a", {"var": "w"}], ["b", 1]]}`, "?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rule any
			if err := json.Unmarshal([]byte(tt.targeting), &rule); err != nil {
				t.Fatal(err)
			}
			variants, ok := served(rule, "def")
			got := strings.Join(sortedKeys(variants), " ")
			if !ok {
				got = "?"
			}
			if got != tt.want {
				t.Errorf("served %s, want %s", got, tt.want)
			}
		})
	}
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

const (
	vipRamp  = `{"if": [{"==": [{"var": "targetingKey"}, "vip"]}, "on", {"fractional": [["on", 50], ["off", 50]]}]}`
	safeRamp = `{"if": [{"==": [{"var": "tier"}, "free"]}, "off", {"fractional": [["on", 50], ["off", 50]]}]}`
)

func TestRampToZero(t *testing.T) {
	tests := []struct {
		name, file, before, after string // the ramp's text
		words                     string // of the refusal, "" = planned
	}{
		{"JSON", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "off", "targeting": ` + safeRamp + `}`), `[["on",0],["off",100]]`, ""},
		{"JSON, by an attribute and without the off variant", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "off", "targeting": {"fractional": [{"var": "mail"}, ["on", 1]]}}`), `[{"var":"mail"},["on",0],["off",100]]`, ""},
		{"YAML in one line", "f.yaml", "flags:\n  x: {state: ENABLED, variants: {on: true, off: false}, defaultVariant: off, targeting: " + safeRamp + "} # ramp\n", `[["on",0],["off",100]]`, ""},
		{"YAML as a block", "f.yaml", "flags:\n  x:\n    state: ENABLED\n    variants: {on: true, off: false}\n    defaultVariant: off\n    targeting:\n      fractional:\n        - [on, 50]\n        - [off, 50]\n    # the end\n", "fractional: [[\"on\",0],[\"off\",100]]\n    # the end", ""},
		{"vip rule", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "off", "targeting": ` + vipRamp + `}`), "", `a rule beside the ramp, or the default, serves ["on"]`},
		{"the default is another variant", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "on", "targeting": {"fractional": [["on", 50], ["off", 50]]}}`), "", `serves ["on"]`},
		{"two ramps", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "off", "targeting": {"if": [{"var": "a"}, {"fractional": [["on", 1]]}, {"fractional": [["on", 2]]}]}}`), "", "2 ramps"},
		{"no ramp", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "off", "targeting": {"if": [{"var": "a"}, "on"]}}`), "", "no ramp"},
		{"a ref beside it", "f.json", `{"$evaluators": {"r": {"==": [1, 2]}}, ` + strings.TrimPrefix(flagFile(`"x": {`+onOff+`, "defaultVariant": "off", "targeting": {"if": [{"var": "a"}, {"$ref": "r"}, {"fractional": [["on", 1]]}]}}`), "{"), "", "cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, path := source(t, tt.file, tt.before)
			c, err := f.Plan(read(t, f, "x"), RampZero, Want{Variant: "off"})
			if tt.words != "" {
				if !errors.Is(err, ErrAmbiguousEdit) || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("error %v, want ErrAmbiguousEdit with %q", err, tt.words)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			rc := mustTurnOff(t, f, c)
			if now := content(t, path); !strings.Contains(now, tt.after) {
				t.Errorf("the file lacks %q:\n%s", tt.after, now)
			}
			s := read(t, f, "x")
			if !s.Off("off") || !s.Targeting || s.Word("off") != "off" {
				t.Errorf("state %+v", s)
			}
			if e, err := NewFileProver(path).Prove(t.Context(), NewQuestion(s, c.Want, rule.Flag{}, 3, seeded()), time.Minute); err != nil {
				t.Errorf("%v: %+v", err, e)
			}
			if _, err := f.Plan(s, RampZero, Want{Variant: "off"}); !errors.Is(err, ErrAlreadyOff) {
				t.Errorf("again: %v, want ErrAlreadyOff", err)
			}
			if _, err := f.Restore(t.Context(), rc); err != nil || content(t, path) != tt.before {
				t.Errorf("restored: %v\n%s", err, content(t, path))
			}
		})
	}
}

// A disabled flag is never called off: it is proved that everybody gets what was passed.
func TestDisabledFallsBackToTheCodeDefault(t *testing.T) {
	for name, text := range map[string]string{
		"f.json": flagFile(`"x": {` + onOff + `, "defaultVariant": "on", "targeting": ` + vipRamp + `}`),
		"f.yaml": "flags:\n  x:\n    state: ENABLED   # yes\n    variants: {on: true, off: false}\n    defaultVariant: on\n",
	} {
		t.Run(name, func(t *testing.T) {
			f, path := source(t, name, text)
			s := read(t, f, "x")
			q := NewQuestion(s, Want{}, rule.Flag{}, 3, seeded())
			p := NewFileProver(path)
			if _, err := p.Prove(t.Context(), q, time.Millisecond); !errors.Is(err, ErrUnproven) || !strings.Contains(err.Error(), "left to the default in the code") {
				t.Errorf("while it serves variants: %v", err)
			}
			if served, err := p.Served(t.Context(), q); err != nil || served.Suspect != len(q.Probes) {
				t.Errorf("served %+v, %v; want all to get a variant", served, err)
			}
			c, err := f.Plan(s, ModeOf(rule.Off{Disabled: true}), Want{})
			if err != nil {
				t.Fatal(err)
			}
			rc := mustTurnOff(t, f, c)
			if now := content(t, path); now != strings.Replace(strings.Replace(text, `"ENABLED"`, `"DISABLED"`, 1), "state: ENABLED", `state: "DISABLED"`, 1) {
				t.Errorf("more than the state changed:\n%s", now)
			}
			s = read(t, f, "x")
			if s.Word("") != "disabled" || s.Off("off") || !s.Off("") {
				t.Errorf("state %q, %+v", s.Word(""), s)
			}
			e, err := p.Prove(t.Context(), q, time.Minute)
			if err != nil || len(e.Answers) != 2 || e.Answers[0].Reason != "DISABLED" || e.Answers[0].Value == e.Answers[1].Value {
				t.Errorf("%v: %+v", err, e)
			}
			// DISABLED with default true: who asks for the off variant does not take it for off.
			if _, err := p.Prove(t.Context(), question("x"), time.Millisecond); !errors.Is(err, ErrUnproven) {
				t.Errorf("disabled was taken for off: %v", err)
			}
			if _, err := f.Plan(s, Disable, Want{}); !errors.Is(err, ErrAlreadyOff) {
				t.Errorf("again: %v, want ErrAlreadyOff", err)
			}
			if _, err := f.Restore(t.Context(), rc); err != nil || content(t, path) != text {
				t.Errorf("restored: %v\n%s", err, content(t, path))
			}
		})
	}
}

func TestModeOf(t *testing.T) {
	for want, off := range map[Mode]rule.Off{OffVariant: {Variant: "off"}, RampZero: {Variant: "off", RampZero: true}, Disable: {Disabled: true}} {
		if got := ModeOf(off); got != want {
			t.Errorf("%+v is %s, want %s", off, got, want)
		}
	}
	f, _ := source(t, "f.json", jsonFile)
	if _, err := f.Plan(read(t, f, "plain"), "", Want{Variant: "off"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no mode: %v, want ErrInvalid", err)
	}
}
