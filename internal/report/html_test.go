package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"math"
	"math/rand/v2"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// drawn is pictures for the scenarios: a lognormal latency whose slowest 2 % take twice as
// long between the upgrade and the flag, and retries that triple. Seeded; made up.
func drawn(r *Report, off time.Time) *Pictures {
	rng := rand.New(rand.NewPCG(7, 11))
	bounds := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5}
	p := &Pictures{Start: At(deployed.Add(-time.Hour)), StepS: 60, Columns: 100}
	slow := func(i int) bool {
		end := p.end(i)
		return end.After(deployed.Add(time.Minute)) && (off.IsZero() || !end.After(off.Add(time.Minute)))
	}
	seen := map[string]bool{}
	for _, c := range r.Comparisons {
		key := fmt.Sprint(c.Labels)
		if c.Verdict != Regressed && !c.Suspected || seen[key] {
			continue
		}
		seen[key] = true
		endpoint := []string{}
		for _, l := range c.Labels {
			endpoint = append(endpoint, l.Value)
		}
		h := Picture{
			Endpoint: endpoint, Signal: "latency", Kind: "histogram", Quantile: 0.99, Bounds: bounds, Tail: 0.5,
			Values: make([]telemetry.Values, len(bounds)+1), Expr: `histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket{route="/v1/payments/authorize"}[1m])))`,
			Bands: []Band{{1, 0.004, 0.013, 499}, {2, 0.005, 0.012, 249}, {3, 0.006, 0.011, 166}},
		}
		ratio := Picture{
			Endpoint: endpoint, Signal: "retries", Kind: "ratio", Quantile: None(), Values: make([]telemetry.Values, 2),
			Bands: []Band{{1, 0.003, 0.016, 499}, {2, 0.004, 0.014, 249}, {3, 0.005, 0.012, 166}, {5, 0.006, 0.011, 99}, {10, 0.007, 0.0105, 49}}, Expr: "sum(rate(retries_total[1m])) / sum(rate(requests_total[1m]))",
		}
		for i := range p.Columns {
			counts := make([]float64, len(bounds)+1)
			n := 1250 + rng.IntN(150)
			retries := 0.0
			for range n {
				x := 0.118 * math.Exp(0.42*rng.NormFloat64())
				if rng.Float64() < 0.02 {
					x *= 2.2
				}
				if slow(i) && rng.Float64() < 0.03 {
					x = 0.7 * math.Exp(0.35*rng.NormFloat64())
				}
				b := 0
				for b < len(bounds) && x > bounds[b] {
					b++
				}
				counts[b]++
				if rng.Float64() < map[bool]float64{true: 0.0276, false: 0.0086}[slow(i)] {
					retries++
				}
			}
			sum := 0.0
			for b := range counts {
				sum += counts[b]
				value := sum
				if i == 25 {
					value = math.NaN() // a scrape was lost
				}
				h.Values[b] = append(h.Values[b], value)
			}
			ratio.Values[0], ratio.Values[1] = append(ratio.Values[0], retries), append(ratio.Values[1], float64(n))
		}
		p.Rows = append(p.Rows, h, ratio)
	}
	x := ExposurePicture{Flag: flagKey, Expr: "exposure"}
	for i := range p.Columns {
		v := 0.0
		switch end := p.end(i); {
		case !end.After(deployed):
			v = math.NaN()
		case off.IsZero() || !end.After(off):
			v = 1
		}
		x.Values = append(x.Values, v)
	}
	p.Exposure = []ExposurePicture{x}
	return p
}

// picture is a scenario with its pictures, as a check would have read them.
func picture(in Input) *Report {
	r := New(in)
	if r.Deploy == nil || r.Deploy.At.IsZero() || r.count(Regressed) == 0 {
		return r
	}
	var off time.Time
	for _, a := range r.Actions {
		if !a.At.IsZero() {
			off = a.At.Time
		}
	}
	r.Pictures = drawn(r, off)
	return r
}

