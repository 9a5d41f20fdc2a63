package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/driftwatch/driftwatch/demo/internal/model"
	"github.com/driftwatch/driftwatch/demo/internal/shop"
)

// actAlpha is alpha.act of the rule, which names none and so has the default.
const actAlpha = 0.01

// A record is what the story needs of driftwatch.report/v1. Absent numbers are nil.
type record struct {
	Schema   string `json:"schema"`
	Verdict  string `json:"verdict"`
	ExitCode int    `json:"exit_code"`
	Deploy   *struct {
		From, To string
		FoundBy  string `json:"found_by"`
	} `json:"deploy"`
	Calibration struct {
		Pooled  int    `json:"pooled"`
		History string `json:"history"`
	} `json:"calibration"`
	Comparisons []comparison `json:"comparisons"`
	Actions     []struct {
		Kind    string  `json:"kind"`
		Flag    string  `json:"flag"`
		Outcome string  `json:"outcome"`
		Reason  *string `json:"reason"`
	} `json:"actions"`
	Recovery struct {
		State string `json:"state"`
	} `json:"recovery"`
}

type comparison struct {
	Endpoint    string   `json:"endpoint"`
	Signal      string   `json:"signal"`
	Verdict     string   `json:"verdict"`
	AttainableQ *float64 `json:"attainable_q"`
}

func readRecord(path string) (*record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("driftwatch left no report: %w", err)
	}
	r := &record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read driftwatch's report: %w", err)
	}
	return r, nil
}

// An ending is all that decides how the story went: what driftwatch did, what it said about it,
// and what the flag file holds now.
type ending struct {
	exitCode int
	record   *record
	flags    []byte
}

// judge returns nil if the story went as its scenario should.
func (e ending) judge(scenario string) error {
	r := e.record
	if err := e.sound(); err != nil {
		return err
	}
	if scenario == noChange {
		switch {
		case e.exitCode != 0:
			return fmt.Errorf("nothing changed, and driftwatch exited with %d instead of 0", e.exitCode)
		case r.Verdict == "regressed" || r.Verdict == "could_not_check" || r.Verdict == "not_enough_data":
			return fmt.Errorf("nothing changed, and driftwatch's verdict is %s", r.Verdict)
		case string(e.flags) != flagsText:
			return errors.New("nothing changed, and the flag file was written")
		}
		return nil
	}

	if e.exitCode != 3 || r.Verdict != "regressed" {
		return fmt.Errorf("driftwatch did not confirm the regression and turn the flag off: verdict %s, exit code %d, want regressed, 3",
			r.Verdict, e.exitCode)
	}
	found := slices.ContainsFunc(r.Comparisons, func(c comparison) bool {
		return c.Verdict == "regressed" && c.Endpoint == name(slow())
	})
	if !found {
		return fmt.Errorf("driftwatch did not name the endpoint that became slow, %s", name(slow()))
	}
	for _, c := range r.Comparisons {
		if c.Verdict == "regressed" && c.Endpoint != name(slow()) {
			return fmt.Errorf("driftwatch blames %s, which did not change", c.Endpoint)
		}
	}
	verified := false
	for _, a := range r.Actions {
		verified = verified || a.Kind == "flag_off" && a.Flag == shop.Flag && a.Outcome == "verified"
	}
	if !verified {
		return fmt.Errorf("driftwatch's report does not say that %s is verified off", shop.Flag)
	}
	off, err := isOff(e.flags)
	switch {
	case err != nil:
		return err
	case !off:
		return fmt.Errorf("driftwatch says that %s is off, and the flag file does not", shop.Flag)
	case r.Recovery.State != "recovered":
		return fmt.Errorf("the flag is off, and the recovery is %q instead of recovered", r.Recovery.State)
	}
	return nil
}

// sound reports what is wrong with a record of either scenario.
func (e ending) sound() error {
	r := e.record
	switch {
	case r.Schema != "driftwatch.report/v1":
		return fmt.Errorf("driftwatch's report has the schema %q", r.Schema)
	case r.ExitCode != e.exitCode:
		return fmt.Errorf("driftwatch exited with %d, and its report says %d", e.exitCode, r.ExitCode)
	case r.Deploy == nil:
		return errors.New("driftwatch did not find the upgrade")
	case r.Deploy.From != shop.OldVersion || r.Deploy.To != shop.NewVersion || r.Deploy.FoundBy != "build_info":
		return fmt.Errorf("driftwatch found another upgrade: %+v", *r.Deploy)
	case r.Calibration.History != "generated":
		return fmt.Errorf("the report calls the history %q instead of generated", r.Calibration.History)
	case len(r.Comparisons) != 2*len(model.Endpoints):
		return fmt.Errorf("the report has %d comparisons, want two signals of %d endpoints", len(r.Comparisons), len(model.Endpoints))
	}
	for _, c := range r.Comparisons {
		if c.AttainableQ == nil || *c.AttainableQ > actAlpha {
			return fmt.Errorf("%s %s: the placebos do not suffice to confirm anything at %g", c.Endpoint, c.Signal, actAlpha)
		}
	}
	return nil
}

// slow is the endpoint that the new backoff makes slow.
func slow() model.Endpoint {
	i := slices.IndexFunc(model.Endpoints, func(e model.Endpoint) bool { return e.Locks })
	return model.Endpoints[i]
}

// name is an endpoint as a report writes it.
func name(e model.Endpoint) string { return e.Method + " " + e.Route }
