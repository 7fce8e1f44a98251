package fib

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// maxBatch is how many requests go to the kernel at once: if all of them fail,
// what it says of that fits the socket's buffer.
const maxBatch = 128

// batchConn writes routes many at a time, ten times faster than the netlink
// library's one request a call, and rules as they are: the library forgets
// suppress_prefixlength for tables above 255, and the action when it reads.
// One goroutine at a time.
type batchConn struct {
	fd  int
	pid uint32 // by which the monitor knows our own changes
	seq uint32
}

func openBatch() (*batchConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	c := &batchConn{fd: fd}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		// Errors need not quote the request: the sequence number tells which it was.
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20),
	)
	if err == nil {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(fd); err == nil {
			c.pid = sa.(*unix.SockaddrNetlink).Pid //nolint:forcetypeassert // what we bound
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up a netlink socket: %w", err), unix.Close(fd))
	}
	return c, nil
}

func (c *batchConn) close() error { return unix.Close(c.fd) }

// routes sends one request per route and returns an error for each that failed,
// by its index.
func (c *batchConn) routes(typ, flags uint16, protocol int, list []Route, index func(string) int) map[int]error {
	failed := map[int]error{}
	for at := 0; at < len(list); at += maxBatch {
		part := list[at:min(at+maxBatch, len(list))]
		if err := c.batch(typ, flags, protocol, part, index, func(i int, err error) { failed[at+i] = err }); err != nil {
			for i := range part {
				failed[at+i] = err
			}
		}
	}
	return failed
}

// batch asks for one acknowledgement, of the last request: the kernel takes them
// in their order, and tells of each that fails without being asked.
func (c *batchConn) batch(typ, flags uint16, protocol int, part []Route, index func(string) int, fail func(int, error)) error {
	var buf []byte
	first, last := c.seq+1, 0
	for i, r := range part {
		c.seq++
		var devices []int
		for _, name := range r.Devices() {
			if n := index(name); n != 0 { // a device that is gone leaves the others
				devices = append(devices, n)
			}
		}
		if len(devices) == 0 && !r.Unreachable {
			fail(i, unix.ENODEV)
			continue
		}
		last = len(buf)
		buf = appendMessage(buf, typ, flags|unix.NLM_F_REQUEST, c.seq, routeMessage(r, protocol, devices))
	}
	if len(buf) == 0 {
		return nil
	}
	binary.NativeEndian.PutUint16(buf[last+6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	final := binary.NativeEndian.Uint32(buf[last+8:])
	if err := unix.Sendto(c.fd, buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send routes to the kernel: %w", err)
	}
	return c.answers(first, final, fail)
}

// answers reads what the kernel says of the requests from number first on, up to
// the answer to the final one.
func (c *batchConn) answers(first, final uint32, fail func(int, error)) error {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the kernel's answers: %w", err)
		}
		done := false
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN+4; {
			length := int(binary.NativeEndian.Uint32(b))
			typ, seq := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
			if length < unix.NLMSG_HDRLEN || length > len(b) {
				return fmt.Errorf("read the kernel's answers: a message of %d bytes in %d", length, len(b))
			}
			if i := seq - first; typ == unix.NLMSG_ERROR && i <= final-first {
				done = done || seq == final
				if errno := -int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); errno != 0 {
					fail(int(i), unix.Errno(errno))
				}
			}
			b = b[min(len(b), (length+3)&^3):]
		}
		if done {
			return nil
		}
	}
}

// appendMessage adds a netlink header and the body, padded.
func appendMessage(buf []byte, typ, flags uint16, seq uint32, body []byte) []byte {
	buf = binary.NativeEndian.AppendUint32(buf, uint32(unix.NLMSG_HDRLEN+len(body)))
	buf = binary.NativeEndian.AppendUint16(buf, typ)
	buf = binary.NativeEndian.AppendUint16(buf, flags)
	buf = binary.NativeEndian.AppendUint32(buf, seq)
	buf = binary.NativeEndian.AppendUint32(buf, 0)
	buf = append(buf, body...)
	for len(buf)%unix.NLMSG_ALIGNTO != 0 {
		buf = append(buf, 0)
	}
	return buf
}

