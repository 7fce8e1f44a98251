package policy

// MaxPriority is the largest (worst) priority of a node.
const MaxPriority = 7

// drainPrepend makes every other way the better one; AS paths stay short enough
// for anybody's limit.
const drainPrepend = 10

// Standing is how a sibling is doing.
type Standing struct {
	Priority uint8 // as it last told
	// Alive: it tells routes of remote sites, so it forwards. Seen: it did once.
	Alive, Seen bool
}

// Prepend is how often a node prepends its own ASN towards Route Servers and
// other sites, so that one NVA of a site, or several, carry the traffic. It is
// the same everywhere, so a flow's two directions prefer the same NVA.
//
// A node with siblings leaves room below: a Route Server keeps the routes of an
// NVA that died silently until its hold time of 180 s is over, and knows no BFD.
// So nobody waits for it: the best of those that live announces a shorter path
// than the dead one did, once less for each that died. With n siblings:
//
//	in normal life           n + priority
//	the best one left        n - dead ones of our priority or better
//	draining                 n + priority + 10
func Prepend(priority uint8, siblings []Standing, draining bool) int {
	normal := len(siblings) + int(priority)
	if draining {
		return normal + drainPrepend
	}
	dead := 0
	for _, s := range siblings {
		switch {
		case s.Alive && s.Priority < priority:
			return normal
		case !s.Alive && s.Seen && s.Priority <= priority:
			dead++
		}
	}
	if dead == 0 {
		return normal
	}
	return len(siblings) - dead
}
