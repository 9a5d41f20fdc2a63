package flags

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const jsonFile = `{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "metadata": {"big": 12345678901234567890, "price": 1.50, "tag": "<b>"},
  "flags": {
    "plain":   { "state" : "ENABLED", "variants": {"on": true,  "off": false}, "defaultVariant" : "on" },
    "frac": {
      "state": "ENABLED",
      "defaultVariant": "on",
      "variants": { "on": true, "off": false },
      "targeting": { "if": [ { "==": [ { "var": "targetingKey" }, "vip" ] }, "on", { "fractional": [ ["on", 50], ["off", 50] ] } ] }
    },
    "nodef": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": null,
      "targeting": {"if": [{"==": [{"var": "tier"}, "gold"]}, "on"]}},
    "absent": {"state": "ENABLED", "variants": {"a": "x", "b": "y"}},
    "ref": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "targeting": {"if": [{"$ref": "inner"}, "on", "off"]}},
    "nulled": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "targeting": null},
    "dis": {"state": "DISABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
    "isoff": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": {}},
    "grüße.\"x\"": {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "on"}
  },
  "$evaluators": {"inner": {"in": ["@example.com", {"var": "email"}]}}
}
`

const yamlFile = `# flags of the shop
flags:
  plain:   { state: ENABLED, variants: {on: true, off: false}, defaultVariant: on }   # one line
  größe: { "state": "ENABLED", variants: { "übergroß": true, off: false }, defaultVariant: "übergroß", targeting: {"if": [{"==": [{var: targetingKey}, 'v}ip']}, "übergroß", off]} }
  frac:
    state: ENABLED
    variants:
        on:  true    # aligned
        off: false
    defaultVariant: on  # the usual

    targeting: # who gets it
      # the important people
      if:
      - "==": [ {var: targetingKey}, vip ]
      - on
      - fractional:
        - [on, 50]
        - [off, 50]

    # trailing words
    metadata: {owner: payments}
  last:
    state: ENABLED
    variants: {on: 1.5, off: 0}
    defaultVariant: 'on'
    targeting:
      if: [{">": [{var: age}, 3]}, on]
  # about nodef
  nodef:
    state: ENABLED
    variants: {on: {deep: [1]}, off: {}}
    targeting: {if: [{in: [{var: tier}, [gold]]}, on]}
  empty:
    state: ENABLED
    variants: {on: a, off: b}
    defaultVariant:
  isoff: {state: ENABLED, variants: {on: true, off: false}, defaultVariant: "off"}
  tail:
    state: ENABLED
    variants: {on: true, off: false}
    defaultVariant: on
    targeting:
      if:
        - {"==": [{var: targetingKey}, vip]}
        - on
# the end
`

// source writes a flag file and returns the source and the file's path.
func source(t testing.TB, name, text string) (*FlagdFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return NewFlagdFile("production", path), path
}

func read(t testing.TB, f *FlagdFile, key string) State {
	t.Helper()
	s, err := f.Read(t.Context(), Ref{"production", key})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lines counts the lines that a diff takes away and adds.
func lines(diff string) (removed, added int) {
	for l := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(l, "---"), strings.HasPrefix(l, "+++"):
		case strings.HasPrefix(l, "-"):
			removed++
		case strings.HasPrefix(l, "+"):
			added++
		}
	}
	return removed, added
}

