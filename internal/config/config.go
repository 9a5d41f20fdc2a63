// Package config reads driftwatch.yaml: where Prometheus, the rules, the flags and the
// journal are, and what driftwatch may do. It knows no rule and opens no connection.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/driftwatch/driftwatch/internal/strictyaml"
)

// A Config is driftwatch.yaml with its defaults filled in (docs/rules.md). Relative paths of
// the file are joined to the directory of the file.
type Config struct {
	Path        string // the file it came from, "" for Default
	Prometheus  Prometheus
	Rules       []string              // files, directories and patterns, for rule.Load
	FlagSources map[string]FlagSource // by name
	Verify      map[string]Verifier   // by name of the flag source; every source has an entry
	Journal     Journal
	Act         bool
	Approval    Approval
	Limits      Limits
	Links       Links
	Web         Web
}

// Web is where report serve has its pages.
type Web struct {
	Listen     string // host:port
	ConfigFile string // the exporter-toolkit's web configuration: TLS, users; "" = none
}

// Links are where people look at the numbers themselves; reports link there. "" = no link, and
// for Prometheus the server that is read from.
type Links struct {
	Prometheus string
	Grafana    string
}

// Prometheus is the server to read from.
type Prometheus struct {
	URL         string // "" where neither the file nor a default says
	HTTP        promconfig.HTTPClientConfig
	Read        Read
	Concurrency int // requests in flight
	MaxSamples  int // peak samples per request
}

// Read is how samples are fetched.
type Read string

// The ways to read. Auto is the default.
const (
	ReadAuto   Read = "auto"
	ReadRemote Read = "remote-read"
	ReadQuery  Read = "query"
)

// A FlagSource is where flags are turned off. Exactly one field is set.
type FlagSource struct {
	FlagdFile    *FlagdFile
	FlagdCRD     *KubernetesObject // a FeatureFlag resource
	ConfigMap    *ConfigMap
	Unleash      *Unleash
	LaunchDarkly *LaunchDarkly
	Webhook      *Webhook
	GoffFile     *GoffFile
}

// A FlagdFile is a file of flagd definitions: edited in place, or with an overlay behind it that
// is driftwatch's alone.
type FlagdFile struct {
	Path    string
	Overlay string   // "" for mode edit
	Later   []string // for a Verifier: the files that flagd reads behind it, in order
}

// A Verifier is how the application sees its flags. One field is set, or none: nobody looks.
type Verifier struct {
	FlagdFile *FlagdFile
	FlagdCRD  *KubernetesObject
	ConfigMap *ConfigMap
	OFREP     *OFREP
	Unleash   *UnleashFrontend
}

// OFREP is a server that speaks the OpenFeature Remote Evaluation Protocol.
type OFREP struct {
	URL    string
	Token  Secret
	Header string // that the token goes into; "" = Authorization, as a bearer token
}

// A Journal is where records are kept: in a file, unless there is a server.
type Journal struct {
	SQLite   string // path of the file
	Postgres *Postgres
}

// Postgres is the database of a journal. Exactly one field is set: its DSN, which may hold a
// password, stands in a file or a variable of its own.
type Postgres struct {
	DSNFile string
	DSNEnv  string // name of the variable
}

// DSN reads the DSN; getenv looks up a variable. The error does not hold it.
func (p *Postgres) DSN(getenv func(string) (string, bool)) (string, error) {
	if p.DSNEnv != "" {
		dsn, ok := getenv(p.DSNEnv)
		if !ok || strings.TrimSpace(dsn) == "" {
			return "", fmt.Errorf("journal.postgres.dsn_env: the variable %s is not set; export it", p.DSNEnv)
		}
		return strings.TrimSpace(dsn), nil
	}
	text, err := os.ReadFile(p.DSNFile)
	if err != nil {
		return "", fmt.Errorf("journal.postgres.dsn_file: %w; check the path and who may read it", err)
	}
	if dsn := strings.TrimSpace(string(text)); dsn != "" {
		return dsn, nil
	}
	return "", fmt.Errorf("journal.postgres.dsn_file: %s is empty; write the DSN into it", p.DSNFile)
}

