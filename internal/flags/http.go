package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// apiDeadline bounds one call to a server that holds flags, and maxAnswer the bytes that are
// read of its answer. Unleash and LaunchDarkly answer within a second; a flag with thousands of
// targets is some hundred kilobytes.
const (
	apiDeadline = 10 * time.Second
	maxAnswer   = 8 << 20
)

// A Secret is where a credential stands: in a file or in an environment variable. The zero value
// is none. It is read for every call, so that one that was exchanged is used at once, and it
// goes nowhere but into the request.
type Secret struct {
	File string
	Env  string
}

// read returns the credential without white space around it, "" if none is configured.
func (s Secret) read() (string, error) {
	var text string
	switch {
	case s.File != "":
		b, err := os.ReadFile(s.File)
		if err != nil {
			return "", fmt.Errorf("%w: read the credential: %w", ErrForbidden, err)
		}
		text = strings.TrimSpace(string(b))
	case s.Env != "":
		text = strings.TrimSpace(os.Getenv(s.Env))
	default:
		return "", nil
	}
	if text == "" || strings.ContainsFunc(text, unicode.IsControl) {
		return "", fmt.Errorf("%w: %s holds no credential: one line is needed", ErrForbidden, s)
	}
	return text, nil
}

// String is where the credential stands, not the credential.
func (s Secret) String() string {
	if s.File != "" {
		return s.File
	}
	return "the environment variable " + s.Env
}

// Direct is client without following redirects: one could carry a credential to another host,
// and turns a write into a read.
func Direct(client *http.Client) *http.Client {
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// An api is a server that holds flags, spoken to over HTTP.
type api struct {
	base   string // its address, without credentials and without a slash at the end
	secret Secret
	client *http.Client
	// sign puts the credential into a request with this body.
	sign func(r *http.Request, body []byte, secret string)
}

func newAPI(base string, secret Secret, client *http.Client, sign func(r *http.Request, body []byte, secret string)) api {
	return api{strings.TrimRight(base, "/"), secret, Direct(client), sign}
}

// plainToken is a token that is the whole of the Authorization header.
func plainToken(r *http.Request, _ []byte, token string) { r.Header.Set("Authorization", token) }

// An answer is what a server said. Nothing of the body is printed but by said.
type answer struct {
	status int
	header http.Header
	body   []byte
	secret string // to take it out of what is printed
}

// A request is one call. path begins with a slash and holds the query, or is "" for the base.
type request struct {
	method, path string
	header       http.Header
	body         []byte
}

// errNoAnswer is a call that may have been carried out, although no answer to it came.
var errNoAnswer = errors.New("no answer came")

// call sends one request, once. It fails with ErrForbidden where the credential cannot be read,
// with ErrUnreachable or the end of ctx where nothing was sent, and with errNoAnswer (and
// ErrUnreachable) where that is not known. Every status is an answer.
func (a api) call(ctx context.Context, q request) (answer, error) {
	secret, err := a.secret.read()
	if err != nil {
		return answer{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, apiDeadline)
	defer cancel()
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(bounded, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	r, err := http.NewRequestWithContext(traced, q.method, a.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrInvalid, withoutURL(err))
	}
	maps.Copy(r.Header, q.header)
	r.Header.Set("User-Agent", "driftwatch")
	if len(q.body) > 0 && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if secret != "" {
		a.sign(r, q.body, secret)
	}
	resp, err := a.client.Do(r)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		out := answer{status: resp.StatusCode, header: resp.Header, secret: secret}
		if out.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1)); err == nil {
			if len(out.body) > maxAnswer {
				return answer{}, fmt.Errorf("%w: %w but one of more than %d MiB", ErrUnreachable, errNoAnswer, maxAnswer>>20)
			}
			return out, nil
		}
	}
	switch {
	case connected.Load():
		return answer{}, fmt.Errorf("%w: %w: %w", ErrUnreachable, errNoAnswer, withoutURL(err))
	case ctx.Err() != nil:
		return answer{}, ctx.Err()
	}
	return answer{}, fmt.Errorf("%w: %w", ErrUnreachable, withoutURL(err))
}

// withoutURL is err without the address that net/http puts before it; whoever reports it names
// the address.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// get is a call that only reads.
func (a api) get(ctx context.Context, path string, header http.Header, into any) error {
	return a.ask(ctx, request{method: http.MethodGet, path: path, header: header}, into)
}

