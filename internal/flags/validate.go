package flags

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/model"
	"github.com/open-feature/flagd/core/pkg/utils"
)

// toJSON turns the text of a flag file into JSON in flagd's own way, by the file's extension.
func toJSON(path string, text []byte) (string, error) {
	s, err := utils.ConvertToJSON(text, filepath.Ext(path), "")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return s, nil
}

// A flagdSet is a file as flagd's evaluator took it.
type flagdSet struct{ *evaluator.JSON }

// loadFlagd hands a file to flagd's own evaluator. A file that it refuses would leave every
// flagd that watches it on the flags it had before, and one that starts anew without any; such
// a file is ErrInvalid with flagd's words.
func loadFlagd(path string, text []byte) (flagdSet, error) {
	s, err := toJSON(path, text)
	if err != nil {
		return flagdSet{}, err
	}
	return loadSources(flagdSource{path, s})
}

func refusal(path string, err error) error {
	return fmt.Errorf("%w: flagd refuses the file %s: %s", ErrInvalid, filepath.Base(path), strings.TrimSpace(err.Error()))
}

// leaves fails unless flagd leaves everybody to the default in the code.
func (s flagdSet) leaves(key string) error {
	v := s.ResolveAsAnyValue(context.Background(), "", key, map[string]any{})
	if v.Error != nil || v.Reason != model.DisabledReason {
		return fmt.Errorf("%w: flagd would serve %q with reason %s, not the default in the code", ErrInvalid, v.Variant, v.Reason)
	}
	return nil
}

// servesAll fails unless flagd gives variant to each of the contexts.
func (s flagdSet) servesAll(key, variant string, contexts []Probe) error {
	for _, c := range contexts {
		if v := s.ResolveAsAnyValue(context.Background(), "", key, c); v.Error != nil || v.Variant != variant {
			return fmt.Errorf("%w: flagd would serve %q to %s, not %q", ErrInvalid, v.Variant, text(c), variant)
		}
	}
	return nil
}

// serves fails unless flagd gives variant to a context that it knows nothing of, because it is
// the default: the reason is STATIC, or DEFAULT where targeting is null.
func (s flagdSet) serves(key, variant string) error {
	v := s.ResolveAsAnyValue(context.Background(), "", key, map[string]any{})
	switch {
	case v.Error != nil:
		return fmt.Errorf("%w: flagd would serve %q with reason %s: %w", ErrInvalid, v.Variant, v.Reason, v.Error)
	case v.Variant != variant, v.Reason != model.StaticReason && v.Reason != model.DefaultReason:
		return fmt.Errorf("%w: flagd would serve %q with reason %s, not %q to everybody", ErrInvalid, v.Variant, v.Reason, variant)
	}
	return nil
}
