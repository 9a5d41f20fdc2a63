package flags

import (
	"context"
	"errors"
	"time"

	"github.com/open-feature/flagd/core/pkg/model"
	"github.com/open-feature/go-sdk/openfeature"
)

// NewObjectProver looks at an object of a Kubernetes API as a flagd that follows it does: with
// flagd's evaluator, on what the API has at the moment. The clean rounds span a second, in which
// most controllers that put an object back have done so.
func NewObjectProver(k *Kubernetes) *OpenFeatureProver {
	return &OpenFeatureProver{
		Every: 250 * time.Millisecond, Settle: time.Second,
		viewpoint: Viewpoint{Object, k.Address()},
		open: func(context.Context) (session, error) {
			p := &objectProvider{source: k}
			return session{provider: p, notes: p.notes, close: k.api.client.CloseIdleConnections, refresh: p.refresh}, nil
		},
	}
}

// An objectProvider is an OpenFeature provider over flagd's evaluator and an object that is
// read by refresh, and by nothing else.
type objectProvider struct {
	source *Kubernetes

	set  flagdSet
	err  error // why there is no set
	last fieldManager
}

func (p *objectProvider) refresh(ctx context.Context) {
	o, err := p.source.get(ctx)
	if ctx.Err() != nil {
		return // the time for the proof is over; what was seen last stays to be told
	}
	if err == nil {
		p.last = o.lastWriter()
		var text []byte
		if text, err = p.source.form.text(o); err == nil {
			p.set, err = loadFlagd(p.source.form.dialect().name, text)
		}
	}
	if err != nil {
		err = p.source.fail(Ref{}, err)
	}
	p.err = err
}

func (p *objectProvider) notes() []string {
	if p.err != nil {
		return []string{p.err.Error()}
	}
	return []string{"the object was last written by " + p.last.String()}
}

// resolve evaluates a flag as flagd does. T is what the application asked for.
func resolve[T any](ctx context.Context, p *objectProvider, flag string, fallback T, c openfeature.FlattenedContext) (T, openfeature.ProviderResolutionDetail) {
	failed := func(e openfeature.ResolutionError) (T, openfeature.ProviderResolutionDetail) {
		return fallback, openfeature.ProviderResolutionDetail{ResolutionError: e, Reason: openfeature.ErrorReason}
	}
	if p.err != nil {
		return failed(openfeature.NewGeneralResolutionError(p.err.Error()))
	}
	v := p.set.ResolveAsAnyValue(ctx, "", flag, c)
	detail := openfeature.ProviderResolutionDetail{Variant: v.Variant, Reason: openfeature.Reason(v.Reason)}
	switch {
	case v.Error != nil && v.Error.Error() == model.FlagNotFoundErrorCode:
		return failed(openfeature.NewFlagNotFoundResolutionError("flag not found"))
	case v.Error != nil:
		return failed(openfeature.NewGeneralResolutionError(v.Error.Error()))
	case v.Reason == model.DisabledReason, v.Reason == model.FallbackReason:
		// flagd knows no value: the application runs its own default.
		detail.Variant = ""
		return fallback, detail
	}
	value, ok := v.Value.(T)
	if !ok {
		return failed(openfeature.NewTypeMismatchResolutionError(errOtherType.Error()))
	}
	return value, detail
}

var errOtherType = errors.New("the flag's value has another type")

// Metadata implements openfeature.FeatureProvider.
func (p *objectProvider) Metadata() openfeature.Metadata {
	return openfeature.Metadata{Name: "driftwatch-kubernetes"}
}

// Hooks implements openfeature.FeatureProvider.
func (p *objectProvider) Hooks() []openfeature.Hook { return nil }

// BooleanEvaluation implements openfeature.FeatureProvider.
func (p *objectProvider) BooleanEvaluation(ctx context.Context, flag string, fallback bool, c openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	v, d := resolve(ctx, p, flag, fallback, c)
	return openfeature.BoolResolutionDetail{Value: v, ProviderResolutionDetail: d}
}

// StringEvaluation implements openfeature.FeatureProvider.
func (p *objectProvider) StringEvaluation(ctx context.Context, flag, fallback string, c openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	v, d := resolve(ctx, p, flag, fallback, c)
	return openfeature.StringResolutionDetail{Value: v, ProviderResolutionDetail: d}
}

// FloatEvaluation implements openfeature.FeatureProvider.
func (p *objectProvider) FloatEvaluation(ctx context.Context, flag string, fallback float64, c openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	v, d := resolve(ctx, p, flag, fallback, c)
	return openfeature.FloatResolutionDetail{Value: v, ProviderResolutionDetail: d}
}

// IntEvaluation implements openfeature.FeatureProvider.
func (p *objectProvider) IntEvaluation(ctx context.Context, flag string, fallback int64, c openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	v, d := resolve(ctx, p, flag, float64(fallback), c)
	return openfeature.IntResolutionDetail{Value: int64(v), ProviderResolutionDetail: d}
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (p *objectProvider) ObjectEvaluation(ctx context.Context, flag string, fallback any, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	v, d := resolve(ctx, p, flag, fallback, c)
	return openfeature.InterfaceResolutionDetail{Value: v, ProviderResolutionDetail: d}
}
