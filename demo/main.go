// The demo command tells one story that really happens, in less than four minutes: a shop is
// upgraded, a new backoff behind a feature flag makes one endpoint slow, and driftwatch finds it,
// turns the flag off, proves it and sees the numbers come back.
//
// It runs a Prometheus and a shop on loopback and the built driftwatch beside them; what it says
// about judgement it has from that program's stderr and report.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// scenarios are the values of --scenario.
const (
	regression = "regression"
	noChange   = "no-change"
)

// A config is what one run is to be like.
type config struct {
	scenario   string
	driftwatch string // the built binary
	out        string // folder
	seed       uint64

	overhead time.Duration // how long the overhead is measured
	history  time.Duration // of generated history
	live     time.Duration // of real traffic before the upgrade
	limit    time.Duration // of the whole story
}

// usual is a story of about three minutes. History is what the rule needs, 2 h 45 min of placebos
// and the minute before the first, with a minute to spare. Live traffic is longer than the
// baseline, so that both windows that are compared lie after the generated history.
func usual() config {
	return config{
		scenario: regression, driftwatch: beside("driftwatch"), out: "demo-out", seed: 1,
		overhead: 5 * time.Second, history: 2*time.Hour + 47*time.Minute, live: 68 * time.Second,
		limit: 3*time.Minute + 50*time.Second,
	}
}

// beside returns the path of a program in the folder of this one.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

func main() {
	// The flagd provider logs what it reads to os.Stderr and takes no other logger (v0.6.0). Only
	// this program's own lines belong there; panics do not go through the variable.
	stderr := os.Stderr
	if nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = nowhere
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stdout, stderr)
	stop()
	os.Exit(code)
}

// command runs the program and returns its exit code: 0 when the story went as it should, 1 when it
// did not, 2 for wrong usage, 130 when it was interrupted.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := usual()
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&c.scenario, "scenario", c.scenario, regression+" or "+noChange)
	f.StringVar(&c.driftwatch, "driftwatch", c.driftwatch, "the built `program`")
	f.StringVar(&c.out, "out", c.out, "`folder` for the rule, the flag file, the journal and the report; its files are replaced")
	f.Uint64Var(&c.seed, "seed", c.seed, "of the shop's noise")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case f.NArg() > 0:
		fmt.Fprintf(stderr, "error: unexpected argument %q\n", f.Arg(0))
		return 2
	case c.scenario != regression && c.scenario != noChange:
		fmt.Fprintf(stderr, "error: --scenario %s is not one of %s, %s\n", c.scenario, regression, noChange)
		return 2
	}

	err := tell(ctx, c, stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "interrupted; everything is stopped")
		return 130
	case err != nil:
		fmt.Fprintf(stderr, "error: the story did not go as it should: %v\n", err)
		return 1
	}
	return 0
}
