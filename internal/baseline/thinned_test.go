package baseline

import (
	"fmt"
	"math"
	"testing"
)

// The fixture with its events divided by a whole number, rounded down: blocks of 2, 3 and 5
// steps, and an endpoint without any event in most hours. The expected numbers are those of a
// plain Python port of golden2.py that keeps its formulas and sorts every window anew.
func TestThinnedFixture(t *testing.T) {
	type look struct {
		t                    int
		d, adj, tau2, z, max float64
	}
	for _, want := range []struct {
		divide        float64
		eventsPerStep float64
		block         int
		mean, largest float64 // of placebo maxima
		looks         []look
	}{
		{
			2, 5.966666666666667, 2, 0.5044649793847158, 2.169400599485205,
			[]look{
				{8, 0.7546768130866139, 0.7504467999404864, 0.0762334473329935, 2.252619780914875, 1.3612019971310794},
				{11, 0.7459403551681083, 0.7383775542091352, 0.09038531984662461, 2.1872475196096097, 1.4343689342163555},
				{30, 0.7869520390447526, 0.7846828165482334, 0.09354356665453177, 2.431390146836976, 2.049095454647936},
				{60, 0.5781090824543824, 0.5768558526326718, 0.04638534176245941, 2.509615520741981, 2.509615520741981},
			},
		},
		{
			3, 3.8166666666666664, 3, 0.5034998510996699, 2.139442926240602,
			[]look{
				{8, 0.788152362631994, 0.7846873668723514, 0.06572091782522513, 2.266585875804967, 1.3696413602306938},
				{11, 0.731082826112833, 0.7266188770079054, 0.08629704483217496, 2.075419478601518, 1.4234741703738596},
				{30, 0.7945149709144586, 0.7944793668304642, 0.09915781058329413, 2.345369497320429, 2.1195653337649203},
				{60, 0.5909350023979032, 0.5939589973279482, 0.04728624868535485, 2.4912703610236346, 2.4912703610236346},
			},
		},
		{
			5, 2.075, 5, 0.5030630695228376, 2.0459806405464604,
			[]look{
				{8, 0.8266972055766857, 0.8230472428384232, 0.043084591690402275, 2.1854592407809528, 1.3206185564043142},
				{11, 0.7860062799366414, 0.7828032097881975, 0.08025135701945195, 2.0500286344574263, 1.3923038881793754},
				{30, 0.8829087544169161, 0.8884700907926468, 0.1111067305880244, 2.390584640580971, 2.0676547457357004},
				{60, 0.6886444358733907, 0.7001956519144884, 0.04590511892966835, 2.800255141625261, 2.800255141625261},
			},
		},
		{
			40, 0.0, 10, 0.328525138179476, 0.3285251381794755,
			[]look{
				{8, 2.5146067334522826, 2.4849066497880017, 0, 0.4873302883355959, 0.29448154871278986},
				{11, 2.0482479923865533, 2.014903020542265, 0, 0.4886857634748135, 0.3197717148371653},
				{30, 2.7917776317918808, 2.7444178452730856, 0, 1.0810791526181247, 0.9090755840421043},
				{60, 2.0594263168985094, 1.9972034434428654, 0, 0.9857159983633708, 0.9857785395090201},
			},
		},
	} {
		t.Run(fmt.Sprintf("events divided by %v", want.divide), func(t *testing.T) {
			track := fixture()
			for i := range track.Events {
				track.Events[i] = math.Floor(track.Events[i] / want.divide)
			}
			c := Calibrate(track, hourly, nil)
			if c.Block != want.block || c.Placebos != 499 {
				t.Errorf("block %d, %d placebos; want %d, 499", c.Block, c.Placebos, want.block)
			}
			wantNear(t, "events per step", c.EventsPerStep, want.eventsPerStep)
			mean := 0.0
			for _, m := range c.Maxima {
				mean += m / 499
			}
			wantNear(t, "mean placebo maximum", mean, want.mean)
			wantNear(t, "largest placebo maximum", c.Maxima[498], want.largest)
			r := Compare(track, &c, hourly, nil, 0.99, 60)
			for _, w := range want.looks {
				got := r.Looks[w.t-5]
				wantNear(t, "D", got.D, w.d)
				wantNear(t, "Dadj", got.Adj, w.adj)
				wantNear(t, "tau2", c.Looks[w.t-5].Tau2, w.tau2)
				wantNear(t, "z", got.Z, w.z)
				wantNear(t, "maximum", got.Max, w.max)
			}
		})
	}
}
