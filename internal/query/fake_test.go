package query

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/driftwatch/driftwatch/internal/livetest"
)

// A fakeServer speaks the server's side of streamed remote read.
type fakeServer struct {
	data      []livetest.Series
	encoding  chunkenc.Encoding // EncNone means EncXOR
	perChunk  int               // samples; 0 means 120
	floats    bool              // native histograms have float counts
	starts    bool              // their chunks hold start timestamps
	twice     bool              // every chunk is sent two times
	backwards bool              // the last series comes first
	contents  string            // content type; "" the right one
	mangle    func([]byte) []byte
	requests  int
}

func (f *fakeServer) start(t *testing.T, mode Mode) *Client {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	c, err := New(Options{Address: srv.URL, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests++
	if r.URL.Path != "/api/v1/read" {
		http.NotFound(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	typ := f.contents
	if typ == "" {
		typ = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
	}
	w.Header().Set("Content-Type", typ)
	out := f.answer(raw)
	if f.mangle != nil {
		out = f.mangle(out)
	}
	_, _ = w.Write(out) // fails when the client has read enough, as it may
}

// answer is the framed answer to a ReadRequest.
func (f *fakeServer) answer(req []byte) []byte {
	var from, to int64
	var ms []*labels.Matcher
	_ = walk(req, func(field int, v []byte, _ uint64) error {
		if field != 1 {
			return nil
		}
		return walk(v, func(field int, v []byte, n uint64) error {
			switch field {
			case 1:
				from = int64(n)
			case 2:
				to = int64(n)
			case 3:
				var typ uint64
				var name, value string
				_ = walk(v, func(field int, v []byte, n uint64) error {
					switch field {
					case 1:
						typ = n
					case 2:
						name = string(v)
					case 3:
						value = string(v)
					}
					return nil
				})
				ms = append(ms, labels.MustNewMatcher(labels.MatchType(typ), name, value))
			}
			return nil
		})
	})
	var out []byte
	data := slices.Clone(f.data)
	if f.backwards {
		slices.Reverse(data)
	}
	for _, s := range data {
		if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(s.Labels[m.Name]) }) {
			out = append(out, f.frames(s, from, to)...)
		}
	}
	return out
}

// frames is one series, one frame per chunk: as small as a server can cut it.
func (f *fakeServer) frames(s livetest.Series, from, to int64) []byte {
	var out []byte
	for _, message := range f.messages(s, from, to) {
		out = append(out, frame(appendVarint(message, 2, 0))...) // 2 is query_index
		if f.twice {
			out = append(out, frame(message)...)
		}
	}
	return out
}

// messages is one series as ChunkedReadResponses of a chunk each.
func (f *fakeServer) messages(s livetest.Series, from, to int64) [][]byte {
	var head []byte
	names := make([]string, 0, len(s.Labels))
	for n := range s.Labels {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		head = appendBytes(head, 1, string(appendBytes(appendBytes(nil, 1, n), 2, s.Labels[n])))
	}
	per := f.perChunk
	if per == 0 {
		per = 120
	}
	var out [][]byte
	add := func(first, last int64, typ uint64, data []byte) {
		if last < from || first > to {
			return // whole chunks only: a server does not cut them
		}
		c := appendVarint(nil, 1, uint64(first))
		c = appendVarint(c, 2, uint64(last))
		c = appendVarint(c, 3, typ)
		c = appendBytes(c, 4, string(data))
		out = append(out, appendBytes(nil, 1, string(appendBytes(slices.Clone(head), 2, string(c)))))
	}
	for chunk := range slices.Chunk(s.Samples, per) {
		typ, data := encodeChunk(f.encoding, chunk)
		add(chunk[0].T.UnixMilli(), chunk[len(chunk)-1].T.UnixMilli(), typ, data)
	}
	f.encodeHistograms(s.Histograms, per, add)
	return out
}

// encodeHistograms cuts chunks as a server does: where they are full, and where the buckets
// or a reset ask for it.
func (f *fakeServer) encodeHistograms(samples []livetest.HistogramSample, per int, add func(first, last int64, typ uint64, data []byte)) {
	enc, typ := chunkenc.EncHistogram, uint64(2)
	switch {
	case f.floats && f.starts:
		enc, typ = chunkenc.EncFloatHistogramST, 6
	case f.floats:
		enc, typ = chunkenc.EncFloatHistogram, 3
	case f.starts:
		enc, typ = chunkenc.EncHistogramST, 5
	}
	var chunk chunkenc.Chunk
	var app, full chunkenc.Appender
	var first, last int64
	flush := func() {
		if chunk != nil && chunk.NumSamples() > 0 {
			add(first, last, typ, slices.Clone(chunk.Bytes()))
		}
	}
	for _, x := range samples {
		t := x.T.UnixMilli()
		if chunk == nil || chunk.NumSamples() == per {
			flush()
			var err error
			if chunk, err = chunkenc.NewEmptyChunk(enc); err != nil {
				panic(err)
			}
			full = app
			if app, err = chunk.Appender(); err != nil {
				panic(err)
			}
			first = t
		}
		var next chunkenc.Chunk
		var recoded bool
		var err error
		if f.floats {
			next, recoded, app, err = app.AppendFloatHistogram(full, 0, t, x.H.ToFloat(nil), false)
		} else {
			next, recoded, app, err = app.AppendHistogram(full, 0, t, x.H.Copy(), false)
		}
		if err != nil {
			panic(err)
		}
		full = nil
		if next != nil {
			if !recoded {
				flush()
				first = t
			}
			chunk = next
		}
		last = t
	}
	flush()
}

func frame(message []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(len(message)))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(message, crc32.MakeTable(crc32.Castagnoli)))
	return append(out, message...)
}

// encodeChunk returns the type of Chunk.Encoding and the data.
func encodeChunk(e chunkenc.Encoding, samples []livetest.Sample) (uint64, []byte) {
	typ := uint64(1)
	if e == chunkenc.EncNone {
		e = chunkenc.EncXOR
	}
	if e == chunkenc.EncXOR2 {
		typ = 4
	}
	c, err := chunkenc.NewEmptyChunk(e)
	if err != nil {
		panic(err)
	}
	app, err := c.Appender()
	if err != nil {
		panic(err)
	}
	for _, s := range samples {
		app.Append(0, s.T.UnixMilli(), s.V)
	}
	return typ, c.Bytes()
}

// t0 is the upgrade of the tests.
var t0 = time.Date(2026, 3, 11, 14, 0, 0, 0, time.UTC)

// series names a counter: `name a=b c=d`.
func series(text string, samples ...livetest.Sample) livetest.Series {
	words := strings.Fields(text)
	ls := map[string]string{"__name__": words[0], "job": "shop", "instance": "shop-1:80"}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		ls[k] = v
	}
	return livetest.Series{Labels: ls, Samples: samples}
}

// every makes samples from to until (both included) at a distance; value gets the number of
// the sample, and NaN leaves it out.
func every(from, until, distance time.Duration, value func(i int) float64) []livetest.Sample {
	var out []livetest.Sample
	for i, at := 0, from; at <= until; i, at = i+1, at+distance {
		if v := value(i); v == v {
			out = append(out, livetest.Sample{T: t0.Add(at), V: v})
		}
	}
	return out
}

func stale(at time.Duration) livetest.Sample {
	return livetest.Sample{T: t0.Add(at), V: livetest.StaleMarker()}
}

func ups(from, until time.Duration) []livetest.Sample {
	return every(from, until, 15*time.Second, func(int) float64 { return 1 })
}
