package sim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Effect is what a deploy does. The zero value does nothing, but for the warm-up that every
// deploy brings. Sizes are after over before, minus 1.
type Effect struct {
	Whole   float64 // every request slower: 0.25 is x1.25
	Tail    float64 // rise of the 0.99-quantile, by slowing 2 % of the requests by TailFactor
	Retry   float64 // retries per request: 1 is twice as many
	Traffic float64 // requests, of all endpoints; latency and retries follow as they follow load

	Offset time.Duration // from the upgrade to the effect; negative = it was there before
	Ramp   time.Duration // in which it grows linearly; 0 = at once
	End    time.Duration // from the upgrade to the effect's end; 0 = it stays

	On []int // endpoints it acts on (Traffic: always on all); nil = those behind the flag
}

// String names e: "none", "w25" (Whole), "t50" (Tail), "r2" (Retry), "traffic2.5", and what
// differs from the usual. Effects of one name are the same effect.
func (e Effect) String() string {
	var words []string
	add := func(of float64, word string, value float64) {
		if of != 0 {
			words = append(words, word+strconv.FormatFloat(value, 'g', 6, 64))
		}
	}
	add(e.Whole, "w", 100*e.Whole)
	add(e.Tail, "t", 100*e.Tail)
	add(e.Retry, "r", 1+e.Retry)
	add(e.Traffic, "traffic", 1+e.Traffic)
	if len(words) == 0 {
		return "none"
	}
	add(float64(e.Offset), "from ", e.Offset.Minutes())
	add(float64(e.Ramp), "ramp ", e.Ramp.Minutes())
	add(float64(e.End), "until ", e.End.Minutes())
	if e.On != nil {
		words = append(words, fmt.Sprint("on ", e.On))
	}
	return strings.Join(words, " ")
}

// profile is how much of e there is at a time after the upgrade, minutes: 0 to 1.
func (e Effect) profile(minutes float64) float64 {
	if e.End != 0 && minutes >= e.End.Minutes() {
		return 0
	}
	since := minutes - e.Offset.Minutes()
	if e.Ramp > 0 {
		return min(max(since/e.Ramp.Minutes(), 0), 1)
	}
	if since >= 0 {
		return 1
	}
	return 0
}

// touches reports whether e acts on an endpoint other than through traffic.
func (e Effect) touches(w World, endpoint int) bool {
	if e.Whole == 0 && e.Tail == 0 && e.Retry == 0 {
		return false
	}
	if e.On == nil {
		return endpoint < w.Behind
	}
	return slices.Contains(e.On, endpoint)
}

// quantile is the change of the q-quantile under e in full, at mean load.
func (e Effect) quantile(q float64) float64 {
	change := 1 + e.Whole
	if e.Tail != 0 {
		change *= math.Exp(quantileAt(q, slowedShare, math.Log(TailFactor(e.Tail))) - quantileAt(q, 0, 0))
	}
	return change - 1
}

// around returns the course of one endpoint in the window of a deploy at minute at: from the
// latents c of the whole service's time, with the warm-up and with e.
func (e Effect) around(w World, c course, endpoint, at int) course {
	first, steps := 2*(at+w.From), 2*(w.To-w.From)
	out := newCourse(steps)
	touched := e.touches(w, endpoint)
	whole, traffic, retry := math.Log1p(e.Whole), math.Log1p(e.Traffic), math.Log1p(e.Retry)
	if touched && e.Tail != 0 {
		out.slowed = make([]float32, steps)
		out.by = math.Log(TailFactor(e.Tail))
	}
	if touched && e.Retry != 0 {
		out.more = make([]float32, steps)
	}
	for i := range steps {
		since := float64(w.From) + float64(i)/2 // minutes from the upgrade to the step's beginning
		part := e.profile(since + 0.25)
		more := traffic * part
		mu, re := float64(c.mu[first+i]), float64(c.retry[first+i])
		load := float64(c.load[first+i])
		if since >= 0 {
			warm := warmHeight * math.Exp(-since*60/w.Warm)
			mu += warm
			re += retryPerWarm * warm
		}
		if more != 0 {
			relative := load / (w.Rates[endpoint] * stepSeconds)
			wait := w.waiting(relative*math.Exp(more)) - w.waiting(relative)
			mu += latencyPerLoad*more + wait
			re += retryPerLoad*more + wait
			load *= math.Exp(more)
		}
		if touched {
			mu += whole * part
			if out.slowed != nil {
				out.slowed[i] = float32(slowedShare * part)
			}
			if out.more != nil {
				out.more[i] = float32(retry * part)
			}
		}
		out.load[i], out.mu[i], out.retry[i] = float32(load), float32(mu), float32(re)
		out.slow[i] = c.slow[first+i] + float32(slowPerLoad*more)
	}
	return out
}
