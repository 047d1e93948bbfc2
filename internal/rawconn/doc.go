// Package rawconn takes a connection out of the Go runtime's poller, so that its
// reader waits in poll(2) on a thread of its own. Where that is not possible it
// leaves connections as they are.
//
// The runtime watches every connection with epoll, edge-triggered, whether somebody
// reads it or not. A walsender makes one small send for each row, and each is an event
// that wakes a thread of the runtime for nothing while the reader rests or is busy.
// That costs processor time on both sides; docs/performance.md says how much.
//
// It is for the few connections that a process is about, not for many: each that
// waits has a thread.
package rawconn
