package rule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	promql "github.com/prometheus/prometheus/promql/parser"

	"github.com/driftwatch/driftwatch/internal/strictyaml"
)

func (p *parser) signalList(v strictyaml.Value) []Signal {
	items, ok := v.Items()
	if !ok {
		return nil
	}
	if len(items) == 0 {
		v.Fail("signals is an empty list", "name at least one histogram, ratio or gauge")
	}
	var out []Signal
	for _, item := range items {
		out = append(out, p.signal(item))
	}
	return out
}

func (p *parser) signal(v strictyaml.Value) Signal {
	s := Signal{Direction: Up, Line: v.Line(), Column: v.Column()}
	m, ok := v.Map()
	if !ok {
		return s
	}
	defer m.Close()
	name := m.Need("name", "give the signal a short name: name: latency")
	if text, ok := name.Text(); ok {
		if slices.Contains(p.signals, text) {
			name.Fail(fmt.Sprintf("two signals are called %q", text), "give one another name")
		}
		s.Name = text
		p.signals = append(p.signals, text)
	}
	p.kind(m, &s)
	s.Quantile = p.quantile(m.Get("quantile"), s.Kind)
	s.Select = p.matchers(m.Get("select"))
	if d, ok := m.Get("direction").Choice(string(Up), string(Down), string(Both)); ok {
		s.Direction = Direction(d)
	}
	s.Unit = p.unit(m.Get("unit"), s)
	effect := m.Get("minimum_effect")
	s.MinimumEffectAuto = !effect.Given() || effect.Source() == "auto"
	if !s.MinimumEffectAuto {
		s.MinimumEffect, _ = effect.Fraction()
	}
	s.MinimumChange = p.minimumChange(m.Get("minimum_change"), s)
	return s
}

// kind reads the one of histogram, ratio and gauge that is there.
func (p *parser) kind(m *strictyaml.Map, s *Signal) {
	histogram, ratio, gauge := m.Get("histogram"), m.Get("ratio"), m.Get("gauge")
	var given []strictyaml.Value
	for _, v := range []strictyaml.Value{histogram, ratio, gauge} {
		if v.Given() {
			given = append(given, v)
		}
	}
	if len(given) == 0 {
		m.Fail("the signal has no histogram, ratio or gauge", "add one, such as histogram: http_server_request_duration_seconds")
		return
	}
	for _, v := range given[1:] {
		v.FailKey(fmt.Sprintf("the signal has a %s and a %s", given[0].Key(), v.Key()), "make two signals of them")
	}
	s.Kind = Kind(given[0].Key())
	s.Line, s.Column = given[0].Line(), given[0].Column()
	switch s.Kind {
	case Histogram:
		s.Metric = p.histogram(histogram)
	case Gauge:
		s.Metric = p.metric(gauge)
	case Ratio:
		r, ok := ratio.Map()
		if !ok {
			return
		}
		defer r.Close()
		of, per := r.Need("of", "name the counter of events, such as retries"), r.Need("per", "name the counter of trials, such as requests")
		s.Metric, s.Per = p.metric(of), p.metric(per)
		if of.Given() {
			s.Line, s.Column = of.Line(), of.Column()
		}
		if s.Metric != "" && s.Metric == s.Per {
			per.Fail(fmt.Sprintf("the ratio of %s to itself is always 1", s.Per), "name the counter of trials")
		}
	}
}

// parts are the series of a classic histogram beside each other.
var parts = []string{"_bucket", "_count", "_sum"}

// notSeconds are the endings of histograms that count in another unit.
var notSeconds = regexp.MustCompile(`_(milliseconds|millis|ms|microseconds|micros|us|nanoseconds|nanos|ns|minutes|bytes)$`)

func (p *parser) histogram(v strictyaml.Value) string {
	s := p.metric(v)
	for _, part := range parts {
		if base, ok := strings.CutSuffix(s, part); ok {
			v.Fail(fmt.Sprintf("histogram %s names one part of a histogram", s), "write "+base)
			return base
		}
	}
	if unit := notSeconds.FindString(s); unit != "" {
		v.Fail(fmt.Sprintf("histogram %s is in %s, and histograms are read as seconds", s, unit[1:]), "name one in seconds, or record it in seconds")
	}
	return s
}

func (p *parser) metric(v strictyaml.Value) string {
	s, ok := v.Text()
	if !ok || model.LegacyValidation.IsValidMetricName(s) {
		return s
	}
	reason := fmt.Sprintf("%s %q is not a metric name", v.Key(), s)
	switch {
	case strings.ContainsAny(s, "(["):
		v.Fail(reason, "record the expression with a recording rule and name that")
	case strings.Contains(s, "{"):
		v.Fail(reason, "put the matchers into select")
	default:
		v.Fail(reason, "use letters, digits, _ and :, no digit first")
	}
	return s
}

