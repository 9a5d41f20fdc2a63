package query

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

var nan = math.NaN()

// A counterCase is what Prometheus holds and what one endpoint did, step by step of a minute
// from minute -3 to 3. A scrape comes every 15 s, 5 s after each quarter, and adds 7 unless
// the case says otherwise, so a whole minute is 28. The interval (-10 s, 5 s] contains the
// upgrade: it is in no step, so minute -1 is 21. All numbers are by hand.
type counterCase struct {
	name   string
	data   []livetest.Series
	read   Read // Kind, By, Bounds, AbsentIsZero; the rest is filled in
	want   [][]float64
	totals []float64 // increments of (-3 minute, 3 minute], gaps included
	// query is what the PromQL path has to make of it: an increment is in the step of its
	// second sample, so minute 0 begins with the interval that contains the upgrade.
	query [][]float64
}

const (
	second = time.Second
	minute = time.Minute
)

// seven counts up by 7 a scrape from v.
func seven(v float64) func(int) float64 {
	return func(i int) float64 { return v + 7*float64(i) }
}

func counterCases() []counterCase {
	var cases []counterCase
	add := func(c counterCase) {
		if c.read.Kind == 0 {
			c.read.Kind = Counter
		}
		cases = append(cases, c)
	}
	up := series("up", ups(-20*minute+5*second, 10*minute)...)
	from, until := -20*minute+5*second, 10*minute

	add(counterCase{
		name: "steady",
		data: []livetest.Series{up, series("m_total", every(from, until, 15*second, seven(1000))...)},
		want: [][]float64{{28, 28, 21, 28, 28, 28}}, totals: []float64{168},
		query: [][]float64{{28, 28, 28, 28, 28, 28}},
	})
	add(counterCase{
		name: "two series of one endpoint are added",
		data: []livetest.Series{
			up, series("m_total code=200 route=/a", every(from, until, 15*second, seven(1000))...),
			series("m_total code=500 route=/a", every(from, until, 15*second, seven(5))...),
		},
		read: Read{By: []string{"route"}},
		want: [][]float64{{56, 56, 42, 56, 56, 56}}, totals: []float64{336},
		query: [][]float64{{56, 56, 56, 56, 56, 56}},
	})
	add(counterCase{
		// The process restarts between 1:20 and 1:35; 5 of the 7 requests of that interval were
		// served by the new one: the counter falls and the increment is 5.
		name: "in-place restart",
		data: []livetest.Series{up, series("m_total", append(
			every(from, 80*second, 15*second, seven(1000)), every(95*second, until, 15*second, seven(5))...)...)},
		want: [][]float64{{28, 28, 21, 28, 26, 28}}, totals: []float64{166},
		query: [][]float64{{28, 28, 28, 28, 26, 28}},
	})
	add(counterCase{
		// The new process has served more before its first scrape than the old one in its life:
		// nothing shows it. 95 s: from 1000+7*85=1595 to 1700.
		name: "restart that overtakes the old value is not seen",
		data: []livetest.Series{up, series("m_total", append(
			every(from, 80*second, 15*second, seven(1000)), every(95*second, until, 15*second, seven(1700))...)...)},
		// At 80 s the counter is 1000 + 7*85 = 1595; the jump is 105 instead of 7.
		want: [][]float64{{28, 28, 21, 28, 126, 28}}, totals: []float64{266},
		query: [][]float64{{28, 28, 28, 28, 126, 28}},
	})
	add(counterCase{
		// A new pod is scraped from 65 s on and stands at 40 at once: when these 40 happened is
		// not known. Its first interval is (65, 80], so minute 1 has all four.
		name: "new instance",
		data: []livetest.Series{
			up, series("m_total", every(from, until, 15*second, seven(1000))...),
			series("up instance=shop-2:80", ups(65*second, until)...),
			series("m_total instance=shop-2:80", every(65*second, until, 15*second, seven(40))...),
		},
		want: [][]float64{{28, 28, 21, 28, 56, 56}}, totals: []float64{168 + 2*28},
		query: [][]float64{{28, 28, 28, 28, 49, 56}},
	})
	add(counterCase{
		// No scrape in (50 s, 230 s): minute 0 has the intervals with middles
		// at 12.5, 27.5 and 42.5 s; minutes 1 and 2 nothing.
		name: "scrape gap",
		data: []livetest.Series{
			series("up", append(ups(from, 50*second), ups(230*second, until)...)...),
			series("m_total", every(from, until, 15*second, func(i int) float64 {
				if at := from + time.Duration(i)*15*second; at > 50*second && at < 230*second {
					return nan
				}
				return seven(1000)(i)
			})...),
		},
		// 15 intervals before the gap; the 12 increments in it have their middle at 140 s.
		want: [][]float64{{28, 28, 21, 21, nan, nan}}, totals: []float64{15*7 + 12*7},
		query: [][]float64{{28, 28, 28, 28, nan, nan}},
	})
	add(counterCase{
		name: "lost scrape is no gap",
		data: []livetest.Series{up, series("m_total", every(from, until, 15*second, func(i int) float64 {
			if from+time.Duration(i)*15*second == 80*second {
				return nan
			}
			return seven(1000)(i)
		})...)},
		// (65, 95] has its middle at 80 s.
		want: [][]float64{{28, 28, 21, 28, 28, 28}}, totals: []float64{168},
		query: [][]float64{{28, 28, 28, 28, 28, 28}},
	})
	add(counterCase{
		// One event per 75 s: at -145, -70, 5, 80 and 155 s (the scrape that shows it). The event
		// of the scrape at 5 s lies in the interval that contains the upgrade.
		name: "sparse counter",
		data: []livetest.Series{up, series("m_total", every(from, until, 15*second, func(i int) float64 {
			return float64(i / 5)
		})...)},
		want: [][]float64{{1, 1, 0, 0, 1, 1}}, totals: []float64{5},
		query: [][]float64{{1, 1, 0, 1, 1, 1}},
	})
	add(counterCase{
		// The retry label set appears at 65 s with 3 while its target had been scraped all along.
		name: "series born at zero",
		data: []livetest.Series{
			up, series("n_total", every(from, until, 15*second, seven(1000))...),
			series("m_total", every(65*second, until, 15*second, seven(3))...),
		},
		read: Read{AbsentIsZero: true},
		// (50, 65] has its middle at 57.5 s: minute 0.
		want: [][]float64{{0, 0, 0, 3, 28, 28}}, totals: []float64{59 + 7 - 7},
		query: [][]float64{{0, 0, 0, 0, 3 + 21, 28}},
	})
	add(counterCase{
		name: "absent without the wish to know is missing",
		data: []livetest.Series{up, series("m_total", every(65*second, until, 15*second, seven(3))...)},
		want: [][]float64{{nan, nan, nan, 3, 28, 28}}, totals: []float64{59},
		query: [][]float64{{nan, nan, nan, nan, 24, 28}},
	})
	add(counterCase{
		// Nothing says when the target was scraped but its other series.
		name: "series born at zero where there is no up",
		data: []livetest.Series{
			series("m_total code=200", every(from, until, 15*second, seven(1000))...),
			series("m_total code=500", every(65*second, until, 15*second, seven(3))...),
		},
		want: [][]float64{{28, 28, 21, 31, 56, 56}}, totals: []float64{168 + 59},
		// PromQL asks up alone; the first of the four scrapes of minute 1 has no predecessor.
		query: [][]float64{{28, 28, 28, 28, 49, 56}},
	})
	add(counterCase{
		// The target was down at the scrapes before, though another exporter under its name has
		// series: up decides.
		name: "series that comes back with its target",
		data: []livetest.Series{
			series("up", append(append(ups(from, 5*second),
				every(20*second, 50*second, 15*second, func(int) float64 { return 0 })...), ups(65*second, until)...)...),
			series("m_total code=200", every(from, until, 15*second, seven(1000))...),
			series("m_total code=500", every(65*second, until, 15*second, seven(3))...),
		},
		want: [][]float64{{28, 28, 21, 28, 56, 56}}, totals: []float64{168 + 56},
		query: [][]float64{{28, 28, 28, 28, 49, 56}},
	})
	add(counterCase{
		// One scrape without the series is not enough to know that it stood at 0.
		name: "series that appears one scrape after its target",
		data: []livetest.Series{
			series("up", ups(65*second, until)...),
			series("m_total", every(80*second, until, 15*second, seven(3))...),
		},
		want: [][]float64{{nan, nan, nan, nan, 21, 28}}, totals: []float64{49},
		query: [][]float64{{nan, nan, nan, nan, 14, 28}},
	})
	add(counterCase{
		// After a restart in place, with two failed scrapes, the label set is born again at 95 s.
		name: "born again after a restart",
		data: []livetest.Series{
			series("up", append(append(ups(from, 5*second),
				every(20*second, 35*second, 15*second, func(int) float64 { return 0 })...), ups(50*second, until)...)...),
			series("m_total", append(append(every(from, 5*second, 15*second, func(int) float64 { return 2 }),
				stale(20*second)), every(95*second, until, 15*second, func(int) float64 { return 2 })...)...),
		},
		read: Read{AbsentIsZero: true},
		want: [][]float64{{0, 0, 0, 0, 2, 0}}, totals: []float64{2},
		// The series was there within the hour, so PromQL does not follow its birth; it sees a gap.
		query: [][]float64{{0, 0, 0, nan, nan, 0}},
	})
	add(counterCase{
		// The exporter leaves the series out for a minute and shows it again: no birth.
		name: "hidden series is not born again",
		data: []livetest.Series{
			up, series("m_total", append(append(every(from, 5*second, 15*second, seven(1000)),
				stale(20*second)), every(80*second, until, 15*second, seven(2000))...)...),
		},
		// At 5 s the counter is 1000 + 7*80 = 1560; the 440 are between 5 and 80 s.
		want: [][]float64{{28, 28, 21, nan, 21, 28}}, totals: []float64{28*2 + 21 + 7 + 440 + 21 + 28},
		query: [][]float64{{28, 28, 28, nan, nan, 28}},
	})
	add(counterCase{
		// The same, but hidden for longer than the five minutes that other reads look back: the
		// 2000 are not of minute 0.
		name: "series hidden for ten minutes is not born again",
		data: []livetest.Series{
			up, series("m_total", append(append(every(from, -10*minute+5*second, 15*second, seven(1000)),
				stale(-10*minute+20*second)), every(65*second, until, 15*second, seven(2000))...)...),
		},
		read: Read{AbsentIsZero: true},
		// What it gained while it was hidden has its middle at -4:25, before the first step.
		want: [][]float64{{nan, nan, nan, nan, 28, 28}}, totals: []float64{28 + 28},
		query: [][]float64{{0, 0, 0, 0, 21, 28}},
	})
	add(counterCase{
		// shop-1 fails its scrapes in minutes -1 and 0; what it counted then is not to be had,
		// though shop-2 answers.
		name: "absent while its target is down",
		data: []livetest.Series{
			series("up", append(append(ups(from, -minute-10*second),
				every(-minute+5*second, 50*second, 15*second, func(int) float64 { return 0 })...), ups(65*second, until)...)...),
			series("up instance=shop-2:80", ups(from, until)...),
			series("m_total", every(95*second, until, 15*second, func(int) float64 { return 2 })...),
			series("m_total instance=shop-2:80", every(125*second, until, 15*second, func(int) float64 { return 4 })...),
		},
		read: Read{AbsentIsZero: true},
		// They are born in (80, 95] and in (110, 125], whose middle is 117.5 s.
		want: [][]float64{{0, 0, nan, nan, 6, 0}}, totals: []float64{6},
		// PromQL asks whether shop-1 was up before the minute.
		query: [][]float64{{0, 0, nan, nan, 0, 4}},
	})
	add(counterCase{
		name: "samples that are NaN are passed over",
		data: []livetest.Series{up, series("m_total", nanAt(80*second, every(from, until, 15*second, seven(1000)))...)},
		want: [][]float64{{28, 28, 21, 28, 28, 28}}, totals: []float64{168},
		query: [][]float64{{28, 28, 28, 28, 28, 28}},
	})
	histogram := func(le string, rise float64, from, until time.Duration, first float64) livetest.Series {
		return series("m_bucket le="+le, every(from, until, 15*second, func(i int) float64 { return first + rise*float64(i) })...)
	}
	add(counterCase{
		// Prometheus 2 wrote le="1", its successor "1.0"; the upgrade of the server is at 65 s.
		name: "one bucket spelled in two ways",
		data: []livetest.Series{
			up, histogram("+Inf", 7, from, until, 0), histogram("0.5", 3, from, until, 0),
			histogram("1", 5, from, 50*second, 0), histogram("1.0", 5, 65*second, until, 5*84),
		},
		read: Read{Kind: Buckets, Bounds: []float64{0.5, 1}},
		want: [][]float64{
			{12, 12, 9, 12, 12, 12},
			{20, 20, 15, 20, 20, 20},
			{28, 28, 21, 28, 28, 28},
		},
		totals: []float64{72, 120, 168},
		// PromQL loses the interval between the two spellings, 5.
		query: [][]float64{{12, 12, 12, 12, 12, 12}, {20, 20, 20, 20, 15, 20}, {28, 28, 28, 28, 28, 28}},
	})
	add(counterCase{
		// The bound 0.25 is new since 65 s, the others are older: the layout changed, and 0.25
		// counts nothing in the interval in which it appears.
		name: "bucket layout changed",
		data: []livetest.Series{
			up, histogram("+Inf", 7, from, until, 0), histogram("0.25", 2, 65*second, until, 100),
		},
		read: Read{Kind: Buckets, Bounds: []float64{0.25}},
		// Minute 1 holds the intervals (65, 80], (80, 95] and (95, 110] of 0.25, and (50, 65] has its
		// middle in minute 0.
		want:   [][]float64{{nan, nan, nan, nan, 8, 8}, {nan, nan, nan, nan, 28, 28}},
		totals: []float64{16, 168},
		query:  [][]float64{{nan, nan, nan, nan, nan, 8}, {nan, nan, nan, nan, nan, 28}},
	})
	add(counterCase{
		name: "gauge, mean over the series",
		data: []livetest.Series{
			series("m_total", every(from, until, 15*second, func(i int) float64 { return 1 + float64(i%4) })...),
			series("m_total instance=shop-2:80", every(from, until, 15*second, func(i int) float64 {
				if at := from + time.Duration(i)*15*second; at > 0 && at <= 60*second {
					return 11
				}
				return 5
			})...),
			series("m_total instance=shop-3:80", every(from, until, 15*second, func(int) float64 { return math.Inf(1) })...),
		},
		// The samples of a minute are 1, 2, 3, 4 at 5, 20, 35 and 50 s; the last is 4.
		read:  Read{Kind: Gauge},
		want:  [][]float64{{4.5, 4.5, 4.5, 7.5, 4.5, 4.5}},
		query: [][]float64{{4.5, 4.5, 4.5, 7.5, 4.5, 4.5}},
	})
	return cases
}

