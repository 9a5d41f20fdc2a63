package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/driftwatch/driftwatch/internal/detect"
	"github.com/driftwatch/driftwatch/internal/report/plot"
)

// One state has one word and one shape, in the list, the banner and the line of status.
func TestOneWordForOneState(t *testing.T) {
	quiet := scenarios()["improved"]
	for i := range quiet.Judgement.Rows {
		quiet.Judgement.Rows[i].Verdict = detect.NoMeaningfulRise
	}
	for verdict, in := range map[Verdict]Input{
		CouldNotCheck: scenarios()["could-not-check"], Undecided: scenarios()["undecided-at-the-end"], NotEnoughData: scenarios()["not-enough-data"],
		Improved: scenarios()["improved"], NoMeaningfulRise: quiet,
	} {
		r := New(in)
		if r.Verdict != verdict {
			t.Fatalf("the scenario of %s is %s", verdict, r.Verdict)
		}
		v := NewView(r)
		key, words := KeyOf(verdict)
		if verdict == NoMeaningfulRise {
			words = "No regression" // the conclusion, as the terminal has it, not the state of a row
		}
		if got := v.Badges[0]; got != (Badge{key, words}) || v.Tone != key {
			t.Errorf("%s: the banner says %q (%s, tone %s), the list %q (%s)", verdict, got.Text, got.Key, v.Tone, words, key)
		}
		if want := "checkout-api 2.42.0: " + strings.ToLower(words); r.statusLine() != want {
			t.Errorf("%s: the status is %q, want %q", verdict, r.statusLine(), want)
		}
	}
}

func TestSummarize(t *testing.T) {
	for name, in := range scenarios() {
		r := New(in)
		v, s := NewView(r), Summarize(r)
		if len(s.Badges) == 0 || s.About == "" || strings.Contains(string(s.Forest), "NaN") {
			t.Errorf("%s: %+v", name, s)
		}
		if len(v.Rows) > 0 && s.Lead != "" && (s.Lead != minus(v.Rows[0].Change) || s.Sure != minus(v.Rows[0].Interval) || s.Forest == "") {
			t.Errorf("%s: the list says %s (%s), the report %s (%s)", name, s.Lead, s.Sure, v.Rows[0].Change, v.Rows[0].Interval)
		}
		if s.Lead == "" && s.Forest != "" || s.Spark != "" {
			t.Errorf("%s draws what it does not have: %+v", name, s)
		}
	}
	s := Summarize(picture(scenarios()["verified"]))
	if spark := string(s.Spark); !strings.HasPrefix(spark, `<svg class="spark"`) || !strings.Contains(spark, "s-after") {
		t.Errorf("drawn is %.300q", spark)
	}
	if s.Drawn != "p99 from 13:02:10 to 14:42:10" {
		t.Errorf("drawn is %q", s.Drawn)
	}
	for name, want := range map[string]string{
		"verified": "Flag off 14:27, verified | Recovered", "dry-run": "No action (dry run)", "could-not-check": "cannot reach Prometheus at http://prometheus.example.com:9090",
		"undecided-at-the-end": "None, watched for 1 h", "watching": "Look 1 of 56", "improved": "",
	} {
		var done []string
		for _, b := range Summarize(New(scenarios()[name])).Done {
			done = append(done, b.Text)
		}
		if got := strings.Join(done, " | "); got != want {
			t.Errorf("%s: done is %q, want %q", name, got, want)
		}
	}
	lost := picture(scenarios()["verified"])
	lost.Pictures = &Pictures{Notes: []string{"no blob 12ab"}}
	if got := Summarize(lost); got.Lost != "no blob 12ab" || got.Spark != "" {
		t.Errorf("lost pictures give %q, %q", got.Lost, got.Spark)
	}
	// Every kind of picture is one line in three colours, and draws nothing that is no number.
	r := picture(scenarios()["verified"])
	gauge := Picture{Kind: "gauge", Values: r.Pictures.Rows[1].Values[:1]}
	for _, p := range []*Picture{&r.Pictures.Rows[0], &r.Pictures.Rows[1], &gauge} {
		before := slices.Clone(p.Values[0])
		drawn := plot.Frame{Shape: r.timeline(NewView(r).Rows[:1]).spark(p)}.Shapes("spark")
		if strings.Count(drawn, "s-before") != 1 || strings.Count(drawn, "s-after") != 1 || strings.Count(drawn, "s-healed") != 1 || strings.Contains(drawn, "NaN") {
			t.Errorf("%s is drawn as %.300s", p.Kind, drawn)
		}
		if fmt.Sprint(before) != fmt.Sprint(p.Values[0]) {
			t.Errorf("drawing a %s changed it", p.Kind)
		}
	}
	for _, text := range []string{"2.42.0", "authorize", "verified"} {
		if !strings.Contains(s.Search, text) {
			t.Errorf("a search for %q does not find %q", text, s.Search)
		}
	}
}
