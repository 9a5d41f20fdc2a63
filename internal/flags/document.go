package flags

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A dialect is a way to write flags in a text, and what reads such texts.
type dialect interface {
	// locate finds a flag in a text.
	locate(text []byte, key string) (flagText, error)
	// check compares a text and what a change makes of it: nothing but what c is about differs,
	// what reads it takes the result, and serves what is wanted to everybody.
	check(c Change, before, after []byte) error
	// load fails with ErrInvalid if what reads it would refuse the text.
	load(text []byte) error
}

// stateOf is what a text says about a flag. It fails with ErrNotFound, with the state beside it,
// if the text has no such flag.
func stateOf(d dialect, r Ref, path string, raw []byte) (State, error) {
	s := State{Ref: r, Path: path, Revision: revisionOf(raw), Raw: raw}
	t, err := d.locate(raw, r.Key)
	if err != nil {
		return s, err
	}
	if !t.present {
		return s, fmt.Errorf("%w: %s", ErrNotFound, missing(r.Key, t.keys))
	}
	t.describe(&s)
	s.Probes = contextsOf(t.targeting)
	return s, nil
}

// describe is t in a State.
func (t flagText) describe(s *State) {
	s.Present, s.Enabled = true, t.state == enabled
	s.DefaultVariant, s.Variants, s.Targeting = t.defaultVariant, t.variants, t.targeted()
	s.Metadata = t.metadata
	s.Definition = string(revisionOf([]byte(text([]any{t.state, t.variants, t.defaultVariant, t.targeting}))))
	s.Only = ""
	if variants, ok := served(t.targeting, t.defaultVariant); ok && len(variants) == 1 {
		s.Only = sortedKeys(variants)[0]
	}
}

// The states of a flag: one that serves variants, and one that leaves everybody to the default
// in the application's code.
const (
	enabled  = "ENABLED"
	disabled = "DISABLED"
)

// planText is Plan for a flag in a text.
func planText(d dialect, path string, s State, m Mode, w Want) (Change, error) {
	t, err := d.locate(s.Raw, s.Ref.Key)
	if err != nil {
		return Change{}, err
	}
	value, defined := t.variants[w.Variant]
	var off State
	t.describe(&off)
	switch {
	case !t.present:
		return Change{}, fmt.Errorf("%w: %s", ErrNotFound, missing(s.Ref.Key, t.keys))
	case t.refused != nil:
		return Change{}, t.refused
	case m == Disable && w.Variant != "":
		return Change{}, fmt.Errorf("%w: a disabled flag serves no variant, so not %q, but the default in the application's code", ErrInvalid, w.Variant)
	case m == Disable && t.state != enabled:
		return Change{}, fmt.Errorf("%w: its state is %s, revision %s", ErrAlreadyOff, t.state, s.Revision.Short())
	case m != Disable && !defined:
		return Change{}, fmt.Errorf("%w: it has no variant %q, only %s", ErrInvalid, w.Variant, names(t.variants))
	case t.state != enabled:
		return Change{}, fmt.Errorf("%w: its state is %s, so it serves the default in the application's code and no variant", ErrInvalid, t.state)
	case m == RampZero && off.Off(w.Variant), m == OffVariant && t.defaultVariant == w.Variant && !t.targeted():
		return Change{}, fmt.Errorf("%w: revision %s", ErrAlreadyOff, s.Revision.Short())
	}
	w.Value = value
	var p Patch
	switch m {
	case OffVariant:
		p = t.patch(w.Variant)
	case RampZero:
		p, err = t.rampPatch(w.Variant)
	case Disable:
		w.Value = codeDefault(t.variants)
		p, err = t.setState(disabled)
	default:
		err = fmt.Errorf("%w: no mode %q", ErrInvalid, m)
	}
	if err != nil {
		return Change{}, err
	}
	return editText(d, path, s, m, w, p)
}

// rampPatch is the splices that give the flag's one ramp to variant.
func (t flagText) rampPatch(variant string) (Patch, error) {
	if _, err := rampToZero(t.targeting, t.defaultVariant, variant); err != nil {
		return nil, err
	}
	buckets, _ := t.ramp.([]any)
	zero, ok := zeroBuckets(buckets, variant)
	if !ok || t.setRamp == nil {
		return nil, fmt.Errorf("%w: ramp: zero: the text of the ramp cannot be told", ErrAmbiguousEdit)
	}
	return t.setRamp(text(zero))
}

// codeDefault is a value that a default in the code might have: one of a variant's.
func codeDefault(variants map[string]any) any {
	for _, name := range sortedKeys(variants) {
		return variants[name]
	}
	return false
}

