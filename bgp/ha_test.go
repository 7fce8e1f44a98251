package bgp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

var (
	otherNVA = netip.MustParseAddr("169.254.77.6")
	sibling  = netip.MustParseAddr("169.254.78.2")
)

// haConfig is a node with a second tunnel to the same site and a sibling.
func haConfig(priority uint8) Config {
	c := hubConfig()
	c.Priority = priority
	tr1, ha := c.Neighbors[1], c.Neighbors[1]
	tr1.Name, tr1.Addrs, tr1.LocalAddr = "tr1", []netip.Addr{otherNVA}, netip.MustParseAddr("169.254.77.5")
	ha.Name, ha.Role, ha.ASN, ha.Addrs, ha.LocalAddr = "ha1", policy.Sibling, c.ASN, []netip.Addr{sibling}, netip.MustParseAddr("169.254.78.1")
	c.Neighbors = append(slices.Clone(c.Neighbors), tr1, ha)
	return c
}

// siblingTells has the sibling announce a route as a node of a priority does.
func (b *bench) siblingTells(priority uint32, routes ...string) {
	b.t.Helper()
	ev := event{peer: sibling}
	for _, p := range routes {
		ev.updates = append(ev.updates, update{route: policy.Route{
			Prefix: netip.MustParsePrefix(p), NextHop: sibling, ASPath: []uint32{64513, 65020},
			Large: []policy.LargeCommunity{{Global: ourASN, Local1: 2, Local2: priority}},
			From:  policy.Source{Neighbor: "ha1", Role: policy.Sibling, ASN: ourASN, Peer: sibling},
		}})
	}
	b.fakes.engines["ha1"].to.event(ev)
	b.fakes.engines["ha1"].to.event(event{peer: sibling, eor: true})
	synctest.Wait()
}

// wait passes time in the bubble, more than a tick.
func (b *bench) wait() {
	time.Sleep(2 * tick)
	b.settle()
}

func (b *bench) all(prefix string) (calls []string) {
	for _, c := range b.take() {
		if strings.HasPrefix(c, prefix) {
			calls = append(calls, c)
		}
	}
	return calls
}

