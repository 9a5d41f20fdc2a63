package peers

import (
	"fmt"
	"math"
)

// rise is how often people write it by hand: the bound is 1.2 times the value before.
// (argo-rollouts#1107: (1+0.2) * stable.)
const rise = 1.2

// over is the strength of a static bound that is a multiple of the baseline's value: the value
// of a query over the last minutes, by that over the baseline hour.
func over(minutes int) func(*Series, int) float64 {
	return func(s *Series, t int) float64 {
		return s.Over(t-minutes, t) / s.Over(-Before, 0)
	}
}

// Argo is an AnalysisTemplate of Argo Rollouts that asks a query with a range of 5 minutes
// every 5 minutes for an hour and fails once more than failureLimit measurements were above
// 1.2 times the value before. Argo has no comparison of its own: the bound is what its users
// write, interval and range are those of its documentation, and so is failureLimit 3; the default
// is 0. Measurements are counted over the whole run, not in a row.
func Argo(failureLimit int) Judge {
	return Judge{
		Name: fmt.Sprintf("Argo 1.2x, failureLimit %d", failureLimit), Setting: "value of 5 minutes above 1.2 times the hour before, every 5 minutes",
		Source: "argo-rollouts docs/features/analysis.md; failureLimit 0 is the default, 3 the documentation's; 1.2x is the users' (#1107)",
		First:  Guard + 5, Every: 5, Last: Horizon, Limit: rise, Forgiven: failureLimit, strength: over(5),
	}
}

// Flagger is an analysis of Flagger: every minute (interval 60 s, metric window 1 m, the
// defaults) the value is compared with a threshold range whose end is 1.2 times the value before,
// and the upgrade is rolled back once threshold checks have failed, in a row or not. The
// default threshold is 1; its documentation's examples use 5 and 10.
func Flagger(threshold int) Judge {
	return Judge{
		Name: fmt.Sprintf("Flagger 1.2x, %d checks", threshold), Setting: "value of 1 minute above 1.2 times the hour before, every minute",
		Source: "flagger docs/gitbook/usage/metrics.md, how-it-works.md; interval 60 s; thresholds 5 and 10 are the documentation's",
		First:  Guard + 1, Every: 1, Last: Horizon, Limit: rise, Forgiven: threshold - 1, strength: over(1),
	}
}

// PipeCD is Automated Deployment Analysis with strategy PREVIOUS and deviation HIGH: for 30
// minutes, every 5, the last 5 one-minute values are compared with those that the previous
// upgrade had at the same age, by an exact one-sided Mann–Whitney test at 0.05, which is
// written into its code. The first failure ends it (failureLimit 0). Durations are those of
// its documentation.
func PipeCD() Judge {
	return Judge{
		Name: "PipeCD, previous", Setting: "exact Mann–Whitney p <= 0.05 of 5 minutes against the previous upgrade, every 5 minutes for 30",
		Source: "pipecd docs v0.57 automated-deployment-analysis.md; executor/analysis/mannwhitney; p is hard-coded",
		First:  Guard + 5, Every: 5, Last: Guard + 30, Limit: -0.05,
		strength: func(s *Series, t int) float64 {
			if len(s.Earlier) == 0 {
				return math.NaN() // the first deployment passes
			}
			return -MannWhitneyExact(s.minutes(t-5, t), s.Earlier[0].minutes(t-5, t)).Greater
		},
	}
}

// Keptn is a quality gate of Keptn's lighthouse with the criterion "<=+10%": one evaluation of
// the half hour after the upgrade against the mean of the last three evaluations, its default
// number. How long an evaluation is, is up to its users.
func Keptn() Judge {
	return Judge{
		Name: "Keptn +10 %", Setting: "value of 30 minutes above 1.1 times the mean of the last three upgrades' own",
		Source: "keptn lighthouse-service: <=+10%, aggregate avg, number_of_comparison_results 3",
		First:  Guard + 30, Every: 1, Last: Guard + 30, Limit: 1.1,
		strength: func(s *Series, t int) float64 {
			sum, n := 0.0, 0.0
			for _, e := range s.Earlier[:min(3, len(s.Earlier))] {
				if v := e.Over(Guard, t); !math.IsNaN(v) {
					sum += v
					n++
				}
			}
			return s.Over(Guard, t) / (sum / n) // NaN without history: that passes
		},
	}
}
