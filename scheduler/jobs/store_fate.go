package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/dbschema"
)

// live are the states of jobs that have not ended: the condition of the index jobs_about (migration 0014), word by word, else it is not used.
const live = "state IN ('waiting', 'scheduled', 'available', 'running')"

// Busy reports whether a job that has not ended is in a resource's line, or names it by the first member, "id", of its arguments.
func Busy(tx dbschema.Tx, resource string) (bool, error) {
	if strings.ContainsAny(resource, `%_\"`) {
		return false, fmt.Errorf("resource %q: not an id", resource)
	}
	type look struct{ sql, arg string }
	named := look{about + " = ?", member(resource)}
	if len(named.arg) != aboutLength {
		named = look{"args LIKE ?", named.arg + "%"} // no UUID: rare
	}
	for _, where := range []look{{"resource_id = ?", resource}, named} {
		var ids []int64
		if err := tx.Gorm().Model(&dbschema.Job{}).Where(live).Where(where.sql, where.arg).Limit(1).Pluck("id", &ids).Error; err != nil {
			return false, fmt.Errorf("look for jobs of %s: %w", resource, err)
		}
		if len(ids) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Idle returns those of the resources that Busy is not true of, as committed: of what is no UUID, Busy tells more.
// It asks of all of them at once, and holds up no writer: with a site down, nearly all that rest there have a job that waits for it.
func (s *Store) Idle(ctx context.Context, resources []string) ([]string, error) {
	busy := map[string]bool{}
	members := make([]string, len(resources))
	for i, r := range resources {
		members[i] = member(r)
	}
	var lines, named []string
	db := s.db.Read(ctx)
	if err := db.Model(&dbschema.Job{}).Where(live).Where("resource_id IN ?", resources).Distinct().Pluck("resource_id", &lines).Error; err != nil {
		return nil, fmt.Errorf("look for jobs of %d resources: %w", len(resources), err)
	}
	if err := db.Model(&dbschema.Job{}).Where(live).Where(about+" IN ?", members).Distinct().Pluck(about, &named).Error; err != nil {
		return nil, fmt.Errorf("look for jobs about %d resources: %w", len(resources), err)
	}
	for _, r := range lines {
		busy[member(r)] = true
	}
	for _, m := range named {
		busy[m] = true
	}
	return slices.DeleteFunc(slices.Clone(resources), func(r string) bool { return busy[member(r)] }), nil
}

// about is the expression of jobs_about, and aboutLength how much it holds: the first member, when that is an "id" and a UUID.
const (
	about       = "substr(args, 1, 44)"
	aboutLength = 44
)

func member(resource string) string { return `{"id":"` + resource + `"` }

// Fruitless returns the jobs of a kind that ended in a resource's line without success, as long as they are kept, the newest first.
func Fruitless(tx dbschema.Tx, resource, kind string) ([]Record, error) {
	var rows []dbschema.Job
	err := tx.Gorm().Where("resource_id = ? AND kind = ? AND state IN ?", resource, kind, []State{Failed, Cancelled}).
		Order("id DESC").Limit(100).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the ended jobs of %s: %w", resource, err)
	}
	out := make([]Record, len(rows))
	for i, row := range rows {
		out[i] = record(row)
	}
	return out, nil
}
