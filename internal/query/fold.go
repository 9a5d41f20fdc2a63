package query

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// maxGap is the longest interval between two samples, in scrape intervals of the series,
// whose increment is believed to lie evenly in it. At 2.5 one lost scrape passes and two in
// a row do not. Smaller, and one slow scrape empties a step; larger, and a rolling restart
// puts several minutes of requests into one.
const maxGap = 2.5

// minLookback is how far before the first step samples are read at least: a predecessor for
// the first increment, and sight of what was there already.
const minLookback = 5 * time.Minute

// bornLookback is the same where a counter that appears is taken to have stood at 0: one that
// was there within the hour may only have been hidden. The PromQL path looks back as far.
const bornLookback = time.Hour

// boundShare is the share of the time of +Inf that a bound must have been there for in a step
// (or, if no bounds were asked for, in all). Less means that instances with different bucket
// layouts were added up.
const boundShare = 0.9

// staleBits is the NaN that Prometheus writes when a series goes away.
const staleBits = 0x7ff0000000000002

// A fold adds up the samples of one Read. It is a sink: memory is O(rows x (bounds + steps)),
// plus the series that were born or ended on the way.
type fold struct {
	read     Read
	from, to int64 // ms, samples outside are not looked at

	origin, step int64 // ms; step 0 without a grid
	first, steps int
	totals       [2]int64 // ms, (start, end]; equal without totals

	rows    map[string]*row
	targets map[string]*target
	les     map[string]bound
	wanted  map[float64]bool // nil: all
	names   map[string]bool

	births []birth
	ended  map[uint64]ending
	seed   maphash.Seed

	seriesSeen  int
	samplesSeen int64
	skippedLe   int // series whose le is no number
	skippedFlat int // series without histograms where native ones are wanted
	key         []byte
	s           current
}

// bound is one spelling of le.
type bound struct {
	value float64
	text  string
	plain bool // a whole number, which Prometheus 2 and 3 spell differently
}

// A row is one endpoint; it has one column per bound, or one in all.
type row struct {
	key     string
	columns []*column
	gapped  []float32        // seconds per step that lie in scrape gaps; nil: none
	native  *native          // the buckets of native histograms, whose only column is +Inf
	targets map[*target]bool // that had series of it; filled where absent is zero
}

// A column is one bound of a row. For gauges, sums holds the sum of the series' last values
// and covered their number.
type column struct {
	le      float64
	sums    []float64
	covered []float32 // seconds per step that lie between samples, over all series
	total   float64
	time    float64 // seconds, over grid and totals
}

// A target is what one job and instance were seen doing.
type target struct {
	job, instance string
	last          int64     // latest sample, ms
	interval      int64     // between scrapes, ms; 0 unknown
	runs          []run     // spans in which some series had samples without a gap
	births        []int     // indexes of fold.births
	upKnown       bool      // up answered, so it decides births and runs do not
	scrapes       []outcome // per step, filled where absent is zero; nil: no scrape is known
}

// outcome is what is known of the scrapes of a target in a step.
type outcome uint8

const (
	scrapesUnknown outcome = iota // none is known: not scraped, or not there
	scrapesFailed
	scrapesAnswered // one or more
)

type run struct{ start, end int64 }

// A birth is a first sample without a predecessor. Whether its value counts is known when
// the target's scrapes are.
type birth struct {
	row      *row
	col      *column
	target   *target
	group    uint64 // hash of the labels without le
	le       bound
	t        int64
	v        float64
	interval int64
	reborn   bool // it had samples before
	lastT    int64
	lastV    float64

	// Of a native histogram: what it was, and what it had been.
	h, lastH *histogram.FloatHistogram

	prev     int64 // the scrape before, 0 not known
	runStart int64 // since when the target was scraped without a break
}

// ending is where a series stopped before the end of the read.
type ending struct {
	t    int64
	v    float64
	text string
	used bool
}

