package flags

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/model"
	"github.com/open-feature/flagd/core/pkg/store"
	flagdsync "github.com/open-feature/flagd/core/pkg/sync"
	"github.com/open-feature/flagd/core/pkg/sync/file"
	"github.com/open-feature/go-sdk/openfeature"
	"go.uber.org/zap"
)

// A flagdSource is a text of flag definitions in JSON, and what flagd knows it by.
type flagdSource struct{ name, json string }

// loadSources hands texts to flagd's own evaluator as sources, in order: where two define one
// flag, the later wins. A text that flagd would refuse is ErrInvalid with flagd's words.
func loadSources(sources ...flagdSource) (flagdSet, error) {
	quiet := logger.NewLogger(zap.NewNop(), false)
	var names []string
	for _, s := range sources {
		names = append(names, s.name)
	}
	flags, err := store.NewStore(quiet, names)
	if err != nil {
		return flagdSet{}, fmt.Errorf("open flagd's store: %w", err)
	}
	set := flagdSet{evaluator.NewJSON(quiet, flags)}
	for _, s := range sources {
		if err := set.SetState(flagdsync.DataSync{FlagData: s.json, Source: s.name}); err != nil {
			return flagdSet{}, refusal(s.name, err)
		}
	}
	return set, nil
}

// A mergedProvider is what flagd makes of several files that it watches: its watch of each, and
// its store and evaluator over all of them, the later file winning.
type mergedProvider struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	paths  []string

	mu     sync.Mutex
	texts  map[string]string // by path, in JSON: the last that flagd takes
	set    flagdSet
	errors []string
}

// openMerged starts watching files. It fails if flagd would refuse one as it is.
func openMerged(ctx context.Context, paths ...string) (*mergedProvider, error) {
	p := &mergedProvider{paths: paths, texts: map[string]string{}}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil {
			p.texts[path], err = toJSON(path, text)
		}
		if err != nil {
			return nil, err
		}
	}
	var err error
	if p.set, err = p.load(); err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	data := make(chan flagdsync.DataSync)
	for _, path := range paths {
		s := file.NewFileSync(path, file.FSNOTIFY, logger.NewLogger(zap.NewNop(), false))
		if err := s.Init(watching); err != nil {
			cancel()
			return nil, err
		}
		p.wg.Go(func() {
			if err := s.Sync(watching, data); err != nil {
				p.note(err)
			}
		})
	}
	// A watch that has something to send when it is to end is heard out.
	ended := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(ended)
	}()
	go func() {
		for {
			select {
			case d := <-data:
				p.take(d)
			case <-ended:
				return
			}
		}
	}()
	return p, nil
}

// load is all the files together as they were taken last.
func (p *mergedProvider) load() (flagdSet, error) {
	var sources []flagdSource
	for _, path := range p.paths {
		sources = append(sources, flagdSource{path, p.texts[path]})
	}
	return loadSources(sources...)
}

// take is what flagd does with a file that changed: one that it refuses leaves what was.
func (p *mergedProvider) take(d flagdsync.DataSync) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.texts[d.Source]
	p.texts[d.Source] = d.FlagData
	set, err := p.load()
	if err != nil {
		p.texts[d.Source] = old
		p.errors = append(p.errors, err.Error())
		return
	}
	p.set = set
}

func (p *mergedProvider) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors = append(p.errors, err.Error())
}

func (p *mergedProvider) notes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errors
}

func (p *mergedProvider) close() {
	p.cancel()
	p.wg.Wait()
}

func (p *mergedProvider) current() flagdSet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set
}

// Metadata implements openfeature.FeatureProvider.
func (p *mergedProvider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "flagd"} }

// Hooks implements openfeature.FeatureProvider.
func (p *mergedProvider) Hooks() []openfeature.Hook { return nil }

// resolved is an answer of flagd's evaluator, as an application gets it.
func resolved[T any](value T, variant, reason string, metadata model.Metadata, err error, fallback T) (T, openfeature.ProviderResolutionDetail) {
	d := openfeature.ProviderResolutionDetail{Reason: openfeature.Reason(reason), Variant: variant, FlagMetadata: metadata}
	switch {
	case err != nil:
		d.ResolutionError = resolutionError(err)
	case reason == model.DisabledReason, reason == model.DefaultReason && variant == "":
		d.Variant = ""
	default:
		return value, d
	}
	return fallback, d
}

func resolutionError(err error) openfeature.ResolutionError {
	switch err.Error() {
	case model.FlagNotFoundErrorCode:
		return openfeature.NewFlagNotFoundResolutionError("")
	case model.TypeMismatchErrorCode:
		return openfeature.NewTypeMismatchResolutionError("")
	case model.ParseErrorCode:
		return openfeature.NewParseErrorResolutionError("")
	}
	return openfeature.NewGeneralResolutionError(err.Error())
}

// BooleanEvaluation implements openfeature.FeatureProvider.
func (p *mergedProvider) BooleanEvaluation(ctx context.Context, flag string, fallback bool, c openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	v, variant, reason, metadata, err := p.current().ResolveBooleanValue(ctx, "", flag, c)
	v, d := resolved(v, variant, reason, metadata, err, fallback)
	return openfeature.BoolResolutionDetail{Value: v, ProviderResolutionDetail: d}
}

// StringEvaluation implements openfeature.FeatureProvider.
func (p *mergedProvider) StringEvaluation(ctx context.Context, flag, fallback string, c openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	v, variant, reason, metadata, err := p.current().ResolveStringValue(ctx, "", flag, c)
	v, d := resolved(v, variant, reason, metadata, err, fallback)
	return openfeature.StringResolutionDetail{Value: v, ProviderResolutionDetail: d}
}

// FloatEvaluation implements openfeature.FeatureProvider.
func (p *mergedProvider) FloatEvaluation(ctx context.Context, flag string, fallback float64, c openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	v, variant, reason, metadata, err := p.current().ResolveFloatValue(ctx, "", flag, c)
	v, d := resolved(v, variant, reason, metadata, err, fallback)
	return openfeature.FloatResolutionDetail{Value: v, ProviderResolutionDetail: d}
}

// IntEvaluation implements openfeature.FeatureProvider.
func (p *mergedProvider) IntEvaluation(ctx context.Context, flag string, fallback int64, c openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	v, variant, reason, metadata, err := p.current().ResolveIntValue(ctx, "", flag, c)
	v, d := resolved(v, variant, reason, metadata, err, fallback)
	return openfeature.IntResolutionDetail{Value: v, ProviderResolutionDetail: d}
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (p *mergedProvider) ObjectEvaluation(ctx context.Context, flag string, fallback any, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	v, variant, reason, metadata, err := p.current().ResolveObjectValue(ctx, "", flag, c)
	r, d := resolved[any](v, variant, reason, metadata, err, fallback)
	return openfeature.InterfaceResolutionDetail{Value: r, ProviderResolutionDetail: d}
}
