package e2e

import (
	"crypto/ecdh"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// A flood of 100,000 IKE_SA_INIT requests in five seconds, in the peer's own name
// and as it would make them: the tunnel carries what it carried, the memory stays
// what it was, keys are replaced meanwhile, and the peer itself can begin anew.
func TestIPsecFlood(t *testing.T) {
	w := newIPsecTwins(t)
	victim, peer := w[0], w[1]
	next := newInitiations(t, rand.New(rand.NewPCG(5, 6)))
	forged := make([]ipv4.Message, 100_000)
	from, to := netip.MustParseAddr(peer.outer), netip.MustParseAddr(victim.outer)
	length := 0
	for i := range forged {
		b := next()
		length = 8 + len(b)
		forged[i] = ipv4.Message{Buffers: [][]byte{datagram(from, to, victim.port, b)}, Addr: &net.IPAddr{IP: to.AsSlice()}}
	}
	before, memory := w.settled(t), victim.memory(t)
	victim.underFlood(t, peer, forged, fmt.Sprintf("udp length %d", length), func() string {
		s := victim.ipsecStatus(t).Tunnels[0]
		return fmt.Sprintf("%d half open, %d cookies sent, dropped %v, %d KB more memory", s.IPsec.HalfOpen, s.IPsec.CookiesSent, s.Drops, victim.memory(t)-memory)
	})
	s := victim.ipsecStatus(t).Tunnels[0]
	if more := victim.memory(t) - memory; more > 32<<10 {
		t.Errorf("it has %d KB more memory", more)
	}
	if s.IPsec.CookiesSent < 1000 || s.IPsec.HalfOpen == 0 || s.IPsec.HalfOpen > 4 || s.Drops["handshake_queue_full"] < 50_000 {
		t.Errorf("%d cookies sent, %d half open, dropped %v", s.IPsec.CookiesSent, s.IPsec.HalfOpen, s.Drops)
	}
	if now := w.settled(t); now != before {
		t.Errorf("there are other SAs: %+v, then %+v", before, now)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		if err := flood(peer, forged, floodTime); err != nil {
			t.Error(err)
		}
	})
	for _, n := range w {
		before = w.settled(t)
		tell(t, "ipsec rekey", n)
		w.another(t, "the pair is replaced under the flood", before, false, true)
		tell(t, "ipsec rekey --ike", n)
		w.another(t, "the IKE SA is replaced under the flood", before, true, true)
	}
	sending.Wait()
	// Of more than 500 a second most are dropped, the peer's too. Of less, it is the
	// cookie by which the peer is told from the flood.
	sending.Go(func() {
		if err := flood(peer, forged[:2000], floodTime); err != nil {
			t.Error(err)
		}
	})
	defer sending.Wait()
	collect(t, peer, victim.outer, 1, func(b []byte) bool {
		const notify = ikePayloads + 4 + 2 // its type
		return len(b) > notify+2 && binary.BigEndian.Uint32(b) == 0 && b[ikeExchange] == byte(ikemessage.IKESAInit) &&
			b[ikeNext] == byte(ikemessage.TypeNotify) && binary.BigEndian.Uint16(b[notify:]) == uint16(ikemessage.Cookie)
	}, func() {
		peer.daemon.kill()
		peer.daemon.start()
		t.Logf("the peer began anew with a cookie: packets go after %v", soon(t, "packets go again", 10*time.Second, func() error { return peer.reach(t, victim) }))
	})
}

// memory is what the twin's daemon has of it, in KB.
func (n *twin) memory(t *testing.T) (kb int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.daemon.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			kb, err = strconv.Atoi(f[1])
		}
	}
	if err != nil || kb == 0 {
		t.Fatalf("%v: %s", err, status)
	}
	return kb
}

// newInitiations makes IKE_SA_INIT requests as the peer would send them, each with
// an SPI and a nonce of its own and a public key that is a point of its curve,
// behind the marker of port 4500.
func newInitiations(t *testing.T, r *rand.Rand) func() []byte {
	t.Helper()
	offer, err := suite.ParseList(ikemessage.ProtocolIKE, suite.DefaultTexts(ikemessage.ProtocolIKE))
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for range 16 {
		k, err := ecdh.P384().GenerateKey(crand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.PublicKey().Bytes()[1:]) // RFC 5903, section 7
	}
	return func() []byte {
		nonce := make([]byte, 32)
		for i := 0; i < len(nonce); i += 8 {
			binary.BigEndian.PutUint64(nonce[i:], r.Uint64())
		}
		b, err := ikemessage.Message{
			Header: ikemessage.Header{InitiatorSPI: 1 + r.Uint64()>>1, Exchange: ikemessage.IKESAInit, Flags: ikemessage.FlagInitiator},
			Payloads: []ikemessage.Payload{
				suite.Offer(offer, nil), ikemessage.KE{Method: offer[0].KeyExchanges()[0], Data: keys[r.IntN(len(keys))]}, ikemessage.Nonce{Data: nonce},
			},
		}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return append(make([]byte, ikeAt), b...)
	}
}
