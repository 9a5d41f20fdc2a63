package baseline

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// short is a geometry with some 100 placebos and a rollout of 4 steps.
var short = Geometry{Before: 24, Gap: 4, Guard: 2, FirstLook: 4, Horizon: 24, History: 900}

// drifting is a metric whose log rate wanders (AR(1) of 10 steps and sd 0.2), over all that g
// reaches back to and on to its horizon; effect is the factor on the rate from step 0 on.
func drifting(rng *rand.Rand, g Geometry, trials, rate, effect float64) telemetry.Track {
	t := telemetry.Track{Metric: telemetry.Retry, First: g.First()}
	phi := math.Exp(-0.1)
	x := 0.2 * rng.NormFloat64()
	for step := g.First(); step < g.Horizon; step++ {
		x = phi*x + 0.2*math.Sqrt(1-phi*phi)*rng.NormFloat64()
		n := math.Round(trials * (1 + 0.1*rng.NormFloat64()))
		mean := n * rate * math.Exp(x)
		if step >= 0 {
			mean *= effect
		}
		t.Events = append(t.Events, max(0, math.Round(mean+math.Sqrt(mean)*rng.NormFloat64())))
		t.Trials = append(t.Trials, n)
	}
	return t
}

func TestCalibrateGeometry(t *testing.T) {
	g := short // stride 8: placebos at -8 … -900, windows [p-28, p-4) and [p+2, p+24), ending by -28
	track := drifting(rand.New(rand.NewPCG(1, 1)), g, 1000, .02, 1)
	at := placebos(newLedger(track), g, g.Horizon, nil)
	// -56 is the last that ends by -28 (-52 is no multiple of 8), -896 the first: 106 placebos.
	if len(at) != 106 || at[0] != -896 || at[105] != -56 {
		t.Errorf("%d placebos from %d to %d, want 106 from -896 to -56", len(at), at[0], at[len(at)-1])
	}
	// Excluding steps [-500, -499) touches p-28 <= -500 < p+24: p of -520 to -472, 7 of them.
	if got := len(placebos(newLedger(track), g, g.Horizon, [][2]int{{-500, -499}})); got != 99 {
		t.Errorf("%d placebos beside one excluded step, want 99", got)
	}
	// A service born 400 steps ago: p-28 >= -400 leaves -368 to -56.
	if c := Calibrate(track.Slice(-400, g.Horizon), g, nil); c.Placebos != 40 {
		t.Errorf("%d placebos of a young service, want 40", c.Placebos)
	}
	if c := Calibrate(track.Slice(g.BaselineStart(), g.Horizon), g, nil); c.Placebos != 0 || c.Looks != nil {
		t.Errorf("%d placebos, %d looks without history", c.Placebos, len(c.Looks))
	}
	g.History = 0
	if c := Calibrate(track, g, nil); c.Placebos != 0 {
		t.Errorf("%d placebos with history 0", c.Placebos)
	}
}

// The steps between the start and the end of a rollout, the guard and everything after the
// baseline begins have no influence on a calibration.
func TestCalibrateDoesNotSeeTheUpgrade(t *testing.T) {
	track := drifting(rand.New(rand.NewPCG(1, 2)), short, 1000, .02, 1)
	want := Calibrate(track, short, nil)
	for i := short.BaselineStart() - track.First; i < len(track.Events); i++ {
		track.Events[i] = 1e6
	}
	if got := Calibrate(track, short, nil); !reflect.DeepEqual(got, want) {
		t.Error("the calibration changed with the steps that it is to judge")
	}
}

func TestCompareLeavesOutGapAndGuard(t *testing.T) {
	track := drifting(rand.New(rand.NewPCG(1, 3)), short, 1000, .02, 1)
	c := Calibrate(track, short, nil)
	want := Compare(track, &c, short, nil, 0, short.Horizon)
	for _, step := range []int{-4, -1, 0, 1} {
		track.Events[step-track.First] = 1e6
	}
	got := Compare(track, &c, short, nil, 0, short.Horizon)
	got.rates, want.rates = rates{}, rates{} // an onset may lie in the rollout
	if !reflect.DeepEqual(got, want) {
		t.Error("steps of the rollout or of the guard changed the comparison")
	}
}

