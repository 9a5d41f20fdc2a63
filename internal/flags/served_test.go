package flags

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestServedIsTheFileBelowWithTheOverlayOnIt(t *testing.T) {
	base := strings.Replace(baseFile, `"metadata": {"flagSetId": "shop"},`, `"metadata": {"flagSetId": "shop"}, "$evaluators": {"gold": {"==": [{"var": "tier"}, "<gold>"]}},`, 1)
	o, _, overlay := overlaid(t, base, `{"flags":{}}`)
	served := func() string {
		t.Helper()
		s, err := o.Served([]byte(base), []byte(content(t, overlay)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := served(); got != base {
		t.Errorf("nothing is off: %s, want the file below", got)
	}
	rc, err := o.TurnOff(t.Context(), planOverlaid(t, o, "x", "u1/x"))
	if err != nil {
		t.Fatal(err)
	}
	off := served()
	// By hand: x is the overlay's, all else is from below, numbers as they are spelt there.
	var got, want map[string]any
	if err := errors.Join(json.Unmarshal([]byte(off), &got), json.Unmarshal([]byte(base), &want)); err != nil {
		t.Fatal(err)
	}
	want["flags"].(map[string]any)["x"] = map[string]any{
		"state": "ENABLED", "defaultVariant": "off", "variants": map[string]any{"on": 12345678901234567890.0, "off": 1.5},
		"metadata": map[string]any{"owner": "payments", "flagSetId": "shop", caseKey: "u1/x"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("served %v\nwant %v", got, want)
	}
	for _, spelt := range []string{"12345678901234567890", "1.50", "<gold>"} {
		if !strings.Contains(off, spelt) {
			t.Errorf("%s is not there as it is spelt below: %s", spelt, off)
		}
	}
	if _, err := o.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	if got := served(); got != base {
		t.Errorf("restored: %s, want the file below", got)
	}
}

func TestServedRefuses(t *testing.T) {
	o := NewFlagdOverlay("production", "base.json", "overlay.json")
	ours := `{"flags":{"x": {"state":"ENABLED","defaultVariant":"off","variants":{"off":false},"metadata":{"driftwatch.dev/case":"u1/x"}}}}`
	tests := []struct {
		name, base, overlay string
		want                error
	}{
		{"below: cut off", `{"flags": {`, `{"flags":{}}`, ErrInvalid},
		{"below: a default that is no variant", `{"flags": {"x": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "nope"}}}`, `{"flags":{}}`, ErrInvalid},
		{"below: a list, which has no overlay", `{"flags": [{"key": "x", "state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}]}`, ours, ErrInvalid},
		{"overlay: cut off", baseFile, `{"flags": {`, ErrInvalid},
		{"overlay: empty", baseFile, ``, ErrInvalid},
		{"overlay: no flags", baseFile, `{}`, ErrManagedElsewhere},
		{"overlay: somebody else's flag", baseFile, strings.Replace(ours, "driftwatch.dev/case", "owner", 1), ErrManagedElsewhere},
		{"overlay: a default that is no variant", baseFile, strings.Replace(ours, `"defaultVariant":"off"`, `"defaultVariant":"nope"`, 1), ErrInvalid},
	}
	for _, tt := range tests {
		if s, err := o.Served([]byte(tt.base), []byte(tt.overlay)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %q, %v; want %v", tt.name, s, err, tt.want)
		}
	}
}
