package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	promconfig "github.com/prometheus/common/config"

	"github.com/driftwatch/driftwatch/internal/strictyaml"
)

// http reads prometheus/common's HTTPClientConfig. Names, and that there are no secrets, are
// checked here, where places are known; the rest by prometheus/common's own reader, whose
// mistakes are reported at the section.
func (p *parser) http(v strictyaml.Value) (promconfig.HTTPClientConfig, bool) {
	var none promconfig.HTTPClientConfig
	if !v.Given() || !fields(v, reflect.TypeFor[promconfig.HTTPClientConfig]()) {
		return none, false
	}
	x, ok := v.Any()
	if !ok {
		return none, false
	}
	text, err := json.Marshal(x) // JSON is YAML
	if err != nil {
		v.Fail(fmt.Sprintf("http cannot be written as JSON: %v", err), "")
		return none, false
	}
	c, err := promconfig.LoadHTTPConfig(string(text))
	if err != nil {
		v.Fail("http: "+strings.Join(strings.Fields(innerLine.ReplaceAllString(err.Error(), "")), " "), "see prometheus.io/docs, http_config")
		return none, false
	}
	c.SetDirectory(p.dir)
	return *c, true
}

// innerLine is where prometheus/common saw a mistake: in the JSON, not in the file.
var innerLine = regexp.MustCompile(`yaml: (unmarshal errors:)?|line \d+: `)

var secret = reflect.TypeFor[promconfig.Secret]()

// fields compares a section with the Go type that it is read into: the names of its fields,
// mappings and lists where they belong, and no secret in plain text. It reports whether all
// is well; if not, the mistakes are recorded.
func fields(v strictyaml.Value, t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == secret:
		remedy := "put it into a file and write " + v.Key() + "_file: PATH"
		v.FailKey(fmt.Sprintf("%s is a secret in plain text", v.Key()), remedy)
		return false
	case t == reflect.TypeFor[promconfig.URL]():
		return address(v)
	case t.Kind() == reflect.Map:
		return entries(v, t.Elem())
	case t.Kind() == reflect.Slice && t.Elem() == secret:
		v.FailKey(fmt.Sprintf("%s may hold a secret in plain text", v.Key()), "put it into a file: http_headers: {NAME: {files: [PATH]}}")
		return false
	case t.Kind() == reflect.Slice:
		items, ok := v.Items()
		for _, item := range items {
			ok = fields(item, t.Elem()) && ok
		}
		return ok
	case t.Kind() == reflect.Struct:
		return section(v, t)
	case t.Kind() == reflect.Bool:
		_, ok := v.Bool()
		return ok
	}
	_, ok := v.AnyText()
	return ok
}

func entries(v strictyaml.Value, t reflect.Type) bool {
	m, ok := mapping(v)
	for _, e := range m.Entries() {
		ok = fields(e, t) && ok
	}
	return ok
}

// mapping is v.Map with a message that does not show what stands there instead: it may be a
// password.
func mapping(v strictyaml.Value) (*strictyaml.Map, bool) {
	if v.Source() != "" {
		v.FailKey(v.Key()+" is not a mapping", "")
		return nil, false
	}
	return v.Map()
}

// section compares a mapping with the yaml tags of a struct.
func section(v strictyaml.Value, t reflect.Type) bool {
	m, ok := mapping(v)
	if !ok {
		return false
	}
	names := map[string]reflect.Type{}
	if free := tags(t, names); free != nil {
		return entries(v, free)
	}
	var known []string
	for name := range names {
		if !strings.HasSuffix(name, "_ref") { // they need a secret manager, which driftwatch has not
			known = append(known, name)
		}
	}
	slices.Sort(known)
	for _, name := range known {
		if f := m.Get(name); f.Given() {
			ok = fields(f, names[name]) && ok
		}
	}
	for _, e := range m.Entries() {
		if !slices.Contains(known, e.Key()) {
			e.FailKey(fmt.Sprintf("unknown field %q", e.Key()), strictyaml.DidYouMean(e.Key(), known))
			ok = false
		}
	}
	return ok
}

// tags collects the yaml names of a struct's fields. If it is a map under an inlined field,
// any name is right and the type of its elements is returned.
func tags(t reflect.Type, into map[string]reflect.Type) reflect.Type {
	for f := range t.Fields() {
		tag, ok := f.Tag.Lookup("yaml")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case !ok || name == "-":
		case strings.Contains(options, "inline") && f.Type.Kind() == reflect.Map:
			return f.Type.Elem()
		case strings.Contains(options, "inline"):
			if free := tags(f.Type, into); free != nil {
				return free
			}
		default:
			into[name] = f.Type
		}
	}
	return nil
}

func address(v strictyaml.Value) bool {
	s, ok := v.Text()
	if !ok {
		return false
	}
	if err := CheckURL(s); err != nil {
		v.FailKey(fmt.Sprintf("%s is %v", v.Key(), err), "write it like http://proxy.example.com:3128")
		return false
	}
	return true
}
