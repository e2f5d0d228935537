package dbschema

import "time"

// Resource is one tenant resource, or one shared resource such as a flavor, as
// Top holds it. Written by cascade/index only.
type Resource struct {
	ID            string     `gorm:"column:id;primaryKey"`
	Kind          string     `gorm:"column:kind"`
	ProjectID     string     `gorm:"column:project_id"` // "" for what belongs to no project
	UserID        string     `gorm:"column:user_id"`
	Site          string     `gorm:"column:site"` // "" while unplaced, and for what lives at several
	Name          string     `gorm:"column:name"`
	Description   string     `gorm:"column:description"`
	State         string     `gorm:"column:state"`
	Status        string     `gorm:"column:status"`
	TaskState     string     `gorm:"column:task_state"`
	Fault         string     `gorm:"column:fault"` // JSON of index.Fault, or ""
	ParentID      string     `gorm:"column:parent_id"`
	Zone          string     `gorm:"column:zone"` // as the tenant gave it
	FlavorID      string     `gorm:"column:flavor_id"`
	ImageID       string     `gorm:"column:image_id"`
	KeyName       string     `gorm:"column:key_name"`
	DeviceID      string     `gorm:"column:device_id"`
	Visibility    string     `gorm:"column:visibility"`
	Spec          string     `gorm:"column:spec"`           // JSON of the kind's desired state
	Observed      string     `gorm:"column:observed"`       // JSON, as the tenant may see it, or ""
	ObservedAdmin string     `gorm:"column:observed_admin"` // JSON of members for administrators only, or ""
	ObservedAt    *time.Time `gorm:"column:observed_at"`    // when the observing request began
	VerbNo        int64      `gorm:"column:verb_no"`
	VerbAckedNo   int64      `gorm:"column:verb_acked_no"`
	VerbAckedAt   *time.Time `gorm:"column:verb_acked_at"`
	MissingSince  *time.Time `gorm:"column:missing_since"` // first of the look-ups that did not find it at its site
	Generation    int64      `gorm:"column:generation"`    // of Spec
	Applied       int64      `gorm:"column:applied"`       // the generation that the site has
	Version       int64      `gorm:"column:version"`       // optimistic lock
	CreatedAt     time.Time  `gorm:"column:created_at;autoCreateTime:false"`
	UpdatedAt     time.Time  `gorm:"column:updated_at;autoUpdateTime:false"`
	LaunchedAt    *time.Time `gorm:"column:launched_at"`
	DeletedAt     *time.Time `gorm:"column:deleted_at"` // plain column, no soft-delete magic
}

// TableName names the table.
func (Resource) TableName() string { return "resources" }

// Ref says that one resource uses another. Written by cascade/index only.
type Ref struct {
	FromID string `gorm:"column:from_id;primaryKey"`
	ToID   string `gorm:"column:to_id;primaryKey"`
	Role   string `gorm:"column:role;primaryKey"`
}

// TableName names the table.
func (Ref) TableName() string { return "refs" }

// Binding says which bottom resource at which site stands for which top
// resource. Written by cascade/binding only.
type Binding struct {
	TopID       string     `gorm:"column:top_id;primaryKey"`
	Site        string     `gorm:"column:site;primaryKey"`
	Kind        string     `gorm:"column:kind"`
	ProjectID   string     `gorm:"column:project_id"`
	BottomID    string     `gorm:"column:bottom_id"` // "" until known
	State       string     `gorm:"column:state"`
	ClaimToken  string     `gorm:"column:claim_token"`
	ClaimUntil  *time.Time `gorm:"column:claim_until"`
	AttemptedAt *time.Time `gorm:"column:attempted_at"` // of a create without a definite answer
	Generation  int64      `gorm:"column:generation"`   // of the spec that the bottom has
	Adopted     bool       `gorm:"column:adopted"`      // was there before us: never deleted by us
	Detail      string     `gorm:"column:detail"`       // JSON of the kind's own notes, or ""
	CreatedAt   time.Time  `gorm:"column:created_at;autoCreateTime:false"`
	UpdatedAt   time.Time  `gorm:"column:updated_at;autoUpdateTime:false"`
	// AbsentAt is when the list began that did not show the bottom, MissingSince the first look by id that did not find it.
	AbsentAt     *time.Time `gorm:"column:absent_at"`
	MissingSince *time.Time `gorm:"column:missing_since"`
}

// TableName names the table.
func (Binding) TableName() string { return "bindings" }

// ProjectHome is the site that a project's resources go to when nothing else
// decides. Written by cascade/placement only.
type ProjectHome struct {
	ProjectID string    `gorm:"column:project_id;primaryKey"`
	Site      string    `gorm:"column:site"`
	CreatedAt time.Time `gorm:"column:created_at;autoCreateTime:false"`
}

// TableName names the table.
func (ProjectHome) TableName() string { return "project_homes" }

func cascadeModels() []any {
	return []any{Resource{}, Ref{}, Binding{}, ProjectHome{}, QuotaLimit{}, QuotaUsage{}, AuditEvent{}, InventoryCursor{}}
}
