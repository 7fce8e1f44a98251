package ike

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// step is one of FuzzMachine's scripts: under keys, as the peer of the end to.
func step(t testing.TB, to byte, response bool, x message.Exchange, ps ...message.Payload) []byte {
	t.Helper()
	first, plain, err := message.EncodePayloads(ps)
	if err != nil {
		t.Fatal(err)
	}
	if first == message.TypeNone {
		first = message.TypeSA
	}
	kind := byte(first-33) << 1
	if response {
		kind |= 1
	}
	data := append([]byte{byte(x - 34), kind}, plain...)
	if len(data) > 255 {
		t.Fatalf("a step of %d bytes", len(data))
	}
	return append([]byte{to<<7 | 1, byte(len(data))}, data...)
}

// machineSeeds are scripts that get far: what a peer that means well would send,
// and then a little else.
func machineSeeds(t testing.TB) (out [][]byte) {
	t.Helper()
	w := newWorld(t, 30) // as FuzzMachine has it
	w.calm(10 * time.Second)
	w.run(31 * time.Second)
	for to := range byte(2) {
		c := w.end[to].conf
		spi := spi4(w.end[1-to].pairs[w.end[1-to].out].In.SPI)
		nonce := message.Nonce{Data: bytes.Repeat([]byte{7}, 32)}
		ke := message.KE{Method: message.KEX25519, Data: append([]byte{9}, make([]byte, 31)...)}
		esp := suite.Offer(c.ESP, []byte{1, 2, 3, 4})
		ike := suite.Offer(c.IKE, []byte{1, 2, 3, 4, 5, 6, 7, 8})
		all := anywhere()[:1]
		tsi, tsr := message.TS{Of: message.TypeTSi, Selectors: all}, message.TS{Of: message.TypeTSr, Selectors: all}
		rekey := message.Notify{Protocol: message.ProtocolESP, SPI: spi, Notify: message.RekeySA}
		child := step(t, to, false, message.CreateChildSA, esp, nonce, ke, tsi, tsr)
		rekeyed := step(t, to, false, message.CreateChildSA, rekey, esp, nonce, ke, tsi, tsr)
		replaced := step(t, to, false, message.CreateChildSA, ike, nonce, ke)
		deleted := step(t, to, false, message.Informational, message.Delete{Protocol: message.ProtocolESP, SPIs: [][]byte{spi}})
		gone := step(t, to, false, message.Informational, message.Delete{Protocol: message.ProtocolIKE})
		failed := step(t, to, false, message.Informational, message.Notify{Notify: message.AuthenticationFailed})
		asks := func(op byte) []byte { return []byte{to<<7 | op, 0} } // the end itself begins something
		answer := func(ps ...message.Payload) []byte { return step(t, to, true, message.CreateChildSA, ps...) }
		wait := append([]byte{to<<7 | 7, 30}, make([]byte, 30)...)
		out = append(out,
			child, rekeyed, replaced, deleted, gone, failed,
			bytes.Join([][]byte{child, child, child, deleted, wait, child}, nil),
			bytes.Join([][]byte{rekeyed, rekeyed, deleted, wait}, nil),
			bytes.Join([][]byte{replaced, replaced, wait, child}, nil),
			bytes.Join([][]byte{asks(4), rekeyed, answer(esp, nonce, ke, tsi, tsr)}, nil),
			bytes.Join([][]byte{asks(4), answer(message.Notify{Notify: message.ChildSANotFound}), wait}, nil),
			bytes.Join([][]byte{asks(4), answer(message.WantKE(message.KEX25519)), answer(message.Notify{Notify: message.TemporaryFailure})}, nil),
			bytes.Join([][]byte{asks(5), replaced, answer(ike, nonce, ke), gone}, nil),
			bytes.Join([][]byte{asks(5), answer(message.Notify{Notify: message.NoProposalChosen}), deleted}, nil),
			bytes.Join([][]byte{asks(6), rekeyed, step(t, to, true, message.Informational)}, nil),
		)
	}
	return out
}

