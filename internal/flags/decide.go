package flags

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// An Outcome is what becomes of a decision. NoAction means that nothing behind the flag is
// regressed, so there is nothing to decide.
type Outcome string

// The outcomes of Decide. Those of an action that was tried are the worker's.
const (
	NoAction   Outcome = ""
	Act        Outcome = "act"
	Refused    Outcome = "refused"
	DryRun     Outcome = "dry_run"
	AlreadyOff Outcome = "already_off"
)

// A Reason says why a flag is not turned off (report field actions[].reason).
type Reason string

// The reasons.
const (
	ReasonDryRun         Reason = "dry_run"
	ReasonNoFlag         Reason = "no_flag"
	ReasonServiceWide    Reason = "service_wide"
	ReasonNoControls     Reason = "no_controls"
	ReasonGoneAgain      Reason = "gone_again"
	ReasonStale          Reason = "stale"
	ReasonCouldNotCheck  Reason = "could_not_check"
	ReasonNotServed      Reason = "not_served"
	ReasonNoExposure     Reason = "no_exposure"
	ReasonAlreadyOff     Reason = "already_off"
	ReasonReadOnly       Reason = "read_only"
	ReasonMuted          Reason = "muted"
	ReasonBudget         Reason = "budget"
	ReasonStopFile       Reason = "stop_file"
	ReasonPersonRestored Reason = "person_restored"
	ReasonPath           Reason = "path"
	ReasonShortHistory   Reason = "short_history"
	ReasonTouched        Reason = "touched"
	ReasonCritical       Reason = "critical"
	ReasonApproval       Reason = "approval"
)

// A Decision is whether to turn one flag off, and why not.
type Decision struct {
	Act     bool    `json:"act"`
	Outcome Outcome `json:"outcome"`
	Reason  Reason  `json:"reason"` // "" when acting, or when there is nothing to decide
	Text    string  `json:"text"`   // for people
}

// Limits bound how often driftwatch writes on its own.
type Limits struct {
	PerHour  int           // writes of all flags in any hour
	PerDay   int           // writes of all flags in any 24 hours
	Cooldown time.Duration // between two writes of the same flag

	// Critical are notes of a flag (State.Metadata) that keep driftwatch's hands off it: a key
	// alone means that it is true, key=value that it is this.
	Critical []string
}

// A PastAction is an entry of the journal about a flag.
type PastAction struct {
	UpgradeID string
	Source    string
	Flag      string
	At        time.Time
	Restore   bool // a person took our write back; false: driftwatch wrote off by itself
}

// A DecideInput is all that a decision is made from.
type DecideInput struct {
	Rule      *rule.Rule
	Flag      int // index of the rule's flag; -1 asks about the regressed rows that no flag is behind
	Judgement detect.Judgement
	Upgrade   telemetry.Upgrade
	UpgradeID string

	Act      bool // --act, or act: true in the configuration
	DryRun   bool // --dry-run
	Approval bool // a person approves every write

	Now     time.Time // judged as of
	Present time.Time // the clock

	State    State
	StateErr error // why the source could not be read; ErrNotFound is "the flag is missing"

	Definition string // that State had when it was first seen after the upgrade; "" = not known

	Served    *Serving // nil: could not be seen
	ServedErr error
	Exposure  *float64 // 0 to 1; NaN = no series; nil = not read. Looked at only if the rule has an expression

	History  []PastAction // of all flags, in any order
	Limits   Limits
	StopFile string // path of the stop file if it is there, else ""
}

// staleAfter is the least age of a judgement that is too old to act on. Two steps are the
// delay of a look that ran in time; five minutes leave room for a slow read of a rule with
// steps of seconds. Older, and the flag, the traffic and the people have moved on.
const staleAfter = 5 * time.Minute

