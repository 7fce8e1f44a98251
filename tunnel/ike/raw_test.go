package ike

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// raw has both ends carry ESP without UDP.
func raw(a, b *Config) {
	for _, c := range []*Config{a, b} {
		c.Raw = true
		c.Local, c.Remote = netip.AddrPortFrom(c.Local.Addr(), 500), netip.AddrPortFrom(c.Remote.Addr(), 500)
	}
}

// Without UDP all of IKE goes by port 500, whoever begins, also what replaces an SA.
func TestRaw(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20, raw)
	w.up()
	for _, f := range []func(m *Machine) error{
		func(m *Machine) error { return m.RekeyIKE(w.now) },
		func(m *Machine) error { return m.RekeyChild(w.now) },
	} {
		for _, e := range w.end {
			w.do(e, func(m *Machine) {
				if err := f(m); err != nil {
					t.Error(err)
				}
			})
			w.run(time.Minute)
			w.up()
		}
	}
	for i, e := range w.end {
		s := e.m.Status()
		if s.IKERekeys != 2 || s.ChildRekeys != 2 || s.NATHere || len(e.alarms) > 0 {
			t.Errorf("end %d: %+v, %q", i, s, e.alarms)
		}
		for _, x := range e.m.sas {
			if x.port != PortIKE || x.to != e.conf.Remote {
				t.Errorf("end %d talks by port %d to %s", i, x.port, x.to)
			}
		}
	}
}

// A NAT on the path, or a peer that wants UDP, is told in words, at both ends as far as they can know, and no SA is made.
func TestRawRefused(t *testing.T) {
	t.Parallel()
	behind := func(c *Config) { c.Local = netip.MustParseAddrPort("10.9.9.9:500") } // and the other end sees c as before
	for _, tc := range []struct {
		name         string
		change       func(a, b *Config)
		ours, theirs string // of the initiator and of the responder
	}{
		{"a NAT before the initiator", func(a, _ *Config) { behind(a) }, "UNEXPECTED_NAT_DETECTED: it carries ESP without UDP, and sees a NAT on the path", "IKE_SA_INIT from the peer: a NAT is on the path"},
		{"a NAT before the responder", func(_, b *Config) { behind(b) }, "and sees a NAT on the path", "a NAT is on the path: the peer does not see us at 10.9.9.9:500"},
		{"a responder with UDP", func(_, b *Config) { b.Raw = false }, "a NAT is on the path, or the peer wants ESP in UDP: it says that it is not at 192.0.2.2:500", ""},
		{"an initiator with UDP", func(a, _ *Config) { a.Raw = false }, "or that we want UDP. ESP without UDP does not get through: set udp_encapsulation: true", "or the peer wants ESP in UDP: it says that it is not at 192.0.2.1:500"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 21, raw, tc.change)
			a, b := w.down()
			if !strings.Contains(a, tc.ours) || !strings.Contains(b, tc.theirs) {
				t.Errorf("the initiator says %s\nthe responder says %s", a, b)
			}
			for i, says := range []string{tc.ours, tc.theirs} {
				s := w.end[i].m.Status()
				if why := s.Why(w.now); !strings.Contains(why, says) {
					t.Errorf("end %d: the status says %q", i, why)
				}
				if says != "" && !strings.Contains(s.Why(w.now), "set udp_encapsulation: true at both ends") {
					t.Errorf("end %d does not say what to do: %s", i, s.Why(w.now))
				}
			}
		})
	}
}

// A peer may send several addresses that may be its own, or none.
func TestRawDetection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 22, raw)
	s := &ikeSA{m: w.end[0].m, spii: 1, to: w.end[0].conf.Remote}
	is := func(n message.NotifyType, at netip.AddrPort) message.Payload {
		return message.Notify{Notify: n, Data: natHash(1, 2, at)}
	}
	here, there, elsewhere := w.end[0].conf.Local, w.end[0].conf.Remote, netip.MustParseAddrPort("10.9.9.9:500")
	for name, tc := range map[string]struct {
		ps  []message.Payload
		fit bool
	}{
		"none":            {nil, true},
		"both":            {[]message.Payload{is(message.NATDetectionSourceIP, there), is(message.NATDetectionDestinationIP, here)}, true},
		"two sources":     {[]message.Payload{is(message.NATDetectionSourceIP, elsewhere), is(message.NATDetectionSourceIP, there), is(message.NATDetectionDestinationIP, here)}, true},
		"another source":  {[]message.Payload{is(message.NATDetectionSourceIP, elsewhere), is(message.NATDetectionDestinationIP, here)}, false},
		"another port":    {[]message.Payload{is(message.NATDetectionSourceIP, netip.AddrPortFrom(there.Addr(), 4500))}, false},
		"we are another":  {[]message.Payload{is(message.NATDetectionSourceIP, there), is(message.NATDetectionDestinationIP, elsewhere)}, false},
		"no data":         {[]message.Payload{message.Notify{Notify: message.NATDetectionSourceIP}}, false},
		"of another SPI":  {[]message.Payload{message.Notify{Notify: message.NATDetectionSourceIP, Data: natHash(1, 3, there)}}, false},
		"only the source": {[]message.Payload{is(message.NATDetectionSourceIP, there)}, true},
	} {
		if why := s.unfitForRaw(tc.ps, 2); (why == "") != tc.fit {
			t.Errorf("%s: %q", name, why)
		}
	}
	w.end[0].m.cfg.Raw = false
	if why := s.unfitForRaw([]message.Payload{is(message.NATDetectionSourceIP, elsewhere)}, 2); why != "" {
		t.Errorf("with UDP: %s", why)
	}
}
