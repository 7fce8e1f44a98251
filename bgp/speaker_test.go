package bgp

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/transitd/transitd/bgp/policy"
)

// hubConfig is a valid configuration of the rig's addresses; the tests break one thing.
func hubConfig() Config {
	return (&rig{}).config()
}

// settle lets the debounce pass.
func (b *bench) settle() {
	time.Sleep(2 * debounce) // in the bubble's time
	synctest.Wait()
}

func (b *bench) wants(what string, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.take(), cmpopts.EquateEmpty()); diff != "" {
		b.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// bothUp brings all sessions up with the VNet told.
func (b *bench) bothUp() {
	b.up("hub-ars", ars0, ars1)
	b.up("tr0", farNVA)
	for _, a := range []netip.Addr{ars0, ars1} {
		b.tell("hub-ars", a, "192.0.2.0/24 65515")
	}
	b.settle()
	b.take()
}

// TestSessionChanges checks that each coming and going of a session is told once, and counted, and nothing between.
func TestSessionChanges(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.state("tr0", farNVA, Active, "")
		b.state("tr0", farNVA, OpenConfirm, "")
		b.state("tr0", farNVA, Established, "")
		time.Sleep(90 * time.Second)
		b.state("tr0", farNVA, Idle, "hold timer expired")
		b.state("tr0", farNVA, Active, "")
		b.state("tr0", farNVA, Idle, "connection refused")
		from := SessionChange{Peer: farNVA, Name: "tr0", Role: policy.Tunnel, ASN: 64513, From: OpenConfirm, To: Established}
		to := from
		to.From, to.To, to.Lasted, to.Reason = Established, Idle, 90*time.Second, "hold timer expired"
		if diff := cmp.Diff([]SessionChange{from, to}, *b.changes, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, s := range b.Sessions() {
			want := uint64(0)
			if s.Name == "tr0" {
				want = 1
			}
			if s.Flaps != want {
				t.Errorf("%s has %d flaps, want %d", s.Name, s.Flaps, want)
			}
		}
	})
}

func TestSpeakerSaysOnlyWhatChanged(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.wants("start", "hub-ars: start", "tr0: start")
		b.bothUp()
		b.tell("hub-ars", ars0, "172.16.0.0/16 65515 12076 65010")
		b.tell("tr0", farNVA, "10.50.0.0/24 64513 398656")
		b.settle()
		b.wants("new routes: kernel first",
			"kernel: 10.50.0.0/24 tunnel tr0, 172.16.0.0/16 route-server hub-ars, 192.0.2.0/24 route-server hub-ars",
			"hub-ars: announce 10.50.0.0/24 [64513]", "tr0: announce 172.16.0.0/16 [65010]")

		b.tell("hub-ars", ars1, "172.16.0.0/16 65515 12076 65010")
		b.settle()
		b.wants("the other instance says the same")
		b.tell("hub-ars", ars0, "172.16.0.0/16 65515 12076 65010")
		b.settle()
		b.wants("said again (a route refresh)")
		b.tell("hub-ars", ars0, "-172.16.0.0/16")
		b.settle()
		b.wants("one instance takes it back")
		b.tell("hub-ars", ars1, "172.16.0.0/16 65515 12076 65010 65020")
		b.settle()
		b.wants("another path", "tr0: announce 172.16.0.0/16 [65010 65020]")
		b.tell("hub-ars", ars1, "-172.16.0.0/16")
		b.settle()
		b.wants("gone: withdrawn first",
			"tr0: withdraw 172.16.0.0/16", "kernel: 10.50.0.0/24 tunnel tr0, 192.0.2.0/24 route-server hub-ars")

		b.state("tr0", farNVA, Idle, "hold timer expired")
		b.settle()
		b.wants("the tunnel's session is lost", "hub-ars: withdraw 10.50.0.0/24", "kernel: 192.0.2.0/24 route-server hub-ars")
	})
}

func TestSpeakerOwnSiteWins(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.bothUp()
		b.tell("tr0", farNVA, "10.50.0.0/24 64513")
		b.settle()
		b.wants("from the tunnel",
			"kernel: 10.50.0.0/24 tunnel tr0, 192.0.2.0/24 route-server hub-ars", "hub-ars: announce 10.50.0.0/24 [64513]")
		b.tell("hub-ars", ars0, "10.50.0.0/24 65515 12076 398656 65010")
		b.settle()
		b.wants("the own Route Server tells it too: not announced there any more",
			"hub-ars: withdraw 10.50.0.0/24",
			"kernel: 10.50.0.0/24 route-server hub-ars, 192.0.2.0/24 route-server hub-ars",
			"tr0: announce 10.50.0.0/24 [65010]")
		story := b.Explain(netip.MustParsePrefix("10.50.0.0/24"))
		if !story.Found || len(story.Received) != 2 || !strings.Contains(story.Why, "our own site wins") {
			t.Errorf("story: %+v", story)
		}
	})
}

