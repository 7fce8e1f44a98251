// Package tun makes TUN devices: several queues, a virtio-net header in front
// of every packet, and segmentation offload, so that the kernel hands over up
// to 64 KB of a TCP flow at once (Documentation/networking/tuntap.rst; virtio
// 1.3, section 5.1.6). tunnel/gso understands the header and cuts the packets.
//
// A device lives as long as its Device is open: it is never persistent, so a
// killed process leaves none behind. The package starts no goroutine. A queue's
// Read and Write do not block; what waits is tunnel/pump, which polls FD.
package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HeaderLen is the length of the virtio-net header in front of a packet, in bytes.
const HeaderLen = 10

// MaxPacket is the longest packet that a Read returns, in bytes, without its header.
const MaxPacket = 65535

// txQueueLen is how many packets the kernel queues for a reader. The default
// of 500 drops the bursts of a single TCP flow.
const txQueueLen = 4000

// Config describes a device.
type Config struct {
	Name   string         // 1 to 15 bytes; no such device may exist
	Queues int            // at least 1
	MTU    int            // of an IP packet, in bytes
	Addrs  []netip.Prefix // to give the device, with the length of the connected route
}

// Device is an open TUN device.
type Device struct {
	name   string
	index  int
	only4  bool // carries no IPv6
	queues []*Queue
	uso    bool
}

// Open makes a device, gives it its addresses and sets it up. It needs
// CAP_NET_ADMIN.
func Open(cfg Config) (*Device, error) {
	d := &Device{name: cfg.Name}
	for i := range cfg.Queues {
		if err := d.addQueue(i == 0); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	if err := d.configure(cfg); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Device) addQueue(first bool) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if err := d.attach(fd, first); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	d.queues = append(d.queues, &Queue{fd: fd})
	return nil
}

func (d *Device) attach(fd int, first bool) error {
	ifr, err := unix.NewIfreq(d.name)
	if err != nil {
		return fmt.Errorf("device name %q: %w", d.name, err)
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	if first {
		flags |= unix.IFF_TUN_EXCL // somebody else's device of that name is not taken over
	}
	ifr.SetUint16(flags)
	switch err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); {
	case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL):
		return fmt.Errorf("make device %s: there is one of that name: %w", d.name, err)
	case err != nil:
		return fmt.Errorf("make device %s: %w", d.name, err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETLE, 1); err != nil {
		return fmt.Errorf("set the byte order of %s: %w", d.name, err)
	}
	return d.offload(fd)
}

// offload lets the kernel hand over super packets and unfinished checksums.
// USO, the same for UDP, came with Linux 6.2.
func (d *Device) offload(fd int) error {
	const tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|unix.TUN_F_USO4|unix.TUN_F_USO6)
	d.uso = err == nil
	if errors.Is(err, unix.EINVAL) {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp)
	}
	if err != nil {
		return fmt.Errorf("switch on segmentation offload of %s: %w", d.name, err)
	}
	return nil
}

func (d *Device) configure(cfg Config) error {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", d.name, err)
	}
	d.index = link.Attrs().Index
	if err := netlink.LinkSetMTU(link, cfg.MTU); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", d.name, cfg.MTU, err)
	}
	if err := netlink.LinkSetTxQLen(link, txQueueLen); err != nil {
		return fmt.Errorf("set the queue length of %s: %w", d.name, err)
	}
	// The kernel would say router solicitations and MLD reports into the tunnel from a link-local address.
	const addrGenModeNone = 1
	if err := netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("switch off link-local addresses of %s: %w", d.name, err)
	}
	d.only4 = !slices.ContainsFunc(cfg.Addrs, func(p netip.Prefix) bool { return p.Addr().Is6() })
	if d.only4 {
		if err := withoutIPv6(d.name); err != nil {
			return err
		}
	}
	for _, p := range cfg.Addrs {
		if err := addAddress(link, p); err != nil {
			return fmt.Errorf("give %s the address %s: %w", d.name, p, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", d.name, err)
	}
	return nil
}

// withoutIPv6 keeps the kernel from talking IPv6 to itself on a device that carries none.
func withoutIPv6(name string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // the whole machine has no IPv6
		return fmt.Errorf("switch off IPv6 on %s: %w", name, err)
	}
	return nil
}

func addAddress(link netlink.Link, p netip.Prefix) error {
	n, err := netlink.ParseIPNet(p.String())
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: n}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else is on the link who could have it
	}
	return netlink.AddrAdd(link, a)
}

// minimumIPv6 is the smallest MTU with which the kernel has IPv6 on a device (RFC 8200, section 5).
const minimumIPv6 = 1280

// SetMTU changes the MTU, in bytes. The routes through the device stay; but below
// 1280 the kernel takes IPv6 away from it.
func (d *Device) SetMTU(mtu int) error {
	link, err := netlink.LinkByIndex(d.index)
	if err != nil {
		return fmt.Errorf("find device %s: %w", d.name, err)
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", d.name, mtu, err)
	}
	if d.only4 && link.Attrs().MTU < minimumIPv6 && mtu >= minimumIPv6 {
		return withoutIPv6(d.name) // the kernel has made it anew
	}
	return nil
}

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Index is the kernel's number of the device.
func (d *Device) Index() int { return d.index }

// USO reports whether the kernel hands over UDP super packets.
func (d *Device) USO() bool { return d.uso }

// Queue returns queue i.
func (d *Device) Queue(i int) *Queue { return d.queues[i] }

// Queues is how many there are.
func (d *Device) Queues() int { return len(d.queues) }

// Dropped is how many packets the kernel dropped because nobody read them in
// time; 0 if the device is gone.
func (d *Device) Dropped() uint64 {
	link, err := netlink.LinkByIndex(d.index)
	if err != nil || link.Attrs().Statistics == nil {
		return 0
	}
	return link.Attrs().Statistics.TxDropped
}

// Present reports whether the kernel still has the device.
func (d *Device) Present() bool {
	link, err := netlink.LinkByIndex(d.index)
	return err == nil && link.Attrs().Name == d.name
}

// Close removes the device. Nothing may use its queues any more.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.queues {
		if err := unix.Close(q.fd); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", d.name, err))
		}
	}
	d.queues = nil
	return errors.Join(errs...)
}
