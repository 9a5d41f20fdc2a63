package flags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// A jsonNode is a value of a JSON text and where it stands.
type jsonNode struct {
	span
	value   any          // decoded: numbers as json.Number
	members []jsonMember // of an object, in order; value is nil for objects
	items   []*jsonNode  // of an array
	object  bool
	array   bool
}

type jsonMember struct {
	name string
	key  span
	*jsonNode
}

// parseJSON reads a JSON text with the place of every value. Unlike encoding/json it keeps
// members that are there twice.
func parseJSON(text []byte) (*jsonNode, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrInvalid)
	}
	var whole json.RawMessage // for its strictness, and its message
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	n, err := (&jsonReader{text, d}).value()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return n, nil
}

type jsonReader struct {
	text []byte
	*json.Decoder
}

// next is the start of the next token: InputOffset is the end of the last one, and only white
// space, commas and colons stand between two.
func (r *jsonReader) next() int {
	at := int(r.InputOffset())
	for at < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[at]) >= 0 {
		at++
	}
	return at
}

func (r *jsonReader) value() (*jsonNode, error) {
	n := &jsonNode{span: span{start: r.next()}}
	t, err := r.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		n.object = true
		for r.More() {
			key := span{start: r.next()}
			name, err := r.Token()
			if err != nil {
				return nil, err
			}
			key.end = int(r.InputOffset())
			v, err := r.value()
			if err != nil {
				return nil, err
			}
			n.members = append(n.members, jsonMember{name.(string), key, v})
		}
		_, err = r.Token()
	case json.Delim('['):
		n.array = true
		for r.More() {
			v, err := r.value()
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
		}
		_, err = r.Token()
	default:
		n.value = t
	}
	n.end = int(r.InputOffset())
	return n, err
}

// member returns the member of that name. It fails if there are two, or if one differs from
// the name only in case: encoding/json, which flagd reads with, takes either.
func (n *jsonNode) member(name string) (*jsonMember, error) {
	var found *jsonMember
	for i := range n.members {
		m := &n.members[i]
		if m.name != name && strings.EqualFold(m.name, name) {
			return nil, fmt.Errorf("%w: %q may be read as %q", ErrAmbiguousEdit, m.name, name)
		}
		if m.name != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: %q is there twice", ErrAmbiguousEdit, name)
		}
		found = m
	}
	return found, nil
}

// unique fails if an object at or below n has two members of one name, or holds a $ref where
// refs are not understood.
func (n *jsonNode) unique(refs bool) error {
	seen := map[string]bool{}
	for _, m := range n.members {
		if seen[m.name] {
			return fmt.Errorf("%w: %q is there twice", ErrAmbiguousEdit, m.name)
		}
		seen[m.name] = true
		if m.name == "$ref" && !refs {
			return fmt.Errorf("%w: a $ref outside of targeting", ErrAmbiguousEdit)
		}
		if err := m.unique(refs || m.name == "targeting"); err != nil {
			return err
		}
	}
	for _, v := range n.items {
		if err := v.unique(refs); err != nil {
			return err
		}
	}
	return nil
}

// find returns the value of the first member of that name at or below n, or nil.
func (n *jsonNode) find(name string) *jsonNode {
	for _, m := range n.members {
		if m.name == name {
			return m.jsonNode
		}
		if found := m.find(name); found != nil {
			return found
		}
	}
	for _, v := range n.items {
		if found := v.find(name); found != nil {
			return found
		}
	}
	return nil
}

// decode returns the value of n as encoding/json would, numbers as float64.
func (n *jsonNode) decode(text []byte) any {
	var v any
	if err := json.Unmarshal(text[n.start:n.end], &v); err != nil {
		return nil // parseJSON has read it
	}
	return v
}