func TestSpeakerWaitsForTheVNet(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.take()
		b.up("tr0", farNVA)
		b.tell("tr0", farNVA, "10.50.0.0/24 64513", "192.0.2.64/26 64513")
		b.up("hub-ars", ars0, ars1)
		b.settle()
		for _, call := range b.take() {
			if strings.Contains(call, "hub-ars: announce") {
				t.Errorf("before the VNet is known: %s", call)
			}
		}
		b.tell("hub-ars", ars0, "192.0.2.0/24 65515")
		b.settle()
		got := b.take()
		if !slices.Contains(got, "hub-ars: announce 10.50.0.0/24 [64513]") || slices.Contains(got, "hub-ars: announce 192.0.2.64/26 [64513]") {
			t.Errorf("when it is known: %q", got)
		}
		// The session goes and comes: nothing of the VNet slips through meanwhile.
		b.state("hub-ars", ars0, Idle, "closed")
		b.settle()
		b.up("hub-ars", ars0)
		b.settle()
		for _, call := range b.take() {
			if strings.Contains(call, "192.0.2.64/26") && strings.Contains(call, "announce") {
				t.Errorf("after the session came back: %s", call)
			}
		}
		// It does not tell it any more: then it is none.
		time.Sleep(2 * quiet)
		synctest.Wait()
		if got := b.take(); !slices.Contains(got, "hub-ars: announce 192.0.2.64/26 [64513]") {
			t.Errorf("when the Route Server has told everything but the VNet: %q", got)
		}
	})
}

func TestSpeakerApply(t *testing.T) {
	c := hubConfig()
	bubble(t, c, func(b *bench) {
		b.bothUp()
		b.tell("tr0", farNVA, "10.50.0.0/24 64513", "0.0.0.0/0 64513")
		b.settle()
		b.take()
		for range 2 {
			if changes, err := b.Apply(b.t.Context(), c); err != nil || !changes.Empty() {
				t.Fatalf("the same again: %+v, %v", changes, err)
			}
			b.wants("the same again")
		}

		c.Neighbors = slices.Clone(c.Neighbors)
		c.Neighbors[0].DefaultRoute = policy.DefaultNoAdvertise
		changes, err := b.Apply(b.t.Context(), c)
		if err != nil || changes.Announced != 1 || len(changes.Reset) != 0 {
			t.Errorf("another default route mode: %+v, %v", changes, err)
		}
		b.wants("another default route mode", "hub-ars: announce 0.0.0.0/0 [64513]")

		c.Neighbors[1].HoldTime = 9 * time.Second
		if changes, err = b.Apply(b.t.Context(), c); err != nil || !slices.Equal(changes.Reset, []string{"tr0"}) {
			t.Errorf("another hold time: %+v, %v", changes, err)
		}
		got := b.take()
		for _, want := range []string{"tr0: stop", "tr0: start", "hub-ars: withdraw 10.50.0.0/24", "tr0: announce 192.0.2.0/24 []"} {
			if !slices.Contains(got, want) {
				t.Errorf("no %q in %q", want, got)
			}
		}
		if slices.Contains(got, "hub-ars: stop") {
			t.Errorf("the Route Server's sessions were reset: %q", got)
		}

		if _, err = b.Apply(b.t.Context(), Config{}); err == nil {
			t.Error("an empty configuration was taken")
		}
		b.wants("a refused configuration")
		c.Neighbors = c.Neighbors[:1]
		if changes, err = b.Apply(b.t.Context(), c); err != nil || !slices.Equal(changes.Removed, []string{"tr0"}) {
			t.Errorf("a neighbor less: %+v, %v", changes, err)
		}
		c.ASN = 64600
		if changes, err = b.Apply(b.t.Context(), c); err != nil || !slices.Equal(changes.Reset, []string{"hub-ars"}) {
			t.Errorf("another ASN: %+v, %v", changes, err)
		}
	})
}

