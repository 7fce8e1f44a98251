// Package hairpin notices a host's own packets that come back to it: what the
// fabric does with a tunnel's datagrams when one of its routes leads the peer's
// address to this very host. Linux drops such packets as martians and says
// nothing, so they are looked for where they arrive.
package hairpin

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Watch counts the packets that arrive at a network card from one of the host's
// own addresses. It is not safe for concurrent use.
type Watch struct{ fd int }

// Open begins to look at the card with that index for packets between from, our
// own address, and to, both of one family. It needs CAP_NET_RAW.
func Open(index int, from, to netip.Addr) (*Watch, error) {
	program, err := bpf.Assemble(filter(from, to))
	if err != nil {
		return nil, fmt.Errorf("watch for packets that come back: %w", err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("watch for packets that come back: %w", err)
	}
	w := &Watch{fd: fd}
	if err := w.attach(index, program); err != nil {
		return nil, errors.Join(fmt.Errorf("watch for packets that come back: %w", err), w.Close())
	}
	return w, nil
}

func (w *Watch) attach(index int, program []bpf.RawInstruction) error {
	code := make([]unix.SockFilter, len(program))
	for i, x := range program {
		code[i] = unix.SockFilter{Code: x.Op, Jt: x.Jt, Jf: x.Jf, K: x.K}
	}
	if err := unix.SetsockoptSockFprog(w.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}); err != nil {
		return err
	}
	// Nothing is received before the socket is bound to a protocol, so nothing gets past the filter.
	return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_ALL), Ifindex: index})
}

func swap(v uint16) uint16 { return v<<8 | v>>8 }

// Take is how many came back since the last call.
func (w *Watch) Take() int {
	var b [1]byte // what is in them does not matter
	for n := 0; ; {
		_, _, err := unix.Recvfrom(w.fd, b[:], unix.MSG_TRUNC)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, unix.EINTR):
			return n // EAGAIN, or the card is down: then none come
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() error { return unix.Close(w.fd) }

// filter accepts IP packets between two addresses that another host sent.
func filter(from, to netip.Addr) []bpf.Instruction {
	from, to = from.Unmap(), to.Unmap()
	source, target, version := uint32(12), uint32(16), uint32(4)
	if from.Is6() {
		source, target, version = 8, 24, 6
	}
	p := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST},
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: version},
	}
	for _, x := range []struct {
		off  uint32
		addr netip.Addr
	}{{source, from}, {target, to}} {
		b := x.addr.AsSlice()
		for i := 0; i < len(b); i += 4 {
			word := uint32(b[i])<<24 | uint32(b[i+1])<<16 | uint32(b[i+2])<<8 | uint32(b[i+3])
			p = append(p, bpf.LoadAbsolute{Off: x.off + uint32(i), Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: word})
		}
	}
	p = append(p, bpf.RetConstant{Val: 1}, bpf.RetConstant{Val: 0})
	for i, x := range p { // what is not equal goes to the last instruction
		if j, ok := x.(bpf.JumpIf); ok {
			j.SkipFalse = uint8(len(p) - 2 - i)
			p[i] = j
		}
	}
	return p
}
