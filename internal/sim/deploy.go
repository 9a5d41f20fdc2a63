package sim

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Deploy is an upgrade of a service, what was measured around it, and the truth.
type Deploy struct {
	Service *Service
	Upgrade telemetry.Upgrade
	Effect  Effect

	Tracks []telemetry.Track // steps [World.From, World.To); order as in Service.History
	Truth  []Truth           // of each track

	shown []shown
}

// shown is one endpoint as a server shows it: by one name.
type shown struct {
	name   telemetry.Endpoint
	counts counts
	lost   []bool // nil where nothing is
}

// A Truth is what an effect really does to one track. Traffic, and what follows from it, is
// no change: a detector has to tell it apart.
type Truth struct {
	// Change is in the signal's own unit, after over before, minus 1, at full effect: of the
	// quantile (Tail: World.Quantile, Body: 0.8) at mean load, of the retry rate, of the level.
	Change float64
	// Exceedance is the same in the share of requests beyond the track's bound, as the mean of
	// the log-ratio over the window's steps at full effect; for retry and level it is Change.
	Exceedance float64
}

// Deploy draws the window around a deploy at minute at of the world's time; it panics if that
// reaches out of the world. Effects on the same deploy share the latents; their counts are
// drawn independently.
func (s *Service) Deploy(at int, e Effect) *Deploy {
	w := s.World
	if at+w.From < 0 || at+w.To > w.Days*minutesPerDay {
		panic(fmt.Sprintf("sim: the window of a deploy at minute %d is not within %d days", at, w.Days))
	}
	d := &Deploy{Service: s, Upgrade: s.Upgrade(at), Effect: e}
	parts := []uint64{w.Run, uint64(s.Number), streamWindow, uint64(at), effectHash(e)}
	for i := range s.courses {
		c := newCounts(len(w.Bounds), w.To-w.From)
		course := e.around(w, s.courses[i], i, at)
		s.drawer.draw(stream(append(parts, uint64(i))...), &course, &c)

		r := stream(append(parts, uint64(i), streamFaults)...)
		lost := s.faults.lose(r, i, at+w.From, &c)
		if w.Faults.Resets > 0 || w.Faults.Pods > 0 {
			c.thin(r, -w.From, r.Float64())
		}
		before := func(m int) bool { return m < -w.From }
		if p := w.Faults.LostAfter; p > 0 {
			lost = missing(lost, len(c.trials), func(m int) bool { return !before(m) && r.Float64() < p })
		}
		switch {
		case w.Faults.appears(w, i):
			d.show(shown{s.Endpoint(i), c, missing(lost, len(c.trials), before)}, i, baseline.Bounds{}, &course)
		case i < w.Faults.Rename:
			after := func(m int) bool { return !before(m) }
			d.show(shown{s.Endpoint(i), c, missing(lost, len(c.trials), after)}, i, s.Bounds[i], &course)
			d.show(shown{s.renamed(i), c, missing(lost, len(c.trials), before)}, i, baseline.Bounds{}, &course)
		default:
			d.show(shown{s.Endpoint(i), c, lost}, i, s.Bounds[i], &course)
		}
	}
	return d
}

// missing adds to lost the minutes that are also missing.
func missing(lost []bool, n int, also func(int) bool) []bool {
	out := make([]bool, n)
	copy(out, lost)
	for m := range out {
		out[m] = out[m] || also(m)
	}
	return out
}

// show adds one endpoint under one name, with the truth of its tracks.
func (d *Deploy) show(x shown, endpoint int, b baseline.Bounds, c *course) {
	d.shown = append(d.shown, x)
	s := d.Service
	for _, t := range s.tracks(x.name, b, s.measured(b, &x.counts, x.lost, c.mu), s.World.From, len(x.counts.trials)) {
		d.Tracks = append(d.Tracks, t)
		d.Truth = append(d.Truth, d.truth(t, endpoint, c))
	}
}

// truth compares the course of an endpoint with itself without the effect.
func (d *Deploy) truth(t telemetry.Track, endpoint int, c *course) Truth {
	w, e := d.Service.World, d.Effect
	if !e.touches(w, endpoint) {
		return Truth{}
	}
	switch t.Metric {
	case telemetry.Retry:
		return Truth{e.Retry, e.Retry}
	case telemetry.Level:
		return Truth{e.Whole, e.Whole}
	}
	quantile := w.Quantile
	if t.Metric == telemetry.Body {
		quantile = bodyQuantile
	}
	var sum, n float64
	log := math.Log(t.Bound)
	without := *c
	without.slowed = nil
	for i := range c.mu {
		since := float64(w.From) + float64(i)/2 + 0.25
		if since < 0 || e.profile(since) < 1 {
			continue
		}
		slow := expit(float64(c.slow[i]))
		with := d.Service.drawer.slower(c, i, log, slow)
		base := d.Service.drawer.slower(&without, i, log+math.Log1p(e.Whole), slow)
		if with > 0 && base > 0 {
			sum += math.Log(with / base)
			n++
		}
	}
	truth := Truth{Change: e.quantile(quantile)}
	if n > 0 {
		truth.Exceedance = math.Expm1(sum / n)
	}
	return truth
}

// Counts are the latency histograms of the window, as they would be read from Prometheus.
func (d *Deploy) Counts() *telemetry.Counts {
	w := d.Service.World
	out := &telemetry.Counts{Grid: telemetry.Grid{Origin: d.Upgrade.At, Step: time.Minute, First: w.From, Len: w.To - w.From}}
	bounds := append(slices.Clone(w.Bounds), math.Inf(1))
	for _, x := range d.shown {
		row := telemetry.CountRow{Endpoint: x.name, Bounds: bounds, Steps: make([][]float64, len(bounds))}
		for j := range row.Steps {
			row.Steps[j] = make([]float64, out.Grid.Len)
			for m, n := range x.counts.trials {
				switch {
				case x.lost != nil && x.lost[m]:
					row.Steps[j][m] = math.NaN()
				case j < len(w.Bounds):
					row.Steps[j][m] = float64(n - x.counts.beyond[j][m])
				default:
					row.Steps[j][m] = float64(n)
				}
			}
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// Buckets are the bucket sums of baseline and post window, the latter before step through.
func (d *Deploy) Buckets(g baseline.Geometry, through int) []baseline.Buckets {
	return baseline.SumBuckets(LatencySignal, d.Counts(), g, through)
}
