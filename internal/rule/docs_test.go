package rule

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The rules that docs/rules.md shows are rules, and every field has a row there.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, m := range regexp.MustCompile("(?s)```yaml\n(service:.*?)```").FindAllStringSubmatch(string(text), -1) {
		shown++
		if _, err := Parse("docs/rules.md", []byte(m[1])); err != nil {
			t.Errorf("%v\nin\n%s", err, m[1])
		}
	}
	if shown != 2 {
		t.Errorf("%d rules are shown, want 2", shown)
	}
	// What Parse knows, by its own words.
	for _, wrong := range []string{
		minimal + "zzz: 1\n", minimal + "windows: {zzz: 1}\n", signal("gauge: g, zzz: 1"), flag("{zzz: 1, key: k, source: p, off: {variant: x}}"),
		minimal + "upgrades: [{zzz: 1}]\n", minimal + "alpha: {zzz: 1}\n", minimal + "upgrade: {metric: m, zzz: 1}\n", flag("{key: k, source: p, off: {variant: x, zzz: 1}}"),
	} {
		_, err := Parse("r.yaml", []byte(wrong))
		if err == nil {
			t.Fatalf("taken: %s", wrong)
		}
		_, list, ok := strings.Cut(err.Error(), "known: ")
		if !ok {
			t.Fatalf("no list of fields in %v", err)
		}
		for field := range strings.SplitSeq(list, ", ") {
			if !regexp.MustCompile("`([a-z]+\\.)?" + field + "(`|\\.|: true`)").Match(text) {
				t.Errorf("docs/rules.md has no row for %s", field)
			}
		}
	}
}
