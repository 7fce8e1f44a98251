package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// Link says what a packet begins with.
type Link uint8

// The links.
const (
	Ethernet Link = iota // an Ethernet header
	IP                   // the IP header: a TUN device
)

// Offsets of fields, from the beginning of the IP header if it is not said
// otherwise (RFC 791, section 3.1; RFC 8200, section 3).
const (
	etherType  = 12 // in the Ethernet header
	etherLen   = 14
	fragment4  = 6
	protocol4  = 9
	source4    = 12
	dest4      = 16
	nextHeader = 6
	source6    = 8
	dest6      = 24
	ports6     = 40 // without extension headers, as tcpdump has it

	typeIPv4, typeIPv6, typeARP = 0x0800, 0x86dd, 0x0806
)

// label is a place in a program that is not known yet.
type label int

// program is a classic BPF program that is being made. Every jump is an
// unconditional one, whose distance is not limited to 255 instructions; the
// conditional ones only choose between the two that follow.
type program struct {
	link  Link
	ins   []bpf.Instruction
	jumps map[int]label // instructions that jump
	place map[label]int
	next  label
}

// maxProgram is the kernel's limit (BPF_MAXINSNS), in instructions.
const maxProgram = 4096

// accept is how much of a packet is wanted, in bytes: all.
const accept = 1 << 18

// Compile makes a program that accepts what matches both filters; an empty one
// matches everything, and two of them need no program. An error says which word
// is wrong.
func Compile(link Link, base, filter string) ([]bpf.RawInstruction, error) {
	var all node
	for _, text := range []string{base, filter} {
		n, err := parse(text)
		switch {
		case err != nil:
			return nil, err
		case n == nil:
		case all == nil:
			all = n
		default:
			all = both{all, n}
		}
	}
	if all == nil {
		return nil, nil
	}
	ins, err := assemble(link, all)
	if err != nil {
		return nil, err
	}
	return bpf.Assemble(ins)
}

func assemble(link Link, n node) ([]bpf.Instruction, error) {
	g := program{link: link, jumps: map[int]label{}, place: map[label]int{}}
	yes, no := g.label(), g.label()
	n.emit(&g, yes, no)
	g.here(yes)
	g.add(bpf.RetConstant{Val: accept})
	g.here(no)
	g.add(bpf.RetConstant{})
	if len(g.ins) > maxProgram {
		return nil, fmt.Errorf("the filter becomes %d instructions, the kernel takes %d", len(g.ins), maxProgram)
	}
	for at, to := range g.jumps {
		g.ins[at] = bpf.Jump{Skip: uint32(g.place[to] - at - 1)}
	}
	return g.ins, nil
}

func (g *program) label() label          { g.next++; return g.next }
func (g *program) here(l label)          { g.place[l] = len(g.ins) }
func (g *program) add(i bpf.Instruction) { g.ins = append(g.ins, i) }

func (g *program) jump(l label) {
	g.jumps[len(g.ins)] = l
	g.add(bpf.Jump{})
}

// test jumps by a comparison of the accumulator.
func (g *program) test(cond bpf.JumpTest, value uint32, yes, no label) {
	g.add(bpf.JumpIf{Cond: cond, Val: value, SkipFalse: 1})
	g.jump(yes)
	g.jump(no)
}

// field loads size bytes of the IP header.
func (g *program) field(off uint32, size int) { g.add(bpf.LoadAbsolute{Off: g.ip() + off, Size: size}) }

// ip is where the IP header begins.
func (g *program) ip() uint32 {
	if g.link == Ethernet {
		return etherLen
	}
	return 0
}

func (n both) emit(g *program, yes, no label) {
	second := g.label()
	n.a.emit(g, second, no)
	g.here(second)
	n.b.emit(g, yes, no)
}

func (n either) emit(g *program, yes, no label) {
	second := g.label()
	n.a.emit(g, yes, second)
	g.here(second)
	n.b.emit(g, yes, no)
}

func (n inverse) emit(g *program, yes, no label) { n.a.emit(g, no, yes) }

func (n family) emit(g *program, yes, no label) {
	if g.link == Ethernet {
		typ := uint32(typeIPv4)
		if n.v6 {
			typ = typeIPv6
		}
		g.add(bpf.LoadAbsolute{Off: etherType, Size: 2})
		g.test(bpf.JumpEqual, typ, yes, no)
		return
	}
	version := uint32(0x40)
	if n.v6 {
		version = 0x60
	}
	g.field(0, 1)
	g.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
	g.test(bpf.JumpEqual, version, yes, no)
}

