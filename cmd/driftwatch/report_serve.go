package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/web"
	"github.com/driftwatch/driftwatch/internal/worker"
)

// drain is how long requests may take after a signal. A proof takes up to 30 s, and systemd kills
// after 90 s.
const drain = 40 * time.Second

func (p *program) reportServeCommand() *cobra.Command {
	var w world
	var listen, webConfig string
	var actions bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Show the history, reports, flags and rules as web pages and JSON",
		Long: `Show the history, reports, flags and rules as web pages, and as JSON under /api/v1/. People
may say there whether a report was right; nothing else is written.

It listens on this machine only. To let others in, give --web.config.file with TLS and users;
its format is that of Prometheus (prometheus.io/docs/prometheus/latest/configuration/https).
With --enable-actions its users may turn flags off, restore them and approve plans.

SIGTERM or ctrl-C ends it when the requests in flight are answered; the exit code is 0 then.`,
		Example: `  driftwatch report serve
  driftwatch report serve --listen :9465 --web.config.file web.yaml --enable-actions`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := w.loadRules(); err != nil {
				return err
			}
			if listen == "" {
				listen = w.config.Web.Listen
			}
			if webConfig == "" {
				webConfig = w.config.Web.ConfigFile
			}
			return p.serve(cmd.Context(), &w, web.Listener{Address: listen, Config: webConfig, Log: p.log(), Drain: drain}, actions)
		},
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&listen, "listen", "", "the `ADDRESS` to listen on; default: web.listen of the configuration, or 127.0.0.1:9465")
	cmd.Flags().StringVar(&webConfig, "web.config.file", "", "the `FILE` with TLS and users; default: web.config_file of the configuration")
	cmd.Flags().BoolVar(&actions, "enable-actions", false, "let users turn flags off, restore them and approve plans")
	return cmd
}

// loadRules is load for what can do without rules: where none are named and there are none, the
// list is empty.
func (w *world) loadRules() error {
	if err := w.loadConfig(); err != nil {
		return err
	}
	if len(w.rulePaths) == 0 {
		found := false
		for _, pattern := range w.config.Rules {
			match, err := filepath.Glob(pattern)
			found = found || err != nil || len(match) > 0
		}
		if !found {
			return nil
		}
	}
	return w.load()
}

func (p *program) serve(ctx context.Context, w *world, l web.Listener, actions bool) error {
	if err := l.Check(); err != nil {
		return &exitError{exitUsage, err}
	}
	users := web.Users{Path: l.Config}
	if any, err := users.Any(); actions && (err != nil || !any) {
		return usage("--enable-actions needs people by name; add basic_auth_users to the file of --web.config.file")
	}
	j, err := w.openJournal(ctx)
	if err != nil {
		return err
	}
	defer j.Close()
	host, _, _ := net.SplitHostPort(l.Address) // Check has looked
	o := web.Options{
		Journal: j, Rules: w.rules, Users: users, Loopback: web.IsLoopback(host),
		Stored: func(ctx context.Context, r journal.Record) (*report.Report, error) { return worker.Stored(ctx, j, r) },
		Said:   func(ctx context.Context, r journal.Record) *report.Said { return worker.Said(ctx, j, r) },
		Shadow: func(ctx context.Context, service, key string) (report.Shadow, error) {
			return worker.Shadow(ctx, j, service, key, time.Now())
		},
		Flags: w.webFlags, Links: report.Links{Prometheus: w.config.Links.Prometheus, Grafana: w.config.Links.Grafana},
		Clock: time.Now, Log: l.Log, Registry: prometheus.NewRegistry(),
	}
	if actions {
		o.Hand = &webHand{world: w, hand: worker.Hand{Journal: j, Clock: time.Now, Log: l.Log}}
	}
	err = l.Serve(ctx, web.New(o), func(at net.Addr) {
		scheme := "http"
		if l.Config != "" {
			scheme = "http or https"
		}
		fmt.Fprintf(p.stderr, "listening on %s (%s)\n", at, scheme)
	})
	if err != nil && ctx.Err() != nil {
		return &exitError{exitFault, err}
	}
	return err
}

