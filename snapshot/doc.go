// Package snapshot reads the rows that were in a table before the stream, in
// chunks, while the stream goes on, and says which of them may be delivered where.
//
// # The problem
//
// A row that is read and a change that is streamed come over two connections, and
// what a SELECT sees is not what the log has reached: a commit is sent when its
// record is flushed, and is visible only after that, with synchronous replication
// much later (xact.c, CommitTransaction). So neither clock nor log position says
// which of the two is newer. The server's own snapshot does: it names the
// transactions whose effects a SELECT has seen.
//
// # One chunk
//
//	stream (chain)                              SQL (worker)
//	keys touched are noted, with their xid  ◀── register the table
//	        │                                   wait until all older transactions have ended
//	        │                                   BEGIN REPEATABLE READ, LOCK TABLE … ACCESS SHARE
//	        │                                   S = pg_current_snapshot(), rows behind the cursor
//	        │                                   COMMIT
//	        ▼                                   a message with a random nonce into the log
//	the message arrives, at H           ◀──────
//	  a row whose key was touched by a
//	  transaction that S does not see is
//	  dropped: the stream has it, newer
//	  the rest is delivered at H,
//	  with the cursor, in one write
//
// A transaction that S sees has its commit record before H, so the stream has
// delivered it before the rows, which include it. One that S does not see wins,
// wherever it comes. Nothing touched before the notes began is in doubt, because
// every transaction that old has ended before the first S was taken.
//
// The lock is taken before the snapshot: a table rewritten or truncated in between
// would look empty (manual, "Caveats" of concurrency control).
//
// # What is read once more
//
// An update leaves out large values that it did not change. Where it concerns a row
// that the destination never had whole, namely one that was dropped from its chunk,
// or one that came under another key, the key is put on a list, and the row is read
// again by it. The table is done when the list is empty.
//
// # What is kept
//
// State, with the position, in the destination: per table the last key delivered
// and the list. After a crash at most the chunks under way are read again. Requests
// to read tables, to pause and so on come through the log as well, signed.
//
// The package knows no sink and no mapper. It reads by SQL and writes nothing to
// any table; all it adds to the source is messages in its log.
package snapshot
