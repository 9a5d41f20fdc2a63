package flags

import (
	"fmt"
	"slices"
	"strings"
)

// A span is the bytes [start, end) of a text.
type span struct{ start, end int }

func (s span) of(text []byte) string { return string(text[s.start:s.end]) }

// splice is the Splice that replaces the bytes at at.
func splice(text []byte, at span, replacement string) Splice {
	return Splice{Offset: at.start, Old: at.of(text), New: replacement}
}

// Apply returns text with the splices of p made. It fails with ErrConflict if the text does
// not hold what p replaces, where p replaces it.
func (p Patch) Apply(text []byte) ([]byte, error) {
	var out []byte
	at := 0
	for _, s := range p {
		end := s.Offset + len(s.Old)
		if s.Offset < at || end > len(text) || string(text[s.Offset:end]) != s.Old {
			return nil, fmt.Errorf("%w: byte %d does not read %q", ErrConflict, s.Offset, s.Old)
		}
		out = append(out, text[at:s.Offset]...)
		out = append(out, s.New...)
		at = end
	}
	return append(out, text[at:]...), nil
}

// inverse is the patch that undoes p.
func (p Patch) inverse() Patch {
	out := make(Patch, len(p))
	shift := 0
	for i, s := range p {
		out[i] = Splice{Offset: s.Offset + shift, Old: s.New, New: s.Old}
		shift += len(s.New) - len(s.Old)
	}
	return out
}

// A flagText is one flag in the text of a source: what it says, and where.
type flagText struct {
	keys     []string // every flag of the text
	present  bool
	state    string
	variants map[string]any
	// def is the value of defaultVariant as it is written; hasDefault is false where the member
	// is absent or null.
	defaultVariant string
	targeting      any            // decoded; nil where absent or null
	metadata       map[string]any // decoded; nil where absent
	noTargeting    string         // how rules that serve nobody are written
	refused        error          // why no edit would turn it off; nil = one may

	// The splices that make variant the default, and that write the state, the targeting and the
	// one ramp anew, as JSON. setTargeting and setRamp are nil where there is none.
	setDefault   func(variant string) Patch
	setState     func(state string) (Patch, error)
	setTargeting func(value string) Patch
	setRamp      func(value string) (Patch, error)
	ramp         any // decoded; what setRamp writes anew
}

// targeted reports whether the flag's rules can serve anything but the default: flagd takes
// null and {} for no rules.
func (t flagText) targeted() bool {
	m, object := t.targeting.(map[string]any)
	return t.targeting != nil && (!object || len(m) > 0)
}

// patch is the splices that serve variant to everybody, in ascending order.
func (t flagText) patch(variant string) Patch {
	var p Patch
	if t.defaultVariant != variant {
		p = append(p, t.setDefault(variant)...)
	}
	if t.targeted() {
		p = append(p, t.setTargeting(t.noTargeting)...)
	}
	slices.SortFunc(p, func(a, b Splice) int { return a.Offset - b.Offset })
	return p
}

// differences appends to paths the paths, below at, in which two decoded documents differ.
func differences(paths []string, at string, a, b any) []string {
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if !aok || !bok {
		if !equalJSON(a, b) {
			paths = append(paths, at)
		}
		return paths
	}
	for k, v := range am {
		w, ok := bm[k]
		if !ok {
			paths = append(paths, at+"/"+pointer(k))
			continue
		}
		paths = differences(paths, at+"/"+pointer(k), v, w)
	}
	for k := range bm {
		if _, ok := am[k]; !ok {
			paths = append(paths, at+"/"+pointer(k))
		}
	}
	return paths
}

// pointer escapes a key for a JSON pointer (RFC 6901).
func pointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// unplanned returns the paths in which before and after differ although a change of the flag in
// this mode does not touch them.
func unplanned(key string, m Mode, before, after any) []string {
	flag := "/flags/" + pointer(key)
	return slices.DeleteFunc(differences(nil, "", before, after), func(p string) bool {
		switch {
		case p == flag+"/defaultVariant":
			return m == OffVariant
		case p == flag+"/targeting", strings.HasPrefix(p, flag+"/targeting/"):
			return m == OffVariant || m == RampZero
		}
		return m == Disable && p == flag+"/state"
	})
}

// contextLines is how many unchanged lines a diff shows on each side, fewer than diff -u's
// three so that it fits a message.
const contextLines = 1

// maxDiffLines bounds the region that is compared line by line; the comparison takes its
// square. Targeting rules of one flag are shorter.
const maxDiffLines = 1000

// diff is the unified difference of two texts, in one hunk.
func diff(name string, before, after []byte) string {
	a, b := strings.SplitAfter(string(before), "\n"), strings.SplitAfter(string(after), "\n")
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	if head == len(a) && head == len(b) {
		return ""
	}
	start := max(0, head-contextLines)
	aEnd, bEnd := min(len(a), len(a)-tail+contextLines), min(len(b), len(b)-tail+contextLines)

	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n@@ -%d,%d +%d,%d @@\n", name, name, start+1, aEnd-start, start+1, bEnd-start)
	line := func(mark, text string) {
		if text != "" { // what follows the last line break
			out.WriteString(mark + strings.TrimSuffix(text, "\n") + "\n")
		}
	}
	for _, l := range a[start:head] {
		line(" ", l)
	}
	for _, l := range edits(a[head:len(a)-tail], b[head:len(b)-tail]) {
		line(l[:1], l[1:])
	}
	for _, l := range a[len(a)-tail : aEnd] {
		line(" ", l)
	}
	return out.String()
}

// edits turns a into b by a longest common subsequence; every line is led by ' ', '-' or '+'.
func edits(a, b []string) []string {
	var out []string
	if len(a) > maxDiffLines || len(b) > maxDiffLines {
		for _, l := range a {
			out = append(out, "-"+l)
		}
		for _, l := range b {
			out = append(out, "+"+l)
		}
		return out
	}
	common := make([][]int, len(a)+1) // of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i, x := range slices.Backward(a) {
		for j, y := range slices.Backward(b) {
			if x == y {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, " "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	return out
}
