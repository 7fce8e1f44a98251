package daemon

import (
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/tunnel/ike"
)

// TestIPsecChange: a dry run says which keys change, and what becomes of the SAs.
func TestIPsecChange(t *testing.T) {
	t.Parallel()
	dir := ipsecFiles(t, time.Now())
	plan := func(keys string) *Plan {
		p, err := ipsecPlan(t, dir, keys)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const certificates = "local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/ours.key, ca_file: DIR/"
	for _, tc := range []struct{ from, to, want string }{
		{"psk_file: DIR/psk", "psk_file: DIR/psk, dpd_delay: 2s", "dpd_delay: 10s becomes 2s; SAs go on"},
		{"psk_file: DIR/psk", "psk_file: DIR/psk, child_lifetime_packets: 2000000, child_lifetime_bytes: 200000000", "child_lifetime_packets: 0 becomes 2000000, child_lifetime_bytes: 0 becomes 200000000; SAs go on, with the old lifetimes and limits until they are replaced"},
		{"psk_file: DIR/psk", "psk_file: DIR/psk, ike_lifetime: 12h", "ike_lifetime: 8h0m0s becomes 12h0m0s; SAs go on, with the old lifetimes and limits until they are replaced"},
		{"psk_file: DIR/psk", "psk_file: DIR/psk, esp_proposals: [aes128gcm16]", "esp_proposals: [aes256gcm16-ecp384-esn-noesn aes256gcm16-x25519-esn-noesn] becomes [aes128gcm16]; new SAs are made beside the old ones"},
		{"psk_file: DIR/psk", "psk_file: DIR/psk, remote_id: b.example, initiate: false", "remote_id: 198.51.100.4 becomes b.example, initiate: true becomes false; the peer has to make new SAs (initiate: false); the old ones go on until then"},
		{"psk_file: DIR/psk", "psk_file: DIR/psk2", "the preshared key changes; new SAs are made beside the old ones"},
		{certificates + "ours.pem", certificates + "other.pem", "certificates change; new SAs are made beside the old ones"},
		{"psk_file: DIR/psk", "psk_file: DIR/psk, ppk_file: DIR/psk, ppk_id: x", "ppk_id: nothing becomes x, the postquantum preshared key changes; new SAs are made beside the old ones"},
	} {
		d := compare(fileName, plan(tc.from), plan(tc.to))
		if want := []string{"tunnel tr0: " + tc.want}; diff(want, d.Lines) != "" || len(d.Rekey) != 1 || len(d.Remove) != 0 {
			t.Errorf("%s, %s: %q, want %q; %+v", tc.from, tc.to, d.Lines, want, d)
		}
	}
}

// TestKeysTold: new keys are an event, and so are keys that could not be replaced, once.
func TestKeysTold(t *testing.T) {
	t.Parallel()
	got := told(func(c *chronicle) {
		s := healthy()
		look := func(change func(*ike.Status)) {
			x := ike.Status{Up: true, Child: []ike.ChildSA{{State: "installed"}}}
			change(&x)
			s.Tunnels[0].IPsec = &x
			c.watch(s)
			c.watch(s) // nothing new
		}
		look(func(*ike.Status) {})
		look(func(x *ike.Status) { x.ChildRekeys = 1 })
		look(func(x *ike.Status) { x.ChildRekeys, x.IKERekeys = 1, 1 })
		look(func(x *ike.Status) { x.ChildRekeys, x.IKERekeys = 2, 2 })
		look(func(x *ike.Status) {
			x.ChildRekeys, x.IKERekeys = 2, 2
			x.Problem, x.Child[0].InSPI, x.Child[0].Overdue = "no proposal in common", 7, true
			x.Child[0].EndsAt = time.Now().Add(300*time.Second + 900*time.Millisecond)
		})
	})
	info := func(text string) events.Event {
		return events.Event{Kind: events.Tunnel, Severity: events.Info, Subject: "tr0", Text: text}
	}
	want := []events.Event{
		{Kind: events.Tunnel, Severity: events.Info, Subject: "tr0", After: "up", Text: "tunnel tr0 to 198.51.100.4 is up"},
		info("tunnel tr0: the CHILD SA was replaced by a new one: packets have new keys"),
		info("tunnel tr0: the IKE SA was replaced by a new one"),
		info("tunnel tr0: the IKE SA and the CHILD SA were replaced by new ones"),
		{Kind: events.Tunnel, Severity: events.Warning, Subject: "tr0", Text: "tunnel tr0: CHILD SA 00000007 could not be replaced in time and ends in 300 s: no packet gets through from then until there is a new one: no proposal in common"},
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestCertificateWarnings: one that ends soon does not hide one that has ended, each
// has its command, and one that others rest on has its name.
func TestCertificateWarnings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	const ours, theirs = "transitctl tunnel # then renew it and transitctl reload", "transitctl tunnel # then renew it at the peer, and have it loaded there"
	for _, tc := range []struct {
		name string
		s    ike.Status
		want []control.Advice
	}{
		{"a preshared key", ike.Status{}, nil},
		{"both last", ike.Status{CertificateExpires: day(15), PeerCertificateExpires: day(90)}, nil},
		{"ours ends in 13 days, and the peer's has ended", ike.Status{CertificateExpires: day(13), PeerCertificateExpires: day(-1)}, []control.Advice{
			{Warning: "tunnel tr0: our certificate ends on 2026-06-28: no new IKE SA can be made from then on", Run: ours},
			{Warning: "tunnel tr0: the peer's certificate ended on 2026-06-14: no new IKE SA can be made", Run: theirs},
		}},
		{"what they rest on", ike.Status{CertificateExpires: day(-2), CertificateIssuer: "CN=middle", PeerCertificateExpires: day(2), PeerCertificateIssuer: "CN=root"}, []control.Advice{
			{Warning: "tunnel tr0: CN=middle, which our certificate rests on, ended on 2026-06-13: no new IKE SA can be made", Run: ours},
			{Warning: "tunnel tr0: CN=root, which the peer's certificate rests on, ends on 2026-06-17: what it authenticated ends then, and the tunnel goes down", Run: theirs},
		}},
		{"not yet", ike.Status{CertificateStarts: day(1), CertificateExpires: day(90)}, []control.Advice{
			{Warning: "tunnel tr0: our certificate is valid only from 2026-06-16 on: no IKE SA can be made", Run: ours},
		}},
	} {
		v := TunnelView{Plan: TunnelPlan{Name: "tr0"}, IPsec: &tc.s}
		if d := diff(tc.want, certificateWarnings(v, now)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}