// editText is the change that makes the splices of p in the text of s.
func editText(d dialect, path string, s State, m Mode, w Want, p Patch) (Change, error) {
	after, err := p.Apply(s.Raw)
	if err != nil {
		return Change{}, err
	}
	c := Change{
		Ref: s.Ref, Mode: m, Want: w, Path: path,
		Base: revisionOf(s.Raw), After: revisionOf(after),
		Diff: diff(filepath.Base(path), s.Raw, after), Forward: p.raw(), Inverse: p.inverse().raw(),
	}
	return c, d.check(c, s.Raw, after)
}

// raw is p in a Change.
func (p Patch) raw() json.RawMessage {
	b, err := json.Marshal(p)
	if err != nil {
		panic("flags: splices are texts and numbers: " + err.Error())
	}
	return b
}

// patchOf reads what raw wrote.
func patchOf(raw json.RawMessage) (Patch, error) {
	var p Patch
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%w: the change is no list of splices: %w", ErrInvalid, err)
	}
	return p, nil
}

func names(variants map[string]any) string {
	var out []string
	for v := range variants {
		out = append(out, fmt.Sprintf("%q", v))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// settleText is Settle for a flag in a text, which s was read from: its revision tells.
func settleText(s State, c Change, restore bool) Settlement {
	from, to := c.Base, c.After
	if restore {
		from, to = to, from
	}
	out := Settlement{State: s, Receipt: Receipt{Change: c, Before: from, After: to, Restore: restore}}
	switch {
	case s.Revision == to:
		out.Fate, out.Receipt.Written = Written, s.Changed
	case !restore && s.Off(c.Want.Variant):
		// The only revision at which the flag was seen on is not there any more.
		out.Fate, out.Receipt.Written = WrittenOver, time.Time{}
	case s.Revision == from:
		out.Fate = Untouched
	default:
		out.Fate = Foreign
	}
	return out
}

// edited is the flag of c in a text after an edit. It fails where the edit changes what other
// names, of both texts decoded, or does not turn the flag off.
func edited(d dialect, name string, c Change, before, after []byte, other func(was, is any) []string) (flagText, error) {
	var decoded [2]any
	for i, text := range [][]byte{before, after} {
		s, err := toJSON(name, text)
		if err != nil {
			return flagText{}, fmt.Errorf("%w: the edited text cannot be read: %w", ErrAmbiguousEdit, err)
		}
		if decoded[i], err = decodeJSON([]byte(s)); err != nil {
			return flagText{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if paths := other(decoded[0], decoded[1]); len(paths) > 0 {
		return flagText{}, fmt.Errorf("%w: the edit would change %s too", ErrAmbiguousEdit, strings.Join(paths, ", "))
	}
	t, err := d.locate(after, c.Ref.Key)
	if err != nil {
		return t, err
	}
	if t.refused != nil {
		return t, t.refused
	}
	var now State
	if t.describe(&now); !now.Off(c.Want.Variant) || c.Mode == OffVariant && now.Targeting {
		return t, fmt.Errorf("%w: the edit would not turn it off", ErrAmbiguousEdit)
	}
	return t, nil
}

// A flagdText is a text of flag definitions as flagd reads it, JSON or YAML by the extension of
// its name.
type flagdText struct{ name string }

func (d flagdText) locate(text []byte, key string) (flagText, error) {
	switch strings.ToLower(filepath.Ext(d.name)) {
	case ".json":
		return locateJSON(text, key)
	case ".yaml", ".yml":
		return locateYAML(text, key)
	}
	return flagText{}, fmt.Errorf("%w: flagd reads .json, .yaml and .yml", ErrInvalid)
}

func (d flagdText) load(text []byte) error {
	_, err := loadFlagd(d.name, text)
	return err
}

// randomUsers is how many contexts without a meaning of their own a ramp is tried with: one
// that still gave another variant to 5 % of users would get past all in 0.6 % of cases.
const randomUsers = 100

// check allows what the mode is about to differ, and asks flagd's own evaluator.
func (d flagdText) check(c Change, before, after []byte) error {
	t, err := edited(d, d.name, c, before, after, func(was, is any) []string { return unplanned(c.Ref.Key, c.Mode, was, is) })
	if err != nil {
		return err
	}
	set, err := loadFlagd(d.name, after)
	if err != nil {
		return err
	}
	switch c.Mode {
	case Disable:
		return set.leaves(c.Ref.Key)
	case RampZero:
		contexts := contextsOf(t.targeting)
		for i := range randomUsers {
			contexts = append(contexts, Probe{targetingKey: fmt.Sprintf("driftwatch-%d", i)})
		}
		return set.servesAll(c.Ref.Key, c.Want.Variant, contexts)
	}
	return set.serves(c.Ref.Key, c.Want.Variant)
}
