package detect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// shortScene is a gauge in seconds on flagged endpoints a0, a1 … and controls c0, c1 …, 24
// steps before and 3 after, all quiet: levels of 0.1 s that alternate by 5 % and a trifle.
func shortScene(flagged, controls int) Input {
	in := scene(0, 0)
	in.Rule.Signals = []rule.Signal{{Name: "p99", Kind: rule.Gauge, Metric: "p99_seconds", Unit: "s", Direction: rule.Up, MinimumEffect: 0.1}}
	in.Geometry = baseline.Geometry{Before: 24, FirstLook: 2, Horizon: 3}
	in.Complete = 3
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range flagged + controls {
		name := fmt.Sprint("a", i)
		if i >= flagged {
			name = fmt.Sprint("c", i-flagged)
		}
		s := baseline.ShortSeries{Endpoint: telemetry.NewEndpoint(name), First: -24}
		for range 27 {
			s.Events = append(s.Events, 0.1*math.Exp(0.05*rng.NormFloat64()))
		}
		in.Short = append(in.Short, s)
	}
	return in
}

func raise(in *Input, i, from, to int, factor float64) {
	s := &in.Short[i]
	s.Events = slices.Clone(s.Events)
	for k := from; k < to; k++ {
		s.Events[k-s.First] *= factor
	}
}

func TestShortVerdicts(t *testing.T) {
	for _, c := range []struct {
		name      string
		do        func(*Input)
		want      Verdict
		suspected bool
		needs     string
		warning   string
	}{
		{name: "nothing happens", do: func(*Input) {}, want: NoMeaningfulRise},
		{name: "a rise that matters is too small to be seen", do: func(in *Input) { in.Rule.Signals[0].MinimumEffect = 0.01 }, want: Undecided},
		{name: "history is to say what matters", do: func(in *Input) { in.Rule.Signals[0].MinimumEffectAuto = true }, want: Undecided},
		{name: "doubles", do: func(in *Input) { raise(in, 0, 0, 3, 2) }, want: Regressed},
		{name: "doubles in two steps of three", do: func(in *Input) { raise(in, 0, 1, 3, 2) }, want: Undecided},
		{name: "rises less than its floor", do: func(in *Input) { raise(in, 0, 0, 3, 1.19) }, want: Undecided},
		{name: "rises less than the rule asks for", do: func(in *Input) {
			in.Rule.Signals[0].MinimumEffect = 2
			raise(in, 0, 0, 3, 2)
		}, want: NoMeaningfulRise},
		{name: "short baseline", do: func(in *Input) {
			in.Geometry.Before = 8
			raise(in, 0, 0, 3, 2)
		}, want: Regressed, warning: VeryShortBaseline},
		{name: "short baseline with the same move in it", do: func(in *Input) {
			in.Geometry.Before = 10
			raise(in, 0, 0, 3, 2)
			raise(in, 1, -6, -3, 2.2)
		}, want: Undecided, suspected: true, warning: "nearly as large"},
		{name: "the same move long ago in a longer baseline", do: func(in *Input) {
			raise(in, 0, 0, 3, 2)
			raise(in, 1, -6, -3, 2.2)
		}, want: Regressed},
		{name: "no room for the guard", do: func(in *Input) {
			in.Geometry.Before = 6
			raise(in, 0, 0, 3, 10)
		}, want: Undecided, suspected: true, warning: "too short"},
		{name: "younger than six steps", do: func(in *Input) {
			for i := range in.Short {
				for k := range 19 {
					in.Short[i].Events[k] = math.NaN()
				}
			}
		}, want: NotEnoughData, needs: "steps"},
		{name: "one step after", do: func(in *Input) { in.Complete = 1 }, want: NotEnoughData, needs: "steps"},
		{name: "waits for the last look", do: func(in *Input) {
			in.Complete, in.Waiting = 2, true
			raise(in, 0, 0, 3, 2)
		}, want: NotEnoughData, needs: "steps"},
		{name: "nobody waits", do: func(in *Input) {
			in.Complete = 2
			raise(in, 0, 0, 3, 2)
		}, want: Regressed},
		{name: "could not be read", do: func(in *Input) {
			in.Unread = map[int]string{0: "503"}
			raise(in, 0, 0, 3, 2)
		}, want: CouldNotCheck},
		{name: "turned off before it showed", do: func(in *Input) {
			in.WrittenAt = map[int]int{0: 1}
			raise(in, 0, 0, 3, 2)
		}, want: NotEnoughData, needs: "steps"},
		{name: "may not fall", do: func(in *Input) { in.Rule.Signals[0].Direction = rule.Down }, want: NotEnoughData, needs: "history"},
		{name: "no data after", do: func(in *Input) { raise(in, 0, 0, 3, math.NaN()) }, want: NotEnoughData, needs: "steps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := shortScene(4, 4)
			c.do(&in)
			j := Judge(in)
			r := rowOf(t, j, "a0")
			if r.Verdict != c.want || r.Suspected != c.suspected {
				t.Errorf("verdict %v, suspected %v, want %v, %v (q %v)", r.Verdict, r.Suspected, c.want, c.suspected, r.Q)
			}
			if (c.needs == "") != (r.Needs == nil) || r.Needs != nil && r.Needs.Of != c.needs {
				t.Errorf("needs %+v, want %q", r.Needs, c.needs)
			}
			if all := strings.Join(append(r.Warnings, j.Warnings...), "\n"); !strings.Contains(all, c.warning) {
				t.Errorf("warnings %q, want one of %q", all, c.warning)
			}
		})
	}
}

