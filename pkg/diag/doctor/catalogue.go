package doctor

// ID names a finding for programs and for docs/doctor.md; it never changes its meaning.
type ID string

// The findings.
const (
	ForwardingOff         ID = "ip-forward-off"
	IPv6ForwardingOff     ID = "ipv6-forwarding-off"
	AdvertisementsIgnored ID = "router-advertisements-ignored"
	ReversePathStrict     ID = "reverse-path-strict"
	RedirectsSent         ID = "redirects-sent"
	RedirectsAccepted     ID = "redirects-accepted"
	ReservedPort          ID = "reserved-port-in-use"
	CardMissing           ID = "card-missing"
	CardFunction          ID = "card-is-virtual-function"
	CardAddress           ID = "card-address-missing"
	LROOn                 ID = "lro-on"
	MTUTooSmall           ID = "mtu-too-small"
	PathMTU               ID = "path-mtu-too-small"
	TunnelName            ID = "tunnel-name-taken"
	TunnelDevice          ID = "tunnel-device-missing"
	PeerRoute             ID = "peer-route-wrong"
	TUNMissing            ID = "tun-missing"
	SegmentationBroken    ID = "udp-segmentation-broken"
	KernelOld             ID = "kernel-old"
	ClockFree             ID = "clock-not-synchronised"
	CapabilitiesMissing   ID = "capabilities-missing"
	FilesFew              ID = "file-limit-near"
	BuffersSmall          ID = "socket-buffers-small"
	PortTaken             ID = "port-taken"
	FirewallTunnel        ID = "firewall-drops-tunnel"
	FirewallBGP           ID = "firewall-drops-bgp"
	FirewallBFD           ID = "firewall-drops-bfd"
	FirewallForward       ID = "firewall-drops-forwarded"
	FirewallUnclear       ID = "firewall-unclear"
	KernelIPsec           ID = "kernel-ipsec-takes-packets"
	ConntrackFull         ID = "conntrack-nearly-full"
	ConntrackTunnel       ID = "conntrack-tracks-tunnel"
	NetworkdDeletes       ID = "networkd-deletes-routes"
	Leftover              ID = "leftover-routes"
	TableShared           ID = "table-shared"
	TableUnknown          ID = "table-unknown"
	RoutesDeleted         ID = "routes-deleted"
	DropsVNI              ID = "drops-wrong-vni"
	DropsKey              ID = "drops-wrong-key"
	DropsSelector         ID = "drops-selector"
	DropsSource           ID = "drops-unknown-source"
	DropsForeign          ID = "drops-foreign-packets"
	DropsMTU              ID = "drops-too-large"
	DropsOverload         ID = "drops-overload"
	DaemonWarning         ID = "daemon-warning"
)

// entry is what all findings of one ID have in common.
type entry struct {
	looks  string // what is looked at, for docs/doctor.md
	breaks string
}

