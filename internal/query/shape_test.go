package query

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// shapeRead asks for every bound of m_bucket over the ten minutes before the upgrade.
func shapeRead() Read {
	return Read{
		Name: "shape", Kind: Buckets, Metric: "m_bucket", By: []string{"route"},
		Totals: telemetry.Window{Start: t0.Add(-10 * minute), End: t0},
	}
}

func TestShape(t *testing.T) {
	bucket := func(text string, rise float64, from time.Duration) livetest.Series {
		return series("m_bucket "+text, every(from, 10*minute, 15*second, func(i int) float64 { return rise * float64(i) })...)
	}
	f := &fakeServer{data: []livetest.Series{
		bucket("le=+Inf route=/a", 10, -20*minute),
		bucket("le=1 route=/a", 9, -20*minute),
		bucket("le=0.5 route=/a", 4, -20*minute),
		bucket("le=0.25 route=/a", 1, -3*minute), // a new layout: not throughout
		bucket("le=1 route=/b", 9, -20*minute),   // no +Inf: no histogram
		bucket("le=big route=/a", 9, -20*minute), // no number
	}}
	got, err := f.start(t, RemoteRead).Fetch(t.Context(), shapeRead())
	if err != nil {
		t.Fatal(err)
	}
	rows := got[0].Counts.Rows
	if len(rows) != 1 || rows[0].Endpoint != telemetry.NewEndpoint("/a") {
		t.Fatalf("rows %+v, want /a alone", rows)
	}
	// 40 intervals in ten minutes; the samples lie on the edges.
	if want := []float64{0.5, 1, math.Inf(1)}; !slices.Equal(rows[0].Bounds, want) {
		t.Errorf("bounds %v, want %v", rows[0].Bounds, want)
	}
	if want := []float64{160, 360, 400}; !slices.Equal(rows[0].Totals, want) {
		t.Errorf("totals %v, want %v", rows[0].Totals, want)
	}
	notes := strings.Join(got[0].Notes, "\n")
	for _, want := range []string{"1 series without a readable le", "buckets changed: /a has 3 of 4 bounds", "/b has no +Inf bucket"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes %q, want %q", notes, want)
		}
	}
	if want := []string{"instance", "job", "le", "route"}; !slices.Equal(got[0].Labels, want) {
		t.Errorf("labels %v, want %v", got[0].Labels, want)
	}
}

func TestMonotone(t *testing.T) {
	steps := [][]float64{
		{1, 5, 50, nan, 1004},
		{2, 6, 20, nan, 1003},
		{3, 5, 60, nan, 20000},
	}
	// The second step is off by one, the fifth by 1 of 20000: both are scrapes that caught a
	// histogram in the middle of an observation. The third is broken.
	want := [][]float64{
		{1, 5, nan, nan, 1003},
		{2, 5, nan, nan, 1003},
		{3, 5, nan, nan, 20000},
	}
	if n := monotone(steps, 5); n != 1 || !sameMatrix(steps, want) {
		t.Errorf("%d bad steps in %v, want 1 in %v", n, steps, want)
	}
}

func TestStepOf(t *testing.T) {
	f := fold{origin: 1000, step: 60}
	// Step k is (1000 + 60k, 1000 + 60(k+1)]; t2 is twice the time.
	for _, tt := range []struct {
		t2 int64
		k  int
	}{{2000, -1}, {2001, 0}, {2120, 0}, {2121, 1}, {1880, -2}, {1881, -1}, {0, -17}} {
		if got := f.stepOf2(tt.t2); got != tt.k {
			t.Errorf("step of %v is %d, want %d", float64(tt.t2)/2, got, tt.k)
		}
	}
}

func TestIntervalIsTheMedian(t *testing.T) {
	tests := []struct {
		name  string
		ts    []int64
		sofar int64
		want  int64
	}{
		{"even", []int64{0, 15, 30, 45, 60}, 0, 15},
		{"a gap does not change it", []int64{0, 15, 30, 45, 400, 415, 430}, 15, 15},
		{"a gap in the first chunk", []int64{0, 15, 30, 45, 400, 415, 430}, 0, 15},
		{"a new interval does", []int64{0, 60, 120, 180, 240, 300}, 15, 60},
		{"two samples tell nothing new", []int64{0, 400}, 15, 15},
		{"one sample", []int64{7}, 15, 15},
	}
	for _, tt := range tests {
		if got := interval(tt.ts, tt.sofar); got != tt.want {
			t.Errorf("%s: interval(%v, %d) = %d, want %d", tt.name, tt.ts, tt.sofar, got, tt.want)
		}
	}
}
