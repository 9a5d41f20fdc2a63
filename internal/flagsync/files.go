package flagsync

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxText is the longest text that is read or served, in bytes. A client of gRPC takes messages of 4 MiB
// unless it is told otherwise (flagd: maxMsgSize), and a longer one ends its stream, so that it
// would get nothing at all. The rest is for what stands around the text.
const maxText = 4<<20 - 1<<10

// interval is how often the files are read although nothing told of a change: on a network file
// system, or with no watches left, nothing does. A second is what flagd itself takes for its
// files.
const interval = time.Second

// A Merge returns the one text that is served for the texts of the files, in JSON, or why flagd
// would refuse it.
type Merge func(texts [][]byte) (string, error)

// A merged is what the files made together when that could be served last, for everybody who
// wants the newest.
type merged struct {
	paths []string
	merge Merge
	last  *verdict // of the reader alone

	mu      sync.Mutex
	text    string        // as it is served
	changed chan struct{} // closed when text is another one
}

// A verdict is what merge said.
type verdict struct {
	of   [][]byte
	text string
	err  error
}

// openFiles reads the files for the first time; they have to be such that can be served.
func openFiles(paths []string, merge Merge) (*merged, error) {
	f := &merged{paths: paths, merge: merge, changed: make(chan struct{})}
	if _, err := f.look(); err != nil {
		return nil, err
	}
	return f, nil
}

// current is the text, and what is closed when it is not current any more.
func (f *merged) current() (text string, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text, f.changed
}

// look reads the files and takes what they hold, if that can be served; otherwise what was taken
// before stays, and the error says why. It reports whether the text is another one now.
func (f *merged) look() (changed bool, err error) {
	text, err := f.read()
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if text == f.text {
		return false, nil
	}
	f.text = text
	close(f.changed)
	f.changed = make(chan struct{})
	return true, nil
}

// read is the text of the files as it would be served. The same bytes are merged once.
func (f *merged) read() (string, error) {
	var found [][]byte
	for _, path := range f.paths {
		text, err := readFile(path)
		if err != nil {
			return "", err
		}
		found = append(found, text)
	}
	if f.last == nil || !slices.EqualFunc(found, f.last.of, bytes.Equal) {
		text, err := f.merge(found)
		if err == nil && len(text) > maxText {
			err = tooLong(strings.Join(f.paths, " with "))
		}
		f.last = &verdict{found, text, err}
	}
	return f.last.text, f.last.err
}

func tooLong(what string) error {
	return fmt.Errorf("%s is longer than %d bytes, more than flagd takes in one message", what, maxText)
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // reading a pipe would wait for ever
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err == nil && len(text) > maxText {
		err = tooLong(path)
	}
	return text, err
}

// watcher tells what happens in the folders that name files and in those where they really are.
// Folders, because a file that is renamed over takes a watch of its own with it.
func watcher(paths []string) (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	var folders []string
	for _, path := range paths {
		folders = append(folders, filepath.Dir(path))
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(resolved))
		}
	}
	for _, folder := range folders {
		if err := w.Add(folder); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}

// watch looks at the files whenever something happens beside one, and every interval anyway,
// until ctx ends. It tells what came of each look. There may be no watcher.
func (f *merged) watch(ctx context.Context, w *fsnotify.Watcher, told func(changed bool, err error)) {
	var events <-chan fsnotify.Event
	var failures <-chan error
	if w != nil {
		events, failures = w.Events, w.Errors
	}
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for {
		told(f.look())
		select {
		case <-ctx.Done():
			return
		case <-events:
		case <-failures: //nolint:errcheck // events were lost, and a look makes up for them
		case <-ticks.C:
		}
	}
}
