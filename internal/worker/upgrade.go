package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// upgradeID names an upgrade of a rule: its time to the second, the service, and 4 hex digits
// of the rule's path, so that two rules of one service do not share a name.
func upgradeID(u telemetry.Upgrade, r *rule.Rule) string {
	sum := sha256.Sum256([]byte(r.Path))
	return fmt.Sprintf("%s-%s-%s", u.At.UTC().Format("20060102-150405"), slug(r.Service), hex.EncodeToString(sum[:2]))
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

// superseded looks for a version that arrived after the upgrade was complete: looks end
// there, and nothing is acted on, because the numbers are another version's.
func (s *session) superseded(ctx context.Context) error {
	if s.Rule.Upgrade == nil {
		return nil
	}
	spans, err := s.versions(ctx, telemetry.Window{Start: s.upgrade.Started.Add(-s.Rule.Windows.Before), End: s.now})
	if err != nil {
		return err
	}
	s.replaced = time.Time{}
	current := map[string]bool{s.upgrade.To: true}
	if s.upgrade.To == "" {
		for _, span := range spans {
			if !span.First.After(s.upgrade.At) && span.Last.After(s.upgrade.At) {
				current[span.Version] = true
			}
		}
	}
	for _, span := range spans {
		if span.First.After(s.upgrade.At) && !current[span.Version] && (s.replaced.IsZero() || span.First.Before(s.replaced)) {
			s.replaced, s.replacedBy = span.First, span.Version
		}
	}
	return nil
}
