package pump

import (
	"fmt"
	"net/netip"

	"github.com/transitd/transitd/tunnel"
)

// minimumIPv6 is the smallest MTU of a device that carries IPv6 (RFC 8200, section 5).
const minimumIPv6 = 1280

// exactSealer is a codec that pads, and can leave that out.
type exactSealer interface {
	SealExactly(buf []byte, off, n int) (start, end int, r tunnel.DropReason)
}

// resizer is a codec that has to know the MTU.
type resizer interface{ SetMTU(mtu int) }

// MTU is the largest inner packet now, in bytes.
func (t *Tunnel) MTU() int { return int(t.mtu.Load()) }

// SetMTU changes the largest inner packet, in bytes: the device's MTU, by which
// the kernel refuses or cuts what does not fit, the MSS of TCP, and padding. A
// device with IPv6 does not go below 1280; then the loops refuse the rest.
func (t *Tunnel) SetMTU(mtu int) error {
	t.mtu.Store(int64(mtu))
	if c, ok := t.cfg.Codec.(resizer); ok {
		c.SetMTU(mtu)
	}
	if t.icmp6.IsValid() {
		mtu = max(mtu, minimumIPv6)
	}
	return t.dev.SetMTU(mtu)
}

// Probe sends the IP packet to the peer past the device and its MTU, so that it
// can be longer than what the tunnel carries now, and without padding. outer is
// the length of the outer IP packet. The error is unix.EMSGSIZE if our own card
// does not take it. Any goroutine may call it; it is not for traffic.
func (t *Tunnel) Probe(pkt []byte) (outer int, err error) {
	buf := make([]byte, headroom+len(pkt)+tailroom)
	copy(buf[headroom:], pkt)
	seal := t.cfg.Codec.Seal
	if c, ok := t.cfg.Codec.(exactSealer); ok {
		seal = c.SealExactly
	}
	start, end, r := seal(buf, headroom, len(pkt))
	if r != tunnel.DropNone {
		return 0, fmt.Errorf("send a probe of %d bytes: %s", len(pkt), r)
	}
	outer = end - start + t.e.headers(t.cfg.Remote.Addr())
	if err = t.lanes.Send(buf[start:end]); err != nil {
		return outer, fmt.Errorf("send a probe of %d bytes: %w", len(pkt), err)
	}
	return outer, nil
}

// headers is how many bytes are in front of what a codec made: IP, and UDP.
func (e *Endpoint) headers(remote netip.Addr) int {
	n := 20
	if remote.Is6() {
		n = 40
	}
	if e.cfg.Protocol == 0 {
		n += 8
	}
	return n
}
