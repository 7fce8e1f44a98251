package ike

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// A stage is a world in which messages of IKE wait until the test lets them go,
// in the order in which their sender made them.
type stage struct {
	*world
	queue [2][][]byte
	first [2]*child // the pair of each end before anything happens
	ike   uint64    // and the IKE SA
}

func newStage(t testing.TB, seed uint64, change ...func(a, b *Config)) *stage {
	t.Helper()
	s := &stage{world: newWorld(t, seed, change...)}
	s.delay = time.Millisecond
	s.calm(10 * time.Second)
	s.run(35 * time.Second) // both know that the other one has the pair
	s.calm(time.Second)
	for i, e := range s.end {
		s.first[i] = e.m.sas[0].children[0]
		s.ike = e.m.sas[0].spii
	}
	s.hold = func(from int, datagram []byte) bool {
		s.queue[from] = append(s.queue[from], bytes.Clone(datagram))
		return true
	}
	return s
}

// begin lets an end do something: c replaces the CHILD SA, i the IKE SA, d
// deletes the CHILD SA, t all, - nothing.
func (s *stage) begin(end int, what byte) {
	e := s.end[end]
	switch what {
	case 'c':
		s.do(e, func(m *Machine) { _ = m.RekeyChild(s.now) })
	case 'i':
		s.do(e, func(m *Machine) { _ = m.RekeyIKE(s.now) })
	case 'd':
		s.excused = s.now.Add(2 * time.Minute)
		s.do(e, func(m *Machine) {
			for _, x := range m.sas {
				for _, c := range slices.Clone(x.children) {
					x.deleteChild(c)
				}
			}
		})
	case 't':
		s.excused = s.now.Add(2 * time.Minute)
		s.do(e, func(m *Machine) { m.Terminate(s.now) })
	}
}

// step lets the oldest message of an end arrive; an upper case letter loses it.
// a and A are of end 0, b and B of end 1. Packets go both ways meanwhile.
func (s *stage) step(what byte) {
	from := int(what|0x20) - 'a'
	if len(s.queue[from]) == 0 {
		return
	}
	d := s.queue[from][0]
	s.queue[from] = s.queue[from][1:]
	if what >= 'a' {
		s.deliver(from, PortESP, d)
	}
	s.talk()
}

func (s *stage) talk() {
	s.packet(0)
	s.packet(1)
	s.run(5 * time.Millisecond)
}

// finish lets the network work again, and waits.
func (s *stage) finish() {
	s.t.Helper()
	s.hold = nil
	for i := range s.queue {
		for _, d := range s.queue[i] {
			s.carry(i, PortESP, d)
		}
		s.queue[i] = nil
	}
	for range 200 {
		s.talk()
	}
	s.calm(3 * time.Minute)
	before := s.carried
	s.talk()
	if s.carried != before+2 {
		s.t.Errorf("in the end %d packets of 2 arrive", s.carried-before)
	}
}

// kept checks that there is a new pair, or a new IKE SA.
func (s *stage) kept(what byte) {
	s.t.Helper()
	for i, e := range s.end {
		x := e.m.sas[slices.IndexFunc(e.m.sas, func(x *ikeSA) bool { return x.state == stateEstablished })]
		if what == 'c' && x.children[0] == s.first[i] {
			s.t.Error("the CHILD SA is the old one")
		}
		if what == 'i' && x.spii == s.ike {
			s.t.Error("the IKE SA is the old one")
		}
	}
}

