package peers

import (
	"math"
	"slices"
)

// Kayenta's defaults: the confidence level of the interval and the share of the estimated
// shift that its lower end must exceed. The share is of the shift and not of the baseline: it
// asks for a narrow interval, and is no floor under what matters.
const (
	kayentaConfidence = 0.98
	kayentaTolerance  = 0.25
)

// A Class is Kayenta's answer for one metric.
type Class string

// The classes. NoData is a side without values.
const (
	Pass   Class = "Pass"
	High   Class = "High"
	Low    Class = "Low"
	NoData Class = "Nodata"
)

// A CanaryResult is what NetflixACAJudge-v1.0 says of one metric.
type CanaryResult struct {
	Class     Class
	Lower     float64 // 98 % interval of the shift
	Upper     float64
	Estimate  float64 // Hodges–Lehmann estimate of the shift
	MeanRatio float64 // mean of the experiment by mean of the control; NaN if either is 0

	// Excess is the z of the test that the shift exceeds a quarter of its estimate: the metric
	// is High where it is above the z of the confidence level. +Inf where the interval's lower
	// end exceeds that quarter at any level, NaN where nothing was tested.
	Excess float64
}

// Kayenta classifies the experiment against the control as spinnaker/kayenta's
// NetflixACAJudge does with its defaults (direction either, nanStrategy remove, outliers
// kept): the interval is that of R's wilcox.test(conf.int = TRUE, exact = FALSE), whose ends
// are roots of the standardised rank sum found by Brent's method on [min x - max y, max x -
// min y] to 1e-4. Two different constants are told apart by adding noise to them in the
// original; here the sign of their difference tells.
func Kayenta(control, experiment []float64) CanaryResult {
	r := CanaryResult{Class: Pass, Lower: math.NaN(), Upper: math.NaN(), Estimate: math.NaN(), MeanRatio: math.NaN(), Excess: math.NaN()}
	if len(control) == 0 || len(experiment) == 0 {
		r.Class = NoData
		return r
	}
	x, y := slices.Sorted(slices.Values(experiment)), slices.Sorted(slices.Values(control))
	if slices.Equal(x, y) {
		return r
	}
	mx, _ := meanVariance(x)
	my, _ := meanVariance(y)
	if mx != 0 && my != 0 {
		r.MeanRatio = mx / my
	}
	if x[0] == x[len(x)-1] && y[0] == y[len(y)-1] {
		switch {
		case x[0] > y[0]:
			r.Class, r.Excess = High, math.Inf(1)
		case x[0] < y[0]:
			r.Class = Low
		}
		return r
	}
	w := shifted{x, y}
	z := normalQuantile(1 - (1-kayentaConfidence)/2)
	r.Lower, r.Upper, r.Estimate = w.root(z), w.root(-z), w.root(0)
	bound := kayentaTolerance * math.Abs(r.Estimate)
	r.Excess = w.z(bound)
	if x[0]-y[len(y)-1] > bound { // no interval reaches lower than that
		r.Excess = math.Inf(1)
	}
	switch {
	case r.Lower > bound && !(r.MeanRatio < 1):
		r.Class = High
	case r.Upper < -bound && !(r.MeanRatio > 1):
		r.Class = Low
	}
	return r
}

// shifted are two sorted samples, x of which is moved.
type shifted struct{ x, y []float64 }

// z is the standardised rank sum of x - mu among x - mu and y, with the continuity correction
// towards 0. It falls as mu rises. It is NaN if everything is tied.
func (s shifted) z(mu float64) float64 {
	m, n := float64(len(s.x)), float64(len(s.y))
	var sum, ties float64
	i, j := 0, 0
	for i < len(s.x) || j < len(s.y) {
		v := math.Inf(1)
		if i < len(s.x) {
			v = s.x[i] - mu
		}
		if j < len(s.y) {
			v = min(v, s.y[j])
		}
		i0, j0 := i, j
		for i < len(s.x) && s.x[i]-mu == v {
			i++
		}
		for j < len(s.y) && s.y[j] == v {
			j++
		}
		sum += float64(i-i0) * (float64(i0+j0+i+j) + 1) / 2
		t := float64(i - i0 + j - j0)
		ties += t*t*t - t
	}
	d := sum - m*(m+1)/2 - m*n/2
	correction := 0.0
	switch {
	case d > 0:
		correction = 0.5
	case d < 0:
		correction = -0.5
	}
	return (d - correction) / math.Sqrt(m*n/12*(m+n+1-ties/((m+n)*(m+n-1))))
}

