package sitetest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// probe asserts that the capability vectors of both accounts are plausible.
func (s *suite) probe(t *testing.T) {
	c := s.caps
	for _, service := range []sites.Service{sites.Identity, sites.Compute, sites.ImageService, sites.NetworkSvc} {
		if c.Services[service].URL == "" || c.Services[service].Version == "" {
			t.Errorf("service %s is %+v, want a URL and a version", service, c.Services[service])
		}
	}
	if c.Services[sites.Compute].MaxMicroversion == "" || c.Services[sites.Compute].MinMicroversion == "" {
		t.Errorf("compute's window is %+v", c.Services[sites.Compute])
	}
	if len(c.Zones[sites.Compute]) == 0 || slices.Contains(c.Zones[sites.Compute], "internal") {
		t.Errorf("compute's zones are %v", c.Zones[sites.Compute])
	}
	for _, f := range c.Flavors {
		if f.ID == "" || f.Name == "" || f.VCPUs < 1 || f.RAM < 1 {
			t.Errorf("flavor %+v is not plausible", f)
		}
	}
	if len(c.Flavors) == 0 || len(c.ExternalNetworks) == 0 || c.ExternalNetworks[0].Name == "" {
		t.Errorf("%d flavors, external networks %+v; want some of each", len(c.Flavors), c.ExternalNetworks)
	}
	for _, alias := range []string{"standard-attr-description", "security-group", "router", "external-net"} {
		if !c.HasExtension(alias) {
			t.Errorf("the network service has no extension %s", alias)
		}
	}
	if left, ok := c.Quota[sites.Compute]["instances"]; !ok || left == 0 {
		t.Errorf("remaining instances are %d (%v), want room", left, ok)
	}
	if left, ok := c.Quota[sites.NetworkSvc]["network"]; !ok || left == 0 {
		t.Errorf("remaining networks are %d (%v), want room", left, ok)
	}
	if c.Admin || c.AdminReason == "" || c.Capacity.Known {
		t.Errorf("an ordinary account is administrator: %v (%q), and knows the capacity: %v", c.Admin, c.AdminReason, c.Capacity.Known)
	}
	if time.Since(c.ProbedAt).Abs() > time.Hour || c.ClockSkew.Abs() > time.Hour {
		t.Errorf("probed at %v, clock skew %v", c.ProbedAt, c.ClockSkew)
	}
	s.probeAsAdmin(t)
}

func (s *suite) probeAsAdmin(t *testing.T) {
	if s.admin == nil {
		return
	}
	c, err := s.admin.Probe(t.Context())
	if err != nil {
		t.Fatalf("probe as administrator: %v", err)
	}
	if !c.Admin || c.AdminReason != "" {
		t.Errorf("the administrator is none: %q", c.AdminReason)
	}
	if !c.Capacity.Known || c.Capacity.Hosts < 1 || c.Capacity.VCPUs < 1 || c.Capacity.RAM < 1 {
		t.Errorf("capacity is %+v, want the sum of some hosts", c.Capacity)
	}
}

func (s *suite) account(t *testing.T) {
	who, err := s.member.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if who.UserID == "" || who.ProjectID == "" || who.ProjectName == "" || who.DomainID == "" || len(who.Roles) == 0 || !who.ExpiresAt.After(time.Now()) {
		t.Errorf("the account is %+v, want it whole", who)
	}
	if slices.Contains(who.Roles, "admin") {
		t.Errorf("the member's roles are %v: not an ordinary account", who.Roles)
	}
}

// paging lists more resources than a page holds, in several ways of paging.
func (s *suite) paging(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind sites.Kind
		body sites.Body
	}{
		{sites.Network, sites.Body{"name": s.prefix}},
		{sites.Keypair, sites.Body{"public_key": publicKey}},
		{sites.ServerGroup, sites.Body{"policy": "affinity"}},
		{sites.Image, sites.Body{"name": s.prefix, "disk_format": "raw", "container_format": "bare"}},
		{sites.Volume, sites.Body{"name": s.prefix, "size": 1}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			s.without(t, tt.kind)
			var ids []ident.BottomID
			for range 3 {
				made, _ := s.create(t, tt.kind, tt.body)
				if tt.kind == sites.Volume {
					s.until(t, tt.kind, made.ID, "available")
				}
				ids = append(ids, made.ID)
			}
			for _, size := range []int{1, 2, 3, 0} {
				all := list(t, s.member, tt.kind, sites.Query{PageSize: size})
				for _, id := range ids {
					if n := with(all, id); n != 1 {
						t.Errorf("pages of %d: %s is listed %d times, want once", size, id, n)
					}
				}
			}
			stop := errors.New("enough")
			told := 0
			err := s.member.List(t.Context(), tt.kind, sites.Query{PageSize: 1}, func(sites.Object) error {
				told++
				return stop
			})
			if !errors.Is(err, stop) || told != 1 {
				t.Errorf("a listing that is stopped: %v after %d, want the caller's own error after 1", err, told)
			}
		})
	}
}

