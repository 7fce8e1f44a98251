package e2e

import (
	"fmt"
	"testing"
	"time"
)

// ipsecCases are what strongSwan is tried with.
var ipsecCases = []ipsecCase{
	{name: "psk-aes256-ecp384-ours", ike: "aes256gcm16-prfsha384-ecp384", esp: "aes256gcm16-ecp384", auth: "psk", initiate: true},
	{name: "psk-chacha20-x25519-theirs", ike: "chacha20poly1305-prfsha512-x25519", esp: "chacha20poly1305-x25519", auth: "psk"},
	{name: "ecdsa-aes128-ours", ike: "aes128gcm16-prfsha256-ecp256", esp: "aes128gcm16-ecp256", auth: "ecdsa", initiate: true, fragment: true, extra: "fragment_size = 600"},
	{name: "rsa-cbc-nopfs-theirs", ike: "aes256-sha256-modp2048", esp: "aes256gcm16", auth: "rsa", fragment: true, extra: "fragment_size = 600"},
}

// Either side begins, replaces keys, both at the same moment too, and ends; no
// packet is lost by new keys.
func TestIPsecInterop(t *testing.T) {
	report := interopReport{section: "IPsec", test: "TestIPsecInterop", introduction: ipsecIntroduction, end: ipsecEnd, least: len(ipsecCases)}
	t.Run("with", func(t *testing.T) {
		for _, c := range ipsecCases {
			t.Run(c.name, func(t *testing.T) {
				p := newIPsecPair(t, c, newLibipsec)
				r := p.interop(unlessLong(1e9))
				if !t.Failed() {
					report.add("kernel-libipsec", r)
				}
			})
		}
	})
	report.compare(t)
}

// ipsecRow is what a run with a peer measured.
type ipsecRow struct {
	c              ipsecCase
	peer           string // with its version
	up             time.Duration
	bytes          int64
	rates          rates
	dead, deadToIt time.Duration // until a silent death was noticed
}

func (r ipsecRow) String() string {
	return fmt.Sprintf("| %s | %s | `%s` | `%s` | %s | %s | 6 of 6 | %s, %s | %d MB, %.1f and %.1f Gbit/s |", r.peer, r.c.auth, r.c.ike, r.c.esp,
		map[bool]string{true: "us", false: "it"}[r.c.initiate], inSeconds(r.up), inSeconds(r.dead), inSeconds(r.deadToIt), r.bytes/1e6, r.rates.there/1e9, r.rates.back/1e9)
}

// bring starts both ends, and returns when packets go both ways.
func (p *ipsecPair) bring() time.Duration {
	t := p.t
	t.Helper()
	p.startFar()
	p.startNear()
	begun := time.Now()
	p.initiate()
	p.soon("the peer has its side of the tunnel", 15*time.Second, func() error { _, err := p.peer.sh(p.peer.after()); return err })
	p.soon("a ping comes back", 15*time.Second, p.pingFar)
	return time.Since(begun)
}

func (p *ipsecPair) initiate() {
	p.t.Helper()
	if !p.c.initiate {
		p.mustSwan("--initiate --child c --timeout 10")
	}
	p.onePair(15 * time.Second)
}

