package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/config"
)

// TestRESTAgrees: the API's nesting means the same as the CLI's flat fields.
func TestRESTAgrees(t *testing.T) {
	t.Parallel()
	in := running(t, load(t, "testdata/daemon"))
	cli, rest := load(t, "testdata/hub").azure(t), load(t, "testdata/hub-rest").azure(t)
	for name, az := range map[string]Azure{"cli": cli, "rest": rest} {
		if r := Run(in, az); !r.OK || len(r.Notes) > 0 {
			t.Errorf("%s: %s, notes %q", name, findings(r), r.Notes)
		}
	}
	if d := cmp.Diff(cli.Peerings, rest.Peerings, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Source" }, cmp.Ignore()),
		cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); d != "" {
		t.Errorf("peerings (-cli +rest):\n%s", d)
	}
	if len(rest.VNets) != 1 || len(rest.VNets[0].Prefixes) != 1 {
		t.Errorf("VNets: %+v", rest.VNets)
	}
}

// TestReadRefuses: what is no answer of Azure is refused with words that help.
func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, msg, hint string }{
		{"empty", "", "in.json: is empty", "-o json"},
		{"blank", " \n\t", "in.json: is empty", "-o json"},
		{"table", "Source    State\n--------  -------\n", "is not JSON at line 1", "-o json"},
		{"cut off", "{\n\"value\": [\n{", "is not JSON at line 3", "-o json"},
		{"second document", "[]\n{]", "in.json, document 2: is not JSON at line 2", "-o json"},
		{"number", "42", "is a single value", "-o json"},
		{"null", "null", "is a single value", "-o json"},
		{"list of texts", `["a"]`, "element 1 is not an object", "-o json"},
		{"another resource", `{"type":"Microsoft.Compute/virtualMachines","name":"x"}`, `a resource of type "Microsoft.Compute/virtualMachines"`, "nic show"},
		{"unknown", `{"b":1,"a":2}`, "is nothing that audit knows; it has a, b", "nic show"},
		{"empty object", `{}`, "it has nothing", "nic show"},
		{"renamed field", `{"value":[{"prefixes":["10.0.0.0/8"],"nextHopType":"None"}]}`, "it has nexthoptype, prefixes", "show-effective-route-table"},
		{"error of Azure", `{"error":{"code":"AuthorizationFailed","message":"no"}}`, "is an error of Azure: AuthorizationFailed: no", "mend that"},
		{"route without network", `{"RouteServiceRole_IN_0":[{"prefix":"10.0.0.0/8"}]}`, "a route of RouteServiceRole_IN_0 has no network", "list-learned-routes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var az Azure
			err := az.Read("in.json", []byte(tc.text))
			e, ok := errors.AsType[*InputError](err)
			if !ok || !strings.Contains(e.Error(), tc.msg) || !strings.Contains(e.Hint, tc.hint) {
				t.Errorf("%v (hint %+v), want %q and %q", err, e, tc.msg, tc.hint)
			}
		})
	}
}

// TestReadNotes: a field that is missing or wrong is told, and not taken for a good value.
func TestReadNotes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, note string }{
		{"missing forwarding", `{"type":"Microsoft.Network/networkInterfaces","id":"/x/nic"}`, "the network card has no enableIPForwarding"},
		{"forwarding is text", `{"type":"Microsoft.Network/networkInterfaces","enableIPForwarding":"yes"}`, `enableIPForwarding is "yes", want true or false`},
		{"bad address", `{"type":"Microsoft.Network/networkInterfaces","enableIPForwarding":true,"ipConfigurations":[{"privateIPAddress":"ten"}]}`, `"ten", which is no address`},
		{"addresses are no list", `{"type":"Microsoft.Network/networkInterfaces","enableIPForwarding":true,"ipConfigurations":7}`, "ipConfigurations is 7, want a list of objects"},
		{"bad prefix", `{"value":[{"addressPrefix":["Storage"],"nextHopType":"None","source":"User","state":"Active"}]}`, `"Storage", which is no prefix`},
		{"no state", `{"value":[{"addressPrefix":["10.0.0.0/8"],"nextHopType":"None","source":"User"}]}`, "route 1 lacks nextHopType, source or state"},
		{"new next hop type", `{"value":[{"addressPrefix":["10.0.0.0/8"],"nextHopType":"Teleport","source":"Default","state":"Active"}]}`, `next hop type "Teleport" is unknown`},
		{"no flags", `{"peeringState":"Connected","id":"/x/virtualNetworkPeerings/p"}`, "peering p has no allowForwardedTraffic"},
		{"no branch to branch", `{"virtualRouterIps":["10.0.1.4"],"virtualRouterAsn":65515}`, "has no allowBranchToBranchTraffic"},
		{"ASN is text", `{"virtualRouterIps":["10.0.1.4"],"virtualRouterAsn":"AS65515","allowBranchToBranchTraffic":true}`, "want a whole number"},
		{"rule without priority", `{"securityRules":[{"name":"r"}],"defaultSecurityRules":[]}`, `rule "r" lacks priority`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var az Azure
			if err := az.Read("in.json", []byte(tc.text)); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(az.Notes, func(n string) bool { return strings.HasPrefix(n, "in.json: ") && strings.Contains(n, tc.note) }) {
				t.Errorf("no note %q in %q", tc.note, az.Notes)
			}
		})
	}
}

