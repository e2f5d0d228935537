package compute

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Waiting is a verb that was accepted while what it needs was not at the
// server's site: an image that is being copied there, a port that is being made. It is gone from the row once it is done.
type Waiting struct {
	Verb    int64       `json:"verb"`
	Rule    string      `json:"rule"` // rebuild, rescue or attach_interface
	Image   ident.TopID `json:"image,omitempty"`
	Key     ident.TopID `json:"key,omitempty"`
	Pass    string      `json:"pass,omitempty"` // of a rescue
	Rebuild *Rebuild    `json:"rebuild,omitempty"`
	Port    *PortUse    `json:"port,omitempty"`
	Before  *Former     `json:"before,omitempty"` // of a rebuild
	// Status and TaskState are what the server goes back to.
	Status    string    `json:"status"`
	TaskState string    `json:"task_state,omitempty"`
	SentAt    time.Time `json:"sent_at,omitzero"`
}

// Former is what a refused rebuild gives back.
type Former struct {
	Name    string      `json:"name"`
	ImageID ident.TopID `json:"image,omitempty"`
	KeyName string      `json:"key_name,omitempty"`
	Spec    ServerSpec  `json:"spec"`
}

// former notes what a server is before a rebuild.
func (w *Waiting) former(one *Server) {
	w.Before = &Former{Name: one.Name, ImageID: one.ImageID, KeyName: one.KeyName, Spec: one.Spec}
	w.Before.Spec.Waiting, w.Before.Spec.Saving = nil, nil
}

// restore takes back what a rebuild changes, and nothing that changed beside it.
func (f *Former) restore(one *Server) {
	one.Name, one.ImageID, one.KeyName = f.Name, f.ImageID, f.KeyName
	was, is := &f.Spec, &one.Spec
	is.Hostname, is.AccessIPv4, is.AccessIPv6, is.DiskConfig = was.Hostname, was.AccessIPv4, was.AccessIPv6, was.DiskConfig
	is.Description, is.Metadata, is.UserData, is.Keypair, is.TrustedCerts = was.Description, was.Metadata, was.UserData, was.Keypair, was.TrustedCerts
}

// needs are what must be at the site first.
func (w *Waiting) needs() []ident.TopID {
	out := []ident.TopID{w.Image, w.Key}
	if w.Port != nil {
		out = append(out, w.Port.ID)
	}
	return slices.DeleteFunc(out, func(id ident.TopID) bool { return id == "" })
}

// runOrWait carries out a verb at once when what it needs is at the site. What
// is still on its way there does not make the tenant come back: the verb is accepted, as a create is, and a job carries it out.
func (s *Service) runOrWait(ctx context.Context, caller sites.Caller, one *Server, w Waiting, a act) error {
	there, err := s.hasImage(ctx, one, w.Image)
	if err != nil {
		return err
	}
	if !there {
		err = check(caller, one, w.Rule)
	} else if err = s.bring(ctx, caller, one, w.Rule, w.needs()...); err == nil {
		_, err = s.run(ctx, caller, one, a)
		return err
	}
	if err != nil && !cascade.IsWait(err) {
		return err
	}
	begin := a.begin
	a.audit = "server." + a.rule
	a.begin = func(tx *cascade.Tx, one *Server) error {
		if begin != nil {
			if err := begin(tx, one); err != nil {
				return err
			}
		}
		one.Spec.Waiting = append(one.Spec.Waiting, w)
		return nil
	}
	v := s.verb(caller, one, a)
	inner := v.Begin
	v.Begin = func(tx *cascade.Tx, r *index.Resource) error {
		w.Verb, w.Status, w.TaskState = r.VerbNo+1, r.Status, r.TaskState
		return inner(tx, r)
	}
	return s.core.Accept(ctx, caller, one.ID, v)
}

// hasImage reports whether a server's site has the bytes of an image, or none is wanted. A copy takes longer than a request may.
func (s *Service) hasImage(ctx context.Context, one *Server, image ident.TopID) (bool, error) {
	if image == "" {
		return true, nil
	}
	b, err := s.core.Bindings.Get(ctx, image, one.Site)
	return b.Known() && b.Generation > 0, err
}

