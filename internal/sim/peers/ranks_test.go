package peers

import (
	"math"
	"testing"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.IsNaN(got) != math.IsNaN(want) || math.Abs(got-want) > 1e-12*max(1, math.Abs(want)) {
		t.Errorf("%s = %.16g, want %.16g", what, got, want)
	}
}

// Expected numbers: scipy 1.10.1, mannwhitneyu with method="asymptotic" and "exact",
// ttest_ind with equal_var=False.
func TestMannWhitney(t *testing.T) {
	x := []float64{1.1, 2.2, 2.2, 3.3, 4.4, 5, 5}
	y := []float64{2.2, 3.3, 5, 6.1, 7.2, 8.3}
	r := MannWhitney(x, y)
	near(t, "U with ties", r.U, 9.5)
	near(t, "two-sided p with ties", r.Two, .1115593054507822)
	near(t, "less with ties", r.Less, .0557796527253911)
	near(t, "greater with ties", r.Greater, .9587074803213799)

	x, y = nil, nil
	for i := range 30 {
		x = append(x, float64(i))
	}
	for i := range 25 {
		y = append(y, float64(i)+6.5)
	}
	r = MannWhitney(x, y)
	near(t, "U of shifted ranges", r.U, 276)
	near(t, "two-sided p of shifted ranges", r.Two, .0959219570967795)

	r = MannWhitney([]float64{3, 3}, []float64{3, 3, 3})
	near(t, "p of tied values", r.Two, math.NaN())
}

func TestMannWhitneyExact(t *testing.T) {
	r := MannWhitneyExact([]float64{1, 4, 6, 8}, []float64{2, 3, 5, 7, 9})
	near(t, "U", r.U, 9)
	near(t, "two-sided p", r.Two, .9047619047619047)

	// By hand: of the 10 ways to deal {1, 2, 2, 3, 3} as 2 and 3, x = {3, 3} is one of 1 with
	// the largest sum; x = {2, 3} sums to 2.5 + 4.5 = 7 midranks, which 4 ways reach and 1 exceeds.
	r = MannWhitneyExact([]float64{3, 3}, []float64{1, 2, 2})
	near(t, "p of the largest sum with ties", r.Greater, .1)
	r = MannWhitneyExact([]float64{2, 3}, []float64{1, 2, 3})
	near(t, "p of the next sum with ties", r.Greater, .5)

	// Five against five, as PipeCD compares: complete separation is 1 of 252 ways.
	r = MannWhitneyExact([]float64{6, 7, 8, 9, 10}, []float64{1, 2, 3, 4, 5})
	near(t, "p of complete separation", r.Greater, 1.0/252)
	near(t, "p the other way", r.Less, 1)
}

func TestWelch(t *testing.T) {
	r := Welch([]float64{10.1, 9.8, 10.4, 10, 9.9}, []float64{11, 10.7, 11.4, 12.1, 10.9, 11.8})
	near(t, "t", r.T, -5.17425852354516)
	near(t, "df", r.DF, 6.9446782000132306)
	near(t, "two-sided p", r.Two, .0013210986884113392)
	near(t, "one-sided p", r.Greater(), 1-.0013210986884113392/2)
	near(t, "t of constants", Welch([]float64{1, 1}, []float64{1, 1}).T, math.NaN())
}

func TestTwoProportion(t *testing.T) {
	z := TwoProportion(165, 10500, 120, 10000)
	near(t, "z", z, 2.2703226669812775)
	near(t, "one-sided p", normalTail(z), .011594006371041451)
	near(t, "z of no events", TwoProportion(0, 10, 0, 10), math.NaN())
}
