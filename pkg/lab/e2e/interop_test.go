package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// failover is how long routes may outlive a dead peer: 900 ms of BFD and what follows.
const failover = 1500 * time.Millisecond

// TestInteropFailure: another implementation on the kernel's vxlan device is
// killed, unplugged and shut down by its operator.
func TestInteropFailure(t *testing.T) {
	withPeers(t, func(t *testing.T, start func(*farRig, int, farOptions) farPeer) {
		p := newPair(t, farLink{})
		peer := start(p, 0, farOptions{})
		t.Logf("up %v after its start", p.up(0, peer, 15*time.Second))

		peer.kill()
		t.Logf("kill -9: routes gone after %v", p.hasRoutes(0, false, failover))
		peer.start()
		t.Logf("up %v after it came back", p.up(0, peer, 15*time.Second))

		p.cut(0, true)
		t.Logf("cable cut: routes gone after %v", p.hasRoutes(0, false, failover))
		bgp, bfd := p.session(0)
		if bgp.LastError == "" || bfd.State == "up" {
			t.Errorf("nothing tells of the cut cable: %+v %+v", bgp, bfd)
		}
		t.Logf("said of it: %q, BFD %s", bgp.LastError, bfd.State)
		p.cut(0, false)
		t.Logf("up %v after the cable was back", p.up(0, peer, 15*time.Second))

		peer.shutdown(true)
		t.Logf("peer's operator ends BGP: routes gone after %v", p.hasRoutes(0, false, failover))
		bgp, _ = p.session(0)
		t.Logf("said of it: %q", bgp.LastError)
		if bgp.LastError == "" {
			t.Error("no reason is shown")
		}
		peer.shutdown(false)
		t.Logf("up %v after it was let", p.up(0, peer, 15*time.Second))
		if err := p.daemon.alive(); err != nil {
			t.Error(err)
		}
	})
}

// TestInteropAdminDown: FRR's operator stops BFD and not BGP, which is no
// failure (RFC 5882, section 3.2).
func TestInteropAdminDown(t *testing.T) {
	p := newPair(t, farLink{})
	peer := newFRR(p, 0, farOptions{}).(*farFRR)
	p.up(0, peer, 15*time.Second)
	s := p.stream(0)
	at := time.Now()
	peer.bfdShutdown(true)
	took := soon(t, "BFD is not up", 5*time.Second, func() error {
		if _, bfd := p.session(0); bfd.State == "up" {
			return fmt.Errorf("BFD %+v", bfd)
		}
		return nil
	})
	for time.Since(at) < 3*time.Second { // longer than BFD takes, and BGP's connect timers
		if have := p.routes(); have[p.links[0].prefix(0)] == "" {
			v, err := peer.view()
			t.Fatalf("the routes went with AdminDown, after %v: FRR %+v %v", time.Since(at), v, err)
		}
		<-time.After(50 * time.Millisecond)
	}
	bgp, bfd := p.session(0)
	if bgp.State != "established" {
		t.Errorf("BGP %+v", bgp)
	}
	t.Logf("BFD %s after %v, BGP %s, warnings %q", bfd.State, took, bgp.State, p.status().Warnings)
	peer.bfdShutdown(false)
	t.Logf("up %v after it was let", p.up(0, peer, 15*time.Second))
	sent, back, gap := s.end()
	t.Logf("1 ms stream: %d sent, %d back, longest gap %v", sent, back, gap)
	if gap > 500*time.Millisecond {
		t.Errorf("traffic was interrupted for %v", gap)
	}
}

