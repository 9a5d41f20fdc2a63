//go:build unix

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/livetest"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// TestMain lets the test binary stand for a driftwatch that is killed.
func TestMain(m *testing.M) {
	if text := os.Getenv("WORKER_VICTIM"); text != "" {
		var v victim
		err := json.Unmarshal([]byte(text), &v)
		if err == nil {
			err = v.run(context.Background())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The flag file of every victim, and what turning its flag off makes of it; written by hand.
const (
	crashFile = `{
  "flags": {
    "other": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
    "new-backoff": {
      "state": "ENABLED",
      "variants": {"on": true, "off": false},
      "defaultVariant": "on",
      "targeting": {"if": [{"==": [{"var": "tier"}, "gold"]}, "on", null]}
    }
  }
}
`
	crashFileOff = `{
  "flags": {
    "other": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
    "new-backoff": {
      "state": "ENABLED",
      "variants": {"on": true, "off": false},
      "defaultVariant": "off",
      "targeting": {}
    }
  }
}
`
)

// A kill says when a victim dies. Steps are all calls that it makes of the flag source, the
// prover and the clock, before and after: the journal is written between two of them.
type kill struct {
	Step  int           // from 1; 0 = at none
	After time.Duration // so much later

	// Or while it writes the file: at this part of the rename, of this call.
	Part, Of string
}

func (k kill) String() string {
	if k.Part != "" {
		return fmt.Sprintf("%s, file %s", k.Of, k.Part)
	}
	return fmt.Sprintf("step %d + %v", k.Step, k.After)
}

// parts are the steps of writing a file: the text is written beside it, synced, and renamed.
var parts = []string{"made", "filled", "complete", "renamed"}

// A victim turns a flag off, proves it, and takes it back, again and again, until it dies.
type victim struct {
	Journal string // file, or DSN
	File    string // the flag file
	Source  string // name of the flag source
	At      time.Time
	Cycles  int
	Tell    bool // print the name of every step
	Kill    kill

	steps int
}

// crashRule is a rule with one flag, in the source of this name.
func crashRule(source string) *rule.Rule {
	return &rule.Rule{
		Path: "rule.yaml", Service: "checkout-api", Endpoint: []string{"route"}, Windows: rule.Windows{Step: time.Minute},
		Flags: []rule.Flag{{Key: "new-backoff", Source: source, Off: rule.Off{Variant: "off"}, Act: true, Probes: []map[string]any{{"targetingKey": "vip", "tier": "gold"}}}},
	}
}

// keyOf names the action because of the n-th upgrade after at.
func keyOf(r *rule.Rule, at time.Time, n int) journal.Key {
	u := telemetry.Upgrade{At: at.Add(time.Duration(n) * time.Second)}
	return journal.Key{Rule: rulePath(r), UpgradeID: upgradeID(u, r), Source: r.Flags[0].Source, Flag: r.Flags[0].Key}
}

// plenty are limits that are counted and never reached.
var plenty = &journal.Limits{PerHour: 1 << 30, PerDay: 1 << 30}

func openJournal(ctx context.Context, address string) (*journal.Journal, error) {
	if strings.HasPrefix(address, "postgres://") {
		return journal.OpenPostgres(ctx, address)
	}
	return journal.Open(ctx, address)
}

// quickProver proves off in milliseconds: a file needs no settling.
func quickProver(path string) *flags.OpenFeatureProver {
	p := flags.NewFileProver(path)
	p.Every, p.Settle = 2*time.Millisecond, 5*time.Millisecond
	return p
}

func (v *victim) run(ctx context.Context) error {
	j, err := openJournal(ctx, v.Journal)
	if err != nil {
		return err
	}
	defer j.Close()
	r := crashRule(v.Source)
	source := &steppedSwitch{flags.NewFlagdFile(v.Source, v.File), v}
	prover := &steppedProver{quickProver(v.File), v}
	h := Hand{Journal: j, Limits: plenty, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Clock: func() time.Time {
		v.step("clock")
		return time.Now()
	}}
	ref := flags.Ref{Source: v.Source, Key: r.Flags[0].Key}
	random := rand.New(rand.NewPCG(1, 1))
	for n := range v.Cycles {
		state, err := source.Read(ctx, ref)
		if err != nil {
			return err
		}
		w, err := h.TurnOff(ctx, source, state, r.Flags[0].Off, keyOf(r, v.At, n), "driftwatch")
		if err != nil {
			return err
		}
		if state, err = source.Read(ctx, ref); err != nil {
			return err
		}
		evidence, err := prover.Prove(ctx, Question(r.Flags[0], state, ProofUsers, random), ProveWithin)
		h.Proved(ctx, w, evidence, err)
		if err != nil {
			return err
		}
		v.step("kept the proof")
		if _, err := h.Restore(ctx, source, ref, "a person"); err != nil {
			return err
		}
		v.step("kept the restore")
	}
	return nil
}

// die is what kill -9 does.
func die() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}

// step counts, and dies where it is told to.
func (v *victim) step(name string) {
	v.steps++
	if v.Tell {
		fmt.Println(name)
	}
	if v.steps != v.Kill.Step {
		return
	}
	if v.Kill.After == 0 {
		die()
	}
	time.AfterFunc(v.Kill.After, die)
}

// tempOf is where the new text of a flag file is written before the rename.
func tempOf(file string) string {
	return filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".driftwatch.tmp")
}

// watch dies when the write of the file gets to the part that it is told to. It looks as fast
// as it can; a machine that is out of breath may pass the part by, and then there is the next
// cycle.
func (v *victim) watch(of string) (stop func()) {
	if v.Kill.Part == "" || v.Kill.Of != of {
		return func() {}
	}
	var over atomic.Bool
	temp := tempOf(v.File)
	was, err := os.Stat(v.File)
	if err != nil {
		panic(err)
	}
	go func() {
		for !over.Load() {
			if v.Kill.Part == "renamed" {
				if now, err := os.Stat(v.File); err == nil && !os.SameFile(was, now) {
					die()
				}
				continue
			}
			info, err := os.Stat(temp)
			if err == nil && (v.Kill.Part == "made" || v.Kill.Part == "filled" && info.Size() > 0 || v.Kill.Part == "complete" && info.Mode() == was.Mode()) {
				die()
			}
		}
	}()
	return func() { over.Store(true) }
}

// A steppedSwitch makes a step before and after every call.
type steppedSwitch struct {
	flags.Switch
	v *victim
}

func (s *steppedSwitch) Read(ctx context.Context, r flags.Ref) (flags.State, error) {
	s.v.step("read")
	defer s.v.step("have read")
	return s.Switch.Read(ctx, r)
}

func (s *steppedSwitch) TurnOff(ctx context.Context, c flags.Change) (flags.Receipt, error) {
	s.v.step("turn off")
	defer s.v.step("have turned off")
	defer s.v.watch("turn off")()
	return s.Switch.TurnOff(ctx, c)
}

func (s *steppedSwitch) Restore(ctx context.Context, rc flags.Receipt) (flags.Receipt, error) {
	s.v.step("restore")
	defer s.v.step("have restored")
	defer s.v.watch("restore")()
	return s.Switch.Restore(ctx, rc)
}

// A steppedProver makes a step before and after every proof.
type steppedProver struct {
	flags.Prover
	v *victim
}

func (p *steppedProver) Prove(ctx context.Context, q flags.Question, within time.Duration) (flags.Evidence, error) {
	p.v.step("prove")
	defer p.v.step("have proved")
	return p.Prover.Prove(ctx, q, within)
}

// The states that a killed driftwatch leaves, by what the journal held and what the file was
// when the next one came.
const (
	noIntent       = "untouched: killed before the intent"
	untouched      = "untouched: the intent was settled by reading"
	offSettled     = "off: the intent was settled by reading, and proved"
	offUnproved    = "off: written, and proved by the next check"
	offProved      = "off: proved before the kill"
	offKept        = "off: the restore was settled by reading, it was never made"
	restoreSettled = "restored: the intent was settled by reading"
	restored       = "restored"
)

var states = []string{noIntent, untouched, offSettled, offUnproved, offProved, offKept, restoreSettled, restored}

// TestKilledAnywhere kills a driftwatch with kill -9 at every step of turning off, proving and
// restoring, and at random times, and lets the next one find what is left: the flag file is the
// one from before or the one that was planned, the journal says which, nothing happens twice,
// and the flag can be turned off and restored again. DRIFTWATCH_KILLS is how often it kills.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	kills := 40
	if text := os.Getenv("DRIFTWATCH_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	var postgres livetest.Postgres
	t.Cleanup(postgres.Stop)
	for kind, address := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "driftwatch.db") },
		"postgres": func(t *testing.T) string { return postgres.Database(t) },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			random := rand.New(rand.NewPCG(seed, 0))
			w := newCrashWorld(t, address(t))
			begun := time.Now()
			steps := w.steps(t)
			cycle := time.Since(begun) / 2 // the rest is the start of the process
			var plan []kill
			for i := range steps {
				plan = append(plan, kill{Step: i + 1})
			}
			for _, of := range []string{"turn off", "restore"} {
				for _, part := range parts {
					plan = append(plan, kill{Part: part, Of: of})
				}
			}
			for len(plan) < kills {
				switch random.IntN(4) {
				case 0:
					plan = append(plan, kill{Part: parts[random.IntN(len(parts))], Of: []string{"turn off", "restore"}[random.IntN(2)]})
				case 1:
					plan = append(plan, kill{Step: 1, After: time.Duration(random.Int64N(int64(cycle)))})
				default:
					plan = append(plan, kill{Step: 1 + random.IntN(2*len(steps)), After: time.Duration(random.Int64N(int64(3 * time.Millisecond)))})
				}
			}
			found, missed := map[string]int{}, 0
			for n, k := range plan {
				state := w.round(t, n, k)
				if t.Failed() {
					t.Fatalf("kill %d (%v), seed %d; the steps are %q", n, k, seed, steps)
				}
				if state == "" {
					missed++
					continue
				}
				found[state]++
			}
			t.Logf("%d kills, seed %d, %d steps; %d victims lived on, %d left a text that was not renamed", len(plan)-missed, seed, len(steps), missed, w.torn)
			for _, state := range states {
				t.Logf("%5d %s", found[state], state)
				if found[state] == 0 {
					t.Errorf("no kill left the state %q", state)
				}
			}
			if unknown := slices.DeleteFunc(slices.Sorted(maps.Keys(found)), func(s string) bool { return slices.Contains(states, s) }); len(unknown) > 0 {
				t.Errorf("unknown states: %q", unknown)
			}
		})
	}
}

