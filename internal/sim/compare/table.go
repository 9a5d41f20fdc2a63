package compare

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/sim/peers"
)

// A Table is the measured figures of every judge, driftwatch first.
type Table struct {
	Plan     Plan
	Upgrades int // in each scenario
	Effects  []string
	Blames   []string
	Rows     []Row
}

// A Row is one judge.
type Row struct {
	Name, Setting, Source string
	NegativeControl       bool

	FalseAlarms Share // of healthy upgrades: any signal of any endpoint
	Endpoint    Share // of healthy endpoints: any of their signals
	Traffic     Share // as FalseAlarms, where nothing but traffic rose, 2.5 times
	Effects     []Found
	Power       float64 // mean of the powers over the effects
	Blames      []Share // of endpoints whose rise began before the upgrade

	// Matched is FalseAlarms with the judge's limit turned, after the fact and on these very
	// upgrades, to the strictest at which Power is at least driftwatch's. MatchedPower is the
	// power there; where no limit reaches driftwatch's, both are those at the judge's own limit.
	Matched      Share
	MatchedPower float64
	Reached      bool // some limit reaches driftwatch's power
	// Excess is Matched less driftwatch's FalseAlarms.
	Excess Difference

	// Quiet are the powers, by effect, with the limit turned to the loosest at which the judge
	// alarms in no more healthy upgrades than driftwatch does; QuietPower is their mean. For
	// driftwatch they are its own.
	Quiet      []float64
	QuietPower float64
}

// leastServices is how many services it takes to believe an interval by services.
const leastServices = 10

// better reports whether driftwatch is better than the judge of r: the 95 % interval of Excess,
// by services, lies above 0. A judge that cannot reach driftwatch's power at any limit, and
// has more false alarms at its own, is beaten in the same sense. Too few services show nothing.
func (t *Table) better(r *Row) bool { return r.Excess.Low > 0 && t.Plan.Services >= leastServices }

// A Share is a proportion and its 95 % interval.
type Share struct {
	Value, Low, High float64
}

// Found is how many of the endpoints with an effect were found, and when.
type Found struct {
	Power Share
	Delay float64 // median minutes after the upgrade, of those found; NaN if none was
}

// A Difference is one share less another on the same upgrades, and its 95 % interval.
type Difference struct {
	Value, Low, High float64
}

// tally counts hits of trials, by service.
type tally struct {
	hits, trials []float64 // shape (services)
}

func newTally(services int) tally {
	return tally{make([]float64, services), make([]float64, services)}
}

func (t tally) add(service int, hit bool) {
	t.trials[service]++
	if hit {
		t.hits[service]++
	}
}

func (t tally) value() float64 { return sum(t.hits) / sum(t.trials) }

// share is Wilson's interval with the number of trials divided by the design effect of
// services (the variance of the ratio by services, by that of independent trials; Kish 1965),
// at least 1. Where all trials agree nothing shows that effect: a service then counts once.
func (t tally) share() Share {
	n, p := sum(t.trials), t.value()
	effective := float64(len(t.hits))
	if p > 0 && p < 1 {
		v := ratioVariance(t.hits, t.trials, p)
		effective = n / max(1, v/(p*(1-p)/n))
	}
	low, high := wilson(p, effective)
	return Share{p, low, high}
}

// z975 is the normal quantile of 95 % intervals.
const z975 = 1.959963984540054

// wilson is the 95 % interval of a proportion p of n. (Wilson 1927)
func wilson(p, n float64) (low, high float64) {
	z2 := z975 * z975
	centre := (p + z2/(2*n)) / (1 + z2/n)
	half := z975 / (1 + z2/n) * math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	return max(0, centre-half), min(1, centre+half)
}

// ratioVariance is the variance of the ratio r of sums of hits and trials over services, by
// Taylor's linearisation. (Cochran 1977, section 6.3)
func ratioVariance(hits, trials []float64, r float64) float64 {
	m := float64(len(hits))
	if m < 2 {
		return math.Inf(1)
	}
	s := 0.0
	for i := range hits {
		e := hits[i] - r*trials[i]
		s += e * e
	}
	all := sum(trials)
	return s * m / (m - 1) / (all * all)
}

