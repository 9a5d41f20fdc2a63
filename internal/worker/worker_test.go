package worker

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// at is the upgrade of every test here.
var at = time.Date(2026, 3, 11, 14, 2, 10, 0, time.UTC)

func TestUpgradeID(t *testing.T) {
	u := telemetry.Upgrade{At: at}
	a := upgradeID(u, &rule.Rule{Path: "rules/a.yaml", Service: "checkout/api v2"})
	b := upgradeID(u, &rule.Rule{Path: "rules/b.yaml", Service: "checkout/api v2"})
	if !strings.HasPrefix(a, "20260311-140210-checkout-api-v2-") || len(a) != len("20260311-140210-checkout-api-v2-")+4 {
		t.Errorf("id %q", a)
	}
	if a == b {
		t.Error("two rules of one service share an upgrade id")
	}
}

func TestSuccessor(t *testing.T) {
	span := func(version string, from, to time.Duration) telemetry.VersionSpan {
		return telemetry.VersionSpan{Target: "job/1", Version: version, First: at.Add(from), Last: at.Add(to)}
	}
	const guard = 3 * time.Minute
	tests := []struct {
		name  string
		to    string
		spans []telemetry.VersionSpan
		want  string
	}{
		{"nothing followed", "1.1", []telemetry.VersionSpan{span("1.0", -time.Hour, 0), span("1.1", 0, time.Hour)}, ""},
		{"another version followed", "1.1", []telemetry.VersionSpan{span("1.0", -time.Hour, 0), span("1.1", 0, 20*time.Minute), span("1.2", 21*time.Minute, time.Hour)}, "1.2"},
		{"rolled back", "1.1", []telemetry.VersionSpan{span("1.0", -time.Hour, 0), span("1.1", 0, 20*time.Minute), span("1.0", 21*time.Minute, time.Hour)}, "1.0"},
		{"a new target of the same version is no successor", "1.1", []telemetry.VersionSpan{span("1.1", 0, time.Hour), span("1.1", 30*time.Minute, time.Hour)}, ""},
		{"told without a version, seen a scrape later", "", []telemetry.VersionSpan{span("1.0", -time.Hour, 0), span("1.1", 15*time.Second, time.Hour)}, ""},
		{"told without a version, then another", "", []telemetry.VersionSpan{span("1.0", -time.Hour, 0), span("1.1", 15*time.Second, 20*time.Minute), span("1.2", 20*time.Minute, time.Hour)}, "1.2"},
		{"no version is known", "", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next, ok := successor(tt.spans, telemetry.Upgrade{At: at, Started: at, To: tt.to}, guard)
			if next.Version != tt.want || ok != (tt.want != "") {
				t.Errorf("successor %q, %v, want %q", next.Version, ok, tt.want)
			}
		})
	}
}

func TestRolloutOf(t *testing.T) {
	now := at.Add(10 * time.Minute)
	spans := []telemetry.VersionSpan{
		{Target: "a", Version: "1.0", First: at.Add(-time.Hour), Last: at},
		{Target: "a", Version: "1.1", First: at, Last: now},
		{Target: "b", Version: "1.0", First: at.Add(-time.Hour), Last: now},
		{Target: "c", Version: "1.0", First: at.Add(-time.Hour), Last: at.Add(-30 * time.Minute)}, // gone long ago
		{Target: "d", Version: "1.0", First: at.Add(-time.Hour), Last: now, Gone: true},
	}
	r := rolloutOf(telemetry.Upgrade{From: "1.0", To: "1.1", Started: at}, spans, now)
	if r.Have != 1 || r.Need != 2 {
		t.Errorf("%d of %d targets, want 1 of 2", r.Have, r.Need)
	}
}

const flagText = `{"flags": {"new-backoff": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}}}`

// newSession is a session on a real journal and a real flag file, as far as loadActions needs.
func newSession(t *testing.T) (*session, *flags.FlagdFile, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "flags.json")
	if err := os.WriteFile(path, []byte(flagText), 0o644); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), filepath.Join(dir, "driftwatch.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	source := flags.NewFlagdFile("production", path)
	r := &rule.Rule{
		Path: "rule.yaml", Service: "checkout-api", Endpoint: []string{"route"}, Windows: rule.Windows{Step: time.Minute},
		Flags: []rule.Flag{{Key: "new-backoff", Source: "production", Off: rule.Off{Variant: "off"}, Act: true}},
	}
	c := &Checker{
		Rule: r, Journal: j, Clock: func() time.Time { return at.Add(30 * time.Minute) }, Rand: rand.New(rand.NewPCG(1, 2)),
		Switches: map[string]flags.Switch{"production": source},
		Provers:  map[string]flags.Prover{"production": flags.NewFileProver(path)},
		Log:      slog.New(slog.DiscardHandler),
		Say:      func(string) {},
	}
	return &session{Checker: c, upgrade: &telemetry.Upgrade{At: at, Started: at}}, source, path
}

