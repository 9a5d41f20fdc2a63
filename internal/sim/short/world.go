// Package short simulates services that nobody has history of, and counts how often the
// short tier is wrong about them, and how often right. The worlds are those that the tier was
// designed in, on seeds of its own. Nothing here is part of the product.
package short

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A World is a way in which services move when nothing is upgraded.
type World string

// The worlds of gauges, and of histograms.
const (
	AR3    World = "ar3"    // autocorrelation .3
	AR6    World = "ar6"    // autocorrelation .6
	T3     World = "t3"     // heavy tails
	Bucket World = "bucket" // quantiles that a histogram's bounds round
	Spikes World = "spikes" // endpoints, and the whole service, jump for some steps
	Drift  World = "drift"  // random walks

	Requests        World = "requests"         // histograms of few requests
	RequestsWalking World = "requests-walking" // likewise, with a random walk
	RequestsSpikes  World = "requests-spikes"  // likewise, with jumps
)

// Gauges and Histograms are all worlds of either kind.
var (
	gauges     = []World{AR3, AR6, T3, Bucket, Spikes, Drift}
	histograms = []World{Requests, RequestsWalking, RequestsSpikes}
)

// A Shape is how many endpoints there are, and how many steps before and after the upgrade.
type Shape struct{ Endpoints, Before, After int }

var (
	gaugeShapes     = []Shape{{8, 24, 3}, {20, 24, 2}, {33, 24, 2}, {30, 8, 2}, {30, 6, 2}}
	histogramShapes = []Shape{{32, 30, 8}, {20, 30, 8}, {12, 24, 8}}
)

// A Fault is what an upgrade does to some endpoints, the first ones of a case.
type Fault struct {
	Endpoints int
	Factor    float64 // of latency; 1 = none
	// Early: a random part of the last step before holds it, too. A scrape that shows the new
	// version also brings what it has served since the scrape before.
	Early bool
}

// mixed is by how much a log quantile rises when a share of the requests is slower by a
// factor, of latencies whose tail is a power law.
func mixed(share, factor float64) float64 {
	const exponent = 3
	return math.Log(1-share+share*math.Pow(factor, exponent)) / exponent
}

// A Case is one upgrade.
type Case struct {
	Series   []baseline.ShortSeries
	Signals  []rule.Signal
	Geometry baseline.Geometry
}

// newCase draws an upgrade. Gauges are ready-made p99, each with a count of errors beside it.
func newCase(rng *rand.Rand, w World, s Shape, f Fault) Case {
	c := Case{Geometry: baseline.Geometry{Before: s.Before, FirstLook: min(2, s.After), Horizon: s.After}}
	d := draw{rng, s}
	if slices.Contains(histograms, w) {
		c.Signals = []rule.Signal{{Kind: rule.Histogram, Quantile: 0.99, Unit: "s"}}
		c.Series = d.histograms(w, f)
		return c
	}
	c.Signals = []rule.Signal{{Kind: rule.Gauge, Unit: "s"}, {Kind: rule.Ratio, Unit: "1"}}
	c.Series = append(d.gauges(w, f), d.errors()...)
	return c
}

type draw struct {
	rng *rand.Rand
	Shape
}

func (d draw) steps() int { return d.Before + d.After }

func (d draw) uniform(low, high float64) float64 { return low + (high-low)*d.rng.Float64() }

func (d draw) name(e int) telemetry.Endpoint { return telemetry.NewEndpoint(fmt.Sprintf("e%02d", e)) }

// noise is AR(1) of variance 1.
func (d draw) noise(rho float64, innovation func() float64) []float64 {
	x := make([]float64, d.steps())
	last := innovation()
	for i := range x {
		last = rho*last + math.Sqrt(1-rho*rho)*innovation()
		x[i] = last
	}
	return x
}

// walk is a random walk.
func (d draw) walk(step float64) []float64 {
	x := make([]float64, d.steps())
	last := 0.0
	for i := range x {
		last += step * d.rng.NormFloat64()
		x[i] = last
	}
	return x
}

