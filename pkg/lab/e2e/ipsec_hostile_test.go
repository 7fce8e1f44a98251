package e2e

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"testing"

	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
)

// Where the fields of an ESP packet and of an IKE message lie in a datagram; in
// front of IKE there are four zero bytes (RFC 3948, section 2.2).
const (
	espSequence, espIV, espPayload = 4, 8, 16
	ikeAt                          = 4
	ikeSPIi, ikeSPIr, ikeNext      = ikeAt, ikeAt + 8, ikeAt + 16
	ikeVersion, ikeExchange        = ikeAt + 17, ikeAt + 18
	ikeFlags, ikeID, ikeLength     = ikeAt + 19, ikeAt + 20, ikeAt + 24
	ikePayloads                    = ikeAt + ikemessage.HeaderLen
)

// Somebody who sees the path and can forge the peer's address sends what looks
// like its ESP and its IKE: all of it is counted under its name, the SAs are the
// same afterwards, and of what goes meanwhile nothing is lost.
func TestIPsecHostile(t *testing.T) {
	w := newIPsecTwins(t)
	victim, peer := w[0], w[1]
	isESP := func(b []byte) bool { return len(b) > 80 && len(b) < 1000 && binary.BigEndian.Uint32(b) != 0 }
	isRequest := func(b []byte) bool {
		return len(b) > ikePayloads && binary.BigEndian.Uint32(b) == 0 && b[ikeFlags]&byte(ikemessage.FlagResponse) == 0
	}
	pings := func() { peer.exec(t, "ping -n -q -c 50 -i 0.01 -W 2 "+victim.inner) }
	old := collect(t, peer, victim.outer, 50, isESP, pings)
	requests := collect(t, peer, victim.outer, 6, isRequest, func() {
		for range 3 { // a request to replace the pair and one to delete it, each time
			before := w.settled(t)
			tell(t, "ipsec rekey", peer)
			w.another(t, "the pair is replaced", before, false, true)
		}
	})
	real := collect(t, peer, victim.outer, 50, isESP, pings)
	before := w.settled(t)
	traffic := peer.startDatagrams(t, victim, "5201", "4M", 500, 8)

	const each = 400
	counters := func() map[string]uint64 {
		s := victim.ipsecStatus(t).Tunnels[0]
		all := maps.Clone(s.Drops)
		all["IKE refused"], all["cookies"], all["half-open"] = s.IPsec.Refused, s.IPsec.CookiesSent, uint64(s.IPsec.HalfOpen)
		return all
	}
	dropped := func() (sum uint64) {
		for _, n := range victim.ipsecStatus(t).Tunnels[0].Drops {
			sum += n
		}
		return sum
	}
	none := dropped()
	send := openRaw(t, peer)
	for range each { // RFC 3948, section 2.3: nothing to count
		send(peer.outer, victim.outer, []byte{0xff})
	}
	forged := espForgeries(old[0])
	victim.suffers(t, peer, each, real, counters, forged)
	if n := dropped() - none; n != uint64(each*len(forged)) {
		t.Errorf("%d drops for %d forged packets", n, each*len(forged))
	}
	victim.suffers(t, peer, each, requests[:4], counters, ikeForgeries(t))

	if len(traffic.done) > 0 {
		t.Error("the traffic ended first")
	}
	traffic.none(4000)
	if after := w.settled(t); after != before {
		t.Errorf("other SAs are used: %+v, then %+v", before, after)
	}
	if s := victim.ipsecStatus(t).Tunnels[0]; s.State != "up" || s.IPsec.TimedOut > 0 {
		t.Errorf("%+v", s)
	}
	tell(t, "ipsec rekey", peer)
	w.another(t, "keys can still be replaced", before, false, true)
}

