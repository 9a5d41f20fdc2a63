// Package report turns what was measured, judged and done into one record, and the record
// into text and JSON. The wording lives here. It reads no clock, no network and no flag:
// the same record always gives the same bytes, and a stored one gives them again.
package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// SchemaName is the value of a report's schema field.
const SchemaName = "driftwatch.report/v1"

// An Input is all that a report is made from.
type Input struct {
	Tool        string // version of driftwatch
	ID          string // upgrade id and look count, or hash of the inputs
	UpgradeID   string // "" where no upgrade was found
	Now         time.Time
	RequireData bool // --require-data: not enough data is exit code 6

	Rule       *rule.Rule
	RuleSHA256 string     // "" = the hash of Rule.Text
	Path       *rule.Path // the known upgrade path that matches; nil = none

	// Upgrade is nil where none was found. One whose At is zero is still being rolled out:
	// Updated of its Targets run the new version.
	Upgrade          *telemetry.Upgrade
	Updated, Targets int

	Geometry  baseline.Geometry
	Complete  int    // steps before this one are complete, as in detect.Input
	Season    string // "" = none
	Judgement detect.Judgement

	// Failure is why nothing at all could be checked; nil where something was.
	Failure *Message

	Actions  []Action
	Recovery Recovery   // the zero value is the state none
	Evidence []Evidence // facts that a judgement does not hold; they follow those that it does
	Stats    Stats
	Warnings []string // of the read; those of the judgement are added
	Queries  []string
}

// A Report is driftwatch.report/v1. The fields, their order and what may be null are a
// contract with programs elsewhere: fields may be added, and nothing else may change.
type Report struct {
	Schema      string       `json:"schema"`
	ID          string       `json:"id"`
	UpgradeID   Word         `json:"upgrade_id"`
	Service     string       `json:"service"`
	Label       Word         `json:"label"` // the rule's words for stakeholders
	Verdict     Verdict      `json:"verdict"`
	VerdictText string       `json:"verdict_text"` // whole sentences
	StatusLine  string       `json:"status_line"`  // one line
	ExitCode    int          `json:"exit_code"`    // whatever --fail-on makes of it
	Now         Time         `json:"now"`
	Deploy      *Deploy      `json:"deploy"`
	Windows     *Windows     `json:"windows"`
	Looks       *Looks       `json:"looks"`
	Calibration Calibration  `json:"calibration"`
	Comparisons []Comparison `json:"comparisons"` // worst first
	Evidence    []Evidence   `json:"evidence"`
	Actions     []Action     `json:"actions"`
	Recovery    Recovery     `json:"recovery"`
	Needs       *Needs       `json:"needs"` // what the whole report lacks, not one comparison
	Failure     *Message     `json:"failure"`
	Path        *Path        `json:"path"`
	Stats       Stats        `json:"stats"`
	Warnings    []string     `json:"warnings"`
	Provenance  Provenance   `json:"provenance"`

	// Pictures and Said are no part of the JSON: they are kept beside the record, and people speak
	// after it. Nil where there are none.
	Pictures *Pictures `json:"-"`
	Said     *Said     `json:"-"`

	severalHistograms bool // of different signals; see countHistograms
}

// A Said is what a person said last about an upgrade, or about a report that found none.
type Said struct {
	FalseAlarm bool // else it was real
	By, Text   string
	At         time.Time
	Problem    string // why it cannot be read; "" = it was read
}

// A Deploy is the upgrade that is judged.
type Deploy struct {
	Started Time   `json:"started"`
	At      Time   `json:"at"` // null while it is being rolled out
	From    Word   `json:"from"`
	To      Word   `json:"to"`
	FoundBy string `json:"found_by"` // flag, or the metric that showed it
}

// Windows are the spans compared, (start, end].
type Windows struct {
	Baseline [2]Time  `json:"baseline"`
	Post     *[2]Time `json:"post"` // null before the first complete step after the guard
	StepS    float64  `json:"step_s"`
	GuardS   float64  `json:"guard_s"`
	HistoryS float64  `json:"history_s"` // from the upgrade back to the earliest placebo; 0 = none asked for
}

// Looks say how far the looking has come.
type Looks struct {
	Made int  `json:"made"`
	Of   int  `json:"of"`
	Next Time `json:"next"` // null after the last
	Last Time `json:"last"`
}

