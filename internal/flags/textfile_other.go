//go:build !unix

package flags

import (
	"context"
	"fmt"
	"runtime"
)

// unsafe is why flag files are not written here: the lock beside the file, the owner and mode
// that a new file keeps, and the rename over a file that others have open are those of Unix.
func unsafe() error {
	name := runtime.GOOS
	if name == "windows" {
		name = "Windows"
	}
	return fmt.Errorf("%w: writing flag files on %s is not safe yet; run driftwatch where flagd runs, on Linux", ErrReadOnly, name)
}

func (f textFile) writable(string) error { return unsafe() }

func (f textFile) write(context.Context, edit) (fileWrite, error) { return fileWrite{}, unsafe() }

func syncFolder(string) error { return nil }