// What is kept of a track is enough to compute the same comparison again, and nothing depends
// on what was computed before.
func TestCompareFromKeptSteps(t *testing.T) {
	track := drifting(rand.New(rand.NewPCG(1, 4)), short, 1000, .02, 1.5)
	c := Calibrate(track, short, nil)
	if again := Calibrate(track, short, nil); !reflect.DeepEqual(again, c) {
		t.Error("two calibrations of one track differ")
	}
	body, err := json.Marshal(struct {
		C Calibration
		T telemetry.Track
	}{c, track.Slice(short.BaselineStart(), short.Horizon)})
	if err != nil {
		t.Fatal(err)
	}
	var kept struct {
		C Calibration
		T telemetry.Track
	}
	if err := json.Unmarshal(body, &kept); err != nil {
		t.Fatal(err)
	}
	want := Compare(track, &c, short, nil, 0, short.Horizon)
	got := Compare(kept.T, &kept.C, short, nil, 0, short.Horizon)
	if !reflect.DeepEqual(got, want) {
		t.Error("the comparison from the kept steps differs")
	}
	if early := Compare(track, &c, short, nil, 0, 10); !reflect.DeepEqual(early.Looks, want.Looks[:7]) {
		t.Error("a look changes with what comes after it")
	}
}

// Doubling every count leaves what was measured, and gives no wider scale.
func TestTwiceTheTraffic(t *testing.T) {
	track := drifting(rand.New(rand.NewPCG(1, 5)), short, 1e6, .02, 1.3)
	double := telemetry.Track{Metric: track.Metric, First: track.First}
	for i := range track.Events {
		double.Events = append(double.Events, 2*track.Events[i])
		double.Trials = append(double.Trials, 2*track.Trials[i])
	}
	c1, c2 := Calibrate(track, short, nil), Calibrate(double, short, nil)
	r1 := Compare(track, &c1, short, nil, 0, short.Horizon)
	r2 := Compare(double, &c2, short, nil, 0, short.Horizon)
	// At 20,000 events a step the half counts, which do not double, are 2.5e-5 of a rate.
	const half = 1 + 1e-4
	if c2.Scale > c1.Scale*half {
		t.Errorf("scale %v of twice the traffic, %v of once", c2.Scale, c1.Scale)
	}
	for i := range r1.Looks {
		a, b := r1.Looks[i], r2.Looks[i]
		if math.Abs(a.D-b.D) > 1e-4 || math.Abs(a.Z-b.Z) > 1e-4*math.Abs(a.Z) || b.S > a.S*half {
			t.Errorf("look %d: D %v, s %v, z %v; with twice the traffic %v, %v, %v", a.T, a.D, a.S, a.Z, b.D, b.S, b.Z)
		}
	}
}

// A gauge and its reciprocal are each other's mirror image.
func TestDirectionsAreSymmetric(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 6))
	level := telemetry.Track{Metric: telemetry.Level, First: short.First()}
	mirror := level
	for step := short.First(); step < short.Horizon; step++ {
		x := 0.1 * rng.NormFloat64()
		if step >= 0 {
			x += 0.2
		}
		level.Events, mirror.Events = append(level.Events, math.Exp(x)), append(mirror.Events, math.Exp(-x))
	}
	c1, c2 := Calibrate(level, short, nil), Calibrate(mirror, short, nil)
	if c1.Class != 0 || c1.Block != 1 || c1.Looks[3].Slope != 0 || c1.Placebos != 106 {
		t.Errorf("level: class %d, block %d, slope %v, %d placebos", c1.Class, c1.Block, c1.Looks[3].Slope, c1.Placebos)
	}
	for i := range c1.Maxima {
		wantNear(t, "maximum of the mirror image", c2.Minima[i], c1.Maxima[i])
		wantNear(t, "minimum of the mirror image", c2.Maxima[i], c1.Minima[i])
	}
	r1, r2 := Compare(level, &c1, short, nil, 0, 24), Compare(mirror, &c2, short, nil, 0, 24)
	for i := range r1.Looks {
		wantNear(t, "z", r2.Looks[i].Z, -r1.Looks[i].Z)
		wantNear(t, "maximum", r2.Looks[i].Min, r1.Looks[i].Max)
		wantNear(t, "J5", r2.Looks[i].J5, r1.Looks[i].J5)
	}
	if r1.Unit != Counted() || r1.BaselineTrials != 0 || r1.Looks[20].Events != 0 {
		t.Errorf("level: unit %v, %v trials, %v events", r1.Unit, r1.BaselineTrials, r1.Looks[20].Events)
	}
	if r1.Before < 0.9 || r1.Before > 1.1 || r1.After < 1.1 || r1.After > 1.35 {
		t.Errorf("mean %v before and %v after, want about 1 and 1.22", r1.Before, r1.After)
	}
	if p := stat.RankP(c1.Maxima, r1.Looks[20].Max); p != 1.0/107 {
		t.Errorf("own rank of a shift by twice the noise %v, want 1/107", p)
	}
}

