package report

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A Message is one of the mistakes that have a code: what is wrong, what was tried or
// found, what to do. It is an error, so that it can be wrapped and found again.
type Message struct {
	Code   string `json:"code"`   // DW101 to DW113
	Exit   int    `json:"exit"`   // what a command that ends with it exits with
	Note   bool   `json:"note"`   // not an error: said beside an answer
	Title  string `json:"title"`  // one line
	Detail string `json:"detail"` // what was tried or found; lines
	Remedy string `json:"remedy"` // what to do; lines
}

// Error is the title with its code, for logs and wrapping.
func (m *Message) Error() string { return m.Code + ": " + printable(m.Title) }

// String is m as it is printed: one line that can be searched for, with the exit code in
// brackets, then detail and remedy indented.
func (m *Message) String() string {
	kind, exit := "error", strconv.Itoa(m.Exit)
	if m.Note {
		kind = "note "
	}
	if m.Code == "DW104" {
		exit = "0, 6 with --require-data"
	}
	var b strings.Builder
	b.WriteString(kind + " " + m.Code + " [" + exit + "]: " + printable(m.Title) + "\n")
	for _, s := range []string{m.Detail, m.Remedy} {
		for line := range strings.Lines(s) {
			if line = printable(strings.TrimSpace(line)); line != "" {
				b.WriteString("  " + line + "\n")
			}
		}
	}
	return b.String()
}

