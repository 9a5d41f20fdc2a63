package flags

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Unleash is a project of an Unleash server, in one environment. A flag is turned off by
// turning its environment off, which beats every strategy. Unleash knows no conditional write:
// its log of events, whose newest id is the revision, is read before and after, so that what
// came in between is seen.
type Unleash struct {
	scope
	api api
}

// NewUnleash returns the source at base. token is an admin token, or better the token of a
// service account or a person who may do nothing but switch this environment.
func NewUnleash(base, project, environment string, token Secret, client *http.Client) *Unleash {
	return &Unleash{scope{project, environment}, newAPI(base, token, client, plainToken)}
}

// What Unleash says of a flag that is off, and what it is called here while it is on and has no
// variants of its own.
const (
	unleashOff = "disabled"
	unleashOn  = "enabled"
)

// path is the flag's address below the server's.
func (u *Unleash) path(key string) string {
	return "/api/admin/projects/" + url.PathEscape(u.project) + "/features/" + url.PathEscape(key)
}

// switchPath is where its environment is turned on and off.
func (u *Unleash) switchPath(key string) string {
	return u.path(key) + "/environments/" + url.PathEscape(u.environment)
}

func (u *Unleash) fail(r Ref, err error) error {
	return failure(r, u.api.base+u.switchPath(r.Key), err)
}

// An unleashFeature is what the admin API says about a flag.
type unleashFeature struct {
	Archived     bool                 `json:"archived"`
	Type         string               `json:"type"`
	Variants     []unleashVariant     `json:"variants"`
	Environments []unleashEnvironment `json:"environments"`
}

type unleashVariant struct {
	Name    string `json:"name"`
	Weight  int    `json:"weight"`
	Payload any    `json:"payload"`
}

type unleashEnvironment struct {
	Name       string            `json:"name"`
	Enabled    bool              `json:"enabled"`
	Strategies []unleashStrategy `json:"strategies"`
}

type unleashStrategy struct {
	Name        string              `json:"name"`
	Disabled    bool                `json:"disabled"`
	Parameters  map[string]string   `json:"parameters"`
	Constraints []unleashConstraint `json:"constraints"`
	Segments    []json.RawMessage   `json:"segments"`
	Variants    []unleashVariant    `json:"variants"`
}

type unleashConstraint struct {
	ContextName string   `json:"contextName"`
	Operator    string   `json:"operator"`
	Inverted    bool     `json:"inverted"`
	Values      []string `json:"values"`
	Value       string   `json:"value"`
}

// everybody reports whether the strategy serves all contexts.
func (s unleashStrategy) everybody() bool {
	if s.Disabled || len(s.Constraints) > 0 || len(s.Segments) > 0 {
		return false
	}
	return s.Name == "default" || s.Name == "flexibleRollout" && s.Parameters["rollout"] == "100"
}

// probe is a context that the strategy serves, where that is easy to see.
func (s unleashStrategy) probe() (Probe, bool) {
	p := Probe{}
	if ids, _, _ := strings.Cut(s.Parameters["userIds"], ","); s.Name == "userWithId" && strings.TrimSpace(ids) != "" {
		p[targetingKey] = strings.TrimSpace(ids)
	}
	for _, c := range s.Constraints {
		if c.Operator == "IN" && !c.Inverted && len(c.Values) > 0 {
			name := c.ContextName
			if name == "userId" {
				name = targetingKey
			}
			p[name] = c.Values[0]
		}
	}
	return p, len(p) > 0
}

// feature reads a flag and its environment. A missing one, or an archived one, is ErrNotFound.
func (u *Unleash) feature(ctx context.Context, key string) (unleashFeature, unleashEnvironment, error) {
	var f unleashFeature
	if err := u.api.get(ctx, u.path(key), nil, &f); err != nil {
		return f, unleashEnvironment{}, err
	}
	if f.Archived {
		return f, unleashEnvironment{}, fmt.Errorf("%w: it is archived", ErrNotFound)
	}
	var known []string
	for _, e := range f.Environments {
		if e.Name == u.environment {
			return f, e, nil
		}
		known = append(known, e.Name)
	}
	return f, unleashEnvironment{}, fmt.Errorf("%w: it has no environment %q, only %s", ErrNotFound, u.environment, strings.Join(known, ", "))
}

