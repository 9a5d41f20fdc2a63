package journal

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A FeedbackKind is what a person says about a report.
type FeedbackKind string

// The kinds of feedback.
const (
	Real       FeedbackKind = "real"        // there was a regression
	FalseAlarm FeedbackKind = "false_alarm" // there was none
	Comment    FeedbackKind = "comment"
)

// A Feedback is what a person says about a report.
type Feedback struct {
	ReportID  string
	UpgradeID string // of the report; "" where it found no upgrade
	Service   string
	Kind      FeedbackKind
	Text      string // needed for a Comment
	By        string
	At        time.Time
}

func (f *Feedback) sum(id int64) []byte {
	return sumOf(id, f.ReportID, f.UpgradeID, f.Service, string(f.Kind), f.Text, f.By, f.At.UnixNano())
}

// AppendFeedback writes a feedback, after those that are there. Whether there is such a report
// is the caller's to know.
func (j *Journal) AppendFeedback(ctx context.Context, f Feedback) error {
	const op = "append feedback"
	fail := func(format string, args ...any) error {
		return &Error{Path: j.path, Op: op, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case f.ReportID == "" || f.At.IsZero():
		return fail("feedback on report %q lacks its report or its time", f.ReportID)
	case f.Kind != Real && f.Kind != FalseAlarm && f.Kind != Comment:
		return fail("%q is no kind of feedback; write %s, %s or %s", f.Kind, Real, FalseAlarm, Comment)
	case f.Kind == Comment && f.Text == "":
		return fail("a comment on report %q says nothing", f.ReportID)
	}
	f.Text, f.By = textOf(f.Text), textOf(f.By)
	return j.write(ctx, op, func(ctx context.Context, tx *sql.Tx) (entry, error) {
		var id int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) + 1 FROM feedback").Scan(&id); err != nil {
			return entry{}, j.fault(op, err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO feedback (id, report_id, upgrade_id, service, kind, text, by, at_ns, sum)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			id, f.ReportID, f.UpgradeID, f.Service, string(f.Kind), f.Text, f.By, f.At.UnixNano(), f.sum(id))
		return entry{"feedback", id, f.sum(id)}, j.fault(op, err)
	})
}

// A FeedbackFilter chooses feedback; its zero value chooses all.
type FeedbackFilter struct {
	ReportID  string    // "" = any
	UpgradeID string    // "" = any
	Service   string    // "" = any
	Since     time.Time // said then or later; zero = any
}

// Feedbacks returns feedback in the order in which it was appended. If some of it is not what was
// stored, the error says so and comes with the rest.
func (j *Journal) Feedbacks(ctx context.Context, f FeedbackFilter) ([]Feedback, error) {
	const op = "read feedback"
	ctx, cancel := j.within(ctx)
	defer cancel()
	var out []Feedback
	var damaged error
	err := each(ctx, j.db, func(scan func(...any) error) error {
		var f Feedback
		var id, at int64
		var sum []byte
		if err := scan(&id, &f.ReportID, &f.UpgradeID, &f.Service, &f.Kind, &f.Text, &f.By, &at, &sum); err != nil {
			return err
		}
		f.At = time.Unix(0, at).UTC()
		if !bytes.Equal(sum, f.sum(id)) {
			damaged = j.damaged(op, fmt.Errorf("feedback %d is not what was stored", id))
			return nil
		}
		out = append(out, f)
		return nil
	}, `SELECT id, report_id, upgrade_id, service, kind, text, by, at_ns, sum FROM feedback
		WHERE (report_id = $1 OR $1 = '') AND (upgrade_id = $2 OR $2 = '') AND (service = $3 OR $3 = '') AND at_ns >= $4 ORDER BY id`,
		f.ReportID, f.UpgradeID, f.Service, since(f.Since))
	if err != nil {
		return out, j.fault(op, err)
	}
	return out, damaged
}

// LastWords are the last judgement, real or false alarm, about every upgrade, or about every
// report that found none, in the order in which they were given. People may change their minds,
// and comments judge nothing.
func LastWords(said []Feedback) []Feedback {
	about := func(f Feedback) string {
		if f.UpgradeID != "" {
			return f.UpgradeID
		}
		return f.ReportID
	}
	last := map[string]int{}
	for i, f := range said {
		if f.Kind != Comment {
			last[about(f)] = i
		}
	}
	var out []Feedback
	for _, i := range slices.Sorted(maps.Values(last)) {
		out = append(out, said[i])
	}
	return out
}
