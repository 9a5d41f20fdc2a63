package query

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

var inf = math.Inf(1)

// A layout is the buckets of a native histogram and what one scrape adds to them.
type layout struct {
	schema    int32
	custom    []float64
	threshold float64 // of the zero bucket
	zero      int64   // per scrape
	first     int32   // index of rise[0]
	rise      []int64 // per scrape
}

// at is the histogram after n scrapes.
func (l layout) at(n int) *histogram.Histogram {
	h := &histogram.Histogram{
		Schema: l.schema, CustomValues: l.custom, ZeroThreshold: l.threshold,
		ZeroCount: uint64(l.zero * int64(n)), Count: uint64(l.zero * int64(n)), Sum: float64(n),
		PositiveSpans: []histogram.Span{{Offset: l.first, Length: uint32(len(l.rise))}},
	}
	last := int64(0)
	for _, r := range l.rise {
		h.PositiveBuckets = append(h.PositiveBuckets, r*int64(n)-last)
		last = r * int64(n)
		h.Count += uint64(last)
	}
	return h
}

// grow makes a scrape every 15 s from from to until, both included; the first is at(n).
func (l layout) grow(from, until time.Duration, n int) []livetest.HistogramSample {
	var out []livetest.HistogramSample
	for at := from; at <= until; at += 15 * second {
		out = append(out, livetest.HistogramSample{T: t0.Add(at), H: l.at(n)})
		n++
	}
	return out
}

func staleHistogram(at time.Duration) livetest.HistogramSample {
	return livetest.HistogramSample{T: t0.Add(at), H: &histogram.Histogram{Sum: livetest.StaleMarker()}}
}

func nativeSeries(text string, samples ...[]livetest.HistogramSample) livetest.Series {
	s := series(text)
	s.Histograms = slices.Concat(samples...)
	return s
}

// A nativeCase is a counterCase of native histograms. One scrape adds a unit, the numbers of
// cum; a whole minute is 4 units, minute -1 is 3, the total of the six minutes is 24.
type nativeCase struct {
	name   string
	data   []livetest.Series
	read   Read // Bounds and Keep; the rest is filled in
	bounds []float64
	cum    []float64 // of a unit, by hand
	steps  []float64 // units
	total  float64   // units
	note   string

	// What a real server makes of it, where that is something else.
	liveSteps []float64
	liveTotal float64
}

func (c nativeCase) complete() Read {
	r := c.read
	r.Name, r.Metric, r.Kind, r.Native = c.name, "m_seconds", Buckets, true
	r.Grid = telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6}
	r.Totals = r.Grid.Window()
	return r
}

func (c nativeCase) check(t *testing.T, got Result) {
	t.Helper()
	if len(got.Counts.Rows) != 1 {
		t.Fatalf("%d rows, want 1", len(got.Counts.Rows))
	}
	row := got.Counts.Rows[0]
	near := func(a, b float64) bool { return a == b || math.Abs(a-b) < 1e-12 }
	if !slices.EqualFunc(row.Bounds, c.bounds, near) {
		t.Fatalf("bounds %v, want %v", row.Bounds, c.bounds)
	}
	var steps [][]float64
	var totals []float64
	for _, one := range c.cum {
		var line []float64
		for _, n := range c.steps {
			line = append(line, n*one)
		}
		steps, totals = append(steps, line), append(totals, c.total*one)
	}
	if !sameMatrix(row.Steps, steps) {
		t.Errorf("steps\n got %v\nwant %v", row.Steps, steps)
	}
	if !slices.Equal(row.Totals, totals) {
		t.Errorf("totals %v, want %v", row.Totals, totals)
	}
	if notes := strings.Join(got.Notes, "\n"); c.note == "" && notes != "" || !strings.Contains(notes, c.note) {
		t.Errorf("notes %q, want %q", notes, c.note)
	}
	if exponential := !strings.Contains(c.name, "custom"); row.Exponential != exponential {
		t.Errorf("exponential %v, want %v", row.Exponential, exponential)
	}
}

