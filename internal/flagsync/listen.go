package flagsync

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
)

// ErrExposed says that an address can be reached from other machines and has no TLS.
var ErrExposed = errors.New("not a loopback address, and no TLS")

// Listen opens an address. Without TLS it has to be a loopback one (ErrExposed): whoever stands
// between flagd and here could answer in the place of driftwatch and turn any flag on or off.
func Listen(address string, secure bool) (net.Listener, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; write it like 127.0.0.1:9466", address, err)
	}
	if !secure && !a.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: %w; give the files of a certificate and its key, or listen on 127.0.0.1", address, ErrExposed)
	}
	l, err := net.ListenTCP("tcp", a) // what was looked at, and not what the name means by now
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// A TLS is a certificate and its key in files, which may be renewed while they are in use.
type TLS struct {
	certificate, key string

	mu   sync.Mutex
	pair *tls.Certificate // as it was read last
}

// LoadTLS reads a certificate and its key, in PEM.
func LoadTLS(certificate, key string) (*TLS, error) {
	t := &TLS{certificate: certificate, key: key}
	return t, t.read()
}

func (t *TLS) read() error {
	pair, err := tls.LoadX509KeyPair(t.certificate, t.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", t.certificate, t.key, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pair = &pair
	return nil
}

// config reads the files anew for each connection, of which there is one per flagd, so that a
// renewed certificate needs no restart. While they are half renewed the pair before is used.
func (t *TLS) config(log *slog.Logger) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if err := t.read(); err != nil {
				log.Warn("the certificate cannot be read again; the one before is used", "error", err)
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			return t.pair, nil
		},
	}
}
