package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/query"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// picturesWithin bounds the reading of pictures: by then everything is decided and done, and
// whoever waits for the answer waits for decoration.
const picturesWithin = time.Minute

// fewStretches is how many stretches of history a band is drawn from at least: the middle 95 %
// of fewer would be their extremes.
const fewStretches = 40

// pictures reads what the report draws of the rows that regressed or may have. It judges
// nothing and fails nothing: what cannot be read is noted in the pictures.
func (s *session) pictures(ctx context.Context) *report.Pictures {
	drawn, left := pictured(s.judged.Rows)
	grid := s.columns()
	if len(drawn) == 0 || grid.Len <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, picturesWithin)
	defer cancel()
	p := &report.Pictures{
		Start: report.At(grid.Start(grid.First)), StepS: grid.Step.Seconds(), Columns: grid.Len, Left: left,
		Rows: []report.Picture{}, Exposure: []report.ExposurePicture{},
	}
	note := func(what string, why any) { p.Notes = append(p.Notes, fmt.Sprintf("%s: %v", what, why)) }
	plan, err := s.plan(grid, telemetry.Window{}, s.now)
	if err != nil {
		note("pictures", err)
		return p
	}
	plan.Steps = slices.DeleteFunc(plan.Steps, func(r query.Read) bool { return s.in.Unread[r.Signal] != "" })
	for i := range plan.Steps {
		plan.Steps[i].Matchers = slices.Concat(plan.Steps[i].Matchers, query.EndpointMatchers(s.Rule.Endpoint, drawn))
	}
	begun := s.Clock()
	defer func() { s.in.Stats.QueryS += s.Clock().Sub(begun).Seconds() }()
	results, err := s.Query.Fetch(ctx, plan.Steps...)
	s.in.Stats.Queries += len(plan.Steps)
	if err != nil {
		note("the steps of the drawn endpoints", reason(err))
	}
	void := map[int]bool{}
	for _, r := range results {
		s.in.Stats.Samples += r.Samples
		s.in.Stats.Bytes += r.Bytes
		if len(r.Warnings) > 0 {
			void[r.Read.Signal] = true
			note(s.Rule.Signals[r.Read.Signal].Name, strings.Join(r.Warnings, "; "))
		}
	}
	for _, e := range drawn {
		for signal := range s.Rule.Signals {
			if row, ok := s.picture(e, signal, results, grid.Step); ok && !void[signal] {
				p.Rows = append(p.Rows, row)
			}
		}
	}
	for _, f := range s.picturedFlags(drawn) {
		// The expression is evaluated at the end of every column, as the check itself does.
		values, cost, err := s.Query.Series(ctx, f.Exposure, grid.Start(grid.First+1), grid.Step, grid.Len)
		s.in.Stats.Queries++
		s.in.Stats.Samples += cost.Samples
		s.in.Stats.Bytes += cost.Bytes
		switch {
		case err != nil:
			note("exposure of "+f.Key, reason(err))
		case len(cost.Warnings) > 0:
			note("exposure of "+f.Key, strings.Join(cost.Warnings, "; "))
		default:
			p.Exposure = append(p.Exposure, report.ExposurePicture{Flag: f.Key, Expr: f.Exposure, Values: finiteValues(values)})
		}
	}
	return p
}

// pictured are the endpoints that are drawn, the worst first, and how many more would be:
// regressed (what was acted on is) or suspected.
func pictured(rows []detect.Row) (drawn []telemetry.Endpoint, left int) {
	seen := map[telemetry.Endpoint]bool{}
	for _, wanted := range []func(detect.Row) bool{
		func(r detect.Row) bool { return r.Verdict == detect.Regressed },
		func(r detect.Row) bool { return r.Suspected },
	} {
		for _, row := range rows {
			if !wanted(row) || seen[row.Endpoint] {
				continue
			}
			seen[row.Endpoint] = true
			if len(drawn) == report.MaxPictureEndpoints {
				left++
				continue
			}
			drawn = append(drawn, row.Endpoint)
		}
	}
	return drawn, left
}

// columns are baseline and all complete steps since, in columns of whole steps.
func (s *session) columns() telemetry.Grid {
	if s.upgrade == nil || s.upgrade.At.IsZero() || s.in.Complete <= 0 {
		return telemetry.Grid{}
	}
	first, end := s.in.Geometry.BaselineStart(), s.in.Complete
	width := (end - first + report.MaxPictureColumns - 1) / report.MaxPictureColumns
	// A column must hold several scrapes, or every second one would be empty.
	step := s.Rule.Windows.Step
	for time.Duration(width)*step < 2*s.history.scrape {
		width++
	}
	floor := func(k int) int { return int(math.Floor(float64(k) / float64(width))) }
	from, to := floor(first), floor(end)
	return telemetry.Grid{Origin: s.upgrade.At, Step: time.Duration(width) * step, First: max(from, to-report.MaxPictureColumns), Len: min(to-from, report.MaxPictureColumns)}
}

