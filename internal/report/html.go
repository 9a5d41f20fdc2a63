package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/driftwatch/driftwatch/internal/report/plot"
)

// HTMLOptions say what surrounds a report. The zero value is a file that stands on its own.
type HTMLOptions struct {
	Links Links

	// For whoever serves the report. Below goes to the commands: markup of the server's own, with
	// everything escaped.
	Home    string // address of all reports; "" = none
	Nav     []NavLink
	Refresh time.Duration // of a report that is not over; 0 = never
	Below   template.HTML
}

// A NavLink is a link of the page's head.
type NavLink struct{ Text, URL string }

// Links are the addresses at which people look at Prometheus and Grafana; "" = no links.
type Links struct{ Prometheus, Grafana string }

//go:embed html/style.css
var styleText string

//go:embed html/report.js
var scriptText string

//go:embed html/report.tmpl
var templateText string

var pages = template.Must(template.New("").Funcs(template.FuncMap{"nb": unbroken, "minus": minus, "capital": capital, "strip": strip}).Parse(templateText))

func strip(s *plot.Strip) template.HTML {
	return template.HTML(s.HTML()) //nolint:gosec // plot escapes
}

// ContentSecurityPolicy is the policy of a report: its own style and script by their hashes,
// and nothing else. Whoever serves one sends the same in a header, with what it adds.
func ContentSecurityPolicy() string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(styleText) + "; script-src " + hash(scriptText) + "; base-uri 'none'"
}

// StyleSheet is the style of the reports, for pages that are to look like them.
func StyleSheet() string { return styleText }

// How many rows a page shows at once. A group that is larger is folded: a browser lays out
// closed folds only when they are opened, which keeps a report of 10,000 rows quick. Rows in pages
// have no pictures: a browser needs as long for those as for all else of such a report.
const (
	maxGroup  = 40  // rows of a group in the table itself
	firstRows = 20  // of a larger one that regressed, or may have
	pageRows  = 500 // in one fold
	maxListed = 30  // in the lists below
)

// longName is from how many columns on an endpoint may break anywhere, and is cut in the middle.
const (
	longName = 44
	cutName  = 140
)

type pageRow struct {
	Row
	Name, Full string
	Few        string // requests before and after in three digits each
	Long       bool
	Sure       bool // Interval is one, and not what is lacking
	Forest     template.HTML
	Why        string
}

type pageGroup struct {
	Key, Title, Why string
	N               string
	Rows            []pageRow
	Pages           []pageTable
	Open            bool
}

type pageTable struct {
	Key, Title, Caption, Last string
	Drawn                     bool // the rows have pictures
	Rows                      []pageRow
}

type pageFigure struct {
	Title, Words string
	Ramp         bool
	Plot         template.HTML
}

type pageCard struct {
	Card
	Name        string
	Rows        []pageRow
	Time, Share []pageFigure
	Links       []pageQuery
	From, To    string
}

type pageQuery struct {
	Name, Text          string
	Prometheus, Grafana string
}

type pageCommand struct{ ID, Title, Text, Line string }

type pageData struct {
	V                                       *View
	ID, Policy, Home                        string
	Refresh                                 int
	Nav                                     []NavLink
	CSS                                     template.CSS
	JS                                      template.JS
	Below                                   template.HTML
	Lede                                    []template.HTML
	Healed, Off, Evidence                   bool
	Urgent, Commands                        []pageCommand
	Ribbon, Axis                            template.HTML
	Chips, Main, Folds                      []pageGroup
	Signals                                 []string
	Cards                                   []pageCard
	Left                                    string
	Improved, Excluded, Lacking             []pageRow
	MoreImproved, MoreExcluded, MoreLacking string
	Flat                                    []Limit
	Compared, NotRisen, NotJudged           string // how many comparisons
	MoreFlat                                string
	Queries                                 []pageQuery
}

