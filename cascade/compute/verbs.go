package compute

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Server returns a server that the caller may see, by its id at Top or at its site.
func (s *Service) Server(ctx context.Context, caller sites.Caller, id string) (*Server, error) {
	r, err := s.core.Index.Find(ctx, caller, sites.Server, id)
	if err != nil {
		return nil, err
	}
	return decodeServer(r)
}

// act is one verb that the site carries out on a server.
type act struct {
	rule  string // key of rules
	audit string
	// begin changes the row besides its status, after the check. It may be nil.
	begin func(tx *cascade.Tx, one *Server) error
	// call is the request, given the site and the server's id there.
	call func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error)
	// admin has the site's own account make the call.
	admin bool
	// goneOK says that what the site does not find is what was asked for: a detach that was carried out before.
	goneOK bool
	// then asks the site for what its answer left out, within the time of the call; when that fails, the verb is one without an answer. It may be nil.
	then func(ctx context.Context, at cascade.At, reply sites.Reply) error
	done func(tx *cascade.Tx, one *Server, reply sites.Reply) error
	undo func(tx *cascade.Tx, one *Server) error
}

// run carries out an act on a server that was found for the caller.
func (s *Service) run(ctx context.Context, caller sites.Caller, one *Server, a act) (sites.Reply, error) {
	if err := check(caller, one, a.rule); err != nil {
		return sites.Reply{}, err // before the engine says it in its own words
	}
	if a.audit == "" {
		a.audit = "server." + a.rule
	}
	return s.core.Run(ctx, caller, one.ID, s.verb(caller, one, a))
}

// verb is an act on a server in the engine's form.
func (s *Service) verb(caller sites.Caller, one *Server, a act) cascade.Verb {
	v := cascade.Verb{Action: a.audit, Settle: true}
	v.Begin = func(tx *cascade.Tx, r *index.Resource) error {
		return edit(r, func(one *Server) error {
			if err := check(caller, one, a.rule); err != nil {
				return err
			}
			one.Spec.Refused = nil
			if task := rules[a.rule].task; task != "" {
				begin(one, task)
			}
			if a.begin == nil {
				return nil
			}
			return a.begin(tx, one)
		})
	}
	v.Call = func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Reply, error) {
		reply, err := s.send(ctx, at, bottom, a)
		if err == nil && a.then != nil {
			if lost := a.then(ctx, at, reply); lost != nil {
				return reply, &fault.Error{Op: "cascade/compute.run", Site: string(at.Site), Kind: fault.Ambiguous, Err: lost}
			}
		}
		return reply, retell(err, bottom, one.ID)
	}
	if a.done != nil {
		v.Done = func(tx *cascade.Tx, r *index.Resource, reply sites.Reply) error {
			return edit(r, func(one *Server) error { return a.done(tx, one, reply) })
		}
	}
	if a.undo != nil {
		v.Undo = func(tx *cascade.Tx, r *index.Resource) error {
			return edit(r, func(one *Server) error { return a.undo(tx, one) })
		}
	}
	return v
}

func (s *Service) send(ctx context.Context, at cascade.At, bottom ident.BottomID, a act) (sites.Reply, error) {
	req, err := a.call(ctx, at, bottom)
	if err != nil {
		return sites.Reply{}, err
	}
	adaptor := at.Adaptor
	if a.admin {
		if adaptor, err = at.Admin(ctx); err != nil {
			return sites.Reply{}, err
		}
	}
	reply, err := adaptor.Do(ctx, req)
	if a.goneOK && fault.Is(err, fault.NotFound) {
		return sites.Reply{}, nil
	}
	return reply, err
}

// edit changes the decoded server and encodes it back into the row.
func edit(r *index.Resource, change func(*Server) error) error {
	one, err := decodeServer(r)
	if err != nil {
		return err
	}
	if err := change(one); err != nil {
		return err
	}
	return one.encode()
}

