package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

const udpHeaderLen = 8

// UDP sends datagrams to an echo service and compares what comes back.
type UDP struct {
	From     netns.NS
	To       netip.Addr // port EchoPort
	Size     int        // of the IP packet, bytes, 36 to 65535; 0: 100
	DF       bool
	Count    int           // 0: 5
	Interval time.Duration // 0: 20 ms
	Timeout  time.Duration // after the last datagram; 0: 1 s
}

// Run sends all datagrams and collects the echoes.
func (u UDP) Run(ctx context.Context) (Result, error) {
	size, count := or(u.Size, 100), or(u.Count, defaultCount)
	c, err := dial(ctx, u.From, "udp4", netip.AddrPortFrom(u.To, EchoPort), options{df: u.DF})
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := Result{Errors: map[string]int{}}
	sentAt := make([]time.Time, count)
	var rtts []time.Duration
	for seq := range count {
		payload := pattern(uint32(seq), size-ipHeaderLen-udpHeaderLen)
		sentAt[seq] = time.Now()
		r.Sent++
		if _, err := c.Write(payload); err != nil {
			r.Errors[sendError(err)]++
		}
		wait := or(u.Interval, defaultInterval)
		if seq == count-1 {
			wait = or(u.Timeout, defaultTimeout)
		}
		rtts = u.collect(c, time.Now().Add(wait), sentAt, rtts, len(payload), &r)
		if ctx.Err() != nil {
			break
		}
	}
	r.Received, r.RTT = len(rtts), median(rtts)
	return r, ctx.Err()
}

func (u UDP) collect(c net.Conn, deadline time.Time, sentAt []time.Time, rtts []time.Duration, size int, r *Result) []time.Duration {
	buf := make([]byte, 65536)
	if err := c.SetReadDeadline(deadline); err != nil {
		r.Errors[err.Error()]++
		return rtts
	}
	for len(rtts) < len(sentAt) {
		n, err := c.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return rtts
		}
		if err != nil {
			r.Errors[sendError(err)]++
			continue
		}
		if n < 4 {
			continue
		}
		seq := binary.BigEndian.Uint32(buf)
		switch {
		case int(seq) >= len(sentAt) || sentAt[seq].IsZero():
		case !bytes.Equal(buf[:n], pattern(seq, size)):
			r.Errors["changed on the way"]++
		default:
			rtts = append(rtts, time.Since(sentAt[seq]))
			sentAt[seq] = time.Time{}
		}
	}
	return rtts
}

// pattern is a payload that shows which datagram it is and whether it was changed.
func pattern(seq uint32, n int) []byte {
	b := make([]byte, max(n, 4))
	binary.BigEndian.PutUint32(b, seq)
	for i := 4; i < len(b); i++ {
		b[i] = byte(seq) + byte(i)
	}
	return b
}

// Flow sends to an echo service at a steady rate until it is stopped, and knows when nothing came back.
type Flow struct {
	conn     net.Conn
	interval time.Duration
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu         sync.Mutex
	answers    []bool      // by sequence number: was it answered; guarded by mu
	sentAt     []time.Time // by sequence number; guarded by mu
	next       int         // the sequence number after the highest that was answered; guarded by mu
	duplicates int         // guarded by mu
	reordered  int         // guarded by mu
}

// Outage is what a flow lost, and the longest time without an answered datagram.
type Outage struct {
	Sent     int           `json:"sent"`
	Received int           `json:"received"`   // each datagram once
	Longest  time.Duration `json:"longest_ns"` // by the times of sending; 0: nothing was lost
	// Start is when the first datagram of the longest outage was sent; zero if nothing was lost.
	Start time.Time `json:"start,omitzero"`
	// Duplicates are answers to datagrams that were answered before.
	Duplicates int `json:"duplicates,omitempty"`
	// Reordered are answers that came after one to a later datagram (RFC 4737, section 3.3), duplicates not counted.
	Reordered int `json:"reordered,omitempty"`
}

// StartFlow starts a flow with one datagram per interval; Stop ends it.
func StartFlow(ctx context.Context, from netns.NS, to netip.Addr, interval time.Duration) (*Flow, error) {
	c, err := dial(ctx, from, "udp4", netip.AddrPortFrom(to, EchoPort), options{})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	f := &Flow{conn: c, interval: interval, stop: stop}
	f.wg.Go(func() { f.send(ctx) })
	f.wg.Go(f.receive)
	return f, nil
}

func (f *Flow) send(ctx context.Context) {
	// A timer is not exact below a millisecond; what is due is sent together.
	tick := time.NewTicker(max(f.interval, time.Millisecond))
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for now := time.Now(); ; {
			f.mu.Lock()
			seq := len(f.sentAt)
			if time.Duration(seq)*f.interval > now.Sub(start) {
				f.mu.Unlock()
				break
			}
			f.sentAt, f.answers = append(f.sentAt, now), append(f.answers, false)
			f.mu.Unlock()
			// An error here is an ICMP error of an earlier datagram: a loss, which is counted as one.
			_, _ = f.conn.Write(pattern(uint32(seq), 64))
		}
	}
}

func (f *Flow) receive() {
	buf := make([]byte, 2048)
	for {
		n, err := f.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil || n < 4 {
			continue
		}
		f.answered(int(binary.BigEndian.Uint32(buf)))
	}
}

// answered counts one answer.
func (f *Flow) answered(seq int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case seq >= len(f.answers): // nothing that this flow sent
		return
	case f.answers[seq]:
		f.duplicates++
		return
	case seq < f.next:
		f.reordered++
	}
	f.answers[seq] = true
	f.next = max(f.next, seq+1)
}

// Answered reports whether a datagram sent after t was answered.
func (f *Flow) Answered(t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.sentAt) - 1; i >= 0 && f.sentAt[i].After(t); i-- {
		if f.answers[i] {
			return true
		}
	}
	return false
}

// Stop ends the flow, waits a moment for the last answers, and tells what was lost.
func (f *Flow) Stop() (Outage, error) {
	f.stop()
	if err := f.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return Outage{}, fmt.Errorf("end the flow: %w", err)
	}
	f.wg.Wait()
	if err := f.conn.Close(); err != nil {
		return Outage{}, fmt.Errorf("end the flow: %w", err)
	}
	o := outage(f.sentAt, f.answers, f.interval)
	o.Duplicates, o.Reordered = f.duplicates, f.reordered
	return o, nil
}

// outage finds the longest run of unanswered datagrams.
func outage(sentAt []time.Time, answers []bool, interval time.Duration) Outage {
	o := Outage{Sent: len(answers)}
	start := -1
	for i, ok := range answers {
		if ok {
			o.Received++
			start = -1
			continue
		}
		if start < 0 {
			start = i
		}
		if length := sentAt[i].Sub(sentAt[start]) + interval; length > o.Longest {
			o.Longest, o.Start = length, sentAt[start]
		}
	}
	return o
}
