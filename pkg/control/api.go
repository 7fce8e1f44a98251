package control

import "github.com/transitd/transitd/pkg/events"

// SchemaVersion is the value of schema_version in every answer.
const SchemaVersion = 1

// Version is embedded at the top of every answer.
type Version struct {
	SchemaVersion int `json:"schema_version"`
}

// V1 is the Version of this package.
func V1() Version { return Version{SchemaVersion: SchemaVersion} }

// Health is the node's state in one word.
type Health string

// The values of Health.
const (
	HealthOK       Health = "ok"       // everything that is configured works
	HealthDegraded Health = "degraded" // traffic passes, but something configured does not work: see Warnings
	HealthDown     Health = "down"     // no tunnel or no BGP session at all works
)

// The values of Tunnel.State.
const (
	TunnelUp   = "up"   // the device is there and the peer is resolved
	TunnelDown = "down" // anything else
)

// SessionEstablished is the State of a BGP session that works; every other value means that it does not.
const SessionEstablished = "established"

// Status is one screen about the node: "transitctl status".
type Status struct {
	Version
	Node    Node        `json:"node"`
	Health  Health      `json:"health"`
	Tunnels []Tunnel    `json:"tunnels"`
	BGP     []Session   `json:"bgp"`
	Routes  RouteCounts `json:"routes"`
	Loops   Loops       `json:"loops"`
	// Refused counts what was turned away at the node's own doors since the start.
	Refused Refused `json:"refused"`
	Drain   Drain   `json:"drain"`
	// Budgets says for each Route Server how many routes it takes, and how many it has.
	Budgets  []Budget `json:"budgets"`
	Warnings []string `json:"warnings"`
	// Advice has an entry for each warning that a command can tell more about.
	Advice []Advice `json:"advice"`
}

// Budget is what one Route Server takes of the routes that this node announces.
type Budget struct {
	RouteServer string `json:"route_server"`
	// Level is "ok", "warning" (from 80 % on) or "exceeded".
	Level string `json:"level"`
	Used  int    `json:"used"`
	Limit int    `json:"limit"` // half of what ends the session: an update counts on top of what stands
	// Aggregated counts routes that an aggregate stands for.
	Aggregated int `json:"aggregated"`
	// Held says that there are too many routes, so that the last set that fitted is kept.
	Held   bool   `json:"held"`
	Reason string `json:"reason,omitempty"`
}

// Advice is the next step after a warning.
type Advice struct {
	Warning string `json:"warning"`
	Run     string `json:"run"` // a command for a shell on the node
}

// Readiness says whether a packet of the other side would be carried now.
type Readiness struct {
	Version
	Ready bool `json:"ready"`
	// Reasons says why not, one sentence each; empty if Ready.
	Reasons []string `json:"reasons"`
}

// Events is the answer of /v1/events without follow.
type Events struct {
	Version
	Events []events.Event `json:"events"` // oldest first
}

// The values of Drain.State.
const (
	DrainNone      = "none"      // carrying traffic as ever
	DrainAvoid     = "avoid"     // routes are prepended, waiting for traffic to leave
	DrainWithdrawn = "withdrawn" // routes are withdrawn, waiting for the last packets
	DrainDone      = "drained"   // see Safe
)

// Drain says whether the node is on its way out of the traffic: planned work.
type Drain struct {
	State string `json:"state"`
	// Safe says that nothing is forwarded any more: the node can be stopped.
	Safe bool   `json:"safe"`
	Note string `json:"note,omitempty"`
}

// Drained is the answer of /v1/drain and /v1/undrain.
type Drained struct {
	Version
	Drain Drain `json:"drain"`
}

// BFD is a tunnel's BFD session.
type BFD struct {
	State      string `json:"state"` // "admin-down", "down", "init" or "up"
	IntervalUS uint64 `json:"interval_us"`
	DetectUS   uint64 `json:"detect_us"`
	Flaps      uint64 `json:"flaps"`
}

// Node says who answers.
type Node struct {
	Name    string `json:"name"`
	ASN     uint32 `json:"asn"`
	Site    string `json:"site"`
	Version string `json:"version"`
	UptimeS uint64 `json:"uptime_s"`
}

// Tunnel is one tunnel. Packets and bytes are inner IP packets since the daemon's start.
type Tunnel struct {
	Name          string `json:"name"`
	Encapsulation string `json:"encapsulation"`
	State         string `json:"state"`
	Remote        string `json:"remote"`
	// MTU is the largest inner packet now, in bytes; MTUConfigured the most that it can become.
	MTU           int `json:"mtu"`
	MTUConfigured int `json:"mtu_configured"`
	// Path is what is known of the path's MTU.
	Path PathMTU `json:"path"`
	// RTTMicros (the median) and Loss (0 to 1, of round trips) are of the last 60 probes; null if nothing has answered.
	RTTMicros *uint64  `json:"rtt_us"`
	Loss      *float64 `json:"loss"`
	// Quality tells more of the same; null as well.
	Quality   *Quality `json:"quality"`
	TXPackets uint64   `json:"tx_packets"`
	TXBytes   uint64   `json:"tx_bytes"`
	RXPackets uint64   `json:"rx_packets"`
	RXBytes   uint64   `json:"rx_bytes"`
	// Drops has the reasons with a count above zero; the names are those of tunnel.DropReason.
	Drops map[string]uint64 `json:"drops"`
	// BFD is null where it is not used.
	BFD *BFD `json:"bfd"`
	// WireGuard is null for other encapsulations.
	WireGuard *WireGuard `json:"wireguard"`
	// IPsec is null for other encapsulations.
	IPsec *IPsec `json:"ipsec"`
	// Rebuilt counts how often the device had to be made anew because it had vanished.
	Rebuilt uint64 `json:"rebuilt"`
}

