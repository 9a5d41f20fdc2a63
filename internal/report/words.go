package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/detect"
)

// maxName is the longest endpoint, in columns, that a sentence spells out. Routes of real
// services stay below it; a label that somebody filled with a request body does not.
const maxName = 80

// name is the endpoint of c for sentences.
func (r *Report) name(c Comparison) string { return middle(r.endpoint(c), maxName) }

// endpoint is the endpoint of c, the service where the rule has no endpoint labels.
func (r *Report) endpoint(c Comparison) string {
	if e := strings.TrimSpace(printable(c.Endpoint)); e != "" {
		return e
	}
	return r.service()
}

func (r *Report) service() string { return cut(printable(r.Service), maxName) }

// signal is what is compared: "p99", with the signal's name where the report has several
// histograms; the signal's name otherwise.
func (r *Report) signal(c Comparison) string {
	name := cut(printable(c.Signal), 30)
	if c.Kind != "histogram" || !c.Quantile.Known() {
		return name
	}
	p := quantileName(c.Quantile)
	if r.severalHistograms {
		return name + " " + p
	}
	return p
}

// countHistograms sees whether "p99" alone would be ambiguous.
func (r *Report) countHistograms() {
	first := ""
	for _, c := range r.Comparisons {
		if c.Kind != "histogram" {
			continue
		}
		if first == "" {
			first = c.Signal
		}
		r.severalHistograms = r.severalHistograms || c.Signal != first
	}
}

// quantileName is p99 for 0.99, p99.9 for 0.999.
func quantileName(q Number) string {
	return "p" + strconv.FormatFloat(math.Round(float64(q)*1e6)/1e4, 'f', -1, 64)
}

// slowest is "the slowest 1 %" for 0.99.
func slowest(q Number) string {
	return "the slowest " + strconv.FormatFloat(math.Round((1-float64(q))*1e6)/1e4, 'f', -1, 64) + " %"
}

// version is what the upgrade went to, for "after …".
func (r *Report) version() string {
	if r.Deploy == nil || r.Deploy.To == "" {
		return "the upgrade"
	}
	return cut(printable(string(r.Deploy.To)), 40)
}

// subject is the service with its version: "checkout-api 2.42.0".
func (r *Report) subject() string {
	if r.Deploy == nil || r.Deploy.To == "" {
		return r.service()
	}
	return r.service() + " " + r.version()
}

// reference is the instant whose day goes without saying: that of the upgrade.
func (r *Report) reference() time.Time {
	switch {
	case r.Deploy == nil:
		return r.Now.Time
	case r.Deploy.At.IsZero():
		return r.Deploy.Started.Time
	}
	return r.Deploy.At.Time
}

// size is the change with its interval, in brackets.
func size(c Comparison) string {
	if !c.Change.Ratio.Known() {
		return ""
	}
	if !c.Change.CI99[0].Known() && !c.Change.CI99[1].Known() {
		return fmt.Sprintf(" (%s, no interval can be given)", change(c.Change.Ratio))
	}
	if !c.Change.CI99[0].Known() || !c.Change.CI99[1].Known() {
		return fmt.Sprintf(" (%s, %s at 99 %%)", change(c.Change.Ratio), interval(c.Change.CI99, " to "))
	}
	return fmt.Sprintf(" (%s, 99 %% interval %s)", change(c.Change.Ratio), interval(c.Change.CI99, " to "))
}

// moved says what c did, as a sentence without its full stop: "the slowest 1 % of GET /
// took 784 ms instead of 390 ms (+101 %, 99 % interval +92 to +109 %)".
func (r *Report) moved(c Comparison) string {
	before, bu := level(c.Baseline, c.Unit)
	after, au := level(c.Post, c.Unit)
	over := func(digits, suffix string) string {
		if rest, ok := strings.CutPrefix(digits, ">"); ok {
			return "more than " + rest + suffix
		}
		return digits + suffix
	}
	known := before != unknown && after != unknown
	if c.Kind == "histogram" && c.Quantile.Known() {
		if !known {
			return fmt.Sprintf("%s of %s changed%s", r.signal(c), r.name(c), size(c))
		}
		return fmt.Sprintf("%s of %s took %s instead of %s%s", slowest(c.Quantile), r.name(c), over(after, au), over(before, bu), size(c))
	}
	verb := "rose"
	if c.Change.Ratio < 0 {
		verb = "fell"
	}
	if !known {
		return fmt.Sprintf("%s of %s %s%s", r.signal(c), r.name(c), verb, size(c))
	}
	return fmt.Sprintf("%s of %s %s from %s%s", r.signal(c), r.name(c), verb, between(c.Baseline, c.Post, c.Unit, " to "), size(c))
}