// address is a URL without the user and the password in it; what is no URL is left out.
func address(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the configured address"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

// Unreachable is DW101: Prometheus did not answer. detail is the last error and how often it
// was tried, without credentials.
func Unreachable(prometheus, detail string) *Message {
	return &Message{
		Code: "DW101", Exit: ExitCouldNot,
		Title:  "cannot reach Prometheus at " + address(prometheus),
		Detail: detail,
		Remedy: "set --prometheus or DRIFTWATCH_PROMETHEUS",
	}
}

// NoSuchMetric is DW102: no series of metric within lookback. where is file:line:column of
// the rule; didYouMean the nearest metric there is, with its number of series, or "".
func NoSuchMetric(metric, where string, lookback time.Duration, didYouMean string, series int) *Message {
	m := &Message{
		Code: "DW102", Exit: ExitUsage,
		Title:  fmt.Sprintf("no such metric %q", metric),
		Detail: fmt.Sprintf("%s; 0 series in the last %s", where, span(lookback)),
		Remedy: "check the name, the rule's select and the scrape job",
	}
	if didYouMean != "" {
		m.Remedy = fmt.Sprintf("did you mean %s (%d series)?", didYouMean, series)
	}
	return m
}

// TooFew is DW104: a comparison ("POST /v1/refunds p99") has not enough data. when is the
// zero time where it cannot be told.
func TooFew(comparison, of string, have, need float64, when time.Time) *Message {
	m := &Message{
		Code: "DW104", Exit: ExitNoRegression, Note: true,
		Title:  "too few " + of + " to judge " + comparison,
		Detail: fmt.Sprintf("%s of %s %s", count(Number(have)), count(Number(need)), of),
		Remedy: "wait, look at a wider window, or judge a lower quantile",
	}
	if !when.IsZero() {
		m.Remedy = "wait until about " + moment(when) + ", look at a wider window, or judge a lower quantile"
	}
	return m
}

// Mistakes is DW105: a rule or the configuration cannot be taken as it is. Each mistake is one
// line, file:line:column, reason and remedy.
func Mistakes(lines []string) *Message {
	m := &Message{Code: "DW105", Exit: ExitUsage, Title: lines[0], Remedy: "docs/rules.md has every field"}
	m.Detail = strings.Join(lines[1:], "\n")
	return m
}

// NoSuchFlag is DW106: the source has no such flag. where is file:line:column of the rule, ""
// where a person named the flag; found is what there is instead.
func NoSuchFlag(key, where, found string) *Message {
	m := &Message{
		Code: "DW106", Exit: ExitUsage,
		Title:  fmt.Sprintf("no flag %q", key),
		Detail: found,
		Remedy: "driftwatch flags list shows what there is",
	}
	if where != "" {
		m.Detail = where + "; " + m.Detail
	}
	return m
}

// FlagAlreadyOff is DW107: somebody turned it off before driftwatch would have. since is when
// its source was last changed; seen says how it was proved, or why not.
func FlagAlreadyOff(key string, since time.Time, revision, seen string) *Message {
	return &Message{
		Code: "DW107", Exit: ExitNoAction, Note: true,
		Title:  "flag " + key + " is already off",
		Detail: fmt.Sprintf("its source was last changed %s, revision %s; %s; nothing was written", moment(since), revision, seen),
		Remedy: "if the regression is still there, the flag is not what keeps it up: see the report",
	}
}

// ReadOnly is DW108: a regression is confirmed and its flag cannot be written.
func ReadOnly(key, source, why string) *Message {
	return &Message{
		Code: "DW108", Exit: ExitNoAction,
		Title:  "the flag source is read-only",
		Detail: source + ": " + why + "; regression confirmed, flag left ON",
		Remedy: "give driftwatch a writable source, or turn " + key + " off where it is kept",
	}
}

// RevisionConflict is DW109: the flag is not as it was when it was read. at is zero and by ""
// where they are not known.
func RevisionConflict(key, expected, found string, at time.Time, by string) *Message {
	var who []string
	if !at.IsZero() {
		who = append(who, moment(at))
	}
	if by != "" {
		who = append(who, "by "+by)
	}
	detail := fmt.Sprintf("expected revision %s, found %s", expected, found)
	if len(who) > 0 {
		detail += " (" + strings.Join(who, ", ") + ")"
	}
	return &Message{
		Code: "DW109", Exit: ExitNotVerified,
		Title:  "revision conflict on " + key,
		Detail: detail + "; nothing was overwritten",
		Remedy: fmt.Sprintf("read again and decide: driftwatch flags list; then driftwatch flags off %s --revision %s", Quote(key), Quote(found)),
	}
}

// ClocksDisagree is DW110.
func ClocksDisagree(here, prometheus time.Time) *Message {
	d := int(prometheus.Sub(here).Round(time.Second).Seconds())
	return &Message{
		Code: "DW110", Exit: ExitCouldNot,
		Title:  fmt.Sprintf("clocks disagree by %d s", max(d, -d)),
		Detail: fmt.Sprintf("this machine %s, Prometheus %s UTC; windows around an upgrade would be wrong", here.UTC().Format("15:04:05"), prometheus.UTC().Format("15:04:05")),
		Remedy: fmt.Sprintf("fix NTP, or state it: --clock-offset %ds (recorded in the report)", d),
	}
}

// NotAuthorised is DW111. detail is what the server said, or where the credential came from,
// never what it is; "" = nothing is known.
func NotAuthorised(status int, detail string) *Message {
	return &Message{
		Code: "DW111", Exit: ExitCouldNot,
		Title:  fmt.Sprintf("not authorised: Prometheus answered %d", status),
		Detail: detail,
		Remedy: "renew or set it under prometheus.http; read access to the query API is enough (403 instead of 401: wrong tenant?)",
	}
}

// TooLarge is DW112: Prometheus refused to answer so much. detail is what it said, signal the
// name of the signal, series how many it matched over the span (0 = not known).
func TooLarge(status int, detail, signal string, series int, over time.Duration) *Message {
	m := &Message{
		Code: "DW112", Exit: ExitCouldNot,
		Title:  fmt.Sprintf("query too large: Prometheus answered %d, %s", status, detail),
		Detail: fmt.Sprintf("signal %q", signal),
		Remedy: "raise Prometheus' sample limit, lower prometheus.max_samples, narrow the rule's select, or name fewer endpoint labels",
	}
	if series > 0 {
		m.Detail += fmt.Sprintf(" matched %s series over %s", count(Number(series)), span(over))
	}
	return m
}

// Untrusted is DW113: Prometheus answered, and the answer cannot be relied on: it carries
// warnings (a part of the data is missing), or it is cut short or not understood. what names
// the server or the metric.
func Untrusted(what string, reasons ...string) *Message {
	return &Message{
		Code: "DW113", Exit: ExitCouldNot,
		Title:  "the answer of Prometheus cannot be trusted: " + what,
		Detail: strings.Join(reasons, "\n"),
		Remedy: "look at the server's log and at the stores behind it, then check again",
	}
}

// moment is a day and a time, with the zone.
func moment(t time.Time) string { return t.UTC().Format("2 January 15:04 UTC") }
