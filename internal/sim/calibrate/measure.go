package calibrate

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/sim/peers"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// levels are those that sequential false alarms are counted at.
var levels = []float64{0.05, 0.01, 0.001}

// The effects of the bars. Without On they act on the endpoints behind the flag.
var (
	none = sim.Effect{}
	w10  = sim.Effect{Whole: 0.10}
	w25  = sim.Effect{Whole: 0.25}
	w50  = sim.Effect{Whole: 0.50}
	w100 = sim.Effect{Whole: 1}
	t50  = sim.Effect{Tail: 0.5}
	t100 = sim.Effect{Tail: 1}
	r125 = sim.Effect{Retry: 0.25}
	r15  = sim.Effect{Retry: 0.5}
	r2   = sim.Effect{Retry: 1}
	r5   = sim.Effect{Retry: 4}
)

// before is an effect that was there already.
func before(e sim.Effect, minutes int) sim.Effect {
	e.Offset = -time.Duration(minutes) * time.Minute
	return e
}

// until is an effect that ends.
func until(e sim.Effect, minutes int) sim.Effect {
	e.End = time.Duration(minutes) * time.Minute
	return e
}

// name is what is counted under: the parts, in words.
func name(parts ...any) string {
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = fmt.Sprint(p)
	}
	return strings.Join(words, " ")
}

// A measure counts one thing in a family.
type measure func(f *family, r *Record)

// each calls count for every member whose place in the family is a multiple of every.
func each(f *family, r *Record, every int, count func(c *cluster, m *member)) {
	for i, m := range f.members {
		if i%every == 0 {
			c := r.cluster()
			count(c, m)
			c.close()
		}
	}
}

// paths calls use for every test of o that m can be had for; touched: only of the endpoints
// behind the flag.
func (f *family) paths(o *outcome, x *member, m mode, touched bool, use func(metric telemetry.Metric, p path)) {
	for i := range o.comparisons {
		c := &o.comparisons[i]
		if touched && x.tests[i].endpoint >= behind || m == against && c.Calibration != nil && c.Calibration.Control {
			continue
		}
		if p := f.path(c, m); p.counted {
			use(c.Metric, p)
		}
	}
}

// nulls counts how often nothing is called something, at every level.
func nulls(f *family, r *Record) {
	each(f, r, 1, func(c *cluster, x *member) {
		o := x.under(f.geometry, none)
		for _, m := range []mode{own, against} {
			f.paths(o, x, m, false, func(metric telemetry.Metric, p path) {
				last := len(p.p) - 1
				for _, alpha := range levels {
					c.count(name("null", m, metric, alpha), p.p[last] <= alpha)
					c.count(name("null", m, metric, alpha, "pooled"), p.pooled[last] <= alpha)
				}
			})
		}
	})
}

// alone counts the same where only the service's own ten endpoints are pooled.
func alone(f *family, r *Record) {
	for _, x := range f.members {
		single := &family{geometry: f.geometry, members: []*member{x}, pools: map[poolKey][]float64{}}
		for _, t := range x.tests {
			single.pool(own, t.cal, t.cal.Maxima)
		}
		single.sortPools()
		each(single, r, 1, func(c *cluster, x *member) {
			single.paths(x.under(f.geometry, none), x, own, false, func(metric telemetry.Metric, p path) {
				for _, alpha := range levels {
					c.count(name("alone", metric, alpha), p.p[len(p.p)-1] <= alpha)
				}
			})
		})
	}
}

// negatives counts the alarms of methods that must fail.
func negatives(f *family, r *Record) {
	judges := peers.NegativeControls()
	each(f, r, 1, func(c *cluster, x *member) {
		o := x.under(f.geometry, none)
		counts := o.deploy.Counts()
		for _, t := range o.deploy.Tracks {
			var s *peers.Series
			switch t.Metric {
			case telemetry.Tail:
				row := counts.Row(t.Endpoint)
				s = peers.NewLatency(-t.First, row.Bounds[:len(row.Bounds)-1], row.Steps, t.Events)
			case telemetry.Retry:
				s = peers.NewRatio(-t.First, t.Events, t.Trials)
			default:
				continue
			}
			for _, j := range judges {
				c.count(name("negative", j.Name, t.Metric), j.Hear(s).Alarm > 0)
			}
		}
	})
}

// annotated reports whether a row is shown as risen.
func annotated(r detect.Row) bool { return r.Verdict == detect.Regressed || r.Suspected }

