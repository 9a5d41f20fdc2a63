// Package flags is the one door to feature flags: it reads what a source says, decides
// (purely, with a named reason) whether a flag may be turned off, writes the one change that
// turns it off, and proves through OpenFeature that every context now gets the off variant.
//
// It never turns a flag on, except that Restore takes back its own write byte for byte. It
// knows nothing of Prometheus, of journals or of time passing: what was measured and what was
// done before is handed in. (docs/flags.md)
package flags

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
)

// A Ref names one flag of one source.
type Ref struct {
	Source string `json:"source"` // name under flag_sources of the configuration
	Key    string `json:"key"`
}

// A Revision is a state of a source that can be told from every other: for texts, the SHA-256
// of the bytes in hex; for servers, the version that they count.
type Revision string

// shortRevision is the length of a revision for people. 32 bits tell the few states of one
// file apart; longer ones are not typed.
const shortRevision = 8

// Short is r as people read and type it.
func (r Revision) Short() string { return string(r[:min(len(r), shortRevision)]) }

// Matches reports whether s, typed by a person, means r: all of it, or at least 8 leading
// characters. What servers count is shorter, and all of it is typed.
func (r Revision) Matches(s string) bool {
	return s != "" && s == string(r) || len(s) >= shortRevision && len(s) <= len(r) && string(r[:len(s)]) == s
}

// A Mode is a way to turn a flag off.
type Mode string

// The modes. The zero value is none of them.
const (
	OffVariant Mode = "variant"   // everybody gets the wanted variant
	RampZero   Mode = "ramp_zero" // so does everybody whom the flag's one ramp reaches, and nobody else got another before
	Disable    Mode = "disable"   // the flag falls back to the default in the application's code, and serves no variant
)

// ModeOf is the way in which a rule wants a flag to be turned off.
func ModeOf(off rule.Off) Mode {
	switch {
	case off.Disabled:
		return Disable
	case off.RampZero:
		return RampZero
	}
	return OffVariant
}

// A Want is what everybody shall get: a variant and its value. Plan fills in the value. Without
// a variant it is the default in the application's code, which only a disabled flag gives to
// everybody; the value is then one that such a default might have.
type Want struct {
	Variant string `json:"variant"`
	Value   any    `json:"value"`
}

// A State is what a source says about one flag.
type State struct {
	Ref            Ref
	Revision       Revision
	Present        bool
	Enabled        bool
	DefaultVariant string         // "" if there is none: the code's default is served
	Variants       map[string]any // bool, string, float64 or map[string]any
	Targeting      bool           // there are rules beside the default variant
	Only           string         // the one variant that the rules can serve, where that can be read from them; else ""
	Probes         []Probe        // contexts that the targeting rules tell apart, where that is easy to see
	Metadata       map[string]any // notes of the flag's owners, such as {"owner": "payments", "critical": true}
	Definition     string         // changes when what the flag serves does, and with nothing else; "" = not told
	ReadOnly       string         // why the source cannot be written; "" = it can
	Changed        time.Time      // last modification, as the source tells it
	Path           string         // where it was read
	Raw            []byte         `json:"-"` // all that was read, for Plan
}

// Off reports whether everybody is served variant, as far as the source tells: it is the
// default, nothing targets past it, and the flag is not disabled. Without a variant it reports
// whether everybody is left to the default in the code, as of a disabled flag.
func (s State) Off(variant string) bool {
	if variant == "" {
		return s.Present && !s.Enabled
	}
	return s.Present && s.Enabled && (s.DefaultVariant == variant && !s.Targeting || s.Only == variant)
}

// Word is the state for people: "off", "on", "on for some", "disabled" or "missing".
func (s State) Word(off string) string {
	switch {
	case !s.Present:
		return "missing"
	case !s.Enabled:
		return "disabled"
	case s.Off(off):
		return "off"
	case s.Targeting:
		return "on for some"
	}
	return "on"
}

// A Splice replaces Old, which stands at byte Offset, by New.
type Splice struct {
	Offset int    `json:"offset"`
	Old    string `json:"old"`
	New    string `json:"new"`
}

// A Patch is splices in ascending order, none overlapping; offsets count from the text before
// any of them was applied.
type Patch []Splice

// A Change is a planned write: pure data, shown, journaled as the intent, applied once.
type Change struct {
	Ref   Ref      `json:"ref"`
	Mode  Mode     `json:"mode"`
	Want  Want     `json:"want"`
	Path  string   `json:"path"`  // where it will be written: a file, or an address without credentials
	Base  Revision `json:"base"`  // only this revision may be changed
	After Revision `json:"after"` // the revision that the change leads to; "" where only the source can tell
	Diff  string   `json:"diff"`  // unified, for people

	// Case names the action, so that a source that can hold a note of it (an annotation, a
	// comment) shows whose write it was. It is set after Plan and before the intent is journaled.
	Case string `json:"case,omitempty"`

	// Forward and Inverse are what the source needs to make the change and to take it back
	// exactly, in its own form. For texts both are a Patch.
	Forward json.RawMessage `json:"forward"`
	Inverse json.RawMessage `json:"inverse"`
}

