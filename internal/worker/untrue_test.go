package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
)

// An oddSwitch is a flag file of which writing goes wrong. It counts how often that is tried.
type oddSwitch struct {
	*flags.FlagdFile
	turnOff func(ctx context.Context, file *flags.FlagdFile, c flags.Change) (flags.Receipt, error)
	tried   int
}

func (o *oddSwitch) TurnOff(ctx context.Context, c flags.Change) (flags.Receipt, error) {
	o.tried++
	return o.turnOff(ctx, o.FlagdFile, c)
}

// A hastyProver gives a proof that will fail a fraction of the time.
type hastyProver struct{ flags.Prover }

func (p hastyProver) Prove(ctx context.Context, q flags.Question, _ time.Duration) (flags.Evidence, error) {
	return p.Prover.Prove(ctx, q, 200*time.Millisecond)
}

// Whatever goes wrong with a write, the report and the journal say the same, a person is
// called (exit code 5), and the next check does not write again.
func TestAWriteThatGoesWrong(t *testing.T) {
	failed := func(err error) func(context.Context, *flags.FlagdFile, flags.Change) (flags.Receipt, error) {
		return func(_ context.Context, file *flags.FlagdFile, c flags.Change) (flags.Receipt, error) {
			return flags.Receipt{}, &flags.Error{Ref: c.Ref, Path: file.Path(), What: err.Error(), Err: flags.ErrForbidden}
		}
	}
	tests := []struct {
		name    string
		turnOff func(context.Context, *flags.FlagdFile, flags.Change) (flags.Receipt, error)
		outcome report.Outcome
		journal string // in the journal's last word
		next    string // in that of the next check
		receipt bool
	}{
		{"a source that lies (200 but unchanged)", func(_ context.Context, _ *flags.FlagdFile, c flags.Change) (flags.Receipt, error) {
			return flags.Receipt{Change: c, Before: c.Base, After: c.After, Written: time.Now()}, nil
		}, report.WrittenNotVerified, "not proved off", "as before the write", true},
		{"a writer that ignores the lock", func(ctx context.Context, file *flags.FlagdFile, c flags.Change) (flags.Receipt, error) {
			rc, err := file.TurnOff(ctx, c)
			if err != nil {
				return rc, err
			}
			if err := os.WriteFile(file.Path(), []byte(flagText), 0o644); err != nil {
				return rc, err
			}
			return rc, &flags.Error{Ref: c.Ref, Path: file.Path(), What: "the file was overwritten right after the write", Err: flags.ErrWrittenUnsure}
		}, report.WrittenNotVerified, "not proved off", "as before the write", true},
		{"disk full", failed(syscall.ENOSPC), report.Failed, "no space left on device", "no space left on device", false},
		{"read-only file system", failed(syscall.EROFS), report.Failed, "read-only file system", "read-only file system", false},
		{"permission lost", func(ctx context.Context, file *flags.FlagdFile, c flags.Change) (flags.Receipt, error) {
			if err := os.Chmod(file.Path(), 0o444); err != nil {
				return flags.Receipt{}, err
			}
			return file.TurnOff(ctx, c)
		}, report.Failed, "no write bit", "no write bit", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, file, path := newSession(t)
			odd := &oddSwitch{FlagdFile: file, turnOff: tt.turnOff}
			s.Switches["production"] = odd
			s.Provers["production"] = hastyProver{s.Provers["production"]}
			s.Limits = flags.Limits{PerHour: 9, PerDay: 9}
			if err := s.loadActions(t.Context()); err != nil {
				t.Fatal(err)
			}
			state, err := odd.Read(t.Context(), flags.Ref{Source: "production", Key: "new-backoff"})
			if err != nil {
				t.Fatal(err)
			}
			action, again, err := s.turnOff(t.Context(), 0, state, report.Action{Kind: "flag_off", Flag: "new-backoff"})
			if err != nil || again {
				t.Fatalf("again %v, %v", again, err)
			}
			wantNeedsAPerson(t, action, tt.outcome, tt.journal)

			last := lastWord(t, s.Journal)
			if last.Outcome != string(tt.outcome) || !strings.Contains(last.Reason, tt.journal) {
				t.Errorf("the journal says %s: %s; want %s, %q", last.Outcome, last.Reason, tt.outcome, tt.journal)
			}
			standing, err := s.hand().Standing(t.Context(), journal.ActionFilter{})
			if err != nil || (len(standing) == 1) != tt.receipt {
				t.Errorf("%d writes stand, %v", len(standing), err)
			}

			// The next check, of the same process and of another.
			for _, next := range []*session{s, {Checker: s.Checker, upgrade: s.upgrade}} {
				if err := next.loadActions(t.Context()); err != nil {
					t.Fatal(err)
				}
				action, again, err = next.actOn(t.Context(), 0)
				if err != nil || again {
					t.Fatalf("the next check: again %v, %v", again, err)
				}
				wantNeedsAPerson(t, action, tt.outcome, tt.next)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != flagText || odd.tried != 1 {
				t.Errorf("tried %d times, the file is %s, %v", odd.tried, text, err)
			}
		})
	}
}

