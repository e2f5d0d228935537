package registry

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
)

// Rotation is what Rotate did.
type Rotation struct {
	Key      string // the id of the key that now seals everything
	Sites    int    // accounts of sites that were sealed again
	Projects int    // accounts of projects
}

// Rotate seals every credential with the newest key, and with fresh makes that
// key first. It may be interrupted and repeated (without fresh): each row is
// one transaction, and rows that carry the newest key are left alone.
//
// Older keys stay in the file: backups of the database need them. With several
// replicas that have copies of the file, the new key must be in all copies before this is run without fresh.
func (r *Registry) Rotate(ctx context.Context, fresh bool) (Rotation, error) {
	if fresh {
		if _, err := r.cfg.Keys.Add(); err != nil {
			return Rotation{}, err
		}
	} else if err := r.cfg.Keys.reload(); err != nil {
		return Rotation{}, err
	}
	done := Rotation{Key: r.cfg.Keys.Primary()}
	for {
		n, err := r.resealSite(ctx, done.Key)
		if err != nil {
			return done, err
		}
		if !n {
			break
		}
		done.Sites++
	}
	for {
		n, err := r.resealProject(ctx, done.Key)
		if err != nil {
			return done, err
		}
		if !n {
			break
		}
		done.Projects++
	}
	r.log.InfoContext(ctx, "credentials sealed again", "key", done.Key, "sites", done.Sites, "projects", done.Projects)
	return done, nil
}

// resealSite seals one site's account with the newest key and reports whether there was one to do.
func (r *Registry) resealSite(ctx context.Context, key string) (bool, error) {
	row, found, err := r.store.sealedSite(ctx, key)
	if err != nil || !found {
		return false, err
	}
	use := siteUse(row.Name)
	id, box, err := r.reseal(row.KeyID, row.Credential, use)
	if err != nil {
		return false, err
	}
	return true, r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		return r.store.swapSite(tx, row, id, box)
	})
}

func (r *Registry) resealProject(ctx context.Context, key string) (bool, error) {
	row, found, err := r.store.sealedProject(ctx, key)
	if err != nil || !found {
		return false, err
	}
	id, box, err := r.reseal(row.KeyID, row.Credential, projectUse(row.Site, row.ProjectID))
	if err != nil {
		return false, err
	}
	return true, r.cfg.DB.Write(ctx, func(tx dbschema.Tx) error {
		return r.store.swapProject(tx, row, id, box)
	})
}

func (r *Registry) reseal(key string, box []byte, use string) (string, []byte, error) {
	plain, err := r.cfg.Keys.Open(key, box, use)
	if err != nil {
		return "", nil, fmt.Errorf("seal again: %w", err)
	}
	return r.cfg.Keys.Seal(plain, use)
}
