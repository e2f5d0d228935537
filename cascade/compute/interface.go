package compute

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// AttachRequest is what POST os-interface asks for: a port, or a network with perhaps an address.
type AttachRequest struct {
	Port    string
	Network string
	FixedIP string
	Tag     string
}

// AttachInterface gives a server one more port.
func (s *Service) AttachInterface(ctx context.Context, caller sites.Caller, id string, want AttachRequest) (Interface, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return Interface{}, err
	}
	if err := check(caller, one, "attach_interface"); err != nil {
		return Interface{}, err
	}
	use, err := s.portFor(ctx, caller, one, want)
	if err != nil {
		return Interface{}, err
	}
	err = s.plugPort(ctx, caller, one, use)
	if err != nil {
		if fault.Is(err, fault.Unavailable) {
			return Interface{}, err // what became of it shows when the server is seen next
		}
		return Interface{}, errors.Join(err, s.core.Internal(context.WithoutCancel(ctx), func(tx *cascade.Tx) error {
			return s.alter(tx, one.ID, func(one *Server) error {
				one.dropPort(use.ID)
				return s.unplug(tx, one.ID, use)
			})
		}))
	}
	return s.Interface(ctx, caller, id, string(use.ID))
}

// portFor records the port, bound to the server.
func (s *Service) portFor(ctx context.Context, caller sites.Caller, one *Server, want AttachRequest) (PortUse, error) {
	p := &plan{caller: caller, req: CreateRequest{Max: 1, Zone: one.Zone, NetworkMode: "list"}}
	if want.Port == "" && want.Network == "" {
		p.req.NetworkMode = ""
	}
	p.req.Networks = []NetworkRequest{{Network: want.Network, Port: want.Port, FixedIP: want.FixedIP, Tag: want.Tag}}
	if err := s.planNetworks(ctx, p); err != nil {
		return PortUse{}, err
	}
	if len(p.networks) == 0 {
		return PortUse{}, badRequest("No network was named and the project has none.")
	}
	p.networks[0].FixedIP, p.networks[0].Tag = want.FixedIP, want.Tag
	p.decision.Site = one.Site
	if err := s.reachable(ctx, p); err != nil {
		return PortUse{}, err
	}
	var use PortUse
	err := s.core.Commit(ctx, caller, "server.attach_interface", func(tx *cascade.Tx) error {
		scratch := &Server{Resource: one.Resource, Spec: ServerSpec{Groups: one.Spec.Groups}}
		if len(scratch.Spec.Groups) == 0 {
			g, err := s.networks.DefaultGroup(tx, one.ProjectID)
			if err != nil {
				return err
			}
			scratch.Spec.Groups = []ident.TopID{g.ID}
		}
		if err := s.givePorts(tx, p, scratch); err != nil {
			return err
		}
		use = scratch.Spec.Ports[0]
		use.Pending = s.core.Now()
		if err := s.core.Index.AddRefs(tx.Tx, index.Ref{From: one.ID, To: use.ID, Role: rolePort}); err != nil {
			return err
		}
		return s.alter(tx, one.ID, func(one *Server) error {
			one.Spec.Ports = append(one.Spec.Ports, use)
			return nil
		})
	})
	return use, err
}

// plugPort makes the port at the site and has the site attach it.
func (s *Service) plugPort(ctx context.Context, caller sites.Caller, one *Server, use PortUse) error {
	w := Waiting{Rule: "attach_interface", Port: &use}
	return s.runOrWait(ctx, caller, one, w, s.plugAct(w))
}

func (s *Service) plugAct(w Waiting) act {
	use := *w.Port
	return act{
		rule: "attach_interface",
		call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error) {
			there, err := at.Bottom(ctx, use.ID)
			args := sites.Body{"port_id": string(there)}
			if use.Tag != "" {
				args["tag"] = use.Tag
			}
			return sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "servers/" + string(bottom) + "/os-interface", Body: sites.Body{"interfaceAttachment": args}}, err
		},
		done: func(tx *cascade.Tx, one *Server, _ sites.Reply) error {
			one.dropPort(use.ID)
			use.Pending = time.Time{}
			one.Spec.Ports, one.Spec.NoNetwork = append(one.Spec.Ports, use), false
			return s.lookAt(tx, use.ID)
		},
	}
}

// lookAt has a port or volume read again: its status changes with the server's.
func (s *Service) lookAt(tx *cascade.Tx, id ident.TopID) error {
	r, err := tx.Load(id)
	if err != nil || r.State != index.Live {
		return err
	}
	return tx.Follow(r)
}

// alter changes one server's record within a transaction.
func (s *Service) alter(tx *cascade.Tx, id ident.TopID, change func(*Server) error) error {
	r, err := tx.Load(id)
	if err != nil {
		return err
	}
	if err := edit(r, change); err != nil {
		return err
	}
	return tx.Save(r)
}

