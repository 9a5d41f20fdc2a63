// Package peers holds the judges of other tools, so that driftwatch can be measured against
// them on the same upgrades. It is no part of the product: only measurements import it.
//
// The judges are written from what the tools' sources and documentation say they do, with
// their defaults; where a tool leaves a number to its users, the number is one that its
// documentation or its users write. Each constructor says which is which. All of them are
// given the same minutes: none sees the first Guard minutes after an upgrade, when a restarted
// service is slow whatever its version.
package peers

import (
	"math"

	"github.com/driftwatch/driftwatch/internal/stat"
)

const (
	// Before is the length of the baseline, minutes, for judges that have one.
	Before = 60
	// Guard is how many minutes after the upgrade no judge sees, as the judges' users write it:
	// Kayenta's beginAfterMins, Argo's initialDelay.
	Guard = 3
	// Horizon is the last minute that any judge looks at, counted from the upgrade.
	Horizon = 60
	// Earlier is how many earlier upgrades of the same service a judge may want to see.
	Earlier = 3
)

// quantile is the one that all tools are asked to watch.
const quantile = 0.99

// A Series is one signal of one endpoint, minute by minute: 0.99-quantiles of latency, read
// from a classic histogram as Prometheus reads it, or events per trial.
type Series struct {
	upgrade        int       // elements before the upgrade
	values         []float64 // one a minute; NaN where there is none
	events, trials []float64
	bounds         []float64   // finite upper bounds, seconds; nil for a ratio
	cum            [][]float64 // cumulative counts, shape (len(bounds)+1, minutes); nil for a ratio

	// Earlier are the same signal around earlier upgrades, the latest first, for the tools that
	// compare with them. In measurements they are healthy upgrades at the same time of the days before.
	Earlier []*Series
}

// NewRatio is a series of events per trial, upgrade minutes of which lie before the upgrade.
// A minute without trials, or with NaN, has no value. It panics if the lengths differ.
func NewRatio(upgrade int, events, trials []float64) *Series {
	if len(events) != len(trials) {
		panic("peers: events and trials of different lengths")
	}
	s := &Series{upgrade: upgrade, events: events, trials: trials}
	s.fill()
	return s
}

// NewLatency is a series of 0.99-quantiles of a histogram: cum are the requests of each minute
// at most as slow as each of bounds (finite, seconds, ascending), and last all requests, shape
// (len(bounds)+1, minutes). events are the requests of a minute beyond the bound that
// driftwatch counts at, for the judges that count. It panics if the shapes do not fit.
func NewLatency(upgrade int, bounds []float64, cum [][]float64, events []float64) *Series {
	if len(cum) != len(bounds)+1 || len(events) != len(cum[len(bounds)]) {
		panic("peers: counts do not fit bounds or events")
	}
	s := &Series{upgrade: upgrade, bounds: bounds, cum: cum, events: events, trials: cum[len(bounds)]}
	s.fill()
	return s
}

func (s *Series) fill() {
	s.values = make([]float64, len(s.trials))
	for i := range s.values {
		s.values[i] = s.Over(i-s.upgrade, i-s.upgrade+1)
	}
}

// Over is the signal's value over the minutes [from, to), counted from the upgrade: what a
// query with that range gives. A quantile beyond the last bound is the last bound, as in
// Prometheus. NaN where there were no requests, or before the series begins.
func (s *Series) Over(from, to int) float64 {
	if from+s.upgrade < 0 || to+s.upgrade > len(s.trials) {
		return math.NaN()
	}
	if s.bounds == nil {
		k, n := s.counts(from, to)
		if !(n > 0) {
			return math.NaN()
		}
		return k / n
	}
	sum := make([]float64, len(s.bounds)+1)
	for b, of := range s.cum {
		for _, v := range of[from+s.upgrade : to+s.upgrade] {
			if !math.IsNaN(v) {
				sum[b] += v
			}
		}
	}
	r := stat.HistogramQuantile(quantile, s.bounds, sum, stat.Linear)
	if r.AtLeast > 0 {
		return r.AtLeast
	}
	return r.Value
}

// counts are the events and trials of the minutes [from, to) that have both.
func (s *Series) counts(from, to int) (events, trials float64) {
	for i := max(0, from+s.upgrade); i < min(to+s.upgrade, len(s.trials)); i++ {
		if !math.IsNaN(s.events[i]) && !math.IsNaN(s.trials[i]) {
			events += s.events[i]
			trials += s.trials[i]
		}
	}
	return events, trials
}

// minutes are the values of the minutes [from, to) that have one.
func (s *Series) minutes(from, to int) []float64 {
	out := make([]float64, 0, max(0, to-from))
	for i := max(0, from+s.upgrade); i < min(to+s.upgrade, len(s.values)); i++ {
		if !math.IsNaN(s.values[i]) {
			out = append(out, s.values[i])
		}
	}
	return out
}

// A Judge is a tool's rule for one series, with its own schedule: it looks at the minutes
// First, First+Every, … up to Last after the upgrade. A look at minute t sees the minutes
// before t.
type Judge struct {
	Name    string
	Setting string // the numbers behind the name, for people
	Source  string // where they come from

	First, Every, Last int

	// A look fails if its strength is at least Limit, and the judge raises its alarm at the
	// failed look that Forgiven others have gone before, in a row or not. Limit is the number
	// that a user would turn to hear less of the tool.
	Limit    float64
	Forgiven int

	// strength is how strongly the look at minute t says that s rose; NaN says nothing.
	strength func(s *Series, t int) float64
}

// A Hearing is what a judge made of one series.
type Hearing struct {
	// Score is the highest Limit at which the judge would have raised an alarm; -Inf if at none.
	Score float64
	// Alarm is the minute after the upgrade at which it did; 0 if it did not.
	Alarm int
}

// Hear lets j look at s by its schedule.
func (j Judge) Hear(s *Series) Hearing {
	// strongest holds the Forgiven+1 strongest looks, the weakest of them first.
	strongest := make([]float64, j.Forgiven+1)
	for i := range strongest {
		strongest[i] = math.Inf(-1)
	}
	h := Hearing{}
	failed := 0
	for t := j.First; t <= j.Last; t += j.Every {
		x := j.strength(s, t)
		if math.IsNaN(x) {
			continue
		}
		if x >= j.Limit {
			if failed++; failed == j.Forgiven+1 {
				h.Alarm = t
			}
		}
		if x <= strongest[0] {
			continue
		}
		strongest[0] = x
		for i := 1; i < len(strongest) && strongest[i-1] > strongest[i]; i++ {
			strongest[i-1], strongest[i] = strongest[i], strongest[i-1]
		}
	}
	h.Score = strongest[0]
	return h
}

// LineUp is every judge that driftwatch is compared with.
func LineUp() []Judge {
	return []Judge{
		KayentaOnce(), KayentaTenTimes(), Argo(0), Argo(3), Flagger(5), Flagger(10), PipeCD(), Keptn(),
		Otava(), KaproSequential(), KaproChangePoint(), PeekedMannWhitney(), PeekedWelch(),
	}
}

// NegativeControls are the methods that a harness must be able to fail: at their nominal 1 %
// they alarm far more often. (research/statistics.md: Welch on above 10 %, two proportions on
// above 25 % of healthy endpoints at 50 requests a second.)
func NegativeControls() []Judge { return []Judge{Welch30(), TwoProportion30()} }