func (b *bench) wantsARS(what, want string) {
	b.t.Helper()
	calls := b.all("hub-ars: ")
	if got := strings.Join(calls, "; "); got != want {
		b.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A standby takes over when the best node dies, in the moment in which BFD says
// so, with a path that is shorter than what the dead one left behind.
func TestSpeakerTakesOver(t *testing.T) {
	bubble(t, haConfig(1), func(b *bench) {
		b.bothUp()
		b.up("ha1", sibling)
		b.siblingTells(0, "10.50.0.0/24")
		b.tell("tr0", farNVA, "10.50.0.0/24 64513 65020")
		b.wait()
		const announce = "hub-ars: announce 10.50.0.0/24 "
		b.wantsARS("standing by: 1 sibling and priority 1", announce+"[64512 64512 64513 65020]")
		if err := b.PathDown(b.t.Context(), "ha1", "BFD: control detection time expired"); err != nil {
			b.t.Fatal(err)
		}
		calls := b.take()
		if i, j := slices.Index(calls, announce+"[64513 65020]"), slices.Index(calls, "ha1: recycle "+sibling.String()); i < 0 || j < i {
			b.t.Errorf("want the shorter path first, then the session reset: %q", calls)
		}
		b.up("ha1", sibling)
		b.wait()
		b.wantsARS("the sibling is back, but has no tunnel yet", "")
		b.siblingTells(0, "10.50.0.0/24")
		b.wait()
		b.wantsARS("the sibling forwards again", announce+"[64512 64512 64513 65020]")
		b.siblingTells(0, "10.50.7.0/24")
		b.wait()
		b.wantsARS("the sibling tells more", "")
	})
}

// The best node does not care about a standby's death.
func TestSpeakerStandbyDies(t *testing.T) {
	bubble(t, haConfig(0), func(b *bench) {
		b.bothUp()
		b.up("ha1", sibling)
		b.siblingTells(1, "10.50.0.0/24")
		b.tell("tr0", farNVA, "10.50.0.0/24 64513 65020")
		b.wait()
		b.wantsARS("the best", "hub-ars: announce 10.50.0.0/24 [64512 64513 65020]")
		b.state("ha1", sibling, Idle, "hold timer expired")
		b.wait()
		b.wantsARS("the standby dies", "")
	})
}

// Two tunnels of the same cost share; the sibling is for when both are dead,
// and then nothing is announced to the Route Server any more.
func TestSpeakerWaysOut(t *testing.T) {
	bubble(t, haConfig(0), func(b *bench) {
		b.bothUp()
		b.up("tr1", otherNVA)
		b.up("ha1", sibling)
		p := netip.MustParsePrefix("10.50.0.0/24")
		wantBest := func(what string, role policy.Role, name string, also ...string) {
			b.t.Helper()
			b.settle()
			story := b.Explain(p)
			if story.Best == nil || story.Best.Role != role || story.Best.Neighbor != name || !slices.Equal(story.Best.Also, also) {
				b.t.Errorf("%s: %+v", what, story.Best)
			}
		}
		b.tell("tr0", farNVA, "10.50.0.0/24 64513 65020")
		b.tell("tr1", otherNVA, "10.50.0.0/24 64513 65020")
		b.siblingTells(0, "10.50.0.0/24")
		wantBest("equal", policy.Tunnel, "tr0", "tr1")
		b.tell("tr0", farNVA, "10.50.0.0/24 64513 64513 65020")
		wantBest("the far side prefers one", policy.Tunnel, "tr1")
		for _, name := range []string{"tr0", "tr1"} {
			if err := b.PathDown(b.t.Context(), name, "BFD"); err != nil {
				b.t.Fatal(err)
			}
		}
		wantBest("both dead", policy.Sibling, "ha1")
		if calls := b.all("hub-ars: "); len(calls) == 0 || calls[len(calls)-1] != "hub-ars: withdraw 10.50.0.0/24" {
			b.t.Errorf("the Route Server: %q", calls)
		}
		rows, err := b.Announced("ha1", false)
		if err != nil || len(rows) > 0 {
			b.t.Errorf("told to the sibling: %+v, %v", rows, err)
		}
	})
}

// Planned work: first the worst path, then nothing; the kernel keeps its routes.
func TestSpeakerStances(t *testing.T) {
	bubble(t, haConfig(0), func(b *bench) {
		b.bothUp()
		b.tell("tr0", farNVA, "10.50.0.0/24 64513")
		b.tell("hub-ars", ars0, "172.16.0.0/16 65515 12076 65010")
		b.settle()
		b.take()
		for _, s := range []struct {
			stance Stance
			want   string
		}{
			{Avoid, "hub-ars: announce 10.50.0.0/24 [" + strings.Repeat("64512 ", 11) + "64513]"},
			{Avoid, ""},
			{Refuse, "hub-ars: withdraw 10.50.0.0/24"},
			{Carry, "hub-ars: announce 10.50.0.0/24 [64512 64513]"},
		} {
			if err := b.Take(b.t.Context(), s.stance); err != nil {
				b.t.Fatal(err)
			}
			b.settle()
			calls := b.take()
			var ars []string
			for _, c := range calls {
				if strings.HasPrefix(c, "kernel:") {
					b.t.Errorf("stance %d touched the kernel: %s", s.stance, c)
				}
				if strings.HasPrefix(c, "hub-ars: ") {
					ars = append(ars, c)
				}
			}
			if got := strings.Join(ars, "; "); got != s.want {
				b.t.Errorf("stance %d: %q, want %q", s.stance, got, s.want)
			}
		}
	})
}

// What was withdrawn from the Route Server would go out of the card by a
// shorter route, into a fabric that still sends it here: it is refused until
// the fabric knows.
func TestSpeakerGhosts(t *testing.T) {
	c := hubConfig()
	c.Originate = []Origination{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), To: []string{"tr0"}}}
	bubble(t, c, func(b *bench) {
		b.bothUp()
		b.tell("tr0", farNVA, "10.50.0.0/24 64513")
		b.settle()
		b.take()
		b.tell("tr0", farNVA, "-10.50.0.0/24")
		b.settle()
		b.wants("withdrawn",
			"hub-ars: withdraw 10.50.0.0/24",
			"kernel: 0.0.0.0/0 local , 10.50.0.0/24 unknown(0) , 192.0.2.0/24 route-server hub-ars")
		time.Sleep(ghostTime + tick)
		b.settle()
		b.wants("a minute later", "kernel: 0.0.0.0/0 local , 192.0.2.0/24 route-server hub-ars")
	})
}

// A peer that restarts and goes on forwarding keeps its routes until it has told
// them again; what it does not tell again goes.
func TestSpeakerHelpsARestart(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.bothUp()
		restarts := func(d time.Duration) {
			b.fakes.engines["tr0"].to.event(event{peer: farNVA, state: &stateChange{state: Idle}})
			b.fakes.engines["tr0"].to.event(event{peer: farNVA, state: &stateChange{state: Established, restart: d, forwarding: true}})
			synctest.Wait()
		}
		restarts(60 * time.Second)
		b.tell("tr0", farNVA, "10.50.0.0/24 64513", "10.50.1.0/24 64513")
		b.settle()
		b.take()
		b.state("tr0", farNVA, Idle, "connection reset by peer")
		b.wait()
		if calls := b.all("hub-ars: "); len(calls) > 0 {
			b.t.Errorf("while it restarts: %q", calls)
		}
		restarts(60 * time.Second)
		b.tell("tr0", farNVA, "10.50.0.0/24 64513")
		b.settle()
		b.wantsARS("before it has told all", "")
		b.fakes.engines["tr0"].to.event(event{peer: farNVA, eor: true})
		b.settle()
		b.wantsARS("it has told all", "hub-ars: withdraw 10.50.1.0/24")
		b.state("tr0", farNVA, Idle, "connection reset by peer")
		time.Sleep(61 * time.Second)
		b.settle()
		b.wantsARS("it does not come back", "hub-ars: withdraw 10.50.0.0/24")
		restarts(60 * time.Second)
		b.tell("tr0", farNVA, "10.50.0.0/24 64513")
		b.settle()
		b.take()
		b.fakes.engines["tr0"].to.event(event{peer: farNVA, state: &stateChange{state: Idle, reason: "notification-received cease", notified: true}})
		b.settle()
		b.wantsARS("it says goodbye", "hub-ars: withdraw 10.50.0.0/24")
	})
}