// retell names the server in a site's sentence by the id that the tenant knows.
func retell(err error, bottom ident.BottomID, top ident.TopID) error {
	var e *fault.Error
	if !errors.As(err, &e) || !strings.Contains(fault.Message(err), string(bottom)) {
		return err
	}
	told := *e
	told.Msg = strings.ReplaceAll(fault.Message(err), string(bottom), string(top))
	return &told
}

// action is the request of POST servers/ID/action.
func action(name string, args any) func(context.Context, cascade.At, ident.BottomID) (sites.Request, error) {
	return func(_ context.Context, _ cascade.At, bottom ident.BottomID) (sites.Request, error) {
		return actionRequest(bottom, name, args), nil
	}
}

func actionRequest(bottom ident.BottomID, name string, args any) sites.Request {
	return sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "servers/" + string(bottom) + "/action", Body: sites.Body{name: args}}
}

// Plain carries out an action that has no arguments that name anything:
// os-start, os-stop, pause, unpause, suspend, resume, shelve, shelveOffload,
// unrescue, restore, trigger_crash_dump, changePassword.
func (s *Service) Plain(ctx context.Context, caller sites.Caller, id, name string, args any) error {
	if _, known := rules[name]; !known {
		return badRequest("There is no such action: %s", name)
	}
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	_, err = s.run(ctx, caller, one, act{rule: name, call: action(name, args)})
	return err
}

// Reboot reboots a server, hard when it is told so.
func (s *Service) Reboot(ctx context.Context, caller sites.Caller, id string, hard bool) error {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	rule, kind := "reboot", "SOFT"
	if hard {
		rule, kind = "reboot.hard", "HARD"
	}
	_, err = s.run(ctx, caller, one, act{rule: rule, audit: "server.reboot", call: action("reboot", sites.Body{"type": kind})})
	return err
}

// Unshelve brings a shelved server back, in another zone of its site when one is named. zone nil leaves it; "" unpins it.
func (s *Service) Unshelve(ctx context.Context, caller sites.Caller, id string, zone *string) error {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	var args any
	if zone != nil {
		bottom, err := s.zoneAt(ctx, caller, *zone, one)
		if err != nil {
			return err
		}
		args = sites.Body{"availability_zone": bottom}
		if *zone == "" || bottom == "" {
			args = sites.Body{"availability_zone": nil}
		}
	}
	_, err = s.run(ctx, caller, one, act{
		rule: "unshelve", call: action("unshelve", args),
		done: func(_ *cascade.Tx, one *Server, _ sites.Reply) error {
			if zone != nil {
				one.Zone = *zone
			}
			return nil
		},
	})
	return err
}

// zoneAt translates a zone for a server that is somewhere already.
func (s *Service) zoneAt(ctx context.Context, caller sites.Caller, zone string, one *Server) (string, error) {
	if zone == "" {
		return "", nil
	}
	zones, err := s.placer.Zones(ctx, caller, sites.Compute)
	if err != nil {
		return "", err
	}
	for _, z := range zones {
		if z.Name != zone {
			continue
		}
		if z.Site != one.Site {
			return "", fault.New(fault.Conflict, "cascade/compute.zoneAt", "Server %s is at site %s and cannot come up in zone %s, which is at site %s.", one.ID, one.Site, zone, z.Site)
		}
		all, err := s.registry.Sites(ctx)
		if err != nil {
			return "", err
		}
		for i := range all {
			if all[i].Name == z.Site {
				bottom, _ := all[i].BottomZone(zone, sites.Compute)
				return bottom, nil
			}
		}
	}
	return "", badRequest("The requested availability zone is not available")
}

