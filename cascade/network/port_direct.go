package network

import (
	"context"
	"net/http"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// splitPort takes from an update of a port what its site decides on, if the port is at one: where it is
// bound, and on a network of the sites' its addresses, its MAC and what it may send.
func (s *Service) splitPort(ctx context.Context, caller sites.Caller, c Change) (rest, direct Fields, err error) {
	rest, direct = Fields{}, Fields{}
	r, err := s.Find(ctx, caller, sites.Port, c.ID)
	if err != nil {
		return nil, nil, err
	}
	spec, err := SpecOf[PortSpec](r)
	if err != nil {
		return nil, nil, err
	}
	b, err := s.core.Bindings.Get(ctx, r.ID, r.Site)
	if err != nil {
		return nil, nil, err
	}
	for name, value := range c.Fields {
		there := strings.HasPrefix(name, "binding:") && name != "binding:vnic_type"
		switch name {
		case "fixed_ips", "mac_address", "allowed_address_pairs", "port_security_enabled":
			there = spec.SiteAllocated
		}
		if there && b.Known() {
			direct[name] = value
		} else {
			rest[name] = value
		}
	}
	return rest, direct, nil
}

// setDirect has the site's administrator change a port there, and shows the port as the site then does.
func (s *Service) setDirect(ctx context.Context, caller sites.Caller, c Change) (*index.Resource, error) {
	r, err := s.Find(ctx, caller, sites.Port, c.ID)
	if err != nil {
		return nil, err
	}
	before, err := SpecOf[PortSpec](r)
	if err != nil {
		return nil, err
	}
	_, err = s.core.Run(ctx, caller, r.ID, cascade.Verb{
		Action: "port.update",
		Begin: func(tx *cascade.Tx, row *index.Resource) error {
			if c.Revision != nil && *c.Revision != row.Version {
				return &RevisionError{Wanted: *c.Revision, Current: row.Version}
			}
			spec, err := SpecOf[PortSpec](row)
			if err != nil {
				return err
			}
			if err := overlay(&spec, kept(c.Fields)); err != nil {
				return err
			}
			if len(spec.Groups) > 0 && !spec.PortSecurity {
				return conflict("PortSecurityPortHasSecurityGroup", "Port has security group associated. Cannot disable port security or IP address until security group is removed.")
			}
			return row.Encode(spec)
		},
		Call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Reply, error) {
			body, err := s.directBody(ctx, caller, at, c.Fields)
			if err != nil {
				return sites.Reply{}, err
			}
			session, err := s.administrator(ctx, at, "what was asked for of a port")
			if err != nil {
				return sites.Reply{}, err
			}
			return session.Do(ctx, sites.Request{
				Service: sites.NetworkSvc, Method: http.MethodPut, Path: "ports/" + string(bottom), Body: sites.Body{"port": body},
			})
		},
		Undo: func(_ *cascade.Tx, row *index.Resource) error { return row.Encode(before) },
	})
	if err != nil {
		return nil, err
	}
	b, err := s.core.Bindings.Get(ctx, r.ID, r.Site)
	if err != nil || !b.Known() {
		return nil, err
	}
	return s.core.Refresh(ctx, r, r.Site, b.BottomID)
}

// kept are the members that Top keeps of what is set at once; the others are the site's to say.
func kept(f Fields) Fields {
	out := Fields{}
	for name, value := range f {
		if name != "fixed_ips" && name != "mac_address" {
			out[name] = value
		}
	}
	return out
}

// directBody translates the subnets of addresses.
func (s *Service) directBody(ctx context.Context, caller sites.Caller, at cascade.At, f Fields) (sites.Body, error) {
	body := sites.Body{}
	for name, value := range f {
		if list, ok := value.([]any); ok && name == "fixed_ips" {
			fixed := make([]sites.Body, len(list))
			for i, item := range list {
				one, _ := item.(map[string]any)
				fixed[i] = sites.Body{}
				for k, v := range one {
					fixed[i][k] = v
				}
				if id, _ := one["subnet_id"].(string); id != "" {
					sub, err := s.Find(ctx, caller, sites.Subnet, id)
					if err != nil {
						return nil, err
					}
					if fixed[i]["subnet_id"], err = at.Bottom(ctx, sub.ID); err != nil {
						return nil, err
					}
				}
			}
			value = fixed
		}
		body[name] = value
	}
	return body, nil
}