// root is the shift at which z is q, or the end of the possible shifts that lies nearest.
func (s shifted) root(q float64) float64 {
	low, high := s.x[0]-s.y[len(s.y)-1], s.x[len(s.x)-1]-s.y[0]
	f := func(mu float64) float64 { return s.z(mu) - q }
	switch fl, fh := f(low), f(high); {
	case fl <= 0:
		return low
	case fh >= 0:
		return high
	default:
		return brent(f, low, high, fl, fh, 1e-4)
	}
}

// brent is a root of f in [a, b], where f has the signs of fa and fb, to within tol: R's
// zeroin. (Brent 1973, chapter 4.)
func brent(f func(float64) float64, a, b, fa, fb, tol float64) float64 {
	const epsilon = 0x1p-52
	c, fc := a, fa // f(b) and f(c) have different signs, and b is the better
	for range 1000 {
		last := b - a
		if math.Abs(fc) < math.Abs(fb) {
			a, b, c = b, c, b
			fa, fb, fc = fb, fc, fb
		}
		least := 2*epsilon*math.Abs(b) + tol/2
		step := (c - b) / 2
		if math.Abs(step) <= least || fb == 0 {
			return b
		}
		if math.Abs(last) >= least && math.Abs(fa) > math.Abs(fb) {
			var p, q float64
			wide := c - b
			if a == c { // secant
				p, q = wide*(fb/fa), 1-fb/fa
			} else { // inverse quadratic
				u, v, w := fa/fc, fb/fc, fb/fa
				p = w * (wide*u*(u-v) - (b-a)*(v-1))
				q = (u - 1) * (v - 1) * (w - 1)
			}
			if p > 0 {
				q = -q
			} else {
				p = -p
			}
			if p < 0.75*wide*q-math.Abs(least*q)/2 && p < math.Abs(last*q/2) {
				step = p / q
			}
		}
		if math.Abs(step) < least {
			step = math.Copysign(least, step)
		}
		a, fa = b, fb
		b += step
		fb = f(b)
		if fb > 0 && fc > 0 || fb < 0 && fc < 0 {
			c, fc = a, fa
		}
	}
	return b
}

func normalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }

// kayentaOffset is minutes: the control is the same service that much earlier
// (controlOffsetInMinutes), the way in which Kayenta is used without a concurrent control.
const kayentaOffset = 60

// kayenta judges as Kayenta's standalone run does over a window that grows from the end of
// beginAfterMins on. Every metric is critical, that is: High fails the run. (Without that, a
// score of 95 of 100 over twenty metrics passes whatever one of them does.) The strength is
// the z that the interval's confidence level is compared with, so that Limit turns
// Kayenta's confLevel. No level helps in the first judgements of a growing window: three
// values that all lie above three others are High at any.
func kayenta(s *Series, t int) float64 {
	r := Kayenta(s.minutes(Guard-kayentaOffset, t-kayentaOffset), s.minutes(Guard, t))
	if r.MeanRatio < 1 || r.Estimate <= 0 {
		return math.Inf(-1)
	}
	return r.Excess
}

// KayentaOnce is one judgement of the whole hour, Kayenta's default: analysisIntervalMins is
// the lifetime unless it is set.
func KayentaOnce() Judge {
	return Judge{
		Name: "Kayenta, once", Setting: "98 % interval above a quarter of the shift, every metric critical; one judgement after an hour; control an hour earlier",
		Source: "NetflixACAJudge-v1.0 defaults; controlOffsetInMinutes 60",
		First:  Horizon, Every: 1, Last: Horizon,
		Limit: normalQuantile(1 - (1-kayentaConfidence)/2), strength: kayenta,
	}
}

// KayentaTenTimes judges every six minutes and stops at the first failure.
func KayentaTenTimes() Judge {
	j := KayentaOnce()
	j.Name = "Kayenta, 10 times"
	j.Setting = "the same, judged every 6 minutes over a growing window"
	j.Source = "NetflixACAJudge-v1.0 defaults; analysisIntervalMins 6"
	j.First, j.Every = 6, 6
	return j
}
