// Package machine reads what package doctor judges, from /proc, netlink and the
// program nft, and makes the changes of its --fix. It speaks for the network
// namespace of the thread that calls it.
//
// What cannot be read is told in Host.Unread. It starts no goroutine.
package machine
