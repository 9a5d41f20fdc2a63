package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
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
// looks once, at everything known; the next one continues.
func (s *session) recover(ctx context.Context) error {
	var acted []pastAction
	for _, a := range s.actions {
		if a.outcome == report.Verified && !a.proved.IsZero() && s.regressed(a.flag) {
			acted = append(acted, a)
		}
	}
	if len(acted) == 0 {
		s.in.Recovery = report.Recovery{State: report.RecoveryNone}
		return nil
	}
	for {
		was := s.in.Recovery.State
		s.in.Recovery = s.recovery(acted)
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
		err := s.look(ctx)
		if message, ok := errors.AsType[*report.Message](err); ok && message.Exit == report.ExitCouldNot {
			// The flag is off and proved; what is not known is only whether the numbers came back.
			s.Say(s.Progress.Line("not read", message.Title+"; trying again"))
			if s.present().After(s.stepTime(s.lastStep()).Add(2 * s.Rule.Windows.Step)) {
				s.in.Recovery.State, s.in.Recovery.Detail = report.RecoveryUnclear, report.Word(message.Title)
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
	}
}

// recovery judges every look since the proof, in order, from what was read.
func (s *session) recovery(acted []pastAction) report.Recovery {
	g := s.in.Geometry
	out := report.Recovery{State: report.RecoveryWatching}
	if !s.replaced.IsZero() {
		out.State = report.Superseded
		out.Detail = report.Word(fmt.Sprintf("%s followed at %s", s.replacedBy, stamp(s.replaced)))
		return out
	}
	proof := 0
	for _, a := range acted {
		proof = max(proof, s.stepOf(a.proved)+1)
	}
	rows := s.actedRows(acted)
	w := &s.recovering
	for w.next = max(w.next, g.FirstLook); w.next <= g.Horizon && proof+w.next <= s.in.Complete; w.next++ {
		w.look(rows, g, proof, s.Rule.Alpha.Report, s.history.excluded)
		if w.inARow == looksInARow {
			out.State, out.Confirmed = report.Recovered, report.At(s.stepTime(proof+w.next))
			out.Since = report.At(s.stepTime(proof + w.next - looksInARow + 1))
			return out
		}
	}
	if w.next <= g.Horizon {
		return out
	}
	switch {
	case !w.placebos:
		out.State, out.Detail = report.RecoveryUnclear, "the history holds too few stretches like this one to compare with"
	case !w.back:
		out.State, out.Detail = report.NotRecovered, "the flag was probably not the cause, or not the only one"
	default:
		out.State, out.Detail = report.RecoveryUnclear, "too little traffic to tell"
	}
	return out
}

// A recoveryWatch is how far the looks since a proof have come.
type recoveryWatch struct {
	next   int // the look to make, in steps since the proof
	inARow int // looks up to now that agree that every row is back

	// What the last look said of all rows together.
	back, fallen, placebos bool
}

// look compares the steps since the proof with the regressed window and with the baseline.
func (w *recoveryWatch) look(rows []actedRow, g baseline.Geometry, proof int, alpha float64, excluded [][2]int) {
	w.back, w.fallen, w.placebos = true, true, true
	for _, row := range rows {
		r := baseline.Recover(row.track, g, baseline.Watch{Written: row.written, Proof: proof, Through: proof + w.next, Fell: row.fell}, excluded)
		w.back = w.back && r.Back()
		w.fallen = w.fallen && r.Fallen <= alpha/float64(len(rows))
		w.placebos = w.placebos && r.Placebos >= fewPlacebos
	}
	if !w.back || !w.fallen || !w.placebos {
		w.inARow = 0
		return
	}
	w.inARow++
}

func (s *session) stepTime(k int) time.Time {
	return s.upgrade.At.Add(time.Duration(k) * s.Rule.Windows.Step)
}

// An actedRow is a regressed row whose flag was turned off.
type actedRow struct {
	track   telemetry.Track
	written int // step of the write
	fell    bool
}

// actedRows are the regressed rows of the flags acted on, each by the metric that it shows.
func (s *session) actedRows(acted []pastAction) []actedRow {
	var out []actedRow
	for _, a := range acted {
		for _, row := range s.judged.Rows {
			if row.Flag != a.flag || row.Verdict != detect.Regressed {
				continue
			}
			for _, t := range s.whole {
				if t.Endpoint == row.Endpoint && t.Signal == row.Signal && t.Metric == row.Metric {
					fell := s.Rule.Signals[row.Signal].Direction != rule.Up && row.Change.Ratio < 0
					out = append(out, actedRow{track: t, written: s.stepOf(a.At), fell: fell})
				}
			}
		}
	}
	return out
}
