package bench

import (
	"context"
	"fmt"
	"net/netip"
)

// raw is the wire itself.
type raw struct{}

// Name is "raw".
func (*raw) Name() string { return "raw" }

// Prepare has nothing to do.
func (*raw) Prepare(context.Context) error { return nil }

// Up has nothing to do.
func (*raw) Up(_ context.Context, t *Testbed) ([2]netip.Addr, error) {
	return [2]netip.Addr{t.Ends[0].Addr, t.Ends[1].Addr}, nil
}

// Down has nothing to do.
func (*raw) Down() error { return nil }

// kernelVXLAN is "ip link add type vxlan" at both ends.
type kernelVXLAN struct{}

// Name is "kernel-vxlan".
func (*kernelVXLAN) Name() string { return "kernel-vxlan" }

// Prepare has nothing to do: "ip" says it if the kernel has no vxlan.
func (*kernelVXLAN) Prepare(context.Context) error { return nil }

// Up makes the devices.
func (*kernelVXLAN) Up(ctx context.Context, t *Testbed) ([2]netip.Addr, error) {
	in := inner(1)
	for i := range t.Ends {
		e := &t.Ends[i]
		err := e.RunAll(ctx,
			fmt.Sprintf("ip link add vx0 mtu %d type vxlan id 98 local %s remote %s dev eth0 dstport 4788 udpcsum", TunnelMTU, e.Addr, e.Other),
			fmt.Sprintf("ip addr add %s/24 dev vx0", in[i]),
			"ip link set vx0 up",
		)
		if err != nil {
			return in, err
		}
	}
	return in, nil
}

// Down leaves the devices to the testbed.
func (*kernelVXLAN) Down() error { return nil }
