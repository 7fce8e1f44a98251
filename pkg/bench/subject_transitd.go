package bench

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// firstNet is the third octet of the addresses inside the first of the daemon's tunnels.
const firstNet = 99

// transitd is the real daemon at both ends, with a configuration file as an
// operator would write it, but without a Route Server.
type transitd struct {
	binary        string
	encapsulation string
	net           byte // of the addresses inside
	port          int
	procs         processes
}

// Name is "transitd-vxlan", "transitd-wireguard", "transitd-ipsec".
func (s *transitd) Name() string { return "transitd-" + s.encapsulation }

// Prepare looks for the daemon.
func (s *transitd) Prepare(context.Context) error {
	if _, err := os.Stat(s.binary); err != nil {
		return &MissingError{What: "transitd", Install: "make build, or say --transitd PATH"}
	}
	return nil
}

// Up starts both daemons.
func (s *transitd) Up(_ context.Context, t *Testbed) ([2]netip.Addr, error) {
	in := [2]netip.Addr{netip.AddrFrom4([4]byte{169, 254, s.net, 1}), netip.AddrFrom4([4]byte{169, 254, s.net, 2})}
	keys, err := s.keys(t)
	if err != nil {
		return in, err
	}
	for i := range t.Ends {
		e := &t.Ends[i]
		name := s.encapsulation + "-" + e.Side
		// Tables and rules of their own, because the subjects are up side by side.
		conf := fmt.Sprintf(`node: {name: %s, asn: %d, site: %s}
underlay: {interface: eth0, gateway: 10.99.0.254}
tunnels:
  - name: tr%d
    remote: %s
    address: %s/30
    peer_address: %s
    mtu: %d
    encapsulation: %s
    %s
    bgp: {asn: %d}
routing: {table_underlay: %d, table_site: %d, table_remote: %d, table_relay: %d, mark: %d, protocol: %d, rule_priority: %d}
control: {socket: %s/transitd-%s.sock}
`, name, 64512+i, e.Side, s.net, e.Other, in[i], in[1-i], TunnelMTU, s.encapsulation, keys[i], 64513-i,
			10*int(s.net)+1, 10*int(s.net)+2, 10*int(s.net)+3, 10*int(s.net)+4, 29000+int(s.net), 210+int(s.net-firstNet), 7000+100*int(s.net-firstNet), t.Dir, name)
		file := filepath.Join(t.Dir, "transitd-"+name+".yaml")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return in, fmt.Errorf("write transitd's configuration: %w", err)
		}
		if err := s.procs.start(t, e, nil, s.binary, "run", "-c", file); err != nil {
			return in, err
		}
	}
	return in, nil
}

// keys are each end's lines for the encapsulation. The port is not that of
// another subject.
func (s *transitd) keys(t *Testbed) (lines [2]string, err error) {
	switch s.encapsulation {
	case "vxlan":
		line := fmt.Sprintf("vxlan: {vni: 99, port: %d}", s.port)
		return [2]string{line, line}, nil
	case "ipsec":
		file := filepath.Join(t.Dir, "transitd.psk")
		if err := os.WriteFile(file, []byte(rand.Text()+"\n"), 0o600); err != nil {
			return lines, fmt.Errorf("write a secret: %w", err)
		}
		line := fmt.Sprintf("ipsec: {psk_file: %s, port: %d, peer_port: %d}", file, s.port, s.port)
		return [2]string{line, line}, nil
	}
	var public [2]string
	var file [2]string
	for i := range public {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return lines, fmt.Errorf("make a key: %w", err)
		}
		file[i] = filepath.Join(t.Dir, fmt.Sprintf("transitd-%d.key", i))
		if err := os.WriteFile(file[i], []byte(base64.StdEncoding.EncodeToString(k.Bytes())+"\n"), 0o600); err != nil {
			return lines, fmt.Errorf("write a key: %w", err)
		}
		public[i] = base64.StdEncoding.EncodeToString(k.PublicKey().Bytes())
	}
	for i := range lines {
		lines[i] = fmt.Sprintf("wireguard: {private_key_file: %s, peer_public_key: %s, listen_port: %d}", file[i], public[1-i], s.port)
	}
	return lines, nil
}

// Down ends both.
func (s *transitd) Down() error { return s.procs.stop() }
