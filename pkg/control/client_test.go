package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClientRoundTrip(t *testing.T) {
	t.Parallel()
	f := newFake()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, NewServer(f, nil), l)()
	c, ctx := NewClient(socket), t.Context()
	if got, err := c.Tunnels(ctx); err != nil || len(got.Tunnels) != 1 || got.SchemaVersion != 1 {
		t.Errorf("Tunnels: %+v, %v", got, err)
	}
	if got, err := c.Sessions(ctx); err != nil || got.ASN != 64512 {
		t.Errorf("Sessions: %+v, %v", got, err)
	}
	if got, err := c.BGPRoutes(ctx, BGPRoutesQuery{Direction: DirectionAnnounced, Peer: "a b&c"}); err != nil || got.Routes[0].Neighbor != "a b&c" {
		t.Errorf("BGPRoutes: %+v, %v", got, err)
	}
	if _, err := c.Routes(ctx); err != nil {
		t.Errorf("Routes: %v", err)
	}
	if got, err := c.Explain(ctx, "2001:db8::/32", ""); err != nil || got.Target != "2001:db8::/32" {
		t.Errorf("Explain: %+v, %v", got, err)
	}
	if _, err := c.Reload(ctx, ReloadRequest{DryRun: true}); err != nil || !(<-f.reloads).DryRun {
		t.Errorf("Reload: %v", err)
	}
	if pid, err := c.PID(ctx); err != nil || pid != os.Getpid() {
		t.Errorf("PID: %d, %v; this is %d", pid, err, os.Getpid())
	}
	_, err = c.Explain(ctx, "nonsense", "")
	if refused, ok := errors.AsType[*Error](err); !ok || refused.Code != CodeBadRequest {
		t.Errorf("a refusal arrives as %v", err)
	}
}

func TestClientConfigErrorArrives(t *testing.T) {
	t.Parallel()
	want := &Error{Code: CodeConfig, Message: "not valid", Config: []ConfigError{{File: "hub.yaml", Line: 3, Column: 7, Path: "node.asn", Message: "65515 is reserved", Hint: "take 64512"}}}
	f := newFake()
	f.err = want
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, NewServer(f, nil), l)()
	_, err = NewClient(socket).Reload(t.Context(), ReloadRequest{})
	got, _ := errors.AsType[*Error](err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the daemon's error (-want +got):\n%s", diff)
	}
}

func TestClientNobodyThere(t *testing.T) {
	t.Parallel()
	_, err := NewClient(filepath.Join(t.TempDir(), "none.sock")).Status(t.Context())
	if _, ok := errors.AsType[*UnreachableError](err); !ok {
		t.Errorf("got %v, want an UnreachableError", err)
	}
}
