package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A State is a session's state (RFC 4271, section 8.2.2).
type State uint8

// The states of a session. Idle is also a neighbour that is refused for a while.
const (
	Idle State = iota
	Connect
	Active
	OpenSent
	OpenConfirm
	Established
)

// Messages counts messages by type.
type Messages struct {
	Open         uint64 `json:"open"`
	Update       uint64 `json:"update"`
	Notification uint64 `json:"notification"`
	Keepalive    uint64 `json:"keepalive"`
	RouteRefresh uint64 `json:"route_refresh"`
}

// Status is the speaker as a whole.
type Status struct {
	ASN      uint32       `json:"asn"`
	RouterID netip.Addr   `json:"router_id"`
	Prefixes int          `json:"prefixes"`
	Rejected uint64       `json:"rejected_connections"`
	Peers    []PeerStatus `json:"peers"`
}

// PeerStatus is one neighbour. Counters run from the start of the speaker, over all sessions.
type PeerStatus struct {
	Name  string     `json:"name"`
	Addr  netip.Addr `json:"address"`
	ASN   uint32     `json:"asn"`
	State State      `json:"state"`
	// Since is when the session was established; zero if it is not.
	Since time.Time `json:"since,omitzero"`
	// HoldTime is the negotiated one, 0 if there is no session.
	HoldTime time.Duration `json:"hold_time_ns"`
	// RouterID is the neighbour's, as its last OPEN said.
	RouterID netip.Addr `json:"router_id"`
	// Capabilities are those of its last OPEN, in words.
	Capabilities []string `json:"capabilities"`
	// Sessions counts how often the session was established.
	Sessions uint64   `json:"sessions"`
	In       Messages `json:"in"`
	Out      Messages `json:"out"`
	// PrefixesIn is the size of the Adj-RIB-In, PrefixesOut of the Adj-RIB-Out.
	PrefixesIn  int `json:"prefixes_in"`
	PrefixesOut int `json:"prefixes_out"`
	// Dropped counts received routes that were not kept, by reason.
	Dropped Dropped `json:"dropped"`
	// LimitExceeded counts sessions that ended because of MaxPrefixes.
	LimitExceeded uint64 `json:"limit_exceeded"`
	// LastError says why the last session or attempt ended; empty if none did.
	LastError string `json:"last_error"`
}

// Dropped counts received routes that were not kept, by reason.
type Dropped struct {
	// ASLoop: the speaker's own AS is in the path. Silent, as a Route Server is.
	ASLoop uint64 `json:"as_loop"`
	// Import: the Import hook refused it.
	Import uint64 `json:"import"`
	// Malformed: treated as withdrawn (RFC 7606).
	Malformed uint64 `json:"malformed"`
	// Family: neither asked for nor understood (IPv6).
	Family uint64 `json:"family"`
}

// String returns the RFC's name of the state.
func (s State) String() string {
	names := [...]string{"Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("unknown(%d)", uint8(s))
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name.
func (s *State) UnmarshalText(b []byte) error {
	for v := Idle; v <= Established; v++ {
		if v.String() == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("speaker: unknown state %q", b)
}

// Status returns the state of all neighbours, in the order of the configuration.
func (s *Speaker) Status() Status {
	out := Status{ASN: s.cfg.ASN, RouterID: s.cfg.RouterID, Prefixes: s.rib.size(), Rejected: s.rejected.Load()}
	for _, p := range s.peers {
		out.Peers = append(out.Peers, p.stats.status(p.cfg))
	}
	return out
}

// peerStats is what Status shows of a neighbour.
type peerStats struct {
	// Atomic.
	in, out                  messageCounters
	prefixesIn, prefixesOut  atomic.Int64
	asLoop, importRefused    atomic.Uint64
	malformed, foreignFamily atomic.Uint64
	sessions, limitExceeded  atomic.Uint64

	mu        sync.Mutex // guards what follows
	current   State
	since     time.Time
	hold      time.Duration
	routerID  netip.Addr
	caps      []string
	lastError string
}

// messageCounters counts by message type, which is the index.
type messageCounters [TypeRouteRefresh + 1]atomic.Uint64

func (c *messageCounters) add(t MessageType) { c[t].Add(1) }

func (c *messageCounters) messages() Messages {
	return Messages{
		Open:         c[TypeOpen].Load(),
		Update:       c[TypeUpdate].Load(),
		Notification: c[TypeNotification].Load(),
		Keepalive:    c[TypeKeepalive].Load(),
		RouteRefresh: c[TypeRouteRefresh].Load(),
	}
}

func (s *peerStats) state() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// setState reports whether the state is another one than before.
func (s *peerStats) setState(state State) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == state {
		return false
	}
	s.current = state
	if state != Established {
		s.since, s.hold = time.Time{}, 0
	}
	return true
}

func (s *peerStats) established(now time.Time, hold time.Duration) {
	s.sessions.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.hold = now, hold
}

func (s *peerStats) opened(o *Open) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routerID, s.caps = o.RouterID, nil
	for _, c := range o.Capabilities {
		s.caps = append(s.caps, c.String())
	}
}

func (s *peerStats) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError = err.Error()
}

func (s *peerStats) status(cfg Peer) PeerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return PeerStatus{
		Name: cfg.Name, Addr: cfg.Addr, ASN: cfg.ASN,
		State: s.current, Since: s.since, HoldTime: s.hold,
		RouterID: s.routerID, Capabilities: slices.Clone(s.caps),
		Sessions: s.sessions.Load(), LimitExceeded: s.limitExceeded.Load(),
		In: s.in.messages(), Out: s.out.messages(),
		PrefixesIn: int(s.prefixesIn.Load()), PrefixesOut: int(s.prefixesOut.Load()),
		Dropped: Dropped{
			ASLoop: s.asLoop.Load(), Import: s.importRefused.Load(),
			Malformed: s.malformed.Load(), Family: s.foreignFamily.Load(),
		},
		LastError: s.lastError,
	}
}
