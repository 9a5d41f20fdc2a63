package baseline

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// goldenFamily is a family of four gauges and three error counters, 12 steps before and 3
// after; the counters have no data in the first two steps.
func goldenFamily() ([]ShortSeries, []rule.Signal, Geometry) {
	var series []ShortSeries
	for i, pre := range goldenGaugePre {
		series = append(series, ShortSeries{
			Endpoint: telemetry.NewEndpoint(string(rune('a' + i))), First: -12, Events: slices.Concat(pre, goldenGaugePost[i]),
		})
	}
	missing := []float64{math.NaN(), math.NaN()}
	for i := range goldenEvents {
		series = append(series, ShortSeries{
			Endpoint: telemetry.NewEndpoint(string(rune('a' + i))), Signal: 1, First: -12,
			Events: slices.Concat(missing, goldenEvents[i], goldenEventsPost[i]),
			Trials: slices.Concat(missing, goldenTrials[i], goldenTrialsPost[i]),
		})
	}
	return series, []rule.Signal{{Kind: rule.Gauge}, {Kind: rule.Ratio}}, Geometry{Before: 12, FirstLook: 2, Horizon: 3}
}

func TestCompareShort(t *testing.T) {
	series, signals, g := goldenFamily()
	f := CompareShort(series, signals, g, 3, 0.05)
	if f.Before != 12 || f.After != 3 || len(f.Tests) != 7 {
		t.Fatalf("%d steps before, %d after, %d tests, want 12, 3 and 7", f.Before, f.After, len(f.Tests))
	}
	golden(t, "P", f.P, 4.607922965004981e-06)
	if !f.Guard.Run || f.Guard.Places != 10 || !f.Guard.Holds(f.P) {
		t.Errorf("guard %+v, want 10 places and that it holds", f.Guard)
	}
	for i, above := range []bool{false, true, false, false, true, false, false} {
		if f.Tests[i].Effect != above {
			t.Errorf("test %d above its floor: %v, want %v", i, f.Tests[i].Effect, above)
		}
	}
	b := f.Tests[1]
	golden(t, "ratio", b.Ratio, math.Expm1(.41852715864922274))
	if !(b.Low99 < b.Ratio && b.Ratio < b.Bound95 && b.Bound95 < b.High99) || !(b.Attainable < b.P) {
		t.Errorf("interval %v to %v and bound %v around %v; attainable %v, p %v", b.Low99, b.High99, b.Bound95, b.Ratio, b.Attainable, b.P)
	}
}

func TestCompareShortRaisesFloors(t *testing.T) {
	series, signals, g := goldenFamily()
	signals[0].MinimumEffect = 0.6  // b rose by 52 %
	signals[1].MinimumChange = 0.15 // a rose by 8.6 points
	if f := CompareShort(series, signals, g, 3, 0.05); f.P != 1 || f.Guard.Run {
		t.Errorf("P = %v, guard run %v, want nothing above the floors of the rule", f.P, f.Guard.Run)
	}
	signals[0].Direction, signals[1].Direction = rule.Down, rule.Down
	if f := CompareShort(series, signals, g, 3, 0.05); len(f.Tests) != 0 {
		t.Errorf("%d tests of signals that may only not fall, want none", len(f.Tests))
	}
}

func TestGuardVetoesWhatHappensWithoutAnUpgrade(t *testing.T) {
	series, signals, g := goldenFamily()
	// Another endpoint had the same rise for three steps before the upgrade.
	spiky := slices.Clone(series[2].Events)
	for i := 4; i < 7; i++ {
		spiky[i] *= 40
	}
	series[2].Events = spiky
	f := CompareShort(series[:4], signals, g, 3, 1)
	if f.Guard.Holds(f.P) || f.Guard.Step != -8 || f.Guard.Endpoint != "c" {
		t.Errorf("P = %v passes %+v, want a veto of c at step -8", f.P, f.Guard)
	}
}

