package ipsec

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/ike/auth"
	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// room is in front of a packet, and behind it, for what a codec adds.
const room = 64

// ikeConfig is one of two ends that share a secret. Port 4501 has no port 500 beside it.
func ikeConfig(t testing.TB, i int, port uint16) ike.Config {
	t.Helper()
	list := func(p ikemessage.Protocol, text string) []suite.Proposal {
		out, err := suite.ParseList(p, []string{text})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	at := []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)}
	ids := make([]auth.Identity, 2)
	for n := range ids {
		id, err := auth.ParseIdentity(at[n].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ids[n] = id
	}
	all := []ikemessage.Selector{ikemessage.SelectorOf(netip.MustParsePrefix("0.0.0.0/0")), ikemessage.SelectorOf(netip.MustParsePrefix("::/0"))}
	return ike.Config{
		Local: at[i], Remote: at[1-i], LocalID: ids[i], RemoteID: ids[1-i], PSK: []byte("a secret of the test"),
		IKE: list(ikemessage.ProtocolIKE, "aes256gcm16-prfsha384-x25519"), ESP: list(ikemessage.ProtocolESP, "aes256gcm16-x25519-esn-noesn"),
		LocalTS: all, RemoteTS: all, Initiate: i == 0, IKELifetime: 8 * time.Hour, ChildLifetime: time.Hour, DPDDelay: 10 * time.Second,
	}
}

// couple is two devices and the wire between them.
type couple struct {
	t    *testing.T
	d    [2]*Device
	logs [2]*observer.ObservedLogs
	keys [2]*bytes.Buffer // of the first device: IKE's, ESP's
	cut  atomic.Bool
	stop [2]context.CancelFunc
	done sync.WaitGroup
}

// newCouple has both running. It is for a bubble of synctest: its clock is nobody's.
func newCouple(t *testing.T) *couple {
	t.Helper()
	c := &couple{t: t, keys: [2]*bytes.Buffer{new(bytes.Buffer), new(bytes.Buffer)}}
	for i := range c.d {
		core, logs := observer.New(zap.DebugLevel)
		conf := Config{IKE: ikeConfig(t, i, 4501), Log: zap.New(core)}
		if i == 0 {
			conf.IKEKeys, conf.ESPKeys = c.keys[0], c.keys[1]
		}
		d, err := New(conf)
		if err != nil {
			t.Fatal(err)
		}
		c.d[i], c.logs[i] = d, logs
	}
	for i := range c.d {
		c.start(i)
	}
	return c
}

func (c *couple) start(i int) {
	ctx, cancel := context.WithCancel(c.t.Context())
	c.stop[i] = cancel
	c.done.Go(func() {
		c.d[i].Run(ctx, func(datagram []byte) error {
			if !c.cut.Load() {
				c.arrive(1-i, bytes.Clone(datagram))
			}
			return nil
		})
	})
}

// arrive is what the pump's loop does with a datagram.
func (c *couple) arrive(i int, datagram []byte) []byte {
	inner, _, kind, r := c.d[i].Open(datagram)
	switch {
	case r != tunnel.DropNone:
		c.t.Errorf("end %d drops a datagram: %s", i, r)
	case kind == tunnel.Control:
		if _, r := c.d[i].Control(nil, inner); r != tunnel.DropNone {
			c.t.Errorf("end %d drops a message: %s", i, r)
		}
	}
	return inner
}

