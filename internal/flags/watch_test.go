//go:build linux

package flags

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"golang.org/x/sys/unix"
)

// gets is the variant of a flag, or the error's code.
func (a application) gets(t *testing.T, key string) string {
	d, err := a.client.BooleanValueDetails(t.Context(), key, true, openfeature.NewEvaluationContext("u1", nil))
	if err != nil {
		return string(d.ErrorCode)
	}
	return d.Variant
}

// sees waits until the application gets want.
func (a application) sees(t *testing.T, key, want string) {
	t.Helper()
	got := ""
	for range 12_000 {
		if got = a.gets(t, key); got == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("the application gets %q for %s, want %q", got, key, want)
}

// deafFor is how long a watch that is taken for dead is listened to. A live one tells within
// milliseconds; on a machine out of breath a dead one cannot be told from a late one, so only
// the promise is tested for: the application never gets anything but the old and the new.
const deafFor = 300 * time.Millisecond

// deaf reports whether the application keeps getting old.
func (a application) deaf(t *testing.T, key, old string) bool {
	t.Helper()
	for end := time.Now().Add(deafFor); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if a.gets(t, key) != old {
			return false
		}
	}
	return true
}

func watchFile(name, variant string) string {
	if filepath.Ext(name) == ".yaml" {
		return "flags:\n  x: {state: ENABLED, variants: {on: true, mid: true, off: false}, defaultVariant: \"" + variant + "\"}\n  y: {state: ENABLED, variants: {on: true, off: false}, defaultVariant: \"on\"}\n"
	}
	return flagFile(`"x": {"state": "ENABLED", "variants": {"on": true, "mid": true, "off": false}, "defaultVariant": "` + variant + `"}, "y": {` + onOff + `, "defaultVariant": "on"}`)
}

// replaceBy is a write by somebody else, with a temporary file.
func replaceBy(t *testing.T, path, text string, rename func(from, to string) error) {
	t.Helper()
	write(t, path+".new", text)
	if err := rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// What somebody else's way to write does to the watch of flagd's provider v0.6.0 (fsnotify), and
// what becomes of our write after it. Where the watch is dead, no write of anybody reaches the
// application that had the file open, ours neither: a proof in the file opens it anew and holds,
// for it says what the file says ("verified off in the file"); OFREP of that flagd, or exposure,
// is what tells. Recorded with flagd 0.16.1 and its provider (docs/flags.md).
func TestWriteMethodsOfOthers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		write      func(t *testing.T, path, text string)
		dead       bool // the watch is, from then on
	}{
		{"temporary file and rename: seen", "f.json", func(t *testing.T, path, text string) { replaceBy(t, path, text, os.Rename) }, false},
		{"in place: seen", "f.json", write3, false},
		{"slow in place, JSON: the last good is kept, then seen", "f.json", slowly, false},
		{"slow in place, YAML: seen at the end", "f.yaml", slowly, false},
		{"rename with an older mtime: seen", "f.json", func(t *testing.T, path, text string) {
			replaceBy(t, path, text, func(from, to string) error {
				old := time.Now().Add(-time.Hour)
				return errors.Join(os.Chtimes(from, old, old), os.Rename(from, to))
			})
		}, false},
		{"rename while the old file is held open: seen when it is closed", "f.json", func(t *testing.T, path, text string) {
			held, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			replaceBy(t, path, text, os.Rename)
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"editor style, old renamed away: dead fsnotify watch", "f.json", func(t *testing.T, path, text string) {
			if err := os.Rename(path, path+"~"); err != nil {
				t.Fatal(err)
			}
			write(t, path, text)
		}, true},
		{"RENAME_EXCHANGE: dead fsnotify watch", "f.json", func(t *testing.T, path, text string) {
			replaceBy(t, path, text, func(from, to string) error {
				return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
			})
		}, true},
		{"hard link backup: dead fsnotify watch", "f.json", func(t *testing.T, path, text string) {
			if err := os.Link(path, path+".bak"); err != nil {
				t.Fatal(err)
			}
			replaceBy(t, path, text, os.Rename)
		}, true},
		{"deleted and created again: dead fsnotify watch", "f.json", func(t *testing.T, path, text string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond) // for the watch to be told before there is a file again
			write(t, path, text)
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, path := source(t, tt.file, watchFile(tt.file, "on"))
			app := newApplication(t, path)
			app.sees(t, "x", "on")
			tt.write(t, path, watchFile(tt.file, "mid"))
			switch {
			case !tt.dead:
				app.sees(t, "x", "mid")
			case !app.deaf(t, "x", "on"):
				t.Logf("the watch survived, which flagd's provider v0.6.0 was not recorded to do: got %q", app.gets(t, "x"))
			}
			mustTurnOff(t, f, planned(t, f, "x"))
			e, err := NewFileProver(path).Prove(t.Context(), question("x"), time.Minute)
			if err != nil || e.Viewpoint.Kind != File {
				t.Errorf("%v: %+v", err, e)
			}
			if !tt.dead {
				app.sees(t, "x", "off")
				return
			}
			// A proof through the application that is deaf is honest about it.
			blind := &OpenFeatureProver{Every: time.Millisecond, viewpoint: Viewpoint{OFREP, "the application"}, open: func(context.Context) (session, error) {
				return session{provider: deafProvider{app}, notes: func() []string { return nil }, close: func() {}}, nil
			}}
			if e, err := blind.Prove(t.Context(), question("x"), time.Millisecond); app.gets(t, "x") != "off" && (!errors.Is(err, ErrUnproven) || e.Proved) {
				t.Errorf("the application does not get off, and the proof says %+v, %v", e, err)
			}
		})
	}
}