// of is the rows with one of the verdicts, worst first.
func (r *Report) of(verdicts ...Verdict) []Comparison {
	var out []Comparison
	for _, c := range r.Comparisons {
		if slices.Contains(verdicts, c.Verdict) {
			out = append(out, c)
		}
	}
	return out
}

// open is what is neither confirmed nor excluded: the suspected first, then as they stand.
func (r *Report) open() []Comparison {
	rows := r.of(Undecided, PreExisting, Transient)
	slices.SortStableFunc(rows, func(a, b Comparison) int {
		rank := func(c Comparison) int {
			switch {
			case c.Suspected:
				return 0
			case c.Verdict == PreExisting:
				return 1
			case c.Verdict == Transient:
				return 2
			}
			return 3
		}
		return rank(a) - rank(b)
	})
	return rows
}

// verdictText is the verdict in whole sentences.
func (r *Report) verdictText() string {
	var s []string
	switch r.Verdict {
	case Regressed:
		s = append(s, r.regressedText()...)
	case CouldNotCheck:
		s = append(s, r.couldNotCheckText()...)
	case NotEnoughData:
		s = append(s, r.notEnoughText()...)
	case Undecided:
		s = append(s, r.undecidedText()...)
	default:
		s = append(s, r.noRegressionText()...)
	}
	return strings.Join(s, " ")
}

func (r *Report) regressedText() []string {
	rows := r.of(Regressed)
	head := r.headline(rows[0])
	var s []string
	s = append(s, head)
	for _, c := range rows[1:min(3, len(rows))] {
		s = append(s, sentence(r.moved(c)))
	}
	if n := len(rows) - 3; n > 0 {
		s = append(s, fmt.Sprintf("%d more %s confirmed.", n, plural(n, "rise is", "rises are")))
	}
	for _, a := range r.actionsLast() {
		s = append(s, r.actionText(a))
	}
	if len(r.Actions) == 0 {
		s = append(s, "No action was taken.")
	}
	if t := r.recoveryText(); t != "" {
		s = append(s, t)
	}
	return s
}

// headline is the sentence on the worst row, in the words of the rule's label.
func (r *Report) headline(c Comparison) string {
	what := r.service()
	if r.Label != "" {
		what = strings.TrimSuffix(sentence(cut(printable(string(r.Label)), maxName)), ".")
	}
	after := "after " + r.version()
	if r.Label != "" {
		after = "after " + r.subject()
		if r.Deploy == nil || r.Deploy.To == "" {
			after = "after the upgrade of " + r.service()
		}
	}
	if o := c.Onset; o != nil && o.AfterDeployS > 0 {
		after = span(seconds(float64(o.AfterDeployS))) + " " + after
	}
	how, fell := "changed", c.Change.Ratio < 0
	switch {
	case c.Kind == "histogram" && fell:
		how = "became faster"
	case c.Kind == "histogram":
		how = "became slower"
	case c.Kind == "ratio" && fell:
		how = "showed fewer " + cut(printable(c.Signal), 30)
	case c.Kind == "ratio":
		how = "showed more " + cut(printable(c.Signal), 30)
	}
	return what + " " + how + " " + after + ": " + r.moved(c) + "."
}

// beforehand says how long before the upgrade a change began, as far as that is known.
func (c Comparison) beforehand() string {
	if o := c.Onset; o != nil && o.AfterDeployS < 0 {
		return "about " + span(seconds(-float64(o.AfterDeployS))) + " before the upgrade"
	}
	return "before the upgrade"
}