// espForgeries are made of packets of the pair that is used, and one of a pair that was.
func espForgeries(replaced []byte) []forgery {
	r := rand.New(rand.NewPCG(1, 2))
	sequence := func(n uint32) func(b []byte) []byte {
		return func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[espSequence:], n+r.Uint32N(1<<10))
			return b
		}
	}
	authFailed, noSession := []string{"auth_failed"}, []string{"no_session"}
	return []forgery{
		{name: "of a pair that was replaced", reasons: []string{"replayed", "no_session"}, spoil: func([]byte) []byte { return replaced }},
		{name: "replayed", reasons: []string{"replayed", "too_old"}, spoil: func(b []byte) []byte { return b }},
		{name: "truncated", reasons: []string{"short"}, spoil: func(b []byte) []byte { return b[:2+r.IntN(32)] }},
		{name: "cut", reasons: authFailed, spoil: func(b []byte) []byte { return b[:34+r.IntN(len(b)-34)] }},
		{name: "extended", reasons: authFailed, spoil: func(b []byte) []byte { return append(b, b[:1+r.IntN(64)]...) }},
		{name: "bit flipped", reasons: authFailed, spoil: func(b []byte) []byte {
			b[espSequence+r.IntN(len(b)-espSequence)] ^= 1 << r.IntN(8)
			return b
		}},
		{name: "wrong key", reasons: authFailed, spoil: func(b []byte) []byte {
			for i := espIV; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			return b
		}},
		{name: "wrong SPI", reasons: noSession, spoil: func(b []byte) []byte {
			binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)^(1+r.Uint32N(1<<20)))
			return b
		}},
		{name: "reserved SPI", reasons: noSession, spoil: func(b []byte) []byte {
			binary.BigEndian.PutUint32(b, 1+r.Uint32N(255))
			return b
		}},
		{name: "sequence number far ahead", reasons: authFailed, spoil: sequence(1 << 31)},
		{name: "sequence number at the end of the lower half", reasons: authFailed, spoil: sequence(1<<32 - 1 - 1<<10)},
		{name: "sequence number just after it", reasons: authFailed, spoil: func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[espSequence:], 0)
			b[espPayload] ^= 1
			return b
		}},
		{name: "from a stranger", reasons: []string{"wrong_source"}, spoil: func(b []byte) []byte { return b }, from: "192.0.2.3"},
	}
}

