//go:build unix

package flags

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// planned reads the flag and plans to turn it off.
func planned(t testing.TB, f *FlagdFile, key string) Change {
	t.Helper()
	c, err := f.Plan(read(t, f, key), OffVariant, Want{Variant: "off"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// plannedBy reads a flag and plans to turn it off, as an action that has a case.
func plannedBy(t *testing.T, s Switch, r Ref, m Mode, variant string) Change {
	t.Helper()
	state, err := s.Read(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Plan(state, m, Want{Variant: variant})
	if err != nil {
		t.Fatal(err)
	}
	c.Case = "20260311-1402-pay/" + r.Key
	return c
}

func mustTurnOff(t testing.TB, f *FlagdFile, c Change) Receipt {
	t.Helper()
	rc, err := f.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

// leftovers lists what is in the folder beside the flag file and its lock.
func leftovers(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if name := e.Name(); name != filepath.Base(path) && !strings.HasSuffix(name, ".driftwatch.lock") {
			out = append(out, name)
		}
	}
	return out
}

func TestChangeSurvivesTheJournal(t *testing.T) {
	f, path := source(t, "f.yaml", yamlFile)
	c := planned(t, f, "frac")
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again Change
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, again) {
		t.Fatalf("change came back as %+v, was %+v", again, c)
	}
	b, err = json.Marshal(mustTurnOff(t, f, again))
	if err != nil {
		t.Fatal(err)
	}
	var rc Receipt
	if err := json.Unmarshal(b, &rc); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	if back, _ := os.ReadFile(path); string(back) != yamlFile {
		t.Errorf("restored text differs:\n%s", back)
	}
}

func TestTurnOffTwiceWritesOnce(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	c := planned(t, f, "frac")
	first := mustTurnOff(t, f, c)
	info, _ := os.Stat(path)
	second := mustTurnOff(t, f, c)
	if first.Already || !second.Already {
		t.Errorf("already: %v then %v, want false then true", first.Already, second.Already)
	}
	if again, _ := os.Stat(path); !os.SameFile(info, again) || !again.ModTime().Equal(info.ModTime()) {
		t.Error("the second call wrote the file again")
	}
	if !second.Written.Equal(info.ModTime()) {
		t.Errorf("written at %v, the file says %v", second.Written, info.ModTime())
	}
	if _, err := f.Restore(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	back, err := f.Restore(t.Context(), first)
	if err != nil || !back.Already || !back.Restore {
		t.Errorf("second restore: %+v, %v; want already", back, err)
	}
}

func TestConflict(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	c := planned(t, f, "frac")
	edited := strings.Replace(jsonFile, `"tag": "<b>"`, `"tag": "<i>"`, 1)
	if err := os.WriteFile(path, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := f.TurnOff(t.Context(), c)
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), c.Base.Short()) || !strings.Contains(err.Error(), revisionOf([]byte(edited)).Short()) {
		t.Errorf("turn off on a changed file: %v, want ErrConflict with both revisions", err)
	}

	rc := mustTurnOff(t, f, planned(t, f, "frac"))
	off, _ := os.ReadFile(path)
	theirs := strings.Replace(string(off), "<i>", "<u>", 1)
	if err := os.WriteFile(path, []byte(theirs), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Restore(t.Context(), rc); !errors.Is(err, ErrConflict) {
		t.Errorf("restore over somebody else's edit: %v, want ErrConflict", err)
	}
	if now, _ := os.ReadFile(path); string(now) != theirs {
		t.Errorf("somebody else's edit was changed:\n%s", now)
	}
	if l := leftovers(t, path); l != nil {
		t.Errorf("left over: %v", l)
	}
}

// What fails after the rename leaves a receipt: the file is written, and the journal has to know.
func TestFailureAfterTheRename(t *testing.T) {
	broken := errors.New("input/output error")
	tests := []struct {
		name  string
		after func(path string) error // in place of the folder's sync
		words string
	}{
		{"the folder cannot be synced", func(string) error { return broken }, "its folder cannot be synced"},
		{"a writer that ignores the lock", func(path string) error { return os.WriteFile(path, []byte("{}"), 0o644) }, "overwritten right after the write, revision "},
		{"the file is gone", os.Remove, "cannot be read again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, path := source(t, "f.json", jsonFile)
			c := planned(t, f, "plain")
			shaky := NewFlagdFile("production", path)
			shaky.syncFolder = func(string) error { return tt.after(path) }

			rc, err := shaky.TurnOff(t.Context(), c)
			if !errors.Is(err, ErrWrittenUnsure) || errors.Is(err, ErrConflict) || errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("turn off: %v, want only ErrWrittenUnsure with %q", err, tt.words)
			}
			if !reflect.DeepEqual(rc.Change, c) || rc.Before != c.Base || rc.After != c.After || rc.Restore || rc.Already || rc.Written.IsZero() {
				t.Errorf("turn off: receipt %+v", rc)
			}
			if l := leftovers(t, path); l != nil {
				t.Errorf("left over: %v", l)
			}

			after, err := forward(t, c).Apply([]byte(jsonFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, after, 0o644); err != nil {
				t.Fatal(err)
			}
			back, err := shaky.Restore(t.Context(), rc)
			if !errors.Is(err, ErrWrittenUnsure) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("restore: %v, want ErrWrittenUnsure with %q", err, tt.words)
			}
			if back.Before != c.After || back.After != c.Base || !back.Restore || back.Written.IsZero() {
				t.Errorf("restore: receipt %+v", back)
			}
		})
	}
	t.Run("the folder is not there", func(t *testing.T) {
		if err := syncFolder(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("sync of no folder: %v", err)
		}
	})
}

func TestTurnOffChecksWhatTheJournalHolds(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	c := planned(t, f, "plain")
	nope := Patch{{forward(t, c)[0].Offset, forward(t, c)[0].Old, `"nope"`}}
	c.Forward = nope.raw()
	after, _ := nope.Apply([]byte(jsonFile))
	if _, err := f.TurnOff(t.Context(), c); !errors.Is(err, ErrInvalid) {
		t.Errorf("a change that does not lead to its revision: %v, want ErrInvalid", err)
	}
	c.After, c.Want.Variant = revisionOf(after), "nope"
	if _, err := f.TurnOff(t.Context(), c); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "isn't a valid variant") {
		t.Errorf("a change that flagd would refuse: %v, want ErrInvalid in flagd's words", err)
	}
	if now, _ := os.ReadFile(path); string(now) != jsonFile {
		t.Error("the file was changed")
	}
}

func TestWriteKeepsModeAndOwnerAndIsNewer(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, 1234, 2345); err != nil {
			t.Fatal(err)
		}
	}
	future := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	if err := os.Chtimes(path, future, future); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(path)
	rc := mustTurnOff(t, f, planned(t, f, "plain"))
	after, _ := os.Stat(path)
	if !rc.Written.Equal(after.ModTime()) {
		t.Errorf("written at %v, the file says %v", rc.Written, after.ModTime())
	}
	if after.Mode() != before.Mode() {
		t.Errorf("mode %v, was %v", after.Mode(), before.Mode())
	}
	a, b := after.Sys().(*syscall.Stat_t), before.Sys().(*syscall.Stat_t)
	if a.Uid != b.Uid || a.Gid != b.Gid {
		t.Errorf("owner %d:%d, was %d:%d", a.Uid, a.Gid, b.Uid, b.Gid)
	}
	if want := future.Add(10 * time.Millisecond); after.ModTime().Before(want) {
		t.Errorf("modified at %v, want %v or later: flagd's poll mode would not see it", after.ModTime(), want)
	}
	if os.SameFile(before, after) {
		t.Error("the file was written in place")
	}
	if _, err := f.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	if back, _ := os.Stat(path); back.ModTime().Before(after.ModTime().Add(10 * time.Millisecond)) {
		t.Errorf("restored with time %v, not newer than %v", back.ModTime(), after.ModTime())
	}
}

