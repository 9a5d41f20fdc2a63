package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// caseAnnotation holds the cases that driftwatch turned flags of the object off for, one a line.
const caseAnnotation = "driftwatch.dev/case"

// A Kubernetes is a source in one object of a Kubernetes API: a FeatureFlag resource, or a
// ConfigMap that holds the text of a flag file.
//
// A revision is that of the flag (FeatureFlag) or of the text (ConfigMap), not of the object, so
// that labels, status or an operator's notes block nothing. Every write carries the
// resourceVersion of the look that allowed it, so that nothing can come in between.
type Kubernetes struct {
	object KubernetesObject
	api    *kubeAPI
	form   kubeForm
}

// A KubernetesObject names an object.
type KubernetesObject struct {
	Server          KubernetesServer
	Namespace, Name string
	// OverwriteManaged allows to write an object that a tool such as Argo CD, Flux or Helm keeps
	// as it has it.
	OverwriteManaged bool
}

// A kubeForm is how a kind of object holds flags.
type kubeForm interface {
	kind() string
	// resource is the API group ("" = core), the version and the plural.
	resource() (group, version, plural string)
	dialect() flagdText
	// text is the flags of o as flagd reads them.
	text(o *kubeObject) ([]byte, error)
	// revision is that of the flag; text is that of text.
	revision(text []byte, key string) (Revision, error)
	// plan is Plan for s, whose Raw is the text.
	plan(path string, s State, m Mode, w Want) (Change, error)
	// edit is what raw makes of the text, and the patch that does it.
	edit(c Change, raw json.RawMessage, text []byte) (after []byte, p []jsonOp, err error)
}

// A jsonOp is one operation of a JSON patch (RFC 6902). A merge patch would drop the nulls that
// JsonLogic rules may hold.
type jsonOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// NewFeatureFlag returns the source in a FeatureFlag resource (core.openfeature.dev/v1beta1). It
// fails where the authorities of the server cannot be read.
func NewFeatureFlag(o KubernetesObject) (*Kubernetes, error) {
	return newKubernetes(o, featureFlag{})
}

// NewConfigMap returns the source in data[key] of a ConfigMap, a text that flagd reads by the
// extension of key.
func NewConfigMap(o KubernetesObject, key string) (*Kubernetes, error) {
	return newKubernetes(o, configMap{key})
}

func newKubernetes(o KubernetesObject, form kubeForm) (*Kubernetes, error) {
	api, err := newKubeAPI(o.Server)
	if err != nil {
		return nil, err
	}
	return &Kubernetes{object: o, api: api, form: form}, nil
}

// urlPath is where the object is in the API.
func (k *Kubernetes) urlPath() string {
	group, version, plural := k.form.resource()
	prefix := "/apis/" + group + "/" + version
	if group == "" {
		prefix = "/api/" + version
	}
	return prefix + "/namespaces/" + url.PathEscape(k.object.Namespace) + "/" + plural + "/" + url.PathEscape(k.object.Name)
}

// Address is where the object is, for people.
func (k *Kubernetes) Address() string {
	return strings.TrimSuffix(k.object.Server.Address, "/") + k.urlPath()
}

// role is what driftwatch has to be allowed.
func (k *Kubernetes) role() string {
	group, _, plural := k.form.resource()
	return fmt.Sprintf(`it needs a Role in namespace %s with {apiGroups: [%q], resources: [%s], resourceNames: [%s], verbs: [get, patch]}`, k.object.Namespace, group, plural, k.object.Name)
}

func (k *Kubernetes) fail(r Ref, err error) error {
	if errors.Is(err, errNeedsRole) {
		err = fmt.Errorf("%w; %s", err, k.role())
	}
	return failure(r, k.Address(), err)
}

func (k *Kubernetes) get(ctx context.Context) (*kubeObject, error) {
	body, err := k.api.send(ctx, http.MethodGet, k.urlPath(), nil)
	if err != nil {
		return nil, err
	}
	return parseObject(k.form.kind(), body)
}

