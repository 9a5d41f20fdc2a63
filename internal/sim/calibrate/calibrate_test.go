package calibrate

import (
	"bytes"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/sim"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// notInTests are the bars whose worlds a minute does not hold, or that a busy machine decides.
var notInTests = []string{"5 rps", "spiky", "native", "without a fault", "resets", "pods"}

// TestBars is make calibrate in a minute: the same bars, at sizes that tell a gross mistake.
// Seeds are fixed: the same code gives the same numbers.
func TestBars(t *testing.T) {
	o := Options{Scale: Tiny, Seed: 1, Workers: 2, Progress: io.Discard}
	t.Logf("seed %d", o.Seed)
	for _, bar := range Bars() {
		if bar != "S11" {
			o.Only = append(o.Only, bar)
		}
	}
	least := 80 // bars that must have been tested
	if raceEnabled {
		o.Only, least = []string{"S3", "S9"}, 15
	}
	records, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	rows := Tables(o, records)
	var tables bytes.Buffer
	if err := Write(&tables, rows); err != nil {
		t.Fatal(err)
	}
	t.Log(tables.String())
	for _, r := range rows {
		switch r.State {
		case Failed:
			t.Errorf("%s: %s is %v [%v, %v], the bar is %s", r.Bar, r.Figure, r.Value, r.Low, r.High, r.Limit)
		case NotRun:
			if !expectedNotRun(r.Figure) {
				t.Errorf("%s: %s was not run", r.Bar, r.Figure)
			}
		}
	}
	if n := Count(rows, Passed); n < least {
		t.Errorf("%d bars were tested, want %d at the least", n, least)
	}
}

func expectedNotRun(figure string) bool {
	for _, s := range notInTests {
		if strings.Contains(figure, s) {
			return true
		}
	}
	return strings.Contains(figure, "calm")
}

// The harness ranks as the product does: what it counts is what a user gets.
func TestAsJudged(t *testing.T) {
	f := newFamily(plain(50)(7), 0, 4)
	type key struct {
		endpoint telemetry.Endpoint
		metric   telemetry.Metric
	}
	for _, m := range judgeModes {
		for _, e := range []sim.Effect{none, w50, r2, {Traffic: 1.5}} {
			type figures struct{ p, low, high float64 }
			want := map[mode]map[key]figures{own: {}, against: {}}
			for _, x := range f.members {
				o := x.under(f.geometry, e)
				for i := range o.comparisons {
					c := &o.comparisons[i]
					for k := range want {
						p := f.path(c, k)
						l, _ := lookAt(c, horizon)
						if adj, s, ok := adjusted(l, k); ok && p.counted {
							want[k][key{c.Endpoint, c.Metric}] = figures{p.p[len(p.p)-1], c.Unit.Change(adj - 2.5758*s).Low, c.Unit.Change(adj + 2.5758*s).High}
						}
					}
				}
			}
			j := f.judge(ruleOf(m == against), m, func(x *member, _ int) *outcome { return x.under(f.geometry, e) })
			compared, withControls := 0, 0
			for _, r := range j.Rows {
				used := own
				if !math.IsNaN(r.Against.P) {
					used = against
					withControls++
				}
				for _, metric := range r.Metrics {
					if !metric.Testable {
						continue
					}
					compared++
					if w := want[used][key{r.Endpoint, metric.Metric}]; math.Abs(w.p-metric.P) > 1e-12 {
						t.Errorf("%v, %v %s %s: the harness has p = %v, the judge %v", e, r.Endpoint, metric.Metric, used, w.p, metric.P)
					}
				}
				same := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9 || math.IsNaN(a) && math.IsNaN(b) }
				if w := want[used][key{r.Endpoint, r.Metric}]; !same(w.low, r.Change.Low99) || !same(w.high, r.Change.High99) {
					t.Errorf("%v, %v %s %s: the harness has the interval %v, the judge %v to %v", e, r.Endpoint, r.Metric, used, w, r.Change.Low99, r.Change.High99)
				}
			}
			if compared < 100 || m == own && withControls > 0 {
				t.Errorf("%s, %v: %d tests compared, %d rows against controls", m, e, compared, withControls)
			}
			if m == against && e.String() == "r2" && withControls == 0 {
				t.Errorf("no row was judged against controls")
			}
		}
	}
}

