// Package packet skeleton.
package packet

import "net/netip"

// Problem says what is wrong with a packet; zero is nothing.
type Problem uint8

// The problems.
const (
	OK Problem = iota
	Short
	NotIP
	BadHeaderLength
	BadTotalLength
	BadChecksum
	BadExtension
)

// Info is what Parse finds.
type Info struct {
	Version          uint8 // 4 or 6
	Protocol         uint8 // of the upper layer, after extension headers
	TOS              uint8 // or traffic class
	TTL              uint8 // or hop limit
	Offset           int   // of the upper layer
	Total            int   // octets of the packet; what follows is padding
	Fragment         bool  // a fragment, the first one too
	NonFirst         bool  // a fragment that does not have the upper layer's header
	DontFragment     bool
	SrcPort, DstPort uint16
	Flow             uint32 // hash
}

// Parse reads the headers.
func Parse(b []byte) (Info, Problem) { return Info{}, 0 }

// Source and Destination return the addresses of a packet that Parse accepted.
func Source(b []byte) netip.Addr { return netip.Addr{} }

// Destination see Source.
func Destination(b []byte) netip.Addr { return netip.Addr{} }

// TOS returns the octet of an IPv4 or IPv6 packet.
func TOS(b []byte) uint8 { return 0 }

// SetTOS sets it, fixing the checksum.
func SetTOS(b []byte, tos uint8) {}

// EncapECN returns the outer octet (DSCP and ECN copied).
func EncapECN(inner uint8) uint8 { return inner }

// DecapECN returns the inner octet to forward with, or false to drop.
func DecapECN(outer, inner uint8) (uint8, bool) { return inner, true }

// ApplyECN is DecapECN on a packet, in place: false = drop (ecn_ce_not_ect).
func ApplyECN(pkt []byte, outer uint8) bool { return true }

// ClampMSS for a packet with a complete checksum; zero leaves the family alone. True if changed.
func ClampMSS(pkt []byte, mss4, mss6 uint16) bool { return false }

// ClampMSSPartial is for a packet whose TCP checksum is still to be finished (NEEDS_CSUM).
func ClampMSSPartial(pkt []byte, mss4, mss6 uint16) bool { return false }

// FragNeeded appends an ICMP error to dst; nil if none may be sent.
func FragNeeded(dst []byte, src netip.Addr, orig []byte, mtu int) []byte { return nil }

// Fragmenter splits one IPv4 packet.
type Fragmenter struct{}

// Reset begins; false if it may not or need not be fragmented (IPv6, DF, MTU too small).
func (f *Fragmenter) Reset(pkt []byte, mtu int) bool { return false }

// More reports whether Next has something.
func (f *Fragmenter) More() bool { return false }

// Next writes the next fragment into dst (at least MTU octets) and returns its length.
func (f *Fragmenter) Next(dst []byte) int { return 0 }