// minus is t less other, on the same trials.
func (t tally) minus(other tally) Difference {
	d := make([]float64, len(t.hits))
	for i := range d {
		d[i] = t.hits[i] - other.hits[i]
	}
	v := sum(d) / sum(t.trials)
	half := z975 * math.Sqrt(ratioVariance(d, t.trials, v))
	return Difference{v, v - half, v + half}
}

func sum(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s
}

// newTable reduces what the judges heard.
func newTable(plan Plan, world sim.World, judges []peers.Judge, results []serviceResult) *Table {
	all, effects, blames, healthy, traffic := scenarios()
	t := &Table{Plan: plan, Upgrades: len(world.Deploys()) * plan.Services}
	for _, i := range effects {
		t.Effects = append(t.Effects, all[i].name)
	}
	for _, i := range blames {
		t.Blames = append(t.Blames, all[i].name)
	}
	r := reduction{world: world, results: results, all: all}

	alarmed := func(h peers.Hearing) bool { return h.Alarm > 0 }
	var own tally
	for k := range len(judges) + 1 {
		row := Row{Name: "driftwatch", Setting: "its defaults: false discovery rate 0.01, week of history", Source: "docs/statistics.md"}
		if k > 0 {
			j := judges[k-1]
			row.Name, row.Setting, row.Source = j.Name, j.Setting, j.Source
			row.NegativeControl = k > len(peers.LineUp())
		}
		falseAlarms := r.upgrades(healthy, k, alarmed)
		row.FalseAlarms = falseAlarms.share()
		row.Endpoint = r.endpoints(healthy, k, alarmed).share()
		row.Traffic = r.upgrades(traffic, k, alarmed).share()
		for _, i := range effects {
			row.Effects = append(row.Effects, Found{r.affected(i, k, alarmed).share(), r.delay(i, k)})
		}
		for _, i := range blames {
			row.Blames = append(row.Blames, r.affected(i, k, alarmed).share())
		}
		row.Power = r.power(effects, k, alarmed)
		quiet := alarmed
		if k == 0 {
			own = falseAlarms
		} else {
			beyond := r.quiet(healthy, k, int(sum(own.hits)))
			quiet = func(h peers.Hearing) bool { return h.Score > beyond }
			matched := falseAlarms
			row.MatchedPower = row.Power
			var limit float64
			if limit, row.Reached = r.match(effects, k, t.Rows[0].Power); row.Reached {
				strict := func(h peers.Hearing) bool { return h.Score >= limit }
				matched, row.MatchedPower = r.upgrades(healthy, k, strict), r.power(effects, k, strict)
			}
			row.Matched, row.Excess = matched.share(), matched.minus(own)
		}
		for _, i := range effects {
			row.Quiet = append(row.Quiet, r.affected(i, k, quiet).value())
		}
		row.QuietPower = r.power(effects, k, quiet)
		t.Rows = append(t.Rows, row)
	}
	return t
}

// A reduction counts in results.
type reduction struct {
	world   sim.World
	results []serviceResult
	all     []scenario
}

// upgrades are the upgrades of a scenario in which judge alarmed at any signal of any endpoint.
func (r reduction) upgrades(scenario, judge int, alarmed func(peers.Hearing) bool) tally {
	t := newTally(len(r.results))
	for s, service := range r.results {
		for _, upgrade := range service {
			t.add(s, slices.ContainsFunc(upgrade[scenario][judge], alarmed))
		}
	}
	return t
}

// endpoints are the endpoints of a scenario at which judge alarmed.
func (r reduction) endpoints(scenario, judge int, alarmed func(peers.Hearing) bool) tally {
	t := newTally(len(r.results))
	for s, service := range r.results {
		for _, upgrade := range service {
			for e := range slices.Chunk(upgrade[scenario][judge], signals) {
				t.add(s, slices.ContainsFunc(e, alarmed))
			}
		}
	}
	return t
}

// affected are the endpoints behind the flag at which judge alarmed, at the signal that the
// scenario raises.
func (r reduction) affected(scenario, judge int, alarmed func(peers.Hearing) bool) tally {
	t := newTally(len(r.results))
	r.each(scenario, judge, func(s int, h peers.Hearing) { t.add(s, alarmed(h)) })
	return t
}