// races are the cases of strongSwan's libcharon/tests/suites, by their names
// there, as orders of messages. What each end begins comes first.
func races() []struct{ name, begin, order, new string } {
	return []struct{ name, begin, order, new string }{
		{"child_rekey/regular", "c-", "ab" + "ab", "c"},
		{"child_rekey/regular by the responder", "-c", "ba" + "ba", "c"},
		{"child_rekey/regular_multi", "c-", "abab", "c"},
		{"child_rekey/regular_lost request", "c-", "A", "c"},
		{"child_rekey/regular_lost answer", "c-", "aB", "c"},
		{"child_rekey/regular_lost delete", "c-", "abA", "c"},
		{"child_rekey/regular_lost answer to the delete", "c-", "abaB", "c"},
		{"child_rekey/collision", "cc", "ab" + "ab" + "ab" + "ab", "c"},
		{"child_rekey/collision_delayed_response", "cc", "ab" + "b" + "bb" + "aaa", "c"},
		{"child_rekey/collision_delayed_response_delete", "cc", "ab" + "bb" + "ab" + "aa", "c"},
		{"child_rekey/collision_delayed_request", "cc", "a" + "b" + "bb" + "aab", "c"},
		{"child_rekey/collision_delayed_request_more", "cc", "a" + "abab" + "baba", "c"},
		{"child_rekey/collision_delayed_request_delete", "cc", "aA" + "bbab", "c"},
		{"child_rekey/collision_dropped_request", "cc", "A" + "baba", "c"},
		{"child_rekey/collision_dropped_both", "cc", "AB", "c"},
		{"child_rekey/collision_dropped_answers", "cc", "ab" + "AB", "c"},
		{"child_rekey/collision_mutual_delete lost", "cc", "ab" + "ab" + "AB", "c"},
		{"child_rekey/collision_delete", "cd", "ab" + "abab", ""},
		{"child_rekey/collision_delete the other way", "cd", "ba" + "baba", ""},
		{"child_rekey/collision_delete_drop_rekey", "cd", "A" + "baba", ""},
		{"child_rekey/collision_delete_drop_delete", "cd", "aB" + "baba", ""},
		{"child_rekey/collision_ike_rekey", "ci", "ab" + "abab", ""},
		{"child_rekey/collision_ike_rekey the other way", "ci", "ba" + "baba", ""},
		{"child_rekey/collision_ike_delete", "ct", "ab" + "abab", ""},
		{"child_delete/regular", "d-", "abab", ""},
		{"child_delete/regular_multi lost", "d-", "aBab", ""},
		{"child_delete/collision", "dd", "abab", ""},
		{"child_delete/collision_rekey", "dc", "abab", ""},
		{"child_delete/collision_ike_rekey", "di", "abab", ""},
		{"child_delete/collision_ike_delete", "dt", "abab", ""},
		{"ike_rekey/regular", "i-", "abab", "i"},
		{"ike_rekey/regular by the responder", "-i", "baba", "i"},
		{"ike_rekey/regular_lost answer", "i-", "aB", "i"},
		{"ike_rekey/regular_lost delete", "i-", "abA", "i"},
		{"ike_rekey/collision", "ii", "abab" + "abab", "i"},
		{"ike_rekey/collision_delayed_response", "ii", "ab" + "bbb" + "aaa", "i"},
		{"ike_rekey/collision_dropped_request", "ii", "A" + "baba", "i"},
		{"ike_rekey/collision_delayed_request", "ii", "a" + "bbb" + "aaa", "i"},
		{"ike_rekey/collision_delayed_request_and_delete", "ii", "a" + "b" + "ab" + "ab" + "bba", "i"},
		{"ike_rekey/collision_delete", "it", "ab" + "abab", ""},
		{"ike_rekey/collision_delete_drop_delete", "it", "aB" + "abab", ""},
		{"ike_rekey/collision_child_rekey", "ic", "ab" + "abab", ""},
		{"ike_delete/regular", "t-", "abab", ""},
		{"ike_delete/collision", "tt", "abab", ""},
	}
}

// TestRaces is the catalogue, each with several outcomes of the nonces.
func TestRaces(t *testing.T) {
	t.Parallel()
	for _, tc := range races() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				s := newStage(t, seed+100)
				s.begin(0, tc.begin[0])
				s.begin(1, tc.begin[1])
				for i := range tc.order {
					s.step(tc.order[i])
				}
				s.finish()
				if tc.new != "" {
					s.kept(tc.new[0])
				}
			}
		})
	}
}

