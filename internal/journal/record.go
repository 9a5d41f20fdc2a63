package journal

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Record is one judgement: its report, and all that the report was computed from.
type Record struct {
	Seq       int64 // order of appending, given by the journal
	ID        string
	UpgradeID string // "" where no upgrade was found
	Service   string
	RulePath  string
	Now       time.Time // judged as of
	Verdict   string
	ExitCode  int
	Body      []byte // inputs, JSON
	Report    []byte // JSON
}

func (r *Record) sum() []byte {
	return sumOf(r.ID, r.UpgradeID, r.Service, r.RulePath, r.Now.UnixNano(), r.Verdict, r.ExitCode, r.Body, r.Report)
}

// A NotFound is an entry that is not there, or a beginning of an id that several share.
type NotFound struct {
	Path string
	What string // "report", "blob", "action"
	ID   string
	Near []string // the nearest ids; if Many, some of those that ID begins
	Many int      // how many ids begin with ID; 0 = none
}

func (e *NotFound) Error() string {
	near := strings.Join(e.Near, ", ")
	switch {
	case e.Many > 0:
		return fmt.Sprintf("%s: %q is the beginning of %d %ss; write more of it: %s", e.Path, e.ID, e.Many, e.What, near)
	case near != "":
		return fmt.Sprintf("%s: no %s %q; the nearest are %s", e.Path, e.What, e.ID, near)
	}
	return fmt.Sprintf("%s: no %s %q", e.Path, e.What, e.ID)
}

// ErrConflict is a record with the id of another one and other content.
var ErrConflict = errors.New("the journal holds another record with this id")