// A gauge that never moved has a scale all the same.
func TestConstantGauge(t *testing.T) {
	track := telemetry.Track{Metric: telemetry.Level, First: short.First(), Events: make(telemetry.Values, 24-short.First())}
	for i := range track.Events {
		track.Events[i] = 3
	}
	c := Calibrate(track, short, nil)
	r := Compare(track, &c, short, nil, 0, 24)
	if last := r.Looks[20]; last.Z != 0 || stat.RankP(c.Maxima, last.Max) != 1 {
		t.Errorf("unmoved: z %v, rank %v; want 0, 1", last.Z, stat.RankP(c.Maxima, last.Max))
	}
	for i := -track.First; i < len(track.Events); i++ {
		track.Events[i] = 4
	}
	r = Compare(track, &c, short, nil, 0, 24)
	if last := r.Looks[20]; math.IsInf(last.Z, 0) || !(last.Z > 1e6) {
		t.Errorf("moved by a third: z %v, want large and finite", last.Z)
	}
}

func TestMissingSteps(t *testing.T) {
	base := drifting(rand.New(rand.NewPCG(1, 7)), short, 1000, .02, 1)
	without := func(steps ...int) telemetry.Track {
		track := base.Slice(base.First, short.Horizon)
		for _, s := range steps {
			track.Events[s-track.First], track.Trials[s-track.First] = nan, nan
		}
		return track
	}
	c := Calibrate(base, short, nil)

	// 4 of 24 baseline steps are a sixth, 5 more than a fifth.
	if r := Compare(without(-28, -20, -15, -5), &c, short, nil, 0, 24); !r.Looks[20].Valid || !near(r.BaselineMissing, 4.0/24) {
		t.Errorf("4 of 24 missing: valid %v, missing %v", r.Looks[20].Valid, r.BaselineMissing)
	}
	r := Compare(without(-28, -20, -15, -10, -5), &c, short, nil, 0, 24)
	for _, look := range r.Looks {
		if look.Valid || !math.IsNaN(look.Z) || !math.IsInf(look.Max, -1) {
			t.Fatalf("5 of 24 missing: look %d valid %v, z %v, maximum %v", look.T, look.Valid, look.Z, look.Max)
		}
	}
	// Step 2 is half of the first look's post window, and a fifth of it at look 7.
	r = Compare(without(2), &c, short, nil, 0, 24)
	for _, look := range r.Looks {
		if want := look.T >= 7; look.Valid != want || math.IsNaN(look.Z) == want {
			t.Errorf("look %d without step 2: valid %v, z %v, missing %v", look.T, look.Valid, look.Z, look.Missing)
		}
	}
	// Data that ends counts as missing, and the maximum stays what it was.
	r = Compare(base.Slice(base.First, 12), &c, short, nil, 0, 24)
	if r.Looks[8].Max != r.Looks[20].Max || r.Looks[20].Valid || !r.Looks[8].Valid {
		t.Errorf("maximum %v at the end of the data, %v at the horizon; valid there %v", r.Looks[8].Max, r.Looks[20].Max, r.Looks[20].Valid)
	}
	// A hole in history costs the placebos whose windows lose more than a fifth: with [-500, -480)
	// missing that is 5 or more of a baseline [p-28, p-4), or of a post window [p+2, p+24).
	hole := make([]int, 20)
	lost := 0
	for i := range hole {
		hole[i] = -500 + i
	}
	overlap := func(from, to int) int { return max(0, min(to, -480)-max(from, -500)) }
	for _, p := range placebos(newLedger(base), short, 24, nil) {
		if overlap(p-28, p-4) >= 5 || overlap(p+2, p+24) >= 5 {
			lost++
		}
	}
	if got := Calibrate(without(hole...), short, nil); lost == 0 || got.Placebos != 106-lost {
		t.Errorf("%d placebos beside a hole, want 106 - %d", got.Placebos, lost)
	}
}

