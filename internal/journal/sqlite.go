package journal

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// inSQLite is the dialect of a journal in a file. BEGIN IMMEDIATE takes the write lock.
var inSQLite = dialect{
	schema:       func(m migration) string { return m.sqlite },
	versionTable: "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL) STRICT",
	hasVersion:   "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_version')",
	reasonOf:     sqliteReason,
	ifDamaged:    remedyDamaged,
}

// What a person can do about a file.
const (
	remedyDamaged = "restore a copy, or move it away together with its -wal and -shm files: " +
		"a new journal begins empty and does not know which flags were turned off"
	remedyForeign     = "name another file with --journal"
	remedyFull        = "free some space on its disk and try again"
	remedyNotWritable = "driftwatch needs to write the file and its directory: mind owner, mode and mount, or name another file with --journal"
)

// applicationID marks the file as ours ("drfw"), so that no other program's database is
// taken for a journal.
const applicationID = 0x64726677

// Open opens the journal in the file at path, which is created if it is not there and brought
// to the newest schema if it is older. It fails, naming path, reason and remedy, if the
// directory is missing (ErrNoDirectory), the file is cut or corrupt (ErrDamaged; an empty
// file is a cut one), of another program (ErrForeign) or of a newer driftwatch (ErrNewer), or
// if file or directory cannot be written (ErrNotWritable). A damaged journal is never replaced.
func Open(ctx context.Context, path string) (*Journal, error) {
	return open(ctx, path, migrations)
}

// open is Open with the schema of these migrations.
func open(ctx context.Context, path string, steps []migration) (*Journal, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{Path: path, Op: "open", Err: err}
	}
	j := &Journal{path: absolute, dialect: &inSQLite}
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
func (j *Journal) create(ctx context.Context, steps []migration) error {
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
	made := &Journal{db: db, path: j.path, dialect: j.dialect}
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
func (j *Journal) prepare(ctx context.Context, steps []migration) error {
	var id int64
	if err := j.db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return j.fault("open", err)
	}
	if id != applicationID {
		return &Error{j.path, "open", fmt.Errorf("%w: it is an SQLite database of another program", ErrForeign), remedyForeign}
	}
	return j.migrate(ctx, steps)
}

// sqliteReason finds the remedy and the reason behind an error of SQLite or the file system.
func sqliteReason(err error) (remedy string, reason, words error) {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // without the extended code
		case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
			return remedyDamaged, ErrDamaged, err
		case lib.SQLITE_FULL:
			return remedyFull, ErrFull, err
		case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_CANTOPEN:
			return remedyNotWritable, ErrNotWritable, err
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
			return remedyBusy, ErrBusy, err
		}
		return "", nil, err
	}
	if errors.Is(err, syscall.ENOSPC) {
		return remedyFull, ErrFull, err
	}
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return remedyNotWritable, ErrNotWritable, err
	}
	return "", nil, err
}
