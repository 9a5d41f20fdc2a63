package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{Address: ""},
		{Address: "prometheus:9090"},
		{Address: "ftp://prometheus"},
		{Address: "http://u:s3cret@ho st:9090"},
		{Address: "http://localhost:9090", Mode: "fast"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v) does not fail", o)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the password is in the message: %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		status int
		body   string
		want   error
		detail string
	}{
		{401, "Unauthorized", ErrUnauthorized, "Unauthorized"},
		{403, "", ErrUnauthorized, ""},
		{422, `{"status":"error","errorType":"execution","error":"too many samples"}`, ErrTooExpensive, "too many samples"},
		{400, `{"status":"error","errorType":"bad_data","error":"parse error"}`, ErrBadQuery, "parse error"},
		{500, "oops", ErrUnavailable, "oops"},
		{502, "<html>", ErrUnavailable, "<html>"},
	}
	for _, tt := range tests {
		requests := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			if user, pass, ok := r.BasicAuth(); !ok || user != "reader" || pass != "s3cret" {
				t.Errorf("credentials of the address not sent")
			}
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		c, err := New(Options{Address: strings.Replace(srv.URL, "//", "//reader:s3cret@", 1), Mode: RemoteRead})
		if err != nil {
			t.Fatal(err)
		}
		_, r := steadyRead()
		_, err = c.Fetch(t.Context(), r)
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, tt.want) || e.Status != tt.status || e.Detail != tt.detail {
			t.Errorf("status %d: %v, want %v with %q", tt.status, err, tt.want, tt.detail)
		}
		if requests != 1 {
			t.Errorf("status %d: %d requests, want 1", tt.status, requests)
		}
		_, _, _, err = c.Scalar(t.Context(), "vector(1)", t0)
		if !errors.Is(err, tt.want) {
			t.Errorf("status %d, scalar: %v, want %v", tt.status, err, tt.want)
		}
		for _, text := range []string{fmt.Sprint(err), c.Address()} {
			if strings.Contains(text, "s3cret") || strings.Contains(text, "reader") {
				t.Errorf("credentials in %q", text)
			}
		}
		srv.Close()
	}
}

// roundTrips answers requests without a network.
type roundTrips func(*http.Request) (*http.Response, error)

func (f roundTrips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func TestRetry(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	tests := []struct {
		name    string
		answers []func() (*http.Response, error)
		want    error
		tries   int
		took    [2]time.Duration
	}{
		{"503, then an answer", []func() (*http.Response, error){
			func() (*http.Response, error) { return response(503, "starting"), nil },
			func() (*http.Response, error) { return response(200, "ok"), nil },
		}, nil, 2, [2]time.Duration{3 * time.Second, 4 * time.Second}},
		{"429 with Retry-After", []func() (*http.Response, error){
			func() (*http.Response, error) { return response(429, "slow down", "Retry-After", "5"), nil },
			func() (*http.Response, error) { return response(200, "ok"), nil },
		}, nil, 2, [2]time.Duration{5 * time.Second, 5 * time.Second}},
		{"503 that asks for an hour", []func() (*http.Response, error){
			func() (*http.Response, error) { return response(503, "later", "Retry-After", "3600"), nil },
		}, ErrUnavailable, 1, [2]time.Duration{0, 0}},
		{"refused for good", []func() (*http.Response, error){
			func() (*http.Response, error) { return nil, refused },
			func() (*http.Response, error) { return nil, refused },
			func() (*http.Response, error) { return nil, refused },
		}, ErrUnavailable, 3, [2]time.Duration{9 * time.Second, 12 * time.Second}},
		{"422 is final", []func() (*http.Response, error){
			func() (*http.Response, error) { return response(422, "too large"), nil },
		}, ErrTooExpensive, 1, [2]time.Duration{0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c, err := New(Options{Address: "http://prometheus:9090", Transport: roundTrips(func(r *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(r.Body)
					if string(body) != "payload" {
						t.Errorf("try %d sends %q", n+1, body)
					}
					n++
					return tt.answers[n-1]()
				})})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				resp, err := c.post(t.Context(), "/api/v1/read", nil, []byte("payload"))
				took := time.Since(start)
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				if resp != nil {
					resp.Body.Close()
				}
				if n != tt.tries || took < tt.took[0] || took > tt.took[1] {
					t.Errorf("%d tries in %v, want %d in %v", n, took, tt.tries, tt.took)
				}
			})
		})
	}
}

func TestUnreachableSaysHowOftenItTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{Address: "http://prometheus:9090", Transport: roundTrips(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("dial tcp: connection refused")
		})})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Clock(t.Context())
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "connection refused, 3 tries in") {
			t.Errorf("error %v", err)
		}
	})
}

