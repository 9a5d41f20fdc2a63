package query

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Plan is every bulk read of one check. Shapes come first: the bucket totals from which
// the bounds of the histogram reads in Steps are chosen (SetBounds).
type Plan struct {
	Shapes []Read
	Steps  []Read
}

// NewPlan returns the reads for the signals of r: steps on grid, bucket totals over before and
// after. An after of no length is not read. No sample later than until is looked at. It fails
// when the matchers of the rule do not parse.
func NewPlan(r *rule.Rule, grid telemetry.Grid, before, after telemetry.Window, until time.Time) (Plan, error) {
	var p Plan
	for i, s := range r.Signals {
		ms, err := ParseMatchers(r.Select, s.Select)
		if err != nil {
			return Plan{}, fmt.Errorf("signal %q: %w", s.Name, err)
		}
		read := Read{
			Signal: i, Metric: s.Metric, Matchers: ms, By: r.Endpoint, Grid: grid, Until: until,
		}
		switch s.Kind {
		case rule.Histogram:
			read.Name, read.Kind, read.Part, read.Metric = s.Name+" buckets", Buckets, Steps, s.Metric+"_bucket"
			p.Steps = append(p.Steps, read)
			read.Grid = telemetry.Grid{}
			read.Name, read.Part, read.Totals = s.Name+" buckets before", ShapeBefore, before
			p.Shapes = append(p.Shapes, read)
			if after.Duration() > 0 {
				read.Name, read.Part, read.Totals = s.Name+" buckets after", ShapeAfter, after
				p.Shapes = append(p.Shapes, read)
			}
		case rule.Ratio:
			read.Kind = Counter
			of, per := read, read
			of.Name, of.Part, of.AbsentIsZero = s.Name+" events", Of, true
			per.Name, per.Part, per.Metric = s.Name+" requests", Per, s.Per
			p.Steps = append(p.Steps, of, per)
		case rule.Gauge:
			read.Name, read.Kind, read.Part = s.Name, Gauge, Steps
			p.Steps = append(p.Steps, read)
		default:
			return Plan{}, fmt.Errorf("signal %q: unknown kind %q", s.Name, s.Kind)
		}
	}
	return p, nil
}

// SetBounds chooses the bucket bounds (seconds) that the histogram steps of a signal need.
func (p Plan) SetBounds(signal int, bounds []float64) {
	for i := range p.Steps {
		if p.Steps[i].Signal == signal && p.Steps[i].Kind == Buckets {
			p.Steps[i].Bounds = bounds
		}
	}
}

// EndpointMatchers select the series of these endpoints, whose labels have these names. With
// several labels the values are let through in every combination.
func EndpointMatchers(names []string, endpoints []telemetry.Endpoint) []*labels.Matcher {
	var out []*labels.Matcher
	for i, name := range names {
		var values []string
		for _, e := range endpoints {
			if v := e.Values()[i]; !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
		slices.Sort(values)
		if len(values) == 1 {
			out = append(out, labels.MustNewMatcher(labels.MatchEqual, name, values[0]))
			continue
		}
		for j, v := range values {
			values[j] = regexp.QuoteMeta(v)
		}
		out = append(out, labels.MustNewMatcher(labels.MatchRegexp, name, strings.Join(values, "|")))
	}
	return out
}

// SetNative reads a signal from native histograms, as Client.NativeHistograms found it.
func (p Plan) SetNative(signal int) {
	for _, reads := range [][]Read{p.Shapes, p.Steps} {
		for i := range reads {
			if r := &reads[i]; r.Signal == signal && r.Kind == Buckets && !r.Native {
				r.Native, r.Metric = true, strings.TrimSuffix(r.Metric, "_bucket")
			}
		}
	}
}

// KeepBounds has the histogram steps of a signal deliver these bounds (seconds) though nothing
// was counted around them.
func (p Plan) KeepBounds(signal int, bounds []float64) {
	for i := range p.Steps {
		if p.Steps[i].Signal == signal && p.Steps[i].Kind == Buckets {
			p.Steps[i].Keep = bounds
		}
	}
}

// String is the plan for people, one read per line.
func (p Plan) String() string {
	var b strings.Builder
	for _, r := range p.Shapes {
		b.WriteString(r.String() + "\n")
	}
	for _, r := range p.Steps {
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}
