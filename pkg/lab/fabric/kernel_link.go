package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// DefaultMTU is that of every NIC, in bytes: Azure's default for a virtual machine.
const DefaultMTU = 1500

// Sysctls are what the fabric's namespace needs, by path below /proc/sys/net.
// Set before devices are made, conf/default reaches all of them.
func Sysctls() map[string]string {
	return map[string]string{
		"ipv4/ip_forward":                     "1",
		"ipv4/icmp_errors_use_inbound_ifaddr": "1", // "time exceeded" comes from the gateway address of the NIC that sent
		"ipv4/icmp_ratelimit":                 "0", // a prober of the lab asks faster than a person
		"ipv4/fib_multipath_hash_policy":      "1", // addresses and ports, as the virtual machine host does
		"ipv4/conf/all/rp_filter":             "0",
		"ipv4/conf/default/rp_filter":         "0",
		"ipv4/conf/all/send_redirects":        "0",
		"ipv4/conf/default/send_redirects":    "0",
		"ipv4/conf/default/proxy_arp":         "1", // whatever next hop the guest chose …
		"ipv4/conf/default/proxy_arp_pvlan":   "1", // … also when the route leads back to the same NIC
		"ipv6/conf/default/disable_ipv6":      "1",
	}
}

// SetSysctls writes values below /proc/sys/net of the namespace.
func SetSysctls(ns netns.NS, values map[string]string) error {
	return ns.Do(func() error {
		for key, value := range values {
			path := filepath.Join("/proc/sys/net", key)
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
				return fmt.Errorf("set sysctl net/%s to %q in network namespace %q: %w", key, value, ns.Name, err)
			}
		}
		return nil
	})
}

// Build makes the fabric's namespace ready: sysctls, the void, and the packet filter without any NIC.
func Build(ns netns.NS) error {
	if err := SetSysctls(ns, Sysctls()); err != nil {
		return err
	}
	h, err := ns.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	// A pair of veths that nobody reads stands in for a dummy device, which some kernels do not have.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Void
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: Void + "-end"}
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the fabric's void device: %w", err)
	}
	for _, name := range []string{Void, Void + "-end"} {
		if err := setUp(h, name); err != nil {
			return err
		}
	}
	return buildFilter(ns)
}

// Plug makes the veth between the fabric and a guest's eth0, with the addresses of both ends and the guest's
// default route, as Azure's DHCP gives it. The packet filter learns the port too.
func Plug(fabric, guest netns.NS, nic NIC) error {
	h, err := fabric.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := makeVeth(h, guest, nic); err != nil {
		return fmt.Errorf("plug %s into the fabric: %w", nic.Name, err)
	}
	if err := plugFabricEnd(h, fabric, nic); err != nil {
		return fmt.Errorf("plug %s into the fabric: %w", nic.Name, err)
	}
	if err := plugGuestEnd(guest, nic); err != nil {
		return fmt.Errorf("plug %s into the fabric: %w", nic.Name, err)
	}
	return addPort(fabric, nic.Name)
}

func makeVeth(h *netlink.Handle, guest netns.NS, nic NIC) error {
	fd, err := vnetns.GetFromPath(guest.Path())
	if err != nil {
		return fmt.Errorf("open network namespace %q: %w", guest.Name, err)
	}
	defer fd.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = nic.Name, DefaultMTU, GatewayMAC()
	return h.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: nic.MAC(),
		PeerNamespace: netlink.NsFd(int(fd)),
	})
}

func plugFabricEnd(h *netlink.Handle, ns netns.NS, nic NIC) error {
	link, err := h.LinkByName(nic.Name)
	if err != nil {
		return err
	}
	// proxy_delay: the answer to an ARP request for another host comes at once.
	err = SetSysctls(ns, map[string]string{"ipv4/neigh/" + nic.Name + "/proxy_delay": "0"})
	if err != nil {
		return err
	}
	gateway := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(nic.Gateway(), 32))}
	if err := h.AddrAdd(link, gateway); err != nil {
		return fmt.Errorf("add gateway address %s: %w", nic.Gateway(), err)
	}
	// The fabric knows who is behind a port; it never asks.
	err = h.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, Family: unix.AF_INET,
		IP: nic.Address.AsSlice(), HardwareAddr: nic.MAC(),
	})
	if err != nil {
		return fmt.Errorf("pin neighbour %s: %w", nic.Address, err)
	}
	return h.LinkSetUp(link)
}

func plugGuestEnd(guest netns.NS, nic NIC) error {
	// A NIC of these VNets has no IPv6; the guest's other devices (a tunnel) may.
	if err := SetSysctls(guest, map[string]string{"ipv6/conf/eth0/disable_ipv6": "1"}); err != nil {
		return err
	}
	h, err := guest.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := h.LinkSetMTU(link, DefaultMTU); err != nil {
		return fmt.Errorf("set MTU: %w", err)
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(nic.Address, nic.Subnet.Bits()))}); err != nil {
		return fmt.Errorf("add address %s: %w", nic.Address, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	err = h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: nic.Gateway().AsSlice(), Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))})
	if err != nil {
		return fmt.Errorf("add default route via %s: %w", nic.Gateway(), err)
	}
	return nil
}

func setUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %q: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set device %q up: %w", name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// gone reports whether the kernel did not have what was to be removed.
func gone(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}
