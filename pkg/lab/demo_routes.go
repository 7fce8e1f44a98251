package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/transitd/transitd/pkg/lab/probe"
)

// defaultRoute looks at what both customers learned, and proves that the hub NVA is where inspection happens.
func (d *demo) defaultRoute(ctx context.Context, f *findings) error {
	if d.plan.Nodes == nil {
		return errNotUp
	}
	p, err := d.Plan()
	if err != nil {
		return err
	}
	avs, err := d.s.known(ctx, p, "avs-edge")
	if err != nil {
		return err
	}
	onprem, err := d.s.known(ctx, p, "onprem")
	if err != nil {
		return err
	}
	byDefault := netip.MustParsePrefix("0.0.0.0/0")
	avsPath, avsHas := avs.Path(byDefault)
	_, onpremHas := onprem.Path(byDefault)
	path, _ := onprem.Path(p.AVS[0])
	f.add("avs_has_default", avsHas, fmt.Sprintf("AVS' edge: 0.0.0.0/0 by AS path %s, and %d more prefixes", avsPath, len(avs)-1))
	f.add("onprem_has_default", onpremHas, fmt.Sprintf("on-prem: no default; AVS' %s by AS path %s", p.AVS[0], path))
	f.add("onprem_as_path", path, "")
	var trouble []string
	if !avsHas || onpremHas {
		trouble = append(trouble, fmt.Sprintf("default at AVS: %v, at on-prem: %v", avsHas, onpremHas))
	}
	trouble = append(trouble, forbidden("AVS' edge", avs, p.AVS)...)
	trouble = append(trouble, forbidden("on-prem", onprem, p.OnPrem)...)
	if err := d.inspect(ctx, f); err != nil {
		trouble = append(trouble, err.Error())
	}
	f.sum("AVS has a default, on-prem has none; inspected at hub-nva")
	if len(trouble) > 0 {
		return errors.New(strings.Join(trouble, "; "))
	}
	return nil
}

// forbidden finds what must not have been announced: Azure's ASNs, addresses of the transit itself, a site's own.
func forbidden(who string, known Known, own []netip.Prefix) []string {
	var trouble []string
	for _, r := range known {
		path := " " + r.ASPath + " "
		if strings.Contains(path, " 65515 ") || strings.Contains(path, " 398656 ") || strings.Count(path, " 12076 ") != 1 {
			trouble = append(trouble, fmt.Sprintf("%s sees %s by AS path %s", who, r.Prefix, r.ASPath))
		}
		for _, text := range []string{"169.254.0.0/16", "10.0.1.0/27", "10.1.1.0/27", "10.0.2.4/32", "10.1.2.4/32"} {
			if q := netip.MustParsePrefix(text); q.Bits() <= r.Prefix.Bits() && q.Contains(r.Prefix.Addr()) {
				trouble = append(trouble, fmt.Sprintf("%s was told %s, which is the transit's own", who, r.Prefix))
			}
		}
		for _, q := range own {
			if q.Bits() <= r.Prefix.Bits() && q.Contains(r.Prefix.Addr()) {
				trouble = append(trouble, fmt.Sprintf("%s was told its own %s", who, r.Prefix))
			}
		}
	}
	return trouble
}

