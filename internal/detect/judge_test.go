package detect

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

var upgraded = time.Date(2026, 3, 11, 14, 2, 10, 0, time.UTC)

// ladder are placebos from 0.01 up in steps of 0.01: of 499 the ninth largest is 4.91, the
// tenth 4.90.
func ladder(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(i+1) / 100
	}
	return x
}

// quiet is a comparison in which nothing happened: 499 placebos, ten events a step in class
// 3, and z = 0.1 with s = 0.02 at every look of the hour.
func quiet(endpoint string, signal int, metric telemetry.Metric) baseline.Comparison {
	c := baseline.Comparison{
		Endpoint: telemetry.NewEndpoint(endpoint), Signal: signal, Metric: metric,
		Calibration: &baseline.Calibration{
			EventsPerStep: 10, Block: 1, Class: 3, Placebos: 499,
			Maxima: ladder(499), Minima: ladder(499), Scale: 0.02,
		},
		BaselineEvents: 600, BaselineTrials: 60000, Before: 0.01, After: 0.01, Unit: baseline.Counted(),
	}
	for t := 5; t <= 60; t++ {
		c.Looks = append(c.Looks, baseline.Look{
			T: t, Adj: 0.002, S: 0.02, Z: 0.1, Max: 0.1, Min: -0.01, J10: 1, J5: 1, Jp: 1,
			Events: 10 * float64(t-3), Trials: 1000 * float64(t-3), EventSteps: t - 3, Valid: true,
		})
	}
	return c
}

// move makes the statistic z, the difference adj, from look t on.
func move(c *baseline.Comparison, t int, z, adj float64) {
	for i := range c.Looks {
		if l := &c.Looks[i]; l.T >= t {
			l.Z, l.Adj, l.Max, l.Min = z, adj, max(l.Max, z), max(l.Min, -z)
		}
	}
	c.After = c.Before * math.Exp(adj)
}

func each(c *baseline.Comparison, change func(*baseline.Look)) {
	for i := range c.Looks {
		change(&c.Looks[i])
	}
}

// scene is one ratio on flagged endpoints a0, a1 … and controls c0, c1 …, all quiet and all
// looks made.
func scene(flagged, controls int) Input {
	in := Input{
		Rule: &rule.Rule{
			Endpoint: []string{"route"},
			Windows:  rule.Windows{Step: time.Minute},
			Signals:  []rule.Signal{{Name: "retries", Kind: rule.Ratio, Metric: "retries_total", Per: "requests_total", Direction: rule.Up, MinimumEffect: 0.2}},
			Flags:    []rule.Flag{{Key: "f", Behind: map[string]*regexp.Regexp{"route": regexp.MustCompile("^(?:a.*)$")}}},
			Alpha:    rule.Alpha{Report: 0.05, Act: 0.01},
		},
		Upgrade:  telemetry.Upgrade{Started: upgraded, At: upgraded},
		Geometry: baseline.Geometry{Before: 60, Guard: 3, FirstLook: 5, Horizon: 60, History: 10080},
		Complete: 60,
	}
	for i := range flagged {
		in.Comparisons = append(in.Comparisons, quiet(fmt.Sprint("a", i), 0, telemetry.Retry))
	}
	for i := range controls {
		in.Comparisons = append(in.Comparisons, quiet(fmt.Sprint("c", i), 0, telemetry.Retry))
	}
	return in
}

// through cuts the looks after t.
func through(in *Input, t int) {
	in.Complete = t
	for i := range in.Comparisons {
		c := &in.Comparisons[i]
		c.Looks = slices.DeleteFunc(slices.Clone(c.Looks), func(l baseline.Look) bool { return l.T > t })
	}
}

func rowOf(t *testing.T, j Judgement, endpoint string) Row {
	t.Helper()
	for _, r := range j.Rows {
		if r.Endpoint == telemetry.NewEndpoint(endpoint) {
			return r
		}
	}
	t.Fatalf("no row of %s", endpoint)
	return Row{}
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-9*max(1, math.Abs(want)) }

