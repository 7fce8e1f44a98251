package lab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// refusePort adds what an operator would to inspect traffic, and returns the way back:
//
//	table ip inspect { chain forward { type filter hook forward priority filter;
//	    tcp dport PORT reject with tcp reset } }
func refusePort(ns netns.NS, port uint16) (undo func() error, err error) {
	change := func(f func(*nftables.Conn, *nftables.Table)) error {
		fd, err := vnetns.GetFromPath(ns.Path())
		if err != nil {
			return fmt.Errorf("open network namespace %q: %w", ns.Name, err)
		}
		defer fd.Close()
		c, err := nftables.New(nftables.WithNetNSFd(int(fd)))
		if err != nil {
			return fmt.Errorf("open nftables in network namespace %q: %w", ns.Name, err)
		}
		f(c, &nftables.Table{Name: "inspect", Family: nftables.TableFamilyIPv4})
		if err := c.Flush(); err != nil {
			return fmt.Errorf("change the firewall of network namespace %q: %w", ns.Name, err)
		}
		return nil
	}
	err = change(func(c *nftables.Conn, t *nftables.Table) {
		c.AddTable(t)
		chain := c.AddChain(&nftables.Chain{
			Table: t, Name: "forward", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		}})
	})
	return func() error { return change(func(c *nftables.Conn, t *nftables.Table) { c.DelTable(t) }) }, err
}
