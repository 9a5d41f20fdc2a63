// Package kubernetes tests the Kubernetes sources against the real code of a Kubernetes API
// server: that of custom resources (k8s.io/apiextensions-apiserver), on a real etcd. It is a
// module of its own, so that none of it reaches the product's.
//
// That server has no roles, no admission webhooks and no ConfigMaps. What it cannot do is tested
// with recorded answers in internal/flags; ConfigMaps are custom resources here with the same
// fields, served under the paths of ConfigMaps by a proxy, so that conflicts, dry runs and
// patches are real.
package kubernetes

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apiextensions-apiserver/test/integration/fixtures"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/driftwatch/driftwatch/internal/flags"
)

// startWithin bounds the start of etcd and of the server, which take a second each.
const startWithin = 2 * time.Minute

// api is the server that every test uses; each test has objects of its own.
var api struct {
	config *rest.Config
	server flags.KubernetesServer // as the product reaches it
	client dynamic.Interface
}

func TestMain(m *testing.M) {
	code, err := withServer(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// logger takes what the fixtures log; a failure of theirs comes back as an error, too.
type logger struct{}

func (logger) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (logger) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (logger) Logf(string, ...any)               {}

func withServer(run func() int) (code int, err error) {
	dir, err := os.MkdirTemp("", "driftwatch-kubernetes-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop, address, err := startEtcd(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer stop()
	os.Setenv("KUBE_INTEGRATION_ETCD_URL", address)
	down, config, options, err := fixtures.StartDefaultServer(logger{})
	if err != nil {
		return 0, fmt.Errorf("start the API server: %w", err)
	}
	defer down()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(config.BearerToken+"\n"), 0o600); err != nil {
		return 0, err
	}
	api.config = config
	secure := options.RecommendedOptions.SecureServing
	api.server = flags.KubernetesServer{
		Address: "https://" + secure.Listener.Addr().String(), TokenFile: token, CAFile: secure.ServerCert.CertKey.CertFile,
	}
	if api.client, err = dynamic.NewForConfig(config); err != nil {
		return 0, err
	}
	extensions, err := clientset.NewForConfig(config)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{"featureflags.yaml", "textmaps.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			return 0, err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &definition); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		if _, err := fixtures.CreateNewV1CustomResourceDefinition(&definition, extensions, api.client); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	return run(), nil
}

// startEtcd starts a database that lives as long as the tests.
func startEtcd(ctx context.Context, dir string) (stop func(), address string, err error) {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return nil, "", errors.New("there is no etcd; install it: apt-get install etcd-server")
	}
	var ports [2]string
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", err
		}
		ports[i] = "http://" + l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, "", err
		}
	}
	address = ports[0]
	log, err := os.Create(filepath.Join(dir, "etcd.log"))
	if err != nil {
		return nil, "", err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, path, "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", address, "--advertise-client-urls", address,
		"--listen-peer-urls", ports[1], "--initial-advertise-peer-urls", ports[1], "--initial-cluster", "default="+ports[1])
	cmd.Stdout, cmd.Stderr = log, log
	return startAndWait(ctx, cmd, address, log.Name())
}

// startAndWait starts etcd and waits until it is healthy.
func startAndWait(ctx context.Context, cmd *exec.Cmd, address, log string) (func(), string, error) {
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = cmd.Wait()
	}()
	stop := func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	late := time.After(startWithin)
	for {
		if healthy(ctx, address) {
			return stop, address, nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(log)
			return nil, "", fmt.Errorf("etcd ended: %w\n%s", err, text)
		case <-late:
			stop()
			return nil, "", fmt.Errorf("etcd is not healthy after %s", startWithin)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func healthy(ctx context.Context, address string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/health", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// The kinds of the tests.
var (
	flagResource = schema.GroupVersionResource{Group: "core.openfeature.dev", Version: "v1beta1", Resource: "featureflags"}
	textResource = schema.GroupVersionResource{Group: "test.driftwatch.dev", Version: "v1", Resource: "textmaps"}
)

// objects is what an administrator does.
func objects(r schema.GroupVersionResource) dynamic.ResourceInterface {
	return api.client.Resource(r).Namespace("shop")
}

// create stores an object and returns it as it was stored.
func create(t *testing.T, r schema.GroupVersionResource, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	created, err := objects(r).Create(t.Context(), o, metav1.CreateOptions{FieldManager: "kubectl-create", FieldValidation: "Strict"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := objects(r).Delete(context.Background(), o.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return created
}

func read(t *testing.T, r schema.GroupVersionResource, name string) *unstructured.Unstructured {
	t.Helper()
	o, err := objects(r).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// edit changes an object as somebody else does.
func edit(t *testing.T, r schema.GroupVersionResource, name string, change func(o map[string]any)) {
	t.Helper()
	o := read(t, r, name)
	change(o.Object)
	if _, err := objects(r).Update(t.Context(), o, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
}

// withoutCounters is an object but for what the server counts of every write, and who made it.
func withoutCounters(o *unstructured.Unstructured) map[string]any {
	c := o.DeepCopy()
	c.SetManagedFields(nil)
	c.SetResourceVersion("")
	c.SetGeneration(0)
	return c.Object
}

// A proxy stands before the API as a load balancer does. Where answer returns true, it answers in
// the API's place. The paths of ConfigMaps lead to their stand-ins.
type proxy struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	transport, err := rest.TransportFor(api.config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(api.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	const core, instead = "/api/v1/namespaces/shop/configmaps/", "/apis/test.driftwatch.dev/v1/namespaces/shop/textmaps/"
	p := &proxy{}
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization") // the transport's own is sent
			r.Out.Header.Del("Accept-Encoding")
			if name, ok := strings.CutPrefix(r.Out.URL.Path, core); ok {
				r.Out.URL.Path = instead + name
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			resp.Body.Close()
			body = bytes.Replace(body, []byte(`"kind":"TextMap"`), []byte(`"kind":"ConfigMap"`), 1)
			body = bytes.Replace(body, []byte(`"apiVersion":"test.driftwatch.dev/v1"`), []byte(`"apiVersion":"v1"`), 1)
			resp.Body = io.NopCloser(bytes.NewReader(body))
			resp.ContentLength = int64(len(body))
			resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
			return nil
		},
	}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.answer == nil || !p.answer(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// server is how the product reaches the API through the proxy.
func (p *proxy) server(t *testing.T) flags.KubernetesServer {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return flags.KubernetesServer{Address: p.URL, CAFile: ca}
}

// writes reports whether a request changes something, rather than asking what it would change.
func writes(r *http.Request) bool {
	return r.Method == http.MethodPatch && !r.URL.Query().Has("dryRun")
}
