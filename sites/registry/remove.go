package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Remover knows what Top holds at a site. All three run in the transaction that
// changes the site.
type Remover interface {
	// Holdings counts what Top holds at the site, by kind.
	Holdings(tx dbschema.Tx, site ident.SiteID) (map[sites.Kind]int, error)
	// Forget drops Top's records of what it holds there; the resources stay as they are.
	Forget(ctx context.Context, tx dbschema.Tx, site ident.SiteID) error
	// Purge starts the durable deletion of all that Top holds there. What carries it out ends with Registry.Drop.
	Purge(ctx context.Context, tx dbschema.Tx, site ident.SiteID) error
}

// Fate says what becomes of what Top holds at a site that is removed.
type Fate string

// The fates. FateNone is for a site that holds nothing.
const (
	FateNone  Fate = ""
	FateKeep  Fate = "keep"  // the resources stay at the site; Top forgets them
	FatePurge Fate = "purge" // the resources are deleted at the site first
)

// Remove takes a site out. It returns true when the site is gone, false when the
// purge has begun: the site is then in state removing until it has ended.
//
// Without a fate it returns fault.Conflict with the counts when Top holds
// something there. FateKeep needs no answer of the site; otherwise the projects
// that Top made there are deleted, so a site that does not answer is fault.Unavailable.
func (r *Registry) Remove(ctx context.Context, name ident.SiteID, fate Fate) (bool, error) {
	purging := false
	err := r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		purging = false
		if _, err := r.store.must(tx.Gorm(), name); err != nil {
			return err
		}
		held, err := r.cfg.Remover.Holdings(tx, name)
		if err != nil {
			return err
		}
		if total(held) > 0 && fate == FateNone {
			return fault.New(fault.Conflict, "sites/registry.Remove",
				"site %s holds %s: say whether to keep them there (keep) or to delete them (purge)", name, counts(held))
		}
		tx.AfterCommit(r.Invalidate)
		if fate == FateKeep {
			if err := r.cfg.Remover.Forget(ctx, tx, name); err != nil {
				return err
			}
			return r.store.remove(tx, name)
		}
		if total(held) > 0 {
			purging = true
			if err := r.cfg.Remover.Purge(ctx, tx, name); err != nil {
				return err
			}
		}
		return r.store.change(tx, name, r.stamp(), map[string]any{"state": string(Removing), "enabled": false})
	})
	switch {
	case err != nil:
		return false, err
	case purging:
		r.log.InfoContext(ctx, "site purge begun", "site", name)
		return false, nil
	case fate == FateKeep:
		r.gone(ctx, name)
		return true, nil
	}
	return true, r.Drop(ctx, name)
}

// Removing reports whether a site is there and being removed, as the database says.
func (r *Registry) Removing(ctx context.Context, name ident.SiteID) (bool, error) {
	row, found, err := r.store.row(r.cfg.DB.Read(ctx), string(name))
	return found && State(row.State) == Removing, err
}

// Holdings counts what Top holds at a site, by kind.
func (r *Registry) Holdings(ctx context.Context, name ident.SiteID) (map[sites.Kind]int, error) {
	var held map[sites.Kind]int
	err := r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		var err error
		held, err = r.cfg.Remover.Holdings(tx, name)
		return err
	})
	return held, err
}

// Drop ends the removal of a site that holds nothing any more: the projects that
// Top made there go, then the site. It may be repeated. It returns
// fault.Conflict when Top still holds something there.
func (r *Registry) Drop(ctx context.Context, name ident.SiteID) error {
	rows, err := r.store.projects(ctx, name)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := r.ReleaseProject(ctx, name, row.ProjectID); err != nil {
			return fmt.Errorf("remove site %s: %w", name, err)
		}
	}
	err = r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		held, err := r.cfg.Remover.Holdings(tx, name)
		if err != nil {
			return err
		}
		if total(held) > 0 {
			return fault.New(fault.Conflict, "sites/registry.Drop", "site %s still holds %s", name, counts(held))
		}
		if err := r.cfg.Remover.Forget(ctx, tx, name); err != nil {
			return err
		}
		tx.AfterCommit(r.Invalidate)
		return r.store.remove(tx, name)
	})
	if err == nil {
		r.gone(ctx, name)
	}
	return err
}

func (r *Registry) gone(ctx context.Context, name ident.SiteID) {
	r.drop(name, "")
	r.log.InfoContext(ctx, "site removed", "site", name)
}

func total(held map[sites.Kind]int) int {
	n := 0
	for _, c := range held {
		n += c
	}
	return n
}

// counts spells what a site holds: "3 server, 1 volume".
func counts(held map[sites.Kind]int) string {
	var parts []string
	for kind, n := range held {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", kind, n))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
