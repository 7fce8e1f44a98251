package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// knownRoute is what a router learned by BGP about one prefix.
type knownRoute struct {
	Prefix netip.Prefix `json:"prefix"`
	ASPath string       `json:"as_path"`
	From   string       `json:"from,omitempty"`
}

// Known are the routes that a router learned, as its own program says.
type Known []knownRoute

// Path finds the AS path of a prefix.
func (k Known) Path(p netip.Prefix) (string, bool) {
	i := slices.IndexFunc(k, func(r knownRoute) bool { return r.Prefix == p })
	if i < 0 {
		return "", false
	}
	return k[i].ASPath, true
}

// ask talks to a node's socket; into may be nil.
func (s state) ask(ctx context.Context, node, method, path string, into any) error {
	return s.exchange(ctx, node, method, path, nil, into)
}

// send posts something to a node's socket.
func (s state) send(ctx context.Context, node, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode what %s is told: %w", node, err)
	}
	return s.exchange(ctx, node, http.MethodPost, path, bytes.NewReader(b), nil)
}

func (s state) exchange(ctx context.Context, node, method, path string, body io.Reader, into any) error {
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", s.socket(node))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", node, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // the status alone has to do without it
		return fmt.Errorf("ask %s for %s: %s %s", node, path, resp.Status, bytes.TrimSpace(why))
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", node, err)
	}
	return nil
}

// known asks a router what it learned, whichever program runs there.
func (s state) known(ctx context.Context, p Plan, node string) (Known, error) {
	n, ok := p.Node(node)
	if !ok {
		return nil, fmt.Errorf("there is no node %q", node)
	}
	switch kindOf(p.Options, n) {
	case KindBIRD:
		out, err := s.ns(node).Command(ctx, "birdc", "-s", s.birdSocket(node), "show", "route", "all").Output()
		if err != nil {
			return nil, fmt.Errorf("ask BIRD of %s: %w", node, err)
		}
		return parseBIRD(string(out)), nil
	case KindFRR:
		out, err := s.ns(node).Command(ctx, "vtysh", "--vty_socket", s.private(node), "-c", "show bgp ipv4 unicast json").Output()
		if err != nil {
			return nil, fmt.Errorf("ask FRR of %s: %w", node, err)
		}
		return parseFRR(out)
	default:
		var k knowledge
		err := s.ask(ctx, node, http.MethodGet, "/knowledge", &k)
		return k.Routes, err
	}
}

// parseBIRD reads "show route all": a prefix at the start of a line, its attributes below. Routes without an AS path
// are the router's own.
func parseBIRD(out string) Known {
	prefixLine := regexp.MustCompile(`^(\d+\.\d+\.\d+\.\d+/\d+)\s`)
	var known Known
	var prefix netip.Prefix
	for line := range strings.Lines(out) {
		if m := prefixLine.FindStringSubmatch(line); m != nil {
			prefix, _ = netip.ParsePrefix(m[1])
		}
		_, path, ok := strings.Cut(line, "BGP.as_path: ")
		if _, there := known.Path(prefix); ok && !there && strings.TrimSpace(path) != "" {
			known = append(known, knownRoute{Prefix: prefix, ASPath: strings.TrimSpace(path)})
		}
	}
	return known
}

// parseFRR reads "show bgp ipv4 unicast json".
func parseFRR(out []byte) (Known, error) {
	var table struct {
		Routes map[string][]struct {
			Path     string `json:"path"`
			BestPath bool   `json:"bestpath"`
		} `json:"routes"`
	}
	if err := json.Unmarshal(out, &table); err != nil {
		return nil, fmt.Errorf("read FRR's table: %w", err)
	}
	var known Known
	for text, paths := range table.Routes {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("read FRR's table: %w", err)
		}
		for _, p := range paths {
			if p.BestPath && p.Path != "" {
				known = append(known, knownRoute{Prefix: prefix, ASPath: p.Path})
			}
		}
	}
	slices.SortFunc(known, func(a, b knownRoute) int { return strings.Compare(a.Prefix.String(), b.Prefix.String()) })
	return known, nil
}