func write3(t *testing.T, path, text string) { write(t, path, text) }

// slowly writes in place and pauses in the middle, at the end of a line or of a member.
func slowly(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	cut := strings.Index(text, "  y:")
	if cut < 0 {
		cut = strings.Index(text, `, "y"`)
	}
	for _, part := range []string{text[:cut], text[cut:]} {
		if _, err := file.WriteString(part); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// A deafProvider answers as an application does that has its provider open.
type deafProvider struct{ application }

func (deafProvider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "deaf"} }
func (deafProvider) Hooks() []openfeature.Hook      { return nil }
func (p deafProvider) BooleanEvaluation(ctx context.Context, flag string, fallback bool, c openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	key, _ := c["targetingKey"].(string)
	d, err := p.client.BooleanValueDetails(ctx, flag, fallback, openfeature.NewEvaluationContext(key, nil))
	out := openfeature.BoolResolutionDetail{Value: d.Value, ProviderResolutionDetail: openfeature.ProviderResolutionDetail{Reason: d.Reason, Variant: d.Variant}}
	if err != nil {
		out.ResolutionError = openfeature.NewGeneralResolutionError(err.Error())
	}
	return out
}

func (deafProvider) StringEvaluation(context.Context, string, string, openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	panic("not asked")
}

func (deafProvider) FloatEvaluation(context.Context, string, float64, openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	panic("not asked")
}

func (deafProvider) IntEvaluation(context.Context, string, int64, openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	panic("not asked")
}

func (deafProvider) ObjectEvaluation(context.Context, string, any, openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	panic("not asked")
}

// A YAML file that is cut between two flags is valid, and the flags behind the cut are gone
// until it is whole: the application falls back to its own default. driftwatch never writes so.
func TestTruncatedYAMLIsValidToFlagd(t *testing.T) {
	text := watchFile("f.yaml", "on")
	cut := text[:strings.Index(text, "  y:")]
	set, err := loadFlagd("f.yaml", []byte(cut))
	if err != nil {
		t.Fatalf("flagd refuses it: %v", err)
	}
	if err := set.serves("y", "on"); err == nil || !strings.Contains(err.Error(), "FLAG_NOT_FOUND") {
		t.Errorf("the flag behind the cut: %v, want FLAG_NOT_FOUND", err)
	}
	whole := watchFile("f.json", "on")
	if _, err := loadFlagd("f.json", []byte(whole[:len(whole)/2])); !errors.Is(err, ErrInvalid) {
		t.Errorf("JSON cut in the middle: %v, want ErrInvalid", err)
	}
}

// A mounted ConfigMap: ..data is swapped for another folder, three times in a row.
func TestConfigMapSwapsAreSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := 0
	swap := func(variant string) {
		t.Helper()
		n++
		data := filepath.Join(dir, "..data_"+variant+string(rune('0'+n)))
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(data, "f.json"), watchFile("f.json", variant))
		old, _ := os.Readlink(filepath.Join(dir, "..data"))
		if err := errors.Join(os.Symlink(filepath.Base(data), filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
		if old != "" {
			if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap("on")
	path := filepath.Join(dir, "f.json")
	if err := os.Symlink("..data/f.json", path); err != nil {
		t.Fatal(err)
	}
	app := newApplication(t, path)
	app.sees(t, "x", "on")
	for _, variant := range []string{"mid", "off", "on"} {
		swap(variant)
		app.sees(t, "x", variant)
	}
	f := NewFlagdFile("production", path)
	if _, err := f.TurnOff(t.Context(), planned(t, f, "x")); !errors.Is(err, ErrManagedElsewhere) {
		t.Errorf("turn off: %v, want ErrManagedElsewhere: the object is to be patched", err)
	}
	swap("off") // as the patched object arrives
	if e, err := NewFileProver(path).Prove(t.Context(), question("x"), time.Minute); err != nil {
		t.Errorf("%v: %+v", err, e)
	}
}

// BenchmarkFlipToProved is a write and its proof in the file: the bar of the issue is a second.
func BenchmarkFlipToProved(b *testing.B) {
	for b.Loop() {
		f, path := source(b, "f.json", jsonFile)
		c := planned(b, f, "frac")
		mustTurnOff(b, f, c)
		if _, err := NewFileProver(path).Prove(b.Context(), question("frac"), time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
