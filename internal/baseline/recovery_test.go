package baseline

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// watched is an upgrade of short whose flag is written in step 20 and proved off by step 22.
var watched = Watch{Written: 20, Proof: 22, Through: 44}

// flagOff is drifting with the rate times effect in [0, 22) and times left from there on.
func flagOff(rng *rand.Rand, effect, left float64) telemetry.Track {
	g := short
	g.Horizon = watched.Through
	t := drifting(rng, g, 1000, .02, 1)
	for step := range watched.Through {
		factor := left
		if step < watched.Proof {
			factor = effect
		}
		t.Events[step-t.First] *= factor
	}
	return t
}

func TestRecover(t *testing.T) {
	tests := []struct {
		name         string
		effect, left float64
		watch        Watch
		fallen, back bool
	}{
		{"back to normal", 3, 1, watched, true, true},
		{"no better", 3, 3, watched, false, false},
		{"better, but not back", 6, 2, watched, true, false},
		{"a fall that rose again", 1 / 3., 1, Watch{Written: 20, Proof: 22, Through: 44, Fell: true}, true, true},
		{"a fall that stayed", 1 / 3., 1 / 3., Watch{Written: 20, Proof: 22, Through: 44, Fell: true}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Recover(flagOff(rand.New(rand.NewPCG(2, 1)), tt.effect, tt.left), short, tt.watch, nil)
			if fallen := r.Fallen <= .05; fallen != tt.fallen || r.Back() != tt.back {
				t.Errorf("fallen %v (p %v), back %v (p %v); want %v, %v", fallen, r.Fallen, r.Back(), r.Above, tt.fallen, tt.back)
			}
			// p+44 <= -28 and p-28 >= -928, in strides of 8: -72 to -896.
			if r.Placebos != 104 {
				t.Errorf("%d placebos, want 104", r.Placebos)
			}
		})
	}
}

func TestRecoverKnowsNothing(t *testing.T) {
	track := flagOff(rand.New(rand.NewPCG(2, 2)), 3, 1)
	unknown := func(what string, r Recovery, placebos int) {
		t.Helper()
		if r.Fallen != 1 || r.Back() || r.Placebos != placebos {
			t.Errorf("%s: %+v, want nothing known and %d placebos", what, r, placebos)
		}
	}
	unknown("still in the guard", Recover(track, short, Watch{Written: 20, Proof: 22, Through: 24}, nil), 0)
	unknown("no history", Recover(track.Slice(short.BaselineStart(), 44), short, watched, nil), 0)
	gone := track.Slice(track.First, 44)
	for step := 30; step < 44; step++ {
		gone.Events[step-gone.First], gone.Trials[step-gone.First] = nan, nan
	}
	unknown("no data since step 30", Recover(gone, short, watched, nil), 104)
}

// Rollout, guards, and the steps between the write and the proof belong to no window.
func TestRecoverLeavesOutGapAndGuards(t *testing.T) {
	track := flagOff(rand.New(rand.NewPCG(2, 4)), 1.2, 1.1) // ranks in the middle show every shift
	want := Recover(track, short, watched, nil)
	for _, step := range []int{-4, -1, 0, 1, 20, 21, 22, 23} {
		track.Events[step-track.First] = 1e6
	}
	if want.Fallen < .1 || want.Fallen > .9 || want.Above < .1 || want.Above > .9 {
		t.Errorf("ranks %v and %v are not in the middle", want.Fallen, want.Above)
	}
	if got := Recover(track, short, watched, nil); got != want {
		t.Errorf("%+v with those steps changed, %+v before", got, want)
	}
}

// An endpoint that never had an event before the upgrade is back when it has none again.
func TestRecoverToZero(t *testing.T) {
	track := flagOff(rand.New(rand.NewPCG(2, 3)), 0, 0)
	for i := range track.Events {
		track.Events[i] = 0
		if step := i + track.First; step >= 0 && step < watched.Proof {
			track.Events[i] = 200
		}
	}
	if r := Recover(track, short, watched, nil); r.Fallen > .05 || !r.Back() {
		t.Errorf("%+v, want fallen and back", r)
	}
}

// If the flag was not the cause, R falls below the regressed window by chance at most as
// often as alpha says. 400 services whose rate wanders and stays three times as high.
func TestRecoverWithoutACause(t *testing.T) {
	const services = 400
	fallen, recovered := 0, 0
	for seed := range uint64(services) {
		r := Recover(flagOff(rand.New(rand.NewPCG(8, seed)), 3, 3), short, watched, nil)
		if r.Fallen <= .05 {
			fallen++
			if r.Back() {
				recovered++
			}
		}
	}
	if sd := math.Sqrt(services * .05 * .95); float64(fallen) > services*.05+3*sd {
		t.Errorf("%d of %d fell, want at most %v + 3 sd %v", fallen, services, services*.05, 3*sd)
	}
	if float64(recovered) > services*.05 {
		t.Errorf("%d of %d recovered from a cause that stayed", recovered, services)
	}
}

func BenchmarkRecover(b *testing.B) {
	track := fixture()
	w := Watch{Written: 20, Proof: 21, Through: 80}
	b.ReportAllocs()
	for b.Loop() {
		if r := Recover(track, hourly, w, nil); r.Placebos < 400 {
			b.Fatal(r.Placebos)
		}
	}
}
