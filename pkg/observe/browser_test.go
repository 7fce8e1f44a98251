package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// tab is a page in a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	complain []string // what the console said
	asked    []string // every URL
}

// open starts a browser with a width and a colour scheme.
func open(t *testing.T, url string, width int64, scheme string) *tab {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("chromium is not installed (.ci/install-peers chromium)")
	}
	// Root has no sandbox in a container; the page is our own.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.WSURLReadTimeout(60*time.Second))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &tab{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.listen)
	b.do(
		log.Enable(), network.Enable(),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.EmulateViewport(width, 900), chromedp.Navigate(url+"/"),
	)
	b.until("the picture is there", `document.querySelector('#picture svg') !== null`)
	return b
}

func (b *tab) listen(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.complain = append(b.complain, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		b.complain = append(b.complain, fmt.Sprintf("console.%s", e.Type))
	case *log.EventEntryAdded:
		b.complain = append(b.complain, e.Entry.Text)
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, e.Request.URL)
	}
}

func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval runs an expression in the page.
func eval[T any](b *tab, expression string) (v T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(expression, &v))
	return v
}

// until waits for an expression to be true.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(20*time.Second), chromedp.WithPollingInterval(50*time.Millisecond))); err != nil {
		b.t.Fatalf("%s: %v; the page says: %s", what, err, eval[string](b, `document.body.innerText.slice(0, 2000)`))
	}
}

// shoot keeps a picture of the whole page, if TRANSITD_SHOTS names a folder.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("TRANSITD_SHOTS")
	if dir == "" {
		return
	}
	var png []byte
	b.do(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// clean checks that the browser found nothing to complain of, and asked nobody else.
func (b *tab) clean(url string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.complain {
		b.t.Errorf("the browser says: %s", s)
	}
	for _, s := range b.asked {
		if !strings.HasPrefix(s, url+"/") {
			b.t.Errorf("the page asked %s", s)
		}
	}
}

// anHour fills the history as if the server had run for an hour, by a wave of traffic.
func anHour(s *Server, n *stage) {
	status := n.Status()
	tunnels := append([]control.Tunnel{}, status.Tunnels...)
	start := time.Now().Add(-time.Hour)
	for i := range samples + 1 {
		for k := range tunnels {
			tunnels[k].TXBytes += uint64(4e8 + 3e8*wave(i+40*k, 90) + 5e7*wave(i, 7))
			tunnels[k].RXBytes += uint64(9e8 + 6e8*wave(i+70+90*k, 120) + 9e7*wave(i, 11))
			tunnels[k].State = control.TunnelUp
			if k == 1 && i > 200 && i < 212 {
				tunnels[k].State = control.TunnelDown
			}
		}
		s.history.add(start.Add(time.Duration(i)*sampleInterval), tunnels)
	}
	n.change(func(s *stage) { s.status.Tunnels = tunnels })
}

// wave goes from -1 to 1 and back in a number of steps, by parabolas.
func wave(i, period int) float64 {
	x := float64(i%period)/float64(period)*4 - 2 // -2 to 2
	if x < 0 {
		return -1 + (x+1)*(x+1)*2 - 1 + 1 - (x+1)*(x+1)
	}
	return 1 - (x-1)*(x-1)*2 + (x-1)*(x-1)
}

// carry lets the tunnels carry something from now on, so that there are rates.
func carry(t *testing.T, n *stage) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			n.change(func(s *stage) {
				s.status.Tunnels = append([]control.Tunnel{}, s.status.Tunnels...)
				for i := range s.status.Tunnels {
					s.status.Tunnels[i].TXBytes += uint64(9_000_000 / (1 + 20*i))
					s.status.Tunnels[i].RXBytes += uint64(24_000_000 / (1 + 20*i))
				}
			})
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

func someEvents(n *stage) {
	add := func(ago time.Duration, k events.Kind, s events.Severity, before, after, text string) {
		n.log.Add(time.Now().Add(-ago), events.Event{Kind: k, Severity: s, Before: before, After: after, Text: text})
	}
	add(26*time.Hour, events.Node, events.Info, "", "running", "transitd v0.9.0 runs as node hub-nva of site hub, AS 64512")
	add(26*time.Hour, events.Tunnel, events.Info, "down", "up", "tunnel tr0 to 10.1.2.4 is up")
	add(26*time.Hour, events.BGP, events.Info, "open-confirm", "established", "BGP session with route server hub-ars, instance 10.0.1.4 (AS 65515) is up")
	add(27*time.Minute, events.BFD, events.Warning, "up", "down", "nothing gets through tunnel tr1 any more: BFD: control detection time expired")
	add(25*time.Minute, events.BFD, events.Info, "init", "up", "packets get through tunnel tr1 both ways: BFD is up")
	add(4*time.Minute, events.Routes, events.Warning, "", "", "another program changed our routes or rules; 2 repaired: put back 172.16.0.0/16 dev tr0 table 7003")
	add(time.Minute, events.Reload, events.Info, "", "", "the configuration was read again: log.level: info becomes debug")
}

// degrade takes an instance and a tunnel's session away.
func degrade(n *stage) {
	n.change(func(s *stage) {
		s.status.Health = control.HealthDegraded
		s.status.BGP = append([]control.Session{}, s.status.BGP...)
		s.status.BGP[1].State, s.status.BGP[1].LastError, s.status.BGP[1].Flaps = "active", "hold timer expired", 3
		s.status.Tunnels = append([]control.Tunnel{}, s.status.Tunnels...)
		s.status.Tunnels[1].State = control.TunnelDown
		s.status.Warnings = []string{
			"tunnel tr1: peer MAC not resolved: 169.254.78.2 does not answer inside the tunnel",
			"route server hub-ars: instance 10.0.1.5 is down (1 of 2): hold timer expired",
		}
		s.status.Advice = []control.Advice{
			{Warning: s.status.Warnings[0], Run: "tcpdump -c 10 -ni eth0 host 10.1.2.5 and udp port 4789"},
			{Warning: s.status.Warnings[1], Run: "nc -vz -w 3 10.0.1.5 179"},
		}
	})
}

// TestLooks opens the page as people do, and checks what a person without eyes, mouse or a wide screen needs.
func TestLooks(t *testing.T) {
	for _, c := range []struct {
		name     string
		width    int64
		scheme   string
		degraded bool
	}{
		{"healthy", 1280, "light", false}, {"degraded", 1280, "light", true}, {"narrow", 400, "light", true}, {"dark", 1280, "dark", true}, {"narrow-dark", 400, "dark", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newStage()
			_, url := serve(t, n, func(s *Server) { anHour(s, n) })
			someEvents(n)
			if c.degraded {
				degrade(n)
			}
			carry(t, n)
			b := open(t, url, c.width, c.scheme)
			b.until("the hour is shown", `document.querySelector('.legend').textContent.includes('1.27 Gbit/s')`)
			b.until("a rate is shown", `document.querySelector('#picture').textContent.includes('Mbit/s')`)
			b.until("routes are shown", `document.querySelectorAll('#routes tr').length === 5`)
			b.shoot(c.name)
			// What is drawn beyond the picture's edge is cut off.
			if cut := eval[[]string](b, `[...document.querySelectorAll('#picture text')].filter((e) => { const b = e.getBBox(), v = e.ownerSVGElement.viewBox.baseVal; return b.x < 0 || b.x + b.width > v.width || b.y < 0 || b.y + b.height > v.height; }).map((e) => e.textContent)`); len(cut) > 0 {
				t.Errorf("cut off in the picture: %q", cut)
			}
			if over := eval[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
				t.Errorf("the page is %d px wider than the window", over)
			}
			for _, problem := range eval[[]string](b, accessibility) {
				t.Error(problem)
			}
			axe(b)
			b.clean(url)
		})
	}
}

