package config

import "net/netip"

// The comments of this file are the reference: Schema puts them into the JSON
// Schema, and docs/configuration.md is made from them. The tags are the rules:
// json is the key's name, jsonschema says whether a key is required, its range
// and its default. There is no other place for a default.

// Config is one node's whole configuration. Parse returns it with every
// default filled in and every rule checked.
type Config struct {
	// Node says who this NVA is.
	Node Node `json:"node" jsonschema:"required"`
	// Underlay is the network card that carries the outer packets and the BGP sessions to the Route Server.
	Underlay Underlay `json:"underlay" jsonschema:"required"`
	// RouteServers are the Azure Route Servers of this VNet; both instances of one are one entry.
	RouteServers []RouteServer `json:"route_servers,omitempty"`
	// Tunnels lead to the other NVAs, one entry each.
	Tunnels []Tunnel `json:"tunnels,omitempty"`
	// Originate lists prefixes that this node announces on its own account.
	Originate []Origination `json:"originate,omitempty"`
	// Policy holds the facts that the route policy cannot learn by itself.
	Policy Policy `json:"policy,omitzero"`
	// HA holds the keys for several NVAs of one site.
	HA HA `json:"ha,omitzero"`
	// Routing names the tables, the mark and the numbers that transitd uses in the kernel.
	Routing Routing `json:"routing,omitzero"`
	// Control is the socket that transitctl talks to.
	Control Control `json:"control,omitzero"`
	// Observe is the web server of the metrics, the health answers and the status page; it changes nothing.
	Observe Observe `json:"observe"`
	// Log says what is logged and how.
	Log Log `json:"log,omitzero"`
}

// Node says who this NVA is.
type Node struct {
	// Name of the node: letters, digits, dot, dash and underscore. It names the control socket and stands in the logs.
	Name string `json:"name" jsonschema:"required,minLength=1,maxLength=63"`
	// ASN is this node's own autonomous system number. With a Route Server it has to fit 16 bits and must not be reserved by Azure or IANA; 64512 to 65514 is the usual choice.
	ASN uint32 `json:"asn" jsonschema:"required,minimum=1,maximum=4294967294" hint:"an ASN is a plain number without dots; 64512 to 65514 are free for private use"`
	// Site names where the routes of this node's own Route Server come from. A route is never announced back to the site it came from, so two NVAs of one site carry the same name and NVAs of different sites different names.
	Site string `json:"site" jsonschema:"required,minLength=1,maxLength=63" hint:"a short name for where this node's own Route Server gets its routes, such as hub or onprem"`
	// Priority among the NVAs of the site: 0 is the best. NVAs with the same priority share the traffic (ECMP), one with a larger number stands by. It sets how often the own ASN is prepended, towards the Route Servers and the peers alike.
	Priority uint8 `json:"priority" jsonschema:"default=0,minimum=0,maximum=7"`
}

// Underlay is the network card that carries the outer packets and the BGP sessions to the Route Server.
type Underlay struct {
	// Interface is the network card's name; with accelerated networking the netvsc device (eth0), not its virtual function.
	Interface string `json:"interface" jsonschema:"required,minLength=1,maxLength=15" hint:"Linux allows interface names of 1 to 15 bytes"`
	// Address is the card's own address. Read from the card if left out.
	Address netip.Addr `json:"address,omitzero"`
	// Gateway is the subnet's gateway, the first address of an Azure subnet. Read from the card's default route if left out.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// MTU of the underlay in bytes, if it is known to be smaller or larger than what the card says. Read from the card if left out.
	MTU int `json:"mtu,omitzero" jsonschema:"minimum=576,maximum=9000"`
	// UDPSegmentation lets the kernel cut 64 KB into datagrams (UDP_SEGMENT), which is several times faster: `auto` where a self-test passes, `never` if a card or a kernel does it wrongly.
	UDPSegmentation string `json:"udp_segmentation,omitzero" jsonschema:"default=auto,enum=auto,enum=never"`
}

