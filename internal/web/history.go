package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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
	maxMarks    = 300  // deploys drawn in one lane: more would lie on each other
	maxSquares  = 520  // deploys drawn as squares
	drawn       = 416  // width of that drawing in its own units
	maxSummary  = 5000 // lines kept in memory, some kilobytes each
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
	made := report.Summarize(r)
	s.summaries.mu.Lock()
	defer s.summaries.mu.Unlock()
	if len(s.summaries.keep) >= maxSummary {
		clear(s.summaries.keep)
	}
	s.summaries.keep[d.ID] = &made
	return &made, nil
}

// A search is what a reader asks the history for.
type search struct {
	Service, Verdict, Text string
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
	if err := only(q, "service", "verdict", "q", "since", "until", "after"); err != nil {
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
	Token  string // for feedback; "" where none is asked for
}

type dayLines struct {
	Day   time.Time
	Lines []line
}

// figures are how far an alarm is to be trusted, by what people said.
type figures struct {
	Judged, Alarms, Marked, False int
	Rate, Low, High, Promised     string // per cent; Promised "" where no rule is loaded
	Squares                       []square
	Height, Side                  int // of the drawing, and of a square
	Left                          int
}

type square struct {
	X, Y  int
	Class string
}

type historyPage struct {
	Headline, Span string
	Search         search
	SinceDay       string
	UntilDay       string
	Chips          []chip
	Services       []string
	Lanes          []lane
	MoreLanes      int
	Weekends       []tick
	Ticks          []tick
	Figures        figures
	Days           []dayLines
	Shown, Found   int
	Drawn          bool // a report of the page has pictures
	Searched       int  // deploys that a search read where it did not reach the end
	Next, First    string
	Empty          bool // there is nothing at all in the journal
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
	said, err := s.Journal.Feedbacks(ctx, journal.FeedbackFilter{})
	if err != nil {
		return nil, err
	}
	p := &historyPage{Search: f, SinceDay: f.Since.Format(time.DateOnly), UntilDay: f.Until.AddDate(0, 0, -1).Format(time.DateOnly)}
	pin := int64(0)
	for _, rec := range records {
		pin = max(pin, rec.Seq)
	}
	if f.After != nil {
		pin = f.After.Pin
		records = slices.DeleteFunc(records, func(r journal.Record) bool { return r.Seq > pin })
	}
	p.Empty = len(records) == 0
	if p.Empty {
		any, err := s.Journal.Records(ctx, journal.RecordFilter{Limit: 1})
		if err != nil {
			return nil, err
		}
		p.Empty = len(any) == 0
	}
	all := slices.DeleteFunc(newest(records, said), func(d deploy) bool { return d.When.Before(f.Since) || !d.When.Before(f.Until) })
	for _, d := range all {
		if !slices.Contains(p.Services, d.Service) {
			p.Services = append(p.Services, d.Service)
		}
	}
	slices.Sort(p.Services)
	ofService := slices.DeleteFunc(slices.Clone(all), func(d deploy) bool { return f.Service != "" && d.Service != f.Service })
	p.count(ofService)
	p.draw(ofService)
	p.Figures = s.figures(ofService)
	if err := s.list(r, p, ofService, pin); err != nil {
		return nil, err
	}
	p.First = f.address(func(f *search) { f.After = nil })
	p.Clear = f.address(func(f *search) { *f = search{Since: f.Since, Until: f.Until} })
	return p, nil
}

// count fills in the headline and the chips.
func (p *historyPage) count(all []deploy) {
	upgrades, off, false_ := 0, 0, 0
	n := map[report.Verdict]int{}
	for _, d := range all {
		n[report.Verdict(d.Verdict)]++
		if d.Upgrade {
			upgrades++
		}
		if d.ExitCode == report.ExitVerifiedOff {
			off++
		}
		if d.Said != nil && d.Said.Kind == journal.FalseAlarm {
			false_++
		}
	}
	span := int(p.Search.Until.Sub(p.Search.Since).Hours() / 24)
	p.Headline = fmt.Sprintf("%s in %s. %s confirmed, %d with the flag off and verified, %s.", many(upgrades, "deploy"), many(span, "day"),
		many(n[report.Regressed], "regression"), off, many(false_, "false alarm"))
	p.Span = fmt.Sprintf("%s to %s, %s.", p.Search.Since.Format("2 January"), p.Search.Until.AddDate(0, 0, -1).Format("2 January 2006"), many(len(p.Services), "service"))
	for _, v := range verdicts {
		key, title := report.KeyOf(v)
		on := p.Search.Verdict == string(v)
		p.Chips = append(p.Chips, chip{Key: key, Title: title, N: n[v], On: on, URL: p.Search.address(func(f *search) {
			f.After = nil
			if f.Verdict = string(v); on {
				f.Verdict = ""
			}
		})})
	}
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
			l = &lane{Service: d.Service, URL: f.address(func(f *search) { f.After, f.Service = nil, d.Service })}
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
	for _, d := range all {
		v := report.Verdict(d.Verdict)
		if v == report.NotEnoughData || v == report.CouldNotCheck || !d.Upgrade {
			continue
		}
		class := "w-quiet"
		if v == report.Regressed {
			g.Alarms++
			class = "w-alarm"
			if d.Said != nil {
				g.Marked++
				if class = "w-real"; d.Said.Kind == journal.FalseAlarm {
					g.False++
					class = "w-false"
				}
			}
		}
		if g.Judged < maxSquares {
			g.Squares = append(g.Squares, square{Class: class})
		}
		g.Judged++
	}
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
		promised = max(promised, r.Alpha.Report)
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
	match := func(d *deploy) bool {
		return f.Verdict == "" || d.Verdict == f.Verdict
	}
	text := strings.ToLower(f.Text)
	searched := 0
	var last *deploy
	for i := range all {
		d := &all[i]
		if !match(d) {
			continue
		}
		if text == "" {
			p.Found++
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
			l.Broken = err.Error()
			l.Summary = &report.Summary{Badges: []report.Badge{{Key: l.Shape, Text: l.Words}}, Search: strings.ToLower(d.Service + "\n" + d.ID)}
		}
		if text != "" && !strings.Contains(l.Search, text) {
			continue
		}
		if d.Said == nil && (d.Verdict == string(report.Regressed) || d.Verdict == string(report.Undecided)) && s.speaks(r) {
			l.Token = s.token(r, "feedback "+d.ID)
		}
		p.Shown++
		p.Drawn = p.Drawn || l.Spark != ""
		day := d.When.Truncate(24 * time.Hour)
		if n := len(p.Days); n == 0 || !p.Days[n-1].Day.Equal(day) {
			p.Days = append(p.Days, dayLines{Day: day})
		}
		at := &p.Days[len(p.Days)-1]
		at.Lines = append(at.Lines, l)
	}
	return nil
}

// Rest are the badges behind that of the verdict: what was done.
func (l line) Rest() []report.Badge { return l.Badges[1:] }
