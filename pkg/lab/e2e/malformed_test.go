package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// Message types and attributes of RFC 4271.
const (
	msgOpen, msgUpdate, msgNotification, msgKeepalive = 1, 2, 3, 4

	wellKnown, transitive, optional = 0x40, 0xc0, 0x80
)

func message(kind byte, body ...byte) []byte {
	b := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, kind)
	binary.BigEndian.PutUint16(b[16:], uint16(19+len(body)))
	return append(b, body...)
}

func attr(flags, kind byte, value ...byte) []byte {
	if len(value) > 255 {
		return append([]byte{flags | 0x10, kind, byte(len(value) >> 8), byte(len(value))}, value...)
	}
	return append([]byte{flags, kind, byte(len(value))}, value...)
}

func segment(kind byte, asns ...uint32) []byte {
	b := []byte{kind, byte(len(asns))}
	for _, a := range asns {
		b = binary.BigEndian.AppendUint32(b, a)
	}
	return b
}

func aspath(asns ...uint32) []byte { return attr(wellKnown, 2, segment(2, asns...)...) }

func nexthop(s string) []byte { return attr(wellKnown, 3, netip.MustParseAddr(s).AsSlice()...) }

func nlri(prefix string) []byte {
	p := netip.MustParsePrefix(prefix)
	return append([]byte{byte(p.Bits())}, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
}

// update has attributes, in the order given, and announces what reach has.
func update(reach []byte, attrs ...[]byte) []byte { return updateOf(nil, reach, attrs...) }

func updateOf(withdrawn, reach []byte, attrs ...[]byte) []byte {
	all := slices.Concat(attrs...)
	b := binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn)))
	b = append(b, withdrawn...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
	return message(msgUpdate, slices.Concat(b, all, reach)...)
}

// The attributes of a route of the hostile peer's that is all right.
var (
	origin = attr(wellKnown, 1, 0)
	path   = aspath(64513)
	hop    = nexthop(farLink{}.peer())
)

// open is the OPEN message of the hostile peer.
func open(version byte, asn uint16, hold uint16, id string, params ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{version}, asn)
	b = binary.BigEndian.AppendUint16(b, hold)
	b = append(append(b, netip.MustParseAddr(id).AsSlice()...), byte(len(params)))
	return message(msgOpen, append(b, params...)...)
}

func goodOpen() []byte {
	caps := []byte{1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 64513 >> 8, 64513 & 0xff}
	return open(4, 64513, 90, farLink{}.peer(), append([]byte{2, byte(len(caps))}, caps...)...)
}

// attacker is a BGP peer with no manners, on the tunnel's far end.
type attacker struct {
	net.Conn
	hello chan struct{} // closed at the first OPEN
	up    chan struct{} // closed at the first KEEPALIVE
	dead  chan struct{} // closed when the connection is
	on    func([]byte)  // gets every message; may be nil
	mu    sync.Mutex
	last  string // the NOTIFICATION that came
}

// dial connects from the far end of a tunnel; there is no listener on that side.
func (p *farRig) dial(n int) (net.Conn, error) {
	return dialBGP(p.far[n], p.links[n].peer(), p.links[n].ours())
}

func dialBGP(ns netns.NS, local, remote string) (net.Conn, error) {
	var c net.Conn
	err := ns.Do(func() (err error) {
		d := net.Dialer{
			LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: time.Second,
			// No FIN but RST at the end, as of a process that is killed, so that ports do not run out.
			Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) {
					_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
				})
			},
		}
		c, err = d.Dial("tcp4", remote+":179")
		return err
	})
	return c, err
}

// attack brings a session up, trying as often as it takes, and says how long that was.
func (p *farRig) attack(within time.Duration) (*attacker, time.Duration) {
	p.t.Helper()
	var a *attacker
	took := soon(p.t, "the hostile peer's session is up", within, func() error {
		c, err := p.dial(0)
		if err != nil {
			return err
		}
		a = newAttacker(c, nil)
		_, _ = c.Write(goodOpen())
		_, _ = c.Write(message(msgKeepalive))
		select {
		case <-a.up:
			if bgp, _ := p.session(0); bgp.State != "established" {
				<-time.After(50 * time.Millisecond) // its answer was on the way before it knew
			}
			return nil
		case <-a.dead:
			return errors.New("refused: " + a.said())
		case <-time.After(2 * time.Second):
			_ = c.Close()
			return errors.New("no answer")
		}
	})
	return a, took
}

