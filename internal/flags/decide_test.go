package flags

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// sound is an input that is acted on.
func sound() DecideInput {
	at := time.Date(2026, 3, 11, 14, 2, 10, 0, time.UTC)
	pay := telemetry.NewEndpoint("POST", "/v1/payments")
	return DecideInput{
		Rule: &rule.Rule{
			Windows: rule.Windows{Step: time.Minute, Horizon: time.Hour},
			Flags: []rule.Flag{
				{Key: "backoff", Source: "production", Off: rule.Off{Variant: "off"}, Act: true},
				{Key: "hedging", Source: "production", Off: rule.Off{Variant: "off"}, Act: true},
			},
			Alpha: rule.Alpha{Report: 0.05, Act: 0.01},
		},
		Flag: 0,
		Judgement: detect.Judgement{
			RestartCovered: true, Tier: "full",
			Rows: []detect.Row{
				{Endpoint: pay, Flag: 0, Verdict: detect.Regressed, QAct: 0.001, StillThere: true},
				{Endpoint: telemetry.NewEndpoint("GET", "/"), Flag: -1, Control: true, Verdict: detect.Undecided, QAct: math.NaN()},
			},
		},
		Upgrade:   telemetry.Upgrade{Started: at.Add(-time.Minute), At: at, From: "2.41.3", To: "2.42.0"},
		UpgradeID: "up-1",
		Act:       true,
		Now:       at.Add(20 * time.Minute),
		Present:   at.Add(21 * time.Minute),
		State:     State{Ref: Ref{"production", "backoff"}, Path: "flags.json", Present: true, Enabled: true, DefaultVariant: "on"},
		Served:    &Serving{Contexts: 5, Suspect: 5},
		Limits:    Limits{PerHour: 1, PerDay: 3, Cooldown: 6 * time.Hour},
	}
}

// short makes the judgement one without history, 20 steps before the upgrade and q 0.001.
func short(allowed bool, change func(in *DecideInput)) func(in *DecideInput) {
	return func(in *DecideInput) {
		in.Rule.ActOnShortHistory = allowed
		in.Judgement.Tier = "short"
		in.Judgement.Short = &detect.Short{Before: 20, After: 3, Tests: 8, Guard: baseline.ShortGuard{Run: true, Places: 18, Least: 0.8}}
		in.Judgement.Rows[0].Q = 0.001
		if change != nil {
			change(in)
		}
	}
}

