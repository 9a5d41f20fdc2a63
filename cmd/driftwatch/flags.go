package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/worker"
)

// Exit codes of the flags commands.
const (
	flagsRefused     = 4
	flagsNotProved   = 5
	flagsUnreachable = 7
)

func (p *program) flagsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flags",
		Short: "List flags, turn one off, restore it, verify that it is off; plan it and have it approved",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.flagsListCommand(), p.flagsOffCommand(), p.flagsPlanCommand(), p.flagsApplyCommand(), p.flagsRestoreCommand(), p.flagsVerifyCommand(), p.flagsServeCommand())
	return cmd
}

func (p *program) flagsListCommand() *cobra.Command {
	var w world
	var ours bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the flags that rules name, as their sources have them now",
		Example: `  driftwatch flags list --config driftwatch.yaml
  driftwatch flags list --off-by-driftwatch`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ours {
				return p.listStanding(cmd.Context(), &w)
			}
			if err := w.load(); err != nil {
				return err
			}
			return p.listFlags(cmd.Context(), &w)
		},
	}
	w.flags(cmd)
	cmd.Flags().BoolVar(&ours, "off-by-driftwatch", false, "only what driftwatch wrote and nobody took back, by the journal, whatever the rules name now")
	return cmd
}

// listStanding lists the writes that were not taken back, with what the flags are now.
func (p *program) listStanding(ctx context.Context, w *world) error {
	j, err := w.openJournal(ctx)
	if err != nil {
		return err
	}
	defer j.Close()
	standing, err := worker.Hand{Journal: j, Clock: time.Now, Log: p.log()}.Standing(ctx, journal.ActionFilter{})
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FLAG\tSOURCE\tOFF SINCE\tDAYS\tNOW\tUPGRADE\tBY")
	failed := false
	for _, s := range standing {
		var state flags.State
		source, err := w.source(s.Ref.Source)
		if err == nil {
			state, err = source.Read(ctx, s.Ref)
		}
		now := state.Word(s.Receipt.Change.Want.Variant)
		switch {
		case err != nil:
			now, failed = "unknown: "+err.Error(), true
		case state.Revision != s.Receipt.After:
			now += ", changed since"
		}
		upgrade := s.Action.UpgradeID
		if journal.ByHand(upgrade) {
			upgrade = "none"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", s.Ref.Key, s.Ref.Source, s.Since.UTC().Format("2006-01-02 15:04 UTC"),
			int(time.Since(s.Since).Hours()/24), now, upgrade, s.Action.By)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if failed {
		return &exitError{flagsUnreachable, errors.New("not every flag could be read")}
	}
	return nil
}

func (p *program) listFlags(ctx context.Context, w *world) error {
	known, journalErr := w.known(ctx)
	tw := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FLAG\tSTATE\tREVISION\tACTED ON\tDRY RUNS, 30 DAYS\tRULE\tLAST CHANGE BY DRIFTWATCH")
	failed := false
	var uncounted error
	for _, r := range w.rules {
		for _, f := range r.Flags {
			ref := flags.Ref{Source: f.Source, Key: f.Key}
			word, revision := "", ""
			source, err := w.source(f.Source)
			if err == nil {
				var state flags.State
				state, err = source.Read(ctx, ref)
				word, revision = state.Word(f.Off.Variant), state.Revision.Short()
				if err == nil && state.ReadOnly != "" {
					word += ", read-only"
				}
			}
			if err != nil {
				word, failed = "unknown: "+err.Error(), true
			}
			acts := "no"
			if f.Act {
				acts = "yes"
			}
			change, dryRuns := "never", "0"
			if journalErr != nil {
				change, dryRuns = "unknown", "unknown"
			} else if a, ok := known.last[ref]; ok {
				change = fmt.Sprintf("%s %s", a.At.UTC().Format("2006-01-02 15:04 UTC"), a.Kind)
			}
			if s := known.shadows[f.Key]; s.err != nil {
				dryRuns, uncounted = "unknown", s.err
			} else if s.Times > 0 {
				dryRuns = fmt.Sprintf("%d, %d marked false", s.Times, s.MarkedFalse)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s:%d\t%s\n", f.Key, word, revision, acts, dryRuns, r.Path, f.Line, change)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if failed {
		return &exitError{flagsUnreachable, errors.New("not every flag could be read")}
	}
	if journalErr != nil {
		return &exitError{flagsUnreachable, fmt.Errorf("what driftwatch changed is not known: %w", journalErr)}
	}
	if uncounted != nil {
		return &exitError{flagsUnreachable, uncounted}
	}
	return nil
}

// A knownOfFlags is what the journal holds about flags.
type knownOfFlags struct {
	last    map[flags.Ref]journal.Action // the newest write
	shadows map[string]shadow            // of the rules' flags, by key
}

// A shadow is the dry runs on a flag, or why they cannot be counted.
type shadow struct {
	report.Shadow
	err error
}

// known reads what the journal holds about flags. There is nothing where there is no journal
// yet; it is not made for a look.
func (w *world) known(ctx context.Context) (knownOfFlags, error) {
	var known knownOfFlags
	if path := w.journalFile(); path != "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return known, nil
		}
	}
	j, err := w.openJournal(ctx)
	if err != nil {
		return known, err
	}
	defer j.Close()
	actions, err := j.Actions(ctx, journal.ActionFilter{})
	if err != nil {
		return known, err
	}
	known.last, known.shadows = map[flags.Ref]journal.Action{}, map[string]shadow{}
	for _, a := range actions {
		for _, o := range a.Outcomes {
			if len(o.Receipt) > 0 {
				known.last[flags.Ref{Source: a.Source, Key: a.Flag}] = a
			}
		}
	}
	for _, r := range w.rules {
		for _, f := range r.Flags {
			s, err := worker.Shadow(ctx, j, r.Service, f.Key, time.Now())
			before := known.shadows[f.Key] // services may share a flag
			s.Times, s.MarkedFalse = s.Times+before.Times, s.MarkedFalse+before.MarkedFalse
			known.shadows[f.Key] = shadow{s, cmp.Or(before.err, err)}
		}
	}
	return known, nil
}

// verifyWithin bounds the proof of a flag that was not written just now: nothing is on its way
// any more, and a person waits.
const verifyWithin = 5 * time.Second

// A flagTarget is one flag of a rule, and the doors to it.
type flagTarget struct {
	rule     *rule.Rule
	flag     rule.Flag
	ref      flags.Ref
	source   flags.Switch
	prover   flags.Prover
	state    flags.State
	question flags.Question
}

// target finds the flag in the rules and reads it.
func (w *world) target(ctx context.Context, key string) (*flagTarget, error) {
	if err := w.load(); err != nil {
		return nil, err
	}
	var known []string
	for _, r := range w.rules {
		for _, f := range r.Flags {
			known = append(known, f.Key)
			if f.Key == key {
				return w.open(ctx, r, f)
			}
		}
	}
	return nil, noSuchFlag(key, known)
}

func (w *world) open(ctx context.Context, r *rule.Rule, f rule.Flag) (*flagTarget, error) {
	t := &flagTarget{rule: r, flag: f, ref: flags.Ref{Source: f.Source, Key: f.Key}}
	var err error
	if t.source, err = w.source(f.Source); err != nil {
		return nil, err
	}
	if t.prover, err = w.prover(f.Source); err != nil {
		return nil, err
	}
	if t.state, err = t.source.Read(ctx, t.ref); err != nil {
		return nil, flagFailure(err)
	}
	t.question = worker.Question(f, t.state, worker.ProofUsers, seed())
	return t, nil
}

// flagFailure gives an error of a flag source its exit code.
func flagFailure(err error) error {
	code := flagsUnreachable
	switch {
	case errors.Is(err, flags.ErrNotFound), errors.Is(err, flags.ErrInvalid):
		code = exitUsage
	case errors.Is(err, flags.ErrReadOnly), errors.Is(err, flags.ErrForbidden), errors.Is(err, flags.ErrFull), errors.Is(err, flags.ErrManagedElsewhere), errors.Is(err, flags.ErrAmbiguousEdit), errors.Is(err, flags.ErrApprovalRequired):
		code = flagsRefused
	case errors.Is(err, flags.ErrConflict), errors.Is(err, flags.ErrUnproven), errors.Is(err, flags.ErrWrittenUnsure):
		code = flagsNotProved
	}
	return &exitError{code, err}
}

func (p *program) flagsOffCommand() *cobra.Command {
	var w world
	var revision, reason string
	cmd := &cobra.Command{
		Use:   "off FLAG",
		Short: "Turn a flag off for everybody and prove it",
		Long: `Turn a flag off for everybody. In a file its default becomes the rule's off variant, and
its targeting is taken out and kept for the undo; nothing else in the file changes. On a
server its environment is turned off. Then prove through OpenFeature that every context
gets the off variant.

With --revision the flag is only written if it still is at that revision.`,
		Example: `  driftwatch flags off payments.backoff-decorrelated-jitter --reason "too many retries"
  driftwatch flags restore payments.backoff-decorrelated-jitter`,
		Args: oneArgument("flag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.onFlag(cmd.Context(), &w, args[0], func(t *flagTarget, hand worker.Hand) error {
				if revision != "" && !t.state.Revision.Matches(revision) {
					return &exitError{flagsNotProved, errors.New(report.RevisionConflict(t.ref.Key, revision, t.state.Revision.Short(), t.state.Changed, "").String())}
				}
				return p.turnOff(cmd.Context(), t, hand, reason)
			})
		},
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "only if the flag is at this revision (flags list shows it)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	return cmd
}