func TestSpeakerBringsSessionsBack(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.bothUp()
		recycles := func(within time.Duration) (n int) {
			time.Sleep(within)
			synctest.Wait()
			for _, call := range b.take() {
				if call == "tr0: recycle "+farNVA.String() {
					n++
				}
			}
			return n
		}
		time.Sleep(goodSession)
		b.state("tr0", farNVA, Idle, "read failed")
		if recycles(recycleFirst+tick) != 1 {
			t.Error("not started afresh after the loss of a good session")
		}
		b.state("tr0", farNVA, Active, "")
		if recycles(time.Minute) != 0 {
			t.Error("started afresh while it waits for the peer")
		}
		for range 10 { // the peer refuses the handshake again and again
			b.state("tr0", farNVA, OpenSent, "")
			b.state("tr0", farNVA, Idle, "bad peer AS")
		}
		if n := recycles(recycleMax - tick); n != 0 {
			t.Errorf("started afresh %d times within %s although it fails all the time", n, recycleMax)
		}
		if n := recycles(2 * tick); n != 1 {
			t.Errorf("started afresh %d times after %s", n, recycleMax)
		}
		b.state("tr0", farNVA, OpenSent, "")
		if recycles(handshakeMax+2*tick) != 1 {
			t.Error("stuck in the handshake for ever")
		}
		if got := b.Sessions()[2]; got.State != "idle" || !strings.Contains(got.LastError, "handshake") {
			t.Errorf("session: %+v", got)
		}
	})
}

func TestSpeakerRestartsWhatFails(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.bothUp()
		b.tell("tr0", farNVA, "10.66.0.0/16 64513") // the fake refuses to announce it
		b.settle()
		got := b.take()
		if !slices.Contains(got, "hub-ars: stop") {
			t.Errorf("an engine in an unknown state goes on: %q", got)
		}
		b.mustNot("tr0: stop", got)
		b.tell("tr0", farNVA, "-10.66.0.0/16")
		time.Sleep(startRetry + 2*tick)
		synctest.Wait()
		if got := b.take(); !slices.Contains(got, "hub-ars: start") {
			t.Errorf("not started again: %q", got)
		}

		// One that cannot start is tried again, and the reason is shown.
		b.locked(func() { b.refuse["tr1"] = errors.New("no such address") })
		c := hubConfig()
		c.Neighbors = append(c.Neighbors, Neighbor{Name: "tr1", Role: policy.Tunnel, Addrs: []netip.Addr{farNVA2}, ASN: 64514, LocalAddr: overlay2})
		if _, err := b.Apply(b.t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := b.Sessions()[3]; !strings.Contains(got.LastError, "no such address") {
			t.Errorf("session: %+v", got)
		}
		b.locked(func() { delete(b.refuse, "tr1") })
		time.Sleep(startRetry + 2*tick)
		synctest.Wait()
		if got := b.take(); !slices.Contains(got, "tr1: start") {
			t.Errorf("not tried again: %q", got)
		}
	})
}

func (b *bench) mustNot(call string, got []string) {
	b.t.Helper()
	if slices.Contains(got, call) {
		b.t.Errorf("%q in %q", call, got)
	}
}

func (b *bench) locked(f func()) {
	b.fakes.mu.Lock()
	defer b.fakes.mu.Unlock()
	f()
}

func TestSpeakerConverged(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.up("hub-ars", ars0, ars1)
		time.Sleep(2 * quiet)
		synctest.Wait()
		if b.Converged() {
			t.Error("converged without the tunnel's session")
		}
		b.up("tr0", farNVA)
		b.settle()
		if b.Converged() {
			t.Error("converged before the far NVA said anything")
		}
		b.fakes.engines["tr0"].to.event(event{peer: farNVA, eor: true})
		b.settle()
		if !b.Converged() {
			t.Error("not converged after End-of-RIB")
		}
		b.state("tr0", farNVA, Idle, "closed")
		b.settle()
		if b.Converged() {
			t.Error("converged although a session was lost")
		}
		time.Sleep(convergeMax)
		if !b.Converged() {
			t.Error("waits for ever")
		}
	})
}

func TestSpeakerDrain(t *testing.T) {
	bubble(t, hubConfig(), func(b *bench) {
		b.bothUp()
		b.tell("tr0", farNVA, "10.50.0.0/24 64513")
		b.settle()
		b.take()
		if err := b.Drain(b.t.Context()); err != nil {
			t.Fatal(err)
		}
		b.wants("drain", "hub-ars: withdraw 10.50.0.0/24", "tr0: withdraw 192.0.2.0/24", "hub-ars: stop", "tr0: stop")
		time.Sleep(time.Minute)
		synctest.Wait()
		b.wants("afterwards")
	})
}

