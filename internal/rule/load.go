package rule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Load reads the rules of files, of directories (their *.yaml and *.yml, sorted by name, not
// those of directories within) and of patterns (path/filepath.Match), in this order, each
// file once. The error is Errors: every mistake of every file, and then there are no rules. A
// path that is not there and a pattern that fits nothing are mistakes, too (fs.ErrNotExist).
func Load(paths []string) ([]*Rule, error) {
	var rules []*Rule
	var errs Errors
	var seen []string
	for _, path := range paths {
		files, err := expand(path)
		if err != nil {
			errs = append(errs, err)
		}
		for _, file := range files {
			file = filepath.Clean(file)
			if slices.Contains(seen, file) {
				continue
			}
			seen = append(seen, file)
			text, err := os.ReadFile(file)
			if err != nil {
				errs = append(errs, unreadable(file, err))
				continue
			}
			some, err := Parse(file, text)
			if list, ok := errors.AsType[Errors](err); ok {
				errs = append(errs, list...)
			}
			rules = append(rules, some...)
		}
	}
	if len(paths) == 0 {
		errs = append(errs, &Error{Path: "rules", Reason: "no rule files are named", Remedy: "give --rules FILE, or rules: in the configuration"})
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return rules, nil
}

// expand returns the files that a path stands for.
func expand(path string) ([]string, *Error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		entries, err := os.ReadDir(path) // sorted by name
		if err != nil {
			return nil, unreadable(path, err)
		}
		var files []string
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == 0 {
			return nil, &Error{Path: path, Reason: "no *.yaml or *.yml in this directory", Remedy: "name another, or the files", Err: fs.ErrNotExist}
		}
		return files, nil
	case err == nil:
		return []string{path}, nil
	case !errors.Is(err, fs.ErrNotExist) || !strings.ContainsAny(path, "*?["):
		return nil, unreadable(path, err)
	}
	files, err := filepath.Glob(path)
	if err != nil {
		return nil, &Error{Path: path, Text: path, Reason: fmt.Sprintf("not a pattern: %v", err), Remedy: "see path/filepath.Match", Err: err}
	}
	if len(files) == 0 {
		return nil, &Error{Path: path, Text: path, Reason: "no file fits this pattern", Remedy: "check the path, or name the files", Err: fs.ErrNotExist}
	}
	return files, nil
}

func unreadable(path string, err error) *Error {
	reason := err
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		reason = p.Err
	}
	return &Error{Path: path, Text: path, Reason: fmt.Sprintf("cannot be read: %v", reason), Remedy: "check the path and who may read it", Err: err}
}
