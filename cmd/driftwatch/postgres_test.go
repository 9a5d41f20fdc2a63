package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/driftwatch/driftwatch/internal/journal"
	"github.com/driftwatch/driftwatch/internal/livetest"
)

// TestFlagsWithAJournalInPostgres has a person turn a flag off and take it back, as the script
// does with a file, with a journal in PostgreSQL: everything is in the database, and the
// password is nowhere.
func TestFlagsWithAJournalInPostgres(t *testing.T) {
	var postgres livetest.Postgres
	t.Cleanup(postgres.Stop)
	dsn := postgres.Database(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(u.User.Username())
	t.Run("script", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Files: []string{"testdata/script/flags.txtar"},
			Setup: func(env *testscript.Env) error {
				env.Setenv("PATH", os.Getenv("PATH"))
				env.Setenv("DRIFTWATCH_JOURNAL", u.String())
				env.Setenv("PGPASSWORD", livetest.PostgresPassword)
				env.Defer(func() {
					if files, err := filepath.Glob(filepath.Join(env.WorkDir, "*.db")); err != nil || len(files) > 0 {
						t.Errorf("files of a journal: %v, %v", files, err)
					}
				})
				return nil
			},
		})
	})
	j, err := journal.OpenPostgres(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	actions, err := j.Actions(t.Context(), journal.ActionFilter{})
	if err != nil || len(actions) != 2 || actions[0].Kind != journal.FlagOff || actions[1].Kind != journal.Restore {
		t.Fatalf("%d actions in the database, %v; want one off, one restore", len(actions), err)
	}
	for _, a := range actions {
		words := []string{a.By, string(a.Change)}
		for _, o := range a.Outcomes {
			words = append(words, o.Reason, string(o.Receipt), string(o.Evidence))
		}
		if strings.Contains(strings.Join(words, " "), livetest.PostgresPassword) {
			t.Errorf("the journal holds the password: %q", words)
		}
	}
}