// A Calibration is what the numbers were ranked in.
type Calibration struct {
	Tier     string `json:"tier"`     // full | limited | short | none: the worst in use
	Placebos int    `json:"placebos"` // of the endpoint with the fewest
	Pooled   int    `json:"pooled"`   // of the smallest pool
	Season   string `json:"season"`   // "none", or how many days
	Controls int    `json:"controls"` // endpoints judged as controls
	History  string `json:"history"`  // measured | generated
}

// A Comparison is one signal of one endpoint.
type Comparison struct {
	Endpoint        string      `json:"endpoint"` // label values, joined by a space
	Labels          Labels      `json:"labels"`
	Signal          string      `json:"signal"`
	Kind            string      `json:"kind"`      // histogram | ratio | gauge
	Direction       string      `json:"direction"` // up | down | both: what counts as worse
	Metric          string      `json:"metric"`    // tail | body | retry | level
	Quantile        Number      `json:"quantile"`
	Unit            string      `json:"unit"`
	Metrics         []Metric    `json:"metrics"`
	Verdict         Verdict     `json:"verdict"`
	Flag            Word        `json:"flag"`
	Control         bool        `json:"control"`
	Baseline        Level       `json:"baseline"`
	Post            Level       `json:"post"`
	Change          Change      `json:"change"`
	Exceedance      *Exceedance `json:"exceedance"`
	Own             Test        `json:"own"`
	AgainstControls *Test       `json:"against_controls"`
	P               Number      `json:"p"`
	Q               Number      `json:"q"`
	QAct            Number      `json:"q_act"`
	AttainableQ     Number      `json:"attainable_q"`
	Suspected       bool        `json:"suspected"`
	StillThere      *bool       `json:"still_there"` // at the last look; null unless regressed
	RegressedAt     Time        `json:"regressed_at"`
	Looks           int         `json:"looks"`
	Onset           *Onset      `json:"onset"`
	Needs           *Needs      `json:"needs"`
	Note            Word        `json:"note"`
	Warnings        []string    `json:"warnings"`
}

// A Metric is one of the counts of a row, and how it ranks.
type Metric struct {
	Metric string `json:"metric"`
	Z      Number `json:"z"`
	P      Number `json:"p"`
}

// A Level is the raw number of one window, in the comparison's unit.
type Level struct {
	Value    Number `json:"value"`
	AtLeast  Number `json:"at_least"` // the value lies beyond this last bound of the histogram; else null
	Requests Number `json:"requests"`
	Events   Number `json:"events"` // of a ratio; of a histogram, requests beyond the metric's bound

	// CI95 is the interval of value, null for all but histograms and where it cannot be had; an
	// end that lies beyond the histogram's last bound is null.
	CI95 *[2]Number `json:"ci95"`
}

// A Change is after divided by before, minus 1, adjusted.
type Change struct {
	Ratio         Number     `json:"ratio"`
	CI99          [2]Number  `json:"ci99"`
	Bound95       Number     `json:"bound95"`
	MinimumEffect Number     `json:"minimum_effect"`
	Detectable    Number     `json:"detectable"`
	CI80          *[2]Number `json:"ci80"` // null where it cannot be had
}

// An Exceedance is the change in the share of requests slower than the metric's bound.
type Exceedance struct {
	Ratio Number    `json:"ratio"`
	CI99  [2]Number `json:"ci99"`
}

// A Test is one statistic and how it ranks among placebos.
type Test struct {
	Z Number `json:"z"`
	P Number `json:"p"`
}

// An Onset is when a change began.
type Onset struct {
	Time         Time    `json:"time"`
	CI           [2]Time `json:"ci"`
	AfterDeployS Number  `json:"after_deploy_s"`
}

// Needs say what is lacking.
type Needs struct {
	Of   string `json:"of"` // placebos | events | requests | steps | history | buckets | rollout
	Have Number `json:"have"`
	Need Number `json:"need"`
	When Time   `json:"when"`
}

// An Evidence is one measured fact. Holds says whether the statement that the id names is
// true; where it is not, the fact speaks against the upgrade, or the flag, as the reason.
type Evidence struct {
	ID    string `json:"id"`
	Holds bool   `json:"holds"`
	Text  string `json:"text"`
}

// An Outcome is how an action ended.
type Outcome string

// The outcomes.
const (
	Verified           Outcome = "verified"
	WrittenNotVerified Outcome = "written_not_verified"
	Failed             Outcome = "failed"
	Refused            Outcome = "refused"
	AlreadyOff         Outcome = "already_off"
	DryRun             Outcome = "dry_run"
)

