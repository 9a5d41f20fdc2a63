package shop

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/driftwatch/driftwatch/demo/internal/model"
)

// A bank is the third party: it refuses a share of all attempts for no reason. Behind endpoints
// that lock, it also keeps a payment that it refused locked for a while; whoever asks again too
// early is kept waiting, refused and locked out once more. A client that waits 200 ms never notices.
type bank struct {
	climate *climate

	mu      sync.Mutex
	rand    *rand.Rand
	locked  map[string]time.Time // until when, by payment
	cleaned time.Time
}

const (
	lock     = 190 * time.Millisecond // after a refusal; shorter than model.FixedBackoff
	hold     = 400 * time.Millisecond // how long an attempt that comes too early waits for its answer
	holdLock = 150 * time.Millisecond // after that answer
	forget   = 10 * time.Second       // when a payment that nobody asked about again is dropped
)

func newBank(c *climate, seed uint64) *bank {
	return &bank{climate: c, rand: rand.New(rand.NewPCG(seed, 3)), locked: map[string]time.Time{}}
}

// ServeHTTP answers one attempt: 200, 503 for a refusal, 429 for one that comes too early.
func (b *bank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(r.PathValue("endpoint"))
	if err != nil || i < 0 || i >= len(model.Endpoints) {
		http.Error(w, "no such endpoint", http.StatusNotFound)
		return
	}
	status, wait := b.answer(i, r.Header.Get("Idempotency-Key"), time.Now())
	if !sleep(r.Context(), wait) {
		return
	}
	w.WriteHeader(status)
}

// answer returns the status of one attempt and how long it waits for it.
func (b *bank) answer(i int, payment string, now time.Time) (status int, wait time.Duration) {
	locks, fail := model.Endpoints[i].Locks, b.climate.of(i)
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.cleaned) > forget {
		for p, until := range b.locked {
			if now.Sub(until) > forget {
				delete(b.locked, p)
			}
		}
		b.cleaned = now
	}
	if locks && now.Before(b.locked[payment]) {
		b.locked[payment] = now.Add(hold + holdLock)
		return http.StatusTooManyRequests, hold
	}
	if fail.Fails(b.rand) {
		if locks {
			b.locked[payment] = now.Add(lock)
		}
		return http.StatusServiceUnavailable, 0
	}
	delete(b.locked, payment)
	return http.StatusOK, 0
}
