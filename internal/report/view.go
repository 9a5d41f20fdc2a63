package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/driftwatch/driftwatch/internal/report/plot"
)

// A View is what every format shows of a report: the numbers as they are printed, the
// sentences, the order. Formats lay it out and compute nothing, so that no two of them can
// say different things about the same upgrade.
type View struct {
	r *Report

	Title   string // the upgrade and its verdict, on one line
	Subject string // service and version
	Service string
	Change  string // "2.41.3 → 2.42.0"
	When    string // of the upgrade, in full; "" where none was found
	Tone    string // key of the verdict: reg, und, cnc, imp, eqv or ins
	Badges  []Badge

	Headline string   // one sentence
	Said     []Badge  // what a person said last; none or one
	Lede     []string // what follows it
	Urgent   []string // commands that a person should run now
	Tiles    []Tile
	Status   []string // for stakeholders: no flag names, no statistics

	Steps []Step // the case, in time
	Facts []Fact

	Rows   []Row   // all comparisons, worst first
	Groups []Group // the same by verdict

	For, Against, Open []Reason // evidence; what is left open

	Flat     Limits // what did not rise
	Improved []Row
	Rollback string // what turning the flag off, or rolling back, would cost; "" = nothing known
	Excluded []Reasoned
	Lacking  []Reasoned

	Overrule []Command
	Warnings []string
	Next     Command
	Source   []Fact
	Queries  []string
}

// A Badge is a step of the verdict line: shape and words.
type Badge struct{ Key, Text string }

// A Tile is one of the facts above the fold.
type Tile struct{ Name, Big, Text string }

// A Fact is a name and what it is.
type Fact struct{ Name, Text string }

// A Step is one event of the case.
type Step struct {
	Name  string
	At    time.Time
	Clock string // "" where it has no time of its own
	After string // since the step before: "+15 min 20 s"
	Text  string
	Key   string // dep, ons, reg, off, imp, und or ins: its colour
	Open  bool   // not done, or not known: drawn dashed
}

// A Group is the rows with one verdict.
type Group struct {
	Verdict    Verdict
	Key        string
	Title, Why string
	Rows       []Row
}

// A Row is one comparison as it is printed.
type Row struct {
	Verdict  Verdict
	Key      string // of the verdict
	Word     string // the verdict in words
	Endpoint string
	Signal   string
	Values   string // "390 → 784 ms"
	Change   string // "+101 %", "?" where it cannot be had
	Interval string // "+92 to +109 %", "at least +92 %", "" where there is none
	Q        string
	Onset    string // after the upgrade
	Requests string // "80 393 / 22 538", before and after
	Note     string // what is lacking, or why
	c        Comparison
}

// A Reason is a fact for or against the upgrade as the cause.
type Reason struct {
	Text  string
	Strip *plot.Strip // the changes that it is about, drawn; nil where there are none
}

// Limits are how far the endpoints without a meaningful rise can have risen, a column for each
// signal.
type Limits struct {
	Signals []string
	Rows    []Limit
}

// A Limit is one endpoint of Limits: of each signal "+4.6 %", or the verdict where a rise is not
// excluded, "" where it is not compared.
type Limit struct {
	Endpoint string
	Cells    []string
}

// A Reasoned is a row and why it stands where it stands.
type Reasoned struct {
	Row
	Why string
}

// A Command is something to run, and what it does.
type Command struct{ Title, Text, Line string }

// keyOf is the short name of a verdict that formats hang shape and colour on.
func keyOf(v Verdict) string {
	switch v {
	case Regressed:
		return "reg"
	case Improved:
		return "imp"
	case NoMeaningfulRise:
		return "eqv"
	case NotEnoughData:
		return "ins"
	case CouldNotCheck:
		return "cnc"
	}
	return "und"
}

// wordOf is a verdict of a comparison in words.
func wordOf(c Comparison) string {
	switch {
	case c.Verdict == Regressed:
		return "regressed"
	case c.Verdict == Improved:
		return "improved"
	case c.Verdict == NoMeaningfulRise:
		return "no meaningful rise"
	case c.Verdict == NotEnoughData:
		return "not enough data"
	case c.Verdict == CouldNotCheck:
		return "could not check"
	case c.Verdict == PreExisting:
		return "began before"
	case c.Verdict == Transient:
		return "went away by itself"
	case c.Suspected:
		return "suspected"
	}
	return "undecided"
}

// NewView computes what is shown of r.
func NewView(r *Report) *View {
	v := &View{
		r: r, Subject: r.subject(), Service: r.service(), Tone: keyOf(r.Verdict),
		Title: r.statusLine(), Queries: r.Provenance.Queries,
	}
	if d := r.Deploy; d != nil {
		v.Change = versions(string(d.From), string(d.To))
		v.When = day(r.reference())
	}
	if said := r.Said; said != nil {
		key := "ok"
		switch {
		case said.Problem != "":
			key = "cnc"
		case said.FalseAlarm:
			key = "no"
		}
		v.Said = []Badge{{key, said.text()}}
	}
	for _, c := range r.Comparisons {
		v.Rows = append(v.Rows, r.row(c))
	}
	v.group()
	v.badges()
	v.say()
	v.tiles()
	v.Status = r.stakeholders()
	v.Steps = r.steps()
	v.facts()
	v.evidence()
	v.limits()
	v.excluded()
	v.commands()
	v.warnings()
	return v
}