// greeted connects until transitd says OPEN.
func (p *farRig) greeted() (a *attacker, took time.Duration) {
	p.t.Helper()
	took = soon(p.t, "transitd says OPEN", 15*time.Second, func() error {
		c, err := p.dial(0)
		if err != nil {
			return err
		}
		a = newAttacker(c, nil)
		select {
		case <-a.hello:
			return nil
		case <-a.dead:
			return errors.New("refused: " + a.said())
		case <-time.After(2 * time.Second):
			_ = c.Close()
			return errors.New("no OPEN")
		}
	})
	return a, took
}

func newAttacker(c net.Conn, on func([]byte)) *attacker {
	a := &attacker{Conn: c, on: on, hello: make(chan struct{}), up: make(chan struct{}), dead: make(chan struct{})}
	go a.read()
	return a
}

func (a *attacker) read() {
	defer close(a.dead)
	defer a.Close()
	head := make([]byte, 19)
	for established := false; ; {
		if _, err := io.ReadFull(a, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint16(head[16:])-19)
		if _, err := io.ReadFull(a, body); err != nil {
			return
		}
		if a.on != nil {
			a.on(slices.Concat(head, body))
		}
		switch head[18] {
		case msgOpen:
			close(a.hello)
		case msgNotification:
			a.mu.Lock()
			a.last = fmt.Sprintf("%d/%d", body[0], body[1])
			a.mu.Unlock()
		case msgKeepalive:
			if !established {
				established = true
				close(a.up)
			}
			_, _ = a.Write(message(msgKeepalive))
		}
	}
}

func (a *attacker) said() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

func (a *attacker) gone() bool {
	select {
	case <-a.dead:
		return true
	default:
		return false
	}
}

// told are the routes that transitd has of the hostile peer, by prefix.
func (p *farRig) told() map[string]toldRoute {
	p.t.Helper()
	var reply struct{ Routes []toldRoute }
	if err := p.ask(&reply, "bgp", "routes", "--received", "tr0"); err != nil {
		p.t.Fatal(err)
	}
	m := map[string]toldRoute{}
	for _, r := range reply.Routes {
		m[r.Prefix] = r
	}
	return m
}

type toldRoute struct {
	Prefix       string
	ASPath       []uint32 `json:"as_path"`
	NextHop      string   `json:"next_hop"`
	Accepted     bool
	Rule, Reason string
}

// bystander is the well-behaved peer, whose session and traffic nothing may disturb.
type bystander struct {
	p     *farRig
	peer  farPeer
	since time.Time
	flow  *echoStream
}

// newHostile makes a rig with a hostile peer at tr0, which does not speak yet, and BIRD at tr1.
func newHostile(t *testing.T) (*farRig, *bystander) {
	t.Helper()
	p := newPair(t, farLink{bfd: "enabled: false"}, farLink{n: 1})
	b := &bystander{p: p, peer: newBIRD(p, 1, farOptions{})}
	p.up(1, b.peer, 15*time.Second)
	b.since, b.flow = time.Now(), p.stream(1)
	return p, b
}

// unharmed holds transitd to what it owes its other neighbour.
func (b *bystander) unharmed() {
	b.p.t.Helper()
	if err := b.p.daemon.alive(); err != nil {
		b.p.t.Error(err)
	}
	sent, back, gap := b.flow.end()
	b.p.t.Logf("the other tunnel: %d sent in %v, %d back, longest gap %v", sent, time.Since(b.since).Round(time.Millisecond), back, gap)
	if gap > 500*time.Millisecond || back < sent*99/100 {
		b.p.t.Errorf("traffic through the other tunnel suffered: %d of %d back, longest gap %v", back, sent, gap)
	}
	if up := time.Duration(b.p.established(1)) * time.Second; up < time.Since(b.since)-2*time.Second {
		b.p.t.Errorf("the other session was reset: up for %v only", up)
	}
	b.p.hasRoutes(1, true, 0)
	if _, bfd := b.p.session(1); bfd.Flaps > 0 || bfd.State != "up" {
		b.p.t.Errorf("the other tunnel's BFD: %+v", bfd)
	}
	if v, err := b.peer.view(); err != nil || !v.established {
		b.p.t.Errorf("the other peer says %+v %v", v, err)
	}
	if log, err := os.ReadFile(b.p.daemon.log.Name()); err != nil || bytes.Contains(log, []byte("panic")) || bytes.Contains(log, []byte("goroutine ")) {
		b.p.t.Errorf("transitd's log tells of a panic, or cannot be read: %v", err)
	}
}