// actionsLast are the actions that still count: the last one on each flag.
func (r *Report) actionsLast() []Action {
	var out []Action
	for i, a := range r.Actions {
		if !slices.ContainsFunc(r.Actions[i+1:], func(b Action) bool { return b.Flag == a.Flag }) {
			out = append(out, a)
		}
	}
	return out
}

// warningText is a warning of the judgement in words; one of Prometheus as it is.
func warningText(w string) string {
	words := map[string]string{
		detect.LoadOutsideHistory:     "the traffic is outside of anything in the history, so nothing is confirmed while that lasts",
		detect.CounterIsNew:           "this counter first appeared with the upgrade: new instrumentation looks the same, so nothing is done about it",
		detect.LastLookMissing:        "it was found at an earlier look; at the last one it could not be seen",
		detect.CannotBeConfirmedAlone: "the history is too small to confirm one endpoint on its own",
		detect.EffectUnknown:          "it moved, but by how much cannot be told",
		detect.OriginUnknown:          "whether it began before the upgrade, or is still there, cannot be told: those steps are missing",
		detect.ShortHistory:           "there is no history to calibrate on: how much the service moves by itself is told by the steps before the upgrade alone",
		detect.VeryShortBaseline:      "there are fewer than 12 steps before the upgrade",
		detect.NoRestartInCalibration: "nothing in the history was restarted by a rollout, and there are no controls that show what a restart alone does",
	}[w]
	if words == "" {
		return cut(printable(w), 400)
	}
	return words + " (" + w + ")"
}

// verifiedWords are what may be said of a proved action: driftwatch reading back the file or the
// object that it wrote is not the application having seen it.
func verifiedWords(a Action) string {
	words := "verified"
	if a.Kind != FlagDisabled {
		words = "verified off"
	}
	if seen := ownView(a); seen != "" {
		words += " in the " + seen
	}
	if a.Kind == FlagDisabled {
		words += ": it falls back to the code default"
	}
	return words
}

// ownView names what driftwatch wrote, where that is all that it looked at; else it is "".
func ownView(a Action) string {
	switch a.Viewpoint {
	case "file":
		return "file"
	case "kubernetes":
		return "object"
	}
	return ""
}

func flagName(a Action) string { return cut(printable(string(a.Flag)), maxName) }

// actionText is what was done, or was not done and why, as a sentence.
func (r *Report) actionText(a Action) string {
	flag := flagName(a)
	when := ""
	if !a.At.IsZero() {
		when = " " + clock(a.At.Time, r.reference()) + " UTC"
	}
	if a.Kind == FlagDisabled {
		if text := disabledText(a, flag, when); text != "" {
			return text
		}
	}
	switch a.Outcome {
	case Verified:
		return fmt.Sprintf("Flag %s off%s%s, %s.", flag, when, revisions(a), proof(a))
	case WrittenNotVerified:
		text := fmt.Sprintf("Flag %s may still be on: it was written off%s%s, but %s", flag, when, revisions(a), doubt(a))
		return text + detail(a) + ". A person is needed."
	case Failed:
		return fmt.Sprintf("Flag %s could not be turned off%s%s. A person is needed.", flag, when, detail(a))
	case AlreadyOff:
		return fmt.Sprintf("Flag %s is already off%s; nothing was written.", flag, detail(a))
	case DryRun:
		text := fmt.Sprintf("Would turn off %s", flag)
		if a.Revision[0] != "" {
			text += " (revision " + printable(string(a.Revision[0])) + ")"
		}
		if len(a.Missing) > 0 {
			text += "; missing consent: " + list(a.Missing)
		}
		return text + "." + shadowText(a.Shadow)
	}
	if flag == "" {
		return "No action was taken: " + reasonText(a) + "."
	}
	return fmt.Sprintf("Flag %s was left alone: %s.", flag, reasonText(a))
}

