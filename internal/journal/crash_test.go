package journal

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/livetest"
)

// TestMain lets the test binary stand for another process that uses a journal.
func TestMain(m *testing.M) {
	if address := os.Getenv("JOURNAL_WRITER"); address != "" {
		write(place(address), os.Getenv("JOURNAL_NAME"))
		return
	}
	code := m.Run()
	postgres.Stop()
	os.Exit(code)
}

// write opens a journal and appends to it until it is killed, or until 20 times where it has
// a name. It prints each id after it was kept. It tries the same action every time.
func write(p place, name string) {
	fail := func(err error) {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	ctx := context.Background()
	j, err := p.with(ctx, migrations)
	if err != nil {
		fail(err)
	}
	for i := 0; name == "" || i < 20; i++ {
		id := fmt.Sprintf("%s%d-%d", name, os.Getpid(), i)
		r := aRecord(id)
		r.Body = bytes.Repeat([]byte(id), 300)
		if err := j.PutRecord(ctx, r); err != nil {
			fail(err)
		}
		fmt.Println("record", id)
		in := anIntent()
		in.By = id
		if name == "" {
			in.Flag = id
		}
		in, err := j.AppendIntent(ctx, in, nil)
		switch {
		case errors.Is(err, ErrAlreadyIntended):
			continue
		case err != nil:
			fail(err)
		}
		fmt.Println("intent", in.By)
		if err := j.AppendOutcome(ctx, in.ID, anOutcome("verified")); err != nil {
			fail(err)
		}
		fmt.Println("outcome", in.By)
	}
	if err := j.Close(); err != nil {
		fail(err)
	}
}

// writer starts a process that appends to a journal.
func writer(t *testing.T, p place, name string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "JOURNAL_WRITER="+string(p), "JOURNAL_NAME="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// TestKilled kills a process in the middle of its writes, again and again: everything that
// it was told is kept is there, and the journal goes on.
func TestKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p place) {
		const seed = 1
		random := rand.New(rand.NewPCG(seed, 0))
		kept := map[string][]string{}
		for round := range 8 {
			cmd, lines := writer(t, p, "")
			// Killed a moment after so many entries, whatever the speed of the machine: at least 20
			// of all rounds are outcomes. The first round ends while the journal is being made.
			entries := round * (9 + random.IntN(6))
			moment := time.Duration(random.IntN(2000)) * time.Microsecond
			if entries == 0 {
				time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
			}
			for n := 1; lines.Scan(); n++ {
				what, id, _ := strings.Cut(lines.Text(), " ")
				kept[what] = append(kept[what], id)
				if n == entries {
					time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
				}
			}
			_ = cmd.Wait() // it was killed
			j, err := p.with(t.Context(), migrations)
			if err != nil {
				t.Fatalf("round %d, seed %d: %v", round, seed, err)
			}
			check(t, j, kept)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if len(kept["failed:"]) > 0 || len(kept["outcome"]) < 20 {
			t.Errorf("%d outcomes were kept, and failures are %q", len(kept["outcome"]), kept["failed:"])
		}
		t.Logf("%d records, %d intents, %d outcomes", len(kept["record"]), len(kept["intent"]), len(kept["outcome"]))
	})
}

// TestKilledAtFirst kills processes around the time at which they make the journal: it is
// there as a whole or not at all.
func TestKilledAtFirst(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		name   string
		place  func(t *testing.T) place
		rounds int
		step   time.Duration
	}{
		{"sqlite", aFile, 20, 2 * time.Millisecond},
		{"postgres", func(t *testing.T) place { return place(postgres.Database(t)) }, 10, 6 * time.Millisecond},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			for round := range kind.rounds {
				p := kind.place(t)
				cmd, lines := writer(t, p, "")
				time.AfterFunc(time.Duration(round)*kind.step, func() { _ = cmd.Process.Kill() })
				kept := map[string][]string{}
				for lines.Scan() {
					what, id, _ := strings.Cut(lines.Text(), " ")
					kept[what] = append(kept[what], id)
				}
				_ = cmd.Wait() // it was killed
				check(t, p.open(t), kept)
			}
		})
	}
}

