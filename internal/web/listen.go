package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"
)

// A Listener is where the pages are.
type Listener struct {
	Address string // host:port
	Config  string // path of the exporter-toolkit's web configuration; "" = neither TLS nor users
	Log     *slog.Logger
	Drain   time.Duration // how long requests in flight may take after the end was asked for
}

// ErrOpen is a listener that everybody could reach, and nothing that keeps them out.
var ErrOpen = errors.New("other machines could connect, and nothing asks who they are")

// Check reports what is wrong with a listener before it is opened: an address that cannot be
// one, a web configuration that cannot be read, or ErrOpen.
func (l Listener) Check() error {
	host, _, err := net.SplitHostPort(l.Address)
	if err != nil {
		return fmt.Errorf("web.listen %q is no address: %w; write it like 127.0.0.1:9465", l.Address, err)
	}
	if l.Config != "" {
		if err := toolkit.Validate(l.Config); err != nil {
			return fmt.Errorf("the web configuration %s cannot be used: %w", l.Config, err)
		}
	}
	if l.Config == "" && !IsLoopback(host) {
		return fmt.Errorf("%s: %w; listen on 127.0.0.1, or give --web.config.file with tls_server_config and basic_auth_users", l.Address, ErrOpen)
	}
	return nil
}

// IsLoopback reports whether a host is this machine and nothing else. A name other than
// localhost may lead anywhere, and no name at all means every interface.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Serve answers requests until ctx is done, then lets those in flight finish within l.Drain.
// ready is called with the address once connections are accepted.
func (l Listener) Serve(ctx context.Context, handler http.Handler, ready func(net.Addr)) error {
	if err := l.Check(); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; name another address with --listen, or end what holds it", l.Address, err)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      90 * time.Second, // a flag is proved for up to 30 s before the answer
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(l.Log.Handler(), slog.LevelWarn),
		// Requests outlive ctx: they are to finish.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() {
		none, addresses := false, []string{l.Address}
		served <- toolkit.Serve(listener, server, &toolkit.FlagConfig{WebListenAddresses: &addresses, WebSystemdSocket: &none, WebConfigFile: &l.Config}, l.Log)
	}()
	ready(listener.Addr())
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", l.Address, err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Drain)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		_ = server.Close() // what is left is cut off
		return errors.Join(fmt.Errorf("requests were still running %v after the end was asked for, and were cut off: %w", l.Drain, err), closed(<-served))
	}
	return closed(<-served)
}

// closed is how serving ended, nil where it was asked to.
func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}
