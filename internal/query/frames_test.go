package query

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// steadyRead is a read of one counter, and the server that has it.
func steadyRead() (*fakeServer, Read) {
	from, until := -20*minute+5*second, 10*minute
	f := &fakeServer{perChunk: 30, data: []livetest.Series{
		series("m_total", every(from, until, 15*second, seven(0))...),
		series("m_total instance=shop-2:80", every(from, until, 15*second, seven(0))...),
	}}
	return f, Read{
		Name: "steady", Kind: Counter, Metric: "m_total",
		Grid: telemetry.Grid{Origin: t0, Step: minute, First: -3, Len: 6},
	}
}

func TestDamagedStream(t *testing.T) {
	tests := []struct {
		name   string
		mangle func([]byte) []byte
		want   error
	}{
		{"a flipped bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, ErrTruncated},
		{"cut in the middle of a frame", func(b []byte) []byte { return b[:len(b)-20] }, ErrTruncated},
		{"cut in the checksum", func(b []byte) []byte { return b[:3] }, ErrTruncated},
		{"words of an error behind the data", func(b []byte) []byte { return append(b, "internal error\n"...) }, ErrTruncated},
		{"a frame that says it has 100 GB", func(b []byte) []byte { return binary.AppendUvarint(b, 100<<30) }, ErrTruncated},
		{"chunk of an unknown encoding", func([]byte) []byte {
			chunk := appendBytes(appendVarint(nil, 3, 9), 4, "xxxx")
			s := appendBytes(appendBytes(nil, 1, "\x0a\x01a\x12\x01b"), 2, string(chunk))
			return frame(appendBytes(nil, 1, string(s)))
		}, ErrUnsupported},
		{"chunk of a native histogram", func([]byte) []byte {
			chunk := appendBytes(appendVarint(nil, 3, 2), 4, "xxxx")
			s := appendBytes(appendBytes(nil, 1, "\x0a\x01a\x12\x01b"), 2, string(chunk))
			return frame(appendBytes(nil, 1, string(s)))
		}, ErrUnsupported},
		{"chunk that promises more samples than it has", func([]byte) []byte {
			_, data := encodeChunk(0, every(0, minute, 15*second, seven(0)))
			data[1] = 200
			chunk := appendBytes(appendVarint(nil, 3, 1), 4, string(data))
			s := appendBytes(appendBytes(nil, 1, "\x0a\x01a\x12\x01b"), 2, string(chunk))
			return frame(appendBytes(nil, 1, string(s)))
		}, ErrTruncated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, r := steadyRead()
			f.mangle = tt.mangle
			_, err := f.start(t, RemoteRead).Fetch(t.Context(), r)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Name != "steady" || e.Expr != "m_total{}" {
				t.Errorf("error does not name the read: %v", err)
			}
		})
	}
	t.Run("cut at every byte", func(t *testing.T) {
		f, r := steadyRead()
		whole := f.answer(readRequest("m_total", nil, 0, 1<<60))
		ends := map[int]bool{0: true}
		for at := 0; at < len(whole); {
			size, n := binary.Uvarint(whole[at:])
			at += n + 4 + int(size)
			ends[at] = true
		}
		for n := range whole {
			_, err := decodeStream(bytes.NewReader(whole[:n]), newFold(r), func() {})
			if (err == nil) != ends[n] {
				t.Fatalf("%d of %d bytes: error %v, at the end of a frame: %v", n, len(whole), err, ends[n])
			}
		}
	})
}

func TestStreamInSmallPieces(t *testing.T) {
	f, r := steadyRead()
	whole := f.answer(readRequest("m_total", nil, 0, 1<<60))
	fold := newFold(r)
	n, err := decodeStream(iotest.OneByteReader(bytes.NewReader(whole)), fold, func() {})
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	fold.settle()
	counts, _ := fold.counts(nil)
	if want := [][]float64{{56, 56, 42, 56, 56, 56}}; !sameMatrix(counts.Rows[0].Steps, want) {
		t.Errorf("steps %v, want %v", counts.Rows[0].Steps, want)
	}
}

func TestContentTypeDecides(t *testing.T) {
	f, r := steadyRead()
	f.contents = "application/x-protobuf"
	_, err := f.start(t, RemoteRead).Fetch(t.Context(), r)
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("remote-read against a server without streaming: %v, want %v", err, ErrUnsupported)
	}
}

func FuzzDecodeStream(f *testing.F) {
	server, r := steadyRead()
	f.Add(server.answer(readRequest("m_total", nil, 0, 1<<60)))
	f.Fuzz(func(t *testing.T, message []byte) {
		// Once as a stream, once as the inside of a frame whose checksum holds.
		for _, b := range [][]byte{message, frame(message)} {
			fold := newFold(r)
			if _, err := decodeStream(bytes.NewReader(b), fold, func() {}); err != nil {
				if !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrUnsupported) {
					t.Fatalf("untyped error %v", err)
				}
				continue
			}
			fold.settle()
			fold.counts(nil)
		}
	})
}

// BenchmarkDecode decodes and folds an hour of 15 buckets of 100 endpoints on 2 instances at 15 s.
func BenchmarkDecode(b *testing.B) {
	var body, message []byte
	server := &fakeServer{}
	samples := 0
	for endpoint := range 100 {
		for _, le := range []string{
			"0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10", "+Inf",
		} {
			for instance := range 2 {
				s := series(fmt.Sprintf("m_bucket le=%s route=/r%d instance=i%d", le, endpoint, instance),
					every(-time.Hour, 0, 15*second, func(i int) float64 { return float64(i * (3 + i%5)) })...)
				message = append(message, slices.Concat(server.messages(s, 0, 1<<60)...)...)
				samples += len(s.Samples)
				if len(message) > 1<<20-1<<12 { // a server fills its frames up to 1 MiB
					body, message = append(body, frame(message)...), message[:0]
				}
			}
		}
	}
	body = append(body, frame(message)...)
	r := Read{
		Name: "buckets", Kind: Buckets, Metric: "m_bucket", By: []string{"route"},
		Grid: telemetry.Grid{Origin: t0, Step: minute, First: -60, Len: 60},
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeStream(io.MultiReader(bytes.NewReader(body)), newFold(r), func() {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(samples), "ns/sample")
}
