package health

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"go.uber.org/zap"
)

// Bounds and defaults of a Config.
const (
	defaultInterval  = 2 * time.Second
	minInterval      = 100 * time.Millisecond
	maxInterval      = time.Hour
	defaultTimeout   = time.Second
	defaultFailures  = 3
	defaultSuccesses = 2
	maxInARow        = 1000
)

// Config says what a probe checks. Exactly one of HTTP, TCP and ICMP is set.
type Config struct {
	// Name is the probe's name in logs.
	Name string

	// HTTP is a URL with scheme http or https, checked by a GET. A status of
	// 200 to 399 is success; a redirect is one, and is not followed. At most
	// 64 KiB of the body are read. A name in it is looked up anew by each check.
	HTTP string
	// TCP is an address and port that a connection must be made to; nothing is sent.
	TCP netip.AddrPort
	// ICMP is an address, IPv4 or IPv6, that must answer an echo request.
	ICMP netip.Addr

	// Interval from the begin of one check to the begin of the next: 100 ms to
	// 1 h, 0 for 2 s.
	Interval time.Duration
	// Timeout of one check: up to Interval; 0 for 1 s, or Interval if that is less.
	Timeout time.Duration
	// Failures in a row after which the probe is down: 1 to 1000, 0 for 3.
	Failures int
	// Successes in a row after which the probe is up: 1 to 1000, 0 for 2.
	Successes int

	// Mark is SO_MARK of all of the probe's packets, DNS queries too; 0 for none.
	// It needs CAP_NET_ADMIN.
	Mark uint32
	// Source is the address that checks come from; the zero address leaves it
	// to the kernel. DNS queries do not have it: the name server may be of the
	// other family.
	Source netip.Addr
	// TLSInsecure accepts any certificate: reachability is what is checked.
	TLSInsecure bool

	// OnChange is called by Run's goroutine for each change, with a sentence
	// for a person. It delays the next check, so it must not block. It is not
	// called for the beginning, which is down, nor when Run ends.
	OnChange func(up bool, reason string)
	// Log gets changes; nil discards.
	Log *zap.Logger
}

// normalize fills in defaults and checks everything that can be known without a packet.
func (c *Config) normalize() error {
	c.TCP = netip.AddrPortFrom(c.TCP.Addr().Unmap(), c.TCP.Port())
	c.ICMP, c.Source = c.ICMP.Unmap(), c.Source.Unmap()
	orDefault(&c.Interval, defaultInterval)
	orDefault(&c.Timeout, min(defaultTimeout, c.Interval))
	orDefault(&c.Failures, defaultFailures)
	orDefault(&c.Successes, defaultSuccesses)
	if c.OnChange == nil {
		c.OnChange = func(bool, string) {}
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	switch {
	case c.Interval < minInterval || c.Interval > maxInterval:
		return fmt.Errorf("interval %s is not within %s to %s", c.Interval, minInterval, maxInterval)
	case c.Timeout < 0 || c.Timeout > c.Interval:
		return fmt.Errorf("timeout %s is not within 0 to the interval, %s", c.Timeout, c.Interval)
	case c.Failures < 0 || c.Failures > maxInARow:
		return fmt.Errorf("%d failures in a row are not within 1 to %d", c.Failures, maxInARow)
	case c.Successes < 0 || c.Successes > maxInARow:
		return fmt.Errorf("%d successes in a row are not within 1 to %d", c.Successes, maxInARow)
	case c.Source.IsValid() && (c.Source.IsUnspecified() || c.Source.IsMulticast()):
		return fmt.Errorf("source %s is no address of a machine", c.Source)
	}
	return c.checkTarget()
}

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (c *Config) checkTarget() error {
	targets := 0
	for _, set := range []bool{c.HTTP != "", c.TCP != netip.AddrPort{}, c.ICMP.IsValid()} {
		if set {
			targets++
		}
	}
	switch {
	case targets != 1:
		return fmt.Errorf("%d of HTTP, TCP and ICMP are set, not one", targets)
	case c.HTTP != "":
		return c.checkURL()
	case c.ICMP.IsValid():
		return c.checkAddr(c.ICMP)
	case c.TCP.Port() == 0:
		return errors.New("port 0 cannot be connected to")
	}
	return c.checkAddr(c.TCP.Addr())
}

func (c *Config) checkURL() error {
	u, err := url.Parse(c.HTTP)
	switch {
	case err != nil:
		return fmt.Errorf("read the URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %q of the URL is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return fmt.Errorf("URL %q names no host", c.HTTP)
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return c.checkAddr(a.Unmap())
	}
	return nil // a name: its addresses are known only when it is looked up
}

func (c *Config) checkAddr(a netip.Addr) error {
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
		return fmt.Errorf("%s is no address of a machine", a)
	case c.Source.IsValid() && c.Source.Is4() != a.Is4():
		return fmt.Errorf("source %s is of another family than %s", c.Source, a)
	}
	return nil
}
