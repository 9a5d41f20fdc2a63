//go:build unix

package livetest

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// A Shop is a service with made traffic: the metrics of one scraped target whose load has a
// daily cycle, whose latency and retries drift slowly, and whose tail is long. Everything
// follows from Seed, the hour of the day not from the real clock: two shops that differ only
// in Changes or Upgrade agree, sample by sample, up to the first difference. (The model is the research generator without its
// load spikes; its constants are in levels.)
type Shop struct {
	Seed      uint64
	Service   string // also the label job
	Env       string
	Instance  string
	Version   string // before the upgrade
	Interval  time.Duration
	Endpoints []ShopEndpoint
	Changes   []Change
	Upgrade   *ShopUpgrade // nil: none
}

// A ShopEndpoint is one route of a shop.
type ShopEndpoint struct {
	Method, Route string
	Rate          float64 // requests per second, on average over a day
	Median        float64 // latency of the usual request, seconds
	Retries       float64 // retries per request, 0 for none
}

// A Change is something that happens to endpoints for a while. A factor of 0 changes nothing.
type Change struct {
	From, Until time.Time // zero Until: for good
	Routes      []string  // nil: every endpoint
	Latency     float64   // factor on every latency
	Tail        float64   // factor on the latency of the slowest 3 %
	Retries     float64   // factor on the retry rate
	MoreRetries float64   // added to the retry rate, after the factor
	Load        float64   // factor on the request rate
}

// A ShopUpgrade is a new version: the build_info series of the old one ends with a stale
// marker at the first scrape after At, and that of the new one begins.
type ShopUpgrade struct {
	At      time.Time
	Version string
	Restart bool // counters begin at zero again, each label set with its first event
}

