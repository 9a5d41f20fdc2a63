package config

import (
	"reflect"
	"testing"
)

func TestGoffFile(t *testing.T) {
	const text = `flag_sources:
  a: {goff_file: {path: flags.goff.yaml}}
  b: {goff_file: {path: /etc/goff/flags.json, refresh: {url: 'http://localhost:1031', key_file: secrets/goff}}}
  c: {goff_file: {path: flags.yaml, refresh: {url: 'https://goff.example.com', key_env: GOFF_ADMIN_KEY}}}
verify:
  b: {ofrep: {url: 'http://localhost:1031', token_file: secrets/evaluate, header: X-API-Key}}
`
	c, err := Parse("/etc/driftwatch/driftwatch.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := (map[string]FlagSource{
		"a": {GoffFile: &GoffFile{"/etc/driftwatch/flags.goff.yaml", nil}},
		"b": {GoffFile: &GoffFile{"/etc/goff/flags.json", &GoffRefresh{"http://localhost:1031", Secret{File: "/etc/driftwatch/secrets/goff"}}}},
		"c": {GoffFile: &GoffFile{"/etc/driftwatch/flags.yaml", &GoffRefresh{"https://goff.example.com", Secret{Env: "GOFF_ADMIN_KEY"}}}},
	}); !reflect.DeepEqual(c.FlagSources, want) {
		t.Errorf("flag sources %+v, want %+v", c.FlagSources, want)
	}
	if want := (map[string]Verifier{
		"a": {}, "c": {},
		"b": {OFREP: &OFREP{"http://localhost:1031", Secret{File: "/etc/driftwatch/secrets/evaluate"}, "X-API-Key"}},
	}); !reflect.DeepEqual(c.Verify, want) {
		t.Errorf("verify %+v, want %+v", c.Verify, want)
	}
}

func TestGoffFileErrors(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"no path", "flag_sources: {a: {goff_file: {}}}\n", `c.yaml:1:31: goff_file.path is missing; write where the flag definitions are: path: flags.json`},
		{"unknown field", "flag_sources: {a: {goff_file: {path: x.yaml, refesh: {}}}}\n", `c.yaml:1:46: unknown field "refesh"; did you mean "refresh"? known: path, refresh`},
		{"not a mapping", "flag_sources: {a: {goff_file: {path: x.yaml, refresh: true}}}\n", `c.yaml:1:55: refresh true is a boolean, not a mapping`},
		{"no key", "flag_sources: {a: {goff_file: {path: x.yaml, refresh: {url: 'http://h'}}}}\n", `c.yaml:1:55: refresh.key_file is missing; write key_file: PATH or key_env: VARIABLE`},
		{"key in plain text", "flag_sources: {a: {goff_file: {path: x.yaml, refresh: {url: 'http://h', key: geheim}}}}\n", `c.yaml:1:73: key is a secret in plain text; write key_file: PATH or key_env: VARIABLE`},
		{"two kinds", "flag_sources: {a: {flagd_file: {path: f.json}, goff_file: {path: x.yaml}}}\n", `c.yaml:1:48: two kinds of flag source under one name; give each a name of its own`},
		{"verified by flagd", "flag_sources: {a: {goff_file: {path: x.yaml}}}\nverify: {a: {flagd_file: {path: x.yaml}}}\n", `c.yaml:2:14: flagd does not read files of GO Feature Flag as that does; write {ofrep: {url: http://localhost:1031}}, the relay proxy`},
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
		})
	}
}
