// Package gso skeleton.
package gso

import "github.com/transitd/transitd/tunnel"

// VnetHdrLen is the length of the header, octets.
const VnetHdrLen = 10

// VnetHdr is struct virtio_net_hdr.
type VnetHdr struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // a hint of the kernel, not used
	GSOSize    uint16 // payload octets of each segment
	CsumStart  uint16 // where the checksum begins
	CsumOffset uint16 // its field, from CsumStart
}

// Flags and types.
const (
	FlagNeedsCsum uint8 = 1
	FlagDataValid uint8 = 2

	GSONone  uint8 = 0
	GSOTCPv4 uint8 = 1
	GSOUDP   uint8 = 3
	GSOTCPv6 uint8 = 4
	GSOUDPL4 uint8 = 5
	GSOECN   uint8 = 0x80
)

// ParseVnetHdr decodes.
func ParseVnetHdr(b []byte) (h VnetHdr, ok bool) { return h, false }

// Put encodes into b[:VnetHdrLen].
func (h VnetHdr) Put(b []byte) {}

// FinishChecksum completes, in place, the checksum of a packet with GSONone and FlagNeedsCsum; without the flag it does nothing.
func FinishChecksum(h VnetHdr, pkt []byte) tunnel.DropReason { return 0 }

// Segmenter splits one super packet. Zero value + Reset; no allocation; one goroutine.
//
//	for r := s.Reset(hdr, pkt); s.More(); { n := s.Next(buf[headroom:]) … }
type Segmenter struct{}

// Reset begins with a packet, which must not change until the last Next. GSONone gives one segment (a copy, its checksum finished).
func (s *Segmenter) Reset(h VnetHdr, pkt []byte) tunnel.DropReason { return 0 }

// Count is how many segments there are in all; Size the octets of each but the last, which may be shorter.
func (s *Segmenter) Count() int { return 0 }

// Size is the octets (IP packet) of each segment but the last, which may be shorter.
func (s *Segmenter) Size() int { return 0 }

// More reports whether Next has something to give.
func (s *Segmenter) More() bool { return false }

// Next writes the next segment to dst, at least Size() octets, and returns its length.
func (s *Segmenter) Next(dst []byte) int { return 0 }

// Segment is the loop over a Segmenter: segment i is out[i][headroom:headroom+sizes[i]].
// DropTooBig if out has too few buffers, or too short ones.
func Segment(h VnetHdr, pkt []byte, headroom int, out [][]byte, sizes []int) (n int, r tunnel.DropReason) {
	return 0, 0
}
