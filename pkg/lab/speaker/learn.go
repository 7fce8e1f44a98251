package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
)

// learn gives an UPDATE to the RIB. Errors in attributes turn the UPDATE's
// announcements into withdrawals (RFC 7606, section 2); only what makes its
// prefixes doubtful, and a neighbour over its limit, ends the session.
func (p *peer) learn(c *conn, u *Update) error {
	attrs, malformed, fatal := decodeAttributes(u.Attributes, c.box.as4)
	if fatal != nil {
		return fatal
	}
	p.stats.foreignFamily.Add(uint64(attrs.foreign))
	if u.AttributeError != nil {
		malformed = u.AttributeError
	}
	withdrawn := slices.Concat(u.Withdrawn, attrs.unreach)
	reach := slices.Concat(u.NLRI, attrs.reach)
	if len(reach) > 0 && malformed == nil {
		malformed = p.checkRoute(c, &attrs, len(u.NLRI) > 0)
	}
	if malformed != nil {
		p.stats.malformed.Add(uint64(len(reach)))
		p.log.Warn("UPDATE treated as withdrawal", zap.Int("prefixes", len(reach)), zap.Error(malformed))
		return p.s.rib.update(p.cfg.Name, slices.Concat(withdrawn, reach), nil, time.Now())
	}
	announced := slices.Concat(
		paths(attrs.path, u.NLRI, attrs.path.NextHop),
		paths(attrs.path, attrs.reach, attrs.mpNextHop))
	return p.s.rib.update(p.cfg.Name, withdrawn, announced, time.Now())
}

// checkRoute looks at what must be right for announcements (RFC 4271, section 6.3).
func (p *peer) checkRoute(c *conn, a *attributes, nlri bool) error {
	if t := a.missing(nlri); t != 0 {
		return fmt.Errorf("mandatory attribute %d is missing", t)
	}
	if len(a.path.ASPath) == 0 || a.path.ASPath[0] != p.cfg.ASN {
		return fmt.Errorf("AS path %q does not begin with the neighbour's AS %d", a.path.ASPathString(), p.cfg.ASN)
	}
	for _, hop := range []netip.Addr{a.path.NextHop, a.mpNextHop} {
		if hop.IsValid() && hop == c.local {
			return fmt.Errorf("next hop %v is our own address", hop)
		}
	}
	if len(a.reach) > 0 && !usableNextHop(a.mpNextHop) {
		return fmt.Errorf("next hop %v is no host", a.mpNextHop)
	}
	return nil
}

// paths makes one path for each prefix.
func paths(attrs Path, prefixes []netip.Prefix, hop netip.Addr) []Path {
	out := make([]Path, 0, len(prefixes))
	for _, prefix := range prefixes {
		attrs.Prefix, attrs.NextHop = prefix, hop
		out = append(out, attrs)
	}
	return out
}
