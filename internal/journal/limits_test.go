package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// written is an action of driftwatch on a flag, so long after instant, with these outcomes.
func written(t *testing.T, j *Journal, flag string, after time.Duration, change func(in *Intent), outcomes ...Outcome) {
	t.Helper()
	in := anIntent()
	in.Flag, in.UpgradeID, in.At = flag, fmt.Sprint("upgrade-", after), instant().Add(after)
	if change != nil {
		change(&in)
	}
	in, err := j.AppendIntent(t.Context(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if err := j.AppendOutcome(t.Context(), in.ID, o); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimits(t *testing.T) {
	receipt := Outcome{At: instant(), Outcome: "written_not_verified", Receipt: []byte("{}")}
	proof := Outcome{At: instant(), Outcome: "verified", Evidence: []byte("{}")}
	notWritten := Outcome{At: instant(), Outcome: "failed"}
	byHand := func(in *Intent) { in.UpgradeID = HandID(in.At) }
	undo := func(in *Intent) { in.Kind = Restore }
	few := Limits{PerHour: 1, PerDay: 2, Cooldown: 6 * time.Hour, Unproved: 10 * time.Minute}
	many := Limits{PerHour: 100, PerDay: 100, Cooldown: 6 * time.Hour, Unproved: 10 * time.Minute}
	cases := []struct {
		name   string
		before func(t *testing.T, j *Journal)
		limits Limits
		at     time.Duration // of the new action on new-retry, after instant
		want   LimitError    // zero = it is allowed
	}{
		{"the first", func(*testing.T, *Journal) {}, few, 0, LimitError{}},
		{"no action is allowed", func(*testing.T, *Journal) {}, Limits{PerDay: 1}, 0, LimitError{PerHour, "", 0, 0, time.Hour, time.Time{}}},
		{"another one within the hour", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil, receipt, proof)
		}, few, 59 * time.Minute, LimitError{PerHour, "", 1, 1, time.Hour, instant().Add(time.Hour)}},
		{"an hour later", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil, receipt, proof)
		}, few, time.Hour, LimitError{}},
		{"a replica whose clock is ahead", func(t *testing.T, j *Journal) {
			written(t, j, "other", time.Minute, nil, receipt, proof)
		}, few, 0, LimitError{PerHour, "", 1, 1, time.Hour, instant().Add(time.Hour + time.Minute)}},
		{"two within the day", func(t *testing.T, j *Journal) {
			written(t, j, "one", 0, nil, receipt, proof)
			written(t, j, "two", 2*time.Hour, nil, receipt, proof)
		}, few, 4 * time.Hour, LimitError{PerDay, "", 2, 2, 24 * time.Hour, instant().Add(24 * time.Hour)}},
		{"hour and day: the one that lasts", func(t *testing.T, j *Journal) {
			written(t, j, "one", 0, nil, receipt, proof)
			written(t, j, "two", 2*time.Hour, nil, receipt, proof)
		}, few, 2*time.Hour + time.Minute, LimitError{PerDay, "", 2, 2, 24 * time.Hour, instant().Add(24 * time.Hour)}},
		{"what was not written does not count", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil, notWritten)
			written(t, j, "new-retry", time.Second, nil, notWritten)
		}, few, time.Minute, LimitError{}},
		{"what may have been written counts", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil)
		}, few, 30 * time.Minute, LimitError{PerHour, "", 1, 1, time.Hour, instant().Add(time.Hour)}},
		{"what a person did does not count", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, byHand, receipt)
			written(t, j, "new-retry", time.Second, byHand, receipt)
			written(t, j, "new-retry", 2*time.Second, undo, receipt)
		}, few, time.Minute, LimitError{}},
		{"the same flag within its cooldown", func(t *testing.T, j *Journal) {
			written(t, j, "new-retry", 0, nil, receipt, proof)
		}, many, 5 * time.Hour, LimitError{Cooldown, "new-retry", 1, 0, 6 * time.Hour, instant().Add(6 * time.Hour)}},
		{"the same flag after its cooldown", func(t *testing.T, j *Journal) {
			written(t, j, "new-retry", 0, nil, receipt, proof)
		}, many, 6 * time.Hour, LimitError{}},
		{"a flag of the same name in another source", func(t *testing.T, j *Journal) {
			written(t, j, "new-retry", 0, func(in *Intent) { in.Source = "staging" }, receipt, proof)
		}, many, time.Hour, LimitError{}},
		{"a cooldown of days", func(t *testing.T, j *Journal) {
			written(t, j, "new-retry", 0, nil, receipt, proof)
		}, Limits{PerHour: 1, PerDay: 1, Cooldown: 72 * time.Hour}, 71 * time.Hour, LimitError{Cooldown, "new-retry", 1, 0, 72 * time.Hour, instant().Add(72 * time.Hour)}},
		{"another flag is being written", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil)
		}, many, time.Second, LimitError{OneAtATime, "other", 1, 0, 10 * time.Minute, instant().Add(10 * time.Minute)}},
		{"another flag is not proved yet", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil, receipt)
		}, many, time.Second, LimitError{OneAtATime, "other", 1, 0, 10 * time.Minute, instant().Add(10 * time.Minute)}},
		{"another flag was proved", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil, receipt, proof)
		}, many, time.Second, LimitError{}},
		{"another flag could not be proved", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil, receipt, Outcome{At: instant(), Outcome: "written_not_verified", Evidence: []byte("{}")})
		}, many, time.Second, LimitError{}},
		{"the proof of another flag never came", func(t *testing.T, j *Journal) {
			written(t, j, "other", 0, nil, receipt)
		}, many, 10 * time.Minute, LimitError{}},
	}
	onBoth(t, func(t *testing.T, p place) {
		for i, tt := range cases {
			t.Run(tt.name, func(t *testing.T) {
				j := p.another(t, i).open(t)
				tt.before(t, j)
				before, err := j.Actions(t.Context(), ActionFilter{})
				if err != nil {
					t.Fatal(err)
				}
				in := anIntent()
				in.UpgradeID, in.At = "now", instant().Add(tt.at)
				_, err = j.AppendIntent(t.Context(), in, &tt.limits)
				var got LimitError
				if e, ok := errors.AsType[*LimitError](err); ok {
					got = *e
				} else if err != nil {
					t.Fatal(err)
				}
				if got != tt.want {
					t.Errorf("%+v, want %+v", got, tt.want)
				}
				after, err := j.Actions(t.Context(), ActionFilter{})
				if want := got == (LimitError{}); err != nil || (len(after) > len(before)) != want {
					t.Errorf("%d actions after %d (%v), appended want %v", len(after), len(before), err, want)
				}
			})
		}
	})
}

