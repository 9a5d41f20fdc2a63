package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/report"
)

// A server that answers 200, "success", nothing and a warning is what Thanos is when a store
// is down. A real Prometheus cannot be made to do it.
func TestWarningsVoidTheVerdict(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		switch {
		case r.URL.Path == "/api/v1/query" && r.Form.Get("query") == "time()":
			now := float64(time.Now().UnixMilli()) / 1000
			fmt.Fprintf(w, `{"status":"success","data":{"resultType":"scalar","result":[%.3f,"%.3f"]}}`, now, now)
		case strings.HasPrefix(r.URL.Path, "/api/v1/query"):
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["No StoreAPIs matched for this query"]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	rule := `service: checkout-api
endpoint: [route]
signals:
  - {name: latency, histogram: http_server_request_duration_seconds}
`
	if err := os.WriteFile(filepath.Join(dir, "rule.yaml"), []byte(rule), 0o644); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour).Unix()
	r := run(t, dir, "check", "--rules", "rule.yaml", "--prometheus", server.URL, "--at", fmt.Sprint(at), "-o", "json")
	r.want(t, 7, report.CouldNotCheck)
}

// A clock that is off by more than a few seconds puts every window in the wrong place.
func TestClocksApart(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		then := float64(time.Now().Add(94*time.Second).UnixMilli()) / 1000
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"scalar","result":[%.3f,"%.3f"]}}`, then, then)
	}))
	defer server.Close()
	dir := t.TempDir()
	rule := "service: x\nendpoint: [route]\nsignals:\n  - {name: latency, histogram: a_seconds}\n"
	if err := os.WriteFile(filepath.Join(dir, "rule.yaml"), []byte(rule), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, "check", "--rules", "rule.yaml", "--prometheus", server.URL, "--at", "1700000000")
	if r.code != 7 || !strings.Contains(r.stderr, "error DW110 [7]: clocks disagree by 9") || !strings.Contains(r.stderr, "--clock-offset 9") {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