// The same with a first answer of INVALID_KE_PAYLOAD: each end begins with a key
// exchange that the other does not take, and has one that both have.
func TestRacesInvalidKE(t *testing.T) {
	t.Parallel()
	change := func(a, b *Config) {
		a.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-ecp256-x25519")
		b.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-ecp384-x25519")
		a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha256-ecp256-x25519")
		b.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha256-ecp384-x25519")
	}
	for _, tc := range []struct{ name, begin, order, new string }{
		{"child_rekey/regular_ke_invalid", "c-", "ab" + "ab" + "ab", "c"},
		{"child_rekey/collision_ke_invalid", "cc", "abab" + "abab" + "abab", "c"},
		{"child_rekey/collision_ke_invalid_delayed_retry", "cc", "ab" + "ab" + "bbb" + "aaaa", "c"},
		{"ike_rekey/regular_ke_invalid", "i-", "ab" + "ab" + "ab", "i"},
		{"ike_rekey/collision_ke_invalid", "ii", "abab" + "abab" + "abab", "i"},
		{"ike_rekey/collision_ke_invalid_delayed_retry", "ii", "ab" + "ab" + "bbb" + "aaaa", "i"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				s := newStage(t, seed+200, change)
				s.begin(0, tc.begin[0])
				s.begin(1, tc.begin[1])
				for i := range tc.order {
					s.step(tc.order[i])
				}
				s.finish()
				s.kept(tc.new[0])
			}
		})
	}
}

// TestEveryOrder lets two ends begin every pair of things, and the first five
// messages arrive in every order, or be lost.
func TestEveryOrder(t *testing.T) {
	t.Parallel()
	depth := 5
	if testing.Short() || raceEnabled { // .ci/race-tests runs it without
		depth = 3
	}
	const deeds, steps = "cidt", "abAB"
	for _, x := range []byte(deeds) {
		for _, y := range []byte(deeds) {
			t.Run(fmt.Sprintf("%c%c", x, y), func(t *testing.T) {
				t.Parallel()
				for n := range 1 << (2 * depth) {
					var order strings.Builder
					for i := range depth {
						order.WriteByte(steps[n>>(2*i)&3])
					}
					s := newStage(t, uint64(n)%16+300)
					s.begin(0, x)
					s.begin(1, y)
					for i := range depth {
						s.step(order.String()[i])
					}
					s.finish()
					if t.Failed() {
						t.Fatalf("order %s", order.String())
					}
				}
			})
		}
	}
}

// TestCollisionRule: of two new pairs, or IKE SAs, the one stays whose exchange
// does not have the lowest of the four nonces (RFC 7296, sections 2.8.1 and 2.8.2).
func TestCollisionRule(t *testing.T) {
	t.Parallel()
	won := map[bool]int{}
	for seed := range uint64(16) {
		s := newStage(t, seed+700)
		s.begin(0, 'c')
		s.begin(1, 'c')
		for _, x := range []byte("abab") {
			s.step(x)
		}
		var stays *child
		for _, c := range s.end[0].m.pairs {
			if c != s.first[0] && (stays == nil || bytes.Compare(c.lowest, stays.lowest) > 0) {
				stays = c
			}
		}
		if n := len(s.end[0].m.pairs); n != 3 {
			t.Fatalf("%d pairs in the middle of a collision\n%s", n, s.describe())
		}
		s.finish()
		if got := s.end[0].m.sas[0].children[0]; got != stays {
			t.Errorf("%08x stays, and not %08x", got.pair.In.SPI, stays.pair.In.SPI)
		}
		won[stays.ours]++

		s = newStage(t, seed+800)
		s.begin(0, 'i')
		s.begin(1, 'i')
		for _, x := range []byte("abab") {
			s.step(x)
		}
		var keeps *ikeSA
		for _, x := range s.end[0].m.sas {
			if x.spii != s.ike && (keeps == nil || bytes.Compare(x.lowest, keeps.lowest) > 0) {
				keeps = x
			}
		}
		s.finish()
		if got := s.end[0].m.Status().IKE[0].InitiatorSPI; got != keeps.spii {
			t.Errorf("%016x stays, and not %016x", got, keeps.spii)
		}
	}
	if won[true] == 0 || won[false] == 0 {
		t.Errorf("the nonces decided %v: not both ways", won)
	}
}

