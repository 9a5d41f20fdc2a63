package worker

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/baseline"
	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/report"
	"github.com/driftwatch/driftwatch/internal/rule"
	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func TestPictured(t *testing.T) {
	var rows []detect.Row
	for i := range 20 {
		e := telemetry.NewEndpoint(fmt.Sprint(i))
		row := detect.Row{Endpoint: e, Verdict: detect.NoMeaningfulRise}
		switch {
		case i == 1:
			row.Verdict, row.Suspected = detect.Undecided, true
		case i >= 5:
			row.Verdict = detect.Regressed
		}
		rows = append(rows, row, detect.Row{Endpoint: e, Verdict: row.Verdict, Signal: 1})
	}
	drawn, left := pictured(rows)
	if len(drawn) != report.MaxPictureEndpoints || left != 15+1-report.MaxPictureEndpoints {
		t.Fatalf("%d drawn, %d left", len(drawn), left)
	}
	if drawn[0] != telemetry.NewEndpoint("5") {
		t.Errorf("the first is %s; the regressed come before the suspected", drawn[0])
	}
	if drawn, left = pictured(rows[:10]); len(drawn) != 1 || left != 0 || drawn[0] != telemetry.NewEndpoint("1") {
		t.Errorf("drawn %v, %d left; only the suspected one is drawn", drawn, left)
	}
}

func TestColumnsCoverBaselineAndWatch(t *testing.T) {
	tests := []struct {
		name              string
		step, before      time.Duration
		complete          int
		scrape            time.Duration
		first, len, steps int // by hand
	}{
		{"an hour and an hour of minutes", time.Minute, time.Hour, 60, 15 * time.Second, -60, 120, 1},
		{"one step more doubles the width", time.Minute, time.Hour, 61, 15 * time.Second, -30, 60, 2},
		{"a column holds two scrapes", time.Second, time.Minute, 60, 5 * time.Second, -6, 12, 10},
		{"nothing is complete", time.Minute, time.Hour, 0, 0, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := rule.Windows{Step: tt.step, Before: tt.before, FirstLook: 5 * tt.step, Horizon: 60 * tt.step}
			u := telemetry.Upgrade{At: at, Started: at}
			s := &session{Checker: &Checker{Rule: &rule.Rule{Windows: w}}, upgrade: &u}
			s.in.Geometry, s.in.Complete, s.history.scrape = baseline.NewGeometry(w, u), tt.complete, tt.scrape
			g := s.columns()
			if g.First != tt.first || g.Len != tt.len || g.Step != time.Duration(tt.steps)*tt.step {
				t.Errorf("columns from %d, %d of %v; want from %d, %d of %d steps", g.First, g.Len, g.Step, tt.first, tt.len, tt.steps)
			}
		})
	}
}

// A band is the middle 95 % of the history's stretches: of 100 rates from 0.00 to 0.99 those
// from 0.02 to 0.97. Stretches of an earlier upgrade and those with a missing step are none.
func TestBands(t *testing.T) {
	w := rule.Windows{Step: time.Minute, Before: 10 * time.Minute, FirstLook: 5 * time.Minute, Horizon: 10 * time.Minute, History: 4 * time.Hour}
	u := telemetry.Upgrade{At: at, Started: at}
	s := &session{Checker: &Checker{Rule: &rule.Rule{Windows: w}}, upgrade: &u}
	s.in.Geometry = baseline.NewGeometry(w, u)
	k := key{telemetry.NewEndpoint("/"), 0, telemetry.Retry}
	track := telemetry.Track{Endpoint: k.endpoint, Signal: k.signal, Metric: k.metric, First: -10 - 2*102}
	for i := range 2 * 102 {
		rate := float64(i/2-1) / 100
		trials := 50.0
		switch {
		case i < 2:
			rate = 900 // an upgrade
		case i == 203:
			trials = math.NaN()
		}
		track.Events, track.Trials = append(track.Events, rate*trials), append(track.Trials, trials)
	}
	track.Events, track.Trials = append(track.Events, make(telemetry.Values, 20)...), append(track.Trials, make(telemetry.Values, 20)...)
	s.whole, s.history.excluded = []telemetry.Track{track}, [][2]int{{track.First, track.First + 2}}
	for _, b := range s.bands(k, 1) {
		if b.Columns != 2 {
			continue
		}
		if b.Stretches != 100 || math.Abs(b.Low-0.02) > 1e-9 || math.Abs(b.High-0.97) > 1e-9 {
			t.Errorf("band %+v, want 0.02 to 0.97 of 100 stretches", b)
		}
		return
	}
	t.Errorf("no band of two columns: %+v", s.bands(k, 1))
}

// Pictures that are gone, or that there never were, take nothing from a stored report.
func TestStoredWithoutPictures(t *testing.T) {
	j, err := journal.Open(t.Context(), filepath.Join(t.TempDir(), "driftwatch.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	r := report.New(report.Input{Rule: &rule.Rule{Service: "s"}, Now: at, ID: "a"})
	for body, want := range map[string]string{`{}`: "", `{"pictures": "0123"}`: "0123", `{"pictures": `: "read the inputs of a"} {
		got, err := Stored(t.Context(), j, journal.Record{ID: "a", Body: []byte(body), Report: r.JSON()})
		switch {
		case err != nil:
			t.Errorf("%s: %v", body, err)
		case want == "" && got.Pictures != nil:
			t.Errorf("%s: pictures %+v", body, got.Pictures)
		case want != "" && (got.Pictures == nil || !strings.Contains(strings.Join(got.Pictures.Notes, " "), want)):
			t.Errorf("%s: pictures %+v do not say what is missing", body, got.Pictures)
		}
	}
	p := report.Pictures{Start: report.At(at), StepS: 60, Columns: 1, Rows: []report.Picture{{
		Endpoint: []string{"/"}, Signal: "retries", Kind: "ratio", Values: []telemetry.Values{{math.NaN()}, {5}},
	}}}
	body, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := j.PutBlob(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Stored(t.Context(), j, journal.Record{ID: "a", Body: []byte(`{"pictures": "` + hash + `"}`), Report: r.JSON()})
	if err != nil || got.Pictures == nil || len(got.Pictures.Rows) != 1 || !math.IsNaN(got.Pictures.Rows[0].Values[0][0]) {
		t.Errorf("pictures %+v, %v", got.Pictures, err)
	}
}

// The last judgement about the upgrade counts, whichever of its reports it was about; comments
// judge nothing.
func TestSaid(t *testing.T) {
	j, err := journal.Open(t.Context(), filepath.Join(t.TempDir(), "driftwatch.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	record := journal.Record{ID: "a", UpgradeID: "u"}
	said := func() *report.Said {
		t.Helper()
		return Said(t.Context(), j, record)
	}
	if got := said(); got != nil {
		t.Errorf("%+v before anybody spoke", got)
	}
	for _, f := range []journal.Feedback{
		{ReportID: "a", UpgradeID: "u", Service: "s", Kind: journal.Real, By: "first", At: at},
		{ReportID: "other", UpgradeID: "u", Service: "s", Kind: journal.FalseAlarm, By: "second", Text: "index rebuild", At: at},
		{ReportID: "a", UpgradeID: "u", Service: "s", Kind: journal.Comment, By: "third", Text: "hm", At: at},
		{ReportID: "a", UpgradeID: "v", Service: "s", Kind: journal.Real, By: "fourth", At: at},
	} {
		if err := j.AppendFeedback(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if got := said(); got == nil || !got.FalseAlarm || got.By != "second" || got.Text != "index rebuild" || !got.At.Equal(at) {
		t.Errorf("%+v, want the false alarm", got)
	}
}
