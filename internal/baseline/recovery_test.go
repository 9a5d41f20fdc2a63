package baseline

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// watched is an upgrade of short whose flag is written in step 20 and proved off by step 22.
var watched = Watch{Written: 20, Proof: 22}

// lastLook is the step in which the last look at watched ends.
const lastLook = 22 + 24

// flagOff is drifting with the rate times effect in [0, 22) and times left from there on.
func flagOff(rng *rand.Rand, effect, left float64) telemetry.Track {
	g := short
	g.Horizon = lastLook
	t := drifting(rng, g, 1000, .02, 1)
	for step := range lastLook {
		factor := left
		if step < watched.Proof {
			factor = effect
		}
		t.Events[step-t.First] *= factor
	}
	return t
}

// recovery looks at steps after the proof.
func recovery(t telemetry.Track, w Watch, at int) Recovery {
	return NewRecovering(t, short, w, nil).At(t, at)
}

func TestRecovering(t *testing.T) {
	fell := watched
	fell.Fell = true
	tests := []struct {
		name         string
		effect, left float64
		watch        Watch
		fallen, back bool
	}{
		{"back to normal", 3, 1, watched, true, true},
		{"no better", 3, 3, watched, false, false},
		{"better, but not back", 6, 2, watched, true, false},
		{"a fall that rose again", 1 / 3., 1, fell, true, true},
		{"a fall that stayed", 1 / 3., 1 / 3., fell, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := recovery(flagOff(rand.New(rand.NewPCG(2, 1)), tt.effect, tt.left), tt.watch, 22)
			if fallen := r.Fallen <= .05 && r.Stays <= .05; fallen != tt.fallen || r.Back() != tt.back || !r.Known || r.Recovered(.05) != (fallen && tt.back) {
				t.Errorf("%+v; want fallen %v, back %v", r, tt.fallen, tt.back)
			}
			// p+46 <= -28 and p-28 >= -928, in strides of 8: -80 to -896.
			if r.Placebos != 103 {
				t.Errorf("%d placebos, want 103", r.Placebos)
			}
		})
	}
}

func TestRecoveringKnowsNothing(t *testing.T) {
	track := flagOff(rand.New(rand.NewPCG(2, 2)), 3, 1)
	unknown := func(what string, r Recovery, placebos int) {
		t.Helper()
		if r.Known || r.Fallen != 1 || r.Stays != 1 || r.Back() || r.Recovered(1) || r.Placebos != placebos {
			t.Errorf("%s: %+v, want nothing known and %d placebos", what, r, placebos)
		}
	}
	unknown("before the first look", recovery(track, watched, 3), 103)
	unknown("after the last look", recovery(track, watched, 25), 103)
	unknown("no history", recovery(track.Slice(short.BaselineStart(), lastLook), watched, 22), 0)
	gone := track.Slice(track.First, lastLook)
	for step := 30; step < lastLook; step++ {
		gone.Events[step-gone.First], gone.Trials[step-gone.First] = nan, nan
	}
	unknown("no data since step 30", recovery(gone, watched, 22), 103)
	few := NewRecovering(track.Slice(-500, lastLook), short, watched, nil).At(track, 22)
	if !few.Known || few.Placebos != 50 || few.Recovered(1) { // -80 to -472
		t.Errorf("%+v, want 50 placebos to be too few", few)
	}
}

// Rollout, guards, and the steps between the write and the proof belong to no window.
func TestRecoveringLeavesOutGapAndGuards(t *testing.T) {
	track := flagOff(rand.New(rand.NewPCG(2, 4)), 1.2, .95) // ranks in the middle show every shift
	want := recovery(track, watched, 22)
	for _, step := range []int{-4, -1, 0, 1, 20, 21, 22, 23, 44, 45} {
		track.Events[step-track.First] = 1e6
	}
	if want.Fallen < .1 || want.Fallen > .9 || want.Above < .1 || want.Above > .9 {
		t.Errorf("ranks %v and %v are not in the middle", want.Fallen, want.Above)
	}
	if got := recovery(track, watched, 22); got != want {
		t.Errorf("%+v with those steps changed, %+v before", got, want)
	}
}

