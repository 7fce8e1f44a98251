package config

import (
	"net/netip"
	"reflect"
)

// addr decodes an IP address without zone.
func (d *decoder) addr(p position, a *netip.Addr, path, s string) {
	v, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		hint := "write an address as 192.0.2.1 or 2001:db8::1"
		if pfx, err := netip.ParsePrefix(s); err == nil {
			hint = "write it without the prefix length: " + pfx.Addr().String()
		}
		d.fail(p, path, hint, "%q is not an IP address", shorten(s))
	case v.Is4In6():
		d.fail(p, path, "write "+v.Unmap().String(), "%s is an IPv4 address written as IPv6", s)
	case v.Zone() != "":
		d.fail(p, path, "write it without %"+v.Zone(), "%s has a zone", s)
	default:
		*a = v
	}
}

// prefix decodes a prefix; only an interface's address may have host bits.
func (d *decoder) prefix(p position, a *netip.Prefix, path, s string, r rules) {
	v, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		hint := "write a prefix as 192.0.2.0/24 or 2001:db8::/64"
		if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
			hint = "add the prefix length, for example " + example(ip, r.hostBits)
		}
		d.fail(p, path, hint, "%q is not %s", shorten(s), prefixNoun(r.hostBits))
	case v.Addr().Is4In6():
		d.fail(p, path, "write it as an IPv4 prefix", "%s is an IPv4 prefix written as IPv6", s)
	case !r.hostBits && v != v.Masked():
		d.fail(p, path, "did you mean "+v.Masked().String()+"?", "%s has host bits set", s)
	default:
		*a = v
	}
}

// example completes an address to a prefix that a person may have meant.
func example(ip netip.Addr, hostBits bool) string {
	bits := ip.BitLen()
	if hostBits {
		bits -= 2
		if ip.Is6() {
			bits = 64
		}
	}
	return netip.PrefixFrom(ip, bits).String()
}

// prefixNoun names what was expected.
func prefixNoun(hostBits bool) string {
	if hostBits {
		return "an address with prefix length"
	}
	return "a prefix"
}

// nameOf names a text type for a person.
func nameOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return "an IP address"
	case reflect.TypeFor[netip.Prefix]():
		return "a prefix"
	case reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[Listen]():
		return "an IP address with a port"
	case reflect.TypeFor[Duration]():
		return "a time span"
	case reflect.TypeFor[MAC]():
		return "an Ethernet address"
	default:
		return "a single value"
	}
}

// textHint shows how a value of a text type is written.
func textHint(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "write a number with its unit: 300ms, 9s, 3m"
	case reflect.TypeFor[Listen]():
		return "write it as 127.0.0.1:9477 or [::1]:9477, or \"\" for nowhere"
	case reflect.TypeFor[MAC]():
		return "write six octets with colons: 02:00:0a:00:02:04"
	default:
		return ""
	}
}

// addrPort decodes an IP address with a port.
func (d *decoder) addrPort(p position, a *netip.AddrPort, path, s string) {
	v, err := netip.ParseAddrPort(s)
	switch {
	case err != nil, v.Port() == 0:
		d.fail(p, path, "write it as 192.0.2.1:80 or [2001:db8::1]:80", "%q is not an IP address with a port", shorten(s))
	case v.Addr().Is4In6() || v.Addr().Zone() != "":
		d.fail(p, path, "write a plain IPv4 or IPv6 address", "%s is IPv4 written as IPv6, or has a zone", s)
	default:
		*a = v
	}
}