// A Receipt says that a change was written. Before and After of a restore are those of the
// change exchanged.
type Receipt struct {
	Change  Change    `json:"change"`
	Before  Revision  `json:"before"`
	After   Revision  `json:"after"`
	Restore bool      `json:"restore"` // it was taken back
	Already bool      `json:"already"` // it had been written before; nothing was written now
	Written time.Time `json:"written"` // modification time of the source after the write
}

// A Switch is one source of flags.
type Switch interface {
	// Read returns the flag's state. A flag that the source does not have is ErrNotFound, with
	// the state (Present is false) beside it; a source that cannot be edited is no error here,
	// State.ReadOnly says it.
	Read(ctx context.Context, r Ref) (State, error)
	// Plan returns the change that turns the flag off for everybody. It is pure. It fails with
	// ErrAlreadyOff, ErrNotFound, ErrInvalid or ErrAmbiguousEdit.
	Plan(s State, m Mode, w Want) (Change, error)
	// TurnOff writes c if the source still is at c.Base, else ErrConflict. If it is at c.After
	// already, nothing is written and Receipt.Already is set, so that it may be repeated after a
	// crash. It fails with ErrLocked, ErrReadOnly, ErrManagedElsewhere, ErrForbidden and
	// ErrInvalid before anything is changed. ErrWrittenUnsure alone comes with the receipt: c was
	// written, and what followed failed, or somebody overwrote it at once; journal the receipt
	// and prove the flag.
	TurnOff(ctx context.Context, c Change) (Receipt, error)
	// Restore takes back what rc says was written, if the source still is at rc.After, else
	// ErrConflict: it never undoes somebody else's edit. It fails as TurnOff does.
	Restore(ctx context.Context, rc Receipt) (Receipt, error)
	// Settle says what became of c where a crash may have cut its writing short, or, with
	// restore, its taking back. It only reads. It fails where the source cannot be read: nothing
	// is known then.
	Settle(ctx context.Context, c Change, restore bool) (Settlement, error)
}

// A Settlement is what became of a change that nobody saw the end of.
type Settlement struct {
	Fate    Fate
	Receipt Receipt // where Fate is Written or WrittenOver
	State   State   // of the flag now
}

// A Fate is how an interrupted write ended.
type Fate string

// The fates. The zero value is none of them.
const (
	Untouched   Fate = "untouched"    // it was never written
	Written     Fate = "written"      // it was, and stands
	WrittenOver Fate = "written_over" // it was, and somebody changed the source since
	Foreign     Fate = "foreign"      // somebody changed the source since, and whether it was written cannot be told
)

// What can go wrong, for errors.Is.
var (
	// ErrConflict: the source is not at the revision that the change was planned on.
	ErrConflict = errors.New("changed by somebody else")
	// ErrLocked: another process is writing the source, or is stuck while it does.
	ErrLocked = errors.New("locked by another process")
	// ErrAlreadyOff: there is nothing to turn off.
	ErrAlreadyOff = errors.New("already off")
	// ErrNotFound: the source has no such flag, or does not exist.
	ErrNotFound = errors.New("not found")
	// ErrReadOnly: the source cannot be written.
	ErrReadOnly = errors.New("read-only")
	// ErrForbidden: the source can be written, but not by this process.
	ErrForbidden = errors.New("not permitted")
	// ErrFull: there is no room left for the new text.
	ErrFull = errors.New("no room to write")
	// ErrInvalid: the source, or the change, makes no sense to flagd.
	ErrInvalid = errors.New("invalid")
	// ErrAmbiguousEdit: the source can be read in two ways, or an edit would touch more than the
	// flag.
	ErrAmbiguousEdit = errors.New("cannot be edited safely")
	// ErrManagedElsewhere: the source is a copy of something else, which would overwrite it.
	ErrManagedElsewhere = errors.New("managed elsewhere")
	// ErrWrittenUnsure: the source was written, but whether that holds is not known.
	ErrWrittenUnsure = errors.New("written, but not made certain")
	// ErrUnproven: not everybody was seen to get the off variant.
	ErrUnproven = errors.New("not proved off")
	// ErrUnreachable: the server that holds the flags does not answer, or not as it should.
	ErrUnreachable = errors.New("not reachable")
	// ErrRateLimited: the server wants to be left alone for a while; the text says how long.
	ErrRateLimited = errors.New("too many requests")
	// ErrApprovalRequired: a person has to agree to the change first; the text says where.
	ErrApprovalRequired = errors.New("needs an approval")
)

