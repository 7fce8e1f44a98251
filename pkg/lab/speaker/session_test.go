package speaker

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

const (
	ourASN   uint32 = 64496
	theirASN uint32 = 64497
	ourID           = "192.0.2.1"
	theirID         = "192.0.2.2"
)

// passive is a speaker that waits for one neighbour, "them".
func passive() Config {
	c := testConfig(ourASN, ourID)
	p := testPeer("them", theirID, theirASN)
	p.Passive = true
	c.Peers = []Peer{p}
	return c
}

func theirOpen() *Open { return newOpen(theirASN, addr(theirID), 90*time.Second, false) }

func announcement(asn uint32, hop string, ps ...string) *Update {
	return &Update{
		Attributes: encodeAttributes(Path{ASPath: []uint32{asn}, NextHop: addr(hop)}, true),
		NLRI:       prefixes(ps...),
	}
}

func TestOpenSaysWhatTheSpeakerIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		cfg := passive()
		cfg.ASN, cfg.AnnounceIPv6 = 4200000001, true
		n.start(t, cfg)
		far := n.connect(t, theirID, ourID)
		far.want(&Open{
			AS: 23456, HoldTime: 180, RouterID: addr(ourID),
			Capabilities: []Capability{
				{Code: 1, Value: []byte{0, 1, 0, 1}},
				{Code: 1, Value: []byte{0, 2, 0, 1}},
				{Code: 2},
				{Code: 65, Value: []byte{0xfa, 0x56, 0xea, 0x01}},
			},
		})
	})
}

func TestTimersFollowTheLowerHoldTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, _ := n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen()) // 90 s, so keepalives every 30 s
		if st := peerStatus(t, s, "them"); st.State != Established || st.HoldTime != 90*time.Second {
			t.Fatalf("status %+v, want established with 90 s", st)
		}
		begin := time.Now()
		go func() { // not at once, or the last keepalive and the end would come at the same time
			time.Sleep(time.Second)
			far.send(&Keepalive{})
		}()
		for i := range 3 {
			far.want(&Keepalive{})
			if got, want := time.Since(begin), time.Duration(i+1)*30*time.Second; got != want {
				t.Fatalf("keepalive %d after %v, want %v", i, got, want)
			}
		}
		far.want(&Notification{Code: 4})
		if got := time.Since(begin); got != 91*time.Second {
			t.Fatalf("hold timer expired after %v, want 90s after the last message", got)
		}
		far.wantClosed()
		synctest.Wait()
		if st := peerStatus(t, s, "them"); st.State != Active || st.LastError == "" {
			t.Fatalf("status %+v, want active with an error", st)
		}
	})
}

func TestKeepaliveAndUpdateResetTheHoldTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, _ := n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen())
		go func() {
			for { // swallow keepalives
				if _, err := readMessage(far.r); err != nil {
					return
				}
			}
		}()
		for i := range 4 {
			time.Sleep(89 * time.Second)
			if i%2 == 0 {
				far.send(&Keepalive{})
			} else {
				far.send(&Update{})
			}
		}
		synctest.Wait()
		if st := peerStatus(t, s, "them"); st.State != Established || st.Sessions != 1 {
			t.Fatalf("status %+v, want the first session still established", st)
		}
	})
}