// Limits bound what driftwatch does by itself, over all rules.
type Limits struct {
	ActionsPerHour int           // 0 = never act
	ActionsPerDay  int           // 0 = never act
	Cooldown       time.Duration // between two actions on the same flag
	StopFile       string        // nothing is done while this file exists; "" = there is none
	Critical       []string      // notes of a flag that keep hands off it: "key" (true) or "key=value"
	RemindAfter    time.Duration // a flag that is off by driftwatch for longer is reminded of; 0 = never
}

// Approval is whether a person approves every write.
type Approval struct {
	Required bool
	Plans    string        // directory that plans are written to
	Valid    time.Duration // a plan may be applied for so long
}

// Default returns the configuration without a file: everything but prometheus.url.
func Default() *Config {
	return &Config{
		Prometheus: Prometheus{HTTP: promconfig.DefaultHTTPClientConfig, Read: ReadAuto, Concurrency: 2, MaxSamples: 20_000_000},
		Rules:      []string{"rules/*.yaml"},
		Journal:    Journal{SQLite: "driftwatch.db"},
		Approval:   Approval{Plans: "plans", Valid: time.Hour},
		Web:        Web{Listen: "127.0.0.1:9465"},
		Limits: Limits{
			ActionsPerHour: 1, ActionsPerDay: 3, Cooldown: 6 * time.Hour, StopFile: "/run/driftwatch/stop",
			Critical: []string{"critical", "permanent", "kill_switch", "entitlement", "type=kill-switch", "type=permission"}, RemindAfter: 7 * 24 * time.Hour,
		},
	}
}

// Load reads a file. The error is strictyaml.Errors, with every mistake of the file; it wraps
// fs.ErrNotExist if there is no such file.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		reason := err
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			reason = p.Err
		}
		return nil, strictyaml.Errors{{Path: path, Text: path, Reason: fmt.Sprintf("cannot be read: %v", reason), Remedy: "check --config and who may read it", Err: err}}
	}
	return Parse(path, text)
}

// Parse is Load of a text that came from path. An empty text is Default.
func Parse(path string, text []byte) (*Config, error) {
	f, docs := strictyaml.Read(path, text)
	c := Default()
	c.Path = path
	p := &parser{dir: filepath.Dir(path), unproved: map[string]strictyaml.Value{}}
	for i, doc := range docs {
		if i == 0 {
			p.config(doc.Root, c)
			continue
		}
		doc.Root.Fail("a second document", "a configuration is one document; rules have files of their own")
	}
	for i := range c.Rules {
		c.Rules[i] = p.path(c.Rules[i])
	}
	c.Journal.SQLite = p.path(c.Journal.SQLite)
	c.Approval.Plans = p.path(c.Approval.Plans)
	if c.Journal.Postgres != nil && c.Journal.Postgres.DSNFile != "" {
		c.Journal.Postgres.DSNFile = p.path(c.Journal.Postgres.DSNFile)
	}
	if c.Limits.StopFile != "" {
		c.Limits.StopFile = p.path(c.Limits.StopFile)
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// CheckURL reports what is wrong with the address of a server: it has to be http or https,
// with a host, and without a password, which would be printed with it.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("not an address with http:// or https://")
	case u.Host == "":
		return errors.New("an address without a host")
	case u.User != nil:
		return errors.New("an address that holds a user or password")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("an address with a query or fragment")
	}
	return nil
}

// A parser knows where the file is.
type parser struct {
	dir string

	unproved map[string]strictyaml.Value // flag sources that need a way to verify and have none yet
}

func (p *parser) path(s string) string { return promconfig.JoinDir(p.dir, s) }

func (p *parser) config(v strictyaml.Value, c *Config) {
	m, ok := v.Map()
	if !ok {
		return
	}
	defer m.Close()
	p.prometheus(m.Get("prometheus"), &c.Prometheus)
	if list, ok := m.Get("rules").Texts(); ok {
		c.Rules = list
	}
	c.FlagSources = p.flagSources(m.Get("flag_sources"))
	c.Verify = p.verify(m.Get("verify"), c.FlagSources)
	p.journal(m.Get("journal"), &c.Journal)
	c.Act, _ = m.Get("act").Bool()
	p.approval(m.Get("approval"), &c.Approval)
	p.limits(m.Get("limits"), &c.Limits)
	p.links(m.Get("links"), &c.Links)
	p.unbuilt(m)
	p.web(m.Get("web"), &c.Web)
}

