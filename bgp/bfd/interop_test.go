package bfd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// program is another implementation's process in a namespace. It lives as long
// as a pipe from this process is open, so an interrupted test leaves none behind.
type program struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

func run(t *testing.T, ns netns.NS, argv ...string) *program {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	guard := []string{"-c", `"$@" </dev/null & pid=$!; read -r line; kill -9 $pid; wait`, "sh"}
	p := &program{cmd: ns.Command(context.Background(), "sh", append(guard, argv...)...)}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if p.pipe, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", argv[0], text)
		}
	})
	return p
}

// kill is kill -9: the program says goodbye to nobody.
func (p *program) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.pipe.Close()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// ask runs a command that answers about the other implementation.
func ask(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// wantStatus waits for a status; what is not yet negotiated comes with the next packets.
func (w *watched) wantStatus(tx, detection time.Duration) {
	w.t.Helper()
	eventually(w.t, 4*time.Second, func() error {
		s := w.Status()
		if s.State != Up || s.RemoteState != Up || s.TxInterval != tx || s.DetectionTime != detection || s.RemoteDiscriminator == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// stays watches that the session does not flap, while time has to pass.
func (w *watched) stays(s State, d time.Duration) {
	w.t.Helper()
	flaps := w.Status().Flaps
	<-time.After(d)
	if got := w.Status(); got.State != s || got.Flaps != flaps {
		w.t.Errorf("not calm: %+v", got)
	}
}

func startBIRD(t *testing.T, ns netns.NS) (p *program, ctl string) {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf(`router id %s;
protocol device { }
protocol bfd {
  interface "tr0" { interval 100 ms; multiplier 5; };
  neighbor %s dev "tr0" local %s;
  neighbor %s dev "tr0" local %s;
}
`, remote(), local(), remote(), local6(), remote6())
	path := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctl = filepath.Join(dir, "ctl")
	return run(t, ns, "bird", "-f", "-c", path, "-s", ctl, "-P", filepath.Join(dir, "pid")), ctl
}

// birdSays waits for BIRD's line about our address to have these words.
func birdSays(t *testing.T, ctl, addr string, words ...string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		out, err := ask("birdc", "-s", ctl, "show", "bfd", "sessions")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 0 && f[0] == addr {
				if got := strings.Join(append(f[2:3], f[4:]...), " "); got == strings.Join(words, " ") {
					return nil
				}
			}
		}
		return fmt.Errorf("BIRD says\n%s", out)
	})
}

func TestNetnsBIRD(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	bird, ctl := startBIRD(t, w.theirs)
	began := time.Now()
	s := start(t, w.ours, Config{Name: "v4", Local: local(), Peer: remote(), Interface: "tr0", Interval: 200 * ms})
	s6 := start(t, w.ours, Config{Name: "v6", Local: local6(), Peer: remote6(), Interface: "tr0", Interval: 50 * ms, Multiplier: 10})
	s.reaches(Up, began, 8*time.Second)
	s6.reaches(Up, began, 8*time.Second)
	t.Logf("up after %s", time.Since(began))
	s.wantStatus(200*ms, time.Second)
	s6.wantStatus(100*ms, 500*ms)
	birdSays(t, ctl, local().String(), "Up", "0.200", "0.600") // its transmit interval and detection time
	birdSays(t, ctl, local6().String(), "Up", "0.100", "1.000")
	s.stays(Up, 3*time.Second)

	// A planned end, seen at once.
	at := time.Now()
	s6.Shutdown()
	birdSays(t, ctl, local6().String(), "Down", "1.000", "10.000")
	t.Logf("BIRD saw AdminDown within %s", time.Since(at))

	// It is killed without a word, and comes back.
	at = time.Now()
	bird.kill()
	c := s.reaches(Down, at, 4*time.Second)
	t.Logf("kill -9 of BIRD seen after %s: %s", c.At.Sub(at), c.Diagnostic)
	if !c.Failure() || c.Diagnostic != DetectionTimeExpired || c.At.Sub(at) > 1300*ms {
		t.Errorf("%+v", c)
	}
	at = time.Now()
	startBIRD(t, w.theirs)
	s.reaches(Up, at, 8*time.Second)
	s.wantStatus(200*ms, time.Second)
}

func startFRR(t *testing.T, ns netns.NS) (bfdd *program, dir string) {
	t.Helper()
	dir = t.TempDir()
	conf := fmt.Sprintf(`bfd
 peer %s local-address %s interface tr0
  receive-interval 150
  transmit-interval 100
  detect-multiplier 4
 !
 peer %s multihop local-address %s
  minimum-ttl 254
  receive-interval 300
  transmit-interval 300
 !
`, local(), remote(), local6(), remote6())
	path := filepath.Join(dir, "bfdd.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "zebra.conf")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The daemons give root up for a user of their own, which has to get at the folder.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := ask("chown", "-R", "frr:frr", dir); err != nil {
		t.Fatal(out, err)
	}
	common := []string{"--vty_socket", dir, "-z", filepath.Join(dir, "zserv"), "-P", "0", "--log", "stdout"}
	run(t, ns, append([]string{"/usr/lib/frr/zebra", "-f", none, "-i", filepath.Join(dir, "zebra.pid")}, common...)...)
	eventually(t, 8*time.Second, func() error {
		_, err := os.Stat(filepath.Join(dir, "zserv"))
		return err
	})
	bfdd = run(t, ns, append([]string{
		"/usr/lib/frr/bfdd", "-f", path, "-i", filepath.Join(dir, "bfdd.pid"),
		"--bfdctl", "unix:" + filepath.Join(dir, "ctl"),
	}, common...)...)
	return bfdd, dir
}

// frrPeer is what FRR tells about a session with us.
type frrPeer struct {
	Peer, Status, Diagnostic string
	RemoteDiagnostic         string `json:"remote-diagnostic"`
	RemoteReceive            int    `json:"remote-receive-interval"`
	RemoteTransmit           int    `json:"remote-transmit-interval"`
	RemoteMultiplier         int    `json:"remote-detect-multiplier"`
}

// frrSays waits for FRR's view of our address.
func frrSays(t *testing.T, dir, addr string, check func(frrPeer) bool) {
	t.Helper()
	eventually(t, 8*time.Second, func() error {
		out, err := ask("vtysh", "--vty_socket", dir, "-d", "bfdd", "-c", "show bfd peers json")
		if err != nil {
			return err
		}
		var peers []frrPeer
		if err := json.Unmarshal([]byte(out), &peers); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, p := range peers {
			if p.Peer == addr && check(p) {
				return nil
			}
		}
		return fmt.Errorf("FRR says %s", out)
	})
}

func TestNetnsFRR(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	bfdd, dir := startFRR(t, w.theirs)
	began := time.Now()
	s := start(t, w.ours, Config{Name: "v4", Local: local(), Peer: remote(), Interface: "tr0", Interval: 200 * ms, Multiplier: 5})
	s6 := start(t, w.ours, Config{Name: "v6", Local: local6(), Peer: remote6(), Multihop: true})
	s.reaches(Up, began, 8*time.Second)
	s6.reaches(Up, began, 8*time.Second)
	t.Logf("up after %s", time.Since(began))
	s.wantStatus(200*ms, 800*ms)
	s6.wantStatus(300*ms, 900*ms)
	frrSays(t, dir, local().String(), func(p frrPeer) bool {
		return p.Status == "up" && p.RemoteReceive == 200 && p.RemoteTransmit == 200 && p.RemoteMultiplier == 5
	})
	frrSays(t, dir, local6().String(), func(p frrPeer) bool { return p.Status == "up" && p.RemoteTransmit == 300 })
	s.stays(Up, 3*time.Second)

	at := time.Now()
	s6.Shutdown()
	frrSays(t, dir, local6().String(), func(p frrPeer) bool {
		return p.Status == "down" && p.RemoteDiagnostic == "administratively down"
	})
	t.Logf("FRR saw AdminDown within %s", time.Since(at))

	// Its operator stops the session: no failure. And starts it again.
	vtysh := func(last string) {
		t.Helper()
		peer := fmt.Sprintf("peer %s local-address %s interface tr0", local(), remote())
		if _, err := ask("vtysh", "--vty_socket", dir, "-d", "bfdd", "-c", "configure", "-c", "bfd", "-c", peer, "-c", last); err != nil {
			t.Fatal(err)
		}
	}
	at = time.Now()
	vtysh("shutdown")
	if c := s.reaches(Down, at, 4*time.Second); !c.PeerAdminDown || c.Failure() {
		t.Errorf("%+v", c)
	}
	at = time.Now()
	vtysh("no shutdown")
	s.reaches(Up, at, 8*time.Second)
	// A change of its timers while the session is up, which it asks about with a Poll Sequence.
	vtysh("transmit-interval 400")
	s.wantStatus(200*ms, 1600*ms)
	vtysh("receive-interval 500")
	s.wantStatus(500*ms, 1600*ms)
	if f := s.Status().Flaps; f != 0 {
		t.Errorf("%d flaps", f)
	}

	at = time.Now()
	bfdd.kill()
	c := s.reaches(Down, at, 4*time.Second)
	t.Logf("kill -9 of bfdd seen after %s: %s", c.At.Sub(at), c.Diagnostic)
	if !c.Failure() || c.Diagnostic != DetectionTimeExpired || c.At.Sub(at) > 2*time.Second {
		t.Errorf("%+v", c)
	}
}
