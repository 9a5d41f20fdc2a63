// Package prom runs a real Prometheus inside the program: its database, scraper, query engine and
// HTTP API, on a free port of loopback. It knows nothing about the shop that it scrapes.
package prom

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"
)

// Job and Instance are the labels of the one target. They do not hold its port, so that
// samples of another run of the target belong to the same series.
const (
	Job      = "shop"
	Instance = "shop-1"
)

// blockSpan is longer than any demo lives, so that nothing is compacted to disk: the head then
// accepts samples of the last hours in time order, and takes all of them with it when it closes.
const blockSpan = 48 * time.Hour

// A Server is a running Prometheus.
type Server struct {
	URL string

	dir      string
	db       *tsdb.DB
	engine   *promql.Engine
	manager  *scrape.Manager
	targets  chan map[string][]*targetgroup.Group
	interval time.Duration
	http     *http.Server
	done     sync.WaitGroup
}

// Start starts a server on a free port of loopback. Its data lives in a temporary directory, which
// Close removes. interval is how often a target given to Scrape is scraped.
func Start(interval time.Duration) (s *Server, err error) {
	s = &Server{interval: interval, targets: make(chan map[string][]*targetgroup.Group)}
	if s.dir, err = os.MkdirTemp("", "driftwatch-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()

	log := promslog.NewNopLogger()
	options := tsdb.DefaultOptions()
	options.WALSegmentSize = -1 // what is lost in a crash was made up anyway
	options.MinBlockDuration = blockSpan.Milliseconds()
	options.MaxBlockDuration = blockSpan.Milliseconds()
	options.RetentionDuration = 2 * blockSpan.Milliseconds()
	if s.db, err = tsdb.Open(s.dir, log, nil, options, nil); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}

	registry := prometheus.NewRegistry()
	promParser := parser.NewParser(parser.Options{})
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger: log, Reg: registry, MaxSamples: 50_000_000, Timeout: 2 * time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return interval.Milliseconds() },
		Parser:                   promParser,
	})

	s.manager, err = scrape.NewManager(&scrape.Options{
		DiscoveryReloadOnStartup: true,
		DiscoveryReloadInterval:  model.Duration(100 * time.Millisecond),
	}, log, nil, s.db, nil, registry)
	if err != nil {
		return nil, fmt.Errorf("start the scraper: %w", err)
	}
	cfg, err := config.Load(fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}
scrape_configs: [{job_name: %[2]s}]
`, model.Duration(interval), Job), log)
	if err != nil {
		return nil, fmt.Errorf("configure the scraper: %w", err)
	}
	if err = s.manager.ApplyConfig(cfg); err != nil {
		return nil, fmt.Errorf("configure the scraper: %w", err)
	}
	s.done.Go(func() { _ = s.manager.Run(s.targets) }) // returns nil when Stop is called

	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.URL = "http://" + listener.Addr().String()
	api := apiv1.NewAPI(s.engine, s.db, nil, nil, noExemplars{},
		func(context.Context) apiv1.ScrapePoolsRetriever { return s.manager },
		func(context.Context) apiv1.TargetRetriever { return s.manager },
		func(context.Context) apiv1.AlertmanagerRetriever { return noAlertmanagers{} },
		func() config.Config { return *cfg }, map[string]string{},
		apiv1.GlobalURLOptions{ListenAddress: listener.Addr().String(), Host: listener.Addr().String(), Scheme: "http"},
		func(h http.HandlerFunc) http.HandlerFunc { return h },
		admin{s.db}, s.dir, false, false, 0, log,
		func(context.Context) apiv1.RulesRetriever { return noRules{} },
		50_000_000, 10, 1<<20, false, regexp.MustCompile("^$"),
		func() (apiv1.RuntimeInfo, error) { return apiv1.RuntimeInfo{}, nil }, &apiv1.PrometheusVersion{},
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false },
		registry, registry, nil, false, nil, false, false, false, false,
		5*time.Minute, false, false, nil, features.NewRegistry(), apiv1.OpenAPIOptions{}, promParser)
	mux := route.New()
	mux.Get("/-/ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	api.Register(mux.WithPrefix("/api/v1"))
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.done.Go(func() { _ = s.http.Serve(listener) }) // returns ErrServerClosed when Close is called
	return s, nil
}

// Scrape begins to scrape the metrics page at address, "host:port", under Job and Instance.
func (s *Server) Scrape(address string) {
	s.targets <- map[string][]*targetgroup.Group{Job: {{
		Source:  "demo",
		Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(address), model.InstanceLabel: Instance}},
	}}}
}

// Appender appends to the database; samples must come in the order of time.
func (s *Server) Appender(ctx context.Context) storage.Appender { return s.db.Appender(ctx) }

// Query evaluates a PromQL expression at an instant. A scalar comes back as one sample.
func (s *Server) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	q, err := s.engine.NewInstantQuery(ctx, s.db, nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, result.Err)
	}
	vector, err := result.Vector()
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	// The engine takes the vector back when the query is closed.
	return append(promql.Vector(nil), vector...), nil
}

// Series returns how many series the database holds.
func (s *Server) Series() uint64 { return s.db.Head().NumSeries() }

// Close stops the scraper and the API and removes the data. It may be called once.
func (s *Server) Close() error {
	var errs []error
	if s.manager != nil {
		s.manager.Stop()
	}
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	s.done.Wait()
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	errs = append(errs, os.RemoveAll(s.dir))
	return errors.Join(errs...)
}

// admin is what the API shows of the database.
type admin struct{ *tsdb.DB }

func (a admin) Stats(label string, limit int) (*tsdb.Stats, error) {
	return a.Head().Stats(label, limit), nil
}

func (a admin) WALReplayStatus() (tsdb.WALReplayStatus, error) { return tsdb.WALReplayStatus{}, nil }

func (a admin) BlockMetas() ([]tsdb.BlockMeta, error) { return a.DB.BlockMetas(), nil }

// noRules, noAlertmanagers and noExemplars answer for the parts of Prometheus that the demo does without.
type noRules struct{}

func (noRules) RuleGroups() []*rules.Group           { return nil }
func (noRules) AlertingRules() []*rules.AlertingRule { return nil }

type noAlertmanagers struct{}

func (noAlertmanagers) Alertmanagers() []*url.URL        { return nil }
func (noAlertmanagers) DroppedAlertmanagers() []*url.URL { return nil }

type noExemplars struct{}

func (noExemplars) ExemplarQuerier(context.Context) (storage.ExemplarQuerier, error) {
	return nil, errors.New("exemplars are not kept")
}
