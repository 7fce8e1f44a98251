package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) ipsecCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ipsec", Short: "Replace or delete the security associations of an IPsec tunnel", Args: noArgs,
		Long: "transitctl tunnel TUNNEL shows them: what was agreed on, their age, what they carried.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

func (a *app) ipsecRekeyCommand() *cobra.Command {
	var ike bool
	cmd := &cobra.Command{
		Use: "rekey [TUNNEL]", Short: "Make new keys for an IPsec tunnel now, without losing a packet",
		Long: "Replaces the CHILD SA pair, which carries packets, or with --ike the IKE SA. The tunnel may be left out if there\n" +
			"is only one. The command returns when the exchange has begun; transitctl tunnel shows what came of it.",
		Args:              oneTunnel("ipsec rekey"),
		ValidArgsFunction: a.complete(1, tunnels),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			d, err := client.Rekey(cmd.Context(), first(args), ike)
			return a.showIPsec(d, err)
		},
	}
	cmd.Flags().BoolVar(&ike, "ike", false, "the IKE SA, and not the CHILD SA")
	return cmd
}

func (a *app) ipsecTerminateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "terminate [TUNNEL]", Short: "Delete all SAs of an IPsec tunnel, and tell the peer",
		Long: "Nothing is carried until there are new ones. With initiate: true, the default, they are made at once; otherwise\n" +
			"the peer has to begin.",
		Args:              oneTunnel("ipsec terminate"),
		ValidArgsFunction: a.complete(1, tunnels),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			d, err := client.Terminate(cmd.Context(), first(args))
			return a.showIPsec(d, err)
		},
	}
}

// oneTunnel wants a tunnel's name, or nothing.
func oneTunnel(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return &usageError{msg: command + " takes one tunnel", hint: "transitctl " + command + " tr0"}
		}
		return nil
	}
}

func (a *app) showIPsec(d control.IPsecDone, err error) error {
	if err != nil {
		return err
	}
	return a.show(d, func() { a.printf("tunnel %s: %s", d.Tunnel, d.Done) })
}

func (a *app) printIPsec(x *control.IPsec) {
	if !x.UDPEncapsulation {
		a.printf("  ESP is IP protocol 50, without UDP; IKE is at UDP port 500")
	}
	for _, s := range x.IKE {
		if s.Proposal == "" || s.PeerAuth == "" {
			a.printf("  IKE SA %s/%s %s", s.InitiatorSPI, s.ResponderSPI, s.State)
			continue
		}
		a.printf("  IKE SA %s/%s %s, %s, %s with %s (%s), %d s old%s", s.InitiatorSPI, s.ResponderSPI, s.State, s.Proposal, s.LocalID, s.RemoteID, s.PeerAuth, s.AgeS, within(s.RekeyInS, s.EndsInS))
	}
	for _, s := range x.Child {
		a.printf("  CHILD SA %s in, %s out, %s, %s, %d s old%s", s.InSPI, s.OutSPI, s.State, s.Proposal, s.AgeS, within(s.RekeyInS, s.EndsInS))
		a.printf("    %s to %s; %d packets in, %d out", join(s.LocalTS), join(s.RemoteTS), s.InPackets, s.OutPackets)
	}
	a.printf("  %d IKE SAs so far, %d replaced; %d CHILD SAs replaced; %d requests sent again, %d IKE SAs given up", x.Established, x.IKERekeys, x.ChildRekeys, x.Retransmits, x.TimedOut)
	a.printf("  %d messages refused, %d at port 500 too many or too long; %d half-open IKE SAs now, %d cookies asked for", x.Refused, x.Lost, x.HalfOpen, x.CookiesSent)
	for _, c := range []struct {
		whose, issuer string
		in            *int64
	}{{"our certificate", x.CertificateIssuer, x.CertificateExpiresS}, {"the peer's certificate", x.PeerCertificateIssuer, x.PeerCertificateExpiresS}} {
		c.whose = control.CertificateThatEnds(c.whose, c.issuer)
		switch {
		case c.in == nil:
		case *c.in < 0:
			a.printf("  %s ended %d days ago", c.whose, -*c.in/86400)
		default:
			a.printf("  %s ends in %d days", c.whose, *c.in/86400)
		}
	}
	if x.Overdue != "" {
		a.printf("  %s", x.Overdue)
	}
	if x.Why != "" {
		a.printf("  not up: %s", x.Why)
	}
	if x.Problem != "" && x.Problem != x.Why {
		a.printf("  lately: %s", x.Problem)
	}
	if x.PeerSays != "" && x.PeerSays != x.Why && x.PeerSays != x.Problem {
		a.printf("  said by the peer: %s", x.PeerSays)
	}
}

// within says when an SA is replaced, or, if that is overdue, when it ends.
func within(rekey, end *int64) string {
	switch {
	case rekey == nil:
		return ""
	case *rekey < 0 && end != nil:
		return fmt.Sprintf(", to be replaced for %d s, ends in %d s", -*rekey, *end)
	}
	return fmt.Sprintf(", replaced in %d s", *rekey)
}

func join(list []string) string { return strings.Join(list, ", ") }
