package ike

import (
	"fmt"
	"time"
)

// Status is what an operator wants to know of a tunnel. It has no secrets.
type Status struct {
	Up    bool      // there is a pair that carries packets
	Since time.Time // when the machine was made

	IKE   []IKESA
	Child []ChildSA

	Established  uint64 // IKE SAs made anew, by either side
	IKERekeys    uint64 // IKE SAs replaced
	ChildRekeys  uint64 // pairs replaced
	Retransmits  uint64 // requests sent again
	TimedOut     uint64 // IKE SAs given up, because the peer did not answer
	Refused      uint64 // messages that were not what they should be
	Lost         uint64 // messages at port 500 that were too many, or too long; at the other port they are drops of the tunnel
	CookiesSent  uint64
	HalfOpen     int
	PeerBegan    uint64    // IKE_SA_INIT requests that came
	Attempts     uint64    // IKE_SA_INIT requests of ours, not counting retransmissions
	Unanswered   uint64    // of them, since the last answer
	LastHeard    time.Time // when the peer last sent something authentic
	NATHere      bool      // a NAT changes our address
	Raw          bool      // ESP is in no UDP
	Problem      string    // the last one
	ProblemAt    time.Time
	ProblemStays bool // it is still what keeps the tunnel down

	// Certificates are when ours and the peer's end; zero without them.
	CertificateExpires, PeerCertificateExpires time.Time

	KeyLogged bool // secrets are being written to a file
}

// IKESA is an IKE SA.
type IKESA struct {
	InitiatorSPI, ResponderSPI uint64
	State                      string // connecting, established, rekeyed, deleting
	Initiator                  bool   // we began it
	Proposal                   string
	LocalID, RemoteID          string
	PeerAuth                   string    // psk, rsa-pss, ecdsa, …
	Established                time.Time // zero: not yet
	RekeyAt                    time.Time
}

// ChildSA is a pair of CHILD SAs.
type ChildSA struct {
	InSPI, OutSPI        uint32
	State                string // installed, rekeying, replaced, deleting
	Proposal             string
	LocalTS, RemoteTS    []string
	Established          time.Time
	RekeyAt              time.Time
	InPackets, InBytes   uint64
	OutPackets, OutBytes uint64
}

// recent is how long a problem is taken for the reason.
const recent = time.Minute

// Refusal says what was lately wrong; empty if nothing.
func (s *Status) Refusal(now time.Time) string {
	if s.Problem == "" || now.Sub(s.ProblemAt) >= recent {
		return ""
	}
	return s.Problem
}

// Why says in words why the tunnel is not up, and what to look at; empty if it is.
func (s *Status) Why(now time.Time) string {
	switch {
	case s.Up:
		return ""
	case s.Refusal(now) != "":
		return s.Problem
	case s.Unanswered > 0:
		return fmt.Sprintf("no answer to IKE_SA_INIT (%d attempts): the peer is down, its UDP port is blocked, or it has no configuration for us", s.Unanswered)
	case s.PeerBegan == 0 && s.Attempts == 0:
		return "nothing has come from the peer, which has to begin (initiate: false)"
	}
	return "IKE has not finished"
}

// Status describes the machine.
func (m *Machine) Status() Status {
	s := m.status
	s.Up = m.best() != nil
	s.KeyLogged = m.cfg.KeyLog != nil
	s.Raw = m.cfg.Raw
	s.HalfOpen = m.count(func(x *ikeSA) bool { return !x.initiator && x.state < stateEstablished })
	if len(m.cfg.Certificates) > 0 {
		s.CertificateExpires = m.cfg.Certificates[0].NotAfter
	}
	for _, x := range m.sas {
		if x.state == stateDead || x.state < stateEstablished && !x.initiator {
			continue
		}
		i := IKESA{
			InitiatorSPI: x.spii, ResponderSPI: x.spir, State: x.state.String(), Initiator: x.initiator,
			LocalID: m.cfg.LocalID.String(), RemoteID: x.peerID, PeerAuth: x.peerAuth, Established: x.established, RekeyAt: x.rekeyAt,
		}
		if x.state >= stateAuth {
			i.Proposal = x.choice.String()
		}
		if x.state == stateEstablished && !x.certUntil.IsZero() {
			s.PeerCertificateExpires = x.certUntil
		}
		s.IKE = append(s.IKE, i)
		for _, c := range x.children {
			s.Child = append(s.Child, m.describe(c))
		}
	}
	return s
}

func (m *Machine) describe(c *child) ChildSA {
	u, _ := m.e.Usage(c.pair.In.SPI)
	d := ChildSA{
		InSPI: c.pair.In.SPI, OutSPI: c.pair.Out.SPI, State: c.state.String(), Proposal: c.choice.String(), Established: c.born, RekeyAt: c.rekeyAt,
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
