package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// upgradeID names an upgrade of a rule: its time to the second, the service, and 4 hex digits
// of the rule's path, so that two rules of one service do not share a name.
func upgradeID(u telemetry.Upgrade, r *rule.Rule) string {
	sum := sha256.Sum256([]byte(rulePath(r)))
	return fmt.Sprintf("%s-%s-%s", u.At.UTC().Format("20060102-150405"), slug(r.Service), hex.EncodeToString(sum[:2]))
}

// rulePath is the path of a rule's file however it was written: absolute, without symbolic
// links. A path that cannot be resolved stands for itself.
func rulePath(r *rule.Rule) string {
	file, document, _ := strings.Cut(r.Path, "#")
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	return file + "#" + document
}

// slug keeps what may stand in a file name and a URL.
func slug(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, s)
}

// rolloutOf counts how far a rollout has come: targets whose newest span is the new version,
// of those seen within the last look-back of Prometheus.
func rolloutOf(u telemetry.Upgrade, spans []telemetry.VersionSpan, now time.Time) *Rollout {
	newest := map[string]telemetry.VersionSpan{}
	for _, s := range spans {
		if old, ok := newest[s.Target]; !ok || s.Last.After(old.Last) {
			newest[s.Target] = s
		}
	}
	r := &Rollout{From: u.From, To: u.To, Started: u.Started}
	for _, s := range newest {
		if s.Gone || now.Sub(s.Last) > 5*time.Minute {
			continue
		}
		r.Need++
		if s.Version == u.To {
			r.Have++
		}
	}
	return r
}

// superseded looks for a version that arrived after the upgrade had settled: looks end there,
// and nothing is acted on, because the numbers are another version's.
func (s *session) superseded(ctx context.Context) error {
	if s.Rule.Upgrade == nil {
		return nil
	}
	spans, err := s.versions(ctx, telemetry.Window{Start: s.upgrade.Started.Add(-s.Rule.Windows.Before), End: s.now})
	if err != nil {
		return err
	}
	if next, ok := successor(spans, *s.upgrade, s.Rule.Windows.Guard); ok {
		s.replaced, s.replacedBy = next.First, next.Version
		s.warn(fmt.Sprintf("superseded: %s followed at %s, and looks end there", next.Version, stamp(next.First)))
	}
	return nil
}

// successor is the first span of another version that begins after the upgrade and its guard.
// An upgrade that was told without its version led to the one that arrived last until then:
// a scrape may see it a little after the time that was told.
func successor(spans []telemetry.VersionSpan, u telemetry.Upgrade, guard time.Duration) (telemetry.VersionSpan, bool) {
	settled := u.At.Add(guard)
	current := u.To
	var arrived time.Time
	for _, span := range spans {
		if u.To == "" && !span.First.After(settled) && span.First.After(arrived) {
			current, arrived = span.Version, span.First
		}
	}
	var next telemetry.VersionSpan
	for _, span := range spans {
		if span.First.After(settled) && span.Version != current && (next.First.IsZero() || span.First.Before(next.First)) {
			next = span
		}
	}
	return next, !next.First.IsZero() && current != ""
}
