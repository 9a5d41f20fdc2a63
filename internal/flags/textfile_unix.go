//go:build unix

package flags

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// write puts what e makes of the file in its place. Unless it is ErrWrittenUnsure, a failure
// has changed nothing.
func (f textFile) write(ctx context.Context, e edit) (w fileWrite, err error) {
	_, resolved, err := f.read()
	if err != nil {
		return w, err
	}
	if err := f.writable(resolved); err != nil {
		return w, err
	}
	unlock, err := lock(ctx, resolved)
	if err != nil {
		return w, err
	}
	defer unlock()
	if err := os.Remove(tempName(resolved)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a writer that died
		return w, refused(err)
	}

	before, err := os.ReadFile(resolved)
	if err != nil {
		return w, fmt.Errorf("%w: %w", ErrConflict, err) // it was there a moment ago
	}
	after, already, err := e(before)
	if err != nil {
		return w, err
	}
	w.before, w.after, w.already = revisionOf(before), revisionOf(after), already
	if already {
		info, err := os.Stat(resolved)
		if err != nil {
			return w, fmt.Errorf("%w: %w", ErrConflict, err)
		}
		w.modified = info.ModTime()
		return w, nil
	}
	if w.modified, err = replace(ctx, resolved, w.before, after); err != nil {
		return w, err
	}
	return w, f.makeCertain(resolved, w.after)
}

// refused names what a system call refused.
func refused(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: %w; nothing was changed; make room and try again", ErrFull, err)
	}
	return fmt.Errorf("%w: %w", ErrForbidden, err)
}

// makeCertain brings the rename that wrote path to disk and looks whether the file still is what
// was written: a writer that ignores the lock may have come. Whatever fails here is
// ErrWrittenUnsure.
func (f textFile) makeCertain(path string, written Revision) error {
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
func (f textFile) writable(resolved string) error {
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
		return nil, refused(fmt.Errorf("lock: %w", err))
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
		return modified, refused(err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(name) // the next writer removes it otherwise
		}
	}()
	if err := errors.Join(fill(t, text, old), t.Close()); err != nil {
		return modified, refused(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return modified, refused(err)
	}
	modified = info.ModTime()
	if least := old.ModTime().Add(newer); modified.Before(least) {
		if err := os.Chtimes(name, least, least); err != nil {
			return modified, refused(err)
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
		return modified, refused(err)
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
