// Package flagsync serves what files hold to flagd, over the protocol by which flagd takes flags
// from others (flagd.sync.v1). It knows neither what a flag means nor who writes the files; what
// they make together, and whether flagd would take it, it is told.
package flagsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"buf.build/gen/go/open-feature/flagd/grpc/go/flagd/sync/v1/syncv1grpc"
	v1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// Options are what a Server needs to know.
type Options struct {
	Paths   []string // of the files
	Merge   Merge
	Streams int  // the most that are open at once; flagd holds one
	TLS     *TLS // nil for none, which only a loopback address is given
	Log     *slog.Logger
}

// HealthFiles is the name by which grpc.health.v1 tells whether the files are what is served: it
// is NOT_SERVING while one is refused or cannot be read and the last good text stays. The server
// as a whole, "", is healthy all the same, because a flagd that starts needs it.
const HealthFiles = "files"

// A Server serves what its files make together.
type Server struct {
	syncv1grpc.UnimplementedFlagSyncServiceServer

	files    *merged
	tls      *TLS
	log      *slog.Logger
	streams  chan struct{} // holds one for each that is open
	stopping chan struct{} // closed when streams are to end
}

// New reads the files, and fails if they are none that flagd would take: there is nothing yet
// that could be served in their place.
func New(o Options) (*Server, error) {
	f, err := openFiles(o.Paths, o.Merge)
	if err != nil {
		return nil, err
	}
	return &Server{files: f, tls: o.TLS, log: o.Log, streams: make(chan struct{}, o.Streams), stopping: make(chan struct{})}, nil
}

// How connections are kept. The provider of flagd asks every 30 s whether the server is alive,
// without a stream, too; by its default a server of gRPC takes that for an attack and hangs up.
// A flagd that is gone without a word is noticed within 40 s, so that its stream is free again.
var (
	aliveParameters = keepalive.ServerParameters{MaxConnectionIdle: 5 * time.Minute, Time: 30 * time.Second, Timeout: 10 * time.Second}
	alivePolicy     = keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}
)

const (
	streamsPerConnection = 16       // flagd needs one, and one of health
	longestRequest       = 64 << 10 // bytes; a request holds a name and a selector
	handshake            = 10 * time.Second
	goodbye              = 3 * time.Second // for calls that are being answered when the server stops
)

// Serve answers on l until ctx ends, then ends every stream, waits for it and closes l. It is
// called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	options := []grpc.ServerOption{
		grpc.KeepaliveParams(aliveParameters), grpc.KeepaliveEnforcementPolicy(alivePolicy),
		grpc.MaxConcurrentStreams(streamsPerConnection), grpc.MaxRecvMsgSize(longestRequest), grpc.ConnectionTimeout(handshake),
		grpc.StreamInterceptor(s.bound),
	}
	if s.tls != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.tls.config(s.log))))
	}
	server, healthy := grpc.NewServer(options...), health.NewServer()
	syncv1grpc.RegisterFlagSyncServiceServer(server, s)
	grpc_health_v1.RegisterHealthServer(server, healthy)

	w, err := watcher(s.files.paths)
	if err != nil {
		s.log.Warn("the files cannot be watched; their changes are seen once a second", "error", err)
	} else {
		defer w.Close()
	}
	serving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { s.files.watch(serving, w, s.tell(healthy)) })
	wg.Go(func() {
		<-serving.Done()
		close(s.stopping)
		healthy.Shutdown()
		hard := time.AfterFunc(goodbye, server.Stop)
		defer hard.Stop()
		server.GracefulStop()
	})
	if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// tell returns what logs each look that differs from the one before, and sets the health.
func (s *Server) tell(healthy *health.Server) func(changed bool, err error) {
	trouble := ""
	healthy.SetServingStatus(HealthFiles, grpc_health_v1.HealthCheckResponse_SERVING)
	return func(changed bool, err error) {
		switch {
		case err != nil && err.Error() != trouble:
			trouble = err.Error()
			s.log.Error("the files cannot be served; what they held before still is", "error", err)
			healthy.SetServingStatus(HealthFiles, grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		case err == nil && trouble != "":
			trouble = ""
			s.log.Info("the files are served again", "changed", changed, "streams", len(s.streams))
			healthy.SetServingStatus(HealthFiles, grpc_health_v1.HealthCheckResponse_SERVING)
		case changed:
			s.log.Info("a file changed and is pushed", "streams", len(s.streams))
		}
	}
}

// bound ends streams beyond the most that are allowed, those of health among them.
func (s *Server) bound(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	select {
	case s.streams <- struct{}{}:
	default:
		s.log.Warn("a stream was refused", "streams", len(s.streams))
		return status.Errorf(codes.ResourceExhausted, "%d streams are open, the most that are allowed", cap(s.streams))
	}
	defer func() { <-s.streams }()
	return handle(service, stream)
}

// SyncFlags implements flagd.sync.v1: the text, and again whenever it changes. A client that is
// slow gets the newest and none of those between.
func (s *Server) SyncFlags(_ *v1.SyncFlagsRequest, stream grpc.ServerStreamingServer[v1.SyncFlagsResponse]) error {
	for {
		text, changed := s.files.current()
		if err := stream.Send(&v1.SyncFlagsResponse{FlagConfiguration: text}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-s.stopping:
			return status.Error(codes.Unavailable, "the server stops")
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// FetchAllFlags implements flagd.sync.v1: the text, once.
func (s *Server) FetchAllFlags(context.Context, *v1.FetchAllFlagsRequest) (*v1.FetchAllFlagsResponse, error) {
	text, _ := s.files.current()
	return &v1.FetchAllFlagsResponse{FlagConfiguration: text}, nil
}

// GetMetadata implements flagd.sync.v1 for providers from before it was given up there: there is
// none.
func (s *Server) GetMetadata(context.Context, *v1.GetMetadataRequest) (*v1.GetMetadataResponse, error) { //nolint:staticcheck // deprecated, and asked for all the same
	return &v1.GetMetadataResponse{Metadata: &structpb.Struct{}}, nil //nolint:staticcheck // as above
}
