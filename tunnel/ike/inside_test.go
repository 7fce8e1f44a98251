package ike

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// inside sends what an authenticated peer can send: any payloads under its keys.
func (w *world) inside(from int, h message.Header, first message.PayloadType, plain []byte, size int) {
	x := w.live(from)
	if x == nil {
		return
	}
	h.InitiatorSPI, h.ResponderSPI = x.spii, x.spir
	if x.initiator {
		h.Flags |= message.FlagInitiator
	} else {
		h.Flags &^= message.FlagInitiator
	}
	out, err := x.seal.SealPlain(h, first, plain, size)
	if err != nil {
		return
	}
	for _, d := range out {
		w.deliver(from, PortESP, d)
	}
}

// live is the established IKE SA of an end.
func (w *world) live(i int) *ikeSA {
	for _, x := range w.end[i].m.sas {
		if x.state == stateEstablished {
			return x
		}
	}
	return nil
}

// bounded checks that a peer cannot make us keep without end.
func (w *world) bounded(e *end) {
	w.t.Helper()
	m := e.m
	if len(m.sas) > maxHalfOpen+maxZombies+2*maxEstablished || len(m.pairs) > 8*maxChildren || len(e.pairs) != len(m.pairs) || len(m.journal.said) > maxProblems {
		w.t.Fatalf("%d IKE SAs, %d pairs, %d installed, %d problems", len(m.sas), len(m.pairs), len(e.pairs), len(m.journal.said))
	}
	for _, s := range m.sas {
		if len(s.queue) > 32 || len(s.children) > maxChildren+2 {
			w.t.Fatalf("%d tasks, %d children", len(s.queue), len(s.children))
		}
		for _, o := range []*ikeSA{s.predecessor, s.successor} { // and through them to others
			if o != nil && !slices.Contains(m.sas, o) {
				w.t.Fatalf("IKE SA %016x holds on to %016x, which is gone", s.spii, o.spii)
			}
		}
	}
}

// TestInside: a peer that is authenticated and hostile gets answers with errors,
// and cannot make us grow or stop.
func TestInside(t *testing.T) {
	t.Parallel()
	notify := func(n message.NotifyType, data ...byte) message.Payload { return message.Notify{Notify: n, Data: data} }
	encode := func(ps ...message.Payload) (message.PayloadType, []byte) {
		first, b, err := message.EncodePayloads(ps)
		if err != nil {
			t.Fatal(err)
		}
		return first, b
	}
	for name, tc := range map[string]struct {
		exchange message.Exchange
		ps       []message.Payload
	}{
		"nothing in CREATE_CHILD_SA":    {message.CreateChildSA, nil},
		"an SA without a nonce":         {message.CreateChildSA, []message.Payload{message.SA{Proposals: []message.Proposal{{Number: 1, Protocol: message.ProtocolESP, SPI: []byte{1, 2, 3, 4}, Transforms: []message.Transform{{Type: message.TransformEncryption, ID: message.EncryptionAESGCM16, KeyBits: 256}}}}}}},
		"a rekeying of nothing":         {message.CreateChildSA, []message.Payload{message.Notify{Protocol: message.ProtocolESP, SPI: []byte{9, 9, 9, 9}, Notify: message.RekeySA}, message.SA{Proposals: []message.Proposal{{Number: 1, Protocol: message.ProtocolESP, SPI: []byte{1, 2, 3, 4}, Transforms: []message.Transform{{Type: message.TransformEncryption, ID: message.EncryptionAESGCM16, KeyBits: 256}}}}}, message.Nonce{Data: make([]byte, 32)}}},
		"IKE_AUTH again":                {message.IKEAuth, []message.Payload{message.Nonce{Data: make([]byte, 32)}}},
		"IKE_INTERMEDIATE afterwards":   {message.IKEIntermediate, []message.Payload{message.KE{Method: 31, Data: make([]byte, 32)}}},
		"an exchange that nobody knows": {message.Exchange(99), nil},
		"DELETE of what is not there":   {message.Informational, []message.Payload{message.Delete{Protocol: message.ProtocolESP, SPIs: [][]byte{{1, 2, 3, 4}, {5, 6, 7, 8}}}}},
		"DELETE of AH":                  {message.Informational, []message.Payload{message.Delete{Protocol: message.ProtocolAH, SPIs: [][]byte{{1, 2, 3, 4}}}}},
		"errors that nobody asked for":  {message.Informational, []message.Payload{notify(message.NoProposalChosen), notify(message.TemporaryFailure), notify(message.InvalidSPI, 1, 2, 3, 4)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 24)
			w.up()
			w.run(40 * time.Second)
			x := w.live(1)
			id := x.sendID
			first, plain := encode(tc.ps...)
			w.inside(1, message.Header{Exchange: tc.exchange, ID: id}, first, plain, message.MaxLen)
			if got := w.live(0); got == nil || got.recvID != id+1 {
				t.Fatal("the request was not answered")
			}
			x.sendID++
			w.run(time.Minute)
			w.up()
			w.bounded(w.end[0])
		})
	}
}

