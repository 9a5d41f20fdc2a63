package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/flagsync"
)

// A serving is what `flags serve` is to do.
type serving struct {
	source, listen   string
	certificate, key string
	streams          int
}

func (p *program) flagsServeCommand() *cobra.Command {
	var w world
	var s serving
	cmd := &cobra.Command{
		Use:   "serve --source NAME",
		Short: "Serve the flags of a source to flagd over gRPC",
		Long: `Serve the flags of a source in mode overlay to flagd and its in-process providers over
gRPC (flagd.sync.v1): the file below with the overlay on it, pushed whenever one of them
changes. Nothing is written. Files that flagd would refuse are not pushed; what they
held before stays.

  flagd start --sources '[{"uri":"127.0.0.1:9466","provider":"grpc"}]'

A flagd does not start while a gRPC source is down, and sees no change until it is back.
Where flagd can read both files itself, let it.`,
		Example: `  driftwatch flags serve --source production
  driftwatch flags serve --source production --listen :9466 --tls-cert tls.crt --tls-key tls.key`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serveFlags(cmd.Context(), &w, s) },
	}
	f := cmd.Flags()
	w.configFlag(f)
	f.StringVar(&s.source, "source", "", "the `NAME` of a flag source in mode overlay")
	f.StringVar(&s.listen, "listen", "127.0.0.1:9466", "the `ADDRESS` to listen on; one that other machines reach needs --tls-cert and --tls-key")
	f.StringVar(&s.certificate, "tls-cert", "", "a `FILE` with the certificate, PEM; read anew for every connection")
	f.StringVar(&s.key, "tls-key", "", "a `FILE` with its key, PEM")
	f.IntVar(&s.streams, "max-streams", 1024, "the most streams that are open at once; every flagd holds one")
	return cmd
}

// overlay is the source that is served.
func (w *world) overlay(name string) (*flags.FlagdOverlay, error) {
	if name == "" {
		return nil, usage("no flag source is named; give --source, a name under flag_sources of the configuration")
	}
	if err := w.loadConfig(); err != nil {
		return nil, err
	}
	source, err := w.source(name)
	if err != nil {
		return nil, err
	}
	o, ok := source.(*flags.FlagdOverlay)
	if !ok {
		return nil, usage("flag source %q has no overlay, so there is nothing that flagd does not get from the source itself; write flagd_file: {path: …, mode: overlay, overlay: overlay.json}", name)
	}
	return o, nil
}

func (p *program) serveFlags(ctx context.Context, w *world, s serving) error {
	source, err := w.overlay(s.source)
	if err != nil {
		return err
	}
	if s.streams < 1 {
		return usage("--max-streams %d is not at least 1", s.streams)
	}
	if (s.certificate == "") != (s.key == "") {
		return usage("--tls-cert and --tls-key belong together; give both")
	}
	log := slog.New(slog.NewTextHandler(p.stderr, nil))
	base, overlay := source.Files()
	o := flagsync.Options{
		Paths: []string{base, overlay}, Streams: s.streams, Log: log,
		Merge: func(texts [][]byte) (string, error) { return source.Served(texts[0], texts[1]) },
	}
	if s.certificate != "" {
		if o.TLS, err = flagsync.LoadTLS(s.certificate, s.key); err != nil {
			return &exitError{exitUsage, err}
		}
	}
	server, err := flagsync.New(o)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &exitError{flagsUnreachable, fmt.Errorf(`%w; an overlay is created with the text {"flags":{}}`, err)}
	case err != nil:
		return flagFailure(err)
	}
	l, err := flagsync.Listen(s.listen, o.TLS != nil)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	log.Info("serving", "address", l.Addr().String(), "base", base, "overlay", overlay, "tls", o.TLS != nil)
	if err := server.Serve(ctx, l); err != nil {
		return err
	}
	log.Info("stopped", "address", l.Addr().String())
	return nil
}
