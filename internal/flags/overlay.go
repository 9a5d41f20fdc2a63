package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
)

// A FlagdOverlay is two files that flagd reads: one that others write, which is only read, and
// behind it one that is driftwatch's alone, which flagd lists last, so that it wins. Nothing is
// in it while nothing is off; undoing is taking a flag out of it again.
type FlagdOverlay struct {
	textFile // the overlay
	name     string
	base     textFile
}

// NewFlagdOverlay returns the source of that name over the file at base.
func NewFlagdOverlay(name, base, overlay string) *FlagdOverlay {
	return &FlagdOverlay{newTextFile(overlay), name, newTextFile(base)}
}

// caseKey is where an entry of an overlay says which action wrote it. It is what tells the
// entries of driftwatch from those of others.
const caseKey = "driftwatch.dev/case"

// An overlayChange is Change.Forward and Change.Inverse of an overlay: the entry without its
// case, and what it was made from.
type overlayChange struct {
	Base    Revision        `json:"base"`    // of the file below
	Overlay Revision        `json:"overlay"` // of the overlay
	Entry   json.RawMessage `json:"entry"`   // the flag in the overlay
}

// both is the revision of the two files together.
func (o *FlagdOverlay) both(base, overlay Revision) Revision {
	return revisionOf([]byte(base + "+" + overlay))
}

// layers is both files as they were read.
type layers struct {
	base, overlay Revision
	below         map[string]json.RawMessage // the flags of the file below, in JSON
	metadata      map[string]json.RawMessage // of all the flags below
	ours          map[string]json.RawMessage // the flags of the overlay
	resolved      string                     // where the overlay really is
}

const createOverlay = `create it with the text {"flags":{}} and list it last in flagd's sources; flagd needs it at its start`

// readOverlay is the text of the overlay. Its absence is ErrReadOnly: driftwatch never makes it,
// because a flagd that has started without it will never see it.
func (o *FlagdOverlay) readOverlay() (text []byte, resolved string, err error) {
	text, resolved, err = o.read()
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: there is no overlay %s; %s", ErrReadOnly, o.path, createOverlay)
	}
	return text, resolved, err
}

func (o *FlagdOverlay) readBase() ([]byte, error) {
	text, _, err := o.base.read()
	if err != nil {
		return nil, fmt.Errorf("%w: %s, which the overlay lies over", err, o.base.path)
	}
	return text, nil
}

// layers reads both files. ErrReadOnly comes with all but the overlay.
func (o *FlagdOverlay) layers() (l layers, err error) {
	text, err := o.readBase()
	if err != nil {
		return l, err
	}
	l.base = revisionOf(text)
	baseJSON, err := toJSON(o.base.path, text)
	if err != nil {
		return l, err
	}
	var doc struct {
		Flags    map[string]json.RawMessage `json:"flags"`
		Metadata map[string]json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(baseJSON), &doc); err != nil {
		return l, fmt.Errorf("%w: %s: %w; a list of flags has no overlay", ErrInvalid, o.base.path, err)
	}
	l.below, l.metadata = doc.Flags, doc.Metadata

	text, l.resolved, err = o.readOverlay()
	if err != nil {
		return l, err
	}
	l.overlay = revisionOf(text)
	l.ours, err = o.entries(text)
	return l, err
}

// entries are the flags of an overlay's text. What driftwatch has not written is somebody
// else's, who would lose it, or does not know what the file is for.
func (o *FlagdOverlay) entries(text []byte) (map[string]json.RawMessage, error) {
	root, err := parseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%w; the overlay is driftwatch's alone and holds JSON, at first {\"flags\":{}}", err)
	}
	foreign := func(what string) error {
		return fmt.Errorf("%w: the overlay %s holds %s, which driftwatch did not write; it is driftwatch's alone: move that to another file", ErrManagedElsewhere, o.path, what)
	}
	if !root.object {
		return nil, foreign("something else than flags")
	}
	if err := root.unique(false); err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	found := false
	for _, m := range root.members {
		if m.name != "flags" || !m.object {
			return nil, foreign(fmt.Sprintf("%q", m.name))
		}
		found = true
		for _, flag := range m.members {
			entry := json.RawMessage(flag.of(text))
			if caseOf(entry) == "" {
				return nil, foreign("the flag " + flag.name)
			}
			out[flag.name] = entry
		}
	}
	if !found {
		return nil, foreign(`no "flags"`)
	}
	return out, nil
}

// caseOf is the action that wrote an entry, "" where it is none of driftwatch's.
func caseOf(entry json.RawMessage) string {
	var e struct {
		Metadata map[string]any `json:"metadata"`
	}
	if json.Unmarshal(entry, &e) != nil {
		return ""
	}
	s, _ := e.Metadata[caseKey].(string)
	return s
}

// render is the text of an overlay: one flag per line.
func render(entries map[string]json.RawMessage) []byte {
	if len(entries) == 0 {
		return []byte("{\"flags\":{}}\n")
	}
	var lines []string
	for _, key := range sortedKeys(entries) {
		var line bytes.Buffer
		if err := json.Compact(&line, entries[key]); err != nil {
			panic("flags: an entry was read as JSON: " + err.Error())
		}
		lines = append(lines, "  "+quoteJSON(key)+": "+line.String())
	}
	return []byte("{\"flags\":{\n" + strings.Join(lines, ",\n") + "\n}}\n")
}

