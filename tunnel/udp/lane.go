package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// destination is where an unconnected socket sends to.
type destination struct {
	raw unix.RawSockaddrInet6 // an IPv4 address is in the first bytes of the larger struct
	len uint32
}

func newDestination(a netip.AddrPort) *destination {
	d := &destination{raw: unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.Addr().As16()}, len: unix.SizeofSockaddrInet6}
	if a.Addr().Is4() {
		d.len = unix.SizeofSockaddrInet4
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&d.raw)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&d.raw.Port))[:], a.Port()) // at the same place in both
	return d
}

// Lane sends to a peer from the receiver's own address and port. It ends with
// the receiver.
func (r *Receiver) Lane(peer netip.AddrPort) *Lanes {
	peer = r.cfg.address(peer)
	l := &Lanes{fds: []int{r.fd}, ports: []uint16{r.cfg.Local.Port()}, peer: peer, v6: peer.Addr().Is6(), to: newDestination(peer)}
	l.plain.Store(r.cfg.raw()) // only UDP can be segmented
	return l
}
