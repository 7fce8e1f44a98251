package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/lab/probe"
	"github.com/transitd/transitd/pkg/lab/speaker"
)

// Kind is what a node's process does: the word after "transitlab node".
type Kind string

// The kinds of node processes.
const (
	KindSDN         Kind = "sdn"
	KindHost        Kind = "host"
	KindRouteServer Kind = "route-server"
	KindMSEE        Kind = "msee"
	KindEdge        Kind = "edge"
	KindBIRD        Kind = "bird"
	KindFRR         Kind = "frr"
	KindNaive       Kind = "naive"
)

// nodeConfig is what a node's process reads; the lab writes it.
type nodeConfig struct {
	Lab     string         `json:"lab"`
	Node    Node           `json:"node"`
	Options Options        `json:"options"`
	NIC     fabric.NIC     `json:"nic,omitzero"`
	Fabric  *fabric.Config `json:"fabric,omitempty"` // for KindSDN
}

// RunNode is a node's process: it runs in the node's namespace until ctx ends.
func RunNode(ctx context.Context, kind Kind, file string, log *zap.Logger) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the node's configuration: %w", err)
	}
	var c nodeConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("read the node's configuration %s: %w", file, err)
	}
	s := state{c.Lab}
	g, ctx := errgroup.WithContext(ctx)
	if c.Node.Services {
		g.Go(func() error { return probe.Serve(ctx, log) })
	}
	switch kind {
	case KindSDN:
		g.Go(func() error { return runSDN(ctx, s, c, log) })
	case KindHost:
		// the services are all of it
	case KindRouteServer, KindMSEE, KindEdge, KindNaive:
		g.Go(func() error { return runSpeaker(ctx, s, c, kind, log) })
	case KindBIRD:
		g.Go(func() error { return runBIRD(ctx, s, c, log) })
	case KindFRR:
		g.Go(func() error { return runFRR(ctx, s, c, log) })
	default:
		return fmt.Errorf("node kind %q is unknown", kind)
	}
	return g.Wait()
}

