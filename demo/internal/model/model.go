// Package model is what the made-up shop is like: its endpoints, how busy they are, how long
// they work, how often their third party fails. The history that is generated and the shop that
// runs draw from it alike. Nothing here reads a clock or a network.
package model

import (
	"math"
	"math/rand/v2"
	"time"
)

// Tick is the time step of everything that varies, and the scrape interval.
const Tick = 250 * time.Millisecond

// Attempts is how often the third party is asked at most for one request.
const Attempts = 5

// FixedBackoff is how long the old strategy waits before it asks the third party again.
const FixedBackoff = 200 * time.Millisecond

// Bounds are the upper bounds of the latency histogram, seconds, without +Inf. A quarter of the
// requests are slower than the bound above their endpoint's median, one in 75 slower than 0.6 s.
var Bounds = []float64{0.05, 0.1, 0.15, 0.2, 0.3, 0.6, 1.2, 2.5, 5}

// An Endpoint is one of the shop's ten.
type Endpoint struct {
	Method, Route string

	Rate   float64 // requests per second, on average
	Median float64 // of the usual work, seconds
	Slow   float64 // share of requests whose work is slow
	Fail   float64 // share of attempts that the third party refuses

	// Behind says that the backoff of this endpoint is chosen by the flag; Locks, that its third
	// party locks a payment that is asked about again too early (package shop, "bank").
	Behind, Locks bool
}

// Endpoints are the shop's: four behind the flag, six controls.
//
// Rate * Slow and Rate * Fail are about the same for all ten, so that each metric of all ten has
// placebos of the same count class: with ten endpoints and three metrics an upgrade can be
// confirmed at 0.01 from 2,999 pooled placebos on, and one endpoint has 490.
var Endpoints = []Endpoint{
	{Method: "POST", Route: "/v1/payments/authorize", Rate: 62, Median: 0.104, Slow: 0.0175, Fail: 0.076, Behind: true, Locks: true},
	{Method: "POST", Route: "/v1/payments/capture", Rate: 68, Median: 0.146, Slow: 0.0180, Fail: 0.058, Behind: true},
	{Method: "POST", Route: "/v1/payments/refund", Rate: 66, Median: 0.148, Slow: 0.0180, Fail: 0.060, Behind: true},
	{Method: "GET", Route: "/v1/payments/{id}", Rate: 84, Median: 0.108, Slow: 0.0150, Fail: 0.048, Behind: true},
	{Method: "GET", Route: "/v1/orders/{id}", Rate: 88, Median: 0.106, Slow: 0.0145, Fail: 0.046},
	{Method: "POST", Route: "/v1/orders", Rate: 70, Median: 0.150, Slow: 0.0175, Fail: 0.057},
	{Method: "GET", Route: "/v1/catalog", Rate: 92, Median: 0.108, Slow: 0.0140, Fail: 0.044},
	{Method: "GET", Route: "/v1/stock/{sku}", Rate: 90, Median: 0.110, Slow: 0.0140, Fail: 0.045},
	{Method: "POST", Route: "/v1/cart", Rate: 80, Median: 0.109, Slow: 0.0160, Fail: 0.051},
	{Method: "POST", Route: "/v1/shipping/quote", Rate: 76, Median: 0.147, Slow: 0.0165, Fail: 0.053},
}

// Conditions are how one endpoint is at one moment.
type Conditions struct {
	Rate   float64 // requests per second
	Median float64 // of the usual work, seconds
	Slow   float64 // share, 0 to 1
	Fail   float64 // share, 0 to 1
}

// Work draws how long the shop works on one request before it asks the third party.
func (c Conditions) Work(r *rand.Rand) time.Duration {
	seconds := c.Median * math.Exp(usualSpread*r.NormFloat64())
	if r.Float64() < c.Slow {
		seconds = slowMedian * math.Exp(slowSpread*r.NormFloat64())
	}
	return time.Duration(min(seconds, longest) * float64(time.Second))
}

// Fails draws whether the third party refuses one attempt.
func (c Conditions) Fails(r *rand.Rand) bool { return r.Float64() < c.Fail }

// The two lognormal kinds of work. Four in five of the slow kind are above 0.6 s and a third
// above 1.2 s, so that 0.6 s is the bound nearest 1 % for every endpoint.
const (
	usualSpread = 0.4 // standard deviation of the logarithm
	slowMedian  = 0.9 // seconds
	slowSpread  = 0.5
	longest     = 4.0 // seconds, of any work
)

// Weather is the noise that all requests of a while share: what makes counts more variable than
// independent requests would be. It goes on tick by tick.
type Weather struct {
	rand    *rand.Rand
	shop    swings
	own     []swings
	bursts  []burst
	current []Conditions
}

// swings are the slow random moves of rate, work, slow share and refusals, in logarithms.
type swings struct{ rate, work, slow, fail float64 }

// step moves x on by one tick as a first-order autoregression with standard deviation sd and
// correlation time tau seconds.
func step(r *rand.Rand, x, sd, tau float64) float64 {
	a := math.Exp(-Tick.Seconds() / tau)
	return a*x + sd*math.Sqrt(1-a*a)*r.NormFloat64()
}

func (s *swings) step(r *rand.Rand) {
	s.rate = step(r, s.rate, 0.04, 60)
	s.work = step(r, s.work, 0.015, 30)
	s.slow = step(r, s.slow, 0.10, 20)
	s.fail = step(r, s.fail, 0.08, 20)
}

// A burst is a while in which one endpoint is worse than usual: every ten minutes on average, for
// four to ten seconds.
type burst struct {
	ticks  int // left
	height float64
}

func (b *burst) step(r *rand.Rand) {
	if b.ticks > 0 {
		b.ticks--
		return
	}
	b.height = 0
	if r.Float64() < Tick.Seconds()/600 {
		b.ticks = int((4 + 6*r.Float64()) / Tick.Seconds())
		b.height = 0.15 + 0.25*r.Float64()
	}
}

// NewWeather returns the weather of a seed.
func NewWeather(seed uint64) *Weather {
	w := &Weather{
		rand: rand.New(rand.NewPCG(seed, 1)),
		own:  make([]swings, len(Endpoints)), bursts: make([]burst, len(Endpoints)),
		current: make([]Conditions, len(Endpoints)),
	}
	for range int(10 * time.Minute / Tick) { // ten correlation times: the start is forgotten
		w.Step()
	}
	return w
}

// Step goes on by one Tick.
func (w *Weather) Step() {
	w.shop.step(w.rand)
	for i, e := range Endpoints {
		own, b := &w.own[i], &w.bursts[i]
		own.step(w.rand)
		b.step(w.rand)
		w.current[i] = Conditions{
			Rate:   e.Rate * math.Exp(w.shop.rate+own.rate),
			Median: e.Median * math.Exp(w.shop.work+own.work+0.1*b.height),
			Slow:   e.Slow * math.Exp(w.shop.slow+own.slow+b.height),
			Fail:   e.Fail * math.Exp(w.shop.fail+own.fail+b.height),
		}
	}
}

// Of returns the conditions of Endpoints[i] now.
func (w *Weather) Of(i int) Conditions { return w.current[i] }

// Poisson draws a count with the given mean, by multiplying uniforms (Knuth 1969): fine for means
// of up to some hundred, and a tick has about twenty requests.
func Poisson(r *rand.Rand, mean float64) int {
	limit, n := math.Exp(-mean), 0
	for p := r.Float64(); p > limit; p *= r.Float64() {
		n++
	}
	return n
}
