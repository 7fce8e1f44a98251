package wireguard

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/transitd/transitd/tunnel"
)

// The judge is upstream's device, in this process. Between it and ours lie two
// channels in place of a network.

// wire carries datagrams to and from upstream's device.
type wire struct {
	toPeer, toUs chan []byte
	closed       chan struct{}
}

func (w *wire) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	w.closed = make(chan struct{})
	closed := w.closed
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case b := <-w.toPeer:
			sizes[0], eps[0] = copy(bufs[0], b), endpoint{}
			return 1, nil
		case <-closed:
			return 0, net.ErrClosed
		}
	}}, 51820, nil
}

func (w *wire) Close() error {
	if w.closed != nil {
		close(w.closed)
		w.closed = nil
	}
	return nil
}
func (*wire) SetMark(uint32) error                        { return nil }
func (*wire) BatchSize() int                              { return 1 }
func (*wire) ParseEndpoint(string) (conn.Endpoint, error) { return endpoint{}, nil }
func (w *wire) Send(bufs [][]byte, _ conn.Endpoint) error {
	for _, b := range bufs {
		w.toUs <- bytes.Clone(b)
	}
	return nil
}

type endpoint struct{}

func (endpoint) ClearSrc()           {}
func (endpoint) SrcToString() string { return "" }
func (endpoint) DstToString() string { return "192.0.2.1:51820" }
func (endpoint) DstToBytes() []byte  { return []byte{192, 0, 2, 1} }
func (endpoint) DstIP() netip.Addr   { return netip.MustParseAddr("192.0.2.1") }
func (endpoint) SrcIP() netip.Addr   { return netip.Addr{} }

// memory is upstream's TUN device.
type memory struct {
	in, out chan []byte // to the device, from the device
	events  chan tun.Event
	closed  chan struct{}
}

func (*memory) File() *os.File             { return nil }
func (*memory) MTU() (int, error)          { return testMTU, nil }
func (*memory) Name() (string, error)      { return "wg0", nil }
func (m *memory) Events() <-chan tun.Event { return m.events }
func (*memory) BatchSize() int             { return 1 }
func (m *memory) Close() error {
	close(m.closed)
	close(m.events)
	return nil
}

func (m *memory) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case b := <-m.in:
		sizes[0] = copy(bufs[0][offset:], b)
		return 1, nil
	case <-m.closed:
		return 0, os.ErrClosed
	}
}

func (m *memory) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		select {
		case m.out <- bytes.Clone(b[offset:]):
		case <-m.closed:
		}
	}
	return len(bufs), nil
}

const testMTU = 1400

// rig is our device and upstream's.
type rig struct {
	t        *testing.T
	ours     *Device
	w        *wire
	tun      *memory
	peer     *device.Device
	received chan []byte // packets that our device opened
}

