package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// nativeShare is the share of the times at which the classic buckets were there that the
// native histograms must have been there, too, to be read instead. Less than all, because a
// scrape may be lost; more than what a baseline can spare would cost history.
const nativeShare = 0.9

// nativeLooks is at how many times of a history it is asked whether histograms were there.
const nativeLooks = 24

// NativeHistograms asks which of the histogram signals of r, by index, are to be read from native
// histograms in w: those that have them and no classic buckets, or have both nearly all the
// time and the server can hand them over. The notes say why one is not, where it could have
// been expected.
func (c *Client) NativeHistograms(ctx context.Context, r *rule.Rule, w telemetry.Window) (native map[int]bool, notes []string, err error) {
	native = map[int]bool{}
	for i, s := range r.Signals {
		if s.Kind != rule.Histogram || w.Duration() <= 0 {
			continue
		}
		ms, err := ParseMatchers(r.Select, s.Select)
		if err != nil {
			return nil, nil, fmt.Errorf("signal %q: %w", s.Name, err)
		}
		// The series of a classic histogram all have longer names.
		if n, err := c.SeriesCount(ctx, s.Metric, ms, w); err != nil || n == 0 {
			if err != nil {
				return nil, nil, err
			}
			continue
		}
		isNative, note, err := c.nativeHistogram(ctx, s.Metric, ms, w)
		if err != nil {
			return nil, nil, err
		}
		native[i] = isNative
		if note != "" {
			notes = append(notes, note)
		}
	}
	return native, notes, nil
}

func (c *Client) nativeHistogram(ctx context.Context, metric string, ms []*labels.Matcher, w telemetry.Window) (bool, string, error) {
	inf := append(slices.Clone(ms), labels.MustNewMatcher(labels.MatchEqual, "le", "+Inf"))
	var natives, classics [nativeLooks]bool
	// A service that has only just begun is not to be seen at times that are hours apart.
	for _, looked := range []telemetry.Window{w, {Start: w.End.Add(-nativeLooks * minLookback), End: w.End}} {
		var err error
		natives, err = c.present(ctx, metric, "count(histogram_count("+selector(metric, ms)+"))", looked)
		if errors.Is(err, ErrBadQuery) || errors.Is(err, ErrTooExpensive) {
			return false, "", nil // a server without native histograms knows no such function
		}
		if err != nil {
			return false, "", err
		}
		if classics, err = c.present(ctx, metric, "count("+selector(metric+"_bucket", inf)+")", looked); err != nil {
			return false, "", err
		}
		if slices.Contains(natives[:], true) || slices.Contains(classics[:], true) {
			break
		}
	}
	if !slices.Contains(natives[:], true) {
		return false, "", nil
	}
	both, classic, late := 0, 0, false
	for i := range classics {
		if !classics[i] {
			continue
		}
		classic++
		if late = !natives[i]; !late {
			both++
		}
	}
	if classic == 0 {
		return true, "", nil
	}
	if float64(both) < nativeShare*float64(classic) || late {
		return false, fmt.Sprintf("%s has native histograms for %d of %d parts of the history; its classic buckets are read", metric, both, classic), nil
	}
	if !c.streams() {
		return false, "", nil
	}
	if c.mode != RemoteRead {
		// Only a read tells whether the server streams, and then it is late to change the plan.
		now := w.End.UnixMilli()
		_, err := c.stream(ctx, "driftwatch_no_such_series", nil, now, now, &spanFold{})
		if errors.Is(err, errNotStreamed) {
			return false, "", c.notStreamed(ctx, err)
		}
		if err != nil {
			return false, "", describe(err, "capabilities", "")
		}
	}
	return true, "", nil
}

// present reports at which times of w, the last one its end, expr had a value.
func (c *Client) present(ctx context.Context, metric, expr string, w telemetry.Window) ([nativeLooks]bool, error) {
	step := max(time.Second, (w.Duration() / nativeLooks).Truncate(time.Millisecond))
	e := evaluation{w.End.Add(-(nativeLooks - 1) * step), w.End, step}
	var p presence
	p.first, p.step = e.start.UnixMilli(), step.Milliseconds()
	err := c.queryRange(ctx, expr, e, &p, &Result{Read: Read{Name: "histograms of " + metric}})
	return p.at, err
}

