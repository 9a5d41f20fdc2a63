package flags

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// reasonsIn are the constants named Reason... in the Go files of a folder, with their values as
// they are spelt.
func reasonsIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				s := s.(*ast.ValueSpec)
				for i, name := range s.Names {
					if !strings.HasPrefix(name.Name, "Reason") {
						continue
					}
					value, ok := s.Values[i].(*ast.BasicLit)
					if !ok {
						t.Fatalf("%s: %s is no literal", path, name.Name)
					}
					out[name.Name] = value.Value
				}
			}
		}
	}
	return out
}

// Package report may not import this one, so it holds the names of the reasons again: a report
// is read by them.
func TestReportHasTheSameReasons(t *testing.T) {
	ours, theirs := reasonsIn(t, "."), reasonsIn(t, filepath.Join("..", "report"))
	if len(ours) < 17 { // DESIGN section 5
		t.Fatalf("%d reasons were found, want 17 or more: the test looked in the wrong place", len(ours))
	}
	if !maps.Equal(ours, theirs) {
		t.Errorf("reasons of flags  %v\nreasons of report %v", ours, theirs)
	}
}
