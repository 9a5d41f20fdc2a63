package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata, or rewrites it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

var layouts = map[string]TextOptions{
	"100": {Width: 100}, "80": {Width: 80}, "80-ascii": {Width: 80, ASCII: true},
	"100-ascii": {ASCII: true}, "100-colour": {Color: true}, "100-all": {All: true}, "80-all": {Width: 80, All: true},
}

func TestText(t *testing.T) {
	for name, in := range scenarios() {
		r := New(in)
		golden(t, name+".txt", []byte(Text(r, TextOptions{})))
	}
	r := New(scenarios()["verified"])
	for name, o := range layouts {
		if name != "100" {
			golden(t, "verified."+name+".txt", []byte(Text(r, o)))
		}
	}
}

func TestJSON(t *testing.T) {
	for name, in := range scenarios() {
		if name != "hostile" {
			golden(t, name+".json", New(in).JSON())
		}
	}
}

func TestJSONIsTheSameEveryTime(t *testing.T) {
	for name, in := range scenarios() {
		first := New(in).JSON()
		for range 5 {
			if !bytes.Equal(New(in).JSON(), first) {
				t.Fatalf("%s: two reports on the same input differ", name)
			}
		}
	}
}

// A stored report says what it said when it was made.
func TestStoredReportReadsTheSame(t *testing.T) {
	for name, in := range scenarios() {
		r := New(in)
		stored, err := Parse(r.JSON())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(stored.JSON(), r.JSON()) {
			t.Errorf("%s: JSON of the stored report differs", name)
		}
		for layout, o := range layouts {
			if got, want := Text(stored, o), Text(r, o); got != want {
				t.Errorf("%s, %s: the stored report reads\n%s\nand not\n%s", name, layout, got, want)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{"", "{", `{"schema":"driftwatch.report/v2"}`, `{"schema":"driftwatch.report/v1","comparisons":[{"labels":[]}]}`, `{"schema":"driftwatch.report/v1","comparisons":[{"labels":{"a":1}}]}`} {
		if r, err := Parse([]byte(in)); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", in, r)
		}
	}
}

// What comes from labels, versions and warnings neither breaks a line nor moves the cursor,
// and no line is wider than the page.
func TestTextIsPrintableAndNarrow(t *testing.T) {
	for name, in := range scenarios() {
		for layout, o := range layouts {
			text := Text(New(in), o)
			if o.Color {
				text = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(text, "")
			}
			width := o.Width
			if width == 0 {
				width = 100
			}
			for line := range strings.Lines(text) {
				line = strings.TrimSuffix(line, "\n")
				for _, c := range line {
					if !unicode.IsPrint(c) || o.ASCII && c > 126 {
						t.Errorf("%s, %s: %q in %q", name, layout, c, line)
					}
				}
				// A command is not broken, so that it can be pasted.
				if n := columns(line); n > width && !strings.HasPrefix(line, "next ") {
					t.Errorf("%s, %s: %d columns: %q", name, layout, n, line)
				}
			}
		}
	}
}

func TestHostileLabelsKeepOneLinePerRow(t *testing.T) {
	in := scenarios()["hostile"]
	text := Text(New(in), TextOptions{All: true})
	table, _, _ := strings.Cut(strings.SplitN(text, "\n\n", 2)[1], "\n\n")
	if got, want := strings.Count(table, "\n"), len(in.Judgement.Rows); got != want {
		t.Errorf("%d lines below the head of the table, want %d:\n%s", got, want, table)
	}
	if !strings.Contains(text, "…") {
		t.Error("a route of 10 kB is not cut")
	}
	r := New(in)
	for _, s := range []string{r.VerdictText, r.StatusLine} {
		if len(s) > 4000 || strings.ContainsAny(s, "\x1b\x07\n\r\u202e") {
			t.Errorf("not safe to pass on: %.300q", s)
		}
	}
	if strings.Contains(string(r.JSON()), "<script>") {
		t.Error("JSON is not safe to embed in a page")
	}
}

// The numbers of the table are those of the JSON: every change and both ends of its interval.
func TestTextHasTheNumbersOfTheJSON(t *testing.T) {
	for _, name := range []string{"verified", "undecided", "no-regression", "no-flag"} {
		r := New(scenarios()[name])
		var doc struct {
			Comparisons []struct {
				Verdict string
				Change  struct {
					Ratio *float64
					CI99  [2]*float64
				}
			}
		}
		if err := json.Unmarshal(r.JSON(), &doc); err != nil {
			t.Fatal(err)
		}
		var rows [][]string
		row := regexp.MustCompile(`([-+0-9.e]+) %  [^%]*  ([-+0-9.e]+)…([-+0-9.e]+) %$`)
		for line := range strings.Lines(Text(r, TextOptions{All: true})) {
			if m := row.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
				rows = append(rows, m[1:])
			}
		}
		i := 0
		for _, c := range doc.Comparisons {
			if c.Change.Ratio == nil {
				continue
			}
			if i >= len(rows) {
				t.Fatalf("%s: %d changes in the text, more in the JSON", name, len(rows))
			}
			// The groups are printed in their own order: find the row by its numbers.
			want := []float64{*c.Change.Ratio * 100, *c.Change.CI99[0] * 100, *c.Change.CI99[1] * 100}
			if !slices.ContainsFunc(rows, func(row []string) bool {
				for j := range row {
					got, err := strconv.ParseFloat(row[j], 64)
					tolerance := 0.051 // one decimal below 30 %
					switch abs := max(want[j], -want[j]); {
					case abs >= 1e6:
						tolerance = abs * 0.051 // two digits
					case abs >= 29.95:
						tolerance = 0.51
					}
					if err != nil || max(got-want[j], want[j]-got) > tolerance {
						return false
					}
				}
				return true
			}) {
				t.Errorf("%s: no row of the text has %v; it has %v", name, want, rows)
			}
			i++
		}
		if i != len(rows) {
			t.Errorf("%s: %d changes in the JSON, %d in the text", name, i, len(rows))
		}
	}
}

// Only what JSON calls unknown is a question mark, and the words NaN and Inf are nowhere.
func TestNoNumberIsNaN(t *testing.T) {
	for name, in := range scenarios() {
		r := New(in)
		for layout, o := range layouts {
			if s := Text(r, o); regexp.MustCompile(`\b(NaN|Inf)\b`).MatchString(s) {
				t.Errorf("%s, %s: NaN or Inf in\n%s", name, layout, s)
			}
		}
		if s := string(r.JSON()); regexp.MustCompile(`\b(NaN|Inf)\b`).MatchString(s) {
			t.Errorf("%s: NaN or Inf in the JSON", name)
		}
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("report.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("report.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReportsFitTheSchema(t *testing.T) {
	s := compiled(t)
	for name, in := range scenarios() {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(New(in).JSON()))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The schema refuses what the contract forbids: a field that is gone, a number that is text,
// a verdict of its own.
func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	good := string(New(scenarios()["verified"]).JSON())
	for _, change := range [][2]string{
		{`"exit_code": 3`, `"exit_code": "3"`},
		{`"verdict": "regressed"`, `"verdict": "broken"`},
		{`"q_act": 0.001`, `"q_akt": 0.001`},
		{`"outcome": "verified"`, `"outcome": "done"`},
		{`"now": "2026-03-11T14:43:00Z"`, `"now": "yesterday"`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s is not in the report", change[0])
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(bad))
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(doc) == nil {
			t.Errorf("%s is accepted", change[1])
		}
	}
}

// The fields of the contract (design, section 5), in its order.
var contract = map[string]string{
	"":                         "schema id upgrade_id service verdict verdict_text status_line exit_code now deploy windows calibration comparisons evidence actions recovery stats warnings provenance",
	"deploy":                   "started at from to found_by",
	"windows":                  "baseline post step_s guard_s history_s",
	"calibration":              "tier placebos pooled season controls history",
	"comparisons[]":            "endpoint labels signal metric quantile unit metrics verdict flag baseline post change exceedance own against_controls p q q_act attainable_q suspected looks onset needs warnings",
	"comparisons[].metrics[]":  "metric z p",
	"comparisons[].baseline":   "value requests",
	"comparisons[].post":       "value requests",
	"comparisons[].change":     "ratio ci99 bound95 minimum_effect detectable",
	"comparisons[].exceedance": "ratio ci99",
	"comparisons[].own":        "z p",
	"evidence[]":               "id holds text",
	"actions[]":                "kind flag outcome reason revision at verified_after_s",
	"recovery":                 "state since",
	"stats":                    "queries samples bytes read_path query_s total_s",
	"provenance":               "tool rule rule_sha256 queries",
}

// fields collects the names of the objects of a JSON document, by path, in their order.
func fields(t *testing.T, d *json.Decoder, path string, out map[string][]string) {
	t.Helper()
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch token {
	case json.Delim('{'):
		var names []string
		for d.More() {
			name, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name.(string))
			fields(t, d, strings.TrimPrefix(path+"."+name.(string), "."), out)
		}
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
		if _, ok := out[path]; !ok {
			out[path] = names
		}
	case json.Delim('['):
		for d.More() {
			fields(t, d, path+"[]", out)
		}
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryContractFieldIsThereInItsOrder(t *testing.T) {
	got := map[string][]string{}
	d := json.NewDecoder(bytes.NewReader(New(scenarios()["verified"]).JSON()))
	fields(t, d, "", got)
	for path, names := range contract {
		at := -1
		for name := range strings.FieldsSeq(names) {
			i := slices.Index(got[path], name)
			if i <= at {
				t.Errorf("%q: field %s is missing or out of order in %v", path, name, got[path])
			}
			at = max(at, i)
		}
	}
}

// The schema describes every field that a report has.
func TestSchemaDescribesEveryField(t *testing.T) {
	var s struct {
		Properties map[string]json.RawMessage
		Defs       map[string]struct{ Properties map[string]json.RawMessage } `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	fields(t, json.NewDecoder(bytes.NewReader(New(scenarios()["verified"]).JSON())), "", got)
	for path, properties := range map[string]map[string]json.RawMessage{
		"": s.Properties, "comparisons[]": s.Defs["comparison"].Properties, "actions[]": s.Defs["action"].Properties,
		"deploy": s.Defs["deploy"].Properties, "windows": s.Defs["windows"].Properties, "looks": s.Defs["looks"].Properties,
		"comparisons[].baseline": s.Defs["level"].Properties,
	} {
		if len(got[path]) != len(properties) {
			t.Errorf("%q: the report has %v, the schema describes %d fields", path, got[path], len(properties))
		}
		for _, name := range got[path] {
			if properties[name] == nil {
				t.Errorf("%q: the schema does not describe %s", path, name)
			}
		}
	}
}

func TestNullWhereTheContractSaysNull(t *testing.T) {
	in := scenarios()["undecided"]
	r := New(in)
	var doc map[string]any
	if err := json.Unmarshal(r.JSON(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc["comparisons"].([]any) {
		c := c.(map[string]any)
		isNull := func(path ...string) bool {
			var at any = c
			for _, p := range path {
				at = at.(map[string]any)[p]
			}
			return at == nil
		}
		kind := c["kind"]
		want := map[string]bool{
			"against_controls": c["control"] == true || c["verdict"] == "not_enough_data", "onset": c["verdict"] != "regressed", "exceedance": kind != "histogram", "quantile": kind != "histogram",
			"baseline.requests": kind == "gauge", "post.requests": kind == "gauge", "q_act": c["control"] == true,
			"change.ratio": c["verdict"] == "not_enough_data", "p": c["verdict"] == "not_enough_data",
		}
		for path, want := range want {
			if got := isNull(strings.Split(path, ".")...); got != want {
				t.Errorf("%v %v: %s is null: %v, want %v", c["endpoint"], c["signal"], path, got, want)
			}
		}
	}
}

func TestExitCode(t *testing.T) {
	row := func(v Verdict, flag Word) Comparison { return Comparison{Verdict: v, Flag: flag} }
	act := func(flag Word, o Outcome) Action { return Action{Flag: flag, Outcome: o} }
	tests := []struct {
		name    string
		rows    []Comparison
		actions []Action
		require bool
		want    int
	}{
		{"no rise", []Comparison{row(NoMeaningfulRise, "")}, nil, true, 0},
		{"undecided costs nobody a pipeline", []Comparison{row(Undecided, "a"), row(PreExisting, ""), row(Transient, "")}, nil, true, 0},
		{"regressed without an action", []Comparison{row(Regressed, "a")}, nil, false, 4},
		{"verified", []Comparison{row(Regressed, "a"), row(CouldNotCheck, "")}, []Action{act("a", Verified)}, false, 3},
		{"one of two flags verified", []Comparison{row(Regressed, "a"), row(Regressed, "b")}, []Action{act("a", Verified)}, false, 4},
		{"one of two failed", []Comparison{row(Regressed, "a"), row(Regressed, "b")}, []Action{act("a", Verified), act("b", Failed)}, false, 5},
		{"both verified", []Comparison{row(Regressed, "a"), row(Regressed, "b")}, []Action{act("a", Verified), act("b", Verified)}, false, 3},
		{"a control regressed too", []Comparison{row(Regressed, "a"), row(Regressed, "")}, []Action{act("a", Verified)}, false, 4},
		{"unproved beats no action", []Comparison{row(Regressed, "a"), row(Regressed, "")}, []Action{act("a", WrittenNotVerified)}, false, 5},
		{"a fresh proof counts", []Comparison{row(Regressed, "a")}, []Action{act("a", WrittenNotVerified), act("a", Verified)}, false, 3},
		{"already off by somebody", []Comparison{row(Regressed, "a")}, []Action{act("a", AlreadyOff)}, false, 4},
		{"could not check", []Comparison{row(CouldNotCheck, "a"), row(NotEnoughData, "")}, nil, true, 7},
		{"not enough data", []Comparison{row(NotEnoughData, "a"), row(Undecided, "")}, nil, true, 6},
		{"not enough data, not asked", []Comparison{row(NotEnoughData, "a")}, nil, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ExitCode("", tt.rows, tt.actions, tt.require); got != tt.want {
				t.Errorf("ExitCode = %d, want %d", got, tt.want)
			}
		})
	}
	if got := ExitCode(NotEnoughData, nil, nil, true); got != 6 {
		t.Errorf("no rows and not enough data: %d, want 6", got)
	}
	if got := ExitCode(CouldNotCheck, nil, nil, false); got != 7 {
		t.Errorf("no rows and could not check: %d, want 7", got)
	}
}

// The report's verdict is the worst row's, in the order of the contract.
func TestVerdictIsTheWorst(t *testing.T) {
	order := []detect.Verdict{detect.NoMeaningfulRise, detect.Improved, detect.NotEnoughData, detect.Undecided, detect.CouldNotCheck, detect.Regressed}
	in := base()
	for _, v := range order {
		in.Judgement.Rows = append(in.Judgement.Rows, row(v, 0, 1, 1, 0, -0.1, 0.1, "GET", "/"))
		if got := New(in).Verdict; got != verdictOf(v) {
			t.Errorf("with a %s row the verdict is %s", verdictOf(v), got)
		}
	}
	for _, v := range []detect.Verdict{detect.PreExisting, detect.Transient} {
		in.Judgement.Rows = []detect.Row{row(v, 0, 1, 1, 0, -0.1, 0.1, "GET", "/"), row(detect.NotEnoughData, 0, 1, 1, nan, nan, nan, "GET", "/")}
		if got := New(in).Verdict; got != Undecided {
			t.Errorf("%s counts as %s, want undecided", verdictOf(v), got)
		}
	}
}

func TestOnsetInWords(t *testing.T) {
	in := base()
	for _, tt := range []struct {
		verdict detect.Verdict
		onset   *baseline.Onset
		want    string
	}{
		{detect.Regressed, &baseline.Onset{Step: 7, Low: 5, High: 9}, "became slower 7 min after checkout-api 2.42.0: "},
		{detect.Regressed, &baseline.Onset{Step: 0, Low: 0, High: 2}, "became slower after checkout-api 2.42.0: "},
		{detect.Regressed, nil, "became slower after checkout-api 2.42.0: "},
		{detect.PreExisting, &baseline.Onset{Step: -10, Low: -12, High: -7}, "That began about 10 min before the upgrade, so it is not blamed on it."},
		{detect.PreExisting, nil, "That began before the upgrade, so it is not blamed on it."},
	} {
		r := row(tt.verdict, 0, 1, 2, 1, 0.9, 1.1, "GET", "/")
		r.Onset = tt.onset
		in.Judgement.Rows = []detect.Row{r}
		if got := New(in).VerdictText; !strings.Contains(got, tt.want) {
			t.Errorf("%v, onset %+v: %q does not say %q", tt.verdict, tt.onset, got, tt.want)
		}
	}
}

// Hundreds of rows neither scroll the verdict away nor get lost: they are counted.
func TestManyRowsAreFolded(t *testing.T) {
	in := base()
	for i := range 300 {
		in.Judgement.Rows = append(in.Judgement.Rows, row(detect.Regressed, 0, 0.1, 0.2, 1, 0.9, 1.1, "GET", fmt.Sprint("/", i)))
	}
	for i := range 200 {
		in.Judgement.Rows = append(in.Judgement.Rows, row(detect.Undecided, 0, 0.1, 0.1, 0, -0.1, 0.1, "GET", fmt.Sprint("/u", i)))
	}
	r := New(in)
	text := Text(r, TextOptions{})
	if n := strings.Count(text, "\n"); n > 45 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	for _, want := range []string{"280 of 500: regressed as well", "198 of 500: undecided", "297 more rises are confirmed"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if n := strings.Count(Text(r, TextOptions{All: true}), "\n"); n < 500 {
		t.Errorf("--all has %d lines for 500 rows", n)
	}
}

// 50,000 endpoints are a report like any other: its time grows with the rows, not with their
// square.
func BenchmarkText(b *testing.B) {
	in := base()
	for i := range 50000 {
		r := row(detect.NoMeaningfulRise, 0, 0.1, 0.1, 0, -0.01, 0.02, "GET", fmt.Sprint("/", i))
		in.Judgement.Rows = append(in.Judgement.Rows, r)
	}
	for b.Loop() {
		Text(New(in), TextOptions{All: true})
	}
}

// A rule without endpoint labels has one endpoint, the service.
func TestServiceWithoutEndpointLabels(t *testing.T) {
	in := base()
	in.Rule.Endpoint = nil
	in.Judgement.Rows = []detect.Row{row(detect.Regressed, 0, 0.39, 0.784, 1.01, 0.92, 1.09, "")}
	r := New(in)
	if got := r.Comparisons[0]; got.Endpoint != "" || len(got.Labels) != 0 {
		t.Errorf("endpoint %q, labels %v", got.Endpoint, got.Labels)
	}
	if text := Text(r, TextOptions{}); !strings.Contains(text, "▲ checkout-api p99") {
		t.Errorf("the row does not name the service:\n%s", text)
	}
}

func TestLabelsKeepTheRulesOrder(t *testing.T) {
	in := base()
	in.Rule.Endpoint = []string{"route", "method", "az"}
	in.Judgement.Rows = []detect.Row{row(detect.Improved, 0, 1, 1, 0, 0, 0, "/x", "GET", "")}
	want := `"labels":{"route":"/x","method":"GET","az":""}`
	var b bytes.Buffer
	if err := json.Compact(&b, New(in).JSON()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), want) {
		t.Errorf("%s is not in %s", want, b.String())
	}
}

func TestWindows(t *testing.T) {
	in := base()
	in.Upgrade = &telemetry.Upgrade{Service: "checkout-api", Started: deployed.Add(-90e9), At: deployed, To: "2"} // 90 s: a gap of 2 steps
	in.Geometry.Gap = 2
	tests := []struct {
		complete int
		post     string
		next     string
	}{
		// By hand: T0 14:02:10, baseline [-62, -2), guard 3, first look 5, horizon 60.
		{2, "null", "2026-03-11T14:07:10Z"},
		{3, "null", "2026-03-11T14:07:10Z"},
		{17, `["2026-03-11T14:05:10Z","2026-03-11T14:19:10Z"]`, "2026-03-11T14:20:10Z"},
		{90, `["2026-03-11T14:05:10Z","2026-03-11T15:02:10Z"]`, ""},
	}
	for _, tt := range tests {
		in.Complete = tt.complete
		r := New(in)
		base, _ := json.Marshal(r.Windows.Baseline)
		if want := `["2026-03-11T13:00:10Z","2026-03-11T14:00:10Z"]`; string(base) != want {
			t.Errorf("baseline %s, want %s", base, want)
		}
		if post, _ := json.Marshal(r.Windows.Post); string(post) != tt.post {
			t.Errorf("%d steps: post %s, want %s", tt.complete, post, tt.post)
		}
		next, _ := json.Marshal(r.Looks.Next)
		if want := strconv.Quote(tt.next); tt.next != "" && string(next) != want || tt.next == "" && string(next) != "null" {
			t.Errorf("%d steps: next look %s, want %q", tt.complete, next, tt.next)
		}
	}
}

func TestSignalNames(t *testing.T) {
	in := base()
	in.Rule.Signals = append(in.Rule.Signals, rule.Signal{Name: "upstream", Kind: rule.Histogram, Quantile: 0.999, Unit: "s"})
	one := row(detect.Improved, 0, 1, 1, 0, 0, 0, "GET", "/")
	two := row(detect.Improved, 0, 1, 1, 0, 0, 0, "GET", "/")
	two.Signal, two.Quantile = 3, 0.999
	in.Judgement.Rows = []detect.Row{one}
	if r := New(in); r.signal(r.Comparisons[0]) != "p99" {
		t.Errorf("one histogram: %s", r.signal(r.Comparisons[0]))
	}
	in.Judgement.Rows = []detect.Row{one, two}
	if r := New(in); r.signal(r.Comparisons[1]) != "upstream p99.9" {
		t.Errorf("two histograms: %s", r.signal(r.Comparisons[1]))
	}
}

// Every reason and every state has words of its own, and the next step is always a command.
func TestEveryReasonAndStateHasWords(t *testing.T) {
	var doc struct {
		Defs       map[string]json.RawMessage `json:"$defs"`
		Properties struct {
			Recovery struct {
				Properties struct{ State struct{ Enum []string } }
			}
		}
	}
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	var action struct {
		Properties struct{ Reason struct{ Enum []*Word } }
	}
	if err := json.Unmarshal(doc.Defs["action"], &action); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, reason := range action.Properties.Reason.Enum {
		if reason == nil {
			continue
		}
		in := regressed()
		in.Actions = []Action{{Kind: "flag_off", Flag: flagKey, Outcome: Refused, Reason: *reason}}
		r := New(in)
		words := reasonText(in.Actions[0])
		if words == string(*reason) || seen[words] || !strings.Contains(r.VerdictText, words) {
			t.Errorf("%s has no words of its own: %q", *reason, words)
		}
		seen[words] = true
		if _, step, _ := r.next(); !strings.HasPrefix(step, "driftwatch ") {
			t.Errorf("%s: the next step is %q", *reason, step)
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d reasons, the first contract's 17 and touched, critical, approval are 20", len(seen))
	}
	states := doc.Properties.Recovery.Properties.State.Enum
	for _, state := range states {
		in := regressed()
		in.Actions, in.Recovery = []Action{verified("ofrep")}, Recovery{State: state}
		r := New(in)
		words := r.recoveryText() + r.recoveryWords()
		if (words == "") != (state == RecoveryNone) || seen[words] {
			t.Errorf("%s has no words of its own: %q", state, words)
		}
		seen[words] = true
	}
	if len(states) != 6 {
		t.Errorf("%d states of a recovery, want 6", len(states))
	}
}

// A flag that is disabled falls back to the default in the code, which may be on: no sentence
// calls it off.
func TestDisabledIsNeverCalledOff(t *testing.T) {
	calledOff := regexp.MustCompile(`(?i)\bturn(ed)? off\b|\bflag \S+ off\b|\bis off\b|verified off|written off|already off|flag off`)
	for _, outcome := range []Outcome{Verified, WrittenNotVerified, Failed, AlreadyOff, DryRun} {
		for _, viewpoint := range []Word{"file", "ofrep"} {
			a := verified(viewpoint)
			a.Kind, a.Outcome = FlagDisabled, outcome
			in := regressed()
			in.Actions = []Action{a}
			r := New(in)
			texts := append(r.actionWords(), r.actionText(a))
			for _, e := range r.Evidence {
				if e.ID == "flag_off" {
					texts = append(texts, string(e.Text))
				}
			}
			for _, text := range texts {
				if calledOff.MatchString(text) {
					t.Errorf("%s: %q calls a disabled flag off", outcome, text)
				}
			}
			if outcome == Verified && !strings.Contains(r.actionText(a), "falls back to the code default") {
				t.Errorf("%q does not say what is served", r.actionText(a))
			}
		}
	}
	if !calledOff.MatchString(New(regressed()).actionText(verified("file"))) {
		t.Error("the expression does not know the words of a flag that is off")
	}
}