// A presence takes the times of points.
type presence struct {
	first, step int64 // ms
	at          [nativeLooks]bool
}

func (p *presence) series([]label) error { return nil }
func (p *presence) point(t int64, _ float64) {
	if i := (t - p.first + p.step/2) / p.step; i >= 0 && i < nativeLooks {
		p.at[i] = true
	}
}

// A native is what the native histograms of a row were counted into. Its columns are not
// cumulative, so that buckets can be merged when a later histogram has fewer of them.
type native struct {
	// custom and exponential say which layouts were seen. They have no bounds in common: a row
	// with both counts requests only.
	custom, exponential bool
	changed             bool // not every histogram had the same buckets

	schema int32   // the coarsest of the exponential ones
	zero   float64 // their widest zero bucket, seconds

	// Every exponential bucket: that of index base+i is columns[i], nil if it is empty. Its upper
	// bound is 2^(index * 2^-schema).
	base    int32
	columns []*tally
	zeros   *tally

	// Or the buckets up to chosen or custom bounds, which every histogram so far has had:
	// listed[i] is that up to bounds[i], and what is beyond the last is in none.
	bounds []float64
	listed []*tally
	edges  []int32   // of exponential buckets, the indexes of bounds in schema
	seen   []float64 // custom bounds of the latest histogram
	most   int       // custom bounds that any histogram had
}

// A tally is one bucket of a row.
type tally struct {
	sums  []float64
	total float64
}

// A histogramRun is a stretch of samples of one series whose increments are booked together.
type histogramRun struct {
	open  bool
	step  int
	total bool
	anew  bool                     // it began at 0
	from  histogram.FloatHistogram // else with this
}

func (f *fold) native() bool { return f.read.Native }

func (f *fold) histograms(ts []int64, hs []histogram.FloatHistogram, reset bool) error {
	f.samplesSeen += int64(len(ts))
	s := &f.s
	s.interval = interval(ts, s.interval)
	for i, t := range ts {
		h := &hs[i]
		if t < f.from || s.known && t <= s.lastT {
			continue
		}
		if t > f.to {
			break
		}
		if math.Float64bits(h.Sum) == staleBits {
			f.close()
			continue
		}
		if h.Count-h.Count != 0 {
			continue
		}
		if i == 0 {
			// Spans, schema and bounds are those of the chunk.
			if err := damaged(h); err != nil {
				return err
			}
		}
		if err := refuse(h); err != nil {
			return err
		}
		if s.row.native == nil {
			s.row.native = &native{}
		}
		s.row.native.meet(h, f.wanted)
		if i == 0 || ts[i-1] != s.lastT {
			// What the server knows of the sample before says nothing about the one seen here.
			h.CounterResetHint = histogram.UnknownCounterReset
		}
		if s.open {
			anew := h.DetectReset(&s.lastH) || reset && i == 0 && sameBuckets(h, &s.lastH)
			inc := h.Count
			if !anew {
				inc -= s.lastH.Count
			}
			step, total := f.add(s, s.lastT, t, inc)
			f.extendRun(step, total, anew)
		} else {
			b := birth{
				row: s.row, col: s.col, target: s.target, le: s.le, group: f.group(),
				t: t, v: h.Count, interval: s.interval, reborn: s.known, lastT: s.lastT, lastV: s.lastV, h: h.Copy(),
			}
			b.h.CounterResetHint = histogram.UnknownCounterReset
			if s.known {
				b.lastH = s.lastH.Copy()
			}
			f.births = append(f.births, b)
			s.open, s.known, s.segStart = true, true, t
		}
		s.lastT, s.lastV = t, h.Count
		h.CopyTo(&s.lastH)
	}
	return nil
}

