package jobs

import (
	"fmt"
	"strings"

	"github.com/headwater-cloud/headwater/dbschema"
)

// live are the states of jobs that have not ended: the condition of the index jobs_about (migration 0014), word by word, else it is not used.
const live = "state IN ('waiting', 'scheduled', 'available', 'running')"

// aboutLength is how much of the arguments jobs_about holds: the first member, when that is an "id" and a UUID.
const aboutLength = 44

// Busy reports whether a job that has not ended is in a resource's line, or names it by the first member, "id", of its arguments.
func Busy(tx dbschema.Tx, resource string) (bool, error) {
	if strings.ContainsAny(resource, `%_\"`) {
		return false, fmt.Errorf("resource %q: not an id", resource)
	}
	type look struct{ sql, arg string }
	member := `{"id":"` + resource + `"`
	named := look{"substr(args, 1, 44) = ?", member}
	if len(member) != aboutLength {
		named = look{"args LIKE ?", member + "%"} // no UUID: rare
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
