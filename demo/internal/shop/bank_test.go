package shop

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/demo/internal/model"
)

// pay makes n payments at endpoint i without waiting for real, and returns retries per payment and
// the share that waits for more than half a second.
func pay(i int, s Strategy, n int) (retries, long float64) {
	c := &climate{}
	c.set(model.NewWeather(1))
	b := newBank(c, 1)
	r := rand.New(rand.NewPCG(9, 9))
	now := time.Date(2026, 3, 11, 14, 0, 0, 0, time.UTC)
	for p := range n {
		var last, waited time.Duration
		for attempt := 1; ; attempt++ {
			status, held := b.answer(i, strconv.Itoa(p), now.Add(waited))
			waited += held
			if status == http.StatusOK || attempt == model.Attempts {
				break
			}
			last = s(r, last)
			waited += last
			retries++
		}
		if waited > 500*time.Millisecond {
			long++
		}
	}
	return retries / float64(n), long / float64(n)
}

// TestOnlyOneEndpointSuffers is the plot: the new backoff multiplies the retries and the long waits of
// the endpoint whose third party locks, and of no other; the old one does the same everywhere.
func TestOnlyOneEndpointSuffers(t *testing.T) {
	const n = 20_000
	for i, e := range model.Endpoints {
		oldRetries, oldLong := pay(i, Fixed, n)
		newRetries, newLong := pay(i, Decorrelated, n)
		// A geometric number of refusals, cut at the last attempt; the weather moves the share by a third at most.
		want := e.Fail / (1 - e.Fail)
		if oldRetries < want/1.5 || oldRetries > want*1.5 || oldLong > 0.001 {
			t.Errorf("%s %s, old backoff: %.4f retries, %.4f long; want about %.4f and none", e.Method, e.Route, oldRetries, oldLong, want)
		}
		if e.Locks {
			if newRetries < 2*oldRetries || newLong < 0.05 {
				t.Errorf("%s %s, new backoff: retries %.4f → %.4f, long waits %.4f → %.4f; want twice as many and 5 %%",
					e.Method, e.Route, oldRetries, newRetries, oldLong, newLong)
			}
			continue
		}
		if newRetries > 1.2*oldRetries || newLong > 0.001 {
			t.Errorf("%s %s, new backoff: retries %.4f → %.4f, long waits %.4f → %.4f; want no change",
				e.Method, e.Route, oldRetries, newRetries, oldLong, newLong)
		}
	}
}

func TestDecorrelated(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	tests := []struct{ last, low, high time.Duration }{ // by hand: base 60 ms, three times the last, at most 800 ms
		{0, 60 * time.Millisecond, 180 * time.Millisecond},
		{100 * time.Millisecond, 60 * time.Millisecond, 300 * time.Millisecond},
		{500 * time.Millisecond, 60 * time.Millisecond, 800 * time.Millisecond},
	}
	for _, tt := range tests {
		least, most := time.Hour, time.Duration(0)
		for range 5000 {
			d := Decorrelated(r, tt.last)
			least, most = min(least, d), max(most, d)
		}
		if least < tt.low || most > tt.high || least > tt.low+5*time.Millisecond || most < tt.high-5*time.Millisecond {
			t.Errorf("after %v: %v to %v, want %v to %v", tt.last, least, most, tt.low, tt.high)
		}
	}
}

func TestBankForgets(t *testing.T) {
	c := &climate{}
	c.set(model.NewWeather(1))
	b := newBank(c, 1)
	now := time.Date(2026, 3, 11, 14, 0, 0, 0, time.UTC)
	for p := range 200_000 { // three in four hundred thousand payments a minute are left alone
		b.answer(0, strconv.Itoa(p), now.Add(time.Duration(p)*time.Millisecond))
	}
	if len(b.locked) > 5000 {
		t.Errorf("%d payments are still remembered", len(b.locked))
	}
}
