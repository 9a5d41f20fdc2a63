package peers

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// A RankSum is the Mann–Whitney comparison of two samples: U counts the pairs in which x is
// larger, ties half. NaN where a sample is empty or everything is tied.
type RankSum struct {
	U       float64
	Less    float64 // one-sided p for x tending to be smaller
	Greater float64 // one-sided p for x tending to be larger
	Two     float64 // two-sided p
	Z       float64 // for larger x, continuity correction included; NaN from MannWhitneyExact
}

// MannWhitney compares x with y by the normal approximation, with the variance corrected for
// ties and half a rank taken off for continuity, as scipy.stats.mannwhitneyu with
// method="asymptotic". (Mann and Whitney 1947; Lehmann 2006, section 1.4.)
func MannWhitney(x, y []float64) RankSum {
	m, n := float64(len(x)), float64(len(y))
	sum, ties, _ := rankSum(x, y)
	u := sum - m*(m+1)/2
	all := m + n
	variance := m * n / 12 * (all + 1 - ties/(all*(all-1)))
	if !(variance > 0) {
		return RankSum{U: u, Less: math.NaN(), Greater: math.NaN(), Two: math.NaN(), Z: math.NaN()}
	}
	sd := math.Sqrt(variance)
	r := RankSum{U: u, Z: (u - m*n/2 - 0.5) / sd}
	r.Greater = normalTail(r.Z)
	r.Less = normalTail((m*n/2 - u - 0.5) / sd)
	r.Two = min(1, 2*min(r.Less, r.Greater))
	return r
}

// MannWhitneyExact compares x with y by the distribution of U over all ways to deal out the
// pooled values, ties as they are. It takes time and memory of order len(x)² len(x+y)², so
// samples should have at most some 50 values.
func MannWhitneyExact(x, y []float64) RankSum {
	m, n := len(x), len(y)
	sum, _, groups := rankSum(x, y)
	r := RankSum{U: sum - float64(m*(m+1))/2, Less: math.NaN(), Greater: math.NaN(), Two: math.NaN(), Z: math.NaN()}
	if m == 0 || n == 0 {
		return r
	}
	// ways[k][s] counts the ways to take k values of the groups so far whose midranks sum to
	// s/2; midranks are multiples of a half.
	most := 2 * (m + n) * m
	ways := make([][]float64, m+1)
	for k := range ways {
		ways[k] = make([]float64, most+1)
	}
	ways[0][0] = 1
	seen := 0
	for _, size := range groups {
		rank := 2*seen + size + 1 // twice the midrank
		seen += size
		for k := m; k >= 1; k-- {
			choose := 1.0
			for take := 1; take <= min(size, k); take++ {
				choose *= float64(size-take+1) / float64(take)
				from := ways[k-take]
				for s := 0; s+take*rank <= most; s++ {
					if from[s] > 0 {
						ways[k][s+take*rank] += choose * from[s]
					}
				}
			}
		}
	}
	var total, atMost, atLeast float64
	at := int(math.Round(2 * sum))
	for s, w := range ways[m] {
		total += w
		if s <= at {
			atMost += w
		}
		if s >= at {
			atLeast += w
		}
	}
	r.Less, r.Greater = atMost/total, atLeast/total
	r.Two = min(1, 2*min(r.Less, r.Greater))
	return r
}

// rankSum is the sum of the midranks of x among both samples, the sum of t³ - t over groups of
// t tied values, and the sizes of the groups from the smallest value on.
func rankSum(x, y []float64) (sum, ties float64, groups []int) {
	type value struct {
		v   float64
		isX bool
	}
	all := make([]value, 0, len(x)+len(y))
	for _, v := range x {
		all = append(all, value{v, true})
	}
	for _, v := range y {
		all = append(all, value{v, false})
	}
	slices.SortFunc(all, func(a, b value) int {
		switch {
		case a.v < b.v:
			return -1
		case a.v > b.v:
			return 1
		}
		return 0
	})
	for i := 0; i < len(all); {
		j, fromX := i, 0.0
		for ; j < len(all) && all[j].v == all[i].v; j++ {
			if all[j].isX {
				fromX++
			}
		}
		sum += fromX * (float64(i+j) + 1) / 2
		t := float64(j - i)
		ties += t*t*t - t
		groups = append(groups, j-i)
		i = j
	}
	return sum, ties, groups
}

// normalTail is P(Z >= z).
func normalTail(z float64) float64 { return math.Erfc(z/math.Sqrt2) / 2 }

// A TTest is Welch's comparison of two means: T > 0 where the first is larger, on DF degrees
// of freedom, Two the two-sided p. NaN where a sample has fewer than two values or neither varies.
type TTest struct{ T, DF, Two float64 }

// Greater is the one-sided p for a larger first mean.
func (t TTest) Greater() float64 {
	if t.T > 0 {
		return t.Two / 2
	}
	return 1 - t.Two/2
}

// Welch compares the means of x and y without taking their variances to be equal. (Welch 1947.)
func Welch(x, y []float64) TTest {
	mx, vx := meanVariance(x)
	my, vy := meanVariance(y)
	nx, ny := float64(len(x)), float64(len(y))
	a, b := vx/(nx-1), vy/(ny-1) // variances of the means; meanVariance divides by n
	if nx < 2 || ny < 2 || !(a+b > 0) {
		return TTest{math.NaN(), math.NaN(), math.NaN()}
	}
	t := (mx - my) / math.Sqrt(a+b)
	df := (a + b) * (a + b) / (a*a/(nx-1) + b*b/(ny-1))
	return TTest{T: t, DF: df, Two: studentTwo(t, df)}
}

// studentTwo is the two-sided p of t on df degrees of freedom.
func studentTwo(t, df float64) float64 {
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df}.CDF(-math.Abs(t))
}

// meanVariance are the mean of x and its variance, divided by len(x).
func meanVariance(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / float64(len(x))
}

// TwoProportion is the z of k1 events in n1 trials against k2 in n2, positive where the first
// share is larger, with the pooled variance. NaN where nothing or everything is an event.
func TwoProportion(k1, n1, k2, n2 float64) float64 {
	p := (k1 + k2) / (n1 + n2)
	return (k1/n1 - k2/n2) / math.Sqrt(p*(1-p)*(1/n1+1/n2))
}
