package dataplane

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/ovsdb"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// marked is an interface with what its dataplane has written there.
type marked struct {
	ID          ovsdb.UUID        `ovsdb:"_uuid"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
}

// Table is Interface.
func (marked) Table() string { return "Interface" }

// awaitInterfaces watches a host's database until the interfaces of all ports have a key in their external_ids, which both contenders write once
// the flows of a port are in.
func awaitInterfaces(ctx context.Context, h *hosts.Host, ports []Port, key string) error {
	wanted := map[string]bool{}
	for _, p := range ports {
		wanted[p.IfaceID] = true
	}
	c, err := ovsdb.New(ovsdb.Config{Endpoint: h.OVSDB(), Database: "Open_vSwitch", Models: []ovsdb.Model{marked{}}}, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Run(ctx) })
	g.Go(func() error {
		defer cancel()
		return c.Await(ctx, func(v *ovsdb.View) (bool, error) {
			n := 0
			for _, i := range ovsdb.All[marked](v) {
				if wanted[i.ExternalIDs["iface-id"]] && i.ExternalIDs[key] != "" {
					n++
				}
			}
			return n == len(wanted), nil
		})
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("wait for %s of %d ports at %s: %w", key, len(ports), h.Name, err)
	}
	return nil
}
