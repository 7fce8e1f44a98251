package doctor

import (
	"fmt"
	"slices"
)

// checkCard looks at the underlay's network card.
func (d *doctor) checkCard() {
	name := d.n.Interface
	if name == "" {
		for _, l := range d.h.Links {
			if l.Default {
				d.checkLRO(l)
			}
		}
		return
	}
	if d.h.Links == nil {
		return
	}
	card := d.h.link(name)
	switch {
	case card == nil:
		d.find(CardMissing, SeverityError, name, "ip -br link", "there is no network card %s; there are %s", name, d.names())
		return
	case !card.Up:
		d.find(CardMissing, SeverityError, name, "ip link set "+name+" up", "the network card %s is down", name)
	default:
		d.ok(CardMissing, name, "the network card is there and up")
	}
	if card.Function {
		d.find(CardFunction, SeverityWarning, name, fmt.Sprintf("ip -d link show %s # then set underlay.interface to it, and restart the daemon", card.Master), "%s is a virtual function; the card with the address is %s", name, card.Master)
	}
	if d.n.Address.IsValid() && !slices.Contains(card.Addrs, d.n.Address) {
		d.find(CardAddress, SeverityError, name, "ip -br addr show "+name, "%s has not the address %s of underlay.address", name, d.n.Address)
	}
	d.checkLRO(*card)
	d.checkMTU(*card)
}

func (d *doctor) names() string {
	var names []string
	for _, l := range d.h.Links {
		if !l.tun() && l.Name != "lo" {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return firstOf(names, 5)
}

func (d *doctor) checkLRO(card Link) {
	switch {
	case card.LRO == nil:
		d.skip("large receive offload of "+card.Name, "the card does not tell", "ethtool -k "+card.Name)
	case *card.LRO:
		d.find(LROOn, SeverityWarning, card.Name, "ethtool -K "+card.Name+" lro off", "large receive offload of %s is on", card.Name)
	default:
		d.ok(LROOn, card.Name, "large receive offload is off")
	}
}

// checkMTU compares the card with what the tunnels make of their largest packets.
func (d *doctor) checkMTU(card Link) {
	under := card.MTU
	if d.n.MTU != 0 {
		under = min(under, d.n.MTU)
	}
	for _, t := range d.n.Tunnels {
		switch outer := t.MTU + t.Overhead; {
		case t.Overhead == 0:
			d.skip("the MTU of tunnel "+t.Name, "only its configuration tells how large its outer packets are", "transitctl doctor -c /etc/transitd/NODE.yaml")
		case outer > under:
			d.find(MTUTooSmall, SeverityError, t.Name, fmt.Sprintf("ip link set %s mtu %d # or set the tunnel's mtu to %d at both ends", card.Name, outer, under-t.Overhead),
				"packets of %s have up to %d bytes outside (%d and %d of %s), %s takes %d", t.Name, outer, t.MTU, t.Overhead, t.Encapsulation, card.Name, under)
		default:
			d.ok(MTUTooSmall, t.Name, "outer packets of up to %d bytes fit the %d of %s", outer, under, card.Name)
		}
	}
}

// checkTunnelDevices checks that the devices are there, and that no other device has their names.
func (d *doctor) checkTunnelDevices() {
	if d.h.Links == nil {
		return
	}
	for _, t := range d.n.Tunnels {
		switch l := d.h.link(t.Name); {
		case l != nil && !l.tun():
			d.find(TunnelName, SeverityError, t.Name, "ip link delete "+t.Name, "there is an interface %s already, of kind %q, which is not transitd's", t.Name, l.Kind)
		case d.n.running() && l == nil:
			d.find(TunnelDevice, SeverityError, t.Name, "systemctl restart transitd@"+d.node()+" # and ip monitor link: who removes it?", "the daemon runs, and there is no interface %s", t.Name)
		case d.n.running() && !l.Up:
			d.find(TunnelDevice, SeverityError, t.Name, "ip link set "+t.Name+" up", "the interface %s is down", t.Name)
		case l != nil:
			d.ok(TunnelDevice, t.Name, "the interface is there")
		}
	}
}

// checkWays looks at how the outer packets leave. Before a daemon runs, the main table decides, and nothing is at stake.
func (d *doctor) checkWays() {
	for _, w := range d.h.Ways {
		peer := w.Peer.String()
		if d.n.running() {
			switch {
			case w.Err != "":
				d.find(PeerRoute, SeverityError, peer, "ip rule; ip route get "+peer+d.mark(), "there is no way for outer packets to %s: %s", peer, w.Err)
				continue
			case d.n.Interface != "" && w.Device != d.n.Interface:
				d.find(PeerRoute, SeverityError, peer, "ip rule; ip route get "+peer+d.mark(), "outer packets to %s leave by %s, not by %s", peer, w.Device, d.n.Interface)
				continue
			}
			d.ok(PeerRoute, peer, "outer packets leave by %s", w.Device)
		}
		for _, t := range d.n.Tunnels {
			if outer := t.MTU + t.Overhead; t.Remote == w.Peer && t.Overhead > 0 && w.MTU > 0 && outer > w.MTU {
				d.find(PathMTU, SeverityError, t.Name, fmt.Sprintf("ip route get "+peer+d.mark()+" # then set the tunnel's mtu to %d at both ends", w.MTU-t.Overhead),
					"packets to %s may have %d bytes, as a router on the way or a route of this machine says, and those of %s have up to %d", peer, w.MTU, t.Name, outer)
			}
		}
	}
}

// mark is the rest of an "ip route get".
func (d *doctor) mark() string {
	if d.n.Mark == 0 {
		return ""
	}
	return fmt.Sprintf(" mark %#x", d.n.Mark)
}