// ask is a call that may be repeated: whatever is not 2xx is one of the package's errors.
func (a api) ask(ctx context.Context, q request, into any) error {
	ans, err := a.call(ctx, q)
	if err != nil {
		return err
	}
	if err := ans.refusal(); err != nil {
		return err
	}
	if ans.status/100 == 5 {
		return fmt.Errorf("%w: %s", ErrUnreachable, ans.said())
	}
	return ans.decode(into)
}

// decode reads the JSON of an answer.
func (a answer) decode(into any) error {
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%w: the answer (HTTP %d) is not what it should be; is the address right?", ErrInvalid, a.status)
	}
	return nil
}

// refusal is the error of an answer that says that nothing was done; nil for success and for
// 5xx, after which a write may have been made or not.
func (a answer) refusal() error {
	var kind error
	hint := ""
	switch {
	case a.status/100 == 2, a.status/100 == 5:
		return nil
	case a.status/100 == 3:
		return fmt.Errorf("%w: HTTP %d: it redirects%s, which is not followed; write the address that answers into the configuration", ErrUnreachable, a.status, a.target())
	case a.status == http.StatusUnauthorized:
		kind, hint = ErrForbidden, "; the credential is not accepted"
	case a.status == http.StatusForbidden:
		kind, hint = ErrForbidden, "; the credential does not allow it"
	case a.status == http.StatusNotFound, a.status == http.StatusGone:
		kind = ErrNotFound
	case a.status == http.StatusConflict, a.status == http.StatusPreconditionFailed:
		kind = ErrConflict
	case a.status == http.StatusTooManyRequests:
		kind, hint = ErrRateLimited, "; "+a.wait()
	default:
		kind = ErrInvalid
	}
	return fmt.Errorf("%w: %s%s", kind, a.said(), hint)
}

// target is the host of a redirect, for people.
func (a answer) target() string {
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Host != "" {
		return " to " + u.Host
	}
	return ""
}

// wait is how long a server wants to be left alone: Retry-After in seconds or as a date, or
// X-Ratelimit-Reset as Unix milliseconds.
func (a answer) wait() string {
	if s, err := strconv.Atoi(a.header.Get("Retry-After")); err == nil && s >= 0 {
		return fmt.Sprintf("try again after %s", time.Duration(s)*time.Second)
	}
	if at, err := http.ParseTime(a.header.Get("Retry-After")); err == nil {
		return "try again after " + at.UTC().Format(time.RFC3339)
	}
	if ms, err := strconv.ParseInt(a.header.Get("X-Ratelimit-Reset"), 10, 64); err == nil {
		return "try again after " + time.UnixMilli(ms).UTC().Format(time.RFC3339)
	}
	return "try again in a minute"
}

// maxSaid bounds what is quoted of an answer.
const maxSaid = 300

// said is status and message of an answer, for people: the field "message" of JSON, else the
// beginning of the text, without the credential, which a server may repeat.
func (a answer) said() string {
	s := fmt.Sprintf("HTTP %d", a.status)
	var j struct {
		Message string `json:"message"`
	}
	text := string(a.body)
	if json.Unmarshal(a.body, &j) == nil {
		text = j.Message
	}
	if a.secret != "" {
		text = strings.ReplaceAll(text, a.secret, "***")
	}
	if text = shortened(text); text == "" {
		return s
	}
	return s + ": " + text
}

// shortened is a text of somebody else as one printable line of bounded length.
func shortened(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if r := []rune(text); len(r) > maxSaid {
		return string(r[:maxSaid]) + "…"
	}
	return text
}

// A trail is what a server noted about one flag after a revision, the newest first.
type trail []note

// A note is one entry of a server's log of changes.
type note struct {
	id   string
	ours bool      // written by the change that is looked for
	what string    // for people: what was done, and by whom
	at   time.Time // as the server tells
}

// own is the place of the newest note of ours, -1 if there is none.
func (t trail) own() int {
	for i, n := range t {
		if n.ours {
			return i
		}
	}
	return -1
}

// others says for people what somebody else did, the newest first, "" for nothing.
func (t trail) others() string {
	var s []string
	for _, n := range t {
		if !n.ours {
			s = append(s, n.what)
		}
	}
	if len(s) > maxOthers {
		s = append(s[:maxOthers], fmt.Sprintf("%d more", len(s)-maxOthers))
	}
	return strings.Join(s, ", ")
}

// maxOthers bounds how many foreign changes are told.
const maxOthers = 3
