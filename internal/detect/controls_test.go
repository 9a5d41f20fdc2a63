package detect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// compared gives every flagged endpoint of a scene a calibration and looks against controls: of
// the same placebos, at z and adj.
func compared(in *Input, z, adj float64) {
	for i := range in.Comparisons {
		c := &in.Comparisons[i]
		k := *c.Calibration
		k.Against = &baseline.Against{Maxima: k.Maxima, Minima: k.Minima, Scale: k.Scale}
		c.Calibration = &k
		if c.Endpoint.String()[0] == 'c' {
			continue
		}
		each(c, func(l *baseline.Look) {
			l.Against = &baseline.Adjusted{Adj: adj, S: 0.01, Z: z, Max: max(z, 0), Min: max(-z, 0)}
		})
	}
}

// TestAgainstControls has four flagged endpoints and six controls of 499 placebos: m = 10, p =
// 1/4991 for what exceeds them all (see TestDecisionTable).
func TestAgainstControls(t *testing.T) {
	const certain = 6
	none := func(*Input) {}
	tests := []struct {
		name      string
		z, adj    float64 // against controls, of every flagged endpoint
		do        func(in *Input)
		verdict   Verdict // of a0
		at        int
		controls  bool // a0 is judged against controls
		risen     bool
		p, bound  float64 // NaN: not asked
		restarted bool
	}{
		{"only against controls", certain, 1, none, Regressed, 6, true, false, 1.0 / 4991, math.NaN(), true},
		// exp(0.002 + 1.645*0.02) - 1 by itself; exp(-0.5 + 1.645*0.01) - 1 against controls.
		{"neither", 0.1, 0.001, none, NoMeaningfulRise, 0, true, false, 1, math.Expm1(0.002 + 1.645*0.02), true},
		{"excluded against controls, not by itself", -1, -0.5, func(in *Input) {
			move(&in.Comparisons[0], 5, 0.5, math.Log(1.3))
		}, Undecided, 0, true, false, 1, math.Expm1(math.Log(1.3) + 1.645*0.02), true},
		{"by itself only", 0, 0, func(in *Input) { move(&in.Comparisons[0], 5, certain, 1) }, Undecided, 0, true, false, 1, math.NaN(), true},
		{"by itself only, and one control rose", 0, 0, func(in *Input) {
			move(&in.Comparisons[0], 5, certain, 1)
			move(&in.Comparisons[9], 5, certain, 1)
		}, Regressed, 6, false, true, 1.0 / 4991, math.NaN(), false},
		{"by itself only, and one control rises later", 0, 0, func(in *Input) {
			move(&in.Comparisons[0], 5, certain, 1)
			move(&in.Comparisons[9], 30, certain, 1)
		}, Regressed, 30, false, true, 1.0 / 4991, math.NaN(), false},
		{
			"what was confirmed before a control rose stays", certain, 1, func(in *Input) { move(&in.Comparisons[9], 30, certain, 1) },
			Regressed, 6, false, true, 1, math.NaN(), false,
		},
		{
			"only against controls, one of which fell", certain, 1, func(in *Input) { move(&in.Comparisons[9], 5, -certain, -1) },
			NoMeaningfulRise, 0, false, false, 1, math.NaN(), true,
		},
		{"fell only against controls", -certain, -1, none, NoMeaningfulRise, 0, true, false, 1, math.NaN(), true},
		{"fell both ways", -certain, -1, func(in *Input) { move(&in.Comparisons[0], 5, -0.2, -0.01) }, Improved, 0, true, false, 1, math.NaN(), true},
		{"looks without controls", certain, 1, func(in *Input) {
			each(&in.Comparisons[0], func(l *baseline.Look) {
				if l.T >= 20 {
					l.Against = nil
				}
			})
		}, Regressed, 6, false, false, 1, math.NaN(), true},
		{"controls are back after a look without them", certain, 1, func(in *Input) {
			each(&in.Comparisons[0], func(l *baseline.Look) {
				if l.T == 5 {
					l.Against.Max, l.Against.Z = 0, 0
				}
				if l.T == 6 {
					l.Against = nil
				}
			})
		}, NoMeaningfulRise, 0, false, false, 1, math.NaN(), true},
		{"no look with controls", certain, 1, func(in *Input) {
			each(&in.Comparisons[0], func(l *baseline.Look) { l.Against = nil })
		}, NoMeaningfulRise, 0, false, false, 1, math.NaN(), true},
		{"too small a pool to be confirmed in", certain, 1, func(in *Input) {
			for i := range in.Comparisons { // 10 m / (10 * 99 + 1) > 0.01 >= 10 / 4991
				a := in.Comparisons[i].Calibration.Against
				a.Maxima, a.Minima = ladder(99), ladder(99)
			}
		}, NoMeaningfulRise, 0, false, false, 1, math.NaN(), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene(4, 6)
			compared(&in, tt.z, tt.adj)
			tt.do(&in)
			j := Judge(in)
			r := rowOf(t, j, "a0")
			if r.Verdict != tt.verdict || r.RegressedAt != tt.at || j.ControlsRisen != tt.risen || j.RestartCovered != tt.restarted {
				t.Errorf("%v at %d, controls risen %v, restart covered %v; want %v at %d, %v, %v",
					r.Verdict, r.RegressedAt, j.ControlsRisen, j.RestartCovered, tt.verdict, tt.at, tt.risen, tt.restarted)
			}
			if got := !math.IsNaN(r.Against.P); got != tt.controls {
				t.Errorf("judged against controls %v, want %v: %+v", got, tt.controls, r)
			}
			want := r.Own
			if tt.controls {
				want = r.Against
			}
			if r.P != want.P || r.Z != want.Z || math.IsNaN(r.Own.P) {
				t.Errorf("z %v, p %v; own %+v, against controls %+v", r.Z, r.P, r.Own, r.Against)
			}
			if !math.IsNaN(tt.p) && !near(r.P, tt.p) {
				t.Errorf("p %v, want %v", r.P, tt.p)
			}
			if !math.IsNaN(tt.bound) && !near(r.Change.Bound95, tt.bound) {
				t.Errorf("bound %v, want %v", r.Change.Bound95, tt.bound)
			}
			if c := rowOf(t, j, "c1"); !math.IsNaN(c.Against.P) || c.P != c.Own.P {
				t.Errorf("control: own %+v, against controls %+v", c.Own, c.Against)
			}
		})
	}
}