func (p *parser) prometheus(v strictyaml.Value, c *Prometheus) {
	m, ok := v.Map()
	if !ok {
		return
	}
	defer m.Close()
	c.URL = p.url(m.Get("url"))
	if h, ok := p.http(m.Get("http")); ok {
		c.HTTP = h
	}
	if s, ok := m.Get("read").Choice(string(ReadAuto), string(ReadRemote), string(ReadQuery)); ok {
		c.Read = Read(s)
	}
	if n, ok := m.Get("concurrency").Int(1, 64); ok {
		c.Concurrency = n
	}
	if n, ok := m.Get("max_samples").Int(10_000, 1_000_000_000); ok {
		c.MaxSamples = n
	}
}

// url leaves the address out of the message: it may hold a password.
func (p *parser) url(v strictyaml.Value) string {
	s, ok := v.Text()
	if !ok {
		return ""
	}
	if err := CheckURL(s); err != nil {
		v.FailKey(fmt.Sprintf("%s is %v", v.Key(), err), "write it like http://localhost:9090; credentials belong into files named under http")
		return ""
	}
	return s
}

func (p *parser) flagSources(v strictyaml.Value) map[string]FlagSource {
	m, _ := v.Map()
	out := map[string]FlagSource{}
	for _, e := range m.Entries() {
		s, ok := e.Map()
		if !ok {
			continue
		}
		file := s.Get("flagd_file")
		if found, ok := p.server(s, file); ok {
			out[e.Key()] = found
			if found.Webhook != nil {
				p.unproved[e.Key()] = e
			}
			continue
		}
		s.Need("flagd_file", "write {flagd_file: {path: flags.json, mode: edit}}")
		s.Close()
		f, ok := file.Map()
		if !ok {
			continue
		}
		flagd := &FlagdFile{Path: p.filePath(f)}
		mode, overlay := f.Get("mode"), f.Get("overlay")
		switch text, _ := mode.Choice("edit", "overlay"); {
		case text == "overlay":
			if s, ok := f.Need("overlay", "write the file that flagd lists last, which is driftwatch's alone: overlay: overlay.json").Text(); ok {
				flagd.Overlay = p.path(s)
			}
			if flagd.Overlay == flagd.Path && flagd.Path != "" {
				overlay.FailKey("the overlay is the file itself", "write a file of its own, with the text {\"flags\":{}}, and list it last in flagd's sources")
			}
		case overlay.Given():
			overlay.FailKey("an overlay without mode: overlay", "write mode: overlay, or leave the overlay out")
		}
		f.Close()
		out[e.Key()] = FlagSource{FlagdFile: flagd}
	}
	return out
}

// server reads a source that is no flagd file: a server, or a file that a server reads. ok is false
// if there is none in s.
func (p *parser) server(s *strictyaml.Map, others ...strictyaml.Value) (found FlagSource, ok bool) {
	crd, configMap, goff := s.Get("flagd_crd"), s.Get("configmap"), s.Get("goff_file")
	unleash, launchDarkly, webhook := s.Get("unleash"), s.Get("launchdarkly"), s.Get("webhook")
	for _, v := range []strictyaml.Value{crd, configMap, goff, unleash, launchDarkly, webhook} {
		if v.Given() && (ok || slices.ContainsFunc(others, strictyaml.Value.Given)) {
			v.FailKey("two kinds of flag source under one name", "give each a name of its own")
		}
		ok = ok || v.Given()
	}
	if !ok {
		return found, false
	}
	found = FlagSource{
		FlagdCRD: p.flagdCRD(crd), ConfigMap: p.configMap(configMap), GoffFile: p.goffFile(goff),
		Unleash: p.unleash(unleash), LaunchDarkly: p.launchDarkly(launchDarkly), Webhook: p.webhook(webhook),
	}
	s.Close()
	return found, true
}

func (p *parser) filePath(m *strictyaml.Map) string {
	s, ok := m.Need("path", "write where the flag definitions are: path: flags.json").Text()
	if !ok {
		return ""
	}
	return p.path(s)
}