// wait lets a time pass.
func (c *couple) wait(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func (c *couple) up() {
	c.t.Helper()
	for i, d := range c.d {
		if s := d.Status(); !s.Up || len(s.IKE) != 1 || len(s.Child) != 1 {
			c.t.Fatalf("end %d: %+v", i, s)
		}
	}
}

// packets go both ways.
func (c *couple) packets() {
	c.t.Helper()
	for i, d := range c.d {
		pkt := []byte{0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0, 0}
		buf := append(append(make([]byte, room), pkt...), make([]byte, room)...)
		start, end, r := d.Seal(buf, room, len(pkt))
		if r != tunnel.DropNone {
			c.t.Fatalf("end %d does not send: %s", i, r)
		}
		if got := c.arrive(1-i, bytes.Clone(buf[start:end])); !bytes.Equal(got, pkt) {
			c.t.Fatalf("%x arrives", got)
		}
	}
}

// close stops both.
func (c *couple) close() {
	c.stop[0]()
	c.stop[1]()
	c.done.Wait()
}

// TestDevice is the life of a tunnel, of a day.
func TestDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t)
		defer c.close()
		if _, _, r := c.d[0].Seal(make([]byte, 200), room, 60); r != tunnel.DropNoSession {
			t.Errorf("before there are keys: %s", r)
		}
		c.wait(time.Second)
		c.up()
		c.packets()
		c.wait(time.Minute)
		for i, d := range c.d {
			before := d.Status()
			if err := d.Rekey(false); err != nil {
				t.Fatal(err)
			}
			c.wait(time.Second)
			c.packets()
			if err := d.Rekey(true); err != nil {
				t.Fatal(err)
			}
			c.wait(20 * time.Second)
			c.up()
			c.packets()
			if after := d.Status(); after.ChildRekeys != before.ChildRekeys+1 || after.IKERekeys != before.IKERekeys+1 {
				t.Errorf("end %d: %+v", i, after)
			}
		}
		// Nobody calls it: its own timers do.
		for range 24 {
			c.wait(time.Hour)
			c.packets()
		}
		s := c.d[1].Status()
		if s.ChildRekeys < 24 || s.IKERekeys < 4 || s.Established != 1 || s.TimedOut != 0 {
			t.Errorf("after a day: %+v", s)
		}
		c.d[0].Terminate()
		c.wait(10 * time.Millisecond)
		if err := c.d[1].Rekey(false); err == nil {
			t.Error("a CHILD SA that has been deleted is replaced")
		}
		c.wait(5 * time.Second)
		c.up()
		c.packets()
	})
}

// TestKeys: secrets are written where they were asked for, and nowhere else.
func TestKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t)
		defer c.close()
		c.wait(time.Second)
		c.up()
		if !c.d[0].Status().KeyLogged || c.d[1].Status().KeyLogged {
			t.Error("the status does not say who writes the keys")
		}
		for i, want := range []string{`"AES-GCM-256 with 16 octet ICV [RFC5282]"`, `"AES-GCM with 16 octet ICV [RFC4106]"`} {
			if text := c.keys[i].String(); !strings.Contains(text, want) || !strings.HasSuffix(text, "\n") {
				t.Errorf("keys: %q", text)
			}
		}
		for _, logs := range c.logs {
			for _, e := range logs.All() {
				for line := range strings.Lines(c.keys[0].String() + c.keys[1].String()) {
					for _, key := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(`",`+"\n", r) }) {
						if len(key) >= 40 && strings.Contains(e.Message, strings.TrimPrefix(key, "0x")) && !strings.Contains(key, " ") {
							t.Errorf("the log has a key: %s", e.Message)
						}
					}
				}
				if strings.Contains(e.Message, "a secret of the test") {
					t.Errorf("the log has the secret: %s", e.Message)
				}
			}
		}
	})
}

// TestSilence: a peer that has gone is given up after DPD and retransmissions,
// and found again.
func TestSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t)
		defer c.close()
		c.wait(time.Minute)
		c.up()
		c.cut.Store(true)
		c.wait(40 * time.Second)
		for i, d := range c.d {
			if s := d.Status(); s.Up || s.TimedOut != 1 || d.Resolved() {
				t.Errorf("end %d: %+v", i, s)
			}
		}
		if c.logs[0].FilterMessageSnippet("did not answer").Len() == 0 {
			t.Error("the log does not say so")
		}
		c.cut.Store(false)
		c.wait(20 * time.Second)
		c.up()
		c.packets()
	})
}

// A message that the card does not take is told, but not each time that it is sent again.
func TestTooLongForTheCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		d, err := New(Config{IKE: ikeConfig(t, 0, 4501), Log: zap.New(core)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		sent := 0
		done.Go(func() {
			d.Run(ctx, func([]byte) error { sent++; return fmt.Errorf("send: %w", unix.EMSGSIZE) })
		})
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if n := logs.FilterMessageSnippet("longer than the card takes").Len(); n != 1 || sent < 3 {
			t.Errorf("told %d times after %d messages, want once", n, sent)
		}
		cancel()
		done.Wait()
	})
}

