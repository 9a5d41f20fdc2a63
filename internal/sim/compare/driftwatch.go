package compare

import (
	"regexp"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/sim/peers"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// driftwatch is the product's own judgement of one upgrade of one service: the rule that a
// user gets who writes nothing but names, and the calibration on the service's week.
type driftwatch struct {
	rule         *rule.Rule
	geometry     baseline.Geometry
	endpoints    []telemetry.Endpoint
	calibrations map[trackKey]*baseline.Calibration
}

type trackKey struct {
	endpoint telemetry.Endpoint
	metric   telemetry.Metric
}

// defaults is the rule of a simulated service: every number is the default of rules.
func defaults() *rule.Rule {
	return &rule.Rule{
		Service:  "simulated",
		Endpoint: []string{"service", "route"},
		Windows: rule.Windows{
			Step: time.Minute, Before: time.Hour, Guard: 3 * time.Minute, FirstLook: 5 * time.Minute,
			Horizon: time.Hour, History: 7 * 24 * time.Hour,
		},
		Signals: []rule.Signal{
			sim.LatencySignal: {Name: "latency", Kind: rule.Histogram, Quantile: 0.99, Direction: rule.Up, MinimumEffectAuto: true, Unit: "s"},
			sim.RetrySignal:   {Name: "retries", Kind: rule.Ratio, Direction: rule.Up, MinimumEffectAuto: true, Unit: "1"},
		},
		Flags: []rule.Flag{{Key: "flag", Behind: map[string]*regexp.Regexp{"route": regexp.MustCompile(`^(?:e0[0-4])$`)}}},
		Alpha: rule.Alpha{Report: 0.05, Act: 0.01},
	}
}

func newDriftwatch(s *sim.Service, at int) *driftwatch {
	r := defaults()
	d := &driftwatch{
		rule: r, geometry: baseline.NewGeometry(r.Windows, s.Upgrade(at)),
		calibrations: make(map[trackKey]*baseline.Calibration),
	}
	for e := range s.World.Rates {
		d.endpoints = append(d.endpoints, s.Endpoint(e))
	}
	history := s.History(at)
	controls := make(map[telemetry.Metric]*baseline.Controls)
	for _, t := range history {
		if _, ok := controls[t.Metric]; ok {
			continue
		}
		var untouched []telemetry.Track
		for _, o := range history {
			if o.Metric == t.Metric && r.FlagOf(o.Endpoint.Values(), r.Signals[o.Signal].Name) < 0 {
				untouched = append(untouched, o)
			}
		}
		controls[t.Metric] = baseline.NewControls(untouched, d.geometry, nil)
	}
	for _, t := range history {
		c := controls[t.Metric].Calibrate(t, d.geometry, nil)
		d.calibrations[trackKey{t.Endpoint, t.Metric}] = &c
	}
	return d
}

// hear judges a deploy: an alarm is a row that is regressed, at the look that confirmed it.
// Score says no more than that, because driftwatch is compared at its defaults only.
func (d *driftwatch) hear(deploy *sim.Deploy) []peers.Hearing {
	in := detect.Input{Rule: d.rule, Upgrade: deploy.Upgrade, Geometry: d.geometry, Complete: d.geometry.Horizon}
	buckets := make(map[telemetry.Endpoint]*baseline.Buckets)
	for _, b := range deploy.Buckets(d.geometry, in.Complete) {
		buckets[b.Endpoint] = &b
	}
	for _, t := range deploy.Tracks {
		b := buckets[t.Endpoint]
		if t.Metric == telemetry.Retry {
			b = nil
		}
		c := d.calibrations[trackKey{t.Endpoint, t.Metric}]
		in.Comparisons = append(in.Comparisons,
			baseline.Compare(t, c, d.geometry, b, d.rule.Signals[t.Signal].Quantile, in.Complete))
	}
	baseline.AgainstControls(in.Comparisons, d.geometry)
	place := make(map[telemetry.Endpoint]int)
	for i, e := range d.endpoints {
		place[e] = i
	}
	out := make([]peers.Hearing, signals*len(d.endpoints))
	for _, r := range detect.Judge(in).Rows {
		if r.Verdict == detect.Regressed {
			out[signals*place[r.Endpoint]+r.Signal].Alarm = r.RegressedAt
		}
	}
	return out
}
