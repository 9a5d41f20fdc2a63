package web

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
)

// A Flag is a flag that a rule names, as its source has it now.
type Flag struct {
	Key, Source string
	Service     string
	Rule        string // path:line
	State       string // "on", "on for some", "off", "disabled", "missing"; "" where it cannot be read
	Off         bool   // everybody gets the off variant
	Revision    string
	ReadOnly    string // why its source cannot be written; "" = it can
	Act         bool   // driftwatch may turn it off
	Err         string // why it cannot be read
}

// A Proposal is what would be written, for a person to look at.
type Proposal struct {
	Key, Source string
	Path        string // where
	Revision    string // of the flag now; whoever confirms names it again
	Diff        string
	By, Reason  string    // of a plan
	ValidUntil  time.Time // of a plan; zero = none
	Words       string    // what it does, in a sentence
}

// A Hand writes flags for the people who asked for it, by journal. The errors of a Hand are
// *Refusal where a person can mend them.
type Hand interface {
	// Off and Restore show what turning a flag off, or taking that back, would write. Where by is
	// given it is done, if the flag still is at revision; the answer says what came of it.
	Off(ctx context.Context, source, key string) (Proposal, error)
	TurnOff(ctx context.Context, source, key, revision, by, reason string) (string, error)
	Restorable(ctx context.Context, source, key string) (Proposal, error)
	Restore(ctx context.Context, source, key, revision, by string) (string, error)
	// Plans are the names of the plans that wait for approval; Plan shows one, with a revision
	// that names its text; Apply carries it out.
	Plans(ctx context.Context) ([]string, error)
	Plan(ctx context.Context, name string) (Proposal, error)
	Apply(ctx context.Context, name, revision, by string) (string, error)
}

// A Refusal is something that was not done, and why. Nothing was written, unless Written.
type Refusal struct {
	Status  int // of HTTP: 404, 409
	Err     error
	Written bool
}

func (e *Refusal) Error() string { return e.Err.Error() }
func (e *Refusal) Unwrap() error { return e.Err }

// tokenLife is how long a form may lie open. An incident lasts hours; a form of yesterday shows
// a flag as it was.
const tokenLife = 12 * time.Hour

// token makes a form good for one purpose, user and half a day. The password of basic auth goes
// with every request that any page makes, so it does not tell that the user meant it.
func (s *Server) token(r *http.Request, purpose string) string {
	until := binary.BigEndian.AppendUint64(nil, uint64(s.Clock().Add(tokenLife).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(until, s.seal(r, purpose, until)...))
}

func (s *Server) seal(r *http.Request, purpose string, until []byte) []byte {
	name, _, _ := r.BasicAuth()
	mac := hmac.New(sha256.New, s.key)
	for _, part := range []string{name, purpose, string(until)} {
		_, _ = fmt.Fprintf(mac, "%d:%s", len(part), part) // a hash takes everything
	}
	return mac.Sum(nil)
}

// errForm is a form without a good token.
var errForm = errors.New("the form is not of this server, or too old; open it again and send it once more")

func (s *Server) checkToken(r *http.Request, purpose string) error {
	b, err := base64.RawURLEncoding.DecodeString(r.PostFormValue("token"))
	if err != nil || len(b) != 8+sha256.Size || !hmac.Equal(b[8:], s.seal(r, purpose, b[:8])) ||
		s.Clock().Unix() > int64(binary.BigEndian.Uint64(b[:8])) {
		return errForm
	}
	return nil
}

// speaks reports whether who sent r would be let in with feedback, without asking for the password.
func (s *Server) speaks(r *http.Request) bool {
	if users, err := s.Users.Any(); err != nil || users {
		_, _, named := r.BasicAuth()
		return err == nil && named
	}
	return s.Loopback
}

// speaker is who gives feedback.
func (s *Server) speaker(r *http.Request) (string, error) {
	users, err := s.Users.Any()
	switch {
	case err != nil:
		return "", err
	case users:
		return s.Users.Name(r)
	case s.Loopback:
		return "anonymous on loopback", nil
	}
	return "", errors.New("feedback is kept with a name, and this server knows no users; name them in the file of --web.config.file")
}

// form reads a form and checks its token; ok is false where the answer was given.
func (s *Server) form(w http.ResponseWriter, r *http.Request, purpose func() string) bool {
	if err := r.ParseForm(); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); !large {
			err = bad("the form cannot be read: %v", err)
		}
		s.fault(w, r, err)
		return false
	}
	if err := s.checkToken(r, purpose()); err != nil {
		s.fail(w, r, http.StatusForbidden, err.Error())
		return false
	}
	return true
}

