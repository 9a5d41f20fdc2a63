package query

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// The remote read protocol (prompb/remote.proto, prompb/types.proto), by field number. Only
// streamed chunks are spoken: the other form holds a whole answer in memory on both sides.
const (
	streamedChunks = "application/x-streamed-protobuf"
	chunkedProto   = "prometheus.ChunkedReadResponse"

	wireVarint = 0
	wireBytes  = 2
)

// maxFrame is the largest frame that is believed, 16 times what a server is told to send at
// most: one of more is not a frame but something else.
const maxFrame = 64 << 20

// framesInFlight is how many frames the reader may be ahead of the decoder. Four keep both
// busy at 1 MiB a frame; more only hold memory.
const framesInFlight = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A label is one name and value of a series. The bytes die with the frame.
type label struct{ name, value []byte }

// A sink takes the series of a stream, one after the other.
type sink interface {
	// series begins a series; false skips its samples. A series that a server sends in pieces
	// begins once.
	series(ls []label) (bool, error)
	// samples delivers the next samples of the series, ascending in time within one call. The
	// slices are reused after the call.
	samples(ts []int64, vs []float64)
	// end closes the last series begun.
	end()
}

// A histogramSink is a sink that takes native histograms, too.
type histogramSink interface {
	// native reports whether it does in this stream.
	native() bool
	// histograms is samples for a chunk of native histograms, in which a stale marker is the Sum.
	// reset says that the server found the first of them to begin anew.
	histograms(ts []int64, hs []histogram.FloatHistogram, reset bool) error
}

// readRequest encodes a ReadRequest of one query, from and to in milliseconds, both included.
func readRequest(metric string, ms []*labels.Matcher, from, to int64) []byte {
	var query []byte
	query = appendVarint(query, 1, uint64(from))
	query = appendVarint(query, 2, uint64(to))
	matcher := func(typ uint64, name, value string) {
		var m []byte
		m = appendVarint(m, 1, typ)
		m = appendBytes(m, 2, name)
		m = appendBytes(m, 3, value)
		query = appendBytes(query, 3, string(m))
	}
	if metric != "" {
		matcher(0, model.MetricNameLabel, metric)
	}
	for _, m := range ms {
		// The numbers of labels.MatchType are those of LabelMatcher.Type: EQ, NEQ, RE, NRE.
		matcher(uint64(m.Type), m.Name, m.Value)
	}
	req := appendBytes(nil, 1, string(query))
	return appendVarint(req, 2, 1) // accept STREAMED_XOR_CHUNKS
}

func appendVarint(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3|wireVarint), v)
}

func appendBytes(b []byte, field int, v string) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|wireBytes)
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// errNotStreamed says that the server has no streamed remote read.
var errNotStreamed = errors.New("no streamed remote read")

// stream reads the series of one selector from from to to (milliseconds, both included) into
// dst and returns the bytes read. It fails with errNotStreamed, an *Error, or the context's
// error; dst is then worthless.
func (c *Client) stream(ctx context.Context, metric string, ms []*labels.Matcher, from, to int64, dst sink) (int64, error) {
	release, err := c.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errRequestTimeout)
	defer cancel()
	resp, err := c.post(ctx, "/api/v1/read", http.Header{
		"Content-Type":                     {"application/x-protobuf"},
		"Content-Encoding":                 {"snappy"},
		"X-Prometheus-Remote-Read-Version": {"0.1.0"},
		"Accept-Encoding":                  {"identity"},
	}, snappy.Encode(nil, readRequest(metric, ms, from, to)))
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && errors.Is(e, ErrBadQuery) {
			return 0, fmt.Errorf("%w: %w", errNotStreamed, err)
		}
		return 0, err
	}
	defer resp.Body.Close()
	typ, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || typ != streamedChunks || params["proto"] != chunkedProto {
		return 0, fmt.Errorf("%w: content type %q", errNotStreamed, resp.Header.Get("Content-Type"))
	}
	n, err := decodeStream(resp.Body, dst, cancel)
	if err != nil && caller.Err() != nil {
		return n, caller.Err()
	}
	if err != nil && errors.Is(context.Cause(ctx), errRequestTimeout) {
		return n, &Error{Err: ErrUnavailable, Detail: fmt.Sprintf("no complete answer in %v", c.timeout)}
	}
	return n, err
}

