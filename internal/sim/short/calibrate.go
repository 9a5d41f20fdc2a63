package short

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// A Figure is one line of the table: a share, its 95 % interval, and the bar it is held to.
type Figure struct {
	Name      string
	Value     float64
	Low, High float64 // Clopper-Pearson, or normal for a mean over worlds
	Of        int     // cases
	Bar       string  // "" = no bar: reported as it is
	Pass      bool
}

// A Plan is how much is simulated.
type Plan struct {
	Seed  uint64
	Cases int // upgrades that change nothing, per world and shape
	Power int // faults per cell
	// Lenient passes a bar that the interval touches: for plans that are too small to tell.
	Lenient bool
	Workers int                // 0 = one per processor
	Say     func(done, of int) // progress, in cells; nil = none
}

// Full is the plan of make calibrate: 14,400 upgrades that change nothing.
func Full(seed uint64) Plan { return Plan{Seed: seed, Cases: 400, Power: 200} }

const reportLevel = 0.05

// An outcome is what the short tier says of one case.
type outcome struct {
	rule    bool // regressed at 0.05: with the guard where there are fewer than 20 steps before
	plain   bool // at 0.05 without the guard
	guarded bool // at 0.05 with the guard
	acting  bool // at 0.01 with the guard
	naive   bool // the negative control, at 0.05
	intervals
}

// intervals count those of gauges that did not change.
type intervals struct {
	told    int // with an interval
	within  int // 99 % intervals that hold 0
	bounded int // one-sided 95 % bounds at or above 0
}

func judge(c Case) outcome {
	f := baseline.CompareShort(c.Series, c.Signals, c.Geometry, c.Geometry.Horizon, reportLevel)
	holds := f.Guard.Holds(f.P)
	o := outcome{
		plain:   f.P <= reportLevel,
		guarded: f.P <= reportLevel && holds,
		acting:  f.P <= detect.ActShortLevel && holds,
		naive:   naiveP(c) <= reportLevel,
	}
	o.rule = o.guarded || o.plain && f.Before >= detect.ActShortBefore
	for _, t := range f.Tests {
		if math.IsNaN(t.Low99) {
			continue
		}
		o.told++
		if t.Low99 <= 0 && 0 <= t.High99 {
			o.within++
		}
		if t.Bound95 >= 0 {
			o.bounded++
		}
	}
	return o
}

// A cell is the cases of one world and shape.
type cell struct {
	world World
	shape Shape
	fault Fault
	cases int
	seed  [2]uint64
	out   []outcome
}

func (c *cell) run() {
	c.out = make([]outcome, c.cases)
	for i := range c.out {
		rng := rand.New(rand.NewPCG(c.seed[0], c.seed[1]<<32|uint64(i)))
		c.out[i] = judge(newCase(rng, c.world, c.shape, c.fault))
	}
}

// faults are what power is measured at.
var faults = []struct {
	world World
	shape Shape
	fault Fault
	least float64 // bar of power; 0 = none
}{
	{AR3, Shape{8, 24, 3}, Fault{1, 1.5, false}, 0},
	{AR3, Shape{8, 24, 3}, Fault{1, 2, false}, 0},
	{AR3, Shape{8, 24, 3}, Fault{1, 3, false}, .8},
	{AR3, Shape{33, 24, 2}, Fault{1, 2, false}, 0},
	{AR3, Shape{33, 24, 2}, Fault{10, 1.5, false}, .8},
	{AR3, Shape{30, 8, 2}, Fault{9, 2, false}, .8},
	{Requests, Shape{32, 30, 8}, Fault{1, 2, false}, 0},
	{Requests, Shape{32, 30, 8}, Fault{1, 3, false}, .4},
	{AR3, Shape{8, 24, 3}, Fault{1, 2, true}, 0},
	{AR3, Shape{33, 24, 2}, Fault{1, 2, true}, 0},
	{AR3, Shape{33, 24, 2}, Fault{10, 1.5, true}, .8},
	{AR3, Shape{30, 8, 2}, Fault{9, 2, true}, 0},
	{Requests, Shape{32, 30, 8}, Fault{1, 2, true}, 0},
	{Requests, Shape{32, 30, 8}, Fault{1, 3, true}, .4},
}