// Read implements Switch. Off is the variant "disabled"; a flag that is on for everybody has the
// default "enabled".
func (u *Unleash) Read(ctx context.Context, r Ref) (State, error) {
	s := State{Ref: r, Path: u.api.base + u.switchPath(r.Key)}
	// The events first: what changes between the two reads makes the revision an old one, and
	// the write is refused.
	last, err := u.events(ctx, r.Key, 0, unleashUser{})
	if err != nil {
		return s, u.fail(r, err)
	}
	f, e, err := u.feature(ctx, r.Key)
	if err != nil {
		return s, u.fail(r, err)
	}
	if len(last) == 0 {
		// The server answers an empty list where its database fails, too.
		return s, u.fail(r, fmt.Errorf("%w: the server lists no event about a flag that it has; without one nobody can tell whether it changes", ErrUnreachable))
	}
	s.Present, s.Enabled, s.Revision, s.Changed = true, true, Revision(last[0].id), last[0].at
	s.DefaultVariant, s.Targeting = unleashOff, e.Enabled
	if e.Enabled && slices.ContainsFunc(e.Strategies, unleashStrategy.everybody) {
		s.DefaultVariant, s.Targeting = unleashOn, false
	}
	s.Metadata = map[string]any{"type": f.Type} // release, kill-switch, permission, …
	s.Definition = string(revisionOf([]byte(text([]any{e.Enabled, e.Strategies, f.Variants}))))
	s.Variants = map[string]any{unleashOn: true}
	for _, v := range f.Variants {
		s.Variants[v.Name] = true
	}
	for _, strategy := range e.Strategies {
		for _, v := range strategy.Variants {
			s.Variants[v.Name] = true
		}
		if p, ok := strategy.probe(); ok {
			if p[targetingKey] == nil {
				p[targetingKey] = fmt.Sprintf("driftwatch-rule-%d", len(s.Probes)+1)
			}
			s.Probes = append(s.Probes, p)
		}
	}
	s.Variants[unleashOff] = false // whatever a variant is named, this is what a flag that is off says
	return s, nil
}

// Plan implements Switch: the environment is turned off. The only variant that means off is
// "disabled", because a flag that is off has no other.
func (u *Unleash) Plan(s State, m Mode, w Want) (Change, error) {
	on := !s.Off(unleashOff)
	switch {
	case m != OffVariant:
		return Change{}, u.fail(s.Ref, fmt.Errorf("%w: mode %s: an Unleash environment is turned off, nothing else", ErrInvalid, m))
	case !s.Present:
		return Change{}, u.fail(s.Ref, fmt.Errorf("%w: the project has no such flag", ErrNotFound))
	case w.Variant != unleashOff:
		return Change{}, u.fail(s.Ref, fmt.Errorf(`%w: a flag that is off in Unleash has no variant %q; Unleash calls it "disabled": write off: {variant: "disabled"} into the rule`, ErrInvalid, w.Variant))
	case !on:
		return Change{}, u.fail(s.Ref, fmt.Errorf("%w: the environment %s is off, event %s", ErrAlreadyOff, u.environment, s.Revision))
	}
	w.Value = false
	return u.change(s, w, "enabled"), nil
}

// TurnOff implements Switch.
func (u *Unleash) TurnOff(ctx context.Context, c Change) (Receipt, error) {
	return u.write(ctx, Receipt{Change: c, Before: c.Base}, c.Forward)
}

// Restore implements Switch: the environment is turned on again, with the strategies that it
// had, if nothing about the flag changed since our write.
func (u *Unleash) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	back := Receipt{Change: rc.Change, Before: rc.After, Restore: true}
	if back.Before == "" { // the write was never seen; the log may have it
		s, err := u.Settle(ctx, rc.Change, false)
		if err != nil {
			return Receipt{}, err
		}
		if s.Fate != Written {
			return Receipt{}, u.fail(rc.Change.Ref, fmt.Errorf("%w: the log of events does not show our write as the last change; nothing was written", ErrConflict))
		}
		back.Before = s.Receipt.After
	}
	return u.write(ctx, back, rc.Change.Inverse)
}