// Reasons are the names that the reason of an action takes.
const (
	ReasonDryRun         = "dry_run"
	ReasonNoFlag         = "no_flag"
	ReasonServiceWide    = "service_wide"
	ReasonNoControls     = "no_controls"
	ReasonGoneAgain      = "gone_again"
	ReasonStale          = "stale"
	ReasonCouldNotCheck  = "could_not_check"
	ReasonNotServed      = "not_served"
	ReasonNoExposure     = "no_exposure"
	ReasonAlreadyOff     = "already_off"
	ReasonReadOnly       = "read_only"
	ReasonMuted          = "muted"
	ReasonBudget         = "budget"
	ReasonStopFile       = "stop_file"
	ReasonPersonRestored = "person_restored"
	ReasonPath           = "path"
	ReasonShortHistory   = "short_history"
	ReasonTouched        = "touched"
	ReasonCritical       = "critical"
	ReasonApproval       = "approval"
)

// The kinds of Action. A disabled flag is not off: its application falls back to the default in
// its code, and somebody vouches for that.
const (
	FlagOff      = "flag_off"
	FlagDisabled = "flag_disabled"
)

// An Action is what was done, or was not done and why.
type Action struct {
	Kind           string   `json:"kind"` // flag_off, or flag_disabled: the flag is left to the default in the code
	Flag           Word     `json:"flag"`
	Outcome        Outcome  `json:"outcome"`
	Reason         Word     `json:"reason"`           // why not, one of Reasons; null where it was done
	Revision       [2]Word  `json:"revision"`         // before and after; null where unknown or not written
	At             Time     `json:"at"`               // of the write; null where nothing was written
	VerifiedAfterS *float64 `json:"verified_after_s"` // seconds from the write to the proof; null unless verified

	Viewpoint   Word         `json:"viewpoint"`   // file | kubernetes | ofrep | unleash | none | rpc | exposure: where "off" was seen
	Missing     []string     `json:"missing"`     // the consents that a dry run lacks, as a person would give them
	Plan        Word         `json:"plan"`        // file of the plan that a person may approve; null where there is none
	Shadow      *Shadow      `json:"shadow"`      // of a dry run; null where there is no journal
	Evaluations *Evaluations `json:"evaluations"` // of the proof
	Exposure    *Exposure    `json:"exposure"`    // null where the rule gives no expression
	Detail      Word         `json:"detail"`      // for people: the error, or who did it
}

// A Shadow is how often driftwatch would have turned a flag off of late: the record that lets a
// team turn acting on, or not.
type Shadow struct {
	Times       int `json:"times"` // upgrades, this one included
	Days        int `json:"days"`  // up to now
	MarkedFalse int `json:"marked_false"`
}

// An Exposure is the share of requests that the flag's suspect variant served, 0 to 1.
type Exposure struct {
	Before *float64 `json:"before"` // before the write
	After  *float64 `json:"after"`  // after it
}

// Evaluations count the proof's flag evaluations.
type Evaluations struct {
	Off     int     `json:"off"` // gave what "off" means
	Total   int     `json:"total"`
	Reason  Word    `json:"reason"` // the OpenFeature reason of those that did not, or of all
	WaitedS float64 `json:"waited_s"`
}

// The states of a recovery.
const (
	RecoveryNone     = "none"          // no proved action, so nothing to recover from
	RecoveryWatching = "watching"      // not decided yet
	Recovered        = "recovered"     // in its usual range again, and down from the regressed window
	NotRecovered     = "not_recovered" // the numbers did not come back
	RecoveryUnclear  = "unclear"       // too little traffic to tell
	Superseded       = "superseded"    // the upgrade was undone or replaced
)

// A Recovery is what the numbers did after the flag went off.
type Recovery struct {
	State     string `json:"state"`
	Since     Time   `json:"since"`     // in the usual range since
	Confirmed Time   `json:"confirmed"` // the look that said so
	Detail    Word   `json:"detail"`
}

// A Path is a known upgrade path of the rule that this upgrade follows.
type Path struct {
	From   Word              `json:"from"`
	To     Word              `json:"to"`
	Flags  []string          `json:"flags"`
	Config map[string]string `json:"config"`
	Notes  Word              `json:"notes"`
}

// Stats are what the check cost.
type Stats struct {
	Queries  int     `json:"queries"`
	Samples  int64   `json:"samples"`
	Bytes    int64   `json:"bytes"`
	ReadPath Word    `json:"read_path"`
	QueryS   float64 `json:"query_s"`
	TotalS   float64 `json:"total_s"`
}