// current is the series being read.
type current struct {
	row      *row
	col      *column
	target   *target
	le       bound
	main     bool // carries the row's gaps: +Inf, or a series without le
	labels   []label
	storage  []byte
	open     bool // lastT and lastV belong to a running segment
	known    bool // it had samples before
	lastT    int64
	lastV    float64
	segStart int64
	interval int64

	// lo2 and hi2 are twice the edges of the step in which the last increment lay.
	lo2, hi2 int64
	k        int

	gaugeStep int
	gaugeLast float64

	lastH histogram.FloatHistogram
	run   histogramRun
	flat  bool // it has samples that are no histograms
}

func newFold(r Read) *fold {
	f := &fold{
		read: r, rows: map[string]*row{}, targets: map[string]*target{},
		les: map[string]bound{}, names: map[string]bool{}, ended: map[uint64]ending{},
		seed: maphash.MakeSeed(),
	}
	w := r.window()
	f.from, f.to = w.Start.UnixMilli(), w.End.UnixMilli()
	if r.Grid.Len > 0 {
		f.origin, f.step = r.Grid.Origin.UnixMilli(), r.Grid.Step.Milliseconds()
		f.first, f.steps = r.Grid.First, r.Grid.Len
	}
	if r.Totals != (telemetry.Window{}) {
		f.totals = [2]int64{r.Totals.Start.UnixMilli(), r.Totals.End.UnixMilli()}
	}
	if r.Bounds != nil {
		f.wanted = map[float64]bool{math.Inf(1): true}
		for _, b := range r.Bounds {
			f.wanted[b] = true
		}
	}
	return f
}

// window is the span that samples are read from.
func (r Read) window() telemetry.Window {
	var w telemetry.Window
	widen := func(v telemetry.Window) {
		if w == (telemetry.Window{}) {
			w = v
			return
		}
		if v.Start.Before(w.Start) {
			w.Start = v.Start
		}
		if v.End.After(w.End) {
			w.End = v.End
		}
	}
	if r.Grid.Len > 0 {
		widen(r.Grid.Window())
	}
	if r.Totals != (telemetry.Window{}) {
		widen(r.Totals)
	}
	back := max(minLookback, 2*r.Grid.Step)
	w.End = w.End.Add(back)
	if r.AbsentIsZero {
		back = max(back, bornLookback)
	}
	w.Start = w.Start.Add(-back)
	if !r.Until.IsZero() && r.Until.Before(w.End) {
		w.End = r.Until
	}
	return w
}

func (f *fold) series(ls []label) (bool, error) {
	f.s = current{
		storage: f.s.storage[:0], labels: f.s.labels[:0], gaugeStep: math.MinInt,
		lastH: f.s.lastH, run: histogramRun{from: f.s.run.from},
	}
	s := &f.s
	var job, instance, le []byte
	hasLe := false
	size := 0
	for _, l := range ls {
		size += len(l.name) + len(l.value)
	}
	s.storage = slices.Grow(s.storage, size) // so that the slices into it stay valid
	for _, l := range ls {
		at := len(s.storage)
		s.storage = append(append(s.storage, l.name...), l.value...)
		own := label{s.storage[at : at+len(l.name)], s.storage[at+len(l.name):]}
		s.labels = append(s.labels, own)
		if !f.names[string(l.name)] {
			f.names[string(l.name)] = true
		}
		switch string(l.name) {
		case "job":
			job = own.value
		case "instance":
			instance = own.value
		case "le":
			le, hasLe = own.value, true
		}
	}
	f.seriesSeen++
	switch {
	case f.read.Native:
		s.le = bound{value: math.Inf(1)}
	case f.read.Kind == Buckets:
		b, ok := f.les[string(le)]
		if !ok {
			v, err := strconv.ParseFloat(string(le), 64)
			if err != nil || !hasLe || v != v {
				f.skippedLe++
				return false, nil
			}
			b = bound{v, string(le), v == math.Trunc(v) && !math.IsInf(v, 0)}
			f.les[b.text] = b
		}
		s.le = b
		if f.wanted != nil && !f.wanted[b.value] {
			return false, nil
		}
	}
	s.main = f.read.Kind != Buckets || math.IsInf(s.le.value, 1)
	s.row = f.rowOf(ls)
	s.col = f.columnOf(s.row, s.le.value)
	s.target = f.targetOf(job, instance)
	if f.read.AbsentIsZero {
		if s.row.targets == nil {
			s.row.targets = map[*target]bool{}
		}
		s.row.targets[s.target] = true
	}
	s.interval = s.target.interval
	s.lo2, s.hi2 = 1, 0
	return true, nil
}

