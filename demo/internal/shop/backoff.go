package shop

import (
	"math/rand/v2"
	"time"

	"github.com/driftwatch/driftwatch/demo/internal/model"
)

// A Strategy says how long to wait before the next attempt, given the wait before the last one,
// which is 0 at first.
type Strategy func(r *rand.Rand, last time.Duration) time.Duration

// Fixed is the old strategy: always the same wait.
func Fixed(*rand.Rand, time.Duration) time.Duration { return model.FixedBackoff }

// Decorrelated is the new strategy: uniform between a base and three times the last wait, up to a
// cap (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015). Its first wait is at
// most 180 ms, less than the fixed 200: sooner on average, and too soon for one of the third parties.
func Decorrelated(r *rand.Rand, last time.Duration) time.Duration {
	const base, highest = 60 * time.Millisecond, 800 * time.Millisecond
	upper := 3 * max(last, base)
	return min(highest, base+time.Duration(r.Int64N(int64(upper-base)+1)))
}
