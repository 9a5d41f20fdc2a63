// Package journal keeps what was judged, what was meant to be done and what was done, in one
// SQLite file that several processes may use side by side. It only ever appends: nothing in
// it is changed, and what is read is checked against the sum it was stored with. It does
// not know what reports, calibrations or evidence say; to it they are bytes.
package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// The reasons for which a journal cannot be used or an entry cannot be had. They come inside
// an *Error, which names the file and what to do.
var (
	ErrNoDirectory = errors.New("its directory is not there")
	ErrDamaged     = errors.New("the journal is damaged")
	ErrForeign     = errors.New("the file is no journal of driftwatch")
	ErrNewer       = errors.New("the journal was written by a newer driftwatch")
	ErrFull        = errors.New("the disk is full")
	ErrNotWritable = errors.New("the journal cannot be written")
	ErrBusy        = errors.New("the journal is locked by another process")
)

// An Error is a journal that could not be used. Nothing of the operation was kept.
type Error struct {
	Path   string
	Op     string // "open", "append intent", ...
	Err    error  // wraps one of the reasons above, or what SQLite said
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

// What a person can do about each reason.
const (
	remedyDamaged = "restore a copy, or move it away together with its -wal and -shm files: " +
		"a new journal begins empty and does not know which flags were turned off"
	remedyForeign     = "name another file with --journal"
	remedyNewer       = "use the newer driftwatch, or name another journal"
	remedyFull        = "free some space on its disk and try again"
	remedyNotWritable = "driftwatch needs to write the file and its directory: mind owner, mode and mount, or name another file with --journal"
	remedyBusy        = "end the process that holds it, or try again"
)

// busyTimeout is how long a write waits for those of other processes. A write takes
// milliseconds; at 10 s even a disk that stalls for seconds, or a dozen checks that end in
// the same second, get through, and a check that hangs is still noticed within its step.
const busyTimeout = 10 * time.Second

// applicationID marks the file as ours ("drfw"), so that no other program's database is
// taken for a journal.
const applicationID = 0x64726677

// A Journal is an open journal file. Its methods may be called from several goroutines.
type Journal struct {
	db   *sql.DB
	path string // absolute
}

// Open opens the journal at path, which is created if it is not there and brought to the
// newest schema if it is older. It fails, naming path, reason and remedy, if the directory
// is missing (ErrNoDirectory), the file is cut or corrupt (ErrDamaged; an empty file is a
// cut one), of another program (ErrForeign) or of a newer driftwatch (ErrNewer), or if file
// or directory cannot be written (ErrNotWritable). A damaged journal is never replaced.
func Open(ctx context.Context, path string) (*Journal, error) {
	return open(ctx, path, migrations)
}

// open is Open with the schema of these migrations.
func open(ctx context.Context, path string, steps []string) (*Journal, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{Path: path, Op: "open", Err: err}
	}
	j := &Journal{path: absolute}
	switch _, err := os.Stat(absolute); {
	case errors.Is(err, fs.ErrNotExist):
		if err := j.create(ctx, steps); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, j.fault("open", err)
	}
	if err := j.checkFile(); err != nil {
		return nil, err
	}
	if j.db, err = openDB(absolute); err != nil {
		return nil, j.fault("open", err)
	}
	if err := j.prepare(ctx, steps); err != nil {
		_ = j.db.Close()
		return nil, err
	}
	return j, nil
}

// openDB opens an SQLite file that is there already. Transactions take the write lock when
// they begin, so that two of them wait for each other instead of failing in the middle, and
// are on disk when they end (synchronous FULL): an intent must outlive the machine.
func openDB(path string) (*sql.DB, error) {
	address := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: url.Values{
		"mode":    {"rw"},
		"_txlock": {"immediate"},
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "synchronous(FULL)", "foreign_keys(ON)"},
	}.Encode()}
	return sql.Open("sqlite", address.String())
}

// create makes an empty journal under another name and links it to its own, so that there is
// never a half-made one; if another process was faster, its journal stands.
func (j *Journal) create(ctx context.Context, steps []string) error {
	dir := filepath.Dir(j.path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return &Error{j.path, "create", ErrNoDirectory, "mkdir -p " + dir + ", or name another file with --journal"}
	}
	if j.hasWAL() {
		if _, err := os.Stat(j.path); err == nil {
			return nil // another process has just made it, and writes
		}
		return j.damaged("create", errors.New("the file is gone, but its -wal file is still there"))
	}
	file, err := os.CreateTemp(dir, filepath.Base(j.path)+".new-*")
	if err != nil {
		return j.fault("create", err)
	}
	defer func() {
		_ = file.Close()
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			_ = os.Remove(file.Name() + suffix)
		}
	}()
	db, err := openDB(file.Name())
	if err != nil {
		return j.fault("create", err)
	}
	made := &Journal{db: db, path: j.path}
	_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA journal_mode = WAL", applicationID))
	if err != nil {
		err = j.fault("create", err)
	} else {
		err = made.migrate(ctx, steps)
	}
	if closed := db.Close(); err == nil && closed != nil { // moves the -wal file into the file
		err = j.fault("create", closed)
	}
	if err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return j.fault("create", err)
	}
	if err := os.Link(file.Name(), j.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return j.fault("create", err)
	}
	return j.syncDirectory(dir)
}

