package rule

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/driftwatch/driftwatch/internal/strictyaml"
)

// Error and Errors are what Parse and Load return: every mistake, with its place.
type (
	Error  = strictyaml.Error
	Errors = strictyaml.Errors
)

// Parse reads the rules of one file, one per YAML document; JSON is YAML, too. Spans are
// rounded up to whole steps and defaults are filled in (docs/rules.md). The error is Errors,
// with every mistake of the file, and then there are no rules; path stands in its messages.
// Whether metrics, labels and flags exist is not asked here.
func Parse(path string, text []byte) ([]*Rule, error) {
	f, docs := strictyaml.Read(path, text)
	var rules []*Rule
	for i, doc := range docs {
		p := &parser{}
		r := p.rule(doc.Root)
		r.Path, r.Text = path, doc.Text
		if len(docs) > 1 {
			r.Path = fmt.Sprintf("%s#%d", path, i+1)
		}
		rules = append(rules, r)
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, Errors{{Path: path, Line: 1, Column: 1, Reason: "no rule in this file", Remedy: "begin with service: NAME"}}
	}
	return rules, nil
}

// A parser holds what later parts of one rule need to know of earlier ones.
type parser struct {
	endpoint []string
	signals  []string
	flags    []string
}

func (p *parser) rule(v strictyaml.Value) *Rule {
	r := &Rule{}
	m, ok := v.Map()
	if !ok {
		return r
	}
	defer m.Close()
	r.Service = p.service(m.Need("service", "write the name that the upgrade belongs to: service: checkout-api"))
	r.Label, _ = m.Get("label").Text()
	r.Select = p.matchers(m.Get("select"))
	r.Endpoint = p.labels(m.Need("endpoint", "name the labels that make one endpoint: endpoint: [method, route]"))
	r.Upgrade = p.upgrade(m.Get("upgrade"))
	r.Windows = p.windows(m.Get("windows"))
	r.Signals = p.signalList(m.Need("signals", "name at least one histogram, ratio or gauge"))
	r.Flags = p.flagList(m.Get("flags"))
	r.Upgrades = p.paths(m.Get("upgrades"))
	r.Alpha = p.alpha(m.Get("alpha"))
	r.History = "measured"
	if s, ok := m.Get("history_is").Choice("measured", "generated"); ok {
		r.History = s
	}
	r.ActOnShortHistory, _ = m.Get("act_on_short_history").Bool()
	r.ActWithoutControls, _ = m.Get("act_without_controls").Bool()
	r.Mute = p.mutes(m.Get("mute"))
	return r
}

// serviceName leaves out what would change the meaning of a file name or a command line:
// the service is part of every report's name.
var serviceName = regexp.MustCompile(`^[\p{L}\p{N}_][\p{L}\p{N}_.:@+-]*$`)

func (p *parser) service(v strictyaml.Value) string {
	s, ok := v.Text()
	if ok && !serviceName.MatchString(s) {
		v.Fail(fmt.Sprintf("service %q cannot be part of a report's name", s), "use letters, digits and _ . : @ + -; label: holds any words")
	}
	return s
}

func (p *parser) labels(v strictyaml.Value) []string {
	items, ok := v.Items()
	if !ok {
		return nil
	}
	if _, ok := v.Texts(); !ok {
		return nil
	}
	for _, item := range items {
		name := item.Source()
		switch {
		case !p.labelName(item):
		case name == "le" || name == model.MetricNameLabel:
			item.Fail(fmt.Sprintf("endpoint label %q is not of the endpoint", name), "leave it out; buckets and metrics are told apart anyway")
		}
		p.endpoint = append(p.endpoint, name)
	}
	return p.endpoint
}

func (p *parser) labelName(v strictyaml.Value) bool {
	if model.LegacyValidation.IsValidLabelName(v.Source()) {
		return true
	}
	v.Fail(fmt.Sprintf("%s is not a label name", v.Shown()), "use letters, digits and _, no digit first")
	return false
}

