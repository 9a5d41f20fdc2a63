package stat

import "gonum.org/v1/gonum/stat/distuv"

// BinomialInterval returns the interval that holds the probability of an event with at least
// this level, after k events in n trials; 0 <= k <= n, 0 < level < 1. Without trials it is 0 to 1.
// (Clopper and Pearson 1934; exact, so never too short.)
func BinomialInterval(k, n int, level float64) (low, high float64) {
	tail := (1 - level) / 2
	high = 1
	if k > 0 {
		low = distuv.Beta{Alpha: float64(k), Beta: float64(n - k + 1)}.Quantile(tail)
	}
	if k < n {
		high = distuv.Beta{Alpha: float64(k + 1), Beta: float64(n - k)}.Quantile(1 - tail)
	}
	return low, high
}
