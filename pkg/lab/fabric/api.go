package fabric

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"go.uber.org/zap"
)

// Learned is one message of a Route Server instance: all that it knows now.
type Learned struct {
	Routes []BGPRoute `json:"routes"`
}

// State is what the agent knows, for people and tests.
type State struct {
	SchemaVersion int                              `json:"schema_version"`
	Learned       map[string]map[string][]BGPRoute `json:"learned"` // by Route Server, then by instance
	Counters      map[string]uint64                `json:"counters"`
	Writes        uint64                           `json:"writes"` // how often the NICs were programmed
}

// handler is the agent's HTTP interface. A Route Server instance holds one request open and streams into it;
// the end of the request, however it comes, is the end of what that instance said.
func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /learn/{server}/{instance}", a.serveLearn)
	mux.HandleFunc("GET /state", a.serveState)
	mux.HandleFunc("GET /effective/{nic}", a.serveEffective)
	return mux
}

func (a *Agent) serveLearn(w http.ResponseWriter, r *http.Request) {
	server, instance := r.PathValue("server"), r.PathValue("instance")
	log := a.log.With(zap.String("route_server", server), zap.String("instance", instance))
	log.Info("instance connected")
	defer a.learn(server, instance, nil, false)
	dec := json.NewDecoder(r.Body)
	for {
		var m Learned
		if err := dec.Decode(&m); err != nil {
			if !errors.Is(err, io.EOF) {
				log.Info("instance lost", zap.Error(err))
			}
			return
		}
		log.Info("instance learned", zap.Int("routes", len(m.Routes)))
		a.learn(server, instance, m.Routes, true)
	}
}

func (a *Agent) serveState(w http.ResponseWriter, _ *http.Request) {
	counters, err := Counters(a.cfg.Namespace)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a.mu.Lock()
	s := State{SchemaVersion: 1, Learned: map[string]map[string][]BGPRoute{}, Counters: counters, Writes: a.writes}
	for rs, instances := range a.learned {
		s.Learned[rs] = map[string][]BGPRoute{}
		for name, routes := range instances {
			s.Learned[rs][name] = routes
		}
	}
	a.mu.Unlock()
	a.reply(w, s)
}

func (a *Agent) serveEffective(w http.ResponseWriter, r *http.Request) {
	nic, ok := a.cfg.Fabric.NIC(r.PathValue("nic"))
	if !ok {
		http.Error(w, fmt.Sprintf("there is no NIC %q", r.PathValue("nic")), http.StatusNotFound)
		return
	}
	a.mu.Lock() // what is programmed, not what is about to be
	learned := a.written[a.cfg.Fabric.vnet(nic.VNet).RouteServer]
	a.mu.Unlock()
	a.reply(w, Effective(a.cfg.Fabric, nic, learned))
}

func (a *Agent) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.Debug("answer a request", zap.Error(err))
	}
}
