package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tshark decrypts what both ends send with the key log, and finds each packet
// authentic and the packets inside whole: IKE and ESP, and what new keys protect.
func TestIPsecKeyLog(t *testing.T) {
	for _, c := range []ipsecCase{
		{name: "gcm", ike: "aes256gcm16-prfsha384-ecp384", esp: "aes256gcm16-ecp384", auth: "psk", initiate: true},
		{name: "cbc", ike: "aes256-sha256-modp2048", esp: "aes128gcm16-ecp256", auth: "psk", initiate: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			logs := t.TempDir()
			p := newIPsecPair(t, c, newLibipsec, "--keylog", logs)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			pcap := p.file("outer.pcap")
			dump := p.near.Command(ctx, "tcpdump", "-ni", "eth0", "-U", "-w", pcap, "udp", "port", "4500")
			if err := dump.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cancel(); _ = dump.Wait() })
			soon(t, "tcpdump listens", 10*time.Second, func() error { _, err := os.Stat(pcap); return err })
			p.bring()
			ping := "ping -n -q -c 25 -i 0.01 -W 2 -s 999 " + ipsecFarInner
			p.run(ping)
			ike, child := p.onePair(10 * time.Second)
			p.ctl("ipsec rekey")
			soon(t, "there are new keys", 10*time.Second, func() error {
				if _, c := p.onePair(10 * time.Second); c == child {
					return fmt.Errorf("it is still %s", c)
				}
				return nil
			})
			p.ctl("ipsec rekey --ike")
			soon(t, "there are new keys of IKE", 10*time.Second, func() error {
				if i, _ := p.onePair(10 * time.Second); i == ike {
					return fmt.Errorf("it is still %s", i)
				}
				return nil
			})
			p.run(ping)
			if s, _ := p.rawStatus(); !strings.Contains(s, "secrets are being written") { // degraded: there is no BGP here
				t.Errorf("the key log is not told: %s", s)
			}
			if told := p.ctl("watch --last=1000 --follow=false"); !strings.Contains(told, "secrets are being written") {
				t.Errorf("the key log is no event: %s", told)
			}
			options := []string{"-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE", "-o", "ip.check_checksum:TRUE"}
			for file, table := range map[string]string{"tr0.ike.keys": "ikev2_decryption_table", "tr0.esp.keys": "esp_sa"} {
				path := filepath.Join(logs, file)
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
					t.Fatalf("%v, %v", info, err)
				}
				for line := range strings.Lines(string(text)) {
					options = append(options, "-o", "uat:"+table+":"+strings.TrimSpace(line))
				}
			}
			count := func(filter string) int {
				out, err := output(exec.Command("tshark", append([]string{"-r", pcap, "-Y", filter, "-T", "fields", "-e", "frame.number"}, options...)...))
				if err != nil {
					t.Fatal(err)
				}
				return len(strings.Fields(out))
			}
			soon(t, "tshark finds 100 packets of two pings", 20*time.Second, func() error {
				if n := count("esp && icmp && data.len == 991 && icmp.checksum.status == 1 && ip.checksum.status == 1"); n < 100 {
					return fmt.Errorf("%d packets", n)
				}
				return nil
			})
			_ = dump.Process.Signal(os.Interrupt) // what is counted below must not grow
			_ = dump.Wait()
			esp, wrong := count("esp"), count(`esp.icv_good == 0 || esp.icv_bad == 1 || _ws.expert.message contains "ICV"`)
			good := count("esp.icv_good == 1")
			sealed, opened, bad := count("isakmp.typepayload == 46"), count("isakmp.enc.decrypted"), count(`isakmp && _ws.expert.message contains "hecksum"`)
			t.Logf("ESP: %d packets, %d authentic, %d not; IKE: %d messages encrypted, %d decrypted, %d with a wrong checksum", esp, good, wrong, sealed, opened, bad)
			if esp < 100 || good != esp || wrong != 0 || sealed < 8 || opened != sealed || bad != 0 {
				t.Error("tshark could not read, or not authenticate, all of it")
			}
		})
	}
}