// The last step before the upgrade may hold some of it, and is compared only where there are few.
func TestTheLastStepBeforeIsLeftOut(t *testing.T) {
	for _, c := range []struct {
		steps  int
		want   bool // it matters
		places int  // of three steps, inside what is compared
	}{{19, true, 17}, {20, false, 17}, {24, false, 21}} {
		series := make([]ShortSeries, 3)
		for e := range series {
			s := ShortSeries{Endpoint: telemetry.NewEndpoint(string(rune('a' + e))), First: -c.steps}
			for i := range c.steps + 3 {
				s.Events = append(s.Events, 0.1*(1+0.01*float64((i*(e+3))%5)))
			}
			series[e] = s
		}
		g := Geometry{Before: c.steps, FirstLook: 2, Horizon: 3}
		signals := []rule.Signal{{Kind: rule.Gauge, Unit: "s"}}
		quiet := CompareShort(series, signals, g, 3, 1)
		series[0].Events = slices.Clone(series[0].Events)
		series[0].Events[c.steps-1] *= 5
		loud := CompareShort(series, signals, g, 3, 1)
		if quiet.Before != c.steps || loud.Before != c.steps {
			t.Errorf("%d and %d steps before, want %d", quiet.Before, loud.Before, c.steps)
		}
		if got := quiet.Tests[0].Z != loud.Tests[0].Z; got != c.want {
			t.Errorf("of %d steps the last one matters: %v, want %v", c.steps, got, c.want)
		}
		if loud.Guard.Places != c.places {
			t.Errorf("of %d steps the guard looks at %d places, want %d", c.steps, loud.Guard.Places, c.places)
		}
	}
}

func TestLacksWhatIsCompared(t *testing.T) {
	requests := func(before float64) ShortSeries {
		s := ShortSeries{Endpoint: "e", First: -24, Events: make(telemetry.Values, 27), Trials: make(telemetry.Values, 27)}
		s.Trials[0], s.Trials[22], s.Trials[23] = 1, before, 100
		for i := 24; i < 27; i++ {
			s.Trials[i] = 2
		}
		return s
	}
	signal := rule.Signal{Kind: rule.Ratio}
	for _, c := range []struct {
		before float64
		of     string
		have   float64
	}{{6, "requests", 7}, {7, "", 0}} {
		s := requests(c.before)
		f := CompareShort([]ShortSeries{s}, []rule.Signal{signal}, Geometry{Before: 24, FirstLook: 2, Horizon: 3}, 3, .05)
		of, have, _ := f.Lacks(s, signal)
		if of != c.of || have != c.have || (len(f.Tests) == 0) != (c.of != "") {
			t.Errorf("%v requests in step -2: lacks %v %s, %d tests, want %v %s", c.before, have, of, len(f.Tests), c.have, c.of)
		}
	}
}

func TestGuardNeedsRoom(t *testing.T) {
	series, signals, g := goldenFamily()
	g.Before = 6
	f := CompareShort(series[:4], signals, g, 3, 1)
	if f.Guard.Places != 0 || f.Guard.Holds(0) {
		t.Errorf("guard %+v holds with three steps left beside each place, want that it never does", f.Guard)
	}
}

// shortHistogram has 100 requests a step, shares beyond the bounds .1, .2, .5, 1 being given.
func shortHistogram(e string, n int, shares ...float64) ShortSeries {
	s := ShortSeries{Endpoint: telemetry.NewEndpoint(e), First: -n, Bounds: []float64{.1, .2, .5, 1}}
	for _, share := range append(slices.Clone(shares), 0) {
		v := make(telemetry.Values, n+6)
		for i := range v {
			v[i] = 100 * (1 - share)
		}
		s.Buckets = append(s.Buckets, v)
	}
	return s
}

