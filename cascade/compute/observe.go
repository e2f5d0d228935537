package compute

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// ours are the members of a server that Top renders from its own record; what a site shows there is not kept.
var ours = []string{
	"id", "name", "links", "tenant_id", "user_id", "status", "OS-EXT-STS:task_state", "metadata", "image", "flavor", "key_name",
	"addresses", "security_groups", "tags", "description", "locked", "locked_reason", "server_groups", "os-extended-volumes:volumes_attached",
	"accessIPv4", "accessIPv6", "OS-DCF:diskConfig", "trusted_image_certificates", "created", "updated", "OS-EXT-AZ:availability_zone",
	"fault", "adminPass", "user_data",
}

// zoneMember is where the zone is shown.
const zoneMember = "OS-EXT-AZ:availability_zone"

// attrPrefix begins the members for administrators; the host name is for all since 2.90.
const (
	attrPrefix     = "OS-EXT-SRV-ATTR:"
	hostnameMember = "OS-EXT-SRV-ATTR:hostname"
)

// Observe stores what a site showed of a server.
func (m serverMaker) Observe(ctx context.Context, r *index.Resource, at cascade.At, obj sites.Object) error {
	one, err := decodeServer(r)
	if err != nil {
		return err
	}
	r.Status, r.TaskState = obj.Text("status"), text(obj.Body["OS-EXT-STS:task_state"])
	r.Observed, r.ObservedAdmin = split(obj.Body, at.Site)
	r.Fault = shownFault(r, at, obj)
	if t, err := time.Parse("2006-01-02T15:04:05.999999", text(obj.Body["OS-SRV-USG:launched_at"])); err == nil {
		r.LaunchedAt = index.Stamp(t)
	}
	vm := text(obj.Body[stateMember])
	if vm != building {
		one.Spec.wipe()
		if err := m.seeVolumes(ctx, one, at, obj); err != nil {
			return err
		}
	}
	if err := m.seePorts(ctx, one, obj); err != nil {
		return err
	}
	if r.Status != one.Spec.Leaving {
		one.Spec.Leaving = ""
	}
	if refused := one.Spec.Refused; refused != nil && r.TaskState == "" {
		r.Status, r.Fault = "ERROR", refused // the site knows nothing of it
	}
	seeSize(one, obj)
	return one.encode()
}

