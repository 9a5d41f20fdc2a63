package worker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func TestIncidentsAreLeftOut(t *testing.T) {
	s, _, _ := newSession(t)
	hours := func(h float64) report.Time { return report.At(at.Add(time.Duration(h * float64(time.Hour)))) }
	// keep puts the report on an upgrade so many hours from ours into the journal, and what people
	// said about it.
	keep := func(before float64, recovery report.Recovery, rule string, said ...journal.FeedbackKind) string {
		t.Helper()
		other := *s.Rule
		other.Path = rule
		id := upgradeID(telemetry.Upgrade{At: hours(-before).Time}, &other)
		r := report.Report{
			Schema: report.SchemaName, ID: id + "-1", UpgradeID: report.Word(id), Service: other.Service, Verdict: report.Regressed,
			Now: hours(-before + 1.5), Recovery: recovery,
			Deploy:  &report.Deploy{Started: hours(-before - 0.1), At: hours(-before)},
			Windows: &report.Windows{Post: &[2]report.Time{hours(-before + 0.05), hours(-before + 1)}},
		}
		err := s.Journal.PutRecord(t.Context(), journal.Record{ID: r.ID, UpgradeID: id, Service: r.Service, RulePath: rule, Now: r.Now.Time, Verdict: "regressed", Report: r.JSON()})
		if err != nil {
			t.Fatal(err)
		}
		for i, kind := range said {
			f := journal.Feedback{ReportID: r.ID, UpgradeID: id, Service: r.Service, Kind: kind, Text: "so", By: "on-call", At: at.Add(time.Duration(i) * time.Second)}
			if err := s.Journal.AppendFeedback(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		return id
	}
	none := report.Recovery{State: report.RecoveryNone}
	watched := keep(100, none, s.Rule.Path, journal.Real)
	back := keep(80, report.Recovery{State: report.Recovered, Since: hours(-79.5)}, s.Rule.Path, journal.FalseAlarm, journal.Real, journal.Comment)
	notBack := keep(60, report.Recovery{State: report.NotRecovered}, s.Rule.Path, journal.Real)
	keep(50, none, s.Rule.Path, journal.Real, journal.FalseAlarm) // they changed their minds
	keep(40, none, s.Rule.Path, journal.Comment)
	keep(30, none, s.Rule.Path)
	keep(20, none, "other.yaml", journal.Real)
	keep(0, none, s.Rule.Path, journal.Real)   // the upgrade itself
	keep(-10, none, s.Rule.Path, journal.Real) // a later one, when an old deploy is judged again

	s.history.excluded = [][2]int{{-5000, -4996}}
	s.history.kept = []int{-5000, -4800}
	s.leaveOut(t.Context())
	// By hand, in minutes from the upgrade: a rollout begins 6 minutes before its end; it did harm
	// until the end of the watch, until the numbers were back, until the last look after the action.
	want := [][2]int{{-5000, -4996}, {-6006, -5939}, {-4806, -4769}, {-3606, -3509}}
	if !slices.Equal(s.history.excluded, want) {
		t.Errorf("excluded %v, want %v", s.history.excluded, want)
	}
	if want := []int{-5000}; !slices.Equal(s.history.kept, want) {
		t.Errorf("upgrades whose restarts count are %v, want %v: one was an incident", s.history.kept, want)
	}
	if len(s.in.Warnings) != 1 || !strings.HasSuffix(s.in.Warnings[0], strings.Join([]string{watched, back, notBack}, ", ")) {
		t.Errorf("the report says %q", s.in.Warnings)
	}
}

// A journal that cannot be read takes nothing from the check, and the report says what it lacks.
func TestFeedbackThatCannotBeRead(t *testing.T) {
	s, _, _ := newSession(t)
	if err := s.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	s.leaveOut(t.Context())
	if len(s.history.excluded) != 0 || len(s.in.Warnings) != 1 || !strings.Contains(s.in.Warnings[0], "not left out of the history") {
		t.Errorf("excluded %v, warnings %q", s.history.excluded, s.in.Warnings)
	}
}
