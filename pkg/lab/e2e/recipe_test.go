package e2e

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

var updateRecipes = flag.Bool("update-recipes", false, "write docs/why-not-a-recipe.md from what the runs measured")

const recipeDocument = "../../../docs/why-not-a-recipe.md"

// mistake is one well-known mistake of the published recipes. What stands here is the
// verdict, which the document has to contain; run measures whether it is true.
type mistake struct {
	name, source    string
	recipe, transit string // the two cells of the table
	run             func(*measured, *lab, *lab)
}

// measured collects the lines for the document.
type measured struct {
	t            *testing.T
	theirs, ours []string
}

func (m *measured) recipe(format string, args ...any) {
	m.theirs = append(m.theirs, fmt.Sprintf(format, args...))
}

func (m *measured) transitd(format string, args ...any) {
	m.ours = append(m.ours, fmt.Sprintf(format, args...))
}

// is fails the test unless a measurement is what the document says.
func (m *measured) is(ok bool, format string, args ...any) {
	m.t.Helper()
	if !ok {
		m.t.Errorf(format, args...)
	}
}

// delivers says that everything arrives, both ways.
func (m *measured) delivers(l *lab) {
	m.t.Helper()
	for _, way := range [][2]string{{"avs", onpremHost}, {"onprem", avsHost}} {
		loss, err := l.ping(way[0], way[1], 20, 1000)
		m.is(err == nil && loss == 0, "%s -> %s: loss %v %% %v", way[0], way[1], loss, err)
	}
	m.transitd("ping AVS ↔ on-prem, 2 × 20 packets: 0 %% loss")
}

func (x mistake) row() string {
	return fmt.Sprintf("| %s | %s | %s |", x.name, x.recipe, x.transit)
}

func mistakes() []mistake {
	return []mistake{
		{
			"1. RouteServerSubnet leaked through the tunnel",
			"AzureCAT-AVS `deploy-routing-bird`: `export all`; its published table shows 10.90.1.32/27 and 10.91.1.32/27 learned from the NVA",
			"Leaks: AVS learns the hub's RouteServerSubnet. A longer prefix from the far side takes the sessions to the Route Server into the tunnel.",
			"Refused: `protected-prefix`. `transitd check` refuses to originate it. The sessions stay.",
			(*measured).leakedSubnet,
		},
		{
			"2. AS path emptied",
			"AzureCAT-AVS: `bgp_path.empty; bgp_path.prepend(own)`",
			"Loops: a route of one instance goes back to the other instance. The fabric sends its packets to the NVA, and back to the NVA.",
			"Refused: `route-server-to-route-server`. No hairpin.",
			(*measured).emptiedPath,
		},
		{
			"3. Next hop self without a tunnel",
			"Azure's documentation of several regions, which warns of it; run with `transitlab up --encapsulation none`",
			"Loops: all sessions are up, all routes are there, nothing arrives.",
			"Refused at `transitd check`: there is no encapsulation `none`. No hairpin.",
			(*measured).noTunnel,
		},
		{
			"4. One Route Server instance twice, or only one",
			"erjosito/azcli `avs_2vnets.azcli`: `rs1_ip2 = virtualRouterIps[0]`",
			"Outage: the second session never comes up. Maintenance of the one instance stops all traffic.",
			"Refused at `transitd check`. Maintenance of one instance loses nothing.",
			(*measured).oneInstance,
		},
		{
			"5. Wrong tunnel remote",
			"AzureCAT-AVS `hub-12-interfaces.txt`: remote 10.91.2.4, where its twin file has 10.91.3.x; the run has an address that nobody owns",
			"Works by accident if one end is right: the kernel learns the address from what that end sends. It takes packets from any sender, so it routes a stranger's into AVS.",
			"Refused at `transitd check` where it can be seen; otherwise the tunnel stays down and nothing is announced. Packets of a stranger are dropped and counted.",
			(*measured).wrongRemote,
		},
		{
			"6. Hub CIDR learned through the tunnel covers the endpoint",
			"the main table of all recipes; inferred from the static route to the other NVA that they need",
			"Flaps: without that static route the tunnel is routed into itself until the hold time ends, again and again. `dev eth0` at the VXLAN device does not help.",
			"Survives: the endpoint is pinned in the table `underlay`.",
			(*measured).recursiveRouting,
		},
		{
			"7. Unequal routes at the two instances",
			"one `protocol bgp` an instance, each with filters of its own",
			"Unequal: a filter forgotten at one instance makes two different tables. Nothing says so.",
			"Equal: both instances are sessions of one entry. They get the same even if they tell different things.",
			(*measured).unequalInstances,
		},
		{
			"8. Default route to the wrong side",
			"`export all` to the hub's Route Server; Microsoft's edge does not filter a default",
			"Leaks: on-prem learns 0.0.0.0/0 from Azure.",
			"Refused at `transitd check`; a learned default is refused by `default-not-passed-on`.",
			(*measured).wrongDefault,
		},
	}
}

