package streamtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/transitd/transitd/pkg/packet"
)

// Compare says how what arrived differs from what was sent, flow by flow: each
// must have the same packets in the same order, of at most mtu bytes.
func Compare(sent, got [][]byte, mtu int) error {
	want, have := byFlow(sent), byFlow(got)
	for _, p := range got {
		if len(p) > mtu {
			return fmt.Errorf("a packet of %d bytes, more than %d", len(p), mtu)
		}
		if _, ok := want[flowOf(p)]; !ok {
			return fmt.Errorf("a packet of a flow that nobody sent: % x", p)
		}
	}
	for f, list := range want {
		for i, p := range list {
			switch {
			case i >= len(have[f]):
				return fmt.Errorf("flow %s: %d of %d packets arrived", f, len(have[f]), len(list))
			case !bytes.Equal(p, have[f][i]):
				return fmt.Errorf("flow %s, packet %d of %d: sent\n% x\nreceived\n% x\n(which was sent as packet %d)", f, i, len(list), p, have[f][i], place(list, have[f][i]))
			}
		}
		if n := len(have[f]); n > len(list) {
			return fmt.Errorf("flow %s: %d packets arrived, %d were sent", f, n, len(list))
		}
	}
	return nil
}

func place(list [][]byte, p []byte) int {
	return slices.IndexFunc(list, func(x []byte) bool { return bytes.Equal(x, p) })
}

func byFlow(packets [][]byte) map[string][][]byte {
	m := map[string][][]byte{}
	for _, p := range packets {
		m[flowOf(p)] = append(m[flowOf(p)], plain(p))
	}
	return m
}

// flowOf groups what must keep its order: the 5-tuple, as far as a packet has
// one. Fragments are apart, because nothing that spreads flows sees that they belong to one.
func flowOf(p []byte) string {
	in, fault := packet.Parse(p)
	if fault != packet.None {
		return fmt.Sprintf("of no IP packet %x", p)
	}
	ports := []byte{}
	if (in.Proto == packet.TCP || in.Proto == packet.UDP) && !in.Fragment && in.Transport+4 <= len(p) {
		ports = p[in.Transport : in.Transport+4]
	}
	addrs := p[12:20]
	if in.Version == 6 {
		addrs = p[8:40]
	}
	return fmt.Sprintf("of protocol %d, %x, ports %x, fragments: %v", in.Proto, addrs, ports, in.Fragment)
}

// plain is a packet without what has no meaning: the identification of an IPv4
// packet that may not be fragmented (RFC 6864, section 4.1).
func plain(p []byte) []byte {
	p = slices.Clone(p)
	if p[0]>>4 == 4 && binary.BigEndian.Uint16(p[6:])&0x7fff == 0x4000 {
		old := binary.BigEndian.Uint16(p[10:])
		good := reference(p[:int(p[0]&15)*4], 0) == 0
		p[4], p[5], p[10], p[11] = 0, 0, 0, 0
		if !good {
			binary.BigEndian.PutUint16(p[10:], old)
		}
	}
	return p
}
