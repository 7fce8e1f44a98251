package bfd

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

const (
	ours   = 0x11111111 // discriminators
	theirs = 0x22222222
)

// local and remote are the ends of the pure tests.
func local() netip.Addr  { return netip.MustParseAddr("198.51.100.1") }
func remote() netip.Addr { return netip.MustParseAddr("198.51.100.2") }

// epoch is when the tests' time begins.
func epoch() time.Time { return time.Unix(1_700_000_000, 0) }

// rig is a machine with its clock and the packets it wants sent.
type rig struct {
	*machine
	t       *testing.T
	now     time.Time
	sent    []packet
	changes []Change
}

func newRig(t *testing.T, edit func(*Config)) *rig {
	t.Helper()
	c := Config{Local: local(), Peer: remote()}
	if edit != nil {
		edit(&c)
	}
	c, err := c.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, machine: newMachine(c, ours, rand.New(rand.NewPCG(1, 2)), epoch()), now: epoch()}
}

func (r *rig) keep(out output) {
	if out.send {
		r.sent = append(r.sent, out.packet)
	}
	if out.changed {
		r.changes = append(r.changes, out.change)
	}
}

// pass plays the time up to a moment, with every deadline in it.
func (r *rig) pass(d time.Duration) {
	for end := r.now.Add(d); ; {
		t, ok := r.deadline()
		if !ok || t.After(end) {
			r.now = end
			return
		}
		if t.After(r.now) {
			r.now = t
		}
		r.keep(r.tick(r.now))
	}
}

// hear passes a packet in, and ticks as the loop does.
func (r *rig) hear(p packet) {
	var b [packetLen]byte
	p.encode(&b)
	r.keep(r.receive(r.now, datagram{b[:], remote(), 255}))
	r.keep(r.tick(r.now))
}

// last returns the last packet sent.
func (r *rig) last() packet {
	r.t.Helper()
	if len(r.sent) == 0 {
		r.t.Fatal("nothing was sent")
	}
	return r.sent[len(r.sent)-1]
}

// theirs is the peer's packet in a state; it knows us unless it is down.
func from(s State) packet {
	p := packet{state: s, multiplier: 3, mine: theirs, yours: ours, minTx: 300 * time.Millisecond, minRx: 300 * time.Millisecond}
	if s != Up {
		p.minTx = time.Second
	}
	return p
}

// up brings the session up, as the end that hears Init, and past its Poll Sequence.
func (r *rig) up() {
	r.t.Helper()
	r.pass(0)
	r.hear(from(Init))
	p := from(Up)
	p.final = true
	r.hear(p)
	if r.state != Up || r.polling {
		r.t.Fatalf("the session is %s, polling %t", r.state, r.polling)
	}
}

