//go:build browser

package report

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// simulated is a service of 200 endpoints, from 18 requests an hour to 20 a second, whose
// upgrade slows the tail and multiplies the retries of three. It is judged as any other.
func simulated() *Report {
	w := sim.NewWorld(20, 0)
	w.Rates, w.Behind = nil, 12
	for i := range 200 {
		w.Rates = append(w.Rates, 20*math.Pow(0.96, float64(i)))
	}
	service := w.Service(1)
	at := w.Deploys()[2]
	d := service.Deploy(at, sim.Effect{Tail: 0.8, Retry: 1.5, On: []int{0, 3, 7}})
	names := endpointNames(service)

	r := testRule()
	r.Signals = r.Signals[:2]
	r.Signals[0].MinimumEffectAuto, r.Signals[1].MinimumEffectAuto = true, true
	r.Flags[0].Behind = map[string]*regexp.Regexp{"route": regexp.MustCompile("^/v1/payments/.*$")}
	g := baseline.NewGeometry(r.Windows, d.Upgrade)
	history := service.History(at)
	behind := func(e telemetry.Endpoint) bool { return r.FlagOf(names[e].Values(), "latency") >= 0 }
	controls := map[telemetry.Metric]*baseline.Controls{}
	for _, m := range []telemetry.Metric{telemetry.Tail, telemetry.Body, telemetry.Retry} {
		controls[m] = baseline.NewControls(slices.DeleteFunc(slices.Clone(history), func(t telemetry.Track) bool { return t.Metric != m || behind(t.Endpoint) }), g, nil)
	}
	buckets := map[telemetry.Endpoint]*baseline.Buckets{}
	for _, b := range d.Buckets(g, g.Horizon) {
		buckets[b.Endpoint] = &b
	}
	in := detect.Input{Rule: r, Upgrade: d.Upgrade, Geometry: g, Complete: g.Horizon}
	compared := map[telemetry.Endpoint]bool{}
	for i, t := range history {
		c := controls[t.Metric].Calibrate(t, g, nil)
		track, b := d.Tracks[i], buckets[t.Endpoint]
		if track.Signal == sim.RetrySignal {
			b = nil
		} else {
			compared[t.Endpoint] = true
		}
		in.Comparisons = append(in.Comparisons, baseline.Compare(track, &c, g, b, w.Quantile, g.Horizon))
	}
	baseline.AgainstControls(in.Comparisons, g)
	for i := range w.Rates {
		if e := service.Endpoint(i); !compared[e] {
			for _, m := range []telemetry.Metric{telemetry.Tail, telemetry.Body} {
				in.Lacking = append(in.Lacking, detect.Lacking{Endpoint: e, Signal: sim.LatencySignal, Metric: m, Needs: detect.Needs{Of: "events"}})
			}
		}
	}
	for i := range in.Comparisons {
		in.Comparisons[i].Endpoint = names[in.Comparisons[i].Endpoint]
	}
	for i := range in.Lacking {
		in.Lacking[i].Endpoint = names[in.Lacking[i].Endpoint]
	}
	out := base()
	u := d.Upgrade
	u.Service, u.From, u.To, u.FoundBy = r.Service, "2.41.3", "2.42.0", "build_info"
	out.Rule, out.Upgrade, out.Geometry, out.Complete, out.Judgement = r, &u, g, g.Horizon, detect.Judge(in)
	out.Now = u.At.Add(time.Duration(g.Horizon) * r.Windows.Step)
	out.Actions = []Action{{Kind: FlagOff, Flag: flagKey, Outcome: DryRun, Reason: ReasonDryRun, Revision: [2]Word{"118"}, Missing: []string{"act: true in the rule", "--act"}}}
	report := New(out)

	counts := d.Counts()
	p := &Pictures{Start: At(counts.Grid.Start(counts.Grid.First)), StepS: counts.Grid.Step.Seconds(), Columns: counts.Grid.Len}
	for i, t := range d.Tracks {
		e := names[t.Endpoint]
		if t.Metric == telemetry.Body || !drawnOf(report, e) || len(p.Rows) == 2*MaxPictureEndpoints {
			continue
		}
		row := Picture{Endpoint: e.Values(), Signal: "retries", Kind: "ratio", Quantile: None(), Values: []telemetry.Values{t.Events, t.Trials}, Bands: bands(history[i])}
		if t.Metric == telemetry.Tail {
			c := counts.Row(t.Endpoint)
			row.Signal, row.Kind, row.Quantile, row.Tail, row.Bounds, row.Values = "latency", "histogram", 0.99, t.Bound, c.Bounds[:len(c.Bounds)-1], nil
			for _, v := range c.Steps {
				row.Values = append(row.Values, v)
			}
		}
		p.Rows = append(p.Rows, row)
	}
	report.Pictures = p
	return report
}

// endpointNames gives the endpoints of a simulated service names as they are in life: the first
// twelve belong to payments.
func endpointNames(s *sim.Service) map[telemetry.Endpoint]telemetry.Endpoint {
	words := []string{"orders", "cart", "catalog", "refunds", "sessions", "customers", "addresses", "quotes", "stock", "search"}
	verbs := []string{"GET", "POST", "PUT", "DELETE"}
	out := map[telemetry.Endpoint]telemetry.Endpoint{}
	for i := range s.World.Rates {
		route := fmt.Sprintf("/v1/%s/{id}/%s", words[i%len(words)], words[i/len(words)%len(words)])
		if i < s.World.Behind {
			route = "/v1/payments/" + []string{"authorize", "capture", "refund", "{id}", "methods", "disputes"}[i%6]
		}
		out[s.Endpoint(i)] = telemetry.NewEndpoint(verbs[(i/6+i/100)%len(verbs)], route)
	}
	return out
}

func drawnOf(r *Report, e telemetry.Endpoint) bool {
	return slices.ContainsFunc(r.Comparisons, func(c Comparison) bool {
		return (c.Verdict == Regressed || c.Suspected) && c.Labels[0].Value == e.Values()[0] && c.Labels[1].Value == e.Values()[1]
	})
}

// bands are the middle 95 % of a track's stretches, as those of a record are.
func bands(t telemetry.Track) []Band {
	var out []Band
	for _, merge := range Merges {
		var rates []float64
		for from := 0; from+merge <= len(t.Events); from += merge {
			events, trials := 0.0, 0.0
			for i := from; i < from+merge; i++ {
				events, trials = events+t.Events[i], trials+t.Trials[i]
			}
			if x := events / trials; !math.IsNaN(x) {
				rates = append(rates, x)
			}
		}
		slices.Sort(rates)
		cut := len(rates) / 40
		out = append(out, Band{merge, rates[cut], rates[len(rates)-1-cut], len(rates)})
	}
	return out
}
