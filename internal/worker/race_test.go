package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// Checks of two rules decide in the same instant, each before the other has written: the
// journal lets one of them write, whichever kind it is.
func TestTwoChecksShareOneBudget(t *testing.T) {
	var postgres livetest.Postgres
	defer postgres.Stop()
	dsn := postgres.Database(t)
	path := filepath.Join(t.TempDir(), "driftwatch.db")
	for kind, open := range map[string]func() (*journal.Journal, error){
		"sqlite":   func() (*journal.Journal, error) { return journal.Open(t.Context(), path) },
		"postgres": func() (*journal.Journal, error) { return journal.OpenPostgres(t.Context(), dsn) },
	} {
		t.Run(kind, func(t *testing.T) {
			const checks = 4
			start := make(chan struct{})
			var all sync.WaitGroup
			var errs [checks]error
			var files [checks]string
			for i := range checks {
				j, err := open()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = j.Close() })
				files[i] = filepath.Join(t.TempDir(), "flags.json")
				if err := os.WriteFile(files[i], []byte(flagText), 0o644); err != nil {
					t.Fatal(err)
				}
				source := flags.NewFlagdFile("production", files[i])
				state, err := source.Read(t.Context(), flags.Ref{Source: "production", Key: "new-backoff"})
				if err != nil {
					t.Fatal(err)
				}
				hand := Hand{
					Journal: j, Clock: func() time.Time { return at }, Log: slog.New(slog.DiscardHandler),
					Limits: &journal.Limits{PerHour: 1, PerDay: 1},
				}
				key := journal.Key{Rule: fmt.Sprintf("rules/%d.yaml", i), UpgradeID: "u", Source: fmt.Sprint("source-", i), Flag: "new-backoff"}
				all.Go(func() {
					<-start
					_, errs[i] = hand.TurnOff(context.Background(), source, state, rule.Off{Variant: "off"}, key, "driftwatch")
				})
			}
			close(start)
			all.Wait()
			wrote := 0
			for i, err := range errs {
				text, readErr := os.ReadFile(files[i])
				if readErr != nil {
					t.Fatal(readErr)
				}
				written := string(text) != flagText
				_, refused := errors.AsType[*journal.LimitError](err)
				if err == nil {
					wrote++
				}
				if written != (err == nil) || refused == (err == nil) {
					t.Errorf("check %d: flag written %v, %v", i, written, err)
				}
			}
			if wrote != 1 {
				t.Errorf("%d checks wrote, 1 may", wrote)
			}
		})
	}
}

// The budget that another check used up after the decision is told as any other.
func TestABudgetUsedUpSinceTheDecision(t *testing.T) {
	for name, tt := range map[string]struct {
		limits  flags.Limits
		outcome []journal.Outcome
		again   bool
	}{
		"budget":             {flags.Limits{PerHour: 1, PerDay: 3}, []journal.Outcome{{At: at, Outcome: "verified", Receipt: []byte("{}"), Evidence: []byte("{}")}}, false},
		"one flag at a time": {flags.Limits{PerHour: 9, PerDay: 9}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, source, path := newSession(t)
			s.Limits = tt.limits
			ref := flags.Ref{Source: "production", Key: "new-backoff"}
			state, err := source.Read(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			in, err := s.Journal.AppendIntent(t.Context(), journal.Intent{
				Key: journal.Key{Rule: "other.yaml", UpgradeID: "other", Source: "production", Flag: "other"}, Kind: journal.FlagOff, At: s.present(),
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range tt.outcome {
				if err := s.Journal.AppendOutcome(t.Context(), in.ID, o); err != nil {
					t.Fatal(err)
				}
			}
			action, again, err := s.turnOff(t.Context(), 0, state, report.Action{Kind: "flag_off"})
			if err != nil || again != tt.again || action.Outcome != report.Refused || action.Reason != report.Word(flags.ReasonBudget) || action.Detail == "" {
				t.Errorf("action %+v, again %v, %v; want refused, budget", action, again, err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != flagText {
				t.Errorf("the flag file changed: %v", err)
			}
		})
	}
}