// Provenance says how to get the same numbers again.
type Provenance struct {
	Tool       string   `json:"tool"`
	Rule       string   `json:"rule"`
	RuleSHA256 string   `json:"rule_sha256"`
	Queries    []string `json:"queries"`
}

// New returns the report on in.
func New(in Input) *Report {
	r := &Report{
		Schema: SchemaName, ID: in.ID, UpgradeID: Word(in.UpgradeID),
		Service: in.Rule.Service, Label: Word(in.Rule.Label), Now: At(in.Now),
		Calibration: Calibration{
			Tier:     orElse(in.Judgement.Tier, "none"),
			Placebos: in.Judgement.Placebos, Pooled: in.Judgement.Pooled,
			Season: orElse(in.Season, "none"), Controls: in.Judgement.Controls,
			History: orElse(in.Rule.History, "measured"),
		},
		Comparisons: []Comparison{},
		Actions:     slices.Clone(in.Actions),
		Recovery:    in.Recovery,
		Failure:     in.Failure,
		Stats:       in.Stats,
		Warnings:    unique(in.Warnings, in.Judgement.Warnings),
		Provenance: Provenance{
			Tool: in.Tool, Rule: in.Rule.Path,
			RuleSHA256: in.RuleSHA256, Queries: unique(in.Queries),
		},
	}
	if r.Provenance.RuleSHA256 == "" {
		sum := sha256.Sum256(in.Rule.Text)
		r.Provenance.RuleSHA256 = hex.EncodeToString(sum[:])
	}
	if p := in.Path; p != nil {
		r.Path = &Path{From: Word(p.From), To: Word(p.To), Flags: unique(p.Flags), Config: p.Config, Notes: Word(p.Notes)}
	}
	if r.Actions == nil {
		r.Actions = []Action{}
	}
	for i := range r.Actions {
		if r.Actions[i].Missing == nil {
			r.Actions[i].Missing = []string{}
		}
		if r.Actions[i].Outcome != Verified {
			r.Actions[i].VerifiedAfterS = nil
		}
	}
	r.Recovery.State = orElse(r.Recovery.State, RecoveryNone)
	r.setDeploy(in)
	for _, row := range in.Judgement.Rows {
		r.Comparisons = append(r.Comparisons, newComparison(in, row))
	}
	r.countHistograms()
	r.Verdict = r.worst()
	r.ExitCode = ExitCode(r.Verdict, r.Comparisons, r.Actions, in.RequireData)
	r.Evidence = append(r.evidence(in), in.Evidence...)
	r.VerdictText = r.verdictText()
	r.StatusLine = r.statusLine()
	return r
}

// setDeploy fills in the upgrade, and the windows around it once it is complete.
func (r *Report) setDeploy(in Input) {
	u := in.Upgrade
	if u == nil {
		return
	}
	r.Deploy = &Deploy{Started: At(u.Started), At: At(u.At), From: Word(valid(u.From)), To: Word(valid(u.To)), FoundBy: u.FoundBy}
	if u.At.IsZero() {
		r.Needs = &Needs{Of: "rollout", Have: Number(in.Updated), Need: Number(in.Targets)}
		return
	}
	g, w := in.Geometry, in.Rule.Windows
	step := func(k int) Time { return At(u.At.Add(time.Duration(k) * w.Step)) }
	r.Windows = &Windows{
		Baseline: [2]Time{step(g.BaselineStart()), step(-g.Gap)},
		StepS:    w.Step.Seconds(), GuardS: w.Guard.Seconds(), HistoryS: w.History.Seconds(),
	}
	if end := min(in.Complete, g.Horizon); end > g.Guard {
		r.Windows.Post = &[2]Time{step(g.Guard), step(end)}
	}
	r.Looks = &Looks{Made: in.Judgement.Looks, Of: g.Looks(), Last: step(g.Horizon)}
	if in.Complete < g.Horizon {
		r.Looks.Next = step(max(g.FirstLook, in.Complete+1))
	}
}

// bothOf is an interval, nil where an end is missing.
func bothOf(low, high float64) *[2]Number {
	if math.IsNaN(low) || math.IsNaN(high) {
		return nil
	}
	return &[2]Number{Number(low), Number(high)}
}