// student is t of 3 degrees of freedom, of variance 1.
func (d draw) student() float64 {
	var chi float64
	for range 3 {
		z := d.rng.NormFloat64()
		chi += z * z
	}
	return d.rng.NormFloat64() / math.Sqrt(chi/3) / math.Sqrt(3)
}

// spikes are jumps of a log level: rate of starts per step.
func (d draw) spikes(rate float64) []float64 {
	x := make([]float64, d.steps())
	for i := range x {
		if d.rng.Float64() >= rate {
			continue
		}
		height, length := d.uniform(.3, 1.5), 1
		for d.rng.Float64() >= .6 {
			length++
		}
		if d.rng.Float64() < .3 {
			length++
		}
		for k := i; k < min(len(x), i+length); k++ {
			x[k] = max(x[k], height)
		}
	}
	return x
}

// early is the part of the last step before that a fault is in.
func (d draw) early(f Fault) float64 {
	if !f.Early {
		return 0
	}
	return d.rng.Float64()
}

func (d draw) gauges(w World, f Fault) []baseline.ShortSeries {
	rho, innovation, spread, tail := .3, d.rng.NormFloat64, .15, .5
	switch w {
	case AR6:
		rho = .6
	case T3:
		innovation = d.student
	case Bucket:
		spread, tail = .5, .3
	}
	common := d.noise(rho, innovation)
	shared := make([]float64, d.steps()) // beside the noise
	switch w {
	case Spikes:
		shared = d.spikes(1. / 40)
	case Drift:
		shared = d.walk(.02)
	}
	early := d.early(f)
	out := make([]baseline.ShortSeries, d.Endpoints)
	for e := range out {
		level := d.uniform(math.Log(.005), 0)
		sd := spread * math.Exp(tail*d.rng.NormFloat64())
		own := d.noise(rho, innovation)
		beside := make([]float64, d.steps())
		switch w {
		case Spikes:
			beside = d.spikes(1. / 25)
		case Drift:
			beside = d.walk(.03)
		}
		s := baseline.ShortSeries{Endpoint: d.name(e), First: -d.Before}
		for i := range d.steps() {
			y := level + sd*(math.Sqrt(.6)*own[i]+math.Sqrt(.4)*common[i]) + shared[i] + beside[i]
			if i >= d.Before && e < f.Endpoints {
				y += math.Log(f.Factor)
			}
			if i == d.Before-1 && e < f.Endpoints {
				y += mixed(early, f.Factor)
			}
			if w == Bucket {
				y = math.Round(y/math.Log(2.2))*math.Log(2.2) + .01*d.rng.NormFloat64()
			}
			value := math.Exp(y)
			if d.rng.Float64() < .03 {
				value = math.NaN()
			}
			s.Events = append(s.Events, value)
		}
		out[e] = s
	}
	return out
}

// errors are counts of failed requests; the service bursts in every fourth case.
func (d draw) errors() []baseline.ShortSeries {
	bursts := d.rng.IntN(4) == 0
	out := make([]baseline.ShortSeries, d.Endpoints)
	for e := range out {
		rate := math.Exp(d.uniform(math.Log(4), math.Log(300)))
		load, wander := d.noise(.3, d.rng.NormFloat64), d.noise(.4, d.rng.NormFloat64)
		base := 0.
		if d.rng.IntN(2) == 0 {
			base = math.Exp(math.Log(.005) + 1.2*d.rng.NormFloat64())
		}
		s := baseline.ShortSeries{Endpoint: d.name(e), Signal: 1, First: -d.Before}
		left, burst := 0, 0.
		for i := range d.steps() {
			n := d.poisson(rate * math.Exp(.2*load[i]))
			share := min(base*math.Exp(.4*wander[i]), .9)
			if bursts && left == 0 && d.rng.Float64() < 1./60 {
				left, burst = 1+d.rng.IntN(2), d.uniform(.03, .3)
			}
			if left > 0 {
				left--
				share = max(share, burst)
			}
			s.Events = append(s.Events, float64(d.betaBinomial(n, share, .01)))
			s.Trials = append(s.Trials, float64(n))
		}
		out[e] = s
	}
	return out
}

