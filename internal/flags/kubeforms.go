package flags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A featureFlag is a FeatureFlag resource, whose spec.flagSpec is what a flag file holds.
type featureFlag struct{}

func (featureFlag) kind() string { return "FeatureFlag" }

func (featureFlag) resource() (group, version, plural string) {
	return "core.openfeature.dev", "v1beta1", "featureflags"
}

func (featureFlag) dialect() flagdText { return flagdText{"flagSpec.json"} }

// text is the flags with sorted members, one a line, so that equal ones are equal texts.
func (featureFlag) text(o *kubeObject) ([]byte, error) {
	if len(o.Spec.FlagSpec) == 0 {
		return nil, fmt.Errorf("%w: the resource has no spec.flagSpec", ErrInvalid)
	}
	v, err := decodeJSON(o.Spec.FlagSpec)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return sortedJSON(v)
}

// sortedJSON is v with sorted members, one a line.
func sortedJSON(v any) ([]byte, error) {
	compact, err := encodeJSON(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return b.Bytes(), nil
}

// flagsOf decodes a text of flags, keeping the digits of numbers.
func flagsOf(text []byte) (spec any, flags map[string]any, err error) {
	if spec, err = decodeJSON(text); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m, _ := spec.(map[string]any)
	flags, ok := m["flags"].(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("%w: no \"flags\"", ErrInvalid)
	}
	return spec, flags, nil
}

// revision is that of the flag alone: others in the resource may be edited.
func (featureFlag) revision(text []byte, key string) (Revision, error) {
	_, flags, err := flagsOf(text)
	if err != nil {
		return "", err
	}
	flag, ok := flags[key]
	if !ok {
		return "", fmt.Errorf("%w: %s", ErrNotFound, missing(key, slices.Sorted(maps.Keys(flags))))
	}
	own, err := sortedJSON(flag)
	return revisionOf(own), err
}

// A flagFields is what a change may set of a flag.
type flagFields struct {
	State          any `json:"state"`
	DefaultVariant any `json:"defaultVariant"`
	Targeting      any `json:"targeting,omitempty"` // absent: there is none
}

// fields are those of a flag in text.
func (featureFlag) fields(text []byte, key string) (flagFields, error) {
	_, flags, err := flagsOf(text)
	if err != nil {
		return flagFields{}, err
	}
	f, ok := flags[key].(map[string]any)
	if !ok {
		return flagFields{}, fmt.Errorf("%w: the flag is not an object", ErrInvalid)
	}
	return flagFields{f["state"], f["defaultVariant"], f["targeting"]}, nil
}

// with is text with other fields of a flag, and the patch that sets those that differ.
func (featureFlag) with(text []byte, key string, want flagFields) (after []byte, p []jsonOp, err error) {
	spec, flags, err := flagsOf(text)
	if err != nil {
		return nil, nil, err
	}
	flag, ok := flags[key].(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("%w: the flag is not an object", ErrInvalid)
	}
	path := "/spec/flagSpec/flags/" + pointer(key) + "/"
	for _, f := range []struct {
		name  string
		value any
	}{{"state", want.State}, {"defaultVariant", want.DefaultVariant}, {"targeting", want.Targeting}} {
		old, had := flag[f.name]
		switch {
		case f.value == nil && had:
			p = append(p, jsonOp{Op: "remove", Path: path + f.name})
			delete(flag, f.name)
		case f.value != nil && !equalJSON(old, f.value):
			p = append(p, jsonOp{"add", path + f.name, f.value})
			flag[f.name] = f.value
		}
	}
	after, err = sortedJSON(spec)
	return after, p, err
}

// plan is that of the flags as a text, but that a targeting without rules is removed.
func (f featureFlag) plan(path string, s State, m Mode, w Want) (Change, error) {
	text := s.Raw
	c, err := planText(f.dialect(), path, s, m, w)
	if err != nil {
		return c, err
	}
	p, err := patchOf(c.Forward)
	if err != nil {
		return c, err
	}
	edited, err := p.Apply(text)
	if err != nil {
		return c, err
	}
	inverse, err := f.fields(text, s.Ref.Key)
	if err != nil {
		return c, err
	}
	forward, err := f.fields(edited, s.Ref.Key)
	if err != nil {
		return c, err
	}
	if m == OffVariant {
		forward.Targeting = nil
	}
	after, _, err := f.with(text, s.Ref.Key, forward)
	if err != nil {
		return c, err
	}
	if c.After, err = f.revision(after, s.Ref.Key); err != nil {
		return c, err
	}
	if c.Forward, err = encodeJSON(forward); err != nil {
		return c, err
	}
	if c.Inverse, err = encodeJSON(inverse); err != nil {
		return c, err
	}
	c.Base, c.Diff = s.Revision, diff(f.dialect().name, text, after)
	return c, f.dialect().check(c, text, after)
}

func (f featureFlag) edit(c Change, raw json.RawMessage, text []byte) ([]byte, []jsonOp, error) {
	var want flagFields
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&want); err != nil || want.DefaultVariant == nil || want.State == nil {
		return nil, nil, fmt.Errorf("%w: the change does not say what the flag shall be", ErrInvalid)
	}
	return f.with(text, c.Ref.Key, want)
}

// A configMap is a ConfigMap that holds the text of a flag file under key.
type configMap struct{ key string }

func (configMap) kind() string { return "ConfigMap" }

func (configMap) resource() (group, version, plural string) { return "", "v1", "configmaps" }

func (m configMap) dialect() flagdText { return flagdText{m.key} }

func (m configMap) text(o *kubeObject) ([]byte, error) {
	if text, ok := o.Data[m.key]; ok {
		return []byte(text), nil
	}
	if _, ok := o.BinaryData[m.key]; ok {
		return nil, fmt.Errorf("%w: %s is in binaryData of the ConfigMap; only a text in data can be edited", ErrInvalid, m.key)
	}
	return nil, fmt.Errorf("%w: the ConfigMap has no data.%s, only %s", ErrNotFound, m.key, strings.Join(slices.Sorted(maps.Keys(o.Data)), ", "))
}

func (configMap) revision(text []byte, _ string) (Revision, error) { return revisionOf(text), nil }

func (m configMap) plan(path string, s State, mode Mode, w Want) (Change, error) {
	return planText(m.dialect(), path, s, mode, w)
}

func (m configMap) edit(_ Change, raw json.RawMessage, text []byte) ([]byte, []jsonOp, error) {
	p, err := patchOf(raw)
	if err != nil {
		return nil, nil, err
	}
	after, err := p.Apply(text)
	return after, []jsonOp{{"add", "/data/" + pointer(m.key), string(after)}}, err
}
