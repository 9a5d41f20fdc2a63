package journal

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// inPostgres is the dialect of a journal in a PostgreSQL database. Writers take turns by an
// advisory lock, which needs no privilege, and which the server holds until a commit is
// visible to the next writer. An intent must outlive the server's machine, so its commit is
// waited for even where the database is set not to.
var inPostgres = dialect{
	schema: func(m migration) string { return m.postgres },
	versionTable: "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, at_ns BIGINT NOT NULL);" +
		"COMMENT ON TABLE schema_version IS '" + postgresMark + "'",
	hasVersion: "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_version')",
	lock: fmt.Sprintf(`SET LOCAL lock_timeout = %d;
SET LOCAL idle_in_transaction_session_timeout = %d;
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
SELECT pg_advisory_xact_lock(%d)`, busyTimeout.Milliseconds(), postgresPatience.Milliseconds(), applicationID),
	patience:  postgresPatience,
	reasonOf:  postgresReason,
	ifDamaged: remedyDamagedDB,
}

// postgresMark is the comment on schema_version that tells a journal from another program's
// database; a dump keeps it.
const postgresMark = "journal of driftwatch"

// postgresPatience bounds an operation on a server, waiting for other writers included. It is
// three times busyTimeout: a server that answers at all has answered by then, and a write of a
// process that was stopped in the middle is taken back by the server after the same time.
const postgresPatience = 3 * busyTimeout

// connectTimeout bounds a connection unless the DSN has a connect_timeout. An address that
// swallows packets would hold a check for minutes.
const connectTimeout = 10 * time.Second

// What a person can do about a server.
const (
	remedyDSN         = "write it like postgres://driftwatch@db:5432/driftwatch?sslmode=verify-full"
	remedyUnreachable = "see whether the server runs and its address is right, and try again"
	remedyLogin       = "mind user and password of the DSN, PGPASSWORD or PGPASSFILE, and pg_hba.conf of the server"
	remedyNoDatabase  = "createdb driftwatch, or name another database"
	remedyPrivilege   = "the first start creates the tables and needs CREATE on the schema; later ones need SELECT and INSERT on all of them"
	remedyReadOnly    = "it is a standby or set to read only: name the primary, or all servers with target_session_attrs=read-write"
	remedyServerFull  = "free some space on the disk of the server and try again"
	remedyDamagedDB   = "restore a backup of the database, or name an empty one: a new journal does not know which flags were turned off"
	remedyForeignDB   = "name an empty database, or an empty schema of this one by adding search_path to the DSN"
)

// OpenPostgres opens the journal in a PostgreSQL database, whose tables are created if it is
// empty and brought to the newest schema if they are older. What dsn leaves out comes from
// the PG* variables and PGPASSFILE. It fails, naming server, database, reason and remedy, but
// never user or password, if the server does not answer (ErrUnreachable) or refuses the login
// (ErrLogin), there is no such database (ErrNoDatabase), it is of another program
// (ErrForeign) or of a newer driftwatch (ErrNewer), or its tables cannot be created
// (ErrNotWritable).
func OpenPostgres(ctx context.Context, dsn string) (*Journal, error) {
	return openPostgres(ctx, dsn, migrations)
}

func openPostgres(ctx context.Context, dsn string, steps []migration) (*Journal, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The text of err may hold the password. Only a file that it could not read is told.
		why := errors.New("the DSN is not understood")
		if file, ok := errors.AsType[*fs.PathError](err); ok {
			why = fmt.Errorf("the DSN names a file that cannot be read: %w", file)
		}
		return nil, &Error{"postgres", "open", why, remedyDSN}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "driftwatch"
	}
	j := &Journal{db: stdlib.OpenDB(*config), path: placeOf(config), dialect: &inPostgres}
	j.db.SetMaxOpenConns(4) // a check reads and writes one thing at a time; replicas are many
	j.db.SetConnMaxIdleTime(time.Minute)
	ctx, cancel := j.within(ctx)
	defer cancel()
	if err := j.checkDatabase(ctx); err != nil {
		_ = j.db.Close()
		return nil, err
	}
	if err := j.migrate(ctx, steps); err != nil {
		_ = j.db.Close()
		return nil, err
	}
	return j, nil
}

