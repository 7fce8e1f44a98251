package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// TestTenTunnels: one node with ten tunnels to BIRD on the kernel's vxlan
// device, 400 routes from each. Then one tunnel dies, and the other nine
// notice nothing.
func TestTenTunnels(t *testing.T) {
	netnstest.RequireRoot(t)
	const tunnels, each, dies = 10, 400, 4
	links := make([]farLink, tunnels)
	for n := range links {
		links[n].n = n
	}
	p := newPair(t, links...)
	start := time.Now()
	peers := make([]farPeer, tunnels)
	for n := range links {
		peers[n] = newBIRD(p, n, farOptions{prefixes: each})
	}
	for n, peer := range peers {
		p.up(n, peer, 30*time.Second)
	}
	p.learned(5*time.Second, func(int) int { return each })
	t.Logf("%d tunnels with BGP, BFD, %d routes each and traffic, %v after the peers' start", tunnels, each, time.Since(start).Round(time.Millisecond))

	rss, cpu := p.daemon.costs(3 * time.Second)
	t.Logf("transitd: %.0f MB resident, %.1f %% of a core when idle", float64(rss)/1e6, cpu*100)
	if rss > 200e6 || cpu > 0.5 {
		t.Errorf("that is too much: %d bytes, %.2f", rss, cpu)
	}

	before := p.status()
	lost := p.pingAll(4*time.Second, dies)
	p.cut(dies, true)
	took := p.learned(failover, func(n int) int {
		if n == dies {
			return 0
		}
		return each
	})
	t.Logf("%s is dead: its routes are gone after %v", links[dies].name(), took.Round(time.Millisecond))
	for n, said := range lost() {
		if said != "" {
			t.Errorf("traffic over %s: %s", links[n].name(), said)
		}
	}
	after := p.status()
	for n, peer := range peers {
		i := slices.IndexFunc(after.BGP, func(b bgpStatus) bool { return b.Name == links[n].name() })
		bgp, bfd := p.session(n)
		if n == dies {
			if bgp.State == "established" || bfd.State == "up" {
				t.Errorf("the dead tunnel has BGP %+v, BFD %+v", bgp, bfd)
			}
			continue
		}
		if bgp.State != "established" || bfd.State != "up" || bfd.Flaps > 0 || after.BGP[i].UptimeS < before.BGP[i].UptimeS {
			t.Errorf("%s noticed: BGP %+v, BFD %+v", links[n].name(), bgp, bfd)
		}
		if v, err := peer.view(); err != nil || !v.established || !v.bfdUp {
			t.Errorf("%s as its peer sees it: %+v %v", links[n].name(), v, err)
		}
	}
	p.cut(dies, false)
	t.Logf("up %v after it came back", p.up(dies, peers[dies], 20*time.Second))
	p.learned(3*time.Second, func(int) int { return each })
}

// learned waits until the kernel has exactly so many routes through each
// tunnel, all of them of its far NVA.
func (p *farRig) learned(within time.Duration, want func(n int) int) time.Duration {
	p.t.Helper()
	return soon(p.t, "the kernel's routes by tunnel", within, func() error {
		have := p.routes()
		for n, link := range p.links {
			for i := range 2048 {
				line, prefix := have[link.prefix(i)], link.prefix(i)
				if i < want(n) != strings.Contains(line, " dev "+link.name()+" ") {
					return fmt.Errorf("%s of %s, which has %d: %q", prefix, link.name(), want(n), line)
				}
				delete(have, prefix)
			}
		}
		if len(have) > 0 {
			return fmt.Errorf("further routes: %v", slices.Sorted(maps.Keys(have)))
		}
		return nil
	})
}

// pingAll sends 50 packets a second over every tunnel but one. What it returns
// waits for the end, and says by tunnel what was wrong.
func (p *farRig) pingAll(d time.Duration, but int) func() map[int]string {
	var all sync.WaitGroup
	var mu sync.Mutex
	said := map[int]string{}
	count := strconv.Itoa(int(d / (20 * time.Millisecond)))
	for n, link := range p.links {
		if n == but {
			continue
		}
		c := p.nva.Command(context.Background(), "ping", "-n", "-q", "-i", "0.02", "-c", count, "-W", "1", "-I", nodeHost, link.host())
		all.Go(func() {
			out, err := output(c)
			mu.Lock()
			defer mu.Unlock()
			said[n] = ""
			if err != nil || !strings.Contains(out, count+" packets transmitted, "+count+" received") {
				said[n] = fmt.Sprintf("%s %v", out, err)
			}
		})
	}
	return func() map[int]string { all.Wait(); return said }
}

// costs are the program's resident memory in bytes, and its share of one core over some time.
func (d *farProgram) costs(over time.Duration) (rss int, cpu float64) {
	d.t.Helper()
	ticks := func() int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.pid))
		if err != nil {
			d.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ") // the name may have spaces
		f := strings.Fields(rest)                  // from field 3 of proc_pid_stat(5) on
		user, err1 := strconv.Atoi(f[14-3])
		system, err2 := strconv.Atoi(f[15-3])
		pages, err3 := strconv.Atoi(f[24-3])
		if err1 != nil || err2 != nil || err3 != nil {
			d.t.Fatalf("/proc/%d/stat: %s", d.pid, b)
		}
		rss = pages * os.Getpagesize()
		return user + system
	}
	start, before := time.Now(), ticks()
	<-time.After(over)
	const hertz = 100 // of these ticks, on every Linux that Go runs on
	return rss, float64(ticks()-before) / hertz / time.Since(start).Seconds()
}
