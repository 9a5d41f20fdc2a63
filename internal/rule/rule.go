// Package rule holds what a team wrote down about one service: where its numbers are, what
// makes an endpoint, which flags it may lose. It is data and parsing only; whatever needs a
// server to check a rule lives in cmd.
package rule

import (
	"regexp"
	"slices"
	"time"
)

// A Rule is one document of rules/*.yaml (docs/rules.md).
type Rule struct {
	Path string // file it came from, with "#n" behind it for the n-th document of several
	Text []byte // the document as it was read

	Service  string
	Label    string // words for stakeholders; "" means the service's name
	Select   string // PromQL matchers in braces, added to every metric; "" or "{}" = none
	Endpoint []string
	Upgrade  *UpgradeMetric // nil: upgrades are told by --at
	Windows  Windows
	Signals  []Signal
	Flags    []Flag
	Upgrades []Path
	Alpha    Alpha
	History  string // "measured" or "generated"; copied into the report

	ActOnShortHistory  bool
	ActWithoutControls bool
	Mute               []Mute
}

// An UpgradeMetric is the series that shows a version change.
type UpgradeMetric struct {
	Metric       string
	VersionLabel string
}

// Windows are the spans of a comparison, each a whole number of steps.
type Windows struct {
	Step      time.Duration
	Before    time.Duration // baseline, ends when the upgrade started
	Guard     time.Duration // left out after the upgrade
	FirstLook time.Duration // counted from the upgrade
	Horizon   time.Duration // last look, counted from the upgrade
	History   time.Duration // from the upgrade back to the earliest placebo; 0 = none
}

// Kind is how a signal is stored in Prometheus.
type Kind string

// The kinds of signal.
const (
	Histogram Kind = "histogram"
	Ratio     Kind = "ratio"
	Gauge     Kind = "gauge"
)

// Direction is which way a signal may not go.
type Direction string

// The directions. Up is the default.
const (
	Up   Direction = "up"
	Down Direction = "down"
	Both Direction = "both"
)

// A Signal is one measured property of every endpoint.
type Signal struct {
	Name      string
	Kind      Kind
	Metric    string  // histogram without _bucket; "of" of a ratio; the gauge
	Per       string  // denominator of a ratio
	Quantile  float64 // histogram; default 0.99
	Select    string  // matchers in braces, added to the rule's
	Direction Direction

	// MinimumEffect is relative, in the signal's own unit: 0.1 is 10 %. Auto means 10 % or
	// what history shows can be found, whichever is more (DESIGN: "auto").
	MinimumEffect     float64
	MinimumEffectAuto bool
	// MinimumChange is absolute, in Unit: seconds for histograms, events per trial for ratios.
	MinimumChange float64
	Unit          string // "s", "1", or what the rule says for a gauge
	Line, Column  int    // where its metric is named, for messages
}

// A Flag is a switch that may be behind a regression.
type Flag struct {
	Key      string
	Source   string
	Behind   map[string]*regexp.Regexp // anchored, per endpoint label; nil = every endpoint
	Signals  []string                  // names; nil = every signal
	Off      Off
	Probes   []map[string]any
	Exposure string // PromQL, 0 to 1; "" = not known
	Act      bool
	Line     int
	Column   int
}

// Off is what "off" means for a flag: a variant that everybody gets. A disabled flag serves
// none: it leaves everybody to the default in the application's code, which nobody can check from
// here, so that takes the word of who wrote the rule (code_default_is_off).
type Off struct {
	Variant  string // "" where Disabled
	RampZero bool   // the flag's one ramp is set to give Variant to all; its rules stay
	Disabled bool   // the flag is disabled
}

// A Path is a known upgrade; only its flags may be acted on when it matches.
type Path struct {
	From, To string // version constraints such as "<2.42.0"; "" matches all
	Flags    []string
	Config   map[string]string
	Notes    string
}

// Alpha are the false discovery rates over the endpoints of one upgrade.
type Alpha struct {
	Report float64
	Act    float64
}

// A Mute is a span in which upgrades are judged and never acted on.
type Mute struct {
	From, To time.Time
	Reason   string
}

// Steps returns d as a number of the rule's steps.
func (w Windows) Steps(d time.Duration) int { return int(d / w.Step) }

// FlagOf returns the index of the flag that a comparison belongs to, the first whose behind
// and signals match, or -1. labels are the rule's endpoint labels, values in the same order.
func (r *Rule) FlagOf(values []string, signal string) int {
	for i, f := range r.Flags {
		if f.matches(r.Endpoint, values) && f.has(signal) {
			return i
		}
	}
	return -1
}

func (f Flag) has(signal string) bool {
	return f.Signals == nil || slices.Contains(f.Signals, signal)
}

func (f Flag) matches(labels, values []string) bool {
	for i, l := range labels {
		if re := f.Behind[l]; re != nil && !re.MatchString(values[i]) {
			return false
		}
	}
	return true
}