// families judges the family without a change.
func families(f *family, r *Record) {
	for _, m := range judgeModes {
		j := f.judge(ruleOf(m == against), m, func(x *member, _ int) *outcome { return x.under(f.geometry, none) })
		regressed, shown, acted := false, false, false
		for _, row := range j.Rows {
			regressed = regressed || row.Verdict == detect.Regressed
			shown = shown || annotated(row)
			acted = acted || row.Verdict == detect.Regressed && row.Flag >= 0 && row.QAct <= 0.01 && row.StillThere && !j.ControlsRisen
		}
		c := r.cluster()
		c.count(name("family", m, "regressed"), regressed)
		c.count(name("family", m, "acted"), acted)
		c.count(name("family", m, "shown"), shown)
		c.close()
	}
}

// discoveries judges the family with one endpoint in twenty changed.
func discoveries(f *family, r *Record) {
	for _, m := range judgeModes {
		for _, e := range []sim.Effect{w50, r2, t100} {
			changed := map[telemetry.Endpoint]bool{}
			for i, x := range f.members {
				if i%2 == 0 {
					changed[x.service.Endpoint(0)] = true
				}
			}
			j := f.judge(ruleOf(m == against), m, func(x *member, endpoint int) *outcome {
				if endpoint == 0 && changed[x.service.Endpoint(0)] {
					return x.under(f.geometry, e)
				}
				return x.under(f.geometry, none)
			})
			found, shown, rejected := map[telemetry.Endpoint]int{}, map[telemetry.Endpoint]bool{}, map[telemetry.Endpoint]bool{}
			for _, row := range j.Rows {
				if at := row.RegressedAt; at > 0 && (found[row.Endpoint] == 0 || at < found[row.Endpoint]) {
					found[row.Endpoint] = at
				}
				if annotated(row) {
					shown[row.Endpoint] = true
				}
				if row.Q <= 0.05 {
					rejected[row.Endpoint] = true
				}
			}
			c := r.cluster()
			for endpoint := range changed {
				c.alarm(name("found", m, e), found[endpoint])
			}
			c.share(name("fdr", m, e, "shown"), falseShare(shown, changed))
			c.share(name("fdr", m, e, "rejected"), falseShare(rejected, changed))
			c.close()
		}
	}
}

func falseShare(of, changed map[telemetry.Endpoint]bool) float64 {
	wrong := 0
	for e := range of {
		if !changed[e] {
			wrong++
		}
	}
	return float64(wrong) / float64(max(1, len(of)))
}

// traffic counts false alarms when only the traffic jumps.
func traffic(f *family, r *Record) {
	each(f, r, effectsEvery, func(c *cluster, x *member) {
		for _, e := range []sim.Effect{{Traffic: 0.5}, {Traffic: 1.5}} {
			f.paths(x.under(f.geometry, e), x, own, false, func(metric telemetry.Metric, p path) {
				c.count(name("traffic", e, metric), p.p[len(p.p)-1] <= 0.01)
			})
		}
	})
}

// effectsEvery is which services of a family effects are drawn for: every fourth.
const effectsEvery = 4

// A shift was there before the upgrade.
type shift struct {
	effect sim.Effect
	metric telemetry.Metric
	limit  float64
}

var shifts = []shift{
	{before(r2, 10), telemetry.Retry, 0.06},
	{before(r5, 10), telemetry.Retry, 0.005},
	{before(w50, 10), telemetry.Tail, 0.03},
	{before(w50, 5), telemetry.Tail, 0.07},
}

// blame counts how often an upgrade is blamed for what was there before it.
func blame(f *family, r *Record) {
	each(f, r, effectsEvery, func(c *cluster, x *member) {
		for _, s := range shifts {
			f.paths(x.under(f.geometry, s.effect), x, own, true, func(metric telemetry.Metric, p path) {
				if metric == s.metric {
					c.count(name("blame", s.effect, metric, "seen"), p.first(p.p, 0.001) > 0)
					c.count(name("blame", s.effect, metric), p.blamed(0.001) > 0)
				}
			})
		}
	})
}

// A find is a regression that must be found at alpha 0.01.
type find struct {
	mode   mode
	metric telemetry.Metric
	effect sim.Effect
	power  float64 // at least
	delay  float64 // median at most, minutes; 0 = no bar
}

var finds = []find{
	{own, telemetry.Body, w25, 0.90, 26},
	{own, telemetry.Body, w50, 0.99, 9},
	{own, telemetry.Tail, w50, 0.68, 0},
	{own, telemetry.Tail, w100, 0.98, 14},
	{own, telemetry.Tail, t50, 0.80, 0},
	{own, telemetry.Tail, t100, 0.89, 0},
	{own, telemetry.Retry, r15, 0.47, 0},
	{own, telemetry.Retry, r2, 0.95, 24},
	{own, telemetry.Retry, r5, 0.99, 7},
	{against, telemetry.Body, w10, 0.47, 0},
	{against, telemetry.Body, w25, 0.98, 12},
	{against, telemetry.Tail, w50, 0.82, 0},
	{against, telemetry.Tail, t50, 0.90, 0},
	{against, telemetry.Retry, r15, 0.66, 0},
	{against, telemetry.Retry, r2, 0.98, 17},
}