// NewShop returns a shop with n endpoints of the same mean rate (requests per second), a
// scrape interval of 15 s, version 1.0 and retry rate 0.01. The first half of the routes is
// /v1/payments/1 and so on, the rest /v1/catalog/1 and so on.
func NewShop(seed uint64, n int, rate float64) Shop {
	s := Shop{
		Seed: seed, Service: "checkout-api", Env: "production", Instance: "10.0.0.1:8080",
		Version: "1.0", Interval: 15 * time.Second,
	}
	medians := s.rand("medians")
	for i := range n {
		e := ShopEndpoint{
			Method: "POST", Route: fmt.Sprintf("/v1/payments/%d", i+1), Rate: rate, Retries: 0.01,
			Median: 0.02 * math.Pow(20, medians.Float64()), // 20 to 400 ms
		}
		if payments := (n + 1) / 2; i >= payments {
			e.Method, e.Route = "GET", fmt.Sprintf("/v1/catalog/%d", i-payments+1)
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// bucketBounds are the default ones of the Prometheus client libraries, seconds.
var bucketBounds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, math.Inf(1)}

// The latency of a request is lognormal with sd usualSD around the median, or, with a share
// of slowShare, lognormal with sd slowSD around slowBy times it (in logarithms).
const (
	usualSD   = 0.45
	slowSD    = 0.5
	slowBy    = 1.6
	slowShare = 0.03
)

// Series returns the samples of scrapes at from, from + Interval, ... before to. Counters
// count from zero at from; a label set exists from its first event on, as in the client
// libraries. Metrics: http_server_request_duration_seconds (_bucket, _count, _sum; method,
// route), http_client_requests_total and http_client_request_retries_total (method, route),
// build_info (version) and up; all with job, instance, service and env. Requests of one
// scrape interval belong to a Change when the middle of the interval does.
func (s Shop) Series(from, to time.Time) []Series {
	scrapes := int(max(0, (to.Sub(from)+s.Interval-1)/s.Interval))
	service := newLevels(s.rand("service"), s.Interval)
	daily := 2 * math.Pi * s.rand("cycle").Float64()
	lines := make([]endpointLine, len(s.Endpoints))
	for i, e := range s.Endpoints {
		lines[i] = s.endpointLine(e, scrapes)
	}
	version, up := s.Version, s.line(scrapes, "up", nil)
	builds := []*line{s.line(scrapes, "build_info", map[string]string{"version": version})}
	upgraded := false
	for k := range scrapes {
		at := from.Add(time.Duration(k) * s.Interval)
		if u := s.Upgrade; u != nil && !upgraded && at.After(u.At) {
			upgraded = true
			builds[0].end(at)
			builds = append(builds, s.line(scrapes-k, "build_info", map[string]string{"version": u.Version}))
			if u.Restart {
				for i := range lines {
					lines[i].restart()
				}
			}
		}
		up.put(at, 1)
		builds[len(builds)-1].put(at, 1)
		middle := at.Add(-s.Interval / 2)
		cycle := 0.6 * math.Cos(2*math.Pi*middle.Sub(from).Hours()/24-daily)
		common := service.next()
		for i := range lines {
			lines[i].scrape(at, s.Interval, cycle, common, s.changesAt(middle, lines[i].of.Route))
		}
	}
	out := []Series{up.series}
	for _, b := range builds {
		out = append(out, b.series)
	}
	for i := range lines {
		for _, l := range lines[i].all() {
			out = append(out, l.series)
		}
	}
	return out
}

// rand is the stream of random numbers of one part of the shop.
func (s Shop) rand(part string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(part)) // a hash takes everything
	return rand.New(rand.NewPCG(s.Seed, h.Sum64()))
}

// changesAt multiplies the changes of a route at one time into one.
func (s Shop) changesAt(at time.Time, route string) Change {
	sum := Change{Latency: 1, Tail: 1, Retries: 1, Load: 1}
	times := func(x *float64, factor float64) {
		if factor != 0 {
			*x *= factor
		}
	}
	for _, c := range s.Changes {
		if !at.After(c.From) || (!c.Until.IsZero() && at.After(c.Until)) || (c.Routes != nil && !slices.Contains(c.Routes, route)) {
			continue
		}
		times(&sum.Latency, c.Latency)
		times(&sum.Tail, c.Tail)
		times(&sum.Retries, c.Retries)
		times(&sum.Load, c.Load)
		sum.MoreRetries += c.MoreRetries
	}
	return sum
}

// A line is one series as it grows.
type line struct {
	series Series
	alive  bool // the last sample is a number, not a stale marker
}

func (s Shop) line(scrapes int, name string, labels map[string]string) *line {
	all := map[string]string{"__name__": name, "job": s.Service, "instance": s.Instance, "service": s.Service, "env": s.Env}
	maps.Copy(all, labels)
	return &line{series: Series{Labels: all, Samples: make([]Sample, 0, scrapes)}}
}

func (l *line) put(at time.Time, v float64) {
	l.series.Samples = append(l.series.Samples, Sample{at, v})
	l.alive = true
}

// end writes a stale marker if the series was there at the last scrape.
func (l *line) end(at time.Time) {
	if l.alive {
		l.put(at, StaleMarker())
		l.alive = false
	}
}

// levels are the slow movements of one part of the shop, in logarithms: stationary, each
// drifting with a time constant of its own.
type levels struct {
	rand *rand.Rand

	load, latency, longTerm drift
	slow, retries, retryDay drift
}

// A moment is one value of each level.
type moment struct{ load, latency, slow, retries float64 }

func newLevels(r *rand.Rand, step time.Duration) *levels {
	d := func(sd float64, over time.Duration) drift { return newDrift(r, sd, over, step) }
	return &levels{
		rand: r,
		load: d(0.1, 10*time.Minute), latency: d(0.04, 6*time.Minute), longTerm: d(0.03, 4*time.Hour),
		slow: d(0.2, 10*time.Minute), retries: d(0.18, 5*time.Minute), retryDay: d(0.1, 4*time.Hour),
	}
}

func (l *levels) next() moment {
	return moment{
		load:    l.load.next(l.rand),
		latency: l.latency.next(l.rand) + l.longTerm.next(l.rand),
		slow:    l.slow.next(l.rand),
		retries: l.retries.next(l.rand) + l.retryDay.next(l.rand),
	}
}

// A drift is a first-order autoregression with mean 0.
type drift struct{ value, keep, noise float64 }

// newDrift returns a drift that stands at a draw of its stationary distribution.
func newDrift(r *rand.Rand, sd float64, over, step time.Duration) drift {
	keep := math.Exp(-step.Seconds() / over.Seconds())
	return drift{value: sd * r.NormFloat64(), keep: keep, noise: sd * math.Sqrt(1-keep*keep)}
}

func (d *drift) next(r *rand.Rand) float64 {
	d.value = d.keep*d.value + d.noise*r.NormFloat64()
	return d.value
}

// An endpointLine is the series of one endpoint as they grow, and where its counters stand.
type endpointLine struct {
	of     ShopEndpoint
	levels *levels
	counts *rand.Rand // the draws of counts, apart from those of the levels

	buckets                      []*line // shape (len(bucketBounds))
	count, sum, clients, retries *line

	inBucket               []float64 // requests per bucket so far, not cumulative
	seconds, events, asked float64
}

func (s Shop) endpointLine(e ShopEndpoint, scrapes int) endpointLine {
	labels := func(le string) map[string]string {
		return map[string]string{"method": e.Method, "route": e.Route, "le": le}
	}
	name := e.Method + " " + e.Route
	l := endpointLine{
		of: e, levels: newLevels(s.rand(name+" levels"), s.Interval), counts: s.rand(name + " counts"),
		count:    s.line(scrapes, "http_server_request_duration_seconds_count", labels("")),
		sum:      s.line(scrapes, "http_server_request_duration_seconds_sum", labels("")),
		clients:  s.line(scrapes, "http_client_requests_total", labels("")),
		retries:  s.line(scrapes, "http_client_request_retries_total", labels("")),
		inBucket: make([]float64, len(bucketBounds)),
	}
	for _, bound := range bucketBounds {
		le := strconv.FormatFloat(bound, 'g', -1, 64)
		if !math.IsInf(bound, 1) && bound == math.Trunc(bound) {
			le += ".0" // as Prometheus 3 stores it
		}
		l.buckets = append(l.buckets, s.line(scrapes, "http_server_request_duration_seconds_bucket", labels(le)))
	}
	return l
}

func (l *endpointLine) all() []*line {
	return append(slices.Clone(l.buckets), l.count, l.sum, l.clients, l.retries)
}

func (l *endpointLine) restart() {
	clear(l.inBucket)
	l.seconds, l.events, l.asked = 0, 0, 0
}

// scrape draws what happened in the interval before at and reports it.
func (l *endpointLine) scrape(at time.Time, interval time.Duration, cycle float64, service moment, c Change) {
	own := l.levels.next()
	dev := cycle + service.load + own.load
	requests := l.of.Rate * interval.Seconds() * math.Exp(dev) * c.Load
	median := math.Log(l.of.Median*c.Latency) + 0.2*dev + service.latency + own.latency
	odds := slowShare / (1 - slowShare) * math.Exp(0.3*dev+service.slow+own.slow)
	slow := odds / (1 + odds)
	slowMedian := median + slowBy + math.Log(c.Tail)
	mean := (1-slow)*math.Exp(median+usualSD*usualSD/2) + slow*math.Exp(slowMedian+slowSD*slowSD/2)

	below, asked := 0.0, 0.0
	for i, bound := range bucketBounds {
		cdf := 1.0
		if !math.IsInf(bound, 1) {
			x := math.Log(bound)
			cdf = (1-slow)*distuv.UnitNormal.CDF((x-median)/usualSD) + slow*distuv.UnitNormal.CDF((x-slowMedian)/slowSD)
		}
		n := l.poisson(requests * (cdf - below))
		below = cdf
		l.inBucket[i] += n
		asked += n
	}
	l.asked += asked
	l.seconds += asked * mean
	l.events += l.poisson(asked * (l.of.Retries*c.Retries*math.Exp(0.3*dev+service.retries+own.retries) + c.MoreRetries))

	cumulative := 0.0
	for i, b := range l.buckets {
		cumulative += l.inBucket[i]
		report(b, at, cumulative, l.asked > 0)
	}
	report(l.count, at, l.asked, l.asked > 0)
	report(l.sum, at, l.seconds, l.asked > 0)
	report(l.clients, at, l.asked, l.asked > 0)
	report(l.retries, at, l.events, l.events > 0)
}

// report writes a counter that exists, and ends one that does not.
func report(l *line, at time.Time, v float64, exists bool) {
	if exists {
		l.put(at, v)
	} else {
		l.end(at)
	}
}

// poisson draws a count; a mean of 0 draws nothing.
func (l *endpointLine) poisson(mean float64) float64 {
	if mean <= 0 {
		return 0
	}
	return distuv.Poisson{Lambda: mean, Src: l.counts}.Rand()
}