func (f *fold) rowOf(ls []label) *row {
	f.key = f.key[:0]
	for i, name := range f.read.By {
		if i > 0 {
			f.key = append(f.key, '\xff') // as telemetry.NewEndpoint
		}
		for _, l := range ls {
			if string(l.name) == name {
				f.key = append(f.key, l.value...)
				break
			}
		}
	}
	r := f.rows[string(f.key)]
	if r == nil {
		r = &row{key: string(f.key)}
		f.rows[r.key] = r
	}
	return r
}

func (f *fold) columnOf(r *row, le float64) *column {
	for _, c := range r.columns {
		if c.le == le {
			return c
		}
	}
	c := &column{le: le, sums: make([]float64, f.steps), covered: make([]float32, f.steps)}
	r.columns = append(r.columns, c)
	return c
}

func (f *fold) targetOf(job, instance []byte) *target {
	f.key = append(append(append(f.key[:0], job...), '\xff'), instance...)
	t := f.targets[string(f.key)]
	if t == nil {
		t = &target{job: string(job), instance: string(instance), last: math.MinInt64}
		f.targets[string(f.key)] = t
	}
	return t
}

func (f *fold) samples(ts []int64, vs []float64) {
	f.samplesSeen += int64(len(ts))
	if f.read.Native {
		f.s.flat = true
		return
	}
	if f.read.Kind == Gauge {
		f.gauge(ts, vs)
		return
	}
	s := &f.s
	s.interval = interval(ts, s.interval)
	for i, t := range ts {
		v := vs[i]
		if t < f.from || s.known && t <= s.lastT {
			continue // outside, or a sample that was there already
		}
		if t > f.to {
			break
		}
		if v-v != 0 { // NaN and infinities
			if math.Float64bits(v) == staleBits {
				f.close()
			}
			continue
		}
		switch {
		case !s.open:
			f.births = append(f.births, birth{
				row: s.row, col: s.col, target: s.target, le: s.le, group: f.group(),
				t: t, v: v, interval: s.interval, reborn: s.known, lastT: s.lastT, lastV: s.lastV,
			})
			s.open, s.known, s.segStart = true, true, t
		default:
			f.add(s, s.lastT, t, increment(s.lastV, v))
		}
		s.lastT, s.lastV = t, v
	}
}

// increment is what a counter gained from a to b. A counter that fell began again at 0.
func increment(a, b float64) float64 {
	if b < a {
		return b
	}
	return b - a
}

// interval estimates the scrape interval (ms) of a chunk's times: the estimate so far if the
// mean distance still agrees with it, else the median distance.
func interval(ts []int64, sofar int64) int64 {
	n := len(ts) - 1
	if n < 1 {
		return sofar
	}
	mean := (ts[n] - ts[0]) / int64(n)
	if d := mean - sofar; sofar > 0 && (20*max(d, -d) <= sofar || n < 4) {
		return sofar
	}
	d := make([]int64, n)
	for i := range d {
		d[i] = ts[i+1] - ts[i]
	}
	slices.Sort(d)
	return d[(n-1)/2]
}