// A crashWorld is a journal, in which all rounds are kept, and a flag file. Every round names the
// flag's source anew, so that the journal shows what happened in it.
type crashWorld struct {
	journal string
	file    string
	at      time.Time
	torn    int // rounds that left a text that was not renamed yet
}

func newCrashWorld(t *testing.T, journal string) *crashWorld {
	t.Helper()
	w := &crashWorld{journal: journal, file: filepath.Join(t.TempDir(), "flags.json"), at: time.Now().Add(-time.Hour).Truncate(time.Second)}
	if err := os.WriteFile(w.file, []byte(crashFile), 0o644); err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(t.Context(), w.journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// start runs a victim to its end, and reports whether it was killed.
func (w *crashWorld) start(t *testing.T, v victim) (killed bool, out string) {
	t.Helper()
	v.Journal, v.File, v.At = w.journal, w.file, w.at
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WORKER_VICTIM="+string(body))
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return true, stdout.String()
	}
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("the victim failed: %v\n%s", err, &stderr)
	}
	return false, stdout.String()
}

// steps are the names of the steps of one cycle that nobody kills.
func (w *crashWorld) steps(t *testing.T) []string {
	t.Helper()
	killed, out := w.start(t, victim{Source: "unharmed", Cycles: 1, Tell: true})
	steps := strings.Split(strings.TrimSpace(out), "\n")
	if killed || !slices.Contains(steps, "have turned off") || !slices.Contains(steps, "have proved") || steps[len(steps)-1] != "kept the restore" {
		t.Fatalf("the steps of a whole cycle are %q", steps)
	}
	return steps
}

