package sim

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func TestEffectNames(t *testing.T) {
	tests := []struct {
		effect Effect
		want   string
	}{
		{Effect{}, "none"},
		{Effect{Ramp: time.Hour}, "none"},
		{Effect{Whole: 0.25}, "w25"},
		{Effect{Tail: 0.5, Retry: 1}, "t50 r2"},
		{Effect{Traffic: 1.5}, "traffic2.5"},
		{Effect{Retry: 0.1, Offset: -10 * time.Minute, Ramp: 20 * time.Minute, End: 30 * time.Minute, On: []int{5}}, "r1.1 from -10 ramp 20 until 30 on [5]"},
	}
	for _, tt := range tests {
		if got := tt.effect.String(); got != tt.want {
			t.Errorf("%+v is named %q, want %q", tt.want, got, tt.want)
		}
	}
}

func TestEffectProfile(t *testing.T) {
	tests := []struct {
		name    string
		effect  Effect
		minutes []float64
		want    []float64 // by hand
	}{
		{"at once", Effect{}, []float64{-0.25, 0.25, 59}, []float64{0, 1, 1}},
		{"before the upgrade", Effect{Offset: -10 * time.Minute}, []float64{-10.25, -9.75}, []float64{0, 1}},
		{"ramp", Effect{Ramp: 20 * time.Minute}, []float64{-1, 5, 10, 20, 40}, []float64{0, 0.25, 0.5, 1, 1}},
		{"late ramp", Effect{Offset: 10 * time.Minute, Ramp: 20 * time.Minute}, []float64{5, 20, 30}, []float64{0, 0.5, 1}},
		{"until", Effect{End: 15 * time.Minute}, []float64{-1, 14.75, 15.25}, []float64{0, 1, 0}},
	}
	for _, tt := range tests {
		for i, m := range tt.minutes {
			if got := tt.effect.profile(m); math.Abs(got-tt.want[i]) > 1e-12 {
				t.Errorf("%s: %v of the effect after %v min, want %v", tt.name, got, m, tt.want[i])
			}
		}
	}
}

// A course without an effect is the latents with the warm-up; an effect adds what it says. By
// hand: 0.4 at once, 0.4/e after 75 s, half of that on retries.
func TestCourseAroundADeploy(t *testing.T) {
	s := small(14, 10).Service(2)
	w := s.World
	at := w.Deploys()[0]
	first := 2 * (at - 60)
	c := s.courses[0]
	plain := Effect{}.around(w, c, 0, at)
	for i := range plain.mu {
		warm := 0.0
		if i >= 120 {
			warm = 0.4 * math.Exp(-float64(i-120)*30/75)
		}
		if d := float64(plain.mu[i] - c.mu[first+i]); math.Abs(d-warm) > 1e-5 {
			t.Fatalf("step %d: warm-up %v, want %v", i, d, warm)
		}
		if d := float64(plain.retry[i] - c.retry[first+i]); math.Abs(d-warm/2) > 1e-5 {
			t.Fatalf("step %d: warm-up of retries %v, want %v", i, d, warm/2)
		}
		if plain.load[i] != c.load[first+i] || plain.slow[i] != c.slow[first+i] {
			t.Fatalf("step %d: a deploy changes the load or the slow share", i)
		}
	}

	effect := Effect{Whole: 0.5, Tail: 0.25, Retry: 1, Traffic: 1.5}
	for endpoint, touched := range []float64{1, 0} {
		plain := Effect{}.around(w, s.courses[endpoint], endpoint, at)
		with := effect.around(w, s.courses[endpoint], endpoint, at)
		if touched == 0 && (with.slowed != nil || with.more != nil) {
			t.Error("a sibling is slowed or retried more")
		}
		for i := range with.mu {
			on := 0.0
			if i >= 120 {
				on = 1
			}
			for what, x := range map[string][2]float64{
				"load":    {math.Log(float64(with.load[i] / plain.load[i])), on * math.Log(2.5)},
				"latency": {float64(with.mu[i] - plain.mu[i]), on * (touched*math.Log(1.5) + 0.2*math.Log(2.5))},
				"slow":    {float64(with.slow[i] - plain.slow[i]), on * 0.3 * math.Log(2.5)},
				"retry":   {float64(with.retry[i] - plain.retry[i]), on * 0.3 * math.Log(2.5)},
			} {
				if math.Abs(x[0]-x[1]) > 1e-5 {
					t.Fatalf("endpoint %d, step %d: %s differs by %v, want %v", endpoint, i, what, x[0], x[1])
				}
			}
			if touched == 1 {
				if got := float64(with.slowed[i]); math.Abs(got-0.02*on) > 1e-6 {
					t.Fatalf("step %d: share slowed %v", i, got)
				}
				if got := float64(with.more[i]); math.Abs(got-on*math.Ln2) > 1e-6 {
					t.Fatalf("step %d: retries times exp(%v)", i, got)
				}
			}
		}
	}
	if math.Abs(math.Exp(effect.around(w, c, 0, at).by)-5.2417) > 5e-5 {
		t.Error("the slowed requests of t25 are not slowed by 5.2417")
	}

	// Beside a saturating capacity, more traffic waits longer, too.
	w.Capacity = 4
	wait := Effect{Traffic: 1}.around(w, c, 0, at)
	calm := Effect{}.around(w, c, 0, at)
	relative := float64(calm.load[130]) / 300
	want := 0.2*math.Ln2 + math.Log((1-relative/4)/max(1-2*relative/4, 0.02))
	if d := float64(wait.mu[130] - calm.mu[130]); math.Abs(d-want) > 1e-4 {
		t.Errorf("twice the traffic adds %v, want %v", d, want)
	}
}

