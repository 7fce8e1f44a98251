package doctor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/transitd/transitd/pkg/azure"
)

// checkForwarding looks at the switches without which nothing is forwarded.
func (d *doctor) checkForwarding() {
	d.flag(ForwardingOff, "net/ipv4/ip_forward", "1")
	if !d.n.ipv6() {
		return
	}
	d.flag(IPv6ForwardingOff, "net/ipv6/conf/all/forwarding", "1")
	if card := d.n.Interface; card != "" && d.h.sysctl("net/ipv6/conf/all/forwarding") == "1" {
		// A forwarding host takes router advertisements only if told so by a 2.
		if key := "net/ipv6/conf/" + card + "/accept_ra"; d.h.sysctl(key) == "1" {
			fix := setting(key, "2")
			d.find(AdvertisementsIgnored, SeverityWarning, card, fix.command(), "%s is 1, which means no on a host that forwards", sysctlName(key)).with(fix)
		}
	}
}

// flag checks one setting that must have a value.
func (d *doctor) flag(id ID, key, want string) {
	have, there := d.h.Sysctls[key]
	switch {
	case !there:
		d.skip(sysctlName(key), "the kernel does not show it here", "sysctl "+sysctlName(key))
	case have != want:
		fix := setting(key, want)
		d.find(id, d.worse(), sysctlName(key), fix.command(), "%s is %s, and has to be %s", sysctlName(key), have, want).with(fix)
	default:
		d.ok(id, sysctlName(key), "%s is %s", sysctlName(key), have)
	}
}

// cards are the interfaces that forwarded packets use: those of the node, or
// where the defaults lead if the node is not known.
func (d *doctor) cards() (list []string) {
	for _, l := range d.h.Links {
		if l.Name == d.n.Interface || d.n.tunnel(l.Name) && l.tun() || d.n.Interface == "" && l.Default {
			list = append(list, l.Name)
		}
	}
	return list
}

// checkReversePath looks for strict filtering: the kernel takes the larger of conf/all and the interface (ip-sysctl).
func (d *doctor) checkReversePath() {
	for _, name := range d.cards() {
		all, one := d.number("net/ipv4/conf/all/rp_filter"), d.number("net/ipv4/conf/"+name+"/rp_filter")
		if max(all, one) != 1 {
			d.ok(ReversePathStrict, name, "packets that come another way than their answers go are accepted")
			continue
		}
		fix := setting("net/ipv4/conf/"+name+"/rp_filter", "2")
		fix.Volatile = d.n.tunnel(name)
		d.find(ReversePathStrict, d.worse(), name, fix.command(), "reverse path filtering of %s is strict (1): conf/all has %d, the interface %d, and the larger counts", name, all, one).with(fix)
	}
}

// checkRedirects looks at both directions. Of send_redirects one of conf/all
// and the interface is enough, of accept_redirects a host that forwards needs both.
func (d *doctor) checkRedirects() {
	for _, name := range d.cards() {
		volatile := d.n.tunnel(name)
		for _, x := range []struct {
			id   ID
			key  string
			on   func(all, one bool) bool
			what string
		}{
			{RedirectsSent, "send_redirects", func(all, one bool) bool { return all || one }, "sends ICMP redirects"},
			{RedirectsAccepted, "accept_redirects", func(all, one bool) bool { return all && one }, "obeys ICMP redirects"},
		} {
			all, one := "net/ipv4/conf/all/"+x.key, "net/ipv4/conf/"+name+"/"+x.key
			if !x.on(d.number(all) == 1, d.number(one) == 1) {
				d.ok(x.id, name, "%s is off", x.key)
				continue
			}
			fixes := []Fix{setting(all, "0"), {Key: one, Value: "0", Volatile: volatile}}
			d.find(x.id, SeverityWarning, name, fixes[0].command()+" "+sysctlName(one)+"=0", "%s %s: %s is %d in conf/all and %d of the interface",
				name, x.what, x.key, d.number(all), d.number(one)).with(fixes...)
		}
	}
}

// checkReservedPort checks that no program gets the port whose packets Azure's host drops.
func (d *doctor) checkReservedPort() {
	const ports, reserved = "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"
	var low, high int
	if _, err := fmt.Sscan(d.h.sysctl(ports), &low, &high); err != nil {
		d.skip(sysctlName(ports), "it cannot be read", "sysctl "+sysctlName(ports))
		return
	}
	switch list := d.h.sysctl(reserved); {
	case azure.ReservedUDPPort < low || azure.ReservedUDPPort > high:
		d.ok(ReservedPort, sysctlName(ports), "%d to %d are without %d", low, high, azure.ReservedUDPPort)
	case listed(list, azure.ReservedUDPPort):
		d.ok(ReservedPort, sysctlName(reserved), "%d is never given out", azure.ReservedUDPPort)
	default:
		value := strings.Trim(list+","+strconv.Itoa(azure.ReservedUDPPort), ",")
		fix := setting(reserved, value)
		d.find(ReservedPort, SeverityWarning, sysctlName(ports), fix.command(), "ports of %d to %d are given to programs, with %d among them", low, high, azure.ReservedUDPPort).with(fix)
	}
}

// listed reports whether a list as "1,5-9" has a port.
func listed(list string, port int) bool {
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		low, err := strconv.Atoi(from)
		high := low
		if isRange && err == nil {
			high, err = strconv.Atoi(to)
		}
		if err == nil && low <= port && port <= high {
			return true
		}
	}
	return false
}

// number reads a setting; what is not there counts as 0.
func (d *doctor) number(key string) int {
	n, err := strconv.Atoi(d.h.sysctl(key))
	if err != nil {
		return 0
	}
	return n
}