// ikeForgeries are made of requests that the peer sent on the IKE SA that is used.
// No more of what belongs to no SA is looked at than 500 a second: the others are
// counted as handshake_queue_full.
func ikeForgeries(t *testing.T) []forgery {
	r := rand.New(rand.NewPCG(3, 4))
	// whole writes the length of what has become another ikemessage.
	whole := func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[ikeLength:], uint32(len(b)-ikeAt))
		return b
	}
	refused := []string{"IKE refused", "handshake_queue_full"}
	// begin makes an IKE_SA_INIT request, and spoils it.
	begin := func(spoil func(b []byte) []byte) func([]byte) []byte {
		offers := newInitiations(t, r)
		return func([]byte) []byte { return whole(spoil(offers())) }
	}
	// plain makes a message on the SA that has payloads without protection.
	plain := func(x ikemessage.Exchange, f ikemessage.Flags, ps ...ikemessage.Payload) func([]byte) []byte {
		first, body, err := ikemessage.EncodePayloads(ps)
		if err != nil {
			t.Fatal(err)
		}
		return func(b []byte) []byte {
			b[ikeNext], b[ikeExchange] = byte(first), byte(x)
			b[ikeFlags] |= byte(f)
			return whole(append(b[:ikePayloads], body...))
		}
	}
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	return []forgery{
		{name: "marker only, and less than a header", reasons: []string{"short"}, spoil: func(b []byte) []byte { return b[:ikeAt+r.IntN(ikemessage.HeaderLen)] }},
		{name: "marker and garbage", reasons: refused, spoil: func([]byte) []byte { return append(make([]byte, ikeAt), random(ikemessage.HeaderLen+r.IntN(500))...) }},
		{name: "wrong length", reasons: refused, spoil: func(b []byte) []byte { return b[:len(b)-1-r.IntN(len(b)-ikePayloads)] }},
		{name: "replayed requests", reasons: refused, spoil: func(b []byte) []byte { return b }},
		{name: "altered requests", reasons: refused, spoil: func(b []byte) []byte {
			b[ikePayloads+4+r.IntN(len(b)-ikePayloads-4)] ^= 1 << r.IntN(8)
			return b
		}},
		{name: "wrong message ID", reasons: refused, spoil: func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[ikeID:], r.Uint32())
			return b
		}},
		{name: "unknown SPIs", reasons: refused, spoil: func(b []byte) []byte {
			b[ikeSPIi+r.IntN(16)] ^= 1 << r.IntN(8)
			return b
		}},
		{name: "initiator's SPI 0", reasons: refused, spoil: func(b []byte) []byte {
			clear(b[ikeSPIi : ikeSPIi+8])
			return b
		}},
		{name: "another major version", reasons: refused, spoil: func(b []byte) []byte {
			b[ikeVersion] = byte(3+r.IntN(13)) << 4
			return b
		}},
		{name: "fragments", reasons: refused, spoil: func(b []byte) []byte {
			return plain(ikemessage.Informational, 0, ikemessage.EncryptedFragment{Number: uint16(2 + r.IntN(99)), Total: uint16(100 + r.IntN(60000)), Body: random(500)})(b)
		}},
		{name: "DELETE without protection", reasons: refused, spoil: plain(ikemessage.Informational, 0, ikemessage.Delete{Protocol: ikemessage.ProtocolIKE})},
		{name: "AUTHENTICATION_FAILED without protection", reasons: refused, spoil: plain(ikemessage.Informational, 0, ikemessage.Notify{Notify: ikemessage.AuthenticationFailed})},
		{name: "INVALID_IKE_SPI without protection", reasons: refused, spoil: plain(ikemessage.Informational, ikemessage.FlagResponse, ikemessage.Notify{Notify: ikemessage.InvalidIKESPI})},
		{name: "answer to IKE_SA_INIT on the SA", reasons: refused, spoil: plain(ikemessage.IKESAInit, ikemessage.FlagResponse, ikemessage.Notify{Notify: ikemessage.NoProposalChosen})},
		{name: "IKE_SA_INIT with a message ID", reasons: refused, spoil: begin(func(b []byte) []byte {
			b[ikeID+3] = 1
			return b
		})},
		{name: "IKE_SA_INIT with a responder's SPI", reasons: refused, spoil: begin(func(b []byte) []byte {
			copy(b[ikeSPIr:], random(8))
			return b
		})},
		{name: "IKE_SA_INIT, truncated", reasons: refused, spoil: begin(func(b []byte) []byte { return b[:ikePayloads+r.IntN(len(b)-ikePayloads)] })},
		{name: "IKE_SA_INIT, payloads that overlap", reasons: refused, spoil: begin(func(b []byte) []byte {
			size := b[ikePayloads+2 : ikePayloads+4] // of the first one, within which the second one now begins
			binary.BigEndian.PutUint16(size, uint16(r.IntN(int(binary.BigEndian.Uint16(size)))))
			return b
		})},
		{name: "IKE_SA_INIT, a payload that is too long", reasons: refused, spoil: begin(func(b []byte) []byte {
			size := b[ikePayloads+2 : ikePayloads+4]
			binary.BigEndian.PutUint16(size, binary.BigEndian.Uint16(size)+uint16(1+r.IntN(60000)))
			return b
		})},
		{name: "IKE_SA_INIT without a key exchange", reasons: refused, spoil: begin(func(b []byte) []byte {
			b[ikePayloads] = byte(ikemessage.TypeNone) // behind the first one there is nothing
			return b[:ikePayloads+int(binary.BigEndian.Uint16(b[ikePayloads+2:]))]
		})},
		// What is well-formed comes last: it begins SAs that stay half open.
		{name: "IKE_SA_INIT", reasons: []string{"half-open", "cookies", "handshake_queue_full"}, spoil: begin(func(b []byte) []byte { return b })},
		{name: "IKE_SA_INIT with a cookie of somebody else", reasons: []string{"half-open", "cookies", "handshake_queue_full"}, spoil: begin(func(b []byte) []byte {
			first, cookie, err := ikemessage.EncodePayloads([]ikemessage.Payload{ikemessage.Notify{Notify: ikemessage.Cookie, Data: random(36)}})
			if err != nil {
				t.Fatal(err)
			}
			cookie[0], b[ikeNext] = b[ikeNext], byte(first)
			return append(b[:ikePayloads:ikePayloads], append(cookie, b[ikePayloads:]...)...)
		})},
	}
}
