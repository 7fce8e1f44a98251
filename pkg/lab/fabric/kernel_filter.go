package fabric

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// Names of the fabric's counters. A hairpin counter's name is HairpinPrefix and the NIC's name.
const (
	CounterGRE        = "gre"            // protocol 47, dropped
	CounterIPIP       = "ipip"           // protocol 4, dropped
	CounterPort65330  = "udp_65330"      // UDP source port 65330, dropped
	CounterFragment   = "fragment_order" // a fragment before the first one of its packet, dropped
	CounterMulticast  = "multicast"      // multicast or broadcast, dropped
	CounterNotIPv4    = "not_ipv4"       // neither IPv4 nor ARP, dropped
	CounterTTLExpired = "ttl_expired"    // arrived with a TTL that does not suffice; the fabric answers
	CounterNoRoute    = "no_route"       // no effective route, dropped
	CounterCut        = "cut"            // dropped by the lab's fault injection
	HairpinPrefix     = "hairpin_"       // left by the NIC that it came from
)

// table and chain names. The filter never looks at connections: the namespace has no conntrack and no defragmentation,
// both of which would hide fragments.
const (
	filterTable  = "fabric"
	commonChain  = "common"
	forwardChain = "forward"
	cutChain     = "cut"
	fragmentSet  = "first_fragments"
	// fragmentLife: how long the fabric remembers a first fragment.
	fragmentLife = 5 * time.Second
)

func ingressCounters() []string {
	return []string{CounterGRE, CounterIPIP, CounterPort65330, CounterFragment, CounterMulticast, CounterNotIPv4, CounterTTLExpired}
}

func forwardCounters() []string { return []string{CounterNoRoute, CounterCut} }

// filter is an open transaction to the packet filter of a namespace.
type filter struct {
	c       *nftables.Conn
	ingress *nftables.Table // netdev: sees every packet as it comes
	forward *nftables.Table // ip: sees where it goes
}

// withFilter runs f and sends what it collected as one transaction.
func withFilter(ns netns.NS, f func(*filter) error) error {
	fd, err := vnetns.GetFromPath(ns.Path())
	if err != nil {
		return fmt.Errorf("open network namespace %q: %w", ns.Name, err)
	}
	defer fd.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(fd)))
	if err != nil {
		return fmt.Errorf("open nftables in network namespace %q: %w", ns.Name, err)
	}
	fl := &filter{
		c:       c,
		ingress: &nftables.Table{Name: filterTable, Family: nftables.TableFamilyNetdev},
		forward: &nftables.Table{Name: filterTable, Family: nftables.TableFamilyIPv4},
	}
	if err := f(fl); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("program the packet filter of network namespace %q: %w", ns.Name, err)
	}
	return nil
}

// buildFilter makes tables, counters and the rules that hold for all NICs.
func buildFilter(ns netns.NS) error {
	return withFilter(ns, func(f *filter) error {
		f.c.AddTable(f.ingress)
		f.c.AddTable(f.forward)
		for _, name := range ingressCounters() {
			f.c.AddObj(&nftables.CounterObj{Table: f.ingress, Name: name})
		}
		for _, name := range forwardCounters() {
			f.c.AddObj(&nftables.CounterObj{Table: f.forward, Name: name})
		}
		set := &nftables.Set{
			Table: f.ingress, Name: fragmentSet, Dynamic: true, HasTimeout: true, Timeout: fragmentLife,
			Size: 65536, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetService),
		}
		if err := f.c.AddSet(set, nil); err != nil {
			return fmt.Errorf("add the set of first fragments: %w", err)
		}
		common := f.c.AddChain(&nftables.Chain{Table: f.ingress, Name: commonChain})
		for _, exprs := range ingressRules(set) {
			f.c.AddRule(&nftables.Rule{Table: f.ingress, Chain: common, Exprs: exprs})
		}
		accept := nftables.ChainPolicyAccept
		fwd := f.c.AddChain(&nftables.Chain{
			Table: f.forward, Name: forwardChain, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &accept,
		})
		cut := f.c.AddChain(&nftables.Chain{Table: f.forward, Name: cutChain})
		f.c.AddRule(&nftables.Rule{Table: f.forward, Chain: fwd, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: cut.Name}}})
		f.c.AddRule(&nftables.Rule{Table: f.forward, Chain: fwd, Exprs: join(outDevice(Void), count(CounterNoRoute), drop())})
		return nil
	})
}

