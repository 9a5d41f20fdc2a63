package shop

import (
	"context"
	"sync/atomic"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/driftwatch/driftwatch/demo/internal/model"
)

// metrics are the shop's, named after the semantic conventions of OpenTelemetry where those have
// a name.
type metrics struct {
	registry    *prometheus.Registry
	seconds     *prometheus.HistogramVec
	calls       *prometheus.CounterVec
	retries     *prometheus.CounterVec
	evaluations *prometheus.CounterVec
}

func newMetrics(version *atomic.Value) *metrics {
	endpoint := []string{"method", "route"}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_server_request_duration_seconds", Help: "Time to answer a request.", Buckets: model.Bounds,
		}, endpoint),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_client_requests_total", Help: "Requests to the third party, retries not counted.",
		}, endpoint),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_client_request_retries_total", Help: "Further attempts at requests to the third party.",
		}, endpoint),
		evaluations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "feature_flag_evaluations_total", Help: "Evaluations of feature flags, by the variant that they gave.",
		}, []string{"feature_flag_key", "feature_flag_result_variant"}),
	}
	m.registry.MustRegister(m.seconds, m.calls, m.retries, m.evaluations, &buildInfo{version: version})
	return m
}

// endpointMetrics are those of one endpoint. Making them puts their series on the metrics page.
type endpointMetrics struct {
	seconds        prometheus.Observer
	calls, retries prometheus.Counter
}

func (m *metrics) of(e model.Endpoint) endpointMetrics {
	return endpointMetrics{
		seconds: m.seconds.WithLabelValues(e.Method, e.Route),
		calls:   m.calls.WithLabelValues(e.Method, e.Route),
		retries: m.retries.WithLabelValues(e.Method, e.Route),
	}
}

// buildInfo shows the version of the moment, and never two or none.
type buildInfo struct{ version *atomic.Value }

func (b *buildInfo) desc() *prometheus.Desc {
	return prometheus.NewDesc("build_info", "The version that runs.", []string{"version"}, nil)
}

// Describe and Collect implement prometheus.Collector.
func (b *buildInfo) Describe(c chan<- *prometheus.Desc) { c <- b.desc() }

func (b *buildInfo) Collect(c chan<- prometheus.Metric) {
	c <- prometheus.MustNewConstMetric(b.desc(), prometheus.GaugeValue, 1, b.version.Load().(string))
}

// evaluations counts what flags evaluate to, where the application evaluates them.
type evaluations struct {
	openfeature.UnimplementedHook
	counter *prometheus.CounterVec
}

// Finally implements openfeature.Hook.
func (e evaluations) Finally(_ context.Context, h openfeature.HookContext, d openfeature.InterfaceEvaluationDetails, _ openfeature.HookHints) {
	e.counter.WithLabelValues(h.FlagKey(), d.Variant).Inc()
}