func (r reduction) each(scenario, judge int, do func(service int, h peers.Hearing)) {
	for s, service := range r.results {
		for _, upgrade := range service {
			for e := range r.world.Behind {
				do(s, upgrade[scenario][judge][signals*e+r.all[scenario].signal])
			}
		}
	}
}

// delay is the median minute of the alarms that affected counts.
func (r reduction) delay(scenario, judge int) float64 {
	var at []int
	r.each(scenario, judge, func(_ int, h peers.Hearing) {
		if h.Alarm > 0 {
			at = append(at, h.Alarm)
		}
	})
	if len(at) == 0 {
		return math.NaN()
	}
	slices.Sort(at)
	return float64(at[(len(at)-1)/2]+at[len(at)/2]) / 2
}

// power is the mean over effects of the share of endpoints found.
func (r reduction) power(effects []int, judge int, alarmed func(peers.Hearing) bool) float64 {
	p := 0.0
	for _, i := range effects {
		p += r.affected(i, judge, alarmed).value()
	}
	return p / float64(len(effects))
}

// match is the strictest limit at which judge has at least this power; false if none has.
func (r reduction) match(effects []int, judge int, power float64) (limit float64, ok bool) {
	var scores []float64
	for _, i := range effects {
		r.each(i, judge, func(_ int, h peers.Hearing) {
			if !math.IsInf(h.Score, -1) {
				scores = append(scores, h.Score)
			}
		})
	}
	slices.Sort(scores)
	scores = slices.Compact(scores)
	enough := func(limit float64) bool {
		return r.power(effects, judge, func(h peers.Hearing) bool { return h.Score >= limit }) >= power
	}
	low, high := 0, len(scores) // scores[low-1] is loose enough, scores[high] is not
	for low < high {
		if mid := (low + high) / 2; enough(scores[mid]) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return 0, false
	}
	return scores[low-1], true
}

// quiet is the score that a judge reaches in more than allowed upgrades of a scenario, and
// exceeds in no more; -Inf if it reaches none in so many.
func (r reduction) quiet(scenario, judge, allowed int) float64 {
	var highest []float64
	for _, service := range r.results {
		for _, upgrade := range service {
			most := math.Inf(-1)
			for _, h := range upgrade[scenario][judge] {
				most = max(most, h.Score)
			}
			highest = append(highest, most)
		}
	}
	slices.Sort(highest)
	if allowed >= len(highest) {
		return math.Inf(-1)
	}
	return highest[len(highest)-1-allowed]
}

// Verdicts counts the judges that driftwatch is better than, and those that it
// is not, and the negative controls that fail as they must.
func (t *Table) Verdicts() (passed, failed int) {
	for _, c := range t.Checks() {
		if c.Passed {
			passed++
		} else {
			failed++
		}
	}
	return passed, failed
}

// A Check is one thing that the comparison holds driftwatch, or itself, to.
type Check struct {
	Text   string
	Passed bool
}

// leastControls are the shares of healthy endpoints that the negative controls must alarm at, in
// order; a harness in which they do not could not show a bad method either. From 50 requests a
// second on they are those of research/statistics.md, section 5; below, where counting noise hides
// more of what these methods neglect, five times their nominal level.
func leastControls(rate float64) []float64 {
	if rate < 50 {
		return []float64{0.05, 0.05}
	}
	return []float64{0.10, 0.25}
}

// Checks are all that is passed or failed.
func (t *Table) Checks() []Check {
	var out []Check
	control := 0
	own := t.Rows[0]
	for i := range t.Rows[1:] {
		r := &t.Rows[i+1]
		if r.NegativeControl {
			least := leastControls(t.Plan.Rate)[control]
			control++
			out = append(out, Check{
				fmt.Sprintf("%s fails: alarms at %s of healthy endpoints, must be above %s", r.Name, percent(r.Endpoint.Value), percent(least)),
				r.Endpoint.Value > least,
			})
			continue
		}
		at := "at equal power"
		if !r.Reached {
			at = "at a power that it cannot reach"
		}
		out = append(out, Check{
			fmt.Sprintf("fewer false alarms than %s %s (%.2f against %.2f): %s against %s, difference %+.1f points [%+.1f, %+.1f]",
				r.Name, at, own.Power, r.MatchedPower, percent(own.FalseAlarms.Value), percent(r.Matched.Value),
				100*r.Excess.Value, 100*r.Excess.Low, 100*r.Excess.High),
			t.better(r),
		})
	}
	return out
}

