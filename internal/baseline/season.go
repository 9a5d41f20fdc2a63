package baseline

// minDays is how many same-clock days history must hold for the time of day to be adjusted
// for. With fewer, their mean is mostly noise, and shrinking leaves nothing of it.
const minDays = 3

// A season is the shrunken same-clock term: what placebos at this time of day usually do.
//
// The term is m max(0, 1 - (v/n)/m^2), with m the mean adjusted difference of the n placebos
// at the same clock time and v the variance of those of all placebos: nothing is left of a mean that
// chance explains. A placebo is adjusted by those of the other days. Next to a daily job that
// slows everything by a quarter it takes the false alarms of the body metric from 0.63 to 0.007,
// and costs 1 to 3 points of power on other days. (docs/statistics.md, "Season"; the factor is
// the positive part of James and Stein 1961.)
type season struct {
	clock []int32 // of each slot: strides before the upgrade, modulo a day; nil: there is no term
	days  int     // placebos at the clock time of the upgrade at the last look

	sum   []float64 // by clock
	count []int32
}

// newSeason returns the season of the slots of g. There is none where a day is no whole number
// of strides, or is longer than the history.
func newSeason(g Geometry, slots []int) season {
	stride := g.Stride()
	if g.Day <= 0 || g.Day%stride != 0 || g.History/g.Day < minDays {
		return season{}
	}
	perDay := g.Day / stride
	s := season{clock: make([]int32, len(slots)), sum: make([]float64, perDay), count: make([]int32, perDay)}
	for i, step := range slots {
		s.clock[i] = int32(-step / stride % perDay)
	}
	return s
}

// adjust takes the same-clock term from every placebo of one look, and returns that of the
// upgrade. It is 0, and nothing is changed, where fewer than 3 placebos are at its clock time.
func (s *season) adjust(adj []float64) float64 {
	if s.clock == nil {
		return 0
	}
	clear(s.sum)
	clear(s.count)
	var n, mean, square float64
	for i, x := range adj {
		if x == x {
			s.sum[s.clock[i]] += x
			s.count[s.clock[i]]++
			n++
			mean += x
			square += x * x
		}
	}
	s.days = 0
	if s.count[0] < minDays {
		return 0
	}
	s.days = int(s.count[0])
	mean /= n
	v := max(0, square/n-mean*mean)
	for i, x := range adj {
		if x != x {
			continue
		}
		// One day fewer than the upgrade has: its own.
		if k := s.clock[i]; s.count[k] >= minDays {
			adj[i] = x - shrunken(s.sum[k]-x, float64(s.count[k]-1), v)
		}
	}
	return shrunken(s.sum[0], float64(s.count[0]), v)
}

// shrunken is the shrunken mean of n values with this sum, whose variance is v.
func shrunken(sum, n, v float64) float64 {
	m := sum / n
	if m == 0 {
		return 0
	}
	return m * max(0, 1-v/(n*m*m))
}
