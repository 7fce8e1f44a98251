// Package esp carries packets by pairs of ESP security associations: tunnel mode
// (RFC 4303), in UDP (RFC 3948) or by itself, with AES-GCM-16 (RFC 4106) or ChaCha20-Poly1305
// (RFC 7634). It is the data half of a codec of the pump; who keys it is behind
// sa.Installer.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+---------------+---------------+
//	|                Security Parameters Index (SPI)                |
//	+---------------+---------------+---------------+---------------+
//	|                     Sequence number, lower half               |
//	+---------------+---------------+---------------+---------------+
//	|                     Initialization vector                     |
//	|                     (the whole counter)                       |
//	+---------------+---------------+---------------+---------------+
//	|                     IP packet, encrypted                      |
//	~               +---------------+---------------+---------------+
//	|               |  0 to 3 bytes of padding, its length, 4 or 41 |
//	+---------------+---------------+---------------+---------------+
//	|                     Tag (16 bytes)                            |
//	+---------------+---------------+---------------+---------------+
//
//	codec.go      packets         selectors.go  what may go by a pair
//	pair.go       a pair's state  install.go    which pairs there are
//	keylog.go     keys as tshark reads them
//
// The initialization vector is the 64-bit counter of packets, so it is never used
// twice under one key, whatever queue a packet comes from; keys are never stored,
// so it is never restored. What a peer sends as one may be anything.
//
// The sequence number is not reserved by the batch: one atomic addition for each
// packet costs 2 to 6 ns, and the encryption 100 to 500.
package esp
