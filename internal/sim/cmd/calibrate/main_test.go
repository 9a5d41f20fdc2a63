package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	document := filepath.Join(dir, "statistics.md")
	args := []string{"-scale", "tiny", "-only", "S9", "-seed", "5", "-workers", "1", "-out", filepath.Join(dir, "state"), "-markdown", document}
	var out bytes.Buffer
	failed, err := run(t.Context(), args, &out, io.Discard)
	if err != nil || failed != 0 {
		t.Fatalf("%d failed, %v\n%s", failed, err, out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; !regexp.MustCompile(`^[0-9]+ passed, 0 failed$`).MatchString(last) {
		t.Errorf("the last line is %q", last)
	}
	if !strings.Contains(out.String(), "seed 5") || !strings.Contains(out.String(), "sparse 1 of 1") {
		t.Errorf("no seed, or not how far it came: %s", out.String())
	}
	b, err := os.ReadFile(document)
	if err != nil || !strings.Contains(string(b), "#### S9") {
		t.Errorf("the document holds %q, %v", b, err)
	}

	// What is finished is printed without drawing more; what is not, is not run.
	out.Reset()
	args = append(args, "-seed", "6", "-for", "1ns")
	if _, err := run(t.Context(), args, &out, io.Discard); err != nil || !strings.HasSuffix(out.String(), "13 not run\n0 passed, 0 failed\n") {
		t.Errorf("without time: %v\n%s", err, out.String())
	}
}

func TestWrongUsage(t *testing.T) {
	tests := []struct{ args, want string }{
		{"-only S0,S99", `no bar "S99"`},
		{"-scale huge", `not "huge"`},
		{"-workers 0", "at least 1"},
		{"-nonsense", "not defined"},
	}
	for _, tt := range tests {
		if _, err := run(t.Context(), strings.Fields(tt.args), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
}