// disabledText is actionText of a flag that is disabled instead of off, "" where the words are
// the same.
func disabledText(a Action, flag, when string) string {
	switch a.Outcome {
	case Verified:
		return fmt.Sprintf("Flag %s disabled%s%s, %s.", flag, when, revisions(a), proof(a))
	case WrittenNotVerified:
		return fmt.Sprintf("Flag %s may still serve a variant: it was disabled%s%s, but %s%s. A person is needed.", flag, when, revisions(a), doubt(a), detail(a))
	case Failed:
		return fmt.Sprintf("Flag %s could not be disabled%s%s. A person is needed.", flag, when, detail(a))
	case AlreadyOff:
		return fmt.Sprintf("Flag %s is already disabled and falls back to the code default%s; nothing was written.", flag, detail(a))
	case DryRun:
		text := fmt.Sprintf("Would disable %s, which then falls back to the code default", flag)
		if a.Revision[0] != "" {
			text += " (revision " + printable(string(a.Revision[0])) + ")"
		}
		if len(a.Missing) > 0 {
			text += "; missing consent: " + list(a.Missing)
		}
		return text + "." + shadowText(a.Shadow)
	}
	return ""
}

// shadowText is a sentence on the dry runs so far, with a space before it: " It would have acted
// 3 times in 30 days, 1 of them marked false."
func shadowText(s *Shadow) string {
	if s == nil || s.Times == 0 {
		return ""
	}
	if s.Times == 1 {
		return fmt.Sprintf(" It would have acted once in %d days%s.", s.Days, map[bool]string{true: ", marked false"}[s.MarkedFalse > 0])
	}
	marked := "none"
	if s.MarkedFalse > 0 {
		marked = fmt.Sprint(s.MarkedFalse)
	}
	return fmt.Sprintf(" It would have acted %d times in %d days, %s of them marked false.", s.Times, s.Days, marked)
}

// proof is how an action was proved: "verified off in 1.2 s (30 of 30 evaluations)".
func proof(a Action) string {
	text := verifiedWords(a)
	if a.VerifiedAfterS != nil {
		text += " in " + span(seconds(*a.VerifiedAfterS))
	}
	return text + evaluated(a)
}

// doubt is what speaks against a written flag being off.
func doubt(a Action) string {
	e, x := a.Evaluations, a.Exposure
	switch {
	case e != nil && e.Off < e.Total:
		text := fmt.Sprintf("%d of %d evaluations gave something else", e.Total-e.Off, e.Total)
		if e.WaitedS > 0 {
			text += " after " + span(seconds(e.WaitedS))
		}
		if e.Reason != "" {
			text += " (reason " + printable(string(e.Reason)) + ")"
		}
		return text
	case x != nil && x.After != nil && *x.After > 0:
		return share(*x.After) + " of requests still run behind it"
	}
	return "that could not be verified"
}

func revisions(a Action) string {
	if a.Revision[0] == "" || a.Revision[1] == "" {
		return ""
	}
	return fmt.Sprintf(", revision %s → %s", printable(string(a.Revision[0])), printable(string(a.Revision[1])))
}

func evaluated(a Action) string {
	if a.Evaluations == nil {
		return ""
	}
	return fmt.Sprintf(" (%d of %d evaluations)", a.Evaluations.Off, a.Evaluations.Total)
}

func detail(a Action) string {
	if a.Detail == "" {
		return ""
	}
	return " (" + cut(printable(string(a.Detail)), 200) + ")"
}

// reasonText is why an action was refused: in the words of whoever refused it, else in
// those for the reason.
func reasonText(a Action) string {
	if a.Detail != "" {
		return cut(printable(string(a.Detail)), 200)
	}
	switch a.Reason {
	case ReasonDryRun:
		return "this was a dry run"
	case ReasonNoFlag:
		return "no flag of the rule is behind what regressed"
	case ReasonServiceWide:
		return "endpoints that are not behind the flag rose as well, so the flag is probably not the cause"
	case ReasonNoControls:
		return "there is nothing to tell the flag from the restart: too few control endpoints could be judged"
	case ReasonGoneAgain:
		return "the rise was gone again at the last look"
	case ReasonStale:
		return "what was judged is too long ago to act on"
	case ReasonCouldNotCheck:
		return "another endpoint behind the same flag could not be checked"
	case ReasonNotServed:
		return "nobody is served the suspect variant, so the flag is not the cause"
	case ReasonNoExposure:
		return "no requests run behind the flag, so the flag is not the cause"
	case ReasonAlreadyOff:
		return "it is already off"
	case ReasonReadOnly:
		return "its source is read-only"
	case ReasonMuted:
		return "the rule mutes actions at this time"
	case ReasonBudget:
		return "the budget of actions is used up"
	case ReasonStopFile:
		return "the stop file is there"
	case ReasonPersonRestored:
		return "a person turned it on again after driftwatch had turned it off"
	case ReasonPath:
		return "the rule's upgrade path does not name it"
	case ReasonShortHistory:
		return "there is too little history to act on"
	case ReasonTouched:
		return "somebody changed it while the upgrade was watched"
	case ReasonCritical:
		return "its owners marked it as one to keep hands off"
	case ReasonApproval:
		return "a person has to approve it"
	case "":
		return "no reason was recorded"
	}
	return printable(string(a.Reason))
}