// damaged says what makes h no histogram. It comes after the decoder of chunkenc, which
// believes the lengths in a chunk: against bytes that changed on the way there is the checksum
// of the frame, against a server that means harm there is nothing.
func damaged(h *histogram.FloatHistogram) error {
	if err := h.Validate(); err != nil {
		return truncated("native histogram: %v", err)
	}
	if h.UsesCustomBuckets() {
		return nil
	}
	// The powers of 2 that are numbers go from -1074 to 1024.
	index, most := int64(0), int64(1100)<<max(h.Schema, 0)
	for _, span := range h.PositiveSpans {
		index += int64(span.Offset)
		if index < -most || index+int64(span.Length) > most {
			return truncated("native histogram: bucket %d of schema %d", index, h.Schema)
		}
		index += int64(span.Length)
	}
	return nil
}

// refuse is why a histogram cannot be one of latencies.
func refuse(h *histogram.FloatHistogram) error {
	var detail string
	for _, n := range h.NegativeBuckets {
		if n != 0 {
			detail = "a native histogram with values below 0, which no latency is"
		}
	}
	switch {
	case h.CounterResetHint == histogram.GaugeType:
		detail = "a native histogram that is a gauge and counts nothing up"
	case !h.UsesCustomBuckets() && !histogram.IsExponentialSchema(h.Schema):
		detail = fmt.Sprintf("a native histogram of schema %d", h.Schema)
	}
	if detail == "" {
		return nil
	}
	return &Error{Err: ErrUnsupported, Detail: detail}
}

// sameBuckets reports whether the server could compare b with a before it said that a begins
// anew: other custom bounds alone make it say so.
func sameBuckets(a, b *histogram.FloatHistogram) bool {
	return a.Schema == b.Schema && histogram.CustomBucketBoundsMatch(a.CustomValues, b.CustomValues)
}

// extendRun notes that the increment since s.lastH belongs to a step (or none, -1) and to the
// total or not. anew says that the histogram began at 0 in between.
func (f *fold) extendRun(step int, total, anew bool) {
	s := &f.s
	if r := &s.run; r.open && r.step == step && r.total == total && !anew {
		return
	}
	f.flushRun()
	if step < 0 && !total {
		return
	}
	s.run.open, s.run.step, s.run.total, s.run.anew = true, step, total, anew
	if !anew {
		s.lastH.CopyTo(&s.run.from)
	}
}

// flushRun books the run, which ends with s.lastH.
func (f *fold) flushRun() {
	s := &f.s
	r := &s.run
	if !r.open {
		return
	}
	r.open = false
	f.book(s.row, &s.lastH, 1, r.step, r.total)
	if !r.anew {
		f.book(s.row, &r.from, -1, r.step, r.total)
	}
}

// bookBirth books what a native histogram was at its birth, less what it had been before.
func (f *fold) bookBirth(b *birth, since *histogram.FloatHistogram, step int, total bool) {
	if b.h == nil {
		return
	}
	f.book(b.row, b.h, 1, step, total)
	if since != nil {
		f.book(b.row, since, -1, step, total)
	}
}

// book adds the buckets of h, times sign, to a step (-1: none) and to the total or not.
func (f *fold) book(r *row, h *histogram.FloatHistogram, sign float64, step int, total bool) {
	if step < 0 && !total {
		return
	}
	n := r.native
	if n.custom && n.exponential {
		return
	}
	put := func(t **tally, v float64) {
		if v == 0 {
			return
		}
		if *t == nil {
			*t = &tally{sums: make([]float64, f.steps)}
		}
		if step >= 0 {
			(*t).sums[step] += sign * v
		}
		if total {
			(*t).total += sign * v
		}
	}
	at := 0 // index into n.bounds
	if n.exponential {
		switch {
		case f.wanted == nil:
			put(&n.zeros, h.ZeroCount)
		case len(n.bounds) > 0:
			put(&n.listed[0], h.ZeroCount)
		}
	}
	i, index := 0, int32(0)
	for _, span := range h.PositiveSpans {
		index += span.Offset
		for range span.Length {
			v := h.PositiveBuckets[i]
			i++
			var t **tally
			switch {
			case n.exponential && f.wanted == nil:
				t = n.column(coarser(index, h.Schema, n.schema))
			case n.exponential:
				for own := coarser(index, h.Schema, n.schema); at < len(n.edges) && n.edges[at] < own; {
					at++
				}
			default:
				upper := math.Inf(1)
				if int(index) < len(h.CustomValues) {
					upper = h.CustomValues[index]
				}
				for at < len(n.bounds) && n.bounds[at] < upper {
					at++
				}
			}
			if t == nil && at < len(n.bounds) {
				t = &n.listed[at]
			}
			if t != nil {
				put(t, v)
			}
			index++
		}
	}
}

