package sim

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// small is a world that is drawn in no time.
func small(run uint64, rps float64) World {
	w := NewWorld(run, rps)
	w.Rates = w.Rates[:2]
	w.Behind = 1
	return w
}

func geometry() baseline.Geometry {
	return baseline.Geometry{Before: 60, Guard: 3, FirstLook: 5, Horizon: 60, History: 7 * minutesPerDay}
}

func sum(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s
}

// Counts are held to their expectations as the courses tell them, with erfc instead of the
// table: each sum within 4.5 of its standard deviations.
func TestHistoryCounts(t *testing.T) {
	for _, rps := range []float64{0.05, 5, 100} {
		s := small(8, rps).Service(1)
		at := s.World.Deploys()[0]
		for _, track := range s.History(at) {
			e := 0
			if track.Endpoint == s.Endpoint(1) {
				e = 1
			}
			c := s.courses[e]
			var events, trials, spread, dispersion float64
			for m := range track.Events {
				for i := 2 * m; i < 2*m+2; i++ {
					load := float64(c.load[i])
					trials += load
					slow := expit(float64(c.slow[i]))
					x := math.Log(track.Bound) - float64(c.mu[i])
					p := (1-slow)*upper(x/bulkSD) + slow*upper((x-slowGap)/slowSD)
					if track.Metric == telemetry.Retry {
						p = expit(float64(c.retry[i]))
						spread += load * load * p * (1 - p) * retryOverdispersion // of the rate itself
					}
					events += load * p
					spread += load * p
				}
				n := float64(c.load[2*m] + c.load[2*m+1])
				dispersion += (track.Trials[m] - n) * (track.Trials[m] - n) / n
			}
			if got := sum(track.Trials); math.Abs(got-trials) > 4.5*math.Sqrt(trials) {
				t.Errorf("%v rps %s: %v requests, expected %.0f", rps, track.Metric, got, trials)
			}
			if got := sum(track.Events); math.Abs(got-events) > 4.5*math.Sqrt(spread) {
				t.Errorf("%v rps %s: %v events, expected %.1f ± %.1f", rps, track.Metric, got, events, math.Sqrt(spread))
			}
			if track.Metric == telemetry.Body {
				if got := dispersion / float64(len(track.Events)); math.Abs(got-1) > 0.25 {
					t.Errorf("%v rps: variance over mean of requests = %.3f, want 1", rps, got)
				}
			}
			if track.First != -at || len(track.Events) != at-60 || len(track.Trials) != at-60 {
				t.Errorf("%s covers [%d, %d), want [%d, -60)", track.Metric, track.First, track.First+len(track.Events), -at)
			}
		}
	}
}

// The variance of beta-binomial retries over that of binomial ones is 1 + (n-1) rho.
func TestRetriesAreOverdispersed(t *testing.T) {
	const n, p, minutes = 3000, 0.01, 20000
	d := newDrawer(nil)
	c := newCourse(2 * minutes)
	for i := range c.load {
		c.load[i], c.mu[i], c.slow[i], c.retry[i] = n, -2, float32(logit(slowAll)), float32(logit(p))
	}
	out := newCounts(0, minutes)
	d.draw(stream(9), &c, &out)
	got, all := 0.0, 0.0
	for m, k := range out.retries {
		e := float64(out.trials[m]) * p
		got += (float64(k) - e) * (float64(k) - e) / (e * (1 - p))
		all += float64(k) / e
	}
	if all /= minutes; math.Abs(all-1) > 0.005 {
		t.Errorf("retries over their expectation = %.4f, want 1", all)
	}
	if got /= minutes; math.Abs(got-(1+n*retryOverdispersion)) > 0.1 {
		t.Errorf("variance over the binomial one = %.3f, want %.3f", got, 1+n*retryOverdispersion)
	}
}

// Bounds are what the product chooses; the classic tail bound lies within a factor of 5 of 1 %.
func TestBoundsAreNearWhatIsWanted(t *testing.T) {
	for _, bounds := range [][]float64{Classic(), Native()} {
		w := small(10, 20)
		w.Bounds = bounds
		s := w.Service(3)
		tracks := s.History(w.Deploys()[2])
		if len(tracks) != 6 {
			t.Fatalf("%d bounds: %d tracks, want tail, body and retry of two endpoints", len(bounds), len(tracks))
		}
		for _, track := range tracks {
			share := sum(track.Events) / sum(track.Trials)
			lo, hi := 0.0, 1.0
			switch {
			case track.Metric == telemetry.Tail && len(bounds) > 50: // half a bucket: 4 %, some 13 % of the exceedance
				lo, hi = 0.008, 0.0125
			case track.Metric == telemetry.Tail:
				lo, hi = 0.0019, 0.052
			case track.Metric == telemetry.Body && len(bounds) > 50:
				lo, hi = 0.17, 0.235
			case track.Metric == telemetry.Body:
				lo, hi = 0.039, 0.81
			}
			if share < lo || share > hi {
				t.Errorf("%d bounds: %s counts %.4f of the requests, want %v to %v", len(bounds), track.Metric, share, lo, hi)
			}
		}
	}
}

