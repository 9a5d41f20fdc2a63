package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Error is one mistake in a file.
type Error struct {
	Path   string
	Line   int    // from 1; 0 = the file as a whole
	Column int    // in characters, from 1; 1 where only the line is known
	Text   string // the offending text as it is in the file, "" where there is none to show
	Reason string // what is wrong
	Remedy string // what to do, "" where the reason says it all
	Err    error  // what it came from, may be nil
}

// Error is "path:line:column: reason; remedy".
func (e *Error) Error() string {
	s := e.Place() + ": " + e.Reason
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Place is "path:line:column", or the path alone where the file as a whole is wrong.
func (e *Error) Place() string {
	if e.Line == 0 {
		return e.Path
	}
	return fmt.Sprintf("%s:%d:%d", e.Path, e.Line, e.Column)
}

// Unwrap returns what e came from.
func (e *Error) Unwrap() error { return e.Err }

// Errors are all mistakes of one or several files, in the order of the text.
type Errors []*Error

// Error has one line per mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the mistakes, for errors.Is and errors.AsType.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// sorted returns e in the order of the text.
func (e Errors) sorted() Errors {
	return slices.SortedStableFunc(slices.Values(e), func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
