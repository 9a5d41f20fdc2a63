//go:build unix

package livetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/histogram"
)

// A Series is one time series with its samples, ascending in time.
type Series struct {
	Labels     map[string]string // with __name__
	Samples    []Sample
	Histograms []HistogramSample // instead of Samples
}

// A Sample is one value at one time; Prometheus keeps milliseconds.
type Sample struct {
	T time.Time
	V float64
}

// A HistogramSample is one native histogram at one time: H or F. Its stale marker is one whose
// Sum is StaleMarker.
type HistogramSample struct {
	T time.Time
	H *histogram.Histogram
	F *histogram.FloatHistogram
}

// StaleMarker is the value that Prometheus stores when a series is gone at a scrape: a NaN
// with bits of its own.
func StaleMarker() float64 { return math.Float64frombits(0x7ff0000000000002) }

// Size of a request. A server takes samples that are at most an hour older than its newest
// one (half a head chunk range) and refuses others as out of bounds; older history before
// the first sample is taken at any age. So requests go out in the order of time, and one
// request spans less than that hour.
const (
	requestSpan    = 30 * time.Minute
	requestSamples = 20_000
)

// Write sends series to the server by remote write 1.0, all series together in the order of
// time, in requests of about 20,000 samples. The samples of a later Write must not be older than
// an hour before the newest sample on the server, which refuses them as out of bounds: to
// fill in 7 days of several things, write them in one call. They can be read when Write
// returns. Calls from several goroutines wait for each other. A refusal fails the test.
func (s *Server) Write(t testing.TB, series []Series) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(t.Context(), series); err != nil {
		t.Fatalf("livetest: remote write to %s: %v", s.URL, err)
	}
}

func (s *Server) write(ctx context.Context, series []Series) error {
	w, err := newSlicer(series)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	bodies := make(chan []byte, 2) // encode the next ones while the server takes this one
	defer func() {
		cancel()
		for range bodies { // until the encoder has ended
		}
	}()
	go func() {
		defer close(bodies)
		for message := w.next(); message != nil; message = w.next() {
			select {
			case bodies <- snappy.Encode(nil, message):
			case <-ctx.Done():
				return
			}
		}
	}()
	for body := range bodies {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/v1/write", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("Content-Encoding", "snappy")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
		if _, err := s.do(req); err != nil {
			return err
		}
	}
	return nil
}

// A slicer cuts series into remote write messages, one span of time after the other.
type slicer struct {
	series []slicedSeries
	span   int64 // milliseconds of one message
	start  int64 // of the next message
	at     int   // series that the next message begins with
}

// A slicedSeries is what is left of one series.
type slicedSeries struct {
	labels     []byte // encoded Label fields of a TimeSeries
	samples    []Sample
	histograms []HistogramSample
}

// times are how many values are left, and when they are.
func (s slicedSeries) times() (n int, at func(i int) int64) {
	if len(s.histograms) > 0 {
		return len(s.histograms), func(i int) int64 { return s.histograms[i].T.UnixMilli() }
	}
	return len(s.samples), func(i int) int64 { return s.samples[i].T.UnixMilli() }
}

func newSlicer(series []Series) (*slicer, error) {
	w := &slicer{start: math.MaxInt64}
	end, total := int64(math.MinInt64), 0
	for _, one := range series {
		if len(one.Samples) > 0 && len(one.Histograms) > 0 {
			return nil, fmt.Errorf("%v has both samples and histograms", one.Labels)
		}
		sliced := slicedSeries{encodeLabels(one.Labels), one.Samples, one.Histograms}
		n, at := sliced.times()
		if n == 0 {
			continue
		}
		for i := 1; i < n; i++ {
			if at(i) <= at(i-1) {
				return nil, fmt.Errorf("samples of %v are not ascending at %v", one.Labels, time.UnixMilli(at(i)))
			}
		}
		w.series = append(w.series, sliced)
		w.start = min(w.start, at(0))
		end = max(end, at(n-1))
		total += n
	}
	if total > 0 {
		w.span = max(1, min(requestSpan.Milliseconds(), (end-w.start+1)*requestSamples/int64(total)))
	}
	return w, nil
}

