// Package history writes what Prometheus would have scraped from the shop, had it run for hours.
//
// Every request is drawn one by one from package model, as the running shop draws it; only the
// waiting is left out. What the loopback, the timers and the handlers add to a latency is drawn
// from what the running shop measured.
package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/driftwatch/driftwatch/demo/internal/model"
)

// Target is what the scraper adds to every series, and the version that ran all the time.
type Target struct{ Job, Instance, Version string }

// slots is how many ticks ahead a request may end: longer than the longest work with all backoffs.
const slots = 64

// commitTicks is how many scrapes are appended in one transaction.
const commitTicks = 200

// happened is what one tick adds to the counters of one endpoint.
type happened struct {
	requests float64 // answered
	buckets  [16]float64
	seconds  float64
	calls    float64 // of the third party, begun
	retries  float64
}

// A Writer draws the shop's past and appends it as samples.
type Writer struct {
	weather  *model.Weather
	rand     *rand.Rand
	overhead []time.Duration

	ring   [slots][]happened // what will have happened at the end of a tick; shape (slots, endpoints)
	tick   int
	series []series
	// Totals so far, in the order of series.
	totals []float64
}

type series struct {
	labels labels.Labels
	ref    storage.SeriesRef
}

// NewWriter returns a writer of the past of the shop. overhead is what a request takes beyond its
// work and its backoffs; at least one value.
func NewWriter(w *model.Weather, seed uint64, overhead []time.Duration, t Target) (*Writer, error) {
	if len(overhead) == 0 {
		return nil, errors.New("history: no overhead was measured")
	}
	h := &Writer{weather: w, rand: rand.New(rand.NewPCG(seed, 2)), overhead: overhead}
	for i := range h.ring {
		h.ring[i] = make([]happened, len(model.Endpoints))
	}
	add := func(name string, pairs ...string) {
		pairs = append(pairs, prommodel.MetricNameLabel, name, "job", t.Job, "instance", t.Instance)
		h.series = append(h.series, series{labels: labels.FromStrings(pairs...)})
	}
	for _, e := range model.Endpoints {
		for _, b := range model.Bounds {
			add("http_server_request_duration_seconds_bucket", "method", e.Method, "route", e.Route, "le", le(b))
		}
		add("http_server_request_duration_seconds_bucket", "method", e.Method, "route", e.Route, "le", "+Inf")
		add("http_server_request_duration_seconds_count", "method", e.Method, "route", e.Route)
		add("http_server_request_duration_seconds_sum", "method", e.Method, "route", e.Route)
		add("http_client_requests_total", "method", e.Method, "route", e.Route)
		add("http_client_request_retries_total", "method", e.Method, "route", e.Route)
	}
	add("build_info", "version", t.Version)
	add("up")
	h.totals = make([]float64, len(h.series))
	h.totals[len(h.totals)-2], h.totals[len(h.totals)-1] = 1, 1
	return h, nil
}

// le is a bound as a scrape of Prometheus 3 writes it: always with a fraction.
func le(bound float64) string {
	text := strconv.FormatFloat(bound, 'f', -1, 64)
	if !slices.Contains([]byte(text), '.') {
		text += ".0"
	}
	return text
}

// Append writes one scrape per tick from the writer's place in time, start, until a tick would end
// after end(), which is asked again as time passes. It returns the time of the last scrape and the
// number of samples. All series go on together, tick by tick: a database takes samples in order of
// time only.
func (h *Writer) Append(ctx context.Context, open func(context.Context) storage.Appender, start time.Time, end func() time.Time) (time.Time, int, error) {
	at, samples := start, 0
	for !at.Add(model.Tick).After(end()) {
		appender := open(ctx)
		for range commitTicks {
			if at.Add(model.Tick).After(end()) {
				break
			}
			at = at.Add(model.Tick)
			h.step()
			for i := range h.series {
				s := &h.series[i]
				ref, err := appender.Append(s.ref, s.labels, at.UnixMilli(), h.totals[i])
				if err != nil {
					return at, samples, errors.Join(fmt.Errorf("append history: %w", err), appender.Rollback())
				}
				s.ref = ref
				samples++
			}
		}
		if err := appender.Commit(); err != nil {
			return at, samples, fmt.Errorf("append history: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return at, samples, err
		}
	}
	return at, samples, nil
}

// step draws the requests that begin in one tick and adds what ends in it to the totals.
func (h *Writer) step() {
	h.weather.Step()
	for i := range model.Endpoints {
		c := h.weather.Of(i)
		for range model.Poisson(h.rand, c.Rate*model.Tick.Seconds()) {
			h.request(i, c)
		}
	}
	now := h.ring[h.tick%slots]
	k := 0
	for i := range now {
		for b := range len(model.Bounds) + 1 {
			h.totals[k] += now[i].buckets[b]
			k++
		}
		for _, v := range []float64{now[i].requests, now[i].seconds, now[i].calls, now[i].retries} {
			h.totals[k] += v
			k++
		}
	}
	clear(now)
	h.tick++
}

// request draws one request of endpoint i: work, then the third party until it accepts or the
// attempts are used up, with the old backoff between.
func (h *Writer) request(i int, c model.Conditions) {
	began := time.Duration(h.rand.Float64() * float64(model.Tick))
	took := c.Work(h.rand)
	h.at(began + took)[i].calls++
	for range model.Attempts - 1 {
		if !c.Fails(h.rand) {
			break
		}
		took += model.FixedBackoff
		h.at(began + took)[i].retries++
	}
	took += h.overhead[h.rand.IntN(len(h.overhead))]
	done := &h.at(began + took)[i]
	done.requests++
	done.seconds += took.Seconds()
	first, _ := slices.BinarySearch(model.Bounds, took.Seconds())
	for b := first; b <= len(model.Bounds); b++ {
		done.buckets[b]++
	}
}

// at returns what happens in the tick that lies d after the beginning of the current one.
func (h *Writer) at(d time.Duration) []happened {
	return h.ring[(h.tick+min(int(d/model.Tick), slots-1))%slots]
}
