package short

import (
	"testing"
	"time"
)

// The full plan is run by make calibrate; this one is small, and passes what its intervals
// touch.
func TestCalibrate(t *testing.T) {
	begun := time.Now()
	plan := Plan{Seed: 20260311, Cases: 20, Power: 30, Lenient: true}
	figures := Calibrate(plan)
	t.Logf("seed %d, %v\n%s", plan.Seed, time.Since(begun), String(figures))
	for _, f := range figures {
		if !f.Pass {
			t.Errorf("%s is %.3f (%.3f to %.3f), bar %s", f.Name, f.Value, f.Low, f.High, f.Bar)
		}
	}
}
