package calibrate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// determinismServices is how many services are judged twice, each with and without a change.
const determinismServices = 3

// determinism adds the rows of S10: in how many judgements something differs that must not.
func (t *table) determinism() {
	same := map[string][2]float64{}
	count := func(what string, a, b detect.Judgement) {
		x := same[what]
		if !slices.Equal(written(a), written(b)) {
			x[0]++
		}
		x[1]++
		same[what] = x
	}
	const again, order, labels, duplicates = "drawn and judged again", "endpoints in another order", "endpoint labels in another order", "every sample twice"
	for n := range determinismServices {
		f, g := newFamily(plain(20)(1), n, 1), newFamily(plain(20)(1), n, 1)
		for _, e := range []sim.Effect{none, w50, r5} {
			for _, m := range judgeModes {
				judge := func(x *family, change func(in *detect.Input)) detect.Judgement {
					in := detect.Input{
						Rule: ruleOf(m == against), Upgrade: x.members[0].service.Upgrade(x.members[0].at),
						Geometry: x.geometry, Complete: horizon,
					}
					for _, c := range x.members[0].under(x.geometry, e).comparisons {
						if m == own {
							c = withoutControls(c)
						}
						in.Comparisons = append(in.Comparisons, c)
					}
					change(&in)
					return detect.Judge(in)
				}
				keep := func(*detect.Input) {}
				first := judge(f, keep)
				count(again, first, judge(g, keep))
				count(order, first, judge(f, func(in *detect.Input) {
					r := rand.New(rand.NewPCG(uint64(n), 1))
					r.Shuffle(len(in.Comparisons), func(i, j int) {
						in.Comparisons[i], in.Comparisons[j] = in.Comparisons[j], in.Comparisons[i]
					})
				}))
				count(labels, first, judge(f, func(in *detect.Input) {
					in.Rule.Endpoint = []string{"route", "service"}
					for i, c := range in.Comparisons {
						in.Comparisons[i].Endpoint = swapped(c.Endpoint)
						cal := *c.Calibration
						cal.Endpoint = swapped(cal.Endpoint)
						in.Comparisons[i].Calibration = &cal
					}
				}))
				count(duplicates, first, judge(f, func(in *detect.Input) { doubled(f, e, in) }))
			}
		}
	}
	for _, what := range []string{again, order, labels, duplicates} {
		x := same[what]
		low, high := clopperPearson(x[0], x[1])
		t.out = append(t.out, Row{t.bar, "judgements that differ: " + what, x[0] / x[1], low, high, "%", fmt.Sprintf("%.0f", x[1]), exactly(0).words("%"), exactly(0).state(x[0]/x[1], 0, low, high)})
	}
}

// doubled reads the deploy's histograms twice, one read laid over the other, as a backend
// that stores every sample twice gives them.
func doubled(f *family, e sim.Effect, in *detect.Input) {
	x := f.members[0]
	o := x.under(f.geometry, e)
	counts := o.deploy.Counts()
	bounds := map[telemetry.Endpoint]baseline.Bounds{}
	for i := range x.service.World.Rates {
		bounds[x.service.Endpoint(i)] = x.service.Bounds[i]
	}
	tracks, _ := baseline.Tracks(sim.LatencySignal, in.Rule.Signals[sim.LatencySignal], bounds, []*telemetry.Counts{counts, counts}, nil, 0)
	for i := range in.Comparisons {
		c := &in.Comparisons[i]
		for _, t := range tracks {
			if t.Endpoint != c.Endpoint || t.Metric != c.Metric || t.Signal != c.Signal {
				continue
			}
			again := baseline.Compare(t, c.Calibration, f.geometry, nil, x.service.World.Quantile, horizon)
			for k := range again.Looks {
				again.Looks[k].Against = c.Looks[k].Against
			}
			c.Looks = again.Looks
		}
	}
}

func swapped(e telemetry.Endpoint) telemetry.Endpoint {
	v := slices.Clone(e.Values())
	slices.Reverse(v)
	return telemetry.NewEndpoint(v...)
}

// written are the rows of j, each with its endpoint's labels in one order.
func written(j detect.Judgement) []string {
	var out []string
	for _, r := range j.Rows {
		v := r.Endpoint.Values()
		slices.Sort(v)
		r.Endpoint = ""
		out = append(out, strings.Join(v, " ")+" "+spelt(r))
	}
	slices.Sort(out)
	j.Rows = nil
	return append(out, spelt(j))
}