// TestDecisionTable changes endpoint a0 of four flagged endpoints and six controls: m = 10,
// k = 1, 4,990 placebos. A z of 6 exceeds them all: p = 1/4991, q = 10/4991 = 0.0020, and
// q_act = 4/4991. A z of 4.965 is exceeded by 3 of each endpoint: p = 31/4991 = 0.0062, q =
// 0.062; a z of 4.985 by 1: p = 11/4991, q = 110/4991 = 0.0220. The third step with events
// since the guard is that of look 6. All by hand.
func TestDecisionTable(t *testing.T) {
	const certain, likely = 6, 4.985
	type want struct {
		verdict   Verdict
		suspected bool
		at        int
		warnings  []string
		needs     *Needs
	}
	after := func(steps int) time.Time { return upgraded.Add(time.Duration(steps) * time.Minute) }
	tests := []struct {
		name string
		do   func(in *Input, c *baseline.Comparison)
		want want
	}{
		{"1 could not be read", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			in.Unread = map[int]string{0: "503"}
		}, want{verdict: CouldNotCheck}},
		{"1 everything is touched", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			in.Unread = map[int]string{-1: "clock"}
		}, want{verdict: CouldNotCheck}},
		{"2 confirmed", func(in *Input, c *baseline.Comparison) { move(c, 20, certain, 1) }, want{verdict: Regressed, at: 20}},
		{"2 stays confirmed when it goes away", func(in *Input, c *baseline.Comparison) {
			move(c, 20, certain, 1)
			move(c, 30, 0, 0)
			each(c, func(l *baseline.Look) {
				if l.T >= 30 {
					l.Jp, l.J10 = 0, 0
				}
			})
		}, want{verdict: Regressed, at: 20}},
		{"2 confirmed when the gates open", func(in *Input, c *baseline.Comparison) {
			move(c, 20, certain, 1)
			each(c, func(l *baseline.Look) {
				if l.T < 25 {
					l.J5 = 0.49
				}
			})
		}, want{verdict: Regressed, at: 25}},
		{"2 half of the move is enough", func(in *Input, c *baseline.Comparison) {
			move(c, 20, certain, 1)
			each(c, func(l *baseline.Look) { l.J10, l.J5, l.Jp = 0.5, 0.5, 0.5 })
		}, want{verdict: Regressed, at: 20}},
		{"2 confirmed when the events are enough", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) {
				if l.T < 9 {
					l.Events = 7
				}
				if l.T < 11 {
					l.EventSteps = 2
				}
			})
		}, want{verdict: Regressed, at: 11}},
		{"2 few expected events suppress no detection", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			c.Calibration.EventsPerStep = 0
		}, want{verdict: Regressed, at: 6}},
		{"12 a q above both levels", func(in *Input, c *baseline.Comparison) { move(c, 20, 4.965, 1) }, want{verdict: Undecided}},
		{"4 began before: J10", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) { l.J10 = 0.49 })
		}, want{verdict: PreExisting}},
		{"4 began before: J5, between the levels, small effect", func(in *Input, c *baseline.Comparison) {
			move(c, 5, likely, 0.01)
			each(c, func(l *baseline.Look) { l.J5 = 0 })
		}, want{verdict: PreExisting}},
		{"5 gone again", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) { l.Jp = 0.49 })
		}, want{verdict: Transient}},
		{"6 suspected", func(in *Input, c *baseline.Comparison) { move(c, 5, likely, 1) }, want{verdict: Undecided, suspected: true}},
		{"6 it is unknown by how much", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			c.Unit = baseline.Unit{}
		}, want{verdict: Undecided, suspected: true, warnings: []string{EffectUnknown}}},
		{"6 it is unknown since when", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) { l.J10 = math.NaN() })
		}, want{verdict: Undecided, suspected: true, warnings: []string{OriginUnknown}}},
		// ln 1.19 = 0.174; the bound is exp(0.174 + 1.645*0.02) - 1 = 0.23.
		{"7 effect too small", func(in *Input, c *baseline.Comparison) { move(c, 5, certain, math.Log(1.19)) }, want{verdict: Undecided}},
		// exp(ln 1.1 + 0.0329) - 1 = 0.137 < 0.2.
		{"7 effect too small to matter", func(in *Input, c *baseline.Comparison) { move(c, 5, certain, math.Log(1.1)) }, want{verdict: NoMeaningfulRise}},
		{"7 absolute change too small", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, math.Log(1.5)) // 0.01 to 0.015
			in.Rule.Signals[0].MinimumChange = 0.0051
		}, want{verdict: Undecided}},
		{"2 absolute change just large enough", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, math.Log(1.5))
			in.Rule.Signals[0].MinimumChange = 0.0049
		}, want{verdict: Regressed, at: 6}},
		{"2 absolute change from nothing", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 5)
			c.Before, c.After, c.BaselineEvents = 0, 0.2, 0
			in.Rule.Signals[0].MinimumChange = 0.1
		}, want{verdict: Regressed, at: 6}},
		{"2 absolute change from beyond the last bound", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, math.Log(1.5)) // from at least 10 to at least 15
			c.Before, c.BeforeAtLeast, c.After, c.AfterAtLeast = math.NaN(), 10, math.NaN(), 10
			in.Rule.Signals[0].MinimumChange = 4.9
		}, want{verdict: Regressed, at: 6}},
		{"6 the absolute change cannot be had", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, math.Log(1.5))
			c.Before, c.After = math.NaN(), math.NaN()
			in.Rule.Signals[0].MinimumChange = 0.001
		}, want{verdict: Undecided, suspected: true, warnings: []string{EffectUnknown}}},
		{
			"6 a change beyond all numbers", func(in *Input, c *baseline.Comparison) { move(c, 5, certain, 800) },
			want{verdict: Undecided, suspected: true, warnings: []string{EffectUnknown}},
		},
		{"8 load outside history", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) { l.LoadSD = 4.1 })
		}, want{verdict: Undecided, warnings: []string{LoadOutsideHistory}}},
		{"8 gates that open while the load is outside history", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) {
				if l.T < 20 {
					l.J5 = 0
				} else {
					l.LoadSD = 4.1
				}
			})
		}, want{verdict: Undecided, warnings: []string{LoadOutsideHistory}}},
		{"2 confirmed when the load is known again", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) {
				if l.T < 40 {
					l.LoadSD = -4.1
				}
			})
			move(c, 40, 7, 1)
		}, want{verdict: Regressed, at: 40}},
		{"12 what was seen outside history does not count afterwards", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) {
				if l.T < 40 {
					l.LoadSD = 4.1
				} else {
					l.Z, l.Adj = 0.1, 0.2
				}
			})
		}, want{verdict: Undecided}},
		{"10 no calibration", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			c.Calibration = nil
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "placebos", Have: 0, Need: 60, When: after(60 * 20)}}},
		{"10 too few placebos", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			c.Calibration.Placebos = 59
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "placebos", Have: 59, Need: 60, When: after(20)}}},
		{"10 the rule's history is too short for placebos", func(in *Input, c *baseline.Comparison) {
			in.Geometry.History = 1299
			c.Calibration = nil // the newest is 120 steps back, the 60th 59 strides of 20 further
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "history", Have: 1299, Need: 1300}}},
		{"10 too few requests before", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			c.BaselineTrials = 99
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "requests", Have: 99, Need: 100}}},
		{"10 too much missing before", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			c.BaselineMissing = 0.25
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 45, Need: 48}}},
		{"10 too much missing after", func(in *Input, c *baseline.Comparison) {
			through(in, 23)
			l := &c.Looks[len(c.Looks)-1] // 6 of the 20 steps since the guard are lost, a fifth of 30
			l.Valid, l.Missing, l.Z, l.Adj = false, 0.3, math.NaN(), math.NaN()
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 14, Need: 16, When: after(33)}}},
		{"10 too much missing to come right by the last look", func(in *Input, c *baseline.Comparison) {
			l := &c.Looks[len(c.Looks)-1] // 17 of 57, a fifth of 85
			l.Valid, l.Missing = false, 17.0/57
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 40, Need: 46}}},
		{"12 few events so far are no lack", func(in *Input, c *baseline.Comparison) {
			each(c, func(l *baseline.Look) { l.Events, l.EventSteps = 2, 1 })
			through(in, 10)
		}, want{verdict: Undecided}},
		{
			"10 turned off before the first look", func(in *Input, c *baseline.Comparison) { in.WrittenAt = map[int]int{0: 4} },
			want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 4, Need: 5}},
		},
		{
			"10 gone after the upgrade", func(in *Input, c *baseline.Comparison) { c.Looks = nil },
			want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 0, Need: 46}},
		},
		{"10 nothing was requested", func(in *Input, c *baseline.Comparison) {
			each(c, func(l *baseline.Look) { l.Valid, l.Trials, l.Events = false, 0, 0 })
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "requests", Have: 0, Need: 1}}},
		{"10 no look could be made yet", func(in *Input, c *baseline.Comparison) {
			each(c, func(l *baseline.Look) { l.Valid = false })
			through(in, 13)
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 10, Need: 57, When: after(60)}}},
		{"12 one look could not be made", func(in *Input, c *baseline.Comparison) {
			through(in, 13)
			in.Comparisons[0].Looks[8].Valid = false
		}, want{verdict: Undecided}},
		{
			"10 events that never come", func(in *Input, c *baseline.Comparison) { c.Calibration.EventsPerStep = 0 },
			want{verdict: NotEnoughData, needs: &Needs{Of: "events", Have: 0, Need: 4}},
		},
		{
			"10 events in a million years", func(in *Input, c *baseline.Comparison) { c.Calibration.EventsPerStep = 1e-12 },
			want{verdict: NotEnoughData, needs: &Needs{Of: "events", Have: 57e-12, Need: 4}},
		},
		{
			"10 few expected events", func(in *Input, c *baseline.Comparison) { c.Calibration.EventsPerStep = 0.05 },
			want{verdict: NotEnoughData, needs: &Needs{Of: "events", Have: 2.85, Need: 4, When: after(83)}},
		},
		{"10 a jump of seven events", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) { l.Events = 7 })
			through(in, 10)
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "events", Have: 7, Need: 8, When: after(11)}}},
		{"10 a jump in two steps", func(in *Input, c *baseline.Comparison) {
			move(c, 5, certain, 1)
			each(c, func(l *baseline.Look) { l.EventSteps = 2 })
		}, want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 2, Need: 3}}},
		{
			"10 before the first look", func(in *Input, c *baseline.Comparison) { through(in, 4) },
			want{verdict: NotEnoughData, needs: &Needs{Of: "steps", Have: 4, Need: 5, When: after(5)}},
		},
		{"11 improved", func(in *Input, c *baseline.Comparison) { move(c, 5, -certain, -0.5) }, want{verdict: Improved}},
		{"11 improved before the last look", func(in *Input, c *baseline.Comparison) {
			move(c, 5, -certain, -0.5)
			through(in, 20)
		}, want{verdict: Improved}},
		{"12 an improvement that is gone", func(in *Input, c *baseline.Comparison) {
			move(c, 5, -certain, -0.5)
			move(c, 10, 0.1, 0.01)
			through(in, 20)
		}, want{verdict: Undecided}},
		{"12 before the last look", func(in *Input, c *baseline.Comparison) { through(in, 59) }, want{verdict: Undecided}},
		{"13 no meaningful rise", func(in *Input, c *baseline.Comparison) {}, want{verdict: NoMeaningfulRise}},
		// exp(0.002 + 1.645*0.12) - 1 = 0.221
		{"14 not excluded", func(in *Input, c *baseline.Comparison) { each(c, func(l *baseline.Look) { l.S = 0.12 }) }, want{verdict: Undecided}},
		{"14 the bound is unknown", func(in *Input, c *baseline.Comparison) { c.Unit = baseline.Unit{} }, want{verdict: Undecided}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene(4, 6)
			tt.do(&in, &in.Comparisons[0])
			got := rowOf(t, Judge(in), "a0")
			if got.Verdict != tt.want.verdict || got.Suspected != tt.want.suspected || got.RegressedAt != tt.want.at {
				t.Errorf("verdict %v, suspected %v, regressed at %d; want %v, %v, %d (p %v q %v change %+v)",
					got.Verdict, got.Suspected, got.RegressedAt, tt.want.verdict, tt.want.suspected, tt.want.at, got.P, got.Q, got.Change)
			}
			if !slices.Equal(got.Warnings, tt.want.warnings) {
				t.Errorf("warnings %q, want %q", got.Warnings, tt.want.warnings)
			}
			switch {
			case (got.Needs == nil) != (tt.want.needs == nil):
				t.Errorf("needs %+v, want %+v", got.Needs, tt.want.needs)
			case got.Needs != nil && (got.Needs.Of != tt.want.needs.Of || !near(got.Needs.Have, tt.want.needs.Have) ||
				!near(got.Needs.Need, tt.want.needs.Need) || !got.Needs.When.Equal(tt.want.needs.When)):
				t.Errorf("needs %+v, want %+v", *got.Needs, *tt.want.needs)
			}
			if got.Verdict == Regressed && got.Control {
				t.Error("a0 is behind the flag and counts as a control")
			}
		})
	}
}

