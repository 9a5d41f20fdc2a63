package query

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// A matrixSink takes the series of a query_range answer, one after the other.
type matrixSink interface {
	// series begins a series. The labels die with the call.
	series(ls []label) error
	// point is the next point of it; t in milliseconds.
	point(t int64, v float64)
}

// An answer is what stands beside the result of a query.
type answer struct {
	status    string
	errorText string
	warnings  []string
	points    int64
}

// A scanner reads the JSON of a query_range answer without holding it: its memory is one
// buffer and the labels of one series. (encoding/json holds all of it, and takes 8 times as
// long.) A byte slice into the buffer dies when the buffer is refilled, so nothing here keeps
// one over a call of fill.
type scanner struct {
	r     io.Reader
	buf   []byte
	pos   int // next byte to read
	n     int // bytes in buf
	read  int64
	err   error // of r, met at the end of buf
	token []byte
	sink  matrixSink
	out   answer

	labels  []label
	storage []byte
}

// scanBuffer holds a few thousand points. A smaller one costs a copy per refill, a larger one
// falls out of the cache.
const scanBuffer = 64 << 10

// maxJSONDepth is how deep unknown values may nest.
const maxJSONDepth = 64

// scanMatrix scans one answer into dst. Its error is an *Error: ErrTruncated if the JSON is
// broken or ends early, ErrBadQuery if the answer itself says so.
func scanMatrix(r io.Reader, dst matrixSink) (answer, int64, error) {
	s := &scanner{r: r, buf: make([]byte, scanBuffer), sink: dst}
	err := s.document()
	return s.out, s.read, err
}

func (s *scanner) document() error {
	sawData := false
	err := s.object(func(key string) error {
		switch key {
		case "status":
			text, err := s.text()
			s.out.status = text
			return err
		case "error":
			text, err := s.text()
			s.out.errorText = text
			return err
		case "warnings":
			return s.array(func() error {
				text, err := s.text()
				s.out.warnings = append(s.out.warnings, text)
				return err
			})
		case "isPartial": // VictoriaMetrics cluster
			c, err := s.peek()
			if err == nil && c == 't' {
				s.out.warnings = append(s.out.warnings, "the answer is partial")
			}
			if err != nil {
				return err
			}
			return s.skip(0)
		case "data":
			sawData = true
			return s.data()
		}
		return s.skip(0)
	})
	if err != nil {
		return err
	}
	if c, err := s.peek(); err == nil {
		return truncated("%q after the end of the answer", c)
	}
	if s.err != nil && !errors.Is(s.err, io.EOF) {
		return truncated("answer: %v", s.err)
	}
	if s.out.status == "error" {
		return &Error{Err: ErrBadQuery, Detail: s.out.errorText}
	}
	if s.out.status != "success" || !sawData {
		return truncated("an answer with status %q", s.out.status)
	}
	return nil
}

func (s *scanner) data() error {
	if c, err := s.peek(); err != nil || c == 'n' {
		if err != nil {
			return err
		}
		return s.skip(0)
	}
	return s.object(func(key string) error {
		switch key {
		case "resultType":
			typ, err := s.text()
			if err == nil && typ != "matrix" {
				err = &Error{Err: ErrUnsupported, Detail: "a " + typ + " where a matrix is wanted"}
			}
			return err
		case "result":
			return s.array(s.matrixSeries)
		}
		return s.skip(0)
	})
}

func (s *scanner) matrixSeries() error {
	named := false
	return s.object(func(key string) error {
		switch key {
		case "metric":
			named = true
			s.labels, s.storage = s.labels[:0], s.storage[:0]
			var ends []int
			err := s.object(func(key string) error {
				value, err := s.text()
				s.storage = append(append(s.storage, key...), value...)
				ends = append(ends, len(s.storage)-len(value), len(s.storage))
				return err
			})
			if err != nil {
				return err
			}
			at := 0
			for i := 0; i < len(ends); i += 2 {
				s.labels = append(s.labels, label{s.storage[at:ends[i]], s.storage[ends[i]:ends[i+1]]})
				at = ends[i+1]
			}
			return s.sink.series(s.labels)
		case "values":
			if !named {
				return &Error{Err: ErrUnsupported, Detail: "values of a series before its labels"}
			}
			return s.points()
		case "histograms":
			return &Error{Err: ErrUnsupported, Detail: "native histograms where floats were expected"}
		}
		return s.skip(0)
	})
}