// Eight tests of which a0 is one: q is 8 p, q_act 4 p, as four endpoints are behind the flag.
func TestShortRow(t *testing.T) {
	in := shortScene(4, 4)
	raise(&in, 0, 0, 3, 2)
	j := Judge(in)
	r := rowOf(t, j, "a0")
	p := r.Metrics[0].P
	if !near(r.P, p) || !near(r.Q, 8*p) || !near(r.QAct, 4*p) || !near(j.Short.P, r.Q) || !(r.AttainableQ < r.Q) {
		t.Errorf("p %v, q %v, q_act %v, family %v, attainable %v of a test with p %v", r.P, r.Q, r.QAct, j.Short.P, r.AttainableQ, p)
	}
	if j.Tier != "short" || j.Short.Before != 24 || j.Short.After != 3 || j.Short.Tests != 8 || r.RegressedAt != 3 || !r.StillThere || j.Looks != 1 {
		t.Errorf("tier %s, %+v, regressed at %d", j.Tier, j.Short, r.RegressedAt)
	}
	if !(r.Change.Low99 < 1 && 1 < r.Change.High99) || !(r.Before.Value > 0.09 && r.Before.Value < 0.11 && r.After.Value > 0.18) {
		t.Errorf("change %+v, before %v, after %v", r.Change, r.Before.Value, r.After.Value)
	}
	if j.Controls != 4 || j.ControlsRisen || !j.RestartCovered || slices.Contains(j.Warnings, NoRestartInCalibration) {
		t.Errorf("controls %d, risen %v, restart covered %v", j.Controls, j.ControlsRisen, j.RestartCovered)
	}
	if !j.Short.MayAct(r.Q) {
		t.Errorf("%+v may not be acted on with q %v", j.Short, r.Q)
	}
	raise(&in, 5, 0, 3, 2)
	if j := Judge(in); !j.ControlsRisen || j.RestartCovered {
		t.Error("a control that doubles has not risen")
	}
}

