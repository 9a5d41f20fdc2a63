package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/driftwatch/driftwatch/demo/internal/prom"
	"github.com/driftwatch/driftwatch/demo/internal/shop"
)

// A folder holds the files of one run. Paths are absolute: driftwatch reads them as they are.
type folder struct {
	config, rule, flags, journal, reportJSON, reportText, reportHTML string
}

// newFolder makes the folder and removes the files of an earlier run.
func newFolder(dir string) (folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return folder{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return folder{}, err
	}
	f := folder{
		config: filepath.Join(dir, "driftwatch.yaml"), rule: filepath.Join(dir, "rule.yaml"),
		flags: filepath.Join(dir, "flags.json"), journal: filepath.Join(dir, "driftwatch.db"),
		reportJSON: filepath.Join(dir, "report.json"), reportText: filepath.Join(dir, "report.txt"),
		reportHTML: filepath.Join(dir, "report.html"),
	}
	for _, old := range []string{f.reportJSON, f.reportText, f.reportHTML, f.journal, f.journal + "-wal", f.journal + "-shm"} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return folder{}, err
		}
	}
	return f, nil
}

// flagsText is the flagd file that the shop reads and driftwatch edits. The flag is on from the
// start: the version before the upgrade has no code that asks for it.
const flagsText = `{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "flags": {
    "` + shop.Flag + `": {
      "state": "ENABLED",
      "variants": {"on": true, "off": false},
      "defaultVariant": "on"
    }
  }
}
`

// write writes the flag file, the rule and the configuration.
func (f folder) write(prometheusURL string) error {
	quoted := func(s string) string { // a JSON string is a YAML string
		b, _ := json.Marshal(s)
		return string(b)
	}
	configText := fmt.Sprintf(`# Where the demo's world is. The port changes with every run.
prometheus: {url: %s}
rules: [%s]
flag_sources:
  shop: {flagd_file: {path: %s, mode: edit}}
verify:
  shop: {flagd_file: {path: %[3]s}}
journal: {sqlite: %s}
`, quoted(prometheusURL), quoted(f.rule), quoted(f.flags), quoted(f.journal))
	for path, text := range map[string]string{f.flags: flagsText, f.rule: ruleText, f.config: configText} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// ruleText is a rule as a team would write it, with steps of a second in place of a minute.
// Three metrics of ten endpoints need 3 * 10 / 0.01 - 1 = 2,999 pooled placebos; 9,900 steps of
// history hold 490 per endpoint. In a minute of 62 to 92 requests a second a rise of 50 % can mostly
// be excluded, and one of 10 % cannot; so 50 % is what matters here.
const ruleText = `# The demo's rule: as for a real service, but with steps of a second, so that it takes minutes.
service: shop
label: paying by card
select: '{job="` + prom.Job + `"}'
endpoint: [method, route]
upgrade: {metric: build_info, version_label: version}
windows:
  step: 1s
  before: 60s
  guard: 3s
  first_look: 5s
  horizon: 60s
  history: 2h45m
signals:
  - {name: latency, histogram: http_server_request_duration_seconds, quantile: 0.99, minimum_effect: 50%}
  - {name: retries, ratio: {of: http_client_request_retries_total, per: http_client_requests_total}, minimum_effect: 50%}
flags:
  - key: ` + shop.Flag + `
    source: shop
    behind: {route: '/v1/payments/.*'}
    off: {variant: "off"}
    probes: [{targetingKey: customer-1}, {targetingKey: customer-2}, {targetingKey: customer-3}]
    exposure: >-
      sum(rate(feature_flag_evaluations_total{feature_flag_key="` + shop.Flag + `", feature_flag_result_variant="on"}[2s]))
      / sum(rate(feature_flag_evaluations_total{feature_flag_key="` + shop.Flag + `"}[2s]))
    act: true
history_is: generated
act_without_controls: false
`

// isOff reports whether a flagd file gives the off variant to everyone.
func isOff(text []byte) (bool, error) {
	var file struct {
		Flags map[string]struct {
			State          string          `json:"state"`
			DefaultVariant string          `json:"defaultVariant"`
			Targeting      json.RawMessage `json:"targeting"`
		} `json:"flags"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return false, fmt.Errorf("read the flag file: %w", err)
	}
	f, ok := file.Flags[shop.Flag]
	if !ok {
		return false, fmt.Errorf("the flag file has no %s", shop.Flag)
	}
	targeted := len(f.Targeting) > 0 && string(f.Targeting) != "{}" && string(f.Targeting) != "null"
	return f.State == "ENABLED" && f.DefaultVariant == "off" && !targeted, nil
}
