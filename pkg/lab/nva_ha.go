package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"text/template"
)

// haNode is what templates/ha.yaml is filled with: an NVA among several.
type haNode struct {
	Name, Site, Socket string
	ASN                uint32
	Priority, Cap      int
	RouteServers       string // the third octets of the VNet: 10.0 or 10.1
	DefaultRoute       string
	Hub                bool
	Encapsulation      encapsulation
	Tunnels            []haTunnel
}

// haTunnel is one tunnel of it, to the other side or to a sibling.
type haTunnel struct {
	Name          string
	Remote        netip.Addr
	Address, Peer netip.Addr // of a /30
	VNI           int
	ASN           uint32
	Sibling       bool
}

// haConfig renders the configuration of one of several NVAs a side: a full mesh
// of tunnels to the other side (tr1 … at the hub, hub1 … at transit), and to its
// siblings (ha1 …), each named by the number of the node at its far end.
func haConfig(s state, o Options, node string) ([]byte, error) {
	n, err := newHANode(s, o, node)
	if err != nil {
		return nil, err
	}
	t, err := template.ParseFS(templates, "templates/ha.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the template of %s: %w", node, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, n); err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", node, err)
	}
	return b.Bytes(), nil
}

func newHANode(s state, o Options, node string) (haNode, error) {
	for i := range o.NVAs {
		for _, vnet := range []string{"hub", "transit"} {
			if nvaName(vnet, i) != node {
				continue
			}
			n := haNode{
				Name: node, Site: vnet, Cap: o.Cap, Socket: s.socket(node), ASN: asnHubNVA, RouteServers: "10.0", DefaultRoute: "deny", Hub: vnet == "hub",
				Encapsulation: encapsulation{s, o.Encapsulation, node},
			}
			if !n.Hub {
				n.ASN, n.RouteServers, n.DefaultRoute = asnTransitNVA, "10.1", "announce"
			}
			if o.HA == ActiveStandby {
				n.Priority = i
			}
			n.mesh(o.NVAs, i)
			return n, nil
		}
	}
	return haNode{}, fmt.Errorf("lab: %q is no NVA of a lab with %d a side", node, o.NVAs)
}

// mesh adds the tunnels of NVA number me.
func (n *haNode) mesh(nvas, me int) {
	for far := range nvas {
		k, t := me*nvas+far, haTunnel{Name: fmt.Sprintf("tr%d", far+1), Remote: nvaAddress("transit", far), ASN: asnTransitNVA}
		if !n.Hub {
			k = far*nvas + me
			t = haTunnel{Name: fmt.Sprintf("hub%d", far+1), Remote: nvaAddress("hub", far), ASN: asnHubNVA}
		}
		t.VNI = 7700 + k
		t.Address, t.Peer = ends(netip.AddrFrom4([4]byte{169, 254, 77, byte(4 * k)}), n.Hub)
		n.Tunnels = append(n.Tunnels, t)
	}
	third, vni := byte(78), 7800
	if !n.Hub {
		third, vni = 79, 7900
	}
	for far := range nvas {
		if far == me {
			continue
		}
		k := min(me, far)*nvas + max(me, far)
		t := haTunnel{Name: fmt.Sprintf("ha%d", far+1), Remote: nvaAddress(n.Site, far), ASN: n.ASN, VNI: vni + k, Sibling: true}
		t.Address, t.Peer = ends(netip.AddrFrom4([4]byte{169, 254, third, byte(4 * k)}), me < far)
		n.Tunnels = append(n.Tunnels, t)
	}
}

// ends are the two addresses of a /30, ours first.
func ends(network netip.Addr, first bool) (ours, theirs netip.Addr) {
	a, b := network.Next(), network.Next().Next()
	if first {
		return a, b
	}
	return b, a
}
