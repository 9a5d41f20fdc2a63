package flags

import (
	"context"
	"fmt"

	"github.com/driftwatch/driftwatch/internal/suggest"
)

// A FlagdFile is a file of flag definitions that flagd reads, JSON or YAML by its extension,
// edited in place: one changed line where the flag's text allows it, and nothing but the flag.
type FlagdFile struct {
	textFile
	name string
}

// NewFlagdFile returns the source of that name in the file at path.
func NewFlagdFile(name, path string) *FlagdFile { return &FlagdFile{newTextFile(path), name} }

// dialect is how the text of the file is read.
func (f *FlagdFile) dialect() dialect { return flagdText{f.path} }

// Read implements Switch.
func (f *FlagdFile) Read(ctx context.Context, r Ref) (State, error) {
	return f.readFlag(ctx, f.dialect(), r)
}

// readFlag is Read for a flag in the file.
func (f textFile) readFlag(ctx context.Context, d dialect, r Ref) (State, error) {
	s := State{Ref: r, Path: f.path}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	text, resolved, err := f.read()
	if err != nil {
		return s, f.fail(r, err)
	}
	s, err = stateOf(d, r, f.path, text)
	s.Changed, s.ReadOnly = f.modified(resolved), f.readOnly(resolved)
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
	return f.turnOff(ctx, f.dialect(), c)
}

// Restore implements Switch. The file gets back the bytes it had, but a new modification time.
func (f *FlagdFile) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	return f.restore(ctx, f.dialect(), rc)
}

// turnOff makes the patch of a change in the file.
func (f textFile) turnOff(ctx context.Context, d dialect, c Change) (Receipt, error) {
	rc := Receipt{Change: c, Before: c.Base, After: c.After}
	p, err := patchOf(c.Forward)
	if err == nil {
		err = f.patch(ctx, &rc, p, func(before, after []byte) error { return d.check(c, before, after) })
	}
	return f.ended(rc, err)
}

// restore takes the patch of a receipt back.
func (f textFile) restore(ctx context.Context, d dialect, rc Receipt) (Receipt, error) {
	c := rc.Change
	back := Receipt{Change: c, Before: c.After, After: c.Base, Restore: true}
	p, err := patchOf(c.Inverse)
	if err == nil {
		err = f.patch(ctx, &back, p, func(_, after []byte) error { return d.load(after) })
	}
	return f.ended(back, err)
}

// patch brings the file from rc.Before to rc.After.
func (f textFile) patch(ctx context.Context, rc *Receipt, p Patch, check func(before, after []byte) error) error {
	w, err := f.write(ctx, p.from(rc.Before, rc.After, check))
	rc.Already, rc.Written = w.already, w.modified
	return err
}

// Settle implements Switch.
func (f *FlagdFile) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, err := f.Read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, err
	}
	return settleText(s, c, restore), nil
}
