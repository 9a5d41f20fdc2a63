package config

import (
	"reflect"
	"testing"
)

func TestKubernetes(t *testing.T) {
	const text = `flag_sources:
  resource: {flagd_crd: {namespace: shop, name: checkout, managed: allow, server: {address: 'https://10.0.0.1:6443', token_file: token, ca_file: /etc/ca.crt}}}
  map: {configmap: {namespace: shop, name: flags, key: flags.yaml}}
  proxy: {flagd_crd: {namespace: shop, name: checkout, server: {address: 'http://127.0.0.1:8001', token_file: token}}}
verify: {map: {ofrep: {url: 'http://flagd:8016'}}}
`
	c, err := Parse("/etc/driftwatch/driftwatch.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	resource := &KubernetesObject{Namespace: "shop", Name: "checkout", OverwriteManaged: true, Server: &KubernetesServer{"https://10.0.0.1:6443", "/etc/driftwatch/token", "/etc/ca.crt"}}
	proxy := &KubernetesObject{Namespace: "shop", Name: "checkout", Server: &KubernetesServer{Address: "http://127.0.0.1:8001", TokenFile: "/etc/driftwatch/token"}}
	want := map[string]FlagSource{
		"resource": {FlagdCRD: resource},
		"map":      {ConfigMap: &ConfigMap{KubernetesObject{Namespace: "shop", Name: "flags"}, "flags.yaml"}},
		"proxy":    {FlagdCRD: proxy},
	}
	if !reflect.DeepEqual(c.FlagSources, want) {
		t.Errorf("%+v, want %+v", c.FlagSources, want)
	}
	if got, want := c.Verify, (map[string]Verifier{"resource": {FlagdCRD: resource}, "map": {OFREP: &OFREP{URL: "http://flagd:8016"}}, "proxy": {FlagdCRD: proxy}}); !reflect.DeepEqual(got, want) {
		t.Errorf("verify %+v, want %+v", got, want)
	}
}