// RouteServer is one Azure Route Server with its two instances.
type RouteServer struct {
	// Name of the neighbour, unique among Route Servers and tunnels.
	Name string `json:"name" jsonschema:"required,minLength=1,maxLength=63"`
	// Addresses of the two instances. Both always get the same routes.
	Addresses []netip.Addr `json:"addresses" jsonschema:"required,minItems=2,maxItems=2" hint:"a Route Server has two instances, and each needs a session"`
	// Subnet is the RouteServerSubnet. It is pinned to the network card and never announced.
	Subnet netip.Prefix `json:"subnet" jsonschema:"required"`
	// ASN of the Route Server. Azure's is always 65515.
	ASN uint32 `json:"asn,omitzero" jsonschema:"default=65515,minimum=1,maximum=4294967294" hint:"an ASN is a plain number without dots; 64512 to 65514 are free for private use"`
	// DefaultRoute says whether a default route may be announced to this Route Server (`deny`, `announce`), or only for the network cards of its VNet and not for its gateways (`no_advertise`, community 65535:65282). It rules 0.0.0.0/0 and its halves 0.0.0.0/1 and 128.0.0.0/1.
	DefaultRoute DefaultRoute `json:"default_route,omitzero" jsonschema:"default=deny,enum=deny,enum=announce,enum=no_advertise"`
	// HoldTime is the hold time of the BGP sessions: 3s to 65535s. A Route Server offers 180 s; the smaller of the two counts.
	HoldTime Duration `json:"hold_time" jsonschema:"default=180s"`
	// NextHop is what is announced in place of this node's own address: that of an internal load balancer with the NVAs of this side behind it.
	NextHop netip.Addr `json:"next_hop,omitzero"`
	// MaxRoutes is the number of routes the Route Server takes of a neighbour; it ends the session if what it has and what comes are more together, so half of them are used.
	MaxRoutes int `json:"max_routes,omitzero" jsonschema:"default=4000,minimum=2,maximum=100000"`
	// MaxGatewayRoutes is the number of prefixes that the VNet's ExpressRoute gateway takes, those of the VNet included: with more the circuit's connection goes down. 0 if the VNet has no gateway.
	MaxGatewayRoutes int `json:"max_gateway_routes" jsonschema:"default=1000,minimum=0,maximum=100000"`
}

// DefaultRoute says whether a default route may be announced to a Route Server.
type DefaultRoute string

// The values of DefaultRoute.
const (
	DefaultRouteDeny        DefaultRoute = "deny"         // never
	DefaultRouteAnnounce    DefaultRoute = "announce"     // as any other route
	DefaultRouteNoAdvertise DefaultRoute = "no_advertise" // with the community NO_ADVERTISE (RFC 1997)
)

// Tunnel leads to one other NVA.
type Tunnel struct {
	// Name of the tunnel and of its Linux interface: at most 15 bytes, unique among Route Servers and tunnels.
	Name string `json:"name" jsonschema:"required,minLength=1,maxLength=15" hint:"Linux allows interface names of 1 to 15 bytes"`
	// Remote is the other NVA's address on the underlay, IPv4 or IPv6. Only packets from it are accepted.
	Remote netip.Addr `json:"remote" jsonschema:"required"`
	// Address is our IPv4 address inside the tunnel, with the prefix length of the overlay (a /30 or /31 is enough).
	Address netip.Prefix `json:"address" jsonschema:"required" prefix:"interface"`
	// PeerAddress is the other NVA's IPv4 address inside the tunnel, of the same subnet. The BGP session runs to it.
	PeerAddress netip.Addr `json:"peer_address" jsonschema:"required"`
	// Address6 is our IPv6 address inside the tunnel, with prefix length, if IPv6 is carried.
	Address6 netip.Prefix `json:"address6,omitzero" prefix:"interface"`
	// PeerAddress6 is the other NVA's IPv6 address inside the tunnel; given exactly if address6 is.
	PeerAddress6 netip.Addr `json:"peer_address6,omitzero"`
	// Encapsulation of the tunnel: `vxlan`, or `wireguard` or `ipsec`, which encrypt.
	Encapsulation Encapsulation `json:"encapsulation,omitzero" jsonschema:"default=vxlan,enum=vxlan,enum=wireguard,enum=ipsec"`
	// MTU is the largest IP packet inside the tunnel, in bytes; at least 1280 with address6. The outer packet is up to 75 bytes (IPv4) or 95 bytes (IPv6) larger and is never fragmented.
	MTU int `json:"mtu,omitzero" jsonschema:"default=1400,minimum=576,maximum=9000" hint:"1400 fits every Azure path; Azure's largest is 9000"`
	// MTUDiscovery says that the MTU follows what the path carries, never beyond mtu: probes to the peer measure it (RFC 8899). With false it is mtu whatever gets through.
	MTUDiscovery bool `json:"mtu_discovery" jsonschema:"default=true"`
	// ProbeInterval is how often a probe measures round trip, loss and jitter: 100ms to 60s, 0 never. It is STAMP (RFC 8762) if the other NVA answers that, and ICMP echo if not.
	ProbeInterval Duration `json:"probe_interval" jsonschema:"default=1s"`
	// DSCP of the outer packets: `copy` from the inner packet, or a fixed value of 0 to 63.
	DSCP DSCP `json:"dscp" jsonschema:"default=copy"`
	// VXLAN holds the keys of the VXLAN encapsulation, which needs them.
	VXLAN VXLAN `json:"vxlan,omitzero"`
	// WireGuard holds the keys of the WireGuard encapsulation, which needs them.
	WireGuard WireGuard `json:"wireguard,omitzero"`
	// IPsec holds the keys of the IPsec encapsulation, which needs them.
	IPsec IPsec `json:"ipsec,omitzero"`
	// BGP is the session to the other NVA, inside the tunnel.
	BGP TunnelBGP `json:"bgp" jsonschema:"required"`
	// BFD is what notices within a second that nothing gets through the tunnel any more.
	BFD BFD `json:"bfd"`
}

