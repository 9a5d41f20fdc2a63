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
	"time"
)

// A LaunchDarkly is an environment of a project there. A flag is turned off by a semantic patch,
// which has no condition: the versions are read before and after it, and the audit log shows by
// its comment whether a change was ours. What the server answers is taken from its
// documentation; it was never called.
type LaunchDarkly struct {
	scope
	requestApproval bool
	api             api
}

// NewLaunchDarkly returns the source at base. With requestApproval a change that needs an
// approval is asked for; it is not made either way.
func NewLaunchDarkly(base, project, environment string, token Secret, requestApproval bool, client *http.Client) *LaunchDarkly {
	return &LaunchDarkly{scope{project, environment}, requestApproval, newAPI(base, token, client, plainToken)}
}

// launchDarklyVersion pins the answers that are understood here.
var launchDarklyVersion = http.Header{"Ld-Api-Version": {"20240415"}}

func (l *LaunchDarkly) path(key string) string {
	return "/api/v2/flags/" + url.PathEscape(l.project) + "/" + url.PathEscape(key)
}

// page is where a person sees the flag.
func (l *LaunchDarkly) page(key string) string {
	return l.api.base + "/" + url.PathEscape(l.project) + "/" + url.PathEscape(l.environment) + "/features/" + url.PathEscape(key)
}

func (l *LaunchDarkly) fail(r Ref, err error) error { return failure(r, l.page(r.Key), err) }

// A launchDarklyFlag is what the REST API says about a flag.
type launchDarklyFlag struct {
	Version    int64    `json:"_version"`
	Archived   bool     `json:"archived"`
	Temporary  *bool    `json:"temporary"`
	Tags       []string `json:"tags"`
	Variations []struct {
		Name  string `json:"name"`
		Value any    `json:"value"`
	} `json:"variations"`
	Environments map[string]*launchDarklyEnvironment `json:"environments"`
}

type launchDarklyEnvironment struct {
	On           bool  `json:"on"`
	Version      int64 `json:"version"`
	LastModified int64 `json:"lastModified"` // Unix milliseconds
	OffVariation *int  `json:"offVariation"`
	Fallthrough  struct {
		Variation *int            `json:"variation"`
		Rollout   json.RawMessage `json:"rollout"`
	} `json:"fallthrough"`
	Rules          []json.RawMessage `json:"rules"`
	Targets        []json.RawMessage `json:"targets"`
	ContextTargets []json.RawMessage `json:"contextTargets"`
	Prerequisites  []json.RawMessage `json:"prerequisites"`
}

// revision is the version of the flag and that of its environment; either moves when somebody
// edits what it counts.
func (f launchDarklyFlag) revision(e *launchDarklyEnvironment) Revision {
	return Revision(fmt.Sprintf("%d.%d", f.Version, e.Version))
}

// variant is what variation i is called: by its name, or by its value where it has none.
func (f launchDarklyFlag) variant(i *int) string {
	if i == nil || *i < 0 || *i >= len(f.Variations) {
		return ""
	}
	v := f.Variations[*i]
	return cmp.Or(v.Name, text(v.Value))
}

// flag reads a flag and its environment.
func (l *LaunchDarkly) flag(ctx context.Context, key string) (launchDarklyFlag, *launchDarklyEnvironment, error) {
	var f launchDarklyFlag
	if err := l.api.get(ctx, l.path(key)+"?env="+url.QueryEscape(l.environment), launchDarklyVersion, &f); err != nil {
		return f, nil, err
	}
	e := f.Environments[l.environment]
	switch {
	case f.Archived:
		return f, nil, fmt.Errorf("%w: it is archived", ErrNotFound)
	case e == nil:
		return f, nil, fmt.Errorf("%w: it has no environment %q", ErrNotFound, l.environment)
	}
	return f, e, nil
}

