// Package logtail reads the log of a work table in its order, from a place on, for
// people and scripts that look at it. It belongs to no subscription and settles
// nothing.
//
// It refuses to read the log as a whole: every statement reads ranges of the index
// that serves subscriptions, of the streams that were asked for, and a bounded number
// of rows. The one cost that grows is that of a key, whose items are found by going
// through the index entries of its streams.
package logtail
