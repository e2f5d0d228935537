package compute

import (
	"context"
	"net/http"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// ask makes one call at a server's site that changes nothing that Top records.
func (s *Service) ask(ctx context.Context, one *Server, make func(bottom ident.BottomID) sites.Request) (sites.Reply, error) {
	if one.State == index.Creating || one.State == index.Failed {
		return sites.Reply{}, fault.New(fault.Conflict, "cascade/compute.ask", "Instance %s is not ready", one.ID)
	}
	at, err := s.core.At(ctx, one.Resource, one.Site)
	if err != nil {
		return sites.Reply{}, err
	}
	bottom, err := at.Bottom(ctx, one.ID)
	if err != nil {
		return sites.Reply{}, err
	}
	reply, err := at.Adaptor.Do(ctx, make(bottom))
	if fault.Is(err, fault.Ambiguous) {
		err = &fault.Error{Op: "cascade/compute.ask", Site: string(one.Site), Kind: fault.Unavailable, Err: err, Msg: "Site " + string(one.Site) + " did not answer."}
	}
	return reply, retell(err, bottom, one.ID)
}

// ConsoleOutput returns the last lines of a server's console; lines 0 is all.
func (s *Service) ConsoleOutput(ctx context.Context, caller sites.Caller, id string, lines int) (string, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return "", err
	}
	args := sites.Body{}
	if lines != 0 {
		args["length"] = lines
	}
	reply, err := s.ask(ctx, one, func(b ident.BottomID) sites.Request {
		r := actionRequest(b, "os-getConsoleOutput", args)
		r.Idempotent = true
		return r
	})
	return text(reply.Body["output"]), err
}

// Console is a way to a server's screen or serial line.
type Console struct {
	Protocol string `json:"protocol"`
	Type     string `json:"type"`
	URL      string `json:"url"`
}

// RemoteConsole opens a console of a server. The URL is the site's own.
func (s *Service) RemoteConsole(ctx context.Context, caller sites.Caller, id, protocol, kind string) (Console, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return Console{}, err
	}
	if err := check(caller, one, "console"); err != nil {
		return Console{}, err
	}
	reply, err := s.ask(ctx, one, func(b ident.BottomID) sites.Request {
		return sites.Request{
			Service: sites.Compute, Method: http.MethodPost, Path: "servers/" + string(b) + "/remote-consoles", Idempotent: true,
			Body: sites.Body{"remote_console": sites.Body{"protocol": protocol, "type": kind}},
		}
	})
	shown, _ := reply.Body["remote_console"].(map[string]any)
	return Console{Protocol: text(shown["protocol"]), Type: text(shown["type"]), URL: text(shown["url"])}, err
}

// Password returns what the guest stored as its encrypted administrator's password; clear forgets it.
func (s *Service) Password(ctx context.Context, caller sites.Caller, id string, clear bool) (string, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return "", err
	}
	method := http.MethodGet
	if clear {
		method = http.MethodDelete
	}
	reply, err := s.ask(ctx, one, func(b ident.BottomID) sites.Request {
		return sites.Request{Service: sites.Compute, Method: method, Path: "servers/" + string(b) + "/os-server-password"}
	})
	return text(reply.Body["password"]), err
}

// Diagnostics returns what the site's hypervisor says of a server (where its policy lets Top's account see that).
func (s *Service) Diagnostics(ctx context.Context, caller sites.Caller, id string) (sites.Body, error) {
	one, err := s.Server(ctx, caller, id)
	if err != nil {
		return nil, err
	}
	at, err := s.core.At(ctx, one.Resource, one.Site)
	if err != nil {
		return nil, err
	}
	bottom, err := at.Bottom(ctx, one.ID)
	if err != nil {
		return nil, err
	}
	admin, err := at.Admin(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := admin.Do(ctx, sites.Request{Service: sites.Compute, Method: http.MethodGet, Path: "servers/" + string(bottom) + "/diagnostics"})
	return reply.Body, retell(err, bottom, one.ID)
}
