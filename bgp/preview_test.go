package bgp

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/bgp/policy"
)

// A preview says what Apply then does, and does nothing itself.
func TestSpeakerPreview(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.bothUp()
		b.tell("tr0", farNVA, "10.50.0.0/24 64513", "10.50.1.0/30 64513")
		b.tell("hub-ars", ars0, "172.16.0.0/16 65515 12076 65010")
		b.settle()
		b.take()
		c := hubConfig()
		c.Originate = []Origination{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), To: []string{"tr0"}}}
		c.AllowHostRoutes = []netip.Prefix{netip.MustParsePrefix("10.50.1.0/24")}
		c.Protected = append(c.Protected, netip.MustParsePrefix("172.16.0.0/12"))
		list, err := b.Preview(b.t.Context(), c)
		if err != nil {
			b.t.Fatal(err)
		}
		b.wants("preview")
		got := map[string][2]int{}
		for _, p := range list {
			got[p.Neighbor] = [2]int{len(p.Announce), len(p.Withdraw)}
		}
		want := map[string][2]int{"hub-ars": {1, 0}, "tr0": {1, 1}}
		if d := cmp.Diff(want, got); d != "" {
			b.t.Errorf("(-want +got):\n%s", d)
		}
		changes, err := b.Apply(b.t.Context(), c)
		if err != nil || changes.Announced != 2 || changes.Withdrawn != 1 {
			b.t.Errorf("applied: %+v, %v", changes, err)
		}
		c.Neighbors = c.Neighbors[:1]
		c.Originate = nil
		if list, err = b.Preview(b.t.Context(), c); err != nil {
			b.t.Fatal(err)
		}
		if len(list) != 2 || len(list[0].Withdraw) != 2 || list[1].Neighbor != "tr0" || len(list[1].Withdraw) != 2 {
			b.t.Errorf("without the tunnel: %+v", list)
		}
	})
}

func TestCompareConfigs(t *testing.T) {
	from, to := hubConfig(), hubConfig()
	to.Neighbors[0].DefaultRoute = policy.DefaultAnnounce
	p := netip.MustParsePrefix("0.0.0.0/0")
	received := []policy.Route{{Prefix: p, ASPath: []uint32{64513}, From: policy.Source{Neighbor: "tr0", Peer: farNVA}}}
	list, err := Compare(from, to, received)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Neighbor != "hub-ars" || len(list[0].Announce) != 1 || list[0].Announce[0].Prefix != p {
		t.Errorf("%+v", list)
	}
	received[0].From.Neighbor = "nobody"
	if _, err := Compare(from, to, received); err == nil {
		t.Error("a route of nobody was taken")
	}
}
