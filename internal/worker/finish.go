package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// finish closes the record of the check, computes the report from it, and keeps both.
func (s *session) finish(ctx context.Context, pictures *report.Pictures) (*report.Report, error) {
	s.close()
	kept := s.keepCalibrations(ctx)
	if err := s.keepPictures(ctx, pictures); err != nil {
		s.Log.Error("the pictures of the report are not kept", "error", err)
	}
	body, err := json.Marshal(&s.in)
	if err != nil {
		return nil, fmt.Errorf("write the inputs of %s: %w", s.in.UpgradeID, err)
	}
	r := s.in.report(s.Rule, s.history.calibrations, recordID(&s.in, body))
	r.Pictures = pictures
	if s.Journal == nil {
		return r, nil
	}
	if err = kept; err == nil {
		err = s.Journal.PutRecord(ctx, journal.Record{
			ID: r.ID, UpgradeID: s.in.UpgradeID, Service: s.Rule.Service, RulePath: s.Rule.Path, Now: s.in.Now,
			Verdict: string(r.Verdict), ExitCode: r.ExitCode, Body: body, Report: r.JSON(),
		})
	}
	if err != nil {
		// What was found and done is worth more than its copy.
		s.Log.Error("the report is not kept", "id", r.ID, "error", err)
	}
	return r, nil
}

// failed is the report on a check that could not read. It is not kept: nothing was judged.
func (s *session) failed(message *report.Message) *report.Report {
	s.close()
	s.in.Failure = message
	s.in.Tracks, s.in.Buckets, s.in.Lacking = nil, nil, nil
	return s.in.report(s.Rule, nil, recordID(&s.in, []byte(message.String())))
}

// close fills in what is the same for every end.
func (s *session) close() {
	s.in.Tool, s.in.RulePath, s.in.RuleText = s.Tool, s.Rule.Path, string(s.Rule.Text)
	s.in.RequireData = s.RequireData
	s.in.Upgrade = s.upgrade
	if s.in.Now.IsZero() {
		s.in.Now = s.now
	}
	if s.in.Now.IsZero() {
		s.in.Now = s.present()
	}
	s.in.Stats.TotalS = s.Clock().Sub(s.begun).Seconds()
}

// recordID is the upgrade's id, or the service and the time where there is none, and 8 hex
// digits of the hash of the inputs.
func recordID(in *Inputs, body []byte) string {
	sum := sha256.Sum256(body)
	id := in.UpgradeID
	if id == "" {
		id = in.Now.UTC().Format("20060102-150405") + "-none"
	}
	return id + "-" + hex.EncodeToString(sum[:4])
}

// report computes the report from the inputs. It is pure.
func (in *Inputs) report(r *rule.Rule, calibrations []baseline.Calibration, id string) *report.Report {
	out := report.Input{
		Tool: in.Tool, ID: id, UpgradeID: in.UpgradeID, Now: in.Now, RequireData: in.RequireData,
		Rule: r, Upgrade: in.Upgrade, Geometry: in.Geometry, Complete: in.Complete, Failure: in.Failure,
		Actions: in.Actions, Recovery: in.Recovery, Stats: in.Stats, Warnings: in.Warnings, Queries: in.Queries,
	}
	if in.Upgrade != nil {
		out.Path = flags.PathOf(r, *in.Upgrade)
	}
	if in.Rollout != nil {
		out.Updated, out.Targets = in.Rollout.Have, in.Rollout.Need
	}
	if in.Failure == nil {
		out.Judgement = in.judge(r, calibrations)
		if days := out.Judgement.Days; days > 0 {
			out.Season = fmt.Sprintf("%d days", days)
		}
	}
	return report.New(out)
}

// Replay computes a stored report again from what the journal keeps. It fails if the result
// differs from what was stored, and when the journal lacks the record or its calibrations.
func Replay(ctx context.Context, j *journal.Journal, id string) (*report.Report, error) {
	record, err := j.Record(ctx, id)
	if err != nil {
		return nil, err
	}
	var in Inputs
	if err := json.Unmarshal(record.Body, &in); err != nil {
		return nil, fmt.Errorf("read the inputs of %s: %w", record.ID, err)
	}
	rules, err := rule.Parse(in.RulePath, []byte(in.RuleText))
	if err != nil {
		return nil, fmt.Errorf("read the rule of %s: %w", record.ID, err)
	}
	if len(rules) != 1 {
		return nil, fmt.Errorf("read the rule of %s: it holds %d documents, not one", record.ID, len(rules))
	}
	var calibrations []baseline.Calibration
	if in.Calibrations != "" {
		body, err := j.Blob(ctx, in.Calibrations)
		if err != nil {
			return nil, fmt.Errorf("read the calibrations of %s: %w", record.ID, err)
		}
		if err := json.Unmarshal(body, &calibrations); err != nil {
			return nil, fmt.Errorf("read the calibrations of %s: %w", record.ID, err)
		}
	}
	r := in.report(rules[0], calibrations, record.ID)
	if string(r.JSON()) != string(record.Report) {
		return nil, fmt.Errorf("%s does not recompute to the same report: it was written by driftwatch %s; judge with that version", record.ID, in.Tool)
	}
	r.Pictures = storedPictures(ctx, j, in.Pictures)
	return r, nil
}

// keepRecovery appends a new state of the recovery to the journal.
func (s *session) keepRecovery(ctx context.Context) {
	body, err := json.Marshal(s.in.Recovery)
	if err == nil {
		err = s.Journal.AppendRecovery(ctx, journal.Recovery{UpgradeID: s.in.UpgradeID, State: s.in.Recovery.State, At: s.present(), Body: body})
	}
	if err != nil {
		s.Log.Error("the recovery is not kept", "state", s.in.Recovery.State, "error", err)
	}
}

// windows tells what is going to be compared.
func (s *session) windows(g baseline.Geometry) string {
	return s.Progress.Windows(
		telemetry.Window{Start: s.stepTime(g.BaselineStart()), End: s.stepTime(-g.Gap)},
		telemetry.Window{Start: s.stepTime(g.Guard), End: s.stepTime(g.Horizon)}, s.Rule.Windows.Guard)
}
