package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/driftwatch/driftwatch/internal/strictyaml"
)

// A KubernetesObject is an object of a Kubernetes API that holds flags.
type KubernetesObject struct {
	Namespace, Name  string
	Server           *KubernetesServer // nil = the cluster that driftwatch runs in
	OverwriteManaged bool              // it may be written though a tool such as Argo CD keeps it
}

// A KubernetesServer is where an API is.
type KubernetesServer struct {
	Address   string
	TokenFile string // "" = no token is sent
	CAFile    string // "" = the system's authorities
}

// A ConfigMap is an object whose data[Key] is the text of a flagd file.
type ConfigMap struct {
	KubernetesObject
	Key string
}

// The names that Kubernetes takes (RFC 1123 subdomains and labels, and keys of a ConfigMap).
var (
	objectName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dataKey       = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)
)

func (p *parser) flagdCRD(v strictyaml.Value) *KubernetesObject {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	o := p.kubernetesObject(m)
	return &o
}

func (p *parser) configMap(v strictyaml.Value) *ConfigMap {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	c := ConfigMap{KubernetesObject: p.kubernetesObject(m)}
	key := m.Need("key", "write which entry of data holds the flags: key: flags.json")
	if s, ok := key.Text(); ok {
		switch {
		case !dataKey.MatchString(s):
			key.Fail("key is no key of a ConfigMap", "letters, digits, '-', '_' and '.'")
		case !slices.Contains([]string{".json", ".yaml", ".yml"}, strings.ToLower(filepath.Ext(s))):
			key.Fail("flagd does not read a file of that name", "it reads .json, .yaml and .yml")
		}
		c.Key = s
	}
	return &c
}

func (p *parser) kubernetesObject(m *strictyaml.Map) KubernetesObject {
	var o KubernetesObject
	o.Namespace = named(m.Need("namespace", "write the object's namespace"), namespaceName)
	o.Name = named(m.Need("name", "write the object's name"), objectName)
	if s, ok := m.Get("managed").Choice("refuse", "allow"); ok {
		o.OverwriteManaged = s == "allow"
	}
	if v := m.Get("server"); v.Given() {
		o.Server = p.kubernetesServer(v)
	}
	return o
}

func named(v strictyaml.Value, form *regexp.Regexp) string {
	s, ok := v.Text()
	if ok && (!form.MatchString(s) || len(s) > 253) {
		v.Fail(v.Key()+" is no name of a Kubernetes object", "lower-case letters, digits and '-'")
	}
	return s
}

func (p *parser) kubernetesServer(v strictyaml.Value) *KubernetesServer {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	m.Refuse("token", "token is a secret in plain text", "put it into a file and write token_file: PATH")
	var s KubernetesServer
	address := m.Need("address", "write address: https://10.0.0.1:6443, or leave server out inside of the cluster")
	s.Address = p.url(address)
	if t, ok := m.Get("token_file").Text(); ok {
		s.TokenFile = p.path(t)
	}
	if t, ok := m.Get("ca_file").Text(); ok {
		s.CAFile = p.path(t)
	}
	if u, err := url.Parse(s.Address); err == nil && u.Scheme == "http" && s.TokenFile != "" && !loopback(u.Hostname()) {
		address.Fail(fmt.Sprintf("the token would be sent to %s in the clear", u.Host), "write https://")
	}
	return &s
}

// loopback reports whether a host is this machine, where kubectl proxy listens.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
