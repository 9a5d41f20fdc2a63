package flags

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// locateYAML finds one flag in a flagd YAML text. It fails with ErrInvalid or ErrAmbiguousEdit.
func locateYAML(text []byte, key string) (flagText, error) {
	root, err := parseYAML(text)
	if err != nil {
		return flagText{}, err
	}
	flags, err := yamlMember(root, "flags", true)
	switch {
	case err != nil:
		return flagText{}, err
	case flags == nil:
		return flagText{}, fmt.Errorf("%w: no \"flags\"", ErrInvalid)
	case flags.value.Kind == yaml.SequenceNode:
		return flagText{}, fmt.Errorf("%w: \"flags\" is a list; only the form by key can be edited", ErrAmbiguousEdit)
	case flags.value.Kind == yaml.AliasNode:
		return flagText{}, fmt.Errorf("%w: \"flags\" is an alias", ErrAmbiguousEdit)
	case flags.value.Kind != yaml.MappingNode:
		return flagText{}, fmt.Errorf("%w: \"flags\" is not a mapping", ErrInvalid)
	}
	var t flagText
	for _, m := range yamlMembers(flags.value) {
		t.keys = append(t.keys, m.key.Value)
	}
	flag, err := yamlMember(flags.value, key, false)
	if err != nil || flag == nil {
		return t, err
	}
	if flag.value.Kind == yaml.MappingNode || flag.value.Kind == yaml.AliasNode {
		err = ownText(flag.value, false)
	} else {
		err = fmt.Errorf("%w: the flag is not a mapping", ErrInvalid)
	}
	if err != nil {
		return flagText{}, err
	}

	members := map[string]*yamlPair{}
	fields := map[string]any{}
	for _, name := range flagMembers {
		m, err := yamlMember(flag.value, name, true)
		if err != nil {
			return flagText{}, err
		}
		if m == nil {
			continue
		}
		members[name] = m
		if fields[name], err = decodeYAMLNode(m.value); err != nil {
			return flagText{}, err
		}
	}
	t.present = true
	if err := t.fill(fields); err != nil {
		return flagText{}, err
	}

	y := newYAMLText(text)
	set, err := y.setDefault(flag.value, members["defaultVariant"])
	if err != nil {
		return flagText{}, err
	}
	t.setDefault = set
	if t.targeted() {
		if t.setTargeting, err = y.setValue(members["targeting"], after(root, members["targeting"])); err != nil {
			return flagText{}, err
		}
		if ramp := findYAML(members["targeting"].value, "fractional"); ramp != nil {
			if t.ramp, err = decodeYAMLNode(ramp.value); err != nil {
				return flagText{}, err
			}
			t.setRamp = func(value string) (Patch, error) {
				set, err := y.setValue(ramp, after(root, ramp))
				if err != nil {
					return nil, err
				}
				return set(value), nil
			}
		}
	}
	t.setState = func(state string) (Patch, error) {
		set, err := y.setText(members["state"].value)
		if err != nil {
			return nil, err
		}
		return set(state), nil
	}
	return t, nil
}

// parseYAML reads the one document of a YAML text and returns its mapping. It refuses what
// makes lines and columns uncertain.
func parseYAML(text []byte) (*yaml.Node, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrInvalid)
	}
	for _, odd := range []string{"\ufeff", "\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(text, []byte(odd)) {
			return nil, fmt.Errorf("%w: the text holds %q, which YAML may take for a line break or a mark", ErrAmbiguousEdit, odd)
		}
	}
	if bytes.Count(text, []byte("\r")) != bytes.Count(text, []byte("\r\n")) {
		return nil, fmt.Errorf("%w: lines end in a lone carriage return", ErrAmbiguousEdit)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := d.Decode(&next); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return nil, fmt.Errorf("%w: more than one document", ErrAmbiguousEdit)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%w: not a mapping", ErrInvalid)
	}
	return doc.Content[0], nil
}

// A yamlPair is a member of a mapping.
type yamlPair struct{ key, value *yaml.Node }

func yamlMembers(n *yaml.Node) []yamlPair {
	var out []yamlPair
	for i := 0; i+1 < len(n.Content); i += 2 {
		out = append(out, yamlPair{n.Content[i], n.Content[i+1]})
	}
	return out
}

// yamlMember returns the member of that name of a mapping. It fails if there are two, or
// (fold) one that differs only in case, which flagd's JSON decoder takes for it, or if members
// are merged in from elsewhere.
func yamlMember(n *yaml.Node, name string, fold bool) (*yamlPair, error) {
	var found *yamlPair
	for _, m := range yamlMembers(n) {
		if m.key.Tag == "!!merge" {
			return nil, fmt.Errorf("%w: a merge key (<<) stands beside %q", ErrAmbiguousEdit, name)
		}
		if m.key.Value == "$ref" {
			return nil, fmt.Errorf("%w: a $ref stands beside %q", ErrAmbiguousEdit, name)
		}
		if m.key.Kind == yaml.AliasNode {
			return nil, fmt.Errorf("%w: a key beside %q is an alias", ErrAmbiguousEdit, name)
		}
		if m.key.Value != name && fold && strings.EqualFold(m.key.Value, name) {
			return nil, fmt.Errorf("%w: %q may be read as %q", ErrAmbiguousEdit, m.key.Value, name)
		}
		if m.key.Value != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: %q is there twice", ErrAmbiguousEdit, name)
		}
		found = &m
	}
	return found, nil
}

