package baseline

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

var (
	nan  = math.NaN()
	inf  = math.Inf(1)
	noon = time.Date(2026, 3, 11, 12, 0, 0, 0, time.UTC)
)

// equal is slices.Equal with NaN equal to NaN.
func equal(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) })
}

func counts(first, length int, rows ...telemetry.CountRow) *telemetry.Counts {
	return &telemetry.Counts{
		Grid: telemetry.Grid{Origin: noon, Step: time.Minute, First: first, Len: length},
		Rows: rows,
	}
}

func row(e string, steps ...float64) telemetry.CountRow {
	return telemetry.CountRow{Endpoint: telemetry.NewEndpoint(e), Steps: [][]float64{steps}}
}

func TestChooseBounds(t *testing.T) {
	tests := []struct {
		name       string
		bounds     []float64
		totals     []float64
		quantile   float64
		tail, body float64
	}{ // by hand: shares beyond the bounds are in the comment
		{"nearest in log distance", []float64{.1, .25, .5, 1, inf}, []float64{500, 850, 970, 993, 1000}, .99, 1, .25}, // .5 .15 .03 .007
		{"a factor of just 5 is near enough", []float64{.1, 1, inf}, []float64{800, 950, 1000}, .99, 1, .1},           // .2 .05
		{"a factor above 5 is not", []float64{.1, 1, inf}, []float64{800, 949, 1000}, .99, 0, .1},                     // .2 .051
		{"nothing is beyond", []float64{.1, 1, inf}, []float64{1000, 1000, 1000}, .99, 0, 0},
		{"everything is beyond", []float64{.1, 1, inf}, []float64{0, 50, 1000}, .99, 0, 0},
		{"+Inf is no bound", []float64{inf}, []float64{1000}, .99, 0, 0},
		{"0 is no bound", []float64{0, 1, inf}, []float64{800, 990, 1000}, .99, 1, 0},
		{"tail keeps a bound that both want", []float64{.1, 1, inf}, []float64{900, 999, 1000}, .95, .1, 0}, // .1 .001
		{"another quantile", []float64{.1, .5, 1, inf}, []float64{780, 960, 999, 1000}, .95, .5, .1},        // .22 .04 .001
		{"no requests", []float64{.1, 1, inf}, []float64{0, 0, 0}, .99, 0, 0},
		{"no totals", []float64{.1, 1, inf}, nil, .99, 0, 0},
		{"no histogram", nil, []float64{10}, .99, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tail, body := ChooseBounds(telemetry.CountRow{Bounds: tt.bounds, Totals: tt.totals}, tt.quantile)
			if tail != tt.tail || body != tt.body {
				t.Errorf("ChooseBounds = %v, %v, want %v, %v", tail, body, tt.tail, tt.body)
			}
		})
	}
}

func TestTracksOfHistogram(t *testing.T) {
	a, b, fresh := telemetry.NewEndpoint("a"), telemetry.NewEndpoint("b"), telemetry.NewEndpoint("c")
	history := counts(-4, 3, // steps -4, -3, -2; only the bounds that are needed
		telemetry.CountRow{Endpoint: a, Bounds: []float64{.1, 1, inf}, Steps: [][]float64{{6, 7, nan}, {9, 9, nan}, {10, 10, nan}}},
		telemetry.CountRow{Endpoint: b, Bounds: []float64{inf}, Steps: [][]float64{{1, 1, 1}}},
	)
	recent := counts(-3, 4, // steps -3 to 0, all bounds
		telemetry.CountRow{
			Endpoint: a, Bounds: []float64{.1, .5, 1, inf},
			Steps: [][]float64{{5, 5, 5, 0}, {6, 6, 6, 0}, {8, 8, 19, 0}, {10, 10, 20, 0}},
		},
		telemetry.CountRow{Endpoint: fresh, Bounds: []float64{.1, inf}, Steps: [][]float64{{0, 0, 0, 1}, {0, 0, 0, 2}}},
	)
	tracks, lacks := Tracks(2, rule.Signal{Kind: rule.Histogram}, map[telemetry.Endpoint]Bounds{a: {Tail: 1, Body: .1}, b: {}},
		[]*telemetry.Counts{history, recent}, nil, 0)
	want := []telemetry.Track{
		{Metric: telemetry.Tail, Bound: 1, Events: telemetry.Values{1, 2, 2, 1, 0}, Trials: telemetry.Values{10, 10, 10, 20, 0}},
		{Metric: telemetry.Body, Bound: .1, Events: telemetry.Values{4, 5, 5, 15, 0}, Trials: telemetry.Values{10, 10, 10, 20, 0}},
	}
	wantTracks(t, tracks, want)
	for i, track := range tracks {
		if track.Endpoint != a || track.Signal != 2 || track.First != -4 || track.Bound != want[i].Bound {
			t.Errorf("track %d is %v, signal %d, bound %v, from %d", i, track.Endpoint, track.Signal, track.Bound, track.First)
		}
	}
	if !slices.Equal(lacks, []Lack{
		{Endpoint: b, Signal: 2, Metric: telemetry.Tail, Of: "buckets"},
		{Endpoint: b, Signal: 2, Metric: telemetry.Body, Of: "buckets"},
		{Endpoint: fresh, Signal: 2, Metric: telemetry.Tail, Of: "history"},
		{Endpoint: fresh, Signal: 2, Metric: telemetry.Body, Of: "history"},
	}) {
		t.Errorf("lacks %+v", lacks)
	}
}