// Quality is what the last probes of a tunnel say.
type Quality struct {
	// Method is "stamp" (RFC 8762) or "icmp".
	Method   string `json:"method"`
	Sent     int    `json:"sent"`
	Received int    `json:"received"`
	MinUS    uint64 `json:"rtt_min_us"`
	P99US    uint64 `json:"rtt_p99_us"`
	LastUS   uint64 `json:"rtt_last_us"`
	// What we send (there) and what the peer sends (back), by itself; null with "icmp".
	There *OneWay `json:"there"`
	Back  *OneWay `json:"back"`
}

// OneWay is one direction through a tunnel.
type OneWay struct {
	Loss     float64 `json:"loss"` // 0 to 1
	JitterUS uint64  `json:"jitter_us"`
}

// PathMTU says how a tunnel's MTU was found.
type PathMTU struct {
	// State is "unconfirmed", "base", "searching", "complete" or "lost" (RFC 8899, section 5.2).
	State string `json:"state"`
	// Method is "probe", "echo" or "none".
	Method string `json:"method"`
	// PeerMTU is what the peer uses towards us, 0 if it does not tell.
	PeerMTU int `json:"peer_mtu,omitempty"`
}

// WireGuard is what a tunnel's handshakes came to. There are no secrets in it.
type WireGuard struct {
	PublicKey     string `json:"public_key"` // ours, of the last handshake
	PeerPublicKey string `json:"peer_public_key"`
	// HandshakeAgeS is null before the first one. After RekeyAfterS there is a new
	// one, after RejectAfterS nothing is carried any more.
	HandshakeAgeS   *uint64 `json:"handshake_age_s"`
	RekeyAfterS     uint64  `json:"rekey_after_s"`
	RejectAfterS    uint64  `json:"reject_after_s"`
	Handshakes      uint64  `json:"handshakes"`
	Unanswered      uint64  `json:"unanswered"` // of ours
	Refused         uint64  `json:"refused"`    // messages of handshakes
	CookiesSent     uint64  `json:"cookies_sent"`
	CookiesReceived uint64  `json:"cookies_received"`
	KeyLogged       bool    `json:"key_logged"`
	// Why says why the tunnel is not up.
	Why string `json:"why,omitempty"`
}

// Session is one BGP session.
type Session struct {
	Peer      string `json:"peer"`
	Name      string `json:"name"`
	Role      string `json:"role"` // "route-server" or "tunnel"
	ASN       uint32 `json:"asn"`
	State     string `json:"state"` // RFC 4271, section 8.2.2, in lower case
	Received  int    `json:"received"`
	Accepted  int    `json:"accepted"` // of the received ones, by the policy
	Announced int    `json:"announced"`
	// UptimeS is the time in Established, 0 in any other state.
	UptimeS uint64 `json:"uptime_s"`
	// Malformed counts UPDATEs with malformed attributes, which were taken as withdrawals (RFC 7606).
	Malformed uint64 `json:"malformed"`
	// Flaps counts how often it left Established.
	Flaps uint64 `json:"flaps"`
	// LastError is why the session ended last; empty if it never did.
	LastError string `json:"last_error,omitempty"`
}

// RouteCounts are numbers of routes in the kernel.
type RouteCounts struct {
	Site   int `json:"site"`
	Remote int `json:"remote"`
	// Repaired counts routes and rules that another program had removed or changed.
	Repaired uint64 `json:"repaired"`
}

// Loops are packets that entered a tunnel again and again, each time with a lower
// TTL: of one packet in sixteen, and since the devices were made.
type Loops struct {
	Detected uint64 `json:"detected"`
	// Tunnels are those with any.
	Tunnels []TunnelLoop `json:"tunnels"`
}

// TunnelLoop is what is known of a loop that a tunnel was part of.
type TunnelLoop struct {
	Tunnel   string `json:"tunnel"`
	Detected uint64 `json:"detected"`
	// Now says that there were some in the last minute.
	Now         bool   `json:"now"`
	Source      string `json:"source"` // of the last one
	Destination string `json:"destination"`
	// Route is the prefix that leads into the tunnel, empty if it is gone, and Neighbor who told it.
	Route    string `json:"route"`
	Neighbor string `json:"neighbor"`
}

// LoopReport is the answer of "transitctl loops".
type LoopReport struct {
	Version
	Loops
}

