package ipsec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/esp"
	"github.com/transitd/transitd/tunnel/ike"
	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/sa"
)

const (
	// queueLen is how many messages of IKE wait, and maxMessage how long one may be
	// in bytes: RFC 7296, section 2, asks for 3,000; what is longer comes in fragments.
	queueLen   = 64
	maxMessage = 8192
	// marker is in front of IKE at the port of ESP (RFC 3948, section 2.2).
	marker = "\x00\x00\x00\x00"
)

// Config is a tunnel's.
type Config struct {
	IKE       ike.Config  // without Random and KeyLog
	Interface string      // the underlay's card, to which the socket at port 500 is bound; empty: any
	Mark      uint32      // of what it sends
	Log       *zap.Logger // nil discards
	// IKEKeys and ESPKeys get the secrets as tshark reads them (its tables
	// ikev2_decryption_table and esp_sa); nil: nothing is written.
	IKEKeys, ESPKeys io.Writer
}

type message struct {
	port ike.Port
	n    int
	b    [maxMessage]byte
}

// Device is one end of a tunnel: a codec of the pump. Seal and Open are for its
// loops, Run is for the goroutine that speaks IKE.
type Device struct {
	*esp.Codec
	cfg   Config
	gate  gate
	free  chan *message
	queue chan *message
	woken chan struct{} // something changed that Run has to look at

	at   *port500      // nil: not there
	lost atomic.Uint64 // messages that came there and were not taken

	mu   sync.Mutex // of the machine, and of send
	m    *ike.Machine
	send func(datagram []byte) error // nil before Run and after it
	buf  []byte
	told time.Time // when the log last said that a message does not fit
}

// New makes a device, and opens the socket at port 500. It refuses what cannot
// work: without that socket that is raw ESP, for which IKE has no other.
func New(c Config) (*Device, error) {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	codec := esp.New()
	if c.IKE.Raw {
		codec = esp.NewRaw()
	}
	d := &Device{Codec: codec, cfg: c, free: make(chan *message, queueLen), queue: make(chan *message, queueLen), woken: make(chan struct{}, 1)}
	for range queueLen {
		d.free <- new(message)
	}
	m, err := ike.New(d.complete(c.IKE), effects{d.Codec, d}, time.Now())
	if err != nil {
		return nil, fmt.Errorf("ipsec: %w", err)
	}
	d.m = m
	d.at, err = listen500(c)
	switch {
	case err != nil && c.IKE.Raw:
		return nil, fmt.Errorf("ipsec: %w", err)
	case err != nil:
		c.Log.Warn("peers that begin at UDP port 500 are not heard: ss -lunp 'sport = :500' shows whether another program has it", zap.Error(err))
	}
	return d, nil
}

// Close closes the socket at port 500. Run does so too.
func (d *Device) Close() { d.at.close() }

// complete adds what the configuration does not say.
func (d *Device) complete(c ike.Config) ike.Config {
	c.Random = rand.Reader
	if w := d.cfg.IKEKeys; w != nil {
		c.KeyLog = func(line string) { d.keys(w, line) }
	}
	return c
}

func (d *Device) keys(w io.Writer, line string) {
	if _, err := io.WriteString(w, line+"\n"); err != nil {
		d.cfg.Log.Warn("keys cannot be logged", zap.Error(err))
	}
}

// Control takes an IKE message to the goroutine that has time for it.
func (d *Device) Control(dst, b []byte) (reply []byte, r tunnel.DropReason) {
	return dst, d.take(ike.PortESP, b)
}

func (d *Device) take(port ike.Port, b []byte) tunnel.DropReason {
	switch {
	case len(b) > maxMessage:
		return tunnel.DropTruncated
	case len(b) < ikemessage.HeaderLen:
		return tunnel.DropShort
	}
	if !d.gate.admits(b, time.Now()) {
		return tunnel.DropHandshakeQueue
	}
	select {
	case m := <-d.free:
		m.port, m.n = port, copy(m.b[:], b)
		d.queue <- m // there is room: there are no more messages than that
		return tunnel.DropNone
	default:
		return tunnel.DropHandshakeQueue
	}
}

