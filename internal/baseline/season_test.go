package baseline

import (
	"math"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Four days of three placebos each, the last of a day at the clock time of the upgrade, where
// there is 1 to be had every day.
func TestSeason(t *testing.T) {
	g := Geometry{Before: 3, Day: 3, History: 12} // a stride of one step
	slots := []int{-12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1}
	s := newSeason(g, slots)
	adj := []float64{1.1, 0, 0, 0.9, 0, 0, 1, 0, math.NaN(), 1, 0, 0}
	got := s.adjust(adj)
	// By hand: 11 values, sum 4, squares 1.21 + .81 + 1 + 1 = 4.02, v = 4.02/11 - (4/11)^2;
	// m = 1, n = 4: 1 - v/4. Of the oldest, by the others: m = 2.9/3, n = 3.
	v := 4.02/11 - 16.0/121
	wantNear(t, "season", got, 1-v/4)
	m := 2.9 / 3
	wantNear(t, "what is left of the oldest", adj[0], 1.1-m*(1-v/(3*m*m)))
	if s.days != 4 || adj[1] != 0 || !math.IsNaN(adj[8]) {
		t.Errorf("%d days, %v left; want 4, and where others had nothing nothing is taken", s.days, adj)
	}

	// A mean that chance explains leaves nothing: v/n > m^2.
	adj = []float64{5, -4, 3, -5, 4, -3, 5, -4, 3, -4, 4, -3}
	before := adj[0]
	if got := s.adjust(adj); got != 0 || adj[0] != before {
		t.Errorf("season %v of chance", got)
	}

	// Two days at the clock time of the upgrade are too few.
	adj = []float64{1, 0, 0, 1, 0, 0, math.NaN(), 0, 0, math.NaN(), 0, 0}
	if got := s.adjust(adj); got != 0 || adj[0] != 1 || s.days != 0 {
		t.Errorf("season %v of two days, %d", got, s.days)
	}

	for name, g := range map[string]Geometry{
		"no day":                   {Before: 3, History: 12},
		"less than three days":     {Before: 3, Day: 5, History: 12},
		"a day of 3 strides and 1": {Before: 12, Day: 13, History: 100},
	} {
		if s := newSeason(g, slots); s.clock != nil {
			t.Errorf("%s: there is a season", name)
		}
	}
}

func TestStrideDividesTheDay(t *testing.T) {
	for _, tt := range []struct{ before, day, want int }{
		{60, 0, 20},
		{60, 1440, 20},
		{70, 0, 23},
		{70, 1440, 20},
		{50, 1440, 16},
		{12, 288, 4},
		{16, 288, 4},
		{2, 1440, 1},
		{60, 1439, 20}, // a prime: as if there were no day
	} {
		if got := (Geometry{Before: tt.before, Day: tt.day}).Stride(); got != tt.want {
			t.Errorf("baseline of %d, day of %d: stride %d, want %d", tt.before, tt.day, got, tt.want)
		}
	}
	g := NewGeometry(rule.Windows{Step: 5 * time.Minute, Before: time.Hour, Horizon: time.Hour, History: 7 * 24 * time.Hour}, telemetry.Upgrade{})
	if g.Day != 288 || g.Stride() != 4 {
		t.Errorf("a day has %d steps, stride %d; want 288 and 4", g.Day, g.Stride())
	}
}

// A daily job triples the events for half an hour; the upgrade comes just before it.
func TestDailyJob(t *testing.T) {
	g := hourly
	g.Day = 1440
	track := fixture()
	for i := range track.Events {
		step := track.First + i
		if step >= 0 {
			track.Events[i] = math.Floor(track.Events[i] / 1.5) // about what it was without the upgrade
		}
		if minute := (step%1440 + 1440) % 1440; minute >= 5 && minute < 35 {
			track.Events[i] *= 3
		}
	}
	z := func(g Geometry) (Calibration, float64) {
		c := Calibrate(track, g, nil)
		looks := Compare(track, &c, g, nil, 0, 40).Looks
		return c, looks[len(looks)-1].Z
	}
	plain, blamed := z(hourly)
	c, left := z(g)
	if c.Days != 7 || plain.Days != 0 {
		t.Errorf("%d days, %d without a day; want 7, 0", c.Days, plain.Days)
	}
	if blamed < 3 || math.Abs(left) > 2 { // the fixture has a wave of 97 minutes, too
		t.Errorf("z %v without the season, %v with it; want more than 3, less than 2", blamed, left)
	}
	at := c.Looks[35].Season
	if at < 0.7 || at > 1.2 {
		t.Errorf("the season at look 40 is %v, want about ln 3", at)
	}
	if plain.Looks[35].Season != 0 {
		t.Errorf("a season of %v without a day", plain.Looks[35].Season)
	}
}