func TestCompareShortOfHistograms(t *testing.T) {
	quiet, slow := shortHistogram("quiet", 24, .6, .22, .04, .002), shortHistogram("slow", 24, .6, .22, .04, .002)
	for i := 24; i < 30; i++ {
		slow.Buckets[1][i], slow.Buckets[2][i], slow.Buckets[3][i] = 40, 70, 95
	}
	g := Geometry{Before: 24, FirstLook: 2, Horizon: 6}
	signals := []rule.Signal{{Kind: rule.Histogram, Quantile: .99, MinimumEffect: .1}}
	f := CompareShort([]ShortSeries{quiet, slow}, signals, g, 6, 0.05)
	if len(f.Tests) != 4 {
		t.Fatalf("%d tests, want two levels of two endpoints", len(f.Tests))
	}
	if !(f.P < 1e-4) || !f.Guard.Holds(f.P) {
		t.Errorf("P = %v, guard %+v", f.P, f.Guard)
	}
	for _, x := range f.Tests {
		if x.Effect != (x.Endpoint == "slow") {
			t.Errorf("%s %s above its floors: %v", x.Endpoint, x.Metric, x.Effect)
		}
		want := map[telemetry.Metric]float64{telemetry.Body: .2, telemetry.Tail: .5}[x.Metric]
		if x.Bound != want {
			t.Errorf("%s %s counts beyond %v, want %v", x.Endpoint, x.Metric, x.Bound, want)
		}
	}
	// The 0.8-quantile before: 78 of 100 within .2, 96 within .5.
	if got := f.Tests[0].BeforeValue; math.Abs(got-(.2+.3*2/18)) > 1e-12 {
		t.Errorf("0.8-quantile before = %v", got)
	}
}

func TestShortBound(t *testing.T) {
	bounds := []float64{0, .1, .2, .5}
	for _, c := range []struct {
		name  string
		cum   []float64
		level float64
		taken int
		want  int
	}{
		{"nearest", []float64{0, 40, 80, 95, 100}, .2, -1, 2},
		{"taken", []float64{0, 40, 80, 95, 100}, .2, 2, 1},
		{"beyond a factor 3", []float64{0, 1, 2, 99, 100}, .2, -1, -1},
		{"nothing beyond", []float64{0, 100, 100, 100, 100}, .05, -1, -1},
		{"not at 0 seconds", []float64{80, 99, 100, 100, 100}, .2, -1, -1},
		{"no requests", []float64{0, 0, 0, 0, 0}, .2, -1, -1},
	} {
		if got := shortBound(bounds, c.cum, c.level, c.taken); got != c.want {
			t.Errorf("%s: bucket %d, want %d", c.name, got, c.want)
		}
	}
}

func TestNeedTrials(t *testing.T) {
	few := newCountRow([]float64{0, 0, 0, 0}, []float64{3, 3, 3, 3}, []float64{0, 0}, []float64{2, 2})
	got := countTests([]countRow{few})[0]
	test := ShortTest{AfterTrials: 4, counts: &got}
	const level = 1e-4
	if got.attainable <= level {
		t.Fatalf("4 requests can come to p = %v", got.attainable)
	}
	need := test.NeedTrials(level)
	if !(need > 4 && need < 100) {
		t.Errorf("needs %v requests for p = %v", need, level)
	}
	if !math.IsNaN(test.NeedTrials(1e-300)) || !math.IsNaN(ShortTest{}.NeedTrials(level)) {
		t.Error("there is traffic enough for p = 1e-300, or for a gauge")
	}
}