// What becomes of an UPDATE. Several are joined by "|".
const (
	isWithdrawn = "withdrawn" // treated as withdrawn (RFC 7606): nobody has the route
	isAccepted  = "accepted"
	isReset     = "reset" // the session, by a NOTIFICATION
)

// refusedBy says that the route is shown with the rule that refused it.
func refusedBy(rule string) string { return "refused " + rule }

// badUpdate is an UPDATE, and what may become of its prefix.
type badUpdate struct {
	name   string
	prefix string // 10.200.N.0/24 if left out
	msg    func(reach []byte) []byte
	want   string
	known  string // what GoBGP does instead, where that does little harm
	// longer says that the AS path is longer than that of the route before.
	longer bool
}

func with(attrs ...[]byte) func([]byte) []byte {
	return func(reach []byte) []byte { return update(reach, attrs...) }
}

func many(n int, asn uint32) []uint32 {
	list := []uint32{64513}
	for len(list) < n {
		list = append(list, asn)
	}
	return list
}

// testedUpdates are the UPDATEs that are wrong in one way each.
func testedUpdates() []badUpdate {
	two := attr(wellKnown, 2, append(segment(2, many(255, 65001)...), segment(2, many(45, 65002)...)...)...)
	ours := attr(wellKnown, 2, append(segment(2, append([]uint32{64513}, many(254, 64512)[1:]...)...), segment(2, slices.Repeat([]uint32{64512}, 46)...)...)...)
	v6 := slices.Concat([]byte{0, 2, 1, 16}, netip.MustParseAddr("fd77::2").AsSlice(), []byte{0, 48, 0x20, 0x01, 0x0d, 0xb8, 0, 0x50})
	list := []badUpdate{
		{name: "nothing wrong", msg: with(origin, path, hop), want: isAccepted},
		{name: "ORIGIN flagged optional", msg: with(attr(transitive, 1, 0), path, hop), want: isWithdrawn},
		{name: "ORIGIN not transitive", msg: with(attr(0, 1, 0), path, hop), want: isWithdrawn},
		{name: "AS_PATH flagged optional", msg: with(origin, attr(transitive, 2, segment(2, 64513)...), hop), want: isWithdrawn},
		{name: "AS_PATH flagged partial", msg: with(origin, attr(0x60, 2, segment(2, 64513)...), hop), want: isWithdrawn},
		{name: "NEXT_HOP flagged optional", msg: with(origin, path, attr(transitive, 3, 169, 254, 77, 2)), want: isWithdrawn},
		{name: "MED flagged transitive", msg: with(origin, path, hop, attr(transitive, 4, 0, 0, 0, 1)), want: isWithdrawn},
		{name: "COMMUNITIES flagged well-known", msg: with(origin, path, hop, attr(wellKnown, 8, 0, 1, 0, 1)), want: isWithdrawn},
		{name: "ORIGIN of 2 bytes", msg: with(attr(wellKnown, 1, 0, 0), path, hop), want: isWithdrawn},
		{name: "ORIGIN of 0 bytes", msg: with(attr(wellKnown, 1), path, hop), want: isWithdrawn},
		{name: "ORIGIN 9", msg: with(attr(wellKnown, 1, 9), path, hop), want: isWithdrawn},
		{name: "NEXT_HOP of 3 bytes", msg: with(origin, path, attr(wellKnown, 3, 169, 254, 77)), want: isWithdrawn},
		{name: "NEXT_HOP of 5 bytes", msg: with(origin, path, attr(wellKnown, 3, 169, 254, 77, 2, 0)), want: isWithdrawn},
		{name: "NEXT_HOP of 16 bytes", msg: with(origin, path, attr(wellKnown, 3, netip.MustParseAddr("fd77::2").AsSlice()...)), want: isWithdrawn, known: isAccepted},
		{name: "MED of 3 bytes", msg: with(origin, path, hop, attr(optional, 4, 0, 0, 1)), want: isWithdrawn},
		{name: "COMMUNITIES of 5 bytes", msg: with(origin, path, hop, attr(transitive, 8, 0, 1, 0, 1, 0)), want: isWithdrawn},
		{name: "large communities of 13 bytes", msg: with(origin, path, hop, attr(transitive, 32, make([]byte, 13)...)), want: isWithdrawn},
		{name: "AGGREGATOR of 5 bytes", msg: with(origin, path, hop, attr(transitive, 7, make([]byte, 5)...)), want: isAccepted + "|" + isWithdrawn},
		{name: "AS_PATH segment longer than the attribute", msg: with(origin, attr(wellKnown, 2, 2, 5, 0, 0, 252, 1), hop), want: isWithdrawn},
		{name: "AS_PATH segment of no ASN", msg: with(origin, attr(wellKnown, 2, 2, 0), hop), want: isWithdrawn},
		{name: "AS_PATH segment of type 9", msg: with(origin, attr(wellKnown, 2, segment(9, 64513)...), hop), want: isWithdrawn},
		{name: "AS_PATH of 2-byte ASNs", msg: with(origin, attr(wellKnown, 2, 2, 1, 252, 1), hop), want: isWithdrawn},
		{name: "attribute longer than all of them", msg: with(origin, path, hop, []byte{transitive, 8, 200, 0, 1}), want: isWithdrawn + "|" + isReset, known: isAccepted},
		{name: "attributes end in a header", msg: with(origin, path, hop, []byte{transitive}), want: isWithdrawn + "|" + isReset},
		{name: "no ORIGIN", msg: with(path, hop), want: isWithdrawn},
		{name: "no AS_PATH", msg: with(origin, hop), want: isWithdrawn},
		{name: "no NEXT_HOP", msg: with(origin, path), want: isWithdrawn},
		{name: "no attribute", msg: with(), want: isWithdrawn},
		{name: "empty AS_PATH", msg: with(origin, attr(wellKnown, 2), hop), want: refusedBy("first-as-not-neighbor") + "|" + isWithdrawn},
		{name: "AS_SET", msg: with(origin, attr(wellKnown, 2, append(segment(2, 64513), segment(1, 65001, 65002)...)...), hop), want: refusedBy("as-set")},
		{name: "AS_CONFED_SEQUENCE", msg: with(origin, attr(wellKnown, 2, append(segment(3, 65001), segment(2, 64513)...)...), hop), want: isWithdrawn + "|" + refusedBy("as-set")},
		{name: "AS_CONFED_SET", msg: with(origin, attr(wellKnown, 2, append(segment(2, 64513), segment(4, 65001)...)...), hop), want: isWithdrawn + "|" + refusedBy("as-set")},
		{name: "255 ASNs", msg: with(origin, aspath(many(255, 65001)...), hop), want: isAccepted, longer: true},
		{name: "300 ASNs in two segments", msg: with(origin, two, hop), want: isAccepted, longer: true},
		{name: "our ASN 300 times", msg: with(origin, ours, hop), want: refusedBy("own-asn-in-path") + "|" + isWithdrawn, known: isAccepted},
		{name: "our ASN", msg: with(origin, aspath(64513, 64512), hop), want: refusedBy("own-asn-in-path")},
		{name: "another first AS", msg: with(origin, aspath(65001, 64513), hop), want: refusedBy("first-as-not-neighbor")},
		{name: "AS 23456", msg: with(origin, aspath(64513, 23456), hop), want: refusedBy("as-trans")},
		{name: "AS 0", msg: with(origin, aspath(64513, 0), hop), want: isWithdrawn, known: isAccepted},
		{name: "unknown optional transitive", msg: with(origin, path, hop, attr(transitive, 200, 1, 2, 3)), want: isAccepted},
		{name: "unknown optional", msg: with(origin, path, hop, attr(optional, 201, 1, 2, 3)), want: isAccepted},
		{name: "unknown well-known", msg: with(origin, path, hop, attr(wellKnown, 202, 1, 2, 3)), want: isReset},
		{name: "next hop 0.0.0.0", msg: with(origin, path, nexthop("0.0.0.0")), want: isWithdrawn},
		{name: "next hop 224.0.0.1", msg: with(origin, path, nexthop("224.0.0.1")), want: isWithdrawn},
		{name: "next hop 255.255.255.255", msg: with(origin, path, nexthop("255.255.255.255")), want: isWithdrawn},
		{name: "next hop 127.0.0.1", msg: with(origin, path, nexthop("127.0.0.1")), want: isWithdrawn},
		{name: "next hop is our own address", msg: with(origin, path, nexthop(farLink{}.ours())), want: "any"},
		{name: "next hop is our card", msg: with(origin, path, nexthop(nodeNIC)), want: "any"},
		{name: "next hop of somewhere", msg: with(origin, path, nexthop("198.51.100.9")), want: "any"},
		{name: "ORIGIN twice", msg: with(origin, origin, path, hop), want: isAccepted},
		{name: "two different NEXT_HOPs", msg: with(origin, path, hop, nexthop("198.51.100.9")), want: isAccepted},
		// RFC 6793, section 6: a speaker of 4-octet ASNs discards AS4_PATH of another one.
		{name: "AS4_PATH from a 4-octet speaker", msg: with(origin, path, hop, attr(transitive, 17, segment(2, 64512)...)), want: isAccepted + "|" + isWithdrawn, known: refusedBy("own-asn-in-path")},
		{name: "AS4_PATH that hides our ASN", msg: with(origin, aspath(64513, 64512), hop, attr(transitive, 17, segment(2, 64513, 65001)...)), want: refusedBy("own-asn-in-path"), known: isAccepted},
		{name: "IPv6 NLRI beside IPv4", msg: with(origin, path, hop, attr(optional, 14, v6...)), want: "any"},
		{name: "IPv6 NLRI that is cut", msg: with(origin, path, hop, attr(optional, 14, v6[:len(v6)-3]...)), want: "any"},
		{name: "MP_REACH of AFI 16388, BGP-LS", msg: with(origin, path, hop, attr(optional, 14, 0x40, 4, 71, 4, 169, 254, 77, 2, 0, 0, 1, 0, 200, 1)), want: "any"},
		{name: "MP_REACH of flow specifications", msg: with(origin, path, hop, attr(optional, 14, 0, 1, 133, 0, 0, 9, 1, 24)), want: "any"},
		{name: "loopback", prefix: "127.0.0.0/8", msg: with(origin, path, hop), want: refusedBy("martian")},
		{name: "multicast", prefix: "224.0.0.0/4", msg: with(origin, path, hop), want: refusedBy("martian")},
		{name: "link-local", prefix: "169.254.0.0/16", msg: with(origin, path, hop), want: refusedBy("martian")},
		// Without a Route Server and policy.vnet nobody knows that it is ours; the table main's route is used before it.
		{name: "our card's subnet", prefix: "192.0.2.0/26", msg: with(origin, path, hop), want: "any"},
		{name: "a part of it around the tunnels' remotes", prefix: "192.0.2.8/29", msg: with(origin, path, hop), want: "any"},
		{name: "the tunnel's remote", prefix: "192.0.2.10/32", msg: with(origin, path, hop), want: "refused"},
		{name: "the other tunnel's overlay", prefix: "169.254.78.0/30", msg: with(origin, path, hop), want: "refused"},
	}
	cut := func(f func(b []byte)) func([]byte) []byte {
		return func(reach []byte) []byte { b := update(reach, origin, path, hop); f(b); return b }
	}
	return append(list,
		badUpdate{name: "NLRI of 33 bits", msg: func([]byte) []byte { return update([]byte{33, 10, 200, 0, 0, 0}, origin, path, hop) }, want: isWithdrawn + "|" + isReset},
		badUpdate{name: "NLRI of 255 bits", msg: func([]byte) []byte { return update(append([]byte{255}, make([]byte, 32)...), origin, path, hop) }, want: isWithdrawn + "|" + isReset},
		badUpdate{name: "NLRI longer than the message", msg: func([]byte) []byte { return update([]byte{24, 10, 200}, origin, path, hop) }, want: isWithdrawn + "|" + isReset},
		badUpdate{name: "withdrawn routes longer than the message", msg: cut(func(b []byte) { b[19], b[20] = 0xff, 0xff }), want: isWithdrawn + "|" + isReset},
		badUpdate{name: "attributes longer than the message", msg: cut(func(b []byte) { b[21], b[22] = 0xff, 0xff }), want: isWithdrawn + "|" + isReset},
		badUpdate{name: "attributes that are longer than said", msg: cut(func(b []byte) { b[22] -= 3 }), want: isWithdrawn + "|" + isReset, known: isAccepted},
		badUpdate{name: "withdrawal of 33 bits", msg: func(reach []byte) []byte { return updateOf([]byte{33, 1, 2, 3, 4, 5}, reach, origin, path, hop) }, want: isWithdrawn + "|" + isReset},
		badUpdate{name: "MP_REACH twice", msg: with(origin, path, hop, attr(optional, 14, v6...), attr(optional, 14, v6...)), want: isReset + "|" + isWithdrawn},
	)
}