// A read whose bucket layout changed has no data for the bound that history chose.
func TestTracksOfChangedLayout(t *testing.T) {
	a := telemetry.NewEndpoint("a")
	tracks, _ := Tracks(0, rule.Signal{Kind: rule.Histogram}, map[telemetry.Endpoint]Bounds{a: {Tail: 1}}, []*telemetry.Counts{
		counts(-2, 1, telemetry.CountRow{Endpoint: a, Bounds: []float64{1, inf}, Steps: [][]float64{{9}, {10}}}),
		counts(-1, 2, telemetry.CountRow{Endpoint: a, Bounds: []float64{2, inf}, Steps: [][]float64{{9, 9}, {10, 10}}}),
	}, nil, 0)
	wantTracks(t, tracks, []telemetry.Track{
		{Metric: telemetry.Tail, Events: telemetry.Values{1, nan, nan}, Trials: telemetry.Values{10, nan, nan}},
	})
}

func TestTracksOfRatio(t *testing.T) {
	ratio := rule.Signal{Kind: rule.Ratio}
	tests := []struct {
		name    string
		of, per []*telemetry.Counts
		want    []telemetry.Track
		lacks   int
	}{
		{
			name:  "no value before the first event is no event, afterwards it is missing",
			of:    []*telemetry.Counts{counts(-3, 5, row("a", nan, nan, 3, nan, 4), row("b", 1, 1, 1, 1, 1))},
			per:   []*telemetry.Counts{counts(-3, 5, row("a", 10, nan, 10, 10, 10))},
			want:  []telemetry.Track{{Events: telemetry.Values{0, nan, 3, nan, 4}, Trials: telemetry.Values{10, nan, 10, nan, 10}}},
			lacks: 1,
		},
		{
			name: "before any endpoint was counted nothing is known",
			of:   []*telemetry.Counts{counts(-5, 2), counts(-3, 4, row("a", nan, nan, 3, nan), row("b", nan, 1, nan, 1))},
			per:  []*telemetry.Counts{counts(-5, 6, row("a", 10, 10, 10, 10, 10, 10), row("b", 5, 5, 5, 5, 5, 5))},
			want: []telemetry.Track{
				{Events: telemetry.Values{nan, nan, nan, 0, 3, nan}, Trials: telemetry.Values{nan, nan, nan, 10, 10, nan}},
				{Events: telemetry.Values{nan, nan, nan, 1, nan, 1}, Trials: telemetry.Values{nan, nan, nan, 5, nan, 5}},
			},
		},
		{
			name: "a counter that comes with the rollout is new",
			of:   []*telemetry.Counts{counts(-4, 3), counts(-2, 3, row("a", nan, 2, 5))},
			per:  []*telemetry.Counts{counts(-4, 3, row("a", 10, 10, 10)), counts(-2, 3, row("a", 10, 10, 10))},
			want: []telemetry.Track{{Events: telemetry.Values{0, 0, 0, 2, 5}, Trials: telemetry.Values{10, 10, 10, 10, 10}, New: true}},
		},
		{
			name: "a metric with series and no values makes no track",
			of:   []*telemetry.Counts{counts(-1, 2, row("a", nan, nan))},
			per:  []*telemetry.Counts{counts(-1, 2, row("a", 10, 11))},
		},
		{
			name: "an endpoint without events in a metric that exists has none",
			of:   []*telemetry.Counts{counts(-3, 2, row("b", 1, 1))},
			per:  []*telemetry.Counts{counts(-3, 2, row("a", 10, 11), row("b", 5, 5))},
			want: []telemetry.Track{
				{Events: telemetry.Values{0, 0}, Trials: telemetry.Values{10, 11}},
				{Events: telemetry.Values{1, 1}, Trials: telemetry.Values{5, 5}},
			},
		},
		{
			name:  "events that begin after the upgrade",
			of:    []*telemetry.Counts{counts(-2, 2, row("b", 1, 1)), counts(-1, 3, row("a", nan, 2, 5))},
			per:   []*telemetry.Counts{counts(-2, 2, row("a", 10, 10)), counts(-1, 3, row("a", 10, 10, 10))},
			want:  []telemetry.Track{{Events: telemetry.Values{0, 0, 2, 5}, Trials: telemetry.Values{10, 10, 10, 10}}},
			lacks: 1,
		},
		{
			name: "a later read without the endpoint has no events",
			of:   []*telemetry.Counts{counts(-2, 2, row("a", 7, 7)), counts(-1, 2)},
			per:  []*telemetry.Counts{counts(-2, 2, row("a", 10, 10)), counts(-1, 2, row("a", 10, 10))},
			want: []telemetry.Track{{Events: telemetry.Values{7, 0, 0}, Trials: telemetry.Values{10, 10, 10}}},
		},
		{
			name: "steps that no read of the events covers are missing",
			of:   []*telemetry.Counts{counts(-2, 1, row("a", 7))},
			per:  []*telemetry.Counts{counts(-3, 3, row("a", 10, 10, 10))},
			want: []telemetry.Track{{Events: telemetry.Values{nan, 7, nan}, Trials: telemetry.Values{nan, 10, nan}}},
		},
		{
			name:  "events without the series of trials are a lack",
			of:    []*telemetry.Counts{counts(0, 2, row("a", 1, 1))},
			per:   []*telemetry.Counts{counts(0, 2)},
			lacks: 1,
		},
		{
			name: "a metric that no endpoint has makes no track",
			of:   []*telemetry.Counts{counts(0, 2)},
			per:  []*telemetry.Counts{counts(0, 2, row("a", 10, 11))},
		},
		{
			name: "an endpoint that was never measured makes no track",
			of:   []*telemetry.Counts{counts(0, 2, row("a", 1, 1))},
			per:  []*telemetry.Counts{counts(0, 2, row("a", nan, nan))},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tracks, lacks := Tracks(0, ratio, nil, tt.of, tt.per, -1)
			for i := range tt.want {
				tt.want[i].Metric = telemetry.Retry
			}
			wantTracks(t, tracks, tt.want)
			if len(lacks) != tt.lacks || tt.lacks == 1 && lacks[0].Of != "requests" {
				t.Errorf("lacks %+v, want %d of requests", lacks, tt.lacks)
			}
		})
	}
}

