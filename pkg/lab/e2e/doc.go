// Package e2e holds the end-to-end tests: the real transitd binaries in the
// lab's namespaces, judged by programs that we did not write (the kernel,
// BIRD, FRR, iperf3, tcpdump, tshark, traceroute).
//
// The tests need root and the programs that .ci/install-peers installs; a
// missing program is a failure, not a skip. Each lab has a name made from the
// process id, so runs do not meet, and a run that died is cleaned up by the next.
package e2e
