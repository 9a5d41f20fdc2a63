// Command compare sets driftwatch's numbers beside those of other tools' judges, on the same
// simulated upgrades: `make compare`. The table goes to stdout, progress to stderr. It
// exits with 1 if driftwatch is not better than every one of them.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/driftwatch/driftwatch/internal/sim/compare"
)

func main() {
	plan := compare.Plan{}
	flag.Uint64Var(&plan.Run, "seed", 61, "seed of the run")
	flag.IntVar(&plan.Services, "services", 200, "services to simulate, each upgraded four times")
	flag.Float64Var(&plan.Rate, "rate", 50, "mean requests per second of each endpoint")
	markdown := flag.String("markdown", "", "page to write the table into, between its marks")
	flag.Parse()
	if flag.NArg() > 0 || plan.Services < 2 || !(plan.Rate > 0) {
		fmt.Fprintln(os.Stderr, "compare takes no arguments, at least 2 services and a rate above 0")
		os.Exit(2)
	}

	begun := time.Now()
	table := compare.Measure(plan, func(done int) {
		fmt.Fprintf(os.Stderr, "\rservice %d of %d, %s", done, plan.Services, time.Since(begun).Round(time.Second))
	})
	fmt.Fprintln(os.Stderr)
	if err := table.Write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "write the table:", err)
		os.Exit(1)
	}
	if *markdown != "" {
		if err := table.WriteMarkdown(*markdown); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if _, failed := table.Verdicts(); failed > 0 {
		os.Exit(1)
	}
}
