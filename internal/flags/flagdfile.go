package flags

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/driftwatch/driftwatch/internal/suggest"
)

// A FlagdFile is a file of flag definitions that flagd reads, JSON or YAML by its extension,
// edited in place: one changed line where the flag's text allows it, and nothing but the flag.
type FlagdFile struct {
	name string
	path string

	syncFolder func(dir string) error // brings a rename in dir to disk
}

// NewFlagdFile returns the source of that name in the file at path.
func NewFlagdFile(name, path string) *FlagdFile { return &FlagdFile{name, path, syncFolder} }

// Path is where the file is.
func (f *FlagdFile) Path() string { return f.path }

func (f *FlagdFile) fail(r Ref, err error) *Error {
	sentinel, what := err, ""
	for _, s := range []error{ErrWrittenUnsure, ErrConflict, ErrLocked, ErrAlreadyOff, ErrNotFound, ErrReadOnly, ErrForbidden, ErrInvalid, ErrAmbiguousEdit, ErrManagedElsewhere} {
		if errors.Is(err, s) {
			sentinel = s
			what = strings.TrimPrefix(strings.TrimPrefix(err.Error(), s.Error()), ": ")
			break
		}
	}
	return &Error{Ref: r, Path: f.path, What: what, Err: sentinel}
}

func revisionOf(text []byte) Revision {
	sum := sha256.Sum256(text)
	return Revision(hex.EncodeToString(sum[:]))
}

// dialect is how the text of the file is read.
func (f *FlagdFile) dialect() dialect { return flagdText{f.path} }

// read returns the bytes of the file and where they really are.
func (f *FlagdFile) read() (text []byte, resolved string, err error) {
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

// Read implements Switch.
func (f *FlagdFile) Read(ctx context.Context, r Ref) (State, error) {
	s := State{Ref: r, Path: f.path}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	text, resolved, err := f.read()
	if err != nil {
		return s, f.fail(r, err)
	}
	s, err = stateOf(f.dialect(), r, f.path, text)
	if info, err := os.Stat(resolved); err == nil {
		s.Changed = info.ModTime()
	}
	if err := f.writable(resolved); err != nil {
		s.ReadOnly = f.fail(Ref{}, err).What
	}
	if err != nil {
		return s, f.fail(r, err)
	}
	return s, nil
}

// missing says what there is instead of a flag.
func missing(key string, keys []string) string {
	if near, ok := suggest.Closest(key, keys); ok {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Sprintf("it has %d other flags", len(keys))
}

// Plan implements Switch: the default becomes w.Variant and the targeting becomes {}; a flag
// that is one line in the file stays one.
func (f *FlagdFile) Plan(s State, m Mode, w Want) (Change, error) {
	c, err := planText(f.dialect(), f.path, s, m, w)
	if err != nil {
		return Change{}, f.fail(s.Ref, err)
	}
	return c, nil
}

// TurnOff implements Switch.
func (f *FlagdFile) TurnOff(ctx context.Context, c Change) (Receipt, error) {
	rc := Receipt{Change: c, Before: c.Base, After: c.After}
	err := f.write(ctx, &rc, c.Forward, func(before, after []byte) error { return f.dialect().check(c, before, after) })
	return f.written(rc, err)
}

// Restore implements Switch. The file gets back the bytes it had, but a new modification time.
func (f *FlagdFile) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	c := rc.Change
	back := Receipt{Change: c, Before: c.After, After: c.Base, Restore: true}
	err := f.write(ctx, &back, c.Inverse, func(_, after []byte) error { return f.dialect().load(after) })
	return f.written(back, err)
}

// Settle implements Switch.
func (f *FlagdFile) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, err := f.Read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, err
	}
	return settleText(s, c, restore), nil
}

// written is the end of a write: there is a receipt whenever the file was written, certain or
// not. The end of a context stays as it is: it says nothing about the file.
func (f *FlagdFile) written(rc Receipt, err error) (Receipt, error) {
	r := rc.Change.Ref
	switch {
	case err == nil:
		return rc, nil
	case errors.Is(err, ErrWrittenUnsure):
		return rc, f.fail(r, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Receipt{}, fmt.Errorf("flag %s in %s: %w", r.Key, f.path, err)
	}
	return Receipt{}, f.fail(r, err)
}

// write brings the file from rc.Before to rc.After. At rc.After already it writes nothing; at
// anything else it is ErrConflict. Unless it is ErrWrittenUnsure, a failure has changed nothing.
func (f *FlagdFile) write(ctx context.Context, rc *Receipt, raw json.RawMessage, check func(before, after []byte) error) error {
	p, err := patchOf(raw)
	if err != nil {
		return err
	}
	_, resolved, err := f.read()
	if err != nil {
		return err
	}
	if err := f.writable(resolved); err != nil {
		return err
	}
	unlock, err := lock(ctx, resolved)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(tempName(resolved)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a writer that died
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}

	before, err := os.ReadFile(resolved)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConflict, err) // it was there a moment ago
	}
	switch now := revisionOf(before); now {
	case rc.After:
		info, err := os.Stat(resolved)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
		rc.Already, rc.Written = true, info.ModTime()
		return nil
	case rc.Before:
	default:
		return fmt.Errorf("%w: expected revision %s, found %s; nothing was overwritten", ErrConflict, rc.Before.Short(), now.Short())
	}
	after, err := p.Apply(before)
	if err != nil {
		return err
	}
	if revisionOf(after) != rc.After {
		return fmt.Errorf("%w: the change does not lead to revision %s", ErrInvalid, rc.After.Short())
	}
	if err := check(before, after); err != nil {
		return err
	}
	if rc.Written, err = replace(ctx, resolved, rc.Before, after); err != nil {
		return err
	}
	return f.makeCertain(resolved, rc.After)
}

