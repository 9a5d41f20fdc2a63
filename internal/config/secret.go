package config

import (
	"fmt"
	"regexp"

	"github.com/driftwatch/driftwatch/internal/strictyaml"
)

// A Secret is where a credential stands; the credential itself is never in the configuration.
// Both fields are "" where none is written.
type Secret struct {
	File string
	Env  string // name of an environment variable
}

// variable is what an environment variable may be called (POSIX); a token does not look like it.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// secret reads NAME_file and NAME_env, of which one has to be there if it is needed. NAME itself is
// refused: it would be the credential in plain text.
func (p *parser) secret(m *strictyaml.Map, name string, needed bool) Secret {
	file, env := m.Get(name+"_file"), m.Get(name+"_env")
	remedy := fmt.Sprintf("write %s_file: PATH or %s_env: VARIABLE", name, name)
	if m.Refuse(name, name+" is a secret in plain text", remedy) {
		return Secret{}
	}
	switch {
	case file.Given() && env.Given():
		env.FailKey("two places for one secret", "keep one of them")
	case file.Given():
		if s, ok := file.Text(); ok {
			return Secret{File: p.path(s)}
		}
	case env.Given():
		s, ok := env.Text()
		if ok && variable.MatchString(s) {
			return Secret{Env: s}
		}
		if ok {
			env.FailKey(env.Key()+" is no name of an environment variable", "write its name; the secret itself does not belong here")
		}
	case needed:
		m.Need(name+"_file", remedy)
	}
	return Secret{}
}
