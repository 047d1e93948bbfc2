// Package queue consumes walbridge's work table: an append-only log that many
// subscriptions read, each at its own pace, each with several workers.
//
// A subscription's work is divided into lanes by key. A worker leases lanes, so a key
// has one worker at a time, handles their items, and settles them: the lane's
// checkpoint says up to where everything is done. Nothing is written for an item that
// succeeds. One that fails is parked and tried again later; the later items of its key
// wait behind it, other keys go on; after Config.MaxAttempts it is a dead letter.
//
// What is promised:
//   - Run and RunBatch handle each item at least once, RunTx exactly once in this
//     database. After a crash, what was in hand or finished within the last
//     Config.SettleEvery is handled again.
//   - The items of a key are handled one after the other, in the order of the log. An
//     item starts only when no parked item of its key has a lower seq. Items that were
//     scheduled or replayed have the order of their time.
//   - A worker that lost its lease settles nothing: every write is conditional on the
//     lane's fence, in the same transaction, whatever the worker's clock says.
//
// What it refuses: to go on at a later item when the log no longer holds the next one
// (ErrExpired), to work on a schema that it does not know, to guess the result of a
// write whose answer was lost (it takes its lanes anew).
//
// Items enter through the functions fetch and fetch_parked of the schema and leave
// through settle; the protocol is SQL, and workers in other languages may share the
// subscription.
package queue