// Run speaks IKE until the context ends; then the peer is told. A datagram that
// cannot be sent is one that was lost on its way.
func (d *Device) Run(ctx context.Context, send func(datagram []byte) error) {
	d.at.serve(d)
	d.mu.Lock()
	d.send = send
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.m.Close(time.Now())
		d.send = nil
		d.mu.Unlock()
		d.at.close()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.woken:
		case msg := <-d.queue:
			d.mu.Lock()
			d.m.Message(time.Now(), msg.port, d.peer(msg.port), msg.b[:msg.n])
			d.mu.Unlock()
			d.free <- msg
		}
		d.mu.Lock()
		next := d.m.Tick(time.Now())
		d.gate.know(d.m.SPIs())
		d.mu.Unlock()
		timer.Reset(time.Until(next))
	}
}

// peer is where messages at one of our ports come from: sockets take nothing else.
func (d *Device) peer(port ike.Port) netip.AddrPort {
	if port == ike.PortIKE {
		return netip.AddrPortFrom(d.cfg.IKE.Remote.Addr(), 500)
	}
	return d.cfg.IKE.Remote
}

func (d *Device) wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// Reconfigure takes another configuration. If what was agreed on no longer fits,
// SAs are made anew, and those before go on until then. Addresses and ports, the
// key logs and what belongs to sockets stay.
func (d *Device) Reconfigure(c ike.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.wake()
	return d.m.Reconfigure(time.Now(), d.complete(c))
}

// Rekey replaces the pair that carries packets, or the IKE SA. The error says why
// that cannot be.
func (d *Device) Rekey(ikeSA bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.wake()
	if ikeSA {
		return d.m.RekeyIKE(time.Now())
	}
	return d.m.RekeyChild(time.Now())
}

// Terminate deletes all SAs. If we initiate, the tunnel comes up again.
func (d *Device) Terminate() {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.wake()
	d.m.Terminate(time.Now())
}

// Status describes the device at this moment.
func (d *Device) Status() ike.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.m.Status()
	s.Lost = d.lost.Load()
	return s
}

// effects is what a machine does. It is called with the device's lock.
type effects struct {
	*esp.Codec
	d *Device
}

// Install implements sa.Installer.
func (e effects) Install(p sa.Pair, use bool) error {
	if w := e.d.cfg.ESPKeys; w != nil {
		for _, line := range esp.KeyLogLines(p, e.d.cfg.IKE.Local.Addr(), e.d.cfg.IKE.Remote.Addr()) {
			e.d.keys(w, line)
		}
	}
	return e.Codec.Install(p, use)
}

// Send implements ike.Effects.
func (e effects) Send(port ike.Port, _ netip.AddrPort, datagram []byte) {
	d := e.d
	switch {
	case d.send == nil:
	case port == ike.PortIKE:
		d.at.send(datagram)
	default:
		d.buf = append(append(d.buf[:0], marker...), datagram...)
		if err := d.send(d.buf); errors.Is(err, unix.EMSGSIZE) { // other errors: see Run
			d.tooLong(len(d.buf), time.Now())
		}
	}
}

// tooLong says, once a minute at most, that a message never leaves this machine: the socket sends no IP fragments, and
// IKE's own (RFC 7383) are only for a peer that offers to take them.
func (d *Device) tooLong(n int, now time.Time) {
	if now.Sub(d.told) < time.Minute {
		return
	}
	d.told = now
	d.cfg.Log.Warn("IPsec: a message of IKE is longer than the card takes, and the peer takes no fragments (RFC 7383): allow fragmentation there, or use shorter certificates",
		zap.Int("bytes", n))
}

// Log implements ike.Effects.
func (e effects) Log(v ike.Event) {
	if v.Problem {
		e.d.cfg.Log.Warn("IPsec: " + v.Text)
		return
	}
	e.d.cfg.Log.Info("IPsec: " + v.Text)
}
