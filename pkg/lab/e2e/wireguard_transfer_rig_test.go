package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// rates are of a transfer each way, in bits a second.
type rates struct{ there, back float64 }

// mover moves bytes through a tunnel to a peer's end, which may be a machine of its own.
type mover struct {
	t    *testing.T
	near netns.NS
	peer interface {
		folder() string
		sh(line string) (string, error)
	}
}

func (p *wgPair) transfer(n int64) rates { return mover{p.t, p.near, p.peer}.transfer(n) }

// far runs a line of shell at the peer's.
func (p mover) far(line string) {
	p.t.Helper()
	if _, err := p.peer.sh(line); err != nil {
		p.t.Fatal(err)
	}
}

// transfer moves n bytes over TCP each way, and compares what was sent with
// what came by SHA-256. The peer's end is busybox, which a guest has too.
func (p mover) transfer(n int64) (r rates) {
	p.t.Helper()
	dir := p.peer.folder()
	started := time.Now()
	p.far("cd " + dir + "; rm -f sum; (busybox timeout 300 busybox nc -l -p 9000 </dev/null | busybox sha256sum >sum.new; mv sum.new sum) >/dev/null 2>&1 &")
	c := p.dialFar()
	sent := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(c, sent), rand.NewChaCha8([32]byte{1}), n); err != nil {
		p.t.Fatalf("send %d bytes: %v", n, err)
	}
	if err := c.CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil { // until the peer has all
		p.t.Fatal(err)
	}
	r.there = float64(n) * 8 / time.Since(started).Seconds()
	p.sameSum("there", sent.Sum(nil))

	started = time.Now()
	p.far(fmt.Sprintf("cd %s; rm -f sum pipe; mkfifo pipe; (busybox sha256sum <pipe >sum.new; mv sum.new sum) >/dev/null 2>&1 &"+
		" (busybox head -c %d /dev/urandom | busybox tee pipe | busybox timeout 300 busybox nc -l -p 9000) >/dev/null 2>&1 &", dir, n))
	c = p.dialFar()
	came := sha256.New()
	if have, err := io.Copy(came, c); err != nil || have != n {
		p.t.Fatalf("%d of %d bytes came: %v", have, n, err)
	}
	r.back = float64(n) * 8 / time.Since(started).Seconds()
	p.sameSum("back", came.Sum(nil))
	p.t.Logf("%d MB each way with equal sums: there %.0f Mbit/s, back %.0f", n/1e6, r.there/1e6, r.back/1e6)
	return r
}

// dialFar connects to what listens at the peer's end now, or in a moment.
func (p mover) dialFar() (c *net.TCPConn) {
	p.t.Helper()
	to := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(wgFarInner), 9000))
	soon(p.t, "a connection", 10*time.Second, func() error {
		return p.near.Do(func() (err error) { c, err = net.DialTCP("tcp", nil, to); return err })
	})
	p.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p mover) sameSum(way string, ours []byte) {
	p.t.Helper()
	soon(p.t, "the peer has a sum", 30*time.Second, func() error {
		out, err := p.peer.sh("cat " + p.peer.folder() + "/sum")
		if err != nil {
			return err
		}
		theirs, err := hex.DecodeString(strings.Fields(out + " -")[0])
		if err != nil || !bytes.Equal(ours, theirs) {
			p.t.Fatalf("%s: the peer's sum is %s, ours %x", way, out, ours)
		}
		return nil
	})
}