func (p *program) turnOff(ctx context.Context, t *flagTarget, hand worker.Hand, reason string) error {
	key := journal.Key{Rule: t.rule.Path, UpgradeID: journal.HandID(time.Now()), Source: t.ref.Source, Flag: t.ref.Key}
	written, err := hand.TurnOff(ctx, t.source, t.state, t.flag.Off, key, byPerson(reason))
	if errors.Is(err, flags.ErrAlreadyOff) {
		fmt.Fprintf(p.stdout, "%s is %s already, revision %s; nothing was written\n", t.ref.Key, t.state.Word(t.flag.Off.Variant), t.state.Revision.Short())
		_, err := p.prove(ctx, t, verifyWithin)
		return err
	}
	return p.proveWrite(ctx, t, hand, written, err)
}

// proveWrite tells what was written and proves it; err is how the write ended.
func (p *program) proveWrite(ctx context.Context, t *flagTarget, hand worker.Hand, written worker.Write, err error) error {
	if err != nil {
		return flagFailure(err)
	}
	became := "off"
	if t.flag.Off.Disabled {
		became = "disabled, falls back to the code default"
	}
	fmt.Fprintf(p.stdout, "%s   %s → %s   revision %s → %s   written %s\n", t.ref.Key, t.state.Word(t.flag.Off.Variant), became,
		written.Receipt.Before.Short(), written.Receipt.After.Short(), written.At.UTC().Format("15:04:05.0 UTC"))
	if written.Unsure != nil {
		fmt.Fprintf(p.stderr, "warning: %v\n", written.Unsure)
	}
	ctx = context.WithoutCancel(ctx) // what was written is looked at and journaled
	var evidence flags.Evidence
	evidence, err = p.prove(ctx, t, worker.ProveWithin)
	hand.Proved(ctx, written, evidence, err)
	fmt.Fprintf(p.stdout, "undo   driftwatch flags restore %s\n", t.ref.Key)
	return err
}

