package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
)

// shadowDays is how far back dry runs are counted. In a month most services are upgraded often
// enough to tell how acting would have gone. Shorter, and one good week decides; longer, and it
// counts what another rule or another driftwatch judged.
const shadowDays = 30

// Shadow counts the upgrades of a service, in the 30 days up to now, because of which a report
// would have turned a flag off, had it had consent or approval, and how many of them a person
// marked as false alarms: the last opinion holds. Those of also count, too, whether or not the
// journal has a report on them yet.
func Shadow(ctx context.Context, j *journal.Journal, service, flag string, now time.Time, also ...string) (report.Shadow, error) {
	out := report.Shadow{Days: shadowDays}
	fail := func(err error) (report.Shadow, error) {
		return report.Shadow{}, fmt.Errorf("count the dry runs of %s: %w", flag, err)
	}
	since := now.AddDate(0, 0, -shadowDays)
	records, err := j.Records(ctx, journal.RecordFilter{Service: service, Verdict: string(report.Regressed), Since: since, Until: now.Add(1)})
	if err != nil {
		return fail(err)
	}
	upgrades := map[string]bool{}
	for _, id := range also {
		upgrades[id] = true
	}
	for _, r := range records {
		if upgrades[r.UpgradeID] {
			continue
		}
		if r, err = j.Record(ctx, r.ID); err != nil {
			return fail(err)
		}
		would, err := wouldAct(r.Report, flag)
		if err != nil {
			return fail(fmt.Errorf("read report %s: %w", r.ID, err))
		}
		if would {
			upgrades[r.UpgradeID] = true
		}
	}
	said, err := j.Feedbacks(ctx, journal.FeedbackFilter{Service: service, Since: since})
	if err != nil {
		return fail(err)
	}
	falsely := map[string]bool{}
	for _, f := range said {
		if f.Kind != journal.Comment && upgrades[f.UpgradeID] {
			falsely[f.UpgradeID] = f.Kind == journal.FalseAlarm
		}
	}
	out.Times = len(upgrades)
	for _, marked := range falsely {
		if marked {
			out.MarkedFalse++
		}
	}
	return out, nil
}

// wouldAct reports whether a stored report says that it would have turned a flag off.
func wouldAct(body []byte, flag string) (bool, error) {
	var r struct {
		Actions []struct {
			Flag    string         `json:"flag"`
			Outcome report.Outcome `json:"outcome"`
		} `json:"actions"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return false, err
	}
	for _, a := range r.Actions {
		if a.Flag == flag && a.Outcome == report.DryRun {
			return true, nil
		}
	}
	return false, nil
}

// shadow is how often the rule's flag would have been turned off, this upgrade included; nil
// where there is no journal to know it from. What it cannot read is no reason not to report.
func (s *session) shadow(ctx context.Context, flag int) *report.Shadow {
	if s.Journal == nil {
		return nil
	}
	now := s.in.Now
	if now.IsZero() {
		now = s.now
	}
	out, err := Shadow(ctx, s.Journal, s.Rule.Service, s.Rule.Flags[flag].Key, now, s.in.UpgradeID)
	if err != nil {
		s.warn(err.Error())
		return nil
	}
	return &out
}