// makeCertain brings the rename that wrote path to disk and looks whether the file still is what
// was written: a writer that ignores the lock may have come. Whatever fails here is
// ErrWrittenUnsure.
func (f *FlagdFile) makeCertain(path string, written Revision) error {
	synced := f.syncFolder(filepath.Dir(path))
	seen, err := os.ReadFile(path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: it cannot be read again: %w", ErrWrittenUnsure, err)
	case revisionOf(seen) != written:
		return fmt.Errorf("%w: the file was overwritten right after the write, revision %s by %s", ErrWrittenUnsure, written.Short(), revisionOf(seen).Short())
	case synced != nil:
		return fmt.Errorf("%w: its folder cannot be synced, so a power failure may bring the old file back: %w", ErrWrittenUnsure, synced)
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writable says why the file cannot be replaced, before anything is tried. A file or folder
// without any write bit is read-only by the will of its owner, which holds for root too.
func (f *FlagdFile) writable(resolved string) error {
	dir := filepath.Dir(resolved)
	for _, d := range []string{filepath.Dir(f.path), dir, filepath.Dir(dir)} {
		if info, err := os.Lstat(filepath.Join(d, "..data")); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%w: a mounted ConfigMap or Secret; change the object that it shows", ErrManagedElsewhere)
		}
	}
	for _, p := range []string{resolved, dir} {
		info, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
		if info.Mode().Perm()&0o222 == 0 {
			return fmt.Errorf("%w: %s has no write bit (%s)", ErrReadOnly, p, info.Mode())
		}
		switch err := unix.Access(p, unix.W_OK); {
		case errors.Is(err, unix.EROFS):
			return fmt.Errorf("%w: %s is on a read-only file system", ErrReadOnly, p)
		case err != nil:
			return fmt.Errorf("%w: write access to %s: %w", ErrForbidden, p, err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && st.Nlink > 1 {
			return fmt.Errorf("%w: the file has %d hard links; a new file would leave the others, and the watches on them, behind", ErrAmbiguousEdit, st.Nlink)
		}
	}
	return nil
}

// lockPause is how long a writer waits before it asks for the lock again, and lockWait how long
// in all. A write takes some milliseconds; who holds the lock for seconds is stopped, or is no
// driftwatch, and from the intent on no interrupt ends the wait.
const (
	lockPause = 20 * time.Millisecond
	lockWait  = 2 * time.Second
)

// lock takes the lock beside the file, waiting until ctx ends and lockWait at most (ErrLocked).
// The flag file itself is never locked: a rename over a file that is held open is seen by
// watchers only when it is closed. The lock file stays; removing it would let two writers hold
// two of them.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".driftwatch.lock")
	l, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: lock: %w", ErrForbidden, err)
	}
	late := time.After(lockWait)
	for {
		err := unix.Flock(int(l.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = l.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = l.Close()
			return nil, fmt.Errorf("%w: lock %s: %w", ErrForbidden, name, err)
		}
		select {
		case <-ctx.Done():
			_ = l.Close()
			return nil, fmt.Errorf("wait for the lock %s: %w", name, ctx.Err())
		case <-late:
			_ = l.Close()
			return nil, fmt.Errorf("%w: another process has held %s for %s; nothing was written; wait for that process or end it (fuser shows it), then try again", ErrLocked, name, lockWait)
		case <-time.After(lockPause):
		}
	}
}

// newer is how much later than the old file the new one is dated at least. flagd's poll mode
// takes only a later time for a change; file systems keep at least milliseconds.
const newer = 10 * time.Millisecond

// tempName is where the new text of a file is written. There is one name, so that what a dead
// writer left is found; the lock guards it.
func tempName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".driftwatch.tmp")
}

// replace puts text in the place of the file, in one rename, with its mode and owner, if it
// still is at revision base, and returns the modification time that the file has then. On
// failure nothing has changed. The caller holds the lock.
func replace(ctx context.Context, path string, base Revision, text []byte) (modified time.Time, err error) {
	old, err := os.Stat(path)
	if err != nil {
		return modified, fmt.Errorf("%w: %w", ErrConflict, err)
	}
	name := tempName(path)
	t, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return modified, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(name) // the next writer removes it otherwise
		}
	}()
	if err := errors.Join(fill(t, text, old), t.Close()); err != nil {
		return modified, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return modified, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	modified = info.ModTime()
	if least := old.ModTime().Add(newer); modified.Before(least) {
		if err := os.Chtimes(name, least, least); err != nil {
			return modified, fmt.Errorf("%w: %w", ErrForbidden, err)
		}
		modified = least
	}
	if err := ctx.Err(); err != nil {
		return modified, err
	}
	seen, err := os.ReadFile(path)
	if err != nil || revisionOf(seen) != base {
		return modified, fmt.Errorf("%w: the file was overwritten during the write; nothing was changed", ErrConflict)
	}
	if err := os.Rename(name, path); errors.Is(err, unix.EBUSY) {
		return modified, fmt.Errorf("%w: the file is a mount point of its own; mount its folder", ErrReadOnly)
	} else if err != nil {
		return modified, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	return modified, nil
}

// fill writes text with the mode and the owner of the old file and brings it to disk.
func fill(t *os.File, text []byte, old fs.FileInfo) error {
	if _, err := t.Write(text); err != nil {
		return err
	}
	if want, ok := old.Sys().(*syscall.Stat_t); ok && (int(want.Uid) != os.Getuid() || int(want.Gid) != os.Getgid()) {
		if err := t.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return fmt.Errorf("keep the owner: %w", err)
		}
	}
	if err := t.Chmod(old.Mode().Perm()); err != nil {
		return err
	}
	return t.Sync()
}
