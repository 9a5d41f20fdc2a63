package strictyaml

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// read asks a one-field document for the field "x".
func read[T any](t *testing.T, text string, get func(Value) (T, bool)) (T, bool, string) {
	t.Helper()
	f, docs := Read("f.yaml", []byte("x: "+text+"\n"))
	if len(docs) != 1 {
		t.Fatalf("%q: %d documents, %v", text, len(docs), f.Err())
	}
	m, _ := docs[0].Root.Map()
	x, ok := get(m.Get("x"))
	if err := f.Err(); err != nil {
		return x, ok, err.Error()
	}
	return x, ok, ""
}

// check reads every text; want is nil where a mistake is expected, which must then be recorded.
func check[T any](t *testing.T, get func(Value) (T, bool), want map[string]any) {
	t.Helper()
	for text, w := range want {
		got, ok, mistake := read(t, text, get)
		switch {
		case w == nil && (ok || mistake == ""):
			t.Errorf("%s is taken as %v", text, got)
		case w != nil && (!ok || mistake != ""):
			t.Errorf("%s: %s", text, mistake)
		case w != nil && !reflect.DeepEqual(any(got), w):
			t.Errorf("%s is %v, want %v", text, got, w)
		}
	}
}

func TestDuration(t *testing.T) {
	check(t, Value.Duration, map[string]any{
		"15s": 15 * time.Second, "1m": time.Minute, "7d": 168 * time.Hour, "2h45m": 165 * time.Minute, "0s": time.Duration(0),
		"0": time.Duration(0), `"0"`: time.Duration(0), "500ms": 500 * time.Millisecond, "0.0": time.Duration(0),
		"60": nil, "-1m": nil, "1.5h": nil, "5 m": nil, "": nil, "5min": nil, "300y": nil, "[1m]": nil, "true": nil, ".nan": nil,
	})
}

func TestFraction(t *testing.T) {
	check(t, Value.Fraction, map[string]any{
		"10%": 0.1, "10 %": 0.1, "0.1%": 0.001, "250%": 2.5, "0.1": 0.1, "0": 0.0, "1e-3": 0.001,
		"10": nil, "1": nil, "-0.1": nil, "-1%": nil, `"0.1"`: nil, `"%"`: nil, "NaN%": nil, "inf%": nil, ".inf": nil, "5ms": nil, "{a: 1}": nil,
	})
}

func TestScalars(t *testing.T) {
	check(t, Value.Text, map[string]any{
		"a": "a", "off": "off", "on": "on", "yes": "yes", `"17"`: "17", "2026-12-24": "2026-12-24",
		"17": nil, "1.10": nil, "true": nil, "": nil, `""`: nil, `" "`: nil, "[a]": nil, "!secret a": nil,
	})
	check(t, Value.AnyText, map[string]any{`""`: "", "a": "a", "~": nil})
	check(t, Value.Bool, map[string]any{"true": true, "false": false, "on": nil, "yes": nil, "1": nil, `"true"`: nil})
	check(t, Value.Float, map[string]any{"0.99": 0.99, "1": 1.0, "1e3": 1000.0, ".nan": nil, "-.inf": nil, `"1"`: nil, "{}": nil})
	check(t, func(v Value) (int, bool) { return v.Int(1, 30) }, map[string]any{"1": 1, "30": 30, "3e1": 30, "0": nil, "31": nil, "1.5": nil, "1e300": nil})
	check(t, Value.Time, map[string]any{"2026-12-24T18:00:00Z": time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC), "2026-12-24": nil, "2026-12-24T18:00:00": nil})
	check(t, Value.Texts, map[string]any{"[a, b]": []string{"a", "b"}, "[]": nil, "[a, a]": nil, "[1]": nil, "a": nil})
	check(t, func(v Value) (string, bool) { return v.Choice("up", "down") }, map[string]any{"up": "up", "upp": nil, "Up": nil})
	check(t, Value.Any, map[string]any{
		"{a: [1, 2.5, true, t, ~], b: 99999999999999999999}": map[string]any{"a": []any{int64(1), 2.5, true, "t", nil}, "b": 99999999999999999999.0},
		"{a: .nan}": nil,
	})
}

// What is absent is neither there nor a mistake.
func TestAbsent(t *testing.T) {
	f, docs := Read("f.yaml", []byte("{}"))
	m, ok := docs[0].Root.Map()
	v := m.Get("x")
	_, isMap := v.Map()
	_, isText := v.Text()
	_, isNumber := v.Float()
	m.Close()
	if !ok || v.Given() || isMap || isText || isNumber || f.Err() != nil {
		t.Errorf("given %v, map %v, text %v, number %v, %v", v.Given(), isMap, isText, isNumber, f.Err())
	}
}

