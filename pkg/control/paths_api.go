package control

import (
	"context"
	"io"
	"time"
)

// Prober is the part of a Daemon that looks at paths and packets. Its methods
// work until they are done or ctx is: the server ends it when the client leaves.
type Prober interface {
	// MeasurePath measures what a tunnel's path carries. An empty name is the only tunnel.
	MeasurePath(ctx context.Context, tunnel string, progress func(string)) (PMTU, error)
	// Trace finds the hops to an address and calls each with what it finds, in their order.
	Trace(ctx context.Context, q TraceQuery, each func(TraceStep)) (Trace, error)
	// Capture writes packets as pcapng to w. It writes nothing if it returns an
	// error about the query.
	Capture(ctx context.Context, q CaptureQuery, w io.Writer) (Captured, error)
}

// PMTU is the answer of /v1/pmtu: what the path of a tunnel carries. All lengths
// are in bytes, of IP packets.
type PMTU struct {
	Version
	Tunnel        string `json:"tunnel"`
	Peer          string `json:"peer"` // its underlay address
	Encapsulation string `json:"encapsulation"`
	Overhead      int    `json:"overhead"`
	// Method is "probe" (the peer is transitd: each direction by itself), "echo"
	// (ICMP echo: both in one) or "none" (nothing answers).
	Method     string          `json:"method"`
	RTTMicros  uint64          `json:"rtt_us"`
	Configured int             `json:"mtu_configured"`
	Directions []PathDirection `json:"directions"` // there, back
	MSS        PathMSS         `json:"tcp_mss"`
	// OK says that both directions carry what is configured.
	OK     bool     `json:"ok"`
	Advice []string `json:"advice"`
}

// PathDirection is what one way carries.
type PathDirection struct {
	Direction string `json:"direction"` // "there" or "back"
	From      string `json:"from"`
	To        string `json:"to"`
	Inner     int    `json:"inner_mtu"` // 0: nothing got through
	Outer     int    `json:"outer_mtu"`
	// InUse is the MTU that the sending end uses, 0 if it does not tell.
	InUse int `json:"in_use"`
	// Limit is "own_card", "path", "peer_card" or "unknown"; LimitedBy says it in words.
	Limit     string `json:"limit"`
	LimitedBy string `json:"limited_by"`
	// HopAddress is the router that said so by ICMP, and HopMTU what it said, if one did.
	HopAddress string `json:"hop_address,omitempty"`
	HopMTU     int    `json:"hop_mtu,omitempty"`
}

// PathMSS is the largest segment that TCP gets through the tunnel, in bytes.
type PathMSS struct {
	IPv4 int `json:"ipv4"`
	IPv6 int `json:"ipv6"`
}

// TraceQuery asks for the way to an address.
type TraceQuery struct {
	Target string
	// From is a site, a tunnel, a Route Server or one of the node's own addresses; empty is this host.
	From string
}

// The values of TraceStep.Part.
const (
	TraceKernel = "kernel" // what the kernel decides here
	TraceOuter  = "outer"  // a hop of the underlay, on the way to the tunnel's other end
	TraceInner  = "inner"  // a hop inside
)

// TraceStep is one line of a trace.
type TraceStep struct {
	Part string `json:"part"`
	TTL  int    `json:"ttl,omitempty"`
	// Address is who answered; empty for silence.
	Address   string `json:"address,omitempty"`
	RTTMicros uint64 `json:"rtt_us,omitempty"`
	Reached   bool   `json:"reached,omitempty"` // it is where the packets were meant for
	// Name is what the hop is here: "our own address", "peer of tr0", …
	Name string `json:"name,omitempty"`
	// Text is a sentence: the kernel's decision, or an error of the hop.
	Text string `json:"text,omitempty"`
}

// Trace is the answer of /v1/trace.
type Trace struct {
	Version
	Target string      `json:"target"`
	From   string      `json:"from"`
	Tunnel string      `json:"tunnel,omitempty"` // the one it goes through
	Steps  []TraceStep `json:"steps"`
	// Reached says that the target answered; Loop that a hop came twice.
	Reached bool   `json:"reached"`
	Loop    bool   `json:"loop"`
	Verdict string `json:"verdict"`
}

// Layer says which packets of a tunnel are captured.
type Layer string

// The layers.
const (
	LayerInner     Layer = "inner"     // IP packets inside, as the kernel has them
	LayerOuter     Layer = "outer"     // Ethernet frames on the card between the tunnel's two ends
	LayerDecrypted Layer = "decrypted" // another word for inner
)

// Limits of a capture.
const (
	DefaultCaptureCount    = 10_000
	DefaultCaptureDuration = 60 * time.Second
	DefaultCaptureSnap     = 65_535
	MaxCaptureCount        = 1_000_000
	MaxCaptureDuration     = 10 * time.Minute
	MaxCaptureSnap         = 262_144
	MaxCaptureBytes        = 64 << 20 // of the stream
)

// CaptureQuery asks for packets. Zero values are the defaults.
type CaptureQuery struct {
	Tunnel   string // empty is the only one
	Layer    Layer
	Filter   string // tcpdump's language, see docs/diagnostics-paths.md
	Count    int
	Duration time.Duration
	Snap     int // bytes of each packet
}

// Captured says how a capture ended.
type Captured struct {
	Packets uint64
	Bytes   uint64 // of the stream
	Dropped uint64 // by the kernel, because nobody took them in time
	// Ended is "count", "duration", "bytes", "client" or "stopped".
	Ended string
}
