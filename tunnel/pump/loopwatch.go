package pump

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync/atomic"

	"github.com/transitd/transitd/pkg/packet"
)

// A packet that enters a tunnel again and again, each time with a lower TTL, is in
// a loop of which the tunnel is a part. The watch remembers fingerprints of one
// packet in sixteen, in a table of a fixed size that a queue has for itself: no
// lock, no allocation but for the first packet of a loop. It takes the third
// sighting for a loop: two can be a packet that was sent twice on different ways.
//
// Super packets are not looked at, because they come back in other pieces. What
// begins a connection, and what pings, is single.

const (
	watchSample = 16   // one in so many; a power of two
	watchSlots  = 1024 // a power of two
	// sightings are how often a packet has to come, each time with a lower TTL.
	sightings = 3
)

// Loop is a packet that went round.
type Loop struct {
	Source, Destination netip.Addr
}

// loopWatch is one queue's.
type loopWatch struct {
	slots    [watchSlots]sighting
	detected atomic.Uint64 // packets
	last     atomic.Pointer[Loop]
}

type sighting struct {
	print uint64
	ttl   uint8
	times uint8
}

// see takes a packet that is about to enter the tunnel.
func (w *loopWatch) see(pkt []byte, info packet.Info) {
	print, ttl := fingerprint(pkt, info)
	if print&(watchSample-1) != 0 {
		return
	}
	s := &w.slots[print/watchSample%watchSlots]
	switch {
	case s.print != print || ttl > s.ttl:
		*s = sighting{print, ttl, 1}
		return
	case ttl == s.ttl: // sent twice
		return
	}
	s.ttl = ttl
	if s.times++; s.times < sightings {
		return
	}
	s.times = sightings // it goes on
	if w.detected.Add(1)%256 == 1 {
		w.last.Store(ends(pkt, info))
	}
}

func ends(pkt []byte, info packet.Info) *Loop {
	if info.Version == 4 {
		return &Loop{netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20]))}
	}
	return &Loop{netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))}
}

// fingerprint mixes what no router changes: not the TTL, the header's checksum
// and the TOS. Of the transport it takes up to 24 bytes.
func fingerprint(pkt []byte, info packet.Info) (print uint64, ttl uint8) {
	if info.Version == 4 {
		ttl = pkt[8]
		print = mix(uint64(binary.BigEndian.Uint32(pkt[2:]))<<32|uint64(binary.BigEndian.Uint16(pkt[6:]))<<8|uint64(pkt[9]), binary.BigEndian.Uint64(pkt[12:]))
	} else {
		ttl = pkt[7]
		print = mix(binary.BigEndian.Uint64(pkt[8:])^uint64(pkt[6]), binary.BigEndian.Uint64(pkt[16:]))
		print = mix(print^binary.BigEndian.Uint64(pkt[24:]), binary.BigEndian.Uint64(pkt[32:]))
	}
	rest := pkt[min(info.Transport, len(pkt)):]
	for range 3 {
		if len(rest) < 8 {
			break
		}
		print = mix(print, binary.BigEndian.Uint64(rest))
		rest = rest[8:]
	}
	return print, ttl
}

// mix folds a product of 128 bits, as wyhash does: one multiplication.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

// Loops is how many packets were seen again in a loop, of those that are looked
// at, and the last one; nil if there was none.
func (t *Tunnel) Loops() (n uint64, last *Loop) {
	for _, o := range t.send {
		n += o.loops.detected.Load()
		if l := o.loops.last.Load(); l != nil {
			last = l
		}
	}
	return n, last
}