// wantNeedsAPerson wants an action that ends the check with exit code 5, and says why.
func wantNeedsAPerson(t *testing.T, a report.Action, outcome report.Outcome, detail string) {
	t.Helper()
	rows := []report.Comparison{{Verdict: report.Regressed, Flag: "new-backoff"}}
	if code := report.ExitCode(report.Regressed, rows, []report.Action{a}, false); code != 5 || a.Outcome != outcome || !strings.Contains(string(a.Detail), detail) {
		t.Errorf("exit code %d, %s %s: %s; want 5, %s, %q", code, a.Outcome, a.Reason, a.Detail, outcome, detail)
	}
}

// lastWord is the last outcome of the only action of a journal.
func lastWord(t *testing.T, j *journal.Journal) journal.Outcome {
	t.Helper()
	actions, err := j.Actions(t.Context(), journal.ActionFilter{})
	if err != nil || len(actions) != 1 || len(actions[0].Outcomes) == 0 {
		t.Fatalf("%+v, %v", actions, err)
	}
	return actions[0].Outcomes[len(actions[0].Outcomes)-1]
}

// A flag that was never seen off and is on again is a person's where the journal or the
// revision says so.
func TestAWriteNobodySawAndAPersonTookBack(t *testing.T) {
	for name, back := range map[string]func(t *testing.T, s *session, path string){
		"with driftwatch": func(t *testing.T, s *session, _ string) {
			ref := flags.Ref{Source: "production", Key: "new-backoff"}
			if _, err := s.hand().Restore(t.Context(), s.Switches["production"], ref, "a person"); err != nil {
				t.Fatal(err)
			}
		},
		"with an editor": func(t *testing.T, _ *session, path string) {
			if err := os.WriteFile(path, []byte(flagText+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, source, path := newSession(t)
			change := intend(t, s, source)
			rc, err := source.TurnOff(t.Context(), change)
			if err != nil {
				t.Fatal(err)
			}
			receipt, err := json.Marshal(rc)
			if err != nil {
				t.Fatal(err)
			}
			for n, o := range []journal.Outcome{
				{Receipt: receipt, Reason: "not looked at yet"},
				{Evidence: []byte(`{"proved":false}`), Reason: "not proved off"}, // as of another viewpoint
			} {
				o.At, o.Outcome = at.Add(20*time.Minute+time.Duration(n)*time.Second), string(report.WrittenNotVerified)
				if err := s.Journal.AppendOutcome(t.Context(), 1, o); err != nil {
					t.Fatal(err)
				}
			}
			back(t, s, path)
			if err := s.loadActions(t.Context()); err != nil {
				t.Fatal(err)
			}
			action, _, err := s.actOn(t.Context(), 0)
			if err != nil || action.Outcome != report.Refused || action.Reason != report.Word(flags.ReasonPersonRestored) {
				t.Errorf("action %s, %v; want refused, person_restored", fmt.Sprintf("%+v", action), err)
			}
		})
	}
}