// split parts what a site showed into what its tenant may see and what only administrators may.
func split(body sites.Body, site ident.SiteID) (open, admin sites.Body) {
	open = sites.Body{}
	for key, v := range body {
		switch {
		case slices.Contains(ours, key):
		case key == "host_status" || strings.HasPrefix(key, attrPrefix) && key != hostnameMember:
			if admin == nil {
				admin = sites.Body{}
			}
			admin[key] = v
		default:
			open[key] = v
		}
	}
	if zone := text(body[zoneMember]); zone != "" {
		open[zoneMember] = string(site) + "/" + zone
	}
	return open, admin
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// shownFault reads the fault of a server in error. Its sentence names the server by the id that the tenant knows.
func shownFault(r *index.Resource, at cascade.At, obj sites.Object) *index.Fault {
	if r.Status != "ERROR" {
		return nil
	}
	shown, ok := obj.Body["fault"].(map[string]any)
	if !ok {
		return r.Fault
	}
	f := &index.Fault{Site: at.Site, Message: strings.ReplaceAll(text(shown["message"]), string(obj.ID), string(r.ID))}
	if n, ok := number(shown["code"]); ok {
		f.Code = int(n)
	}
	if t, err := time.Parse(time.RFC3339, text(shown["created"])); err == nil {
		f.At = t.UTC()
	}
	return f
}

// seeVolumes makes the spec's volumes those that the site shows. What no Top volume stands for is left out.
func (m serverMaker) seeVolumes(ctx context.Context, one *Server, at cascade.At, obj sites.Object) error {
	shown, ok := obj.Body["os-extended-volumes:volumes_attached"].([]any)
	if !ok {
		return nil
	}
	var bottoms []ident.BottomID
	for _, v := range shown {
		if item, ok := v.(map[string]any); ok {
			bottoms = append(bottoms, ident.BottomID(text(item["id"])))
		}
	}
	tops, err := at.Tops(ctx, sites.Volume, bottoms...)
	if err != nil {
		return err
	}
	var now []VolumeUse
	for _, b := range bottoms {
		top, ok := tops[b]
		if !ok {
			continue
		}
		use := VolumeUse{ID: top}
		for _, old := range one.Spec.Volumes {
			if old.ID == top {
				use = old
			}
		}
		now = append(now, use)
	}
	one.Spec.Volumes = now
	one.Spec.Detaching = slices.DeleteFunc(one.Spec.Detaching, func(id ident.TopID) bool {
		return !slices.ContainsFunc(now, func(u VolumeUse) bool { return u.ID == id })
	})
	return nil
}

// pendingFor is how long an attach of a port may take; after that the site's answer to what became of it counts.
const pendingFor = 100 * time.Second

// seePorts decides the attaches of ports whose end is not known: the server has those whose MAC it shows. Those
// dropped here are freed by Reckon.
func (m serverMaker) seePorts(ctx context.Context, one *Server, obj sites.Object) error {
	open := slices.ContainsFunc(one.Spec.Ports, func(p PortUse) bool { return m.overdue(p, obj) })
	if !open || len(one.Spec.Waiting) > 0 {
		return nil
	}
	all, err := m.networks.Interfaces(ctx, one.ID)
	if err != nil {
		return err
	}
	has := map[ident.TopID]bool{}
	for _, i := range all[one.ID] {
		has[i.Port] = showsMAC(obj, i.MAC)
	}
	for i, p := range one.Spec.Ports {
		if m.overdue(p, obj) && has[p.ID] {
			one.Spec.Ports[i].Pending = time.Time{}
		}
	}
	one.Spec.Ports = slices.DeleteFunc(one.Spec.Ports, func(p PortUse) bool { return m.overdue(p, obj) })
	return nil
}

func (m serverMaker) overdue(p PortUse, obj sites.Object) bool {
	return !p.Pending.IsZero() && obj.Began.Sub(p.Pending) > pendingFor
}

func showsMAC(obj sites.Object, mac string) bool {
	networks, _ := obj.Body["addresses"].(map[string]any)
	for _, list := range networks {
		for _, v := range asList(list) {
			if a, ok := v.(map[string]any); ok && strings.EqualFold(text(a["OS-EXT-IPS-MAC:mac_addr"]), mac) {
				return true
			}
		}
	}
	return false
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

// seeSize ends a resize that the site has ended: confirmed by itself, or taken back after an error.
func seeSize(one *Server, obj sites.Object) {
	old := one.Spec.OldFlavor
	if old == nil || one.TaskState != "" || slices.Contains([]string{"RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE"}, one.Status) {
		return
	}
	flavor, ok := obj.Body["flavor"].(map[string]any)
	if !ok {
		return
	}
	cores, ok1 := number(flavor["vcpus"])
	ram, ok2 := number(flavor["ram"])
	disk, ok3 := number(flavor["disk"])
	if !ok1 || !ok2 || !ok3 {
		return // a microversion before 2.47 shows an id only
	}
	if cores == old.Size.VCPUs && ram == old.Size.RAM && disk == old.Size.Disk {
		one.goBack()
		return
	}
	one.Spec.OldFlavor = nil
}

// goBack gives the server its former flavor again.
func (s *Server) goBack() {
	old := s.Spec.OldFlavor
	if old == nil {
		return
	}
	s.FlavorID, s.Spec.Size, s.Spec.FlavorName, s.Spec.FlavorSpecs, s.Spec.OldFlavor = old.ID, old.Size, old.Name, old.Specs, nil
}
