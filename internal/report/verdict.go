package report

import (
	"slices"

	"github.com/driftwatch/driftwatch/internal/detect"
)

// A Verdict is the word for a judgement.
type Verdict string

// The verdicts. PreExisting and Transient are those of comparisons only; a report counts
// them as Undecided.
const (
	CouldNotCheck    Verdict = "could_not_check"
	Regressed        Verdict = "regressed"
	Undecided        Verdict = "undecided"
	NotEnoughData    Verdict = "not_enough_data"
	Improved         Verdict = "improved"
	NoMeaningfulRise Verdict = "no_meaningful_rise"
	PreExisting      Verdict = "pre_existing"
	Transient        Verdict = "transient"
)

// verdictOf is the word for v; what is no verdict is the cautious one.
func verdictOf(v detect.Verdict) Verdict {
	word, err := v.MarshalText()
	if err != nil {
		return CouldNotCheck
	}
	return Verdict(word)
}

// worst is the verdict of the report: that of its worst comparison. Without any it is
// could_not_check if the check failed, else not_enough_data.
func (r *Report) worst() Verdict {
	for _, v := range []Verdict{Regressed, CouldNotCheck, Undecided, NotEnoughData, Improved, NoMeaningfulRise} {
		if v == CouldNotCheck && r.Failure != nil {
			return CouldNotCheck
		}
		if r.count(v) > 0 || v == Undecided && r.count(PreExisting)+r.count(Transient) > 0 {
			return v
		}
	}
	return NotEnoughData
}

// count is the number of comparisons with verdict v.
func (r *Report) count(v Verdict) int {
	n := 0
	for _, c := range r.Comparisons {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// The exit codes of check. Those of its faults are 1 and 2, of an interrupt 130.
const (
	ExitNoRegression = 0 // none confirmed
	ExitFault        = 1 // in driftwatch itself
	ExitUsage        = 2 // wrong usage, configuration or rule
	ExitVerifiedOff  = 3 // regression confirmed, flag off and verified off
	ExitNoAction     = 4 // regression confirmed, no action taken
	ExitNotVerified  = 5 // regression confirmed, action failed or not verified: a person is needed
	ExitNoData       = 6 // not enough data, with --require-data
	ExitCouldNot     = 7 // could not check
	ExitInterrupted  = 130
)

// ExitCode is what check exits with. With several regressed rows it is 5 if any action
// failed or is unproved, else 3 if every regressed row belongs to a flag that is verified
// off, else 4. Of several actions on one flag the last one counts. verdict is the report's;
// it decides where there are no rows.
func ExitCode(verdict Verdict, rows []Comparison, actions []Action, requireData bool) int {
	has := func(v Verdict) bool {
		return verdict == v || slices.ContainsFunc(rows, func(c Comparison) bool { return c.Verdict == v })
	}
	switch {
	case has(Regressed):
		last := map[Word]Outcome{}
		for _, a := range actions {
			last[a.Flag] = a.Outcome
		}
		for _, o := range last {
			if o == Failed || o == WrittenNotVerified {
				return ExitNotVerified
			}
		}
		for _, c := range rows {
			if c.Verdict == Regressed && (c.Flag == "" || last[c.Flag] != Verified) {
				return ExitNoAction
			}
		}
		return ExitVerifiedOff
	case has(CouldNotCheck):
		return ExitCouldNot
	case requireData && has(NotEnoughData):
		return ExitNoData
	}
	return ExitNoRegression
}