// maxText is how many letters a comment or a reason may have.
const maxText = 4000

func textOf(r *http.Request, name string) (string, error) {
	text := strings.TrimSpace(strings.ReplaceAll(r.PostFormValue(name), "\r\n", "\n"))
	switch {
	case !utf8.ValidString(text):
		return "", bad("%s is not UTF-8", name)
	case utf8.RuneCountInString(text) > maxText:
		return "", bad("%s has %d letters; %d is the most", name, utf8.RuneCountInString(text), maxText)
	}
	return text, nil
}

func (s *Server) feedback(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !s.form(w, r, func() string { return "feedback " + id }) {
		return
	}
	by, err := s.speaker(r)
	if err != nil {
		s.fail(w, r, http.StatusForbidden, err.Error())
		return
	}
	text, err := textOf(r, "text")
	kind := journal.FeedbackKind(r.PostFormValue("kind"))
	switch {
	case err != nil:
	case kind != journal.Real && kind != journal.FalseAlarm && kind != journal.Comment:
		err = bad("%s is no kind of feedback; write one of real, false_alarm, comment", strconv.Quote(cut(string(kind), 40)))
	case kind == journal.Comment && text == "":
		err = bad("a comment says something; write it into the form")
	}
	if err != nil {
		s.fault(w, r, err)
		return
	}
	record, err := s.Journal.Record(r.Context(), id)
	if err == nil {
		err = s.Journal.AppendFeedback(r.Context(), journal.Feedback{
			ReportID: record.ID, UpgradeID: record.UpgradeID, Service: record.Service, Kind: kind, Text: text, By: by, At: s.Clock(),
		})
	}
	if err != nil {
		s.fault(w, r, err)
		return
	}
	http.Redirect(w, r, reportURL(record.ID)+"#said", http.StatusSeeOther)
}

// mayAct reports why nobody acts from here, or that user cannot; "" = they may. With name the
// password is asked for, too.
func (s *Server) mayAct(r *http.Request) (name, why string) {
	if s.Hand == nil {
		return "", "the pages are read-only; driftwatch report serve --enable-actions with users in the file of --web.config.file lets people act"
	}
	name, err := s.Users.Name(r)
	if err != nil {
		return "", "flags are only touched for users by name: " + err.Error()
	}
	return name, ""
}

// refused answers with what a Hand did not do.
func (s *Server) refused(w http.ResponseWriter, r *http.Request, err error) {
	var no *Refusal
	if !errors.As(err, &no) {
		s.fault(w, r, err)
		return
	}
	text := no.Error()
	if !no.Written {
		text += "; nothing was written"
	}
	s.fail(w, r, no.Status, text)
}

type confirmPage struct {
	Proposal
	Verb, Token string
	Ask         bool // why
	Fields      map[string]string
}

// confirm shows what would be written, with a form that does it.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request, verb, purpose string, fields map[string]string, reason bool, look func(context.Context) (Proposal, error)) {
	if _, why := s.mayAct(r); why != "" {
		s.fail(w, r, http.StatusForbidden, why)
		return
	}
	p, err := look(r.Context())
	if err != nil {
		s.refused(w, r, err)
		return
	}
	fields["revision"] = p.Revision
	s.show(w, r, http.StatusOK, "confirm", verb, confirmPage{Proposal: p, Verb: verb, Token: s.token(r, purpose+" "+p.Revision), Ask: reason, Fields: fields})
}

// do does what was confirmed.
func (s *Server) do(w http.ResponseWriter, r *http.Request, purpose func() string, act func(ctx context.Context, revision, by, reason string) (string, error)) {
	if s.Hand == nil {
		_, why := s.mayAct(r)
		s.fail(w, r, http.StatusForbidden, why)
		return
	}
	if !s.form(w, r, func() string { return purpose() + " " + r.PostFormValue("revision") }) {
		return
	}
	by, why := s.mayAct(r)
	if why != "" {
		s.fail(w, r, http.StatusForbidden, why)
		return
	}
	reason, err := textOf(r, "reason")
	if err != nil {
		s.fault(w, r, err)
		return
	}
	done, err := act(r.Context(), r.PostFormValue("revision"), by, reason)
	if err != nil {
		s.Log.Error("a flag was not changed as asked", "path", r.URL.Path, "by", by, "error", err)
		s.refused(w, r, err)
		return
	}
	s.Log.Info("a flag was changed from the web", "path", r.URL.Path, "by", by, "done", done)
	http.Redirect(w, r, "/flags", http.StatusSeeOther)
}

