//go:build unix

package livetest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
)

// TestWriteWeek fills a fresh server with 7 days that end now and reads both ends back by
// query_range and by remote read.
func TestWriteWeek(t *testing.T) {
	t.Parallel()
	server := Prometheus(t)
	end := time.Now().Truncate(time.Minute)
	start := end.Add(-7 * 24 * time.Hour)
	var series []Series
	for i := range 20 {
		s := Series{Labels: map[string]string{"__name__": "requests_total", "route": strconv.Itoa(i)}}
		for at := start.Add(time.Duration(i) * time.Second); !at.After(end); at = at.Add(30 * time.Second) {
			s.Samples = append(s.Samples, Sample{at, at.Sub(start).Seconds()})
		}
		series = append(series, s)
	}
	gone := Series{Labels: map[string]string{"__name__": "build_info", "version": "1.0"}, Samples: []Sample{
		{end.Add(-2 * time.Hour), 1}, {end.Add(-time.Hour), StaleMarker()},
	}}
	began := time.Now()
	server.Write(t, append(series, gone))
	written := 0
	for _, s := range series {
		written += len(s.Samples)
	}
	t.Logf("%d samples at %.0f a second", written, float64(written)/time.Since(began).Seconds())

	// requests_total{route="19"} is the number of seconds since start at its last sample.
	for _, at := range []time.Time{start.Add(2 * time.Minute), end} {
		got := queryRange(t, server, `requests_total{route="0"}`, at, at, time.Minute)
		if want := at.Sub(start).Seconds(); len(got) != 1 || got[0] != want {
			t.Errorf("query_range at %v = %v, want [%v]", at, got, want)
		}
	}
	if got := queryRange(t, server, "count(requests_total)", start.Add(time.Minute), end, time.Hour); len(got) != 7*24 {
		t.Errorf("query_range answers %d hours, want %d", len(got), 7*24) // start+1m to end-59m
	}
	for _, route := range []int{0, 19} {
		got := remoteRead(t, server, "route", strconv.Itoa(route), start, end)
		want := series[route].Samples
		if len(got) != len(want) {
			t.Fatalf("remote read of route %d: %d samples, want %d", route, len(got), len(want))
		}
		for i := range want {
			if !got[i].T.Equal(want[i].T) || got[i].V != want[i].V {
				t.Fatalf("remote read of route %d: sample %d is %v, want %v", route, i, got[i], want[i])
			}
		}
	}
	if got := remoteRead(t, server, "version", "1.0", start, end); len(got) != 2 || math.Float64bits(got[1].V) != math.Float64bits(StaleMarker()) {
		t.Errorf("remote read of build_info = %v, want 1 and a stale marker", got)
	}
	// Without the marker the sample would be seen for 5 minutes (the lookback).
	if got := queryRange(t, server, "build_info", end.Add(-time.Hour), end, time.Minute); len(got) != 0 {
		t.Errorf("build_info is still there after its stale marker: %v", got)
	}
}

func TestWriteRefusals(t *testing.T) {
	t.Parallel()
	server := Prometheus(t)
	now := time.Now().Truncate(time.Second)
	one := func(at ...time.Time) []Series {
		s := Series{Labels: map[string]string{"__name__": "x"}}
		for _, at := range at {
			s.Samples = append(s.Samples, Sample{at, 1})
		}
		return []Series{s}
	}
	if err := server.write(t.Context(), one(now, now.Add(-time.Second))); err == nil || !strings.Contains(err.Error(), "not ascending") {
		t.Errorf("samples in the wrong order: %v, want an error that says so", err)
	}
	if err := server.write(t.Context(), one(now)); err != nil {
		t.Fatal(err)
	}
	old := one(now.Add(-2 * time.Hour))
	old[0].Labels["__name__"] = "y"
	if err := server.write(t.Context(), old); err == nil || !strings.Contains(err.Error(), "out of bounds") {
		t.Errorf("a second write two hours older: %v, want out of bounds", err)
	}
	server.Stop()
	server.Stop()
	if err := server.write(t.Context(), one(now.Add(time.Second))); err == nil {
		t.Error("a stopped server took a write")
	}
}

// TestTwoServers starts servers side by side and sees that each keeps its own data.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	servers := make([]*Server, 2)
	var wait sync.WaitGroup
	for i := range servers {
		servers[i] = Prometheus(t, "--query.lookback-delta=7m")
		wait.Go(func() {
			servers[i].Write(t, []Series{{
				Labels:  map[string]string{"__name__": "who"},
				Samples: []Sample{{time.Now().Add(-6 * time.Minute), float64(i + 1)}},
			}})
		})
	}
	wait.Wait()
	for i, s := range servers {
		now := time.Now()
		if got := queryRange(t, s, "who", now, now, time.Second); len(got) != 1 || got[0] != float64(i+1) {
			t.Errorf("server %d answers %v, want [%d]", i, got, i+1)
		}
	}
}

