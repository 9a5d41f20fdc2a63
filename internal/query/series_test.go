package query

import (
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestSeries(t *testing.T) {
	const head = `{"status":"success","data":{"resultType":"matrix","result":[`
	one := `{"metric":{},"values":[[1773237600,"0"],[1773237720,"0.5"]]}` // the second of three is missing
	tests := []struct {
		name, body string
		want       []float64
		err        error
	}{
		{"a missing point is NaN", head + one + `]}}`, []float64{0, math.NaN(), 0.5}, nil},
		{"no series", head + `]}}`, []float64{math.NaN(), math.NaN(), math.NaN()}, nil},
		{"two series", head + one + `,{"metric":{"a":"b"},"values":[[1773237600,"1"]]}]}}`, nil, ErrBadQuery},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.FormValue("start") + " " + r.FormValue("end") + " " + r.FormValue("step"); got != "1773237600.000 1773237720.000 60" {
					t.Errorf("asked for %s", got)
				}
				_, _ = io.WriteString(w, tt.body)
			}))
			defer srv.Close()
			c, err := New(Options{Address: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := c.Series(t.Context(), "x", t0, minute, 3)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			for i, want := range tt.want {
				if got[i] != want && !(math.IsNaN(got[i]) && math.IsNaN(want)) {
					t.Errorf("value %d is %v, want %v", i, got[i], want)
				}
			}
		})
	}
}