// TestServerKilled kills the server of a journal while processes write, again and again:
// everything that they were told is kept is there when it is back, and nothing twice.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := &livetest.Postgres{Durable: true}
	defer server.Stop()
	p := place(server.Database(t))
	kept := map[string][]string{}
	const rounds, entries = 4, 15
	for range rounds {
		cmd, lines := writer(t, p, "")
		for n := 1; lines.Scan(); n++ {
			what, id, _ := strings.Cut(lines.Text(), " ")
			kept[what] = append(kept[what], id)
			if n == entries {
				server.Crash()
			}
		}
		_ = cmd.Wait() // it says why it failed on its standard output
		server.Restart(t)
		j, err := p.with(t.Context(), migrations)
		if err != nil {
			t.Fatal(err)
		}
		check(t, j, kept)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(kept["failed:"]) != rounds || len(kept["outcome"]) < rounds*(entries/3-1) {
		t.Errorf("%d outcomes were kept, and the writers ended with %q", len(kept["outcome"]), kept["failed:"])
	}
	for _, words := range kept["failed:"] {
		if !strings.Contains(words, ErrUnreachable.Error()) {
			t.Errorf("a writer without its server says %q", words)
		}
	}
}

// check wants the entries that were kept, each once, and SQLite's own opinion.
func check(t *testing.T, j *Journal, kept map[string][]string) {
	t.Helper()
	if j.dialect == &inSQLite {
		if got := texts(t, j, "PRAGMA integrity_check"); !slices.Equal(got, []string{"ok"}) {
			t.Fatalf("integrity check: %v", got)
		}
	}
	// The server may still be at the last write of a client that is gone; it holds the lock.
	if err := j.write(t.Context(), "wait", func(context.Context, *sql.Tx) (entry, error) { return entry{}, nil }); err != nil {
		t.Fatal(err)
	}
	for _, id := range kept["record"] {
		if r, err := j.Record(t.Context(), id); err != nil || string(r.Body) != strings.Repeat(id, 300) {
			t.Fatalf("record %s: %v", id, err)
		}
	}
	actions, err := j.Actions(t.Context(), ActionFilter{})
	if err != nil {
		t.Fatal(err)
	}
	intents, resolved := map[string]bool{}, map[string]bool{}
	for i, a := range actions {
		if a.ID != int64(i+1) || len(a.Outcomes) > 1 {
			t.Fatalf("action %d of the list has id %d and %d outcomes", i, a.ID, len(a.Outcomes))
		}
		intents[a.By], resolved[a.By] = true, len(a.Outcomes) > 0
	}
	for _, by := range kept["intent"] {
		if !intents[by] {
			t.Fatalf("intent of %s is lost", by)
		}
	}
	for _, by := range kept["outcome"] {
		if !resolved[by] {
			t.Fatalf("outcome of %s is lost", by)
		}
	}
	unresolved, err := j.Unresolved(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := len(intents) - count(resolved); len(unresolved) != want {
		t.Fatalf("%d unresolved intents, want %d", len(unresolved), want)
	}
}

func count(set map[string]bool) int {
	n := 0
	for _, in := range set {
		if in {
			n++
		}
	}
	return n
}

// TestSideBySide has processes begin and fill one journal at the same time: none fails, and
// one of them has the action.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p place) {
		kept := map[string][]string{}
		var commands []*exec.Cmd
		var outputs []*bufio.Scanner
		for i := range 4 {
			cmd, lines := writer(t, p, strconv.Itoa(i)+"-")
			commands, outputs = append(commands, cmd), append(outputs, lines)
		}
		for i, lines := range outputs {
			for lines.Scan() {
				what, id, _ := strings.Cut(lines.Text(), " ")
				kept[what] = append(kept[what], id)
			}
			if err := commands[i].Wait(); err != nil {
				t.Errorf("process %d: %v, %v", i, err, kept["failed:"])
			}
		}
		if len(kept["record"]) != 4*20 || len(kept["intent"]) != 1 || len(kept["outcome"]) != 1 {
			t.Errorf("%d records, intents of %v, outcomes of %v; want 80, one and the same one", len(kept["record"]), kept["intent"], kept["outcome"])
		}
		check(t, p.open(t), kept)
	})
}

// filled is how many records fill adds to the sample.
const filled = 2

