// Package worktable is the sink that keeps items in the durable work table: rows
// of log and the position they reach become durable in one PostgreSQL transaction.
//
// Items enter through a batch, which encodes each one straight into the form of
// binary COPY; a write patches in what is known only then (seq, stream numbers, the
// mark of a transaction's end) and sends the rest as it is. Per write:
//
//	BEGIN; lock the log; take a block of seqs     one round trip
//	COPY log                                      one
//	INSERT batch; fence; COMMIT                   one
//
// What makes it exact:
//   - seq is taken under the log's lock, which is held to the commit: nothing ever
//     appears below a seq that was visible.
//   - The position is an appended row (source, n): compare-and-append, nothing is
//     updated. A writer with a wrong idea of the last n is fenced by the key.
//   - The fence, last before COMMIT, holds the source row at this writer's epoch;
//     Open raises the epoch under FOR UPDATE, so it waits for a commit under way and
//     makes every later one fail.
//   - A result that is unknown is resolved by Open alone, and no connection in
//     doubt is ever cancelled: a cancelled wait for a synchronous standby would make
//     the commit visible though no standby has it (syncrep.c, SyncRepWaitForLSN).
//   - A writer that stands still in the log's lock is ended by those who wait for it,
//     never one that waits for a standby, and never somebody else's session.
//
// What the table refuses for good becomes a dead letter in the same transaction.
//
// A second session, the side session, holds the lock on the bridge's name, gives
// its sign of life, notifies readers, makes partitions ahead, trims old batch rows,
// and looks who blocks whom. Nothing durable depends on it.
//
// The package reads no items and decides no retry; it makes no schema and changes
// none (internal/migrate does).
package worktable
