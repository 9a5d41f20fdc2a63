package flags

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// A GoffFile is a file of GO Feature Flag, JSON or YAML by its extension, edited in place as a
// FlagdFile is. Who reads it may be told to do so at once.
type GoffFile struct {
	textFile
	proxy *api // the relay proxy that is told of a write; nil = it polls
}

// NewGoffFile returns the source in the file at path. refreshURL is the address of a relay proxy,
// "" for none, and key its admin key.
func NewGoffFile(path, refreshURL string, key Secret, client *http.Client) *GoffFile {
	g := &GoffFile{textFile: newTextFile(path)}
	if refreshURL != "" {
		proxy := newAPI(refreshURL, key, client, func(r *http.Request, _ []byte, key string) { r.Header.Set("X-API-Key", key) })
		g.proxy = &proxy
	}
	return g
}

func (g *GoffFile) dialect() dialect { return goffText{g.path} }

// Read implements Switch.
func (g *GoffFile) Read(ctx context.Context, r Ref) (State, error) {
	return g.readFlag(ctx, g.dialect(), r)
}

// Plan implements Switch: the default rule becomes the variation, and the targeting empty.
func (g *GoffFile) Plan(s State, m Mode, w Want) (Change, error) {
	if m != OffVariant {
		return Change{}, g.fail(s.Ref, fmt.Errorf("%w: mode %s: a flag of GO Feature Flag is given a variation for everybody, nothing else", ErrInvalid, m))
	}
	c, err := planText(g.dialect(), g.path, s, m, w)
	if err != nil {
		return Change{}, g.fail(s.Ref, err)
	}
	return c, nil
}

// TurnOff implements Switch.
func (g *GoffFile) TurnOff(ctx context.Context, c Change) (Receipt, error) {
	rc, err := g.turnOff(ctx, g.dialect(), c)
	return g.told(ctx, rc, err)
}

// Restore implements Switch. The file gets back the bytes it had, but a new modification time.
func (g *GoffFile) Restore(ctx context.Context, rc Receipt) (Receipt, error) {
	back, err := g.restore(ctx, g.dialect(), rc)
	return g.told(ctx, back, err)
}

// Settle implements Switch.
func (g *GoffFile) Settle(ctx context.Context, c Change, restore bool) (Settlement, error) {
	s, err := g.Read(ctx, c.Ref)
	if err != nil {
		return Settlement{}, err
	}
	return settleText(s, c, restore), nil
}

// told tells the relay proxy of a write that ended with err. The write stands whatever it says,
// so its failure is ErrWrittenUnsure.
func (g *GoffFile) told(ctx context.Context, rc Receipt, err error) (Receipt, error) {
	if g.proxy == nil || err != nil && !errors.Is(err, ErrWrittenUnsure) {
		return rc, err
	}
	if failed := g.refresh(ctx); failed != nil && err == nil {
		return g.ended(rc, fmt.Errorf("%w: the file is written, but the relay proxy at %s was not made to read it and sees it with its next poll only: %w",
			ErrWrittenUnsure, g.proxy.base, failed))
	}
	return rc, err
}

// refresh makes the relay proxy read its files. It may be repeated.
func (g *GoffFile) refresh(ctx context.Context) error {
	var done struct {
		Refreshed bool `json:"refreshed"`
	}
	if err := g.proxy.ask(ctx, request{method: http.MethodPost, path: "/admin/v1/retriever/refresh"}, &done); err != nil {
		return err
	}
	if !done.Refreshed {
		return fmt.Errorf("%w: it answered without \"refreshed\": true", ErrInvalid)
	}
	return nil
}
