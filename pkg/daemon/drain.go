package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/pkg/control"
)

const (
	// drainLook is how often the traffic is looked at.
	drainLook = 250 * time.Millisecond
	// drainSilence is how long nothing has to be forwarded.
	drainSilence = 2 * time.Second
	// drainPatience bounds each step. Azure takes up to 39 s to program its
	// network cards (azure.md 1.4), and where no other NVA carries the traffic it
	// never ends.
	drainPatience = 90 * time.Second
)

// drainer takes a node out of the traffic, step by step, and back in. That it is
// out outlives a restart, though not a reboot: the new binary begins as the old
// one ended.
type drainer struct {
	log  *zap.Logger
	take func(context.Context, bgp.Stance) error
	// forwarded counts packets that the kernel has forwarded.
	forwarded func() (uint64, error)
	mark      string                       // the file that says so
	told      func(from, to control.Drain) // gets each step; it does not wait

	wake chan struct{}

	mu    sync.Mutex
	state control.Drain
	began time.Time // of the present step
}

func newDrainer(log *zap.Logger, socket string) *drainer {
	d := &drainer{
		log: log, forwarded: forwardedPackets, mark: strings.TrimSuffix(socket, ".sock") + ".drained",
		told: func(_, _ control.Drain) {}, wake: make(chan struct{}, 1), state: control.Drain{State: control.DrainNone},
	}
	if _, err := os.Stat(d.mark); err == nil {
		d.state = control.Drain{State: control.DrainDone, Safe: true, Note: "drained before the restart; transitctl undrain brings it back"}
	}
	return d
}

// stance is how the speaker begins.
func (d *drainer) stance() bgp.Stance {
	if d.view().State == control.DrainDone {
		return bgp.Refuse
	}
	return bgp.Carry
}

func (d *drainer) view() control.Drain {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// set changes the state and wakes run.
func (d *drainer) set(s control.Drain) {
	d.mu.Lock()
	if d.state.State != s.State {
		d.began = time.Now()
	}
	was := d.state
	d.state = s
	d.mu.Unlock()
	d.told(was, s)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// drain begins; it does nothing if that was done before.
func (d *drainer) drain(ctx context.Context) error {
	if d.view().State != control.DrainNone {
		return nil
	}
	if err := os.WriteFile(d.mark, []byte("transitctl undrain removes this file\n"), 0o600); err != nil {
		return fmt.Errorf("remember that the node is drained: %w", err)
	}
	if err := d.take(ctx, bgp.Avoid); err != nil {
		return err
	}
	d.log.Info("draining: every route is announced as the worst way")
	d.set(control.Drain{State: control.DrainAvoid, Note: "routes are prepended; waiting until nothing is forwarded"})
	return nil
}

// undrain brings the node back at once.
func (d *drainer) undrain(ctx context.Context) error {
	if err := d.take(ctx, bgp.Carry); err != nil {
		return err
	}
	if err := os.Remove(d.mark); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget that the node was drained: %w", err)
	}
	if d.view().State != control.DrainNone {
		d.log.Info("not draining any more: routes are announced as ever")
	}
	d.set(control.Drain{State: control.DrainNone})
	return nil
}

// run goes through the steps until ctx is done.
func (d *drainer) run(ctx context.Context) error {
	ticker := time.NewTicker(drainLook)
	defer ticker.Stop()
	var last uint64
	var quiet time.Time // since when nothing was forwarded
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
			quiet = time.Time{}
		case <-ticker.C:
		}
		s := d.view()
		if s.State != control.DrainAvoid && s.State != control.DrainWithdrawn {
			continue
		}
		n, err := d.forwarded()
		now := time.Now()
		if err != nil || n != last || quiet.IsZero() {
			last, quiet = n, now
		}
		d.step(ctx, s, now, now.Sub(quiet))
	}
}

// step goes on to the next step if this one is over.
func (d *drainer) step(ctx context.Context, s control.Drain, now time.Time, silence time.Duration) {
	d.mu.Lock()
	waited := now.Sub(d.began)
	d.mu.Unlock()
	silent := silence >= drainSilence
	if !silent && waited < drainPatience {
		return
	}
	switch {
	case s.State == control.DrainAvoid:
		if err := d.take(ctx, bgp.Refuse); err != nil {
			d.log.Error("cannot withdraw routes; trying again", zap.Error(err))
			return
		}
		note := "routes are withdrawn; waiting until nothing is forwarded"
		if !silent {
			note = fmt.Sprintf("traffic did not leave within %s: there may be no other way. Routes are withdrawn all the same", drainPatience)
		}
		d.log.Info("draining: routes are withdrawn", zap.Bool("silent", silent))
		d.set(control.Drain{State: control.DrainWithdrawn, Note: note})
	case silent:
		d.log.Info("drained: nothing is forwarded any more, it is safe to stop")
		d.set(control.Drain{State: control.DrainDone, Safe: true, Note: "nothing is forwarded any more: safe to stop or restart"})
	default:
		d.log.Warn("drained, but packets still arrive")
		d.set(control.Drain{State: control.DrainDone, Note: "withdrawn everywhere, but packets still arrive: somebody has a route of his own"})
	}
}

// forwardedPackets reads the kernel's counters of this network namespace.
func forwardedPackets() (uint64, error) {
	snmp, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		return 0, fmt.Errorf("read the counter of forwarded packets: %w", err)
	}
	v4, err := snmpColumn(string(snmp), "Ip:", "ForwDatagrams")
	if err != nil {
		return 0, err
	}
	snmp6, err := os.ReadFile("/proc/self/net/snmp6")
	if err != nil {
		return v4, nil //nolint:nilerr // a kernel without IPv6
	}
	for line := range strings.Lines(string(snmp6)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6OutForwDatagrams" {
			v6, err := strconv.ParseUint(f[1], 10, 64)
			return v4 + v6, err
		}
	}
	return v4, nil
}

// snmpColumn finds a number in the kernel's pairs of lines, names and values.
func snmpColumn(text, protocol, column string) (uint64, error) {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != protocol {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, name := range names {
			if name == column && i < len(f) {
				return strconv.ParseUint(f[i], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("the kernel does not count %s", column)
}