// Decide says whether a flag may be turned off. It is pure. The first reason against holds:
// what makes it wrong to turn the flag off comes first, then the missing consent, then what
// only forbids to do it now; so DryRun means that it would have been right.
// (DESIGN sections 3, 5, 6 and 8)
func Decide(in DecideInput) Decision {
	rows := in.regressed()
	if len(rows) == 0 {
		return Decision{Text: "nothing behind this flag is regressed"}
	}
	if in.Flag < 0 {
		return refuse(ReasonNoFlag, "no flag of the rule is behind %s", rows[0].Endpoint)
	}
	for _, check := range []func(DecideInput, []detect.Row) Decision{
		DecideInput.byEvidence, DecideInput.byRule, DecideInput.byFlag, DecideInput.byConsent, DecideInput.byLimits,
	} {
		if d := check(in, rows); d.Outcome != NoAction {
			return d
		}
	}
	return Decision{Act: true, Outcome: Act, Text: fmt.Sprintf("%s is behind %s", in.flag().Key, rows[0].Endpoint)}
}

func refuse(r Reason, format string, args ...any) Decision {
	return Decision{Outcome: Refused, Reason: r, Text: fmt.Sprintf(format, args...)}
}

func (in DecideInput) flag() rule.Flag { return in.Rule.Flags[in.Flag] }

func (in DecideInput) regressed() []detect.Row {
	var rows []detect.Row
	for _, r := range in.Judgement.Rows {
		if r.Flag == in.Flag && r.Verdict == detect.Regressed {
			rows = append(rows, r)
		}
	}
	return rows
}

// byEvidence looks at the judgement: is it sure that this flag's endpoints, and only they,
// got worse and still are?
func (in DecideInput) byEvidence(rows []detect.Row) Decision {
	for _, r := range in.Judgement.Rows {
		if r.Flag == in.Flag && r.Verdict == detect.CouldNotCheck {
			return refuse(ReasonCouldNotCheck, "%s behind the same flag could not be checked", r.Endpoint)
		}
	}
	if in.Judgement.ControlsRisen {
		return refuse(ReasonServiceWide, "endpoints that the flag is not behind got worse too")
	}
	alpha := in.Rule.Alpha.Act
	counted := slices.DeleteFunc(slices.Clone(rows), func(r detect.Row) bool { return slices.Contains(r.Warnings, detect.CounterIsNew) })
	if len(counted) == 0 {
		return refuse(ReasonCouldNotCheck, "the counter of %s first appeared with the upgrade: new instrumentation looks the same", rows[0].Endpoint)
	}
	rows = counted
	sure := slices.DeleteFunc(slices.Clone(rows), func(r detect.Row) bool { return !(r.QAct <= alpha) })
	if len(sure) == 0 {
		return refuse(ReasonServiceWide, "among the endpoints behind the flag alone the evidence is too weak (q %.2g, needed %.2g)", rows[0].QAct, alpha)
	}
	if !slices.ContainsFunc(sure, func(r detect.Row) bool { return r.StillThere }) {
		return refuse(ReasonGoneAgain, "the rise went away by itself")
	}
	if d := in.byHistory(sure); d.Outcome != NoAction {
		return d
	}
	if !in.Judgement.RestartCovered && !in.Rule.ActWithoutControls {
		return refuse(ReasonNoControls, "a restart alone may do this: fewer than 3 endpoints without the flag were judged (act_without_controls is false)")
	}
	return Decision{}
}

// byHistory refuses what was judged without history, unless the rule allows to act on that
// and one of the rows is as sure as it takes.
func (in DecideInput) byHistory(rows []detect.Row) Decision {
	if in.Judgement.Tier != "short" {
		return Decision{}
	}
	s := in.Judgement.Short
	switch {
	case !in.Rule.ActOnShortHistory || s == nil:
		return refuse(ReasonShortHistory, "the history is too short to act on (act_on_short_history is false)")
	case s.Again:
		return refuse(ReasonShortHistory, "without history an upgrade is acted on at its first judgement only, and it was judged before")
	case s.Before < detect.ActShortBefore:
		return refuse(ReasonShortHistory, "%d steps before the upgrade are too few to act on, needed are %d", s.Before, detect.ActShortBefore)
	case !slices.ContainsFunc(rows, func(r detect.Row) bool { return s.MayAct(r.Q) }):
		return refuse(ReasonShortHistory, "without history this is not sure enough to act on (q %.2g, needed %.2g and less than a fifth of the best of %d places inside the baseline, %.2g)",
			rows[0].Q, detect.ActShortLevel, s.Guard.Places, s.Guard.Least)
	}
	return Decision{}
}

