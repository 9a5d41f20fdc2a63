package compare

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/sim/peers"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-12) {
		t.Errorf("%s = %.16g, want %.16g", what, got, want)
	}
}

// Expected numbers: statsmodels' Wilson intervals, from research/statistics.md section 7.
func TestWilson(t *testing.T) {
	low, high := wilson(0.012, 1000)
	near(t, "low of 12 in 1000", low, 0.006877647806403522)
	near(t, "high of 12 in 1000", high, 0.02085726847549828)
	low, high = wilson(0, 200)
	near(t, "low of 0 in 200", low, 0)
	near(t, "high of 0 in 200", high, 0.018845326377266575)
}

func TestSharesKnowThatServicesCluster(t *testing.T) {
	// By hand: all four upgrades of a service alike are worth one, up to the 4/3 of m/(m-1).
	clustered := tally{[]float64{4, 0, 4, 0}, []float64{4, 4, 4, 4}}
	low, high := wilson(0.5, 3)
	s := clustered.share()
	near(t, "value", s.Value, 0.5)
	near(t, "low", s.Low, low)
	near(t, "high", s.High, high)

	// Spread evenly they are worth no more than independent ones.
	even := tally{[]float64{2, 2, 2, 2}, []float64{4, 4, 4, 4}}
	low, _ = wilson(0.5, 16)
	near(t, "low, evenly spread", even.share().Low, low)

	// Nothing found says little about how services differ: 4 services, not 16 upgrades.
	none := tally{make([]float64, 4), []float64{4, 4, 4, 4}}
	_, high = wilson(0, 4)
	near(t, "high of nothing", none.share().High, high)
}

func TestDifferencesArePairedByService(t *testing.T) {
	a := tally{[]float64{4, 2, 3, 3}, []float64{4, 4, 4, 4}}
	b := tally{[]float64{2, 0, 1, 1}, []float64{4, 4, 4, 4}}
	d := a.minus(b)
	near(t, "value", d.Value, 0.5) // by hand: 2 of 4 in every service, so nothing is left to vary
	near(t, "low", d.Low, 0.5)

	d = b.minus(tally{[]float64{0, 0, 2, 2}, []float64{4, 4, 4, 4}})
	// By hand: differences 2, 0, -1, -1, mean 0; sum of squares 6, times 4/3, by 16².
	near(t, "value of no difference", d.Value, 0)
	near(t, "high of no difference", d.High, z975*math.Sqrt(6*4.0/3/256))
}

// synthetic is results of two services, each upgraded once, with one affected endpoint per
// scenario: judge 1 gives its scores by scenario.
func synthetic(scores map[string][2]float64) reduction {
	all, _, _, _, _ := scenarios()
	r := reduction{world: sim.World{Behind: 1}, all: all}
	for s := range 2 {
		upgrade := make([]heard, len(all))
		for i, x := range all {
			score := math.Inf(-1)
			if v, ok := scores[x.name]; ok {
				score = v[s]
			}
			own := make([]peers.Hearing, signals)
			other := []peers.Hearing{{Score: score}, {Score: score}}
			upgrade[i] = heard{own, other}
		}
		r.results = append(r.results, serviceResult{upgrade})
	}
	return r
}

func TestMatchTurnsTheLimitJustFarEnough(t *testing.T) {
	_, effects, _, healthy, _ := scenarios()
	effects = effects[:2] // w25 and w50
	r := synthetic(map[string][2]float64{"none": {1, 4}, "w25": {2, 5}, "w50": {3, 6}})
	for _, tt := range []struct {
		power, limit float64
		ok           bool
		alarms       float64
	}{
		{0.25, 6, true, 0}, {0.5, 5, true, 0}, {0.6, 3, true, 0.5}, {0.75, 3, true, 0.5}, {1, 2, true, 0.5}, {1.1, 0, false, 0},
	} {
		limit, ok := r.match(effects, 1, tt.power)
		if limit != tt.limit || ok != tt.ok {
			t.Errorf("power %v: limit %v, %v, want %v, %v", tt.power, limit, ok, tt.limit, tt.ok)
		}
		if !ok {
			continue
		}
		strict := func(h peers.Hearing) bool { return h.Score >= limit }
		near(t, "false alarms", r.upgrades(healthy, 1, strict).value(), tt.alarms)
		if p := r.power(effects, 1, strict); p < tt.power {
			t.Errorf("power at limit %v is %v, below %v", limit, p, tt.power)
		}
	}
	// A judge that never says anything reaches no power.
	if _, ok := synthetic(nil).match(effects, 1, 0.1); ok {
		t.Error("a silent judge reached a power of 0.1")
	}
}

func TestQuietTurnsTheLimitUntilNoMoreAlarms(t *testing.T) {
	_, _, _, healthy, _ := scenarios()
	r := synthetic(map[string][2]float64{"none": {1, 4}})
	for allowed, want := range []float64{4, 1, math.Inf(-1)} {
		got := r.quiet(healthy, 1, allowed)
		if got != want {
			t.Errorf("%d alarms allowed: limit beyond %v, want %v", allowed, got, want)
		}
		if n := r.upgrades(healthy, 1, func(h peers.Hearing) bool { return h.Score > got }); sum(n.hits) > float64(allowed) {
			t.Errorf("%d alarms allowed: %v", allowed, sum(n.hits))
		}
	}
}

