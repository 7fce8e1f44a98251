package daemon

import (
	"testing"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/policy"
)

func TestOverlaps(t *testing.T) {
	t.Parallel()
	ars := func(p string) bgp.Best { return bgp.Best{Prefix: prefix(p), Role: policy.RouteServer, Neighbor: "ars"} }
	tr := func(p string) bgp.Best { return bgp.Best{Prefix: prefix(p), Role: policy.Tunnel, Neighbor: "tr0"} }
	own := func(p string) bgp.Best { return bgp.Best{Prefix: prefix(p), Role: policy.Local} }
	for _, c := range []struct {
		name  string
		bests []bgp.Best
		want  []overlap
	}{
		{"apart", []bgp.Best{ars("10.0.0.0/16"), tr("10.1.0.0/16")}, nil},
		{"leaked", []bgp.Best{tr("10.50.1.0/24"), ars("10.50.1.0/25")}, []overlap{{ars("10.50.1.0/25"), tr("10.50.1.0/24")}}},
		{"the other way round", []bgp.Best{tr("10.0.4.0/24"), ars("10.0.0.0/16")}, []overlap{{tr("10.0.4.0/24"), ars("10.0.0.0/16")}}},
		{"of one side", []bgp.Best{tr("10.50.0.0/16"), tr("10.50.1.0/24")}, nil},
		{"the next shorter one counts", []bgp.Best{ars("10.50.0.0/16"), tr("10.50.1.0/24"), tr("10.50.1.128/25")}, []overlap{{tr("10.50.1.0/24"), ars("10.50.0.0/16")}}},
		{"behind it", []bgp.Best{ars("10.50.0.0/23"), tr("10.50.1.0/24"), tr("10.50.2.0/24")}, []overlap{{tr("10.50.1.0/24"), ars("10.50.0.0/23")}}},
		{"defaults and private supernets", []bgp.Best{ars("0.0.0.0/0"), ars("10.0.0.0/8"), ars("172.16.0.0/12"), ars("192.168.0.0/16"), tr("10.1.0.0/16"), tr("172.16.1.0/24"), tr("192.168.1.0/24")}, nil},
		{"our own", []bgp.Best{own("10.50.0.0/16"), tr("10.50.1.0/24")}, nil},
		{"IPv6", []bgp.Best{tr("2001:db8:1::/48"), ars("2001:db8:1:1::/64")}, []overlap{{ars("2001:db8:1:1::/64"), tr("2001:db8:1::/48")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := diff(c.want, overlaps(c.bests)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	many := []overlap{}
	for range 5 {
		many = append(many, overlap{ars("10.50.1.0/25"), tr("10.50.1.0/24")})
	}
	notes := overlapNotes(many)
	if len(notes) != 4 || notes[0] != "route 10.50.1.0/25 of ars takes packets from 10.50.1.0/24 of tr0, in which it lies: is it leaked?" || notes[3] != "and 2 more routes of one side lie inside routes of another: transitctl routes" {
		t.Errorf("%q", notes)
	}
}
