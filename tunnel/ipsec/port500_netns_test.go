package ipsec

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
	"github.com/transitd/transitd/tunnel/esp"
	"github.com/transitd/transitd/tunnel/ike"
	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
)

// run makes a device in a namespace and has it speak IKE until the test ends.
// What it sends by the endpoint's own port goes to send.
func run(t *testing.T, ns netns.NS, c Config, send func([]byte) error) *Device {
	t.Helper()
	var d *Device
	if err := ns.Do(func() (err error) { d, err = New(c); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { d.Run(ctx, send) })
	t.Cleanup(func() { cancel(); done.Wait(); d.Close() })
	return d
}

// nowhere takes what is sent.
func nowhere([]byte) error { return nil }

// A beginner is a peer that begins at port 500, and stays there.
type beginner struct {
	*esp.Codec
	conn *net.UDPConn
}

// Send implements ike.Effects: without the marker.
func (b beginner) Send(_ ike.Port, _ netip.AddrPort, d []byte) { _, _ = b.conn.Write(d) }

// Log implements ike.Effects.
func (beginner) Log(ike.Event) {}

func dial500(t *testing.T, ns netns.NS) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := ns.Do(func() (err error) {
		conn, err = net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 500}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 500})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return conn
}

// TestPort500: a peer that begins at port 500 is answered there.
func TestPort500(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t, "ike")
	d := run(t, ns, Config{IKE: ikeConfig(t, 1, 4500), Interface: "lo", Mark: 7}, nowhere)
	conn := dial500(t, ns)
	c := ikeConfig(t, 0, 4500)
	c.Random = rand.Reader
	m, err := ike.New(c, beginner{esp.New(), conn}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	serve := func(until func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !until(); {
			if time.Now().After(end) {
				t.Fatalf("%+v\n%+v", m.Status(), d.Status())
			}
			next := m.Tick(time.Now())
			if err := conn.SetReadDeadline(next); err != nil {
				t.Fatal(err)
			}
			// An error is a deadline, or ICMP's word that nobody listens yet.
			if n, err := conn.Read(buf); err == nil {
				m.Message(time.Now(), ike.PortIKE, c.Remote, bytes.Clone(buf[:n]))
			}
		}
	}
	serve(func() bool { return m.Status().Up && d.Status().Up })
	// The device asks at port 500 as well: that is where it was asked.
	if err := d.Rekey(false); err != nil {
		before := m.Status().LastHeard
		serve(func() bool { return m.Status().LastHeard.After(before) && d.Rekey(false) == nil })
	}
	if err := m.RekeyIKE(time.Now()); err != nil {
		t.Fatal(err)
	}
	serve(func() bool {
		s, r := m.Status(), d.Status()
		return s.IKERekeys == 1 && len(s.IKE) == 1 && len(r.IKE) == 1
	})
	if !slices.ContainsFunc(d.Status().Child, func(c ike.ChildSA) bool { return c.State == "installed" }) {
		t.Errorf("%+v", d.Status())
	}
}

// What is too long, or from another address, goes nowhere; and the socket ends
// with the device.
func TestPort500Hostile(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t, "ike")
	d := run(t, ns, Config{IKE: ikeConfig(t, 1, 4500), Interface: "lo"}, nowhere)
	conn := dial500(t, ns)
	var stranger net.PacketConn
	err := ns.Do(func() (err error) {
		stranger, err = net.ListenPacket("udp", "127.0.0.3:500")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close() }()
	half := header(5, 0, ikemessage.IKESAInit, ikemessage.FlagInitiator)
	answered := func() bool {
		if _, err := conn.Write(half); err != nil {
			return false
		}
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(make([]byte, 4096))
		return err == nil && n >= ikemessage.HeaderLen
	}
	for end := time.Now().Add(20 * time.Second); !answered(); {
		if time.Now().After(end) {
			t.Fatal("there is no answer at port 500")
		}
	}
	before := d.Status().Refused
	for range 50 {
		if _, err := stranger.WriteTo(half, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 500}); err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(make([]byte, maxMessage+1))
	}
	for !answered() { // all before it has been read
	}
	if got := d.Status().Refused - before; got > 3 {
		t.Errorf("%d messages of a stranger came to IKE", got)
	}
}

// A port that somebody else has is no reason not to be there: it is said.
func TestPort500Taken(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t, "ike")
	var taken *net.UDPConn
	err := ns.Do(func() (err error) {
		taken, err = net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 500}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 500})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	core, logs := observer.New(zap.InfoLevel)
	run(t, ns, Config{IKE: ikeConfig(t, 1, 4500), Log: zap.New(core)}, nowhere)
	if !strings.Contains(logs.All()[0].Message, "port 500") {
		t.Errorf("the log: %+v", logs.All())
	}
}
