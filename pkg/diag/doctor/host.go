package doctor

import (
	"net/netip"
	"slices"
)

// Host is what was found on the machine. A nil pointer or list could not be
// read, and Unread says why; an empty list means that there is nothing.
type Host struct {
	Kernel string // the release, as "6.8.0-1021-azure"
	// Sysctls are by their path below /proc/sys. Those that the kernel has not are missing.
	Sysctls map[string]string
	Links   []Link
	Routes  []RouteGroup
	Rules   []Rule
	// Ways are the ways of outer packets to the tunnels' peers.
	Ways     []Way
	Firewall *Ruleset
	// Policies are the kernel's for IPsec, but for those of single sockets and of XFRM interfaces.
	Policies []Policy
	Networkd *Networkd
	Clock    *Clock
	// Sockets are those on the ports that transitd wants.
	Sockets []Socket
	// Daemon is the running daemon's process; nil if there is none or it is not known.
	Daemon *Process
	// Owners are the route protocol numbers that running daemons have for their own.
	Owners []int
	// TUN and UDPSegmentation say why they do not work, and are empty if they do.
	TUN, UDPSegmentation string
	// Unread says what could not be looked at.
	Unread []Unchecked
}

// Link is a network interface.
type Link struct {
	Name   string
	Kind   string // "veth", "tun", …; empty for hardware
	Master string // of a bridge's port or a card's virtual function
	// Function says that it is the virtual function of another card, which has its address.
	Function bool
	Up       bool
	MTU      int
	Addrs    []netip.Addr
	// LRO says whether received packets are merged by the card; nil if it does not tell.
	LRO *bool
	// Default says that a default route of the main table leads out of it.
	Default bool
}

// tun reports whether it is a TUN device, as the tunnels' are.
func (l *Link) tun() bool { return l.Kind == "tun" || l.Kind == "tuntap" }

// RouteGroup counts the routes of one table and one protocol number.
type RouteGroup struct {
	Table    uint32
	Protocol int
	Count    int
	Example  string // one of them
}

// Rule is one of the routing policy rules.
type Rule struct {
	IPv6     bool
	Priority int
	Protocol int
	Table    uint32
}

// Way is the kernel's answer to how outer packets reach a peer.
type Way struct {
	Peer   netip.Addr
	Device string
	MTU    int    // of the path, as far as a router has told; 0 if none has
	Err    string // why there is no way
}

// Policy is one of the kernel's policies for IPsec.
type Policy struct {
	Direction        string // "out", "in" or "fwd"
	From, To         netip.Prefix
	Protocol         int // of IP; 0 for any
	FromPort, ToPort int // 0 for any
	Mark, Mask       uint32
	Priority         int  // the lowest counts
	Block            bool // what matches is dropped
	Protects         bool // what matches has to be protected by an SA of the kernel's
}

// Clock is the state of the system's clock.
type Clock struct {
	Synchronised bool
}

// Socket is one that is bound to a port.
type Socket struct {
	Network string // "udp" or "tcp"
	Local   netip.AddrPort
	// Program is "bird (1234)"; "the kernel" for one that belongs to no process, as of a VXLAN or WireGuard device.
	Program string
	PID     int // 0 if it belongs to no process, or to one that is not known
}

// Process is what a running daemon may.
type Process struct {
	PID          int
	Capabilities uint64 // the effective ones, bit by bit
	Files        int    // open now
	FileLimit    int
}

// sysctl returns a setting; it is empty if the kernel has it not.
func (h *Host) sysctl(key string) string { return h.Sysctls[key] }

// link finds an interface by its name.
func (h *Host) link(name string) *Link {
	for i := range h.Links {
		if h.Links[i].Name == name {
			return &h.Links[i]
		}
	}
	return nil
}

// owned reports whether a running daemon has a route protocol number for its own.
func (h *Host) owned(protocol int) bool { return slices.Contains(h.Owners, protocol) }