// What can never come above its floors can never be confirmed, whatever its p.
func TestCappedTestsAttainNothing(t *testing.T) {
	constant := func(v float64) telemetry.Values { return slices.Repeat(telemetry.Values{v}, 30) }
	ratio := func(events, trials float64) ShortSeries {
		return ShortSeries{Endpoint: "e", First: -24, Events: constant(events), Trials: constant(trials)}
	}
	for _, c := range []struct {
		name   string
		signal rule.Signal
		series ShortSeries
		capped int // of the tests, in their order, as bits
		tests  int
	}{
		{"a gauge can rise", rule.Signal{Kind: rule.Gauge, Unit: "s"}, ShortSeries{First: -24, Events: constant(.1)}, 0, 1},
		// 1 ms is more than 99 times 1 µs.
		{"a gauge of microseconds cannot rise by 1 ms", rule.Signal{Kind: rule.Gauge, Unit: "s"}, ShortSeries{First: -24, Events: constant(1e-6)}, 1, 1},
		{"a share of 80 % can rise by 20 %", rule.Signal{Kind: rule.Ratio}, ratio(80, 100), 0, 1},
		{"a share of 90 % cannot", rule.Signal{Kind: rule.Ratio}, ratio(90, 100), 1, 1},
		{"retries of 90 % of requests can", rule.Signal{Kind: rule.Ratio}, ratio(150, 100), 0, 1},
		// 22 of 100 beyond .2, 4 beyond .5: both quantiles lie between bounds, the last of which is 1.
		{"a histogram can", rule.Signal{Kind: rule.Histogram}, shortHistogram("e", 24, .6, .22, .04, .002), 0, 2},
		// The 0.95-quantile lies beyond the last bound, the 0.8-quantile at .47: by 10 % it may rise.
		{"a quantile beyond the last bound cannot", rule.Signal{Kind: rule.Histogram}, shortHistogram("e", 24, .6, .22, .2, .12), 2, 2},
		// Both do: 21 of 100 requests are beyond 1.
		{"nor can two", rule.Signal{Kind: rule.Histogram}, shortHistogram("e", 24, .6, .24, .22, .21), 1, 1},
	} {
		g := Geometry{Before: 24, FirstLook: 2, Horizon: 6}
		f := CompareShort([]ShortSeries{c.series}, []rule.Signal{c.signal}, g, 6, .05)
		if len(f.Tests) != c.tests {
			t.Errorf("%s: %d tests, want %d", c.name, len(f.Tests), c.tests)
			continue
		}
		for i, x := range f.Tests {
			capped := c.capped>>i&1 == 1
			if x.Capped != capped || (x.Attainable == 1) != capped || capped && !math.IsNaN(x.NeedTrials(1e-3)) {
				t.Errorf("%s, %s: capped %v, attainable %v, needs %v requests, want capped %v", c.name, x.Metric, x.Capped, x.Attainable, x.NeedTrials(1e-3), capped)
			}
		}
	}
}

func TestNewShortSeries(t *testing.T) {
	grid := telemetry.Grid{Origin: time.Unix(0, 0), Step: time.Minute, First: -40, Len: 60}
	row := telemetry.CountRow{Endpoint: "a", Bounds: []float64{.1, math.Inf(1)}, Steps: [][]float64{make([]float64, 60), make([]float64, 60)}}
	for i := range row.Steps[1] {
		row.Steps[0][i], row.Steps[1][i] = float64(i), float64(2*i)
	}
	g := Geometry{Before: 40, Guard: 2, FirstLook: 4, Horizon: 20}
	got := NewShortSeries(0, rule.Signal{Kind: rule.Histogram}, g, 20, []*telemetry.Counts{{Grid: grid, Rows: []telemetry.CountRow{row}}}, nil)
	if len(got) != 1 || got[0].First != -31 || len(got[0].Bounds) != 1 || len(got[0].Buckets) != 2 {
		t.Fatalf("got %+v", got)
	}
	// Step -31 is element 9; the post window [2, 13) ends before step 13, element 53.
	if v := got[0].Buckets[1]; v[0] != 18 || len(v) != 44 || v[43] != 104 {
		t.Errorf("%d steps from %v to %v, want 44 from 18 to 104", len(v), v[0], v[len(v)-1])
	}
	cut := got[0].Before(3)
	if v := cut.Buckets[0]; math.IsNaN(v[33]) || !math.IsNaN(v[34]) {
		t.Errorf("steps 2 and 3 = %v, %v, want the first of them only", v[33], v[34])
	}
	if v := got[0].Buckets[0]; math.IsNaN(v[34]) {
		t.Error("Before changed the series that it was called on")
	}
}

func TestAdjusted(t *testing.T) {
	f := ShortFamily{Tests: []ShortTest{{}, {}, {}, {Endpoint: "a"}}}
	golden(t, "adjusted", f.Adjusted(0.01, nil), 0.04)
	golden(t, "adjusted beyond 1", f.Adjusted(0.3, nil), 1)
	golden(t, "of a alone", f.Adjusted(0.3, func(t ShortTest) bool { return t.Endpoint == "a" }), 0.3)
}
