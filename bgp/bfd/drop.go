package bfd

import "strconv"

// Drop is why a received packet was thrown away.
type Drop uint8

const (
	dropNone Drop = iota
	// DropShort: fewer than 24 bytes, or its length field is below 24.
	DropShort
	// DropLength: the length field claims more than has arrived.
	DropLength
	// DropVersion: not version 1.
	DropVersion
	// DropMultiplier: a detection multiplier of 0.
	DropMultiplier
	// DropMultipoint: the multipoint bit, which is reserved.
	DropMultipoint
	// DropMyDiscriminator: the sender's discriminator is 0.
	DropMyDiscriminator
	// DropAuthentication: it is authenticated, which neither end has agreed to.
	DropAuthentication
	// DropTTL: TTL or hop limit below 255, or 254 over several hops (RFC 5881, section 5): sent from further away.
	DropTTL
	// DropPeer: from another address than the peer's.
	DropPeer
	// DropUnknownSession: its "your discriminator" is not ours, that of our predecessor before a restart for instance.
	DropUnknownSession
	// DropNoSession: its "your discriminator" is 0 in a state in which the peer has to know ours.
	DropNoSession
	// DropAdminDown: we are administratively down.
	DropAdminDown

	// DropReasons is the number of reasons with the unused 0, for arrays.
	DropReasons
)

// String is the reason's name in metrics and in Status.
func (d Drop) String() string {
	switch d {
	case dropNone:
		return "none"
	case DropShort:
		return "short"
	case DropLength:
		return "length"
	case DropVersion:
		return "version"
	case DropMultiplier:
		return "zero-multiplier"
	case DropMultipoint:
		return "multipoint"
	case DropMyDiscriminator:
		return "zero-my-discriminator"
	case DropAuthentication:
		return "authentication"
	case DropTTL:
		return "ttl"
	case DropPeer:
		return "wrong-peer"
	case DropUnknownSession:
		return "unknown-session"
	case DropNoSession:
		return "zero-your-discriminator"
	case DropAdminDown:
		return "admin-down"
	case DropReasons:
	}
	return "drop " + strconv.Itoa(int(d))
}