func (s *Server) confirmOff(w http.ResponseWriter, r *http.Request) {
	source, key := r.URL.Query().Get("source"), r.URL.Query().Get("key")
	s.confirm(w, r, "Turn off", "off "+source+" "+key, map[string]string{"source": source, "key": key}, true,
		func(ctx context.Context) (Proposal, error) { return s.Hand.Off(ctx, source, key) })
}

func (s *Server) turnOff(w http.ResponseWriter, r *http.Request) {
	s.do(w, r, func() string { return "off " + r.PostFormValue("source") + " " + r.PostFormValue("key") },
		func(ctx context.Context, revision, by, reason string) (string, error) {
			return s.Hand.TurnOff(ctx, r.PostFormValue("source"), r.PostFormValue("key"), revision, by, reason)
		})
}

func (s *Server) confirmRestore(w http.ResponseWriter, r *http.Request) {
	source, key := r.URL.Query().Get("source"), r.URL.Query().Get("key")
	s.confirm(w, r, "Restore", "restore "+source+" "+key, map[string]string{"source": source, "key": key}, false,
		func(ctx context.Context) (Proposal, error) { return s.Hand.Restorable(ctx, source, key) })
}

func (s *Server) restore(w http.ResponseWriter, r *http.Request) {
	s.do(w, r, func() string { return "restore " + r.PostFormValue("source") + " " + r.PostFormValue("key") },
		func(ctx context.Context, revision, by, _ string) (string, error) {
			return s.Hand.Restore(ctx, r.PostFormValue("source"), r.PostFormValue("key"), revision, by)
		})
}

func (s *Server) confirmPlan(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.confirm(w, r, "Approve", "apply "+name, map[string]string{}, false,
		func(ctx context.Context) (Proposal, error) { return s.Hand.Plan(ctx, name) })
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.do(w, r, func() string { return "apply " + name },
		func(ctx context.Context, revision, by, _ string) (string, error) {
			return s.Hand.Apply(ctx, name, revision, by)
		})
}

// report serves one report, as -o html writes it, with what people said and a form below.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	record, err := s.Journal.Record(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fault(w, r, err)
		return
	}
	stored, err := s.Stored(r.Context(), record)
	if err != nil {
		s.fault(w, r, fmt.Errorf("the report %s cannot be read: %w; the journal says of it: %s, judged as of %s. Other reports are not touched",
			record.ID, err, strings.ReplaceAll(record.Verdict, "_", " "), record.Now.Format("2006-01-02 15:04 UTC")))
		return
	}
	filter := journal.FeedbackFilter{ReportID: record.ID}
	if record.UpgradeID != "" {
		filter = journal.FeedbackFilter{UpgradeID: record.UpgradeID}
	}
	below := struct {
		Said       []journal.Feedback
		Notices    []string
		URL, Token string
	}{URL: reportURL(record.ID) + "/feedback"}
	said, err := s.Journal.Feedbacks(r.Context(), filter)
	if err != nil && r.Context().Err() == nil {
		s.faults.Inc()
		s.Log.Error("a page is shown in part", "path", r.URL.Path, "error", err)
		below.Notices = []string{"What people said cannot be read in full: " + err.Error()}
	}
	below.Said = said
	if s.speaks(r) {
		below.Token = s.token(r, "feedback "+record.ID)
	}
	if s.Said != nil {
		stored.Said = s.Said(r.Context(), record)
	}
	body := report.HTML(stored, report.HTMLOptions{
		Links: s.Links, Home: "/", Refresh: time.Minute,
		Nav:   []report.NavLink{{Text: "Rules", URL: "/rules"}, {Text: "Flags", URL: "/flags"}, {Text: "JSON", URL: "/api/v1/reports/" + strings.TrimPrefix(reportURL(record.ID), "/reports/")}},
		Below: s.part("below", below),
	})
	h := w.Header()
	h.Set("Content-Security-Policy", report.ContentSecurityPolicy()+"; form-action 'self'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(body)
}

// part is a piece of a page.
func (s *Server) part(name string, data any) template.HTML {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		s.Log.Error("a part of a page is not written", "part", name, "error", err)
	}
	return template.HTML(b.String()) //nolint:gosec // escaped by its template
}