// patch sends p for the object as it was at o. A dry run is checked by the server in every way,
// and not stored.
func (k *Kubernetes) patch(ctx context.Context, o *kubeObject, p []jsonOp, dry bool) (*kubeObject, error) {
	p = append([]jsonOp{{"replace", "/metadata/resourceVersion", o.Metadata.ResourceVersion}}, p...)
	body, err := encodeJSON(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	query := "?fieldManager=" + fieldOwner + "&fieldValidation=Strict"
	if dry {
		query += "&dryRun=All"
	}
	answer, err := k.api.send(ctx, http.MethodPatch, k.urlPath()+query, body)
	if err != nil {
		return nil, err
	}
	written, err := parseObject(k.form.kind(), answer)
	if err != nil && !dry {
		return nil, fmt.Errorf("%w: %w", err, errNoAnswer)
	}
	return written, err
}

// encodeJSON is v without escaping more than JSON must.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// look is the object, its flags, and the flag's revision.
func (k *Kubernetes) look(ctx context.Context, key string) (o *kubeObject, text []byte, r Revision, err error) {
	if o, err = k.get(ctx); err != nil {
		return nil, nil, "", err
	}
	if text, err = k.form.text(o); err != nil {
		return o, nil, "", err
	}
	r, err = k.form.revision(text, key)
	return o, text, r, err
}

// Read implements Switch.
func (k *Kubernetes) Read(ctx context.Context, r Ref) (State, error) {
	s, _, err := k.read(ctx, r)
	return s, err
}

func (k *Kubernetes) read(ctx context.Context, r Ref) (State, *kubeObject, error) {
	s := State{Ref: r, Path: k.Address()}
	o, err := k.get(ctx)
	if err != nil {
		return s, nil, k.fail(r, err)
	}
	text, err := k.form.text(o)
	if err != nil {
		return s, o, k.fail(r, err)
	}
	s, err = stateOf(k.form.dialect(), r, k.Address(), text)
	if err == nil {
		s.Revision, err = k.form.revision(text, r.Key)
	}
	s.Raw, s.Changed = o.raw, o.lastWriter().Time
	s.ReadOnly, _ = kindOf(k.writable(o, false))
	if err != nil {
		return s, o, k.fail(r, err)
	}
	return s, o, nil
}

// Plan implements Switch: the default becomes w.Variant, and the targeting goes.
func (k *Kubernetes) Plan(s State, m Mode, w Want) (Change, error) {
	o, err := parseObject(k.form.kind(), s.Raw)
	if err != nil {
		return Change{}, k.fail(s.Ref, fmt.Errorf("%w: the state was not read here: %w", ErrInvalid, err))
	}
	text, err := k.form.text(o)
	if err != nil {
		return Change{}, k.fail(s.Ref, err)
	}
	s.Raw = text
	c, err := k.form.plan(k.Address(), s, m, w)
	if err != nil {
		return Change{}, k.fail(s.Ref, err)
	}
	if by := o.manager(); by != "" {
		c.Diff = by + "\n" + c.Diff
	}
	return c, nil
}

// TurnOff implements Switch.
func (k *Kubernetes) TurnOff(ctx context.Context, c Change) (Receipt, error) {
	return k.write(ctx, Receipt{Change: c, Before: c.Base, After: c.After}, c.Forward)
}

// Restore implements Switch. The flag and the annotation become what they were; who wrote a
// field last, the generation and the resourceVersion are the server's to count.
func (k *Kubernetes) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	c := rc.Change
	return k.write(ctx, Receipt{Change: c, Before: c.After, After: c.Base, Restore: true}, c.Inverse)
}

// conflictTries is how often a write looks anew when the object moved between the look and the
// write while the flag did not.
const conflictTries = 4

// write brings the flag from rc.Before to rc.After. There is a receipt whenever it was written,
// certain or not.
func (k *Kubernetes) write(ctx context.Context, rc Receipt, raw json.RawMessage) (Receipt, error) {
	c := rc.Change
	if c.Case == "" {
		return Receipt{}, k.fail(c.Ref, fmt.Errorf("%w: the change has no case, by which the write could be known again", ErrInvalid))
	}
	for try := 1; ; try++ {
		done, moved, err := k.writeOnce(ctx, rc, raw)
		switch {
		case err == nil:
			return done, nil
		case errors.Is(err, ErrWrittenUnsure):
			return k.find(ctx, rc, err)
		case moved && try < conflictTries:
			continue
		}
		return Receipt{}, k.fail(c.Ref, err)
	}
}

