package baseline

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Two covariates that explain D but for its intercept: D = 2 + 0.5 L + 0.8 C. The variances and
// the covariance are by hand: L = -1, 0, 1, 2, C = 1, -1, 0, 4, mean 0.5 and 1; deviations
// of L -1.5, -.5, .5, 1.5 and of C 0, -2, -1, 3; squares 5 and 14, products 0 + 1 - .5 + 4.5 = 5.
func TestRegressOnLoadAndControls(t *testing.T) {
	nan := math.NaN()
	x := column{
		load: []float64{-1, 0, 7, 1, 2, 3}, control: []float64{1, -1, 1, 0, 4, nan},
		v: make([]float64, 6),
	}
	for i := range x.load {
		x.d = append(x.d, 2+0.5*x.load[i]+0.8*x.control[i])
	}
	x.d[2] = nan // no difference at this placebo, no controls at the last
	x.d[5] = 1
	adj := make([]float64, 6)
	c := x.regress(adj)
	for _, n := range []struct {
		what      string
		got, want float64
	}{
		{"slope", c.Slope, 0.5},
		{"control slope", c.ControlSlope, 0.8},
		{"mean of L", c.LoadMean, 0.5},
		{"mean of C", c.ControlMean, 1},
		{"variance of L", c.LoadVar, 1.25},
		{"variance of C", c.ControlVar, 3.5},
		{"covariance", c.Covariance, 1.25},
	} {
		wantNear(t, n.what, n.got, n.want)
	}
	if c.Placebos != 4 || !math.IsNaN(adj[2]) || !math.IsNaN(adj[5]) {
		t.Errorf("%d placebos, left %v; want 4, and none of the third and the last", c.Placebos, adj)
	}
	for _, i := range []int{0, 1, 3, 4} {
		wantNear(t, "what is left", adj[i], 2) // the intercept is not taken away
	}

	// (x - mean)' S^-1 (x - mean) at L = 2.5, C = 1: S^-1 = [3.5 -1.25; -1.25 1.25] / (1.25*3.5 -
	// 1.25^2 = 2.8125), so 2^2 * 3.5 / 2.8125.
	wantNear(t, "leverage", c.leverage(2.5, 1), 4*3.5/2.8125)
	c.Tau2 = 0.4
	a, s := c.adjust(point{d: 5, load: 2.5, v: 0.1}, 1)
	wantNear(t, "adjusted", a, 5-0.5*2.5-0.8)
	wantNear(t, "its scale", s, math.Sqrt(0.1+0.4*(1+4*3.5/2.8125/40)))
}

// Controls that are all alike tell nothing, and neither do controls that do what the load does.
func TestRegressOnControlsThatTellNothing(t *testing.T) {
	load := []float64{1, 2, 3, 4, 5}
	d := []float64{2, 3, 5, 4, 6}
	adj := make([]float64, 5)
	alone := column{d: d, load: load, v: make([]float64, 5)}.regress(adj)
	for name, control := range map[string][]float64{"constant": {3, 3, 3, 3, 3}, "the load again": load} {
		c := column{d: d, load: load, control: control, v: make([]float64, 5)}.regress(adj)
		if c.ControlSlope != 0 || c.Slope != alone.Slope {
			t.Errorf("%s: slopes %v and %v; want %v and 0", name, c.Slope, c.ControlSlope, alone.Slope)
		}
		if got, want := c.leverage(9, 100), alone.leverage(9, 0); got != want {
			t.Errorf("%s: leverage %v, want %v", name, got, want)
		}
	}
}

// family is n endpoints over three days of minutes with 20 events of 1,000 trials: their logs share an
// AR(1) walk of sd 0.3 and have one of sd 0.1 of their own, both with a memory of 10 minutes.
func family(seed uint64, n int, g Geometry) []telemetry.Track {
	rng := rand.New(rand.NewPCG(seed, 5))
	tracks := make([]telemetry.Track, n)
	own := make([]float64, n)
	memory, shared := math.Exp(-1.0/10), 0.0
	fresh := math.Sqrt(1 - memory*memory)
	for e := range tracks {
		tracks[e] = telemetry.Track{Endpoint: telemetry.NewEndpoint(fmt.Sprintf("e%02d", e)), Metric: telemetry.Retry, First: g.First()}
	}
	for range g.Horizon - g.First() {
		shared = memory*shared + 0.3*fresh*rng.NormFloat64()
		for e := range tracks {
			own[e] = memory*own[e] + 0.1*fresh*rng.NormFloat64()
			rate := 20 * math.Exp(shared+own[e])
			k := max(0, math.Round(rate+math.Sqrt(rate)*rng.NormFloat64()))
			tracks[e].Events, tracks[e].Trials = append(tracks[e].Events, k), append(tracks[e].Trials, 1000)
		}
	}
	return tracks
}