// TestReconfigure: another secret at both ends, and no packet is lost.
func TestReconfigure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t)
		defer c.close()
		c.wait(time.Minute)
		before := c.d[0].Status()
		for i, d := range c.d {
			conf := ikeConfig(t, i, 4501)
			conf.PSK = []byte("another secret of the test")
			if err := d.Reconfigure(conf); err != nil {
				t.Fatal(err)
			}
			for range 60 {
				c.wait(time.Second)
				c.packets()
			}
		}
		c.up()
		if after := c.d[0].Status(); after.IKE[0].InitiatorSPI == before.IKE[0].InitiatorSPI {
			t.Error("the IKE SA is that of the old secret")
		}
		if err := c.d[0].Reconfigure(ike.Config{}); err == nil {
			t.Error("an empty configuration is taken")
		}
	})
}

// TestStop: who stops tells the peer, and carries nothing more.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t)
		defer c.close()
		c.wait(time.Minute)
		c.up()
		c.stop[0]()
		c.wait(time.Second)
		if s := c.d[1].Status(); s.Up {
			t.Error("the peer was not told")
		}
		if c.d[0].Resolved() {
			t.Error("who has stopped still sends")
		}
		if err := c.d[0].Rekey(true); err == nil {
			t.Error("who has stopped replaces an IKE SA")
		}
	})
}

// TestQueue: what does not fit waits nowhere, and is counted.
func TestQueue(t *testing.T) {
	t.Parallel()
	d, err := New(Config{IKE: ikeConfig(t, 1, 4501)})
	if err != nil {
		t.Fatal(err)
	}
	bare := header(5, 0, ikemessage.IKESAInit, ikemessage.FlagInitiator)
	for i := range queueLen + 5 {
		want := tunnel.DropNone
		if i >= queueLen {
			want = tunnel.DropHandshakeQueue
		}
		if _, r := d.Control(nil, bare); r != want {
			t.Errorf("message %d: %s, want %s", i+1, r, want)
		}
	}
	if _, r := d.Control(nil, make([]byte, maxMessage+1)); r != tunnel.DropTruncated {
		t.Errorf("a message of more than %d bytes: %s", maxMessage, r)
	}
	// What waits is served when there is somebody to serve it.
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Config{IKE: ikeConfig(t, 1, 4501)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		var sent atomic.Int64
		done.Go(func() { d.Run(ctx, func([]byte) error { sent.Add(1); return nil }) })
		for i := range uint64(400) {
			b := header(i+1, 0, ikemessage.IKESAInit, ikemessage.FlagInitiator)
			if _, r := d.Control(nil, b); r != tunnel.DropNone {
				t.Errorf("message %d: %s", i, r)
			}
			synctest.Wait()
		}
		if got := d.Status(); sent.Load() == 0 || got.Refused != 400 || got.HalfOpen != 0 {
			t.Errorf("%d answers, %+v", sent.Load(), got)
		}
		cancel()
		done.Wait()
	})
}

// TestNewRefuses: what cannot work is refused, with the reason.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	c := ikeConfig(t, 0, 4501)
	c.PSK = nil
	if _, err := New(Config{IKE: c}); err == nil || !strings.Contains(err.Error(), "preshared key") {
		t.Errorf("%v", err)
	}
}

// TestMarker: IKE at the port of ESP has four zero bytes in front.
func TestMarker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Config{IKE: ikeConfig(t, 0, 4501)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var first []byte
		var done sync.WaitGroup
		done.Go(func() {
			d.Run(ctx, func(b []byte) error {
				if first == nil {
					first = bytes.Clone(b)
				}
				return nil
			})
		})
		synctest.Wait()
		cancel()
		done.Wait()
		if len(first) < 4+ikemessage.HeaderLen || binary.BigEndian.Uint32(first) != 0 {
			t.Fatalf("%x", first)
		}
		if h, err := ikemessage.DecodeHeader(first[4:]); err != nil || h.Exchange != ikemessage.IKESAInit {
			t.Errorf("%+v, %v", h, err)
		}
	})
}
