//go:build live

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestLive tells each story DEMO_RUNS times (20 by default) with the driftwatch of
// DRIFTWATCH_BINARY. One of twenty may fail: the shop is real and the machine may be busy. A flag
// that is written without a change may not happen at all.
func TestLive(t *testing.T) {
	binary, runs := os.Getenv("DRIFTWATCH_BINARY"), 20
	if binary == "" {
		t.Fatal("DRIFTWATCH_BINARY does not name the built driftwatch; make live does")
	}
	if text := os.Getenv("DEMO_RUNS"); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil || runs < 1 {
			t.Fatalf("DEMO_RUNS=%s is not a number of runs", text)
		}
	}
	for _, scenario := range []string{regression, noChange} {
		t.Run(scenario, func(t *testing.T) {
			told := 0
			for run := range runs {
				c := usual()
				c.scenario, c.driftwatch, c.seed = scenario, binary, uint64(run+1)
				c.out = filepath.Join(t.TempDir(), "out")
				var out bytes.Buffer
				if err := tell(t.Context(), c, &out); err != nil {
					t.Logf("seed %d: %v\n%s", c.seed, err, out.String())
				} else {
					told++
				}
				if scenario == noChange {
					text, err := os.ReadFile(filepath.Join(c.out, "flags.json"))
					if err != nil || string(text) != flagsText {
						t.Errorf("seed %d: the flag file was written without a change (%v)", c.seed, err)
					}
				}
			}
			t.Logf("%s: %d of %d stories told", scenario, told, runs)
			if failed := runs - told; failed*20 > runs {
				t.Errorf("%d of %d stories failed, want at most one of twenty", failed, runs)
			}
		})
	}
}
