package flags

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Webhook is a program of the team's own that switches flags in whatever holds them. It gets a
// signed request with the plan. What the flag is comes from another address of it, or, where there
// is none, from what a viewpoint sees. (docs/flags.md has the contract and a receiver)
type Webhook struct {
	hook     api
	state    *api // nil: what view sees
	view     Prover
	variants map[string]any
	clock    func() time.Time
}

// NewWebhook returns the source at base. stateURL may be ""; then view is asked instead, and
// variants are those of its flags. secret is the key of the signatures.
func NewWebhook(base, stateURL string, secret Secret, view Prover, variants map[string]any, client *http.Client) *Webhook {
	w := &Webhook{view: view, variants: variants, clock: time.Now}
	w.hook = api{base, secret, Direct(client), w.sign}
	if stateURL != "" {
		w.state = &api{stateURL, secret, Direct(client), w.sign}
	}
	return w
}

// The headers of a request. A signature is "sha256=" and the HMAC-SHA256, in hex, of the
// timestamp, a dot, and what is sent: the body of a POST, the query of a GET.
const (
	timestampHeader = "Driftwatch-Timestamp" // Unix seconds
	signatureHeader = "Driftwatch-Signature"
	caseHeader      = "Idempotency-Key"
)

func (w *Webhook) sign(r *http.Request, body []byte, secret string) {
	if r.Method == http.MethodGet {
		body = []byte(r.URL.RawQuery)
	}
	timestamp := strconv.FormatInt(w.clock().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	r.Header.Set(timestampHeader, timestamp)
	r.Header.Set(signatureHeader, "sha256="+hex.EncodeToString(mac.Sum(nil)))
}

func (w *Webhook) fail(r Ref, err error) error { return failure(r, w.hook.base, err) }

// A webhookState is what the address of the state answers about one flag.
type webhookState struct {
	Flag     string         `json:"flag"`
	Revision string         `json:"revision"` // changes whenever the flag does
	Variant  *string        `json:"variant"`  // that everybody gets; null = it depends on the context
	Variants map[string]any `json:"variants"`
	Case     string         `json:"case"` // of the last request that was carried out, whoever changed the flag since
	ReadOnly string         `json:"read_only"`
	Changed  time.Time      `json:"changed"`
}

// Read implements Switch.
func (w *Webhook) Read(ctx context.Context, r Ref) (State, error) {
	s, _, err := w.read(ctx, r)
	if err != nil {
		return s, w.fail(r, err)
	}
	return s, nil
}

// read returns the state, and the case of the request that was carried out last, "" if that is
// not known.
func (w *Webhook) read(ctx context.Context, r Ref) (State, string, error) {
	if w.state == nil {
		s, err := w.see(ctx, r)
		return s, "", err
	}
	s := State{Ref: r, Path: w.hook.base}
	var a webhookState
	if err := w.state.get(ctx, "?"+url.Values{"flag": {r.Key}}.Encode(), nil, &a); err != nil {
		return s, "", fmt.Errorf("read the state: %w", err)
	}
	if a.Flag != r.Key || a.Revision == "" || len(a.Variants) == 0 {
		return s, "", fmt.Errorf("%w: the state at %s does not name this flag, a revision and variants", ErrInvalid, w.state.base)
	}
	for name, v := range a.Variants {
		switch v.(type) {
		case bool, string, float64, map[string]any:
		default:
			return s, "", fmt.Errorf("%w: the variant %q at %s is no truth, text, number or object", ErrInvalid, name, w.state.base)
		}
	}
	s.Present, s.Enabled, s.Revision, s.Variants = true, true, Revision(a.Revision), a.Variants
	s.Targeting, s.ReadOnly, s.Changed = a.Variant == nil, a.ReadOnly, a.Changed
	if a.Variant != nil {
		s.DefaultVariant = *a.Variant
	}
	return s, a.Case, nil
}

// looks is how many users are looked at where only a viewpoint tells the state. They are always
// the same, so that the same flag looks the same.
const looks = 20

// see asks the viewpoint. The revision is what these users get: an edit that changes nothing for
// them is not seen.
func (w *Webhook) see(ctx context.Context, r Ref) (State, error) {
	s := State{Ref: r, Path: w.hook.base, Variants: maps.Clone(w.variants)}
	q := Question{Key: r.Key, Variants: w.variants, Want: Want{Value: w.variants[slices.Min(slices.Collect(maps.Keys(w.variants)))]}}
	for i := range looks {
		q.Probes = append(q.Probes, Probe{targetingKey: fmt.Sprintf("driftwatch-state-%d", i+1)})
	}
	served, err := w.view.Served(ctx, q)
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	seen := map[string]string{}
	for _, a := range served.Answers {
		if strings.Contains(a.Error, "FLAG_NOT_FOUND") {
			return s, fmt.Errorf("%w: %s does not know it", ErrNotFound, w.view.Viewpoint().Address)
		}
		if !told(a) {
			return s, fmt.Errorf("%w: %s: %s", ErrUnreachable, w.view.Viewpoint().Address, a)
		}
		seen[a.Variant] = a.Value
	}
	for name, value := range seen {
		if known, ok := w.variants[name]; ok && text(known) != value {
			return s, fmt.Errorf("%w: the variant %q is %s, not %s as the configuration says", ErrInvalid, name, value, text(known))
		}
	}
	s.Present, s.Enabled, s.Revision = true, true, seenRevision(slices.Sorted(maps.Keys(seen))...)
	if s.Targeting = len(seen) > 1; !s.Targeting {
		for name := range seen {
			s.DefaultVariant = name
		}
	}
	return s, nil
}

// seenRevision is the revision of a flag that is known by the variants that it serves only.
func seenRevision(variants ...string) Revision {
	return revisionOf([]byte(strings.Join(variants, "\n")))
}

// A webhookPlan is Forward and Inverse of a Change, and the body of the request with what is
// known when it is sent.
type webhookPlan struct {
	Schema   string   `json:"schema"`
	Action   string   `json:"action"` // off | restore
	Case     string   `json:"case"`
	Source   string   `json:"source"`
	Flag     string   `json:"flag"`
	Variant  string   `json:"variant"` // the one that everybody shall get, or, to restore, no longer
	Value    any      `json:"value"`
	Revision Revision `json:"revision"` // only this one may be changed
}

const webhookSchema = "driftwatch.webhook/v1"

// Plan implements Switch.
func (w *Webhook) Plan(s State, m Mode, want Want) (Change, error) {
	value, defined := s.Variants[want.Variant]
	switch {
	case m != OffVariant:
		return Change{}, w.fail(s.Ref, fmt.Errorf("%w: mode %s: a receiver is asked to serve a variant to everybody, nothing else", ErrInvalid, m))
	case !s.Present:
		return Change{}, w.fail(s.Ref, fmt.Errorf("%w: there is no such flag", ErrNotFound))
	case !defined:
		return Change{}, w.fail(s.Ref, fmt.Errorf("%w: it has no variant %q, only %s", ErrInvalid, want.Variant, names(s.Variants)))
	case s.Off(want.Variant):
		return Change{}, w.fail(s.Ref, fmt.Errorf("%w: revision %s", ErrAlreadyOff, s.Revision.Short()))
	}
	want.Value = value
	plan := webhookPlan{Schema: webhookSchema, Action: "off", Source: s.Ref.Source, Flag: s.Ref.Key, Variant: want.Variant, Value: value}
	back := plan
	back.Action = "restore"
	c := Change{Ref: s.Ref, Mode: m, Want: want, Path: s.Path, Base: s.Revision, Forward: rawJSON(plan), Inverse: rawJSON(back)}
	if w.state == nil {
		c.After = seenRevision(want.Variant)
	}
	before := "depends on the context"
	if !s.Targeting {
		before = s.DefaultVariant
	}
	c.Diff = diff(s.Ref.Key, fmt.Appendf(nil, "everybody gets: %s\n", before), fmt.Appendf(nil, "everybody gets: %s\n", want.Variant))
	return c, nil
}

// TurnOff implements Switch.
func (w *Webhook) TurnOff(ctx context.Context, c Change) (Receipt, error) {
	return w.write(ctx, Receipt{Change: c, Before: c.Base, After: c.After}, c.Forward, c.Case)
}

// Restore implements Switch: the receiver is asked to take back what it did for this case.
func (w *Webhook) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	back := Receipt{Change: rc.Change, Before: rc.After, Restore: true}
	if w.state == nil {
		back.After = rc.Change.Base
	}
	if back.Before == "" {
		s, last, err := w.read(ctx, rc.Change.Ref)
		if err != nil {
			return Receipt{}, w.fail(rc.Change.Ref, err)
		}
		if last != rc.Change.Case || !s.Off(rc.Change.Want.Variant) {
			return Receipt{}, w.fail(rc.Change.Ref, fmt.Errorf("%w: the state does not show our write as the last one; nothing was written", ErrConflict))
		}
		back.Before = s.Revision
	}
	return w.write(ctx, back, rc.Change.Inverse, restoreCase(rc.Change.Case))
}

