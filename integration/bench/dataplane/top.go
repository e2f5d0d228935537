package dataplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/relay"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// top hands the desired state out to the agents of a site as Top and relays do, from this process.
type top struct {
	authority *mtls.Authority
	feed      *relay.Feed
	address   string
	site      string

	mu    sync.Mutex // guards the fields below
	hosts map[string]*told
	moved chan struct{} // closed at each change of the fields above
	ended error         // of the server
}

// told is what a host has said.
type told struct {
	applied uint64
}

// serveTop serves at a site's node until ctx ends. Whoever calls it waits for what ends with done.
func serveTop(ctx context.Context, bed *hosts.Bed, done *sync.WaitGroup) (*top, error) {
	t := &top{site: bed.Site(1).Name, address: netip.AddrPortFrom(bed.SiteAddr(1), 6655).String(), hosts: map[string]*told{}, moved: make(chan struct{})}
	t.feed = relay.NewFeed(ident.NewUUID(), 0, t.hear)
	var err error
	if t.authority, err = mtls.NewAuthority(mtls.DefaultDomain, time.Now); err != nil {
		return nil, err
	}
	files, err := t.identify(filepath.Join(bed.Dir, "top"), mtls.Identity{Role: mtls.Top, Name: "top"})
	if err != nil {
		return nil, err
	}
	credentials, err := mtls.Load(files)
	if err != nil {
		return nil, err
	}
	var l net.Listener
	if l, err = bed.Site(1).Listen(ctx, "tcp", t.address); err != nil {
		return nil, err
	}
	server, err := relay.New(relay.Config{Source: t.feed, Site: t.site, Credentials: credentials, Listener: l})
	if err != nil {
		return nil, err
	}
	done.Go(func() {
		err := server.Run(ctx)
		t.update(func() { t.ended = fmt.Errorf("the server has ended: %w", err) })
	})
	return t, nil
}

func (t *top) identify(dir string, id mtls.Identity) (mtls.Config, error) {
	return t.authority.Issue(dir, id, 24*time.Hour)
}

// update changes what is shared, and wakes whoever waits for it.
func (t *top) update(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	close(t.moved)
	t.moved = make(chan struct{})
}

// hear takes what a host says.
func (t *top) hear(m *api.FromAgent) {
	t.update(func() {
		h := t.hosts[m.Host]
		if h == nil || m.GetSubscribe() != nil {
			h = &told{}
			t.hosts[m.Host] = h
		}
		if a := m.GetApplied(); a != nil {
			h.applied = a.Revision
		}
	})
}

// await waits until a condition on what a host has said holds.
func (t *top) await(ctx context.Context, host, what string, cond func(*told) bool) error {
	for {
		t.mu.Lock()
		h, moved, ended := t.hosts[host], t.moved, t.ended
		done := h != nil && cond(h)
		t.mu.Unlock()
		if done || ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s at %s: %w", what, host, ctx.Err())
		case <-moved:
		}
	}
}

// applied waits until a host carries a revision out.
func (t *top) applied(ctx context.Context, host string, revision uint64) error {
	return t.await(ctx, host, fmt.Sprintf("revision %d", revision), func(h *told) bool { return h.applied >= revision })
}
