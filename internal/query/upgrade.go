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
// lost scrapes at 1 min look like a rollout; more, and what was removed stays for longer.
const presenceGap = 5 * time.Minute

// FindUpgrade returns the newest version change that spans show up to now, or the newest
// change to the version to if that is not "". Started is the first sight of the new version,
// At the first instant from which on every live target reported it. While a target still
// reports another version the state is InProgress and At is the zero Time; a version that was
// given up on the way, unseen for five minutes while the old one lives on, is no change.
// Nor is one that was there within five minutes of the first span, nor one that came back
// within five minutes, unless another version had replaced it and is gone: a rollback.
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
	seen = joined(seen)
	for _, a := range slices.Backward(arrivals(seen, now)) {
		if to != "" && a.version != to {
			continue
		}
		at, done := allReport(seen, a.version, a.at, now)
		if !done && now.Sub(lastSight(seen, a.version)) > presenceGap {
			continue // given up
		}
		u := telemetry.Upgrade{
			Service: service, Started: a.at, To: a.version, FoundBy: foundBy,
			From: versionBefore(seen, a.version, a.at),
		}
		if !done {
			return u, InProgress
		}
		u.At = at
		return u, Complete
	}
	return telemetry.Upgrade{}, NoUpgrade
}

// joined makes one of two spans in which a target shows the same version, not more than
// presenceGap apart and with no other version of the target between: a scrape failed. spans
// are sorted, and so is the result.
func joined(spans []telemetry.VersionSpan) []telemetry.VersionSpan {
	var out []telemetry.VersionSpan
	latest := map[string]int{} // by target: its last span in out
	for _, s := range spans {
		i, known := latest[s.Target]
		if known && out[i].Version == s.Version && s.First.Sub(out[i].Last) <= presenceGap {
			if s.Last.After(out[i].Last) {
				out[i].Last, out[i].Gone = s.Last, s.Gone
			}
			continue
		}
		latest[s.Target] = len(out)
		out = append(out, s)
	}
	return out
}

// An arrival is a version that appeared while another one was known before.
type arrival struct {
	at      time.Time
	version string
}

// arrivals are in order of time.
func arrivals(spans []telemetry.VersionSpan, now time.Time) []arrival {
	var out []arrival
	lastSeen := map[string]time.Time{}
	for i, s := range spans {
		last, known := lastSeen[s.Version]
		arrived := !known || s.First.Sub(last) > presenceGap
		if known && !arrived && len(out) > 0 && s.First.After(last) {
			// Unseen for less. If the newest arrival took its place and went, it was rolled back.
			by := out[len(out)-1].version
			arrived = by != s.Version && lastSeen[by].After(last) && !live(spans[:i], spans, by, now)
		}
		others := len(lastSeen)
		if known {
			others--
		}
		// What is seen about as early as anything was there from the beginning.
		fresh := s.First.Sub(spans[0].First) > presenceGap
		if arrived && fresh && others > 0 {
			out = append(out, arrival{s.First, s.Version})
		}
		if s.Last.After(last) {
			lastSeen[s.Version] = s.Last
		}
	}
	return out
}

// live reports whether a target of some, which are among all, still shows version.
func live(some, all []telemetry.VersionSpan, version string, now time.Time) bool {
	return slices.ContainsFunc(some, func(s telemetry.VersionSpan) bool {
		return s.Version == version && !s.Gone && now.Sub(s.Last) <= presenceGap &&
			!slices.ContainsFunc(all, func(next telemetry.VersionSpan) bool {
				return next.Target == s.Target && next.First.After(s.Last)
			})
	})
}

// lastSight is when version was last seen.
func lastSight(spans []telemetry.VersionSpan, version string) time.Time {
	var last time.Time
	for _, s := range spans {
		if s.Version == version && s.Last.After(last) {
			last = s.Last
		}
	}
	return last
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