// TestInteropGracefulRestart: a peer restarts and asks for its routes to be kept.
// There is no helper yet: all is right again within 10 s, and the gap is logged.
func TestInteropGracefulRestart(t *testing.T) {
	withPeers(t, func(t *testing.T, start func(*farRig, int, farOptions) farPeer) {
		p := newPair(t, farLink{})
		peer := start(p, 0, farOptions{graceful: true})
		p.up(0, peer, 15*time.Second)
		s := p.stream(0)
		<-time.After(300 * time.Millisecond)
		at := time.Now()
		gone, gap := make(chan time.Duration, 1), time.Duration(0)
		watching, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { // when the routes vanish, and for how long
			defer close(done)
			for watching.Err() == nil {
				if len(p.routes()) < 2 {
					if gap == 0 {
						gone <- time.Since(at)
					}
					gap = time.Since(at)
				}
				<-time.After(10 * time.Millisecond)
			}
		}()
		peer.restart()
		p.up(0, peer, 10*time.Second)
		took := time.Since(at)
		stop()
		<-done
		sent, back, quiet := s.end()
		select {
		case d := <-gone:
			t.Logf("routes gone from %v to %v", d, gap)
		default:
			t.Log("routes were there all the time")
		}
		bgp, bfd := p.session(0)
		t.Logf("all right again after %v; 1 ms stream: %d sent, %d back, longest gap %v; said of it: %q, %d BFD flaps", took, sent, back, quiet, bgp.LastError, bfd.Flaps)
		if took > 10*time.Second {
			t.Errorf("right again only after %v", took)
		}
	})
}

// TestInteropRoles: the peer never connects, or never accepts.
func TestInteropRoles(t *testing.T) {
	withPeers(t, func(t *testing.T, start func(*farRig, int, farOptions) farPeer) {
		t.Run("passive", func(t *testing.T) {
			p := newPair(t, farLink{})
			peer := start(p, 0, farOptions{passive: true})
			t.Logf("up after %v", p.up(0, peer, 15*time.Second))
			peer.kill()
			p.hasRoutes(0, false, failover)
			peer.start()
			t.Logf("up %v after it came back", p.up(0, peer, 15*time.Second))
		})
		t.Run("active", func(t *testing.T) {
			p := newPair(t, farLink{})
			nft := p.far[0].Command(context.Background(), "nft",
				"add table ip t; add chain ip t in { type filter hook input priority 0; }; add rule ip t in tcp dport 179 ct state new drop")
			if _, err := output(nft); err != nil {
				t.Fatal(err)
			}
			peer := start(p, 0, farOptions{})
			t.Logf("up after %v", p.up(0, peer, 15*time.Second))
			peer.kill()
			p.hasRoutes(0, false, failover)
			peer.start()
			t.Logf("up %v after it came back", p.up(0, peer, 15*time.Second))
		})
	})
}

// staysDown watches that a session does not come up for a while.
func (p *farRig) staysDown(n int, d time.Duration) {
	p.t.Helper()
	for at := time.Now(); time.Since(at) < d; <-time.After(100 * time.Millisecond) {
		if bgp, _ := p.session(n); bgp.State == "established" {
			p.t.Fatalf("the session came up: %+v", bgp)
		}
	}
	bgp, _ := p.session(n)
	p.t.Logf("down for %v: %s, %q", d, bgp.State, bgp.LastError)
	if have := p.routes(); len(have) > 0 {
		p.t.Errorf("routes without a session: %v", have)
	}
}

// TestInteropMD5: the session needs the same key at both ends.
func TestInteropMD5(t *testing.T) {
	withPeers(t, func(t *testing.T, start func(*farRig, int, farOptions) farPeer) {
		for _, c := range []struct {
			name, key string
			up        bool
		}{{"same", "s3cret-of-tr0", true}, {"other", "s3cret-of-tr1", false}, {"none", "", false}} {
			t.Run(c.name, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "key")
				writeFile(t, file, "s3cret-of-tr0\n")
				p := newPair(t, farLink{bgp: ", password_file: " + file})
				peer := start(p, 0, farOptions{password: c.key})
				if !c.up {
					p.staysDown(0, 10*time.Second)
					return
				}
				t.Logf("up after %v", p.up(0, peer, 15*time.Second))
				peer.kill()
				p.hasRoutes(0, false, failover)
				peer.start()
				t.Logf("up %v after it came back", p.up(0, peer, 15*time.Second))
			})
		}
	})
}