// byRule looks at what the team wrote down.
func (in DecideInput) byRule([]detect.Row) Decision {
	for _, m := range in.Rule.Mute {
		if covers(m, in.Upgrade.At) || covers(m, in.Present) {
			return refuse(ReasonMuted, "muted: %s", m.Reason)
		}
	}
	return in.byPath()
}

// covers reports whether at lies in m; an end that is not set is open.
func covers(m rule.Mute, at time.Time) bool {
	return !at.Before(m.From) && (m.To.IsZero() || at.Before(m.To))
}

// byPath refuses flags that the known upgrade path does not name. Where a version is not known,
// a path with a condition on it may be the one, so it must name the flag too.
func (in DecideInput) byPath() Decision {
	key := in.flag().Key
	var maybe []rule.Path
	listed, matched := false, false
	for _, p := range in.Rule.Upgrades {
		switch both(satisfies(in.Upgrade.From, p.From), satisfies(in.Upgrade.To, p.To)) {
		case yes:
			matched = true
			listed = listed || slices.Contains(p.Flags, key)
		case unknown:
			maybe = append(maybe, p)
		}
	}
	if matched && !listed {
		return refuse(ReasonPath, "the path %s to %s does not name %s", in.Upgrade.From, in.Upgrade.To, key)
	}
	if !matched {
		for _, p := range maybe {
			if !slices.Contains(p.Flags, key) {
				return refuse(ReasonPath, "the versions (%s to %s) do not tell whether the path from %q to %q holds, which does not name %s; give --to",
					known(in.Upgrade.From), known(in.Upgrade.To), p.From, p.To, key)
			}
		}
	}
	return Decision{}
}

// PathOf is the first path of the rule that an upgrade follows for sure, or nil.
func PathOf(r *rule.Rule, u telemetry.Upgrade) *rule.Path {
	for i, p := range r.Upgrades {
		if both(satisfies(u.From, p.From), satisfies(u.To, p.To)) == yes {
			return &r.Upgrades[i]
		}
	}
	return nil
}

func known(version string) string {
	if version == "" {
		return "unknown"
	}
	return version
}

// byFlag looks at the flag: is it there, on, ours to write, and the cause at all?
func (in DecideInput) byFlag([]detect.Row) Decision {
	f := in.flag()
	switch {
	case in.StateErr != nil && errors.Is(in.StateErr, ErrNotFound):
		return refuse(ReasonNoFlag, "%v", in.StateErr)
	case in.StateErr != nil:
		return refuse(ReasonCouldNotCheck, "%v", in.StateErr)
	case !in.State.Present:
		return refuse(ReasonNoFlag, "source %s has no flag %s", f.Source, f.Key)
	case in.State.Off(f.Off.Variant):
		word := "off"
		if f.Off.Disabled {
			word = "disabled"
		}
		return Decision{Outcome: AlreadyOff, Reason: ReasonAlreadyOff, Text: fmt.Sprintf("%s is %s already, revision %s", f.Key, word, in.State.Revision.Short())}
	}
	if at, ok := in.restored(); ok {
		return refuse(ReasonPersonRestored, "%s was turned off by driftwatch at %s and somebody turned it on again; it is theirs now", f.Key, at.UTC().Format(time.RFC3339))
	}
	if in.Definition != "" && in.State.Definition != "" && in.Definition != in.State.Definition {
		return refuse(ReasonTouched, "somebody changed what %s serves while the upgrade was watched: whoever did is at it", f.Key)
	}
	if note := in.Limits.critical(in.State.Metadata); note != "" {
		return refuse(ReasonCritical, "%s is marked %s by its owners, and limits.critical names that", f.Key, note)
	}
	if in.State.ReadOnly != "" {
		return refuse(ReasonReadOnly, "%s: %s", in.State.Path, in.State.ReadOnly)
	}
	if in.Served == nil {
		return refuse(ReasonCouldNotCheck, "who is served what could not be seen: %v", in.ServedErr)
	}
	if in.Served.Suspect == 0 {
		if f.Off.Disabled {
			return refuse(ReasonNotServed, "%s serves nobody a variant (%d contexts looked at): it is not the cause", f.Key, in.Served.Contexts)
		}
		return refuse(ReasonNotServed, "%s serves nobody anything but %q (%d contexts looked at): it is not the cause", f.Key, f.Off.Variant, in.Served.Contexts)
	}
	if f.Exposure == "" {
		return Decision{}
	}
	if in.Exposure == nil {
		return refuse(ReasonCouldNotCheck, "the exposure of %s could not be read", f.Key)
	}
	if !(*in.Exposure > 0) {
		return refuse(ReasonNoExposure, "no request was served by %s: it is not the cause", f.Key)
	}
	return Decision{}
}

