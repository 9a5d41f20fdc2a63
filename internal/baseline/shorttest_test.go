package baseline

import (
	"math"
	"testing"
)

// The golden values are those of an independent implementation (numpy 1.24, scipy 1.10).

func golden(t *testing.T, name string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) || want != 0 && math.Abs(got/want-1) > 1e-9 {
		t.Errorf("%s = %.17g, want %.17g", name, got, want)
	}
}

var (
	goldenGaugePre = [][]float64{
		{.1, .11, .095, .105, .12, .098, .102, .108, .099, .115, .104, .101},
		{.2, .26, .21, .19, .23, .22, .205, .245, .215, .225, .198, .24},
		{.05, .051, .049, .052, .05, .048, .053, .05, .051, .049, .05, .052},
		{1, 1.5, .9, 1.2, 1.1, 1.4, .95, 1.3, 1.05, 1.15, 1.25, .98},
	}
	goldenGaugePost = [][]float64{{.106, .103, .111}, {.33, .36, .31}, {.051, .05, .052}, {1.1, 1.45, 1}}

	goldenEvents     = [][]float64{{0, 1, 0, 0, 2, 0, 0, 1, 0, 0}, {5, 3, 8, 4, 6, 2, 7, 5, 4, 6}, {1, 0, 2, 1, 0, 0, 1, 3, 0, 2}}
	goldenEventsPost = [][]float64{{9, 7, 12}, {5, 7, 4}, {2, 1, 0}}
	goldenTrials     = [][]float64{
		{100, 120, 90, 110, 105, 95, 100, 115, 98, 102},
		{200, 190, 210, 205, 195, 200, 198, 202, 207, 193},
		{50, 40, 60, 55, 45, 50, 48, 52, 57, 43},
	}
	goldenTrialsPost = [][]float64{{104, 99, 110}, {201, 199, 204}, {51, 49, 54}}
)

func TestGaugeTests(t *testing.T) {
	got := gaugeTests(goldenGaugePre, goldenGaugePost)
	lags := []float64{-.4305825098431066, -.46432627752540234, -.49821570680676563, -.732212381001325}
	ts := []float64{-.21003647861170538, 3.7040551557085117, -.1917014684291377, -.8092753948484211}
	for i, g := range got {
		golden(t, "lag", g.lag, lags[i])
		golden(t, "rho", g.rho, 0)
		golden(t, "df", g.own, 11)
		golden(t, "d0", g.prior, 1.818466524987618)
		golden(t, "s0", g.priorS2, .0031543333451390316)
		golden(t, "V", g.v, .08333333333333333)
		golden(t, "exponent", g.exponent, 1.6666666666666667)
		golden(t, "t", g.t, ts[i])
		if i != 1 {
			golden(t, "p", g.p, 1)
		}
	}
	golden(t, "b: s2", got[1].s2, .008964762176263748)
	golden(t, "b: S", got[1].shrunken, .00814047712589315)
	golden(t, "b: p", got[1].p, 1.6586737010166933e-05)
	golden(t, "b: D", got[1].shift, .41852715864922274)
	golden(t, "c: S", got[2].shrunken, .0015771666725695158)
}

func TestGaugeTestsWithAutocorrelationAndGaps(t *testing.T) {
	missing := math.NaN()
	got := gaugeTests([][]float64{
		{.1, .11, .12, .13, .12, .11, .1, .09, .1, .11},
		{.3, .31, .33, .36, .35, .33, .3, .29, .28, missing},
		{1, 1.1, 1, 1.2, 1.3, 1.2, 1.1, 1, .9, 1},
	}, [][]float64{{.15, .16}, {.31, .3}, {1.5, 2}})
	df := []float64{1.7200967569339822, 1.5289748950524287, 1.7200967569339822}
	s := []float64{.02054284947491837, .02028578286013356, .02059038014446687}
	ts := []float64{1.9187382512404565, -.29880013008259465, 1.9727773599745424}
	ps := []float64{.01789555451903081, 1, .015770824894265394}
	for i, g := range got {
		golden(t, "rho", g.rho, .6790893224314626)
		golden(t, "df", g.own, df[i])
		golden(t, "d0", g.prior, 20)
		golden(t, "s0", g.priorS2, .021273255445822915)
		golden(t, "S", g.shrunken, s[i])
		golden(t, "t", g.t, ts[i])
		golden(t, "p", g.p, ps[i])
	}
}

