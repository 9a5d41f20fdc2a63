package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// ProveWithin bounds a proof. A file provider sees a flip within milliseconds and a flagd
// that polls within a second; a proof needs three clean rounds on top. What is not seen by
// then is somebody else's view of the flag.
const ProveWithin = 30 * time.Second

// settleAfter is how old an intent without an outcome must be to count as interrupted. A
// write takes milliseconds, so a younger one may belong to a check that is at it.
const settleAfter = 10 * time.Second

// A Hand writes flags, for a check or for a person: the intent is journaled first, then the
// write is made, then what came of it is journaled. From the intent on an interrupt does not
// stop it. A process that dies in between leaves an intent that Settle resolves by reading.
type Hand struct {
	Journal *journal.Journal
	Limits  *journal.Limits // of what driftwatch does by itself; nil for a person, who has none
	Clock   func() time.Time
	Log     *slog.Logger
}

// A Write is a flag that was turned off.
type Write struct {
	Intent  journal.Intent
	Change  flags.Change
	Receipt flags.Receipt
	At      time.Time // zero: it is not known to be written
	Unsure  error     // what failed after the write, which stands; nil = nothing did
}

// change is what turns a flag off for everybody, in the way of the rule. The source notes it as the
// action that key names.
func change(source flags.Switch, state flags.State, off rule.Off, key journal.Key) (flags.Change, error) {
	c, err := source.Plan(state, flags.ModeOf(off), flags.Want{Variant: off.Variant})
	c.Case = key.Case()
	return c, err
}

// TurnOff writes the change that turns a flag off for everybody, in the way of the rule. key
// names the action in the journal, where it can stand only once. The error wraps one of the flags
// package where the source refused, and is a *journal.LimitError where the limits do; nothing is
// written then. Write holds the intent as soon as there is one.
func (h Hand) TurnOff(ctx context.Context, source flags.Switch, state flags.State, off rule.Off, key journal.Key, by string) (Write, error) {
	c, err := change(source, state, off, key)
	if err != nil {
		return Write{}, err
	}
	return h.write(ctx, source, state, c, key, by)
}

// write makes a change that was planned on state: the intent first, then the write, then what
// came of it.
func (h Hand) write(ctx context.Context, source flags.Switch, state flags.State, c flags.Change, key journal.Key, by string) (Write, error) {
	w := Write{Change: c}
	body, err := json.Marshal(c)
	if err != nil {
		return w, fmt.Errorf("write the intent: %w", err)
	}
	// An intent is used up by a conflict, so one that is known already is told before it.
	now, err := source.Read(ctx, state.Ref)
	if err != nil {
		return w, err
	}
	if now.Revision != state.Revision {
		return w, fmt.Errorf("%w: %s was read at revision %s and is at %s now; nothing was written", flags.ErrConflict, state.Ref.Key, state.Revision.Short(), now.Revision.Short())
	}
	if ctx.Err() != nil {
		return w, ctx.Err()
	}
	ctx = context.WithoutCancel(ctx)
	intent, err := h.Journal.AppendIntent(ctx, journal.Intent{Key: key, Kind: journal.FlagOff, At: h.Clock(), By: by, Change: body}, h.Limits)
	if errors.Is(err, journal.ErrAlreadyIntended) {
		return w, fmt.Errorf("another check turns it off: %w", err)
	}
	if err != nil {
		return w, fmt.Errorf("the intent cannot be journaled, so nothing was written: %w", err)
	}
	w.Intent = intent
	reason := "not looked at yet"
	if w.Receipt, err = source.TurnOff(ctx, w.Change); errors.Is(err, flags.ErrWrittenUnsure) {
		reason, w.Unsure = err.Error(), err // the proof tells what became of it
	} else if err != nil {
		h.outcome(ctx, intent.ID, report.Failed, err.Error(), w.Change.Base, w.Change.Base, nil)
		return w, err
	}
	w.At = h.Clock()
	h.outcome(ctx, intent.ID, report.WrittenNotVerified, reason, w.Receipt.Before, w.Receipt.After, w.Receipt)
	return w, nil
}

