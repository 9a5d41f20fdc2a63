package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/stat"
)

const (
	days        = 30   // that the history shows, unless it is asked for others
	maxDays     = 3660 // a journal has seldom more, and a list of all of it is still one page long
	pageLength  = 40   // deploys of one page
	maxSearched = 400  // deploys that one search reads; the next page goes on from there
	maxLanes    = 12   // services that are drawn
	maxLane     = 40   // letters of its name: the list below has all of them
	maxMarks    = 300  // deploys drawn in one lane: more would lie on each other
	maxSquares  = 260  // deploys drawn as squares
	recentDays  = 10   // in which the list shows deploys without a change, where it has more than a page
	drawn       = 416  // width of that drawing in its own units
	maxSummary  = 5000 // lines kept in memory, some kilobytes each
	longName    = 44   // letters of a service with its versions that fit one line
	level       = 0.95 // of the interval around the rate of false alarms
)

// A deploy is an upgrade with its newest report.
type deploy struct {
	journal.Record
	When    time.Time // of the upgrade, or of the report where none was found
	Upgrade bool      // one was found
	Said    *journal.Feedback
}

// newest are the deploys of a list of records, newest first, each with its newest report; of the
// reports that found no upgrade one per service and day is kept. Feedback is the last word on
// each.
func newest(records []journal.Record, said []journal.Feedback) []deploy {
	last := map[string]*journal.Feedback{}
	for _, f := range journal.LastWords(said) {
		if f.UpgradeID == "" {
			f.UpgradeID = f.ReportID
		}
		last[f.UpgradeID] = &f
	}
	seen := map[string]bool{}
	var out []deploy
	for _, r := range records {
		if !slices.Contains(verdicts, report.Verdict(r.Verdict)) {
			r.Verdict = string(report.CouldNotCheck) // of a newer driftwatch, or damaged: nothing is known
		}
		d := deploy{Record: r, When: r.Now, Upgrade: r.UpgradeID != "", Said: last[r.UpgradeID]}
		key := r.UpgradeID
		if d.Upgrade {
			if t, err := time.Parse("20060102-150405", r.UpgradeID[:min(len(r.UpgradeID), 15)]); err == nil {
				d.When = t
			}
		} else {
			key, d.Said = r.Service+"\x00"+r.Now.Format(time.DateOnly), last[r.ID]
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b deploy) int {
		if c := b.When.Compare(a.When); c != 0 {
			return c
		}
		return int(b.Seq - a.Seq)
	})
	return out
}

// summaries are the lines of reports that were read. Records do not change, so a line may be
// kept for as long as there is room.
type summaries struct {
	mu   sync.Mutex
	keep map[string]*report.Summary
}

func (s *Server) summary(ctx context.Context, d *deploy) (*report.Summary, error) {
	s.summaries.mu.Lock()
	sum := s.summaries.keep[d.ID]
	s.summaries.mu.Unlock()
	if sum != nil {
		return sum, nil
	}
	record, err := s.Journal.Record(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	r, err := s.Stored(ctx, record)
	if err != nil {
		return nil, err
	}
	made, err := summarize(r)
	if err != nil {
		return nil, err
	}
	s.summaries.mu.Lock()
	defer s.summaries.mu.Unlock()
	if len(s.summaries.keep) >= maxSummary {
		clear(s.summaries.keep)
	}
	s.summaries.keep[d.ID] = &made
	return &made, nil
}

// summarize is report.Summarize for what may be no whole report: one that parses and does not
// hold together takes nothing from the other lines.
func summarize(r *report.Report) (s report.Summary, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the report does not hold together: %v", p)
		}
	}()
	return report.Summarize(r), nil
}

// A search is what a reader asks the history for.
type search struct {
	Service, Verdict, Text string
	Whole                  bool      // older deploys without a change, too
	Since, Until           time.Time // of the upgrade; Until is the end of a day
	After                  *place
}

// A place is where a page of the history ends. Pin is the newest record of its first page: what
// came later belongs to a new first page, so that pages do not move while they are turned.
type place struct {
	When time.Time
	Seq  int64
	Pin  int64
}

func (p place) String() string {
	return fmt.Sprintf("%d.%d.%d", p.When.UnixNano(), p.Seq, p.Pin)
}

