package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/driftwatch/driftwatch/internal/strictyaml"
)

// example is the configuration that docs/rules.md shows.
const example = `prometheus:
  url: http://localhost:9090
  http: {}
  read: auto
  concurrency: 2
  max_samples: 20000000
rules: [rules/*.yaml]
flag_sources:
  production: {flagd_file: {path: flags/payments.json, mode: edit}}
verify:
  production: {flagd_file: {path: flags/payments.json}}
journal: {sqlite: driftwatch.db}
act: false
limits:
  {actions_per_hour: 1, actions_per_day: 3, cooldown: 6h, stop_file: /run/driftwatch/stop, remind_after: 7d,
   critical: [critical, permanent, kill_switch, entitlement, type=kill-switch, type=permission]}
approval: {required: false, plans: plans, valid: 1h}
links: {prometheus: https://prometheus.example.com, grafana: https://grafana.example.com/g}
notify: []
web: {listen: 127.0.0.1:9465, config_file: ""}
`

func TestDocsShowTheExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "```yaml\n"+example+"```") {
		t.Error("docs/rules.md shows another configuration")
	}
}

func TestExample(t *testing.T) {
	c, err := Parse("driftwatch.yaml", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	file := &FlagdFile{Path: "flags/payments.json"}
	want := &Config{
		Path: "driftwatch.yaml",
		Prometheus: Prometheus{
			URL: "http://localhost:9090", HTTP: promconfig.DefaultHTTPClientConfig, Read: ReadAuto, Concurrency: 2,
			MaxSamples: 20_000_000,
		},
		Rules:       []string{"rules/*.yaml"},
		FlagSources: map[string]FlagSource{"production": {FlagdFile: file}},
		Verify:      map[string]Verifier{"production": {FlagdFile: file}},
		Journal:     Journal{SQLite: "driftwatch.db"},
		Approval:    Approval{Plans: "plans", Valid: time.Hour},
		Limits: Limits{
			1, 3, 6 * time.Hour, "/run/driftwatch/stop",
			[]string{"critical", "permanent", "kill_switch", "entitlement", "type=kill-switch", "type=permission"},
			7 * 24 * time.Hour,
		},
		Links: Links{"https://prometheus.example.com", "https://grafana.example.com/g"},
		Web:   Web{Listen: "127.0.0.1:9465"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Parse =\n%+v\nwant\n%+v", c, want)
	}
}

// The example shows the defaults, but for the address, the flags and the links.
func TestDefaults(t *testing.T) {
	shown, err := Parse("driftwatch.yaml", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	short, err := Parse("driftwatch.yaml", []byte("prometheus: {url: 'http://localhost:9090'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	shown.FlagSources, shown.Verify, shown.Links = map[string]FlagSource{}, map[string]Verifier{}, Links{}
	if !reflect.DeepEqual(short, shown) {
		t.Errorf("only the address:\n%+v\nthe example:\n%+v", short, shown)
	}
	empty, err := Parse("driftwatch.yaml", nil)
	want := Default()
	want.Path = "driftwatch.yaml"
	if err != nil || !reflect.DeepEqual(empty, want) {
		t.Errorf("an empty file: %+v, %v, want %+v", empty, err, want)
	}
}

func TestEverythingElse(t *testing.T) {
	const text = `prometheus:
  url: https://prometheus.example.com/base
  http:
    basic_auth: {username: driftwatch, password_file: secrets/password}
    tls_config: {ca_file: /etc/ca.pem, min_version: TLS12}
    http_headers: {X-Scope-OrgID: {values: [shop]}, X-Token: {files: [secrets/token]}}
    proxy_url: http://proxy.example.com:3128
    follow_redirects: false
  read: query
  concurrency: 1
  max_samples: 5e6
rules: [more, /etc/rules/a.yaml]
flag_sources: {production: {flagd_file: {path: /flags.yaml}}, test: {flagd_file: {path: t.json}}}
verify: {production: {ofrep: {url: 'http://localhost:8016'}}}
journal: {sqlite: data/j.db}
act: true
limits: {actions_per_hour: 0, cooldown: 0, stop_file: ""}
`
	c, err := Parse("/etc/driftwatch/driftwatch.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	h := c.Prometheus.HTTP
	if got, want := h.BasicAuth.PasswordFile, "/etc/driftwatch/secrets/password"; got != want {
		t.Errorf("password file %s, want %s", got, want)
	}
	if got, want := h.HTTPHeaders.Headers["X-Token"].Files[0], "/etc/driftwatch/secrets/token"; got != want {
		t.Errorf("token file %s, want %s", got, want)
	}
	if h.TLSConfig.CAFile != "/etc/ca.pem" || h.FollowRedirects || !h.EnableHTTP2 || h.HTTPHeaders.Headers["X-Scope-OrgID"].Values[0] != "shop" || h.ProxyURL.Host != "proxy.example.com:3128" {
		t.Errorf("http %+v", h)
	}
	p := c.Prometheus
	if p.URL != "https://prometheus.example.com/base" || p.Read != ReadQuery || p.Concurrency != 1 || p.MaxSamples != 5_000_000 {
		t.Errorf("prometheus %+v", p)
	}
	if want := []string{"/etc/driftwatch/more", "/etc/rules/a.yaml"}; !reflect.DeepEqual(c.Rules, want) {
		t.Errorf("rules %v, want %v", c.Rules, want)
	}
	if want := (map[string]Verifier{"production": {OFREP: &OFREP{URL: "http://localhost:8016"}}, "test": {FlagdFile: &FlagdFile{Path: "/etc/driftwatch/t.json"}}}); !reflect.DeepEqual(c.Verify, want) {
		t.Errorf("verify %+v, want %+v", c.Verify, want)
	}
	if c.Journal.SQLite != "/etc/driftwatch/data/j.db" || !c.Act || !reflect.DeepEqual(c.Limits, Limits{0, 3, 0, "", Default().Limits.Critical, Default().Limits.RemindAfter}) || c.FlagSources["production"].FlagdFile.Path != "/flags.yaml" {
		t.Errorf("config %+v", c)
	}
}

func TestJournalInPostgres(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dsn"), []byte("postgres://driftwatch:hunter2@db/driftwatch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	getenv := func(name string) (string, bool) {
		v, ok := map[string]string{"JOURNAL_DSN": "host=db password=hunter2", "EMPTY": ""}[name]
		return v, ok
	}
	for _, tt := range []struct{ written, want, err string }{
		{"dsn_file: dsn", "postgres://driftwatch:hunter2@db/driftwatch", ""},
		{"dsn_env: JOURNAL_DSN", "host=db password=hunter2", ""},
		{"dsn_file: nothing", "", "journal.postgres.dsn_file: open " + filepath.Join(dir, "nothing") + ": no such file or directory; check the path and who may read it"},
		{"dsn_file: empty", "", "journal.postgres.dsn_file: " + filepath.Join(dir, "empty") + " is empty; write the DSN into it"},
		{"dsn_env: EMPTY", "", "journal.postgres.dsn_env: the variable EMPTY is not set; export it"},
		{"dsn_env: NOWHERE", "", "journal.postgres.dsn_env: the variable NOWHERE is not set; export it"},
	} {
		c, err := Parse(filepath.Join(dir, "driftwatch.yaml"), []byte("journal: {postgres: {"+tt.written+"}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Journal.Postgres.DSN(getenv)
		if got != tt.want || (err == nil) != (tt.err == "") || (err != nil && err.Error() != tt.err) {
			t.Errorf("%s: %q, %v; want %q, %s", tt.written, got, err, tt.want, tt.err)
		}
	}
}

// A DSN in the configuration is refused wherever it is put, and not repeated.
func TestADSNIsNotRepeated(t *testing.T) {
	const dsn = "'postgres://driftwatch:hunter2@db/driftwatch'"
	for _, text := range []string{
		"journal: " + dsn, "journal: {sqlite: " + dsn + "}", "journal: {postgres: " + dsn + "}", "journal: {postgres: {dsn: " + dsn + "}}",
		"journal: {postgres: {dsn_file: " + dsn + "}}", "journal: {postgres: {dsn_env: " + dsn + "}}", "journal: {postgres: {dsn_file: host=db password=hunter2}}",
	} {
		_, err := Parse("c.yaml", []byte(text+"\n"))
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "dsn_env: VARIABLE") {
			t.Errorf("%s: %v, want the remedy and not the password", text, err)
		}
	}
}

func TestErrors(t *testing.T) {
	const source = "flag_sources: {production: {flagd_file: {path: f.json}}}\n"
	tests := []struct {
		name, yaml string
		want       []string
	}{
		{"unknown field", "promtheus: {}\n", []string{`c.yaml:1:1: unknown field "promtheus"; did you mean "prometheus"? known: prometheus, rules, flag_sources, verify, journal, act, approval, limits, links, notify, web`}},
		{"all mistakes", "prometheus: {url: 5, read: remote}\nact: yes\n", []string{
			`c.yaml:1:19: url 5 is a number, not text; put it in quotes: "5"`,
			`c.yaml:1:28: read "remote" is not one of auto, remote-read, query; known: auto, remote-read, query`,
			`c.yaml:2:6: act "yes" is text, not true or false; write true or false, without quotes`,
		}},
		{"second document", "act: true\n---\nact: false\n", []string{`c.yaml:3:1: a second document; a configuration is one document; rules have files of their own`}},
		{"no scheme", "prometheus: {url: localhost:9090}\n", []string{`c.yaml:1:14: url is not an address with http:// or https://; write it like http://localhost:9090; credentials belong into files named under http`}},
		{"password in the address", "prometheus: {url: 'http://me:geheim@host'}\n", []string{`c.yaml:1:14: url is an address that holds a user or password; write it like http://localhost:9090; credentials belong into files named under http`}},
		{"a link that runs something", "links: {grafana: 'javascript:alert(1)'}\n", []string{`c.yaml:1:9: grafana is not an address with http:// or https://; write it like http://localhost:9090; credentials belong into files named under http`}},
		{"limits", "prometheus: {concurrency: 0, max_samples: 1}\n", []string{
			`c.yaml:1:27: concurrency 0 is not a whole number from 1 to 64`, `c.yaml:1:43: max_samples 1 is not a whole number from 10000 to 1000000000`,
		}},
		{
			"http: unknown field", "prometheus:\n  http:\n    tls_config: {ca_fil: x}\n",
			[]string{`c.yaml:3:18: unknown field "ca_fil"; did you mean "ca_file"? known: ca, ca_file, cert, cert_file, insecure_skip_verify, key, key_file, max_version, min_version, server_name`},
		},
		{"http: secrets in plain text", "prometheus:\n  http:\n    basic_auth: {username: me, password: geheim}\n    http_headers: {X-Token: {secrets: [geheim]}}\n    bearer_token: geheim\n", []string{
			`c.yaml:3:32: password is a secret in plain text; put it into a file and write password_file: PATH`,
			`c.yaml:4:30: secrets may hold a secret in plain text; put it into a file: http_headers: {NAME: {files: [PATH]}}`,
			`c.yaml:5:5: bearer_token is a secret in plain text; put it into a file and write bearer_token_file: PATH`,
		}},
		{"http: a secret where a section belongs", "prometheus: {http: {basic_auth: 'me:geheim'}}\n", []string{`c.yaml:1:21: basic_auth is not a mapping`}},
		{"http: password in the proxy's address", "prometheus: {http: {proxy_url: 'http://me:geheim@host'}}\n", []string{`c.yaml:1:21: proxy_url is an address that holds a user or password; write it like http://proxy.example.com:3128`}},
		{
			"http: prometheus/common's own check", "prometheus:\n  http: {basic_auth: {username: a}, authorization: {credentials_file: x}}\n",
			[]string{`c.yaml:2:9: http: at most one of basic_auth, oauth2 & authorization must be configured; see prometheus.io/docs, http_config`},
		},
		{"http: wrong word", "prometheus:\n  http: {tls_config: {min_version: TLS9}}\n", []string{`c.yaml:2:9: http: unknown TLS version: TLS9; see prometheus.io/docs, http_config`}},
		{"overlay without its file", "flag_sources: {a: {flagd_file: {path: x, mode: overlay}}}\n", []string{`c.yaml:1:32: flagd_file.overlay is missing; write the file that flagd lists last, which is driftwatch's alone: overlay: overlay.json`}},
		{"an overlay over itself", "flag_sources: {a: {flagd_file: {path: x, mode: overlay, overlay: x}}}\n", []string{`c.yaml:1:57: the overlay is the file itself; write a file of its own, with the text {"flags":{}}, and list it last in flagd's sources`}},
		{"an overlay in mode edit", "flag_sources: {a: {flagd_file: {path: x, overlay: y}}}\n", []string{`c.yaml:1:42: an overlay without mode: overlay; write mode: overlay, or leave the overlay out`}},
		{"flag file without a path", "flag_sources: {a: {flagd_file: {}}}\n", []string{`c.yaml:1:32: flagd_file.path is missing; write where the flag definitions are: path: flags.json`}},
		{"no flag source", "flag_sources: {a: {}}\n", []string{`c.yaml:1:19: a.flagd_file is missing; write {flagd_file: {path: flags.json, mode: edit}}`}},
		{
			"two flag sources", "flag_sources: {a: {flagd_file: {path: x}, configmap: {namespace: a, name: b, key: f.json}}}\n",
			[]string{`c.yaml:1:43: two kinds of flag source under one name; give each a name of its own`},
		},
		{"kubernetes: names", "flag_sources: {a: {flagd_crd: {namespace: Shop, name: ../checkout, managed: yes}}}\n", []string{
			`c.yaml:1:43: namespace is no name of a Kubernetes object; lower-case letters, digits and '-'`,
			`c.yaml:1:55: name is no name of a Kubernetes object; lower-case letters, digits and '-'`,
			`c.yaml:1:77: managed "yes" is not one of refuse, allow; known: refuse, allow`,
		}},
		{"kubernetes: nothing", "flag_sources: {a: {configmap: {}}}\n", []string{
			`c.yaml:1:31: configmap.namespace is missing; write the object's namespace`,
			`c.yaml:1:31: configmap.name is missing; write the object's name`,
			`c.yaml:1:31: configmap.key is missing; write which entry of data holds the flags: key: flags.json`,
		}},
		{"kubernetes: key", "flag_sources: {a: {configmap: {namespace: a, name: b, key: flags.toml}}}\n", []string{`c.yaml:1:60: flagd does not read a file of that name; it reads .json, .yaml and .yml`}},
		{"kubernetes: secret in plain text", "flag_sources: {a: {flagd_crd: {namespace: a, name: b, server: {address: 'https://h', token: geheim}}}}\n", []string{`c.yaml:1:86: token is a secret in plain text; put it into a file and write token_file: PATH`}},
		{"kubernetes: secret in the clear", "flag_sources: {a: {flagd_crd: {namespace: a, name: b, server: {address: 'http://10.0.0.1', token_file: t}}}}\n", []string{`c.yaml:1:73: the token would be sent to 10.0.0.1 in the clear; write https://`}},
		{"verify another source", source + "verify: {prodction: {ofrep: {url: 'http://h'}}}\n", []string{`c.yaml:2:10: no flag source "prodction"; did you mean "production"? known: production`}},
		{"verify nothing", source + "verify: {production: {}}\n", []string{`c.yaml:2:22: no way to verify; write {flagd_file: {path: flags.json}} or {ofrep: {url: http://localhost:8016}}`}},
		{"verify twice", source + "verify: {production: {flagd_file: {path: f}, ofrep: {url: 'http://h'}}}\n", []string{`c.yaml:2:46: two ways to verify one source; keep the one that the application uses`}},
		{"two journals", "journal: {sqlite: a.db, postgres: {dsn_file: x}}\n", []string{`c.yaml:1:25: two journals; keep one of sqlite and postgres`}},
		{"no DSN", "journal: {postgres: {}}\n", []string{`c.yaml:1:21: the DSN is not named in exactly one way; write {postgres: {dsn_file: FILE}}, a file with the DSN, or {postgres: {dsn_env: VARIABLE}}`}},
		{"two DSNs", "journal: {postgres: {dsn_file: x, dsn_env: X}}\n", []string{`c.yaml:1:21: the DSN is not named in exactly one way; write {postgres: {dsn_file: FILE}}, a file with the DSN, or {postgres: {dsn_env: VARIABLE}}`}},
		{"notify", "notify: [{slack: {url_file: x}}]\n", []string{`c.yaml:1:1: notifications are not built yet; leave notify out; the exit code and -o json can be sent by what runs the check`}},
		{"web", "web: {listen: '9465', config_file: w.yaml, port: 1}\n", []string{
			`c.yaml:1:15: listen "9465" is no address; write it like 127.0.0.1:9465`,
			`c.yaml:1:44: unknown field "port"; known: listen, config_file`,
		}},
		{"cooldown", "limits: {cooldown: 6, actions_per_day: -1}\n", []string{
			`c.yaml:1:20: cooldown 6 has no unit; write 6s if seconds are meant`, `c.yaml:1:40: actions_per_day -1 is not a whole number from 0 to 1000`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(tt.yaml))
			if err == nil {
				t.Fatalf("Parse took it: %+v", c)
			}
			if want := strings.Join(tt.want, "\n"); err.Error() != want {
				t.Errorf("error\n%v\nwant\n%v\nin\n%s", err, want, tt.yaml)
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Error("the message holds the secret")
			}
		})
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "driftwatch.yaml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(path), "driftwatch.db"); c.Journal.SQLite != want {
		t.Errorf("journal %s, want %s", c.Journal.SQLite, want)
	}
}

func TestCheckURL(t *testing.T) {
	for s, good := range map[string]bool{
		"http://localhost:9090": true, "https://mimir.example.com/prometheus/": true, "http://[::1]:9090": true,
		"": false, "localhost:9090": false, "ftp://a": false, "http://": false, "http://u@h": false, "http://h?x=1": false, "http://h:x": false,
	} {
		if err := CheckURL(s); (err == nil) != good {
			t.Errorf("CheckURL(%q) = %v", s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("prometheus: {http: {http_headers: {a: {values: [b]}}, oauth2: {client_id: x, scopes: [a], endpoint_params: {a: b}}}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Parse("c.yaml", []byte(text))
		all, ok := errors.AsType[strictyaml.Errors](err)
		if err != nil && (!ok || len(all) == 0) {
			t.Fatalf("%T", err)
		}
		for _, e := range all {
			if e.Line < 1 || e.Column < 1 || e.Reason == "" {
				t.Fatalf("mistake without a place: %+v", e)
			}
		}
	})
}

// What flagd lists last is in the view of who verifies, whether it is written down or not.
func TestOverlay(t *testing.T) {
	const sources = "flag_sources: {a: {flagd_file: {path: base.json, mode: overlay, overlay: over.json}}}\n"
	tests := []struct {
		name, verify string
		want         FlagdFile
	}{
		{"by default", "", FlagdFile{Path: "/d/base.json", Later: []string{"/d/over.json"}}},
		{"with a later source", "verify: {a: {flagd_file: {path: base.json, later: [over.json, /x.yaml]}}}\n", FlagdFile{Path: "/d/base.json", Later: []string{"/d/over.json", "/x.yaml"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("/d/c.yaml", []byte(sources+tt.verify))
			if err != nil {
				t.Fatal(err)
			}
			if f := c.FlagSources["a"].FlagdFile; f.Path != "/d/base.json" || f.Overlay != "/d/over.json" {
				t.Errorf("source %+v", f)
			}
			if got := *c.Verify["a"].FlagdFile; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("verify %+v, want %+v", got, tt.want)
			}
		})
	}
}
