package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// TextOptions say how text is laid out.
type TextOptions struct {
	Width int  // 80 or 100 columns; 0 = 100
	Color bool // ANSI colours; they repeat what glyph and word say
	ASCII bool // only characters below 128
	All   bool // unfold what is unchanged, and every other group
}

// Lines of each kind that are shown before the rest is folded. A verdict of an upgrade is
// seldom about more endpoints than fit half a screen; service-wide regressions have hundreds,
// and would scroll everything else away.
const (
	maxRegressed = 20
	maxOther     = 5
)

// Text is r for people: the upgrade, the comparisons worst first, what is folded, the verdict
// and the next step. It is made from the report alone, so that a stored one reads the same.
func Text(r *Report, o TextOptions) string {
	if o.Width == 0 {
		o.Width = 100
	}
	p := &page{r: r, o: o}
	p.broken("", p.header())
	p.line("")
	if len(r.Comparisons) > 0 {
		p.table()
		p.line("")
	}
	p.verdict()
	return p.b.String()
}

// A page is a text being written.
type page struct {
	r *Report
	o TextOptions
	b strings.Builder
}

// line writes one line. What it is given must be printable.
func (p *page) line(format string, args ...any) {
	s := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if p.o.ASCII {
		s = ascii(s)
	}
	p.b.WriteString(s + "\n")
}

// broken writes a heading, on more lines where it is wider than the page, in the colour of v
// ("" = none).
func (p *page) broken(v Verdict, s string) {
	if p.o.ASCII {
		s = ascii(s)
	}
	for i, line := range wrap(s, p.o.Width-2) {
		if i > 0 {
			line = "  " + line
		}
		if v != "" {
			line = p.paint(v, line)
		}
		p.line("%s", line)
	}
}

func (p *page) header() string {
	r := p.r
	s := r.service()
	d := r.Deploy
	if d == nil {
		return s + " · no upgrade found"
	}
	if v := versions(string(d.From), string(d.To)); v != "" {
		s += " " + v
	}
	sep := " · "
	if p.o.ASCII {
		sep = ", "
	}
	if d.At.IsZero() {
		return s + sep + "rollout began " + day(d.Started.Time)
	}
	return s + sep + "deployed " + day(d.At.Time)
}

// versions is "2.41.3 → 2.42.0", or as much of it as is known.
func versions(from, to string) string {
	from, to = cut(printable(from), 40), cut(printable(to), 40)
	switch {
	case from != "" && to != "":
		return from + " → " + to
	case to != "":
		return "→ " + to
	}
	return from
}

// glyph is the shape of a verdict, ink its colour.
func glyph(v Verdict) string {
	switch v {
	case Regressed:
		return "▲"
	case Improved:
		return "▼"
	case NoMeaningfulRise:
		return "="
	case NotEnoughData:
		return "○"
	case CouldNotCheck:
		return "!"
	}
	return "◐"
}

func ink(v Verdict) string {
	switch v {
	case Regressed:
		return "38;5;208"
	case Improved:
		return "34"
	case NoMeaningfulRise, NotEnoughData:
		return "2"
	}
	return "33"
}

// paint is s in the colour of v.
func (p *page) paint(v Verdict, s string) string {
	if !p.o.Color {
		return s
	}
	return "\x1b[" + ink(v) + "m" + s + "\x1b[0m"
}

// A cell row is one comparison as it is printed.
type cells struct {
	c                          Comparison
	endpoint, signal           string
	values, change, confidence string
}

