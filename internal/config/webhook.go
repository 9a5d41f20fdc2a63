package config

import "github.com/driftwatch/driftwatch/internal/strictyaml"

// A Webhook is a program of the team's own that switches flags.
type Webhook struct {
	URL      string
	StateURL string // "" = the state is what the verify viewpoint sees
	Secret   Secret // the key of the signatures
	// Variants are those of the flags by name: bool, string, float64 or map[string]any. They
	// are told where StateURL does not.
	Variants map[string]any
}

func (p *parser) webhook(v strictyaml.Value) *Webhook {
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	w := &Webhook{URL: p.url(m.Need("url", "write url: https://flags.example.com/driftwatch"))}
	if u := m.Get("state_url"); u.Given() {
		w.StateURL = p.url(u)
	}
	w.Secret = p.secret(m, "secret", true)
	variants := m.Get("variants")
	if variants.Given() && w.StateURL != "" {
		variants.FailKey("state_url tells the variants of each flag", "leave variants out")
	}
	if !variants.Given() {
		w.Variants = map[string]any{"on": true, "off": false}
		return w
	}
	list, ok := variants.Map()
	if !ok {
		return w
	}
	w.Variants = map[string]any{}
	for _, e := range list.Entries() {
		x, ok := e.Any()
		if n, whole := x.(int64); whole {
			x = float64(n)
		}
		switch x.(type) {
		case bool, string, float64, map[string]any:
			w.Variants[e.Key()] = x
		default:
			if ok {
				e.FailKey("the value of a variant is true, false, a text, a number or a mapping", "")
			}
		}
	}
	if len(w.Variants) == 0 {
		variants.FailKey("no variants", "write variants: {on: true, off: false}")
	}
	return w
}