func (p *parser) upgrade(v strictyaml.Value) *UpgradeMetric {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	u := &UpgradeMetric{VersionLabel: "version"}
	u.Metric = p.metric(m.Need("metric", "name the series that shows the version: metric: build_info"))
	if l := m.Get("version_label"); l.Given() {
		if s, ok := l.Text(); ok && p.labelName(l) {
			u.VersionLabel = s
		}
	}
	return u
}

// MaxSteps is the longest that before, horizon and history may be, in steps: seven days of
// minutes. What is read and kept grows with it, and placebos older than that tell little
// about today.
const MaxSteps = 10_080

// maxStep keeps a step within one day, beyond which no window of a deploy is left.
const maxStep = 24 * time.Hour

// minBefore is the shortest baseline, in steps: the shortest of the real cases that short
// histories are judged on (docs/statistics.md). With fewer there is no spread to compare with.
const minBefore = 6

func (p *parser) windows(v strictyaml.Value) Windows {
	w := Windows{Step: time.Minute, Before: 60 * time.Minute, Guard: 3 * time.Minute, FirstLook: 5 * time.Minute, Horizon: 60 * time.Minute, History: 7 * 24 * time.Hour}
	m, _ := v.Map()
	defer m.Close()
	step, before, guard, first, horizon, history := m.Get("step"), m.Get("before"), m.Get("guard"), m.Get("first_look"), m.Get("horizon"), m.Get("history")
	if d, ok := step.Duration(); ok {
		if d < time.Second || d > maxStep {
			step.Fail(fmt.Sprintf("step %s is not from %s to %s", step.Source(), span(time.Second), span(maxStep)), "")
		} else {
			w.Step = d
		}
	}
	for _, x := range []struct {
		v strictyaml.Value
		d *time.Duration
	}{{before, &w.Before}, {guard, &w.Guard}, {first, &w.FirstLook}, {horizon, &w.Horizon}, {history, &w.History}} {
		d, ok := x.v.Duration()
		if !ok {
			d = *x.d
		}
		longest := MaxSteps * w.Step
		if ok && d > longest {
			x.v.Fail(fmt.Sprintf("%s %s is %d steps of %s, more than %d", x.v.Key(), x.v.Source(), d/w.Step, span(w.Step), MaxSteps),
				fmt.Sprintf("write %s or less, or a longer step", span(longest)))
		}
		*x.d = w.roundUp(min(d, longest))
	}

	// Defaults give way to what was written.
	if !before.Given() {
		w.Before = max(w.Before, minBefore*w.Step)
	}
	if !first.Given() {
		w.FirstLook = max(w.FirstLook, w.Guard+w.Step)
	}
	if !horizon.Given() {
		w.Horizon = max(w.Horizon, w.FirstLook)
	}
	if before.Given() && w.Steps(w.Before) < minBefore {
		before.Fail(fmt.Sprintf("before %s is %d steps of %s, too few to compare with", before.Source(), w.Steps(w.Before), span(w.Step)),
			fmt.Sprintf("write %s or more", span(minBefore*w.Step)))
	}
	if first.Given() && w.FirstLook <= w.Guard {
		first.Fail(fmt.Sprintf("first_look %s is not after the guard, %s", first.Source(), span(w.Guard)),
			fmt.Sprintf("write %s or more", span(w.Guard+w.Step)))
	}
	if horizon.Given() && w.Horizon < w.FirstLook {
		horizon.Fail(fmt.Sprintf("horizon %s is before the first look, %s", horizon.Source(), span(w.FirstLook)),
			fmt.Sprintf("write %s or more", span(w.FirstLook)))
	}
	return w
}

// roundUp returns d as whole steps, at least as long as d.
func (w Windows) roundUp(d time.Duration) time.Duration {
	n := d / w.Step
	if d%w.Step != 0 {
		n++
	}
	return n * w.Step
}

func (p *parser) flagList(v strictyaml.Value) []Flag {
	items, ok := v.Items()
	if !ok {
		return nil
	}
	var flags []Flag
	lines := map[string]int{}
	for _, item := range items {
		flag := p.flag(item)
		p.flags = append(p.flags, flag.Key)
		same := p.scope(flag)
		if line, ok := lines[same]; ok {
			item.Fail(fmt.Sprintf("flag %q is behind the same endpoints and signals as the flag in line %d", flag.Key, line), "tell them apart by behind or signals, or keep one")
		} else {
			lines[same] = flag.Line
		}
		flags = append(flags, flag)
	}
	return flags
}

