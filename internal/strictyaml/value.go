package strictyaml

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/driftwatch/driftwatch/internal/suggest"
)

// A Value is one value of a document, with its place. The zero Value is a field that is not
// there. Every method that returns a bool returns false if the value is absent, or is not
// what was asked for; the latter is recorded as a mistake of the file.
type Value struct {
	f    *File
	node *yaml.Node
	key  *yaml.Node // the key it stands behind, nil in lists
	name string     // for messages: the key, or the list's
}

// Given reports whether the value is there.
func (v Value) Given() bool { return v.node != nil }

// Line and Column are where v stands; 0, 0 if it is not there.
func (v Value) Line() int {
	if v.node == nil {
		return 0
	}
	return v.node.Line
}

// Column is the first character of v in its line, from 1; 0 if it is not there.
func (v Value) Column() int {
	if v.node == nil {
		return 0
	}
	return v.node.Column
}

// Source is a scalar as it stands in the file, without quotes; "" for anything else.
func (v Value) Source() string {
	if v.node == nil || v.node.Kind != yaml.ScalarNode {
		return ""
	}
	return v.node.Value
}

// Fail records a mistake at v. It panics if v is not there.
func (v Value) Fail(reason, remedy string) { v.f.fail(v.node, v.Source(), reason, remedy) }

// FailKey records a mistake at the name of v's field.
func (v Value) FailKey(reason, remedy string) {
	if v.key == nil {
		v.Fail(reason, remedy)
		return
	}
	v.f.fail(v.key, v.key.Value, reason, remedy)
}

// FailAt is Fail at the character with index offset (bytes) of the text, where the file
// shows it one to one; else at v.
func (v Value) FailAt(offset int, reason, remedy string) {
	n := *v.node
	quote, changed := 0, func(r rune) bool { return r == '\n' } // letters that the file shows otherwise
	switch {
	case n.Style&yaml.SingleQuotedStyle != 0:
		quote, changed = 1, func(r rune) bool { return r == '\n' || r == '\'' }
	case n.Style&yaml.DoubleQuotedStyle != 0: // JSON writes all but ASCII as \u
		quote, changed = 1, func(r rune) bool { return r == '"' || r == '\\' || r < ' ' || r > '~' }
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		offset = -1
	}
	if offset >= 0 && offset <= len(n.Value) && !strings.ContainsFunc(n.Value, changed) {
		n.Column += quote + utf8.RuneCountInString(n.Value[:offset])
	}
	v.f.fail(&n, v.Source(), reason, remedy)
}

// mistyped records that v is not what was asked for.
func (v Value) mistyped(want, remedy string) {
	if v.node.Kind == yaml.AliasNode {
		return // lint has said it
	}
	if kind(v.node) == "nothing" {
		v.Fail(v.subject()+" has no value", "give one, or leave the field out")
		return
	}
	reason := fmt.Sprintf("%s is %s, not %s", v.subject(), kind(v.node), want)
	if v.node.Kind == yaml.ScalarNode {
		reason = fmt.Sprintf("%s %s is %s, not %s", v.subject(), v.Shown(), kind(v.node), want)
	}
	v.Fail(reason, remedy)
}

func (v Value) subject() string {
	if v.name == "" {
		return "the document"
	}
	return v.name
}

// Shown is a scalar for messages: text in quotes, others bare, all cut at 80 characters.
func (v Value) Shown() string {
	s := v.Source()
	if r := []rune(s); len(r) > 80 {
		s = string(r[:79]) + "…"
	}
	if kind(v.node) == "text" {
		return strconv.Quote(s)
	}
	return s
}

// AnyText returns text, which may be empty. Numbers and booleans are no text: one person
// writes version 1.10 and another program reads 1.1.
func (v Value) AnyText() (string, bool) {
	if v.node == nil {
		return "", false
	}
	if v.node.Kind != yaml.ScalarNode || kind(v.node) != "text" {
		remedy := ""
		if k := kind(v.node); k == "a number" || k == "a boolean" {
			remedy = fmt.Sprintf("put it in quotes: %q", v.Source())
		}
		v.mistyped("text", remedy)
		return "", false
	}
	return v.node.Value, true
}

// Text returns text that is not empty.
func (v Value) Text() (string, bool) {
	s, ok := v.AnyText()
	if ok && strings.TrimSpace(s) == "" {
		v.Fail(v.subject()+" is empty", "give a value, or leave the field out")
		return "", false
	}
	return s, ok
}

// Choice returns text that is one of the words.
func (v Value) Choice(words ...string) (string, bool) {
	s, ok := v.Text()
	if ok && !slices.Contains(words, s) {
		v.Fail(fmt.Sprintf("%s %q is not one of %s", v.subject(), s, strings.Join(words, ", ")), DidYouMean(s, words))
		return "", false
	}
	return s, ok
}

// Bool returns a boolean, true or false.
func (v Value) Bool() (value, ok bool) {
	if v.node == nil {
		return false, false
	}
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!bool" || v.node.Decode(&value) != nil {
		v.mistyped("true or false", "write true or false, without quotes")
		return false, false
	}
	return value, true
}

// Float returns a finite number.
func (v Value) Float() (float64, bool) {
	if v.node == nil {
		return 0, false
	}
	var x float64
	if v.node.Kind != yaml.ScalarNode || kind(v.node) != "a number" || v.node.Decode(&x) != nil {
		v.mistyped("a number", "")
		return 0, false
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		v.Fail(fmt.Sprintf("%s %s is not a finite number", v.subject(), v.Shown()), "")
		return 0, false
	}
	return x, true
}

