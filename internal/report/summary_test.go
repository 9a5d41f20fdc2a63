package report

import (
	"strings"
	"testing"

	"github.com/driftwatch/driftwatch/internal/detect"
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
	for _, text := range []string{"2.42.0", "authorize", "verified"} {
		if !strings.Contains(s.Search, text) {
			t.Errorf("a search for %q does not find %q", text, s.Search)
		}
	}
}
