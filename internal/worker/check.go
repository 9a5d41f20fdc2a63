// Package worker is where time passes and things are done in order: it reads what a check
// needs, has it judged, acts on the judgement, and watches what came of it. It holds no
// formula and no wording of its own.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Options are what the caller of one check wants.
type Options struct {
	At, Started time.Time // when the upgrade finished and began; zero: found in Prometheus
	To          string    // the version that the upgrade leads to; "" = the newest
	Now         time.Time // judge as of then; zero: the present
	Wait        bool      // stay until a regression is confirmed or the horizon has passed
	Act         bool      // --act, or act: true in the configuration
	DryRun      bool
	RequireData bool
	ClockOffset time.Duration // what this machine's clock lacks to that of Prometheus
	Limits      flags.Limits
	StopFile    string // "" = none is looked for
	Approval    Approval
	RemindAfter time.Duration // a flag that is off by driftwatch for longer is reminded of; 0 = never
}

// A Checker judges one upgrade of one rule.
type Checker struct {
	Tool     string // version of driftwatch
	Rule     *rule.Rule
	Query    *query.Client
	Switches map[string]flags.Switch // by the name of the flag source
	Provers  map[string]flags.Prover // by the name of the flag source
	Journal  *journal.Journal        // nil: nothing is kept, and nothing is acted on
	Clock    func() time.Time
	Rand     *rand.Rand
	Log      *slog.Logger
	Progress report.Progress
	Say      func(line string) // progress, one line at a time
	Options
}

// maxClockSkew is how far the clocks of this machine and of Prometheus may be apart. Hosts
// that keep time are within milliseconds, and an answer may take a second; at more than
// this a window of a few steps around an upgrade would hold the wrong steps.
const maxClockSkew = 5 * time.Second

// lookBack is how far back a version change is searched for.
const lookBack = 24 * time.Hour

// Check reads, judges, acts and reports. A report is also the answer when Prometheus cannot
// be read: it says so. The error is a *report.Message for what the caller can mend, or that
// of ctx.
func (c *Checker) Check(ctx context.Context) (*report.Report, error) {
	s := &session{Checker: c, begun: c.Clock()}
	err := s.run(ctx)
	if ctx.Err() != nil {
		if !s.wrote {
			return nil, ctx.Err()
		}
		// A flag was turned off: what came of it is told, and kept, before the interrupt is heeded.
		s.warn("interrupted after the flag was turned off; whether the numbers come back was not watched to the end")
		err = nil
	}
	if message, ok := errors.AsType[*report.Message](err); ok && message.Exit == report.ExitCouldNot {
		return s.failed(message), nil
	}
	if err != nil {
		return nil, err
	}
	var pictures *report.Pictures
	if ctx.Err() == nil {
		pictures = s.pictures(ctx)
	}
	return s.finish(context.WithoutCancel(ctx), pictures)
}

// Plan returns what a check would read, for people, and reads nothing but the upgrade and
// which histograms are native.
func (c *Checker) Plan(ctx context.Context) (string, error) {
	s := &session{Checker: c, begun: c.Clock()}
	told, err := s.toldUpgrade()
	if err != nil {
		return "", err
	}
	if !told {
		if err := s.findUpgrade(ctx); err != nil {
			return "", err
		}
	}
	if s.upgrade == nil || s.upgrade.At.IsZero() {
		return "", usage("no complete upgrade found in the last %s; give --at", lookBack)
	}
	g := baseline.NewGeometry(s.Rule.Windows, *s.upgrade)
	whole := s.grid(g.First(), g.Horizon)
	if err := s.askHistograms(ctx, g); err != nil {
		return "", err
	}
	plan, err := s.plan(whole, telemetry.Window{Start: whole.Start(g.First()), End: s.upgrade.Started}, s.now)
	if err != nil {
		return "", err
	}
	return s.Progress.Deploy(s.upgrade) + "\n" + s.windows(g) + "\n" + plan.String(), nil
}

// A session is one check as it goes on.
type session struct {
	*Checker
	begun time.Time
	now   time.Time // judged as of

	upgrade *telemetry.Upgrade // nil: none was found; At is zero while it is being rolled out

	in      Inputs
	history history
	actions []pastAction
	defined map[int]string // flag: its definition when it was first seen
	judged  detect.Judgement
	whole   []telemetry.Track // history, baseline and post window in one

	recovering recoveryWatch

	told  bool // what is compared, and what reading it took, has been said
	wrote bool // a flag was turned off by this check

	replaced   time.Time // when another version followed; zero: none did
	replacedBy string
}

// present is the time on the clock of Prometheus.
func (s *session) present() time.Time { return s.Clock().Add(s.ClockOffset) }

func (s *session) run(ctx context.Context) error {
	told, err := s.toldUpgrade()
	if err != nil {
		return err
	}
	if s.ClockOffset != 0 {
		s.warn(fmt.Sprintf("the clock of this machine was said to lack %v to that of Prometheus (--clock-offset)", s.ClockOffset))
	}
	if err := s.compareClocks(ctx); err != nil {
		return err
	}
	if !told {
		if err := s.findUpgrade(ctx); err != nil {
			return err
		}
	}
	for s.Wait && s.upgrade != nil && s.upgrade.At.IsZero() {
		if err := s.sleepUntil(ctx, s.present().Add(s.Rule.Windows.Step)); err != nil {
			return err
		}
		if err := s.findUpgrade(ctx); err != nil {
			return err
		}
	}
	if s.upgrade == nil || s.upgrade.At.IsZero() {
		return nil
	}
	s.in.Upgrade, s.in.Geometry = s.upgrade, baseline.NewGeometry(s.Rule.Windows, *s.upgrade)
	s.Progress.Ref = s.upgrade.At
	s.Say(s.Progress.Deploy(s.upgrade))
	s.Say(s.windows(s.in.Geometry))
	if err := s.loadActions(ctx); err != nil {
		return err
	}
	if err := s.checkFlags(ctx); err != nil {
		return err
	}
	if err := s.readHistory(ctx); err != nil {
		return err
	}
	if err := s.watch(ctx); err != nil {
		return err
	}
	return s.recover(ctx)
}