// settled waits until a good route is known, and returns it; refused is as good here.
func (p *farRig) settled(a *attacker, prefix string) (r toldRoute) {
	p.t.Helper()
	soon(p.t, "a good route is known", 5*time.Second, func() error {
		var ok bool
		if r, ok = p.told()[prefix]; !ok {
			return fmt.Errorf("no %s; the session is gone: %t %s", prefix, a.gone(), a.said())
		}
		return nil
	})
	return r
}

// outcome says what became of a prefix, after the UPDATE and a good one behind it.
func (p *farRig) outcome(a *attacker, prefix, sentinel string) (string, toldRoute) {
	p.t.Helper()
	var got string
	var r toldRoute
	soon(p.t, "the UPDATE is dealt with", 5*time.Second, func() error {
		if a.gone() {
			got = isReset + " " + a.said()
			return nil
		}
		told := p.told()
		if _, ok := told[sentinel]; !ok {
			return fmt.Errorf("neither taken nor refused: %v", told)
		}
		var there bool
		switch r, there = told[prefix]; {
		case !there:
			got = isWithdrawn
		case r.Accepted:
			got = isAccepted
		default:
			got = refusedBy(r.Rule)
		}
		return nil
	})
	return got, r
}

// TestMalformedUpdates: each is accepted, refused with a reason, treated as
// withdrawn, or ends its own session, and nothing else.
func TestMalformedUpdates(t *testing.T) {
	p, other := newHostile(t)
	a, took := p.attack(10 * time.Second)
	t.Logf("session up after %v", took)
	seen := map[string]int{}
	for i, c := range testedUpdates() {
		prefix, sentinel := fmt.Sprintf("10.200.%d.0/24", i), fmt.Sprintf("10.201.%d.0/24", i)
		if c.prefix != "" {
			prefix = c.prefix
		}
		again := time.Duration(0)
		if a.gone() {
			a, again = p.attack(15 * time.Second)
		}
		// The prefix is there already, all right: what becomes of the UPDATE becomes of this route.
		_, _ = a.Write(update(nlri(prefix), origin, path, hop))
		before := p.settled(a, prefix)
		_, _ = a.Write(c.msg(nlri(prefix)))
		_, _ = a.Write(update(nlri(sentinel), origin, path, hop))
		got, r := p.outcome(a, prefix, sentinel)
		seen[strings.Fields(got)[0]]++
		note := ""
		if again > time.Second {
			note = fmt.Sprintf(" (session was back after %v)", again.Round(10*time.Millisecond))
		}
		t.Logf("%-42s %s %s%s", c.name, got, r.Reason, note)
		if got == isAccepted && c.longer && len(r.ASPath) == len(before.ASPath) {
			t.Errorf("%s: the route from before is still used: AS path %v", c.name, r.ASPath)
		}
		if c.known != "" && strings.HasPrefix(got, c.known) {
			t.Logf("%-42s known: not as the RFCs have it", "")
		} else if !strings.Contains(c.want, "any") && !slices.ContainsFunc(strings.Split(c.want, "|"), func(w string) bool { return strings.HasPrefix(got, w) }) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		p.explained(prefix, got, r)
	}
	t.Logf("%d UPDATEs: %v", len(testedUpdates()), seen)
	// What was treated as withdrawn is told by the log alone.
	log, err := os.ReadFile(p.daemon.log.Name())
	if n := bytes.Count(log, []byte("treated as withdraw")); err != nil || n < seen[isWithdrawn]-2 {
		t.Errorf("%d lines of the log tell of %d UPDATEs that were treated as withdrawn: %v", n, seen[isWithdrawn], err)
	}
	if bgp, _ := p.session(0); bgp.Malformed < seen[isWithdrawn]-2 {
		t.Errorf("%d malformed UPDATEs are counted, %d were treated as withdrawn", bgp.Malformed, seen[isWithdrawn])
	}
	other.unharmed()
}

