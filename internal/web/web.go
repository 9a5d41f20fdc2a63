// Package web shows what the journal holds to people and programs: reports, their history, flags
// and rules. It takes what people say about reports, and, where it is given a Hand, what they
// want done to a flag. It judges nothing and touches no flag source itself.
package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
)

// Options are what a Server shows and whom it asks.
type Options struct {
	Journal *journal.Journal
	Stored  func(context.Context, journal.Record) (*report.Report, error) // the report of a record, with its pictures
	Said    func(context.Context, journal.Record) *report.Said            // what a person said last; nil: nobody is asked
	Rules   []*rule.Rule
	Flags   func(context.Context) []Flag
	Shadow  func(ctx context.Context, service, key string) (report.Shadow, error) // dry runs on a flag; nil: not known
	Hand    Hand                                                                  // nil: nobody acts from here
	Users   Users
	Links   report.Links

	// Loopback says that only this machine can connect. Without users everybody who can is let
	// in, and what they say is kept as that of "anonymous on loopback".
	Loopback bool

	Clock    func() time.Time
	Log      *slog.Logger
	Registry *prometheus.Registry
}

// A Server is the handler of all pages.
type Server struct {
	Options
	handler   http.Handler
	key       []byte // of form tokens; lives as long as the process
	summaries summaries

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	faults   prometheus.Counter
}

//go:embed html/*.tmpl html/history.css html/icon.svg openapi.json
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"glyph": report.Glyph,
	"short": func(s string) string { return cut(s, 140) }, // names are what others say: they may have 10 kB
	"clock": func(t time.Time) string { return t.UTC().Format("15:04") },
	"day":   func(t time.Time) string { return t.UTC().Format("Mon 2 January 2006") },
	"utc":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).ParseFS(files, "html/*.tmpl"))

// maxBody bounds what a form may hold. The longest one is a comment.
const maxBody = 64 << 10

// A route is an address, and what each method does there. GET answers HEAD, too.
type route struct {
	pattern string
	methods map[string]http.HandlerFunc
}

func (s *Server) routes() []route {
	get := func(pattern string, h http.HandlerFunc) route {
		return route{pattern, map[string]http.HandlerFunc{http.MethodGet: h}}
	}
	metrics := promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{Registry: s.Registry})
	return []route{
		get("/{$}", s.history),
		get("/reports/{id}", s.report),
		{"/reports/{id}/feedback", map[string]http.HandlerFunc{http.MethodPost: s.feedback}},
		get("/flags", s.flags),
		{"/flags/off", map[string]http.HandlerFunc{http.MethodGet: s.confirmOff, http.MethodPost: s.turnOff}},
		{"/flags/restore", map[string]http.HandlerFunc{http.MethodGet: s.confirmRestore, http.MethodPost: s.restore}},
		{"/plans/{name}", map[string]http.HandlerFunc{http.MethodGet: s.confirmPlan, http.MethodPost: s.apply}},
		get("/rules", s.rules),
		get("/style.css", s.style),
		get("/favicon.ico", s.icon),
		get("/api/v1/reports", s.apiReports),
		get("/api/v1/reports/{id}", s.apiReport),
		get("/api/v1/flags", s.apiFlags),
		get("/api/v1/openapi.json", s.apiDescription),
		get("/api/v1/report.schema.json", s.apiSchema),
		get("/metrics", metrics.ServeHTTP),
		get("/-/healthy", s.healthy),
		get("/-/ready", s.ready),
	}
}

// New returns the handler. It registers its metrics on o.Registry.
func New(o Options) *Server {
	s := &Server{Options: o, key: make([]byte, sha256.Size)}
	_, _ = rand.Read(s.key) // never fails: crypto/rand
	s.summaries.keep = map[string]*report.Summary{}
	s.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "driftwatch_http_requests_total", Help: "Requests by route, method and status.",
	}, []string{"route", "method", "code"})
	s.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "driftwatch_http_request_duration_seconds", Help: "How long requests took, by route.",
		Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
	}, []string{"route"})
	s.faults = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "driftwatch_journal_errors_total", Help: "Reads and writes of the journal that failed.",
	})
	o.Registry.MustRegister(s.requests, s.duration, s.faults,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.Handle(rt.pattern, s.measured(strings.TrimSuffix(rt.pattern, "{$}"), s.dispatch(rt)))
	}
	mux.Handle("/", s.measured("none", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusNotFound, "there is no page "+strconv.Quote(cut(r.URL.Path, 100))+"; the history is at /")
	})))
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusForbidden, "the request comes from a page of another site; open the form here and send it again")
	}))
	s.handler = s.guarded(crossOrigin.Handler(mux))
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// policy is what a page of ours may load: the style sheet of this server.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded sets what every answer has, and turns away who came by a foreign name.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !s.namedRight(r) {
			s.fail(w, r, http.StatusForbidden, "this server is for its own machine and was called "+strconv.Quote(cut(r.Host, 100))+
				"; call it localhost, or name users in the file of --web.config.file")
			return
		}
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		next.ServeHTTP(w, r)
	})
}

