package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/driftwatch/driftwatch/internal/config"
	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/suggest"
)

// defaultConfig is read when it is there and --config is not given.
const defaultConfig = "driftwatch.yaml"

// A world is where everything is: the options that several commands share, and what they
// lead to.
type world struct {
	configPath  string
	rulePaths   []string
	prometheus  string
	service     string
	journalPath string

	config *config.Config
	rules  []*rule.Rule
}

func (w *world) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	w.configFlag(f)
	w.journalFlag(f)
	f.StringArrayVar(&w.rulePaths, "rules", nil, "a rule `FILE|DIR`; repeatable; default: rules of the configuration, or rules/*.yaml")
	f.StringVar(&w.prometheus, "prometheus", "", "the `URL` of Prometheus; default: prometheus.url of the configuration")
}

// journalFlags are the options of commands that only read the journal.
func (w *world) journalFlags(cmd *cobra.Command) {
	w.configFlag(cmd.Flags())
	w.journalFlag(cmd.Flags())
}

func (w *world) configFlag(f *pflag.FlagSet) {
	f.StringVar(&w.configPath, "config", "", "the configuration `FILE`; default: driftwatch.yaml if it is there")
}

func (w *world) journalFlag(f *pflag.FlagSet) {
	f.StringVar(&w.journalPath, "journal", "", "the journal: an SQLite file, or postgres://user@host/database without a password (`FILE|DSN`); default: journal of the configuration, or driftwatch.db")
}

// loadConfig reads the configuration, or takes the defaults where no file is named and none
// is there.
func (w *world) loadConfig() error {
	if w.config != nil {
		return nil
	}
	path := w.configPath
	if path == "" {
		path = defaultConfig
	}
	c, err := config.Load(path)
	if w.configPath == "" && errors.Is(err, fs.ErrNotExist) {
		c, err = config.Default(), nil
	}
	if err != nil {
		return mistakes(err)
	}
	w.config = c
	return nil
}

// mistakes puts the code before the mistakes of a rule or a configuration.
func mistakes(err error) error {
	return &exitError{exitUsage, errors.New(report.Mistakes(strings.Split(err.Error(), "\n")).String())}
}

// load reads configuration and rules.
func (w *world) load() error {
	if err := w.loadConfig(); err != nil {
		return err
	}
	paths := w.rulePaths
	if len(paths) == 0 {
		paths = w.config.Rules
	}
	rules, err := rule.Load(paths)
	if err != nil {
		return mistakes(err)
	}
	w.rules = rules
	return nil
}