// table writes the comparisons and what is folded of them.
func (p *page) table() {
	r := p.r
	var shown []cells
	var folds []string
	total := len(r.Comparisons)
	group := func(v Verdict, limit int, rows []Comparison, more string) {
		n := len(rows)
		if !p.o.All {
			n = min(n, limit)
		}
		for _, c := range rows[:n] {
			shown = append(shown, p.cells(c))
		}
		if rest := len(rows) - n; rest > 0 && more != "" {
			folds = append(folds, p.paint(v, glyph(v))+fmt.Sprintf(" %*d of %d: ", len(fmt.Sprint(total)), rest, total)+more)
		}
	}
	group(Regressed, maxRegressed, r.of(Regressed), "regressed as well (--all to list)")
	unchecked := r.of(CouldNotCheck)
	group(CouldNotCheck, 0, unchecked, "could not be checked"+p.reasons(unchecked))
	open := r.open()
	limit := maxOther
	for i, c := range open {
		if c.Verdict == Undecided && !c.Suspected {
			limit = min(limit, max(i, 2))
			break
		}
	}
	group(Undecided, limit, open, "undecided (--all to list)")
	group(Improved, maxOther, r.of(Improved), "improved as well (--all to list)")
	same := "no meaningful rise"
	if b := r.bounds(); b != "" {
		same += " (" + b + ", at 95 %)"
	}
	group(NoMeaningfulRise, 0, r.of(NoMeaningfulRise), same)
	few := r.of(NotEnoughData)
	lack := ""
	if len(few) > 0 {
		lack = "not enough data   " + r.name(few[0]) + " " + r.signal(few[0]) + ": " + r.needs(few[0])
		if len(few) > 1 {
			lack += " …"
		}
	}
	group(NotEnoughData, 0, few, lack)
	p.rows(shown)
	for _, f := range folds {
		p.line("%s", p.fit(f))
	}
}

// fit cuts a line to the width of the page, not counting its colour.
func (p *page) fit(s string) string {
	_, plain, ok := strings.Cut(s, "\x1b[0m")
	if !ok {
		return p.cut(s, p.o.Width)
	}
	return s[:len(s)-len(plain)] + p.cut(plain, p.o.Width-1)
}

// cut is cut with the columns that ASCII takes.
func (p *page) cut(s string, n int) string {
	if !p.o.ASCII {
		return cut(s, n)
	}
	s = ascii(s)
	if len(s) <= n {
		return s
	}
	return s[:max(0, n-3)] + "..."
}

// middle is middle with the columns that ASCII takes.
func (p *page) middle(s string, n int) string {
	if !p.o.ASCII {
		return middle(s, n)
	}
	s = ascii(s)
	if len(s) <= n {
		return s
	}
	tail := (n - 3) / 2
	return s[:n-3-tail] + "..." + s[len(s)-tail:]
}

// reasons are the notes of rows that could not be checked.
func (p *page) reasons(rows []Comparison) string {
	for _, c := range rows {
		if c.Note != "" {
			return "   " + printable(string(c.Note))
		}
	}
	return ""
}

// cells lays out a row of the view.
func (p *page) cells(c Comparison) cells {
	row := p.r.row(c)
	out := cells{c: c, endpoint: row.Endpoint, signal: row.Signal, values: row.Values, change: row.Change, confidence: row.Interval}
	if !c.Change.Ratio.Known() {
		out.change = "-"
	}
	if c.Verdict == NotEnoughData || c.Verdict == CouldNotCheck {
		out.confidence = verdictLabel(c)
	}
	between := "…"
	if p.o.ASCII {
		between = ".."
	}
	out.confidence = strings.Replace(out.confidence, " to ", between, 1)
	return out
}

func verdictLabel(c Comparison) string {
	if c.Verdict == CouldNotCheck {
		return "not checked"
	}
	return "not enough data"
}

