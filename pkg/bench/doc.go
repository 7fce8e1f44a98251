// Package bench measures tunnels side by side in one run on one machine: the
// bare wire, the kernel's VXLAN, wireguard-go, strongSwan, and transitd.
//
// # How it measures
//
// Two namespaces are joined by a veth whose offloads are set to a profile. All
// subjects are brought up beside each other, each with inner addresses of its
// own; an idle subject uses no CPU, so they do not disturb each other. Then
// rounds go over all subjects, in an order that moves on each round, so that a
// machine that is slow for a while is slow for all. Results are medians of the
// rounds; ratios are medians of each round's ratio, from the same run.
//
//	subject.go, subject_*.go  what is measured; a new one is one file and a line in subjects
//	testbed.go                namespaces, wire, profiles
//	test.go                   tcp (iperf3), pps and latency (package load), cpu
//	run.go                    rounds, progress
//	result.go, stats.go       the JSON, medians, ratios
//	report.go, svg.go         the HTML report, and its charts
//	remote.go, client.go      serve and client, between two machines
//	compare.go                what changed between two runs
//
// # Goroutines
//
// Functions run in the caller's goroutine. Subjects start processes, which Down ends
// and waits for; Testbed.Close ends whatever still runs in its namespaces.
//
// # Not here
//
// Bounds: a slow result is a result. What fails is a subject that passes no
// traffic, or that cannot be set up.
package bench