func (p *ipsecPair) interop(bytes int64) ipsecRow {
	t := p.t
	row := ipsecRow{c: p.c, peer: p.peer.version(), bytes: bytes, up: p.bring()}
	p.run("ping -n -q -c 20 -i 0.01 -W 2 -s 1372 -M do " + ipsecFarInner)
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"we replace the CHILD SA", func() { p.ctl("ipsec rekey") }},
		{"it replaces the CHILD SA", func() { p.mustSwan("--rekey --child c") }},
		{"we replace the IKE SA", func() { p.ctl("ipsec rekey --ike") }},
		{"it replaces the IKE SA", func() { p.mustSwan("--rekey --ike t") }},
		{"both replace the CHILD SA", func() { p.atOnce("ipsec rekey", "--rekey --child c") }},
		{"both replace the IKE SA", func() { p.atOnce("ipsec rekey --ike", "--rekey --ike t") }},
	} {
		ike, child := p.onePair(20 * time.Second)
		lost := p.underPing(step.do)
		ike2, child2 := p.onePair(20 * time.Second)
		if ike == ike2 && child == child2 {
			t.Errorf("%s: nothing was replaced", step.name)
		}
		if lost != "" {
			t.Errorf("%s: %s", step.name, lost)
		}
	}
	row.rates = mover{t, p.near, p.peer}.transfer(bytes)

	p.mustSwan("--terminate --ike t")
	if p.c.initiate {
		p.onePair(10 * time.Second) // we begin again
	} else {
		p.initiate()
	}
	p.soon("a ping after the peer's end", 10*time.Second, p.pingFar)
	p.ctl("ipsec terminate")
	if p.c.initiate {
		p.onePair(10 * time.Second)
	} else {
		p.soon("the peer has ended too", 10*time.Second, func() error {
			out, err := p.swan("--list-sas")
			if err == nil && swanIKE.MatchString(out) {
				err = fmt.Errorf("it has %s", out)
			}
			return err
		})
		p.initiate()
	}
	p.soon("a ping after our end", 10*time.Second, p.pingFar)

	// The peer dies without a word, and comes back.
	p.peer.kill()
	died := time.Now()
	p.soon("we notice", 40*time.Second, func() error {
		s, err := p.status()
		if err == nil && s.Tunnels[0].State == "up" {
			err = fmt.Errorf("the tunnel is up")
		}
		return err
	})
	row.dead = time.Since(died)
	p.startFar()
	p.initiate()
	if _, err := p.peer.sh(p.peer.after()); err != nil {
		t.Fatal(err)
	}
	p.soon("a ping after the peer's death", 15*time.Second, p.pingFar)
	// We die without a word.
	p.daemon.kill()
	died = time.Now()
	p.soon("the peer notices", 40*time.Second, func() error {
		out, err := p.swan("--list-sas")
		if err == nil && swanIKE.MatchString(out) {
			err = fmt.Errorf("it has %s", out)
		}
		return err
	})
	row.deadToIt = time.Since(died)
	p.startNear()
	p.initiate()
	p.soon("a ping after our death", 15*time.Second, p.pingFar)
	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Tunnels[0].Drops; d["auth_failed"]+d["replayed"]+d["bad_padding"]+d["bad_next_header"] > 0 {
		t.Errorf("%v", d)
	}
	return row
}

const ipsecIntroduction = `transitd's IPsec was run with strongSwan. Each run does the same: the tunnel comes up, begun by the side that the table names;
under a ping every 5 ms we replace the CHILD SA, the peer does, we replace the IKE SA, the peer does, both replace the one and the
other at the same moment: six times new keys, and no packet may be lost. Then TCP carries the given amount each way, and the SHA-256 of what was sent and
of what came are equal. The peer terminates, and the tunnel comes up again; we terminate, and it comes up again. Each side is killed
without a word, the other one has to notice (dead peer detection after 1 s of silence on our side, 3 s on the peer's, and the retransmissions after
it), and the tunnel comes up again. With certificates the IKE messages are sent in fragments.

| peer | version | authentication | IKE | ESP | begun by | up after | new keys without loss | its death noticed, ours | TCP each way |
|---|---|---|---|---|---|---|---|---|---|
`

const ipsecEnd = `

The amounts are those of the run that wrote this (a tenth unless TRANSITD_LONG=1), on a machine that did other things too: [performance.md](performance.md) says how fast it is.
TestIPsecKernel does the same with strongSwan in a guest whose kernel does the ESP, in UDP and without, through an XFRM interface, with extended sequence numbers that pass 2^32 (100 MB each way, a tenth unless TRANSITD_LONG=1).
TestIPsecKeyLog has tshark decrypt and authenticate IKE and ESP from the key log; TestScapy in tunnel/esp does the same with scapy for extended
sequence numbers and ChaCha20-Poly1305.
`

// atOnce lets both ends begin at the same moment, as far as two commands can.
func (p *ipsecPair) atOnce(ours, theirs string) {
	done := make(chan error, 1)
	go func() { _, err := p.swan(theirs); done <- err }()
	p.ctl(ours)
	if err := <-done; err != nil {
		p.t.Logf("swanctl %s: %v", theirs, err) // it may have been told that we were faster
	}
}

// underPing does something while a ping runs, and says what it lost.
func (p *ipsecPair) underPing(do func()) string {
	p.t.Helper()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := output(p.near.Command(p.t.Context(), "ping", "-n", "-q", "-i", "0.005", "-c", "400", "-W", "2", ipsecFarInner))
		done <- result{out, err}
	}()
	do()
	r := <-done
	m := pingCounts.FindStringSubmatch(r.out)
	if r.err != nil || m == nil || m[1] != m[2] {
		return fmt.Sprintf("packets were lost: %v: %s", r.err, r.out)
	}
	return ""
}