// Rescue boots a server from a rescue image; password "" lets Top choose. The password is returned.
func (s *Service) Rescue(ctx context.Context, caller sites.Caller, id, pass, image string) (string, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return "", err
	}
	if pass == "" {
		pass = password()
	}
	var with *index.Resource
	if image != "" {
		if with, err = s.usableImage(ctx, caller, image); err != nil {
			return "", err
		}
	}
	w := Waiting{Rule: "rescue", Pass: pass}
	if with != nil {
		w.Image = with.ID
	}
	return pass, s.runOrWait(ctx, caller, one, w, s.rescueAct(w))
}

func (s *Service) rescueAct(w Waiting) act {
	return act{rule: "rescue", call: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (sites.Request, error) {
		args := sites.Body{"adminPass": w.Pass}
		if w.Image != "" {
			there, err := at.Bottom(ctx, w.Image)
			if err != nil {
				return sites.Request{}, err
			}
			args["rescue_image_ref"] = string(there)
		}
		return actionRequest(bottom, "rescue", args), nil
	}}
}

// bring makes sure that what a verb needs is at the server's site, after the verb was found to be allowed.
func (s *Service) bring(ctx context.Context, caller sites.Caller, one *Server, rule string, ids ...ident.TopID) error {
	if err := check(caller, one, rule); err != nil {
		return err
	}
	for _, id := range ids {
		if id == "" {
			continue
		}
		if _, err := s.core.EnsureFor(ctx, one.Site, id, one.ProjectID); err != nil {
			return err
		}
	}
	return nil
}

// Lock keeps everybody but administrators from acting on a server. It is Top's own: all verbs come through Top.
func (s *Service) Lock(ctx context.Context, caller sites.Caller, id string, reason *string) error {
	return s.record1(ctx, caller, id, "server.lock", func(_ *cascade.Tx, one *Server) error {
		one.Spec.Locked, one.Spec.LockedReason, one.Spec.LockedBy = true, reason, "owner"
		if caller.Admin() && one.ProjectID != caller.ProjectID {
			one.Spec.LockedBy = "admin"
		}
		return nil
	})
}

// Unlock ends a lock. One that an administrator set only an administrator ends.
func (s *Service) Unlock(ctx context.Context, caller sites.Caller, id string) error {
	return s.record1(ctx, caller, id, "server.unlock", func(_ *cascade.Tx, one *Server) error {
		if one.Spec.LockedBy == "admin" && !caller.Admin() {
			return fault.New(fault.Forbidden, "cascade/compute.Unlock", "Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed.")
		}
		one.Spec.Locked, one.Spec.LockedReason, one.Spec.LockedBy = false, nil, ""
		return nil
	})
}

// record1 changes one server's record and nothing at its site.
func (s *Service) record1(ctx context.Context, caller sites.Caller, id, name string, change func(*cascade.Tx, *Server) error) error {
	return s.change(ctx, caller, id, name, func(tx *cascade.Tx, one *Server) error {
		if err := change(tx, one); err != nil {
			return err
		}
		if err := one.encode(); err != nil {
			return err
		}
		if err := tx.Save(one.Resource); err != nil {
			return err
		}
		return tx.Audit(string(one.ID), one.Site)
	})
}

// push changes one server's record and enqueues the job that brings the change to its site.
func (s *Service) push(ctx context.Context, caller sites.Caller, id, name string, change func(*cascade.Tx, *Server) error) error {
	return s.change(ctx, caller, id, name, func(tx *cascade.Tx, one *Server) error {
		if err := change(tx, one); err != nil {
			return err
		}
		if err := one.encode(); err != nil {
			return err
		}
		return tx.Changed(one.Resource)
	})
}

func (s *Service) change(ctx context.Context, caller sites.Caller, id, name string, change func(*cascade.Tx, *Server) error) error {
	return s.core.Commit(ctx, caller, name, func(tx *cascade.Tx) error {
		r, err := tx.Find(sites.Server, id)
		if err != nil {
			return err
		}
		one, err := decodeServer(r)
		if err != nil {
			return err
		}
		return change(tx, one)
	})
}

