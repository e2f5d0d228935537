package dbschema

import "time"

// IdentityDomain is a row of table identity_domains. Written by cascade/identity.
type IdentityDomain struct {
	ID          string `gorm:"primaryKey"`
	Name        string
	Description string
	Enabled     bool
	Extra       string // JSON object: members that Top does not know
	CreatedAt   time.Time
}

// TableName returns "identity_domains".
func (IdentityDomain) TableName() string { return "identity_domains" }

// IdentityProject is a row of table identity_projects. Written by cascade/identity.
type IdentityProject struct {
	ID          string `gorm:"primaryKey"`
	DomainID    string
	Name        string
	Description string
	Enabled     bool
	Tags        string // JSON list of text, sorted
	Extra       string
	CreatedAt   time.Time
}

// TableName returns "identity_projects".
func (IdentityProject) TableName() string { return "identity_projects" }

// IdentityUser is a row of table identity_users. Written by cascade/identity.
type IdentityUser struct {
	ID               string `gorm:"primaryKey"`
	DomainID         string
	Name             string
	Enabled          bool
	DefaultProjectID string
	PasswordHash     string // "" for a user who cannot log in by password
	PasswordAt       *time.Time
	Extra            string
	CreatedAt        time.Time
}

// TableName returns "identity_users".
func (IdentityUser) TableName() string { return "identity_users" }

// IdentityGroup is a row of table identity_groups. Written by cascade/identity.
type IdentityGroup struct {
	ID          string `gorm:"primaryKey"`
	DomainID    string
	Name        string
	Description string
	Extra       string
	CreatedAt   time.Time
}

// TableName returns "identity_groups".
func (IdentityGroup) TableName() string { return "identity_groups" }

// IdentityGroupUser is a row of table identity_group_users. Written by cascade/identity.
type IdentityGroupUser struct {
	GroupID string `gorm:"primaryKey"`
	UserID  string `gorm:"primaryKey"`
}

// TableName returns "identity_group_users".
func (IdentityGroupUser) TableName() string { return "identity_group_users" }

// IdentityRole is a row of table identity_roles. Written by cascade/identity.
type IdentityRole struct {
	ID          string `gorm:"primaryKey"`
	DomainID    string // "" for a global role
	Name        string
	Description string
	Extra       string
	CreatedAt   time.Time
}

// TableName returns "identity_roles".
func (IdentityRole) TableName() string { return "identity_roles" }

// IdentityAssignment is a row of table identity_assignments: who has which role where. Written by cascade/identity.
type IdentityAssignment struct {
	ActorKind  string `gorm:"primaryKey"` // user or group
	ActorID    string `gorm:"primaryKey"`
	TargetKind string `gorm:"primaryKey"` // project or domain
	TargetID   string `gorm:"primaryKey"`
	RoleID     string `gorm:"primaryKey"`
}

// TableName returns "identity_assignments".
func (IdentityAssignment) TableName() string { return "identity_assignments" }

// IdentityToken is a row of table identity_tokens. Written by cascade/identity.
type IdentityToken struct {
	Hash         string `gorm:"primaryKey"` // SHA-256 of the token, hexadecimal: the token itself is nowhere
	UserID       string
	ProjectID    string // "" unless scoped to a project
	DomainID     string // "" unless scoped to a domain
	CredentialID string // application credential that it came from, or ""
	Methods      string // comma-separated
	AuditID      string
	ChainID      string // audit id of the token at the head of the chain, or ""
	IssuedAt     time.Time
	ExpiresAt    time.Time
}

// TableName returns "identity_tokens".
func (IdentityToken) TableName() string { return "identity_tokens" }

// IdentityCredential is a row of table identity_credentials: an application credential. Written by cascade/identity.
type IdentityCredential struct {
	ID           string `gorm:"primaryKey"`
	UserID       string
	ProjectID    string
	Name         string
	Description  string
	SecretHash   string
	RoleIDs      string // JSON list of text
	Unrestricted bool
	ExpiresAt    *time.Time
	CreatedAt    time.Time
}

// TableName returns "identity_credentials".
func (IdentityCredential) TableName() string { return "identity_credentials" }

func identityModels() []any {
	return []any{
		IdentityDomain{}, IdentityProject{}, IdentityUser{}, IdentityGroup{}, IdentityGroupUser{},
		IdentityRole{}, IdentityAssignment{}, IdentityToken{}, IdentityCredential{},
	}
}
