// Package consumers is what operators see of those who read the work table, and what
// they can do with them: subscriptions, their lanes, lag and dead letters, and the
// counts, timers and signals of workflows.
//
// It reads by indexes and counts up to bounds, so that the cost of a look does not
// grow with the log, and locks nothing. What it changes it changes by the functions
// of the schema, which note it in the operation table.
//
// It refuses to guess: what it cannot know within its bounds it leaves out, and an
// error of the database is an error.
package consumers