// large is a report of a service with n comparisons.
func large(n, regressions int) Input {
	in := base()
	rng := rand.New(rand.NewPCG(3, uint64(n)))
	in.Judgement.Rows = nil
	for i := range n {
		endpoint := []string{[]string{"GET", "POST", "PUT"}[i/2%3], fmt.Sprintf("/v1/%s/%d/{id}", []string{"orders", "payments", "catalog", "refunds", "sessions", "customers"}[i/2%6], i/12)}
		v, x := detect.NoMeaningfulRise, 0.02*rng.NormFloat64()
		switch {
		case i < regressions:
			v, x = detect.Regressed, 0.5+rng.Float64()
		case i < regressions+n/50:
			v, x = detect.Undecided, 0.15*rng.Float64()
		case i < regressions+n/50+n/60:
			v, x = detect.Improved, -0.1-0.1*rng.Float64()
		case i < regressions+n/50+n/60+n/20:
			v, x = detect.NotEnoughData, nan
		}
		level := 0.02 + 0.4*rng.Float64()
		if i%2 == 1 {
			level /= 20
		}
		w := 0.03 + 0.03*rng.Float64()
		r := row(v, i%2, level, level*(1+x), x, x-w, x+w, endpoint...)
		r.Q, r.P = rng.Float64(), rng.Float64()
		if v == detect.NotEnoughData {
			r.Needs = &detect.Needs{Of: "requests", Have: float64(rng.IntN(900)), Need: 1200}
		}
		in.Judgement.Rows = append(in.Judgement.Rows, r)
	}
	return in
}

var hashes = regexp.MustCompile(`sha256-([A-Za-z0-9/=]|&#43;)+`)

// body is a page without its style and script, which have tests of their own, and without their
// hashes in the policy.
func body(page []byte) []byte {
	s := strings.Replace(string(page), styleText, "", 1)
	return []byte(hashes.ReplaceAllString(strings.Replace(s, scriptText, "", 1), "sha256-HASH"))
}

var links = Links{"https://prometheus.example.com/p/", "https://me:secret@grafana.example.com"}

// Every ending of a check has its page, and the one with pictures stands for all pictures.
func TestHTML(t *testing.T) {
	for name, in := range scenarios() {
		golden(t, name+".html", body(HTML(New(in), HTMLOptions{Links: links})))
	}
	golden(t, "pictures.html", body(HTML(picture(scenarios()["verified"]), HTMLOptions{Links: links})))
}

func TestMarkdownAndJUnit(t *testing.T) {
	for name, in := range scenarios() {
		golden(t, name+".md", []byte(Markdown(New(in))))
		golden(t, name+".xml", JUnit(New(in)))
	}
}

// What a page may hold at all: tags, and that no attribute runs or styles anything.
var tags = regexp.MustCompile(`<(/?[a-zA-Z!][^\s>/]*)([^>]*)>`)

func checkMarkup(t *testing.T, name string, page []byte) {
	t.Helper()
	if !utf8.Valid(page) {
		t.Errorf("%s: not UTF-8", name)
	}
	for _, c := range string(page) {
		if c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c)) {
			t.Errorf("%s: holds %q", name, c)
			break
		}
	}
	known := strings.Fields(`!doctype html head meta title style body a header div span nav button main section p h1 h2 h3 h4 dl dt dd
		blockquote ol li b time svg path rect circle text desc table caption thead tbody tr th td abbr code label select option input
		details summary article figure figcaption ul i pre footer script`)
	text := string(body(page))
	for _, m := range tags.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(known, strings.ToLower(strings.TrimPrefix(m[1], "/"))) {
			t.Errorf("%s: a tag of its own: %.200s", name, m[0])
		}
		if regexp.MustCompile(`(?i)\s(on[a-z]+|style)\s*=`).MatchString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(m[2], "")) {
			t.Errorf("%s: an attribute that runs or styles: %.200s", name, m[0])
		}
	}
	for _, m := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(m[1], "#") && !strings.HasPrefix(m[1], "https://prometheus.example.com/p/graph?") && !strings.HasPrefix(m[1], "https://grafana.example.com/explore?") {
			t.Errorf("%s: links to %.200s", name, m[1])
		}
	}
	if n := strings.Count(text, "<script"); n != 1 {
		t.Errorf("%s: %d scripts", name, n)
	}
}

