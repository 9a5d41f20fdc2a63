package flags

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

// What wraps several sentinels is told by the one that beats the others.
func TestFailureIsToldByItsKind(t *testing.T) {
	ref := Ref{"production", "new-retry"}
	tests := []struct {
		name string
		ref  Ref
		err  error
		kind error // of the *Error; nil = it is none
		text string
	}{
		{"one kind", ref, fmt.Errorf("%w: revision 3", ErrConflict), ErrConflict, "flag new-retry in f.json: changed by somebody else: revision 3"},
		{"nothing beside it", ref, ErrNotFound, ErrNotFound, "flag new-retry in f.json: not found"},
		{"about no flag", Ref{}, ErrNotFound, ErrNotFound, "f.json: not found"},
		{"said in the middle", ref, fmt.Errorf("read the events: %w: HTTP 500", ErrUnreachable), ErrUnreachable, "flag new-retry in f.json: not reachable: read the events: HTTP 500"},
		{"a failure after the write", ref, fmt.Errorf("%w: its end: %w", ErrWrittenUnsure, ErrForbidden), ErrWrittenUnsure, "flag new-retry in f.json: written, but not made certain: its end: not permitted"},
		{"interrupted", ref, fmt.Errorf("%w: %w", ErrUnreachable, context.Canceled), nil, "flag new-retry in f.json: not reachable: context canceled"},
		{"interrupted after the write", ref, fmt.Errorf("%w: its end: %w", ErrWrittenUnsure, context.Canceled), ErrWrittenUnsure, "flag new-retry in f.json: written, but not made certain: its end: context canceled"},
		{"no time left", ref, context.DeadlineExceeded, nil, "flag new-retry in f.json: context deadline exceeded"},
		{"of another kind", Ref{}, io.EOF, nil, "f.json: EOF"},
	}
	for _, tt := range tests {
		err := failure(tt.ref, "f.json", tt.err)
		told, ok := errors.AsType[*Error](err)
		if ok != (tt.kind != nil) || ok && (!errors.Is(told.Err, tt.kind) || told.Ref != tt.ref) || !ok && !errors.Is(err, tt.err) {
			t.Errorf("%s: %#v, want kind %v", tt.name, err, tt.kind)
		}
		if err.Error() != tt.text {
			t.Errorf("%s: %q, want %q", tt.name, err, tt.text)
		}
	}
}
