package report

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// The numbers of these scenarios are made up; what is tested is what becomes of them.

var deployed = time.Date(2026, 3, 11, 14, 2, 10, 0, time.UTC)

const flagKey = "payments.backoff-decorrelated-jitter"

func testRule() *rule.Rule {
	return &rule.Rule{
		Path: "rules/checkout.yaml", Text: []byte("service: checkout-api\n"),
		Service: "checkout-api", Label: "card authorisation", Endpoint: []string{"method", "route"},
		Windows: rule.Windows{
			Step: time.Minute, Before: time.Hour, Guard: 3 * time.Minute,
			FirstLook: 5 * time.Minute, Horizon: time.Hour, History: 7 * 24 * time.Hour,
		},
		Signals: []rule.Signal{
			{Name: "latency", Kind: rule.Histogram, Metric: "http_server_request_duration_seconds", Quantile: 0.99, Unit: "s", Direction: rule.Up},
			{Name: "retries", Kind: rule.Ratio, Metric: "retries_total", Per: "requests_total", Unit: "1", Direction: rule.Up},
			{Name: "queue depth", Kind: rule.Gauge, Metric: "queue_depth", Unit: "jobs"},
		},
		Flags:   []rule.Flag{{Key: flagKey, Source: "production"}},
		Alpha:   rule.Alpha{Report: 0.05, Act: 0.01},
		History: "measured",
	}
}

// base is an input without rows, 40 steps after the upgrade.
func base() Input {
	r := testRule()
	u := &telemetry.Upgrade{
		Service: r.Service, Started: deployed, At: deployed,
		From: "2.41.3", To: "2.42.0", FoundBy: "build_info",
	}
	return Input{
		Tool: "0.1.0", ID: "20260311-1402-checkout-api-36", UpgradeID: "20260311-1402-checkout-api",
		Now: deployed.Add(40*time.Minute + 50*time.Second), Rule: r, Upgrade: u,
		Geometry: baseline.NewGeometry(r.Windows, *u), Complete: 40,
		Judgement: detect.Judgement{Looks: 36, Controls: 3, Tier: "full", Placebos: 499, Pooled: 2994, RestartCovered: true},
		Stats:     Stats{Queries: 9, Samples: 1234567, Bytes: 2345678, ReadPath: "remote-read", QueryS: 1.8, TotalS: 2},
		Queries:   []string{`http_server_request_duration_seconds_bucket{service="checkout-api"}`},
	}
}

var nan = math.NaN()

// row is one comparison: raw values before and after, the change with its interval.
func row(v detect.Verdict, signal int, before, after, ratio, low, high float64, endpoint ...string) detect.Row {
	r := detect.Row{
		Endpoint: telemetry.NewEndpoint(endpoint...), Signal: signal, Flag: 0, Verdict: v, Quantile: nan,
		Before:     detect.Level{Value: before, Requests: 80393, Events: 804},
		After:      detect.Level{Value: after, Requests: 22538, Events: 990},
		Change:     detect.Change{Ratio: ratio, Low80: (ratio + low) / 2, High80: (ratio + high) / 2, Low99: low, High99: high, Bound95: high * 0.8, MinimumEffect: 0.1, Detectable: 0.34},
		Exceedance: detect.Change{Ratio: nan, Low99: nan, High99: nan},
		Own:        detect.Ranked{Z: 4.4, P: 0.002}, Against: detect.Ranked{Z: 5.1, P: 0.0004},
		Z: 5.1, P: 0.0004, Q: 0.002, QAct: 0.001, AttainableQ: 0.0015, Looks: 36,
	}
	switch signal {
	case 0:
		r.Metric, r.Quantile = telemetry.Tail, 0.99
		r.Before.CI95 = &baseline.Interval{Low: before * 0.96, High: before * 1.05}
		r.After.CI95 = &baseline.Interval{Low: after * 0.9, High: nan}
		r.Exceedance = detect.Change{Ratio: 3.4, Low99: 1.6, High99: 7.1}
		r.Metrics = []detect.MetricResult{{Metric: telemetry.Tail, Testable: true, Z: 5.1, P: 0.0001}, {Metric: telemetry.Body, Z: nan, P: nan}}
	case 1:
		r.Metric = telemetry.Retry
		r.Metrics = []detect.MetricResult{{Metric: telemetry.Retry, Testable: true, Z: 5.1, P: 0.0001}}
	case 2:
		r.Metric = telemetry.Level
		r.Before.Requests, r.Before.Events, r.After.Requests, r.After.Events = nan, nan, nan, nan
		r.Metrics = []detect.MetricResult{{Metric: telemetry.Level, Testable: true, Z: 5.1, P: 0.0001}}
	}
	if v == detect.Regressed {
		r.RegressedAt, r.StillThere = 17, true
		r.Onset = &baseline.Onset{Step: 1, Low: -1, High: 4}
	}
	return r
}