// victimCycles bound the life of a victim whose part of a write passes unseen.
const victimCycles = 20

// round lets a victim die, and looks at what the next driftwatch makes of it. It returns the
// state that it found, "" if the victim lived on.
func (w *crashWorld) round(t *testing.T, n int, k kill) (found string) {
	t.Helper()
	ctx := t.Context()
	name := fmt.Sprint("source-", n)
	if killed, _ := w.start(t, victim{Source: name, Cycles: victimCycles, Kill: k}); !killed {
		return ""
	}
	if _, err := os.Stat(tempOf(w.file)); err == nil {
		w.torn++
	}
	j, err := openJournal(ctx, w.journal)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	// A server may still be at the last write of a client that is gone; it holds the lock.
	if _, err := j.PutBlob(ctx, []byte(name)); err != nil {
		t.Fatal(err)
	}
	only := journal.ActionFilter{Source: name}
	left, err := j.Actions(ctx, only)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(w.file)
	if err != nil {
		t.Fatal(err)
	}
	source := flags.NewFlagdFile(name, w.file)
	s := w.nextCheck(j, source, name)
	h := Hand{Journal: j, Limits: plenty, Clock: s.present, Log: s.Log}
	settled, err := h.Actions(ctx, only, s.Switches)
	if err != nil {
		t.Fatal(err)
	}

	// The journal alone says whether the flag is off, and the file and its evaluator agree.
	off := w.onceEach(t, settled)
	found = stateOf(left, off)
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]string{false: crashFile, true: crashFileOff}[off]; string(text) != want {
		t.Errorf("the journal says off: %v, the file is\n%s", off, text)
	}
	ref := flags.Ref{Source: name, Key: "new-backoff"}
	state, err := source.Read(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	served, err := quickProver(w.file).Served(ctx, Question(s.Rule.Flags[0], state, ProofUsers, s.Rand))
	if want := map[bool]int{false: 0, true: served.Contexts}[off]; err != nil || served.Contexts == 0 || served.Off != want || served.Unknown > 0 {
		t.Errorf("the journal says off: %v; %d of %d contexts get the off variant, %v", off, served.Off, served.Contexts, err)
	}

	w.check(t, s, settled, off)
	if after, err := os.Stat(w.file); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the next driftwatch wrote the file: %v", err)
	}
	w.goOn(t, h, source, ref, settled, off)
	return found
}

