package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/netns"
)

// withNode runs f for a node of a lab that is up, locked.
func (l *Lab) withNode(node string, f func(Plan, Node) error) error {
	unlock, err := l.s.lock(lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := l.s.readPlan()
	if err != nil {
		return err
	}
	if err := l.hasNode(p, node); err != nil {
		return err
	}
	n, _ := p.Node(node)
	return f(p, n)
}

func (l *Lab) hasNode(p Plan, node string) error {
	if _, ok := p.Node(node); !ok {
		return fmt.Errorf("lab %q has no node %q: %s", l.s.name, node, nodeNames(p))
	}
	return nil
}

// Inside is the namespace of a node of a lab that is up.
func (l *Lab) Inside(node string) (netns.NS, error) {
	p, err := l.s.readPlan()
	if err != nil {
		return netns.NS{}, err
	}
	return l.s.ns(node), l.hasNode(p, node)
}

func nodeNames(p Plan) string {
	names := make([]string, len(p.Nodes))
	for i, n := range p.Nodes {
		names[i] = n.Name
	}
	return strings.Join(names, ", ")
}

// Stop ends a node's process as an operator would; its namespace stays.
func (l *Lab) Stop(node string) error {
	return l.withNode(node, func(_ Plan, n Node) error { return l.s.stop(n.Name, graceful) })
}

// Kill ends a node's process with SIGKILL: it has no time to say or clean up anything.
func (l *Lab) Kill(node string) error {
	return l.withNode(node, func(_ Plan, n Node) error { return l.s.stop(n.Name, 0) })
}

// Start starts a node's process again; one that runs is an error.
func (l *Lab) Start(ctx context.Context, node string) error {
	return l.withNode(node, func(p Plan, n Node) error { return l.launch(ctx, p, n) })
}

// Restart is Stop (or Kill) and Start.
func (l *Lab) Restart(ctx context.Context, node string, kill bool) error {
	return l.withNode(node, func(p Plan, n Node) error {
		grace := graceful
		if kill {
			grace = 0
		}
		if err := l.s.stop(n.Name, grace); err != nil {
			return err
		}
		return l.launch(ctx, p, n)
	})
}

// Maintain does to an instance of a Route Server what Azure's maintenance does: its sessions end, and come back after down.
func (l *Lab) Maintain(ctx context.Context, instance string, down time.Duration) error {
	return l.withNode(instance, func(_ Plan, n Node) error {
		if n.Role != RoleRouteServer {
			return fmt.Errorf("%s is no instance of a Route Server", instance)
		}
		return l.s.ask(ctx, instance, http.MethodPost, "/restart?down="+down.String(), nil)
	})
}

// Announce lets a router of the lab announce prefixes besides its own, or withdraw them again. An MSEE announces them
// to the Route Servers, as if its customer had.
func (l *Lab) Announce(ctx context.Context, node string, a Announcement) error {
	return l.withNode(node, func(p Plan, n Node) error {
		if err := announces(p, n); err != nil {
			return err
		}
		return l.s.send(ctx, node, "/announce", a)
	})
}

// announces tells why a node cannot be told to announce something.
func announces(p Plan, n Node) error {
	switch kind := kindOf(p.Options, n); kind {
	case KindEdge, KindMSEE, KindRouteServer:
		return nil
	case KindBIRD, KindFRR:
		return fmt.Errorf("%s runs %s, which is not told what to announce: up --edge %s, or %s",
			n.Name, kind, Embedded, map[string]string{"onprem": "msee-onprem", "avs-edge": "msee-avs"}[n.Name])
	default:
		return fmt.Errorf("%s announces nothing of its own: onprem, avs-edge, an MSEE or a Route Server do", n.Name)
	}
}

// Refresh does to a Route Server what a change of VNet peerings does: it sends ROUTE-REFRESH to all its NVAs. name is
// the Route Server (both instances) or one instance.
func (l *Lab) Refresh(ctx context.Context, name string) error {
	p, err := l.s.readPlan()
	if err != nil {
		return err
	}
	found := false
	for _, n := range p.Nodes {
		if n.Role != RoleRouteServer || (n.Name != name && n.Service != name) {
			continue
		}
		found = true
		if err := l.s.ask(ctx, n.Name, http.MethodPost, "/refresh", nil); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("lab %q has no Route Server %q", l.s.name, name)
	}
	return nil
}

// Cut lets the fabric drop everything between two NICs until Heal.
func (l *Lab) Cut(a, b string) error {
	return l.withNode(a, func(p Plan, _ Node) error {
		for _, name := range []string{a, b} {
			if _, ok := p.Fabric.NIC(name); !ok {
				return fmt.Errorf("%s has no NIC in the fabric", name)
			}
		}
		return fabric.Cut(l.s.ns("fabric"), a, b)
	})
}

// CutOff lets the fabric drop everything from and to a NIC until Heal: a machine that dies without a word.
func (l *Lab) CutOff(node string) error {
	return l.withNode(node, func(p Plan, _ Node) error {
		if _, ok := p.Fabric.NIC(node); !ok {
			return fmt.Errorf("%s has no NIC in the fabric", node)
		}
		return fabric.CutOff(l.s.ns("fabric"), node)
	})
}

// Heal undoes every Cut and CutOff, or those that a node is part of.
func (l *Lab) Heal(nodes ...string) error {
	if len(nodes) == 0 {
		return fabric.Heal(l.s.ns("fabric"))
	}
	return l.withNode(nodes[0], func(p Plan, _ Node) error {
		for _, name := range nodes {
			if _, ok := p.Fabric.NIC(name); !ok {
				return fmt.Errorf("%s has no NIC in the fabric", name)
			}
		}
		return fabric.Heal(l.s.ns("fabric"), nodes...)
	})
}

// Counters are the fabric's.
func (l *Lab) Counters() (map[string]uint64, error) { return fabric.Counters(l.s.ns("fabric")) }

// Effective are the effective routes of a NIC, as "az network nic show-effective-route-table" shows them.
func (l *Lab) Effective(ctx context.Context, nic string) ([]fabric.Route, error) {
	if _, err := l.s.readPlan(); err != nil {
		return nil, err
	}
	return l.fabric().Effective(ctx, nic)
}

// Known are the routes that a BGP router of the lab learned, whichever program runs there.
func (l *Lab) Known(ctx context.Context, node string) (Known, error) {
	p, err := l.s.readPlan()
	if err != nil {
		return nil, err
	}
	n, ok := p.Node(node)
	if !ok || len(n.Sessions) == 0 {
		return nil, fmt.Errorf("%s speaks no BGP", node)
	}
	if n.Role == RoleNVA && p.Options.Encapsulation != None {
		return nil, fmt.Errorf("%s runs transitd: transitlab exec %s -- transitctl bgp routes", node, node)
	}
	return l.s.known(ctx, p, node)
}

// Exec becomes a command inside a node: it returns only if that fails. transitctl finds the node's daemon through
// TRANSITD_SOCKET; birdc and vtysh are told where theirs is.
func (l *Lab) Exec(node string, argv, environ []string) error {
	p, err := l.s.readPlan()
	if err != nil {
		return err
	}
	if err := l.hasNode(p, node); err != nil {
		return err
	}
	if len(argv) == 0 {
		return errors.New("exec needs a command: transitlab exec NODE -- CMD")
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		return fmt.Errorf("iproute2 is needed: %w", err)
	}
	argv = append([]string{"ip", "netns", "exec", l.s.ns(node).Name}, l.adapt(node, argv)...)
	environ = append(environ, "TRANSITD_SOCKET="+l.s.socket(node))
	return fmt.Errorf("run %s: %w", argv[4], unix.Exec(ip, argv, environ))
}

// adapt finds our own programs beside transitlab, and adds where a node's daemon keeps its socket.
func (l *Lab) adapt(node string, argv []string) []string {
	switch argv[0] {
	case "birdc", "birdcl":
		return append([]string{argv[0], "-s", l.s.birdSocket(node)}, argv[1:]...)
	case "vtysh":
		return append([]string{argv[0], "--vty_socket", l.s.private(node)}, argv[1:]...)
	case "transitctl", "transitd", "transitlab":
		path := filepath.Join(filepath.Dir(l.Self), argv[0])
		if _, err := exec.LookPath(path); err == nil {
			return append([]string{path}, argv[1:]...)
		}
	}
	return argv
}

// Encapsulate replaces the naive NVAs of a running lab by transitd, in the same fabric, and waits as Up does.
func (l *Lab) Encapsulate(ctx context.Context, o Options, wait time.Duration, pr Progress) error {
	unlock, err := l.s.lock(lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := l.s.readPlan()
	if err != nil {
		return err
	}
	o.Name = l.s.name
	p, err := NewPlan(o)
	if err != nil {
		return err
	}
	if err := writeJSON(l.s.plan(), p); err != nil {
		return err
	}
	// All are stopped before the first one starts: two ways of thinking at once are nobody's case.
	for _, n := range nvas(old) {
		if err := l.s.stop(n.Name, graceful); err != nil {
			return err
		}
	}
	for _, n := range nvas(p) {
		if err := l.launch(ctx, p, n); err != nil {
			return err
		}
	}
	pr.Done("both NVAs now run transitd with " + l.s.file("NODE.yaml"))
	return l.wait(ctx, p, wait, pr)
}

func nvas(p Plan) []Node {
	var list []Node
	for _, n := range p.Nodes {
		if n.Role == RoleNVA {
			list = append(list, n)
		}
	}
	return list
}
