package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// cloud is an OpenStack that somebody is signed in to: Headwater, an emulated
// site or a real region. All are spoken to in the same words.
type cloud struct {
	url     map[string]string // by service: compute, network, image, identity
	token   string
	project string
	user    string
	client  *http.Client
}

// account says who signs in where.
type account struct {
	authURL, region, user, password, project string
}

type object = map[string]any

// microversion is what every compute request asks for, at Top and at its peers alike.
const microversion = "compute 2.79"

func signIn(ctx context.Context, a account) (*cloud, error) {
	c := &cloud{url: map[string]string{"identity": a.authURL}, client: &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	domain := object{"id": "default"}
	var got struct {
		Token struct {
			Project struct{ ID string }
			User    struct{ ID string }
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, Region, URL string }
			}
		}
	}
	head, err := c.send(ctx, "POST", a.authURL+"/auth/tokens", object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{"name": a.user, "domain": domain, "password": a.password}}},
		"scope":    object{"project": object{"name": a.project, "domain": domain}},
	}}, &got)
	if err != nil {
		return nil, err
	}
	c.token, c.project, c.user = head.Get("X-Subject-Token"), got.Token.Project.ID, got.Token.User.ID
	for _, service := range got.Token.Catalog {
		for _, e := range service.Endpoints {
			if e.Interface == "public" && e.Region == a.region {
				c.url[service.Type] = strings.TrimRight(e.URL, "/")
			}
		}
	}
	if c.url["compute"] == "" || c.url["network"] == "" {
		return nil, fmt.Errorf("the catalog of %s has no compute or no network in region %s", a.authURL, a.region)
	}
	for service, version := range map[string]string{"network": "/v2.0", "image": "/v2"} {
		if !strings.HasSuffix(c.url[service], version) {
			c.url[service] += version
		}
	}
	return c, nil
}

// call makes one request of a service and decodes the answer into out; other statuses than 2xx are errors.
func (c *cloud) call(ctx context.Context, method, service, path string, body, out any) error {
	_, err := c.send(ctx, method, c.url[service]+path, body, out)
	return err
}

// statusError is an answer other than 2xx.
type statusError struct {
	status int
	text   string
}

// Error implements error.
func (e *statusError) Error() string { return e.text }

func notFound(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.status == http.StatusNotFound
}

func (c *cloud) send(ctx context.Context, method, url string, body, out any) (http.Header, error) {
	var data io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		data, kind = bytes.NewReader(b), "application/octet-stream"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", method, url, err)
		}
		data = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, data)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("X-Auth-Token", c.token)
	req.Header.Set("OpenStack-API-Version", microversion)
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &statusError{resp.StatusCode, fmt.Sprintf("%s %s answered %s: %.300s", method, url, resp.Status, text)}
	}
	if out != nil && len(text) > 0 {
		if err := json.Unmarshal(text, out); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, url, err)
		}
	}
	return resp.Header, nil
}

// tenant makes a project with an unlimited quota and a member, as the administrator that c is, and signs in as that member.
func (c *cloud) tenant(ctx context.Context, name, password string, a account) (*cloud, error) {
	var project struct{ Project struct{ ID string } }
	if err := c.call(ctx, "POST", "identity", "/projects", object{"project": object{"name": name, "domain_id": "default"}}, &project); err != nil {
		return nil, err
	}
	var user struct{ User struct{ ID string } }
	if err := c.call(ctx, "POST", "identity", "/users", object{"user": object{"name": name, "domain_id": "default", "password": password}}, &user); err != nil {
		return nil, err
	}
	var roles struct{ Roles []struct{ ID, Name string } }
	if err := c.call(ctx, "GET", "identity", "/roles?name=member", nil, &roles); err != nil {
		return nil, err
	}
	if len(roles.Roles) == 0 {
		return nil, errors.New("there is no role member")
	}
	id := project.Project.ID
	unlimited := object{"instances": -1, "cores": -1, "ram": -1}
	ports := object{"network": -1, "subnet": -1, "port": -1, "security_group": -1, "security_group_rule": -1}
	for _, step := range []struct {
		service, path string
		body          any
	}{
		{"identity", fmt.Sprintf("/projects/%s/users/%s/roles/%s", id, user.User.ID, roles.Roles[0].ID), nil},
		{"compute", "/os-quota-sets/" + id, object{"quota_set": unlimited}},
		{"network", "/quotas/" + id, object{"quota": ports}},
	} {
		if err := c.call(ctx, "PUT", step.service, step.path, step.body, nil); err != nil {
			return nil, err
		}
	}
	a.user, a.password, a.project = name, password, name
	return signIn(ctx, a)
}

