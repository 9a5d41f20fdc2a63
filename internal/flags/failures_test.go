//go:build linux

package flags

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The failure list of a file that holds flags, by symptom: each is refused by its name, and the
// file is what it was. Elsewhere: a dead fsnotify watch and a slow YAML write (TestWriteMethodsOfOthers),
// an overlay shadowed by a later source (TestOverlayShadowedByALaterSource), a vip rule beside a
// ramp (TestProveInFile, TestRampToZero), DISABLED with default true
// (TestDisabledFallsBackToTheCodeDefault), a writer that ignores the lock (TestFailureAfterTheRename).
func TestFailureList(t *testing.T) {
	const aliased = "flags:\n  x: &f {state: ENABLED, variants: {on: true, off: false}, defaultVariant: \"on\"}\n  other: *f\n"
	tests := []struct {
		name, file, text string
		after            func(t *testing.T, path string) // between the reading and the writing
		want             error
		words            string
	}{
		{"other flag in the file invalid", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "on"}, "y": {` + onOff + `, "defaultVariant": "nope"}`), nil, ErrInvalid, "'nope' isn't a valid variant of flag: 'y'"},
		{"alias YAML", "f.yaml", aliased, nil, ErrAmbiguousEdit, "&f"},
		{"duplicate JSON keys", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "on"}, "x": {` + onOff + `, "defaultVariant": "on"}`), nil, ErrAmbiguousEdit, "twice"},
		{"DISABLED serves no variant", "f.json", flagFile(`"x": {"state": "DISABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}`), nil, ErrInvalid, "no variant"},
		{"permission lost between read and write", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "on"}`), func(t *testing.T, path string) {
			chmod(t, filepath.Dir(path), 0o555)
			t.Cleanup(func() { chmod(t, filepath.Dir(path), 0o755) })
		}, ErrReadOnly, "no write bit"},
		{"read-only file system", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "on"}`), readOnlyFileSystem, ErrReadOnly, ""},
		{"deleted between read and write", "f.json", flagFile(`"x": {` + onOff + `, "defaultVariant": "on"}`), func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, ErrNotFound, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, path := source(t, tt.file, tt.text)
			s, err := f.Read(t.Context(), Ref{"production", "x"})
			var c Change
			if err == nil {
				c, err = f.Plan(s, OffVariant, Want{Variant: "off"})
			}
			if err == nil && tt.after != nil {
				tt.after(t, path)
				_, err = f.TurnOff(t.Context(), c)
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.words)
			}
			if now, err := os.ReadFile(path); err == nil && string(now) != tt.text {
				t.Errorf("the file was changed:\n%s", now)
			}
			if l := leftovers(t, path); l != nil {
				t.Errorf("left over: %v", l)
			}
		})
	}
}

// readOnlyFileSystem mounts the folder on itself, read-only. Where this process may not mount,
// the folder loses its write bits instead: the same refusal for the will of its owner.
func readOnlyFileSystem(t *testing.T, path string) {
	t.Helper()
	dir := filepath.Dir(path)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err == nil {
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Fatalf("the mount is not read-only: %v", err)
		}
		return
	}
	t.Log("this process may not mount; the folder is made read-only by its mode")
	chmod(t, dir, 0o555)
	t.Cleanup(func() { chmod(t, dir, 0o755) })
}

// TestFullHelper is not a test: TestDiskFull runs it in a process of its own, which may write no
// file longer than ten bytes.
func TestFullHelper(t *testing.T) {
	text := os.Getenv("DRIFTWATCH_TEST_FULL")
	if text == "" {
		return
	}
	var c Change
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	old := limit.Cur
	limit.Cur = 10
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	_, err := NewFlagdFile("production", c.Path).TurnOff(t.Context(), c)
	limit.Cur = old
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "nothing was changed; make room") {
		t.Errorf("error %v, want ErrFull", err)
	}
}

func TestDiskFull(t *testing.T) {
	f, path := source(t, "f.json", jsonFile)
	c := planned(t, f, "plain")
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullHelper$")
	other.Env = append(os.Environ(), "DRIFTWATCH_TEST_FULL="+string(b))
	if out, err := other.CombinedOutput(); err != nil || strings.Contains(string(out), "no tests to run") {
		t.Errorf("%v\n%s", err, out)
	}
	if now := content(t, path); now != jsonFile {
		t.Errorf("the file was changed:\n%s", now)
	}
	if l := leftovers(t, path); l != nil {
		t.Errorf("left over: %v", l)
	}
	for _, full := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if err := refused(full); !errors.Is(err, ErrFull) {
			t.Errorf("%v is %v, want ErrFull", full, err)
		}
	}
	mustTurnOff(t, f, c) // with room again
}
