package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// memberRoles are the names of the ordinary role, newest first.
var memberRoles = []string{"member", "Member", "_member_"}

// revocationGrain is the precision of Keystone's revocation events.
const revocationGrain = time.Second

// pause waits, or returns why it did not.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// EnsureProject implements sites.ProjectMaker: project and user are made in
// the domain of the account's own project.
func (a *Adaptor) EnsureProject(ctx context.Context, name, description string, password ident.Secret) (projectID, userID string, err error) {
	const op = "sites/openstack.EnsureProject"
	account, err := a.Account(ctx)
	if err != nil {
		return "", "", err
	}
	project, _, err := a.ensureNamed(ctx, op, sites.Project, account.DomainID, sites.Body{"name": name, "domain_id": account.DomainID,
		"description": description, "enabled": true})
	if err != nil {
		return "", "", fmt.Errorf("ensure project %s: %w", name, err)
	}
	user, made, err := a.ensureNamed(ctx, op, sites.User, account.DomainID, sites.Body{"name": name, "domain_id": account.DomainID,
		"description": description, "enabled": true, "password": password.Reveal(), "default_project_id": string(project.ID)})
	if err != nil {
		return "", "", fmt.Errorf("ensure user %s: %w", name, err)
	}
	if !made {
		if _, err := a.Update(ctx, sites.User, user.ID, sites.Body{"password": password.Reveal(), "enabled": true}); err != nil {
			return "", "", fmt.Errorf("set password of user %s: %w", name, err)
		}
		// Keystone revokes, in whole seconds, every token issued up to the change: one issued within the same
		// second is dead from its birth. The caller will log in at once.
		if err := pause(ctx, revocationGrain); err != nil {
			return "", "", a.lost(op, &sentState{}, true, err)
		}
	}
	role, err := a.memberRole(ctx)
	if err != nil {
		return "", "", err
	}
	_, err = a.doJSON(ctx, &call{op: op, service: sites.Identity, method: http.MethodPut,
		path: fmt.Sprintf("projects/%s/users/%s/roles/%s", project.ID, user.ID, role)})
	if err != nil {
		return "", "", fmt.Errorf("give user %s the member role: %w", name, err)
	}
	return string(project.ID), string(user.ID), nil
}

// ensureNamed finds a project or user by its name in a domain or makes it, and reports which.
func (a *Adaptor) ensureNamed(ctx context.Context, op string, kind sites.Kind, domain string, body sites.Body) (sites.Object, bool, error) {
	name := str(body["name"])
	find := func() (found sites.Object, err error) {
		err = a.List(ctx, kind, sites.Query{Params: url.Values{"name": {name}, "domain_id": {domain}}}, func(o sites.Object) error {
			if o.Text("name") == name && o.Text("domain_id") == domain {
				found = o
			}
			return nil
		})
		return found, err
	}
	if found, err := find(); err != nil || found.ID != "" {
		return found, false, err
	}
	made, err := a.Create(ctx, kind, body, sites.CreateOptions{})
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.Ambiguous) { // made meanwhile, perhaps by us
		found, again := find()
		if again != nil {
			return found, false, again
		}
		if found.ID != "" {
			return found, false, nil
		}
	}
	if err != nil {
		return sites.Object{}, false, err
	}
	return made, true, nil
}

func (a *Adaptor) memberRole(ctx context.Context) (string, error) {
	const op = "sites/openstack.EnsureProject"
	for _, name := range memberRoles {
		reply, err := a.doJSON(ctx, &call{op: op, service: sites.Identity, method: http.MethodGet, path: "roles", query: url.Values{"name": {name}}})
		if err != nil {
			return "", fmt.Errorf("find role %s: %w", name, err)
		}
		rows, err := form{many: "roles"}.rows(reply.Body)
		if err != nil {
			return "", a.unreadable(&call{op: op, method: http.MethodGet}, reply.Header, err)
		}
		for _, row := range rows {
			if str(row["name"]) == name && row["domain_id"] == nil {
				return str(row["id"]), nil
			}
		}
	}
	return "", &fault.Error{Op: op, Site: string(a.site), Kind: fault.BadRequest, Msg: "the site has no role member"}
}

// DeleteProject implements sites.ProjectMaker. An empty id is skipped. The
// project's security groups go with it: Neutron makes one by itself, which would stay for ever.
func (a *Adaptor) DeleteProject(ctx context.Context, projectID, userID string) error {
	if projectID != "" {
		if err := a.deleteGroups(ctx, projectID); err != nil {
			return err
		}
	}
	for _, gone := range []struct {
		kind sites.Kind
		id   string
	}{{sites.User, userID}, {sites.Project, projectID}} {
		if gone.id == "" {
			continue
		}
		if err := a.Delete(ctx, gone.kind, ident.BottomID(gone.id)); err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("delete %s %s: %w", gone.kind, gone.id, err)
		}
	}
	return nil
}

func (a *Adaptor) deleteGroups(ctx context.Context, projectID string) error {
	var ids []ident.BottomID
	err := a.List(ctx, sites.SecurityGroup, sites.Query{Params: url.Values{"project_id": {projectID}}, AllProjects: true}, func(o sites.Object) error {
		if o.Text("project_id") == projectID {
			ids = append(ids, o.ID)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list security groups of project %s: %w", projectID, err)
	}
	for _, id := range ids {
		if err := a.Delete(ctx, sites.SecurityGroup, id); err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("delete security group %s: %w", id, err)
		}
	}
	return nil
}

// SetQuota implements sites.ProjectMaker, for compute, network and
// block-storage; another service is fault.NotImplemented.
func (a *Adaptor) SetQuota(ctx context.Context, projectID string, limits map[sites.Service]map[string]int64) error {
	const op = "sites/openstack.SetQuota"
	for service, values := range limits {
		if len(values) == 0 {
			continue
		}
		set := sites.Body{}
		for name, limit := range values {
			set[name] = limit
		}
		c := &call{op: op, service: service, method: http.MethodPut, path: "os-quota-sets/" + url.PathEscape(projectID), body: sites.Body{"quota_set": set}}
		switch service {
		case sites.Compute:
			set["force"] = true // also below what is in use: Top decides
		case sites.BlockStorage:
		case sites.NetworkSvc:
			c.path, c.body = "quotas/"+url.PathEscape(projectID), sites.Body{"quota": set}
		default:
			return &fault.Error{Op: op, Site: string(a.site), Kind: fault.NotImplemented, Msg: fmt.Sprintf("the limits of %s cannot be set", service)}
		}
		if _, err := a.doJSON(ctx, c); err != nil {
			return fmt.Errorf("set %s limits of project %s: %w", service, projectID, err)
		}
	}
	return nil
}
