package jobs

import (
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
)

// change is what an attempt, an operator or a failed dependency makes of a job.
type change struct {
	outcome
	token string // "" unless the change belongs to a claim
}

// apply makes of the job row what c says and releases those who wait for it. It
// returns ErrClaimLost when the row is not what it was read as any more.
func apply(tx dbschema.Tx, row dbschema.Job, c change) error {
	if c.err != nil {
		at, err := tx.Now()
		if err != nil {
			return err
		}
		row.Errors = appendError(row.Errors, attemptError(row, at, c.err))
	}
	if c.state.Ended() {
		return end(tx, row, c)
	}
	now := tx.ClockSQL()
	free, snoozed := 0, 0
	if c.free {
		free = 1
	}
	if c.name == outSnoozed {
		snoozed = 1
	}
	res := tx.Gorm().Exec(fmt.Sprintf(`UPDATE jobs SET state = ?, claim = '', lease_until = 0, errors = ?, attempt = attempt - ?,
		snoozes = snoozes + ?, run_at = %s + %d WHERE id = ? AND state = 'running' AND claim = ?`, now, c.delay.Microseconds()),
		c.state, row.Errors, free, snoozed, row.ID, c.token)
	return oneRow(res.RowsAffected, res.Error, row.ID)
}

// end ends the job and, through those who need it, perhaps others.
func end(tx dbschema.Tx, row dbschema.Job, c change) error {
	res := tx.Gorm().Exec(`UPDATE jobs SET state = ?, claim = '', lease_until = 0, errors = ?, tail = ?, ended_at = `+tx.ClockSQL()+`
		WHERE id = ? AND state = ? AND claim = ?`, c.state, row.Errors, false, row.ID, row.State, c.token)
	if err := oneRow(res.RowsAffected, res.Error, row.ID); err != nil {
		return err
	}
	before, err := unlink(tx, row)
	if err != nil {
		return err
	}
	var behind []dbschema.JobEdge
	if err := tx.Gorm().Raw(`DELETE FROM job_edges WHERE after_id = ? RETURNING job_id, ordered, needed`, row.ID).Scan(&behind).Error; err != nil {
		return err
	}
	if len(behind) == 0 {
		return nil
	}
	tx.Notify(topic)
	var released, needing []int64
	for _, e := range behind {
		if e.Ordered && before != 0 {
			if again, err := relink(tx, e.JobID, before); err != nil {
				return err
			} else if again {
				continue // it waits for one more and one less
			}
		}
		released = append(released, e.JobID)
	}
	if len(released) > 0 {
		if err := release(tx, released); err != nil {
			return err
		}
	}
	if c.state == Completed {
		return nil
	}
	for _, e := range behind {
		if e.Needed {
			needing = append(needing, e.JobID)
		}
	}
	row.State = string(c.state)
	return failDependents(tx, row, needing)
}

// unlink takes a job that ends while it waits out of its resource's line and
// returns the one before it, which its follower and the line's end then take;
// else a follower could run beside that one. It returns 0 when there is none.
func unlink(tx dbschema.Tx, row dbschema.Job) (before int64, err error) {
	if State(row.State) != Waiting {
		return 0, nil
	}
	var own []dbschema.JobEdge
	if err := tx.Gorm().Raw(`DELETE FROM job_edges WHERE job_id = ? RETURNING after_id, ordered, needed`, row.ID).Scan(&own).Error; err != nil {
		return 0, err
	}
	for _, e := range own {
		if e.Ordered {
			before = e.AfterID
		}
	}
	if before != 0 && row.Tail {
		return before, tx.Gorm().Exec(`UPDATE jobs SET tail = ? WHERE id = ?`, true, before).Error
	}
	return before, nil
}

// relink puts job behind before in their resource's line. It reports false when job waits for before already.
func relink(tx dbschema.Tx, job, before int64) (bool, error) {
	res := tx.Gorm().Exec(`UPDATE job_edges SET ordered = ? WHERE job_id = ? AND after_id = ?`, true, job, before)
	if res.Error != nil || res.RowsAffected > 0 {
		return false, res.Error
	}
	return true, tx.Gorm().Create(&dbschema.JobEdge{JobID: job, AfterID: before, Ordered: true}).Error
}

// release tells jobs that one less holds them.
func release(tx dbschema.Tx, ids []int64) error {
	return tx.Gorm().Exec(`UPDATE jobs SET waits = waits - 1, state = CASE WHEN waits > 1 THEN state
		WHEN run_at > `+tx.ClockSQL()+` THEN 'scheduled' ELSE 'available' END WHERE id IN ? AND state = 'waiting'`, ids).Error
}

// failDependents ends those of ids that give up when row, which they need, did not complete.
func failDependents(tx dbschema.Tx, row dbschema.Job, ids []int64) error {
	for _, id := range ids {
		var dependent []dbschema.Job // read one by one: the end of one may have ended the next
		err := tx.Gorm().Where("id = ? AND on_failure = ? AND state IN ?", id, Fail, []State{Waiting, Scheduled, Available}).
			Find(&dependent).Error
		if err != nil {
			return err
		}
		for _, d := range dependent {
			if err := apply(tx, d, change{outcome: outcome{name: outFailed, state: Failed, err: brokenDependency{row}}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// brokenDependency is why a job failed that never ran.
type brokenDependency struct{ on dbschema.Job }

func (b brokenDependency) Error() string {
	text := fmt.Sprintf("job %d (%s), which it needs, ended in %s", b.on.ID, b.on.Kind, b.on.State)
	if last := record(b.on).LastError(); last != "" {
		text += ": " + last
	}
	return text
}

func oneRow(affected int64, err error, id int64) error {
	if err == nil && affected == 0 {
		err = fmt.Errorf("job %d: %w", id, ErrClaimLost)
	}
	return err
}