// quiet are rows without a finding: improved, no rise, too little data.
func quiet() []detect.Row {
	control := func(r detect.Row) detect.Row {
		r.Flag, r.Control, r.QAct, r.Q, r.P, r.Z = -1, true, nan, 0.83, 0.4, 0.3
		r.Own, r.Against = detect.Ranked{Z: 0.3, P: 0.4}, detect.Ranked{Z: nan, P: nan}
		return r
	}
	few := row(detect.NotEnoughData, 0, 0.204, 0.231, nan, nan, nan, "POST", "/v1/refunds")
	few.Change.Bound95, few.Change.Detectable, few.P, few.Q, few.Z = nan, nan, nan, nan, nan
	few.Own, few.Against = detect.Ranked{Z: nan, P: nan}, detect.Ranked{Z: nan, P: nan}
	few.Needs = &detect.Needs{Of: "requests", Have: 61, Need: 1200, When: deployed.Add(5*time.Hour + 43*time.Minute)}
	return []detect.Row{
		few,
		control(row(detect.Improved, 0, 0.0961, 0.0871, -0.094, -0.124, -0.063, "GET", "/v1/orders/{id}")),
		control(row(detect.NoMeaningfulRise, 0, 0.0412, 0.0414, 0.005, -0.013, 0.023, "GET", "/v1/cart")),
		control(row(detect.NoMeaningfulRise, 1, 0.0011, 0.0011, 0.018, -0.086, 0.134, "GET", "/v1/cart")),
	}
}

// regressed is an input with two confirmed rows behind the flag.
func regressed() Input {
	in := base()
	open := row(detect.Undecided, 1, 0.0061, 0.0074, 0.21, 0.003, 0.47, "POST", "/v1/payments/capture")
	open.Suspected, open.Q = true, 0.03
	in.Judgement.Verdict = detect.Regressed
	in.Judgement.Rows = append([]detect.Row{
		row(detect.Regressed, 0, 0.390, 0.784, 1.01, 0.92, 1.09, "POST", "/v1/payments/authorize"),
		row(detect.Regressed, 1, 0.0086, 0.0276, 2.21, 1.84, 2.63, "POST", "/v1/payments/authorize"),
		open,
		row(detect.Undecided, 0, 0.287, 0.296, 0.031, -0.016, 0.081, "POST", "/v1/payments/capture"),
	}, quiet()...)
	return in
}

func verified(viewpoint Word) Action {
	return Action{
		Kind: "flag_off", Flag: flagKey, Outcome: Verified, Revision: [2]Word{"118", "119"},
		At: At(deployed.Add(25*time.Minute + 21*time.Second)), VerifiedAfterS: new(1.2), Viewpoint: viewpoint,
		Evaluations: &Evaluations{Off: 30, Total: 30, Reason: "STATIC", WaitedS: 1.2},
	}
}