func TestNumbersOfARow(t *testing.T) {
	in := scene(4, 6)
	in.Comparisons[0].Calibration.Scale = 0.3
	move(&in.Comparisons[0], 20, 6, 1)
	through(&in, 30)
	r := rowOf(t, Judge(in), "a0")
	checks := []struct {
		name      string
		got, want float64
	}{ // by hand
		{"p", r.P, 1.0 / 4991},
		{"q", r.Q, 10.0 / 4991},
		{"q_act", r.QAct, 4.0 / 4991},
		{"attainable q", r.AttainableQ, 10.0 / 4991},
		{"ratio", r.Change.Ratio, math.E - 1},
		{"low", r.Change.Low99, math.Exp(1-2.5758*0.02) - 1},
		{"high", r.Change.High99, math.Exp(1+2.5758*0.02) - 1},
		{"bound", r.Change.Bound95, math.Exp(1.0329) - 1},
		// alpha 0.01 of 4,991 is 49.91: 48 placebos may be as large, so the 49th largest must be
		// exceeded. Ten endpoints have the same ladder: 4.99 ten times, …, 4.95 from the 41st on.
		{"detectable", r.Change.Detectable, math.Exp(0.3*(4.95+0.8416)) - 1},
		{"minimum effect", r.Change.MinimumEffect, 0.2},
		{"requests before", r.Before.Requests, 60000},
		{"events after", r.After.Events, 270},
		{"looks", float64(r.Looks), 26},
	}
	for _, c := range checks {
		if !near(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if !math.IsNaN(r.Exceedance.Ratio) || !math.IsNaN(r.Quantile) {
		t.Errorf("a ratio has exceedance %v and quantile %v", r.Exceedance.Ratio, r.Quantile)
	}
}

// pareto are 60,000 requests in either window of which 0.002 / x² take longer than x seconds, so
// that a log difference of 2 is one of latency of 1.
func pareto() *baseline.Buckets {
	const n = 60000
	b := &baseline.Buckets{Bounds: []float64{0.05, 0.1, 0.2, 0.5, 1, 2}}
	for _, x := range b.Bounds {
		b.After = append(b.After, n-n*0.002/(x*x))
	}
	b.After = append(b.After, n)
	b.Before = b.After
	return b
}

// histogram turns the signal of a scene into one and gives each endpoint a body next to its
// tail: k = 2.
func histogram(in *Input) {
	in.Rule.Signals[0] = rule.Signal{Name: "latency", Kind: rule.Histogram, Metric: "seconds", Quantile: 0.99, Direction: rule.Up, MinimumEffect: 0.1}
	for i, c := range in.Comparisons {
		in.Comparisons[i].Metric, in.Comparisons[i].Bound = telemetry.Tail, 0.5
		in.Comparisons[i].Unit = baseline.UnitOf(telemetry.Tail, 0.5, pareto())
		body := quiet(c.Endpoint.String(), 0, telemetry.Body)
		body.Bound, body.Unit = 0.1, baseline.UnitOf(telemetry.Body, 0.1, pareto())
		in.Comparisons = append(in.Comparisons, body)
	}
}

func TestHistogramRows(t *testing.T) {
	in := scene(4, 6)
	histogram(&in)
	move(&in.Comparisons[10], 10, 6, math.Log(4)) // the body of a0: four times as many, twice as slow
	j := Judge(in)
	if len(j.Rows) != 10 {
		t.Fatalf("%d rows, want one per endpoint", len(j.Rows))
	}
	r := j.Rows[0]
	// p = 2/4991 with two metrics, times 10 endpoints; quantile and change are the body's.
	if r.Endpoint.String() != "a0" || r.Metric != telemetry.Body || r.Quantile != 0.8 || r.Verdict != Regressed ||
		!near(r.P, 2.0/4991) || !near(r.Q, 20.0/4991) || !near(r.AttainableQ, 20.0/4991) {
		t.Errorf("row %+v", r)
	}
	if !near(r.Change.Ratio, 1) || !near(r.Exceedance.Ratio, 3) || !math.IsNaN(r.Exceedance.MinimumEffect) {
		t.Errorf("change %+v, exceedance %+v", r.Change, r.Exceedance)
	}
	if len(r.Metrics) != 2 || r.Metrics[0].Metric != telemetry.Tail || r.Metrics[0].P != 1 || !near(r.Metrics[1].P, 1.0/4991) {
		t.Errorf("metrics %+v", r.Metrics)
	}

	t.Run("a quiet row shows the metric that hides more", func(t *testing.T) {
		in := scene(4, 6)
		histogram(&in)
		each(&in.Comparisons[0], func(l *baseline.Look) { l.S = 0.5 }) // the tail of a0: up to +51 %
		r := rowOf(t, Judge(in), "a0")
		if r.Metric != telemetry.Tail || r.Verdict != Undecided {
			t.Errorf("metric %s, verdict %v", r.Metric, r.Verdict)
		}
	})
	t.Run("nor does a body that moved clear the tail", func(t *testing.T) {
		in := scene(4, 6)
		histogram(&in)
		each(&in.Comparisons[0], func(l *baseline.Look) { l.S = 0.5 })
		move(&in.Comparisons[10], 10, 4.955, 0.01) // p = 2 * 41/4991, q = 0.16: the body is shown, at most +2 %
		r := rowOf(t, Judge(in), "a0")
		if r.Metric != telemetry.Body || r.Verdict != Undecided || !(r.Change.Bound95 < 0.1) {
			t.Errorf("metric %s, verdict %v, change %+v", r.Metric, r.Verdict, r.Change)
		}
	})
	t.Run("a tail without a bound is not cleared by the body", func(t *testing.T) {
		in := scene(4, 6)
		histogram(&in)
		in.Lacking = []Lacking{{Endpoint: "a0", Metric: telemetry.Tail, Needs: Needs{Of: "buckets", Need: 1}, Note: "no bound near 1 %"}}
		in.Comparisons = slices.Delete(in.Comparisons, 0, 1)
		r := rowOf(t, Judge(in), "a0")
		if r.Verdict != NotEnoughData || r.Needs == nil || r.Needs.Of != "buckets" || len(r.Metrics) != 2 || r.Metrics[0].Testable {
			t.Errorf("row %+v, needs %+v", r, r.Needs)
		}
		// The body alone still confirms, and pays for one test only.
		move(&in.Comparisons[9], 10, 6, 0.5)
		r = rowOf(t, Judge(in), "a0")
		if r.Verdict != Regressed || !near(r.P, 1.0/4991) {
			t.Errorf("verdict %v, p %v", r.Verdict, r.P)
		}
	})
	t.Run("nothing of it can be tested", func(t *testing.T) {
		in := scene(4, 6)
		histogram(&in)
		in.Lacking = []Lacking{{Endpoint: "a0", Metric: telemetry.Body, Needs: Needs{Of: "buckets", Need: 1}, Note: "no bound near 20 %"}}
		in.Comparisons = slices.Delete(in.Comparisons, 10, 11)
		in.Comparisons[0].BaselineTrials = 50
		// What the tail lacks comes first: it is what the rule names.
		if r := rowOf(t, Judge(in), "a0"); r.Verdict != NotEnoughData || r.Needs.Of != "requests" || r.Before.Requests != 50 {
			t.Errorf("row %+v, needs %+v", r, r.Needs)
		}
		in.Comparisons = in.Comparisons[1:]
		if r := rowOf(t, Judge(in), "a0"); r.Needs.Of != "buckets" || r.Note != "no bound near 20 %" || r.Metric != telemetry.Body {
			t.Errorf("row %+v, needs %+v", r, r.Needs)
		}
	})
	t.Run("beyond the last bound an interval is open", func(t *testing.T) {
		in := scene(4, 6)
		histogram(&in)
		in.Comparisons[0].Unit = baseline.UnitOf(telemetry.Tail, 2, pareto())
		each(&in.Comparisons[0], func(l *baseline.Look) { l.S = 0.05 })
		in.Comparisons = slices.DeleteFunc(in.Comparisons, func(c baseline.Comparison) bool { return c.Metric == telemetry.Body })
		r := rowOf(t, Judge(in), "a0")
		if r.Verdict != Undecided || !near(r.Change.Ratio, math.Exp(0.001)-1) || !(r.Change.Low99 < 0) || !math.IsNaN(r.Change.High99) || !math.IsNaN(r.Change.Bound95) {
			t.Errorf("quiet: verdict %v, change %+v", r.Verdict, r.Change)
		}
		// The power law goes on: exp(1 / 2) - 1.
		move(&in.Comparisons[0], 10, 6, 1)
		r = rowOf(t, Judge(in), "a0")
		if r.Verdict != Regressed || !near(r.Change.Ratio, math.Exp(0.5)-1) || r.Change.Low99 != 0 || !math.IsNaN(r.Change.High99) {
			t.Errorf("risen: verdict %v, change %+v", r.Verdict, r.Change)
		}
		in.Rule.Signals[0].Direction = rule.Both // the way that has no end excludes nothing
		if r = rowOf(t, Judge(in), "a0"); !math.IsNaN(r.Change.Bound95) {
			t.Errorf("both: change %+v", r.Change)
		}
	})
	t.Run("auto", func(t *testing.T) {
		in := scene(4, 6)
		histogram(&in)
		in.Rule.Signals[0].MinimumEffect, in.Rule.Signals[0].MinimumEffectAuto = 0, true
		for i := range in.Comparisons {
			in.Comparisons[i].Calibration.Scale = 0.1
		}
		// At alpha 0.01/2 the 24th largest of 4,990 must be exceeded, 4.97:
		// exp(0.1 (4.97 + 0.8416) / 2) - 1 = 0.337. The bound of a0's tail, with s = 0.25, is
		// exp((0.002 + 1.645*0.25) / 2) - 1 = 0.229: above 10 %, below what can be found.
		each(&in.Comparisons[0], func(l *baseline.Look) { l.S = 0.25 })
		r := rowOf(t, Judge(in), "a0")
		want := math.Exp(0.1*(4.97+0.8416)/2) - 1
		if r.Verdict != NoMeaningfulRise || !near(r.Change.MinimumEffect, want) || !near(r.Change.Detectable, want) {
			t.Errorf("verdict %v, change %+v, want a minimum effect of %v", r.Verdict, r.Change, want)
		}
		// Confirming takes 10 % only: exp(0.2 / 2) - 1 = 0.105.
		move(&in.Comparisons[0], 10, 6, 0.2)
		if r = rowOf(t, Judge(in), "a0"); r.Verdict != Regressed || r.Change.MinimumEffect != 0.1 {
			t.Errorf("verdict %v, change %+v", r.Verdict, r.Change)
		}
	})
}

func TestLacking(t *testing.T) {
	in := scene(4, 6)
	in.Lacking = []Lacking{{Endpoint: "b", Metric: telemetry.Retry, Needs: Needs{Of: "history", Have: 10, Need: 60}, Note: "younger than its baseline"}}
	j := Judge(in)
	r := rowOf(t, j, "b")
	if r.Verdict != NotEnoughData || *r.Needs != in.Lacking[0].Needs || r.Note != in.Lacking[0].Note || !math.IsNaN(r.P) {
		t.Errorf("row %+v", r)
	}
	// It is not in the family: 10 endpoints, not 11.
	if r := rowOf(t, j, "a0"); !near(r.AttainableQ, 10.0/4991) {
		t.Errorf("attainable q %v", r.AttainableQ)
	}
	in.Unread = map[int]string{0: "partial answer"}
	if r := rowOf(t, Judge(in), "b"); r.Verdict != CouldNotCheck || r.Note != "partial answer" {
		t.Errorf("row %+v", r)
	}
}

func TestDirections(t *testing.T) {
	tests := []struct {
		name      string
		direction rule.Direction
		z, adj    float64
		verdict   Verdict
		p         float64
	}{ // by hand; exp(-0.5) - 1 = -39 %
		{"down falls", rule.Down, -6, -0.5, Regressed, 1.0 / 4991},
		{"down rises", rule.Down, 6, 0.5, Improved, 1},
		{"down falls too little", rule.Down, -6, -0.21, Undecided, 1.0 / 4991}, // -18.9 %, at most -21.6 %
		{"both fall", rule.Both, -6, -0.5, Regressed, 2.0 / 4991},
		{"both rise", rule.Both, 6, 0.5, Regressed, 2.0 / 4991},
		{"down stays", rule.Down, 0.1, 0.002, NoMeaningfulRise, 1},
		{"both stay", rule.Both, 0.1, 0.002, NoMeaningfulRise, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene(4, 6)
			in.Rule.Signals[0].Direction = tt.direction
			move(&in.Comparisons[0], 10, tt.z, tt.adj)
			r := rowOf(t, Judge(in), "a0")
			if r.Verdict != tt.verdict || !near(r.P, tt.p) {
				t.Errorf("verdict %v, p %v; want %v, %v", r.Verdict, r.P, tt.verdict, tt.p)
			}
			if lower := math.Exp(tt.adj-0.0329) - 1; tt.direction == rule.Down && !near(r.Change.Bound95, lower) {
				t.Errorf("bound %v, want the lower one, %v", r.Change.Bound95, lower)
			}
			// For both, the bound is the farther one: here, that on the side of the move.
			if bound := math.Exp(tt.adj+math.Copysign(0.0329, tt.adj)) - 1; tt.direction == rule.Both && !near(r.Change.Bound95, bound) {
				t.Errorf("bound %v, want %v", r.Change.Bound95, bound)
			}
			if !(r.Change.Detectable > 0) {
				t.Errorf("detectable %v is no size", r.Change.Detectable)
			}
		})
	}
	t.Run("a fall to nothing rests on the events before it", func(t *testing.T) {
		in := scene(4, 6)
		in.Rule.Signals[0].Direction = rule.Down
		c := &in.Comparisons[0]
		move(c, 10, -6, -3)
		each(c, func(l *baseline.Look) { l.Events, l.EventSteps = 0, 0 })
		if r := rowOf(t, Judge(in), "a0"); r.Verdict != Regressed {
			t.Errorf("verdict %v", r.Verdict)
		}
		c.BaselineEvents = 7
		if r := rowOf(t, Judge(in), "a0"); r.Verdict != NotEnoughData || r.Needs.Of != "events" || r.Needs.Have != 7 {
			t.Errorf("verdict %v, needs %+v", r.Verdict, r.Needs)
		}
	})
}

func TestGauge(t *testing.T) {
	in := scene(4, 6)
	in.Rule.Signals[0].Kind = rule.Gauge
	for i := range in.Comparisons {
		c := &in.Comparisons[i]
		c.Metric, c.BaselineTrials, c.BaselineEvents = telemetry.Level, 0, 0
		c.Calibration.EventsPerStep = 0
		each(c, func(l *baseline.Look) { l.Events, l.Trials, l.EventSteps = 0, 0, 0 })
	}
	move(&in.Comparisons[0], 10, 6, 1)
	r := rowOf(t, Judge(in), "a0")
	if r.Verdict != Regressed || !math.IsNaN(r.Before.Requests) || !math.IsNaN(r.After.Events) || !math.IsNaN(r.Exceedance.Ratio) {
		t.Errorf("row %+v", r)
	}
}

func TestOwnGuard(t *testing.T) {
	in := scene(4, 6)
	// a0 is wild: its own ninth largest placebo is 49.1. A z of 6 exceeds all placebos of the
	// others, but is ordinary for a0.
	for i, v := range in.Comparisons[0].Calibration.Maxima {
		in.Comparisons[0].Calibration.Maxima[i] = 10 * v
	}
	move(&in.Comparisons[0], 10, 6, 1)
	if r := rowOf(t, Judge(in), "a0"); r.P != 1 || r.Verdict == Regressed {
		t.Errorf("p %v, verdict %v", r.P, r.Verdict)
	}
	// The rank (1 + 9) / 500 is 0.02 and passes; (1 + 10) / 500 does not.
	for _, tt := range []struct{ z, p float64 }{
		{49.05, 10.0 / 4991},
		{48.95, 1},
	} {
		in := in
		in.Comparisons = slices.Clone(in.Comparisons)
		in.Comparisons[0].Looks = slices.Clone(in.Comparisons[0].Looks)
		move(&in.Comparisons[0], 10, tt.z, 1)
		if r := rowOf(t, Judge(in), "a0"); !near(r.P, tt.p) {
			t.Errorf("z %v: p %v, want %v", tt.z, r.P, tt.p)
		}
	}
}

func TestPools(t *testing.T) {
	classes := func(scale float64) Input {
		in := scene(4, 6)
		in.Rule.Alpha.Act = 0.004 // 10/4991 reaches it, 10/500 and 10/2496 do not
		for i := range in.Comparisons {
			c := in.Comparisons[i].Calibration
			switch {
			case i == 0:
				c.Class = 1
			case i < 5:
				c.Class = 2
				for k := range c.Maxima {
					c.Maxima[k] *= scale
				}
			}
		}
		move(&in.Comparisons[0], 10, 6, 1)
		return in
	}
	tests := []struct {
		name   string
		scale  float64
		p      float64
		pooled int
	}{ // by hand: 1, 4 and 5 endpoints of 499 placebos in the classes 1, 2, 3
		{"alike: all three", 1, 1.0 / 4991, 9 * 499}, // class 3 has enough with class 2
		{"the 0.95 quantile is beyond 2 of 499: its own only", 0.955, 1.0 / 500, 499},
		{"the 0.95 quantile is beyond a quarter: its own only", 1.4, 1.0 / 500, 499},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := Judge(classes(tt.scale))
			if r := rowOf(t, j, "a0"); !near(r.P, tt.p) || j.Pooled != tt.pooled {
				t.Errorf("p %v, pool %d; want %v, %d", r.P, j.Pooled, tt.p, tt.pooled)
			}
		})
	}
	t.Run("large enough alone", func(t *testing.T) {
		in := classes(1)
		in.Rule.Alpha.Act = 0.02 // 10/500
		if j := Judge(in); j.Pooled != 499 || j.Tier != "full" {
			t.Errorf("pool %d, tier %s", j.Pooled, j.Tier)
		}
	})
	t.Run("another metric name is another pool", func(t *testing.T) {
		in := scene(1, 0)
		in.Rule.Signals = append(in.Rule.Signals, in.Rule.Signals[0])
		in.Rule.Signals[1].Name, in.Rule.Signals[1].Metric = "timeouts", "timeouts_total"
		in.Comparisons = append(in.Comparisons, quiet("a1", 1, telemetry.Retry))
		if j := Judge(in); j.Pooled != 499 {
			t.Errorf("pool %d, want 499", j.Pooled)
		}
		in.Rule.Signals[1].Metric = in.Rule.Signals[0].Metric
		if j := Judge(in); j.Pooled != 998 {
			t.Errorf("pool %d, want 998", j.Pooled)
		}
	})
}

