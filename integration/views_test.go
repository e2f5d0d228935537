package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/openstack"
)

// cloudSide is one of two clouds, Top or a region, as an ordinary user and as an administrator see it.
type cloudSide struct {
	name          string
	member, admin sites.Adaptor
	ids           map[string]string // what stands for {server}, {volume} and the like in paths
}

// viewed is one answer whose members are held against the region's.
type viewed struct {
	service sites.Service
	path    string
	minors  []int
	admin   bool
	// extra are members that Top shows besides, and lacks those that it does not: path of members, with the reason.
	extra, lacks map[string]string
}

// The microversions at which views change (nova/api/openstack/compute/rest_api_version_history.rst and
// cinder/api/openstack/rest_api_version_history.rst).
var (
	computeMinors = []int{1, 2, 3, 9, 10, 16, 19, 26, 28, 33, 35, 36, 39, 47, 50, 52, 53, 55, 57, 61, 63, 69, 71, 73, 75, 79, 83, 86, 88, 89, 90, 93}
	volumeMinors  = []int{0, 1, 2, 3, 4, 5, 8, 10, 13, 14, 21, 23, 27, 33, 36, 39, 40, 41, 45, 48, 50, 52, 53, 54, 56, 59, 61, 63, 64, 65, 68, 69, 70}
	allVolume     = upTo(70)
	noVersion     = []int{-1}
)

func upTo(n int) []int {
	out := make([]int, n+1)
	for i := range out {
		out[i] = i
	}
	return out
}

func views() []viewed {
	ours := map[string]string{"headwater:sites": "where the bytes are"}
	return []viewed{
		{service: sites.BlockStorage, path: "volumes/{volume}", minors: allVolume},
		{service: sites.BlockStorage, path: "volumes/detail?name={name}", minors: volumeMinors},
		{service: sites.BlockStorage, path: "volumes?name={name}", minors: volumeMinors},
		{service: sites.BlockStorage, path: "volumes/{volume}", minors: volumeMinors, admin: true},
		{service: sites.BlockStorage, path: "snapshots/{snapshot}", minors: volumeMinors},
		{service: sites.BlockStorage, path: "snapshots/detail?name={name}", minors: volumeMinors},
		{service: sites.BlockStorage, path: "types", minors: volumeMinors},
		{service: sites.BlockStorage, path: "types", minors: volumeMinors, admin: true},
		{service: sites.BlockStorage, path: "types/{type}", minors: volumeMinors},
		{service: sites.BlockStorage, path: "limits", minors: volumeMinors},
		{service: sites.BlockStorage, path: "os-availability-zone", minors: []int{0, 70}},
		{service: sites.Compute, path: "servers/{server}", minors: computeMinors},
		{service: sites.Compute, path: "servers/{server}", minors: computeMinors, admin: true},
		{service: sites.Compute, path: "servers/detail?name={name}", minors: computeMinors},
		{service: sites.Compute, path: "servers?name={name}", minors: computeMinors},
		{service: sites.Compute, path: "flavors/{flavor}", minors: computeMinors},
		{service: sites.Compute, path: "flavors/detail", minors: computeMinors},
		{service: sites.Compute, path: "os-keypairs", minors: computeMinors},
		{service: sites.Compute, path: "os-keypairs/{name}", minors: computeMinors},
		{service: sites.Compute, path: "limits", minors: computeMinors},
		{service: sites.Compute, path: "os-quota-sets/{project}", minors: computeMinors},
		{service: sites.Compute, path: "os-quota-sets/{project}/detail", minors: computeMinors},
		{service: sites.Compute, path: "os-availability-zone", minors: []int{1, 93}},
		{service: sites.Compute, path: "os-hypervisors/detail", minors: computeMinors, admin: true},
		{service: sites.Compute, path: "os-services", minors: computeMinors, admin: true},
		{service: sites.ImageService, path: "images/{image}", minors: noVersion, extra: ours, lacks: map[string]string{"stores": "a site's own"}},
		{service: sites.ImageService, path: "schemas/image", minors: noVersion},
		{service: sites.ImageService, path: "schemas/images", minors: noVersion},
		{service: sites.ImageService, path: "schemas/member", minors: noVersion},
		{service: sites.ImageService, path: "schemas/members", minors: noVersion},
	}
}

// freeForm are members whose own members are data, not form.
var freeForm = map[string]bool{
	"metadata": true, "addresses": true, "extra_specs": true, "volume_image_metadata": true, "properties": true, "cpu_info": true, "hosts": true,
}

