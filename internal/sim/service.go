package sim

import (
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// The signals of every service, as indices of its rule's signals.
const (
	LatencySignal = iota // histogram: tail and body
	RetrySignal          // ratio
	LevelSignal          // gauge, if the world has it
)

// bodyQuantile is what the body metric is told at: 20 % of requests are slower.
const bodyQuantile = 0.8

// A Service is one service of a World, with its history. It never changes: deploys may be drawn
// from several goroutines at once.
type Service struct {
	World  World
	Number int
	Bounds []baseline.Bounds // that tail and body count beyond, from history; shape (endpoints)

	courses []course
	drawer  *drawer
	faults  schedule
	history []series
}

// series are the measured steps of one endpoint. Trials are those of every ratio.
type series struct {
	trials, tail, body, retries, level telemetry.Values // nil where the world has none
}

// Service draws service number of w: its latents, and the history that all its deploys share.
func (w World) Service(number int) *Service {
	minutes := w.Days * minutesPerDay
	s := &Service{
		World: w, Number: number, drawer: newDrawer(w.Bounds),
		courses: w.courses(number),
		faults:  w.Faults.schedule(w, number),
	}
	c := newCounts(len(w.Bounds), minutes)
	for e := range s.courses {
		s.drawer.draw(stream(w.Run, uint64(number), streamHistory, uint64(e)), &s.courses[e], &c)
		lost := s.faults.lose(stream(w.Run, uint64(number), streamFaults, uint64(e)), e, 0, &c)
		s.Bounds = append(s.Bounds, w.chooseBounds(&c, lost))
		s.history = append(s.history, s.measured(s.Bounds[e], &c, lost, s.courses[e].mu))
	}
	return s
}

// chooseBounds picks an endpoint's bounds from the days before the deploys, as the product does.
func (w World) chooseBounds(c *counts, lost []bool) baseline.Bounds {
	row := telemetry.CountRow{Totals: make([]float64, len(w.Bounds)+1)}
	row.Bounds = append(append(row.Bounds, w.Bounds...), math.Inf(1))
	for m := range (w.Days - 1) * minutesPerDay {
		if lost != nil && lost[m] {
			continue
		}
		n := float64(c.trials[m])
		row.Totals[len(w.Bounds)] += n
		for j := range w.Bounds {
			row.Totals[j] += n - float64(c.beyond[j][m])
		}
	}
	var b baseline.Bounds
	b.Tail, b.Body = baseline.ChooseBounds(row, w.Quantile)
	return b
}

// measured are the counts of an endpoint beyond its bounds; lost minutes are missing.
func (s *Service) measured(b baseline.Bounds, c *counts, lost []bool, mu []float32) series {
	values := func(of func(m int) float64) telemetry.Values {
		out := make(telemetry.Values, len(c.trials))
		for m := range out {
			out[m] = of(m)
			if lost != nil && lost[m] {
				out[m] = math.NaN()
			}
		}
		return out
	}
	counted := func(of []uint32) telemetry.Values {
		return values(func(m int) float64 { return float64(of[m]) })
	}
	x := series{trials: counted(c.trials), retries: counted(c.retries)}
	for j, bound := range s.World.Bounds {
		switch bound {
		case b.Tail:
			x.tail = counted(c.beyond[j])
		case b.Body:
			x.body = counted(c.beyond[j])
		}
	}
	if s.World.Level {
		x.level = values(func(m int) float64 { return math.Exp(float64(mu[2*m+1])) })
	}
	return x
}

// Endpoint is the name of endpoint e: the service and its place.
func (s *Service) Endpoint(e int) telemetry.Endpoint {
	return telemetry.NewEndpoint(fmt.Sprintf("s%05d", s.Number), fmt.Sprintf("e%02d", e))
}

// renamed is the name that endpoint e gets from an upgrade that renames it.
func (s *Service) renamed(e int) telemetry.Endpoint {
	return telemetry.NewEndpoint(fmt.Sprintf("s%05d", s.Number), fmt.Sprintf("e%02db", e))
}

// Upgrade is a deploy at minute at, rolled out in no time.
func (s *Service) Upgrade(at int) telemetry.Upgrade {
	t := dayZero().Add(time.Duration(at) * time.Minute)
	return telemetry.Upgrade{Service: fmt.Sprintf("s%05d", s.Number), Started: t, At: t, From: "1", To: "2", FoundBy: "flag"}
}

// History returns the tracks of all endpoints before a deploy at minute at, in steps around
// it, up to its window: by endpoint, then tail, body, retry, level. A metric without a usable
// bound has no track, nor has an endpoint that comes with the upgrade. The values are shared
// by all that History returns: they must not be changed.
func (s *Service) History(at int) []telemetry.Track {
	var out []telemetry.Track
	for e, h := range s.history {
		if !s.World.Faults.appears(s.World, e) {
			out = append(out, s.tracks(s.Endpoint(e), s.Bounds[e], h, -at, at+s.World.From)...)
		}
	}
	return out
}

// tracks are the first n steps of x as the tracks of an endpoint.
func (s *Service) tracks(name telemetry.Endpoint, b baseline.Bounds, x series, first, n int) []telemetry.Track {
	var out []telemetry.Track
	add := func(signal int, m telemetry.Metric, bound float64, events, trials telemetry.Values) {
		if events == nil {
			return
		}
		t := telemetry.Track{Endpoint: name, Signal: signal, Metric: m, Bound: bound, First: first, Events: events[:n:n]}
		if trials != nil {
			t.Trials = trials[:n:n]
		}
		out = append(out, t)
	}
	add(LatencySignal, telemetry.Tail, b.Tail, x.tail, x.trials)
	add(LatencySignal, telemetry.Body, b.Body, x.body, x.trials)
	add(RetrySignal, telemetry.Retry, 0, x.retries, x.trials)
	add(LevelSignal, telemetry.Level, 0, x.level, nil)
	return out
}

// effectHash names the stream of an effect.
func effectHash(e Effect) uint64 {
	h := fnv.New64a()
	h.Write([]byte(e.String()))
	return h.Sum64()
}