// explained holds the kernel and "transitctl explain" to what became of a route.
func (p *farRig) explained(prefix, got string, r toldRoute) {
	p.t.Helper()
	if strings.HasPrefix(got, isReset) {
		// The session's end is told in the status.
		soon(p.t, "the reason of the reset is shown", 3*time.Second, func() error {
			if bgp, _ := p.session(0); bgp.LastError == "" {
				return fmt.Errorf("%+v", bgp)
			}
			return nil
		})
		return
	}
	accepted := got == isAccepted
	soon(p.t, "the kernel has "+prefix, time.Second, func() error {
		line := p.routes()[prefix]
		if (line != "") != accepted || accepted && !strings.Contains(line, " dev tr0 ") {
			return fmt.Errorf("table 7003 has %q, but the route is %s", line, got)
		}
		return nil
	})
	if strings.HasPrefix(got, "refused") {
		var e struct{ Received []toldRoute }
		if err := p.ask(&e, "explain", prefix); err != nil {
			p.t.Error(err)
		}
		if r.Reason == "" || !slices.ContainsFunc(e.Received, func(x toldRoute) bool { return x.Reason == r.Reason }) {
			p.t.Errorf("%s is not explained: %q, %+v", prefix, r.Reason, e)
		}
	}
}

// TestMalformedMessages: what is not even a message ends its session, if anything.
func TestMalformedMessages(t *testing.T) {
	p, other := newHostile(t)
	header := func(f func(b []byte)) []byte { b := message(msgKeepalive); f(b); return b }
	r := rand.New(rand.NewPCG(7, 7))
	noise := make([]byte, 65536)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, c := range []struct {
		name string
		msg  []byte
	}{
		{"marker", header(func(b []byte) { b[3] = 0 })},
		{"length 0", header(func(b []byte) { b[17] = 0 })},
		{"length 18", header(func(b []byte) { b[17] = 18 })},
		{"length 4097", header(func(b []byte) { b[16], b[17] = 16, 1 })},
		{"length 65535", header(func(b []byte) { b[16], b[17] = 255, 255 })},
		{"type 0", message(0)},
		{"type 9", message(9, 1, 2, 3)},
		{"KEEPALIVE with a body", message(msgKeepalive, 1)},
		{"UPDATE with no body", message(msgUpdate)},
		{"OPEN in an established session", goodOpen()},
		{"NOTIFICATION with no body", message(msgNotification)},
		{"ROUTE-REFRESH of 1 byte", message(5, 1)},
		{"64 KB of noise", noise},
	} {
		a, took := p.attack(15 * time.Second)
		_, _ = a.Write(c.msg)
		select {
		case <-a.dead:
			t.Logf("%-32s session ended: %q (it was up after %v)", c.name, a.said(), took.Round(10*time.Millisecond))
		case <-time.After(500 * time.Millisecond):
			t.Logf("%-32s ignored (the session was up after %v)", c.name, took.Round(10*time.Millisecond))
			_ = a.Close()
			<-a.dead
		}
		if err := p.daemon.alive(); err != nil {
			t.Fatal(c.name, err)
		}
	}
	other.unharmed()
}