func TestMistakesOfTheFile(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"bracket left open", "a: 1\nb: [\nc: 2\n", "f.yaml:2:1: not YAML: did not find expected ',' or ']'"},
		{"two colons", "a: 1\nb: c: d\n", "f.yaml:2:1: not YAML: mapping values are not allowed in this context"},
		{"tab", "a: 1\nb:\n\t- c\n", "f.yaml:3:1: not YAML: found character that cannot start any token"},
		{"in the second document", "a: 1\n---\na: 1\nb: c: d\n", "f.yaml:4:1: not YAML: mapping values are not allowed in this context"},
		{"key twice", "a: {b: 1, c: 2, b: 3}\n", `f.yaml:1:17: field "b" is given twice, first in line 1; keep one`},
		{"alias", "a: &x 1\nb: *x\n", "f.yaml:2:4: alias *x is not supported; write the value out"},
		{"merge key", "a: &x {}\nb:\n  <<: *x\n", "f.yaml:3:7: alias *x is not supported; write the value out"},
		{"a list as a key", "? [a]\n: b\n", "f.yaml:1:3: a field's name is a list, not text"},
		{"columns count letters, not bytes", "{ä: 1, ö: 2, ö: 3}\n", `f.yaml:1:14: field "ö" is given twice, first in line 1; keep one`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := Read("f.yaml", []byte(tt.text))
			if err := f.Err(); err == nil || err.Error() != tt.want {
				t.Errorf("%q:\n%v\nwant\n%s", tt.text, err, tt.want)
			}
		})
	}
}

// An alias is one mistake, not two.
func TestAliasIsReportedOnce(t *testing.T) {
	f, docs := Read("f.yaml", []byte("a: &x 1\nb: *x\n"))
	m, _ := docs[0].Root.Map()
	m.Get("a").Float()
	m.Get("b").Float()
	m.Close()
	if errs, ok := errors.AsType[Errors](f.Err()); !ok || len(errs) != 1 {
		t.Errorf("mistakes: %v, want one", f.Err())
	}
}

func TestFailAt(t *testing.T) {
	tests := []struct{ text, want string }{
		{"abc", "1:6"},                     // x: abc
		{"'abc'", "1:7"},                   // behind the quote
		{`"abc"`, "1:7"},                   //
		{`"a\tbc"`, "1:4"},                 // an escape: the file shows it otherwise
		{"'it''s'", "1:4"},                 //
		{"|\n  abc", "1:4"},                // a block
		{"äöü", "1:6"},                     // 2 letters are 4 bytes
		{strings.Repeat("a", 1000), "1:6"}, //
	}
	for _, tt := range tests {
		f, docs := Read("f", []byte("x: "+tt.text+"\n"))
		m, _ := docs[0].Root.Map()
		offset := 2
		if tt.text == "äöü" {
			offset = 4
		}
		m.Get("x").FailAt(offset, "wrong", "")
		if got := f.Err().Error(); got != "f:"+tt.want+": wrong" {
			t.Errorf("%s: %s, want %s", tt.text, got, tt.want)
		}
	}
}

func TestDocumentsKeepTheirText(t *testing.T) {
	const text = "# one\na: 1\n--- # two\nb: |\n  x\n  ---\n...\nc: 3\r\n---\r\n\n---\nd: 4"
	f, docs := Read("f.yaml", []byte(text))
	var got []string
	for _, d := range docs {
		got = append(got, string(d.Text))
	}
	want := []string{"# one\na: 1\n", "--- # two\nb: |\n  x\n  ---\n...\n", "c: 3\r\n", "---\nd: 4"}
	if f.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("documents %q, %v, want %q", got, f.Err(), want)
	}
	if line := docs[3].Root.Line(); line != 12 {
		t.Errorf("the last begins in line %d, want 12", line)
	}
}

func TestUnknownFields(t *testing.T) {
	f, docs := Read("f.yaml", []byte("b: 1\nsetp: 2\nlater: 3\nfalse: 4\n"))
	m, _ := docs[0].Root.Map()
	m.Get("step")
	m.Get("off")
	m.Refuse("later", "later is not built yet", "leave it out")
	m.Close()
	want := `f.yaml:1:1: unknown field "b"; known: step, off
f.yaml:2:1: unknown field "setp"; did you mean "step"? known: step, off
f.yaml:3:1: later is not built yet; leave it out
f.yaml:4:1: unknown field "false"; a YAML 1.1 program has read off as false; put the name in quotes: "off"`
	if got := f.Err().Error(); got != want {
		t.Errorf("mistakes\n%s\nwant\n%s", got, want)
	}
}

// FuzzRead wants no panic whatever is asked for, and a place in every mistake.
func FuzzRead(f *testing.F) {
	f.Add("a: {b: [1, 2%, 5m], c: 2026-12-24T18:00:00Z}\n---\n- x\n...\n")
	f.Add("a: &x [*x]\n<<: *x\n? [1]\n: 2\n!!binary x: !y z\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, docs := Read("f", []byte(text))
		var ask func(v Value)
		ask = func(v Value) {
			v.AnyText()
			v.Text()
			v.Bool()
			v.Int(0, 10)
			v.Duration()
			v.Time()
			v.Texts()
			v.Choice("a")
			if x, ok := v.Float(); ok && (math.IsNaN(x) || math.IsInf(x, 0)) {
				t.Fatalf("Float gave %v", x)
			}
			if x, ok := v.Fraction(); ok && !(x >= 0) {
				t.Fatalf("Fraction gave %v", x)
			}
			if v.Given() {
				v.FailAt(3, "x", "")
			}
			items, _ := v.Items()
			for _, item := range items {
				ask(item)
			}
			m, _ := v.Map()
			m.Get("a")
			m.Close()
			for _, e := range m.Entries() {
				ask(e)
			}
		}
		for _, d := range docs {
			d.Root.Any()
			ask(d.Root)
		}
		errs, _ := errors.AsType[Errors](file.Err())
		for _, e := range errs {
			if e.Line < 1 || e.Column < 1 || e.Reason == "" {
				t.Fatalf("mistake without a place: %+v", e)
			}
		}
	})
}
