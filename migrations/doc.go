// Package migrations holds the SQL of the walbridge schema, embedded, numbered and
// in both directions, and what else is the same in the database and in Go: the
// lane of a key, the keys of the advisory locks, the name of the channel.
//
// It runs nothing: internal/migrate does, with goose. So a program that imports
// the public packages does not get a migration tool with them.
//
// Each migration is additive for programs of the same major version, and ends by
// storing its number and the oldest program that works with it in schema_version.
package migrations