func nativeCases() []nativeCase {
	from, until := -20*minute+5*second, 10*minute
	up := series("up", ups(from, until)...)
	whole := []float64{4, 4, 3, 4, 4, 4}
	// Schema 1 has the bounds 2^(i/2): index 0 ends at 1, index 2 at 2.
	exponential := layout{schema: 1, threshold: 0.001, zero: 1, first: 0, rise: []int64{2, 0, 3}}
	expBounds := []float64{math.Sqrt(0.5), 1, math.Sqrt2, 2, inf}
	expCum := []float64{1, 3, 3, 6, 6}
	custom := layout{schema: histogram.CustomBucketsSchema, custom: []float64{0.1, 0.5, 1}, rise: []int64{1, 2, 3, 1}}
	customBounds, customCum := []float64{0.1, 0.5, 1, inf}, []float64{1, 3, 6, 7}
	one := func(ss ...[]livetest.HistogramSample) []livetest.Series {
		return []livetest.Series{up, nativeSeries("m_seconds", ss...)}
	}
	overtaken := exponential.grow(65*second, until, 1000)
	overtaken[0].H.CounterResetHint = histogram.CounterReset
	return []nativeCase{
		{
			name: "exponential", data: one(exponential.grow(from, until, 100)),
			bounds: expBounds, cum: expCum, steps: whole, total: 24,
		},
		{
			name: "custom", data: one(custom.grow(from, until, 100)),
			bounds: customBounds, cum: customCum, steps: whole, total: 24,
		},
		{
			// The scrape at 65 s finds two units since the restart: (50, 65] is in minute 0.
			name: "restart in place", data: one(exponential.grow(from, 50*second, 100), exponential.grow(65*second, until, 2)),
			bounds: expBounds, cum: expCum, steps: []float64{4, 4, 3, 3 + 2, 4, 4}, total: 25,
		},
		{
			name: "custom, restart in place", data: one(custom.grow(from, 50*second, 100), custom.grow(65*second, until, 2)),
			bounds: customBounds, cum: customCum, steps: []float64{4, 4, 3, 3 + 2, 4, 4}, total: 25,
		},
		{
			// 1000 units are more than the 183 before, and only the header says that they are new.
			name: "restart that overtakes", data: one(exponential.grow(from, 50*second, 100), overtaken),
			bounds: expBounds, cum: expCum, steps: []float64{4, 4, 3, 3 + 1000, 4, 4}, total: 23 + 1000,
			// The server hands over no such header, and 1000 - 183 are 817.
			liveSteps: []float64{4, 4, 3, 3 + 817, 4, 4}, liveTotal: 23 + 817,
		},
		{
			// Scrapes at 20, 35 and 50 s are lost: what happened then is in the total alone.
			name: "scrape gap", data: one(exponential.grow(from, 5*second, 100), exponential.grow(65*second, until, 184)),
			bounds: expBounds, cum: expCum, steps: []float64{4, 4, 3, nan, 4, 4}, total: 24,
		},
		{
			// 100 + 80 units at 5 s, 185 at 80 s: it was hidden, and did not begin anew.
			name: "stale marker, then more",
			data: one(exponential.grow(from, 5*second, 100), []livetest.HistogramSample{staleHistogram(20 * second)},
				exponential.grow(80*second, until, 185)),
			bounds: expBounds, cum: expCum, steps: []float64{4, 4, 3, nan, 3, 4}, total: 24,
		},
		{
			name: "custom, stale marker, then more",
			data: one(custom.grow(from, 5*second, 100), []livetest.HistogramSample{staleHistogram(20 * second)},
				custom.grow(80*second, until, 185)),
			bounds: customBounds, cum: customCum, steps: []float64{4, 4, 3, nan, 3, 4}, total: 24,
		},
		{
			// Its target was scraped without it: it stood at 0, so the 3 units happened in (50, 65].
			name: "born in the middle", data: one(exponential.grow(65*second, until, 3)),
			bounds: expBounds, cum: expCum, steps: []float64{nan, nan, nan, 3, 4, 4}, total: 3 + 8,
		},
		{
			// Schema 2 has the bounds 2^(i/4); index 1 and 3 are part of 1 and 2 of schema 1.
			name: "schema changes",
			data: one(layout{schema: 2, first: 1, rise: []int64{2, 0, 3}}.grow(from, 50*second, 100),
				layout{schema: 1, first: 1, rise: []int64{2, 3}}.grow(65*second, until, 184)),
			bounds: []float64{1, math.Sqrt2, 2, inf}, cum: []float64{0, 2, 5, 5}, steps: whole, total: 24,
			note: "buckets changed:  is read at its coarsest resolution, schema 1",
		},
		{
			name: "schemas of two instances",
			data: []livetest.Series{
				up, nativeSeries("m_seconds", layout{schema: 1, first: 1, rise: []int64{2, 3}}.grow(from, until, 100)),
				nativeSeries("m_seconds instance=shop-2:80", layout{schema: 2, first: 1, rise: []int64{2, 0, 3}}.grow(from, until, 100)),
			},
			bounds: []float64{1, math.Sqrt2, 2, inf}, cum: []float64{0, 4, 10, 10}, steps: whole, total: 24, note: "schema 1",
		},
		{
			// From 65 s on the zero bucket reaches up to 1 and holds what index 0 held.
			name: "zero bucket widens",
			data: one(exponential.grow(from, 50*second, 100),
				layout{schema: 1, threshold: 1, zero: 3, first: 2, rise: []int64{3}}.grow(65*second, until, 184)),
			bounds: []float64{1, math.Sqrt2, 2, inf}, cum: []float64{3, 3, 6, 6}, steps: whole, total: 24,
		},
		{
			// (0.1, 1] had 2 and 3, then 1 and 4.
			name: "custom bounds change",
			data: one(custom.grow(from, 50*second, 100),
				layout{schema: custom.schema, custom: []float64{0.1, 0.25, 1}, rise: []int64{1, 1, 4, 1}}.grow(65*second, until, 184)),
			bounds: []float64{0.1, 1, inf}, cum: []float64{1, 6, 7}, steps: whole, total: 24,
			note: "buckets changed:  has 2 of 3 bounds throughout",
		},
		{
			name: "custom bounds of two instances, and exponential ones",
			data: []livetest.Series{
				up, nativeSeries("m_seconds", custom.grow(from, until, 100)),
				nativeSeries("m_seconds instance=shop-2:80", exponential.grow(from, until, 100)),
			},
			bounds: []float64{inf}, cum: []float64{13}, steps: whole, total: 24, note: "no bounds in common",
		},
		{
			// 1.3 is no edge; up to 1/2 there was nothing but the zero bucket.
			name: "chosen bounds", data: one(exponential.grow(from, until, 100)),
			read:   Read{Bounds: []float64{0.5, 1.3, math.Sqrt2, 4}},
			bounds: []float64{0.5, math.Sqrt2, 4, inf}, cum: []float64{1, 3, 6, 6}, steps: whole, total: 24,
		},
		{
			// 2^(1/4) is an edge of schema 2 and none of schema 1.
			name: "chosen bounds, and the schema changes",
			data: one(layout{schema: 2, first: 1, rise: []int64{2, 0, 3}}.grow(from, 50*second, 100),
				layout{schema: 1, first: 1, rise: []int64{2, 3}}.grow(65*second, until, 184)),
			read:   Read{Bounds: []float64{math.Exp2(0.25), math.Sqrt2, 2}},
			bounds: []float64{math.Sqrt2, 2, inf}, cum: []float64{2, 5, 5}, steps: whole, total: 24, note: "schema 1",
		},
		{
			name: "custom, chosen bounds", data: one(custom.grow(from, until, 100)),
			read:   Read{Bounds: []float64{0.25, 0.5}},
			bounds: []float64{0.5, inf}, cum: []float64{3, 7}, steps: whole, total: 24,
		},
		{
			name: "kept bounds", data: one(layout{schema: 1, first: 0, rise: []int64{2}}.grow(from, until, 100)),
			read:   Read{Keep: []float64{0.25, 1.3, 8}},
			bounds: []float64{0.25, math.Sqrt(0.5), 1, 8, inf}, cum: []float64{0, 0, 2, 2, 2}, steps: whole, total: 24,
		},
	}
}