// TestInteropGTSM: the session needs TTL 255 from both ends.
func TestInteropGTSM(t *testing.T) {
	withPeers(t, func(t *testing.T, start func(*farRig, int, farOptions) farPeer) {
		t.Run("both", func(t *testing.T) {
			p := newPair(t, farLink{bgp: ", ttl_security: true"})
			peer := start(p, 0, farOptions{gtsm: true})
			t.Logf("up after %v", p.up(0, peer, 15*time.Second))
			peer.kill()
			p.hasRoutes(0, false, failover)
			peer.start()
			t.Logf("up %v after it came back", p.up(0, peer, 15*time.Second))
		})
		t.Run("ours", func(t *testing.T) { // the peer sends TTL 1
			p := newPair(t, farLink{bgp: ", ttl_security: true"})
			start(p, 0, farOptions{})
			p.staysDown(0, 10*time.Second)
		})
		t.Run("theirs", func(t *testing.T) { // the peer expects 255
			p := newPair(t, farLink{})
			start(p, 0, farOptions{gtsm: true})
			p.staysDown(0, 10*time.Second)
		})
	})
}

// TestInteropMaxPrefixes: one peer tells too much. It loses its session, with a
// reason, and the other keeps its own.
func TestInteropMaxPrefixes(t *testing.T) {
	withPeers(t, func(t *testing.T, start func(*farRig, int, farOptions) farPeer) {
		p := newPair(t, farLink{bgp: ", max_prefixes: 5"}, farLink{n: 1})
		peer := start(p, 0, farOptions{})
		other := newBIRD(p, 1, farOptions{})
		p.up(0, peer, 15*time.Second)
		p.up(1, other, 15*time.Second)
		since := p.established(1)

		peer.count(4) // FRR sends ours back, which counts: five
		soon(t, "four prefixes are taken", 5*time.Second, func() error {
			if bgp, _ := p.session(0); bgp.State != "established" || bgp.Received < 4 {
				return fmt.Errorf("%+v", bgp)
			}
			return nil
		})
		peer.count(6)
		t.Logf("six prefixes: routes gone after %v", p.hasRoutes(0, false, 3*time.Second))
		seen := map[string]int{}
		for at := time.Now(); time.Since(at) < 8*time.Second; <-time.After(100 * time.Millisecond) {
			bgp, _ := p.session(0)
			seen[bgp.State+": "+bgp.LastError]++
			p.hasRoutes(1, true, 0)
		}
		for what, n := range seen {
			t.Logf("%d of 80 times: %s", n, what)
		}
		t.Logf("the peer says %q", peer.ended())
		if said := peer.ended(); !strings.Contains(said, "Maximum") && !strings.Contains(said, "0601") {
			t.Errorf("the peer got no Cease, maximum number of prefixes reached: %q", said)
		}
		bgp, _ := p.session(0)
		if !strings.Contains(strings.ToLower(bgp.LastError), "prefix") {
			t.Errorf("the reason is not shown: %+v", bgp)
		}
		if now := p.established(1); now < since {
			t.Errorf("the other session was reset")
		}
		peer.count(2)
		t.Logf("up %v after it told less", p.up(0, peer, 45*time.Second))
	})
}

// established is for how many seconds a session has been up.
func (p *farRig) established(n int) uint64 {
	p.t.Helper()
	var s struct {
		BGP []struct {
			Name, State string
			UptimeS     uint64 `json:"uptime_s"`
		}
	}
	if err := p.ask(&s, "status"); err != nil {
		p.t.Fatal(err)
	}
	for _, b := range s.BGP {
		if b.Name == p.links[n].name() && b.State == "established" {
			return b.UptimeS
		}
	}
	p.t.Errorf("%s is not established: %+v", p.links[n].name(), s.BGP)
	return 0
}
