package audit

// ID names a finding for programs and for docs/audit.md; it never changes its meaning.
type ID string

// The findings.
const (
	PeerViaGateway       ID = "peer-via-gateway"
	PeerViaAppliance     ID = "peer-via-appliance"
	PeerViaInternet      ID = "peer-via-internet"
	PeerUnreachable      ID = "peer-unreachable"
	PeerShadowed         ID = "peer-shadowed"
	UDRLoop              ID = "udr-loop"
	DefaultToSelf        ID = "default-to-self"
	RouteServerHidden    ID = "route-server-hidden"
	PropagationOff       ID = "propagation-off"
	SiteRouteLoop        ID = "site-route-loop"
	SiteRouteMissing     ID = "site-route-missing"
	ForwardingOff        ID = "ip-forwarding-off"
	TunnelBlocked        ID = "nsg-blocks-tunnel"
	PeeringMissing       ID = "peering-missing"
	PeeringDown          ID = "peering-not-connected"
	PeeringNotSynced     ID = "peering-not-synced"
	PeeringNoAccess      ID = "peering-no-access"
	PeeringNoForward     ID = "peering-no-forwarded-traffic"
	PeeringGateway       ID = "peering-uses-remote-gateway"
	PeeringOffers        ID = "peering-offers-gateway"
	RouteServerAddresses ID = "route-server-addresses"
	RouteServerASN       ID = "route-server-asn"
	RouteServerState     ID = "route-server-state"
	BranchToBranchOff    ID = "branch-to-branch-off"
	BGPPeeringMissing    ID = "bgp-peering-missing"
	ASNMismatch          ID = "asn-mismatch"
	NothingLearned       ID = "nothing-learned"
	InstancesDisagree    ID = "instances-disagree"
	AdvertisedDisagree   ID = "instances-advertise-differently"
	RouteDropped         ID = "route-dropped"
	RouteUnexpected      ID = "route-unexpected"
	NextHopForeign       ID = "next-hop-foreign"
	NotProgrammed        ID = "route-not-programmed"
	RouteBudget          ID = "route-budget"
	RouteLimit           ID = "route-limit"
	GatewayBudget        ID = "gateway-budget"
	GatewayLimit         ID = "gateway-limit"
)

// entry is what all findings of one ID have in common.
type entry struct {
	severity Severity
	breaks   string
}

// catalogue holds every finding.
func catalogue() map[ID]entry {
	return map[ID]entry{
		PeerViaGateway:       {SeverityError, "the tunnel's outer packets follow routes that BGP made, so the tunnel can be carried by itself or come straight back"},
		PeerViaAppliance:     {SeverityError, "the tunnel's outer packets go to another machine, or back to this one: the tunnel is down or loops"},
		PeerViaInternet:      {SeverityError, "the tunnel's outer packets leave Azure unencrypted and are lost, as the address is private"},
		PeerUnreachable:      {SeverityError, "the tunnel's outer packets are dropped in the fabric: the tunnel is down"},
		PeerShadowed:         {SeverityWarning, "today the peering wins over BGP, as documented; the day the peering goes, the tunnel follows BGP and loops"},
		UDRLoop:              {SeverityError, "what this NVA sends for that prefix comes straight back to it until its TTL ends"},
		DefaultToSelf:        {SeverityWarning, "what this NVA itself sends to the internet, updates and probes among it, and what it forwards there comes straight back"},
		RouteServerHidden:    {SeverityError, "BGP packets to the Route Server go astray: its sessions fall or never come up"},
		PropagationOff:       {SeverityError, "this card has no routes to ExpressRoute: what the NVA forwards to its own site is dropped"},
		SiteRouteLoop:        {SeverityError, "what comes out of the tunnel for the own site returns to this NVA: a loop between the card and the fabric"},
		SiteRouteMissing:     {SeverityWarning, "what comes out of the tunnel for that prefix is dropped by this card"},
		ForwardingOff:        {SeverityError, "the fabric drops every packet that this NVA forwards, as its source is not the card's own"},
		TunnelBlocked:        {SeverityError, "the tunnel's packets are dropped at the card: the tunnel stays down"},
		PeeringMissing:       {SeverityError, "there is no way from VNet to VNet: the tunnel is down, or takes another way that may loop"},
		PeeringDown:          {SeverityError, "the fabric carries nothing over the peering: the tunnel is down"},
		PeeringNotSynced:     {SeverityWarning, "a prefix that one VNet got later is not reachable from the other"},
		PeeringNoAccess:      {SeverityError, "the peering says Connected and carries nothing: the tunnel is down"},
		PeeringNoForward:     {SeverityWarning, "packets that an NVA forwards without the tunnel are dropped between the VNets; the tunnel's own pass"},
		PeeringGateway:       {SeverityError, "both VNets share one gateway and Route Server: the routes of both sites mix, and this VNet's own cannot work"},
		PeeringOffers:        {SeverityWarning, "the other VNet could use this one's gateway; the day it does, the routes of both sites mix"},
		RouteServerAddresses: {SeverityError, "the BGP sessions go to addresses that are not the Route Server's"},
		RouteServerASN:       {SeverityError, "the Route Server's OPEN is refused: no session"},
		RouteServerState:     {SeverityWarning, "the Route Server is being changed or broken: routes may be late or missing"},
		BranchToBranchOff:    {SeverityError, "the Route Server hands nothing from this NVA to the ExpressRoute gateway, nor the other way"},
		BGPPeeringMissing:    {SeverityError, "the Route Server does not know this NVA: no session"},
		ASNMismatch:          {SeverityError, "the Route Server expects another AS number: no session"},
		NothingLearned:       {SeverityError, "no machine of the VNet and no gateway hears of this NVA's routes"},
		InstancesDisagree:    {SeverityError, "some machines of the VNet have the routes and others do not: about half of the traffic is lost"},
		AdvertisedDisagree:   {SeverityWarning, "this NVA's routes change with the instance that it believes; one of them is behind"},
		RouteDropped:         {SeverityError, "the Route Server took the announcement and forgot it without a word: nobody uses the route"},
		RouteUnexpected:      {SeverityWarning, "traffic comes here for prefixes that this node does not carry, and is dropped or loops"},
		NextHopForeign:       {SeverityError, "the fabric sends the traffic to an address that is not this node's"},
		NotProgrammed:        {SeverityWarning, "the cards of the VNet send that traffic elsewhere"},
		RouteBudget:          {SeverityWarning, "a refresh or a new next hop announces everything again: the Route Server counts old and new together and ends the session"},
		RouteLimit:           {SeverityError, "the Route Server ends the session, over and over"},
		GatewayBudget:        {SeverityWarning, "a few more prefixes, and the whole connection between circuit and gateway goes down"},
		GatewayLimit:         {SeverityError, "the whole connection between circuit and gateway goes down until there are fewer prefixes"},
	}
}
