package config

import "github.com/driftwatch/driftwatch/internal/strictyaml"

// An Unleash is an environment of a project on an Unleash server.
type Unleash struct {
	URL         string
	Project     string
	Environment string
	Token       Secret // of the admin API
}

// An UnleashFrontend is Unleash's frontend API: the server itself, or an Unleash Edge.
type UnleashFrontend struct {
	URL   string
	Token Secret // of the frontend API
}

func (p *parser) unleash(v strictyaml.Value) *Unleash {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	u := &Unleash{URL: p.url(m.Need("url", "write url: https://unleash.example.com")), Project: "default", Environment: "production"}
	if s, ok := m.Get("project").Text(); ok {
		u.Project = s
	}
	if s, ok := m.Get("environment").Text(); ok {
		u.Environment = s
	}
	u.Token = p.secret(m, "token", true)
	return u
}

func (p *parser) unleashFrontend(v strictyaml.Value) *UnleashFrontend {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	return &UnleashFrontend{URL: p.url(m.Need("url", "write url: https://unleash.example.com")), Token: p.secret(m, "token", true)}
}
