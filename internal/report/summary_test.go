package report

import (
	"strings"
	"testing"
)

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
