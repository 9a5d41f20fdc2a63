package journal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/livetest"
)

// instant is any fixed time; Prometheus and the clock give parts of seconds.
func instant() time.Time { return time.Date(2026, 3, 11, 14, 2, 10, 123456789, time.UTC) }

// postgres is the server of all tests of this package.
var postgres livetest.Postgres

// A place is where a journal of a test is: a path or a DSN. Nothing is there at first.
type place string

func (p place) inPostgres() bool { return strings.HasPrefix(string(p), "postgres://") }

// with opens the journal with the schema of these migrations.
func (p place) with(ctx context.Context, steps []migration) (*Journal, error) {
	if p.inPostgres() {
		return openPostgres(ctx, string(p), steps)
	}
	return open(ctx, string(p), steps)
}

// open opens the journal until the test ends.
func (p place) open(t *testing.T) *Journal {
	t.Helper()
	j, err := p.with(t.Context(), migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func aFile(t *testing.T) place { return place(filepath.Join(t.TempDir(), "driftwatch.db")) }

// onBoth runs a test with a file and with a database.
func onBoth(t *testing.T, test func(t *testing.T, p place)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, aFile(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, place(postgres.Database(t))) })
}

func newJournal(t *testing.T) *Journal {
	t.Helper()
	return aFile(t).open(t)
}

func reopen(t *testing.T, path string) *Journal {
	t.Helper()
	return place(path).open(t)
}

func aRecord(id string) Record {
	return Record{
		ID: id, UpgradeID: "20260311-140210-checkout-api-3fa2", Service: "checkout-api", RulePath: "rules/checkout.yaml",
		Now: instant().Add(40 * time.Minute), Verdict: "regressed", ExitCode: 3,
		Body: []byte(`{"tracks":[]}`), Report: []byte(`{"schema":"driftwatch.report/v1"}`),
	}
}

// kept is the first record of a journal as it is read back.
func kept(r Record) Record {
	r.Seq = 1
	return r
}

func anIntent() Intent {
	return Intent{
		Key:  Key{Rule: "rules/checkout.yaml", UpgradeID: "20260311-140210-checkout-api-3fa2", Source: "production", Flag: "new-retry"},
		Kind: FlagOff, At: instant(), Change: []byte(`{"to":"off"}`), By: "driftwatch",
	}
}

func anOutcome(name string) Outcome {
	return Outcome{
		At: instant().Add(time.Second), Outcome: name, Reason: "because", RevisionBefore: "118", RevisionAfter: "119",
		Receipt: []byte(`{"undo":1}`), Evidence: []byte(`{"viewpoint":"file"}`),
	}
}

// sample puts one of everything into a journal; sampleHolds wants it back.
func sample(ctx context.Context, j *Journal) error {
	if _, err := j.PutBlob(ctx, []byte("calibration")); err != nil {
		return err
	}
	if err := j.PutRecord(ctx, aRecord("20260311-140210-checkout-api-3fa2-9c01d2e4")); err != nil {
		return err
	}
	in, err := j.AppendIntent(ctx, anIntent(), nil)
	if err != nil {
		return err
	}
	for _, name := range []string{"written_not_verified", "verified"} {
		if err := j.AppendOutcome(ctx, in.ID, anOutcome(name)); err != nil {
			return err
		}
	}
	if err := j.AppendRecovery(ctx, aRecovery("watching")); err != nil {
		return err
	}
	return j.AppendFeedback(ctx, aFeedback(FalseAlarm))
}

func aFeedback(kind FeedbackKind) Feedback {
	return Feedback{
		ReportID: "20260311-140210-checkout-api-3fa2-9c01d2e4", UpgradeID: "20260311-140210-checkout-api-3fa2", Service: "checkout-api",
		Kind: kind, Text: "a load test", By: "somebody", At: instant().Add(time.Hour),
	}
}

func aRecovery(state string) Recovery {
	return Recovery{UpgradeID: "20260311-140210-checkout-api-3fa2", State: state, At: instant().Add(time.Minute), Body: []byte(`{"looks":1}`)}
}

