package bfd

import (
	"encoding/binary"
	"time"
)

// packetLen is the length in bytes of a control packet without authentication.
const packetLen = 24

// version is the protocol's (RFC 5880, section 4.1).
const version = 1

// The flags of a packet's second byte; above them stand two bits of state.
const (
	flagPoll       = 1 << 5
	flagFinal      = 1 << 4
	flagCPI        = 1 << 3 // control plane independent
	flagAuth       = 1 << 2
	flagDemand     = 1 << 1
	flagMultipoint = 1 << 0
)

// packet is a BFD control packet (RFC 5880, section 4.1). It is comparable.
type packet struct {
	diagnostic   Diagnostic // 0 to 31
	state        State      // 0 to 3
	poll, final  bool
	independent  bool // the sender's forwarding survives its control plane; for display only
	demand       bool
	multiplier   uint8         // 1 to 255
	mine, yours  uint32        // discriminators; mine is never 0
	minTx        time.Duration // desired transmit interval: whole microseconds below 2^32, like the next two
	minRx        time.Duration // required receive interval; 0: send nothing
	minRxForEcho time.Duration // required receive interval of echo packets; 0: send none
}

// decode reads one control packet from a UDP payload and checks all that can
// be said of it without knowing the session (RFC 5880, section 6.8.6). What
// follows the packet is ignored, like the reserved diagnostics' meaning.
func decode(b []byte) (packet, Drop) {
	// The version comes first: the rest of another version's packet means something else.
	if len(b) < packetLen {
		return packet{}, DropShort
	}
	length, flags := int(b[3]), b[1]
	switch {
	case b[0]>>5 != version:
		return packet{}, DropVersion
	case length < packetLen:
		return packet{}, DropShort
	case length > len(b):
		return packet{}, DropLength
	case b[2] == 0:
		return packet{}, DropMultiplier
	case flags&flagMultipoint != 0:
		return packet{}, DropMultipoint
	case flags&flagAuth != 0:
		return packet{}, DropAuthentication
	}
	p := packet{
		diagnostic:   Diagnostic(b[0] & 0x1f),
		state:        State(flags >> 6),
		poll:         flags&flagPoll != 0,
		final:        flags&flagFinal != 0,
		independent:  flags&flagCPI != 0,
		demand:       flags&flagDemand != 0,
		multiplier:   b[2],
		mine:         binary.BigEndian.Uint32(b[4:]),
		yours:        binary.BigEndian.Uint32(b[8:]),
		minTx:        interval(b[12:]),
		minRx:        interval(b[16:]),
		minRxForEcho: interval(b[20:]),
	}
	if p.mine == 0 {
		return packet{}, DropMyDiscriminator
	}
	return p, dropNone
}

// encode writes the packet, without any authentication.
func (p packet) encode(b *[packetLen]byte) {
	b[0] = version<<5 | byte(p.diagnostic)&0x1f
	b[1] = byte(p.state) << 6
	for _, f := range [...]struct {
		set bool
		bit byte
	}{{p.poll, flagPoll}, {p.final, flagFinal}, {p.independent, flagCPI}, {p.demand, flagDemand}} {
		if f.set {
			b[1] |= f.bit
		}
	}
	b[2], b[3] = p.multiplier, packetLen
	binary.BigEndian.PutUint32(b[4:], p.mine)
	binary.BigEndian.PutUint32(b[8:], p.yours)
	putInterval(b[12:], p.minTx)
	putInterval(b[16:], p.minRx)
	putInterval(b[20:], p.minRxForEcho)
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

func putInterval(b []byte, d time.Duration) {
	binary.BigEndian.PutUint32(b, uint32(d/time.Microsecond))
}