func TestTail(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var members [][]float64
	var all []float64
	for i := range 30 {
		own := make([]float64, 60+rng.IntN(100))
		for k := range own {
			own[k] = rng.NormFloat64() * float64(1+i%3)
		}
		slices.Sort(own)
		members = append(members, own)
		all = append(all, own...)
	}
	slices.Sort(all)
	tail := newTail(members, ownGuard)
	for range 300 {
		x := rng.NormFloat64() * 4
		passes := slices.ContainsFunc(members, func(own []float64) bool { return stat.RankP(own, x) <= ownGuard })
		got, want := tail.rankP(x), stat.RankP(all, x)
		if passes && !near(got, want) {
			t.Errorf("rank of %v: %v, in the whole pool %v", x, got, want)
		}
		if got < want && !near(got, want) {
			t.Errorf("rank of %v: %v, below that in the whole pool, %v", x, got, want)
		}
	}
	for _, alpha := range []float64{0.02, 0.01, 0.001} {
		c := tail.critical(alpha)
		if p := stat.RankP(all, math.Nextafter(c, 9)+1e-6); p > alpha {
			t.Errorf("above the critical value of %v p is %v", alpha, p)
		}
		if p := stat.RankP(all, c); p <= alpha {
			t.Errorf("at the critical value of %v p is %v", alpha, p)
		}
	}
	if c := tail.critical(1e-9); !math.IsNaN(c) {
		t.Errorf("a p of 1e-9 is reached at %v", c)
	}
}

