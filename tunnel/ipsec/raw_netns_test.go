package ipsec

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns/netnstest"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/ike/auth"
	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// rawConfig is one end's of a tunnel without UDP, on the loopback.
func rawConfig(t *testing.T, local, remote string) Config {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := ike.Config{
		Local: netip.MustParseAddrPort(local + ":500"), Remote: netip.MustParseAddrPort(remote + ":500"), Raw: true, Initiate: true,
		PSK: []byte("a secret of the tests, long enough"), IKELifetime: time.Hour, ChildLifetime: time.Hour,
		LocalTS: []ikemessage.Selector{ikemessage.SelectorOf(netip.MustParsePrefix("0.0.0.0/0"))},
	}
	c.RemoteTS = c.LocalTS
	var err error
	c.LocalID, err = auth.ParseIdentity(local)
	must(err)
	c.RemoteID, err = auth.ParseIdentity(remote)
	must(err)
	c.IKE, err = suite.ParseList(ikemessage.ProtocolIKE, []string{"aes256gcm16-prfsha384-x25519"})
	must(err)
	c.ESP, err = suite.ParseList(ikemessage.ProtocolESP, []string{"aes256gcm16-x25519-esn-noesn"})
	must(err)
	return Config{IKE: c, Interface: "lo"}
}

// noPort is for devices that have no port of ESP.
func noPort(t *testing.T) func([]byte) error {
	return func([]byte) error { t.Error("IKE goes by the port of ESP"); return nil }
}

// eventually polls what the kernel and goroutines bring about.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for err := ok(); err != nil; err = ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// A flood at port 500 does not get to the machine beyond the gate, and once it
// is over two ends come up there, and carry packets.
func TestNetnsRawFlood(t *testing.T) {
	ns := netnstest.New(t, "ipsec")
	a := run(t, ns, rawConfig(t, "127.0.0.1", "127.0.0.2"), noPort(t))
	var c *net.UDPConn
	if err := ns.Do(func() (err error) {
		c, err = net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 500}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 500})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 200)
	b[16], b[17], b[18], b[19] = byte(ikemessage.TypeSA), 0x20, byte(ikemessage.IKESAInit), byte(ikemessage.FlagInitiator)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	const many, burst = 6000, 60 // as many as the queue holds: it is the gate that keeps them out
	begun := time.Now()
	for sent := uint64(0); sent < many; {
		for range burst {
			sent++
			binary.BigEndian.PutUint64(b, sent)
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all are looked at", func() error {
			if s := a.Status(); s.Refused+s.Lost < sent {
				return fmt.Errorf("%d and %d of %d", s.Refused, s.Lost, sent)
			}
			return nil
		})
	}
	flood := time.Since(begun)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	run(t, ns, rawConfig(t, "127.0.0.2", "127.0.0.1"), noPort(t))
	eventually(t, "the tunnel is up", func() error {
		if s := a.Status(); !s.Up {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	most := strangers * (uint64(flood/time.Second) + 2) // seconds begin when they begin
	s := a.Status()
	t.Logf("of %d forged requests %d got to the machine in %s", many, s.Refused, flood)
	if most >= many {
		t.Fatalf("the flood took %s, which is none", flood)
	}
	if s.Refused < strangers || s.Refused > most || s.HalfOpen > 0 {
		t.Errorf("%d of %d got through, at most %d should; %d are half open", s.Refused, many, most, s.HalfOpen)
	}
	buf := make([]byte, 200)
	copy(buf[64:], []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1})
	start, end, r := a.Seal(buf, 64, 20)
	if r != tunnel.DropNone || binary.BigEndian.Uint32(buf[start:]) < 256 {
		t.Errorf("a packet of %d bytes: %s", end-start, r)
	}
	if _, _, kind, r := a.Open(make([]byte, 100)); kind == tunnel.Control || r != tunnel.DropBadHeader {
		t.Errorf("what would be IKE in UDP is %v, %s", kind, r)
	}
}

// Without port 500 there is no tunnel without UDP, and it is free again when a device that never ran is closed.
func TestNetnsRawPortTaken(t *testing.T) {
	ns := netnstest.New(t, "ipsec")
	err := ns.Do(func() error {
		taken, err := net.ListenPacket("udp", "127.0.0.1:500")
		if err != nil {
			return err
		}
		if d, err := New(rawConfig(t, "127.0.0.1", "127.0.0.2")); err == nil || !strings.Contains(err.Error(), "UDP port 500") {
			t.Errorf("%v, %v", d, err)
		}
		if err := taken.Close(); err != nil {
			return err
		}
		d, err := New(rawConfig(t, "127.0.0.1", "127.0.0.2"))
		if err != nil {
			return err
		}
		d.Close()
		again, err := net.ListenPacket("udp", "127.0.0.1:500")
		if err != nil {
			return err
		}
		return again.Close()
	})
	if err != nil {
		t.Error(err)
	}
}
