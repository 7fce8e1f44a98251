package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// TestReadFacts reads a card with everything that is not to be read: addresses
// that are not global, default routes of other cards and tables, and worse ones.
func TestReadFacts(t *testing.T) {
	if !inside(t) {
		return
	}
	want := Facts{Interface: "eth0", MTU: 1500, Gateway: addr("192.0.2.1"), Addrs: prefixes("192.0.2.4/26")}
	check := func(what string) {
		t.Helper()
		got, err := ReadFacts("eth0")
		if d := diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", what, err, d)
		}
	}
	check("as it was made")
	ip(t, "route replace default via 192.0.2.1 dev eth0 metric 200") // beside the one with metric 0
	ip(t, "route add default via 192.0.2.9 dev eth0 table 77")
	ip(t, "route add 0.0.0.0/1 via 192.0.2.10 dev eth0")
	ip(t, "link set eth0 mtu 1400")
	ip(t, "addr add 192.0.2.5/26 dev eth0")
	ip(t, "addr add 169.254.9.9/16 dev eth0 scope link")
	ip(t, "-6 addr add 2001:db8::4/64 dev eth0 nodad")
	ip(t, "-6 route add default via 2001:db8::1 dev eth0 metric 100")
	ip(t, "addr add 198.51.100.9/24 dev far0")
	want.MTU = 1400
	want.Addrs, want.Gateway6 = prefixes("192.0.2.4/26", "192.0.2.5/26", "2001:db8::4/64"), addr("2001:db8::1")
	check("with all that is not to be read")

	ip(t, "route del default via 192.0.2.1 dev eth0 metric 0")
	ip(t, "route add default via 192.0.2.3 dev eth0 metric 100")
	ip(t, "route add default via 198.51.100.1 dev far0") // better, but another card's
	want.Gateway = addr("192.0.2.3")
	check("the smaller metric")

	if _, err := ReadFacts("eth9"); err == nil || !strings.Contains(err.Error(), `"eth9"`) {
		t.Errorf("a card that is not there: %v", err)
	}
	if i, err := deviceIndex("eth9"); i != 0 || err != nil {
		t.Errorf("index of a device that is not there: %d, %v", i, err)
	}
	if i, err := deviceIndex("eth0"); i == 0 || err != nil {
		t.Errorf("index of eth0: %d, %v", i, err)
	}
}

// TestCheckOnTheMachine is "transitd -check" where the card is.
func TestCheckOnTheMachine(t *testing.T) {
	if !inside(t) {
		return
	}
	file := t.TempDir() + "/" + fileName
	for _, c := range []struct{ text, want string }{
		{nodeYAML, ""},
		{edit(t, nodeYAML, "{vni: 7700}", "{vni: 7700}\n    mtu: 1490"), "tunnels[0].mtu: 1490 and 50 bytes"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		notes, err := Check(file)
		if notes != nil || err == nil != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("notes %q, error %v, want %q", notes, err, c.want)
		}
	}
}

// TestDropPrivileges runs in the process inside, because what is given up does not come back.
func TestDropPrivileges(t *testing.T) {
	if !inside(t) {
		return
	}
	if err := dropPrivileges(); err != nil {
		t.Fatal(err)
	}
	have := cap.GetProc()
	for v := range cap.MaxBits() {
		want := v == cap.NET_ADMIN || v == cap.NET_RAW || v == cap.NET_BIND_SERVICE
		for _, flag := range []cap.Flag{cap.Effective, cap.Permitted} {
			if got, err := have.GetFlag(flag, v); err != nil || got != want {
				t.Errorf("%s has %s: %v, %v", flag, v, got, err)
			}
		}
		if got, err := have.GetFlag(cap.Inheritable, v); err != nil || got {
			t.Errorf("%s is inheritable: %v", v, err)
		}
		if got, err := cap.GetAmbient(v); err != nil || got {
			t.Errorf("%s is ambient: %v", v, err)
		}
		if got, err := cap.GetBound(v); err != nil || got != want {
			t.Errorf("the bounding set has %s: %v, %v", v, got, err)
		}
	}
	if got, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || got != 1 {
		t.Errorf("no_new_privs is %d, %v", got, err)
	}
	if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || got != 0 {
		t.Errorf("dumpable is %d, %v", got, err)
	}
	// What is kept has to be enough for a reload, and doing it twice is no error.
	ip(t, "link add tr0 type veth peer name far1")
	if err := dropPrivileges(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// TestEndpoints checks that tunnels of one address and port share sockets, and
// that these go with the last tunnel and after a start that failed.
func TestEndpoints(t *testing.T) {
	if !inside(t) {
		return
	}
	list := mustPlan(t, edit(t, withTR1(t), "2001:db8:1::4", "198.51.100.5", ", gpe: true", "")).Tunnels
	e := &endpoints{log: zap.NewNop()}
	at := addrPort("192.0.2.4:4789")
	ip(t, "link add tr1 type veth peer name far1")
	if _, err := e.start(list[1]); err == nil || len(e.open) != 0 {
		t.Errorf("a name that is taken: %v, open %v", err, e.open)
	}
	tr0, err := e.start(list[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.start(list[1]); err == nil || len(e.open) != 1 || e.open[at].users != 1 {
		t.Errorf("a name that is taken, beside a tunnel: %v, open %v", err, e.open)
	}
	ip(t, "link del tr1")
	tr1, err := e.start(list[1])
	if err != nil {
		t.Fatal(err)
	}
	if len(e.open) != 1 || e.open[at].users != 2 {
		t.Errorf("two tunnels: open %v", e.open)
	}
	if err := tr0.Close(); err != nil || len(e.open) != 1 {
		t.Errorf("one closed: %v, open %v", err, e.open)
	}
	if err := tr1.Close(); err != nil || len(e.open) != 0 {
		t.Errorf("both closed: %v, open %v", err, e.open)
	}
	// An address that the card has not got.
	elsewhere := list[0]
	elsewhere.Endpoint.Local = addrPort("192.0.2.77:4789")
	if _, err := e.start(elsewhere); !errors.Is(err, unix.EADDRNOTAVAIL) || !strings.Contains(err.Error(), "listen on 192.0.2.77:4789") || len(e.open) != 0 {
		t.Errorf("listen elsewhere: %v, open %v", err, e.open)
	}
	broken := list[0]
	broken.VXLAN.VNI = 0
	if _, err := e.start(broken); err == nil || !strings.Contains(err.Error(), "make the codec") || len(e.open) != 0 {
		t.Errorf("a codec that cannot be: %v, open %v", err, e.open)
	}
}
