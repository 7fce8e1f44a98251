// Package lab builds Azure in network namespaces on one Linux machine: a
// fabric that routes by each NIC's effective routes (package fabric), Route
// Servers and ExpressRoute edges (package speaker), AVS, on-prem, and two NVAs
// that run the real transitd with configuration files as an operator would
// write them.
//
// # Parts
//
//	plan.go, scenario_*.go  what a lab is: nodes, NICs, links, sessions; pure data
//	build.go, process.go    namespaces, devices and processes; state.go the files
//	node_*.go               what runs inside a node's namespace ("transitlab node KIND")
//	lab.go, control.go      up, down, stop, start, refresh, cut …
//	wait.go                 when a lab is ready, and what it still waits for
//	view.go                 what nodes know: sessions and routes
//	demo*.go, report.go     the demonstration and how it is shown
//
// # Processes and goroutines
//
// Every node's program is a process of its own in the node's namespace; it
// outlives the "up" that started it. Its process id and start time are in
// /run/transitlab/NAME, and "down" also ends whatever else runs in the lab's
// namespaces, so an interrupted "up" leaves nothing that "down" does not find.
// Functions here run in the caller's goroutine; what they start, they wait for.
//
// # Names
//
// Namespaces are NAME-NODE, state is in /run/transitlab/NAME. Labs with
// different names do not meet.
//
// # Not here
//
// Timing as in Azure is a setting (the SDN's delay), not the default: a lab
// that takes 39 s to program a NIC teaches nothing more than one that takes
// 0.2 s.
package lab