// Read implements Switch: what flagd makes of both files.
func (o *FlagdOverlay) Read(ctx context.Context, r Ref) (State, error) {
	s := State{Ref: r, Path: o.path}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	l, err := o.layers()
	absent := errors.Is(err, ErrReadOnly)
	if err != nil && !absent {
		return s, o.fail(r, err)
	}
	s.Revision = o.both(l.base, l.overlay)
	if absent {
		s.ReadOnly, _ = kindOf(err)
	} else {
		s.Changed, s.ReadOnly = o.modified(l.resolved), o.readOnly(l.resolved)
	}
	below, has := l.below[r.Key]
	entry, over := l.ours[r.Key]
	if !has && !over {
		return s, o.fail(r, fmt.Errorf("%w: %s", ErrNotFound, missing(r.Key, sortedKeys(l.below))))
	}
	t, err := decodeFlag(below)
	s.Probes = contextsOf(t.targeting) // the rules that an entry covers tell contexts apart, too
	if over {
		t, err = decodeFlag(entry)
	}
	if err != nil {
		return s, o.fail(r, err)
	}
	t.describe(&s)
	raw := overlayChange{Base: l.base, Overlay: l.overlay}
	if raw.Entry, err = l.entry(r.Key); err != nil {
		return s, o.fail(r, err)
	}
	if s.Raw, err = json.Marshal(raw); err != nil {
		return s, o.fail(r, fmt.Errorf("%w: %w", ErrInvalid, err))
	}
	return s, nil
}