// A step that nobody called is covered: it lowers the load and leaves the rate alone.
func TestStepsWithoutTrials(t *testing.T) {
	g := Geometry{Before: 12, Guard: 0, FirstLook: 6, Horizon: 6}
	track := telemetry.Track{Metric: telemetry.Retry, First: -12}
	for step := -12; step < 6; step++ {
		n, k := 999.0, 49.5 // (49.5 + .5) / (999 + 1) = .05
		if step%2 != 0 && step > 0 {
			n, k = 0, 0 // 1, 3, 5
		}
		track.Events, track.Trials = append(track.Events, k), append(track.Trials, n)
	}
	r := Compare(track, nil, g, nil, 0, 6)
	look := r.Looks[0]
	if !look.Valid || math.Abs(look.D) > 1e-12 || look.Missing != 0 {
		t.Errorf("D %v, missing %v, valid %v; want 0, 0, true", look.D, look.Missing, look.Valid)
	}
	wantNear(t, "load", look.Load, math.Log((3*999.0+1)/6)-math.Log((12*999.0+1)/12))
	if !math.IsNaN(look.Z) || !math.IsNaN(look.Adj) || !math.IsInf(look.Max, -1) || !math.IsInf(look.Min, -1) {
		t.Errorf("without a calibration: z %v, Dadj %v, maximum %v, %v", look.Z, look.Adj, look.Max, look.Min)
	}
}

// Where nobody called at all there is no difference, at whatever load.
func TestNoTrialsSinceTheUpgrade(t *testing.T) {
	track := drifting(rand.New(rand.NewPCG(1, 9)), short, 1000, .02, 1)
	for i := -track.First; i < len(track.Events); i++ {
		track.Events[i], track.Trials[i] = 0, 0
	}
	c := Calibrate(track, short, nil)
	for _, look := range Compare(track, &c, short, nil, 0, 24).Looks {
		if look.Valid || !math.IsNaN(look.D) || look.Missing != 0 {
			t.Fatalf("look %d: valid %v, D %v, missing %v", look.T, look.Valid, look.D, look.Missing)
		}
	}
}

// A look that most placebos lack is not made: their maxima would not hold its like.
func TestLooksThatPlacebosLack(t *testing.T) {
	track := drifting(rand.New(rand.NewPCG(1, 10)), short, 1000, .02, 1)
	for step := track.First; step < 0; step++ {
		if phase := (step + 8000) % short.Stride(); phase == 2 || phase == 3 { // [p+2, p+4) of every placebo
			track.Events[step-track.First], track.Trials[step-track.First] = 0, 0
		}
	}
	c := Calibrate(track, short, nil)
	if c.Placebos != 106 || c.Looks[0].Placebos != 0 || c.Looks[1].Placebos != 106 {
		t.Errorf("%d placebos, %d at the first look, %d at the second; want 106, 0, 106", c.Placebos, c.Looks[0].Placebos, c.Looks[1].Placebos)
	}
	looks := Compare(track, &c, short, nil, 0, 24).Looks
	if looks[0].Valid || !math.IsNaN(looks[0].Z) || !looks[1].Valid {
		t.Errorf("first look valid %v with z %v, second valid %v; want false, NaN, true", looks[0].Valid, looks[0].Z, looks[1].Valid)
	}
}

func TestBlocksAndClasses(t *testing.T) {
	for _, tt := range []struct {
		eventsPerStep float64
		block, class  int
	}{ // research/statistics.md 3.2 and 3.5
		{100, 1, 3},
		{8, 1, 3},
		{7.9, 2, 2},
		{4, 2, 2},
		{3.9, 3, 2},
		{2.7, 3, 2},
		{2.6, 5, 2},
		{2, 5, 2},
		{1.9, 5, 1},
		{1.6, 5, 1},
		{1.5, 10, 1},
		{.5, 10, 1},
		{.49, 10, 0},
		{0, 10, 0},
	} {
		if b, c := blockOf(tt.eventsPerStep), classOf(tt.eventsPerStep); b != tt.block || c != tt.class {
			t.Errorf("%v events per step: block %d, class %d; want %d, %d", tt.eventsPerStep, b, c, tt.block, tt.class)
		}
	}
}

