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

// A crdFlag is what a flag of a resource shall serve.
type crdFlag struct {
	DefaultVariant string `json:"defaultVariant"`
	Targeting      any    `json:"targeting,omitempty"` // absent: there is none
}

// with is text with another default and targeting of a flag.
func (featureFlag) with(text []byte, key string, want crdFlag) (after []byte, had bool, err error) {
	spec, flags, err := flagsOf(text)
	if err != nil {
		return nil, false, err
	}
	flag, ok := flags[key].(map[string]any)
	if !ok {
		return nil, false, fmt.Errorf("%w: the flag is not an object", ErrInvalid)
	}
	_, had = flag["targeting"]
	flag["defaultVariant"] = want.DefaultVariant
	delete(flag, "targeting")
	if want.Targeting != nil {
		flag["targeting"] = want.Targeting
	}
	after, err = sortedJSON(spec)
	return after, had, err
}

func (f featureFlag) change(c Change, text []byte, t flagText) (Change, error) {
	_, flags, err := flagsOf(text)
	if err != nil {
		return c, err
	}
	flag, _ := flags[c.Ref.Key].(map[string]any)
	forward, inverse := crdFlag{DefaultVariant: c.Want.Variant}, crdFlag{t.defaultVariant, flag["targeting"]}
	after, _, err := f.with(text, c.Ref.Key, forward)
	if err != nil {
		return c, err
	}
	if c.After, err = f.revision(after, c.Ref.Key); err != nil {
		return c, err
	}
	if c.Forward, err = encodeJSON(forward); err != nil {
		return c, err
	}
	if c.Inverse, err = encodeJSON(inverse); err != nil {
		return c, err
	}
	c.Diff = diff(f.dialect().name, text, after)
	return c, f.dialect().check(c, text, after)
}

func (f featureFlag) edit(c Change, raw json.RawMessage, text []byte) ([]byte, []jsonOp, error) {
	var want crdFlag
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&want); err != nil || want.DefaultVariant == "" {
		return nil, nil, fmt.Errorf("%w: the change names no default variant", ErrInvalid)
	}
	after, had, err := f.with(text, c.Ref.Key, want)
	if err != nil {
		return nil, nil, err
	}
	flag := "/spec/flagSpec/flags/" + pointer(c.Ref.Key)
	p := []jsonOp{{"add", flag + "/defaultVariant", want.DefaultVariant}}
	switch {
	case want.Targeting != nil:
		p = append(p, jsonOp{"add", flag + "/targeting", want.Targeting})
	case had:
		p = append(p, jsonOp{Op: "remove", Path: flag + "/targeting"})
	}
	return after, p, nil
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

func (m configMap) change(c Change, text []byte, t flagText) (Change, error) {
	return editText(m.dialect(), c.Path, State{Ref: c.Ref, Raw: text}, c.Mode, c.Want, t.patch(c.Want.Variant))
}

func (m configMap) edit(_ Change, raw json.RawMessage, text []byte) ([]byte, []jsonOp, error) {
	p, err := patchOf(raw)
	if err != nil {
		return nil, nil, err
	}
	after, err := p.Apply(text)
	return after, []jsonOp{{"add", "/data/" + pointer(m.key), string(after)}}, err
}