func TestNativeHistogramsByRemoteRead(t *testing.T) {
	variants := []struct {
		name   string
		server fakeServer
	}{
		{"integers", fakeServer{}},
		{"floats", fakeServer{floats: true}},
		{"integers with starts", fakeServer{starts: true}},
		{"floats with starts", fakeServer{floats: true, starts: true}},
		{"short chunks", fakeServer{perChunk: 7}},
		{"every chunk twice", fakeServer{twice: true}},
		{"last series first", fakeServer{backwards: true}},
	}
	for _, c := range nativeCases() {
		for _, v := range variants {
			t.Run(fmt.Sprintf("%s/%s", c.name, v.name), func(t *testing.T) {
				v.server.data = c.data
				got, err := v.server.start(t, RemoteRead).Fetch(t.Context(), c.complete())
				if err != nil {
					t.Fatal(err)
				}
				c.check(t, got[0])
			})
		}
	}
}

// A restart after which one bucket gained more than all had: the count rises, and the bucket
// that fell tells.
func TestNativeRestartThatOneBucketBetrays(t *testing.T) {
	from, until := -20*minute+5*second, 10*minute
	before := layout{schema: 1, first: 0, rise: []int64{2, 0, 3}}
	after := layout{schema: 1, first: 2, rise: []int64{1000}}
	f := &fakeServer{data: []livetest.Series{
		nativeSeries("m_seconds", before.grow(from, 50*second, 100), after.grow(65*second, until, 1)),
	}}
	c := nativeCase{name: "betrayed"}
	got, err := f.start(t, RemoteRead).Fetch(t.Context(), c.complete())
	if err != nil {
		t.Fatal(err)
	}
	// Up to 1 it is 2 a scrape until 50 s; up to 2 it is 5, and from (50, 65] on 1000.
	low, all := []float64{8, 8, 6, 6, 0, 0}, []float64{20, 20, 15, 15 + 1000, 4000, 4000}
	row := got[0].Counts.Rows[0]
	if want := [][]float64{{0, 0, 0, 0, 0, 0}, low, low, all, all}; !sameMatrix(row.Steps, want) {
		t.Errorf("steps\n got %v\nwant %v", row.Steps, want)
	}
	if want := []float64{0, 30, 30, 75 + 9000, 75 + 9000}; !slices.Equal(row.Totals, want) {
		t.Errorf("totals %v, want %v", row.Totals, want)
	}
}