// picture is one signal of one endpoint; false where nothing of it was read.
func (s *session) picture(e telemetry.Endpoint, signal int, results []query.Result, width time.Duration) (report.Picture, bool) {
	sig := s.Rule.Signals[signal]
	p := report.Picture{Signal: sig.Name, Kind: string(sig.Kind), Quantile: report.None()}
	for _, v := range e.Values() {
		p.Endpoint = append(p.Endpoint, strings.ToValidUTF8(v, "\uFFFD"))
	}
	rows := map[query.Part]*telemetry.CountRow{}
	for i := range results {
		if r := &results[i]; r.Read.Signal == signal {
			rows[r.Read.Part] = r.Counts.Row(e)
		}
	}
	metric := telemetry.Level
	switch sig.Kind {
	case rule.Histogram:
		row := rows[query.Steps]
		if row == nil || len(row.Bounds) < 2 {
			return p, false
		}
		p.Bounds, p.Values, p.Exponential = row.Bounds[:len(row.Bounds)-1], rounded(row.Steps), row.Exponential
		p.Quantile, p.Tail = report.Number(sig.Quantile), s.history.bounds[signal][e].Tail
		metric = telemetry.Tail
	case rule.Ratio:
		of, per := rows[query.Of], rows[query.Per]
		if per == nil {
			return p, false
		}
		events := make([]float64, len(per.Steps[0])) // no series of the events: there were none
		if of != nil {
			events = of.Steps[0]
		}
		p.Values = rounded([][]float64{events, per.Steps[0]})
		metric = telemetry.Retry
	case rule.Gauge:
		row := rows[query.Steps]
		if row == nil {
			return p, false
		}
		p.Values = rounded(row.Steps)
	}
	p.Bands = s.bands(key{e, signal, metric}, int(width/s.Rule.Windows.Step))
	p.Expr = s.expression(e, signal, width)
	return p, true
}

// rounded keeps what a picture can show: shares of an increment come from extrapolation.
func rounded(steps [][]float64) []telemetry.Values {
	out := make([]telemetry.Values, len(steps))
	for i, row := range steps {
		out[i] = make(telemetry.Values, len(row))
		for j, v := range row {
			out[i][j] = math.Round(v*1000) / 1000
			if math.IsInf(v, 0) {
				out[i][j] = math.NaN()
			}
		}
	}
	return out
}

func finiteValues(v telemetry.Values) telemetry.Values {
	out := slices.Clone(v)
	for i := range out {
		if math.IsInf(out[i], 0) {
			out[i] = math.NaN()
		}
	}
	return out
}

// bands are the range of a metric over stretches of the history before the baseline, earlier
// upgrades left out, for columns that are drawn one by one or several together. There is none
// where the history holds too few.
func (s *session) bands(k key, column int) []report.Band {
	t := s.trackOf(k)
	if t == nil || column <= 0 {
		return nil
	}
	var out []report.Band
	for _, columns := range report.Merges {
		if rates := s.stretches(t, columns*column); len(rates) >= fewStretches {
			cut := len(rates) / 40 // 2.5 % on either side
			out = append(out, report.Band{Columns: columns, Low: rates[cut], High: rates[len(rates)-1-cut], Stretches: len(rates)})
		}
	}
	return out
}

// stretches are the rates of a track in stretches of width steps before the baseline, ascending.
func (s *session) stretches(t *telemetry.Track, width int) []float64 {
	var rates []float64
	for from := s.in.Geometry.BaselineStart() - width; from >= t.First; from -= width {
		to := from + width
		if slices.ContainsFunc(s.history.excluded, func(x [2]int) bool { return from < x[1] && to > x[0] }) {
			continue
		}
		events, trials := 0.0, 0.0
		for i := from; i < to; i++ {
			events += t.Events[i-t.First]
			if t.Trials == nil {
				trials++
				continue
			}
			trials += t.Trials[i-t.First]
		}
		if rate := events / trials; !math.IsNaN(rate) && !math.IsInf(rate, 0) {
			rates = append(rates, rate)
		}
	}
	slices.Sort(rates)
	return rates
}