// ownText fails if n shares text with other places: anchors, aliases, merges, refs (refs in
// targeting are flagd's own, and go with it), or holds a key twice.
func ownText(n *yaml.Node, targeting bool) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return fmt.Errorf("%w: the flag uses the alias *%s", ErrAmbiguousEdit, n.Value)
	case n.Anchor != "":
		return fmt.Errorf("%w: the flag holds the anchor &%s", ErrAmbiguousEdit, n.Anchor)
	case n.Kind == yaml.MappingNode:
		seen := map[string]bool{}
		for _, m := range yamlMembers(n) {
			switch {
			case m.key.Tag == "!!merge":
				return fmt.Errorf("%w: the flag uses a merge key (<<)", ErrAmbiguousEdit)
			case seen[m.key.Value]:
				return fmt.Errorf("%w: %q is there twice", ErrAmbiguousEdit, m.key.Value)
			case m.key.Value == "$ref" && !targeting:
				return fmt.Errorf("%w: a $ref outside of targeting", ErrAmbiguousEdit)
			}
			seen[m.key.Value] = true
			if err := ownText(m.key, targeting); err != nil {
				return err
			}
			if err := ownText(m.value, targeting || m.key.Value == "targeting"); err != nil {
				return err
			}
		}
	default:
		for _, v := range n.Content {
			if err := ownText(v, targeting); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodeYAMLNode returns the value of n as flagd's way over JSON has it: numbers as float64.
func decodeYAMLNode(n *yaml.Node) (any, error) {
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return asJSON(v)
}

// after returns the first node that stands behind the value of member m of a flag, or nil.
// Flow mappings do not need it.
func after(root *yaml.Node, m *yamlPair) *yaml.Node {
	var next *yaml.Node
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n == m.value {
			return
		}
		if before(m.key, n) && n != m.key && (next == nil || before(n, next)) {
			next = n
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(root)
	return next
}

func before(a, b *yaml.Node) bool {
	return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
}

// A yamlText finds the bytes of nodes by line and column. Columns count runes.
type yamlText struct {
	text  []byte
	lines []int // offsets of the lines' first bytes
}

func newYAMLText(text []byte) *yamlText {
	y := &yamlText{text: text, lines: []int{0}}
	for i, c := range text {
		if c == '\n' {
			y.lines = append(y.lines, i+1)
		}
	}
	return y
}

// offset is the first byte of n, or of the end of its line if the column lies beyond it.
func (y *yamlText) offset(n *yaml.Node) int {
	at := y.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(y.text[at:])
		at += size
	}
	return min(at, len(y.text))
}

// lineStart is the offset of the line that holds at.
func (y *yamlText) lineStart(at int) int {
	return bytes.LastIndexByte(y.text[:at], '\n') + 1
}

// scalar is the bytes of a scalar that stands on one line, as written.
func (y *yamlText) scalar(n *yaml.Node) (span, error) {
	at := y.offset(n)
	rest := y.text[at:]
	switch {
	case n.Kind != yaml.ScalarNode:
	case n.Style == 0:
		if bytes.HasPrefix(rest, []byte(n.Value)) {
			return span{at, at + len(n.Value)}, nil
		}
	case n.Style == yaml.DoubleQuotedStyle || n.Style == yaml.SingleQuotedStyle:
		if end := quotedEnd(rest); end > 0 && bytes.IndexByte(rest[:end], '\n') < 0 {
			return span{at, at + end}, nil
		}
	}
	return span{}, fmt.Errorf("%w: line %d: %q is written in a way that is not edited", ErrAmbiguousEdit, n.Line, n.Value)
}

// quotedEnd is the length of the quoted scalar that s begins with, or 0.
func quotedEnd(s []byte) int {
	if len(s) == 0 || s[0] != '"' && s[0] != '\'' {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && s[0] == '"':
			i++
		case s[i] == s[0] && s[0] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == s[0]:
			return i + 1
		}
	}
	return 0
}

// colon is the offset behind the colon of a key that is written plainly, on the same line.
func (y *yamlText) colon(key *yaml.Node) (int, error) {
	s, err := y.scalar(key)
	if err != nil {
		return 0, err
	}
	at := s.end
	for at < len(y.text) && y.text[at] == ' ' {
		at++
	}
	if at == len(y.text) || y.text[at] != ':' {
		return 0, fmt.Errorf("%w: line %d: no colon behind %q", ErrAmbiguousEdit, key.Line, key.Value)
	}
	return at + 1, nil
}

