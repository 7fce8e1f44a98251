package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// farFRR is FRR's zebra, bfdd and bgpd.
type farFRR struct {
	zebra, bfdd, bgpd *farProgram
	p                 *farRig
	f                 farLink
	o                 farOptions
	dir               string
}

func newFRR(p *farRig, n int, o farOptions) farPeer {
	p.t.Helper()
	r := &farFRR{p: p, f: p.links[n], o: o, dir: p.t.TempDir()}
	r.configure()
	// The daemons give root up for a user of their own, which has to get at the folder.
	if err := os.Chmod(filepath.Dir(r.dir), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if _, err := output(exec.Command("chown", "-R", "frr:frr", r.dir)); err != nil {
		p.t.Fatal(err)
	}
	common := []string{"--vty_socket", r.dir, "-z", filepath.Join(r.dir, "zserv"), "-P", "0", "--log", "stdout"}
	program := func(name string, extra ...string) *farProgram {
		argv := append([]string{"/usr/lib/frr/" + name, "-f", filepath.Join(r.dir, name+".conf"), "-i", filepath.Join(r.dir, name+".pid")}, common...)
		return &farProgram{t: p.t, ns: p.far[n], dir: r.dir, name: name, argv: append(argv, extra...)}
	}
	r.zebra, r.bgpd = program("zebra"), program("bgpd")
	r.bfdd = program("bfdd", "--bfdctl", "unix:"+filepath.Join(r.dir, "bfdd.ctl"))
	r.start()
	p.t.Cleanup(func() {
		if p.t.Failed() {
			out, err := r.vtysh("bgpd", "show bgp neighbors")
			p.t.Log(out, err)
			p.dump(n)
		}
	})
	return r
}

func (r *farFRR) kind() string { return "FRR" }

func (r *farFRR) configure() {
	var networks, keys, global strings.Builder
	for _, n := range r.o.nets(r.f) {
		fmt.Fprintf(&networks, "  network %s\n", n)
	}
	if r.o.passive {
		fmt.Fprintf(&keys, " neighbor %s passive\n", r.f.ours())
	}
	if r.o.password != "" {
		fmt.Fprintf(&keys, " neighbor %s password %s\n", r.f.ours(), r.o.password)
	}
	if r.o.gtsm {
		fmt.Fprintf(&keys, " neighbor %s ttl-security hops 1\n", r.f.ours())
	}
	if r.o.graceful {
		global.WriteString(" bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n")
	}
	writeFile(r.p.t, filepath.Join(r.dir, "zebra.conf"), "")
	writeFile(r.p.t, filepath.Join(r.dir, "bfdd.conf"), fmt.Sprintf(`bfd
 profile fast
  receive-interval 300
  transmit-interval 300
  detect-multiplier 3
 !
 peer %s local-address %s interface vx0
  profile fast
 !
`, r.f.ours(), r.f.peer()))
	writeFile(r.p.t, filepath.Join(r.dir, "bgpd.conf"), fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp network import-check
%s neighbor %s remote-as 64512
 neighbor %s interface vx0
 neighbor %s update-source %s
 neighbor %s timers 3 90
 neighbor %s timers connect 2
 neighbor %s advertisement-interval 0
 neighbor %s bfd
%s address-family ipv4 unicast
%s  neighbor %s soft-reconfiguration inbound
 exit-address-family
`, r.f.asn(), r.f.peer(), global.String(), r.f.ours(), r.f.ours(), r.f.ours(), r.f.peer(), r.f.ours(), r.f.ours(), r.f.ours(), r.f.ours(),
		keys.String(), networks.String(), r.f.ours()))
}

func (r *farFRR) start() {
	r.p.t.Helper()
	_ = os.Remove(filepath.Join(r.dir, "zserv"))
	r.zebra.start()
	soon(r.p.t, "zebra listens", 5*time.Second, func() error {
		_, err := os.Stat(filepath.Join(r.dir, "zserv"))
		return err
	})
	r.bfdd.start()
	r.bgpd.start()
}

func (r *farFRR) kill() {
	for _, d := range []*farProgram{r.bfdd, r.bgpd, r.zebra} {
		d.kill()
	}
}

func (r *farFRR) vtysh(daemon string, commands ...string) (string, error) {
	args := []string{"--vty_socket", r.dir, "-d", daemon}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return output(exec.Command("vtysh", args...))
}

func (r *farFRR) set(daemon string, commands ...string) {
	r.p.t.Helper()
	if out, err := r.vtysh(daemon, append([]string{"configure"}, commands...)...); err != nil || strings.Contains(out, "%") {
		r.p.t.Fatal(out, err)
	}
}

func (r *farFRR) view() (v farView, err error) {
	out, err := r.vtysh("bgpd", "show bgp neighbors "+r.f.ours()+" json")
	if err != nil {
		return v, err
	}
	var neighbors map[string]struct{ BgpState string }
	if err := json.Unmarshal([]byte(out), &neighbors); err != nil {
		return v, err
	}
	v.established = neighbors[r.f.ours()].BgpState == "Established"
	if out, err = r.vtysh("bfdd", "show bfd peers json"); err != nil {
		return v, err
	}
	var peers []struct{ Peer, Status string }
	if err := json.Unmarshal([]byte(out), &peers); err != nil {
		return v, err
	}
	for _, peer := range peers {
		v.bfdUp = v.bfdUp || peer.Peer == r.f.ours() && peer.Status == "up"
	}
	if !v.established {
		return v, nil
	}
	if out, err = r.vtysh("bgpd", "show bgp ipv4 unicast neighbors "+r.f.ours()+" received-routes json"); err != nil {
		return v, err
	}
	var reply struct{ ReceivedRoutes map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		return v, err
	}
	for p := range reply.ReceivedRoutes {
		v.routes = append(v.routes, p)
	}
	return v, nil
}

func (r *farFRR) shutdown(down bool) {
	r.p.t.Helper()
	r.set("bgpd", fmt.Sprintf("router bgp %d", r.f.asn()), map[bool]string{true: "", false: "no "}[down]+"neighbor "+r.f.ours()+" shutdown")
}

// bfdShutdown is the operator's, of BFD alone.
func (r *farFRR) bfdShutdown(down bool) {
	r.p.t.Helper()
	r.set("bfdd", "bfd", fmt.Sprintf("peer %s local-address %s interface vx0", r.f.ours(), r.f.peer()), map[bool]string{true: "", false: "no "}[down]+"shutdown")
}

func (r *farFRR) restart() {
	r.p.t.Helper()
	r.bgpd.kill() // what graceful restart is for: only the routing process ends
	<-time.After(300 * time.Millisecond)
	r.bgpd.start()
}

func (r *farFRR) ended() string {
	out, err := r.vtysh("bgpd", "show bgp neighbors "+r.f.ours()+" json")
	var neighbors map[string]struct{ LastErrorCodeSubcode, LastNotificationReason, LastResetDueTo string }
	if err := errors.Join(err, json.Unmarshal([]byte(out), &neighbors)); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%+v", neighbors[r.f.ours()])
}

func (r *farFRR) count(n int) {
	r.p.t.Helper()
	commands := []string{fmt.Sprintf("router bgp %d", r.f.asn()), "address-family ipv4 unicast"}
	old := r.o.nets(r.f)
	r.o.prefixes = n
	for _, p := range r.o.nets(r.f) {
		if !slices.Contains(old, p) {
			commands = append(commands, "network "+p)
		}
	}
	for _, p := range old {
		if !slices.Contains(r.o.nets(r.f), p) {
			commands = append(commands, "no network "+p)
		}
	}
	r.set("bgpd", commands...)
}
