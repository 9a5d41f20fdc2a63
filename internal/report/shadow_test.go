package report

import "testing"

func TestShadowText(t *testing.T) {
	for want, s := range map[string]*Shadow{
		"":                                      nil,
		" It would have acted once in 30 days.": {Times: 1, Days: 30},
		" It would have acted once in 30 days, marked false.":                 {Times: 1, Days: 30, MarkedFalse: 1},
		" It would have acted 2 times in 30 days, none of them marked false.": {Times: 2, Days: 30},
		" It would have acted 3 times in 30 days, 1 of them marked false.":    {Times: 3, Days: 30, MarkedFalse: 1},
	} {
		if got := shadowText(s); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}