// restoreCase names the request that takes a change back.
func restoreCase(c string) string { return c + "/restore" }

// write sends the request and looks at what came of it. Unless it is ErrWrittenUnsure, a failure
// has written nothing.
func (w *Webhook) write(ctx context.Context, rc Receipt, raw json.RawMessage, key string) (Receipt, error) {
	r := rc.Change.Ref
	var plan webhookPlan
	if err := json.Unmarshal(raw, &plan); err != nil || plan.Schema != webhookSchema || rc.Change.Case == "" {
		return Receipt{}, w.fail(r, fmt.Errorf("%w: the change is none of a webhook, or has no case", ErrInvalid))
	}
	off := func(s State) bool { return s.Off(rc.Change.Want.Variant) }
	s, last, err := w.read(ctx, r)
	switch {
	case err != nil:
		return Receipt{}, w.fail(r, err)
	case last == key && off(s) != rc.Restore, w.state == nil && rc.After != rc.Before && s.Revision == rc.After:
		rc.After, rc.Already, rc.Written = s.Revision, true, s.Changed
		return rc, nil
	case s.Revision != rc.Before:
		return Receipt{}, w.fail(r, fmt.Errorf("%w: expected revision %s, found %s; nothing was written", ErrConflict, rc.Before.Short(), s.Revision.Short()))
	}

	plan.Case, plan.Revision = rc.Change.Case, rc.Before
	unsure, err := w.post(ctx, plan, key)
	if err != nil {
		return Receipt{}, w.fail(r, err)
	}
	if w.state != nil {
		ctx = context.WithoutCancel(ctx)
		s, last, err = w.read(ctx, r)
		switch {
		case err != nil:
			unsure = joined(unsure, "its end cannot be read: "+err.Error())
		case last == key && off(s) != rc.Restore:
			rc.After, rc.Written = s.Revision, s.Changed
			return rc, nil
		default:
			unsure = joined(unsure, fmt.Sprintf("the state does not show it: revision %s, case %q", s.Revision.Short(), shortened(last)))
		}
	}
	if unsure != "" {
		return rc, w.fail(r, fmt.Errorf("%w: %s", ErrWrittenUnsure, unsure))
	}
	rc.Written = w.clock().UTC()
	return rc, nil
}