// HTML is r as one file: no request leaves it, and it works with scripts blocked.
func HTML(r *Report, o HTMLOptions) []byte {
	v := NewView(r)
	p := pageData{
		V: v, ID: cut(printable(r.ID), 120), Policy: ContentSecurityPolicy(), Home: o.Home, Nav: o.Nav,
		CSS: template.CSS(styleText), JS: template.JS(scriptText), //nolint:gosec // our own files
		Below: o.Below, Signals: r.signals(),
		Evidence: len(v.For)+len(v.Against)+len(v.Open) > 0,
	}
	if o.Below == "" {
		p.Policy += "; form-action 'none'"
	}
	if r.Looks != nil && !r.Looks.Next.IsZero() || r.Recovery.State == RecoveryWatching {
		p.Refresh = int(o.Refresh.Seconds())
	}
	for _, a := range r.actionsLast() {
		p.Off = p.Off || !a.At.IsZero()
	}
	p.Healed = r.Verdict == Regressed && r.Recovery.State == Recovered
	p.commands()
	if f, ok := v.ribbon(); ok {
		p.Ribbon = template.HTML(f.HTML()) //nolint:gosec // plot escapes
	}
	var names []string
	for _, row := range v.Rows[:min(3, len(v.Rows))] {
		names = append(names, middle(row.Endpoint, maxName))
	}
	for _, s := range v.Lede {
		p.Lede = append(p.Lede, told(unbroken(s), names))
	}
	p.table()
	window := r.window()
	for i, c := range v.Cards() {
		p.Cards = append(p.Cards, newPageCard(c, o.Links, window))
		if c.Table != nil {
			p.Cards[i].From, p.Cards[i].To = r.tableSpan(c)
		}
	}
	if n := r.left(len(p.Cards)); n > 0 {
		p.Left = fmt.Sprintf("The worst %d of %d endpoints that regressed or may have are drawn; the others are in the table.", len(p.Cards), len(p.Cards)+n)
	}
	p.flat()
	p.Improved, p.MoreImproved = listed(reasoned(v.Improved))
	p.Excluded, p.MoreExcluded = listed(v.Excluded)
	p.Lacking, p.MoreLacking = listed(v.Lacking)
	for _, q := range v.Queries {
		q = printable(q)
		p.Queries = append(p.Queries, pageQuery{"", q, o.Links.prometheus(q, window), o.Links.grafana(q, window)})
	}
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, "report", &p); err != nil {
		panic(fmt.Sprintf("report: page: %v", err)) // the template fits the data, whatever it holds
	}
	return b.Bytes()
}

func (p *pageData) commands() {
	add := func(to *[]pageCommand, c Command) {
		*to = append(*to, pageCommand{fmt.Sprintf("cmd-%d", len(p.Urgent)+len(p.Commands)+1), c.Title, c.Text, c.Line})
	}
	for _, line := range p.V.Urgent {
		add(&p.Urgent, Command{Line: line})
	}
	for _, c := range p.V.Overrule {
		add(&p.Commands, c)
	}
	for _, c := range p.V.Feedback() {
		add(&p.Commands, c)
	}
	for _, c := range p.Commands {
		if c.Line == p.V.Next.Line {
			return
		}
	}
	if p.V.Next.Line != "nothing to do" {
		next := p.V.Next
		next.Text = capital(orElse(next.Text, "The step that a person would take now."))
		add(&p.Commands, next)
	}
}

// newPageRow is a row with its picture.
func newPageRow(row Row, short bool) pageRow {
	out := pageRow{Row: row, Name: middle(row.Endpoint, cutName), Long: columns(row.Endpoint) > longName}
	if out.Long {
		out.Full = cut(row.Endpoint, 1000)
	}
	out.Change, out.Interval, out.Onset = minus(row.Change), minus(row.Interval), minus(row.Onset)
	lacks := row.Note != "" && (row.Verdict == NotEnoughData || row.Verdict == CouldNotCheck)
	if out.Sure = row.Interval != "" && !lacks; !out.Sure {
		// What is lacking; when it will be enough stands in the list of what was not judged.
		out.Interval, _, _ = strings.Cut(row.Note, ", enough about")
		out.Interval = cut(out.Interval, 60)
	}
	if row.Requests != "" {
		out.Few = thousands(row.c.Baseline.Requests) + " / " + thousands(row.c.Post.Requests)
	}
	f := row.forest()
	if short {
		out.Forest = template.HTML(f.Short()) //nolint:gosec // plot escapes
	} else {
		f.Label = middle(row.Endpoint, cutName) + strings.TrimPrefix(f.Label, row.Endpoint)
		out.Forest = template.HTML(f.SVG()) //nolint:gosec // plot escapes
	}
	return out
}

// unbroken is s with its units tied to their numbers, so that no line begins with "%".
func unbroken(s string) string {
	words := strings.Split(s, " ")
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			if last := words[i-1]; sticks(w) && last != "" && strings.ContainsRune("0123456789", rune(last[len(last)-1])) {
				b.WriteString("\u00a0")
			} else {
				b.WriteByte(' ')
			}
		}
		b.WriteString(w)
	}
	return b.String()
}

// thousands is a count in three digits: "80.4 k", "1.29 M".
func thousands(x Number) string {
	switch {
	case !x.Known():
		return unknown
	case x >= 999.5e6:
		return three(float64(x)/1e9) + " G"
	case x >= 999.5e3:
		return three(float64(x)/1e6) + " M"
	case x >= 9999.5:
		return three(float64(x)/1e3) + " k"
	}
	return count(x)
}

