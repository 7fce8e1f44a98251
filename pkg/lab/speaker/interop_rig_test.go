package speaker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// interopRig is two namespaces with a cable: "azure", where the speaker runs as
// the Route Server instance 10.0.1.4, and "nva", where the other program runs as 10.0.2.4.
type interopRig struct {
	t          *testing.T
	azure, nva netns.NS
	dir        string // of the other program: configuration, sockets, log
}

func newInteropRig(t *testing.T) *interopRig {
	t.Helper()
	r := &interopRig{t: t, azure: netnstest.New(t, "azure"), nva: netnstest.New(t, "nva"), dir: t.TempDir()}
	r.run("ip", "link", "add", "eth0", "netns", r.azure.Name, "type", "veth", "peer", "name", "eth0", "netns", r.nva.Name)
	for ns, a := range map[string]string{r.azure.Name: arsA, r.nva.Name: hubNVA} {
		r.run("ip", "-n", ns, "address", "add", a+"/16", "dev", "eth0")
		r.run("ip", "-n", ns, "link", "set", "eth0", "up")
	}
	return r
}

func (r *interopRig) run(name string, args ...string) {
	r.t.Helper()
	if out, err := exec.CommandContext(r.t.Context(), name, args...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// write makes a file in the rig's folder.
func (r *interopRig) write(name, content string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// giveTo makes the rig's folder and files the user's: FRR drops its privileges.
func (r *interopRig) giveTo(name string) {
	r.t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.run("chown", "-R", u.Uid+":"+u.Gid, r.dir)
	// The testing package's folder around it is for root alone.
	if err := os.Chmod(filepath.Dir(r.dir), 0o711); err != nil {
		r.t.Fatal(err)
	}
}

// daemon runs a program in the NVA's namespace until the test ends, and shows
// its output if the test failed.
func (r *interopRig) daemon(path string, args ...string) {
	r.t.Helper()
	log, err := os.Create(filepath.Join(r.dir, filepath.Base(path)+".log"))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := r.nva.Command(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		cancel()
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		_ = log.Close()
		if r.t.Failed() {
			out, _ := os.ReadFile(log.Name())
			r.t.Logf("%s said:\n%s", filepath.Base(path), out)
		}
	})
}

// ask runs a command in the NVA's namespace; it may fail while the program starts.
func (r *interopRig) ask(name string, args ...string) string {
	out, err := r.nva.Command(r.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return string(out)
}

// speak runs a speaker in the Route Server's namespace until the test ends.
func (r *interopRig) speak(cfg Config) *Speaker {
	r.t.Helper()
	s, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	s.transport = nsTransport{r.azure}
	ctx, cancel := context.WithCancel(context.Background())
	errC := make(chan error, 1)
	go func() { errC <- s.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-errC; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	return s
}

// eventually asks until ok, and shows the last state if that never comes.
func (r *interopRig) eventually(what string, ok func() (bool, string)) {
	r.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for {
		done, last := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("%s: not within 15 s; last state:\n%s", what, last)
		}
	}
}

// wantOutput waits until the command's output has all of the words in this order.
func (r *interopRig) wantOutput(words []string, name string, args ...string) {
	r.t.Helper()
	r.eventually(strings.Join(args, " "), func() (bool, string) {
		out := r.ask(name, args...)
		rest := out
		for _, w := range words {
			_, after, found := strings.Cut(rest, w)
			if !found {
				return false, fmt.Sprintf("no %q in\n%s", w, out)
			}
			rest = after
		}
		return true, ""
	})
}

// wantReceived waits until a neighbour's routes are these.
func (r *interopRig) wantReceived(s *Speaker, peer string, want ...string) {
	r.t.Helper()
	r.eventually("received from "+peer, func() (bool, string) {
		d := diff(want, seen(s.Received(peer)))
		return d == "", "(-want +got)\n" + d + fmt.Sprintf("%+v", s.Status())
	})
}

// nsTransport is TCP inside a namespace.
type nsTransport struct{ ns netns.NS }

func (n nsTransport) dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (nc net.Conn, err error) {
	err = n.ns.Do(func() error {
		nc, err = tcpTransport{}.dial(ctx, local, remote)
		return err
	})
	return nc, err
}

func (n nsTransport) listen(ctx context.Context, a netip.AddrPort) (l net.Listener, err error) {
	err = n.ns.Do(func() error {
		l, err = tcpTransport{}.listen(ctx, a)
		return err
	})
	return l, err
}

// interopRouteServer is the instance that both programs are tested against. An
// own path stands for what came from the gateway.
func interopRouteServer() Config {
	c := RouteServer(RouteServerConfig{
		Addr: addr(arsA), Subnet: prefix("10.0.1.0/27"), VNets: prefixes("10.0.0.0/16"), PrefixCap: 10,
		Peers: []RouteServerPeer{{Name: "nva", Addr: addr(hubNVA), ASN: 64512}},
	})
	avs := testRoute("10.50.0.0/22", MSEEASN, AVSASN)
	avs.Origin = OriginIncomplete
	avs.Communities = []uint32{MSEEASN<<16 | 51004}
	avs.Large = []LargeCommunity{{64512, 1, 2}}
	c.Originate = append(c.Originate, avs)
	return c
}
