package journal

import (
	"database/sql"
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
	onBoth(t, func(t *testing.T, p place) {
		newest := p.open(t)
		if err := sample(t.Context(), newest); err != nil {
			t.Fatal(err)
		}
		name := func(version int) string {
			if p.inPostgres() {
				return filepath.Join("testdata", fmt.Sprintf("version%d.postgres.sql", version))
			}
			return filepath.Join("testdata", fmt.Sprintf("version%d.sql", version))
		}
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
			j := restore(t, p, string(text))
			if err := sampleHolds(t.Context(), j); err != nil {
				t.Errorf("version %d: %v", version, err)
			}
			if version >= 2 {
				if err := feedbackHolds(t.Context(), j); err != nil {
					t.Errorf("version %d: %v", version, err)
				}
			}
			if got, want := schemaOf(t, j), schemaOf(t, newest); !slices.Equal(got, want) {
				t.Errorf("version %d becomes the schema\n%s\nwant\n%s", version, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if err := j.AppendRecovery(t.Context(), aRecovery("recovered")); err != nil {
				t.Errorf("version %d cannot be written: %v", version, err)
			}
			if err := j.PutRecord(t.Context(), aRecord("next")); err != nil {
				t.Errorf("version %d cannot be written: %v", version, err)
			}
			if err := j.AppendFeedback(t.Context(), aFeedback(Real)); err != nil {
				t.Errorf("version %d cannot be written: %v", version, err)
			}
		}
	})
}

// restore opens the journal that a dump makes, in a new place of the same kind.
func restore(t *testing.T, like place, text string) *Journal {
	t.Helper()
	p := aFile(t)
	var db *sql.DB
	var err error
	if like.inPostgres() {
		p = place(postgres.Database(t))
		db, err = sql.Open("pgx", string(p))
	} else {
		if err := os.WriteFile(string(p), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err = openDB(string(p))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return p.open(t)
}

// schemaOf says what a journal is made of. PostgreSQL keeps no text of it, so its catalogue
// is asked.
func schemaOf(t *testing.T, j *Journal) []string {
	t.Helper()
	if j.dialect == &inSQLite {
		return texts(t, j, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name")
	}
	return texts(t, j, `SELECT * FROM (
		SELECT concat_ws(' ', table_name, ordinal_position, column_name, data_type, is_nullable, identity_generation) FROM information_schema.columns WHERE table_schema = current_schema()
		UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
		UNION ALL SELECT concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
	) AS part (definition) ORDER BY definition`)
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
	if j.dialect != &inSQLite {
		return dumpPostgres(t, j)
	}
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

// dumpPostgres writes the migrations of a new journal and its rows.
func dumpPostgres(t *testing.T, j *Journal) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s;\n", j.dialect.versionTable)
	for _, m := range migrations {
		b.WriteString(m.postgres)
	}
	for _, table := range []string{"schema_version", "blob", "record", "intent", "outcome", "recovery", "feedback"} {
		columns := texts(t, j, "SELECT format('quote_literal(%I)', column_name) FROM information_schema.columns WHERE table_name = '"+table+"' ORDER BY ordinal_position")
		for _, row := range texts(t, j, fmt.Sprintf("SELECT concat_ws(', ', %s) FROM %s", strings.Join(columns, ", "), table)) {
			fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, row)
		}
	}
	for _, numbered := range [][2]string{{"record", "seq"}, {"recovery", "id"}} {
		fmt.Fprintf(&b, "SELECT setval(pg_get_serial_sequence('%[1]s', '%[2]s'), max(%[2]s)) FROM %[1]s;\n", numbered[0], numbered[1])
	}
	return b.String()
}

func TestMigrate(t *testing.T) {
	both := func(statements string) migration { return migration{statements, statements} }
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		if err := sample(t.Context(), j); err != nil {
			t.Fatal(err)
		}

		// A migration that fails half-way leaves the file as it was.
		broken := append(slices.Clone(migrations), both("CREATE TABLE reminder (text TEXT); INSERT INTO nowhere VALUES (1)"))
		if _, err := p.with(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "to schema version") {
			t.Fatalf("a broken migration: %v, want the version that it leads to", err)
		}
		if slices.ContainsFunc(schemaOf(t, j), func(s string) bool { return strings.Contains(s, "reminder") }) {
			t.Error("half of a migration stays")
		}
		if err := sampleHolds(t.Context(), j); err != nil {
			t.Error(err)
		}

		// One that works is applied once, and an older driftwatch then keeps its hands off.
		next := append(slices.Clone(migrations), both("CREATE TABLE reminder (text TEXT); INSERT INTO reminder VALUES ('x')"))
		for range 2 {
			newer, err := p.with(t.Context(), next)
			if err != nil {
				t.Fatal(err)
			}
			if err := sampleHolds(t.Context(), newer); err != nil {
				t.Error(err)
			}
			if got := texts(t, newer, "SELECT text FROM reminder"); len(got) != 1 {
				t.Errorf("the migration ran %d times", len(got))
			}
			if err := newer.Close(); err != nil {
				t.Fatal(err)
			}
		}
		_, err := p.with(t.Context(), migrations)
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), fmt.Sprintf("schema version %d, and this one knows %d", len(next), len(migrations))) {
			t.Errorf("a journal of a newer driftwatch: %v, want ErrNewer with both versions", err)
		}
	})
}