// TestMissingIsNotGood: a card without the field gives no finding and no silence either.
func TestMissingIsNotGood(t *testing.T) {
	t.Parallel()
	hub := load(t, "testdata/hub")
	hub["nic.json"] = bytes.Replace(hub["nic.json"], []byte(`"enableIPForwarding"`), []byte(`"forwardsPackets"`), 1)
	r := Run(running(t, load(t, "testdata/daemon")), hub.azure(t))
	if !slices.ContainsFunc(r.Unchecked, func(u Unchecked) bool { return strings.HasPrefix(u.Check, "IP forwarding") }) {
		t.Errorf("not checked: %+v", r.Unchecked)
	}
}

// TestNothingGiven: each missing input is told, with the command that gets it.
func TestNothingGiven(t *testing.T) {
	t.Parallel()
	r := Run(running(t, load(t, "testdata/daemon")), Azure{})
	var commands []string
	for _, u := range r.Unchecked {
		commands = append(commands, u.Get)
	}
	all := strings.Join(commands, "\n")
	for _, want := range []string{"nic show ", "show-effective-route-table", "vnet peering list", "routeserver show", "peering list ", "list-learned-routes", "list-advertised-routes"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if len(r.Findings) > 0 {
		t.Errorf("findings from nothing: %s", findings(r))
	}
}

// TestReadShapes: older CLIs, envelopes, comments, several documents in one input.
func TestReadShapes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, source, text string
		want               []Input
	}{
		{"older CLI", "in", `{"type":"Microsoft.Network/networkInterfaces","enableIpForwarding":true,"ipConfigurations":[{"privateIpAddress":"10.0.2.4"}]}`, []Input{{"in", KindCard, 1}}},
		{"byte order mark", "in", "\xef\xbb\xbf[]", []Input{{"in", KindNothing, 0}}},
		{"comments", "in", "# az network ...\n[]\n# and so on\n", []Input{{"in", KindNothing, 0}}},
		{"two documents", "in", `{"virtualRouterIps":["10.0.1.4"],"virtualRouterAsn":65515,"allowBranchToBranchTraffic":true}` + "\n[]", []Input{{"in", KindRouteServer, 1}, {"in, document 2", KindNothing, 0}}},
		{"empty roles", "learned.json", `{"RouteServiceRole_IN_0":[],"RouteServiceRole_IN_1":[],"value":null}`, []Input{{"learned.json", KindLearned, 0}}},
		{"empty roles by name", "Advertised.json", `{"RouteServiceRole_IN_0":[],"RouteServiceRole_IN_1":[]}`, []Input{{"Advertised.json", KindAdvertised, 0}}},
		{"roles in value", "in", `{"value":{"RouteServiceRole_IN_0":[{"network":"10.0.0.0/16","localAddress":"10.0.1.4","nextHop":"10.0.1.4"}]}}`, []Input{{"in", KindAdvertised, 1}}},
		{"bare routes", "in", `[{"network":"10.0.0.0/16","localAddress":"10.0.1.4","nextHop":"10.0.2.4","sourcePeer":"10.0.2.4"}]`, []Input{{"in", KindLearned, 1}}},
		{"bare effective routes", "in", `[{"addressPrefix":"10.0.0.0/16","nextHopType":"VNet local","source":"Default","state":"active"}]`, []Input{{"in", KindEffective, 1}}},
		{"list of cards", "in", `[{"type":"Microsoft.Network/networkInterfaces","enableIPForwarding":true},{"type":"Microsoft.Network/networkInterfaces","enableIPForwarding":true}]`, []Input{{"in", KindCard, 1}, {"in", KindCard, 1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var az Azure
			if err := az.Read(tc.source, []byte(tc.text)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, az.Inputs); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if len(az.Notes) > 0 {
				t.Errorf("notes %q", az.Notes)
			}
		})
	}
}