// The lines that must change are counted by hand in the files above.
func TestPlanChangesOnlyTheFlagsLines(t *testing.T) {
	tests := []struct {
		file, key      string
		variant        string
		removed, added int
		want           string // a line of the new text
	}{
		{"f.json", "plain", "off", 1, 1, `    "plain":   { "state" : "ENABLED", "variants": {"on": true,  "off": false}, "defaultVariant" : "off" },`},
		{"f.json", "frac", "off", 2, 2, `      "targeting": {}`},
		{"f.json", "nodef", "off", 2, 2, `    "nodef": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",`},
		{"f.json", "absent", "b", 1, 1, `    "absent": {"defaultVariant": "b", "state": "ENABLED", "variants": {"a": "x", "b": "y"}},`},
		{"f.json", "ref", "off", 1, 1, `    "ref": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": {}},`},
		{"f.json", "nulled", "off", 1, 1, `    "nulled": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": null},`},
		{"f.json", `grüße."x"`, "off", 1, 1, `    "grüße.\"x\"": {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "off"}`},
		{"f.yaml", "plain", "off", 1, 1, `  plain:   { state: ENABLED, variants: {on: true, off: false}, defaultVariant: "off" }   # one line`},
		{"f.yaml", "größe", "off", 1, 1, `  größe: { "state": "ENABLED", variants: { "übergroß": true, off: false }, defaultVariant: "off", targeting: {} }`},
		{"f.yaml", "frac", "off", 8, 2, `    targeting: {} # who gets it`},
		{"f.yaml", "last", "off", 3, 2, `    defaultVariant: 'off'`},
		{"f.yaml", "nodef", "off", 1, 2, `    defaultVariant: "off"`},
		{"f.yaml", "empty", "on", 1, 1, `    defaultVariant: "on"`},
		{"f.yaml", "tail", "off", 5, 2, `    targeting: {}`},
	}
	texts := map[string]string{"f.json": jsonFile, "f.yaml": yamlFile}
	for _, tt := range tests {
		for _, ending := range []string{"\n", "\r\n"} {
			t.Run(fmt.Sprintf("%s %s %q", tt.file, tt.key, ending), func(t *testing.T) {
				before := strings.ReplaceAll(texts[tt.file], "\n", ending)
				f, path := source(t, tt.file, before)
				c, err := f.Plan(read(t, f, tt.key), OffVariant, Want{Variant: tt.variant})
				if err != nil {
					t.Fatal(err)
				}
				if removed, added := lines(c.Diff); removed != tt.removed || added != tt.added {
					t.Errorf("%d lines removed and %d added, want %d and %d:\n%s", removed, added, tt.removed, tt.added, c.Diff)
				}
				rc, err := f.TurnOff(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				after, _ := os.ReadFile(path)
				if !strings.Contains(ending+string(after), ending+tt.want+ending) {
					t.Errorf("no line %q in\n%s", tt.want, after)
				}
				if strings.Count(string(after), "\r") != strings.Count(string(after), ending)*(len(ending)-1) {
					t.Errorf("line ends are mixed: %q", after)
				}
				if s := read(t, f, tt.key); !s.Off(tt.variant) || s.Word(tt.variant) != "off" || s.Revision != c.After {
					t.Errorf("state after the change: %+v", s)
				}
				if _, err := f.Restore(t.Context(), rc); err != nil {
					t.Fatal(err)
				}
				if back, _ := os.ReadFile(path); string(back) != before {
					t.Errorf("restored text differs:\n%s", back)
				}
			})
		}
	}
}

func TestPlanKeepsTheWantedValue(t *testing.T) {
	f, _ := source(t, "f.yaml", yamlFile)
	c, err := f.Plan(read(t, f, "last"), OffVariant, Want{Variant: "on"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Want.Value != 1.5 {
		t.Errorf("value of the wanted variant = %v, want 1.5", c.Want.Value)
	}
	if len(forward(t, c)) != 2 { // the default is written 'on' already, only the targeting goes
		t.Errorf("splices: %s, want the two of the targeting", c.Forward)
	}
}

func TestPlanRefuses(t *testing.T) {
	flag := `{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}`
	tests := []struct {
		name, file, text, key string
		variant               string
		want                  error
		words                 string
	}{
		{"already off", "f.json", jsonFile, "isoff", "off", ErrAlreadyOff, "revision"},
		{"already off, YAML", "f.yaml", yamlFile, "isoff", "off", ErrAlreadyOff, "revision"},
		{"missing flag", "f.json", jsonFile, "plian", "off", ErrNotFound, `did you mean "plain"?`},
		{"missing flag, YAML", "f.yaml", yamlFile, "fracc", "off", ErrNotFound, `did you mean "frac"?`},
		{"unknown variant", "f.json", jsonFile, "plain", "nope", ErrInvalid, `no variant "nope", only "off", "on"`},
		{"disabled flag", "f.json", jsonFile, "dis", "off", ErrInvalid, "DISABLED"},
		{"the same flag twice", "f.json", `{"flags": {"x": ` + flag + `, "x": ` + flag + `}}`, "x", "off", ErrAmbiguousEdit, "twice"},
		{"duplicate member", "f.json", `{"flags": {"x": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "defaultVariant": "on"}}}`, "x", "off", ErrAmbiguousEdit, "twice"},
		{"duplicate member deep inside", "f.json", `{"flags": {"x": {"state": "ENABLED", "variants": {"on": true, "on": true, "off": false}, "defaultVariant": "on"}}}`, "x", "off", ErrAmbiguousEdit, "twice"},
		{"two lists of flags", "f.json", `{"flags": {"x": ` + flag + `}, "flags": {}}`, "x", "off", ErrAmbiguousEdit, "twice"},
		{"a member in other case", "f.json", `{"flags": {"x": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "DefaultVariant": "on"}}}`, "x", "off", ErrAmbiguousEdit, "may be read as"},
		{"flags as a list", "f.json", `{"flags": [{"key": "x"}]}`, "x", "off", ErrAmbiguousEdit, "list"},
		{"$ref for a flag", "f.json", `{"flags": {"x": {"$ref": "e"}}, "$evaluators": {"e": ` + flag + `}}`, "x", "off", ErrAmbiguousEdit, "$ref"},
		{"$ref beside the flag", "f.json", `{"flags": {"$ref": "e", "x": ` + flag + `}, "$evaluators": {"e": {}}}`, "x", "off", ErrAmbiguousEdit, "$ref"},
		{"$ref in a variant", "f.json", `{"flags": {"x": {"state": "ENABLED", "variants": {"on": {"$ref": "e"}, "off": {}}, "defaultVariant": "on"}}}`, "x", "off", ErrAmbiguousEdit, "$ref"},
		{"broken JSON", "f.json", `{"flags": {"x": ` + flag, "x", "off", ErrInvalid, "unexpected end"},
		{"text behind the JSON", "f.json", `{"flags": {"x": ` + flag + `}} {}`, "x", "off", ErrInvalid, "after top-level value"},
		{"not UTF-8", "f.json", "{\"flags\": {\"\xff\": " + flag + "}}", "x", "off", ErrInvalid, "UTF-8"},
		{"no flags", "f.json", `{"flagz": {}}`, "x", "off", ErrInvalid, `no "flags"`},
		{"no variants", "f.json", `{"flags": {"x": {"state": "ENABLED"}}}`, "x", "off", ErrInvalid, "no variants"},
		{"another flag is invalid for flagd", "f.json", `{"flags": {"x": ` + flag + `, "y": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "nope"}}}`, "x", "off", ErrInvalid, "default variant: 'nope' isn't a valid variant of flag: 'y'"},
		{"another kind of file", "f.toml", `x = 1`, "x", "off", ErrInvalid, ".yaml"},

		{"alias for the flag", "f.yaml", "flags:\n  y: &f " + flag + "\n  x: *f\n", "x", "off", ErrAmbiguousEdit, "alias *f"},
		{"anchor on the flag: its alias would flip too", "f.yaml", "flags:\n  x: &f " + flag + "\n  y: *f\n", "x", "off", ErrAmbiguousEdit, "anchor &f"},
		{"merge key", "f.yaml", "base: &b {state: ENABLED}\nflags:\n  x:\n    <<: *b\n    variants: {on: true, off: false}\n    defaultVariant: on\n", "x", "off", ErrAmbiguousEdit, "merge"},
		{"flags merged in", "f.yaml", "base: &b {x: " + flag + "}\nflags:\n  <<: *b\n", "x", "off", ErrAmbiguousEdit, "merge"},
		{"flags are an alias", "f.yaml", "base: &b {x: " + flag + "}\nflags: *b\n", "x", "off", ErrAmbiguousEdit, "alias"},
		{"two documents", "f.yaml", "flags: {x: " + flag + "}\n---\nflags: {}\n", "x", "off", ErrAmbiguousEdit, "more than one document"},
		{"duplicate key, YAML", "f.yaml", "flags:\n  x: " + flag + "\n  x: " + flag + "\n", "x", "off", ErrAmbiguousEdit, "twice"},
		{"duplicate member, YAML", "f.yaml", "flags:\n  x: {state: ENABLED, state: ENABLED, variants: {on: true, off: false}, defaultVariant: on}\n", "x", "off", ErrAmbiguousEdit, "twice"},
		{"default in a block scalar", "f.yaml", "flags:\n  x:\n    state: ENABLED\n    variants: {on: true, off: false}\n    defaultVariant: >-\n      on\n", "x", "off", ErrAmbiguousEdit, "not edited"},
		{"odd line break", "f.yaml", "flags: {x: " + flag + "} # \u2028\n", "x", "off", ErrAmbiguousEdit, "line break"},
		{"broken YAML", "f.yaml", "flags: {x: [}\n", "x", "off", ErrInvalid, "did not find"},
		{"empty file", "f.yaml", "", "x", "off", ErrInvalid, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, path := source(t, tt.file, tt.text)
			s, err := f.Read(t.Context(), Ref{"production", tt.key})
			if err == nil {
				_, err = f.Plan(s, OffVariant, Want{Variant: tt.variant})
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
				t.Fatalf("error %v, want %v with %q", err, tt.want, tt.words)
			}
			if !strings.Contains(err.Error(), tt.key) || !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name flag and file: %v", err)
			}
		})
	}
	t.Run("the whole file is missing", func(t *testing.T) {
		_, err := NewFlagdFile("p", filepath.Join(t.TempDir(), "none.json")).Read(t.Context(), Ref{"p", "x"})
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("error %v, want ErrNotFound", err)
		}
	})
	t.Run("mode disable", func(t *testing.T) {
		f, _ := source(t, "f.json", jsonFile)
		if _, err := f.Plan(read(t, f, "plain"), Disable, Want{Variant: "off"}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "code") {
			t.Errorf("error %v, want ErrInvalid about the code's default", err)
		}
	})
}

