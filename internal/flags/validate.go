package flags

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/model"
	"github.com/open-feature/flagd/core/pkg/store"
	flagdsync "github.com/open-feature/flagd/core/pkg/sync"
	"github.com/open-feature/flagd/core/pkg/utils"
	"go.uber.org/zap"
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
	quiet := logger.NewLogger(zap.NewNop(), false)
	flags, err := store.NewStore(quiet, []string{path})
	if err != nil {
		return flagdSet{}, fmt.Errorf("open flagd's store: %w", err)
	}
	set := flagdSet{evaluator.NewJSON(quiet, flags)}
	if err := set.SetState(flagdsync.DataSync{FlagData: s, Source: path}); err != nil {
		return flagdSet{}, fmt.Errorf("%w: flagd refuses the file: %s", ErrInvalid, strings.TrimSpace(err.Error()))
	}
	return set, nil
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
