package rule

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// full has every field of a rule. It begins with a mark of its own so that lines count from 1.
const full = `service: checkout-api
label: card authorisation
select: '{service="checkout-api", env="production"}'
endpoint: [method, route]
upgrade: {metric: build_info, version_label: app_version}
windows: {step: 30s, before: 2h, guard: 100s, first_look: 5m, horizon: 1h30m, history: 3d}
signals:
  - {name: latency, histogram: http_server_request_duration_seconds, quantile: 0.95, minimum_effect: 10%, minimum_change: 5ms, select: '{side="server"}'}
  - {name: retries, ratio: {of: http_client_request_retries_total, per: http_client_requests_total}, minimum_effect: 0.2, minimum_change: 0.1%, direction: both}
  - {name: upstream p99, gauge: endpoint_latency_p99_seconds, minimum_effect: auto, minimum_change: 2ms, direction: down}
  - {name: queue, gauge: queue_length, unit: jobs, minimum_change: 3}
flags:
  - key: payments.backoff-decorrelated-jitter
    source: production
    behind: {route: '/v1/payments/.*'}
    signals: [latency, retries]
    off: {variant: "off"}
    probes: [{targetingKey: user-1}, {targetingKey: vip, tier: gold, age: 3, beta: true, tags: [a]}]
    exposure: sum(rate(on_total[1m])) / sum(rate(all_total[1m]))
    act: true
  - key: payments.hedged-requests
    source: production
    off: {variant: sequential}
upgrades:
  - {from: "<2.42.0", to: ">=2.42.0", flags: [payments.backoff-decorrelated-jitter], config: {dten.hybrid.enable: "must be true"}, notes: "https://example.com/notes"}
alpha: {report: 5%, act: 0.005}
history_is: generated
act_on_short_history: true
act_without_controls: true
mute: [{from: 2026-12-24T18:00:00Z, to: "2026-12-27T07:00:00+01:00", reason: holidays}]
`

func TestParseEveryField(t *testing.T) {
	rules, err := Parse("rules/full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := &Rule{
		Path: "rules/full.yaml", Text: []byte(full),
		Service: "checkout-api", Label: "card authorisation",
		Select:   `{service="checkout-api", env="production"}`,
		Endpoint: []string{"method", "route"},
		Upgrade:  &UpgradeMetric{"build_info", "app_version"},
		Windows: Windows{Step: 30 * time.Second, Before: 2 * time.Hour, Guard: 2 * time.Minute, // 100 s are 3 1/3 steps: 4
			FirstLook: 5 * time.Minute, Horizon: 90 * time.Minute, History: 72 * time.Hour},
		Signals: []Signal{
			{
				Name: "latency", Kind: Histogram, Metric: "http_server_request_duration_seconds", Quantile: 0.95, Select: `{side="server"}`, Direction: Up,
				MinimumEffect: 0.1, MinimumChange: 0.005, Unit: "s", Line: 8, Column: 32,
			},
			{
				Name: "retries", Kind: Ratio, Metric: "http_client_request_retries_total", Per: "http_client_requests_total", Direction: Both,
				MinimumEffect: 0.2, MinimumChange: 0.001, Unit: "1", Line: 9, Column: 33,
			},
			{Name: "upstream p99", Kind: Gauge, Metric: "endpoint_latency_p99_seconds", Direction: Down, MinimumEffectAuto: true, MinimumChange: 0.002, Unit: "s", Line: 10, Column: 33},
			{Name: "queue", Kind: Gauge, Metric: "queue_length", Direction: Up, MinimumEffectAuto: true, MinimumChange: 3, Unit: "jobs", Line: 11, Column: 26},
		},
		Flags: []Flag{
			{
				Key: "payments.backoff-decorrelated-jitter", Source: "production", Behind: map[string]*regexp.Regexp{"route": regexp.MustCompile(`^(?s:/v1/payments/.*)$`)},
				Signals: []string{"latency", "retries"}, Off: Off{Variant: "off"},
				Probes:   []map[string]any{{"targetingKey": "user-1"}, {"targetingKey": "vip", "tier": "gold", "age": int64(3), "beta": true, "tags": []any{"a"}}},
				Exposure: "sum(rate(on_total[1m])) / sum(rate(all_total[1m]))", Act: true, Line: 13, Column: 10,
			},
			{Key: "payments.hedged-requests", Source: "production", Off: Off{Variant: "sequential"}, Line: 21, Column: 10},
		},
		Upgrades: []Path{{
			From: "<2.42.0", To: ">=2.42.0", Flags: []string{"payments.backoff-decorrelated-jitter"},
			Config: map[string]string{"dten.hybrid.enable": "must be true"}, Notes: "https://example.com/notes",
		}},
		Alpha: Alpha{Report: 0.05, Act: 0.005}, History: "generated", ActOnShortHistory: true, ActWithoutControls: true,
		Mute: []Mute{{time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC), time.Date(2026, 12, 27, 6, 0, 0, 0, time.UTC), "holidays"}},
	}
	got := rules[0]
	for i := range got.Mute {
		got.Mute[i].From, got.Mute[i].To = got.Mute[i].From.UTC(), got.Mute[i].To.UTC()
	}
	if len(rules) != 1 || !reflect.DeepEqual(got, want) {
		t.Errorf("Parse =\n%+v\nwant\n%+v", got, want)
	}
}