// sampleHolds returns an error that says what of the sample cannot be read back.
func sampleHolds(ctx context.Context, j *Journal) error {
	// printf calibration | sha256sum
	body, err := j.Blob(ctx, "e152337e4e85aa3e81482f0ce329aec7bfad531413fe53fef84f1f0d4165caee")
	if err != nil {
		return err
	}
	if string(body) != "calibration" {
		return fmt.Errorf("blob is %q", body)
	}
	record, err := j.Record(ctx, "20260311-140210")
	if err != nil {
		return err
	}
	if want := kept(aRecord("20260311-140210-checkout-api-3fa2-9c01d2e4")); !reflect.DeepEqual(record, want) {
		return fmt.Errorf("record is %+v, want %+v", record, want)
	}
	actions, err := j.Actions(ctx, ActionFilter{})
	if err != nil {
		return err
	}
	in := anIntent()
	in.ID = 1
	if want := []Action{{in, []Outcome{anOutcome("written_not_verified"), anOutcome("verified")}}}; !reflect.DeepEqual(actions, want) {
		return fmt.Errorf("actions are %+v, want %+v", actions, want)
	}
	recoveries, err := j.Recoveries(ctx, in.UpgradeID)
	if err != nil {
		return err
	}
	if want := []Recovery{aRecovery("watching")}; !reflect.DeepEqual(recoveries, want) {
		return fmt.Errorf("recoveries are %+v, want %+v", recoveries, want)
	}
	return nil
}

// feedbackHolds is sampleHolds for what came with version 2.
func feedbackHolds(ctx context.Context, j *Journal) error {
	feedback, err := j.Feedbacks(ctx, FeedbackFilter{})
	if err != nil {
		return err
	}
	if want := []Feedback{aFeedback(FalseAlarm)}; !reflect.DeepEqual(feedback, want) {
		return fmt.Errorf("feedback is %+v, want %+v", feedback, want)
	}
	return nil
}

func TestSample(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		if err := sampleHolds(t.Context(), j); err == nil {
			t.Error("an empty journal holds the sample")
		}
		if err := sample(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if err := sampleHolds(t.Context(), j); err != nil {
			t.Error(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := sampleHolds(t.Context(), p.open(t)); err != nil {
			t.Errorf("after opening it again: %v", err)
		}
		if p.inPostgres() {
			return
		}
		names, err := filepath.Glob(filepath.Join(filepath.Dir(j.Path()), "*.new-*"))
		if err != nil || len(names) > 0 {
			t.Errorf("left behind: %v, %v", names, err)
		}
	})
}

func TestOddPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "50% off? #1 ü.db")
	if err := sample(t.Context(), reopen(t, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if err := sampleHolds(t.Context(), reopen(t, path)); err != nil {
		t.Error(err)
	}
}

func TestBlob(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		for _, body := range [][]byte{{}, bytes.Repeat([]byte("0.125,"), 1<<18)} {
			hash, err := j.PutBlob(t.Context(), body)
			if err != nil {
				t.Fatal(err)
			}
			again, err := j.PutBlob(t.Context(), body)
			if err != nil || again != hash {
				t.Errorf("the same bytes again: %s, %v; want %s", again, err, hash)
			}
			got, err := j.Blob(t.Context(), hash)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes come back as %d, %v", len(body), len(got), err)
			}
		}
		var notFound *NotFound
		if _, err := j.Blob(t.Context(), "ab"); !errors.As(err, &notFound) {
			t.Errorf("unknown hash: %v, want NotFound", err)
		}
	})
}