// told is a sentence in which the names of the first rows are set as code, and "784 ms instead
// of 390 ms" stands out.
func told(s string, names []string) template.HTML {
	var b strings.Builder
	for s != "" {
		at, name := -1, ""
		for _, n := range names {
			if i := strings.Index(s, n); n != "" && i >= 0 && (at < 0 || i < at) {
				at, name = i, n
			}
		}
		if at < 0 {
			at = len(s)
		}
		plain := s[:at]
		s = s[at:]
		if _, rest, ok := strings.Cut(plain, " took "); ok && strings.Contains(rest, " instead of ") {
			head := plain[:len(plain)-len(rest)]
			values, tail, _ := strings.Cut(rest, " (")
			b.WriteString(html.EscapeString(head) + "<b>" + html.EscapeString(values) + "</b>" + html.EscapeString(rest[len(values):len(rest)-len(tail)]) + html.EscapeString(tail))
		} else {
			b.WriteString(html.EscapeString(plain))
		}
		if s != "" {
			b.WriteString("<code>" + html.EscapeString(name) + "</code>")
			s = s[len(name):]
		}
	}
	return template.HTML(b.String()) //nolint:gosec // every part is escaped
}

// minus writes the hyphens of negative numbers as the sign that they are.
func minus(s string) string {
	s = strings.ReplaceAll(s, " -", " \u2212")
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		return "\u2212" + rest
	}
	return s
}

// table sorts the groups into the table and the folds below it.
func (p *pageData) table() {
	var axis strings.Builder
	axis.WriteString(`<svg class="fpa" aria-hidden="true">`)
	for _, t := range changeTicks() {
		axis.WriteString(`<text x="` + strconv.FormatFloat(t.At*100, 'f', 1, 64) + `%" y="12" text-anchor="middle">` + html.EscapeString(minus(t.Text)) + `</text>`)
	}
	axis.WriteString(`</svg>`)
	p.Axis = template.HTML(axis.String()) //nolint:gosec // numbers only
	for _, g := range p.V.Groups {
		out := pageGroup{Key: g.Key, Title: g.Title, Why: g.Why, N: count(Number(len(g.Rows)))}
		p.chip(g)
		rows := g.Rows
		inTable := len(rows)
		if len(rows) > maxGroup {
			inTable = 0
			if g.Verdict != NoMeaningfulRise && g.Verdict != NotEnoughData {
				inTable = firstRows
			}
		}
		if inTable > 0 {
			main := out
			for _, row := range rows[:inTable] {
				main.Rows = append(main.Rows, newPageRow(row, false))
			}
			p.Main = append(p.Main, main)
		}
		if rest := rows[inTable:]; len(rest) > 0 {
			if inTable > 0 {
				out.N, out.Why = count(Number(len(rest)))+" more", "after the "+strconv.Itoa(inTable)+" above"
			}
			p.Folds = append(p.Folds, fold(out, g.Verdict, rest))
		}
	}
}

// chip adds a button for a group; groups of one shape share one.
func (p *pageData) chip(g Group) {
	for i := range p.Chips {
		if p.Chips[i].Key == g.Key {
			n, _ := strconv.Atoi(strings.ReplaceAll(p.Chips[i].N, " ", ""))
			p.Chips[i].N = count(Number(n + len(g.Rows)))
			return
		}
	}
	title := g.Title
	if g.Key == "und" {
		title = "Undecided"
	}
	p.Chips = append(p.Chips, pageGroup{Key: g.Key, Title: title, N: count(Number(len(g.Rows)))})
}

func fold(g pageGroup, v Verdict, rows []Row) pageGroup {
	last := "99 % interval"
	if v == NotEnoughData || v == CouldNotCheck {
		last = "What is needed"
		if v == CouldNotCheck {
			last = "Why"
		}
	}
	for from := 0; from < len(rows); from += pageRows {
		to := min(from+pageRows, len(rows))
		t := pageTable{Key: g.Key, Last: last, Drawn: len(rows) <= pageRows, Caption: fmt.Sprintf("%s, rows %d to %d", g.Title, from+1, to)}
		if len(rows) > pageRows {
			t.Title = fmt.Sprintf("Rows %s to %s", count(Number(from+1)), count(Number(to)))
		}
		for _, row := range rows[from:to] {
			t.Rows = append(t.Rows, newPageRow(row, true))
		}
		g.Pages = append(g.Pages, t)
	}
	return g
}

func reasoned(rows []Row) []Reasoned {
	var out []Reasoned
	for _, row := range rows {
		out = append(out, Reasoned{Row: row})
	}
	return out
}

