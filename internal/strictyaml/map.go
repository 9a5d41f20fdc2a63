package strictyaml

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// A Map is a mapping whose fields are being asked for. What was asked for is known; Close
// reports the rest. A nil Map has no fields and reports nothing.
type Map struct {
	v       Value
	known   []string
	refused []string
	free    bool // any name is known
}

// Map returns v as a mapping.
func (v Value) Map() (*Map, bool) {
	if v.node == nil {
		return nil, false
	}
	if v.node.Kind != yaml.MappingNode {
		v.mistyped("a mapping", "")
		return nil, false
	}
	return &Map{v: v}, true
}

// Get returns the value of a field, and makes its name known.
func (m *Map) Get(name string) Value {
	if m == nil {
		return Value{}
	}
	if !slices.Contains(m.known, name) {
		m.known = append(m.known, name)
	}
	return m.find(name)
}

// Need is Get of a field that must be there; remedy says what to write.
func (m *Map) Need(name, remedy string) Value {
	v := m.Get(name)
	if m != nil && !v.Given() {
		m.v.f.fail(m.v.node, "", fmt.Sprintf("%s is missing", m.Label(name)), remedy)
	}
	return v
}

// Refuse records a mistake if a field is there that is understood and cannot be had, and
// reports whether it is. It does not make the name known.
func (m *Map) Refuse(name, reason, remedy string) bool {
	v := m.find(name)
	if !v.Given() {
		return false
	}
	v.FailKey(reason, remedy)
	m.refused = append(m.refused, name)
	return true
}

// Label is a field's name with that of the mapping before it: "windows.step".
func (m *Map) Label(name string) string {
	if m == nil || m.v.name == "" {
		return name
	}
	return m.v.name + "." + name
}

// Fail records a mistake at the beginning of the mapping.
func (m *Map) Fail(reason, remedy string) { m.v.f.fail(m.v.node, "", reason, remedy) }

// Entries returns all fields, for a mapping whose names are free. Their names are known.
func (m *Map) Entries() []Value {
	if m == nil {
		return nil
	}
	var out []Value
	for i := 0; i+1 < len(m.v.node.Content); i += 2 {
		if m.v.node.Content[i].Kind == yaml.ScalarNode {
			out = append(out, m.entry(i))
		}
	}
	m.free = true
	return out
}

// Key is the name of the field that v is the value of, "" in lists.
func (v Value) Key() string {
	if v.key == nil {
		return ""
	}
	return v.key.Value
}

// Close records every field that nobody asked for.
func (m *Map) Close() {
	if m == nil || m.free {
		return
	}
	for i := 0; i+1 < len(m.v.node.Content); i += 2 {
		key := m.v.node.Content[i]
		if key.Kind != yaml.ScalarNode || slices.Contains(m.known, key.Value) || slices.Contains(m.refused, key.Value) {
			continue
		}
		remedy := DidYouMean(key.Value, m.known)
		switch on := key.Value == "true"; {
		case key.ShortTag() != "!!bool":
		case on && slices.Contains(m.known, "on"):
			remedy = `a YAML 1.1 program has read on as true; put the name in quotes: "on"`
		case !on && slices.Contains(m.known, "off"):
			remedy = `a YAML 1.1 program has read off as false; put the name in quotes: "off"`
		}
		m.v.f.fail(key, key.Value, fmt.Sprintf("unknown field %q", key.Value), remedy)
	}
}

func (m *Map) find(name string) Value {
	if m == nil {
		return Value{}
	}
	for i := 0; i+1 < len(m.v.node.Content); i += 2 {
		if key := m.v.node.Content[i]; key.Kind == yaml.ScalarNode && key.Value == name {
			return m.entry(i)
		}
	}
	return Value{}
}

func (m *Map) entry(i int) Value {
	key := m.v.node.Content[i]
	return Value{f: m.v.f, node: m.v.node.Content[i+1], key: key, name: key.Value}
}
