package ike

import (
	"net/netip"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// reload gives an end another configuration.
func (w *world) reload(end int, change func(c *Config)) {
	w.t.Helper()
	e := w.end[end]
	change(&e.conf)
	w.do(e, func(m *Machine) {
		if err := m.Reconfigure(w.now, e.conf); err != nil {
			w.t.Fatal(err)
		}
	})
}

// carriesFor lets a time pass in which packets go both ways, and no second is without a pair.
func (w *world) carriesFor(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.packet(0)
		w.packet(1)
		before := w.carried
		w.run(time.Second)
		if w.carried != before+2 {
			w.t.Fatalf("%s: %d packets of 2 arrive\n%s", w.now.Format("15:04:05"), w.carried-before, w.describe())
		}
	}
}

// The ends are reloaded one after the other. In between they do not agree on a
// pair, and the one before carries, at whichever end the change is first.
func TestReloadOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(mine, theirs *Config){
		"esp_proposals": func(mine, theirs *Config) {
			mine.ESP = proposals(t, message.ProtocolESP, "aes128gcm16-x25519-esn-noesn")
			theirs.ESP = mine.ESP
		},
		"selectors": func(mine, theirs *Config) {
			mine.RemoteTS = []message.Selector{message.SelectorOf(netip.MustParsePrefix("198.51.100.0/24"))}
			theirs.LocalTS = mine.RemoteTS
		},
		"ike_proposals": func(mine, theirs *Config) {
			mine.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-x25519")
			theirs.IKE = mine.IKE
		},
	} {
		for first := range 2 {
			for _, passive := range []bool{false, true} {
				w := newWorld(t, 60, func(a, b *Config) {
					b.Initiate = !passive
					// Of these the selectors of the other configuration have no part.
					a.RemoteTS = []message.Selector{message.SelectorOf(netip.MustParsePrefix("203.0.113.0/24"))}
					b.LocalTS = a.RemoteTS
					b.RemoteTS, a.LocalTS = a.RemoteTS, a.RemoteTS
				})
				w.calm(20 * time.Second)
				w.run(time.Minute)
				before := w.live(0)
				mine, theirs := w.end[first].conf, w.end[1-first].conf
				change(&mine, &theirs)
				w.reload(first, func(c *Config) { *c = mine })
				w.carriesFor(5 * time.Minute)
				if e := w.end[first]; e.conf.Initiate && e.count("the peer refuses") == 0 {
					t.Errorf("%s, end %d first: its log does not say that the peer refuses", name, first)
				}
				w.reload(1-first, func(c *Config) { *c = theirs })
				w.carriesFor(90 * time.Second) // the longest wait for another try
				if after := w.live(0); after == before {
					t.Errorf("%s, end %d first: the IKE SA is still the one before", name, first)
				}
				w.calm(time.Minute)
				for i, e := range w.end {
					if !e.pairs[e.out].ESN {
						t.Errorf("%s, end %d first: the pair of end %d has no extended sequence numbers", name, first, i)
					}
				}
			}
		}
	}
}

// A peer that chooses extended sequence numbers and cannot do them is asked once
// with them. One that refuses both ways has another reason, and is asked with them again.
func TestRefusedWithoutESN(t *testing.T) {
	t.Parallel()
	only := func(text string) func(c *Config) {
		return func(c *Config) { c.ESP = proposals(t, message.ProtocolESP, text) }
	}
	w := newWorld(t, 61, func(a, b *Config) {
		b.Initiate = false
		only("aes256gcm16-x25519-esn")(a)
		only("aes256gcm16-x25519-noesn")(b)
	})
	refusals := func() int { return w.end[0].count("once more without extended sequence numbers") }
	w.up()
	if w.end[0].pairs[w.end[0].out].ESN || refusals() != 1 {
		t.Fatalf("%d refusals\n%s", refusals(), w.describe())
	}
	for range 3 {
		w.run(40 * time.Second)
		w.do(w.end[0], func(m *Machine) { _ = m.RekeyIKE(w.now) })
		w.run(5 * time.Second)
		w.do(w.end[0], func(m *Machine) { _ = m.RekeyChild(w.now) })
		w.run(5 * time.Second)
	}
	if s := w.end[0].m.Status(); s.ChildRekeys != 3 || s.IKERekeys != 3 || refusals() != 1 {
		t.Errorf("%d pairs and %d IKE SAs replaced, %d refusals", s.ChildRekeys, s.IKERekeys, refusals())
	}
	w.end[1].m.cfg.ESP = proposals(t, message.ProtocolESP, "aes128gcm16-esn")
	w.do(w.end[0], func(m *Machine) { _ = m.RekeyChild(w.now) })
	w.run(5 * time.Second)
	if x := w.live(0); x.noESN {
		t.Error("a refusal without extended sequence numbers is still taken for one of them")
	}
	w.end[1].m.cfg.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519-esn")
	w.run(2 * refusedRest)
	w.up()
	if !w.end[0].pairs[w.end[0].out].ESN {
		t.Error("the pair has no extended sequence numbers, which both ends can do by now")
	}
}