// flat fills in the list of what did not rise.
func (p *pageData) flat() {
	p.Compared, p.NotJudged = count(Number(len(p.V.Rows))), count(Number(len(p.V.Lacking)))
	p.NotRisen = count(Number(p.V.r.count(NoMeaningfulRise)))
	rows := p.V.Flat.Rows
	for _, l := range rows[:min(maxListed, len(rows))] {
		l.Endpoint = middle(l.Endpoint, cutName)
		p.Flat = append(p.Flat, l)
	}
	p.MoreFlat = beyond(len(rows))
}

// beyond is what is said of a list of n that shows its first ones.
func beyond(n int) string {
	if n <= maxListed {
		return ""
	}
	return count(Number(n-maxListed)) + " more are in the table above."
}

// listed are the first rows of a list, and how many more the table has.
func listed(rows []Reasoned) (out []pageRow, more string) {
	for _, row := range rows[:min(maxListed, len(rows))] {
		r := newPageRow(row.Row, true)
		r.Why, r.Interval = row.Why, minus(row.Interval)
		out = append(out, r)
	}
	return out, beyond(len(rows))
}

func newPageCard(c Card, links Links, window [2]time.Time) pageCard {
	out := pageCard{Card: c, Name: middle(c.Endpoint, cutName)}
	for _, row := range c.Rows {
		r := newPageRow(row, true)
		r.Interval = minus(row.Interval)
		out.Rows = append(out.Rows, r)
	}
	figures := func(from []Figure) []pageFigure {
		var to []pageFigure
		for _, f := range from {
			f.Plot.Label = cut(f.Plot.Label, 400)
			to = append(to, pageFigure{f.Title, f.Words, f.Ramp, template.HTML(f.Plot.HTML())}) //nolint:gosec // plot escapes
		}
		return to
	}
	out.Time, out.Share = figures(c.Time), figures(c.Share)
	for _, q := range c.Queries {
		out.Links = append(out.Links, pageQuery{q.Name, cut(q.Text, 2000), links.prometheus(q.Text, window), links.grafana(q.Text, window)})
	}
	return out
}

// window is the time that links look at: all that was compared, and until the report.
func (r *Report) window() [2]time.Time {
	end := r.Now.Time
	start := end.Add(-time.Hour)
	if r.Windows != nil {
		start = r.Windows.Baseline[0].Time
		if p := r.Windows.Post; p != nil && p[1].After(end) {
			end = p[1].Time
		}
	}
	return [2]time.Time{start, end}
}

// maxLink is the longest expression that is put into a link; browsers and proxies cut longer
// addresses, and half an expression is another one.
const maxLink = 3000

// prometheus is a link to the graph of an expression, "" without an address.
func (l Links) prometheus(expr string, w [2]time.Time) string {
	base, ok := linkBase(l.Prometheus)
	if !ok || len(expr) > maxLink {
		return ""
	}
	length := int(w[1].Sub(w[0]).Seconds())
	q := url.Values{
		"g0.expr": {expr}, "g0.tab": {"0"}, "g0.range_input": {strconv.Itoa(max(length, 60)) + "s"},
		"g0.end_input": {w[1].UTC().Format("2006-01-02 15:04:05")},
	}
	return base + "/graph?" + q.Encode()
}

// grafana is a link to the expression in Explore, with Grafana's default data source.
func (l Links) grafana(expr string, w [2]time.Time) string {
	base, ok := linkBase(l.Grafana)
	if !ok || len(expr) > maxLink {
		return ""
	}
	panes, err := json.Marshal(map[string]any{"driftwatch": map[string]any{
		"queries": []any{map[string]any{"refId": "A", "expr": expr}},
		"range":   map[string]string{"from": strconv.FormatInt(w[0].UnixMilli(), 10), "to": strconv.FormatInt(w[1].UnixMilli(), 10)},
	}})
	if err != nil {
		return ""
	}
	return base + "/explore?" + url.Values{"schemaVersion": {"1"}, "panes": {string(panes)}}.Encode()
}

// linkBase is an address without what must not be shown: user, password, query.
func linkBase(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", false
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return strings.TrimRight(u.String(), "/"), true
}

// left is how many endpoints that regressed, or may have, are not drawn.
func (r *Report) left(drawn int) int {
	seen := map[string]bool{}
	for _, c := range r.Comparisons {
		if c.Verdict == Regressed || c.Suspected {
			seen[fmt.Sprint(c.Labels)] = true
		}
	}
	return max(0, len(seen)-drawn)
}

// tableSpan is where the columns of a card's table lie in its plots, 0 to 1.
func (r *Report) tableSpan(c Card) (from, to string) {
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', 4, 64) }
	return number(c.span[0]), number(c.span[1])
}