// restored reports whether a person turned the flag on again after driftwatch turned it off
// for this upgrade, and when driftwatch had acted. The flag is known to be on. Whatever was
// written since the rollout began counts: one upgrade has two ids if its rule or its time is
// spelt in two ways.
func (in DecideInput) restored() (time.Time, bool) {
	f := in.flag()
	for _, a := range in.History {
		if a.Flag != f.Key || a.Source != f.Source {
			continue
		}
		if a.UpgradeID == in.UpgradeID || !a.At.Before(in.Upgrade.Started) {
			return a.At, true
		}
	}
	return time.Time{}, false
}

// byConsent asks for the three consents that a write takes.
func (in DecideInput) byConsent([]detect.Row) Decision {
	dry := func(text string) Decision {
		return Decision{Outcome: DryRun, Reason: ReasonDryRun, Text: "would turn off " + in.flag().Key + "; " + text}
	}
	switch {
	case in.DryRun:
		return dry("--dry-run was given")
	case !in.flag().Act && !in.Act:
		return dry("the rule says act: false for it, and neither --act nor act: true in the configuration was given")
	case !in.flag().Act:
		return dry("the rule says act: false for it")
	case !in.Act:
		return dry("neither --act nor act: true in the configuration was given")
	case in.Approval:
		d := dry("a person has to approve it")
		d.Reason = ReasonApproval
		return d
	}
	return Decision{}
}

// critical is the first of the notes that keep hands off a flag, or "".
func (l Limits) critical(metadata map[string]any) string {
	for _, mark := range l.Critical {
		key, want, valued := strings.Cut(mark, "=")
		if !valued {
			want = "true"
		}
		if v, ok := metadata[key]; ok && fmt.Sprint(v) == want {
			return key + "=" + want
		}
	}
	return ""
}

// byLimits looks at what forbids to act now.
func (in DecideInput) byLimits([]detect.Row) Decision {
	late := max(2*in.Rule.Windows.Step, staleAfter)
	if age := in.Present.Sub(in.Now); age > late {
		return refuse(ReasonStale, "the judgement is as of %s before the present; at most %s may be acted on", age.Round(time.Second), late)
	}
	if age := in.Present.Sub(in.Upgrade.At.Add(in.Rule.Windows.Horizon)); age > late {
		return refuse(ReasonStale, "the watch of this upgrade ended %s ago; at most %s later may be acted on", age.Round(time.Second), late)
	}
	if in.StopFile != "" {
		return refuse(ReasonStopFile, "the stop file %s is there", in.StopFile)
	}
	hour, day := 0, 0
	for _, a := range in.History {
		age := in.Present.Sub(a.At)
		if a.Restore {
			continue
		}
		if age < time.Hour {
			hour++
		}
		if age < 24*time.Hour {
			day++
		}
		if a.Flag == in.flag().Key && a.Source == in.flag().Source && age < in.Limits.Cooldown {
			return refuse(ReasonBudget, "%s was turned off %s ago; the cooldown is %s", a.Flag, age.Round(time.Second), in.Limits.Cooldown)
		}
	}
	if hour >= in.Limits.PerHour {
		return refuse(ReasonBudget, "%d flags were turned off within the last hour; %d are allowed", hour, in.Limits.PerHour)
	}
	if day >= in.Limits.PerDay {
		return refuse(ReasonBudget, "%d flags were turned off within the last day; %d are allowed", day, in.Limits.PerDay)
	}
	return Decision{}
}
