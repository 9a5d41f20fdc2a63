package journal

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// migrations bring the schema from version i to version i+1. A released one is never
// changed: testdata holds a journal of every version, which must still open.
//
// Times are nanoseconds since 1970, UTC. sum is the SHA-256 of the other columns of a row.
var migrations = []string{
	`CREATE TABLE blob (
	hash TEXT PRIMARY KEY,
	zstd BLOB NOT NULL
) STRICT;

CREATE TABLE record (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	id TEXT NOT NULL UNIQUE,
	upgrade_id TEXT NOT NULL,
	service TEXT NOT NULL,
	rule_path TEXT NOT NULL,
	now_ns INTEGER NOT NULL,
	verdict TEXT NOT NULL,
	exit_code INTEGER NOT NULL,
	body BLOB NOT NULL,
	report BLOB NOT NULL,
	sum BLOB NOT NULL
) STRICT;
CREATE INDEX record_of_service ON record (service, now_ns);

CREATE TABLE intent (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	rule TEXT NOT NULL,
	upgrade_id TEXT NOT NULL,
	source TEXT NOT NULL,
	flag TEXT NOT NULL,
	kind TEXT NOT NULL,
	at_ns INTEGER NOT NULL,
	change BLOB NOT NULL,
	by TEXT NOT NULL,
	sum BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX intent_once ON intent (rule, upgrade_id, source, flag) WHERE kind = 'flag_off';
CREATE INDEX intent_of_flag ON intent (source, flag);

CREATE TABLE outcome (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	intent INTEGER NOT NULL REFERENCES intent (id),
	at_ns INTEGER NOT NULL,
	outcome TEXT NOT NULL,
	reason TEXT NOT NULL,
	revision_before TEXT NOT NULL,
	revision_after TEXT NOT NULL,
	receipt BLOB NOT NULL,
	evidence BLOB NOT NULL,
	sum BLOB NOT NULL
) STRICT;
CREATE INDEX outcome_of_intent ON outcome (intent);

CREATE TABLE recovery (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	upgrade_id TEXT NOT NULL,
	state TEXT NOT NULL,
	at_ns INTEGER NOT NULL,
	body BLOB NOT NULL,
	sum BLOB NOT NULL
) STRICT;
CREATE INDEX recovery_of_upgrade ON recovery (upgrade_id);

CREATE TRIGGER record_stays BEFORE UPDATE ON record BEGIN SELECT RAISE (ABORT, 'records are never changed'); END;
CREATE TRIGGER intent_stays BEFORE UPDATE ON intent BEGIN SELECT RAISE (ABORT, 'intents are never changed'); END;
CREATE TRIGGER intent_kept BEFORE DELETE ON intent BEGIN SELECT RAISE (ABORT, 'intents are never removed'); END;
CREATE TRIGGER outcome_stays BEFORE UPDATE ON outcome BEGIN SELECT RAISE (ABORT, 'outcomes are never changed'); END;
CREATE TRIGGER outcome_kept BEFORE DELETE ON outcome BEGIN SELECT RAISE (ABORT, 'outcomes are never removed'); END;
CREATE TRIGGER recovery_stays BEFORE UPDATE ON recovery BEGIN SELECT RAISE (ABORT, 'recovery states are never changed'); END;
`,
}

// migrate applies the migrations that the file lacks, all or none. It fails with ErrNewer if
// the file has more.
func (j *Journal) migrate(ctx context.Context, steps []string) error {
	const op = "migrate"
	switch have, err := j.version(ctx, j.db); {
	case err != nil:
		return j.fault(op, err)
	case have == len(steps):
		return nil // without a write lock: the usual case
	}
	return j.write(ctx, op, func(tx *sql.Tx) error {
		have, err := j.version(ctx, tx) // another process may have migrated it meanwhile
		if err != nil {
			return j.fault(op, err)
		}
		if have > len(steps) {
			return &Error{j.path, op, fmt.Errorf("%w: it has schema version %d, and this one knows %d", ErrNewer, have, len(steps)), remedyNewer}
		}
		if have == 0 {
			if _, err := tx.ExecContext(ctx, "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL) STRICT"); err != nil {
				return j.fault(op, err)
			}
		}
		for v := have; v < len(steps); v++ {
			if _, err := tx.ExecContext(ctx, steps[v]); err != nil {
				return j.fault(op, fmt.Errorf("to schema version %d: %w", v+1, err))
			}
			// The time is for people who look into the file; nothing reads it.
			if _, err := tx.ExecContext(ctx, "INSERT INTO schema_version (version, at_ns) VALUES (?, ?)", v+1, time.Now().UnixNano()); err != nil {
				return j.fault(op, err)
			}
		}
		return nil
	})
}

// A queryRower is a database or a transaction.
type queryRower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version is the schema version of the file, 0 if it has no schema yet.
func (j *Journal) version(ctx context.Context, q queryRower) (int, error) {
	var there bool
	err := q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_version')").Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	var version int
	err = q.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version)
	return version, err
}
