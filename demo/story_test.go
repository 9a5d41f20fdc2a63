package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/demo/internal/model"
	"github.com/driftwatch/driftwatch/demo/internal/shop"
)

// TestMain lets the test binary stand in for driftwatch: a link to it named fake-MODE behaves as
// that mode says.
func TestMain(m *testing.M) {
	if mode, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "fake-"); ok {
		os.Exit(fake(mode, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// fake writes the report of its mode where the arguments want it, and does or does not turn the
// flag off.
func fake(mode string, args []string) int {
	file := func(prefix string) string {
		i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, prefix) })
		return strings.TrimPrefix(args[i], prefix)
	}
	reportFile := file("json=")
	flagFile := filepath.Join(filepath.Dir(reportFile), "flags.json")
	turnOff := func() {
		text, err := os.ReadFile(flagFile)
		if err != nil {
			panic(err)
		}
		text = bytes.Replace(text, []byte(`"defaultVariant": "on"`), []byte(`"defaultVariant": "off"`), 1)
		if err := os.WriteFile(flagFile, text, 0o644); err != nil {
			panic(err)
		}
	}
	answer := func(r map[string]any, code int) int {
		r["exit_code"] = code
		text, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(reportFile, text, 0o644); err != nil {
			panic(err)
		}
		fmt.Println("the answer of a fake")
		return code
	}
	fmt.Fprintln(os.Stderr, "  looking")
	switch mode {
	case "finds-nothing":
		return answer(quiet(), 0)
	case "finds-nothing-but-writes":
		turnOff()
		return answer(quiet(), 0)
	case "only-says-so":
		return answer(told(), 3)
	case "does-all":
		turnOff()
		return answer(told(), 3)
	case "dies":
		return 1
	case "never-ends":
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt)
		<-c
		return 130
	}
	panic("no such mode: " + mode)
}

// quiet is the report of an upgrade that changed nothing.
func quiet() map[string]any {
	var rows []any
	for _, e := range model.Endpoints {
		for _, s := range []string{"latency", "retries"} {
			rows = append(rows, map[string]any{"endpoint": name(e), "signal": s, "verdict": "no_meaningful_rise", "attainable_q": 0.0061})
		}
	}
	return map[string]any{
		"schema": "driftwatch.report/v1", "verdict": "no_meaningful_rise", "exit_code": 0,
		"deploy":      map[string]any{"from": shop.OldVersion, "to": shop.NewVersion, "found_by": "build_info"},
		"calibration": map[string]any{"pooled": 4900, "history": "generated"},
		"comparisons": rows, "actions": []any{}, "recovery": map[string]any{"state": "none"},
	}
}

// told is the report of the whole story.
func told() map[string]any {
	r := quiet()
	r["verdict"], r["exit_code"] = "regressed", 3
	r["comparisons"].([]any)[1].(map[string]any)["verdict"] = "regressed" // retries of the first endpoint, the slow one
	r["actions"] = []any{map[string]any{"kind": "flag_off", "flag": shop.Flag, "outcome": "verified", "reason": nil}}
	r["recovery"] = map[string]any{"state": "recovered"}
	return r
}

// brief is a story of a few seconds, with driftwatch replaced.
func brief(t *testing.T, mode, scenario string) config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := usual()
	c.scenario, c.out = scenario, filepath.Join(t.TempDir(), "out")
	c.driftwatch = filepath.Join(t.TempDir(), "fake-"+mode)
	if err := os.Symlink(self, c.driftwatch); err != nil {
		t.Fatal(err)
	}
	c.overhead, c.history, c.live, c.limit = 500*time.Millisecond, 30*time.Second, 4*time.Second, time.Minute
	return c
}

// TestStory runs the whole demo, shop and Prometheus included, against a driftwatch that is wrong in
// one way or right. In particular one that finds nothing must make it fail.
func TestStory(t *testing.T) {
	tests := []struct {
		mode, scenario string
		want           string // of the error; "" = the story is told
	}{
		{"finds-nothing", regression, "did not confirm the regression"},
		{"only-says-so", regression, "says that " + shop.Flag + " is off, and the flag file does not"},
		{"dies", regression, "driftwatch exited with 1: driftwatch left no report"},
		{"does-all", regression, ""},
		{"finds-nothing", noChange, ""},
		{"finds-nothing-but-writes", noChange, "the flag file was written"},
	}
	for _, tt := range tests {
		t.Run(tt.scenario+"/"+tt.mode, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := tell(t.Context(), brief(t, tt.mode, tt.scenario), &out)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("tell = %v, want the story told\n%s", err, out.String())
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("tell = %v, want %q\n%s", err, tt.want, out.String())
			}
			if !strings.Contains(out.String(), "driftwatch │   looking") {
				t.Errorf("the progress of driftwatch was not passed on:\n%s", out.String())
			}
		})
	}
}

