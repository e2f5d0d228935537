// Package audit records who did what, to what, and how it ended. A verb that
// Top records writes its event in the same transaction, so that no accepted change lacks one.
package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Event is one entry.
type Event struct {
	ID        string
	At        time.Time
	RequestID string
	UserID    string
	UserName  string
	ProjectID string
	Remote    string
	Action    string // "server.create", "site.add", "identity.user.delete"
	Target    string // id or name of what was acted on
	Site      ident.SiteID
	Outcome   string // "accepted", "done", or the fault's kind
	Detail    string
}

// Store appends and reads events.
type Store struct {
	db  *dbschema.DB
	now func() time.Time
}

// NewStore returns a Store over db.
func NewStore(db *dbschema.DB, now func() time.Time) *Store { return &Store{db: db, now: now} }

// By returns an event of the caller, to be completed.
func By(c sites.Caller, action, target string) Event {
	return Event{
		RequestID: c.RequestID, UserID: c.UserID, UserName: c.UserName, ProjectID: c.ProjectID, Remote: c.RemoteAddr,
		Action: action, Target: target, Site: c.Pin, Outcome: "accepted",
	}
}

// Record appends an event within a transaction; ID and At are set here.
func (s *Store) Record(tx dbschema.Tx, e Event) error {
	row := dbschema.AuditEvent{
		ID: ident.NewUUID(), At: s.now().UTC().Truncate(time.Microsecond), RequestID: e.RequestID, UserID: e.UserID, UserName: e.UserName,
		ProjectID: e.ProjectID, Remote: e.Remote, Action: e.Action, Target: e.Target, Site: string(e.Site), Outcome: e.Outcome, Detail: e.Detail,
	}
	if err := tx.Gorm().Create(&row).Error; err != nil {
		return fmt.Errorf("record audit event: %w", err)
	}
	return nil
}

// Append records an event in a transaction of its own.
func (s *Store) Append(ctx context.Context, e Event) error {
	return s.db.Write(ctx, func(tx dbschema.Tx) error { return s.Record(tx, e) })
}

// Filter selects events; zero members select all.
type Filter struct {
	ProjectID, UserID, Action, Target, RequestID string
	Since, Until                                 time.Time
	Before                                       string // id of the last event of the previous page
	Limit                                        int    // 0 means 100
}

// List returns events, newest first.
func (s *Store) List(ctx context.Context, f Filter) ([]Event, error) {
	q := s.db.Read(ctx).Order("at DESC, id DESC").Limit(100)
	if f.Limit > 0 {
		q = q.Limit(f.Limit)
	}
	for column, value := range map[string]string{
		"project_id": f.ProjectID, "user_id": f.UserID, "action": f.Action, "target": f.Target, "request_id": f.RequestID,
	} {
		if value != "" {
			q = q.Where(column+" = ?", value)
		}
	}
	if !f.Since.IsZero() {
		q = q.Where("at >= ?", f.Since.UTC())
	}
	if !f.Until.IsZero() {
		q = q.Where("at < ?", f.Until.UTC())
	}
	if f.Before != "" {
		last := s.db.Read(ctx).Model(&dbschema.AuditEvent{}).Select("at").Where("id = ?", f.Before)
		q = q.Where("at < (?) OR (at = (?) AND id < ?)", last, last, f.Before)
	}
	var rows []dbschema.AuditEvent
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	out := make([]Event, len(rows))
	for i, r := range rows {
		out[i] = Event{
			ID: r.ID, At: r.At.UTC(), RequestID: r.RequestID, UserID: r.UserID, UserName: r.UserName, ProjectID: r.ProjectID,
			Remote: r.Remote, Action: r.Action, Target: r.Target, Site: ident.SiteID(r.Site), Outcome: r.Outcome, Detail: r.Detail,
		}
	}
	return out, nil
}

// Expire removes events older than keep and returns how many.
func (s *Store) Expire(ctx context.Context, keep time.Duration) (int64, error) {
	var n int64
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		done := tx.Gorm().Where("at < ?", s.now().UTC().Add(-keep)).Delete(&dbschema.AuditEvent{})
		n = done.RowsAffected
		return done.Error
	})
	if err != nil {
		return 0, fmt.Errorf("expire audit events: %w", err)
	}
	return n, nil
}