// child_rekey/regular_responder_incorrect_delete: the peer deletes the old pair
// itself, which is the other's to do.
func TestResponderDeletes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		s := newStage(t, seed+400)
		s.begin(0, 'c')
		s.step('a')
		s.do(s.end[1], func(m *Machine) {
			old := m.sas[0].children[0]
			old.state = childInstalled
			m.sas[0].deleteChild(old)
		})
		for _, x := range []byte("bbabab") {
			s.step(x)
		}
		s.finish()
		s.kept('c')
	}
}

// child_rekey/collision_responder_incorrect_delete: the same while both replace it.
func TestCollisionWrongDelete(t *testing.T) {
	t.Parallel()
	for seed := range uint64(16) {
		s := newStage(t, seed+900)
		s.begin(0, 'c')
		s.begin(1, 'c')
		for _, x := range []byte("abab") {
			s.step(x)
		}
		// Each end would delete the one that is its to delete; end 1 deletes the old one as well.
		s.do(s.end[1], func(m *Machine) {
			for _, x := range m.sas {
				for _, c := range slices.Clone(x.children) {
					if c.born.Equal(s.first[1].born) && c.state != childGone {
						c.state = childInstalled
						x.deleteChild(c)
					}
				}
			}
		})
		for _, x := range []byte("babaabab") {
			s.step(x)
		}
		s.finish()
		s.kept('c')
	}
}

// childless/regular: the IKE SA is made without a CHILD SA (RFC 6023), which is made after it.
func TestChildless(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		w := newWorld(t, seed+950)
		w.hold = w.altered(0, message.IKEAuth, func(ps []message.Payload) []message.Payload {
			return slices.DeleteFunc(ps, func(p message.Payload) bool {
				return p.Type() == message.TypeSA || p.Type() == message.TypeTSi || p.Type() == message.TypeTSr
			})
		})
		w.run(500 * time.Millisecond)
		for i, e := range w.end {
			if s := e.m.Status(); len(s.IKE) != 1 || s.Established != 1 || s.Up {
				t.Errorf("end %d without a CHILD SA: %+v", i, s)
			}
		}
		w.hold = nil
		w.calm(20 * time.Second)
		if s := w.end[0].m.Status(); s.Established != 1 {
			t.Errorf("%d IKE SAs were made", s.Established)
		}
	}
}

// child_rekey/regular_responder_lost_sa: the peer does not know the pair.
func TestResponderLostSA(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		s := newStage(t, seed+500)
		s.excused = s.now.Add(2 * time.Minute)
		s.do(s.end[1], func(m *Machine) {
			m.cfg.Initiate = false // it does not make one of its own
			x := m.sas[0]
			x.retire(x.children[0])
		})
		s.begin(0, 'c')
		s.finish()
		s.kept('c')
		if !strings.Contains(strings.Join(s.end[0].log, "\n"), "does not know CHILD SA") {
			t.Error("the loss is not in the log")
		}
	}
}

// delete_timeout: nobody answers.
func TestDeleteTimeout(t *testing.T) {
	t.Parallel()
	for _, what := range []byte("cidt") {
		s := newStage(t, 600)
		s.begin(0, what)
		s.excused = s.now.Add(5 * time.Minute)
		s.run(time.Minute) // all is held
		if n := len(s.end[0].m.Status().Child); n != 0 {
			t.Errorf("%c: %d CHILD SAs with a peer that is silent for a minute", what, n)
		}
		s.queue = [2][][]byte{}
		s.finish()
	}
}
