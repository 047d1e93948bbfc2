// Package replication is everything that talks to the source server: it looks at
// it, proves that a stored position belongs to it, makes the publication and the
// slot, and streams. Ordered frames come out, one position goes back.
//
//	Inspect, Tables, Types   what the server is and has
//	Check, Reconcile         pure: may this bridge run here, and from where
//	Covered, Cover, Publish  while it runs: which tables are streamed, and to add one
//	PlanPublication, CreateSlot, DropSlot, …
//	Stream                   frames, until an error or Stop
//	Watch                    a session beside it: lag samples, and the sign of a shutdown
//
// It knows frames, bytes with positions, and not what is in them: decoding is the
// next stage. It never drops, creates or moves a slot unless it is told to, and it
// never reports a position to the server that its caller has not named as durable.
//
// # The socket
//
// A replication connection is opened by pgconn with session settings pinned, so
// that no default of a role or a database changes the text of values, and taken
// over while it is idle. START_REPLICATION is sent after that: sent before, the
// first bytes of the stream would stay in the driver's private buffer.
//
// One goroutine, the caller's, reads: a large block at a time, cut into frames
// without copying. One goroutine, the stream's own, writes: status updates, on a
// timer and on demand. Neither waits for the other, so a reader that stands still
// because the sink does keeps its session (rule: not reading is back-pressure, not
// writing is death), and time spent away from the socket never counts as silence
// of the server.
package replication
