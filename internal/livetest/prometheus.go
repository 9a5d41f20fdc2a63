//go:build unix

// Package livetest starts real servers on loopback for tests, and fills them with made
// history over their own protocols. It knows nothing about rules or statistics, so a test
// that uses it cannot agree with driftwatch by sharing a mistake.
package livetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// prometheusVersion is the version that tools/prometheus/go.mod pins; it names the cached
// binary, so that another pin builds another file.
const prometheusVersion = "v0.315.0"

// Deadlines of one start. A server is usually ready within half a second; the long one is
// for a machine that compiles beside it.
const (
	readyWithin = 60 * time.Second
	readyPoll   = 20 * time.Millisecond
	starts      = 5 // another process may take the chosen port before the server does
)

// A Server is a Prometheus of its own on loopback, empty at first.
type Server struct {
	URL string // http://127.0.0.1:port
	Dir string // holds its data, its configuration and its log

	mu     sync.Mutex // one Write at a time; guards stopped
	client *http.Client

	stopped bool
	process *process
}

// Prometheus starts the pinned Prometheus server with an empty database, a remote write
// receiver, 10 years of retention and nothing to scrape, waits until it is ready and stops
// it when the test ends. More server flags may be given; they come after ours. The binary
// is built into .cache/ at the root of the repository when it is not there yet. The test
// fails if it cannot be built or started; if the test fails for any reason, the end of the
// server's log is in its output.
func Prometheus(t testing.TB, flags ...string) *Server {
	t.Helper()
	binary, err := prometheusBinary(t.Context())
	if err != nil {
		t.Fatalf("livetest: %v", err)
	}
	s := &Server{Dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("end of %s:\n%s", s.logPath(), s.logTail())
		}
	})
	config := filepath.Join(s.Dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		t.Fatalf("livetest: %v", err)
	}
	for n := 1; ; n++ {
		err := s.start(t.Context(), binary, config, flags)
		if err == nil {
			return s
		}
		if n == starts || !errors.Is(err, errPortTaken) {
			t.Fatalf("livetest: start prometheus: %v", err)
		}
	}
}

// errPortTaken is a start that lost its port to another process.
var errPortTaken = errors.New("the port was taken by another process")

// start runs the server on a free port and returns when it is ready, or why it is not.
func (s *Server) start(ctx context.Context, binary, config string, flags []string) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	data := filepath.Join(s.Dir, "data")
	args := append([]string{
		"--config.file=" + config,
		"--storage.tsdb.path=" + data,
		"--storage.tsdb.retention.time=10y",
		"--web.listen-address=" + address,
		"--web.enable-remote-write-receiver",
	}, flags...)
	p, err := startProcess(log, exec.Command(binary, args...)) //nolint:noctx // ended by kill
	if err != nil {
		return err
	}
	url := "http://" + address
	if err := s.waitReady(ctx, url, data, p); err != nil {
		p.kill()
		return err
	}
	s.URL, s.process = url, p
	return nil
}

// waitReady polls until the server answers that it is ready and that its database is ours:
// another server may hold the port.
func (s *Server) waitReady(ctx context.Context, url, data string, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		select {
		case <-p.exited:
			if strings.Contains(s.logTail(), "address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("it exited (%v); its log ends:\n%s", p.cmd.ProcessState, s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v; its log ends:\n%s", readyWithin, s.logTail())
		case <-tick.C:
		}
		if _, err := s.get(ctx, url+"/-/ready"); err != nil {
			continue
		}
		body, err := s.get(ctx, url+"/api/v1/status/flags")
		if err != nil {
			continue
		}
		var status struct {
			Data map[string]string `json:"data"`
		}
		if err := json.Unmarshal(body, &status); err == nil && status.Data["storage.tsdb.path"] == data {
			return nil
		}
	}
}

// get returns the body of an answer with status 200.
func (s *Server) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return s.do(req)
}

// do sends req and returns the body of its answer; any status but 2xx is an error.
func (s *Server) do(req *http.Request) ([]byte, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// Stop kills the server at once, as a crash would; its port then refuses connections. It
// may be called again.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.process == nil {
		return
	}
	s.stopped = true
	s.client.CloseIdleConnections()
	s.process.kill()
}

func (s *Server) logPath() string { return filepath.Join(s.Dir, "prometheus.log") }

// logTail is the last 4 KiB of the server's log.
func (s *Server) logTail() string {
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4096):])
}

// freeAddress is a loopback address that nobody listens on at this moment.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// A process is a child that does not outlive this one.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the child has been waited for
	guard  *exec.Cmd     // kills the child when this process is gone
}

// startProcess runs a program with its output in log. A shell beside it waits for the end
// of its input, which comes when this process dies however it dies, and kills the program:
// a test that panics runs no cleanup. cmd has no context: kill ends it, so that the guard can
// be stopped first.
func startProcess(log *os.File, cmd *exec.Cmd) (*process, error) {
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the reason is in ProcessState
		close(p.exited)
	}()
	guard := exec.Command("sh", "-c", "read -r _; kill -9 "+strconv.Itoa(cmd.Process.Pid)) //nolint:noctx // ended by kill
	if _, err := guard.StdinPipe(); err != nil {
		p.kill()
		return nil, err
	}
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // out of reach of Ctrl-C
	if err := guard.Start(); err != nil {
		p.kill()
		return nil, err
	}
	p.guard = guard
	return p, nil
}

// kill ends the child and its guard and waits for both.
func (p *process) kill() { p.end(syscall.SIGKILL) }

// end is kill with another signal, which the child must not survive.
func (p *process) end(signal syscall.Signal) {
	if p.guard != nil {
		_ = p.guard.Process.Kill() // first: it must not see its input end and shoot a reused pid
		_ = p.guard.Wait()
	}
	_ = p.cmd.Process.Signal(signal) // fails if it has exited, which is what is wanted
	<-p.exited
}

// prometheusBinary returns the path of the pinned server, built if need be. Packages are
// tested in parallel, so the build is done under a file lock and renamed into place.
func prometheusBinary(ctx context.Context) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".cache", "prometheus-"+prometheusVersion)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, buildOnce(path, func(out string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "github.com/prometheus/prometheus/cmd/prometheus")
		cmd.Dir = filepath.Join(root, "tools", "prometheus")
		cmd.Env = append(os.Environ(), "GOFLAGS=-tags=remove_all_sd,netgo", "GOWORK=off")
		return cmd
	})
}

// buildOnce makes sure that path exists: it takes a lock beside it, looks again, and runs
// the command, which writes to the name it is given. The error names the command.
func buildOnce(path string, command func(out string) *exec.Cmd) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // releases the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	out := path + ".new"
	cmd := command(out)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s is not there and cannot be built: (cd %s && %s): %w\n%s",
			path, cmd.Dir, strings.Join(cmd.Args, " "), err, output)
	}
	return os.Rename(out, path)
}

// repositoryRoot walks up from the working directory, which is the package's own in a test.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "tools", "prometheus", "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no tools/prometheus/go.mod in or above %s", dir)
		}
	}
}
