// Package metrics shows a node to Prometheus: a collector over the same answers
// that the API gives, so that both always say the same.
//
// Every metric of a node begins with transitd_. The labels are names from the
// configuration (tunnels, neighbours, their addresses) and fixed lists (drop
// reasons, states), so there are at most some dozens of series for each tunnel
// and each session, whatever the peers send. docs/observability.md has the
// table; a test holds it against the descriptions here.
//
// The package keeps nothing and has no goroutine: a scrape asks the node once.
package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/pkg/version"
)

// Node is what is asked at each scrape.
type Node interface {
	Status() control.Status
	Readiness() control.Readiness
	Events() *events.Log
}

// NewRegistry makes a registry with a node's metrics and those of the Go process.
func NewRegistry(n Node) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		&collector{node: n, series: allSeries()},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// series is one metric: its description and how its values are found.
type series struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	collect    func(v *view, add adder)
}

// adder adds a value with the values of the labels, in their order.
type adder func(value float64, labels ...string)

// view is what one scrape shows.
type view struct {
	status control.Status
	ready  control.Readiness
	events map[events.Class]uint64
}

type collector struct {
	node   Node
	series []series
}

// Describe sends nothing, so that the registry checks what is collected: a
// node's series come and go with its configuration.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks the node once and shows what it says.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	v := &view{status: c.node.Status(), ready: c.node.Readiness(), events: c.node.Events().Counts()}
	for _, s := range c.series {
		desc := prometheus.NewDesc(s.name, s.help, s.labels, nil)
		s.collect(v, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(desc, s.kind, value, labels...)
		})
	}
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// allSeries are all metrics of a node, in the order of the documentation.
func allSeries() []series {
	return slices.Concat(nodeSeries(), tunnelSeries(), ipsecSeries(), bfdSeries(), bgpSeries(), routeSeries())
}

func nodeSeries() []series {
	return []series{
		{"transitd_build_info", "The build that runs; always 1.", gauge, []string{"version", "commit", "goversion"}, func(_ *view, add adder) {
			i := version.Get()
			add(1, i.Version, i.Commit, i.Go)
		}},
		{"transitd_node_info", "Who the node is; always 1.", gauge, []string{"node", "site", "asn"}, func(v *view, add adder) {
			add(1, v.status.Node.Name, v.status.Node.Site, number(v.status.Node.ASN))
		}},
		{"transitd_uptime_seconds", "Time since the daemon's start.", gauge, nil, func(v *view, add adder) {
			add(float64(v.status.Node.UptimeS))
		}},
		{"transitd_health", "1 for the node's health: ok, degraded (something configured does not work) or down (no tunnel or no session works).", gauge, []string{"health"}, func(v *view, add adder) {
			for _, h := range []control.Health{control.HealthOK, control.HealthDegraded, control.HealthDown} {
				add(truth(v.status.Health == h), string(h))
			}
		}},
		{"transitd_ready", "1 if a packet of the other side would be carried now, as /readyz says.", gauge, nil, func(v *view, add adder) {
			add(truth(v.ready.Ready))
		}},
		{"transitd_warnings", "Number of warnings in transitctl status.", gauge, nil, func(v *view, add adder) {
			add(float64(len(v.status.Warnings)))
		}},
		{"transitd_drain_state", "1 for the step of planned work: none, avoid, withdrawn or drained.", gauge, []string{"state"}, func(v *view, add adder) {
			for _, s := range []string{control.DrainNone, control.DrainAvoid, control.DrainWithdrawn, control.DrainDone} {
				add(truth(v.status.Drain.State == s), s)
			}
		}},
		{"transitd_events_total", "Events, as transitctl watch shows them.", counter, []string{"kind", "severity"}, func(v *view, add adder) {
			for _, k := range events.Kinds() {
				for _, s := range events.Severities() {
					add(float64(v.events[events.Class{Kind: k, Severity: s}]), string(k), string(s))
				}
			}
		}},
		{"transitd_control_requests_refused_total", "Requests on the control socket that were garbage, unknown or too slow.", counter, nil, func(v *view, add adder) {
			add(float64(v.status.Refused.Control))
		}},
	}
}

