// Package strictyaml reads YAML (and so JSON) for people who make mistakes: every value
// knows its line and column, nothing unknown, repeated or of another type passes, and all
// mistakes of a file are collected, not only the first. It does not know what the fields mean.
//
// Text is YAML 1.2: an unquoted on, off, yes or no is text, and only true and false are
// booleans. Anchors may stand, aliases and merge keys are refused: what a place says should
// be readable there.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A File collects the mistakes of one file while its values are read.
type File struct {
	path string
	errs Errors
}

// A Document is one of the documents of a file.
type Document struct {
	Root Value
	Text []byte // the document as it stands in the file, with its "---" line
}

// Read cuts text into documents, without the empty ones. A document that is no YAML is
// left out and is a mistake of the file. path stands in the messages only.
func Read(path string, text []byte) (*File, []Document) {
	f := &File{path: path}
	var docs []Document
	line := 0
	for _, part := range split(text) {
		if root := f.parse(part, line); root != nil {
			docs = append(docs, Document{Value{f: f, node: root}, part})
		}
		line += bytes.Count(part, []byte("\n"))
	}
	return f, docs
}

// Err returns the mistakes found so far as Errors, in the order of the text, or nil.
func (f *File) Err() error {
	if len(f.errs) == 0 {
		return nil
	}
	return f.errs.sorted()
}

// split cuts text at the lines that begin a document ("---") and behind those that end one
// ("..."). Both mean that wherever they stand at the beginning of a line, even in a block of
// text, so that no YAML need be understood here.
func split(text []byte) [][]byte {
	var parts [][]byte
	begin := 0
	for at := 0; at < len(text); {
		end := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		switch {
		case marks(text[at:end], "---") && at > begin:
			parts = append(parts, text[begin:at])
			begin = at
		case marks(text[at:end], "..."):
			parts = append(parts, text[begin:end])
			begin = end
		}
		at = end
	}
	if begin < len(text) {
		parts = append(parts, text[begin:])
	}
	return parts
}

func marks(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])))
}

// yamlLine finds the line in a message of the YAML parser.
var yamlLine = regexp.MustCompile(`^line (\d+): `)

// parserMistake begins the messages of yaml/v3 whose line counts from 0: those of its parser.
// Those of its scanner count from 1.
const parserMistake = "did not find expected"

// parse returns the root of the one document in part, or nil if it is empty or broken. line
// is the number of lines before it.
func (f *File) parse(part []byte, line int) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(part))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		f.broken(err, line)
		return nil
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		f.errs = append(f.errs, &Error{
			Path: f.path, Line: line + max(1, more.Line), Column: 1,
			Reason: "a document ends and another begins within this one", Remedy: `put "---" at the beginning of a line of its own`,
		})
		return nil
	}
	if len(doc.Content) != 1 || doc.Content[0].ShortTag() == "!!null" {
		return nil
	}
	root := doc.Content[0]
	shift(root, line)
	f.lint(root)
	return root
}

func (f *File) broken(err error, line int) {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	at := 1
	if m := yamlLine.FindStringSubmatch(reason); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			at = max(1, n)
		}
		reason = strings.TrimPrefix(reason, m[0])
		if strings.HasPrefix(reason, parserMistake) {
			at++
		}
	}
	f.errs = append(f.errs, &Error{Path: f.path, Line: line + at, Column: 1, Reason: "not YAML: " + reason, Err: err})
}

// shift moves a tree down by a number of lines.
func shift(n *yaml.Node, lines int) {
	n.Line += lines
	for _, c := range n.Content {
		shift(c, lines)
	}
}

// lint finds what is wrong wherever it stands: repeated keys (only the first is kept), keys
// that are no scalars, aliases.
func (f *File) lint(n *yaml.Node) {
	switch n.Kind {
	case yaml.AliasNode:
		f.fail(n, n.Value, fmt.Sprintf("alias *%s is not supported", n.Value), "write the value out")
		return
	case yaml.MappingNode:
		first := map[string]int{}
		kept := n.Content[:0:0]
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				f.fail(key, "", "a field's name is "+kind(key)+", not text", "")
				continue
			}
			if line, ok := first[key.Value]; ok {
				f.fail(key, key.Value, fmt.Sprintf("field %q is given twice, first in line %d", key.Value, line), "keep one")
				continue
			}
			first[key.Value] = key.Line
			kept = append(kept, key, n.Content[i+1])
		}
		n.Content = kept
	}
	for _, c := range n.Content {
		f.lint(c)
	}
}

func (f *File) fail(n *yaml.Node, text, reason, remedy string) {
	f.errs = append(f.errs, &Error{Path: f.path, Line: n.Line, Column: max(1, n.Column), Text: text, Reason: reason, Remedy: remedy})
}

// kind is what a node is, for messages.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!null":
		return "nothing"
	case "!!str", "!!timestamp":
		return "text"
	}
	return "of type " + n.ShortTag()
}