func TestWriteWithoutNeedLeavesTheClockAlone(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	rc := mustTurnOff(t, f, planned(t, f, "plain"))
	if age := time.Since(rc.Written); age > time.Minute || age < -time.Minute {
		t.Errorf("written %v ago", age)
	}
}

func TestWriteThroughSymlink(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	g := NewFlagdFile("production", link)
	mustTurnOff(t, g, planned(t, g, "plain"))
	if info, _ := os.Lstat(link); info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced by a file")
	}
	if !read(t, f, "plain").Off("off") {
		t.Error("the file behind the link is unchanged")
	}
	if l := leftovers(t, link); l != nil {
		t.Errorf("written beside the link: %v", l)
	}
}

func TestCrashLeftoversDoNotMatter(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	c := planned(t, f, "plain")
	for _, name := range []string{".f.json.driftwatch.tmp", ".f.json.driftwatch.lock"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(`{"flags": {"half`), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() != 0 { // root opens it in any mode
		if err := os.Chmod(filepath.Join(filepath.Dir(path), ".f.json.driftwatch.lock"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustTurnOff(t, f, c)
	if l := leftovers(t, path); l != nil {
		t.Errorf("left over: %v", l)
	}
	// One that died between its rename and its end leaves the same, with nothing to write.
	if err := os.WriteFile(tempName(path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if rc := mustTurnOff(t, f, c); !rc.Already || leftovers(t, path) != nil {
		t.Errorf("already %v, left over %v", rc.Already, leftovers(t, path))
	}
	if !read(t, f, "plain").Off("off") {
		t.Error("the flag is not off")
	}
}

func TestReadOnly(t *testing.T) {
	tests := []struct {
		name  string
		make  func(t *testing.T, path string)
		want  error
		words string
	}{
		{"a file without a write bit", func(t *testing.T, path string) { chmod(t, path, 0o444) }, ErrReadOnly, "no write bit"},
		{"a folder without a write bit", func(t *testing.T, path string) {
			chmod(t, filepath.Dir(path), 0o555)
			t.Cleanup(func() { chmod(t, filepath.Dir(path), 0o755) })
		}, ErrReadOnly, "no write bit"},
		{"a second hard link", func(t *testing.T, path string) {
			if err := os.Link(path, path+".bak"); err != nil {
				t.Fatal(err)
			}
		}, ErrAmbiguousEdit, "2 hard links"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, path := source(t, "f.json", jsonFile)
			c := planned(t, f, "plain")
			tt.make(t, path)
			if s := read(t, f, "plain"); !strings.Contains(s.ReadOnly, tt.words) {
				t.Errorf("state says %q, want %q", s.ReadOnly, tt.words)
			}
			if _, err := f.TurnOff(t.Context(), c); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.words)
			}
			if now, _ := os.ReadFile(path); string(now) != jsonFile {
				t.Error("the file was changed")
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), ".f.json.driftwatch.lock")); err == nil {
				t.Error("a lock file was written")
			}
		})
	}
	t.Run("a mounted ConfigMap", func(t *testing.T) {
		dir := t.TempDir()
		data := filepath.Join(dir, "..2026_11_22")
		if err := errors.Join(os.Mkdir(data, 0o755), os.WriteFile(filepath.Join(data, "f.json"), []byte(jsonFile), 0o644),
			os.Symlink("..2026_11_22", filepath.Join(dir, "..data")), os.Symlink("..data/f.json", filepath.Join(dir, "f.json"))); err != nil {
			t.Fatal(err)
		}
		f := NewFlagdFile("production", filepath.Join(dir, "f.json"))
		if s := read(t, f, "plain"); !strings.Contains(s.ReadOnly, "ConfigMap") {
			t.Errorf("state says %q", s.ReadOnly)
		}
		if _, err := f.TurnOff(t.Context(), planned(t, f, "plain")); !errors.Is(err, ErrManagedElsewhere) {
			t.Errorf("error %v, want ErrManagedElsewhere", err)
		}
	})
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// Twenty writers with one plan: one writes, the others find it written. A reader that looks
// all the time sees the old bytes or the new ones, never anything between.
func TestWritersAndReaders(t *testing.T) {
	f, path := source(t, "f.yaml", yamlFile)
	c := planned(t, f, "frac")
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if b, err := os.ReadFile(path); err != nil || revisionOf(b) != c.Base && revisionOf(b) != c.After {
				t.Errorf("a reader saw %d bytes of revision %s, %v", len(b), revisionOf(b).Short(), err)
				return
			}
		}
	})
	wrote := make(chan Receipt, 20)
	for range 20 {
		writers.Go(func() {
			rc, err := f.TurnOff(t.Context(), c)
			if err != nil {
				t.Error(err)
			}
			wrote <- rc
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	close(wrote)
	n := 0
	for rc := range wrote {
		if !rc.Already {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d writers wrote, want 1", n)
	}
}

// TestLockHelper is not a test: TestLockHeldByAnotherProcess runs it in a process of its own,
// to hold the lock until its standard input ends.
func TestLockHelper(t *testing.T) {
	path := os.Getenv("DRIFTWATCH_TEST_LOCK")
	if path == "" {
		return
	}
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := os.Stdout.WriteString("locked\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // it ends, in whatever way
}

func TestLockHeldByAnotherProcess(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	c := planned(t, f, "plain")
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockHelper$")
	other.Env = append(os.Environ(), "DRIFTWATCH_TEST_LOCK="+path)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if b := make([]byte, len("locked")); must(out.Read(b)) == 0 || string(b) != "locked" {
		t.Fatalf("the other process said %q", b)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.TurnOff(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another process holds the lock: %v, want the deadline", err)
	}
	if now, _ := os.ReadFile(path); string(now) != jsonFile {
		t.Error("the file was changed without the lock")
	}
	written := make(chan error, 1)
	go func() {
		_, err := f.TurnOff(context.WithoutCancel(t.Context()), c)
		written <- err
	}()
	if err := errors.Join(in.Close(), other.Wait(), <-written); err != nil {
		t.Error(err)
	}
	if !read(t, f, "plain").Off("off") {
		t.Error("the waiting writer did not write")
	}
}

// A process that is stopped while it holds the lock does not stop the others for good, though
// their context never ends.
func TestLockHeldForGood(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	c := planned(t, f, "plain")
	synctest.Test(t, func(t *testing.T) { // its clock runs ahead while all wait
		unlock, err := lock(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		within, cancel := context.WithTimeout(t.Context(), time.Hour) // without a bound of its own, the wait ends here
		defer cancel()
		_, err = f.TurnOff(within, c)
		if waited := time.Since(start); !errors.Is(err, ErrLocked) || waited < 2*time.Second || waited > 2100*time.Millisecond {
			t.Errorf("after %v: %v, want ErrLocked after 2 s", waited, err)
		}
		if words := filepath.Join(filepath.Dir(path), ".f.json.driftwatch.lock"); !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "nothing was written") {
			t.Errorf("error %v, want one that names %s", err, words)
		}
		if now, _ := os.ReadFile(path); string(now) != jsonFile {
			t.Error("the file was changed without the lock")
		}
		unlock()
		mustTurnOff(t, f, c)
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A writer that is killed at any moment leaves the old file or the new one, and the next
// writer finishes.
func TestKilledWriter(t *testing.T) {
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			f, path := source(t, "f.json", jsonFile)
			c := planned(t, f, "frac")
			b, _ := json.Marshal(c)
			other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriteHelper$")
			other.Env = append(os.Environ(), "DRIFTWATCH_TEST_CHANGE="+string(b))
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(i) * 8 * time.Millisecond)
			if err := other.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = other.Wait() // it was killed
			if now, _ := os.ReadFile(path); revisionOf(now) != c.Base && revisionOf(now) != c.After {
				t.Fatalf("a half-written file of %d bytes", len(now))
			}
			mustTurnOff(t, f, c)
			if l := leftovers(t, path); l != nil {
				t.Errorf("left over: %v", l)
			}
		})
	}
}

// TestWriteHelper is not a test: TestKilledWriter runs it in a process of its own.
func TestWriteHelper(t *testing.T) {
	text := os.Getenv("DRIFTWATCH_TEST_CHANGE")
	if text == "" {
		return
	}
	var c Change
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	f := NewFlagdFile("production", c.Path)
	for {
		rc, err := f.TurnOff(t.Context(), c)
		if err == nil {
			_, err = f.Restore(t.Context(), rc)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRevision(t *testing.T) {
	// echo -n abc | sha256sum
	r := revisionOf([]byte("abc"))
	if r != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" || r.Short() != "ba7816bf" {
		t.Errorf("revision of abc = %s, short %s", r, r.Short())
	}
	for s, want := range map[string]bool{"ba7816bf": true, "ba7816bf8f01": true, string(r): true, "ba7816b": false, "": false, "ba7816b0": false, string(r) + "0": false} {
		if r.Matches(s) != want {
			t.Errorf("%q matches: %v, want %v", s, !want, want)
		}
	}
}
