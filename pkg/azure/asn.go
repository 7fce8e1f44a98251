package azure

// Reservation says why an autonomous system number cannot be used.
type Reservation struct {
	// Reason is for a person and stands behind the number: "65515 is reserved: REASON".
	Reason string
	// Always is set if the number is unusable in any network; otherwise only a
	// Route Server refuses it.
	Always bool
}

// reservedRange is one line of the list, both ends included.
type reservedRange struct {
	first, last uint32
	Reservation
}

// reservedRanges returns the list. Sources: the Route Server FAQ (ASNs that an NVA may
// not use), the ExpressRoute documentation, which reserves 65515 to 65520 whole, and the
// IANA registry "Special-Purpose AS Numbers".
//
// The platform's numbers are always refused, because transitd removes them from AS paths
// towards a Route Server: a node using one would vanish from the path.
func reservedRanges() []reservedRange {
	return []reservedRange{
		{0, 0, Reservation{"it means no autonomous system (RFC 7607)", true}},
		{8074, 8075, Reservation{"Azure uses it for public services", true}},
		{ASNExpressRoute, ASNExpressRoute, Reservation{"it is the Microsoft edge of ExpressRoute", true}},
		{ASTrans, ASTrans, Reservation{"it is AS_TRANS, the stand-in for numbers over 65535 (RFC 6793)", true}},
		{64496, 64511, Reservation{"IANA keeps it for documentation (RFC 5398), and a Route Server refuses it", false}},
		{ASNRouteServer, ASNRouteServer, Reservation{"it is every Azure Route Server and gateway", true}},
		{65516, 65520, Reservation{"Azure keeps it for its own gateways", true}},
		{65535, 65535, Reservation{"IANA reserves it (RFC 7300)", true}},
		{65536, 65551, Reservation{"IANA keeps it for documentation (RFC 5398), and a Route Server refuses it", false}},
		{ASNVMwareSolution, ASNVMwareSolution, Reservation{"it is the edge of Azure VMware Solution", true}},
		{4294967295, 4294967295, Reservation{"IANA reserves it (RFC 7300)", true}},
	}
}

// ReservedASN reports whether an NVA may not use the number as its own, and why.
// A number over 65535 is not reserved for that alone; see FitsRouteServer.
func ReservedASN(asn uint32) (Reservation, bool) {
	for _, r := range reservedRanges() {
		if asn >= r.first && asn <= r.last {
			return r.Reservation, true
		}
	}
	return Reservation{}, false
}

// FitsRouteServer reports whether a Route Server can be told the number as its
// peer's: it takes 16 bits. (In AS paths it handles longer ones.)
func FitsRouteServer(asn uint32) bool { return asn <= 65535 }
