package flags

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// baseFile is what others write: a flag set with an id, a ramp beside a rule for one person, and
// numbers that floats do not hold.
const baseFile = `{
  "metadata": {"flagSetId": "shop"},
  "flags": {
    "x": {"state": "ENABLED", "variants": {"on": 12345678901234567890, "off": 1.50}, "defaultVariant": "on",
      "targeting": {"if": [{"==": [{"var": "tier"}, "gold"]}, "on", {"fractional": [["on", 50], ["off", 50]]}]},
      "metadata": {"owner": "payments"}},
    "y": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
    "z": {"state": "DISABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}
  }
}
`

func overlaid(t *testing.T, base, overlay string) (o *FlagdOverlay, basePath, overlayPath string) {
	t.Helper()
	dir := t.TempDir()
	basePath, overlayPath = filepath.Join(dir, "base.json"), filepath.Join(dir, "overlay.json")
	write(t, basePath, base)
	write(t, overlayPath, overlay)
	return NewFlagdOverlay("production", basePath, overlayPath), basePath, overlayPath
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readOverlaid(t *testing.T, o *FlagdOverlay, key string) State {
	t.Helper()
	s, err := o.Read(t.Context(), Ref{"production", key})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func planOverlaid(t *testing.T, o *FlagdOverlay, key, by string) Change {
	t.Helper()
	c, err := o.Plan(readOverlaid(t, o, key), OffVariant, Want{Variant: "off"})
	if err != nil {
		t.Fatal(err)
	}
	c.Case = by
	return c
}

func TestOverlayTurnsOffAndBack(t *testing.T) {
	o, base, overlay := overlaid(t, baseFile, `{"flags":{}}`)
	before := readOverlaid(t, o, "x")
	if before.Word("off") != "on for some" || before.ReadOnly != "" || len(before.Probes) != 1 || before.Probes[0]["tier"] != "gold" {
		t.Errorf("before: %s, %+v", before.Word("off"), before)
	}
	cx, cy := planOverlaid(t, o, "x", "u1/x"), planOverlaid(t, o, "y", "u1/y")
	rx, err := o.TurnOff(t.Context(), cx)
	if err != nil {
		t.Fatal(err)
	}
	// By hand: the variants as they are spelt below, the metadata of the set and of the flag.
	want := `{"flags":{
  "x": {"state":"ENABLED","defaultVariant":"off","variants":{"on":12345678901234567890,"off":1.50},"metadata":{"driftwatch.dev/case":"u1/x","flagSetId":"shop","owner":"payments"}}
}}
`
	if got := content(t, overlay); got != want {
		t.Errorf("overlay\n%swant\n%s", got, want)
	}
	off := readOverlaid(t, o, "x")
	if off.Word("off") != "off" || off.Revision != rx.After || rx.Before != before.Revision || rx.Written.IsZero() || len(off.Probes) != 1 {
		t.Errorf("after: %s %+v, receipt %+v", off.Word("off"), off, rx)
	}
	if again, err := o.TurnOff(t.Context(), cx); err != nil || !again.Already || content(t, overlay) != want {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := o.TurnOff(t.Context(), cy); !errors.Is(err, ErrConflict) {
		t.Errorf("a change planned before another write: %v, want ErrConflict", err)
	}
	ry, err := o.TurnOff(t.Context(), planOverlaid(t, o, "y", "u1/y"))
	if err != nil {
		t.Fatal(err)
	}
	// Others go on writing the file below; that is no obstacle to the undo of either flag.
	write(t, base, strings.Replace(baseFile, `["on", 50]`, `["on", 60]`, 1))
	if s := readOverlaid(t, o, "x"); s.Word("off") != "off" {
		t.Errorf("the file below was rewritten: %s", s.Word("off"))
	}
	back, err := o.Restore(t.Context(), rx)
	if err != nil || !back.Restore || back.Already {
		t.Errorf("restore: %+v, %v", back, err)
	}
	if readOverlaid(t, o, "x").Word("off") != "on for some" || readOverlaid(t, o, "y").Word("off") != "off" {
		t.Errorf("the undo took more or less than its flag:\n%s", content(t, overlay))
	}
	if _, err := o.Restore(t.Context(), ry); err != nil || content(t, overlay) != "{\"flags\":{}}\n" {
		t.Errorf("both undone: %v\n%s", err, content(t, overlay))
	}
	if l := leftovers(t, overlay); len(l) != 1 || l[0] != "base.json" {
		t.Errorf("left over: %v", l)
	}
}

func TestOverlayIsRefused(t *testing.T) {
	tests := []struct {
		name, base, overlay string // overlay "" is none
		key                 string
		read, plan          error
		words               string
	}{
		{"missing overlay is never created", baseFile, "", "x", nil, ErrReadOnly, `create it with the text {"flags":{}}`},
		{"foreign flag", baseFile, `{"flags":{"theirs":{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a"}}}`, "x", ErrManagedElsewhere, nil, "the flag theirs"},
		{"foreign settings", baseFile, `{"flags":{},"metadata":{"flagSetId":"a"}}`, "x", ErrManagedElsewhere, nil, `"metadata"`},
		{"duplicate keys in it", baseFile, `{"flags":{},"flags":{}}`, "x", ErrAmbiguousEdit, nil, `"flags" is there twice`},
		{"not JSON", baseFile, "flags: {}\n", "x", ErrInvalid, nil, "driftwatch's alone"},
		{"empty", baseFile, " ", "x", ErrInvalid, nil, "driftwatch's alone"},
		{"no such flag", baseFile, `{"flags":{}}`, "w", ErrNotFound, nil, "it has 3 other flags"},
		{"disabled below", baseFile, `{"flags":{}}`, "z", nil, ErrInvalid, "no variant"},
		{"already off below", flagFile(`"x": {` + onOff + `, "defaultVariant": "off"}`), `{"flags":{}}`, "x", nil, ErrAlreadyOff, "revision"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, _, path := overlaid(t, tt.base, tt.overlay)
			if tt.overlay == "" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			s, err := o.Read(t.Context(), Ref{"production", tt.key})
			if !errors.Is(err, tt.read) {
				t.Fatalf("read: %v, want %v", err, tt.read)
			}
			if err == nil {
				_, err = o.Plan(s, OffVariant, Want{Variant: "off"})
				if !errors.Is(err, tt.plan) {
					t.Fatalf("plan: %v, want %v", err, tt.plan)
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v, want %q", err, tt.words)
			}
			if tt.overlay != "" {
				if content(t, path) != tt.overlay {
					t.Error("the overlay was changed")
				}
			} else if _, err := os.Stat(path); err == nil || s.ReadOnly == "" {
				t.Errorf("read-only %q, overlay made: %v", s.ReadOnly, err == nil)
			}
		})
	}
}

func TestOverlayGoneBetweenPlanAndWrite(t *testing.T) {
	o, _, path := overlaid(t, baseFile, `{"flags":{}}`)
	c := planOverlaid(t, o, "x", "u1/x")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := o.TurnOff(t.Context(), c); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "create it") {
		t.Errorf("turn off: %v, want ErrReadOnly with the remedy", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the overlay was created")
	}
}

// The variants in a plan are those of the file below as it was read.
func TestOverlayConflictBelow(t *testing.T) {
	o, base, path := overlaid(t, baseFile, `{"flags":{}}`)
	c := planOverlaid(t, o, "x", "u1/x")
	write(t, base, strings.Replace(baseFile, "1.50", "1.75", 1))
	if _, err := o.TurnOff(t.Context(), c); !errors.Is(err, ErrConflict) || content(t, path) != `{"flags":{}}` {
		t.Errorf("turn off: %v\n%s", err, content(t, path))
	}
}

func TestOverlayRestoreKeepsAnotherActionsWrite(t *testing.T) {
	o, _, path := overlaid(t, baseFile, `{"flags":{}}`)
	rc, err := o.TurnOff(t.Context(), planOverlaid(t, o, "x", "u1/x"))
	if err != nil {
		t.Fatal(err)
	}
	theirs := strings.Replace(content(t, path), "u1/x", "u2/x", 1)
	write(t, path, theirs)
	if _, err := o.Restore(t.Context(), rc); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "u2/x") || content(t, path) != theirs {
		t.Errorf("restore: %v\n%s", err, content(t, path))
	}
}

func TestOverlaySettles(t *testing.T) {
	o, base, path := overlaid(t, baseFile, `{"flags":{}}`)
	c := planOverlaid(t, o, "x", "u1/x")
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var journaled Change
	if err := json.Unmarshal(body, &journaled); err != nil {
		t.Fatal(err)
	}
	fate := func(restore bool, want Fate) Settlement {
		t.Helper()
		s, err := o.Settle(t.Context(), journaled, restore)
		if err != nil || s.Fate != want {
			t.Errorf("settled as %q, %v; want %q", s.Fate, err, want)
		}
		return s
	}
	fate(false, Untouched)
	write(t, base, baseFile+"\n") // others' writes below say nothing
	fate(false, Untouched)
	write(t, base, baseFile)
	if _, err := o.TurnOff(t.Context(), journaled); err != nil {
		t.Fatal(err)
	}
	s := fate(false, Written)
	fate(true, Untouched)
	if _, err := o.Restore(t.Context(), s.Receipt); err != nil { // the receipt of a settlement can be taken back
		t.Fatal(err)
	}
	fate(true, Written)
	write(t, path, "{\"flags\":{} }")
	fate(false, Foreign)
}

// flagd's own watch, store and evaluator over the two files: the flip, edits of the file below
// while it lasts, and the undo.
func TestProveOverlay(t *testing.T) {
	t.Parallel()
	o, base, path := overlaid(t, strings.Replace(strings.Replace(baseFile, "12345678901234567890", "true", 1), "1.50", "false", 1), `{"flags":{}}`)
	p := NewFileProver(base, path)
	if e, err := p.Prove(t.Context(), question("x"), time.Millisecond); !errors.Is(err, ErrUnproven) {
		t.Errorf("before: %+v, %v", e, err)
	}
	s, err := p.Served(t.Context(), question("x"))
	if err != nil || s.Suspect == 0 {
		t.Errorf("before: served %+v, %v", s, err)
	}
	type result struct {
		e   Evidence
		err error
	}
	proved := make(chan result, 1)
	go func() {
		e, err := p.Prove(t.Context(), question("x"), time.Minute)
		proved <- result{e, err}
	}()
	rc, err := o.TurnOff(t.Context(), planOverlaid(t, o, "x", "u1/x"))
	if err != nil {
		t.Fatal(err)
	}
	if r := <-proved; r.err != nil || r.e.Viewpoint.Address != base+", "+path {
		t.Errorf("%+v, %v", r.e, r.err)
	}
	write(t, base, strings.Replace(content(t, base), "50", "60", 1))
	if e, err := p.Prove(t.Context(), question("x"), time.Minute); err != nil {
		t.Errorf("while others write below: %+v, %v", e, err)
	}
	view, err := openMerged(t.Context(), base, path)
	if err != nil {
		t.Fatal(err)
	}
	defer view.close()
	if _, err := o.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	gold := map[string]any{"targetingKey": "u", "tier": "gold"}
	for range 6000 {
		if view.BooleanEvaluation(t.Context(), "x", false, gold).Value {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a flagd that watched both files never saw the undo")
}

func TestOverlayShadowedByALaterSource(t *testing.T) {
	t.Parallel()
	o, base, path := overlaid(t, flagFile(`"x": {`+onOff+`, "defaultVariant": "on"}`), `{"flags":{}}`)
	late := filepath.Join(filepath.Dir(base), "late.yaml")
	write(t, late, "flags:\n  x: {state: ENABLED, variants: {on: true, off: false}, defaultVariant: \"on\"}\n")
	if _, err := o.TurnOff(t.Context(), planOverlaid(t, o, "x", "u1/x")); err != nil {
		t.Fatal(err)
	}
	if e, err := NewFileProver(base, path).Prove(t.Context(), question("x"), time.Minute); err != nil {
		t.Errorf("without the later source: %+v, %v", e, err)
	}
	e, err := NewFileProver(base, path, late).Prove(t.Context(), question("x"), time.Millisecond)
	if !errors.Is(err, ErrUnproven) || !strings.Contains(err.Error(), `variant "on"`) {
		t.Errorf("with it: %+v, %v; want ErrUnproven", e, err)
	}
}
