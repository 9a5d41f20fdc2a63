package flags

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A goffText is a text of flags as GO Feature Flag reads it, JSON or YAML by the extension of its
// name. Its library is not linked: what it checks when it loads a text is checked here again.
// (docs/flags.md)
type goffText struct{ name string }

// A goffFlag is a flag as GO Feature Flag decodes it: a member of another kind makes it refuse
// the whole text, and go on with the flags it had before.
type goffFlag struct {
	Variations       map[string]any `json:"variations" yaml:"variations"`
	Targeting        []goffRule     `json:"targeting" yaml:"targeting"`
	DefaultRule      *goffRule      `json:"defaultRule" yaml:"defaultRule"`
	BucketingKey     string         `json:"bucketingKey" yaml:"bucketingKey"`
	Disable          bool           `json:"disable" yaml:"disable"`
	Experimentation  *goffSpan      `json:"experimentation" yaml:"experimentation"`
	ScheduledRollout []goffDate     `json:"scheduledRollout" yaml:"scheduledRollout"`
	TrackEvents      bool           `json:"trackEvents" yaml:"trackEvents"`
	Version          string         `json:"version" yaml:"version"`
	Metadata         map[string]any `json:"metadata" yaml:"metadata"`
}

type goffRule struct {
	Name        string             `json:"name" yaml:"name"`
	Query       *string            `json:"query" yaml:"query"`
	Variation   *string            `json:"variation" yaml:"variation"`
	Percentage  map[string]float64 `json:"percentage" yaml:"percentage"`
	Progressive *goffProgressive   `json:"progressiveRollout" yaml:"progressiveRollout"`
	Disable     bool               `json:"disable" yaml:"disable"`
}

type goffProgressive struct {
	Initial *goffStep `json:"initial" yaml:"initial"`
	End     *goffStep `json:"end" yaml:"end"`
}

type goffStep struct {
	Variation  string     `json:"variation" yaml:"variation"`
	Percentage float64    `json:"percentage" yaml:"percentage"`
	Date       *time.Time `json:"date" yaml:"date"`
}

type goffSpan struct {
	Start *time.Time `json:"start" yaml:"start"`
	End   *time.Time `json:"end" yaml:"end"`
}

type goffDate struct {
	Date *time.Time `json:"date" yaml:"date"`
}

// goffMembers are the members of a flag that are read or guarded against being there twice.
var goffMembers = []string{"variations", "targeting", "defaultRule", "disable", "metadata", "bucketingKey", "experimentation", "scheduledRollout"}

