package live

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/diag/audit"
)

// standIn answers as the instance metadata service and the resource manager do.
// Its documents are the REST samples of package audit.
type standIn struct {
	t        *testing.T
	metadata string            // the metadata service's answer; empty is 404
	refuse   string            // a part of a path that is answered with 403
	docs     map[string]string // path → file of testdata/hub-rest; "[x]" is a list with x in it

	mu    sync.Mutex
	asked []string
	polls map[string]int
}

const (
	subscription = "/subscriptions/00000000-0000-0000-0000-000000000000"
	network      = subscription + "/resourceGroups/hub-rg/providers/Microsoft.Network"
	peer         = network + "/virtualHubs/hub-ars/bgpConnections/hub-nva"
)

func newStandIn(t *testing.T) *standIn {
	metadata, err := os.ReadFile("testdata/instance.json")
	if err != nil {
		t.Fatal(err)
	}
	return &standIn{t: t, metadata: string(metadata), polls: map[string]int{}, docs: map[string]string{
		network + "/networkInterfaces":                                 "[nic.json]",
		network + "/networkInterfaces/hub-nva-nic/effectiveRouteTable": "effective.json",
		network + "/virtualNetworks/hub-vnet":                          "vnet.json",
		network + "/virtualNetworks/hub-vnet/subnets/nva":              "",
		network + "/networkSecurityGroups/nva-nsg":                     "nsg.json",
		network + "/virtualHubs":                                       "[routeserver.json]",
		network + "/virtualHubs/hub-ars/bgpConnections":                "bgp-peerings.json",
		peer + "/learnedRoutes":                                        "learned.json",
		peer + "/advertisedRoutes":                                     "advertised.json",
	}}
}

// client reaches the stand-in where Azure would be: the metadata service by
// plain HTTP at its own address, the resource manager by TLS.
func (s *standIn) client() *http.Client {
	plain := httptest.NewServer(http.HandlerFunc(s.metadataService))
	secure := httptest.NewTLSServer(http.HandlerFunc(s.resourceManager))
	s.t.Cleanup(plain.Close)
	s.t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			to, ok := map[string]string{
				"169.254.169.254:80":       plain.Listener.Addr().String(),
				"management.azure.com:443": secure.Listener.Addr().String(),
			}[address]
			if !ok {
				return nil, fmt.Errorf("the stand-in is not %s", address)
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *standIn) metadataService(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "" {
		http.Error(w, `{"error":"Bad request. Required metadata header not specified"}`, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/metadata/instance":
		if s.metadata == "" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, s.metadata)
	case "/metadata/identity/oauth2/token":
		if !strings.HasPrefix(r.URL.Query().Get("resource"), "https://management.") {
			s.t.Errorf("a token is asked for %q", r.URL.Query().Get("resource"))
		}
		fmt.Fprint(w, `{"access_token":"token-of-the-machine","client_id":"00000000-0000-0000-0000-00000000000c","expires_in":"86400","expires_on":"4102444800",`+
			`"ext_expires_in":"86399","not_before":"1700000000","resource":"https://management.azure.com/","token_type":"Bearer"}`)
	default:
		http.NotFound(w, r)
	}
}

func (s *standIn) resourceManager(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer token-of-the-machine" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if s.refuse != "" && strings.Contains(r.URL.Path, s.refuse) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":{"code":"AuthorizationFailed","message":"The client does not have authorization to perform the action."}}`)
		return
	}
	// A POST is a long-running operation: 202 with a Location, which answers 202 once more and then the result.
	path := r.URL.Path
	if r.Method == http.MethodPost {
		s.accept(w, r, "https://management.azure.com/operationResults"+path+"?api-version=2025-03-01")
		return
	}
	if p, ok := strings.CutPrefix(path, "/operationResults"); ok {
		path = p
		if s.polls[path]++; s.polls[path] == 1 {
			s.accept(w, r, "https://management.azure.com"+r.URL.String())
			return
		}
	}
	file, ok := s.docs[path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"code":"ResourceNotFound","message":"The Resource was not found."}}`)
		return
	}
	fmt.Fprint(w, s.document(file))
}

func (s *standIn) accept(w http.ResponseWriter, _ *http.Request, location string) {
	w.Header().Set("Location", location)
	w.Header().Set("Retry-After-Ms", "1")
	w.WriteHeader(http.StatusAccepted)
}

func (s *standIn) document(file string) string {
	name, list := strings.CutPrefix(file, "[")
	name = strings.TrimSuffix(name, "]")
	text := "{}"
	if name != "" {
		b, err := os.ReadFile(filepath.Join("../testdata/hub-rest", name))
		if err != nil {
			s.t.Error(err)
		}
		text = string(b)
	}
	if list {
		text = `{"value":[` + text + `]}`
	}
	return text
}

func query() Query {
	return Query{
		Own:          []netip.Addr{netip.MustParseAddr("10.0.2.4")},
		RouteServers: []netip.Addr{netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("10.0.1.5")},
	}
}