// A change that the planned paths do not explain is found whatever made it.
func TestUnplannedPaths(t *testing.T) {
	tests := []struct {
		name, before, after string
		want                string
	}{
		{"only the plan", `{"flags":{"x":{"defaultVariant":"on","targeting":{"if":[1]}}}}`, `{"flags":{"x":{"defaultVariant":"off","targeting":{}}}}`, ""},
		{"default added", `{"flags":{"x":{}}}`, `{"flags":{"x":{"defaultVariant":"off"}}}`, ""},
		{"another flag", `{"flags":{"x":{},"y":{"defaultVariant":"on"}}}`, `{"flags":{"x":{},"y":{"defaultVariant":"off"}}}`, "/flags/y/defaultVariant"},
		{"a number's digits", `{"n":1.50}`, `{"n":1.5}`, "/n"},
		{"a flag lost", `{"flags":{"x":{},"a/b":{}}}`, `{"flags":{"x":{}}}`, "/flags/a~1b"},
		{"a variant", `{"flags":{"x":{"variants":{"on":true}}}}`, `{"flags":{"x":{"variants":{"on":false}}}}`, "/flags/x/variants/on"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := decodeJSON([]byte(tt.before))
			if err != nil {
				t.Fatal(err)
			}
			b, err := decodeJSON([]byte(tt.after))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(unplanned("x", OffVariant, a, b), " "); got != tt.want {
				t.Errorf("unplanned paths %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPatchAppliesOnlyToItsText(t *testing.T) {
	p := Patch{{2, "bb", "x"}, {5, "", "yy"}}
	after, err := p.Apply([]byte("aabbcdd"))
	if err != nil || string(after) != "aaxcyydd" {
		t.Fatalf("Apply = %q, %v; want aaxcyydd", after, err)
	}
	if back, err := p.inverse().Apply(after); err != nil || string(back) != "aabbcdd" {
		t.Errorf("inverse = %q, %v; want aabbcdd", back, err)
	}
	for _, other := range []string{"aabcdd", "aa", ""} {
		if _, err := p.Apply([]byte(other)); !errors.Is(err, ErrConflict) {
			t.Errorf("Apply to %q: %v, want ErrConflict", other, err)
		}
	}
}

// FuzzPlanJSON and FuzzPlanYAML: whatever the document, a plan either refuses or changes
// nothing but the flag's default and targeting, turns the flag off, and can be taken back.
func FuzzPlanJSON(f *testing.F) { fuzzPlan(f, "f.json", jsonFile) }
func FuzzPlanYAML(f *testing.F) { fuzzPlan(f, "f.yaml", yamlFile) }

func fuzzPlan(f *testing.F, name, text string) {
	for _, key := range []string{"plain", "frac", "nodef", "absent", "last", "größe", "tail"} {
		f.Add(text, key)
	}
	f.Add(`{"flags":{"":{"state":"ENABLED","variants":{"off":0}}}}`, "")
	f.Add("flags:\n  a: {state: ENABLED, variants: {off: 1, 'x''y': 2}, defaultVariant: 'x''y', targeting: {if: [ it's, \"}\" ]} }", "a")
	f.Add("---\nflags:\n    a:\n        targeting:\n          - off\n        state: ENABLED\n        variants:\n            off: {}\n...\n", "a")
	f.Fuzz(func(t *testing.T, text, key string) {
		file := NewFlagdFile("p", name)
		s := State{Ref: Ref{"p", key}, Raw: []byte(text)}
		for mode, want := range map[Mode]Want{RampZero: {Variant: "off"}, Disable: {}} {
			c, err := file.Plan(s, mode, want)
			if err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Fatalf("mode %s: an error without a name: %v", mode, err)
				}
				continue
			}
			after, err := forward(t, c).Apply(s.Raw)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := splices(t, c.Inverse).Apply(after); err != nil || string(back) != text {
				t.Fatalf("mode %s taken back: %v\n%q\nwas\n%q", mode, err, back, text)
			}
			if _, err := file.Plan(State{Ref: s.Ref, Raw: after}, mode, want); !errors.Is(err, ErrAlreadyOff) {
				t.Fatalf("mode %s planned again: %v, want ErrAlreadyOff", mode, err)
			}
		}
		c, err := file.Plan(s, OffVariant, Want{Variant: "off"})
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("an error without a name: %v", err)
			}
			return
		}
		after, err := forward(t, c).Apply(s.Raw)
		if err != nil {
			t.Fatal(err)
		}
		back, err := splices(t, c.Inverse).Apply(after)
		if err != nil || string(back) != text {
			t.Fatalf("taken back: %v\n%q\nwas\n%q", err, back, text)
		}
		checkOnlyPlanned(t, name, key, text, string(after))
		if _, err := file.Plan(State{Ref: s.Ref, Raw: after}, OffVariant, Want{Variant: "off"}); !errors.Is(err, ErrAlreadyOff) {
			t.Fatalf("planned again: %v, want ErrAlreadyOff", err)
		}
	})
}

// splices reads the splices of a change to a text.
func splices(t *testing.T, raw json.RawMessage) Patch {
	t.Helper()
	p, err := patchOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func forward(t *testing.T, c Change) Patch { return splices(t, c.Forward) }
