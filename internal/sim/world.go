// Package sim makes telemetry of services that do not exist, with a known truth: what a
// detector is calibrated and compared on.
//
// A World says how services are; a Service has a week of history; a Deploy is an upgrade of it
// with an Effect, or with none. Everything is drawn from seeded streams: the same world, run,
// service, time and effect give the same numbers, whatever else was drawn before. Latent
// courses (load, latency, spikes, restarts) live on a grid of 30 s; what is measured are
// counts per minute. All deploys of a service share its latents and its history, and each
// draws the counts of its own window anew. (docs/statistics.md, "The generator"; its
// constants, and how they were measured to behave, are those of research section 6.)
//
// Nothing here knows a verdict, and nothing in the product imports it.
package sim

import (
	"math"
	"time"
)

// stepSeconds is the grid of the latent courses; two of them make a minute of counts.
const stepSeconds = 30.0

const (
	stepsPerDay   = 2880
	minutesPerDay = 1440
)

// A World is how services are. The zero value is none; start from NewWorld.
type World struct {
	Run uint64 // seeds the streams, together with the number of a service

	Rates  []float64 // mean requests per second of each endpoint; shape (endpoints)
	Behind int       // endpoints 0..Behind-1 are behind the flag, the others are siblings
	Days   int       // of history and deploys; the deploys are on the last one

	Bounds   []float64 // finite bucket bounds of the latency histogram, seconds, ascending
	Quantile float64   // that the tail metric is chosen near, and the truth is told at

	Warm       float64 // time constant of the warm-up after a deploy, seconds
	SpikyEvery int     // every n-th service has 8 times as many spikes; 0 = none
	Job        bool    // a daily job from 14:10 to 14:30: latency +25 %, retries x1.5
	// Capacity is the load, in multiples of the mean, at which an endpoint saturates: latency
	// and the odds of a retry grow as 1/(1-u) with the utilisation u. 0 = never.
	Capacity float64
	Level    bool // also draw a gauge: the median latency of the moment, seconds

	From, To int // steps around a deploy that its window covers: [From, To)
	Faults   Faults
}

// NewWorld returns the world of the calibration: 10 endpoints of rps requests per second each,
// five of them behind the flag, eight days, and the buckets that Prometheus clients have by
// default. A deploy's window is the hour before it and the hour after.
func NewWorld(run uint64, rps float64) World {
	w := World{Run: run, Behind: 5, Days: 8, Bounds: Classic(), Quantile: 0.99, Warm: 75, From: -60, To: 60}
	for range 10 {
		w.Rates = append(w.Rates, rps)
	}
	return w
}

// Classic returns the default bucket bounds of Prometheus client libraries, seconds.
func Classic() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// Native returns the bounds of native histograms of schema 3, seconds: 2^(j/8), here from
// 4 ms to 16 s.
func Native() []float64 {
	var b []float64
	for j := -64; j <= 32; j++ {
		b = append(b, math.Exp2(float64(j)/8))
	}
	return b
}

// dayZero is midnight UTC of the first day of every world, a Monday.
func dayZero() time.Time { return time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) }

// Deploys are the minutes, from the world's beginning, at which calibration deploys: 03:00,
// 09:00, 14:00 and 20:00 of the last day; with a job only 14:05, five minutes before it.
func (w World) Deploys() []int {
	day := (w.Days - 1) * minutesPerDay
	if w.Job {
		return []int{day + 14*60 + 5}
	}
	return []int{day + 3*60, day + 9*60, day + 14*60, day + 20*60}
}
