package dbschema

import "slices"

// Models returns a zero value of every table's gorm struct. A test compares each
// with its migrated table; another fails when a struct with a TableName method
// is missing here. Each owner has one line.
func Models() []any {
	return slices.Concat(
		jobModels(),
		identityModels(),
		[]any{Site{}, SiteZone{}, SiteProject{}, SiteHealth{}},
		cascadeModels(),
		ipamModels(),
	)
}
