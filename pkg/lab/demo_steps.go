package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/lab/probe"
)

var errNotUp = errors.New("the lab did not come up")

// loop shows the problem.
func (d *demo) loop(ctx context.Context, f *findings) error {
	o := d.options
	o.Encapsulation = None
	if err := d.Up(ctx, o, demoWait, f.audience); err != nil {
		return err
	}
	var err error
	if d.plan, err = d.Plan(); err != nil {
		return err
	}
	before, err := d.Counters()
	if err != nil {
		return err
	}
	ping, err := d.pingBoth(ctx, f)
	if err != nil {
		return err
	}
	after, err := d.Counters()
	if err != nil {
		return err
	}
	hops, err := probe.Trace{From: d.NS("avs"), To: netip.MustParseAddr(OnPremHost), MaxHops: 12}.Run(ctx)
	if err != nil {
		return err
	}
	nva, gateway := netip.MustParseAddr(TransitNVA), d.gateway("transit-nva")
	hairpins := after["hairpin"] - before["hairpin"]
	expired := after[fabric.CounterTTLExpired] - before[fabric.CounterTTLExpired]
	f.add("hops", hopList(hops), "hops AVS → on-prem: "+hops.String()+" …")
	f.add("nva_repeats", hops.Count(nva), fmt.Sprintf("transit-nva (%s) answered %d times, the fabric behind its NIC (%s) %d times", nva, hops.Count(nva), gateway, hops.Count(gateway)))
	f.add("fabric_repeats", hops.Count(gateway), "")
	f.add("hairpins", hairpins, fmt.Sprintf("counted in the fabric: %d times a packet went back into the NIC it came from; %d TTLs expired there", hairpins, expired))
	f.add("fabric_ttl_expired", expired, "")
	if err := d.showEffective(ctx, f); err != nil {
		return err
	}
	f.sum("%d of %d arrive; %d trips back into the NVAs' own NICs", ping.Received, ping.Sent, hairpins)
	switch {
	case ping.Received > 0:
		return fmt.Errorf("%d packets arrived: this is not the loop that was to be shown", ping.Received)
	case hops.Count(nva) < 3 || hops.Count(gateway) < 3:
		return fmt.Errorf("the hops do not repeat: %s", hops)
	case hairpins < uint64(ping.Sent)*10 || countErrors(ping.Errors, "time exceeded") == 0 || expired == 0:
		return fmt.Errorf("the fabric counted %d hairpins and %d expired TTLs; the senders heard %v", hairpins, expired, ping.Errors)
	}
	return nil
}

// pingBoth pings from both sides into the loop. From AVS the NVA sees the last hop, from on-prem the fabric does.
func (d *demo) pingBoth(ctx context.Context, f *findings) (probe.Result, error) {
	sum := probe.Result{Errors: map[string]int{}}
	for _, way := range []struct{ from, to, label string }{{"avs", OnPremHost, "AVS → on-prem"}, {"onprem", AVSHost, "on-prem → AVS"}} {
		r, err := probe.Ping{From: d.NS(way.from), To: netip.MustParseAddr(way.to), Count: 5}.Run(ctx)
		if err != nil {
			return sum, err
		}
		f.audience.Measured(fmt.Sprintf("%s: %d of %d pings answered; instead: %s", way.label, r.Received, r.Sent, describeErrors(r.Errors)))
		sum.Sent, sum.Received = sum.Sent+r.Sent, sum.Received+r.Received
		for text, n := range r.Errors {
			sum.Errors[text] += n
		}
	}
	f.add("sent", sum.Sent, "")
	f.add("received", sum.Received, "")
	f.add("ttl_exceeded", countErrors(sum.Errors, "time exceeded"), "")
	return sum, nil
}

// showEffective shows the line that makes the loop.
func (d *demo) showEffective(ctx context.Context, f *findings) error {
	routes, err := d.Effective(ctx, "transit-nva")
	if err != nil {
		return err
	}
	r, _ := fabric.Lookup(routes, netip.MustParseAddr(OnPremHost))
	f.add("effective_route", fmt.Sprintf("%s %s %v", r.Prefix, r.Source, r.NextHops),
		fmt.Sprintf("effective route of transit-nva's own NIC: %s → %v (%s)", r.Prefix, r.NextHops, r.Source))
	return nil
}

// delivery replaces the naive NVAs by transitd and measures everything both ways.
func (d *demo) delivery(ctx context.Context, f *findings) error {
	if d.plan.Nodes == nil {
		return errNotUp
	}
	if err := d.Encapsulate(ctx, d.options, demoWait, f.audience); err != nil {
		return err
	}
	before, err := d.Counters()
	if err != nil {
		return err
	}
	sent, received := 0, 0
	var trouble []string
	for _, way := range []struct{ from, to, label string }{{"avs", OnPremHost, "AVS → on-prem"}, {"onprem", AVSHost, "on-prem → AVS"}} {
		r, err := d.deliverOneWay(ctx, f, way.from, way.to, way.label)
		if err != nil {
			trouble = append(trouble, err.Error())
		}
		sent, received = sent+r.Sent, received+r.Received
	}
	after, err := d.Counters()
	if err != nil {
		return err
	}
	f.add("sent", sent, "")
	f.add("received", received, "")
	f.add("loss_percent", lossPercent(sent, received), fmt.Sprintf("ICMP and UDP: %d of %d answered, %.1f %% lost", received, sent, lossPercent(sent, received)))
	f.add("hairpins", after["hairpin"]-before["hairpin"], fmt.Sprintf("hairpins in the fabric meanwhile: %d", after["hairpin"]-before["hairpin"]))
	f.sum("%.1f %% loss of %d, both NVAs on the way", lossPercent(sent, received), sent)
	if received != sent {
		trouble = append(trouble, fmt.Sprintf("%d of %d were lost", sent-received, sent))
	}
	if after["hairpin"] != before["hairpin"] {
		trouble = append(trouble, "packets still come back in the fabric")
	}
	if len(trouble) > 0 {
		return errors.New(strings.Join(trouble, "; "))
	}
	return nil
}