func TestParseDefaults(t *testing.T) {
	rules, err := Parse("r.yaml", []byte("service: a\nendpoint: [route]\nsignals: [{name: latency, histogram: x_seconds}, {name: n, gauge: y}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := rules[0]
	// DESIGN section 4.
	if want := (Windows{time.Minute, time.Hour, 3 * time.Minute, 5 * time.Minute, time.Hour, 168 * time.Hour}); r.Windows != want {
		t.Errorf("windows %+v, want %+v", r.Windows, want)
	}
	if want := (Alpha{0.05, 0.01}); r.Alpha != want {
		t.Errorf("alpha %+v, want %+v", r.Alpha, want)
	}
	s := r.Signals[0]
	if s.Quantile != 0.99 || !s.MinimumEffectAuto || s.MinimumChange != 0 || s.Direction != Up || s.Unit != "s" {
		t.Errorf("signal %+v, want quantile 0.99, auto, 0, up, s", s)
	}
	if u := r.Signals[1].Unit; u != "1" {
		t.Errorf("unit of a gauge without seconds in its name is %q, want 1", u)
	}
	if r.History != "measured" || r.Upgrade != nil || r.Flags != nil || r.Upgrades != nil || r.Mute != nil || r.ActOnShortHistory || r.ActWithoutControls {
		t.Errorf("rule %+v, want measured and nothing else", r)
	}
}

// Defaults give way to what was written; spans are rounded up.
func TestWindows(t *testing.T) {
	const m, h = time.Minute, time.Hour
	tests := []struct {
		name, yaml string
		want       Windows
	}{
		{"seven days of 15 s are more than 10,080 steps: 42 h", "{step: 15s}", Windows{15 * time.Second, h, 3 * m, 5 * m, h, 42 * h}},
		{"six steps before at least", "{step: 15m}", Windows{15 * m, 90 * m, 15 * m, 30 * m, h, 168 * h}},
		{"the first look comes after a long guard", "{guard: 10m}", Windows{m, h, 10 * m, 11 * m, h, 168 * h}},
		{"the horizon is not before the first look", "{first_look: 2h}", Windows{m, h, 3 * m, 2 * h, 2 * h, 168 * h}},
		{
			"rounded up to whole steps", "{before: 90s, step: 7s, guard: 0s, first_look: 8s, horizon: 100s, history: 1h}",
			Windows{7 * time.Second, 91 * time.Second, 0, 14 * time.Second, 105 * time.Second, 3605 * time.Second}, // 13, 0, 2, 15, 515 steps
		},
		{"0 without a unit", "{guard: 0, history: '0'}", Windows{m, h, 0, 5 * m, h, 0}},
		{"10,080 steps are allowed", "{step: 1s, history: 168m}", Windows{time.Second, h, 3 * m, 5 * m, h, 168 * m}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := Parse("r.yaml", []byte(minimal+"windows: "+tt.yaml+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if got := rules[0].Windows; got != tt.want {
				t.Errorf("windows %+v, want %+v", got, tt.want)
			}
		})
	}
}

const minimal = `service: a
endpoint: [method, route]
signals: [{name: latency, histogram: x_seconds}]
`

// flag is appended to minimal: its fields begin in line 5, column 5.
func flag(fields string) string { return minimal + "flags:\n  - " + fields + "\n" }

func signal(fields string) string {
	return "service: a\nendpoint: [route]\nsignals:\n  - {name: s, " + fields + "}\n"
}

func TestParseErrors(t *testing.T) {
	const rest = ", key: k, source: p, off: {variant: x}}"
	tests := []struct {
		name, yaml string
		want       []string
	}{
		{
			"unknown field with a near one", signal("histogram: x_seconds, quantle: 0.9"),
			[]string{`r.yaml:4:37: unknown field "quantle"; did you mean "quantile"? known: name, histogram, ratio, gauge, quantile, select, direction, unit, minimum_effect, minimum_change`},
		},
		{
			"unknown field of the rule", minimal + "windws: {}\n",
			[]string{`r.yaml:4:1: unknown field "windws"; did you mean "windows"? known: service, label, select, endpoint, upgrade, windows, signals, flags, upgrades, alpha, history_is, act_on_short_history, act_without_controls, mute`},
		},
		{"field twice", minimal + "service: b\n", []string{`r.yaml:4:1: field "service" is given twice, first in line 1; keep one`}},
		{"not YAML", "service: a\nendpoint: [a\n", []string{`r.yaml:2:1: not YAML: did not find expected ',' or ']'`}},
		{"nothing there", "# only a comment\n", []string{`r.yaml:1:1: no rule in this file; begin with service: NAME`}},
		{"empty", "", []string{`r.yaml:1:1: no rule in this file; begin with service: NAME`}},
		{"a list", "- service: a\n", []string{`r.yaml:1:1: the document is a list, not a mapping`}},
		{"alias", "service: &a x\nlabel: *a\nendpoint: [r]\nsignals: [{name: l, gauge: g}]\n", []string{`r.yaml:2:8: alias *a is not supported; write the value out`}},
		{"everything missing", "label: x\n", []string{
			`r.yaml:1:1: service is missing; write the name that the upgrade belongs to: service: checkout-api`,
			`r.yaml:1:1: endpoint is missing; name the labels that make one endpoint: endpoint: [method, route]`,
			`r.yaml:1:1: signals is missing; name at least one histogram, ratio or gauge`,
		}},
		{"all mistakes of all documents", minimal + "alpha: {act: 2}\n---\n" + minimal + "mute: 5\nhistory_is: made\n", []string{
			`r.yaml:4:14: act 2 has no unit and would be 200 %; write 2% or 0.02`,
			`r.yaml:9:7: mute 5 is a number, not a list`,
			`r.yaml:10:13: history_is "made" is not one of measured, generated; known: measured, generated`,
		}},
		{"service is a number", "service: 17\nendpoint: [r]\nsignals: [{name: l, gauge: g}]\n", []string{`r.yaml:1:10: service 17 is a number, not text; put it in quotes: "17"`}},
		{
			"service leaves its directory", "service: ../a\nendpoint: [r]\nsignals: [{name: l, gauge: g}]\n",
			[]string{`r.yaml:1:10: service "../a" cannot be part of a report's name; use letters, digits and _ . : @ + -; label: holds any words`},
		},
		{"no value", minimal + "label:\n", []string{`r.yaml:4:7: label has no value; give one, or leave the field out`}},
		{
			"select without braces", minimal + "select: env=\"x\"\n",
			[]string{`r.yaml:4:9: select "env=\"x\"" is not in braces; write it like '{service="checkout-api"}'; metrics are named by the signals`},
		},
		{
			"select is not PromQL", minimal + `select: '{env=x}'` + "\n",
			[]string{`r.yaml:4:15: select is not PromQL: unexpected identifier "x" in label matching, expected string; write it like '{service="checkout-api"}'`},
		},
		{"select names a metric", minimal + `select: '{__name__="up"}'` + "\n", []string{`r.yaml:4:9: select names a metric; metrics are named by the signals`}},
		{
			"endpoint without labels", "service: a\nendpoint: []\nsignals: [{name: l, gauge: g}]\n",
			[]string{`r.yaml:2:11: endpoint is an empty list; name at least one, or leave the field out`},
		},
		{"endpoint labels", "service: a\nendpoint: [le, a-b]\nsignals: [{name: l, gauge: g}]\n", []string{
			`r.yaml:2:12: endpoint label "le" is not of the endpoint; leave it out; buckets and metrics are told apart anyway`,
			`r.yaml:2:16: "a-b" is not a label name; use letters, digits and _, no digit first`,
		}},
		{"endpoint label twice", "service: a\nendpoint: [r, r]\nsignals: [{name: l, gauge: g}]\n", []string{`r.yaml:2:15: endpoint "r" is given twice; keep one`}},
		{"upgrade without a metric", minimal + "upgrade: {version_label: v-1}\n", []string{
			`r.yaml:4:10: upgrade.metric is missing; name the series that shows the version: metric: build_info`,
			`r.yaml:4:26: "v-1" is not a label name; use letters, digits and _, no digit first`,
		}},

		{"step too short", minimal + "windows: {step: 500ms}\n", []string{`r.yaml:4:17: step 500ms is not from 1s to 1d`}},
		{"step without a unit", minimal + "windows: {step: 60}\n", []string{`r.yaml:4:17: step 60 has no unit; write 60s if seconds are meant`}},
		{"not a duration", minimal + "windows: {before: 1 hour}\n", []string{`r.yaml:4:19: before "1 hour" is not a duration; write it like 90s, 15m, 2h45m or 7d`}},
		{"negative duration", minimal + "windows: {guard: -1m}\n", []string{`r.yaml:4:18: guard "-1m" is not a duration; write it like 90s, 15m, 2h45m or 7d`}},
		{"too little before", minimal + "windows: {before: 5m}\n", []string{`r.yaml:4:19: before 5m is 5 steps of 1m, too few to compare with; write 6m or more`}},
		{"first look within the guard", minimal + "windows: {first_look: 3m}\n", []string{`r.yaml:4:23: first_look 3m is not after the guard, 3m; write 4m or more`}},
		{"horizon before the first look", minimal + "windows: {horizon: 4m}\n", []string{`r.yaml:4:20: horizon 4m is before the first look, 5m; write 5m or more`}},
		{
			"history too long", minimal + "windows: {step: 15s, history: 7d}\n",
			[]string{`r.yaml:4:31: history 7d is 40320 steps of 15s, more than 10080; write 1d18h or less, or a longer step`},
		},
		{"spans of centuries", minimal + "windows: {step: 1d, before: 290y, horizon: 290y}\n", []string{
			`r.yaml:4:29: before 290y is 105850 steps of 1d, more than 10080; write 1440w or less, or a longer step`,
			`r.yaml:4:44: horizon 290y is 105850 steps of 1d, more than 10080; write 1440w or less, or a longer step`,
		}},

		{"signals empty", "service: a\nendpoint: [r]\nsignals: []\n", []string{`r.yaml:3:10: signals is an empty list; name at least one histogram, ratio or gauge`}},
		{"signal without a kind", signal("quantile: 0.9"), []string{`r.yaml:4:5: the signal has no histogram, ratio or gauge; add one, such as histogram: http_server_request_duration_seconds`}},
		{"signal of two kinds", signal("histogram: h_seconds, gauge: g"), []string{`r.yaml:4:37: the signal has a histogram and a gauge; make two signals of them`}},
		{"two signals of one name", "service: a\nendpoint: [r]\nsignals:\n  - {name: l, gauge: g}\n  - {name: l, gauge: h}\n", []string{`r.yaml:5:12: two signals are called "l"; give one another name`}},
		{"histogram by its buckets", signal("histogram: x_seconds_bucket"), []string{`r.yaml:4:26: histogram x_seconds_bucket names one part of a histogram; write x_seconds`}},
		{"histogram in milliseconds", signal("histogram: x_milliseconds"), []string{`r.yaml:4:26: histogram x_milliseconds is in milliseconds, and histograms are read as seconds; name one in seconds, or record it in seconds`}},
		{"gauge with matchers", signal("gauge: 'up{a=\"b\"}'"), []string{`r.yaml:4:22: gauge "up{a=\"b\"}" is not a metric name; put the matchers into select`}},
		{"gauge as an expression", signal("gauge: 'max(up)'"), []string{`r.yaml:4:22: gauge "max(up)" is not a metric name; record the expression with a recording rule and name that`}},
		{"gauge with dots", signal("gauge: a.b"), []string{`r.yaml:4:22: gauge "a.b" is not a metric name; use letters, digits, _ and :, no digit first`}},
		{"ratio without per", signal("ratio: {of: a}"), []string{`r.yaml:4:22: ratio.per is missing; name the counter of trials, such as requests`}},
		{"ratio to itself", signal("ratio: {of: a, per: a}"), []string{`r.yaml:4:35: the ratio of a to itself is always 1; name the counter of trials`}},
		{"quantile in percent", "service: a\nendpoint: [r]\nsignals:\n  - name: l\n    histogram: h_seconds\n    quantile: 99\n", []string{`r.yaml:6:15: quantile 99 is not between 0 and 1; write 0.99`}},
		{"quantile 99.9", signal("histogram: h_seconds, quantile: 99.9"), []string{`r.yaml:4:47: quantile 99.9 is not between 0 and 1; write 0.999`}},
		{"quantile 1", signal("histogram: h_seconds, quantile: 1"), []string{`r.yaml:4:47: quantile 1 is not between 0 and 1; 0.99 has 1 % of the requests beyond it`}},
		{"quantile NaN", signal("histogram: h_seconds, quantile: .nan"), []string{`r.yaml:4:47: quantile .nan is not a finite number`}},
		{"quantile of a gauge", signal("gauge: g, quantile: 0.9"), []string{`r.yaml:4:25: quantile is of a histogram, and this is a gauge; leave it out; of a summary take one by select: '{quantile="0.99"}'`}},
		{"unit of a ratio", signal("ratio: {of: a, per: b}, unit: s"), []string{`r.yaml:4:39: unit is of a gauge, and this is a ratio; leave it out`}},
		{"direction", signal("gauge: g, direction: upp"), []string{`r.yaml:4:36: direction "upp" is not one of up, down, both; did you mean "up"? known: up, down, both`}},
		{"minimum effect without a unit", signal("gauge: g, minimum_effect: 10"), []string{`r.yaml:4:41: minimum_effect 10 has no unit and would be 1000 %; write 10% or 0.1`}},
		{"minimum effect as a time", signal("histogram: h_seconds, minimum_effect: 5ms"), []string{`r.yaml:4:53: minimum_effect "5ms" is not a share; write it like 10% or 0.1`}},
		{"minimum effect negative", signal("gauge: g, minimum_effect: -10%"), []string{`r.yaml:4:41: minimum_effect "-10%" is negative`}},
		{"minimum change without a unit", signal("histogram: h_seconds, minimum_change: 5"), []string{`r.yaml:4:53: minimum_change 5 has no unit; write 5s if seconds are meant`}},
		{"minimum change in percent", signal("histogram: h_seconds, minimum_change: 5%"), []string{`r.yaml:4:53: minimum_change 5% of a histogram is absolute, in s; write minimum_effect: 5% for a relative one`}},
		{"minimum change of a ratio as a time", signal("ratio: {of: a, per: b}, minimum_change: 5ms"), []string{`r.yaml:4:55: minimum_change "5ms" is not a share; write it like 10% or 0.1`}},
		{"minimum change of a plain gauge as a time", signal("gauge: g, minimum_change: 5ms"), []string{`r.yaml:4:41: minimum_change 5ms is a time, and the unit of the signal is 1; write a plain number, or unit: s`}},

		{"flag without anything", flag("{act: true}"), []string{
			`r.yaml:5:5: flags.key is missing; write the flag's name in its source`,
			`r.yaml:5:5: flags.source is missing; write a name under flag_sources of the configuration`,
			`r.yaml:5:5: flags.off is missing; say what off means: off: {variant: "off"}`,
		}},
		{"behind another label", flag("{behind: {rout: x}" + rest), []string{`r.yaml:5:15: behind "rout" is not an endpoint label; did you mean "route"? known: method, route`}},
		{"behind no regular expression", flag("{behind: {route: 'a('}" + rest), []string{"r.yaml:5:22: behind route \"a(\" is not a regular expression: missing closing ): `a(`"}},
		{"behind closes the anchor's bracket", flag("{behind: {route: 'a)(b'}" + rest), []string{"r.yaml:5:22: behind route \"a)(b\" is not a regular expression: unexpected ): `a)(b`"}},
		{"behind nothing", flag("{behind: {}" + rest), []string{`r.yaml:5:14: behind is empty; name a label and a regular expression, or leave it out for all endpoints`}},
		{"flag for an unknown signal", flag("{signals: [latncy]" + rest), []string{`r.yaml:5:16: no signal "latncy" in this rule; did you mean "latency"? known: latency`}},
		{"flag for no signal", flag("{signals: []" + rest), []string{`r.yaml:5:15: signals is an empty list; name at least one, or leave the field out`}},
		{
			"two flags match equally", flag("{key: a, source: p, off: {variant: x}}\n  - {key: b, source: p, off: {variant: x}, signals: [latency]}"),
			[]string{`r.yaml:6:5: flag "b" is behind the same endpoints and signals as the flag in line 5; tell them apart by behind or signals, or keep one`},
		},
		{"off is a word", flag("{key: k, source: p, off: off}"), []string{`r.yaml:5:30: off "off" is text, not a mapping`}},
		{"variant is a boolean", flag("{key: k, source: p, off: {variant: false}}"), []string{`r.yaml:5:40: variant false is a boolean, not text; put it in quotes: "false"`}},
		{"off was turned into false by a YAML 1.1 program", flag("{key: k, source: p, false: {variant: x}}"), []string{
			`r.yaml:5:5: flags.off is missing; say what off means: off: {variant: "off"}`,
			`r.yaml:5:25: unknown field "false"; a YAML 1.1 program has read off as false; put the name in quotes: "off"`,
		}},
		{"act on", flag("{act: on" + rest), []string{`r.yaml:5:11: act "on" is text, not true or false; write true or false, without quotes`}},
		{"off empty", flag("{key: k, source: p, off: {}}"), []string{`r.yaml:5:30: off names no variant; write {variant: "off"}, with the variant that means off`}},
		{
			"off by state", flag("{key: k, source: p, off: {state: disabled}}"),
			[]string{`r.yaml:5:31: state: disabled leaves everybody to the default in the application's code, which driftwatch cannot see; name the variant that means off; or write code_default_is_off: true beside it if you know that this default is off`},
		},
		{"off by variant and state", flag("{key: k, source: p, off: {variant: x, state: disabled, code_default_is_off: true}}"), []string{
			`r.yaml:5:31: variant beside state: disabled; keep one of the two: a disabled flag serves no variant and has no ramp`,
		}},
		{"variant and code default", flag("{key: k, source: p, off: {variant: x, code_default_is_off: true}}"), []string{`r.yaml:5:43: code_default_is_off without state: disabled; leave it out: a variant is served whatever the default in the code is`}},
		{"ramp to something else", flag("{key: k, source: p, off: {variant: x, ramp: one}}"), []string{`r.yaml:5:49: ramp "one" is not one of zero; known: zero`}},
		{"ramp without a variant", flag("{key: k, source: p, off: {ramp: zero}}"), []string{`r.yaml:5:30: off names no variant; write {variant: "off"}, with the variant that means off`}},
		{"another state", flag("{key: k, source: p, off: {state: gone}}"), []string{`r.yaml:5:38: state "gone" is not one of disabled; known: disabled`}},
		{"probes", flag("{probes: [a, {targetingKey: 5}]" + rest), []string{
			`r.yaml:5:15: probes "a" is text, not a mapping`,
			`r.yaml:5:33: targetingKey 5 is a number, not text; put it in quotes: "5"`,
		}},
		{"exposure is not PromQL", flag("{exposure: 'sum(rate(x[1m])'" + rest), []string{`r.yaml:5:32: exposure is not PromQL: unclosed left parenthesis`}},
		{"exposure is a range", flag("{exposure: 'x[1m]'" + rest), []string{`r.yaml:5:16: exposure is range vector, not one number; take a rate and sum it`}},

		{"path without an order", minimal + "upgrades: [{from: \"<abc\", to: \"~2\"}]\n", []string{
			`r.yaml:4:19: from "<abc" is not a version constraint: "abc" has no order; write it like "<2.42.0" or ">=2.42.0, <3"`,
			`r.yaml:4:31: to "~2" is not a version constraint: no version after ""; write it like "<2.42.0" or ">=2.42.0, <3"`,
		}},
		{"path as a number", minimal + "upgrades: [{to: 2.10}]\n", []string{`r.yaml:4:17: to 2.10 is a number, not text; put it in quotes: "2.10"`}},
		{"path with an unknown flag", minimal + "upgrades: [{to: \">=2\", flags: [k]}]\n", []string{`r.yaml:4:32: no flag "k" in this rule; it has none`}},
		{"alpha too large", minimal + "alpha: {report: 60%}\n", []string{`r.yaml:4:17: alpha.report 60% is not above 0 and at most 0.5; 0.05 is 5 %`}},
		{"alpha zero", minimal + "alpha: {act: 0}\n", []string{`r.yaml:4:14: alpha.act 0 is not above 0 and at most 0.5; 0.05 is 5 %`}},
		{"acting before reporting", minimal + "alpha: {act: 0.1}\n", []string{`r.yaml:4:14: alpha.act 0.1 is more than alpha.report, 0.05; write 0.05 or less`}},
		{"mute without a zone", minimal + "mute: [{from: 2026-12-24, to: 2026-12-27T06:00:00Z}]\n", []string{`r.yaml:4:15: from "2026-12-24" is not a time with its zone; write it like 2026-12-24T18:00:00Z`}},
		{"mute backwards", minimal + "mute: [{from: 2026-12-27T06:00:00Z, to: 2026-12-24T06:00:00Z}]\n", []string{`r.yaml:4:41: mute ends at 2026-12-24T06:00:00Z, not after it begins; exchange from and to`}},
		{"mute without an end", minimal + "mute: [{from: 2026-12-27T06:00:00Z}]\n", []string{`r.yaml:4:8: mute.to is missing; write it like 2026-12-27T06:00:00Z`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := Parse("r.yaml", []byte(tt.yaml))
			if err == nil {
				t.Fatalf("Parse took it: %+v", rules[0])
			}
			if rules != nil {
				t.Errorf("Parse gave rules with its error")
			}
			if want := strings.Join(tt.want, "\n"); err.Error() != want {
				t.Errorf("error\n%v\nwant\n%v\nin\n%s", err, want, tt.yaml)
			}
		})
	}
}

func TestErrorHasItsParts(t *testing.T) {
	_, err := Parse("rules/search.yaml", []byte(signal("histogram: x_seconds, percentle: 99")))
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%T is no *Error", err)
	}
	want := Error{Path: "rules/search.yaml", Line: 4, Column: 37, Text: "percentle", Reason: `unknown field "percentle"`, Remedy: e.Remedy}
	if *e != want || !strings.HasPrefix(e.Remedy, "known: ") {
		t.Errorf("error %+v, want %+v", *e, want)
	}
}

// A flag is found by words of YAML 1.1, too: off and on are text in YAML 1.2.
func TestUnquotedOffIsText(t *testing.T) {
	rules, err := Parse("r.yaml", []byte(flag("{key: k, source: p, off: {variant: off}}")))
	if err != nil {
		t.Fatal(err)
	}
	if v := rules[0].Flags[0].Off.Variant; v != "off" {
		t.Errorf("variant %q, want off", v)
	}
}

func TestBehindIsAnchored(t *testing.T) {
	rules, err := Parse("r.yaml", []byte(flag("{key: k, source: p, off: {variant: off}, behind: {route: '/a|/b'}}")))
	if err != nil {
		t.Fatal(err)
	}
	for route, want := range map[string]int{"/a": 0, "/b": 0, "/a/c": -1, "/c/b": -1, "": -1} {
		if got := rules[0].FlagOf([]string{"GET", route}, "latency"); got != want {
			t.Errorf("flag of %q = %d, want %d", route, got, want)
		}
	}
}

// This is what Python's json.dump writes for the cases of real faults.
func TestParseJSON(t *testing.T) {
	const text = `{"service": "d001", "select": "{case=\"d001\"}", "endpoint": ["service", "endpoint"], "windows": {"step": "60s", "before": "1440s", "guard": "0s", "first_look": "120s", "horizon": "180s", "history": "0s"}, "signals": [{"name": "p99", "gauge": "endpoint_latency_p99_seconds", "minimum_effect": "10%"}, {"name": "errors", "ratio": {"of": "endpoint_errors_total", "per": "endpoint_requests_total"}, "minimum_effect": "20%"}], "alpha": {"report": 0.05, "act": 0.05}}`
	rules, err := Parse("d001.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := rules[0]
	if want := (Windows{time.Minute, 24 * time.Minute, 0, 2 * time.Minute, 3 * time.Minute, 0}); r.Windows != want {
		t.Errorf("windows %+v, want %+v", r.Windows, want)
	}
	if r.Select != `{case="d001"}` || r.Alpha != (Alpha{0.05, 0.05}) || r.Signals[1].MinimumEffect != 0.2 {
		t.Errorf("rule %+v", r)
	}
}

func TestSeveralDocuments(t *testing.T) {
	one, two := "# first\n"+minimal, "---\n"+strings.Replace(minimal, "service: a", "service: b", 1)
	rules, err := Parse("r.yaml", []byte("---\n# nothing\n---\n"+one+two+"---\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) != 2 || rules[0].Service != "a" || rules[1].Service != "b" {
		t.Fatalf("rules %+v, want a and b", rules)
	}
	if rules[0].Path != "r.yaml#1" || rules[1].Path != "r.yaml#2" {
		t.Errorf("paths %s and %s, want r.yaml#1 and r.yaml#2", rules[0].Path, rules[1].Path)
	}
	if got := string(rules[0].Text); got != "---\n"+one {
		t.Errorf("text of the first %q", got)
	}
	again, err := Parse(rules[1].Path, rules[1].Text)
	if err != nil || len(again) != 1 || again[0].Path != "r.yaml#2" || again[0].Service != "b" {
		t.Errorf("the second document by itself: %+v, %v", again, err)
	}
	if again[0].Signals[0].Line != 4 || rules[1].Signals[0].Line != 11 {
		t.Errorf("lines %d by itself and %d in the file, want 4 and 11", again[0].Signals[0].Line, rules[1].Signals[0].Line)
	}
}

func TestExampleRules(t *testing.T) {
	rules, err := Load([]string{"../../rules"})
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) == 0 || rules[0].Service != "checkout-api" {
		t.Errorf("rules %+v, want checkout-api first", rules)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rule := func(service string) string { return strings.Replace(minimal, "service: a", "service: "+service, 1) }
	good := filepath.Join(dir, "good")
	write("good/b.yml", rule("b"))
	a := write("good/a.yaml", rule("a"))
	write("good/tests/c.yaml", rule("c"))
	write("good/note.txt", "no rule")
	bad1, bad2 := write("bad/1.yaml", "x: 1\n"), write("bad/2.yaml", minimal+"colour: red\n")
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}

	services := func(paths ...string) string {
		t.Helper()
		rules, err := Load(paths)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range rules {
			names = append(names, r.Service)
		}
		return strings.Join(names, " ")
	}
	if got := services(good); got != "a b" {
		t.Errorf("directory: %s, want a b", got)
	}
	if got := services(filepath.Join(good, "*.y*ml"), a); got != "a b" {
		t.Errorf("pattern and one of its files: %s, want a b", got)
	}
	if got := services(filepath.Join(good, "tests", "c.yaml"), good); got != "c a b" {
		t.Errorf("file, then directory: %s, want c a b", got)
	}

	_, err := Load([]string{filepath.Join(dir, "bad"), filepath.Join(dir, "none.yaml"), filepath.Join(dir, "none*"), empty})
	all, ok := errors.AsType[Errors](err)
	if !ok || len(all) != 8 { // 4 of 1.yaml, 1 of 2.yaml, 3 paths
		t.Fatalf("errors %v, want 8", err)
	}
	if all[0].Path != bad1 || all[4].Path != bad2 {
		t.Errorf("paths %s and %s, want %s and %s", all[0].Path, all[4].Path, bad1, bad2)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap fs.ErrNotExist", err)
	}
	if want := filepath.Join(dir, "none.yaml") + ": cannot be read: no such file or directory; check the path and who may read it"; all[5].Error() != want {
		t.Errorf("missing file: %v, want %s", all[5], want)
	}
	if _, err := Load(nil); err == nil {
		t.Error("no paths at all are no error")
	}
}

func TestCheckConstraint(t *testing.T) {
	for _, good := range []string{"<2.42.0", ">= 2.42.0", ">=2.42.0, <3", ">=2.42.0 <3", "2.42.0", "=deadbeef", "!=v1.2.3-rc.1+abc", "==1"} {
		if err := checkConstraint(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", " , ", "<", "<<2", "=>2", "<deadbeef", "~1.2", "1.*", "> <2"} {
		if checkConstraint(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// FuzzParse wants no panic, a place in every mistake, and that a rule, parsed again from its
// own text, is the same rule.
func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add(minimal + "---\n" + minimal)
	f.Add(minimal + "flags: [{key: k, source: p, off: {variant: x, ramp: zero}}, {key: l, source: p, off: {state: disabled, code_default_is_off: true}}]\n")
	f.Add("{\"service\": \"a\", \"endpoint\": [\"r\"], \"signals\": [{\"name\": \"l\", \"gauge\": \"g\"}]}")
	f.Add("a: &x [*x]\n<<: *x\n? [1]\n: 2\n...\n%YAML 1.2\n--- !!binary x\n")
	f.Add(minimal + "windows: {step: 1d, before: 292y, guard: 292y}\nmute: [{}]\nflags: [{behind: {route: 'a)'}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := Parse("r.yaml", []byte(text))
		if err != nil {
			all, ok := errors.AsType[Errors](err)
			if !ok || len(all) == 0 || rules != nil {
				t.Fatalf("%T, %v", err, rules)
			}
			for _, e := range all {
				if e.Line < 1 || e.Column < 1 || e.Reason == "" || e.Path != "r.yaml" {
					t.Fatalf("mistake without a place: %+v", e)
				}
			}
			return
		}
		for _, r := range rules {
			w := r.Windows
			if w.FirstLook <= w.Guard || w.Horizon < w.FirstLook || w.Before < minBefore*w.Step || w.Steps(w.Horizon) > MaxSteps || w.Steps(w.History) > MaxSteps || w.Guard < 0 {
				t.Fatalf("windows %+v", w)
			}
			again, err := Parse(r.Path, r.Text)
			if err != nil || len(again) != 1 {
				t.Fatalf("again: %v\n%q", err, r.Text)
			}
			if again[0].Windows != w || again[0].Service != r.Service || len(again[0].Signals) != len(r.Signals) || len(again[0].Flags) != len(r.Flags) {
				t.Fatalf("again %+v, want %+v", again[0], r)
			}
		}
	})
}

func TestOffModes(t *testing.T) {
	tests := map[string]Off{
		`{variant: "off"}`:                             {Variant: "off"},
		`{variant: "off", ramp: zero}`:                 {Variant: "off", RampZero: true},
		`{state: disabled, code_default_is_off: true}`: {Disabled: true},
	}
	for text, want := range tests {
		rules, err := Parse("r.yaml", []byte("service: a\nendpoint: [route]\nsignals: [{name: latency, histogram: x_seconds}]\nflags: [{key: k, source: p, off: "+text+"}]\n"))
		if err != nil || rules[0].Flags[0].Off != want {
			t.Errorf("%s: %+v, %v; want %+v", text, rules, err, want)
		}
	}
}