// syncDirectory makes the name of a new journal outlive the machine.
func (j *Journal) syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return j.fault("create", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return j.fault("create", err)
	}
	return nil
}

// The SQLite file header (sqlite.org/fileformat.html, section 1.3).
const (
	headerMagic    = "SQLite format 3\x00"
	headerSize     = 100
	headerPageSize = 16 // 2 bytes, 1 = 65,536
	headerPages    = 28 // 4 bytes: size of the database in pages
)

// checkFile finds a file that was cut. SQLite reads a page that is cut in the middle as if
// zeros followed. While there is a -wal file the journal's true size is not told by its
// header, and SQLite's own recovery and the sums of the entries have to do.
func (j *Journal) checkFile() error {
	if j.hasWAL() {
		return nil
	}
	file, err := os.Open(j.path)
	if err != nil {
		return j.fault("open", err)
	}
	defer func() { _ = file.Close() }()
	header := make([]byte, headerSize)
	n, err := file.ReadAt(header, 0)
	info, statErr := file.Stat()
	switch {
	case statErr != nil:
		return j.fault("open", statErr)
	case info.IsDir():
		return &Error{j.path, "open", fmt.Errorf("%w: it is a directory", ErrForeign), remedyForeign}
	case n == 0:
		return j.damaged("open", errors.New("it is empty"))
	case string(header[:min(n, len(headerMagic))]) != headerMagic[:min(n, len(headerMagic))]:
		return &Error{j.path, "open", fmt.Errorf("%w: it does not begin like an SQLite file", ErrForeign), remedyForeign}
	case n < headerSize:
		return j.damaged("open", fmt.Errorf("it is cut after %d bytes", n))
	case err != nil:
		return j.fault("open", err)
	}
	pageSize := int64(binary.BigEndian.Uint16(header[headerPageSize:]))
	if pageSize == 1 {
		pageSize = 1 << 16
	}
	want := pageSize * int64(binary.BigEndian.Uint32(header[headerPages:]))
	if info.Size() < want && !j.hasWAL() { // another process may have begun to write meanwhile
		return j.damaged("open", fmt.Errorf("it is cut after %d of %d bytes", info.Size(), want))
	}
	return nil
}

// hasWAL reports whether there are writes outside the main file.
func (j *Journal) hasWAL() bool {
	info, err := os.Stat(j.path + "-wal")
	return err == nil && info.Size() > 0
}

// prepare makes sure that the file is a journal and brings its schema up to date.
func (j *Journal) prepare(ctx context.Context, steps []string) error {
	var id int64
	if err := j.db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return j.fault("open", err)
	}
	if id != applicationID {
		return &Error{j.path, "open", fmt.Errorf("%w: it is an SQLite database of another program", ErrForeign), remedyForeign}
	}
	return j.migrate(ctx, steps)
}

// Path is the absolute name of the journal's file.
func (j *Journal) Path() string { return j.path }

// Close closes the journal.
func (j *Journal) Close() error {
	if err := j.db.Close(); err != nil {
		return j.fault("close", err)
	}
	return nil
}

func (j *Journal) damaged(op string, why error) error {
	return &Error{j.path, op, fmt.Errorf("%w: %w", ErrDamaged, why), remedyDamaged}
}

// fault names what an operation met, and what can be done about it. A nil err, and one that
// names itself already, is passed on.
func (j *Journal) fault(op string, err error) error {
	var named *Error
	if err == nil || errors.As(err, &named) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	remedy, reason := reasonOf(err)
	if reason != nil {
		err = fmt.Errorf("%w: %w", reason, err)
	}
	return &Error{j.path, op, err, remedy}
}

// reasonOf finds the remedy and the reason behind an error of SQLite or the file system.
func reasonOf(err error) (remedy string, reason error) {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // without the extended code
		case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
			return remedyDamaged, ErrDamaged
		case lib.SQLITE_FULL:
			return remedyFull, ErrFull
		case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_CANTOPEN:
			return remedyNotWritable, ErrNotWritable
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
			return remedyBusy, ErrBusy
		}
		return "", nil
	}
	if errors.Is(err, syscall.ENOSPC) {
		return remedyFull, ErrFull
	}
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return remedyNotWritable, ErrNotWritable
	}
	return "", nil
}

// write runs f in a transaction that is kept as a whole or not at all.
func (j *Journal) write(ctx context.Context, op string, f func(tx *sql.Tx) error) error {
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return j.fault(op, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := f(tx); err != nil {
		return err
	}
	return j.fault(op, tx.Commit())
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
	var known bool
	err := j.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM blob WHERE hash = ?)", hash).Scan(&known)
	if err != nil || known {
		return hash, j.fault("put blob", err)
	}
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return "", j.fault("put blob", err)
	}
	_, err = j.db.ExecContext(ctx, "INSERT INTO blob (hash, zstd) VALUES (?, ?) ON CONFLICT DO NOTHING",
		hash, packer.EncodeAll(body, nil))
	return hash, j.fault("put blob", err)
}

// Blob returns the bytes with this SHA-256. It fails with a *NotFound if there are none and
// with ErrDamaged if they are not what was stored.
func (j *Journal) Blob(ctx context.Context, hash string) ([]byte, error) {
	var packed []byte
	switch err := j.db.QueryRowContext(ctx, "SELECT zstd FROM blob WHERE hash = ?", hash).Scan(&packed); {
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
