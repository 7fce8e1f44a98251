package machine

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/diag/doctor"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// TestNetnsPolicies reads policies that ip made.
func TestNetnsPolicies(t *testing.T) {
	t.Parallel()
	netnstest.RequireRoot(t)
	ns := netnstest.New(t, "xfrm")
	for _, args := range []string{
		"src 10.0.2.4/32 dst 10.1.2.0/24 proto udp dport 4500 dir out priority 5 mark 0x42 mask 0xff action block",
		"src ::/0 dst 2001:db8::/32 dir in priority 7 tmpl src 2001:db8::2 dst 2001:db8::1 proto esp mode tunnel",
		"src 0.0.0.0/0 dst 0.0.0.0/0 dir fwd priority 9",
		"src 0.0.0.0/0 dst 0.0.0.0/0 dir out priority 1 if_id 42",
	} {
		cmd := ns.Command(t.Context(), "ip", append([]string{"xfrm", "policy", "add"}, strings.Fields(args)...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	var r reader
	if err := ns.Do(func() error { r.policies(); return nil }); err != nil {
		t.Fatal(err)
	}
	want := map[string]doctor.Policy{
		"out": {Direction: "out", From: netip.MustParsePrefix("10.0.2.4/32"), To: netip.MustParsePrefix("10.1.2.0/24"), Protocol: 17, ToPort: 4500, Mark: 0x42, Mask: 0xff, Priority: 5, Block: true},
		"in":  {Direction: "in", From: netip.MustParsePrefix("::/0"), To: netip.MustParsePrefix("2001:db8::/32"), Priority: 7, Protects: true},
		"fwd": {Direction: "fwd", From: netip.MustParsePrefix("0.0.0.0/0"), To: netip.MustParsePrefix("0.0.0.0/0"), Priority: 9},
	}
	got := map[string]doctor.Policy{}
	for _, p := range r.h.Policies {
		got[p.Direction] = p
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" || len(r.h.Policies) != len(want) {
		t.Errorf("%d policies, unread %+v (-want +got):\n%s", len(r.h.Policies), r.h.Unread, d)
		out, err := exec.CommandContext(t.Context(), "ip", "-n", ns.Name, "xfrm", "policy").CombinedOutput()
		t.Logf("%s %v", out, err)
	}
}
