package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// A pastAction is a write of driftwatch because of this upgrade.
type pastAction struct {
	Write
	flag    int       // index of the rule's flag
	proved  time.Time // zero: it was never seen off
	looked  bool      // a proof was tried
	undone  bool      // a person took it back with driftwatch
	outcome report.Outcome
	detail  string
}

// unprovedAfter is how long a flag that was written and not proved yet keeps all others from
// being written. A proof takes at most ProveWithin, and a fallen exposure two steps and the
// range of its expression, which is seldom over five minutes. Longer, and a check that was
// killed between write and proof holds up every rule; shorter, and two flags may be written
// before anybody knows what the first one did.
const unprovedAfter = 10 * time.Minute

// hand writes flags on the clock of Prometheus, within the limits.
func (s *session) hand() Hand {
	limits := journal.Limits{PerHour: s.Limits.PerHour, PerDay: s.Limits.PerDay, Cooldown: s.Limits.Cooldown, Unproved: unprovedAfter}
	return Hand{Journal: s.Journal, Limits: &limits, Clock: s.present, Log: s.Log}
}

// loadActions reads what driftwatch did about the rule's flags since the upgrade began. That
// is ours for this upgrade, whatever the upgrade was called then: a time one second off, or
// another way to write the rule's path, must not let a flag be turned off twice.
func (s *session) loadActions(ctx context.Context) error {
	s.in.UpgradeID = upgradeID(*s.upgrade, s.Rule)
	if s.Journal == nil {
		return nil
	}
	entries, err := s.hand().Actions(ctx, journal.ActionFilter{Since: s.upgrade.Started}, s.Switches)
	if err != nil {
		return fmt.Errorf("read earlier actions: %w", err)
	}
	for _, e := range entries {
		a, ok, err := s.past(e)
		if err != nil {
			return err
		}
		if e.Kind == journal.Restore && wasWritten(e) {
			for i, b := range s.actions {
				s.actions[i].undone = b.undone || b.Intent.Key == e.Key
			}
		}
		if !ok {
			continue
		}
		switch i := slices.IndexFunc(s.actions, func(b pastAction) bool { return b.Intent.ID == a.Intent.ID }); {
		case i < 0:
			s.actions = append(s.actions, a)
		case s.actions[i].At.IsZero(): // it may be settled by now
			s.actions[i] = a
		}
	}
	s.noteWrites()
	return nil
}

// noteWrites ends the post window of every row whose flag was written at the write.
func (s *session) noteWrites() {
	for _, a := range s.actions {
		if a.At.IsZero() {
			continue
		}
		if s.in.WrittenAt == nil {
			s.in.WrittenAt = map[int]int{}
		}
		s.in.WrittenAt[a.flag] = s.stepOf(a.At)
	}
}

// past turns a journal entry into a pastAction; restores and flags that the rule no longer
// names are none.
func (s *session) past(e journal.Action) (pastAction, bool, error) {
	a := pastAction{flag: -1, Write: Write{Intent: e.Intent}}
	for i, f := range s.Rule.Flags {
		if f.Key == e.Flag && f.Source == e.Source {
			a.flag = i
		}
	}
	if a.flag < 0 || e.Kind != journal.FlagOff || journal.ByHand(e.UpgradeID) {
		return a, false, nil
	}
	if err := json.Unmarshal(e.Change, &a.Change); err != nil {
		return a, false, fmt.Errorf("read the intent of %s: %w", e.Flag, err)
	}
	for _, o := range e.Outcomes {
		a.outcome, a.detail = report.Outcome(o.Outcome), o.Reason
		a.looked = a.looked || len(o.Evidence) > 0
		if len(o.Receipt) > 0 {
			if err := json.Unmarshal(o.Receipt, &a.Receipt); err != nil {
				return a, false, fmt.Errorf("read the receipt of %s: %w", e.Flag, err)
			}
		}
		if a.At.IsZero() && (a.outcome == report.Verified || a.outcome == report.WrittenNotVerified) {
			a.At = o.At
		}
		if a.proved.IsZero() && a.outcome == report.Verified {
			a.proved = o.At
		}
	}
	return a, true, nil
}