func TestNativeRefusals(t *testing.T) {
	from, until := -20*minute+5*second, 10*minute
	plain := layout{schema: 1, first: 0, rise: []int64{2, 0, 3}}
	read := nativeCase{name: "refused"}.complete()
	fetch := func(t *testing.T, mode Mode, r Read, data ...livetest.Series) (Result, error) {
		t.Helper()
		f := &fakeServer{data: data}
		got, err := f.start(t, mode).Fetch(t.Context(), r)
		if err != nil {
			return Result{}, err
		}
		return got[0], nil
	}
	refused := func(t *testing.T, err error, word string) {
		t.Helper()
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v, want one that says %q", err, word)
		}
	}
	t.Run("values below 0", func(t *testing.T) {
		samples := plain.grow(from, until, 100)
		for _, x := range samples {
			x.H.NegativeSpans, x.H.NegativeBuckets = []histogram.Span{{Offset: 1, Length: 1}}, []int64{4}
			x.H.Count += 4
		}
		_, err := fetch(t, RemoteRead, read, nativeSeries("m_seconds", samples))
		refused(t, err, "values below 0")
	})
	t.Run("gauge", func(t *testing.T) {
		samples := plain.grow(from, until, 100)
		for _, x := range samples {
			x.H.CounterResetHint = histogram.GaugeType
		}
		_, err := fetch(t, RemoteRead, read, nativeSeries("m_seconds", samples))
		refused(t, err, "gauge")
	})
	t.Run("by PromQL", func(t *testing.T) {
		_, err := fetch(t, PromQL, read)
		refused(t, err, "remote read")
	})
	t.Run("where floats are wanted", func(t *testing.T) {
		r := read
		r.Native, r.Kind = false, Counter
		_, err := fetch(t, RemoteRead, r, nativeSeries("m_seconds", plain.grow(from, until, 100)))
		refused(t, err, "native histogram")
	})
	t.Run("floats are left out", func(t *testing.T) {
		got, err := fetch(t, RemoteRead, read, series("m_seconds", every(from, until, 15*second, seven(1))...))
		if err != nil || len(got.Counts.Rows) != 0 || !slices.Equal(got.Notes, []string{"1 series of m_seconds are no native histograms and were left out"}) {
			t.Errorf("rows %v, notes %q, %v", got.Counts.Rows, got.Notes, err)
		}
	})
}