func TestTracksOfGauge(t *testing.T) {
	tracks, _ := Tracks(0, rule.Signal{Kind: rule.Gauge}, nil,
		[]*telemetry.Counts{counts(-1, 5, row("a", .5, 0, -1, nan, inf), row("b", 0, 0, 0, 0, 0))}, nil, 0)
	wantTracks(t, tracks, []telemetry.Track{{Metric: telemetry.Level, Events: telemetry.Values{.5, nan, nan, nan, nan}}})
}

func TestTracksPanicsOnTwoGrids(t *testing.T) {
	other := counts(0, 1, row("a", 1))
	other.Grid.Step = time.Second
	defer func() {
		if recover() == nil {
			t.Error("reads on different grids were joined")
		}
	}()
	Tracks(0, rule.Signal{Kind: rule.Gauge}, nil, []*telemetry.Counts{counts(0, 1, row("a", 1)), other}, nil, 0)
}

// One more slow request never lowers the events of a step.
func TestSlowRequestsNeverLowerEvents(t *testing.T) {
	a := telemetry.NewEndpoint("a")
	bounds := []float64{.1, .5, 1, inf}
	read := func(slower int) []telemetry.Track {
		steps := [][]float64{{5}, {6}, {8}, {10}}
		for i := slower; i < len(steps); i++ {
			steps[i][0]++
		}
		tracks, _ := Tracks(0, rule.Signal{Kind: rule.Histogram}, map[telemetry.Endpoint]Bounds{a: {Tail: 1, Body: .1}},
			[]*telemetry.Counts{counts(0, 1, telemetry.CountRow{Endpoint: a, Bounds: bounds, Steps: steps})}, nil, 0)
		return tracks
	}
	for i, before := range read(len(bounds)) { // len(bounds): no request added
		for bucket := range bounds {
			after := read(bucket)[i]
			added := after.Events[0] - before.Events[0]
			if beyond := bounds[bucket] > before.Bound; added < 0 || beyond != (added == 1) {
				t.Errorf("%s: one request up to %v s adds %v events beyond %v s", before.Metric, bounds[bucket], added, before.Bound)
			}
		}
	}
}