// A flagLine is a flag with what driftwatch did to it, and would have done.
type flagLine struct {
	Flag
	Since      time.Time // off by driftwatch since; zero = it is not
	By         string
	Dry        *report.Shadow // nil: not known
	DryErr     string         // why
	Offer, URL string         // what may be done from here
	Command    string         // the same by hand
	Nothing    string         // why nothing may be done
}

// An actionLine is a change of a flag by driftwatch.
type actionLine struct {
	journal.Action
	What          string
	Report        string // its address; "" where a person acted because of none, or it is not in the journal
	Before, After string // revisions, short; "" where nothing was written
	Key, Outcome  string // what came of it
	Reason        string
	Now           string // state of the flag; "" where no rule names it
	Later         string // what came after it, where that makes undoing it pointless
	Offer, URL    string
	Command       string
}

// ByHand reports whether a person acted because of no upgrade.
func (l actionLine) ByHand() bool { return journal.ByHand(l.UpgradeID) || l.UpgradeID == "" }

// maxActions is how many actions the page of flags lists.
const maxActions = 200

// A flagRef is a flag of a source.
type flagRef struct{ source, key string }

func (r flagRef) query() string {
	return "?source=" + template.URLQueryEscaper(r.source) + "&key=" + template.URLQueryEscaper(r.key)
}

func (s *Server) flags(w http.ResponseWriter, r *http.Request) {
	code, notices := http.StatusOK, []string(nil)
	lines, actions, err := s.flagLines(r.Context())
	switch {
	case r.Context().Err() != nil:
		s.fault(w, r, r.Context().Err())
		return
	case err != nil:
		// What the flags are now does not depend on the journal, and is what a person needs most.
		s.faults.Inc()
		s.Log.Error("a page is shown in part", "path", r.URL.Path, "error", err)
		code = http.StatusInternalServerError
		notices = append(notices, "What driftwatch did to the flags cannot be read: "+err.Error())
	}
	_, why := s.mayAct(r)
	var plans []string
	if s.Hand != nil {
		if plans, err = s.Hand.Plans(r.Context()); err != nil {
			s.fault(w, r, err)
			return
		}
	}
	state := map[flagRef]string{}
	for i := range lines {
		l := &lines[i]
		ref := flagRef{l.Source, l.Key}
		if state[ref] = l.State; l.Err != "" {
			state[ref] = "unknown"
		}
		switch {
		case len(notices) > 0:
			l.Nothing = "unknown, without the journal"
		case !l.Since.IsZero():
			l.Offer, l.URL, l.Command = "Restore…", "/flags/restore"+ref.query(), "driftwatch flags restore "+report.Quote(l.Key)
		case l.Err != "":
			l.Nothing = "it cannot be read"
		case l.State == "missing":
			l.Nothing = "its source does not have it"
		case l.Off:
			l.Nothing = "it is off already, and not by driftwatch"
		case l.ReadOnly != "":
			l.Nothing = "its source cannot be written"
		default:
			l.Offer, l.URL, l.Command = "Turn off…", "/flags/off"+ref.query(), "driftwatch flags off "+report.Quote(l.Key)
		}
	}
	if why != "" {
		why = strings.ToUpper(why[:1]) + why[1:]
	}
	s.show(w, r, code, "flags", "Flags", map[string]any{
		"Notices": notices, "Flags": lines, "Actions": s.actionLines(r.Context(), actions, state), "More": max(0, len(actions)-maxActions), "Why": why, "Plans": plans,
	})
}

