package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Addresses of the lab that the tests speak to.
const (
	avsHost    = "10.50.1.10"
	onpremHost = "172.16.1.10"
	internet   = "198.18.255.1"
	hubNIC     = "10.0.2.4"
	transitNIC = "10.1.2.4"
	overlayHub = "169.254.77.1"
	overlayTr  = "169.254.77.2"
)

var pingCounts = regexp.MustCompile(`([0-9]+) packets transmitted, ([0-9]+) received`)

var pingLoss = regexp.MustCompile(`([0-9.]+)% packet loss`)

// ping sends count packets with a payload of size bytes and returns the loss in per cent.
func (l *lab) ping(node, dst string, count, size int, extra ...string) (float64, error) {
	args := append([]string{"-n", "-q", "-c", strconv.Itoa(count), "-i", "0.02", "-W", "1", "-s", strconv.Itoa(size)}, extra...)
	out, err := output(l.in(node, "ping", append(args, dst)...))
	m := pingLoss.FindStringSubmatch(out)
	if m == nil {
		return 100, fmt.Errorf("ping gave no summary: %q %w", out, err)
	}
	return strconv.ParseFloat(m[1], 64)
}

// clean fails unless every packet of every size came back.
func (l *lab) clean(node, dst string, sizes ...int) {
	l.t.Helper()
	for _, size := range sizes {
		if loss, err := l.ping(node, dst, 10, size, "-M", "do"); err != nil || loss != 0 {
			l.t.Errorf("ping %s -> %s, %d bytes: loss %v %% %v", node, dst, size, loss, err)
		}
	}
}

// reaches is clean for one small packet, to be polled.
func (l *lab) reaches(node, dst string) error {
	if loss, err := l.ping(node, dst, 1, 56); err != nil || loss != 0 {
		return fmt.Errorf("ping %s -> %s: loss %v %%, %w", node, dst, loss, err)
	}
	return nil
}

// iperf is what we read of iperf3's own JSON.
type iperf struct {
	End struct {
		SumReceived struct {
			Bytes int64   `json:"bytes"`
			Bps   float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		SumSent struct {
			Retransmits int `json:"retransmits"`
		} `json:"sum_sent"`
		Sum struct {
			Lost    int `json:"lost_packets"`
			Packets int `json:"packets"`
		} `json:"sum"`
	} `json:"end"`
	Error string `json:"error"`
}

// serve starts an iperf3 server in a node for the life of the test.
func (l *lab) serve(node, bind string) {
	l.t.Helper()
	c := l.in(node, "iperf3", "-s", "-B", bind)
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	l.eventually("iperf3 listens in "+node, 5*time.Second, func() error {
		out, err := output(l.in(node, "ss", "-Hltn", "sport = :5201"))
		if err != nil || out == "" {
			return fmt.Errorf("no listener: %w", err)
		}
		return nil
	})
}

func (l *lab) iperf(node, dst string, args ...string) iperf {
	l.t.Helper()
	var r iperf
	l.eventually("iperf3 measures", 30*time.Second, func() error {
		r = iperf{}
		out, err := output(l.in(node, "iperf3", append([]string{"-c", dst, "-J"}, args...)...))
		if jerr := json.Unmarshal([]byte(out), &r); jerr != nil {
			l.t.Fatalf("iperf3 %s -> %s %v: %v %v", node, dst, args, err, jerr)
		}
		// The server may not be done with the client before: it says so, and its word can be overtaken by the end of the connection.
		if strings.Contains(r.Error, "busy") || strings.Contains(r.Error, "unable to receive control message") {
			return errors.New(r.Error)
		}
		if err != nil || r.Error != "" {
			l.t.Fatalf("iperf3 %s -> %s %v: %v %s", node, dst, args, err, r.Error)
		}
		return nil
	})
	return r
}

// flow runs iperf3's UDP at about 1,000 packets a second beside the test and reports the loss when stopped.
type flow struct {
	l    *lab
	done chan struct{}
	r    iperf
	err  error
}

func (l *lab) startFlow(node, dst string, d time.Duration) *flow {
	l.t.Helper()
	f := &flow{l: l, done: make(chan struct{})}
	c := l.in(node, "iperf3", "-c", dst, "-u", "-l", "100", "-b", "800k", "-t", strconv.Itoa(int(d.Seconds())), "-J")
	go func() {
		defer close(f.done)
		out, err := output(c)
		f.err = err
		if jerr := json.Unmarshal([]byte(out), &f.r); jerr != nil && err == nil {
			f.err = jerr
		}
	}()
	return f
}

// wait returns lost and sent packets once the flow has ended.
func (f *flow) wait() (lost, sent int) {
	f.l.t.Helper()
	<-f.done
	if f.err != nil || f.r.Error != "" {
		f.l.t.Fatalf("udp flow: %v %s", f.err, f.r.Error)
	}
	return f.r.End.Sum.Lost, f.r.End.Sum.Packets
}

// capture is a tcpdump inside a node.
type capture struct {
	l    *lab
	cmd  *exec.Cmd
	file string
}

// atOnce makes tcpdump take packets as they come. Without it, those that the
// kernel has collected for less than a second are lost when it is stopped.
const atOnce = "--immediate-mode"

func (l *lab) capture(node, iface, filter string, extra ...string) *capture {
	l.t.Helper()
	file := filepath.Join(l.t.(interface{ TempDir() string }).TempDir(), "capture.pcap")
	args := append([]string{"-n", "-U", "-Z", "root", "-i", iface, "-w", file}, extra...)
	c := &capture{l: l, cmd: l.in(node, "tcpdump", append(args, filter)...), file: file}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	// tcpdump says "listening on" once its filter is in the kernel.
	buf := make([]byte, 4096)
	for got := ""; !strings.Contains(got, "listening on"); {
		n, err := stderr.Read(buf)
		got += string(buf[:n])
		if err != nil {
			l.t.Fatalf("tcpdump in %s: %v %s", node, err, got)
		}
	}
	go func() { // keep the pipe empty so that tcpdump can end
		for {
			if _, err := stderr.Read(buf); err != nil {
				return
			}
		}
	}()
	return c
}

// stop ends the capture and returns the packets that tshark's display filter finds, one line each with the given fields.
func (c *capture) stop() {
	c.l.t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGINT)
	_ = c.cmd.Wait()
}

func (c *capture) find(display string, fields ...string) []string {
	c.l.t.Helper()
	return c.tshark(display, fields)
}

// findChecked is find with checksums verified. It is for a wire on which they
// are filled in: tshark does not look into a TCP segment whose sum is wrong, and
// on a TUN device the kernel leaves it to the "hardware".
func (c *capture) findChecked(display string, fields ...string) []string {
	c.l.t.Helper()
	return c.tshark(display, fields, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")
}

func (c *capture) tshark(display string, fields []string, options ...string) []string {
	c.l.t.Helper()
	args := append([]string{"-n", "-r", c.file, "-Y", display, "-T", "fields", "-e", "frame.number"}, options...)
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out := strings.TrimSpace(c.l.must(exec.Command("tshark", args...)))
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}