// nanAt makes the sample at a time NaN, as an application may report it.
func nanAt(at time.Duration, samples []livetest.Sample) []livetest.Sample {
	for i := range samples {
		if samples[i].T.Equal(t0.Add(at)) {
			samples[i].V = math.NaN()
		}
	}
	return samples
}

// complete fills in what every case has in common.
func (c counterCase) complete() Read {
	r := c.read
	r.Name, r.Metric = c.name, "m_total"
	if r.Kind == Buckets {
		r.Metric = "m_bucket"
	}
	r.Grid = telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6}
	if r.Kind != Gauge {
		r.Totals = r.Grid.Window()
	}
	return r
}

// check compares the only row of a result.
func (c counterCase) check(t *testing.T, got Result, want [][]float64, totals []float64) {
	t.Helper()
	if len(got.Counts.Rows) != 1 {
		t.Fatalf("%d rows, want 1", len(got.Counts.Rows))
	}
	row := got.Counts.Rows[0]
	if !sameMatrix(row.Steps, want) {
		t.Errorf("steps\n got %v\nwant %v", row.Steps, want)
	}
	if totals != nil && !slices.Equal(row.Totals, totals) {
		t.Errorf("totals %v, want %v", row.Totals, totals)
	}
}

func sameMatrix(a, b [][]float64) bool {
	return slices.EqualFunc(a, b, func(a, b []float64) bool {
		return slices.EqualFunc(a, b, func(a, b float64) bool { return a == b || a != a && b != b })
	})
}