// namedRight reports whether a server without users was called by a name of this machine. A page
// of another site can make its own name lead to 127.0.0.1, and then read and write as if it
// were from here.
func (s *Server) namedRight(r *http.Request) bool {
	if users, err := s.Users.Any(); !s.Loopback || users && err == nil {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return IsLoopback(strings.Trim(host, "[]"))
}

// dispatch answers the methods of a route and refuses others.
func (s *Server) dispatch(rt route) http.Handler {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if rt.methods[m] != nil || m == http.MethodHead && rt.methods[http.MethodGet] != nil {
			allowed = append(allowed, m)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if h := rt.methods[method]; h != nil {
			h(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.fail(w, r, http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %s", rt.pattern, strings.Join(allowed, " and "), cut(r.Method, 20)))
	})
}

// measured counts requests and their time.
func (s *Server) measured(route string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now() // monotonic: the Clock of pages may be any
		answer := &answer{ResponseWriter: w, code: http.StatusOK}
		s.answered(next, answer, r)
		method := r.Method
		if method != http.MethodGet && method != http.MethodHead && method != http.MethodPost {
			method = "other" // a client chooses the word
		}
		s.requests.WithLabelValues(route, method, strconv.Itoa(answer.code)).Inc()
		s.duration.WithLabelValues(route).Observe(time.Since(begun).Seconds())
	})
}

// answered serves r. What the journal holds may be damaged in ways that nobody thought of: such a
// page says so, where the connection would be cut without a word.
func (s *Server) answered(next http.Handler, w *answer, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || w.begun { //nolint:errorlint // as net/http compares it
			panic(p)
		}
		s.Log.Error("fault in driftwatch", "path", r.URL.Path, "fault", p, "stack", string(debug.Stack()))
		s.fail(w, r, http.StatusInternalServerError, fmt.Sprintf("fault in driftwatch: %v; the log holds more, and what the page shows may be damaged in the journal", p))
	}()
	next.ServeHTTP(w, r)
}

// An answer remembers its status, and whether it has begun.
type answer struct {
	http.ResponseWriter
	code  int
	begun bool
}

func (a *answer) WriteHeader(code int) {
	a.code, a.begun = code, true
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// A page is what surrounds every page of ours.
type page struct {
	Title string
	Here  string // the address among the links of the head
	Style string
	Who   string // the user by name; "" = nobody is known
	Main  any
}

// show writes a page with a status.
func (s *Server) show(w http.ResponseWriter, r *http.Request, code int, name, title string, main any) {
	who, _, _ := r.BasicAuth() // for show: whatever is done asks Users
	p := page{Title: title, Here: r.URL.Path, Style: "/style.css?v=" + styleVersion, Who: cut(who, 60), Main: main}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, &p); err != nil {
		s.Log.Error("a page is not written", "page", name, "error", err)
		http.Error(w, "error: fault in driftwatch: the page could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // the client is gone
}

// fail answers with an error, as a page or, under /api/, as JSON.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, code int, text string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		s.json(w, code, map[string]any{"error": map[string]any{"status": code, "message": text}})
		return
	}
	s.show(w, r, code, "error", http.StatusText(code), map[string]any{"Code": code, "Text": text})
}

// fault answers with what the journal or the request lacks, and says it in the log if it is ours.
func (s *Server) fault(w http.ResponseWriter, r *http.Request, err error) {
	var missing *journal.NotFound
	var large *http.MaxBytesError
	var bad *badRequest
	switch {
	case errors.As(err, &missing):
		s.fail(w, r, http.StatusNotFound, strings.TrimPrefix(err.Error(), missing.Path+": "))
	case errors.As(err, &large):
		s.fail(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the form holds more than %d bytes; write less", large.Limit))
	case errors.As(err, &bad):
		s.fail(w, r, http.StatusBadRequest, err.Error())
	case r.Context().Err() != nil:
		s.fail(w, r, http.StatusServiceUnavailable, "interrupted; nothing is half-written")
	default:
		s.faults.Inc()
		s.Log.Error("a request failed", "path", r.URL.Path, "error", err)
		s.fail(w, r, http.StatusInternalServerError, err.Error())
	}
}

// A badRequest is a mistake in what a client sent.
type badRequest struct{ text string }

func (e *badRequest) Error() string { return e.text }

func bad(format string, args ...any) error { return &badRequest{fmt.Sprintf(format, args...)} }

// cut is s in at most n runes.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// styleSheet is that of all pages: that of the reports, and what only we need.
var styleSheet, styleVersion = func() ([]byte, string) {
	own, err := files.ReadFile("html/history.css")
	if err != nil {
		panic(err) // it is embedded
	}
	all := append([]byte(report.StyleSheet()), own...)
	sum := sha256.Sum256(all)
	return all, hex.EncodeToString(sum[:6])
}()

func (s *Server) style(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	if r.URL.Query().Get("v") == styleVersion {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // no data in it
	}
	_, _ = w.Write(styleSheet)
}

// icon answers what browsers ask for by themselves; without one each first visit logs an error.
func (s *Server) icon(w http.ResponseWriter, _ *http.Request) {
	b, err := files.ReadFile("html/icon.svg")
	if err != nil {
		panic(err) // it is embedded
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "public, max-age=86400") // no data in it
	_, _ = w.Write(b)                                        // the client is gone
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintln(w, "driftwatch is healthy")
}

// ready answers 503 while the journal cannot be read.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if _, err := s.Journal.Records(r.Context(), journal.RecordFilter{Limit: 1}); err != nil {
		s.faults.Inc()
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, "error:", err)
		return
	}
	_, _ = fmt.Fprintln(w, "driftwatch is ready")
}
