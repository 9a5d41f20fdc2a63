// Package internal_test holds the floors of the house: which room may import which. Run it
// with -count=1, the test cache does not see imports change.
package internal_test

import (
	"encoding/json"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/driftwatch/driftwatch"

// floors says for every room which rooms of ours it may import, and why no others.
var floors = map[string]struct {
	may    []string
	reason string
}{
	"telemetry":         {nil, "nouns: what was measured, whatever it means"},
	"stat":              {nil, "formulas over plain numbers"},
	"suggest":           {nil, "the nearest word to a misspelt one"},
	"strictyaml":        {[]string{"suggest"}, "YAML with places in its errors, whatever it holds"},
	"rule":              {[]string{"strictyaml", "suggest"}, "data and parsing only; what needs a server lives in cmd"},
	"config":            {[]string{"strictyaml", "suggest"}, "data and parsing only, as rule"},
	"baseline":          {[]string{"telemetry", "stat", "rule"}, "how a service moves without an upgrade; pure"},
	"detect":            {[]string{"telemetry", "stat", "rule", "baseline"}, "judgement; pure, so that a record can be judged again"},
	"query":             {[]string{"telemetry", "rule", "baseline", "suggest"}, "the one door to Prometheus; knows no verdicts"},
	"flags":             {[]string{"telemetry", "rule", "detect", "suggest"}, "the one door to flag sources; Decide is pure"},
	"journal":           {[]string{"telemetry"}, "keeps bytes and times; knows no meaning"},
	"report":            {[]string{"telemetry", "stat", "rule", "baseline", "detect", "report/plot"}, "words and numbers of a judgement"},
	"report/plot":       {nil, "draws numbers, whatever they mean"},
	"flagsync":          {nil, "pushes texts to flagd; what they say, it is told"},
	"worker":            {[]string{"telemetry", "stat", "rule", "baseline", "detect", "query", "flags", "journal", "report", "suggest"}, "time and goroutines: the only room that reads, thinks and acts"},
	"web":               {[]string{"stat", "rule", "journal", "report"}, "shows and asks; what touches a flag is handed to it"},
	"sim":               {[]string{"telemetry", "baseline"}, "made telemetry with a known truth; knows no verdict"},
	"sim/peers":         {[]string{"stat"}, "judges of other tools, to measure against; nothing in the product imports it"},
	"sim/compare":       {[]string{"telemetry", "rule", "baseline", "detect", "sim", "sim/peers"}, "all judges on the same made upgrades, for measurement only"},
	"sim/cmd/compare":   {[]string{"sim/compare"}, "make compare"},
	"sim/calibrate":     {[]string{"telemetry", "stat", "rule", "baseline", "detect", "sim", "sim/peers"}, "whether the promised rates hold; nothing in the product imports it"},
	"sim/cmd/calibrate": {[]string{"sim/calibrate"}, "make calibrate"},
	"sim/short":         {[]string{"telemetry", "rule", "baseline", "detect"}, "made upgrades without history; nothing in the product imports it"},
	"livetest":          {nil, "for tests only: starts real servers"},
}

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestFloors(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		room, ok := strings.CutPrefix(p.ImportPath, module+"/internal/")
		if !ok {
			continue
		}
		seen++
		floor, ok := floors[room]
		if !ok {
			t.Errorf("internal/%s has no row in the table of floors: say what it may import, and why", room)
			continue
		}
		for _, imp := range p.Imports {
			other, ours := strings.CutPrefix(imp, module+"/")
			if ours && !slices.Contains(floor.may, strings.TrimPrefix(other, "internal/")) {
				t.Errorf("internal/%s imports %s; it is %q and may import %v", room, other, floor.reason, floor.may)
			}
		}
		for _, imp := range p.Imports {
			if path.Base(imp) == "livetest" {
				t.Errorf("internal/%s imports livetest outside its tests", room)
			}
		}
	}
	if seen < 5 {
		t.Fatalf("go list showed %d rooms; the test looked in the wrong place", seen)
	}
}
