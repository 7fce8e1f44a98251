package daemon

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/ike/auth"
)

// Rekey replaces a tunnel's SAs now.
func (d *Daemon) Rekey(_ context.Context, name string, ikeSA bool) (control.IPsecDone, error) {
	t, en, err := d.ipsecTunnel(name)
	if err != nil {
		return control.IPsecDone{}, err
	}
	if err := en.Rekey(ikeSA); err != nil {
		return control.IPsecDone{}, &control.Error{Code: control.CodeDown, Message: fmt.Sprintf("tunnel %s: %v", t.Name, err)}
	}
	what := "a new CHILD SA is being made"
	if ikeSA {
		what = "a new IKE SA is being made"
	}
	return control.IPsecDone{Version: control.V1(), Tunnel: t.Name, Done: what}, nil
}

// Terminate deletes a tunnel's SAs.
func (d *Daemon) Terminate(_ context.Context, name string) (control.IPsecDone, error) {
	t, en, err := d.ipsecTunnel(name)
	if err != nil {
		return control.IPsecDone{}, err
	}
	en.Terminate()
	d.story.add(events.Tunnel, events.Info, t.Name, "", "", "tunnel %s: its SAs are deleted, as was asked for by transitctl ipsec terminate", t.Name)
	done := "its SAs are deleted; the peer has to begin anew"
	if t.IPsec.Initiate {
		done = "its SAs are deleted; new ones are being made"
	}
	return control.IPsecDone{Version: control.V1(), Tunnel: t.Name, Done: done}, nil
}

// ipsecChange says what a reload changes in what a tunnel agrees to, and what comes
// of it. There are no secrets in it.
func ipsecChange(from, to *ike.Config) string {
	var list []string
	for _, c := range []struct{ key, from, to string }{
		{"local_id", from.LocalID.String(), to.LocalID.String()},
		{"remote_id", from.RemoteID.String(), to.RemoteID.String()},
		{"ike_proposals", fmt.Sprint(from.IKE), fmt.Sprint(to.IKE)},
		{"esp_proposals", fmt.Sprint(from.ESP), fmt.Sprint(to.ESP)},
		{"local_ts", fmt.Sprint(from.LocalTS), fmt.Sprint(to.LocalTS)},
		{"remote_ts", fmt.Sprint(from.RemoteTS), fmt.Sprint(to.RemoteTS)},
		{"ppk_id", from.PPKID, to.PPKID},
		{"initiate", fmt.Sprint(from.Initiate), fmt.Sprint(to.Initiate)},
		{"ike_lifetime", from.IKELifetime.String(), to.IKELifetime.String()},
		{"child_lifetime", from.ChildLifetime.String(), to.ChildLifetime.String()},
		{"child_lifetime_packets", fmt.Sprint(from.ChildPackets), fmt.Sprint(to.ChildPackets)},
		{"child_lifetime_bytes", fmt.Sprint(from.ChildBytes), fmt.Sprint(to.ChildBytes)},
		{"dpd_delay", from.DPDDelay.String(), to.DPDDelay.String()},
	} {
		if c.from != c.to {
			list = append(list, fmt.Sprintf("%s: %s becomes %s", c.key, cmp.Or(c.from, "nothing"), cmp.Or(c.to, "nothing")))
		}
	}
	anew := from.Differs(to)
	if !bytes.Equal(from.PSK, to.PSK) {
		list = append(list, "the preshared key changes")
	}
	if !bytes.Equal(from.PPK, to.PPK) {
		list = append(list, "the postquantum preshared key changes")
	}
	if !slices.EqualFunc(slices.Concat(from.Certificates, from.Authorities), slices.Concat(to.Certificates, to.Authorities), (*x509.Certificate).Equal) {
		list = append(list, "certificates change")
	}
	if len(list) == 0 { // a key of a certificate that is the same: two files of one key
		list = append(list, "a key is read again")
	}
	what := "SAs go on"
	switch {
	case !anew && (from.IKELifetime != to.IKELifetime || from.ChildLifetime != to.ChildLifetime || from.ChildPackets != to.ChildPackets || from.ChildBytes != to.ChildBytes):
		what = "SAs go on, with the old lifetimes and limits until they are replaced"
	case anew && to.Initiate:
		what = "new SAs are made beside the old ones"
	case anew:
		what = "the peer has to make new SAs (initiate: false); the old ones go on until then"
	}
	return strings.Join(list, ", ") + "; " + what
}

