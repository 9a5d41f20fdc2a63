package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/flags"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// looksInARow is how many looks must agree that the numbers are back. One may be luck, and
// looks share most of their steps; three cost two steps.
const looksInARow = 3

// fewPlacebos is how many placebos a recovery needs to be told (research: below 60 the error
// rates are no longer those promised).
const fewPlacebos = 60

// recover watches what the numbers do after a proved action. A check that does not wait
// looks once, at everything known; the next one continues. The rows that were acted on stay
// what they were at the action: a look that cannot read one of them is none.
func (s *session) recover(ctx context.Context) error {
	rows, proof := s.actedRows()
	if len(rows) == 0 {
		s.in.Recovery = report.Recovery{State: report.RecoveryNone}
		return nil
	}
	for {
		was := s.in.Recovery.State
		s.in.Recovery = s.recovery(ctx, rows, proof)
		if s.in.Recovery.State != was {
			s.Say(s.Progress.Recovery(s.in.Recovery))
			s.keepRecovery(ctx)
		}
		if !s.Wait || s.in.Recovery.State != report.RecoveryWatching {
			return nil
		}
		if err := s.awaitStep(ctx, s.in.Complete+1); err != nil {
			return err
		}
		if err := s.lookAgain(ctx, rows); err != nil {
			return err
		}
	}
}

// lookAgain makes another look for the recovery. Where it cannot read all that was acted on,
// the report stays what the last readable look made it: the regression is confirmed and the
// flag is off and proved, and only whether the numbers come back is not known.
func (s *session) lookAgain(ctx context.Context, rows []actedRow) error {
	in, judged, whole := s.in, s.judged, s.whole
	err := s.look(ctx)
	message, failed := errors.AsType[*report.Message](err)
	switch {
	case failed && message.Exit == report.ExitCouldNot:
		s.Say(s.Progress.Line("not read", message.Title+"; trying again"))
	case err != nil:
		return err
	case s.read(rows):
		s.recovering.unread = false
		return nil
	}
	s.recovering.unread = true
	in.Stats, in.Warnings, in.Queries = s.in.Stats, s.in.Warnings, s.in.Queries
	s.in, s.judged, s.whole = in, judged, whole
	return nil
}

// read reports whether the signals of all rows could be read at the last look.
func (s *session) read(rows []actedRow) bool {
	if s.in.Unread[-1] != "" {
		return false
	}
	for _, row := range rows {
		if s.in.Unread[row.key.signal] != "" || s.trackOf(row.key) == nil {
			return false
		}
	}
	return true
}

func (s *session) trackOf(k key) *telemetry.Track {
	for i, t := range s.whole {
		if t.Endpoint == k.endpoint && t.Signal == k.signal && t.Metric == k.metric {
			return &s.whole[i]
		}
	}
	return nil
}

// recovery judges every look since the proof, in order, from what was read.
func (s *session) recovery(ctx context.Context, rows []actedRow, proof int) report.Recovery {
	g := s.in.Geometry
	out := report.Recovery{State: report.RecoveryWatching}
	if !s.replaced.IsZero() {
		out.State = report.Superseded
		out.Detail = report.Word(fmt.Sprintf("%s followed at %s", s.replacedBy, stamp(s.replaced)))
		return out
	}
	if on := s.turnedOnAgain(ctx, rows); on != "" {
		out.State, out.Detail = report.RecoveryUnclear, report.Word(on+" was turned on again")
		return out
	}
	w := &s.recovering
	over := s.present().After(s.stepTime(proof + g.Horizon).Add(2 * max(s.Rule.Windows.Step, s.history.scrape)))
	if w.unread {
		w.inARow = 0
		if over {
			out.State, out.Detail = report.RecoveryUnclear, "what came after the flag went off could not be read"
		}
		return out
	}
	for w.next = max(w.next, g.FirstLook); w.next <= g.Horizon && proof+w.next <= s.in.Complete; w.next++ {
		w.look(s, rows, proof)
		if w.inARow == looksInARow {
			out.State, out.Confirmed = report.Recovered, report.At(s.stepTime(proof+w.next))
			out.Since = report.At(s.stepTime(proof + w.next - looksInARow + 1))
			return out
		}
	}
	if w.next <= g.Horizon && !over {
		return out
	}
	switch {
	case !w.placebos:
		out.State, out.Detail = report.RecoveryUnclear, "the history holds too few stretches like this one to compare with"
	case !w.known:
		out.State, out.Detail = report.RecoveryUnclear, "too much of the data after the flag went off is missing"
	case !w.back:
		out.State, out.Detail = report.NotRecovered, "the flag was probably not the cause, or not the only one"
	default:
		out.State, out.Detail = report.RecoveryUnclear, "too little traffic to tell"
	}
	return out
}

