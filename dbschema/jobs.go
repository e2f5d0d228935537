package dbschema

// Job is one durable job. Its moments are microseconds since 1970 UTC by the
// database's clock, so that replicas compare them without trusting their own.
// Package scheduler/jobs writes it.
type Job struct {
	ID              int64 `gorm:"primaryKey"`
	Kind            string
	Args            string // JSON
	Queue           string
	Site            string // "" when no site is concerned
	ResourceID      string // "" when order does not matter
	ProjectID       string
	RequestID       string
	Trace           string // W3C traceparent of the request that made the job, or ""
	Priority        int    // smaller runs first
	State           string // waiting, scheduled, available, running, completed, failed, cancelled
	Waits           int    // rows of job_edges with this job_id
	Tail            bool   // the last of its resource's jobs that has not ended
	OnFailure       string // run or fail, when one of its dependencies did not complete
	RunAt           int64
	Attempt         int // attempts begun, less those that cost nothing
	MaxAttempts     int
	Snoozes         int
	Claim           string // token of the attempt that runs now, else ""
	ClaimedBy       string
	LeaseUntil      int64 // 0 when not running
	CancelRequested bool
	Errors          string // JSON array, the oldest first
	CreatedAt       int64  `gorm:"autoCreateTime:false"`
	StartedAt       int64  // of the last attempt; 0 before the first
	EndedAt         int64  // 0 until it ended
}

// TableName returns the table's name.
func (Job) TableName() string { return "jobs" }

// JobEdge says that a job waits for another one; it is deleted when that one ends.
// Package scheduler/jobs writes it.
type JobEdge struct {
	JobID   int64 `gorm:"primaryKey;autoIncrement:false"`
	AfterID int64 `gorm:"primaryKey;autoIncrement:false"`
	Ordered bool  // AfterID is the previous job of the same resource
	Needed  bool  // AfterID was named as a dependency
}

// TableName returns the table's name.
func (JobEdge) TableName() string { return "job_edges" }

func jobModels() []any { return []any{Job{}, JobEdge{}} }