// axe runs axe-core, if TRANSITD_AXE names its file (npm pack axe-core).
func axe(b *tab) {
	b.t.Helper()
	file := os.Getenv("TRANSITD_AXE")
	if file == "" {
		b.t.Log("axe-core is not used: TRANSITD_AXE does not name its file")
		return
	}
	script, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	var found json.RawMessage
	b.do(chromedp.Evaluate(string(script)+";0", nil), chromedp.Evaluate(
		`axe.run().then((r) => r.violations.map((v) => v.id + ": " + v.help + ": " + v.nodes.map((n) => n.html.slice(0, 200)).join(" | ")))`,
		&found, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if string(found) != "[]" {
		b.t.Errorf("axe-core: %s", found)
	}
}

// freePort is an address on which a server can be started twice.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// slash presses a key without the character that chromedp sends after it, whatever the page did with the key.
func slash() chromedp.Action {
	return input.DispatchKeyEvent(input.KeyRawDown).WithKey("/").WithCode("Slash").WithWindowsVirtualKeyCode(191)
}

// TestHands uses the page by keyboard alone.
func TestHands(t *testing.T) {
	n := newStage()
	_, url := serve(t, n)
	b := open(t, url, 1000, "light")
	b.until("routes are shown", `document.querySelectorAll('#routes tr').length === 5`)
	// The first stop is the way past the header; it is seen when it has the focus.
	b.do(chromedp.KeyEvent(kb.Tab))
	if got := eval[string](b, `document.activeElement.className + " " + (document.activeElement.getBoundingClientRect().left >= 0)`); got != "skip true" {
		t.Errorf("the first stop is %q", got)
	}
	b.do(slash(), chromedp.KeyEvent("172.17"))
	b.until("the filter works", `document.querySelectorAll('#routes tr').length === 1 && document.querySelector('#routes').textContent.includes('172.17.0.0/16')`)
	// A live update must not take the focus or the text away.
	before := eval[string](b, `document.querySelector('#facts').textContent`)
	n.change(func(s *stage) { s.status.Node.UptimeS += 3600 })
	b.until("an update came", fmt.Sprintf(`document.querySelector('#facts').textContent !== %q`, before))
	if got := eval[string](b, `document.activeElement.id + " " + document.activeElement.value`); got != "filter 172.17" {
		t.Errorf("after an update the focus is on %q", got)
	}
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter)) // table, Why?, the row's Why?
	b.until("the reason is shown", `!document.querySelector('#why').hidden && document.querySelector('#why').textContent.includes('tr0 tells 172.17.0.0/16, AS path 64513 398656.')`)
	b.shoot("why")
	b.do(chromedp.KeyEvent(kb.Escape))
	b.until("Escape closes it and the focus is back", `document.querySelector('#why').hidden && document.activeElement.getAttribute('aria-label') === 'Why 172.17.0.0/16?'`)
	// Any address can be asked for, also one that is nonsense.
	b.do(slash())
	b.do(chromedp.Evaluate(`document.querySelector('#filter').value = 'nonsense'`, nil), chromedp.KeyEvent(kb.Enter))
	b.until("nonsense is explained", `document.querySelector('#why').textContent.includes('is neither an address nor a prefix')`)
	b.mu.Lock()
	b.complain = nil // the browser notes the answer 400
	b.mu.Unlock()
	b.clean(url)
}

