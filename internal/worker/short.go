package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// short hands over what a judgement without history compares; nothing where there is history
// enough. recent are the steps of baseline and post window, with every bucket.
func (s *session) short(ctx context.Context, recent []query.Result) error {
	s.in.Short, s.in.Waiting = nil, false
	endpoints := map[telemetry.Endpoint]bool{}
	for _, r := range recent {
		for _, row := range r.Counts.Rows {
			endpoints[row.Endpoint] = true
		}
	}
	calibrations := make([]*baseline.Calibration, len(s.history.calibrations))
	for i := range calibrations {
		calibrations[i] = &s.history.calibrations[i]
	}
	if !detect.ShortApplies(calibrations, s.in.Geometry, len(endpoints)) {
		return nil
	}
	for signal, sig := range s.Rule.Signals {
		of, per := countsOf(recent, signal)
		s.in.Short = append(s.in.Short, baseline.NewShortSeries(signal, sig, s.in.Geometry, s.in.Complete, of, per)...)
	}
	s.in.Waiting = s.Wait && s.replaced.IsZero() && len(s.in.WrittenAt) == 0 && !s.over()
	return s.judgedBefore(ctx)
}

// countsOf are the counts of one signal among what was read.
func countsOf(results []query.Result, signal int) (of, per []*telemetry.Counts) {
	for i := range results {
		switch r := &results[i]; {
		case r.Read.Signal != signal:
		case r.Read.Part == query.Per:
			per = append(per, &r.Counts)
		default:
			of = append(of, &r.Counts)
		}
	}
	return of, per
}

// judgedBefore finds out whether an earlier check judged this upgrade without history.
func (s *session) judgedBefore(ctx context.Context) error {
	if s.Journal == nil || s.in.JudgedBefore {
		return nil
	}
	records, err := s.Journal.Records(ctx, journal.RecordFilter{UpgradeID: s.in.UpgradeID})
	if err != nil {
		return fmt.Errorf("read earlier reports: %w", err)
	}
	for _, r := range records {
		record, err := s.Journal.Record(ctx, r.ID)
		if err != nil {
			return fmt.Errorf("read the report %s: %w", r.ID, err)
		}
		var earlier struct {
			Calibration struct{ Tier string }
		}
		if err := json.Unmarshal(record.Report, &earlier); err != nil {
			return fmt.Errorf("read the report %s: %w", r.ID, err)
		}
		if earlier.Calibration.Tier == "short" {
			s.in.JudgedBefore = true
			return nil
		}
	}
	return nil
}