// ofTunnels makes the values of each tunnel, labelled with its name.
func ofTunnels(value func(t control.Tunnel) float64) func(*view, adder) {
	return func(v *view, add adder) {
		for _, t := range v.status.Tunnels {
			add(value(t), t.Name)
		}
	}
}

func tunnelSeries() []series {
	tunnel := []string{"tunnel"}
	return []series{
		{"transitd_tunnel_info", "What a tunnel is; always 1.", gauge, []string{"tunnel", "remote", "encapsulation"}, func(v *view, add adder) {
			for _, t := range v.status.Tunnels {
				add(1, t.Name, t.Remote, t.Encapsulation)
			}
		}},
		{"transitd_tunnel_up", "1 if the tunnel's device is there and its peer is resolved.", gauge, tunnel, ofTunnels(func(t control.Tunnel) float64 { return truth(t.State == control.TunnelUp) })},
		{"transitd_tunnel_mtu_bytes", "Largest inner IP packet.", gauge, tunnel, ofTunnels(func(t control.Tunnel) float64 { return float64(t.MTU) })},
		{"transitd_tunnel_sent_bytes_total", "Bytes of inner IP packets sent into the tunnel.", counter, tunnel, ofTunnels(func(t control.Tunnel) float64 { return float64(t.TXBytes) })},
		{"transitd_tunnel_received_bytes_total", "Bytes of inner IP packets received from the tunnel.", counter, tunnel, ofTunnels(func(t control.Tunnel) float64 { return float64(t.RXBytes) })},
		{"transitd_tunnel_sent_packets_total", "Inner IP packets sent into the tunnel.", counter, tunnel, ofTunnels(func(t control.Tunnel) float64 { return float64(t.TXPackets) })},
		{"transitd_tunnel_received_packets_total", "Inner IP packets received from the tunnel.", counter, tunnel, ofTunnels(func(t control.Tunnel) float64 { return float64(t.RXPackets) })},
		{"transitd_tunnel_dropped_packets_total", "Packets that went no further, by reason; a reason appears with its first packet.", counter, []string{"tunnel", "reason"}, func(v *view, add adder) {
			for _, t := range v.status.Tunnels {
				for _, reason := range slices.Sorted(maps.Keys(t.Drops)) {
					add(float64(t.Drops[reason]), t.Name, reason)
				}
			}
		}},
		{"transitd_tunnel_rtt_seconds", "Round trip through the tunnel; absent while it is not measured.", gauge, tunnel, func(v *view, add adder) {
			for _, t := range v.status.Tunnels {
				if t.RTTMicros != nil {
					add((time.Duration(*t.RTTMicros) * time.Microsecond).Seconds(), t.Name)
				}
			}
		}},
		{"transitd_tunnel_loss_ratio", "Share of packets lost in the tunnel, 0 to 1; absent while it is not measured.", gauge, tunnel, func(v *view, add adder) {
			for _, t := range v.status.Tunnels {
				if t.Loss != nil {
					add(*t.Loss, t.Name)
				}
			}
		}},
		{"transitd_tunnel_direction_loss_ratio", "Share of probes lost in one direction, sent or received, 0 to 1; absent if the peer does not speak STAMP.", gauge, []string{"tunnel", "direction"}, ofDirections(func(d *control.OneWay) float64 { return d.Loss })},
		{"transitd_tunnel_jitter_seconds", "Mean deviation of the delay in one direction, sent or received (RFC 3550); absent if the peer does not speak STAMP.", gauge, []string{"tunnel", "direction"}, ofDirections(func(d *control.OneWay) float64 { return float64(d.JitterUS) / 1e6 })},
		{"transitd_tunnel_rebuilt_total", "How often the device had to be made again because another program had removed it.", counter, tunnel, ofTunnels(func(t control.Tunnel) float64 { return float64(t.Rebuilt) })},
	}
}

// ofDirections makes the values of each direction that is measured by itself.
func ofDirections(value func(*control.OneWay) float64) func(*view, adder) {
	return func(v *view, add adder) {
		for _, t := range v.status.Tunnels {
			if t.Quality == nil || t.Quality.There == nil || t.Quality.Back == nil {
				continue
			}
			add(value(t.Quality.There), t.Name, "sent")
			add(value(t.Quality.Back), t.Name, "received")
		}
	}
}