// TestLookup: the order of Azure's route selection.
func TestLookup(t *testing.T) {
	t.Parallel()
	route := func(prefix, hop, origin string, active bool) EffectiveRoute {
		return EffectiveRoute{Prefix: netip.MustParsePrefix(prefix), NextHopType: hop, Origin: origin, Active: active}
	}
	const gw, def, user = "VirtualNetworkGateway", "Default", "User"
	for _, tc := range []struct {
		name     string
		routes   []EffectiveRoute
		want     string
		shadowed bool
	}{
		{"longest", []EffectiveRoute{route("10.0.0.0/8", "None", def, true), route("10.1.0.0/16", "VirtualAppliance", user, true)}, "10.1.0.0/16 VirtualAppliance", false},
		{"user before BGP", []EffectiveRoute{route("10.1.0.0/16", gw, gw, true), route("10.1.0.0/16", "VirtualAppliance", user, true)}, "10.1.0.0/16 VirtualAppliance", false},
		{"BGP before system", []EffectiveRoute{route("0.0.0.0/0", "Internet", def, true), route("0.0.0.0/0", gw, gw, true)}, "0.0.0.0/0 VirtualNetworkGateway", false},
		{"peering before longer BGP", []EffectiveRoute{route("10.1.0.0/16", "VNetPeering", def, true), route("10.1.2.0/24", gw, gw, true)}, "10.1.0.0/16 VNetPeering", true},
		{"longer user before peering", []EffectiveRoute{route("10.1.0.0/16", "VNetPeering", def, true), route("10.1.2.0/24", "None", user, true)}, "10.1.2.0/24 None", false},
		{"inactive does not count", []EffectiveRoute{route("10.0.0.0/8", "None", def, true), route("10.1.2.0/24", gw, gw, false)}, "10.0.0.0/8 None", false},
		{"nothing", []EffectiveRoute{route("172.16.0.0/12", "None", def, true)}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, shadowed, found := EffectiveTable{Routes: tc.routes}.lookup(netip.MustParseAddr("10.1.2.4"))
			got := ""
			if found {
				got = r.Prefix.String() + " " + r.NextHopType
			}
			if got != tc.want || (shadowed != nil) != tc.shadowed {
				t.Errorf("%q (shadowed %v), want %q", got, shadowed, tc.want)
			}
		})
	}
}

// TestSecurityGroup: the first rule that fits decides.
func TestSecurityGroup(t *testing.T) {
	t.Parallel()
	peer, own := netip.MustParseAddr("10.1.2.4"), netip.MustParseAddr("10.0.2.4")
	any := []string{"*"}
	rule := func(allow bool, protocol string, from, fromPorts, toPorts []string) SecurityRule {
		return SecurityRule{Name: "r", Inbound: true, Allow: allow, Protocol: protocol, From: from, To: any, FromPorts: fromPorts, ToPorts: toPorts}
	}
	deny := rule(false, "*", any, any, any)
	for _, tc := range []struct {
		name    string
		rules   []SecurityRule
		blocked bool
	}{
		{"no rules", nil, false},
		{"deny all", []SecurityRule{deny}, true},
		{"TCP only", []SecurityRule{rule(false, "Tcp", any, any, any)}, false},
		{"allowed before", []SecurityRule{rule(true, "UDP", []string{"10.1.0.0/16"}, any, []string{"4000-5000"}), deny}, false},
		{"another source", []SecurityRule{rule(true, "Udp", []string{"10.9.0.0/16"}, any, any), deny}, true},
		{"another port", []SecurityRule{rule(true, "Udp", any, any, []string{"4790"}), deny}, true},
		{"tag", []SecurityRule{rule(true, "*", []string{"VirtualNetwork"}, any, any), deny}, false},
		{"tag of others", []SecurityRule{rule(true, "*", []string{"AzureLoadBalancer"}, any, any), deny}, true},
		{"one source port denied", []SecurityRule{rule(false, "Udp", any, []string{"50000"}, any)}, true},
		{"some source ports allowed", []SecurityRule{rule(true, "Udp", any, []string{"49152-50000"}, any), deny}, true},
		{"all source ports allowed", []SecurityRule{rule(true, "Udp", any, []string{"1024-65535"}, any), deny}, false},
		{"no number", []SecurityRule{rule(false, "Udp", any, any, []string{"x-y"})}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, blocked := (SecurityGroup{Rules: tc.rules}).blocks(true, flow{from: peer, to: own, port: 4789}); blocked != tc.blocked {
				t.Errorf("blocked %v, want %v", blocked, tc.blocked)
			}
		})
	}
}