func TestDamagedHistograms(t *testing.T) {
	buckets := func(schema int32, spans ...histogram.Span) *histogram.FloatHistogram {
		return &histogram.FloatHistogram{Schema: schema, PositiveSpans: spans, PositiveBuckets: []float64{1, 2}, Count: 3}
	}
	custom := buckets(histogram.CustomBucketsSchema, histogram.Span{Length: 2})
	custom.CustomValues = []float64{2, 1}
	for name, tt := range map[string]struct {
		h       *histogram.FloatHistogram
		damaged bool
	}{
		"whole":                      {buckets(3, histogram.Span{Offset: -8*1074 + 2, Length: 2}), false},
		"more spans than buckets":    {buckets(3, histogram.Span{Length: 3}), true},
		"a bucket beyond all powers": {buckets(3, histogram.Span{Length: 1}, histogram.Span{Offset: 1 << 30, Length: 1}), true},
		"a bucket below all powers":  {buckets(0, histogram.Span{Offset: -1 << 30, Length: 2}), true},
		"custom bounds that descend": {custom, true},
	} {
		if err := damaged(tt.h); (err != nil) != tt.damaged || err != nil && !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The same edge is the same number in every schema, and a power of two in all.
func TestExponentialBounds(t *testing.T) {
	for schema := int32(-4); schema <= 8; schema++ {
		for index := int32(-300); index <= 300; index++ {
			b := boundOf(index, schema)
			if want := math.Exp2(math.Ldexp(float64(index), -int(schema))); b > 1e-300 && math.Abs(b/want-1) > 1e-14 {
				t.Fatalf("bound %d of schema %d is %v, want %v", index, schema, b, want)
			}
			if b == 0 || math.IsInf(b, 1) {
				continue
			}
			if got, ok := indexOf(b, schema); !ok || got != index {
				t.Fatalf("index of %v in schema %d is %d %v, want %d", b, schema, got, ok, index)
			}
			if schema < 8 && boundOf(2*index, schema+1) != b {
				t.Fatalf("bound %d of schema %d is another number in schema %d", index, schema, schema+1)
			}
			if coarse := coarser(index, schema, -4); schema > -4 && (boundOf(coarse, -4) < b || coarse > -4*1000 && boundOf(coarse-1, -4) >= b) {
				t.Fatalf("bucket %d of schema %d, up to %v, is in %d of schema -4", index, schema, b, coarse)
			}
		}
	}
}

// BenchmarkNative decodes and folds an hour of 200 series (100 endpoints of two instances) with 60
// exponential buckets each, 48,000 histograms: every bucket in minutes, four bounds in
// minutes, and totals.
func BenchmarkNative(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	server := &fakeServer{}
	var body, message []byte
	for endpoint := range 100 {
		for instance := range 2 {
			counts := make([]int64, 60)
			s := nativeSeries(fmt.Sprintf("m_seconds route=/r%d instance=i%d", endpoint, instance))
			for at := -time.Hour; at < 0; at += 15 * second {
				h := layout{schema: 3, threshold: 1e-9, first: -48, rise: counts}.at(1)
				s.Histograms = append(s.Histograms, livetest.HistogramSample{T: t0.Add(at), H: h})
				for range 150 {
					i := int(30 + 8*rng.NormFloat64())
					counts[min(max(i, 0), len(counts)-1)]++
				}
			}
			message = append(message, slices.Concat(server.messages(s, 0, 1<<60)...)...)
			if len(message) > 1<<20-1<<16 {
				body, message = append(body, frame(message)...), message[:0]
			}
		}
	}
	body = append(body, frame(message)...)
	grid := telemetry.Grid{Origin: t0, Step: minute, First: -60, Len: 60}
	for _, bb := range []struct {
		name string
		read Read
	}{
		{"all", Read{Grid: grid}},
		{"chosen", Read{Grid: grid, Bounds: []float64{0.25, 0.5, 1, 2}}},
		{"totals", Read{Totals: grid.Window()}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := bb.read
			r.Kind, r.Native, r.By = Buckets, true, []string{"route"}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				f := newFold(r)
				if _, err := decodeStream(bytes.NewReader(body), f, func() {}); err != nil {
					b.Fatal(err)
				}
				f.settle()
				if counts, _ := f.counts(nil); len(counts.Rows) != 100 {
					b.Fatalf("%d rows", len(counts.Rows))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/48000, "ns/histogram")
		})
	}
}

// Servers that are not Prometheus, or an old one: with native histograms or without, with
// remote read or without.
func TestNativeHistogramsElsewhere(t *testing.T) {
	r := &rule.Rule{Signals: []rule.Signal{{Name: "latency", Kind: rule.Histogram, Metric: "m_seconds"}}}
	w := telemetry.Window{Start: t0.Add(-time.Hour), End: t0}
	for _, tt := range []struct {
		name    string
		refusal int // of histogram_count
		series  string
		fails   bool // no refusal, but no answer
		asked   int  // requests
	}{
		{name: "classic buckets only", series: `[]`, asked: 1},
		{name: "an unknown function is a bad query", series: `[{"__name__":"m_seconds"}]`, refusal: 400, asked: 2},
		{name: "or an unprocessable one", series: `[{"__name__":"m_seconds"}]`, refusal: 422, asked: 2},
		{name: "both, and no remote read", series: `[{"__name__":"m_seconds"}]`, asked: 4},
		{name: "an answer that fails is no answer", series: `[{"__name__":"m_seconds"}]`, refusal: 500, fails: true, asked: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				switch expr := r.FormValue("query"); {
				case r.URL.Path == "/api/v1/series":
					fmt.Fprintf(w, `{"status":"success","data":%s}`, tt.series)
				case r.URL.Path != "/api/v1/query_range":
					http.NotFound(w, r)
				case tt.refusal != 0 && strings.Contains(expr, "histogram_count"):
					http.Error(w, `{"status":"error","error":"unknown function"}`, tt.refusal)
				default:
					fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[%d,"2"]]}]}}`, t0.Unix())
				}
			}))
			t.Cleanup(server.Close)
			c, err := New(Options{Address: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			native, notes, err := c.NativeHistograms(t.Context(), r, w)
			if (err != nil) != tt.fails || native[0] || len(notes) > 0 || asked != tt.asked {
				t.Errorf("native %v, notes %q, %v after %d requests, want none of it after %d", native, notes, err, asked, tt.asked)
			}
		})
	}
}
