package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike"
)

// ipsecYAML is nodeYAML with an IPsec tunnel.
func ipsecYAML(t *testing.T, secret, more string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "psk")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return edit(t, nodeYAML, "    vxlan: {vni: 7700}\n", "    encapsulation: ipsec\n    ipsec: {psk_file: "+file+more+"}\n")
}

// planned is what a tunnel's IKE is told.
func planned(t *testing.T, more string) *ike.Config {
	t.Helper()
	c := mustPlan(t, ipsecYAML(t, "a long enough secret\n", more)).Tunnels[0].IPsec
	if c == nil {
		t.Fatal("there is no IPsec in the plan")
	}
	return c
}

func TestPlanIPsec(t *testing.T) {
	t.Parallel()
	c := planned(t, "")
	if string(c.PSK) != "a long enough secret" || c.LocalID.String() != "192.0.2.4" || c.RemoteID.String() != "198.51.100.4" || !c.Initiate {
		t.Errorf("%s, %s, initiate %v, a secret of %d bytes", c.LocalID, c.RemoteID, c.Initiate, len(c.PSK))
	}
	if c.Local != addrPort("192.0.2.4:4500") || c.Remote != addrPort("198.51.100.4:4500") {
		t.Errorf("%s to %s", c.Local, c.Remote)
	}
	if c.ChildLifetime != time.Hour || c.IKELifetime != 8*time.Hour || c.ChildPackets != 0 || c.ChildBytes != 0 || c.DPDDelay != 10*time.Second {
		t.Errorf("%+v", c)
	}
	c = planned(t, ", child_lifetime: 5m, child_lifetime_packets: 2000000, child_lifetime_bytes: 104857600000, initiate: false, local_id: a.example, peer_port: 4600")
	if c.ChildLifetime != 5*time.Minute || c.ChildPackets != 2_000_000 || c.ChildBytes != 104_857_600_000 || c.Initiate || c.LocalID.String() != "a.example" || c.Remote.Port() != 4600 {
		t.Errorf("%+v", c)
	}
}

// What is wrong is said at the key, and no secret is in it.
func TestPlanIPsecRefuses(t *testing.T) {
	t.Parallel()
	const secret = "a long enough secret"
	for _, tc := range []struct{ secret, more, want string }{
		{"short\n", "", "tunnels[0].ipsec.psk_file"},
		{secret, ", ike_proposals: [aes256gcm16]", "tunnels[0].ipsec.ike_proposals"},
		{secret, ", esp_proposals: [aes256-sha256]", "tunnels[0].ipsec"},
		{secret, ", esp_proposals: [3des-sha1]", "tunnels[0].ipsec.esp_proposals"},
		{secret, `, remote_id: "@#zz"`, "tunnels[0].ipsec.remote_id"},
	} {
		_, err := NewPlan(fileName, mustParse(t, ipsecYAML(t, tc.secret, tc.more)), cardFacts())
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), strings.TrimSpace(tc.secret)) {
			t.Errorf("%s: %v", tc.more, err)
		}
	}
}
