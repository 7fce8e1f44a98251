package stamp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Path is what is measured.
type Path struct {
	Device string // the probes leave by it and no other
	Mark   uint32 // of the probes; 0: none
	Local  netip.Addr
	Peer   netip.Addr
	// EchoOnly says that the peer is not asked by STAMP.
	EchoOnly bool
	Window   int // probes that are remembered, 0: 60
	Size     int // bytes of a probe's IP packet, 0: the smallest
}

// Answer is what came back for a probe.
type Answer struct {
	Seq    uint32
	RTT    time.Duration
	Method Method
}

// Prober sends probes when it is told to, and takes answers by itself.
type Prober struct {
	path  Path
	stamp *net.UDPConn // nil: EchoOnly
	echo  net.PacketConn
	id    uint16
	told  func(Answer)
	ended sync.WaitGroup

	mu    sync.Mutex
	seq   uint32
	reply [2]window // STAMP, ICMP
	asked int       // STAMP probes in a row without an answer
}

// NewProber opens the sockets. told, which may be nil, gets each answer, from
// another goroutine. It needs CAP_NET_RAW.
func NewProber(p Path, told func(Answer)) (*Prober, error) {
	if told == nil {
		told = func(Answer) {}
	}
	if p.Window == 0 {
		p.Window = 60
	}
	b := &Prober{path: p, told: told, id: uint16(rand.Uint32()), seq: rand.Uint32()}
	b.reply[0].size, b.reply[1].size = p.Window, p.Window
	if err := b.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("probe the path to %s: %w", p.Peer, err), b.Close())
	}
	if b.stamp != nil {
		b.ended.Go(b.readSTAMP)
	}
	b.ended.Go(b.readEcho)
	return b, nil
}

// control binds a socket to the device and marks it.
func (p Path) control(_, _ string, raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) {
		if p.Device != "" {
			err = unix.BindToDevice(int(fd), p.Device)
		}
		if err == nil && p.Mark != 0 {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark))
		}
	})
	return errors.Join(cerr, err)
}

func (b *Prober) open() (err error) {
	lc := net.ListenConfig{Control: b.path.control}
	if !b.path.EchoOnly {
		c, err := lc.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(b.path.Local, 0).String())
		if err != nil {
			return err
		}
		b.stamp = c.(*net.UDPConn)
	}
	network := "ip4:icmp"
	if b.path.Peer.Is6() {
		network = "ip6:ipv6-icmp"
	}
	if b.echo, err = lc.ListenPacket(context.Background(), network, b.path.Local.String()); err != nil {
		return err
	}
	if b.path.Peer.Is6() {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv6.ICMPTypeEchoReply)
		return ipv6.NewPacketConn(b.echo).SetICMPFilter(&f)
	}
	var f ipv4.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv4.ICMPTypeEchoReply)
	return ipv4.NewPacketConn(b.echo).SetICMPFilter(&f)
}

// retry is how many rounds a peer that does not answer STAMP is not asked again.
const retry = 30

// Send sends a probe: STAMP, and echo as long as STAMP is not answered. That a
// probe cannot be sent is a loss like any other.
func (b *Prober) Send() {
	b.mu.Lock()
	b.seq++
	seq, now := b.seq, time.Now()
	ask := b.stamp != nil && (b.asked < 3 || b.asked%retry == 0)
	echo := b.asked > 0 || b.stamp == nil // the first one may well be answered
	if b.stamp != nil {
		b.asked++
	}
	if ask {
		b.reply[0].sent(seq, now)
	}
	if echo {
		b.reply[1].sent(seq, now)
	}
	b.mu.Unlock()
	if ask {
		const headers = 20 + 8
		_, _ = b.stamp.WriteToUDPAddrPort(request{seq, now}.append(nil, b.path.Size-headers), netip.AddrPortFrom(b.path.Peer, Port))
	}
	if echo {
		b.sendEcho(seq)
	}
}

func (b *Prober) sendEcho(seq uint32) {
	const headers = 20 + 8
	data := make([]byte, max(b.path.Size-headers, 4))
	binary.BigEndian.PutUint32(data, seq)
	var typ icmp.Type = ipv4.ICMPTypeEcho
	if b.path.Peer.Is6() {
		typ = ipv6.ICMPTypeEchoRequest
	}
	m := icmp.Message{Type: typ, Body: &icmp.Echo{ID: int(b.id), Seq: int(uint16(seq)), Data: data}}
	if p, err := m.Marshal(nil); err == nil {
		_, _ = b.echo.WriteTo(p, &net.IPAddr{IP: b.path.Peer.AsSlice()})
	}
}

func (b *Prober) answered(i int, seq uint32, m Method, r *reply) {
	b.mu.Lock()
	rtt, ok := b.reply[i].answered(seq, time.Now(), r)
	if ok && m == STAMP {
		b.asked = 0
	}
	b.mu.Unlock()
	if ok {
		b.told(Answer{Seq: seq, RTT: rtt, Method: m})
	}
}

func (b *Prober) readSTAMP() {
	buf := make([]byte, 2048)
	for {
		n, from, err := b.stamp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || from != netip.AddrPortFrom(b.path.Peer, Port) { // refused: the peer does not speak it
			continue
		}
		if r, ok := parseReply(buf[:n]); ok {
			b.answered(0, r.senderSeq, STAMP, &r)
		}
	}
}

func (b *Prober) readEcho() {
	buf := make([]byte, 70000)
	proto := ipv4.ICMPTypeEchoReply.Protocol()
	if b.path.Peer.Is6() {
		proto = ipv6.ICMPTypeEchoReply.Protocol()
	}
	for {
		n, from, err := b.echo.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		a, isIP := from.(*net.IPAddr)
		if err != nil || !isIP || !a.IP.Equal(b.path.Peer.AsSlice()) {
			continue
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == int(b.id) && len(e.Data) >= 4 {
			b.answered(1, binary.BigEndian.Uint32(e.Data), ICMP, nil)
		}
	}
}

// Stats are what the last probes say, by the method that the peer answers.
func (b *Prober) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	lately := now.Add(-10 * time.Second)
	switch {
	case b.reply[0].heard(lately):
		return b.reply[0].stats(now, STAMP)
	case b.reply[1].heard(lately):
		return b.reply[1].stats(now, ICMP)
	case b.reply[0].heard(time.Time{}):
		return b.reply[0].stats(now, STAMP) // it has stopped answering
	case b.reply[1].heard(time.Time{}):
		return b.reply[1].stats(now, ICMP)
	}
	return Stats{Method: None}
}

// Close ends the sockets and waits for their goroutines.
func (b *Prober) Close() error {
	var errs []error
	if b.stamp != nil {
		errs = append(errs, b.stamp.Close())
	}
	if b.echo != nil {
		errs = append(errs, b.echo.Close())
	}
	b.ended.Wait()
	return errors.Join(errs...)
}