// TestSessionEnds sends something wrong in each state and looks at the NOTIFICATION.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	wrongAS, noIPv4 := theirOpen(), theirOpen()
	wrongAS.Capabilities = nil
	wrongAS.AS = 64500
	noIPv4.Capabilities = []Capability{{Code: capMultiprotocol, Value: []byte{0, 2, 0, 1}}, {Code: capFourOctetAS, Value: []byte{0, 0, 0xfb, 0xf1}}}
	badMarker := append(make([]byte, 16), 0, 19, 4)
	for _, tt := range []struct {
		name  string
		state State
		send  Message
		raw   []byte
		want  Notification
	}{
		{name: "wrong AS", state: OpenSent, send: wrongAS, want: Notification{Code: 2, Subcode: 2}},
		{name: "no IPv4", state: OpenSent, send: noIPv4, want: Notification{Code: 2, Subcode: 7, Data: []byte{1, 4, 0, 1, 0, 1}}},
		{name: "keepalive before OPEN", state: OpenSent, send: &Keepalive{}, want: Notification{Code: 5, Subcode: 1}},
		{name: "update before keepalive", state: OpenConfirm, send: &Update{}, want: Notification{Code: 5, Subcode: 2}},
		{name: "second OPEN", state: Established, send: theirOpen(), want: Notification{Code: 5, Subcode: 3}},
		{name: "broken marker", state: Established, raw: badMarker, want: Notification{Code: 1, Subcode: 1}},
		{
			name: "MP_REACH twice", state: Established,
			send: &Update{Attributes: []RawAttribute{{Flags: 0x80, Type: 14, Value: []byte{0, 2, 1}}, {Flags: 0x80, Type: 14, Value: []byte{0, 2, 1}}}},
			want: Notification{Code: 3, Subcode: 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				s, _ := n.start(t, passive())
				far := n.connect(t, theirID, ourID)
				switch tt.state {
				case OpenSent:
					far.receive()
				case OpenConfirm:
					far.send(theirOpen())
					far.receive()
					far.want(&Keepalive{})
				default:
					far.establish(theirOpen())
				}
				if tt.send != nil {
					far.send(tt.send)
				} else {
					far.sendBytes(tt.raw)
				}
				want := tt.want
				far.want(&want)
				far.wantClosed()
				synctest.Wait()
				if st := peerStatus(t, s, "them"); st.State != Active || st.Out.Notification != 1 {
					t.Errorf("status %+v, want active after one notification", st)
				}
			})
		})
	}
}

func TestSilentConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		far.receive()
		begin := time.Now()
		far.want(&Notification{Code: 4})
		if got := time.Since(begin); got != openWait {
			t.Fatalf("given up after %v, want %v", got, openWait)
		}
	})
}

func TestStrangerIsHungUpOnAndCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, _ := n.start(t, passive())
		n.connect(t, "203.0.113.9", ourID).wantClosed()
		if got := s.Status().Rejected; got != 1 {
			t.Errorf("rejected %d, want 1", got)
		}
	})
}

func TestSecondConnectionDoesNotDisturbTheSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, _ := n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen())
		second := n.connect(t, theirID, ourID)
		second.want(&Notification{Code: 6, Subcode: 7})
		second.wantClosed()
		if st := peerStatus(t, s, "them"); st.State != Established || st.Sessions != 1 {
			t.Fatalf("status %+v, want the session untouched", st)
		}
	})
}

// TestCollision has both ends connect at the same moment.
func TestCollision(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"192.0.2.0", "192.0.2.254", ourID} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				a := testConfig(ourASN, ourID)
				a.Peers = []Peer{testPeer("b", theirID, theirASN)}
				b := testConfig(theirASN, theirID)
				b.Peers = []Peer{{Name: "a", Addr: addr(ourID), ASN: ourASN, Local: addr(theirID)}}
				b.RouterID = addr(id)
				sa, _ := n.start(t, a)
				sb, _ := n.start(t, b)
				waitEstablished(t, sa, sb)
				start := time.Now()
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				for _, s := range []*Speaker{sa, sb} {
					// One end may establish a connection while the other ends it for
					// its rival, which RFC 4271 does not exclude; the next attempt,
					// at different times, settles it.
					if st := s.Status().Peers[0]; st.State != Established || st.Since.Sub(start) > 2*DefaultConnectRetry {
						t.Errorf("AS %d: %+v, want one lasting session", s.cfg.ASN, st)
					}
				}
			})
		})
	}
}

