package bgp

import (
	"net/netip"
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

// engine is the protocol machine of one neighbor: all its sessions, and one
// set of routes that every session is told. Its methods are called by the
// owner only. Events arrive at the sink it was made with, in order, and never
// from inside one of its methods.
type engine interface {
	// announce adds routes or replaces those of the same prefix. A route that
	// is there already, unchanged, must not be given: it would be sent again.
	announce([]policy.Route) error
	// withdraw removes the routes of these prefixes.
	withdraw([]netip.Prefix) error
	// recycle drops a session, if it is up, and starts it afresh at once.
	recycle(peer netip.Addr) error
	// refreshes counts the ROUTE-REFRESH messages that the peers have sent; each
	// was answered with all that is announced.
	refreshes() uint64
	// stop sends Cease to all peers and returns when the engine's goroutines have ended.
	stop()
}

// engines makes the engine of a neighbor. It holds what the engines of one
// speaker share; only the owner uses it.
type engines interface {
	start(c Config, n Neighbor, to sink) (engine, error)
}

// sink is where an engine's events go.
type sink struct {
	// event may block until the owner takes it.
	event func(event)
	// knock tells that the peer opened a connection which was refused because
	// the session exists or rests. It never blocks: the engine may hold locks.
	knock func(peer netip.Addr)
	// malformed tells that an UPDATE of the peer had a malformed attribute and was
	// taken as a withdrawal. It never blocks.
	malformed func(peer netip.Addr)
	// stranger tells that an address tried to connect that is none of this
	// engine's peers. It never blocks.
	stranger func(addr netip.Addr)
}

// event is something that happened on a session: exactly one of the parts is set.
type event struct {
	from *neighbor // filled in by the sink
	peer netip.Addr

	state   *stateChange
	updates []update
	eor     bool // End-of-RIB (RFC 4724, section 2): the peer has told all it has
	knock   bool
	// malformed: an UPDATE was taken as a withdrawal.
	malformed bool
}

type stateChange struct {
	state  State
	reason string // why a session ended, as the engine words it
	// restart is how long the peer may be away and go on forwarding, as it said
	// when the session was established (RFC 4724); 0: it does not.
	restart time.Duration
	// forwarding: it is back from a restart and has gone on forwarding (the F bit).
	forwarding bool
	// limited: the peer told more than it may (max_prefixes).
	limited bool
	// notified: the session ended with a NOTIFICATION, so this is no restart.
	notified bool
}

// update is one route that a peer announced, or withdrew.
type update struct {
	route     policy.Route // only Prefix counts in a withdrawal
	withdrawn bool
}

// State is a session's state (RFC 4271, section 8.2.2).
type State uint8

// The states, in the order in which a session passes them.
const (
	Idle State = iota
	Connect
	Active
	OpenSent
	OpenConfirm
	Established
)

// String is the state as the API shows it.
func (s State) String() string {
	names := [...]string{"idle", "connect", "active", "open-sent", "open-confirm", "established"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown"
}