// What was finished is not drawn again, half a line is, and the sums are those of one run.
func TestResume(t *testing.T) {
	o := Options{Out: t.TempDir(), Only: []string{"S9"}, Scale: Tiny, Seed: 3, Workers: 1, Progress: io.Discard}
	run := func() (map[string]Result, int) {
		var progress bytes.Buffer
		o.Progress = &progress
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return r, strings.Count(progress.String(), "\n")
	}
	first, n := run()
	if n != 1 {
		t.Fatalf("%d families drawn, want 1", n)
	}
	again, n := run()
	if n != 0 || !reflect.DeepEqual(first, again) {
		t.Errorf("the second start draws %d families, or sums differ", n)
	}
	files, err := filepath.Glob(filepath.Join(o.Out, "sparse-*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("state files: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], b[:len(b)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	again, n = run()
	if n != 1 || !reflect.DeepEqual(first, again) {
		t.Errorf("after a cut line %d families are drawn, or sums differ", n)
	}
	if c, err := os.ReadFile(files[0]); err != nil || bytes.Count(c, []byte("\n")) != 1 {
		t.Errorf("the state holds %q, %v", c, err)
	}
}

// What is the same is spelt the same, wherever it lies, and every field is spelt.
func TestSpelt(t *testing.T) {
	row := func(need float64) any { return detect.Row{Signal: 1, Needs: &detect.Needs{Of: "events", Need: need}} }
	if a, b := spelt(row(4)), spelt(row(4)); a != b || a == spelt(row(5)) || !strings.Contains(a, "{events 0 4 0001-01-01T00:00:00Z }") {
		t.Errorf("%s and %s", a, b)
	}
}

func TestTally(t *testing.T) {
	// Clustered by hand: two services of 10, with 1 and 3 hits. p = 0.2, residuals -1 and 1,
	// variance 2/400 times 2/1.
	var x Tally
	x.Cluster(1, 10)
	x.Cluster(3, 10)
	if got, want := x.SE(), 0.1; math.Abs(got-want) > 1e-12 || x.Rate() != 0.2 {
		t.Errorf("rate %v, se %v, want 0.2 and %v", x.Rate(), got, want)
	}
	// scipy 1.10.1: research/statistics.md, section 7.
	tests := []struct {
		name      string
		low, high float64
		of        func() (float64, float64)
	}{
		{"Clopper and Pearson, 12 of 1000", 0.006215525559595245, 0.02086767959103641, func() (float64, float64) { return clopperPearson(12, 1000) }},
		{"none of 200", 0, 0.018275340355136237, func() (float64, float64) { return clopperPearson(0, 200) }},
		{"Wilson, 12 of 1000", 0.006877647806403522, 0.02085726847549828, func() (float64, float64) { return wilson(0.012, 1000) }},
	}
	for _, tt := range tests {
		if low, high := tt.of(); math.Abs(low-tt.low) > 1e-9 || math.Abs(high-tt.high) > 1e-9 {
			t.Errorf("%s: [%v, %v], want [%v, %v]", tt.name, low, high, tt.low, tt.high)
		}
	}
}

func TestMedianDelay(t *testing.T) {
	if m, low, high := (Delays{5: 3, 7: 1, 60: 1}).Median(); m != 5 || low != 5 || high != 60 {
		t.Errorf("median %v [%v, %v], want 5 [5, 60]", m, low, high)
	}
	if m, _, _ := (Delays{5: 2, 9: 2}).Median(); m != 7 {
		t.Errorf("median %v, want 7", m)
	}
}

// A bar that cannot fail tells nothing.
func TestBarsCanFail(t *testing.T) {
	r := newRecord()
	set := func(name string, hits, trials float64) {
		var x Tally
		for i := range 1000 { // services, with hits evenly among them
			h := math.Floor(hits*float64(i+1)/1000) - math.Floor(hits*float64(i)/1000)
			x.Cluster(h, trials/1000)
		}
		r.Tallies[name] = x
	}
	set(name("null", own, telemetry.Tail, 0.01), 200, 10000)
	set(name("negative", "Welch, once at 0.01", telemetry.Tail), 900, 10000)
	set(name("blame", shifts[0].effect, shifts[0].metric), 900, 10000)
	set(name("power", own, telemetry.Body, w25), 8700, 10000)
	set(name("ci99", own, telemetry.Tail, none), 9500, 10000)
	r.Delays[name("power", own, telemetry.Body, w25)] = Delays{28: 8700}
	want := map[string]bool{
		"false alarms, 50 rps, tail at 0.01":                                                    true,
		"negative control: Welch at 0.01, tail":                                                 true,
		"blamed for what was there before, r2 from -10, retry":                                  true,
		"found at 0.01: body, w25, own history":                                                 true,
		"median delay: body, w25, own history":                                                  true,
		"99 % interval of the change holds the truth: tail, none, classic buckets, own history": true,
	}
	got := map[string]bool{}
	for _, row := range Tables(Options{Only: []string{"S0", "S5", "S6", "intervals"}}, map[string]Result{"50 rps": {Record: r}}) {
		if row.State == Failed {
			got[row.Figure] = true
		}
		if row.State == Passed {
			t.Errorf("%s passed", row.Figure)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("failed: %v, want %v", got, want)
	}
}

func TestDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "statistics.md")
	for _, text := range []string{"\none\n", "two\n"} {
		if err := Document(path, text); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if want := begin + "\ntwo\n" + end + "\n"; err != nil || string(b) != want {
		t.Errorf("%q, %v, want %q", b, err, want)
	}
	if err := os.WriteFile(path, []byte("# Statistics\n"+begin+"\nold\n"+end+"\nmore\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Document(path, "new"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "# Statistics\n"+begin+"\nnew\n"+end+"\nmore\n" {
		t.Errorf("%q", b)
	}
	if err := os.WriteFile(path, []byte("# Statistics\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Document(path, "new"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "# Statistics\n\n"+begin+"\nnew\n"+end+"\n" {
		t.Errorf("%q", b)
	}
	if err := os.WriteFile(path, []byte(end+begin), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Document(path, "new"); err == nil {
		t.Error("marks in the wrong order pass")
	}
}
