package flags

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	process "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg/service/in_process"
	"github.com/open-feature/go-sdk/openfeature"
)

// A fileProvider is flagd's OpenFeature provider in file mode: its evaluator, its watch of the
// file, its resolver. The service of the provider module is used directly, because its outer
// type keeps a goroutine for ever (it ranges over a channel that nobody closes) and can hang on
// shutdown when events are not read.
type fileProvider struct {
	*process.InProcess
	logs *os.File
	done chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	errors []string // that the provider told by events
}

// openDeadline bounds the first read of the file; it takes milliseconds unless the machine is
// out of breath.
const openDeadline = 10 * time.Second

// stderrSwap guards the exchange of os.Stderr in newService, which is the process's.
var stderrSwap sync.Mutex

// newService makes the provider's service with its log going to the file logs. The module
// builds its logger on os.Stderr, at level info and without a choice (v0.6.0), and keeps what
// os.Stderr was then; stderr belongs to progress.
func newService(path string, logs *os.File) *process.InProcess {
	stderrSwap.Lock()
	defer stderrSwap.Unlock()
	stderr := os.Stderr
	os.Stderr = logs
	defer func() { os.Stderr = stderr }()
	return process.NewInProcessService(process.Configuration{
		OfflineFlagSource: path,
		DeadlineMs:        int(openDeadline / time.Millisecond),
	})
}

// openFile starts watching the file. It fails if flagd would refuse the file as it is.
func openFile(ctx context.Context, path string) (*fileProvider, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// The provider waits for ever for a file that it can use.
	if _, err := loadFlagd(path, text); err != nil {
		return nil, err
	}
	logs, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	p := &fileProvider{InProcess: newService(path, logs), logs: logs, done: make(chan struct{})}
	ready := make(chan error, 1)
	p.wg.Go(func() { ready <- p.Init() })
	p.wg.Go(p.drain)

	deadline := time.NewTimer(openDeadline)
	defer deadline.Stop()
	select {
	case err = <-ready:
	case <-deadline.C:
		err = fmt.Errorf("the provider did not become ready within %s", openDeadline)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		// Init may still be waiting for the file; it is not waited for.
		go p.close()
		return nil, err
	}
	return p, nil
}

// drain reads the provider's events, which block it otherwise.
func (p *fileProvider) drain() {
	for {
		select {
		case e := <-p.EventChannel():
			if e.EventType == openfeature.ProviderError {
				p.mu.Lock()
				p.errors = append(p.errors, e.Message)
				p.mu.Unlock()
			}
		case <-p.done:
			return
		}
	}
}

func (p *fileProvider) notes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errors
}

func (p *fileProvider) close() {
	p.Shutdown()
	close(p.done)
	p.wg.Wait()
	_ = p.logs.Close() // the null device
}

// Metadata implements openfeature.FeatureProvider.
func (p *fileProvider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "flagd"} }

// Hooks implements openfeature.FeatureProvider.
func (p *fileProvider) Hooks() []openfeature.Hook { return nil }

// BooleanEvaluation implements openfeature.FeatureProvider.
func (p *fileProvider) BooleanEvaluation(ctx context.Context, flag string, fallback bool, c openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return p.ResolveBoolean(ctx, flag, fallback, c)
}

// StringEvaluation implements openfeature.FeatureProvider.
func (p *fileProvider) StringEvaluation(ctx context.Context, flag, fallback string, c openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return p.ResolveString(ctx, flag, fallback, c)
}

// FloatEvaluation implements openfeature.FeatureProvider.
func (p *fileProvider) FloatEvaluation(ctx context.Context, flag string, fallback float64, c openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return p.ResolveFloat(ctx, flag, fallback, c)
}

// IntEvaluation implements openfeature.FeatureProvider.
func (p *fileProvider) IntEvaluation(ctx context.Context, flag string, fallback int64, c openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return p.ResolveInt(ctx, flag, fallback, c)
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (p *fileProvider) ObjectEvaluation(ctx context.Context, flag string, fallback any, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return p.ResolveObject(ctx, flag, fallback, c)
}
