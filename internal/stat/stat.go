// Package stat holds the formulas that judgements are made of: trimmed means, ranks, false
// discovery rates, quantiles of histograms and their intervals. It knows numbers only, and
// nothing of endpoints, upgrades or time. (docs/statistics.md has each formula and its source.)
package stat

import (
	"math"
	"slices"
)

// TrimmedMean returns the mean of x without its k smallest and k largest values,
// k = floor(trim * len(x)), and k = 1 if that is 0, trim is not and len(x) >= 3. The
// one-value floor keeps a single bad minute out of short windows. x is not changed; its
// order does not matter. Empty x gives NaN. It panics if trim is not in [0, 0.5): that is
// the caller's bug. (Tukey and McLaughlin 1963; the floor is ours, docs/statistics.md.)
func TrimmedMean(x []float64, trim float64) float64 {
	s := Sample{sorted: slices.Clone(x)}
	slices.Sort(s.sorted)
	return s.TrimmedMean(trim)
}

// A Sample is numbers in ascending order, kept so while it grows: the trimmed mean of a
// window that gains one value at every look costs no sort. The zero value is empty. It must
// not be given NaN, which has no place in an order.
type Sample struct {
	sorted, spare []float64
}

// Reset empties s and keeps its memory.
func (s *Sample) Reset() { s.sorted = s.sorted[:0] }

// Len is how many values s holds.
func (s *Sample) Len() int { return len(s.sorted) }

// Add puts v into s.
func (s *Sample) Add(v float64) {
	s.sorted = append(s.sorted, v)
	settle(s.sorted)
}

// Replace takes the values of out, which are in s, away from it, and puts those of in there.
// A window that moves on by a third takes 40 comparisons and a copy instead of 60 insertions.
func (s *Sample) Replace(out, in Sample) {
	left, came := out.sorted, in.sorted
	x := s.spare[:0]
	for _, v := range s.sorted {
		if len(left) > 0 && left[0] == v {
			left = left[1:]
			continue
		}
		for len(came) > 0 && came[0] < v {
			x = append(x, came[0])
			came = came[1:]
		}
		x = append(x, v)
	}
	x = append(x, came...)
	s.sorted, s.spare = x, s.sorted
}

// TrimmedMean is TrimmedMean of the values in s.
func (s *Sample) TrimmedMean(trim float64) float64 {
	checkTrim(trim)
	m := len(s.sorted)
	k := trimmedAt(trim, m)
	kept := s.sorted[k : m-k]
	sum := 0.0
	for _, v := range kept {
		sum += v
	}
	return sum / float64(len(kept))
}

// Quantile is Quantile of the values in s.
func (s *Sample) Quantile(q float64) float64 { return Quantile(s.sorted, q) }

// Quantile returns the q-quantile of sorted, which is in ascending order, interpolated
// linearly between neighbours: element q (n - 1), counted from 0 (type 7 of Hyndman and Fan
// 1996, the default of R and NumPy). Empty sorted gives NaN. It panics if q is not in [0, 1].
func Quantile(sorted []float64, q float64) float64 {
	if !(q >= 0 && q <= 1) {
		panic("stat: quantile must be in [0, 1]")
	}
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// rankTie is how far apart, relative to the larger of |x| and 1, two statistics may be and
// still count as tied. An endpoint without a single event has placebos that are all equal
// but for rounding; without a tolerance the rounding of the real statistic would decide.
const rankTie = 1e-9

// RankP is the share of a null distribution that is at least x, the observation itself
// counted in: (1 + #{null >= x}) / (1 + len(null)), with null in ascending order. Values
// that differ by rounding only count as ties, and ties as at least x: both against
// rejection. NaN, which is no evidence of anything, gives 1. (Phipson and Smyth 2010.)
func RankP(null []float64, x float64) float64 {
	if math.IsNaN(x) {
		return 1
	}
	if !math.IsInf(x, 0) {
		x -= rankTie * max(1, math.Abs(x))
	}
	below, _ := slices.BinarySearch(null, x)
	return float64(1+len(null)-below) / float64(1+len(null))
}

// AdjustBH returns the Benjamini–Hochberg adjusted values of p, in the order of p: rejecting
// where the adjusted value is at most q keeps the false discovery rate at q. A NaN stays NaN
// and is not counted in the family. (Benjamini and Hochberg 1995.)
func AdjustBH(p []float64) []float64 {
	order := make([]int, 0, len(p))
	adjusted := make([]float64, len(p))
	for i := range p {
		if math.IsNaN(p[i]) {
			adjusted[i] = math.NaN()
			continue
		}
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	least := 1.0
	for rank := len(order); rank >= 1; rank-- {
		i := order[rank-1]
		least = min(least, p[i]*float64(len(order))/float64(rank))
		adjusted[i] = least
	}
	return adjusted
}