func (s *Server) dropPort(id ident.TopID) {
	s.Spec.Ports = slices.DeleteFunc(s.Spec.Ports, func(p PortUse) bool { return p.ID == id })
}

// unplug frees a port of a server, in the record.
func (s *Service) unplug(tx *cascade.Tx, server ident.TopID, use PortUse) error {
	if err := s.core.Index.RemoveRefs(tx.Tx, index.Ref{From: server, To: use.ID, Role: rolePort}); err != nil {
		return err
	}
	return s.freePort(tx, use)
}

// Interfaces returns the ports of a server.
func (s *Service) Interfaces(ctx context.Context, caller sites.Caller, id string) ([]Interface, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return nil, err
	}
	all, err := s.networks.Interfaces(ctx, one.ID)
	return all[one.ID], err
}

// Interface returns one port of a server, by its id at Top or at the site; fault.NotFound when it has it not.
func (s *Service) Interface(ctx context.Context, caller sites.Caller, id, port string) (Interface, error) {
	list, err := s.Interfaces(ctx, caller, id)
	if err != nil {
		return Interface{}, err
	}
	missing := fault.New(fault.NotFound, "cascade/compute.Interface", "Interface %s could not be found for instance %s.", port, id)
	row, err := s.core.Index.Find(ctx, caller, sites.Port, port)
	if fault.Is(err, fault.NotFound) {
		return Interface{}, missing
	}
	if err != nil {
		return Interface{}, err
	}
	for _, i := range list {
		if i.Port == row.ID {
			return i, nil
		}
	}
	return Interface{}, missing
}

// DetachInterface takes a port from a server: one that Top made for it is deleted.
func (s *Service) DetachInterface(ctx context.Context, caller sites.Caller, id, port string) error {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	found, err := s.Interface(ctx, caller, id, port)
	if err != nil {
		return err
	}
	use := PortUse{ID: found.Port}
	for _, p := range one.Spec.Ports {
		if p.ID == found.Port {
			use = p
		}
	}
	_, err = s.run(ctx, caller, one, act{
		rule: "detach_interface", goneOK: true,
		call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error) {
			there, err := at.Bottom(ctx, use.ID)
			return sites.Request{Service: sites.Compute, Method: http.MethodDelete, Path: "servers/" + string(bottom) + "/os-interface/" + string(there)}, err
		},
		done: func(tx *cascade.Tx, one *Server, _ sites.Reply) error {
			one.dropPort(use.ID)
			return s.unplug(tx, one.ID, use)
		},
	})
	return err
}

// AddGroup puts all ports of a server into a security group; RemoveGroup takes them out.
func (s *Service) AddGroup(ctx context.Context, caller sites.Caller, id, group string) error {
	return s.regroup(ctx, caller, id, group, "addSecurityGroup", func(now []ident.TopID, g ident.TopID) ([]ident.TopID, error) {
		if slices.Contains(now, g) {
			return now, nil
		}
		return append(now, g), nil
	})
}

// RemoveGroup takes all ports of a server out of a security group.
func (s *Service) RemoveGroup(ctx context.Context, caller sites.Caller, id, group string) error {
	return s.regroup(ctx, caller, id, group, "removeSecurityGroup", func(now []ident.TopID, g ident.TopID) ([]ident.TopID, error) {
		if !slices.Contains(now, g) {
			return nil, fault.New(fault.Conflict, "cascade/compute.RemoveGroup", "Security group %s is not associated with the instance %s", group, id)
		}
		return slices.DeleteFunc(slices.Clone(now), func(x ident.TopID) bool { return x == g }), nil
	})
}

func (s *Service) regroup(ctx context.Context, caller sites.Caller, id, name, verb string, change func([]ident.TopID, ident.TopID) ([]ident.TopID, error)) error {
	ports, err := s.Interfaces(ctx, caller, id)
	if err != nil {
		return err
	}
	return s.record1(ctx, caller, id, "server."+verb, func(tx *cascade.Tx, one *Server) error {
		if err := check(caller, one, verb); err != nil {
			return err
		}
		g, err := s.findGroup(tx, name)
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.NotFound, "cascade/compute.regroup", "Security group %s not found for project %s.", name, one.ProjectID)
		}
		if err != nil {
			return err
		}
		groups, err := change(one.Spec.Groups, g.ID)
		if err != nil {
			return err
		}
		one.Spec.Groups = groups
		if err := s.core.Index.SetRefs(tx.Tx, one.ID, roleGroup, groups...); err != nil {
			return err
		}
		for _, p := range ports {
			port, err := tx.Load(p.Port)
			if err != nil {
				return err
			}
			now, err := change(p.Groups, g.ID)
			if fault.Is(err, fault.Conflict) {
				continue // a port of the tenant's own that never had it
			}
			if err != nil {
				return err
			}
			if err := s.networks.Regroup(tx, port, now); err != nil {
				return err
			}
		}
		return nil
	})
}