func byPerson(reason string) string {
	if reason == "" {
		return "a person"
	}
	return "a person: " + reason
}

// prove looks from the flag's viewpoint and prints what was seen.
func (p *program) prove(ctx context.Context, t *flagTarget, within time.Duration) (flags.Evidence, error) {
	evidence, err := t.prover.Prove(ctx, t.question, within)
	where := "off"
	if t.flag.Off.Disabled {
		where = "disabled (it falls back to the code default)"
	}
	switch evidence.Viewpoint.Kind {
	case flags.File:
		where += " in the file"
	case flags.Object:
		where += " in the object"
	}
	if err != nil {
		for _, a := range evidence.Answers {
			fmt.Fprintf(p.stdout, "%s %d × value %s variant %q reason %s %s with code default %s, first for %s\n", mark(a.Clean), a.Count, a.Value, a.Variant, a.Reason, a.Error, a.Default, a.Context)
		}
		return evidence, flagFailure(err)
	}
	fmt.Fprintf(p.stdout, "verified %s in %s: %d contexts × 2 code defaults, %d rounds, seen at %s\n",
		where, evidence.Took.Round(time.Millisecond), evidence.Contexts, evidence.Rounds, evidence.Viewpoint.Address)
	return evidence, nil
}

func mark(clean bool) string {
	if clean {
		return "  "
	}
	return "! "
}

