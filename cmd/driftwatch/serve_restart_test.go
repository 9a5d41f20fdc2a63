//go:build !race

// The provider v0.6.0 sets a sync.Once anew when its stream breaks while another goroutine may use
// it (in_process/service.go, handleSyncEvent), so a race detector stops whatever watches a
// provider survive its server. Such tests run without one.

package main

import (
	"bufio"
	"context"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	flagd "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

var servingAt = regexp.MustCompile(`msg=serving address=(\S+)`)

// serve starts `flags serve` and waits until it says where.
func serve(t *testing.T, dir, listen string) (server *exec.Cmd, address string) {
	t.Helper()
	server, said := started(t, dir, "flags", "serve", "--source", "production", "--listen", listen)
	t.Cleanup(func() { _ = server.Process.Kill() })
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if m := servingAt.FindStringSubmatch(lines.Text()); m != nil {
			return server, m[1]
		}
	}
	t.Fatalf("flags serve ended: %v", server.Wait())
	return nil, ""
}

func TestFlagsServe(t *testing.T) {
	t.Parallel()
	dir := serveWorld(t)
	server, address := serve(t, dir, "127.0.0.1:0")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := flagd.NewProvider(flagd.WithInProcessResolver(), flagd.WithHost("127.0.0.1"), flagd.WithPort(uint16(number)),
		flagd.WithDeadline(60_000), flagd.WithRetryBackoffMs(20), flagd.WithRetryBackoffMaxMs(50), flagd.WithRetryGracePeriod(600))
	if err != nil {
		t.Fatal(err)
	}
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.Background()) })
	if err := api.SetProviderAndWait(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	client := api.NewClient()
	gets := func() string {
		d, err := client.BooleanValueDetails(t.Context(), "new-backoff", false, openfeature.NewEvaluationContext("u1", nil))
		if err != nil {
			return err.Error()
		}
		return d.Variant
	}
	sees := func(want string) {
		t.Helper()
		for range 12_000 {
			if gets() == want {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("the application gets %q, want %q", gets(), want)
	}
	sees("on")
	if r := run(t, dir, "flags", "off", "new-backoff"); r.code != 0 {
		t.Fatalf("flags off: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	sees("off")

	// Killed at once: the application keeps what it has, and the state is in the file.
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	if got := gets(); got != "off" {
		t.Errorf("without a server the application gets %q, want off", got)
	}
	if r := run(t, dir, "flags", "restore", "new-backoff"); r.code != 0 {
		t.Fatalf("flags restore: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if got := gets(); got != "off" {
		t.Errorf("restored without a server: the application gets %q, want what it had", got)
	}
	server, _ = serve(t, dir, address)
	sees("on")

	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("stopped by SIGTERM: %v, want exit code 0", err)
	}
}
