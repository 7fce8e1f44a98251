package wireguard

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/curve25519"
)

// queueLen is how many messages of handshakes wait. More than half of them waiting is a flood.
const queueLen = 64

// loadedFor is how long after a flood cookies are asked for.
const loadedFor = time.Second

type handshakeMessage struct {
	n int
	b [initiationLen]byte // the longest
}

// Device is one end of a tunnel: a codec of the pump. Seal and Open are for its
// loops, Run is for the goroutine that shakes hands.
type Device struct {
	table table
	mtu   atomic.Int64 // padding goes no further
	queue chan handshakeMessage
	woken chan struct{} // something changed that Run has to look at
	// shed is until when a message without a cookie would not even get one, as
	// time.Time.UnixNano has it: the loops drop it, and the flood costs them alone.
	shed atomic.Int64

	mu sync.Mutex // of the machine
	m  *machine
}

// New makes a device. It refuses keys that cannot work.
func New(c Config) (*Device, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	d := &Device{queue: make(chan handshakeMessage, queueLen), woken: make(chan struct{}, 1)}
	d.mtu.Store(int64(c.MTU))
	d.m = newMachine(c, &d.table, time.Now())
	return d, nil
}

func (c *Config) check() error {
	switch {
	case c.PrivateKey == (PrivateKey{}) || c.PeerPublicKey == (PublicKey{}):
		return fmt.Errorf("wireguard: a private key and the peer's public key are needed")
	}
	for _, theirs := range []PublicKey{c.PeerPublicKey, c.NextPeerPublicKey} {
		if theirs == (PublicKey{}) {
			continue
		}
		if _, err := curve25519.X25519(c.PrivateKey[:], theirs[:]); err != nil {
			return fmt.Errorf("wireguard: %s is nobody's public key", theirs)
		}
		for _, ours := range []PrivateKey{c.PrivateKey, c.NextPrivateKey} {
			if ours != (PrivateKey{}) && ours.Public() == theirs {
				return fmt.Errorf("wireguard: %s is the peer's public key and our own", theirs)
			}
		}
	}
	return nil
}

// Reconfigure takes other keys, a preshared key and a persistent keepalive.
// Sessions whose keys stay are not disturbed. The MTU is SetMTU's.
func (d *Device) Reconfigure(c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.MTU = int(d.mtu.Load())
	d.m.configure(c, time.Now())
	d.wake()
	return nil
}

// SetMTU says how long the largest packet is, in bytes: padding makes none longer.
func (d *Device) SetMTU(mtu int) { d.mtu.Store(int64(mtu)) }

func (d *Device) wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// Run shakes hands until the context ends. A datagram that cannot be sent is one
// that was lost on its way.
func (d *Device) Run(ctx context.Context, send func(datagram []byte) error) {
	out := func(b []byte) { _ = send(b) }
	timer := time.NewTimer(0)
	defer timer.Stop()
	var loaded time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.woken:
		case msg := <-d.queue:
			now := time.Now()
			if len(d.queue) > queueLen/2 {
				loaded = now.Add(loadedFor)
			}
			d.mu.Lock()
			d.m.message(now, msg.b[:msg.n], now.Before(loaded), out)
			if now.Before(loaded) && d.m.spent(now) {
				d.shed.Store(min(now.Truncate(time.Second).Add(time.Second).UnixNano(), loaded.UnixNano()))
			}
			d.mu.Unlock()
			if len(d.queue) > 0 {
				continue // what is due waits until the queue is empty, or the timer
			}
		}
		d.mu.Lock()
		next := d.m.tick(time.Now(), out)
		d.mu.Unlock()
		timer.Reset(time.Until(next))
	}
}

// Status describes the device at this moment.
func (d *Device) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.m.confirm(time.Now())
	s := d.m.status
	s.Up = d.Resolved()
	s.LastHeard = d.m.lastHeard
	s.KeyLogged = d.m.log != nil
	for _, id := range d.m.ours {
		s.OurKeys = append(s.OurKeys, id.public)
	}
	s.TheirKeys = append(s.TheirKeys, d.m.theirs...)
	return s
}
