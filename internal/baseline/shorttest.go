package baseline

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// A gaugeTest is the consensus test of one gauge (docs/statistics.md, "Short history: gauges").
type gaugeTest struct {
	usable   bool
	lag      float64 // lag-1 autocorrelation of the log levels before
	rho      float64 // pooled over the endpoints
	s2       float64 // variance of the log levels before
	own      float64 // degrees of freedom of s2
	prior    float64 // those of the prior, d0
	priorS2  float64 // variance of the prior, s0
	shrunken float64 // S
	v        float64 // variance of the mean before, in units of S
	sd       float64 // sqrt(S (1 + V)): of one step after, against the mean before
	df       float64 // own + prior
	exponent float64 // independent steps that the post window is worth
	t, p     float64 // of the least step after
	shift    float64 // mean log level after, less that before
	median   float64 // level before
}

const (
	minGaugeBefore = 4    // values
	minGaugeSD     = 0.02 // of log levels: below any latency's repeatability
	maxRho         = 0.8
	gaugeShare     = 0.4 // correlation that the steps after are taken to have at the least
	// maxPrior and halfPrior keep a baseline of 6 to 8 points that happens to look constant
	// from making its endpoint sure of everything.
	maxPrior  = 20
	halfPrior = 0.5
)

// gaugeTests tests the levels of all endpoints of one signal after an upgrade, post, against
// those before it, pre; shapes (endpoints, steps). Missing, zero and negative levels are
// missing. Scales are shrunken over the endpoints (Smyth 2004, "moderated t"), autocorrelation
// is pooled over them.
func gaugeTests(pre, post [][]float64) []gaugeTest {
	out := make([]gaugeTest, len(pre))
	logs, after := make([][]float64, len(pre)), make([][]float64, len(pre))
	var usable []int
	var lags, weights, values float64
	for e := range pre {
		logs[e], after[e] = logsOf(pre[e]), present(logsOf(post[e]))
		own := present(logs[e])
		if len(own) < minGaugeBefore || len(after[e]) < max(1, min(2, len(post[e]))) {
			continue
		}
		t := &out[e]
		t.usable = true
		usable = append(usable, e)
		center := mean(own)
		var square, product float64
		for i, y := range logs[e] {
			if math.IsNaN(y) {
				continue
			}
			square += (y - center) * (y - center)
			if i+1 < len(logs[e]) && !math.IsNaN(logs[e][i+1]) {
				product += (y - center) * (logs[e][i+1] - center)
			}
		}
		if square > 0 {
			t.lag = product / square
		}
		n := float64(len(own))
		t.s2 = max(minGaugeSD*minGaugeSD, square/(n-1))
		lags += (n - 1) * t.lag
		weights += n - 1
		values += n
		slices.Sort(own)
		t.median = math.Exp((own[(len(own)-1)/2] + own[len(own)/2]) / 2)
		t.shift = mean(after[e]) - center
	}
	if len(usable) == 0 {
		return out
	}
	rho := min(max(lags/weights+float64(len(usable))/values, 0), maxRho)
	for _, e := range usable {
		t := &out[e]
		t.rho = rho
		t.own = max(1, float64(len(present(logs[e]))-1)*(1-rho)/(1+rho))
	}
	shrink(out, usable)
	for _, e := range usable {
		t := &out[e]
		n, m := float64(len(present(logs[e]))), float64(len(after[e]))
		t.v = n
		for j := 1.0; j < n; j++ {
			t.v += 2 * (n - j) * math.Pow(rho, j)
		}
		t.v /= n * n
		t.sd = math.Sqrt(t.shrunken * (1 + t.v))
		t.df = t.own + t.prior
		t.exponent = m / (1 + (m-1)*max(rho, gaugeShare))
		t.t = (slices.Min(after[e]) - mean(present(logs[e]))) / t.sd
		t.p = t.pAt(t.t)
	}
	return out
}

// pAt is the p of a least step that stands out by x.
func (t gaugeTest) pAt(x float64) float64 {
	if !(x > 0) {
		return 1
	}
	return math.Pow(studentTail(x, t.df), t.exponent)
}

// shrink gives every usable test the scale that its own and that of the others suggest. A
// single endpoint keeps its own.
func shrink(tests []gaugeTest, usable []int) {
	if len(usable) == 1 {
		t := &tests[usable[0]]
		t.shrunken = t.s2
		return
	}
	e := make([]float64, len(usable))
	var noise float64
	for i, at := range usable {
		t := &tests[at]
		e[i] = math.Log(t.s2) - mathext.Digamma(t.own/2) + math.Log(t.own/2)
		noise += trigamma(t.own / 2)
	}
	noise /= float64(len(usable))
	center, spread := mean(e), 0.0
	for _, x := range e {
		spread += (x - center) * (x - center)
	}
	v := spread/float64(len(e)-1) - noise
	prior, s0 := math.Inf(1), math.Exp(center)
	if v > 0 {
		prior = 2 * trigammaInverse(v)
		s0 = math.Exp(center + mathext.Digamma(prior/2) - math.Log(prior/2))
	}
	prior = min(prior, maxPrior)
	for _, at := range usable {
		t := &tests[at]
		t.prior, t.priorS2 = prior, s0
		t.shrunken = max((prior*s0+t.own*t.s2)/(prior+t.own), halfPrior*s0)
	}
}