// rows writes one line per comparison. The columns are as wide as what is in them; the names
// take what is left, and are cut in the middle.
func (p *page) rows(rows []cells) {
	if len(rows) == 0 {
		return
	}
	head := cells{values: "before → after", change: "change", confidence: "99 % interval"}
	wValues, wChange, wConf, wSignal, wName := p.cols(head.values), columns(head.change), columns(head.confidence), 0, 0
	for _, c := range rows {
		wValues = max(wValues, p.cols(c.values))
		wChange = max(wChange, p.cols(c.change))
		wConf = max(wConf, p.cols(c.confidence))
		wSignal = max(wSignal, p.cols(c.signal))
		wName = max(wName, p.cols(c.endpoint))
	}
	wPlot := 24
	rest := func() int {
		n := p.o.Width - 2 - 1 - wSignal - 1 - wValues - 2 - wChange - 2 - wPlot
		if p.o.Width >= 100 {
			n -= 2 + wConf
		}
		return n
	}
	for wPlot > 18 && rest() < wName || wPlot > 12 && rest() < min(wName, 26) {
		wPlot--
	}
	for wSignal > 8 && rest() < 12 {
		wSignal--
	}
	wName = max(4, min(wName, rest()))
	axis := newAxis(wPlot)

	line := "  " + strings.Repeat(" ", wName+1+wSignal) + " " + p.right(head.values, wValues) + "  " + p.right(head.change, wChange) + "  " + axis.ticks()
	if p.o.Width >= 100 {
		line = p.pad(line, 2+wName+1+wSignal+1+wValues+2+wChange+2+wPlot) + "  " + head.confidence
	}
	p.line("%s", line)
	for _, c := range rows {
		line := p.paint(c.c.Verdict, glyph(c.c.Verdict)) + " " + p.pad(p.middle(c.endpoint, wName), wName) + " " + p.pad(p.cut(c.signal, wSignal), wSignal) +
			" " + p.right(c.values, wValues) + "  " + p.paint(c.c.Verdict, p.right(c.change, wChange)) + "  " + axis.draw(c.c)
		if p.o.Width >= 100 {
			line += "  " + c.confidence
		}
		p.line("%s", line)
	}
}

// cols, pad and right count the columns that s takes once it is ASCII.
func (p *page) cols(s string) int {
	if p.o.ASCII {
		return len(ascii(s))
	}
	return columns(s)
}

func (p *page) pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-p.cols(s))) }

func (p *page) right(s string, n int) string { return strings.Repeat(" ", max(0, n-p.cols(s))) + s }

// An axis draws changes on asinh(change / 10 %), from -27 to +520 %: linear near zero, where
// what matters is decided, logarithmic far from it.
type axis struct{ cells int }

const (
	axisUnit = 0.1
	axisLow  = -0.27
	axisHigh = 5.2
)

func newAxis(cells int) axis { return axis{cells} }

// at is the cell of a change; changes beyond the axis are at its ends.
func (a axis) at(x float64) int {
	low, high := math.Asinh(axisLow/axisUnit), math.Asinh(axisHigh/axisUnit)
	i := math.Round((math.Asinh(x/axisUnit) - low) / (high - low) * float64(a.cells-1))
	return int(min(max(i, 0), float64(a.cells-1)))
}

// ticks is the scale: the numbers that fit, the zero first.
func (a axis) ticks() string {
	line := []byte(strings.Repeat(" ", a.cells))
	for _, t := range []struct {
		x    float64
		text string
	}{{0, "0"}, {1, "+100"}, {-0.2, "-20"}, {4, "+400"}, {0.1, "+10"}} {
		from := a.at(t.x)
		if t.x != 0 {
			from = min(max(0, from-len(t.text)/2), a.cells-len(t.text))
		}
		if from < 0 || strings.TrimSpace(string(line[max(0, from-1):min(a.cells, from+len(t.text)+1)])) != "" {
			continue
		}
		copy(line[from:], t.text)
	}
	return string(line)
}