// source is the flag source of a name.
func (s *session) source(name string) (flags.Switch, error) {
	source, ok := s.Switches[name]
	if !ok {
		return nil, fmt.Errorf("%w: the configuration names no flag source %q", flags.ErrNotFound, name)
	}
	return source, nil
}

// act decides on every flag with a regressed row and carries out what was decided. again
// says that a later look may decide otherwise.
func (s *session) act(ctx context.Context) (again bool, err error) {
	s.in.Actions = nil
	if s.judged.Verdict != detect.Regressed {
		return true, nil
	}
	for flag := -1; flag < len(s.Rule.Flags); flag++ {
		if !s.regressed(flag) {
			continue
		}
		action, retry, err := s.actOn(ctx, flag)
		if err != nil {
			return false, err
		}
		s.in.Actions = append(s.in.Actions, action)
		again = again || retry
	}
	return again, nil
}

// done is what driftwatch did to such a flag, in words.
func done(off rule.Off) string {
	if off.Disabled {
		return "disabled"
	}
	return "turned off"
}

// kindOf is what is done to a flag that its rule wants turned off in this way.
func kindOf(off rule.Off) string {
	if off.Disabled {
		return report.FlagDisabled
	}
	return report.FlagOff
}

// regressed reports whether a row of this flag is.
func (s *session) regressed(flag int) bool {
	for _, r := range s.judged.Rows {
		if r.Flag == flag && r.Verdict == detect.Regressed {
			return true
		}
	}
	return false
}

// passing are the reasons that a later look may lift.
var passing = map[flags.Reason]bool{
	flags.ReasonCouldNotCheck: true, flags.ReasonGoneAgain: true, flags.ReasonNoControls: true, flags.ReasonNoExposure: true,
}

// actOn decides on one flag, and turns it off if that is the decision.
func (s *session) actOn(ctx context.Context, flag int) (action report.Action, again bool, err error) {
	if !s.replaced.IsZero() && flag >= 0 && s.earlier(flag) == nil {
		return report.Action{
			Kind: kindOf(s.Rule.Flags[flag].Off), Flag: report.Word(s.Rule.Flags[flag].Key), Outcome: report.Refused, Reason: report.Word(flags.ReasonStale),
			Detail: report.Word(fmt.Sprintf("%s followed at %s: the numbers are no longer those of this upgrade", s.replacedBy, stamp(s.replaced))),
		}, false, nil
	}
	if a := s.earlier(flag); a != nil {
		return s.proveAgain(ctx, a), false, nil
	}
	in, err := s.decideInput(ctx, flag)
	if err != nil {
		return report.Action{}, false, err
	}
	d := flags.Decide(in)
	if flag >= 0 && (d.Outcome == flags.AlreadyOff || d.Reason == flags.ReasonNotServed) {
		// Another check may have turned it off between our reads: then it is ours, too.
		if err := s.loadActions(ctx); err != nil {
			return report.Action{}, false, err
		}
		if a := s.earlier(flag); a != nil {
			return s.proveAgain(ctx, a), false, nil
		}
	}
	action = report.Action{
		Kind: report.FlagOff, Outcome: report.Outcome(d.Outcome), Reason: report.Word(d.Reason), Detail: report.Word(d.Text),
	}
	if flag >= 0 {
		action.Kind = kindOf(s.Rule.Flags[flag].Off)
		action.Flag = report.Word(s.Rule.Flags[flag].Key)
		action.Revision[0] = report.Word(in.State.Revision.Short())
		if s.Rule.Flags[flag].Exposure != "" {
			action.Exposure = &report.Exposure{Before: finite(in.Exposure)}
		}
	}
	switch d.Outcome {
	case flags.Act:
		return s.turnOff(ctx, flag, in.State, action)
	case flags.DryRun:
		action.Shadow = s.shadow(ctx, flag)
		if d.Reason == flags.ReasonApproval {
			path, err := s.propose(flag, in.State)
			if err != nil {
				return action, false, fmt.Errorf("write the plan of turning off %s: %w", s.Rule.Flags[flag].Key, err)
			}
			action.Missing, action.Plan = []string{"driftwatch flags apply " + path}, report.Word(path)
			return action, false, nil
		}
		action.Missing = s.missingConsent(flag)
		return action, false, nil
	case flags.AlreadyOff:
		action = s.seenOff(ctx, flag, in.State, action)
		return action, false, nil
	}
	if d.Reason == flags.ReasonReadOnly {
		s.Say(report.ReadOnly(s.Rule.Flags[flag].Key, in.State.Path, in.State.ReadOnly).String())
	}
	return action, passing[d.Reason], nil
}