// catalogue holds every finding.
func catalogue() map[ID]entry {
	return map[ID]entry{
		ForwardingOff:         {"`net.ipv4.ip_forward`. The daemon sets it when it starts; another program may have set it back.", "no packet is forwarded: everything that this NVA carries stops here, without a word in any log"},
		IPv6ForwardingOff:     {"`net.ipv6.conf.all.forwarding`, if a tunnel carries IPv6.", "no IPv6 packet is forwarded"},
		AdvertisementsIgnored: {"`accept_ra` of the card, which has to be 2 on a host that forwards IPv6.", "Azure's IPv6 default route comes by router advertisements: it runs out within the hour, and IPv6 leaves this NVA no more"},
		ReversePathStrict:     {"`rp_filter` of the card and the tunnels; the kernel takes the larger of `conf/all` and the interface's. 0 and 2 are good.", "packets that arrive another way than their answers leave are dropped silently: with several NVAs, or where Azure's way back differs, connections hang"},
		RedirectsSent:         {"`send_redirects`; one of `conf/all` and the interface is enough.", "machines of the subnet are told to send around this NVA, and those that obey lose the other side"},
		RedirectsAccepted:     {"`accept_redirects`; on a host that forwards both `conf/all` and the interface are needed.", "a forged ICMP packet can turn a route of this NVA elsewhere"},
		ReservedPort:          {"`net.ipv4.ip_local_port_range` and `ip_local_reserved_ports`. transitd itself never uses UDP port 65330.", "Azure's host drops UDP packets from and to port 65330: now and then a program of this machine gets it and waits for an answer in vain (DNS, for one)"},
		CardMissing:           {"The card of `underlay.interface`: it is there, and up.", "the daemon cannot start, or no tunnel has a way out"},
		CardFunction:          {"The card is no virtual function of another one (accelerated networking).", "Azure takes virtual functions away when it services a host, and the tunnels go with it"},
		CardAddress:           {"The card has `underlay.address`, if that is given.", "the daemon cannot bind its sockets and does not start"},
		LROOn:                 {"Large receive offload of the card.", "received packets are merged to ones that are too large to be forwarded: TCP through this NVA crawls"},
		MTUTooSmall:           {"The card's MTU (or `underlay.mtu`) against each tunnel's `mtu` and its encapsulation.", "large packets do not get out, as outer packets are never fragmented: ping works, and transfers hang"},
		PathMTU:               {"What routers on the way to the peer have told about their MTU (`ip route get PEER`).", "large packets are lost on the way, as outer packets are never fragmented: ping works, and transfers hang"},
		TunnelName:            {"No other interface has a tunnel's name.", "the daemon cannot make the tunnel's device"},
		TunnelDevice:          {"While the daemon runs, the tunnels' devices are there and up.", "nothing gets into the tunnel; the daemon makes a device anew within seconds, unless somebody keeps removing it"},
		PeerRoute:             {"While the daemon runs, outer packets to the peer leave by the card (`ip route get PEER mark MARK`).", "the tunnel's packets go astray: into a tunnel, out of another card, or nowhere"},
		TUNMissing:            {"`/dev/net/tun` can be opened.", "the daemon cannot make tunnel devices and does not start"},
		SegmentationBroken:    {"The daemon's own self-test: three datagrams are sent as one over the loopback and have to arrive whole. Linux 7.0 to 7.1.4 damages them on some cards and fails by its number.", "the daemon sends every datagram by itself: it works, several times slower"},
		KernelOld:             {"Linux 6.2 or newer.", "TUN devices take UDP packet by packet (no USO): QUIC and other UDP through the tunnel are slower"},
		ClockFree:             {"The kernel says that the clock is synchronised (`adjtimex`).", "logs of two NVAs cannot be compared, and a clock that jumps back makes the peer refuse WireGuard's handshakes; by a wrong clock IPsec's certificates are expired, or not yet valid"},
		CapabilitiesMissing:   {"The running daemon has CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE.", "the daemon cannot repair routes and devices, nor apply all of a reload"},
		FilesFew:              {"Open files of the running daemon against its limit, from 80 % on.", "the next socket cannot be opened: a reload, a new tunnel or a new session fails"},
		BuffersSmall:          {"`net.core.rmem_max` and `wmem_max` against the 8 MiB of the tunnels' sockets; with CAP_NET_ADMIN the daemon goes beyond the limit.", "bursts overflow the sockets: loss under load"},
		PortTaken:             {"The tunnels' UDP ports and TCP port 179 belong to no other program, nor to a VXLAN or WireGuard device of the kernel.", "the daemon cannot listen there: it does not start, or packets go to the other program"},
		FirewallTunnel:        {"An imaginary outer packet from each peer, and one to it, go through the rules of nft and iptables-nft.", "no packet gets through the tunnel in that direction; the other side says \"the UDP port is blocked one way\""},
		FirewallBGP:           {"The same for TCP port 179 out of each tunnel and from each Route Server.", "the BGP session only comes up if this side opens it; after a restart of both it may stay down"},
		FirewallBFD:           {"The same for UDP port 3784 out of each tunnel.", "BFD never comes up, so a dead tunnel is noticed after BGP's hold time, not within a second"},
		FirewallForward:       {"The same for packets from the card into each tunnel and back.", "what this NVA is there for is dropped: the tunnel and BGP work, and the traffic does not"},
		FirewallUnclear:       {"A packet may be dropped, depending on what is not known here: addresses of the traffic, a rate, or a match of iptables that nft does not show.", "a part of the packets may be dropped: look at the rules that are named"},
		KernelIPsec:           {"An imaginary packet to and from each peer, and one into and out of each tunnel, against the kernel's IPsec policies (`ip xfrm policy`), which strongSwan, Libreswan and others leave or keep.", "the kernel encrypts these packets by itself, or drops them: nothing gets through the tunnel in that direction"},
		ConntrackFull:         {"`nf_conntrack_count` against `nf_conntrack_max`, from 80 % on, if a rule tracks connections.", "once the table is full, packets of new flows are dropped"},
		ConntrackTunnel:       {"Whether outer packets are tracked. Never more than a hint, in the JSON output: it costs time and breaks nothing.", "every outer packet is looked up in a table that tells nothing about it"},
		NetworkdDeletes:       {"`ManageForeignRoutes`, `ManageForeignRoutingPolicyRules` and `ManageForeignNextHops` of systemd-networkd, with all its drop-ins, if it runs or is enabled.", "whenever systemd-networkd restarts (unattended upgrades do that) it deletes our routes and rules; transitd puts them back within a second, and that second has no traffic"},
		Leftover:              {"Routes and rules with the protocol number of transitd (`routing.protocol`, 210) while no daemon of this network namespace has it.", "packets are forwarded by routes that nobody keeps: the daemon crashed or was killed, and what has changed since is not followed"},
		TableShared:           {"Routes of other protocol numbers in transitd's tables.", "packets follow routes that transitd did not decide on, past its protection against loops"},
		TableUnknown:          {"Routes with transitd's protocol number in tables that its configuration does not name.", "another program uses our protocol number: its routes are removed when the daemon stops; or they are left from an older configuration"},
		RoutesDeleted:         {"What the daemon had to repair (`routes.repaired` of its status).", "until each repair, up to a second, packets had no route"},
		DropsVNI:              {"What the daemon drops as `wrong_vni`. For this and the next ones: error while the tunnel does not work, warning while the count rises, nothing if it is history.", "nothing that the peer sends is accepted"},
		DropsKey:              {"`auth_failed`, and what the daemon says about WireGuard's handshakes.", "nothing that the peer sends is accepted"},
		DropsSelector:         {"`selector`: packets outside of what the two ends of an IPsec tunnel agreed on.", "packets that a route leads into the tunnel are dropped: `local_ts` and `remote_ts` are narrower than the routes"},
		DropsSource:           {"`wrong_source`.", "packets from an address that is not configured are dropped: a peer behind address translation never gets in"},
		DropsForeign:          {"`bad_header`, `bad_ethertype`, `vlan_tagged`.", "the peer sends something else than this end expects: the encapsulations differ, or GPE is on at one end only"},
		DropsMTU:              {"`truncated` and `udp_send`.", "large packets are lost: ping works, and transfers hang"},
		DropsOverload:         {"`receive_queue_full`, `tun_queue_full`, `handshake_queue_full`.", "loss under load"},
		DaemonWarning:         {"Everything else that `transitctl status` warns of; errors if the node is down altogether.", "what the daemon says of itself; `transitctl explain ADDRESS` tells whether it hits a packet"},
	}
}

// IDs lists all findings.
func IDs() []ID {
	list := make([]ID, 0, len(catalogue()))
	for id := range catalogue() {
		list = append(list, id)
	}
	return list
}