// TestRecipes shows the well-known mistakes of the published recipes twice in
// the same fabric: with BIRD and the kernel's VXLAN, and with transitd.
func TestRecipes(t *testing.T) {
	if !testing.Short() {
		if _, err := exec.LookPath("bird"); err != nil {
			t.Fatal("needs BIRD 2 (apt install bird2): the recipes are run, not retold")
		}
	}
	theirs := upLab(t, "ra", "--encapsulation", "none")
	ours := upLab(t, "rb", "--encapsulation", "vxlan")
	ours.healthy()
	committed, err := os.ReadFile(recipeDocument)
	if err != nil && !*updateRecipes {
		t.Fatal(err)
	}
	list := mistakes()
	// The third needs the lab's plain speakers, which make room for BIRD then.
	order := append([]mistake{list[2]}, slices.Delete(slices.Clone(list), 2, 3)...)
	results := map[string]*measured{}
	for i, x := range order {
		ok := t.Run(strings.TrimLeft(x.name, "0123456789. "), func(t *testing.T) {
			m := &measured{t: t}
			r, l := &lab{t: t, name: theirs.name}, &lab{t: t, name: ours.name}
			x.run(m, r, l)
			l.healthy()
			t.Logf("recipe:\n%s\ntransitd:\n%s", strings.Join(m.theirs, "\n"), strings.Join(m.ours, "\n"))
			if !*updateRecipes && !strings.Contains(string(committed), x.row()) {
				t.Errorf("%s has no line\n%s\nrun this test with -update-recipes", recipeDocument, x.row())
			}
			results[x.name] = m
		})
		if !ok {
			theirs.t.Fatalf("stopped after %q", x.name)
		}
		if i == 0 {
			theirs.must(theirs.cmd("stop", "hub-nva"))
			theirs.must(theirs.cmd("stop", "transit-nva"))
		}
	}
	if *updateRecipes {
		if len(results) < len(list) {
			t.Fatal("-update-recipes needs all scenarios")
		}
		if err := os.WriteFile(recipeDocument, []byte(recipeText(list, results)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func recipeText(list []mistake, results map[string]*measured) string {
	var b strings.Builder
	b.WriteString(`<!-- Written by: go test ./pkg/lab/e2e -run TestRecipes -update-recipes -->

# Why not a recipe?

The published recipes join two VNets with BIRD and a kernel VXLAN device. They work, until one of these eight things
happens. Each was run twice in the [lab](lab.md), in the same fabric with the same Route Servers: once as the recipe,
once with transitd.

The recipe: BIRD 2, one VXLAN device, all routes in the main table. The AS path is emptied on import, everything is
exported, next hop self. Static routes lead to the RouteServerSubnet and to the other NVA. Without a mistake it
carries traffic in the lab too.

The configuration is rebuilt from what was published, not copied: reconnection timers and the tunnel's hold time are
shorter, and each run spoils one thing. The third mistake is run with the lab's plain BGP speakers in place of BIRD.

| mistake | published recipe | transitd |
|---|---|---|
`)
	for _, x := range list {
		b.WriteString(x.row() + "\n")
	}
	b.WriteString("\nThe numbers below are from the last run with `-update-recipes`. The test repeats every run and fails if a row is no longer true.\n")
	for _, x := range list {
		m := results[x.name]
		fmt.Fprintf(&b, "\n## %s\n\nSeen in: %s.\n\nRecipe:\n\n```\n%s\n```\n\ntransitd:\n\n```\n%s\n```\n",
			x.name, x.source, strings.Join(m.theirs, "\n"), strings.Join(m.ours, "\n"))
	}
	return b.String()
}

// runRecipe starts a pair and waits until it carries traffic.
func runRecipe(r *lab, hub, transit *recipeSide) (h, t *bird) {
	r.t.Helper()
	h, t = r.startPair(hub, transit)
	r.eventually("the recipe carries traffic", 20*time.Second, func() error { return r.reaches("avs", onpremHost) })
	return h, t
}

func (m *measured) leakedSubnet(r, l *lab) {
	hub, transit := recipePair()
	h, _ := runRecipe(r, hub, transit)
	m.recipe("transit-ars-0 learned 10.0.1.0/27 from transit-nva, AS path %s", r.has("transit-ars-0", "transit-nva", "10.0.1.0/27", true))
	m.recipe("AVS' router learned 10.0.1.0/27, AS path %s", r.has("avs-edge", "", "10.0.1.0/27", true))
	undo := r.tell("avs-edge", "10.0.1.0/28")
	r.eventually("the hub NVA's kernel follows", 15*time.Second, func() error {
		if d := r.device("hub-nva", "10.0.1.4"); d != "vxlan0" {
			return fmt.Errorf("device %s", d)
		}
		return nil
	})
	h.ask("restart", "ars0")
	time.Sleep(3 * time.Second) // three times the time to connect: it must not come
	state := h.state("ars0")
	m.is(!strings.HasPrefix(state, "Established"), "the session is %q", state)
	m.recipe("AVS announces 10.0.1.0/28: hub-nva sends packets for its Route Server 10.0.1.4 out of vxlan0")
	m.recipe("the session to 10.0.1.4, started again: %s", state)
	undo()

	undo = l.tell("avs-edge", "10.0.1.0/27", "10.0.1.0/28")
	undoOwn := l.tell("transit-ars-0", "10.1.1.0/27")
	m.transitd("%s", l.refused("transit-nva", "10.1.1.0/27", "transit-ars", "protected-prefix", false))
	m.transitd("%s", l.refused("hub-nva", "10.0.1.0/27", "tr0", "protected-prefix", false))
	m.transitd("%s", l.refused("hub-nva", "10.0.1.0/28", "tr0", "protected-prefix", false))
	m.is(l.device("hub-nva", "10.0.1.4") == "eth0", "packets for the Route Server leave by %s", l.device("hub-nva", "10.0.1.4"))
	m.transitd("hub-nva sends packets for 10.0.1.4 out of eth0")
	answer := l.check("hub-nva", "originate:\n", "originate:\n  - prefix: 10.0.1.0/27\n    to: [tr0]\n")
	m.is(strings.Contains(answer, "is never announced"), "check says %q", answer)
	m.transitd("check, originating it: %s", answer)
	_, leaked := l.knows("onprem", "")["10.1.1.0/27"]
	m.is(!leaked, "on-prem learned 10.1.1.0/27")
	m.delivers(l)
	undo()
	undoOwn()
}

func (m *measured) emptiedPath(r, l *lab) {
	hub, transit := recipePair()
	h, _ := runRecipe(r, hub, transit)
	const prefix = "192.168.9.0/24"
	undo := r.tell("hub-ars-0", prefix)
	m.recipe("hub-ars-0 tells hub-nva %s, AS path 65515", prefix)
	m.recipe("hub-ars-1 learned it from hub-nva, AS path %q", r.has("hub-ars-1", "hub-nva", prefix, true))
	r.eventually("the fabric follows", 15*time.Second, func() error {
		if e := r.effective("hub-nva", prefix); !strings.Contains(e, hubNIC) {
			return fmt.Errorf("%q", e)
		}
		return nil
	})
	m.recipe("effective route of hub-nva's own NIC: %s", r.effective("hub-nva", prefix))
	r.has("onprem", "", prefix, true)
	before := r.hairpins()
	loss, _ := r.ping("onprem", "192.168.9.1", 5, 56)
	trips := r.hairpins() - before
	m.is(loss == 100 && trips >= 50, "loss %v %%, %d hairpins", loss, trips)
	m.recipe("on-prem pings 192.168.9.1 5 times: %.0f %% loss, %d hairpins", loss, trips)
	undo()
	r.has("hub-ars-1", "", prefix, false)
	h.stop()
	hub.KeepPath = true
	h = r.startRecipe(hub)
	r.eventually("the sessions are up again", 15*time.Second, func() error {
		for _, p := range []string{"ars0", "ars1", "tunnel"} {
			if s := h.state(p); s != "Established" {
				return fmt.Errorf("%s: %s", p, s)
			}
		}
		return nil
	})
	r.has("hub-ars-1", "hub-nva", "10.50.1.0/24", true)
	undo = r.tell("hub-ars-0", prefix)
	r.has("onprem", "", prefix, true)
	_, back := r.knows("hub-ars-1", "hub-nva")[prefix]
	m.is(!back, "hub-ars-1 took a path with 65515")
	m.recipe("control, AS path not emptied: hub-ars-1 takes it from nobody")
	undo()

	undo = l.tell("hub-ars-0", prefix)
	m.transitd("%s", l.refused("hub-nva", prefix, "hub-ars", "route-server-to-route-server", true))
	_, back = l.knows("hub-ars-1", "hub-nva")[prefix]
	m.is(!back, "hub-ars-1 learned %s back", prefix)
	m.is(l.effective("hub-nva", prefix) == "", "effective route %q", l.effective("hub-nva", prefix))
	m.transitd("hub-ars-1 learned it from nobody; no effective route leads to hub-nva")
	before = l.hairpins()
	_, _ = l.ping("onprem", "192.168.9.1", 5, 56)
	m.is(l.hairpins() == before, "%d hairpins", l.hairpins()-before)
	m.transitd("on-prem pings 192.168.9.1 5 times: 0 hairpins")
	m.delivers(l)
	undo()
}

func (m *measured) noTunnel(r, l *lab) {
	m.recipe("effective route of transit-nva's own NIC: %s", r.effective("transit-nva", "172.16.0.0/16"))
	before := r.hairpins()
	loss, _ := r.ping("avs", onpremHost, 5, 56)
	trips := r.hairpins() - before
	m.is(loss == 100 && trips >= 50, "loss %v %%, %d hairpins", loss, trips)
	m.recipe("AVS pings on-prem 5 times: %.0f %% loss, %d hairpins", loss, trips)

	answer := l.check("hub-nva", "    vxlan: {vni: 7700}", "    encapsulation: none\n    vxlan: {vni: 7700}")
	m.is(strings.Contains(answer, `"none" is not one of vxlan`), "check says %q", answer)
	m.transitd("check: %s", answer)
	before = l.hairpins()
	m.delivers(l)
	m.is(l.hairpins() == before, "%d hairpins", l.hairpins()-before)
	m.transitd("hairpins meanwhile: %d", l.hairpins()-before)
}

func (m *measured) oneInstance(r, l *lab) {
	const down = 2 * time.Second
	maintain := func(x *lab) stream {
		return x.lossy("onprem", avsHost, 5*time.Second, func() {
			x.must(x.cmd("maintenance", "hub-ars-0", "--down", down.String()))
		})
	}
	hub, transit := recipePair()
	hub.Instances[1] = hub.Instances[0]
	h, _ := runRecipe(r, hub, transit)
	sessions := []string{h.state("ars0"), h.state("ars1")}
	up := slices.DeleteFunc(slices.Clone(sessions), func(s string) bool { return s != "Established" })
	m.is(len(up) == 1, "sessions %q", sessions)
	m.recipe("BIRD's two sessions to 10.0.1.4: %s", strings.Join(sessions, "; "))
	n := len(r.knows("hub-ars-1", "hub-nva"))
	m.is(n == 0, "hub-ars-1 learned %d routes", n)
	m.recipe("routes of hub-nva at hub-ars-1: %d", n)
	s := maintain(r)
	m.is(s.LongestGapMS > 1000, "%+v", s)
	m.recipe("maintenance of hub-ars-0 (%v): %d of %d datagrams lost, longest gap %.1f s", down, s.Lost, s.Sent, s.LongestGapMS/1000)

	const instances = "[10.0.1.4, 10.0.1.5]"
	for _, bad := range []struct{ addresses, want string }{
		{"[10.0.1.4, 10.0.1.4]", "10.0.1.4 is route_servers[0].addresses[0] already"},
		{"[10.0.1.4]", "has 1 entry, want 2"},
	} {
		answer := l.check("hub-nva", instances, bad.addresses)
		m.is(strings.Contains(answer, bad.want), "check of %s says %q", bad.addresses, answer)
		m.transitd("check of %s: %s", bad.addresses, answer)
	}
	s = maintain(l)
	m.is(s.Lost == 0, "%+v", s)
	m.transitd("maintenance of hub-ars-0 (%v): %d of %d datagrams lost", down, s.Lost, s.Sent)
	m.delivers(l)
}

func (m *measured) wrongRemote(r, l *lab) {
	const stranger, datagrams = "10.0.1.4", 200
	const nobody = "10.1.2.5"
	hub, transit := recipePair()
	hub.Remote = nobody
	runRecipe(r, hub, transit)
	m.recipe("hub-nva: vxlan remote %s, which is nobody; transit-nva: %s", nobody, transit.Remote)
	learned := ""
	for line := range strings.Lines(r.must(r.in("hub-nva", "bridge", "fdb", "show", "dev", "vxlan0"))) {
		if strings.Contains(line, "dst "+transitNIC) {
			learned = strings.TrimSpace(line)
		}
	}
	m.is(learned != "", "the kernel learned nothing")
	m.recipe("AVS ↔ on-prem works: hub-nva's kernel learned a remote: %s", strings.ReplaceAll(learned, "  ", " "))
	before := r.echoes("avs")
	mac := strings.TrimSpace(r.must(r.in("transit-nva", "cat", "/sys/class/net/vxlan0/address")))
	if err := r.sendFrames("hub-ars-0", stranger, transitNIC, mac, 1, datagrams); err != nil {
		m.t.Fatal(err)
	}
	r.eventually("the stranger's packets arrive", 5*time.Second, func() error {
		if n := r.echoes("avs") - before; n < datagrams {
			return fmt.Errorf("%d of %d", n, datagrams)
		}
		return nil
	})
	m.recipe("%d VXLAN frames from a stranger (%s) to transit-nva: %d packets reach AVS", datagrams, stranger, r.echoes("avs")-before)

	for _, bad := range []struct{ remote, want string }{
		{hubNIC, "this node's own address"},
		{stranger, "inside route_servers[0].subnet"},
	} {
		answer := l.check("hub-nva", "remote: "+transitNIC, "remote: "+bad.remote)
		m.is(strings.Contains(answer, bad.want), "check of %s says %q", bad.remote, answer)
		m.transitd("check of remote %s: %s", bad.remote, answer)
	}
	dropped, before := drops(l.status("transit-nva")), l.echoes("avs")
	if err := l.sendFrames("hub-ars-0", stranger, transitNIC, "02:00:0a:01:02:04", 7700, datagrams); err != nil {
		m.t.Fatal(err)
	}
	l.eventually("the stranger's frames are counted", 5*time.Second, func() error {
		if n := drops(l.status("transit-nva")) - dropped; n < datagrams {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	m.is(l.echoes("avs") == before, "%d packets of a stranger reached AVS", l.echoes("avs")-before)
	m.transitd("%d VXLAN frames from a stranger (%s) to transit-nva: %d dropped and counted, 0 packets reach AVS", datagrams, stranger, drops(l.status("transit-nva"))-dropped)
	undo := l.edit("hub-nva", func(s string) string { return strings.Replace(s, "remote: "+transitNIC, "remote: "+nobody, 1) })
	l.must(l.ctlCommand("hub-nva", "reload"))
	l.eventually("nothing is announced", 20*time.Second, func() error {
		if n := len(l.knows("hub-ars-0", "hub-nva")) + len(l.knows("transit-ars-0", "transit-nva")); n > 0 {
			return fmt.Errorf("%d routes", n)
		}
		return nil
	})
	s := l.status("hub-nva")
	m.is(s.Health != "ok" && len(s.Warnings) > 0, "%+v", s)
	m.transitd("remote %s, loaded: health %s: %s", nobody, s.Health, strings.Join(s.Warnings, "; "))
	m.transitd("routes of both NVAs at the Route Servers: 0")
	undo()
	l.must(l.ctlCommand("hub-nva", "reload"))
	l.eventually("traffic is back", 20*time.Second, func() error { return l.reaches("avs", onpremHost) })
	m.delivers(l)
}

func (m *measured) recursiveRouting(r, l *lab) {
	hub, transit := recipePair()
	transit.NoPin = true
	h, b := r.startPair(hub, transit)
	r.eventually("the tunnel is routed into itself", 20*time.Second, func() error {
		if d := r.device("transit-nva", hubNIC); d != "vxlan0" {
			return fmt.Errorf("device %s", d)
		}
		return nil
	})
	m.recipe("transit-nva learned 10.0.0.0/16 through the tunnel: packets for the endpoint %s leave by vxlan0", hubNIC)
	loss, _ := r.ping("avs", onpremHost, 20, 56)
	m.is(loss > 50, "loss %v %%", loss)
	m.recipe("AVS pings on-prem 20 times: %.0f %% loss", loss)
	r.eventually("it is over", 15*time.Second, func() error { // hold time 6 s
		if d := r.device("transit-nva", hubNIC); d != "eth0" {
			return fmt.Errorf("device %s", d)
		}
		return nil
	})
	r.eventually("it begins again", 15*time.Second, func() error {
		if d := r.device("transit-nva", hubNIC); d != "vxlan0" {
			return fmt.Errorf("device %s", d)
		}
		return nil
	})
	collisions := strings.TrimSpace(r.must(r.in("transit-nva", "cat", "/sys/class/net/vxlan0/statistics/collisions")))
	b.stop()
	flaps := strings.Count(b.log.String(), "Hold timer expired")
	m.is(collisions != "0", "the kernel counted no packet that the tunnel sent into itself")
	m.recipe("the session ended with its hold time (6 s here), the route went, came back, and it began again")
	m.recipe("transit-nva's log: \"Hold timer expired\": %d; packets that the tunnel sent into itself (collisions): %s", flaps, collisions)
	h.stop()
	transit.Device = "eth0"
	r.startPair(hub, transit)
	r.eventually("10.0.0.0/16 is learned", 15*time.Second, func() error {
		if d := r.device("transit-nva", hubNIC); d != "vxlan0" {
			return fmt.Errorf("device %s", d)
		}
		return nil
	})
	loss, _ = r.ping("avs", onpremHost, 20, 56)
	fdb := r.must(r.in("transit-nva", "bridge", "fdb", "show", "dev", "vxlan0"))
	m.is(loss > 50 && strings.Contains(fdb, "dst "+hubNIC+" via eth0"), "loss %v %%, %s", loss, fdb)
	m.recipe("control, the VXLAN device bound with `dev eth0`: AVS pings on-prem 20 times: %.0f %% loss", loss)
	for line := range strings.Lines(fdb) {
		if !strings.HasPrefix(line, "00:00:00:00:00:00") && strings.Contains(line, "dst "+hubNIC) {
			m.recipe("  because the learned forwarding entry has no device: %s", strings.TrimSpace(line))
		}
	}

	undo := l.tell("onprem", "10.0.2.0/24")
	l.has("avs-edge", "", "10.0.2.0/24", true)
	var x explained
	l.ctl("transit-nva", &x, "explain", "10.0.2.0/24")
	m.is(len(x.Outer) > 0 && x.Outer[0].Lookup.Device == "eth0" && x.Outer[0].Lookup.Table == "underlay", "%+v", x)
	m.transitd("transit-nva accepts 10.0.0.0/16 and 10.0.2.0/24 through tr0, both cover the endpoint %s", hubNIC)
	for _, o := range x.Outer {
		m.transitd("explain 10.0.2.0/24: outer packets of %s leave by %s, table %s", o.Tunnel, o.Lookup.Device, o.Lookup.Table)
	}
	m.delivers(l)
	undo()
	l.has("avs-edge", "", "10.0.2.0/24", false)
}

func (m *measured) unequalInstances(r, l *lab) {
	told := func(x *lab, instance string) []string {
		return slices.Sorted(maps.Keys(x.knows(instance, "hub-nva")))
	}
	hub, transit := recipePair()
	hub.OnlyFirst = true
	runRecipe(r, hub, transit)
	r.has("hub-ars-1", "hub-nva", "10.50.3.0/24", true)
	a, b := told(r, "hub-ars-0"), told(r, "hub-ars-1")
	m.is(len(a) > len(b), "%q and %q", a, b)
	m.recipe("hub-nva told hub-ars-0 %d routes, hub-ars-1 %d", len(a), len(b))
	missing := slices.DeleteFunc(slices.Clone(a), func(p string) bool { return slices.Contains(b, p) })
	m.recipe("missing at hub-ars-1: %s", strings.Join(missing, " "))
	loss, _ := r.ping("onprem", avsHost, 5, 56)
	m.recipe("while both instances live, the lab's fabric takes the sum of both (Azure: some VMs get the routes, others do not): on-prem pings AVS, %.0f %% loss", loss)
	r.must(r.cmd("maintenance", "hub-ars-0", "--down", "4s"))
	r.eventually("the fabric follows", 3*time.Second, func() error {
		if e := r.effective("hub-nva", "10.50.1.0/24"); e != "" {
			return fmt.Errorf("%q", e)
		}
		return nil
	})
	loss, _ = r.ping("onprem", avsHost, 5, 56)
	m.is(loss == 100, "loss %v %%", loss)
	m.recipe("while hub-ars-0 is in maintenance: on-prem pings AVS, %.0f %% loss", loss)

	undo := l.tell("transit-ars-0", "192.168.9.0/24") // only one instance tells it
	l.has("hub-ars-0", "hub-nva", "192.168.9.0/24", true)
	l.has("hub-ars-1", "hub-nva", "192.168.9.0/24", true)
	a, b = told(l, "hub-ars-0"), told(l, "hub-ars-1")
	m.is(slices.Equal(a, b) && len(a) > 5, "%q and %q", a, b)
	m.transitd("only transit-ars-0 tells 192.168.9.0/24; hub-nva told hub-ars-0 %d routes, hub-ars-1 the same %d", len(a), len(b))
	m.delivers(l)
	undo()
	l.has("hub-ars-1", "hub-nva", "192.168.9.0/24", false)
}

func (m *measured) wrongDefault(r, l *lab) {
	const all = "0.0.0.0/0"
	hub, transit := recipePair()
	hub.Default = true
	runRecipe(r, hub, transit)
	m.recipe("AVS learned %s, as it should, AS path %s", all, r.has("avs-edge", "", all, true))
	m.recipe("on-prem learned %s, AS path %s", all, r.has("onprem", "", all, true))
	device := r.must(r.in("onprem", "ip", "route", "show", "default"))
	m.recipe("on-prem's kernel: %s", strings.Join(strings.Fields(device), " "))

	answer := l.check("hub-nva", "to: [tr0]", "to: [tr0, hub-ars]")
	m.is(strings.Contains(answer, "is a default route"), "check says %q", answer)
	m.transitd("check: %s", answer)
	m.transitd("AVS learned %s, AS path %s", all, l.has("avs-edge", "", all, true))
	undo := l.tell("avs-edge", all, "0.0.0.0/1")
	m.transitd("%s", l.refused("transit-nva", "0.0.0.0/1", "tr0", "default-not-passed-on", true))
	m.transitd("%s", l.refused("transit-nva", all, "tr0", "default-not-passed-on", true))
	routes := l.knows("onprem", "")
	m.is(routes[all] == "" && routes["0.0.0.0/1"] == "", "on-prem learned %v", routes)
	m.transitd("on-prem learned no default: %s", strings.Join(slices.Sorted(maps.Keys(routes)), " "))
	m.delivers(l)
	undo()
	l.has("avs-edge", "", all, true) // the hub's again
}
