package daemon

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A prefix with a probe is announced while the probe succeeds, and not before.
func TestOrigins(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer srv.Close()
	p := mustPlan(t, edit(t, nodeYAML, "    to: [tr0]\n", "    to: [tr0]\n    split: true\n    rfc1918: true\n    probe: {http: \""+srv.URL+"\", interval: 100ms, timeout: 100ms, failures: 2, successes: 2}\n  - prefix: 203.0.113.0/24\n    to: [tr0]\n"))
	if len(p.BGP.Originate) != 6 || len(p.Probes) != 1 || len(p.Probes[0].Origins) != 5 {
		t.Fatalf("%+v, %+v", p.BGP.Originate, p.Probes)
	}
	o := newOrigins(zap.NewNop())
	defer o.closeAll() //nolint:errcheck // returns nil
	if err := o.sync(p.Probes); err != nil {
		t.Fatal(err)
	}
	if got := o.effective(p).Originate; len(got) != 1 || got[0].Prefix != prefix("203.0.113.0/24") {
		t.Errorf("before the first answer: %+v", got)
	}
	wait := func(what string, want int) {
		t.Helper()
		select {
		case <-o.changed:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the probe does not notice", what)
		}
		if got := o.effective(p).Originate; len(got) != want {
			t.Errorf("%s: %+v", what, got)
		}
	}
	well.Store(true)
	wait("it answers", 6)
	if err := o.sync(p.Probes); err != nil || len(o.effective(p).Originate) != 6 {
		t.Errorf("a reload without a change begins anew: %v", err)
	}
	well.Store(false)
	wait("it fails", 1)
	if w := o.warnings(); len(w) != 1 || !strings.Contains(w[0], "502") {
		t.Errorf("warnings %q", w)
	}
}

func TestReadSecret(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("gr8 secret\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := readSecret(file); err != nil || s != "gr8 secret" {
		t.Errorf("%q, %v", s, err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(file); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Errorf("others may read it: %v", err)
	}
	y := edit(t, nodeYAML, "{asn: 64513}", "{asn: 64513, password_file: "+file+"}")
	if _, err := NewPlan(fileName, mustParse(t, y), cardFacts()); err == nil || !strings.Contains(err.Error(), "password_file") || strings.Contains(err.Error(), "gr8") {
		t.Errorf("the plan: %v", err)
	}
	if err := os.WriteFile(file, []byte("-----BEGIN PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewPlan(fileName, mustParse(t, y), cardFacts()); err == nil || !strings.Contains(err.Error(), "is in PEM") {
		t.Errorf("a private key as password: %v", err)
	}
}
