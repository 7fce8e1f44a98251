package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Subject is something that carries packets between the two ends of a testbed.
type Subject interface {
	// Name is how the flags and results call it.
	Name() string
	// Prepare finds or builds the software. A *MissingError says what to install.
	Prepare(ctx context.Context) error
	// Up makes it carry packets and returns the addresses that do so.
	Up(ctx context.Context, t *Testbed) (inner [2]netip.Addr, err error)
	// Down ends what Up started; namespaces and devices go with the testbed.
	Down() error
}

// MissingError says that a subject's software is not there.
type MissingError struct{ What, Install string }

// Error says what to do about it.
func (e *MissingError) Error() string { return e.What + " is missing: " + e.Install }

// Subjects are all that can be measured. binary is the daemon's.
func Subjects(binary string) []Subject {
	return []Subject{
		&raw{}, &kernelVXLAN{}, &wireguardGo{}, &strongSwan{},
		&transitd{binary: binary, encapsulation: "vxlan", net: firstNet, port: 4789},
		&transitd{binary: binary, encapsulation: "wireguard", net: firstNet + 1, port: 51821},
		&transitd{binary: binary, encapsulation: "ipsec", net: firstNet + 2, port: 4501}, // strongSwan has 4500
	}
}

// SubjectNames are their names, in the order in which they are shown.
func SubjectNames() (names []string) {
	for _, s := range Subjects("") {
		names = append(names, s.Name())
	}
	return names
}

// inner are the addresses inside a tunnel, of a network for each subject.
func inner(net byte) [2]netip.Addr {
	return [2]netip.Addr{netip.AddrFrom4([4]byte{10, 98, net, 1}), netip.AddrFrom4([4]byte{10, 98, net, 2})}
}

// processes are what a subject started.
type processes []*exec.Cmd

// start runs a program in an end's namespace until stop, its output in a file.
func (p *processes) start(t *Testbed, e *End, env []string, name string, args ...string) error {
	log, err := os.Create(fmt.Sprintf("%s/%s-%s.log", t.Dir, baseName(name), e.Side))
	if err != nil {
		return fmt.Errorf("make a log: %w", err)
	}
	defer log.Close()
	c := e.NS.Command(context.Background(), name, args...)
	c.Stdout, c.Stderr = log, log
	c.Env = append(os.Environ(), env...)
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s (end %s): %w", name, e.Side, err)
	}
	*p = append(*p, c)
	return nil
}

func baseName(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

// stop asks them to end, then makes them.
func (p *processes) stop() error {
	var errs []error
	for _, c := range *p {
		_ = c.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
		err := c.Wait()
		if !kill.Stop() {
			errs = append(errs, fmt.Errorf("%s did not end in 5 s: %w", c.Path, err))
		}
	}
	*p = nil
	return errors.Join(errs...)
}

// eventually polls until f succeeds, for at most 15 s.
func eventually(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// reachable waits until one end answers the other through the subject.
func reachable(ctx context.Context, t *Testbed, in [2]netip.Addr) error {
	return eventually(ctx, func() error {
		return t.Ends[0].Run(ctx, "ping", "-n", "-q", "-c", "1", "-W", "1", in[1].String())
	})
}
