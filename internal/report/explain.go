package report

import (
	"slices"
	"strings"
)

// explanations are the long forms of the messages, by code.
var explanations = map[string]string{
	"DW101": `DW101: cannot reach Prometheus                                        exit code 7

driftwatch asked Prometheus and got no answer: the connection was refused, the name
does not resolve, the TLS handshake failed, or it answered 503 until the time was up.
Connection errors, 429 and 503 are tried again, nothing else is.

Nothing is known about the upgrade then. That is not "no regression": the report says
could_not_check, and no flag is touched.

What to do
  - curl URL/api/v1/status/buildinfo from the machine that driftwatch runs on
  - set --prometheus, DRIFTWATCH_PROMETHEUS or prometheus.url in driftwatch.yaml
  - proxies, certificates and credentials are set under prometheus.http
`,
	"DW102": `DW102: no such metric                                                 exit code 2

A metric that the rule names has not had one series over the whole history that was
read. A metric that is missing only since the upgrade is something else: its endpoints
are not_enough_data with the note "renamed by the upgrade?".

What to do
  - compare the name with what the service exposes; histograms are named without _bucket
  - try the rule's select on its own: a label value that matches nothing looks the same
  - look at the scrape job (up == 0, or no target at all)
`,
	"DW104": `DW104: too few samples to judge a comparison            exit code 0, or 6 with --require-data

There is too little traffic, too little history or too many missing steps to tell a rise
from chance. driftwatch never calls that "no regression". The comparison's needs say what
is lacking, how much there is, how much it takes and, where it can be told, when it will
be enough:
  requests, events   traffic in the windows
  placebos, history  past times of the same service to compare with
  steps              steps with data: scrapes are missing
  buckets            a bucket bound near the quantile
  rollout            the upgrade is not complete yet

What to do
  - wait, and check again; --wait does so
  - judge a lower quantile, or endpoints by fewer labels
  - to fail a pipeline on this, give --require-data: the exit code is then 6
`,
	"DW105": `DW105: unknown field                                                  exit code 2

A rule or the configuration has a field that driftwatch does not know. It is an error
because a misspelt field would silently leave its default in force, and the default may
be the opposite of what was meant.

What to do
  - the message names file, line, column and, if one is near, the field that was meant
  - docs/rules.md lists every field with its unit, range and default
`,
	"DW106": `DW106: no such flag                                                   exit code 2

The rule names a flag that its source does not have. driftwatch never creates a flag.

What to do
  - driftwatch flags list shows the flags of every source
  - check the source: under flags in the rule it names an entry of flag_sources
`,
	"DW107": `DW107: the flag is already off                                        exit code 4

Every probed context was served what "off" means before anything was written, so
nothing was written. Who turned it off, and when, is said where the source knows it.

What to do
  - if the regression is still there, the flag is not what keeps it up: the report shows
    what the numbers did since
  - driftwatch flags restore undoes only what driftwatch itself has done
`,
	"DW108": `DW108: the flag source is read-only                                   exit code 4

The regression is confirmed and the flag is still ON: driftwatch cannot write the source.
Usual reasons: a file mounted from a ConfigMap or Secret, a read-only file system, a file
that another tool generates, or missing rights.

What to do
  - turn the flag off where it is really kept (the repository, the flag service)
  - or give driftwatch a source that it can write: docs/flags.md
`,
	"DW109": `DW109: revision conflict                                              exit code 5

Between reading the flag and writing it somebody else changed it. driftwatch writes only
what it has read, so it wrote nothing.

What to do
  - look at what it is now: driftwatch flags list
  - decide, and name the revision that you have seen: driftwatch flags off KEY --revision N
`,
	"DW110": `DW110: clocks disagree                                                exit code 7

This machine and Prometheus differ by more than the check can bear. Windows around an
upgrade would lie in the wrong place, and a rise could be put before or after it.

What to do
  - fix NTP on the machine that is wrong
  - or state the difference: --clock-offset 94s; it is recorded in the report
`,
	"DW111": `DW111: not authorised                                                 exit code 7

Prometheus, or the proxy before it, answered 401 or 403. 401 is a missing or expired
credential, 403 often the wrong tenant or a missing role.

What to do
  - set the credential under prometheus.http in driftwatch.yaml (bearer file, basic auth,
    OAuth2, client certificate, http_headers for X-Scope-OrgID)
  - read access to the query API is enough
driftwatch never prints a credential, only where it came from.
`,
	"DW112": `DW112: query too large                                                exit code 7

Prometheus refused the query because of its size (422 or 400: query.max-samples, or the
limits of Mimir, Thanos and others).

What to do
  - narrow the rule's select, or name fewer endpoint labels
  - lower prometheus.max_samples, so that driftwatch asks in smaller pieces
  - raise the limit of the server
`,
	"DW113": `DW113: the answer cannot be trusted                                   exit code 7

Prometheus answered, but with a warning (a store that did not answer, a result that was
cut), or with something that cannot be decoded. A number made from half of the data looks
like any other, so it is not used: what it touches is could_not_check.

What to do
  - send the query of the report's provenance to Prometheus and read its warnings
  - behind Thanos, Mimir or Cortex: see which store is missing, and check again when it is back
`,
}

// Explain is the long form of the message with this code ("DW104", in any case), and whether
// there is one.
func Explain(code string) (string, bool) {
	s, ok := explanations[strings.ToUpper(code)]
	return s, ok
}

// Codes are the codes that Explain knows, in order.
func Codes() []string {
	var out []string
	for c := range explanations {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}
