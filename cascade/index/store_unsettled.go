package index

import (
	"context"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// unsettled is the condition of the index resources_unsettled (migration 0012), word by word: else it is not used.
const unsettled = "(state IN ('creating', 'deleting') OR state = 'live' AND (verb_no > verb_acked_no OR task_state <> '' OR " +
	"status IN ('BUILD', 'queued', 'saving', 'creating', 'downloading', 'uploading', 'attaching', 'detaching', 'extending', 'retyping', " +
	"'backing-up', 'restoring-backup', 'managing', 'reserved', 'updating')))"

// Unsettled returns the ids of at most limit rows that something is still to become of and that nobody has changed
// since before, the oldest first, beginning after the row that the last page ended with (zero for the first page).
func (s *Store) Unsettled(ctx context.Context, before time.Time, after Place, limit int) ([]Place, error) {
	q := s.db.Read(ctx).Table("resources").Select("id", "updated_at").Where(unsettled).Where("updated_at < ?", Stamp(before))
	if after.ID != "" {
		q = q.Where("(updated_at > ? OR updated_at = ? AND id > ?)", Stamp(after.UpdatedAt), Stamp(after.UpdatedAt), string(after.ID))
	}
	var out []Place
	if err := q.Order("updated_at, id").Limit(limit).Find(&out).Error; err != nil {
		return nil, fmt.Errorf("read what has not settled: %w", err)
	}
	return out, nil
}

// Place is where a row stands in the order of Unsettled.
type Place struct {
	ID        ident.TopID
	UpdatedAt time.Time
}