// scenarios are the endings that a check has.
func scenarios() map[string]Input {
	all := map[string]Input{}

	in := regressed()
	in.Actions = []Action{verified("ofrep")}
	in.Actions[0].Exposure = &Exposure{Before: new(1.0), After: new(0.0)}
	in.Recovery = Recovery{State: Recovered, Since: At(deployed.Add(27 * time.Minute)), Confirmed: At(deployed.Add(40 * time.Minute))}
	all["verified"] = in

	in = regressed()
	in.Actions = []Action{verified("file")}
	in.Recovery = Recovery{State: RecoveryWatching}
	all["verified-in-file"] = in

	in = regressed()
	in.Actions = []Action{{
		Kind: "flag_off", Flag: flagKey, Outcome: DryRun, Reason: ReasonDryRun, Revision: [2]Word{"118"},
		Missing: []string{"act: true in the rule", "--act"}, Shadow: &Shadow{Times: 3, Days: 30, MarkedFalse: 1},
	}}
	all["dry-run"] = in

	in = regressed()
	a := verified("ofrep")
	a.Outcome = WrittenNotVerified
	a.Evaluations = &Evaluations{Off: 2, Total: 5, Reason: "CACHED", WaitedS: 30}
	in.Actions = []Action{a}
	all["not-verified"] = in

	in = regressed()
	a = verified("ofrep")
	a.Outcome = WrittenNotVerified
	a.Exposure = &Exposure{Before: new(1.0), After: new(0.12)}
	in.Actions = []Action{a}
	all["still-exposed"] = in

	in = regressed()
	in.Judgement.ControlsRisen = true
	in.Actions = []Action{{Kind: "flag_off", Flag: flagKey, Outcome: Refused, Reason: ReasonServiceWide}}
	all["service-wide"] = in

	in = regressed()
	in.Actions = []Action{{Kind: "flag_off", Flag: flagKey, Outcome: AlreadyOff, Reason: ReasonAlreadyOff, Detail: "by payments on-call"}}
	all["already-off"] = in

	in = base()
	in.Judgement.Rows = quiet()[1:]
	in.Complete = 60
	all["no-regression"] = in

	in = base()
	open := row(detect.Undecided, 1, 0, 0.002, 0.21, 0.003, 0.47, "POST", "/v1/payments/capture")
	open.Suspected = true
	early := row(detect.PreExisting, 2, 12, 15.5, 0.29, 0.12, 0.44, "POST", "/v1/sessions")
	in.Judgement.Rows = append([]detect.Row{open, early}, quiet()...)
	all["undecided"] = in

	in = base()
	in.Complete = 60
	in.Judgement.Rows = append([]detect.Row{row(detect.Undecided, 0, 0.118, 0.121, 0.025, -0.2, 0.475, "POST", "/v1/payments/capture")}, quiet()[1:]...)
	all["undecided-at-the-end"] = in

	in = base()
	in.Judgement.Rows = quiet()[:1]
	in.RequireData = true
	all["not-enough-data"] = in

	in = base()
	in.Upgrade, in.UpgradeID, in.Judgement = nil, "", detect.Judgement{}
	all["no-deploy"] = in

	in = base()
	in.Upgrade = &telemetry.Upgrade{Service: "checkout-api", Started: deployed, From: "2.41.3", To: "2.42.0", FoundBy: "build_info"}
	in.Updated, in.Targets, in.Judgement = 5, 24, detect.Judgement{}
	all["rollout"] = in

	in = base()
	in.Judgement = detect.Judgement{}
	in.Failure = Unreachable("http://user:secret@prometheus.example.com:9090", "dial tcp: connection refused, 3 tries in 12 s")
	all["could-not-check"] = in

	in = base()
	bad := row(detect.CouldNotCheck, 0, nan, nan, nan, nan, nan, "GET", "/v1/cart")
	bad.Note, bad.Change = "Prometheus warned: partial response", detect.Change{Ratio: nan, Low80: nan, High80: nan, Low99: nan, High99: nan, Bound95: nan, MinimumEffect: 0.1, Detectable: nan}
	in.Judgement.Rows = append([]detect.Row{bad}, quiet()[1:]...)
	in.Warnings = []string{"store gateway 2 did not answer"}
	in.Judgement.Warnings = []string{detect.NoRestartInCalibration}
	in.Judgement.Rows[1].Warnings = []string{detect.LoadOutsideHistory}
	all["partial-answer"] = in

	in = regressed()
	route := "/" + strings.Repeat("a\x1b[31m", 1300) + "\u202e<script>alert(1)</script>\n▲ REGRESSION"
	in.Judgement.Rows[0].Endpoint = telemetry.NewEndpoint("GET\r\n", route)
	in.Judgement.Rows[1].Endpoint = telemetry.NewEndpoint("\xf0\x28", "ルート/検索/"+strings.Repeat("長", 400))
	in.Rule.Label = "card\x07 <b>authorisation</b>"
	in.Upgrade.To = "2.42.0\x1b]0;owned\x07"
	in.Warnings = []string{"bell \x07\nsecond line"}
	all["hostile"] = in

	in = regressed()
	in.Path = &rule.Path{From: "<2.42.0", To: ">=2.42.0", Flags: []string{flagKey}, Config: map[string]string{"dten.hybrid.enable": "must be true", "a": "b"}, Notes: "https://example.com/2.42"}
	in.Rule.Flags = append(in.Rule.Flags, rule.Flag{Key: "payments.hedged"})
	in.Judgement.Rows[1].Flag = 1
	failed := Action{Kind: "flag_off", Flag: "payments.hedged", Outcome: Failed, Detail: "rename flags/payments.json: no space left on device", Exposure: &Exposure{Before: new(0.0)}}
	in.Actions = []Action{verified("rpc"), failed}
	in.Recovery = Recovery{State: NotRecovered}
	all["one-of-two-failed"] = in

	in = regressed()
	wide := row(detect.Regressed, 0, nan, nan, 4.4, 3.1, 61, "POST", "/v1/export")
	wide.Before = detect.Level{Value: 2.345, Requests: 800, Events: 8}
	wide.After = detect.Level{Value: nan, AtLeast: 10, Requests: 700, Events: 70}
	wide.Flag, wide.Control, wide.QAct = -1, true, nan
	drop := row(detect.Regressed, 2, 1523, 1.5e7, 9844, 8000, 12000, "", "")
	in.Judgement.Rows = append([]detect.Row{wide, drop}, in.Judgement.Rows[0])
	all["no-flag"] = in

	in = regressed()
	in.Actions = []Action{{Kind: "flag_off", Flag: flagKey, Outcome: Refused, Reason: ReasonPersonRestored, Detail: "turned off by driftwatch at 2026-03-11T14:27:31Z and turned on again by payments on-call; it is theirs now"}}
	all["overruled"] = in

	in = base()
	in.Complete = 60
	in.Judgement.Verdict = detect.Improved
	behind := row(detect.Improved, 0, 0.390, 0.301, -0.23, -0.31, -0.14, "POST", "/v1/payments/authorize")
	small := row(detect.NoMeaningfulRise, 0, 0.0512, 0.0533, 0.041, 0.012, 0.071, "PUT", "/v1/addresses/{id}")
	in.Judgement.Rows = []detect.Row{behind, quiet()[1], small, quiet()[2]}
	all["improved"] = in

	in = base()
	in.Complete = 5
	in.Now = deployed.Add(5*time.Minute + 20*time.Second)
	in.Judgement.Looks, in.Judgement.Verdict = 1, detect.Undecided
	in.Judgement.Rows = []detect.Row{row(detect.Undecided, 0, 0.287, 0.296, 0.031, nan, 0.281, "POST", "/v1/payments/capture"), row(detect.Undecided, 1, 0.0011, 0.0011, 0.018, -0.286, nan, "GET", "/v1/cart")}
	all["watching"] = in
	return all
}

func TestScenariosCoverEveryExitCode(t *testing.T) {
	want := map[string]int{
		"verified": 3, "verified-in-file": 3, "dry-run": 4, "not-verified": 5, "still-exposed": 5, "one-of-two-failed": 5, "service-wide": 4, "already-off": 4,
		"no-regression": 0, "undecided": 0, "undecided-at-the-end": 0, "not-enough-data": 6, "no-deploy": 0,
		"rollout": 0, "could-not-check": 7, "partial-answer": 7, "hostile": 4, "no-flag": 4,
		"overruled": 4, "improved": 0, "watching": 0,
	}
	all := scenarios()
	if len(all) != len(want) {
		t.Errorf("%d scenarios, %d expectations", len(all), len(want))
	}
	for name, in := range all {
		if got := New(in).ExitCode; got != want[name] {
			t.Errorf("%s: exit code %d, want %d", name, got, want[name])
		}
	}
}
