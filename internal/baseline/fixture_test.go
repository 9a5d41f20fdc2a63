package baseline

import (
	"math"
	"testing"

	"github.com/driftwatch/driftwatch/internal/stat"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// hourly is the geometry of research/statistics.md section 3: minutes.
var hourly = Geometry{Before: 60, Guard: 3, FirstLook: 5, Horizon: 60, History: 10080}

// fixtureAt is the minute of the fixture's upgrade.
const fixtureAt = 7*1440 + 600

// fixture is the end-to-end fixture of research/statistics.md section 7 (golden2.py): eight
// days of minutes from a linear congruential generator, events times 1.5 from the upgrade on.
func fixture() telemetry.Track {
	s := int64(12345)
	uniform := func() float64 {
		s = (1103515245*s + 12345) % (1 << 31)
		return float64(s) / (1 << 31)
	}
	t := telemetry.Track{Metric: telemetry.Tail, Bound: 1, First: -fixtureAt}
	for m := range 8 * 1440 {
		u1, u2 := uniform(), uniform()
		n := math.Floor(1200 + 400*math.Sin(2*math.Pi*float64(m)/1440) + 100*u1)
		k := math.Floor(n*0.01*(0.5+u2)*(1+0.3*math.Sin(2*math.Pi*float64(m)/97)) + 0.5)
		if m >= fixtureAt {
			k = math.Floor(1.5*k + 0.5)
		}
		t.Events, t.Trials = append(t.Events, k), append(t.Trials, n)
	}
	return t
}

// wantNear fails unless got is want to 1e-9 relative.
func wantNear(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !near(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-9*math.Abs(want) }

func TestNearCanFail(t *testing.T) {
	if near(1, 1+1e-8) || near(math.NaN(), 1) || near(0, 1e-300) {
		t.Error("near accepts different numbers")
	}
}

// The numbers are those of research/statistics.md section 7 and of the run it is from,
// sim/results/golden_fixture.txt.
func TestFixture(t *testing.T) {
	track := fixture()
	var n, k float64
	for i := range fixtureAt {
		n, k = n+track.Trials[i], k+track.Events[i]
	}
	wantNear(t, "sum n", n, 13516992)
	wantNear(t, "sum K", k, 135069)
	for i, want := range [][2]float64{{1414, 38}, {1469, 36}, {1462, 30}} {
		wantNear(t, "n after the upgrade", track.Trials[fixtureAt+i], want[0])
		wantNear(t, "K after the upgrade", track.Events[fixtureAt+i], want[1])
	}

	at := placebos(newLedger(track), hourly, hourly.Horizon, nil)
	if len(at) != 499 || at[0]+fixtureAt != 600 || at[1]+fixtureAt != 620 || at[498]+fixtureAt != 10560 {
		t.Errorf("%d placebos, first %v, last %d; want 499, [600 620], 10560", len(at), at[:2], at[len(at)-1])
	}

	c := Calibrate(track, hourly, nil)
	wantNear(t, "events per step", c.EventsPerStep, 12.441666666666666)
	if c.Block != 1 || c.Class != 3 || c.Placebos != 499 || len(c.Looks) != 56 || len(c.Maxima) != 499 || len(c.Minima) != 499 {
		t.Errorf("block %d, class %d, %d placebos, %d looks, %d maxima, %d minima; want 1, 3, 499, 56, 499, 499",
			c.Block, c.Class, c.Placebos, len(c.Looks), len(c.Maxima), len(c.Minima))
	}
	mean := 0.0
	for _, m := range c.Maxima {
		mean += m / 499
	}
	wantNear(t, "mean placebo maximum", mean, 0.5353421974197263)
	wantNear(t, "largest placebo maximum", c.Maxima[498], 2.2471294442752376)
	wantNear(t, "0.99 point of placebo maxima", stat.Quantile(c.Maxima, 0.99), 1.7750830464091594)

	r := Compare(track, &c, hourly, nil, 0.99, 60)
	if len(r.Looks) != 56 {
		t.Fatalf("%d looks, want 56", len(r.Looks))
	}
	for _, want := range []struct {
		t                               int
		d, load, slope, adj, tau2, s, z float64
		max, p                          float64
	}{
		{
			5, 0.36776110772763904, -0.022449922439221837, -0.12653701479622637, 0.3649203615597731, 0.08954240289781294,
			0.3593518731987235, 1.0154959213416155, 0.5456106914815723, 0.544,
		},
		{
			10, 0.7202307061431377, -0.02831504189162004, -0.3324946418167352, 0.7108161064313576, 0.0902365522055256,
			0.3215920669706016, 2.210303609561168, 1.4122582496197535, 0.088,
		},
		{
			30, 0.7655840103767115, -0.04735978651879513, -0.12314132309996756, 0.7597520636030551, 0.08783148650070716,
			0.3066142908453147, 2.4778755794730585, 2.245033670750342, 0.004,
		},
		{
			60, 0.5419286745817802, -0.06222287345564492, -0.059974384658075613, 0.5381968960346206, 0.04192382710126589,
			0.21337766735168914, 2.522273782042824, 2.522273782042824, 0.002,
		},
	} {
		look, cal := r.Looks[want.t-5], c.Looks[want.t-5]
		if look.T != want.t || !look.Valid {
			t.Errorf("look %d is at %d, valid %v", want.t, look.T, look.Valid)
		}
		wantNear(t, "D", look.D, want.d)
		wantNear(t, "L", look.Load, want.load)
		wantNear(t, "slope", cal.Slope, want.slope)
		wantNear(t, "Dadj", look.Adj, want.adj)
		wantNear(t, "tau2", cal.Tau2, want.tau2)
		wantNear(t, "s", look.S, want.s)
		wantNear(t, "z", look.Z, want.z)
		wantNear(t, "maximum", look.Max, want.max)
		wantNear(t, "own rank", stat.RankP(c.Maxima, look.Max), want.p)
	}
}

func BenchmarkCalibrate(b *testing.B) {
	track := fixture()
	b.ReportAllocs()
	for b.Loop() {
		if c := Calibrate(track, hourly, nil); c.Placebos != 499 {
			b.Fatal(c.Placebos)
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	track := fixture()
	c := Calibrate(track, hourly, nil)
	track = track.Slice(hourly.BaselineStart(), hourly.Horizon)
	b.ReportAllocs()
	for b.Loop() {
		if r := Compare(track, &c, hourly, nil, 0.99, 60); len(r.Looks) != 56 {
			b.Fatal(len(r.Looks))
		}
	}
}