// locateJSON finds one flag in a flagd JSON text. It fails with ErrInvalid or ErrAmbiguousEdit.
func locateJSON(text []byte, key string) (flagText, error) {
	root, err := parseJSON(text)
	if err != nil {
		return flagText{}, err
	}
	if !root.object {
		return flagText{}, fmt.Errorf("%w: not an object", ErrInvalid)
	}
	flags, err := root.member("flags")
	switch {
	case err != nil:
		return flagText{}, err
	case flags == nil:
		return flagText{}, fmt.Errorf("%w: no \"flags\"", ErrInvalid)
	case flags.array:
		return flagText{}, fmt.Errorf("%w: \"flags\" is a list; only the form by key can be edited", ErrAmbiguousEdit)
	case !flags.object:
		return flagText{}, fmt.Errorf("%w: \"flags\" is not an object", ErrInvalid)
	}

	var t flagText
	var flag *jsonMember
	for i, m := range flags.members {
		if m.name == "$ref" {
			return flagText{}, fmt.Errorf("%w: \"flags\" holds a $ref", ErrAmbiguousEdit)
		}
		t.keys = append(t.keys, m.name)
		if m.name != key {
			continue
		}
		if flag != nil {
			return flagText{}, fmt.Errorf("%w: the flag is there twice", ErrAmbiguousEdit)
		}
		flag = &flags.members[i]
	}
	if flag == nil {
		return t, nil
	}
	if !flag.object {
		return flagText{}, fmt.Errorf("%w: the flag is not an object", ErrInvalid)
	}
	if err := flag.unique(false); err != nil {
		return flagText{}, err
	}
	members := map[string]*jsonMember{}
	for _, name := range flagMembers {
		if members[name], err = flag.member(name); err != nil {
			return flagText{}, err
		}
	}
	t.present = true
	fields := map[string]any{}
	for name, m := range members {
		if m != nil {
			fields[name] = m.decode(text)
		}
	}
	if err := t.fill(fields); err != nil {
		return flagText{}, err
	}

	def, targeting := members["defaultVariant"], members["targeting"]
	t.setDefault = func(variant string) Patch {
		quoted := quoteJSON(variant)
		if def != nil {
			return Patch{splice(text, def.span, quoted)}
		}
		first := flag.members[0].key.start // variants at least are there
		return Patch{splice(text, span{first, first}, `"defaultVariant": `+quoted+", ")}
	}
	t.setState = func(state string) (Patch, error) {
		return Patch{splice(text, members["state"].span, quoteJSON(state))}, nil
	}
	if targeting != nil {
		t.setTargeting = func(value string) Patch { return Patch{splice(text, targeting.span, value)} }
		if ramp := targeting.find("fractional"); ramp != nil {
			t.ramp = ramp.decode(text)
			t.setRamp = func(value string) (Patch, error) { return Patch{splice(text, ramp.span, value)}, nil }
		}
	}
	return t, nil
}

// flagMembers are the members of a flag that are read.
var flagMembers = []string{"state", "variants", "defaultVariant", "targeting", "metadata"}

// fill takes the members of a flag, decoded, and checks their kinds.
func (t *flagText) fill(fields map[string]any) error {
	var ok bool
	if t.state, ok = fields["state"].(string); !ok {
		return fmt.Errorf("%w: no state", ErrInvalid)
	}
	if t.variants, ok = fields["variants"].(map[string]any); !ok || len(t.variants) == 0 {
		return fmt.Errorf("%w: no variants", ErrInvalid)
	}
	if t.defaultVariant, ok = fields["defaultVariant"].(string); !ok && fields["defaultVariant"] != nil {
		return fmt.Errorf("%w: defaultVariant is not a string", ErrInvalid)
	}
	t.targeting, t.noTargeting = fields["targeting"], "{}"
	t.metadata, _ = fields["metadata"].(map[string]any) // nothing is served by it
	return nil
}

// quoteJSON is s as a JSON string, without escaping more than it must.
func quoteJSON(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""` // strings can be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// equalJSON compares decoded values.
func equalJSON(a, b any) bool { return reflect.DeepEqual(a, b) }

// decodeJSON decodes a text for comparisons: numbers keep their digits.
func decodeJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// asJSON turns what yaml decodes into what encoding/json decodes.
func asJSON(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return out, nil
}