func (r *Report) row(c Comparison) Row {
	out := Row{
		Verdict: c.Verdict, Key: keyOf(c.Verdict), Word: wordOf(c), Endpoint: r.endpoint(c), Signal: r.signal(c),
		Values: between(c.Baseline, c.Post, c.Unit, " → "), Change: change(c.Change.Ratio), Interval: interval(c.Change.CI99, " to "),
		Q: rank(c.Q), Onset: "", Requests: "", c: c,
	}
	if o := c.Onset; o != nil && o.AfterDeployS.Known() {
		out.Onset = offset(seconds(float64(o.AfterDeployS)))
	}
	if c.Baseline.Requests.Known() || c.Post.Requests.Known() {
		out.Requests = count(c.Baseline.Requests) + " / " + count(c.Post.Requests)
	}
	switch c.Verdict {
	case NotEnoughData:
		out.Note = r.needs(c)
	case NoMeaningfulRise, Undecided:
		if c.Change.Bound95.Known() {
			out.Note = "at most " + change(c.Change.Bound95)
		}
	case CouldNotCheck:
		out.Note = cut(printable(string(c.Note)), 200)
	}
	return out
}

// rank is a p or q value.
func rank(x Number) string {
	switch {
	case !x.Known():
		return ""
	case x < 0.0001:
		return "< 0.0001"
	case x < 0.1:
		return fmt.Sprintf("%.2g", float64(x))
	}
	return fmt.Sprintf("%.2f", float64(x))
}

// offset is a signed span: "+1 min".
func offset(d time.Duration) string {
	if d < 0 {
		return span(d)
	}
	return "+" + span(d)
}

func (v *View) group() {
	groups := []Group{
		{Verdict: Regressed, Title: "Regressed", Why: "a rise beyond the smallest change that matters, confirmed"},
		{Verdict: CouldNotCheck, Title: "Could not check", Why: "nothing is known about these"},
		{Verdict: Undecided, Title: "Undecided", Why: "a rise can be neither confirmed nor excluded"},
		{Verdict: PreExisting, Title: "Began before the upgrade", Why: "risen, and not blamed on it"},
		{Verdict: Transient, Title: "Went away by itself", Why: "risen for a while, and not any more"},
		{Verdict: Improved, Title: "Improved", Why: "a fall beyond chance"},
		{Verdict: NoMeaningfulRise, Title: "No meaningful rise", Why: "a rise beyond the smallest change that matters is excluded at 95 %"},
		{Verdict: NotEnoughData, Title: "Not enough data", Why: "too little to tell either way"},
	}
	for _, g := range groups {
		g.Key = keyOf(g.Verdict)
		for _, row := range v.Rows {
			if row.Verdict == g.Verdict {
				g.Rows = append(g.Rows, row)
			}
		}
		if g.Verdict == Undecided {
			if looks := v.r.Looks; looks != nil && !looks.Next.IsZero() {
				g.Why += " yet; next look " + clock(looks.Next.Time, v.r.reference()) + " UTC"
			}
			slices.SortStableFunc(g.Rows, func(a, b Row) int {
				switch {
				case a.c.Suspected == b.c.Suspected:
					return 0
				case a.c.Suspected:
					return -1
				}
				return 1
			})
		}
		if len(g.Rows) > 0 {
			v.Groups = append(v.Groups, g)
		}
	}
}

// capital is s with a capital first letter.
func capital(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(first)) + s[size:]
}

func (v *View) badges() {
	r := v.r
	v.Badges = append(v.Badges, Badge{v.Tone, capital(verdictWords(r))})
	for _, w := range r.actionWords() {
		key := "dry"
		switch {
		case strings.Contains(w, "needs a person"):
			key = "cnc"
		case strings.Contains(w, "off"):
			key = "off"
		}
		v.Badges = append(v.Badges, Badge{key, capital(w)})
	}
	if w := r.recoveryWords(); w != "" {
		key := map[string]string{Recovered: "ok", RecoveryWatching: "watch"}[r.Recovery.State]
		v.Badges = append(v.Badges, Badge{orElse(key, "cnc"), capital(w)})
	}
	if looks := r.Looks; r.Verdict == Undecided && looks != nil && !looks.Next.IsZero() {
		v.Badges = append(v.Badges, Badge{"watch", fmt.Sprintf("Look %d of %d", looks.Made, looks.Of)})
	}
}

// say fills in the headline and what follows it.
func (v *View) say() {
	r := v.r
	var s []string
	switch r.Verdict {
	case Regressed:
		rows := r.of(Regressed)
		v.Headline = r.blame(rows[0]) + "."
		if urgent := r.urgent(); len(urgent) > 0 {
			a := urgent[0]
			v.Headline = "The flag may still be on. A person is needed."
			if a.Outcome == Failed {
				v.Headline = "The flag could not be turned off. A person is needed."
			}
			flag := Quote(string(a.Flag))
			v.Urgent = append(v.Urgent, "driftwatch flags verify "+flag)
			if a.Outcome == WrittenNotVerified {
				v.Urgent = append(v.Urgent, "driftwatch flags restore "+flag)
			}
			s = append(s, r.actionText(a), sentence(r.blame(rows[0])))
		}
		if len(v.Urgent) == 0 {
			v.Headline += r.ending()
		}
		for _, c := range rows[:min(3, len(rows))] {
			s = append(s, sentence(r.moved(c)))
		}
		if n := len(rows) - 3; n > 0 {
			s = append(s, fmt.Sprintf("%d more %s confirmed.", n, plural(n, "rise is", "rises are")))
		}
		if n := len(r.Comparisons) - len(rows); n > 0 {
			s = append(s, fmt.Sprintf("%d of %d comparisons show no confirmed rise.", n, len(r.Comparisons)))
		}
	case CouldNotCheck:
		s = r.couldNotCheckText()
		if f := r.Failure; f != nil {
			s = append(s, oneLine(f.Detail), oneLine(f.Remedy))
		}
	case NotEnoughData:
		s = r.notEnoughText()
	case Undecided:
		s = r.undecidedText()
	default:
		s = r.noRegressionText()
	}
	s = slices.DeleteFunc(s, func(x string) bool { return x == "" })
	if v.Headline == "" && len(s) > 0 {
		v.Headline, s = s[0], s[1:]
	}
	v.Lede = s
}