// changes asserts that the filters by which inventory follows a site tell of a
// change, leave out what is older, and are known only where they are (server has its own test).
func (s *suite) changes(t *testing.T) {
	t.Parallel()
	t.Run("network", func(t *testing.T) {
		old, _ := s.create(t, sites.Network, sites.Body{"name": s.prefix})
		since := s.nextSecond(t, old, "updated_at")
		made, _ := s.create(t, sites.Network, sites.Body{"name": s.prefix})
		params, filtered := s.caps.ChangedSince(sites.Network, since)
		got := list(t, s.member, sites.Network, sites.Query{Params: params})
		if with(got, made.ID) != 1 || filtered && with(got, old.ID) != 0 {
			t.Errorf("%v: the new one %d times, the old one %d times; want 1 and, when filtered, 0", params, with(got, made.ID), with(got, old.ID))
		}
	})
	for _, kind := range []sites.Kind{sites.Subnet, sites.Port, sites.Router, sites.FloatingIP, sites.SecurityGroup, sites.Snapshot} {
		t.Run(string(kind), func(t *testing.T) {
			s.without(t, kind)
			params, filtered := s.caps.ChangedSince(kind, time.Now().Add(time.Hour))
			if got := list(t, s.member, kind, sites.Query{Params: params}); filtered && len(got) > 0 {
				t.Errorf("%v, an hour from now, tells of %d", params, len(got))
			}
		})
	}
	t.Run("volume", func(t *testing.T) {
		s.without(t, sites.Volume)
		made, _ := s.create(t, sites.Volume, sites.Body{"name": s.prefix, "size": 1})
		shown := s.until(t, sites.Volume, made.ID, "available")
		created, err := time.Parse("2006-01-02T15:04:05", clip(shown.Text("created_at")))
		if err != nil {
			t.Fatalf("created_at: %v", err)
		}
		params, _ := s.caps.ChangedSince(sites.Volume, created)
		if got := list(t, s.member, sites.Volume, sites.Query{Params: params}); with(got, made.ID) != 1 {
			t.Errorf("%v does not tell of the volume", params)
		}
		params, filtered := s.caps.ChangedSince(sites.Volume, time.Now().Add(time.Hour))
		if got := list(t, s.member, sites.Volume, sites.Query{Params: params}); filtered && len(got) != 0 {
			t.Errorf("%v tells of %d volumes, want none", params, len(got))
		}
	})
}

// clip cuts a time to the second, without a zone.
func clip(text string) string {
	if len(text) > 19 {
		return text[:19]
	}
	return text
}

