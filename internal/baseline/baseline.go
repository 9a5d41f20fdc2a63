// Package baseline says what a service was like before an upgrade, and how much it moves
// when nothing is upgraded.
//
// Time is counted in steps of the rule, step 0 beginning when the upgrade was complete
// (telemetry.Grid). A placebo is a past step treated as if an upgrade had happened then;
// the statistics of placebos are the null distribution that package detect ranks the real
// upgrade in. Nothing here reads a clock, a network or a rule's wishes about verdicts.
package baseline

import (
	"math"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Geometry is the windows of a rule in steps. The baseline is [-Gap-Before, -Gap), the
// post window at look t is [Guard, t), looks are t = FirstLook..Horizon. Placebos keep the
// same windows, Gap included.
type Geometry struct {
	Before    int `json:"before"`
	Gap       int `json:"gap"` // from the start of the rollout to its end, rounded up
	Guard     int `json:"guard"`
	FirstLook int `json:"first_look"`
	Horizon   int `json:"horizon"`
	History   int `json:"history"` // from the upgrade back to the earliest placebo; 0 = none
	// Day is the steps of a day, for the same-clock term; 0 = there is none.
	Day int `json:"day,omitempty"`
}

// NewGeometry returns the windows of an upgrade in steps of the rule.
func NewGeometry(w rule.Windows, u telemetry.Upgrade) Geometry {
	gap := int((u.At.Sub(u.Started) + w.Step - 1) / w.Step)
	return Geometry{
		Before: w.Steps(w.Before), Gap: max(0, gap), Guard: w.Steps(w.Guard),
		FirstLook: w.Steps(w.FirstLook), Horizon: w.Steps(w.Horizon), History: w.Steps(w.History),
		Day: w.Steps(24 * time.Hour),
	}
}

// First is the first step that any window of g reaches back to, placebos included.
func (g Geometry) First() int { return -g.History - g.Gap - g.Before }

// BaselineStart is the first step of the baseline window.
func (g Geometry) BaselineStart() int { return -g.Gap - g.Before }

// RolloutStep is the step that holds the first sight of the new version: steps are open at
// their beginning, and the rollout begins at that very scrape.
func (g Geometry) RolloutStep() int { return -g.Gap - 1 }

// Stride is the distance between placebos: a third of the baseline, or the next smaller number
// that divides a day, if it is at least three quarters of that, so that placebos of different
// days lie at the same clock time. Baselines of 60, 45, 30, 15 and 12 steps need no rounding.
func (g Geometry) Stride() int {
	third := max(1, g.Before/3)
	for s := third; g.Day > 0 && 4*s >= 3*third; s-- {
		if g.Day%s == 0 {
			return s
		}
	}
	return third
}

// Looks is the number of looks from the first to the last.
func (g Geometry) Looks() int { return max(0, g.Horizon-g.FirstLook+1) }

// weightExponent is how fast a look gains weight in the sequential maximum. At 0 the noisy
// first looks fill the null distribution and a 50 % slower tail is found in 58 % of upgrades;
// at 0.25 in 75 %, median delay 27 minutes; at 0.5 in 80 %, 33 minutes. (research, section 2)
const weightExponent = 0.25

// Weight is what z at look t counts in the sequential maximum: (t / Horizon)^0.25.
func (g Geometry) Weight(t int) float64 {
	return math.Pow(float64(t)/float64(g.Horizon), weightExponent)
}

// Buckets are the requests of one endpoint in each bucket of its histogram, cumulative over
// Bounds as in Prometheus, summed over the baseline and over the post window.
type Buckets struct {
	Endpoint telemetry.Endpoint `json:"endpoint"`
	Signal   int                `json:"signal"`
	Bounds   []float64          `json:"bounds"` // the finite ones, seconds, ascending; shape (B)
	Before   []float64          `json:"before"` // shape (B+1), the last is the count of all
	After    []float64          `json:"after"`  // shape (B+1)

	Exponential bool `json:"exponential,omitempty"` // the buckets of a native histogram, not custom ones
}

// A Calibration is what the history of one metric of one endpoint says about how it moves
// without an upgrade. It never holds raw history. (docs/statistics.md, "Calibration")
type Calibration struct {
	Endpoint telemetry.Endpoint `json:"endpoint"`
	Signal   int                `json:"signal"`
	Metric   telemetry.Metric   `json:"metric"`
	Bound    float64            `json:"bound"` // seconds; 0 for retry and level

	EventsPerStep float64 `json:"events_per_step"` // median over whole stretches of Before steps of the mean
	Block         int     `json:"block"`           // steps in a block: 1, 2, 3, 5 or 10
	Class         int     `json:"class"`           // count class of EventsPerStep: 0 (<.5), 1 (.5-2), 2 (2-8), 3 (>8); level: 0
	Placebos      int     `json:"placebos"`        // valid ones

	Looks []LookCalibration `json:"looks"` // one per look of the geometry; none without placebos

	// Maxima are the placebos' own weighted sequential maxima of z up to the horizon, ascending;
	// Minima the same of -z.
	Maxima []float64 `json:"maxima"`
	Minima []float64 `json:"minima"`

	// Scale is the median over placebos of s at the horizon: what an upgrade of this traffic
	// can be told from.
	Scale float64 `json:"scale"`

	Days    int      `json:"days"`    // placebos at the clock time of the upgrade that it is adjusted by; 0 = it is not
	Control bool     `json:"control"` // its differences are part of the mean that Against adjusts for
	Against *Against `json:"against"` // nil: there are too few controls

	Restarts Restarts `json:"restarts,omitzero"`
}

// Restarts are the weighted sequential maxima of z, and of -z, of past upgrades that were kept,
// ascending: placebos of their own class, which were restarted by a rollout.
type Restarts struct {
	Maxima []float64 `json:"maxima"`
	Minima []float64 `json:"minima"`
}

// Against is the calibration with what the controls did as a second covariate: Looks, Maxima,
// Minima and Scale as those of a Calibration, of the placebos at which there are enough controls.
type Against struct {
	Looks  []LookCalibration `json:"looks"`
	Maxima []float64         `json:"maxima"`
	Minima []float64         `json:"minima"`
	Scale  float64           `json:"scale"`
}

// A LookCalibration is the adjustment and the scale at one look.
type LookCalibration struct {
	Slope    float64 `json:"slope"`     // of D on load L over the placebos
	LoadMean float64 `json:"load_mean"` // of L over the placebos
	LoadVar  float64 `json:"load_var"`  // of L over the placebos, 1/N
	Tau2     float64 `json:"tau2"`      // variance of the adjusted difference beyond counting noise
	Placebos int     `json:"placebos"`  // that this look could be made at

	// The same of C, the mean difference of the controls. All are 0 where C is not adjusted for.
	ControlSlope float64 `json:"control_slope,omitempty"`
	ControlMean  float64 `json:"control_mean,omitempty"`
	ControlVar   float64 `json:"control_var,omitempty"`
	Covariance   float64 `json:"covariance,omitempty"` // of L and C

	// Season is what the placebos of other days at the clock time of the upgrade did, shrunken.
	Season float64 `json:"season,omitempty"`
}

// A Look is one comparison of post window and baseline, t steps after the upgrade.
type Look struct {
	T    int     `json:"t"`
	D    float64 `json:"d"`    // difference of (trimmed) mean log rates, post minus baseline
	Load float64 `json:"load"` // L: log requests per step, post minus baseline
	V    float64 `json:"v"`    // variance of D that counting alone explains; 0 for level
	Adj  float64 `json:"adj"`  // D without what the load and the time of day explain
	S    float64 `json:"s"`    // its standard deviation
	Z    float64 `json:"z"`

	LoadSD float64 `json:"load_sd"` // |L - mean| in standard deviations of the placebos' L
	Max    float64 `json:"max"`     // running maximum of w(t) z: what placebo maxima are compared with
	Min    float64 `json:"min"`     // running maximum of -w(t) z

	// Against is the same with what the controls did explained, too. AgainstControls fills it in;
	// nil: there is nothing to compare with at this look.
	Against *Adjusted `json:"against"`

	// The gates J10, J5 and Jp: shares of the move that were not there shortly before the
	// rollout began, and that are still there now (1 = all of it). NaN where it cannot be told.
	J10 float64 `json:"j10"`
	J5  float64 `json:"j5"`
	Jp  float64 `json:"jp"`

	Events     float64 `json:"events"`      // in the post window
	Trials     float64 `json:"trials"`      // in the post window; 0 for level
	EventSteps int     `json:"event_steps"` // steps of the post window with an event
	Missing    float64 `json:"missing"`     // share of post steps without data
	Valid      bool    `json:"valid"`       // at most 20 % of either window missing, and D can be computed
}

// Adjusted is a difference without what its covariates explain, and where that stands.
type Adjusted struct {
	Adj float64 `json:"adj"`
	S   float64 `json:"s"` // standard deviation of Adj
	Z   float64 `json:"z"`
	Max float64 `json:"max"` // running maximum of w(t) z
	Min float64 `json:"min"` // running maximum of -w(t) z
}

// An Interval is where a number lies. NaN is an end that cannot be told: it lies beyond the last
// bound of a histogram.
type Interval struct {
	Low, High float64
}

// A Comparison is one metric of one endpoint after the upgrade against before it, at every
// look so far, with the null distribution it is ranked in. All numbers but Looks describe
// the last look.
type Comparison struct {
	Endpoint telemetry.Endpoint
	Signal   int
	Metric   telemetry.Metric
	Bound    float64
	New      bool // as of the track: its counter first appeared with the upgrade

	Calibration *Calibration // nil: there is no history to calibrate on
	Looks       []Look

	BaselineEvents  float64
	BaselineTrials  float64
	BaselineMissing float64 // share of baseline steps without data

	// Before and After are the signal's raw numbers in its own unit: the quantile (seconds), the
	// ratio, or the mean of the gauge. NaN where there is none; AtLeast then says the last bound
	// that a histogram has, which the quantile lies beyond (0 otherwise).
	Before, After               float64
	BeforeAtLeast, AfterAtLeast float64
	// Before95 and After95 are their 95 % intervals, of histograms only; nil where there is none.
	Before95, After95 *Interval

	// Unit turns Adj into a change in the signal's own unit.
	Unit Unit

	rates rates // for the onset
}