// TunnelMTU is the largest packet inside the lab's tunnels, in bytes: transitd's default.
const TunnelMTU = 1400

// deliverOneWay tries ICMP, UDP and TCP in one direction.
func (d *demo) deliverOneWay(ctx context.Context, f *findings, from, to, label string) (probe.Result, error) {
	ns, dst := d.NS(from), netip.MustParseAddr(to)
	var sum probe.Result
	for _, size := range []int{84, TunnelMTU} {
		p, err := probe.Ping{From: ns, To: dst, Size: size, DF: true, Count: 20, Interval: 5 * time.Millisecond}.Run(ctx)
		if err != nil {
			return sum, err
		}
		u, err := probe.UDP{From: ns, To: dst, Size: size, DF: true, Count: 20, Interval: 5 * time.Millisecond}.Run(ctx)
		if err != nil {
			return sum, err
		}
		f.add(fmt.Sprintf("%s_%d", from, size), map[string]any{"icmp": p, "udp": u},
			fmt.Sprintf("%s, %4d bytes: ICMP %d/%d, UDP %d/%d, round trip %.2f ms", label, size, p.Received, p.Sent, u.Received, u.Sent, ms(p.RTT)))
		sum.Sent, sum.Received = sum.Sent+p.Sent+u.Sent, sum.Received+p.Received+u.Received
	}
	const bytes = 4 << 20
	took, err := probe.TCP{From: ns, To: dst, Bytes: bytes, Timeout: 20 * time.Second}.Run(ctx)
	if err != nil {
		return sum, fmt.Errorf("TCP %s: %w", label, err)
	}
	f.add(from+"_tcp_echo_ms", ms(took), fmt.Sprintf("%s, TCP: 4 MiB there and back, every byte compared, in %.0f ms", label, ms(took)))
	hops, err := probe.Trace{From: ns, To: dst, MaxHops: 16}.Run(ctx)
	if err != nil {
		return sum, err
	}
	f.add(from+"_hops", hopList(hops), "hops "+label+": "+hops.String())
	if !hops.Reached() || hops.Count(netip.MustParseAddr(HubNVA)) != 1 || hops.Count(netip.MustParseAddr(TransitNVA)) != 1 {
		return sum, fmt.Errorf("the hops %s do not name both NVAs once: %s", label, hops)
	}
	return sum, nil
}

// throughput measures one TCP stream each way.
func (d *demo) throughput(ctx context.Context, f *findings) error {
	if d.plan.Nodes == nil {
		return errNotUp
	}
	var parts []string
	for _, way := range []struct{ from, to, label, key string }{
		{"avs", OnPremHost, "AVS → on-prem", "avs_to_onprem_mbps"}, {"onprem", AVSHost, "on-prem → AVS", "onprem_to_avs_mbps"},
	} {
		r, err := probe.Throughput{From: d.NS(way.from), To: netip.MustParseAddr(way.to), Duration: 3 * time.Second}.Run(ctx)
		if err != nil {
			return err
		}
		f.add(way.key, int(r.Mbps()), fmt.Sprintf("%s: %.0f Mbit/s (%d MB in %.1f s)", way.label, r.Mbps(), r.Bytes/1e6, r.Duration.Seconds()))
		parts = append(parts, fmt.Sprintf("%.0f", r.Mbps()))
		if r.Mbps() < 10 {
			return fmt.Errorf("%s: only %.1f Mbit/s", way.label, r.Mbps())
		}
	}
	f.sum("%s Mbit/s each way", strings.Join(parts, " and "))
	return nil
}

// teardown takes the lab down and looks for what is left.
func (d *demo) teardown(_ context.Context, f *findings) error {
	if err := d.Down(); err != nil {
		return err
	}
	names, procs := 0, len(d.processes())
	for _, node := range allNodes() {
		if d.NS(node).Exists() {
			names++
		}
	}
	_, err := os.Stat(d.s.dir())
	files := !errors.Is(err, os.ErrNotExist)
	f.add("namespaces", names, "")
	f.add("processes", procs, "")
	f.add("files", files, fmt.Sprintf("left: %d namespaces, %d processes, files: %v", names, procs, files))
	f.sum("%d namespaces, %d processes left", names, procs)
	if names > 0 || procs > 0 || files {
		return errors.New("something is left")
	}
	return nil
}

func (d *demo) gateway(nic string) netip.Addr {
	n, _ := d.plan.Fabric.NIC(nic)
	return n.Gateway()
}

func hopList(hops probe.Hops) []string {
	list := make([]string, len(hops))
	for i, h := range hops {
		list[i] = h.String()
	}
	return list
}

func countErrors(errs map[string]int, prefix string) int {
	n := 0
	for text, count := range errs {
		if strings.HasPrefix(text, prefix) {
			n += count
		}
	}
	return n
}

func describeErrors(errs map[string]int) string {
	if len(errs) == 0 {
		return "silence"
	}
	var parts []string
	for text, n := range errs {
		parts = append(parts, fmt.Sprintf("%d × %s", n, text))
	}
	return strings.Join(parts, ", ")
}

func lossPercent(sent, received int) float64 {
	return 100 * probe.Result{Sent: sent, Received: received}.Loss()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