// waitingAct is the verb as it is carried out at the site.
func (s *Service) waitingAct(w Waiting) act {
	switch w.Rule {
	case "rebuild":
		return s.rebuildAct(w)
	case "rescue":
		return s.rescueAct(w)
	default:
		a := s.plugAct(w)
		a.undo = func(tx *cascade.Tx, one *Server) error {
			one.dropPort(w.Port.ID)
			return s.unplug(tx, one.ID, *w.Port)
		}
		return a
	}
}

// Waiting implements cascade.Resumer.
func (m serverMaker) Waiting(r *index.Resource, verb int64) (*cascade.Waiting, error) {
	one, err := decodeServer(r)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(one.Spec.Waiting, func(w Waiting) bool { return w.Verb <= verb })
	if at < 0 {
		return nil, nil
	}
	w := one.Spec.Waiting[at]
	v := m.verb(sites.Caller{}, one, m.waitingAct(w))
	done, undo := v.Done, v.Undo
	v.Done = func(tx *cascade.Tx, r *index.Resource, reply sites.Reply) error {
		return dropWaiting(tx, r, w, reply, done)
	}
	v.Undo = func(tx *cascade.Tx, r *index.Resource) error {
		return dropWaiting(tx, r, w, sites.Reply{}, func(tx *cascade.Tx, r *index.Resource, _ sites.Reply) error {
			if undo == nil {
				return nil
			}
			return undo(tx, r)
		})
	}
	return &cascade.Waiting{
		Verb: v, No: w.Verb, Needs: w.needs(), Status: w.Status, TaskState: w.TaskState, SentAt: w.SentAt,
		Sent: func(r *index.Resource, at time.Time) (mine bool, err error) {
			err = edit(r, func(one *Server) error {
				i := slices.IndexFunc(one.Spec.Waiting, func(x Waiting) bool { return x.Verb == w.Verb })
				if mine = i >= 0 && one.Spec.Waiting[i].SentAt.Equal(w.SentAt); mine {
					one.Spec.Waiting = slices.Clone(one.Spec.Waiting)
					one.Spec.Waiting[i].SentAt = at
				}
				return nil
			})
			return mine, err
		},
		Carried: func(ctx context.Context, at cascade.At, bottom ident.BottomID) (bool, error) {
			return w.carried(ctx, at, bottom)
		},
		Refused: func(r *index.Resource, cause error) error {
			return edit(r, func(one *Server) error {
				if w.Rule == "attach_interface" {
					return nil // the port shows it: the server is none the worse
				}
				one.Spec.Refused = cascade.FaultOf(cause, m.core.Now())
				one.Status, one.Fault = "ERROR", one.Spec.Refused
				return nil
			})
		},
	}, nil
}

// dropWaiting takes a verb out of the row and does what else follows from its end.
func dropWaiting(tx *cascade.Tx, r *index.Resource, w Waiting, reply sites.Reply, also func(*cascade.Tx, *index.Resource, sites.Reply) error) error {
	err := edit(r, func(one *Server) error {
		one.Spec.Waiting = slices.DeleteFunc(slices.Clone(one.Spec.Waiting), func(x Waiting) bool { return x.Verb == w.Verb })
		return nil
	})
	if err != nil || also == nil {
		return err
	}
	return also(tx, r, reply)
}

// carried reports whether the site has carried the verb out, or is at it.
func (w *Waiting) carried(ctx context.Context, at cascade.At, bottom ident.BottomID) (bool, error) {
	if w.Port != nil {
		port, err := at.Bottom(ctx, w.Port.ID)
		if err != nil {
			return false, err
		}
		obj, err := at.Adaptor.Show(ctx, sites.Port, port)
		return err == nil && obj.Text("device_id") == string(bottom), err
	}
	obj, err := at.Adaptor.Show(ctx, sites.Server, bottom)
	if fault.Is(err, fault.NotFound) {
		return true, nil // gone: the look that follows says so
	}
	if err != nil {
		return false, err
	}
	task, vm := text(obj.Body["OS-EXT-STS:task_state"]), text(obj.Body[stateMember])
	if w.Rule == "rescue" {
		return vm == rescued || task == "rescuing", nil
	}
	return strings.HasPrefix(task, "rebuil"), nil // one that has ended is done again: it leads to the same
}