// Delete ends a server: its status says so at once, and it is gone when its site confirms.
func (s *Service) Delete(ctx context.Context, caller sites.Caller, id string) error {
	return s.change(ctx, caller, id, "server.delete", func(tx *cascade.Tx, one *Server) error {
		if err := check(caller, one, "delete"); err != nil {
			return err
		}
		if one.State == index.Deleting {
			return nil
		}
		one.TaskState = "deleting"
		return tx.Delete(one.Resource)
	})
}

// ResetState sets the state that the site shows to active or error (administrators, where the site's account is one).
func (s *Service) ResetState(ctx context.Context, caller sites.Caller, id, state string) error {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return err
	}
	_, err = s.run(ctx, caller, one, act{
		rule: "output", audit: "server.reset_state", admin: true, call: action("os-resetState", sites.Body{"state": state}),
		// Nova's answer is final: who looks right after it sees the state, not what an older look at the site saw.
		done: func(_ *cascade.Tx, one *Server, _ sites.Reply) error {
			one.Status, one.TaskState = map[string]string{"active": "ACTIVE", "error": "ERROR"}[state], ""
			return nil
		},
	})
	return err
}

// Update is what PUT /servers/ID changes; nil members stay.
type Update struct {
	Name        *string
	Description **string // a pointer to nil clears it
	Hostname    *string
	AccessIPv4  *string
	AccessIPv6  *string
	DiskConfig  *string
}

// UpdateServer changes a server's own members, here at once and at its site by a job.
func (s *Service) UpdateServer(ctx context.Context, caller sites.Caller, id string, u Update) (*Server, error) {
	var out *Server
	err := s.push(ctx, caller, id, "server.update", func(_ *cascade.Tx, one *Server) error {
		out = one
		for _, m := range []struct {
			to   *string
			from *string
		}{{&one.Name, u.Name}, {&one.Spec.Hostname, u.Hostname}, {&one.Spec.AccessIPv4, u.AccessIPv4}, {&one.Spec.AccessIPv6, u.AccessIPv6}, {&one.Spec.DiskConfig, u.DiskConfig}} {
			if m.from != nil {
				*m.to = *m.from
			}
		}
		if u.Description != nil {
			one.Spec.Description = *u.Description
		}
		return nil
	})
	return out, err
}

// maxMetadata is Nova's quota of metadata items.
const maxMetadata = 128

// SetMetadata changes a server's metadata as change says, here at once and at its site by a job.
func (s *Service) SetMetadata(ctx context.Context, caller sites.Caller, id string, change func(map[string]string) (map[string]string, error)) (map[string]string, error) {
	var out map[string]string
	err := s.push(ctx, caller, id, "server.metadata", func(_ *cascade.Tx, one *Server) error {
		if err := check(caller, one, "metadata"); err != nil {
			return err
		}
		now := map[string]string{}
		for k, v := range one.Spec.Metadata {
			now[k] = v
		}
		var err error
		if out, err = change(now); err != nil {
			return err
		}
		if len(out) > maxMetadata {
			return fault.New(fault.OverQuota, "cascade/compute.SetMetadata", "Maximum number of metadata items exceeds %d", maxMetadata)
		}
		one.Spec.Metadata = out
		return nil
	})
	return out, err
}

// SetTags changes a server's tags as change says. Tags are Top's own: at the site a tag is the marker.
func (s *Service) SetTags(ctx context.Context, caller sites.Caller, id string, change func([]string) ([]string, error)) ([]string, error) {
	var out []string
	err := s.record1(ctx, caller, id, "server.tags", func(_ *cascade.Tx, one *Server) error {
		var err error
		if out, err = change(slices.Clone(one.Spec.Tags)); err != nil {
			return err
		}
		if len(out) > 50 { // nova/objects/instance.py, MAX_TAG_COUNT
			return badRequest("The number of tags exceeded the per-server limit 50")
		}
		one.Spec.Tags = out
		return nil
	})
	return out, err
}
