package wireguard

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// uapiDir is where wg(8) looks for sockets of userspace implementations.
const uapiDir = "/var/run/wireguard"

const (
	errnoNone       = 0
	errnoPermission = -1  // EPERM
	errnoInvalid    = -22 // EINVAL
)

// Interface is what wg(8) shows of a device beside the device's own status.
type Interface struct {
	ListenPort       uint16
	Mark             uint32
	Remote           netip.AddrPort
	TXBytes, RXBytes uint64
	Keepalive        time.Duration
}

// ServeUAPI answers wg(8) about a device until the context ends (cross-platform
// userspace interface, wireguard.com/xplatform). Nothing can be changed that
// way, and no secret is told: "wg showconf" has no PrivateKey.
func ServeUAPI(ctx context.Context, name string, d *Device, about func() Interface) error {
	if err := os.MkdirAll(uapiDir, 0o755); err != nil {
		return fmt.Errorf("make the folder of wg's sockets: %w", err)
	}
	path := filepath.Join(uapiDir, name+".sock")
	l, err := listenUAPI(path)
	if err != nil {
		return err
	}
	var conns sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			conns.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for wg: %w", errors.Join(err, l.Close()))
		}
		conns.Go(func() { answer(ctx, c, d, about) })
	}
}

// listenUAPI makes the socket. One that nobody listens at is of a process that is gone.
func listenUAPI(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("%s is somebody else's: in another network namespace there may be a device of this name", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a socket that is left over: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for wg: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for wg: %w", err), l.Close())
	}
	return l, nil
}

// answer handles one connection: requests end with an empty line.
func answer(ctx context.Context, c net.Conn, d *Device, about func() Interface) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	s := bufio.NewScanner(c)
	s.Buffer(nil, 4096)
	var lines []string
	for s.Scan() {
		if s.Text() != "" {
			if lines = append(lines, s.Text()); len(lines) > 100 {
				return
			}
			continue
		}
		if len(lines) == 0 {
			continue
		}
		reply := fmt.Sprintf("errno=%d\n\n", errnoInvalid)
		switch lines[0] {
		case "get=1":
			reply = describe(d.Status(), about())
		case "set=1": // what is configured is in the configuration file
			reply = fmt.Sprintf("errno=%d\n\n", errnoPermission)
		}
		lines = nil
		if err := c.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return
		}
		if _, err := c.Write([]byte(reply)); err != nil {
			return
		}
	}
}

func describe(s Status, i Interface) string {
	var b strings.Builder
	peer := s.Theirs()
	fmt.Fprintf(&b, "listen_port=%d\nfwmark=%d\npublic_key=%s\nprotocol_version=1\nendpoint=%s\n", i.ListenPort, i.Mark, hex.EncodeToString(peer[:]), i.Remote)
	if !s.LastHandshake.IsZero() {
		fmt.Fprintf(&b, "last_handshake_time_sec=%d\nlast_handshake_time_nsec=%d\n", s.LastHandshake.Unix(), s.LastHandshake.Nanosecond())
	}
	fmt.Fprintf(&b, "tx_bytes=%d\nrx_bytes=%d\npersistent_keepalive_interval=%d\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0\nerrno=%d\n\n",
		i.TXBytes, i.RXBytes, int(i.Keepalive/time.Second), errnoNone)
	return b.String()
}
