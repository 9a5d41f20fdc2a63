package flags

import (
	"cmp"
	"strconv"
	"strings"
)

// A truth is an answer that may be missing.
type truth int

const (
	no truth = iota
	yes
	unknown
)

func both(a, b truth) truth {
	switch {
	case a == no || b == no:
		return no
	case a == yes && b == yes:
		return yes
	}
	return unknown
}

// satisfies reports whether a version meets a constraint of a rule: comparisons such as
// ">=2.42.0" joined by commas or spaces, all of which must hold; "" holds always. The
// operators are = == != < <= > >=, and none means =. It is unknown where the version is, or
// where an order is asked of something that has none (a commit's hash), or by an operator that
// is none of these.
func satisfies(version, constraint string) truth {
	all := yes
	fields := strings.FieldsFunc(constraint, func(r rune) bool { return r == ',' || r == ' ' })
	for i := 0; i < len(fields); i++ {
		bound := strings.TrimLeft(fields[i], "<>=!~^")
		op := fields[i][:len(fields[i])-len(bound)]
		if bound == "" && i+1 < len(fields) { // the operator stands apart
			i++
			bound = fields[i]
		}
		all = both(all, compares(version, op, bound))
	}
	return all
}

func compares(version, op, bound string) truth {
	if version == "" {
		return unknown
	}
	c, ordered := compareVersions(version, bound)
	is := func(b bool) truth {
		if b {
			return yes
		}
		return no
	}
	switch op {
	case "", "=", "==":
		return is(c == 0)
	case "!=":
		return is(c != 0)
	}
	if !ordered {
		return unknown
	}
	switch op {
	case "<":
		return is(c < 0)
	case "<=":
		return is(c <= 0)
	case ">":
		return is(c > 0)
	case ">=":
		return is(c >= 0)
	}
	return unknown
}

// compareVersions orders versions by the rules of Semantic Versioning 2.0.0 section 11, with
// any number of numeric parts (missing ones are 0) and an optional leading v. ordered is false
// if either has no numeric parts; the result then only tells equal from different.
func compareVersions(a, b string) (result int, ordered bool) {
	an, apre, aok := splitVersion(a)
	bn, bpre, bok := splitVersion(b)
	if !aok || !bok {
		return strings.Compare(a, b), false
	}
	for i := range max(len(an), len(bn)) {
		var x, y uint64
		if i < len(an) {
			x = an[i]
		}
		if i < len(bn) {
			y = bn[i]
		}
		if x != y {
			return cmp.Compare(x, y), true
		}
	}
	switch {
	case apre == bpre:
		return 0, true
	case apre == "": // a release comes after its pre-releases
		return 1, true
	case bpre == "":
		return -1, true
	}
	return comparePrerelease(strings.Split(apre, "."), strings.Split(bpre, ".")), true
}

func comparePrerelease(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		x, xerr := strconv.ParseUint(a[i], 10, 64)
		y, yerr := strconv.ParseUint(b[i], 10, 64)
		switch {
		case xerr == nil && yerr == nil:
			return cmp.Compare(x, y)
		case xerr == nil: // numbers come before words
			return -1
		case yerr == nil:
			return 1
		}
		return strings.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

func splitVersion(s string) (parts []uint64, prerelease string, ok bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "+") // build metadata has no order
	s, prerelease, _ = strings.Cut(s, "-")
	for f := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil, "", false
		}
		parts = append(parts, n)
	}
	return parts, prerelease, true
}
