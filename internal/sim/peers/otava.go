package peers

import (
	"math"
	"slices"
)

// Otava's defaults: the window that change points are searched in and the p below which they
// are kept; weak ones, to be merged, are ten times as easy. Its min_magnitude is 0.
const (
	otavaWindow = 50
	otavaP      = 0.001
	otavaWeak   = 10
)

// A ChangePoint is where a series changes.
type ChangePoint struct {
	Index       int     // of the first value after it
	P           float64 // two-sided, of Student's t test of the pieces on either side
	Left, Right float64 // means of the pieces
}

// OtavaChangePoints finds the change points of x as apache/otava does (Hunter; Fleming et al.,
// ICPE 2023): E-divisive with exponent 1 (Matteson and James 2014) in windows of 50 that begin
// 25 apart or at the last point found, each point accepted by Student's t test at 0.01 instead
// of by permutations; then the weakest point is dropped, and its neighbours are tested anew, until all
// are below 0.001.
func OtavaChangePoints(x []float64) []ChangePoint {
	var points []ChangePoint
	for start := 0; start < len(x); {
		end := min(start+otavaWindow, len(x))
		last := 0
		for _, i := range divide(x[start:end]) {
			last = start + i
			if !slices.ContainsFunc(points, func(c ChangePoint) bool { return c.Index == last }) {
				points = append(points, ChangePoint{Index: last})
			}
		}
		start = max(last, start+otavaWindow/2)
	}
	slices.SortFunc(points, func(a, b ChangePoint) int { return a.Index - b.Index })
	for i := range points {
		points[i] = between(x, points, i)
	}
	for len(points) > 0 {
		weakest := 0
		for i, c := range points {
			if c.P > points[weakest].P {
				weakest = i
			}
		}
		if points[weakest].P < otavaP {
			weakest = slices.IndexFunc(points, func(c ChangePoint) bool { return c.Left == c.Right })
			if weakest < 0 {
				break
			}
		}
		points = slices.Delete(points, weakest, weakest+1)
		for _, i := range []int{weakest - 1, weakest} {
			if i >= 0 && i < len(points) {
				points[i] = between(x, points, i)
			}
		}
	}
	return points
}

// between tests point i between its neighbours.
func between(x []float64, points []ChangePoint, i int) ChangePoint {
	from, to := 0, len(x)
	if i > 0 {
		from = points[i-1].Index
	}
	if i+1 < len(points) {
		to = points[i+1].Index
	}
	at := points[i].Index
	c := ChangePoint{Index: at}
	c.P, c.Left, c.Right = student(x[from:at], x[at:to])
	return c
}

// student is the two-sided p of Student's t test with pooled variance, from standard deviations
// that divide by n, as Otava feeds them; 1 for two values or none, and where neither p nor t can be had.
func student(a, b []float64) (p, meanA, meanB float64) {
	meanA, va := meanVariance(a)
	meanB, vb := meanVariance(b)
	na, nb := float64(len(a)), float64(len(b))
	df := na + nb - 2
	if df <= 0 {
		return 1, meanA, meanB
	}
	pooled := ((na-1)*va + (nb-1)*vb) / df
	t := (meanA - meanB) / math.Sqrt(pooled*(1/na+1/nb))
	switch {
	case math.IsNaN(t):
		return 1, meanA, meanB
	case math.IsInf(t, 0):
		return 0, meanA, meanB
	}
	return studentTwo(t, df), meanA, meanB
}

// divide finds weak change points of x: the best split of any piece, as long as it is accepted.
func divide(x []float64) []int {
	var found []ChangePoint
	d := newDistances(x)
	for {
		best, bestQ := -1, math.Inf(-1)
		from := 0
		for i := 0; i <= len(found); i++ {
			to := len(x)
			if i < len(found) {
				to = found[i].Index
			}
			if to-from >= 2 {
				if at, q := d.split(from, to); q > bestQ {
					best, bestQ = at, q
				}
			}
			from = to
		}
		if best < 0 {
			break
		}
		with := append(slices.Clone(found), ChangePoint{Index: best})
		slices.SortFunc(with, func(a, b ChangePoint) int { return a.Index - b.Index })
		i := slices.IndexFunc(with, func(c ChangePoint) bool { return c.Index == best })
		if between(x, with, i).P > otavaP*otavaWeak {
			break
		}
		found = with
	}
	var at []int
	for _, c := range found {
		at = append(at, c.Index)
	}
	return at
}

// distances hold sums of |x_i - x_j|: sum[i][j] over all i' < i and j' < j.
type distances struct{ sum [][]float64 }

func newDistances(x []float64) distances {
	s := make([][]float64, len(x)+1)
	s[0] = make([]float64, len(x)+1)
	for i := range x {
		s[i+1] = make([]float64, len(x)+1)
		row := 0.0
		for j := range x {
			row += math.Abs(x[i] - x[j])
			s[i+1][j+1] = s[i][j+1] + row
		}
	}
	return distances{s}
}

// block is the sum of distances between the values [a, b) and [c, d).
func (s distances) block(a, b, c, d int) float64 {
	return s.sum[b][d] - s.sum[a][d] - s.sum[b][c] + s.sum[a][c]
}

// split is the split of [from, to) with the largest divergence: that at in from < at < kappa <=
// to for which q, the energy distance of [from, at) and [at, kappa), is largest.
func (s distances) split(from, to int) (at int, q float64) {
	at, q = -1, math.Inf(-1)
	for tau := from + 1; tau < to; tau++ {
		n := float64(tau - from)
		left := s.block(from, tau, from, tau) / 2
		for kappa := tau + 1; kappa <= to; kappa++ {
			m := float64(kappa - tau)
			v := s.block(from, tau, tau, kappa)
			if n > 1 {
				v -= m / (n - 1) * left
			}
			if m > 1 {
				v -= n / (m - 1) * s.block(tau, kappa, tau, kappa) / 2
			}
			if v *= 2 / (m + n); v > q {
				at, q = tau, v
			}
		}
	}
	return at, q
}

// otavaEarly and otavaLate are how far, in minutes, a change point may lie from the upgrade to
// be held against it.
const (
	otavaEarly = 2
	otavaLate  = 5
)

// Otava looks for change points in the hour before the upgrade and all minutes since, every 5
// minutes, and alarms at one that rises and lies from 2 minutes before the upgrade to 5 after
// it. That Otava's users run it more rarely and look at all change points is to its favour here.
func Otava() Judge {
	return Judge{
		Name: "Otava", Setting: "E-divisive, window 50, t test p < 0.001, a rise within [-2, 5] minutes, every 5 minutes",
		Source: "apache/otava analysis.py, change_point_divisive: defaults",
		First:  10, Every: 5, Last: Horizon, Limit: -otavaP,
		strength: func(s *Series, t int) float64 {
			before := s.minutes(-Before, 0)
			x := append(before, s.minutes(Guard, t)...)
			strongest := math.NaN()
			for _, c := range OtavaChangePoints(x) {
				near := c.Index >= len(before)-otavaEarly && c.Index <= len(before)+otavaLate
				if near && c.Right > c.Left && !(-c.P <= strongest) {
					strongest = -c.P
				}
			}
			return strongest
		},
	}
}
