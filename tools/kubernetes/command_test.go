package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A person turns a flag of a FeatureFlag resource off, sees it proved, and takes it back.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "driftwatch"), "./cmd/driftwatch")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	before := newFlag(t, "commands")
	for name, text := range map[string]string{
		"driftwatch.yaml": fmt.Sprintf("rules: [rule.yaml]\nflag_sources:\n  production: {flagd_crd: {namespace: shop, name: commands, server: {address: %q, token_file: %q, ca_file: %q}}}\n",
			api.server.Address, api.server.TokenFile, api.server.CAFile),
		"rule.yaml": `service: checkout-api
endpoint: [route]
signals:
  - {name: latency, histogram: http_server_request_duration_seconds}
flags:
  - {key: pay/new~backoff, source: production, off: {variant: "off"}}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token, err := os.ReadFile(api.server.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	run := func(code int, says string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "driftwatch"), args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		got := 0
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			got, err = e.ExitCode(), nil
		}
		if err != nil || got != code || !strings.Contains(string(out), says) {
			t.Errorf("driftwatch %s: %v, exit %d, want %d and %q:\n%s", strings.Join(args, " "), err, got, code, says, out)
		}
		if strings.Contains(string(out), strings.TrimSpace(string(token))) {
			t.Error("it prints the token")
		}
	}
	const key = "pay/new~backoff"
	run(5, "not proved off", "flags", "verify", key)
	run(0, "verified off in the object", "flags", "off", key, "--reason", "trial")
	run(0, "is off already", "flags", "off", key)
	run(0, "flag_off", "flags", "list")
	run(0, "it is what it was before", "flags", "restore", key)
	if got, want := withoutCounters(read(t, flagResource, "commands")), withoutCounters(before); !reflect.DeepEqual(got, want) {
		t.Errorf("restored\n%v\nwant\n%v", got, want)
	}
	run(4, "the journal holds no write", "flags", "restore", key)

	edit(t, flagResource, "commands", func(o map[string]any) {
		o["metadata"].(map[string]any)["annotations"].(map[string]any)["argocd.argoproj.io/tracking-id"] = "shop"
	})
	run(4, "Argo CD manages the object", "flags", "off", key)
	run(0, "read-only", "flags", "list")

	journal, err := filepath.Glob(filepath.Join(dir, "driftwatch.db*"))
	if err != nil || len(journal) == 0 {
		t.Fatalf("no journal: %v", err)
	}
	for _, name := range journal {
		if b, err := os.ReadFile(name); err != nil || strings.Contains(string(b), strings.TrimSpace(string(token))) {
			t.Errorf("%s: %v, or it holds the token", filepath.Base(name), err)
		}
	}
}