// add books an increment of the interval (a, b], ms, and tells where: the index of a step,
// or -1, and whether in the total.
func (f *fold) add(s *current, a, b int64, inc float64) (step int, total bool) {
	mid2 := a + b
	if f.totals[0] != f.totals[1] && mid2 > 2*f.totals[0] && mid2 <= 2*f.totals[1] {
		total = true
		s.col.total += inc
		if f.step == 0 {
			s.col.time += float64(b-a) / 1000
		}
	}
	gap := s.interval > 0 && float64(b-a) > maxGap*float64(s.interval)
	if gap {
		s.target.seen(s.segStart, a, s.interval)
		s.segStart = b
	}
	if f.step == 0 {
		return -1, total
	}
	if gap {
		if s.main {
			f.markGap(s.row, a, b)
		}
		return -1, total
	}
	if a < f.origin && f.origin < b {
		return -1, total
	}
	if mid2 <= s.lo2 || mid2 > s.hi2 {
		s.k = f.stepOf2(mid2)
		s.lo2 = 2 * (f.origin + int64(s.k)*f.step)
		s.hi2 = s.lo2 + 2*f.step
	}
	i := s.k - f.first
	if i < 0 || i >= f.steps {
		return -1, total
	}
	s.col.sums[i] += inc
	seconds := float32(b-a) / 1000
	s.col.covered[i] += seconds
	s.col.time += float64(seconds)
	return i, total
}

// stepOf2 is the step in which half of t2 lies: step k is (origin + k*step, origin + (k+1)*step].
func (f *fold) stepOf2(t2 int64) int {
	d, step2 := t2-2*f.origin, 2*f.step
	k := d / step2
	if d%step2 <= 0 {
		k-- // towards minus infinity, and an instant on the edge belongs to the step before
	}
	return int(k)
}

func (f *fold) markGap(r *row, a, b int64) {
	if r.gapped == nil {
		r.gapped = make([]float32, f.steps)
	}
	lo := max(0, f.stepOf2(2*a+1)-f.first)
	hi := min(f.steps-1, f.stepOf2(2*b)-f.first)
	for i := lo; i <= hi; i++ {
		start := f.origin + int64(f.first+i)*f.step
		r.gapped[i] += float32(min(b, start+f.step)-max(a, start)) / 1000
	}
}

func (f *fold) gauge(ts []int64, vs []float64) {
	s := &f.s
	s.interval = interval(ts, s.interval)
	for i, t := range ts {
		if t < f.from || s.known && t <= s.lastT {
			continue
		}
		if t > f.to {
			break
		}
		if !s.known {
			s.segStart = t
		}
		s.known, s.lastT = true, t
		if k := f.stepOf2(2 * t); k != s.gaugeStep {
			f.flushGauge()
			s.gaugeStep = k
		}
		s.gaugeLast = vs[i]
	}
}

// flushGauge books the last value of the step that the series has left.
func (f *fold) flushGauge() {
	s := &f.s
	if i := s.gaugeStep - f.first; s.gaugeStep != math.MinInt && i >= 0 && i < f.steps && s.gaugeLast-s.gaugeLast == 0 {
		s.col.sums[i] += s.gaugeLast
		s.col.covered[i]++
	}
}

// close ends the running segment of the current series.
func (f *fold) close() {
	s := &f.s
	f.flushRun()
	if s.open {
		s.target.seen(s.segStart, s.lastT, s.interval)
		s.open = false
	}
}

func (f *fold) end() {
	s := &f.s
	if s.flat && !s.known {
		f.skippedFlat++
	}
	if s.row == nil || !s.known {
		return
	}
	s.target.last = max(s.target.last, s.lastT)
	if s.interval > 0 {
		s.target.interval = s.interval
	}
	if f.read.Kind == Gauge {
		f.flushGauge()
		s.gaugeStep = math.MinInt
		return
	}
	f.close()
	if s.le.plain && s.lastT < f.to-int64(maxGap*float64(s.interval)) {
		f.ended[f.group()^math.Float64bits(s.le.value)] = ending{t: s.lastT, v: s.lastV, text: s.le.text}
	}
	s.known = false
}