func TestShortMayAct(t *testing.T) {
	sure := Short{Before: 20, Guard: baseline.ShortGuard{Run: true, Places: 5, Least: 0.5}}
	for _, c := range []struct {
		name string
		do   func(*Short)
		q    float64
		want bool
	}{
		{"sure", func(*Short) {}, 0.01, true},
		{"not so sure", func(*Short) {}, 0.011, false},
		{"19 steps", func(s *Short) { s.Before = 19 }, 0.001, false},
		{"the guard vetoes", func(s *Short) { s.Guard.Least = 0.005 }, 0.001, false},
		{"the guard was not run", func(s *Short) { s.Guard.Run = false }, 0.001, false},
		{"a second time", func(s *Short) { s.Again = true }, 0.001, false},
	} {
		s := sure
		c.do(&s)
		if got := s.MayAct(c.q); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Two requests a step can all be retried and still not come to 0.05 among many endpoints.
func TestShortSaysWhatItCannotReach(t *testing.T) {
	in := shortScene(0, 0)
	in.Rule.Signals = []rule.Signal{{Name: "errors", Kind: rule.Ratio, Metric: "e", Per: "r", Direction: rule.Up, MinimumEffect: 0.2}}
	for i := range 30 {
		s := baseline.ShortSeries{Endpoint: telemetry.NewEndpoint(fmt.Sprint("a", i)), First: -24}
		for range 27 {
			s.Events, s.Trials = append(s.Events, 0), append(s.Trials, 2)
		}
		in.Short = append(in.Short, s)
	}
	r := Judge(in).Rows[0]
	if r.Verdict != NotEnoughData || r.Needs == nil || r.Needs.Of != "requests" || r.Needs.Have != 6 || !(r.Needs.Need > 6 && r.Needs.Need < 60) {
		t.Errorf("verdict %v, attainable %v, needs %+v", r.Verdict, r.AttainableQ, r.Needs)
	}
	// With what it says it needs, before as after, the verdict is another.
	factor := math.Ceil(r.Needs.Need / 6)
	for _, s := range in.Short {
		for k := range s.Trials {
			s.Trials[k] *= factor
		}
	}
	if r := Judge(in).Rows[0]; r.Verdict != Undecided || r.AttainableQ > in.Rule.Alpha.Report {
		t.Errorf("with that many requests: verdict %v, attainable %v", r.Verdict, r.AttainableQ)
	}
}

// A 0.95-quantile and a 0.8-quantile beyond the last bound cannot rise, whatever happens.
func TestShortSaysThatBucketsEndTooEarly(t *testing.T) {
	in := shortScene(0, 0)
	in.Rule.Signals = []rule.Signal{{Name: "latency", Kind: rule.Histogram, Metric: "s", Quantile: 0.99, Direction: rule.Up, MinimumEffect: 0.1}}
	for i := range 2 {
		s := baseline.ShortSeries{Endpoint: telemetry.NewEndpoint(fmt.Sprint("a", i)), First: -24, Bounds: []float64{0.5, 1}}
		for _, atMost := range []float64{50, 75, 100} {
			s.Buckets = append(s.Buckets, slices.Repeat(telemetry.Values{atMost}, 27))
		}
		in.Short = append(in.Short, s)
	}
	r := Judge(in).Rows[0]
	if r.Verdict != NotEnoughData || r.AttainableQ != 1 || r.Needs == nil || r.Needs.Of != "buckets" {
		t.Errorf("verdict %v, attainable %v, needs %+v, want that it needs buckets", r.Verdict, r.AttainableQ, r.Needs)
	}
}

func TestShortOnlyWithoutHistory(t *testing.T) {
	in := shortScene(4, 4)
	raise(&in, 0, 0, 3, 2)
	in.Comparisons = append(in.Comparisons, quiet("z", 0, telemetry.Level))
	if j := Judge(in); j.Tier == "short" || j.Short != nil {
		t.Errorf("tier %s although an endpoint has 499 placebos", j.Tier)
	}
	for _, c := range []struct {
		g         baseline.Geometry
		endpoints int
		want      bool
	}{
		{baseline.Geometry{Before: 6, Horizon: 2}, 2, true},
		{baseline.Geometry{Before: 5, Horizon: 2}, 2, false},
		{baseline.Geometry{Before: 60, Guard: 3, Horizon: 60}, 40, true},
		{baseline.Geometry{Before: 60, Guard: 3, Horizon: 4}, 40, false},
		{baseline.Geometry{Before: 60, Horizon: 60}, 41, false},
		{baseline.Geometry{Before: 60, Horizon: 60}, 1, false},
	} {
		if got := ShortApplies(nil, c.g, c.endpoints); got != c.want {
			t.Errorf("%+v with %d endpoints: %v, want %v", c.g, c.endpoints, got, c.want)
		}
	}
}

func TestShortDoesNotDependOnOrder(t *testing.T) {
	in := shortScene(4, 4)
	raise(&in, 0, 0, 3, 2)
	raise(&in, 2, 0, 3, 1.6)
	want := fmt.Sprintf("%+v", Judge(in).Rows)
	rng := rand.New(rand.NewPCG(2, 2))
	for range 20 {
		rng.Shuffle(len(in.Short), func(i, k int) { in.Short[i], in.Short[k] = in.Short[k], in.Short[i] })
		if got := fmt.Sprintf("%+v", Judge(in).Rows); got != want {
			t.Fatalf("in another order:\n%s\nwant\n%s", got, want)
		}
	}
}
