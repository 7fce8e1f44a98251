package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The kernel's ESP at the other end, with extended sequence numbers and without, in UDP and by itself. Guests are
// emulated: two of the four are for TRANSITD_LONG=1.
func TestIPsecKernel(t *testing.T) {
	for _, c := range []struct {
		ipsecCase
		esn, long bool
	}{
		{ipsecCase{
			name: "aes-esn-ours", ike: "aes256gcm16-prfsha384-ecp384", auth: "psk", initiate: true,
			esp: "aes256gcm16-ecp384-esn-noesn", theirESP: "aes256gcm16-ecp384-esn",
		}, true, false},
		{ipsecCase{name: "chacha20-theirs", ike: "chacha20poly1305-prfsha512-x25519", esp: "chacha20poly1305-x25519", auth: "psk"}, false, true},
		{ipsecCase{
			name: "raw-aes-esn-ours", ike: "aes256gcm16-prfsha384-ecp384", auth: "psk", initiate: true, raw: true,
			esp: "aes256gcm16-ecp384-esn-noesn", theirESP: "aes256gcm16-ecp384-esn",
		}, true, true},
		{ipsecCase{name: "raw-aes-theirs", ike: "aes128gcm16-prfsha256-ecp256", esp: "aes128gcm16-ecp256", auth: "psk", raw: true}, false, false},
	} {
		if c.long && os.Getenv("TRANSITD_LONG") == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			p := newIPsecPair(t, c.ipsecCase, newKernelXfrm)
			p.slow = 3
			count := watchWire(t, p.near)
			t.Log(p.peer.version())
			p.interop(unlessLong(100e6))
			p.countsWith(c.esn)
			mover{t, p.near, p.peer}.transfer(2e6) // interop ends with new SAs
			p.kernelRefusedNothing()
			if c.esn {
				p.beyond32Bits()
			}
			bare, inUDP, ike, marked := count("esp && !udp"), count("esp && udp.port == 4500"), count("isakmp && udp.port == 500"), count("isakmp && udp.port == 4500")
			t.Logf("on the wire: %d packets of ESP by itself and %d in UDP; %d messages of IKE at port 500 and %d at 4500", bare, inUDP, ike, marked)
			if c.raw && (bare < 1000 || inUDP+marked > 0 || ike < 20) || !c.raw && (bare > 0 || inUDP < 1000) {
				t.Error("that is not what the wire should have")
			}
		})
	}
}

var (
	xfrmESN   = regexp.MustCompile(`replay-window [0-9]+ seq 0x[0-9a-f]+ flag .*\besn\b`)
	xfrmStats = regexp.MustCompile(`replay-window ([0-9]+) replay ([0-9]+) failed ([0-9]+)`)
	xfrmOut   = regexp.MustCompile(`src ` + regexp.QuoteMeta(ipsecFar) + ` dst .*\n\s+proto esp spi (0x[0-9a-f]+)\(.*\) reqid ([0-9]+).*\n.*\n\s+aead (\S+) (0x[0-9a-f]+) \(288 bits\) 128\n`)
)

// xfrm are the SAs of the guest's kernel.
func (p *ipsecPair) xfrm() string {
	p.t.Helper()
	out, err := p.peer.sh("ip -s xfrm state")
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// countsWith: both ends have the sequence numbers that were agreed, and the kernel does.
func (p *ipsecPair) countsWith(esn bool) {
	t := p.t
	t.Helper()
	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	x := s.Tunnels[0].IPsec
	if len(x.Child) != 1 || strings.Contains(x.Child[0].Proposal, "-esn") != esn {
		t.Errorf("ours: %+v", x.Child)
	}
	if out := p.mustSwan("--list-sas"); strings.Contains(out, "/ESN") != esn || strings.Contains(out, "TUNNEL-in-UDP") == p.c.raw || !strings.Contains(out, "TUNNEL") {
		t.Errorf("theirs: %s", out)
	}
	if out := p.xfrm(); len(xfrmESN.FindAllString(out, -1)) != map[bool]int{true: 2}[esn] {
		t.Errorf("the kernel: %s", out)
	}
}

// kernelRefusedNothing: no packet was old, twice or false.
func (p *ipsecPair) kernelRefusedNothing() {
	p.t.Helper()
	out := p.xfrm()
	stats := xfrmStats.FindAllStringSubmatch(out, -1)
	if len(stats) != 2 {
		p.t.Errorf("the kernel has %d SAs: %s", len(stats), out)
	}
	for _, m := range stats {
		if m[1] != "0" || m[2] != "0" || m[3] != "0" {
			p.t.Errorf("the kernel refused packets: %s", out)
		}
	}
}

// beyond32Bits lets the kernel's numbers, of which the lower half is sent, pass
// 2^32. They cannot be set, so its SA is made again with those that it should
// have; two steps, as one of more than 2^31 could be a step back.
func (p *ipsecPair) beyond32Bits() {
	t := p.t
	t.Helper()
	m := xfrmOut.FindStringSubmatch(p.xfrm())
	if m == nil {
		t.Fatalf("no SA towards us: %s", p.xfrm())
	}
	carried := "encap espinudp 4500 4500 0.0.0.0 "
	if p.c.raw {
		carried = ""
	}
	for _, sent := range []string{"0x7fffff00", "0xfffffff0"} {
		sa := fmt.Sprintf("src %s dst %s proto esp spi %s", ipsecFar, ipsecNear, m[1])
		with := fmt.Sprintf("%s reqid %s mode tunnel replay-window 32 flag af-unspec esn replay-oseq %s aead '%s' %s 128 %sif_id 42", sa, m[2], sent, m[3], m[4], carried)
		// A packet that goes between the two makes a larval SA of the same SPI, which is in the way of "add", and which "update" replaces.
		line := fmt.Sprintf("ip xfrm state delete %s && { ip xfrm state add %s || ip xfrm state update %s; }", sa, with, with)
		if _, err := p.peer.sh(line); err != nil {
			t.Fatal(err)
		}
		if out := p.run("ping -n -q -c 40 -i 0.02 -W 2 " + ipsecFarInner); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("after %s: %s", sent, out)
		}
	}
	if out := p.xfrm(); !strings.Contains(out, "oseq-hi 0x1,") {
		t.Errorf("the kernel did not pass 2^32: %s", out)
	}
	p.countsWith(true)
	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Tunnels[0].Drops; d["auth_failed"]+d["replayed"] > 0 {
		t.Errorf("%v", d)
	}
}