func TestGaugeTestsTakeWhatIsNotPositiveAsMissing(t *testing.T) {
	pre, post := [][]float64{{1, 1, 2, 2, 0, -1, math.NaN()}, {1, 2, 1, 0, 0}}, [][]float64{{0, 3, 3}, {3, 3, 3}}
	got := gaugeTests(pre, post)
	if !got[0].usable || got[1].usable {
		t.Fatalf("usable = %v, %v, want the one with four levels before only", got[0].usable, got[1].usable)
	}
	if got[0].prior != 0 || got[0].shrunken != got[0].s2 {
		t.Errorf("a single endpoint has prior %v and scale %v, want its own scale %v", got[0].prior, got[0].shrunken, got[0].s2)
	}
	golden(t, "s2 of 0 0 ln2 ln2", got[0].s2, math.Ln2*math.Ln2/3)
}

func goldenRows() []countRow {
	rows := make([]countRow, len(goldenEvents))
	for i := range rows {
		rows[i] = newCountRow(goldenEvents[i], goldenTrials[i], goldenEventsPost[i], goldenTrialsPost[i])
	}
	return rows
}

func TestCountTests(t *testing.T) {
	got := countTests(goldenRows())
	own := []float64{1.1448013371206873, .6603067716456372, 1.0871995298905601}
	phi := []float64{1.0868808022724123, 1, 1.052319717934336}
	for i, c := range got {
		golden(t, "phi_e", c.phiOwn, own[i])
		for _, p := range c.phi {
			golden(t, "phi", p, phi[i])
		}
		golden(t, "df", c.df, 15)
		if i > 0 {
			golden(t, "p", c.p, 1)
		}
	}
	zs := []float64{5.036441117432317, 4.241058250441265, 6.067946097008178}
	ps := []float64{1.1006191577079035e-04, 5.048362018394735e-04, 1.6862589216583817e-05}
	for j := range zs {
		golden(t, "z", got[0].zs[j], zs[j])
		golden(t, "p_g", got[0].ps[j], ps[j])
	}
	golden(t, "p", got[0].p, 6.582747092864258e-07)
	if a := got[0].attainable; !(a < got[0].p) {
		t.Errorf("attainable %v is not below p %v", a, got[0].p)
	}
}

func TestDeviance(t *testing.T) {
	for _, c := range []struct{ k0, n0, k1, n1, want float64 }{
		{0, 160, 5, 40, 3.443710859148824},
		{12, 1000, 30, 800, 3.415870528344528},
		{0, 160, 0, 40, 0},
		{5, 40, 5, 160, 0},
	} {
		golden(t, "z", countRow{k0: c.k0, n0: c.n0}.deviance(c.k1, c.n1, 1), c.want)
	}
	// Of so many trials that an event is rare, shares and rates are the same.
	share, rate := countRow{k0: 20, n0: 1e7}, countRow{k0: 20, n0: 1e7, rate: true}
	if a, b := share.deviance(30, 5e6, 1), rate.deviance(30, 5e6, 1); math.Abs(a/b-1) > 1e-5 {
		t.Errorf("z = %v of a share, %v of a rate", a, b)
	}
}

func TestMoreEventsThanTrials(t *testing.T) {
	steady := newCountRow([]float64{150, 160, 155, 145, 150, 152}, []float64{100, 100, 100, 100, 100, 100}, []float64{151, 149, 153}, []float64{100, 100, 100})
	risen := newCountRow([]float64{150, 160, 155, 145, 150, 152}, []float64{100, 100, 100, 100, 100, 100}, []float64{300, 310, 290}, []float64{100, 100, 100})
	got := countTests([]countRow{steady, risen})
	if !(got[0].p > 0.05) || !(got[1].p < 1e-6) {
		t.Errorf("p = %v for a steady rate, %v for one that doubled", got[0].p, got[1].p)
	}
}

func TestTrigammaInverse(t *testing.T) {
	golden(t, "psi'^-1(.1)", trigammaInverse(.1), 10.49168182107842)
	golden(t, "psi'^-1(1)", trigammaInverse(1), 1.426255120215079)
	golden(t, "psi'^-1(10)", trigammaInverse(10), .3350810443780356)
	for _, y := range []float64{1e-6, 1e-3, 50, 1e4} {
		golden(t, "psi'(psi'^-1(y))", trigamma(trigammaInverse(y)), y)
	}
}

func TestCountGroups(t *testing.T) {
	row := newCountRow([]float64{1}, []float64{10}, []float64{1, 2, 4, 8, 16, 32, 64, 128}, []float64{1, 2, 4, 8, 16, 32, 64, 128})
	for g, want := range []float64{1 + 2 + 4, 8 + 16 + 32, 64 + 128} {
		golden(t, "group", row.trials[g], want)
	}
}