// keysLocked tells that a tunnel's keys were replaced, or that they could not be.
func (c *chronicle) keysLocked(t TunnelView, now time.Time) {
	if t.IPsec == nil {
		return
	}
	name := t.Plan.Name
	was, seen := c.keys[name]
	is := keysSeen{ike: t.IPsec.IKERekeys, child: t.IPsec.ChildRekeys, overdue: t.IPsec.Overdue(now) != ""}
	c.keys[name] = is
	switch {
	case !seen:
	case is.overdue && !was.overdue:
		c.add(events.Tunnel, events.Warning, name, "", "", "%s", rekeyWarning(t, now))
	case is.child > was.child && is.ike > was.ike:
		c.add(events.Tunnel, events.Info, name, "", "", "tunnel %s: the IKE SA and the CHILD SA were replaced by new ones", name)
	case is.child > was.child:
		c.add(events.Tunnel, events.Info, name, "", "", "tunnel %s: the CHILD SA was replaced by a new one: packets have new keys", name)
	case is.ike > was.ike:
		c.add(events.Tunnel, events.Info, name, "", "", "tunnel %s: the IKE SA was replaced by a new one", name)
	}
}

// keysSeen is what a chronicle knows of a tunnel's SAs.
type keysSeen struct {
	ike, child uint64 // replaced so far
	overdue    bool
}

// ipsecControl is what commands do to a running tunnel.
type ipsecControl interface {
	Rekey(ikeSA bool) error
	Terminate()
}

func (d *Daemon) ipsecTunnel(name string) (TunnelPlan, ipsecControl, error) {
	t, err := d.tunnelPlan(name)
	if err != nil {
		return t, nil, err
	}
	if t.IPsec == nil {
		return t, nil, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("tunnel %s is %s, not ipsec", t.Name, t.Encapsulation)}
	}
	dev, ok := d.machine.tunnels.device(t.Name).(*sharedTunnel)
	if !ok {
		return t, nil, &control.Error{Code: control.CodeStopping, Message: fmt.Sprintf("tunnel %s is not there now", t.Name)}
	}
	return t, dev.engine.ipsec, nil
}

func ipsecStatus(s *ike.Status) *control.IPsec {
	now := time.Now()
	c := &control.IPsec{
		UDPEncapsulation: !s.Raw, IKE: []control.IKESA{}, Child: []control.ChildSA{},
		Established: s.Established, IKERekeys: s.IKERekeys, ChildRekeys: s.ChildRekeys, Expired: s.Expired, Retransmits: s.Retransmits, TimedOut: s.TimedOut,
		Refused: s.Refused, Lost: s.Lost, CookiesSent: s.CookiesSent, HalfOpen: s.HalfOpen, KeyLogged: s.KeyLogged, Why: s.Why(now), Problem: s.Refusal(now), Cause: string(s.CauseNow(now)), PeerSays: s.PeerSays, Overdue: s.Overdue(now),
		CertificateExpiresS: secondsUntil(now, s.CertificateExpires), PeerCertificateExpiresS: secondsUntil(now, s.PeerCertificateExpires),
		CertificateIssuer: s.CertificateIssuer, PeerCertificateIssuer: s.PeerCertificateIssuer,
	}
	for _, x := range s.IKE {
		c.IKE = append(c.IKE, control.IKESA{
			InitiatorSPI: fmt.Sprintf("%016x", x.InitiatorSPI), ResponderSPI: fmt.Sprintf("%016x", x.ResponderSPI), State: x.State, Initiator: x.Initiator,
			Proposal: x.Proposal, LocalID: x.LocalID, RemoteID: x.RemoteID, PeerAuth: x.PeerAuth,
			AgeS: age(now, x.Established), RekeyInS: secondsUntil(now, x.RekeyAt), EndsInS: secondsUntil(now, x.EndsAt),
		})
	}
	for _, x := range s.Child {
		c.Child = append(c.Child, control.ChildSA{
			InSPI: fmt.Sprintf("%08x", x.InSPI), OutSPI: fmt.Sprintf("%08x", x.OutSPI), State: x.State, Proposal: x.Proposal,
			LocalTS: x.LocalTS, RemoteTS: x.RemoteTS, AgeS: age(now, x.Established), RekeyInS: secondsUntil(now, x.RekeyAt), EndsInS: secondsUntil(now, x.EndsAt),
			InPackets: x.InPackets, InBytes: x.InBytes, OutPackets: x.OutPackets, OutBytes: x.OutBytes,
		})
	}
	return c
}

// secondsUntil is null for no time; negative for one that is over.
func secondsUntil(now, t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	s := int64(t.Sub(now) / time.Second)
	return &s
}

func age(now, t time.Time) uint64 {
	if t.IsZero() || now.Before(t) {
		return 0
	}
	return uint64(now.Sub(t) / time.Second)
}

