package fib

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// settle collects the events of one cause, such as a flush of a table.
	settle = 20 * time.Millisecond
	// pause is the least time between two alarms, should another program insist.
	pause = 200 * time.Millisecond
)

// monitor listens to the kernel's notifications.
type monitor struct {
	f        *os.File
	protocol byte
	tables   Tables
	own      uint32 // netlink port whose route changes are our own
}

func openMonitor(protocol int, tables Tables, own uint32) (*monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range []int{
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		// IPv4 routes that go with their device or source address go without a word.
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	} {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the kernel's routes: %w", err), unix.Close(fd))
	}
	return &monitor{f: os.NewFile(uintptr(fd), "netlink"), protocol: byte(protocol), tables: tables, own: own}, nil
}

func (m *monitor) close() error { return m.f.Close() }

// run sends to events, which has room for one, when something of ours may have changed.
func (m *monitor) run(ctx context.Context, events chan<- struct{}, log *zap.Logger) {
	stop := context.AfterFunc(ctx, func() { _ = m.f.SetReadDeadline(time.Now()) })
	defer stop()
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, err := m.f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENOBUFS): // events were lost: whatever it was, compare everything
		case err != nil:
			log.Error("the kernel's notifications cannot be read; routes are compared every half minute only", zap.Error(err))
			return
		case !m.concerns(buf[:n]):
			continue
		}
		if !wait(ctx, settle) {
			return
		}
		select {
		case events <- struct{}{}:
		default: // one is waiting already
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

// wait reports whether ctx lasted for d.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// concerns reports whether any message in b may be about something of ours that somebody else changed.
func (m *monitor) concerns(b []byte) bool {
	for len(b) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return true // not understood: compare
		}
		typ, pid := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[12:])
		switch typ {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if pid != m.own && m.ours(b[unix.NLMSG_HDRLEN:length]) {
				return true
			}
		default:
			return true
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return false
}

// ours reads struct rtmsg: the protocol is at 5, the attributes begin at 12.
func (m *monitor) ours(b []byte) bool {
	if len(b) < unix.SizeofRtMsg || b[5] == m.protocol {
		return true
	}
	for a := b[unix.SizeofRtMsg:]; len(a) >= unix.SizeofRtAttr; {
		length, typ := int(binary.NativeEndian.Uint16(a)), binary.NativeEndian.Uint16(a[2:])
		if length < unix.SizeofRtAttr || length > len(a) {
			return true
		}
		if typ == unix.RTA_TABLE && length >= 8 {
			t := binary.NativeEndian.Uint32(a[4:])
			return t == m.tables.Underlay || t == m.tables.Site || t == m.tables.Remote || t == m.tables.Relay
		}
		a = a[min(len(a), (length+3)&^3):]
	}
	return false
}
