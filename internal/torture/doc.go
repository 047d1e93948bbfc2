// Package torture proves the promises of the bridge on real servers: a workload
// that does to a database what applications do at their worst, and a checker that
// rebuilds every table from what the destination holds and compares it with the
// source.
//
//	Install   makes the tables of the workload
//	Workload  writes to them, several connections at once, until stopped; every
//	          choice comes from one seed
//	Checker   takes the items of the destination in their order, one by one, and
//	          returns the first thing that cannot be, with its position
//	Compare   the checker's tables against the source's, column by column as text
//
// The checker believes nothing: an insert of a row that is there, an update or a
// delete of one that is not, an id that does not rise, a transaction without its
// end are findings at the item where they show, long before the tables differ. Its
// own tests tamper with a good log and expect the finding by name.
//
// It refuses to look at a log that has lost items to retention: what it proves is
// the whole history.
package torture
