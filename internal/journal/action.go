package journal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// A Kind is what an action does to a flag.
type Kind string

// The kinds of action.
const (
	FlagOff Kind = "flag_off" // at most once per Key
	Restore Kind = "restore"  // by a person, as often as they like
)

// A Key names what an action is about. For FlagOff it is unique in the journal.
type Key struct {
	Rule      string // its path
	UpgradeID string // "" for a person's own action
	Source    string // name of the flag source
	Flag      string
}

// An Intent is an action that is about to be taken. It is written before the flag is, so
// that whoever comes after a crash knows where to look.
type Intent struct {
	Key
	ID     int64 // given by the journal
	Kind   Kind
	At     time.Time
	Change []byte // what is to be written, JSON
	By     string // "driftwatch", or who asked
}

func (in *Intent) sum() []byte {
	return sumOf(in.ID, in.Rule, in.UpgradeID, in.Source, in.Flag, string(in.Kind), in.At.UnixNano(), in.Change, in.By)
}

// An Outcome is what became of an intent. An intent may have several, one after the other,
// such as written_not_verified and later verified.
type Outcome struct {
	At             time.Time
	Outcome        string // verified, written_not_verified, failed, refused, already_off, ...
	Reason         string
	RevisionBefore string
	RevisionAfter  string
	Receipt        []byte // what the switch answered, JSON; holds the exact undo
	Evidence       []byte // of the proof, JSON
}

func (o *Outcome) sum(id, intent int64) []byte {
	return sumOf(id, intent, o.At.UnixNano(), o.Outcome, o.Reason, o.RevisionBefore, o.RevisionAfter, o.Receipt, o.Evidence)
}

// An Action is an intent with what became of it.
type Action struct {
	Intent
	Outcomes []Outcome // in the order in which they were appended; none = unresolved
}

// ErrAlreadyIntended is a FlagOff whose key is in the journal already.
var ErrAlreadyIntended = errors.New("this action is in the journal already")

// AppendIntent writes an intent and returns it with its ID. If the journal holds a FlagOff
// with the same key, by whatever process, it returns that one and ErrAlreadyIntended: its
// outcomes, or the flag itself, tell what became of it. If limits are given and forbid it, the
// error is a *LimitError; they are looked at while no other process can append. nil is for
// what a person wants.
func (j *Journal) AppendIntent(ctx context.Context, in Intent, limits *Limits) (Intent, error) {
	const op = "append intent"
	if in.Source == "" || in.Flag == "" || in.At.IsZero() || (in.Kind != FlagOff && in.Kind != Restore) {
		return Intent{}, &Error{Path: j.path, Op: op, Err: fmt.Errorf("%s of %q lacks its source, flag, kind or time", in.Kind, in.Flag)}
	}
	in.At = time.Unix(0, in.At.UnixNano()).UTC()
	var before *Intent
	err := j.write(ctx, op, func(ctx context.Context, tx *sql.Tx) (entry, error) {
		if in.Kind == FlagOff {
			known, err := j.intents(ctx, tx, `WHERE kind = 'flag_off' AND rule = $1 AND upgrade_id = $2 AND source = $3 AND flag = $4`,
				in.Rule, in.UpgradeID, in.Source, in.Flag)
			if err != nil {
				return entry{}, j.fault(op, err)
			}
			if len(known) > 0 {
				before = &known[0]
				return entry{}, nil
			}
		}
		if limits != nil {
			if err := j.allowed(ctx, tx, in, limits); err != nil {
				return entry{}, j.fault(op, err)
			}
		}
		// The sum covers the id, so the id is chosen here. The write lock is held.
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) + 1 FROM intent").Scan(&in.ID); err != nil {
			return entry{}, j.fault(op, err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO intent (id, rule, upgrade_id, source, flag, kind, at_ns, change, by, sum)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			in.ID, in.Rule, in.UpgradeID, in.Source, in.Flag, string(in.Kind), in.At.UnixNano(), bytesOf(in.Change), in.By, in.sum())
		return entry{"intent", in.ID, in.sum()}, j.fault(op, err)
	})
	switch {
	case err != nil:
		return Intent{}, err
	case before != nil:
		return *before, ErrAlreadyIntended
	}
	return in, nil
}

