// Package telemetry holds what was measured, and says nothing about what it means.
//
// Durations inside a value are float64 seconds, as in Prometheus; spans of time are
// half-open, (Start, End]. Nothing here reads a clock or a network.
package telemetry

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// A Window is a span of time, (Start, End].
type Window struct {
	Start, End time.Time
}

// Duration is the length of w.
func (w Window) Duration() time.Duration { return w.End.Sub(w.Start) }

// Overlaps reports whether w and v have an instant in common.
func (w Window) Overlaps(v Window) bool {
	return w.Start.Before(v.End) && v.Start.Before(w.End)
}

// An Upgrade is a service going from one version to another.
type Upgrade struct {
	Service string
	Started time.Time // the rollout began: first sight of the new version
	At      time.Time // the rollout was complete; step 0 begins here
	From    string    // version before, "" where unknown
	To      string    // version after, "" where unknown
	FoundBy string    // "flag" (told on the command line) or the metric that showed it
}

// A VersionSpan is an unbroken presence of one version on one target.
type VersionSpan struct {
	Target      string // job and instance, joined by a slash
	Version     string
	First, Last time.Time // first and last sample that showed it
	Gone        bool      // Prometheus marked its end: the target went away, or its version did
}

// A Grid cuts time into steps anchored at an upgrade: step k is
// (Origin + k*Step, Origin + (k+1)*Step]. It covers the Len steps from First on.
type Grid struct {
	Origin time.Time
	Step   time.Duration
	First  int
	Len    int
}

// Start is the excluded beginning of step k.
func (g Grid) Start(k int) time.Time { return g.Origin.Add(time.Duration(k) * g.Step) }

// End is the step after the last one of g.
func (g Grid) End() int { return g.First + g.Len }

// Window is the span of time that g covers.
func (g Grid) Window() Window { return Window{g.Start(g.First), g.Start(g.End())} }

// An Endpoint is the values of the rule's endpoint labels, in the rule's order. It is
// comparable, so it can key a map; a label that a series lacks has the value "".
type Endpoint string

// valueSeparator stands between the label values of an Endpoint. It is no valid UTF-8,
// so no label value holds it.
const valueSeparator = "\xff"

// NewEndpoint returns the endpoint with these label values.
func NewEndpoint(values ...string) Endpoint {
	return Endpoint(strings.Join(values, valueSeparator))
}

// Values are the label values of e, in the rule's order.
func (e Endpoint) Values() []string { return strings.Split(string(e), valueSeparator) }

// String is the label values of e joined by a space, for people.
func (e Endpoint) String() string { return strings.ReplaceAll(string(e), valueSeparator, " ") }

// MarshalJSON writes e as an array of its values.
func (e Endpoint) MarshalJSON() ([]byte, error) { return json.Marshal(e.Values()) }

// UnmarshalJSON reads an array of label values.
func (e *Endpoint) UnmarshalJSON(b []byte) error {
	var values []string
	if err := json.Unmarshal(b, &values); err != nil {
		return err
	}
	*e = NewEndpoint(values...)
	return nil
}

// A Metric is what is counted of a signal.
type Metric string

// The metrics. Tail and Body are requests slower than a bucket bound, near the signal's
// own quantile and near 0.8; Retry is events of a ratio; Level is a gauge.
const (
	Tail  Metric = "tail"
	Body  Metric = "body"
	Retry Metric = "retry"
	Level Metric = "level"
)

// Counts are the increments of one metric name, step by step, summed over everything but
// the endpoint labels (and le).
type Counts struct {
	Grid Grid
	Rows []CountRow // sorted by endpoint, each endpoint once
}

// A CountRow is one endpoint of Counts.
type CountRow struct {
	Endpoint Endpoint
	// Bounds are the upper bounds of a histogram, seconds, ascending, last +Inf; nil for
	// counters and gauges.
	Bounds []float64
	// Exponential says that Bounds are those of a native histogram with exponential buckets, of
	// which empty ones are left out.
	Exponential bool
	// Steps are shape (max(1, len(Bounds)), Grid.Len): increments of a counter, cumulative
	// over the bounds as in a Prometheus histogram, or the last value of a gauge within the
	// step. NaN where nothing trustworthy was measured; a step is missing for all bounds of a
	// row or for none.
	Steps [][]float64
	// Totals are the increments over the wider window that the read asked for, shape
	// (max(1, len(Bounds))); nil where none was asked for.
	Totals []float64
}

// Row returns the row of an endpoint, or nil.
func (c *Counts) Row(e Endpoint) *CountRow {
	i, ok := slices.BinarySearchFunc(c.Rows, e, func(r CountRow, e Endpoint) int {
		return strings.Compare(string(r.Endpoint), string(e))
	})
	if !ok {
		return nil
	}
	return &c.Rows[i]
}

// A Track is one metric of one endpoint, step by step: Events of Trials. Element i is step
// First + i of the upgrade's grid. NaN marks a missing step, in both slices alike. Level
// tracks hold the gauge in Events and have nil Trials.
type Track struct {
	Endpoint Endpoint `json:"endpoint"`
	Signal   int      `json:"signal"` // index of the rule's signal
	Metric   Metric   `json:"metric"`
	Bound    float64  `json:"bound"` // seconds; the bucket bound of tail and body, else 0
	First    int      `json:"first"`
	Events   Values   `json:"events"`
	Trials   Values   `json:"trials,omitempty"`

	// New: no endpoint had this counter before the rollout. That there were no events is then an
	// assumption: new instrumentation looks the same as the first events ever.
	New bool `json:"new,omitempty"`
}

// Slice is the part of t on the steps [from, to); steps that t does not cover are missing.
func (t Track) Slice(from, to int) Track {
	t.Events = t.Events.slice(t.First, from, to)
	if t.Trials != nil {
		t.Trials = t.Trials.slice(t.First, from, to)
	}
	t.First = from
	return t
}

// Values are numbers per step; NaN, written as null in JSON, is a missing step.
type Values []float64

func (v Values) slice(first, from, to int) Values {
	out := make(Values, max(0, to-from))
	for i := range out {
		if j := from + i - first; j >= 0 && j < len(v) {
			out[i] = v[j]
		} else {
			out[i] = math.NaN()
		}
	}
	return out
}

// MarshalJSON writes NaN as null. It fails on infinities, which no step can hold.
func (v Values) MarshalJSON() ([]byte, error) {
	out := make([]*float64, len(v))
	for i := range v {
		if !math.IsNaN(v[i]) {
			out[i] = &v[i]
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads null as NaN.
func (v *Values) UnmarshalJSON(b []byte) error {
	var in []*float64
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*v = make(Values, len(in))
	for i, x := range in {
		(*v)[i] = math.NaN()
		if x != nil {
			(*v)[i] = *x
		}
	}
	return nil
}
