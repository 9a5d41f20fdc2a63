package flagsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/grpc/go/flagd/sync/v1/syncv1grpc"
	v1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/store"
	flagdsync "github.com/open-feature/flagd/core/pkg/sync"
	flagdgrpc "github.com/open-feature/flagd/core/pkg/sync/grpc"
	flagdcredentials "github.com/open-feature/flagd/core/pkg/sync/grpc/credentials"
	flagd "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/driftwatch/driftwatch/internal/flags"
)

const (
	emptyFile = `{"flags":{}}`
	baseText  = `{"flags": {"x": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}}}`
	offText   = `{"flags": {"x": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}}}`
)

// wait looks until found, for a minute: on a machine out of breath what takes milliseconds may
// take seconds.
func wait(t *testing.T, what string, found func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if found() {
			return
		}
	}
	t.Fatalf("within a minute: not %s", what)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace is how driftwatch writes.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// overlay makes a base file and an overlay that says nothing.
func overlay(t *testing.T) (o *flags.FlagdOverlay, base string, options Options) {
	t.Helper()
	dir := t.TempDir()
	base, path := filepath.Join(dir, "base.json"), filepath.Join(dir, "overlay.json")
	write(t, base, baseText)
	write(t, path, emptyFile)
	o = flags.NewFlagdOverlay("production", base, path)
	return o, base, Options{Paths: []string{base, path}, Merge: func(texts [][]byte) (string, error) { return o.Served(texts[0], texts[1]) }}
}