// TestMalformedOpens: hostile handshakes, and floods of NOTIFICATIONs and of connections.
func TestMalformedOpens(t *testing.T) {
	p, other := newHostile(t)
	noise := bytes.Repeat([]byte{0xff, 0x13, 0x37, 0}, 1024)
	for _, c := range []struct {
		name string
		msg  []byte
	}{
		{"version 3", open(3, 64513, 90, farLink{}.peer())},
		{"another AS", open(4, 65001, 90, farLink{}.peer())},
		{"router ID 0.0.0.0", open(4, 64513, 90, "0.0.0.0")},
		{"hold time 1", open(4, 64513, 1, farLink{}.peer())},
		{"parameters that are cut", open(4, 64513, 90, farLink{}.peer(), 2, 200, 1, 4)},
		{"capability that is cut", open(4, 64513, 90, farLink{}.peer(), 2, 2, 65, 4)},
		{"AS capability of 1 byte", open(4, 64513, 90, farLink{}.peer(), 2, 3, 65, 1, 0)},
		{"unknown parameter", open(4, 64513, 90, farLink{}.peer(), 77, 1, 0)},
		{"an OPEN of 10 bytes", message(msgOpen, 4, 252, 1, 0, 90, 1, 2, 3, 4, 0)[:28]},
		{"noise", noise[:4096]},
		{"UPDATE first", update(nlri("10.200.0.0/24"), origin, path, hop)},
		{"NOTIFICATION first", message(msgNotification, 6, 2)},
	} {
		a, took := p.greeted()
		_, _ = a.Write(c.msg)
		select {
		case <-a.dead:
			t.Logf("OPEN: %-26s ended: %q (transitd said OPEN after %v)", c.name, a.said(), took.Round(10*time.Millisecond))
		case <-time.After(300 * time.Millisecond):
			t.Logf("OPEN: %-26s no answer (transitd said OPEN after %v)", c.name, took.Round(10*time.Millisecond))
			_ = a.Close()
			<-a.dead
		}
	}
	_, took := p.floodNotifications(3 * time.Second)
	t.Logf("a good session is up %v after the flood", took)
	other.unharmed()
}