// columns are the headings of the table.
func (t *Table) columns() []string {
	c := []string{"judge", "false alarms", "traffic x2.5"}
	c = append(c, t.Effects...)
	c = append(c, t.Blames...)
	return append(c, "power", "false alarms at equal power")
}

func (t *Table) cells(r *Row) []string {
	c := []string{r.Name, r.FalseAlarms.String(), percent(r.Traffic.Value)}
	for _, f := range r.Effects {
		c = append(c, f.String())
	}
	for _, b := range r.Blames {
		c = append(c, percent(b.Value))
	}
	matched := r.Matched.String()
	switch {
	case r == &t.Rows[0]:
		matched = r.FalseAlarms.String()
	case !r.Reached:
		matched += " (power not reached)"
	}
	return append(c, fmt.Sprintf("%.2f", r.Power), matched)
}

// quietColumns are the headings of the second table.
func (t *Table) quietColumns() []string {
	return append(append([]string{"judge"}, t.Effects...), "power at equal false alarms")
}

func (t *Table) quietCells(r *Row) []string {
	c := []string{r.Name}
	for _, p := range r.Quiet {
		c = append(c, fmt.Sprintf("%.2f", p))
	}
	return append(c, fmt.Sprintf("%.2f", r.QuietPower))
}

func (s Share) String() string {
	return fmt.Sprintf("%s [%s, %s]", percent(s.Value), number(100*s.Low), number(100*s.High))
}

func (f Found) String() string {
	if math.IsNaN(f.Delay) {
		return fmt.Sprintf("%.2f", f.Power.Value)
	}
	return fmt.Sprintf("%.2f / %.0f", f.Power.Value, f.Delay)
}

func percent(p float64) string { return number(100*p) + " %" }

// number is x with one digit behind the point where that tells something.
func number(x float64) string {
	if x != 0 && x < 9.95 {
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// Heading says what was simulated.
func (t *Table) Heading() string {
	return fmt.Sprintf("%d upgrades of %d services of 10 endpoints, %g requests per second each, in every scenario; run (seed) %d, services 0 to %d.",
		t.Upgrades, t.Plan.Services, t.Plan.Rate, t.Plan.Run, t.Plan.Services-1)
}

// legend says what the columns are, for people at a terminal.
const legend = `false alarms: healthy upgrades with an alarm at any endpoint [95 %]; traffic x2.5: the same where only traffic rose
w25 to r5: share of affected endpoints found / median minute after the upgrade; early: the same where the rise came 10 minutes before the upgrade
power: mean over w25 to r5; false alarms at equal power: with the judge's limit turned until its power is driftwatch's`

// quietLegend says what the second table is.
const quietLegend = "With each judge's limit turned until it alarms in no more healthy upgrades than driftwatch, the share found is:"

// align writes rows in columns.
func align(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r {
			line.WriteString(c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// Write writes the table and the checks as text.
func (t *Table) Write(w io.Writer) error {
	main, quiet := [][]string{t.columns()}, [][]string{t.quietColumns()}
	for i := range t.Rows {
		main = append(main, t.cells(&t.Rows[i]))
		quiet = append(quiet, t.quietCells(&t.Rows[i]))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n%s\n%s\n\n%s\n", t.Heading(), legend, align(main), quietLegend, align(quiet))
	for _, c := range t.Checks() {
		word := "FAIL"
		if c.Passed {
			word = "pass"
		}
		fmt.Fprintln(&b, word+"  "+c.Text)
	}
	passed, failed := t.Verdicts()
	fmt.Fprintf(&b, "\n%d passed, %d failed\n", passed, failed)
	_, err := io.WriteString(w, b.String())
	return err
}
