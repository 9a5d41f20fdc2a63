package baseline

import (
	"math"
	"slices"

	"github.com/driftwatch/driftwatch/internal/stat"
)

const (
	// settleShare is the share of the guard that an onset is not looked for in: what a restart
	// does to the first steps is no change. With a guard of 3 it is 2 steps.
	settleShare = 2.0 / 3
	// fewSteps is how many steps there must be on either side of an onset.
	fewSteps = 3
	// clip is how far from its level, in robust standard deviations, a step may count.
	clip = 2.5
	// onsetLimit is how much worse, in units of the residual variance and of its autocorrelation,
	// a place may fit and still be in the interval. At 8, 94 % and more of the intervals hold the place
	// at which a retry rate doubled. (docs/statistics.md, "Onset")
	onsetLimit = 8
	// mostCorrelation keeps the interval finite where every step is like the one before.
	mostCorrelation = 0.9
)

// An Onset is the step from which on a metric had its new level, with the interval of the steps
// at which that may have been.
type Onset struct {
	Step, Low, High int
}

// rates are the log rates of single steps from first on, NaN where a step tells none.
type rates struct {
	first  int
	values []float64
}

// ratesOf keeps the single steps [from, to) of l.
func (l *ledger) ratesOf(from, to int) rates {
	s := rates{from, make([]float64, to-from)}
	for i := range s.values {
		s.values[i] = math.NaN()
		if at := l.clip(from + i); from+i >= l.first && at+1 < len(l.events) {
			s.values[i] = l.rate(at, at+1)
		}
	}
	return s
}

// Onset finds the one place that cuts the steps from the baseline up to step through into two
// levels best, by least squares, and again with values far from their level pulled in. It is for
// the report: what is blamed on the upgrade is decided by the gates. ok is false where there
// are fewer than 3 steps on a side. (docs/statistics.md, "Onset")
//
// The first steps after the upgrade are left out; a level that begins with the first one after
// them began with the upgrade, as far as anyone can tell, and the interval is as much wider.
func (c *Comparison) Onset(g Geometry, through int) (o Onset, ok bool) {
	settle := int(settleShare * float64(g.Guard))
	var at []int
	var y []float64
	for i, r := range c.rates.values {
		step := c.rates.first + i
		if step < through && (step < 0 || step >= settle) && !math.IsNaN(r) {
			at, y = append(at, step), append(y, r)
		}
	}
	if len(y) < 2*fewSteps {
		return Onset{}, false
	}
	cut, _ := cutAt(y)
	residuals := residualsAt(y, cut)
	sizes := make([]float64, len(y))
	for i, r := range residuals {
		sizes[i] = math.Abs(r)
	}
	slices.Sort(sizes)
	limit := clip * 1.4826 * stat.Quantile(sizes, 0.5) // of a normal, 1.4826 medians are a standard deviation
	for i, r := range residuals {
		y[i] += min(max(r, -limit), limit) - r
	}
	cut, rss := cutAt(y)
	residuals = residualsAt(y, cut)
	o.Step = at[cut]
	low, high := cut, cut
	if variance := rss[cut] / float64(len(y)-2); variance > 0 {
		r := min(max(lagOne(residuals), 0), mostCorrelation)
		limit := rss[cut] + onsetLimit*variance*(1+r)/(1-r)
		for i := fewSteps; i <= len(y)-fewSteps; i++ {
			if rss[i] <= limit {
				low, high = min(low, i), max(high, i)
			}
		}
	}
	o.Low, o.High = max(at[low]-settle, c.rates.first), min(at[high]+settle, through)
	if cut > 0 && at[cut-1] < 0 && o.Step >= 0 && o.Step <= settle {
		o.Step = 0
	}
	return o, true
}

// cutAt returns where y is best cut into two levels, and the squared residuals of every cut:
// element i that of y[:i] and y[i:], +Inf where a side has fewer than 3.
func cutAt(y []float64) (best int, rss []float64) {
	total, squares := 0.0, 0.0
	for _, v := range y {
		total += v
		squares += v * v
	}
	n := float64(len(y))
	rss = make([]float64, len(y))
	left := 0.0
	for i := range y {
		rss[i] = math.Inf(1)
		if i >= fewSteps && i <= len(y)-fewSteps {
			k := float64(i)
			right := total - left
			rss[i] = max(0, squares-left*left/k-right*right/(n-k))
			if best == 0 || rss[i] < rss[best] {
				best = i
			}
		}
		left += y[i]
	}
	return best, rss
}

// residualsAt are those of y cut at i.
func residualsAt(y []float64, i int) []float64 {
	out := make([]float64, len(y))
	for _, side := range [][2]int{{0, i}, {i, len(y)}} {
		mean := 0.0
		for _, v := range y[side[0]:side[1]] {
			mean += v / float64(side[1]-side[0])
		}
		for j := side[0]; j < side[1]; j++ {
			out[j] = y[j] - mean
		}
	}
	return out
}

// lagOne is the correlation of x with what comes next.
func lagOne(x []float64) float64 {
	num, den := 0.0, 0.0
	for i, v := range x {
		den += v * v
		if i > 0 {
			num += v * x[i-1]
		}
	}
	if den == 0 {
		return 0
	}
	return num / den
}
