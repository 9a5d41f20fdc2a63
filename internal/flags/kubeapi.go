package flags

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A KubernetesServer is where a Kubernetes API is, and how driftwatch shows who it is.
type KubernetesServer struct {
	Address   string // such as https://10.0.0.1:6443
	TokenFile string // holds a bearer token; "" = none is sent
	CAFile    string // authorities in PEM; "" = those of the system
}

// InCluster is the API of the cluster that the process runs in, with the pod's service account.
func InCluster(getenv func(string) string) (KubernetesServer, error) {
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return KubernetesServer{}, errors.New("this is no pod (KUBERNETES_SERVICE_HOST is not set); write server: {address: …, token_file: …, ca_file: …}")
	}
	return KubernetesServer{"https://" + net.JoinHostPort(host, port), account + "token", account + "ca.crt"}, nil
}

// kubeDeadline bounds one request. The API answers in milliseconds; the server's own limit for
// a request is a minute, which is too long for somebody who wants a flag off.
const kubeDeadline = 10 * time.Second

// maxObject bounds an answer. etcd takes no object above 1.5 MiB.
const maxObject = 4 << 20

// A server with priority and fairness asks for a second of patience. Whatever wants more than
// patience in all is told to the caller.
const (
	patience   = 3 * time.Second
	rateTries  = 4
	fieldOwner = "driftwatch"
)

// errUnknown goes with ErrUnreachable: the request was sent and its answer was lost.
var errUnknown = errors.New("whether it was carried out is not known")

// A kubeAPI reads and patches objects.
type kubeAPI struct {
	server KubernetesServer
	client *http.Client
	pause  func(ctx context.Context, d time.Duration) error
}

