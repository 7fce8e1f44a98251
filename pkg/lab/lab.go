package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/netns"
)

// Progress is told what goes on, for a person who waits.
type Progress interface {
	// Done is one finished piece of work.
	Done(text string)
	// Waiting is what is not there yet; it is called often.
	Waiting(text string)
}

// Lab is one laboratory by its name. Its methods lock the lab against other commands, so they may be called from any
// process; a Lab has no state of its own.
type Lab struct {
	s state
	// Self is the path of transitlab, which the nodes run.
	Self string
}

// Open names a lab; whether it is up shows when it is used.
func Open(name string) (*Lab, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find transitlab's own file: %w", err)
	}
	return &Lab{s: state{name}, Self: self}, nil
}

// lockWait is how long a command waits for another one to finish.
const lockWait = 20 * time.Second

// graceful is how long a process may take to end by itself.
const graceful = 5 * time.Second

// NS is a node's namespace.
func (l *Lab) NS(node string) netns.NS { return l.s.ns(node) }

// Plan reads what is up.
func (l *Lab) Plan() (Plan, error) { return l.s.readPlan() }

// Up builds the lab and waits until its sessions and routes are there, at most for the given time.
func (l *Lab) Up(ctx context.Context, o Options, wait time.Duration, pr Progress) error {
	o.Name = l.s.name
	p, err := NewPlan(o)
	if err != nil {
		return err
	}
	if p.Options.Transitd, err = findTransitd(p.Options); err != nil {
		return err
	}
	unlock, err := l.s.lock(lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	if l.leftovers() {
		return fmt.Errorf("lab %q is up already, in whole or in part: transitlab down --name %s removes it", l.s.name, l.s.name)
	}
	start := time.Now()
	if err := l.create(ctx, p, pr); err != nil {
		return err
	}
	if err := l.wait(ctx, p, wait, pr); err != nil {
		return err
	}
	pr.Done(fmt.Sprintf("ready after %.1f s", time.Since(start).Seconds()))
	return nil
}

// create makes everything; nothing is waited for except that the agent listens.
func (l *Lab) create(ctx context.Context, p Plan, pr Progress) error {
	if err := os.MkdirAll(filepath.Join(l.s.dir(), "log"), 0o755); err != nil {
		return fmt.Errorf("make the lab's folder: %w", err)
	}
	if err := writeJSON(l.s.plan(), p); err != nil {
		return err
	}
	if err := l.s.build(p); err != nil {
		return err
	}
	pr.Done(fmt.Sprintf("built the fabric: %d VNets, %d NICs with a routing table each, %d ExpressRoute circuits",
		len(p.Fabric.VNets), len(p.Fabric.NICs), 2))
	for _, n := range p.Nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.launch(ctx, p, n); err != nil {
			return err
		}
	}
	pr.Done(fmt.Sprintf("started %d nodes (edges: %s, NVAs: %s)", len(p.Nodes), p.Options.Edge, nvaProgram(p.Options)))
	return nil
}

func nvaProgram(o Options) string {
	if o.Encapsulation == None {
		return "plain BGP, no encapsulation"
	}
	return "transitd, " + string(o.Encapsulation)
}

