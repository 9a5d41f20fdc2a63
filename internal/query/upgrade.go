package query

import (
	"cmp"
	"slices"
	"time"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Rollout is how far a version change has come.
type Rollout int

// The states. The zero value says that there is nothing to judge.
const (
	NoUpgrade  Rollout = iota // one version, or none, the whole time
	InProgress                // both versions are live
	Complete                  // every live target reports the new version
)

// presenceGap is how long a version may be unseen and still count as there, and how long a
// target without a stale marker stays live. It is Prometheus' own look-back: less, and two
// lost scrapes at 1 min look like a rollout; more, and a rollback within minutes is missed.
const presenceGap = 5 * time.Minute

// FindUpgrade returns the newest version change that spans show up to now, or the newest
// change to the version to if that is not "". Started is the first sight of the new version,
// At the first instant from which on every live target reported it. While a target still
// reports another version the state is InProgress and At is the zero Time. A version that
// was there within five minutes of the first span, and one that came back within five minutes, is no change.
// foundBy is copied into the upgrade. spans need no order.
func FindUpgrade(spans []telemetry.VersionSpan, now time.Time, service, foundBy, to string) (telemetry.Upgrade, Rollout) {
	seen := make([]telemetry.VersionSpan, 0, len(spans))
	for _, s := range spans {
		if s.First.After(now) {
			continue
		}
		if s.Last.After(now) {
			s.Last, s.Gone = now, false
		}
		seen = append(seen, s)
	}
	slices.SortFunc(seen, func(a, b telemetry.VersionSpan) int {
		return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last),
			cmp.Compare(a.Target, b.Target), cmp.Compare(a.Version, b.Version))
	})
	started, version := newestArrival(seen, to)
	if started.IsZero() {
		return telemetry.Upgrade{}, NoUpgrade
	}
	u := telemetry.Upgrade{
		Service: service, Started: started, To: version, FoundBy: foundBy,
		From: versionBefore(seen, version, started),
	}
	at, done := allReport(seen, version, started, now)
	if !done {
		return u, InProgress
	}
	u.At = at
	return u, Complete
}

// newestArrival is the last time a version appeared while another one was known before.
func newestArrival(spans []telemetry.VersionSpan, to string) (time.Time, string) {
	var at time.Time
	var version string
	lastSeen := map[string]time.Time{}
	for _, s := range spans {
		last, known := lastSeen[s.Version]
		arrived := !known || s.First.Sub(last) > presenceGap
		others := len(lastSeen)
		if known {
			others--
		}
		// What is seen about as early as anything was there from the beginning.
		fresh := s.First.Sub(spans[0].First) > presenceGap
		if arrived && fresh && others > 0 && (to == "" || s.Version == to) {
			at, version = s.First, s.Version
		}
		if s.Last.After(last) {
			lastSeen[s.Version] = s.Last
		}
	}
	return at, version
}

// versionBefore is what most targets reported just before the upgrade started.
func versionBefore(spans []telemetry.VersionSpan, version string, started time.Time) string {
	targets := map[string]int{}
	var nearest time.Time
	for _, s := range spans {
		if s.Version != version && s.First.Before(started) && s.Last.After(nearest) {
			nearest = s.Last
		}
	}
	if nearest.After(started) {
		nearest = started
	}
	for _, s := range spans {
		if s.Version != version && s.First.Before(started) && nearest.Sub(s.Last) <= presenceGap {
			targets[s.Version]++
		}
	}
	best := ""
	for v, n := range targets {
		if n > targets[best] || n == targets[best] && v < best {
			best = v
		}
	}
	return best
}

// allReport is the first instant from started on at which no target reports another version.
// A target that restarts in place counts from its first sample with the new version.
func allReport(spans []telemetry.VersionSpan, version string, started, now time.Time) (time.Time, bool) {
	at := started
	for moved := true; moved; {
		moved = false
		for _, s := range spans {
			if s.Version == version || s.First.After(at) || s.Last.Before(started) {
				continue
			}
			if !s.Gone && now.Sub(s.Last) <= presenceGap && !reportsAfter(spans, s.Target, version, s.Last) {
				return time.Time{}, false
			}
			end := s.Last
			if next, ok := firstReport(spans, s.Target, version, s.Last); ok && next.Sub(s.Last) <= presenceGap {
				end = next
			}
			if end.After(at) {
				at, moved = end, true
			}
		}
	}
	return at, true
}

func reportsAfter(spans []telemetry.VersionSpan, target, version string, t time.Time) bool {
	_, ok := firstReport(spans, target, version, t)
	return ok
}

func firstReport(spans []telemetry.VersionSpan, target, version string, after time.Time) (time.Time, bool) {
	for _, s := range spans {
		if s.Target == target && s.Version == version && s.First.After(after) {
			return s.First, true
		}
	}
	return time.Time{}, false
}