// group identifies the current series without its le.
func (f *fold) group() uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	var n [8]byte
	for _, l := range f.s.labels {
		if string(l.name) == "le" {
			continue
		}
		for _, b := range [][]byte{l.name, l.value} {
			h.Write(binary.LittleEndian.AppendUint64(n[:0], uint64(len(b))))
			h.Write(b)
		}
	}
	return h.Sum64()
}

// seen records that a series of t had samples from a to b (ms) without a gap. Runs that are a
// scrape apart are one.
func (t *target) seen(a, b, interval int64) {
	if b < a {
		return
	}
	slack := interval + interval/2
	for i := 0; i < len(t.runs); {
		r := t.runs[i]
		if a >= r.start && b <= r.end {
			return
		}
		if a <= r.end+slack && b >= r.start-slack {
			a, b = min(a, r.start), max(b, r.end)
			t.runs = slices.Delete(t.runs, i, i+1)
			i = 0
			continue
		}
		i++
	}
	t.runs = append(t.runs, run{a, b})
}

// settle decides the births. What the targets were doing must be known by now: up, or
// failing that the other series of the target.
func (f *fold) settle() {
	for i := range f.births {
		b := &f.births[i]
		if b.target.upKnown {
			continue // upFold has filled prev and runStart
		}
		for _, r := range b.target.runs {
			// A run that began a scrape or less before the birth is the target's own beginning.
			if iv := b.interval; iv > 0 && r.start < b.t-iv-iv/2 && r.end >= b.t-iv-iv/2 {
				b.prev, b.runStart = b.t-iv, r.start
			}
		}
	}
	type groupTime struct {
		group uint64
		t     int64
	}
	whole := map[groupTime]bool{}
	for _, b := range f.births {
		if math.IsInf(b.le.value, 1) && b.fromZero() {
			whole[groupTime{b.group, b.t}] = true
		}
	}
	for _, b := range f.births {
		s := current{
			row: b.row, col: b.col, target: b.target, interval: b.interval, segStart: b.t,
			main: f.read.Kind != Buckets || math.IsInf(b.le.value, 1), lo2: 1,
		}
		if b.le.plain && !b.reborn {
			// The same bucket under another spelling, before and after an upgrade of Prometheus.
			key := b.group ^ math.Float64bits(b.le.value)
			if e, ok := f.ended[key]; ok && !e.used && e.t < b.t && e.text != b.le.text {
				f.add(&s, e.t, b.t, increment(e.v, b.v))
				e.used = true
				f.ended[key] = e
				continue
			}
		}
		if b.fromZero() && (f.read.Kind != Buckets || whole[groupTime{b.group, b.t}]) {
			step, total := f.add(&s, b.prev, b.t, b.v)
			f.bookBirth(&b, nil, step, total)
			continue
		}
		if b.reborn {
			// A target that was away. Its increment is known, and when it happened is not.
			s.interval = 1
			inc, since := increment(b.lastV, b.v), b.lastH
			if b.h != nil && b.h.DetectReset(b.lastH) {
				inc, since = b.v, nil
			}
			step, total := f.add(&s, b.lastT, b.t, inc)
			f.bookBirth(&b, since, step, total)
		}
	}
	f.births = nil
}

// fromZero reports whether the counter stood at 0 at the scrape before b: its target was
// scraped and it was not there. A counter that comes back higher than it left, without an
// outage of its target between, may only have been hidden.
func (b birth) fromZero() bool {
	if b.prev == 0 {
		return false
	}
	return !b.reborn || b.v < b.lastV || b.runStart > b.lastT
}