func (p *parser) quantile(v strictyaml.Value, kind Kind) float64 {
	if !v.Given() {
		if kind == Histogram {
			return 0.99
		}
		return 0
	}
	if kind != Histogram && kind != "" {
		remedy := "leave it out"
		if kind == Gauge {
			remedy = `leave it out; of a summary take one by select: '{quantile="0.99"}'`
		}
		v.FailKey(fmt.Sprintf("quantile is of a histogram, and this is a %s", kind), remedy)
		return 0
	}
	x, ok := v.Float()
	switch {
	case !ok:
		return 0
	case x > 1 && x < 100:
		v.Fail(fmt.Sprintf("quantile %s is not between 0 and 1", v.Source()), "write "+number(x/100))
	case x <= 0 || x >= 1:
		v.Fail(fmt.Sprintf("quantile %s is not between 0 and 1", v.Source()), "0.99 has 1 % of the requests beyond it")
	}
	return x
}

// unit is the unit of the signal's values.
func (p *parser) unit(v strictyaml.Value, s Signal) string {
	text, ok := v.Text()
	if ok && s.Kind != Gauge && s.Kind != "" {
		v.FailKey(fmt.Sprintf("unit is of a gauge, and this is a %s", s.Kind), "leave it out")
	}
	switch {
	case s.Kind == Histogram:
		return "s"
	case s.Kind == Ratio:
		return "1"
	case ok:
		return text
	case strings.Contains(s.Metric, "_seconds"):
		return "s"
	}
	return "1"
}

// minimumChange is in the unit of the signal.
func (p *parser) minimumChange(v strictyaml.Value, s Signal) float64 {
	if !v.Given() {
		return 0
	}
	percent := strings.HasSuffix(v.Source(), "%")
	switch {
	case s.Kind == "":
		return 0 // kind has said what is wrong
	case s.Kind == Ratio:
		x, _ := v.Fraction()
		return x
	case percent:
		v.Fail(fmt.Sprintf("minimum_change %s of a %s is absolute, in %s", v.Source(), s.Kind, s.Unit), "write minimum_effect: "+v.Source()+" for a relative one")
		return 0
	case s.Kind == Gauge && !p.looksLikeTime(v):
		x, ok := v.Float()
		if ok && x < 0 {
			v.Fail(fmt.Sprintf("minimum_change %s is negative", v.Source()), "")
		}
		return x
	case s.Kind == Gauge && s.Unit != "s":
		v.Fail(fmt.Sprintf("minimum_change %s is a time, and the unit of the signal is %s", v.Source(), s.Unit), "write a plain number, or unit: s")
		return 0
	}
	d, _ := v.Duration()
	return d.Seconds()
}

func (p *parser) looksLikeTime(v strictyaml.Value) bool {
	if _, err := strconv.ParseFloat(v.Source(), 64); err == nil {
		return false
	}
	_, err := model.ParseDuration(v.Source())
	return err == nil
}

// matchers returns PromQL matchers in braces.
func (p *parser) matchers(v strictyaml.Value) string {
	s, ok := v.Text()
	if !ok {
		return ""
	}
	if !strings.HasPrefix(strings.TrimSpace(s), "{") {
		v.Fail(fmt.Sprintf("select %s is not in braces", v.Shown()), `write it like '{service="checkout-api"}'; metrics are named by the signals`)
		return ""
	}
	found, err := promql.NewParser(promql.Options{}).ParseMetricSelector(s)
	if err != nil {
		offset, reason := promqlError(err)
		v.FailAt(offset, "select is not PromQL: "+reason, `write it like '{service="checkout-api"}'`)
		return ""
	}
	for _, m := range found {
		if m.Name == model.MetricNameLabel {
			v.Fail("select names a metric", "metrics are named by the signals")
			return ""
		}
	}
	return s
}

// exposure returns a PromQL expression that gives numbers.
func (p *parser) exposure(v strictyaml.Value) string {
	s, ok := v.Text()
	if !ok {
		return ""
	}
	expr, err := promql.NewParser(promql.Options{}).ParseExpr(s)
	if err != nil {
		offset, reason := promqlError(err)
		v.FailAt(offset, "exposure is not PromQL: "+reason, "")
		return ""
	}
	if t := expr.Type(); t != promql.ValueTypeVector && t != promql.ValueTypeScalar {
		v.Fail(fmt.Sprintf("exposure is %s, not one number", promql.DocumentedType(t)), "take a rate and sum it")
		return ""
	}
	return s
}

// promqlError returns where (index in bytes, -1 = unknown) and what the first mistake is.
func promqlError(err error) (int, string) {
	if all, ok := errors.AsType[promql.ParseErrors](err); ok && len(all) > 0 {
		return int(all[0].PositionRange.Start), all[0].Err.Error()
	}
	return -1, err.Error()
}

// number is x without the noise of binary fractions: 0.999, not 0.9990000000000001.
func number(x float64) string { return strconv.FormatFloat(x, 'g', 12, 64) }

// span is a duration as Prometheus writes it.
func span(d time.Duration) string { return model.Duration(d).String() }