// No event in all of history, and then 20 %: the rank is the smallest there is within 10 steps.
// No event afterwards either: the rank is 1, though all placebos are equal but for rounding.
func TestEventsFromZero(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 8))
	track := drifting(rng, hourly, 600, 0, 1)
	c := Calibrate(track, hourly, nil)
	if c.EventsPerStep != 0 || c.Block != 10 || c.Class != 0 || c.Placebos != 499 {
		t.Errorf("%v events per step, block %d, class %d, %d placebos", c.EventsPerStep, c.Block, c.Class, c.Placebos)
	}
	for _, look := range Compare(track, &c, hourly, nil, 0, 60).Looks {
		if p := stat.RankP(c.Maxima, look.Max); p != 1 {
			t.Errorf("look %d without any event: p %v, want 1", look.T, p)
		}
	}
	for i := -track.First; i < len(track.Events); i++ {
		track.Events[i] = math.Round(.2 * track.Trials[i])
	}
	r := Compare(track, &c, hourly, nil, 0, 10)
	last := r.Looks[len(r.Looks)-1]
	if p := stat.RankP(c.Maxima, last.Max); p != 1.0/500 {
		t.Errorf("20 %% of requests from none: p %v at look 10, want 1/500", p)
	}
	if r.Before != 0 || math.Abs(r.After-.2) > .001 || last.EventSteps != 7 || last.Events < 700 {
		t.Errorf("from %v to %v, %v events in %d steps", r.Before, r.After, last.Events, last.EventSteps)
	}
	if math.Abs(last.J10-1) > .05 || math.Abs(last.J5-1) > .05 || math.Abs(last.Jp-1) > .05 {
		t.Errorf("gates %v %v %v, want about 1", last.J10, last.J5, last.Jp)
	}
}

// The gates tell a step at the upgrade from one before it and from one that went away.
func TestGates(t *testing.T) {
	step := func(rate func(step int) float64) Look {
		track := telemetry.Track{Metric: telemetry.Retry, First: -60}
		for s := -60; s < 30; s++ {
			track.Events, track.Trials = append(track.Events, 1e6*rate(s)), append(track.Trials, 1e6)
		}
		looks := Compare(track, nil, hourly, nil, 0, 30).Looks
		return looks[len(looks)-1]
	}
	from := func(at, end int) func(int) float64 {
		return func(s int) float64 {
			if s >= at && s < end {
				return .04
			}
			return .02
		}
	}
	tests := []struct {
		name        string
		look        Look
		j10, j5, jp float64
		within      float64
	}{ // by hand: a trimmed window is all moved, not moved at all, or half
		{"at the upgrade", step(from(0, 30)), 1, 1, 1, 1e-4},
		{"ten steps before", step(from(-10, 30)), 0, 0, 1, 1e-4},
		{"five steps before", step(from(-5, 30)), .5, 0, 1, 1e-4}, // trimmed to 6 of 10, 3 of them risen
		{"gone again", step(from(0, 25)), 1, 1, 0, 1e-4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range [][2]float64{{tt.look.J10, tt.j10}, {tt.look.J5, tt.j5}, {tt.look.Jp, tt.jp}} {
				if !(math.Abs(v[0]-v[1]) <= tt.within) {
					t.Errorf("J10 %v, J5 %v, Jp %v; want %v, %v, %v", tt.look.J10, tt.look.J5, tt.look.Jp, tt.j10, tt.j5, tt.jp)
				}
			}
		})
	}
	// A baseline that creeps up: log rates of s thousandths, and 10 of them after the upgrade.
	// Means by hand: far -38, last ten -5.5, last five -3.
	creeping := step(func(s int) float64 {
		if s >= 0 {
			s = 10
		}
		return .02 * math.Exp(float64(s)/1000)
	})
	if !(math.Abs(creeping.J10-15.5/48) < 1e-3) || !(math.Abs(creeping.J5-13.0/48) < 1e-3) || !(math.Abs(creeping.Jp-1) < 1e-3) {
		t.Errorf("creeping: gates %v %v %v, want %v %v 1", creeping.J10, creeping.J5, creeping.Jp, 15.5/48, 13.0/48)
	}
	if still := step(func(int) float64 { return .02 }); !math.IsNaN(still.J10) || !math.IsNaN(still.J5) || !math.IsNaN(still.Jp) {
		t.Errorf("nothing moved: gates %v %v %v, want NaN", still.J10, still.J5, still.Jp)
	}
}

