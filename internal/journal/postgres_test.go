package journal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/driftwatch/driftwatch/internal/livetest"
)

// edited is a DSN with something changed.
func edited(t *testing.T, p place, change func(u *url.URL)) place {
	t.Helper()
	u, err := url.Parse(string(p))
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return place(u.String())
}

func option(name, value string) func(u *url.URL) {
	return func(u *url.URL) {
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
	}
}

// run runs statements in a database as its owner.
func run(t *testing.T, p place, statements string) {
	t.Helper()
	db, err := sql.Open("pgx", string(p))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// silent fails if an error, or anything that it wraps, tells who logs in or with what.
func silent(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{livetest.PostgresPassword, "wrong-secret", "user=", "nobody-in-particular"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error says %q: %v", secret, err)
		}
	}
	var connecting *pgconn.ConnectError
	var parsing *pgconn.ParseConfigError
	if errors.As(err, &connecting) || errors.As(err, &parsing) {
		t.Errorf("%v carries the whole configuration", err)
	}
}

func TestOpenPostgresErrors(t *testing.T) {
	fresh := func(t *testing.T) place { return place(postgres.Database(t)) }
	port := func(address string) func(u *url.URL) { return func(u *url.URL) { u.Host = address } }
	for _, tt := range []struct {
		name   string
		place  func(t *testing.T) place
		reason error
		words  string
	}{
		{"nobody listens", func(t *testing.T) place { return edited(t, fresh(t), port("127.0.0.1:1")) }, ErrUnreachable, "connection refused"},
		{"no such host", func(t *testing.T) place { return edited(t, fresh(t), port("db.invalid:5432")) }, ErrUnreachable, "db.invalid"},
		{"wrong password", func(t *testing.T) place {
			return edited(t, fresh(t), func(u *url.URL) { u.User = url.UserPassword("driftwatch", "wrong-secret") })
		}, ErrLogin, "pg_hba.conf"},
		{"unknown user", func(t *testing.T) place {
			return edited(t, fresh(t), func(u *url.URL) { u.User = url.UserPassword("nobody-in-particular", "wrong-secret") })
		}, ErrLogin, "28P01"},
		{"no such database", func(t *testing.T) place { return edited(t, fresh(t), func(u *url.URL) { u.Path = "nothing" }) }, ErrNoDatabase, "createdb"},
		{"another program's", func(t *testing.T) place {
			p := fresh(t)
			run(t, p, "CREATE TABLE schema_version (version INTEGER)") // even one of this name
			return p
		}, ErrForeign, "the schema public has tables of another program; name an empty database"},
		{"no schema", func(t *testing.T) place { return edited(t, fresh(t), option("search_path", "nowhere")) }, ErrNotWritable, "search_path"},
		{"may not create tables", func(t *testing.T) place {
			p := fresh(t)
			return edited(t, p, as(t, p, ""))
		}, ErrNotWritable, "needs CREATE on the schema"},
		{"another encoding", func(t *testing.T) place {
			p := fresh(t)
			run(t, p, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
			return edited(t, p, func(u *url.URL) { u.Path = "latin" })
		}, ErrForeign, "encoding is LATIN1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.place(t)
			_, err := OpenPostgres(t.Context(), string(p))
			var named *Error
			if !errors.Is(err, tt.reason) || !errors.As(err, &named) || named.Remedy == "" {
				t.Fatalf("OpenPostgres: %v, want %v with a remedy", err, tt.reason)
			}
			u, _ := url.Parse(string(p))
			if !strings.HasPrefix(err.Error(), "postgres://"+u.Host+u.Path+": ") || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("OpenPostgres: %v, want server, database and %q", err, tt.words)
			}
			silent(t, err)
		})
	}
}

func TestDSNThatIsNotUnderstood(t *testing.T) {
	for _, dsn := range []string{
		"postgres://driftwatch:wrong-secret@127.0.0.1:notaport/driftwatch",
		"postgres://driftwatch:wrong-secret@[::1/driftwatch",
		"host=localhost password='wrong-secret",
		"postgres://driftwatch:wrong-secret@localhost/driftwatch?sslmode=perhaps",
		"postgres://driftwatch:wrong-secret%zz@localhost/driftwatch",
		"postgres://driftwatch:wrong-secret@localhost/driftwatch?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
	} {
		_, err := OpenPostgres(t.Context(), dsn)
		var named *Error
		if !errors.As(err, &named) || named.Remedy == "" {
			t.Fatalf("%v, want a remedy", err)
		}
		silent(t, err)
		if strings.Contains(dsn, "/nowhere/ca.pem") && !strings.Contains(err.Error(), "/nowhere/ca.pem") {
			t.Errorf("%v does not name the file", err)
		}
	}
}