// Calibrate simulates and returns the table.
func Calibrate(p Plan) []Figure {
	var cells []*cell
	add := func(c cell) *cell {
		c.seed = [2]uint64{p.Seed, uint64(len(cells))}
		cells = append(cells, &c)
		return &c
	}
	nulls := map[World][]*cell{}
	for _, w := range gauges {
		for _, s := range gaugeShapes {
			nulls[w] = append(nulls[w], add(cell{world: w, shape: s, cases: p.Cases}))
		}
	}
	for _, w := range histograms {
		for _, s := range histogramShapes {
			nulls[w] = append(nulls[w], add(cell{world: w, shape: s, cases: p.Cases}))
		}
	}
	var power []*cell
	for _, f := range faults {
		power = append(power, add(cell{world: f.world, shape: f.shape, fault: f.fault, cases: p.Power}))
	}
	p.run(cells)

	t := table{lenient: p.Lenient}
	t.mean("false alarms at 0.05, mean over worlds", nulls, .05, func(o outcome) bool { return o.rule })
	for _, w := range slices.Concat(gauges, histograms) {
		limit := .08
		switch w {
		case Spikes:
			limit = math.NaN() // a service like that needs history; the figure is told
		case Requests, RequestsWalking:
			limit = .03
		}
		t.share("false alarms at 0.05, "+string(w), nulls[w], limit, func(o outcome) bool { return o.rule })
	}
	t.share("the same with the guard, spikes", nulls[Spikes], .12, func(o outcome) bool { return o.guarded })
	t.mean("the same without the guard, mean over worlds", nulls, math.NaN(), func(o outcome) bool { return o.plain })
	t.mean("acting level, mean over worlds", nulls, .025, func(o outcome) bool { return o.acting })
	t.atLeast("negative control: moderated t of means at 0.05", nulls, .10, func(o outcome) bool { return o.naive })
	t.coverage(nulls)
	for i, f := range faults {
		name := fmt.Sprintf("power at 0.05, x%g in %d of %d, %d before, %d after, %s", f.fault.Factor, f.fault.Endpoints, f.shape.Endpoints, f.shape.Before, f.shape.After, f.world)
		if f.fault.Early {
			name += ", early"
		}
		t.power(name, power[i], f.least)
	}
	return t.figures
}

func (p Plan) run(cells []*cell) {
	workers := p.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	next := make(chan *cell)
	var wg sync.WaitGroup
	var lock sync.Mutex
	done := 0
	for range workers {
		wg.Go(func() {
			for c := range next {
				c.run()
				lock.Lock()
				done++
				if p.Say != nil {
					p.Say(done, len(cells))
				}
				lock.Unlock()
			}
		})
	}
	for _, c := range cells {
		next <- c
	}
	close(next)
	wg.Wait()
}

type table struct {
	lenient bool
	figures []Figure
}

func count(cells []*cell, is func(outcome) bool) (k, n int) {
	for _, c := range cells {
		for _, o := range c.out {
			if is(o) {
				k++
			}
		}
		n += len(c.out)
	}
	return k, n
}

// share is a share of cases, at most limit; NaN is no limit.
func (t *table) share(name string, cells []*cell, limit float64, is func(outcome) bool) {
	k, n := count(cells, is)
	f := Figure{Name: name, Value: float64(k) / float64(n), Of: n, Pass: true}
	f.Low, f.High = interval(k, n)
	t.atMost(f, limit)
}

func (t *table) atMost(f Figure, limit float64) {
	if !math.IsNaN(limit) {
		f.Bar = fmt.Sprintf("<= %.3g", limit)
		f.Pass = f.Value <= limit || t.lenient && f.Low <= limit
	}
	t.figures = append(t.figures, f)
}

// overWorlds is the mean over worlds of a share, and its standard error.
func overWorlds(worlds map[World][]*cell, is func(outcome) bool) (mean, se float64, of int) {
	var variance float64
	for _, w := range slices.Concat(gauges, histograms) {
		k, n := count(worlds[w], is)
		p := float64(k) / float64(n)
		mean += p
		variance += max(p*(1-p), 1/float64(n)) / float64(n)
		of += n
	}
	m := float64(len(worlds))
	return mean / m, math.Sqrt(variance) / m, of
}

// mean is the mean over worlds, at most limit + 2 standard errors.
func (t *table) mean(name string, worlds map[World][]*cell, limit float64, is func(outcome) bool) {
	value, se, of := overWorlds(worlds, is)
	f := Figure{Name: name, Value: value, Low: max(0, value-1.96*se), High: value + 1.96*se, Of: of, Pass: true}
	if !math.IsNaN(limit) {
		f.Bar, f.Pass = fmt.Sprintf("<= %.3g + 2 s.e.", limit), value <= limit+2*se
	}
	t.figures = append(t.figures, f)
}

func (t *table) atLeast(name string, worlds map[World][]*cell, limit float64, is func(outcome) bool) {
	value, se, of := overWorlds(worlds, is)
	t.figures = append(t.figures, Figure{
		Name: name, Value: value, Low: max(0, value-1.96*se), High: value + 1.96*se, Of: of,
		Bar: fmt.Sprintf("> %.3g", limit), Pass: value > limit,
	})
}

