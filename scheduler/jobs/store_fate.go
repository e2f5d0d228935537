package jobs

import (
	"fmt"
	"strings"

	"github.com/headwater-cloud/headwater/dbschema"
)

// live are the states of jobs that have not ended.
func live() []State { return []State{Waiting, Scheduled, Available, Running} }

// Busy reports whether a job that has not ended is in a resource's line, or names it by the first member, "id", of its arguments.
func Busy(tx dbschema.Tx, resource string) (bool, error) {
	if strings.ContainsAny(resource, `%_\"`) {
		return false, fmt.Errorf("resource %q: not an id", resource)
	}
	// The line first, which has an index: with a site down, thousands of rows have a job there.
	for _, where := range []struct{ sql, arg string }{{"resource_id = ?", resource}, {"args LIKE ?", `{"id":"` + resource + `"%`}} {
		var n int64
		if err := tx.Gorm().Model(&dbschema.Job{}).Where("state IN ?", live()).Where(where.sql, where.arg).Count(&n).Error; err != nil {
			return false, fmt.Errorf("look for jobs of %s: %w", resource, err)
		}
		if n > 0 {
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