// The truth is told, and shows in the counts: what an effect does to the log rates of the hour
// after the upgrade, in twenty deploys of the same latents with and without it, is the truth
// within 3 % (some 4 standard deviations of the counting).
func TestTruth(t *testing.T) {
	w := NewWorld(15, 200)
	w.Rates = w.Rates[:4]
	w.Behind = 2
	w.From, w.To = -20, 60
	var services []*Service
	for n := range 5 {
		services = append(services, w.Service(n))
	}
	change := func(metric telemetry.Metric, whole, tail, retry float64) float64 {
		switch {
		case metric == telemetry.Retry:
			return retry
		case metric == telemetry.Tail:
			return (1+whole)*(1+tail) - 1
		case tail != 0:
			return math.NaN() // below
		}
		return whole
	}
	effects := []Effect{{Whole: 0.25}, {Whole: 1}, {Tail: 0.5}, {Tail: 1}, {Retry: 0.5}, {Retry: 4}, {Whole: 0.5, Retry: 1, On: []int{0, 1, 2, 3}}}
	for _, e := range effects {
		ratio := map[telemetry.Metric][]float64{}
		for _, s := range services {
			for _, at := range w.Deploys() {
				with, without := s.Deploy(at, e), s.Deploy(at, Effect{})
				for i, track := range with.Tracks {
					truth := with.Truth[i]
					if !e.touches(w, i/3) {
						if truth != (Truth{}) {
							t.Fatalf("%v: the truth of a sibling is %+v", e, truth)
						}
						continue
					}
					want := change(track.Metric, e.Whole, e.Tail, e.Retry)
					if math.IsNaN(want) {
						if truth.Change < 0 || truth.Change > 0.05 {
							t.Errorf("%v: the body's quantile changes by %v, want next to nothing", e, truth.Change)
						}
					} else if math.Abs(truth.Change-want) > 1e-9 {
						t.Errorf("%v: %s changes by %v, want %v", e, track.Metric, truth.Change, want)
					}
					after := func(d *Deploy) float64 {
						x := d.Tracks[i].Slice(0, 60)
						rates := 0.0
						for m, k := range x.Events {
							rates += math.Log((k + 0.5) / (x.Trials[m] + 1))
						}
						return rates / 60
					}
					ratio[track.Metric] = append(ratio[track.Metric], after(with)-after(without)-math.Log1p(truth.Exceedance))
				}
			}
		}
		for m, x := range ratio {
			if mean, _ := meanSD(x); math.Abs(mean) > 0.03 {
				t.Errorf("%v: events of %s are exp(%.3f) times what the truth says", e, m, mean)
			}
		}
	}
	if got := services[0].Deploy(w.Deploys()[0], Effect{Traffic: 1.5}).Truth[0]; got != (Truth{}) {
		t.Errorf("the truth of traffic is %+v, want no change", got)
	}
}

func TestLevelIsTheMedianOfTheMoment(t *testing.T) {
	w := small(16, 1)
	w.Level = true
	s := w.Service(0)
	at := w.Deploys()[0]
	with, without := s.Deploy(at, Effect{Whole: 1}), s.Deploy(at, Effect{})
	level := func(d *Deploy) telemetry.Track { return d.Tracks[3] }
	if level(with).Metric != telemetry.Level || level(with).Signal != LevelSignal || level(with).Trials != nil {
		t.Fatalf("track 3 is %+v", level(with))
	}
	for i := range 120 {
		want := 1.0
		if i >= 60 {
			want = 2
		}
		if got := level(with).Events[i] / level(without).Events[i]; math.Abs(got-want) > 1e-5 {
			t.Fatalf("step %d: the level is %v times as high, want %v", i-60, got, want)
		}
	}
	h := s.History(at)[3]
	if got, want := h.Events[len(h.Events)-1], math.Exp(float64(s.courses[0].mu[2*(at-60)-1])); got != want {
		t.Errorf("the last level of history is %v, want %v", got, want)
	}
}

