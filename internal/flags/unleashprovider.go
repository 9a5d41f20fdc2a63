package flags

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// unleashLag is how long Unleash's frontend API may go on answering what was true before a write:
// the server looks for a new revision every second.
const unleashLag = time.Second

// NewUnleashProver asks the frontend API at base, which evaluates for one context at a time, as an
// application in a browser does. token is a frontend token of the source's environment. The
// clean rounds span twice the lag of that API.
func NewUnleashProver(source *Unleash, base string, token Secret, client *http.Client) *OpenFeatureProver {
	frontend := newAPI(base, token, client, plainToken)
	return &OpenFeatureProver{
		Every: 250 * time.Millisecond, Settle: 2 * unleashLag,
		viewpoint: Viewpoint{UnleashFrontend, frontend.base},
		open: func(context.Context) (session, error) {
			secret, err := token.read()
			if err != nil {
				return session{}, err
			}
			if err := source.sees(secret); err != nil {
				return session{}, err
			}
			p := &unleashProvider{frontend: frontend, source: source}
			return session{provider: p, notes: p.notes, close: frontend.client.CloseIdleConnections}, nil
		},
	}
}

// sees says what keeps a frontend token from seeing the flags of the source. Unleash makes
// tokens as projects:environment.secret and holds to what is written there, and the frontend
// API answers a token of another environment with 200 and a list without the flag.
func (u *Unleash) sees(token string) error {
	scope, _, ok := strings.Cut(token, ".")
	projects, environment, ok2 := strings.Cut(scope, ":")
	switch {
	case !ok || !ok2:
		return fmt.Errorf("%w: the frontend token does not say which environment it is for, so that a flag missing from its list proves nothing; make one in Unleash", ErrForbidden)
	case environment != u.environment:
		return fmt.Errorf("%w: the frontend token is for the environment %q, the source for %q", ErrForbidden, environment, u.environment)
	case projects != "*" && projects != "[]" && projects != u.project: // [] stands for several
		return fmt.Errorf("%w: the frontend token is for the project %q, the source for %q", ErrForbidden, projects, u.project)
	}
	return nil
}

// An unleashProvider evaluates boolean flags on Unleash's frontend API, uncached. The API lists
// the flags that are on for a context; one that is not listed may be off, missing, or out of
// the token's sight. So absent is "off" only while the admin API says that this flag exists and
// that its environment is disabled; absent while the environment is enabled is false without a
// variant, which proves nothing.
type unleashProvider struct {
	frontend api
	source   *Unleash

	mu    sync.Mutex
	key   string
	fact  unleashFact
	asked time.Time
	told  []string
}

// An unleashFact is what the admin API said about a flag.
type unleashFact struct {
	enabled bool
	err     error
}

// factAge is how long what the admin API said is taken for the present. The frontend API lags by
// as much, and a round asks for it twice per context.
const factAge = unleashLag / 2

// flag is whether the environment of a flag is enabled.
func (p *unleashProvider) flag(ctx context.Context, key string) unleashFact {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key != key || time.Since(p.asked) > factAge {
		_, e, err := p.source.feature(ctx, key)
		p.key, p.fact, p.asked = key, unleashFact{e.Enabled, err}, time.Now()
	}
	return p.fact
}

// note keeps what went wrong, once.
func (p *unleashProvider) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := err.Error(); !slices.Contains(p.told, s) && len(p.told) < 10 {
		p.told = append(p.told, s)
	}
}

func (p *unleashProvider) notes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

// unleashContext is an evaluation context as a query: the targeting key is the user, what Unleash
// knows by name keeps its name, the rest are properties.
func unleashContext(c openfeature.FlattenedContext) url.Values {
	q := url.Values{}
	for name, v := range c {
		s, ok := v.(string)
		if !ok {
			s = text(v)
		}
		switch name {
		case targetingKey:
			if _, given := c["userId"]; !given {
				q.Set("userId", s)
			}
		case "userId", "sessionId", "remoteAddress", "appName":
			q.Set(name, s)
		default:
			q.Set("properties["+name+"]", s)
		}
	}
	return q
}

