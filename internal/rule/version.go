package rule

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Matches reports whether an upgrade between two versions is on this path. A constraint on a
// version that is not known, or is no version, does not hold: then the path is not this one.
func (p Path) Matches(from, to string) bool { return holds(p.From, from) && holds(p.To, to) }

func holds(constraint, version string) bool {
	if constraint == "" {
		return true
	}
	c, err := parseConstraint(constraint)
	return err == nil && c.holds(version)
}

// A constraint is what has to hold of a version, all terms of it.
type constraint []term

type term struct {
	op      string // = != < <= > >=
	version string
}

var termPattern = regexp.MustCompile(`^(=|!=|<=|>=|<|>|)\s*(\S+)$`)

// parseConstraint reads terms with commas between them. Versions are numbers with dots, an
// optional v before, an optional pre-release ("-rc.1") and build ("+abc") behind
// (semver.org 2.0, any count of numbers); "=" and "!=" compare other versions, too, letter by letter.
func parseConstraint(s string) (constraint, error) {
	var out constraint
	for part := range strings.SplitSeq(s, ",") {
		m := termPattern.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil || strings.ContainsAny(m[2], "<>=!") {
			return nil, fmt.Errorf("%q is not an operator and a version", strings.TrimSpace(part))
		}
		t := term{cmp.Or(m[1], "="), m[2]}
		if _, err := parseVersion(t.version); err != nil && t.op != "=" && t.op != "!=" {
			return nil, fmt.Errorf("%q has no order, %w", t.version, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func (c constraint) holds(version string) bool {
	if version == "" {
		return false
	}
	for _, t := range c {
		if !t.holds(version) {
			return false
		}
	}
	return true
}

func (t term) holds(s string) bool {
	a, errA := parseVersion(s)
	b, errB := parseVersion(t.version)
	if errA != nil || errB != nil {
		return t.op == "=" && s == t.version || t.op == "!=" && s != t.version
	}
	order := a.compare(b)
	switch t.op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "!=":
		return order != 0
	}
	return order == 0
}

// A version is numbers, kept as digits without leading zeros, and a pre-release.
type version struct {
	numbers []string
	pre     []string
}

var (
	versionPattern = regexp.MustCompile(`^v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$`)
	digits         = regexp.MustCompile(`^\d+$`)
)

var errNoVersion = errors.New("it is not numbers with dots between them")

func parseVersion(s string) (version, error) {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return version{}, errNoVersion
	}
	v := version{numbers: strings.Split(m[1], ".")}
	if m[2] != "" {
		v.pre = strings.Split(m[2], ".")
	}
	return v, nil
}

// compare orders versions as semver.org 2.0 does, section 11; missing numbers are 0.
func (v version) compare(w version) int {
	for i := range max(len(v.numbers), len(w.numbers)) {
		if c := compareDigits(at(v.numbers, i), at(w.numbers, i)); c != 0 {
			return c
		}
	}
	if len(v.pre) == 0 || len(w.pre) == 0 {
		return cmp.Compare(len(w.pre), len(v.pre)) // a pre-release comes before its release
	}
	return slices.CompareFunc(v.pre, w.pre, func(a, b string) int {
		switch numA, numB := digits.MatchString(a), digits.MatchString(b); {
		case numA && numB:
			return compareDigits(a, b)
		case numA:
			return -1
		case numB:
			return 1
		}
		return strings.Compare(a, b)
	})
}

func at(numbers []string, i int) string {
	if i < len(numbers) {
		return numbers[i]
	}
	return "0"
}

// compareDigits compares numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