// draw is one change: its interval, the estimate, zero and the smallest change that matters.
func (a axis) draw(c Comparison) string {
	line := []rune(strings.Repeat(" ", a.cells))
	zero := a.at(0)
	line[zero] = '│'
	if m := c.Change.MinimumEffect; m.Known() {
		x := float64(m)
		if c.Direction == "down" {
			x = -x
		}
		if i := a.at(x); i != zero {
			line[i] = '┊'
		}
	}
	low, high := c.Change.CI99[0], c.Change.CI99[1]
	if low.Known() || high.Known() {
		from, to := 0, a.cells-1
		if low.Known() {
			from = a.at(float64(low))
		}
		if high.Known() {
			to = a.at(float64(high))
		}
		for i := from; i <= to; i++ {
			switch line[i] {
			case '│':
				line[i] = '┼'
			case ' ':
				line[i] = '─'
			}
		}
		if low.Known() && low > axisLow && from < to {
			line[from] = '├'
		}
		if high.Known() && high < axisHigh && from < to {
			line[to] = '┤'
		}
	}
	if c.Change.Ratio.Known() {
		line[a.at(float64(c.Change.Ratio))] = '●'
	}
	return string(line)
}

// verdict writes the last block: the verdict in capitals, what it rests on, what was done,
// and the next step.
func (p *page) verdict() {
	r := p.r
	v := r.Verdict
	sep := " · "
	if p.o.ASCII {
		sep = ", "
	}
	parts := []string{strings.ToUpper(verdictWords(r))}
	for _, w := range r.actionWords() {
		if rest, ok := strings.CutSuffix(w, ": needs a person"); ok {
			w = strings.ToUpper(rest) + " — needs a person"
		}
		parts = append(parts, w)
	}
	if w := r.recoveryWords(); w != "" {
		if r.Recovery.State == NotRecovered {
			w = strings.ToUpper(w)
		}
		parts = append(parts, w)
	}
	head := glyph(v) + " " + strings.Join(parts, sep)
	if r.Deploy == nil && v == NotEnoughData {
		head = "○ NO UPGRADE FOUND"
	}
	p.broken(v, head)
	if r.Said != nil {
		p.say("", r.Said.text())
	}
	switch v {
	case Regressed:
		p.regressed()
	case NotEnoughData:
		p.say("", r.notEnoughText()...)
	case CouldNotCheck:
		p.say("", r.couldNotCheckText()...)
		if r.Failure != nil {
			p.say("", r.Failure.Detail)
			p.say("", r.Failure.Remedy)
		}
	case Undecided:
		p.say("", r.undecidedText()...)
		p.before()
		p.unjudged()
	default:
		p.say("", r.noRegressionText()...)
		p.unjudged()
	}
	p.warnings()
	p.line("")
	p.next()
}

func (p *page) regressed() {
	r := p.r
	rows := r.of(Regressed)
	actions := r.actionsLast()
	slices.SortStableFunc(actions, func(a, b Action) int { return urgency(a) - urgency(b) })
	// A flag in an unknown state comes before the numbers: it is what a person must look at.
	for len(actions) > 0 && (actions[0].Outcome == WrittenNotVerified || actions[0].Outcome == Failed) {
		p.say("", r.actionText(actions[0]))
		actions = actions[1:]
	}
	p.say("", r.headline(rows[0]))
	for _, c := range rows[1:min(3, len(rows))] {
		p.say("", sentence(r.moved(c)))
	}
	if n := len(rows) - 3; n > 0 {
		p.say("", fmt.Sprintf("%d more %s confirmed.", n, plural(n, "rise is", "rises are")))
	}
	var pro, contra []string
	for _, e := range r.Evidence {
		if e.ID == "flag_off" {
			continue // the sentence on the action says it
		}
		if t := strings.TrimSuffix(printable(e.Text), "."); e.Holds {
			pro = append(pro, t)
		} else {
			contra = append(contra, t)
		}
	}
	if len(pro) > 0 {
		p.say("", "Why the upgrade: "+strings.Join(pro, "; ")+".")
	}
	if len(contra) > 0 {
		p.say("", "What speaks against that: "+strings.Join(contra, "; ")+".")
	}
	for _, a := range actions {
		p.say("", r.actionText(a))
	}
	if len(r.Actions) == 0 {
		p.say("", "No action was taken.")
	}
	if t := r.recoveryText(); t != "" {
		p.say("", t)
	}
	if r.Path != nil {
		p.path()
	}
	p.before()
	p.unjudged()
}

