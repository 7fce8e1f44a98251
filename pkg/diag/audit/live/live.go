package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v8"
)

// pollEvery is how often a long-running operation is asked for when Azure does not say when.
const pollEvery = 2 * time.Second

// Query says what to look for.
type Query struct {
	// Own are the node's addresses; those of the metadata service if empty.
	Own []netip.Addr
	// RouteServers are the addresses of the instances that the node talks to.
	RouteServers []netip.Addr
	// ClientID chooses one of several managed identities; empty is the machine's own.
	ClientID string
}

// Document is one answer of Azure, for audit.Read.
type Document struct {
	Source string
	JSON   []byte
}

// Fetch asks Azure. What one call refuses becomes a note and the rest goes on;
// the error is for the case that nothing can be asked: no metadata service, no identity, no card.
func Fetch(ctx context.Context, client *http.Client, q Query) (docs []Document, notes []string, err error) {
	m, err := whoAmI(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	if len(q.Own) == 0 {
		q.Own = m.addresses()
	}
	options := policy.ClientOptions{Cloud: m.cloud(), Transport: client}
	identity := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if q.ClientID != "" {
		identity.ID = azidentity.ClientID(q.ClientID)
	}
	credential, err := azidentity.NewManagedIdentityCredential(identity)
	if err != nil {
		return nil, nil, fmt.Errorf("use the managed identity: %w", err)
	}
	factory, err := armnetwork.NewClientFactory(m.Compute.SubscriptionID, credential, &arm.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, nil, fmt.Errorf("make the resource manager's client: %w", err)
	}
	f := &fetcher{azure: factory, machine: m, query: q, groups: []string{m.Compute.ResourceGroup}}
	if err := f.all(ctx); err != nil {
		return nil, nil, err
	}
	return f.docs, f.notes, nil
}

// fetcher is one run of Fetch.
type fetcher struct {
	azure   *armnetwork.ClientFactory
	machine machine
	query   Query
	groups  []string // the resource groups of the machine and of its VNets
	docs    []Document
	notes   []string
}

// add keeps an answer, as the REST API writes it.
func (f *fetcher) add(source string, answer any) {
	b, err := json.Marshal(answer)
	if err != nil {
		f.failed(source, err)
		return
	}
	f.docs = append(f.docs, Document{Source: "azure: " + source, JSON: b})
}

// failed notes a call that did not work.
func (f *fetcher) failed(source string, err error) {
	f.notes = append(f.notes, fmt.Sprintf("azure: %s: %s", source, brief(err)))
}

// brief is an error of Azure in one line; the SDK prints whole answers.
func brief(err error) string {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return line
	}
	if e.StatusCode == http.StatusForbidden {
		return fmt.Sprintf("not allowed (%s): give the managed identity the role of docs/audit.md", e.ErrorCode)
	}
	return fmt.Sprintf("refused with status %d (%s)", e.StatusCode, e.ErrorCode)
}

func (f *fetcher) all(ctx context.Context) error {
	cards, err := f.cards(ctx)
	if err != nil {
		return err
	}
	vnets := map[string]bool{}
	for _, c := range cards {
		f.add("network card "+value(c.Name), c)
		f.effective(ctx, value(c.ID))
		subnet := subnetOf(c)
		if vnet, _, ok := strings.Cut(subnet, "/subnets/"); ok && !vnets[strings.ToLower(vnet)] {
			vnets[strings.ToLower(vnet)] = true
			f.vnet(ctx, vnet)
		}
		f.group(ctx, c, subnet)
	}
	f.routeServers(ctx)
	return nil
}