// as makes a role with these privileges on the tables of a database and logs in as it.
func as(t *testing.T, p place, privileges string) func(u *url.URL) {
	t.Helper()
	role := "role_of_" + strings.TrimPrefix(mustParse(t, p).Path, "/")
	statements := fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", role, livetest.PostgresPassword)
	if privileges != "" {
		statements += fmt.Sprintf("; GRANT %s ON ALL TABLES IN SCHEMA public TO %s", privileges, role)
	}
	run(t, p, statements)
	return func(u *url.URL) { u.User = url.UserPassword(role, livetest.PostgresPassword) }
}

func mustParse(t *testing.T, p place) *url.URL {
	t.Helper()
	u, err := url.Parse(string(p))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestLeastPrivilege works with the privileges that docs/operations.md names, and with fewer
// says what is missing.
func TestLeastPrivilege(t *testing.T) {
	p := place(postgres.Database(t))
	p.open(t) // as the owner, who makes the tables
	j := edited(t, p, as(t, p, "SELECT, INSERT")).open(t)
	if err := sample(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if err := sampleHolds(t.Context(), j); err != nil {
		t.Error(err)
	}
	if _, err := j.db.ExecContext(t.Context(), "ALTER TABLE intent DISABLE TRIGGER ALL"); err == nil {
		t.Error("the triggers can be taken away")
	}

	p = place(postgres.Database(t))
	if err := sample(t.Context(), p.open(t)); err != nil {
		t.Fatal(err)
	}
	j = edited(t, p, as(t, p, "SELECT")).open(t)
	if err := sampleHolds(t.Context(), j); err != nil {
		t.Errorf("who may only read cannot: %v", err)
	}
	_, err := j.AppendIntent(t.Context(), aRestore("nobody"), nil)
	if !errors.Is(err, ErrNotWritable) || !strings.Contains(err.Error(), "permission denied for table intent") {
		t.Errorf("AppendIntent: %v, want ErrNotWritable", err)
	}
}

// aRestore is an action that may stand in a journal any number of times.
func aRestore(by string) Intent {
	in := anIntent()
	in.Kind, in.By = Restore, by
	return in
}

// TestPostgresWriteErrors makes the server fail as a full disk, a standby, a crashed table and
// another process would.
func TestPostgresWriteErrors(t *testing.T) {
	failing := func(code string) string {
		return `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it failed' USING ERRCODE = '` + code + `'; END $$;
			CREATE TRIGGER failing BEFORE INSERT ON record EXECUTE FUNCTION fail()`
	}
	for _, tt := range []struct {
		name, statement string
		reason          error
	}{
		{"disk full", failing("53100"), ErrFull},
		{"corrupted", failing("XX001"), ErrDamaged},
		{"read only", "SET default_transaction_read_only = on", ErrNotWritable},
		{"locked", fmt.Sprintf("SELECT pg_advisory_lock(%d)", applicationID), ErrBusy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := place(postgres.Database(t))
			j := p.open(t)
			if err := sample(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			hurried := inPostgres
			hurried.lock = strings.Replace(inPostgres.lock, fmt.Sprint(busyTimeout.Milliseconds()), "50", 1)
			j.dialect = &hurried
			other := j
			if errors.Is(tt.reason, ErrBusy) {
				other = p.open(t)
			}
			other.db.SetMaxOpenConns(1) // a setting is the connection's, and so is a lock
			if _, err := other.db.ExecContext(t.Context(), tt.statement); err != nil {
				t.Fatal(err)
			}
			err := j.PutRecord(t.Context(), aRecord("more"))
			var named *Error
			if !errors.Is(err, tt.reason) || !errors.As(err, &named) || named.Path != j.Path() || named.Remedy == "" {
				t.Errorf("PutRecord: %v, want %v with place and remedy", err, tt.reason)
			}
			silent(t, err)
			if err := sampleHolds(t.Context(), j); err != nil {
				t.Errorf("what was there before: %v", err)
			}
			if _, err := j.Record(t.Context(), "more"); err == nil {
				t.Error("the record was kept all the same")
			}
		})
	}
}

// TestServerThatDoesNotAnswer waits no longer than there is patience.
func TestServerThatDoesNotAnswer(t *testing.T) {
	p := place(postgres.Database(t))
	j, other := p.open(t), p.open(t)
	hurried := inPostgres
	hurried.patience = 100 * time.Millisecond // of the lock's 10 s
	j.dialect = &hurried
	other.db.SetMaxOpenConns(1)
	if _, err := other.db.ExecContext(t.Context(), fmt.Sprintf("SELECT pg_advisory_lock(%d)", applicationID)); err != nil {
		t.Fatal(err)
	}
	err := j.PutRecord(t.Context(), aRecord("a"))
	if !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnsure) {
		t.Errorf("PutRecord: %v, want ErrUnreachable", err)
	}
	silent(t, err)
	if records, err := other.Records(t.Context(), RecordFilter{}); err != nil || len(records) > 0 {
		t.Errorf("%d records are there, %v", len(records), err)
	}
}

// TestCommitsAreWaitedFor has a database that is set not to.
func TestCommitsAreWaitedFor(t *testing.T) {
	p := place(postgres.Database(t))
	run(t, p, "ALTER DATABASE "+strings.TrimPrefix(mustParse(t, p).Path, "/")+" SET synchronous_commit = off")
	j := p.open(t)
	var setting string
	if err := j.db.QueryRowContext(t.Context(), "SHOW synchronous_commit").Scan(&setting); err != nil || setting != "off" {
		t.Fatalf("outside of a write it is %q, %v", setting, err)
	}
	err := j.write(t.Context(), "look", func(_ context.Context, tx *sql.Tx) (entry, error) {
		return entry{}, tx.QueryRowContext(t.Context(), "SHOW synchronous_commit").Scan(&setting)
	})
	if err != nil || setting != "on" {
		t.Errorf("in a write it is %q, %v", setting, err)
	}
}

// TestStoppedWriter has a process stop in the middle of a write, as one in a debugger or on a
// suspended machine does: the server takes the lock from it, and it writes again when it goes on.
func TestStoppedWriter(t *testing.T) {
	p := place(postgres.Database(t))
	stopped, other := p.open(t), p.open(t)
	hurried := inPostgres
	hurried.lock = strings.Replace(inPostgres.lock, fmt.Sprint(postgresPatience.Milliseconds()), "100", 1)
	stopped.dialect = &hurried
	runs := 0
	err := stopped.write(t.Context(), "stop", func(ctx context.Context, tx *sql.Tx) (entry, error) {
		runs++
		if runs == 1 {
			if err := other.PutRecord(t.Context(), aRecord("other")); err != nil {
				t.Errorf("the others cannot write: %v", err)
			}
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO recovery (upgrade_id, state, at_ns, body, sum) VALUES ('u', 's', 1, '', '')")
		return entry{}, stopped.fault("stop", err)
	})
	if err != nil || runs != 2 {
		t.Errorf("%d runs, %v; want a second one that is kept", runs, err)
	}
	if got := texts(t, stopped, "SELECT id::text FROM recovery"); len(got) != 1 {
		t.Errorf("it was kept %d times", len(got))
	}
}

// commitMessage is a query that says commit (PostgreSQL manual, "Message Formats").
var commitMessage = []byte("Q\x00\x00\x00\x0bcommit\x00")

// A wire stands between a journal and its server and breaks at commits.
type wire struct {
	net.Listener
	server  string
	deliver bool         // the commit still gets to the server, and only the answer is lost
	breaks  atomic.Int64 // how many commits it still breaks at
	closed  atomic.Bool  // nobody gets through any more
	stays   bool         // it is closed when it has broken
	all     sync.WaitGroup
}

func newWire(t *testing.T, server string, deliver, stays bool) *wire {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, server: server, deliver: deliver, stays: stays}
	w.all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if w.closed.Load() {
				_ = client.Close()
				continue
			}
			w.all.Go(func() { w.carry(client) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return w
}

func (w *wire) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var broken atomic.Bool
	w.all.Go(func() {
		defer func() { _ = client.Close() }()
		buffer := make([]byte, 1<<16)
		for {
			n, err := server.Read(buffer)
			if err != nil || broken.Load() {
				return // the answer to the commit has come, and is kept back
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:n], commitMessage) && w.breaks.Add(-1) >= 0 {
			w.closed.Store(w.stays)
			broken.Store(true)
			if !w.deliver {
				return
			}
			_, _ = server.Write(buffer[:n])
			_, _ = io.Copy(io.Discard, client) // until the other side has closed it
			return
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestLostCommit loses the connection in every write's commit, before it reaches the server or
// with its answer: the entry is there once, whichever it was.
func TestLostCommit(t *testing.T) {
	appends := []struct {
		name string
		do   func(j *Journal) error
		want func(j *Journal) (int, error) // how many are there
	}{
		{"intent", func(j *Journal) error {
			in, err := j.AppendIntent(context.Background(), anIntent(), nil)
			if err == nil && in.ID != 1 {
				err = fmt.Errorf("its id is %d", in.ID)
			}
			return err
		}, func(j *Journal) (int, error) {
			a, err := j.Actions(context.Background(), ActionFilter{})
			return len(a), err
		}},
		{"outcome", func(j *Journal) error {
			return j.AppendOutcome(context.Background(), 1, anOutcome("verified"))
		}, func(j *Journal) (int, error) {
			a, err := j.Actions(context.Background(), ActionFilter{})
			return len(a[0].Outcomes), err
		}},
		{"record", func(j *Journal) error {
			return j.PutRecord(context.Background(), aRecord("a"))
		}, func(j *Journal) (int, error) {
			r, err := j.Records(context.Background(), RecordFilter{})
			return len(r), err
		}},
		{"recovery", func(j *Journal) error {
			return j.AppendRecovery(context.Background(), aRecovery("watching"))
		}, func(j *Journal) (int, error) {
			r, err := j.Recoveries(context.Background(), anIntent().UpgradeID)
			return len(r), err
		}},
		{"feedback", func(j *Journal) error {
			return j.AppendFeedback(context.Background(), aFeedback(Comment))
		}, func(j *Journal) (int, error) {
			f, err := j.Feedbacks(context.Background(), FeedbackFilter{})
			return len(f), err
		}},
	}
	for _, deliver := range []bool{true, false} {
		t.Run(map[bool]string{true: "its answer", false: "the commit"}[deliver], func(t *testing.T) {
			p := place(postgres.Database(t))
			w := newWire(t, mustParse(t, p).Host, deliver, false)
			direct := p.open(t)
			j := edited(t, p, func(u *url.URL) { u.Host = w.Addr().String() }).open(t)
			for _, a := range appends {
				w.breaks.Store(1)
				if err := a.do(j); err != nil {
					t.Errorf("%s: %v", a.name, err)
				}
				if n, err := a.want(direct); err != nil || n != 1 {
					t.Errorf("%s: %d are there, %v; want one", a.name, n, err)
				}
				if w.breaks.Load() > 0 {
					t.Errorf("%s: the connection did not break", a.name)
				}
			}
		})
	}
	for _, deliver := range []bool{true, false} {
		t.Run(map[bool]string{true: "its answer, and the server", false: "the commit, and the server"}[deliver], func(t *testing.T) {
			p := place(postgres.Database(t))
			w := newWire(t, mustParse(t, p).Host, deliver, true)
			direct := p.open(t)
			j := edited(t, p, func(u *url.URL) { u.Host = w.Addr().String() }).open(t)
			w.breaks.Store(1)
			_, err := j.AppendIntent(t.Context(), anIntent(), nil)
			if !errors.Is(err, ErrUnsure) || !errors.Is(err, ErrUnreachable) {
				t.Fatalf("AppendIntent: %v, want ErrUnsure and ErrUnreachable", err)
			}
			silent(t, err)
			w.closed.Store(false) // the server is back, and tells what became of it
			in, err := j.AppendIntent(t.Context(), anIntent(), nil)
			if deliver != errors.Is(err, ErrAlreadyIntended) || in.ID != 1 {
				t.Errorf("the same action again: %d, %v", in.ID, err)
			}
			want := anIntent()
			want.ID = 1
			if got, err := direct.Unresolved(t.Context()); err != nil || !reflect.DeepEqual(got, []Intent{want}) {
				t.Errorf("unresolved: %+v, %v; want the intent, once", got, err)
			}
		})
	}
}

// TestTextsOfOtherPrograms keeps words that PostgreSQL takes for no text.
func TestTextsOfOtherPrograms(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		in, err := j.AppendIntent(t.Context(), anIntent(), nil)
		if err != nil {
			t.Fatal(err)
		}
		o := anOutcome("failed")
		o.Reason = "the server said \x00\xff → nothing"
		if err := j.AppendOutcome(t.Context(), in.ID, o); err != nil {
			t.Fatal(err)
		}
		actions, err := j.Actions(t.Context(), ActionFilter{})
		if err != nil || actions[0].Outcomes[0].Reason != "the server said \uFFFD\uFFFD → nothing" {
			t.Errorf("%+v, %v", actions, err)
		}
	})
}

// TestTwoJournalsInOneDatabase keeps them apart by their schemas.
func TestTwoJournalsInOneDatabase(t *testing.T) {
	p := place(postgres.Database(t))
	run(t, p, "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE public.dashboards (id INTEGER)")
	one, two := edited(t, p, option("search_path", "one")).open(t), edited(t, p, option("search_path", "two")).open(t)
	if err := sample(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if err := sampleHolds(t.Context(), one); err != nil {
		t.Error(err)
	}
	if err := sampleHolds(t.Context(), two); err == nil {
		t.Error("the second journal holds what the first one does")
	}
	if got, want := one.Path(), "postgres://"+mustParse(t, p).Host+filepath.ToSlash(mustParse(t, p).Path); got != want {
		t.Errorf("its place is %s, want %s", got, want)
	}
}