// sentinels is all of the above, those that beat others first: a failure after the write wraps
// what failed, and so do one to ask for an approval and one to reach the server.
var sentinels = []error{
	ErrWrittenUnsure, ErrApprovalRequired, ErrConflict, ErrLocked, ErrAlreadyOff, ErrNotFound, ErrReadOnly, ErrRateLimited, ErrForbidden,
	ErrFull, ErrInvalid, ErrAmbiguousEdit, ErrManagedElsewhere, ErrUnreachable,
}

// An Error is one of the failures above, about one flag.
type Error struct {
	Ref  Ref
	Path string // file or address
	What string // what was found and what to do, for people
	Err  error  // wraps one of the sentinels above
}

func (e *Error) Error() string {
	s := place(e.Ref, e.Path)
	if e.What == "" {
		return fmt.Sprintf("%s: %v", s, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", s, e.Err, e.What)
}

func (e *Error) Unwrap() error { return e.Err }

// place is where a flag is, or its source.
func place(r Ref, path string) string {
	if r.Key == "" {
		return path
	}
	return fmt.Sprintf("flag %s in %s", r.Key, path)
}

// kindOf is the first of the sentinels that err wraps, nil for none, and what err says beside it.
func kindOf(err error) (what string, kind error) {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return strings.TrimPrefix(strings.Replace(err.Error(), s.Error()+": ", "", 1), s.Error()), s
		}
	}
	return "", nil
}

// failure is err as an Error about r at path. What wraps no sentinel keeps its kind, and so does
// an interrupt before anything was written: it says nothing about the source.
func failure(r Ref, path string, err error) error {
	what, kind := kindOf(err)
	if kind == nil || errors.Is(err, context.Canceled) && !errors.Is(kind, ErrWrittenUnsure) {
		return fmt.Errorf("%s: %w", place(r, path), err)
	}
	return &Error{Ref: r, Path: path, What: what, Err: kind}
}

// A Probe is one evaluation context: attributes by name, targetingKey among them.
type Probe map[string]any

// A ViewpointKind is how a proof looked at the flag.
type ViewpointKind string

// The kinds. File is the file that driftwatch itself may have written, and Object the object of a
// Kubernetes API; OFREP and UnleashFrontend are servers that the application may ask too;
// NoViewpoint sees nothing.
const (
	File            ViewpointKind = "file"
	Object          ViewpointKind = "kubernetes"
	OFREP           ViewpointKind = "ofrep"
	UnleashFrontend ViewpointKind = "unleash"
	NoViewpoint     ViewpointKind = "none"
)

// A Viewpoint is from where a flag was evaluated.
type Viewpoint struct {
	Kind    ViewpointKind `json:"kind"`
	Address string        `json:"address"` // path or URL, without credentials
}

// A Question is what is asked of a viewpoint.
type Question struct {
	Key      string
	Want     Want
	Variants map[string]any // of the flag; one with another value than Want's becomes the "on" default
	Probes   []Probe        // at least one
}

// An Answer is how often one evaluation was answered in the same way.
type Answer struct {
	Context string `json:"context"` // of the first context that got it, as JSON
	Default string `json:"default"` // "on" or "off": the code default that was passed, "" = either
	Value   string `json:"value"`   // as JSON
	Variant string `json:"variant"`
	Reason  string `json:"reason"`
	Error   string `json:"error"`
	Count   int    `json:"count"` // evaluations in the last round with this answer
	Clean   bool   `json:"clean"` // it is the answer that was wanted
}

// Evidence is what was seen while proving that a flag is off.
type Evidence struct {
	Viewpoint Viewpoint     `json:"viewpoint"`
	Proved    bool          `json:"proved"`
	Contexts  int           `json:"contexts"`
	Rounds    int           `json:"rounds"` // clean ones in a row at the end
	Answers   []Answer      `json:"answers"`
	Notes     []string      `json:"notes,omitempty"` // errors that the provider itself told
	Took      time.Duration `json:"took"`
	At        time.Time     `json:"at"` // end of the proof
}

// A Prover looks at a flag from one viewpoint.
type Prover interface {
	// Prove returns nil when every answer to q was q.Want in enough rounds in a row, else
	// ErrUnproven when the time is over, with what was seen. Evidence is filled in both cases.
	Prove(ctx context.Context, q Question, within time.Duration) (Evidence, error)
	// Served evaluates q once.
	Served(ctx context.Context, q Question) (Serving, error)
	// Viewpoint says from where it looks.
	Viewpoint() Viewpoint
}

// Serving is who gets what, seen once.
type Serving struct {
	Viewpoint Viewpoint
	Contexts  int
	Suspect   int // contexts that get a variant other than the wanted one
	Off       int // contexts that get the wanted variant
	Unknown   int // contexts that get the code's default, or an error
	Answers   []Answer
}
