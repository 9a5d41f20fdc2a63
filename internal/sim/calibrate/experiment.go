package calibrate

import (
	"github.com/driftwatch/driftwatch/internal/sim"
)

// judgeModes are what package detect judges by.
var judgeModes = []mode{own, against}

// An experiment is a world, and what is measured in families of its services.
type experiment struct {
	name     string
	world    func(run uint64) sim.World
	services int           // in a family; half as many at the scale Tiny, but for the first experiment
	families map[Scale]int // how many
	parts    []part        // in this order
}

// A part is a measure, and the bars that need it.
type part struct {
	bars []string
	run  measure
	most int // it is made in the first so many families; 0 = in all
}

// effectFamilies is in how many families effects are drawn at the full scale: each of them takes
// as long as the family itself. 500 services give a found share of 0.5 a standard error below
// 2 points; the rate of false alarms of whole families takes all 300.
const effectFamilies = 100

// A Scale is how much is simulated.
type Scale string

// The scales. Tiny is for tests: a minute on one core.
const (
	Tiny  Scale = "tiny"
	Small Scale = "small"
	Full  Scale = "full"
)

func plain(rps float64) func(run uint64) sim.World {
	return func(run uint64) sim.World {
		w := sim.NewWorld(run, rps)
		w.To = windowEnd
		return w
	}
}

// changed is plain(50) with something else.
func changed(change func(w *sim.World)) func(run uint64) sim.World {
	return func(run uint64) sim.World {
		w := plain(50)(run)
		change(&w)
		return w
	}
}

// sparseRates are those of S9, by endpoint.
var sparseRates = []float64{0.02, 0.05, 0.1, 0.2, 0.2, 0.02, 0.05, 0.1, 0.2, 0.1}

// experiments are all there are. A family has 200 endpoints where families count; the worlds
// around it have as many services as their bars ask for.
func experiments() []experiment {
	return append([]experiment{
		{"50 rps", plain(50), servicesPerFamily, map[Scale]int{Tiny: 2, Small: 12, Full: 300}, []part{
			{[]string{"S0"}, nulls, 0},
			{[]string{"S0"}, alone, effectFamilies},
			{[]string{"S0"}, negatives, effectFamilies},
			{[]string{"S1"}, families, 0},
			{[]string{"S1", "S7"}, discoveries, effectFamilies},
			{[]string{"S2"}, traffic, effectFamilies},
			{[]string{"S5"}, blame, effectFamilies},
			{[]string{"S6"}, power, effectFamilies},
			{[]string{"S8"}, coverage, effectFamilies},
			{[]string{"intervals"}, intervals, effectFamilies},
			{[]string{"recovery"}, recoveries, effectFamilies},
		}},
		{"5 rps", plain(5), servicesPerFamily, map[Scale]int{Tiny: 0, Small: 6, Full: 30}, []part{{[]string{"S0"}, nulls, 0}}},
		{"0.5 rps", plain(0.5), servicesPerFamily, map[Scale]int{Tiny: 1, Small: 6, Full: 30}, []part{{[]string{"S0"}, nulls, 0}}},
		{"daily job", changed(func(w *sim.World) { w.Job = true }), servicesPerFamily, map[Scale]int{Tiny: 1, Small: 4, Full: 15}, []part{{[]string{"S3"}, nulls, 0}}},
		{"spiky", changed(func(w *sim.World) { w.SpikyEvery = 4 }), servicesPerFamily, map[Scale]int{Tiny: 0, Small: 6, Full: 30}, []part{{[]string{"S4"}, spiky, 0}}},
		{"sparse", changed(func(w *sim.World) { w.Rates = sparseRates }), servicesPerFamily, map[Scale]int{Tiny: 1, Small: 4, Full: 15}, []part{{[]string{"S9"}, sparse, 0}}},
		{"slow warm-up", changed(func(w *sim.World) { w.Warm = 300 }), servicesPerFamily, map[Scale]int{Tiny: 1, Small: 4, Full: 15}, []part{{[]string{"S12"}, nulls, 0}}},
		{"native", changed(func(w *sim.World) { w.Bounds = sim.Native() }), 4, map[Scale]int{Tiny: 0, Small: 4, Full: 60}, []part{{[]string{"intervals"}, allIntervals, 0}}},
	}, robustExperiments()...)
}
