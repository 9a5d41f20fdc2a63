package config

import "github.com/driftwatch/driftwatch/internal/strictyaml"

// A LaunchDarkly is an environment of a project there.
type LaunchDarkly struct {
	URL         string
	Project     string
	Environment string
	Token       Secret
	// RequestApproval makes an approval request where the environment asks for one.
	RequestApproval bool
}

func (p *parser) launchDarkly(v strictyaml.Value) *LaunchDarkly {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	l := &LaunchDarkly{URL: "https://app.launchdarkly.com"}
	if u := m.Get("url"); u.Given() {
		l.URL = p.url(u)
	}
	l.Project, _ = m.Need("project", "write the project's key: project: default").Text()
	l.Environment, _ = m.Need("environment", "write the environment's key: environment: production").Text()
	l.Token = p.secret(m, "token", true)
	word, _ := m.Get("approvals").Choice("refuse", "request")
	l.RequestApproval = word == "request"
	return l
}