// Read implements Switch.
func (l *LaunchDarkly) Read(ctx context.Context, r Ref) (State, error) {
	s := State{Ref: r, Path: l.page(r.Key)}
	f, e, err := l.flag(ctx, r.Key)
	if err != nil {
		return s, l.fail(r, err)
	}
	s.Present, s.Enabled, s.Revision, s.Changed = true, true, f.revision(e), time.UnixMilli(e.LastModified)
	s.Variants = map[string]any{}
	for i := range f.Variations {
		name := f.variant(&i)
		if _, twice := s.Variants[name]; twice {
			return s, l.fail(r, fmt.Errorf("%w: two variations are called %q", ErrAmbiguousEdit, name))
		}
		s.Variants[name] = f.Variations[i].Value
	}
	// Notes are the flag's tags, and that it is a permanent one.
	s.Metadata = map[string]any{"permanent": f.Temporary != nil && !*f.Temporary}
	for _, tag := range f.Tags {
		s.Metadata[tag] = true
	}
	s.Definition = string(revisionOf([]byte(text([]any{f.Variations, e.On, e.OffVariation, e.Fallthrough, e.Rules, e.Targets, e.ContextTargets, e.Prerequisites}))))
	if !e.On {
		s.DefaultVariant = f.variant(e.OffVariation)
		return s, nil
	}
	s.DefaultVariant = f.variant(e.Fallthrough.Variation)
	s.Targeting = e.Fallthrough.Variation == nil || len(e.Rules)+len(e.Targets)+len(e.ContextTargets)+len(e.Prerequisites) > 0
	if s.Raw, err = json.Marshal(launchDarklyOff{e.On, f.variant(e.OffVariation)}); err != nil {
		return s, l.fail(r, fmt.Errorf("%w: %w", ErrInvalid, err))
	}
	return s, nil
}

// A launchDarklyOff is what Plan must know beside the State.
type launchDarklyOff struct {
	On  bool   `json:"on"`
	Off string `json:"off"` // variant that is served while it is off, "" = the code's default
}

// Plan implements Switch: targeting is turned off, and everybody gets the off variation, which has
// to be the rule's.
func (l *LaunchDarkly) Plan(s State, m Mode, w Want) (Change, error) {
	refuse := func(kind error, format string, args ...any) (Change, error) {
		return Change{}, l.fail(s.Ref, fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...)))
	}
	var now launchDarklyOff
	if len(s.Raw) > 0 {
		if err := json.Unmarshal(s.Raw, &now); err != nil {
			return refuse(ErrInvalid, "%v", err)
		}
	}
	value, defined := s.Variants[w.Variant]
	switch {
	case m != OffVariant:
		return refuse(ErrInvalid, "mode %s: targeting is turned off, nothing else", m)
	case !s.Present:
		return refuse(ErrNotFound, "the project has no such flag")
	case !defined:
		return refuse(ErrInvalid, "it has no variation %q, only %s", w.Variant, names(s.Variants))
	case s.Off(w.Variant):
		return refuse(ErrAlreadyOff, "version %s", s.Revision)
	case !now.On:
		return refuse(ErrInvalid, "its targeting is off and serves %q, not %q; set the off variation at %s", s.DefaultVariant, w.Variant, s.Path)
	case now.Off == "":
		return refuse(ErrInvalid, "it has no off variation, so that the default in the application's code would be served; set one at %s", s.Path)
	case now.Off != w.Variant:
		return refuse(ErrInvalid, "its off variation is %q, not %q; change it at %s, or the rule", now.Off, w.Variant, s.Path)
	}
	w.Value = value
	return l.change(s, w, "on"), nil
}

// TurnOff implements Switch.
func (l *LaunchDarkly) TurnOff(ctx context.Context, c Change) (Receipt, error) {
	return l.write(ctx, Receipt{Change: c, Before: c.Base}, c.Forward)
}

// Restore implements Switch: targeting is turned on again, if the version is ours and the audit
// log's newest entry is our comment.
func (l *LaunchDarkly) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	back := Receipt{Change: rc.Change, Before: rc.After, Restore: true}
	r := rc.Change.Ref
	log, err := l.audit(ctx, r.Key, comment(rc.Change, false))
	if err != nil {
		return Receipt{}, l.fail(r, err)
	}
	if own := log.own(); own != 0 && !l.restoredAlready(log, own, rc.Change) {
		return Receipt{}, l.fail(r, fmt.Errorf("%w: the newest entry of the audit log is not our write (%s); nothing was written", ErrConflict, log[:max(own, min(1, len(log)))].all()))
	}
	if back.Before == "" { // the write was never seen; the audit log has it as the newest
		s, err := l.Read(ctx, r)
		if err != nil {
			return Receipt{}, err
		}
		back.Before = s.Revision
	}
	return l.write(ctx, back, rc.Change.Inverse)
}

