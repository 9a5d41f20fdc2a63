package baseline

import (
	"math"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Shares of the baseline that the gates look at (research/statistics.md 3.6): the move is
// measured against the first three quarters; J10 asks whether it was there in the last sixth
// before the rollout, J5 in the last twelfth, Jp whether it still is in the newest twelfth.
const (
	farShare  = 0.75
	nearShare = 6  // J10: Before / 6
	lastShare = 12 // J5 and Jp: Before / 12, at least one step
	// leastMove is the least difference of log rates that is more than rounding.
	leastMove = 1e-9
)

// looksOfPlacebos is the share of the placebos that a look must have been made at, for the
// upgrade to be looked at then: below, its maximum would be ranked among maxima that mostly
// lack this look.
const looksOfPlacebos = 0.5

// Compare looks at t after the upgrade, at every look from g.FirstLook to the lesser of
// through (steps before it are complete) and g.Horizon. t needs the steps from the baseline
// on; steps it lacks are missing. It looks exactly as Calibrate looked at the placebos.
//
// b are the buckets of a histogram's windows, nil for other signals and where they could not
// be read; quantile is the signal's own. Tail is reported at quantile, body at 0.8.
//
// Without a calibration, or with one without placebos, there is nothing to rank in: looks
// then hold D, Load, counts and gates; Adj, S, Z and LoadSD are NaN, Max and Min -Inf. The
// same holds for looks that are not valid, but for Max and Min, which stay what they were.
func Compare(t telemetry.Track, c *Calibration, g Geometry, b *Buckets, quantile float64, through int) Comparison {
	if c != nil && c.Placebos == 0 {
		c = nil
	}
	t = t.Slice(g.BaselineStart(), max(g.Horizon, g.Guard))
	l := newLedger(t)
	before := l.span(g.BaselineStart(), -g.Gap)
	switch {
	case c != nil:
		l.setBlock(c.Block)
	case l.level:
		l.setBlock(1)
	default:
		l.setBlock(blockOf(before.events / float64(max(1, before.covered))))
	}

	out := Comparison{
		Endpoint: t.Endpoint, Signal: t.Signal, Metric: t.Metric, Bound: t.Bound, New: t.New, Calibration: c,
		BaselineEvents: before.events, BaselineTrials: before.trials, BaselineMissing: before.missing(),
	}
	if l.level {
		out.BaselineEvents = 0
	}
	last := min(through, g.Horizon)
	out.Looks = looks(l, c, g, last)
	level := reading{l, t.Metric, b, quantile}
	out.Before, out.BeforeAtLeast = level.of(before, false)
	out.After = math.NaN()
	if len(out.Looks) > 0 {
		out.After, out.AfterAtLeast = level.of(l.span(g.Guard, last), true)
		out.Before95, out.After95 = level.intervals(out.Looks[len(out.Looks)-1], c, g)
	}
	out.Unit = UnitOf(t.Metric, t.Bound, b)
	out.rates = l.ratesOf(g.BaselineStart(), max(last, g.BaselineStart()))
	return out
}

// looks are the looks of the upgrade from g.FirstLook to last.
func looks(l *ledger, c *Calibration, g Geometry, last int) []Look {
	n := last - g.FirstLook + 1
	if n <= 0 {
		return nil
	}
	p := newPair(l)
	p.refer(g.BaselineStart(), -g.Gap)
	points := make([]point, n)
	p.points(g.Guard, g.FirstLook, points)

	gates := newGates(l, g)
	out := make([]Look, n)
	highest, lowest := math.Inf(-1), math.Inf(-1)
	eventSteps, counted := 0, g.Guard
	for i, x := range points {
		at := g.FirstLook + i
		post := l.span(g.Guard, at)
		for ; counted < at; counted++ {
			if !l.level && l.span(counted, counted+1).events > 0 {
				eventSteps++
			}
		}
		k := Look{
			T: at, D: x.d, Load: x.load, V: x.v, Adj: math.NaN(), S: math.NaN(), Z: math.NaN(), LoadSD: math.NaN(),
			Events: post.events, Trials: post.trials, EventSteps: eventSteps,
			Missing: post.missing(), Valid: !math.IsNaN(x.d),
		}
		if l.level {
			k.Events = 0
		}
		if c != nil && float64(c.Looks[i].Placebos) < looksOfPlacebos*float64(c.Placebos) {
			k.Valid = false
		}
		if c != nil && k.Valid {
			cal := c.Looks[i]
			k.LoadSD = cal.loadSD(x.load)
			k.Adj, k.S = cal.adjust(x, 0)
			k.Z = k.Adj / k.S
			highest = max(highest, g.Weight(at)*k.Z)
			lowest = max(lowest, -g.Weight(at)*k.Z)
		}
		k.Max, k.Min = highest, lowest
		k.J10, k.J5, k.Jp = gates.at(at)
		out[i] = k
	}
	return out
}

// gates computes the shares J10, J5 and Jp look by look.
type gates struct {
	l              *ledger
	from, upTo     int // the steps [from, upTo) are in post
	newest         int // steps that Jp looks at
	far, near, end float64
	post           stat.Trimmed
	window         stat.Sample // of mean, kept for its memory
}

func newGates(l *ledger, g Geometry) *gates {
	end := -g.Gap
	newest := max(1, g.Before/lastShare)
	x := &gates{l: l, from: g.Guard, upTo: g.Guard, newest: newest, post: stat.NewTrimmed(trim)}
	x.far = x.mean(g.BaselineStart(), g.BaselineStart()+int(farShare*float64(g.Before)))
	x.near = x.mean(end-max(1, g.Before/nearShare), end)
	x.end = x.mean(end-newest, end)
	return x
}

// at returns the gates at look t; looks must come in order. NaN where a window tells nothing
// or nothing moved.
func (g *gates) at(t int) (j10, j5, jp float64) {
	g.l.stepRates(g.upTo, t, g.post.Add)
	g.upTo = t
	post := g.post.Mean()
	move := post - g.far
	if math.Abs(move) < leastMove {
		return math.NaN(), math.NaN(), math.NaN()
	}
	last := g.mean(max(g.from, t-g.newest), t)
	return (post - g.near) / move, (post - g.end) / move, (last - g.far) / move
}

// mean is the trimmed mean of the log rates of the single steps [from, to).
func (g *gates) mean(from, to int) float64 {
	g.window.Reset()
	g.l.stepRates(from, to, g.window.Add)
	return g.window.TrimmedMean(trim)
}

// stepRates calls use for the log rates of the single steps [from, to) that tell one.
func (l *ledger) stepRates(from, to int, use func(float64)) {
	for i := l.clip(from); i < l.clip(to); i++ {
		if r := l.rate(i, i+1); !math.IsNaN(r) {
			use(r)
		}
	}
}

// bodyQuantile is what the body metric is reported at: the bound nearest 20 % exceedance.
const bodyQuantile = 0.8

// A reading gives the signal's own number in a window.
type reading struct {
	l        *ledger
	metric   telemetry.Metric
	buckets  *Buckets
	quantile float64
}

// of is the mean of a level, events per trial of a ratio, or the quantile of a histogram.
func (r reading) of(s span, after bool) (value, atLeast float64) {
	switch {
	case r.metric == telemetry.Tail:
		return r.buckets.quantile(r.quantile, after)
	case r.metric == telemetry.Body:
		return r.buckets.quantile(bodyQuantile, after)
	case r.metric == telemetry.Level && s.told > 0:
		return s.events / float64(s.told), 0
	case r.metric == telemetry.Retry && s.trials > 0:
		return s.events / s.trials, 0
	}
	return math.NaN(), 0
}

func (b *Buckets) quantile(q float64, after bool) (value, atLeast float64) {
	if b == nil {
		return math.NaN(), 0
	}
	cum := b.Before
	if after {
		cum = b.After
	}
	r := stat.HistogramQuantile(q, b.Bounds, cum, b.interpolation(q))
	return r.Value, r.AtLeast
}
