package daemon

import (
	"context"
	"fmt"
	"io"

	"github.com/transitd/transitd/pkg/capture"
	"github.com/transitd/transitd/pkg/control"
)

// Capture writes packets of a tunnel as pcapng to w.
func (d *Daemon) Capture(ctx context.Context, q control.CaptureQuery, w io.Writer) (control.Captured, error) {
	t, err := d.tunnelPlan(q.Tunnel)
	if err != nil {
		return control.Captured{}, err
	}
	c, err := captureConfig(d.plan.Load().Node.Name, t, q)
	if err != nil {
		return control.Captured{}, &control.Error{Code: control.CodeBadRequest, Message: err.Error()}
	}
	r, err := capture.Run(ctx, c, w)
	done := control.Captured{Packets: r.Packets, Bytes: r.Bytes, Dropped: r.Dropped, Ended: string(r.Ended)}
	if err != nil {
		return done, fmt.Errorf("tunnel %s: %w", t.Name, err)
	}
	return done, nil
}

// captureConfig says which packets of which device are wanted.
func captureConfig(node string, t TunnelPlan, q control.CaptureQuery) (c capture.Config, err error) {
	c = capture.Config{
		Device: t.Name, Link: capture.IP, Name: t.Name, Count: q.Count, Duration: q.Duration, Snap: q.Snap, Bytes: control.MaxCaptureBytes,
		Comment: fmt.Sprintf("inside tunnel %s (%s) of %s; packets of up to 64 KB are what the kernel cuts or joins", t.Name, t.Encapsulation, node),
	}
	base := ""
	if q.Layer == control.LayerOuter {
		c.Device, c.Link, c.Name = t.Path.Card, capture.Ethernet, t.Path.Card
		c.Comment = fmt.Sprintf("outer packets of tunnel %s (%s) of %s, %s to %s", t.Name, t.Encapsulation, node, t.Path.From, t.Path.To)
		base = fmt.Sprintf("host %s and host %s and %s", t.Path.From, t.Path.To, t.outer())
	}
	c.Filter, err = capture.Compile(c.Link, base, q.Filter)
	return c, err
}