// actionLines are the newest actions, newest first.
func (s *Server) actionLines(ctx context.Context, actions []journal.Action, state map[flagRef]string) []actionLine {
	reports := s.reportsOf(ctx, actions)
	written := map[flagRef]*journal.Action{} // the write that follows, as the list goes back in time
	out := make([]actionLine, 0, min(len(actions), maxActions))
	for i := len(actions) - 1; i >= max(0, len(actions)-maxActions); i-- {
		a := &actions[i]
		ref := flagRef{a.Source, a.Flag}
		l := actionLine{Action: *a, What: "turned off", Now: state[ref], Key: "cnc", Outcome: "not known yet"}
		if a.Kind == journal.Restore {
			l.What = "restored"
		}
		if id := reports[a.UpgradeID]; id != "" {
			l.Report = reportURL(id)
		}
		wrote := false
		for _, o := range a.Outcomes {
			wrote = wrote || len(o.Receipt) > 0
			l.Reason = o.Reason
			l.Key, l.Outcome = outcomeWords(a.Kind, o.Outcome)
			if o.RevisionBefore != o.RevisionAfter {
				l.Before, l.After = cut(o.RevisionBefore, revisionLength), cut(o.RevisionAfter, revisionLength)
			}
		}
		next := written[ref]
		switch _, named := state[ref]; {
		case !wrote:
		case next != nil && next.Kind == journal.Restore:
			l.Later = "restored " + next.At.UTC().Format("2 January 15:04") + " by " + next.By
		case next != nil:
			l.Later = "turned off again " + next.At.UTC().Format("2 January 15:04")
		case !named:
			l.Later = "no rule names the flag any more"
		case a.Kind == journal.Restore:
			l.Offer, l.URL, l.Command = "Turn off…", "/flags/off"+ref.query(), "driftwatch flags off "+report.Quote(a.Flag)
		default:
			l.Offer, l.URL, l.Command = "Restore…", "/flags/restore"+ref.query(), "driftwatch flags restore "+report.Quote(a.Flag)
		}
		if wrote {
			written[ref] = a
		}
		out = append(out, l)
	}
	return out
}

// revisionLength is how much of a revision is shown: hashes are longer, and what servers count is
// shorter.
const revisionLength = 12

// outcomeWords are the shape and the words for what came of an action.
func outcomeWords(kind journal.Kind, outcome string) (key, words string) {
	switch report.Outcome(outcome) {
	case report.Verified:
		if kind == journal.Restore {
			return "ok", "restored"
		}
		return "ok", "verified off"
	case report.WrittenNotVerified:
		return "cnc", "written, not verified: a person is needed"
	case report.Failed:
		return "cnc", "failed"
	}
	return "open", strings.ReplaceAll(outcome, "_", " ")
}

// reportsOf are the newest reports on the upgrades of some actions. Where they cannot be read
// there are no links to them.
func (s *Server) reportsOf(ctx context.Context, actions []journal.Action) map[string]string {
	out := map[string]string{}
	if len(actions) == 0 {
		return out
	}
	// An upgrade is judged before anything is done about it, and again after that.
	records, err := s.Journal.Records(ctx, journal.RecordFilter{Since: actions[max(0, len(actions)-maxActions)].At.AddDate(0, 0, -days)})
	if err != nil {
		s.Log.Error("actions are shown without their reports", "error", err)
	}
	for _, r := range records {
		if r.UpgradeID != "" && out[r.UpgradeID] == "" {
			out[r.UpgradeID] = r.ID
		}
	}
	return out
}

// flagLines are the flags of the rules with what the journal knows of each, and all actions. With
// an error of the journal the lines hold what is known without it.
func (s *Server) flagLines(ctx context.Context) ([]flagLine, []journal.Action, error) {
	actions, err := s.Journal.Actions(ctx, journal.ActionFilter{})
	since := map[flagRef]flagLine{}
	for _, a := range actions {
		for _, o := range a.Outcomes {
			switch at := (flagRef{a.Source, a.Flag}); {
			case len(o.Receipt) == 0:
			case a.Kind == journal.Restore:
				delete(since, at)
			default:
				since[at] = flagLine{Since: o.At, By: a.By}
			}
		}
	}
	var out []flagLine
	dry := map[string]flagLine{}
	for _, f := range s.Flags(ctx) {
		l := since[flagRef{f.Source, f.Key}]
		l.Flag = f
		if err != nil {
			l.DryErr = "the journal cannot be read"
		} else if s.Shadow != nil {
			one, err := s.Shadow(ctx, f.Service, f.Key)
			sum, known := dry[f.Key]
			switch {
			case err != nil:
				sum = flagLine{DryErr: err.Error()}
			case !known:
				sum.Dry = &one
			case sum.Dry != nil: // services may share a flag
				sum.Dry.Times, sum.Dry.MarkedFalse = sum.Dry.Times+one.Times, sum.Dry.MarkedFalse+one.MarkedFalse
			}
			dry[f.Key] = sum
		}
		out = append(out, l)
	}
	for i := range out {
		if l, ok := dry[out[i].Key]; ok {
			out[i].Dry, out[i].DryErr = l.Dry, l.DryErr
		}
	}
	return out, actions, err
}