func (p *program) flagsVerifyCommand() *cobra.Command {
	var w world
	cmd := &cobra.Command{
		Use:     "verify FLAG",
		Short:   "Prove through OpenFeature that a flag is off; nothing is written",
		Example: "  driftwatch flags verify payments.backoff-decorrelated-jitter",
		Args:    oneArgument("flag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := w.target(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = p.prove(cmd.Context(), t, verifyWithin)
			return err
		},
	}
	w.flags(cmd)
	return cmd
}

func (p *program) flagsRestoreCommand() *cobra.Command {
	var w world
	var all bool
	cmd := &cobra.Command{
		Use:   "restore FLAG | --all",
		Short: "Take back what driftwatch wrote last, exactly",
		Long: `Take back what driftwatch wrote last about a flag: a file byte for byte, a server's
environment as it was. It is refused if anybody changed it since: nobody else's edit is
undone. After it driftwatch does not turn the flag off again for the same upgrade.

With --all everything that driftwatch ever wrote and nobody took back is taken back, newest
first. What is refused is named, and the others are restored all the same.`,
		Example: `  driftwatch flags restore payments.backoff-decorrelated-jitter
  driftwatch flags list --off-by-driftwatch && driftwatch flags restore --all`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usage("--all restores every flag; leave %q out, or --all", args[0])
			}
			if all {
				return nil
			}
			return oneArgument("flag")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				return p.restoreAll(cmd.Context(), &w)
			}
			return p.onFlag(cmd.Context(), &w, args[0], func(t *flagTarget, hand worker.Hand) error {
				done, err := hand.Restore(cmd.Context(), t.source, t.ref, "a person")
				if errors.Is(err, worker.ErrNothingToRestore) {
					return &exitError{flagsRefused, err}
				}
				if err != nil {
					return flagFailure(err)
				}
				fmt.Fprintf(p.stdout, "%s restored   revision %s → %s   it is what it was before\n", t.ref.Key, done.Before.Short(), done.After.Short())
				return nil
			})
		},
	}
	w.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "everything that driftwatch wrote and nobody took back")
	return cmd
}

// restoreAll takes back every write that stands, newest first. It goes on after a refusal; the
// exit code is that of the worst.
func (p *program) restoreAll(ctx context.Context, w *world) error {
	j, err := w.openJournal(ctx)
	if err != nil {
		return err
	}
	defer j.Close()
	h := worker.Hand{Journal: j, Clock: time.Now, Log: p.log()}
	sources := map[string]flags.Switch{}
	for name := range w.config.FlagSources {
		if sources[name], err = w.source(name); err != nil {
			return err
		}
	}
	if _, err := h.Actions(ctx, journal.ActionFilter{}, sources); err != nil { // settles what a crash left open
		return err
	}
	standing, err := h.Standing(ctx, journal.ActionFilter{})
	if err != nil {
		return err
	}
	if len(standing) == 0 {
		fmt.Fprintln(p.stdout, "nothing is off by driftwatch")
		return nil
	}
	worst := &exitError{code: 0}
	for _, s := range standing {
		var done flags.Receipt
		source, ok := sources[s.Ref.Source]
		err := fmt.Errorf("%w: the configuration names no flag source %q", flags.ErrNotFound, s.Ref.Source)
		if ok {
			done, err = h.Restore(ctx, source, s.Ref, "a person: restore --all")
		}
		if err == nil {
			fmt.Fprintf(p.stdout, "%s restored   revision %s → %s\n", s.Ref.Key, done.Before.Short(), done.After.Short())
			continue
		}
		fmt.Fprintf(p.stdout, "%s NOT restored: %v\n", s.Ref.Key, err)
		if failed, ok := errors.AsType[*exitError](flagFailure(err)); ok && failed.code > worst.code {
			worst = failed
		}
	}
	if worst.code > 0 {
		return &exitError{worst.code, errors.New("not everything could be restored")}
	}
	return nil
}

// onFlag reads a flag, opens the journal, settles what a crash left open about the flag, and
// hands both to f, which may write.
func (p *program) onFlag(ctx context.Context, w *world, key string, f func(*flagTarget, worker.Hand) error) error {
	t, err := w.target(ctx, key)
	if err != nil {
		return err
	}
	j, err := w.openJournal(ctx)
	if err != nil {
		return err
	}
	defer j.Close()
	h := worker.Hand{Journal: j, Clock: time.Now, Log: p.log()}
	if _, err := h.Actions(ctx, journal.ActionFilter{Source: t.ref.Source, Flag: t.ref.Key}, map[string]flags.Switch{t.ref.Source: t.source}); err != nil {
		return err
	}
	return f(t, h)
}
