package ike

import (
	"fmt"
	"net/netip"
	"time"
)

// Status is what an operator wants to know of a tunnel. It has no secrets.
type Status struct {
	Local, Remote netip.AddrPort // the ends, as configured
	Passive       bool           // the peer has to begin

	Up    bool      // there is a pair that carries packets
	Since time.Time // when the machine was made

	IKE   []IKESA
	Child []ChildSA

	Established uint64 // IKE SAs made anew, by either side
	IKERekeys   uint64 // IKE SAs replaced
	ChildRekeys uint64 // pairs replaced
	Expired     uint64 // SAs that ended because they could not be replaced in time
	Retransmits uint64 // requests sent again
	TimedOut    uint64 // IKE SAs given up, because the peer did not answer
	Refused     uint64 // messages that were not what they should be
	Lost        uint64 // messages at port 500 that were too many, or too long; at the other port they are drops of the tunnel
	CookiesSent uint64
	HalfOpen    int
	PeerBegan   uint64    // IKE_SA_INIT requests that came
	Attempts    uint64    // IKE_SA_INIT requests of ours, not counting retransmissions
	Unanswered  uint64    // of them, since the last answer
	LastHeard   time.Time // when the peer last sent something authentic
	NATHere     bool      // a NAT changes our address
	Raw         bool      // ESP is in no UDP
	PeerBeganAt time.Time // when the last of them came
	PeerPPK     bool      // it announced a postquantum preshared key when it last began
	Asked       time.Time // when the request was first sent that the peer has not answered; zero: there is none
	AskedAuth   bool      // it is not IKE_SA_INIT, which was answered
	Problem     string    // the last one that this end has found
	ProblemAt   time.Time
	Cause       Cause  // of it
	PeerSays    string // the last refusal by the peer
	PeerSaidAt  time.Time

	// When ours and the peer's certificate end, or one that they rest on; zero without
	// them. The peer's is the last one that it proved itself by.
	CertificateExpires, PeerCertificateExpires time.Time
	CertificateIssuer, PeerCertificateIssuer   string    // which of the chain ends then; empty: the end's own
	CertificateStarts                          time.Time // when ours begins to be valid

	KeyLogged bool // secrets are being written to a file
}

// IKESA is an IKE SA.
type IKESA struct {
	InitiatorSPI, ResponderSPI uint64
	State                      string // connecting, authenticating, established, replaced, deleting
	Initiator                  bool   // we began it
	Proposal                   string
	LocalID, RemoteID          string
	PeerAuth                   string    // psk, rsa-pss, ecdsa, …
	Established                time.Time // zero: not yet
	RekeyAt                    time.Time
	EndsAt                     time.Time
	Overdue                    bool // it is past its lifetime, and is still there
}

// ChildSA is a pair of CHILD SAs.
type ChildSA struct {
	InSPI, OutSPI        uint32
	State                string // installed, replaced, deleting
	Proposal             string
	LocalTS, RemoteTS    []string
	Established          time.Time
	RekeyAt              time.Time
	EndsAt               time.Time
	Overdue              bool // it is past its lifetime, and is still there
	InPackets, InBytes   uint64
	OutPackets, OutBytes uint64
}

// recent is how long a problem is taken for the reason, and silence how long
// nothing may come before it is called so.
const (
	recent  = time.Minute
	silence = 3 * time.Second
)

// Refusal says what was lately wrong; empty if nothing. What this end has found
// comes before what the peer says: the one that refuses knows more.
func (s *Status) Refusal(now time.Time) string {
	switch {
	case s.Problem != "" && now.Sub(s.ProblemAt) < recent:
		return s.Problem
	case s.PeerSays != "" && now.Sub(s.PeerSaidAt) < recent:
		return s.PeerSays
	}
	return ""
}

// CauseNow is the cause of what Why, or Refusal, says.
func (s *Status) CauseNow(now time.Time) Cause {
	switch {
	case s.Problem != "" && now.Sub(s.ProblemAt) < recent:
		return s.Cause
	case s.PeerSays != "" && now.Sub(s.PeerSaidAt) < recent:
		return CauseRefused
	case s.unanswered(now) || s.arrives(now):
		return CauseSilence
	case !s.Up && s.Passive:
		return CausePassive
	}
	return CauseOther
}

// unanswered reports whether the peer does not answer when we begin.
func (s *Status) unanswered(now time.Time) bool {
	return s.Unanswered > 0 || !s.Asked.IsZero() && now.Sub(s.Asked) >= silence
}

// arrives reports whether the peer has lately begun.
func (s *Status) arrives(now time.Time) bool {
	return s.PeerBegan > 0 && now.Sub(s.PeerBeganAt) < recent
}