// TestInterrupt wants an interrupted story to end at once, with everything it started.
func TestInterrupt(t *testing.T) {
	c := brief(t, "never-ends", regression)
	ctx, interrupt := context.WithCancel(t.Context())
	out := &lines{heard: "looking", then: interrupt}
	began := time.Now()
	err := tell(ctx, c, out)
	if err == nil {
		t.Fatal("an interrupted story was told")
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}

// lines calls then when a line holds heard.
type lines struct {
	heard string
	then  func()
}

func (l *lines) Write(b []byte) (int, error) {
	if strings.Contains(string(b), l.heard) {
		l.then()
	}
	return len(b), nil
}

// TestJudge changes one thing at a time in a record of the whole story.
func TestJudge(t *testing.T) {
	off := strings.Replace(flagsText, `"defaultVariant": "on"`, `"defaultVariant": "off"`, 1)
	row := func(r map[string]any, i int) map[string]any { return r["comparisons"].([]any)[i].(map[string]any) }
	tests := []struct {
		name   string
		change func(r map[string]any)
		flags  string
		want   string
	}{
		{"as it should be", func(map[string]any) {}, off, ""},
		{"not recovered", func(r map[string]any) { r["recovery"] = map[string]any{"state": "not_recovered"} }, off, `"not_recovered"`},
		{"still watching", func(r map[string]any) { r["recovery"] = map[string]any{"state": "watching"} }, off, `"watching"`},
		{"written, not verified", func(r map[string]any) {
			r["actions"].([]any)[0].(map[string]any)["outcome"] = "written_not_verified"
		}, off, "verified off"},
		{"another flag", func(r map[string]any) { r["actions"].([]any)[0].(map[string]any)["flag"] = "other" }, off, "verified off"},
		{"another endpoint is blamed too", func(r map[string]any) { row(r, 8)["verdict"] = "regressed" }, off, "did not change"},
		{"only another endpoint is blamed", func(r map[string]any) {
			row(r, 1)["verdict"], row(r, 8)["verdict"] = "undecided", "regressed"
		}, off, "did not name the endpoint"},
		{"a pool too small", func(r map[string]any) { row(r, 3)["attainable_q"] = 0.011 }, off, "placebos do not suffice"},
		{"no pool at all", func(r map[string]any) { row(r, 3)["attainable_q"] = nil }, off, "placebos do not suffice"},
		{"measured history", func(r map[string]any) { r["calibration"].(map[string]any)["history"] = "measured" }, off, "instead of generated"},
		{"the upgrade was told by hand", func(r map[string]any) { r["deploy"].(map[string]any)["found_by"] = "flag" }, off, "another upgrade"},
		{"no upgrade", func(r map[string]any) { r["deploy"] = nil }, off, "did not find the upgrade"},
		{"an endpoint is missing", func(r map[string]any) { r["comparisons"] = r["comparisons"].([]any)[2:] }, off, "18 comparisons"},
		{"the exit code differs", func(r map[string]any) { r["exit_code"] = 4 }, off, "its report says 4"},
		{
			"targeting is left", func(map[string]any) {},
			strings.Replace(off, `"off"`+"\n", `"off", "targeting": {"if": [true, "on", "off"]}`+"\n", 1), "the flag file does not",
		},
		{"disabled is not off", func(map[string]any) {}, strings.Replace(off, "ENABLED", "DISABLED", 1), "the flag file does not"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := told()
			tt.change(m)
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			r := &record{}
			if err := json.Unmarshal(text, r); err != nil {
				t.Fatal(err)
			}
			err = ending{exitCode: 3, record: r, flags: []byte(tt.flags)}.judge(regression)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("judge = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFolded(t *testing.T) {
	var f folded
	var kept []string
	lines := []string{"  deploy   shop 1.0 → 1.1"}
	for n := 1; n <= 12; n++ {
		lines = append(lines, fmt.Sprintf("  look %d, 14:27:%02d   nothing confirmed in 20", n, n))
	}
	lines = append(lines, "  look 13, 14:27   1 of 20 confirmed", "  flag off, 14:27:14   verified", "  flag off, 14:27:14   verified")
	for _, l := range lines {
		if !f.repeats(l) {
			kept = append(kept, strings.Fields(l)[0]+strings.Fields(l)[1])
		}
	}
	want := []string{"deployshop", "look1,", "look11,", "look13,", "flagoff,", "flagoff,"}
	if !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
}

func TestCommandUsage(t *testing.T) {
	for _, args := range [][]string{{"--scenario=other"}, {"--no-such"}, {"word"}} {
		var out, errs bytes.Buffer
		if code := command(t.Context(), args, &out, &errs); code != 2 || errs.Len() == 0 {
			t.Errorf("command(%q) = %d with %q on stderr, want 2 and a reason", args, code, errs.String())
		}
	}
	var out, errs bytes.Buffer
	args := []string{"--driftwatch", filepath.Join(t.TempDir(), "none"), "--out", t.TempDir()}
	if code := command(t.Context(), args, &out, &errs); code != 1 || !strings.Contains(errs.String(), "build it first") {
		t.Errorf("command(%q) = %d, %q; want 1 and what to do", args, code, errs.String())
	}
}
