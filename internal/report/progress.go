package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Progress formats the lines that a check writes to stderr while it works. Each method
// returns one line without its end. It prints nothing and keeps nothing.
type Progress struct {
	ASCII bool
	Ref   time.Time // the day that goes without saying, usually that of the upgrade; zero = every day is written
}

// progressLabel is the width of the left column.
const progressLabel = 25

// Line is a label and what is to be said of it.
func (p Progress) Line(label, text string) string {
	s := "  " + pad(cut(printable(label), progressLabel-1), progressLabel) + printable(text)
	if p.ASCII {
		s = ascii(s)
	}
	return s
}

// Header names the tool and what it is going to compare.
func (p Progress) Header(version, rule string, endpoints, signals int) string {
	s := fmt.Sprintf("driftwatch %s  %s  %d %s × %d %s", printable(version), printable(rule),
		endpoints, plural(endpoints, "endpoint", "endpoints"), signals, plural(signals, "signal", "signals"))
	if p.ASCII {
		s = ascii(s)
	}
	return s
}

// Prometheus says that the server answered: apart is its clock minus ours, keeps its
// retention (0 = not known).
func (p Progress) Prometheus(host string, apart, keeps time.Duration) string {
	s := "reachable, clock " + span(apart.Abs()) + " apart"
	if keeps > 0 {
		s += ", keeps " + span(keeps)
	}
	return p.Line(host, s)
}

// Deploy is the upgrade that was found; nil = none.
func (p Progress) Deploy(u *telemetry.Upgrade) string {
	if u == nil {
		return p.Line("deploy", "no upgrade found")
	}
	s := u.Service
	if v := versions(u.From, u.To); v != "" {
		s += " " + v
	}
	if u.At.IsZero() {
		return p.Line("deploy", s+", still being rolled out")
	}
	s += ", " + clock(u.At, p.Ref) + " UTC"
	if u.FoundBy == "flag" {
		return p.Line("deploy", s+", as told")
	}
	if u.FoundBy != "" {
		s += ", from " + u.FoundBy
	}
	return p.Line("deploy", s)
}

// Windows are the spans to be compared; a zero post window has not begun.
func (p Progress) Windows(baseline, post telemetry.Window, guard time.Duration) string {
	s := fmt.Sprintf("baseline %s–%s · settle %s", clock(baseline.Start, p.Ref), clock(baseline.End, p.Ref), span(guard))
	if p.ASCII {
		s = fmt.Sprintf("baseline %s-%s, settle %s", clock(baseline.Start, p.Ref), clock(baseline.End, p.Ref), span(guard))
	}
	sep := " · "
	if p.ASCII {
		sep = ", "
	}
	if post.End.IsZero() {
		return p.Line("windows", s+sep+"post-upgrade not begun")
	}
	return p.Line("windows", s+sep+fmt.Sprintf("post-upgrade %s–%s", clock(post.Start, p.Ref), clock(post.End, p.Ref)))
}

// Flag is one flag as it was read; revision "" = not known.
func (p Progress) Flag(key, state, revision string, writable bool) string {
	s := key + "  " + state
	if revision != "" {
		s += ", revision " + revision
	}
	if writable {
		return p.Line("flag", s+", writable")
	}
	return p.Line("flag", s+", read-only")
}

// Queries is how far the reading has come.
func (p Progress) Queries(done, total int, took time.Duration, samples int64) string {
	return p.Line("queries", fmt.Sprintf("%d of %d   %s   %s samples", done, total, span(took), count(Number(samples))))
}

// Look is the n-th look, made at a time, with the numbers of comparisons by how they stand.
func (p Progress) Look(n int, at time.Time, confirmed, suspected, total int) string {
	s := fmt.Sprintf("nothing confirmed in %d", total)
	switch {
	case confirmed > 0 && suspected > 0:
		s = fmt.Sprintf("%d of %d confirmed, %d suspected", confirmed, total, suspected)
	case confirmed > 0:
		s = fmt.Sprintf("%d of %d confirmed", confirmed, total)
	case suspected > 0:
		s = fmt.Sprintf("%d of %d suspected, none confirmed", suspected, total)
	}
	return p.Line(fmt.Sprintf("look %d, %s", n, clock(at, p.Ref)), s)
}

// Action is what was done about a flag, or was not done and why.
func (p Progress) Action(a Action) string {
	r := &Report{Now: At(p.Ref)}
	label := "flag"
	if a.Outcome == Verified || a.Outcome == WrittenNotVerified {
		label = "flag off"
		if !a.At.IsZero() {
			label += ", " + clock(a.At.Time, p.Ref)
		}
	}
	if a.Outcome == Verified {
		return p.Line(label, flagName(a)+revisions(a)+", "+proof(a))
	}
	return p.Line(label, strings.TrimSuffix(r.actionText(a), "."))
}

// Recovery is what the numbers do since the flag went off.
func (p Progress) Recovery(rec Recovery) string {
	r := &Report{Now: At(p.Ref), Recovery: rec}
	s := r.recoveryText()
	if s == "" {
		s = "nothing to recover from"
	}
	if !rec.Confirmed.IsZero() {
		s += " Confirmed " + clock(rec.Confirmed.Time, p.Ref) + "."
	}
	return p.Line("recovery", s)
}