// intend journals the intent of an action as turnOff does, and returns its change.
func intend(t *testing.T, s *session, source *flags.FlagdFile) flags.Change {
	t.Helper()
	state, err := source.Read(t.Context(), flags.Ref{Source: "production", Key: "new-backoff"})
	if err != nil {
		t.Fatal(err)
	}
	change, err := source.Plan(state, flags.OffVariant, flags.Want{Variant: "off"})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(change)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Journal.AppendIntent(t.Context(), journal.Intent{
		Key:  journal.Key{Rule: s.Rule.Path, UpgradeID: upgradeID(*s.upgrade, s.Rule), Source: "production", Flag: "new-backoff"},
		Kind: journal.FlagOff, At: at.Add(20 * time.Minute), Change: body,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

// An intent without an outcome is settled by reading the flag. Nothing is written.
func TestAnInterruptedActionIsSettledByReading(t *testing.T) {
	tests := []struct {
		name    string
		before  func(t *testing.T, source *flags.FlagdFile, change flags.Change, path string)
		outcome report.Outcome
		reason  string
		written bool
	}{
		{"killed before the write", func(*testing.T, *flags.FlagdFile, flags.Change, string) {}, report.Failed, "the flag was not touched", false},
		{"killed after the write", func(t *testing.T, source *flags.FlagdFile, change flags.Change, _ string) {
			if _, err := source.TurnOff(t.Context(), change); err != nil {
				t.Fatal(err)
			}
		}, report.WrittenNotVerified, "after the write", true},
		{"changed by somebody else since", func(t *testing.T, _ *flags.FlagdFile, _ flags.Change, path string) {
			if err := os.WriteFile(path, []byte(flagText+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, report.Failed, "by somebody else", false},
		{"the file is gone", func(t *testing.T, _ *flags.FlagdFile, _ flags.Change, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, report.Failed, "cannot be read", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, source, path := newSession(t)
			change := intend(t, s, source)
			tt.before(t, source, change, path)
			text, readErr := os.ReadFile(path)
			if err := s.loadActions(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(s.actions) != 1 {
				t.Fatalf("%d actions, want 1", len(s.actions))
			}
			a := s.actions[0]
			if a.outcome != tt.outcome || !strings.Contains(a.detail, tt.reason) || a.At.IsZero() == tt.written {
				t.Errorf("outcome %s (%s), written %v; want %s, %q", a.outcome, a.detail, a.At, tt.outcome, tt.reason)
			}
			if now, err := os.ReadFile(path); string(now) != string(text) || (err == nil) != (readErr == nil) {
				t.Error("settling wrote the flag file")
			}
			entries, err := s.Journal.Actions(t.Context(), journal.ActionFilter{})
			want := 1
			if readErr != nil {
				want = 0 // what cannot be read is left for who can
			}
			if err != nil || len(entries) != 1 || len(entries[0].Outcomes) != want {
				t.Fatalf("journal: %d outcomes, %v; want one intent with %d", len(entries[0].Outcomes), err, want)
			}

			// The next check finds it settled and settles nothing again.
			next := &session{Checker: s.Checker, upgrade: s.upgrade}
			if err := next.loadActions(t.Context()); err != nil {
				t.Fatal(err)
			}
			if entries, err = s.Journal.Actions(t.Context(), journal.ActionFilter{}); err != nil || len(entries[0].Outcomes) != want {
				t.Errorf("settled twice: %d outcomes, %v", len(entries[0].Outcomes), err)
			}
		})
	}
}

// What another check may be writing at this moment is waited for, not called interrupted.
func TestAYoungIntentIsWaitedFor(t *testing.T) {
	s, source, _ := newSession(t)
	intend(t, s, source)
	now := at.Add(20*time.Minute + time.Second)
	h := Hand{Journal: s.Journal, Log: s.Log, Clock: func() time.Time { now = now.Add(4 * time.Second); return now }}
	actions, err := h.Actions(t.Context(), journal.ActionFilter{}, s.Switches)
	if err != nil || len(actions) != 1 || len(actions[0].Outcomes) != 1 {
		t.Fatalf("%+v, %v", actions, err)
	}
	if waited := actions[0].Outcomes[0].At.Sub(actions[0].At); waited < settleAfter {
		t.Errorf("settled after %v, want at least %v", waited, settleAfter)
	}
}

// After a crash between write and proof the next check proves, and does not write.
func TestAWriteThatWasNotProvedIsProvedByTheNextCheck(t *testing.T) {
	s, source, path := newSession(t)
	change := intend(t, s, source)
	if _, err := source.TurnOff(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.loadActions(t.Context()); err != nil {
		t.Fatal(err)
	}
	action, again, err := s.actOn(t.Context(), 0)
	if err != nil || again || action.Outcome != report.Verified || action.Viewpoint != "file" {
		t.Fatalf("action %+v, again %v, %v", action, again, err)
	}
	after, err := os.Stat(path)
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the flag file was written again: %v", err)
	}

	// A person turns it on again: it is theirs.
	if err := os.WriteFile(path, []byte(flagText), 0o644); err != nil {
		t.Fatal(err)
	}
	action, _, err = s.actOn(t.Context(), 0)
	if err != nil || action.Outcome != report.Refused || action.Reason != report.Word(flags.ReasonPersonRestored) {
		t.Errorf("action %+v, %v; want refused, person_restored", action, err)
	}
}

func TestASupersededUpgradeIsNotActedOn(t *testing.T) {
	s, _, path := newSession(t)
	s.replaced, s.replacedBy = at.Add(20*time.Minute), "1.2"
	action, again, err := s.actOn(t.Context(), 0)
	if err != nil || again || action.Outcome != report.Refused || !strings.Contains(string(action.Detail), "1.2 followed") {
		t.Errorf("action %+v, again %v, %v", action, again, err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != flagText {
		t.Errorf("the flag file changed: %v", err)
	}
}

func TestReplayOfAnUnknownReport(t *testing.T) {
	s, _, _ := newSession(t)
	if _, err := Replay(t.Context(), s.Journal, "nothing"); err == nil {
		t.Error("no error")
	} else if _, ok := errors.AsType[*journal.NotFound](err); !ok {
		t.Errorf("%v is no journal.NotFound", err)
	}
}

// A row that cannot be read is no evidence of recovery.
func TestAnUnreadRowNeverRecovers(t *testing.T) {
	s, _, _ := newSession(t)
	s.in.Geometry.FirstLook, s.in.Geometry.Horizon, s.in.Complete = 5, 60, 200
	s.Rule.Signals = []rule.Signal{{Name: "retries", Kind: rule.Ratio}}
	s.Rule.Flags[0].Off.Variant = "on" // what the file says, so that it counts as off
	rows := []actedRow{{key: key{telemetry.NewEndpoint("/pay"), 0, telemetry.Retry}, written: 20}}
	if s.read(rows) {
		t.Error("a row without a track counts as read")
	}
	for range 5 {
		s.recovering.unread = true
		if r := s.recovery(t.Context(), rows, 30); r.State != report.RecoveryWatching || s.recovering.inARow != 0 {
			t.Fatalf("recovery %+v after %d looks in a row", r, s.recovering.inARow)
		}
	}
	s.recovering.unread = false
	r := s.recovery(t.Context(), rows, 30)
	if r.State != report.RecoveryUnclear || !strings.Contains(string(r.Detail), "missing") {
		t.Errorf("recovery %+v of a row without data, want unclear", r)
	}
	s.Rule.Flags[0].Off.Variant = "off"
	if r := s.recovery(t.Context(), rows, 30); r.State != report.RecoveryUnclear || !strings.Contains(string(r.Detail), "turned on again") {
		t.Errorf("recovery %+v with the flag on, want unclear", r)
	}
}

// A flag that driftwatch wrote for this upgrade under another name is still ours: a time one
// second off, or the rule's path written in another way, must not turn it off twice.
func TestTheSameUpgradeByAnotherName(t *testing.T) {
	s, source, path := newSession(t)
	change := intend(t, s, source)
	if _, err := source.TurnOff(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if err := s.loadActions(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(flagText), 0o644); err != nil { // a person turns it on again
		t.Fatal(err)
	}
	other := *s.Rule
	other.Path = "elsewhere/rule.yaml"
	c := *s.Checker
	c.Rule = &other
	next := &session{Checker: &c, upgrade: &telemetry.Upgrade{At: at.Add(time.Second), Started: at}}
	if err := next.loadActions(t.Context()); err != nil {
		t.Fatal(err)
	}
	action, _, err := next.actOn(t.Context(), 0)
	if err != nil || action.Outcome != report.Refused || action.Reason != report.Word(flags.ReasonPersonRestored) {
		t.Errorf("action %+v, %v; want refused, person_restored", action, err)
	}
}
