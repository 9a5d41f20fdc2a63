package flags

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

// cleanRounds is how many rounds in a row must have given nothing but the wanted answer. A
// switch is not atomic over calls: within 5 ms some contexts have the new value and some the
// old one. (research of flagd 0.16.1, docs/flags.md)
const cleanRounds = 3

// callDeadline bounds one evaluation. An OFREP server answers in milliseconds; one that needs
// seconds does not serve an application.
const callDeadline = 2 * time.Second

// firstRound is how long the first round of a proof may take at least, whatever the proof may.
const firstRound = 10 * time.Second

// An OpenFeatureProver evaluates flags through an OpenFeature API of its own; the API of the
// host program is not touched. Providers live as long as one proof.
type OpenFeatureProver struct {
	// Every is the pause between rounds, Settle the least time that the clean rounds must span:
	// twice the poll interval of what stands between the source and the viewpoint.
	Every, Settle time.Duration

	viewpoint Viewpoint
	open      func(ctx context.Context) (session, error)
}

// A session is a provider that has been started.
type session struct {
	provider openfeature.FeatureProvider
	notes    func() []string
	close    func()
	// refresh reads the source anew before a round, where the provider does not follow it by
	// itself; it may be nil.
	refresh func(ctx context.Context)
}

// NewFileProver looks at a flag file as an application with flagd's provider in file mode does:
// such a provider sees a rename within milliseconds. With later files it looks as flagd does
// that has all of them as sources, in that order.
func NewFileProver(path string, later ...string) *OpenFeatureProver {
	return &OpenFeatureProver{
		Every: 20 * time.Millisecond, Settle: 50 * time.Millisecond,
		viewpoint: Viewpoint{File, strings.Join(append([]string{path}, later...), ", ")},
		open: func(ctx context.Context) (session, error) {
			if len(later) > 0 {
				p, err := openMerged(ctx, append([]string{path}, later...)...)
				if err != nil {
					return session{}, err
				}
				return session{provider: p, notes: p.notes, close: p.close}, nil
			}
			p, err := openFile(ctx, path)
			if err != nil {
				return session{}, err
			}
			return session{provider: p, notes: p.notes, close: p.close}, nil
		},
	}
}

// NewOFREPProver asks a server for remote evaluation (OFREP) at base. Behind flagd's poll of
// one second a change is seen after a second at most, so the clean rounds span two. token, if
// there is one, goes into the header of that name; "" is Authorization, as a bearer token.
func NewOFREPProver(base string, token Secret, header string, client *http.Client) *OpenFeatureProver {
	client = Direct(client)
	address := base
	if u, err := url.Parse(base); err == nil {
		address = u.Redacted()
	}
	return &OpenFeatureProver{
		Every: 250 * time.Millisecond, Settle: 2 * time.Second,
		viewpoint: Viewpoint{OFREP, address},
		open: func(context.Context) (session, error) {
			secret, err := token.read()
			if err != nil {
				return session{}, err
			}
			options := []ofrep.Option{ofrep.WithClient(client)}
			switch {
			case secret == "":
			case header == "":
				options = append(options, ofrep.WithBearerToken(secret))
			default:
				options = append(options, ofrep.WithHeader(header, secret))
			}
			return session{provider: ofrep.NewProvider(base, options...), notes: func() []string { return nil }, close: client.CloseIdleConnections}, nil
		},
	}
}

// Viewpoint implements Prover.
func (p *OpenFeatureProver) Viewpoint() Viewpoint { return p.viewpoint }

// client starts the provider in an isolated API.
func (p *OpenFeatureProver) client(ctx context.Context) (c *openfeature.Client, s session, closeAll func(), err error) {
	s, err = p.open(ctx)
	if err != nil {
		return nil, s, nil, err
	}
	if s.refresh == nil {
		s.refresh = func(context.Context) {}
	}
	api := isolated.NewAPI()
	closeAll = func() {
		// The provider of the API has no state of its own, so this cannot fail.
		_ = api.Shutdown(context.WithoutCancel(ctx))
		s.close()
	}
	if err := api.SetProviderAndWait(ctx, s.provider); err != nil {
		closeAll()
		return nil, s, nil, err
	}
	return api.NewClient(), s, closeAll, nil
}