// spelt is v in words, every field of it, without addresses.
func spelt(v any) string {
	var b strings.Builder
	spell(&b, reflect.ValueOf(v))
	return b.String()
}

func spell(b *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		spell(b, v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() && v.CanInterface() {
			b.WriteString(v.Interface().(time.Time).UTC().Format(time.RFC3339Nano))
			return
		}
		b.WriteByte('{')
		for _, f := range v.Fields() {
			spell(b, f)
			b.WriteByte(' ')
		}
		b.WriteByte('}')
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			spell(b, v.Index(i))
			b.WriteByte(' ')
		}
		b.WriteByte(']')
	default:
		fmt.Fprint(b, v)
	}
}

const (
	costTests   = 30
	costRepeats = 20
)

// cost adds the rows of S11: the time of one core for a calibration with controls and for a look. Of
// several runs of each the fastest counts, because others use the machine; of the tests the median.
func (t *table) cost() {
	w := plain(50)(1)
	s := w.Service(0)
	at := w.Deploys()[0]
	g := baseline.NewGeometry(ruleOf(false).Windows, s.Upgrade(at))
	history, d := s.History(at), s.Deploy(at, none)
	var tracks []telemetry.Track
	for _, h := range history {
		if h.Metric == telemetry.Tail {
			tracks = append(tracks, h)
		}
	}
	controls := baseline.NewControls(tracks[min(behind, len(tracks)):], g, nil)
	controls.Forget() // each calibration begins afresh
	fastest := func(run func()) float64 {
		best := math.Inf(1)
		for range costRepeats {
			begun := time.Now()
			run()
			best = min(best, float64(time.Since(begun))/float64(time.Millisecond))
		}
		return best
	}
	var calibration, looks, one []float64
	var comparisons []baseline.Comparison
	for i, h := range history[:min(costTests, len(history))] {
		var c baseline.Calibration
		of := controls
		if h.Metric != telemetry.Tail {
			of = nil
		}
		ms := fastest(func() { c = of.Calibrate(h, g, nil) })
		if of != nil {
			calibration = append(calibration, ms)
		} else {
			one = append(one, ms)
		}
		var x baseline.Comparison
		looks = append(looks, 1000*fastest(func() { x = baseline.Compare(d.Tracks[i], &c, g, nil, 0.99, horizon) })/float64(g.Looks()))
		comparisons = append(comparisons, x)
	}
	in := detect.Input{Rule: ruleOf(false), Upgrade: d.Upgrade, Geometry: g, Complete: horizon, Comparisons: comparisons}
	judge := 1000 * fastest(func() { detect.Judge(in) }) / float64(len(comparisons)*g.Looks())
	t.took("calibration of one endpoint and metric, with season", one, "ms", atMost(3))
	t.took("the same with controls", calibration, "ms", atMost(3))
	t.took("one look at one endpoint and metric", looks, "µs", atMost(50))
	t.took("judging it", []float64{judge}, "µs", atMost(50))
}

// familyCost adds the rows of S11 that are measured in the run: how long the families of 200
// endpoints took that were drawn in it, beside whatever else the machine did.
func (t *table) familyCost(families []times) {
	var drawing, calibrating []float64
	for _, f := range families {
		drawing, calibrating = append(drawing, f.Drawing), append(calibrating, f.Calibrating)
	}
	t.took("drawing a family of 200 endpoints, a week of each", drawing, "s", atMost(8))
	t.took("calibrating it: three metrics of each endpoint", calibrating, "s", atMost(2))
}

// took adds a row with the median of durations, and with the shortest and the longest where
// others have their interval.
func (t *table) took(figure string, of []float64, unit string, limit limit) {
	row := Row{Bar: t.bar, Figure: figure + ", median (fastest to slowest)", Value: math.NaN(), Unit: unit, Limit: limit.words(unit), State: NotRun}
	if len(of) > 0 {
		slices.Sort(of)
		v := stat.Quantile(of, 0.5)
		row.Value, row.Low, row.High = v, of[0], of[len(of)-1]
		row.Of, row.State = fmt.Sprintf("%d", len(of)), limit.state(v, 0, v, v)
	}
	t.out = append(t.out, row)
}