// TestCollisionByIdentifier drives both connections and checks which one stays.
func TestCollisionByIdentifier(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		id    string
		stays bool // the connection that they made
	}{
		{"theirs is higher", "192.0.2.9", true},
		{"theirs is lower", "192.0.2.0", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				l, err := n.listen(t.Context(), at(theirID))
				if err != nil {
					t.Fatal(err)
				}
				cfg := passive()
				cfg.Peers[0].Passive = false
				s, _ := n.start(t, cfg)
				nc, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				ours := newScripted(t, nc)
				theirs := n.connect(t, theirID, ourID)
				open := newOpen(theirASN, addr(tt.id), 90*time.Second, false)
				ours.receive()
				theirs.receive()
				ours.send(open)
				ours.want(&Keepalive{}) // our connection is in OpenConfirm
				theirs.send(open)
				stays, goes := theirs, ours
				if !tt.stays {
					stays, goes = ours, theirs
				}
				goes.want(&Notification{Code: 6, Subcode: 7})
				goes.wantClosed()
				if tt.stays {
					stays.want(&Keepalive{})
				}
				stays.send(&Keepalive{})
				synctest.Wait()
				if st := peerStatus(t, s, "them"); st.State != Established {
					t.Errorf("status %+v, want established", st)
				}
				_ = stays.nc.Close()
				_ = l.Close()
			})
		})
	}
}

func TestConnectIsTriedEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		cfg := passive()
		cfg.Peers[0].Passive = false
		s, _ := n.start(t, cfg)
		time.Sleep(5500 * time.Millisecond)
		if got := n.dialed(); got < 6 || got > 8 { // at 0, and after 0.75 to 1 s each
			t.Errorf("%d attempts in 5.5 s, want 6 to 8", got)
		}
		if st := peerStatus(t, s, "them"); st.State != Active || st.LastError == "" {
			t.Errorf("status %+v, want active with an error", st)
		}
	})
}

func TestStopSendsCeaseAndForgetsRoutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, stop := n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen())
		far.send(announcement(theirASN, theirID, "198.51.100.0/24"))
		synctest.Wait()
		if got := len(s.Best()); got != 1 {
			t.Fatalf("%d best routes, want 1", got)
		}
		go stop()
		far.want(&Notification{Code: 6, Subcode: 2})
		far.wantClosed()
		synctest.Wait()
		if got := s.Best(); len(got) != 0 {
			t.Errorf("routes after the end: %v", got)
		}
	})
}

func TestRefreshBothWays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		cfg := passive()
		cfg.Originate = []Path{testRoute("198.51.100.0/24")}
		s, _ := n.start(t, cfg)
		if err := s.Refresh("them"); err == nil {
			t.Error("refresh without a session: no error")
		}
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen())
		update := announcement(ourASN, ourID, "198.51.100.0/24")
		far.want(update)
		far.send(&RouteRefresh{AFI: 2, SAFI: 1}) // not for us
		far.send(&RouteRefresh{AFI: 1, SAFI: 1})
		far.want(update)
		if err := s.Refresh("them"); err != nil {
			t.Error(err)
		}
		far.want(&RouteRefresh{AFI: 1, SAFI: 1})
	})
}

func TestRefreshResetsANeighbourWithoutTheCapability(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, _ := n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		open := theirOpen()
		open.Capabilities = nil
		far.establish(open)
		if err := s.Refresh(""); err != nil {
			t.Fatal(err)
		}
		far.want(&Notification{Code: 6, Subcode: 4})
		far.wantClosed()
	})
}

