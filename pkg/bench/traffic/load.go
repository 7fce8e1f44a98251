package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

const (
	udpHeader = 8
	maxFlows  = 1024
	maxRound  = 4096 // weights of a load's sizes together
	maxIP     = 65535
)

// Size is a share of packets of one length.
type Size struct {
	// Bytes is the length of the whole IP packet: the UDP payload and 28 bytes with
	// IPv4, 48 with IPv6. What identifies a packet takes 16 bytes of payload, so 44
	// is the least with IPv4 and 64 with IPv6; less is an error.
	Bytes int
	// Weight is how many packets of the length there are in a round of all sizes.
	Weight int
}

// Fixed is all packets of one length in bytes of IP packet.
func Fixed(bytes int) []Size { return []Size{{Bytes: bytes, Weight: 1}} }

// IMIX is the usual mix of packet lengths, 28 x 64, 16 x 570 and 4 x 1400 bytes; the
// largest is what fits the tunnel's MTU of 1,400. The mean is 344 bytes.
func IMIX() []Size { return []Size{{64, 28}, {570, 16}, {1400, 4}} }

// Endpoint is one end of the traffic.
type Endpoint struct {
	// NS is where its sockets are; without a name it is the caller's namespace.
	NS   netns.NS
	Addr netip.Addr
}

// Load is a stream of packets from one endpoint to another.
type Load struct {
	From, To Endpoint
	// Port is the sink's UDP port; with 0 the kernel chooses.
	Port uint16
	// Flows is the number of source ports, 0 is 1. A burst is of one flow, bursts take turns.
	Flows int
	Sizes []Size
	// PPS is the rate in packets per second; with 0 it is as fast as possible.
	PPS      float64
	Duration time.Duration
	// Segment hands the kernel whole bursts with UDP_SEGMENT, if all packets are of one size
	// and a burst has more than one. It makes the generator several times cheaper, but a device that can take such
	// bursts gets them whole: what is measured then is not a path for single packets any more,
	// which is why it is not the default.
	Segment bool
}

// validate returns the load with its defaults, or what is wrong with it.
func (l Load) validate() (Load, error) {
	l.From.Addr, l.To.Addr = l.From.Addr.Unmap(), l.To.Addr.Unmap()
	if l.Flows == 0 {
		l.Flows = 1
	}
	switch {
	case !l.From.Addr.IsValid() || !l.To.Addr.IsValid() || l.From.Addr.Is4() != l.To.Addr.Is4():
		return l, fmt.Errorf("from %s to %s: two addresses of one family are needed", l.From.Addr, l.To.Addr)
	case l.From.Addr.Zone() != "" || l.To.Addr.Zone() != "":
		return l, fmt.Errorf("from %s to %s: addresses with a zone are not supported", l.From.Addr, l.To.Addr)
	case l.Flows < 0 || l.Flows > maxFlows:
		return l, fmt.Errorf("%d flows: 1 to %d are possible", l.Flows, maxFlows)
	case !(l.PPS >= 0): // not a number, too
		return l, fmt.Errorf("%g packets per second", l.PPS)
	case l.Duration <= 0:
		return l, fmt.Errorf("a duration of %s", l.Duration)
	case len(l.Sizes) == 0:
		return l, errors.New("no packet sizes")
	}
	total := 0
	for _, s := range l.Sizes {
		if least := l.overhead() + headerLen; s.Bytes < least || s.Bytes > maxIP {
			return l, fmt.Errorf("a packet of %d bytes: %d to %d are possible", s.Bytes, least, maxIP)
		}
		if s.Weight < 1 || s.Weight > maxRound {
			return l, fmt.Errorf("weight %d of %d-byte packets: 1 to %d are possible", s.Weight, s.Bytes, maxRound)
		}
		total += s.Weight
	}
	if total > maxRound {
		return l, fmt.Errorf("weights of %d together: up to %d are possible", total, maxRound)
	}
	return l, nil
}

// overhead is the bytes of a packet's IP and UDP headers.
func (l Load) overhead() int {
	if l.To.Addr.Is4() {
		return 20 + udpHeader
	}
	return 40 + udpHeader
}

// round is the payload lengths of a round in the order in which each flow sends
// them. Sizes are spread evenly (smooth weighted round robin), so that the load
// is the same over any few packets and not a train of large ones now and then.
func (l Load) round() []int {
	total := 0
	for _, s := range l.Sizes {
		total += s.Weight
	}
	credit := make([]int, len(l.Sizes))
	round := make([]int, 0, total)
	for range total {
		best := 0
		for i, s := range l.Sizes {
			credit[i] += s.Weight
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		round = append(round, l.Sizes[best].Bytes-l.overhead())
	}
	return round
}

// single reports whether all lengths of a round are the same.
func single(round []int) bool {
	for _, n := range round {
		if n != round[0] {
			return false
		}
	}
	return true
}