// power counts what is found of single endpoints, and when.
func power(f *family, r *Record) { finding(f, r, finds) }

func finding(f *family, r *Record, finds []find) {
	each(f, r, effectsEvery, func(c *cluster, x *member) {
		for _, want := range finds {
			f.paths(x.under(f.geometry, want.effect), x, want.mode, true, func(metric telemetry.Metric, p path) {
				if metric == want.metric {
					c.alarm(name("power", want.mode, metric, want.effect), p.first(p.p, 0.01))
				}
			})
		}
	})
}

// adjusted is the difference at a look and its standard deviation; ok is false without one.
func adjusted(l baseline.Look, m mode) (adj, s float64, ok bool) {
	if m == against {
		if l.Against == nil {
			return 0, 0, false
		}
		return l.Against.Adj, l.Against.S, l.Valid
	}
	return l.Adj, l.S, l.Valid
}

// lookAt is the look t minutes after the upgrade.
func lookAt(c *baseline.Comparison, t int) (baseline.Look, bool) {
	for _, l := range c.Looks {
		if l.T == t {
			return l, true
		}
	}
	return baseline.Look{}, false
}

// within calls use for the look at minute t of every test of the endpoints behind the flag, with its truth.
func within(o *outcome, x *member, m mode, t int, use func(c *baseline.Comparison, adj, s float64, truth sim.Truth)) {
	for i := range o.comparisons {
		c := &o.comparisons[i]
		l, ok := lookAt(c, t)
		if x.tests[i].endpoint >= behind || !ok || c.Calibration.Placebos == 0 {
			continue
		}
		if adj, s, ok := adjusted(l, m); ok {
			use(c, adj, s, o.deploy.Truth[i])
		}
	}
}

// coverage counts how often the 95 % interval of a retry rate holds the truth, and how often a
// rise by half is excluded although it is there.
func coverage(f *family, r *Record) {
	each(f, r, effectsEvery, func(c *cluster, x *member) {
		for _, e := range []sim.Effect{none, r15, r2} {
			o := x.under(f.geometry, e)
			for _, m := range []mode{own, against} {
				for _, t := range []int{30, 60} {
					within(o, x, m, t, func(of *baseline.Comparison, adj, s float64, truth sim.Truth) {
						if of.Metric != telemetry.Retry {
							return
						}
						true95 := math.Log1p(truth.Exceedance)
						c.count(name("cover95", m, e, t), math.Abs(adj-true95) <= 1.959963984540054*s)
						if e.Retry == 0.5 && t == horizon {
							c.count(name("excluded", m), adj+1.6448536269514722*s < math.Log(1.5))
						}
					})
				}
			}
		}
	})
}

// intervals counts how often the 99 % interval of the change, in the signal's own unit, holds
// the truth: that of a report at the horizon.
func intervals(f *family, r *Record) { intervalsOf(f, r, effectsEvery) }

// allIntervals is intervals of every service.
func allIntervals(f *family, r *Record) { intervalsOf(f, r, 1) }

func intervalsOf(f *family, r *Record, every int) {
	each(f, r, every, func(c *cluster, x *member) {
		for _, e := range intervalEffects {
			o := x.under(f.geometry, e)
			for _, m := range []mode{own, against} {
				within(o, x, m, horizon, func(of *baseline.Comparison, adj, s float64, truth sim.Truth) {
					if e.String() != "none" && truth.Change == 0 {
						return // an effect on the other signal
					}
					const z99, z90 = 2.5758, 1.2816 // as package detect
					change := of.Unit.Change(adj).Value
					c.count(name("ci99", m, of.Metric, e, "had"), !math.IsNaN(change))
					if math.IsNaN(change) {
						return
					}
					c.record.delay(name("ci99", m, of.Metric, e, "read"), int(math.Round(perMille*change)), 1)
					low, high := of.Unit.Change(adj-z99*s).Low, of.Unit.Change(adj+z99*s).High
					above, below := truth.Change > high, truth.Change < low // an open end is beyond everything
					c.count(name("ci80", m, of.Metric, e), !(truth.Change > of.Unit.Change(adj+z90*s).High) && !(truth.Change < of.Unit.Change(adj-z90*s).Low))
					c.count(name("ci99", m, of.Metric, e), !above && !below)
					c.count(name("ci99", m, of.Metric, e, "above"), above)
					c.count(name("ci99", m, of.Metric, e, "below"), below)
					// The same interval of what is counted, against its own truth.
					exceedance := math.Log1p(truth.Exceedance)
					c.count(name("ci99", m, of.Metric, e, "exceedance"), math.Abs(adj-exceedance) <= z99*s)
				})
			}
		}
	})
}

