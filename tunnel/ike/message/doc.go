// Package message is the codec of IKEv2 messages: the header and the payloads
// of RFC 7296, section 3, and the fragments of RFC 7383.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       IKE SA Initiator's SPI                  |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       IKE SA Responder's SPI                  |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Next Payload | MjVer | MnVer | Exchange Type |     Flags     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                          Message ID                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                            Length                             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
//	header.go     the header
//	message.go    a message, the chain of its payloads, the bounds
//	payload.go    the payloads that are a few fields
//	sa.go, ts.go  those with something inside
//	fragments.go  putting fragments together
//	numbers.go, notify.go  the numbers and their names
//
// Bytes in, values out, and back. What Decode returns points into the datagram.
// Nothing is decrypted here (see keys), nothing is chosen (see suite), and no
// order of messages is known. A message that breaks a rule of the format is
// refused as a whole; what the RFC wants ignored (reserved bits, payloads that
// are unknown and not critical, unknown types of selectors) is left out, so
// what Encode makes is canonical.
package message