// placeOf is where a journal is, for people: neither user nor password nor options.
func placeOf(config *pgx.ConnConfig) string {
	port := strconv.Itoa(int(config.Port))
	if strings.HasPrefix(config.Host, "/") {
		return fmt.Sprintf("postgres://%s:%s/%s", config.Host, port, config.Database)
	}
	return fmt.Sprintf("postgres://%s/%s", net.JoinHostPort(config.Host, port), config.Database)
}

// checkDatabase makes sure that a database is a journal or can become one.
func (j *Journal) checkDatabase(ctx context.Context) error {
	var encoding string
	var schema *string
	var tables, marked int
	err := j.db.QueryRowContext(ctx, `SELECT current_setting('server_encoding'), current_schema(), count(c.oid),
		count(c.oid) FILTER (WHERE c.relname = 'schema_version' AND obj_description(c.oid, 'pg_class') = $1)
		FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = current_schema())`,
		postgresMark).Scan(&encoding, &schema, &tables, &marked)
	switch {
	case err != nil:
		return j.fault("open", err)
	case schema == nil:
		return &Error{j.path, "open", fmt.Errorf("%w: no schema of its search_path is there or may be used", ErrNotWritable), remedyPrivilege}
	case tables > 0 && marked == 0:
		return &Error{j.path, "open", fmt.Errorf("%w: the schema %s has tables of another program", ErrForeign, *schema), remedyForeignDB}
	case encoding != "UTF8":
		return &Error{j.path, "open", fmt.Errorf("%w: its encoding is %s", ErrForeign, encoding), "create it with ENCODING 'UTF8'"}
	}
	return nil
}

// postgresReason finds the remedy and the reason behind an error of a server or the way to it.
// What it lets through of their words names neither user nor password.
func postgresReason(err error) (remedy string, reason, words error) {
	words = err
	connecting, failed := errors.AsType[*pgconn.ConnectError](err)
	if failed { // its own text names the user, and it carries the password
		words = errors.New(strings.ReplaceAll(connecting.Unwrap().Error(), "\n", "; "))
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		remedy, reason = stateReason(e.Code)
		if errors.Is(reason, ErrLogin) {
			words = fmt.Errorf("SQLSTATE %s", e.Code) // the server's message names the user, too
		}
		return remedy, reason, words
	}
	var network net.Error
	if failed || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, context.DeadlineExceeded) {
		return remedyUnreachable, ErrUnreachable, words
	}
	return "", nil, words
}

// stateReason maps a code of the server (PostgreSQL manual, appendix A).
func stateReason(code string) (remedy string, reason error) {
	switch code {
	case "28000", "28P01": // invalid authorization, invalid password
		return remedyLogin, ErrLogin
	case "3D000": // invalid catalog name
		return remedyNoDatabase, ErrNoDatabase
	case "42501": // insufficient privilege
		return remedyPrivilege, ErrNotWritable
	case "25006": // read only transaction
		return remedyReadOnly, ErrNotWritable
	case "53100": // disk full
		return remedyServerFull, ErrFull
	case "53300", "55P03", "40001", "40P01": // too many connections, lock not available, serialization failure, deadlock
		return remedyBusy, ErrBusy
	case "XX001", "XX002": // data corrupted, index corrupted
		return remedyDamagedDB, ErrDamaged
	case "57P01", "57P02", "57P03", "25P03": // shut down, crashed, starting, idle in a transaction for too long
		return remedyUnreachable, ErrUnreachable
	}
	if strings.HasPrefix(code, "08") { // connection exceptions
		return remedyUnreachable, ErrUnreachable
	}
	return "", nil
}