// floodNotifications opens connections as fast as it goes, each with
// NOTIFICATIONs before or after an OPEN. Then a good session must be possible.
func (p *farRig) floodNotifications(d time.Duration) (connections int, took time.Duration) {
	p.t.Helper()
	bad := message(msgNotification, 6, 4)
	ended := 0
	for at := time.Now(); time.Since(at) < d; connections++ {
		c, err := p.dial(0)
		if err != nil {
			continue
		}
		if connections%2 == 0 {
			_, _ = c.Write(goodOpen())
		}
		_, _ = c.Write(bytes.Repeat(bad, 100))
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, os.ErrDeadlineExceeded) {
			ended++
		}
		_ = c.Close()
	}
	p.t.Logf("%d connections in %v, %d of them ended by transitd, 100 NOTIFICATIONs in each", connections, d, ended)
	a, took := p.attack(15 * time.Second)
	_, _ = a.Write(update(nlri("10.202.0.0/24"), origin, path, hop))
	soon(p.t, "a good route of the hostile peer", 3*time.Second, func() error {
		if p.routes()["10.202.0.0/24"] == "" {
			return fmt.Errorf("told %v, kernel %v", p.told(), p.routes())
		}
		return nil
	})
	_ = a.Close()
	<-a.dead
	return connections, took
}

