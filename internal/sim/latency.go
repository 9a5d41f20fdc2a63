package sim

import "math"

// Latency is a mixture of two lognormals: the bulk, and a slow share further up.
const (
	bulkSD  = 0.45
	slowSD  = 0.50
	slowGap = 1.6  // how much higher the slow requests' log-latency lies
	slowAll = 0.03 // share of slow requests at mean load

	slowedShare = 0.02 // of all requests, by an effect on the tail
)

// upper is P(Z > x) of the standard normal.
func upper(x float64) float64 { return 0.5 * math.Erfc(x/math.Sqrt2) }

// survival is the share of requests slower than exp(x) times the median of the bulk, at mean
// load.
func survival(x float64) float64 {
	return (1-slowAll)*upper(x/bulkSD) + slowAll*upper((x-slowGap)/slowSD)
}

// quantileAt is the log of the q-quantile over the median of the bulk, at mean load, when a
// share of the requests is slowed by exp(by).
func quantileAt(q, share, by float64) float64 {
	return bisect(-5, 5+by, func(x float64) float64 {
		return (1-share)*survival(x) + share*survival(x-by) - (1 - q)
	})
}

// TailFactor is how much slower 2 % of the requests must become for the 0.99-quantile to rise
// by rise (0.25 is 25 %), at mean load.
func TailFactor(rise float64) float64 {
	y := quantileAt(0.99, 0, 0) + math.Log1p(rise)
	return math.Exp(bisect(0, 8, func(by float64) float64 {
		return 1 - 0.99 - (1-slowedShare)*survival(y) - slowedShare*survival(y-by)
	}))
}

// bisect returns the zero of f, which falls from lo to hi.
func bisect(lo, hi float64, f func(float64) float64) float64 {
	for range 200 {
		if mid := (lo + hi) / 2; f(mid) > 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// A normalTable is upper on a grid, interpolated linearly: wrong by at most 5e-7, a request in
// ten thousand minutes of the busiest endpoint, and several times faster than math.Erfc.
type normalTable [2*tableReach*tableSteps + 2]float64

const (
	tableReach = 8
	tableSteps = 256 // per unit
)

func newNormalTable() *normalTable {
	var t normalTable
	for i := range t {
		t[i] = upper(float64(i)/tableSteps - tableReach)
	}
	return &t
}

func (t *normalTable) upper(x float64) float64 {
	x = (x + tableReach) * tableSteps
	if x <= 0 {
		return 1
	}
	i := int(x)
	if i >= len(t)-1 {
		return 0
	}
	f := x - float64(i)
	return t[i] + f*(t[i+1]-t[i])
}

// expit is the logistic function.
func expit(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func logit(p float64) float64 { return math.Log(p / (1 - p)) }