// TestStateTable is the whole of RFC 5880, section 6.8.6, and the drawing of 6.2.
func TestStateTable(t *testing.T) {
	t.Parallel()
	const timeout State = 9
	for _, c := range []struct {
		in, event, want State
		diagnostic      Diagnostic
	}{
		{Down, AdminDown, Down, PathDown},
		{Down, Down, Init, PathDown},
		{Down, Init, Up, NoDiagnostic},
		{Down, Up, Down, PathDown},
		{Down, timeout, Down, PathDown},
		{Init, AdminDown, Down, NeighborSignaledDown},
		{Init, Down, Init, PathDown},
		{Init, Init, Up, NoDiagnostic},
		{Init, Up, Up, NoDiagnostic},
		{Init, timeout, Down, DetectionTimeExpired},
		{Up, AdminDown, Down, NeighborSignaledDown},
		{Up, Down, Down, NeighborSignaledDown},
		{Up, Init, Up, PathDown},
		{Up, Up, Up, PathDown},
		{Up, timeout, Down, DetectionTimeExpired},
		{AdminDown, AdminDown, AdminDown, PathDown},
		{AdminDown, Down, AdminDown, PathDown},
		{AdminDown, Init, AdminDown, PathDown},
		{AdminDown, Up, AdminDown, PathDown},
		{AdminDown, timeout, AdminDown, PathDown},
	} {
		t.Run(c.in.String()+" hears "+c.event.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.state, r.diagnostic = c.in, PathDown // one that shows whether it was touched
			if c.event == timeout {
				r.peer.multiplier, r.heard, r.detect = 3, r.now, true
				r.pass(900 * time.Millisecond)
			} else {
				r.hear(from(c.event))
			}
			if r.state != c.want || r.diagnostic != c.diagnostic {
				t.Errorf("got %s, %s; want %s, %s", r.state, r.diagnostic, c.want, c.diagnostic)
			}
			if changed := len(r.changes) > 0; changed != (c.in != c.want) {
				t.Errorf("changes %+v", r.changes)
			}
			for _, ch := range r.changes {
				if ch.PeerAdminDown != (c.event == AdminDown) || ch.Failure() != (c.in == Up && c.want == Down && c.event != AdminDown) {
					t.Errorf("change %+v, failure %t", ch, ch.Failure())
				}
			}
		})
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	type input struct {
		p    packet
		from netip.Addr
		ttl  int
	}
	for _, c := range []struct {
		name     string
		multihop bool
		state    State
		edit     func(*input)
		want     Drop
	}{
		{"good", false, Up, func(*input) {}, dropNone},
		{"stranger", false, Up, func(i *input) { i.from = local() }, DropPeer},
		{"one hop away", false, Up, func(i *input) { i.ttl = 254 }, DropTTL},
		{"no TTL known", false, Up, func(i *input) { i.ttl = -1 }, DropTTL},
		{"multihop, a router away", true, Up, func(i *input) { i.ttl = 254 }, dropNone},
		{"multihop, two routers away", true, Up, func(i *input) { i.ttl = 253 }, DropTTL},
		{"our predecessor's", false, Up, func(i *input) { i.p.yours++ }, DropUnknownSession},
		{"down knows nobody", false, Up, func(i *input) { i.p.state, i.p.yours = Down, 0 }, dropNone},
		{"admin-down knows nobody", false, Up, func(i *input) { i.p.state, i.p.yours = AdminDown, 0 }, dropNone},
		{"init without us", false, Up, func(i *input) { i.p.state, i.p.yours = Init, 0 }, DropNoSession},
		{"up without us", false, Down, func(i *input) { i.p.yours = 0 }, DropNoSession},
		{"we are stopped", false, AdminDown, func(*input) {}, DropAdminDown},
		{"nonsense", false, Up, func(i *input) { i.p.multiplier = 0 }, DropMultiplier},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *Config) { cfg.Multihop = c.multihop })
			r.state = c.state
			in := input{from(Up), remote(), 255}
			c.edit(&in)
			var b [packetLen]byte
			in.p.encode(&b)
			r.receive(r.now, datagram{b[:], in.from, in.ttl})
			var want [DropReasons]uint64
			if c.want != dropNone {
				want[c.want] = 1
			}
			if r.dropped != want || (r.rx == 1) != (c.want == dropNone) {
				t.Errorf("dropped %v, received %d; want %s", r.dropped, r.rx, c.want)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		edit func(*Config)
		ok   bool
	}{
		{"default", func(*Config) {}, true},
		{"10 ms", func(c *Config) { c.Interval = MinInterval }, true},
		{"a minute", func(c *Config) { c.Interval = MaxInterval }, true},
		{"mapped", func(c *Config) { c.Peer = netip.AddrFrom16(c.Peer.As16()) }, true},
		{"too fast", func(c *Config) { c.Interval = MinInterval - 1 }, false},
		{"too slow", func(c *Config) { c.Interval = MaxInterval + 1 }, false},
		{"no peer", func(c *Config) { c.Peer = netip.Addr{} }, false},
		{"no local", func(c *Config) { c.Local = netip.Addr{} }, false},
		{"two families", func(c *Config) { c.Peer = netip.IPv6LinkLocalAllNodes() }, false},
		{"oneself", func(c *Config) { c.Peer = c.Local }, false},
		{"any", func(c *Config) { c.Local = netip.IPv4Unspecified() }, false},
		{"many", func(c *Config) { c.Peer = netip.MustParseAddr("224.0.0.1") }, false},
	} {
		cfg := Config{Local: local(), Peer: remote()}
		c.edit(&cfg)
		if got, err := cfg.withDefaults(); (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	got, err := Config{Local: local(), Peer: remote()}.withDefaults()
	if err != nil || got.Interval != 300*time.Millisecond || got.Multiplier != 3 {
		t.Errorf("defaults are %+v, %v", got, err)
	}
}