// spoil changes the inside of a message: how is the first byte, the rest says what.
func spoil(first message.PayloadType, plain, how []byte) (message.PayloadType, []byte) {
	if len(how) == 0 {
		return first, plain
	}
	kind, how := how[0], how[1:]
	switch kind % 4 {
	case 0: // something else
		if len(how) > 0 {
			return message.PayloadType(33 + how[0]%22), how[1:]
		}
		return message.TypeNone, nil
	case 1: // some bytes are others
		for ; len(how) >= 3 && len(plain) > 0; how = how[3:] {
			plain[(int(how[0])<<8|int(how[1]))%len(plain)] ^= how[2]
		}
	case 2: // cut
		if len(how) >= 2 {
			plain = plain[:(int(how[0])<<8|int(how[1]))%(len(plain)+1)]
		}
	case 3: // with something behind it
		plain = append(plain, how...)
	}
	return first, plain
}

// FuzzHandshake has two ends make a tunnel, and one of the messages that are
// under keys say something else: IKE_INTERMEDIATE and IKE_AUTH, requests and
// answers. Nothing panics, nothing grows, and when who spoke so has begun anew there
// is a tunnel.
func FuzzHandshake(f *testing.F) {
	for which := range byte(8) {
		f.Add(which, byte(0), []byte{0, 8, 0, 0, 0, 8, 0, 0, 0, 24})
		f.Add(which, byte(0), []byte{1, 0, 0, 1, 0, 5, 255, 0, 40, 1})
		f.Add(which, byte(1), []byte{2, 0, 40})
		f.Add(which, byte(2), []byte{3, 0, 0, 0, 4})
		f.Add(which, byte(3), []byte{0})
	}
	f.Fuzz(func(t *testing.T, which, variant byte, how []byte) {
		if len(how) > 1000 {
			return
		}
		w := newWorld(t, 32, func(a, b *Config) {
			for _, c := range []*Config{a, b} {
				if variant&1 == 0 {
					c.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke1_mlkem768")
				}
				if variant&2 != 0 {
					c.PPK, c.PPKID = []byte("a secret of the future"), "future"
				}
			}
		})
		w.excused = w.now.Add(24 * time.Hour)
		seen, hostile := 0, -1
		w.hold = func(from int, d []byte) bool {
			h, err := message.DecodeHeader(d)
			if err != nil || h.Exchange == message.IKESAInit {
				return false
			}
			for _, s := range w.end[1-from].m.sas {
				if s.spii != h.InitiatorSPI || s.open == nil {
					continue
				}
				o, err := s.open.Open(d)
				if err != nil {
					continue
				}
				seen++
				if seen-1 != int(which%8) {
					return false
				}
				first, plain := spoil(o.First, bytes.Clone(o.Plain), how)
				if variant&4 != 0 {
					h.Exchange = message.Exchange(34 + variant>>3%12)
				}
				for _, x := range w.end[from].m.sas {
					if x.spii == h.InitiatorSPI && x.seal != nil {
						out, err := x.seal.SealPlain(h, first, plain, message.MaxLen)
						if err != nil {
							return false
						}
						for _, d := range out {
							w.carry(from, PortESP, d)
						}
						hostile = from
						return true
					}
				}
			}
			return false
		}
		w.run(40 * time.Second)
		for _, e := range w.end {
			w.bounded(e)
			checkLog(t, e)
		}
		w.hold = nil
		if hostile >= 0 {
			w.start(w.end[hostile])
		}
		w.calm(3 * time.Minute)
	})
}