// writeOnce looks, checks and writes. It fails with ErrWrittenUnsure where the write may have been
// made. moved says that the object was written between the look and the write.
func (k *Kubernetes) writeOnce(ctx context.Context, rc Receipt, raw json.RawMessage) (_ Receipt, moved bool, err error) {
	c := rc.Change
	o, text, now, err := k.look(ctx, c.Ref.Key)
	if err != nil {
		return rc, false, err
	}
	ours := o.holds(c.Case)
	switch {
	case now == rc.After && (ours || rc.Restore):
		rc.Already, rc.Written = true, o.lastWriter().Time
		return rc, false, nil
	case now == rc.After:
		return rc, false, fmt.Errorf("%w: %s turned it off in the meantime", ErrConflict, o.lastWriter())
	case now != rc.Before:
		return rc, false, fmt.Errorf("%w: expected revision %s, found %s, last written by %s; nothing was overwritten", ErrConflict, rc.Before.Short(), now.Short(), o.lastWriter())
	case rc.Restore && !ours:
		return rc, false, fmt.Errorf("%w: the annotation %s does not name case %s any more, so somebody wrote the flag anew, last %s; nothing was overwritten", ErrConflict, caseAnnotation, c.Case, o.lastWriter())
	}
	if err := k.writable(o, rc.Restore); err != nil {
		return rc, false, err
	}
	after, p, err := k.form.edit(c, raw, text)
	if err != nil {
		return rc, false, err
	}
	if rc.Restore {
		err = k.form.dialect().load(after)
	} else {
		err = k.form.dialect().check(c, text, after)
	}
	if err != nil {
		return rc, false, err
	}
	p = append(p, o.annotate(c.Case, !rc.Restore)...)

	would, err := k.patch(ctx, o, p, true)
	if err != nil {
		return rc, errors.Is(err, ErrConflict), err
	}
	if stored, err := k.form.text(would); err != nil || !bytes.Equal(stored, after) {
		return rc, false, fmt.Errorf("%w: the server would store something else than was planned; an admission webhook or policy changes what is written, or the schema drops some of it", ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return rc, false, err
	}
	switch _, err := k.patch(ctx, o, p, false); {
	case errors.Is(err, errNoAnswer):
		return rc, false, fmt.Errorf("%w: the answer to the write was lost (%w)", ErrWrittenUnsure, err)
	case err != nil:
		return rc, errors.Is(err, ErrConflict), err
	}
	// A server, or a proxy before it, may say yes and do nothing.
	seen, _, now, err := k.look(ctx, c.Ref.Key)
	switch {
	case err != nil:
		return rc, false, fmt.Errorf("%w: it cannot be read again: %w", ErrWrittenUnsure, err)
	case now == rc.Before && seen.Metadata.ResourceVersion == o.Metadata.ResourceVersion:
		return rc, false, fmt.Errorf("%w: the server said yes, and the object is unchanged", ErrWrittenUnsure)
	case now != rc.After || seen.holds(c.Case) == rc.Restore:
		return rc, false, fmt.Errorf("%w: the object was overwritten right after the write by %s, revision %s by %s", ErrWrittenUnsure, seen.lastWriter(), rc.After.Short(), now.Short())
	}
	rc.Written = seen.lastWriter().Time
	return rc, false, nil
}

// findPause is how long a write whose answer was lost is given before each further look, and
// findTries how many looks there are. A server that lives carries a request out, or drops it,
// well within their time.
const (
	findPause = 500 * time.Millisecond
	findTries = 4
)

// find looks for a write that cause made unsure. Nothing is sent again.
func (k *Kubernetes) find(ctx context.Context, rc Receipt, cause error) (Receipt, error) {
	c := rc.Change
	ctx = context.WithoutCancel(ctx)
	for range findTries {
		o, _, now, err := k.look(ctx, c.Ref.Key)
		if err == nil && now == rc.After && o.holds(c.Case) != rc.Restore {
			rc.Written = o.lastWriter().Time
			return rc, nil
		}
		if err := k.api.pause(ctx, findPause); err != nil {
			break
		}
	}
	return rc, k.fail(c.Ref, cause)
}

// Settle implements Switch: the annotation tells whose a write was.
func (k *Kubernetes) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, o, err := k.read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, err
	}
	from, to := c.Base, c.After
	if restore {
		from, to = to, from
	}
	out := Settlement{Fate: Foreign, State: s, Receipt: Receipt{Change: c, Before: from, After: to, Restore: restore}}
	ours := o.holds(c.Case)
	switch {
	case s.Revision == to && ours != restore:
		out.Fate, out.Receipt.Written = Written, s.Changed
	case s.Revision == from && ours == restore:
		out.Fate = Untouched
	case !restore && ours && s.Off(c.Want.Variant):
		out.Fate = WrittenOver
	}
	return out, nil
}