// column is where an exponential bucket is counted.
func (n *native) column(index int32) **tally {
	if len(n.columns) == 0 {
		n.base = index
	}
	if index < n.base {
		n.columns = slices.Insert(n.columns, 0, make([]*tally, n.base-index)...)
		n.base = index
	}
	for int(index-n.base) >= len(n.columns) {
		n.columns = append(n.columns, nil)
	}
	return &n.columns[index-n.base]
}

// meet makes n fit for the buckets of h: the coarser schema, the bounds in common.
func (n *native) meet(h *histogram.FloatHistogram, wanted map[float64]bool) {
	if n.custom && n.exponential {
		return
	}
	if h.UsesCustomBuckets() {
		n.meetCustom(h.CustomValues, wanted)
	} else {
		n.meetExponential(h, wanted)
	}
	if n.custom && n.exponential {
		n.changed = true
		n.bounds, n.listed, n.columns, n.zeros = nil, nil, nil, nil
	}
}

func (n *native) meetCustom(bounds []float64, wanted map[float64]bool) {
	if n.custom && (len(bounds) == len(n.seen) && (len(bounds) == 0 || &bounds[0] == &n.seen[0]) ||
		histogram.CustomBucketBoundsMatch(bounds, n.seen)) {
		return
	}
	n.seen, n.most = bounds, max(n.most, len(bounds))
	if n.custom {
		n.changed = true
		n.retain(func(b float64) bool {
			_, ok := slices.BinarySearch(bounds, b)
			return ok
		})
		return
	}
	n.custom = true
	for _, b := range bounds {
		if !math.IsInf(b, 1) && (wanted == nil || wanted[b]) {
			n.bounds = append(n.bounds, b)
		}
	}
	n.listed = make([]*tally, len(n.bounds))
}

func (n *native) meetExponential(h *histogram.FloatHistogram, wanted map[float64]bool) {
	fits := func(b float64) bool {
		_, ok := indexOf(b, n.schema)
		return ok && b >= n.zero
	}
	switch {
	case !n.exponential:
		n.exponential, n.schema, n.zero = true, h.Schema, h.ZeroThreshold
		for b := range wanted {
			if !math.IsInf(b, 1) && fits(b) {
				n.bounds = append(n.bounds, b)
			}
		}
		slices.Sort(n.bounds)
		n.listed = make([]*tally, len(n.bounds))
	case h.Schema >= n.schema && h.ZeroThreshold <= n.zero:
		n.changed = n.changed || h.Schema > n.schema
		return
	default:
		n.changed = n.changed || h.Schema != n.schema
		if h.Schema < n.schema {
			old, base, schema := n.columns, n.base, n.schema
			n.columns, n.schema = nil, h.Schema
			for i, t := range old {
				if t != nil {
					merge(n.column(coarser(base+int32(i), schema, n.schema)), t)
				}
			}
		}
		n.zero = max(n.zero, h.ZeroThreshold)
		n.retain(fits)
	}
	n.edges = n.edges[:0]
	for _, b := range n.bounds {
		index, _ := indexOf(b, n.schema)
		n.edges = append(n.edges, index)
	}
}

// retain leaves out the bounds that are not kept. What was counted up to one of them is
// counted up to the next, beyond the last one in none.
func (n *native) retain(kept func(b float64) bool) {
	var bounds []float64
	var listed []*tally
	var carried *tally
	for i, b := range n.bounds {
		if n.listed[i] != nil {
			merge(&carried, n.listed[i])
		}
		if kept(b) {
			bounds, listed = append(bounds, b), append(listed, carried)
			carried = nil
		}
	}
	n.bounds, n.listed = bounds, listed
}

func merge(into **tally, t *tally) {
	if *into == nil {
		*into = t
		return
	}
	for i, v := range t.sums {
		(*into).sums[i] += v
	}
	(*into).total += t.total
}

