//go:build browser

package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

// Writes the pages that tools/browser/report.test.mjs opens into the directory PAGES.
func TestWritePages(t *testing.T) {
	dir := os.Getenv("PAGES")
	if dir == "" {
		t.Fatal("PAGES names no directory; start this by make browser")
	}
	write := func(name string, r *Report) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name+".html"), HTML(r, HTMLOptions{Links: links}), 0o644); err != nil { //nolint:gosec // pages to look at
			t.Fatal(err)
		}
	}
	pictures, err := picture(scenarios()["verified"]).Pictures.JSON() // for the journals of internal/web
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "verified.pictures"), pictures, 0o644); err != nil { //nolint:gosec // pages to look at
		t.Fatal(err)
	}
	for name, in := range scenarios() {
		write(name, picture(in))
	}
	// All hostile names in one report: each row has one of them.
	in := scenarios()["verified"]
	in.Judgement.Rows = nil
	for i, evil := range append(hostile, strings.Repeat("word ", 60)) {
		rows := scenarios()["verified"].Judgement.Rows
		r := rows[i%len(rows)]
		r.Endpoint, r.Note, r.Warnings = telemetry.NewEndpoint("GET", evil), evil, []string{evil}
		in.Judgement.Rows = append(in.Judgement.Rows, r)
	}
	evil := hostile[len(hostile)-1]
	in.Rule.Service, in.Rule.Label, in.Upgrade.To = "s"+evil, evil, evil
	in.Warnings, in.Queries, in.ID = hostile, hostile, "id"+evil
	write("hostile-names", picture(in))
	write("endpoints-200", simulated())
	write("comparisons-10000", picture(large(10_000, 60)))
}