var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, "</style></script><script>alert(2)</script>",
	"javascript:alert(1)", "{{.}} {{template \"row\"}}", "\u202eevil\u2066", "a\x00b\x1b[31m", "\xff\xfe", "|a|`b`@everyone ![x](http://e.example) #1 ](", "]]><!--", "x -->",
	"/" + strings.Repeat("long", 2500),
}

// Names from labels, versions, flags and warnings are text wherever they stand.
func TestHostileNames(t *testing.T) {
	for i, evil := range hostile {
		in := scenarios()["verified"]
		for j := range in.Judgement.Rows {
			in.Judgement.Rows[j].Endpoint = telemetry.NewEndpoint(fmt.Sprint(j), evil)
			in.Judgement.Rows[j].Note = evil
			in.Judgement.Rows[j].Warnings = []string{evil}
		}
		r := in.Rule
		r.Service, r.Label = "s"+evil, evil
		r.Signals[0].Name, r.Signals[1].Name = evil, "retries"+evil
		r.Flags[0].Key = evil
		in.Actions[0].Flag, in.Actions[0].Revision, in.Actions[0].Detail = Word(evil), [2]Word{Word(evil), "2"}, Word(evil)
		in.Recovery.Detail = Word(evil)
		in.Upgrade.From, in.Upgrade.To, in.Upgrade.FoundBy = evil, evil, evil
		in.Warnings, in.Queries, in.ID = []string{evil}, []string{evil}, "id"+evil
		in.Evidence = []Evidence{{"x", true, evil}}
		rep := picture(in)
		rep.Said = &Said{By: evil, Text: evil}
		rep.Deploy.FoundBy = strings.ToValidUTF8(evil, "?")
		for k := range rep.Pictures.Rows {
			p := &rep.Pictures.Rows[k]
			p.Signal, p.Expr = rep.Comparisons[0].Signal, evil
			if p.Kind == "ratio" {
				p.Signal = rep.Comparisons[1].Signal
			}
		}
		rep.Pictures.Exposure[0].Flag, rep.Pictures.Notes = evil, []string{evil}
		name := fmt.Sprintf("hostile %d", i)
		html := HTML(rep, HTMLOptions{Links: links})
		checkMarkup(t, name, html)
		if n := len(html); n > 1<<20 {
			t.Errorf("%s: %d bytes", name, n)
		}
		md := Markdown(rep)
		for _, bad := range []string{"<script", "<img", "@everyone", "](", "http://e.example", "\x1b", "\u202e"} {
			// Commands stand in blocks of code, where nothing is markup.
			if strings.Contains(regexp.MustCompile("(?s)```+sh\n.*?\n```+\n").ReplaceAllString(md, ""), bad) {
				t.Errorf("%s: Markdown holds %q", name, bad)
			}
		}
		for line := range strings.Lines(md) {
			if strings.HasPrefix(line, "| ") && strings.Count(line, "|") != 7 && !strings.HasPrefix(line, "| | Endpoint") {
				t.Errorf("%s: a row of %d cells: %.300s", name, strings.Count(line, "|")-1, line)
			}
		}
		var suites struct {
			Tests int `xml:"tests,attr"`
		}
		if err := xml.Unmarshal(JUnit(rep), &suites); err != nil || suites.Tests != len(rep.Comparisons) {
			t.Errorf("%s: JUnit of %d tests, %v", name, suites.Tests, err)
		}
	}
	for name, in := range scenarios() {
		checkMarkup(t, name, HTML(picture(in), HTMLOptions{Links: links}))
	}
}

