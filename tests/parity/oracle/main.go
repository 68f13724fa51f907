// Command oracle answers parity cases as Istio does: it runs Istio's own discovery server in this process, asks it
// over ADS for each proxy of each case, and writes what it answers in the form that parity.py reads.
//
//	oracle OUT_DIR CASE_DIR...
//
// NDS=1 asks for name tables, too. A case that fails is told with its reason, and the others go on.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/schema/gatewayapi"
	_ "istio.io/istio/pkg/config/xds"
	"istio.io/istio/pkg/log"
)

// failer stands in for testing.T, which the discovery server for tests wants.
type failer struct {
	mu       sync.Mutex
	cleanups []func()
}

type failure struct{ msg string }

func (f *failer) Fail()                     { panic(failure{"fail"}) }
func (f *failer) FailNow()                  { panic(failure{"failnow"}) }
func (f *failer) Fatal(a ...any)            { panic(failure{fmt.Sprint(a...)}) }
func (f *failer) Fatalf(s string, a ...any) { panic(failure{fmt.Sprintf(s, a...)}) }
func (f *failer) Log(a ...any)              {}
func (f *failer) Logf(s string, a ...any)   {}
func (f *failer) TempDir() string           { d, _ := os.MkdirTemp("", "oracle"); return d }
func (f *failer) Helper()                   {}
func (f *failer) Cleanup(c func())          { f.mu.Lock(); f.cleanups = append(f.cleanups, c); f.mu.Unlock() }
func (f *failer) Skip(a ...any)             {}
func (f *failer) done() {
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
}

const (
	cds  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	eds  = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	lds  = "type.googleapis.com/envoy.config.listener.v3.Listener"
	rds  = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ecds = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	nds  = "type.googleapis.com/istio.networking.nds.v1.NameTable"
)

// splitInput parts Istio's own objects from those of Kubernetes, Gateway API among these.
func splitInput(text string) (kube, istio string) {
	var k, i []string
	for _, doc := range strings.Split("\n"+text, "\n---") {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			panic(failure{err.Error()})
		}
		if head.Kind == "" {
			continue
		}
		group := strings.Split(head.APIVersion, "/")[0]
		if strings.HasSuffix(group, ".istio.io") {
			i = append(i, doc)
		} else {
			k = append(k, doc)
		}
	}
	return strings.Join(k, "\n---\n"), strings.Join(i, "\n---\n")
}

// runCase asks for all proxies of a case. Objects without a time are as old as their place in the file says.
func runCase(dir, outDir string) (err error) {
	f := &failer{}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		f.done()
	}()
	input, err := os.ReadFile(filepath.Join(dir, "input.yaml"))
	if err != nil {
		return err
	}
	m := mesh.DefaultMeshConfig()
	if b, e := os.ReadFile(filepath.Join(dir, "mesh.yaml")); e == nil {
		m, err = mesh.ApplyMeshConfig(string(b), m)
		if err != nil {
			return err
		}
	}
	kube, istio := splitInput(string(input))
	configs, others, err := crd.ParseInputs(istio)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return fmt.Errorf("unread: %v", others)
	}
	for i := range configs {
		if configs[i].Namespace == "" {
			configs[i].Namespace = "default"
		}
		if configs[i].CreationTimestamp.IsZero() {
			configs[i].CreationTimestamp = time.Unix(1700000000+int64(i), 0)
		}
		configs[i].Domain = "cluster.local"
	}
	s := xds.NewFakeDiscoveryServer(f, xds.FakeOptions{KubernetesObjectString: kube, Configs: configs, MeshConfig: m, DisableSecretAuthorization: true})
	time.Sleep(200 * time.Millisecond)
	s.EnsureSynced(f)
	pb, err := os.ReadFile(filepath.Join(dir, "proxies.yaml"))
	if err != nil {
		return err
	}
	var proxies []struct {
		Name string
		Node json.RawMessage
	}
	if err := yaml.Unmarshal(pb, &proxies); err != nil {
		return err
	}
	conn, err := grpc.Dial("buffcon", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithBlock(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return s.BufListener.Dial() }))
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, p := range proxies {
		node := &corev3.Node{}
		if err := protojson.Unmarshal(p.Node, node); err != nil {
			return err
		}
		if err := ask(conn, node, filepath.Join(outDir, p.Name+".json")); err != nil {
			return fmt.Errorf("%s: %v", p.Name, err)
		}
	}
	return nil
}