func parsePlace(s string) (*place, error) {
	parts := strings.Split(s, ".")
	n := make([]int64, len(parts))
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseInt(part, 10, 64); err != nil || len(parts) != 3 {
			return nil, bad("after=%s is no place in the history; take it from a link", strconv.Quote(cut(s, 40)))
		}
	}
	if len(n) != 3 {
		return nil, bad("after=%s is no place in the history; take it from a link", strconv.Quote(cut(s, 40)))
	}
	return &place{time.Unix(0, n[0]).UTC(), n[1], n[2]}, nil
}

// only refuses parameters that are not known, or given twice: a filter that does nothing would
// be believed.
func only(q url.Values, known ...string) error {
	for name, values := range q {
		if !slices.Contains(known, name) {
			return bad("unknown parameter %s; known: %s", strconv.Quote(cut(name, 40)), strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return bad("parameter %s is given %d times; give it once", name, len(values))
		}
	}
	return nil
}

// verdicts that a report may have, in the order in which they are listed.
var verdicts = []report.Verdict{
	report.Regressed, report.Undecided, report.Improved, report.NoMeaningfulRise, report.NotEnoughData, report.CouldNotCheck,
}

func parseVerdict(s string) error {
	if s != "" && !slices.Contains(verdicts, report.Verdict(s)) {
		var known []string
		for _, v := range verdicts {
			known = append(known, string(v))
		}
		return bad("verdict %s is not one of %s", strconv.Quote(cut(s, 40)), strings.Join(known, ", "))
	}
	return nil
}

func (s *Server) parseSearch(r *http.Request) (search, error) {
	q := r.URL.Query()
	if err := only(q, "service", "verdict", "q", "since", "until", "all", "after"); err != nil {
		return search{}, err
	}
	today := s.Clock().UTC().Truncate(24 * time.Hour)
	f := search{
		Service: q.Get("service"), Verdict: q.Get("verdict"), Text: strings.TrimSpace(q.Get("q")),
		Since: today.AddDate(0, 0, 1-days), Until: today.AddDate(0, 0, 1),
	}
	if err := parseVerdict(f.Verdict); err != nil {
		return f, err
	}
	switch text := q.Get("all"); text {
	case "", "1":
		f.Whole = text != ""
	default:
		return f, bad("all %s is not 1", strconv.Quote(cut(text, 40)))
	}
	for name, to := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if text := q.Get(name); text != "" {
			t, err := time.Parse(time.DateOnly, text)
			if err != nil {
				return f, bad("%s %s is no day; write it like 2026-03-11", name, strconv.Quote(cut(text, 40)))
			}
			if *to = t; name == "until" {
				*to = t.AddDate(0, 0, 1)
			}
		}
	}
	if q.Get("until") != "" && q.Get("since") == "" {
		f.Since = f.Until.AddDate(0, 0, -days)
	}
	switch span := f.Until.Sub(f.Since); {
	case span <= 0:
		return f, bad("since is after until; exchange them")
	case span > maxDays*24*time.Hour:
		return f, bad("%d days are more than the %d that one list shows; narrow since and until", int(span.Hours()/24), maxDays)
	}
	var err error
	if text := q.Get("after"); text != "" {
		f.After, err = parsePlace(text)
	}
	return f, err
}

// address is the history with another search.
func (f search) address(change func(*search)) string {
	change(&f)
	q := url.Values{}
	for name, value := range map[string]string{"service": f.Service, "verdict": f.Verdict, "q": f.Text, "since": f.Since.Format(time.DateOnly), "until": f.Until.AddDate(0, 0, -1).Format(time.DateOnly)} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Whole {
		q.Set("all", "1")
	}
	if f.After != nil {
		q.Set("after", f.After.String())
	}
	return "/?" + q.Encode()
}

// A chip is a verdict among the filters.
type chip struct {
	Key, Title, URL string
	N               int
	On              bool
}

// A lane is a service over the days.
type lane struct {
	Service, URL string
	Marks        []mark
}

type mark struct {
	X, Key, URL, Title string
}

type tick struct{ X, Width, Text string }

// A line is a deploy of the list.
type line struct {
	deploy
	*report.Summary
	URL    string
	Shape  string // of the verdict
	Words  string
	Broken string // why there is no Summary
	Looks  string // when the next one is, or that there is none
	Long   bool   // its name and versions take more than one line
	Token  string // for feedback; "" where none is asked for
}

type dayLines struct {
	Day   time.Time
	Title string
	Lines []line
}

