package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// transitdVXLAN is the real daemon at both ends, with a configuration file as
// an operator would write it, but without a Route Server.
type transitdVXLAN struct {
	binary string
	procs  processes
}

// Name is "transitd-vxlan".
func (*transitdVXLAN) Name() string { return "transitd-vxlan" }

// Prepare looks for the daemon.
func (s *transitdVXLAN) Prepare(context.Context) error {
	if _, err := os.Stat(s.binary); err != nil {
		return &MissingError{What: "transitd", Install: "make build, or say --transitd PATH"}
	}
	return nil
}

// Up starts both daemons.
func (s *transitdVXLAN) Up(_ context.Context, t *Testbed) ([2]netip.Addr, error) {
	in := [2]netip.Addr{netip.MustParseAddr("169.254.99.1"), netip.MustParseAddr("169.254.99.2")}
	for i := range t.Ends {
		e := &t.Ends[i]
		conf := fmt.Sprintf(`node: {name: bench-%s, asn: %d, site: %s}
underlay: {interface: eth0, gateway: 10.99.0.254}
tunnels:
  - name: tr0
    remote: %s
    address: %s/30
    peer_address: %s
    encapsulation: vxlan
    mtu: %d
    vxlan: {vni: 99}
    bgp: {asn: %d}
control: {socket: %s/transitd-%s.sock}
`, e.Side, 64512+i, e.Side, e.Other, in[i], in[1-i], TunnelMTU, 64513-i, t.Dir, e.Side)
		file := filepath.Join(t.Dir, "transitd-"+e.Side+".yaml")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return in, fmt.Errorf("write transitd's configuration: %w", err)
		}
		if err := s.procs.start(t, e, nil, s.binary, "run", "-c", file); err != nil {
			return in, err
		}
	}
	return in, nil
}

// Down ends both.
func (s *transitdVXLAN) Down() error { return s.procs.stop() }