// recoveryText is the state of the recovery as a sentence, "" where there is none.
func (r *Report) recoveryText() string {
	detail, why := cut(printable(string(r.Recovery.Detail)), 200), ""
	if detail != "" {
		why = " (" + detail + ")"
	}
	because := func(otherwise string) string { return orElse(detail, otherwise) }
	since := ""
	if !r.Recovery.Since.IsZero() {
		since = " since " + clock(r.Recovery.Since.Time, r.reference()) + " UTC"
	}
	switch r.Recovery.State {
	case RecoveryWatching:
		return "Whether the numbers come back is being watched" + why + "."
	case Recovered:
		return "In the usual range" + since + why + "."
	case NotRecovered:
		return "The numbers did not come back: " + because("the flag was probably not the cause, or not the only one") + "."
	case RecoveryUnclear:
		return "Whether the numbers came back cannot be told: " + because("too little traffic") + "."
	case Superseded:
		return "The upgrade was undone or replaced, so the watch ended" + why + "."
	}
	return ""
}

func (r *Report) couldNotCheckText() []string {
	if f := r.Failure; f != nil {
		s := []string{sentence(printable(f.Title))}
		if r.count(Regressed)+r.count(NoMeaningfulRise) == 0 {
			s = append(s, "Nothing is known about this upgrade; nothing was changed.")
		}
		return s
	}
	rows := r.of(CouldNotCheck)
	s := []string{fmt.Sprintf("%d of %d comparisons could not be checked.", len(rows), len(r.Comparisons))}
	var notes []string
	for _, c := range rows {
		if n := cut(printable(string(c.Note)), 200); n != "" && !slices.Contains(notes, n) {
			notes = append(notes, n)
		}
	}
	for _, n := range notes[:min(3, len(notes))] {
		s = append(s, sentence(n))
	}
	if len(rows) == len(r.Comparisons) {
		return append(s, "Nothing is known about this upgrade; nothing was changed.")
	}
	return append(s, "No regression is confirmed in the others; nothing was changed.")
}

func (r *Report) notEnoughText() []string {
	switch {
	case r.Deploy == nil:
		return []string{"No upgrade of " + r.service() + " was found, so there is nothing to compare."}
	case r.Deploy.At.IsZero():
		s := fmt.Sprintf("The rollout of %s is still in progress", r.subject())
		if n := r.Needs; n != nil && n.Need > 0 {
			s += fmt.Sprintf(": %s of %s targets run the new version", count(n.Have), count(n.Need))
		}
		return []string{s + "."}
	case len(r.Comparisons) == 0:
		return []string{"The rule's signals have no endpoint to compare."}
	}
	rows := r.of(NotEnoughData)
	s := []string{fmt.Sprintf("There is not enough data to judge %d of %d comparisons.", len(rows), len(r.Comparisons))}
	for _, c := range rows[:min(3, len(rows))] {
		s = append(s, sentence(fmt.Sprintf("%s %s: %s", r.name(c), r.signal(c), r.needs(c))))
	}
	if n := r.count(NoMeaningfulRise) + r.count(Improved); n > 0 {
		s = append(s, fmt.Sprintf("No rise that matters in %d.", n))
	}
	return s
}

