package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxBody is how many bytes of an HTTP answer are read: a body that does not
// come is a failure, and a long one is no reason to load it.
const maxBody = 64 << 10

// control sets the mark before a socket sends its first packet.
func control(mark uint32) func(network, address string, c syscall.RawConn) error {
	if mark == 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = setMark(int(fd), mark) }); e != nil {
			return fmt.Errorf("reach the socket: %w", e)
		}
		return err
	}
}

func setMark(fd int, mark uint32) error {
	if mark == 0 {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("set the mark: %w", err)
	}
	return nil
}

// dialer makes TCP connections as the configuration wants them. Its names are
// looked up by Go's own resolver, whose queries can carry the mark.
func dialer(cfg *Config) *net.Dialer {
	dns := &net.Dialer{Control: control(cfg.Mark)}
	d := &net.Dialer{
		Control:  control(cfg.Mark),
		Resolver: &net.Resolver{PreferGo: true, Dial: dns.DialContext},
	}
	if cfg.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(cfg.Source, 0))
	}
	return d
}

// newTCP makes a check that connects and closes.
func newTCP(cfg *Config) checker {
	d, to := dialer(cfg), cfg.TCP.String()
	return func(ctx context.Context) error {
		conn, err := d.DialContext(ctx, "tcp", to)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		conn.Close()
		return nil
	}
}

// newHTTP makes a check that gets the URL. The proxy of the environment would
// answer for a path that routed packets do not take, and a connection that is
// kept would hide that no new one can be made, so there is neither.
func newHTTP(cfg *Config) checker {
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer(cfg).DialContext,
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: cfg.TLSInsecure}, // the operator's decision, off by default
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxBody,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.HTTP, http.NoBody)
		if err != nil {
			return fmt.Errorf("make the request: %w", err)
		}
		req.Header.Set("User-Agent", "transitd-health")
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("request: %w", err)
		}
		defer resp.Body.Close()
		if resp.StatusCode < 200 || resp.StatusCode > 399 {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, maxBody); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the body: %w", err)
		}
		return nil
	}
}