// write brings the environment from rc.Before to where raw says. Unless it is ErrWrittenUnsure, a
// failure has written nothing.
func (u *Unleash) write(ctx context.Context, rc Receipt, raw json.RawMessage) (Receipt, error) {
	r := rc.Change.Ref
	on, err := u.target(raw)
	if err != nil {
		return Receipt{}, u.fail(r, err)
	}
	me, err := u.user(ctx)
	if err != nil {
		return Receipt{}, u.fail(r, err)
	}
	base, err := eventID(rc.Before)
	if err != nil {
		return Receipt{}, u.fail(r, err)
	}
	since, e, err := u.look(ctx, r.Key, base, me.doing(on))
	switch {
	case err != nil:
		return Receipt{}, u.fail(r, err)
	case since.own() == 0 && len(since) == 1 && e.Enabled == on:
		rc.After, rc.Already, rc.Written = Revision(since[0].id), true, since[0].at
		return rc, nil
	case len(since) > 0:
		return Receipt{}, u.fail(r, fmt.Errorf("%w: expected event %s, found %s since (%s); nothing was written", ErrConflict, rc.Before, since[0].id, since.all()))
	case e.Enabled == on:
		return Receipt{}, u.fail(r, fmt.Errorf("%w: the environment %s is as wanted, although no event says so", ErrAlreadyOff, u.environment))
	case on && !slices.ContainsFunc(e.Strategies, func(s unleashStrategy) bool { return !s.Disabled }):
		return Receipt{}, u.fail(r, fmt.Errorf("%w: no strategy of it is on, and Unleash would add one; turn it on by hand", ErrAmbiguousEdit))
	}

	unsure, err := u.flip(ctx, r.Key, on)
	if err != nil {
		return Receipt{}, u.fail(r, err)
	}
	// From here on the interrupt of a caller does not hide what was written.
	ctx = context.WithoutCancel(ctx)
	since, e, err = u.look(ctx, r.Key, base, me.doing(on))
	if err != nil {
		return rc, u.fail(r, fmt.Errorf("%w: %sits end cannot be read: %w", ErrWrittenUnsure, unsure, err))
	}
	own := since.own()
	if own >= 0 {
		rc.After, rc.Written = Revision(since[own].id), since[own].at
	}
	switch others := since.others(); {
	case own >= 0 && others != "":
		return rc, u.fail(r, fmt.Errorf("%w: event %s is ours, and somebody was at it too: %s", ErrWrittenUnsure, rc.After, others))
	case own >= 0 && e.Enabled != on:
		return rc, u.fail(r, fmt.Errorf("%w: event %s says it was switched, and it reads as before", ErrWrittenUnsure, rc.After))
	case own >= 0:
		return rc, nil
	case e.Enabled == on && others != "":
		return Receipt{}, u.fail(r, fmt.Errorf("%w: somebody else switched it at the same moment: %s; nothing was written", ErrConflict, others))
	}
	return rc, u.fail(r, fmt.Errorf("%w: %sno event of ours is there and the environment reads enabled: %t", ErrWrittenUnsure, unsure, e.Enabled))
}

// flip switches the environment. unsure says why the end of it is not known; an error means that
// nothing was done.
func (u *Unleash) flip(ctx context.Context, key string, enabled bool) (unsure string, err error) {
	word := map[bool]string{true: "/on", false: "/off"}[enabled]
	ans, err := u.api.call(ctx, request{method: http.MethodPost, path: u.switchPath(key) + word})
	switch {
	case errors.Is(err, errNoAnswer):
		return withoutURL(err).Error() + "; ", nil
	case err != nil:
		return "", err
	case ans.status == http.StatusForbidden && strings.Contains(string(ans.body), "SKIP_CHANGE_REQUEST"):
		return "", fmt.Errorf("%w: the project asks for change requests in %s; make one at %s/projects/%s/features/%s, or let this token skip them",
			ErrApprovalRequired, u.environment, u.api.base, u.project, key)
	case ans.status/100 == 5:
		return ans.said() + "; ", nil
	}
	return "", ans.refusal()
}

// look reads the events after base and the environment.
func (u *Unleash) look(ctx context.Context, key string, base int64, mine unleashUser) (trail, unleashEnvironment, error) {
	_, e, err := u.feature(ctx, key)
	if err != nil {
		return nil, e, err
	}
	since, err := u.events(ctx, key, base, mine)
	return since, e, err
}

// Settle implements Switch: the log of events shows whether a write was ours.
func (u *Unleash) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, err := u.Read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, err
	}
	out := Settlement{State: s, Receipt: Receipt{Change: c, Before: c.Base, Restore: restore}}
	me, err := u.user(ctx)
	if err != nil {
		return Settlement{}, u.fail(c.Ref, err)
	}
	base, err := eventID(c.Base)
	if err != nil {
		return Settlement{}, u.fail(c.Ref, err)
	}
	off, err := u.events(ctx, c.Ref.Key, base, me.doing(false))
	if err != nil {
		return Settlement{}, u.fail(c.Ref, err)
	}
	since := off
	if restore {
		// The change that was to be taken back is the first of ours; what counts came after it.
		first := off.first()
		if first < 0 {
			out.Fate = Foreign
			return out, nil
		}
		out.Receipt.Before = Revision(off[first].id)
		on, err := u.events(ctx, c.Ref.Key, base, me.doing(true))
		if err != nil {
			return Settlement{}, u.fail(c.Ref, err)
		}
		since = on.after(off[first].id)
	}
	switch own := since.first(); {
	case own >= 0:
		out.Fate, out.Receipt.After, out.Receipt.Written = Written, Revision(since[own].id), since[own].at
		if own > 0 {
			out.Fate = WrittenOver
		}
	case len(since) == 0:
		out.Fate = Untouched
	default:
		out.Fate = Foreign
	}
	return out, nil
}