// Refused counts what was turned away since the start.
type Refused struct {
	// Control counts requests on this socket that were garbage, unknown or too slow.
	Control uint64 `json:"control"`
	// BGP counts connections to the BGP port from addresses that are no neighbours.
	BGP uint64 `json:"bgp"`
}

// Tunnels is the answer of /v1/tunnels.
type Tunnels struct {
	Version
	Tunnels []Tunnel `json:"tunnels"`
}

// Sessions is the answer of /v1/bgp.
type Sessions struct {
	Version
	ASN uint32    `json:"asn"`
	BGP []Session `json:"bgp"`
}

// Direction says which side of a session is asked for.
type Direction string

// The values of Direction.
const (
	DirectionReceived  Direction = "received"
	DirectionAnnounced Direction = "announced"
)

// BGPRoutesQuery chooses the rows of BGPRoutes.
type BGPRoutesQuery struct {
	Direction Direction
	// Peer is a neighbour's name or a session's address; empty means all.
	Peer string
}

// BGPRoutes is the answer of /v1/bgp/routes.
type BGPRoutes struct {
	Version
	Direction Direction  `json:"direction"`
	Routes    []BGPRoute `json:"routes"`
}

// BGPRoute is one route of one neighbour, with what the policy decided about it.
type BGPRoute struct {
	Prefix   string `json:"prefix"`
	Neighbor string `json:"neighbor"`
	// Peer is the session a received route came from; empty for announced routes, which all
	// sessions of a neighbour get alike.
	Peer    string   `json:"peer,omitempty"`
	NextHop string   `json:"next_hop,omitempty"`
	ASPath  []uint32 `json:"as_path"`
	// Communities holds RFC 1997 ("65535:65282") and RFC 8092 ("64512:1:2") communities.
	Communities []string `json:"communities,omitempty"`
	MED         *uint32  `json:"med,omitempty"`
	Accepted    bool     `json:"accepted"`
	// Best is set on the received route that is used for its prefix.
	Best   bool   `json:"best,omitempty"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// Routes is the answer of /v1/routes.
type Routes struct {
	Version
	Routes  []KernelRoute  `json:"routes"`
	Refused []RefusedRoute `json:"refused"`
}

// KernelRoute is a route that transitd keeps in the kernel.
type KernelRoute struct {
	Prefix   string `json:"prefix"`
	Table    string `json:"table"`    // "underlay", "site" or "remote"
	TableID  uint32 `json:"table_id"` // the kernel's number
	Type     string `json:"type"`     // "unicast" or "unreachable"
	Device   string `json:"device,omitempty"`
	Gateway  string `json:"gateway,omitempty"`
	Source   string `json:"source,omitempty"`
	Neighbor string `json:"neighbor,omitempty"` // who announced it; empty for pins
}

// RefusedRoute is a route that BGP accepted and the kernel's plan did not.
type RefusedRoute struct {
	Prefix string `json:"prefix"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// ReloadRequest is the optional body of /v1/reload.
type ReloadRequest struct {
	// DryRun says what would change and changes nothing.
	DryRun bool `json:"dry_run"`
}

// Reload is the answer of /v1/reload when the new configuration was accepted.
type Reload struct {
	Version
	DryRun bool `json:"dry_run"`
	// Changed is false if the file means what is running already.
	Changed bool `json:"changed"`
	// Changes says what was done, one line each.
	Changes []string `json:"changes"`
	// Routes says, in a dry run, what would be announced and withdrawn, for each neighbour for whom that is anything.
	Routes []RouteChanges `json:"routes,omitempty"`
}

// RouteChanges are what one neighbour would be told.
type RouteChanges struct {
	Neighbor string     `json:"neighbor"`
	Announce []BGPRoute `json:"announce"`
	Withdraw []string   `json:"withdraw"`
	// Reset says that its sessions start anew, so that it forgets everything meanwhile.
	Reset bool `json:"reset"`
}

// Failure is the answer to every request that was not fulfilled.
type Failure struct {
	Version
	Error ErrorBody `json:"error"`
}

// ErrorBody says what went wrong.
type ErrorBody struct {
	// Code is stable and for programs: one of the Code constants.
	Code string `json:"code"`
	// Message is for people.
	Message string `json:"message"`
	// Config lists what is wrong with a configuration file.
	Config []ConfigError `json:"config,omitempty"`
}

// ConfigError is one thing that is wrong with a configuration file, or cannot be applied while running.
type ConfigError struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"msg"`
	Hint    string `json:"hint,omitempty"`
}

// The values of ErrorBody.Code.
const (
	CodeNotFound   = "not_found"          // no such path, or no such neighbour
	CodeMethod     = "method_not_allowed" // the path exists, with another method
	CodeBadRequest = "bad_request"        // a parameter or the body is wrong
	CodeTooLarge   = "too_large"          // the body is larger than 64 KiB
	CodeConfig     = "invalid_config"     // the configuration is not valid or cannot be applied while running; nothing was changed
	CodeStopping   = "stopping"           // the daemon is on its way out
	CodeBusy       = "busy"               // as many ask for this as may
	CodeDown       = "down"               // the tunnel does not work now
	CodeInternal   = "internal"           // the daemon could not do it; see its log
)
