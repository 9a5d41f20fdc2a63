package calibrate

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

const (
	servicesPerFamily = 20
	familySize        = 200 // endpoints
	behind            = 5   // endpoints of a service behind the flag; the others are its controls
	horizon           = 60
	// windowEnd is the last minute of a window: an alarm at the horizon, and another horizon in
	// which a recovery is watched.
	windowEnd = 2*horizon + 10
)

// metrics are those that every bar of three metrics is about.
var metrics = []telemetry.Metric{telemetry.Tail, telemetry.Body, telemetry.Retry}

// ruleOf is the rule that all services are judged by. Without controls every endpoint is
// behind the flag.
func ruleOf(controls bool) *rule.Rule {
	r := &rule.Rule{
		Service: "sim", Endpoint: []string{"service", "route"},
		Windows: rule.Windows{
			Step: time.Minute, Before: time.Hour, Guard: 3 * time.Minute, FirstLook: 5 * time.Minute,
			Horizon: horizon * time.Minute, History: 7 * 24 * time.Hour,
		},
		Signals: []rule.Signal{
			sim.LatencySignal: {Name: "latency", Kind: rule.Histogram, Metric: "request_duration_seconds", Quantile: 0.99, Direction: rule.Up, MinimumEffectAuto: true, Unit: "s"},
			sim.RetrySignal:   {Name: "retries", Kind: rule.Ratio, Metric: "retries_total", Per: "requests_total", Direction: rule.Up, MinimumEffectAuto: true, Unit: "1"},
		},
		Flags: []rule.Flag{{Key: "flag", Act: true}},
		Alpha: rule.Alpha{Report: 0.05, Act: 0.01},
	}
	if controls {
		r.Flags[0].Behind = map[string]*regexp.Regexp{"route": regexp.MustCompile(`^(?:e0[0-4])$`)}
	}
	return r
}

// A mode is what differences are adjusted for.
type mode string

const (
	own     mode = "own"     // load and time of day
	against mode = "against" // load, time of day and the controls
)

// A test is one metric of one endpoint with its calibration.
type test struct {
	endpoint int
	history  telemetry.Track
	cal      *baseline.Calibration
}

// A member is a service of a family with its calibrations.
type member struct {
	service *sim.Service
	at      int // minute of the upgrade
	tests   []test

	seen map[string]*outcome
}

// A family is services whose endpoints are judged together.
type family struct {
	geometry baseline.Geometry
	members  []*member
	pools    map[poolKey][]float64
	times    times
}

type poolKey struct {
	mode   mode
	metric telemetry.Metric
	class  int
}

// newFamily draws and calibrates family number n of w. Its services deploy at the times of
// the world in turn.
func newFamily(w sim.World, n, services int) *family {
	f := &family{pools: map[poolKey][]float64{}}
	for i := range services {
		number := n*services + i
		begun := time.Now()
		s := w.Service(number)
		f.times.Drawing += time.Since(begun).Seconds()
		deploys := w.Deploys()
		m := &member{service: s, at: deploys[number%len(deploys)], seen: map[string]*outcome{}}
		f.geometry = baseline.NewGeometry(ruleOf(false).Windows, s.Upgrade(m.at))
		begun = time.Now()
		m.calibrate(f.geometry)
		f.times.Calibrating += time.Since(begun).Seconds()
		for _, t := range m.tests {
			f.pool(own, t.cal, t.cal.Maxima)
			if t.cal.Against != nil {
				f.pool(against, t.cal, t.cal.Against.Maxima)
			}
		}
		f.members = append(f.members, m)
	}
	f.sortPools()
	return f
}

func (f *family) sortPools() {
	for _, p := range f.pools {
		slices.Sort(p)
	}
}

func (f *family) pool(m mode, c *baseline.Calibration, maxima []float64) {
	k := poolKey{m, c.Metric, c.Class}
	f.pools[k] = append(f.pools[k], maxima...)
}

func (m *member) calibrate(g baseline.Geometry) {
	history := m.service.History(m.at)
	controls := map[telemetry.Metric]*baseline.Controls{}
	for _, metric := range metrics {
		var tracks []telemetry.Track
		for _, t := range history {
			if t.Metric == metric && m.endpoint(t.Endpoint) >= behind {
				tracks = append(tracks, t)
			}
		}
		controls[metric] = baseline.NewControls(tracks, g, nil)
	}
	for _, t := range history {
		c := controls[t.Metric].Calibrate(t, g, nil)
		m.tests = append(m.tests, test{m.endpoint(t.Endpoint), t, &c})
	}
}

// endpoint is the number of the endpoint of this name.
func (m *member) endpoint(e telemetry.Endpoint) int {
	for i := range m.service.World.Rates {
		if m.service.Endpoint(i) == e {
			return i
		}
	}
	panic(fmt.Sprintf("calibrate: %s is no endpoint of service %d", e, m.service.Number))
}

// An outcome is a deploy of a member, compared with its history: one comparison per test.
type outcome struct {
	deploy      *sim.Deploy // its tracks in the order of the tests, then the strangers
	comparisons []baseline.Comparison

	// strangers are what history does not know: endpoints that came with the upgrade. lacking are
	// the metrics that they have no bound for.
	strangers []baseline.Comparison
	lacking   []detect.Lacking
}