func TestDecide(t *testing.T) {
	percent := func(x float64) *float64 { return &x }
	tests := []struct {
		name    string
		change  func(in *DecideInput)
		outcome Outcome
		reason  Reason
		words   string
	}{
		{"sound", func(*DecideInput) {}, Act, "", "backoff"},
		{"changed by somebody meanwhile", func(in *DecideInput) { in.Definition, in.State.Definition = "a", "b" }, Refused, ReasonTouched, "somebody changed"},
		{"not changed meanwhile", func(in *DecideInput) { in.Definition, in.State.Definition = "a", "a" }, Act, "", "backoff"},
		{"its definition is not told", func(in *DecideInput) { in.Definition = "a" }, Act, "", "backoff"},
		{"marked critical", func(in *DecideInput) {
			in.Limits.Critical, in.State.Metadata = []string{"permanent", "critical"}, map[string]any{"critical": true}
		}, Refused, ReasonCritical, "critical=true"},
		{"marked critical as a text", func(in *DecideInput) {
			in.Limits.Critical, in.State.Metadata = []string{"critical"}, map[string]any{"critical": "true"}
		}, Refused, ReasonCritical, "critical=true"},
		{"marked not critical", func(in *DecideInput) {
			in.Limits.Critical, in.State.Metadata = []string{"critical"}, map[string]any{"critical": false}
		}, Act, "", "backoff"},
		{"of a type that is excluded", func(in *DecideInput) {
			in.Limits.Critical, in.State.Metadata = []string{"type=kill-switch"}, map[string]any{"type": "kill-switch"}
		}, Refused, ReasonCritical, "type=kill-switch"},
		{"of another type", func(in *DecideInput) {
			in.Limits.Critical, in.State.Metadata = []string{"type=kill-switch"}, map[string]any{"type": "release"}
		}, Act, "", "backoff"},
		{"a person approves", func(in *DecideInput) { in.Approval = true }, DryRun, ReasonApproval, "approve"},
		{"a dry run needs no approval", func(in *DecideInput) { in.Approval, in.DryRun = true, true }, DryRun, ReasonDryRun, "--dry-run"},
		{"nothing regressed", func(in *DecideInput) { in.Judgement.Rows[0].Verdict = detect.Undecided }, NoAction, "", "nothing"},
		{"only another flag's row", func(in *DecideInput) { in.Flag = 1 }, NoAction, "", "nothing"},
		{"a regressed row without a flag", func(in *DecideInput) { in.Judgement.Rows[0].Flag, in.Flag = -1, -1 }, Refused, ReasonNoFlag, "POST /v1/payments"},

		{"another row of the flag could not be checked", func(in *DecideInput) {
			in.Judgement.Rows = append(in.Judgement.Rows, detect.Row{Endpoint: telemetry.NewEndpoint("GET", "/v1/refunds"), Flag: 0, Verdict: detect.CouldNotCheck})
		}, Refused, ReasonCouldNotCheck, "GET /v1/refunds"},
		{"a row of no act family could not be checked", func(in *DecideInput) { in.Judgement.Rows[1].Verdict = detect.CouldNotCheck }, Act, "", ""},
		{"controls risen", func(in *DecideInput) { in.Judgement.ControlsRisen = true }, Refused, ReasonServiceWide, ""},
		{"act family too weak", func(in *DecideInput) { in.Judgement.Rows[0].QAct = 0.011 }, Refused, ReasonServiceWide, "0.011"},
		{"at the level", func(in *DecideInput) { in.Judgement.Rows[0].QAct = 0.01 }, Act, "", ""},
		{"no number for the act family", func(in *DecideInput) { in.Judgement.Rows[0].QAct = math.NaN() }, Refused, ReasonServiceWide, "NaN"},
		{"gone again", func(in *DecideInput) { in.Judgement.Rows[0].StillThere = false }, Refused, ReasonGoneAgain, ""},
		{"a counter that came with the upgrade", func(in *DecideInput) { in.Judgement.Rows[0].Warnings = []string{detect.CounterIsNew} }, Refused, ReasonCouldNotCheck, "new instrumentation"},
		{"such a counter beside a row that is sure", func(in *DecideInput) {
			in.Judgement.Rows[0].Warnings = []string{detect.CounterIsNew}
			in.Judgement.Rows = append(in.Judgement.Rows, detect.Row{Flag: 0, Verdict: detect.Regressed, QAct: 0.002, StillThere: true})
		}, Act, "", ""},
		{"such a counter beside a row that is gone", func(in *DecideInput) {
			in.Judgement.Rows[0].Warnings = []string{detect.CounterIsNew}
			in.Judgement.Rows = append(in.Judgement.Rows, detect.Row{Flag: 0, Verdict: detect.Regressed, QAct: 0.002})
		}, Refused, ReasonGoneAgain, ""},
		{"one row gone, one still there", func(in *DecideInput) {
			in.Judgement.Rows[0].StillThere = false
			in.Judgement.Rows = append(in.Judgement.Rows, detect.Row{Flag: 0, Verdict: detect.Regressed, QAct: 0.002, StillThere: true})
		}, Act, "", ""},
		{"the row still there is too weak", func(in *DecideInput) {
			in.Judgement.Rows[0].StillThere = false
			in.Judgement.Rows = append(in.Judgement.Rows, detect.Row{Flag: 0, Verdict: detect.Regressed, QAct: 0.02, StillThere: true})
		}, Refused, ReasonGoneAgain, ""},
		{"short history", short(false, nil), Refused, ReasonShortHistory, "act_on_short_history"},
		{"short history that may be acted on", short(true, nil), Act, "", ""},
		{"short history at its level", short(true, func(in *DecideInput) { in.Judgement.Rows[0].Q = 0.01 }), Act, "", ""},
		{"short history and a wide level", short(true, func(in *DecideInput) { in.Rule.Alpha.Act, in.Judgement.Rows[0].Q = 0.05, 0.011 }), Refused, ReasonShortHistory, "0.011"},
		{"short history of 19 steps", short(true, func(in *DecideInput) { in.Judgement.Short.Before = 19 }), Refused, ReasonShortHistory, "19 steps"},
		{"short history with the same move in it", short(true, func(in *DecideInput) { in.Judgement.Short.Guard.Least = 0.004 }), Refused, ReasonShortHistory, "0.004"},
		{"short history judged again", short(true, func(in *DecideInput) { in.Judgement.Short.Again = true }), Refused, ReasonShortHistory, "before"},
		{"short history without controls", short(true, func(in *DecideInput) { in.Judgement.RestartCovered = false }), Refused, ReasonNoControls, ""},
		{"no controls", func(in *DecideInput) { in.Judgement.RestartCovered = false }, Refused, ReasonNoControls, "act_without_controls"},
		{"no controls, allowed", func(in *DecideInput) { in.Judgement.RestartCovered, in.Rule.ActWithoutControls = false, true }, Act, "", ""},

		{"muted upgrade", func(in *DecideInput) {
			in.Rule.Mute = []rule.Mute{{From: in.Upgrade.At.Add(-time.Hour), To: in.Upgrade.At.Add(time.Minute), Reason: "load test"}}
		}, Refused, ReasonMuted, "load test"},
		{"muted now", func(in *DecideInput) {
			in.Rule.Mute = []rule.Mute{{From: in.Present.Add(-time.Second), Reason: "freeze"}}
		}, Refused, ReasonMuted, "freeze"},
		{"muted before", func(in *DecideInput) {
			in.Rule.Mute = []rule.Mute{{From: in.Upgrade.At.Add(-time.Hour), To: in.Upgrade.At}}
		}, Act, "", ""},
		{"path names the flag", func(in *DecideInput) {
			in.Rule.Upgrades = []rule.Path{{From: "<2.42.0", To: ">=2.42.0", Flags: []string{"backoff"}}}
		}, Act, "", ""},
		{"path names another flag", func(in *DecideInput) {
			in.Rule.Upgrades = []rule.Path{{From: "<2.42.0", To: ">=2.42.0", Flags: []string{"hedging"}}}
		}, Refused, ReasonPath, "does not name backoff"},
		{"second matching path names the flag", func(in *DecideInput) {
			in.Rule.Upgrades = []rule.Path{{To: ">=2.42.0", Flags: []string{"hedging"}}, {From: "<2.42.0", Flags: []string{"backoff"}}}
		}, Act, "", ""},
		{"no path matches", func(in *DecideInput) {
			in.Rule.Upgrades = []rule.Path{{From: "<2.42.0", To: ">=2.43.0", Flags: []string{"hedging"}}}
		}, Act, "", ""},
		{"versions unknown", func(in *DecideInput) {
			in.Upgrade.From, in.Upgrade.To = "", ""
			in.Rule.Upgrades = []rule.Path{{From: "<2.42.0", To: ">=2.42.0", Flags: []string{"hedging"}}}
		}, Refused, ReasonPath, "--to"},
		{"versions unknown, flag named anyway", func(in *DecideInput) {
			in.Upgrade.From, in.Upgrade.To = "", ""
			in.Rule.Upgrades = []rule.Path{{From: "<2.42.0", To: ">=2.42.0", Flags: []string{"backoff"}}}
		}, Act, "", ""},

		{"flag missing", func(in *DecideInput) {
			in.State, in.StateErr = State{}, fmt.Errorf("flag backoff: %w: did you mean \"back-off\"?", ErrNotFound)
		}, Refused, ReasonNoFlag, "did you mean"},
		{"flag not present", func(in *DecideInput) { in.State = State{} }, Refused, ReasonNoFlag, "backoff"},
		{"source unreadable", func(in *DecideInput) { in.StateErr = ErrForbidden }, Refused, ReasonCouldNotCheck, "not permitted"},
		{"already off", func(in *DecideInput) { in.State.DefaultVariant = "off" }, AlreadyOff, ReasonAlreadyOff, "off already"},
		{"off by default, on by targeting", func(in *DecideInput) { in.State.DefaultVariant, in.State.Targeting = "off", true }, Act, "", ""},
		{"disabled is not already off", func(in *DecideInput) {
			in.State.Enabled, in.State.DefaultVariant = false, "off"
			in.Served = &Serving{Contexts: 5, Unknown: 5}
		}, Refused, ReasonNotServed, ""},
		{"a person turned it on again", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-1", Source: "production", Flag: "backoff", At: in.Now.Add(-5 * time.Minute)}}
		}, Refused, ReasonPersonRestored, "theirs"},
		{"a person turned it on again, and the upgrade's id is another", func(in *DecideInput) {
			in.Limits.Cooldown, in.Limits.PerHour = time.Minute, 2
			in.History = []PastAction{{UpgradeID: "up-1b", Source: "production", Flag: "backoff", At: in.Now.Add(-5 * time.Minute)}}
		}, Refused, ReasonPersonRestored, "theirs"},
		{"written when the rollout began", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-1b", Source: "production", Flag: "backoff", At: in.Upgrade.Started}}
		}, Refused, ReasonPersonRestored, "theirs"},
		{"written for the upgrade before, just before this one", func(in *DecideInput) {
			in.Limits.Cooldown, in.Limits.PerHour = time.Minute, 2
			in.History = []PastAction{{UpgradeID: "up-0", Source: "production", Flag: "backoff", At: in.Upgrade.Started.Add(-time.Second)}}
		}, Act, "", ""},
		{"written for this upgrade in another source or to another flag", func(in *DecideInput) {
			in.Limits.PerHour = 3
			in.History = []PastAction{
				{UpgradeID: "up-1b", Source: "staging", Flag: "backoff", At: in.Now},
				{UpgradeID: "up-1b", Source: "production", Flag: "hedging", At: in.Now},
			}
		}, Act, "", ""},
		{"a person restored it during this upgrade", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-0", Source: "production", Flag: "backoff", At: in.Now.Add(-5 * time.Minute), Restore: true}}
		}, Refused, ReasonPersonRestored, ""},
		{"a person restored it long before", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-0", Source: "production", Flag: "backoff", At: in.Upgrade.Started.Add(-8 * time.Hour), Restore: true}}
		}, Act, "", ""},
		{"read-only", func(in *DecideInput) { in.State.ReadOnly = "a mounted ConfigMap" }, Refused, ReasonReadOnly, "a mounted ConfigMap"},
		{"could not be evaluated", func(in *DecideInput) { in.Served, in.ServedErr = nil, errors.New("connection refused") }, Refused, ReasonCouldNotCheck, "connection refused"},
		{"not served", func(in *DecideInput) { in.Served = &Serving{Contexts: 205, Off: 205} }, Refused, ReasonNotServed, "205 contexts"},
		{"exposed", func(in *DecideInput) { in.Rule.Flags[0].Exposure, in.Exposure = "x", percent(0.01) }, Act, "", ""},
		{"no exposure", func(in *DecideInput) { in.Rule.Flags[0].Exposure, in.Exposure = "x", percent(0) }, Refused, ReasonNoExposure, "not the cause"},
		{"no series of exposure", func(in *DecideInput) { in.Rule.Flags[0].Exposure, in.Exposure = "x", percent(math.NaN()) }, Refused, ReasonNoExposure, ""},
		{"exposure not read", func(in *DecideInput) { in.Rule.Flags[0].Exposure = "x" }, Refused, ReasonCouldNotCheck, "exposure"},
		{"exposure without an expression", func(in *DecideInput) { in.Exposure = percent(0) }, Act, "", ""},

		{"--dry-run beats all consents", func(in *DecideInput) { in.DryRun = true }, DryRun, ReasonDryRun, "--dry-run"},
		{"rule does not consent", func(in *DecideInput) { in.Rule.Flags[0].Act = false }, DryRun, ReasonDryRun, "the rule says act: false"},
		{"nobody said --act", func(in *DecideInput) { in.Act = false }, DryRun, ReasonDryRun, "neither --act nor"},
		{"no consent at all", func(in *DecideInput) { in.Act, in.Rule.Flags[0].Act = false, false }, DryRun, ReasonDryRun, "the rule says act: false for it, and neither"},
		{"dry run of what would be wrong anyway", func(in *DecideInput) { in.DryRun, in.Judgement.ControlsRisen = true, true }, Refused, ReasonServiceWide, ""},
		{"dry run of the past", func(in *DecideInput) { in.Act, in.Present = false, in.Present.Add(24*time.Hour) }, DryRun, ReasonDryRun, ""},

		{"as of 5 minutes ago", func(in *DecideInput) { in.Now = in.Present.Add(-5 * time.Minute) }, Act, "", ""},
		{"as of more", func(in *DecideInput) { in.Now = in.Present.Add(-5*time.Minute - time.Second) }, Refused, ReasonStale, "5m1s"},
		{"two long steps", func(in *DecideInput) {
			in.Rule.Windows.Step = 10 * time.Minute
			in.Now = in.Present.Add(-20 * time.Minute)
		}, Act, "", ""},
		{"long after the horizon", func(in *DecideInput) {
			in.Now = in.Upgrade.At.Add(66 * time.Minute)
			in.Present = in.Now
		}, Refused, ReasonStale, "ended 6m0s ago"},
		{"stop file", func(in *DecideInput) { in.StopFile = "/run/driftwatch/stop" }, Refused, ReasonStopFile, "/run/driftwatch/stop"},
		{"another flag this hour", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-0", Source: "production", Flag: "hedging", At: in.Present.Add(-59 * time.Minute)}}
		}, Refused, ReasonBudget, "within the last hour; 1 are allowed"},
		{"another flag the hour before", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-0", Source: "production", Flag: "hedging", At: in.Present.Add(-time.Hour)}}
		}, Act, "", ""},
		{"three others today", func(in *DecideInput) {
			for i := range 3 {
				in.History = append(in.History, PastAction{UpgradeID: "up-0", Source: "production", Flag: "hedging", At: in.Present.Add(-time.Duration(2+i) * time.Hour)})
			}
		}, Refused, ReasonBudget, "last day; 3 are allowed"},
		{"a person's restores cost no budget", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-0", Source: "production", Flag: "hedging", At: in.Present.Add(-time.Minute), Restore: true}}
		}, Act, "", ""},
		{"cooldown", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-0", Source: "production", Flag: "backoff", At: in.Present.Add(-5 * time.Hour)}}
		}, Refused, ReasonBudget, "cooldown is 6h"},
		{"the same name in another source", func(in *DecideInput) {
			in.History = []PastAction{{UpgradeID: "up-1", Source: "staging", Flag: "backoff", At: in.Present.Add(-5 * time.Hour)}}
		}, Act, "", ""},
	}
	reasons := map[Reason]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := sound()
			tt.change(&in)
			d := Decide(in)
			if d.Outcome != tt.outcome || d.Reason != tt.reason || d.Act != (tt.outcome == Act) || !strings.Contains(d.Text, tt.words) {
				t.Errorf("decision %+v, want %q because of %q, saying %q", d, tt.outcome, tt.reason, tt.words)
			}
			reasons[d.Reason] = true
		})
	}
	for _, r := range []Reason{ // DESIGN section 5
		"dry_run", "no_flag", "service_wide", "no_controls", "gone_again", "stale", "could_not_check", "not_served", "no_exposure",
		"already_off", "read_only", "muted", "budget", "stop_file", "person_restored", "path", "short_history",
	} {
		if !reasons[r] {
			t.Errorf("no case for %s", r)
		}
	}
}