// TestCertificates: a certificate that has ended is not one that ends in the
// past, and is shown also, above all, while a tunnel has no keys.
func TestCertificates(t *testing.T) {
	n := newStage()
	n.change(func(s *stage) {
		ended := int64(-3*86400 - 7200)
		s.status.Tunnels[1].State, s.status.Tunnels[1].IPsec.Child, s.status.Tunnels[1].IPsec.CertificateExpiresS = control.TunnelDown, []control.ChildSA{}, &ended
	})
	_, url := serve(t, n)
	b := open(t, url, 1000, "light")
	got := eval[string](b, `[...document.querySelector('article[data-name="tr1"] dl:last-of-type').children].map((e) => e.children[0].textContent + ": " + e.children[1].textContent).join("; ")`)
	if want := "Keys: none; Our certificate: ended 3 d 2 h ago; The peer's certificate: ends in 20 d 0 h"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	b.clean(url)
}

// TestMarkupOfAPeer lets a peer say things that would be markup.
func TestMarkupOfAPeer(t *testing.T) {
	n := newStage()
	const evil = `<img src=x onerror="document.title='broken'"><script>1</script>`
	n.change(func(s *stage) {
		s.status.BGP = append([]control.Session{}, s.status.BGP...)
		s.status.BGP[0].State, s.status.BGP[0].LastError = "idle", evil
		s.status.Warnings, s.status.Advice = []string{evil}, []control.Advice{{Warning: evil, Run: evil}}
	})
	n.log.Add(time.Now(), events.Event{Kind: events.BGP, Severity: events.Warning, Text: evil})
	_, url := serve(t, n)
	b := open(t, url, 1000, "light")
	b.until("it is shown as text", `document.querySelector('#events').textContent.includes('<script>') && document.querySelector('#sessions').textContent.includes('<img')`)
	if got := eval[string](b, `document.querySelectorAll('main img, main script').length + document.title`); strings.Contains(got, "broken") || got[0] != '0' {
		t.Errorf("markup was taken for markup: %q", got)
	}
	b.clean(url)
}

// TestLostAndFound takes the node away from an open page, and brings it back with news.
func TestLostAndFound(t *testing.T) {
	n := newStage()
	at := freePort(t)
	run := func() (stop func()) {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- New(n, control.NewServer(n, nil).Reading(), nil).Run(ctx, l) }()
		return sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	stop := run()
	t.Cleanup(func() { stop() })
	b := open(t, "http://"+at, 1000, "light")
	b.until("it is live", `document.querySelector('#link-text').textContent === 'live'`)
	n.log.Add(time.Now(), events.Event{Kind: events.Tunnel, Severity: events.Info, Text: "while it is open"})
	b.until("an event is shown", `document.querySelector('#events').textContent.includes('while it is open')`)
	began := time.Now()
	stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the open page held the stop up for %s", took)
	}
	b.until("the loss is said", `!document.querySelector('#lost').hidden && document.body.classList.contains('stale') && document.querySelector('#verdict-text').textContent === 'Last known: everything works'`)
	b.shoot("lost")
	n.log.Add(time.Now(), events.Event{Kind: events.Tunnel, Severity: events.Info, Text: "while nobody looked"})
	degrade(n)
	stop = run()
	b.until("it is live again, with the news", `document.querySelector('#lost').hidden && document.querySelector('#events').textContent.includes('while nobody looked') && document.querySelector('#warnings').textContent.includes('tr1')`)
	if got := eval[string](b, `document.title`); got != "⚠ hub-nva – transitd" {
		t.Errorf("the title is %q", got)
	}
}