// coverage is that of the intervals of gauges at no change; made of logs, they have the same
// at every change. In the world of spikes it is told and held to no bar, as false alarms are.
func (t *table) coverage(worlds map[World][]*cell) {
	for _, kind := range []struct {
		name  string
		of    func(intervals) int
		limit float64
	}{
		{"coverage of ci99 of gauges", func(i intervals) int { return i.within }, .98},
		{"coverage of bound95 of gauges", func(i intervals) int { return i.bounded }, .95},
	} {
		for _, w := range gauges {
			k, n, cases := 0, 0, 0
			for _, c := range worlds[w] {
				for _, o := range c.out {
					k += kind.of(o.intervals)
					n += o.told
				}
				cases += len(c.out)
			}
			f := Figure{Name: kind.name + ", " + string(w), Value: float64(k) / float64(n), Of: cases, Pass: true}
			// Endpoints of a case are alike: the case counts.
			f.Low, f.High = interval(int(math.Round(f.Value*float64(cases))), cases)
			if w != Spikes {
				f.Bar = fmt.Sprintf(">= %.3g", kind.limit)
				f.Pass = f.Value >= kind.limit || t.lenient && f.High >= kind.limit
			}
			t.figures = append(t.figures, f)
		}
	}
}

func (t *table) power(name string, c *cell, limit float64) {
	k, n := count([]*cell{c}, func(o outcome) bool { return o.rule })
	f := Figure{Name: name, Value: float64(k) / float64(n), Of: n, Pass: true}
	f.Low, f.High = interval(k, n)
	if limit > 0 {
		f.Bar = fmt.Sprintf(">= %.3g", limit)
		f.Pass = f.Value >= limit || t.lenient && f.High >= limit
	}
	t.figures = append(t.figures, f)
}

// interval is Clopper and Pearson's of k in n, at 95 %.
func interval(k, n int) (low, high float64) {
	low, high = 0, 1
	if k > 0 {
		low = distuv.Beta{Alpha: float64(k), Beta: float64(n-k) + 1}.Quantile(.025)
	}
	if k < n {
		high = distuv.Beta{Alpha: float64(k) + 1, Beta: float64(n - k)}.Quantile(.975)
	}
	return low, high
}

// String is the table of figures as Markdown.
func String(figures []Figure) string {
	var b strings.Builder
	b.WriteString("| figure | value | 95 % interval | cases | bar | |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, f := range figures {
		pass := "pass"
		switch {
		case f.Bar == "":
			pass = ""
		case !f.Pass:
			pass = "FAIL"
		}
		fmt.Fprintf(&b, "| %s | %.2f %% | %.2f to %.2f %% | %d | %s | %s |\n", f.Name, 100*f.Value, 100*f.Low, 100*f.High, f.Of, f.Bar, pass)
	}
	return b.String()
}

// naiveP is the family p of what one would do first: a moderated t-test of the mean of the
// post window of every gauge, as if steps were independent, above the same floor of 20 %. It
// must raise far more alarms than it promises, or these worlds are too kind.
func naiveP(c Case) float64 {
	type sample struct{ shift, s2, n, m float64 }
	var tests []sample
	for _, s := range c.Series {
		if c.Signals[s.Signal].Kind != rule.Gauge {
			continue
		}
		pre, post := logs(s.Events[:c.Geometry.Before]), logs(s.Events[c.Geometry.Before:])
		if len(pre) < 4 || len(post) < 2 {
			continue
		}
		center, square := mean(pre), 0.
		for _, y := range pre {
			square += (y - center) * (y - center)
		}
		tests = append(tests, sample{mean(post) - center, square / float64(len(pre)-1), float64(len(pre)), float64(len(post))})
	}
	const prior = 4 // degrees of freedom that the other endpoints' variance is worth
	var pooled float64
	for _, t := range tests {
		pooled += t.s2 / float64(len(tests))
	}
	least := 1.
	for _, t := range tests {
		if t.shift < math.Log(1.2) {
			continue
		}
		s2 := (prior*pooled + (t.n-1)*t.s2) / (prior + t.n - 1)
		x := t.shift / math.Sqrt(s2*(1/t.n+1/t.m))
		least = min(least, distuv.StudentsT{Sigma: 1, Nu: prior + t.n - 1}.CDF(-x))
	}
	return min(1, float64(len(tests))*least)
}

func logs(x []float64) []float64 {
	var out []float64
	for _, v := range x {
		if v > 0 {
			out = append(out, math.Log(v))
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