// nextSecond waits, by the site's own clock in Date headers, until a second after a resource's time has begun, and returns it.
func (s *suite) nextSecond(t *testing.T, o sites.Object, key string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05", clip(o.Text(key)))
	if err != nil {
		t.Fatalf("%s of %s is %q: %v", key, o.ID, o.Text(key), err)
	}
	next := at.Add(time.Second)
	err = s.poll(t.Context(), func() (bool, error) {
		reply, err := s.member.Do(t.Context(), sites.Request{Service: sites.NetworkSvc, Method: http.MethodGet, Path: "networks/" + string(o.ID)})
		if err != nil {
			return false, err
		}
		date, err := http.ParseTime(reply.Header.Get("Date"))
		return !date.Before(next), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// refusals asserts the kinds of the errors that the cascade acts on.
func (s *suite) refusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	nowhere := ident.BottomID(ident.NewUUID())
	for kind, reason := range map[sites.Kind]bool{sites.Server: true, sites.Network: true, sites.Image: true, sites.Volume: true, sites.Keypair: true, sites.Flavor: true} {
		if s.target.Without[kind] == "" && reason {
			_, err := s.member.Show(ctx, kind, nowhere)
			want(t, "show a "+string(kind)+" that is not there", err, fault.NotFound)
		}
	}
	_, err := s.member.Show(ctx, sites.Server, "../servers")
	want(t, "show an id that is a path", err, fault.NotFound)
	_, err = s.member.FindMarked(ctx, sites.Flavor, ident.NewTopID())
	want(t, "find a kind that carries no marker", err, fault.BadRequest)
	_, err = s.member.Create(ctx, sites.RouterInterface, sites.Body{}, sites.CreateOptions{})
	want(t, "create a kind that no site holds", err, fault.BadRequest)

	network, subnet := s.subnet(t)
	port, _ := s.create(t, sites.Port, sites.Body{"network_id": network, "fixed_ips": []any{map[string]any{"subnet_id": subnet, "ip_address": "10.87.0.9"}}})
	want(t, "delete a network in use", s.member.Delete(ctx, sites.Network, ident.BottomID(network)), fault.Conflict)
	want(t, "delete a subnet in use", s.member.Delete(ctx, sites.Subnet, ident.BottomID(subnet)), fault.Conflict)
	_, err = s.member.Create(ctx, sites.Port, sites.Body{"network_id": network, "fixed_ips": []any{map[string]any{"subnet_id": subnet, "ip_address": "10.87.0.9"}}},
		sites.CreateOptions{Marker: s.marker(sites.Port)})
	want(t, "take an address that "+string(port.ID)+" has", err, fault.Conflict)
	_, err = s.member.Create(ctx, sites.Subnet, sites.Body{"network_id": network, "cidr": "nonsense", "ip_version": 4}, sites.CreateOptions{Marker: s.marker(sites.Subnet)})
	want(t, "create a subnet of nonsense", err, fault.BadRequest)

	key, marker := s.create(t, sites.Keypair, sites.Body{"public_key": publicKey})
	_, err = s.member.Create(ctx, sites.Keypair, sites.Body{"public_key": publicKey}, sites.CreateOptions{Marker: marker})
	want(t, "create the keypair "+string(key.ID)+" again", err, fault.Conflict)
	_, err = s.member.Create(ctx, sites.Server, sites.Body{"name": s.prefix, "flavorRef": string(nowhere), "imageRef": string(nowhere), "networks": "none"},
		sites.CreateOptions{Marker: s.marker(sites.Server)})
	want(t, "boot a flavor that is not there", err, fault.BadRequest)
	_, err = s.member.Do(ctx, sites.Request{Service: sites.Compute, Method: http.MethodGet, Path: "no-such-thing"})
	want(t, "ask for a path that is not there", err, fault.NotFound)
	if s.target.Without[sites.Volume] == "" {
		_, err = s.member.Create(ctx, sites.Volume, sites.Body{"size": 1 << 20}, sites.CreateOptions{Marker: s.marker(sites.Volume)})
		want(t, "create a volume beyond the quota", err, fault.OverQuota)
		_, err = s.member.Create(ctx, sites.Volume, sites.Body{"size": "much"}, sites.CreateOptions{Marker: s.marker(sites.Volume)})
		want(t, "create a volume of nonsense", err, fault.BadRequest)
	}
	s.foreign(t)
}

// foreign asserts that what another project owns is not there for an ordinary account.
func (s *suite) foreign(t *testing.T) {
	if s.admin == nil {
		return
	}
	made, err := s.admin.Create(t.Context(), sites.Network, sites.Body{"name": s.prefix}, sites.CreateOptions{Marker: s.marker(sites.Network)})
	if err != nil {
		t.Fatalf("create a network as administrator: %v", err)
	}
	defer func() {
		if err := s.admin.Delete(t.Context(), sites.Network, made.ID); err != nil {
			t.Errorf("delete the administrator's network: %v", err)
		}
	}()
	_, err = s.member.Show(t.Context(), sites.Network, made.ID)
	want(t, "show another project's network", err, fault.NotFound)
	want(t, "delete another project's network", s.member.Delete(t.Context(), sites.Network, made.ID), fault.NotFound)
	_, err = s.member.Do(t.Context(), sites.Request{Service: sites.Compute, Method: http.MethodGet, Path: "os-hypervisors"})
	want(t, "list hypervisors as a member", err, fault.Forbidden)
	if with(list(t, s.admin, sites.Network, sites.Query{AllProjects: true}), made.ID) != 1 {
		t.Errorf("the administrator's listing lacks %s", fmt.Sprint(made.ID))
	}
}