// plain is markup as a person reads it.
func plain(s string) string {
	s = html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(s, ""))
	return strings.NewReplacer("\u2212", "-", "\u00a0", " ").Replace(s)
}

// numbersOf are change and interval of every row that a format shows, sorted.
func numbersOf(format string, r *Report) []string {
	var out []string
	add := func(change, interval string) {
		if strings.Contains(interval, " %") && change != "?" && change != "Change" {
			out = append(out, plain(change)+" | "+plain(interval))
		}
	}
	each := func(re, text string) {
		for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(text, -1) {
			add(m[1], m[2])
		}
	}
	switch format {
	case "text":
		for line := range strings.Lines(Text(r, TextOptions{All: true})) {
			m := regexp.MustCompile(`  +([-+0-9.e]+ %) .*  ((?:at least |at most )?[-+0-9.e]+…?[-+0-9.e]* %)$`).FindStringSubmatch(strings.TrimSuffix(line, "\n"))
			if m != nil {
				add(m[1], strings.Replace(m[2], "…", " to ", 1))
			}
		}
	case "html":
		page := string(HTML(r, HTMLOptions{}))
		each(`class="num chg chgc">([^<]*)</td>.*?data-k="(?:99 % interval)?">([^<]*)</td>`, page)
		each(`<td class="n">[^<]*<td class="n">([^<]*)<td>(?:<svg[^>]*><path[^>]*></svg>)?<td class="n">([^<\n]*)`, page)
	case "markdown":
		each(`(?m)^\|[^|]*\|[^|]*\|[^|]*\|[^|]*\| ([^|]*) \| ([^|]*) \|$`, Markdown(r))
	case "junit":
		each(`, ([-+0-9.e]+ %), 99 % interval ([^<"\n]*?)[<"]`, string(JUnit(r)))
	case "json":
		for _, c := range r.Comparisons {
			if ci := c.Change.CI99; ci[0].Known() || ci[1].Known() {
				add(change(c.Change.Ratio), interval(ci, " to "))
			}
		}
	}
	slices.Sort(out)
	return out
}

// One model feeds every format: no two of them show different numbers, or fewer rows.
func TestFormatsAgree(t *testing.T) {
	all := scenarios()
	delete(all, "hostile") // the text cuts its names, and the order of the rows is the same
	all["large"] = large(200, 3)
	for name, in := range all {
		r := New(in)
		want := numbersOf("json", r)
		for _, format := range []string{"text", "html", "markdown", "junit"} {
			got := numbersOf(format, r)
			if name == "large" && format == "markdown" {
				for _, line := range got {
					if !slices.Contains(want, line) {
						t.Errorf("%s: %s is not in the report", format, line)
					}
				}
				continue // folds of a comment are cut
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s shows\n%q\nand the JSON\n%q", name, format, got, want)
			}
		}
		// The first sentence with numbers is the same, too.
		if m := regexp.MustCompile(`\([-+0-9.]+ %, 99 % interval [^)]*\)`).FindString(r.VerdictText); m != "" {
			for format, text := range map[string]string{"text": strings.Join(strings.Fields(Text(r, TextOptions{})), " "), "html": plain(string(HTML(r, HTMLOptions{}))), "markdown": plain(Markdown(r)), "junit": plain(string(JUnit(r)))} {
				if r.Verdict == Regressed && !strings.Contains(text, m) {
					t.Errorf("%s: %s does not say %s", name, format, m)
				}
			}
		}
	}
}