// webFlags are the flags that rules name, each read from its source.
func (w *world) webFlags(ctx context.Context) []web.Flag {
	var out []web.Flag
	for _, r := range w.rules {
		for _, f := range r.Flags {
			one := web.Flag{Key: f.Key, Source: f.Source, Service: r.Service, Rule: fmt.Sprintf("%s:%d", r.Path, f.Line), Act: f.Act}
			source, err := w.source(f.Source)
			if err == nil {
				var state flags.State
				if state, err = source.Read(ctx, flags.Ref{Source: f.Source, Key: f.Key}); err == nil || errors.Is(err, flags.ErrNotFound) {
					err = nil
					one.State, one.Revision, one.ReadOnly = state.Word(f.Off.Variant), state.Revision.Short(), state.ReadOnly
					one.Off = state.Off(f.Off.Variant) || f.Off.Disabled && state.Present && !state.Enabled
				}
			}
			if err != nil {
				one.Err = err.Error()
			}
			out = append(out, one)
		}
	}
	return out
}

// A webHand lets people who are known by name do from the web what the flags commands do.
type webHand struct {
	world *world
	hand  worker.Hand
}

// target reads a flag of a source, after what a crash left open about it is settled.
func (h *webHand) target(ctx context.Context, source, key string) (*flagTarget, error) {
	for _, r := range h.world.rules {
		i := slices.IndexFunc(r.Flags, func(f rule.Flag) bool { return f.Source == source && f.Key == key })
		if i < 0 {
			continue
		}
		t, err := h.world.open(ctx, r, r.Flags[i])
		if err != nil {
			return nil, conflict(err)
		}
		_, err = h.hand.Actions(ctx, journal.ActionFilter{Source: source, Flag: key}, map[string]flags.Switch{source: t.source})
		return t, err
	}
	return nil, &web.Refusal{Status: http.StatusNotFound, Err: fmt.Errorf("no rule names the flag %q of source %q; /flags lists them", key, source)}
}

// conflict is a write that a source or the journal refused.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	return &web.Refusal{Status: http.StatusConflict, Err: err, Written: errors.Is(err, flags.ErrWrittenUnsure) || errors.Is(err, flags.ErrUnproven)}
}

func (h *webHand) plan(t *flagTarget, by, reason string) (flags.Plan, error) {
	return h.hand.Plan(t.source, t.state, t.flag.Off, t.byHand(), by, reason, time.Hour)
}

// byHand is the key of an action that a person takes because of no upgrade.
func (t *flagTarget) byHand() journal.Key {
	return journal.Key{Rule: t.rule.Path, UpgradeID: journal.HandID(time.Now()), Source: t.ref.Source, Flag: t.ref.Key}
}

// Off shows what turning a flag off would write.
func (h *webHand) Off(ctx context.Context, source, key string) (web.Proposal, error) {
	t, err := h.target(ctx, source, key)
	if err != nil {
		return web.Proposal{}, err
	}
	plan, err := h.plan(t, "", "")
	if err != nil {
		return web.Proposal{}, conflict(err)
	}
	return proposal(plan.Change, string(t.state.Revision)), nil
}

func proposal(c flags.Change, revision string) web.Proposal {
	words := fmt.Sprintf("Everybody would get the variant %q, at once.", c.Want.Variant)
	if c.Mode == flags.Disable {
		words = "The flag would be disabled, at once: everybody would get the default in the application's code."
	}
	return web.Proposal{Key: c.Ref.Key, Source: c.Ref.Source, Path: c.Path, Revision: revision, Diff: c.Diff, Words: words}
}

// at refuses a flag that is not what whoever confirmed has seen.
func (t *flagTarget) at(revision string) error {
	if string(t.state.Revision) != revision {
		return &web.Refusal{Status: http.StatusConflict, Err: errors.New(
			report.RevisionConflict(t.ref.Key, flags.Revision(revision).Short(), t.state.Revision.Short(), t.state.Changed, "").Error() + "; look at it again")}
	}
	return nil
}

// TurnOff does what Off showed, and proves it.
func (h *webHand) TurnOff(ctx context.Context, source, key, revision, by, reason string) (string, error) {
	t, err := h.target(ctx, source, key)
	if err != nil {
		return "", err
	}
	if err := t.at(revision); err != nil {
		return "", err
	}
	if reason != "" {
		by += ": " + reason
	}
	written, err := h.hand.TurnOff(ctx, t.source, t.state, t.flag.Off, t.byHand(), by)
	return h.prove(ctx, t, written, err)
}

