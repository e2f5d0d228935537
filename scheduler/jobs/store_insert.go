package jobs

import (
	"fmt"
	"slices"

	"github.com/headwater-cloud/headwater/dbschema"
)

// insert stores row behind what it must wait for.
func insert(tx dbschema.Tx, row dbschema.Job, after []ID) (ID, error) {
	edges, broken, err := dependencies(tx, after)
	if err != nil {
		return 0, err
	}
	if broken != nil && row.OnFailure == string(Fail) {
		row.State = string(Failed)
		return create(tx, row, brokenDependency{*broken}.Error())
	}
	if edges, err = enqueue(tx, &row, edges); err != nil {
		return 0, err
	}
	id, err := create(tx, row, "")
	if err != nil || len(edges) == 0 {
		return id, err
	}
	for i := range edges {
		edges[i].JobID = int64(id)
	}
	return id, tx.Gorm().Create(&edges).Error
}

// dependencies returns edges to those jobs that have not ended, and one that ended without completing.
func dependencies(tx dbschema.Tx, after []ID) ([]dbschema.JobEdge, *dbschema.Job, error) {
	if len(after) == 0 {
		return nil, nil, nil
	}
	var found []dbschema.Job
	if err := tx.Gorm().Select("id", "kind", "state", "errors").Where("id IN ?", after).Order("id").Find(&found).Error; err != nil {
		return nil, nil, err
	}
	var edges []dbschema.JobEdge
	var broken *dbschema.Job
	for _, j := range found {
		switch state := State(j.State); {
		case !state.Ended():
			edges = append(edges, dbschema.JobEdge{AfterID: j.ID, Needed: true})
		case state != Completed && broken == nil:
			broken = &j
		}
	}
	return edges, broken, nil
}

// enqueue makes row the last of its resource's jobs, adds the edge to the one
// that was, and sets the state that follows from all edges.
func enqueue(tx dbschema.Tx, row *dbschema.Job, edges []dbschema.JobEdge) ([]dbschema.JobEdge, error) {
	if row.ResourceID != "" {
		row.Tail = true
		var last []int64
		err := tx.Gorm().Raw("UPDATE jobs SET tail = ? WHERE resource_id = ? AND tail RETURNING id", false, row.ResourceID).Scan(&last).Error
		if err != nil {
			return nil, err
		}
		for _, id := range last { // at most one: jobs_tail is unique
			i := slices.IndexFunc(edges, func(e dbschema.JobEdge) bool { return e.AfterID == id })
			if i < 0 {
				edges, i = append(edges, dbschema.JobEdge{AfterID: id}), len(edges)
			}
			edges[i].Ordered = true
		}
	}
	row.Waits = len(edges)
	if row.Waits > 0 {
		row.State = string(Waiting)
	}
	return edges, nil
}

// create stores row and returns its id; a reason is the error of a job that ends before it began.
func create(tx dbschema.Tx, row dbschema.Job, reason string) (ID, error) {
	now := tx.ClockSQL()
	runAt, endedAt := now, "0"
	if row.RunAt != 0 {
		runAt = fmt.Sprint(row.RunAt)
	}
	if State(row.State).Ended() {
		at, err := tx.Now()
		if err != nil {
			return 0, err
		}
		row.Errors = appendError(row.Errors, AttemptError{At: at, RequestID: row.RequestID, Message: reason})
		endedAt = now
	}
	var id int64
	err := tx.Gorm().Raw(`INSERT INTO jobs (kind, args, queue, site, resource_id, project_id, request_id, trace, priority, state,
		waits, tail, on_failure, run_at, attempt, max_attempts, snoozes, claim, claimed_by, lease_until, cancel_requested,
		errors, created_at, started_at, ended_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, `+runAt+`, 0, ?, 0, '', '', 0, ?, ?, `+now+`, 0, `+endedAt+`) RETURNING id`,
		row.Kind, row.Args, row.Queue, row.Site, row.ResourceID, row.ProjectID, row.RequestID, row.Trace, row.Priority, row.State,
		row.Waits, row.Tail, row.OnFailure, row.MaxAttempts, false, row.Errors).Scan(&id).Error
	return ID(id), err
}
