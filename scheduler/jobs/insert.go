package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// maxArgs is the size that encoded arguments may have: they are ids, not objects.
const maxArgs = 64 << 10

// topic is what engines of this process listen to: some job may have become available.
const topic = "scheduler/jobs"

// cancelTopic tells engines of this process that a running job was cancelled.
const cancelTopic = "scheduler/jobs/cancel"

var validName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,62}$`)

// Insert adds a job to the transaction: it exists if and only if the transaction
// is committed, and then an engine of this process starts it within milliseconds.
//
// A job whose dependency failed already is inserted as failed (see
// OnDependencyFailure). Arguments that cannot be encoded or are over 64 KiB, and
// malformed options, are Internal faults.
func Insert(ctx context.Context, tx dbschema.Tx, args Args, o Options) (ID, error) {
	row, err := o.row(ctx, args)
	if err != nil {
		return 0, fault.Wrap(fault.Internal, "scheduler/jobs.Insert", err)
	}
	id, err := insert(tx, row, o.After)
	if err != nil {
		return 0, fmt.Errorf("insert job %s: %w", row.Kind, err)
	}
	tx.Notify(topic)
	return id, nil
}

// row returns the new job's row, without what depends on other jobs.
func (o Options) row(ctx context.Context, args Args) (dbschema.Job, error) {
	row := dbschema.Job{
		Kind: args.Kind(), Queue: o.Queue, Site: string(o.Site), ResourceID: o.ResourceID,
		ProjectID: o.ProjectID, RequestID: o.RequestID, Trace: ident.Trace(ctx), Priority: o.Priority,
		State: string(Available), MaxAttempts: o.MaxAttempts, OnFailure: string(o.OnDependencyFailure), Errors: "[]",
	}
	text, err := json.Marshal(args)
	if err != nil {
		return row, fmt.Errorf("arguments of job %s: %w", row.Kind, err)
	}
	row.Args = string(text)
	if row.Queue == "" {
		row.Queue = DefaultQueue
	}
	if row.RequestID == "" {
		row.RequestID = ident.RequestID(ctx)
	}
	if row.MaxAttempts == 0 {
		row.MaxAttempts = DefaultMaxAttempts
	}
	if row.OnFailure == "" {
		row.OnFailure = string(Fail)
	}
	if !o.RunAt.IsZero() {
		row.State, row.RunAt = string(Scheduled), o.RunAt.UnixMicro()
	}
	switch {
	case !validName.MatchString(row.Kind):
		return row, fmt.Errorf("kind %q: want %v", row.Kind, validName)
	case !validName.MatchString(row.Queue):
		return row, fmt.Errorf("queue %q: want %v", row.Queue, validName)
	case len(row.Args) > maxArgs:
		return row, fmt.Errorf("arguments of job %s have %d bytes: want at most %d", row.Kind, len(row.Args), maxArgs)
	case row.MaxAttempts < 1:
		return row, fmt.Errorf("max attempts %d: want at least 1", row.MaxAttempts)
	case row.OnFailure != string(Fail) && row.OnFailure != string(Run):
		return row, fmt.Errorf("on dependency failure %q: want %q or %q", row.OnFailure, Fail, Run)
	}
	return row, nil
}
