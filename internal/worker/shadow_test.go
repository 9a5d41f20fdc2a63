package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// keep stores a report on an upgrade, with one action.
func keep(t *testing.T, j *journal.Journal, service, upgrade string, now time.Time, verdict report.Verdict, a report.Action) {
	t.Helper()
	r := report.Report{Actions: []report.Action{a}}
	err := j.PutRecord(t.Context(), journal.Record{
		ID: fmt.Sprintf("%s-%d", upgrade, now.Unix()), UpgradeID: upgrade, Service: service, Now: now, Verdict: string(verdict), Report: r.JSON(),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The dry runs of a flag are counted by upgrade, over 30 days, with what people said of them.
func TestShadowRecord(t *testing.T) {
	s, _, _ := newSession(t)
	j, now := s.Journal, s.present()
	s.now, s.in.UpgradeID = now, "this"
	const service, flag = "checkout-api", "new-backoff"
	dry := report.Action{Kind: "flag_off", Flag: flag, Outcome: report.DryRun, Reason: report.ReasonDryRun}
	plan, other, acted := dry, dry, dry
	plan.Reason, other.Flag, acted.Outcome = report.ReasonApproval, "other", report.Verified
	days := func(n int) time.Time { return now.AddDate(0, 0, -n) }
	say := func(upgrade string, kind journal.FeedbackKind, at time.Time) {
		t.Helper()
		err := j.AppendFeedback(t.Context(), journal.Feedback{ReportID: upgrade + "-1", UpgradeID: upgrade, Service: service, Kind: kind, Text: "seen", By: "a person", At: at})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(times, marked int) {
		t.Helper()
		if got := s.shadow(t.Context(), 0); got == nil || *got != (report.Shadow{Times: times, Days: 30, MarkedFalse: marked}) {
			t.Errorf("shadow %+v, want %d times, %d marked false; warnings %q", got, times, marked, s.in.Warnings)
		}
	}
	want(1, 0) // this one

	keep(t, j, service, "this", days(0).Add(-time.Minute), report.Regressed, dry) // an earlier look at the same upgrade
	want(1, 0)
	keep(t, j, service, "a", days(3), report.Regressed, dry)
	keep(t, j, service, "a", days(3).Add(time.Minute), report.Regressed, dry)
	keep(t, j, service, "b", days(30), report.Regressed, plan)
	want(3, 0)
	keep(t, j, service, "too old", days(31), report.Regressed, dry)
	keep(t, j, service, "of the future", days(-1), report.Regressed, dry)
	keep(t, j, service, "another flag", days(1), report.Regressed, other)
	keep(t, j, service, "acted", days(1), report.Regressed, acted)
	keep(t, j, "search", "another service", days(1), report.Regressed, dry)
	want(3, 0)

	say("a", journal.FalseAlarm, days(2))
	say("acted", journal.FalseAlarm, days(1)) // it was no dry run
	want(3, 1)
	say("b", journal.FalseAlarm, days(2))
	say("b", journal.Comment, days(1))
	want(3, 2)
	say("b", journal.Real, days(1))
	say("this", journal.FalseAlarm, days(0))
	want(3, 2)

	// One that cannot be read is a warning, and no report is lost over it.
	if err := j.PutRecord(t.Context(), journal.Record{ID: "torn", UpgradeID: "torn", Service: service, Now: days(1), Verdict: "regressed", Report: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	if got := s.shadow(t.Context(), 0); got != nil || len(s.in.Warnings) != 1 || !strings.Contains(s.in.Warnings[0], "count the dry runs of new-backoff: read report torn") {
		t.Errorf("shadow %+v, warnings %q", got, s.in.Warnings)
	}
	s.Journal = nil
	if got := s.shadow(t.Context(), 0); got != nil {
		t.Errorf("shadow %+v without a journal", got)
	}
}

// newRegressedSession is a session that may act: one row behind its flag is regressed.
func newRegressedSession(t *testing.T) (s *session, path string) {
	t.Helper()
	s, _, path = newSession(t)
	s.now, s.in.UpgradeID, s.defined = s.present(), "this", map[int]string{}
	s.Limits = flags.Limits{PerHour: 9, PerDay: 9}
	s.Rule.Alpha.Act, s.Rule.Windows.Horizon = 0.01, time.Hour
	s.Rule.Signals = []rule.Signal{{Name: "latency"}}
	s.judged = detect.Judgement{
		Verdict: detect.Regressed, Tier: "full", RestartCovered: true,
		Rows: []detect.Row{{Endpoint: telemetry.NewEndpoint("/pay"), Flag: 0, Verdict: detect.Regressed, QAct: 0.001, StillThere: true, RegressedAt: 10}},
	}
	return s, path
}

// A flag that somebody changed while the upgrade was watched is theirs, and the report says so.
func TestATouchedFlagIsLeftAlone(t *testing.T) {
	s, path := newRegressedSession(t)
	s.Act = true
	if err := s.checkFlags(t.Context()); err != nil { // as when the check began
		t.Fatal(err)
	}
	touched := strings.Replace(flagText, `"defaultVariant": "on"`, `"defaultVariant": "on", "targeting": {"if": [{"==": [{"var": "tier"}, "gold"]}, "off", "on"]}`, 1)
	if err := os.WriteFile(path, []byte(touched), 0o644); err != nil {
		t.Fatal(err)
	}
	action, again, err := s.actOn(t.Context(), 0)
	if err != nil || again || action.Outcome != report.Refused || action.Reason != report.ReasonTouched {
		t.Errorf("%+v, again %v, %v; want refused as touched", action, again, err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != touched {
		t.Errorf("the flag file changed: %v", err)
	}
}

// A dry run tells how often it would have acted, and the record holds what it told.
func TestADryRunTellsItsShadowRecord(t *testing.T) {
	s, _ := newRegressedSession(t)
	keep(t, s.Journal, "checkout-api", "before", s.now.AddDate(0, 0, -5), report.Regressed, report.Action{Flag: "new-backoff", Outcome: report.DryRun})
	for _, approval := range []bool{false, true} {
		s.Act, s.Approval = approval, Approval{Required: approval, Plans: t.TempDir(), Valid: time.Hour}
		action, again, err := s.actOn(t.Context(), 0)
		if err != nil || again || action.Outcome != report.DryRun || (action.Plan != "") != approval {
			t.Fatalf("approval %v: %+v, again %v, %v", approval, action, again, err)
		}
		if action.Shadow == nil || *action.Shadow != (report.Shadow{Times: 2, Days: 30}) {
			t.Errorf("approval %v: shadow %+v, want twice in 30 days", approval, action.Shadow)
		}
		s.in.Actions = []report.Action{action}
		body, err := json.Marshal(&s.in)
		if err != nil {
			t.Fatal(err)
		}
		var kept Inputs
		if err := json.Unmarshal(body, &kept); err != nil || !reflect.DeepEqual(kept.Actions, s.in.Actions) {
			t.Errorf("kept as %+v, %v", kept.Actions, err)
		}
	}
}