func newKubeAPI(s KubernetesServer) (*kubeAPI, error) {
	authorities, err := x509.SystemCertPool()
	if s.CAFile != "" {
		var pem []byte
		if pem, err = os.ReadFile(s.CAFile); err == nil {
			authorities = x509.NewCertPool()
			if !authorities.AppendCertsFromPEM(pem) {
				err = fmt.Errorf("%s holds no certificate in PEM", s.CAFile)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("authorities of %s: %w", s.Address, err)
	}
	return &kubeAPI{
		server: s,
		pause:  pause,
		client: &http.Client{
			Timeout: kubeDeadline,
			Transport: &http.Transport{
				Proxy:             http.ProxyFromEnvironment,
				TLSClientConfig:   &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
				ForceAttemptHTTP2: true,
				IdleConnTimeout:   kubeDeadline,
			},
			// A redirect would carry the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// A kubeObject is what driftwatch reads of an object.
type kubeObject struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name              string            `json:"name"`
		Generation        int64             `json:"generation"`
		ResourceVersion   string            `json:"resourceVersion"`
		Annotations       map[string]string `json:"annotations"`
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
		OwnerReferences   []struct {
			Kind       string `json:"kind"`
			Name       string `json:"name"`
			Controller bool   `json:"controller"`
		} `json:"ownerReferences"`
		ManagedFields []fieldManager `json:"managedFields"`
	} `json:"metadata"`
	Spec struct {
		FlagSpec json.RawMessage `json:"flagSpec"`
	} `json:"spec"`
	Data       map[string]string          `json:"data"`
	BinaryData map[string]json.RawMessage `json:"binaryData"`
	Immutable  bool                       `json:"immutable"`

	raw []byte
}

// A fieldManager is who wrote fields of an object last, and when.
type fieldManager struct {
	Manager string    `json:"manager"`
	Time    time.Time `json:"time"`
}

// lastWriter is the newest of the object's managers. The API counts seconds; of several in one,
// somebody else is told rather than driftwatch.
func (o *kubeObject) lastWriter() fieldManager {
	var last fieldManager
	for _, m := range o.Metadata.ManagedFields {
		if m.Time.After(last.Time) || m.Time.Equal(last.Time) && m.Manager != fieldOwner {
			last = m
		}
	}
	return last
}

func (m fieldManager) String() string {
	if m.Manager == "" {
		return "somebody"
	}
	return fmt.Sprintf("%s at %s", m.Manager, m.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// parseObject reads an object of a kind.
func parseObject(kind string, text []byte) (*kubeObject, error) {
	o := &kubeObject{raw: text}
	if err := json.Unmarshal(text, o); err != nil || o.Kind != kind || o.Metadata.ResourceVersion == "" {
		return nil, fmt.Errorf("%w: the answer is no %s of a Kubernetes API", ErrUnreachable, kind)
	}
	return o, nil
}

// A kubeRequest is one request. writes says that it changes something, so that it matters whether
// one without an answer was carried out.
type kubeRequest struct {
	method, path string
	body         []byte
	writes       bool
}

// A kubeAnswer is one answer of the API.
type kubeAnswer struct {
	code  int
	wait  time.Duration // by Retry-After
	body  []byte
	token string // that was sent, to take it out of what is printed
}

// call sends a request, and again where the server asks for patience: 429 means that nothing
// was done.
func (k *kubeAPI) call(ctx context.Context, r kubeRequest) ([]byte, error) {
	waited := time.Duration(0)
	for try := 1; ; try++ {
		a, err := k.once(ctx, r)
		if err != nil {
			return nil, err
		}
		if a.code == http.StatusTooManyRequests && try < rateTries && waited+a.wait <= patience {
			waited += a.wait
			if err := k.pause(ctx, a.wait); err != nil {
				return nil, err
			}
			continue
		}
		if a.code/100 == 2 {
			return a.body, nil
		}
		return nil, a.refusal(r.method)
	}
}

func (k *kubeAPI) once(ctx context.Context, r kubeRequest) (kubeAnswer, error) {
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req, err := http.NewRequestWithContext(traced, r.method, strings.TrimSuffix(k.server.Address, "/")+r.path, bytes.NewReader(r.body))
	if err != nil {
		return kubeAnswer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", fieldOwner)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json-patch+json")
	}
	token := ""
	if k.server.TokenFile != "" {
		// Read for every request: kubelet renews the token of a pod before it ends.
		text, err := os.ReadFile(k.server.TokenFile)
		if err != nil {
			return kubeAnswer{}, fmt.Errorf("%w: the token: %w", ErrForbidden, err)
		}
		token = strings.TrimSpace(string(text))
		req.Header.Set("Authorization", "Bearer "+token)
	}
	lost := func(err error) (kubeAnswer, error) {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the address, which is told already
		}
		switch {
		case sent.Load() && r.writes:
			return kubeAnswer{}, fmt.Errorf("%w: %w: %w", ErrUnreachable, errUnknown, err)
		case ctx.Err() != nil:
			return kubeAnswer{}, ctx.Err()
		}
		return kubeAnswer{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return lost(err)
	}
	defer resp.Body.Close()
	a := kubeAnswer{code: resp.StatusCode, token: token}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxObject+1)); err != nil {
		return lost(err)
	}
	if len(a.body) > maxObject {
		return lost(fmt.Errorf("an answer of more than %d bytes", maxObject))
	}
	if resp.StatusCode >= 500 {
		// The server may have got as far as etcd.
		return lost(errors.New(a.words()))
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		seconds = 1
	}
	a.wait = time.Duration(seconds) * time.Second
	return a, nil
}

// A kubeStatus is the body of a refusal.
type kubeStatus struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Details struct {
		Name string `json:"name"`
	} `json:"details"`
}

// maxWords bounds what is quoted of a server.
const maxWords = 400

// words are the server's own, in one line.
func (a kubeAnswer) words() string {
	var s kubeStatus
	if err := json.Unmarshal(a.body, &s); err != nil || s.Message == "" {
		return fmt.Sprintf("HTTP status %d", a.code)
	}
	words := strings.Join(strings.Fields(s.Message), " ")
	if a.token != "" {
		words = strings.ReplaceAll(words, a.token, "***")
	}
	if len(words) > maxWords {
		words = strings.ToValidUTF8(words[:maxWords], "") + "…"
	}
	return words
}

// refusal is what the answer to a request with that method means.
func (a kubeAnswer) refusal(method string) error {
	var s kubeStatus
	_ = json.Unmarshal(a.body, &s) // words says what there is without it
	switch a.code {
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: the server does not take the token: %s; renew the file that server.token_file names", ErrForbidden, a.words())
	case http.StatusForbidden:
		if strings.Contains(s.Message, "cannot "+strings.ToLower(method)) {
			return fmt.Errorf("%w: %w: %s", ErrForbidden, errNeedsRole, a.words())
		}
		return fmt.Errorf("%w: %s", ErrForbidden, a.words())
	case http.StatusNotFound:
		if s.Details.Name == "" {
			return fmt.Errorf("%w: the server does not know this kind of object (%s); is its CustomResourceDefinition installed, in version v1beta1?", ErrNotFound, a.words())
		}
		return fmt.Errorf("%w: %s", ErrNotFound, a.words())
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", ErrConflict, a.words())
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: the server refuses the change: %s", ErrInvalid, a.words())
	case http.StatusTooManyRequests:
		return fmt.Errorf("%w: the server wants to be asked again in %s; nothing was written", ErrRateLimited, a.wait)
	}
	if a.code/100 == 3 {
		return fmt.Errorf("%w: the server sends elsewhere (HTTP status %d); write the address of the API itself", ErrUnreachable, a.code)
	}
	return fmt.Errorf("%w: %s", ErrUnreachable, a.words())
}

// errNeedsRole goes with ErrForbidden where authorization by role refused.
var errNeedsRole = errors.New("no role allows it")
