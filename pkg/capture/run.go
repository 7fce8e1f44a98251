package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"

	"github.com/transitd/transitd/pkg/version"
)

// Config says what to record and how much. All bounds are needed.
type Config struct {
	Device   string
	Link     Link
	Filter   []bpf.RawInstruction // of Compile; nil is everything
	Name     string               // of the interface in the file
	Comment  string               // about it
	Count    int                  // packets
	Duration time.Duration
	Snap     int // bytes of each packet
	Bytes    int // of the file
}

// Ended says why a recording came to its end.
type Ended string

// The ends.
const (
	ByCount    Ended = "count"
	ByDuration Ended = "duration"
	ByBytes    Ended = "bytes"
	ByCaller   Ended = "stopped" // the context
)

// Result says what was recorded.
type Result struct {
	Packets uint64
	Bytes   uint64 // written
	Dropped uint64 // by the kernel, because nobody took them in time
	Ended   Ended
}

// flushAfter is how long a packet may wait for others before it is written.
const flushAfter = 200 * time.Millisecond

// Run records until a bound is reached or ctx ends, which is no error. What is
// written is a whole pcapng file at any time when Run writes nothing.
func Run(ctx context.Context, c Config, w io.Writer) (r Result, err error) {
	s, err := open(c.Device, c.Filter, c.Snap)
	if err != nil {
		return r, err
	}
	defer s.Close() //nolint:errcheck // it is only read from
	counter := &counting{w: w}
	began := time.Now()
	ng, err := header(c, counter)
	if err != nil {
		return r, err
	}
	rec := recorder{c: c, s: s, ng: ng, out: counter, end: began.Add(c.Duration)}
	rec.result.Ended, err = rec.loop(ctx)
	if err != nil {
		return rec.result, err
	}
	dropped, err := s.dropped()
	rec.result.Dropped = dropped
	if err == nil {
		now := time.Now()
		err = ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
			LastUpdate: now, StartTime: began, EndTime: now, PacketsReceived: rec.result.Packets + dropped, PacketsDropped: dropped,
		})
	}
	if err == nil {
		err = ng.Flush()
	}
	rec.result.Bytes = counter.n
	if err != nil {
		return rec.result, fmt.Errorf("end the capture: %w", err)
	}
	return rec.result, nil
}

func header(c Config, w io.Writer) (*pcapgo.NgWriter, error) {
	link := layers.LinkTypeEthernet
	if c.Link == IP {
		link = layers.LinkTypeRaw
	}
	ng, err := pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name: c.Name, Comment: c.Comment, OS: runtime.GOOS, LinkType: link, TimestampResolution: 9, SnapLength: uint32(c.Snap),
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "transitd " + version.Get().Version}})
	if err == nil {
		err = ng.Flush() // Wireshark shows an empty capture at once
	}
	if err != nil {
		return nil, fmt.Errorf("begin the capture: %w", err)
	}
	return ng, nil
}

type recorder struct {
	c      Config
	s      *socket
	ng     *pcapgo.NgWriter
	out    *counting
	end    time.Time
	result Result
}

// loop records packets until there is a reason to end.
func (r *recorder) loop(ctx context.Context) (Ended, error) {
	defer context.AfterFunc(ctx, func() { _ = r.s.file.SetReadDeadline(time.Unix(1, 0)) })()
	size := r.out.n
	for {
		flushAt := time.Now().Add(flushAfter)
		for time.Now().Before(flushAt) {
			if err := r.s.file.SetReadDeadline(sooner(flushAt, r.end)); err != nil {
				return "", fmt.Errorf("set a deadline: %w", err)
			}
			if ctx.Err() != nil {
				return ByCaller, nil
			}
			p, err := r.s.next()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return "", fmt.Errorf("take a packet: %w", err)
			}
			if size += uint64(len(p.data) + overhead); size > uint64(r.c.Bytes) {
				return ByBytes, nil
			}
			if err := r.write(p); err != nil {
				return "", err
			}
			if r.result.Packets >= uint64(r.c.Count) {
				return ByCount, nil
			}
		}
		if err := r.ng.Flush(); err != nil {
			return "", fmt.Errorf("write packets: %w", err)
		}
		switch {
		case ctx.Err() != nil:
			return ByCaller, nil
		case !time.Now().Before(r.end):
			return ByDuration, nil
		}
	}
}

// overhead is what a packet takes in the file besides its bytes, at most.
const overhead = 64

func (r *recorder) write(p packet) error {
	flags := &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
	if p.out {
		flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	ci := gopacket.CaptureInfo{Timestamp: p.at, CaptureLength: len(p.data), Length: p.len}
	if err := r.ng.WritePacketWithOptions(ci, p.data, pcapgo.NgPacketOptions{Flags: flags}); err != nil {
		return fmt.Errorf("write packets: %w", err)
	}
	r.result.Packets++
	return nil
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// counting counts what is written.
type counting struct {
	w io.Writer
	n uint64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += uint64(n)
	return n, err
}
