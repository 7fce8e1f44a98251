package control

// Explanation is the answer of /v1/explain: why packets to a destination go
// where they go, from the BGP messages down to the kernel's lookup.
type Explanation struct {
	Version
	// Target is what was asked for; Prefix the prefix that BGP knows for it, empty if none.
	Target string `json:"target"`
	Prefix string `json:"prefix,omitempty"`
	// Received are the candidates for Prefix, the best one first.
	Received []BGPRoute `json:"received"`
	// Why says why the best one is the best; empty without candidates.
	Why string `json:"why,omitempty"`
	// Announced says for each neighbour whether it is told, and by which rule.
	Announced []BGPRoute `json:"announced"`
	// Refused is set if the kernel's plan left the prefix out.
	Refused *RefusedRoute `json:"refused,omitempty"`
	// Lookups are the kernel's own answers for packets from everywhere.
	Lookups []Lookup `json:"lookups"`
	// Outer is the way of the encapsulated packet, for each tunnel that a lookup leads into.
	Outer []OuterPath `json:"outer,omitempty"`
	// Story is the same in sentences.
	Story []string `json:"story"`
}

// Lookup is the kernel's answer for one kind of packet.
type Lookup struct {
	// From says where the packet comes from: "eth0", "tr0" or "this host".
	From string `json:"from"`
	// Result is "unicast", "local", "unreachable", …; "error" if the kernel could not be asked.
	Result  string `json:"result"`
	Prefix  string `json:"prefix,omitempty"`
	Table   string `json:"table,omitempty"`
	Device  string `json:"device,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	Source  string `json:"source,omitempty"`
	Error   string `json:"error,omitempty"`
}

// OuterPath is the way of a tunnel's encapsulated packets.
type OuterPath struct {
	Tunnel        string `json:"tunnel"`
	Encapsulation string `json:"encapsulation"`
	Local         string `json:"local"`
	Remote        string `json:"remote"` // address and UDP port
	Lookup        Lookup `json:"lookup"`
}