func TestCancelledReadSaysSo(t *testing.T) {
	f, r := steadyRead()
	c := f.start(t, Auto)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Fetch(ctx, r, r, r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestTimeoutIsUnavailable(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-release // the headers came, the body never ends
	}))
	defer srv.Close()
	defer close(release)
	c, err := New(Options{Address: srv.URL, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, r := steadyRead()
	if _, err := c.Fetch(t.Context(), r); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v, want %v", err, ErrUnavailable)
	}
}

// matrixServer answers query_range with one series of one point per step, and has no remote
// read: a Thanos or VictoriaMetrics without their special cases.
type matrixServer struct {
	anchored, metricsQL bool
	warnings            string
	queries             []string
}

func (m *matrixServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/v1/label/") {
		_, _ = io.WriteString(w, `{"status":"success","data":["shop"]}`)
		return
	}
	if r.URL.Path != "/api/v1/query_range" {
		http.NotFound(w, r)
		return
	}
	q := r.FormValue("query")
	m.queries = append(m.queries, q)
	if strings.Contains(q, "anchored") && !m.anchored || strings.Contains(q, "running_sum") && !m.metricsQL {
		http.Error(w, `{"status":"error","errorType":"bad_data","error":"parse error"}`, http.StatusBadRequest)
		return
	}
	var b bytes.Buffer
	for t := t0.Add(-2 * minute); !t.After(t0.Add(3 * minute)); t = t.Add(minute) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `[%d,"40"]`, t.Unix())
	}
	fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[%s]}]}%s}`, b.String(), m.warnings)
}

func TestProbing(t *testing.T) {
	tests := []struct {
		name       string
		server     matrixServer
		path       string
		dispersion float64
	}{
		{"anchored", matrixServer{anchored: true}, "query", 1},
		{"MetricsQL is exact as it is", matrixServer{metricsQL: true}, "query", 1},
		{"neither", matrixServer{}, "query-plain", 4.0 / 3}, // 40 scrapes in 10 min; 60 / (60 - 15)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(&tt.server)
			defer srv.Close()
			c, err := New(Options{Address: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			_, r := steadyRead()
			for range 2 {
				got, err := c.Fetch(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if got[0].Path != tt.path || got[0].Dispersion != tt.dispersion {
					t.Errorf("path %s, dispersion %v, want %s, %v", got[0].Path, got[0].Dispersion, tt.path, tt.dispersion)
				}
			}
			probes := 0
			for _, q := range tt.server.queries {
				if strings.Contains(q, "driftwatch_no_such_series") {
					probes++
				}
			}
			if probes != 1 {
				t.Errorf("%d probes in two reads, want 1", probes)
			}
		})
	}
}

func TestWarningsAreReturned(t *testing.T) {
	srv := httptest.NewServer(&matrixServer{anchored: true, warnings: `,"warnings":["store down"],"infos":["not a counter"]`})
	defer srv.Close()
	c, err := New(Options{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, r := steadyRead()
	got, err := c.Fetch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(got[0].Warnings) != 1 || got[0].Warnings[0] != "store down" {
		t.Errorf("warnings %q, want the one of the server", got[0].Warnings)
	}
	spans, err := c.Versions(t.Context(), "build_info", nil, "version", telemetry.Window{Start: t0.Add(-minute), End: t0})
	if err != nil || len(spans.Warnings) != 1 {
		t.Errorf("versions: warnings %q, error %v", spans.Warnings, err)
	}
}

func TestNamesOfAPartialAnswerAreRefused(t *testing.T) {
	warnings := `,"warnings":["store down"]`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data := `["up"]`
		if strings.HasSuffix(r.URL.Path, "/series") {
			data = `[{"__name__":"m_total"}]`
			if strings.Contains(r.FormValue("match[]"), "many") {
				data = "[" + strings.Repeat(`{"__name__":"many"},`, maxSeriesCounted-1) + `{"__name__":"many"}]`
			}
		}
		fmt.Fprintf(w, `{"status":"success","data":%s%s}`, data, warnings)
	}))
	defer srv.Close()
	c, err := New(Options{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	w := telemetry.Window{Start: t0.Add(-minute), End: t0}
	ask := func() map[string]error {
		_, series := c.SeriesCount(t.Context(), "m_total", nil, w)
		_, names := c.MetricNames(t.Context(), nil, w)
		_, labels := c.LabelNames(t.Context(), "m_total", nil, w)
		return map[string]error{"series": series, "names": names, "labels": labels}
	}
	for what, err := range ask() {
		if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrIncomplete) || e.Detail != "store down" {
			t.Errorf("%s: %v, want %v: store down", what, err, ErrIncomplete)
		}
	}
	// The server warns that the limit cut it, which is what it was for.
	if n, err := c.SeriesCount(t.Context(), "many", nil, w); n != maxSeriesCounted || err != nil {
		t.Errorf("%d series, %v, want %d", n, err, maxSeriesCounted)
	}
	warnings = ""
	for what, err := range ask() {
		if err != nil {
			t.Errorf("%s without warnings: %v", what, err)
		}
	}
}
