package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// kernelXfrm is charon in a guest, whose kernel does the ESP: on an XFRM
// interface, and with extended sequence numbers, which libipsec has not.
type kernelXfrm struct{ *guest }

func newKernelXfrm(t *testing.T, ns netns.NS) charonPeer {
	t.Helper()
	w := kernelXfrm{boot(t, ns, "ipsec", 512)}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := w.ask("tail -c 6000 /tmp/charon.log; ip -s xfrm state; ip xfrm policy", 20*time.Second)
			t.Logf("charon in the guest: %v\n%s", err, out)
		}
	})
	return w
}

func (w kernelXfrm) begin() {
	w.t.Helper()
	w.must("STRONGSWAN_CONF=/tmp/strongswan.conf /usr/lib/ipsec/charon >>/tmp/charon.log 2>&1 & echo $! >/tmp/charon.pid")
}

// kill leaves the XFRM interface: what charon gave the kernel would outlive it.
func (w kernelXfrm) kill() {
	w.t.Helper()
	w.must("kill -9 $(cat /tmp/charon.pid) && ip xfrm state flush && ip xfrm policy flush")
}

func (w kernelXfrm) plugins() string  { return "" }
func (w kernelXfrm) children() string { return "if_id_in = 42\n        if_id_out = 42" }

func (w kernelXfrm) after() string {
	return "[ -e /sys/class/net/xfrm0 ] || ip link add xfrm0 type xfrm dev eth0 if_id 42; ip link set xfrm0 mtu 1400 up && ip addr replace " +
		ipsecFarInner + "/32 dev xfrm0 && ip route replace " + ipsecNearInner + "/32 dev xfrm0 src " + ipsecFarInner
}

func (w kernelXfrm) version() string {
	out, err := w.sh("STRONGSWAN_CONF=/tmp/strongswan.conf /usr/lib/ipsec/charon --version")
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(out) + " on " + w.guest.version()
}