func TestSatisfies(t *testing.T) {
	tests := []struct {
		version, constraint string
		want                truth
	}{
		{"2.42.0", ">=2.42.0", yes},
		{"2.41.3", ">=2.42.0", no},
		{"2.9.0", "<2.10.0", yes}, // by number, not by text
		{"v2.42.0", ">= 2.42", yes},
		{"2.42.0", "=2.42", yes},
		{"2.42.0", "2.42.1", no},
		{"2.42.0", "!=2.42.1", yes},
		{"2.42.5", ">=2.42.0, <2.43.0", yes},
		{"2.43.0", ">=2.42.0 <2.43.0", no},
		{"2.42.0-rc.1", ">=2.42.0", no}, // semver.org, section 11: a pre-release comes before its release
		{"1.0.0-alpha.1", ">1.0.0-alpha", yes},
		{"1.0.0-beta.11", ">1.0.0-beta.2", yes},
		{"1.0.0-alpha.beta", ">1.0.0-alpha.1", yes},
		{"1.0.0-rc.1", ">1.0.0-beta.11", yes},
		{"1.0.0+build.7", "<=1.0.0", yes},
		{"2026.11.3.2", ">2026.11.3", yes},
		{"", ">=2.42.0", unknown},
		{"", "", yes},
		{"anything", "", yes},
		{"3f2c9ab", "3f2c9ab", yes},
		{"3f2c9ab", "=3f2c9ac", no},
		{"3f2c9ab", ">=2.42.0", unknown},
		{"3f2c9ab", "!=3f2c9ab >=2.42.0", no}, // one part fails, whatever the other is
		{"2.42.0", "~>2.4", unknown},
		{"2.42.0", "=>2.4", unknown},
	}
	for _, tt := range tests {
		t.Run(tt.version+" "+tt.constraint, func(t *testing.T) {
			if got := satisfies(tt.version, tt.constraint); got != tt.want {
				t.Errorf("satisfies(%q, %q) = %d, want %d", tt.version, tt.constraint, got, tt.want)
			}
		})
	}
}
