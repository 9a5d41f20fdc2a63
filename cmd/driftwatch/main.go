// Command driftwatch compares a service before and after an upgrade, says which endpoints'
// tail latency or retry rate rose, turns off the flag behind it, and proves that it is off.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/driftwatch/driftwatch/internal/suggest"
)

// version is set by the linker (Makefile).
var version = "dev"

// Exit codes (docs/operations.md). Codes 3 to 7 belong to verdicts and come from the report.
const (
	exitFault       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// An exitError ends the program with a code. A nil err says nothing on stderr: the answer
// on stdout has said it.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage is an error of the caller's: exit 2.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// A program is one run of driftwatch: where it reads and writes.
type program struct {
	stdout, stderr io.Writer
	getenv         func(string) (string, bool)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &program{stdout: os.Stdout, stderr: os.Stderr, getenv: os.LookupEnv}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// run executes the command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exitError](err)
	if !ok && ctx.Err() != nil {
		fmt.Fprintln(p.stderr, "interrupted; nothing is half-written")
		return exitInterrupted
	}
	if !ok {
		exit = &exitError{exitFault, err}
	}
	if exit.err != nil {
		text := exit.err.Error()
		if !strings.HasPrefix(text, "error ") && !strings.HasPrefix(text, "note ") {
			text = "error: " + text
		}
		fmt.Fprintln(p.stderr, strings.TrimRight(text, "\n"))
	}
	return exit.code
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "driftwatch",
		Short: "Say what an upgrade made worse, and turn off the flag behind it",
		Long: `driftwatch compares a service before and after an upgrade in Prometheus, says which
endpoints' tail latency or retry rate rose and how sure that is, turns off the
OpenFeature flag behind it, proves that it is off and watches the numbers recover.

stdout is the answer, stderr is progress. Every option of a command can also be
given as a variable: --prometheus is DRIFTWATCH_PROMETHEUS.`,
		Example: `  driftwatch check --prometheus http://localhost:9090 --rules rules/checkout.yaml
  driftwatch check --at 2026-03-11T14:02:10Z --wait --act
  driftwatch flags list
  driftwatch explain DW104`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return p.fromEnvironment(cmd.Flags()) }
	root.AddCommand(p.checkCommand(), p.flagsCommand(), p.reportCommand(), p.feedbackCommand(), p.schemaCommand(),
		p.explainCommand(), p.versionCommand())
	return root
}

// noCommand refuses arguments that are no command, naming the nearest one.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if near, ok := suggest.Closest(args[0], known); ok {
		text += "; did you mean " + near + "?"
	}
	return usage("%s; see %s --help", text, cmd.CommandPath())
}

// flagError adds to an unknown option the one that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if near, ok := suggest.Closest(unknown.GetSpecifiedName(), known); ok {
			text += "; did you mean --" + near + "?"
		}
	}
	return usage("%s; see %s --help", text, cmd.CommandPath())
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no argument, got %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// oneArgument wants exactly one argument, called name.
func oneArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("%s takes one %s, got %d; see %s --help", cmd.CommandPath(), name, len(args), cmd.CommandPath())
		}
		return nil
	}
}

// fromEnvironment sets every option that the command line did not give and that has a
// DRIFTWATCH_ variable.
func (p *program) fromEnvironment(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "DRIFTWATCH_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := p.getenv(name)
		if !ok || value == "" || f.Changed || f.Name == "help" || err != nil {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = usage("variable %s: %w", name, e)
		}
	})
	return err
}