func (arp) emit(g *program, yes, no label) {
	if g.link != Ethernet {
		g.jump(no)
		return
	}
	g.add(bpf.LoadAbsolute{Off: etherType, Size: 2})
	g.test(bpf.JumpEqual, typeARP, yes, no)
}

func (n proto) emit(g *program, yes, no label) {
	is := g.label()
	family{n.v6}.emit(g, is, no)
	g.here(is)
	if n.v6 {
		g.field(nextHeader, 1)
	} else {
		g.field(protocol4, 1)
	}
	g.test(bpf.JumpEqual, uint32(n.number), yes, no)
}

func (n host) emit(g *program, yes, no label) {
	is := g.label()
	family{n.prefix.Addr().Is6()}.emit(g, is, no)
	g.here(is)
	src, dst := uint32(source4), uint32(dest4)
	if n.prefix.Addr().Is6() {
		src, dst = source6, dest6
	}
	switch n.side {
	case source:
		g.address(src, n.prefix, yes, no)
	case destination:
		g.address(dst, n.prefix, yes, no)
	default:
		second := g.label()
		g.address(src, n.prefix, yes, second)
		g.here(second)
		g.address(dst, n.prefix, yes, no)
	}
}

// address compares an address with a prefix, 32 bits at a time.
func (g *program) address(off uint32, p netip.Prefix, yes, no label) {
	b := p.Addr().AsSlice()
	for i := 0; i*8 < p.Bits(); i += 4 {
		mask := ^uint32(0)
		if rest := p.Bits() - i*8; rest < 32 {
			mask <<= 32 - rest
		}
		g.field(off+uint32(i), 4)
		if mask != ^uint32(0) {
			g.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		more := g.label()
		g.test(bpf.JumpEqual, binary.BigEndian.Uint32(b[i:])&mask, more, no)
		g.here(more)
	}
	g.jump(yes)
}

func (n port) emit(g *program, yes, no label) {
	v4, v6 := g.label(), g.label()
	family{false}.emit(g, v4, v6)

	g.here(v4)
	transport, whole := g.label(), g.label()
	g.field(protocol4, 1)
	g.oneOf(n.protos, transport, no)
	g.here(transport)
	g.field(fragment4, 2)
	g.test(bpf.JumpBitsSet, 0x1fff, no, whole) // only the first fragment has ports
	g.here(whole)
	g.add(bpf.LoadMemShift{Off: g.ip()}) // the header's length goes to X
	n.compare(g, func(off uint32) { g.add(bpf.LoadIndirect{Off: g.ip() + off, Size: 2}) }, yes, no)

	g.here(v6)
	is, transport6 := g.label(), g.label()
	family{true}.emit(g, is, no)
	g.here(is)
	g.field(nextHeader, 1)
	g.oneOf(n.protos, transport6, no)
	g.here(transport6)
	n.compare(g, func(off uint32) { g.field(ports6+off, 2) }, yes, no)
}

// oneOf compares the accumulator with several values.
func (g *program) oneOf(values []uint8, yes, no label) {
	for _, v := range values {
		other := g.label()
		g.test(bpf.JumpEqual, uint32(v), yes, other)
		g.here(other)
	}
	g.jump(no)
}

// compare looks at the ports that load gets from the transport's header.
func (n port) compare(g *program, load func(off uint32), yes, no label) {
	within := func(off uint32, no label) {
		least := g.label()
		load(off)
		g.test(bpf.JumpGreaterOrEqual, uint32(n.from), least, no)
		g.here(least)
		g.test(bpf.JumpLessOrEqual, uint32(n.to), yes, no)
	}
	switch n.side {
	case source:
		within(0, no)
	case destination:
		within(2, no)
	default:
		second := g.label()
		within(0, second)
		g.here(second)
		within(2, no)
	}
}

func (n length) emit(g *program, yes, no label) {
	g.add(bpf.LoadExtension{Num: bpf.ExtLen})
	if n.least {
		g.test(bpf.JumpGreaterOrEqual, n.n, yes, no)
		return
	}
	g.test(bpf.JumpLessOrEqual, n.n, yes, no)
}