// A world is ten endpoints, the first four behind the flag, over three days and an hour. The
// logs of their retry rates share an AR(1) walk of sd shared and have one of sd own of their
// own, both with a memory of 10 minutes; perStep retries of 100 times as many requests a minute.
type world struct {
	shared, own, perStep float64
}

// upgrade is one upgrade of w; factor multiplies the retries of an endpoint from it on.
func (w world) upgrade(rng *rand.Rand, through int, factor func(endpoint int) float64) Input {
	in := scene(0, 0)
	in.Geometry.History, in.Geometry.Day = 3*1440, 1440
	in.Complete = through
	g := in.Geometry
	tracks := make([]telemetry.Track, 10)
	own := make([]float64, len(tracks))
	memory, shared := math.Exp(-1.0/10), 0.0
	fresh := math.Sqrt(1 - memory*memory)
	for e := range tracks {
		name := fmt.Sprint("a", e)
		if e >= 4 {
			name = fmt.Sprint("c", e)
		}
		tracks[e] = telemetry.Track{Endpoint: telemetry.NewEndpoint(name), Metric: telemetry.Retry, First: g.First()}
	}
	for step := g.First(); step < g.Horizon; step++ {
		shared = memory*shared + w.shared*fresh*rng.NormFloat64()
		for e := range tracks {
			own[e] = memory*own[e] + w.own*fresh*rng.NormFloat64()
			rate := w.perStep * math.Exp(shared+own[e])
			if step >= 0 {
				rate *= factor(e)
			}
			k := max(0, math.Round(rate+math.Sqrt(rate)*rng.NormFloat64()))
			tracks[e].Events, tracks[e].Trials = append(tracks[e].Events, k), append(tracks[e].Trials, 100*w.perStep)
		}
	}
	controls := baseline.NewControls(tracks[4:], g, nil)
	for _, track := range tracks {
		c := controls.Calibrate(track, g, nil)
		in.Comparisons = append(in.Comparisons, baseline.Compare(track, &c, g, nil, 0, through))
	}
	baseline.AgainstControls(in.Comparisons, g)
	return in
}

