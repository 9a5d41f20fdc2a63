package journal

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Limits bound what driftwatch does by itself, over all rules and all processes that share
// the journal. What a person did, and what was not written, does not count.
type Limits struct {
	PerHour  int           // actions of all flags within any hour
	PerDay   int           // actions of all flags within any 24 hours
	Cooldown time.Duration // between two actions on one flag

	// Unproved is how long an action whose proof is not journaled yet makes all other flags
	// wait: one flag at a time, so that the numbers afterwards are those of one change. What is
	// older was cut short, and nobody will prove it.
	Unproved time.Duration
}

// A Limit is one of Limits, by its name in the configuration.
type Limit string

// The limits.
const (
	PerHour    Limit = "actions_per_hour"
	PerDay     Limit = "actions_per_day"
	Cooldown   Limit = "cooldown"
	OneAtATime Limit = "one_at_a_time" // always holds
)

const day = 24 * time.Hour

// A LimitError is an action that a limit forbids now. Nothing was kept of it.
type LimitError struct {
	Limit   Limit
	Flag    string        // of the action that is in the way; "" where several are
	Count   int           // actions that count against the limit
	Allowed int           // how many may
	Span    time.Duration // over which they are counted
	FreeAt  time.Time     // when the limit allows it, if nothing else happens; zero = it never does
}

func (e *LimitError) Error() string {
	var s string
	switch e.Limit {
	case Cooldown:
		s = fmt.Sprintf("%s was turned off within the cooldown of %s", e.Flag, e.Span)
	case OneAtATime:
		s = fmt.Sprintf("%s is being turned off and not proved yet; one flag at a time", e.Flag)
	default:
		s = fmt.Sprintf("%d flags were turned off within %s; %d are allowed (%s)", e.Count, e.Span, e.Allowed, e.Limit)
	}
	if e.FreeAt.IsZero() {
		return s
	}
	return s + "; free again at " + e.FreeAt.UTC().Format(time.RFC3339)
}

// reach is how far back actions may count.
func (l *Limits) reach() time.Duration { return max(day, l.Cooldown, l.Unproved) }

// check says which limit forbids in, given the actions within reach before it. Of several it
// is the one that lasts longest. A clock that is behind that of another replica sees actions
// of the future: they count, too.
func (l *Limits) check(in Intent, actions []Action) *LimitError {
	var times []time.Time
	var found []*LimitError
	for _, a := range actions {
		if a.Kind != FlagOff || ByHand(a.UpgradeID) || !a.mayBeWritten() {
			continue
		}
		times = append(times, a.At)
		same := a.Source == in.Source && a.Flag == in.Flag
		if same && in.At.Sub(a.At) < l.Cooldown {
			found = append(found, &LimitError{Cooldown, a.Flag, 1, 0, l.Cooldown, a.At.Add(l.Cooldown)})
		}
		if !same && !a.proofIsKnown() && in.At.Sub(a.At) < l.Unproved {
			found = append(found, &LimitError{OneAtATime, a.Flag, 1, 0, l.Unproved, a.At.Add(l.Unproved)})
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	for _, b := range []struct {
		limit   Limit
		allowed int
		span    time.Duration
	}{{PerHour, l.PerHour, time.Hour}, {PerDay, l.PerDay, day}} {
		recent := slices.DeleteFunc(slices.Clone(times), func(at time.Time) bool { return in.At.Sub(at) >= b.span })
		if len(recent) < b.allowed {
			continue
		}
		e := &LimitError{Limit: b.limit, Count: len(recent), Allowed: b.allowed, Span: b.span}
		if b.allowed > 0 {
			e.FreeAt = recent[len(recent)-b.allowed].Add(b.span)
		}
		found = append(found, e)
	}
	if len(found) == 0 {
		return nil
	}
	return slices.MaxFunc(found, func(a, b *LimitError) int {
		if a.FreeAt.IsZero() != b.FreeAt.IsZero() {
			if a.FreeAt.IsZero() {
				return 1
			}
			return -1
		}
		return a.FreeAt.Compare(b.FreeAt)
	})
}

// mayBeWritten reports whether an action changed its flag, or may have or may yet do so.
func (a *Action) mayBeWritten() bool {
	return len(a.Outcomes) == 0 || slices.ContainsFunc(a.Outcomes, func(o Outcome) bool { return len(o.Receipt) > 0 })
}

// proofIsKnown reports whether it was looked what everybody is served after the action.
func (a *Action) proofIsKnown() bool {
	return slices.ContainsFunc(a.Outcomes, func(o Outcome) bool { return len(o.Evidence) > 0 })
}

// allowed looks at the limits within the transaction that will append in, so that nobody
// else's action comes between the look and the append.
func (j *Journal) allowed(ctx context.Context, q queryer, in Intent, limits *Limits) error {
	actions, err := j.actions(ctx, q, "WHERE kind = 'flag_off' AND at_ns > $1", in.At.Add(-limits.reach()).UnixNano())
	if err != nil {
		return err
	}
	if e := limits.check(in, actions); e != nil {
		return e
	}
	return nil
}
