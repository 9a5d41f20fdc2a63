package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/report"
)

func (p *program) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain CODE",
		Short:   "Print the long form of a message code such as DW104",
		Example: "  driftwatch explain DW104",
		Args:    oneArgument("message code"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, ok := report.Explain(args[0])
			if !ok {
				return usage("no message has the code %q; codes look like DW104", args[0])
			}
			fmt.Fprintln(p.stdout, text)
			return nil
		},
	}
}