// decodeStream decodes frames until r ends, a reader goroutine ahead of the decoder. It
// returns the bytes of the frames read. When it gives up early it calls abort, which must
// make r fail.
func decodeStream(r io.Reader, dst sink, abort func()) (int64, error) {
	frames := make(chan []byte, framesInFlight)
	spare := make(chan []byte, framesInFlight)
	for range framesInFlight {
		spare <- nil
	}
	stop := make(chan struct{})
	var total int64
	var readErr error
	go func() {
		defer close(frames)
		br := bufio.NewReaderSize(r, 256<<10)
		for {
			var buf []byte
			select {
			case buf = <-spare:
			case <-stop:
				return
			}
			frame, err := readFrame(br, buf)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					readErr = err
				}
				return
			}
			total += int64(len(frame))
			frames <- frame
		}
	}()
	d := decoder{dst: dst, pool: chunkenc.NewPool()}
	var decodeErr error
	for frame := range frames {
		if decodeErr == nil {
			if decodeErr = d.frame(frame); decodeErr != nil {
				close(stop)
				abort()
			}
		}
		spare <- frame
	}
	if decodeErr != nil {
		return total, decodeErr
	}
	if readErr != nil {
		return total, readErr
	}
	if d.begun {
		dst.end()
	}
	return total, nil
}

// readFrame reads one frame into buf or a larger slice. At the end of the stream, between
// frames, the error is io.EOF; everything else is an ErrTruncated.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	if _, err := r.Peek(1); err == io.EOF {
		return nil, io.EOF
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, truncated("frame size: %v", noEOF(err))
	}
	if size > maxFrame {
		return nil, truncated("frame of %d bytes", size)
	}
	var sum [4]byte
	if _, err := io.ReadFull(r, sum[:]); err != nil {
		return nil, truncated("frame checksum: %v", noEOF(err))
	}
	if uint64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, truncated("frame of %d bytes: %v", size, noEOF(err))
	}
	if got, want := crc32.Checksum(buf, castagnoli), binary.BigEndian.Uint32(sum[:]); got != want {
		return nil, truncated("frame checksum %08x, want %08x", got, want)
	}
	return buf, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func truncated(format string, args ...any) error {
	return &Error{Err: ErrTruncated, Detail: fmt.Sprintf(format, args...)}
}

// A decoder walks ChunkedReadResponse messages and hands their samples to a sink.
type decoder struct {
	dst   sink
	pool  chunkenc.Pool
	iter  chunkenc.Iterator
	begun bool
	skip  bool

	names  []byte // the Label messages of the series begun, as sent
	next   []byte
	labels []label
	ts     []int64
	vs     []float64
	hs     []histogram.FloatHistogram
}

// frame decodes one ChunkedReadResponse.
func (d *decoder) frame(b []byte) error {
	return walk(b, func(field int, v []byte, _ uint64) error {
		if field == 1 && v != nil {
			return d.chunkedSeries(v)
		}
		return nil
	})
}

// chunkedSeries decodes one ChunkedSeries: its labels, then its chunks.
func (d *decoder) chunkedSeries(b []byte) error {
	d.next, d.labels = d.next[:0], d.labels[:0]
	inChunks := false
	err := walk(b, func(field int, v []byte, _ uint64) error {
		switch {
		case field == 1 && v != nil && !inChunks:
			var l label
			err := walk(v, func(field int, v []byte, _ uint64) error {
				switch field {
				case 1:
					l.name = v
				case 2:
					l.value = v
				}
				return nil
			})
			d.labels = append(d.labels, l)
			d.next = append(binary.AppendUvarint(d.next, uint64(len(v))), v...)
			return err
		case field == 1 && v != nil:
			return &Error{Err: ErrUnsupported, Detail: "labels of a series after its chunks"}
		case field == 2 && v != nil:
			if !inChunks {
				inChunks = true
				if err := d.beginSeries(); err != nil {
					return err
				}
			}
			if d.skip {
				return nil
			}
			return d.chunk(v)
		}
		return nil
	})
	return err
}

func (d *decoder) beginSeries() error {
	if d.begun && string(d.names) == string(d.next) {
		return nil // the next piece of the same series
	}
	if d.begun {
		d.dst.end()
	}
	d.names, d.next = d.next, d.names
	wanted, err := d.dst.series(d.labels)
	d.begun, d.skip = true, !wanted
	return err
}