// bornTargets are the targets whose scrapes must be known.
func (f *fold) bornTargets() []*target {
	for i, b := range f.births {
		b.target.births = append(b.target.births, i)
	}
	var out []*target
	for _, key := range slices.Sorted(maps.Keys(f.targets)) {
		t := f.targets[key]
		if t.job != "" && (f.read.AbsentIsZero || len(t.births) > 0) {
			slices.SortFunc(t.births, func(a, b int) int { return cmp.Compare(f.births[a].t, f.births[b].t) })
			out = append(out, t)
		}
	}
	return out
}

// markCovered sets the steps in which some series had samples.
func (f *fold) markCovered(steps []bool) {
	for _, r := range f.rows {
		for _, c := range r.columns {
			for i, n := range c.covered {
				if n > 0 {
					steps[i] = true
				}
			}
		}
	}
}

// counts is the result of the fold. scraped says in which steps what is absent is 0, as far as
// the targets of a row do not say otherwise; nil means those in which some series had samples.
func (f *fold) counts(scraped []bool) (telemetry.Counts, []string) {
	out := telemetry.Counts{Grid: f.read.Grid}
	var notes noteList
	if f.skippedFlat > 0 {
		notes.add("%d series of %s are no native histograms and were left out", f.skippedFlat, f.read.Metric)
	}
	if f.skippedLe > 0 {
		notes.add("%d series without a readable le were left out", f.skippedLe)
	}
	if scraped == nil {
		scraped = make([]bool, f.steps)
		f.markCovered(scraped)
	}
	for _, key := range slices.Sorted(maps.Keys(f.rows)) {
		r := f.rows[key]
		if len(r.columns) == 0 {
			continue // scraped, but no increment was ever to be had
		}
		slices.SortFunc(r.columns, func(a, b *column) int { return cmp.Compare(a.le, b.le) })
		main := r.columns[len(r.columns)-1]
		row := telemetry.CountRow{Endpoint: telemetry.Endpoint(key)}
		columns := r.columns
		if f.read.Native {
			if r.native == nil {
				continue // no histogram is among its samples
			}
			f.missing(r, main, columns, scraped)
			f.nativeRow(r, main, &row, &notes)
			out.Rows = append(out.Rows, row)
			continue
		}
		if f.read.Kind == Buckets {
			if !math.IsInf(main.le, 1) {
				notes.add("%s has no +Inf bucket and was left out", row.Endpoint)
				continue
			}
			if f.read.Bounds == nil {
				columns = slices.DeleteFunc(slices.Clone(columns), func(c *column) bool {
					return c.time < boundShare*main.time
				})
			}
			if len(columns) < len(r.columns) {
				notes.add("buckets changed: %s has %d of %d bounds throughout", row.Endpoint, len(columns), len(r.columns))
			}
			for _, c := range columns {
				row.Bounds = append(row.Bounds, c.le)
			}
		}
		torn := f.steps > 0 && f.missing(r, main, columns, scraped)
		if torn {
			notes.add("buckets changed: steps of %s in which a bound is not everywhere are missing", row.Endpoint)
		}
		for _, c := range columns {
			if f.steps > 0 {
				row.Steps = append(row.Steps, c.sums)
			}
			if f.totals[0] != f.totals[1] {
				row.Totals = append(row.Totals, c.total)
			}
		}
		if row.Steps == nil {
			row.Steps = make([][]float64, len(columns))
		}
		if f.read.Kind == Buckets {
			if n := monotone(row.Steps, f.steps); n > 0 {
				notes.add("%d steps of %s have buckets that do not add up and are missing", n, row.Endpoint)
			}
		}
		out.Rows = append(out.Rows, row)
	}
	return out, notes.lines()
}

