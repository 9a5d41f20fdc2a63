package sim

import "math"

// How services move by themselves. Standard deviations are of logs or logits, times are
// seconds, rates are per second.
const (
	loadDaily, loadHalfDaily = 0.6, 0.15
	loadSD, loadTau          = 0.15, 600
	loadDaySD                = 0.05

	latencyPerLoad              = 0.20
	sharedLatencySD, sharedTau  = 0.05, 480
	ownLatencySD, ownLatencyTau = 0.03, 300
	driftLatencySD, driftTau    = 0.03, 4 * 3600
	dayLatencySD                = 0.03
	lowestMedian, highestMedian = 0.02, 0.4
	slowPerLoad                 = 0.30
	slowShareSD, slowTau        = 0.25, 600
	slowPerSharedLatency        = 1.8
	spikesPerService            = 1.0 / (4 * 3600)
	spikesPerEndpoint           = 1.0 / (8 * 3600)
	spikyFactor                 = 8
	spikeMean                   = 180
	spikeShortest, spikeLongest = 60, 480
	spikeLow, spikeHigh         = 0.2, 1.0
	latencyPerSpike             = 0.5
	restarts                    = 1.0 / (12 * 3600)
	restartHeight, restartTau   = 0.15, 90
	restartSteps                = 20
	warmHeight, retryPerWarm    = 0.40, 0.5
	retryBase                   = 0.01
	retrySD, retryTau           = 0.25, 300
	retryDriftSD                = 0.10
	retryPerLoad                = 0.30
	retryOverdispersion         = 0.0005
	jobStart, jobMinutes        = 14*60 + 10, 20 // minutes of the day
	jobLatency, jobRetry        = 1.25, 1.5
	highestUtilisation          = 0.98
)

// A course is what one endpoint is like, step by step of 30 s.
type course struct {
	load  []float32 // requests expected in the step
	mu    []float32 // log of the bulk's median latency, seconds
	slow  []float32 // logit of the share of slow requests
	retry []float32 // logit of the retry rate

	slowed []float32 // share of requests slowed by an effect; nil = none
	by     float64   // log of the factor that they are slowed by
	more   []float32 // log of the factor on the retry rate; nil = none
}

func newCourse(steps int) course {
	v := make([]float32, 4*steps)
	return course{
		load: v[:steps:steps], mu: v[steps : 2*steps : 2*steps],
		slow: v[2*steps : 3*steps : 3*steps], retry: v[3*steps:],
	}
}

// courses draws the latents of a service: one course per endpoint.
func (w World) courses(service int) []course {
	r := stream(w.Run, uint64(service), streamLatents)
	steps := w.Days * stepsPerDay
	rate := 1.0
	if w.SpikyEvery > 0 && service%w.SpikyEvery == 0 {
		rate = spikyFactor
	}

	// What all endpoints of the service share.
	dev := make([]float64, steps)   // log of the load over its mean
	lat := make([]float64, steps)   // log-latency
	retry := make([]float64, steps) // logit of the retry rate
	spike := spikes(r, steps, rate*spikesPerService)
	warm := make([]float64, steps) // after restarts
	phase := r.uniform(0, 24)
	load, latency, again := r.ar1(loadSD, loadTau), r.ar1(sharedLatencySD, sharedTau), r.ar1(retrySD, retryTau)
	day := 0.0
	for i := range steps {
		if i%stepsPerDay == 0 {
			day = loadDaySD * r.NormFloat64()
		}
		h := float64(i)*stepSeconds/3600 - phase
		dev[i] = loadDaily*math.Cos(2*math.Pi*h/24) + loadHalfDaily*math.Cos(4*math.Pi*(h-3)/24) +
			day + math.Sqrt(0.8)*load.next(r)
		lat[i] = latency.next(r)
		retry[i] = math.Sqrt(0.5) * again.next(r)
	}
	for range r.poisson(restarts * float64(steps) * stepSeconds) {
		at := r.IntN(steps)
		for k := range min(restartSteps, steps-at) {
			warm[at+k] += restartHeight * math.Exp(-float64(k)*stepSeconds/restartTau)
		}
	}

	out := make([]course, len(w.Rates))
	for e := range out {
		out[e] = newCourse(steps)
		c := &out[e]
		own := spikes(r, steps, rate*spikesPerEndpoint)
		median := r.uniform(math.Log(lowestMedian), math.Log(highestMedian))
		load, latency, drift := r.ar1(loadSD, loadTau), r.ar1(ownLatencySD, ownLatencyTau), r.ar1(driftLatencySD, driftTau)
		slow, again, againDrift := r.ar1(slowShareSD, slowTau), r.ar1(retrySD, retryTau), r.ar1(retryDriftSD, driftTau)
		day := 0.0
		for i := range steps {
			if i%stepsPerDay == 0 {
				day = dayLatencySD * r.NormFloat64()
			}
			d := dev[i] + math.Sqrt(0.2)*load.next(r)
			sp := spike[i] + own[i]
			mu := median + latencyPerLoad*d + lat[i] + latency.next(r) + drift.next(r) + day + latencyPerSpike*sp + warm[i]
			lr := logit(retryBase) + retry[i] + math.Sqrt(0.5)*again.next(r) + againDrift.next(r) + retryPerLoad*d + sp
			if minute := i / 2 % minutesPerDay; w.Job && minute >= jobStart && minute < jobStart+jobMinutes {
				mu += math.Log(jobLatency)
				lr += math.Log(jobRetry)
			}
			relative := math.Exp(d)
			wait := w.waiting(relative)
			c.load[i] = float32(w.Rates[e] * stepSeconds * relative)
			c.mu[i] = float32(mu + wait)
			c.slow[i] = float32(logit(slowAll) + slowPerLoad*d + slow.next(r) + slowPerSharedLatency*lat[i] + sp)
			c.retry[i] = float32(lr + wait)
		}
	}
	return out
}

// waiting is what saturation adds to log-latency and to the logit of the retry rate, at a
// load in multiples of the mean: -ln(1 - u), the growth of the time in a queue with the
// utilisation u = load / Capacity, which is held below 0.98.
func (w World) waiting(load float64) float64 {
	if w.Capacity == 0 {
		return 0
	}
	return -math.Log1p(-min(load/w.Capacity, highestUtilisation))
}

// spikes draws short troubles: where they overlap, the highest counts.
func spikes(r sampler, steps int, rate float64) []float64 {
	out := make([]float64, steps)
	for range r.poisson(rate * float64(steps) * stepSeconds) {
		at := r.IntN(steps)
		length := int(min(max(spikeMean*r.ExpFloat64(), spikeShortest), spikeLongest) / stepSeconds)
		height := r.uniform(spikeLow, spikeHigh)
		for i := at; i < min(at+length, steps); i++ {
			out[i] = max(out[i], height)
		}
	}
	return out
}
