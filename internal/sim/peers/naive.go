package peers

import "math"

// z95 is the z of a one-sided p of 0.05, z95two of a two-sided one, z99 of a one-sided one of 0.01.
const (
	z95    = 1.6448536269514722
	z95two = 1.959963984540054
	z99    = 2.3263478740408408
)

// KaproSequential is Kapro's gate "sequential" with the bound that users write: the mean of the
// last 10 one-minute values against 1.2 times the value before, by a z test with the
// population's standard deviation, two-sided at 0.95 confidence and tested again at every
// poll. It wants 5 values. Kapro's default range of 5 minutes would hold just so many; range
// and bound are up to its users.
func KaproSequential() Judge {
	return Judge{
		Name: "Kapro sequential", Setting: "mean of 10 minutes above 1.2 times the hour before, z test at 0.95, every minute",
		Source: "kapro internal/gate/statistics OneSample; confidence 0.95, at least 5 samples",
		First:  Guard + 5, Every: 1, Last: Horizon, Limit: z95two,
		strength: func(s *Series, t int) float64 {
			x := s.minutes(max(Guard, t-10), t)
			if len(x) < 5 {
				return math.NaN()
			}
			mean, variance := meanVariance(x)
			return kaproZ(mean-rise*s.Over(-Before, 0), variance/float64(len(x)))
		},
	}
}

// KaproChangePoint is Kapro's gate "changePoint": the second half of the last 30 one-minute
// values against the first half, by a z test with the population's standard deviations,
// two-sided at 0.05, here for rises only. It wants 8 values. The range is up to its users; the
// minutes of the guard are in neither half.
func KaproChangePoint() Judge {
	return Judge{
		Name: "Kapro changePoint", Setting: "second half of 30 minutes above the first, z test at 0.05, every minute",
		Source: "kapro internal/gate/statistics ChangePoint; at least 8 samples",
		First:  Guard + 5, Every: 1, Last: Horizon, Limit: z95two,
		strength: func(s *Series, t int) float64 {
			x := append(s.minutes(t-30, 0), s.minutes(max(Guard, t-30), t)...)
			if len(x) < 8 {
				return math.NaN()
			}
			half := len(x) / 2
			m1, v1 := meanVariance(x[:half])
			m2, v2 := meanVariance(x[half:])
			return kaproZ(m2-m1, v1/float64(half)+v2/float64(len(x)-half))
		},
	}
}

// kaproZ is delta in standard errors; without variance any difference is infinitely sure.
func kaproZ(delta, variance float64) float64 {
	if variance > 0 {
		return delta / math.Sqrt(variance)
	}
	switch {
	case delta > 0:
		return math.Inf(1)
	case delta < 0:
		return math.Inf(-1)
	}
	return 0
}

// PeekedMannWhitney tests the minutes since the upgrade against the hour before, one-sided at
// 0.05, again every minute: what a dashboard with a p-value on it invites to.
func PeekedMannWhitney() Judge {
	return Judge{
		Name: "Mann–Whitney, peeked", Setting: "p <= 0.05 one-sided against the hour before, every minute from the 5th",
		Source: "asymptotic, ties and continuity corrected",
		First:  5, Every: 1, Last: Horizon, Limit: z95,
		strength: func(s *Series, t int) float64 {
			return MannWhitney(s.minutes(Guard, t), s.minutes(-Before, 0)).Z
		},
	}
}

// PeekedWelch is PeekedMannWhitney with Welch's t test.
func PeekedWelch() Judge {
	return Judge{
		Name: "Welch, peeked", Setting: "p <= 0.05 one-sided against the hour before, every minute from the 5th",
		Source: "Welch 1947",
		First:  5, Every: 1, Last: Horizon, Limit: -0.05,
		strength: func(s *Series, t int) float64 {
			return -Welch(s.minutes(Guard, t), s.minutes(-Before, 0)).Greater()
		},
	}
}

// at30 is when the negative controls look, minutes after the upgrade.
const at30 = 30

// Welch30 is the first negative control: Welch's t test of one-minute 0.99-quantiles, or log
// ratios, of 27 minutes against the hour before, one-sided at 0.01, once.
func Welch30() Judge {
	return Judge{
		Name: "Welch, once at 0.01", Setting: "negative control: one-minute values of 27 minutes against the hour before",
		Source: "Welch 1947",
		First:  at30, Every: 1, Last: at30, Limit: -0.01,
		strength: func(s *Series, t int) float64 {
			post, pre := s.minutes(Guard, t), s.minutes(-Before, 0)
			if s.bounds == nil {
				post, pre = s.logRates(Guard, t), s.logRates(-Before, 0)
			}
			return -Welch(post, pre).Greater()
		},
	}
}

// logRates are log((K+1/2)/(n+1)) of the minutes [from, to).
func (s *Series) logRates(from, to int) []float64 {
	out := make([]float64, 0, to-from)
	for i := from; i < to; i++ {
		if k, n := s.counts(i, i+1); n > 0 {
			out = append(out, math.Log((k+0.5)/(n+1)))
		}
	}
	return out
}

// TwoProportion30 is the second negative control: the share of events of 27 minutes against
// that of the hour before as if requests were independent, one-sided at 0.01, once.
func TwoProportion30() Judge {
	return Judge{
		Name: "two proportions at 0.01", Setting: "negative control: sums of 27 minutes against the hour before",
		Source: "the z test of two shares, pooled",
		First:  at30, Every: 1, Last: at30, Limit: z99,
		strength: func(s *Series, t int) float64 {
			k1, n1 := s.counts(Guard, t)
			k2, n2 := s.counts(-Before, 0)
			return TwoProportion(k1, n1, k2, n2)
		},
	}
}
