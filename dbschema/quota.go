package dbschema

import "time"

// QuotaLimit is a project's own limit of one resource. Written by cascade/quota only.
type QuotaLimit struct {
	ProjectID string `gorm:"column:project_id;primaryKey"`
	Resource  string `gorm:"column:resource;primaryKey"`
	HardLimit int64  `gorm:"column:hard_limit"` // -1 is unlimited
}

// TableName names the table.
func (QuotaLimit) TableName() string { return "quota_limits" }

// QuotaUsage is what a project has of one resource, tombstones included. Written by cascade/quota only.
type QuotaUsage struct {
	ProjectID string `gorm:"column:project_id;primaryKey"`
	Resource  string `gorm:"column:resource;primaryKey"`
	Used      int64  `gorm:"column:used"`
}

// TableName names the table.
func (QuotaUsage) TableName() string { return "quota_usage" }

// AuditEvent is who did what, when, to what, and how it ended. Written by cascade/audit only.
type AuditEvent struct {
	ID        string    `gorm:"column:id;primaryKey"`
	At        time.Time `gorm:"column:at"`
	RequestID string    `gorm:"column:request_id"`
	UserID    string    `gorm:"column:user_id"`
	UserName  string    `gorm:"column:user_name"`
	ProjectID string    `gorm:"column:project_id"`
	Remote    string    `gorm:"column:remote"`
	Action    string    `gorm:"column:action"`
	Target    string    `gorm:"column:target"`
	Site      string    `gorm:"column:site"`
	Outcome   string    `gorm:"column:outcome"`
	Detail    string    `gorm:"column:detail"`
}

// TableName names the table.
func (AuditEvent) TableName() string { return "audit_events" }