// turnedOnAgain names a flag that was acted on and is not off any more, or "".
func (s *session) turnedOnAgain(ctx context.Context, rows []actedRow) string {
	for _, row := range rows {
		f := s.Rule.Flags[row.flag]
		source, err := s.source(f.Source)
		if err != nil {
			continue
		}
		state, err := source.Read(ctx, flags.Ref{Source: f.Source, Key: f.Key})
		if err == nil && !state.Off(f.Off.Variant) {
			return f.Key
		}
	}
	return ""
}

// A recoveryWatch is how far the looks since a proof have come.
type recoveryWatch struct {
	next   int  // the look to make, in steps since the proof
	inARow int  // looks up to now that agree that every row is back
	unread bool // the newest data could not be read

	// What the last look said of all rows together.
	back, placebos, known bool

	made map[watched]*baseline.Recovering
}

// watched is what a recovery of one metric depends on.
type watched struct {
	key
	baseline.Watch
}

// of is the recovery of a metric, calibrated on its history at the first look.
func (w *recoveryWatch) of(s *session, k key, watch baseline.Watch, t telemetry.Track) *baseline.Recovering {
	r := w.made[watched{k, watch}]
	if r == nil {
		r = baseline.NewRecovering(t, s.in.Geometry, watch, s.history.excluded)
		if w.made == nil {
			w.made = map[watched]*baseline.Recovering{}
		}
		w.made[watched{k, watch}] = r
	}
	return r
}

// look compares the steps since the proof with the regressed window and with the baseline.
func (w *recoveryWatch) look(s *session, rows []actedRow, proof int) {
	w.back, w.placebos, w.known = true, true, true
	recovered := true
	for _, row := range rows {
		t := s.trackOf(row.key)
		if t == nil {
			w.known = false
			continue
		}
		r := w.of(s, row.key, baseline.Watch{Written: row.written, Proof: proof, Fell: row.fell}, *t).At(*t, w.next)
		w.back = w.back && r.Back()
		w.known = w.known && r.Known
		w.placebos = w.placebos && r.Placebos >= fewPlacebos
		recovered = recovered && r.Recovered(s.Rule.Alpha.Report)
	}
	if !recovered || !w.known {
		w.inARow = 0
		return
	}
	w.inARow++
}

func (s *session) stepTime(k int) time.Time {
	return s.upgrade.At.Add(time.Duration(k) * s.Rule.Windows.Step)
}

// An actedRow is a regressed row whose flag was turned off, by the metric that it showed.
type actedRow struct {
	key     key
	flag    int
	written int // step of the write
	fell    bool
}

// actedRows are the regressed rows of the flags that are off by us and proved, and the first
// step after all proofs.
func (s *session) actedRows() (rows []actedRow, proof int) {
	for _, a := range s.actions {
		if a.outcome != report.Verified || a.proved.IsZero() {
			continue
		}
		for _, row := range s.judged.Rows {
			if row.Flag != a.flag || row.Verdict != detect.Regressed {
				continue
			}
			rows = append(rows, actedRow{
				key: key{row.Endpoint, row.Signal, row.Metric}, flag: a.flag, written: s.stepOf(a.At),
				fell: s.Rule.Signals[row.Signal].Direction != rule.Up && row.Change.Ratio < 0,
			})
			proof = max(proof, s.stepOf(a.proved)+1)
		}
	}
	return rows, proof
}