func runSDN(ctx context.Context, s state, c nodeConfig, log *zap.Logger) error {
	a, err := fabric.NewAgent(fabric.AgentConfig{
		Fabric: *c.Fabric, Namespace: s.ns(c.Node.Name), Socket: s.socket(c.Node.Name),
		Delay: c.Options.SDNDelay, Log: log,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// runSpeaker speaks BGP as the node's role does, gives its kernel the routes (a Route Server instance: the SDN), and
// answers questions on the node's socket.
func runSpeaker(ctx context.Context, s state, c nodeConfig, kind Kind, log *zap.Logger) (err error) {
	cfg := speakerConfig(c, kind)
	cfg.Log = log
	if kind == KindRouteServer {
		err = feedSDN(ctx, s, c, &cfg, log)
	} else {
		var k *nodeKernel
		if k, err = newNodeKernel(c.Node); err == nil {
			defer func() { err = errors.Join(err, k.close()) }()
			cfg.OnBest = k.onBest(log)
		}
	}
	if err != nil {
		return err
	}
	sp, err := speaker.New(cfg)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return sp.Run(ctx) })
	g.Go(func() error { return serveNode(ctx, s.socket(c.Node.Name), sp) })
	return g.Wait()
}

// feedSDN sends every change to the fabric's agent. The connection lasts as long as the process: when it is gone, so
// is for the agent what it said. An agent that is gone ends the process, as nobody else would notice.
func feedSDN(ctx context.Context, s state, c nodeConfig, cfg *speaker.Config, log *zap.Logger) error {
	feed, err := fabric.NewClient(s.socket("fabric")).Feed(ctx, c.Node.Service, c.Node.Name)
	if err != nil {
		return fmt.Errorf("connect to the fabric's agent: %w", err)
	}
	context.AfterFunc(ctx, feed.Close)
	circuits := map[string]bool{}
	for _, n := range c.Node.Sessions {
		circuits[n.Peer] = n.Role == RoleMSEE
	}
	cfg.OnBest = func(best []speaker.Best) {
		if err := feed.Send(learnedRoutes(best, circuits)); err != nil && ctx.Err() == nil {
			log.Error("tell the fabric's agent", zap.Error(err))
		}
	}
	return nil
}

// learnedRoutes are the paths of the best set that others announced.
func learnedRoutes(best []speaker.Best, circuits map[string]bool) []fabric.BGPRoute {
	routes := []fabric.BGPRoute{}
	for _, b := range best {
		for _, p := range b.Paths {
			if p.From != "" {
				routes = append(routes, fabric.BGPRoute{Prefix: b.Prefix, NextHop: p.NextHop, ASPath: p.ASPath, Circuit: circuits[p.From]})
			}
		}
	}
	return routes
}

// knowledge is what a node's speaker tells on its socket.
type knowledge struct {
	SchemaVersion int            `json:"schema_version"`
	Sessions      []sessionState `json:"sessions"`
	Routes        []knownRoute   `json:"routes"`
}

// sessionState is one BGP session of a node.
type sessionState struct {
	Peer        string `json:"peer"`
	State       string `json:"state"`
	Received    int    `json:"received"`
	Announced   int    `json:"announced"`
	Refreshes   uint64 `json:"refreshes_sent"`
	Established uint64 `json:"times_established"`
	LastError   string `json:"last_error,omitempty"`
}

// serveNode answers "what do you know" and takes "send ROUTE-REFRESH".
func serveNode(ctx context.Context, socket string, sp *speaker.Speaker) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("open the node's socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /knowledge", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// The client may be gone; there is nobody else to tell.
		_ = json.NewEncoder(w).Encode(tell(sp))
	})
	mux.HandleFunc("POST /refresh", func(w http.ResponseWriter, _ *http.Request) {
		if err := sp.Refresh(""); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST /restart", func(w http.ResponseWriter, r *http.Request) {
		down, err := time.ParseDuration(r.URL.Query().Get("down"))
		if err == nil {
			err = sp.Restart("", down)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("POST /announce", func(w http.ResponseWriter, r *http.Request) {
		var a Announcement
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20)).Decode(&a)
		if err == nil {
			err = a.tell(sp)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the node's socket: %w", err)
	}
	return nil
}

// Announcement is what a node's speaker is to say besides what the plan has.
type Announcement struct {
	Prefixes []netip.Prefix `json:"prefixes"`
	// ASPath is what comes behind the node's own AS.
	ASPath   []uint32 `json:"as_path,omitempty"`
	Withdraw bool     `json:"withdraw,omitempty"`
}

func (a Announcement) tell(sp *speaker.Speaker) error {
	if a.Withdraw {
		sp.Withdraw(a.Prefixes...)
		return nil
	}
	paths := make([]speaker.Path, len(a.Prefixes))
	for i, p := range a.Prefixes {
		paths[i] = speaker.Path{Prefix: p, ASPath: a.ASPath}
	}
	return sp.Originate(paths...)
}

func tell(sp *speaker.Speaker) knowledge {
	k := knowledge{SchemaVersion: 1, Sessions: []sessionState{}, Routes: []knownRoute{}}
	for _, p := range sp.Status().Peers {
		k.Sessions = append(k.Sessions, sessionState{
			Peer: p.Name, State: stateWord(p.State), Received: p.PrefixesIn,
			Announced: p.PrefixesOut, Refreshes: p.Out.RouteRefresh, Established: p.Sessions, LastError: p.LastError,
		})
	}
	for _, b := range sp.Best() {
		if !b.Local() {
			k.Routes = append(k.Routes, knownRoute{Prefix: b.Prefix, ASPath: b.Paths[0].ASPathString(), From: b.Paths[0].From})
		}
	}
	return k
}

// establishedState is the word for a session that is up.
const establishedState = "established"

// stateWord names a session's state as RFC 4271, section 8.2.2 does, in the spelling of transitctl.
func stateWord(s speaker.State) string {
	words := map[speaker.State]string{
		speaker.Idle: "idle", speaker.Connect: "connect", speaker.Active: "active",
		speaker.OpenSent: "opensent", speaker.OpenConfirm: "openconfirm", speaker.Established: establishedState,
	}
	if w, ok := words[s]; ok {
		return w
	}
	return fmt.Sprintf("unknown(%d)", s)
}