// oneLine is s, printable, its lines joined.
func oneLine(s string) string {
	return strings.TrimSpace(printable(strings.Join(strings.Fields(s), " ")))
}

// blame is the short headline: "Card authorisation became slower after checkout-api 2.42.0".
func (r *Report) blame(c Comparison) string {
	head, _, _ := strings.Cut(r.headline(c), ": ")
	return head
}

// ending is what was done about a regression and how it went on, as a sentence with a space
// before it.
func (r *Report) ending() string {
	off := slices.ContainsFunc(r.actionsLast(), func(a Action) bool { return a.Outcome == Verified })
	switch {
	case off && r.Recovery.State == Recovered:
		return " The flag is off and the numbers have recovered."
	case off && r.Recovery.State == NotRecovered:
		return " The flag is off, and the numbers did not come back."
	case off && r.Recovery.State == RecoveryWatching:
		return " The flag is off; whether the numbers come back is being watched."
	case off:
		return " The flag is off."
	case slices.ContainsFunc(r.actionsLast(), func(a Action) bool { return a.Outcome == DryRun }):
		return " Nothing was changed: this was a dry run."
	case slices.ContainsFunc(r.actionsLast(), func(a Action) bool { return a.Reason == ReasonPersonRestored }):
		return " A person turned the flag on again, so it is left to them."
	}
	return " No flag was turned off."
}

// urgent are the actions after which a flag is in a state that nobody knows.
func (r *Report) urgent() []Action {
	return slices.DeleteFunc(r.actionsLast(), func(a Action) bool { return a.Outcome != WrittenNotVerified && a.Outcome != Failed })
}

func (v *View) tiles() {
	r := v.r
	if r.Verdict == Regressed {
		v.regressedTiles(r.of(Regressed))
		return
	}
	if len(r.Comparisons) == 0 {
		return
	}
	v.Tiles = append(v.Tiles, Tile{"Compared", count(Number(len(r.Comparisons))) + " " + plural(len(r.Comparisons), "comparison", "comparisons"), fmt.Sprintf("%d %s, %s", r.endpoints(), plural(r.endpoints(), "endpoint", "endpoints"), list(r.signals()))})
	if n := r.count(NoMeaningfulRise) + r.count(Improved); n > 0 {
		text := "larger rises are excluded at 95 %"
		if b := r.bounds(); b != "" {
			text += ": " + b
		}
		v.Tiles = append(v.Tiles, Tile{"No rise that matters", "in " + count(Number(n)), text})
	}
	if rows := r.open(); len(rows) > 0 {
		t := Tile{"Open", fmt.Sprint(len(rows)), "the last look is over"}
		if r.Looks != nil && !r.Looks.Next.IsZero() {
			t.Text = strings.TrimSuffix(r.nextLook(), ".")
		}
		v.Tiles = append(v.Tiles, t)
	}
	if n := r.count(NotEnoughData) + r.count(CouldNotCheck); n > 0 {
		v.Tiles = append(v.Tiles, Tile{"Could not be judged", fmt.Sprint(n), "nothing is known about these, which is not the same as no rise"})
	}
	if n := r.Calibration.Placebos; n > 0 {
		v.Tiles = append(v.Tiles, Tile{"Ranked among", count(Number(n)) + " placebo deploys", count(Number(r.Calibration.Pooled)) + " pooled, from " + r.history()})
	}
}

func (r *Report) history() string {
	if r.Calibration.History == "generated" {
		return "the service's generated history"
	}
	return "the service's own history"
}

// endpoints is how many endpoints are compared, signals what of them.
func (r *Report) endpoints() int {
	seen := map[string]bool{}
	for _, c := range r.Comparisons {
		seen[c.Endpoint] = true
	}
	return len(seen)
}