// network makes a network with one subnet.
func (c *cloud) network(ctx context.Context, name, cidr string) (string, error) {
	var net struct{ Network struct{ ID string } }
	if err := c.call(ctx, "POST", "network", "/networks", object{"network": object{"name": name}}, &net); err != nil {
		return "", err
	}
	return net.Network.ID, c.call(ctx, "POST", "network", "/subnets", object{"subnet": object{
		"name": name, "network_id": net.Network.ID, "ip_version": 4, "cidr": cidr,
	}}, nil)
}

// image uploads a small image.
func (c *cloud) image(ctx context.Context, name string) (string, error) {
	var made struct{ ID string }
	if err := c.call(ctx, "POST", "image", "/images", object{"name": name, "disk_format": "raw", "container_format": "bare"}, &made); err != nil {
		return "", err
	}
	_, err := c.send(ctx, "PUT", c.url["image"]+"/images/"+made.ID+"/file", bytes.Repeat([]byte("headwater "), 1<<10), nil)
	return made.ID, err
}

// flavor returns the id of the flavor m1.tiny, or "" when there is none (yet).
func (c *cloud) flavor(ctx context.Context) (string, error) {
	var got struct{ Flavors []struct{ ID, Name string } }
	if err := c.call(ctx, "GET", "compute", "/flavors", nil, &got); err != nil {
		return "", err
	}
	for _, f := range got.Flavors {
		if f.Name == "m1.tiny" {
			return f.ID, nil
		}
	}
	return "", nil
}

// kit is what a server is made from.
type kit struct {
	flavor, image, network, zone string
}

func (k kit) body(name string) object {
	s := object{"name": name, "flavorRef": k.flavor, "imageRef": k.image, "networks": "none"}
	if k.network != "" {
		s["networks"] = []object{{"uuid": k.network}}
	}
	if k.zone != "" {
		s["availability_zone"] = k.zone
	}
	return object{"server": s}
}

func (c *cloud) boot(ctx context.Context, k kit, name string) (string, error) {
	var made struct{ Server struct{ ID string } }
	err := c.call(ctx, "POST", "compute", "/servers", k.body(name), &made)
	return made.Server.ID, err
}

// await polls a server until it has the status; ERROR is a failure.
func (c *cloud) await(ctx context.Context, id, status string, every time.Duration) error {
	return until(ctx, every, "server "+id+" to be "+status, func() (bool, error) {
		var got struct {
			Server struct {
				Status string
				Fault  struct{ Message string }
			}
		}
		if err := c.call(ctx, "GET", "compute", "/servers/"+id, nil, &got); err != nil {
			return false, err
		}
		if got.Server.Status == "ERROR" && status != "ERROR" {
			return false, fmt.Errorf("server %s is in ERROR: %s", id, got.Server.Fault.Message)
		}
		return got.Server.Status == status, nil
	})
}

// count returns how many of the caller's servers there are in each status.
func (c *cloud) count(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	for marker := ""; ; {
		var page struct{ Servers []struct{ ID, Status string } }
		if err := c.call(ctx, "GET", "compute", "/servers/detail?limit=1000&marker="+marker, nil, &page); err != nil {
			return nil, err
		}
		for _, s := range page.Servers {
			out[s.Status]++
			marker = s.ID
		}
		if len(page.Servers) == 0 {
			return out, nil
		}
	}
}