func TestOnlyAMeasuredAdvantagePasses(t *testing.T) {
	for _, tt := range []struct {
		services int
		low      float64
		want     bool
	}{{10, 0.001, true}, {9, 0.001, false}, {10, 0, false}, {10, -0.1, false}, {10, math.NaN(), false}} {
		table := Table{Plan: Plan{Services: tt.services}}
		if got := table.better(&Row{Excess: Difference{Low: tt.low}}); got != tt.want {
			t.Errorf("%d services, interval from %v: better is %v, want %v", tt.services, tt.low, got, tt.want)
		}
	}
}

func TestWeaknessesAreTold(t *testing.T) {
	table := Table{Effects: []string{"w25", "t50"}, Rows: []Row{
		{Name: "driftwatch", Quiet: []float64{0.5, 0.5}},
		{Name: "one", Quiet: []float64{0.505, 0.75}},
		{Name: "two", Quiet: []float64{0.1, 0.6}},
	}}
	if got, want := table.weaknesses(), "Some judge finds more than driftwatch then of: t50 (0.50; one 0.75, two 0.60)."; got != want {
		t.Errorf("weaknesses = %q, want %q", got, want)
	}
	table.Rows = table.Rows[:1]
	if got := table.weaknesses(); !strings.HasPrefix(got, "No judge") {
		t.Errorf("weaknesses of nobody = %q", got)
	}
}

func TestSplice(t *testing.T) {
	first, err := splice("", "one\n")
	if err != nil || !strings.HasPrefix(first, "# Statistics\n\n## ") {
		t.Fatalf("splice into nothing: %q, %v", first, err)
	}
	second, err := splice("before\n"+first+"after\n", "two\n")
	if err != nil || strings.Contains(second, "one") || !strings.HasPrefix(second, "before\n") || !strings.HasSuffix(second, "after\n") ||
		!strings.Contains(second, beginMark+"\ntwo\n"+endMark+"\n") {
		t.Errorf("splice again: %q, %v", second, err)
	}
	for _, page := range []string{beginMark, endMark, endMark + beginMark} {
		if _, err := splice(page, "x"); err == nil {
			t.Errorf("splice into %q: no error", page)
		}
	}
}

// One service through the whole comparison: the same numbers twice, alarms where they belong,
// and a table that says all of it.
func TestOneService(t *testing.T) {
	world := sim.NewWorld(62, 50)
	judges := append(peers.LineUp(), peers.NegativeControls()...)
	got := judgeService(world, 0, judges)
	again := judgeService(world, 0, judges[:2])
	all, _, _, healthy, _ := scenarios()
	if len(got) != 4 || len(got[0]) != len(all) || len(got[0][0]) != len(judges)+1 || len(got[0][0][0]) != 20 {
		t.Fatalf("shape %d, %d, %d, %d", len(got), len(got[0]), len(got[0][0]), len(got[0][0][0]))
	}
	for u := range got {
		for i := range all {
			for j := range again[u][i] {
				if !reflect.DeepEqual(got[u][i][j], again[u][i][j]) {
					t.Fatalf("upgrade %d, %s, judge %d: differs when judged again with fewer judges", u, all[i].name, j)
				}
			}
		}
	}

	table := newTable(Plan{Run: 62, Services: 1, Rate: 50}, world, judges, []serviceResult{got})
	own := table.Rows[0]
	if own.Name != "driftwatch" || table.Rows[1].Name != "Kayenta, once" || len(table.Rows) != len(judges)+1 {
		t.Fatalf("rows begin with %s, %s; %d of them", own.Name, table.Rows[1].Name, len(table.Rows))
	}
	last := len(table.Effects) - 1
	if p := own.Effects[last]; table.Effects[last] != "r5" || p.Power.Value < 0.9 || p.Delay > 15 {
		t.Errorf("driftwatch found %v of fivefold retries after %v minutes", p.Power.Value, p.Delay)
	}
	if r := table.Rows[1]; r.Effects[2].Power.Value < 0.9 {
		t.Errorf("Kayenta found %v of latencies that doubled", r.Effects[2].Power.Value)
	}
	if r := (reduction{world, []serviceResult{got}, all}).upgrades(healthy, 0, func(h peers.Hearing) bool { return h.Alarm > 0 }); r.trials[0] != 4 {
		t.Errorf("%v healthy upgrades, want 4", r.trials[0])
	}
	var text strings.Builder
	if err := table.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"run (seed) 62", "driftwatch ", "Otava", " passed, ", "w100", "early r2"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, text.String())
		}
	}
	if md := table.Markdown(); strings.Count(md, "\n| **driftwatch** |") != 2 {
		t.Errorf("the page has not driftwatch in the first row of both tables:\n%s", md)
	}
}
