package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/worker"
)

// A checkOptions is the command line of check.
type checkOptions struct {
	world
	output
	started, at, now string
	to               string
	wait, act        bool
	dryRun           bool
	explain          bool
	replay           string
	requireData      bool
	failOn           string
	clockOffset      time.Duration
}

func (p *program) checkCommand() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Judge one upgrade",
		Long: `Judge one upgrade: compare every endpoint's tail latency and retry rate after it with
before it, and rank the difference among placebo upgrades of the service's own history.

Nothing is written unless the rule's flag says act: true and --act is given (or act: true
stands in the configuration). Without --at the newest version change is taken.

Exit codes
    0  no regression confirmed            4  confirmed, no action taken
    1  fault in driftwatch                5  confirmed, action failed or not verified
    2  wrong usage, configuration, rule   6  not enough data (with --require-data)
    3  confirmed, flag verified off       7  could not check`,
		Example: `  driftwatch check --prometheus http://localhost:9090 --rules rules/checkout.yaml
  driftwatch check --at 2026-03-11T14:02:10Z --wait --act
  driftwatch check --at 1773237730 --now 1773240000 -o json
  driftwatch check --out html=report.html --out junit=report.xml -o markdown
  driftwatch check --explain
  driftwatch check --replay 20260311-140210-checkout-api-3fa2-9c01d2e4`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.check(cmd.Context(), &o) },
	}
	f := cmd.Flags()
	o.world.flags(cmd)
	o.output.flags(cmd)
	f.StringVar(&o.service, "service", "", "the service to judge, where the rules name several")
	f.StringVar(&o.at, "at", "", "when the upgrade finished, `TIME` as RFC 3339 or Unix seconds; default: found in Prometheus")
	f.StringVar(&o.started, "started", "", "when its rollout began, `TIME`; default: --at")
	f.StringVar(&o.to, "to", "", "take the newest change to this `VERSION`")
	f.StringVar(&o.now, "now", "", "judge as of this `TIME`; default: the present")
	f.BoolVar(&o.wait, "wait", false, "stay until a regression is confirmed or the horizon has passed")
	f.BoolVar(&o.act, "act", false, "turn off the flag behind a confirmed regression, where the rule says act: true")
	f.BoolVar(&o.dryRun, "dry-run", false, "write no flag, whatever else is said")
	f.BoolVar(&o.explain, "explain", false, "print what would be read, and stop")
	f.StringVar(&o.replay, "replay", "", "compute the stored report `ID` again from its inputs")
	f.BoolVar(&o.requireData, "require-data", false, "exit with 6 where there is not enough data")
	f.StringVar(&o.failOn, "fail-on", "", "exit codes that count; any other becomes 0, for example 1,2,5,7")
	f.DurationVar(&o.clockOffset, "clock-offset", 0, "what this machine's clock lacks to that of Prometheus")
	return cmd
}

func (p *program) check(ctx context.Context, o *checkOptions) error {
	counts, err := failCodes(o.failOn)
	if err != nil {
		return err
	}
	return counts.of(p.judge(ctx, o))
}

// codes are the exit codes that --fail-on lets through; nil lets all through.
type codes []int

func failCodes(s string) (codes, error) {
	if s == "" {
		return nil, nil
	}
	var out codes
	for field := range strings.SplitSeq(s, ",") {
		code, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || code < 1 || code > 7 {
			return nil, usage("--fail-on %s: %q is not an exit code from 1 to 7; write them as 1,2,5,7", s, field)
		}
		out = append(out, code)
	}
	return out, nil
}

// of turns an error whose exit code does not count into success; what it has to say is said.
func (c codes) of(err error) error {
	exit, ok := errors.AsType[*exitError](err)
	if c == nil || !ok || exit.err != nil && exit.code < report.ExitVerifiedOff || slices.Contains(c, exit.code) {
		return err
	}
	return nil
}

// judge runs the check and writes its report. The error is an *exitError.
func (p *program) judge(ctx context.Context, o *checkOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.replay != "" {
		return p.replay(ctx, o)
	}
	c, j, err := p.checker(ctx, o)
	if err != nil {
		return err
	}
	if j != nil {
		defer j.Close()
	}
	if o.explain {
		text, err := c.Plan(ctx)
		if err != nil {
			return failure(err)
		}
		fmt.Fprint(p.stdout, text)
		return nil
	}
	r, err := c.Check(ctx)
	if err != nil {
		return failure(err)
	}
	if r.Failure != nil {
		fmt.Fprint(p.stderr, r.Failure.String())
	}
	if r.ExitCode == report.ExitNoData {
		p.tellTooFew(r)
	}
	return p.answer(r, o)
}

// tellTooFew names on stderr the first comparison that lacks data, and what it lacks.
func (p *program) tellTooFew(r *report.Report) {
	for _, c := range r.Comparisons {
		if n := c.Needs; c.Verdict == report.NotEnoughData && n != nil {
			fmt.Fprint(p.stderr, report.TooFew(c.Endpoint+" "+c.Signal, n.Of, float64(n.Have), float64(n.Need), n.When.Time).String())
			return
		}
	}
}

