package baseline

import (
	"math"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

const (
	// trim is the share of blocks that is left out at each end. Against the plain ratio of
	// sums it lifts the power for a 50 % slower tail from 0.49 to 0.68, because a burst is one
	// block. Below about 2 events per step it costs more than it gives, hence trimBlock.
	trim = 0.2
	// trimBlock is the longest block, in steps, that is trimmed; rarer events are summed.
	trimBlock = 3
	// fewBlocks is how many blocks a trimmed mean takes.
	fewBlocks = 3
	// blockEvents is how many events a block should hold on average.
	blockEvents = 8
	// maxMissing is the share of a window's steps that may be missing.
	maxMissing = 0.2
	// minScale keeps z finite where history never moved at all, as that of a constant gauge.
	minScale = 1e-9
)

// A ledger answers for any window of a track in constant time.
//
// A step without trials is covered: that there was no traffic is known, and it counts in the
// load. But it tells nothing about the rate, and is left out of blocks and sums of events.
type ledger struct {
	first int
	level bool
	block int

	// Running sums; element i is the sum over the first i steps of the track.
	events, trials []float64
	covered        []int32 // steps with a measurement
	told           []int32 // steps with trials, or with a level: those that tell a rate

	rates []float64 // log rate of the block of block steps from i on; NaN if no step tells one
}

// newLedger sums t up; block is set by setBlock.
func newLedger(t telemetry.Track) *ledger {
	n := len(t.Events)
	l := &ledger{
		first: t.First, level: t.Metric == telemetry.Level,
		events: make([]float64, n+1), trials: make([]float64, n+1),
		covered: make([]int32, n+1), told: make([]int32, n+1),
	}
	for i, k := range t.Events {
		l.events[i+1], l.trials[i+1] = l.events[i], l.trials[i]
		l.covered[i+1], l.told[i+1] = l.covered[i], l.told[i]
		if l.level {
			if k > 0 && !math.IsInf(k, 1) {
				l.events[i+1] += k
				l.covered[i+1]++
				l.told[i+1]++
			}
			continue
		}
		m := t.Trials[i]
		if math.IsNaN(k) || math.IsNaN(m) {
			continue
		}
		l.covered[i+1]++
		if m > 0 {
			l.events[i+1] += k
			l.trials[i+1] += m
			l.told[i+1]++
		}
	}
	return l
}

// setBlock cuts the track into blocks of b steps, one beginning at every step.
func (l *ledger) setBlock(b int) {
	l.block = b
	if b > trimBlock {
		return
	}
	n := len(l.events) - 1
	l.rates = make([]float64, max(0, n-b+1))
	for i := range l.rates {
		l.rates[i] = l.rate(i, i+b)
	}
}

// rate is the log rate of the steps [i, j) of the track, counted from its first; NaN if none
// of them tells one. Half an event in one trial more keeps it finite without events.
func (l *ledger) rate(i, j int) float64 {
	switch {
	case l.told[j] == l.told[i]:
		return math.NaN()
	case l.level:
		return logOf((l.events[j] - l.events[i]) / float64(l.told[j]-l.told[i]))
	}
	return logOf((l.events[j] - l.events[i] + 0.5) / (l.trials[j] - l.trials[i] + 1))
}

// A span is what a window [from, to) holds.
type span struct {
	from, to       int
	events, trials float64
	covered, told  int
}

// span sums up the steps [from, to) of the grid; steps outside the track are missing.
func (l *ledger) span(from, to int) span {
	i, j := l.clip(from), l.clip(to)
	s := span{from: from, to: to}
	if i < j {
		s.events, s.trials = l.events[j]-l.events[i], l.trials[j]-l.trials[i]
		s.covered, s.told = int(l.covered[j]-l.covered[i]), int(l.told[j]-l.told[i])
	}
	return s
}

func (l *ledger) clip(step int) int { return min(max(step-l.first, 0), len(l.events)-1) }

// holds reports whether the track reaches over all of [from, to), with data or without.
func (l *ledger) holds(from, to int) bool {
	return from >= l.first && to <= l.first+len(l.events)-1
}

// missing is the share of steps of s without data; 1 of an empty window.
func (s span) missing() float64 {
	if s.to <= s.from {
		return 1
	}
	return 1 - float64(s.covered)/float64(s.to-s.from)
}

// enough reports whether at most a fifth of s is missing.
func (s span) enough() bool {
	return enough(s.covered, s.to-s.from)
}

// enough reports whether at most a fifth of n steps are not covered.
func enough(covered, n int) bool {
	return n > 0 && float64(n-covered) <= maxMissing*float64(n)
}

// rawRate is the log of events over trials of s.
func (s span) rawRate() float64 { return logOf((s.events + 0.5) / (s.trials + 1)) }

// load is the log of trials per covered step of s.
func (s span) load() float64 { return logOf((s.trials + 1) / float64(s.covered)) }

// addBlocks puts the log rates of the whole blocks of [from, to) into x, beginning with block
// number done, and returns how many there are now.
func (l *ledger) addBlocks(x *stat.Trimmed, from, to, done int) int {
	for ; from+(done+1)*l.block <= to; done++ {
		if i := from + done*l.block - l.first; i >= 0 && i < len(l.rates) && l.rates[i] == l.rates[i] {
			x.Add(l.rates[i])
		}
	}
	return done
}

// A point is the difference between two windows: post and reference.
type point struct {
	d    float64 // of log rates; NaN: cannot be had
	load float64 // of log trials per step; 0 for level
	v    float64 // variance of d that counting alone explains; 0 for level
}

// A pair computes points of one ledger. It keeps its memory from one to the next.
type pair struct {
	*ledger
	reference span
	trimmed   float64 // mean log rate of the reference's blocks; NaN: too few
	sums      float64 // log rate of the reference's sums
	refLoad   float64
	before    stat.Sample  // blocks of the reference
	left      stat.Sample  // those of the last reference that are not in this one
	came      stat.Sample  // those of this one that were not in the last
	after     stat.Trimmed // blocks of the post window
}

func newPair(l *ledger) *pair {
	return &pair{ledger: l, after: stat.NewTrimmed(trim)}
}

// refer sets the window that the next points are differences to.
func (p *pair) refer(from, to int) {
	old := p.reference
	p.reference = p.span(from, to)
	p.trimmed, p.sums, p.refLoad = math.NaN(), math.NaN(), math.NaN()
	if p.block <= trimBlock {
		moved := from - old.from
		if moved > 0 && from < old.to && moved == to-old.to && moved%p.block == 0 && (to-from)%p.block == 0 {
			p.collect(&p.left, old.from, from)
			p.collect(&p.came, old.to, to)
			p.before.Replace(p.left, p.came)
		} else {
			p.collect(&p.before, from, to)
		}
		if p.before.Len() >= fewBlocks {
			p.trimmed = p.before.TrimmedMean(trim)
		}
	}
	if p.reference.told > 0 {
		p.sums, p.refLoad = p.reference.rawRate(), p.reference.load()
	}
}

// collect fills x with the log rates of the whole blocks of [from, to).
func (p *pair) collect(x *stat.Sample, from, to int) {
	x.Reset()
	for i := from - p.first; i+p.block <= to-p.first; i += p.block {
		if i >= 0 && i < len(p.rates) && p.rates[i] == p.rates[i] {
			x.Add(p.rates[i])
		}
	}
}

// points fills out with the differences of the windows [from, to), [from, to+1), … to the
// reference. Where more than a fifth of either window is missing, or one of them tells no
// rate, there is none.
//
// With blocks of at most 3 steps and at least 3 of them on both sides it is the difference of
// trimmed means of block log rates, else that of the log rates of the sums; a level is always
// the former, of as many steps as there are.
func (p *pair) points(from, to int, out []point) {
	p.after.Reset()
	l, ref := p.ledger, p.reference
	can := ref.enough() && ref.told > 0
	few := fewBlocks
	if l.level {
		few = 1
	}
	noise := 1 / (ref.events + 0.5)
	done := 0
	i := l.clip(from)
	for n := range out {
		out[n] = point{d: math.NaN()}
		if p.block <= trimBlock {
			done = p.addBlocks(&p.after, from, to+n, done)
		}
		j := l.clip(to + n)
		if !can || j <= i || l.told[j] == l.told[i] {
			continue
		}
		covered := int(l.covered[j] - l.covered[i])
		if !enough(covered, to+n-from) {
			continue
		}
		trials := l.trials[j] - l.trials[i] + 1
		if p.after.Len() >= few && !math.IsNaN(p.trimmed) {
			if out[n].d = p.after.Mean() - p.trimmed; math.Abs(out[n].d) < leastMove {
				out[n].d = 0
			}
		} else if !l.level {
			out[n].d = logOf((l.events[j]-l.events[i]+0.5)/trials) - p.sums
		}
		if l.level {
			continue
		}
		share := 1 / float64(covered)
		out[n].load = logOf(trials*share) - p.refLoad
		out[n].v = (1 + float64(ref.covered)*share) * noise
	}
}

// blockOf is the smallest number of steps, of 1, 2, 3, 5 and 10, that holds 8 events on
// average; 10 if none does.
func blockOf(eventsPerStep float64) int {
	for _, b := range []int{1, 2, 3, 5} {
		if float64(b)*eventsPerStep >= blockEvents {
			return b
		}
	}
	return 10
}

// classOf is the count class of a metric. Placebos are pooled within a class only: across
// classes the steps of small counts break the ranks.
func classOf(eventsPerStep float64) int {
	switch {
	case eventsPerStep < 0.5:
		return 0
	case eventsPerStep < 2:
		return 1
	case eventsPerStep < 8:
		return 2
	}
	return 3
}

// eventsPerStep is the median, over the whole stretches of Before steps in the first History
// steps of the track, of the mean events per covered step. Stretches with more than a fifth
// missing do not count; if all are, it is the mean over what is covered. The last stretch ends
// before the baseline.
func (l *ledger) eventsPerStep(g Geometry) float64 {
	end := min(l.first+g.History, g.BaselineStart())
	var means stat.Sample
	for from := l.first; from+g.Before <= end; from += g.Before {
		if s := l.span(from, from+g.Before); s.enough() {
			means.Add(s.events / float64(s.covered))
		}
	}
	if means.Len() > 0 {
		return means.Quantile(0.5)
	}
	if s := l.span(l.first, end); s.covered > 0 {
		return s.events / float64(s.covered)
	}
	return 0
}
