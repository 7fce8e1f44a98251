package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// ipsecFaultDocument is made by TestIPsecFaults.
const ipsecFaultDocument = "../../../docs/ipsec-faults.md"

// ipsecFault is something that keeps two transitds from an IPsec tunnel.
type ipsecFault struct {
	name string
	// keys are what is different at each end; "" takes a key away.
	keys [2]map[string]string
	// make breaks more than the configuration, after the files are there.
	make func(p *ipsecFaultPair)
	// want is what status has to say at each end, as regular expressions.
	want [2]string
	// mend are the keys with which it works; nil: those of nobody.
	mend [2]map[string]string
}

func ipsecFaults() []ipsecFault {
	one := func(key, value string) [2]map[string]string { return [2]map[string]string{{key: value}, nil} }
	certificates := func(cert string) [2]map[string]string {
		return [2]map[string]string{
			{"psk_file": "", "cert_file": "DIR/" + cert + ".pem", "key_file": "DIR/near.key", "ca_file": "DIR/ca.pem"},
			{"psk_file": "", "cert_file": "DIR/far.pem", "key_file": "DIR/far.key", "ca_file": "DIR/ca.pem"},
		}
	}
	right := certificates("near")
	drop := func(p *ipsecFaultPair) {
		p.run(1, "nft", "add table inet fault; add chain inet fault in { type filter hook input priority 0; }; add rule inet fault in udp dport 4500 drop")
	}
	return []ipsecFault{
		{
			name: "The preshared keys differ", keys: one("psk_file", "DIR/other"),
			want: [2]string{`the preshared key of far\.test is not ours`, `the preshared key of near\.test is not ours`},
		},
		{
			name: "No common proposal for IKE", keys: one("ike_proposals", "[aes128gcm16-prfsha256-ecp256]"),
			want: [2]string{
				`the peer offers aes256gcm16-prfsha384-ecp384, aes256gcm16-prfsha384-x25519; here are aes128gcm16-prfsha256-ecp256`,
				`the peer offers aes128gcm16-prfsha256-ecp256; here are aes256gcm16-prfsha384-ecp384, aes256gcm16-prfsha384-x25519: in .* the encryption is aes128gcm16, here aes256gcm16`,
			},
		},
		{
			name: "No common proposal for ESP", keys: one("esp_proposals", "[aes128gcm16-ecp384]"),
			want: [2]string{`the peer offers aes256gcm16.*; here are aes128gcm16.* the encryption is aes256gcm16, here aes128gcm16`, `the peer offers aes128gcm16.*; here are aes256gcm16.* the encryption is aes128gcm16, here aes256gcm16`},
		},
		{
			name: "Selectors without overlap, and other addresses inside the tunnel",
			keys: [2]map[string]string{{"local_ts": "[169.254.77.1/32, 10.8.0.0/16]"}, {"address": "169.254.78.2/30", "peer_address": "169.254.78.1", "remote_ts": "[169.254.78.0/30]"}},
			want: [2]string{
				`traffic selectors: the peer has 0\.0\.0\.0/0, ::/0 on its side and 169\.254\.78\.0/30 on ours; here remote_ts is 0\.0\.0\.0/0, ::/0 and local_ts 169\.254\.77\.1/32, 10\.8\.0\.0/16, and nothing is in both`,
				`traffic selectors: the peer has 169\.254\.77\.1/32, 10\.8\.0\.0/16 on its side and 0\.0\.0\.0/0, ::/0 on ours; here remote_ts is 169\.254\.78\.0/30 and local_ts 0\.0\.0\.0/0, ::/0, and nothing is in both`,
			},
		},
		{
			name: "local_id is not what the peer expects", keys: one("local_id", "other.test"),
			want: [2]string{`it wants to talk to near\.test \(its remote_id\), and local_id is other\.test`, `the peer says that it is other\.test, and remote_id is near\.test`},
		},
		{
			name: "A preshared key at one end, certificates at the other", keys: [2]map[string]string{right[0], nil},
			want: [2]string{`far\.test proves itself by a preshared key, and here certificates are configured`, `near\.test proves itself by digital signature, and here a preshared key is configured`},
		},
		{
			name: "An expired certificate", keys: certificates("expired"), mend: right,
			want: [2]string{`our certificate ended on 2020-02-01: no new IKE SA can be made`, `the certificate of near\.test: certificate of CN=near\.test, by CN=Test CA: it expired at 2020-02-01 00:00:00 UTC, [0-9]+ days ago`},
		},
		{
			name: "A certificate from the future, or a clock that is behind", keys: certificates("future"), mend: right,
			want: [2]string{`our certificate is valid only from 2060-01-01 on`, `it is valid only from 2060-01-01 00:00:00 UTC on, in [0-9]+ days by the clock here`},
		},
		{
			name: "A certificate of another authority", keys: certificates("stranger"), mend: right,
			want: [2]string{`AUTHENTICATION_FAILED: it does not take our certificate \(authority, dates, names\)`, `certificate of CN=near\.test, by CN=Other CA: x509: certificate signed by unknown authority`},
		},
		{
			name: "A postquantum preshared key at one end", keys: [2]map[string]string{{"ppk_file": "DIR/other", "ppk_id": "q"}, nil},
			want: [2]string{`the peer has no postquantum preshared key|it does not use the postquantum preshared key "q"`, `it has a postquantum preshared key and here is no ppk_file`},
		},
		{
			name: "Nobody begins", keys: [2]map[string]string{{"initiate": "false"}, {"initiate": "false"}},
			want: [2]string{`nothing has come from 192\.0\.2\.2, which has to begin: initiate is false here`, `nothing has come from 192\.0\.2\.1, which has to begin: initiate is false here`},
		},
		{
			name: "UDP port 4500 is blocked one way", make: drop,
			want: [2]string{`IKE_SA_INIT of 192\.0\.2\.2 arrives here, and ours gets no answer .*: it does not hear us\. UDP port 4500 is blocked on the way there`, `no answer to IKE_SA_INIT from 192\.0\.2\.1 .*UDP port 4500 is blocked`},
		},
		{
			name: "The peer listens at another port", keys: one("peer_port", "4501"),
			want: [2]string{`UDP port 4501 is blocked on the way there .*, or its port is another one than peer_port`, `no answer to IKE_SA_INIT from 192\.0\.2\.1`},
		},
	}
}

