package lab

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// NodeStatus is one node of a lab that is up.
type NodeStatus struct {
	Name    string `json:"name"`
	Role    Role   `json:"role"`
	Program string `json:"program"`
	PID     int    `json:"pid"` // 0: does not run
	OK      bool   `json:"ok"`
	// Sessions of a lab's own speaker; for other programs see their own commands.
	Sessions []sessionState `json:"sessions,omitempty"`
	Note     string         `json:"note,omitempty"`
}

// Status is a lab that is up.
type Status struct {
	SchemaVersion int               `json:"schema_version"`
	Name          string            `json:"name"`
	Scenario      Scenario          `json:"scenario"`
	Encapsulation Encapsulation     `json:"encapsulation"`
	Edge          Edge              `json:"edge"`
	OK            bool              `json:"ok"`
	Nodes         []NodeStatus      `json:"nodes"`
	Counters      map[string]uint64 `json:"fabric_counters"`
}

// Status asks every node.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	p, err := l.s.readPlan()
	if err != nil {
		return Status{}, err
	}
	st := Status{
		SchemaVersion: 1, Name: l.s.name, Scenario: p.Options.Scenario, Encapsulation: p.Options.Encapsulation,
		Edge: p.Options.Edge, OK: true,
	}
	for _, n := range p.Nodes {
		ns := l.nodeStatus(ctx, p, n)
		st.OK = st.OK && ns.OK
		st.Nodes = append(st.Nodes, ns)
	}
	if st.Counters, err = l.Counters(); err != nil {
		return st, err
	}
	return st, nil
}

func (l *Lab) nodeStatus(ctx context.Context, p Plan, n Node) NodeStatus {
	st := NodeStatus{Name: n.Name, Role: n.Role, Program: string(kindOf(p.Options, n))}
	transitd := n.Role == RoleNVA && p.Options.Encapsulation != None
	if transitd {
		st.Program = "transitd"
	}
	proc, ok := l.s.running(n.Name)
	if !ok {
		st.Note = "does not run, see " + l.s.log(n.Name)
		return st
	}
	st.PID, st.OK = proc.PID, true
	if len(n.Sessions) == 0 || transitd || kindOf(p.Options, n) == KindBIRD || kindOf(p.Options, n) == KindFRR {
		st.Note = askIt(n.Name, st.Program)
		return st
	}
	var k knowledge
	if err := l.s.ask(ctx, n.Name, http.MethodGet, "/knowledge", &k); err != nil {
		st.OK, st.Note = false, err.Error()
		return st
	}
	st.Sessions = k.Sessions
	var down []string
	for _, s := range k.Sessions {
		if s.State != establishedState {
			down = append(down, fmt.Sprintf("%s is %s", s.Peer, s.State))
		}
	}
	if len(down) > 0 {
		st.OK, st.Note = false, strings.Join(down, ", ")
	}
	return st
}

// askIt is the command that asks a program which is not the lab's own.
func askIt(node, program string) string {
	commands := map[string]string{"transitd": "transitctl status", "bird": "birdc show protocols", "frr": "vtysh -c 'show bgp summary'"}
	if c, ok := commands[program]; ok {
		return fmt.Sprintf("transitlab exec %s -- %s", node, c)
	}
	return ""
}
