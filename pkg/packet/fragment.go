package packet

import "encoding/binary"

// Fragment4 cuts the next fragment for the MTU out of an IPv4 packet that may
// be fragmented and is larger than the MTU (RFC 791, section 3.2). done is how
// many payload bytes earlier calls took; the fragment is written to dst and
// its length returned with the new done. It ends when done is the payload's
// length; n is 0 if there can be no fragments: no room for 8 bytes, or a payload
// beyond the largest offset. Options stay in the first fragment only unless
// their copy bit is set.
func Fragment4(dst, orig []byte, in Info, mtu, done int) (n, next int) {
	header := in.Transport
	size := header
	if done > 0 {
		size = 20 + copyOptions(dst[20:], orig[20:header])
	} else {
		copy(dst[20:], orig[20:header])
	}
	copy(dst[:20], orig[:20])
	payload := orig[header+done : in.Len]
	room := (mtu - size) &^ 7
	field := binary.BigEndian.Uint16(orig[6:])
	if room <= 0 || int(field&0x1fff)*8+in.Len-header > 0xffff { // an offset beyond that overflows into MF
		return 0, in.Len - header
	}
	last := len(payload) <= mtu-size
	if !last {
		payload = payload[:room]
	}
	copy(dst[size:], payload)
	n = size + len(payload)

	offset := field&0x1fff + uint16(done/8)
	flags := field & 0xe000
	if !last {
		flags |= 0x2000
	}
	dst[0] = 0x40 | byte(size/4)
	binary.BigEndian.PutUint16(dst[2:], uint16(n))
	binary.BigEndian.PutUint16(dst[6:], flags|offset)
	dst[10], dst[11] = 0, 0
	binary.BigEndian.PutUint16(dst[10:], Checksum(dst[:size], 0))
	return n, done + len(payload)
}

// copyOptions keeps the options with the copy bit (RFC 791, section 3.1), padded to 4 bytes.
func copyOptions(dst, options []byte) int {
	n := 0
	for len(options) > 0 && options[0] != 0 {
		length := 1
		if options[0] != 1 {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				break
			}
			length = int(options[1])
		}
		if options[0]&0x80 != 0 {
			n += copy(dst[n:], options[:length])
		}
		options = options[length:]
	}
	for n%4 != 0 {
		dst[n] = 0
		n++
	}
	return n
}
