// Command calibrate measures the promised rates on simulated upgrades and prints a table per
// bar. Its last line is "N passed, N failed"; it ends with 1 if a bar failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/driftwatch/driftwatch/internal/sim/calibrate"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "calibrate:", err)
		os.Exit(2)
	case failed > 0:
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (failed int, err error) {
	flags := flag.NewFlagSet("calibrate", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", ".cache/calibrate", "directory of finished families; a second start goes on there; empty keeps nothing")
	only := flags.String("only", "", "bars to run, separated by commas: "+strings.Join(calibrate.Bars(), ","))
	scale := flags.String("scale", "full", "tiny, small or full")
	seed := flags.Uint64("seed", 1, "of everything that is drawn")
	workers := flags.Int("workers", 2, "families drawn at once; each takes a core and 200 MB")
	limit := flags.Duration("for", 0, "draw no further family after this time, and print what there is; 0 = draw all")
	markdown := flags.String("markdown", "", "file whose tables between the calibrate marks are replaced, such as docs/statistics.md")
	if err := flags.Parse(args); err != nil {
		return 0, err
	}
	o := calibrate.Options{Out: *out, Scale: calibrate.Scale(*scale), Seed: *seed, Workers: *workers, For: *limit, Progress: stderr}
	if !slices.Contains([]calibrate.Scale{calibrate.Tiny, calibrate.Small, calibrate.Full}, o.Scale) {
		return 0, fmt.Errorf("-scale is tiny, small or full, not %q", *scale)
	}
	if *workers < 1 {
		return 0, fmt.Errorf("-workers is at least 1, not %d", *workers)
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
		for _, bar := range o.Only {
			if !slices.Contains(calibrate.Bars(), bar) {
				return 0, fmt.Errorf("there is no bar %q; there are %s", bar, strings.Join(calibrate.Bars(), ", "))
			}
		}
	}
	begun := time.Now()
	results, err := calibrate.Run(ctx, o)
	if err != nil {
		return 0, err
	}
	rows := calibrate.Tables(o, results)
	fmt.Fprintf(stderr, "%v\n", time.Since(begun).Round(time.Second))

	var tables strings.Builder
	fmt.Fprintf(&tables, "Simulated with seed %d, scale %s. Families of services, finished of planned: %s.\n", o.Seed, o.Scale, families(results))
	if err := calibrate.Write(&tables, rows); err != nil {
		return 0, err
	}
	if *markdown != "" {
		if err := calibrate.Document(*markdown, tables.String()); err != nil {
			return 0, err
		}
	}
	failed = calibrate.Count(rows, calibrate.Failed)
	fmt.Fprintln(stdout, tables.String())
	if n := calibrate.Count(rows, calibrate.NotRun); n > 0 {
		fmt.Fprintf(stdout, "%d not run\n", n)
	}
	fmt.Fprintf(stdout, "%d passed, %d failed\n", calibrate.Count(rows, calibrate.Passed), failed)
	return failed, nil
}

// families says how far the experiments came.
func families(results map[string]calibrate.Result) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(results)) {
		parts = append(parts, fmt.Sprintf("%s %d of %d", name, results[name].Done, results[name].Of))
	}
	return strings.Join(parts, ", ")
}