// next returns the next WriteRequest message, or nil after the last one.
func (w *slicer) next() []byte {
	var message, sample []byte
	count := 0
	for len(w.series) > 0 {
		for ; w.at < len(w.series) && count < requestSamples; w.at++ {
			one := &w.series[w.at]
			left, timeOf := one.times()
			n := 0
			for n < left && timeOf(n) < w.start+w.span {
				n++
			}
			if n == 0 {
				continue
			}
			size := len(one.labels)
			sample = sample[:0]
			for _, x := range one.histograms[:min(n, len(one.histograms))] {
				h := encodeHistogram(x)
				sample = binary.AppendUvarint(append(sample, 4<<3|2), uint64(len(h)))
				sample = append(sample, h...)
			}
			for _, x := range one.samples[:min(n, len(one.samples))] {
				at := x.T.UnixMilli()
				// Sample: value is field 1, 8 bytes; timestamp is field 2, a varint.
				length := 1 + 8 + 1 + uvarintLen(uint64(at)) // two's complement, as protobuf encodes int64
				sample = append(sample, 2<<3|2, byte(length), 1<<3|1)
				sample = binary.LittleEndian.AppendUint64(sample, math.Float64bits(x.V))
				sample = append(sample, 2<<3)
				sample = binary.AppendUvarint(sample, uint64(at))
			}
			message = append(message, 1<<3|2) // WriteRequest.timeseries
			message = binary.AppendUvarint(message, uint64(size+len(sample)))
			message = append(message, one.labels...)
			message = append(message, sample...)
			one.samples, one.histograms = one.samples[min(n, len(one.samples)):], one.histograms[min(n, len(one.histograms)):]
			count += n
		}
		if w.at == len(w.series) {
			w.endSpan()
		}
		if count > 0 {
			return message
		}
	}
	return nil
}

// endSpan drops the series that are used up and goes on to the next sample of the others.
func (w *slicer) endSpan() {
	w.series = slices.DeleteFunc(w.series, func(s slicedSeries) bool { return len(s.samples)+len(s.histograms) == 0 })
	w.at = 0
	if len(w.series) > 0 {
		w.start = math.MaxInt64
		for _, s := range w.series {
			_, at := s.times()
			w.start = min(w.start, at(0))
		}
	}
}

// encodeHistogram encodes a Histogram message (prompb/types.proto).
func encodeHistogram(x HistogramSample) []byte {
	var out []byte
	varint := func(field int, v uint64) {
		out = binary.AppendUvarint(binary.AppendUvarint(out, uint64(field)<<3), v)
	}
	signed := func(field int, v int64) { varint(field, uint64(v)<<1^uint64(v>>63)) } // zigzag
	double := func(field int, v float64) {
		out = binary.AppendUvarint(out, uint64(field)<<3|1)
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
	}
	spans := func(field int, spans []histogram.Span) {
		for _, s := range spans {
			whole := out
			out = nil
			signed(1, int64(s.Offset))
			varint(2, uint64(s.Length))
			span := out
			out = binary.AppendUvarint(binary.AppendUvarint(whole, uint64(field)<<3|2), uint64(len(span)))
			out = append(out, span...)
		}
	}
	var custom []float64
	if h := x.H; h != nil {
		varint(1, h.Count)
		double(3, h.Sum)
		signed(4, int64(h.Schema))
		double(5, h.ZeroThreshold)
		varint(6, h.ZeroCount)
		spans(8, h.NegativeSpans)
		for _, d := range h.NegativeBuckets {
			signed(9, d)
		}
		spans(11, h.PositiveSpans)
		for _, d := range h.PositiveBuckets {
			signed(12, d)
		}
		varint(14, uint64(h.CounterResetHint))
		custom = h.CustomValues
	} else {
		h := x.F
		double(2, h.Count)
		double(3, h.Sum)
		signed(4, int64(h.Schema))
		double(5, h.ZeroThreshold)
		double(7, h.ZeroCount)
		spans(8, h.NegativeSpans)
		for _, n := range h.NegativeBuckets {
			double(10, n)
		}
		spans(11, h.PositiveSpans)
		for _, n := range h.PositiveBuckets {
			double(13, n)
		}
		varint(14, uint64(h.CounterResetHint))
		custom = h.CustomValues
	}
	varint(15, uint64(x.T.UnixMilli()))
	for _, b := range custom {
		double(16, b)
	}
	return out
}

// encodeLabels encodes labels as TimeSeries.labels, sorted by name as the protocol wants.
func encodeLabels(labels map[string]string) []byte {
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		value := labels[name]
		if value == "" {
			continue // an empty label is no label
		}
		length := 1 + uvarintLen(uint64(len(name))) + len(name) + 1 + uvarintLen(uint64(len(value))) + len(value)
		out = append(out, 1<<3|2)
		out = binary.AppendUvarint(out, uint64(length))
		out = append(out, 1<<3|2)
		out = binary.AppendUvarint(out, uint64(len(name)))
		out = append(out, name...)
		out = append(out, 2<<3|2)
		out = binary.AppendUvarint(out, uint64(len(value)))
		out = append(out, value...)
	}
	return out
}

func uvarintLen(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}
