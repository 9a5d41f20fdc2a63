//go:build unix

package livetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Postgres is a PostgreSQL server of its own on loopback, for all tests of a package: it
// starts when the first database is asked for, and TestMain stops it.
//
//	var postgres livetest.Postgres
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		postgres.Stop()
//		os.Exit(code)
//	}
type Postgres struct {
	// Durable makes commits outlive a crash of the server. Without it they are faster, which
	// is enough where the server does not crash.
	Durable bool

	mu        sync.Mutex // guards what follows
	dir       string     // "" = not made yet; holds data, log and socket
	address   string
	process   *process // nil = not running
	databases int
}

// The superuser of every server. The password is no word that stands in a text for another
// reason: a test may look for it wherever it must not be.
const (
	postgresUser     = "driftwatch"
	PostgresPassword = "hunter2-must-not-be-read" //nolint:gosec // of a server on loopback that lives as long as a test
)

// Database makes an empty database and returns its DSN, which holds the password. The test
// fails if the server cannot be started; the error says what to install if that is missing.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.start(t.Context()); err != nil {
		t.Fatalf("livetest: postgres: %v", err)
	}
	p.databases++
	name := "test_" + strconv.Itoa(p.databases)
	if err := p.query(t.Context(), "CREATE DATABASE "+name, nil); err != nil {
		t.Fatalf("livetest: postgres: make a database: %v; its log ends:\n%s", err, p.logTail())
	}
	return p.dsn(name)
}

// Crash kills the server as a power cut would. Databases of a Durable server are there again
// after Restart.
func (p *Postgres) Crash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		p.process.kill()
		p.process = nil
	}
}

// Restart starts a server again that was crashed, at the same address.
func (p *Postgres) Restart(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.start(t.Context()); err != nil {
		t.Fatalf("livetest: postgres: restart: %v", err)
	}
}

// Stop ends the server, if there is one, and removes its data.
func (p *Postgres) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		p.process.end(syscall.SIGQUIT) // at once, but nothing is left in shared memory
		p.process = nil
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// dsn is the address of a database.
func (p *Postgres) dsn(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(postgresUser, PostgresPassword), Host: p.address,
		Path: database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// start makes sure that the server runs.
func (p *Postgres) start(ctx context.Context) error {
	if p.process != nil {
		return nil
	}
	programs, err := postgresPrograms()
	if err != nil {
		return err
	}
	fresh := p.dir == ""
	if fresh {
		if err := p.create(ctx, programs); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		if fresh {
			if p.address, err = freeAddress(ctx); err != nil {
				return err
			}
		}
		err := p.run(ctx, programs)
		// A crashed server's children are gone some milliseconds after it; until then its data
		// are in use. Another process may have taken the chosen port.
		again := err != nil && (!fresh || strings.Contains(err.Error(), "Address already in use"))
		if !again || n == starts {
			return err
		}
	}
}

// create makes the directory of a server and its system tables.
func (p *Postgres) create(ctx context.Context, programs string) error {
	dir, err := os.MkdirTemp("", "driftwatch-postgres-") // not t.TempDir: another user reads it, and the path of a socket is short
	if err != nil {
		return err
	}
	p.dir = dir
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(PostgresPassword+"\n"), 0o600); err != nil {
		return err
	}
	owner, err := postgresOwner()
	if err != nil {
		return err
	}
	if owner != nil {
		for _, path := range []string{dir, password} {
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "initdb"), "--pgdata="+filepath.Join(dir, "data"), "--username="+postgresUser,
		"--pwfile="+password, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// run starts the server and returns when it is ready, or why it is not.
func (p *Postgres) run(ctx context.Context, programs string) error {
	owner, err := postgresOwner()
	if err != nil {
		return err
	}
	log, err := os.Create(p.logPath())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	host, port, _ := strings.Cut(p.address, ":")
	onOff := map[bool]string{true: "on", false: "off"}[p.Durable]
	settings := []string{
		"listen_addresses=" + host, "port=" + port, "unix_socket_directories=" + p.dir, "max_connections=60", "shared_buffers=16MB",
		"dynamic_shared_memory_type=mmap", "fsync=" + onOff, "full_page_writes=" + onOff, "lc_messages=C",
	}
	cmd := exec.Command(filepath.Join(programs, "postgres"), "-D", filepath.Join(p.dir, "data")) //nolint:noctx // ended by kill
	for _, s := range settings {
		cmd.Args = append(cmd.Args, "-c", s)
	}
	cmd.Dir, cmd.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: owner}
	process, err := startProcess(log, cmd)
	if err != nil {
		return err
	}
	if err := p.waitReady(ctx, process); err != nil {
		process.kill()
		return err
	}
	p.process = process
	return nil
}

// waitReady polls until the server answers, and it is ours: another one may hold the port.
func (p *Postgres) waitReady(ctx context.Context, process *process) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		select {
		case <-process.exited:
			return fmt.Errorf("it exited (%v); its log ends:\n%s", process.cmd.ProcessState, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v; its log ends:\n%s", readyWithin, p.logTail())
		case <-tick.C:
		}
		var data string
		if err := p.query(ctx, "SHOW data_directory", &data); err == nil && data == filepath.Join(p.dir, "data") {
			return nil
		}
	}
}

// query runs a statement as the superuser, and reads one text if answer is not nil.
func (p *Postgres) query(ctx context.Context, statement string, answer *string) error {
	conn, err := pgx.Connect(ctx, p.dsn("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if answer != nil {
		return conn.QueryRow(ctx, statement).Scan(answer)
	}
	_, err = conn.Exec(ctx, statement)
	return err
}

func (p *Postgres) logPath() string { return filepath.Join(p.dir, "postgres.log") }

// logTail is the last 4 KiB of the server's log.
func (p *Postgres) logTail() string {
	log, err := os.ReadFile(p.logPath())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4096):])
}

// postgresPrograms is the directory of initdb and postgres: in PATH, or where Debian puts
// every version.
func postgresPrograms() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("initdb and postgres are not installed: apt-get install -y --no-install-recommends postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// postgresOwner is whom the server runs as, nil for ourselves: it refuses to run as root.
func postgresOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
