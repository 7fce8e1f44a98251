package e2e

import "testing"

// TestIPsecLab runs in a lab with IPsec what TestVXLAN does of what an operator does
// to a running NVA, and what befalls it.
func TestIPsecLab(t *testing.T) {
	l := upLab(t, "i", "--encapsulation", "ipsec")
	l.healthy()
	l.play(t, []part{
		{"reload without a change", testReloadNoChange},
		{"kill -9", testKill},
	})
}