// AppendOutcome writes what became of an intent, after the outcomes that it has.
func (j *Journal) AppendOutcome(ctx context.Context, intent int64, o Outcome) error {
	const op = "append outcome"
	if o.Outcome == "" || o.At.IsZero() {
		return &Error{Path: j.path, Op: op, Err: fmt.Errorf("outcome of action %d lacks its name or its time", intent)}
	}
	o.Reason = textOf(o.Reason)
	return j.write(ctx, op, func(ctx context.Context, tx *sql.Tx) (entry, error) {
		known, err := j.intents(ctx, tx, "WHERE id = $1", intent)
		if err != nil {
			return entry{}, j.fault(op, err)
		}
		if len(known) == 0 {
			return entry{}, &NotFound{Path: j.path, What: "action", ID: fmt.Sprint(intent)}
		}
		var id int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) + 1 FROM outcome").Scan(&id); err != nil {
			return entry{}, j.fault(op, err)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO outcome
			(id, intent, at_ns, outcome, reason, revision_before, revision_after, receipt, evidence, sum)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			id, intent, o.At.UnixNano(), o.Outcome, o.Reason, o.RevisionBefore, o.RevisionAfter, bytesOf(o.Receipt), bytesOf(o.Evidence), o.sum(id, intent))
		return entry{"outcome", id, o.sum(id, intent)}, j.fault(op, err)
	})
}