// first is the place of the oldest note of ours, -1 if there is none.
func (t trail) first() int {
	for i, n := range slices.Backward(t) {
		if n.ours {
			return i
		}
	}
	return -1
}

// after is what came after the note with an id.
func (t trail) after(id string) trail {
	if i := slices.IndexFunc(t, func(n note) bool { return n.id == id }); i >= 0 {
		return t[:i]
	}
	return t
}

// all says for people what was done, whoever did it.
func (t trail) all() string {
	t = slices.Clone(t)
	for i := range t {
		t[i].ours = false
	}
	return t.others()
}

// eventID is a revision as the number that it is.
func eventID(r Revision) (int64, error) {
	id, err := strconv.ParseInt(string(r), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: the revision %q is no event id of Unleash", ErrInvalid, r)
	}
	return id, nil
}

// An unleashUser is somebody by whom events are made, and the type of event that is looked for.
type unleashUser struct {
	id   int64 // of a person or service account; 0 for tokens without one
	name string
	kind string
}

// doing is the user turning an environment on or off.
func (u unleashUser) doing(on bool) unleashUser {
	u.kind = "feature-environment-disabled"
	if on {
		u.kind = "feature-environment-enabled"
	}
	return u
}

// user is whose token this is. The answer holds the token itself for some kinds of it, so nothing
// else of it is kept.
func (u *Unleash) user(ctx context.Context) (unleashUser, error) {
	var me struct {
		User struct {
			ID       int64  `json:"id"`
			Email    string `json:"email"`
			Username string `json:"username"`
		} `json:"user"`
	}
	if err := u.api.get(ctx, "/api/admin/user", nil, &me); err != nil {
		return unleashUser{}, fmt.Errorf("whose token this is cannot be read: %w", err)
	}
	name := cmp.Or(me.User.Email, me.User.Username)
	if name == "" {
		return unleashUser{}, fmt.Errorf("%w: the server does not say whose token this is, so that its log could not show our write", ErrForbidden)
	}
	return unleashUser{id: max(me.User.ID, 0), name: name}, nil
}

// eventPage is how many events are asked for at once, and eventPages how many times. A flag that
// had 10,000 events since driftwatch looked at it is not one to write.
const (
	eventPage  = 100
	eventPages = 100
)

// events returns the events with ids above base that touch the flag here: of this environment,
// or of the flag as a whole. With base 0 only the newest are read, at least one if there is any.
func (u *Unleash) events(ctx context.Context, key string, base int64, mine unleashUser) (trail, error) {
	var out []unleashEvent
	seen := map[int64]bool{}
	for page := range eventPages {
		q := url.Values{
			"feature": {"IS:" + key}, "limit": {strconv.Itoa(eventPage)}, "offset": {strconv.Itoa(page * eventPage)},
		}
		var answer struct {
			Events []unleashEvent `json:"events"`
		}
		if err := u.api.get(ctx, "/api/admin/search/events?"+q.Encode(), nil, &answer); err != nil {
			return nil, fmt.Errorf("read the events: %w", err)
		}
		more := len(answer.Events) == eventPage
		for _, e := range answer.Events {
			if e.ID <= base {
				more = false
				continue
			}
			if !seen[e.ID] && e.FeatureName == key && (e.Environment == "" || e.Environment == u.environment) {
				seen[e.ID] = true
				out = append(out, e)
			}
		}
		if !more || base == 0 && len(out) > 0 {
			slices.SortFunc(out, func(a, b unleashEvent) int { return cmp.Compare(b.ID, a.ID) })
			var t trail
			for _, e := range out {
				t = append(t, e.note(mine))
			}
			return t, nil
		}
	}
	return nil, fmt.Errorf("%w: more than %d events since event %d", ErrConflict, eventPage*eventPages, base)
}

type unleashEvent struct {
	ID          int64     `json:"id"`
	Type        string    `json:"type"`
	By          string    `json:"createdBy"`
	ByID        int64     `json:"createdByUserId"`
	At          time.Time `json:"createdAt"`
	FeatureName string    `json:"featureName"`
	Environment string    `json:"environment"`
}

func (e unleashEvent) note(mine unleashUser) note {
	ours := e.Type == mine.kind && e.By == mine.name
	if mine.id > 0 {
		ours = e.Type == mine.kind && e.ByID == mine.id
	}
	return note{id: strconv.FormatInt(e.ID, 10), ours: ours, what: fmt.Sprintf("event %d, %s by %s", e.ID, e.Type, e.By), at: e.At}
}