// picturedFlags are the flags with an exposure behind any of the endpoints.
func (s *session) picturedFlags(endpoints []telemetry.Endpoint) []rule.Flag {
	var out []rule.Flag
	for i, f := range s.Rule.Flags {
		behind := slices.ContainsFunc(endpoints, func(e telemetry.Endpoint) bool {
			return slices.ContainsFunc(s.Rule.Signals, func(sig rule.Signal) bool { return s.Rule.FlagOf(e.Values(), sig.Name) == i })
		})
		if f.Exposure != "" && behind {
			out = append(out, f)
		}
	}
	return out
}

// expression is PromQL that draws about the same line in Prometheus or Grafana.
func (s *session) expression(e telemetry.Endpoint, signal int, width time.Duration) string {
	sig := s.Rule.Signals[signal]
	matchers, err := query.ParseMatchers(s.Rule.Select, sig.Select)
	if err != nil {
		return ""
	}
	matchers = append(matchers, query.EndpointMatchers(s.Rule.Endpoint, []telemetry.Endpoint{e})...)
	over := "[" + max(width, 4*s.history.scrape).String() + "]"
	selector := func(metric string) string { return query.Read{Metric: metric, Matchers: matchers}.Selector() }
	switch {
	case sig.Kind == rule.Histogram && s.history.native[signal]:
		return fmt.Sprintf("histogram_quantile(%v, sum (rate(%s%s)))", sig.Quantile, selector(sig.Metric), over)
	case sig.Kind == rule.Histogram:
		return fmt.Sprintf("histogram_quantile(%v, sum by (le) (rate(%s%s)))", sig.Quantile, selector(sig.Metric+"_bucket"), over)
	case sig.Kind == rule.Ratio:
		return fmt.Sprintf("sum(rate(%s%s)) / sum(rate(%s%s))", selector(sig.Metric), over, selector(sig.Per), over)
	}
	return "avg(" + selector(sig.Metric) + ")"
}

// reason is why a read failed, without the query: pictures are for readers of the report.
func reason(err error) string {
	if e, ok := errors.AsType[*query.Error](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// keepPictures stores the pictures under their hash.
func (s *session) keepPictures(ctx context.Context, p *report.Pictures) error {
	if s.Journal == nil || p == nil {
		return nil
	}
	body, err := p.JSON()
	if err != nil {
		return fmt.Errorf("write pictures: %w", err)
	}
	hash, err := s.Journal.PutBlob(ctx, body)
	if err != nil {
		return fmt.Errorf("keep pictures: %w", err)
	}
	s.in.Pictures = hash
	return nil
}

// Stored is the report of a record with its pictures, ready to be shown. Records that were
// written before there were pictures have none.
func Stored(ctx context.Context, j *journal.Journal, record journal.Record) (*report.Report, error) {
	r, err := report.Parse(record.Report)
	if err != nil {
		return nil, err
	}
	var in struct {
		Pictures string `json:"pictures"`
	}
	if err := json.Unmarshal(record.Body, &in); err != nil {
		// The report is whole: what its inputs lack is needed for its pictures alone.
		r.Pictures = &report.Pictures{Notes: []string{fmt.Sprintf("read the inputs of %s: %v", record.ID, err)}}
		return r, nil
	}
	r.Pictures = storedPictures(ctx, j, in.Pictures)
	return r, nil
}

// Said is what a person said last about the upgrade of a record, or about the record itself; nil
// where nobody did.
func Said(ctx context.Context, j *journal.Journal, record journal.Record) *report.Said {
	filter := journal.FeedbackFilter{UpgradeID: record.UpgradeID}
	if record.UpgradeID == "" {
		filter.ReportID = record.ID
	}
	all, err := j.Feedbacks(ctx, filter)
	if err != nil {
		return &report.Said{Problem: err.Error()}
	}
	last := journal.LastWords(all)
	if len(last) == 0 {
		return nil
	}
	f := last[len(last)-1]
	return &report.Said{FalseAlarm: f.Kind == journal.FalseAlarm, By: f.By, Text: f.Text, At: f.At}
}

// storedPictures are those of a record, nil if it has none. Pictures that cannot be read take
// nothing from the report: they say why in its place.
func storedPictures(ctx context.Context, j *journal.Journal, hash string) *report.Pictures {
	if hash == "" {
		return nil
	}
	body, err := j.Blob(ctx, hash)
	if err == nil {
		var p *report.Pictures
		if p, err = report.ParsePictures(body); err == nil {
			return p
		}
	}
	return &report.Pictures{Notes: []string{err.Error()}}
}