// Prove implements Prover. within counts from when the provider is ready; the first round is seen
// to its end whatever within is.
func (p *OpenFeatureProver) Prove(ctx context.Context, q Question, within time.Duration) (Evidence, error) {
	start := time.Now()
	e := Evidence{Viewpoint: p.viewpoint, Contexts: len(q.Probes)}
	end := func(err error) (Evidence, error) {
		e.At = time.Now().UTC()
		e.Took = time.Since(start)
		if err != nil {
			unproven := &Error{Ref: Ref{Key: q.Key}, Path: p.viewpoint.Address, What: err.Error(), Err: ErrUnproven}
			if ctx.Err() != nil {
				unproven.Err = fmt.Errorf("%w (%w)", ErrUnproven, ctx.Err())
			}
			return e, unproven
		}
		return e, nil
	}
	if len(q.Probes) == 0 {
		return end(errors.New("there is no context to evaluate"))
	}
	on, err := otherValue(q)
	if err != nil {
		return end(err)
	}
	client, session, closeAll, err := p.client(ctx)
	if err != nil {
		e.Notes = []string{err.Error()}
		return end(err)
	}
	defer closeAll()

	// The time counts from when the provider is ready, and the first round is seen to its end:
	// on a machine out of breath, who got what is worth more than to stop in time.
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	first, cancelFirst := context.WithTimeout(ctx, max(within, firstRound))
	defer cancelFirst()
	asking := first
	var clean time.Time // start of the first clean round of this row
	for {
		round := time.Now()
		session.refresh(asking)
		answers := p.round(asking, client, q, map[string]any{"on": on, "off": q.Want.Value})
		asking = limited
		if limited.Err() == nil || e.Answers == nil {
			e.Answers = answers
		}
		e.Notes = session.notes()
		if limited.Err() == nil && !slices.ContainsFunc(answers, func(a Answer) bool { return !a.Clean }) {
			if e.Rounds == 0 {
				clean = round
			}
			e.Rounds++
		} else {
			e.Rounds = 0
		}
		if e.Rounds >= cleanRounds && time.Since(clean) >= p.Settle {
			e.Proved = true
			return end(nil)
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return end(errors.New("interrupted"))
			}
			return end(errors.New(table(e, q, within)))
		case <-time.After(p.Every):
		}
	}
}

// table says who saw what.
func table(e Evidence, q Question, within time.Duration) string {
	wanted := "got the off variant"
	if q.Want.Variant == "" {
		wanted = "was left to the default in the code"
	}
	s := []string{fmt.Sprintf("not everybody %s within %s (%d contexts, %d clean rounds in a row)", wanted, within, e.Contexts, e.Rounds)}
	for _, a := range e.Answers {
		if !a.Clean {
			s = append(s, a.String())
		}
	}
	return strings.Join(append(s, e.Notes...), "; ")
}

// String is one line for people.
func (a Answer) String() string {
	s := fmt.Sprintf("%d× code default %s got %s", a.Count, a.Default, a.Value)
	if a.Variant != "" {
		s += fmt.Sprintf(" variant %q", a.Variant)
	}
	if a.Reason != "" {
		s += " reason " + a.Reason
	}
	if a.Error != "" {
		s += " error " + a.Error
	}
	return s + ", first for " + a.Context
}

// round evaluates every probe with every code default and counts equal answers together, in
// the order in which they were first seen.
func (p *OpenFeatureProver) round(ctx context.Context, c *openfeature.Client, q Question, defaults map[string]any) []Answer {
	var out []Answer
	for _, probe := range q.Probes {
		for _, name := range slices.Sorted(maps.Keys(defaults)) {
			a := evaluate(ctx, c, q, probe, defaults[name])
			a.Default = name
			i := slices.IndexFunc(out, func(b Answer) bool {
				b.Context, b.Count = "", 0
				return a == b
			})
			if i < 0 {
				i = len(out)
				a.Context = text(probe)
				out = append(out, a)
			}
			out[i].Count++
		}
	}
	return out
}

