package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/observe"
)

// listenAgain is after how long an address that could not be had is tried again.
const listenAgain = 5 * time.Second

// webServer keeps the web server listening where the configuration says. Nobody
// needs it to forward packets, so an address that cannot be had stops nothing:
// it is a warning, and tried again.
type webServer struct {
	log    *zap.Logger
	server *observe.Server
	wake   chan struct{}

	mu   sync.Mutex
	want netip.AddrPort // invalid: nowhere
	err  error          // why it does not listen there; nil if it does, or need not
}

func newWebServer(log *zap.Logger, s *observe.Server, at netip.AddrPort) *webServer {
	return &webServer{log: log, server: s, wake: make(chan struct{}, 1), want: at}
}

// listenAt moves the server to another address; an invalid one is nowhere.
func (o *webServer) listenAt(at netip.AddrPort) {
	o.mu.Lock()
	same := o.want == at
	o.want = at
	o.mu.Unlock()
	if same {
		return
	}
	select {
	case o.wake <- struct{}{}:
	default: // it looks soon
	}
}

func (o *webServer) wanted() netip.AddrPort {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.want
}

func (o *webServer) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil && o.err == nil {
		o.log.Warn("the status page and the metrics cannot be served; trying again", zap.Error(err))
	}
	o.err = err
}

// problem is a warning for the status; empty if there is none.
func (o *webServer) problem() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return ""
	}
	return fmt.Sprintf("the status page and the metrics are not served: %v", o.err)
}

// run serves until ctx is done.
func (o *webServer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		at := o.wanted()
		o.note(o.serve(ctx, at))
		retry := time.NewTimer(listenAgain)
		if !at.IsValid() {
			retry.Stop()
		}
		select {
		case <-ctx.Done():
		case <-o.wake:
		case <-retry.C:
		}
		retry.Stop()
	}
	return nil
}

// serve listens at an address until ctx is done or another one is wanted.
func (o *webServer) serve(ctx context.Context, at netip.AddrPort) error {
	if !at.IsValid() {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at.String())
	if err != nil {
		return fmt.Errorf("listen on observe.listen: %w", err)
	}
	o.note(nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	moved := make(chan bool, 1)
	go func() {
		select {
		case <-ctx.Done():
			moved <- false
		case <-o.wake:
			cancel()
			moved <- true
		}
	}()
	err = o.server.Run(ctx, l)
	cancel()
	if <-moved {
		select {
		case o.wake <- struct{}{}: // run goes on at once
		default: // and would anyway
		}
	}
	return err
}

// stale is after how long without a round of the supervisor the daemon counts as stuck.
const stale = 15 * time.Second

// Alive says whether the supervisor still goes round; why, if it does not.
func (d *Daemon) Alive() (ok bool, why string) {
	if ago := time.Since(time.Unix(0, d.beat.Load())); ago > stale {
		return false, fmt.Sprintf("the main loop has not gone round for %s", ago.Round(time.Second))
	}
	return true, ""
}

// Readiness says whether a packet of the other side would be carried now.
func (d *Daemon) Readiness() control.Readiness {
	reasons := d.obstacles()
	return control.Readiness{Version: control.V1(), Ready: len(reasons) == 0, Reasons: reasons}
}