// ofBFD makes the values of each tunnel that has BFD.
func ofBFD(value func(b *control.BFD) float64) func(*view, adder) {
	return func(v *view, add adder) {
		for _, t := range v.status.Tunnels {
			if t.BFD != nil {
				add(value(t.BFD), t.Name)
			}
		}
	}
}

func bfdSeries() []series {
	tunnel := []string{"tunnel"}
	return []series{
		{"transitd_bfd_up", "1 if BFD in the tunnel is up: packets get through both ways.", gauge, tunnel, ofBFD(func(b *control.BFD) float64 { return truth(b.State == "up") })},
		{"transitd_bfd_flaps_total", "How often BFD in the tunnel left the state up.", counter, tunnel, ofBFD(func(b *control.BFD) float64 { return float64(b.Flaps) })},
		{"transitd_bfd_interval_seconds", "Interval of the BFD packets that are sent.", gauge, tunnel, ofBFD(func(b *control.BFD) float64 { return seconds(b.IntervalUS) })},
		{"transitd_bfd_detection_seconds", "Time without a BFD packet after which the tunnel counts as dead.", gauge, tunnel, ofBFD(func(b *control.BFD) float64 { return seconds(b.DetectUS) })},
	}
}

// ofIPsec makes the values of each IPsec tunnel.
func ofIPsec(value func(s *control.IPsec) float64) func(*view, adder) {
	return func(v *view, add adder) {
		for _, t := range v.status.Tunnels {
			if t.IPsec != nil {
				add(value(t.IPsec), t.Name)
			}
		}
	}
}

func ipsecSeries() []series {
	tunnel := []string{"tunnel"}
	return []series{
		{"transitd_ipsec_rekeys_total", "SAs replaced by new ones, by kind: ike or child.", counter, []string{"tunnel", "sa"}, func(v *view, add adder) {
			for _, t := range v.status.Tunnels {
				if t.IPsec != nil {
					add(float64(t.IPsec.IKERekeys), t.Name, "ike")
					add(float64(t.IPsec.ChildRekeys), t.Name, "child")
				}
			}
		}},
		{"transitd_ipsec_established_total", "IKE SAs made anew, by either side.", counter, tunnel, ofIPsec(func(s *control.IPsec) float64 { return float64(s.Established) })},
		{"transitd_ipsec_timeouts_total", "IKE SAs given up because the peer did not answer.", counter, tunnel, ofIPsec(func(s *control.IPsec) float64 { return float64(s.TimedOut) })},
		{"transitd_ipsec_refused_messages_total", "IKE messages that were not what they should be.", counter, tunnel, ofIPsec(func(s *control.IPsec) float64 { return float64(s.Refused) })},
		{"transitd_ipsec_half_open", "IKE SAs that the peer has begun and not finished.", gauge, tunnel, ofIPsec(func(s *control.IPsec) float64 { return float64(s.HalfOpen) })},
		{"transitd_ipsec_overdue", "1 if an SA is past its lifetime and could not be replaced: it ends soon, and carries nothing then.", gauge, tunnel, ofIPsec(func(s *control.IPsec) float64 { return truth(s.Overdue != "") })},
		{"transitd_ipsec_expired_total", "SAs that ended because they could not be replaced in time: nothing was carried until there was a new one.", counter, tunnel, ofIPsec(func(s *control.IPsec) float64 { return float64(s.Expired) })},
		{"transitd_ipsec_certificate_expiry_seconds", "Time until a certificate, or one that it rests on, ends, ours (local) or the peer's (peer), as it last proved itself; negative afterwards, absent without certificates.", gauge, []string{"tunnel", "end"}, func(v *view, add adder) {
			for _, t := range v.status.Tunnels {
				if t.IPsec == nil {
					continue
				}
				if s := t.IPsec.CertificateExpiresS; s != nil {
					add(float64(*s), t.Name, "local")
				}
				if s := t.IPsec.PeerCertificateExpiresS; s != nil {
					add(float64(*s), t.Name, "peer")
				}
			}
		}},
	}
}

