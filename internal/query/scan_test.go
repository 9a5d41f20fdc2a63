package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// collected is what a scanner delivered.
type collected struct{ series []collectedSeries }

type collectedSeries struct {
	labels map[string]string
	t      []int64
	v      []float64
}

func (c *collected) series_(ls []label) {
	m := map[string]string{}
	for _, l := range ls {
		m[string(l.name)] = string(l.value)
	}
	c.series = append(c.series, collectedSeries{labels: m})
}

type collector struct{ *collected }

func (c collector) series(ls []label) error { c.series_(ls); return nil }
func (c collector) point(t int64, v float64) {
	s := &c.collected.series[len(c.collected.series)-1]
	s.t, s.v = append(s.t, t), append(s.v, v)
}

// reference reads an answer with encoding/json.
func reference(b []byte) ([]collectedSeries, error) {
	var a struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, err
	}
	var out []collectedSeries
	for _, r := range a.Data.Result {
		s := collectedSeries{labels: r.Metric}
		for _, p := range r.Values {
			v, err := strconv.ParseFloat(p[1].(string), 64)
			if err != nil {
				return nil, err
			}
			s.t = append(s.t, int64(math.Round(p[0].(float64)*1000)))
			s.v = append(s.v, v)
		}
		out = append(out, s)
	}
	return out, nil
}

func sameSeries(a, b []collectedSeries) bool {
	return slices.EqualFunc(a, b, func(a, b collectedSeries) bool {
		return fmt.Sprint(a.labels) == fmt.Sprint(b.labels) && slices.Equal(a.t, b.t) &&
			sameMatrix([][]float64{a.v}, [][]float64{b.v})
	})
}

// matrix is an answer of n series with m points each.
func matrix(n, m int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"status":"success","data":{"resultType":"matrix","result":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"metric":{"method":"GET","route":"/caf\u00e9/%d \ud83d\ude00 \"q\"","le":"0.%d"},"values":[`, i, i)
		for j := range m {
			if j > 0 {
				b.WriteByte(',')
			}
			switch {
			case j%7 == 3:
				fmt.Fprintf(&b, `[%d,"NaN"]`, 1435781400+j*60)
			case j%7 == 5:
				fmt.Fprintf(&b, `[ %d.781 , "+Inf" ]`, 1435781400+j*60)
			case j%2 == 0:
				fmt.Fprintf(&b, `[%d.5,"%d"]`, 1435781400+j*60, i*j)
			default:
				fmt.Fprintf(&b, `[1.4357814e9,"%v"]`, float64(i)/float64(j))
			}
		}
		b.WriteString(`]}`)
	}
	b.WriteString("]},\n\"infos\":[\"not a counter\"],\"warnings\":[\"w\\t1\",\"w2\"],\"stats\":{\"a\":[1,-2.5e3,true,false,null,{}]}}")
	return b.Bytes()
}

func TestScanMatrix(t *testing.T) {
	body := matrix(40, 120)
	want, err := reference(body)
	if err != nil {
		t.Fatal(err)
	}
	readers := map[string]func(io.Reader) io.Reader{
		"whole":     func(r io.Reader) io.Reader { return r },
		"1 byte":    iotest.OneByteReader,
		"half":      iotest.HalfReader,
		"last data": iotest.DataErrReader,
		"7 bytes":   func(r io.Reader) io.Reader { return oddReader{r, 7} },
		"61 bytes":  func(r io.Reader) io.Reader { return oddReader{r, 61} },
	}
	for name, wrap := range readers {
		t.Run(name, func(t *testing.T) {
			var got collected
			a, n, err := scanMatrix(wrap(bytes.NewReader(body)), collector{&got})
			if err != nil {
				t.Fatal(err)
			}
			if !sameSeries(got.series, want) {
				t.Error("series differ from encoding/json")
			}
			if a.points != 40*120 || n != int64(len(body)) {
				t.Errorf("%d points in %d bytes, want %d in %d", a.points, n, 40*120, len(body))
			}
			if !slices.Equal(a.warnings, []string{"w\t1", "w2"}) {
				t.Errorf("warnings %q", a.warnings)
			}
		})
	}
}

type oddReader struct {
	r io.Reader
	n int
}

func (o oddReader) Read(b []byte) (int, error) { return o.r.Read(b[:min(len(b), o.n)]) }

func TestScanMatrixRefusals(t *testing.T) {
	whole := string(matrix(2, 3))
	for n := range len(whole) {
		var got collected
		if _, _, err := scanMatrix(strings.NewReader(whole[:n]), collector{&got}); !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d bytes: %v, want %v", n, len(whole), err, ErrTruncated)
		}
	}
	tests := []struct {
		body string
		want error
	}{
		{`{"status":"error","errorType":"execution","error":"expanding series"}`, ErrBadQuery},
		{`{"status":"success"}`, ErrTruncated},
		{`{"status":"success","data":{"resultType":"vector","result":[]}}`, ErrUnsupported},
		{`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[]}]}}`, ErrUnsupported},
		{`{"status":"success","data":{"result":[{"values":[[1,"2"]]}]}}`, ErrUnsupported},
		{`{"status":"success","data":{"result":[{"metric":{},"values":[[1,"2x"]]}]}}`, ErrTruncated},
		{whole + "upstream connect error", ErrTruncated},
		{`<html>`, ErrTruncated},
	}
	for _, tt := range tests {
		var got collected
		if _, _, err := scanMatrix(strings.NewReader(tt.body), collector{&got}); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.body, err, tt.want)
		}
	}
	var got collected
	a, _, err := scanMatrix(strings.NewReader(`{"status":"success","isPartial":true,"data":{"result":[]}}`), collector{&got})
	if err != nil || len(a.warnings) != 1 {
		t.Errorf("a partial answer: %v, %v, want a warning", a, err)
	}
}

func FuzzScanMatrix(f *testing.F) {
	f.Add(matrix(2, 8), 3)
	f.Add([]byte(`{"status":"success","data":{"result":[{"metric":{"a":"\ud800\u0041"},"values":[[1,"1"]]}]}}`), 1)
	f.Fuzz(func(t *testing.T, body []byte, piece int) {
		var got, again collected
		_, _, err := scanMatrix(bytes.NewReader(body), collector{&got})
		_, _, err2 := scanMatrix(oddReader{bytes.NewReader(body), max(1, piece)}, collector{&again})
		if (err == nil) != (err2 == nil) || !sameSeries(got.series, again.series) {
			t.Fatalf("pieces of %d bytes: %v, whole: %v", piece, err2, err)
		}
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrBadQuery) {
			t.Fatalf("untyped error %v", err)
		}
	})
}

func BenchmarkScanMatrix(b *testing.B) {
	body := []byte(`{"status":"success","data":{"resultType":"matrix","result":[`)
	for i := range 1000 {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"metric":{"le":"0.5","route":"/r%d"},"values":[`, i)
		for j := range 60 {
			if j > 0 {
				body = append(body, ',')
			}
			body = fmt.Appendf(body, `[%d,"%d"]`, 1435781400+j*60, i*j%100)
		}
		body = append(body, `]}`...)
	}
	body = append(body, `]}}`...)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := scanMatrix(bytes.NewReader(body), discard{}); err != nil {
			b.Fatal(err)
		}
	}
}