// TestSecurityGroupWireGuard: one source port and two listening ports are asked for, each in its direction.
func TestSecurityGroupWireGuard(t *testing.T) {
	t.Parallel()
	own := netip.MustParseAddr("10.0.2.4")
	tunnel := IntentTunnel{Name: "tr0", Remote: netip.MustParseAddr("10.1.2.4"), Port: 51820, PeerPort: 51999}
	any := []string{"*"}
	rule := func(inbound bool, from, to string) SecurityRule {
		return SecurityRule{Inbound: inbound, Allow: true, Protocol: "Udp", From: any, To: any, FromPorts: []string{from}, ToPorts: []string{to}}
	}
	deny := func(inbound bool) SecurityRule {
		return SecurityRule{Inbound: inbound, Protocol: "*", From: any, To: any, FromPorts: any, ToPorts: any}
	}
	g := SecurityGroup{Rules: []SecurityRule{rule(true, "51999", "51820"), rule(false, "51820", "51999"), deny(true), deny(false)}}
	for _, inbound := range []bool{true, false} {
		if r, blocked := g.blocks(inbound, tunnel.flow(inbound, own)); blocked {
			t.Errorf("inbound %v: blocked by %+v", inbound, r)
		}
	}
	tunnel.Spread = true
	for _, inbound := range []bool{true, false} {
		if _, blocked := g.blocks(inbound, tunnel.flow(inbound, own)); !blocked {
			t.Errorf("inbound %v: one source port is allowed, and packets with others pass", inbound)
		}
	}
}