// Encapsulation of a tunnel.
type Encapsulation string

// The values of Encapsulation.
const (
	EncapsulationVXLAN     Encapsulation = "vxlan" // RFC 7348 or, with vxlan.gpe, VXLAN-GPE
	EncapsulationWireGuard Encapsulation = "wireguard"
	EncapsulationIPsec     Encapsulation = "ipsec" // ESP (RFC 4303) keyed by IKEv2 (RFC 7296)
)

// VXLAN holds the keys of the VXLAN encapsulation.
type VXLAN struct {
	// VNI is the VXLAN network identifier; both ends have the same.
	VNI uint32 `json:"vni" jsonschema:"required,minimum=1,maximum=16777215" hint:"a VNI has 24 bits, and 0 is not used"`
	// Port is the UDP destination port, at both ends; 4789, or 4790 with gpe, if left out. Never 65330, which Azure's host keeps for itself.
	Port uint16 `json:"port,omitzero" jsonschema:"minimum=1,maximum=65535"`
	// GPE sends VXLAN-GPE: IP packets without an inner Ethernet header, what Cisco's `tunnel mode vxlan-gpe ipv4` speaks.
	GPE bool `json:"gpe" jsonschema:"default=false"`
	// MAC is our inner Ethernet address; 02:00 and the underlay IPv4 address if left out.
	MAC MAC `json:"mac,omitzero"`
	// PeerMAC is the other NVA's inner Ethernet address until ARP or ND has told a better one; 02:00 and its underlay IPv4 address if left out.
	PeerMAC MAC `json:"peer_mac,omitzero"`
}

// WireGuard holds the keys of the WireGuard encapsulation.
type WireGuard struct {
	// PrivateKeyFile holds our private key, in base64, as `transitctl keygen` and `wg genkey` write it; mode 0600.
	PrivateKeyFile string `json:"private_key_file" jsonschema:"required"`
	// PeerPublicKey is the other NVA's public key, in base64.
	PeerPublicKey PublicKey `json:"peer_public_key" jsonschema:"required"`
	// PresharedKeyFile holds a secret that both ends have, in base64 (`wg genpsk`), against those who can break the key exchange one day; mode 0600. None if left out.
	PresharedKeyFile string `json:"preshared_key_file,omitzero"`
	// NextPrivateKeyFile holds the private key that will replace ours; both are used until the old one is removed.
	NextPrivateKeyFile string `json:"next_private_key_file,omitzero"`
	// NextPeerPublicKey is the public key that will replace the other NVA's; both are accepted until the old one is removed.
	NextPeerPublicKey PublicKey `json:"next_peer_public_key,omitzero"`
	// ListenPort is our UDP port. No two tunnels share one. Never 65330, which Azure's host keeps for itself.
	ListenPort uint16 `json:"listen_port,omitzero" jsonschema:"default=51820,minimum=1,maximum=65535"`
	// PeerPort is the other NVA's UDP port; as listen_port if left out.
	PeerPort uint16 `json:"peer_port,omitzero" jsonschema:"minimum=1,maximum=65535"`
	// Paths is the number of source ports over which we spread the flows, so that Azure's network and the other NVA's processors share the work. 1 is what every WireGuard understands; more need a peer that does not follow our port, as transitd.
	Paths int `json:"paths,omitzero" jsonschema:"default=1,minimum=1,maximum=64"`
	// PersistentKeepalive is how often something is sent when nothing else is: 1s to 65535s, 0 never. BFD makes it needless.
	PersistentKeepalive Duration `json:"persistent_keepalive" jsonschema:"default=0"`
}