// addPort puts a NIC under the common rules and counts its hairpins.
func addPort(ns netns.NS, nic string) error {
	return withFilter(ns, func(f *filter) error {
		accept := nftables.ChainPolicyAccept
		ch := f.c.AddChain(&nftables.Chain{
			Table: f.ingress, Name: "in_" + nic, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Device: nic, Policy: &accept,
		})
		f.c.AddRule(&nftables.Rule{Table: f.ingress, Chain: ch, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: commonChain}}})
		f.c.AddObj(&nftables.CounterObj{Table: f.forward, Name: HairpinPrefix + nic})
		f.c.AddRule(&nftables.Rule{
			Table: f.forward, Chain: &nftables.Chain{Name: forwardChain, Table: f.forward},
			Exprs: join(inDevice(nic), outDevice(nic), count(HairpinPrefix+nic)),
		})
		return nil
	})
}

// ingressRules are the common rules, in order.
func ingressRules(fragments *nftables.Set) [][]expr.Any {
	const firstFragment, laterFragment = 0x2000, 0x1fff // RFC 791, section 3.1: MF; fragment offset
	return [][]expr.Any{
		join(etherType(unix.ETH_P_ARP), accept()),
		join(notEtherType(unix.ETH_P_IP), count(CounterNotIPv4), drop()),
		join(packetType(unix.PACKET_BROADCAST), count(CounterMulticast), drop()),
		join(packetType(unix.PACKET_MULTICAST), count(CounterMulticast), drop()),
		join(network(16, 1), compare(expr.CmpOpGte, 224), count(CounterMulticast), drop()), // 224.0.0.0 and above
		setPacketHost(),
		join(network(9, 1), compare(expr.CmpOpEq, unix.IPPROTO_GRE), count(CounterGRE), drop()),
		join(network(9, 1), compare(expr.CmpOpEq, unix.IPPROTO_IPIP), count(CounterIPIP), drop()),
		join(fragment(laterFragment), lookup(fragments), accept()),
		join(fragment(laterFragment), count(CounterFragment), drop()),
		join(network(9, 1), compare(expr.CmpOpEq, unix.IPPROTO_UDP), transport(0, 2),
			compare(expr.CmpOpEq, 65330>>8, 65330&0xff), count(CounterPort65330), drop()),
		join(fragment(firstFragment), remember(fragments)),
		join(network(8, 1), compare(expr.CmpOpEq, 1), count(CounterTTLExpired)),
	}
}

// Cut drops everything between two NICs, both ways, until Heal.
func Cut(ns netns.NS, a, b string) error {
	return withFilter(ns, func(f *filter) error {
		chain := &nftables.Chain{Name: cutChain, Table: f.forward}
		for _, pair := range [][2]string{{a, b}, {b, a}} {
			f.c.AddRule(&nftables.Rule{
				Table: f.forward, Chain: chain, UserData: cutBetween(a, b),
				Exprs: join(inDevice(pair[0]), outDevice(pair[1]), count(CounterCut), drop()),
			})
		}
		return nil
	})
}

// CutOff drops everything from and to a NIC, also to the fabric itself, until Heal.
func CutOff(ns netns.NS, nic string) error {
	return withFilter(ns, func(f *filter) error {
		chain := &nftables.Chain{Name: cutChain, Table: f.forward}
		for _, exprs := range [][]expr.Any{join(inDevice(nic), count(CounterCut), drop()), join(outDevice(nic), count(CounterCut), drop())} {
			f.c.AddRule(&nftables.Rule{Table: f.forward, Chain: chain, UserData: cutBetween(nic), Exprs: exprs})
		}
		return nil
	})
}