// decode reads all flags of a text as GO Feature Flag does.
func (d goffText) decode(text []byte) (map[string]goffFlag, error) {
	var out map[string]goffFlag
	var err error
	switch d.form() {
	case "json":
		err = json.Unmarshal(text, &out)
	case "yaml":
		err = yaml.Unmarshal(text, &out)
	default:
		return nil, fmt.Errorf("%w: of GO Feature Flag's files .json, .yaml and .yml can be edited", ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: GO Feature Flag refuses the file %s: %w", ErrInvalid, filepath.Base(d.name), err)
	}
	return out, nil
}

func (d goffText) form() string {
	switch strings.ToLower(filepath.Ext(d.name)) {
	case ".json":
		return "json"
	case ".yaml", ".yml":
		return "yaml"
	}
	return ""
}

func (d goffText) load(text []byte) error {
	_, err := d.decode(text)
	return err
}

func (d goffText) locate(text []byte, key string) (flagText, error) {
	all, err := d.decode(text)
	if err != nil {
		return flagText{}, err
	}
	t := flagText{keys: sortedKeys(all), noTargeting: "[]"}
	f, ok := all[key]
	if !ok {
		return t, nil
	}
	if err := f.describe(&t); err != nil {
		return flagText{}, err
	}
	if d.form() == "json" {
		return t, f.spliceJSON(&t, text, key)
	}
	return t, f.spliceYAML(&t, text, key)
}

// describe is what f says, in the words of a flagText. Whatever can serve past a default rule of
// one variation is put into the targeting as flagd would write it, so that it is understood in
// the same way; rules that are disabled serve nobody.
func (f goffFlag) describe(t *flagText) error {
	t.present, t.state, t.metadata = true, enabled, f.Metadata
	if f.Disable {
		t.state = disabled
	}
	variants, err := asJSON(f.Variations)
	if err != nil {
		return err
	}
	t.variants, _ = variants.(map[string]any)
	branches := []any{}
	for _, r := range f.enabledRules() {
		branches = append(branches, r.condition(), r.result())
	}
	if r := f.DefaultRule; r != nil && r.plain() {
		t.defaultVariant = *r.Variation
	} else if r != nil {
		branches = append(branches, r.result())
	}
	targeting := map[string]any{}
	if len(branches) > 0 {
		targeting["if"] = branches
	}
	for _, later := range []struct {
		name string
		is   bool
		what any
	}{
		{"experimentation", f.Experimentation != nil, f.Experimentation},
		{"scheduledRollout", len(f.ScheduledRollout) > 0, f.ScheduledRollout},
		{"bucketingKey", f.BucketingKey != "", f.BucketingKey},
	} {
		if later.is {
			targeting[later.name] = text(later.what)
		}
	}
	if len(targeting) > 0 {
		t.targeting = targeting
	}
	t.refused = f.refused()
	return nil
}

// refused is why no edit of the default rule and the rules would turn the flag off for
// everybody, and for good.
func (f goffFlag) refused() error {
	switch {
	case len(f.ScheduledRollout) > 0:
		return fmt.Errorf("%w: scheduledRollout changes it by itself at other times, whatever the rules say now; take that out first", ErrAmbiguousEdit)
	case f.Experimentation != nil:
		return fmt.Errorf("%w: experimentation leaves everybody to the default in the application's code when it is over; take that out first", ErrAmbiguousEdit)
	case f.BucketingKey != "":
		return fmt.Errorf("%w: bucketingKey %q leaves every context without that attribute to the default in the application's code, whatever the rules say", ErrAmbiguousEdit, f.BucketingKey)
	case f.DefaultRule == nil:
		return fmt.Errorf("%w: it has no defaultRule, so GO Feature Flag drops it", ErrInvalid)
	}
	return f.valid()
}

// valid fails where GO Feature Flag would drop the flag for its variations or the names of its
// rules. Rules that serve somebody are not looked at: an edit leaves none.
func (f goffFlag) valid() error {
	kind := reflect.Invalid
	for _, name := range sortedKeys(f.Variations) {
		v, err := asJSON(f.Variations[name])
		if err != nil {
			return err
		}
		k := reflect.ValueOf(v).Kind()
		switch {
		case k == reflect.Invalid:
			return fmt.Errorf("%w: the variation %q is null, so GO Feature Flag drops the flag", ErrInvalid, name)
		case k == reflect.Slice:
			return fmt.Errorf("%w: the variation %q is a list, which OpenFeature has no question for", ErrInvalid, name)
		case kind != reflect.Invalid && k != kind:
			return fmt.Errorf("%w: its variations are not of one type, so GO Feature Flag drops the flag", ErrInvalid)
		}
		kind = k
	}
	seen := map[string]bool{"": false}
	for _, r := range f.Targeting {
		if seen[r.Name] {
			return fmt.Errorf("%w: two rules are called %q, so GO Feature Flag drops the flag", ErrInvalid, r.Name)
		}
		seen[r.Name] = r.Name != ""
	}
	return nil
}

func (f goffFlag) enabledRules() []goffRule {
	return slices.DeleteFunc(slices.Clone(f.Targeting), func(r goffRule) bool { return r.Disable })
}

// plain reports whether a rule serves one variation to all whom it reaches, so that only the
// variation's name has to change.
func (r goffRule) plain() bool {
	return r.Variation != nil && r.Percentage == nil && r.Progressive == nil
}

// result is a plain rule's variation, and else something that flagd has no such operator for.
func (r goffRule) result() any {
	switch {
	case r.Progressive != nil:
		return map[string]any{"progressiveRollout": text(r.Progressive)}
	case r.plain():
		return *r.Variation
	}
	return map[string]any{"percentage": text(r.Percentage)}
}

// condition is a rule's query as JsonLogic where it is that, or compares attributes with
// constants; otherwise its text.
func (r goffRule) condition() any {
	if r.Query == nil {
		return ""
	}
	var logic map[string]any
	if json.Unmarshal([]byte(*r.Query), &logic) == nil {
		return logic
	}
	var all []any
	for part := range strings.SplitSeq(*r.Query, " and ") {
		m := comparison.FindStringSubmatch(part)
		var constant any
		if m == nil || json.Unmarshal([]byte(m[3]), &constant) != nil {
			return *r.Query
		}
		name := m[1]
		if name == "key" { // of old, and still
			name = targetingKey
		}
		all = append(all, map[string]any{operators[m[2]]: []any{map[string]any{"var": name}, constant}})
	}
	if len(all) == 1 {
		return all[0]
	}
	return map[string]any{"and": all}
}

// comparison is one comparison of GO Feature Flag's own queries, such as tier eq "gold".
var comparison = regexp.MustCompile(`^\s*([A-Za-z_][\w-]*)\s+(eq|==|sw|ew|in)\s+("[^"\\]*"|\[[^\[\]]*\]|true|false|-?[0-9.]+)\s*$`)

// operators are its words for JsonLogic's.
var operators = map[string]string{"eq": "==", "==": "==", "sw": "starts_with", "ew": "ends_with", "in": "in"}

func (f goffFlag) spliceJSON(t *flagText, text []byte, key string) error {
	root, err := parseJSON(text)
	if err != nil {
		return err
	}
	var flag *jsonMember
	for i, m := range root.members {
		if m.name != key {
			continue
		}
		if flag != nil {
			return fmt.Errorf("%w: the flag is there twice", ErrAmbiguousEdit)
		}
		flag = &root.members[i]
	}
	if flag == nil || !flag.object {
		return fmt.Errorf("%w: the flag is not an object", ErrInvalid)
	}
	if err := flag.unique(true); err != nil {
		return err
	}
	members := map[string]*jsonMember{}
	for _, name := range goffMembers {
		if members[name], err = flag.member(name); err != nil {
			return err
		}
	}
	def, targeting := members["defaultRule"], members["targeting"]
	var variation *jsonMember
	if def != nil {
		for _, name := range []string{"variation", "percentage", "progressiveRollout"} {
			m, err := def.member(name)
			if err != nil {
				return err
			}
			if name == "variation" {
				variation = m
			}
		}
	}
	t.setDefault = func(v string) Patch {
		if f.DefaultRule.plain() {
			return Patch{splice(text, variation.span, quoteJSON(v))}
		}
		return Patch{splice(text, def.span, `{"variation": `+quoteJSON(v)+`}`)}
	}
	t.setTargeting = func(value string) Patch {
		if len(f.enabledRules()) == 0 {
			return nil
		}
		return Patch{splice(text, targeting.span, value)}
	}
	return nil
}

func (f goffFlag) spliceYAML(t *flagText, text []byte, key string) error {
	root, err := parseYAML(text)
	if err != nil {
		return err
	}
	flag, err := yamlMember(root, key, false)
	switch {
	case err != nil:
		return err
	case flag == nil || flag.value.Kind != yaml.MappingNode && flag.value.Kind != yaml.AliasNode:
		return fmt.Errorf("%w: the flag is not a mapping", ErrInvalid)
	}
	if err := ownText(flag.value, true); err != nil {
		return err
	}
	members := map[string]*yamlPair{}
	for _, name := range goffMembers {
		// yaml tells names apart by case, but whoever reads the text as JSON does not.
		if members[name], err = yamlMember(flag.value, name, true); err != nil {
			return err
		}
	}
	y := newYAMLText(text)
	if def := members["defaultRule"]; def != nil && f.DefaultRule != nil && f.DefaultRule.plain() {
		variation, err := yamlMember(def.value, "variation", true)
		if err != nil {
			return err
		}
		if t.setDefault, err = y.setText(variation.value); err != nil {
			return err
		}
	} else if def != nil && f.DefaultRule != nil {
		set, err := y.setValue(def, after(root, def))
		if err != nil {
			return err
		}
		t.setDefault = func(v string) Patch { return set("{variation: " + quoteJSON(v) + "}") }
	}
	t.setTargeting = func(string) Patch { return nil }
	if targeting := members["targeting"]; len(f.enabledRules()) > 0 {
		if t.setTargeting, err = y.setValue(targeting, after(root, targeting)); err != nil {
			return err
		}
	}
	return nil
}

// check allows the default rule and the targeting of the flag to differ.
func (d goffText) check(c Change, before, after []byte) error {
	flag := "/" + pointer(c.Ref.Key)
	_, err := edited(d, d.name, c, before, after, func(was, is any) []string {
		return slices.DeleteFunc(differences(nil, "", was, is), func(p string) bool {
			return p == flag+"/targeting" || p == flag+"/defaultRule" || strings.HasPrefix(p, flag+"/defaultRule/")
		})
	})
	return err
}
