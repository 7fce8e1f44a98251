// Package control is the daemon's API: HTTP with JSON on a unix socket, its
// types, the server, and the client that transitctl uses.
//
//	GET  /v1/status                      Status: one screen about the node
//	GET  /v1/tunnels                     Tunnels
//	GET  /v1/bgp                         Sessions
//	GET  /v1/bgp/routes?direction=D&peer=P   BGPRoutes; D is received or announced, P a name or an address
//	GET  /v1/routes                      Routes: what stands in the kernel, and what was refused
//	GET  /v1/explain?target=T            Explanation; T is a prefix or an address
//	GET  /v1/events?since=N              Events; with follow=1 as server-sent events, without an end
//	POST /v1/reload                      Reload; the body is empty or a ReloadRequest
//
// Every answer is one JSON object with schema_version 1; fields are added to it,
// never renamed or removed. An error is the object Failure, whatever went wrong:
// an unknown path, a wrong method, a body that is no JSON. Requests that are not
// even HTTP get net/http's plain 400. All of them are counted (Server.Refused).
//
//	curl --unix-socket /run/transitd/hub-nva.sock http://transitd/v1/status
//
// Who may connect may do everything: the socket has mode 0660, its group is the
// daemon's. A client that is slow, or says nothing, is cut off by deadlines; an
// answer is complete in memory before its first byte is written, so no client
// ever holds anything of the daemon.
//
// Server.Run owns net/http's goroutines and returns when they are gone. Lock
// makes sure that one daemon owns a socket, and cleans up after a dead one.
//
// Not here: the meaning of the answers (pkg/daemon has them), and TCP listeners:
// pkg/observe offers over HTTP what only reads.
package control