// prove proves what was written; err is how the write ended.
func (h *webHand) prove(ctx context.Context, t *flagTarget, written worker.Write, err error) (string, error) {
	if err != nil {
		return "", conflict(err)
	}
	ctx = context.WithoutCancel(ctx) // what was written is looked at and journaled
	evidence, err := t.prover.Prove(ctx, t.question, worker.ProveWithin)
	h.hand.Proved(ctx, written, evidence, err)
	if err != nil {
		return "", &web.Refusal{Status: http.StatusConflict, Err: fmt.Errorf("%s was written at %s and is not proved off: %w", t.ref.Key, written.At.UTC().Format("15:04:05 UTC"), err), Written: true}
	}
	return fmt.Sprintf("turned off at revision %s, verified in %s", written.Receipt.After.Short(), evidence.Took.Round(time.Millisecond)), nil
}

// Restorable shows what taking back the newest write of a flag would undo.
func (h *webHand) Restorable(ctx context.Context, source, key string) (web.Proposal, error) {
	t, err := h.target(ctx, source, key)
	if err != nil {
		return web.Proposal{}, err
	}
	standing, err := h.hand.Standing(ctx, journal.ActionFilter{Source: source, Flag: key})
	if err != nil {
		return web.Proposal{}, err
	}
	if len(standing) == 0 {
		return web.Proposal{}, conflict(fmt.Errorf("%w: %s", worker.ErrNothingToRestore, key))
	}
	out := proposal(standing[0].Receipt.Change, string(t.state.Revision))
	out.Words = "What is shown below would be taken back, byte for byte: the lines with + go, those with - come again. Written by " + standing[0].Action.By + "."
	return out, nil
}

// Restore does what Restorable showed.
func (h *webHand) Restore(ctx context.Context, source, key, revision, by string) (string, error) {
	t, err := h.target(ctx, source, key)
	if err != nil {
		return "", err
	}
	if err := t.at(revision); err != nil {
		return "", err
	}
	done, err := h.hand.Restore(ctx, t.source, t.ref, by)
	if err != nil {
		return "", conflict(err)
	}
	return "restored to revision " + done.After.Short(), nil
}

// Plans are the files of plans that may still be carried out.
func (h *webHand) Plans(context.Context) ([]string, error) {
	entries, err := os.ReadDir(h.world.config.Approval.Plans)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the plans: %w", err)
	}
	var out []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if p, err := worker.ReadPlan(filepath.Join(h.world.config.Approval.Plans, e.Name())); err == nil && time.Now().Before(p.ValidUntil) {
			out = append(out, name)
		}
	}
	return out, nil
}

// readPlan reads a plan by its name, and names its text.
func (h *webHand) readPlan(ctx context.Context, name string) (flags.Plan, string, error) {
	// Only what is listed is opened: the name comes from an address.
	names, err := h.Plans(ctx)
	if err != nil {
		return flags.Plan{}, "", err
	}
	if !slices.Contains(names, name) {
		return flags.Plan{}, "", &web.Refusal{Status: http.StatusNotFound, Err: fmt.Errorf("no plan %q waits for approval; it may be over", name)}
	}
	p, err := worker.ReadPlan(filepath.Join(h.world.config.Approval.Plans, name+".json"))
	if err != nil {
		return p, "", conflict(err)
	}
	text, err := p.Text()
	sum := sha256.Sum256(text)
	return p, hex.EncodeToString(sum[:]), err
}

// Plan shows a plan.
func (h *webHand) Plan(ctx context.Context, name string) (web.Proposal, error) {
	p, sum, err := h.readPlan(ctx, name)
	if err != nil {
		return web.Proposal{}, err
	}
	out := proposal(p.Change, sum)
	out.By, out.Reason, out.ValidUntil = p.By, p.Reason, p.ValidUntil
	return out, nil
}

// Apply carries out the plan that was shown, and proves it.
func (h *webHand) Apply(ctx context.Context, name, sum, by string) (string, error) {
	p, now, err := h.readPlan(ctx, name)
	if err != nil {
		return "", err
	}
	if now != sum {
		return "", conflict(fmt.Errorf("the plan %q is not the one that was shown; look at it again", name))
	}
	t, err := h.target(ctx, p.Change.Ref.Source, p.Change.Ref.Key)
	if err != nil {
		return "", err
	}
	if want := t.flag.Off.Variant; p.Change.Want.Variant != want {
		return "", conflict(fmt.Errorf("the plan serves %q, and off means %q in %s now; plan again", p.Change.Want.Variant, want, t.rule.Path))
	}
	written, err := h.hand.Apply(ctx, t.source, t.state, p, by+", by plan of "+p.By)
	return h.prove(ctx, t, written, err)
}
