package report

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/driftwatch/driftwatch/internal/telemetry"
)

func messages() []*Message {
	at := deployed
	return []*Message{
		Unreachable("http://user:secret@prometheus.example.com:9090/?token=secret", "dial tcp: connection refused, 3 tries in 12 s"),
		NoSuchMetric("http_server_duration_seconds", "rules/checkout.yaml:9:12", 15*24*time.Hour, "http_server_request_duration_seconds", 184),
		TooFew("POST /v1/refunds p99", "requests", 61, 1200, at.Add(6*time.Hour)),
		Mistakes([]string{`rules/search.yaml:21:5: unknown field "percentle"; did you mean "quantile"?`, "rules/search.yaml:30:1: alpha 2 is not a share"}),
		NoSuchFlag("payments.backoff", "rules/checkout.yaml:14:11", "flags/payments.json has 3 flags; did you mean \""+flagKey+"\"?"),
		FlagAlreadyOff(flagKey, at, "9f2a0c11", "verified off in the file in 400 ms"),
		ReadOnly(flagKey, "flags/payments.json", "a mounted ConfigMap"),
		RevisionConflict(flagKey, "118", "120", at, "search on-call"),
		ClocksDisagree(at, at.Add(94*time.Second)),
		NotAuthorised(401, "token from DRIFTWATCH_TOKEN_FILE"),
		TooLarge(422, "50 000 000 samples", "latency", 11420, 62*time.Minute),
		Untrusted("build_info", "store gateway 2 did not answer", "results may be incomplete"),
	}
}

func TestMessages(t *testing.T) {
	var all strings.Builder
	for _, m := range messages() {
		all.WriteString(m.String() + "\n")
	}
	golden(t, "messages.txt", []byte(all.String()))
	if strings.Contains(all.String(), "secret") {
		t.Error("a credential is printed")
	}
}

// The codes, kinds and exit codes are those that scripts look for (design/cli.md).
func TestFirstLines(t *testing.T) {
	want := []string{
		"error DW101 [7]: ", "error DW102 [2]: ", "note  DW104 [0, 6 with --require-data]: ",
		"error DW105 [2]: ", "error DW106 [2]: ", "note  DW107 [4]: ", "error DW108 [4]: ", "error DW109 [5]: ",
		"error DW110 [7]: ", "error DW111 [7]: ", "error DW112 [7]: ", "error DW113 [7]: ",
	}
	for i, m := range messages() {
		if !strings.HasPrefix(m.String(), want[i]) {
			t.Errorf("%q does not begin with %q", m.String(), want[i])
		}
		for line := range strings.Lines(strings.SplitN(m.String(), "\n", 2)[1]) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: %q is not indented", m.Code, line)
			}
		}
	}
}

func TestMessageWithoutTheOptionalParts(t *testing.T) {
	for _, m := range []*Message{
		NoSuchMetric("x", "r.yaml:1:1", time.Hour, "", 0), TooFew("GET /", "events", 1, 8, time.Time{}),
		Mistakes([]string{"r.yaml:1:1: no"}), NoSuchFlag("x", "", "f.json has 1 flag"), RevisionConflict("x", "1", "2", time.Time{}, ""), NotAuthorised(403, ""),
		TooLarge(400, "limit", "latency", 0, 0),
	} {
		s := m.String()
		if strings.Contains(s, "0001") || strings.Contains(s, "()") || strings.Contains(s, `""`) || regexp.MustCompile(`[:;,] ?(\n|$)`).MatchString(s) {
			t.Errorf("something is left open in\n%s", s)
		}
	}
}

func TestMessageKeepsItsLines(t *testing.T) {
	s := Unreachable("http://p", "a\x1b[2J\nerror DW999 [0]: fake").String()
	for line := range strings.Lines(s) {
		if strings.Contains(line, "\x1b") || strings.HasPrefix(line, "error DW999") {
			t.Errorf("an answer writes its own message:\n%s", s)
		}
	}
}

func TestExplain(t *testing.T) {
	for _, m := range messages() {
		s, ok := Explain(strings.ToLower(m.Code))
		if !ok || !strings.HasPrefix(s, m.Code+": ") || !strings.Contains(s, "What to do") {
			t.Errorf("Explain(%s) = %q, %v", m.Code, s, ok)
		}
		for line := range strings.Lines(s) {
			if len(line) > 101 {
				t.Errorf("%s: a line of %d columns", m.Code, len(line))
			}
		}
	}
	if len(Codes()) != len(messages()) {
		t.Errorf("%d codes are explained, there are %d messages", len(Codes()), len(messages()))
	}
	if s, ok := Explain("DW999"); ok {
		t.Errorf("DW999 is explained: %s", s)
	}
}

func TestProgress(t *testing.T) {
	for _, p := range []Progress{{Ref: deployed}, {Ref: deployed, ASCII: true}} {
		in := base()
		r := New(in)
		post := telemetry.Window{Start: r.Windows.Post[0].Time, End: r.Windows.Post[1].Time}
		before := telemetry.Window{Start: r.Windows.Baseline[0].Time, End: r.Windows.Baseline[1].Time}
		not := verified("ofrep")
		not.Outcome, not.VerifiedAfterS = WrittenNotVerified, nil
		lines := []string{
			p.Header("0.1.0", "rules/checkout.yaml", 12, 2),
			p.Header("0.1.0", "rules/checkout.yaml", 1, 1),
			p.Prometheus("prometheus.example.com", -100*time.Millisecond, 15*24*time.Hour),
			p.Prometheus("prometheus.example.com", 0, 0),
			p.Deploy(in.Upgrade),
			p.Deploy(&telemetry.Upgrade{Service: "shop", At: deployed.AddDate(0, 0, -1), FoundBy: "flag"}),
			p.Deploy(&telemetry.Upgrade{Service: "shop", To: "2", Started: deployed}),
			p.Deploy(nil),
			p.Windows(before, post, 3*time.Minute),
			p.Windows(before, telemetry.Window{}, 3*time.Minute),
			p.Flag(flagKey, "on", "118", true),
			p.Flag("evil\x1b[2J\nflag", "on", "", false),
			p.Queries(9, 9, 1800*time.Millisecond, 3300000),
			p.Look(1, deployed.Add(15*time.Minute), 0, 0, 24),
			p.Look(2, deployed.Add(16*time.Minute), 0, 2, 24),
			p.Look(3, deployed.Add(17*time.Minute), 2, 0, 24),
			p.Look(4, deployed.Add(18*time.Minute), 2, 1, 24),
			p.Action(verified("ofrep")),
			p.Action(verified("file")),
			p.Action(not),
			p.Action(Action{Flag: flagKey, Outcome: Refused, Reason: ReasonStale}),
			p.Recovery(Recovery{State: Recovered, Since: At(deployed.Add(27 * time.Minute)), Confirmed: At(deployed.Add(40 * time.Minute))}),
			p.Recovery(Recovery{State: NotRecovered}),
			p.Recovery(Recovery{}),
		}
		name := "progress.txt"
		if p.ASCII {
			name = "progress-ascii.txt"
		}
		golden(t, name, []byte(strings.Join(lines, "\n")+"\n"))
	}
}