// textOf is s without what PostgreSQL takes for no text. Words of other programs must not
// keep an outcome out of the journal.
func textOf(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Unresolved returns the intents without an outcome, oldest first: actions that a crash may
// have cut short. They are resolved by reading the flag.
func (j *Journal) Unresolved(ctx context.Context) ([]Intent, error) {
	ctx, cancel := j.within(ctx)
	defer cancel()
	out, err := j.intents(ctx, j.db, "WHERE NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.intent = intent.id) ORDER BY id")
	return out, j.fault("read intents", err)
}

// An ActionFilter chooses actions; its zero value chooses all.
type ActionFilter struct {
	UpgradeID string    // "" = any
	Source    string    // "" = any
	Flag      string    // "" = any
	Since     time.Time // intended at or after; zero = any
}

// Actions returns actions with their outcomes, oldest first.
func (j *Journal) Actions(ctx context.Context, f ActionFilter) ([]Action, error) {
	const op = "read actions"
	ctx, cancel := j.within(ctx)
	defer cancel()
	// Intents and outcomes belong to one state of the journal.
	tx, err := j.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, j.fault(op, err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	out, err := j.actions(ctx, tx, `WHERE (upgrade_id = $1 OR $1 = '') AND (source = $2 OR $2 = '') AND (flag = $3 OR $3 = '') AND at_ns >= $4`,
		f.UpgradeID, f.Source, f.Flag, since(f.Since))
	return out, j.fault(op, err)
}

// since is the nanosecond from which a filter chooses; a zero time chooses all.
func since(at time.Time) int64 {
	if at.IsZero() {
		return math.MinInt64
	}
	return at.UnixNano()
}

// actions are the intents that where chooses, oldest first, with their outcomes. An index has
// no sums, so what decides whether a flag is written is not looked up in one: hence the + 0.
func (j *Journal) actions(ctx context.Context, q queryer, where string, args ...any) ([]Action, error) {
	intents, err := j.intents(ctx, q, where+" ORDER BY id", args...)
	if err != nil {
		return nil, err
	}
	outcomes, err := j.outcomes(ctx, q, "WHERE intent + 0 IN (SELECT id FROM intent "+where+")", args...)
	if err != nil {
		return nil, err
	}
	out := make([]Action, len(intents))
	for i, in := range intents {
		out[i] = Action{in, outcomes[in.ID]}
	}
	return out, nil
}

// A queryer is a database or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls row for every row of a query, until it fails.
func each(ctx context.Context, q queryer, row func(scan func(into ...any) error) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (j *Journal) intents(ctx context.Context, q queryer, where string, args ...any) ([]Intent, error) {
	var out []Intent
	err := each(ctx, q, func(scan func(...any) error) error {
		var in Intent
		var at int64
		var sum []byte
		if err := scan(&in.ID, &in.Rule, &in.UpgradeID, &in.Source, &in.Flag, &in.Kind, &at, &in.Change, &in.By, &sum); err != nil {
			return err
		}
		in.At = time.Unix(0, at).UTC()
		if !bytes.Equal(sum, in.sum()) {
			return j.damaged("read intents", fmt.Errorf("intent %d is not what was stored", in.ID))
		}
		out = append(out, in)
		return nil
	}, "SELECT id, rule, upgrade_id, source, flag, kind, at_ns, change, by, sum FROM intent "+where, args...)
	return out, err
}

// outcomes are those that where chooses, by their intent, in the order in which they were
// appended.
func (j *Journal) outcomes(ctx context.Context, q queryer, where string, args ...any) (map[int64][]Outcome, error) {
	out := map[int64][]Outcome{}
	err := each(ctx, q, func(scan func(...any) error) error {
		var o Outcome
		var id, intent, at int64
		var sum []byte
		if err := scan(&id, &intent, &at, &o.Outcome, &o.Reason, &o.RevisionBefore, &o.RevisionAfter, &o.Receipt, &o.Evidence, &sum); err != nil {
			return err
		}
		o.At = time.Unix(0, at).UTC()
		if !bytes.Equal(sum, o.sum(id, intent)) {
			return j.damaged("read outcomes", fmt.Errorf("outcome %d of action %d is not what was stored", id, intent))
		}
		out[intent] = append(out[intent], o)
		return nil
	}, `SELECT id, intent, at_ns, outcome, reason, revision_before, revision_after, receipt, evidence, sum
		FROM outcome `+where+" ORDER BY id", args...)
	return out, err
}

// A Recovery is how the numbers stood after an action, at one time.
type Recovery struct {
	UpgradeID string
	State     string // watching, recovered, not_recovered, unclear, superseded
	At        time.Time
	Body      []byte // what it was concluded from, JSON
}

func (r *Recovery) sum() []byte { return sumOf(r.UpgradeID, r.State, r.At.UnixNano(), r.Body) }

// AppendRecovery writes a state of the recovery of an upgrade.
func (j *Journal) AppendRecovery(ctx context.Context, r Recovery) error {
	const op = "append recovery"
	if r.UpgradeID == "" || r.State == "" || r.At.IsZero() {
		return &Error{Path: j.path, Op: op, Err: fmt.Errorf("recovery of upgrade %q lacks its upgrade, state or time", r.UpgradeID)}
	}
	return j.write(ctx, op, func(ctx context.Context, tx *sql.Tx) (entry, error) {
		var id int64
		err := tx.QueryRowContext(ctx, "INSERT INTO recovery (upgrade_id, state, at_ns, body, sum) VALUES ($1, $2, $3, $4, $5) RETURNING id",
			r.UpgradeID, r.State, r.At.UnixNano(), bytesOf(r.Body), r.sum()).Scan(&id)
		return entry{"recovery", id, r.sum()}, j.fault(op, err)
	})
}

// Recoveries returns the states of the recovery of an upgrade, in the order in which they
// were appended.
func (j *Journal) Recoveries(ctx context.Context, upgradeID string) ([]Recovery, error) {
	const op = "read recovery"
	ctx, cancel := j.within(ctx)
	defer cancel()
	var out []Recovery
	err := each(ctx, j.db, func(scan func(...any) error) error {
		var r Recovery
		var at int64
		var sum []byte
		if err := scan(&r.UpgradeID, &r.State, &at, &r.Body, &sum); err != nil {
			return err
		}
		r.At = time.Unix(0, at).UTC()
		if !bytes.Equal(sum, r.sum()) {
			return j.damaged(op, fmt.Errorf("a recovery state of %s is not what was stored", upgradeID))
		}
		out = append(out, r)
		return nil
	}, "SELECT upgrade_id, state, at_ns, body, sum FROM recovery WHERE upgrade_id || '' = $1 ORDER BY id", upgradeID) // past the index, as actions
	return out, j.fault(op, err)
}