// Each state says what it is, by shape and word and not by colour alone.
func TestStates(t *testing.T) {
	for name, want := range map[string][]string{
		"verified":        {"Regression confirmed", "Flag off, verified", "Recovered", "driftwatch flags restore"},
		"dry-run":         {"No action (dry run)", "Would turn off", "missing", "driftwatch flags off"},
		"not-verified":    {"The flag may still be on. A person is needed.", "driftwatch flags verify", "Run now"},
		"service-wide":    {"No action (service-wide)", "not behind the flag"},
		"undecided":       {"Undecided", "Next look"},
		"watching":        {"Look 1 of", "Next look", "at most +28.1 %", "at least -28.6 %"},
		"could-not-check": {"Could not check", "Nothing is known about this upgrade; nothing was changed."},
		"not-enough-data": {"Not enough data", "61 of 1200 requests", "This is not a pass"},
		"no-deploy":       {"No upgrade found", "nothing to compare"},
		"overruled":       {"person", "theirs now"},
		"improved":        {"Improved", "Rolling back to 2.41.3 would probably give these up", "smaller than what the rule says matters"},
		"no-regression":   {"Improved", "No rise that matters in 3 of 3 comparisons"},
	} {
		page := HTML(New(scenarios()[name]), HTMLOptions{})
		text := plain(string(body(page)))
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%s does not say %q", name, s)
			}
		}
	}
}

// The policy allows exactly the style and the script of the page.
func TestPolicyFitsThePage(t *testing.T) {
	page := string(HTML(New(scenarios()["verified"]), HTMLOptions{}))
	for _, tag := range []string{"style", "script"} {
		_, rest, _ := strings.Cut(page, "<"+tag+">")
		text, _, ok := strings.Cut(rest, "</"+tag+">")
		sum := sha256.Sum256([]byte(text))
		if !ok || !strings.Contains(html.UnescapeString(page), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			t.Errorf("the policy has another hash than that of the %s", tag)
		}
	}
	for _, bad := range []string{"@import", "url(", "//cdn", "http:", "https:"} {
		if strings.Contains(styleText+scriptText, bad) {
			t.Errorf("style or script reach out: %q", bad)
		}
	}
}

// Headings go down one at a time, every picture has words, every header cell a scope.
func TestPagesAreAccessible(t *testing.T) {
	for name, in := range scenarios() {
		page := string(body(HTML(picture(in), HTMLOptions{})))
		level, h1 := 0, 0
		for _, m := range regexp.MustCompile(`<h([1-6])`).FindAllStringSubmatch(page, -1) {
			n := int(m[1][0] - '0')
			if n > level+1 {
				t.Errorf("%s: h%d after h%d", name, n, level)
			}
			if level = n; n == 1 {
				h1++
			}
		}
		if h1 != 1 {
			t.Errorf("%s: %d h1", name, h1)
		}
		for _, m := range regexp.MustCompile(`<svg[^>]*>`).FindAllString(page, -1) {
			if !strings.Contains(m, `aria-hidden="true"`) && !regexp.MustCompile(`role="img" aria-label="[^"]+"`).MatchString(m) {
				t.Errorf("%s: a picture without words: %s", name, m)
			}
		}
		for _, m := range regexp.MustCompile(`<th[ >][^>]*>?`).FindAllString(page, -1) {
			if !strings.Contains(m, "scope=") {
				t.Errorf("%s: a header cell without scope: %s", name, m)
			}
		}
		ids := map[string]bool{}
		for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			if ids[m[1]] {
				t.Errorf("%s: two elements with the id %s", name, m[1])
			}
			ids[m[1]] = true
		}
	}
}

