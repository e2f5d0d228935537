package openstack

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// networks reads what the site offers to more than its owner: external networks and shared ones.
func (p *probe) networks(ctx context.Context) error {
	external, err := p.networksThat(ctx, "router:external", func(sites.Body) bool { return true })
	if err != nil {
		return p.skip(err, "the external networks")
	}
	p.with(func(c *sites.Capabilities) { c.ExternalNetworks = external })
	shared, err := p.networksThat(ctx, "shared", func(n sites.Body) bool { return n["router:external"] != true })
	if err != nil {
		return p.skip(err, "the shared networks")
	}
	toAll, err := p.sharedToAll(ctx)
	if err != nil {
		return p.skip(err, "with whom networks are shared")
	}
	found := make([]sites.SharedNetwork, len(shared))
	for i, n := range shared {
		found[i] = sites.SharedNetwork{ExternalNetwork: n, ToAll: toAll(n.ID)}
	}
	p.with(func(c *sites.Capabilities) { c.SharedNetworks, c.NetworksListed = found, true })
	return nil
}

// networksThat lists the networks whose member is true, in order of their names, each with its subnets.
func (p *probe) networksThat(ctx context.Context, member string, keep func(sites.Body) bool) ([]sites.ExternalNetwork, error) {
	var found []sites.ExternalNetwork
	err := p.adaptor.List(ctx, sites.Network, sites.Query{Params: url.Values{member: {"True"}}}, func(o sites.Object) error {
		if is, _ := o.Body[member].(bool); is && keep(o.Body) {
			found = append(found, sites.ExternalNetwork{ID: o.ID, Name: o.Text("name"), Body: o.Body})
		}
		return nil
	})
	for i := 0; err == nil && i < len(found); i++ {
		err = p.adaptor.List(ctx, sites.Subnet, sites.Query{Params: url.Values{"network_id": {string(found[i].ID)}}}, func(o sites.Object) error {
			if o.Text("network_id") == string(found[i].ID) {
				found[i].Subnets = append(found[i].Subnets, o.Body)
			}
			return nil
		})
		found[i].Subnets = append(found[i].Subnets, unseen(found[i])...)
	}
	slices.SortFunc(found, func(x, y sites.ExternalNetwork) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	return found, err
}

// unseen are the subnets of which an ordinary account learns only the id, from their network: Neutron shows the subnets of an external
// network to its owner and to administrators.
func unseen(n sites.ExternalNetwork) []sites.Body {
	var out []sites.Body
	for _, id := range texts(n.Body["subnets"]) {
		if !slices.ContainsFunc(n.Subnets, func(s sites.Body) bool { return s["id"] == id }) {
			out = append(out, sites.Body{"id": id, "network_id": string(n.ID)})
		}
	}
	return out
}

// rbacPage is how many policies are asked for at a time.
const rbacPage = 500

// sharedToAll reads the policies that share networks with everybody. To an account, "shared" may mean shared with its
// project alone. A Neutron without such policies knows only one way to share; an account that is
// no administrator sees few policies, and can prove as little.
func (p *probe) sharedToAll(ctx context.Context) (func(ident.BottomID) bool, error) {
	all := map[ident.BottomID]bool{}
	query := url.Values{"object_type": {"network"}, "action": {"access_as_shared"}, "target_tenant": {"*"}, "limit": {strconv.Itoa(rbacPage)}}
	for {
		body, err := p.ask(ctx, sites.NetworkSvc, "rbac-policies", query)
		if fault.Is(err, fault.NotFound) {
			return func(ident.BottomID) bool { return true }, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list sharing policies: %w", err)
		}
		page := objects(body["rbac_policies"])
		for _, row := range page {
			if str(row["target_tenant"]) == "*" && str(row["action"]) == "access_as_shared" {
				all[ident.BottomID(str(row["object_id"]))] = true
			}
		}
		if last := len(page) - 1; last+1 >= rbacPage && str(page[last]["id"]) != query.Get("marker") {
			query.Set("marker", str(page[last]["id"]))
			continue
		}
		return func(id ident.BottomID) bool { return all[id] }, nil
	}
}