// An endpoint that never had an event before the upgrade is back when it has none again.
func TestRecoveringToZero(t *testing.T) {
	track := flagOff(rand.New(rand.NewPCG(2, 3)), 0, 0)
	for i := range track.Events {
		track.Events[i] = 0
		if step := i + track.First; step >= 0 && step < watched.Proof {
			track.Events[i] = 200
		}
	}
	if r := recovery(track, watched, 22); !r.Recovered(.05) {
		t.Errorf("%+v, want fallen and back", r)
	}
}

// A rise that stays after the flag went off is called recovered in at most 5 % of those that
// were found, over all looks, although it was found when it happened to be high; one that goes
// away is found. 300 services each, whose rate wanders; alarms at 1 % by the rank among their
// own placebos, as package detect has them.
func TestRecoveringWithAndWithoutACause(t *testing.T) {
	g := Geometry{Before: 60, Guard: 3, FirstLook: 5, Horizon: 60, History: 5000}
	for _, tt := range []struct {
		effect float64
		stays  bool
		least  float64 // share recovered
		most   float64
		delay  int // the median in steps, at most
	}{
		{1.4, true, 0, .05, 60},
		{2, false, .8, 1, 30},
		{3, false, .95, 1, 15},
	} {
		found := 0
		var delays []int
		for seed := range uint64(300) {
			whole := g
			whole.Horizon = 2*g.Horizon + 2
			track := drifting(rand.New(rand.NewPCG(11, seed)), whole, 1000, .02, tt.effect)
			alarm := alarmOf(track, g)
			if alarm == 0 {
				continue
			}
			found++
			w := Watch{Written: alarm, Proof: alarm + 1}
			for i := w.Proof - track.First; !tt.stays && i < len(track.Events); i++ {
				track.Events[i] = math.Round(track.Events[i] / tt.effect)
			}
			r := NewRecovering(track, g, w, nil)
			for at, inARow := g.FirstLook, 0; at <= g.Horizon; at++ {
				if inARow++; !r.At(track, at).Recovered(.05) {
					inARow = 0
				}
				if inARow == 3 {
					delays = append(delays, at)
					break
				}
			}
		}
		slices.Sort(delays)
		share := float64(len(delays)) / float64(found)
		if found < 80 || share < tt.least || share > tt.most {
			t.Errorf("effect %v, stays %v: %d of %d recovered, want %v to %v", tt.effect, tt.stays, len(delays), found, tt.least, tt.most)
		}
		if !tt.stays && delays[len(delays)/2] > tt.delay {
			t.Errorf("effect %v: half of them after %d steps, want at most %d", tt.effect, delays[len(delays)/2], tt.delay)
		}
	}
}

// alarmOf is the look at which track is found at 1 %, 0 if at none.
func alarmOf(track telemetry.Track, g Geometry) int {
	c := Calibrate(track, g, nil)
	for _, l := range Compare(track, &c, g, nil, 0, g.Horizon).Looks {
		if stat.RankP(c.Maxima, l.Max) <= .01 && l.Adj >= math.Log(1.2) && min(l.J10, l.J5, l.Jp) >= .5 {
			return l.T
		}
	}
	return 0
}

func BenchmarkRecovering(b *testing.B) {
	track := fixture()
	w := Watch{Written: 20, Proof: 21}
	b.Run("made", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r := NewRecovering(track, hourly, w, nil); r.placebos < 400 {
				b.Fatal(r.placebos)
			}
		}
	})
	b.Run("asked", func(b *testing.B) {
		r := NewRecovering(track, hourly, w, nil)
		b.ReportAllocs()
		for b.Loop() {
			if v := r.At(track, 59); !v.Known {
				b.Fatal(v)
			}
		}
	})
}
