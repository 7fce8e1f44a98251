package ike

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// forge answers each IKE_SA_INIT request of end 0 before the peer does: by
// somebody who sees the path, and can keep nothing from it.
func (w *world) forge(spir uint64, ps ...message.Payload) {
	w.hold = func(from int, d []byte) bool {
		h, err := message.DecodeHeader(d)
		if err != nil {
			w.t.Fatal(err)
		}
		if from == 0 && h.Exchange == message.IKESAInit && !h.Response() {
			h.Flags, h.ResponderSPI = message.FlagResponse, spir
			forged, err := message.Message{Header: h, Payloads: ps}.Encode()
			if err != nil {
				w.t.Fatal(err)
			}
			w.after(time.Millisecond, func() { w.deliver(1, PortESP, forged) })
		}
		d = bytes.Clone(d)
		w.after(50*time.Millisecond, func() { w.deliver(from, PortESP, d) })
		return true
	}
}

// Nothing protects an answer to IKE_SA_INIT: one that is forged does not end the
// attempt, and the peer's own is taken after it (RFC 7296, section 2.21.1).
func TestForgedInitAnswers(t *testing.T) {
	t.Parallel()
	refusal := func(n message.NotifyType, data ...byte) func(*Config) []message.Payload {
		return func(*Config) []message.Payload { return []message.Payload{message.Notify{Notify: n, Data: data}} }
	}
	nonce := message.Nonce{Data: make([]byte, nonceLen)}
	ke := message.KE{Method: message.KEX25519, Data: append([]byte{9}, make([]byte, 31)...)}
	for name, tc := range map[string]struct {
		change func(a, b *Config)
		spir   uint64
		forged func(c *Config) []message.Payload
	}{
		"NO_PROPOSAL_CHOSEN": {spir: 0, forged: refusal(message.NoProposalChosen)},
		"INVALID_SYNTAX":     {spir: 7, forged: refusal(message.InvalidSyntax)},
		"a key exchange that is not offered": {spir: 0, forged: refusal(
			message.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, uint16(message.KEEcp521))...)},
		"other proposals": {spir: 7, forged: func(*Config) []message.Payload {
			return []message.Payload{suite.Offer(proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-x25519"), nil), ke, nonce}
		}},
		"a public value that is none": {spir: 7, forged: func(c *Config) []message.Payload {
			return []message.Payload{suite.Offer(c.IKE, nil), message.KE{Method: ke.Method, Data: make([]byte, 32)}, nonce}
		}},
		"another key exchange": {spir: 7, forged: func(c *Config) []message.Payload {
			return []message.Payload{suite.Offer(c.IKE, nil), message.KE{Method: message.KEEcp256, Data: make([]byte, 64)}, nonce}
		}},
		"no nonce": {spir: 7, forged: func(c *Config) []message.Payload {
			return []message.Payload{suite.Offer(c.IKE, nil), ke}
		}},
		"no IKE_INTERMEDIATE": {
			change: func(a, b *Config) {
				a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519-ke1_mlkem768")
				b.IKE = a.IKE
			},
			spir: 7, forged: func(c *Config) []message.Payload {
				return []message.Payload{suite.Offer(c.IKE, nil), ke, nonce}
			},
		},
		"no postquantum preshared key": {
			change: func(a, b *Config) {
				a.PPK, a.PPKID = bytes.Repeat([]byte{7}, 32), "ppk"
				b.PPK, b.PPKID = a.PPK, a.PPKID
			},
			spir: 7, forged: func(c *Config) []message.Payload {
				return []message.Payload{suite.Offer(c.IKE, nil), ke, nonce}
			},
		},
		"a NAT where ESP is raw": {change: raw, spir: 7, forged: func(c *Config) []message.Payload {
			return []message.Payload{suite.Offer(c.IKE, nil), ke, nonce, message.Notify{Notify: message.NATDetectionSourceIP, Data: make([]byte, 20)}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 65, func(a, b *Config) {
				b.Initiate = false
				if tc.change != nil {
					tc.change(a, b)
				}
			})
			w.events = nil
			w.forge(tc.spir, tc.forged(&w.end[0].conf)...)
			for _, e := range w.end {
				w.start(e)
			}
			w.run(30 * time.Millisecond)
			if s := w.end[0].m.Status(); s.Refusal(w.now) == "" {
				t.Error("the status does not say what the forged answer says: did it come?")
			}
			w.calm(10 * time.Second)
			if s := w.end[0].m.Status(); s.Attempts != 1 || s.Refusal(w.now) != "" {
				t.Errorf("%d attempts, %q", s.Attempts, s.Refusal(w.now))
			}
		})
	}
}

// A refusal that is the peer's own is told at once and as long as it lasts, at both
// ends, and costs one request for each attempt, at the times that retry has.
func TestRefusedInit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 66, func(a, b *Config) {
		b.Initiate = false
		a.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-ecp256")
	})
	w.run(100 * time.Millisecond)
	for range 240 {
		for i, part := range []string{
			"the peer refuses IKE_SA_INIT: NO_PROPOSAL_CHOSEN: it takes none of ours, aes128gcm16-prfsha256-ecp256",
			"the peer offers aes128gcm16-prfsha256-ecp256; here are aes256gcm16-prfsha384-x25519",
		} {
			if s := w.end[i].m.Status(); !strings.Contains(s.Why(w.now), part) {
				t.Fatalf("%s, end %d: %q says not %q", w.now.Format("15:04:05.000"), i, s.Why(w.now), part)
			}
		}
		w.run(500 * time.Millisecond)
	}
	// 1, 2, 4, 8, and then 15 s apart, and up to a quarter more at random.
	s := w.end[0].m.Status()
	if s.Attempts < 9 || s.Attempts > 12 || w.end[0].sent != int(s.Attempts) || s.Unanswered != 0 {
		t.Errorf("in two minutes %d attempts with %d messages, %d without an answer", s.Attempts, w.end[0].sent, s.Unanswered)
	}
	w.reload(1, func(c *Config) { c.IKE = w.end[0].conf.IKE })
	w.calm(mostAgain + mostAgain/4 + 2*time.Second)
}

// A refusal after a silence is not taken for silence.
func TestRefusedAfterSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 67, func(_, b *Config) { b.Initiate = false })
	w.up()
	w.run(time.Minute)
	w.excused = w.now.Add(time.Hour)
	w.loss = 1
	w.run(40 * time.Second)
	if s := w.end[0].m.Status(); s.CauseNow(w.now) != CauseSilence {
		t.Fatalf("%q", s.Why(w.now))
	}
	w.end[1].conf.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-ecp256")
	w.start(w.end[1])
	w.loss = 0
	for end := w.now.Add(mostWait + time.Second); w.end[0].count("refuses") == 0 && w.now.Before(end); {
		w.run(50 * time.Millisecond)
	}
	for range 240 {
		if s := w.end[0].m.Status(); !strings.Contains(s.Why(w.now), "NO_PROPOSAL_CHOSEN") || s.CauseNow(w.now) != CauseRefused || !s.Asked.IsZero() {
			t.Fatalf("%s: %q (%s), asked at %s", w.now.Format("15:04:05.000"), s.Why(w.now), s.CauseNow(w.now), s.Asked)
		}
		w.run(250 * time.Millisecond)
	}
}
