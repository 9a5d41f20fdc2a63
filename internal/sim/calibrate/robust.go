package calibrate

import (
	"fmt"
	"slices"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// The worlds of the bar robust: the calibration's world in which measuring goes wrong, or in
// which latency is not linear in load. Their services have the same latents, so that what a
// fault costs is not a matter of other services.
const (
	noFault   = "no fault"
	resets    = "resets"
	churn     = "churn"
	outages   = "lost scrapes"
	saturated = "saturation"
	newcomers = "new endpoints"
	halfBlind = "lost history"
	turnBlind = "lost after"
)

const (
	// capacity is the load, in multiples of the mean, at which an endpoint of the saturated world
	// has no more to give: at the peak of its day it runs at two thirds of it.
	capacity = 3
	// knee is the utilisation beyond which a little more load is a lot more latency: there the
	// time in the queue is five times that of an idle endpoint.
	knee = 0.8
	// muchLost is a share of lost steps that no window may have.
	muchLost = 0.3
)

// robustRun is the run of all these worlds: the last of the hundred that a seed has.
func robustRun(run uint64) uint64 { return run/100*100 + 99 }

func robustWorld(change func(w *sim.World)) func(run uint64) sim.World {
	return func(run uint64) sim.World { return changed(change)(robustRun(run)) }
}

// robustExperiments are the experiments of the bar robust.
func robustExperiments() []experiment {
	many := map[Scale]int{Tiny: 0, Small: 4, Full: 15}
	once := map[Scale]int{Tiny: 1, Small: 4, Full: 15}
	few := map[Scale]int{Tiny: 1, Small: 1, Full: 3}
	all := func(of ...measure) []part {
		var parts []part
		for _, m := range of {
			parts = append(parts, part{bars: []string{"robust"}, run: m})
		}
		return parts
	}
	faulty := func(name string, families map[Scale]int, f sim.Faults, of ...measure) experiment {
		return experiment{name, robustWorld(func(w *sim.World) { w.Faults = f }), servicesPerFamily, families, all(of...)}
	}
	return []experiment{
		faulty(noFault, many, sim.Faults{}, nulls, powerKept),
		faulty(resets, many, sim.Faults{Resets: 4}, nulls, powerKept),
		faulty(churn, many, sim.Faults{Pods: 4}, nulls, powerKept),
		faulty(outages, once, sim.Faults{Outages: 2, Lost: 0.05}, nulls, powerKept),
		{saturated, robustWorld(func(w *sim.World) { w.Capacity = capacity }), servicesPerFamily, once, all(nulls, powerKept, jumps)},
		faulty(newcomers, few, sim.Faults{Appear: 1, Rename: 1}, strangers),
		faulty(halfBlind, few, sim.Faults{Lost: muchLost}, blind),
		faulty(turnBlind, few, sim.Faults{LostAfter: muchLost}, blind),
	}
}

// faultWords are the faults under which single tests are counted.
var faultWords = []struct{ world, words string }{
	{noFault, "without a fault"},
	{resets, "4 counter resets a day and one at the upgrade"},
	{churn, "4 pods replaced once a day and by the upgrade"},
	{outages, "2 outages a day and 5 % of scrapes lost"},
	{saturated, "saturation at 3 times the mean load"},
}

// kept are the regressions that a fault must not hide.
var kept = []find{
	{mode: own, metric: telemetry.Tail, effect: w50},
	{mode: own, metric: telemetry.Retry, effect: r2},
}

// powerKept counts what is found in spite of a fault.
func powerKept(f *family, r *Record) { finding(f, r, kept) }

// jumpEffects are the traffic jumps of S2.
var jumpEffects = []sim.Effect{{Traffic: 0.5}, {Traffic: 1.5}}

// beyondKnee says whether the traffic of a row came to lie beyond the knee with the upgrade.
func beyondKnee(x *member, g int, row detect.Row) bool {
	w := x.service.World
	utilisation := func(l detect.Level, minutes int) float64 {
		return l.Requests / (60 * float64(minutes) * w.Rates[x.endpoint(row.Endpoint)] * w.Capacity)
	}
	return utilisation(row.Before, horizon) < knee && utilisation(row.After, horizon-g) >= knee
}

// jumps counts what is said of endpoints that a traffic jump saturates. That they got slower is
// true, and that the upgrade did it is not.
func jumps(f *family, r *Record) {
	for _, e := range jumpEffects {
		j := f.judge(ruleOf(false), own, func(x *member, _ int) *outcome { return x.under(f.geometry, e) })
		rows := map[telemetry.Endpoint][]detect.Row{}
		for _, row := range j.Rows {
			rows[row.Endpoint] = append(rows[row.Endpoint], row)
		}
		each(f, r, 1, func(c *cluster, x *member) {
			beyond := map[telemetry.Endpoint]bool{}
			for i := range x.service.World.Rates {
				for _, row := range rows[x.service.Endpoint(i)] {
					if !beyondKnee(x, f.geometry.Guard, row) {
						continue
					}
					beyond[row.Endpoint] = true
					c.count(name("jump", e, "regressed"), row.Verdict == detect.Regressed)
					c.count(name("jump", e, "held back"), slices.Contains(row.Warnings, detect.LoadOutsideHistory))
					c.count(name("jump", e, "no rise"), row.Verdict == detect.NoMeaningfulRise)
				}
			}
			o := x.under(f.geometry, e)
			for i := range o.comparisons {
				if p := f.path(&o.comparisons[i], own); p.counted && beyond[o.comparisons[i].Endpoint] {
					c.count(name("jump", e, o.comparisons[i].Metric), p.p[len(p.p)-1] <= 0.01)
				}
			}
		})
	}
}

// strangers counts what is said of endpoints that come with the upgrade, and of those that it
// renames, whether or not it makes them slower.
func strangers(f *family, r *Record) {
	for _, e := range []sim.Effect{none, {Whole: 0.5, Retry: 1}} {
		j := f.judge(ruleOf(false), own, func(x *member, _ int) *outcome { return x.under(f.geometry, e) })
		rows := map[telemetry.Endpoint][]detect.Row{}
		for _, row := range j.Rows {
			rows[row.Endpoint] = append(rows[row.Endpoint], row)
		}
		each(f, r, 1, func(c *cluster, x *member) {
			count := func(kind string, e telemetry.Endpoint) {
				if len(rows[e]) == 0 {
					panic(fmt.Sprintf("calibrate: nothing is said of %s", e))
				}
				for _, row := range rows[e] {
					c.count(name("stranger", kind), row.Verdict == detect.NotEnoughData)
					c.count("stranger regressed", row.Verdict == detect.Regressed)
				}
			}
			known := map[telemetry.Endpoint]bool{}
			for i := range x.service.World.Rates {
				known[x.service.Endpoint(i)] = true
			}
			for i := range x.service.World.Faults.Rename {
				count("renamed", x.service.Endpoint(i))
			}
			counted := map[telemetry.Endpoint]bool{}
			for _, s := range x.under(f.geometry, e).strangers {
				switch {
				case counted[s.Endpoint]:
				case known[s.Endpoint]:
					count("appeared", s.Endpoint)
				default:
					count("renamed", s.Endpoint)
				}
				counted[s.Endpoint] = true
			}
		})
	}
}

// blind counts what is said where more than a fifth of the post window was never scraped.
func blind(f *family, r *Record) {
	j := f.judge(ruleOf(false), own, func(x *member, _ int) *outcome { return x.under(f.geometry, none) })
	said := map[telemetry.Endpoint][]detect.Verdict{}
	for _, row := range j.Rows {
		said[row.Endpoint] = append(said[row.Endpoint], row.Verdict)
	}
	each(f, r, 1, func(c *cluster, x *member) {
		counted := map[telemetry.Endpoint]bool{}
		o := x.under(f.geometry, none)
		for i := range o.comparisons {
			of := &o.comparisons[i]
			l, ok := lookAt(of, horizon)
			if !ok || l.Missing <= 0.2 || counted[of.Endpoint] {
				continue
			}
			counted[of.Endpoint] = true
			for _, v := range said[of.Endpoint] {
				c.count("blind no rise", v == detect.NoMeaningfulRise)
				c.count("blind not enough data", v == detect.NotEnoughData)
			}
		}
	})
}

// robustRows makes the rows of the bar robust. False alarms must be those of S2: nothing in a
// fault that history has, too, tells the upgrade from a placebo.
func robustRows(t *table, r map[string]*Record) {
	for _, at := range faultWords {
		for _, m := range judgeModes {
			for _, metric := range metrics {
				t.rate(r[at.world], fmt.Sprintf("false alarms at 0.01, %s, %s, %s", at.words, metric, modeWords[m]), name("null", m, metric, 0.01), atMost(0.015))
			}
		}
	}
	for _, of := range kept {
		for _, at := range faultWords {
			t.rate(r[at.world], fmt.Sprintf("found at 0.01: %s, %s, %s", of.metric, of.effect, at.words), name("power", of.mode, of.metric, of.effect), published)
		}
	}
	for _, e := range jumpEffects {
		of := func(figure, key string, l limit) {
			t.rate(r[saturated], fmt.Sprintf("%s beyond the knee: %s", e, figure), name("jump", e, key), l)
		}
		for _, metric := range metrics {
			of(fmt.Sprintf("false alarms at 0.01, %s", metric), string(metric), published)
		}
		of("held back, because the load is outside history", "held back", published)
		of("regressed in the family", "regressed", published)
		// What it excludes is excluded by a one-sided bound of 95 %, and no more is promised.
		of("no meaningful rise", "no rise", atMost(0.05))
	}
	t.rate(r[newcomers], "endpoints that appear with the upgrade: not enough data", name("stranger", "appeared"), exactly(1))
	t.rate(r[newcomers], "endpoints that the upgrade renames, by either name: not enough data", name("stranger", "renamed"), exactly(1))
	t.rate(r[newcomers], "either of them regressed", "stranger regressed", exactly(0))
	for _, at := range []struct{ world, words string }{{halfBlind, "all the time"}, {turnBlind, "after the upgrade"}} {
		t.rate(r[at.world], "30 % of scrapes lost "+at.words+": no meaningful rise", "blind no rise", exactly(0))
		t.rate(r[at.world], "30 % of scrapes lost "+at.words+": not enough data", "blind not enough data", published)
	}
}
