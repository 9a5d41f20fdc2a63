// Package compare runs driftwatch and the judges of other tools over the same simulated
// upgrades and sets their numbers side by side. It measures; nothing in the product imports it.
package compare

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/sim/peers"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Plan is what to simulate: services of 10 endpoints, half of them behind the flag, each
// upgraded four times a day in every Scenario.
type Plan struct {
	Run      uint64  // seed
	Services int     // numbers 0..Services-1 of the run
	Rate     float64 // mean requests per second of each endpoint
}

// A scenario is what an upgrade does.
type scenario struct {
	name   string
	effect sim.Effect
	signal int // that the effect raises; -1 for those that raise none
}

// early is how long before the upgrade a rise begins that no judge should blame it for.
const early = -10 * time.Minute

// scenarios are the columns: none first, then what must be found, what must not be blamed on the
// upgrade, and more traffic.
func scenarios() (all []scenario, effects, blames []int, healthy, traffic int) {
	add := func(name string, e sim.Effect, signal int) int {
		all = append(all, scenario{name, e, signal})
		return len(all) - 1
	}
	healthy = add("none", sim.Effect{}, -1)
	for _, e := range []struct {
		name   string
		effect sim.Effect
		signal int
	}{
		{"w25", sim.Effect{Whole: 0.25}, sim.LatencySignal},
		{"w50", sim.Effect{Whole: 0.5}, sim.LatencySignal},
		{"w100", sim.Effect{Whole: 1}, sim.LatencySignal},
		{"t50", sim.Effect{Tail: 0.5}, sim.LatencySignal},
		{"t100", sim.Effect{Tail: 1}, sim.LatencySignal},
		{"r1.5", sim.Effect{Retry: 0.5}, sim.RetrySignal},
		{"r2", sim.Effect{Retry: 1}, sim.RetrySignal},
		{"r5", sim.Effect{Retry: 4}, sim.RetrySignal},
	} {
		effects = append(effects, add(e.name, e.effect, e.signal))
	}
	blames = []int{
		add("early r2", sim.Effect{Retry: 1, Offset: early}, sim.RetrySignal),
		add("early w50", sim.Effect{Whole: 0.5, Offset: early}, sim.LatencySignal),
	}
	traffic = add("traffic x2.5", sim.Effect{Traffic: 1.5}, -1)
	return all, effects, blames, healthy, traffic
}

// signals are those that every judge hears, as indices of the simulated rule's signals.
const signals = 2

// heard is what every judge made of one upgrade in one scenario: shape (judges, endpoints x
// signals), the signals of an endpoint side by side.
type heard [][]peers.Hearing

// A serviceResult is what every judge made of one service: shape (upgrades, scenarios).
type serviceResult [][]heard

// Measure runs plan on all processors and calls progress, if it is not nil, after each
// service, from one goroutine at a time. The result depends on plan alone.
func Measure(plan Plan, progress func(done int)) *Table {
	world := sim.NewWorld(plan.Run, plan.Rate)
	judges := append(peers.LineUp(), peers.NegativeControls()...)
	results := make([]serviceResult, plan.Services)

	numbers := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range numbers {
				r := judgeService(world, n, judges)
				mu.Lock()
				results[n] = r
				if done++; progress != nil {
					progress(done)
				}
				mu.Unlock()
			}
		})
	}
	for n := range plan.Services {
		numbers <- n
	}
	close(numbers)
	wg.Wait()
	return newTable(plan, world, judges, results)
}

func judgeService(world sim.World, number int, judges []peers.Judge) serviceResult {
	service := world.Service(number)
	all, _, _, _, _ := scenarios()
	var out serviceResult
	for _, at := range world.Deploys() {
		own := newDriftwatch(service, at)
		var before [peers.Earlier][]*peers.Series
		for day := range before {
			before[day] = seriesOf(service.Deploy(at-(day+1)*24*60, sim.Effect{}))
		}
		upgrade := make([]heard, len(all))
		for i, s := range all {
			deploy := service.Deploy(at, s.effect)
			h := heard{own.hear(deploy)}
			series := seriesOf(deploy)
			for k, x := range series {
				for _, b := range before {
					x.Earlier = append(x.Earlier, b[k])
				}
			}
			for _, j := range judges {
				one := make([]peers.Hearing, len(series))
				for k, x := range series {
					one[k] = j.Hear(x)
				}
				h = append(h, one)
			}
			upgrade[i] = h
		}
		out = append(out, upgrade)
	}
	return out
}

// seriesOf are the signals of a deploy as the other tools read them: latency and retries of
// the first endpoint, of the second, and so on.
func seriesOf(d *sim.Deploy) []*peers.Series {
	counts := d.Counts()
	series := make([]*peers.Series, signals*len(counts.Rows))
	upgrade := -counts.Grid.First
	for i, row := range counts.Rows {
		beyond := make([]float64, counts.Grid.Len)
		for m := range beyond {
			beyond[m] = math.NaN() // no bound to count at
		}
		for _, t := range d.Tracks {
			switch {
			case t.Endpoint != row.Endpoint:
			case t.Metric == telemetry.Tail:
				copy(beyond, t.Events)
			case t.Metric == telemetry.Retry:
				series[signals*i+sim.RetrySignal] = peers.NewRatio(upgrade, t.Events, t.Trials)
			}
		}
		finite := row.Bounds[:len(row.Bounds)-1]
		series[signals*i+sim.LatencySignal] = peers.NewLatency(upgrade, finite, row.Steps, beyond)
	}
	for i, s := range series {
		if s == nil {
			panic(fmt.Sprintf("compare: endpoint %s has no retries", counts.Rows[i/signals].Endpoint))
		}
	}
	return series
}
