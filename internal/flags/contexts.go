package flags

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/driftwatch/driftwatch/internal/rule"
)

// NewQuestion asks whether everybody gets w: the contexts of the rule, one per targeting rule
// where s shows them, and n with targeting keys from r. Plan tells w.Value.
func NewQuestion(s State, w Want, f rule.Flag, n int, r *rand.Rand) Question {
	if w.Variant == "" {
		w.Value = codeDefault(s.Variants)
	}
	q := Question{Key: s.Ref.Key, Want: w, Variants: s.Variants}
	for _, p := range f.Probes {
		q.Probes = append(q.Probes, Probe(p))
	}
	q.Probes = append(q.Probes, s.Probes...)
	for range n {
		q.Probes = append(q.Probes, Probe{targetingKey: fmt.Sprintf("driftwatch-%08x", r.Uint32())})
	}
	return q
}

// targetingKey is the attribute that OpenFeature tells contexts apart by.
const targetingKey = "targetingKey"

// contextsOf returns contexts that the conditions of a JsonLogic rule tell apart, where they
// compare one attribute with a constant. What it cannot see is left to the rule's own probes:
// a flag that is off has no rules left.
func contextsOf(targeting any) []Probe {
	var out []Probe
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if p := condition(v); p != nil {
				if p[targetingKey] == nil {
					p[targetingKey] = fmt.Sprintf("driftwatch-rule-%d", len(out)+1)
				}
				out = append(out, p)
				return
			}
			for _, k := range sortedKeys(v) {
				walk(v[k])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(targeting)
	return out
}

// condition returns a context that meets a JsonLogic condition, or nil.
func condition(c map[string]any) Probe {
	if len(c) != 1 {
		return nil
	}
	for op, arg := range c {
		args, _ := arg.([]any)
		if op == "and" {
			all := Probe{}
			for _, a := range args {
				m, _ := a.(map[string]any)
				p := condition(m)
				if p == nil {
					return nil
				}
				maps.Copy(all, p)
			}
			if len(all) == 0 {
				return nil
			}
			return all
		}
		if len(args) != 2 {
			return nil
		}
		name, constant := variable(args[0]), args[1]
		if name == "" && (op == "==" || op == "===" || op == "in") {
			name, constant = variable(args[1]), args[0]
		}
		if name == "" {
			return nil
		}
		switch op {
		case "==", "===", "starts_with", "ends_with":
		case "in":
			if list, ok := constant.([]any); ok {
				if len(list) == 0 {
					return nil
				}
				constant = list[0]
			}
		default:
			return nil
		}
		switch constant.(type) {
		case string, float64, bool:
			return Probe{name: constant}
		}
	}
	return nil
}

// variable is the attribute that {"var": name} reads, "" for anything else.
func variable(v any) string {
	m, _ := v.(map[string]any)
	if len(m) != 1 {
		return ""
	}
	name, _ := m["var"].(string)
	if list, ok := m["var"].([]any); ok && len(list) > 0 {
		name, _ = list[0].(string)
	}
	if strings.Contains(name, ".") || strings.HasPrefix(name, "$") {
		return ""
	}
	return name
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