// Proved journals how a proof of w ended; err is nil where everybody gets the off variant.
func (h Hand) Proved(ctx context.Context, w Write, evidence flags.Evidence, err error) {
	o := journal.Outcome{
		At: h.Clock(), Outcome: string(report.Verified), RevisionBefore: string(w.Receipt.Before), RevisionAfter: string(w.Receipt.After),
	}
	if err != nil {
		o.Outcome, o.Reason = string(report.WrittenNotVerified), err.Error()
	}
	if o.Evidence, err = json.Marshal(evidence); err != nil {
		h.Log.Error("the evidence is not journaled", "error", err)
	}
	h.append(ctx, w.Intent.ID, o)
}

// ErrNothingToRestore is a flag that driftwatch did not turn off, or whose write was taken
// back already.
var ErrNothingToRestore = errors.New("the journal holds no write that could be taken back")

// Restore takes back the newest write of a flag, byte for byte, because by wants it.
func (h Hand) Restore(ctx context.Context, source flags.Switch, ref flags.Ref, by string) (flags.Receipt, error) {
	receipt, written, err := h.lastReceipt(ctx, ref)
	if err != nil {
		return flags.Receipt{}, err
	}
	ctx = context.WithoutCancel(ctx)
	intent, err := h.Journal.AppendIntent(ctx, journal.Intent{Key: written.Key, Kind: journal.Restore, At: h.Clock(), By: by, Change: written.Change}, nil)
	if err != nil {
		return flags.Receipt{}, fmt.Errorf("the intent cannot be journaled, so nothing was written: %w", err)
	}
	done, err := source.Restore(ctx, receipt)
	if errors.Is(err, flags.ErrWrittenUnsure) {
		h.outcome(ctx, intent.ID, report.WrittenNotVerified, err.Error(), done.Before, done.After, done)
		return done, err
	}
	if err != nil {
		h.outcome(ctx, intent.ID, report.Failed, err.Error(), receipt.After, receipt.After, nil)
		return flags.Receipt{}, err
	}
	h.outcome(ctx, intent.ID, report.Verified, "", done.Before, done.After, done)
	return done, nil
}

// lastReceipt is the newest write of a flag that was not taken back yet.
func (h Hand) lastReceipt(ctx context.Context, ref flags.Ref) (flags.Receipt, journal.Action, error) {
	standing, err := h.Standing(ctx, journal.ActionFilter{Source: ref.Source, Flag: ref.Key})
	if err != nil {
		return flags.Receipt{}, journal.Action{}, err
	}
	if len(standing) == 0 {
		return flags.Receipt{}, journal.Action{}, fmt.Errorf("%w: %s", ErrNothingToRestore, ref.Key)
	}
	return standing[0].Receipt, standing[0].Action, nil
}

// A Standing is a write that was not taken back: the newest one of its flag.
type Standing struct {
	Ref     flags.Ref
	Action  journal.Action
	Receipt flags.Receipt
	Since   time.Time
}

// Standing are the writes that f chooses and that were not taken back, newest first: the order
// in which they can be taken back.
func (h Hand) Standing(ctx context.Context, f journal.ActionFilter) ([]Standing, error) {
	actions, err := h.Journal.Actions(ctx, f)
	if err != nil {
		return nil, err
	}
	var out []Standing
	for _, a := range actions {
		ref := flags.Ref{Source: a.Source, Key: a.Flag}
		for _, o := range a.Outcomes {
			if len(o.Receipt) == 0 {
				continue
			}
			out = slices.DeleteFunc(out, func(s Standing) bool { return s.Ref == ref })
			if a.Kind == journal.Restore {
				continue
			}
			var receipt flags.Receipt
			if err := json.Unmarshal(o.Receipt, &receipt); err != nil {
				return nil, fmt.Errorf("read the receipt of %s: %w", ref.Key, err)
			}
			out = append(out, Standing{ref, a, receipt, o.At})
		}
	}
	slices.Reverse(out)
	return out, nil
}