// setDefault returns what writes a variant, quoted, as the default of a flag: in place of the
// value that is there, or before the flag's first member.
func (y *yamlText) setDefault(flag *yaml.Node, def *yamlPair) (func(string) Patch, error) {
	if def == nil {
		first := y.offset(flag.Content[0])
		if flag.Style&yaml.FlowStyle != 0 {
			return func(v string) Patch {
				return Patch{splice(y.text, span{first, first}, "defaultVariant: "+quoteJSON(v)+", ")}
			}, nil
		}
		indent := string(y.text[y.lineStart(first):first])
		if strings.Trim(indent, " ") != "" {
			return nil, fmt.Errorf("%w: line %d: the flag's first member does not begin its line", ErrAmbiguousEdit, flag.Content[0].Line)
		}
		return func(v string) Patch {
			return Patch{splice(y.text, span{first, first}, "defaultVariant: "+quoteJSON(v)+y.lineBreak()+indent)}
		}, nil
	}
	if def.value.Kind == yaml.ScalarNode && def.value.Tag == "!!null" && def.value.Value == "" {
		at, err := y.colon(def.key)
		return func(v string) Patch { return Patch{splice(y.text, span{at, at}, " "+quoteJSON(v))} }, err
	}
	return y.setText(def.value)
}

// setText returns what writes a text, quoted, in the place of a scalar.
func (y *yamlText) setText(old *yaml.Node) (func(string) Patch, error) {
	s, err := y.scalar(old)
	return func(v string) Patch {
		quoted := quoteJSON(v)
		if single := "'" + strings.ReplaceAll(v, "'", "''") + "'"; old.Style == yaml.SingleQuotedStyle && !strings.ContainsAny(v, "\n\r") {
			quoted = single
		}
		return Patch{splice(y.text, s, quoted)}
	}, err
}

// findYAML returns the first member of that name at or below n, or nil.
func findYAML(n *yaml.Node, name string) *yamlPair {
	if n.Kind == yaml.MappingNode {
		for _, m := range yamlMembers(n) {
			if m.key.Value == name {
				return &m
			}
		}
	}
	for _, c := range n.Content {
		if m := findYAML(c, name); m != nil {
			return m
		}
	}
	return nil
}

func (y *yamlText) lineBreak() string {
	if bytes.Contains(y.text, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// setValue returns what puts JSON in the place of the value of a member. next is the node that
// follows it, nil at the end of the text. Comments between the value and next stay.
func (y *yamlText) setValue(m *yamlPair, next *yaml.Node) (func(value string) Patch, error) {
	start := y.offset(m.value)
	if m.value.Style&yaml.FlowStyle != 0 {
		end := flowEnd(y.text, start)
		if end == 0 {
			return nil, fmt.Errorf("%w: line %d: the end of %q is not clear", ErrAmbiguousEdit, m.value.Line, m.key.Value)
		}
		return func(v string) Patch { return Patch{splice(y.text, span{start, end}, v)} }, nil
	}
	if m.value.Kind == yaml.ScalarNode {
		s, err := y.scalar(m.value)
		if err != nil {
			return nil, err
		}
		return func(v string) Patch { return Patch{splice(y.text, s, v)} }, nil
	}

	// A block: whole lines, the first of them below the key's.
	colon, err := y.colon(m.key)
	if err != nil {
		return nil, err
	}
	from := y.lineStart(start)
	if from <= colon {
		return nil, fmt.Errorf("%w: line %d: %q begins on the line of its key", ErrAmbiguousEdit, m.value.Line, m.key.Value)
	}
	end := len(y.text)
	if next != nil {
		end = y.lineStart(y.offset(next))
	}
	for end > from {
		line := y.lineStart(end - 1)
		if !blankOrComment(y.text[line:end]) {
			break
		}
		end = line
	}
	if end <= from {
		return nil, fmt.Errorf("%w: line %d: the end of %q is not clear", ErrAmbiguousEdit, m.value.Line, m.key.Value)
	}
	return func(v string) Patch {
		return Patch{splice(y.text, span{colon, colon}, " "+v), splice(y.text, span{from, end}, "")}
	}, nil
}

func blankOrComment(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	line = bytes.TrimRight(line, "\r\n")
	return len(line) == 0 || line[0] == '#'
}

// flowEnd is the offset behind the flow collection that begins at start, or 0. A quote opens a
// scalar only where one may begin, and # a comment only behind white space.
func flowEnd(text []byte, start int) int {
	depth := 0
	last := byte('{') // the last byte that was not white space
	for i := start; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		case (c == '"' || c == '\'') && strings.IndexByte("{[,:", last) >= 0:
			n := quotedEnd(text[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		case c == '#' && (text[i-1] == ' ' || text[i-1] == '\t' || text[i-1] == '\n'):
			n := bytes.IndexByte(text[i:], '\n')
			if n < 0 {
				return 0
			}
			i += n
			continue
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			last = c
		}
	}
	return 0
}