// scope is the same for two flags that match the same comparisons by the same words.
func (p *parser) scope(f Flag) string {
	var b strings.Builder
	for _, label := range slices.Sorted(maps.Keys(f.Behind)) {
		fmt.Fprintf(&b, "%q=%q ", label, f.Behind[label])
	}
	signals := slices.Sorted(slices.Values(f.Signals))
	if f.Signals == nil {
		signals = slices.Sorted(slices.Values(p.signals))
	}
	fmt.Fprintf(&b, "%q", signals)
	return b.String()
}

func (p *parser) flag(v strictyaml.Value) Flag {
	f := Flag{Line: v.Line(), Column: v.Column()}
	m, ok := v.Map()
	if !ok {
		return f
	}
	defer m.Close()
	key := m.Need("key", "write the flag's name in its source")
	f.Key, _ = key.Text()
	if key.Given() {
		f.Line, f.Column = key.Line(), key.Column()
	}
	f.Source, _ = m.Need("source", "write a name under flag_sources of the configuration").Text()
	f.Behind = p.behind(m.Get("behind"))
	f.Signals = p.known(m.Get("signals"), "signal", p.signals)
	f.Off = p.off(m.Need("off", `say what off means: off: {variant: "off"}`))
	f.Probes = p.probes(m.Get("probes"))
	f.Exposure = p.exposure(m.Get("exposure"))
	f.Act, _ = m.Get("act").Bool()
	return f
}

func (p *parser) behind(v strictyaml.Value) map[string]*regexp.Regexp {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	out := map[string]*regexp.Regexp{}
	for _, e := range m.Entries() {
		if !slices.Contains(p.endpoint, e.Key()) {
			e.FailKey(fmt.Sprintf("behind %q is not an endpoint label", e.Key()), strictyaml.DidYouMean(e.Key(), p.endpoint))
		}
		s, ok := e.Text()
		if !ok {
			continue
		}
		// Compiled alone first: anchors must not close a bracket that the pattern left open.
		if _, err := regexp.Compile(s); err != nil {
			e.Fail(fmt.Sprintf("behind %s %q is not a regular expression: %s", e.Key(), s, strings.TrimPrefix(err.Error(), "error parsing regexp: ")), "")
			continue
		}
		re, err := regexp.Compile("^(?s:" + s + ")$") // as Prometheus anchors a matcher
		if err != nil {
			e.Fail(fmt.Sprintf("behind %s %q cannot be anchored: %s", e.Key(), s, strings.TrimPrefix(err.Error(), "error parsing regexp: ")), "")
			continue
		}
		out[e.Key()] = re
	}
	if len(m.Entries()) == 0 {
		m.Fail("behind is empty", "name a label and a regular expression, or leave it out for all endpoints")
	}
	return out
}

// known returns a list of names, each one of those there are.
func (p *parser) known(v strictyaml.Value, what string, names []string) []string {
	list, ok := v.Texts()
	if !ok {
		return nil
	}
	remedy := func(string) string { return "it has none" }
	if len(names) > 0 {
		remedy = func(name string) string { return strictyaml.DidYouMean(name, names) }
	}
	items, _ := v.Items()
	for i, item := range items {
		if !slices.Contains(names, list[i]) {
			item.Fail(fmt.Sprintf("no %s %q in this rule", what, list[i]), remedy(list[i]))
		}
	}
	return list
}

func (p *parser) off(v strictyaml.Value) Off {
	var off Off
	m, ok := v.Map()
	if !ok {
		return off
	}
	defer m.Close()
	variant, ramp, state, consent := m.Get("variant"), m.Get("ramp"), m.Get("state"), m.Get("code_default_is_off")
	off.Variant, _ = variant.Text()
	_, off.RampZero = ramp.Choice("zero")
	_, off.Disabled = state.Choice("disabled")
	switch {
	case state.Given():
		for _, other := range []strictyaml.Value{variant, ramp} {
			if other.Given() {
				other.FailKey(fmt.Sprintf("%s beside state: disabled", other.Key()), "keep one of the two: a disabled flag serves no variant and has no ramp")
			}
		}
		if known, _ := consent.Bool(); off.Disabled && !known {
			state.FailKey("state: disabled leaves everybody to the default in the application's code, which driftwatch cannot see", "name the variant that means off; or write code_default_is_off: true beside it if you know that this default is off")
		}
	case consent.Given():
		consent.FailKey("code_default_is_off without state: disabled", "leave it out: a variant is served whatever the default in the code is")
	}
	if !variant.Given() && !state.Given() {
		m.Fail("off names no variant", `write {variant: "off"}, with the variant that means off`)
	}
	return off
}