// IKEPort is UDP's for IKE without UDP encapsulation. With it peers of other
// makes begin there, and the tunnel listens there as well if it is free.
const IKEPort = 500

// IPsec holds the keys of the IPsec encapsulation: ESP, in UDP or by itself, keyed by IKEv2.
type IPsec struct {
	// LocalID is who we say we are: an IP address, a host name, user@host, or a distinguished name (`CN=hub-nva, O=Example`); our underlay address if left out.
	LocalID string `json:"local_id,omitzero" jsonschema:"maxLength=255"`
	// RemoteID is who the other NVA has to be, written alike; `remote` if left out.
	RemoteID string `json:"remote_id,omitzero" jsonschema:"maxLength=255"`
	// PSKFile holds the secret by which both ends prove who they are: its first line, at least 16 bytes; mode 0600. Either this or cert_file, key_file and ca_file.
	PSKFile string `json:"psk_file,omitzero"`
	// CertFile holds our certificate, and those between it and the authority, as PEM.
	CertFile string `json:"cert_file,omitzero"`
	// KeyFile holds our certificate's private key, as PEM; mode 0600.
	KeyFile string `json:"key_file,omitzero"`
	// CAFile holds the certificates of the authorities that the other NVA's certificate has to come from, as PEM.
	CAFile string `json:"ca_file,omitzero"`
	// PPKFile holds a secret that is mixed into the keys (RFC 8784), against those who can break the key exchange one day: its first line; mode 0600. Both ends have it, or none.
	PPKFile string `json:"ppk_file,omitzero"`
	// PPKID names that secret to the other NVA; given exactly if ppk_file is.
	PPKID string `json:"ppk_id,omitzero" jsonschema:"maxLength=64"`
	// IKEProposals are the suites for IKE, the best first, as strongSwan writes them; `aes256gcm16-prfsha384-ecp384` and `aes256gcm16-prfsha384-x25519` if left out.
	IKEProposals []string `json:"ike_proposals,omitzero" jsonschema:"maxItems=16"`
	// ESPProposals are the suites for ESP, alike; with a group there is a key exchange at each rekeying (PFS). `aes256gcm16-ecp384-esn-noesn` and `aes256gcm16-x25519-esn-noesn` if left out.
	ESPProposals []string `json:"esp_proposals,omitzero" jsonschema:"maxItems=16"`
	// LocalTS are the addresses on our side that may go through; all if left out. The other NVA may narrow them.
	LocalTS []netip.Prefix `json:"local_ts,omitzero" jsonschema:"maxItems=16"`
	// RemoteTS are those on the other NVA's side.
	RemoteTS []netip.Prefix `json:"remote_ts,omitzero" jsonschema:"maxItems=16"`
	// Initiate says that we begin; otherwise the other NVA has to.
	Initiate bool `json:"initiate" jsonschema:"default=true"`
	// Paths is the number of source ports over which we spread the flows, so that Azure's network and the other NVA's processors share the work. 1 is what every IPsec understands; more need a peer that does not follow our port, as transitd.
	Paths int `json:"paths,omitzero" jsonschema:"default=1,minimum=1,maximum=64"`
	// UDPEncapsulation carries ESP in UDP, which Azure's network spreads, its load balancers and NATs take, and the kernel handles in bulk. With `false` it is IP protocol 50, IKE is at UDP port 500, and there must be no NAT between: for a peer that cannot do it otherwise. Both ends have to say the same.
	UDPEncapsulation bool `json:"udp_encapsulation" jsonschema:"default=true"`
	// Port is our UDP port for IKE and ESP.
	Port uint16 `json:"port,omitzero" jsonschema:"default=4500,minimum=1,maximum=65535"`
	// PeerPort is the other NVA's.
	PeerPort uint16 `json:"peer_port,omitzero" jsonschema:"default=4500,minimum=1,maximum=65535"`
	// IKELifetime is how old an IKE SA gets before it is replaced: 5m to 24h, less up to a tenth at random.
	IKELifetime Duration `json:"ike_lifetime" jsonschema:"default=8h"`
	// ChildLifetime is the same for the SAs that carry packets: 1m to 24h.
	ChildLifetime Duration `json:"child_lifetime" jsonschema:"default=1h"`
	// ChildLifetimePackets is how many packets those SAs may carry in one direction: at four fifths they are replaced, and if that fails they end; 1000000 or more, 0 what the format and the cipher allow: 2^32 without extended sequence numbers, 2^40 with them.
	ChildLifetimePackets int `json:"child_lifetime_packets,omitzero" jsonschema:"default=0,minimum=0,maximum=1099511627776" hint:"0 is what the format and the cipher allow"`
	// ChildLifetimeBytes is the same in bytes of the packets inside: 100000000 or more, 0 no such limit. What an Azure VPN gateway calls 102400000 KB is 104857600000.
	ChildLifetimeBytes int `json:"child_lifetime_bytes,omitzero" jsonschema:"default=0,minimum=0,maximum=1000000000000000" hint:"0 is no limit"`
	// DPDDelay is how long the other NVA may be silent before it is asked whether it is there: 1s to 10m, 0 never. BFD is what notices at once.
	DPDDelay Duration `json:"dpd_delay" jsonschema:"default=10s"`
}

