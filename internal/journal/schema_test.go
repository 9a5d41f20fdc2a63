package journal

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the dump of the newest schema version to testdata")

// TestEveryVersion opens a journal of every schema version and wants the sample of it back,
// and the same schema that a new journal has. An old dump is never rewritten: if it fails,
// a migration is wrong.
func TestEveryVersion(t *testing.T) {
	newest := newJournal(t)
	if err := sample(t.Context(), newest); err != nil {
		t.Fatal(err)
	}
	name := func(version int) string { return filepath.Join("testdata", fmt.Sprintf("version%d.sql", version)) }
	if *update {
		if err := os.WriteFile(name(len(migrations)), []byte(dump(t, newest)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for version := 1; version <= len(migrations); version++ {
		text, err := os.ReadFile(name(version))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "old.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := openDB(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), string(text)); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		j := reopen(t, path)
		if err := sampleHolds(t.Context(), j); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		if got, want := schemaOf(t, j), schemaOf(t, newest); !slices.Equal(got, want) {
			t.Errorf("version %d becomes the schema\n%s\nwant\n%s", version, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := j.AppendRecovery(t.Context(), aRecovery("recovered")); err != nil {
			t.Errorf("version %d cannot be written: %v", version, err)
		}
	}
}

func schemaOf(t *testing.T, j *Journal) []string {
	t.Helper()
	return texts(t, j, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name")
}

// texts returns the one column of an answer.
func texts(t *testing.T, j *Journal, query string) []string {
	t.Helper()
	rows, err := j.db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// dump writes a journal as the statements that make it.
func dump(t *testing.T, j *Journal) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "PRAGMA journal_mode = WAL;\nPRAGMA application_id = %d;\n", applicationID)
	for _, sql := range schemaOf(t, j) {
		if strings.HasPrefix(sql, "CREATE TABLE") {
			fmt.Fprintf(&b, "%s;\n", sql)
		}
	}
	for _, table := range texts(t, j, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name") {
		var quoted []string
		for _, column := range texts(t, j, fmt.Sprintf("SELECT name FROM pragma_table_info('%s')", table)) {
			quoted = append(quoted, "quote("+column+")")
		}
		for _, row := range texts(t, j, fmt.Sprintf("SELECT %s FROM %s", strings.Join(quoted, " || ', ' || "), table)) {
			fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, row)
		}
	}
	for _, sql := range schemaOf(t, j) {
		if !strings.HasPrefix(sql, "CREATE TABLE") {
			fmt.Fprintf(&b, "%s;\n", sql)
		}
	}
	return b.String()
}

func TestMigrate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "driftwatch.db")
	j := reopen(t, path)
	if err := sample(t.Context(), j); err != nil {
		t.Fatal(err)
	}

	// A migration that fails half-way leaves the file as it was.
	broken := append(slices.Clone(migrations), "CREATE TABLE feedback (text TEXT) STRICT; INSERT INTO nowhere VALUES (1)")
	if _, err := open(t.Context(), path, broken); err == nil || !strings.Contains(err.Error(), "to schema version") {
		t.Fatalf("a broken migration: %v, want the version that it leads to", err)
	}
	if slices.ContainsFunc(schemaOf(t, j), func(s string) bool { return strings.Contains(s, "feedback") }) {
		t.Error("half of a migration stays")
	}
	if err := sampleHolds(t.Context(), j); err != nil {
		t.Error(err)
	}

	// One that works is applied once, and an older driftwatch then keeps its hands off.
	next := append(slices.Clone(migrations), "CREATE TABLE feedback (text TEXT) STRICT; INSERT INTO feedback VALUES ('x')")
	for range 2 {
		newer, err := open(t.Context(), path, next)
		if err != nil {
			t.Fatal(err)
		}
		if err := sampleHolds(t.Context(), newer); err != nil {
			t.Error(err)
		}
		if got := texts(t, newer, "SELECT text FROM feedback"); len(got) != 1 {
			t.Errorf("the migration ran %d times", len(got))
		}
		if err := newer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(t.Context(), path)
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), fmt.Sprintf("schema version %d, and this one knows %d", len(next), len(migrations))) {
		t.Errorf("a journal of a newer driftwatch: %v, want ErrNewer with both versions", err)
	}
}
