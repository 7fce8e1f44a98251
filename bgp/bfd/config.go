package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Defaults and bounds of Config.
const (
	DefaultInterval   = 300 * time.Millisecond
	DefaultMultiplier = 3
	MinInterval       = 10 * time.Millisecond
	MaxInterval       = time.Minute
)

// Config describes one session.
type Config struct {
	// Name is the tunnel's, for logs and Status.
	Name string
	// Local and Peer are the ends' addresses, both IPv4 or both IPv6, inside
	// the tunnel. Local has to be on this machine when the session starts.
	Local, Peer netip.Addr
	// Interface is the device the sockets are bound to; empty for none. The
	// binding is to the device, not to its name: one that is made anew under
	// the same name needs a new session.
	Interface string
	// Interval is both the desired transmit and the required receive interval;
	// 0 is DefaultInterval, otherwise MinInterval to MaxInterval.
	Interval time.Duration
	// Multiplier is how many of our packets in a row the peer may miss; 0 is DefaultMultiplier.
	Multiplier uint8
	// Multihop takes UDP port 4784 and a TTL of at least 254 (RFC 5883)
	// instead of port 3784 and a TTL of 255 (RFC 5881).
	Multihop bool
	// Mark is SO_MARK of what is sent; 0 for none.
	Mark uint32
	// OnState is called from the session's goroutine on each change of state.
	// While it runs nothing is sent: it must not block, and must not call
	// Shutdown or Close, which wait for it. Status is allowed.
	OnState func(Change)
	// Log gets changes of state and a failure to send; nil discards.
	Log *zap.Logger
}

// withDefaults fills in what was left out and checks the rest.
func (c Config) withDefaults() (Config, error) {
	c.Local, c.Peer = c.Local.Unmap(), c.Peer.Unmap()
	switch {
	case !c.Local.IsValid() || !c.Peer.IsValid():
		return c, errors.New("local and peer address are needed")
	case c.Local.Is4() != c.Peer.Is4():
		return c, fmt.Errorf("local %s and peer %s are of different families", c.Local, c.Peer)
	case c.Local == c.Peer:
		return c, fmt.Errorf("local and peer address are both %s", c.Local)
	case c.Local.IsUnspecified() || c.Peer.IsUnspecified() || c.Peer.IsMulticast():
		return c, fmt.Errorf("no session is possible from %s to %s", c.Local, c.Peer)
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Interval < MinInterval || c.Interval > MaxInterval {
		return c, fmt.Errorf("interval %s is outside %s to %s", c.Interval, MinInterval, MaxInterval)
	}
	c.Interval = c.Interval.Truncate(time.Microsecond) // the wire's unit
	if c.Multiplier == 0 {
		c.Multiplier = DefaultMultiplier
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.OnState == nil {
		c.OnState = func(Change) {}
	}
	return c, nil
}