// path writes what the rule knows about this upgrade.
func (p *page) path() {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(p.r.Path.Config)) {
		parts = append(parts, printable(k)+": "+printable(p.r.Path.Config[k]))
	}
	if n := p.r.Path.Notes; n != "" {
		parts = append(parts, printable(string(n)))
	}
	if len(parts) > 0 {
		p.say("", "Known about this upgrade: "+strings.Join(parts, "; "))
	}
}

// before writes what is not blamed on the upgrade, unless the verdict has said it.
func (p *page) before() {
	rows := p.r.of(PreExisting)
	if p.r.Verdict == Undecided && p.r.open()[0].Verdict == PreExisting {
		rows = rows[1:]
	}
	for _, c := range rows[:min(2, len(rows))] {
		p.say("", p.r.name(c)+" "+p.r.signal(c)+" had risen before the rollout began, so it is not blamed on it.")
	}
}

// unjudged writes how many comparisons the verdict says nothing about.
func (p *page) unjudged() {
	r := p.r
	if n := r.count(NotEnoughData); n > 0 {
		p.say("", fmt.Sprintf("%d could not be judged: not enough data.", n))
	}
	if n := r.count(CouldNotCheck); n > 0 && r.Verdict != CouldNotCheck {
		p.say("", fmt.Sprintf("%d could not be checked.", n))
	}
}

// warnings writes those of the report, then those of its rows with their number.
func (p *page) warnings() {
	lines := []string{}
	for _, w := range p.r.Warnings {
		lines = append(lines, warningText(w))
	}
	rows := map[string]int{}
	for _, c := range p.r.Comparisons {
		for _, w := range c.Warnings {
			rows[w]++
		}
	}
	for _, w := range slices.Sorted(maps.Keys(rows)) {
		lines = append(lines, fmt.Sprintf("%d of %d comparisons: %s", rows[w], len(p.r.Comparisons), warningText(w)))
	}
	n := len(lines)
	if !p.o.All {
		n = min(n, 3)
	}
	for _, s := range lines[:n] {
		p.say("warning: ", s)
	}
	if rest := len(lines) - n; rest > 0 {
		p.say("", fmt.Sprintf("%d more %s (--all to list).", rest, plural(rest, "warning", "warnings")))
	}
}

// say writes sentences as one indented paragraph within the width.
func (p *page) say(prefix string, sentences ...string) {
	var text []string
	for _, s := range sentences {
		if s = strings.TrimSpace(printable(strings.ReplaceAll(s, "\n", " "))); s != "" {
			text = append(text, s)
		}
	}
	s := prefix + strings.Join(text, " ")
	if p.o.ASCII {
		s = ascii(s)
	}
	const indent = "  "
	for _, line := range wrap(s, p.o.Width-len(indent)) {
		p.line("%s", indent+line)
	}
}