// needs is what c lacks: "61 of 1 200 requests, enough about 19:45 UTC".
func (r *Report) needs(c Comparison) string {
	var parts []string
	if n := c.Needs; n != nil {
		parts = append(parts, r.lacking(*n))
	}
	if c.Note != "" {
		parts = append(parts, cut(printable(string(c.Note)), 200))
	}
	if len(parts) == 0 {
		return "not enough data"
	}
	return strings.Join(parts, "; ")
}

func (r *Report) lacking(n Needs) string {
	of := map[string]string{
		"placebos": "placebo deploys in history", "events": "events", "requests": "requests", "steps": "steps with data",
		"history": "steps of history", "buckets": "usable bucket bounds", "rollout": "targets on the new version",
	}[n.Of]
	if of == "" {
		of = printable(n.Of)
	}
	var s string
	switch {
	case n.Have.Known() && n.Need.Known():
		s = fmt.Sprintf("%s of %s %s", count(n.Have), count(n.Need), of)
	case n.Need.Known():
		s = fmt.Sprintf("needs %s %s", count(n.Need), of)
	default:
		s = "too few " + of
	}
	if !n.When.IsZero() {
		s += ", enough about " + about(n.When.Time, r.reference()) + " UTC"
	}
	return s
}

func (r *Report) undecidedText() []string {
	var s []string
	rows := r.open()
	over := r.Looks != nil && r.Looks.Next.IsZero()
	c := rows[0]
	switch {
	case c.Verdict == PreExisting:
		s = append(s, sentence(r.moved(c)), sentence("that began "+c.beforehand()+", so it is not blamed on it"))
	case c.Verdict == Transient:
		s = append(s, sentence(r.moved(c)), "It went away by itself.")
	case c.Suspected:
		s = append(s, sentence(fmt.Sprintf("%s of %s may be %s%s", r.signal(c), r.name(c), direction(c), size(c))),
			"That is neither confirmed nor excluded; no action is taken on it.")
	case over:
		s = append(s, sentence(fmt.Sprintf("Nothing is confirmed, and a rise cannot be excluded in %d of %d comparisons: %s %s %s",
			len(rows), len(r.Comparisons), r.name(c), r.signal(c), bound(c))))
	default:
		s = append(s, fmt.Sprintf("Nothing is confirmed, and a rise cannot be excluded yet in %d of %d comparisons.", len(rows), len(r.Comparisons)))
	}
	if r.Looks != nil && !over {
		s = append(s, r.nextLook())
	}
	return s
}

// bound is the most that c can have risen: "at most +38 %; 10 % cannot be excluded with this
// traffic".
func bound(c Comparison) string {
	switch {
	case !c.Change.Bound95.Known() && c.Kind == "histogram" && c.Change.CI99[0].Known() && !c.Change.CI99[1].Known():
		return "no bound can be given: it lies beyond the last bucket of the histogram"
	case !c.Change.Bound95.Known():
		return "no bound can be given with this traffic"
	}
	s := "at most " + change(c.Change.Bound95) + " (at 95 %)"
	if c.Change.MinimumEffect.Known() && c.Change.Bound95 >= c.Change.MinimumEffect {
		s += "; " + share(float64(c.Change.MinimumEffect)) + " cannot be excluded with this traffic"
	}
	return s
}

func direction(c Comparison) string {
	if c.Change.Ratio < 0 {
		return "lower"
	}
	return "higher"
}

func (r *Report) nextLook() string {
	return fmt.Sprintf("Next look %s, last look %s UTC.", clock(r.Looks.Next.Time, r.reference()), clock(r.Looks.Last.Time, r.reference()))
}

func (r *Report) noRegressionText() []string {
	n := r.count(NoMeaningfulRise)
	s := []string{fmt.Sprintf("No rise that matters in %d of %d comparisons of %s.", n+r.count(Improved), len(r.Comparisons), r.subject())}
	if b := r.bounds(); b != "" {
		s = append(s, "A larger rise is excluded at 95 %: "+b+".")
	}
	if rows := r.of(Improved); len(rows) > 0 {
		s = append(s, sentence("improved: "+r.moved(rows[0])))
	}
	return s
}