// perMille is how finely the changes are kept that a median is taken of.
const perMille = 1000

// intervalEffects are +0, +25 and +100 % of each signal.
var intervalEffects = []sim.Effect{none, w25, w100, r125, r2}

// recoveryEnd is when a regression ends that the flag was the cause of, minutes.
const recoveryEnd = 25

// recoveries turns flags off after an alarm. One that is not the cause changes nothing.
func recoveries(f *family, r *Record) {
	each(f, r, servicesPerFamily, func(c *cluster, x *member) {
		for _, e := range []sim.Effect{w50, w100, r2, r5} {
			f.recover(c, x, e, "not the cause", func(alarm int) int { return alarm })
			f.recover(c, x, until(e, recoveryEnd), "the cause", func(alarm int) int {
				if alarm > recoveryEnd {
					return 0
				}
				return recoveryEnd
			})
		}
	})
}

// recover counts whether a recovery is seen after a write at the minute that written gives for
// the minute of an alarm; 0 is none. It is the rule of package worker: three looks in a row at
// which the metric has recovered at 0.05.
func (f *family) recover(c *cluster, x *member, e sim.Effect, what string, written func(alarm int) int) {
	const looksInARow = 3
	o := x.under(f.geometry, e)
	for i := range o.comparisons {
		of := &o.comparisons[i]
		rose := e.Whole > 0 && of.Metric != telemetry.Retry || e.Retry > 0 && of.Metric == telemetry.Retry
		if x.tests[i].endpoint >= behind || !rose {
			continue
		}
		alarm := f.path(of, own).blamed(0.01)
		if alarm == 0 || written(alarm) == 0 {
			continue
		}
		at, whole := written(alarm), x.tests[i].history
		window := o.deploy.Tracks[i]
		whole.Events = append(slices.Clip(whole.Events), window.Events...)
		whole.Trials = append(slices.Clip(whole.Trials), window.Trials...)
		watch := baseline.NewRecovering(whole, f.geometry, baseline.Watch{Written: at, Proof: at + 1}, nil)
		inARow, recovered := 0, 0
		for look := f.geometry.FirstLook; look <= f.geometry.Horizon && recovered == 0; look++ {
			if watch.At(whole, look).Recovered(0.05) {
				inARow++
			} else {
				inARow = 0
			}
			if inARow == looksInARow {
				recovered = look
			}
		}
		c.alarm(name("recovered", what), recovered)
		c.count(name("recovered", what, of.Metric, e), recovered > 0)
	}
}

// sparse judges endpoints with hardly any traffic.
func sparse(f *family, r *Record) {
	j := f.judge(ruleOf(false), own, func(x *member, _ int) *outcome { return x.under(f.geometry, none) })
	type key struct {
		endpoint telemetry.Endpoint
		signal   int
	}
	rows := map[key]detect.Row{}
	for _, row := range j.Rows {
		rows[key{row.Endpoint, row.Signal}] = row
	}
	each(f, r, 1, func(c *cluster, x *member) {
		most := map[key]float64{} // events expected by the horizon, of the metric with the most
		for _, t := range x.tests {
			k := key{t.history.Endpoint, t.history.Signal}
			most[k] = max(most[k], t.cal.EventsPerStep*float64(f.geometry.Horizon-f.geometry.Guard))
		}
		for k, expected := range most {
			row := rows[k]
			rate := x.service.World.Rates[x.endpoint(k.endpoint)]
			for _, m := range row.Metrics {
				if m.Testable {
					c.count(name("sparse", m.Metric, rate), m.P <= 0.01)
				}
			}
			if expected < 4 {
				c.count("sparse insufficient", row.Verdict == detect.NotEnoughData)
			}
		}
	})
}

// spiky counts false alarms of the services that have most of the trouble, and of the others.
func spiky(f *family, r *Record) {
	each(f, r, 1, func(c *cluster, x *member) {
		kind := "calm"
		if x.service.Number%x.service.World.SpikyEvery == 0 {
			kind = "spiky"
		}
		for _, m := range []mode{own, against} {
			f.paths(x.under(f.geometry, none), x, m, false, func(metric telemetry.Metric, p path) {
				c.count(name(kind, m, metric), p.p[len(p.p)-1] <= 0.01)
			})
		}
	})
}
