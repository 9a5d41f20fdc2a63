// Package query is the one door to Prometheus. It turns a rule and an upgrade into a Plan,
// reads the plan, and hands back exact increments per step and endpoint (telemetry.Counts).
//
// It knows how Prometheus stores and loses things: counter resets, stale markers, scrape
// gaps, series that are born in the middle, bucket bounds that are spelled differently. It
// refuses to know what a regression is. An answer that carries a warning is returned with
// it; whoever judges has to treat what the warning touched as not read.
//
// Two read paths give the same counts: streamed remote read, which hands over the raw
// samples, and PromQL, which hands over sums per step (promql.go says where they differ).
package query

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Kind is what a metric name holds, and so what one step of it is.
type Kind int

// The kinds. A step of a Counter or of Buckets is the increments in it; a step of a Gauge is
// the last value in it, the mean over the series of an endpoint.
const (
	Counter Kind = iota + 1
	Buckets
	Gauge
)

func (k Kind) String() string {
	switch k {
	case Counter:
		return "counter"
	case Buckets:
		return "buckets"
	case Gauge:
		return "gauge"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Part is which number of its signal a Read delivers.
type Part string

// The parts. Shape is bucket totals over Read.Totals, which bounds are chosen from and
// quantiles are computed from; Steps is the numbers per step; Of and Per are the two counters
// of a ratio.
const (
	ShapeBefore Part = "shape before"
	ShapeAfter  Part = "shape after"
	Steps       Part = "steps"
	Of          Part = "of"
	Per         Part = "per"
)

// A Read is one metric name on one grid.
type Read struct {
	Name   string // for progress and errors: "latency buckets"
	Signal int    // index of the rule's signal
	Part   Part
	Kind   Kind

	Metric   string // for Buckets the name with _bucket, for native ones the name alone
	Matchers []*labels.Matcher
	By       []string // the labels that make one endpoint, in the rule's order

	// Grid is what CountRow.Steps covers; Len 0 asks for no steps.
	Grid telemetry.Grid
	// Totals is what CountRow.Totals covers; the zero Window asks for none. Totals keep the
	// increments that lie in scrape gaps, which Steps leave out.
	Totals telemetry.Window
	// Until is the instant that the reader stands at: no later sample is looked at. The zero
	// Time means a little after the end of Grid and Totals, and leaves CompleteTo zero, too.
	Until time.Time

	// Native reads Buckets from native histograms, with exponential or custom buckets, instead
	// of from series per le.
	Native bool
	// Bounds are the upper bounds of Buckets that are wanted, seconds; +Inf is always read.
	// Nil asks for every bound that a row has throughout. Of exponential buckets those are the
	// edges of the ones that counted something; a bound is only delivered where it is an edge of
	// buckets at the coarsest schema that the row has.
	Bounds []float64
	// Keep are bounds, seconds, that rows of exponential buckets have although nothing was
	// counted around them. It is read where Bounds is nil.
	Keep []float64

	// AbsentIsZero makes a step 0 instead of missing when no series of an endpoint existed in
	// it while the targets that had some were scraped: a counter with labels does not exist
	// before its first event. It is set for the Of of a ratio.
	AbsentIsZero bool
}

// Selector is the series selector of r as PromQL.
func (r Read) Selector() string { return selector(r.Metric, r.matchers()) }

// matchers are those of r, with le narrowed to the wanted bounds.
func (r Read) matchers() []*labels.Matcher {
	if r.Kind != Buckets || r.Native || r.Bounds == nil {
		return r.Matchers
	}
	return append(slices.Clone(r.Matchers), leMatcher(r.Bounds))
}

// String is r as one line for people.
func (r Read) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s by (%s)", r.Name, r.Selector(), strings.Join(r.By, ", "))
	if r.Grid.Len > 0 {
		w := r.Grid.Window()
		fmt.Fprintf(&b, ", %d steps of %v, %s to %s", r.Grid.Len, r.Grid.Step, clock(w.Start), clock(w.End))
	}
	if r.Totals != (telemetry.Window{}) {
		fmt.Fprintf(&b, ", totals %s to %s", clock(r.Totals.Start), clock(r.Totals.End))
	}
	return b.String()
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// A Result is one Read, read.
type Result struct {
	Read    Read
	Counts  telemetry.Counts
	Series  int   // series that answered
	Samples int64 // samples (remote read) or points (PromQL) decoded
	Bytes   int64 // of the response bodies

	// Warnings are Prometheus' own; they void what they touched.
	Warnings []string
	// Notes say what was left out or is approximate; they void nothing.
	Notes []string
	// Dispersion is by how much the variance of a count exceeds a true count's: 1, or
	// step / (step - scrape interval) where only plain increase() is to be had.
	Dispersion float64
	Path       string // "remote-read", "query" or "query-plain"

	// CompleteTo is the instant up to which every live target has been heard; two scrape
	// intervals before Read.Until if that is later, or if none is live. Steps that end after it
	// are still growing. It is at most Read.Until; zero where that is.
	CompleteTo time.Time
	// ScrapeInterval is the usual distance of samples; 0 where fewer than two were seen.
	ScrapeInterval time.Duration
	// Labels are the label names of the series, sorted; for messages about a label that none has.
	Labels []string
}

// The reasons for which a read fails. Error wraps one of them.
var (
	ErrUnavailable  = errors.New("prometheus cannot be reached")
	ErrTooExpensive = errors.New("prometheus refused the query as too large")
	ErrUnauthorized = errors.New("prometheus refused the credentials")
	ErrBadQuery     = errors.New("prometheus refused the query")
	ErrTruncated    = errors.New("the answer of prometheus is cut short or damaged")
	ErrIncomplete   = errors.New("the answer of prometheus is incomplete")
	ErrUnsupported  = errors.New("prometheus answered in a form that is not understood")
)

// An Error is one request that failed.
type Error struct {
	Name   string           // of the Read, or what was asked
	Expr   string           // PromQL or selector
	Window telemetry.Window // zero where there is none
	Status int              // HTTP status, 0 where no answer came
	Detail string           // in the server's or the network's words
	Err    error            // wraps one of the Err values above
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Name)
	if e.Window != (telemetry.Window{}) {
		fmt.Fprintf(&b, " %s to %s", clock(e.Window.Start), clock(e.Window.End))
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (%d)", e.Status)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Expr != "" {
		b.WriteString(": " + e.Expr)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// ParseMatchers returns the matchers of PromQL texts such as `{service="pay"}`, all of them
// together. An empty text or "{}" has none. The error is the parser's.
func ParseMatchers(texts ...string) ([]*labels.Matcher, error) {
	var out []*labels.Matcher
	for _, text := range texts {
		if t := strings.Join(strings.Fields(text), ""); t == "" || t == "{}" {
			continue
		}
		ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
		if err != nil {
			return nil, fmt.Errorf("matchers %s: %w", text, err)
		}
		out = append(out, ms...)
	}
	return out, nil
}

// LargestRange returns the longest time that an expression looks back: ranges, subqueries
// and offsets, nested ones added up. An expression without any looks back 0.
func LargestRange(expr string) (time.Duration, error) {
	e, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(expr)
	if err != nil {
		return 0, fmt.Errorf("expression %s: %w", expr, err)
	}
	return reach(e), nil
}

func reach(n parser.Node) time.Duration {
	var own, below time.Duration
	switch n := n.(type) {
	case *parser.VectorSelector:
		own = max(0, n.OriginalOffset)
	case *parser.MatrixSelector:
		own = n.Range
	case *parser.SubqueryExpr:
		own = n.Range + max(0, n.OriginalOffset)
	}
	for c := range parser.ChildrenIter(n) {
		below = max(below, reach(c))
	}
	return own + below
}

func selector(metric string, ms []*labels.Matcher) string {
	parts := make([]string, len(ms))
	for i, m := range ms {
		parts[i] = m.String()
	}
	return metric + "{" + strings.Join(parts, ",") + "}"
}

// leMatcher matches the bounds and +Inf however their text is written: Prometheus 3 stores
// "1.0" where earlier versions stored "1".
func leMatcher(bounds []float64) *labels.Matcher {
	texts := []string{`\+Inf`}
	for _, b := range bounds {
		if math.IsInf(b, 1) {
			continue
		}
		short := strconv.FormatFloat(b, 'g', -1, 64)
		long := strconv.FormatFloat(b, 'f', -1, 64)
		for _, s := range []string{short, long, long + ".0"} {
			if s == long+".0" && strings.Contains(long, ".") {
				continue
			}
			if q := quoteRegexp(s); !slices.Contains(texts, q) {
				texts = append(texts, q)
			}
		}
	}
	return labels.MustNewMatcher(labels.MatchRegexp, "le", strings.Join(texts, "|"))
}

func quoteRegexp(s string) string {
	return strings.NewReplacer(".", `\.`, "+", `\+`).Replace(s)
}