func TestRecords(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		put := func(id, service string, after time.Duration) {
			t.Helper()
			r := aRecord(id)
			r.Service, r.Now = service, instant().Add(after)
			if err := j.PutRecord(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		put("20260311-140210-checkout-api-3fa2-01", "checkout-api", time.Minute)
		put("20260311-140210-checkout-api-3fa2-02", "checkout-api", 2*time.Minute)
		put("20260311-140210-checkout-api-3fa2-0", "checkout-api", 0)
		put("20260312-090000-search-77aa-01", "search", 24*time.Hour)

		for _, tt := range []struct {
			name, id string
			want     string // id, or part of the error
		}{
			{"whole id", "20260311-140210-checkout-api-3fa2-02", "20260311-140210-checkout-api-3fa2-02"},
			{"unique beginning", "20260312", "20260312-090000-search-77aa-01"},
			{"an id that begins others", "20260311-140210-checkout-api-3fa2-0", "20260311-140210-checkout-api-3fa2-0"},
			{"beginning of several", "20260311-14", `is the beginning of 3 reports; write more of it: 20260311-140210-checkout-api-3fa2-02, `},
			{"nothing", "", `is the beginning of 4 reports`},
			{"unknown", "20260312-090000-search-77ab", `no report "20260312-090000-search-77ab"; the nearest are 20260312-090000-search-77aa-01, 20260311-140210-checkout-api-3fa2-02, `},
			{"no wildcards", "2026031%", `no report "2026031%"`},
		} {
			t.Run(tt.name, func(t *testing.T) {
				got, err := j.Record(t.Context(), tt.id)
				var notFound *NotFound
				switch {
				case err == nil && got.ID != tt.want:
					t.Errorf("Record(%q) = %s, want %s", tt.id, got.ID, tt.want)
				case err != nil && (!errors.As(err, &notFound) || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("Record(%q): %v, want %s", tt.id, err, tt.want)
				}
			})
		}

		ids := func(f RecordFilter) []string {
			t.Helper()
			records, err := j.Records(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, r := range records {
				if r.Service == "" || r.Now.IsZero() || r.Verdict != "regressed" || r.ExitCode != 3 {
					t.Errorf("a listed record lacks something: %+v", r)
				}
				out = append(out, r.ID[len(r.ID)-7:])
			}
			return out
		}
		for _, tt := range []struct {
			name string
			f    RecordFilter
			want []string
		}{
			{"all, newest first", RecordFilter{}, []string{"77aa-01", "3fa2-02", "3fa2-01", "-3fa2-0"}},
			{"one service", RecordFilter{Service: "checkout-api"}, []string{"3fa2-02", "3fa2-01", "-3fa2-0"}},
			{"limit", RecordFilter{Limit: 2}, []string{"77aa-01", "3fa2-02"}},
			{"unknown upgrade", RecordFilter{UpgradeID: "x"}, nil},
			{"verdict", RecordFilter{Verdict: "regressed", Limit: 1}, []string{"77aa-01"}},
			{"another verdict", RecordFilter{Verdict: "undecided"}, nil},
			{"since includes its instant", RecordFilter{Since: instant().Add(2 * time.Minute)}, []string{"77aa-01", "3fa2-02"}},
			{"until does not", RecordFilter{Until: instant().Add(2 * time.Minute)}, []string{"3fa2-01", "-3fa2-0"}},
			{"since and until", RecordFilter{Since: instant().Add(time.Minute), Until: instant().Add(2 * time.Minute)}, []string{"3fa2-01"}},
		} {
			if got := ids(tt.f); !slices.Equal(got, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
	})
}

func TestPutRecordTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		for range 2 {
			if err := j.PutRecord(t.Context(), aRecord("a")); err != nil {
				t.Fatal(err)
			}
		}
		other := aRecord("a")
		other.Report = []byte("{}")
		if err := j.PutRecord(t.Context(), other); !errors.Is(err, ErrConflict) {
			t.Errorf("other content with the same id: %v, want ErrConflict", err)
		}
		if got, err := j.Record(t.Context(), "a"); err != nil || !reflect.DeepEqual(got, kept(aRecord("a"))) {
			t.Errorf("the record is now %+v, %v", got, err)
		}
		if err := j.PutRecord(t.Context(), Record{ID: "b"}); err == nil {
			t.Error("a record without a time is kept")
		}
		if err := j.PutRecord(t.Context(), Record{ID: "c", Now: instant()}); err != nil {
			t.Errorf("a record without a body: %v", err)
		}
		if _, err := j.Record(t.Context(), "c"); err != nil {
			t.Errorf("a record without a body: %v", err)
		}
	})
}

func TestActions(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		ctx := t.Context()
		first, err := j.AppendIntent(ctx, anIntent(), nil)
		if err != nil {
			t.Fatal(err)
		}
		again := anIntent()
		again.At, again.By = instant().Add(time.Hour), "somebody"
		if got, err := j.AppendIntent(ctx, again, nil); !errors.Is(err, ErrAlreadyIntended) || !reflect.DeepEqual(got, first) {
			t.Errorf("the same action again: %+v, %v; want the first one and ErrAlreadyIntended", got, err)
		}
		if unresolved, err := j.Unresolved(ctx); err != nil || !reflect.DeepEqual(unresolved, []Intent{first}) {
			t.Errorf("unresolved: %+v, %v; want the first intent", unresolved, err)
		}
		if err := j.AppendOutcome(ctx, first.ID, anOutcome("written_not_verified")); err != nil {
			t.Fatal(err)
		}
		if unresolved, err := j.Unresolved(ctx); err != nil || len(unresolved) > 0 {
			t.Errorf("unresolved after an outcome: %+v, %v", unresolved, err)
		}
		if err := j.AppendOutcome(ctx, first.ID, anOutcome("verified")); err != nil {
			t.Fatal(err)
		}
		var notFound *NotFound
		if err := j.AppendOutcome(ctx, 99, anOutcome("verified")); !errors.As(err, &notFound) {
			t.Errorf("outcome of an unknown action: %v, want NotFound", err)
		}

		// Everything that is not the same action is one of its own.
		for _, change := range []func(in *Intent){
			func(in *Intent) { in.Rule = "rules/other.yaml" },
			func(in *Intent) { in.UpgradeID = "20260312-090000-checkout-api-3fa2" },
			func(in *Intent) { in.Source = "staging" },
			func(in *Intent) { in.Flag = "other" },
			func(in *Intent) { in.Kind = Restore },
			func(in *Intent) { in.Kind = Restore; in.At = instant().Add(2 * time.Hour) }, // a person may do it twice
		} {
			in := anIntent()
			change(&in)
			if _, err := j.AppendIntent(ctx, in, nil); err != nil {
				t.Errorf("%+v: %v", in, err)
			}
		}
		for _, in := range []Intent{{}, {Key: anIntent().Key, At: instant(), Kind: "flag_on"}, {Key: anIntent().Key, Kind: FlagOff}} {
			if _, err := j.AppendIntent(ctx, in, nil); err == nil {
				t.Errorf("%+v is taken", in)
			}
		}

		for _, tt := range []struct {
			name string
			f    ActionFilter
			want []int64
		}{
			{"all", ActionFilter{}, []int64{1, 2, 3, 4, 5, 6, 7}},
			{"upgrade", ActionFilter{UpgradeID: "20260312-090000-checkout-api-3fa2"}, []int64{3}},
			{"source", ActionFilter{Source: "staging"}, []int64{4}},
			{"flag", ActionFilter{Flag: "other"}, []int64{5}},
			{"since", ActionFilter{Since: instant().Add(2 * time.Hour)}, []int64{7}},
			{"none", ActionFilter{Flag: "none"}, nil},
		} {
			actions, err := j.Actions(ctx, tt.f)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, a := range actions {
				got = append(got, a.ID)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
		all, err := j.Actions(ctx, ActionFilter{})
		if err != nil || !reflect.DeepEqual(all[0], Action{first, []Outcome{anOutcome("written_not_verified"), anOutcome("verified")}}) {
			t.Errorf("the first action is %+v, %v", all[0], err)
		}
	})
}

func TestRecoveries(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		var want []Recovery
		for _, state := range []string{"watching", "watching", "recovered"} {
			want = append(want, aRecovery(state))
			if err := j.AppendRecovery(t.Context(), aRecovery(state)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := j.Recoveries(t.Context(), want[0].UpgradeID); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Recoveries = %+v, %v; want %+v", got, err, want)
		}
		if err := j.AppendRecovery(t.Context(), Recovery{State: "watching", At: instant()}); err == nil {
			t.Error("a recovery of no upgrade is kept")
		}
	})
}

