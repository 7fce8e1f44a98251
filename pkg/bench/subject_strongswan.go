package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// strongSwan is charon with its own userspace ESP (kernel-libipsec), AES-256-GCM in UDP.
type strongSwan struct{ procs processes }

const charon = "/usr/lib/ipsec/charon"

// Name is "strongswan".
func (*strongSwan) Name() string { return "strongswan" }

// Prepare looks for the programs and the plugin.
func (*strongSwan) Prepare(context.Context) error {
	for _, f := range []string{charon, "/usr/sbin/swanctl", "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"} {
		if _, err := os.Stat(f); err != nil {
			return &MissingError{What: "strongSwan with kernel-libipsec (" + f + ")", Install: "apt-get install strongswan-charon strongswan-swanctl libcharon-extra-plugins libstrongswan-standard-plugins"}
		}
	}
	return nil
}

// Up starts a charon at both ends and brings the tunnel up from the first.
func (s *strongSwan) Up(ctx context.Context, t *Testbed) ([2]netip.Addr, error) {
	in := inner(3)
	for i := range t.Ends {
		e := &t.Ends[i]
		dir := filepath.Join(t.Dir, "swan-"+e.Side)
		if err := s.files(dir, e, in[i], in[1-i]); err != nil {
			return in, err
		}
		if err := e.RunAll(ctx, fmt.Sprintf("ip addr add %s/32 dev lo", in[i])); err != nil {
			return in, err
		}
		// The pid file's place is compiled in, so each has a /run of its own.
		err := s.procs.start(t, e, []string{"STRONGSWAN_CONF=" + dir + "/strongswan.conf"}, "unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run; exec "+charon)
		if err != nil {
			return in, err
		}
		if err := eventually(ctx, func() error { return s.swanctl(ctx, e, dir, "--load-all", "--file", dir+"/swanctl.conf") }); err != nil {
			return in, err
		}
	}
	err := eventually(ctx, func() error {
		return s.swanctl(ctx, &t.Ends[0], filepath.Join(t.Dir, "swan-a"), "--initiate", "--child", "c", "--timeout", "5")
	})
	if err != nil {
		return in, err
	}
	for i := range t.Ends {
		if err := t.Ends[i].RunAll(ctx, fmt.Sprintf("ip link set ipsec0 mtu %d", TunnelMTU)); err != nil {
			return in, err
		}
	}
	return in, nil
}

func (s *strongSwan) swanctl(ctx context.Context, e *End, dir string, args ...string) error {
	args = append([]string{"STRONGSWAN_CONF=" + dir + "/strongswan.conf", "/usr/sbin/swanctl"}, args...)
	return e.Run(ctx, "env", append(args, "--uri", "unix://"+dir+"/vici")...)
}

func (*strongSwan) files(dir string, e *End, own, other netip.Addr) error {
	conf := fmt.Sprintf(`charon {
  load = random nonce openssl aes sha1 sha2 hmac kdf gcm pem pkcs1 pubkey x509 curve25519 socket-default kernel-libipsec kernel-netlink vici updown counters
  install_virtual_ip = no
  plugins {
    vici {
      socket = unix://%s/vici
    }
  }
}
swanctl {
  load = pem pkcs1 x509 pubkey openssl random
}
`, dir)
	id, peer := e.Side+".test", map[string]string{"a": "b.test", "b": "a.test"}[e.Side]
	tunnel := fmt.Sprintf(`connections {
  t {
    version = 2
    local_addrs = %s
    remote_addrs = %s
    proposals = aes256gcm16-prfsha384-ecp384
    local {
      auth = psk
      id = %s
    }
    remote {
      auth = psk
      id = %s
    }
    children {
      c {
        local_ts = %s/32
        remote_ts = %s/32
        esp_proposals = aes256gcm16
      }
    }
  }
}
secrets {
  ike-1 {
    secret = "not a secret: two namespaces of a benchmark"
    id-1 = a.test
    id-2 = b.test
  }
}
`, e.Addr, e.Other, id, peer, own, other)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for strongSwan: %w", err)
	}
	for name, content := range map[string]string{"strongswan.conf": conf, "swanctl.conf": tunnel} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write strongSwan's configuration: %w", err)
		}
	}
	return nil
}

// Down ends both.
func (s *strongSwan) Down() error { return s.procs.stop() }
