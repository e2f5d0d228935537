// Package jobs promises that work which was committed is worked: by some
// replica, after what it depends on, in order and one at a time for each
// resource, again after a crash, until it ends in completed, failed or cancelled
// with the reason kept.
//
// A job is a row, inserted in the transaction of what it is about. Its worker may
// run more than once, so it is idempotent, and it commits only under Job.Guard,
// which fails when another replica has taken the job over. The package knows no
// kind of job.
package jobs

import (
	"context"
	"strconv"
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// ID is the number of a job; numbers are never used again. 0 is no job.
type ID int64

// String returns the number in decimal.
func (id ID) String() string { return strconv.FormatInt(int64(id), 10) }

// Args is what a kind of job is told: a small struct of ids that goes through JSON.
type Args interface {
	// Kind returns the kind's name, [a-z_]+, the same for every value of the type.
	Kind() string
}

// Worker works the jobs of one kind.
type Worker[A Args] interface {
	// Work makes true what the job asks for. It may run twice, also at the same
	// time when a replica stalls past its lease: it reads first, applies only
	// the difference and commits under job.Guard.
	//
	// What it returns decides: nil completes the job; Snooze runs it later at no
	// cost; Cancel, and a fault that repeating cannot change (BadRequest,
	// Unauthorized, Forbidden, NotFound, Conflict, OverQuota, TooLarge,
	// NotAcceptable, NotImplemented), end it in failed; everything else, also a
	// panic, is tried again with a growing delay up to Options.MaxAttempts.
	//
	// ctx ends when the lease is lost, the job is cancelled or the engine stops;
	// its deadline is the end of the lease as known at the time of asking.
	Work(ctx context.Context, job Job[A]) error
}

// State is where a job stands. The README has the picture of all arrows.
type State string

// The states. The last three are ended.
const (
	Waiting   State = "waiting"   // for other jobs
	Scheduled State = "scheduled" // for its time
	Available State = "available" // for a worker
	Running   State = "running"
	Completed State = "completed"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// States returns all states in their usual order.
func States() []State {
	return []State{Waiting, Scheduled, Available, Running, Completed, Failed, Cancelled}
}

// Ended reports whether the state is one that only Redo leaves.
func (s State) Ended() bool { return s == Completed || s == Failed || s == Cancelled }

// OnDependencyFailure says what becomes of a job when one that it is after did
// not complete.
type OnDependencyFailure string

// The choices. Creates use Fail, which is the default; deletes use Run.
const (
	Fail OnDependencyFailure = "fail" // end in failed with a reason that names the dependency
	Run  OnDependencyFailure = "run"  // run all the same
)

// The defaults of Options.
const (
	// DefaultQueue is the queue of jobs that name none.
	DefaultQueue = "default"
	// BulkQueue is for jobs that move data, so that they never hold the workers of others.
	BulkQueue = "bulk"
	// DefaultMaxAttempts makes a job give up after about two hours.
	DefaultMaxAttempts = 20
)

// Options is where, when and after what a job runs. The zero value is a job for
// no site, at once, in no order.
type Options struct {
	Site ident.SiteID // counts against that site's limit; "" for none
	// ResourceID puts the job in line: jobs of one resource run one at a time in
	// the order of their insertion. A job that is retried or scheduled keeps its
	// place, so those behind it wait; CancelResource clears the way.
	ResourceID string
	ProjectID  string
	RequestID  string // default: the context's
	Queue      string // default DefaultQueue
	// After names jobs that must have ended first. One that does not exist any
	// more ended long ago and counts as completed.
	After []ID
	// OnDependencyFailure concerns the jobs in After, not the resource's previous
	// job. Default Fail.
	OnDependencyFailure OnDependencyFailure
	RunAt               time.Time // default: at once; by the database's clock
	MaxAttempts         int       // default DefaultMaxAttempts
	Priority            int       // the smaller run first, within a site; default 0
}

// Info is what a worker may know of its job beside the arguments.
type Info struct {
	ID          ID
	Kind        string
	Site        ident.SiteID
	ResourceID  string
	ProjectID   string
	RequestID   string
	Attempt     int // 1 for the first
	MaxAttempts int
	Snoozes     int       // how often it was snoozed
	CreatedAt   time.Time // UTC
}

// Last reports whether this attempt's error ends the job.
func (i Info) Last() bool { return i.Attempt >= i.MaxAttempts }

// Job is one attempt at a job. A literal made by a test holds its claim for ever.
type Job[A Args] struct {
	Info
	Args  A
	claim *claim
}