// nextCheck is the check that finds what is left, after the time for which a young intent is
// waited for.
func (w *crashWorld) nextCheck(j *journal.Journal, source flags.Switch, name string) *session {
	u := telemetry.Upgrade{At: w.at, Started: w.at}
	return &session{upgrade: &u, Checker: &Checker{
		Rule: crashRule(name), Journal: j, Clock: time.Now, Rand: rand.New(rand.NewPCG(1, 2)),
		Switches: map[string]flags.Switch{name: source}, Provers: map[string]flags.Prover{name: quickProver(w.file)},
		Log: slog.New(slog.DiscardHandler), Say: func(string) {}, Options: Options{ClockOffset: 2 * settleAfter},
	}}
}

// onceEach follows the settled actions and returns whether the flag is off after them. It
// fails if one is open, or was made twice, or on top of another.
func (w *crashWorld) onceEach(t *testing.T, actions []journal.Action) (off bool) {
	t.Helper()
	keys := map[journal.Key]bool{}
	for _, a := range actions {
		if len(a.Outcomes) == 0 {
			t.Errorf("action %d (%s) is not settled", a.ID, a.Kind)
		}
		if a.Kind == journal.FlagOff && keys[a.Key] {
			t.Errorf("%s of %s is in the journal twice", a.Kind, a.UpgradeID)
		}
		keys[a.Key] = true
		receipts := 0
		for _, o := range a.Outcomes {
			if len(o.Receipt) == 0 {
				continue
			}
			receipts++
			var rc flags.Receipt
			if err := json.Unmarshal(o.Receipt, &rc); err != nil {
				t.Fatal(err)
			}
			if rc.Already || rc.Restore != (a.Kind == journal.Restore) || rc.Before == rc.After {
				t.Errorf("receipt of action %d (%s): %+v", a.ID, a.Kind, rc)
			}
		}
		switch {
		case receipts > 1:
			t.Errorf("action %d (%s) has %d receipts", a.ID, a.Kind, receipts)
		case receipts == 1 && off == (a.Kind == journal.FlagOff):
			t.Errorf("action %d (%s) was made on a flag that was off: %v", a.ID, a.Kind, off)
		case receipts == 1:
			off = !off
		}
	}
	return off
}

