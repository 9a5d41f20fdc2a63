package worker

import (
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Inputs are all that a report is computed from. They are what the journal keeps, so that
// anyone can compute the report again (Replay). They never hold raw history: that is in the
// calibrations, which are kept once under their hash.
type Inputs struct {
	Tool      string `json:"tool"`
	UpgradeID string `json:"upgrade_id"`
	RulePath  string `json:"rule_path"`
	RuleText  string `json:"rule_text"`

	Now         time.Time          `json:"now"`
	RequireData bool               `json:"require_data"`
	Upgrade     *telemetry.Upgrade `json:"upgrade"` // nil: none was found
	Rollout     *Rollout           `json:"rollout"` // not nil: still in progress
	Geometry    baseline.Geometry  `json:"geometry"`
	Complete    int                `json:"complete"` // steps before this one are complete

	Tracks       []telemetry.Track  `json:"tracks"` // from the baseline's first step on
	Buckets      []baseline.Buckets `json:"buckets"`
	Calibrations string             `json:"calibrations"` // hash of the journal's blob, "" = none
	Lacking      []detect.Lacking   `json:"lacking"`
	Unread       map[int]string     `json:"unread"`
	WrittenAt    map[int]int        `json:"written_at"`

	Short        []baseline.ShortSeries `json:"short,omitempty"`         // where there is no history
	Waiting      bool                   `json:"waiting,omitempty"`       // for later looks
	JudgedBefore bool                   `json:"judged_before,omitempty"` // without history

	Pictures string `json:"pictures,omitempty"` // hash of the journal's blob; they judge nothing

	Actions  []report.Action `json:"actions"`
	Recovery report.Recovery `json:"recovery"`
	Failure  *report.Message `json:"failure"`
	Stats    report.Stats    `json:"stats"`
	Warnings []string        `json:"warnings"`
	Queries  []string        `json:"queries"`
}

// A Rollout is an upgrade that is not complete: both versions are live.
type Rollout struct {
	From, To string
	Started  time.Time
	Have     int // targets on the new version
	Need     int // live targets
}

// key names one metric of one endpoint.
type key struct {
	endpoint telemetry.Endpoint
	signal   int
	metric   telemetry.Metric
}

// judge computes the judgement from the inputs. It is pure: the live check and the replay of
// a stored one both end here.
func (in *Inputs) judge(r *rule.Rule, calibrations []baseline.Calibration) detect.Judgement {
	if in.Upgrade == nil || in.Rollout != nil {
		return detect.Judgement{Verdict: detect.NotEnoughData}
	}
	cals := make(map[key]*baseline.Calibration, len(calibrations))
	for i := range calibrations {
		c := &calibrations[i]
		cals[key{c.Endpoint, c.Signal, c.Metric}] = c
	}
	buckets := make(map[key]*baseline.Buckets, len(in.Buckets))
	for i := range in.Buckets {
		b := &in.Buckets[i]
		buckets[key{b.Endpoint, b.Signal, ""}] = b
	}
	comparisons := make([]baseline.Comparison, 0, len(in.Tracks))
	for _, t := range in.Tracks {
		through := in.through(r, t.Endpoint, t.Signal)
		comparisons = append(comparisons, baseline.Compare(t, cals[key{t.Endpoint, t.Signal, t.Metric}], in.Geometry,
			buckets[key{t.Endpoint, t.Signal, ""}], r.Signals[t.Signal].Quantile, through))
	}
	baseline.AgainstControls(comparisons, in.Geometry)
	return detect.Judge(detect.Input{
		Rule: r, Upgrade: *in.Upgrade, Geometry: in.Geometry, Complete: in.Complete,
		Comparisons: comparisons, Unread: in.Unread, Lacking: in.Lacking, WrittenAt: in.WrittenAt,
		Short: in.Short, Waiting: in.Waiting, JudgedBefore: in.JudgedBefore,
	})
}

// through is the step at which the post window of a row ends: the last complete one, or the
// one in which driftwatch turned the row's flag off.
func (in *Inputs) through(r *rule.Rule, e telemetry.Endpoint, signal int) int {
	through := min(in.Complete, in.Geometry.Horizon)
	if f := r.FlagOf(e.Values(), r.Signals[signal].Name); f >= 0 {
		if at, ok := in.WrittenAt[f]; ok {
			through = min(through, at)
		}
	}
	return through
}