// decodeFlag is what the JSON of one flag says.
func decodeFlag(raw json.RawMessage) (t flagText, err error) {
	if raw == nil {
		return t, nil
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return t, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	t.present = true
	return t, t.fill(fields)
}

// entry is the flag as the overlay would hold it, without a default and a case: enabled, with
// the variants and the metadata that it has below. The metadata of all flags goes with it,
// because a flagSetId among it is where applications look for the flag.
func (l layers) entry(key string) (json.RawMessage, error) {
	var below struct {
		Variants json.RawMessage            `json:"variants"`
		Metadata map[string]json.RawMessage `json:"metadata"`
	}
	if raw, ok := l.below[key]; !ok {
		return nil, nil
	} else if err := json.Unmarshal(raw, &below); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	metadata := maps.Clone(l.metadata)
	if metadata == nil {
		metadata = map[string]json.RawMessage{}
	}
	maps.Copy(metadata, below.Metadata)
	return json.Marshal(overlayEntry{State: enabled, Variants: below.Variants, Metadata: metadata})
}

// An overlayEntry is one flag of an overlay.
type overlayEntry struct {
	State          string                     `json:"state"`
	DefaultVariant string                     `json:"defaultVariant"`
	Variants       json.RawMessage            `json:"variants"`
	Metadata       map[string]json.RawMessage `json:"metadata"`
}

// withDefault is raw with a default, and a case where there is one.
func withDefault(raw json.RawMessage, variant, by string) (json.RawMessage, error) {
	var e overlayEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("%w: the change holds no flag: %w", ErrInvalid, err)
	}
	e.DefaultVariant = variant
	if by != "" {
		e.Metadata[caseKey] = json.RawMessage(quoteJSON(by))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// Plan implements Switch: the flag with its variants, enabled, w.Variant its default, without
// targeting. The revision that it leads to is known when it is written: the entry names the
// case.
func (o *FlagdOverlay) Plan(s State, m Mode, w Want) (Change, error) {
	c, err := o.plan(s, m, w)
	if err != nil {
		return Change{}, o.fail(s.Ref, err)
	}
	return c, nil
}

func (o *FlagdOverlay) plan(s State, m Mode, w Want) (Change, error) {
	value, defined := s.Variants[w.Variant]
	switch {
	case m != OffVariant:
		return Change{}, fmt.Errorf("%w: mode %s: an overlay serves one variant to everybody; name the variant that means off", ErrInvalid, m)
	case !s.Present:
		return Change{}, ErrNotFound
	case !defined:
		return Change{}, fmt.Errorf("%w: it has no variant %q, only %s", ErrInvalid, w.Variant, names(s.Variants))
	case !s.Enabled:
		return Change{}, fmt.Errorf("%w: its state is not %s, so it serves the default in the application's code and no variant", ErrInvalid, enabled)
	case s.Off(w.Variant):
		return Change{}, fmt.Errorf("%w: revision %s", ErrAlreadyOff, s.Revision.Short())
	}
	w.Value = value
	var raw overlayChange
	if err := json.Unmarshal(s.Raw, &raw); err != nil {
		return Change{}, fmt.Errorf("%w: the state was not read from an overlay: %w", ErrInvalid, err)
	}
	if raw.Overlay == "" {
		return Change{}, fmt.Errorf("%w: %s", ErrReadOnly, s.ReadOnly)
	}
	if raw.Entry == nil {
		return Change{}, fmt.Errorf("%w: it is in the overlay and not in the file below any more", ErrConflict)
	}
	var err error
	if raw.Entry, err = withDefault(raw.Entry, w.Variant, ""); err != nil {
		return Change{}, err
	}
	body, err := json.Marshal(raw)
	if err != nil {
		return Change{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	shown := render(map[string]json.RawMessage{s.Ref.Key: raw.Entry})
	return Change{
		Ref: s.Ref, Mode: m, Want: w, Path: o.path, Base: s.Revision,
		Diff: diff(filepath.Base(o.path), render(nil), shown), Forward: body, Inverse: body,
	}, nil
}

func overlayOf(raw json.RawMessage) (overlayChange, error) {
	var c overlayChange
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("%w: the change is none of an overlay: %w", ErrInvalid, err)
	}
	return c, nil
}

// TurnOff implements Switch. It is conditional on both files: the variants are those of the
// file below.
func (o *FlagdOverlay) TurnOff(ctx context.Context, c Change) (Receipt, error) {
	rc := Receipt{Change: c, Before: c.Base}
	change, err := overlayOf(c.Forward)
	if err == nil && c.Case == "" {
		err = fmt.Errorf("%w: the change names no case, by which its entry is known", ErrInvalid)
	}
	if err != nil {
		return o.ended(rc, err)
	}
	if _, _, err := o.readOverlay(); err != nil {
		return o.ended(rc, err)
	}
	base := change.Base
	w, err := o.write(ctx, func(before []byte) ([]byte, bool, error) {
		entries, err := o.entries(before)
		if err != nil {
			return nil, false, err
		}
		text, err := o.readBase()
		if err != nil {
			return nil, false, err
		}
		if caseOf(entries[c.Ref.Key]) == c.Case {
			base = revisionOf(text)
			return before, true, nil
		}
		if revisionOf(text) != change.Base || revisionOf(before) != change.Overlay {
			return nil, false, conflict(c.Base, o.both(revisionOf(text), revisionOf(before)))
		}
		if entries[c.Ref.Key], err = withDefault(change.Entry, c.Want.Variant, c.Case); err != nil {
			return nil, false, err
		}
		after := render(entries)
		return after, false, o.check(c, text, after)
	})
	rc.Already, rc.Written, rc.After = w.already, w.modified, o.both(base, w.after)
	return o.ended(rc, err)
}

// check asks flagd what it would serve.
func (o *FlagdOverlay) check(c Change, base, overlay []byte) error {
	below, err := toJSON(o.base.path, base)
	if err != nil {
		return err
	}
	set, err := loadSources(flagdSource{o.base.path, below}, flagdSource{o.path, string(overlay)})
	if err != nil {
		return err
	}
	return set.serves(c.Ref.Key, c.Want.Variant)
}

// Restore implements Switch: the flag's entry is taken out, if it is the one that was written.
// Whatever happened to the file below since, and to other flags, stays.
func (o *FlagdOverlay) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	c := rc.Change
	back := Receipt{Change: c, Restore: true}
	if _, _, err := o.readOverlay(); err != nil {
		return o.ended(back, err)
	}
	var base Revision
	w, err := o.write(ctx, func(before []byte) ([]byte, bool, error) {
		text, err := o.readBase()
		if err != nil {
			return nil, false, err
		}
		base = revisionOf(text)
		entries, err := o.entries(before)
		if err != nil {
			return nil, false, err
		}
		entry, there := entries[c.Ref.Key]
		if !there {
			return before, true, nil
		}
		if by := caseOf(entry); by != c.Case {
			return nil, false, fmt.Errorf("%w: its entry in the overlay is of %s, not of %s; nothing was overwritten", ErrConflict, by, c.Case)
		}
		delete(entries, c.Ref.Key)
		return render(entries), false, nil
	})
	back.Already, back.Written = w.already, w.modified
	back.Before, back.After = o.both(base, w.before), o.both(base, w.after)
	return o.ended(back, err)
}

// Settle implements Switch: the entry names the action that wrote it.
func (o *FlagdOverlay) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, err := o.Read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, err
	}
	change, err := overlayOf(c.Forward)
	if err != nil {
		return Settlement{}, o.fail(c.Ref, err)
	}
	l, err := o.layers()
	if err != nil {
		return Settlement{}, o.fail(c.Ref, err)
	}
	entry, there := l.ours[c.Ref.Key]
	ours := there && caseOf(entry) == c.Case
	out := Settlement{State: s, Receipt: Receipt{Change: c, Before: c.Base, After: s.Revision, Restore: restore}}
	switch {
	case restore:
		out.Receipt.Before = c.After
		if out.Fate = Untouched; !ours {
			out.Fate, out.Receipt.Written = Written, s.Changed
		}
	case ours:
		out.Fate, out.Receipt.Written = Written, s.Changed
	case l.overlay == change.Overlay:
		out.Fate = Untouched
	default:
		out.Fate = Foreign
	}
	return out, nil
}
