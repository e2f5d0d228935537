package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Filter chooses jobs of a list. Zero fields choose all.
type Filter struct {
	States     []State
	Kind       string
	Site       string
	ResourceID string
	ProjectID  string
	Queue      string
	Before     ID  // only jobs with a smaller number: the last of the previous page
	Limit      int // 1 to 1000; 0 is 100
}

// Store shows and steers jobs, for operators.
type Store struct{ db *dbschema.DB }

// NewStore returns the store of db's jobs.
func NewStore(db *dbschema.DB) *Store { return &Store{db} }

// List returns the jobs that f chooses, the newest first.
func (s *Store) List(ctx context.Context, f Filter) ([]Record, error) {
	if f.Limit < 0 || f.Limit > 1000 {
		return nil, fault.New(fault.BadRequest, "scheduler/jobs.List", "limit %d: want 1 to 1000", f.Limit)
	}
	if f.Limit == 0 {
		f.Limit = 100
	}
	q := s.db.Read(ctx).Order("id DESC").Limit(f.Limit)
	if len(f.States) > 0 {
		q = q.Where("state IN ?", f.States)
	}
	if f.Before > 0 {
		q = q.Where("id < ?", f.Before)
	}
	for _, c := range []struct{ column, want string }{{"kind", f.Kind}, {"site", f.Site}, {"resource_id", f.ResourceID},
		{"project_id", f.ProjectID}, {"queue", f.Queue}} {
		if c.want != "" {
			q = q.Where(c.column+" = ?", c.want)
		}
	}
	var rows []dbschema.Job
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	records := make([]Record, len(rows))
	for i, row := range rows {
		records[i] = record(row)
	}
	return records, nil
}

// Show returns one job with what it waits for and what waits for it, or fault.NotFound.
func (s *Store) Show(ctx context.Context, id ID) (Record, error) {
	var row dbschema.Job
	if err := s.db.Read(ctx).Where("id = ?", id).Take(&row).Error; err != nil {
		return Record{}, notFound("scheduler/jobs.Show", id, err)
	}
	r := record(row)
	var edges []dbschema.JobEdge
	err := s.db.Read(ctx).Where("job_id = ? OR after_id = ?", id, id).Order("job_id, after_id").Find(&edges).Error
	for _, e := range edges {
		if ID(e.JobID) == id {
			r.WaitsFor = append(r.WaitsFor, ID(e.AfterID))
		} else {
			r.Blocks = append(r.Blocks, ID(e.JobID))
		}
	}
	return r, err
}

// Counts returns how many jobs stand in each state; states without jobs are in it with 0.
func (s *Store) Counts(ctx context.Context) (map[State]int64, error) {
	var rows []struct {
		State State
		N     int64
	}
	if err := s.db.Read(ctx).Raw("SELECT state, count(*) AS n FROM jobs GROUP BY state").Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	counts := map[State]int64{}
	for _, state := range States() {
		counts[state] = 0
	}
	for _, r := range rows {
		counts[r.State] = r.N
	}
	return counts, nil
}

// Cancel ends a job that does not run at once; a running one is told to stop and
// ends when its worker returns, in cancelled unless it completes or fails for good
// before. It returns fault.NotFound, or fault.Conflict when the job has ended.
func (s *Store) Cancel(ctx context.Context, id ID) error {
	return s.db.Write(ctx, func(tx dbschema.Tx) error { return CancelJob(tx, id) })
}

// CancelJob is Store.Cancel inside a transaction.
func CancelJob(tx dbschema.Tx, id ID) error {
	var row dbschema.Job
	if err := tx.Gorm().Where("id = ?", id).Take(&row).Error; err != nil {
		return notFound("scheduler/jobs.Cancel", id, err)
	}
	if State(row.State).Ended() {
		return fault.New(fault.Conflict, "scheduler/jobs.Cancel", "job %d is %s", id, row.State)
	}
	return stop(tx, row)
}

// CancelResource cancels all jobs of a resource that have not ended, as
// Store.Cancel does, and returns how many of them run, so that their end must be
// waited for: a job inserted now is behind those.
func CancelResource(tx dbschema.Tx, resourceID string) (running int, err error) {
	if resourceID == "" {
		return 0, nil
	}
	var rows []dbschema.Job
	err = tx.Gorm().Where("resource_id = ? AND ended_at = 0", resourceID).Order("id DESC").Find(&rows).Error
	if err != nil {
		return 0, err
	}
	for _, row := range rows { // the last first: no job becomes available in between
		// The end of one may have changed the next: read it again.
		if err := tx.Gorm().Where("id = ?", row.ID).Take(&row).Error; err != nil {
			return running, err
		}
		if State(row.State).Ended() {
			continue
		}
		if State(row.State) == Running {
			running++
		}
		if err := stop(tx, row); err != nil {
			return running, err
		}
	}
	return running, nil
}

func stop(tx dbschema.Tx, row dbschema.Job) error {
	if State(row.State) != Running {
		return apply(tx, row, change{outcome: outcome{name: outCancelled, state: Cancelled, err: ErrCancelled}})
	}
	tx.Notify(cancelTopic)
	return tx.Gorm().Exec("UPDATE jobs SET cancel_requested = ? WHERE id = ?", true, row.ID).Error
}

// Redo runs an ended job once more, with all its attempts, behind the other jobs
// of its resource. Those that failed because it had failed stay failed. It returns
// fault.NotFound, or fault.Conflict when the job has not ended.
func (s *Store) Redo(ctx context.Context, id ID) error {
	return s.db.Write(ctx, func(tx dbschema.Tx) error {
		var row dbschema.Job
		if err := tx.Gorm().Where("id = ?", id).Take(&row).Error; err != nil {
			return notFound("scheduler/jobs.Redo", id, err)
		}
		if !State(row.State).Ended() {
			return fault.New(fault.Conflict, "scheduler/jobs.Redo", "job %d is %s: only an ended job can be done again", id, row.State)
		}
		row.State = string(Available)
		edges, err := enqueue(tx, &row, nil)
		if err != nil {
			return err
		}
		for i := range edges {
			edges[i].JobID = int64(id)
		}
		if len(edges) > 0 {
			if err := tx.Gorm().Create(&edges).Error; err != nil {
				return err
			}
		}
		tx.Notify(topic)
		return tx.Gorm().Exec(`UPDATE jobs SET state = ?, waits = ?, tail = ?, attempt = 0, snoozes = 0, cancel_requested = ?,
			ended_at = 0, run_at = `+tx.ClockSQL()+` WHERE id = ?`, row.State, row.Waits, row.Tail, false, id).Error
	})
}

func notFound(op string, id ID, err error) error {
	if dbschema.IsNotFound(err) {
		return fault.New(fault.NotFound, op, "no job %d", id)
	}
	return errors.Join(fmt.Errorf("job %d", id), err)
}

// Withdraw takes back, inside a transaction, a job that is in no line and has not
// begun: a precaution that turned out not to be needed leaves no trace. A job that has begun stays.
func Withdraw(tx dbschema.Tx, id ID) error {
	done := tx.Gorm().Where("id = ? AND state = ? AND attempt = 0 AND resource_id = ''", id, string(Scheduled)).Delete(&dbschema.Job{})
	if done.Error != nil {
		return fmt.Errorf("withdraw job %d: %w", id, done.Error)
	}
	return nil
}