// another is an empty place of the same kind: a schema of the same database is made faster than
// a database.
func (p place) another(t *testing.T, n int) place {
	t.Helper()
	if !p.inPostgres() {
		return aFile(t)
	}
	schema := fmt.Sprint("another_", n)
	run(t, p, "CREATE SCHEMA "+schema)
	return edited(t, p, option("search_path", schema))
}

func TestLimitErrorSaysWhen(t *testing.T) {
	for _, tt := range []struct {
		err  LimitError
		want string
	}{
		{LimitError{PerHour, "", 1, 1, time.Hour, instant()}, "1 flags were turned off within 1h0m0s; 1 are allowed (actions_per_hour); free again at 2026-03-11T14:02:10Z"},
		{LimitError{PerDay, "", 0, 0, day, time.Time{}}, "0 flags were turned off within 24h0m0s; 0 are allowed (actions_per_day)"},
		{LimitError{Cooldown, "new-retry", 1, 0, 6 * time.Hour, instant()}, "new-retry was turned off within the cooldown of 6h0m0s; free again at 2026-03-11T14:02:10Z"},
		{LimitError{OneAtATime, "other", 1, 0, time.Minute, instant()}, "other is being turned off and not proved yet; one flag at a time; free again at 2026-03-11T14:02:10Z"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestLimitsInARace has many checks of different rules, each with a connection of its own, act
// in the same instant: the budget holds.
func TestLimitsInARace(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		for round := range 5 {
			const checks, budget = 6, 2
			limits := Limits{PerHour: budget, PerDay: 100}
			start := make(chan struct{})
			var all sync.WaitGroup
			errs := make([]error, checks)
			for i := range checks {
				j := p.open(t)
				all.Go(func() {
					<-start
					in := anIntent()
					in.Rule, in.Flag, in.At = fmt.Sprintf("rules/%d.yaml", i), fmt.Sprint("flag-", i), instant().Add(time.Duration(round)*time.Hour)
					in.UpgradeID = fmt.Sprint(round)
					_, errs[i] = j.AppendIntent(context.Background(), in, &limits)
				})
			}
			close(start)
			all.Wait()
			wrote := 0
			for _, err := range errs {
				var limit *LimitError
				switch {
				case err == nil:
					wrote++
				case !errors.As(err, &limit) || limit.Limit != PerHour || limit.Count != budget:
					t.Errorf("round %d: %v, want a LimitError", round, err)
				}
			}
			if wrote != budget {
				t.Errorf("round %d: %d of %d actions were taken, %d are allowed", round, wrote, checks, budget)
			}
		}
	})
}