// threeDays is hourly with a history of three days.
var threeDays = Geometry{Before: 60, Guard: 3, FirstLook: 5, Horizon: 60, History: 3 * 1440}

// What endpoints share is gone against controls: of a variance of 0.3^2 + 0.1^2 a tenth is an
// endpoint's own, and the mean of seven others adds a seventh of that.
func TestAgainstControls(t *testing.T) {
	g := threeDays
	tracks := family(11, 8, g)
	controls := NewControls(tracks[1:], g, nil)
	c := controls.Calibrate(tracks[0], g, nil)
	if c.Against == nil || c.Control || len(c.Against.Maxima) != c.Placebos {
		t.Fatalf("against %+v, control %v", c.Against, c.Control)
	}
	last := len(c.Looks) - 1
	if share := c.Against.Looks[last].Tau2 / c.Looks[last].Tau2; share < 0.05 || share > 0.25 {
		t.Errorf("controls leave %v of the variance, want about 0.11", share)
	}
	if b := c.Against.Looks[last].ControlSlope; b < 0.8 || b > 1.2 {
		t.Errorf("slope on the controls %v, want about 1", b)
	}
	if own := Calibrate(tracks[0], g, nil); !reflect.DeepEqual(own.Looks, c.Looks) || !slices.Equal(own.Maxima, c.Maxima) {
		t.Error("controls changed the endpoint's own calibration")
	}
	if own := Calibrate(tracks[0], g, nil); own.Against != nil {
		t.Error("without controls there is an adjustment for them")
	}

	// A member is compared with the others: as if it had not been one.
	member := controls.Calibrate(tracks[1], g, nil)
	stranger := NewControls(tracks[2:], g, nil).Calibrate(tracks[1], g, nil)
	if !member.Control || stranger.Control {
		t.Errorf("member %v, stranger %v", member.Control, stranger.Control)
	}
	for i, z := range stranger.Against.Maxima {
		if math.Abs(member.Against.Maxima[i]-z) > 1e-9 {
			t.Fatalf("placebo %d of a member is %v, of the same endpoint as a stranger %v", i, member.Against.Maxima[i], z)
		}
	}

	backwards := slices.Clone(tracks[1:])
	slices.Reverse(backwards)
	if b := NewControls(backwards, g, nil).Calibrate(tracks[0], g, nil); !reflect.DeepEqual(b, c) {
		t.Error("the calibration depends on the order of the controls")
	}
}

func TestNewControlsRefuses(t *testing.T) {
	g := threeDays
	tracks := family(12, 4, g)
	if NewControls(tracks[:2], g, nil) != nil {
		t.Error("two endpoints are controls")
	}
	young := tracks[2].Slice(-600, g.Horizon) // 22 placebos
	if NewControls([]telemetry.Track{tracks[0], tracks[1], young}, g, nil) != nil {
		t.Error("an endpoint with 22 placebos is a control")
	}
	// Three are enough for others, but not for each other.
	c := NewControls(tracks[:3], g, nil)
	if c.Calibrate(tracks[3], g, nil).Against == nil {
		t.Error("three controls are not adjusted for")
	}
	if k := c.Calibrate(tracks[0], g, nil); k.Against != nil || !k.Control {
		t.Errorf("one of three controls: against %v, control %v; want none, true", k.Against, k.Control)
	}
	// The first three have data, but never at the same placebos.
	for e := range 3 {
		for i := range tracks[e].Events {
			if i/1440%3 != e {
				tracks[e].Events[i], tracks[e].Trials[i] = math.NaN(), math.NaN()
			}
		}
	}
	if c := NewControls(tracks[:3], g, nil); c.Calibrate(tracks[3], g, nil).Against != nil {
		t.Error("controls that are never there together are adjusted for")
	}
}