// ipsecAdvice is the command that tells more of what keeps an IPsec tunnel down. What
// has to be alike is at two ends, and only one of them is here.
func ipsecAdvice(t TunnelView, underlay string, now time.Time) string {
	grep := func(keys string) string {
		return "grep -nE '" + keys + "' /etc/transitd/*.yaml # at both ends"
	}
	switch t.IPsec.CauseNow(now) {
	case ike.CauseSilence:
		return fmt.Sprintf("tcpdump -c 10 -ni %s host %s and udp # does it go out, does an answer come? The same at the peer", underlay, t.Plan.Pump.Remote.Addr())
	case ike.CausePassive:
		return "grep -n initiate /etc/transitd/*.yaml # at both ends: one has to begin"
	case ike.CauseRefused:
		return "transitctl tunnel " + t.Plan.Name + " # and at the peer (strongSwan: swanctl --log), which knows why it refuses"
	case ike.CauseSecret:
		return `head -n1 PSK_FILE | tr -d '\r\n' | cksum # at both ends: the same two numbers? Then transitctl reload`
	case ike.CauseMethod:
		return grep("psk_file|cert_file")
	case ike.CausePPK:
		return grep("ppk_id|ppk_file")
	case ike.CauseIdentity:
		return grep("local_id|remote_id") + ": each one's local_id is the other's remote_id"
	case ike.CauseCertificate:
		return "openssl x509 -noout -subject -issuer -dates -ext subjectAltName -in CERT_FILE # at the peer; and timedatectl at both ends"
	case ike.CauseProposals:
		return grep("_proposals") + ": one of each has to be the same"
	case ike.CauseSelectors:
		return grep("local_ts|remote_ts") + ": each one's local_ts is the other's remote_ts"
	case ike.CauseOther:
	}
	return "transitctl tunnel " + t.Plan.Name
}

// rekeyWarning says that keys are older than they should be, and what will come of it.
func rekeyWarning(t TunnelView, now time.Time) string {
	if t.IPsec == nil {
		return ""
	}
	if w := t.IPsec.Overdue(now); w != "" {
		return fmt.Sprintf("tunnel %s: %s", t.Plan.Name, w)
	}
	return ""
}

// certificateSoon is when an operator should see to a certificate.
const certificateSoon = 14 * 24 * time.Hour

// certificateWarnings say that our certificate and the peer's end soon, or what they
// rest on, with the command for each.
func certificateWarnings(t TunnelView, now time.Time) (list []control.Advice) {
	if t.IPsec == nil {
		return nil
	}
	for _, c := range []struct {
		whose, issuer string
		from, until   time.Time
		then, run     string
	}{
		{"our certificate", t.IPsec.CertificateIssuer, t.IPsec.CertificateStarts, t.IPsec.CertificateExpires, "no new IKE SA can be made from then on", "transitctl tunnel # then renew it and transitctl reload"},
		{"the peer's certificate", t.IPsec.PeerCertificateIssuer, time.Time{}, t.IPsec.PeerCertificateExpires, "what it authenticated ends then, and the tunnel goes down", "transitctl tunnel # then renew it at the peer, and have it loaded there"},
	} {
		what, day := control.CertificateThatEnds(c.whose, c.issuer), func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
		switch {
		case now.Before(c.from):
			what = fmt.Sprintf("%s is valid only from %s on: no IKE SA can be made", c.whose, day(c.from))
		case c.until.IsZero() || c.until.Sub(now) > certificateSoon:
			continue
		case now.After(c.until):
			what = fmt.Sprintf("%s ended on %s: no new IKE SA can be made", what, day(c.until))
		default:
			what = fmt.Sprintf("%s ends on %s: %s", what, day(c.until), c.then)
		}
		list = append(list, control.Advice{Warning: fmt.Sprintf("tunnel %s: %s", t.Plan.Name, what), Run: c.run})
	}
	return list
}

// certificateNotes say of certificates in files when they are not valid. The
// daemon starts with them: its other tunnels work.
func certificateNotes(p *Plan, now time.Time) (notes []string) {
	for _, t := range p.Tunnels {
		if t.IPsec == nil {
			continue
		}
		for i, c := range slices.Concat(t.IPsec.Certificates, t.IPsec.Authorities) {
			what := "ca_file"
			if i < len(t.IPsec.Certificates) {
				what = "cert_file"
			}
			name := auth.SubjectOf(c).String()
			switch {
			case now.Before(c.NotBefore):
				notes = append(notes, fmt.Sprintf("tunnel %s: %s: %s is valid only from %s on: the peer will refuse it until then", t.Name, what, name, c.NotBefore.UTC().Format(time.DateTime)))
			case now.After(c.NotAfter):
				notes = append(notes, fmt.Sprintf("tunnel %s: %s: %s ended at %s: no IKE SA can be made with it", t.Name, what, name, c.NotAfter.UTC().Format(time.DateTime)))
			case c.NotAfter.Sub(now) < certificateSoon:
				notes = append(notes, fmt.Sprintf("tunnel %s: %s: %s ends at %s", t.Name, what, name, c.NotAfter.UTC().Format(time.DateTime)))
			}
		}
	}
	return notes
}
