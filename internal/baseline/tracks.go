package baseline

import (
	"math"
	"slices"
	"strings"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

const (
	// bodyExceedance is what the body metric watches: the share of requests beyond its bound.
	// A whole shift by 25 % is found there in 95 % of upgrades, in the tail in 29 %.
	bodyExceedance = 0.2
	// boundFactor is how far, as a ratio, a bound's exceedance may lie from the wanted one.
	// For the 0.99-quantile that is 0.2 % to 5 %: rarer, and there are no events to count;
	// more, and the tail metric no longer sees the tail.
	boundFactor = 5
	// mostExceedance is the largest exceedance of a usable bound. Where nearly every request
	// is beyond it, a slower service cannot add any.
	mostExceedance = 0.8
)

// Bounds are the bucket bounds, seconds, that the metrics of one endpoint count beyond. They
// are chosen from history and stay what they are for the whole upgrade. 0 means none.
type Bounds struct {
	Tail, Body float64
}

// ChooseBounds picks the bounds that tail and body count beyond, from the totals of a
// histogram's history: the finite positive bounds whose exceedances are nearest, in log
// distance, to 1 - quantile and to 20 %. A bound must be within a factor 5 of what is wanted
// and have at most 80 % beyond it; 0 means that there is none. Of two equally near, the lower
// is taken. Tail and body are never the same bound: counting it twice would only cost a
// Bonferroni factor, so tail keeps it, because its quantile is what the rule asked for.
func ChooseBounds(row telemetry.CountRow, quantile float64) (tail, body float64) {
	tail = nearestBound(row, 1-quantile)
	if body = nearestBound(row, bodyExceedance); body == tail {
		body = 0
	}
	return tail, body
}

func nearestBound(row telemetry.CountRow, want float64) float64 {
	if len(row.Totals) != len(row.Bounds) || len(row.Bounds) == 0 {
		return 0
	}
	n := row.Totals[len(row.Totals)-1]
	best, bestDistance := 0.0, math.Log(boundFactor)+1e-9 // a factor of just 5 is within
	for i, bound := range row.Bounds {
		share := (n - row.Totals[i]) / n
		if bound <= 0 || math.IsInf(bound, 1) || !(share > 0) || share > mostExceedance {
			continue
		}
		if d := math.Abs(math.Log(share / want)); best == 0 && d <= bestDistance || d < bestDistance {
			best, bestDistance = bound, d
		}
	}
	return best
}

// A Lack is one metric of one endpoint that there is a series of but no track.
type Lack struct {
	Endpoint telemetry.Endpoint
	Signal   int
	Metric   telemetry.Metric
	Of       string // "buckets": no usable bound; "history": no bound was chosen, it is new; "requests": events without trials
}

// Tracks puts together what was read of signal s, the rule's signal number signal: one track
// per endpoint and metric, by endpoint and then tail before body. An endpoint of which
// nothing was ever measured has none; one that has series but cannot be counted is a Lack.
//
// of are the reads of s.Metric, per those of s.Per (ratios only). Reads of one metric are
// joined: where several cover a step, the last one in the slice tells it. They must share
// origin and step, else Tracks panics. bounds are those chosen for the endpoints of a
// histogram; a read whose layout lacks the bound has no data in its steps. rollout is the step
// in which the new version was first seen (Geometry.RolloutStep).
//
//   - Histogram: events are the requests beyond the bound, trials all requests.
//   - Ratio: trials are per, and a step without per is missing. Where per is measured and the
//     read has no such endpoint in of, or has it but no value up to this step, there were no
//     events: a labelled counter comes into being with its first event. This holds from the
//     first step on in which any endpoint has of; whether anything was counted before is not
//     known, so those steps are missing. Where no endpoint had of before the rollout, either the
//     first events ever came with it or the counting did: there were no events then, and the
//     tracks are New. Where none has it at all, the metric may be misspelt, and there is no
//     track. A value missing after the first one is missing.
//   - Gauge: events are the level; what is not above 0 is missing.
func Tracks(signal int, s rule.Signal, bounds map[telemetry.Endpoint]Bounds, of, per []*telemetry.Counts, rollout int) ([]telemetry.Track, []Lack) {
	reads := of
	if s.Kind == rule.Ratio {
		reads = slices.Concat(of, per)
	}
	first, length := extent(reads)
	j := joiner{first, length}
	var tracks []telemetry.Track
	var lacks []Lack
	add := func(t telemetry.Track) {
		if slices.ContainsFunc(t.Events, func(v float64) bool { return !math.IsNaN(v) }) {
			t.Signal, t.First = signal, first
			tracks = append(tracks, t)
		}
	}
	counted := j.counted(of)
	exists, fresh := counted < length, first+counted >= rollout
	if fresh {
		counted = 0
	}
	for _, e := range endpoints(reads) {
		switch s.Kind {
		case rule.Histogram:
			b, known := bounds[e]
			reason := "buckets"
			if !known {
				reason = "history"
			}
			n := j.join(of, e, lastRow)
			for _, m := range []struct {
				metric telemetry.Metric
				bound  float64
			}{{telemetry.Tail, b.Tail}, {telemetry.Body, b.Body}} {
				if m.bound == 0 {
					lacks = append(lacks, Lack{Endpoint: e, Signal: signal, Metric: m.metric, Of: reason})
					continue
				}
				k := j.join(of, e, func(r *telemetry.CountRow) []float64 { return atBound(r, m.bound) })
				trials := slices.Clone(n)
				for i := range k {
					k[i] = max(n[i]-k[i], 0) // NaN stays NaN
					if math.IsNaN(k[i]) {
						trials[i] = math.NaN()
					}
				}
				add(telemetry.Track{Endpoint: e, Metric: m.metric, Bound: m.bound, Events: k, Trials: trials})
			}
		case rule.Ratio:
			if !has(per, e) {
				lacks = append(lacks, Lack{Endpoint: e, Signal: signal, Metric: telemetry.Retry, Of: "requests"})
				continue
			}
			if !exists {
				continue
			}
			k, n := j.events(of, e, counted), j.join(per, e, lastRow)
			for i := range k {
				if math.IsNaN(k[i]) || math.IsNaN(n[i]) {
					k[i], n[i] = math.NaN(), math.NaN()
				}
			}
			add(telemetry.Track{Endpoint: e, Metric: telemetry.Retry, Events: k, Trials: n, New: fresh})
		case rule.Gauge:
			v := j.join(of, e, lastRow)
			for i := range v {
				if !(v[i] > 0) || math.IsInf(v[i], 1) {
					v[i] = math.NaN()
				}
			}
			add(telemetry.Track{Endpoint: e, Metric: telemetry.Level, Events: v})
		}
	}
	return tracks, lacks
}

// lastRow are all requests of a histogram, the values of anything else.
func lastRow(r *telemetry.CountRow) []float64 { return r.Steps[len(r.Steps)-1] }

// atBound are the requests at most as slow as bound, nil if the layout lacks it.
func atBound(r *telemetry.CountRow, bound float64) []float64 {
	if i, ok := slices.BinarySearch(r.Bounds, bound); ok {
		return r.Steps[i]
	}
	return nil
}

// extent is the first step that any of reads covers, and how many steps there are from it on.
func extent(reads []*telemetry.Counts) (first, length int) {
	end := 0
	for i, c := range reads {
		if !c.Grid.Origin.Equal(reads[0].Grid.Origin) || c.Grid.Step != reads[0].Grid.Step {
			panic("baseline: reads on different grids")
		}
		if i == 0 {
			first, end = c.Grid.First, c.Grid.End()
			continue
		}
		first, end = min(first, c.Grid.First), max(end, c.Grid.End())
	}
	return first, end - first
}

// endpoints are those of all reads, each once, in order.
func endpoints(reads []*telemetry.Counts) []telemetry.Endpoint {
	var all []telemetry.Endpoint
	for _, c := range reads {
		for i := range c.Rows {
			all = append(all, c.Rows[i].Endpoint)
		}
	}
	slices.SortFunc(all, func(a, b telemetry.Endpoint) int { return strings.Compare(string(a), string(b)) })
	return slices.Compact(all)
}

func has(reads []*telemetry.Counts, e telemetry.Endpoint) bool {
	return slices.ContainsFunc(reads, func(c *telemetry.Counts) bool { return c.Row(e) != nil })
}

// A joiner lays reads over each other on the steps [first, first+length).
type joiner struct {
	first, length int
}

// join returns what pick finds in the rows of e, the last read that covers a step telling it;
// NaN where that read has no such row or pick finds nothing in it.
func (j joiner) join(reads []*telemetry.Counts, e telemetry.Endpoint, pick func(*telemetry.CountRow) []float64) telemetry.Values {
	return j.lay(reads, e, pick, math.NaN())
}

// lay is join with another value for the steps of reads that have no row of e.
func (j joiner) lay(reads []*telemetry.Counts, e telemetry.Endpoint, pick func(*telemetry.CountRow) []float64, absent float64) telemetry.Values {
	out := fill(make(telemetry.Values, j.length), math.NaN())
	for _, c := range reads {
		part := out[c.Grid.First-j.first:][:c.Grid.Len]
		row := c.Row(e)
		if row == nil {
			fill(part, absent)
			continue
		}
		if v := pick(row); v != nil {
			copy(part, v)
		} else {
			fill(part, math.NaN())
		}
	}
	return out
}

// counted is the place of the first step in which any endpoint has a value; the length if none has.
func (j joiner) counted(reads []*telemetry.Counts) int {
	first := j.length
	for _, c := range reads {
		for i := range c.Rows {
			if at := slices.IndexFunc(lastRow(&c.Rows[i]), func(v float64) bool { return !math.IsNaN(v) }); at >= 0 {
				first = min(first, c.Grid.First-j.first+at)
			}
		}
	}
	return first
}

// events are the events of a ratio: 0 in the steps of reads without e, and in the steps
// before the first value. The steps before the place counted are missing.
func (j joiner) events(of []*telemetry.Counts, e telemetry.Endpoint, counted int) telemetry.Values {
	out := j.lay(of, e, lastRow, 0)
	born := slices.IndexFunc(j.join(of, e, lastRow), func(v float64) bool { return !math.IsNaN(v) })
	if born < 0 {
		born = len(out)
	}
	for _, c := range of {
		from := c.Grid.First - j.first
		if to := min(born, from+c.Grid.Len); from < to {
			fill(out[from:to], 0)
		}
	}
	fill(out[:counted], math.NaN())
	return out
}

func fill(v telemetry.Values, x float64) telemetry.Values {
	for i := range v {
		v[i] = x
	}
	return v
}

// SumBuckets sums the buckets of a histogram over the baseline and over the post window that
// ends before step through (the horizon at the latest): one element per row of c, in its
// order. Steps without data count nothing.
func SumBuckets(signal int, c *telemetry.Counts, g Geometry, through int) []Buckets {
	out := make([]Buckets, len(c.Rows))
	for i := range c.Rows {
		r := &c.Rows[i]
		b := Buckets{
			Endpoint: r.Endpoint, Signal: signal, Bounds: slices.Clone(r.Bounds[:max(0, len(r.Bounds)-1)]),
			Before: make([]float64, len(r.Steps)), After: make([]float64, len(r.Steps)), Exponential: r.Exponential,
		}
		for j, steps := range r.Steps {
			b.Before[j] = sum(steps, g.BaselineStart()-c.Grid.First, -g.Gap-c.Grid.First)
			b.After[j] = sum(steps, g.Guard-c.Grid.First, min(through, g.Horizon)-c.Grid.First)
		}
		out[i] = b
	}
	return out
}

// sum adds up x[from:to], cut to what there is, without NaN.
func sum(x []float64, from, to int) float64 {
	s := 0.0
	for i := max(from, 0); i < min(to, len(x)); i++ {
		if !math.IsNaN(x[i]) {
			s += x[i]
		}
	}
	return s
}