// ask asks for a proxy's resources of all types, in the order in which Envoy does.
func ask(conn *grpc.ClientConn, node *corev3.Node, out string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return err
	}
	get := func(t string, names []string) ([]*anypb.Any, error) {
		if err := stream.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: t, ResourceNames: names}); err != nil {
			return nil, err
		}
		for {
			r, err := stream.Recv()
			if err != nil {
				return nil, err
			}
			_ = stream.Send(&discovery.DiscoveryRequest{TypeUrl: r.TypeUrl, ResourceNames: names, ResponseNonce: r.Nonce, VersionInfo: r.VersionInfo})
			if r.TypeUrl == t {
				return r.Resources, nil
			}
		}
	}
	result := map[string][]json.RawMessage{}
	put := func(key string, all []*anypb.Any) {
		result[key] = []json.RawMessage{}
		for _, a := range all {
			msg, err := a.UnmarshalNew()
			if err != nil {
				panic(err)
			}
			b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(msg)
			if err != nil {
				panic(err)
			}
			result[key] = append(result[key], b)
		}
	}
	clusters, err := get(cds, nil)
	if err != nil {
		return err
	}
	put("clusters", clusters)
	var names []string
	for _, a := range clusters {
		c := &cluster.Cluster{}
		_ = a.UnmarshalTo(c)
		if c.GetType() == cluster.Cluster_EDS {
			n := c.GetEdsClusterConfig().GetServiceName()
			if n == "" {
				n = c.Name
			}
			names = append(names, n)
		}
	}
	put("endpoints", nil)
	if len(names) > 0 {
		r, err := get(eds, names)
		if err != nil {
			return err
		}
		put("endpoints", r)
	}
	listeners, err := get(lds, nil)
	if err != nil {
		return err
	}
	put("listeners", listeners)
	routes, exts := map[string]bool{}, map[string]bool{}
	for _, a := range listeners {
		l := &listener.Listener{}
		_ = a.UnmarshalTo(l)
		chains := l.FilterChains
		if l.DefaultFilterChain != nil {
			chains = append(chains, l.DefaultFilterChain)
		}
		for _, c := range chains {
			for _, fl := range c.Filters {
				if fl.GetConfigDiscovery() != nil {
					exts[fl.Name] = true
				}
				h := &hcm.HttpConnectionManager{}
				if fl.GetTypedConfig().MessageIs(h) {
					_ = fl.GetTypedConfig().UnmarshalTo(h)
					if r := h.GetRds(); r != nil {
						routes[r.RouteConfigName] = true
					}
					for _, hf := range h.HttpFilters {
						if hf.GetConfigDiscovery() != nil {
							exts[hf.Name] = true
						}
					}
				}
			}
		}
	}
	keys := func(m map[string]bool) (l []string) {
		for k := range m {
			l = append(l, k)
		}
		return
	}
	put("routes", nil)
	if len(routes) > 0 {
		r, err := get(rds, keys(routes))
		if err != nil {
			return err
		}
		put("routes", r)
	}
	put("extensions", nil)
	if len(exts) > 0 {
		r, err := get(ecds, keys(exts))
		if err != nil {
			return err
		}
		put("extensions", r)
	}
	put("names", nil)
	if md := node.GetMetadata().GetFields()["DNS_CAPTURE"]; md != nil || os.Getenv("NDS") != "" {
		r, err := get(nds, nil)
		if err != nil {
			return err
		}
		put("names", r)
	}
	b, _ := json.MarshalIndent(result, "", " ")
	_ = os.MkdirAll(filepath.Dir(out), 0o755)
	return os.WriteFile(out, b, 0o644)
}

func main() {
	// The stand-in for an API server says of its CRDs that they are of an old bundle, for which Istio would not read them.
	clear(gatewayapi.MinimumCRDVersions)
	for _, s := range log.Scopes() {
		s.SetOutputLevel(log.NoneLevel)
	}
	out := os.Args[1]
	for _, dir := range os.Args[2:] {
		if err := runCase(dir, filepath.Join(out, filepath.Base(dir))); err != nil {
			fmt.Println(filepath.Base(dir), "ERROR", err)
		}
	}
}
