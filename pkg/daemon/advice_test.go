package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/tunnel/ike"
)

// TestAdvice breaks one thing at a time: its warning gets the command that tells more.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*snapshot)
		want   []string
	}{
		{"all works", func(*snapshot) {}, nil},
		{"the device is gone", func(s *snapshot) { s.Tunnels[0].Present, s.Tunnels[0].Up = false, false }, []string{"ip -d link show tr0"}},
		{"the peer does not answer", func(s *snapshot) { s.Tunnels[0].Up = false }, []string{"tcpdump -c 10 -ni eth0 host 198.51.100.4 and udp port 4789"}},
		{"the secrets of IPsec differ", func(s *snapshot) {
			ipsecDown(s, ike.Status{Problem: "the peer is refused", ProblemAt: time.Now(), Cause: ike.CauseSecret, PeerSays: "AUTHENTICATION_FAILED", PeerSaidAt: time.Now()})
		}, []string{`head -n1 PSK_FILE | tr -d '\r\n' | cksum # at both ends: the same two numbers? Then transitctl reload`}},
		{"IPsec's peer refuses", func(s *snapshot) { ipsecDown(s, ike.Status{PeerSays: "AUTHENTICATION_FAILED", PeerSaidAt: time.Now()}) }, []string{
			"transitctl tunnel tr0 # and at the peer (strongSwan: swanctl --log), which knows why it refuses",
		}},
		{"IPsec's peer is silent", func(s *snapshot) { ipsecDown(s, ike.Status{Unanswered: 2}) }, []string{
			"tcpdump -c 10 -ni eth0 host 198.51.100.4 and udp # does it go out, does an answer come? The same at the peer",
		}},
		{"IPsec's keys are old", func(s *snapshot) {
			ipsecDown(s, ike.Status{
				Up: true, Problem: "no proposal in common", ProblemAt: time.Now(), Cause: ike.CauseProposals,
				Child: []ike.ChildSA{{State: "installed", Overdue: true, EndsAt: time.Now().Add(5 * time.Minute)}},
			})
			s.Tunnels[0].Up = true
		}, []string{"grep -nE '_proposals' /etc/transitd/*.yaml # at both ends: one of each has to be the same"}},
		{"both certificates end", func(s *snapshot) {
			ipsecDown(s, ike.Status{Up: true, CertificateExpires: time.Now().Add(time.Hour), PeerCertificateExpires: time.Now().Add(-time.Hour)})
			s.Tunnels[0].Up = true
		}, []string{"transitctl tunnel # then renew it and transitctl reload", "transitctl tunnel # then renew it at the peer, and have it loaded there"}},
		{"secrets are written down", func(s *snapshot) {
			ipsecDown(s, ike.Status{Up: true, KeyLogged: true})
			s.Node.Name, s.Tunnels[0].Up = "hub-nva", true
		}, []string{"systemctl restart transitd@hub-nva # without --keylog, then delete the files"}},
		{"sessions", func(s *snapshot) { s.Sessions[1].State, s.Sessions[2].State = "active", "idle" }, []string{
			"nc -vz -w 3 192.0.2.69 179", "nc -vz -w 3 169.254.77.2 179",
		}},
		{"drained", func(s *snapshot) { s.Drain.State = control.DrainDone }, []string{"transitctl undrain"}},
		{"refused routes", func(s *snapshot) {
			s.Routes.Refused = []fib.Refused{{Prefix: prefix("192.0.2.0/28")}, {Prefix: prefix("192.0.2.16/28")}, {}, {}, {}}
			s.Routes.Refused[2].Prefix = prefix("192.0.2.32/28")
		}, []string{"transitctl explain 192.0.2.0/28", "transitctl explain 192.0.2.16/28", "transitctl explain 192.0.2.32/28", "transitctl routes"}},
		{"the kernel", func(s *snapshot) {
			s.Routes.Err = errors.New("no buffer space")
			s.Routes.Refused = []fib.Refused{{Prefix: prefix("192.0.2.0/28")}}
		}, []string{"transitctl routes", "transitctl explain 192.0.2.0/28"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := healthy()
			s.Underlay = "eth0"
			c.change(s)
			_, warnings := s.health()
			var got []string
			for i, a := range s.advice() {
				got = append(got, a.Run)
				if i >= len(warnings) || a.Warning != warnings[i] {
					t.Errorf("%q is no warning of %q at its place", a.Warning, warnings)
				}
			}
			if d := diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func ipsecDown(s *snapshot, x ike.Status) {
	s.Tunnels[0].Plan.Encapsulation, s.Tunnels[0].Up, s.Tunnels[0].IPsec = "ipsec", false, &x
}

func TestObstacles(t *testing.T) {
	t.Parallel()
	none := control.Drain{State: control.DrainNone}
	for _, c := range []struct {
		name   string
		change func(*snapshot)
		want   []string
	}{
		{"all works", func(*snapshot) {}, []string{}},
		{"one instance is enough", func(s *snapshot) { s.Sessions[0].State = "idle" }, []string{}},
		{"no instance", func(s *snapshot) { s.Sessions[0].State, s.Sessions[1].State = "idle", "idle" }, []string{"no session with a Route Server works"}},
		{"no session in the tunnel", func(s *snapshot) { s.Sessions[2].State = "connect" }, []string{"no tunnel to another site works"}},
		{"a session in a tunnel that is down", func(s *snapshot) { s.Tunnels[0].Up = false }, []string{"no tunnel to another site works"}},
		{"a sibling's tunnel is none to another site", func(s *snapshot) {
			s.Tunnels = append(s.Tunnels, upTunnel("sib"))
			s.Sessions = append(s.Sessions, session("sib", "169.254.78.2", "established", policy.Sibling))
			s.Sessions[2].State = "idle"
		}, []string{"no tunnel to another site works"}},
		{"everything at once", func(s *snapshot) {
			s.Drain.State, s.Routes.Err = control.DrainAvoid, errors.New("no buffer space")
			s.Tunnels, s.Sessions = nil, s.Sessions[2:]
		}, []string{"the node is drained (avoid)", "no tunnel to another site works", "the kernel does not take the routes: no buffer space"}},
	} {
		s := healthy()
		s.Drain = none
		c.change(s)
		if d := diff(c.want, obstacles(s.Drain, s.Tunnels, s.Sessions, s.Routes.Err)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// TestAdviceOfSecrets runs the command that status names: it has the same answer
// for files that are the same secret to us, and another one for another secret.
func TestAdviceOfSecrets(t *testing.T) {
	t.Parallel()
	advice := ipsecAdvice(TunnelView{IPsec: &ike.Status{Problem: "refused", ProblemAt: time.Now(), Cause: ike.CauseSecret}}, "eth0", time.Now())
	dir := t.TempDir()
	sum := func(text string) string {
		file := filepath.Join(dir, "psk")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(advice, "PSK_FILE", file)).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", advice, err, out)
		}
		return string(out)
	}
	want := sum("a secret of the tests\n")
	for _, text := range []string{"a secret of the tests", "a secret of the tests\r\n", "a secret of the tests\na comment\n"} {
		if got := sum(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := sum("another secret of the tests\n"); got == want {
		t.Errorf("another secret has the same sum, %q", got)
	}
}
