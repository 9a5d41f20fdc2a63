package calibrate

import (
	"fmt"
	"math"

	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A State is what became of a figure.
type State string

// The states. Published figures have no bar.
const (
	Passed    State = "pass"
	Failed    State = "FAIL"
	NotRun    State = "not run"
	Published State = "published"
)

// A Row is one figure with its bar.
type Row struct {
	Bar       string // S0 to S12, intervals, recovery, robust
	Figure    string
	Value     float64
	Low, High float64 // 95 % interval
	Unit      string  // "%", "min", "ms", "µs" or "s"
	Of        string  // how many, in how many clusters
	Limit     string  // "" where it is only published
	State     State
}

// A table makes the rows of one bar.
type table struct {
	bar string
	out []Row
}

// A limit is a bar: [low, high] that a figure must lie in, but for twice its standard error.
type limit struct {
	low, high float64
	exact     bool // no slack: the figure itself must lie within
}

func atMost(x float64) limit     { return limit{math.Inf(-1), x, false} }
func atLeast(x float64) limit    { return limit{x, math.Inf(1), false} }
func between(a, b float64) limit { return limit{a, b, false} }
func mustExceed(x float64) limit { return limit{x, math.Inf(1), true} }

func exactly(x float64) limit { return limit{x, x, true} }

var published = limit{math.Inf(-1), math.Inf(1), false}

func (l limit) words(unit string) string {
	scale := 1.0
	if unit == "%" {
		scale = 100
	}
	f := func(x float64) string { return fmt.Sprintf("%.4g%s", x*scale, spaced(unit)) }
	switch {
	case math.IsInf(l.low, -1) && math.IsInf(l.high, 1):
		return ""
	case math.IsInf(l.low, -1):
		return "≤ " + f(l.high)
	case math.IsInf(l.high, 1) && l.exact:
		return "> " + f(l.low)
	case math.IsInf(l.high, 1):
		return "≥ " + f(l.low)
	}
	if l.low == l.high {
		return f(l.low)
	}
	return fmt.Sprintf("%.4g to %s", l.low*scale, f(l.high))
}

func spaced(unit string) string {
	if unit == "" {
		return ""
	}
	return " " + unit
}

// state is what becomes of a figure with a standard error. Where that is 0 because no two
// clusters differ, the 95 % interval [low, high] takes its place.
func (l limit) state(x, se, low, high float64) State {
	slack := 2 * se
	switch {
	case l.exact:
		slack = 0
	case se == 0:
		slack = max(high-x, x-low, 0)
	}
	switch {
	case l == published:
		return Published
	case math.IsNaN(x):
		return NotRun
	case x >= l.low-slack && x <= l.high+slack:
		return Passed
	}
	return Failed
}

// rate adds the row of a tally. A tally that nothing was added to is not run.
func (t *table) rate(r *Record, figure, name string, l limit) {
	var tally Tally
	if r != nil {
		tally = r.Tallies[name]
	}
	low, high := tally.Interval()
	of := fmt.Sprintf("%.0f in %d", tally.Trials, tally.Clusters)
	if tally.Trials == 0 {
		of = ""
	}
	state := l.state(tally.Rate(), tally.SE(), low, high)
	if tally.Trials == 0 {
		state = NotRun
	}
	t.out = append(t.out, Row{t.bar, figure, tally.Rate(), low, high, "%", of, l.words("%"), state})
}

// delay adds the row of a median delay.
func (t *table) delay(r *Record, figure, name string, l limit) {
	t.median(r, figure, name, "min", 1, l)
}

// median adds the row of the middle of what was kept in parts of a unit, so many to one.
func (t *table) median(r *Record, figure, name, unit string, parts float64, l limit) {
	var d Delays
	if r != nil {
		d = r.Delays[name]
	}
	median, low, high := d.Median()
	median, low, high = median/parts, low/parts, high/parts
	n := 0
	for _, k := range d {
		n += k
	}
	state := l.state(median, (high-low)/(2*z975), low, high)
	if n == 0 {
		state = NotRun
	}
	t.out = append(t.out, Row{t.bar, figure, median, low, high, unit, fmt.Sprintf("%d", n), l.words(unit), state})
}

var modeWords = map[mode]string{own: "own history", against: "against controls"}

// Tables makes the rows of all bars that o wants from what was counted.
func Tables(o Options, results map[string]Result) []Row {
	var rows []Row
	records := map[string]*Record{}
	for name, r := range results {
		records[name] = r.Record
	}
	for _, bar := range Bars() {
		if o.wants(bar) {
			t := &table{bar: bar}
			fill[bar](t, records)
			if bar == "S11" {
				t.familyCost(results["50 rps"].times)
			}
			rows = append(rows, t.out...)
		}
	}
	return rows
}

var nullBars = map[float64]float64{0.05: 0.06, 0.01: 0.013, 0.001: 0.002}

// fill makes the rows of each bar: those of research/statistics.md sections 5 and 8, and DESIGN section 10.
var fill = map[string]func(t *table, r map[string]*Record){
	"S0": func(t *table, r map[string]*Record) {
		for _, at := range []string{"50 rps", "5 rps", "0.5 rps"} {
			for _, metric := range metrics {
				for _, alpha := range levels {
					t.rate(r[at], fmt.Sprintf("false alarms, %s, %s at %v", at, metric, alpha), name("null", own, metric, alpha), atMost(nullBars[alpha]))
				}
			}
		}
		for _, metric := range metrics {
			for _, alpha := range levels {
				t.rate(r["50 rps"], fmt.Sprintf("the same against controls, 50 rps, %s at %v", metric, alpha), name("null", against, metric, alpha), atMost(nullBars[alpha]))
			}
		}
		for _, at := range []string{"50 rps", "5 rps", "0.5 rps"} {
			for _, metric := range metrics {
				for _, alpha := range levels {
					t.rate(r[at], fmt.Sprintf("without the own-history guard, %s, %s at %v", at, metric, alpha), name("null", own, metric, alpha, "pooled"), atMost(nullBars[alpha]))
				}
			}
		}
		for _, metric := range metrics {
			for _, alpha := range levels {
				t.rate(r["50 rps"], fmt.Sprintf("one service of ten endpoints as pool, 50 rps, %s at %v", metric, alpha), name("alone", metric, alpha), published)
			}
		}
		for _, metric := range []telemetry.Metric{telemetry.Tail, telemetry.Retry} {
			t.rate(r["50 rps"], fmt.Sprintf("negative control: Welch at 0.01, %s", metric), name("negative", "Welch, once at 0.01", metric), mustExceed(0.10))
			t.rate(r["50 rps"], fmt.Sprintf("negative control: two proportions at 0.01, %s", metric), name("negative", "two proportions at 0.01", metric), mustExceed(0.25))
		}
	},
	"S1": func(t *table, r map[string]*Record) {
		main := r["50 rps"]
		for _, m := range []mode{own, against} {
			t.rate(main, "families without a change with anything regressed, "+modeWords[m], name("family", m, "regressed"), atMost(0.02))
			t.rate(main, "the same, and acted on, "+modeWords[m], name("family", m, "acted"), atMost(0.02))
			t.rate(main, "the same, suspected or regressed, "+modeWords[m], name("family", m, "shown"), published)
			for _, e := range []sim.Effect{w50, r2, t100} {
				t.rate(main, fmt.Sprintf("false share of endpoints shown as risen, 5 %% true %s, %s", e, modeWords[m]), name("fdr", m, e, "shown"), atMost(0.07))
				t.rate(main, fmt.Sprintf("the same of all with q ≤ 0.05, gates or not, %s, %s", e, modeWords[m]), name("fdr", m, e, "rejected"), published)
			}
		}
	},
	"S2": func(t *table, r map[string]*Record) {
		for _, e := range []sim.Effect{{Traffic: 0.5}, {Traffic: 1.5}} {
			for _, metric := range metrics {
				t.rate(r["50 rps"], fmt.Sprintf("false alarms at 0.01, %s, %s", e, metric), name("traffic", e, metric), atMost(0.015))
			}
		}
	},
	"S3": func(t *table, r map[string]*Record) {
		bars := map[mode]float64{own: 0.03, against: 0.025}
		for _, m := range []mode{own, against} {
			for _, metric := range metrics {
				t.rate(r["daily job"], fmt.Sprintf("false alarms at 0.01 beside a daily job, %s, %s", metric, modeWords[m]), name("null", m, metric, 0.01), atMost(bars[m]))
			}
		}
	},
	"S4": func(t *table, r map[string]*Record) {
		for _, m := range []mode{own, against} {
			for _, metric := range metrics {
				t.rate(r["spiky"], fmt.Sprintf("false alarms at 0.01 of spiky services, %s, %s", metric, modeWords[m]), name("spiky", m, metric), atMost(0.03))
				t.rate(r["spiky"], fmt.Sprintf("the same of the calm ones beside them, %s, %s", metric, modeWords[m]), name("calm", m, metric), published)
			}
		}
	},
	"S5": func(t *table, r map[string]*Record) {
		for _, s := range shifts {
			t.rate(r["50 rps"], fmt.Sprintf("blamed for what was there before, %s, %s", s.effect, s.metric), name("blame", s.effect, s.metric), atMost(s.limit))
			t.rate(r["50 rps"], fmt.Sprintf("the same, seen at 0.001, %s, %s", s.effect, s.metric), name("blame", s.effect, s.metric, "seen"), published)
		}
	},
	"S6": func(t *table, r map[string]*Record) {
		for _, f := range finds {
			key := name("power", f.mode, f.metric, f.effect)
			what := fmt.Sprintf("%s, %s, %s", f.metric, f.effect, modeWords[f.mode])
			t.rate(r["50 rps"], "found at 0.01: "+what, key, atLeast(f.power))
			l := published
			if f.delay > 0 {
				l = atMost(f.delay)
			}
			t.delay(r["50 rps"], "median delay: "+what, key, l)
		}
	},
	"S7": func(t *table, r map[string]*Record) {
		bars := []struct {
			effect       sim.Effect
			power, delay float64
		}{{w50, 0.95, 22}, {r2, 0.82, 36}, {t100, 0.64, 0}}
		for _, m := range []mode{against, own} {
			for _, b := range bars {
				key := name("found", m, b.effect)
				least, most := atLeast(b.power), published
				if b.delay > 0 {
					most = atMost(b.delay)
				}
				if m == own {
					least, most = published, published
				}
				t.rate(r["50 rps"], fmt.Sprintf("confirmed among 200 at q ≤ 0.01: %s, %s", b.effect, modeWords[m]), key, least)
				t.delay(r["50 rps"], fmt.Sprintf("median delay: %s, %s", b.effect, modeWords[m]), key, most)
			}
		}
	},
	"S8": func(t *table, r map[string]*Record) {
		for _, m := range []mode{own, against} {
			for _, e := range []sim.Effect{none, r15, r2} {
				for _, at := range []int{30, 60} {
					t.rate(r["50 rps"], fmt.Sprintf("95 %% interval of retries holds the truth, %s, %d min, %s", e, at, modeWords[m]), name("cover95", m, e, at), between(0.93, 0.97))
				}
			}
			t.rate(r["50 rps"], "a rise by 50 % excluded that is there, "+modeWords[m], name("excluded", m), atMost(0.06))
		}
	},
	"S9": func(t *table, r map[string]*Record) {
		for _, rate := range []float64{0.02, 0.05, 0.1, 0.2} {
			for _, metric := range metrics {
				t.rate(r["sparse"], fmt.Sprintf("false alarms at 0.01, %v rps, %s", rate, metric), name("sparse", metric, rate), atMost(0.02))
			}
		}
		t.rate(r["sparse"], "fewer than 4 expected events: not enough data", "sparse insufficient", exactly(1))
	},
	"S10": func(t *table, _ map[string]*Record) { t.determinism() },
	"S11": func(t *table, _ map[string]*Record) { t.cost() },
	"S12": func(t *table, r map[string]*Record) {
		for _, metric := range metrics {
			t.rate(r["slow warm-up"], fmt.Sprintf("false alarms at 0.01, warm-up of 5 min, %s, against controls", metric), name("null", against, metric, 0.01), atMost(0.015))
		}
		for _, metric := range metrics {
			t.rate(r["slow warm-up"], fmt.Sprintf("the same without controls, %s", metric), name("null", own, metric, 0.01), published)
		}
	},
	"intervals": func(t *table, r map[string]*Record) {
		for _, layout := range []string{"50 rps", "native"} {
			words := map[string]string{"50 rps": "classic buckets", "native": "native buckets"}[layout]
			for _, m := range []mode{own, against} {
				for _, metric := range metrics {
					for _, e := range intervalEffects {
						if e.String() != "none" && (metric == telemetry.Retry) != (e.Retry != 0) {
							continue
						}
						what := fmt.Sprintf("%s, %s, %s, %s", metric, e, words, modeWords[m])
						t.rate(r[layout], "99 % interval of the change holds the truth: "+what, name("ci99", m, metric, e), between(0.98, 0.997))
						t.rate(r[layout], "80 % interval of the change holds the truth: "+what, name("ci80", m, metric, e), published)
						t.median(r[layout], "median of the change that is read: "+what, name("ci99", m, metric, e, "read"), "%", perMille, published)
						if metric != telemetry.Retry {
							t.rate(r[layout], "the interval of the exceedance holds the truth: "+what, name("ci99", m, metric, e, "exceedance"), published)
						}
					}
				}
			}
		}
	},
	"recovery": func(t *table, r map[string]*Record) {
		t.rate(r["50 rps"], "recovered, although the flag is not the cause", "recovered not the cause", atMost(0.05))
		t.rate(r["50 rps"], "recovered, the flag being the cause", "recovered the cause", published)
		t.delay(r["50 rps"], "median minutes from the proof to recovered", "recovered the cause", published)
	},
	"robust": robustRows,
}
