// Package statusweb serves what a running bridge says of itself over HTTP: a page
// for people at /, the same as JSON at /status, metrics for Prometheus at
// /metrics, and /healthz and /readyz for whoever restarts processes.
//
// It only reads: there is no route that changes anything, no method but GET and
// HEAD, no script, no cookie, and nothing is fetched from elsewhere. It knows no
// stage of the bridge; a function gives it the status as a value.
//
// Whoever reaches the listener sees table names, positions and rates, and no rows
// and no secrets. On a loopback address it answers only to the names of this
// machine, so that a web page of someone else's cannot read it through a host name
// that it points here (DNS rebinding).
//
// Everything is bounded: connections, header bytes, time to read and to write, and
// what the page shows of lists.
package statusweb