// boundSlack is how far, as a ratio, a bound may be from the edge that it is meant to be.
// Neighbouring edges of the finest schema are 0.3 % apart.
const boundSlack = 1e-12

// coarser is the index that the bucket of an index has in a schema that is not finer.
func coarser(index, from, to int32) int32 { return (index-1)>>(from-to) + 1 }

// boundOf is the upper bound of an exponential bucket, 2^(index * 2^-schema), the same number
// in every schema that has it. Buckets of numbers near the largest have none below +Inf.
func boundOf(index, schema int32) float64 {
	power := math.Ldexp(float64(index), -int(schema))
	whole := math.Floor(power)
	return math.Ldexp(math.Exp2(power-whole), int(whole))
}

// indexOf is the bucket of a schema whose upper bound b is, if there is one.
func indexOf(b float64, schema int32) (int32, bool) {
	if !(b > 0) || math.IsInf(b, 1) {
		return 0, false
	}
	index := int32(math.Round(math.Ldexp(math.Log2(b), int(schema))))
	return index, math.Abs(boundOf(index, schema)-b) <= boundSlack*b
}

// nativeRow writes the buckets of r into row, cumulative, and its requests as the last.
func (f *fold) nativeRow(r *row, main *column, out *telemetry.CountRow, notes *noteList) {
	n := r.native
	out.Exponential = n.exponential && !n.custom
	switch {
	case !n.changed:
	case n.custom && n.exponential:
		notes.add("buckets changed: %s has exponential and custom ones, which have no bounds in common", out.Endpoint)
	case n.custom:
		notes.add("buckets changed: %s has %d of %d bounds throughout", out.Endpoint, len(n.bounds), n.most)
	default:
		notes.add("buckets changed: %s is read at its coarsest resolution, schema %d", out.Endpoint, n.schema)
	}
	var cum tally
	cum.sums = make([]float64, f.steps)
	emit := func(bound float64) {
		out.Bounds = append(out.Bounds, bound)
		if f.steps > 0 {
			out.Steps = append(out.Steps, slices.Clone(cum.sums))
		}
		if f.totals[0] != f.totals[1] {
			out.Totals = append(out.Totals, cum.total)
		}
	}
	into := &cum
	if out.Exponential && f.wanted == nil {
		n.cumulate(into, f.read.Keep, emit)
	} else {
		for i, b := range n.bounds {
			if t := n.listed[i]; t != nil {
				merge(&into, t)
			}
			emit(b)
		}
	}
	cum = tally{sums: main.sums, total: main.total}
	emit(math.Inf(1))
	if out.Steps == nil {
		out.Steps = make([][]float64, len(out.Bounds))
		return
	}
	for i, v := range main.sums {
		if v != v {
			for b := range out.Steps {
				out.Steps[b][i] = math.NaN()
			}
		}
	}
	if bad := monotone(out.Steps, f.steps); bad > 0 {
		notes.add("%d steps of %s have buckets that do not add up and are missing", bad, out.Endpoint)
	}
}

// cumulate emits the edges of the buckets that counted something, and those of keep, having
// added to cum what was counted up to them. The zero bucket has no edge of its own: it is
// counted up to the first.
func (n *native) cumulate(cum *tally, keep []float64, emit func(bound float64)) {
	var edges []int32
	for i, t := range n.columns {
		if t != nil {
			index := n.base + int32(i)
			edges = append(edges, index-1, index)
		}
	}
	for _, b := range keep {
		if index, ok := indexOf(b, n.schema); ok {
			edges = append(edges, index)
		}
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	// The buckets below the widest zero bucket cannot be told from it.
	first := sort.Search(len(edges), func(i int) bool { return boundOf(edges[i], n.schema) >= n.zero })
	if n.zeros != nil {
		merge(&cum, n.zeros)
	}
	next := 0
	for i, edge := range edges {
		for ; next < len(n.columns) && n.base+int32(next) <= edge; next++ {
			if t := n.columns[next]; t != nil {
				merge(&cum, t)
			}
		}
		if b := boundOf(edge, n.schema); i >= first && b < math.MaxFloat64 {
			emit(b)
		}
	}
}