func (r *Report) signals() []string {
	var out []string
	for _, c := range r.Comparisons {
		if s := r.signal(c); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

func (v *View) regressedTiles(rows []Comparison) {
	r, c := v.r, rows[0]
	row := r.row(c)
	text := row.Values
	if n := r.endpointsOf(rows); n > 0 {
		text += fmt.Sprintf(", %d of %d endpoints", n, r.endpoints())
	}
	texts := []string{text}
	for _, other := range rows[1:] {
		if other.Endpoint == c.Endpoint {
			texts = append(texts, r.signal(other)+" "+change(other.Change.Ratio))
		}
	}
	v.Tiles = append(v.Tiles, Tile{"What", row.Change + " " + row.Signal, strings.Join(texts, "; ")})

	sure := Tile{"How sure", "confirmed", ""}
	var facts []string
	if near, ok := nearer(c.Change); ok {
		sure.Big = near
	}
	if row.Interval != "" && row.Interval != sure.Big {
		facts = append(facts, "99 % interval "+row.Interval)
	}
	if row.Q != "" {
		facts = append(facts, "q "+row.Q)
	}
	if n := r.Calibration.Placebos; n > 0 {
		facts = append(facts, "ranked among "+count(Number(n))+" placebo deploys")
	}
	sure.Text = strings.Join(facts, "; ")
	v.Tiles = append(v.Tiles, sure)

	if o := c.Onset; o != nil && !o.Time.IsZero() {
		text := "the upgrade was complete " + clock(r.reference(), r.reference())
		if o.AfterDeployS.Known() {
			text = "at the upgrade"
			if o.AfterDeployS != 0 {
				text = span(seconds(math.Abs(float64(o.AfterDeployS)))) + " " + map[bool]string{true: "after", false: "before"}[o.AfterDeployS > 0] + " the upgrade"
			}
		}
		if !o.CI[0].IsZero() && !o.CI[1].IsZero() {
			text += ", between " + clock(o.CI[0].Time, r.reference()) + " and " + clock(o.CI[1].Time, r.reference())
		}
		v.Tiles = append(v.Tiles, Tile{"Since", clock(o.Time.Time, r.reference()) + " UTC", text})
	}
	if t, ok := r.felt(c); ok {
		v.Tiles = append(v.Tiles, t)
	}
	v.Tiles = append(v.Tiles, r.done())
}

// nearer is the end of the interval that is nearer to no change: "at least +92 %".
func nearer(c Change) (string, bool) {
	switch low, high := c.CI99[0], c.CI99[1]; {
	case c.Ratio > 0 && low.Known() && low > 0:
		return "at least " + change(low), true
	case c.Ratio < 0 && high.Known() && high < 0:
		return "at least " + change(high), true
	}
	return "", false
}

func (r *Report) endpointsOf(rows []Comparison) int {
	seen := map[string]bool{}
	for _, c := range rows {
		seen[c.Endpoint] = true
	}
	return len(seen)
}

// extra is how many events of the post window are beyond what the baseline's rate gives.
func extra(c Comparison) (events, requests float64, ok bool) {
	b, p := c.Baseline, c.Post
	for _, n := range []Number{b.Events, b.Requests, p.Events, p.Requests} {
		if !n.Known() {
			return 0, 0, false
		}
	}
	if b.Requests <= 0 || p.Requests <= 0 {
		return 0, 0, false
	}
	events = float64(p.Events) - float64(p.Requests)*float64(b.Events)/float64(b.Requests)
	return events, float64(p.Requests), events >= 1
}

// twoDigits is a derived count, rounded to two digits.
func twoDigits(x float64) string {
	if x >= 100 {
		scale := math.Pow(10, math.Floor(math.Log10(x))-1)
		x = math.Round(x/scale) * scale
	}
	return count(Number(x))
}

// felt is who felt the regression: the events beyond those that the baseline's rate gives.
func (r *Report) felt(c Comparison) (Tile, bool) {
	events, requests, ok := extra(c)
	if !ok {
		return Tile{}, false
	}
	if c.Kind != "histogram" {
		return Tile{"Who felt it", "about " + twoDigits(events) + " " + cut(printable(c.Signal), 30), "more than usual, in " + count(Number(requests)) + " requests after the upgrade"}, true
	}
	bound := "the bound that is counted from"
	if p := r.Pictures.of(c.Labels, c.Signal); p != nil && p.Tail > 0 && c.Metric == "tail" {
		digits, unit := split(p.Tail, "s")
		bound = digits + unit
	}
	return Tile{
		"Who felt it", "about " + twoDigits(events) + " requests",
		fmt.Sprintf("of %s after the upgrade took longer than %s beyond the usual %s", count(Number(requests)), bound, share(float64(c.Baseline.Events)/float64(c.Baseline.Requests))),
	}, true
}

// done is the tile on what was done.
func (r *Report) done() Tile {
	t := Tile{"Done", "nothing", "no flag was turned off"}
	actions := r.actionsLast()
	slices.SortStableFunc(actions, func(a, b Action) int { return urgency(a) - urgency(b) })
	if len(actions) == 0 {
		return t
	}
	a := actions[0]
	t.Text = strings.TrimSuffix(r.actionText(a), ".")
	switch a.Outcome {
	case Verified:
		t.Big = "flag off"
		if !a.At.IsZero() {
			t.Big += " " + clock(a.At.Time, r.reference())
		}
		t.Text = proof(a)
		if !a.At.IsZero() && r.Deploy != nil {
			t.Text += ", " + span(a.At.Sub(r.reference())) + " after the upgrade"
		}
		if s := r.recoveryText(); s != "" {
			t.Text += "; " + lower(strings.TrimSuffix(s, "."))
		}
	case WrittenNotVerified:
		t.Big = "not verified"
	case Failed:
		t.Big = "failed"
	case AlreadyOff:
		t.Big = "already off"
	case DryRun:
		t.Big = "nothing: a dry run"
	}
	return t
}

func lower(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// steps are the case in time.
func (r *Report) steps() []Step {
	d := r.Deploy
	if d == nil {
		return nil
	}
	var out []Step
	add := func(s Step) { out = append(out, s) }
	started := Step{Name: "Rollout began", At: d.Started.Time, Text: versions(string(d.From), string(d.To)), Key: "dep"}
	if d.At.IsZero() {
		if n := r.Needs; n != nil && n.Need > 0 {
			started.Text += ", " + count(n.Have) + " of " + count(n.Need) + " targets so far"
		}
		add(started)
		return r.timed(out)
	}
	deployed := Step{Name: "Deployed", At: d.At.Time, Text: versions(string(d.From), string(d.To)) + ", found by " + printable(d.FoundBy), Key: "dep"}
	if d.FoundBy == "flag" {
		deployed.Text = strings.TrimSuffix(deployed.Text, ", found by flag") + ", as told by --at"
	}
	if !d.Started.IsZero() && !d.Started.Equal(d.At.Time) {
		add(started)
		deployed.Text = "every live target runs the new version"
	}
	add(deployed)
	rows := r.of(Regressed)
	if len(rows) > 0 {
		c := rows[0]
		if o := c.Onset; o != nil && !o.Time.IsZero() {
			s := Step{Name: "Onset", At: o.Time.Time, Text: r.signal(c) + " began to rise", Key: "ons"}
			if c.Change.Ratio < 0 {
				s.Text = r.signal(c) + " began to fall"
			}
			if !o.CI[0].IsZero() && !o.CI[1].IsZero() {
				s.Text += "; 99 % interval " + clock(o.CI[0].Time, r.reference()) + " to " + clock(o.CI[1].Time, r.reference())
			}
			add(s)
		}
		var at time.Time
		for _, c := range rows {
			if !c.RegressedAt.IsZero() && (at.IsZero() || c.RegressedAt.Before(at)) {
				at = c.RegressedAt.Time
			}
		}
		if !at.IsZero() {
			add(Step{Name: "Confirmed", At: at, Text: fmt.Sprintf("the first look that confirms a rise; %d %s by now", len(rows), plural(len(rows), "comparison", "comparisons")), Key: "reg"})
		}
	}
	for _, a := range r.actionsLast() {
		out = append(out, r.actionSteps(a)...)
	}
	switch rec := r.Recovery; rec.State {
	case Recovered:
		s := Step{Name: "Recovered", At: rec.Confirmed.Time, Text: "in the usual range", Key: "imp"}
		if !rec.Since.IsZero() {
			s.Text += " since " + clock(rec.Since.Time, r.reference())
		}
		add(s)
	case RecoveryNone:
	default:
		add(Step{Name: capital(r.recoveryWords()), Text: r.recoveryText(), Key: "imp", Open: true})
	}
	if looks := r.Looks; len(rows) == 0 && looks != nil && looks.Made > 0 {
		s := Step{Name: fmt.Sprintf("Look %d of %d", looks.Made, looks.Of), At: r.Now.Time, Text: "nothing confirmed", Key: "und"}
		if r.Verdict == NoMeaningfulRise || r.Verdict == Improved {
			s.Key = "eqv"
		}
		add(s)
		if !looks.Next.IsZero() {
			add(Step{Name: "Next look", At: looks.Next.Time, Text: "last look " + clock(looks.Last.Time, r.reference()), Key: "ins", Open: true})
		}
	}
	return r.timed(out)
}

func (r *Report) actionSteps(a Action) []Step {
	switch a.Outcome {
	case Verified, WrittenNotVerified:
		off := Step{Name: "Flag off", At: a.At.Time, Text: flagName(a) + revisions(a), Key: "off"}
		proved := Step{Name: capital(verifiedWords(a)), Key: "imp"}
		if e := a.Evaluations; e != nil {
			proved.Text = fmt.Sprintf("%d of %d evaluations", e.Off, e.Total)
		}
		if a.VerifiedAfterS != nil && !a.At.IsZero() {
			proved.At = a.At.Add(seconds(*a.VerifiedAfterS))
		}
		if a.Outcome == WrittenNotVerified {
			proved.Name, proved.Open, proved.Key, proved.Text = "Not verified off", true, "reg", doubt(a)
		}
		return []Step{off, proved}
	case DryRun:
		return []Step{{Name: "Would turn off", Text: flagName(a) + "; missing consent: " + list(a.Missing), Key: "off", Open: true}}
	}
	return []Step{{Name: capital(strings.ReplaceAll(string(a.Outcome), "_", " ")), Text: strings.TrimSuffix(r.actionText(a), "."), Key: "ins", Open: true}}
}

// timed puts steps into their order and says how far apart they are. Steps without a time of
// their own stay where they are.
func (r *Report) timed(steps []Step) []Step {
	for i := 1; i < len(steps); i++ {
		for j := i; j > 0 && !steps[j].At.IsZero() && !steps[j-1].At.IsZero() && steps[j].At.Before(steps[j-1].At); j-- {
			steps[j], steps[j-1] = steps[j-1], steps[j]
		}
	}
	var last time.Time
	for i := range steps {
		s := &steps[i]
		if s.At.IsZero() {
			continue
		}
		s.Clock = clock(s.At.Truncate(100*time.Millisecond), r.reference())
		if !last.IsZero() {
			s.After = offset(s.At.Sub(last))
		}
		last = s.At
	}
	return steps
}

func (v *View) facts() {
	r := v.r
	add := func(name, text string) {
		if text != "" {
			v.Facts = append(v.Facts, Fact{name, text})
		}
	}
	add("Service", r.service())
	add("Version", v.Change)
	if d := r.Deploy; d != nil {
		text := day(r.reference())
		if !d.Started.IsZero() && !d.At.IsZero() && !d.Started.Equal(d.At.Time) {
			text += ", rollout since " + clock(d.Started.Time, r.reference())
		}
		add("Deploy", text)
	}
	if w := r.Windows; w != nil {
		add("Baseline", clock(w.Baseline[0].Time, r.reference())+" to "+clock(w.Baseline[1].Time, r.reference())+" UTC")
		if w.Post != nil {
			post := clock(w.Post[0].Time, r.reference()) + " to " + clock(w.Post[1].Time, r.reference()) + " UTC"
			if slices.ContainsFunc(r.actionsLast(), func(a Action) bool {
				return a.Outcome == Verified && !a.At.IsZero() && a.At.Before(w.Post[1].Time)
			}) {
				post += ", behind the flag until it went off"
			}
			add("Post-upgrade", post)
		}
		add("Settle time", span(seconds(w.GuardS))+", left out of the comparison")
		if w.GuardS == 0 {
			v.Facts[len(v.Facts)-1].Text = "none"
		}
		add("Steps", "of "+span(seconds(w.StepS)))
	}
	if n := len(r.Comparisons); n > 0 {
		add("Compared", fmt.Sprintf("%d %s: %d %s, %s", n, plural(n, "comparison", "comparisons"), r.endpoints(), plural(r.endpoints(), "endpoint", "endpoints"), list(r.signals())))
	}
	if p := r.Path; p != nil {
		text := strings.TrimSpace(printable(string(p.From)) + " to " + printable(string(p.To)))
		if p.Notes != "" {
			text += "; " + cut(printable(string(p.Notes)), 400)
		}
		add("Known upgrade path", text)
	}

	source := func(name, text string) {
		if text != "" {
			v.Source = append(v.Source, Fact{name, text})
		}
	}
	cal := r.Calibration
	text := "tier " + cal.Tier
	if cal.Placebos > 0 {
		text += ": " + count(Number(cal.Placebos)) + " placebo deploys of the endpoint with the fewest, " + count(Number(cal.Pooled)) + " pooled, from " + r.history()
	}
	text += "; season " + printable(cal.Season) + fmt.Sprintf("; %d control %s", cal.Controls, plural(cal.Controls, "endpoint", "endpoints"))
	source("Calibration", text)
	source("Method", "counts per step against placebo deploys, Benjamini-Hochberg over the endpoints, every look counted (docs/statistics.md)")
	source("Rule", printable(r.Provenance.Rule)+", sha256 "+cut(printable(r.Provenance.RuleSHA256), 65))
	st := r.Stats
	cost := fmt.Sprintf("%d %s, %s samples in %s", st.Queries, plural(st.Queries, "query", "queries"), grouped(fmt.Sprint(st.Samples)), span(seconds(st.QueryS)))
	if st.ReadPath != "" {
		cost += ", " + printable(string(st.ReadPath))
	}
	source("Read", cost)
	source("Judged", day(r.Now.Time)+" by driftwatch "+printable(r.Provenance.Tool)+", report "+cut(printable(r.ID), 120))
}

func (v *View) evidence() {
	r := v.r
	for _, e := range r.Evidence {
		text := sentence(cut(printable(e.Text), 600))
		reason := Reason{Text: text}
		if e.ID == controlsUnchanged {
			reason.Strip = r.controlStrip()
		}
		if e.Holds {
			v.For = append(v.For, reason)
		} else {
			v.Against = append(v.Against, reason)
		}
	}
	if r.Verdict == Regressed {
		for _, text := range r.unruled() {
			v.Open = append(v.Open, Reason{Text: text})
		}
	}
}

// controlStrip are the changes of the control endpoints beside that of the worst row, in its
// signal; nil where there is no regression, or no such control. Controls with so little traffic
// that a rise of that size would probably be missed are left out: theirs is noise.
func (r *Report) controlStrip() *plot.Strip {
	rows := r.of(Regressed)
	if len(rows) == 0 || !rows[0].Change.Ratio.Known() {
		return nil
	}
	worst := rows[0]
	s := &plot.Strip{Here: float64(worst.Change.Ratio), Scale: changeScale()}
	low, high := math.Inf(1), math.Inf(-1)
	for _, c := range r.Comparisons {
		x, size := float64(c.Change.Ratio), math.Abs(float64(worst.Change.Ratio))
		if c.Control && c.Signal == worst.Signal && !math.IsNaN(x) && float64(c.Change.Detectable) <= size {
			s.Others = append(s.Others, x)
			low, high = min(low, x), max(high, x)
		}
	}
	if len(s.Others) == 0 {
		return nil
	}
	for _, t := range changeTicks() {
		s.Ticks = append(s.Ticks, plot.Tick{At: t.At, Text: minus(t.Text) + " %"})
	}
	s.Words = fmt.Sprintf("Grey: the %d in which a rise like this would be found.", len(s.Others))
	s.Label = fmt.Sprintf("%s of the controls changed by %s to %s, that of %s by %s",
		r.signal(worst), change(Number(low)), change(Number(high)), middle(r.endpoint(worst), maxName), change(worst.Change.Ratio))
	return s
}

// limits fills in Flat.
func (v *View) limits() {
	flat := map[string]int{}
	for _, row := range v.Rows {
		if signal := printable(row.c.Signal); !slices.Contains(v.Flat.Signals, signal) {
			v.Flat.Signals = append(v.Flat.Signals, signal)
		}
		if _, ok := flat[row.Endpoint]; !ok && row.Verdict == NoMeaningfulRise {
			flat[row.Endpoint] = len(v.Flat.Rows)
			v.Flat.Rows = append(v.Flat.Rows, Limit{Endpoint: row.Endpoint})
		}
	}
	slices.Sort(v.Flat.Signals)
	for i := range v.Flat.Rows {
		v.Flat.Rows[i].Cells = make([]string, len(v.Flat.Signals))
	}
	for _, row := range v.Rows {
		i, ok := flat[row.Endpoint]
		if !ok {
			continue
		}
		cell := row.Word
		if row.Verdict == NoMeaningfulRise {
			cell = change(row.c.Change.Bound95)
		}
		v.Flat.Rows[i].Cells[slices.Index(v.Flat.Signals, printable(row.c.Signal))] = cell
	}
}

// unruled is what cannot be ruled out, from what the report knows it lacks.
func (r *Report) unruled() []string {
	out := []string{"Something else that began at the same time and touches only these endpoints, such as a change in a service that they call, would look the same."}
	c := r.of(Regressed)[0]
	if r.Calibration.Controls == 0 {
		out = append(out, "There were no control endpoints, so what the restart alone does cannot be told from what the new code does.")
	}
	if o := c.Onset; o == nil {
		out = append(out, "When it began cannot be told.")
	} else if !o.CI[0].IsZero() && r.Deploy != nil && o.CI[0].Before(r.Deploy.Started.Time) {
		out = append(out, "The interval of the onset reaches back before the upgrade.")
	}
	if r.Calibration.Season == "none" {
		out = append(out, "The history is too short to take the time of day into account.")
	}
	for _, a := range r.actionsLast() {
		if a.Exposure == nil || a.Exposure.Before == nil {
			out = append(out, fmt.Sprintf("How many requests ran behind %s is not known.", flagName(a)))
		}
		if seen := ownView(a); a.Outcome == Verified && seen != "" {
			out = append(out, "That the flag is off was read in its "+seen+"; the application was not asked.")
		}
	}
	switch r.Recovery.State {
	case RecoveryNone, RecoveryWatching:
		out = append(out, "It has not been seen to go away when the flag went off.")
	case RecoveryUnclear, Superseded:
		out = append(out, "Whether it went away with the flag cannot be told.")
	}
	return out
}

func (v *View) excluded() {
	r := v.r
	for _, row := range v.Rows {
		c := row.c
		switch {
		case c.Verdict == Improved:
			v.Improved = append(v.Improved, row)
		case c.Verdict == PreExisting:
			v.Excluded = append(v.Excluded, Reasoned{row, "began " + c.beforehand() + ", so it is not blamed on it"})
		case c.Verdict == Transient:
			v.Excluded = append(v.Excluded, Reasoned{row, "rose for a while and went away by itself"})
		case c.Verdict == NotEnoughData || c.Verdict == CouldNotCheck:
			v.Lacking = append(v.Lacking, Reasoned{row, row.Note})
		case (c.Verdict == NoMeaningfulRise || c.Verdict == Undecided) && tooSmall(c):
			v.Excluded = append(v.Excluded, Reasoned{row, "beyond chance, and smaller than what the rule says matters (" + share(float64(c.Change.MinimumEffect)) + ")"})
		}
	}
	if len(v.Improved) == 0 {
		return
	}
	from := "the version before"
	if d := r.Deploy; d != nil && d.From != "" {
		from = cut(printable(string(d.From)), 40)
	}
	behind := 0
	for _, row := range v.Improved {
		if row.c.Flag != "" {
			behind++
		}
	}
	v.Rollback = "Rolling back to " + from + " would probably give these up."
	switch {
	case behind == 0:
		v.Rollback += " None of them is behind a flag of the rule, so turning a flag off keeps them."
	case behind == len(v.Improved):
		v.Rollback += " They are behind a flag of the rule: turning it off may cost them, too."
	default:
		v.Rollback += fmt.Sprintf(" %d of %d are behind a flag of the rule: turning it off may cost them, too.", behind, len(v.Improved))
	}
}

// tooSmall reports whether a change is beyond chance and below what matters.
func tooSmall(c Comparison) bool {
	x := c.Change
	return x.Ratio.Known() && x.Ratio > 0 && x.CI99[0].Known() && x.CI99[0] > 0 && x.MinimumEffect.Known() && x.Ratio < x.MinimumEffect
}

// commands are what a person runs who disagrees, and the next step of one who does not.
func (v *View) commands() {
	r := v.r
	for _, a := range r.actionsLast() {
		flag := Quote(string(a.Flag))
		switch a.Outcome {
		case Verified, WrittenNotVerified:
			v.Overrule = append(v.Overrule, Command{"Turn the flag back on", "Undoes exactly what was written, if nobody has changed the flag since; driftwatch then leaves it to you.", "driftwatch flags restore " + flag})
		case DryRun:
			line := "driftwatch flags off " + flag
			if rev := a.Revision[0]; rev != "" {
				line += " --revision " + Quote(string(rev))
			}
			v.Overrule = append(v.Overrule, Command{"Turn the flag off yourself", "Writes only if the flag is still as it was read, and proves it.", line})
		case Refused, Failed:
			if a.Flag != "" && a.Reason != ReasonPersonRestored && a.Reason != ReasonAlreadyOff {
				v.Overrule = append(v.Overrule, Command{"Turn the flag off all the same", "If you are sure that it is the cause.", "driftwatch flags off " + flag})
			}
		}
	}
	if r.Deploy != nil && !r.Deploy.At.IsZero() && r.Failure == nil {
		v.Overrule = append(v.Overrule, Command{"Compute it again", "The same verdict from the stored inputs, byte for byte. Nothing is read and nothing is changed.", "driftwatch check --replay " + Quote(r.ID)})
	}
	_, step, note := r.next()
	v.Next = Command{Title: "Next", Text: note, Line: step}
}

// Feedback are the commands that tell driftwatch whether it was right.
func (v *View) Feedback() []Command {
	if len(v.Rows) == 0 {
		return nil
	}
	id := Quote(v.r.ID)
	return []Command{
		{"Mark it as a false alarm", "Counts in the calibration figures.", "driftwatch feedback " + id + " false_alarm 'why'"},
		{"Mark it as real", "The incident is left out of later baselines.", "driftwatch feedback " + id + " real"},
	}
}

func (v *View) warnings() {
	for _, w := range v.r.Warnings {
		v.Warnings = append(v.Warnings, warningText(w))
	}
	rows := map[string]int{}
	var names []string
	for _, c := range v.r.Comparisons {
		for _, w := range c.Warnings {
			if rows[w] == 0 {
				names = append(names, w)
			}
			rows[w]++
		}
	}
	slices.Sort(names)
	for _, w := range names {
		v.Warnings = append(v.Warnings, fmt.Sprintf("%d of %d comparisons: %s", rows[w], len(v.r.Comparisons), warningText(w)))
	}
}

// stakeholders is the state in four sentences for people who do not run the service: since
// when and how many felt it, what the check does not cover, what was done, what comes next.
func (r *Report) stakeholders() []string {
	what := r.service()
	if r.Label != "" {
		what = cut(printable(string(r.Label)), maxName)
	}
	head := capital(what) + ", " + clock(r.Now.Truncate(time.Minute), r.reference()) + " UTC: "
	if r.Deploy == nil {
		return []string{head + "no upgrade was seen, so nothing was compared."}
	}
	when := clock(r.reference().Truncate(time.Minute), r.Now.Time)
	if r.Deploy.At.IsZero() {
		return []string{head + "an upgrade began at " + when + " and is still being rolled out.", "Nothing can be said about it yet."}
	}
	var s []string
	switch r.Verdict {
	case Regressed:
		s = append(s, head+r.feltBy(when))
	case CouldNotCheck:
		return []string{head + "whether the upgrade at " + when + " changed anything could not be checked.", "Nothing was changed."}
	case Undecided:
		s = append(s, head+"after the upgrade at "+when+" nothing is confirmed so far, and a change for the worse is not excluded.")
	case NotEnoughData:
		s = append(s, head+"after the upgrade at "+when+" there is too little traffic to tell whether anything changed.")
	default:
		s = append(s, head+"after the upgrade at "+when+" nothing became worse by an amount that matters.")
	}
	s = append(s, "This check covers "+list(r.covered())+", and nothing else.")
	if r.Verdict == Regressed {
		s = append(s, r.doneAbout())
	}
	over := false
	switch r.Recovery.State {
	case Recovered, NotRecovered, RecoveryUnclear, Superseded:
		over = true
	}
	if r.Looks != nil && !r.Looks.Next.IsZero() && !over {
		return append(s, "We look again at "+about(r.Looks.Next.Time, r.Now.Time)+" UTC.")
	}
	return append(s, "The watch of this upgrade is over.")
}

// feltBy is the first sentence on a regression.
func (r *Report) feltBy(when string) string {
	c := r.of(Regressed)[0]
	until := ""
	if r.Recovery.State == Recovered && !r.Recovery.Since.IsZero() {
		until = " until " + clock(r.Recovery.Since.Truncate(time.Minute), r.Now.Time)
	}
	from := when
	if o := c.Onset; o != nil && !o.Time.IsZero() && o.AfterDeployS >= 0 {
		from = clock(o.Time.Truncate(time.Minute), r.Now.Time)
	}
	s := "since " + from
	if until != "" {
		s = "from " + from + until
	}
	s += ", after the upgrade at " + when + ", "
	events, requests, ok := extra(c)
	many := "some requests"
	if ok {
		many = "about " + inHundred(events/requests) + " requests"
	}
	if c.Kind != "histogram" {
		return s + many + " had more " + cut(printable(c.Signal), 30) + " than usual."
	}
	s += many + " were slower than usual"
	if b, a := plainSeconds(c.Baseline), plainSeconds(c.Post); b != "" && a != "" && c.Quantile.Known() {
		s += " (" + slowest(c.Quantile) + ": " + b + " before, " + a + " after)"
	}
	return s + "."
}

// inHundred is a share as people say it: "2 in 100", "3 in 1 000".
func inHundred(x float64) string {
	for _, of := range []float64{100, 1000, 10000} {
		if n := math.Round(x * of); n >= 1 {
			return count(Number(n)) + " in " + grouped(fmt.Sprintf("%.0f", of))
		}
	}
	return "fewer than 1 in 10 000"
}

// plainSeconds is a level in seconds with two digits.
func plainSeconds(l Level) string {
	x, over := l.Value, ""
	if l.AtLeast.Known() {
		x, over = l.AtLeast, "more than "
	}
	if !x.Known() || x <= 0 {
		return ""
	}
	digits := max(0, 1-int(math.Floor(math.Log10(float64(x)))))
	return over + fmt.Sprintf("%.*f s", min(digits, 4), float64(x))
}

// covered are the signals in words for stakeholders.
func (r *Report) covered() []string {
	var out []string
	for _, c := range r.Comparisons {
		name := cut(printable(c.Signal), 30)
		if c.Kind == "histogram" && c.Unit == "s" {
			name = "response times"
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// doneAbout is what was done, without names of flags.
func (r *Report) doneAbout() string {
	actions := r.actionsLast()
	slices.SortStableFunc(actions, func(a, b Action) int { return urgency(a) - urgency(b) })
	if len(actions) == 0 {
		return "Nothing was switched off."
	}
	a, when := actions[0], ""
	if !a.At.IsZero() {
		when = " at " + clock(a.At.Truncate(time.Minute), r.Now.Time)
	}
	switch a.Outcome {
	case Verified:
		s := "The new behaviour was switched off" + when
		switch r.Recovery.State {
		case Recovered:
			return s + ", and the numbers have been in their usual range since " + clock(r.Recovery.Since.Truncate(time.Minute), r.Now.Time) + "."
		case NotRecovered:
			return s + ", but the numbers did not come back."
		case RecoveryWatching:
			return s + "; whether that helps is being watched."
		}
		return s + "."
	case WrittenNotVerified:
		return "The new behaviour was switched off" + when + ", but it is not certain that this has taken effect; a person has to look."
	case Failed:
		return "The new behaviour could not be switched off; a person has to do it."
	case AlreadyOff:
		return "The new behaviour was switched off already."
	}
	return "Nothing was switched off; a person decides."
}