// figures are how far an alarm is to be trusted, by what people said.
type figures struct {
	Judged, Alarms            int
	False                     int
	Rate, Low, High, Promised string // per cent; Promised "" where no rule is loaded
	Squares                   []square
	Height, Side              int // of the drawing, and of a square
	Left                      int
	Opinions                  []opinion
}

type square struct {
	X, Y  int
	Class string
}

// An opinion is what people said of the deploys with one verdict.
type opinion struct {
	Key, Title          string
	N, Real, False      int
	RealPart, FalsePart string // of N, per cent
}

// Open is how many deploys nobody judged.
func (o opinion) Open() int { return o.N - o.Real - o.False }

type historyPage struct {
	Headline, Span string
	Notices        []string // what of the journal cannot be read
	Search         search
	SinceDay       string
	UntilDay       string
	Lasting        string // how long the days are, in words
	Chips          []chip
	Services       []string
	Lanes          []lane
	MoreLanes      int
	Weekends       []tick
	Ticks          []tick
	Figures        figures
	Unsaid         bool // what people said cannot be read in full
	Days           []dayLines
	Shown, Found   int
	Drawn          bool   // a report of the page has pictures
	Searched       int    // deploys that a search read where it did not reach the end
	Folded         int    // older deploys without a change that are not listed
	Unfold         string // where they are
	Next, First    string
	Empty          bool // no deploy was seen in these days
	Metrics        []string
	Newest         *time.Time // of the journal, where it is older than these days
	Older          string     // where that one is shown
	Clear          string
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	f, err := s.parseSearch(r)
	if err != nil {
		s.fault(w, r, err)
		return
	}
	p, err := s.historyPage(r, f)
	if err != nil {
		s.fault(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "history", "History", p)
}

func (s *Server) historyPage(r *http.Request, f search) (*historyPage, error) {
	ctx := r.Context()
	records, err := s.Journal.Records(ctx, journal.RecordFilter{Since: f.Since})
	if err != nil {
		return nil, err
	}
	p := &historyPage{Search: f, SinceDay: f.Since.Format(time.DateOnly), UntilDay: f.Until.AddDate(0, 0, -1).Format(time.DateOnly)}
	said, err := s.Journal.Feedbacks(ctx, journal.FeedbackFilter{})
	if p.Unsaid = err != nil; p.Unsaid {
		if err := s.lacks(r, p, "What people said cannot be read in full", err); err != nil {
			return nil, err
		}
	}
	actions, err := s.Journal.Actions(ctx, journal.ActionFilter{})
	unknown := err != nil
	if unknown {
		if err := s.lacks(r, p, "Which flags were turned off cannot be read", err); err != nil {
			return nil, err
		}
	}
	pin := int64(0)
	for _, rec := range records {
		pin = max(pin, rec.Seq)
	}
	if f.After != nil {
		pin = f.After.Pin
		records = slices.DeleteFunc(records, func(r journal.Record) bool { return r.Seq > pin })
	}
	all := slices.DeleteFunc(newest(records, said), func(d deploy) bool { return d.When.Before(f.Since) || !d.When.Before(f.Until) })
	for _, d := range all {
		if !slices.Contains(p.Services, d.Service) {
			p.Services = append(p.Services, d.Service)
		}
	}
	slices.Sort(p.Services)
	ofService := slices.DeleteFunc(slices.Clone(all), func(d deploy) bool { return f.Service != "" && d.Service != f.Service })
	p.count(ofService, offBecause(actions, ofService), unknown)
	if len(all) == 0 {
		return p, s.empty(ctx, p)
	}
	p.draw(ofService)
	p.Figures = s.figures(ofService)
	if err := s.list(r, p, ofService, pin); err != nil {
		return nil, err
	}
	p.First = f.address(func(f *search) { f.After = nil })
	p.Clear = f.address(func(f *search) { *f = search{Since: f.Since, Until: f.Until} })
	return p, nil
}

// lacks puts what cannot be read above the page, which shows the rest. The caller's own
// interrupt is returned.
func (s *Server) lacks(r *http.Request, p *historyPage, what string, err error) error {
	if r.Context().Err() != nil {
		return err
	}
	s.faults.Inc()
	s.Log.Error("a page is shown in part", "path", r.URL.Path, "error", err)
	p.Notices = append(p.Notices, what+": "+err.Error())
	return nil
}

// empty says where the page would look, and where there is something.
func (s *Server) empty(ctx context.Context, p *historyPage) error {
	p.Empty = true
	for _, r := range s.Rules {
		if r.Upgrade != nil && !slices.Contains(p.Metrics, r.Upgrade.Metric) && len(p.Metrics) < 3 {
			p.Metrics = append(p.Metrics, r.Upgrade.Metric)
		}
	}
	if len(p.Metrics) == 0 {
		p.Metrics = []string{"build_info"}
	}
	any, err := s.Journal.Records(ctx, journal.RecordFilter{Limit: 1})
	if err != nil || len(any) == 0 {
		return err
	}
	at := any[0].Now
	p.Newest = &at
	day := at.Truncate(24 * time.Hour)
	p.Older = search{Since: day.AddDate(0, 0, 1-days), Until: day.AddDate(0, 0, 1)}.address(func(*search) {})
	return nil
}

// offBecause is how many flags were turned off because of some deploys, and proved off.
func offBecause(actions []journal.Action, all []deploy) int {
	upgrades := map[string]bool{}
	for _, d := range all {
		if d.Upgrade {
			upgrades[d.UpgradeID] = true
		}
	}
	n := 0
	for _, a := range actions {
		if a.Kind == journal.FlagOff && upgrades[a.UpgradeID] && slices.ContainsFunc(a.Outcomes, func(o journal.Outcome) bool { return o.Outcome == string(report.Verified) }) {
			n++
		}
	}
	return n
}

// count fills in the headline and the chips.
func (p *historyPage) count(all []deploy, off int, unknown bool) {
	upgrades, false_ := 0, 0
	n := map[report.Verdict]int{}
	first, last := time.Duration(math.MaxInt64), time.Duration(0)
	for _, d := range all {
		n[report.Verdict(d.Verdict)]++
		if d.Upgrade {
			upgrades++
			first, last = min(first, d.Now.Sub(d.When)), max(last, d.Now.Sub(d.When))
		}
		if d.Said != nil && d.Said.Kind == journal.FalseAlarm {
			false_++
		}
	}
	span := int(p.Search.Until.Sub(p.Search.Since).Hours() / 24)
	p.Lasting = many(span, "day")
	p.Headline = many(upgrades, "deploy") + " in " + p.Lasting + "."
	if len(all) > 0 {
		flags, alarms := many(off, "flag")+" turned off", many(false_, "false alarm")
		if unknown {
			flags = "flags turned off not known"
		}
		if p.Unsaid {
			alarms = "at least " + alarms
		}
		p.Headline += fmt.Sprintf(" %s confirmed, %s, %s.", many(n[report.Regressed], "regression"), flags, alarms)
	}
	p.Span = fmt.Sprintf("%s to %s, %s.", p.Search.Since.Format("2 January"), p.Search.Until.AddDate(0, 0, -1).Format("2 January 2006"), many(len(p.Services), "service"))
	if upgrades > 0 && first >= 0 {
		p.Span += " Last checked " + between(first, last) + " after each deploy."
	}
	for _, v := range verdicts {
		key, title := report.KeyOf(v)
		on := p.Search.Verdict == string(v)
		p.Chips = append(p.Chips, chip{Key: key, Title: title, N: n[v], On: on, URL: p.Search.address(func(f *search) {
			f.After, f.Whole = nil, false
			if f.Verdict = string(v); on {
				f.Verdict = ""
			}
		})})
	}
}

// between is a range of durations to the minute, the hour or the day: "5 to 56 min".
func between(low, high time.Duration) string {
	round := func(d time.Duration) (string, string) {
		switch {
		case d < 2*time.Hour:
			return strconv.Itoa(int(math.Ceil(d.Minutes()))), "min"
		case d < 48*time.Hour:
			return strconv.Itoa(int(math.Ceil(d.Hours()))), "h"
		}
		return strconv.Itoa(int(math.Ceil(d.Hours() / 24))), "days"
	}
	a, unit := round(low)
	b, longer := round(high)
	switch {
	case a == b && unit == longer:
		return b + " " + longer
	case unit == longer:
		return a + " to " + b + " " + longer
	}
	return a + " " + unit + " to " + b + " " + longer
}

// many is a count with its word.
func many(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// draw fills in the lanes.
func (p *historyPage) draw(all []deploy) {
	f := p.Search
	whole := f.Until.Sub(f.Since)
	x := func(t time.Time) string {
		return strconv.FormatFloat(100*float64(t.Sub(f.Since))/float64(whole), 'f', 2, 64) + "%"
	}
	count := int(whole.Hours() / 24)
	width := strconv.FormatFloat(100/float64(count), 'f', 2, 64) + "%"
	every := max(1, (count+4)/5)
	for i := range count {
		day := f.Since.AddDate(0, 0, i)
		if wd := day.Weekday(); count <= 100 && (wd == time.Saturday || wd == time.Sunday) {
			p.Weekends = append(p.Weekends, tick{X: x(day), Width: width})
		}
		if i%every == 0 {
			p.Ticks = append(p.Ticks, tick{X: x(day), Text: day.Format("2 Jan")})
		}
	}
	lanes := map[string]*lane{}
	var names []string
	for _, d := range all {
		l := lanes[d.Service]
		if l == nil {
			l = &lane{Service: cut(d.Service, maxLane), URL: f.address(func(f *search) { f.After, f.Service = nil, d.Service })}
			lanes[d.Service] = l
			names = append(names, d.Service)
		}
		key, words := report.KeyOf(report.Verdict(d.Verdict))
		if len(l.Marks) < maxMarks {
			l.Marks = append(l.Marks, mark{x(d.When), key, reportURL(d.ID), d.When.Format("2 January 15:04") + ": " + words})
		}
	}
	slices.Sort(names)
	p.MoreLanes = max(0, len(names)-maxLanes)
	for _, name := range names[:min(len(names), maxLanes)] {
		// What stands out is drawn last, above what does not.
		slices.SortStableFunc(lanes[name].Marks, func(a, b mark) int { return quiet(b.Key) - quiet(a.Key) })
		p.Lanes = append(p.Lanes, *lanes[name])
	}
}

func quiet(key string) int {
	if key == "eqv" || key == "ins" {
		return 1
	}
	return 0
}

func reportURL(id string) string { return "/reports/" + url.PathEscape(id) }

// figures counts how often an alarm was false, by what people said, among the deploys that could
// be judged. Alarms that nobody marked do not count as false: the rate is that of known ones.
func (s *Server) figures(all []deploy) figures {
	var g figures
	opinions := map[report.Verdict]*opinion{}
	for _, v := range []report.Verdict{report.Regressed, report.Undecided} {
		o := &opinion{}
		o.Key, o.Title = report.KeyOf(v)
		opinions[v] = o
	}
	for _, d := range all {
		v := report.Verdict(d.Verdict)
		if v == report.NotEnoughData || v == report.CouldNotCheck || !d.Upgrade {
			continue
		}
		class := "w-quiet"
		if o := opinions[v]; o != nil {
			o.N++
			if d.Said != nil && d.Said.Kind == journal.Real {
				o.Real++
			} else if d.Said != nil {
				o.False++
			}
			if v == report.Regressed {
				switch class = "w-alarm"; {
				case d.Said != nil && d.Said.Kind == journal.FalseAlarm:
					class = "w-false"
				case d.Said != nil:
					class = "w-real"
				}
			}
		}
		if g.Judged < maxSquares {
			g.Squares = append(g.Squares, square{Class: class})
		}
		g.Judged++
	}
	for _, v := range []report.Verdict{report.Regressed, report.Undecided} {
		if o := opinions[v]; o.N > 0 {
			o.RealPart, o.FalsePart = percent(float64(o.Real)/float64(o.N)), percent(float64(o.False)/float64(o.N))
			g.Opinions = append(g.Opinions, *o)
		}
	}
	g.Alarms, g.False = opinions[report.Regressed].N, opinions[report.Regressed].False
	columns := 52
	if len(g.Squares) <= 104 {
		columns = 26 // few are drawn larger
	}
	pitch := drawn / columns
	for i := range g.Squares {
		g.Squares[i].X, g.Squares[i].Y = i%columns*pitch, i/columns*pitch
	}
	g.Height, g.Side = (len(g.Squares)+columns-1)/columns*pitch, pitch*4/5
	g.Left = g.Judged - len(g.Squares)
	low, high := stat.BinomialInterval(g.False, g.Judged, level)
	rate := 0.0
	if g.Judged > 0 {
		rate = float64(g.False) / float64(g.Judged)
	}
	g.Rate, g.Low, g.High = percent(rate), percent(low), percent(high)
	promised := 0.0
	for _, r := range s.Rules {
		promised = max(promised, r.Alpha.Act) // at which a regression is confirmed
	}
	if promised > 0 {
		g.Promised = percent(promised)
	}
	return g
}

// percent is a share in per cent with the digits that a reader needs.
func percent(x float64) string {
	if x < 0.1 {
		return strings.TrimSuffix(strconv.FormatFloat(100*x, 'f', 1, 64), ".0")
	}
	return strconv.FormatFloat(100*x, 'f', 0, 64)
}

// list fills in one page of deploys.
func (s *Server) list(r *http.Request, p *historyPage, all []deploy, pin int64) error {
	f := p.Search
	text := strings.ToLower(f.Text)
	// Where one page cannot hold all, older deploys without a change wait behind a link: what
	// reads a list of a month looks for the others.
	fold := time.Time{}
	if !f.Whole && f.Verdict == "" && text == "" && len(all) > pageLength {
		fold = f.Until.AddDate(0, 0, -recentDays)
	}
	match := func(d *deploy) bool {
		return f.Verdict == "" || d.Verdict == f.Verdict
	}
	searched, broken := 0, 0
	var fault *journal.Error
	var last *deploy
	for i := range all {
		d := &all[i]
		if !match(d) {
			continue
		}
		if text == "" {
			p.Found++
		}
		if d.Verdict == string(report.NoMeaningfulRise) && d.When.Before(fold) {
			p.Folded++
			continue
		}
		if a := f.After; a != nil && (d.When.After(a.When) || d.When.Equal(a.When) && d.Seq >= a.Seq) || p.Next != "" {
			continue
		}
		if p.Shown == pageLength || text != "" && searched == maxSearched {
			if p.Shown < pageLength {
				p.Searched = searched
			}
			p.Next = f.address(func(f *search) { f.After = &place{last.When, last.Seq, pin} })
			continue
		}
		searched++
		last = d
		l := line{deploy: *d, URL: reportURL(d.ID)}
		l.Shape, l.Words = report.KeyOf(report.Verdict(d.Verdict))
		var err error
		if l.Summary, err = s.summary(r.Context(), d); err != nil {
			if r.Context().Err() != nil {
				return err
			}
			// One report that cannot be read takes nothing from the others.
			s.faults.Inc()
			s.Log.Error("a report is not listed", "report", d.ID, "error", err)
			broken++
			if l.Broken = err.Error(); errors.As(err, &fault) {
				l.Broken = fault.Err.Error() // file and remedy are said on its own page
			}
			l.Summary = &report.Summary{Badges: []report.Badge{{Key: l.Shape, Text: l.Words}}, Search: strings.ToLower(d.Service + "\n" + d.ID)}
		}
		if now := s.Clock(); !l.Next.IsZero() {
			switch {
			case now.Before(l.Next):
				l.Looks = "next look " + l.Next.UTC().Format("15:04")
			case now.Before(l.Last):
				l.Looks = "the next look is due"
			default:
				l.Looks = "no later look is in the journal"
			}
		}
		if text != "" && !strings.Contains(l.Search, text) {
			continue
		}
		l.Long = utf8.RuneCountInString(d.Service+l.Change) > longName
		if d.Said == nil && !p.Unsaid && (d.Verdict == string(report.Regressed) || d.Verdict == string(report.Undecided)) && s.speaks(r) {
			l.Token = s.token(r, "feedback "+d.ID)
		}
		p.Shown++
		p.Drawn = p.Drawn || l.Spark != "" || l.Lost != ""
		day := d.When.Truncate(24 * time.Hour)
		if n := len(p.Days); n == 0 || !p.Days[n-1].Day.Equal(day) {
			title := day.Format("Mon 2 January")
			if day.Year() != f.Until.Year() {
				title = day.Format("Mon 2 January 2006")
			}
			p.Days = append(p.Days, dayLines{Day: day, Title: title})
		}
		at := &p.Days[len(p.Days)-1]
		at.Lines = append(at.Lines, l)
	}
	if p.Folded > 0 {
		p.Unfold = f.address(func(f *search) { f.After, f.Whole = nil, true })
	}
	if broken > 0 {
		words := "this page cannot be read; the others are whole"
		if text != "" {
			words = "those searched cannot be read, and is found by its service and id alone"
			if broken > 1 {
				words = "those searched cannot be read, and are found by their service and id alone"
			}
		}
		p.Notices = append(p.Notices, many(broken, "report")+" of "+words+".")
	}
	return nil
}