func TestSumBuckets(t *testing.T) {
	g := Geometry{Before: 2, Gap: 1, Guard: 1, FirstLook: 2, Horizon: 3}
	c := counts(-4, 8, // baseline -3, -2; post 1, 2
		telemetry.CountRow{Endpoint: telemetry.NewEndpoint("bare"), Bounds: []float64{inf}, Steps: [][]float64{{1, 1, 1, 1, 1, 1, 1, 1}}},
		telemetry.CountRow{
			Endpoint: telemetry.NewEndpoint("h"), Bounds: []float64{1, inf},
			Steps: [][]float64{{100, 1, 2, 100, 100, 3, nan, 100}, {100, 2, 4, 100, 100, 5, nan, 100}},
		},
	)
	got := SumBuckets(1, c, g, 9)
	if len(got) != 2 || got[1].Signal != 1 || got[1].Endpoint != "h" || !equal(got[1].Bounds, []float64{1}) ||
		!equal(got[1].Before, []float64{3, 6}) || !equal(got[1].After, []float64{3, 5}) {
		t.Errorf("SumBuckets = %+v, want [1] [3 6] [3 5] second", got)
	}
	if got = SumBuckets(1, c, g, 1); !equal(got[1].After, []float64{0, 0}) {
		t.Errorf("before the first step of the post window it holds %v", got[1].After)
	}
	if got[1].Exponential {
		t.Error("classic buckets are said to be exponential")
	}
	// Four requests in (1, 4]: the median of an exponential bucket is 2, of a classic one 2.5.
	c.Rows[1] = telemetry.CountRow{
		Endpoint: telemetry.NewEndpoint("h"), Bounds: []float64{1, 4, inf}, Exponential: true,
		Steps: [][]float64{{0, 0, 0, 0, 0, 0, 0, 0}, {0, 1, 3, 0, 0, 3, 0, 0}, {0, 1, 3, 0, 0, 3, 0, 0}},
	}
	if v, _ := SumBuckets(1, c, g, 9)[1].quantile(0.5, false); math.Abs(v-2) > 1e-12 {
		t.Errorf("median of an exponential bucket %v, want 2", v)
	}
	c.Rows[1].Exponential = false
	if v, _ := SumBuckets(1, c, g, 9)[1].quantile(0.5, false); v != 2.5 {
		t.Errorf("median of a classic bucket %v, want 2.5", v)
	}
}

func wantTracks(t *testing.T, got, want []telemetry.Track) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d tracks, want %d: %+v", len(got), len(want), got)
	}
	for i := range want {
		if got[i].Metric != want[i].Metric || got[i].New != want[i].New || !equal(got[i].Events, want[i].Events) || !equal(got[i].Trials, want[i].Trials) {
			t.Errorf("track %d is %s %v of %v, want %s %v of %v", i, got[i].Metric, got[i].Events, got[i].Trials,
				want[i].Metric, want[i].Events, want[i].Trials)
		}
	}
}