// bounds are those that Prometheus' client libraries have by default, seconds.
var bounds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// histograms have few requests: .4 to 20 a step. A fault is in the ten busiest endpoints.
func (d draw) histograms(w World, f Fault) []baseline.ShortSeries {
	rates := make([]float64, d.Endpoints)
	for e := range rates {
		rates[e] = math.Exp(d.uniform(math.Log(.4), math.Log(20)))
	}
	faulty := d.busiest(rates, f.Endpoints)
	common, load := d.noise(.6, d.rng.NormFloat64), d.noise(.3, d.rng.NormFloat64)
	shared := make([]float64, d.steps()) // beside the noise
	if w == RequestsSpikes {
		shared = d.spikes(1. / 40)
	}
	early := d.early(f)
	out := make([]baseline.ShortSeries, d.Endpoints)
	for e := range out {
		mu := d.uniform(math.Log(.01), math.Log(.5))
		own := d.noise(.6, d.rng.NormFloat64)
		beside := make([]float64, d.steps())
		switch w {
		case RequestsWalking:
			beside = d.walk(.03)
		case RequestsSpikes:
			beside = d.spikes(1. / 25)
		}
		slow := math.Exp(d.uniform(math.Log(.02), math.Log(.3)))
		s := baseline.ShortSeries{Endpoint: d.name(e), First: -d.Before, Bounds: bounds}
		s.Buckets = make([]telemetry.Values, len(bounds)+1)
		for b := range s.Buckets {
			s.Buckets[b] = make(telemetry.Values, d.steps())
		}
		for i := range d.steps() {
			share := slow
			if d.rng.Float64() < .15 {
				share = min(.9, 4*slow)
			}
			at := mu + .10*common[i] + .15*own[i] + shared[i] + beside[i]
			if i >= d.Before && faulty[e] {
				at += math.Log(f.Factor)
			}
			for range d.poisson(rates[e] * math.Exp(.3*load[i])) {
				y := at + .5*d.rng.NormFloat64()
				if d.rng.Float64() < share {
					y += 1.5
				}
				if early > 0 && i == d.Before-1 && faulty[e] && d.rng.Float64() < early {
					y += math.Log(f.Factor)
				}
				latency := math.Exp(y)
				for b := range s.Buckets {
					if b == len(bounds) || latency <= bounds[b] {
						s.Buckets[b][i]++
					}
				}
			}
		}
		out[e] = s
	}
	return out
}

// busiest picks n of the ten endpoints with the most requests.
func (d draw) busiest(rates []float64, n int) map[int]bool {
	order := d.rng.Perm(len(rates))
	picked := map[int]bool{}
	for _, e := range order {
		busier := 0
		for _, r := range rates {
			if r > rates[e] {
				busier++
			}
		}
		if busier < 10 && len(picked) < n {
			picked[e] = true
		}
	}
	return picked
}

// poisson counts arrivals one by one; means here are at most a few hundred.
func (d draw) poisson(mean float64) int {
	n := 0
	for left := mean - d.rng.ExpFloat64(); left > 0; left -= d.rng.ExpFloat64() {
		n++
	}
	return n
}

// betaBinomial is a number of n, each with probability share, correlated by rho within a step.
func (d draw) betaBinomial(n int, share, rho float64) int {
	if !(share > 0) {
		return 0
	}
	weight := 1/rho - 1
	a, b := d.gamma(share*weight), d.gamma((1-share)*weight)
	p := a / (a + b)
	k := 0
	for range n {
		if d.rng.Float64() < p {
			k++
		}
	}
	return k
}

// gamma is a gamma variate of a shape and scale 1. (Marsaglia and Tsang 2000)
func (d draw) gamma(shape float64) float64 {
	if shape < 1 {
		return d.gamma(shape+1) * math.Pow(d.rng.Float64(), 1/shape)
	}
	a := shape - 1./3
	c := 1 / math.Sqrt(9*a)
	for {
		x := d.rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(d.rng.Float64()) < .5*x*x+a-a*v+a*math.Log(v) {
			return a * v
		}
	}
}