// stateOf names what a victim left, and what settling showed.
func stateOf(left []journal.Action, off bool) string {
	if len(left) == 0 {
		return noIntent
	}
	last := left[len(left)-1]
	open := len(last.Outcomes) == 0
	proved := !open && last.Outcomes[len(last.Outcomes)-1].Outcome == string(report.Verified)
	switch {
	case last.Kind == journal.Restore && open && off:
		return offKept
	case last.Kind == journal.Restore && open:
		return restoreSettled
	case last.Kind == journal.Restore && proved && !off:
		return restored
	case last.Kind == journal.FlagOff && open && !off:
		return untouched
	case last.Kind == journal.FlagOff && open:
		return offSettled
	case last.Kind == journal.FlagOff && proved && off:
		return offProved
	case last.Kind == journal.FlagOff && off:
		return offUnproved
	}
	return fmt.Sprintf("unknown: %s with %d outcomes, off %v", last.Kind, len(last.Outcomes), off)
}

// check is the next check of the upgrade: it proves what is off, says that what was not written
// was not, and leaves alone what a person took back.
func (w *crashWorld) check(t *testing.T, s *session, settled []journal.Action, off bool) {
	t.Helper()
	ctx := t.Context()
	if err := s.loadActions(ctx); err != nil {
		t.Fatal(err)
	}
	last := s.earlier(0)
	if last == nil {
		if len(settled) > 0 {
			t.Error("the next check does not know of the action")
		}
		return
	}
	want, reason := report.Failed, report.Word("")
	switch {
	case off:
		want = report.Verified
	case !last.At.IsZero():
		want, reason = report.Refused, report.Word(flags.ReasonPersonRestored)
	}
	action, again, err := s.actOn(ctx, 0)
	if err != nil || again || action.Outcome != want || action.Reason != reason {
		t.Errorf("the next check: %+v, again %v, %v; want %s %s", action, again, err, want, reason)
	}
	if !off {
		return
	}
	actions, err := s.Journal.Actions(ctx, journal.ActionFilter{Source: s.Rule.Flags[0].Source, Flag: "new-backoff"})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range actions {
		if a.ID == last.Intent.ID && a.Outcomes[len(a.Outcomes)-1].Outcome != string(report.Verified) {
			t.Errorf("the journal's last word is %q", a.Outcomes[len(a.Outcomes)-1].Outcome)
		}
	}
}

// goOn takes back what is off, or turns off and takes back what is not. It tries the last
// action of the victim once more first: it happens only once.
func (w *crashWorld) goOn(t *testing.T, h Hand, source flags.Switch, ref flags.Ref, settled []journal.Action, off bool) {
	t.Helper()
	ctx := t.Context()
	r := crashRule(ref.Source)
	if !off {
		state, err := source.Read(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(settled, func(a journal.Action) bool { return a.Kind == journal.FlagOff }); i >= 0 {
			if _, err := h.TurnOff(ctx, source, state, r.Flags[0].Off, settled[i].Key, "driftwatch"); !errors.Is(err, journal.ErrAlreadyIntended) {
				t.Errorf("the same action once more: %v", err)
			}
		}
		written, err := h.TurnOff(ctx, source, state, r.Flags[0].Off, keyOf(r, w.at, victimCycles), "driftwatch")
		if err != nil {
			t.Fatalf("turn off after the crash: %v", err)
		}
		evidence, err := quickProver(w.file).Prove(ctx, Question(r.Flags[0], state, ProofUsers, rand.New(rand.NewPCG(1, 2))), ProveWithin)
		if h.Proved(ctx, written, evidence, err); err != nil {
			t.Errorf("prove after the crash: %v", err)
		}
		if text, err := os.ReadFile(w.file); err != nil || string(text) != crashFileOff {
			t.Errorf("turned off after the crash, the file is\n%s%v", text, err)
		}
	}
	if _, err := h.Restore(ctx, source, ref, "a person"); err != nil {
		t.Errorf("restore after the crash: %v", err)
	}
	if text, err := os.ReadFile(w.file); err != nil || string(text) != crashFile {
		t.Errorf("restored after the crash, the file is\n%s%v", text, err)
	}
	entries, err := os.ReadDir(filepath.Dir(w.file))
	if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".tmp") }) {
		t.Errorf("a write left %v behind, %v", entries, err)
	}
}