// Text has a contrast of at least 4.5 to 1 and shapes of 3 to 1 on every ground, light and dark
// (WCAG 2.2, 1.4.3 and 1.4.11; relative luminance as defined there).
func TestContrast(t *testing.T) {
	luminance := func(hex string) float64 {
		var v [3]float64
		for i := range v {
			n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			if v[i] = float64(n) / 255; v[i] <= 0.04045 {
				v[i] /= 12.92
			} else {
				v[i] = math.Pow((v[i]+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*v[0] + 0.7152*v[1] + 0.0722*v[2]
	}
	blocks := regexp.MustCompile(`(?s):root(?:\[data-theme=dark\])? \{(.*?)\n\s*\}`).FindAllStringSubmatch(styleText, -1)
	if len(blocks) < 2 {
		t.Fatalf("%d themes", len(blocks))
	}
	for i, block := range blocks[:2] {
		colour := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): (#[0-9a-f]{6})`).FindAllStringSubmatch(block[1], -1) {
			colour[m[1]] = m[2]
		}
		check := func(least float64, marks ...string) {
			for _, mark := range marks {
				for _, ground := range []string{"bg", "surface", "sunk"} {
					a, b := luminance(colour[mark]), luminance(colour[ground])
					if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < least {
						t.Errorf("theme %d: %s on %s is %.2f to 1, less than %v", i, mark, ground, ratio, least)
					}
				}
			}
		}
		check(4.5, "ink", "ink2", "ink3", "reg", "und", "eqv", "imp", "ins")
		check(3, "reg-fill", "und-fill", "eqv-fill", "imp-fill", "ins-fill", "before", "after", "healed")
	}
}

// What a person said last stands below the verdict in every format for people, and not in the JSON.
func TestSaid(t *testing.T) {
	r := picture(scenarios()["verified"])
	record := r.JSON()
	r.Said = &Said{FalseAlarm: true, By: "search on-call", Text: "index <b>rebuild</b>\n@everyone", At: deployed.Add(time.Hour)}
	golden(t, "marked.html", body(HTML(r, HTMLOptions{Links: links})))
	golden(t, "marked.md", []byte(Markdown(r)))
	golden(t, "marked.txt", []byte(Text(r, TextOptions{})))
	if !bytes.Equal(r.JSON(), record) {
		t.Error("the record changed")
	}
	r.Said = &Said{Problem: "feedback 3 is not what was stored"}
	for _, got := range []string{Text(r, TextOptions{}), plain(string(HTML(r, HTMLOptions{}))), Markdown(r)} {
		if want := "What people said of it cannot be read: feedback 3 is not what was stored."; !strings.Contains(got, want) {
			t.Errorf("%.600s\ndoes not say %q", got, want)
		}
	}
}

// A row that lacks data says what it needs where others have their interval, also if it has one.
func TestLackingRows(t *testing.T) {
	in := regressed()
	few := &in.Judgement.Rows[4]
	few.Change.Ratio, few.Change.Low99, few.Change.High99 = 0.5, -0.4, 12
	if r := newPageRow(New(in).row(New(in).Comparisons[4]), true); few.Verdict != detect.NotEnoughData || r.Interval != "61 of 1200 requests" || r.Sure {
		t.Errorf("%+v", r)
	}
}

// What did not rise: by hand from the bounds of the scenario's rows, 0.8 times the upper ends 2.3
// and 13.4 %.
func TestLimits(t *testing.T) {
	v := NewView(New(regressed()))
	want := Limits{Signals: []string{"latency", "retries"}, Rows: []Limit{{"GET /v1/cart", []string{"+1.8 %", "+10.7 %"}}}}
	if !reflect.DeepEqual(v.Flat, want) {
		t.Errorf("%+v, want %+v", v.Flat, want)
	}
}

// The strip holds the controls of the worst row's signal: two of the three, the third is not p99.
func TestControlStrip(t *testing.T) {
	s := New(regressed()).controlStrip()
	if s == nil || !slices.Equal(s.Others, []float64{-0.094, 0.005}) || s.Here != 1.01 {
		t.Fatalf("%+v", s)
	}
	if want := "p99 of the controls changed by -9.4 % to +0.5 %, that of POST /v1/payments/authorize by +101 %"; s.Label != want {
		t.Errorf("%q, want %q", s.Label, want)
	}
	if got := strings.Count(s.HTML(), "h.1"); got != 3 {
		t.Errorf("%d dots, want 3", got)
	}
	in := regressed()
	for i := range in.Judgement.Rows {
		if r := &in.Judgement.Rows[i]; r.Verdict == detect.Improved {
			r.Change.Detectable = 1.02 // one of the two would have missed a rise of 101 %
		}
	}
	if s := New(in).controlStrip(); s == nil || !slices.Equal(s.Others, []float64{0.005}) {
		t.Errorf("%+v", s)
	}
	if New(scenarios()["no-regression"]).controlStrip() != nil {
		t.Error("a strip without a regression")
	}
}

// A report of 10,000 comparisons is a page of at most 5 MB, with every row in it.
func TestLargeReport(t *testing.T) {
	r := New(large(10_000, 60))
	page := HTML(r, HTMLOptions{})
	if len(page) > 5_000_000 {
		t.Errorf("%d bytes", len(page))
	}
	table, _, _ := strings.Cut(string(page), `<section aria-labelledby="why">`)
	if n := strings.Count(table, `<th scope="row"`); n != 10_000 {
		t.Errorf("%d rows", n)
	}
	// Glyphs and the pictures of rows that are not in pages; not one for each row.
	if n := strings.Count(string(page), "<svg"); n > 1500 {
		t.Errorf("%d pictures", n)
	}
	if md := Markdown(r); len(md) > 65_536 {
		t.Errorf("a comment of %d bytes is refused", len(md))
	}
}

func TestLinks(t *testing.T) {
	w := [2]time.Time{deployed, deployed.Add(time.Hour)}
	got, err := url.Parse(Links{Prometheus: "https://u:p@prom.example.com/x/?q=1"}.prometheus(`a{b="c d&e"}`, w))
	if err != nil || got.Host != "prom.example.com" || got.User != nil || got.Path != "/x/graph" || got.Query().Get("g0.expr") != `a{b="c d&e"}` || got.Query().Get("g0.range_input") != "3600s" {
		t.Errorf("link %v, %v", got, err)
	}
	got, err = url.Parse(Links{Grafana: "https://g.example.com"}.grafana(`a{b="c d&e"}`, w))
	var panes map[string]struct {
		Queries []struct{ Expr string }
		Range   struct{ From, To string }
	}
	if err != nil || json.Unmarshal([]byte(got.Query().Get("panes")), &panes) != nil || panes["driftwatch"].Queries[0].Expr != `a{b="c d&e"}` || panes["driftwatch"].Range.To != "1773241330000" {
		t.Errorf("link %v, %v", got, err)
	}
	for _, bad := range []string{"", "javascript:alert(1)", "data:text/html,x", "//host", "ftp://host"} {
		if s := (Links{bad, bad}).prometheus("a", w) + (Links{bad, bad}).grafana("a", w); s != "" {
			t.Errorf("%q makes the link %s", bad, s)
		}
	}
}

// Pictures are numbers to look at: a report says the same without them.
func TestPicturesJudgeNothing(t *testing.T) {
	in := scenarios()["verified"]
	if with, without := picture(in), New(in); !bytes.Equal(with.JSON(), without.JSON()) || Text(with, TextOptions{}) != Text(without, TextOptions{}) {
		t.Error("a report with pictures says something else")
	}
	r := picture(in)
	b, err := r.Pictures.JSON()
	if err != nil {
		t.Fatal(err)
	}
	again := New(in)
	if again.Pictures, err = ParsePictures(b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(HTML(again, HTMLOptions{}), HTML(r, HTMLOptions{})) {
		t.Error("stored pictures draw another page")
	}
	for _, bad := range []string{"", "{", `{"step_s":0}`, `{"step_s":60,"columns":2,"rows":[{"kind":"ratio","values":[[1,2]]}]}`, `{"step_s":60,"columns":2,"rows":[{"kind":"gauge","values":[[1]]}]}`, `{"step_s":60,"columns":1,"rows":[{"kind":"histogram","values":[[1]]}]}`, `{"step_s":60,"columns":1,"rows":[{"kind":"histogram","bounds":[2,1],"values":[[1],[1],[1]]}]}`, `{"step_s":60,"columns":1,"exposure":[{"values":[]}]}`, `{"step_s":60,"columns":1000000000}`} {
		if _, err := ParsePictures([]byte(bad)); err == nil {
			t.Errorf("ParsePictures(%s) takes it", bad)
		}
	}
}
