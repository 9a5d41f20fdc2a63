package short

import (
	"math"
	"math/rand/v2"
	"testing"
)

func testDraw(steps int) draw {
	return draw{rand.New(rand.NewPCG(5, 5)), Shape{Endpoints: 4, Before: steps - 2, After: 2}}
}

// moments are the mean, variance and lag-1 autocorrelation of x.
func moments(x []float64) (m, v, lag float64) {
	m = mean(x)
	for i, y := range x {
		v += (y - m) * (y - m)
		if i > 0 {
			lag += (y - m) * (x[i-1] - m)
		}
	}
	return m, v / float64(len(x)), lag / v
}

// The variates have the moments that textbooks give them.
func TestVariates(t *testing.T) {
	const n = 200000
	d := testDraw(n)
	near := func(name string, got, want, within float64) {
		t.Helper()
		if math.Abs(got-want) > within {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	m, v, lag := moments(d.noise(.6, d.rng.NormFloat64))
	near("mean of noise", m, 0, .02)
	near("variance of noise", v, 1, .03)
	near("autocorrelation of noise", lag, .6, .01)
	m, v, _ = moments(d.noise(0, d.student))
	near("mean of t", m, 0, .02)
	near("variance of t", v, 1, .3) // the fourth moment does not exist

	sample := make([]float64, n)
	for i := range sample {
		sample[i] = float64(d.poisson(7.5))
	}
	m, v, _ = moments(sample)
	near("mean of Poisson", m, 7.5, .05)
	near("variance of Poisson", v, 7.5, .15)
	for i := range sample {
		sample[i] = d.gamma(.4)
	}
	m, v, _ = moments(sample)
	near("mean of gamma", m, .4, .01)
	near("variance of gamma", v, .4, .02)
	for i := range sample[:n/10] {
		sample[i] = float64(d.betaBinomial(100, .05, .01))
	}
	m, v, _ = moments(sample[:n/10])
	near("mean of beta-binomial", m, 5, .07)
	near("variance of beta-binomial", v, 100*.05*.95*(1+99*.01), .4)

	steps := 0
	for _, h := range d.spikes(1. / 25) {
		if h > 0 {
			steps++
		}
	}
	// Lengths are 1/.6 + .3 on average; some overlap.
	near("share of steps in a spike", float64(steps)/n, (1/.6+.3)/25, .01)
}

func TestFaultsAreWhereTheyBelong(t *testing.T) {
	shape := Shape{32, 30, 8}
	one := newCase(rand.New(rand.NewPCG(3, 3)), AR3, Shape{8, 24, 3}, Fault{Endpoints: 2, Factor: 3})
	same := newCase(rand.New(rand.NewPCG(3, 3)), AR3, Shape{8, 24, 3}, Fault{})
	for e := range 8 {
		for i, v := range one.Series[e].Events {
			want := same.Series[e].Events[i]
			if e < 2 && i >= 24 {
				want *= 3
			}
			if math.Abs(v-want) > 1e-9 {
				t.Fatalf("endpoint %d, step %d: %v, want %v", e, i, v, want)
			}
		}
	}
	for i, v := range []float64{mixed(0, 2), mixed(.5, 2), mixed(1, 2)} {
		if want := []float64{0, math.Log(4.5) / 3, math.Log(2)}[i]; math.Abs(v-want) > 1e-12 { // (1 + 2^3)/2 = 4.5
			t.Errorf("half a step of x2, and none, and all: %v, want %v", v, want)
		}
	}
	early := newCase(rand.New(rand.NewPCG(3, 3)), AR3, Shape{8, 24, 3}, Fault{1, 1000, true})
	if v := early.Series[0].Events; !(v[22] < 10 && v[23] > 10 && v[24] > 10) {
		t.Errorf("x1000 that began within step -1: %v, %v, %v in steps -2, -1 and 0", v[22], v[23], v[24])
	}
	slow := newCase(rand.New(rand.NewPCG(3, 3)), Requests, shape, Fault{Endpoints: 1, Factor: 3})
	calm := newCase(rand.New(rand.NewPCG(3, 3)), Requests, shape, Fault{})
	changed := map[int]bool{}
	for e := range slow.Series {
		for b, v := range slow.Series[e].Buckets {
			for i := range v {
				if v[i] == calm.Series[e].Buckets[b][i] {
					continue
				}
				if changed[e] = true; i < 30 {
					t.Fatalf("endpoint %d differs in step %d before the upgrade", e, i-30)
				}
			}
		}
	}
	if len(changed) != 1 {
		t.Errorf("%d endpoints became slower, want 1", len(changed))
	}
}

// The same seed is the same table, whoever works on it.
func TestCalibrateRepeats(t *testing.T) {
	a, b := Plan{Seed: 9, Cases: 2, Power: 2, Workers: 1}, Plan{Seed: 9, Cases: 2, Power: 2, Workers: 3}
	if x, y := String(Calibrate(a)), String(Calibrate(b)); x != y {
		t.Errorf("one worker:\n%s\nthree:\n%s", x, y)
	}
}