// forms collects the paths of all members of an answer; the rows of a list count together.
func forms(prefix string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			path := strings.TrimPrefix(prefix+"."+key, ".")
			into[path] = true
			if !freeForm[key] || strings.HasPrefix(path, "properties") && prefix == "" {
				forms(path, inner, into)
			}
		}
	case []any:
		for _, item := range v {
			forms(prefix+"[]", item, into)
		}
	}
}

func (s *cloudSide) look(ctx context.Context, v viewed, minor int) (map[string]bool, error) {
	a := s.member
	if v.admin {
		a = s.admin
	}
	path := v.path
	for key, value := range s.ids {
		path = strings.ReplaceAll(path, "{"+key+"}", value)
	}
	req := sites.Request{Service: v.service, Method: http.MethodGet, Path: path}
	if at, query, ok := strings.Cut(path, "?"); ok {
		key, value, _ := strings.Cut(query, "=")
		req.Path, req.Query = at, map[string][]string{key: {value}}
	}
	switch {
	case minor < 0:
	case v.service == sites.Compute:
		req.Microversion = fmt.Sprintf("2.%d", minor)
	default:
		req.Microversion = fmt.Sprintf("3.%d", minor)
	}
	reply, err := a.Do(ctx, req)
	out := map[string]bool{}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.BadRequest) || fault.Is(err, fault.Forbidden) {
		out["(refused: "+fault.KindOf(err).String()+")"] = true
		return out, nil
	}
	forms("", reply.Body, out)
	return out, err
}

// Views change with microversions. Each member that a region shows at a microversion Top shows at it, and no other:
// clients and SDKs decide by the version what they read.
func TestViewsOfEachMicroversion(t *testing.T) {
	t.Parallel() // after the tests that want a region to themselves, and beside Tempest, which mostly waits
	cloud := realcloud.Need(t, "east")
	east := cloud.Region(t, "east")
	top := topproc.Start(t, topproc.Config{CallTimeout: 60 * time.Second, SettleTime: 120 * time.Second, Lease: 90 * time.Second, InventoryEvery: time.Second, DiffEvery: time.Minute})
	name := "views-" + ident.NewHexID()[:8]
	tenant := top.NewTenant(t, name, name, "member")
	top.AddSite(t, "east", "project", topproc.Account(east.AuthURL, "east", "admin", "secret"))
	below := &cloudSide{name: "east", member: adaptorOf(t, siteAccount(east, "demo")), admin: adaptorOf(t, siteAccount(east, "admin")), ids: map[string]string{"name": name}}
	above := &cloudSide{name: "Top", ids: map[string]string{"name": name, "project": tenant.ProjectID}}
	for user, into := range map[string]*sites.Adaptor{name: &above.member, "admin": &above.admin} {
		*into = adaptorOf(t, sites.Credential{AuthURL: top.URL + "/identity/v3", Region: "Global", Username: user, Password: topproc.Password,
			ProjectName: user, UserDomainID: "default", ProjectDomainID: "default"})
	}
	operator := top.Admin(t)
	t.Cleanup(func() { forget(t, operator, tenant, below.admin) })
	for _, s := range []*cloudSide{below, above} {
		s.fill(t, name)
	}
	topproc.AwaitFor(t, time.Minute, "what a poll of the region shows administrators", func(ctx context.Context) bool {
		got, err := above.look(ctx, viewed{service: sites.BlockStorage, path: "volumes/{volume}", admin: true}, 70)
		return err == nil && got["volume.os-vol-host-attr:host"]
	})
	for _, v := range views() {
		who := map[bool]string{true: "admin", false: "member"}[v.admin]
		t.Run(fmt.Sprintf("%s/%s/%s", v.service, who, strings.NewReplacer("/", "_", "?", "_").Replace(v.path)), func(t *testing.T) {
			wrong := map[string][]string{}
			for _, minor := range v.minors {
				want, err := below.look(t.Context(), v, minor)
				if err != nil {
					t.Fatalf("at %d: %v", minor, err)
				}
				got, err := above.look(t.Context(), v, minor)
				if err != nil {
					t.Fatalf("Top at %d: %v", minor, err)
				}
				for path := range got {
					if !want[path] && v.extra[last(path)] == "" {
						wrong["more: "+path] = append(wrong["more: "+path], fmt.Sprint(minor))
					}
				}
				for path := range want {
					if !got[path] && v.lacks[last(path)] == "" {
						wrong["less: "+path] = append(wrong["less: "+path], fmt.Sprint(minor))
					}
				}
			}
			for _, what := range slices.Sorted(maps.Keys(wrong)) {
				t.Errorf("Top shows %s at minor versions %s", what, strings.Join(wrong[what], " "))
			}
		})
	}
}

