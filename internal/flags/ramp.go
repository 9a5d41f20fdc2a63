package flags

import "fmt"

// served are the variants that a JsonLogic rule of flagd can serve, def where it decides
// nothing. ok is false where that cannot be read from the rule. Conditions are not weighed: each
// branch counts.
func served(rule any, def string) (variants map[string]bool, ok bool) {
	variants = map[string]bool{}
	return variants, serve(variants, rule, def)
}

func serve(into map[string]bool, rule any, def string) bool {
	switch v := rule.(type) {
	case nil:
		into[def] = true
		return def != ""
	case string:
		into[v] = true
		return v != ""
	case map[string]any:
		if len(v) == 0 {
			return serve(into, nil, def)
		}
		if branches, ok := only(v, "if"); ok {
			return serveBranches(into, branches, def)
		}
		if buckets, ok := only(v, "fractional"); ok {
			return serveBuckets(into, buckets, def)
		}
	}
	return false
}

// only is the list that a rule's one operator is applied to.
func only(rule map[string]any, operator string) ([]any, bool) {
	list, ok := rule[operator].([]any)
	return list, ok && len(rule) == 1
}

// serveBranches goes through condition, result, condition, result and so on, at the end a result
// alone for all others, or else the default.
func serveBranches(into map[string]bool, branches []any, def string) bool {
	for i := 0; i < len(branches); i += 2 {
		result := branches[i]
		if i+1 < len(branches) {
			result = branches[i+1]
		}
		if !serve(into, result, def) {
			return false
		}
	}
	return len(branches)%2 == 1 || serve(into, nil, def)
}

// serveBuckets takes those with a weight. A context without a targeting key gets the default.
func serveBuckets(into map[string]bool, list []any, def string) bool {
	buckets, ok := bucketsOf(list)
	for _, b := range buckets {
		if b.weight > 0 {
			into[b.variant] = true
		}
	}
	return ok && serve(into, nil, def)
}

// A bucket is one share of a ramp.
type bucket struct {
	variant string
	weight  float64
}

// bucketsOf reads the shares of a ramp, which may be led by what it counts by. ok is false where
// one is not a variant and a number.
func bucketsOf(list []any) (out []bucket, ok bool) {
	if len(list) > 0 {
		if _, share := list[0].([]any); !share {
			list = list[1:]
		}
	}
	for _, e := range list {
		pair, _ := e.([]any)
		b := bucket{weight: 1}
		if len(pair) == 0 || len(pair) > 2 {
			return out, false
		}
		if b.variant, ok = pair[0].(string); !ok {
			return out, false
		}
		if len(pair) == 2 {
			if b.weight, ok = pair[1].(float64); !ok {
				return out, false
			}
		}
		out = append(out, b)
	}
	return out, len(out) > 0
}

// rampToZero is targeting with its one ramp serving off to all whom it reaches. It fails with
// ErrAmbiguousEdit where that is not enough for everybody: there is no ramp or more than one, or
// something beside it can serve another variant.
func rampToZero(targeting any, def, off string) (any, error) {
	n := 0
	zero, ok := replaceRamps(targeting, off, &n)
	switch {
	case n == 0:
		return nil, fmt.Errorf("%w: ramp: zero: the flag has no ramp (fractional)", ErrAmbiguousEdit)
	case n > 1:
		return nil, fmt.Errorf("%w: ramp: zero: the flag has %d ramps; name the off variant without a ramp, which takes all rules away", ErrAmbiguousEdit, n)
	case !ok:
		return nil, fmt.Errorf("%w: ramp: zero: the shares of its ramp are not all a variant and a number", ErrAmbiguousEdit)
	}
	variants, ok := served(zero, def)
	delete(variants, off)
	if !ok || len(variants) > 0 {
		others := "something that cannot be read from it"
		if ok {
			others = fmt.Sprintf("%q", sortedKeys(variants))
		}
		return nil, fmt.Errorf("%w: ramp: zero: a rule beside the ramp, or the default, serves %s; name the off variant without a ramp, which takes all rules away", ErrAmbiguousEdit, others)
	}
	return zero, nil
}

// replaceRamps is rule with every ramp serving off to all, and how many there are.
func replaceRamps(rule any, off string, n *int) (any, bool) {
	switch v := rule.(type) {
	case []any:
		out, all := make([]any, len(v)), true
		for i, e := range v {
			var ok bool
			out[i], ok = replaceRamps(e, off, n)
			all = all && ok
		}
		return out, all
	case map[string]any:
		out, all := map[string]any{}, true
		for k, e := range v {
			list, isList := e.([]any)
			if k == "fractional" && isList {
				*n++
				var ok bool
				out[k], ok = zeroBuckets(list, off)
				all = all && ok
				continue
			}
			var ok bool
			out[k], ok = replaceRamps(e, off, n)
			all = all && ok
		}
		return out, all
	}
	return rule, true
}

// zeroBuckets is a ramp with all its weight on off.
func zeroBuckets(list []any, off string) ([]any, bool) {
	buckets, ok := bucketsOf(list)
	out := list[: len(list)-len(buckets) : len(list)-len(buckets)] // what it counts by
	found := false
	for _, b := range buckets {
		weight := 0.0
		if b.variant == off && !found {
			weight, found = 100, true
		}
		out = append(out, []any{b.variant, weight})
	}
	if !found {
		out = append(out, []any{off, 100.0})
	}
	return out, ok
}