// cards finds the machine's network cards: in its own resource group first, as
// listing the whole subscription may not be allowed.
func (f *fetcher) cards(ctx context.Context) ([]*armnetwork.Interface, error) {
	client := f.azure.NewInterfacesClient()
	group := client.NewListPager(f.machine.Compute.ResourceGroup, nil)
	all, err := collect(ctx, group, func(p armnetwork.InterfacesClientListResponse) []*armnetwork.Interface { return p.Value })
	cards := f.mine(all)
	if len(cards) == 0 {
		var err2 error
		every := client.NewListAllPager(nil)
		all, err2 = collect(ctx, every, func(p armnetwork.InterfacesClientListAllResponse) []*armnetwork.Interface { return p.Value })
		if cards = f.mine(all); len(cards) == 0 && errors.Join(err, err2) != nil {
			for _, e := range []error{err, err2} {
				if e != nil {
					return nil, fmt.Errorf("list the network cards of %s: %s", f.machine.Compute.Name, brief(e))
				}
			}
		}
	}
	if len(cards) == 0 {
		return nil, fmt.Errorf("found no network card of the machine %s with one of its addresses", f.machine.Compute.Name)
	}
	return cards, nil
}

// collect reads all pages; what came before an error is kept.
func collect[P, T any](ctx context.Context, pager *runtime.Pager[P], items func(P) []*T) (out []*T, err error) {
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return out, err
		}
		for _, v := range items(page) {
			if v != nil {
				out = append(out, v)
			}
		}
	}
	return out, nil
}

