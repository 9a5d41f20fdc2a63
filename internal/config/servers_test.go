package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestServers(t *testing.T) {
	const text = `flag_sources:
  a: {unleash: {url: 'https://unleash.example.com', token_file: secrets/unleash}}
  b: {unleash: {url: 'https://unleash.example.com', project: shop, environment: staging, token_env: UNLEASH_TOKEN}}
  c: {launchdarkly: {project: shop, environment: production, token_env: LD_TOKEN, approvals: request}}
  d: {webhook: {url: 'https://hooks.example.com/a', secret_file: /run/key, variants: {"on": 2, "off": 0.5}}}
  e: {webhook: {url: 'https://hooks.example.com/b', state_url: 'https://hooks.example.com/state', secret_env: KEY}}
verify:
  a: {unleash: {url: 'https://edge.example.com', token_file: secrets/frontend}}
  d: {ofrep: {url: 'http://localhost:8016', token_file: secrets/ofrep, header: X-API-Key}}
  e: {ofrep: {url: 'http://localhost:8016', token_env: OFREP_TOKEN}}
`
	c, err := Parse("/etc/driftwatch/driftwatch.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	onOff := map[string]any{"on": true, "off": false}
	if want := (map[string]FlagSource{
		"a": {Unleash: &Unleash{"https://unleash.example.com", "default", "production", Secret{File: "/etc/driftwatch/secrets/unleash"}}},
		"b": {Unleash: &Unleash{"https://unleash.example.com", "shop", "staging", Secret{Env: "UNLEASH_TOKEN"}}},
		"c": {LaunchDarkly: &LaunchDarkly{"https://app.launchdarkly.com", "shop", "production", Secret{Env: "LD_TOKEN"}, true}},
		"d": {Webhook: &Webhook{"https://hooks.example.com/a", "", Secret{File: "/run/key"}, map[string]any{"on": 2.0, "off": 0.5}}},
		"e": {Webhook: &Webhook{"https://hooks.example.com/b", "https://hooks.example.com/state", Secret{Env: "KEY"}, onOff}},
	}); !reflect.DeepEqual(c.FlagSources, want) {
		t.Errorf("flag sources %+v, want %+v", c.FlagSources, want)
	}
	if want := (map[string]Verifier{
		"a": {Unleash: &UnleashFrontend{"https://edge.example.com", Secret{File: "/etc/driftwatch/secrets/frontend"}}},
		"b": {}, "c": {},
		"d": {OFREP: &OFREP{"http://localhost:8016", Secret{File: "/etc/driftwatch/secrets/ofrep"}, "X-API-Key"}},
		"e": {OFREP: &OFREP{"http://localhost:8016", Secret{Env: "OFREP_TOKEN"}, ""}},
	}); !reflect.DeepEqual(c.Verify, want) {
		t.Errorf("verify %+v, want %+v", c.Verify, want)
	}
}

func TestServerErrors(t *testing.T) {
	const u = "flag_sources: {a: {unleash: {url: 'http://h', token_env: T}}}\n"
	tests := []struct{ name, yaml, want string }{
		{"no token", "flag_sources: {a: {unleash: {url: 'http://h'}}}\n", `c.yaml:1:29: unleash.token_file is missing; write token_file: PATH or token_env: VARIABLE`},
		{"token in plain text", "flag_sources: {a: {unleash: {url: 'http://h', token: geheim}}}\n", `c.yaml:1:47: token is a secret in plain text; write token_file: PATH or token_env: VARIABLE`},
		{"token as a variable's name", "flag_sources: {a: {unleash: {url: 'http://h', token_env: '*:*.geheim'}}}\n", `c.yaml:1:47: token_env is no name of an environment variable; write its name; the secret itself does not belong here`},
		{"two tokens", "flag_sources: {a: {unleash: {url: 'http://h', token_env: A, token_file: b}}}\n", `c.yaml:1:47: two places for one secret; keep one of them`},
		{"password in the address", "flag_sources: {a: {unleash: {url: 'http://me:geheim@h', token_env: T}}}\n", `c.yaml:1:30: url is an address that holds a user or password; write it like http://localhost:9090; credentials belong into files named under http`},
		{"unknown field", "flag_sources: {a: {unleash: {url: 'http://h', token_env: T, environmenz: x}}}\n", `c.yaml:1:61: unknown field "environmenz"; did you mean "environment"? known: url, project, environment, token_file, token_env`},
		{"two kinds", "flag_sources: {a: {flagd_file: {path: f.json}, unleash: {url: 'http://h', token_env: T}}}\n", `c.yaml:1:48: two kinds of flag source under one name; give each a name of its own`},
		{"launchdarkly without a project", "flag_sources: {a: {launchdarkly: {environment: e, token_env: T}}}\n", `c.yaml:1:34: launchdarkly.project is missing; write the project's key: project: default`},
		{"approvals", "flag_sources: {a: {launchdarkly: {project: p, environment: e, token_env: T, approvals: please}}}\n", `c.yaml:1:88: approvals "please" is not one of refuse, request; known: refuse, request`},
		{"webhook without verify", "flag_sources: {a: {webhook: {url: 'http://h', secret_env: K}}}\n", `c.yaml:1:16: a webhook says only that it was called, so its flags need a way to verify; write verify: {a: {ofrep: {url: http://localhost:8016}}}`},
		{"webhook with a list as a variant", "flag_sources: {a: {webhook: {url: 'http://h', secret_env: K, variants: {x: [1]}}}}\nverify: {a: {ofrep: {url: 'http://h'}}}\n", "c.yaml:1:62: no variants; write variants: {on: true, off: false}\nc.yaml:1:73: the value of a variant is true, false, a text, a number or a mapping"},
		{"variants twice", "flag_sources: {a: {webhook: {url: 'http://h', state_url: 'http://s', secret_env: K, variants: {x: 1}}}}\nverify: {a: {ofrep: {url: 'http://h'}}}\n", `c.yaml:1:85: state_url tells the variants of each flag; leave variants out`},
		{"verify a file by unleash", "flag_sources: {a: {flagd_file: {path: f.json}}}\nverify: {a: {unleash: {url: 'http://h', token_env: T}}}\n", `c.yaml:2:14: only a flag source unleash is verified by unleash: what is absent there is off only if the source says so; write {ofrep: {url: http://localhost:8016}}`},
		{"verify twice", u + "verify: {a: {ofrep: {url: 'http://h'}, unleash: {url: 'http://h', token_env: T}}}\n", `c.yaml:2:40: two ways to verify one source; keep the one that the application uses`},
		{"header without a token", u + "verify: {a: {ofrep: {url: 'http://h', header: X-API-Key}}}\n", `c.yaml:2:39: a header without a token; write token_file: PATH beside it`},
		{"token as a header", u + "verify: {a: {ofrep: {url: 'http://h', token_env: T, header: 'X-API-Key: geheim'}}}\n", `c.yaml:2:53: header is no name of an HTTP header; write header: X-API-Key; the token belongs into token_file`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(tt.yaml))
			if err == nil {
				t.Fatalf("Parse took it: %+v", c)
			}
			if err.Error() != tt.want {
				t.Errorf("error\n%v\nwant\n%v", err, tt.want)
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Error("the message holds the secret")
			}
		})
	}
}