func TestAttainableQ(t *testing.T) {
	tests := []struct {
		name      string
		endpoints int
		verdict   Verdict
		history   int
		needs     float64
		strides   int // until there are enough
		note      string
		warnings  []string
		tier      string
	}{ // 60 placebos each: attainable q = m / (60 m + 1), by hand
		{"alone", 1, NoMeaningfulRise, 10080, 0, 0, "", []string{CannotBeConfirmedAlone}, "limited"}, // 1/61 = 0.016
		{"unlike pools", 4, NotEnoughData, 10080, 79, 19, "", nil, "limited"},                        // 4/61 = 0.066; 4/0.05 - 1 = 79
		// The newest placebo is 6 strides of 20 steps back, so that 79 of them take 84 strides, 1,680 steps.
		{"just room enough", 4, NotEnoughData, 1680, 79, 19, "", nil, "limited"},
		{"no room for as many", 4, NotEnoughData, 1679, 79, -1, "windows.history must be 28h or longer", nil, "limited"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene(tt.endpoints, 0)
			in.Geometry.History = tt.history
			for i := range in.Comparisons {
				c := in.Comparisons[i].Calibration
				c.Placebos, c.Maxima, c.Minima, c.Class = 60, ladder(60), ladder(60), i*2
			}
			j := Judge(in)
			r := rowOf(t, j, "a0")
			if r.Verdict != tt.verdict || !slices.Equal(r.Warnings, tt.warnings) || j.Tier != tt.tier || j.Placebos != 60 ||
				!near(r.AttainableQ, float64(tt.endpoints)/61) {
				t.Errorf("verdict %v, warnings %q, tier %s, placebos %d, attainable %v", r.Verdict, r.Warnings, j.Tier, j.Placebos, r.AttainableQ)
			}
			if tt.needs > 0 && (r.Needs == nil || r.Needs.Of != "placebos" || r.Needs.Have != 60 || r.Needs.Need != tt.needs) {
				t.Errorf("needs %+v", r.Needs)
			}
			var when time.Time
			if tt.needs > 0 && tt.strides >= 0 {
				when = upgraded.Add(time.Duration(20*tt.strides) * time.Minute)
			}
			if r.Note != tt.note || r.Needs != nil && !r.Needs.When.Equal(when) {
				t.Errorf("note %q, needs %+v; want %q and when %v", r.Note, r.Needs, tt.note, when)
			}
		})
	}
	t.Run("suppresses no rejection", func(t *testing.T) {
		in := scene(4, 0)
		for i := range in.Comparisons {
			c := in.Comparisons[i].Calibration
			c.Placebos, c.Maxima, c.Minima, c.Class = 60, ladder(60), ladder(60), i*2
			move(&in.Comparisons[i], 5, 6, 1)
		}
		// All four together: q = 1/61 each, though none alone could have less than 4/61.
		if r := rowOf(t, Judge(in), "a0"); !r.Suspected || !near(r.Q, 1.0/61) {
			t.Errorf("suspected %v, q %v", r.Suspected, r.Q)
		}
		// Rejected, but too small to matter: that is an answer, and not for want of placebos.
		for i := range in.Comparisons {
			move(&in.Comparisons[i], 5, 6, 0.01)
		}
		if r := rowOf(t, Judge(in), "a0"); r.Verdict != NoMeaningfulRise {
			t.Errorf("verdict %v, needs %+v", r.Verdict, r.Needs)
		}
	})
}

// By hand: three members gain one each a stride, up to 100.
func TestPoolReaches(t *testing.T) {
	p := pool{own: []int{60, 90, 100}}
	for _, tt := range []struct {
		need, strides int
		ok            bool
	}{{0, 0, true}, {250, 0, true}, {251, 1, true}, {270, 10, true}, {271, 11, true}, {300, 40, true}, {301, 100, false}} {
		if strides, ok := p.reaches(tt.need, 100); strides != tt.strides || ok != tt.ok {
			t.Errorf("%d placebos: %d strides, %t; want %d, %t", tt.need, strides, ok, tt.strides, tt.ok)
		}
	}
}

