package detect

import (
	"math"
	"slices"
	"sort"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// ownGuard is the largest rank, as a share, that a statistic may have among the placebos of
// its own endpoint to count at all. A pool is right on average over its endpoints; the guard
// keeps the few that move much more than the others from raising an alarm each time. At 0.02
// it took the false alarms of such endpoints from 0.027 to 0.020 for one point of power.
// (docs/statistics.md, "p-process".)
const ownGuard = 0.02

// restartUpgrades is how many past upgrades of an endpoint, kept and not taken back, say what a
// restart alone does to it, and restartGuard the largest rank, as a share, that a statistic may have among
// them to count: of three, it must exceed all. A warm-up of 5 minutes behind a guard of 3 raised
// the false alarms of the body metric from 0.014 to 0.035 where nothing showed what a restart
// does. (docs/statistics.md, "Restarts".)
const (
	restartUpgrades = 3
	restartGuard    = 0.25
)

// minPlacebos is how many placebos of its own an endpoint needs to be tested. With 34, false
// alarms at a nominal 0.01 were 0.025 (tail) and 0.019 (retry); with 67 they were 0.019 and
// 0.013. (docs/statistics.md, "Inputs".)
const minPlacebos = 60

// The count classes next to each other may share a pool if the share of the neighbour's
// placebos above the 0.95 quantile of this class, 0.05 if they are alike, is off by no more
// than a factor of 2: merging then changes a p of 0.05 by less than that, which is what
// sampling alone does to the 0.95 quantile of the smallest class there can be (60 placebos:
// the standard error of the share is 0.03). A higher quantile would be nearer to the p that
// decides, but of 60 placebos it is the largest one alone.
const (
	mergeQuantile = 0.95
	mergeFactor   = 2
)

// A pool is the placebos that a statistic is ranked in.
type pool struct {
	n        int
	own      []int // of each member; n is their sum
	up, down tail  // of Maxima, of Minima
}

// reaches is how many strides later p holds need placebos: each member gains one a stride, until
// it has as many as there is room for. ok is false if that is never.
func (p *pool) reaches(need, room int) (strides int, ok bool) {
	after := func(strides int) int {
		n := 0
		for _, own := range p.own {
			n += max(own, min(own+strides, room))
		}
		return n
	}
	strides = sort.Search(room, func(s int) bool { return after(s) >= need })
	return strides, after(strides) >= need
}

// A tail is the upper end of the placebos of many endpoints together. The rest is only
// counted: with 10,000 endpoints it is millions of values that the own guard never asks for.
type tail struct {
	upper []float64 // ascending
	n     int       // all of them
}

// newTail returns the upper end of the members, each of which is ascending, so far down that
// rankP can answer for whatever passes the guard of any member, and critical for alpha up
// to level.
func newTail(members [][]float64, level float64) tail {
	var t tail
	low := math.Inf(1)
	for _, own := range members {
		t.n += len(own)
		asked := int(math.Ceil(level * float64(len(own)+1)))
		low = min(low, own[max(0, len(own)-asked)])
	}
	for _, own := range members {
		from, _ := slices.BinarySearch(own, low)
		t.upper = append(t.upper, own[from:]...)
	}
	slices.Sort(t.upper)
	return t
}

// rankP is stat.RankP of x in all of t. For x below what newTail kept it is 1.
func (t tail) rankP(x float64) float64 {
	if len(t.upper) < t.n && !(x > t.upper[0]) {
		return 1
	}
	return stat.RankP(t.upper, x) * float64(1+len(t.upper)) / float64(1+t.n)
}

// critical is what a statistic must exceed to have a p of at most alpha; NaN if t is too
// small for that.
func (t tail) critical(alpha float64) float64 {
	i := int(math.Floor(alpha*float64(t.n+1))) - 1
	if i < 0 || i >= len(t.upper) {
		return math.NaN()
	}
	return t.upper[len(t.upper)-1-i]
}

// A likeness is what placebos must have in common to be pooled at all: the metric, and the
// series that it is counted from.
type likeness struct {
	metric  telemetry.Metric
	of, per string
}

func likenessOf(t *test) likeness {
	return likeness{t.Metric, t.signal.Metric, t.signal.Per}
}

type classKey struct {
	likeness likeness
	class    int
}

// pools gives the ranking of each of the tests the placebos of its count class, and those of
// neighbouring classes where they agree and its own are too few to reject at alpha.Act in a
// family of m.
func pools(tests []*test, ranking func(*test) *ranking, m int, alpha rule.Alpha) {
	classes := make(map[classKey]rankings)
	for _, t := range tests {
		key := classKey{likenessOf(t), t.Calibration.Class}
		classes[key] = append(classes[key], ranking(t))
	}
	level := max(ownGuard, alpha.Act)
	for key, own := range classes {
		most := 0.0
		for _, k := range own {
			most = max(most, k.tests)
		}
		members := own
		steps := []int{-1, +1} // ways to the next class that are still open
		for distance := 1; len(steps) > 0 && attainable(most, m, members.placebos()) > alpha.Act; distance++ {
			steps = slices.DeleteFunc(steps, func(step int) bool {
				next := classes[classKey{key.likeness, key.class + step*distance}]
				if len(next) == 0 || !agree(own, next) {
					return true
				}
				members = append(slices.Clip(members), next...)
				return false
			})
		}
		p := &pool{n: members.placebos()}
		for _, k := range members {
			p.own = append(p.own, len(k.maxima))
		}
		p.up = newTail(members.histories(false), level)
		p.down = newTail(members.histories(true), level)
		for _, k := range own {
			k.pool = p
		}
	}
}

// rankings are those of one count class, or of several.
type rankings []*ranking

// attainable is the smallest q that one endpoint can reach alone: k tests of it, m endpoints
// in the family, n placebos in the pool.
func attainable(k float64, m, n int) float64 {
	return min(1, k*float64(m)/float64(n+1))
}

func (all rankings) placebos() int {
	n := 0
	for _, k := range all {
		n += len(k.maxima)
	}
	return n
}

func (all rankings) histories(down bool) [][]float64 {
	out := make([][]float64, len(all))
	for i, k := range all {
		out[i] = k.history(down)
	}
	return out
}

// agree reports whether the upper ends of two classes look alike, both ways.
func agree(class, neighbour rankings) bool {
	for _, down := range []bool{false, true} {
		limit := stat.Quantile(slices.Sorted(class.values(down)), mergeQuantile)
		above, n := 0, 0
		for _, k := range neighbour {
			own := k.history(down)
			i, _ := slices.BinarySearch(own, limit)
			above += len(own) - i
			n += len(own)
		}
		share := float64(above) / float64(n)
		if share > mergeFactor*(1-mergeQuantile) || share < (1-mergeQuantile)/mergeFactor {
			return false
		}
	}
	return true
}

// values are the placebos of all.
func (all rankings) values(down bool) func(yield func(float64) bool) {
	return func(yield func(float64) bool) {
		for _, k := range all {
			for _, v := range k.history(down) {
				if !yield(v) {
					return
				}
			}
		}
	}
}
