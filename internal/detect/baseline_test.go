package detect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// shop is ten endpoints with 1,000 requests and 10 retries a minute, whose retry rate wanders
// (sd 0.15, a memory of 10 minutes) for three days and an hour. factor multiplies it from the
// upgrade on.
func shop(t *testing.T, seed uint64, factor func(endpoint int) float64) Judgement {
	t.Helper()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 8))
	in := scene(0, 0)
	in.Geometry.History = 3 * 1440
	g := in.Geometry
	for e := range 10 {
		name := fmt.Sprint("a", e)
		if e >= 4 { // not behind the flag
			name = fmt.Sprint("c", e)
		}
		track := telemetry.Track{Endpoint: telemetry.NewEndpoint(name), Metric: telemetry.Retry, First: g.First()}
		wander, memory := 0.0, math.Exp(-1.0/10)
		for step := g.First(); step < g.Horizon; step++ {
			wander = memory*wander + 0.15*math.Sqrt(1-memory*memory)*rng.NormFloat64()
			rate := 10 * math.Exp(wander)
			if step >= 0 {
				rate *= factor(e)
			}
			track.Events = append(track.Events, max(0, math.Round(rate+math.Sqrt(rate)*rng.NormFloat64())))
			track.Trials = append(track.Trials, 1000)
		}
		c := baseline.Calibrate(track, g, nil)
		in.Comparisons = append(in.Comparisons, baseline.Compare(track, &c, g, nil, 0, in.Complete))
	}
	return Judge(in)
}

// What baseline measures is what detect judges: 10 endpoints with 211 placebos each.
func TestOnBaseline(t *testing.T) {
	t.Run("no change", func(t *testing.T) {
		j := shop(t, 1, func(int) float64 { return 1 })
		if j.Verdict == Regressed || j.ControlsRisen || !j.RestartCovered || j.Controls != 6 || j.Looks != 56 || j.Pooled != 2110 {
			t.Errorf("verdict %v, controls %d (risen %v, covered %v), looks %d, pool %d", j.Verdict, j.Controls, j.ControlsRisen, j.RestartCovered, j.Looks, j.Pooled)
		}
	})
	t.Run("one endpoint retries three times as much", func(t *testing.T) {
		j := shop(t, 2, func(e int) float64 { return 1 + 2*float64(max(0, 1-e)) })
		r := j.Rows[0]
		if j.Verdict != Regressed || r.Endpoint != "a0" || r.RegressedAt == 0 || r.RegressedAt > 15 || !r.StillThere || j.ControlsRisen {
			t.Errorf("verdict %v, first row %+v", j.Verdict, r)
		}
		// It came with the upgrade; the two steps after it tell nothing about when.
		if o := r.Onset; o == nil || o.Low > 0 || o.High < 0 || o.Step < -2 || o.Step > 4 {
			t.Errorf("onset %+v, want the upgrade", r.Onset)
		}
		if c := r.Change; !(c.Low99 < 2 && 2 < c.High99) {
			t.Errorf("the rate rose by 200 %%, the interval is %v to %v", c.Low99, c.High99)
		}
		for _, r := range j.Rows[1:] {
			if r.Verdict == Undecided && !r.Suspected && r.Onset != nil || r.Verdict == NoMeaningfulRise && r.Onset != nil {
				t.Errorf("%s has an onset of nothing: %+v", r.Endpoint, r.Onset)
			}
			if r.Verdict == Regressed {
				t.Errorf("%s is regressed, too", r.Endpoint)
			}
		}
	})
	t.Run("every endpoint at once", func(t *testing.T) {
		j := shop(t, 3, func(int) float64 { return 3 })
		if !j.ControlsRisen || j.Verdict != Regressed {
			t.Errorf("verdict %v, controls risen %v", j.Verdict, j.ControlsRisen)
		}
		for _, r := range j.Rows {
			if r.Verdict != Regressed {
				t.Errorf("%s is %v", r.Endpoint, r.Verdict)
			}
		}
	})
}
