package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// serve starts a server on the loopback and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, "127.0.0.1:0", func(format string, args ...any) {
			if a, ok := strings.CutPrefix(fmt.Sprintf(format, args...), "listening on "); ok {
				addr <- a
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != context.Canceled { //nolint:errorlint // exactly this one
			t.Errorf("serve ends with %v", err)
		}
	})
	select {
	case a := <-addr:
		return a
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return ""
}

func TestClientMeasuresTheLoopback(t *testing.T) {
	t.Parallel()
	var steps []string
	r, err := Client(t.Context(), RemoteOptions{
		Server: serve(t), Subject: "loopback", Tests: RemoteTests(), Rounds: 1, Duration: 200 * time.Millisecond,
		Progress: func(_, _ int, what string) { steps = append(steps, what) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []string{TCP1, TCP8, LossFree, Flood} {
		if x := r.Find("loopback", Network, test); x == nil || x.Median <= 0 && test != LossFree {
			t.Errorf("%s: %+v", test, x)
		}
	}
	if len(r.Loss) != 1 || len(r.Loss[0].Points) == 0 || len(steps) != 2 || r.Machine.Peers["server"] == "" {
		t.Errorf("losses %v, steps %q, machine %+v", r.Loss, steps, r.Machine)
	}
}

func TestClientSaysThatNobodyServes(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, err = Client(t.Context(), RemoteOptions{Server: addr, Tests: RemoteTests(), Rounds: 1, Duration: time.Second})
	if err == nil || !strings.Contains(err.Error(), "transitbench serve") {
		t.Errorf("got %v", err)
	}
}

// dialServer opens a connection, says something and returns what is answered.
func dialServer(t *testing.T, addr, say string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(say)); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func TestServeTakesOneClientAtATime(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	first, r := dialServer(t, addr, `{"op":"control"}`+"\n")
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, `"machine"`) {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := Client(t.Context(), RemoteOptions{Server: addr, Tests: RemoteTests(), Rounds: 1, Duration: time.Second}); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("the second client: %v", err)
	}
	first.Close()
}

func TestServeSurvivesNonsense(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	for _, say := range []string{
		"GET / HTTP/1.1\r\n\r\n", `{"op":"data"}` + "\nxxxxxxxx", `{"op":"udp"}` + "\n", "null\n", strings.Repeat("x", 64<<10),
	} {
		_, r := dialServer(t, addr, say)
		if line, err := r.ReadString('\n'); err == nil {
			t.Errorf("%.20q is answered with %q", say, line)
		}
	}
	_, r := dialServer(t, addr, `{"op":"control"}`+"\n"+`{"op":"format"}`+"\n"+`{"op":"udp","flows":-1}`+"\n"+`{"op":"udp","flows":1000000}`+"\n")
	for i, want := range []string{`"machine"`, "there is no", "1 to 64", "1 to 64"} {
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, want) {
			t.Errorf("answer %d: %q, %v", i, line, err)
		}
	}
}
