package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Ruleset are the firewall's rules, as nft tells them; those that the program
// iptables makes are among them where it is iptables-nft.
type Ruleset struct {
	chains []*chain
	// sets have their elements by family, table and name; elements of maps are pairs.
	sets map[setKey][]any
}

type setKey struct{ family, table, name string }

// chain is one chain with its rules. A chain without a hook is only jumped to.
type chain struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	Hook   string `json:"hook"`
	Prio   int    `json:"prio"`
	Policy string `json:"policy"`
	Dev    any    `json:"dev"` // of family netdev: a name or a list

	rules []rule
}

type rule struct {
	Family string           `json:"family"`
	Table  string           `json:"table"`
	Chain  string           `json:"chain"`
	Handle int              `json:"handle"`
	Expr   []map[string]any `json:"expr"`

	states []string // of connections, that a match of iptables has; nil if not known
}

// String is how a person finds the chain: "chain inet filter input".
func (c *chain) String() string { return fmt.Sprintf("chain %s %s %s", c.Family, c.Table, c.Name) }

// ParseRuleset reads what "nft -j list ruleset" prints.
func ParseRuleset(data []byte) (*Ruleset, error) {
	var doc struct {
		Objects []map[string]json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("read the firewall's rules: %w", err)
	}
	r := &Ruleset{sets: map[setKey][]any{}}
	for _, o := range doc.Objects {
		for kind, raw := range o {
			if err := r.add(kind, raw); err != nil {
				return nil, fmt.Errorf("read the firewall's rules: a %s: %w", kind, err)
			}
		}
	}
	slices.SortStableFunc(r.chains, func(x, y *chain) int { return x.Prio - y.Prio })
	return r, nil
}

