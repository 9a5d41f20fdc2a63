package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const serveConfig = `rules: [rule.yaml]
flag_sources:
  production: {flagd_file: {path: base.json, mode: overlay, overlay: overlay.json}}
  edited: {flagd_file: {path: base.json, mode: edit}}
`

const serveRule = `service: checkout-api
endpoint: [route]
signals:
  - {name: latency, histogram: http_server_request_duration_seconds}
flags:
  - {key: new-backoff, source: production, off: {variant: "off"}, act: true}
`

const serveBase = `{"flags": {"new-backoff": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}}}
`

// serveWorld is a directory with a configuration, a rule, and flags that are all on.
func serveWorld(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"driftwatch.yaml": serveConfig, "rule.yaml": serveRule, "base.json": serveBase, "overlay.json": `{"flags":{}}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFlagsServeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		args  []string
		spoil func(dir string) error
		code  int
		words string
	}{
		{"no source", nil, nil, exitUsage, "give --source"},
		{"an unknown source", []string{"--source", "staging"}, nil, exitUsage, `no flag source "staging"`},
		{"a source without an overlay", []string{"--source", "edited"}, nil, exitUsage, "has no overlay"},
		{"an address that others reach", []string{"--source", "production", "--listen", "0.0.0.0:0"}, nil, exitUsage, "not a loopback address, and no TLS"},
		{"half of TLS", []string{"--source", "production", "--tls-cert", "tls.crt"}, nil, exitUsage, "belong together"},
		{"no certificate", []string{"--source", "production", "--tls-cert", "tls.crt", "--tls-key", "tls.key"}, nil, exitUsage, "tls.crt"},
		{"no streams", []string{"--source", "production", "--max-streams", "0"}, nil, exitUsage, "--max-streams"},
		{"no overlay", []string{"--source", "production"}, func(dir string) error { return os.Remove(filepath.Join(dir, "overlay.json")) }, flagsUnreachable, `{"flags":{}}`},
		{"an overlay of somebody else", []string{"--source", "production"}, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "overlay.json"), []byte(serveBase), 0o644)
		}, flagsRefused, "which driftwatch did not write"},
		{"broken flags", []string{"--source", "production"}, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "base.json"), []byte("{"), 0o644)
		}, exitUsage, "base.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := serveWorld(t)
			if tt.spoil != nil {
				if err := tt.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			r := run(t, dir, append([]string{"flags", "serve"}, tt.args...)...)
			if r.code != tt.code || !strings.Contains(r.stderr, tt.words) || r.stdout != "" {
				t.Errorf("exit %d, want %d with %q on stderr:\n%s%s", r.code, tt.code, tt.words, r.stdout, r.stderr)
			}
		})
	}
}
