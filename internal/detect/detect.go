// Package detect turns comparisons into findings, and the findings of one upgrade, judged
// together, into a verdict. It is pure: it never asks for more data, it says what is missing.
package detect

import (
	"fmt"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// A Verdict is the judgement on one comparison, or on an upgrade.
type Verdict int

// The verdicts. The zero value is the cautious one. PreExisting and Transient are verdicts
// of comparisons only; a report counts them as Undecided.
const (
	CouldNotCheck Verdict = iota
	Regressed
	Undecided
	NotEnoughData
	Improved
	NoMeaningfulRise
	PreExisting
	Transient
)

// String is the word of a report for v.
func (v Verdict) String() string {
	switch v {
	case CouldNotCheck:
		return "could_not_check"
	case Regressed:
		return "regressed"
	case Undecided:
		return "undecided"
	case NotEnoughData:
		return "not_enough_data"
	case Improved:
		return "improved"
	case NoMeaningfulRise:
		return "no_meaningful_rise"
	case PreExisting:
		return "pre_existing"
	case Transient:
		return "transient"
	}
	return fmt.Sprintf("Verdict(%d)", int(v))
}

// MarshalText writes v as the word of a report. It fails on numbers that are no verdict.
func (v Verdict) MarshalText() ([]byte, error) {
	if v < CouldNotCheck || v > Transient {
		return nil, fmt.Errorf("%d is no verdict", int(v))
	}
	return []byte(v.String()), nil
}

// UnmarshalText reads the word of a report. It fails on any other word.
func (v *Verdict) UnmarshalText(text []byte) error {
	for w := CouldNotCheck; w <= Transient; w++ {
		if w.String() == string(text) {
			*v = w
			return nil
		}
	}
	return fmt.Errorf("%q is no verdict", text)
}

// forReport is the verdict that v counts as in the verdict of a report.
func (v Verdict) forReport() Verdict {
	if v == PreExisting || v == Transient {
		return Undecided
	}
	return v
}

// severity is the place of v in the order of a report's verdicts, the worst being 0.
func (v Verdict) severity() int {
	switch v.forReport() {
	case Regressed:
		return 0
	case CouldNotCheck:
		return 1
	case Undecided:
		return 2
	case NotEnoughData:
		return 3
	case Improved:
		return 4
	}
	return 5
}

// Needs says what a comparison lacks, how much of it there is and how much it takes, and
// when it will be enough (zero: that cannot be told, or never).
type Needs struct {
	Of   string    `json:"of"` // placebos events requests steps history buckets rollout
	Have float64   `json:"have"`
	Need float64   `json:"need"`
	When time.Time `json:"when"`
}

// An Input is all that a judgement is made from. The family is every endpoint in
// Comparisons, fixed before the first look. Comparisons and Lacking together hold each
// metric of each endpoint and signal at most once, in any order.
type Input struct {
	Rule        *rule.Rule
	Upgrade     telemetry.Upgrade
	Geometry    baseline.Geometry
	Complete    int // steps before this one are complete: looks t <= Complete can be made
	Comparisons []baseline.Comparison

	// Unread names, per signal index, why a signal could not be read or trusted; its rows are
	// CouldNotCheck. A key of -1 touches every row.
	Unread map[int]string
	// Lacking are comparisons that cannot be tested at all, and why: a bucket layout without a
	// usable bound, a service younger than its baseline, an endpoint that is gone.
	Lacking []Lacking
	// WrittenAt is, per flag index, the step in which driftwatch turned the flag off: looks at
	// rows of that flag end there.
	WrittenAt map[int]int

	// Short is what the short tier compares; nil where any endpoint has placebos enough.
	Short        []baseline.ShortSeries
	Waiting      bool // later looks will follow: the short tier, which looks once, waits for the last
	JudgedBefore bool // the upgrade was judged by the short tier before
}

// Lacking is one metric of one endpoint that cannot be compared.
type Lacking struct {
	Endpoint telemetry.Endpoint `json:"endpoint"`
	Signal   int                `json:"signal"`
	Metric   telemetry.Metric   `json:"metric"`
	Needs    Needs              `json:"needs"`
	Note     string             `json:"note"` // for people, "" if Needs says it all
}

// A MetricResult is one metric of a row.
type MetricResult struct {
	Metric   telemetry.Metric
	Testable bool
	Z, P     float64 // at the last look; NaN where not testable
}

// A Level is the raw number of one window, in the signal's own unit.
type Level struct {
	Value    float64 // NaN: none
	AtLeast  float64 // the value lies beyond this last bound of the histogram; 0 otherwise
	Requests float64 // NaN for gauges
	Events   float64 // events of a ratio, requests beyond the bound of a histogram; NaN for gauges
	// CI95 is the 95 % interval of Value, of histograms only; nil where there is none.
	CI95 *baseline.Interval
}

// A Change is after divided by before, minus 1, adjusted for load, in the signal's own unit.
// NaN is "cannot be had". Where the signal may not fall, Ratio and interval are read in the
// same way, Bound95 is the lower bound (for both directions: the farther of the two), and
// MinimumEffect and Detectable are the sizes of a fall.
type Change struct {
	Ratio         float64
	Low80, High80 float64 // the 80 % interval
	Low99, High99 float64 // the 99 % interval
	Bound95       float64 // one-sided bound on the way that the signal may not go; against controls, the farther of that and the row's own
	MinimumEffect float64 // what the rule calls meaningful, at least 0; NaN for an Exceedance
	Detectable    float64 // what could be found at the horizon with power 0.8, at least 0
}

// Ranked is a statistic and its p: Z of the metric that the row shows, P as a row's.
type Ranked struct {
	Z, P float64
}

// A Row is the judgement on one signal of one endpoint. NaN is "cannot be had".
type Row struct {
	Endpoint telemetry.Endpoint
	Signal   int
	Flag     int  // index of the rule's flag that it belongs to, or -1
	Control  bool // the rule has flags, and none of them is behind this endpoint

	Metric   telemetry.Metric // the one with the smallest p; the row's numbers are its
	Metrics  []MetricResult
	Quantile float64 // of a histogram's metric: the signal's own for tail, 0.8 for body; else NaN

	Verdict     Verdict
	Suspected   bool
	Before      Level
	After       Level
	Change      Change
	Exceedance  Change // of a histogram: in the share of requests beyond the bound; else NaN
	Z           float64
	P           float64 // that of Against where the row is judged against controls, else that of Own
	Own         Ranked  // adjusted for load and time of day
	Against     Ranked  // and for what the controls did; NaN where that is not done
	Q           float64
	QAct        float64 // over the endpoints behind the same flag; NaN for controls
	AttainableQ float64
	Looks       int             // looks made
	RegressedAt int             // steps after the upgrade at the first look that confirmed it; 0 = never
	StillThere  bool            // gate Jp holds at the last look
	Onset       *baseline.Onset // of what was found, at the last look; nil where nothing was, or it cannot be told
	Needs       *Needs
	Note        string // for people, about Needs or the verdict
	Warnings    []string
}

// A Judgement is the verdict on an upgrade: all rows at once.
type Judgement struct {
	Verdict Verdict
	Rows    []Row // worst first; order does not depend on the order of the input

	Looks         int  // looks made by the row that was looked at most
	Controls      int  // endpoints judged as controls at the last look
	ControlsRisen bool // one of them was rejected: nothing is acted on (service_wide)
	// RestartCovered says that something in the calibration was restarted by a rollout too: at
	// least 3 past upgrades of every metric that is tested, or at
	// least 3 judged controls that can reject, and none of them risen.
	RestartCovered bool
	Tier           string // full | limited | short | none: the worst in use
	Placebos       int    // of the endpoint with the fewest that is in use
	Pooled         int    // of the smallest pool in use
	Days           int    // whose same clock time the differences are adjusted by, of the endpoint with the fewest; 0 = none
	Warnings       []string
	Short          *Short // not nil: judged without history
}
