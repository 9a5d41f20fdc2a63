package baseline

import (
	"math"
	"slices"
	"testing"
)

func TestAddRestarts(t *testing.T) {
	upgrades := []int{-8000, -6000, -4000}
	exclude := [][2]int{{-8000, -7996}, {-6000, -5996}, {-4000, -3996}}
	track := fixture()
	for _, at := range upgrades[:2] { // a restart doubles the events for 20 steps, but not at the third
		for i := at; i < at+20; i++ {
			track.Events[i-track.First] *= 2
		}
	}
	c := Calibrate(track, hourly, exclude)
	plain := c
	c.AddRestarts(track, hourly, upgrades, exclude)
	top := c.Maxima[len(c.Maxima)-1]
	if m := c.Restarts.Maxima; len(m) != 3 || !slices.IsSorted(m) || m[0] > top || m[1] < 1 || len(c.Restarts.Minima) != 3 {
		t.Errorf("restarts %+v, placebos up to %v", c.Restarts, top)
	}
	if !slices.Equal(c.Maxima, plain.Maxima) {
		t.Error("restarts are among the placebos")
	}

	// What placebo and restart say of the same steps is the same, but for the season.
	at := placebos(newLedger(track), hourly, hourly.Horizon, exclude)[200]
	d := plain
	d.AddRestarts(track, hourly, []int{at}, exclude)
	if _, found := slices.BinarySearchFunc(d.Maxima, d.Restarts.Maxima[0], func(a, b float64) int {
		switch {
		case math.Abs(a-b) < 1e-12:
			return 0
		case a < b:
			return -1
		}
		return 1
	}); !found {
		t.Errorf("the restart at placebo %d is %v, which no placebo is", at, d.Restarts.Maxima[0])
	}

	for name, at := range map[string]int{
		"too near to the baseline": -100, "before the data": track.First + 10, "too near to another one": -4030,
	} {
		d := plain
		if d.AddRestarts(track, hourly, []int{at}, exclude); len(d.Restarts.Maxima) != 0 {
			t.Errorf("%s: %+v", name, d.Restarts)
		}
	}
	var none Calibration
	none.AddRestarts(track, hourly, upgrades, nil)
	if len(none.Restarts.Maxima) != 0 {
		t.Error("restarts without placebos")
	}
}