// TestNothingIsChanged tries to rewrite the past behind the journal's back.
func TestNothingIsChanged(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		if err := sample(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"UPDATE record SET verdict = 'undecided'", "UPDATE intent SET by = 'somebody'", "DELETE FROM intent",
			"UPDATE outcome SET outcome = 'verified'", "DELETE FROM outcome", "UPDATE recovery SET state = 'recovered'",
			"UPDATE feedback SET kind = 'real'", "DELETE FROM feedback",
		} {
			if _, err := j.db.ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "are never") {
				t.Errorf("%s: %v, want a refusal", statement, err)
			}
		}
		if err := sampleHolds(t.Context(), j); err != nil {
			t.Error(err)
		}
		for table, column := range map[string]string{"record": "verdict", "intent": "by", "outcome": "reason", "recovery": "state", "feedback": "text"} {
			on := ""
			if p.inPostgres() {
				on = " ON " + table
			}
			if _, err := j.db.ExecContext(t.Context(), fmt.Sprintf("DROP TRIGGER %[1]s_stays%[3]s; UPDATE %[1]s SET %[2]s = 'x'", table, column, on)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := j.Record(t.Context(), "2026"); !errors.Is(err, ErrDamaged) {
			t.Errorf("a changed record: %v, want ErrDamaged", err)
		}
		if _, err := j.Unresolved(t.Context()); err != nil {
			t.Errorf("no unresolved intent, and %v", err)
		}
		if _, err := j.Actions(t.Context(), ActionFilter{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("a changed intent: %v, want ErrDamaged", err)
		}
		if _, err := j.outcomes(t.Context(), j.db, ""); !errors.Is(err, ErrDamaged) {
			t.Errorf("a changed outcome: %v, want ErrDamaged", err)
		}
		if _, err := j.Recoveries(t.Context(), anIntent().UpgradeID); !errors.Is(err, ErrDamaged) {
			t.Errorf("a changed recovery: %v, want ErrDamaged", err)
		}
		if _, err := j.Feedbacks(t.Context(), FeedbackFilter{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("changed feedback: %v, want ErrDamaged", err)
		}
		// What is whole comes with the error.
		if err := j.AppendFeedback(t.Context(), Feedback{ReportID: "whole", Kind: Real, By: "m.okafor", At: anIntent().At}); err != nil {
			t.Fatal(err)
		}
		if said, err := j.Feedbacks(t.Context(), FeedbackFilter{}); !errors.Is(err, ErrDamaged) || len(said) != 1 || said[0].ReportID != "whole" {
			t.Errorf("beside changed feedback: %+v, %v", said, err)
		}
	})
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := filepath.Join(dir, "foreign.db")
	db, err := sql.Open("sqlite", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE dashboards (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file("gone.db-wal", "not empty")
	for _, tt := range []struct {
		name, path string
		reason     error
		words      string
	}{
		{"no directory", filepath.Join(dir, "none", "driftwatch.db"), ErrNoDirectory, "mkdir -p " + filepath.Join(dir, "none")},
		{"a directory", dir, ErrForeign, "it is a directory"},
		{"below a file", filepath.Join(file("plain", "x"), "driftwatch.db"), ErrNotWritable, "not a directory"},
		{"empty", file("empty.db", ""), ErrDamaged, "it is empty; restore a copy"},
		{"text", file("text.db", "key: value\n"), ErrForeign, "does not begin like an SQLite file; name another file with --journal"},
		{"another program's", foreign, ErrForeign, "of another program"},
		{"only its -wal is left", filepath.Join(dir, "gone.db"), ErrDamaged, "-wal file is still there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := os.ReadFile(tt.path)
			_, err := Open(t.Context(), tt.path)
			var named *Error
			if !errors.Is(err, tt.reason) || !errors.As(err, &named) || named.Remedy == "" {
				t.Fatalf("Open: %v, want %v with a remedy", err, tt.reason)
			}
			if !strings.HasPrefix(err.Error(), tt.path+": ") || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("Open: %v, want the path and %q", err, tt.words)
			}
			if after, _ := os.ReadFile(tt.path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

// TestWriteErrors makes SQLite itself fail, as a full disk, a read-only mount and another
// process would.
func TestWriteErrors(t *testing.T) {
	for _, tt := range []struct {
		name, pragma string
		reason       error
	}{
		{"disk full", "PRAGMA max_page_count = 1", ErrFull}, // the lowest is the present size
		{"read only", "PRAGMA query_only = ON", ErrNotWritable},
		{"locked", "PRAGMA busy_timeout = 1", ErrBusy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := newJournal(t)
			if err := sample(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			if errors.Is(tt.reason, ErrBusy) {
				tx, err := reopen(t, j.Path()).db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
			}
			j.db.SetMaxOpenConns(1) // the pragma is the connection's
			if _, err := j.db.ExecContext(t.Context(), tt.pragma); err != nil {
				t.Fatal(err)
			}
			big := aRecord("big")
			big.Body = make([]byte, 1<<20)
			err := j.PutRecord(t.Context(), big)
			var named *Error
			if !errors.Is(err, tt.reason) || !errors.As(err, &named) || named.Path != j.Path() || named.Remedy == "" {
				t.Errorf("PutRecord: %v, want %v with path and remedy", err, tt.reason)
			}
			if err := sampleHolds(t.Context(), j); err != nil {
				t.Errorf("what was there before: %v", err)
			}
			if _, err := j.Record(t.Context(), "big"); err == nil {
				t.Error("the record was kept all the same")
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		j := p.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := j.PutRecord(ctx, aRecord("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("PutRecord: %v, want %v", err, context.Canceled)
		}
	})
}

func TestLastWords(t *testing.T) {
	about := func(report, upgrade string, kind FeedbackKind) Feedback {
		return Feedback{ReportID: report, UpgradeID: upgrade, Kind: kind}
	}
	said := []Feedback{
		about("a-1", "a", FalseAlarm), about("b-1", "b", Real), about("a-2", "a", Real), about("a-2", "a", Comment),
		about("c-1", "", FalseAlarm), about("d-1", "", Real), about("e-1", "e", Comment),
	}
	want := []Feedback{said[1], said[2], said[4], said[5]}
	if got := LastWords(said); !reflect.DeepEqual(got, want) {
		t.Errorf("LastWords = %+v, want %+v", got, want)
	}
}