// TestFetch: everything is found from the metadata service on, over long-running
// operations, and what comes out is a hub where nothing is wrong.
func TestFetch(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	docs, notes, err := Fetch(t.Context(), s.client(), query())
	if err != nil {
		t.Fatal(err)
	}
	if len(notes) > 0 {
		t.Errorf("notes: %q", notes)
	}
	var az audit.Azure
	kinds := map[string]int{}
	for _, d := range docs {
		if err := az.Read(d.Source, d.JSON); err != nil {
			t.Errorf("%s: %v", d.Source, err)
		}
	}
	for _, i := range az.Inputs {
		kinds[i.Kind] += i.Items
	}
	for kind, n := range map[string]int{
		audit.KindCard: 1, audit.KindEffective: 12, audit.KindVNet: 1, audit.KindPeering: 2, audit.KindSecurityGroup: 7,
		audit.KindRouteServer: 1, audit.KindBGPPeering: 1, audit.KindLearned: 4, audit.KindAdvertised: 6,
	} {
		if kinds[kind] != n {
			t.Errorf("%s: %d, want %d", kind, kinds[kind], n)
		}
	}
	if s.polls[peer+"/learnedRoutes"] != 2 {
		t.Errorf("the operation was polled %d times, want 2", s.polls[peer+"/learnedRoutes"])
	}
	c, err := config.Load("../../../../docs/examples/hub-nva.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if r := audit.Run(audit.FromConfig(c), az); !r.OK || len(r.Notes) > 0 || len(r.Unchecked) > 0 {
		t.Errorf("findings %+v, not checked %+v, notes %q", r.Findings, r.Unchecked, r.Notes)
	}
}

// TestFetchPartly: what one call refuses is told, and the rest is there.
func TestFetchPartly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, refuse, note, without string
	}{
		{"effective routes", "effectiveRouteTable", "effective routes of hub-nva-nic: not allowed (AuthorizationFailed)", audit.KindEffective},
		{"learned routes", "learnedRoutes", "learned routes of hub-nva: not allowed", audit.KindLearned},
		{"VNet", "virtualNetworks/hub-vnet", "VNet hub-vnet: not allowed", audit.KindVNet},
		{"Route Servers", "virtualHubs", "Route Servers of the subscription: not allowed", audit.KindRouteServer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t)
			s.refuse = tc.refuse
			docs, notes, err := Fetch(t.Context(), s.client(), query())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, tc.note) }) {
				t.Errorf("no note %q in %q", tc.note, notes)
			}
			var az audit.Azure
			for _, d := range docs {
				if err := az.Read(d.Source, d.JSON); err != nil {
					t.Error(err)
				}
			}
			if len(docs) < 3 || slices.ContainsFunc(az.Inputs, func(i audit.Input) bool { return i.Kind == tc.without }) {
				t.Errorf("inputs: %+v", az.Inputs)
			}
		})
	}
}

// TestFetchFails: without a machine, an identity or a card there is nothing to ask.
func TestFetchFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, want string
		breakIt    func(*standIn, *Query)
	}{
		{"no metadata service", "answered 404", func(s *standIn, _ *Query) { s.metadata = "" }},
		{"garbage", "decode the instance metadata service's answer", func(s *standIn, _ *Query) { s.metadata = "<html>" }},
		{"no subscription", "names no subscription", func(s *standIn, _ *Query) { s.metadata = "{}" }},
		{"nothing allowed", "list the network cards of hub-nva: not allowed", func(s *standIn, _ *Query) { s.refuse = "networkInterfaces" }},
		{"another card", "found no network card", func(_ *standIn, q *Query) { q.Own = []netip.Addr{netip.MustParseAddr("10.9.9.9")} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, q := newStandIn(t), query()
			s.docs[subscription+"/providers/Microsoft.Network/networkInterfaces"] = "[nic.json]"
			tc.breakIt(s, &q)
			_, _, err := Fetch(t.Context(), s.client(), q)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestOwnFromMetadata: without a known address the metadata service's is taken.
func TestOwnFromMetadata(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	docs, _, err := Fetch(t.Context(), s.client(), Query{})
	if err != nil || len(docs) == 0 {
		t.Errorf("%d documents, %v", len(docs), err)
	}
	var m machine
	if err := json.Unmarshal([]byte(s.metadata), &m); err != nil {
		t.Fatal(err)
	}
	if got := m.addresses(); len(got) != 1 || got[0] != netip.MustParseAddr("10.0.2.4") {
		t.Errorf("addresses %v", got)
	}
}

// TestNoProxyForMetadata: the metadata service refuses what a proxy forwarded.
func TestNoProxyForMetadata(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:3128")
	transport, ok := NewClient().Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://169.254.169.254/metadata/instance", http.NoBody)
	if proxy, err := transport.Proxy(req); proxy != nil || err != nil {
		t.Errorf("by way of %v, %v", proxy, err)
	}
}
