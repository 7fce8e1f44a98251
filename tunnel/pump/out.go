package pump

import (
	"net/netip"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/gso"
	"github.com/transitd/transitd/tunnel/tun"
	"github.com/transitd/transitd/tunnel/udp"
)

const (
	// headroom is the longest encapsulation, in bytes.
	headroom = 64
	// tailroom is what an encapsulation may put behind a packet: padding and a tag.
	tailroom = 64
	// slot is what one read from the TUN device needs at most.
	slot = headroom + tun.MaxPacket + tailroom
	// It reads into one arena and segments into another, and sends when either
	// is short of room: 320 KB in all.
	readArena    = 2 * slot
	segmentArena = 3 * slot
	// readBatch is how many packets are read before they are sent, so that the first does not wait long.
	readBatch = 64
)

// outbound is the sending half of a loop, for one tunnel.
type outbound struct {
	t        *Tunnel
	i        int
	count    *tunnel.Counters
	overhead int // in front, and trailer at most behind
	trailer  int
	header   [tun.HeaderLen]byte
	vector   tun.Vector
	read     []byte // arena; readAt is where the next datagram begins
	segments []byte
	readAt   int
	segAt    int
	split    gso.Splitter
	batch    *udp.Batch
	icmp     []byte
	limit    bucket
	loops    loopWatch
	// sent and lost are made once, because a method value allocates.
	sent, lost func(*udp.Run)
}

func newOutbound(t *Tunnel, i int) *outbound {
	l := &outbound{
		t: t, i: i, count: &t.out[i], overhead: t.cfg.Codec.Overhead(), trailer: t.cfg.Codec.Trailer(), batch: udp.NewBatch(),
		read: make([]byte, readArena), segments: make([]byte, segmentArena), icmp: make([]byte, 0, 2048),
	}
	l.sent = func(r *udp.Run) { l.count.Packet(r.Count(), r.Bytes) }
	l.lost = func(r *udp.Run) { l.count.Drop(tunnel.DropUDPSend, r.Count()) }
	return l
}

// round reads packets until there is none or enough of them, and sends them. The
// error is unix.EAGAIN if none is left, and unix.EBADFD if the device is gone.
func (l *outbound) round() error {
	err := l.fill(l.t.dev.Queue(l.i))
	l.flush()
	return err
}

func (l *outbound) fill(q *tun.Queue) error {
	for range readBatch {
		if l.batch.Full() || len(l.read)-l.readAt < slot {
			return nil
		}
		at := l.readAt + l.overhead
		n, err := q.Read(&l.vector, &l.header, l.read[at:at+tun.MaxPacket])
		if err != nil {
			return err
		}
		if r := l.packet(gso.ParseHeader(l.header[:]), at, n); r != tunnel.DropNone {
			l.count.Drop(r, 1)
		}
	}
	return nil
}

func (l *outbound) flush() {
	if len(l.batch.Runs) > 0 {
		l.t.lanes.Flush(l.batch, l.sent, l.lost)
	}
	l.readAt, l.segAt = 0, 0
}

// packet queues the packet at l.read[at:at+n] for sending.
func (l *outbound) packet(h gso.Header, at, n int) tunnel.DropReason {
	pkt := l.read[at : at+n]
	info, fault := packet.Parse(pkt)
	if fault != packet.None {
		return tunnel.DropNotIP
	}
	if !routable(pkt, info) {
		return tunnel.DropNoRoute
	}
	pkt = pkt[:info.Len]
	mtu := l.t.MTU()
	partial := h.Flags&gso.NeedsChecksum != 0
	packet.ClampMSS(pkt, info, mtu, partial)
	if h.Type != gso.TypeNone {
		return l.super(h, pkt, info)
	}
	if partial && !gso.FinishChecksum(h, pkt) {
		return tunnel.DropBadOffload
	}
	if info.Len > mtu {
		return l.tooBig(pkt, info, mtu)
	}
	l.loops.see(pkt, info)
	start, end, r := l.t.cfg.Codec.Seal(l.read, at, info.Len)
	if r != tunnel.DropNone {
		return r
	}
	if !l.extend(l.read, start, end, info) {
		l.queue(l.read[start:end], end-start, info, info.Len)
	}
	l.readAt = end
	return tunnel.DropNone
}