// under returns the deploy of m with an effect. It is drawn once.
func (m *member) under(g baseline.Geometry, e sim.Effect) *outcome {
	if o := m.seen[e.String()]; o != nil {
		return o
	}
	o := &outcome{deploy: m.service.Deploy(m.at, e)}
	buckets := map[telemetry.Endpoint]*baseline.Buckets{}
	for _, b := range o.deploy.Buckets(g, g.Horizon) {
		buckets[b.Endpoint] = &b
	}
	m.order(o.deploy)
	for i, t := range m.tests {
		track := o.deploy.Tracks[i]
		var b *baseline.Buckets
		if track.Signal == sim.LatencySignal {
			b = buckets[track.Endpoint]
		}
		o.comparisons = append(o.comparisons, baseline.Compare(track, t.cal, g, b, m.service.World.Quantile, g.Horizon))
	}
	baseline.AgainstControls(o.comparisons, g)
	for _, track := range o.deploy.Tracks[len(m.tests):] {
		cal := baseline.Calibrate(track, g, nil)
		o.strangers = append(o.strangers, baseline.Compare(track, &cal, g, nil, m.service.World.Quantile, g.Horizon))
		for _, metric := range []telemetry.Metric{telemetry.Tail, telemetry.Body} {
			o.lacking = append(o.lacking, detect.Lacking{Endpoint: track.Endpoint, Signal: sim.LatencySignal, Metric: metric, Needs: detect.Needs{Of: "history"}})
		}
	}
	m.seen[e.String()] = o
	return o
}

// order puts the tracks of d that history knows into the order of the tests, and the others
// after them. Of the others there is one per endpoint: without history there is no bound.
func (m *member) order(d *sim.Deploy) {
	var tracks, strangers []telemetry.Track
	var truth, strange []sim.Truth
	for i, t := range d.Tracks {
		if n := len(tracks); n < len(m.tests) && t.Endpoint == m.tests[n].history.Endpoint && t.Metric == m.tests[n].history.Metric {
			tracks, truth = append(tracks, t), append(truth, d.Truth[i])
		} else if t.Metric == telemetry.Retry {
			strangers, strange = append(strangers, t), append(strange, d.Truth[i])
		}
	}
	if len(tracks) != len(m.tests) || len(tracks)+len(strangers) != len(d.Tracks) {
		panic("calibrate: the tracks of a deploy are not those of its history")
	}
	d.Tracks, d.Truth = append(tracks, strangers...), append(truth, strange...)
}

// ownGuard and loadLimit are those of package detect; TestAsJudged holds that.
const (
	ownGuard  = 0.02
	loadLimit = 4
)

// A path is the p of one test at every look: the rank in the family's pool of the running
// maximum. Looks at a load outside history count nothing.
type path struct {
	p       []float64 // with the guard of the endpoint's own placebos, as package detect ranks
	pooled  []float64 // without
	looks   []baseline.Look
	counted bool // there is something to rank
}

func (f *family) path(c *baseline.Comparison, m mode) path {
	out := path{looks: c.Looks}
	if c.Calibration == nil || c.Calibration.Placebos == 0 {
		return out
	}
	maxima := c.Calibration.Maxima
	if m == against {
		if c.Calibration.Against == nil {
			return out
		}
		maxima = c.Calibration.Against.Maxima
	}
	out.counted = true
	pool := f.pools[poolKey{m, c.Metric, c.Calibration.Class}]
	best, p, pooled := math.Inf(-1), 1.0, 1.0
	for _, l := range c.Looks {
		z, ok := l.Z, l.Valid && l.LoadSD <= loadLimit
		if m == against {
			if ok = ok && l.Against != nil; ok {
				z = l.Against.Z
			}
		}
		if x := f.geometry.Weight(l.T) * z; ok && x > best {
			best = x
			pooled = stat.RankP(pool, x)
			if stat.RankP(maxima, x) <= ownGuard {
				p = min(p, pooled)
			}
		}
		out.p, out.pooled = append(out.p, p), append(out.pooled, pooled)
	}
	return out
}

// first is the first minute at which p is at most alpha; 0 is never.
func (x path) first(p []float64, alpha float64) int {
	for i := range p {
		if p[i] <= alpha {
			return x.looks[i].T
		}
	}
	return 0
}

// gateLimit is that of package detect.
const gateLimit = 0.5

// blamed is the first minute at which p is at most alpha and the gates hold; 0 is never.
func (x path) blamed(alpha float64) int {
	for i, l := range x.looks {
		if x.p[i] <= alpha && l.J10 >= gateLimit && l.J5 >= gateLimit && l.Jp >= gateLimit {
			return l.T
		}
	}
	return 0
}

// judge judges what happened to the family: of gives each member's outcome, and for each of
// its endpoints the effect that is taken.
func (f *family) judge(r *rule.Rule, m mode, of func(m *member, endpoint int) *outcome) detect.Judgement {
	in := detect.Input{Rule: r, Upgrade: f.members[0].service.Upgrade(f.members[0].at), Geometry: f.geometry, Complete: horizon}
	for _, x := range f.members {
		for i, t := range x.tests {
			c := of(x, t.endpoint).comparisons[i]
			if m == own {
				c = withoutControls(c)
			}
			in.Comparisons = append(in.Comparisons, c)
		}
		o := of(x, 0)
		in.Comparisons = append(in.Comparisons, o.strangers...)
		in.Lacking = append(in.Lacking, o.lacking...)
	}
	return detect.Judge(in)
}

// withoutControls is c as it is where a rule has no controls.
func withoutControls(c baseline.Comparison) baseline.Comparison {
	if c.Calibration != nil {
		cal := *c.Calibration
		cal.Against, cal.Control = nil, false
		c.Calibration = &cal
	}
	c.Looks = slices.Clone(c.Looks)
	for i := range c.Looks {
		c.Looks[i].Against = nil
	}
	return c
}
