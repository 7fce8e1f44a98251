package daemon

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// ask gets a page of a web server; status 0 if nobody answers.
func ask(t *testing.T, url string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// TestObserveLife asks a whole daemon over HTTP, moves the web server by a reload,
// turns it off, and lets it find its address taken. Nothing of this stops the daemon.
func TestObserveLife(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, _ := livingYAML(t)
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	defer r.end()
	const first, second = "http://127.0.0.1:9477", "http://127.0.0.1:9478"
	eventually(t, 5*time.Second, "the web server answers", func() bool { s, _ := ask(t, first+"/healthz"); return s == http.StatusOK })
	for path, want := range map[string]struct {
		status int
		has    string
	}{
		"/metrics":   {200, "transitd_tunnel_up{tunnel=\"tr0\"} 0"},
		"/readyz":    {503, "not ready: no tunnel to another site works\nnot ready: no session with a Route Server works\n"},
		"/":          {200, "<title>"},
		"/v1/status": {200, "hub-nva"},
		"/v1/events": {200, "tunnel tr0: peer MAC not resolved: 169.254.77.2 does not answer inside the tunnel"},
	} {
		eventually(t, 5*time.Second, path+" says "+want.has, func() bool {
			status, text := ask(t, first+path)
			return status == want.status && strings.Contains(text, want.has)
		})
	}
	// Somebody changes our routes: the event says which.
	ip(t, "route del 192.0.2.64/27 table 7001")
	eventually(t, 10*time.Second, "the repair is told", func() bool {
		_, text := ask(t, first+"/v1/events")
		return strings.Contains(text, "another program changed our routes or rules; 1 repaired: put back 192.0.2.64/27")
	})

	if _, err := r.reload(yaml+"observe: {listen: 127.0.0.1:9478}\n", control.ReloadRequest{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "it has moved", func() bool {
		was, _ := ask(t, first+"/healthz")
		is, _ := ask(t, second+"/healthz")
		return was == 0 && is == http.StatusOK
	})
	if _, err := r.reload(yaml+"observe: {listen: \"\"}\n", control.ReloadRequest{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "it is off", func() bool { s, _ := ask(t, second+"/healthz"); return s == 0 })

	l, err := net.Listen("tcp", "127.0.0.1:9477")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.reload(yaml, control.ReloadRequest{}); err != nil {
		t.Fatal(err)
	}
	warned := func() bool {
		return strings.Contains(strings.Join(r.status().Warnings, "\n"), "the status page and the metrics are not served: listen on observe.listen")
	}
	eventually(t, 5*time.Second, "a taken address is a warning", warned)
	l.Close()
	eventually(t, 2*listenAgain, "it is tried again", func() bool { s, _ := ask(t, first+"/healthz"); return s == http.StatusOK && !warned() })

	e, err := r.client.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[events.Kind]int{}
	for _, x := range e.Events {
		kinds[x.Kind]++
	}
	if kinds[events.Node] != 1 || kinds[events.Reload] != 3 || kinds[events.Tunnel] != 1 || kinds[events.Routes] != 1 {
		t.Errorf("events by kind: %v in %+v", kinds, e.Events)
	}
}