// TestMalformedFlaps: 1,000 prefixes a second come and go through one tunnel.
func TestMalformedFlaps(t *testing.T) {
	p, other := newHostile(t)
	a, _ := p.attack(10 * time.Second)
	const perTick, flaps = 10, 5000 // every 10 ms
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	prefix := func(i int) []byte { return []byte{24, 10, byte(210 + i/256), byte(i % 256)} } // 1,000 of them
	for i := 0; i < flaps; i += perTick {
		<-tick.C
		var reach, withdrawn []byte
		for k := range perTick {
			reach = append(reach, prefix((i+k)%1000)...)
			withdrawn = append(withdrawn, prefix((i+k+500)%1000)...)
		}
		_, _ = a.Write(update(reach, origin, aspath(64513, uint32(65000+i%7)), hop)) // and it is another path each time
		_, _ = a.Write(updateOf(withdrawn, nil))
	}
	took := time.Since(start)
	var all []byte
	for i := range 1000 {
		all = append(all, prefix(i)...)
	}
	_, _ = a.Write(updateOf(all[:2000], nil))
	_, _ = a.Write(updateOf(all[2000:], nil))
	_, _ = a.Write(update(nlri("10.202.0.0/24"), origin, path, hop))
	settled := soon(t, "the kernel has what was told last", 10*time.Second, func() error {
		if have := p.routes(); len(have) != 3 || have["10.202.0.0/24"] == "" {
			return fmt.Errorf("%d routes in table 7003; session gone: %t %s", len(have), a.gone(), a.said())
		}
		return nil
	})
	t.Logf("%d flaps in %v; the kernel has the last of them %v after", flaps, took.Round(time.Millisecond), settled)
	if a.gone() {
		t.Errorf("the flapping session ended: %s", a.said())
	}
	if out, err := output(p.nva.Command(context.Background(), "ip", "-s", "link", "show", "tr0")); err != nil {
		t.Error(out, err)
	}
	other.unharmed()
	_ = a.Close()
	<-a.dead
	t.Logf("routes gone %v after the connection was reset", soon(t, "the hostile peer's routes are gone", failover, func() error {
		if have := p.routes(); len(have) != 2 {
			return fmt.Errorf("%v", have)
		}
		return nil
	}))
}
