package flagsync

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	flagd "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
)

func TestOnlyLoopbackIsListenedOnWithoutTLS(t *testing.T) {
	t.Parallel()
	tests := []struct {
		address string
		exposed bool
	}{
		{"127.0.0.1:0", false},
		{"localhost:0", false},
		{"127.8.9.10:0", false},
		{":0", true},
		{"0.0.0.0:0", true},
		{"[::]:0", true},
		{"10.1.2.3:0", true},
		{"192.0.2.1:9466", true},
	}
	for _, tt := range tests {
		l, err := Listen(tt.address, false)
		if l != nil {
			l.Close()
		}
		if errors.Is(err, ErrExposed) != tt.exposed || (err != nil) != tt.exposed {
			t.Errorf("Listen(%q) = %v, exposed %v", tt.address, err, tt.exposed)
		}
	}
	l, err := Listen(":0", true)
	if err != nil {
		t.Fatalf("everywhere, with TLS: %v", err)
	}
	l.Close()
	if _, err := Listen("nowhere", false); err == nil || !strings.Contains(err.Error(), "write it like") {
		t.Errorf("no port: %v", err)
	}
}

// certificate makes one for 127.0.0.1 that is its own authority, in two files.
func certificate(t *testing.T, certPath, keyPath string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "driftwatch"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, certPath, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	replace(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func TestProviderOverTLSAndARenewedCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certificate(t, cert, key, 1)
	secure, err := LoadTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	o, _, options := overlay(t)
	options.TLS = secure
	r := start(t, 0, options)
	a := newApplication(t, r, flagd.WithTLS(cert))
	turnOff(t, o)
	a.sees(t, "off")

	serial := func() int64 {
		t.Helper()
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}} // only the number is looked at
		conn, err := d.DialContext(t.Context(), "tcp", r.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("serial number %d, want 1", got)
	}
	certificate(t, cert, key, 2)
	if got := serial(); got != 2 {
		t.Errorf("after it was renewed: serial number %d, want 2", got)
	}
	write(t, key, "half of it")
	if got := serial(); got != 2 {
		t.Errorf("while it is renewed: serial number %d, want 2", got)
	}
	if !strings.Contains(r.log.String(), "the one before is used") || strings.Contains(r.log.String(), "half of it") {
		t.Errorf("log:\n%s", r.log)
	}
	if a.gets(t) != "off" {
		t.Error("the connection that was there is not there any more")
	}
}

func TestServerWithTLSTakesNoPlainConnection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certificate(t, cert, key, 1)
	secure, err := LoadTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	_, _, options := overlay(t)
	options.TLS = secure
	r := start(t, 0, options)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	answer := make([]byte, 64)
	n, _ := conn.Read(answer)
	// RFC 8446, section 6: an alert is of type 21; a server of HTTP/2 would begin with its settings.
	if n > 0 && answer[0] != 21 {
		t.Errorf("a plain connection is answered with % x", answer[:n])
	}
}

func TestLoadTLSNamesTheFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := LoadTLS(cert, key); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), cert) {
		t.Errorf("no files: %v", err)
	}
}
