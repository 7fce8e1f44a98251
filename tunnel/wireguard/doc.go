// Package wireguard is WireGuard as a codec of the pump: one peer, its whole
// traffic, in place and without a hand-over between goroutines.
//
//	codec.go      Seal and Open: transport messages, from the pump's loops
//	session.go    a pair of keys with its counter and replay window
//	machine.go    when to shake hands, with which keys, and when to forget: pure
//	handshake.go  the two messages, by Noise IKpsk2 (github.com/flynn/noise)
//	cookie.go     mac1, mac2 and cookies, by upstream's implementation
//	device.go     the clock and the queue around the machine; key changes
//	status.go     why it is not up, in words
//	uapi.go       the socket for wg(8)
//	keys.go       keys and their files
//
// The protocol is that of "WireGuard: Next Generation Kernel Network Tunnel"
// (Donenfeld, NDSS 2017; wireguard.com/protocol). What differs from other
// implementations is on this side only: the tunnel is always wanted, so handshakes
// start with it and never give up; a packet without a session is dropped at once
// instead of being kept; and the peer's address is pinned, by the pump.
package wireguard
