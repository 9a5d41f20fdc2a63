package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// PlanSchema is the value of a plan's schema field.
const PlanSchema = "driftwatch.plan/v1"

// maxPlan bounds the text of a plan. A change holds the flag's old rules, which are kilobytes.
const maxPlan = 4 << 20

// A Plan is a change that waits for a person's approval: what would be written, because of what,
// and until when it may be.
type Plan struct {
	Schema     string    `json:"schema"`
	Rule       string    `json:"rule"`       // path of the rule that names the flag
	UpgradeID  string    `json:"upgrade_id"` // whose action it is in the journal
	Made       time.Time `json:"made"`
	ValidUntil time.Time `json:"valid_until"`
	By         string    `json:"by"`     // who planned it: driftwatch, or a person
	Reason     string    `json:"reason"` // why, for people
	Change     Change    `json:"change"`
}

// The reasons for which a plan is not carried out, beside those of a Switch.
var (
	// ErrExpired: its validity is over.
	ErrExpired = errors.New("the plan is not valid any more")
	// ErrNotThePlan: it is not what driftwatch would do about this flag.
	ErrNotThePlan = errors.New("the plan is not what driftwatch would write")
)

// Text is p as a file.
func (p Plan) Text() ([]byte, error) {
	p.Schema = PlanSchema
	b, err := json.MarshalIndent(p, "", "  ")
	return append(b, '\n'), err
}

// ParsePlan reads what Text wrote. It fails with ErrInvalid, saying what is wrong, if the text
// is anything else.
func ParsePlan(text []byte) (Plan, error) {
	var p Plan
	if len(text) > maxPlan {
		return p, fmt.Errorf("%w: a plan of more than %d bytes", ErrInvalid, maxPlan)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("%w: no plan: %w", ErrInvalid, err)
	}
	if d.More() {
		return p, fmt.Errorf("%w: something follows the plan", ErrInvalid)
	}
	switch {
	case p.Schema != PlanSchema:
		return p, fmt.Errorf("%w: schema %q, want %q", ErrInvalid, p.Schema, PlanSchema)
	case p.Change.Ref.Source == "" || p.Change.Ref.Key == "":
		return p, fmt.Errorf("%w: it names no flag", ErrInvalid)
	case p.UpgradeID == "" || p.Rule == "":
		return p, fmt.Errorf("%w: it lacks its rule or upgrade", ErrInvalid)
	case p.Change.Base == "":
		return p, fmt.Errorf("%w: it lacks the revision that it was planned on", ErrInvalid)
	case p.Made.IsZero() || !p.ValidUntil.After(p.Made):
		return p, fmt.Errorf("%w: it is valid until %s, which is not after it was made", ErrInvalid, p.ValidUntil.Format(time.RFC3339))
	}
	return p, nil
}

// Check says whether p may be carried out now, s being the flag: it is in its validity
// (ErrExpired), the source still is at its base (ErrConflict), and planning again, by source,
// gives the same change (ErrNotThePlan): a plan is a file that people handle, and what it says
// is not trusted, only compared.
func (p Plan) Check(source Switch, s State, now time.Time) error {
	c := p.Change
	if now.After(p.ValidUntil) || now.Before(p.Made.Add(-time.Minute)) {
		return fmt.Errorf("%w: it is valid from %s to %s; plan again", ErrExpired, p.Made.UTC().Format(time.RFC3339), p.ValidUntil.UTC().Format(time.RFC3339))
	}
	if s.Revision != c.Base {
		return fmt.Errorf("%w: %s was planned at revision %s and is at %s now; plan again", ErrConflict, c.Ref.Key, c.Base.Short(), s.Revision.Short())
	}
	again, err := source.Plan(s, c.Mode, Want{Variant: c.Want.Variant})
	if err != nil {
		return err
	}
	if !again.same(c) {
		return fmt.Errorf("%w: planning %s at revision %s again gives another change; it was edited, or planned by another version of driftwatch", ErrNotThePlan, c.Ref.Key, c.Base.Short())
	}
	return nil
}

// same reports whether two changes write the same; the case that they are noted under may
// differ.
func (c Change) same(d Change) bool {
	c.Case, d.Case = "", ""
	a, errA := compact(c)
	b, errB := compact(d)
	return errA == nil && errB == nil && a == b
}

// compact is a change as JSON with sorted keys, so that indented raw members compare equal.
func compact(c Change) (string, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	v, err := decodeJSON(b)
	if err != nil {
		return "", err
	}
	return text(v), nil
}
