package report

import (
	"strconv"
	"strings"
)

// A Message is one of the mistakes that have a code: what is wrong, what was tried or
// found, what to do.
type Message struct {
	Code   string `json:"code"`   // DW101 to DW112
	Exit   int    `json:"exit"`   // what a command that ends with it exits with
	Note   bool   `json:"note"`   // not an error: said beside an answer
	Title  string `json:"title"`  // one line
	Detail string `json:"detail"` // lines
	Remedy string `json:"remedy"` // lines
}

// Error is the title with its code, for logs and wrapping.
func (m *Message) Error() string { return m.Code + ": " + m.Title }

// String is m as it is printed: one line that can be searched for, then detail and remedy
// indented.
func (m *Message) String() string {
	var b strings.Builder
	b.WriteString(m.heading() + "\n")
	for _, s := range []string{m.Detail, m.Remedy} {
		for line := range strings.Lines(s) {
			if line = printable(strings.TrimSpace(line)); line != "" {
				b.WriteString("  " + line + "\n")
			}
		}
	}
	return b.String()
}

// heading is the first line: greppable, with the exit code in brackets.
func (m *Message) heading() string {
	kind, exit := "error", strconv.Itoa(m.Exit)
	if m.Note {
		kind = "note "
	}
	if m.Code == "DW104" {
		exit = "0, 6 with --require-data"
	}
	return kind + " " + m.Code + " [" + exit + "]: " + printable(m.Title)
}
