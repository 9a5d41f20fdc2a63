// Package journal keeps what was judged, what was meant to be done and what was done: in one
// SQLite file that several processes may use side by side, or in a PostgreSQL database that
// replicas share. It only ever appends: nothing in it is changed, and what is read is checked
// against the sum it was stored with. It does not know what reports, calibrations or evidence
// say; to it they are bytes.
package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The reasons for which a journal cannot be used or an entry cannot be had. They come inside
// an *Error, which names the file or the server and what to do.
var (
	ErrNoDirectory = errors.New("its directory is not there")
	ErrNoDatabase  = errors.New("the database is not there")
	ErrDamaged     = errors.New("the journal is damaged")
	ErrForeign     = errors.New("it is no journal of driftwatch")
	ErrNewer       = errors.New("the journal was written by a newer driftwatch")
	ErrFull        = errors.New("the disk is full")
	ErrNotWritable = errors.New("the journal cannot be written")
	ErrBusy        = errors.New("the journal is locked by another process")
	ErrUnreachable = errors.New("the server of the journal does not answer")
	ErrLogin       = errors.New("the server of the journal refuses the login")

	// ErrUnsure comes with ErrUnreachable: the answer to a commit was lost, and the journal
	// could not be read again, so the entry may have been kept. Reading it later tells.
	ErrUnsure = errors.New("whether the entry was kept is not known")
)

// An Error is a journal that could not be used. Nothing of the operation was kept, unless it
// wraps ErrUnsure.
type Error struct {
	Path   string // of the file, or server and database; holds no credentials
	Op     string // "open", "append intent", ...
	Err    error  // wraps one of the reasons above, or what SQLite or PostgreSQL said
	Remedy string // "" where none is known
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s: %v", e.Path, e.Op, e.Err)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// What a person can do, whatever the journal is kept in.
const (
	remedyNewer = "use the newer driftwatch, or name another journal"
	remedyBusy  = "end the process that holds it, or try again"
)

// busyTimeout is how long a write waits for those of other processes. A write takes
// milliseconds; at 10 s even a disk that stalls for seconds, or a dozen checks that end in
// the same second, get through, and a check that hangs is still noticed within its step.
const busyTimeout = 10 * time.Second

// A Journal is an open journal. Its methods may be called from several goroutines.
type Journal struct {
	db      *sql.DB
	path    string // absolute, or server and database
	dialect *dialect
}

// Path is the absolute name of the journal's file, or the address of its database without
// user and password.
func (j *Journal) Path() string { return j.path }

// Close closes the journal.
func (j *Journal) Close() error {
	if err := j.db.Close(); err != nil {
		return j.fault("close", err)
	}
	return nil
}

func (j *Journal) damaged(op string, why error) error {
	return &Error{j.path, op, fmt.Errorf("%w: %w", ErrDamaged, why), j.dialect.ifDamaged}
}

// within bounds an operation by the patience that there is with a server.
func (j *Journal) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if j.dialect.patience == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, j.dialect.patience)
}