func turnOff(t *testing.T, o *flags.FlagdOverlay) flags.Receipt {
	t.Helper()
	s, err := o.Read(t.Context(), flags.Ref{Source: "production", Key: "x"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := o.Plan(s, flags.OffVariant, flags.Want{Variant: "off"})
	if err != nil {
		t.Fatal(err)
	}
	c.Case = "upgrade/x"
	rc, err := o.TurnOff(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

func restore(t *testing.T, o *flags.FlagdOverlay, rc flags.Receipt) {
	t.Helper()
	if _, err := o.Restore(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
}

// A log is what the server said, for tests that look while it goes on.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A running is a server that serves.
type running struct {
	port int
	log  *log
	stop func() // ends it and waits
}

func (r running) address() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

// start serves a file until the test ends. Port 0 takes a free one.
func start(t *testing.T, port int, o Options) running {
	t.Helper()
	said := &log{}
	o.Log = slog.New(slog.NewTextHandler(said, nil))
	if o.Streams == 0 {
		o.Streams = 10
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(fmt.Sprintf("127.0.0.1:%d", port), o.TLS != nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("Serve did not end within a minute of its context")
		}
	})
	t.Cleanup(stop)
	return running{l.Addr().(*net.TCPAddr).Port, said, stop}
}

// An application has flagd's provider in process, fed by the server alone.
type application struct {
	client *openfeature.Client
	stale  chan struct{} // closed when the provider says that it is
}

func newApplication(t *testing.T, r running, options ...flagd.ProviderOption) application {
	t.Helper()
	options = append([]flagd.ProviderOption{
		flagd.WithInProcessResolver(), flagd.WithHost("127.0.0.1"), flagd.WithPort(uint16(r.port)), flagd.WithDeadline(60_000),
		flagd.WithRetryBackoffMs(20), flagd.WithRetryBackoffMaxMs(50), flagd.WithRetryGracePeriod(600),
	}, options...)
	provider, err := flagd.NewProvider(options...)
	if err != nil {
		t.Fatal(err)
	}
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.Background()) })
	a := application{stale: make(chan struct{})}
	once := sync.OnceFunc(func() { close(a.stale) })
	seen := func(openfeature.EventDetails) { once() }
	api.AddHandler(openfeature.ProviderStale, &seen)
	if err := api.SetProviderAndWait(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	a.client = api.NewClient()
	return a
}

// gets is the variant of the flag x, or the error's code.
func (a application) gets(t *testing.T) string {
	d, err := a.client.BooleanValueDetails(t.Context(), "x", true, openfeature.NewEvaluationContext("u1", nil))
	if err != nil {
		return string(d.ErrorCode)
	}
	return d.Variant
}

func (a application) sees(t *testing.T, want string) {
	t.Helper()
	wait(t, fmt.Sprintf("x is %q to the application", want), func() bool { return a.gets(t) == want })
}

// dial connects without the provider.
func dial(t *testing.T, r running, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(r.address(), grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// fetch is what the server serves now.
func fetch(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	all, err := syncv1grpc.NewFlagSyncServiceClient(conn).FetchAllFlags(t.Context(), &v1.FetchAllFlagsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return all.GetFlagConfiguration()
}

func healthOf(t *testing.T, conn *grpc.ClientConn, name string) grpc_health_v1.HealthCheckResponse_ServingStatus {
	t.Helper()
	r, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return r.GetStatus()
}

func TestTurnOffReachesProvidersAndRestoreTakesItBack(t *testing.T) {
	t.Parallel()
	o, _, options := overlay(t)
	r := start(t, 0, options)
	one, two := newApplication(t, r), newApplication(t, r)
	for _, a := range []application{one, two} {
		if got := a.gets(t); got != "on" {
			t.Errorf("nothing is off: %s, want on as below", got)
		}
	}
	rc := turnOff(t, o)
	one.sees(t, "off")
	two.sees(t, "off")
	three := newApplication(t, r)
	if got := three.gets(t); got != "off" {
		t.Errorf("an application that starts now: %s, want off", got)
	}
	restore(t, o, rc)
	for _, a := range []application{one, two, three} {
		a.sees(t, "on")
	}
}

// A reader is a flagd that has a file and us behind it for its sources: its own client of gRPC
// sources, its store and its evaluator.
type reader struct {
	mu sync.Mutex
	*evaluator.JSON
}

func newReader(t *testing.T, base string, r running) *reader {
	t.Helper()
	quiet := logger.NewLogger(zap.NewNop(), false)
	flagStore, err := store.NewStore(quiet, []string{base, r.address()})
	if err != nil {
		t.Fatal(err)
	}
	m := &reader{JSON: evaluator.NewJSON(quiet, flagStore)}
	if err := m.SetState(flagdsync.DataSync{FlagData: baseText, Source: base}); err != nil {
		t.Fatal(err)
	}
	source := &flagdgrpc.Sync{URI: r.address(), Logger: quiet, CredentialBuilder: &flagdcredentials.CredentialBuilder{}}
	if err := source.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	data := make(chan flagdsync.DataSync)
	var wg sync.WaitGroup
	wg.Go(func() { _ = source.Sync(ctx, data) })
	wg.Go(func() {
		for {
			select {
			case d := <-data:
				m.mu.Lock()
				if err := m.SetState(d); err != nil {
					t.Errorf("flagd refuses what was pushed: %v", err)
				}
				m.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		r.stop() // its stream does not hear of the end of ctx otherwise
		wg.Wait()
	})
	return m
}

func (m *reader) gets(t *testing.T) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.ResolveAsAnyValue(t.Context(), "", "x", map[string]any{})
	if v.Error != nil {
		t.Fatal(v.Error)
	}
	return v.Variant
}

func TestFlagdWithTheFileBelowAndUsBehindIt(t *testing.T) {
	t.Parallel()
	o, base, options := overlay(t)
	r := start(t, 0, options)
	m := newReader(t, base, r)
	if got := m.gets(t); got != "on" {
		t.Fatalf("by the base alone: %s", got)
	}
	rc := turnOff(t, o)
	wait(t, "off to flagd", func() bool { return m.gets(t) == "off" })
	restore(t, o, rc)
	wait(t, "on again to flagd", func() bool { return m.gets(t) == "on" })
	turnOff(t, o)
	wait(t, "off again to flagd", func() bool { return m.gets(t) == "off" })
	r.stop()
	if got := m.gets(t); got != "off" {
		t.Errorf("the server is gone: %s, want off", got)
	}
}

// Why the overlay is not served alone. A store of flagd (core v0.16.0) keeps one definition per
// flag set and key, so a source that drops a flag leaves nobody with it. If this test fails,
// flagd has learnt to fall back, and docs/flags.md says too much.
func TestFlagdDoesNotFallBackToAnEarlierSource(t *testing.T) {
	t.Parallel()
	quiet := logger.NewLogger(zap.NewNop(), false)
	flagStore, err := store.NewStore(quiet, []string{"base", "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	e := evaluator.NewJSON(quiet, flagStore)
	step := func(source, text, want string) {
		t.Helper()
		if err := e.SetState(flagdsync.DataSync{FlagData: text, Source: source}); err != nil {
			t.Fatal(err)
		}
		v := e.ResolveAsAnyValue(t.Context(), "", "x", map[string]any{})
		got := v.Variant
		if v.Error != nil {
			got = v.Error.Error()
		}
		if got != want {
			t.Errorf("%s is %s: %s, want %s", source, text, got, want)
		}
	}
	step("overlay", emptyFile, "FLAG_NOT_FOUND")
	step("base", baseText, "on")
	step("overlay", offText, "off")
	step("base", baseText, "off") // the later one wins
	step("overlay", emptyFile, "FLAG_NOT_FOUND")
	step("base", baseText, "on") // only a change of the earlier one brings it back
}

func TestBrokenFileIsNotPushed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(t *testing.T, base, over string)
		words string // in the log
	}{
		{"cut off", func(t *testing.T, path, _ string) { replace(t, path, offText[:60]) }, "flagd refuses the file"},
		{"empty", func(t *testing.T, path, _ string) { replace(t, path, "") }, "flagd refuses the file"},
		{"no flags", func(t *testing.T, path, _ string) { replace(t, path, "{}") }, "flagd refuses the file"},
		{"a default that is no variant", func(t *testing.T, path, _ string) {
			replace(t, path, strings.Replace(offText, `Variant": "off"`, `Variant": "nope"`, 1))
		}, "nope"},
		{"gone", func(t *testing.T, path, _ string) { _ = os.Remove(path) }, "no such file"},
		{"a folder", func(t *testing.T, path, _ string) { _ = os.Remove(path); _ = os.Mkdir(path, 0o755) }, "is no regular file"},
		{"too long for a message", func(t *testing.T, path, _ string) { replace(t, path, offText+strings.Repeat(" ", maxText)) }, "is longer than"},
		{"an overlay that is cut off", func(t *testing.T, _, over string) { replace(t, over, `{"flags": {"x": `) }, "overlay.json"},
		{"an overlay with a flag of somebody else", func(t *testing.T, _, over string) { replace(t, over, offText) }, "which driftwatch did not write"},
		{"no overlay", func(t *testing.T, _, over string) { _ = os.Remove(over) }, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, base, options := overlay(t)
			over := options.Paths[1]
			r := start(t, 0, options)
			conn := dial(t, r, insecure.NewCredentials())
			stream, err := syncv1grpc.NewFlagSyncServiceClient(conn).SyncFlags(t.Context(), &v1.SyncFlagsRequest{}, grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			if m, err := stream.Recv(); err != nil || m.GetFlagConfiguration() != baseText {
				t.Fatalf("at first: %q, %v", m.GetFlagConfiguration(), err)
			}
			tt.spoil(t, base, over)
			wait(t, "seen by the health of the files", func() bool {
				return healthOf(t, conn, HealthFiles) == grpc_health_v1.HealthCheckResponse_NOT_SERVING
			})
			if got := healthOf(t, conn, ""); got != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("health of the server: %s; a flagd that starts needs it", got)
			}
			if got := fetch(t, conn); got != baseText {
				t.Errorf("served: %q, want what it was", got)
			}
			if !strings.Contains(r.log.String(), tt.words) {
				t.Errorf("log without %q:\n%s", tt.words, r.log)
			}
			_ = os.Remove(base) // a folder
			replace(t, base, offText)
			replace(t, over, emptyFile)
			// The next message is the good text: nothing was sent in between.
			if m, err := stream.Recv(); err != nil || m.GetFlagConfiguration() != offText {
				t.Errorf("mended: %q, %v", m.GetFlagConfiguration(), err)
			}
			wait(t, "seen to be well again", func() bool {
				return healthOf(t, conn, HealthFiles) == grpc_health_v1.HealthCheckResponse_SERVING
			})
			if n := strings.Count(r.log.String(), "level=ERROR"); n > 3 { // the file, its absence before it was mended, and the overlay for longer
				t.Errorf("the same trouble is logged again and again:\n%s", r.log)
			}
		})
	}
}

func TestServerDoesNotStartWithoutAFileToServe(t *testing.T) {
	t.Parallel()
	_, base, options := overlay(t)
	if err := os.Remove(base); err != nil {
		t.Fatal(err)
	}
	if _, err := New(options); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write(t, base, "{")
	if _, err := New(options); !errors.Is(err, flags.ErrInvalid) {
		t.Errorf("half a file: %v", err)
	}
}

// Whatever happens to the file is seen, as folders are watched and not the file.
func TestEveryWayToWriteIsSeen(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		write func(t *testing.T, path, text string)
	}{
		{"renamed over", replace},
		{"in place", write},
		{"old one renamed away", func(t *testing.T, path, text string) {
			if err := os.Rename(path, path+"~"); err != nil {
				t.Fatal(err)
			}
			write(t, path, text)
		}},
		{"deleted and created", func(t *testing.T, path, text string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, text)
		}},
		{"the link beside it set anew, as in a ConfigMap", func(t *testing.T, path, text string) {
			dir := filepath.Join(filepath.Dir(path), fmt.Sprintf("..data_%d", time.Now().UnixNano()))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "base.json"), text)
			link := filepath.Join(filepath.Dir(path), "..data")
			if err := errors.Join(os.Symlink(filepath.Base(dir), link+"_tmp"), os.Rename(link+"_tmp", link)); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Readlink(path); err != nil { // only the first time
				if err := errors.Join(os.Remove(path), os.Symlink("..data/base.json", path)); err != nil {
					t.Fatal(err)
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, path, options := overlay(t)
			r := start(t, 0, options)
			conn := dial(t, r, insecure.NewCredentials())
			for _, text := range []string{offText, baseText, emptyFile} {
				tt.write(t, path, text)
				wait(t, "served: "+text, func() bool { return fetch(t, conn) == text })
			}
		})
	}
}

// Where nothing tells of changes they are seen all the same.
func TestChangesAreSeenWithoutAWatch(t *testing.T) {
	t.Parallel()
	_, path, options := overlay(t)
	f, err := openFiles(options.Paths, options.Merge)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.watch(ctx, nil, func(bool, error) {}) })
	replace(t, path, offText)
	wait(t, "seen", func() bool { text, _ := f.current(); return text == offText })
	cancel()
	wg.Wait()
}

func TestTheSameBytesAreMergedOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "overlay.json")
	write(t, path, "one")
	checks := 0
	f, err := openFiles([]string{path}, func(texts [][]byte) (string, error) {
		checks++
		if string(texts[0]) == "bad" {
			return "", errors.New("bad")
		}
		return string(texts[0]), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	look := func(want string, checked int, wrong bool) {
		t.Helper()
		_, err := f.look()
		if text, _ := f.current(); text != want || checks != checked || (err != nil) != wrong {
			t.Errorf("text %q after %d checks, error %v; want %q after %d", text, checks, err, want, checked)
		}
	}
	look("one", 1, false)
	write(t, path, "bad")
	look("one", 2, true)
	look("one", 2, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look("one", 2, true)
	write(t, path, "bad")
	look("one", 2, true)
	write(t, path, "one")
	look("one", 3, false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look("one", 3, true)
	write(t, path, "one")
	look("one", 3, false)
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	_, _, one := overlay(t)
	one.Streams = 1
	r := start(t, 0, one)
	client := syncv1grpc.NewFlagSyncServiceClient(dial(t, r, insecure.NewCredentials()))
	ctx, leave := context.WithCancel(t.Context())
	open := func(ctx context.Context) error {
		stream, err := client.SyncFlags(ctx, &v1.SyncFlagsRequest{}, grpc.WaitForReady(true))
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := open(t.Context()); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v, want ResourceExhausted", err)
	}
	watching, err := grpc_health_v1.NewHealthClient(dial(t, r, insecure.NewCredentials())).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = watching.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a stream of health: %v, want ResourceExhausted", err)
	}
	leave()
	wait(t, "room when the first has left", func() bool { return open(t.Context()) == nil })
}

// A stream of health does not end by itself.
func TestServerStopsWithStreamsOpen(t *testing.T) {
	t.Parallel()
	_, _, options := overlay(t)
	r := start(t, 0, options)
	conn := dial(t, r, insecure.NewCredentials())
	stream, err := syncv1grpc.NewFlagSyncServiceClient(conn).SyncFlags(t.Context(), &v1.SyncFlagsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	watching, err := grpc_health_v1.NewHealthClient(conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = watching.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want Unavailable, upon which flagd comes again", err)
	}
}

// Providers from before the call was given up ask for it before anything else.
func TestMetadataIsEmpty(t *testing.T) {
	t.Parallel()
	_, _, options := overlay(t)
	r := start(t, 0, options)
	client := syncv1grpc.NewFlagSyncServiceClient(dial(t, r, insecure.NewCredentials()))
	m, err := client.GetMetadata(t.Context(), &v1.GetMetadataRequest{}, grpc.WaitForReady(true)) //nolint:staticcheck // deprecated, and asked for all the same
	if err != nil || m.GetMetadata() == nil || len(m.GetMetadata().GetFields()) != 0 {
		t.Errorf("%v, %v", m, err)
	}
}