func testKey(t testing.TB) PrivateKey {
	t.Helper()
	k, err := NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newRig starts upstream's device; ours is started by run.
func newRig(t *testing.T, psk PresharedKey) *rig {
	t.Helper()
	a, b := testKey(t), testKey(t)
	r := &rig{
		t: t, received: make(chan []byte, 100), w: &wire{toPeer: make(chan []byte, 100), toUs: make(chan []byte, 100)},
		tun: &memory{in: make(chan []byte), out: make(chan []byte, 100), events: make(chan tun.Event, 1), closed: make(chan struct{})},
	}
	var err error
	r.ours, err = New(Config{MTU: testMTU, Remote: netip.MustParseAddr("192.0.2.2"), PrivateKey: a, PeerPublicKey: b.Public(), PresharedKey: psk})
	if err != nil {
		t.Fatal(err)
	}
	r.peer = device.NewDevice(r.tun, r.w, device.NewLogger(device.LogLevelSilent, ""))
	public := a.Public()
	conf := fmt.Sprintf("private_key=%s\nlisten_port=51820\npublic_key=%s\npreshared_key=%s\nendpoint=192.0.2.1:51820\nallowed_ip=0.0.0.0/0\n",
		hex.EncodeToString(b[:]), hex.EncodeToString(public[:]), hex.EncodeToString(psk[:]))
	if err := errors.Join(r.peer.IpcSet(conf), r.peer.Up()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.peer.Close)
	return r
}

// run starts our device until the test ends.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() {
		r.ours.Run(ctx, func(b []byte) error {
			r.w.toPeer <- bytes.Clone(b)
			return nil
		})
		done <- struct{}{}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			select {
			case b := <-r.w.toUs:
				inner, _, kind, reason := r.ours.Open(b)
				switch {
				case reason != tunnel.DropNone:
					r.t.Errorf("dropped: %s", reason)
				case kind == tunnel.Control:
					_, _ = r.ours.Control(nil, inner)
				case kind == tunnel.Packet:
					r.received <- bytes.Clone(inner)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	r.t.Cleanup(func() { cancel(); <-done; <-done })
}

// ping is an IPv4 packet with n bytes of payload.
func ping(n int) []byte {
	b := make([]byte, 20+n)
	b[0], b[8], b[9] = 0x45, 64, 253
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	copy(b[12:], []byte{198, 51, 100, 1, 198, 51, 100, 2})
	for i := range n {
		b[20+i] = byte(i)
	}
	return b
}

// send seals a packet of ours and waits for it at the peer.
func (r *rig) send(pkt []byte) {
	r.t.Helper()
	buf := make([]byte, headerLen+len(pkt)+r.ours.Trailer())
	copy(buf[headerLen:], pkt)
	start, end, reason := r.ours.Seal(buf, headerLen, len(pkt))
	if reason != tunnel.DropNone {
		r.t.Fatalf("seal: %s", reason)
	}
	r.w.toPeer <- buf[start:end]
	r.expect(r.tun.out, pkt)
}

func (r *rig) expect(from chan []byte, want []byte) {
	r.t.Helper()
	select {
	case got := <-from:
		if !bytes.Equal(got, want) {
			r.t.Errorf("got % x\nwant % x", got, want)
		}
	case <-time.After(10 * time.Second):
		r.t.Fatalf("a packet of %d bytes did not arrive; %+v", len(want), r.ours.Status())
	}
}

func (r *rig) up() {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); !r.ours.Resolved(); {
		if time.Now().After(end) {
			r.t.Fatalf("no session: %+v", r.ours.Status())
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rig) traffic() {
	r.t.Helper()
	for _, n := range []int{0, 1, 12, 100, 1360, testMTU - 20} {
		r.send(ping(n))
		r.tun.in <- ping(n)
		r.expect(r.received, ping(n))
	}
}

func TestUpstreamAsResponder(t *testing.T) {
	for name, psk := range map[string]PresharedKey{"without a preshared key": {}, "with one": {1, 2, 3}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, psk)
			r.run()
			r.up()
			r.traffic()
			if s := r.ours.Status(); s.Handshakes != 1 || s.Initiations != 1 || !s.Up {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestUpstreamAsInitiator(t *testing.T) {
	for name, psk := range map[string]PresharedKey{"without a preshared key": {}, "with one": {1, 2, 3}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, psk)
			r.ours.m.retry = time.Now().Add(time.Hour) // not us
			r.run()
			r.tun.in <- ping(33)
			r.expect(r.received, ping(33))
			r.up()
			r.traffic()
			if s := r.ours.Status(); s.Responses != 1 || s.Initiations != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A rekey by either side disturbs nothing.
func TestUpstreamRekeys(t *testing.T) {
	r := newRig(t, PresharedKey{9})
	r.run()
	r.up()
	for i := range 2 {
		r.traffic()
		time.Sleep(50 * time.Millisecond) // upstream answers no two initiations within 20 ms, and its timestamps are as coarse
		r.ours.mu.Lock()
		for _, s := range r.ours.m.sessions {
			s.born = s.born.Add(-RekeyAfter)
		}
		r.ours.m.sessions = r.ours.m.sessions[len(r.ours.m.sessions)-1:]
		r.ours.mu.Unlock()
		r.ours.wake()
		for end := time.Now().Add(10 * time.Second); r.ours.Status().Handshakes < uint64(i+2); {
			if time.Now().After(end) {
				t.Fatalf("no rekey: %+v", r.ours.Status())
			}
			time.Sleep(time.Millisecond)
		}
	}
	r.traffic()
}
