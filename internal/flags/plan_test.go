package flags

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var planMade = time.Date(2026, 3, 11, 14, 20, 0, 0, time.UTC)

// aPlan is a plan of turning off a flag of a file of its own.
func aPlan(t *testing.T) (Plan, *FlagdFile) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.json")
	if err := os.WriteFile(path, []byte(`{"flags": {"x": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "targeting": {"if": [true, "on"]}}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	f := NewFlagdFile("production", path)
	s, err := f.Read(t.Context(), Ref{"production", "x"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Plan(s, OffVariant, Want{Variant: "off"})
	if err != nil {
		t.Fatal(err)
	}
	return Plan{Rule: "rules/a.yaml", UpgradeID: "up-1", Made: planMade, ValidUntil: planMade.Add(time.Hour), By: "driftwatch 0.1.0", Change: c}, f
}

func TestPlanComesBackFromItsText(t *testing.T) {
	p, f := aPlan(t)
	body, err := p.Text()
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParsePlan(body)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Read(t.Context(), p.Change.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Check(f, s, planMade.Add(59*time.Minute)); err != nil {
		t.Errorf("a plan as it was written is refused: %v", err)
	}
	if _, err := f.TurnOff(t.Context(), q.Change); err != nil {
		t.Errorf("the change does not survive the file: %v", err)
	}
}

func TestPlanIsRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(p *Plan)
		now    time.Duration
		want   error
	}{
		{"after its validity", func(*Plan) {}, 61 * time.Minute, ErrExpired},
		{"before it was made", func(*Plan) {}, -2 * time.Minute, ErrExpired},
		{"planMade on another revision", func(p *Plan) { p.Change.Base = "00000000" }, 0, ErrConflict},
		{"edited to write something else", func(p *Plan) {
			p.Change.Forward = json.RawMessage(strings.Replace(string(p.Change.Forward), `\"off\"`, `\"on\"`, 1))
		}, 0, ErrNotThePlan},
		{"edited to lead elsewhere", func(p *Plan) { p.Change.After = "00000000" }, 0, ErrNotThePlan},
		{"edited to another variant", func(p *Plan) { p.Change.Want.Variant = "on" }, 0, ErrNotThePlan},
		{"edited to undo something else", func(p *Plan) { p.Change.Inverse = json.RawMessage("[]") }, 0, ErrNotThePlan},
		{"another flag", func(p *Plan) { p.Change.Ref.Key = "y" }, 0, ErrNotThePlan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, f := aPlan(t)
			s, err := f.Read(t.Context(), p.Change.Ref)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(&p)
			if err := p.Check(f, s, planMade.Add(tt.now)); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestParsePlanErrors(t *testing.T) {
	p, _ := aPlan(t)
	body, err := p.Text()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, text, words string }{
		{"empty", "", "no plan"},
		{"cut", string(body[:len(body)/2]), "no plan"},
		{"two of them", string(body) + string(body), "follows"},
		{"unknown field", strings.Replace(string(body), `"rule"`, `"role"`, 1), "role"},
		{"another schema", strings.Replace(string(body), PlanSchema, "driftwatch.plan/v9", 1), "v9"},
		{"no flag", strings.Replace(string(body), `"key": "x"`, `"key": ""`, 1), "names no flag"},
		{"ends before it begins", strings.Replace(string(body), `"valid_until": "2026-03-11T15`, `"valid_until": "2026-03-11T13`, 1), "not after"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParsePlan([]byte(tt.text)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v, want ErrInvalid with %q", err, tt.words)
			}
		})
	}
}

// Whatever a plan file holds, it is read or refused, and what is read is written the same.
func FuzzParsePlan(f *testing.F) {
	f.Add([]byte(`{"schema":"driftwatch.plan/v1","rule":"r","upgrade_id":"u","made":"2026-03-11T14:20:00Z","valid_until":"2026-03-11T15:20:00Z","by":"","reason":"",` +
		`"change":{"ref":{"source":"s","key":"k"},"mode":"variant","want":{"variant":"off","value":false},"path":"","base":"0","after":"1","diff":"","forward":[],"inverse":[]}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParsePlan(body)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%v is not ErrInvalid", err)
			}
			return
		}
		again, err := p.Text()
		if err != nil {
			t.Fatalf("a plan that was read cannot be written: %v", err)
		}
		q, err := ParsePlan(again)
		if err != nil {
			t.Fatalf("a plan that was written cannot be read: %v", err)
		}
		if !q.Change.same(p.Change) || !q.Made.Equal(p.Made) || q.UpgradeID != p.UpgradeID {
			t.Fatalf("%+v came back as %+v", p, q)
		}
	})
}
