package esp

import (
	"fmt"
	"slices"

	"github.com/transitd/transitd/tunnel/sa"
)

// maxPairs bounds how many pairs there are at once: one, two while it is being
// replaced, and those that linger.
const maxPairs = 64

// find is the pair that a packet's SPI names. There are few.
func (c *Codec) find(spi uint32) *pair {
	for _, p := range *c.live.Load() {
		if p.in == spi {
			return p
		}
	}
	return nil
}

// Install implements sa.Installer.
func (c *Codec) Install(p sa.Pair, use bool) error {
	n, err := newPair(p)
	if err != nil {
		return fmt.Errorf("esp: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	live := *c.live.Load()
	switch {
	case c.find(p.In.SPI) != nil:
		return fmt.Errorf("esp: there is a pair %s already", p.In)
	case len(live) >= maxPairs:
		return fmt.Errorf("esp: there are %d pairs already", len(live))
	}
	n.waits.Store(!use)
	next := append(slices.Clone(live), n)
	c.live.Store(&next)
	if use {
		c.use(n)
	}
	return nil
}

// Use implements sa.Installer.
func (c *Codec) Use(in uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.find(in); p != nil {
		c.use(p)
	}
}

// arrived uses a pair that waited for its first packet, unless another was chosen meanwhile.
func (c *Codec) arrived(p *pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.waits.Load() {
		c.use(p)
	}
}

func (c *Codec) use(p *pair) {
	for _, o := range *c.live.Load() {
		o.waits.Store(false)
	}
	c.out.Store(p)
}

// Remove implements sa.Installer. A packet that is being sealed or opened at this
// moment is still.
func (c *Codec) Remove(in uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.find(in)
	if p == nil {
		return
	}
	next := slices.DeleteFunc(slices.Clone(*c.live.Load()), func(o *pair) bool { return o == p })
	c.live.Store(&next)
	c.out.CompareAndSwap(p, nil)
}

// Usage implements sa.Installer.
func (c *Codec) Usage(in uint32) (sa.Usage, bool) {
	p := c.find(in)
	if p == nil {
		return sa.Usage{}, false
	}
	return sa.Usage{
		InPackets: p.inPackets.Load(), InBytes: p.inBytes.Load(), OutPackets: p.outPackets.Load(), OutBytes: p.outBytes.Load(), Spent: p.spent(),
	}, true
}
