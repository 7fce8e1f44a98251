package streamtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// Side is one end of a tunnel.
type Side struct {
	NS     netns.NS
	Device string // the tunnel's
	Wire   string // the underlay's device, an Ethernet that leaves no datagram to be cut by others
	// Link is the link-layer header in front of an inner packet, without the
	// ethertype; empty if the device has none.
	Link []byte
	// Ours is set if the daemon's packet path is under test here: outer packets
	// have DF, ports are those of its lanes, and it joins what it received.
	Ours bool
}

// Config is a tunnel that is up, and what to send through it.
type Config struct {
	Sides    [2]Side
	MTU      int // of inner packets, in bytes
	Overhead int // that the tunnel adds to a packet at most, with the outer IP header, in bytes
	Seed     uint64
	Flows    int // in each direction
	OnePort  int // from which all datagrams come; 0: from dynamic ports
	// Protocol is that of IP, of outer packets that are in no UDP; 0: UDP.
	Protocol uint8
}

const (
	// window is how many packets may be under way in one direction: less than
	// any queue between the ends holds, so that a packet that is missing was lost by the tunnel.
	window = 400
	// patience is how long nothing may arrive that should.
	patience = 5 * time.Second
	// grace is how long it listens for what should not arrive.
	grace = 100 * time.Millisecond
)

// Seed is another one each time; TRANSITD_SEED repeats what one did.
func Seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv("TRANSITD_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("TRANSITD_SEED: %v", err)
	}
	return seed
}

// Run sends random streams both ways at once, and fails t if anything is not
// as it should be: packets inside and outside of the tunnel, in tshark's
// opinion too. It skips t without tshark.
func Run(t testing.TB, c Config) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is missing, which judges the packets: apt-get install tshark")
	}
	t.Logf("TRANSITD_SEED=%d", c.Seed)
	var ways [2]*way
	for i := range ways {
		ways[i] = newWay(t, c, i)
	}
	errs := make(chan error, len(ways))
	for _, w := range ways {
		go func() { errs <- w.send() }()
	}
	err := errors.Join(<-errs, <-errs)
	for _, w := range ways {
		err = errors.Join(err, w.end())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ways {
		w.judge(t)
	}
}

// way is one direction.
type way struct {
	c        Config
	from, to Side
	units    []Unit
	count    int // of packets
	inject   *Injector
	inner    *collector // what arrived
	outer    *collector // what the sending end's wire carried
	whole    *collector // super packets that the tunnel's device was given
	joined   *collector // super packets that the tunnel's device brought
	got      [][]byte
	wire     [][]byte
	supers   [2]int // given, brought
}

func newWay(t testing.TB, c Config, i int) *way {
	t.Helper()
	rng := rand.New(rand.NewPCG(c.Seed, uint64(i)))
	w := &way{c: c, from: c.Sides[i], to: c.Sides[1-i], units: Stream(rng, byte(1+100*i), c.Flows, c.MTU)}
	w.count = len(Packets(w.units))
	all := func([]byte) bool { return true }
	long := func(to Side) func([]byte) bool {
		return func(p []byte) bool { return len(p) > c.MTU+len(to.Link)+2 }
	}
	var err error
	open := func(what string, f func() (*collector, error)) (col *collector) {
		t.Helper()
		if err != nil {
			return nil
		}
		if col, err = f(); err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
		return col
	}
	w.inner = open("take what arrives", func() (*collector, error) { return redirect(w.to.NS, w.to.Device) })
	w.outer = open("listen on the wire", func() (*collector, error) { return tap(w.from.NS, w.from.Wire, true, all) })
	w.whole = open("listen to the sending device", func() (*collector, error) { return tap(w.from.NS, w.from.Device, true, long(w.from)) })
	w.joined = open("listen to the receiving device", func() (*collector, error) { return tap(w.to.NS, w.to.Device, false, long(w.to)) })
	if err == nil {
		w.inject, err = NewInjector(w.from.NS, w.from.Device, w.from.Link)
	}
	if err != nil { // what is open ends with the test's process
		t.Fatal(err)
	}
	return w
}

// send sends all units, and waits for them to arrive.
func (w *way) send() error {
	sent := 0
	for _, u := range w.units {
		if err := w.inject.Send(u); err != nil {
			return err
		}
		sent += len(u.Packets)
		if !w.inner.wait(sent-window, patience) {
			break // Compare tells what is missing
		}
	}
	w.inner.wait(w.count, patience)
	w.inner.wait(w.count+1, grace)
	return nil
}

// end closes all that listens.
func (w *way) end() error {
	errs := []error{w.inject.Close()}
	take := func(c *collector) [][]byte {
		list, err := c.close()
		errs = append(errs, err)
		return list
	}
	w.got, w.wire = take(w.inner), take(w.outer)
	w.supers = [2]int{len(take(w.whole)), len(take(w.joined))}
	return errors.Join(errs...)
}

func run(ns netns.NS, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if out, err := ns.Command(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