func TestSpeakerViews(t *testing.T) {
	c := hubConfig()
	c.Originate = []Origination{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), To: []string{"tr0"}}}
	bubble(t, c, func(b *bench) {
		b.up("hub-ars", ars0)
		b.up("tr0", farNVA)
		b.tell("hub-ars", ars0, "192.0.2.0/24 65515", "172.16.0.0/16 65515 64512")
		b.tell("tr0", farNVA, "10.50.0.0/24 64513 65020", "10.9.9.9/32 64513")
		b.settle()
		rows, err := b.Announced("hub-ars", true)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.Prefix.String()+" "+r.Rule+" "+r.Route.PathString())
		}
		want := []string{
			"0.0.0.0/0 not-originated-to ", "10.9.9.9/32 host-route 64513", "10.50.0.0/24 announced 64512 64513 65020",
			"192.0.2.0/24 route-server-to-route-server 65515",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("announced to hub-ars (-want +got):\n%s", diff)
		}
		if rows, err := b.Announced(ars1.String(), false); err != nil || len(rows) != 0 {
			t.Errorf("to an instance whose session is down: %+v, %v", rows, err)
		}
		if rows, err := b.Announced(ars0.String(), false); err != nil || len(rows) != 1 {
			t.Errorf("to the other: %+v, %v", rows, err)
		}
		rx, err := b.Received("hub-ars")
		if err != nil || len(rx) != 2 || rx[0].Rule != policy.RuleOwnASN || !rx[1].Best {
			t.Errorf("received: %+v, %v", rx, err)
		}
		if _, err := b.Received("nobody"); err == nil {
			t.Error("no error for an unknown neighbor")
		}
		sess := b.Sessions()
		if len(sess) != 3 || sess[0].Received != 2 || sess[0].Accepted != 1 || sess[0].Announced != 1 || sess[1].Announced != 0 {
			t.Errorf("sessions: %+v", sess)
		}
		story := b.ExplainAddr(netip.MustParseAddr("10.50.0.77"))
		if story.Best == nil || story.Prefix.String() != "10.50.0.0/24" || len(story.Exports) != 2 || !story.Exports[0].Accept || story.Exports[1].Rule != policy.RuleTunnelToTunnel {
			t.Errorf("story of an address: %+v", story)
		}
		if story := b.ExplainAddr(netip.MustParseAddr("203.0.113.9")); story.Prefix.String() != "0.0.0.0/0" || story.Best.Role != policy.Local {
			t.Errorf("story of an address that only the default has: %+v", story)
		}
		if story := b.Explain(netip.MustParsePrefix("172.16.0.0/16")); story.Best != nil || !story.Found || story.Exports[0].Rule != policy.RuleNoRoute {
			t.Errorf("story of a refused prefix: %+v", story)
		}
		if story := b.Explain(netip.MustParsePrefix("10.99.0.0/16")); story.Found {
			t.Errorf("story of nothing: %+v", story)
		}
	})
}

func TestConfigRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no ASN", func(c *Config) { c.ASN = 0 }, "no AS number"},
		{"IPv6 router id", func(c *Config) { c.RouterID = netip.MustParseAddr("2001:db8::1") }, "router id"},
		{"a name twice", func(c *Config) { c.Neighbors[1].Name = "hub-ars" }, "two neighbors"},
		{"an address twice", func(c *Config) { c.Neighbors[1].Addrs = []netip.Addr{ars0} }, "is also one of"},
		{"no address", func(c *Config) { c.Neighbors[1].Addrs = nil }, "no address"},
		{"no role", func(c *Config) { c.Neighbors[1].Role = policy.Local }, "role"},
		{"our own ASN", func(c *Config) { c.Neighbors[1].ASN = ourASN }, "a sibling has our own"},
		{"a hold time of 1 s", func(c *Config) { c.Neighbors[1].HoldTime = time.Second }, "hold time"},
		{"half a second", func(c *Config) { c.Neighbors[1].HoldTime = 3500 * time.Millisecond }, "hold time"},
		{"no address of ours", func(c *Config) { c.LocalAddr = netip.Addr{} }, "our own address"},
		{"originated to nobody", func(c *Config) { c.Originate = []Origination{{To: []string{"x"}}} }, "no neighbor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := hubConfig()
			tt.change(&c)
			_, err := New(c, Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSpeakerNotRunning(t *testing.T) {
	s, err := New(hubConfig(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), hubConfig()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Apply: %v", err)
	}
	if err := s.Drain(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Drain: %v", err)
	}
	if s.Converged() || len(s.Sessions()) != 3 {
		t.Errorf("views before Run: %t %+v", s.Converged(), s.Sessions())
	}
}
