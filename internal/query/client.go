package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
)

// Mode is which read path a Client takes.
type Mode string

// The modes. Auto takes remote read where the server has it and PromQL elsewhere.
const (
	Auto       Mode = "auto"
	RemoteRead Mode = "remote-read"
	PromQL     Mode = "query"
)

// Options are how a Client reads.
type Options struct {
	// Address is the URL below which /api/v1 is found. A user and password in it are sent as
	// basic authentication and never shown.
	Address string
	// Transport carries the requests: TLS, credentials, proxies, headers. Nil means a plain one.
	// prometheus/common/config.NewRoundTripperFromConfig makes one.
	Transport   http.RoundTripper
	Mode        Mode          // "" means Auto
	Concurrency int           // requests in flight; 0 means 2
	MaxSamples  int64         // peak samples of one PromQL request; 0 means 20,000,000
	Timeout     time.Duration // of one request, the whole body included; 0 means 5 min
}

// A Client reads one Prometheus. It is safe for concurrent use; everything that uses it
// shares its limit of requests in flight.
type Client struct {
	base       *url.URL // without credentials
	http       *http.Client
	api        v1.API
	mode       Mode
	maxSamples int64
	timeout    time.Duration
	slots      chan struct{}

	mu       sync.Mutex
	noStream bool     // remote read was tried and is not there
	increase increase // what the server's increase can do
}

// tries is how often a request is sent before its server counts as unreachable, and
// firstPause what lies between the first two. Together they last about 12 s against a server
// that answers at once: longer than a restart behind a load balancer, shorter than a step.
const (
	tries      = 3
	firstPause = 3 * time.Second
	maxPause   = 9 * time.Second
)

// New returns a client. It fails if the address is no http or https URL.
func New(o Options) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(o.Address, "/"))
	if err != nil {
		// The error of url.Parse quotes the address, which may hold a password.
		return nil, errors.New("prometheus address is not a URL; write http://host:9090")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("prometheus address %s is not an http or https URL; write http://host:9090", u.Redacted())
	}
	rt := o.Transport
	if rt == nil {
		rt = NewTransport()
	}
	if u.User != nil {
		password, _ := u.User.Password()
		rt = basicAuth{next: rt, user: u.User.Username(), password: password}
		u.User = nil
	}
	rt = retrier{next: rt, pause: firstPause}
	client, err := api.NewClient(api.Config{Address: u.String(), RoundTripper: rt})
	if err != nil {
		return nil, fmt.Errorf("prometheus client: %w", err)
	}
	c := &Client{
		base: u, http: &http.Client{Transport: rt}, api: v1.NewAPI(client),
		mode: o.Mode, maxSamples: o.MaxSamples, timeout: o.Timeout,
	}
	if c.mode == "" {
		c.mode = Auto
	}
	switch c.mode {
	case Auto, RemoteRead, PromQL:
	default:
		return nil, fmt.Errorf("read mode %q is not auto, remote-read or query", o.Mode)
	}
	if c.maxSamples <= 0 {
		c.maxSamples = 20_000_000
	}
	if c.timeout <= 0 {
		c.timeout = 5 * time.Minute
	}
	n := o.Concurrency
	if n <= 0 {
		n = 2
	}
	c.slots = make(chan struct{}, n)
	return c, nil
}

// NewTransport returns a transport that suits long streams: no compression (it costs the
// server more than a network of 1 Gbit/s gains) and a large read buffer (the default of
// 4 KiB doubles the system time of a chunked stream).
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DisableCompression:  true,
		ReadBufferSize:      256 << 10,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
	}
}

// Address is the server's URL for people, without credentials.
func (c *Client) Address() string { return c.base.String() }

// acquire waits for one of the slots that all requests share.
func (c *Client) acquire(ctx context.Context) (release func(), err error) {
	select {
	case c.slots <- struct{}{}:
		return func() { <-c.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// post sends a request and returns its answer if the status is 200. The caller closes the
// body. Every other outcome is an *Error without Name, Expr and Window.
func (c *Client) post(ctx context.Context, path string, header http.Header, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Err: ErrUnavailable, Detail: "the request cannot be built"}
	}
	maps.Copy(req.Header, header)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, classify(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, statusError(resp)
}

// statusError turns a refusal into an *Error.
func statusError(resp *http.Response) *Error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // a refusal without its words is still one
	detail := strings.TrimSpace(string(text))
	var answer struct{ Error string }
	if json.Unmarshal(text, &answer) == nil && answer.Error != "" {
		detail = answer.Error
	}
	return &Error{Status: resp.StatusCode, Detail: detail, Err: reasonOf(resp.StatusCode)}
}

func reasonOf(status int) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return ErrTooExpensive
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return ErrBadQuery
	}
	return ErrUnavailable
}

// classify turns the error of a round trip into an *Error, or into the context's own error
// when that is what ended it.
func classify(ctx context.Context, err error) error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.Is(context.Cause(ctx), errRequestTimeout) {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL
	}
	return &Error{Err: ErrUnavailable, Detail: err.Error()}
}

var errRequestTimeout = errors.New("request timeout")

// describe fills in what a request was about.
func describe(err error, name, expr string) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Name == "" {
		e.Name, e.Expr = name, expr
	}
	return err
}

// basicAuth sends the credentials that stood in the address.
type basicAuth struct {
	next           http.RoundTripper
	user, password string
}

func (b basicAuth) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth(b.user, b.password)
	return b.next.RoundTrip(r)
}

// A retrier sends a request again after 429, 503 and connection errors, and after nothing
// else: what was refused once is refused twice, and a query that timed out would only load
// the server again. After the last try it returns an *Error.
type retrier struct {
	next  http.RoundTripper
	pause time.Duration
}

func (t retrier) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	pause := t.pause
	for try := 1; ; try++ {
		req := r
		if try > 1 && r.GetBody != nil {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			req = r.Clone(r.Context())
			req.Body = body
		}
		resp, err := t.next.RoundTrip(req)
		again := err != nil
		wait := pause + rand.N(pause/4+1)
		failed := &Error{Err: ErrUnavailable}
		if err != nil {
			failed.Detail = err.Error()
		} else if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
			again = true
			wait = retryAfter(resp.Header, wait)
		}
		if !again {
			return resp, nil
		}
		if r.Context().Err() != nil {
			return resp, err
		}
		if resp != nil {
			failed = statusError(resp)
			resp.Body.Close()
		}
		if try == tries || wait > maxPause {
			failed.Detail += fmt.Sprintf(", %d tries in %v", try, time.Since(start).Round(time.Second))
			return nil, failed
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		pause *= 2
	}
}

// retryAfter is what the server asks for, in seconds; a date is not worth a parser here.
func retryAfter(h http.Header, otherwise time.Duration) time.Duration {
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s >= 0 {
		return time.Duration(s) * time.Second
	}
	return otherwise
}