// missing writes NaN over the steps that nothing trustworthy is known of, in all columns
// alike, and reports whether a bound was torn: there for part of a step only.
func (f *fold) missing(r *row, main *column, columns []*column, scraped []bool) (torn bool) {
	longest := f.longestInterval()
	for i := range f.steps {
		covered, gapped := main.covered[i], float32(0)
		if r.gapped != nil {
			gapped = r.gapped[i]
		}
		if f.read.Kind == Gauge {
			if covered == 0 {
				main.sums[i] = math.NaN()
			} else {
				main.sums[i] /= float64(covered)
			}
			continue
		}
		drop := covered == 0 || covered < gapped
		if covered == 0 && gapped == 0 && f.read.AbsentIsZero && scraped[i] && !r.down(i) {
			drop = f.step < 2*longest // too short to tell absent from not scraped just then
		}
		if !drop {
			for _, c := range columns {
				if c.covered[i] < boundShare*covered {
					drop, torn = true, true
				}
			}
		}
		if drop {
			for _, c := range columns {
				c.sums[i] = math.NaN()
			}
		}
	}
	return torn
}

// down reports whether a target that had series of r failed all its scrapes in a step. One
// that is not there at all is not down.
func (r *row) down(step int) bool {
	for t := range r.targets {
		if t.scrapes != nil && t.scrapes[step] == scrapesFailed {
			return true
		}
	}
	return false
}

// monotone makes cumulative buckets ascend with the bound. Scrapes that catch a histogram in
// the middle of an observation are off by one or by 0.1 %; a step that is off by more is
// missing. It returns the number of those.
func monotone(steps [][]float64, n int) int {
	bad := 0
	for i := range n {
		if len(steps) == 0 || math.IsNaN(steps[0][i]) {
			continue
		}
		slack := max(1, 0.001*steps[len(steps)-1][i])
		for b := len(steps) - 2; b >= 0; b-- {
			over := steps[b][i] - steps[b+1][i]
			if over <= 0 {
				continue
			}
			if over > slack {
				for c := range steps {
					steps[c][i] = math.NaN()
				}
				bad++
				break
			}
			steps[b][i] = steps[b+1][i]
		}
	}
	return bad
}

// completeTo is the instant up to which every live target was heard or two intervals have
// passed, whichever is later, and the usual interval.
func (f *fold) completeTo() (time.Time, time.Duration) {
	longest := f.longestInterval()
	now := f.to
	if !f.read.Until.IsZero() {
		now = f.read.Until.UnixMilli()
	}
	// A target that was silent for two intervals is not waited for.
	heard := int64(math.MaxInt64)
	for _, t := range f.targets {
		iv := t.interval
		if iv == 0 {
			iv = longest
		}
		if t.last >= now-2*iv {
			heard = min(heard, t.last)
		}
	}
	complete := now - 2*longest
	if heard < math.MaxInt64 {
		complete = max(complete, heard)
	}
	return time.UnixMilli(min(complete, f.to)).UTC(), time.Duration(longest) * time.Millisecond
}

// longestInterval is the longest scrape interval of a target, ms; 0 where none is known.
func (f *fold) longestInterval() int64 {
	var longest int64
	for _, t := range f.targets {
		longest = max(longest, t.interval)
	}
	return longest
}

// noteList gathers notes without letting ten thousand endpoints write ten thousand lines.
type noteList struct {
	byFormat map[string]int
	kept     []string
	formats  []string
}

func (n *noteList) add(format string, args ...any) {
	if n.byFormat == nil {
		n.byFormat = map[string]int{}
	}
	n.byFormat[format]++
	if n.byFormat[format] == 1 {
		n.kept = append(n.kept, fmt.Sprintf(format, args...))
		n.formats = append(n.formats, format)
	}
}

func (n *noteList) lines() []string {
	out := slices.Clone(n.kept)
	for i, f := range n.formats {
		if more := n.byFormat[f] - 1; more > 0 {
			out[i] += " (and " + strconv.Itoa(more) + " more)"
		}
	}
	return out
}

// labelNames are the labels of the series, sorted, without __name__.
func (f *fold) labelNames() []string {
	names := slices.Sorted(maps.Keys(f.names))
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "__") })
}