// Actions are the journal's entries that f chooses. What a crash left without an outcome is
// settled first; what a check may be at right now is waited for.
func (h Hand) Actions(ctx context.Context, f journal.ActionFilter, sources map[string]flags.Switch) ([]journal.Action, error) {
	for {
		actions, err := h.Journal.Actions(ctx, f)
		if err != nil {
			return nil, err
		}
		young := false
		for i, a := range actions {
			if len(a.Outcomes) > 0 {
				continue
			}
			if h.Clock().Sub(a.At) < settleAfter {
				young = true
				continue
			}
			if actions[i].Outcomes, err = h.settle(ctx, a, sources[a.Source]); err != nil {
				return nil, err
			}
		}
		if !young {
			return actions, nil
		}
		select {
		case <-time.After(settleAfter / 50):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// settle finds out whether an interrupted write happened, by reading the flag.
func (h Hand) settle(ctx context.Context, a journal.Action, source flags.Switch) ([]journal.Outcome, error) {
	var c flags.Change
	if err := json.Unmarshal(a.Change, &c); err != nil {
		return nil, fmt.Errorf("read the intent of %s: %w", a.Flag, err)
	}
	restore := a.Kind == journal.Restore
	o := journal.Outcome{At: h.Clock(), Outcome: string(report.Failed), RevisionBefore: string(c.Base), RevisionAfter: string(c.Base)}
	if restore {
		o.RevisionBefore, o.RevisionAfter = string(c.After), string(c.After)
	}
	var settled flags.Settlement
	err := fmt.Errorf("%w: the configuration names no flag source %q", flags.ErrNotFound, a.Source)
	if source != nil {
		settled, err = source.Settle(ctx, c, restore)
	}
	if err != nil {
		// Nothing is known, so nothing is settled: whoever can read the flag settles it.
		o.Reason = fmt.Sprintf("interrupted; whether it was written cannot be read: %v", err)
		return []journal.Outcome{o}, nil
	}
	switch settled.Fate {
	case flags.Written, flags.WrittenOver:
		receipt := settled.Receipt
		o.Outcome, o.Reason, o.At = string(report.WrittenNotVerified), "interrupted after the write", receipt.Written
		if settled.Fate == flags.WrittenOver {
			o.Reason += "; somebody changed the source since"
		}
		if receipt.Written.IsZero() { // the source does not tell
			o.At, receipt.Written = a.At, a.At
		}
		o.RevisionBefore, o.RevisionAfter = string(receipt.Before), string(receipt.After)
		if o.Receipt, err = json.Marshal(receipt); err != nil {
			return nil, fmt.Errorf("write the receipt: %w", err)
		}
	case flags.Untouched:
		o.Reason = "interrupted before the write; the flag was not touched"
	default:
		o.Reason = "interrupted, and changed by somebody else since; the flag is " + settled.State.Word(c.Want.Variant)
	}
	return []journal.Outcome{o}, h.Journal.AppendOutcome(ctx, a.ID, o)
}

// outcome journals what became of an intent.
func (h Hand) outcome(ctx context.Context, intent int64, outcome report.Outcome, reason string, before, after flags.Revision, receipt any) {
	o := journal.Outcome{At: h.Clock(), Outcome: string(outcome), Reason: reason, RevisionBefore: string(before), RevisionAfter: string(after)}
	if receipt != nil {
		var err error
		if o.Receipt, err = json.Marshal(receipt); err != nil {
			h.Log.Error("the receipt is not journaled", "error", err)
		}
	}
	h.append(ctx, intent, o)
}

// append journals an outcome. Where the journal fails now, the intent is in it, and whoever
// comes next settles it by reading the flag; what was done must not be lost over it.
func (h Hand) append(ctx context.Context, intent int64, o journal.Outcome) {
	if err := h.Journal.AppendOutcome(ctx, intent, o); err != nil {
		h.Log.Error("the outcome is not journaled", "outcome", o.Outcome, "error", err)
	}
}

// Question is what is asked about a flag, of so many made-up users.
func Question(f rule.Flag, state flags.State, users int, r *rand.Rand) flags.Question {
	return flags.NewQuestion(state, flags.Want{Variant: f.Off.Variant, Value: state.Variants[f.Off.Variant]}, f, users, r)
}
