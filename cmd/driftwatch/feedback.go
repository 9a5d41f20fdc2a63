package main

import (
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/journal"
)

// feedbackKinds are what a person may say, as they write it.
var feedbackKinds = []string{string(journal.Real), string(journal.FalseAlarm), string(journal.Comment)}

func (p *program) feedbackCommand() *cobra.Command {
	var w world
	var by string
	cmd := &cobra.Command{
		Use:   "feedback ID real|false_alarm|comment [TEXT]",
		Short: "Say whether a report was right",
		Long: `Say about a report that the regression was real or a false alarm, or comment on it. What was
said last counts; nothing is deleted. A false alarm counts in the figures of the history page.
A real incident is left out of the history that later upgrades are compared with.

A unique beginning of the report's id is enough.`,
		Example: `  driftwatch feedback 20260311-140210-checkout-api false_alarm 'index rebuild, planned'
  driftwatch feedback 20260311-140210-checkout-api-3fa2-9c01d2e4 real`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage("%s takes a report id and one of %s, got %d arguments; see %s --help", cmd.CommandPath(), strings.Join(feedbackKinds, ", "), len(args), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, text := journal.FeedbackKind(args[1]), strings.Join(args[2:], " ")
			switch kind {
			case journal.Real, journal.FalseAlarm:
			case journal.Comment:
				if strings.TrimSpace(text) == "" {
					return usage("a comment says something; write it behind %s", kind)
				}
			default:
				return usage("%q is no kind of feedback; write one of %s", args[1], strings.Join(feedbackKinds, ", "))
			}
			if by == "" {
				by = "a person"
				if u, err := user.Current(); err == nil && u.Username != "" {
					by = u.Username
				}
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
			err = j.AppendFeedback(cmd.Context(), journal.Feedback{
				ReportID: record.ID, UpgradeID: record.UpgradeID, Service: record.Service, Kind: kind, Text: text, By: by, At: time.Now(),
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(p.stdout, "%s   %s by %s\n", record.ID, kind, by)
			return nil
		},
	}
	w.journalFlags(cmd)
	cmd.Flags().StringVar(&by, "by", "", "the `NAME` of whoever says it; default: the user that runs this")
	return cmd
}