// watch makes the looks: one for a check that does not wait, else one at every step until a
// regression is confirmed and dealt with, or the horizon has passed. A look that cannot read
// is made again a step later, as long as there are looks to come.
func (s *session) watch(ctx context.Context) error {
	for {
		again := true
		err := s.look(ctx)
		message, unread := errors.AsType[*report.Message](err)
		switch {
		case err == nil:
			s.sayRead()
			if s.judged.Looks > 0 {
				s.sayLook()
			}
			if again, err = s.act(ctx); err != nil {
				return err
			}
		case unread && message.Exit == report.ExitCouldNot && s.Wait:
			s.Say(s.Progress.Line("not read", message.Title+"; trying again"))
		default:
			return err
		}
		if !s.Wait || !again || !s.replaced.IsZero() || s.over() {
			if unread && s.judged.Verdict == detect.Regressed {
				s.warn("the last looks could not be read: " + message.Title)
				return nil // what was confirmed stays so
			}
			return err
		}
		if err := s.awaitStep(ctx, max(s.in.Geometry.FirstLook, s.in.Complete+1)); err != nil {
			return err
		}
	}
}

// over reports whether the last look has been made (without history, the only one), or
// should have been long enough ago that its steps will not become complete any more.
func (s *session) over() bool {
	g := s.in.Geometry
	return s.judged.Short != nil || s.in.Complete >= g.Horizon || s.present().After(s.stepTime(g.Horizon).Add(max(2*s.Rule.Windows.Step, 2*s.history.scrape)))
}

// awaitStep waits until step k-1 is over and its last scrape has had time to arrive.
func (s *session) awaitStep(ctx context.Context, k int) error {
	end := s.upgrade.At.Add(time.Duration(k) * s.Rule.Windows.Step)
	settle := min(s.history.scrape, s.Rule.Windows.Step)
	at := end.Add(settle)
	if next := s.present().Add(s.Rule.Windows.Step / 4); at.Before(next) {
		at = next
	}
	return s.sleepUntil(ctx, at)
}

// sleepUntil waits for an instant on the clock of Prometheus.
func (s *session) sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(at.Sub(s.present()))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// compareClocks refuses to go on when the clocks disagree: every window around the upgrade
// would be wrong.
func (s *session) compareClocks(ctx context.Context) error {
	before := s.present()
	server, err := s.Query.Clock(ctx)
	if err != nil {
		return s.unreadable(err)
	}
	here := before.Add(s.present().Sub(before) / 2)
	if skew := server.Sub(here); skew.Abs() > maxClockSkew {
		return report.ClocksDisagree(here, server)
	}
	s.Say(s.Progress.Prometheus(s.Query.Address(), server.Sub(here), 0))
	return nil
}

// toldUpgrade takes the upgrade from the options, if they tell it, and checks that they go
// together.
func (s *session) toldUpgrade() (bool, error) {
	present := s.present()
	s.now = s.Now
	if s.now.IsZero() {
		s.now = present
	}
	if s.now.After(present.Add(maxClockSkew)) {
		return false, usage("--now %s lies in the future; leave it out to judge as of the present", stamp(s.now))
	}
	if s.At.IsZero() {
		if s.Rule.Upgrade == nil {
			return false, usage("%s names no upgrade metric; give --at, or add upgrade: {metric: build_info, version_label: version}", s.Rule.Path)
		}
		return false, nil
	}
	u := telemetry.Upgrade{Service: s.Rule.Service, Started: s.Started, At: s.At, To: s.To, FoundBy: "flag"}
	if u.Started.IsZero() {
		u.Started = u.At
	}
	if u.Started.After(u.At) {
		return false, usage("--started %s lies after --at %s; exchange them", stamp(u.Started), stamp(u.At))
	}
	if s.now.Before(u.At) {
		return false, usage("--now %s lies before --at %s; nothing has happened yet", stamp(s.now), stamp(u.At))
	}
	s.upgrade = &u
	return true, nil
}

// findUpgrade looks for the newest version change.
func (s *session) findUpgrade(ctx context.Context) error {
	if s.Now.IsZero() {
		s.now = s.present()
	}
	spans, err := s.versions(ctx, telemetry.Window{Start: s.now.Add(-lookBack), End: s.now})
	if err != nil {
		return err
	}
	u, state := query.FindUpgrade(spans, s.now, s.Rule.Service, s.Rule.Upgrade.Metric, s.To)
	s.upgrade, s.in.Rollout = nil, nil
	switch state {
	case query.NoUpgrade:
		s.Say(s.Progress.Deploy(nil))
		return nil
	case query.InProgress:
		s.in.Rollout = rolloutOf(u, spans, s.now)
	}
	s.upgrade = &u
	return nil
}

// A UsageError is a mistake of the caller's, in the command line or in the rule.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