// fault names what an operation met, and what can be done about it. A nil err, and one that
// names itself already, is passed on, and so is the caller's own interrupt.
func (j *Journal) fault(op string, err error) error {
	var named *Error
	var limit *LimitError
	if err == nil || errors.As(err, &named) || errors.As(err, &limit) || errors.Is(err, context.Canceled) {
		return err
	}
	remedy, reason, words := j.dialect.reasonOf(err)
	switch {
	case reason != nil:
		words = fmt.Errorf("%w: %w", reason, words)
	case errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return &Error{j.path, op, words, remedy}
}

// An entry is what a transaction has appended: where it is found again if the answer to the
// commit is lost. Its zero value is one that may simply be appended again.
type entry struct {
	table string
	id    any
	sum   []byte
}

// write runs f in a transaction that is kept as a whole or not at all. Writers take turns. If
// the connection to a server breaks, the entry is looked for and f is run again where it is
// not found: whoever takes the lock sees whether the broken transaction was kept. f may so be
// run twice, uses the context that it is given, and gives its errors names.
func (j *Journal) write(ctx context.Context, op string, f func(ctx context.Context, tx *sql.Tx) (entry, error)) error {
	ctx, cancel := j.within(ctx)
	defer cancel()
	var kept entry // perhaps
	e, err := j.try(ctx, op, kept, f)
	if !errors.Is(err, ErrUnreachable) {
		return err
	}
	kept = e
	if ctx.Err() == nil {
		if e, err = j.try(ctx, op, kept, f); !errors.Is(err, ErrUnreachable) {
			return err
		}
	}
	if kept.table == "" {
		kept = e
	}
	if failed, ok := errors.AsType[*Error](err); ok && kept.table != "" {
		return &Error{j.path, op, fmt.Errorf("%w: %w", ErrUnsure, failed.Err), failed.Remedy}
	}
	return err
}

// try is one transaction of write. It does nothing if the entry of an earlier one is there.
// The entry that it returns with an error may have been kept.
func (j *Journal) try(ctx context.Context, op string, earlier entry, f func(ctx context.Context, tx *sql.Tx) (entry, error)) (entry, error) {
	tx, err := j.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return entry{}, j.fault(op, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if j.dialect.lock != "" {
		if _, err := tx.ExecContext(ctx, j.dialect.lock); err != nil {
			return entry{}, j.fault(op, err)
		}
	}
	if earlier.table != "" {
		var there bool
		err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+earlier.table+" WHERE id = $1 AND sum = $2)", earlier.id, earlier.sum).Scan(&there)
		if err != nil || there {
			return entry{}, j.fault(op, err)
		}
	}
	e, err := f(ctx, tx)
	if err != nil {
		return entry{}, err
	}
	return e, j.fault(op, tx.Commit())
}

// sumOf is the SHA-256 of the parts of an entry, each with its length before it.
func sumOf(parts ...any) []byte {
	h := sha256.New()
	for _, part := range parts {
		var b []byte
		switch p := part.(type) {
		case []byte:
			b = p
		default:
			b = fmt.Append(nil, p)
		}
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b)))) // a hash takes everything
		_, _ = h.Write(b)
	}
	return h.Sum(nil)
}

// PutBlob keeps bytes and returns their SHA-256 in hexadecimal, by which Blob finds them.
// The same bytes are kept once.
func (j *Journal) PutBlob(ctx context.Context, body []byte) (string, error) {
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	const op = "put blob"
	looking, cancel := j.within(ctx)
	defer cancel()
	var known bool
	err := j.db.QueryRowContext(looking, "SELECT EXISTS (SELECT 1 FROM blob WHERE hash = $1)", hash).Scan(&known)
	if err != nil || known {
		return hash, j.fault(op, err)
	}
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return "", j.fault(op, err)
	}
	packed := packer.EncodeAll(body, nil)
	return hash, j.write(ctx, op, func(ctx context.Context, tx *sql.Tx) (entry, error) {
		_, err := tx.ExecContext(ctx, "INSERT INTO blob (hash, zstd) VALUES ($1, $2) ON CONFLICT DO NOTHING", hash, packed)
		return entry{}, j.fault(op, err)
	})
}

// Blob returns the bytes with this SHA-256. It fails with a *NotFound if there are none and
// with ErrDamaged if they are not what was stored.
func (j *Journal) Blob(ctx context.Context, hash string) ([]byte, error) {
	ctx, cancel := j.within(ctx)
	defer cancel()
	var packed []byte
	switch err := j.db.QueryRowContext(ctx, "SELECT zstd FROM blob WHERE hash = $1", hash).Scan(&packed); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, &NotFound{Path: j.path, What: "blob", ID: hash}
	case err != nil:
		return nil, j.fault("read blob", err)
	}
	unpacker, err := zstd.NewReader(nil)
	if err != nil {
		return nil, j.fault("read blob", err)
	}
	defer unpacker.Close()
	body, err := unpacker.DecodeAll(packed, nil)
	if err != nil {
		return nil, j.damaged("read blob", fmt.Errorf("%s: %w", hash, err))
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != hash {
		return nil, j.damaged("read blob", fmt.Errorf("%s does not have its own sum", hash))
	}
	return body, nil
}