// A countRow is events of trials of one endpoint, in the steps before an upgrade and in up to
// three groups of steps after it.
type countRow struct {
	before, of     []float64 // events and trials per step before, those with trials only
	k0, n0, k1, n1 float64
	events, trials []float64 // per group after
	// rate says that there may be more events than trials, as retries of requests: events are
	// then Poisson, and there is no count of trials without one.
	rate bool
}

// countGroups is how many groups the steps after an upgrade are put in: with the whole window
// as one, 16.9 % of healthy upgrades are false alarms at 0.05. Halves that are as quiet as
// thirds in a steady world (with countShare 0.6) find 8 points more of histograms that double,
// but where the service jumps now and then for a few steps they raise 6.1 % false alarms
// where thirds raise 2.6 %. (docs/statistics.md, "Short history")
const countGroups = 3

func newCountRow(k0, n0, k1, n1 []float64) countRow {
	var r countRow
	for i := range k0 {
		if math.IsNaN(k0[i]) || !(n0[i] > 0) {
			continue
		}
		r.before, r.of = append(r.before, k0[i]), append(r.of, n0[i])
		r.k0 += k0[i]
		r.n0 += n0[i]
		r.rate = r.rate || k0[i] > n0[i]
	}
	groups := min(countGroups, len(k1))
	r.events, r.trials = make([]float64, groups), make([]float64, groups)
	for g, from := 0, 0; g < groups; g++ {
		to := from + len(k1)/groups
		if g < len(k1)%groups {
			to++
		}
		for i := from; i < to; i++ {
			if math.IsNaN(k1[i]) || !(n1[i] > 0) {
				continue
			}
			r.events[g] += k1[i]
			r.trials[g] += n1[i]
			r.rate = r.rate || k1[i] > n1[i]
		}
		r.k1 += r.events[g]
		r.n1 += r.trials[g]
		from = to
	}
	return r
}

// usableGroups are the groups after with a trial in them.
func (r countRow) usableGroups() []int {
	var out []int
	for g, n := range r.trials {
		if n >= 1 {
			out = append(out, g)
		}
	}
	return out
}

// A countTest is the consensus test of one countRow (docs/statistics.md, "Short history:
// counts").
type countTest struct {
	usable     bool
	phiOwn     float64   // dispersion of the steps before
	groups     []int     // usable ones
	phi        []float64 // shrunken dispersion, per usable group
	df         float64
	zs, ps     []float64 // per usable group
	z          float64   // of the least group, in standard deviations
	p          float64
	attainable float64
	row        countRow
}

const (
	minCountBefore = 8   // trials
	minCountAfter  = 3   // trials
	countShare     = 0.3 // correlation that the groups after are taken to have
	phiWeight      = 6   // degrees of freedom of the pooled dispersion
	phiDefault     = 2   // dispersion where no endpoint tells one
	phiEvents      = 3   // events, and trials without one, that an endpoint needs to tell
	phiSteps       = 2   // degrees of freedom likewise
)

// countTests tests the counts of all endpoints of one signal (and level). Dispersion is
// shrunken towards that of the others.
func countTests(rows []countRow) []countTest {
	out := make([]countTest, len(rows))
	for i, r := range rows {
		t := &out[i]
		t.row = r
		t.groups = r.usableGroups()
		t.usable = r.n0 >= minCountBefore && r.n1 >= minCountAfter && len(t.groups) >= max(1, min(2, len(r.trials)))
		t.phiOwn = r.dispersion()
		t.df = phiWeight
		if r.informs() {
			t.df += r.degrees()
		}
	}
	for g := range countGroups {
		phi0 := pooledDispersion(out, g)
		for i := range out {
			t := &out[i]
			if !t.usable || !slices.Contains(t.groups, g) {
				continue
			}
			own := 0.0
			if t.df > phiWeight {
				own = (t.df - phiWeight) * t.phiOwn
			}
			t.phi = append(t.phi, max(1, (phiWeight*phi0+own)/t.df))
		}
	}
	for i := range out {
		t := &out[i]
		if !t.usable {
			continue
		}
		t.test()
		t.attainable = t.attainableWith(1)
	}
	return out
}