// Int returns a whole number between low and high; 2e7 is one, too.
func (v Value) Int(low, high int) (int, bool) {
	x, ok := v.Float()
	if !ok {
		return 0, false
	}
	if x != math.Trunc(x) || x < float64(low) || x > float64(high) {
		v.Fail(fmt.Sprintf("%s %s is not a whole number from %d to %d", v.subject(), v.Shown(), low, high), "")
		return 0, false
	}
	return int(x), true
}

// Duration returns a span of time as Prometheus writes it: 15s, 1m, 2h45m, 7d, 500ms, and 0.
// It is never negative.
func (v Value) Duration() (time.Duration, bool) {
	if v.node == nil {
		return 0, false
	}
	const remedy = "write it like 90s, 15m, 2h45m or 7d"
	if kind(v.node) == "a number" {
		var x float64
		if v.node.Decode(&x) == nil && x == 0 {
			return 0, true
		}
		v.Fail(fmt.Sprintf("%s %s has no unit", v.subject(), v.Shown()), fmt.Sprintf("write %ss if seconds are meant", v.Source()))
		return 0, false
	}
	if v.node.Kind != yaml.ScalarNode || kind(v.node) != "text" {
		v.mistyped("a duration", remedy)
		return 0, false
	}
	d, err := model.ParseDuration(v.node.Value)
	if err != nil {
		v.Fail(fmt.Sprintf("%s %s is not a duration", v.subject(), v.Shown()), remedy)
		return 0, false
	}
	return time.Duration(d), true
}

// Fraction returns 0.1 for 10% and for 0.1. A bare number of 1 or more is refused: whoever
// writes 10 means 10 %, not 1000 %.
func (v Value) Fraction() (float64, bool) {
	if v.node == nil {
		return 0, false
	}
	if v.node.Kind == yaml.ScalarNode && kind(v.node) == "text" {
		number, ok := strings.CutSuffix(v.node.Value, "%")
		x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if !ok || err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			v.Fail(fmt.Sprintf("%s %s is not a share", v.subject(), v.Shown()), "write it like 10% or 0.1")
			return 0, false
		}
		return v.notNegative(x / 100)
	}
	if kind(v.node) != "a number" {
		v.mistyped("a share", "write it like 10% or 0.1")
		return 0, false
	}
	x, ok := v.Float()
	if ok && x >= 1 {
		v.Fail(fmt.Sprintf("%s %s has no unit and would be %s %%", v.subject(), v.Shown(), format(x*100)),
			fmt.Sprintf("write %s%% or %s", format(x), format(x/100)))
		return 0, false
	}
	if !ok {
		return 0, false
	}
	return v.notNegative(x)
}

func (v Value) notNegative(x float64) (float64, bool) {
	if x < 0 {
		v.Fail(fmt.Sprintf("%s %s is negative", v.subject(), v.Shown()), "")
		return 0, false
	}
	return x, true
}

// Time returns an instant, RFC 3339 with its zone.
func (v Value) Time() (time.Time, bool) {
	s, ok := v.Text()
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		v.Fail(fmt.Sprintf("%s %q is not a time with its zone", v.subject(), s), "write it like 2026-12-24T18:00:00Z")
		return time.Time{}, false
	}
	return t, true
}

// Items returns the values of a list.
func (v Value) Items() ([]Value, bool) {
	if v.node == nil {
		return nil, false
	}
	if v.node.Kind != yaml.SequenceNode {
		v.mistyped("a list", "")
		return nil, false
	}
	items := make([]Value, len(v.node.Content))
	for i, n := range v.node.Content {
		items[i] = Value{f: v.f, node: n, name: v.name}
	}
	return items, true
}

// Texts returns a list of texts, none empty, none twice. An empty list is a mistake: it
// could mean all as well as none.
func (v Value) Texts() ([]string, bool) {
	items, ok := v.Items()
	if !ok {
		return nil, false
	}
	if len(items) == 0 {
		v.Fail(v.subject()+" is an empty list", "name at least one, or leave the field out")
		return nil, false
	}
	var out []string
	for _, item := range items {
		s, good := item.Text()
		switch {
		case !good:
			ok = false
		case slices.Contains(out, s):
			item.Fail(fmt.Sprintf("%s %q is given twice", v.subject(), s), "keep one")
			ok = false
		default:
			out = append(out, s)
		}
	}
	return out, ok
}

// Any returns what stands there as JSON would give it: map[string]any, []any, string, bool,
// float64, int64 or nil.
func (v Value) Any() (any, bool) {
	if v.node == nil {
		return nil, false
	}
	switch v.node.Kind {
	case yaml.MappingNode:
		m, ok := v.Map()
		out := map[string]any{}
		for _, e := range m.Entries() {
			x, good := e.Any()
			out[e.Key()] = x
			ok = ok && good
		}
		return out, ok
	case yaml.SequenceNode:
		items, ok := v.Items()
		out := make([]any, len(items))
		for i, item := range items {
			x, good := item.Any()
			out[i] = x
			ok = ok && good
		}
		return out, ok
	}
	switch kind(v.node) {
	case "nothing":
		return nil, true
	case "a boolean":
		b, ok := v.Bool()
		return b, ok
	case "a number":
		var i int64
		if v.node.ShortTag() == "!!int" && v.node.Decode(&i) == nil {
			return i, true
		}
		x, ok := v.Float()
		return x, ok
	}
	s, ok := v.AnyText()
	return s, ok
}

// DidYouMean is the remedy for a word that is none of the known ones: the nearest of them,
// where one is near, and all of them.
func DidYouMean(word string, known []string) string {
	list := "known: " + strings.Join(known, ", ")
	if c, ok := suggest.Closest(word, known); ok {
		return fmt.Sprintf("did you mean %q? %s", c, list)
	}
	return list
}

func format(x float64) string { return strconv.FormatFloat(x, 'g', 12, 64) }
