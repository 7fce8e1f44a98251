package pump

import (
	"time"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/tun"
)

// The kernel itself refuses what does not fit the device's MTU, before the
// packet gets here. This file is for a device whose MTU is larger than the
// tunnel's: somebody raised it by hand, the path has become narrower than what
// IPv6 needs, or the packet was already on its way when the MTU fell.

// errorsPerSecond bounds ICMP errors (RFC 1812, section 4.3.2.8; RFC 4443,
// section 2.4 f), errorBurst how many may come at once.
const (
	errorsPerSecond = 100
	errorBurst      = 50
)

// tooBig fragments a packet that may be, and tells the sender of one that may not.
func (l *outbound) tooBig(pkt []byte, info packet.Info, mtu int) tunnel.DropReason {
	if !info.DF {
		return l.fragment(pkt, info, mtu)
	}
	return l.refuse(pkt, info, mtu)
}

// refuse drops a packet and tells its sender the MTU.
func (l *outbound) refuse(pkt []byte, info packet.Info, mtu int) tunnel.DropReason {
	src := l.t.icmp4
	if info.Version == 6 {
		src = l.t.icmp6
	}
	if !src.IsValid() || !l.limit.take(time.Now()) {
		return tunnel.DropTooBig
	}
	msg := packet.TooBig(l.icmp[:0], src, pkt, info, mtu)
	l.header = [tun.HeaderLen]byte{}
	if len(msg) > 0 && l.t.dev.Queue(l.i).Write(&l.vector, &l.header, [][]byte{msg}) != nil {
		l.count.Drop(tunnel.DropTUNWrite, 1)
	}
	return tunnel.DropTooBig
}

// fragment sends an IPv4 packet in pieces (RFC 791, section 3.2).
func (l *outbound) fragment(pkt []byte, info packet.Info, mtu int) tunnel.DropReason {
	for done := 0; done < info.Len-info.Transport; {
		if l.batch.Full() || len(l.segments)-l.segAt < l.overhead+mtu+l.trailer {
			l.t.lanes.Flush(l.batch, l.sent, l.lost)
			l.segAt = 0
		}
		at := l.segAt + l.overhead
		n, next := packet.Fragment4(l.segments[at:], pkt, info, mtu, done)
		if n == 0 {
			return tunnel.DropTooBig
		}
		start, end, r := l.t.cfg.Codec.Seal(l.segments, at, n)
		if r != tunnel.DropNone {
			return r
		}
		l.queue(l.segments[start:end], end-start, info, n)
		l.segAt, done = end, next
	}
	return tunnel.DropNone
}

// bucket is a token bucket; the zero value is full.
type bucket struct {
	used float64
	at   time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*errorsPerSecond)
	b.at = now
	if b.used+1 > errorBurst {
		return false
	}
	b.used++
	return true
}
