package tunnel

import "sync/atomic"

// Counters are one loop's own: a single goroutine writes, anybody reads. The
// padding keeps two loops' counters out of one cache line.
type Counters struct {
	packets atomic.Uint64
	bytes   atomic.Uint64
	arrived atomic.Uint64
	drops   [NumDropReasons]atomic.Uint64
	_       [64]byte
}

// Packet counts packets that went through, and their bytes of inner IP.
func (c *Counters) Packet(packets, bytes int) {
	c.packets.Add(uint64(packets))
	c.bytes.Add(uint64(bytes))
}

// Packets is how many went through.
func (c *Counters) Packets() uint64 { return c.packets.Load() }

// Arrive counts datagrams that came from the peer's address, whatever is in them.
func (c *Counters) Arrive(datagrams int) { c.arrived.Add(uint64(datagrams)) }

// Drop counts dropped packets.
func (c *Counters) Drop(r DropReason, packets int) { c.drops[r].Add(uint64(packets)) }

// Stats is what a tunnel carried since it was made, in inner IP packets and bytes.
type Stats struct {
	TXPackets, TXBytes uint64
	RXPackets, RXBytes uint64
	// Arrived are datagrams from the peer's address, whatever was in them: what
	// tells a silent peer from one that is not understood.
	Arrived uint64
	Drops   map[string]uint64 // by DropReason.String; only what is not zero
}

// AddTX adds a sending loop's counters.
func (s *Stats) AddTX(c *Counters) {
	s.TXPackets += c.packets.Load()
	s.TXBytes += c.bytes.Load()
	s.addDrops(c)
}

// AddRX adds a receiving loop's counters.
func (s *Stats) AddRX(c *Counters) {
	s.RXPackets += c.packets.Load()
	s.RXBytes += c.bytes.Load()
	s.Arrived += c.arrived.Load()
	s.addDrops(c)
}

func (s *Stats) addDrops(c *Counters) {
	if s.Drops == nil {
		s.Drops = map[string]uint64{}
	}
	for _, r := range Reasons() {
		if n := c.drops[r].Load(); n > 0 {
			s.Drops[r.String()] += n
		}
	}
}