// seenOff proves that a flag that somebody else turned off is off. Nothing is written.
func (s *session) seenOff(ctx context.Context, flag int, state flags.State, action report.Action) report.Action {
	f := s.Rule.Flags[flag]
	evidence, err := s.Provers[f.Source].Prove(ctx, Question(f, state, ProofUsers, s.Rand), ProveWithin)
	action.Viewpoint, action.Evaluations = report.Word(evidence.Viewpoint.Kind), evaluations(evidence)
	seen := fmt.Sprintf("verified off in %s", evidence.Took.Round(time.Millisecond))
	if f.Off.Disabled {
		seen = fmt.Sprintf("disabled, verified in %s: it falls back to the code default", evidence.Took.Round(time.Millisecond))
	}
	if err != nil {
		seen = err.Error()
		action.Detail = report.Word(seen)
	}
	s.Say(report.FlagAlreadyOff(f.Key, state.Changed, state.Revision.Short(), seen).String())
	return action
}

// earlier is the newest write of a flag because of this upgrade, or nil.
func (s *session) earlier(flag int) *pastAction {
	for i := len(s.actions) - 1; i >= 0; i-- {
		if s.actions[i].flag == flag {
			return &s.actions[i]
		}
	}
	return nil
}

// missingConsent names the consents that a dry run lacks.
func (s *session) missingConsent(flag int) []string {
	var missing []string
	if !s.Rule.Flags[flag].Act {
		missing = append(missing, "act: true in the rule")
	}
	if s.DryRun {
		return append(missing, "no --dry-run")
	}
	if !s.Act {
		missing = append(missing, "--act")
	}
	return missing
}

// decideInput reads what a decision on one flag needs.
func (s *session) decideInput(ctx context.Context, flag int) (flags.DecideInput, error) {
	in := flags.DecideInput{
		Rule: s.Rule, Flag: flag, Judgement: s.judged, Upgrade: *s.upgrade, UpgradeID: s.in.UpgradeID,
		Act: s.Act && s.Journal != nil, DryRun: s.DryRun, Approval: s.Approval.Required,
		Now: s.now, Present: s.present(), Limits: s.Limits, Definition: s.defined[flag],
	}
	if s.StopFile != "" {
		if _, err := os.Stat(s.StopFile); err == nil || !errors.Is(err, os.ErrNotExist) {
			in.StopFile = s.StopFile
		}
	}
	if s.Journal != nil {
		entries, err := s.Journal.Actions(ctx, journal.ActionFilter{})
		if err != nil {
			return in, fmt.Errorf("read earlier actions: %w", err)
		}
		for _, e := range entries {
			restore := e.Kind == journal.Restore
			if !restore && journal.ByHand(e.UpgradeID) {
				continue // a person's write counts against no budget of driftwatch
			}
			if !wasWritten(e) {
				continue // what was not written can neither be undone nor count
			}
			in.History = append(in.History, flags.PastAction{UpgradeID: e.UpgradeID, Source: e.Source, Flag: e.Flag, At: e.At, Restore: restore})
		}
	}
	if flag < 0 {
		return in, nil
	}
	f := s.Rule.Flags[flag]
	source, err := s.source(f.Source)
	if err == nil {
		in.State, err = source.Read(ctx, flags.Ref{Source: f.Source, Key: f.Key})
	}
	if in.StateErr = err; err != nil {
		return in, nil
	}
	served, err := s.Provers[f.Source].Served(ctx, Question(f, in.State, servedUsers, s.Rand))
	in.ServedErr = err
	if err == nil {
		in.Served = &served
	}
	if f.Exposure != "" {
		in.Exposure = s.exposure(ctx, f)
	}
	return in, nil
}