// answer writes a report and turns its exit code into an error.
func (p *program) answer(r *report.Report, o *checkOptions) error {
	p.surround(&o.world, &o.output)
	err := p.write(r, &o.output)
	if r.ExitCode == 0 && err == nil {
		return nil
	}
	if r.ExitCode == 0 {
		return &exitError{exitFault, err}
	}
	return &exitError{r.ExitCode, err} // what was found is worth more than a file that cannot be written
}

func (p *program) replay(ctx context.Context, o *checkOptions) error {
	j, err := o.openJournal(ctx)
	if err != nil {
		return err
	}
	defer j.Close()
	r, err := worker.Replay(ctx, j, o.replay)
	if _, ok := errors.AsType[*journal.NotFound](err); ok {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		return &exitError{exitFault, err}
	}
	return p.answer(r, o)
}

// failure gives an error of a check its exit code.
func failure(err error) error {
	if m, ok := errors.AsType[*report.Message](err); ok {
		return &exitError{m.Exit, errors.New(m.String())}
	}
	if _, ok := errors.AsType[*worker.UsageError](err); ok {
		return &exitError{exitUsage, err}
	}
	return err
}

// checker puts together what a check needs.
func (p *program) checker(ctx context.Context, o *checkOptions) (*worker.Checker, *journal.Journal, error) {
	if err := o.load(); err != nil {
		return nil, nil, err
	}
	r, err := o.rule()
	if err != nil {
		return nil, nil, err
	}
	options, err := o.options()
	if err != nil {
		return nil, nil, err
	}
	client, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	say := func(line string) { fmt.Fprintln(p.stderr, line) }
	var j *journal.Journal
	if !o.explain {
		if j, err = p.journalFor(ctx, o, options.Act && !options.DryRun); err != nil {
			return nil, nil, err
		}
	}
	c := &worker.Checker{
		Tool: version, Rule: r, Query: client, Switches: map[string]flags.Switch{}, Provers: map[string]flags.Prover{},
		Journal: j, Clock: time.Now, Rand: seed(), Log: p.log(), Say: say, Progress: report.Progress{ASCII: o.ascii}, Options: options,
	}
	for _, f := range r.Flags {
		if err := o.doors(c, f); err != nil {
			return nil, nil, err
		}
	}
	return c, j, nil
}

// doors opens the flag source of a flag. A source that the configuration does not name is no
// mistake of a check that only looks: the report says no_flag.
func (o *checkOptions) doors(c *worker.Checker, f rule.Flag) error {
	if c.Switches[f.Source] != nil || !o.named(f.Source) {
		return nil
	}
	var err error
	if c.Switches[f.Source], err = o.source(f.Source); err != nil {
		return err
	}
	c.Provers[f.Source], err = o.prover(f.Source)
	return err
}

// journalFor opens the journal. A check that writes no flag goes on without the default
// journal; one that may write never does.
func (p *program) journalFor(ctx context.Context, o *checkOptions, act bool) (*journal.Journal, error) {
	j, err := o.openJournal(ctx)
	if err == nil {
		return j, nil
	}
	if act || o.namedJournal() {
		return nil, err
	}
	fmt.Fprintf(p.stderr, "warning: nothing is kept of this check: %v\n", err)
	return nil, nil
}

// options turns the command line and the configuration into what the worker wants.
func (o *checkOptions) options() (worker.Options, error) {
	w := worker.Options{
		To: o.to, Wait: o.wait, Act: o.act || o.config.Act, DryRun: o.dryRun, RequireData: o.requireData, ClockOffset: o.clockOffset,
		Limits: flags.Limits{
			PerHour: o.config.Limits.ActionsPerHour, PerDay: o.config.Limits.ActionsPerDay, Cooldown: o.config.Limits.Cooldown,
			Critical: o.config.Limits.Critical,
		},
		StopFile: o.config.Limits.StopFile, Approval: worker.Approval(o.config.Approval), RemindAfter: o.config.Limits.RemindAfter,
	}
	for _, t := range []struct {
		option, text string
		to           *time.Time
	}{{"--at", o.at, &w.At}, {"--started", o.started, &w.Started}, {"--now", o.now, &w.Now}} {
		if t.text == "" {
			continue
		}
		at, err := parseTime(t.text)
		if err != nil {
			return w, usage("%s %s is no time; write it as 2026-03-11T14:02:10Z or as Unix seconds", t.option, t.text)
		}
		*t.to = at
	}
	if o.started != "" && o.at == "" {
		return w, usage("--started needs --at: when did the upgrade finish?")
	}
	if o.wait && o.now != "" {
		return w, usage("--wait stays until the present moves on, --now judges as of a time; give one of them")
	}
	return w, nil
}

// parseTime reads RFC 3339 or Unix seconds, with or without a fraction.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC(), nil
	}
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil || !(seconds >= 0 && seconds <= 1e11) {
		return time.Time{}, fmt.Errorf("no time: %s", s)
	}
	return time.UnixMilli(int64(seconds*1000 + 0.5)).UTC(), nil
}

// log is for what goes wrong beside the answer.
func (p *program) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// seed makes the random targeting keys of a proof differ from run to run.
func seed() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }
