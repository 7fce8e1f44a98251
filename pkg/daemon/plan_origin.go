package daemon

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/health"
	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/secret"
)

// sibling reports whether a tunnel leads to another NVA of our own site.
func (b *planner) sibling(t *config.Tunnel) bool { return t.BGP.ASN == b.c.Node.ASN }

// originate translates what this node announces of itself, and the probes on which that depends.
func (b *planner) originate() (list []bgp.Origination) {
	for i, o := range b.c.Originate {
		var origins []bgp.Origination
		for _, p := range companions(o) {
			origins = append(origins, bgp.Origination{Prefix: p, To: o.To})
		}
		list = append(list, origins...)
		if !o.Probe.Given() {
			continue
		}
		check := health.Config{
			Name: fmt.Sprintf("originate[%d] %s", i, o.Prefix), HTTP: o.Probe.HTTP, TCP: o.Probe.TCP, ICMP: o.Probe.ICMP,
			Interval: o.Probe.Interval.Std(), Timeout: o.Probe.Timeout.Std(), Failures: o.Probe.Failures, Successes: o.Probe.Successes,
		}
		if _, err := health.New(check); err != nil {
			b.fail(fmt.Sprintf("originate[%d].probe", i), "", "%v", err)
		}
		b.p.Probes = append(b.p.Probes, ProbePlan{Origins: origins, Check: check})
	}
	return list
}

// companions are the prefixes that an entry stands for.
func companions(o config.Origination) []netip.Prefix {
	list := []netip.Prefix{o.Prefix}
	if o.Split {
		list = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
	}
	if o.RFC1918 {
		for _, p := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} {
			list = append(list, netip.MustParsePrefix(p))
		}
	}
	return list
}

// maxPassword is what the kernel takes for TCP MD5 (TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

// password reads the key of a session from its file.
func (b *planner) password(path, file string) string {
	if file == "" {
		return ""
	}
	key, err := readSecret(file)
	switch {
	case err != nil:
		b.fail(path, "chmod 0600, and the key in the first line", "%v", err)
	case isPEM(key):
		b.fail(path, "name another file, with the key in the first line", "%s is in PEM: its first line is in every such file, and no secret", file)
	case key == "" || len(key) > maxPassword:
		b.fail(path, "", "the first line of %s has %d bytes, 1 to %d are wanted", file, len(key), maxPassword)
	}
	return key
}

// isPEM reports whether a line is the first of a file in PEM, which is a key of
// another kind, or a certificate. Both ends would have the same line, and so would everybody.
func isPEM(line string) bool { return strings.Contains(line, "-----BEGIN ") }

// readSecret returns the first line of a file that only its owner may read (pkg/secret).
func readSecret(file string) (string, error) {
	text, err := secret.Read(file)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