// extend adds the datagram buf[start:end] to the last run, if it lies right
// behind it and may go with it: same lane and TOS, and no longer than the others.
func (l *outbound) extend(buf []byte, start, end int, info packet.Info) bool {
	if len(l.batch.Runs) == 0 {
		return false
	}
	r := &l.batch.Runs[len(l.batch.Runs)-1]
	size := len(r.Buf)
	if end-start > r.Size || size%r.Size != 0 || size+end-start > udp.MaxRunBytes || size/r.Size >= l.t.lanes.MaxRun() ||
		r.Lane != l.lane(info) || r.TOS != l.t.cfg.DSCP.outer(info.TOS) || start < size || &buf[start-size] != &r.Buf[0] {
		return false
	}
	r.Buf = buf[start-size : end]
	r.Bytes += info.Len
	return true
}

// lane is where a flow goes: always the same way.
func (l *outbound) lane(info packet.Info) int { return int(info.Flow % uint32(l.t.lanes.Count())) }

// queue adds a run of datagrams; bytes is what they carry.
func (l *outbound) queue(buf []byte, size int, info packet.Info, bytes int) {
	l.batch.Runs = append(l.batch.Runs, udp.Run{Buf: buf, Size: size, Lane: l.lane(info), TOS: l.t.cfg.DSCP.outer(info.TOS), Bytes: bytes})
}

// super cuts a super packet into segments, sealed where they are written, in
// runs that the kernel takes as a whole.
func (l *outbound) super(h gso.Header, pkt []byte, info packet.Info) tunnel.DropReason {
	if !l.split.Reset(h, pkt, info) {
		return tunnel.DropBadOffload
	}
	if mtu := l.t.MTU(); l.split.MaxSegment() > mtu {
		return l.refuse(pkt, info, mtu)
	}
	most := l.overhead + l.split.MaxSegment() + l.trailer
	perRun := evenly(l.split.Count(), min(l.t.lanes.MaxRun(), udp.MaxRunBytes/most))
	sealed := 0
	for more := true; more; {
		if l.batch.Full() || len(l.segments)-l.segAt < perRun*most {
			l.t.lanes.Flush(l.batch, l.sent, l.lost)
			l.segAt = 0
		}
		begin, bytes, size := l.segAt, 0, 0
		for range perRun {
			n := l.split.Next(l.segments[l.segAt+l.overhead:])
			if more = n > 0; !more {
				break
			}
			start, end, r := l.t.cfg.Codec.Seal(l.segments, l.segAt+l.overhead, n)
			if r != tunnel.DropNone {
				l.count.Drop(r, l.split.Count()-sealed) // those before it go
				more = false
				break
			}
			sealed++
			l.segAt = end
			size = max(size, end-start)
			bytes += n
		}
		if l.segAt > begin {
			l.queue(l.segments[begin:l.segAt], size, info, bytes)
		}
	}
	return tunnel.DropNone
}

// evenly is how many of count segments go into a run of at most most, so that
// the last run is not a short one: 64 KB are 48 segments, of which 46 fit.
func evenly(count, most int) int {
	runs := (count + most - 1) / most
	return (count + runs - 1) / runs
}

// routable is false for what is meant for the link itself: the tunnel joins two
// hosts that have nothing to say to a group.
func routable(pkt []byte, info packet.Info) bool {
	if info.Version == 4 {
		dst := netip.AddrFrom4([4]byte(pkt[16:20]))
		return !dst.IsMulticast() && pkt[16] != 255
	}
	dst := netip.AddrFrom16([16]byte(pkt[24:40]))
	return !dst.IsMulticast() && !dst.IsLinkLocalUnicast()
}
