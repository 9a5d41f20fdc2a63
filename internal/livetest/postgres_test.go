//go:build unix

package livetest

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestPostgres has what a durable server committed after a crash, and a database per test.
func TestPostgres(t *testing.T) {
	t.Parallel()
	p := &Postgres{Durable: true}
	defer p.Stop()
	run := func(dsn, statement string) error {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(t.Context()) }()
		_, err = conn.Exec(t.Context(), statement)
		return err
	}
	first, second := p.Database(t), p.Database(t)
	if err := run(first, "CREATE TABLE kept (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	if err := run(second, "SELECT * FROM kept"); err == nil {
		t.Error("two tests share a database")
	}
	p.Crash()
	if err := run(first, "SELECT 1"); err == nil {
		t.Fatal("the server answers after its crash")
	}
	p.Restart(t)
	if err := run(first, "SELECT * FROM kept"); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	wrong := strings.Replace(first, PostgresPassword, "wrong", 1)
	if err := run(wrong, "SELECT 1"); err == nil {
		t.Error("any password is taken")
	}
	dir := p.dir
	p.Stop()
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left behind", dir)
	}
}