// restoredAlready reports whether all that came after our write is our own taking back.
func (l *LaunchDarkly) restoredAlready(log trail, own int, c Change) bool {
	return own == 1 && log[0].what == comment(c, true)
}

// comment is how a change of ours is known in the audit log.
func comment(c Change, restore bool) string {
	if restore {
		return "driftwatch " + c.Case + " restored"
	}
	return "driftwatch " + c.Case
}

// write brings the environment from rc.Before to where raw says. Unless it is ErrWrittenUnsure, a
// failure has written nothing.
func (l *LaunchDarkly) write(ctx context.Context, rc Receipt, raw json.RawMessage) (Receipt, error) {
	r := rc.Change.Ref
	on, err := l.target(raw)
	if err != nil {
		return Receipt{}, l.fail(r, err)
	}
	if rc.Change.Case == "" {
		return Receipt{}, l.fail(r, fmt.Errorf("%w: the change has no case, by which the audit log would show whose it is", ErrInvalid))
	}
	note := comment(rc.Change, rc.Restore)
	before, err := l.audit(ctx, r.Key, note)
	if err != nil {
		return Receipt{}, l.fail(r, err)
	}
	f, e, err := l.flag(ctx, r.Key)
	switch {
	case err != nil:
		return Receipt{}, l.fail(r, err)
	case before.own() == 0 && e.On == on:
		rc.After, rc.Already, rc.Written = f.revision(e), true, before[0].at
		return rc, nil
	case f.revision(e) != rc.Before:
		return Receipt{}, l.fail(r, fmt.Errorf("%w: expected version %s, found %s (last: %s); nothing was written", ErrConflict, rc.Before, f.revision(e), before[:min(1, len(before))].all()))
	case e.On == on:
		return Receipt{}, l.fail(r, fmt.Errorf("%w: the environment %s is as wanted, although the audit log does not say so", ErrAlreadyOff, l.environment))
	}

	unsure, err := l.patch(ctx, r.Key, on, note)
	if err != nil {
		return Receipt{}, l.fail(r, err)
	}
	ctx = context.WithoutCancel(ctx)
	f, e, err = l.flag(ctx, r.Key)
	if err != nil {
		return rc, l.fail(r, fmt.Errorf("%w: %sits end cannot be read: %w", ErrWrittenUnsure, unsure, err))
	}
	after, err := l.audit(ctx, r.Key, note)
	if err != nil {
		return rc, l.fail(r, fmt.Errorf("%w: %sits end cannot be read: %w", ErrWrittenUnsure, unsure, err))
	}
	if len(before) > 0 {
		after = after.after(before[0].id)
	}
	own := after.own()
	others := after.others()
	switch {
	case e.On != on:
		return rc, l.fail(r, fmt.Errorf("%w: %sthe environment reads on: %t%s", ErrWrittenUnsure, unsure, e.On, prefixed("; somebody was at it too: ", others)))
	case own >= 0 && others == "":
		rc.After, rc.Written = f.revision(e), after[own].at
		return rc, nil
	case own >= 0:
		rc.Written = after[own].at
		return rc, l.fail(r, fmt.Errorf("%w: our entry is in the audit log, and somebody was at it too: %s", ErrWrittenUnsure, others))
	case unsure != "" && others != "":
		return Receipt{}, l.fail(r, fmt.Errorf("%w: somebody else switched it at the same moment: %s", ErrConflict, others))
	}
	return rc, l.fail(r, fmt.Errorf("%w: %sthe audit log has no entry of ours yet%s", ErrWrittenUnsure, unsure, prefixed("; somebody was at it too: ", others)))
}

// prefixed is s after a prefix, or "".
func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// instructions are the semantic patch that turns targeting on or off.
func (l *LaunchDarkly) instructions(on bool) []map[string]string {
	return []map[string]string{{"kind": map[bool]string{true: "turnFlagOn", false: "turnFlagOff"}[on]}}
}

