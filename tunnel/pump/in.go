package pump

import (
	"net/netip"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/gso"
	"github.com/transitd/transitd/tunnel/tun"
	"github.com/transitd/transitd/tunnel/udp"
)

// inbound is the receiving half of a loop.
type inbound struct {
	i       int // of the queue
	rx      *udp.Receiver
	tunnels []*Tunnel                // of the table
	peers   map[netip.Addr][]*Tunnel // of the table
	reply   []byte                   // scratch for answers of the codec
	active  []*joiner                // those that packets wait in
	nobody  tunnel.Counters
}

// joiner joins what one receiving loop has for one tunnel to super packets, and
// writes them to the device.
type joiner struct {
	queue  *tun.Queue
	count  *tunnel.Counters
	c      *gso.Coalescer
	header [tun.HeaderLen]byte
	vector tun.Vector
	out    func(*gso.Super) // write; made once, because a method value allocates
	active bool             // packets may wait
}

func newJoiner(q *tun.Queue, count *tunnel.Counters, uso bool) *joiner {
	j := &joiner{queue: q, count: count, c: gso.NewCoalescer(uso)}
	j.out = j.write
	return j
}

// write gives a packet, or several joined to one, to the kernel.
func (j *joiner) write(s *gso.Super) {
	s.Header.Put(j.header[:])
	if j.queue.Write(&j.vector, &j.header, s.Parts) != nil {
		j.count.Drop(tunnel.DropTUNWrite, s.Segments)
		return
	}
	j.count.Packet(s.Segments, s.Bytes)
}

// round receives a batch and delivers it. The error is unix.EAGAIN if there is none.
func (l *inbound) round() error {
	n, err := l.rx.Receive()
	if err != nil {
		return err
	}
	l.deliver(n)
	return nil
}

func (l *inbound) deliver(n int) {
	for i := range n {
		m := l.rx.Message(i)
		l.message(&m)
	}
	for _, j := range l.active {
		j.c.Flush(j.out)
		j.active = false
	}
	l.active = l.active[:0]
	if lost := l.rx.TakeLost(); lost > 0 {
		l.blame(nil).Drop(tunnel.DropReceiveQueue, lost)
	}
}

// blame says where a datagram is counted that belongs to no tunnel.
func (l *inbound) blame(of []*Tunnel) *tunnel.Counters {
	switch {
	case len(of) > 0:
		return &of[0].in[l.i]
	case len(l.tunnels) > 0:
		return &l.tunnels[0].in[l.i]
	}
	return &l.nobody
}

func (l *inbound) message(m *udp.Message) {
	tunnels := l.peers[m.Source]
	count := 1
	if m.Size > 0 {
		count = (len(m.Buf) + m.Size - 1) / m.Size
	}
	switch {
	case len(tunnels) == 0:
		l.blame(nil).Drop(tunnel.DropWrongSource, count)
		return
	}
	for _, t := range tunnels {
		t.in[l.i].Arrive(count)
	}
	switch {
	case m.Truncated:
		l.blame(tunnels).Drop(tunnel.DropTruncated, count)
		return
	case len(m.Buf) == 0:
		l.blame(tunnels).Drop(tunnel.DropShort, 1)
		return
	}
	for buf := m.Buf; len(buf) > 0; {
		n := min(len(buf), m.Size)
		l.datagram(tunnels, buf[:n:n], m.TOS)
		buf = buf[n:]
	}
}

// datagram finds the tunnel that knows a datagram.
func (l *inbound) datagram(tunnels []*Tunnel, d []byte, tos uint8) {
	for _, t := range tunnels {
		inner, info, kind, r := t.cfg.Codec.Open(d)
		switch {
		case r == tunnel.DropWrongVNI:
			continue
		case r == tunnel.DropNone && kind == tunnel.Control:
			r = l.control(t, inner)
		case r == tunnel.DropNone && kind == tunnel.Keepalive:
		case r == tunnel.DropNone:
			r = l.packet(t, inner, info, tos)
		}
		if r != tunnel.DropNone {
			t.in[l.i].Drop(r, 1)
		}
		return
	}
	l.blame(tunnels).Drop(tunnel.DropWrongVNI, 1)
}

// control lets the codec answer. The answer is not queued: a full socket loses it, and the peer asks again.
func (l *inbound) control(t *Tunnel, message []byte) tunnel.DropReason {
	reply, r := t.cfg.Codec.Control(l.reply[:0], message)
	if r == tunnel.DropNone && len(reply) > 0 && t.lanes.Send(reply) != nil {
		t.in[l.i].Drop(tunnel.DropUDPSend, 1)
	}
	return r
}

// packet prepares an IP packet for the kernel and joins it to those before.
func (l *inbound) packet(t *Tunnel, inner []byte, info packet.Info, tos uint8) tunnel.DropReason {
	ecn, ok := packet.DecapECN(tos, info.TOS)
	if !ok {
		return tunnel.DropECNCENotECT
	}
	if ecn != info.TOS&3 {
		packet.SetECN(inner, info.Version, ecn)
	}
	packet.ClampMSS(inner, info, t.MTU(), false)
	j := t.join[l.i]
	if !j.active {
		j.active = true
		l.active = append(l.active, j)
	}
	j.c.Add(inner, info, j.out)
	return tunnel.DropNone
}
