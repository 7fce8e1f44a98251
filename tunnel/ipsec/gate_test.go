package ipsec

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
)

// header is a datagram that has nothing but a header.
func header(initiator, responder uint64, x ikemessage.Exchange, f ikemessage.Flags) []byte {
	h := ikemessage.Header{InitiatorSPI: initiator, ResponderSPI: responder, Exchange: x, Flags: f}
	return h.Append(nil, ikemessage.TypeNone, ikemessage.HeaderLen)
}

// withCookie is a request to begin that says it has a cookie.
func withCookie(spi uint64) []byte {
	h := ikemessage.Header{InitiatorSPI: spi, Exchange: ikemessage.IKESAInit, Flags: ikemessage.FlagInitiator}
	b := h.Append(nil, ikemessage.TypeNotify, ikemessage.HeaderLen+8)
	return binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 8, 0, 0), uint16(ikemessage.Cookie))
}

func TestGate(t *testing.T) {
	t.Parallel()
	var g gate
	now := time.Unix(1_000_000, 0)
	passed := func(n int, b []byte) (passed int) {
		for range n {
			if g.admits(b, now) {
				passed++
			}
		}
		return passed
	}
	bare := header(5, 0, ikemessage.IKESAInit, ikemessage.FlagInitiator)
	known := header(7, 8, ikemessage.Informational, ikemessage.FlagInitiator)
	if n := passed(10_000, bare); n != strangers {
		t.Errorf("%d requests to begin pass in a second", n)
	}
	if n := passed(10_000, withCookie(5)); n != strangers {
		t.Errorf("%d with a cookie pass, beside a flood of those without", n)
	}
	if n := passed(10, known); n != 0 {
		t.Errorf("%d messages of no IKE SA pass then", n)
	}
	for _, spis := range [][]uint64{{8}, {1, 8, 3}} {
		g.know(spis)
		if n := passed(10_000, known); n != 10_000 {
			t.Errorf("%d of 10000 messages of an IKE SA pass", n)
		}
	}
	// Ours is the first SPI in what the responder of the IKE SA sends.
	if n := passed(10, header(8, 99, ikemessage.Informational, ikemessage.FlagResponse)); n != 10 {
		t.Errorf("%d of 10 answers pass", n)
	}
	if n := passed(10, header(99, 8, ikemessage.Informational, 0)); n != 0 {
		t.Errorf("%d pass by the peer's SPI", n)
	}
	g.know(nil)
	if n := passed(10, known) + passed(10, header(0, 0, ikemessage.Informational, 0)); n != 0 {
		t.Errorf("%d messages pass by an SPI that is gone", n)
	}
	now = now.Add(time.Second)
	if n := passed(10_000, bare); n != strangers {
		t.Errorf("%d pass in the next second", n)
	}
	now = now.Add(time.Second)
	for n := range ikemessage.HeaderLen {
		if g.admits(bare[:n], now) {
			t.Errorf("%d bytes pass", n)
		}
	}
}

// The loops call it all at once, and it allocates nothing.
func TestGateAtOnce(t *testing.T) {
	t.Parallel()
	var g gate
	var passed atomic.Int64
	var all sync.WaitGroup
	bare, now := header(5, 0, ikemessage.IKESAInit, ikemessage.FlagInitiator), time.Unix(1, 0)
	for i := range 8 {
		all.Go(func() {
			for j := range 1000 {
				if g.admits(bare, now) {
					passed.Add(1)
				}
				if i == 0 {
					g.know([]uint64{uint64(j)})
				}
			}
		})
	}
	all.Wait()
	if n := passed.Load(); n != strangers {
		t.Errorf("%d pass", n)
	}
}

func TestGateAllocations(t *testing.T) { //nolint:paralleltest // it counts allocations
	var g gate
	g.know([]uint64{1, 2, 3})
	bare, now := header(5, 0, ikemessage.IKESAInit, ikemessage.FlagInitiator), time.Now()
	if n := testing.AllocsPerRun(100, func() { g.admits(bare, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzGate: any bytes, and the gate only says yes or no.
func FuzzGate(f *testing.F) {
	f.Add(header(5, 0, ikemessage.IKESAInit, ikemessage.FlagInitiator))
	f.Add(withCookie(5))
	f.Add(header(7, 8, ikemessage.Informational, ikemessage.FlagInitiator))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g gate
		g.know([]uint64{8})
		if g.admits(b, time.Unix(9, 0)) && len(b) < ikemessage.HeaderLen {
			t.Error("too short")
		}
	})
}