// BooleanEvaluation implements openfeature.FeatureProvider.
func (p *unleashProvider) BooleanEvaluation(ctx context.Context, flag string, fallback bool, c openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	value, detail, err := p.evaluate(ctx, flag, c)
	if err == nil {
		return openfeature.BoolResolutionDetail{Value: value, ProviderResolutionDetail: detail}
	}
	p.note(err)
	detail = openfeature.ProviderResolutionDetail{Reason: openfeature.ErrorReason, ResolutionError: openfeature.NewGeneralResolutionError(err.Error())}
	if errors.Is(err, ErrNotFound) {
		detail.ResolutionError = openfeature.NewFlagNotFoundResolutionError(err.Error())
	}
	return openfeature.BoolResolutionDetail{Value: fallback, ProviderResolutionDetail: detail}
}

func (p *unleashProvider) evaluate(ctx context.Context, flag string, c openfeature.FlattenedContext) (value bool, d openfeature.ProviderResolutionDetail, err error) {
	var answer struct {
		Toggles *[]struct {
			Name    string `json:"name"`
			Enabled bool   `json:"enabled"`
			Variant struct {
				Name    string `json:"name"`
				Enabled bool   `json:"enabled"`
			} `json:"variant"`
		} `json:"toggles"`
	}
	if err := p.frontend.get(ctx, "/api/frontend?"+unleashContext(c).Encode(), http.Header{"Cache-Control": {"no-cache"}}, &answer); err != nil {
		return false, d, err
	}
	if answer.Toggles == nil {
		return false, d, fmt.Errorf("%w: the answer lists no toggles; is %s a frontend API?", ErrInvalid, p.frontend.base)
	}
	for _, t := range *answer.Toggles {
		if t.Name == flag && t.Enabled {
			d.Variant, d.Reason = unleashOn, openfeature.TargetingMatchReason
			if t.Variant.Enabled {
				d.Variant = t.Variant.Name
			}
			return true, d, nil
		}
	}
	switch f := p.flag(ctx, flag); {
	case f.err != nil:
		return false, d, f.err
	case f.enabled: // nobody can tell from a rollout that passes this context by
		return false, openfeature.ProviderResolutionDetail{Reason: openfeature.SplitReason}, nil
	}
	return false, openfeature.ProviderResolutionDetail{Variant: unleashOff, Reason: openfeature.StaticReason}, nil
}

// Metadata implements openfeature.FeatureProvider.
func (p *unleashProvider) Metadata() openfeature.Metadata {
	return openfeature.Metadata{Name: "Unleash frontend API"}
}

// Hooks implements openfeature.FeatureProvider.
func (p *unleashProvider) Hooks() []openfeature.Hook { return nil }

// onlyBoolean is the answer to every other type.
var onlyBoolean = openfeature.ProviderResolutionDetail{
	Reason:          openfeature.ErrorReason,
	ResolutionError: openfeature.NewTypeMismatchResolutionError("an Unleash flag is on or off; the payload of a variant is not looked at"),
}

// StringEvaluation implements openfeature.FeatureProvider.
func (p *unleashProvider) StringEvaluation(_ context.Context, _, fallback string, _ openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return openfeature.StringResolutionDetail{Value: fallback, ProviderResolutionDetail: onlyBoolean}
}

// FloatEvaluation implements openfeature.FeatureProvider.
func (p *unleashProvider) FloatEvaluation(_ context.Context, _ string, fallback float64, _ openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return openfeature.FloatResolutionDetail{Value: fallback, ProviderResolutionDetail: onlyBoolean}
}

// IntEvaluation implements openfeature.FeatureProvider.
func (p *unleashProvider) IntEvaluation(_ context.Context, _ string, fallback int64, _ openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return openfeature.IntResolutionDetail{Value: fallback, ProviderResolutionDetail: onlyBoolean}
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (p *unleashProvider) ObjectEvaluation(_ context.Context, _ string, fallback any, _ openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return openfeature.InterfaceResolutionDetail{Value: fallback, ProviderResolutionDetail: onlyBoolean}
}
