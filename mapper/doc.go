// Package mapper turns row changes into items by the configured routes: rows of
// an outbox into domain events, changes of any other table into change records,
// and what can be neither into dead letters with their reasons.
//
// A change goes in by Map and comes out as items that alias it; their values are
// written by the sink's call of AppendJSON, straight into its own buffer. What a
// route means for a table is found once per decoder.Relation, so that a row costs
// no allocation. Config is what users write, Mapper applies it, and DecodeRaw with
// Map replays a dead letter.
//
// It does no I/O, reads no clock, starts no goroutine and looks nothing up: what
// it must know of the catalog is given to it. The same change gives the same
// bytes whenever it is mapped by the same configuration and catalog, so that a
// redelivery cannot be told from the first delivery. No input makes it panic.
package mapper