// points reads [[t,"v"],...].
func (s *scanner) points() error {
	return s.array(func() error {
		if err := s.expect('['); err != nil {
			return err
		}
		if err := s.number(); err != nil {
			return err
		}
		t, err := milliseconds(s.token)
		if err != nil {
			return err
		}
		if err := s.expect(','); err != nil {
			return err
		}
		if err := s.rawString(); err != nil {
			return err
		}
		v, err := float(s.token)
		if err != nil {
			return err
		}
		if err := s.expect(']'); err != nil {
			return err
		}
		s.out.points++
		s.sink.point(t, v)
		return nil
	})
}

// milliseconds parses Unix seconds.
func milliseconds(b []byte) (int64, error) {
	var ms int64
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9' && i < 15; i++ {
		ms = ms*10 + int64(b[i]-'0')
	}
	if i == len(b) && i > 0 {
		return ms * 1000, nil
	}
	if i > 0 && b[i] == '.' && len(b)-i <= 4 && len(b)-i > 1 {
		scale := int64(1000)
		ms *= 1000
		for i++; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
			scale /= 10
			ms += int64(b[i]-'0') * scale
		}
		if i == len(b) {
			return ms, nil
		}
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.Abs(f) > 1e15 {
		return 0, truncated("time %q", b)
	}
	return int64(math.Round(f * 1000)), nil
}

// float parses a sample value; "NaN", "+Inf" and "-Inf" are values.
func float(b []byte) (float64, error) {
	var n int64
	for i, c := range b {
		if c < '0' || c > '9' || i >= 15 {
			f, err := strconv.ParseFloat(string(b), 64)
			if err != nil && !math.IsInf(f, 0) {
				return 0, truncated("value %q", b)
			}
			return f, nil
		}
		n = n*10 + int64(c-'0')
	}
	if len(b) == 0 {
		return 0, truncated("an empty value")
	}
	return float64(n), nil
}

// fill reads more bytes; all of buf before it is used up.
func (s *scanner) fill() error {
	for s.err == nil {
		n, err := s.r.Read(s.buf)
		s.pos, s.n, s.err = 0, n, err
		s.read += int64(n)
		if n > 0 {
			return nil
		}
	}
	s.pos, s.n = 0, 0
	return truncated("answer: %v", noEOF(s.err))
}

