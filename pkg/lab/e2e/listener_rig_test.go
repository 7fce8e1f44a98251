package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/transitd/transitd/pkg/lab/speaker"
	"github.com/transitd/transitd/pkg/netns"
)

// listener is a BGP peer that writes down what transitd really sends. What reads
// the messages is not GoBGP's code, which made them.
type listener struct {
	*attacker
	p    *farRig
	name string // of the neighbour, as transitd calls it

	wire    sync.Mutex
	routes  map[string]string // as told, by prefix, less what was withdrawn
	updates int               // prefixes told and withdrawn
	wrong   error             // what could not be read
}

// listen brings a session up, from an address in a namespace to one of transitd's.
func (p *farRig) listen(name string, ns netns.NS, local, remote string, asn uint16) *listener {
	p.t.Helper()
	l := &listener{p: p, name: name, routes: map[string]string{}}
	caps := []byte{1, 4, 0, 1, 0, 1, 2, 0, 65, 4, 0, 0, byte(asn >> 8), byte(asn)} // IPv4, ROUTE-REFRESH, four octets
	hello := open(4, asn, 90, local, append([]byte{2, byte(len(caps))}, caps...)...)
	soon(p.t, "a session from "+local, 15*time.Second, func() error {
		c, err := dialBGP(ns, local, remote)
		if err != nil {
			return err
		}
		l.attacker = newAttacker(c, l.heard)
		_, _ = c.Write(append(hello, message(msgKeepalive)...))
		select {
		case <-l.up:
			return nil
		case <-l.dead:
			return errors.New("refused: " + l.said())
		case <-time.After(2 * time.Second):
			return errors.Join(errors.New("no answer"), c.Close())
		}
	})
	p.t.Cleanup(func() { _ = l.Close(); <-l.dead })
	return l
}

func (l *listener) heard(b []byte) {
	m, err := speaker.ParseMessage(b)
	u, ok := m.(*speaker.Update)
	if err == nil && !ok {
		return
	}
	l.wire.Lock()
	defer l.wire.Unlock()
	if err != nil || u.AttributeError != nil {
		l.wrong = errors.Join(err, fmt.Errorf("a message that cannot be read: %x", b))
		return
	}
	l.updates += len(u.Withdrawn) + len(u.NLRI)
	for _, p := range u.Withdrawn {
		delete(l.routes, p.String())
	}
	for _, p := range u.NLRI {
		l.routes[p.String()] = attributes(u.Attributes)
	}
}

// attributes are those of RFC 4271, 1997 and 8092 in words, but for ORIGIN; of
// others the number.
func attributes(list []speaker.RawAttribute) string {
	var hop netip.Addr
	var path []uint32
	var communities []string
	med, others := "none", ""
	for _, a := range list {
		var words []uint32
		for b := a.Value; a.Type != 2 && len(b) >= 4; b = b[4:] {
			words = append(words, binary.BigEndian.Uint32(b))
		}
		switch a.Type {
		case 1: // ORIGIN
		case 2: // AS_PATH
			for b := a.Value; len(b) >= 2; b = b[2+4*int(b[1]):] {
				if b[0] != 2 {
					others += " a segment that is no sequence"
				}
				for i := range int(b[1]) {
					path = append(path, binary.BigEndian.Uint32(b[2+4*i:]))
				}
			}
		case 3: // NEXT_HOP
			hop, _ = netip.AddrFromSlice(a.Value)
		case 4: // MULTI_EXIT_DISC
			med = fmt.Sprint(words[0])
		case 8: // COMMUNITIES
			for _, w := range words {
				communities = append(communities, fmt.Sprintf("%d:%d", w>>16, w&0xffff))
			}
		case 32: // LARGE_COMMUNITY
			for w := range slices.Chunk(words, 3) {
				communities = append(communities, fmt.Sprintf("%d:%d:%d", w[0], w[1], w[2]))
			}
		default:
			others += fmt.Sprintf(" attribute %d", a.Type)
		}
	}
	return fmt.Sprintf("by %s path %v communities %v MED %s%s", hop, path, communities, med, others)
}