// Whoever rises, nobody who rose is told that nothing meaningful did, however little the data
// tell: at 20 retries a minute a rise by half is mostly found, at 1 it is mostly not. Against
// controls alone, a rise that they share would be excluded.
func TestNoRiseIsCalledNone(t *testing.T) {
	scenarios := []struct {
		name  string
		rises func(e int) bool
	}{
		{"every endpoint", func(int) bool { return true }},
		{"half of the controls", func(e int) bool { return e >= 7 }},
		{"half of the controls and one behind the flag", func(e int) bool { return e >= 7 || e == 0 }},
		{"one control only", func(e int) bool { return e == 4 }},
	}
	for _, perStep := range []float64{1, 20} {
		for i, s := range scenarios {
			t.Run(fmt.Sprintf("%s, %v a minute", s.name, perStep), func(t *testing.T) {
				seed := uint64(100*perStep) + uint64(i)
				t.Logf("seed %d", seed)
				rng := rand.New(rand.NewPCG(seed, 9))
				found, risen, masked := 0, 0, 0
				for range 6 {
					in := world{shared: 0.08, own: 0.05, perStep: perStep}.upgrade(rng, 60, func(e int) float64 {
						if s.rises(e) {
							return 1.5
						}
						return 1
					})
					j := Judge(in)
					if j.ControlsRisen {
						risen++
					}
					for e, c := range in.Comparisons {
						r := rowOf(t, j, c.Endpoint.String())
						if a := c.Looks[len(c.Looks)-1].Against; a != nil && s.rises(e) && math.Expm1(a.Adj+z95*a.S) < r.Change.MinimumEffect {
							masked++
						}
						switch {
						case s.rises(e) && r.Verdict == NoMeaningfulRise:
							t.Errorf("%s rose by half and is %v: own %+v, against controls %+v, at most %v", r.Endpoint, r.Verdict, r.Own, r.Against, r.Change.Bound95)
						case s.rises(e) && r.Verdict == Regressed:
							found++
						}
					}
				}
				t.Logf("found %d, controls risen in %d of 6, %d would be excluded against controls", found, risen, masked)
				if perStep == 20 && (found == 0 || risen < 4) {
					t.Errorf("found %d, controls risen in %d of 6", found, risen)
				}
				if i == 0 && perStep == 20 && masked == 0 {
					t.Error("nothing is masked: the test cannot fail")
				}
			})
		}
	}
}

// Controls keep the error rate and buy power: most of what this service does, its endpoints do
// together. Of 120 upgrades each (seed 77, history of 7 days) without a change 1.0 % of rows had a p of at
// most 0.01 against controls and 1.5 % by themselves; where the retries behind the flag rose by a
// quarter, 50 % and 19 %. With 3 days: 1.3 % and 1.5 %, 48 % and 19 %.
func TestControlsBuyPower(t *testing.T) {
	rate := func(seed uint64, factor float64) (own, against float64) {
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 9))
		rows := 0.0
		for range 30 {
			j := Judge(world{shared: 0.15, own: 0.1, perStep: 20}.upgrade(rng, 60, func(e int) float64 {
				if e < 4 {
					return factor
				}
				return 1
			}))
			for _, r := range j.Rows {
				if r.Flag < 0 || math.IsNaN(r.Against.P) {
					continue
				}
				rows++
				if r.Own.P <= 0.05 {
					own++
				}
				if r.Against.P <= 0.05 {
					against++
				}
			}
		}
		return own / rows, against / rows
	}
	// 30 upgrades of 4 rows that move together: a standard error of 0.03 around 0.05.
	if own, against := rate(78, 1); own > 0.11 || against > 0.11 {
		t.Errorf("without a change %v of rows have a p of at most 0.05 by themselves, %v against controls", own, against)
	}
	if own, against := rate(79, 1.25); against < 0.4 || against < own+0.15 {
		t.Errorf("a rise by a quarter is seen in %v of rows by themselves, in %v against controls", own, against)
	}
}

// Past upgrades of an endpoint say what a restart alone does to it.
func TestRestarts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		maxima  []float64
		verdict Verdict
		covered bool
	}{
		{"none", nil, Regressed, false},
		{"two are too few", []float64{7, 8}, Regressed, false},
		{"above all of three", []float64{1, 2, 5.9}, Regressed, true},
		{"not above all of three", []float64{1, 2, 6.1}, Undecided, true},
		{"above all but one of seven", []float64{1, 1, 2, 2, 3, 3, 6.1}, Regressed, true}, // rank 2/8
		{"above all but two of seven", []float64{1, 1, 2, 2, 3, 6.1, 7}, Undecided, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := scene(4, 0)
			for i := range in.Comparisons {
				in.Comparisons[i].Calibration.Restarts = baseline.Restarts{Maxima: tt.maxima, Minima: tt.maxima}
			}
			move(&in.Comparisons[0], 5, 6, 1)
			j := Judge(in)
			if r := rowOf(t, j, "a0"); r.Verdict != tt.verdict || j.RestartCovered != tt.covered {
				t.Errorf("%v, restart covered %v; want %v, %v", r.Verdict, j.RestartCovered, tt.verdict, tt.covered)
			}
			in.Comparisons[3].Calibration.Restarts = baseline.Restarts{}
			if Judge(in).RestartCovered {
				t.Error("covered, though one endpoint has no past upgrades")
			}
		})
	}
}