func (t *countTest) test() {
	t.z = math.Inf(1)
	for j, g := range t.groups {
		z := t.row.deviance(t.row.events[g], t.row.trials[g], 1)
		t.zs = append(t.zs, z)
		t.ps = append(t.ps, studentTail(z/math.Sqrt(t.phi[j]), t.df))
		t.z = min(t.z, z/math.Sqrt(t.phi[j]))
	}
	t.p = t.combine(t.ps)
}

// combine is the p of the least group.
func (t *countTest) combine(ps []float64) float64 {
	worst := slices.Max(ps)
	if worst >= 0.5 {
		return 1
	}
	g := float64(len(ps))
	return math.Pow(worst, g/(1+(g-1)*countShare))
}

// most is how many events n trials after could have come to: every trial one, or retries a
// hundred times as many a trial as before.
func (r countRow) most(n float64) float64 {
	if r.rate {
		return max(n, attainableRise*n*r.k0/r.n0)
	}
	return n
}

// attainableWith is the p if there had been as many events after as there can be, with factor
// times the traffic.
func (t *countTest) attainableWith(factor float64) float64 {
	ps := make([]float64, len(t.groups))
	for j, g := range t.groups {
		n := factor * t.row.trials[g]
		ps[j] = studentTail(t.row.deviance(t.row.most(n), n, factor)/math.Sqrt(t.phi[j]), t.df)
	}
	return t.combine(ps)
}

// informs reports whether the steps before r tell a dispersion.
func (r countRow) informs() bool {
	return r.k0 >= phiEvents && (r.rate || r.n0-r.k0 >= phiEvents) && r.degrees() >= phiSteps
}

func (r countRow) degrees() float64 { return float64(len(r.before) - 1) }

// dispersion is the variance of the steps before over that of independent events: Pearson's
// chi-squared over its degrees of freedom. 0 where it cannot be told.
func (r countRow) dispersion() float64 {
	p := r.k0 / r.n0
	spread := p * (1 - p)
	if r.rate {
		spread = p
	}
	if !(spread > 0) || len(r.before) < 2 {
		return 0
	}
	var chi float64
	for i, k := range r.before {
		d := k - r.of[i]*p
		chi += d * d / (r.of[i] * spread)
	}
	return chi / r.degrees()
}

// pooledDispersion is that of the endpoints that have one, of those that group g tests.
func pooledDispersion(tests []countTest, g int) float64 {
	var sum, weights, n float64
	for _, t := range tests {
		if !t.usable || !slices.Contains(t.groups, g) || !t.row.informs() {
			continue
		}
		d := t.row.degrees()
		sum += d * t.phiOwn
		weights += d
		n++
	}
	switch n {
	case 0:
		return phiDefault
	case 1:
		return max(phiDefault, sum/weights)
	}
	return max(1, sum/weights)
}

// deviance is how far k events of n trials stand out from those before, times scale, in
// standard deviations of independent events: the signed root of the likelihood ratio, with
// half an event taken off, which makes it agree with the exact test where there was none
// before. 0 where they do not stand out.
func (r countRow) deviance(k, n, scale float64) float64 {
	k0, n0 := r.k0*scale, r.n0*scale
	all := k0 + k
	expected := all * n / (n0 + n)
	after := max(k-0.5, min(k, expected))
	if !(after > expected) {
		return 0
	}
	before := all - after
	g := cell(after, expected) + cell(before, all-expected)
	if !r.rate {
		g += cell(n-after, n-expected) + cell(n0-before, n0-(all-expected))
	}
	return math.Sqrt(max(0, 2*g))
}

func cell(observed, expected float64) float64 {
	if observed <= 0 {
		return 0
	}
	return observed * math.Log(observed/expected)
}

// studentTail is P(T > x), T having df degrees of freedom.
func studentTail(x, df float64) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df}.CDF(-x)
}

func studentQuantile(p, df float64) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df}.Quantile(p)
}

// trigamma is the second derivative of log gamma, at x > 0.
func trigamma(x float64) float64 { return mathext.Zeta(2, x) }

// trigammaInverse is the x > 0 whose trigamma is y > 0: Newton's method on 1/trigamma, which
// is convex and nearly linear, so that it converges from the start given, always from one
// side. (Smyth 2004, appendix)
func trigammaInverse(y float64) float64 {
	x := 0.5 + 1/y
	for range 50 {
		tri := trigamma(x)
		step := tri * (1 - tri/y) / (-2 * mathext.Zeta(3, x))
		x += step
		if -step/x < 1e-14 {
			break
		}
	}
	return x
}

func logsOf(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = math.NaN()
		if v > 0 && !math.IsInf(v, 1) {
			out[i] = math.Log(v)
		}
	}
	return out
}

// present are the values of x that are not missing.
func present(x []float64) []float64 {
	out := make([]float64, 0, len(x))
	for _, v := range x {
		if !math.IsNaN(v) {
			out = append(out, v)
		}
	}
	return out
}

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