// A peer that makes CHILD SAs and IKE SAs without end.
func TestInsideGreedy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 25)
	w.up()
	w.excused = w.now.Add(time.Hour)
	for i := range 400 {
		x := w.live(1)
		if x == nil {
			break
		}
		if i%2 == 0 {
			x.queue = append(x.queue, &greedy{})
		} else {
			x.queue = append(x.queue, &rekeyIKE{})
		}
		w.do(w.end[1], func(*Machine) { x.proceed() })
		w.run(50 * time.Millisecond)
		w.bounded(w.end[0])
	}
	w.start(w.end[1])
	w.calm(time.Minute)
}

// greedy asks for one more CHILD SA.
type greedy struct{ childRequest }

func (t *greedy) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	ps, err := t.payloads(s)
	return message.CreateChildSA, ps, err == nil
}
func (*greedy) answered(*ikeSA, []message.Payload) {}

// What is kept of a peer's message is a copy of it: else 64 KB stay with an SPI.
func TestKeptIsCopied(t *testing.T) {
	t.Parallel()
	nonce := message.Nonce{Data: make([]byte, nonceLen)} // the lower one, whatever ours is
	ke := message.KE{Method: message.KEX25519, Data: append([]byte{9}, make([]byte, 31)...)}
	tsi, tsr := message.TS{Of: message.TypeTSi, Selectors: anywhere()}, message.TS{Of: message.TypeTSr, Selectors: anywhere()}
	const spi, childSPI = 0x1122334455667788, 0x11223344
	for name, tc := range map[string]struct {
		request func(c *Config) []message.Payload
		spi     []byte
		kept    func(s *ikeSA) (suite.Choice, []byte)
	}{
		"an IKE SA": {
			func(c *Config) []message.Payload { return []message.Payload{suite.Offer(c.IKE, spi8(spi)), nonce, ke} },
			spi8(spi),
			func(s *ikeSA) (suite.Choice, []byte) { return s.successor.choice, s.successor.lowest },
		},
		"a CHILD SA": {
			func(c *Config) []message.Payload {
				return []message.Payload{suite.Offer(c.ESP, spi4(childSPI)), nonce, ke, tsi, tsr}
			},
			spi4(childSPI),
			func(s *ikeSA) (suite.Choice, []byte) { c := s.children[len(s.children)-1]; return c.choice, c.lowest },
		},
	} {
		w := newWorld(t, 43)
		w.up()
		w.run(time.Minute)
		x := w.live(0)
		first, plain, err := message.EncodePayloads(tc.request(&w.end[1].conf))
		if err != nil {
			t.Fatal(err)
		}
		ps, err := message.DecodePayloads(first, plain)
		if err != nil {
			t.Fatal(err)
		}
		x.createChildRequest(message.Header{Exchange: message.CreateChildSA, ID: x.recvID}, ps)
		for i := range plain { // the message is no longer needed
			plain[i] = 0xff
		}
		choice, lowest := tc.kept(x)
		if !bytes.Equal(choice.SPI, tc.spi) || !bytes.Equal(lowest, nonce.Data) {
			t.Errorf("%s keeps the SPI %x and the nonce %x of the message itself", name, choice.SPI, lowest)
		}
	}
}