// FuzzMachine lets a script happen to one end of an established tunnel: messages
// without keys, messages under the peer's keys, and time. Nothing panics, nothing
// grows, and when the peer has begun anew there is a tunnel again.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 4, 1, 2, 3, 4})
	f.Add([]byte{1, 8, 37, 0, 41, 0, 0, 0, 8, 1, 64, 5})
	f.Add([]byte{2, 10, 36, 0, 33, 0, 0, 0, 44, 0, 0, 0, 3, 4, 9})
	f.Add([]byte{3, 1, 9, 2, 6, 37, 1, 42, 0, 0, 0, 8, 3, 4, 0, 1})
	f.Add([]byte{4, 0, 5, 0, 6, 0, 7, 0})
	for _, s := range machineSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, 30)
		w.calm(10 * time.Second)
		w.run(31 * time.Second)
		w.excused = w.now.Add(24 * time.Hour)
		next := func() byte {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return b
		}
		to := 0 // who suffers; the other one is hostile
		if len(script) > 0 {
			to = int(script[0] >> 7)
		}
		for steps := 0; len(script) > 0 && steps < 64; steps++ {
			op := next()
			n := min(int(next()), len(script))
			data := script[:n]
			script = script[n:]
			w.act(to, op, data)
			for _, e := range w.end {
				w.bounded(e)
				checkLog(t, e)
			}
		}
		w.run(time.Minute)
		w.start(w.end[1-to])
		w.calm(10 * time.Minute)
		for _, e := range w.end {
			w.bounded(e)
		}
	})
}

// act is a step of such a script.
func (w *world) act(to int, op byte, data []byte) {
	switch op & 7 {
	case 0: // anything, from the peer's address
		w.deliver(1-to, Port(op>>3&1), data)
	case 1, 2, 3: // under keys: exchange, then payloads
		x := w.live(1 - to)
		if x == nil || len(data) < 2 {
			return
		}
		h := message.Header{Exchange: message.Exchange(34 + data[0]%12), ID: x.sendID}
		if data[1]&1 != 0 {
			h.Flags, h.ID = message.FlagResponse, x.recvID
			if y := w.live(to); y != nil && y.out != nil {
				h.ID, h.Exchange = y.out.id, y.out.exchange
			}
		}
		size := message.MaxLen
		if op&7 == 3 {
			size = 120
		}
		w.inside(1-to, h, message.PayloadType(33+data[1]>>1%22), data[2:], size)
		if h.Flags == 0 {
			x.sendID++
		}
	case 4:
		w.quietly(func() { w.do(w.end[to], func(m *Machine) { _ = m.RekeyChild(w.now) }) }, op)
	case 5:
		w.quietly(func() { w.do(w.end[to], func(m *Machine) { _ = m.RekeyIKE(w.now) }) }, op)
	case 6:
		w.quietly(func() { w.do(w.end[to], func(m *Machine) { m.Terminate(w.now) }) }, op)
	case 7:
		w.run(time.Duration(len(data)) * 100 * time.Millisecond)
	}
}

// quietly does something that the peer does not hear of, or does, by a bit of op.
func (w *world) quietly(do func(), op byte) {
	if op&8 == 0 {
		w.hold = func(int, []byte) bool { return true }
	}
	do()
	w.hold = nil
}

// FuzzInit gives a machine that waits, and one that has asked, datagrams of
// anybody.
func FuzzInit(f *testing.F) {
	w := newWorld(f, 31)
	f.Add(initRequest(f, w, 5), true)
	f.Add(withCookie(f, initRequest(f, w, 5), []byte("cookie")), true)
	d, _ := message.Message{Header: message.Header{InitiatorSPI: 5, Exchange: message.IKESAInit, Flags: message.FlagResponse}, Payloads: []message.Payload{message.Notify{Notify: message.Cookie, Data: []byte("cookie")}}}.Encode()
	f.Add(d, false)
	d, _ = message.Message{Header: message.Header{InitiatorSPI: 5, Exchange: message.IKESAInit, Flags: message.FlagResponse}, Payloads: []message.Payload{message.WantKE(19)}}.Encode()
	f.Add(d, false)
	f.Fuzz(func(t *testing.T, d []byte, request bool) {
		w := newWorld(t, 31)
		w.hold = func(int, []byte) bool { return true }
		w.run(time.Second)
		to := 0
		if request {
			to = 1
		} else if len(d) >= 8 {
			binary.BigEndian.PutUint64(d, w.end[0].m.sas[0].spii)
		}
		w.end[to].m.Message(w.now, PortESP, w.end[to].conf.Remote, d)
		w.bounded(w.end[to])
		w.hold = nil
		w.calm(2 * time.Minute)
	})
}
