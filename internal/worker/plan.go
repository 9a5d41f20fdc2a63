package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// An Approval is where plans go that a person has to approve.
type Approval struct {
	Required bool
	Plans    string        // directory
	Valid    time.Duration // of a plan
}

// Plan is the change that turns a flag off, as a plan that a person may approve. Nothing is
// written. The error wraps one of the flags package.
func (h Hand) Plan(source flags.Switch, state flags.State, off rule.Off, key journal.Key, by, reason string, valid time.Duration) (flags.Plan, error) {
	c, err := change(source, state, off, key)
	if err != nil {
		return flags.Plan{}, err
	}
	now := h.Clock().UTC()
	return flags.Plan{Rule: key.Rule, UpgradeID: key.UpgradeID, Made: now, ValidUntil: now.Add(valid), By: by, Reason: reason, Change: c}, nil
}

// Apply carries out a plan that by approved, as TurnOff does, if it still may be carried out
// (flags.Plan.Check).
func (h Hand) Apply(ctx context.Context, source flags.Switch, state flags.State, p flags.Plan, by string) (Write, error) {
	if err := p.Check(source, state, h.Clock()); err != nil {
		return Write{}, err
	}
	key := journal.Key{Rule: p.Rule, UpgradeID: p.UpgradeID, Source: p.Change.Ref.Source, Flag: p.Change.Ref.Key}
	return h.write(ctx, source, state, p.Change, key, by)
}

// WritePlan puts a plan into a file, whole or not at all. Only its owner may read it: the rules
// of a flag may name customers.
func WritePlan(path string, p flags.Plan) (err error) {
	body, err := p.Text()
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // it is not complete
		}
	}()
	_, err = file.Write(body)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return os.Rename(file.Name(), path)
}

// ReadPlan reads what WritePlan wrote.
func ReadPlan(path string) (flags.Plan, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return flags.Plan{}, err
	}
	p, err := flags.ParsePlan(body)
	if err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// propose writes the plan of turning off a flag where a person can approve it, and returns its
// path. A plan that still may be carried out stays as it is: somebody may be looking at it.
func (s *session) propose(flag int, state flags.State) (string, error) {
	f := s.Rule.Flags[flag]
	source, err := s.source(f.Source)
	if err != nil {
		return "", err
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
			return '_'
		}
		return r
	}, s.in.UpgradeID+"-"+f.Key)
	path := filepath.Join(s.Approval.Plans, name+".json")
	old, err := ReadPlan(path)
	if err == nil && old.Check(source, state, s.present()) == nil {
		return path, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, flags.ErrInvalid) {
		return "", err
	}
	key := journal.Key{Rule: rulePath(s.Rule), UpgradeID: s.in.UpgradeID, Source: f.Source, Flag: f.Key}
	p, err := s.hand().Plan(source, state, f.Off, key, "driftwatch "+s.Tool, s.whyPlanned(flag), s.Approval.Valid)
	if err != nil {
		return "", err
	}
	return path, WritePlan(path, p)
}

// whyPlanned names the rows behind a flag that regressed.
func (s *session) whyPlanned(flag int) string {
	var rows []string
	for _, r := range s.judged.Rows {
		if r.Flag == flag && r.RegressedAt > 0 {
			rows = append(rows, r.Endpoint.String()+" "+s.Rule.Signals[r.Signal].Name)
		}
	}
	return "regressed: " + strings.Join(rows, ", ")
}
