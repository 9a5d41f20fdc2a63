package sim

import "slices"

// Faults are how measuring goes wrong, at the level of counts. They are for robustness: the
// calibration's worlds have none. Every minute is hit or not in the latents' time, so that
// history and all windows of a service agree.
type Faults struct {
	// Resets, per day and endpoint: the process restarts, and a uniform share of the step's
	// increments is never scraped. The upgrade restarts it, too.
	Resets float64
	// Pods behind every endpoint, whose label churns: each is replaced once a day on average,
	// and its new series gives up to 1/Pods of a step's increments away with its first sample.
	// The upgrade replaces all of them. 0 = no churn.
	Pods int
	// Outages, per day and service: no scrape for 1 to 10 steps.
	Outages float64
	// Lost is the share of an endpoint's steps that are missing one by one.
	Lost float64
	// LostAfter is the share of an endpoint's steps after the upgrade that are missing besides.
	LostAfter float64

	// Appear is how many endpoints come with the upgrade: the last of those behind the flag.
	Appear int
	// Rename is how many endpoints get a new label value from the upgrade: the first ones.
	Rename int
}

// appears reports whether an endpoint comes with the upgrade.
func (f Faults) appears(w World, e int) bool { return e < w.Behind && e >= w.Behind-f.Appear }

// any reports whether f loses anything.
func (f Faults) any() bool { return f.Resets > 0 || f.Pods > 0 || f.Outages > 0 || f.Lost > 0 }

const longestOutage = 10 // steps

// A schedule is what is lost of a service, in the latents' minutes; empty without faults.
type schedule struct {
	missing [][]bool    // shape (endpoints, minutes)
	share   [][]float32 // of the minute's increments that is never seen
}

func (f Faults) schedule(w World, service int) schedule {
	var s schedule
	if !f.any() {
		return s
	}
	minutes := w.Days * minutesPerDay
	r := stream(w.Run, uint64(service), streamFaults)
	out := make([]bool, minutes)
	for range r.poisson(f.Outages * float64(w.Days)) {
		at := r.IntN(minutes)
		end := min(at+1+r.IntN(longestOutage), minutes)
		for m := at; m < end; m++ {
			out[m] = true
		}
	}
	for range w.Rates {
		missing, share := slices.Clone(out), make([]float32, minutes)
		for range r.poisson(f.Resets * float64(w.Days)) {
			share[r.IntN(minutes)] = float32(r.Float64())
		}
		for range r.poisson(float64(f.Pods * w.Days)) {
			share[r.IntN(minutes)] = float32(r.Float64() / float64(f.Pods))
		}
		if f.Lost > 0 {
			for m := range missing {
				missing[m] = missing[m] || r.Float64() < f.Lost
			}
		}
		s.missing, s.share = append(s.missing, missing), append(s.share, share)
	}
	return s
}

// lose takes from c, whose first minute is minute from, what is never seen, and returns which
// minutes are missing; nil if none can be.
func (s schedule) lose(r sampler, endpoint, from int, c *counts) []bool {
	if s.missing == nil {
		return nil
	}
	for m := range c.trials {
		if share := s.share[endpoint][from+m]; share > 0 {
			c.thin(r, m, 1-float64(share))
		}
	}
	return s.missing[endpoint][from : from+len(c.trials)]
}

// thin keeps each request of minute m with probability keep.
func (c *counts) thin(r sampler, m int, keep float64) {
	n, above := uint32(0), uint32(0) // beyond the next higher bound: kept, and drawn
	for _, beyond := range slices.Backward(c.beyond) {
		k := beyond[m]
		n += uint32(r.binomial(int(k-above), keep))
		beyond[m], above = n, k
	}
	c.trials[m] = n + uint32(r.binomial(int(c.trials[m]-above), keep))
	c.retries[m] = min(uint32(r.binomial(int(c.retries[m]), keep)), c.trials[m])
}