// ipsecFaultPair is two transitds on one wire.
type ipsecFaultPair struct {
	t       *testing.T
	f       ipsecFault
	dir     string
	ns      [2]netns.NS
	daemons [2]*farProgram
	said    [2]string // by status
}

func faultEnd(i int) string { return [2]string{"near", "far"}[i] }

func newIPsecFaultPair(t *testing.T, f ipsecFault) *ipsecFaultPair {
	t.Helper()
	netnstest.RequireRoot(t)
	p := &ipsecFaultPair{t: t, f: f, dir: t.TempDir(), ns: [2]netns.NS{netnstest.New(t, "near"), netnstest.New(t, "far")}}
	p.run(0, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", p.ns[1].Name)
	for i, addr := range []string{ipsecNear, ipsecFar} {
		for _, args := range [][]string{{"ip", "addr", "add", addr + "/24", "dev", "eth0"}, {"ip", "link", "set", "eth0", "up"}, {"ethtool", "-K", "eth0", "tx", "off"}, {"ip", "route", "add", "default", "via", "192.0.2.254"}} {
			p.run(i, args...)
		}
		p.daemons[i] = &farProgram{t: t, ns: p.ns[i], dir: p.dir, name: faultEnd(i), argv: []string{filepath.Join(binDir, "transitd"), "run", "-c", p.file(faultEnd(i) + ".yaml")}}
	}
	writeFile(t, p.file("psk"), ipsecSecret+"\n")
	writeFile(t, p.file("other"), "another secret of the tests, long enough\n")
	return p
}

func (p *ipsecFaultPair) file(name string) string { return filepath.Join(p.dir, name) }

func (p *ipsecFaultPair) run(end int, args ...string) {
	p.t.Helper()
	if _, err := output(p.ns[end].Command(p.t.Context(), args[0], args[1:]...)); err != nil {
		p.t.Fatal(err)
	}
}

// configure writes an end's configuration with what is different in it.
func (p *ipsecFaultPair) configure(end int, keys map[string]string) {
	p.t.Helper()
	addr, inner := [2]string{ipsecNear, ipsecFar}, [2]string{ipsecNearInner, ipsecFarInner}
	outside := map[string]string{"address": inner[end] + "/30", "peer_address": inner[1-end]}
	all := map[string]string{"local_id": faultEnd(end) + ".test", "remote_id": faultEnd(1-end) + ".test", "psk_file": "DIR/psk"}
	for k, v := range keys {
		if outside[k] != "" {
			outside[k] = v
			continue
		}
		all[k] = v
	}
	var list []string
	for k, v := range all {
		if v != "" {
			list = append(list, k+": "+strings.ReplaceAll(v, "DIR", p.dir))
		}
	}
	writeFile(p.t, p.file(faultEnd(end)+".yaml"), fmt.Sprintf(`node: {name: %[1]s, asn: %[2]d, site: %[1]s}
underlay: {interface: eth0}
tunnels:
  - {name: tr0, remote: %[3]s, address: %s, peer_address: %s, encapsulation: ipsec, ipsec: {%s}, bgp: {asn: %d}}
observe: {listen: ""}
control: {socket: %s}
log: {format: console}
`, faultEnd(end), 64512+end, addr[1-end], outside["address"], outside["peer_address"], strings.Join(list, ", "), 64513-end, p.file(faultEnd(end)+".sock")))
}

func (p *ipsecFaultPair) ctl(end int, command string) string {
	out, _ := output(exec.Command(filepath.Join(binDir, "transitctl"), command, "--socket", p.file(faultEnd(end)+".sock"))) // the exit code says that something is wrong
	return out
}

// certificates makes those of all faults.
func (p *ipsecFaultPair) certificates() {
	now := time.Now()
	authority := func(name string) (*x509.Certificate, crypto.Signer) {
		k := p.key("")
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: now.AddDate(50, 0, 0), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
		c.Raw = p.sign(c, c, k.Public(), k)
		return c, k
	}
	ca, caKey := authority("Test CA")
	other, otherKey := authority("Other CA")
	p.pem("ca.pem", "CERTIFICATE", ca.Raw)
	near, far := p.key("near.key"), p.key("far.key")
	for _, c := range []struct {
		file, name  string
		k           crypto.Signer
		by          *x509.Certificate
		byKey       crypto.Signer
		from, until time.Time
	}{
		{"near", "near.test", near, ca, caKey, now.Add(-time.Hour), now.AddDate(0, 3, 0)},
		{"far", "far.test", far, ca, caKey, now.Add(-time.Hour), now.AddDate(0, 3, 0)},
		{"expired", "near.test", near, ca, caKey, time.Unix(0, 0), time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)},
		{"future", "near.test", near, ca, caKey, time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2061, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"stranger", "near.test", near, other, otherKey, now.Add(-time.Hour), now.AddDate(0, 3, 0)},
	} {
		x := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: c.name}, NotBefore: c.from, NotAfter: c.until, DNSNames: []string{c.name}, KeyUsage: x509.KeyUsageDigitalSignature}
		p.pem(c.file+".pem", "CERTIFICATE", p.sign(x, c.by, c.k.Public(), c.byKey))
	}
}

