package flags

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
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

// A server with priority and fairness asks for a second of patience. Whatever wants more than
// patience in all is told to the caller.
const (
	patience  = 3 * time.Second
	rateTries = 4
)

// fieldOwner is whom the API calls the writer of what driftwatch wrote.
const fieldOwner = "driftwatch"

// A kubeAPI reads and patches objects.
type kubeAPI struct {
	api
	pause func(ctx context.Context, d time.Duration) error
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
	client := &http.Client{Transport: &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
		IdleConnTimeout:   apiDeadline,
	}}
	bearer := func(r *http.Request, _ []byte, token string) { r.Header.Set("Authorization", "Bearer "+token) }
	return &kubeAPI{newAPI(s.Address, Secret{File: s.TokenFile}, client, bearer), pause}, nil
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

// send sends a request, and again where the server asks for patience: 429 means that nothing was
// done. errNoAnswer goes with what may have been carried out.
func (k *kubeAPI) send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	q := request{method: method, path: path, body: body, header: http.Header{"Accept": {"application/json"}}}
	if body != nil {
		q.header.Set("Content-Type", "application/json-patch+json")
	}
	waited := time.Duration(0)
	for try := 1; ; try++ {
		a, err := k.call(ctx, q)
		switch {
		case err != nil:
			return nil, err
		case a.status/100 == 5:
			// The server may have got as far as etcd.
			return nil, fmt.Errorf("%w: %w but %s", ErrUnreachable, errNoAnswer, a.said())
		case a.status/100 == 2:
			return a.body, nil
		case a.status == http.StatusTooManyRequests && try < rateTries:
			seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || seconds < 0 {
				seconds = 1
			}
			wait := time.Duration(seconds) * time.Second
			if waited += wait; waited > patience {
				return nil, a.refusal()
			}
			if err := k.pause(ctx, wait); err != nil {
				return nil, err
			}
		default:
			return nil, kubeRefusal(method, a)
		}
	}
}

// kubeRefusal is what a refusal means to the API.
func kubeRefusal(method string, a answer) error {
	var s struct {
		Message string `json:"message"`
		Details struct {
			Name string `json:"name"`
		} `json:"details"`
	}
	_ = json.Unmarshal(a.body, &s) // said tells what there is without it
	switch {
	case a.status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the token is not accepted: %s; renew the file that server.token_file names", ErrForbidden, a.said())
	case a.status == http.StatusForbidden && strings.Contains(s.Message, "cannot "+strings.ToLower(method)):
		return fmt.Errorf("%w: %w: %s", ErrForbidden, errNeedsRole, a.said())
	case a.status == http.StatusForbidden: // a policy or webhook: the token is not at fault
		return fmt.Errorf("%w: %s", ErrForbidden, a.said())
	case a.status == http.StatusNotFound && s.Details.Name == "":
		return fmt.Errorf("%w: the server does not know this kind of object (%s); is its CustomResourceDefinition installed, in version v1beta1?", ErrNotFound, a.said())
	}
	return a.refusal()
}

// errNeedsRole goes with ErrForbidden where authorization by role refused.
var errNeedsRole = errors.New("no role allows it")
