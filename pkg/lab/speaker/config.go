package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Bounds of the hold time offered (RFC 4271, section 4.2: zero or at least 3 s;
// the lab has no use for sessions that never expire).
const (
	minHoldTime = 3 * time.Second
	maxHoldTime = 65535 * time.Second
)

func withDefaults(c Config) Config {
	c.HoldTime = defaultDuration(c.HoldTime, DefaultHoldTime)
	c.ConnectRetry = defaultDuration(c.ConnectRetry, DefaultConnectRetry)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Listen.IsValid() && c.Listen.Port() == 0 {
		c.Listen = netip.AddrPortFrom(c.Listen.Addr(), DefaultPort)
	}
	c.Peers = slices.Clone(c.Peers)
	for i := range c.Peers {
		p := &c.Peers[i]
		if p.Port == 0 {
			p.Port = DefaultPort
		}
		p.LimitIdle = defaultDuration(p.LimitIdle, DefaultLimitIdle)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.ASN == 0:
		return fmt.Errorf("speaker: AS number 0 is not allowed (1 to 4294967295)")
	case !c.RouterID.Is4() || c.RouterID.IsUnspecified():
		return fmt.Errorf("speaker: router id %v is not a non-zero IPv4 address", c.RouterID)
	case c.HoldTime < minHoldTime || c.HoldTime > maxHoldTime || c.HoldTime%time.Second != 0:
		return fmt.Errorf("speaker: hold time %v is not in whole seconds from 3 s to 65535 s", c.HoldTime)
	case c.ConnectRetry < 0:
		return fmt.Errorf("speaker: connect retry %v is negative", c.ConnectRetry)
	}
	names, addrs := make(map[string]bool), make(map[netip.Addr]bool)
	for _, p := range c.Peers {
		if names[p.Name] || addrs[p.Addr] {
			return fmt.Errorf("speaker: neighbour %q (%v) is there twice, by name or by address", p.Name, p.Addr)
		}
		names[p.Name], addrs[p.Addr] = true, true
		if err := p.validate(c.ASN); err != nil {
			return fmt.Errorf("speaker: neighbour %q: %w", p.Name, err)
		}
	}
	return nil
}

func (p Peer) validate(own uint32) error {
	switch {
	case p.Name == "":
		return fmt.Errorf("no name")
	case !p.Addr.Is4() || p.Addr.IsUnspecified():
		return fmt.Errorf("address %v is not an IPv4 address", p.Addr)
	case p.Local.IsValid() && !p.Local.Is4():
		return fmt.Errorf("local address %v is not an IPv4 address", p.Local)
	case p.ASN == 0:
		return fmt.Errorf("AS number 0 is not allowed (1 to 4294967295)")
	case p.ASN == own:
		return fmt.Errorf("AS number %d is our own, and IBGP is not spoken", p.ASN)
	case p.MaxPrefixes < 0 || p.Burst < 0 || p.LimitIdle < 0:
		return fmt.Errorf("limit %d, burst %v or pause %v is negative", p.MaxPrefixes, p.Burst, p.LimitIdle)
	}
	return nil
}