// TestSecurityGroupRawESP: ESP without UDP and its IKE are each asked for. A rule for ports is for UDP only.
func TestSecurityGroupRawESP(t *testing.T) {
	t.Parallel()
	own := netip.MustParseAddr("10.0.2.4")
	tunnel := IntentTunnel{Name: "tr0", Remote: netip.MustParseAddr("10.1.2.4"), Port: 500, PeerPort: 500, Raw: true}
	every := []string{"*"}
	rule := func(allow bool, protocol, to string) SecurityRule {
		return SecurityRule{Name: "r", Priority: 200, Inbound: true, Allow: allow, Protocol: protocol, From: every, To: every, FromPorts: every, ToPorts: []string{to}}
	}
	deny := rule(false, "*", "*")
	const ike, esp = "UDP from 10.1.2.4 to 10.0.2.4 port 500", "ESP from 10.1.2.4 to 10.0.2.4"
	for _, tc := range []struct {
		name    string
		rules   []SecurityRule
		blocked []string
	}{
		{"both", []SecurityRule{rule(true, "Udp", "500"), rule(true, "Esp", "*"), deny}, nil},
		{"everything", []SecurityRule{rule(true, "*", "*"), deny}, nil},
		{"only IKE", []SecurityRule{rule(true, "Udp", "500"), deny}, []string{esp}},
		{"only ESP", []SecurityRule{rule(true, "esp", "*"), deny}, []string{ike}},
		{"all UDP", []SecurityRule{rule(true, "Udp", "*"), deny}, []string{esp}},
		{"any protocol, some ports", []SecurityRule{rule(true, "*", "500-4500"), deny}, []string{esp}},
		{"a port is denied", []SecurityRule{rule(false, "*", "500"), rule(true, "*", "*")}, []string{ike}},
		{"nothing", []SecurityRule{deny}, []string{ike, esp}},
	} {
		g := SecurityGroup{Rules: tc.rules}
		var blocked []string
		for _, f := range tunnel.flows(true, own) {
			if r, no := g.blocks(true, f); no {
				blocked = append(blocked, f.String())
				if want := "--protocol " + f.protocol(); !strings.Contains(allow(g, r, "tr0", f), want) {
					t.Errorf("%s: %s", tc.name, allow(g, r, "tr0", f))
				}
			}
		}
		if d := cmp.Diff(tc.blocked, blocked); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
	f := flow{from: tunnel.Remote, to: own, esp: true}
	if got := allow(SecurityGroup{}, SecurityRule{Inbound: true, Priority: 300}, "tr0", f); !strings.HasSuffix(got, "-n transitd-tr0-in-esp --priority 299 --direction Inbound --access Allow --protocol Esp "+
		"--source-address-prefixes 10.1.2.4 --source-port-ranges '*' --destination-address-prefixes 10.0.2.4 --destination-port-ranges '*'") {
		t.Error(got)
	}
}

// TestAllow: the command's priority is one that Azure takes and that no rule has.
func TestAllow(t *testing.T) {
	t.Parallel()
	rules := func(priorities ...int64) (g SecurityGroup) {
		for _, p := range priorities {
			g.Rules = append(g.Rules, SecurityRule{Name: "r" + strconv.FormatInt(p, 10), Priority: p, Inbound: true})
		}
		return g
	}
	for _, tc := range []struct {
		name   string
		group  SecurityGroup
		before int64
		want   string
	}{
		{"before it", rules(300), 300, "-n transitd-tr0-in --priority 299 "},
		{"one is taken", rules(299, 300), 300, "--priority 298 "},
		{"a default rule", rules(65500), 65500, "--priority 4096 "},
		{"no room", rules(100), 100, "update -g GROUP --nsg-name NSG -n r100 --priority 101 && az network nsg rule create -g GROUP --nsg-name NSG -n transitd-tr0-in --priority 100 "},
		{"no room, crowded", rules(100, 101, 102), 101, "-n r101 --priority 103 && az network nsg rule create -g GROUP --nsg-name NSG -n transitd-tr0-in --priority 101 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := allow(tc.group, SecurityRule{Name: "r" + strconv.FormatInt(tc.before, 10), Priority: tc.before, Inbound: true}, "tr0", flow{port: 4789})
			if !strings.Contains(got, tc.want) {
				t.Errorf("%s\nwant %q", got, tc.want)
			}
		})
	}
}

// TestDocumented: docs/audit.md has a section for every finding, with its severity.
func TestDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	for id, e := range catalogue() {
		if !strings.Contains(string(b), "\n### "+string(id)+"\n\n"+string(e.severity)+". ") {
			t.Errorf("docs/audit.md lacks ### %s with %q", id, e.severity)
		}
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if id, ok := strings.CutPrefix(line, "### "); ok {
			if _, known := catalogue()[ID(id)]; !known {
				t.Errorf("docs/audit.md has %s, which is no finding", id)
			}
		}
	}
}

// FuzzRead: whatever the input, no panic; an error is an InputError, and the
// report of what was read can be printed.
func FuzzRead(f *testing.F) {
	for _, dir := range []string{"testdata/hub", "testdata/hub-rest"} {
		for _, data := range load(f, dir) {
			f.Add(data)
		}
	}
	c, err := config.Load("../../../docs/examples/hub-nva.yaml")
	if err != nil {
		f.Fatal(err)
	}
	in := FromConfig(c)
	in.Addresses = []netip.Addr{netip.MustParseAddr("10.0.2.4")}
	f.Fuzz(func(t *testing.T, data []byte) {
		var az Azure
		if err := az.Read("fuzz", data); err != nil {
			if _, ok := errors.AsType[*InputError](err); !ok {
				t.Errorf("%T: %v", err, err)
			}
		}
		r := Run(in, az)
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
		for _, x := range r.Findings {
			if _, known := catalogue()[x.ID]; !known || x.Sentence == "" || x.Mend == "" {
				t.Errorf("%+v", x)
			}
		}
	})
}