// routeMessage is struct rtmsg with its attributes (rtnetlink(7)).
func routeMessage(r Route, protocol int, devices []int) []byte {
	family, scope := byte(unix.AF_INET), byte(unix.RT_SCOPE_UNIVERSE)
	if r.Prefix.Addr().Is6() {
		family = unix.AF_INET6
	} else if !r.Gateway.IsValid() {
		scope = unix.RT_SCOPE_LINK
	}
	kind := byte(unix.RTN_UNICAST)
	if r.Unreachable {
		kind, scope = unix.RTN_UNREACHABLE, unix.RT_SCOPE_UNIVERSE
	}
	b := []byte{family, byte(r.Prefix.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, byte(protocol), scope, kind, 0, 0, 0, 0}
	attr := func(typ int, data []byte) { b = append(b, nl.NewRtAttr(typ, data).Serialize()...) }
	attr(unix.RTA_TABLE, nl.Uint32Attr(r.Table))
	if r.Prefix.Bits() > 0 {
		attr(unix.RTA_DST, r.Prefix.Addr().AsSlice())
	}
	if r.Metric != 0 {
		attr(unix.RTA_PRIORITY, nl.Uint32Attr(r.Metric))
	}
	switch {
	case r.Unreachable:
	case len(devices) == 1:
		attr(unix.RTA_OIF, nl.Uint32Attr(uint32(devices[0])))
	default:
		attr(unix.RTA_MULTIPATH, nexthops(devices))
	}
	if r.Gateway.IsValid() {
		attr(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	if r.Source.IsValid() {
		attr(unix.RTA_PREFSRC, r.Source.AsSlice())
	}
	return b
}

// nexthops is a list of struct rtnexthop, all of the same weight.
func nexthops(devices []int) (b []byte) {
	for _, device := range devices {
		b = binary.NativeEndian.AppendUint16(b, unix.SizeofRtNexthop)
		b = append(b, 0, 0) // flags; the weight less one
		b = binary.NativeEndian.AppendUint32(b, uint32(device))
	}
	return b
}

// rule sends one request about a rule.
func (c *batchConn) rule(typ, flags uint16, r Rule, protocol int) error {
	c.seq++
	buf := appendMessage(nil, typ, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK, c.seq, ruleMessage(r, protocol))
	if err := unix.Sendto(c.fd, buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send a rule to the kernel: %w", err)
	}
	var refused error
	if err := c.answers(c.seq, c.seq, func(_ int, err error) { refused = err }); err != nil {
		return err
	}
	return refused
}

// ruleMessage is struct fib_rule_hdr with its attributes (linux/fib_rules.h).
func ruleMessage(r Rule, protocol int) []byte {
	family, action := byte(unix.AF_INET), byte(unix.FR_ACT_TO_TBL)
	if r.IPv6 {
		family = unix.AF_INET6
	}
	if r.Unreachable {
		action = unix.FR_ACT_UNREACHABLE
	}
	flags := uint32(0)
	if r.NotIif {
		flags = unix.FIB_RULE_INVERT
	}
	b := binary.NativeEndian.AppendUint32([]byte{family, 0, 0, 0, unix.RT_TABLE_UNSPEC, 0, 0, action}, flags)
	attr := func(typ int, data []byte) { b = append(b, nl.NewRtAttr(typ, data).Serialize()...) }
	attr(unix.FRA_PRIORITY, nl.Uint32Attr(uint32(r.Priority)))
	attr(unix.FRA_PROTOCOL, []byte{byte(protocol)})
	if !r.Unreachable {
		attr(unix.FRA_TABLE, nl.Uint32Attr(r.Table))
	}
	if r.Mark != 0 {
		attr(unix.FRA_FWMARK, nl.Uint32Attr(r.Mark))
		attr(unix.FRA_FWMASK, nl.Uint32Attr(^uint32(0)))
	}
	if r.IifName != "" {
		attr(unix.FRA_IIFNAME, nl.ZeroTerminated(r.IifName))
	}
	if r.NoDefault {
		attr(unix.FRA_SUPPRESS_PREFIXLEN, nl.Uint32Attr(0))
	}
	return b
}

// rules reads the rules of one family that carry a protocol number.
func (c *batchConn) rules(v6 bool, protocol int) (list []Rule, err error) {
	family := byte(unix.AF_INET)
	if v6 {
		family = unix.AF_INET6
	}
	messages, err := dump(func() ([][]byte, error) {
		return c.dump(unix.RTM_GETRULE, []byte{family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	})
	if err != nil {
		return nil, fmt.Errorf("read the kernel's rules: %w", err)
	}
	for _, m := range messages {
		r, proto, err := parseRule(m, v6)
		if err != nil {
			return nil, fmt.Errorf("read the kernel's rules: %w", err)
		}
		if int(proto) == protocol {
			list = append(list, r)
		}
	}
	return list, nil
}

// parseRule reads struct fib_rule_hdr with its attributes.
func parseRule(b []byte, v6 bool) (r Rule, protocol byte, err error) {
	if len(b) < unix.SizeofRtMsg {
		return r, 0, fmt.Errorf("a rule of %d bytes", len(b))
	}
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtMsg:])
	if err != nil {
		return r, 0, err
	}
	r = Rule{IPv6: v6, Unreachable: b[7] == unix.FR_ACT_UNREACHABLE, NotIif: binary.NativeEndian.Uint32(b[8:])&unix.FIB_RULE_INVERT != 0}
	for _, a := range attrs {
		number := uint32(0)
		if len(a.Value) >= 4 {
			number = binary.NativeEndian.Uint32(a.Value)
		}
		switch a.Attr.Type {
		case unix.FRA_PRIORITY:
			r.Priority = int(number)
		case unix.FRA_TABLE:
			r.Table = number
		case unix.FRA_FWMARK:
			r.Mark = number
		case unix.FRA_IIFNAME:
			r.IifName = nl.BytesToString(a.Value)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.NoDefault = number == 0
		case unix.FRA_PROTOCOL:
			protocol = a.Value[0]
		}
	}
	return r, protocol, nil
}

// dump reads all messages of a kind, without their netlink headers.
func (c *batchConn) dump(typ uint16, body []byte) (list [][]byte, err error) {
	c.seq++
	buf := appendMessage(nil, typ, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, c.seq, body)
	if err := unix.Sendto(c.fd, buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	interrupted := false
	for {
		buf := make([]byte, 64<<10)
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			length := int(binary.NativeEndian.Uint32(b))
			kind, flags, seq := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:])
			if length < unix.NLMSG_HDRLEN || length > len(b) {
				return nil, fmt.Errorf("a message of %d bytes in %d", length, len(b))
			}
			interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case seq != c.seq: // of a dump that was given up
			case kind == unix.NLMSG_DONE && interrupted:
				return nil, netlink.ErrDumpInterrupted
			case kind == unix.NLMSG_DONE:
				return list, nil
			case kind == unix.NLMSG_ERROR && length >= unix.NLMSG_HDRLEN+4:
				return nil, unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])))
			default:
				list = append(list, b[unix.NLMSG_HDRLEN:length])
			}
			b = b[min(len(b), (length+3)&^3):]
		}
	}
}

// prefixOf turns a destination of the kernel, nil for the default, into a prefix.
func prefixOf(ip []byte, ones int, v6 bool) netip.Prefix {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		a = netip.IPv4Unspecified()
		if v6 {
			a = netip.IPv6Unspecified()
		}
	}
	if !v6 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, ones)
}