// TestRestartStaysAwayAndComesBack: one end connects, the other waits, and either asks for the restart. With both
// connecting, the first new session may rightly be lost to a collision: RFC 4271, section 6.8 lets one end establish
// a connection while the other prefers the second one.
func TestRestartStaysAwayAndComesBack(t *testing.T) {
	t.Parallel()
	for name, restarterConnects := range map[string]bool{"it connects": true, "the other end connects": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				a := testConfig(ourASN, ourID)
				a.Peers = []Peer{testPeer("b", theirID, theirASN)}
				a.Peers[0].Passive = !restarterConnects
				b := testConfig(theirASN, theirID)
				b.Peers = []Peer{testPeer("a", ourID, ourASN)}
				b.Peers[0].Passive = restarterConnects
				b.Originate = []Path{testRoute("198.51.100.0/24")}
				sa, _ := n.start(t, a)
				sb, _ := n.start(t, b)
				waitEstablished(t, sa, sb)
				if err := sa.Restart("b", 20*time.Second); err != nil {
					t.Fatal(err)
				}
				time.Sleep(19 * time.Second)
				if st := peerStatus(t, sa, "b"); st.State != Idle || len(sa.Best()) != 0 {
					t.Fatalf("during the restart: %+v, routes %v", st, sa.Best())
				}
				waitEstablished(t, sa, sb)
				synctest.Wait()
				if st := peerStatus(t, sa, "b"); st.Sessions != 2 || st.PrefixesIn != 1 {
					t.Errorf("after the restart: %+v, want session 2 with the route", st)
				}
			})
		})
	}
}

func TestTreatAsWithdraw(t *testing.T) {
	t.Parallel()
	good := encodeAttributes(Path{ASPath: []uint32{theirASN}, NextHop: addr(theirID)}, true)
	with := func(extra ...RawAttribute) []RawAttribute { return append(append([]RawAttribute{}, good...), extra...) }
	for name, attrs := range map[string][]RawAttribute{
		"origin 9":            {{Flags: 0x40, Type: 1, Value: []byte{9}}, good[1], good[2]},
		"no next hop":         good[:2],
		"no AS path":          {good[0], good[2]},
		"short communities":   with(RawAttribute{Flags: 0xc0, Type: 8, Value: []byte{1}}),
		"wrong flags":         with(RawAttribute{Flags: 0x40, Type: 8, Value: []byte{0, 0, 0, 1}}),
		"first AS is another": encodeAttributes(Path{ASPath: []uint32{1, theirASN}, NextHop: addr(theirID)}, true),
		"next hop is ours":    encodeAttributes(Path{ASPath: []uint32{theirASN}, NextHop: addr(ourID)}, true),
		"unknown well-known":  with(RawAttribute{Flags: 0x40, Type: 99}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet()
				s, _ := n.start(t, passive())
				far := n.connect(t, theirID, ourID)
				far.establish(theirOpen())
				far.send(announcement(theirASN, theirID, "198.51.100.0/24", "203.0.113.0/24"))
				far.send(&Update{Attributes: attrs, NLRI: prefixes("203.0.113.0/24")})
				synctest.Wait()
				got, _ := s.Received("them")
				st := peerStatus(t, s, "them")
				if len(got) != 1 || got[0].Prefix != prefix("198.51.100.0/24") || st.Dropped.Malformed != 1 || st.State != Established {
					t.Errorf("received %v, status %+v", seen(got, nil), st)
				}
			})
		})
	}
}

func TestIPv6RoutesAreCountedAndIgnored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, _ := n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen())
		value := append([]byte{0, 2, 1, 16}, make([]byte, 17)...)
		far.send(&Update{Attributes: []RawAttribute{{Flags: 0x80, Type: attrMPReach, Value: append(value, 32, 0x20, 1, 0xd, 0xb8)}}})
		synctest.Wait()
		if st := peerStatus(t, s, "them"); st.Dropped.Family != 1 || st.PrefixesIn != 0 || st.State != Established {
			t.Errorf("status %+v", st)
		}
	})
}