// What waiting does not bring says what does.
func TestRemedies(t *testing.T) {
	for _, tt := range []struct {
		name, note string
		do         func(in *Input, c *baseline.Comparison)
	}{
		// The newest placebo is 6 strides of 20 back, the 60th 59 further: 65 * 20 steps.
		{"too short a history", "windows.history must be 21h40m or longer", func(in *Input, c *baseline.Comparison) {
			in.Geometry.History, c.Calibration = 1299, nil
		}},
		{"few requests", "windows.before must be 1h30m or longer", func(in *Input, c *baseline.Comparison) { c.BaselineTrials = 66.7 }}, // 60 * 100/66.7 = 89.96
		{"hardly any", "no windows.before of up to 10080 steps is long enough", func(in *Input, c *baseline.Comparison) { c.BaselineTrials = 0.1 }},
		{"few events", "windows.horizon must be 1h23m or longer", func(in *Input, c *baseline.Comparison) { c.Calibration.EventsPerStep = 0.05 }}, // 3 + 4/0.05
		{"a baseline with holes", "", func(in *Input, c *baseline.Comparison) { c.BaselineMissing = 0.25 }},
		{"time", "", func(in *Input, c *baseline.Comparison) { c.Calibration.Placebos = 59 }},
	} {
		in := scene(4, 6)
		tt.do(&in, &in.Comparisons[0])
		if r := rowOf(t, Judge(in), "a0"); r.Verdict != NotEnoughData || r.Note != tt.note {
			t.Errorf("%s: %v, note %q, want %q", tt.name, r.Verdict, r.Note, tt.note)
		}
	}
	// An endpoint that came with the upgrade: 1,300 steps, and the 60 before the earliest placebo.
	in := scene(4, 6)
	in.Lacking = []Lacking{{Endpoint: "b", Metric: telemetry.Retry, Needs: Needs{Of: "history"}}}
	want := Needs{Of: "history", Need: 1300, When: upgraded.Add(1360 * time.Minute)}
	if r := rowOf(t, Judge(in), "b"); r.Needs == nil || *r.Needs != want || r.Note != "" {
		t.Errorf("needs %+v, note %q, want %+v", r.Needs, r.Note, want)
	}
}

// The values of docs/statistics.md, "Golden values".
func TestAdjustGolden(t *testing.T) {
	p := []float64{.001, .008, .039, .041, .042, .06, .074, .205, .212, .216, .222, .251, .269, .275, .34}
	want := []float64{.015, .06, .126, .126, .126, .15, .158571428571, .294642857143, .294642857143, .294642857143, .294642857143, .294642857143, .294642857143, .294642857143, .34}
	a := adjust(slices.Clone(p))
	for i := range p {
		if got := a.at(p[i]); math.Abs(got-want[i]) > 1e-12 {
			t.Errorf("q of %v: %v, want %v", p[i], got, want[i])
		}
	}
	p = []float64{.0004, .0011, .2, .03, .004, .9}
	a = adjust(slices.Clone(p))
	var report, act []int
	for i := range p {
		if q := a.at(p[i]); q <= 0.05 {
			report = append(report, i+1)
			if q <= 0.01 {
				act = append(act, i+1)
			}
		}
	}
	if !slices.Equal(report, []int{1, 2, 4, 5}) || !slices.Equal(act, []int{1, 2, 5}) {
		t.Errorf("rejected %v at 0.05, %v at 0.01", report, act)
	}
}

// A row's q is what adjusting gives when its p stands for its endpoint.
func TestAdjustedForAnotherRow(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		p := make([]float64, 1+rng.IntN(12))
		for i := range p {
			p[i] = float64(1+rng.IntN(40)) / 40
		}
		a := adjust(slices.Clone(p))
		i := rng.IntN(len(p))
		other := min(1, p[i]+float64(rng.IntN(20))/40)
		got := a.at(other)
		p[i] = other
		if want := stat.AdjustBH(p)[i]; !near(got, want) {
			t.Fatalf("q %v, want %v, of p %v in place of element %d of %v", got, want, other, i, p)
		}
	}
}

func TestTwoRowsOfAnEndpoint(t *testing.T) {
	in := scene(4, 6)
	in.Rule.Signals = append(in.Rule.Signals, in.Rule.Signals[0])
	in.Rule.Signals[1].Name = "hedges"
	in.Rule.Flags[0].Signals = []string{"retries"}
	second := quiet("a0", 1, telemetry.Retry)
	move(&second, 10, 6, 1)
	in.Comparisons = append(in.Comparisons, second)
	move(&in.Comparisons[0], 10, 4.985, 1)
	j := Judge(in)
	// N = 11 * 499 = 5489. hedges: p = 2/5490, q = 20/5490. retries: 11 placebos of 5489 are as
	// large, p = 2 * 12/5490 = 0.0044, q = 10 p = 0.044, as if hedges were not there.
	hedges, retries := j.Rows[0], Row{}
	for _, r := range j.Rows {
		if r.Endpoint == "a0" && r.Signal == 0 {
			retries = r
		}
	}
	if hedges.Signal != 1 || hedges.Flag != -1 || hedges.Control || hedges.Verdict != Regressed || !near(hedges.Q, 20.0/5490) || !math.IsNaN(hedges.QAct) {
		t.Errorf("hedges %+v", hedges)
	}
	if !near(retries.P, 24.0/5490) || !near(retries.Q, 240.0/5490) || !near(retries.QAct, 4*24.0/5490) || retries.Flag != 0 {
		t.Errorf("retries: p %v, q %v, q_act %v, flag %d", retries.P, retries.Q, retries.QAct, retries.Flag)
	}
}

func TestControls(t *testing.T) {
	tests := []struct {
		name                    string
		flagged, controls, rise int // controls that rise, beside a0
		noFlags                 bool
		risen, covered          bool
		judged                  int
	}{
		{"none risen", 4, 6, 0, false, false, true, 6},
		{"one risen", 4, 6, 1, false, true, false, 6},
		{"one control only", 9, 1, 0, false, false, false, 1},
		{"the one control risen", 9, 1, 1, false, true, false, 1},
		{"two are too few", 8, 2, 0, false, false, false, 2},
		{"three are enough", 7, 3, 0, false, false, true, 3},
		{"no flags, no controls", 4, 6, 1, true, false, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene(tt.flagged, tt.controls)
			if tt.noFlags {
				in.Rule.Flags = nil
			}
			move(&in.Comparisons[0], 10, 6, 1)
			for i := range tt.rise {
				move(&in.Comparisons[tt.flagged+i], 10, 6, 1)
			}
			j := Judge(in)
			if j.ControlsRisen != tt.risen || j.RestartCovered != tt.covered || j.Controls != tt.judged {
				t.Errorf("risen %v, covered %v, controls %d", j.ControlsRisen, j.RestartCovered, j.Controls)
			}
			if slices.Contains(j.Warnings, NoRestartInCalibration) == tt.covered {
				t.Errorf("warnings %q", j.Warnings)
			}
			if r := rowOf(t, j, "a0"); r.Verdict != Regressed {
				t.Errorf("a0 is %v: its own verdict holds whatever the controls do", r.Verdict)
			}
			for _, r := range j.Rows {
				if r.Control && !math.IsNaN(r.QAct) {
					t.Errorf("%s is a control and has q_act %v", r.Endpoint, r.QAct)
				}
			}
		})
	}
	t.Run("controls that cannot reject cover nothing", func(t *testing.T) {
		in := scene(1, 6)
		for i := range in.Comparisons {
			c := in.Comparisons[i].Calibration
			c.Placebos, c.Maxima, c.Minima, c.Class = 60, ladder(60), ladder(60), i*2
		}
		if j := Judge(in); j.RestartCovered || j.Controls != 6 { // 7/61
			t.Errorf("covered %v, controls %d", j.RestartCovered, j.Controls)
		}
	})
	t.Run("controls that are not judged now cover nothing", func(t *testing.T) {
		in := scene(4, 3)
		l := &in.Comparisons[5].Looks[55]
		l.Valid, l.Missing = false, 0.5
		if j := Judge(in); j.RestartCovered || j.Controls != 2 {
			t.Errorf("covered %v, controls %d", j.RestartCovered, j.Controls)
		}
	})
}

func TestAllRisen(t *testing.T) {
	in := scene(4, 6)
	for i := range in.Comparisons {
		move(&in.Comparisons[i], 7, 6, 1)
	}
	j := Judge(in)
	if !j.ControlsRisen || j.Verdict != Regressed {
		t.Errorf("risen %v, verdict %v", j.ControlsRisen, j.Verdict)
	}
	for _, r := range j.Rows {
		if r.Verdict != Regressed || r.RegressedAt != 7 {
			t.Errorf("%s is %v at %d", r.Endpoint, r.Verdict, r.RegressedAt)
		}
	}
}

// Below confirmation, too: what moved everywhere is not cleared anywhere.
func TestAllRisenALittle(t *testing.T) {
	in := scene(4, 6)
	for i := range in.Comparisons {
		move(&in.Comparisons[i], 7, 3, 0.3)
	}
	for _, r := range Judge(in).Rows {
		if r.Verdict != Undecided {
			t.Errorf("%s is %v", r.Endpoint, r.Verdict)
		}
	}
}

