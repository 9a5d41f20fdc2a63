package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/worker"
)

func (p *program) reportCommand() *cobra.Command {
	reports := &cobra.Command{
		Use:   "report",
		Short: "List, show and serve stored reports",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	reports.AddCommand(p.reportListCommand(), p.reportShowCommand(), p.reportServeCommand())
	return reports
}

func (p *program) reportListCommand() *cobra.Command {
	var w world
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List stored reports, newest first",
		Example: "  driftwatch report list --service checkout-api",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := w.openJournal(cmd.Context())
			if err != nil {
				return err
			}
			defer j.Close()
			records, err := j.Records(cmd.Context(), journal.RecordFilter{Service: w.service, Limit: limit})
			if err != nil {
				return err
			}
			tw := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(tw, "ID\tSERVICE\tJUDGED AT\tVERDICT\tEXIT")
			for _, r := range records {
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\n", r.ID, r.Service, r.Now.UTC().Format("2006-01-02 15:04:05 UTC"), r.Verdict, r.ExitCode)
			}
			return tw.Flush()
		},
	}
	w.journalFlags(cmd)
	cmd.Flags().StringVar(&w.service, "service", "", "only reports of this service")
	cmd.Flags().IntVar(&limit, "limit", 30, "at most this many")
	return cmd
}

func (p *program) reportShowCommand() *cobra.Command {
	var w world
	var o output
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a stored report",
		Long:  "Show a stored report. A unique beginning of its id is enough.",
		Example: `  driftwatch report show 20260311-140210-checkout-api
  driftwatch report show 20260311-140210-checkout-api-3fa2-9c01d2e4 -o json
  driftwatch report show 20260311-140210-checkout-api -o html > report.html`,
		Args: oneArgument("report id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			j, err := w.openJournal(cmd.Context())
			if err != nil {
				return err
			}
			defer j.Close()
			record, err := j.Record(cmd.Context(), args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			stored, err := worker.Stored(cmd.Context(), j, record)
			if err != nil {
				return err
			}
			stored.Said = worker.Said(cmd.Context(), j, record)
			p.surround(&w, &o)
			return p.write(stored, &o)
		},
	}
	w.journalFlags(cmd)
	o.flags(cmd)
	return cmd
}
