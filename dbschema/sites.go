package dbschema

import "time"

// Site is a row of table sites: one registered bottom cloud. Written by sites/registry.
type Site struct {
	Name    string `gorm:"primaryKey"`
	Region  string // the region in the site's own catalog
	AuthURL string
	// CloudKey says which account of which cloud this is; unique, so that no cloud is registered twice.
	CloudKey string
	Tenancy  string // project, static or shared
	Enabled  bool
	Draining bool
	State    string // active or removing
	// Credential is the site's own account, sealed with the key named KeyID.
	Credential        []byte
	KeyID             string
	CredentialVersion int64  // raised by each change of the account
	Account           string // JSON: who the site says the account is; no secret
	Capabilities      string // JSON: sites.Capabilities
	ProbedAt          time.Time
	Version           int64 // raised by each change of the row or of its zones
	CreatedAt         time.Time
	UpdatedAt         time.Time
}

// TableName returns "sites".
func (Site) TableName() string { return "sites" }

// SiteZone is a row of table site_zones: which zone of a service stands for a zone of Top. Written by sites/registry.
type SiteZone struct {
	Site       string `gorm:"primaryKey"`
	TopZone    string `gorm:"primaryKey"` // the site's name (any zone) or SITE/ZONE
	Service    string `gorm:"primaryKey"` // compute, network or block-storage
	BottomZone string // "": the service's own default
	Edited     bool   // by an operator: a probe leaves it alone
}

// TableName returns "site_zones".
func (SiteZone) TableName() string { return "site_zones" }

// SiteProject is a row of table site_projects: the account of one Top project at one site. Written by sites/registry.
type SiteProject struct {
	Site            string `gorm:"primaryKey"`
	ProjectID       string `gorm:"primaryKey"` // Top's
	BottomProjectID string
	BottomUserID    string
	Credential      []byte // sealed with the key named KeyID
	KeyID           string
	Version         int64  // raised by each change of the account
	State           string // pending: perhaps made at the site; ready; releasing
	Made            bool   // by Top (tenancy project), so Top removes it
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// TableName returns "site_projects".
func (SiteProject) TableName() string { return "site_projects" }

// SiteHealth is a row of table site_health: what the checks of a site found. Written by sync/health.
type SiteHealth struct {
	Site   string `gorm:"primaryKey"`
	State  string // unknown, up, degraded or down
	Reason string
	Since  time.Time
	// Run counts the consecutive checks that differ from State in direction RunWorse; RunState is where they lead.
	Run       int
	RunWorse  bool
	RunState  string
	RunReason string
	CheckedAt *time.Time
	// NextCheckAt and NextProbeAt are when the next check and the next full probe fall due.
	NextCheckAt time.Time
	NextProbeAt time.Time
	// ClaimToken and ClaimUntil name the process that is checking, and until when nobody else does.
	ClaimToken string
	ClaimUntil *time.Time
	// Lost is why the last full probe found less than was recorded (roles lost); "" when it did not.
	Lost string
}

// TableName returns "site_health".
func (SiteHealth) TableName() string { return "site_health" }