// evaluate asks for one context with one code default.
func evaluate(ctx context.Context, c *openfeature.Client, q Question, probe Probe, fallback any) Answer {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	attributes := maps.Clone(map[string]any(probe))
	key, _ := attributes[targetingKey].(string)
	delete(attributes, targetingKey)
	where := openfeature.NewEvaluationContext(key, attributes)

	var d openfeature.InterfaceEvaluationDetails
	var err error
	switch fallback := fallback.(type) {
	case bool:
		var t openfeature.BooleanEvaluationDetails
		t, err = c.BooleanValueDetails(ctx, q.Key, fallback, where)
		d = openfeature.InterfaceEvaluationDetails{Value: t.Value, EvaluationDetails: t.EvaluationDetails}
	case string:
		var t openfeature.StringEvaluationDetails
		t, err = c.StringValueDetails(ctx, q.Key, fallback, where)
		d = openfeature.InterfaceEvaluationDetails{Value: t.Value, EvaluationDetails: t.EvaluationDetails}
	case float64:
		var t openfeature.FloatEvaluationDetails
		t, err = c.FloatValueDetails(ctx, q.Key, fallback, where)
		d = openfeature.InterfaceEvaluationDetails{Value: t.Value, EvaluationDetails: t.EvaluationDetails}
	default:
		d, err = c.ObjectValueDetails(ctx, q.Key, fallback, where)
	}
	a := Answer{Value: text(d.Value), Variant: d.Variant, Reason: string(d.Reason), Error: string(d.ErrorCode)}
	if a.Error == "" && err != nil {
		a.Error = err.Error()
	}
	wanted, value := told(a) && a.Variant == q.Want.Variant, q.Want.Value
	if q.Want.Variant == "" {
		wanted, value = openfeature.Reason(a.Reason) == openfeature.DisabledReason, fallback
	}
	a.Clean = err == nil && a.Error == "" && wanted && a.Value == text(value)
	return a
}

// told reports whether an answer came from the flag's definition rather than from the default
// in the code. Without a variant nobody can tell, so it did not.
func told(a Answer) bool {
	switch openfeature.Reason(a.Reason) {
	case openfeature.DisabledReason, openfeature.ErrorReason, "STALE":
		return false
	}
	return a.Error == "" && a.Variant != ""
}

// text is v as JSON with sorted keys, so that equal values are equal texts.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// otherValue is a value that is not the wanted one, of the same type: the code default that
// shows a fallback.
func otherValue(q Question) (any, error) {
	want := text(q.Want.Value)
	for _, v := range slices.Sorted(maps.Keys(q.Variants)) {
		if other := q.Variants[v]; text(other) != want && fmt.Sprintf("%T", other) == fmt.Sprintf("%T", q.Want.Value) {
			return other, nil
		}
	}
	switch v := q.Want.Value.(type) {
	case bool:
		return !v, nil
	case string:
		return v + " (not off)", nil
	case float64:
		return v + 1, nil
	case map[string]any:
		return map[string]any{"driftwatch": "not off"}, nil
	}
	return nil, fmt.Errorf("values of type %T cannot be evaluated", q.Want.Value)
}

// Served implements Prover. The default that is passed is the off value, so whatever differs
// comes from the flag. It fails if nothing could be evaluated.
func (p *OpenFeatureProver) Served(ctx context.Context, q Question) (Serving, error) {
	s := Serving{Viewpoint: p.viewpoint, Contexts: len(q.Probes)}
	client, session, closeAll, err := p.client(ctx)
	if err != nil {
		return s, fmt.Errorf("evaluate %s at %s: %w", q.Key, p.viewpoint.Address, err)
	}
	defer closeAll()
	session.refresh(ctx)
	s.Answers = p.round(ctx, client, q, map[string]any{"off": q.Want.Value})
	failed := 0
	for _, a := range s.Answers {
		switch {
		case a.Clean:
			s.Off += a.Count
		case told(a):
			s.Suspect += a.Count
		default:
			s.Unknown += a.Count
			if a.Error != "" && a.Error != string(openfeature.FlagNotFoundCode) {
				failed += a.Count
			}
		}
	}
	if s.Suspect == 0 && failed > 0 {
		return s, fmt.Errorf("evaluate %s at %s: %s", q.Key, p.viewpoint.Address, s.Answers[len(s.Answers)-1])
	}
	return s, nil
}
