package bfd

import (
	"strconv"
	"time"
)

// State is the state of one end of a session; the numbers are those on the wire (RFC 5880, section 4.1).
type State uint8

const (
	AdminDown State = iota // held down on purpose
	Down                   // nothing is heard from the peer, or it hears nothing from us
	Init                   // the peer is heard and does not hear us yet
	Up                     // both hear each other
)

func (s State) String() string {
	switch s {
	case AdminDown:
		return "admin-down"
	case Down:
		return "down"
	case Init:
		return "init"
	case Up:
		return "up"
	}
	return "state " + strconv.Itoa(int(s)) // two bits on the wire: only by a conversion in Go
}

// Diagnostic is why a session last went down; 0 to 31 on the wire (RFC 5880, section 4.1).
type Diagnostic uint8

const (
	NoDiagnostic Diagnostic = iota
	DetectionTimeExpired
	EchoFailed
	NeighborSignaledDown
	ForwardingPlaneReset
	PathDown
	ConcatenatedPathDown
	AdministrativelyDown
	ReverseConcatenatedPathDown
)

func (d Diagnostic) String() string {
	switch d {
	case NoDiagnostic:
		return "none"
	case DetectionTimeExpired:
		return "control detection time expired"
	case EchoFailed:
		return "echo function failed"
	case NeighborSignaledDown:
		return "neighbor signaled session down"
	case ForwardingPlaneReset:
		return "forwarding plane reset"
	case PathDown:
		return "path down"
	case ConcatenatedPathDown:
		return "concatenated path down"
	case AdministrativelyDown:
		return "administratively down"
	case ReverseConcatenatedPathDown:
		return "reverse concatenated path down"
	}
	return "diagnostic " + strconv.Itoa(int(d))
}

// Change is one change of a session's state.
type Change struct {
	From, To   State
	Diagnostic Diagnostic // ours, of the state gone to
	// PeerAdminDown says that the session went down because the peer's
	// operator wanted it to. That is no failure of the path, and must not be
	// taken for one (RFC 5882, section 3.2).
	PeerAdminDown bool
	At            time.Time
}

// Failure reports whether the path was lost: the session was up, and neither end took it down on purpose.
func (c Change) Failure() bool { return c.From == Up && c.To == Down && !c.PeerAdminDown }
