// Package shop is a small shop that really serves, calls and waits: ten endpoints over HTTP, a flaky
// third party that it retries, a feature flag that it evaluates, and customers who send requests.
// It knows nothing about Prometheus but its metrics page.
package shop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	flagd "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/driftwatch/driftwatch/demo/internal/model"
)

// Flag is the key of the flag that chooses the backoff.
const Flag = "payments.backoff-decorrelated-jitter"

// The versions. The old one has no flag in its code.
const (
	OldVersion = "1.0"
	NewVersion = "1.1"
)

// A Shop is running from Start to Close.
type Shop struct {
	Address string // "host:port" of the shop; its metrics page is /metrics

	backoff  Strategy // behind the flag
	climate  *climate
	metrics  *metrics
	version  atomic.Value // string
	flags    *openfeature.EvaluationAPI
	client   *openfeature.Client
	bankURL  string
	http     *http.Client
	servers  []*http.Server
	overhead *overhead

	payments atomic.Uint64
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// Start starts the shop in version 1.0, its third party and its customers. Version 1.1 reads Flag
// from the flagd file at flagFile; where the flag is on it backs off by the strategy behind.
func Start(flagFile string, behind Strategy, weather *model.Weather, seed uint64) (s *Shop, err error) {
	ctx, stop := context.WithCancel(context.Background())
	s = &Shop{backoff: behind, climate: &climate{}, stop: stop, overhead: &overhead{}}
	s.climate.set(weather)
	s.version.Store(OldVersion)
	s.metrics = newMetrics(&s.version)
	s.http = &http.Client{
		Transport: &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 2048, DisableCompression: true},
		Timeout:   20 * time.Second,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()

	s.flags = isolated.NewAPI()
	provider, err := flagd.NewProvider(flagd.WithFileResolver(), flagd.WithOfflineFilePath(flagFile))
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	if err = s.flags.SetProviderAndWait(ctx, provider); err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	s.client = s.flags.NewClient()
	s.client.AddHooks(evaluations{counter: s.metrics.evaluations})

	third := http.NewServeMux()
	third.Handle("POST /attempt/{endpoint}", newBank(s.climate, seed))
	address, err := s.serve(ctx, third)
	if err != nil {
		return nil, err
	}
	s.bankURL = "http://" + address + "/attempt/"

	front := http.NewServeMux()
	front.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	for i, e := range model.Endpoints {
		front.Handle(e.Method+" "+e.Route, s.handler(i, rand.New(rand.NewPCG(seed, uint64(100+i)))))
	}
	if s.Address, err = s.serve(ctx, front); err != nil {
		return nil, err
	}

	s.running.Go(func() { s.climate.run(ctx) })
	for i := range model.Endpoints {
		s.running.Go(func() { s.customers(ctx, i, rand.New(rand.NewPCG(seed, uint64(200+i)))) })
	}
	return s, nil
}

// serve answers on a free port of loopback until Close.
func (s *Shop) serve(ctx context.Context, h http.Handler) (address string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	s.running.Go(func() { _ = server.Serve(listener) }) // returns ErrServerClosed after Close
	return listener.Addr().String(), nil
}

// Upgrade turns the running shop into version 1.1. Its counters go on.
func (s *Shop) Upgrade() { s.version.Store(NewVersion) }

// SetWeather goes on in other weather.
func (s *Shop) SetWeather(w *model.Weather) { s.climate.set(w) }

// Overhead returns what requests took beyond their work and their backoffs so far, at most the
// last few thousand.
func (s *Shop) Overhead() []time.Duration { return s.overhead.values() }

// Close stops everything that Start started and waits for it.
func (s *Shop) Close() error {
	s.stop()
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	s.running.Wait()
	s.http.CloseIdleConnections()
	if s.flags != nil {
		errs = append(errs, s.flags.Shutdown(context.Background()))
	}
	return errors.Join(errs...)
}

// handler serves endpoint i: it works, asks the third party until it accepts, and answers.
func (s *Shop) handler(i int, source *rand.Rand) http.Handler {
	e := model.Endpoints[i]
	m := s.metrics.of(e)
	r := &lockedRand{rand: source}
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		ctx, began := request.Context(), time.Now()
		backoff := s.strategy(ctx, e)

		work := r.draw(s.climate.of(i).Work)
		if !sleep(ctx, work) {
			return
		}
		m.calls.Inc()
		key := strconv.FormatUint(s.payments.Add(1), 10)
		accepted, waited, last := s.ask(ctx, i, key), time.Duration(0), time.Duration(0)
		for attempt := 1; !accepted && attempt < model.Attempts; attempt++ {
			last = r.draw(func(rr *rand.Rand) time.Duration { return backoff(rr, last) })
			if !sleep(ctx, last) {
				return
			}
			waited += last
			m.retries.Inc()
			accepted = s.ask(ctx, i, key)
		}
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		m.seconds.Observe(took.Seconds())
		s.overhead.add(took - work - waited)
		if !accepted {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
}

// strategy asks the flag, in the version that has one, at the endpoints that are behind it.
func (s *Shop) strategy(ctx context.Context, e model.Endpoint) Strategy {
	if !e.Behind || s.version.Load() == OldVersion {
		return Fixed
	}
	customer := openfeature.NewEvaluationContext("customer-"+strconv.FormatUint(s.payments.Load()%1000, 10), nil)
	if s.client.Boolean(ctx, Flag, false, customer) {
		return s.backoff
	}
	return Fixed
}

// ask makes one attempt at the third party.
func (s *Shop) ask(ctx context.Context, i int, payment string) (accepted bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.bankURL+strconv.Itoa(i), http.NoBody)
	if err != nil {
		return false
	}
	request.Header.Set("Idempotency-Key", payment)
	answer, err := s.http.Do(request)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// customers sends requests to endpoint i at random instants, whether or not earlier ones have been
// answered: a slow shop does not make customers rarer.
func (s *Shop) customers(ctx context.Context, i int, r *rand.Rand) {
	e := model.Endpoints[i]
	url := "http://" + s.Address + strings.NewReplacer("{id}", "42", "{sku}", "chair").Replace(e.Route)
	var sent sync.WaitGroup
	defer sent.Wait()
	next := time.Now()
	for {
		next = next.Add(time.Duration(r.ExpFloat64() / s.climate.of(i).Rate * float64(time.Second)))
		if !sleep(ctx, time.Until(next)) {
			return
		}
		sent.Go(func() {
			request, err := http.NewRequestWithContext(ctx, e.Method, url, http.NoBody)
			if err != nil {
				return
			}
			answer, err := s.http.Do(request)
			if err != nil {
				return // the shop is being closed
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		})
	}
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A climate is the weather as time passes.
type climate struct {
	mu      sync.RWMutex
	weather *model.Weather
}

func (c *climate) set(w *model.Weather) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weather = w
}

func (c *climate) of(i int) model.Conditions {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.weather.Of(i)
}

func (c *climate) run(ctx context.Context) {
	t := time.NewTicker(model.Tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.mu.Lock()
			c.weather.Step()
			c.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

type lockedRand struct {
	mu   sync.Mutex
	rand *rand.Rand
}

func (l *lockedRand) draw(f func(*rand.Rand) time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f(l.rand)
}

// overhead keeps the last few thousand values.
type overhead struct {
	mu   sync.Mutex
	ring [4096]time.Duration
	n    int
}

func (o *overhead) add(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ring[o.n%len(o.ring)] = max(0, d)
	o.n++
}

func (o *overhead) values() []time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]time.Duration(nil), o.ring[:min(o.n, len(o.ring))]...)
}