// joined joins what is not empty.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

// post sends the request, once. unsure says why the end of it is not known; an error means that
// nothing was done.
func (w *Webhook) post(ctx context.Context, plan webhookPlan, key string) (unsure string, err error) {
	ans, err := w.hook.call(ctx, request{method: http.MethodPost, header: http.Header{caseHeader: {key}}, body: rawJSON(plan)})
	switch {
	case errors.Is(err, errNoAnswer):
		return err.Error(), nil
	case err != nil:
		return "", err
	case ans.status == http.StatusAccepted:
		return "the receiver will do it later (HTTP 202); the proof tells", nil
	case ans.status/100 == 5:
		return ans.said(), nil
	case ans.status == http.StatusMethodNotAllowed, ans.status == http.StatusPreconditionRequired:
		return "", fmt.Errorf("%w: %s", ErrApprovalRequired, ans.said())
	}
	return "", ans.refusal()
}

// Settle implements Switch: the state shows the case of the last request, or, without it, what
// the viewpoint sees.
func (w *Webhook) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, last, err := w.read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, w.fail(c.Ref, err)
	}
	if w.state == nil {
		return settleText(s, c, restore), nil
	}
	key := c.Case
	if restore {
		key = restoreCase(c.Case)
	}
	out := Settlement{State: s, Receipt: Receipt{Change: c, Before: c.Base, Restore: restore}}
	off := s.Off(c.Want.Variant)
	switch {
	case last == key && off != restore:
		out.Fate, out.Receipt.After, out.Receipt.Written = Written, s.Revision, s.Changed
	case last == key:
		out.Fate = WrittenOver
	case restore && last == c.Case && off, !restore && s.Revision == c.Base:
		out.Fate = Untouched
	default:
		out.Fate = Foreign
	}
	return out, nil
}