// TestAbsentIsZeroWhereTheTargetWasScraped: a row is not missing because of a target that
// never had it, nor because one of its own is no longer there.
func TestAbsentIsZeroWhereTheTargetWasScraped(t *testing.T) {
	const from, until = -20*minute + 5*second, 10 * minute
	down := every(-minute+5*second, 50*second, 15*second, func(int) float64 { return 0 })
	two := func(int) float64 { return 2 }
	server := fakeServer{data: []livetest.Series{
		series("up", append(append(ups(from, -minute-10*second), down...), ups(65*second, until)...)...),
		series("up instance=shop-2:80", ups(from, until)...),
		series("up instance=shop-3:80", ups(from, -2*minute+5*second)...), // removed, not down
		series("m_total route=/one", every(95*second, until, 15*second, two)...),
		series("m_total route=/two instance=shop-2:80", every(95*second, until, 15*second, two)...),
		series("m_total route=/three instance=shop-3:80", append(every(from, -3*minute+5*second, 15*second, two), stale(-3*minute+20*second))...),
	}}
	r := Read{
		Name: "absent", Kind: Counter, Metric: "m_total", By: []string{"route"}, AbsentIsZero: true,
		Grid: telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6},
	}
	got, err := server.start(t, RemoteRead).Fetch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	want := map[telemetry.Endpoint][]float64{
		"/one":   {0, 0, nan, nan, 2, 0},
		"/two":   {0, 0, 0, 0, 2, 0},
		"/three": {0, 0, 0, 0, 0, 0},
	}
	for _, row := range got[0].Counts.Rows {
		if !sameMatrix(row.Steps, [][]float64{want[row.Endpoint]}) {
			t.Errorf("%s: steps %v, want %v", row.Endpoint, row.Steps, want[row.Endpoint])
		}
	}
	if len(got[0].Counts.Rows) != len(want) {
		t.Errorf("%d rows, want %d", len(got[0].Counts.Rows), len(want))
	}
}

func TestCountersByRemoteRead(t *testing.T) {
	variants := []struct {
		name   string
		server fakeServer
	}{
		{"XOR", fakeServer{}},
		{"XOR2", fakeServer{encoding: chunkenc.EncXOR2}},
		{"short chunks", fakeServer{perChunk: 7}},
		{"every chunk twice", fakeServer{twice: true}},
		{"last series first", fakeServer{backwards: true}},
	}
	for _, c := range counterCases() {
		for _, v := range variants {
			t.Run(fmt.Sprintf("%s/%s", c.name, v.name), func(t *testing.T) {
				v.server.data = c.data
				client := v.server.start(t, RemoteRead)
				got, err := client.Fetch(t.Context(), c.complete())
				if err != nil {
					t.Fatal(err)
				}
				c.check(t, got[0], c.want, c.totals)
				if got[0].Path != "remote-read" || got[0].Series == 0 || got[0].Samples == 0 {
					t.Errorf("result %+v", got[0])
				}
			})
		}
	}
}
