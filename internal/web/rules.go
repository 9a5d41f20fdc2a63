package web

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
)

// A ruleFact is a part of a rule in words.
type ruleFact struct {
	Name  string
	Lines []string
}

func (s *Server) rules(w http.ResponseWriter, r *http.Request) {
	type shown struct {
		Path, Service, Label, Text string
		Facts                      []ruleFact
	}
	out := make([]shown, 0, len(s.Rules))
	for _, one := range s.Rules {
		out = append(out, shown{one.Path, one.Service, one.Label, strings.ToValidUTF8(string(one.Text), "\uFFFD"), ruleFacts(one)})
	}
	s.show(w, r, http.StatusOK, "rules", "Rules", out)
}

// ruleFacts are what a reader looks for in a rule. Its text below them says all of it.
func ruleFacts(r *rule.Rule) []ruleFact {
	signals := ruleFact{Name: "Compared, for each " + strings.Join(r.Endpoint, " and ")}
	for _, s := range r.Signals {
		signals.Lines = append(signals.Lines, signalWords(s))
	}
	w := r.Windows
	windows := ruleFact{Name: "When", Lines: []string{
		"baseline " + lasting(w.Before) + ", settle time " + lasting(w.Guard),
		"looks from " + lasting(w.FirstLook) + " to " + lasting(w.Horizon) + " after the upgrade",
		"ranked among placebos of " + lasting(w.History),
	}}
	if w.History == 0 {
		windows.Lines[2] = "no history: the last steps before the upgrade stand for it"
	}
	if r.Upgrade == nil {
		windows.Lines = append(windows.Lines, "upgrades are told with --at")
	} else {
		windows.Lines = append(windows.Lines, "upgrades are changes of "+r.Upgrade.VersionLabel+" in "+r.Upgrade.Metric)
	}
	flags := ruleFact{Name: "Flags"}
	for _, f := range r.Flags {
		words := f.Key + " in " + f.Source + ", off by "
		if f.Off.Disabled {
			words += "disabling it"
		} else {
			words += "variant " + f.Off.Variant
		}
		if f.Act {
			words += "; driftwatch may turn it off"
		} else {
			words += "; never turned off without a person"
		}
		flags.Lines = append(flags.Lines, words)
	}
	if len(r.Flags) == 0 {
		flags.Lines = []string{"none: a regression is reported, and nothing is turned off"}
	}
	return []ruleFact{signals, windows, flags, {"False alarms", []string{
		"confirmed at " + percent(r.Alpha.Act) + " %, suspected at " + percent(r.Alpha.Report) + " %, over all endpoints of an upgrade",
	}}}
}

// signalWords are a signal and the smallest change of it that matters.
func signalWords(s rule.Signal) string {
	words := s.Name
	if s.Kind == rule.Histogram {
		words += ", quantile " + strconv.FormatFloat(s.Quantile, 'g', -1, 64)
	}
	effect := percent(s.MinimumEffect) + " %"
	if s.MinimumEffectAuto {
		effect = "10 %, or what history can tell apart if that is more,"
	}
	words += ": changes of at least " + effect
	if s.MinimumChange > 0 {
		least := strconv.FormatFloat(s.MinimumChange, 'g', -1, 64) + " " + s.Unit
		switch s.Unit {
		case "s":
			least = strconv.FormatFloat(s.MinimumChange*1000, 'g', 6, 64) + " ms"
		case "1":
			least = strconv.FormatFloat(s.MinimumChange*100, 'g', 6, 64) + " percentage points"
		}
		words += " and " + least
	}
	return words
}

// lasting is a span of a rule: "90 min", "7 days".
func lasting(d time.Duration) string {
	switch {
	case d >= 48*time.Hour && d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 3*time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%g s", d.Seconds())
}