// BFD is Bidirectional Forwarding Detection in a tunnel (RFC 5880, RFC 5881).
type BFD struct {
	// Enabled says that BFD packets are sent and expected. A peer that has no BFD is not held down: BFD has to have been up once to tell a failure.
	Enabled bool `json:"enabled" jsonschema:"default=true"`
	// Interval at which packets are sent and expected: 10ms to 60s; the larger of both ends' counts.
	Interval Duration `json:"interval" jsonschema:"default=300ms"`
	// Multiplier is the number of packets in a row that have to be missing.
	Multiplier uint8 `json:"multiplier" jsonschema:"default=3,minimum=2,maximum=50"`
}

// TunnelBGP is the session to the other NVA, inside the tunnel.
type TunnelBGP struct {
	// ASN of the other NVA. Our own makes it a sibling, another NVA of this site: it is watched, and its tunnels are the way out while ours are down.
	ASN uint32 `json:"asn" jsonschema:"required,minimum=1,maximum=4294967294" hint:"an ASN is a plain number without dots; 64512 to 65514 are free for private use"`
	// HoldTime is the hold time of the session: 3s to 65535s; the smaller of both ends' counts.
	HoldTime Duration `json:"hold_time" jsonschema:"default=9s"`
	// PasswordFile holds the key of TCP MD5 signatures (RFC 2385) in its first line; the file has mode 0600. None if left out.
	PasswordFile string `json:"password_file,omitzero"`
	// TTLSecurity holds the session to packets that no router has forwarded (GTSM, RFC 5082). Both ends need it.
	TTLSecurity bool `json:"ttl_security" jsonschema:"default=false"`
	// MaxPrefixes is the number of prefixes the peer may tell: more end the session; 0 is no limit.
	MaxPrefixes int `json:"max_prefixes,omitzero" jsonschema:"default=20000,minimum=0,maximum=1000000"`
}

// Origination is a prefix that this node announces on its own account.
type Origination struct {
	// Prefix to announce, without host bits.
	Prefix netip.Prefix `json:"prefix" jsonschema:"required"`
	// To names the tunnels and Route Servers that are told.
	To []string `json:"to" jsonschema:"required,minItems=1" hint:"name the tunnels and Route Servers that are to be told"`
	// Split says that a default route is announced as its two halves, 0.0.0.0/1 and 128.0.0.0/1, which beat a default from elsewhere.
	Split bool `json:"split" jsonschema:"default=false"`
	// RFC1918 says that 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 are announced beside a default route: AVS' management takes no default.
	RFC1918 bool `json:"rfc1918" jsonschema:"default=false"`
	// Probe is a check that the announcement depends on.
	Probe Probe `json:"probe,omitzero"`
}

// Probe checks something from this node; exactly one of http, tcp and icmp is given.
type Probe struct {
	// HTTP is a URL, http or https, whose answer has a status of 200 to 399.
	HTTP string `json:"http,omitzero" jsonschema:"maxLength=2000"`
	// TCP is an address and port that accepts a connection.
	TCP netip.AddrPort `json:"tcp,omitzero"`
	// ICMP is an address that answers an echo request.
	ICMP netip.Addr `json:"icmp,omitzero"`
	// Interval between two checks: 100ms to 1h.
	Interval Duration `json:"interval" jsonschema:"default=2s"`
	// Timeout of a check, at most the interval.
	Timeout Duration `json:"timeout" jsonschema:"default=1s"`
	// Failures in a row after which the prefix is withdrawn.
	Failures int `json:"failures,omitzero" jsonschema:"default=3,minimum=1,maximum=100"`
	// Successes in a row after which it is announced again.
	Successes int `json:"successes,omitzero" jsonschema:"default=2,minimum=1,maximum=100"`
}

