package dbschema

import "time"

// InventoryCursor is how far the polling of one site got. Written by sync/inventory only.
type InventoryCursor struct {
	Site       string     `gorm:"column:site;primaryKey"`
	ClaimToken string     `gorm:"column:claim_token"`
	ClaimUntil *time.Time `gorm:"column:claim_until"`
	PolledAt   *time.Time `gorm:"column:polled_at"`
	DiffedAt   *time.Time `gorm:"column:diffed_at"`
	AdoptedAt  *time.Time `gorm:"column:adopted_at"`
	NextAt     time.Time  `gorm:"column:next_at"`
	Alarm      string     `gorm:"column:alarm"`
	AdoptAlarm string     `gorm:"column:adopt_alarm"`
	Progress   string     `gorm:"column:progress"` // JSON of a full comparison that is under way, or ""
}

// TableName names the table.
func (InventoryCursor) TableName() string { return "inventory_cursors" }
