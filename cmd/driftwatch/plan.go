package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/worker"
)

func (p *program) flagsPlanCommand() *cobra.Command {
	var w world
	var out, reason string
	var valid time.Duration
	cmd := &cobra.Command{
		Use:   "plan FLAG",
		Short: "Show what turning a flag off would change, and keep it for somebody to approve",
		Long: `Show what turning a flag off would change. Nothing is written but the plan, with --out.
Somebody else may read the plan and carry it out with flags apply, as long as it is valid
and the flag has not changed.`,
		Example: `  driftwatch flags plan payments.backoff-decorrelated-jitter
  driftwatch flags plan payments.backoff-decorrelated-jitter --out backoff.plan.json --valid 30m --reason "too many retries"
  driftwatch flags apply backoff.plan.json`,
		Args: oneArgument("flag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if valid <= 0 {
				return usage("--valid %v: a plan is valid for some time; write 1h", valid)
			}
			t, err := w.target(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.plan(t, out, reason, valid)
		},
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "the `FILE` that the plan is written to")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever approves it")
	cmd.Flags().DurationVar(&valid, "valid", time.Hour, "how long the plan may be carried out")
	return cmd
}

func (p *program) plan(t *flagTarget, out, reason string, valid time.Duration) error {
	h := worker.Hand{Clock: time.Now, Log: p.log()}
	key := journal.Key{Rule: t.rule.Path, UpgradeID: journal.HandID(time.Now()), Source: t.ref.Source, Flag: t.ref.Key}
	plan, err := h.Plan(t.source, t.state, t.flag.Off, key, "a person", reason, valid)
	if errors.Is(err, flags.ErrAlreadyOff) {
		fmt.Fprintf(p.stdout, "%s is off already, revision %s; there is nothing to plan\n", t.ref.Key, t.state.Revision.Short())
		return nil
	}
	if err != nil {
		return flagFailure(err)
	}
	p.showPlan(plan)
	if out == "" {
		return nil
	}
	if err := worker.WritePlan(out, plan); err != nil {
		return &exitError{exitUsage, err}
	}
	fmt.Fprintf(p.stdout, "next   driftwatch flags apply %s   (until %s)\n", out, plan.ValidUntil.Format("2006-01-02 15:04:05 UTC"))
	return nil
}

// showPlan prints what a plan would change.
func (p *program) showPlan(plan flags.Plan) {
	c := plan.Change
	what := fmt.Sprintf("would serve %q to everybody", c.Want.Variant)
	if c.Mode == flags.Disable {
		what = "would fall back to the default in the application's code"
	}
	fmt.Fprintf(p.stdout, "%s   %s   revision %s   %s\n", c.Ref.Key, what, c.Base.Short(), c.Path)
	if plan.Reason != "" {
		fmt.Fprintf(p.stdout, "why    %q, planned by %q at %s\n", plan.Reason, plan.By, plan.Made.Format("2006-01-02 15:04:05 UTC"))
	}
	fmt.Fprintf(p.stdout, "%s", c.Diff)
}

func (p *program) flagsApplyCommand() *cobra.Command {
	var w world
	cmd := &cobra.Command{
		Use:   "apply PLAN",
		Short: "Carry out a plan that was approved, and prove it",
		Long: `Carry out a plan of flags plan, or one that check wrote where the configuration requires
approval. It is refused when its validity is over, when the flag has changed since, and when
driftwatch itself would write anything else: what the file says is compared, not trusted.`,
		Example: "  driftwatch flags apply plans/20260311-140210-checkout-api-3fa2-payments.backoff-decorrelated-jitter.json",
		Args:    oneArgument("plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, err := worker.ReadPlan(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return p.onFlag(cmd.Context(), &w, plan.Change.Ref.Key, func(t *flagTarget, hand worker.Hand) error {
				return p.apply(cmd.Context(), t, hand, plan)
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func (p *program) apply(ctx context.Context, t *flagTarget, hand worker.Hand, plan flags.Plan) error {
	if plan.Change.Ref != t.ref {
		return &exitError{exitUsage, fmt.Errorf("the plan is about %s of source %s, the rules name it in %s", plan.Change.Ref.Key, plan.Change.Ref.Source, t.ref.Source)}
	}
	if plan.Change.Want.Variant != t.flag.Off.Variant {
		return &exitError{exitUsage, fmt.Errorf("the plan serves %q, and off means %q in %s now; plan again", plan.Change.Want.Variant, t.flag.Off.Variant, t.rule.Path)}
	}
	if t.state.Off(t.flag.Off.Variant) {
		fmt.Fprintf(p.stdout, "%s is off already, revision %s; nothing was written\n", t.ref.Key, t.state.Revision.Short())
		_, err := p.prove(ctx, t, verifyWithin)
		return err
	}
	p.showPlan(plan)
	written, err := hand.Apply(ctx, t.source, t.state, plan, "a person, by plan of "+plan.By)
	switch {
	case errors.Is(err, flags.ErrExpired), errors.Is(err, journal.ErrAlreadyIntended):
		return &exitError{flagsRefused, err}
	case errors.Is(err, flags.ErrNotThePlan):
		return &exitError{exitUsage, err}
	}
	return p.proveWrite(ctx, t, hand, written, err)
}