// wasWritten reports whether an entry of the journal changed a flag.
func wasWritten(a journal.Action) bool {
	return slices.ContainsFunc(a.Outcomes, func(o journal.Outcome) bool { return len(o.Receipt) > 0 })
}

// Made-up users that a proof asks for besides the rule's own contexts. A flag that is off has
// no rules left that could tell users apart, so few do; whether a flag is served to anybody
// must also see a ramp of 1 %, which 200 users meet in 87 % of cases.
const (
	ProofUsers  = 20
	servedUsers = 200
)

// checkFlags reads the flags of the rule whose sources the configuration names: a flag that
// its source does not have is a mistake to be told before anything is judged.
func (s *session) checkFlags(ctx context.Context) error {
	s.defined = map[int]string{}
	for i, f := range s.Rule.Flags {
		source, err := s.source(f.Source)
		if err != nil {
			s.warn(fmt.Sprintf("flag %s: %v", f.Key, err))
			continue
		}
		state, err := source.Read(ctx, flags.Ref{Source: f.Source, Key: f.Key})
		if errors.Is(err, flags.ErrNotFound) {
			return report.NoSuchFlag(f.Key, fmt.Sprintf("%s:%d:%d", s.Rule.Path, f.Line, f.Column), err.Error())
		}
		if err != nil {
			s.warn(err.Error())
			continue
		}
		s.defined[i] = state.Definition
		s.Say(s.Progress.Flag(f.Key, state.Word(f.Off.Variant), state.Revision.Short(), state.ReadOnly == ""))
		if err := s.remind(ctx, f, state); err != nil {
			return err
		}
	}
	return nil
}

// remind warns of a flag that driftwatch turned off long ago, so that nothing stays off
// forgotten.
func (s *session) remind(ctx context.Context, f rule.Flag, state flags.State) error {
	if s.Journal == nil || s.RemindAfter <= 0 || !state.Off(f.Off.Variant) {
		return nil
	}
	standing, err := s.hand().Standing(ctx, journal.ActionFilter{Source: f.Source, Flag: f.Key})
	if err != nil {
		return fmt.Errorf("read earlier actions: %w", err)
	}
	if len(standing) == 0 {
		return nil
	}
	if age := s.present().Sub(standing[0].Since); age > s.RemindAfter {
		s.warn(fmt.Sprintf("%s is off by driftwatch since %s, %d days: driftwatch flags restore %s, or remove the flag from the code and the rule",
			f.Key, stamp(standing[0].Since), int(age.Hours()/24), f.Key))
	}
	return nil
}

// exposure reads the share of traffic that meets the flag's suspect variant: nil if it
// cannot be read, NaN if no series answers.
func (s *session) exposure(ctx context.Context, f rule.Flag) *float64 {
	value, ok, warnings, err := s.Query.Scalar(ctx, f.Exposure, s.present())
	s.in.Stats.Queries++
	if err != nil || len(warnings) > 0 {
		s.Log.Warn("exposure not read", "flag", f.Key, "error", err, "warnings", warnings)
		return nil
	}
	if !ok {
		value = math.NaN()
	}
	return &value
}

// turnOff writes the flag and proves it. From the intent on, an interrupt no longer stops it:
// a flag is never left in an unknown state. again says that only another flag's proof is
// waited for.
func (s *session) turnOff(ctx context.Context, flag int, state flags.State, action report.Action) (done report.Action, again bool, err error) {
	f := s.Rule.Flags[flag]
	key := journal.Key{Rule: rulePath(s.Rule), UpgradeID: s.in.UpgradeID, Source: f.Source, Flag: f.Key}
	w, err := s.hand().TurnOff(ctx, s.Switches[f.Source], state, f.Off, key, "driftwatch "+s.Tool)
	if ctx.Err() != nil && w.At.IsZero() {
		return action, false, ctx.Err()
	}
	if errors.Is(err, journal.ErrAlreadyIntended) {
		if err := s.loadActions(ctx); err != nil {
			return action, false, err
		}
		if a := s.earlier(flag); a != nil {
			return s.proveAgain(ctx, a), false, nil
		}
	}
	if limit, ok := errors.AsType[*journal.LimitError](err); ok {
		// Another check was faster since the decision: the journal's count is the binding one.
		action.Outcome, action.Reason, action.Detail = report.Refused, report.Word(flags.ReasonBudget), report.Word(limit.Error())
		return action, limit.Limit == journal.OneAtATime, nil
	}
	past := pastAction{Write: w, flag: flag, outcome: report.WrittenNotVerified}
	if err != nil && w.Intent.ID == 0 {
		action.Outcome, action.Detail = report.Failed, report.Word(err.Error())
		return action, false, nil
	}
	if err != nil {
		action.Outcome, action.Detail = report.Failed, report.Word(err.Error())
		past.outcome, past.detail = report.Failed, err.Error()
		s.actions = append(s.actions, past)
		return action, false, nil
	}
	action.Revision = [2]report.Word{report.Word(w.Receipt.Before.Short()), report.Word(w.Receipt.After.Short())}
	action.At = report.At(w.At)
	s.actions = append(s.actions, past)
	s.wrote = true
	s.noteWrites()
	action = s.prove(context.WithoutCancel(ctx), &s.actions[len(s.actions)-1], action)
	s.Say(s.Progress.Action(action))
	return action, false, nil
}

// prove looks whether everybody gets the off variant, and whether the exposure fell, and
// journals what it saw.
func (s *session) prove(ctx context.Context, a *pastAction, action report.Action) report.Action {
	f := s.Rule.Flags[a.flag]
	var evidence flags.Evidence
	var state flags.State
	source, err := s.source(f.Source)
	if err == nil {
		state, err = source.Read(ctx, a.Change.Ref)
	}
	if err == nil {
		evidence, err = s.Provers[f.Source].Prove(ctx, Question(f, state, ProofUsers, s.Rand), ProveWithin)
		action.Viewpoint = report.Word(evidence.Viewpoint.Kind)
		action.Evaluations = evaluations(evidence)
	}
	if err == nil && f.Exposure != "" {
		var after *float64
		after, err = s.exposureFallen(ctx, f)
		if action.Exposure == nil {
			action.Exposure = &report.Exposure{}
		}
		action.Exposure.After = finite(after)
		if err == nil {
			action.Viewpoint = viewpointExposure
		}
	}
	s.hand().Proved(ctx, a.Write, evidence, err)
	a.looked = true
	now := s.present()
	action.Outcome, action.Reason, action.Detail = report.Verified, "", ""
	if err != nil {
		action.Outcome, action.Detail = report.WrittenNotVerified, report.Word(err.Error())
	} else {
		if a.proved.IsZero() {
			a.proved = now
		}
		took := a.proved.Sub(a.At).Seconds()
		action.VerifiedAfterS = &took
	}
	a.outcome, a.detail = action.Outcome, string(action.Detail)
	return action
}

// viewpointExposure stands where the application's own evaluations were seen to end.
const viewpointExposure = "exposure"

// finite is x, or nil where x is no number: JSON has no NaN.
func finite(x *float64) *float64 {
	if x == nil || math.IsNaN(*x) {
		return nil
	}
	return x
}

func evaluations(e flags.Evidence) *report.Evaluations {
	out := &report.Evaluations{WaitedS: e.Took.Seconds()}
	for _, a := range e.Answers {
		out.Total += a.Count
		if a.Clean {
			out.Off += a.Count
		} else if out.Reason == "" {
			out.Reason = report.Word(a.Reason)
		}
	}
	if out.Off == out.Total && len(e.Answers) > 0 {
		out.Reason = report.Word(e.Answers[0].Reason)
	}
	return out
}

// exposureFallen waits until no request meets the suspect variant any more: two steps and
// the time that the expression looks back.
func (s *session) exposureFallen(ctx context.Context, f rule.Flag) (*float64, error) {
	reach, err := query.LargestRange(f.Exposure)
	if err != nil {
		return nil, err
	}
	step := s.Rule.Windows.Step
	deadline := s.present().Add(2*step + reach)
	for {
		value := s.exposure(ctx, f)
		switch {
		case value != nil && math.IsNaN(*value):
			return nil, nil // nobody evaluates it any more
		case value != nil && *value == 0:
			return value, nil
		}
		if !s.present().Before(deadline) {
			if value == nil {
				return nil, errors.New("whether the exposure fell to zero could not be read")
			}
			return value, fmt.Errorf("exposure is still %.3g %s after the write", *value, 2*step+reach)
		}
		if err := s.sleepUntil(ctx, s.present().Add(min(step, time.Second))); err != nil {
			return value, err
		}
	}
}

// proveAgain looks at a flag that driftwatch turned off, or tried to, earlier. Nothing is
// written.
func (s *session) proveAgain(ctx context.Context, a *pastAction) report.Action {
	action := report.Action{
		Kind: kindOf(s.Rule.Flags[a.flag].Off), Flag: report.Word(a.Change.Ref.Key), Outcome: a.outcome, Detail: report.Word(a.detail),
		Revision: [2]report.Word{report.Word(a.Change.Base.Short()), report.Word(a.Change.After.Short())}, At: report.At(a.At),
	}
	if a.Receipt.After != "" { // where only the source could tell it
		action.Revision[1] = report.Word(a.Receipt.After.Short())
	}
	f := s.Rule.Flags[a.flag]
	source, err := s.source(f.Source)
	var state flags.State
	if err == nil {
		state, err = source.Read(ctx, a.Change.Ref)
	}
	off := err == nil && state.Off(f.Off.Variant)
	switch {
	case a.At.IsZero() && off:
		action.Outcome, action.Reason, action.Detail = report.AlreadyOff, report.Word(flags.ReasonAlreadyOff), "turned off by somebody after driftwatch could not"
		return s.seenOff(ctx, a.flag, state, action)
	case a.At.IsZero():
		return action
	case err == nil && !off && a.looked && a.proved.IsZero() && !a.undone && state.Revision == a.Receipt.Before:
		// Nobody ever saw it off, so that somebody turned it on again would be a guess.
		action.Detail = report.Word(fmt.Sprintf("it was never seen off, and its source is at revision %s, as before the write: it did not keep the write, or somebody took it back", state.Revision.Short()))
		return action
	case err == nil && !off:
		a.outcome = report.Refused
		action.Outcome, action.Reason = report.Refused, report.Word(flags.ReasonPersonRestored)
		action.Detail = report.Word(fmt.Sprintf("%s was %s by driftwatch at %s and somebody turned it on again; it is theirs now", f.Key, done(f.Off), stamp(a.At)))
		return action
	}
	return s.prove(ctx, a, action)
}
