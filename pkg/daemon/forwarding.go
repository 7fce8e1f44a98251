package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
)

// forwards says whether a packet of the other side would be carried now. It is
// what a load balancer wants to know.
func (d *Daemon) forwards() (ok bool, why string) {
	if reasons := d.obstacles(); len(reasons) > 0 {
		return false, strings.Join(reasons, "; ")
	}
	return true, "forwarding"
}

// obstacles says why a packet of the other side would not be carried now: it
// takes a tunnel of our own with a session in it, the Route Server's session,
// routes in the kernel, and that nobody has asked the node to leave. It is
// empty, not nil, if nothing is in the way.
func (d *Daemon) obstacles() []string {
	return obstacles(d.drainer.view(), d.machine.tunnels.views(), d.speaker.Sessions(), d.machine.routes.view().Err)
}

func obstacles(drain control.Drain, tunnels []TunnelView, sessions []bgp.Session, kernel error) []string {
	list := []string{}
	if drain.State != control.DrainNone {
		list = append(list, "the node is drained ("+drain.State+")")
	}
	alive := map[policy.Role]int{}
	wanted := map[policy.Role]int{}
	up := map[string]bool{}
	for _, t := range tunnels {
		up[t.Plan.Name] = t.Up
	}
	for _, s := range sessions {
		wanted[s.Role]++
		if s.State == control.SessionEstablished && (s.Role == policy.RouteServer || up[s.Name]) {
			alive[s.Role]++
		}
	}
	if wanted[policy.Tunnel] > 0 && alive[policy.Tunnel] == 0 {
		list = append(list, "no tunnel to another site works")
	}
	if wanted[policy.RouteServer] > 0 && alive[policy.RouteServer] == 0 {
		list = append(list, "no session with a Route Server works")
	}
	if kernel != nil {
		list = append(list, fmt.Sprintf("the kernel does not take the routes: %v", kernel))
	}
	return list
}

// answerBalancer serves the load balancer's probe until ctx is done.
func (d *Daemon) answerBalancer(ctx context.Context) error {
	if d.balancer == nil {
		return nil
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			ok, why := d.forwards()
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			if !ok {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = fmt.Fprintln(w, why) // who asked may be gone
		}),
		ReadHeaderTimeout: time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 4 << 10, ErrorLog: zap.NewStdLog(d.log.Named("balancer")),
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		_ = srv.Close()
	}()
	err := srv.Serve(d.balancer)
	if ctx.Err() == nil {
		_ = srv.Close()
		return fmt.Errorf("serve the load balancer's probe: %w", err)
	}
	<-stopped
	return nil
}

// listenBalancer opens the probe's socket, if it is wanted.
func (d *Daemon) listenBalancer(p *Plan, undo *undoList) error {
	if !p.HealthListen.IsValid() {
		return nil
	}
	l, err := net.Listen("tcp", p.HealthListen.String())
	if err != nil {
		return fmt.Errorf("listen for the load balancer (ha.probe_listen): %w", err)
	}
	d.balancer = l
	undo.add(func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("close the load balancer's socket: %w", err)
		}
		return nil
	})
	return nil
}