func (p *parser) probes(v strictyaml.Value) []map[string]any {
	items, ok := v.Items()
	if !ok {
		return nil
	}
	if len(items) == 0 {
		v.Fail("probes is an empty list", "name at least one context, or leave the field out")
	}
	var out []map[string]any
	for _, item := range items {
		m, ok := item.Map()
		if !ok {
			continue
		}
		if k := m.Get("targetingKey"); k.Given() {
			k.Text()
		}
		x, ok := item.Any()
		if context, isMap := x.(map[string]any); ok && isMap {
			out = append(out, context)
		}
	}
	return out
}

func (p *parser) alpha(v strictyaml.Value) Alpha {
	a := Alpha{Report: 0.05, Act: 0.01}
	m, _ := v.Map()
	defer m.Close()
	report, act := m.Get("report"), m.Get("act")
	level := func(v strictyaml.Value, d *float64) {
		x, ok := v.Fraction()
		switch {
		case !ok:
		case x <= 0 || x > 0.5:
			v.Fail(fmt.Sprintf("alpha.%s %s is not above 0 and at most 0.5", v.Key(), v.Source()), "0.05 is 5 %")
		default:
			*d = x
		}
	}
	level(report, &a.Report)
	level(act, &a.Act)
	if !act.Given() {
		a.Act = min(a.Act, a.Report)
	}
	if act.Given() && a.Act > a.Report {
		act.Fail(fmt.Sprintf("alpha.act %s is more than alpha.report, %g", act.Source(), a.Report), fmt.Sprintf("write %g or less", a.Report))
	}
	return a
}

func (p *parser) paths(v strictyaml.Value) []Path {
	items, ok := v.Items()
	if !ok {
		return nil
	}
	var out []Path
	for _, item := range items {
		m, ok := item.Map()
		if !ok {
			continue
		}
		var path Path
		path.From = p.constraint(m.Get("from"))
		path.To = p.constraint(m.Get("to"))
		path.Flags = p.known(m.Get("flags"), "flag", p.flags)
		if c, ok := m.Get("config").Map(); ok {
			path.Config = map[string]string{}
			for _, e := range c.Entries() {
				path.Config[e.Key()], _ = e.Text()
			}
		}
		path.Notes, _ = m.Get("notes").Text()
		m.Close()
		out = append(out, path)
	}
	return out
}

func (p *parser) constraint(v strictyaml.Value) string {
	s, ok := v.Text()
	if !ok {
		return ""
	}
	if err := checkConstraint(s); err != nil {
		v.Fail(fmt.Sprintf("%s %q is not a version constraint: %v", v.Key(), s, err), `write it like "<2.42.0" or ">=2.42.0, <3"`)
		return ""
	}
	return s
}

func (p *parser) mutes(v strictyaml.Value) []Mute {
	items, ok := v.Items()
	if !ok {
		return nil
	}
	var out []Mute
	for _, item := range items {
		m, ok := item.Map()
		if !ok {
			continue
		}
		var mute Mute
		var fromOK, toOK bool
		mute.From, fromOK = m.Need("from", "write it like 2026-12-24T18:00:00Z").Time()
		to := m.Need("to", "write it like 2026-12-27T06:00:00Z")
		mute.To, toOK = to.Time()
		if fromOK && toOK && !mute.From.Before(mute.To) {
			to.Fail(fmt.Sprintf("mute ends at %s, not after it begins", to.Source()), "exchange from and to")
		}
		mute.Reason, _ = m.Get("reason").Text()
		m.Close()
		out = append(out, mute)
	}
	return out
}