// wrap breaks s at spaces into lines of at most n columns. Words longer than a line are broken.
// A number keeps its unit: no line begins with a per cent sign or a unit of time.
func wrap(s string, n int) []string {
	var words []string
	for w := range strings.FieldsSeq(s) {
		if len(words) > 0 && sticks(w) {
			words[len(words)-1] += " " + w
			continue
		}
		words = append(words, w)
	}
	var lines []string
	line := ""
	for _, w := range words {
		for columns(w) > n {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			head := strings.TrimSuffix(cut(w, n+1), "…")
			if columns(head) > n || head == "" {
				head = w[:n]
			}
			lines = append(lines, head)
			w = w[len(head):]
		}
		switch {
		case line == "":
			line = w
		case columns(line)+1+columns(w) <= n:
			line += " " + w
		default:
			lines, line = append(lines, line), w
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// sticks reports whether a word is a unit that belongs to the number before it.
func sticks(w string) bool {
	switch strings.TrimRight(w, ".,;:)") {
	case "%", "ms", "s", "min", "h", "d", "UTC":
		return true
	}
	return false
}

// next writes the next step that a person would take, as a command to paste.
func (p *page) next() {
	undo, step, note := p.r.next()
	if undo != "" {
		p.line("%s", "undo   "+undo)
	}
	if note != "" {
		note = "   (" + note + ")"
		if p.cols("next   "+step+note) > p.o.Width {
			p.line("%s", strings.TrimSpace(note))
			note = ""
		}
	}
	p.line("%s", "next   "+step+note)
}

// next is the next step and what to know about it, and how to undo what was done ("" = there
// is nothing to undo, or that is the next step).
func (r *Report) next() (undo, step, note string) {
	show := "driftwatch report show " + Quote(r.ID)
	switch r.Verdict {
	case Regressed:
		return r.nextAction(show)
	case CouldNotCheck:
		return "", r.again(), ""
	case Undecided:
		if r.Looks != nil && !r.Looks.Next.IsZero() {
			return "", r.again() + " --wait", ""
		}
		return "", show, "the last look is over"
	case NotEnoughData:
		switch {
		case r.Deploy == nil:
			return "", "driftwatch check" + r.rules() + " --at TIME", "when the upgrade was complete"
		case r.Deploy.At.IsZero():
			return "", r.again() + " --wait", ""
		}
		var when time.Time
		for _, c := range r.of(NotEnoughData) {
			if n := c.Needs; n != nil && !n.When.IsZero() && (when.IsZero() || n.When.Before(when)) {
				when = n.When.Time
			}
		}
		if !when.IsZero() {
			return "", r.again(), "after " + about(when, r.reference()) + " UTC"
		}
		return "", show, "says what is needed"
	}
	return "", "nothing to do", ""
}

// nextAction is next for a confirmed regression: what the most urgent action asks for.
func (r *Report) nextAction(show string) (undo, step, note string) {
	actions := r.actionsLast()
	slices.SortStableFunc(actions, func(a, b Action) int { return urgency(a) - urgency(b) })
	if len(actions) == 0 {
		if !slices.ContainsFunc(r.of(Regressed), func(c Comparison) bool { return c.Flag != "" }) {
			note = "there is no flag to turn off"
		}
		return "", show, note
	}
	a := actions[0]
	flag := Quote(string(a.Flag))
	off := "driftwatch flags off " + flag
	switch a.Outcome {
	case WrittenNotVerified:
		return "driftwatch flags restore " + flag, "driftwatch flags verify " + flag, ""
	case Failed, AlreadyOff:
		return "", "driftwatch flags verify " + flag, ""
	case Verified:
		if r.Recovery.State == RecoveryWatching {
			return "driftwatch flags restore " + flag, r.again() + " --wait", ""
		}
		return "", "driftwatch flags restore " + flag, "once the cause is gone"
	case DryRun:
		if rev := a.Revision[0]; rev != "" {
			off += " --revision " + Quote(string(rev))
		}
		return "", off, ""
	}
	switch a.Reason {
	case ReasonBudget, ReasonMuted, ReasonStopFile, ReasonStale, ReasonShortHistory, ReasonNoControls:
		if a.Flag != "" {
			return "", off, "if you agree that the flag is the cause"
		}
	}
	return "", show, ""
}

// rules is the option that names the rule's file.
func (r *Report) rules() string {
	path, _, _ := strings.Cut(r.Provenance.Rule, "#")
	if path == "" {
		return ""
	}
	return " --rules " + Quote(path)
}

// again is the command that makes this check again.
func (r *Report) again() string {
	s := "driftwatch check" + r.rules()
	if r.Deploy == nil || r.Deploy.At.IsZero() {
		return s
	}
	if !r.Deploy.Started.IsZero() && !r.Deploy.Started.Equal(r.Deploy.At.Time) {
		s += " --started " + r.Deploy.Started.Format(time.RFC3339Nano)
	}
	return s + " --at " + r.Deploy.At.Format(time.RFC3339Nano)
}
