package main

import (
	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/report"
)

func (p *program) schemaCommand() *cobra.Command {
	schema := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of what driftwatch writes",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	schema.AddCommand(&cobra.Command{
		Use:     "report",
		Short:   "Print the JSON Schema of a report (driftwatch check -o json)",
		Example: "  driftwatch schema report > report.schema.json",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := p.stdout.Write(report.Schema())
			return err
		},
	})
	return schema
}