// seen is how flagd sees a source, where it reads nothing else; nil of no file.
func (f *FlagdFile) seen() *FlagdFile {
	if f == nil {
		return nil
	}
	v := &FlagdFile{Path: f.Path}
	if f.Overlay != "" {
		v.Later = []string{f.Overlay}
	}
	return v
}

// verify returns a verifier for every source: the file itself where none is written, and an
// empty one for servers.
func (p *parser) verify(v strictyaml.Value, sources map[string]FlagSource) map[string]Verifier {
	out := map[string]Verifier{}
	for name, s := range sources {
		out[name] = Verifier{FlagdFile: s.FlagdFile.seen(), FlagdCRD: s.FlagdCRD, ConfigMap: s.ConfigMap}
	}
	m, _ := v.Map()
	for _, e := range m.Entries() {
		if _, ok := sources[e.Key()]; !ok {
			e.FailKey(fmt.Sprintf("no flag source %q", e.Key()), strictyaml.DidYouMean(e.Key(), slices.Sorted(maps.Keys(sources))))
		}
		s, ok := e.Map()
		if !ok {
			continue
		}
		delete(p.unproved, e.Key())
		file, ofrep, unleash := s.Get("flagd_file"), s.Get("ofrep"), s.Get("unleash")
		s.Close()
		switch {
		case file.Given() && ofrep.Given():
			ofrep.FailKey("two ways to verify one source", "keep the one that the application uses")
		case unleash.Given() && (file.Given() || ofrep.Given()):
			unleash.FailKey("two ways to verify one source", "keep the one that the application uses")
		case unleash.Given():
			if source, ok := sources[e.Key()]; ok && source.Unleash == nil {
				unleash.FailKey("only a flag source unleash is verified by unleash: what is absent there is off only if the source says so", "write {ofrep: {url: http://localhost:8016}}")
			}
			out[e.Key()] = Verifier{Unleash: p.unleashFrontend(unleash)}
		case file.Given():
			if source := sources[e.Key()]; source.GoffFile != nil {
				file.FailKey("flagd does not read files of GO Feature Flag as that does", "write {ofrep: {url: http://localhost:1031}}, the relay proxy")
			}
			if f, ok := file.Map(); ok {
				v := &FlagdFile{Path: p.filePath(f)}
				later, _ := f.Get("later").Texts()
				for _, s := range later {
					v.Later = append(v.Later, p.path(s))
				}
				out[e.Key()] = Verifier{FlagdFile: v}
				f.Close()
			}
		case ofrep.Given():
			if o, ok := ofrep.Map(); ok {
				out[e.Key()] = Verifier{OFREP: p.ofrep(o)}
				o.Close()
			}
		default:
			s.Fail("no way to verify", "write {flagd_file: {path: flags.json}} or {ofrep: {url: http://localhost:8016}}")
		}
	}
	for _, e := range p.unproved {
		e.FailKey("a webhook says only that it was called, so its flags need a way to verify", fmt.Sprintf("write verify: {%s: {ofrep: {url: http://localhost:8016}}}", e.Key()))
	}
	return out
}

