package control

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// noSuchPath begins the message about an unknown path. Clients know by it that the daemon is older than they are.
const noSuchPath = "no such path"

// endpoint is one path of the API.
type endpoint struct {
	method string
	params []string
	answer func(r *http.Request, q url.Values) (any, error)
}

func (s *Server) endpoints() map[string]endpoint {
	return map[string]endpoint{
		"/v1/status":          {http.MethodGet, nil, s.status},
		"/v1/tunnels":         {http.MethodGet, nil, s.tunnels},
		"/v1/bgp":             {http.MethodGet, nil, s.sessions},
		"/v1/bgp/routes":      {http.MethodGet, []string{"direction", "peer"}, s.bgpRoutes},
		"/v1/routes":          {http.MethodGet, nil, s.routes},
		"/v1/explain":         {http.MethodGet, []string{"target", "from"}, s.explain},
		"/v1/events":          {http.MethodGet, []string{"since", "follow"}, s.events},
		"/v1/reload":          {http.MethodPost, nil, s.reload},
		"/v1/ping":            {http.MethodPost, []string{"tunnel", "count", "interval_ms", "size"}, s.ping},
		"/v1/pmtu":            {http.MethodPost, []string{"tunnel"}, s.pmtu},
		"/v1/trace":           {http.MethodPost, []string{"target", "from"}, s.trace},
		"/v1/capture":         {http.MethodPost, []string{"tunnel", "layer", "filter", "count", "duration_ms", "snaplen"}, s.capture},
		"/v1/ipsec/rekey":     {http.MethodPost, []string{"tunnel", "sa"}, s.rekey},
		"/v1/ipsec/terminate": {http.MethodPost, []string{"tunnel"}, s.terminate},
		"/v1/drain":           {http.MethodPost, nil, func(r *http.Request, _ url.Values) (any, error) { return s.daemon.Drain(r.Context(), false) }},
		"/v1/undrain":         {http.MethodPost, nil, func(r *http.Request, _ url.Values) (any, error) { return s.daemon.Drain(r.Context(), true) }},
	}
}

// dispatch finds what is asked for and asks the daemon. With reading it offers
// only what changes nothing.
func (s *Server) dispatch(r *http.Request, reading bool) (any, error) {
	e, ok := s.endpoints()[r.URL.Path]
	if !ok || reading && e.method != http.MethodGet {
		return nil, &Error{Code: CodeNotFound, Message: fmt.Sprintf(noSuchPath+": %.200q", r.URL.Path)}
	}
	if r.Method != e.method && (r.Method != http.MethodHead || e.method != http.MethodGet) {
		return nil, &Error{Code: CodeMethod, Message: fmt.Sprintf("%s wants %s, not %.20q", r.URL.Path, e.method, r.Method)}
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("the query cannot be read: %v", err)}
	}
	for name, values := range q {
		if !slices.Contains(e.params, name) || len(values) > 1 {
			return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("%s takes %s once each, not %.50q", r.URL.Path, listOf(e.params), name)}
		}
	}
	return e.answer(r, q)
}

// listOf names parameters for a person.
func listOf(params []string) string {
	if len(params) == 0 {
		return "no parameter"
	}
	return strings.Join(params, " and ")
}

func (s *Server) status(*http.Request, url.Values) (any, error) {
	st := s.daemon.Status()
	st.Refused.Control = s.Refused()
	return st, nil
}

func (s *Server) tunnels(*http.Request, url.Values) (any, error) {
	return Tunnels{Version: V1(), Tunnels: s.daemon.Status().Tunnels}, nil
}

func (s *Server) sessions(*http.Request, url.Values) (any, error) {
	st := s.daemon.Status()
	return Sessions{Version: V1(), ASN: st.Node.ASN, BGP: st.BGP}, nil
}

func (s *Server) bgpRoutes(_ *http.Request, q url.Values) (any, error) {
	query := BGPRoutesQuery{Direction: Direction(q.Get("direction")), Peer: q.Get("peer")}
	switch query.Direction {
	case "":
		query.Direction = DirectionReceived
	case DirectionReceived, DirectionAnnounced:
	default:
		return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("direction %.50q is neither received nor announced", query.Direction)}
	}
	return s.daemon.BGPRoutes(query)
}

func (s *Server) routes(*http.Request, url.Values) (any, error) { return s.daemon.Routes() }

func (s *Server) explain(r *http.Request, q url.Values) (any, error) {
	target := q.Get("target")
	if _, err := ParseTarget(target); err != nil {
		return nil, &Error{Code: CodeBadRequest, Message: err.Error()}
	}
	return s.daemon.Explain(r.Context(), target, q.Get("from"))
}

func (s *Server) reload(r *http.Request, _ url.Values) (any, error) {
	var req ReloadRequest
	if err := decodeBody(r, &req); err != nil {
		return nil, err
	}
	return s.daemon.Reload(r.Context(), req)
}

// ParseTarget reads what explain is asked for: a prefix, or an address, which
// becomes the prefix of its full length. Host bits are cleared.
func ParseTarget(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%.60q is neither an address nor a prefix", s)
	}
	return p.Masked(), nil
}
