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

	"github.com/headwater-cloud/headwater/sites/ident"
)

// proof is a tenant's first minute with Top, over HTTP as any client does it:
// sign in, upload an image, make a network, boot a server on a chosen site and see it run.
type proof struct {
	url      string
	password ident.Secret
	out      io.Writer
	token    string
}

// The proof's patience: with each step, and between looks.
const (
	proofLimit = 60 * time.Second
	proofPoll  = 100 * time.Millisecond
)

func (p *proof) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	if err := p.signIn(ctx); err != nil {
		return err
	}
	flavor, err := p.flavor(ctx)
	if err != nil {
		return err
	}
	image, err := p.image(ctx)
	if err != nil {
		return err
	}
	network, err := p.network(ctx)
	if err != nil {
		return err
	}
	server, err := p.boot(ctx, flavor, image, network)
	if err != nil {
		return err
	}
	return p.active(ctx, server)
}

// say prints one line of progress.
func (p *proof) say(format string, args ...any) {
	fmt.Fprintf(p.out, "demo: "+format+"\n", args...)
}

// call makes one request and decodes the answer; other statuses than 2xx are errors with the body.
func (p *proof) call(ctx context.Context, method, path, kind string, body, out any) (http.Header, error) {
	var data io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		data = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		data = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, data)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("X-Auth-Token", p.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s answered %s: %s", method, path, resp.Status, text)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return resp.Header, nil
}

const jsonType = "application/json"

type object = map[string]any

// signIn also waits for the listener.
func (p *proof) signIn(ctx context.Context) error {
	domain := object{"id": "default"}
	body := object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{"name": "demo", "domain": domain, "password": p.password.Reveal()}}},
		"scope":    object{"project": object{"name": "demo", "domain": domain}},
	}}
	head, err := p.call(ctx, "POST", "/identity/v3/auth/tokens", jsonType, body, nil)
	if err != nil {
		return err
	}
	p.token = head.Get("X-Subject-Token")
	p.say("signed in as demo")
	return nil
}

// flavor waits until the sites' flavors were taken over.
func (p *proof) flavor(ctx context.Context) (string, error) {
	for {
		var got struct{ Flavors []struct{ ID, Name string } }
		if _, err := p.call(ctx, "GET", "/compute/v2.1/flavors", jsonType, nil, &got); err != nil {
			return "", err
		}
		for _, f := range got.Flavors {
			if f.Name == "m1.tiny" {
				return f.ID, nil
			}
		}
		if err := pause(ctx, "the sites' flavors to appear"); err != nil {
			return "", err
		}
	}
}

func pause(ctx context.Context, what string) error {
	t := time.NewTimer(proofPoll)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", what, ctx.Err())
	case <-t.C:
		return nil
	}
}

func (p *proof) image(ctx context.Context) (string, error) {
	var made struct{ ID string }
	_, err := p.call(ctx, "POST", "/image/v2/images", jsonType, object{"name": "demo-image", "disk_format": "raw", "container_format": "bare"}, &made)
	if err != nil {
		return "", err
	}
	data := []byte(strings.Repeat("headwater", 1<<16))
	if _, err := p.call(ctx, "PUT", "/image/v2/images/"+made.ID+"/file", "application/octet-stream", data, nil); err != nil {
		return "", err
	}
	p.say("uploaded image demo-image, %d bytes, once", len(data))
	return made.ID, nil
}

// network makes the network of the proof's server and one more, which stays unplaced until somebody uses it.
func (p *proof) network(ctx context.Context) (string, error) {
	if _, err := p.oneNetwork(ctx, "west-net", "10.43.0.0/24"); err != nil {
		return "", err
	}
	return p.oneNetwork(ctx, "demo-net", "10.42.0.0/24")
}

func (p *proof) oneNetwork(ctx context.Context, name, cidr string) (string, error) {
	var net struct{ Network struct{ ID string } }
	if _, err := p.call(ctx, "POST", "/network/v2.0/networks", jsonType, object{"network": object{"name": name}}, &net); err != nil {
		return "", err
	}
	subnet := object{"subnet": object{"name": name + "-v4", "network_id": net.Network.ID, "ip_version": 4, "cidr": cidr}}
	_, err := p.call(ctx, "POST", "/network/v2.0/subnets", jsonType, subnet, nil)
	p.say("made network %s %s", name, cidr)
	return net.Network.ID, err
}

func (p *proof) boot(ctx context.Context, flavor, image, network string) (string, error) {
	var made struct{ Server struct{ ID string } }
	_, err := p.call(ctx, "POST", "/compute/v2.1/servers", jsonType, object{"server": object{
		"name": "demo-server", "flavorRef": flavor, "imageRef": image, "availability_zone": "east", "networks": []object{{"uuid": network}},
	}}, &made)
	if err != nil {
		return "", err
	}
	p.say("asked for server demo-server at site east: %s", made.Server.ID)
	return made.Server.ID, nil
}

func (p *proof) active(ctx context.Context, id string) error {
	began := time.Now()
	for {
		var got struct {
			Server struct {
				Status    string
				Fault     struct{ Message string }
				Addresses map[string][]struct{ Addr string }
			}
		}
		if _, err := p.call(ctx, "GET", "/compute/v2.1/servers/"+id, jsonType, nil, &got); err != nil {
			return err
		}
		switch got.Server.Status {
		case "ACTIVE":
			p.say("server demo-server is ACTIVE after %.1f s, address %v", time.Since(began).Seconds(), got.Server.Addresses)
			return nil
		case "ERROR":
			return fmt.Errorf("server %s ended in ERROR: %s", id, got.Server.Fault.Message)
		}
		if err := pause(ctx, "server "+id+" to be ACTIVE"); err != nil {
			return err
		}
	}
}
