package rule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// versionOperators are what may stand before a version; none means "=".
var versionOperators = []string{"", "=", "==", "!=", "<", "<=", ">", ">="}

// orderedVersion is a version that has an order: numbers with dots between them, an optional
// v before, a pre-release and a build behind (semver.org 2.0, any count of numbers).
var orderedVersion = regexp.MustCompile(`^v?\d+(\.\d+)*(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// checkConstraint reports what is wrong with a constraint on versions: comparisons joined by
// commas or spaces, all of which must hold. Only = and != compare what has no order, such as
// a commit's hash. Package flags evaluates it.
func checkConstraint(s string) error {
	terms := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	if len(terms) == 0 {
		return errors.New("it compares nothing")
	}
	for i := 0; i < len(terms); i++ {
		term := terms[i]
		version := strings.TrimLeft(term, "<>=!")
		operator := strings.TrimSuffix(term, version)
		if version == "" && i+1 < len(terms) { // the operator stands apart
			i++
			version = terms[i]
		}
		switch {
		case !slices.Contains(versionOperators, operator):
			return fmt.Errorf("no operator %q", operator)
		case version == "" || strings.ContainsAny(version, "<>=!~^*"):
			return fmt.Errorf("no version after %q", operator)
		case strings.ContainsAny(operator, "<>") && !orderedVersion.MatchString(version):
			return fmt.Errorf("%q has no order", version)
		}
	}
	return nil
}
