package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/transitd/transitd/pkg/control"
)

// TestCertificateLines: of a certificate that rests on one which ends before, that one has its name.
func TestCertificateLines(t *testing.T) {
	t.Parallel()
	ours, theirs := int64(3*86400), int64(-2*86400)
	for _, tc := range []struct {
		issuer, peer string
		want         []string
	}{
		{"", "", []string{"  our certificate ends in 3 days\n", "  the peer's certificate ended 2 days ago\n"}},
		{"CN=middle", "CN=root", []string{"  CN=middle, which our certificate rests on, ends in 3 days\n", "  CN=root, which the peer's certificate rests on, ended 2 days ago\n"}},
	} {
		var out bytes.Buffer
		a := &app{stdout: &out}
		a.printIPsec(&control.IPsec{CertificateExpiresS: &ours, CertificateIssuer: tc.issuer, PeerCertificateExpiresS: &theirs, PeerCertificateIssuer: tc.peer})
		for _, line := range tc.want {
			if !strings.Contains(out.String(), line) {
				t.Errorf("%q is missing in\n%s", line, out.String())
			}
		}
	}
}
