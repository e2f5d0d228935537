package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// What Neutron leaves to administrators, an administrator of Top may ask for. At a site a project acts as an ordinary
// member, so such a request is sent by the site's own account, on the project's behalf, where that is an administrator.
// Who may ask was decided above; the rows keep what was asked for, so that a job can send it as well.

// administrator returns the session of the site's own account, to set what; fault.Conflict, which names the site, where it is no administrator.
func (s *Service) administrator(ctx context.Context, at cascade.At, what string) (sites.Adaptor, error) {
	a, err := at.Admin(ctx)
	if err != nil {
		return nil, err
	}
	account, err := a.Account(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(account.Roles, "admin") {
		return nil, &typedError{"Conflict", &fault.Error{
			Op: "cascade/network", Site: string(at.Site), Kind: fault.Conflict,
			Msg: "Site " + string(at.Site) + " lets only its administrators set " + what + ", and Top's account there is not one.",
		}}
	}
	return a, nil
}

// onBehalf is administrator for a create: it writes into body whose the bottom will be.
func (s *Service) onBehalf(ctx context.Context, at cascade.At, what string, body sites.Body) (sites.Adaptor, error) {
	if what == "" {
		return at.Adaptor, nil
	}
	a, err := s.administrator(ctx, at, what)
	if err != nil {
		return nil, err
	}
	account, err := at.Adaptor.Account(ctx)
	if err != nil {
		return nil, err
	}
	body["tenant_id"] = account.ProjectID
	return a, nil
}

// session returns who may send a change that sets what, or with "" the project itself.
func (s *Service) session(ctx context.Context, at cascade.At, what string) (sites.Adaptor, error) {
	if what == "" {
		return at.Adaptor, nil
	}
	return s.administrator(ctx, at, what)
}

// privileged names what of a gateway only administrators set, or "".
func (g *Gateway) privileged() string {
	switch {
	case g == nil:
		return ""
	case g.SNAT != nil:
		return "enable_snat of a gateway"
	case len(g.Fixed) > 0:
		return "the addresses of a gateway (external_fixed_ips)"
	default:
		return ""
	}
}

// privileged names what of a router only administrators set, or "".
func (n *RouterSpec) privileged() string {
	switch {
	case n.Distributed != nil:
		return "distributed"
	case n.HA != nil:
		return "ha"
	default:
		return n.Gateway.privileged()
	}
}

// Session implements cascade.Elevator.
func (m routerMaker) Session(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) (sites.Adaptor, error) {
	spec, err := SpecOf[RouterSpec](r)
	if err != nil {
		return nil, err
	}
	return m.onBehalf(ctx, at, spec.privileged(), body)
}

// Session implements cascade.Elevator.
func (m floatingMaker) Session(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) (sites.Adaptor, error) {
	what := ""
	if body["floating_ip_address"] != nil {
		what = "the address of a floating IP"
	}
	return m.onBehalf(ctx, at, what, body)
}

// Session implements cascade.Elevator.
func (m portMaker) Session(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) (sites.Adaptor, error) {
	what, err := m.privileged(ctx, r, at, body)
	if err != nil {
		return nil, err
	}
	return m.onBehalf(ctx, at, what, body)
}

// privileged names what of a port's body only administrators of the site set, or "".
func (s *Service) privileged(ctx context.Context, r *index.Resource, at cascade.At, body sites.Body) (string, error) {
	for _, name := range []string{"binding:host_id", "binding:profile"} {
		if _, ok := body[name]; ok {
			return name, nil
		}
	}
	network, err := s.core.Index.Get(ctx, r.ParentID)
	if err != nil {
		return "", err
	}
	owner, err := s.sameAccount(ctx, at, network.ProjectID, r.ProjectID)
	if err != nil || owner { // who owns the network may set the rest
		return "", err
	}
	for _, name := range []string{"mac_address", "port_security_enabled", "allowed_address_pairs"} {
		if _, ok := body[name]; ok {
			return name + " on a network of another project", nil
		}
	}
	if device, _ := body["device_owner"].(string); !ordinaryOwner(device) {
		return "device_owner " + device + " on a network of another project", nil
	}
	fixed, _ := body["fixed_ips"].([]sites.Body)
	if slices.ContainsFunc(fixed, func(ip sites.Body) bool { return ip["ip_address"] != nil }) {
		return "an address on a network of another project", nil
	}
	return "", nil
}

// sameAccount reports whether two projects of Top are one at the site; "" is no project of Top's.
func (s *Service) sameAccount(ctx context.Context, at cascade.At, a, b string) (bool, error) {
	if a == b || a == "" || b == "" {
		return a == b, nil
	}
	x, err := at.ProjectOf(ctx, a)
	if err != nil {
		return false, err
	}
	y, err := at.ProjectOf(ctx, b)
	return x == y, err
}

// granted is the detail of a shared network's binding: the projects of the site that may use it there, besides its own.
type granted struct {
	Projects []string `json:"granted,omitempty"`
}

// Grant implements cascade.Granter: a shared network is shared, at a site, with those who use it there. With whom the
// sites' own networks are shared is for the sites to say.
func (m networkMaker) Grant(ctx context.Context, r *index.Resource, at cascade.At, bottom ident.BottomID, project string) error {
	if r.ProjectID == "" {
		return nil
	}
	target, err := at.ProjectOf(ctx, project)
	if err != nil {
		return err
	}
	account, err := at.Adaptor.Account(ctx)
	if err != nil || account.ProjectID == target {
		return err
	}
	b, err := m.core.Bindings.Get(ctx, r.ID, at.Site)
	if err != nil || slices.Contains(grantedOf(b).Projects, target) {
		return err
	}
	_, err = at.Adaptor.Do(ctx, sites.Request{
		Service: sites.NetworkSvc, Method: http.MethodPost, Path: "rbac-policies", Idempotent: true, // a second one is a conflict
		Body: sites.Body{"rbac_policy": sites.Body{"object_type": "network", "object_id": bottom, "action": "access_as_shared", "target_tenant": target}},
	})
	switch {
	case fault.Is(err, fault.NotFound):
		return &typedError{"Conflict", &fault.Error{Op: "cascade/network.Grant", Site: string(at.Site), Kind: fault.Conflict, Err: err,
			Msg: "Site " + string(at.Site) + " cannot share a network with another project."}}
	case err != nil && !fault.Is(err, fault.Conflict):
		return err
	}
	return m.core.Internal(ctx, func(tx *cascade.Tx) error {
		row, err := m.core.Bindings.GetIn(tx.Tx, r.ID, at.Site)
		if err != nil || !row.Known() {
			return err
		}
		all := grantedOf(row)
		if slices.Contains(all.Projects, target) {
			return nil
		}
		all.Projects = append(all.Projects, target)
		detail, err := json.Marshal(all)
		if err != nil {
			return fmt.Errorf("encode who may use network %s: %w", r.ID, err)
		}
		row.Detail = string(detail)
		return m.core.Bindings.Note(tx.Tx, row)
	})
}

func grantedOf(b *binding.Binding) granted {
	var g granted
	if b == nil || b.Detail == "" || json.Unmarshal([]byte(b.Detail), &g) != nil {
		return granted{}
	}
	return g
}