func (p *ipsecFaultPair) sign(c, by *x509.Certificate, public crypto.PublicKey, k crypto.Signer) []byte {
	p.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, by, public, k)
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

func (p *ipsecFaultPair) pem(name, kind string, der []byte) {
	p.t.Helper()
	writeFile(p.t, p.file(name), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// key makes a key, and writes it to a file unless that has no name.
func (p *ipsecFaultPair) key(file string) crypto.Signer {
	p.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	if file != "" {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			p.t.Fatal(err)
		}
		p.pem(file, "PRIVATE KEY", der)
	}
	return k
}

// names waits until a command at an end says what is wrong.
func (p *ipsecFaultPair) names(end int, command, want string) (text string, err error) {
	re := regexp.MustCompile(want)
	return p.until(end, command, want, re.MatchString)
}

// until waits until what a command says at an end is right.
func (p *ipsecFaultPair) until(end int, command, want string, right func(string) bool) (text string, err error) {
	deadline := time.NewTimer(25 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if text = p.ctl(end, command); right(text) {
			return text, nil
		}
		select {
		case <-deadline.C:
			return text, fmt.Errorf("transitctl %s at the %s end does not say %q:\n%s", command, faultEnd(end), want, text)
		case <-tick.C:
		}
	}
}

// broken checks that both ends say what is wrong, and that it stays: an end that
// begins and is begun with is told many things.
func (p *ipsecFaultPair) broken() error {
	var err error
	for i, want := range p.f.want {
		if p.said[i], err = p.names(i, "status", want); err != nil {
			return err
		}
		if _, err := p.names(i, "doctor", want); err != nil { // it asks the daemon as well
			return err
		}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 5 {
		<-tick.C
		for i, want := range p.f.want {
			if text := p.ctl(i, "status"); !regexp.MustCompile(want).MatchString(text) {
				return fmt.Errorf("the %s end says no longer what is wrong:\n%s", faultEnd(i), text)
			}
		}
	}
	for i := range p.ns {
		log, err := os.ReadFile(p.file(faultEnd(i) + ".log"))
		switch {
		case err != nil:
			return err
		case strings.Count(string(log), "IPsec: ") > 12:
			return fmt.Errorf("the log of the %s end is flooded:\n%s", faultEnd(i), log)
		case strings.Contains(string(log), ipsecSecret), strings.Contains(string(log), "another secret of the tests"):
			return fmt.Errorf("a secret is in the log of the %s end:\n%s", faultEnd(i), log)
		}
	}
	return nil
}

// mended takes the fault away, and checks that nothing is said any more.
func (p *ipsecFaultPair) mended() error {
	if p.f.make != nil {
		if _, err := output(p.ns[1].Command(p.t.Context(), "nft", "delete table inet fault")); err != nil {
			return err
		}
	}
	for i := range p.ns {
		if text := p.ctl(i, "reload"); strings.Contains(text, "error") {
			return fmt.Errorf("reload at the %s end: %s", faultEnd(i), text)
		}
	}
	for i := range p.ns {
		if _, err := p.names(i, "status", "(?s)^"+faultEnd(i)+": ok .*established"); err != nil {
			return err
		}
		_, err := p.until(i, "tunnel", "nothing of what was", func(text string) bool {
			return strings.Contains(text, "CHILD SA") && !strings.Contains(text, "lately") && !strings.Contains(text, "not up") && !strings.Contains(text, "said by")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// TestIPsecFaults breaks an IPsec tunnel in every way that its two ends can
// disagree. Status names the cause at both ends, as far as that end can know it,
// with both sides' values; it stays there; the log has it too, and is not
// flooded; and it is gone when the fault is. All faults are made at once: most of
// the time is waiting.
func TestIPsecFaults(t *testing.T) {
	t.Parallel()
	var pairs []*ipsecFaultPair
	for _, f := range ipsecFaults() {
		p := newIPsecFaultPair(t, f)
		p.certificates()
		if f.make != nil {
			f.make(p)
		}
		for i := range p.ns {
			p.configure(i, f.keys[i])
			p.daemons[i].start()
		}
		pairs = append(pairs, p)
	}
	each := func(do func(*ipsecFaultPair) error) {
		t.Helper()
		errs := make([]error, len(pairs))
		var wg sync.WaitGroup
		for i, p := range pairs {
			wg.Go(func() { errs[i] = do(p) })
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil {
				t.Errorf("%s: %v", pairs[i].f.name, err)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	each((*ipsecFaultPair).broken)
	for _, p := range pairs {
		for i := range p.ns {
			p.configure(i, p.f.mend[i])
		}
	}
	each((*ipsecFaultPair).mended)
	if !*updateFaults {
		commandsOfFaults(t, ipsecFaultText(pairs))
		return
	}
	if err := os.WriteFile(ipsecFaultDocument, []byte(ipsecFaultText(pairs)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// commandsOfFaults compares the commands that status names with those of the
// document. What it says besides has ages and times in it.
func commandsOfFaults(t *testing.T, now string) {
	t.Helper()
	document, err := os.ReadFile(ipsecFaultDocument)
	if err != nil {
		t.Fatal(err)
	}
	commands := func(text string) (list []string) {
		for _, line := range strings.Split(text, "\n") {
			for _, m := range regexp.MustCompile("<br>`([^`]*)`").FindAllStringSubmatch(line, -1) {
				list = append(list, strings.Split(line, "|")[1]+m[1])
			}
		}
		return list
	}
	if d := cmp.Diff(commands(string(document)), commands(now)); d != "" {
		t.Errorf("%s is stale, run: go test ./pkg/lab/e2e -run TestIPsecFaults -update-faults\n(-document +status)\n%s", ipsecFaultDocument, d)
	}
}

func ipsecFaultText(pairs []*ipsecFaultPair) string {
	var b strings.Builder
	b.WriteString(`<!-- Written by: go test ./pkg/lab/e2e -run TestIPsecFaults -update-faults -->

# What transitd says when an IPsec tunnel does not come up

Each fault is made between two transitds that both begin, unless the fault is that nobody does. The table has what ` + "`transitctl status`" + ` says at each end, and the
command that it names next. The test makes every fault again: it fails if an end no longer says it or names another command, if it
does not stay, if the log is flooded, or if it is still there when the fault is mended.

| fault at the near end | the near end says | the far end says |
|---|---|---|
`)
	for _, p := range pairs {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.f.name, ipsecCell(p.said[0], p.f.want[0]), ipsecCell(p.said[1], p.f.want[1]))
	}
	return b.String()
}

// ipsecCell is the line that names the cause, and the command after it.
func ipsecCell(text, want string) string {
	re := regexp.MustCompile(want)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if !re.MatchString(line) || i+1 == len(lines) {
			continue
		}
		line = strings.TrimPrefix(line, "warning: tunnel tr0: ")
		next, _ := strings.CutPrefix(strings.TrimSpace(lines[i+1]), "more: ")
		return strings.ReplaceAll(line, "|", `\|`) + "<br>`" + strings.ReplaceAll(next, "|", `\|`) + "`"
	}
	return "–"
}
