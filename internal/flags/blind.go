package flags

import (
	"context"
	"errors"
	"time"
)

// errBlind says what is missing where nothing is.
var errBlind = errors.New("no way to see what applications get is configured, so nothing can be proved; add the source under verify")

// A Blind prover stands where no viewpoint is configured: it sees nothing and proves nothing.
type Blind struct{}

// Prove implements Prover.
func (Blind) Prove(_ context.Context, q Question, _ time.Duration) (Evidence, error) {
	e := Evidence{Viewpoint: Blind{}.Viewpoint(), Contexts: len(q.Probes), Notes: []string{errBlind.Error()}, At: time.Now().UTC()}
	return e, &Error{Ref: Ref{Key: q.Key}, Path: "verify", What: errBlind.Error(), Err: ErrUnproven}
}

// Served implements Prover.
func (Blind) Served(context.Context, Question) (Serving, error) {
	return Serving{Viewpoint: Blind{}.Viewpoint()}, errBlind
}

// Viewpoint implements Prover.
func (Blind) Viewpoint() Viewpoint { return Viewpoint{Kind: NoViewpoint} }
