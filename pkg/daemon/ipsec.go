package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/tunnel/ike"
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
	done := "its SAs are deleted; the peer has to begin anew"
	if t.IPsec.Initiate {
		done = "its SAs are deleted; new ones are being made"
	}
	return control.IPsecDone{Version: control.V1(), Tunnel: t.Name, Done: done}, nil
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
		Established: s.Established, IKERekeys: s.IKERekeys, ChildRekeys: s.ChildRekeys, Retransmits: s.Retransmits, TimedOut: s.TimedOut,
		Refused: s.Refused, Lost: s.Lost, CookiesSent: s.CookiesSent, HalfOpen: s.HalfOpen, KeyLogged: s.KeyLogged, Why: s.Why(now), Problem: s.Refusal(now),
		CertificateExpiresS: secondsUntil(now, s.CertificateExpires), PeerCertificateExpiresS: secondsUntil(now, s.PeerCertificateExpires),
	}
	for _, x := range s.IKE {
		c.IKE = append(c.IKE, control.IKESA{
			InitiatorSPI: fmt.Sprintf("%016x", x.InitiatorSPI), ResponderSPI: fmt.Sprintf("%016x", x.ResponderSPI), State: x.State, Initiator: x.Initiator,
			Proposal: x.Proposal, LocalID: x.LocalID, RemoteID: x.RemoteID, PeerAuth: x.PeerAuth,
			AgeS: age(now, x.Established), RekeyInS: secondsUntil(now, x.RekeyAt),
		})
	}
	for _, x := range s.Child {
		c.Child = append(c.Child, control.ChildSA{
			InSPI: fmt.Sprintf("%08x", x.InSPI), OutSPI: fmt.Sprintf("%08x", x.OutSPI), State: x.State, Proposal: x.Proposal,
			LocalTS: x.LocalTS, RemoteTS: x.RemoteTS, AgeS: age(now, x.Established), RekeyInS: secondsUntil(now, x.RekeyAt),
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

// certificateSoon is when an operator should see to a certificate.
const certificateSoon = 14 * 24 * time.Hour

// certificateWarning says that our certificate, or the peer's, ends soon.
func certificateWarning(t TunnelView, now time.Time) string {
	if t.IPsec == nil {
		return ""
	}
	for _, c := range []struct {
		whose string
		until time.Time
	}{{"our certificate", t.IPsec.CertificateExpires}, {"the peer's certificate", t.IPsec.PeerCertificateExpires}} {
		switch {
		case c.until.IsZero() || c.until.Sub(now) > certificateSoon:
		case now.After(c.until):
			return fmt.Sprintf("tunnel %s: %s ended on %s: no new IKE SA can be made", t.Plan.Name, c.whose, c.until.Format(time.DateOnly))
		default:
			return fmt.Sprintf("tunnel %s: %s ends on %s", t.Plan.Name, c.whose, c.until.Format(time.DateOnly))
		}
	}
	return ""
}