// The research measured, at 100 requests per second and 30 minutes and with load only, standard
// deviations of .27 (tail), .145 (body) and .18 (retry); six services tell them within a tenth.
func TestScaleAsInTheResearch(t *testing.T) {
	w := NewWorld(11, 100)
	g := geometry()
	scales := map[telemetry.Metric][]float64{}
	for n := range 6 {
		s := w.Service(n)
		at := w.Deploys()[n%4]
		d := s.Deploy(at, Effect{})
		for i, h := range s.History(at) {
			c := baseline.Calibrate(h, g, nil)
			if c.Placebos < 480 {
				t.Fatalf("%d placebos, want some 490", c.Placebos)
			}
			look := baseline.Compare(d.Tracks[i], &c, g, nil, 0.99, 30).Looks[25]
			scales[h.Metric] = append(scales[h.Metric], look.S)
		}
	}
	for m, want := range map[telemetry.Metric]float64{telemetry.Tail: 0.27, telemetry.Body: 0.145, telemetry.Retry: 0.18} {
		if mean, _ := meanSD(scales[m]); math.Abs(mean/want-1) > 0.1 {
			t.Errorf("sd of the adjusted difference of %s = %.3f, want %v", m, mean, want)
		}
	}
}

func TestSameSeedSameNumbers(t *testing.T) {
	w := small(12, 3)
	at := w.Deploys()[1]
	e := Effect{Whole: 0.5, Retry: 1}
	a, b := w.Service(4), w.Service(4)
	b.Deploy(w.Deploys()[0], Effect{})
	b.Deploy(at, Effect{Tail: 1})
	if !reflect.DeepEqual(a.History(at), b.History(at)) {
		t.Error("the same service has another history")
	}
	x, y := a.Deploy(at, e), b.Deploy(at, e)
	if !reflect.DeepEqual(x.Tracks, y.Tracks) || !reflect.DeepEqual(x.Counts(), y.Counts()) {
		t.Error("the same deploy has another window after others were drawn")
	}

	other := w
	other.Run++
	for what, z := range map[string]*Deploy{
		"run": other.Service(4).Deploy(at, e), "service": w.Service(5).Deploy(at, e),
		"time": a.Deploy(w.Deploys()[2], e), "effect": a.Deploy(at, Effect{Whole: 0.5}),
	} {
		if slices.Equal(z.Tracks[0].Trials, x.Tracks[0].Trials) {
			t.Errorf("another %s has the same requests", what)
		}
	}
	if more := NewWorld(12, 3).Service(4); !slices.Equal(more.courses[0].mu, a.courses[0].mu) {
		t.Error("an endpoint moves differently when there are more endpoints")
	}
}

// What a deploy shows directly is what the product makes of its buckets.
func TestTracksAreThoseOfTheProduct(t *testing.T) {
	w := small(13, 2)
	w.Rates = append(w.Rates, 2, 2)
	w.Behind = 3
	w.Faults = Faults{Lost: 0.1, Rename: 1, Appear: 1}
	s := w.Service(0)
	d := s.Deploy(w.Deploys()[0], Effect{Whole: 1})
	bounds := map[telemetry.Endpoint]baseline.Bounds{}
	for e, b := range s.Bounds {
		if !w.Faults.appears(w, e) {
			bounds[s.Endpoint(e)] = b
		}
	}
	want, lacks := baseline.Tracks(LatencySignal, rule.Signal{Kind: rule.Histogram}, bounds, []*telemetry.Counts{d.Counts()}, nil, 0)
	var got []telemetry.Track
	for _, track := range d.Tracks {
		if track.Signal == LatencySignal {
			got = append(got, track)
		}
	}
	if len(lacks) != 4 || len(got) != 6 || len(want) != 6 {
		t.Fatalf("%d lacks, %d tracks and %d of the product, want 4, 6 and 6", len(lacks), len(got), len(want))
	}
	for i := range got {
		if g, w := show(t, got[i]), show(t, want[i]); g != w {
			t.Errorf("track %d:\n got %s\nwant %s", i, g, w)
		}
	}

	g := geometry()
	b := d.Buckets(g, 30)
	if len(b) != 5 {
		t.Fatalf("%d endpoints have buckets, want the renamed one twice", len(b))
	}
	sibling := d.Tracks[len(d.Tracks)-1].Slice(3, 30)
	n := 0.0
	for _, x := range sibling.Trials {
		if !math.IsNaN(x) {
			n += x
		}
	}
	if got := b[4].After[len(b[4].After)-1]; got != n {
		t.Errorf("the buckets hold %v requests after the upgrade, the track %v", got, n)
	}
}

func show(t *testing.T, x telemetry.Track) string {
	t.Helper()
	events, err := x.Events.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	trials, err := x.Trials.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return x.Endpoint.String() + " " + string(x.Metric) + " " + time.Duration(x.Bound*1e9).String() + " " + string(events) + string(trials)
}