// bounds are the largest bounds of the rows without a meaningful rise, per signal: "p99 at
// most +4.6 %".
func (r *Report) bounds() string {
	var names []string
	worst := map[string]Number{}
	for _, c := range r.of(NoMeaningfulRise) {
		if !c.Change.Bound95.Known() {
			continue
		}
		s := r.signal(c)
		if _, ok := worst[s]; !ok {
			names = append(names, s)
			worst[s] = c.Change.Bound95
		}
		worst[s] = max(worst[s], c.Change.Bound95)
	}
	slices.Sort(names)
	for i, s := range names {
		names[i] = s + " at most " + change(worst[s])
	}
	return strings.Join(names, ", ")
}

// statusLine is the verdict, what was done and the state now, on one line.
func (r *Report) statusLine() string {
	parts := append([]string{verdictWords(r)}, r.actionWords()...)
	if w := r.recoveryWords(); w != "" {
		parts = append(parts, w)
	}
	return r.subject() + ": " + strings.Join(parts, ", ")
}

func verdictWords(r *Report) string {
	switch r.Verdict {
	case Regressed:
		return "regression confirmed"
	case CouldNotCheck:
		return "could not check"
	case Undecided:
		return "undecided"
	case NotEnoughData:
		switch {
		case r.Deploy == nil:
			return "no upgrade found"
		case r.Deploy.At.IsZero():
			return "rollout in progress"
		}
		return "not enough data"
	case Improved:
		return "improved"
	}
	return "no regression"
}

// actionWords are the actions in a few words each, the most urgent first.
func (r *Report) actionWords() []string {
	if r.Verdict != Regressed {
		return nil
	}
	var out []string
	actions := r.actionsLast()
	slices.SortStableFunc(actions, func(a, b Action) int { return urgency(a) - urgency(b) })
	for _, a := range actions {
		w := ""
		switch a.Outcome {
		case Verified:
			w = "flag off, verified"
			if words := verifiedWords(a); words != "verified off" {
				w = "flag off, " + words
			}
		case WrittenNotVerified:
			w = "flag not verified off: needs a person"
		case Failed:
			w = "flag not turned off: needs a person"
		case AlreadyOff:
			w = "flag already off"
		case DryRun:
			w = "no action (dry run)"
		default:
			w = "no action (" + strings.ReplaceAll(printable(orElse(string(a.Reason), "refused")), "_", " ") + ")"
			if a.Reason == ReasonServiceWide {
				w = "no action (service-wide)"
			}
		}
		if a.Kind == FlagDisabled {
			w = orElse(map[Outcome]string{
				Verified:           "flag disabled, falls back to the code default",
				WrittenNotVerified: "flag not verified disabled: needs a person",
				Failed:             "flag not disabled: needs a person",
				AlreadyOff:         "flag already disabled",
			}[a.Outcome], w)
		}
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		out = append(out, "no action")
	}
	return out
}

func urgency(a Action) int {
	return slices.Index([]Outcome{WrittenNotVerified, Failed, Verified, AlreadyOff, DryRun, Refused}, a.Outcome)
}

func (r *Report) recoveryWords() string {
	if r.Verdict != Regressed {
		return ""
	}
	switch r.Recovery.State {
	case RecoveryWatching:
		return "watching the recovery"
	case Recovered:
		return "recovered"
	case NotRecovered:
		return "not recovered"
	case RecoveryUnclear:
		return "recovery unclear"
	case Superseded:
		return "superseded"
	}
	return ""
}

// text is s as a sentence.
func (s *Said) text() string {
	if s.Problem != "" {
		return sentence("what people said of it cannot be read: " + oneLine(s.Problem))
	}
	what := "real"
	if s.FalseAlarm {
		what = "a false alarm"
	}
	out := "Marked as " + what + " by " + cut(printable(s.By), maxName) + " on " + day(s.At)
	if s.Text != "" {
		out += ": " + cut(oneLine(s.Text), 400)
	}
	return sentence(out)
}

// controlsUnchanged is the id of the evidence about the control endpoints.
const controlsUnchanged = "controls_unchanged"