func TestFaults(t *testing.T) {
	w := NewWorld(17, 20)
	w.Rates = w.Rates[:4]
	w.Behind = 3
	w.Level = true
	at := w.Deploys()[0]
	clean := w.Service(0)

	w.Faults = Faults{Outages: 24, Lost: 0.02, Resets: 24, Pods: 5, Appear: 1, Rename: 1}
	s := w.Service(0)
	h := s.History(at)
	if len(h) != 12 {
		t.Fatalf("%d tracks of history, want four of each endpoint but the new one", len(h))
	}
	missing, together, less := 0, 0, 0.0
	for m := range h[0].Events {
		gone := math.IsNaN(h[0].Events[m])
		for _, x := range h[1:4] {
			if math.IsNaN(x.Events[m]) != gone || x.Trials != nil && math.IsNaN(x.Trials[m]) != gone {
				t.Fatalf("minute %d is missing in one metric and not in another", m)
			}
		}
		if gone {
			missing++
			if math.IsNaN(h[8].Events[m]) {
				together++
			}
			continue
		}
		if h[0].Events[m] > h[0].Trials[m] || h[2].Events[m] > h[2].Trials[m] {
			t.Fatalf("minute %d has more events than requests", m)
		}
		less += clean.history[0].trials[m] - h[0].Trials[m]
	}
	// 24 outages a day of 5.5 minutes on average, some of which overlap, and 2 % one by one.
	n := float64(len(h[0].Events))
	if got := float64(missing) / n; got < 0.08 || got > 0.14 {
		t.Errorf("%.3f of the minutes are missing, want about 0.11", got)
	}
	if got := float64(together) / float64(missing); got < 0.7 {
		t.Errorf("%.2f of them at another endpoint, too; outages are the service's", got)
	}
	// 24 resets a day lose half a minute each, 5 churned pods a day half of a fifth.
	if got, want := less/sum(clean.history[0].trials[:len(h[0].Events)]), (24*0.5+5*0.1)/1440; math.Abs(got/want-1) > 0.4 {
		t.Errorf("%.4f of the requests are lost in resets and churn, want %.4f", got, want)
	}

	d := s.Deploy(at, Effect{})
	if len(d.Tracks) != len(d.Truth) || len(d.Tracks) != 4+2+4+2+4 {
		t.Fatalf("%d tracks and %d truths, want 16: the old and the new name, one endpoint, the new one, a sibling", len(d.Tracks), len(d.Truth))
	}
	ends := func(i int) (first, last bool) {
		for k, v := range d.Tracks[i].Events {
			if !math.IsNaN(v) {
				first, last = first || k < 60, last || k >= 60
			}
		}
		return first, last
	}
	for _, tt := range []struct {
		track         int
		name          telemetry.Endpoint
		metric        telemetry.Metric
		before, after bool
	}{
		{0, s.Endpoint(0), telemetry.Tail, true, false},
		{4, s.renamed(0), telemetry.Retry, false, true},
		{6, s.Endpoint(1), telemetry.Tail, true, true},
		{10, s.Endpoint(2), telemetry.Retry, false, true},
		{12, s.Endpoint(3), telemetry.Tail, true, true},
	} {
		x := d.Tracks[tt.track]
		before, after := ends(tt.track)
		if x.Endpoint != tt.name || x.Metric != tt.metric || before != tt.before || after != tt.after {
			t.Errorf("track %d is %s of %s, before %t, after %t; want %+v", tt.track, x.Metric, x.Endpoint, before, after, tt)
		}
	}
	for i, v := range d.Tracks[0].Events[:60] { // history's faults are the window's
		if m := at - 60 + i; math.IsNaN(v) != math.IsNaN(s.history[0].trials[m]) {
			t.Errorf("minute %d is missing in the window or in history only", m)
		}
	}
}

// Steps that are lost after the upgrade alone change nothing before it.
func TestLostAfter(t *testing.T) {
	w := NewWorld(17, 20)
	w.Rates = w.Rates[:4]
	at := w.Deploys()[0]
	clean := w.Service(0)
	w.Faults.LostAfter = 0.3
	s := w.Service(0)
	for i, x := range s.History(at) {
		if !slices.Equal(x.Events, clean.History(at)[i].Events) {
			t.Fatalf("track %d of history differs", i)
		}
	}
	d, whole := s.Deploy(at, Effect{}), clean.Deploy(at, Effect{})
	lost, n := 0.0, 0.0
	for i, x := range d.Tracks {
		for k, v := range x.Events {
			switch {
			case math.IsNaN(v) && k < 60:
				t.Fatalf("track %d has lost step %d, before the upgrade", i, k-60)
			case math.IsNaN(v):
				lost++
			case v != whole.Tracks[i].Events[k]:
				t.Fatalf("track %d: step %d has %v events, want %v", i, k-60, v, whole.Tracks[i].Events[k])
			}
			if k >= 60 {
				n++
			}
		}
	}
	// 4 endpoints of 60 steps: the standard error of the share is 0.03.
	if share := lost / n; share < 0.2 || share > 0.4 {
		t.Errorf("%.2f of the steps after the upgrade are lost, want 0.3", share)
	}
}

func TestDeployOutsideOfTheWorld(t *testing.T) {
	s := small(18, 0.1).Service(0)
	for _, at := range []int{59, 8*minutesPerDay - 59} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a deploy at minute %d does not panic", at)
				}
			}()
			s.Deploy(at, Effect{})
		}()
	}
}
