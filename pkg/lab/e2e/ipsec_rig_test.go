package e2e

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// ipsecCase is how the two ends of a pair are set up.
type ipsecCase struct {
	name     string
	ike, esp string // proposals, the same at both ends
	theirESP string // unless it is the peer's own
	auth     string // psk, ecdsa, rsa
	initiate bool   // we begin
	extra    string // lines of charon's settings
	fragment bool   // the peer sends small fragments
	raw      bool   // ESP is in no UDP
}

// charonPeer is strongSwan with its own userspace ESP, or the kernel's in a guest.
type charonPeer interface {
	folder() string
	sh(line string) (string, error)
	// begin starts charon with the files that are in its folder.
	begin()
	kill()
	plugins() string // lines of strongswan.conf
	children() string
	after() string // commands once the tunnel is there, so that packets go through it
	version() string
}

// ipsecPair is transitd and strongSwan, on one wire.
type ipsecPair struct {
	t      *testing.T
	c      ipsecCase
	near   netns.NS
	dir    string
	daemon *farProgram
	peer   charonPeer
	slow   time.Duration // how many times longer things may take: a guest is emulated
}

const (
	ipsecNear, ipsecFar           = "192.0.2.1", "192.0.2.2"
	ipsecNearInner, ipsecFarInner = "169.254.77.1", "169.254.77.2"
	ipsecSecret                   = "a secret of the tests, long enough"
)

func newIPsecPair(t *testing.T, c ipsecCase, makePeer func(*testing.T, netns.NS) charonPeer, flags ...string) *ipsecPair {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Parallel()
	far := netnstest.New(t, "far")
	p := &ipsecPair{t: t, c: c, dir: t.TempDir(), slow: 1, near: netnstest.New(t, "near")}
	p.run("ip link add eth0 type veth peer name eth0 netns " + far.Name)
	p.run("ip addr add " + ipsecNear + "/24 dev eth0")
	p.run("ip link set eth0 up")
	p.run("ethtool -K eth0 tx off")
	p.run("ip route add default via 192.0.2.254")
	p.peer = makePeer(t, far)
	p.secrets()
	p.put("strongswan.conf", fmt.Sprintf(`charon {
  load = random nonce openssl aes sha1 sha2 hmac kdf gcm pem pkcs1 pubkey x509 curve25519 chapoly drbg socket-default %s vici updown counters
  install_routes = no
  install_virtual_ip = no
  retransmit_timeout = 1
  retransmit_tries = 3
  %s
  plugins {
    vici {
      socket = unix://%s/vici
    }
    kernel-libipsec {
      allow_peer_ts = yes
    }
    %s
  }
}
swanctl {
  load = pem pkcs1 x509 pubkey openssl random
}
`, "SOCKETS", c.extra, p.peer.folder(), p.peer.plugins()))
	certs := ""
	if c.auth != "psk" {
		certs = "certs = " + p.peer.folder() + "/far.pem\n"
	}
	how := map[bool]string{true: "psk", false: "pubkey"}[c.auth == "psk"]
	fragments, carried := "", ""
	if c.fragment {
		fragments = "fragmentation = force\n"
	}
	if c.raw { // MOBIKE would go on at port 4500, also without a NAT
		fragments += "encap = no\n    mobike = no\n"
		carried = ", udp_encapsulation: false"
	}
	secrets := fmt.Sprintf("secrets {\n  ike-1 {\n    secret = %q\n    id-1 = near.test\n    id-2 = far.test\n  }\n}\n", ipsecSecret)
	if c.auth != "psk" {
		secrets = "" // swanctl finds the key, and the authority, in its folder
	}
	p.put("swanctl.conf", fmt.Sprintf(`connections {
  t {
    version = 2
    local_addrs = %s
    remote_addrs = %s
    proposals = %s
    dpd_delay = 3s
    rekey_time = 4h
    %s
    local {
      auth = %s
      id = far.test
      %s
    }
    remote {
      auth = %s
      id = near.test
    }
    children {
      c {
        local_ts = 0.0.0.0/0,::/0
        remote_ts = 0.0.0.0/0,::/0
        esp_proposals = %s
        rekey_time = 1h
        dpd_action = clear
        %s
      }
    }
  }
}
%s`, ipsecFar, ipsecNear, c.ike, fragments, how, certs, how, cmp.Or(c.theirESP, c.esp), p.peer.children(), secrets))
	keys := "psk_file: " + p.file("psk")
	if c.auth != "psk" {
		keys = fmt.Sprintf("cert_file: %s, key_file: %s, ca_file: %s", p.file("near.pem"), p.file("near.key"), p.file("ca.pem"))
	}
	writeFile(t, p.file("transitd.yaml"), fmt.Sprintf(`node: {name: near, asn: 64512, site: near}
underlay: {interface: eth0}
tunnels:
  - name: tr0
    remote: %s
    address: %s/30
    peer_address: %s
    encapsulation: ipsec
    ipsec: {local_id: near.test, remote_id: far.test, %s, initiate: %v, ike_proposals: [%s], esp_proposals: [%s], dpd_delay: 1s%s}
    bgp: {asn: 64513}
    bfd: {enabled: false}
observe: {listen: ""}
control: {socket: %s}
log: {format: console}
`, ipsecFar, ipsecNearInner, ipsecFarInner, keys, c.initiate, c.ike, c.esp, carried, p.file("ctl.sock")))
	argv := append([]string{filepath.Join(binDir, "transitd"), "run", "-c", p.file("transitd.yaml")}, flags...)
	p.daemon = &farProgram{t: t, ns: p.near, dir: p.dir, name: "transitd", argv: argv}
	return p
}