func TestCompareBuckets(t *testing.T) {
	bounds := []float64{.1, .5, 1}
	b := &Buckets{Bounds: bounds, Before: []float64{700, 950, 990, 1000}, After: []float64{600, 850, 950, 1000}}
	tests := []struct {
		metric                      telemetry.Metric
		bound                       float64
		buckets                     *Buckets
		before, after, slope        float64
		beforeAtLeast, afterAtLeast float64
	}{ // by hand
		// .99 before is just the last bound, after it lies beyond; survival .225 to .03 / 2 between .1 and 1
		{telemetry.Tail, .5, b, 1, nan, math.Log(700.0/60) / math.Log(10), 0, 1},
		// .8 linear in (.1, .5]: 100 of 250 and 200 of 250
		{telemetry.Body, .5, b, .26, .42, math.Log(700.0/60) / math.Log(10), 0, 0},
		{telemetry.Body, .1, b, .26, .42, math.Log(700.0/200) / math.Log(5), 0, 0}, // 0 is no bound
		{telemetry.Tail, 1, b, 1, nan, math.Log(200.0/60) / math.Log(2), 0, 1},     // +Inf is none
		{telemetry.Tail, .3, b, 1, nan, nan, 0, 1},                                 // not a bound of this layout
		{telemetry.Tail, .5, nil, nan, nan, nan, 0, 0},
		{telemetry.Tail, .5, &Buckets{Bounds: []float64{.5}, Before: []float64{9, 10}, After: []float64{9, 10}}, nan, nan, nan, .5, .5},
		{
			telemetry.Body, .1, &Buckets{Bounds: []float64{0, .1, .5}, Before: []float64{0, 700, 950, 1000}, After: []float64{0, 600, 850, 1000}},
			.26, .42, math.Log(700.0/200) / math.Log(5), 0, 0, // a bound of 0 is no side either
		},
		{
			// No request beyond 1 s: half a one stands for none.
			telemetry.Tail, 1, &Buckets{Bounds: bounds, Before: []float64{70, 80, 100, 100}, After: []float64{0, 0, 0, 0}},
			math.NaN(), nan, math.Log(20/.5) / math.Log(2), 0, 0,
		},
	}
	g := Geometry{Before: 4, FirstLook: 4, Horizon: 4}
	track := telemetry.Track{First: -4, Events: make(telemetry.Values, 8), Trials: make(telemetry.Values, 8)}
	for _, tt := range tests {
		track.Metric, track.Bound = tt.metric, tt.bound
		r := Compare(track, nil, g, tt.buckets, .99, 4)
		if tt.buckets != nil && tt.buckets.After[len(tt.buckets.After)-1] == 0 {
			r.Before = nan // the quantile is not what this row is about
		}
		close := func(a, b float64) bool { return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-12 }
		slope := r.Unit.slope
		if tt.buckets == nil {
			slope = nan
		}
		if !close(r.Before, tt.before) || !close(r.After, tt.after) || !close(slope, tt.slope) ||
			r.BeforeAtLeast != tt.beforeAtLeast || r.AfterAtLeast != tt.afterAtLeast {
			t.Errorf("%s at %v: %v (%v) to %v (%v), slope %v; want %v (%v) to %v (%v), slope %v", tt.metric, tt.bound,
				r.Before, r.BeforeAtLeast, r.After, r.AfterAtLeast, slope, tt.before, tt.beforeAtLeast, tt.after, tt.afterAtLeast, tt.slope)
		}
	}
	if r := Compare(track, nil, g, b, .99, 3); len(r.Looks) != 0 || !math.IsNaN(r.After) {
		t.Errorf("before the first look: %d looks, after %v", len(r.Looks), r.After)
	}
}

// Without an upgrade the own rank is uniform: 400 services whose rate wanders.
func TestRanksWithoutAnUpgrade(t *testing.T) {
	const services = 400
	count := map[float64]int{}
	for seed := range uint64(services) {
		track := drifting(rand.New(rand.NewPCG(7, seed)), short, 1000, .02, 1)
		c := Calibrate(track, short, nil)
		looks := Compare(track, &c, short, nil, 0, short.Horizon).Looks
		last := looks[len(looks)-1]
		for _, alpha := range []float64{.05, .2, .5} {
			if stat.RankP(c.Maxima, last.Max) <= alpha {
				count[alpha]++
			}
			if stat.RankP(c.Minima, last.Min) <= alpha {
				count[-alpha]++
			}
		}
	}
	for alpha, got := range count {
		a := math.Abs(alpha)
		if sd := math.Sqrt(services * a * (1 - a)); math.Abs(float64(got)-services*a) > 3*sd {
			t.Errorf("alpha %v: %d of %d rejected, want %v to 3 sd %v", alpha, got, services, services*a, 3*sd)
		}
	}
}