func TestStartFailure(t *testing.T) {
	t.Parallel()
	binary, err := prometheusBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: t.TempDir(), client: http.DefaultClient}
	err = s.start(t.Context(), binary, filepath.Join(s.Dir, "none.yml"), nil)
	if err == nil || !strings.Contains(err.Error(), "none.yml") {
		t.Errorf("start without a configuration: %v, want the server's own words", err)
	}
}

func TestBuildOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache", "tool")
	fails := func(string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "sh", "-c", "echo no such module; exit 3")
	}
	err := buildOnce(path, fails)
	if err == nil || !strings.Contains(err.Error(), "sh -c echo no such module; exit 3") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a build that fails: %v, want the command and its end", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a build that fails leaves a file")
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			err := buildOnce(path, func(out string) *exec.Cmd {
				// A second build would append a second line.
				return exec.CommandContext(t.Context(), "sh", "-c", "echo built >> "+out+"; sleep 0.05")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got, err := os.ReadFile(path); string(got) != "built\n" {
		t.Errorf("8 builds at once wrote %q (%v), want one line", got, err)
	}
}

// TestProcessDiesWithUs kills a process that has started a child, and sees the child go: the
// output that they share ends.
func TestProcessDiesWithUs(t *testing.T) {
	t.Parallel()
	if os.Getenv("LIVETEST_CHILD") != "" {
		p, err := startProcess(os.Stdout, exec.CommandContext(t.Context(), "sleep", "60"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("pid", p.cmd.Process.Pid)
		<-p.exited
		t.Fatal("the child ended by itself")
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	us := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessDiesWithUs$")
	us.Env = append(os.Environ(), "LIVETEST_CHILD=1")
	us.Stdout = write
	if err := us.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	if err := read.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(read, "pid %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	_ = us.Process.Kill()
	_ = us.Wait()
	if rest, err := io.ReadAll(read); err != nil || len(rest) > 0 {
		t.Errorf("child %d outlived the process that started it: %q, %v", pid, rest, err)
	}
}

// queryRange returns the values of the first series of an answer.
func queryRange(t *testing.T, s *Server, expr string, start, end time.Time, step time.Duration) []float64 {
	t.Helper()
	seconds := func(at time.Time) string { return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64) }
	body, err := s.get(t.Context(), s.URL+"/api/v1/query_range?"+url.Values{
		"query": {expr}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {step.String()},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Values [][2]any `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data.Result) == 0 {
		return nil
	}
	var out []float64
	for _, pair := range answer.Data.Result[0].Values {
		text, _ := pair[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// remoteRead returns the samples of the one series that has a label.
func remoteRead(t *testing.T, s *Server, name, value string, start, end time.Time) []Sample {
	t.Helper()
	field := func(n int, b []byte) []byte {
		return append(binary.AppendUvarint([]byte{byte(n<<3 | 2)}, uint64(len(b))), b...)
	}
	matcher := append(field(2, []byte(name)), field(3, []byte(value))...) // type 0: equal
	query := binary.AppendUvarint([]byte{1 << 3}, uint64(start.UnixMilli()))
	query = binary.AppendUvarint(append(query, 2<<3), uint64(end.UnixMilli()))
	query = append(query, field(3, matcher)...)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/v1/read", bytes.NewReader(snappy.Encode(nil, field(1, query))))
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.do(req)
	if err != nil {
		t.Fatal(err)
	}
	message, err := snappy.Decode(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	var out []Sample
	for _, result := range fields(t, message, 1) {
		for _, series := range fields(t, result, 1) {
			for _, sample := range fields(t, series, 2) {
				var one Sample
				at := bytes.IndexByte(sample, 1<<3|1)
				if at == 0 {
					one.V = math.Float64frombits(binary.LittleEndian.Uint64(sample[1:]))
					sample = sample[9:]
				}
				ms, _ := binary.Uvarint(sample[1:])
				one.T = time.UnixMilli(int64(ms))
				out = append(out, one)
			}
		}
	}
	return out
}

// fields returns the length-delimited fields with number n of a message of such fields.
func fields(t *testing.T, message []byte, n int) [][]byte {
	t.Helper()
	var out [][]byte
	for len(message) > 0 {
		if message[0]&7 != 2 {
			t.Fatalf("wire type %d", message[0]&7)
		}
		size, used := binary.Uvarint(message[1:])
		body := message[1+used:][:size]
		if int(message[0]>>3) == n {
			out = append(out, body)
		}
		message = message[1+used+int(size):]
	}
	return out
}