func TestWrittenAt(t *testing.T) {
	in := scene(4, 6)
	in.WrittenAt = map[int]int{0: 25}
	move(&in.Comparisons[0], 20, 6, 1) // confirmed before the write
	move(&in.Comparisons[1], 26, 6, 1) // after it: recovery's business
	move(&in.Comparisons[4], 40, 6, 1) // a control is looked at to the end
	move(&in.Comparisons[0], 26, -9, -1)
	j := Judge(in)
	if r := rowOf(t, j, "a0"); r.Verdict != Regressed || r.RegressedAt != 20 || r.Z != 6 || r.Looks != 21 || !near(r.Q, 10.0/4991) {
		t.Errorf("a0: %v at %d, z %v, %d looks, q %v", r.Verdict, r.RegressedAt, r.Z, r.Looks, r.Q)
	}
	if r := rowOf(t, j, "a1"); r.Verdict != Undecided || r.P != 1 {
		t.Errorf("a1: %v, p %v", r.Verdict, r.P)
	}
	if r := rowOf(t, j, "c0"); r.Verdict != Regressed || r.RegressedAt != 40 || !near(r.Q, 5.0/4991) {
		t.Errorf("c0: %v at %d, q %v; two of ten have 1/4991", r.Verdict, r.RegressedAt, r.Q)
	}
	if j.Looks != 56 {
		t.Errorf("%d looks", j.Looks)
	}
}

func TestUnread(t *testing.T) {
	t.Run("a void row keeps its place in the family", func(t *testing.T) {
		in := scene(4, 6)
		in.Rule.Signals = append(in.Rule.Signals, in.Rule.Signals[0])
		in.Rule.Signals[1].Name = "hedges"
		for i := range 10 {
			in.Comparisons = append(in.Comparisons, quiet(in.Comparisons[i].Endpoint.String(), 1, telemetry.Retry))
		}
		move(&in.Comparisons[0], 10, 6, 1)
		move(&in.Comparisons[11], 10, 6, 1)
		in.Unread = map[int]string{1: "truncated"}
		j := Judge(in)
		if j.Verdict != Regressed {
			t.Errorf("verdict %v: a fully read, confirmed row still counts", j.Verdict)
		}
		if r := j.Rows[0]; r.Endpoint != "a0" || !near(r.P, 2.0/4991) || !near(r.Q, 20.0/4991) {
			t.Errorf("row %+v", r)
		}
		for _, r := range j.Rows {
			if r.Signal == 1 && (r.Verdict != CouldNotCheck || r.Note != "truncated" || !math.IsNaN(r.P)) {
				t.Errorf("row %+v", r)
			}
		}
	})
	t.Run("a signal without any answer touches every endpoint", func(t *testing.T) {
		in := scene(4, 6)
		in.Rule.Signals = append(in.Rule.Signals, rule.Signal{Name: "latency", Kind: rule.Histogram, Quantile: 0.99})
		in.Unread = map[int]string{1: "503"}
		j := Judge(in)
		if len(j.Rows) != 20 || j.Verdict != CouldNotCheck || j.Rows[0].Metric != telemetry.Tail || j.Rows[0].Quantile != 0.99 || j.Rows[0].Flag != 0 {
			t.Errorf("%d rows, verdict %v, first %+v", len(j.Rows), j.Verdict, j.Rows[0])
		}
	})
	t.Run("a signal without any endpoint is still unread", func(t *testing.T) {
		in := scene(0, 0)
		in.Unread = map[int]string{0: "503"}
		if j := Judge(in); j.Verdict != CouldNotCheck || !slices.Equal(j.Warnings, []string{"could not check retries: 503"}) {
			t.Errorf("judgement %+v", j)
		}
	})
	t.Run("nothing was read", func(t *testing.T) {
		in := scene(0, 0)
		in.Unread = map[int]string{-1: "connection refused"}
		if j := Judge(in); j.Verdict != CouldNotCheck || !slices.Equal(j.Warnings, []string{"could not check the rule: connection refused"}) {
			t.Errorf("judgement %+v", j)
		}
	})
}

func TestVerdictOfTheReport(t *testing.T) {
	if j := Judge(scene(0, 0)); j.Verdict != NotEnoughData || j.Tier != "none" || len(j.Warnings) != 0 {
		t.Errorf("without rows: %+v", j)
	}
	if j := Judge(scene(4, 6)); j.Verdict != NoMeaningfulRise || j.Tier != "full" || j.Placebos != 499 || j.Pooled != 4990 {
		t.Errorf("quiet: %v %s %d %d", j.Verdict, j.Tier, j.Placebos, j.Pooled)
	}
	in := scene(4, 6)
	move(&in.Comparisons[0], 5, -6, -0.5)
	if j := Judge(in); j.Verdict != Improved {
		t.Errorf("improved: %v", j.Verdict)
	}
	in.Comparisons[1].BaselineTrials = 5
	if j := Judge(in); j.Verdict != NotEnoughData {
		t.Errorf("one with too little data: %v", j.Verdict)
	}
	move(&in.Comparisons[2], 5, 6, 1)
	each(&in.Comparisons[2], func(l *baseline.Look) { l.Jp = 0 })
	j := Judge(in)
	if j.Verdict != Undecided {
		t.Errorf("one transient: %v", j.Verdict)
	}
	var order []string
	for _, r := range j.Rows[:4] {
		order = append(order, r.Endpoint.String()+" "+r.Verdict.String())
	}
	if want := []string{"a2 transient", "a1 not_enough_data", "a0 improved", "a3 no_meaningful_rise"}; !slices.Equal(order, want) {
		t.Errorf("rows %q, want %q", order, want)
	}
}

func TestVerdictText(t *testing.T) {
	words := []string{"could_not_check", "regressed", "undecided", "not_enough_data", "improved", "no_meaningful_rise", "pre_existing", "transient"}
	for i, want := range words {
		b, err := json.Marshal(Verdict(i))
		var back Verdict
		if err != nil || string(b) != `"`+want+`"` || json.Unmarshal(b, &back) != nil || back != Verdict(i) {
			t.Errorf("verdict %d is %s, %v; want %s", i, b, err, want)
		}
	}
	if _, err := json.Marshal(Verdict(8)); err == nil {
		t.Error("8 was written as a verdict")
	}
	var v Verdict
	if err := json.Unmarshal([]byte(`"fine"`), &v); err == nil {
		t.Error(`"fine" was read as a verdict`)
	}
}

// random is a made-up upgrade with everything that can go wrong in it.
func random(rng *rand.Rand, endpoints int) Input {
	in := scene(0, 0)
	in.Complete = 3 + rng.IntN(60)
	in.Rule.Signals = append(in.Rule.Signals, rule.Signal{
		Name: "latency", Kind: rule.Histogram, Metric: "seconds", Quantile: 0.99, MinimumEffectAuto: true,
		Direction: []rule.Direction{rule.Up, rule.Down, rule.Both}[rng.IntN(3)],
	})
	if rng.IntN(3) == 0 {
		in.WrittenAt = map[int]int{0: 5 + rng.IntN(50)}
	}
	if rng.IntN(5) == 0 {
		in.Unread = map[int]string{rng.IntN(3) - 1: "warning"}
	}
	for i := range endpoints {
		name := fmt.Sprint([]string{"a", "c"}[i%2], i)
		for metric, signal := range map[telemetry.Metric]int{telemetry.Retry: 0, telemetry.Tail: 1, telemetry.Body: 1} {
			c := quiet(name, signal, metric)
			if rng.IntN(8) == 0 {
				in.Lacking = append(in.Lacking, Lacking{Endpoint: c.Endpoint, Signal: signal, Metric: metric, Needs: Needs{Of: "buckets", Need: 1}, Note: string(metric)})
				continue
			}
			c.Calibration.Class = rng.IntN(4)
			if rng.IntN(6) == 0 {
				c.Calibration = nil
			}
			if rng.IntN(3) == 0 {
				move(&c, 5+rng.IntN(50), 4.9+rng.Float64()/2-10*float64(rng.IntN(2)), rng.NormFloat64())
			}
			if rng.IntN(3) == 0 {
				c.Looks[rng.IntN(56)].LoadSD = 5
				c.Looks[rng.IntN(56)].Valid = false
				c.Looks[rng.IntN(56)].Jp = 0
			}
			c.Looks = slices.DeleteFunc(c.Looks, func(l baseline.Look) bool { return l.T > in.Complete })
			in.Comparisons = append(in.Comparisons, c)
		}
	}
	return in
}