// Why says in words why the tunnel is not up, and what to look at; empty if it is.
func (s *Status) Why(now time.Time) string {
	why := s.Refusal(now)
	switch {
	case s.Up:
		return ""
	case why != "" && (s.Cause != CauseSilence || why != s.Problem || !s.unanswered(now)):
		return why
	case s.AskedAuth && now.Sub(s.Asked) >= silence:
		return fmt.Sprintf("%s has answered IKE_SA_INIT, and what follows gets no answer (asked for %d s): the path loses large packets, or the peer has stopped", s.Remote.Addr(), now.Sub(s.Asked)/time.Second)
	case s.unanswered(now) && s.arrives(now):
		return fmt.Sprintf("IKE_SA_INIT of %s arrives here, and ours gets no answer (%s): it does not hear us. UDP port %d is blocked on the way there (a firewall or network security group), or its port is another one than peer_port",
			s.Remote.Addr(), s.tries(now), s.Remote.Port())
	case s.unanswered(now):
		return fmt.Sprintf("no answer to IKE_SA_INIT from %s (%s): the peer is down, UDP port %d is blocked (there, or on the way back), or it has no configuration for our address, %s",
			s.Remote.Addr(), s.tries(now), s.Remote.Port(), s.Local.Addr())
	case s.arrives(now) && s.HalfOpen > 0:
		return fmt.Sprintf("IKE_SA_INIT of %s was answered and nothing follows: it does not hear us (UDP port %d is blocked on the way there), or it does not like the answer%s; its log says which",
			s.Remote.Addr(), s.Remote.Port(), s.withoutPPK())
	case s.PeerBegan == 0 && s.Passive:
		return fmt.Sprintf("nothing has come from %s, which has to begin: initiate is false here. It is false there too, the peer is down, or UDP port %d is blocked on the way here", s.Remote.Addr(), s.Local.Port())
	case s.Passive:
		return fmt.Sprintf("%s has to begin anew (initiate is false here)", s.Remote.Addr())
	}
	return "IKE has not finished"
}

func (s *Status) tries(now time.Time) string {
	if s.Unanswered == 0 {
		return fmt.Sprintf("asked for %d s", now.Sub(s.Asked)/time.Second)
	}
	return fmt.Sprintf("%d attempts", s.Unanswered)
}

func (s *Status) withoutPPK() string {
	if !s.PeerPPK {
		return ""
	}
	return " (it has a postquantum preshared key, and here is none)"
}

// Overdue says that SAs are past their lifetime and could not be replaced; empty if none is.
func (s *Status) Overdue(now time.Time) string {
	why := s.Problem
	if why == "" {
		why = s.PeerSays
	}
	if why != "" {
		why = ": " + why
	}
	for _, x := range s.IKE {
		if x.State == stateEstablished.String() && x.Overdue {
			return fmt.Sprintf("the IKE SA could not be replaced in time and ends in %d s%s", x.EndsAt.Sub(now)/time.Second, why)
		}
	}
	for _, x := range s.Child {
		if x.State == childInstalled.String() && x.Overdue {
			return fmt.Sprintf("CHILD SA %08x could not be replaced in time and ends in %d s: no packet gets through from then until there is a new one%s", x.InSPI, x.EndsAt.Sub(now)/time.Second, why)
		}
	}
	return ""
}

// Status describes the machine.
func (m *Machine) Status() Status {
	s := m.status
	s.Up = m.best() != nil
	s.Local, s.Remote, s.Passive = m.cfg.Local, m.cfg.Remote, !m.cfg.Initiate
	s.KeyLogged = m.cfg.KeyLog != nil
	s.Raw = m.cfg.Raw
	s.HalfOpen = m.count(func(x *ikeSA) bool { return !x.initiator && x.state < stateEstablished })
	for _, x := range m.sas {
		if x.state == stateDead || x.state < stateEstablished && !x.initiator {
			continue
		}
		if s.Asked.IsZero() && x.initiator && x.state < stateEstablished && x.out != nil && x.out.tried > 1 && !x.out.doubted {
			s.Asked, s.AskedAuth = x.out.first, x.state == stateAuth
		}
		i := IKESA{
			InitiatorSPI: x.spii, ResponderSPI: x.spir, State: x.state.String(), Initiator: x.initiator,
			LocalID: m.cfg.LocalID.String(), RemoteID: x.peerID, PeerAuth: x.peerAuth, Established: x.established, RekeyAt: x.renewAt(), EndsAt: x.expireAt,
			Overdue: x.state == stateEstablished && m.now.After(x.overdueAt),
		}
		if x.state >= stateAuth {
			i.Proposal = x.choice.String()
		}
		s.IKE = append(s.IKE, i)
		for _, c := range x.children {
			s.Child = append(s.Child, m.describe(c))
		}
	}
	s.certificates(&m.cfg, m.peer)
	return s
}

func (m *Machine) describe(c *child) ChildSA {
	u, _ := m.e.Usage(c.pair.In.SPI)
	d := ChildSA{
		InSPI: c.pair.In.SPI, OutSPI: c.pair.Out.SPI, State: c.state.String(), Proposal: c.choice.String(), Established: c.born, RekeyAt: c.rekeyAt, EndsAt: c.expireAt,
		Overdue:   m.now.After(c.overdueAt),
		InPackets: u.InPackets, InBytes: u.InBytes, OutPackets: u.OutPackets, OutBytes: u.OutBytes,
	}
	for _, t := range c.local {
		d.LocalTS = append(d.LocalTS, t.String())
	}
	for _, t := range c.remote {
		d.RemoteTS = append(d.RemoteTS, t.String())
	}
	return d
}
