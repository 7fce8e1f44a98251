package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) captureCommand() *cobra.Command {
	q := control.CaptureQuery{}
	var layer, file string
	cmd := &cobra.Command{
		Use: "capture [TUNNEL]", Short: "Record packets of a tunnel as pcapng: inside it, or on the card",
		Long: "Writes pcapng to a file, or to standard output for another program:\n\n" +
			"  transitctl capture tr0 | wireshark -k -i -\n" +
			"  transitctl capture tr0 --layer outer -f 'host 10.1.2.4' -w outer.pcapng --duration 10s\n\n" +
			"Of an encrypted tunnel the outer layer is ciphertext, and the inner one is decrypted. Ctrl-C ends it and keeps\n" +
			"what there is. A capture ends by itself, see --count and --duration, and after 64 MB.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{msg: "capture takes one tunnel", hint: "put the filter behind -f, in quotes"}
			}
			return nil
		},
		ValidArgsFunction: a.complete(1, tunnels),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Tunnel, q.Layer = first(args), control.Layer(layer)
			if err := checkCapture(q); err != nil {
				return err
			}
			if (file == "" || file == "-") && isTerminal(a.stdout) {
				return &usageError{msg: "standard output is a terminal", hint: "write to a file with -w FILE, or pipe it: | wireshark -k -i -"}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			out := &lateFile{name: file, w: a.stdout}
			done, err := client.Capture(cmd.Context(), q, &wholeBlocks{w: out})
			if cerr := out.close(); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			a.note(captureNote(done))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&layer, "layer", string(control.LayerInner), "inner, outer, or decrypted, which is another word for inner")
	f.StringVarP(&q.Filter, "filter", "f", "", "only packets that match, in tcpdump's language: 'tcp port 179 and host 10.1.2.4'")
	f.StringVarP(&file, "write", "w", "", "a file that must not exist; - or nothing is standard output")
	f.IntVar(&q.Count, "count", control.DefaultCaptureCount, "end after so many packets")
	f.DurationVar(&q.Duration, "duration", control.DefaultCaptureDuration, "end after this time")
	f.IntVar(&q.Snap, "snaplen", control.DefaultCaptureSnap, "keep so many bytes of each packet")
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func checkCapture(q control.CaptureQuery) error {
	switch {
	case q.Layer != control.LayerInner && q.Layer != control.LayerOuter && q.Layer != control.LayerDecrypted:
		return &usageError{msg: fmt.Sprintf("unknown layer %q", q.Layer), hint: "use inner, outer or decrypted"}
	case q.Count < 1 || q.Count > control.MaxCaptureCount:
		return &usageError{msg: fmt.Sprintf("--count is 1 to %d, not %d", control.MaxCaptureCount, q.Count)}
	case q.Duration < time.Millisecond || q.Duration > control.MaxCaptureDuration:
		return &usageError{msg: fmt.Sprintf("--duration is at most %s, not %s", control.MaxCaptureDuration, q.Duration)}
	case q.Snap < 1 || q.Snap > control.MaxCaptureSnap:
		return &usageError{msg: fmt.Sprintf("--snaplen is 1 to %d, not %d", control.MaxCaptureSnap, q.Snap)}
	}
	return nil
}

func captureNote(d control.Captured) string {
	why := map[string]string{
		"count": "as many as were asked for", "duration": "the time is over", "bytes": "the limit of bytes is reached",
		"client": "interrupted", "stopped": "the daemon stops", "": "interrupted",
	}[d.Ended]
	if d.Ended == "client" || d.Ended == "" { // the daemon had nobody to tell
		return fmt.Sprintf("%s captured (%s)", size(d.Bytes), why)
	}
	return fmt.Sprintf("%d packets captured, %d dropped by the kernel, %s (%s)", d.Packets, d.Dropped, size(d.Bytes), why)
}

// lateFile is made when the first packet comes, so that a capture that is refused leaves none behind.
type lateFile struct {
	name string // empty or "-": w
	w    io.Writer
	f    *os.File
}

func (l *lateFile) Write(b []byte) (int, error) {
	if l.name == "" || l.name == "-" {
		return l.w.Write(b)
	}
	if l.f == nil {
		// What goes through the tunnel is not for everybody.
		f, err := os.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return 0, fmt.Errorf("make the file: %w", err)
		}
		l.f = f
	}
	return l.f.Write(b)
}

func (l *lateFile) close() error {
	if l.f == nil {
		return nil
	}
	if err := l.f.Close(); err != nil {
		return fmt.Errorf("close the file: %w", err)
	}
	return nil
}

// maxBlock bounds a block of pcapng, in bytes: a packet of the largest snap length and what is around it.
const maxBlock = 1 << 20

// wholeBlocks passes a pcapng stream on in whole blocks, so that what an
// interrupt leaves can be read to its end.
type wholeBlocks struct {
	w    io.Writer
	rest []byte
}

func (p *wholeBlocks) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	whole := 0
	for len(p.rest)-whole >= 8 {
		// The second word is the block's length; the daemon writes little-endian.
		n := int(binary.LittleEndian.Uint32(p.rest[whole+4:]))
		if n < 12 || n > maxBlock {
			return 0, fmt.Errorf("the daemon's answer is no pcapng: a block of %d bytes", n)
		}
		if len(p.rest)-whole < n {
			break
		}
		whole += n
	}
	if whole == 0 {
		return len(b), nil
	}
	if _, err := p.w.Write(p.rest[:whole]); err != nil {
		return 0, err
	}
	p.rest = append(p.rest[:0], p.rest[whole:]...)
	return len(b), nil
}