// rule is the one rule that is meant: that of --service, or the only one.
func (w *world) rule() (*rule.Rule, error) {
	var names []string
	var found []*rule.Rule
	for _, r := range w.rules {
		names = append(names, r.Service)
		if w.service == "" || r.Service == w.service {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && w.service != "":
		return nil, usage("no rule is for the service %q; there are %s", w.service, strings.Join(names, ", "))
	case len(found) == 0:
		return nil, usage("no rule found; give --rules FILE")
	case w.service == "":
		return nil, usage("the rules are for %d services; give --service, one of %s", len(found), strings.Join(names, ", "))
	}
	return nil, usage("%d rules are for the service %q (%s and %s); give --rules with one of them", len(found), w.service, found[0].Path, found[1].Path)
}

// client connects to Prometheus; nothing is sent yet.
func (w *world) client() (*query.Client, error) {
	c := w.config.Prometheus
	if w.prometheus != "" {
		c.URL = w.prometheus
	}
	if c.URL == "" {
		return nil, usage("no Prometheus is named; give --prometheus, DRIFTWATCH_PROMETHEUS or prometheus.url in %s", defaultConfig)
	}
	transport, err := promconfig.NewRoundTripperFromConfig(c.HTTP, "driftwatch")
	if err != nil {
		return nil, usage("prometheus.http: %v", err)
	}
	client, err := query.New(query.Options{
		Address: c.URL, Transport: transport, Mode: query.Mode(c.Read),
		Concurrency: c.Concurrency, MaxSamples: int64(c.MaxSamples),
	})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return client, nil
}

// named reports whether the configuration names a flag source.
func (w *world) named(source string) bool {
	_, ok := w.config.FlagSources[source]
	return ok
}

// source opens the flag source of a name.
func (w *world) source(name string) (flags.Switch, error) {
	s, ok := w.config.FlagSources[name]
	if !ok {
		return nil, usage("the configuration names no flag source %q; add it under flag_sources", name)
	}
	switch {
	case s.Unleash != nil:
		return unleash(s.Unleash), nil
	case s.LaunchDarkly != nil:
		l := s.LaunchDarkly
		return flags.NewLaunchDarkly(l.URL, l.Project, l.Environment, flags.Secret(l.Token), l.RequestApproval, http.DefaultClient), nil
	case s.Webhook != nil:
		view, err := w.prover(name)
		if err != nil {
			return nil, err
		}
		h := s.Webhook
		return flags.NewWebhook(h.URL, h.StateURL, flags.Secret(h.Secret), view, h.Variants, http.DefaultClient), nil
	case s.FlagdCRD != nil, s.ConfigMap != nil:
		return kubernetesSource(name, s.FlagdCRD, s.ConfigMap)
	}
	if g := s.GoffFile; g != nil {
		return goffFile(g), nil
	}
	if f := s.FlagdFile; f.Overlay != "" {
		return flags.NewFlagdOverlay(name, f.Path, f.Overlay), nil
	}
	return flags.NewFlagdFile(name, s.FlagdFile.Path), nil
}

// kubernetesSource opens a FeatureFlag resource or a ConfigMap, one of which is nil; nothing is
// sent yet.
func kubernetesSource(name string, flag *config.KubernetesObject, m *config.ConfigMap) (*flags.Kubernetes, error) {
	o := flag
	if m != nil {
		o = &m.KubernetesObject
	}
	object := flags.KubernetesObject{Namespace: o.Namespace, Name: o.Name, OverwriteManaged: o.OverwriteManaged}
	var err error
	if s := o.Server; s != nil {
		object.Server = flags.KubernetesServer{Address: s.Address, TokenFile: s.TokenFile, CAFile: s.CAFile}
	} else if object.Server, err = flags.InCluster(os.Getenv); err != nil {
		return nil, usage("flag source %s: %v", name, err)
	}
	var k *flags.Kubernetes
	if m != nil {
		k, err = flags.NewConfigMap(object, m.Key)
	} else {
		k, err = flags.NewFeatureFlag(object)
	}
	if err != nil {
		return nil, usage("flag source %s: %v", name, err)
	}
	return k, nil
}

func goffFile(g *config.GoffFile) *flags.GoffFile {
	if g.Refresh == nil {
		return flags.NewGoffFile(g.Path, "", flags.Secret{}, http.DefaultClient)
	}
	return flags.NewGoffFile(g.Path, g.Refresh.URL, flags.Secret(g.Refresh.Key), http.DefaultClient)
}

func unleash(u *config.Unleash) *flags.Unleash {
	return flags.NewUnleash(u.URL, u.Project, u.Environment, flags.Secret(u.Token), http.DefaultClient)
}

// prover looks at the flags of a source as the application does.
func (w *world) prover(name string) (flags.Prover, error) {
	v, ok := w.config.Verify[name]
	if !ok {
		return nil, usage("the configuration names no flag source %q; add it under flag_sources", name)
	}
	switch {
	case v.OFREP != nil:
		return flags.NewOFREPProver(v.OFREP.URL, flags.Secret(v.OFREP.Token), v.OFREP.Header, http.DefaultClient), nil
	case v.Unleash != nil:
		return flags.NewUnleashProver(unleash(w.config.FlagSources[name].Unleash), v.Unleash.URL, flags.Secret(v.Unleash.Token), http.DefaultClient), nil
	case v.FlagdFile != nil:
		return flags.NewFileProver(v.FlagdFile.Path, v.FlagdFile.Later...), nil
	case v.FlagdCRD != nil, v.ConfigMap != nil:
		k, err := kubernetesSource(name, v.FlagdCRD, v.ConfigMap)
		if err != nil {
			return nil, err
		}
		return flags.NewObjectProver(k), nil
	}
	return flags.Blind{}, nil
}

// namedJournal reports whether somebody chose the journal, so that one that cannot be opened
// is a mistake and not bad luck.
func (w *world) namedJournal() bool {
	usual := filepath.Join(filepath.Dir(w.config.Path), config.Default().Journal.SQLite)
	return w.journalPath != "" || w.config.Journal.Postgres != nil || w.config.Journal.SQLite != usual
}

// journalFile is the path of the journal, "" where it is in a database. The configuration has
// been read.
func (w *world) journalFile() string {
	switch {
	case isDSN(w.journalPath) || w.journalPath == "" && w.config.Journal.Postgres != nil:
		return ""
	case w.journalPath != "":
		return w.journalPath
	}
	return w.config.Journal.SQLite
}

func (w *world) openJournal(ctx context.Context) (*journal.Journal, error) {
	if err := w.loadConfig(); err != nil {
		return nil, err
	}
	j, err := w.connect(ctx)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return j, nil
}

// connect opens the journal, in a file or a database.
func (w *world) connect(ctx context.Context) (*journal.Journal, error) {
	if path := w.journalFile(); path != "" {
		return journal.Open(ctx, path)
	}
	dsn := w.journalPath
	err := checkDSN(dsn)
	if dsn == "" {
		dsn, err = w.config.Journal.Postgres.DSN(os.LookupEnv)
	}
	if err != nil {
		return nil, err
	}
	return journal.OpenPostgres(ctx, dsn)
}

// isDSN reports whether --journal names a database and no file.
func isDSN(s string) bool {
	return strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") || strings.Contains(s, "password=")
}

// checkDSN refuses an address with a password, which everybody on the machine could read in the
// list of processes. The message does not repeat it.
func checkDSN(s string) error {
	const instead = "write postgres://user@host:5432/database and give the password by PGPASSFILE, PGPASSWORD or journal.postgres.dsn_file of the configuration"
	u, err := url.Parse(s)
	found := strings.Contains(s, "password=") // sslpassword, too
	if err == nil && !found {
		_, found = u.User.Password()
	}
	switch {
	case found:
		return errors.New("--journal holds a password; " + instead)
	case err != nil:
		return errors.New("--journal is an address that is not understood; " + instead)
	}
	return nil
}

// noSuchFlag says that no rule names a flag, and which one was probably meant.
func noSuchFlag(key string, known []string) error {
	found := "the rules name no flag"
	if len(known) > 0 {
		found = "the rules name " + strings.Join(known, ", ")
	}
	if near, ok := suggest.Closest(key, known); ok {
		found += fmt.Sprintf("; did you mean %q?", near)
	}
	return &exitError{exitUsage, errors.New(report.NoSuchFlag(key, "", found).String())}
}
