package index

import (
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Field names a column that lists filter and sort by.
type Field string

// The fields.
const (
	ByID         Field = "id"
	ByName       Field = "name"
	ByProject    Field = "project_id"
	ByUser       Field = "user_id"
	BySite       Field = "site"
	ByStatus     Field = "status"
	ByTaskState  Field = "task_state"
	ByParent     Field = "parent_id"
	ByZone       Field = "zone"
	ByFlavor     Field = "flavor_id"
	ByImage      Field = "image_id"
	ByKeyName    Field = "key_name"
	ByDevice     Field = "device_id"
	ByVisibility Field = "visibility"
	ByState      Field = "state"
	ByCreated    Field = "created_at"
	ByUpdated    Field = "updated_at"
)

// Sort is one sort key.
type Sort struct {
	Field Field
	Desc  bool
}

// Query says which rows List returns, in which order.
type Query struct {
	Kind sites.Kind
	// Project limits the list to one project's rows; "" with AllProjects lists those of all.
	Project     string
	AllProjects bool
	// Shared adds the rows that belong to no project (ProjectID ""); ForAll those of others that are for all.
	Shared bool
	ForAll bool
	// Open adds, to Project's rows, those of others that are public or community, and those that refer to the
	// project in this role (images shared with it). "" adds none.
	Open string
	// In keeps the rows whose field has one of the values. An empty value list keeps none.
	In map[Field][]string
	// Pin keeps the rows of one site and those that are unplaced or at several (Site ""); "" keeps all.
	Pin ident.SiteID
	// ChangedSince keeps the rows updated at or after it; deleted rows are then listed too, when Deleted is set.
	ChangedSince time.Time
	// Deleted lists rows in state Deleted as well; Hidden those in state Deleting.
	Deleted bool
	Hidden  bool
	// Sort orders the rows; the id, in the direction of the first key, breaks ties. Default: created_at descending.
	Sort []Sort
	// Marker is the id of the last row already seen; a marker that is not there is fault.BadRequest.
	Marker ident.TopID
	// Limit is the greatest number of rows returned; 0 means all.
	Limit int
	// Bare leaves Observed and ObservedAdmin out, which cost more to read than all else.
	Bare bool
	// Match, when set, decides in addition on each row; it sees rows in order and the limit counts those it kept.
	Match func(*Resource) bool
}
