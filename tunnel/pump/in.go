package pump

import (
	"errors"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/tun"
	"github.com/transitd/transitd/tunnel/udp"
)

// retryMS is how long a loop rests after an error that it does not know, in milliseconds.
const retryMS = 100

// inbound is the loop of one receiver.
type inbound struct {
	e     *Endpoint
	i     int
	rx    *udp.Receiver
	table *table
	reply []byte // scratch for answers of the codec
}

func newInbound(e *Endpoint, i int) *inbound {
	return &inbound{e: e, i: i, rx: e.receivers[i], reply: make([]byte, 0, 256)}
}

func (l *inbound) run() {
	failing := false
	for {
		if t := l.e.table.Load(); t != l.table {
			l.table = t
			t.adopted.Done()
		}
		if l.e.stop.Load() {
			return
		}
		n, err := l.rx.Receive()
		switch {
		case err == nil:
			failing = false
			l.deliver(n)
		case errors.Is(err, unix.EAGAIN):
			l.e.bells[l.i].wait(l.rx.FD(), -1)
		default:
			if !failing { // the card went down, for example
				l.e.log.Warn("receiving fails; trying on", zap.Stringer("local", l.e.cfg.Local), zap.Error(err))
				failing = true
			}
			l.e.bells[l.i].wait(-1, retryMS)
		}
	}
}

func (l *inbound) deliver(n int) {
	for i := range n {
		d := l.rx.Datagram(i)
		l.datagram(&d)
	}
	if lost := l.rx.TakeLost(); lost > 0 {
		l.blame(nil).Drop(tunnel.DropReceiveQueue, lost)
	}
}

// blame says where a datagram is counted that belongs to no tunnel.
func (l *inbound) blame(of []*Tunnel) *tunnel.Counters {
	switch {
	case len(of) > 0:
		return &of[0].in[l.i]
	case len(l.table.tunnels) > 0:
		return &l.table.tunnels[0].in[l.i]
	}
	return &tunnel.Counters{} // no tunnel, nobody to tell
}

func (l *inbound) datagram(d *udp.Datagram) {
	tunnels := l.table.peers[d.Source]
	if len(tunnels) == 0 {
		l.blame(nil).Drop(tunnel.DropWrongSource, 1)
		return
	}
	if d.Truncated {
		l.blame(tunnels).Drop(tunnel.DropTruncated, 1)
		return
	}
	for _, t := range tunnels {
		inner, info, kind, r := t.cfg.Codec.Open(d.Payload())
		if r == tunnel.DropWrongVNI {
			continue
		}
		if r == tunnel.DropNone && kind == tunnel.Control {
			r = l.control(t, inner)
		} else if r == tunnel.DropNone {
			// inner is a part of d.Buf up to the same end of memory, so this is where it begins.
			off := cap(d.Buf) - cap(inner)
			r = l.packet(t, d.Buf[:off+len(inner)], off, info, d.TOS)
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

// packet gives the IP packet buf[off:] to the kernel.
func (l *inbound) packet(t *Tunnel, buf []byte, off int, info packet.Info, tos uint8) tunnel.DropReason {
	inner := buf[off:]
	ecn, ok := packet.DecapECN(tos, info.TOS)
	if !ok {
		return tunnel.DropECNCENotECT
	}
	if ecn != info.TOS&3 {
		packet.SetECN(inner, info.Version, ecn)
	}
	packet.ClampMSS(inner, info, t.cfg.MTU, false)
	start := off - tun.HeaderLen
	clear(buf[start:off]) // a virtio-net header that asks for nothing
	if t.dev.Queue(l.i).Write(buf[start:]) != nil {
		return tunnel.DropTUNWrite
	}
	t.in[l.i].Packet(1, len(inner))
	return tunnel.DropNone
}