func (p *parser) ofrep(m *strictyaml.Map) *OFREP {
	o := &OFREP{URL: p.url(m.Need("url", "write url: http://localhost:8016")), Token: p.secret(m, "token", false)}
	if header := m.Get("header"); header.Given() {
		name, ok := header.Text()
		switch {
		case ok && !headerName.MatchString(name):
			header.FailKey("header is no name of an HTTP header", "write header: X-API-Key; the token belongs into token_file")
		case ok && o.Token == Secret{}:
			header.FailKey("a header without a token", "write token_file: PATH beside it")
		default:
			o.Header = name
		}
	}
	return o
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

func (p *parser) journal(v strictyaml.Value, j *Journal) {
	if refuseDSN(v) {
		return
	}
	m, ok := v.Map()
	if !ok {
		return
	}
	defer m.Close()
	m.Refuse("keep", "pruning the journal is not built yet", "leave it out; everything is kept")
	file, server := m.Get("sqlite"), m.Get("postgres")
	if file.Given() && server.Given() {
		server.FailKey("two journals", "keep one of sqlite and postgres")
		return
	}
	if s, ok := file.Text(); ok && !refuseDSN(file) {
		j.SQLite = s
	}
	j.Postgres = postgres(server)
}

// dsnRemedy is what to write instead of a DSN.
const dsnRemedy = "write {postgres: {dsn_file: FILE}}, a file with the DSN, or {postgres: {dsn_env: VARIABLE}}"

// refuseDSN records a mistake if v is a DSN, and does not repeat it: it may hold a password.
func refuseDSN(v strictyaml.Value) bool {
	if !v.Given() || !strings.Contains(v.Source(), "://") && !strings.Contains(v.Source(), "password=") {
		return false
	}
	v.FailKey(v.Key()+" is a DSN, which may hold a password and does not belong into this file", dsnRemedy)
	return true
}

// postgres reads where a DSN is.
func postgres(v strictyaml.Value) *Postgres {
	if refuseDSN(v) {
		return nil
	}
	m, ok := v.Map()
	if !ok {
		return nil
	}
	defer m.Close()
	if m.Refuse("dsn", "a DSN may hold a password and does not belong into this file", dsnRemedy) {
		return nil
	}
	file, variable := m.Get("dsn_file"), m.Get("dsn_env")
	switch {
	case refuseDSN(file) || refuseDSN(variable):
		return nil
	case file.Given() == variable.Given():
		m.Fail("the DSN is not named in exactly one way", dsnRemedy)
		return nil
	case file.Given():
		path, ok := file.Text()
		if !ok {
			return nil
		}
		return &Postgres{DSNFile: path}
	}
	name, ok := variable.Text()
	if !ok {
		return nil
	}
	return &Postgres{DSNEnv: name}
}

func (p *parser) limits(v strictyaml.Value, l *Limits) {
	m, ok := v.Map()
	if !ok {
		return
	}
	defer m.Close()
	if n, ok := m.Get("actions_per_hour").Int(0, 1000); ok {
		l.ActionsPerHour = n
	}
	if n, ok := m.Get("actions_per_day").Int(0, 1000); ok {
		l.ActionsPerDay = n
	}
	if d, ok := m.Get("cooldown").Duration(); ok {
		l.Cooldown = d
	}
	if s, ok := m.Get("stop_file").AnyText(); ok {
		l.StopFile = s
	}
	if marks := m.Get("critical"); marks.Given() {
		if list, ok := marks.Texts(); ok {
			l.Critical = list
		}
	}
	if d, ok := m.Get("remind_after").Duration(); ok {
		l.RemindAfter = d
	}
}

func (p *parser) approval(v strictyaml.Value, a *Approval) {
	m, ok := v.Map()
	if !ok {
		return
	}
	defer m.Close()
	a.Required, _ = m.Get("required").Bool()
	if s, ok := m.Get("plans").Text(); ok {
		a.Plans = s
	}
	if d, ok := m.Get("valid").Duration(); ok {
		a.Valid = d
		if d <= 0 {
			m.Get("valid").Fail("a plan that is valid for no time", "write valid: 1h")
		}
	}
}

func (p *parser) links(v strictyaml.Value, l *Links) {
	m, ok := v.Map()
	if !ok {
		return
	}
	defer m.Close()
	l.Prometheus = p.url(m.Get("prometheus"))
	l.Grafana = p.url(m.Get("grafana"))
}

// unbuilt refuses settings whose features are not there: a setting that does nothing would
// be believed.
func (p *parser) unbuilt(m *strictyaml.Map) {
	notify := m.Get("notify")
	if items, ok := notify.Items(); ok && len(items) > 0 {
		notify.FailKey("notifications are not built yet", "leave notify out; the exit code and -o json can be sent by what runs the check")
	}
}

func (p *parser) web(v strictyaml.Value, w *Web) {
	m, ok := v.Map()
	if !ok {
		return
	}
	defer m.Close()
	listen := m.Get("listen")
	if s, ok := listen.Text(); ok {
		if _, _, err := net.SplitHostPort(s); err != nil {
			listen.Fail(fmt.Sprintf("listen %q is no address", s), "write it like 127.0.0.1:9465")
		}
		w.Listen = s
	}
	if s, ok := m.Get("config_file").AnyText(); ok && s != "" {
		w.ConfigFile = p.path(s)
	}
}