func newComparison(in Input, row detect.Row) Comparison {
	s := in.Rule.Signals[row.Signal]
	values := row.Endpoint.Values()
	c := Comparison{
		Endpoint: valid(row.Endpoint.String()), Labels: Labels{},
		Signal: s.Name, Kind: string(s.Kind), Direction: orElse(string(s.Direction), string(rule.Up)),
		Metric: string(row.Metric), Quantile: None(), Unit: s.Unit, Metrics: []Metric{},
		Verdict: verdictOf(row.Verdict), Control: row.Control,
		Baseline: newLevel(row.Before), Post: newLevel(row.After),
		Change: Change{
			Ratio: Number(row.Change.Ratio), CI99: [2]Number{Number(row.Change.Low99), Number(row.Change.High99)},
			Bound95: Number(row.Change.Bound95), MinimumEffect: Number(row.Change.MinimumEffect),
			Detectable: Number(row.Change.Detectable), CI80: bothOf(row.Change.Low80, row.Change.High80),
		},
		Own: Test{Number(row.Own.Z), Number(row.Own.P)},
		P:   Number(row.P), Q: Number(row.Q), QAct: Number(row.QAct), AttainableQ: Number(row.AttainableQ),
		Suspected: row.Suspected, Looks: row.Looks, Note: Word(valid(row.Note)), Warnings: unique(row.Warnings),
	}
	for i, name := range in.Rule.Endpoint {
		c.Labels = append(c.Labels, Label{name, valid(values[i])})
	}
	for _, m := range row.Metrics {
		c.Metrics = append(c.Metrics, Metric{string(m.Metric), Number(m.Z), Number(m.P)})
	}
	if a := row.Against; !math.IsNaN(a.P) {
		c.AgainstControls = &Test{Number(a.Z), Number(a.P)}
	}
	if row.Flag >= 0 {
		c.Flag = Word(in.Rule.Flags[row.Flag].Key)
	}
	if row.Control {
		c.QAct = None()
	}
	switch s.Kind {
	case rule.Histogram:
		c.Quantile = Number(row.Quantile)
		c.Exceedance = &Exceedance{
			Ratio: Number(row.Exceedance.Ratio),
			CI99:  [2]Number{Number(row.Exceedance.Low99), Number(row.Exceedance.High99)},
		}
	case rule.Gauge:
		c.Baseline.Requests, c.Baseline.Events = None(), None()
		c.Post.Requests, c.Post.Events = None(), None()
	}
	if row.Verdict == detect.Regressed {
		still := row.StillThere
		c.StillThere = &still
		if row.RegressedAt > 0 && in.Upgrade != nil {
			c.RegressedAt = At(in.Upgrade.At.Add(time.Duration(row.RegressedAt) * in.Rule.Windows.Step))
		}
	}
	if o := row.Onset; o != nil && in.Upgrade != nil {
		step := func(k int) Time { return At(in.Upgrade.At.Add(time.Duration(k) * in.Rule.Windows.Step)) }
		c.Onset = &Onset{
			Time: step(o.Step), CI: [2]Time{step(o.Low), step(o.High)},
			AfterDeployS: Number(float64(o.Step) * in.Rule.Windows.Step.Seconds()),
		}
	}
	if n := row.Needs; n != nil {
		c.Needs = &Needs{Of: n.Of, Have: Number(n.Have), Need: Number(n.Need), When: At(n.When)}
	}
	return c
}

func newLevel(l detect.Level) Level {
	out := Level{Value: Number(l.Value), AtLeast: None(), Requests: Number(l.Requests), Events: Number(l.Events)}
	if l.CI95 != nil {
		out.CI95 = &[2]Number{Number(l.CI95.Low), Number(l.CI95.High)}
	}
	if l.AtLeast > 0 && !math.IsInf(l.AtLeast, 0) {
		out.Value, out.AtLeast = None(), Number(l.AtLeast)
	}
	return out
}

// JSON is r as driftwatch.report/v1: indented, with a newline at the end. The same report
// gives the same bytes.
func (r *Report) JSON() []byte {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("report: marshal: %v", err)) // every field marshals, whatever it holds
	}
	return append(b, '\n')
}

// Parse reads what JSON wrote. It fails on what is not JSON and on another schema.
func Parse(b []byte) (*Report, error) {
	var r Report
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("parse report: %w", err)
	}
	if r.Schema != SchemaName {
		return nil, fmt.Errorf("parse report: schema is %q, not %s", r.Schema, SchemaName)
	}
	r.countHistograms()
	return &r, nil
}

// valid is s as JSON can hold it, so that a stored report is the same report.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// unique is the strings of all lists in order, each once; never nil.
func unique(lists ...[]string) []string {
	out := []string{}
	for _, list := range lists {
		for _, s := range list {
			if s = valid(s); !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
