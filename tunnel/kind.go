package tunnel

// Kind is what a datagram of a tunnel carries.
type Kind uint8

const (
	KindPacket  Kind = iota // an IP packet, for the TUN device
	KindControl             // a message between the ends of the tunnel (ARP, ND), never for the TUN device
)