// chunk decodes one Chunk message.
func (d *decoder) chunk(b []byte) error {
	var typ uint64
	var data []byte
	err := walk(b, func(field int, v []byte, n uint64) error {
		switch field {
		case 3:
			typ = n
		case 4:
			data = v
		}
		return nil
	})
	if err != nil {
		return err
	}
	var enc chunkenc.Encoding
	switch typ { // Chunk.Encoding of types.proto, whose numbers are not those of chunkenc
	case 1:
		enc = chunkenc.EncXOR
	case 4:
		enc = chunkenc.EncXOR2
	case 2:
		enc = chunkenc.EncHistogram
	case 3:
		enc = chunkenc.EncFloatHistogram
	case 5:
		enc = chunkenc.EncHistogramST
	case 6:
		enc = chunkenc.EncFloatHistogramST
	default:
		return &Error{Err: ErrUnsupported, Detail: "chunk encoding " + strconv.FormatUint(typ, 10)}
	}
	native := enc != chunkenc.EncXOR && enc != chunkenc.EncXOR2
	histograms, ok := d.dst.(histogramSink)
	if native && (!ok || !histograms.native()) {
		return &Error{Err: ErrUnsupported, Detail: "a native histogram where floats were expected"}
	}
	if len(data) < 2 || native && len(data) < 3 { // the number of samples, and flags
		return truncated("chunk of %d bytes", len(data))
	}
	c, err := d.pool.Get(enc, data)
	if err != nil {
		return &Error{Err: ErrUnsupported, Detail: err.Error()}
	}
	d.ts, d.vs, d.hs = d.ts[:0], d.vs[:0], d.hs[:0]
	d.iter = c.Iterator(d.iter)
	reset := false
	if counters, ok := c.(interface {
		GetCounterResetHeader() chunkenc.CounterResetHeader
	}); ok {
		reset = counters.GetCounterResetHeader() == chunkenc.CounterReset
	}
	last := int64(math.MinInt64)
	for typ := d.iter.Next(); typ != chunkenc.ValNone; typ = d.iter.Next() {
		t := d.iter.AtT()
		if t < last {
			return truncated("chunk goes back in time")
		}
		last = t
		d.ts = append(d.ts, t)
		if native {
			d.histogram()
		} else {
			_, v := d.iter.At()
			d.vs = append(d.vs, v)
		}
	}
	if err := d.iter.Err(); err != nil {
		return truncated("chunk: %v", err)
	}
	if n := c.NumSamples(); n != len(d.ts) {
		return truncated("chunk with %d of %d samples", len(d.ts), n)
	}
	if err := d.pool.Put(c); err != nil {
		return &Error{Err: ErrUnsupported, Detail: err.Error()}
	}
	if !native {
		d.dst.samples(d.ts, d.vs)
		return nil
	}
	return histograms.histograms(d.ts, d.hs, reset)
}

// histogram appends the iterator's histogram to d.hs, in memory that lies there from earlier
// chunks.
func (d *decoder) histogram() {
	n := len(d.hs)
	if n == cap(d.hs) {
		d.hs = append(d.hs, histogram.FloatHistogram{})
	}
	d.hs = d.hs[:n+1]
	h := &d.hs[n]
	if _, got := d.iter.AtFloatHistogram(h); got != h {
		h.Sum, h.Count = got.Sum, 0 // a stale marker comes in memory of its own
	}
}

// walk calls f for each field of a protobuf message: with its bytes if it is length-delimited,
// with its number if it is a varint. Fixed-width fields are passed over.
func walk(b []byte, f func(field int, v []byte, n uint64) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29 {
			return truncated("protobuf field key")
		}
		b = b[n:]
		var v []byte
		var x uint64
		switch key & 7 {
		case wireVarint:
			if x, n = binary.Uvarint(b); n <= 0 {
				return truncated("protobuf varint")
			}
			b = b[n:]
		case wireBytes:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return truncated("protobuf field of %d bytes in %d", size, len(b))
			}
			v, b = b[n:n+int(size):n+int(size)], b[n+int(size):]
			if v == nil {
				v = []byte{}
			}
		case 1, 5:
			width := 8
			if key&7 == 5 {
				width = 4
			}
			if len(b) < width {
				return truncated("protobuf fixed field")
			}
			b = b[width:]
		default:
			return truncated("protobuf wire type %d", key&7)
		}
		if err := f(int(key>>3), v, x); err != nil {
			return err
		}
	}
	return nil
}