// text is all of j, NaN and needs included.
func text(j Judgement) string {
	s := fmt.Sprintf("%v %d %d %v %v %s %d %d %q\n", j.Verdict, j.Looks, j.Controls, j.ControlsRisen, j.RestartCovered, j.Tier, j.Placebos, j.Pooled, j.Warnings)
	for _, r := range j.Rows {
		if r.Needs != nil {
			s += fmt.Sprintf("%+v ", *r.Needs)
		}
		r.Needs = nil
		s += fmt.Sprintf("%+v\n", r)
	}
	return s
}

func FuzzOrderDoesNotMatter(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 5))
		in := random(rng, 1+rng.IntN(8))
		want := text(Judge(in))
		comparisons := slices.Clone(in.Comparisons)
		rng.Shuffle(len(in.Comparisons), reflect.Swapper(in.Comparisons))
		rng.Shuffle(len(in.Lacking), reflect.Swapper(in.Lacking))
		for i := range in.Comparisons {
			rng.Shuffle(len(in.Comparisons[i].Looks), reflect.Swapper(in.Comparisons[i].Looks))
		}
		if got := text(Judge(in)); got != want {
			t.Errorf("seed %d: in another order\n%s\nwant\n%s", seed, got, want)
		}
		// More looks never take a confirmation back.
		for i := range comparisons {
			slices.SortFunc(comparisons[i].Looks, func(a, b baseline.Look) int { return a.T - b.T })
		}
		confirmed := make(map[string]int)
		for _, r := range Judge(in).Rows {
			confirmed[fmt.Sprint(r.Endpoint, r.Signal)] = r.RegressedAt
		}
		in.Complete--
		for _, r := range Judge(in).Rows {
			if r.RegressedAt > 0 && confirmed[fmt.Sprint(r.Endpoint, r.Signal)] != r.RegressedAt {
				t.Errorf("seed %d: %s was regressed at %d and is at %d one look later", seed, r.Endpoint, r.RegressedAt, confirmed[fmt.Sprint(r.Endpoint, r.Signal)])
			}
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(6, 7))
			in := scene(0, 0)
			in.Rule.Signals = append(in.Rule.Signals, rule.Signal{Name: "latency", Kind: rule.Histogram, Metric: "seconds", Quantile: 0.99, MinimumEffect: 0.1, Direction: rule.Up})
			for i := range n {
				for metric, signal := range map[telemetry.Metric]int{telemetry.Retry: 0, telemetry.Tail: 1, telemetry.Body: 1} {
					c := quiet(fmt.Sprint([]string{"a", "c"}[i%2], i), signal, metric)
					for k := range c.Calibration.Maxima {
						c.Calibration.Maxima[k], c.Calibration.Minima[k] = rng.NormFloat64()+0.5, rng.NormFloat64()+0.5
					}
					slices.Sort(c.Calibration.Maxima)
					slices.Sort(c.Calibration.Minima)
					z := 0.0
					for k := range c.Looks {
						l := &c.Looks[k]
						z = 0.95*z + 0.3*rng.NormFloat64()
						l.Z, l.Max, l.Min = z, z, -z
						if k > 0 {
							l.Max, l.Min = max(z, c.Looks[k-1].Max), max(-z, c.Looks[k-1].Min)
						}
					}
					in.Comparisons = append(in.Comparisons, c)
				}
			}
			for b.Loop() {
				Judge(in)
			}
		})
	}
}

// exp(0 + 1.645 s) = 3 at s = 0.6678. What history shows that can be found is a factor of
// exp(5.8) or so at a scale of 1, far more than either: nothing is excluded by that.
func TestTooLittleToExcludeThreeTimes(t *testing.T) {
	for _, tt := range []struct {
		direction rule.Direction
		s         float64
		note      bool
	}{{rule.Up, 0.66, false}, {rule.Up, 0.68, true}, {rule.Down, 0.66, false}, {rule.Down, 0.68, true}} {
		in := scene(4, 6)
		in.Rule.Signals[0].Direction = tt.direction
		each(&in.Comparisons[0], func(l *baseline.Look) { l.Adj, l.S, l.Z, l.Max, l.Min = 0, tt.s, 0, 0, 0 })
		r := rowOf(t, Judge(in), "a0")
		if r.Verdict != Undecided || (r.Note != "") != tt.note {
			t.Errorf("%s, s = %v: %v, note %q", tt.direction, tt.s, r.Verdict, r.Note)
		}
		in.Rule.Signals[0].MinimumEffectAuto, in.Comparisons[0].Calibration.Scale = true, 1
		if r := rowOf(t, Judge(in), "a0"); (r.Verdict == Undecided) != tt.note || (r.Verdict == NoMeaningfulRise) == tt.note || (r.Note != "") != tt.note {
			t.Errorf("auto, %s, s = %v: %v, note %q", tt.direction, tt.s, r.Verdict, r.Note)
		}
		through(&in, 40)
		if r := rowOf(t, Judge(in), "a0"); r.Note != "" {
			t.Errorf("%s, s = %v: note %q before the last look", tt.direction, tt.s, r.Note)
		}
	}
}

// What was confirmed is still there only if the last look says so, not one before it.
func TestStillThere(t *testing.T) {
	last := func(change func(*baseline.Look)) func(*baseline.Comparison) {
		return func(c *baseline.Comparison) { change(&c.Looks[len(c.Looks)-1]) }
	}
	tests := []struct {
		name     string
		do       func(c *baseline.Comparison)
		still    bool
		warnings []string
	}{
		{"seen", func(*baseline.Comparison) {}, true, nil},
		{"the last look is missing", last(func(l *baseline.Look) { l.Valid = false }), false, []string{LastLookMissing}},
		{"the last look is at a strange load", last(func(l *baseline.Look) { l.LoadSD = 4.1 }), false, []string{LoadOutsideHistory}},
		{"gone at the last look", last(func(l *baseline.Look) { l.Jp = 0.4 }), false, nil},
		{"unknown at the last look", last(func(l *baseline.Look) { l.Jp = math.NaN() }), false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene(4, 6)
			move(&in.Comparisons[0], 10, 6, 1)
			tt.do(&in.Comparisons[0])
			r := rowOf(t, Judge(in), "a0")
			if r.Verdict != Regressed || r.RegressedAt != 10 || r.StillThere != tt.still || !slices.Equal(r.Warnings, tt.warnings) {
				t.Errorf("%v at %d, still there %v, warnings %v; want regressed at 10, %v, %v",
					r.Verdict, r.RegressedAt, r.StillThere, r.Warnings, tt.still, tt.warnings)
			}
		})
	}
}

// A p that stems from a fall confirms no rise. The fall is rejected at look 6 but too small to
// be confirmed, and from look 8 on there is a rise that chance makes, but large enough.
func TestBothWaysConfirmTheirOwn(t *testing.T) {
	in := scene(4, 6)
	in.Rule.Signals[0].Direction = rule.Both
	c := &in.Comparisons[0]
	move(c, 6, -6, -0.1)
	move(c, 8, 1, 0.5)
	if r := rowOf(t, Judge(in), "a0"); r.Verdict == Regressed || r.P != 2.0/4991 {
		t.Errorf("%v at %d, p %v; want no confirmation of the other way", r.Verdict, r.RegressedAt, r.P)
	}
	move(c, 12, -6, -0.5)
	if r := rowOf(t, Judge(in), "a0"); r.Verdict != Regressed || r.RegressedAt != 12 {
		t.Errorf("%v at %d, want regressed at 12, when it falls again", r.Verdict, r.RegressedAt)
	}
}

// A counter that came with the upgrade is found, is marked, and lifts nobody else: with the 3
// of its flag at p = 1/4991, the p of a3, 31/4991, would have a q of 31/4991 among the four
// endpoints behind the flag; it has 4 * 31/4991.
func TestNewCounter(t *testing.T) {
	in := scene(4, 6)
	for i := range 3 {
		in.Comparisons[i].New = true
		move(&in.Comparisons[i], 6, 6, 1)
	}
	move(&in.Comparisons[3], 6, 4.965, 1)
	j := Judge(in)
	for _, name := range []string{"a0", "a1", "a2"} {
		if r := rowOf(t, j, name); r.Verdict != Regressed || r.QAct != 1 || !slices.Equal(r.Warnings, []string{CounterIsNew}) {
			t.Errorf("%s: %v, q of its flag %v, warnings %v", name, r.Verdict, r.QAct, r.Warnings)
		}
	}
	if r := rowOf(t, j, "a3"); !near(r.QAct, 4*31.0/4991) || len(r.Warnings) != 0 {
		t.Errorf("a3: q of its flag %v, warnings %v", r.QAct, r.Warnings)
	}
}