// add takes one object. Kinds that decide nothing are passed over.
func (r *Ruleset) add(kind string, raw json.RawMessage) error {
	switch kind {
	case "chain":
		c := &chain{}
		if err := json.Unmarshal(raw, c); err != nil {
			return err
		}
		r.chains = append(r.chains, c)
	case "rule":
		var x rule
		if err := json.Unmarshal(raw, &x); err != nil {
			return err
		}
		if c := r.chain(x.Family, x.Table, x.Chain); c != nil { // chains come before rules
			c.rules = append(c.rules, x)
		}
	case "set", "map":
		var s struct {
			Family, Table, Name string
			Elem                []any
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		r.sets[setKey{s.Family, s.Table, s.Name}] = s.Elem
	}
	return nil
}

func (r *Ruleset) chain(family, table, name string) *chain {
	for _, c := range r.chains {
		if c.Family == family && c.Table == table && c.Name == name {
			return c
		}
	}
	return nil
}

// verdict is what may happen to a packet: with what is known of it, one or both.
type verdict struct {
	accept, drop bool
	// by is the rule or policy that drops, unsure the rule that could not be judged; the first of each.
	by, unsure string
}

// judge follows a packet through the hooks in turn.
func (r *Ruleset) judge(p packet, hooks ...string) verdict {
	out := verdict{accept: true}
	for _, hook := range hooks {
		for _, c := range r.chains {
			if c.Hook != hook || c.Type == "nat" || !p.passes(c) {
				continue
			}
			e := &evaluation{r: r, p: p.at(hook), steps: maxSteps}
			rest := e.walk(c, 0)
			if rest && c.Policy == "drop" {
				e.drop("policy drop of " + c.String())
			} else if rest {
				e.v.accept = true
			}
			if c.Family == "netdev" && c.Dev == nil { // nft before 1.0.7 or so does not tell whose chain it is
				e.v.accept = true
				e.v.unsure = fmt.Sprintf("the interface of %s", c)
			}
			out.join(e.v)
			if !out.accept {
				return out
			}
		}
	}
	return out
}

// join goes on with the verdict of the next chain: both have to accept.
func (v *verdict) join(next verdict) {
	v.accept = v.accept && next.accept
	v.drop = v.drop || next.drop
	if v.by == "" {
		v.by = next.by
	}
	if v.unsure == "" && next.drop {
		v.unsure = next.unsure
	}
}

// Limits of an evaluation: the kernel allows 16 jumps in one another, and what
// is longer than so many rules is not a ruleset that a person wrote.
const (
	maxDepth = 16
	maxSteps = 50_000
)

// evaluation follows one packet through one chain of a hook.
type evaluation struct {
	r     *Ruleset
	p     packet
	v     verdict
	steps int
}

func (e *evaluation) drop(by string) {
	e.v.drop = true
	if e.v.by == "" {
		e.v.by = by
	}
}

func (e *evaluation) doubt(c *chain, x rule) {
	if e.v.unsure == "" {
		e.v.unsure = fmt.Sprintf("handle %d of %s", x.Handle, c)
	}
}

// walk goes through a chain's rules; it reports whether the packet may come out at its end.
func (e *evaluation) walk(c *chain, depth int) (rest bool) {
	for _, x := range c.rules {
		e.steps--
		if depth > maxDepth || e.steps < 0 {
			e.doubt(c, x)
			e.v.accept, e.v.drop = true, true
			return true
		}
		switch e.rule(c, x, depth) {
		case ends:
			return rest
		case returns:
			return true
		case mayReturn:
			rest = true
		case goesOn:
		}
	}
	return true
}

// step is how it goes on after a rule.
type step int

const (
	goesOn step = iota
	ends
	returns
	mayReturn // or goes on
)

// doubtful is the step after a verdict of a rule that may not match.
func (s step) doubtful() step {
	if s == returns || s == mayReturn {
		return mayReturn
	}
	return goesOn
}

// rule looks at one rule. What may match is followed both ways.
func (e *evaluation) rule(c *chain, x rule, depth int) step {
	matches := yes
	for _, statement := range x.Expr {
		for kind, arg := range statement {
			if matches == maybe && decides(kind, arg) {
				e.doubt(c, x)
			}
			m, s := e.statement(c, x, kind, arg, depth)
			matches = and(matches, m)
			if matches == no {
				return goesOn
			}
			if s != goesOn {
				if matches == maybe {
					return s.doubtful()
				}
				return s
			}
		}
	}
	return goesOn
}

// decides reports whether a statement is a verdict, or leads to one.
func decides(kind string, arg any) bool {
	return slices.Contains([]string{"accept", "drop", "reject", "return", "jump", "goto", "vmap", "queue"}, kind) || field(arg, "name") == any("REJECT")
}

// statement is a match, which may fail, or a verdict, or something that decides nothing.
func (e *evaluation) statement(c *chain, x rule, kind string, arg any, depth int) (tri, step) {
	switch kind {
	case "match":
		return e.match(c, arg), goesOn
	case "accept":
		e.v.accept = true
		return yes, ends
	case "drop", "reject":
		e.drop(fmt.Sprintf("handle %d of %s", x.Handle, c))
		return yes, ends
	case "return":
		return yes, returns
	case "jump", "goto":
		return yes, e.jump(c, x, kind, arg, depth)
	case "vmap":
		return e.vmap(c, x, arg, depth)
	case "limit", "quota", "connlimit", "ct count", "meter":
		return maybe, goesOn // depends on what else there is
	case "queue": // a program decides
		e.doubt(c, x)
		e.v.accept = true
		e.drop(fmt.Sprintf("handle %d of %s (a program decides)", x.Handle, c))
		return yes, ends
	case "xt":
		return e.xt(c, x, arg)
	}
	return yes, goesOn
}

// jump follows a chain. After goto there is no way back.
func (e *evaluation) jump(c *chain, x rule, kind string, arg any, depth int) step {
	target, _ := field(arg, "target").(string)
	to := e.r.chain(c.Family, c.Table, target)
	if to == nil {
		e.doubt(c, x)
		return goesOn
	}
	rest := e.walk(to, depth+1)
	switch {
	case kind == "goto" && rest:
		return returns
	case !rest:
		return ends
	}
	return goesOn
}

// vmap takes the verdict of the element that the key has.
func (e *evaluation) vmap(c *chain, x rule, arg any, depth int) (tri, step) {
	after := goesOn
	data := field(arg, "data")
	if name, isName := data.(string); isName && len(name) > 1 {
		data = any(map[string]any{"set": e.r.sets[setKey{c.Family, c.Table, name[1:]}]})
	}
	elements, _ := field(data, "set").([]any)
	for _, el := range elements {
		pair, ok := el.([]any)
		if !ok || len(pair) != 2 {
			return maybe, goesOn
		}
		m := e.compare(c, field(arg, "key"), "==", pair[0])
		if m == no {
			continue
		}
		then, ok := pair[1].(map[string]any)
		if !ok {
			return maybe, goesOn
		}
		for kind, a := range then {
			_, s := e.statement(c, x, kind, a, depth)
			switch {
			case m == yes && s == returns, m == yes && s == ends && after == goesOn:
				return yes, s
			case s.doubtful() == mayReturn:
				after = mayReturn
			}
		}
		if m == maybe {
			e.doubt(c, x)
		}
	}
	return yes, after
}

// xt is a match or target of iptables that nft does not translate.
func (e *evaluation) xt(c *chain, x rule, arg any) (tri, step) {
	name, _ := field(arg, "name").(string)
	switch kind, _ := field(arg, "type").(string); {
	case kind == "target" && name == "REJECT":
		e.drop(fmt.Sprintf("handle %d of %s", x.Handle, c))
		return yes, ends
	case kind == "match" && (name == "conntrack" || name == "state") && x.states != nil && e.p.state != "":
		return truth(slices.Contains(x.states, e.p.state)), goesOn
	case kind == "match" && name != "comment":
		return maybe, goesOn
	}
	return yes, goesOn
}

// field is a member of an object; nil if it is none.
func field(v any, name string) any {
	m, _ := v.(map[string]any)
	return m[name]
}