// PutRecord appends a record. A record that is there already is left as it is; one with the
// same id and other content is ErrConflict.
func (j *Journal) PutRecord(ctx context.Context, r Record) error {
	const op = "put record"
	if r.ID == "" || r.Now.IsZero() {
		return &Error{Path: j.path, Op: op, Err: fmt.Errorf("record %q lacks its id or its time", r.ID)}
	}
	e := entry{"record", r.ID, r.sum()}
	return j.write(ctx, op, func(ctx context.Context, tx *sql.Tx) (entry, error) {
		result, err := tx.ExecContext(ctx, `INSERT INTO record
			(id, upgrade_id, service, rule_path, now_ns, verdict, exit_code, body, report, sum)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING`,
			r.ID, r.UpgradeID, r.Service, r.RulePath, r.Now.UnixNano(), r.Verdict, r.ExitCode, bytesOf(r.Body), bytesOf(r.Report), r.sum())
		if err != nil {
			return e, j.fault(op, err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return e, j.fault(op, err)
		}
		var sum []byte
		if err := tx.QueryRowContext(ctx, "SELECT sum FROM record WHERE id = $1", r.ID).Scan(&sum); err != nil {
			return e, j.fault(op, err)
		}
		if !bytes.Equal(sum, r.sum()) {
			return e, &Error{Path: j.path, Op: op, Err: fmt.Errorf("%w: %s", ErrConflict, r.ID)}
		}
		return e, nil
	})
}

// bytesOf is b, not nil: the driver writes nil as NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Record returns the record with this id, or the one whose id alone begins with it. If
// there is none, or several, the error is a *NotFound with the nearest ids.
func (j *Journal) Record(ctx context.Context, id string) (Record, error) {
	const op = "read record"
	ctx, cancel := j.within(ctx)
	defer cancel()
	r, err := j.recordWith(ctx, id)
	if !errors.Is(err, sql.ErrNoRows) {
		return r, j.fault(op, err)
	}
	ids, err := j.recordIDs(ctx)
	if err != nil {
		return Record{}, j.fault(op, err)
	}
	begun := slices.DeleteFunc(slices.Clone(ids), func(s string) bool { return !strings.HasPrefix(s, id) })
	switch {
	case len(begun) == 1 && id != "":
		r, err = j.recordWith(ctx, begun[0])
		return r, j.fault(op, err)
	case len(begun) > 0:
		return Record{}, &NotFound{Path: j.path, What: "report", ID: id, Many: len(begun), Near: begun[:min(len(begun), nearIDs)]}
	}
	return Record{}, &NotFound{Path: j.path, What: "report", ID: id, Near: nearest(id, ids)}
}

// recordWith returns the record with exactly this id, or sql.ErrNoRows.
func (j *Journal) recordWith(ctx context.Context, id string) (Record, error) {
	var r Record
	var now int64
	var sum []byte
	err := j.db.QueryRowContext(ctx, `SELECT seq, id, upgrade_id, service, rule_path, now_ns, verdict, exit_code, body, report, sum
		FROM record WHERE id = $1`, id).
		Scan(&r.Seq, &r.ID, &r.UpgradeID, &r.Service, &r.RulePath, &now, &r.Verdict, &r.ExitCode, &r.Body, &r.Report, &sum)
	if err != nil {
		return Record{}, err
	}
	r.Now = time.Unix(0, now).UTC()
	if !bytes.Equal(sum, r.sum()) {
		return Record{}, j.damaged("read record", fmt.Errorf("record %s is not what was stored", id))
	}
	return r, nil
}

// nearIDs is how many ids an error lists.
const nearIDs = 3

// nearest are the ids that agree with id from the beginning for longest, newest first among
// equals. ids are newest first.
func nearest(id string, ids []string) []string {
	common := func(s string) int {
		n := 0
		for n < min(len(s), len(id)) && s[n] == id[n] {
			n++
		}
		return n
	}
	near := slices.Clone(ids)
	slices.SortStableFunc(near, func(a, b string) int { return cmp.Compare(common(b), common(a)) })
	return near[:min(len(near), nearIDs)]
}

// recordIDs are the ids of all records, newest first.
func (j *Journal) recordIDs(ctx context.Context) ([]string, error) {
	var ids []string
	err := each(ctx, j.db, func(scan func(...any) error) error {
		ids = append(ids, "")
		return scan(&ids[len(ids)-1])
	}, "SELECT id FROM record ORDER BY now_ns DESC, seq DESC")
	return ids, err
}

// A RecordFilter chooses records; its zero value chooses all.
type RecordFilter struct {
	Service   string    // "" = any
	UpgradeID string    // "" = any
	Verdict   string    // "" = any
	Since     time.Time // judged as of then or later; zero = any
	Until     time.Time // judged as of a time before; zero = any
	Before    Cursor    // those that follow in the list; zero = from its beginning
	Limit     int       // at most this many; 0 = no limit
}

// A Cursor is the place of a record in the list of all, which is by Now and, where several
// were judged as of the same time, by the order in which they were appended. Records that are
// appended later do not move it.
type Cursor struct {
	Now time.Time
	Seq int64 // from 1
}

// Cursor is the place of a listed record.
func (r *Record) Cursor() Cursor { return Cursor{r.Now, r.Seq} }

// Records lists records, newest first, without Body and Report, which Record returns.
func (j *Journal) Records(ctx context.Context, f RecordFilter) ([]Record, error) {
	const op = "list records"
	ctx, cancel := j.within(ctx)
	defer cancel()
	until, now, seq, limit := int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64)
	if !f.Until.IsZero() {
		until = f.Until.UnixNano()
	}
	if f.Before.Seq > 0 {
		now, seq = f.Before.Now.UnixNano(), f.Before.Seq
	}
	if f.Limit > 0 {
		limit = int64(f.Limit)
	}
	var out []Record
	err := each(ctx, j.db, func(scan func(...any) error) error {
		var r Record
		var now int64
		if err := scan(&r.Seq, &r.ID, &r.UpgradeID, &r.Service, &r.RulePath, &now, &r.Verdict, &r.ExitCode); err != nil {
			return err
		}
		r.Now = time.Unix(0, now).UTC()
		out = append(out, r)
		return nil
	}, `SELECT seq, id, upgrade_id, service, rule_path, now_ns, verdict, exit_code FROM record
		WHERE (service = $1 OR $1 = '') AND (upgrade_id = $2 OR $2 = '') AND (verdict = $3 OR $3 = '')
		AND now_ns >= $4 AND now_ns < $5 AND (now_ns < $6 OR (now_ns = $6 AND seq < $7))
		ORDER BY now_ns DESC, seq DESC LIMIT $8`, f.Service, f.UpgradeID, f.Verdict, since(f.Since), until, now, seq, limit)
	return out, j.fault(op, err)
}