// peek is the next byte that is no white space.
func (s *scanner) peek() (byte, error) {
	for {
		for s.pos < s.n {
			switch c := s.buf[s.pos]; c {
			case ' ', '\t', '\n', '\r':
				s.pos++
			default:
				return c, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

func (s *scanner) expect(want byte) error {
	if s.pos < s.n && s.buf[s.pos] == want {
		s.pos++
		return nil
	}
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != want {
		return truncated("%q where %q is wanted", c, want)
	}
	s.pos++
	return nil
}

// more reports whether another element follows in a list that close ends, and consumes what
// stands before it.
func (s *scanner) more(first bool, end byte) (bool, error) {
	c, err := s.peek()
	if err != nil {
		return false, err
	}
	if c == end {
		s.pos++
		return false, nil
	}
	if first {
		return true, nil
	}
	return true, s.expect(',')
}

func (s *scanner) object(f func(key string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		ok, err := s.more(first, '}')
		if err != nil || !ok {
			return err
		}
		key, err := s.text()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := f(key); err != nil {
			return err
		}
	}
}

func (s *scanner) array(f func() error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		ok, err := s.more(first, ']')
		if err != nil || !ok {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
}

// number reads a number into token.
func (s *scanner) number() error {
	if _, err := s.peek(); err != nil {
		return err
	}
	s.token = s.token[:0]
	for {
		start := s.pos
		for s.pos < s.n {
			c := s.buf[s.pos]
			if c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E' {
				s.pos++
				continue
			}
			s.token = append(s.token, s.buf[start:s.pos]...)
			if len(s.token) == 0 {
				return truncated("%q where a number is wanted", c)
			}
			return nil
		}
		s.token = append(s.token, s.buf[start:s.pos]...)
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// rawString reads a string into token, its escapes undone.
func (s *scanner) rawString() error {
	if err := s.expect('"'); err != nil {
		return err
	}
	s.token = s.token[:0]
	for {
		start := s.pos
		for s.pos < s.n {
			switch c := s.buf[s.pos]; {
			case c == '"':
				s.token = append(s.token, s.buf[start:s.pos]...)
				s.pos++
				return nil
			case c == '\\':
				s.token = append(s.token, s.buf[start:s.pos]...)
				s.pos++
				if err := s.escape(); err != nil {
					return err
				}
				start = s.pos
			case c < ' ':
				return truncated("control character in a string")
			default:
				s.pos++
			}
		}
		s.token = append(s.token, s.buf[start:s.pos]...)
		if err := s.fill(); err != nil {
			return err
		}
	}
}

func (s *scanner) byte() (byte, error) {
	if s.pos >= s.n {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	c := s.buf[s.pos]
	s.pos++
	return c, nil
}

// escape appends what follows a backslash to token.
func (s *scanner) escape() error {
	c, err := s.byte()
	if err != nil {
		return err
	}
	switch c {
	case '"', '\\', '/':
		s.token = append(s.token, c)
	case 'b':
		s.token = append(s.token, '\b')
	case 'f':
		s.token = append(s.token, '\f')
	case 'n':
		s.token = append(s.token, '\n')
	case 'r':
		s.token = append(s.token, '\r')
	case 't':
		s.token = append(s.token, '\t')
	case 'u':
		r, err := s.hex4()
		if err != nil {
			return err
		}
		if r >= 0xd800 && r < 0xdc00 {
			return s.lowSurrogate(r)
		}
		if r >= 0xdc00 && r < 0xe000 {
			r = utf8.RuneError
		}
		s.token = utf8.AppendRune(s.token, r)
	default:
		return truncated("escape %q in a string", c)
	}
	return nil
}

// lowSurrogate reads the second half of a pair. A half alone becomes U+FFFD, as in
// encoding/json, and what follows it stands for itself.
func (s *scanner) lowSurrogate(high rune) error {
	c, err := s.byte()
	if err != nil {
		return err
	}
	if c != '\\' {
		s.pos--
		s.token = utf8.AppendRune(s.token, utf8.RuneError)
		return nil
	}
	if c, err = s.byte(); err != nil {
		return err
	}
	if c != 'u' {
		s.pos--
		s.token = utf8.AppendRune(s.token, utf8.RuneError)
		return s.escape()
	}
	low, err := s.hex4()
	if err != nil {
		return err
	}
	switch {
	case low >= 0xdc00 && low < 0xe000:
		s.token = utf8.AppendRune(s.token, (high-0xd800)<<10|(low-0xdc00)+0x10000)
	case low >= 0xd800 && low < 0xdc00:
		s.token = utf8.AppendRune(s.token, utf8.RuneError)
		return s.lowSurrogate(low)
	default:
		s.token = utf8.AppendRune(utf8.AppendRune(s.token, utf8.RuneError), low)
	}
	return nil
}

func (s *scanner) hex4() (rune, error) {
	var r rune
	for range 4 {
		c, err := s.byte()
		if err != nil {
			return 0, err
		}
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, truncated("%q in a \\u escape", c)
		}
	}
	return r, nil
}

func (s *scanner) text() (string, error) {
	if err := s.rawString(); err != nil {
		return "", err
	}
	return string(s.token), nil
}

// skip passes over a value of any kind.
func (s *scanner) skip(depth int) error {
	if depth > maxJSONDepth {
		return truncated("values nest deeper than %d", maxJSONDepth)
	}
	c, err := s.peek()
	if err != nil {
		return err
	}
	switch c {
	case '{':
		return s.object(func(string) error { return s.skip(depth + 1) })
	case '[':
		return s.array(func() error { return s.skip(depth + 1) })
	case '"':
		return s.rawString()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) literal(want string) error {
	for i := range len(want) {
		c, err := s.byte()
		if err != nil {
			return err
		}
		if c != want[i] {
			return truncated("%s where %s is wanted", fmt.Sprintf("%q", c), want)
		}
	}
	return nil
}
