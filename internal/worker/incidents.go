package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
)

// knownIncidents are the steps of earlier incidents of this rule that people marked as real, one
// range for each, and the upgrades that they belong to. A placebo that touches one would make a
// regression look like chance. What cannot be read is warned of and left in: the check is then
// less sensitive, and not wrong about its false alarms.
func (s *session) knownIncidents(ctx context.Context) (steps [][2]int, upgrades []string) {
	if s.Journal == nil {
		return nil, nil
	}
	feedback, err := s.Journal.Feedbacks(ctx, journal.FeedbackFilter{Service: s.Rule.Service})
	if err != nil {
		s.warn(fmt.Sprintf("feedback cannot be read, so incidents marked real are not left out of the history: %v", err))
		return nil, nil
	}
	own := upgradeID(*s.upgrade, s.Rule)
	ofRule := own[strings.LastIndex(own, "-"):] // another rule of the service looks at other series
	for _, f := range journal.LastWords(feedback) {
		if f.Kind != journal.Real || f.UpgradeID == own || !strings.HasSuffix(f.UpgradeID, ofRule) {
			continue
		}
		from, to, err := s.incident(ctx, f.UpgradeID)
		switch {
		case err != nil:
			s.warn(fmt.Sprintf("%s is marked as real and cannot be read, so it is not left out of the history: %v", f.UpgradeID, err))
		case from.Before(to) && from.Before(s.upgrade.Started):
			steps = append(steps, [2]int{s.stepOf(from), s.stepOf(to) + 1})
			upgrades = append(upgrades, f.UpgradeID)
		}
	}
	return steps, upgrades
}

// incident is how long an upgrade did harm, as far as its newest report knows: from the
// beginning of the rollout until the numbers were back, or until nobody looked any more.
func (s *session) incident(ctx context.Context, upgrade string) (from, to time.Time, err error) {
	records, err := s.Journal.Records(ctx, journal.RecordFilter{UpgradeID: upgrade, Limit: 1})
	if err != nil || len(records) == 0 {
		return from, to, err
	}
	record, err := s.Journal.Record(ctx, records[0].ID)
	if err != nil {
		return from, to, err
	}
	r, err := report.Parse(record.Report)
	if err != nil || r.Deploy == nil {
		return from, to, err
	}
	if from = r.Deploy.Started.Time; from.IsZero() {
		from = r.Deploy.At.Time
	}
	switch {
	case r.Recovery.State == report.Recovered && !r.Recovery.Since.IsZero():
		to = r.Recovery.Since.Time
	case r.Recovery.State != report.RecoveryNone:
		to = r.Now.Time
	case r.Windows != nil && r.Windows.Post != nil:
		to = r.Windows.Post[1].Time
	}
	return from, to, nil
}

// leaveOut takes the incidents that people marked as real out of the history, and the upgrades
// in them out of those that show what a restart does.
func (s *session) leaveOut(ctx context.Context) {
	steps, upgrades := s.knownIncidents(ctx)
	if len(steps) == 0 {
		return
	}
	s.history.excluded = slices.Concat(s.history.excluded, steps)
	s.history.kept = slices.DeleteFunc(s.history.kept, func(k int) bool {
		return slices.ContainsFunc(steps, func(r [2]int) bool { return r[0] <= k && k < r[1] })
	})
	s.warn("left out of the history, because people marked them as real: " + strings.Join(upgrades, ", "))
}