// ofSessions makes the values of each BGP session.
func ofSessions(value func(s control.Session) float64) func(*view, adder) {
	return func(v *view, add adder) {
		for _, s := range v.status.BGP {
			add(value(s), s.Name, s.Peer)
		}
	}
}

func bgpSeries() []series {
	session := []string{"neighbor", "peer"}
	return []series{
		{"transitd_bgp_session_info", "What a BGP session is; always 1.", gauge, []string{"neighbor", "peer", "role", "asn"}, func(v *view, add adder) {
			for _, s := range v.status.BGP {
				add(1, s.Name, s.Peer, s.Role, number(s.ASN))
			}
		}},
		{"transitd_bgp_session_up", "1 if the session is established.", gauge, session, ofSessions(func(s control.Session) float64 { return truth(s.State == control.SessionEstablished) })},
		{"transitd_bgp_session_state", "State of the session, numbered as in BGP4-MIB: 1 idle, 2 connect, 3 active, 4 open-sent, 5 open-confirm, 6 established; 0 unknown.", gauge, session, ofSessions(func(s control.Session) float64 { return stateNumber(s.State) })},
		{"transitd_bgp_session_uptime_seconds", "Time in the state established; 0 in any other.", gauge, session, ofSessions(func(s control.Session) float64 { return float64(s.UptimeS) })},
		{"transitd_bgp_session_flaps_total", "How often the session left the state established.", counter, session, ofSessions(func(s control.Session) float64 { return float64(s.Flaps) })},
		{"transitd_bgp_prefixes_received", "Prefixes that the peer has told.", gauge, session, ofSessions(func(s control.Session) float64 { return float64(s.Received) })},
		{"transitd_bgp_prefixes_accepted", "Prefixes that the peer has told and the policy believes.", gauge, session, ofSessions(func(s control.Session) float64 { return float64(s.Accepted) })},
		{"transitd_bgp_prefixes_announced", "Prefixes that the peer has been told.", gauge, session, ofSessions(func(s control.Session) float64 { return float64(s.Announced) })},
		{"transitd_bgp_malformed_updates_total", "UPDATEs with malformed attributes, taken as withdrawals.", counter, session, ofSessions(func(s control.Session) float64 { return float64(s.Malformed) })},
		{"transitd_bgp_connections_refused_total", "Connections to the BGP port from addresses that are no neighbours.", counter, nil, func(v *view, add adder) {
			add(float64(v.status.Refused.BGP))
		}},
	}
}

// ofBudgets makes the values of each Route Server's budget.
func ofBudgets(value func(b control.Budget) float64) func(*view, adder) {
	return func(v *view, add adder) {
		for _, b := range v.status.Budgets {
			add(value(b), b.RouteServer)
		}
	}
}

func routeSeries() []series {
	server := []string{"route_server"}
	return []series{
		{"transitd_routes", "Learned routes in the kernel, by table: site leads to our own side, remote through the tunnels.", gauge, []string{"table"}, func(v *view, add adder) {
			add(float64(v.status.Routes.Site), "site")
			add(float64(v.status.Routes.Remote), "remote")
		}},
		{"transitd_route_repairs_total", "Routes and rules that another program had removed or changed and that were put right.", counter, nil, func(v *view, add adder) {
			add(float64(v.status.Routes.Repaired))
		}},
		{"transitd_loops_detected_total", "Packets that were seen again in a loop.", counter, nil, func(v *view, add adder) {
			add(float64(v.status.Loops.Detected))
		}},
		{"transitd_route_budget_used", "Routes that are announced to a Route Server.", gauge, server, ofBudgets(func(b control.Budget) float64 { return float64(b.Used) })},
		{"transitd_route_budget_limit", "Routes that may be announced to a Route Server: half of what ends the session.", gauge, server, ofBudgets(func(b control.Budget) float64 { return float64(b.Limit) })},
		{"transitd_route_budget_aggregated", "Routes that an aggregate stands for at a Route Server.", gauge, server, ofBudgets(func(b control.Budget) float64 { return float64(b.Aggregated) })},
		{"transitd_route_budget_held", "1 if there are too many routes for a Route Server, so that the last set that fitted is kept.", gauge, server, ofBudgets(func(b control.Budget) float64 { return truth(b.Held) })},
	}
}
