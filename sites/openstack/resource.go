package openstack

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Create makes one resource and marks it. Members that stand beside the outer
// key on the wire (os:scheduler_hints) are given in body like any other.
func (a *Adaptor) Create(ctx context.Context, kind sites.Kind, body sites.Body, opts sites.CreateOptions) (sites.Object, error) {
	const op = "sites/openstack.Create"
	f, err := a.formOf(op, kind)
	if err != nil {
		return sites.Object{}, err
	}
	if opts.Marker != "" {
		if body, err = a.mark(ctx, kind, body, opts.Marker); err != nil {
			return sites.Object{}, err
		}
	}
	if kind == sites.ServerGroup {
		if body, err = a.policies(ctx, body); err != nil {
			return sites.Object{}, err
		}
	}
	c := &call{op: op, service: kind.Service(), method: http.MethodPost, path: f.path, body: f.wrap(body)}
	if _, ok := body["personality"]; ok && kind == sites.Server {
		c.microversion = withFiles
	}
	reply, err := a.doJSON(ctx, c)
	if err != nil {
		return sites.Object{}, err
	}
	return a.object(c, f, reply)
}

// withFiles is the last microversion that takes files to inject into a server.
const withFiles = "2.56"

// policies spells a server group's policy as sites before 2.64 do.
func (a *Adaptor) policies(ctx context.Context, body sites.Body) (sites.Body, error) {
	v, err := a.chosen(ctx, sites.Compute)
	policy, ok := body["policy"]
	if err != nil || !ok || !v.less(version{2, 64}) {
		return body, err
	}
	body = copyBody(body)
	body["policies"] = []any{policy}
	delete(body, "policy")
	return body, nil
}

// object reads one resource of an answer.
func (a *Adaptor) object(c *call, f form, reply sites.Reply) (sites.Object, error) {
	body, ok := f.unwrap(reply.Body)
	if !ok {
		return sites.Object{}, a.unreadable(c, reply.Header, errNoResource)
	}
	id := f.idOf(body)
	if id == "" {
		return sites.Object{}, a.unreadable(c, reply.Header, errNoID)
	}
	return sites.Object{ID: ident.BottomID(id), Body: body, Began: reply.Began}, nil
}

// itemPath is the path of one resource. An empty id or one with a slash would address another thing.
func (a *Adaptor) itemPath(op string, f form, id ident.BottomID) (string, error) {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(string(id), "/?#") {
		return "", &fault.Error{Op: op, Site: string(a.site), Kind: fault.NotFound, Msg: "there is no such thing at the site"}
	}
	return f.path + "/" + url.PathEscape(string(id)), nil
}

// Show reads one resource.
func (a *Adaptor) Show(ctx context.Context, kind sites.Kind, id ident.BottomID) (sites.Object, error) {
	const op = "sites/openstack.Show"
	f, err := a.formOf(op, kind)
	if err != nil {
		return sites.Object{}, err
	}
	path, err := a.itemPath(op, f, id)
	if err != nil {
		return sites.Object{}, err
	}
	c := &call{op: op, service: kind.Service(), method: http.MethodGet, path: path}
	reply, err := a.doJSON(ctx, c)
	if err != nil {
		return sites.Object{}, err
	}
	return a.object(c, f, reply)
}

// Update changes the members that body names. Of an image, a member that is
// nil is removed.
func (a *Adaptor) Update(ctx context.Context, kind sites.Kind, id ident.BottomID, body sites.Body) (sites.Object, error) {
	const op = "sites/openstack.Update"
	f, err := a.formOf(op, kind)
	if err != nil {
		return sites.Object{}, err
	}
	if f.change == "" {
		return sites.Object{}, &fault.Error{Op: op, Site: string(a.site), Kind: fault.NotImplemented, Msg: "a " + string(kind) + " cannot be changed"}
	}
	path, err := a.itemPath(op, f, id)
	if err != nil {
		return sites.Object{}, err
	}
	c := &call{op: op, service: kind.Service(), method: f.change, path: path, body: f.wrap(body), idempotent: true}
	if kind == sites.Image {
		c.body = patch(body)
		c.header = http.Header{"Content-Type": {"application/openstack-images-v2.1-json-patch"}}
	}
	reply, err := a.doJSON(ctx, c)
	if err != nil {
		return sites.Object{}, err
	}
	return a.object(c, f, reply)
}

// patch writes a change of members as Glance's JSON patch, in which "add" also replaces.
func patch(body sites.Body) []map[string]any {
	operations := make([]map[string]any, 0, len(body))
	for key, value := range body {
		path := "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		if value == nil {
			operations = append(operations, map[string]any{"op": "remove", "path": path})
			continue
		}
		operations = append(operations, map[string]any{"op": "add", "path": path, "value": value})
	}
	slices.SortFunc(operations, func(x, y map[string]any) int { return strings.Compare(str(x["path"]), str(y["path"])) })
	return operations
}

// Delete asks for the end of a resource.
func (a *Adaptor) Delete(ctx context.Context, kind sites.Kind, id ident.BottomID) error {
	const op = "sites/openstack.Delete"
	f, err := a.formOf(op, kind)
	if err != nil {
		return err
	}
	path, err := a.itemPath(op, f, id)
	if err != nil {
		return err
	}
	_, err = a.doJSON(ctx, &call{op: op, service: kind.Service(), method: http.MethodDelete, path: path})
	return err
}