// inspect lets AVS reach the internet, and refuses one port at the hub NVA by its operator's own rule.
func (d *demo) inspect(ctx context.Context, f *findings) error {
	inet := netip.MustParseAddr(InternetHost)
	open := func(port uint16) error {
		return probe.Connect(ctx, d.NS("avs"), netip.AddrPortFrom(inet, port), 2*time.Second)
	}
	ping, err := probe.Ping{From: d.NS("avs"), To: inet, Count: 10}.Run(ctx)
	if err != nil {
		return err
	}
	f.add("internet_received", ping.Received, fmt.Sprintf("AVS → internet (%s): %d of %d pings answered, masqueraded by hub-nva", inet, ping.Received, ping.Sent))
	if err := errors.Join(open(probe.HTTPPort), open(probe.HTTPAltPort)); err != nil {
		return fmt.Errorf("AVS does not reach the internet by TCP: %w", err)
	}
	undo, err := refusePort(d.NS("hub-nva"), probe.HTTPAltPort)
	if err != nil {
		return err
	}
	refused, others := open(probe.HTTPAltPort), open(probe.HTTPPort)
	if err := undo(); err != nil {
		return err
	}
	again := open(probe.HTTPAltPort)
	f.add("refused_port", probe.HTTPAltPort, fmt.Sprintf("with a rule on hub-nva that rejects TCP port %d: %v; port %d: open", probe.HTTPAltPort, refusal(refused), probe.HTTPPort))
	switch {
	case ping.Received != ping.Sent:
		return fmt.Errorf("AVS lost %d of %d packets to the internet", ping.Sent-ping.Received, ping.Sent)
	case refused == nil:
		return errors.New("the port that hub-nva rejects is open")
	case others != nil || again != nil:
		return fmt.Errorf("more than the rejected port is closed: %w", errors.Join(others, again))
	}
	return nil
}

func refusal(err error) string {
	if err == nil {
		return "open"
	}
	return "refused"
}

// failure cuts the wire between the NVAs and measures how long it takes to be noticed, and to recover.
func (d *demo) failure(ctx context.Context, f *findings) error {
	if d.plan.Nodes == nil {
		return errNotUp
	}
	flow, err := probe.StartFlow(ctx, d.NS("avs"), netip.MustParseAddr(OnPremHost), 10*time.Millisecond)
	if err != nil {
		return err
	}
	gone, back, err := d.cutAndHeal(ctx, f, flow)
	outage, serr := flow.Stop()
	if err := errors.Join(err, serr); err != nil {
		return err
	}
	f.add("withdrawn_s", round(gone), "")
	f.add("restored_s", round(back), "")
	f.add("outage_s", round(outage.Longest), fmt.Sprintf("the flow lost %d of %d datagrams; longest outage %.1f s, of which the wire was cut %.1f s",
		outage.Sent-outage.Received, outage.Sent, outage.Longest.Seconds(), gone.Seconds()))
	f.sum("withdrawn after %.1f s, back %.1f s after the repair", gone.Seconds(), back.Seconds())
	return nil
}

// cutAndHeal returns how long after the cut AVS' edge lost on-prem's routes, and how long after the repair packets
// arrived again.
func (d *demo) cutAndHeal(ctx context.Context, f *findings, flow *probe.Flow) (gone, back time.Duration, err error) {
	remote := append([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, d.plan.OnPrem...)
	if err := await(ctx, 5*time.Second, func() error {
		if !flow.Answered(time.Now().Add(-time.Second)) {
			return errors.New("the flow is not answered")
		}
		return nil
	}); err != nil {
		return 0, 0, err
	}
	if err := d.Cut("hub-nva", "transit-nva"); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	f.audience.Waiting("AVS' edge loses the routes to on-prem")
	err = await(ctx, 40*time.Second, func() error { return d.hasRoutes("avs-edge", false, remote...) })
	gone = time.Since(start)
	if herr := d.Heal(); err != nil || herr != nil {
		return gone, 0, errors.Join(err, herr)
	}
	f.audience.Measured(fmt.Sprintf("cut: AVS' edge had lost the routes to on-prem and the default after %.1f s (by BFD; the hold time of the session in the tunnel is 9 s)", gone.Seconds()))
	start = time.Now()
	f.audience.Waiting("routes and packets come back")
	err = await(ctx, 40*time.Second, func() error {
		if err := d.hasRoutes("avs-edge", true, remote...); err != nil {
			return err
		}
		if !flow.Answered(start) {
			return errors.New("no packet arrives")
		}
		return nil
	})
	back = time.Since(start)
	if err == nil {
		f.audience.Measured(fmt.Sprintf("repaired: routes and packets were back after %.1f s", back.Seconds()))
	}
	return gone, back, err
}

func round(d time.Duration) float64 { return float64(d.Milliseconds()/10) / 100 }
