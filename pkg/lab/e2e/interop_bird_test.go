package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// farBIRD is BIRD 2.
type farBIRD struct {
	*farProgram
	p *farRig
	f farLink
	o farOptions
}

func newBIRD(p *farRig, n int, o farOptions) farPeer {
	p.t.Helper()
	dir := p.t.TempDir()
	b := &farBIRD{p: p, f: p.links[n], o: o}
	b.farProgram = &farProgram{
		t: p.t, ns: p.far[n], dir: dir, name: "bird",
		argv: []string{"/usr/sbin/bird", "-f", "-c", filepath.Join(dir, "bird.conf"), "-s", filepath.Join(dir, "ctl"), "-P", filepath.Join(dir, "pid")},
	}
	b.configure()
	b.start()
	p.t.Cleanup(func() {
		if p.t.Failed() {
			out, err := b.birdc("show", "protocols", "all", "nva")
			p.t.Log(out, err)
			p.dump(n)
		}
	})
	return b
}

func (b *farBIRD) kind() string { return "BIRD" }

func (b *farBIRD) configure() {
	var static, keys strings.Builder
	for _, n := range b.o.nets(b.f) {
		fmt.Fprintf(&static, "  route %s blackhole;\n", n)
	}
	if b.o.passive {
		keys.WriteString("  passive yes;\n")
	}
	if b.o.password != "" {
		fmt.Fprintf(&keys, "  password %q;\n", b.o.password)
	}
	if b.o.gtsm {
		keys.WriteString("  ttl security yes;\n")
	}
	fmt.Fprintf(&keys, "  graceful restart %s;\n", map[bool]string{true: "yes", false: "off"}[b.o.graceful])
	writeFile(b.t, filepath.Join(b.dir, "bird.conf"), fmt.Sprintf(`log stderr all;
router id %s;
protocol device { }
protocol static told { ipv4;
%s}
protocol kernel { ipv4 { export where source = RTS_BGP; }; %s }
protocol bfd { interface "vx0" { interval 300 ms; multiplier 3; }; }
protocol bgp nva {
  local %s as %d;
  neighbor %s as 64512;
  direct;
  bfd on;
  hold time 90;
  connect retry time 2;
  connect delay time 1;
  error wait time 1, 2;
%s  ipv4 { import all; next hop self; export where source = RTS_STATIC; };
}
`, b.f.peer(), static.String(), map[bool]string{true: "persist; graceful restart;", false: ""}[b.o.graceful],
		b.f.peer(), b.f.asn(), b.f.ours(), keys.String()))
}

func (b *farBIRD) birdc(args ...string) (string, error) {
	return output(exec.Command("birdc", append([]string{"-s", filepath.Join(b.dir, "ctl")}, args...)...))
}

func (b *farBIRD) must(args ...string) {
	b.t.Helper()
	if _, err := b.birdc(args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *farBIRD) view() (v farView, err error) {
	out, err := b.birdc("show", "protocols", "nva")
	if err != nil {
		return v, err
	}
	v.established = strings.Contains(out, "Established")
	if out, err = b.birdc("show", "bfd", "sessions"); err != nil {
		return v, err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == b.f.ours() {
			v.bfdUp = f[2] == "Up"
		}
	}
	if out, err = b.birdc("show", "route", "protocol", "nva"); err != nil {
		return v, err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 && strings.Contains(f[0], "/") {
			v.routes = append(v.routes, f[0])
		}
	}
	return v, nil
}

func (b *farBIRD) shutdown(down bool) {
	b.t.Helper()
	b.must(map[bool]string{true: "disable", false: "enable"}[down], "nva")
}

func (b *farBIRD) restart() {
	b.t.Helper()
	b.must("graceful", "restart")
	<-time.After(300 * time.Millisecond) // it goes down by itself
	b.kill()
	b.argv = append(b.argv, "-R")
	b.start()
}

func (b *farBIRD) ended() (last string) {
	log, err := os.ReadFile(b.log.Name())
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(log)) {
		if _, said, ok := strings.Cut(line, "nva: "); ok {
			last = strings.TrimSpace(said)
		}
	}
	return last
}

func (b *farBIRD) count(n int) {
	b.t.Helper()
	b.o.prefixes = n
	b.configure()
	b.must("configure")
}
