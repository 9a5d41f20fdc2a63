package peers

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestSeriesReadsAsPrometheusDoes(t *testing.T) {
	bounds := []float64{0.1, 1}
	s := NewLatency(1, bounds,
		[][]float64{{98, 0, 98, 90}, {100, 0, 99, 96}, {100, 0, 100, 100}},
		[]float64{2, 0, 2, 10})
	near(t, "half of the requests between 0.1 s and 1 s", s.Over(-1, 0), 0.55) // by hand: rank 99 of 98..100
	near(t, "no requests", s.Over(0, 1), math.NaN())
	near(t, "at the bound", s.Over(1, 2), 1)
	near(t, "beyond the last bound", s.Over(2, 3), 1)
	near(t, "two minutes", s.Over(0, 2), 1)
	near(t, "before the series", s.Over(-2, 0), math.NaN())
	if got := s.minutes(-1, 2); len(got) != 2 {
		t.Errorf("minutes with a value: %v, want 2", got)
	}

	r := NewRatio(1, []float64{1, 0, math.NaN(), 3}, []float64{10, 0, 5, 10})
	near(t, "ratio", r.Over(-1, 0), 0.1)
	near(t, "ratio over missing minutes", r.Over(-1, 3), 0.2) // by hand: 4 of 20
	near(t, "ratio of nothing", r.Over(0, 1), math.NaN())
}

func TestHearForgivesAndKeepsTheScore(t *testing.T) {
	looks := map[int]float64{1: 2, 2: 5, 3: math.NaN(), 4: 1, 5: 4, 6: 3}
	j := Judge{First: 1, Every: 1, Last: 6, Limit: 3, strength: func(_ *Series, t int) float64 { return looks[t] }}
	for _, tt := range []struct {
		forgiven, alarm int
		score           float64
	}{{0, 2, 5}, {1, 5, 4}, {2, 6, 3}, {3, 0, 2}, {5, 0, math.Inf(-1)}} {
		j.Forgiven = tt.forgiven
		if got := j.Hear(nil); got.Alarm != tt.alarm || got.Score != tt.score {
			t.Errorf("forgiving %d: %+v, want alarm at %d, score %v", tt.forgiven, got, tt.alarm, tt.score)
		}
	}
	j.Every, j.Forgiven = 3, 0
	if got := j.Hear(nil); got.Alarm != 0 || got.Score != 2 {
		t.Errorf("every 3 minutes: %+v, want no alarm and 2", got)
	}
}

// ratios is a healthy ratio with independent noise that is times as large from the upgrade on,
// and its three earlier upgrades.
func ratios(rng *rand.Rand, times float64) *Series {
	one := func(times float64) *Series {
		k, n := make([]float64, 120), make([]float64, 120)
		for i := range k {
			n[i] = 3000
			mean := 30.0
			if i >= 60 {
				mean *= times
			}
			k[i] = max(0, math.Round(mean+math.Sqrt(mean)*rng.NormFloat64()))
		}
		return NewRatio(60, k, n)
	}
	s := one(times)
	for range Earlier {
		s.Earlier = append(s.Earlier, one(1))
	}
	return s
}

// A judge that was put together the wrong way round would fare badly for the wrong reason.
func TestEveryJudgeHearsARiseAndNoFall(t *testing.T) {
	for _, j := range append(LineUp(), NegativeControls()...) {
		t.Run(j.Name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(6, 7))
			rises, falls := 0, 0
			for range 20 {
				rise := j.Hear(ratios(rng, 3))
				if rise.Alarm > 0 {
					rises++
				}
				if (rise.Score >= j.Limit) != (rise.Alarm > 0) {
					t.Fatalf("%+v against limit %v: score and alarm differ", rise, j.Limit)
				}
				if j.Hear(ratios(rng, 1.0/3)).Alarm > 0 {
					falls++
				}
			}
			if rises < 19 {
				t.Errorf("heard %d of 20 threefold rises", rises)
			}
			// Some alarm at noise in a third of the hours, whichever way the series went.
			if falls > 8 {
				t.Errorf("alarmed at %d of 20 falls to a third", falls)
			}
			if j.Source == "" || j.Setting == "" {
				t.Error("the judge does not say where its numbers come from")
			}
			j.Hear(NewRatio(60, make([]float64, 120), make([]float64, 120))) // no requests at all: must not panic
		})
	}
}

// Expected shares: research/peers.md 2.1, 1000 runs at n = 60 each way: High or not among
// healthy pairs of autocorrelation 0, 0.5, 0.8: 0.2, 3.7, 13.8 %.
func TestKayentaOnHealthySeries(t *testing.T) {
	for _, tt := range []struct{ phi, want float64 }{{0, 0.002}, {0.5, 0.037}, {0.8, 0.138}} {
		rng := rand.New(rand.NewPCG(8, uint64(10*tt.phi)))
		const runs = 1000
		high := 0
		for range runs {
			if Kayenta(ar1(rng, 60, tt.phi), ar1(rng, 60, tt.phi)).Class == High {
				high++
			}
		}
		// Two samples of 1000 runs, three standard errors of their difference, and one run.
		if got := float64(high) / runs; math.Abs(got-tt.want) > 3*math.Sqrt(2*tt.want*(1-tt.want)/runs)+1.0/runs {
			t.Errorf("autocorrelation %v: High in %v of healthy pairs, want about %v", tt.phi, got, tt.want)
		}
	}
}

// Expected shares: research/peers.md 2.4, PipeCD's stage of 30 minutes fails healthy upgrades of
// autocorrelation 0, 0.5, 0.8 in 23, 59, 74 % with deviation EITHER; HIGH tests one side at the
// same 0.05. By hand, independent values: 12 of 252 ways each, 1 - (240/252)^6 = 25 %.
func TestPipeCDOnHealthySeries(t *testing.T) {
	for _, tt := range []struct{ phi, low, high float64 }{{0, 0.21, 0.29}, {0.5, 0.45, 0.65}, {0.8, 0.6, 0.8}} {
		rng := rand.New(rand.NewPCG(9, uint64(10*tt.phi)))
		const runs = 1000
		failed := 0
		for range runs {
			series := func() *Series {
				s := &Series{upgrade: 0, values: ar1(rng, 60, tt.phi)}
				return s
			}
			s := series()
			s.Earlier = []*Series{series()}
			if PipeCD().Hear(s).Alarm > 0 {
				failed++
			}
		}
		if got := float64(failed) / runs; got < tt.low || got > tt.high {
			t.Errorf("autocorrelation %v: fails %v of healthy upgrades, want %v to %v", tt.phi, got, tt.low, tt.high)
		}
	}
}