// evidence are the facts that the judgement, the actions and the recovery hold.
func (r *Report) evidence(in Input) []Evidence {
	out := []Evidence{}
	add := func(id string, holds bool, format string, args ...any) {
		out = append(out, Evidence{id, holds, fmt.Sprintf(format, args...)})
	}
	rows := r.of(Regressed)
	if n := in.Judgement.Controls; n > 0 {
		if in.Judgement.ControlsRisen {
			add(controlsUnchanged, false, "at least one of the %d control endpoints, which are not behind the flag, rose as well", n)
		} else {
			add(controlsUnchanged, true, "none of the %d control endpoints rose, which are not behind the flag", n)
		}
	}
	if len(rows) > 0 {
		if short := in.Judgement.Short; short == nil {
			add("began_with_upgrade", true, "%s had not risen shortly before the rollout began", r.names(rows))
		} else {
			add("own_baseline", short.Guard.Holds(short.P), "the same comparison was made at %d places among the %d steps before the upgrade; the smallest p of any is %.2g, that of the upgrade %.2g",
				short.Guard.Places, short.Before, short.Guard.Least, short.P)
		}
		if n := in.Judgement.Placebos; n > 0 {
			history := "its history"
			if r.Calibration.History == "generated" {
				history = "its generated history"
			}
			add("beyond_placebos", true, "it was ranked among at least %d placebo deploys in %s, %s pooled",
				n, history, count(Number(in.Judgement.Pooled)))
		}
		gone := slices.DeleteFunc(slices.Clone(rows), func(c Comparison) bool { return c.StillThere == nil || *c.StillThere })
		if len(gone) == 0 {
			add("still_there", true, "at the last look the rise was still there")
		} else {
			add("still_there", false, "%s %s no longer raised at the last look", r.names(gone), plural(len(gone), "was", "were"))
		}
	}
	if rows := r.of(PreExisting); len(rows) > 0 {
		add("pre_existing", true, "%s had risen before the rollout began and %s not blamed on it", r.names(rows), plural(len(rows), "is", "are"))
	}
	for _, a := range r.actionsLast() {
		if x := a.Exposure; x != nil && x.Before != nil {
			add("exposure", *x.Before > 0, "%s ran for %s of requests", flagName(a), share(*x.Before))
		}
		switch a.Outcome {
		case Verified:
			if a.Kind == FlagDisabled {
				add("flag_off", true, "%s is disabled, %s%s", flagName(a), verifiedWords(a), evaluated(a))
			} else {
				add("flag_off", true, "%s is %s%s", flagName(a), verifiedWords(a), evaluated(a))
			}
		case WrittenNotVerified, Failed:
			if a.Kind == FlagDisabled {
				add("flag_off", false, "%s is not verified to fall back to the code default", flagName(a))
			} else {
				add("flag_off", false, "%s is not verified off", flagName(a))
			}
		}
	}
	switch r.Recovery.State {
	case Recovered:
		add("went_away", true, "it went away when the flag went off")
	case NotRecovered:
		add("went_away", false, "it did not go away when the flag went off")
	}
	return out
}

// names are the endpoints and signals of up to two rows, and how many more there are.
func (r *Report) names(rows []Comparison) string {
	var out []string
	for _, c := range rows[:min(2, len(rows))] {
		out = append(out, r.name(c)+" "+r.signal(c))
	}
	if n := len(rows) - 2; n > 0 {
		out = append(out, fmt.Sprintf("%d more", n))
	}
	return list(out)
}

// list joins words by commas and "and".
func list(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, printable(w))
	}
	if len(out) < 2 {
		return strings.Join(out, "")
	}
	return strings.Join(out[:len(out)-1], ", ") + " and " + out[len(out)-1]
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// sentence is s with a capital letter and a full stop, unless it begins with a name that is
// written in small letters on purpose (one with a digit, a dash, a slash or a dot in it).
func sentence(s string) string {
	first, _, _ := strings.Cut(s, " ")
	if !strings.ContainsAny(first, "0123456789-_/.") {
		s = capital(s)
	}
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "…") {
		return s
	}
	return s + "."
}