// At the upgrade, what all do is no difference against controls, and what one does is all of it.
func TestLooksAgainstControls(t *testing.T) {
	g := threeDays
	tracks := family(13, 8, g)
	at := -g.First()
	for e := range tracks {
		for i := at; i < len(tracks[e].Events); i++ {
			tracks[e].Events[i] *= 3 // all of them
		}
	}
	for i := at; i < len(tracks[1].Events); i++ {
		tracks[1].Events[i] *= 2 // and this one besides
	}
	controls := NewControls(tracks[2:], g, nil)
	compare := func() []Comparison {
		var out []Comparison
		for _, track := range tracks {
			c := controls.Calibrate(track, g, nil)
			out = append(out, Compare(track, &c, g, nil, 0, 40))
		}
		AgainstControls(out, g)
		return out
	}
	family := compare()
	for e, want := range []float64{0, math.Log(2)} {
		l := family[e].Looks[len(family[e].Looks)-1]
		if l.Against == nil || math.Abs(l.Against.Adj-want) > 0.15 || l.Adj < want+math.Log(3)-0.5 {
			t.Errorf("endpoint %d: against controls %+v, want %v; alone %v, want ln 3 more", e, l.Against, want, l.Adj)
			continue
		}
		if got := l.Against.Adj / l.Against.S; got != l.Against.Z || l.Against.Max < g.Weight(l.T)*l.Against.Z {
			t.Errorf("endpoint %d: z %v, max %v; want %v", e, l.Against.Z, l.Against.Max, got)
		}
	}
	if family[3].Looks[0].Against != nil {
		t.Error("a control is compared with controls")
	}

	// The sum over the controls is by hand: slope and means of the calibration, mean of their D.
	sum, l := 0.0, family[1].Looks[10]
	for e := 2; e < 8; e++ {
		sum += family[e].Looks[10].D
	}
	k := family[1].Calibration.Against.Looks[10]
	wantNear(t, "adjusted", l.Against.Adj, l.D-k.Slope*l.Load-k.ControlSlope*sum/6)

	for e := 2; e < 6; e++ { // two controls left
		for i := range tracks[e].Events[at:] {
			tracks[e].Events[at+i], tracks[e].Trials[at+i] = math.NaN(), math.NaN()
		}
	}
	for _, l := range compare()[1].Looks {
		if l.Against != nil {
			t.Fatalf("look %d is compared with two controls", l.T)
		}
	}
}

// The memory of a calibration that has both adjustments, in one family of ten.
// What NewControls computed of a member is what Calibrate computes of it, and is taken for
// nothing else: not for another geometry, other exclusions or other values.
func TestMembersAreCalibratedOnce(t *testing.T) {
	tracks := make([]telemetry.Track, 4)
	for i := range tracks {
		tracks[i] = fixture()
		tracks[i].Endpoint = telemetry.NewEndpoint(fmt.Sprint(i))
		for k := range tracks[i].Events {
			tracks[i].Events[k] += float64((k * (i + 3)) % 7)
		}
	}
	shorter, other := hourly, tracks[0]
	shorter.History -= 1440
	other.Events = slices.Clone(other.Events)
	other.Events[5000] += 100
	exclude := [][2]int{{-3000, -2000}}
	for _, tt := range []struct {
		name    string
		track   telemetry.Track
		g       Geometry
		exclude [][2]int
		kept    bool
	}{
		{"the same", tracks[0], hourly, nil, true},
		{"another history", tracks[0], shorter, nil, false},
		{"exclusions", tracks[0], hourly, exclude, false},
		{"other values", other, hourly, nil, false},
	} {
		controls := NewControls(tracks, hourly, nil)
		kept := controls.made[tt.track.Endpoint]
		got, want := controls.begin(tt.track, tt.g, tt.exclude), newMade(tt.track, tt.g, tt.exclude)
		if (got == kept) != tt.kept || kept == nil {
			t.Errorf("%s: what was kept is taken: %t, want %t", tt.name, got == kept, tt.kept)
		}
		if fmt.Sprint(got.description, *got.paths) != fmt.Sprint(want.description, *want.paths) {
			t.Errorf("%s: not what a calibration begins with", tt.name)
		}
		if len(controls.made) != 3 {
			t.Errorf("%s: %d members are kept, want the 3 that were not asked for", tt.name, len(controls.made))
		}
		if controls.Forget(); len(controls.made) != 0 {
			t.Errorf("%s: %d members are kept after all", tt.name, len(controls.made))
		}
	}
}

func BenchmarkCalibrateAgainstControls(b *testing.B) {
	tracks := make([]telemetry.Track, 6)
	for i := range tracks {
		tracks[i] = fixture()
		tracks[i].Endpoint = telemetry.NewEndpoint(fmt.Sprint(i))
	}
	g := hourly
	g.Day = 1440
	controls := NewControls(tracks[1:], g, nil)
	b.ReportAllocs()
	for b.Loop() {
		if c := controls.Calibrate(tracks[0], g, nil); c.Against == nil || c.Days != 7 {
			b.Fatal(c.Days)
		}
	}
}
