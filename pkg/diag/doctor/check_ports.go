package doctor

import (
	"fmt"
	"strings"

	"github.com/transitd/transitd/pkg/config"
)

// bgpPort is where BGP sessions are accepted.
const bgpPort = 179

// checkPorts looks for programs on the ports that transitd wants.
func (d *doctor) checkPorts() {
	if d.h.Sockets == nil || d.n.running() && d.h.Daemon == nil {
		return // which sockets are the daemon's own is not known
	}
	taken := 0
	for _, s := range d.h.Sockets {
		if d.h.Daemon != nil && s.PID == d.h.Daemon.PID || s.Local.Addr().IsLoopback() {
			continue
		}
		if d.n.Address.IsValid() && !s.Local.Addr().IsUnspecified() && s.Local.Addr() != d.n.Address && !d.inside(s) {
			continue
		}
		severity := SeverityError
		if d.n.Basis == BasisHost || d.n.Basis == "" {
			severity = SeverityWarning // whether a node is to run here is not known
		}
		why := ""
		if s.Network == "udp" && s.Local.Port() == config.IKEPort {
			if raw := d.n.raw(); raw != "" {
				why = ": tunnel " + raw + ", without UDP encapsulation, has no other port for IKE, and the daemon does not start without it"
			} else {
				severity, why = SeverityWarning, ": an IPsec peer that begins there is not heard; one that begins at 4500 is"
			}
		}
		taken++
		port := fmt.Sprintf("%s port %d", strings.ToUpper(s.Network), s.Local.Port())
		d.find(PortTaken, severity, port, fmt.Sprintf("ss -lnp%c 'sport = :%d' # who is it? Then stop it", s.Network[0], s.Local.Port()), "%s has %s (%s)%s", s.Program, port, s.Local, why)
	}
	if taken == 0 {
		d.ok(PortTaken, "ports", "no other program has the tunnels' ports or TCP port %d", bgpPort)
	}
}

// inside reports whether a socket is bound to one of our addresses in the tunnels.
func (d *doctor) inside(s Socket) bool {
	for _, t := range d.n.Tunnels {
		if t.Address == s.Local.Addr() {
			return true
		}
	}
	return false
}
