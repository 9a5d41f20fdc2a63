package web

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
)

// What the API returns (openapi.json).
type (
	apiRecord struct {
		ID        string      `json:"id"`
		UpgradeID report.Word `json:"upgrade_id"`
		Service   string      `json:"service"`
		Rule      string      `json:"rule"`
		Now       report.Time `json:"now"`
		Verdict   string      `json:"verdict"`
		ExitCode  int         `json:"exit_code"`
		Said      report.Word `json:"said"` // the last word of people on the upgrade
	}
	apiRecords struct {
		Reports []apiRecord `json:"reports"`
		Next    report.Word `json:"next"`
	}
	apiFlag struct {
		Key      string         `json:"key"`
		Source   string         `json:"source"`
		Service  string         `json:"service"`
		Rule     string         `json:"rule"`
		State    report.Word    `json:"state"`
		Off      bool           `json:"off"`
		Revision report.Word    `json:"revision"`
		ReadOnly report.Word    `json:"read_only"`
		Act      bool           `json:"act"`
		Error    report.Word    `json:"error"`
		OffSince report.Time    `json:"off_since"`
		OffBy    report.Word    `json:"off_by"`
		DryRuns  *report.Shadow `json:"dry_runs"` // null where they cannot be counted
	}
)

const (
	usualLimit = 100
	maxLimit   = 1000
)

func (s *Server) json(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.Log.Error("an answer is not written", "error", err)
		code, b = http.StatusInternalServerError, []byte(`{"error": {"status": 500, "message": "the answer could not be written"}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // the client is gone
}

func (s *Server) apiReports(w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r)
	if err != nil {
		s.fault(w, r, err)
		return
	}
	limit := f.Limit
	f.Limit++ // one more tells whether there is another page
	records, err := s.Journal.Records(r.Context(), f)
	if err != nil {
		s.fault(w, r, err)
		return
	}
	said, err := s.Journal.Feedbacks(r.Context(), journal.FeedbackFilter{Service: f.Service})
	if err != nil {
		s.fault(w, r, err)
		return
	}
	words := map[string]report.Word{}
	for _, f := range journal.LastWords(said) {
		if f.UpgradeID != "" {
			words[f.UpgradeID] = report.Word(f.Kind)
		} else {
			words[f.ReportID] = report.Word(f.Kind)
		}
	}
	out := apiRecords{Reports: []apiRecord{}}
	for i, rec := range records {
		if i == limit {
			last := records[i-1].Cursor()
			out.Next = report.Word(strconv.FormatInt(last.Now.UnixNano(), 10) + "." + strconv.FormatInt(last.Seq, 10))
			break
		}
		about := rec.UpgradeID
		if about == "" {
			about = rec.ID
		}
		out.Reports = append(out.Reports, apiRecord{
			rec.ID, report.Word(rec.UpgradeID), rec.Service, rec.RulePath, report.At(rec.Now), rec.Verdict, rec.ExitCode, words[about],
		})
	}
	s.json(w, http.StatusOK, out)
}

func parseFilter(r *http.Request) (journal.RecordFilter, error) {
	q := r.URL.Query()
	f := journal.RecordFilter{Service: q.Get("service"), UpgradeID: q.Get("upgrade_id"), Verdict: q.Get("verdict"), Limit: usualLimit}
	if err := only(q, "service", "upgrade_id", "verdict", "since", "until", "limit", "cursor"); err != nil {
		return f, err
	}
	if err := parseVerdict(f.Verdict); err != nil {
		return f, err
	}
	for name, to := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if text := q.Get(name); text != "" {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil || t.Year() < 1970 || t.Year() > 2261 {
				return f, bad("%s %s is no time; write it like 2026-03-11T14:02:10Z", name, strconv.Quote(cut(text, 40)))
			}
			*to = t
		}
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return f, bad("limit %s is not between 1 and %d", strconv.Quote(cut(text, 40)), maxLimit)
		}
		f.Limit = n
	}
	if text := q.Get("cursor"); text != "" {
		now, seq, _ := strings.Cut(text, ".")
		n, err := strconv.ParseInt(now, 10, 64)
		m, err2 := strconv.ParseInt(seq, 10, 64)
		if err != nil || err2 != nil || m < 1 || m == math.MaxInt64 {
			return f, bad("cursor %s is none of ours; take it from next", strconv.Quote(cut(text, 40)))
		}
		f.Before = journal.Cursor{Now: time.Unix(0, n), Seq: m}
	}
	return f, nil
}

func (s *Server) apiReport(w http.ResponseWriter, r *http.Request) {
	record, err := s.Journal.Record(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fault(w, r, err)
		return
	}
	if !json.Valid(record.Report) {
		s.fault(w, r, fmt.Errorf("the report %s cannot be read: what is stored is not JSON", record.ID))
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(record.Report) // the client is gone
}

func (s *Server) apiFlags(w http.ResponseWriter, r *http.Request) {
	lines, _, err := s.flagLines(r.Context())
	if err != nil {
		s.fault(w, r, err)
		return
	}
	out := []apiFlag{}
	for _, l := range lines {
		out = append(out, apiFlag{
			l.Key, l.Source, l.Service, l.Rule, report.Word(l.State), l.Off, report.Word(l.Revision), report.Word(l.ReadOnly), l.Act,
			report.Word(l.Err), report.At(l.Since), report.Word(l.By), l.Dry,
		})
	}
	s.json(w, http.StatusOK, map[string]any{"flags": out})
}

func (s *Server) apiDescription(w http.ResponseWriter, _ *http.Request) {
	s.embedded(w, "openapi.json")
}

func (s *Server) apiSchema(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/schema+json; charset=utf-8")
	_, _ = w.Write(report.Schema())
}

func (s *Server) embedded(w http.ResponseWriter, name string) {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(b)
}