func (p *ipsecPair) file(name string) string { return filepath.Join(p.dir, name) }

// put writes a file at the peer's.
func (p *ipsecPair) put(name, text string) {
	p.t.Helper()
	text = strings.Replace(text, "SOCKETS", map[bool]string{true: "kernel-libipsec kernel-netlink", false: "kernel-netlink"}[strings.Contains(p.peer.plugins(), "0x42")], 1)
	// One line for the shell of a guest.
	line := fmt.Sprintf("umask 077; mkdir -p %[2]s/private %[2]s/x509ca; printf %%b '%[1]s' >%[2]s/%[3]s", strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), "\n", `\n`), p.peer.folder(), name)
	if _, err := p.peer.sh(line); err != nil {
		p.t.Fatal(err)
	}
}

// secrets makes the files by which the ends know each other.
func (p *ipsecPair) secrets() {
	t := p.t
	t.Helper()
	if p.c.auth == "psk" {
		writeFile(t, p.file("psk"), ipsecSecret+"\n")
		return
	}
	newKey := func() crypto.Signer {
		var k crypto.Signer
		var err error
		if p.c.auth == "rsa" {
			k, err = rsa.GenerateKey(rand.Reader, 2048)
		} else {
			k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	issue := func(name string, serial int64, k crypto.Signer, parent *x509.Certificate, by crypto.Signer) (*x509.Certificate, []byte) {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
			BasicConstraintsValid: true, IsCA: parent == nil, KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if parent == nil {
			parent, c.KeyUsage = c, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		} else {
			c.DNSNames = []string{name}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, k.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return c, der
	}
	root := newKey()
	ca, caDER := issue("Test CA", 1, root, nil, root)
	writeFile(t, p.file("ca.pem"), text("CERTIFICATE", caDER))
	p.put("x509ca/ca.pem", text("CERTIFICATE", caDER))
	for i, name := range []string{"near", "far"} {
		k := newKey()
		_, der := issue(name+".test", int64(2+i), k, ca, root)
		key, cert := text("RSA PRIVATE KEY", nil), text("CERTIFICATE", der)
		switch k := k.(type) {
		case *rsa.PrivateKey:
			key = text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k))
		case *ecdsa.PrivateKey:
			ec, err := x509.MarshalECPrivateKey(k)
			if err != nil {
				t.Fatal(err)
			}
			key = text("EC PRIVATE KEY", ec)
		}
		if name == "near" {
			writeFile(t, p.file("near.pem"), cert)
			writeFile(t, p.file("near.key"), key)
			continue
		}
		p.put("far.pem", cert)
		p.put("private/far.key", key)
	}
}

// run runs a command at our end.
func (p *ipsecPair) run(line string) string {
	p.t.Helper()
	f := strings.Fields(line)
	out, err := output(p.near.Command(p.t.Context(), f[0], f[1:]...))
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// ctl is transitctl at our end.
func (p *ipsecPair) ctl(args string) string {
	p.t.Helper()
	return p.run(filepath.Join(binDir, "transitctl") + " " + args + " --socket " + p.file("ctl.sock"))
}

// swan is swanctl at the peer's.
func (p *ipsecPair) swan(args string) (string, error) {
	return p.peer.sh(fmt.Sprintf("STRONGSWAN_CONF=%[1]s/strongswan.conf SWANCTL_DIR=%[1]s swanctl %[2]s --uri unix://%[1]s/vici 2>&1", p.peer.folder(), args))
}

func (p *ipsecPair) mustSwan(args string) string {
	p.t.Helper()
	out, err := p.swan(args)
	if err != nil {
		p.t.Fatalf("swanctl %s: %v\n%s", args, err, out)
	}
	return out
}

func (p *ipsecPair) soon(what string, within time.Duration, f func() error) {
	p.t.Helper()
	soon(p.t, what, within*p.slow, f)
}

func (p *ipsecPair) startNear() {
	p.t.Helper()
	p.daemon.start()
	p.soon("transitd answers", 10*time.Second, func() error { _, err := p.status(); return err })
}

func (p *ipsecPair) startFar() {
	p.t.Helper()
	p.peer.begin()
	p.soon("charon takes its configuration", 20*time.Second, func() error {
		out, err := p.swan("--load-all")
		if err == nil && !strings.Contains(out, "successfully loaded 1 connections") {
			err = errors.New(out)
		}
		return err
	})
}

type ipsecStatus struct {
	Tunnels []struct {
		State string
		Drops map[string]uint64
		IPsec struct {
			IKE []struct {
				State, Proposal string
				InitiatorSPI    string `json:"initiator_spi"`
			}
			Child []struct {
				State, Proposal string
				InSPI           string `json:"in_spi"`
				OutSPI          string `json:"out_spi"`
			}
			IKERekeys   uint64 `json:"ike_rekeys"`
			ChildRekeys uint64 `json:"child_rekeys"`
			TimedOut    uint64 `json:"timed_out"`
			Refused     uint64
			CookiesSent uint64 `json:"cookies_sent"`
			HalfOpen    int    `json:"half_open"`
			Why         string
			Problem     string
		}
	}
}

func (p *ipsecPair) rawStatus() (string, error) {
	return output(exec.Command(filepath.Join(binDir, "transitctl"), "status", "--socket", p.file("ctl.sock"), "-o", "json"))
}

func (p *ipsecPair) status() (ipsecStatus, error) { return askIPsec(p.file("ctl.sock")) }

// askIPsec asks a transitd that has one tunnel.
func askIPsec(socket string) (s ipsecStatus, err error) {
	if err := askStatus(socket, &s); err != nil {
		return s, err
	}
	if len(s.Tunnels) != 1 {
		return s, fmt.Errorf("status: %d tunnels", len(s.Tunnels))
	}
	return s, nil
}

func (p *ipsecPair) pingFar() error {
	_, err := output(p.near.Command(p.t.Context(), "ping", "-n", "-c", "1", "-W", "1", ipsecFarInner))
	return err
}

var (
	swanIKE   = regexp.MustCompile(`(?m)^t: #[0-9]+, ([A-Z]+)`)
	swanChild = regexp.MustCompile(`(?m)^  c: #[0-9]+, reqid [0-9]+, ([A-Z]+)`)
)

// onePair waits until both ends have one IKE SA and one pair, and returns their SPIs at ours.
func (p *ipsecPair) onePair(within time.Duration) (ike, child string) {
	p.t.Helper()
	p.soon("one IKE SA and one pair at both ends", within, func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		x := s.Tunnels[0].IPsec
		if len(x.IKE) != 1 || len(x.Child) != 1 || x.IKE[0].State != "established" || x.Child[0].State != "installed" {
			return fmt.Errorf("ours: %+v", x)
		}
		out, err := p.swan("--list-sas")
		if err != nil {
			return err
		}
		i, c := swanIKE.FindAllStringSubmatch(out, -1), swanChild.FindAllStringSubmatch(out, -1)
		if len(i) != 1 || len(c) != 1 || i[0][1] != "ESTABLISHED" || c[0][1] != "INSTALLED" {
			return fmt.Errorf("theirs: %s", out)
		}
		ike, child = x.IKE[0].InitiatorSPI, x.Child[0].InSPI
		if !strings.Contains(out, ike) {
			return fmt.Errorf("the peer has another IKE SA than %s: %s", ike, out)
		}
		return nil
	})
	return ike, child
}

// libipsec is charon in a namespace.
type libipsec struct {
	t       *testing.T
	ns      netns.NS
	dir     string
	program *farProgram
}

func newLibipsec(t *testing.T, ns netns.NS) charonPeer {
	w := &libipsec{t: t, ns: ns, dir: t.TempDir()}
	w.program = &farProgram{t: t, ns: ns, dir: w.dir, name: "charon", argv: []string{
		// The pid file's place is compiled in, so each has a /run of its own.
		"env", "STRONGSWAN_CONF=" + w.dir + "/strongswan.conf", "unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run; exec /usr/lib/ipsec/charon",
	}}
	for _, line := range []string{"ip addr add " + ipsecFar + "/24 dev eth0", "ip link set eth0 up", "ethtool -K eth0 tx off", "ip addr add " + ipsecFarInner + "/32 dev lo", "ip link set lo up"} {
		if _, err := w.sh(line); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *libipsec) folder() string { return w.dir }
func (w *libipsec) begin()         { w.program.start() }
func (w *libipsec) kill() {
	w.program.kill()
	_, _ = w.sh("ip rule del table 220") // it stays behind a charon that was killed
}

// plugins keep IKE and ESP out of the tunnel, which takes everything.
func (w *libipsec) plugins() string {
	return "kernel-netlink {\n      fwmark = !0x42\n    }\n    socket-default {\n      fwmark = 0x42\n    }"
}
func (w *libipsec) children() string { return "" }

func (w *libipsec) after() string {
	return "ip link set ipsec0 mtu 1400; ip route replace " + ipsecNearInner + "/32 dev ipsec0 src " + ipsecFarInner
}

func (w *libipsec) version() string {
	out, err := output(exec.Command("dpkg-query", "-W", "-f", "${Version}", "strongswan-charon"))
	if err != nil {
		w.t.Fatal(err)
	}
	return "strongSwan " + out
}

func (w *libipsec) sh(line string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	return output(w.ns.Command(ctx, "sh", "-c", line))
}