// writable says why the object must not be written.
func (k *Kubernetes) writable(o *kubeObject, restore bool) error {
	switch by := o.manager(); {
	case o.Metadata.DeletionTimestamp != nil:
		return fmt.Errorf("%w: it is being deleted", ErrReadOnly)
	case o.Immutable:
		return fmt.Errorf("%w: the ConfigMap is immutable; make a new one and point flagd at it", ErrReadOnly)
	case by != "" && !restore && !k.object.OverwriteManaged:
		// A restore brings back what the manager wants.
		return fmt.Errorf("%w: %s; turn the flag off there, or write managed: allow if this write shall be made all the same", ErrManagedElsewhere, by)
	}
	return nil
}

// manager says what keeps the object as it has it, by the marks that such tools leave; "" if
// nothing seems to.
func (o *kubeObject) manager() string {
	m := o.Metadata
	for _, mark := range []struct {
		in       map[string]string
		name, by string
	}{
		{m.Annotations, "argocd.argoproj.io/tracking-id", "Argo CD"},
		{m.Annotations, "argocd.argoproj.io/instance", "Argo CD"},
		{m.Labels, "argocd.argoproj.io/instance", "Argo CD"},
		{m.Labels, "kustomize.toolkit.fluxcd.io/name", "Flux"},
		{m.Labels, "helm.toolkit.fluxcd.io/name", "Flux"},
	} {
		if v, ok := mark.in[mark.name]; ok {
			return fmt.Sprintf("%s manages the object (%s: %s) and puts back what it has", mark.by, mark.name, v)
		}
	}
	if m.Labels["app.kubernetes.io/managed-by"] == "Helm" {
		return "Helm manages the object (app.kubernetes.io/managed-by: Helm) and puts back what its chart has at the next upgrade"
	}
	for _, owner := range m.OwnerReferences {
		if owner.Controller {
			return fmt.Sprintf("the object belongs to %s %s, whose controller puts back what it has", owner.Kind, owner.Name)
		}
	}
	for _, f := range m.ManagedFields {
		for _, name := range []string{"argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"} {
			if f.Manager == name {
				return fmt.Sprintf("%s wrote the object and puts back what it has", name)
			}
		}
	}
	return ""
}

// cases are the ones that the annotation names.
func (o *kubeObject) cases() []string {
	return strings.FieldsFunc(o.Metadata.Annotations[caseAnnotation], func(r rune) bool { return r == '\n' })
}

// holds reports whether the annotation names a case.
func (o *kubeObject) holds(name string) bool { return slices.Contains(o.cases(), name) }

// annotate is the patch that makes the annotation name a case, or not any more. Several flags
// of one object may be off, each for its own.
func (o *kubeObject) annotate(name string, on bool) []jsonOp {
	cases := slices.DeleteFunc(o.cases(), func(c string) bool { return c == name })
	if on {
		cases = append(cases, name)
	}
	path := "/metadata/annotations/" + pointer(caseAnnotation)
	switch {
	case len(cases) > 0 && o.Metadata.Annotations == nil:
		return []jsonOp{{"add", "/metadata/annotations", map[string]string{caseAnnotation: name}}}
	case len(cases) > 0:
		return []jsonOp{{"add", path, strings.Join(cases, "\n")}}
	case o.Metadata.Annotations[caseAnnotation] != "":
		return []jsonOp{{Op: "remove", Path: path}}
	}
	return nil
}
