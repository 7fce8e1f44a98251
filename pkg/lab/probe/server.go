package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Ports of the services that every host of the lab offers.
const (
	EchoPort    = 7    // TCP and UDP, RFC 862
	DiscardPort = 9    // TCP, RFC 863, but it answers the end of the stream with the number of bytes, 64 bits
	HTTPPort    = 80   // tells the client's address as the server sees it
	HTTPAltPort = 8080 // the same: one that a firewall rule can single out
)

// Serve offers the services on all addresses of the process's namespace until ctx ends.
func Serve(ctx context.Context, log *zap.Logger) error {
	if log == nil {
		log = zap.NewNop()
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveTCP(ctx, EchoPort, log, echo) })
	g.Go(func() error { return serveTCP(ctx, DiscardPort, log, discard) })
	g.Go(func() error { return serveUDPEcho(ctx) })
	for _, port := range []int{HTTPPort, HTTPAltPort} {
		g.Go(func() error { return serveHTTP(ctx, port) })
	}
	return g.Wait()
}

// serveTCP accepts until ctx ends; it returns when every connection's goroutine has.
func serveTCP(ctx context.Context, port int, log *zap.Logger, handle func(net.Conn) error) error {
	ln, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("offer TCP port %d: %w", port, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on TCP port %d: %w", port, err)
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
			defer stop()
			defer c.Close()
			if err := handle(c); err != nil {
				log.Debug("connection ended", zap.Int("port", port), zap.Stringer("peer", c.RemoteAddr()), zap.Error(err))
			}
		})
	}
}

func echo(c net.Conn) error {
	_, err := io.Copy(c, c)
	return err
}

func discard(c net.Conn) error {
	buf := make([]byte, 256<<10)
	var n uint64
	for {
		k, err := c.Read(buf)
		n += uint64(k)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err := c.Write(binary.BigEndian.AppendUint64(nil, n))
	return err
}

func serveUDPEcho(ctx context.Context) error {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return roomy(raw) }}
	c, err := lc.ListenPacket(ctx, "udp4", fmt.Sprintf(":%d", EchoPort))
	if err != nil {
		return fmt.Errorf("offer UDP port %d: %w", EchoPort, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			continue // an ICMP error about an earlier echo
		}
		// A client that is gone is not this service's concern.
		_, _ = c.WriteTo(buf[:n], from)
	}
}

func serveHTTP(ctx context.Context, port int) error {
	srv := &http.Server{
		Addr: fmt.Sprintf(":%d", port), ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "you are %s\n", r.RemoteAddr)
		}),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("offer HTTP on port %d: %w", port, err)
	}
	return nil
}