// launch starts a node's process. Who needs another node's socket waits for it here.
func (l *Lab) launch(ctx context.Context, p Plan, n Node) error {
	if n.Role == RoleNVA && p.Options.Encapsulation != None {
		return l.launchTransitd(p, n)
	}
	c := nodeConfig{Lab: l.s.name, Node: n, Options: p.Options}
	c.NIC, _ = p.Fabric.NIC(n.Name)
	kind := kindOf(p.Options, n)
	if kind == KindSDN {
		c.Fabric = &p.Fabric
	}
	file := l.s.file(n.Name + ".json")
	if err := writeJSON(file, c); err != nil {
		return err
	}
	if err := l.s.start(n.Name, l.Self, "node", string(kind), "--name", l.s.name, "--config", file); err != nil {
		return err
	}
	if kind != KindSDN {
		return nil
	}
	err := await(ctx, 10*time.Second, func() error {
		_, err := l.fabric().State(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("the fabric's agent does not answer (see %s): %w", l.s.log(n.Name), err)
	}
	return nil
}

func (l *Lab) launchTransitd(p Plan, n Node) error {
	file := l.s.file(n.Name + ".yaml")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		b, err := nvaConfig(l.s, p.Options, n.Name)
		if err != nil {
			return err
		}
		if err := writeFile(file, b); err != nil {
			return err
		}
	}
	return l.s.start(n.Name, p.Options.Transitd, "run", "-c", file)
}

func (l *Lab) fabric() *fabric.Client { return fabric.NewClient(l.s.socket("fabric")) }

// kindOf is the process that plays a node's role.
func kindOf(o Options, n Node) Kind {
	switch n.Role {
	case RoleFabric:
		return KindSDN
	case RoleRouteServer:
		return KindRouteServer
	case RoleMSEE:
		return KindMSEE
	case RoleNVA:
		return KindNaive
	case RoleEdge:
		return map[Edge]Kind{Embedded: KindEdge, BIRD: KindBIRD, FRR: KindFRR}[o.Edge]
	default:
		return KindHost
	}
}

// findTransitd looks for the daemon where it was said to be, beside transitlab, then in PATH.
func findTransitd(o Options) (string, error) {
	if o.Encapsulation == None && o.Transitd == "" {
		return "", nil
	}
	if o.Transitd != "" {
		path, err := filepath.Abs(o.Transitd)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", fmt.Errorf("transitd is not there: %w", err)
		}
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), "transitd")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("transitd")
	if err != nil {
		return "", errors.New("transitd is neither beside transitlab nor in PATH: build it with make build, or give --transitd PATH")
	}
	return path, nil
}

// Down removes everything that belongs to the lab, whatever state it is in. Nothing there is no error.
func (l *Lab) Down() error {
	unlock, err := l.s.lock(lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.endProcesses(); err != nil {
		return err
	}
	var errs []error
	for _, node := range allNodes() {
		if ns := l.s.ns(node); ns.Exists() {
			errs = append(errs, ns.Delete())
		}
	}
	if err := os.RemoveAll(l.s.dir()); err != nil {
		errs = append(errs, fmt.Errorf("remove the lab's folder: %w", err))
	}
	return errors.Join(errs...)
}

// endProcesses asks everything in the lab to end, all at once, and makes what does not.
func (l *Lab) endProcesses() error {
	for _, try := range []struct {
		sig  unix.Signal
		wait time.Duration
	}{{unix.SIGTERM, graceful}, {unix.SIGKILL, graceful}} {
		procs := l.processes()
		if len(procs) == 0 {
			return nil
		}
		for _, p := range procs {
			if err := p.signal(try.sig); err != nil {
				return err
			}
		}
		gone(procs, try.wait)
	}
	if left := l.processes(); len(left) > 0 {
		return fmt.Errorf("processes %v do not end", left)
	}
	return nil
}

// processes are those of the pid files, and all that run in the lab's namespaces.
func (l *Lab) processes() []process {
	var procs []process
	for _, node := range allNodes() {
		if p, ok := l.s.running(node); ok {
			procs = append(procs, p)
		}
		if ns := l.s.ns(node); ns.Exists() {
			procs = append(procs, inside(ns)...)
		}
	}
	slices.SortFunc(procs, func(a, b process) int { return a.PID - b.PID })
	return slices.Compact(procs)
}

// leftovers reports whether anything of the lab is there.
func (l *Lab) leftovers() bool {
	if _, err := os.Stat(l.s.dir()); err == nil {
		return true
	}
	return slices.ContainsFunc(allNodes(), func(node string) bool { return l.s.ns(node).Exists() })
}

// Labs lists the names of labs that have state.
func Labs() []string {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}