// Given reports whether there is a probe at all.
func (p Probe) Given() bool { return p.HTTP != "" || p.TCP.IsValid() || p.ICMP.IsValid() }

// Policy holds the facts that the route policy cannot learn by itself.
type Policy struct {
	// AllowHostRoutes lists prefixes inside which /30 to /32 (IPv6: /126 to /128) may be announced; elsewhere they never are.
	AllowHostRoutes []netip.Prefix `json:"allow_host_routes,omitempty"`
	// VNet lists the address space of this node's VNet. Its prefixes, and longer ones, are never announced: a Route Server does not take them.
	VNet []netip.Prefix `json:"vnet,omitempty"`
	// Aggregates lists supernets that are announced to a Route Server in place of what is inside, once there are too many routes for it.
	Aggregates []netip.Prefix `json:"aggregates,omitempty"`
}

// HA holds the keys for several NVAs of one site.
type HA struct {
	// ProbeListen is where a load balancer asks whether this node forwards (HTTP, any path: 200 or 503), such as 0.0.0.0:8474. Nowhere if left out.
	ProbeListen netip.AddrPort `json:"probe_listen,omitzero"`
}

// Routing names the tables, the mark and the numbers that transitd uses in the kernel.
type Routing struct {
	// TableUnderlay is the table of the outer packets: the card's subnet, the Route Server and the tunnel peers.
	TableUnderlay uint32 `json:"table_underlay,omitzero" jsonschema:"default=7001,minimum=1,maximum=4294967295"`
	// TableSite is the table of what our own Route Server announced.
	TableSite uint32 `json:"table_site,omitzero" jsonschema:"default=7002,minimum=1,maximum=4294967295"`
	// TableRemote is the table of what the other NVAs announced.
	TableRemote uint32 `json:"table_remote,omitzero" jsonschema:"default=7003,minimum=1,maximum=4294967295"`
	// TableRelay is the table of what other sites announced, for packets that a sibling sends this way.
	TableRelay uint32 `json:"table_relay,omitzero" jsonschema:"default=7004,minimum=1,maximum=4294967295"`
	// Mark is the firewall mark of the outer packets; not 0. The default is 0x7464.
	Mark uint32 `json:"mark,omitzero" jsonschema:"default=29796,minimum=1,maximum=4294967295" hint:"0 is what all other packets carry"`
	// Protocol is the kernel's route protocol number of everything that is ours; whatever carries it is removed at a clean stop, so it must belong to no other program.
	Protocol uint8 `json:"protocol,omitzero" jsonschema:"default=210,minimum=5,maximum=255" hint:"0 to 4 are the kernel's own and the administrator's"`
	// RulePriority is where our rules begin in `ip rule`; they use this number and the 99 after it, before those of main (32766).
	RulePriority int `json:"rule_priority,omitzero" jsonschema:"default=7000,minimum=1,maximum=32666"`
}

// Control is the socket that transitctl talks to.
type Control struct {
	// Socket is the unix socket's absolute path; /run/transitd/NODE.sock, with the node's name, if left out.
	Socket string `json:"socket,omitzero" jsonschema:"maxLength=107" hint:"a unix socket's path has at most 107 bytes"`
}

// Observe is the web server of the metrics, the health answers and the status page; it changes nothing.
type Observe struct {
	// Listen is where it listens; "" is nowhere. Whoever reaches it sees the node's addresses and routes: it has no password, so let it be loopback or a management network.
	Listen Listen `json:"listen" jsonschema:"default=127.0.0.1:9477"`
}

// Log says what is logged and how.
type Log struct {
	// Level is the least severe level that is logged.
	Level string `json:"level,omitzero" jsonschema:"default=info,enum=debug,enum=info,enum=warn,enum=error"`
	// Format of the log: `console` for people, `json` for programs, `auto` is console on a terminal and json otherwise.
	Format string `json:"format,omitzero" jsonschema:"default=auto,enum=auto,enum=console,enum=json"`
}
