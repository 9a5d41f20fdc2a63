package worker

import (
	"slices"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func TestPastUpgrades(t *testing.T) {
	s := session{Checker: &Checker{Rule: &rule.Rule{Windows: rule.Windows{Step: time.Minute}}}, upgrade: &telemetry.Upgrade{At: at}}
	s.in.Geometry = baseline.Geometry{Guard: 3, Horizon: 60}
	span := func(target, version string, from, to int) telemetry.VersionSpan {
		return telemetry.VersionSpan{Target: target, Version: version, First: s.stepTime(from).Add(time.Second), Last: s.stepTime(to)}
	}
	excluded, kept := s.pastUpgrades([]telemetry.VersionSpan{
		span("job/1", "1", -10080, -8000),                                  // the version that there was
		span("job/1", "2", -8000, -6000), span("job/2", "2", -7998, -6000), // kept; the second target follows
		span("job/1", "3", -6000, -5980), span("job/1", "2", -5980, -4000), // taken back
		span("job/1", "4", -4000, -3970), span("job/1", "5", -3970, -1000), // replaced; that one is kept
		span("job/1", "5", -900, 0), // restarted
	})
	if want := [][2]int{{-8000, -7996}, {-6000, -5996}, {-4000, -3996}, {-3970, -3966}}; !slices.Equal(excluded, want) {
		t.Errorf("excluded %v, want %v", excluded, want)
	}
	if want := []int{-8000, -3970}; !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
}