// announced is what transitctl says that a neighbour is told, in the same words.
func (p *farRig) announced(who string) map[string]string {
	p.t.Helper()
	var reply struct {
		Routes []struct {
			Prefix      string
			NextHop     string   `json:"next_hop"`
			ASPath      []uint32 `json:"as_path"`
			Communities []string
			MED         *uint32
			Accepted    bool
		}
	}
	if err := p.ask(&reply, "bgp", "routes", "--announced", who); err != nil {
		p.t.Fatal(err)
	}
	told := map[string]string{}
	for _, r := range reply.Routes {
		if !r.Accepted {
			continue
		}
		med := "none"
		if r.MED != nil {
			med = fmt.Sprint(*r.MED)
		}
		told[r.Prefix] = fmt.Sprintf("by %s path %v communities %v MED %s", r.NextHop, r.ASPath, r.Communities, med)
	}
	return told
}

// agrees waits until what transitctl says is what was on the wire, route by
// route and by the neighbour's name as well as the session's address, and is
// as much as it should be. Some routes are given in words.
func (l *listener) agrees(count int, some map[string]string) {
	l.p.t.Helper()
	addr := l.LocalAddr().String()
	addr = addr[:strings.LastIndex(addr, ":")]
	soon(l.p.t, l.name+" at "+addr+": what transitctl says is on the wire", 10*time.Second, func() error {
		byName, byAddr := l.p.announced(l.name), l.p.announced(addr)
		l.wire.Lock()
		defer l.wire.Unlock()
		var errs []error
		bad := func(format string, args ...any) {
			if len(errs) < 5 {
				errs = append(errs, fmt.Errorf(format, args...))
			}
		}
		if l.wrong != nil || l.gone() || len(l.routes) != count {
			bad("%d routes on the wire, want %d; gone %t (%s), not read: %v", len(l.routes), count, l.gone(), l.said(), l.wrong)
		}
		if !maps.Equal(byName, byAddr) {
			bad("by name there are %d routes, by address %d", len(byName), len(byAddr))
		}
		for prefix, is := range l.routes {
			if byName[prefix] != is {
				bad("%s on the wire: %q, said: %q", prefix, is, byName[prefix])
			}
		}
		for prefix, said := range byName {
			if _, ok := l.routes[prefix]; !ok {
				bad("%s is not on the wire, said: %q", prefix, said)
			}
		}
		for prefix, want := range some {
			if l.routes[prefix] != want {
				bad("%s on the wire: %q, want %q", prefix, l.routes[prefix], want)
			}
		}
		return errors.Join(errs...)
	})
}

// tell announces prefixes with these attributes.
func (l *listener) tell(prefixes []string, attrs ...[]byte) {
	for part := range slices.Chunk(prefixes, 500) {
		_, _ = l.Write(update(joined(part), attrs...))
	}
}

// withdraw takes prefixes back; of none it is the end of the first telling (RFC 4724, section 2).
func (l *listener) withdraw(prefixes ...string) { _, _ = l.Write(updateOf(joined(prefixes), nil)) }

func joined(prefixes []string) (b []byte) {
	for _, p := range prefixes {
		b = append(b, nlri(p)...)
	}
	return b
}

// again asks for everything by ROUTE-REFRESH (RFC 2918), and forgets what was told before.
func (l *listener) again() {
	l.wire.Lock()
	defer l.wire.Unlock()
	l.routes, l.updates = map[string]string{}, 0
	_, _ = l.Write(message(5, 0, 1, 0, 1))
}

// heardOf is how many prefixes were told or withdrawn since the last ROUTE-REFRESH.
func (l *listener) heardOf() int {
	l.wire.Lock()
	defer l.wire.Unlock()
	return l.updates
}