// patch switches the environment. unsure says why the end of it is not known; an error means that
// nothing was done.
func (l *LaunchDarkly) patch(ctx context.Context, key string, on bool, note string) (unsure string, err error) {
	header := launchDarklyVersion.Clone()
	header.Set("Content-Type", "application/json; domain-model=launchdarkly.semanticpatch")
	ans, err := l.api.call(ctx, request{
		method: http.MethodPatch, path: l.path(key), header: header,
		body: rawJSON(map[string]any{"environmentKey": l.environment, "comment": note, "instructions": l.instructions(on)}),
	})
	switch {
	case errors.Is(err, errNoAnswer):
		return err.Error() + "; ", nil
	case err != nil:
		return "", err
	case ans.status == http.StatusMethodNotAllowed:
		return "", l.approval(ctx, key, on, note)
	case ans.status/100 == 5:
		return ans.said() + "; ", nil
	}
	return "", ans.refusal()
}

// approval is the error of a change that a person has to agree to; the request is made if the
// configuration says so.
func (l *LaunchDarkly) approval(ctx context.Context, key string, on bool, note string) error {
	if !l.requestApproval {
		return fmt.Errorf("%w: make the request at %s, or set approvals: request", ErrApprovalRequired, l.page(key))
	}
	path := "/api/v2/projects/" + url.PathEscape(l.project) + "/flags/" + url.PathEscape(key) + "/environments/" + url.PathEscape(l.environment) + "/approval-requests"
	ans, err := l.api.call(ctx, request{
		method: http.MethodPost, path: path, header: launchDarklyVersion,
		body: rawJSON(map[string]any{"description": note, "comment": note, "instructions": l.instructions(on)}),
	})
	if err == nil {
		err = ans.refusal()
	}
	if err == nil && ans.status/100 == 5 {
		err = errors.New(ans.said())
	}
	if err != nil {
		return fmt.Errorf("%w: make the request at %s; making it failed: %w", ErrApprovalRequired, l.page(key), err)
	}
	var made struct {
		ID string `json:"_id"`
	}
	if err := ans.decode(&made); err != nil {
		return fmt.Errorf("%w: the request was made; see %s", ErrApprovalRequired, l.page(key))
	}
	return fmt.Errorf("%w: request %s was made; approve and apply it at %s", ErrApprovalRequired, made.ID, l.page(key))
}

// auditPage is how many entries of the audit log are looked at; a write and its foreign
// neighbours are the newest.
const auditPage = 20

// audit returns the newest entries about the flag in this environment; those with our comment are
// ours, and are told by it.
func (l *LaunchDarkly) audit(ctx context.Context, key, ours string) (trail, error) {
	q := url.Values{"limit": {strconv.Itoa(auditPage)}, "spec": {fmt.Sprintf("proj/%s:env/%s:flag/%s", l.project, l.environment, key)}}
	var answer struct {
		Items []struct {
			ID      string `json:"_id"`
			Date    int64  `json:"date"` // Unix milliseconds
			Comment string `json:"comment"`
			Title   string `json:"titleVerb"`
			Member  struct {
				Email string `json:"email"`
			} `json:"member"`
			Token struct {
				Name string `json:"name"`
			} `json:"token"`
		} `json:"items"`
	}
	if err := l.api.get(ctx, "/api/v2/auditlog?"+q.Encode(), launchDarklyVersion, &answer); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	var t trail
	for _, i := range answer.Items {
		n := note{id: i.ID, at: time.UnixMilli(i.Date), ours: i.Comment == ours, what: shortened(i.Comment)}
		if !n.ours && n.what == "" {
			n.what = fmt.Sprintf("%s by %s", cmp.Or(i.Title, "a change"), cmp.Or(i.Member.Email, i.Token.Name, "somebody"))
		}
		t = append(t, n)
	}
	slices.SortStableFunc(t, func(a, b note) int { return b.at.Compare(a.at) })
	return t, nil
}

// Settle implements Switch: the audit log shows by our comment whether a write was ours.
func (l *LaunchDarkly) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, err := l.Read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, err
	}
	log, err := l.audit(ctx, c.Ref.Key, comment(c, restore))
	if err != nil {
		return Settlement{}, l.fail(c.Ref, err)
	}
	out := Settlement{State: s, Receipt: Receipt{Change: c, Before: c.Base, Restore: restore}}
	own := log.own()
	switch {
	case own == 0:
		out.Fate, out.Receipt.After, out.Receipt.Written = Written, s.Revision, log[0].at
	case own > 0:
		out.Fate, out.Receipt.Written = WrittenOver, log[own].at
	case restore && len(log) > 0 && log[0].what == comment(c, false), !restore && s.Revision == c.Base:
		out.Fate = Untouched
	default:
		out.Fate = Foreign
	}
	return out, nil
}
