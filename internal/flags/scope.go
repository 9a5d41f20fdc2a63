package flags

import (
	"encoding/json"
	"fmt"
)

// A scope is an environment of a project at a server: flags are turned off in it as a whole.
type scope struct {
	project, environment string
}

// A scopeSwitch is Forward and Inverse of a Change in a scope.
type scopeSwitch struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
	On          bool   `json:"on"`
}

// change turns the flag of s off. word is what the server calls a flag that is on.
func (p scope) change(s State, w Want, word string) Change {
	text := func(on bool) []byte {
		return fmt.Appendf(nil, "project %s\nenvironment %s\n%s: %t\n", p.project, p.environment, word, on)
	}
	return Change{
		Ref: s.Ref, Mode: OffVariant, Want: w, Path: s.Path, Base: s.Revision, Diff: diff(s.Ref.Key, text(true), text(false)),
		Forward: rawJSON(scopeSwitch{p.project, p.environment, false}), Inverse: rawJSON(scopeSwitch{p.project, p.environment, true}),
	}
}

// target reads whether a flag shall be on. A change of another environment is refused: the
// configuration was edited since.
func (p scope) target(raw json.RawMessage) (on bool, err error) {
	var to scopeSwitch
	if err := json.Unmarshal(raw, &to); err != nil {
		return false, fmt.Errorf("%w: the change is about no environment: %w", ErrInvalid, err)
	}
	if to.Project != p.project || to.Environment != p.environment {
		return false, fmt.Errorf("%w: the change is about environment %s of project %s, the source about %s of %s; was the configuration edited?",
			ErrInvalid, to.Environment, to.Project, p.environment, p.project)
	}
	return to.On, nil
}

// rawJSON is v, of texts, numbers and truths, in a Change.
func rawJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("flags: cannot be written as JSON: " + err.Error())
	}
	return b
}
