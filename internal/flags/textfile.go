package flags

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A textFile is a file that holds flags as text, and is written as a whole: under a lock, only
// from the text that the new one was made of, and in one rename.
type textFile struct {
	path string

	syncFolder func(dir string) error // brings a rename in dir to disk
}

func newTextFile(path string) textFile { return textFile{path, syncFolder} }

// Path is where the file is.
func (f textFile) Path() string { return f.path }

func (f textFile) fail(r Ref, err error) error { return failure(r, f.path, err) }

func revisionOf(text []byte) Revision {
	sum := sha256.Sum256(text)
	return Revision(hex.EncodeToString(sum[:]))
}

// read returns the bytes of the file and where they really are.
func (f textFile) read() (text []byte, resolved string, err error) {
	resolved, err = filepath.EvalSymlinks(f.path)
	if err == nil {
		text, err = os.ReadFile(resolved)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: no such file", ErrNotFound)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w: %w", ErrForbidden, err)
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return text, resolved, err
}

// modified is when the file was modified, the zero time where that cannot be told.
func (f textFile) modified(resolved string) time.Time {
	info, err := os.Stat(resolved)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// readOnly is why the file cannot be written, "" where it can.
func (f textFile) readOnly(resolved string) string {
	why, _ := kindOf(f.writable(resolved))
	return why
}

// An edit makes the new text of a file from the one that is there, or says that there is
// nothing to write. Its errors leave the file as it is.
type edit func(before []byte) (after []byte, already bool, err error)

// A fileWrite is what an edit did to a file.
type fileWrite struct {
	before, after Revision
	already       bool      // the edit found nothing to write
	modified      time.Time // of the file, after it
}

// from is the edit that brings a text from one revision to another, as a patch says: at the
// other already there is nothing to write, at any third it is ErrConflict.
func (p Patch) from(base, to Revision, check func(before, after []byte) error) edit {
	return func(before []byte) ([]byte, bool, error) {
		switch now := revisionOf(before); now {
		case to:
			return before, true, nil
		case base:
		default:
			return nil, false, conflict(base, now)
		}
		after, err := p.Apply(before)
		if err != nil {
			return nil, false, err
		}
		if revisionOf(after) != to {
			return nil, false, fmt.Errorf("%w: the change does not lead to revision %s", ErrInvalid, to.Short())
		}
		return after, false, check(before, after)
	}
}

func conflict(expected, found Revision) error {
	return fmt.Errorf("%w: expected revision %s, found %s; nothing was overwritten", ErrConflict, expected.Short(), found.Short())
}

// ended is the end of a write: there is a receipt whenever the file was written, certain or not.
func (f textFile) ended(rc Receipt, err error) (Receipt, error) {
	r := rc.Change.Ref
	switch {
	case err == nil:
		return rc, nil
	case errors.Is(err, ErrWrittenUnsure):
		return rc, f.fail(r, err)
	}
	return Receipt{}, f.fail(r, err)
}