// TestIPv4InMPReach takes IPv4 prefixes out of the multiprotocol attributes, as RFC 4760 allows.
func TestIPv4InMPReach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		s, _ := n.start(t, passive())
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen())
		attrs := encodeAttributes(Path{ASPath: []uint32{theirASN}, NextHop: addr(theirID)}, true)[:2]
		far.send(&Update{Attributes: append(attrs, RawAttribute{
			Flags: 0x80, Type: attrMPReach, Value: []byte{0, 1, 1, 4, 192, 0, 2, 7, 0, 24, 203, 0, 113},
		})})
		synctest.Wait()
		want := []string{"203.0.113.0/24 via 192.0.2.7: 64497"}
		if d := diff(want, seen(s.Received("them"))); d != "" {
			t.Errorf("received (-want +got):\n%s", d)
		}
		far.send(&Update{Attributes: []RawAttribute{{Flags: 0x80, Type: attrMPUnreach, Value: []byte{0, 1, 1, 24, 203, 0, 113}}}})
		synctest.Wait()
		if got, _ := s.Received("them"); len(got) != 0 {
			t.Errorf("received after withdrawal: %v", got)
		}
	})
}

func TestTwoOctetNeighbour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		cfg := passive()
		cfg.Originate = []Path{testRoute("198.51.100.0/24", 398656)}
		s, _ := n.start(t, cfg)
		far := n.connect(t, theirID, ourID)
		open := theirOpen()
		open.Capabilities = nil
		far.establish(open)
		far.want(&Update{
			Attributes: []RawAttribute{
				{Flags: 0x40, Type: 1, Value: []byte{0}},
				{Flags: 0x40, Type: 2, Value: []byte{2, 2, 0xfb, 0xf0, 0x5b, 0xa0}}, // 64496 23456
				{Flags: 0x40, Type: 3, Value: []byte{192, 0, 2, 1}},
				{Flags: 0xc0, Type: 17, Value: []byte{2, 2, 0, 0, 0xfb, 0xf0, 0, 6, 0x15, 0x40}}, // 64496 398656
			},
			NLRI: prefixes("198.51.100.0/24"),
		})
		far.send(&Update{
			Attributes: []RawAttribute{
				{Flags: 0x40, Type: 1, Value: []byte{0}},
				{Flags: 0x40, Type: 2, Value: []byte{2, 3, 0xfb, 0xf1, 0x2f, 0x2c, 0x5b, 0xa0}}, // 64497 12076 23456
				{Flags: 0x40, Type: 3, Value: []byte{192, 0, 2, 2}},
				{Flags: 0xc0, Type: 17, Value: []byte{2, 1, 0, 6, 0x15, 0x40}}, // 398656
			},
			NLRI: prefixes("203.0.113.0/24"),
		})
		synctest.Wait()
		want := []string{"203.0.113.0/24 via 192.0.2.2: 64497 12076 398656"}
		if d := diff(want, seen(s.Received("them"))); d != "" {
			t.Errorf("received (-want +got):\n%s", d)
		}
	})
}

func TestOnBestGetsTheWholeSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		var last []Best
		cfg := passive()
		cfg.OnBest = func(b []Best) { last = b }
		cfg.Originate = []Path{testRoute("198.51.100.0/24")}
		s, _ := n.start(t, cfg)
		synctest.Wait()
		if len(last) != 1 || !last[0].Local() {
			t.Fatalf("at the start: %v", last)
		}
		far := n.connect(t, theirID, ourID)
		far.establish(theirOpen())
		far.receive()
		far.send(announcement(theirASN, theirID, "203.0.113.0/24"))
		synctest.Wait()
		if len(last) != 2 || diff([]netip.Addr{addr(theirID)}, last[1].NextHops()) != "" {
			t.Errorf("after an announcement: %v", last)
		}
		if err := s.Originate(Path{Prefix: prefix("2001:db8::/32")}); err == nil {
			t.Error("an IPv6 prefix was originated")
		}
		s.Withdraw(prefix("198.51.100.0/24"))
		far.want(&Update{Withdrawn: prefixes("198.51.100.0/24")})
		synctest.Wait()
		if len(last) != 1 {
			t.Errorf("after a withdrawal: %v", last)
		}
	})
}
