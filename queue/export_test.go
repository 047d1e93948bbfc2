package queue

// For the example, which is in another package, as its readers are.
var (
	Migrated = migrated
	Produce  = produce
)