// forget ends the tenant at Top and waits until the region has no project for it any more.
func forget(t *testing.T, admin, tenant *topproc.Client, region sites.Adaptor) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	for _, path := range []string{"/identity/v3/users/" + tenant.UserID, "/identity/v3/projects/" + tenant.ProjectID} {
		if a, err := admin.Do(ctx, "DELETE", path, nil); err != nil || !a.OK() {
			t.Errorf("delete %s: %v %s", path, err, a.Text)
		}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		left := 0
		err := region.List(ctx, sites.Project, sites.Query{}, func(o sites.Object) error {
			if o.Text("name") == sites.MarkedName(ident.TopID(tenant.ProjectID)) {
				left++
			}
			return nil
		})
		if err == nil && left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("the region still has the project of the tenant: %v", err)
			return
		case <-tick.C:
		}
	}
}

// last is the name of a member without the path to it.
func last(path string) string { return path[strings.LastIndex(path, ".")+1:] }

func adaptorOf(t *testing.T, cred sites.Credential) sites.Adaptor {
	t.Helper()
	a, err := openstack.New(openstack.Config{Site: "any", Credential: cred, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fill makes one of each, and ends them with the test.
func (s *cloudSide) fill(t *testing.T, name string) {
	t.Helper()
	ctx := t.Context()
	create := func(kind sites.Kind, key, path string, body sites.Body) {
		t.Helper()
		req := sites.Request{Service: kind.Service(), Method: http.MethodPost, Path: path, Body: body} // without a marker: to Top that is a site's own
		reply, err := s.member.Do(ctx, req)
		if err != nil {
			t.Fatalf("%s: create a %s: %v", s.name, kind, err)
		}
		made := reply.Body
		if inner, ok := made[string(kind)].(map[string]any); ok {
			made = inner
		}
		id, _ := made["id"].(string)
		s.ids[key] = id
		t.Cleanup(func() { s.end(t, kind, ident.BottomID(id)) })
	}
	ready := func(kind sites.Kind, key, status string) {
		t.Helper()
		topproc.AwaitFor(t, 2*time.Minute, s.name+": a "+string(kind)+" that is "+status, func(ctx context.Context) bool {
			o, err := s.member.Show(ctx, kind, ident.BottomID(s.ids[key]))
			if o.Text("status") == "ERROR" || o.Text("status") == "error" {
				t.Fatalf("%s: %s is in error: %v", s.name, kind, o.Body["fault"])
			}
			return err == nil && o.Text("status") == status
		})
	}
	create(sites.Image, "image", "images", sites.Body{"name": name, "disk_format": "raw", "container_format": "bare"})
	if err := s.member.Upload(ctx, ident.BottomID(s.ids["image"]), bytes.NewReader(bytes.Repeat([]byte{1}, 1<<16)), 1<<16); err != nil {
		t.Fatal(err)
	}
	account, err := s.member.Account(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.ids["project"] = account.ProjectID
	for key, kind := range map[string]sites.Kind{"flavor": sites.Flavor, "type": sites.VolumeType} {
		err := s.member.List(ctx, kind, sites.Query{}, func(o sites.Object) error {
			if s.ids[key] == "" || o.Text("name") == "m1.tiny" {
				s.ids[key] = string(o.ID)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.member.Do(ctx, sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "os-keypairs", Microversion: "2.2", Body: sites.Body{"keypair": sites.Body{
		"name": name, "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVwLnQKvDHQhQTvB5oLSkBBhKHJDk0PcLtQ0VZ9k8gM views"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(t, sites.Keypair, ident.BottomID(name)) })
	create(sites.Volume, "volume", "volumes", sites.Body{"volume": sites.Body{"name": name, "size": 1}})
	create(sites.Server, "server", "servers", sites.Body{"server": sites.Body{"name": name, "imageRef": s.ids["image"], "flavorRef": s.ids["flavor"], "networks": "none", "key_name": name}})
	ready(sites.Volume, "volume", "available")
	create(sites.Snapshot, "snapshot", "snapshots", sites.Body{"snapshot": sites.Body{"name": name, "volume_id": s.ids["volume"]}})
	ready(sites.Snapshot, "snapshot", "available")
	ready(sites.Server, "server", "ACTIVE")
}

// end deletes something and waits until it is gone.
func (s *cloudSide) end(t *testing.T, kind sites.Kind, id ident.BottomID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute) // t's own ends before the clean-up
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.member.Delete(ctx, kind, id)
		if fault.Is(err, fault.NotFound) {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: the %s %s is still there: %v", s.name, kind, id, err)
			return
		case <-tick.C:
		}
	}
}