func filler(i int) Record {
	r := aRecord(fmt.Sprint("filled-", i))
	r.Body = bytes.Repeat([]byte(r.ID), 500)
	return r
}

// fill returns the path of a closed journal with the sample and records of some pages.
func fill(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "driftwatch.db")
	j, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := sample(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	for i := range filled {
		if err := j.PutRecord(t.Context(), filler(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCutAnywhere cuts a journal after every byte: it is never opened, never replaced.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	path := fill(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if j, err := Open(t.Context(), path); err != nil {
		t.Fatalf("whole: %v", err)
	} else if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for size := info.Size() - 1; size >= 0; size-- {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), path)
		var named *Error
		if !errors.Is(err, ErrDamaged) || !errors.As(err, &named) || named.Path != path || named.Remedy == "" {
			t.Fatalf("cut after %d of %d bytes: %v, want ErrDamaged", size, info.Size(), err)
		}
		if after, err := os.Stat(path); err != nil || after.Size() != size {
			t.Fatalf("cut after %d bytes: the file was touched", size)
		}
	}
}

// TestCutLog cuts the -wal file that a crash leaves: the journal opens with the entries from
// before the cut.
func TestCutLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live := filepath.Join(dir, "live.db")
	j := reopen(t, live)
	const records = 5
	for i := range records {
		if err := j.PutRecord(t.Context(), aRecord(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	main, err := os.ReadFile(live) // as a crash would leave both files
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(live + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const frame = 24 + 4096 // a -wal file is a header of 32 bytes and frames
	if len(wal) < 32+records*frame {
		t.Fatalf("the -wal file has %d bytes", len(wal))
	}
	var cuts []int
	for end := 32; end <= len(wal); end += frame {
		cuts = append(cuts, end-1, end, end+1, end+frame/2)
	}
	before := 0
	for n, cut := range cuts {
		path := filepath.Join(dir, fmt.Sprintf("cut%d.db", n))
		if err := os.WriteFile(path, main, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+"-wal", wal[:min(cut, len(wal))], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(t.Context(), path)
		if err != nil {
			t.Fatalf("cut after %d of %d bytes: %v", cut, len(wal), err)
		}
		got, err := j.Records(t.Context(), RecordFilter{})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range got { // newest first
			if r.ID != fmt.Sprint(len(got)-1-i) {
				t.Fatalf("cut after %d bytes: record %d is %s of %d", cut, i, r.ID, len(got))
			}
		}
		if len(got) < before {
			t.Fatalf("cut after %d bytes: %d records, fewer than the %d of an earlier cut", cut, len(got), before)
		}
		before = len(got)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if before != records {
		t.Errorf("%d records without a cut, want %d", before, records)
	}
}

// TestFlippedBytes changes single bytes of a journal: what is read is what was stored, or an
// error that says that it is not.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	path := fill(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const seed = 2
	random := rand.New(rand.NewPCG(seed, 0))
	found := 0
	for n := range 250 {
		at := random.IntN(len(whole))
		if n < headerSize {
			at = n // each byte of the header
		}
		flipped := slices.Clone(whole)
		flipped[at] ^= byte(1 + random.IntN(255))
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(t.Context(), path)
		if err == nil {
			err = sampleHolds(t.Context(), j)
			for i := 0; i < filled && err == nil; i++ {
				var r Record
				r, err = j.Record(t.Context(), filler(i).ID)
				r.Seq = 0 // the sum covers what was appended
				if err == nil && !reflect.DeepEqual(r, filler(i)) {
					err = fmt.Errorf("record %s is %+v", filler(i).ID, r)
				}
			}
			if closed := j.Close(); err == nil {
				err = closed
			}
		}
		if err == nil {
			continue // the byte was not in use
		}
		found++
		var named *Error
		var notFound *NotFound
		if !errors.As(err, &named) && !errors.As(err, &notFound) {
			t.Fatalf("byte %d changed, seed %d: the wrong thing is read: %v", at, seed, err)
		}
		for _, suffix := range []string{"-wal", "-shm"} {
			_ = os.Remove(path + suffix)
		}
	}
	if found < 40 {
		t.Errorf("%d of 250 changes were found", found)
	}
}
