package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// IPsec is what a tunnel's key exchange came to. There are no secrets in it.
type IPsec struct {
	// UDPEncapsulation says that ESP is in UDP; otherwise it is IP protocol 50.
	UDPEncapsulation bool `json:"udp_encapsulation"`

	IKE   []IKESA   `json:"ike"`
	Child []ChildSA `json:"child"`
	// Established counts IKE SAs made anew, by either side; the rekeys are SAs replaced.
	Established uint64 `json:"established"`
	IKERekeys   uint64 `json:"ike_rekeys"`
	ChildRekeys uint64 `json:"child_rekeys"`
	Expired     uint64 `json:"expired"` // SAs that ended because they could not be replaced in time
	Retransmits uint64 `json:"retransmits"`
	TimedOut    uint64 `json:"timed_out"` // IKE SAs given up, because the peer did not answer
	Refused     uint64 `json:"refused"`   // messages that were not what they should be
	Lost        uint64 `json:"lost"`      // messages at UDP port 500 that were too many, or too long
	CookiesSent uint64 `json:"cookies_sent"`
	HalfOpen    int    `json:"half_open"`
	// Seconds until our certificate and the peer's end, or one that they rest on; null without them.
	CertificateExpiresS     *int64 `json:"certificate_expires_s"`
	PeerCertificateExpiresS *int64 `json:"peer_certificate_expires_s"`
	// Which certificate it is that ends then, if one that they rest on.
	CertificateIssuer     string `json:"certificate_issuer,omitempty"`
	PeerCertificateIssuer string `json:"peer_certificate_issuer,omitempty"`
	KeyLogged             bool   `json:"key_logged"`
	// Why says why the tunnel is not up; Problem what was wrong in the last minute, also while it is up.
	Why     string `json:"why,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Cause is of what Why or Problem says: "silence", "passive" (it has to begin), "refused" (by the peer, which knows more), "secret", "method",
	// "ppk", "identity", "certificate", "proposals", "selectors", or nothing. PeerSays is the peer's last refusal.
	Cause    string `json:"cause,omitempty"`
	PeerSays string `json:"peer_says,omitempty"`
	// Overdue says that an SA is past its lifetime and could not be replaced, when it ends, and why.
	Overdue string `json:"overdue,omitempty"`
}

// IKESA is an IKE SA.
type IKESA struct {
	InitiatorSPI string `json:"initiator_spi"`
	ResponderSPI string `json:"responder_spi"`
	// State is "connecting", "authenticating", "established", "replaced" or "deleting".
	State     string `json:"state"`
	Initiator bool   `json:"initiator"` // we began it
	Proposal  string `json:"proposal"`
	LocalID   string `json:"local_id"`
	RemoteID  string `json:"remote_id"`
	PeerAuth  string `json:"peer_auth"` // "psk", "rsa", "ecdsa", "ed25519"
	AgeS      uint64 `json:"age_s"`
	RekeyInS  *int64 `json:"rekey_in_s"`
	EndsInS   *int64 `json:"ends_in_s"` // unless it is replaced
}

// ChildSA is a pair of CHILD SAs.
type ChildSA struct {
	InSPI  string `json:"in_spi"`
	OutSPI string `json:"out_spi"`
	// State is "installed", "replaced" or "deleting".
	State      string   `json:"state"`
	Proposal   string   `json:"proposal"`
	LocalTS    []string `json:"local_ts"`
	RemoteTS   []string `json:"remote_ts"`
	AgeS       uint64   `json:"age_s"`
	RekeyInS   *int64   `json:"rekey_in_s"`
	EndsInS    *int64   `json:"ends_in_s"` // unless it is replaced
	InPackets  uint64   `json:"in_packets"`
	InBytes    uint64   `json:"in_bytes"`
	OutPackets uint64   `json:"out_packets"`
	OutBytes   uint64   `json:"out_bytes"`
}

// IPsecDone is the answer of /v1/ipsec/rekey and /v1/ipsec/terminate.
type IPsecDone struct {
	Version
	Tunnel string `json:"tunnel"`
	Done   string `json:"done"`
}

// Keyer replaces and deletes the SAs of IPsec tunnels.
type Keyer interface {
	// Rekey replaces the CHILD SA of a tunnel, or its IKE SA, and returns when that has begun.
	Rekey(ctx context.Context, tunnel string, ike bool) (IPsecDone, error)
	// Terminate deletes a tunnel's SAs.
	Terminate(ctx context.Context, tunnel string) (IPsecDone, error)
}

func (s *Server) rekey(r *http.Request, q url.Values) (any, error) {
	switch of := q.Get("sa"); of {
	case "", "child", "ike":
		return s.daemon.Rekey(r.Context(), q.Get("tunnel"), of == "ike")
	default:
		return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("sa %.50q is neither child nor ike", of)}
	}
}

func (s *Server) terminate(r *http.Request, q url.Values) (any, error) {
	return s.daemon.Terminate(r.Context(), q.Get("tunnel"))
}

// Rekey replaces the CHILD SA of an IPsec tunnel, or its IKE SA; an empty name is the only tunnel.
func (c *Client) Rekey(ctx context.Context, tunnel string, ike bool) (d IPsecDone, err error) {
	q := url.Values{"tunnel": {tunnel}}
	if ike {
		q.Set("sa", "ike")
	}
	err = c.do(ctx, http.MethodPost, "/v1/ipsec/rekey", q, nil, &d)
	return d, err
}

// Terminate deletes the SAs of an IPsec tunnel.
func (c *Client) Terminate(ctx context.Context, tunnel string) (d IPsecDone, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/ipsec/terminate", url.Values{"tunnel": {tunnel}}, nil, &d)
	return d, err
}

// CertificateThatEnds is how a person is told of a certificate that ends: whose it is,
// or, where it rests on another one that ends before, that one's subject as well.
func CertificateThatEnds(whose, issuer string) string {
	if issuer == "" {
		return whose
	}
	return issuer + ", which " + whose + " rests on,"
}