// Heal undoes every Cut and CutOff, or those that one of the NICs is part of.
func Heal(ns netns.NS, nics ...string) error {
	return withFilter(ns, func(f *filter) error {
		chain := &nftables.Chain{Name: cutChain, Table: f.forward}
		if len(nics) == 0 {
			f.c.FlushChain(chain)
			return nil
		}
		rules, err := f.c.GetRules(f.forward, chain)
		if err != nil {
			return fmt.Errorf("read the fabric's cuts: %w", err)
		}
		for _, r := range rules {
			cut, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			if !slices.ContainsFunc(strings.Fields(cut), func(nic string) bool { return slices.Contains(nics, nic) }) {
				continue
			}
			if err := f.c.DelRule(r); err != nil {
				return fmt.Errorf("remove the cut of %s: %w", cut, err)
			}
		}
		return nil
	})
}

// cutBetween is the comment of a cut's rules, by which Heal finds them; "nft list ruleset" shows it.
func cutBetween(nics ...string) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, strings.Join(nics, " "))
}

// Counters reads all counters: packets by name. The hairpins of all NICs are also summed under "hairpin".
func Counters(ns netns.NS) (map[string]uint64, error) {
	values := map[string]uint64{"hairpin": 0}
	err := withFilter(ns, func(f *filter) error {
		for _, table := range []*nftables.Table{f.ingress, f.forward} {
			objs, err := f.c.GetObjects(table)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read the fabric's counters: %w", err)
			}
			for _, o := range objs {
				if c, ok := o.(*nftables.CounterObj); ok {
					values[c.Name] = c.Packets
					if strings.HasPrefix(c.Name, HairpinPrefix) {
						values["hairpin"] += c.Packets
					}
				}
			}
		}
		return nil
	})
	return values, err
}

// The pieces of rules. Register 1 is the one that everything is loaded into.

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func count(name string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}
}

func compare(op expr.CmpOp, data ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: 1, Data: data}}
}

func network(offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}}
}

func transport(offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}}
}

// fragment matches when one of the bits of mask is set in the flags and fragment offset.
func fragment(mask uint16) []expr.Any {
	return join(network(6, 2), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: binaryutil.BigEndian.PutUint16(mask), Xor: []byte{0, 0}},
	}, compare(expr.CmpOpNeq, 0, 0))
}

// fragmentKey loads source, destination and identification into three 32-bit registers in a row.
func fragmentKey() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Payload{DestRegister: unix.NFT_REG32_02, Base: expr.PayloadBaseNetworkHeader, Offset: 4, Len: 2},
	}
}

func lookup(s *nftables.Set) []expr.Any {
	return join(fragmentKey(), []expr.Any{&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: s.Name, SetID: s.ID}})
}

func remember(s *nftables.Set) []expr.Any {
	return join(fragmentKey(), []expr.Any{&expr.Dynset{SrcRegKey: unix.NFT_REG32_00, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_UPDATE}})
}

func etherType(t uint16) []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}}, compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(t)...))
}

func notEtherType(t uint16) []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}}, compare(expr.CmpOpNeq, binaryutil.BigEndian.PutUint16(t)...))
}

func packetType(t byte) []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1}}, compare(expr.CmpOpEq, t))
}

// setPacketHost makes the stack take a frame whose MAC address is not the fabric's.
func setPacketHost() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, SourceRegister: true, Register: 1},
	}
}

func inDevice(name string) []expr.Any { return device(expr.MetaKeyIIFNAME, name) }

func outDevice(name string) []expr.Any { return device(expr.MetaKeyOIFNAME, name) }

func device(key expr.MetaKey, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return join([]expr.Any{&expr.Meta{Key: key, Register: 1}}, compare(expr.CmpOpEq, data...))
}