// mine are the machine's cards with one of the node's addresses.
func (f *fetcher) mine(all []*armnetwork.Interface) (out []*armnetwork.Interface) {
	for _, c := range all {
		p := c.Properties
		if p == nil || p.VirtualMachine == nil || !strings.EqualFold(value(p.VirtualMachine.ID), f.machine.Compute.ResourceID) {
			continue
		}
		for _, ip := range p.IPConfigurations {
			if ip != nil && ip.Properties != nil && f.own(value(ip.Properties.PrivateIPAddress)) {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

func (f *fetcher) own(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && slices.Contains(f.query.Own, a)
}

func (f *fetcher) effective(ctx context.Context, card string) {
	id, err := arm.ParseResourceID(card)
	if err != nil {
		f.failed("effective routes", err)
		return
	}
	source := "effective routes of " + id.Name
	poller, err := f.azure.NewInterfacesClient().BeginGetEffectiveRouteTable(ctx, id.ResourceGroupName, id.Name, nil)
	if err != nil {
		f.failed(source, err)
		return
	}
	answer, err := poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	if err != nil {
		f.failed(source, err)
		return
	}
	f.add(source, answer.EffectiveRouteListResult)
}

// subnetOf is the subnet of a card's first address.
func subnetOf(c *armnetwork.Interface) string {
	for _, ip := range c.Properties.IPConfigurations {
		if ip != nil && ip.Properties != nil && ip.Properties.Subnet != nil {
			return value(ip.Properties.Subnet.ID)
		}
	}
	return ""
}

// vnet adds the VNet with its peerings.
func (f *fetcher) vnet(ctx context.Context, vnet string) {
	id, err := arm.ParseResourceID(vnet)
	if err != nil {
		f.failed("VNet", err)
		return
	}
	if !slices.ContainsFunc(f.groups, func(g string) bool { return strings.EqualFold(g, id.ResourceGroupName) }) {
		f.groups = append(f.groups, id.ResourceGroupName)
	}
	answer, err := f.azure.NewVirtualNetworksClient().Get(ctx, id.ResourceGroupName, id.Name, nil)
	if err != nil {
		f.failed("VNet "+id.Name, err)
		return
	}
	f.add("VNet "+id.Name, answer.VirtualNetwork)
}

// group adds the security groups of the card and of its subnet.
func (f *fetcher) group(ctx context.Context, c *armnetwork.Interface, subnet string) {
	var groups []string
	if g := c.Properties.NetworkSecurityGroup; g != nil {
		groups = append(groups, value(g.ID))
	}
	if id, err := arm.ParseResourceID(subnet); err == nil && id.Parent != nil {
		answer, err := f.azure.NewSubnetsClient().Get(ctx, id.ResourceGroupName, id.Parent.Name, id.Name, nil)
		switch {
		case err != nil:
			f.failed("subnet "+id.Name, err)
		case answer.Properties != nil && answer.Properties.NetworkSecurityGroup != nil:
			groups = append(groups, value(answer.Properties.NetworkSecurityGroup.ID))
		}
	}
	for _, g := range groups {
		id, err := arm.ParseResourceID(g)
		if err != nil {
			f.failed("security group", err)
			continue
		}
		answer, err := f.azure.NewSecurityGroupsClient().Get(ctx, id.ResourceGroupName, id.Name, nil)
		if err != nil {
			f.failed("security group "+id.Name, err)
			continue
		}
		f.add("security group "+id.Name, answer.SecurityGroup)
	}
}

// routeServers adds the Route Servers that the node talks to, with their
// peerings, and for those with the node what was learned and is advertised.
func (f *fetcher) routeServers(ctx context.Context) {
	if len(f.query.RouteServers) == 0 {
		return
	}
	client := f.azure.NewVirtualHubsClient()
	byGroup := func(p armnetwork.VirtualHubsClientListByResourceGroupResponse) []*armnetwork.VirtualHub {
		return p.Value
	}
	found := 0
	for _, g := range f.groups {
		hubs, err := collect(ctx, client.NewListByResourceGroupPager(g, nil), byGroup)
		if err != nil {
			f.failed("Route Servers of the resource group "+g, err)
		}
		found += f.matching(ctx, hubs)
	}
	if found > 0 {
		return
	}
	// Elsewhere in the subscription; an identity that may not look there is told above what it could see.
	hubs, err := collect(ctx, client.NewListPager(nil), func(p armnetwork.VirtualHubsClientListResponse) []*armnetwork.VirtualHub { return p.Value })
	if err != nil {
		f.failed("Route Servers of the subscription", err)
	} else if f.matching(ctx, hubs) == 0 {
		f.notes = append(f.notes, "azure: no Route Server of the subscription has one of the addresses that this node talks to")
	}
}

// matching adds those Route Servers that the node talks to, and counts them.
func (f *fetcher) matching(ctx context.Context, hubs []*armnetwork.VirtualHub) (n int) {
	for _, h := range hubs {
		if h.Properties == nil || !slices.ContainsFunc(h.Properties.VirtualRouterIPs, func(s *string) bool {
			a, err := netip.ParseAddr(value(s))
			return err == nil && slices.Contains(f.query.RouteServers, a)
		}) {
			continue
		}
		n++
		f.add("Route Server "+value(h.Name), h)
		f.routeServerPeerings(ctx, value(h.ID))
	}
	return n
}

func (f *fetcher) routeServerPeerings(ctx context.Context, hub string) {
	id, err := arm.ParseResourceID(hub)
	if err != nil {
		f.failed("Route Server", err)
		return
	}
	client := f.azure.NewVirtualHubBgpConnectionsClient()
	peers, err := collect(ctx, client.NewListPager(id.ResourceGroupName, id.Name, nil), func(p armnetwork.VirtualHubBgpConnectionsClientListResponse) []*armnetwork.BgpConnection {
		return p.Value
	})
	if err != nil {
		f.failed("peerings of "+id.Name, err)
	}
	for _, p := range peers {
		f.add("Route Server peering "+value(p.Name), p)
		if p.Properties == nil || !f.own(value(p.Properties.PeerIP)) {
			continue
		}
		learned, err := client.BeginListLearnedRoutes(ctx, id.ResourceGroupName, id.Name, value(p.Name), nil)
		if err == nil {
			var answer armnetwork.VirtualHubBgpConnectionsClientListLearnedRoutesResponse
			if answer, err = learned.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery}); err == nil {
				f.add("learned routes of "+value(p.Name), answer.Value)
			}
		}
		if err != nil {
			f.failed("learned routes of "+value(p.Name), err)
		}
		advertised, err := client.BeginListAdvertisedRoutes(ctx, id.ResourceGroupName, id.Name, value(p.Name), nil)
		if err == nil {
			var answer armnetwork.VirtualHubBgpConnectionsClientListAdvertisedRoutesResponse
			if answer, err = advertised.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery}); err == nil {
				f.add("advertised routes of "+value(p.Name), answer.Value)
			}
		}
		if err != nil {
			f.failed("advertised routes of "+value(p.Name), err)
		}
	}
}

// value is what a pointer of the SDK points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
