package doctor

import (
	"slices"
	"strings"
)

// NeedsIptables reports whether a family ("ip" or "ip6") has rules that compare the
// state of connections by a match of iptables, of which nft shows nothing but the name.
func (r *Ruleset) NeedsIptables(family string) bool {
	return slices.ContainsFunc(r.chains, func(c *chain) bool {
		return c.Family == family && slices.ContainsFunc(c.rules, func(x rule) bool { return slices.ContainsFunc(x.Expr, matchesState) })
	})
}

func matchesState(statement map[string]any) bool {
	name, _ := field(statement["xt"], "name").(string)
	return name == "conntrack" || name == "state"
}

// AddIptables takes the states from what iptables-save prints of the same rules:
// the nth of a chain is the same rule there and here. A chain that differs in
// length has changed in between and is left alone.
func (r *Ruleset) AddIptables(family, save string) {
	type key struct{ table, chain string }
	lines := map[key][]string{}
	table := ""
	for line := range strings.Lines(save) {
		line = strings.TrimSpace(line)
		if name, is := strings.CutPrefix(line, "*"); is {
			table = name
		}
		if f := strings.Fields(line); len(f) > 1 && f[0] == "-A" {
			k := key{table, f[1]}
			lines[k] = append(lines[k], line)
		}
	}
	for _, c := range r.chains {
		list := lines[key{c.Table, c.Name}]
		if c.Family != family || len(list) != len(c.rules) {
			continue
		}
		for i := range c.rules {
			c.rules[i].states = states(list[i])
		}
	}
}

// states lists the states of a line with "--ctstate RELATED,ESTABLISHED", in nft's
// words; nil if there are none, or if they are not all that is compared.
func states(line string) []string {
	if strings.Contains(line, "! --ctstate") || strings.Contains(line, "! --state") || strings.Count(line, " --ct") > 1 {
		return nil
	}
	f := strings.Fields(line)
	for i, word := range f[:max(0, len(f)-1)] {
		if word == "--ctstate" || word == "--state" {
			return strings.Split(strings.ToLower(f[i+1]), ",")
		}
	}
	return nil
}
