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

	"github.com/vishvananda/netlink"

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

// TestSharedRoutesLoseATunnel: 10,000 routes are spread over two tunnels, one of
// which dies. How long the kernel has a route through it is what next-hop
// objects could make shorter (docs/decisions/0007).
func TestSharedRoutesLoseATunnel(t *testing.T) {
	p := newPair(t, farLink{}, farLink{n: 1})
	const routes = 10_000
	var prefixes []string
	for i := range routes {
		prefixes = append(prefixes, fmt.Sprintf("10.%d.%d.0/24", 128+i/256, i%256))
	}
	for n := range p.links {
		newBIRD(p, n, farOptions{these: prefixes})
	}
	through := func(dev string) int {
		out, err := output(p.nva.Command(t.Context(), "ip", "route", "show", "table", "7003"))
		if err != nil {
			return 0 // there is no such table before its first route
		}
		return strings.Count(out, " dev "+dev+" ")
	}
	soon(t, "all routes are spread over both tunnels", 20*time.Second, func() error {
		if a, b := through("tr0"), through("tr1"); a != routes || b != routes {
			return fmt.Errorf("%d routes through tr0, %d through tr1", a, b)
		}
		return nil
	})
	told := p.hearRoutes()
	p.cut(1, true)
	soon(t, "no route through tr1", 5*time.Second, func() error {
		if n, _, _ := told.all(); n < routes {
			return fmt.Errorf("%d routes rewritten", n)
		}
		return nil
	})
	n, first, last := told.all()
	dies := p.daemon.said("bfd session changed state")
	t.Logf("%d routes rewritten from %v to %v after BFD's verdict", n, first.Sub(dies).Round(time.Millisecond), last.Sub(dies).Round(time.Millisecond))
	if took := last.Sub(dies); took > time.Second {
		t.Errorf("that took %v", took)
	}
	if a, b := through("tr0"), through("tr1"); a != routes || b != 0 {
		t.Errorf("%d routes through tr0, %d through tr1", a, b)
	}
}

// kernelNews notes when the kernel told of how many changed routes.
type kernelNews struct {
	mu          sync.Mutex
	routes      int
	first, last time.Time
}

// hearRoutes subscribes to the NVA's routes from now until the test ends. The buffer is large: "ip monitor" loses news
// when the machine is busy.
func (p *farRig) hearRoutes() *kernelNews {
	p.t.Helper()
	k, updates, done := &kernelNews{}, make(chan netlink.RouteUpdate), make(chan struct{})
	if err := p.nva.Do(func() error {
		return netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
			ReceiveBufferSize: 64 << 20, ReceiveBufferForceSize: true,
			ErrorCallback: func(err error) {
				select {
				case <-done: // it is the subscription's end
				default:
					p.t.Errorf("hear of routes: %v", err)
				}
			},
		})
	}); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range updates {
			k.add()
		}
	}()
	p.t.Cleanup(func() { close(done); <-ended })
	return k
}

func (k *kernelNews) add() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = time.Now()
	if k.routes == 0 {
		k.first = k.last
	}
	k.routes++
}

func (k *kernelNews) all() (routes int, first, last time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.routes, k.first, k.last
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

// said is when the program's log said so last, to the millisecond.
func (d *farProgram) said(what string) (at time.Time) {
	d.t.Helper()
	b, err := os.ReadFile(d.log.Name())
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, what) {
			continue
		}
		clock, err := time.ParseInLocation("15:04:05.000", strings.Fields(line)[0], time.Local)
		if err != nil {
			d.t.Fatal(err)
		}
		now := time.Now()
		at = time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), clock.Second(), clock.Nanosecond(), time.Local)
	}
	if at.IsZero() {
		d.t.Fatalf("%s never said %q", d.name, what)
	}
	return at
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
